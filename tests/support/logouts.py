"""Logout tokens and other Security Event Tokens by hand, and how they are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from handshakes import NOW, jwt_verifier, mint
from http_calls import Answer, call, request

from asgi_wsauth import Denied, LogoutEndpoint, MemoryStore, Principal, Reason, Revocations

__all__ = [
    "FORM",
    "ISSUER",
    "LOGOUT",
    "SECEVENT",
    "SESSION_REVOKED",
    "Site",
    "event_token",
    "logout_token",
    "post",
    "push",
]

ISSUER = "https://id.example"
LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"

FORM = ("content-type", "application/x-www-form-urlencoded")
SECEVENT = ("content-type", "application/secevent+jwt")

_COMMON = {"iss": ISSUER, "aud": "chat", "iat": int(NOW) - 5, "jti": "7f3a91"}


def logout_token(headers: Any = None, *sign: Any, **claims: Any) -> str:
    """A good one at NOW, of alice; a claim that is None is left out."""
    good = {**_COMMON, "exp": int(NOW) + 115, "sub": "alice", "events": {LOGOUT: {}}}
    return mint(*sign, headers=headers or {"typ": "logout+jwt"}, **{**good, **claims})


def event_token(subject: Any, event: str = SESSION_REVOKED, *sign: Any, **claims: Any) -> str:
    """A good one at NOW that says that of a subject."""
    payload = {"event_timestamp": int(NOW * 1000)}
    good = {**_COMMON, "exp": None, "sub": None, "sub_id": subject, "events": {event: payload}}
    return mint(*sign, headers={"typ": "secevent+jwt"}, **{**good, **claims})


class Site:
    """An endpoint at NOW, and the revocations that it writes to."""

    def __init__(self, *, store: Any = None, verifier: Any = None, **options: Any) -> None:
        self.store = MemoryStore() if store is None else store
        self.revocations = Revocations(self.store, clock=lambda: NOW)
        verifier = verifier or jwt_verifier(issuer=ISSUER, audience="chat")
        self.endpoint = LogoutEndpoint(self.revocations, verifier, **options)

    async def ended(self, identity: str, sid: str | None = None, **more: Any) -> bool:
        """Whether that login has ended, which began before."""
        login = {"issuer": ISSUER, "issued_at": NOW - 60, "session_id": sid, **more}
        try:
            await self.revocations.check(Principal(identity, **login))
        except Denied as denied:
            assert denied.reason is Reason.REVOKED
            return True
        return False


async def post(
    endpoint: Any, token: str, headers: Iterable[tuple[str, str]] = (FORM,), **more: Any
) -> Answer:
    """Send a logout token, as a provider does."""
    body = urlencode({"logout_token": token}).encode()
    return await call(endpoint, request("POST", path="/logout", headers=headers, **more), body)


async def push(endpoint: Any, token: str, **more: Any) -> Answer:
    """Send a Security Event Token, as a transmitter does."""
    scope = request("POST", path="/logout", headers=[SECEVENT], **more)
    return await call(endpoint, scope, token.encode())
