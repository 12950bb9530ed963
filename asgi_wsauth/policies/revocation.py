"""Revocation: logins that end before they expire."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal, Protocol

import anyio.lowlevel

from asgi_wsauth.credential import Principal, bare_name, full_name
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.options import check_clock, check_seconds, check_store, check_text, check_time
from asgi_wsauth.stores.listener import Listener
from asgi_wsauth.stores.protocols import Notice, RevocationStore, Subject

__all__ = ["LiveSocket", "Revocations"]

_DAY = 86400.0
_MARGIN = 3600.0  # seconds; more than any leeway with which a token is still accepted

# Sockets that are looked at, closed, or asked about between two turns of the event loop.
_LOOKED_AT, _CLOSED, _ASKED_ABOUT = 500, 5, 100


class LiveSocket(Protocol):
    """An open socket, to whatever may have to close it."""

    @property
    def principal(self) -> Principal:
        """The principal that it was opened by."""
        ...

    def end(self, denied: Denied, /) -> None:
        """Close it, soon."""
        ...


class Revocations:
    """Ends logins: by user, by token, or by session.

    What is revoked is refused from now on, over HTTP and WebSocket, wherever an `Authenticator` has
    these revocations, in this process or any other with the same store; open sockets are closed
    with `Reason.REVOKED`, within a second; thousands of them take longer, because others have their
    turns meanwhile.

    A name counts at every issuer unless `issuer` is given: two issuers may well have a
    user, a token or a session of one name.

    Clocks of hosts that share a store, and of the tokens' issuer, should agree: a user's tokens are
    revoked by comparing times. `iat` is often a whole second, so a token that was issued in the
    same second counts as issued before. A token that has no `iat` counts as issued `max_token_age`
    before its `exp`, which is the earliest moment possible: after `revoke_user`, such tokens are
    refused for `max_token_age` less the time that they live, so set it to that time.

    Args:
        store: where revocations are kept: `MemoryStore()`, or one that several processes share.
        max_token_age: seconds for which a credential may be valid at most, from its issue on. A
            revocation is kept for as long. Credentials that never expire, such as API keys, must be
            taken out of their verifier's list within that time.
        clock: gives Unix time in seconds.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        store: RevocationStore,
        *,
        max_token_age: float = 30 * _DAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        methods = ("put_revocation", "get_revocations", "watch")
        check_store("Revocations: store", store, *methods)
        self.store = store
        self.max_token_age = check_seconds("Revocations: max_token_age", max_token_age)
        self._clock = check_clock("Revocations: clock", clock)
        self._warned = False
        self._here: PerLoop[_Here] = PerLoop()

    async def revoke_user(self, identity: str, *, issuer: str | None = None) -> None:
        """Revoke all that was issued to a user until now; what has no time of issue and no end,
        such as an API key, too.

        Args:
            identity: as in `Principal.identity`: a JWT's `sub`, for example.
            issuer: as in `Principal.issuer`: a JWT's `iss`; None for that identity at every issuer,
                and without any.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where the store fails: nothing may have been revoked.
            ConfigurationError: a `ValueError`: an argument can't be one.
        """
        await self._revoke("user", identity, issuer, self.max_token_age)

    async def revoke_token(
        self, token_id: str, expires_at: float | None = None, *, issuer: str | None = None
    ) -> None:
        """Revoke one token.

        Args:
            token_id: as in `Principal.token_id`: a JWT's `jti`.
            expires_at: Unix time in seconds when it expires, its `exp`; None where that isn't
                known. It is only for how long the revocation is kept.
            issuer: as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`; and a `ConfigurationError` likewise.
        """
        ttl = self.max_token_age
        check_time("revoke_token: expires_at", expires_at)
        if expires_at is not None:
            ttl = min(ttl, max(expires_at - self._clock(), 0.0) + _MARGIN)
        await self._revoke("token", token_id, issuer, ttl)

    async def revoke_session(self, session_id: str, *, issuer: str | None = None) -> None:
        """Revoke a login, with all tokens that belong to it.

        Args:
            session_id: as in `Principal.session_id`: a JWT's `sid`.
            issuer: as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`; and a `ConfigurationError` likewise.
        """
        await self._revoke("session", session_id, issuer, self.max_token_age)

    async def _revoke(
        self, kind: Literal["user", "token", "session"], name: str, issuer: str | None, ttl: float
    ) -> None:
        option = "identity" if kind == "user" else f"{kind}_id"
        check_text(f"revoke_{kind}: {option}", name, "alice" if kind == "user" else "7f3a91")
        if issuer is not None:
            check_text(f"revoke_{kind}: issuer", issuer, "https://id.example")
        subject: Subject = (kind, full_name(name, issuer))
        with FailsClosed(self.store):
            await self.store.put_revocation(Notice(subject, self._clock()), ttl=ttl)

    async def check(self, principal: Principal) -> None:
        """Refuse a principal that was revoked.

        Raises:
            Denied: with `Reason.REVOKED`; or `Reason.UNAVAILABLE`, where the store fails.
        """
        with FailsClosed(self.store):
            revoked = await self.store.get_revocations(subjects_of(principal))
        try:
            check_revoked(principal, revoked, self.max_token_age)
        except _Undated:
            self._warn_of_undated()
            raise

    def _warn_of_undated(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "a credential was refused because its user was revoked, and it doesn't say when it "
                "was issued: without iat, only one whose exp is more than max_token_age (%g s) "
                "after the revocation is surely newer. Have iat put into your tokens, or set "
                "max_token_age to the time that they live",
                self.max_token_age,
            )

    def register(self, socket: LiveSocket) -> None:
        """From now on, close `socket` when its principal is revoked."""
        here = self._here.get_or_make(lambda: _Here(self.store, self.max_token_age))
        here.sockets[socket] = None

    def unregister(self, socket: LiveSocket) -> None:
        """`socket` has closed: forget it."""
        here = self._here.get()
        if here is not None:
            here.sockets.pop(socket, None)

    def __repr__(self) -> str:
        return f"<Revocations in {self.store!r}>"


def subjects_of(principal: Principal) -> list[Subject]:
    """All by which a principal can be revoked: each of its names, as it is at every issuer, and at
    its own."""
    named = _named(principal)
    subjects: list[Subject] = []
    # Without a call for each of them: every handshake does this twice.
    for kind, name in named:
        subjects.append((kind, name if name[:1] != "[" else full_name(name, None)))
    if principal.issuer is not None:
        at_issuer = full_name("", principal.issuer)
        for kind, name in named:
            subjects.append((kind, at_issuer + name))
    return subjects


def _named(principal: Principal) -> list[Subject]:
    named: list[Subject] = [("user", principal.identity)]
    if principal.token_id is not None:
        named.append(("token", principal.token_id))
    if principal.session_id is not None:
        named.append(("session", principal.session_id))
    return named


def check_revoked(
    principal: Principal, revoked: Sequence[float | None], max_token_age: float = math.inf
) -> None:
    """Refuse a principal by what the store said of each of `subjects_of` it.

    Args:
        principal: who it is.
        revoked: for each subject, until when it is revoked.
        max_token_age: seconds for which a credential may be valid at most, from its issue on.

    Raises:
        Denied: with `Reason.REVOKED`.
    """
    named = _named(principal)
    asked = named if principal.issuer is None else named + named
    if len(revoked) == len(asked) == revoked.count(None):
        return
    for (kind, _), until in zip(asked, revoked, strict=True):
        if until is None:
            continue
        if kind != "user":
            raise Denied(Reason.REVOKED, f"the {kind} was revoked")
        if not _is_newer(principal, until, max_token_age):
            kind_of = Denied if principal.issued_at is not None else _Undated
            raise kind_of(Reason.REVOKED, "the user was revoked")


def _is_newer(principal: Principal, until: float, max_token_age: float) -> bool:
    """Whether a credential was issued after that moment, for sure."""
    if principal.issued_at is not None:
        return principal.issued_at > until
    # As seen from its end. `expires_at` is later than a token's `exp` by the verifier's leeway.
    told = (principal.expires_at, principal.claims.get("exp"))
    ends = [end for end in told if isinstance(end, (int, float)) and not isinstance(end, bool)]
    return bool(ends) and all(until + max_token_age < end < math.inf for end in ends)


class _Undated(Denied):
    """It may be older than its user's revocation, because it doesn't say when it was issued."""


class _Here:
    """The live sockets of one event loop."""

    def __init__(self, store: RevocationStore, max_token_age: float) -> None:
        self.sockets: dict[LiveSocket, None] = {}
        self._store = store
        self._max_token_age = max_token_age
        self._closed = 0
        Listener(store, self._hear, self._catch_up)

    async def _hear(self, notices: Sequence[Notice]) -> None:
        revoked: dict[Subject, float] = {}
        for subject, until in notices:
            revoked[subject] = max(until, revoked.get(subject, until))
        names = {bare_name(name) for _, name in revoked}
        for sockets in _parts(self.sockets, _LOOKED_AT):
            for socket in sockets:
                principal = socket.principal
                if names.isdisjoint((principal.identity, principal.token_id, principal.session_id)):
                    continue  # as nearly all of them: to judge each would take six times as long
                await self._judge(socket, principal, list(map(revoked.get, subjects_of(principal))))
            await anyio.lowlevel.checkpoint()

    async def _catch_up(self) -> None:
        for sockets in _parts(self.sockets, _ASKED_ABOUT):
            principals = [socket.principal for socket in sockets]
            subjects = [subjects_of(principal) for principal in principals]
            found = iter(await self._store.get_revocations(list(chain.from_iterable(subjects))))
            for socket, principal, names in zip(sockets, principals, subjects, strict=True):
                await self._judge(socket, principal, list(islice(found, len(names))))
            await anyio.lowlevel.checkpoint()

    async def _judge(
        self, socket: LiveSocket, principal: Principal, revoked: Sequence[float | None]
    ) -> None:
        try:
            check_revoked(principal, revoked, self._max_token_age)
        except Denied as denied:
            socket.end(denied)
            self._closed += 1
            if self._closed % _CLOSED == 0:
                await anyio.lowlevel.checkpoint()


def _parts(sockets: Iterable[LiveSocket], size: int) -> Iterator[list[LiveSocket]]:
    rest = iter(list(sockets))  # a copy: sockets come and go while this goes on
    while part := list(islice(rest, size)):
        yield part
