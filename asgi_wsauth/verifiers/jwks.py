"""Keys that an identity provider publishes (RFC 7517), fetched so that no handshake waits that
needs not.

A set of keys has these ages, counted from the moment when it was asked for:

    fresh     until 0.75 x ttl         it is used
    due       until ttl                it is used, and a fetch begins in the background
    old       until ttl + stale_for    it is used only after a fetch that has just failed
    gone                               KEYS_UNAVAILABLE

One fetch is on its way at a time, in each event loop, and belongs to no handshake. After one that
failed, none begins for `cooldown` seconds; after any, none begins for `cooldown` seconds because of
a token that no key of the set verifies.

An issuer that answers with an empty set withdraws all its keys, or has lost them for a moment. So
the last ones count until they are `ttl` old, and for no `stale_for` after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import anyio
from anyio import to_thread

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import KeysFetched, Observer, log_event, logger, tell
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import Latch, spawn
from asgi_wsauth.options import (
    HeaderValue,
    check_bool,
    check_clock,
    check_issuer,
    check_observers,
    check_seconds,
    check_text,
)
from asgi_wsauth.verifiers.key_documents import Withdrawn, jwks_uri, parse_key_set
from asgi_wsauth.verifiers.keys import (
    KeySet,
)
from asgi_wsauth.verifiers.outbound import Outbound, Unreachable, check_address

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["JWKS"]

_DUE = 0.75  # of ttl


class JWKSOptions(TypedDict, total=False):
    """What `JWKS` takes besides its address."""

    ttl: float
    cooldown: float
    stale_for: float
    timeout: float
    max_size: int
    headers: Mapping[str, HeaderValue]
    allow_http: bool
    observers: Iterable[Observer]
    clock: Callable[[], float]


class _Fetch:
    """One fetch, on its way or over. Who waits for it goes by its end, whatever began since."""

    def __init__(self, number: int, began_at: float) -> None:
        self.number = number
        self.began_at = began_at
        self.over = Latch()
        self.failure: str | None = None  # none while it is on its way, nor where it succeeded
        self.count = 0  # of keys that came
        self.withdrew = False
        self._started = time.perf_counter()

    def told_of(self, url: str) -> KeysFetched:
        """What its observers are told, once it is over."""
        duration = time.perf_counter() - self._started
        return KeysFetched(url=url, keys=self.count, failure=self.failure, duration=duration)


class _Fetched(NamedTuple):
    keys: KeySet
    fetch: _Fetch


class JWKS:
    """The public keys of an issuer, as a key for `JWTVerifier`. Several verifiers can share one.

    It understands a JWK Set (RFC 7517 section 5), with keys that are given by parameters or only by
    a certificate (`x5c`), and a JSON object of `kid` → X.509 certificate or public key in PEM, as
    Firebase and Google's Identity-Aware Proxy have it. Certificates only carry keys here: their
    names and dates are not checked, because it is the address that is trusted. A key that can't be
    used is left out, and logged. A token that names no key is tried with at most ten of them.

    Args:
        url: where the keys are: an `https` URL, or an `http` one on this machine. Redirects are not
            followed.
        ttl: seconds for which a set is used; a new one is fetched before they are over. Lower it if
            a withdrawn key must be refused sooner.
        cooldown: seconds for which no fetch follows a failed one, and none is made because of a
            token that no key of the set verifies. Lower it if new keys are used as soon as they are
            published.
        stale_for: seconds for which a set is used after `ttl`, while fetches fail. Raise it if an
            outage of the provider may last longer; lower it if an outage must not admit anyone.
        timeout: seconds that a fetch may take. Keep it below the authenticator's.
        max_size: bytes that a response may have, compressed or not.
        headers: headers to send with each request, for example `{"authorization": "Bearer ..."}`
            for Kubernetes. A function in place of a value is called before each request, for values
            that change. Over `http` they go to the host of `url` only.
        allow_http: whether keys may come over `http` from any host, in a network that you trust:
            anyone who can change a response there can be any user.
        observers: functions that are called with a `KeysFetched` after every fetch.
        clock: a function that returns seconds since any fixed moment and never goes back, for
            tests.

    Raises:
        ConfigurationError: an option can't work, or httpx2 (the extra `jwks`) is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float = 600.0,
        cooldown: float = 30.0,
        stale_for: float = 3600.0,
        timeout: float = 3.0,
        max_size: int = 262_144,
        headers: Mapping[str, HeaderValue] = {},
        allow_http: bool = False,
        observers: Iterable[Observer] = (log_event,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._issuer: str | None = None
        self._outbound = Outbound(
            "JWKS",
            url,
            timeout=timeout,
            max_size=max_size,
            max_in_flight=1,
            headers=headers,
            allow_http=allow_http,
            offers_http=True,
        )
        self._address = url.partition("?")[0]  # for all to see
        self._timeout = timeout
        self._ttl = check_seconds("JWKS: ttl", ttl)
        self._cooldown = check_seconds("JWKS: cooldown", cooldown, least=0)
        self._stale_for = check_seconds("JWKS: stale_for", stale_for, least=0)
        self._observers = check_observers(observers)
        self._clock = check_clock("JWKS: clock", clock)
        self._fetched: _Fetched | None = None
        self._latest: _Fetch | None = None
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._problems = ""
        self._on_its_way: PerLoop[_Fetch] = PerLoop()

    @classmethod
    def from_oidc(
        cls, issuer: str, *, discovery_url: str | None = None, **options: Unpack[JWKSOptions]
    ) -> JWKS:
        """The keys of an OpenID Connect issuer, to which its discovery document leads. The document
        is read again with each fetch of the keys.

        Args:
            issuer: exactly as the issuer writes it, for example `https://tenant.eu.auth0.com/`: the
                document must name the same one (OpenID Connect Discovery 1.0 section 4.3).
            discovery_url: the URL of the document, if it isn't below the issuer: for example
                `http://keycloak:8080/realms/main/.well-known/openid-configuration` with
                `allow_http=True`.
            options: those of `JWKS`.

        Raises:
            ConfigurationError: as `JWKS`, or the issuer is the URL of a document.
        """
        check_issuer(issuer)
        if discovery_url is not None:
            check_text("JWKS: discovery_url", discovery_url, "http://keycloak:8080/realms/a/...")
        allow_http = check_bool("JWKS: allow_http", options.get("allow_http", False))
        if discovery_url is None:
            check_address("JWKS: issuer", issuer, allow_http)
            url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
        else:
            url = discovery_url
            check_address("JWKS: discovery_url", url, allow_http)
        keys = cls(url, **options)
        keys._issuer = issuer
        return keys

    async def keys(self) -> KeySet:
        """The keys that count now. It waits only where there are none that do.

        Raises:
            Denied: with `Reason.KEYS_UNAVAILABLE`, if there are none.
        """
        now = self._clock()
        age = self._age(now)
        if self._fetched is not None and age < self._ttl:
            if age >= self._ttl * _DUE and not self._failed_lately(now):
                self._fetch()
            return self._fetched.keys
        fetch = self._latest
        withdrawn = fetch is not None and fetch.withdrew and self._fetched is not None
        if fetch is None or withdrawn or not self._failed_lately(now):
            fetch = self._fetch()
            await fetch.over.wait()
        return self._best(fetch)

    async def renewed(self, seen: KeySet, /) -> KeySet:
        """The keys that count now that none of `seen` verifies a token: `seen` itself, if there was
        a fetch less than `cooldown` seconds ago.

        Raises:
            Denied: with `Reason.KEYS_UNAVAILABLE`, if that fetch failed: nobody can say whether the
                token is good.
        """
        if self._fetched is not None and self._fetched.keys is not seen:
            return self._fetched.keys
        fetch = self._on_its_way.get()
        if fetch is None and not self._cools_down(self._clock()):
            fetch = self._fetch()
        if fetch is not None:
            await fetch.over.wait()
        fetch = fetch or self._latest
        if fetch is None or fetch.failure is not None or not fetch.over.is_open:
            raise self._unavailable(fetch)
        return self._best(fetch)

    def lag(self, token_age: float, /) -> float | None:
        """Seconds after which there may be a key that signed a token so many seconds ago; None
        where it would be in the set, even if a cache in front of the issuer answered for it with
        one that was `ttl` old."""
        now = self._clock()
        if token_age >= self._age(now) + self._ttl:
            return None
        began_at = now if self._latest is None else self._latest.began_at
        return max(0.0, began_at + self._cooldown - now)

    def _age(self, now: float) -> float:
        """Seconds since the keys were asked for. Not since they came: the issuer may have withdrawn
        one of them meanwhile."""
        return float("inf") if self._fetched is None else now - self._fetched.fetch.began_at

    def _cools_down(self, now: float) -> bool:
        return self._latest is not None and now - self._latest.began_at < self._cooldown

    def _failed_lately(self, now: float) -> bool:
        failed = self._latest is not None and self._latest.failure is not None
        return failed and self._cools_down(now)

    def _best(self, fetch: _Fetch) -> KeySet:
        """The keys, after this fetch."""
        if self._fetched is None or self._age(self._clock()) >= self._ttl + self._stale_for:
            raise self._unavailable(fetch)
        return self._fetched.keys

    def _unavailable(self, fetch: _Fetch | None) -> Denied:
        if fetch is None or not fetch.over.is_open:
            return Denied(Reason.KEYS_UNAVAILABLE, f"{self!r}: another event loop is asking")
        why = fetch.failure or "the fetch took longer than its keys may be used"
        wait = fetch.began_at + self._cooldown - self._clock()
        return Denied(Reason.KEYS_UNAVAILABLE, f"{self!r}: {why}", retry_after=wait)

    def _fetch(self) -> _Fetch:
        """The fetch that is on its way, or a new one."""
        fetch = self._on_its_way.get()
        if fetch is None:
            fetch = _Fetch(next(self._numbers), self._clock())
            self._on_its_way.set(fetch)
            self._latest = fetch
            spawn(partial(self._run, fetch))
        return fetch

    async def _run(self, fetch: _Fetch) -> None:
        failure: str | None = None
        try:
            with anyio.fail_after(self._timeout):
                keys, fetch.count, problems = await self._ask()
            self._take(_Fetched(keys, fetch), problems)
        except Unreachable as exc:
            failure = str(exc)
            fetch.withdrew = isinstance(exc, Withdrawn)
            self._withdraw(fetch)
        except TimeoutError:
            failure = f"no answer within {self._timeout:g} s"
        except Exception as exc:  # whatever an issuer sends: nothing that is raised here is heard
            failure = type(exc).__qualname__
        except BaseException:  # the event loop ends; the next one may ask at once
            failure, fetch.began_at = "it was broken off", float("-inf")
            raise
        finally:
            fetch.failure = failure
            self._on_its_way.set(None)
            with suppress(Exception):  # of the log itself, which nobody would hear of either
                tell(self._observers, fetch.told_of(self._address))
            await fetch.over.open()

    async def _ask(self) -> tuple[KeySet, int, str]:
        url = self._url
        if self._issuer is not None:
            url = jwks_uri(await self._outbound.get(url), self._issuer)
        # In a thread: hundreds of keys take longer than a handshake may be held up. With a limit of
        # its own, because the app's other threads may all be busy.
        document = await self._outbound.get(url)
        return await to_thread.run_sync(parse_key_set, document, limiter=anyio.CapacityLimiter(1))

    def _take(self, fetched: _Fetched, problems: str) -> None:
        with self._lock:  # several event loops may each have asked
            known = self._fetched
            if known is not None and known.fetch.number > fetched.fetch.number:
                return
            self._fetched = fetched
        if problems != self._problems:
            logger.warning("%r: left out %s", self, problems or "nothing any more")
        self._problems = problems

    def _withdraw(self, fetch: _Fetch) -> None:
        """Give up the keys, if this fetch found that there are none any more, and they are old."""
        with self._lock:
            known = self._fetched
            if known is None or not fetch.withdrew or known.fetch.number > fetch.number:
                return
            if self._age(self._clock()) >= self._ttl:
                self._fetched = None

    def __repr__(self) -> str:
        return f"<JWKS {self._address}>"
