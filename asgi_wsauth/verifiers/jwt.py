"""JSON Web Tokens (RFC 7519), checked as RFC 8725 asks.

A token is read once (compact.py), and its signature verified by PyJWT's algorithms (keys.py). Whom
it comes from is judged in trust.py, what it says in claims.py. PyJWT's own `decode` would read a
string or `true` as a time, and refuse a null that is an absent claim; and it is slow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Note, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import Observer
from asgi_wsauth.options import (
    ClaimName,
    ClaimValue,
    ConfigurationError,
    HeaderValue,
    check_issuer,
    check_text,
    shown,
)
from asgi_wsauth.verifiers.claims import NO_LOGINS, ClaimRules, cut
from asgi_wsauth.verifiers.compact import json_object, media_type, read_compact
from asgi_wsauth.verifiers.event_tokens import check_event
from asgi_wsauth.verifiers.jwks import JWKS
from asgi_wsauth.verifiers.keys import Key
from asgi_wsauth.verifiers.trust import SignedTokens, Untrusted
from asgi_wsauth.verifiers.verdicts import VerdictCache, check_cache

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["JWTOptions", "JWTVerifier"]


class JWTOptions(TypedDict, total=False):
    """What `JWTVerifier` takes besides its key, algorithms, audience and issuer."""

    leeway: float
    required_claims: Iterable[ClaimName]
    identity_claim: ClaimName
    claims: Mapping[Any, ClaimValue]
    scopes_claim: ClaimName | Sequence[ClaimName]
    typ: str | None
    cache: VerdictCache | None
    clock: Callable[[], float]


class OIDCOptions(JWTOptions, total=False):
    """What `JWTVerifier.from_oidc` takes besides: what is for the keys."""

    ttl: float
    cooldown: float
    stale_for: float
    timeout: float
    max_size: int
    headers: Mapping[str, HeaderValue]
    allow_http: bool
    observers: Iterable[Observer]


_FOR_KEYS = tuple(OIDCOptions.__annotations__.keys() - JWTOptions.__annotations__.keys())


class JWTVerifier(SignedTokens):
    """Verifies JWTs, with keys that you have or that an identity provider publishes.

    A token is "not mine" if it isn't three base64url segments with a JSON object as header, or,
    with `issuer`, if its `iss` is another one. Everything else that is wrong with it refuses it. So
    does whatever says that it is something other than a login, regardless of `typ`: a logout token,
    a Security Event Token (RFC 8417), a DPoP proof (RFC 9449).

    Args:
        key: a secret, a public key as PEM, a JWK, or a list of them, all of which are accepted (for
            rotation); or a `JWKS`. A JWK with a `kid` is used only for tokens with that `kid`, one
            with an `alg` only for that algorithm.
        algorithms: a list of the `alg` values to accept, all of one family: HS256, HS384, HS512; or
            any of RS*, PS*, ES*, EdDSA, Ed25519, Ed448. EdDSA is the old name of the last two (RFC
            9864): each stands for the other.
        audience: the audience, or a list of them, of which a token's `aud` must contain one. Set it
            if your issuer sets `aud`: without it, a token with an `aud` is refused (RFC 7519
            section 4.1.3).
        issuer: the issuer, or a list of them, which a token's `iss` must equal exactly; None for
            any. A token of another issuer is left to the next verifier.
        leeway: seconds by which clocks may differ, for `exp`, `nbf` and `iat`.
        required_claims: a list of claims that must be there and not null. The identity always must.
        identity_claim: the claim with the identity, for example `user_id`: a string, or a whole
            number, which is taken as its decimal digits. This option and the next two name a claim
            by a string, which is a top-level name, or by a tuple, the path to it: `("realm_access",
            "roles")`.
        claims: claims that must have a value, or one of several: `{"token_use": "access",
            "client_id": {"web", "app"}}`. Set it if only some of the issuer's tokens are meant for
            you. Values are strings, whole numbers or booleans, and a claim of another kind is
            refused: 1 is neither True nor "1", and a list is never a value, whatever is in it.
        scopes_claim: the claim with the scopes, or a list of such claims, whose scopes are merged
            in that order, each once. A string has spaces between them (RFC 8693 section 4.2), a
            list is taken as it is. A missing claim gives no scopes; unless it is `scope`, the log
            warns of it once.
        typ: what the header's `typ` must be, for example `at+jwt` (RFC 9068 section 2.1); None
            accepts any. Set it if one issuer makes several kinds of token.
        cache: a `VerdictCache` that remembers tokens with a good signature, for when many clients
            reconnect at once.
        clock: a function that returns Unix time in seconds, for tests.

    Attributes:
        issuer: the issuers that it was given, as a list; None for any.
        audience: the audiences that it was given, as a list; None for none.

    Raises:
        ConfigurationError: an algorithm is unknown or `none`, families are mixed, no key fits an
            algorithm or no algorithm a key, a secret is shorter than its hash (RFC 7518 section
            3.2) or can be guessed, an RSA key has under 2048 bits, or a key is a private one.
    """

    def __init__(
        self,
        key: Key | Sequence[Key] | JWKS,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 30.0,
        required_claims: Iterable[ClaimName] = ("exp",),
        identity_claim: ClaimName = "sub",
        claims: Mapping[Any, ClaimValue] = {},
        scopes_claim: ClaimName | Sequence[ClaimName] = "scope",
        typ: str | None = None,
        cache: VerdictCache | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            key,
            algorithms=algorithms,
            audience=audience,
            issuer=issuer,
            leeway=leeway,
            clock=clock,
        )
        self._rules = ClaimRules(
            "",
            identity_claim=identity_claim,
            claims=claims,
            scopes_claim=scopes_claim,
            required_claims=required_claims,
        )
        self._typ = None if typ is None else media_type(check_text("typ", typ, "at+jwt"))
        self._cache = check_cache(cache)
        self._secret = secrets.token_bytes(32)  # no other verifier finds what this one put there

    @classmethod
    def from_oidc(
        cls,
        issuer: str,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None,
        discovery_url: str | None = None,
        jwks: JWKS | None = None,
        **options: Unpack[OIDCOptions],
    ) -> JWTVerifier:
        """A verifier for the tokens of an OpenID Connect issuer, whose discovery document leads to
        its keys (OpenID Connect Discovery 1.0 section 4).

        Args:
            issuer: exactly as its tokens and its discovery document have it: with a slash at the
                end for Auth0, without one for Keycloak.
            algorithms: a list of the `alg` values to accept, as in `JWTVerifier`.
            audience: the audience or audiences, as in `JWTVerifier`. It has no default: None must
                be passed.
            discovery_url: the URL of the document, if it isn't below the issuer; see
                `JWKS.from_oidc`.
            jwks: a `JWKS` to use in place of a document; several verifiers can share one.
            options: those of `JWTVerifier`; and, without `jwks`, those of `JWKS`: `ttl`,
                `cooldown`, `stale_for`, `timeout`, `max_size`, `headers`, `allow_http` and
                `observers`.

        Raises:
            ConfigurationError: as `JWTVerifier` and `JWKS`, or an option is for keys that `jwks`
                brings along.
        """
        check_issuer(issuer)
        rest: dict[str, Any] = dict(options)
        for_keys = {name: rest.pop(name) for name in _FOR_KEYS if name in rest}
        if jwks is None:
            jwks = JWKS.from_oidc(issuer, discovery_url=discovery_url, **for_keys)
        elif for_keys or discovery_url is not None:
            name = next(iter(for_keys), "discovery_url")
            raise ConfigurationError(
                f"{name} can't be used with jwks; leave one of them out, or write "
                f"jwks=JWKS.from_oidc(issuer, {name}=...)"
            )
        elif not isinstance(jwks, JWKS):
            raise ConfigurationError(
                f'jwks must be a JWKS, got {shown(jwks)}; write JWKS("https://id.example/keys")'
            )
        return cls(jwks, algorithms=algorithms, audience=audience, issuer=issuer, **rest)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        text = credential.value
        if self._cache is not None:
            mark = self._cache.get(self._secret, text)
            if mark is not None and mark in (await self._keys.keys()).marks:
                return self._principal(json_object(text.split(".")[1]) or {}, credential.note)
        token = read_compact(text)
        if token is None:
            return None
        if self.issuer is not None:
            fault = self.issuer_fault(token.claims)
            if fault is not None:
                credential.hint(fault)
                return None
            if credential.note is not None:
                credential.note("iss", f"its iss is {cut(token.claims['iss'])}")
        named = self.named_key(token)
        if token.kind in NO_LOGINS:
            raise Denied(Reason.INVALID, "its typ is not that of a login")
        if self._typ is not None and token.kind != self._typ:
            raise Denied(Reason.INVALID, f"its typ is not {self._typ}")
        key = await self.verify_signed(token, named, credential.note)
        principal = self._principal(token.claims, credential.note)
        if self._cache is not None:
            self._cache.put(self._secret, text, key.mark)
        return principal

    async def verify_event(self, token: str, *, typ: str, max_age: float = inf) -> dict[str, Any]:
        """The claims of a Security Event Token (RFC 8417), of which a logout token is one: who
        issues logins signs them with the same keys. `LogoutEndpoint` asks for them.

        Keys, algorithms, issuer, audience and leeway are those for logins. Of the other options,
        none counts: they say what a login is.

        Args:
            token: in its compact form.
            typ: what the header's `typ` is to be, `logout+jwt` or `secevent+jwt`. One without, or
                with `JWT`, says nothing of what it is; `events` tells it.
            max_age: seconds for which it counts, from its `iat` on, whatever its `exp`.

        Raises:
            Denied: it can't be read (`Reason.MALFORMED`), is none that is believed or lacks what
                each must have (`Reason.INVALID`), or came too late (`Reason.EXPIRED`); or the keys
                can't be had (`Reason.KEYS_UNAVAILABLE`).
        """
        read = read_compact(token)
        if read is None:
            raise Denied(Reason.MALFORMED, "it is not a JWT")
        if read.header.get("typ") is not None and read.kind not in ("jwt", typ):
            raise Denied(Reason.INVALID, f"its typ is not {typ}")
        fault = self.issuer_fault(read.claims)
        if fault is not None:
            raise Untrusted("issuer", fault)
        await self.verify_signed(read, self.named_key(read))
        check_event(read.claims, now=self._clock(), leeway=self._leeway, max_age=max_age)
        return read.claims

    def identity_in(self, members: Mapping[str, Any]) -> str:
        """The identity that a login with these claims would have, see `identity_claim`.

        Raises:
            Denied: with `Reason.INVALID`, if there is none.
        """
        return self._rules.identity(members)

    def _principal(self, claims: dict[str, Any], note: Note | None) -> Principal:
        now, leeway = self._clock(), self._leeway
        return self._rules.principal(
            claims, now=now, early=leeway, late=leeway, method="jwt", note=note
        )

    def __repr__(self) -> str:
        return f"<JWTVerifier {' '.join(self._algorithms)}>"
