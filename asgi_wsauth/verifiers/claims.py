"""What the claims of a token prove, wherever they come from (RFC 7519 section 4.1, RFC 7662 section
2.2). A claim that is null is absent. No token makes anything here raise but `Denied`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from asgi_wsauth.credential import Note, Principal, has_expired
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.options import (
    ClaimName,
    ClaimPath,
    ClaimValue,
    check_claim,
    check_claim_or_list,
    check_claim_values,
    check_claims,
)

__all__ = [
    "NO_LOGINS",
    "ClaimRules",
    "as_identity",
    "as_scopes",
    "at",
    "audience_fault",
    "cut",
    "read_time",
]

_NUMBERS = (int, float)
_LATEST = 253402300799  # 9999-12-31T23:59:59Z: what is later is milliseconds, or mischief


class _Claim:
    """A claim that is asked for.

    Attributes:
        path: where it is.
        read: finds it in all claims: `at`, but for a top-level name without a call of Python's.
    """

    __slots__ = ("path", "read")

    def __init__(self, path: ClaimPath) -> None:
        self.path = path
        self.read: Callable[[Mapping[str, Any]], Any] = (
            methodcaller("get", path[0]) if len(path) == 1 else partial(at, path=path)
        )

    def __str__(self) -> str:
        return self.path[0] if len(self.path) == 1 else repr(self.path)


class ClaimRules:
    """What a verifier asks of the claims of a token, and how it reads them. Options that name
    claims take a top-level name, or the path to it as a tuple.

    Args:
        part: what stands before the names of options in errors.
        identity_claim: where the identity is: a string, or a whole number, which is taken as its
            decimal digits.
        claims: what must be there with that value, or with one of those.
        scopes_claim: where the scopes are: in one claim, or in several. Strings are split at
            spaces, lists are taken as they are.
        required_claims: what must be there.

    Raises:
        ConfigurationError: an option can't work.
    """

    def __init__(
        self,
        part: str,
        *,
        identity_claim: ClaimName,
        claims: Mapping[Any, ClaimValue],
        scopes_claim: ClaimName | Sequence[ClaimName],
        required_claims: Iterable[ClaimName] = (),
    ) -> None:
        self._identity = _Claim(check_claim(f"{part}identity_claim", identity_claim))
        required = check_claims(f"{part}required_claims", required_claims)
        self._required = tuple(map(_Claim, required))
        scopes = check_claim_or_list(f"{part}scopes_claim", scopes_claim)
        self._scopes = tuple(map(_Claim, scopes))
        # Of a `scope` that is missing, nothing is said: it may be (RFC 9068 section 2.2.3).
        self._told_of: set[ClaimPath] = {("scope",)}
        wanted = check_claim_values(f"{part}claims", claims)
        # With their types, because True is 1.
        self._wanted = [
            (_Claim(path), frozenset((type(value), value) for value in values), cut(values))
            for path, values in wanted.items()
        ]

    def principal(
        self,
        claims: dict[str, Any],
        *,
        now: float,
        early: float,
        late: float,
        method: str,
        note: Note | None = None,
    ) -> Principal:
        """The principal that these claims speak of.

        Args:
            claims: from a token whose signature is good, or from who issued it.
            now: Unix time in seconds.
            early: seconds by which it may come before its `iat` and `nbf`, because clocks differ.
            late: seconds by which it may come after its `exp`.
            method: how the claims were proved.
            note: see `Credential.note`.

        Raises:
            Denied: a claim is missing, of the wrong kind or another than is asked for, it is not
                valid yet, or tells of events (`Reason.INVALID`); or it is good in every other way,
                and expired (`Reason.EXPIRED`).
        """
        if claims.get("events") is not None:  # RFC 8417 section 2.2: it is a Security Event Token
            raise Denied(Reason.INVALID, "it is a Security Event Token, not a login")
        self._check(claims)
        if note is not None:
            note("claims", self._checked(claims))
        issued_at = read_time(claims, "iat")
        _check_begun(issued_at, read_time(claims, "nbf"), now + early)
        if note is not None:
            note("iat, nbf", _ages(claims, now))
        expires_at = read_time(claims, "exp")
        if expires_at is not None:
            expires_at += late
        identity = self.identity(claims)
        session_id, token_id, issuer = _texts(claims)
        scopes = self._scopes_of(claims)
        if note is not None:
            note("identity", f"its {self._identity} is {cut(identity)}")
            note("scopes", f"from {', '.join(map(str, self._scopes))}: {cut(scopes) or 'none'}")
        if expires_at is not None and has_expired(expires_at, now):
            raise Denied(Reason.EXPIRED, f"since {now - expires_at:.0f} s")
        if note is not None:
            note("exp", _left(expires_at, now, late))
        return Principal(
            identity,
            issuer=issuer,
            scopes=scopes,
            claims=claims,
            issued_at=issued_at,
            expires_at=expires_at,
            token_id=token_id,
            session_id=session_id,
            method=method,
        )

    def identity(self, claims: Mapping[str, Any]) -> str:
        """The identity in these claims.

        Raises:
            Denied: with `Reason.INVALID`, if there is none.
        """
        value = self._identity.read(claims)
        if type(value) is str and value:  # as nearly always
            return value
        identity = as_identity(value)
        if identity is not None:
            return identity
        if value is None or value == "":
            raise Denied(Reason.INVALID, f"it has no {self._identity}")
        raise Denied(Reason.INVALID, f"its {self._identity} is neither a string nor a whole number")

    def _check(self, claims: Mapping[str, Any]) -> None:
        """Raises `Denied` unless all that is asked for is there."""
        for required in self._required:
            if required.read(claims) is None:
                raise Denied(Reason.INVALID, f"it has no {required}")
        for wanted, allowed, told in self._wanted:
            value = wanted.read(claims)
            if value is None:
                raise Denied(Reason.INVALID, f"it has no {wanted}, and claims= asks for {told}")
            # A list is no value, though one of its members may be: what is in it beside that would
            # pass unseen.
            if not isinstance(value, (str, int)) or (type(value), value) not in allowed:
                raise Denied(
                    Reason.INVALID,
                    f"its {wanted} is {_cut_one(value)}, and claims= asks for {told}",
                )

    def _checked(self, claims: Mapping[str, Any]) -> str:
        """What `_check` found to be right."""
        there = [f"it has {required}" for required in self._required]
        right = [f"its {wanted} is {cut(wanted.read(claims))}" for wanted, *_ in self._wanted]
        return "; ".join(there + right) or "none is asked for"

    def _scopes_of(self, claims: Mapping[str, Any]) -> Sequence[str]:
        if len(self._scopes) == 1:
            return self._read_scopes(claims, self._scopes[0])
        merged = [scope for claim in self._scopes for scope in self._read_scopes(claims, claim)]
        return list(dict.fromkeys(merged))

    def _read_scopes(self, claims: Mapping[str, Any], claim: _Claim) -> Sequence[str]:
        value = claim.read(claims)
        if value is None:
            if claim.path not in self._told_of:
                self._tell_of(claim)
            return ()
        scopes = as_scopes(value)
        if scopes is None:
            raise Denied(Reason.INVALID, f"its {claim} is neither a string nor a list of strings")
        return scopes

    def _tell_of(self, claim: _Claim) -> None:
        """Say once that a claim with scopes is missing: it may be misspelt."""
        self._told_of.add(claim.path)
        logger.warning(
            "scopes_claim: a token has no %s, so that gives it no scopes; further ones are not "
            "reported",
            str(claim),
        )


def _check_begun(issued_at: float | None, not_before: float | None, now: float) -> None:
    """Raises `Denied` with `Reason.INVALID` before an `iat` or an `nbf`."""
    if (issued_at is not None and issued_at > now) or (not_before is not None and not_before > now):
        raise Denied(Reason.INVALID, "it is not valid yet")


def at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """The claim; None where it is missing, or null."""
    value: Any = claims.get(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _left(expires_at: float | None, now: float, leeway: float) -> str:
    if expires_at is None:
        return "it has none"
    return f"good for {expires_at - now:.0f} s, with {leeway:.0f} s of leeway"


def _ages(claims: Mapping[str, Any], now: float) -> str:
    moments = {name: read_time(claims, name) for name in ("iat", "nbf")}
    told = [
        f"its {name} was {now - at:.0f} s ago" for name, at in moments.items() if at is not None
    ]
    return ", ".join(told) or "it has neither"


def as_identity(value: object) -> str | None:
    """An identity as text: a string that is not empty, or the digits of a whole number, which a
    bool is not. None for anything else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def as_scopes(value: object) -> list[str] | None:
    """The scopes in a string or a list of strings; None for anything else. A string is split at
    spaces only: in another kind of space, which an issuer may let users have in names of theirs, no
    scope ends (RFC 6749 section 3.3)."""
    if isinstance(value, str):
        return [word for word in value.split(" ") if word]
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    return None


NO_LOGINS = frozenset({"logout+jwt", "secevent+jwt", "dpop+jwt"})
"""What the `typ` of a token's header calls other things than logins, which the same keys sign (RFC
8725 section 3.11); see `media_type`."""


def audience_fault(claims: Mapping[str, Any], audience: Sequence[str] | None) -> str | None:
    """Why a token's `aud` does not do (RFC 7519 section 4.1.3); None where it does. One that names
    nobody is absent: there are issuers that always send a list.

    Args:
        claims: those of the token.
        audience: one of these must be in it; None for no audience at all.
    """
    aud = claims.get("aud")
    named = [aud] if isinstance(aud, str) else aud
    if not aud:
        return (
            None if audience is None else f"it has no aud, and audience= asks for {cut(audience)}"
        )
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        return "its aud is neither a string nor a list of strings"
    if audience is None:
        return f"its aud is {cut(aud)}, but no audience= is set"
    if not set(named) & set(audience):
        return f"its aud is {cut(aud)}, and audience= asks for {cut(audience)}"
    return None


def cut(value: object) -> str:
    """What a stranger sent, as a log can show it: short, and on one line. Of what is in a list, it
    shows texts and numbers; it never goes deeper, because that may be nested as deep as JSON can
    be read."""
    if isinstance(value, (list, tuple)):
        more = ", ..." if len(value) > 3 else ""
        return ", ".join(map(_cut_one, value[:3])) + more
    return _cut_one(value)


def _cut_one(value: object) -> str:
    if value is not None and not isinstance(value, (str, int, float)):
        return f"a {type(value).__qualname__}"
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def read_time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2): a JSON number, and nothing that Python reads as one."""
    value = claims.get(name)
    if value is None:
        return None
    if type(value) in _NUMBERS and abs(value) <= _LATEST:  # True is an int, too
        return float(value)
    raise Denied(Reason.INVALID, f"its {name} is not a time in seconds")


def _texts(claims: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Its `sid`, `jti` and `iss`."""
    texts = claims.get("sid"), claims.get("jti"), claims.get("iss")
    for name, text in zip(("sid", "jti", "iss"), texts, strict=True):
        if text is not None and type(text) is not str:
            raise Denied(Reason.INVALID, f"its {name} is not a string")
    return texts
