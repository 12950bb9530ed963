"""Claims as issuers have them: where the identity and the scopes stand, and what a token must say.
All verifiers of tokens share it, and each promise is kept by all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import Enum, IntEnum
from functools import cache
from typing import Any

import pytest
from cases import cases
from handshakes import NOW, SECRET, judge, jwt_verifier, mint
from issuer import Issuer, issuing

from asgi_wsauth import (
    JWKS,
    ConfigurationError,
    Credential,
    Denied,
    JWTVerifier,
    Principal,
    Reason,
    TokenIntrospection,
    VerdictCache,
)

pytestmark = pytest.mark.anyio

INVALID, EXPIRED = Reason.INVALID, Reason.EXPIRED
CLOCK = {"clock": lambda: NOW}


@pytest.fixture(scope="module")
def _issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1")
        issuer.keep()
        yield issuer


@pytest.fixture
def issuer(_issuer: Issuer) -> Issuer:
    _issuer.clear()
    return _issuer


@cache
def keys_of(url: str) -> JWKS:
    """An issuer's, which are asked for once."""
    return JWKS(f"{url}/jwks")


def verifiers(issuer: Issuer, **options: Any) -> dict[str, Any]:
    """One of each kind, with these options."""
    oidc = {"algorithms": ["ES256"], "audience": None, "jwks": keys_of(issuer.url)}
    asking = {"client_id": "chat", "client_secret": "of the chat"}
    return {
        "jwt": jwt_verifier(**options),
        "cached": jwt_verifier(cache=VerdictCache(), **options),
        "oidc": JWTVerifier.from_oidc(issuer.url, **oidc, **CLOCK, **options),
        "introspection": TokenIntrospection(
            f"{issuer.url}/introspect", **asking, **CLOCK, **options
        ),
    }


async def verdict_of_all(issuer: Issuer, said: dict[str, Any], **options: Any) -> Any:
    """What all kinds of verifiers make of a token that says this, the second time as the first."""
    claims = {"sub": "alice", "exp": int(NOW) + 300, **said}
    issuer.tokens["opaque"] = {"active": True, **claims}
    tokens = {
        "jwt": mint(**claims),
        "cached": mint(**claims),
        "oidc": issuer.token("1", **{"iss": issuer.url, **claims}),
        "introspection": "opaque",
    }
    verdicts = {}
    for kind, verifier in verifiers(issuer, **options).items():
        for time in (1, 2):
            result = await judge(verifier, tokens[kind])
            told = (result.identity, result.scopes) if isinstance(result, Principal) else result
            verdicts[kind, time] = told
    assert len(set(verdicts.values())) == 1, verdicts
    return told


# Who it is


@cases(
    ("claims", "name", "identity"),
    [
        ({}, "sub", "alice"),
        ({"user_id": "7"}, "user_id", "7"),
        ({"user_id": 7}, "user_id", "7"),
        ({"user_id": 0}, "user_id", "0"),
        ({"user_id": 2**70}, "user_id", str(2**70)),
        ({"user_id": 7, "sub": None}, "user_id", "7"),
        ({"user_id": 7, "sub": ["no name"]}, "user_id", "7"),
        ({"a.b": "dotted", "a": {"b": "nested"}}, "a.b", "dotted"),
        ({"a.b": "dotted", "a": {"b": "nested"}}, ("a", "b"), "nested"),
        ({"https://h.example/claims": {"x-id": "7"}}, ("https://h.example/claims", "x-id"), "7"),
        ({"user_id": 7.0}, "user_id", INVALID),
        ({"user_id": True}, "user_id", INVALID),
        ({"user_id": False}, "user_id", INVALID),
        ({"user_id": ""}, "user_id", INVALID),
        ({"user_id": None}, "user_id", INVALID),
        ({"user_id": ["7"]}, "user_id", INVALID),
        ({"user_id": {"id": "7"}}, "user_id", INVALID),
        ({}, "user_id", INVALID),
        ({"a.b": "dotted"}, ("a", "b"), INVALID),
        ({"a": {"b": "nested"}}, "a.b", INVALID),
        ({"a": "b"}, ("a", "b"), INVALID),
        ({"a": ["b"]}, ("a", "b"), INVALID),
        ({"a": {"b": None}}, ("a", "b"), INVALID),
    ],
)
async def test_the_identity_stands_where_it_is_said_to(
    issuer: Issuer, claims: Any, name: Any, identity: Any
) -> None:
    told = await verdict_of_all(issuer, claims, identity_claim=name)
    assert told == ((identity, ()) if isinstance(identity, str) else identity)


# What it must say

TWO_SETS = {"token_use": "access", "client_id": {"a", "b"}}


@cases(
    ("wanted", "claims", "admitted"),
    [
        ({"use": "access"}, {"use": "access"}, True),
        ({"use": "access"}, {"use": "id"}, False),
        ({"use": "access"}, {"use": "Access"}, False),
        ({"use": "access"}, {}, False),
        ({"use": "access"}, {"use": None}, False),
        ({"use": "access"}, {"use": ["access"]}, False),
        ({"use": "access"}, {"use": {"access": "access"}}, False),
        ({"use": "access"}, {"use": []}, False),
        (TWO_SETS, {"token_use": "access", "client_id": "b"}, True),
        (TWO_SETS, {"token_use": "access", "client_id": "c"}, False),
        (TWO_SETS, {"token_use": "id", "client_id": "b"}, False),
        (TWO_SETS, {"token_use": "access"}, False),
        ({"use": ["a", "b"]}, {"use": "b"}, True),
        ({"use": ("a", "b")}, {"use": ["a", "b"]}, False),
        ({"tenant": 7}, {"tenant": 7}, True),
        ({"tenant": 7}, {"tenant": "7"}, False),
        ({"tenant": 7}, {"tenant": 7.0}, False),
        ({"tenant": "7"}, {"tenant": 7}, False),
        ({"tenant": 1}, {"tenant": True}, False),
        ({"verified": True}, {"verified": True}, True),
        ({"verified": True}, {"verified": 1}, False),
        ({"verified": True}, {"verified": "true"}, False),
        ({"verified": {False, "no"}}, {"verified": 0}, False),
        ({"n": {1, "x"}}, {"n": 1}, True),
        ({("cnf", "jkt"): "k"}, {"cnf": {"jkt": "k"}}, True),
        ({("cnf", "jkt"): "k"}, {"cnf.jkt": "k"}, False),
        ({("cnf", "jkt"): "k"}, {"cnf": "k"}, False),
        ({"cnf.jkt": "k"}, {"cnf.jkt": "k"}, True),
        ({"cnf.jkt": "k"}, {"cnf": {"jkt": "k"}}, False),
        ({"sub": {"alice", "bob"}}, {}, True),
    ],
)
async def test_a_claim_must_have_the_value_that_is_asked_for(
    issuer: Issuer, wanted: Any, claims: Any, admitted: bool
) -> None:
    told = await verdict_of_all(issuer, claims, claims=wanted)
    assert told == (("alice", ()) if admitted else INVALID)


async def test_only_a_token_that_says_what_is_asked_for_is_told_to_be_expired(
    issuer: Issuer,
) -> None:
    over = {"exp": int(NOW) - 60}
    options = {"claims": {"use": "access"}, "identity_claim": "user_id"}
    good = {"use": "access", "user_id": 7}
    assert await verdict_of_all(issuer, {**good, **over}, **options) is EXPIRED
    for wrong in ({"use": "refresh"}, {"user_id": True}):
        assert await verdict_of_all(issuer, {**good, **over, **wrong}, **options) is INVALID


@cases(
    ("options", "claims", "detail"),
    [
        (
            {"claims": {"use": "access"}},
            {"use": "refresh"},
            "its use is 'refresh', and claims= asks for 'access'",
        ),
        (
            {"claims": {"use": {"b", "a"}}},
            {"use": ["a"]},
            "its use is a list, and claims= asks for 'a', 'b'",
        ),
        (
            {"claims": {("cnf", "jkt"): "k"}},
            {"cnf": {"jkt": "x\n" * 200}},
            "its ('cnf', 'jkt') is 'x\\nx",
        ),
        ({"claims": {"use": "access"}}, {}, "it has no use, and claims= asks for 'access'"),
        ({"identity_claim": ("a", "id")}, {}, "it has no ('a', 'id')"),
        ({"identity_claim": "id"}, {"id": 1.5}, "its id is neither a string nor a whole number"),
        ({"scopes_claim": "scp"}, {"scp": 5}, "its scp is neither a string nor a list of strings"),
        ({"required_claims": [("a", "b")]}, {"a": "b"}, "it has no ('a', 'b')"),
        ({}, {"sub": ""}, "it has no sub"),
        ({}, {"jti": 5}, "its jti is not a string"),
        ({}, {"nbf": "5"}, "its nbf is not a time in seconds"),
        ({}, {"nbf": NOW + 60}, "it is not valid yet"),
        ({"leeway": 10}, {"exp": NOW - 60}, "since 50 s"),
        ({}, {"events": {}}, "it is a Security Event Token, not a login"),
        ({"audience": "a"}, {"aud": ["b"] * 4}, "its aud is 'b', 'b', 'b', ..., and audience="),
        ({"audience": "a"}, {"aud": ["b"] * 3}, "its aud is 'b', 'b', 'b', and audience="),
        ({"audience": "a"}, {"aud": "b" * 98}, f"its aud is '{'b' * 98}', and"),
        ({"audience": "a"}, {"aud": "b" * 99}, f"its aud is '{'b' * 96}..., and"),
    ],
)
async def test_the_log_is_told_which_claim_is_wrong(options: Any, claims: Any, detail: str) -> None:
    with pytest.raises(Denied) as caught:
        await jwt_verifier(**options)(Credential(mint(**claims)), None)  # type: ignore[arg-type]
    assert caught.value.detail.startswith(detail)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 200


async def test_required_claims_may_be_paths() -> None:
    verifier = jwt_verifier(required_claims=["exp", ("realm_access", "roles")])
    assert isinstance(await judge(verifier, mint(realm_access={"roles": []})), Principal)
    assert await judge(verifier, mint(realm_access={"roles": None})) is INVALID
    assert await judge(verifier, mint(exp=None, realm_access={"roles": []})) is INVALID


# What it may do

AUTH0 = ["scope", "permissions"]
KEYCLOAK = ["scope", ("realm_access", "roles"), ("resource_access", "chat.app", "roles")]


@cases(
    ("name", "claims", "scopes"),
    [
        ("scope", {"scope": "a b"}, ("a", "b")),
        (["scope"], {"scope": "a b"}, ("a", "b")),
        ("scope", {"scope": " a  b\u2003admin\tadmin "}, ("a", "b\u2003admin\tadmin")),
        ("scp", {"scp": ["a b", "c"], "scope": "x"}, ("a b", "c")),
        (AUTH0, {"scope": "openid a", "permissions": ["b", "c d"]}, ("openid", "a", "b", "c d")),
        (AUTH0, {"permissions": ["b"], "scope": "a"}, ("a", "b")),
        (AUTH0, {"permissions": ["b", "a"], "scope": "a b"}, ("a", "b")),
        (AUTH0, {"permissions": ["b"], "scope": None}, ("b",)),
        (AUTH0, {"permissions": [5], "scope": "a"}, INVALID),
        (AUTH0, {"permissions": ["b"], "scope": {"a": True}}, INVALID),
        (
            KEYCLOAK,
            {
                "scope": "openid",
                "realm_access": {"roles": ["user"]},
                "resource_access": {"chat.app": {"roles": ["speaker"]}},
            },
            ("openid", "user", "speaker"),
        ),
        (KEYCLOAK, {"scope": "openid", "realm_access": ["roles"]}, ("openid",)),
        (KEYCLOAK, {"realm_access": {"roles": {"admin": True}}}, INVALID),
        (("realm_access", "roles"), {"realm_access": {"roles": "a b"}}, ("a", "b")),
        (("realm_access", "roles"), {"realm_access.roles": ["admin"]}, ()),
        ("realm_access.roles", {"realm_access.roles": ["a"]}, ("a",)),
        ("realm_access.roles", {"realm_access": {"roles": ["admin"]}}, ()),
    ],
)
async def test_scopes_stand_in_one_claim_or_in_several(
    issuer: Issuer, name: Any, claims: Any, scopes: Any
) -> None:
    told = await verdict_of_all(issuer, claims, scopes_claim=name)
    assert told == (("alice", scopes) if isinstance(scopes, tuple) else scopes)


async def test_a_missing_claim_with_scopes_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be misspelt. A token without any scope is nothing unusual."""
    verifier = jwt_verifier(scopes_claim=["scope", ("realm_access", "roles")])
    for _ in range(3):
        assert isinstance(await judge(verifier, mint()), Principal)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "scopes_claim: a token has no ('realm_access', 'roles'), so that gives it no scopes; "
        "further ones are not reported"
    )
    assert isinstance(await judge(jwt_verifier(), mint()), Principal)
    assert len(caplog.records) == 1


# What a cache may not skip


@cases(
    "options",
    [
        {"claims": {"use": "access"}},
        {"identity_claim": "user_id"},
        {"scopes_claim": "permissions"},
    ],
)
async def test_a_signature_that_is_remembered_says_nothing_of_the_claims(options: Any) -> None:
    """Verifiers that share a cache ask for different things, in either order."""
    token = mint(use="refresh", user_id=True, permissions=5)
    for strict_is_first in (True, False):
        cache = VerdictCache()
        strict, lenient = jwt_verifier(cache=cache, **options), jwt_verifier(cache=cache)
        for _ in range(2):
            both = [strict, lenient] if strict_is_first else [lenient, strict]
            verdicts = [await judge(verifier, token) for verifier in both]
            admitted = [isinstance(verdict, Principal) for verdict in verdicts]
            assert admitted == [not strict_is_first, strict_is_first]


async def test_options_are_as_they_were_given_whatever_becomes_of_them() -> None:
    uses, names = {"access"}, ["permissions"]
    wanted: Any = {"use": uses}
    verifier = jwt_verifier(claims=wanted, scopes_claim=names, cache=VerdictCache())
    access, refresh = (mint(use=use, permissions=["a"]) for use in ("access", "refresh"))
    for _ in range(2):
        principal = await judge(verifier, access)
        assert isinstance(principal, Principal)
        assert principal.scopes == ("a",)
        assert await judge(verifier, refresh) is INVALID
        uses.add("refresh")
        wanted.clear()
        names.append("use")


async def test_names_and_values_may_be_members_of_an_enumeration(issuer: Issuer) -> None:
    class Use(str, Enum):  # noqa: UP042 - as before Python 3.11
        NAME = "use"
        ACCESS = "access"

    class Level(IntEnum):
        TWO = 2

    wanted = {Use.NAME: Use.ACCESS, "level": {Level.TWO}}
    for level, admitted in ((2, True), (1, False)):
        said = {"use": "access", "level": level}
        told = await verdict_of_all(issuer, said, claims=wanted, scopes_claim=Use.NAME)
        assert told == (("alice", ("access",)) if admitted else INVALID)


# Options that can't work

NAME = (
    'must be the name of a claim, for example "sub", or the path to it, for example '
    '("realm_access", "roles"), got'
)
VALUE = "must be a string, a whole number or a boolean, or a set of them, got"
UNSET = "; is the environment variable behind it set?"


@cases(
    ("options", "told"),
    [
        ({"identity_claim": ["sub"]}, f"identity_claim {NAME} ['sub']"),
        ({"identity_claim": ()}, f"identity_claim {NAME} ()"),
        ({"identity_claim": ("a", "")}, f"identity_claim {NAME} ('a', '')"),
        ({"identity_claim": ("a", 1)}, f"identity_claim {NAME} ('a', 1)"),
        ({"scopes_claim": []}, 'scopes_claim must name a claim, for example "scope", got []'),
        ({"scopes_claim": (("a", "b"), "c")}, f"scopes_claim {NAME} (('a', 'b'), 'c')"),
        ({"scopes_claim": ["scope", ["a"]]}, f"scopes_claim: each {NAME} ['a']"),
        ({"scopes_claim": {"scp"}}, f"scopes_claim {NAME} {{'scp'}}"),
        (
            {"required_claims": "iat"},
            "required_claims must be a list, got one string; write ['iat']",
        ),
        ({"required_claims": [""]}, f"required_claims: each {NAME} ''"),
        (
            {"claims": ["a"]},
            "claims must be a dict of claims and values, for example "
            '{"token_use": "access"}, got [\'a\']',
        ),
        ({"claims": {1: "a"}}, f"claims: each key {NAME} 1"),
        ({"claims": {"use": None}}, f"claims['use'] {VALUE} None{UNSET}"),
        ({"claims": {"use": ""}}, f"claims['use'] {VALUE} ''{UNSET}"),
        ({"claims": {"use": ["a", None]}}, f"claims['use'] {VALUE} ['a', None]{UNSET}"),
        ({"claims": {"use": 1.5}}, f"claims['use'] {VALUE} 1.5"),
        ({"claims": {"use": {"a": "b"}}}, f"claims['use'] {VALUE} {{'a': 'b'}}"),
        ({"claims": {("a", "b"): b"a"}}, f"claims[('a', 'b')] {VALUE} b'a'"),
        (
            {"claims": {("a", "b"): []}},
            "claims[('a', 'b')] must have a value that is allowed, got []",
        ),
        (
            {"claims": {"use": "access", ("use",): "refresh"}},
            "claims must have each claim once, got ('use',) twice",
        ),
    ],
)
def test_what_names_no_claim_or_no_value_is_an_error(options: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        jwt_verifier(**options)
    assert str(caught.value) == told


def test_an_error_names_the_part() -> None:
    with pytest.raises(ConfigurationError, match=r"^TokenIntrospection: claims must be"):
        TokenIntrospection(
            "https://id.example/i",
            client_id="chat",
            client_secret=SECRET,
            claims="access",  # type: ignore[arg-type]
        )
