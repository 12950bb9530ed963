"""Revocation: logins that end before they expire."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from asgi_wsauth.credential import Principal, full_name
from asgi_wsauth.denial import FailsClosed
from asgi_wsauth.events import logger
from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.options import (
    ConfigurationError,
    check_clock,
    check_seconds,
    check_store,
    check_text,
    check_time,
    shown,
)
from asgi_wsauth.policies.live_sockets import LiveSocket, LiveSockets
from asgi_wsauth.policies.subjects import (
    EVERYBODY,
    Undated,
    all_subjects_of,
    check_found,
    check_revoked,
    subjects_of,
)
from asgi_wsauth.stores.protocols import (
    BlockStore,
    Notice,
    RenewalNotice,
    RevocationStore,
    Subject,
)

__all__ = ["LiveSocket", "Revocations", "check_revoked", "subjects_of"]

_DAY = 86400.0
_MARGIN = 3600.0  # seconds; more than any leeway with which a token is still accepted


class Revocations:
    """Ends logins: by user, by token, or by session.

    Whatever is revoked is refused from now on, over HTTP and WebSocket, by every `Authenticator`
    with these revocations, in this process or any other with the same store. Open sockets are
    closed with `Reason.REVOKED`, within a second; thousands of them take longer, because other work
    has its turn in between.

    A name counts at every issuer unless `issuer` is given: two issuers may well have a user, a
    token or a session of the same name.

    The clocks of hosts that share a store, and of the tokens' issuer, should agree: a user's tokens
    are revoked by comparing times. `iat` is often a whole second, so a token that was issued in the
    same second counts as issued before. A token that has no `iat` counts as issued `max_token_age`
    before its `exp`, the earliest moment possible: after `revoke_user`, such tokens are refused for
    `max_token_age` minus their lifetime, so set it to that lifetime.

    Sockets can be given some time to bring a new credential: with `renew_within`, a client is told
    at once that one is due (see `refresh_message` in `WebSocketAuthMiddleware`), and its socket is
    closed with `Reason.REVOKED` if none that was issued later arrives within that time. Without a
    `refresh_message`, clients can't be told, so sockets are closed at once. Handshakes and requests
    with a revoked credential are refused at once, too.

    Args:
        store: where revocations are kept: `MemoryStore()`, or one that several processes share.
        max_token_age: seconds for which a credential can be valid at most, counted from its issue:
            30 days by default. A revocation is kept for as long. Raise it if tokens live longer;
            lower it if tokens have no `iat`, or if revocations take too much room. Credentials that
            never expire, such as API keys, must be taken out of their verifier's list within that
            time.
        renew_within: seconds that open sockets have to bring a new credential, unless a method is
            told otherwise; 0 for none.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        store: RevocationStore,
        *,
        max_token_age: float = 30 * _DAY,
        renew_within: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        methods = ("put_revocation", "get_revocations", "watch")
        check_store("Revocations: store", store, *methods)
        self.store = store
        self.max_token_age = check_seconds("Revocations: max_token_age", max_token_age)
        self.renew_within = check_seconds("Revocations: renew_within", renew_within, least=0)
        self._clock = check_clock("Revocations: clock", clock)
        self._warned = False
        self._here: PerLoop[LiveSockets] = PerLoop()

    async def revoke_user(
        self, identity: str, *, issuer: str | None = None, renew_within: float | None = None
    ) -> None:
        """Revoke all that was issued to a user until now. That includes credentials without a time
        of issue and without an end, such as API keys.

        Args:
            identity: as in `Principal.identity`: a JWT's `sub`, for example.
            issuer: as in `Principal.issuer`: a JWT's `iss`; None for that identity at every issuer,
                and without any.
            renew_within: seconds that open sockets have to bring a new credential; None for the
                default of these revocations.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, if the store fails: nothing may have been revoked.
            ConfigurationError: an argument is invalid.
        """
        await self._revoke("user", identity, issuer, self.max_token_age, renew_within)

    async def revoke_token(
        self,
        token_id: str,
        expires_at: float | None = None,
        *,
        issuer: str | None = None,
        renew_within: float | None = None,
    ) -> None:
        """Revoke one token.

        Args:
            token_id: as in `Principal.token_id`: a JWT's `jti`.
            expires_at: Unix time in seconds when it expires, its `exp`; None if that isn't known.
                It only decides how long the revocation is kept.
            issuer: as in `revoke_user`.
            renew_within: seconds, as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`.
            ConfigurationError: as in `revoke_user`.
        """
        ttl = self.max_token_age
        check_time("revoke_token: expires_at", expires_at)
        if expires_at is not None:
            ttl = min(ttl, max(expires_at - self._clock(), 0.0) + _MARGIN)
        await self._revoke("token", token_id, issuer, ttl, renew_within)

    async def revoke_session(
        self, session_id: str, *, issuer: str | None = None, renew_within: float | None = None
    ) -> None:
        """Revoke a login, with all tokens that belong to it.

        Args:
            session_id: as in `Principal.session_id`: a JWT's `sid`.
            issuer: as in `revoke_user`.
            renew_within: seconds, as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`.
            ConfigurationError: as in `revoke_user`.
        """
        await self._revoke("session", session_id, issuer, self.max_token_age, renew_within)

    async def revoke_everybody(self, *, renew_within: float | None = None) -> None:
        """Revoke all that was issued to anybody until now: after a break-in, or with a new signing
        key. Credentials without a time of issue and without an end, such as API keys, are refused
        for `max_token_age`.

        Args:
            renew_within: seconds, as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`.
            ConfigurationError: as in `revoke_user`.
        """
        await self._put(EVERYBODY, self.max_token_age, renew_within, "revoke_everybody")

    async def block_user(self, identity: str, until: float, *, issuer: str | None = None) -> None:
        """Refuse a user with whatever credential, even one that is issued from now on, and close
        the user's sockets. Afterwards, what is still valid is admitted again. Of two blocks of one
        user, the last one counts.

        Args:
            identity: as in `revoke_user`.
            until: Unix time in seconds when the block ends; `math.inf` for a block until
                `unblock_user`.
            issuer: as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`.
            ConfigurationError: an argument is invalid, the time has passed, or the store isn't a
                `BlockStore`.
        """
        subject = _subject("blocked", identity, issuer, "block_user")
        given: float | None = until
        ttl = 0.0 if given is None else check_time("block_user: until", until) - self._clock()
        if ttl <= 0:
            raise ConfigurationError(
                "block_user: until must be a moment to come, as Unix time in seconds, for example "
                f"time.time() + 3600, got {shown(given)}"
            )
        await self._replace(Notice(subject, until), ttl)

    async def unblock_user(self, identity: str, *, issuer: str | None = None) -> None:
        """Take back a `block_user` with the same arguments, if there was one. A block at every
        issuer and a block at one issuer are independent of each other.

        Args:
            identity: as in `revoke_user`.
            issuer: as in `revoke_user`.

        Raises:
            Denied: as in `revoke_user`: the user may still be blocked.
            ConfigurationError: as in `block_user`.
        """
        await self._replace(Notice(_subject("blocked", identity, issuer, "unblock_user"), 0.0), 0.0)

    async def _replace(self, notice: Notice, ttl: float) -> None:
        if not isinstance(self.store, BlockStore):
            raise ConfigurationError(
                f"to block users, the store needs a method replace_revocation; got {self.store!r}"
            )
        with FailsClosed(self.store):
            await self.store.replace_revocation(notice, ttl=ttl)

    async def _revoke(
        self,
        kind: Literal["user", "token", "session"],
        name: str,
        issuer: str | None,
        ttl: float,
        renew_within: float | None,
    ) -> None:
        method = f"revoke_{kind}"
        await self._put(_subject(kind, name, issuer, method), ttl, renew_within, method)

    async def _put(
        self, subject: Subject, ttl: float, renew_within: float | None, method: str
    ) -> None:
        if renew_within is None:
            renew_within = self.renew_within
        else:
            check_seconds(f"{method}: renew_within", renew_within, least=0)
        now = self._clock()
        notice = Notice(subject, now)
        if renew_within > 0:
            notice = RenewalNotice.of(notice, now + renew_within)
        with FailsClosed(self.store):
            await self.store.put_revocation(notice, ttl=ttl)

    async def check(self, principal: Principal) -> None:
        """Refuse who was revoked, or is blocked.

        Raises:
            Denied: with `Reason.REVOKED`; or `Reason.UNAVAILABLE`, where the store fails.
        """
        with FailsClosed(self.store):
            found = await self.store.get_revocations(all_subjects_of(principal))
        try:
            self.judge(principal, found)
        except Undated:
            self._warn_of_undated()
            raise

    def judge(self, principal: Principal, found: Sequence[float | None]) -> None:
        """Refuse a principal by what the store said of each of `all_subjects_of` it.

        Raises:
            Denied: with `Reason.REVOKED`.
        """
        check_found(principal, found, self._clock(), self.max_token_age)

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
        here = self._here.get_or_make(lambda: LiveSockets(self.store, self.judge, self._clock))
        here.sockets[socket] = None

    def unregister(self, socket: LiveSocket) -> None:
        """`socket` has closed: forget it."""
        here = self._here.get()
        if here is not None:
            here.sockets.pop(socket, None)

    def may_renew(self, socket: LiveSocket) -> bool:
        """Whether the credential of `socket` was revoked, and its time to bring a new one isn't
        over."""
        here = self._here.get()
        return here is not None and here.may_renew(socket)

    def __repr__(self) -> str:
        return f"<Revocations in {self.store!r}>"


def _subject(
    kind: Literal["user", "token", "session", "blocked"],
    name: str,
    issuer: str | None,
    method: str,
) -> Subject:
    option, example = ("identity", "alice")
    if kind in ("token", "session"):
        option, example = f"{kind}_id", "7f3a91"
    check_text(f"{method}: {option}", name, example)
    if issuer is not None:
        check_text(f"{method}: issuer", issuer, "https://id.example")
    return kind, full_name(name, issuer)
