"""Requests to other servers, from which keys and verdicts come: `https` unless it is allowed
otherwise, no redirect followed, bounded in time, size and number. Needs the extra `jwks` (httpx2).
"""

from __future__ import annotations

import json
import ssl
import zlib
from collections.abc import AsyncGenerator, Mapping
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.lowlevel

from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.places import Places
from asgi_wsauth.options import (
    ConfigurationError,
    HeaderValue,
    check_bool,
    check_count,
    check_headers,
    check_seconds,
    header_value,
    needs_extra,
)

if TYPE_CHECKING:
    import httpx2

    _Opened: TypeAlias = tuple[AsyncGenerator[httpx2.AsyncClient, None], httpx2.AsyncClient, Places]

__all__ = ["Outbound", "Unreachable", "check_address"]


class Unreachable(Exception):
    """There is no answer that could be used. The text says why, in one printable line."""


class Outbound:
    """Asks servers, and gives the JSON of their answers.

    Each event loop has a pool of connections of its own, which is closed when the loop ends.

    Args:
        part: whose requests these are, for error messages.
        url: the first address to be asked.
        timeout: seconds that a request may take in all, from the wait for a connection to the last
            byte.
        max_size: bytes that a body may have, as it comes and unpacked.
        max_in_flight: requests that may be on their way at once; more wait, each behind those of
            its own share.
        headers: what is sent with each `get`; a function is asked each time. Over `http` they go to
            no other place than `url`.
        allow_http: whether `http` is good enough for other machines than this one.
        offers_http: whether that is an option of the part, so that an error may name it.

    Raises:
        ConfigurationError: an option can't work, or httpx2 is not installed.
    """

    def __init__(
        self,
        part: str,
        url: str,
        *,
        timeout: float,
        max_size: int,
        max_in_flight: int,
        headers: Mapping[str, HeaderValue] = {},
        allow_http: bool = False,
        offers_http: bool = False,
    ) -> None:
        with needs_extra(part, "httpx2", "jwks"):
            # Or httpx2 does it during the first request, which takes half a second.
            import httpcore2  # noqa: F401
            import httpx2
        self._httpx = httpx2
        self._timeout = check_seconds(f"{part}: timeout", timeout)
        self._max_size = check_count(f"{part}: max_size", max_size)
        self._max_in_flight = check_count(f"{part}: max_in_flight", max_in_flight)
        self._headers = check_headers(f"{part}: headers", headers)
        self._allow_http = check_bool(f"{part}: allow_http", allow_http)
        address = check_address(f"{part}: url", url, allow_http, offers_http)
        self._loopback = _is_loopback(address.host)
        self._origin = _origin(address)
        # Made now: reading all authorities that the machine trusts takes as long as hundreds of
        # handshakes.
        only_http = address.scheme == "http" and not self._allow_http
        self._ssl = _no_authorities() if only_http else httpx2.create_ssl_context()
        self._opened: PerLoop[_Opened] = PerLoop()

    async def get(self, url: str) -> Any:
        """The JSON that is there.

        Raises:
            Unreachable: there is none.
        """
        return await self._ask("GET", url, None, self._headers)

    async def post(
        self,
        url: str,
        form: Mapping[str, str],
        headers: Mapping[str, str],
        share: str | None = None,
    ) -> Any:
        """The JSON of the answer to a form.

        Args:
            url: the address.
            form: what is sent.
            headers: what is sent with it.
            share: for whom, see `Places`.

        Raises:
            Unreachable: there is none.
        """
        return await self._ask("POST", url, share, headers, data=form)

    async def _ask(
        self,
        method: str,
        url: str,
        share: str | None,
        headers: Mapping[str, HeaderValue],
        **request: Any,
    ) -> Any:
        try:
            with anyio.fail_after(self._timeout):
                address = self._httpx.URL(url)
                self._check(address)
                if address.scheme != "https" and _origin(address) != self._origin:
                    headers = {}
                sent = {name: header_value(name, value) for name, value in headers.items()}
                client, places = await self._connections()
                await places.take(share)
                try:
                    body = await self._body(client, method, url, headers=sent, **request)
                finally:
                    places.release(share)
        except Unreachable:
            raise
        except ConfigurationError as exc:  # of a header
            raise Unreachable(str(exc)) from None
        except TimeoutError:
            raise Unreachable(f"no answer within {self._timeout:g} s") from None
        except Exception as exc:  # of httpx2, or of the sockets below it
            raise Unreachable(self._why(exc)) from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise Unreachable("it is not JSON") from None

    def _why(self, exc: Exception) -> str:
        """What went wrong, without a word of the server's: it may say the token again."""
        said: BaseException | None = exc if isinstance(exc, self._httpx.ConnectError) else None
        while said is not None and not str(said):  # on trio, the words are with the cause
            said = said.__cause__ or said.__context__
        return type(exc).__name__ + (f": {str(said)[:200]!a}" if said is not None else "")

    async def _body(
        self, client: httpx2.AsyncClient, method: str, url: str, **request: Any
    ) -> bytes:
        body = bytearray()
        async with client.stream(method, url, **request) as response:
            if response.status_code != 200:
                followed = ", and redirects are not followed" if response.is_redirect else ""
                raise Unreachable(f"HTTP {response.status_code}{followed}")
            encoding = response.headers.get("content-encoding", "").strip().lower()
            if encoding not in _UNPACKED + _PACKED:
                raise Unreachable("it is compressed, which was not asked for")
            # Nothing is raised in this loop: httpx2's generators end only by what happens in them.
            with anyio.CancelScope() as reading:
                async for chunk in response.aiter_raw():
                    body += chunk
                    # Thousands of small chunks may come at once, and the event loop is to run on.
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                    if len(body) > self._max_size:
                        reading.cancel()
        if len(body) <= self._max_size and encoding in _PACKED:
            body = _unpacked(body, self._max_size)
        if len(body) > self._max_size:
            raise Unreachable(f"it has more than {self._max_size} bytes")
        return bytes(body)

    async def _connections(self) -> tuple[httpx2.AsyncClient, Places]:
        """The client of the running event loop, and the places for its requests."""
        opened = self._opened.get()
        if opened is None:
            clients = self._clients()
            opened = clients, await clients.__anext__(), Places(self._max_in_flight)
            self._opened.set(opened)
        return opened[1:]

    async def _clients(self) -> AsyncGenerator[httpx2.AsyncClient, None]:
        # A generator, because that is what asyncio and trio close when they end. Nothing else tells
        # a middleware that its event loop is about to.
        async with self._httpx.AsyncClient(
            verify=self._ssl,
            trust_env=not self._loopback,  # a proxy elsewhere can't reach this machine
            timeout=None,  # `_ask` has one for all of it
            # Who waits, waits for a place: a pool that is full loses the connection which it
            # has just given to somebody who is cancelled (httpcore).
            limits=self._httpx.Limits(max_connections=None),
            headers={"accept": "application/json", "accept-encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # keeps none
        ) as client:
            yield client

    def _check(self, url: httpx2.URL) -> None:
        """Raises `Unreachable` for an address that is not to be asked."""
        if not _may_ask(url, self._allow_http, self._loopback):
            raise Unreachable(_UNSAFE)
        _check_user(url)


_UNSAFE = "only https is safe, or http on this machine"


def check_address(
    option: str, given: str, allow_http: bool = False, offers_http: bool = True
) -> httpx2.URL:
    """The address that an option names.

    Args:
        option: its name, for the error.
        given: what was given for it.
        allow_http: whether `http` is good enough for other machines than this one.
        offers_http: whether that is an option, so that the error may name it.

    Raises:
        ConfigurationError: it is not to be asked, or is no address.
    """
    with needs_extra(option.partition(":")[0], "httpx2", "jwks"):
        import httpx2

    shown = repr(given)
    try:
        if not isinstance(given, str):
            raise TypeError("this is not a string")
        address = httpx2.URL(given)
        shown = repr(address).removeprefix("URL(").removesuffix(")")  # which hides a password
        if not _may_ask(address, allow_http, _is_loopback(address.host)):
            mend = "; in a network that you trust, set allow_http=True"
            mends = offers_http and address.scheme == "http" and address.host
            raise Unreachable(f"{_UNSAFE}{mend if mends else ''}")
        _check_user(address)
    except (httpx2.InvalidURL, TypeError, ValueError, Unreachable) as exc:
        example = "https://id.example" + ("" if option.endswith("issuer") else "/keys")
        raise ConfigurationError(
            f"{option} must be a URL, for example {example}, got {shown}: {exc}"
        ) from None
    return address


def _may_ask(url: httpx2.URL, allow_http: bool, loopback: bool) -> bool:
    by_http = allow_http or (loopback and _is_loopback(url.host))
    return bool(url.host) and (url.scheme == "https" or (url.scheme == "http" and by_http))


def _check_user(url: httpx2.URL) -> None:
    if url.userinfo:  # it would stand in logs
        raise Unreachable("there is a password in it")


# What a server may do to a body without being asked. Nothing but identity is asked for, and some
# compress all the same.
_UNPACKED, _PACKED = ("identity", ""), ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP, _BARE = 32 + zlib.MAX_WBITS, -zlib.MAX_WBITS


def _unpacked(packed: bytearray, most: int) -> bytearray:
    """The body, or one byte more than `most` of it.

    Raises:
        Unreachable: it can't be unpacked.
    """
    for form in (_ZLIB_OR_GZIP, _BARE):  # `deflate` is sent with and without the header of zlib
        unpacking = zlib.decompressobj(form)
        try:
            body = unpacking.decompress(packed, most + 1)
        except zlib.error:
            continue
        if len(body) > most or (unpacking.eof and not unpacking.unused_data):
            return bytearray(body)
        break
    raise Unreachable("it is compressed, and can't be unpacked")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _no_authorities() -> ssl.SSLContext:
    """For what never meets TLS: trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
