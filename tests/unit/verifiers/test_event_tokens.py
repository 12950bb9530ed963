"""Tokens that are signed as logins are, and tell of something: logout tokens, and other Security
Event Tokens (RFC 8417). `JWTVerifier.verify_event` takes them, and nothing else; no verifier takes
one for a login.
"""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from cases import cases
from handshakes import NOW, judge, jwt_verifier, mint
from issuer import issuing

from asgi_wsauth import JWKS, Denied, JWTVerifier, Reason
from asgi_wsauth.verifiers.trust import Untrusted

pytestmark = pytest.mark.anyio

MALFORMED, INVALID, EXPIRED = Reason.MALFORMED, Reason.INVALID, Reason.EXPIRED
ISSUER = "https://id.example"
TYP = {"typ": "logout+jwt"}


def event(headers: Any = TYP, key: Any = None, **claims: Any) -> str:
    """A good token at NOW."""
    good = {"iss": ISSUER, "aud": "chat", "iat": NOW - 5, "jti": "7f3a91", "events": {"urn:x": {}}}
    sign = {} if key is None else {"key": key}
    return mint(headers=headers, **sign, **{"exp": None, **good, **claims})


def verifier(**options: Any) -> JWTVerifier:
    return jwt_verifier(**{"issuer": ISSUER, "audience": "chat", **options})


async def refusal(verifier: JWTVerifier, token: str) -> Denied:
    with pytest.raises(Denied) as caught:
        await verifier.verify_event(token, typ="logout+jwt")
    return caught.value


@cases(
    ("headers", "claims"),
    [
        (TYP, {}),
        ({"typ": "application/LOGOUT+jwt"}, {}),
        ({"typ": "JWT"}, {}),
        ({"typ": None}, {}),
        (TYP, {"exp": NOW - 29}),
        (TYP, {"iat": NOW + 30, "nbf": NOW + 30}),
        (TYP, {"aud": ["mail", "chat"], "sub": None}),
    ],
)
async def test_the_claims_of_a_good_one(headers: Any, claims: dict[str, Any]) -> None:
    found = await verifier().verify_event(event(headers, **claims), typ="logout+jwt")
    assert (found["jti"], found["events"]) == ("7f3a91", {"urn:x": {}})


async def test_what_is_asked_of_logins_is_not_asked_of_it() -> None:
    strict = verifier(
        typ="at+jwt", claims={"token_use": "access"}, required_claims=["exp"], identity_claim="oid"
    )
    assert (await strict.verify_event(event(), typ="logout+jwt"))["sub"] == "alice"


@cases(
    ("headers", "claims", "reason", "detail"),
    [
        ({"typ": "secevent+jwt"}, {}, INVALID, "its typ is not logout+jwt"),
        ({"typ": "at+jwt"}, {}, INVALID, "its typ is not logout+jwt"),
        ({"typ": "jwt+x"}, {}, INVALID, "its typ is not logout+jwt"),
        (TYP, {"events": None}, INVALID, "it tells of no events"),
        (TYP, {"events": {}}, INVALID, "it tells of no events"),
        (TYP, {"events": ["urn:x"]}, INVALID, "it tells of no events"),
        (TYP, {"jti": None}, INVALID, "it has no jti"),
        (TYP, {"jti": ""}, INVALID, "it has no jti"),
        (TYP, {"iat": None}, INVALID, "it has no iat"),
        (TYP, {"iat": "now"}, INVALID, "its iat is not a time in seconds"),
        (TYP, {"iat": NOW + 31}, INVALID, "it is not valid yet"),
        (TYP, {"nbf": NOW + 31}, INVALID, "it is not valid yet"),
        (TYP, {"exp": True}, INVALID, "its exp is not a time in seconds"),
        (TYP, {"exp": NOW - 31}, EXPIRED, "since 1 s"),
    ],
)
async def test_what_each_must_have(
    headers: Any, claims: dict[str, Any], reason: Reason, detail: str
) -> None:
    denied = await refusal(verifier(), event(headers, **claims))
    assert (denied.reason, denied.detail) == (reason, detail)


@cases("token", ["", "a.b", "rubbish", "W10.W10.", "wst_" + 43 * "a"])
async def test_what_is_no_token(token: str) -> None:
    assert (await refusal(verifier(), token)).reason is MALFORMED


@cases(
    ("token", "fault"),
    [
        (event(key=64 * "k"), "key"),
        (event({"alg": "HS384"}, key=64 * "k"), "key"),
        (event({"kid": "other"}, key=64 * "k"), "key"),
        (event(iss="https://id.example.evil"), "issuer"),
        (event(iss=None), "issuer"),
        (event(aud="mail"), "audience"),
        (event(aud=None), "audience"),
    ],
)
async def test_only_one_that_is_believed(token: str, fault: str) -> None:
    denied = await refusal(verifier(), token)
    assert isinstance(denied, Untrusted)
    assert (denied.reason, denied.fault) == (INVALID, fault)
    assert token not in str(denied)


async def test_its_refusal_can_be_pickled() -> None:
    denied = pickle.loads(pickle.dumps(Untrusted("key", "no key has its kid")))
    assert (denied.fault, denied.detail, denied.reason) == ("key", "no key has its kid", INVALID)


async def test_without_an_issuer_it_still_names_one() -> None:
    anybody = verifier(issuer=None)
    assert (await refusal(anybody, event(iss=None))).detail == "it has no iss"
    assert (await anybody.verify_event(event(), typ="logout+jwt"))["iss"] == ISSUER


async def test_it_is_signed_by_the_keys_of_the_logins() -> None:
    with issuing() as issuer:
        issuer.add_key("1")
        keys = JWKS(f"{issuer.url}/jwks", observers=[])
        published = JWTVerifier(keys, algorithms=["ES256"], audience="chat", clock=lambda: NOW)
        claims = {"iss": issuer.url, "aud": "chat", "jti": "a", "iat": NOW, "events": {"urn:x": {}}}
        token = issuer.token("1", **claims)
        assert await published.verify_event(token, typ="logout+jwt")
        with issuing() as other:
            other.add_key("1")
            denied = await refusal(published, other.token("1", **claims))
            assert isinstance(denied, Untrusted)
        issuer.behaviour["*"] = "fail"
        empty = JWTVerifier(
            JWKS(f"{issuer.url}/jwks", observers=[]), algorithms=["ES256"], audience="chat"
        )
        assert (await refusal(empty, token)).reason is Reason.KEYS_UNAVAILABLE


@cases("headers", [TYP, {"typ": "JWT"}, {"typ": "secevent+jwt"}])
async def test_it_is_no_login(headers: Any) -> None:
    token = event(headers, exp=NOW + 300)
    assert await judge(verifier(), token) is INVALID


async def test_a_login_is_no_event() -> None:
    token = mint(iss=ISSUER, aud="chat", iat=NOW, jti="a")
    assert (await refusal(verifier(), token)).detail == "it tells of no events"


@cases(
    ("claim", "members", "identity"),
    [
        ("sub", {"sub": "alice"}, "alice"),
        ("user_id", {"sub": "x", "user_id": 7}, "7"),
        (("a", "b"), {"a": {"b": "c"}}, "c"),
        ("oid", {"sub": "alice"}, INVALID),
        ("sub", {"sub": ["alice"]}, INVALID),
    ],
)
def test_the_identity_is_where_the_logins_have_it(
    claim: Any, members: dict[str, Any], identity: Any
) -> None:
    named = verifier(identity_claim=claim)
    if identity is INVALID:
        with pytest.raises(Denied):
            named.identity_in(members)
    else:
        assert named.identity_in(members) == identity
