"""Which logins have ended, by what a logout token or another Security Event Token says.

Whoever issued the token is believed about its own users and sessions. About those of another
issuer it is believed only where the verifier names that one, too, or where `identity_of` says who
is meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.options import shown
from asgi_wsauth.verifiers.chain import awaitable
from asgi_wsauth.verifiers.claims import cut
from asgi_wsauth.verifiers.jwt import JWTVerifier

__all__ = ["Ending", "IdentityOf", "Named", "ended_by_events", "ended_by_logout"]

IdentityOf: TypeAlias = Callable[[Mapping[str, Any]], Awaitable["str | Principal | None"]]
"""Whom a subject (RFC 9493) means here: an identity at the issuer that the token speaks of; or a
principal, for an identity at another issuer, or at whichever; None for nobody."""

_LOGOUT = "http://schemas.openid.net/event/backchannel-logout"
_CAEP, _RISC = (
    f"https://schemas.openid.net/secevent/{profile}/event-type/" for profile in ("caep", "risc")
)
_END_OF_SESSION = f"{_CAEP}session-revoked"
# sessions-revoked is deprecated by RISC, and sent by Google all the same.
_END_OF_USER = {f"{_RISC}{name}" for name in ("account-disabled", "account-purged")} | {
    f"{_RISC}sessions-revoked"
}


class Ending(NamedTuple):
    """What has ended.

    Attributes:
        kind: one session, or all logins of a user.
        name: the session's id, or the user's identity.
        issuer: at which issuer; None for all.
    """

    kind: Literal["session", "user"]
    name: str
    issuer: str | None


class Named:
    """Who is meant by a name that a token has for somebody.

    Args:
        verifier: whose logins they are.
        identity_of: see `LogoutEndpoint`.
    """

    def __init__(self, verifier: JWTVerifier, identity_of: IdentityOf | None) -> None:
        self._verifier = verifier
        self._identity_of = identity_of

    async def user(
        self, subject: Mapping[str, Any], issuer: str, claims: Mapping[str, Any] | None = None
    ) -> list[Ending]:
        """All logins of somebody.

        Args:
            subject: as in RFC 9493, with its `format`.
            issuer: the token's.
            claims: where his identity is, if there is no hook that knows it; None for the subject.

        Raises:
            Denied: he is named in no way that is known here (`Reason.INVALID`), or the hook fails
                (`Reason.UNAVAILABLE`).
        """
        if self._identity_of is not None:
            at = subject["iss"] if subject["format"] == "iss_sub" else issuer
            return await self._asked(self._identity_of, subject, at)
        at = subject.get("iss", issuer)  # whatever its format: it is somebody else's then
        if at != issuer and at not in (self._verifier.issuer or ()):
            raise Denied(Reason.INVALID, f"it speaks of a user of {cut(at)}")
        try:
            identity = self._verifier.identity_in(subject if claims is None else claims)
        except Denied as denied:
            raise Denied(
                Reason.INVALID, f"{denied.detail}; identity_of= can say who is meant"
            ) from None
        return [Ending("user", identity, at)]

    async def _asked(
        self, identity_of: IdentityOf, subject: Mapping[str, Any], issuer: str
    ) -> list[Ending]:
        with FailsClosed(identity_of):
            found = await awaitable("identity_of", identity_of(subject))
        if found is None:
            return []
        if isinstance(found, Principal):
            return [Ending("user", found.identity, found.issuer)]
        if not isinstance(found, str) or not found:
            raise TypeError(
                f"identity_of must return an identity, a Principal or None, got {shown(found)}"
            )
        return [Ending("user", found, issuer)]


async def ended_by_logout(
    claims: Mapping[str, Any], named: Named, ends: Literal["session", "user"]
) -> list[Ending]:
    """What a logout token ends (OpenID Connect Back-Channel Logout 1.0 sections 2.4 and 2.6).

    Args:
        claims: as `JWTVerifier.verify_event` returned them.
        named: who is meant.
        ends: what, where it names a session and its user.

    Raises:
        Denied: it is none (`Reason.INVALID`), or as in `Named.user`.
    """
    if not isinstance(claims["events"].get(_LOGOUT), dict):
        raise Denied(Reason.INVALID, "its events have no back-channel logout")
    if "nonce" in claims:
        raise Denied(Reason.INVALID, "it has a nonce, as ID tokens have")
    if claims.get("exp") is None:
        raise Denied(Reason.INVALID, "it has no exp")
    issuer = claims["iss"]
    has_session, has_user = (claims.get(name) is not None for name in ("sid", "sub"))
    if has_session and (ends == "session" or not has_user):
        return [Ending("session", _text(claims, "sid"), issuer)]
    if not has_user:
        raise Denied(Reason.INVALID, "it has neither a sid nor a sub")
    subject = {"format": "iss_sub", "iss": issuer, "sub": claims["sub"]}
    return await named.user(subject, issuer, claims)


async def ended_by_events(claims: Mapping[str, Any], named: Named) -> list[Ending]:
    """What a Security Event Token ends; nothing, where its events end no login.

    Args:
        claims: as `JWTVerifier.verify_event` returned them.
        named: who is meant.

    Raises:
        Denied: it names nobody in a way that is known here (`Reason.INVALID`), or as in
            `Named.user`.
    """
    endings: list[Ending] = []
    for event, payload in claims["events"].items():
        if event == _END_OF_SESSION or event in _END_OF_USER:
            if not isinstance(payload, dict):
                raise Denied(Reason.INVALID, "its event is not an object")
            subject = _subject(claims, payload)
            if event == _END_OF_SESSION:
                endings += await _ended_session(subject, claims["iss"], named)
            else:
                endings += await named.user(_part(subject, "user"), claims["iss"])
    return list(dict.fromkeys(endings))


def _subject(claims: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Whom an event is about: `sub_id` (RFC 9493 section 4.1), the event's own `subject` as in
    earlier drafts, which Google and Okta send, or `sub`."""
    for given in (claims.get("sub_id"), payload.get("subject")):
        if given is not None:
            return _with_format(given)
    return _with_format({"format": "iss_sub", "iss": claims["iss"], "sub": claims.get("sub")})


def _with_format(subject: Any) -> dict[str, Any]:
    """A subject as RFC 9493 has it. Drafts named its format `subject_type`, and spelt it otherwise;
    complex ones had none. What an opaque one has for an id is a `sub` as well."""
    if not isinstance(subject, dict):
        raise Denied(Reason.INVALID, "its subject is not an object")
    kind = subject.get("format", subject.get("subject_type"))
    if kind is None and ("user" in subject or "session" in subject):
        kind = "complex"
    if not isinstance(kind, str):
        raise Denied(Reason.INVALID, "its subject has no format")
    found = {**subject, "format": kind.replace("-", "_")}
    for name in _MEMBERS.get(found["format"], ()):
        _text(found, name)
    return {**found, "sub": found["id"]} if found["format"] == "opaque" else found


_MEMBERS = {"iss_sub": ("iss", "sub"), "opaque": ("id",), "email": ("email",)}


def _part(subject: dict[str, Any], name: str) -> dict[str, Any]:
    """That part of a complex subject (OpenID Shared Signals Framework 1.0 section 3.3); or the
    subject, if it is a simple one."""
    if subject["format"] != "complex":
        return subject
    if name not in subject:
        raise Denied(Reason.INVALID, f"its subject has no {name}")
    return _with_format(subject[name])


async def _ended_session(subject: dict[str, Any], issuer: str, named: Named) -> list[Ending]:
    """What a session's end is about (CAEP 1.0 section 3.1): the session, if it is named; or all
    that its user has. An id alone may be either's."""
    if subject["format"] == "complex" and "session" in subject:
        session = _part(subject, "session")
        if session["format"] == "opaque":
            return [Ending("session", session["id"], issuer)]
    elif subject["format"] == "opaque":
        return await _ended_id(subject, issuer, named)
    return await named.user(_part(subject, "user"), issuer)


async def _ended_id(subject: dict[str, Any], issuer: str, named: Named) -> list[Ending]:
    endings = [Ending("session", subject["id"], issuer)]
    try:
        endings += await named.user(subject, issuer)
    except Denied as denied:
        if denied.reason is not Reason.INVALID:
            raise
    return endings


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise Denied(Reason.INVALID, f"its {name} is not a string, or empty")
    return value
