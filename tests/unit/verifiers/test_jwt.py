"""JWTVerifier: what it admits, what it refuses, what it leaves to others."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import inspect
import json
import pathlib
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cases import cases
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from handshakes import (
    NOW,
    SECRET,
    App,
    admits,
    authenticator,
    drive,
    judge,
    jwt_verifier,
    mint,
    websocket,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from keys import ED_KEY, P256_KEY, P384_KEY, P521_KEY, RSA_KEY, RSA_OTHER, RSA_SHORT
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Credential,
    Denied,
    JWTVerifier,
    Principal,
    Reason,
    VerdictCache,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

CONN = HTTPConnection(websocket())
OTHER_SECRET = SECRET[::-1]
INVALID, EXPIRED, NOT_MINE = Reason.INVALID, Reason.EXPIRED, None


def public(key: Any) -> str:
    """The public half as PEM."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(pem.decode())


def private(key: Any) -> str:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return str(pem.decode())


RSA_JWK = RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True)
OCT_JWK = {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()}


def assemble(header: Any, payload: Any, signature: bytes = b"") -> str:
    """A token of any parts: bytes as they are, everything else as JSON."""
    parts = [p if isinstance(p, bytes) else json.dumps(p).encode() for p in (header, payload)]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature)
    )


CLAIMS = {"sub": "alice", "exp": int(NOW) + 300}


# What is admitted


@cases(
    ("algorithm", "key"),
    [
        *[(name, RSA_KEY) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")],
        ("ES256", P256_KEY),
        ("ES384", P384_KEY),
        ("ES512", P521_KEY),
        ("EdDSA", ED_KEY),
    ],
)
async def test_public_key_algorithms(algorithm: str, key: Any) -> None:
    for form in (public(key), public(key).encode()):
        verifier = jwt_verifier(form, algorithms=[algorithm])
        assert await admits(verifier, mint(key, algorithm=algorithm))
        # Somebody else's key of the same kind
        other = RSA_OTHER if algorithm[1] == "S" and algorithm[0] in "RP" else None
        if other is not None:
            assert await judge(verifier, mint(other, algorithm=algorithm)) is INVALID


@cases("algorithm", ["HS256", "HS384", "HS512"])
async def test_secrets(algorithm: str) -> None:
    secret = SECRET * 2  # HS512 takes 64 bytes
    for form in (secret, secret.encode()):
        verifier = jwt_verifier(form, algorithms=[algorithm])
        assert await admits(verifier, mint(secret, algorithm=algorithm))
        assert await judge(verifier, mint(SECRET * 3, algorithm=algorithm)) is INVALID


@cases(("algorithm", "size"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
async def test_a_secret_may_be_as_short_as_its_hash(algorithm: str, size: int) -> None:
    secret = (SECRET * 2)[:size]
    verifier = jwt_verifier(secret, algorithms=[algorithm])
    assert await admits(verifier, mint(secret, algorithm=algorithm))
    with pytest.raises(
        ConfigurationError,
        match=f"key for {algorithm} must have at least {size} bytes, got {size - 1};",
    ):
        jwt_verifier(secret[1:], algorithms=[algorithm])


@cases(
    ("jwk", "algorithm", "key"),
    [
        (RSA_JWK, "RS256", RSA_KEY),
        (RSA_JWK, "PS512", RSA_KEY),
        (RSA_JWK | {"alg": "RS256", "use": "sig"}, "RS256", RSA_KEY),
        (ECAlgorithm.to_jwk(P384_KEY.public_key(), as_dict=True), "ES384", P384_KEY),
        (OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "EdDSA", ED_KEY),
        (jwt.PyJWK(RSA_JWK, "RS256"), "RS256", RSA_KEY),
        (OCT_JWK, "HS256", SECRET),
    ],
)
async def test_json_web_keys(jwk: Any, algorithm: str, key: Any) -> None:
    assert await admits(jwt_verifier(jwk, algorithms=[algorithm]), mint(key, algorithm=algorithm))


async def test_what_the_principal_says() -> None:
    token = mint(iat=int(NOW) - 5, jti="t1", sid="s1", scope="chat:read chat:write", x=[1])
    principal = await judge(jwt_verifier(leeway=10), token)
    assert isinstance(principal, Principal)
    assert principal.identity == principal.display_name == "alice"
    assert principal.method == "jwt"
    assert principal.scopes == ("chat:read", "chat:write")
    assert (principal.token_id, principal.session_id) == ("t1", "s1")
    assert principal.issued_at == NOW - 5
    assert principal.expires_at == NOW + 300 + 10  # with the leeway: from then on it is refused
    assert principal.claims["x"] == [1]


@cases(
    ("claims", "options", "scopes"),
    [
        ({}, {}, ()),
        ({"scope": ""}, {}, ()),
        ({"scope": "a  b"}, {}, ("a", "b")),
        ({"scope": ["a", "b c"]}, {}, ("a", "b c")),
        ({"scp": ["a"]}, {"scopes_claim": "scp"}, ("a",)),
        ({"scope": 5}, {}, INVALID),
        ({"scope": ["a", 5]}, {}, INVALID),
        ({"scope": {"a": 1}}, {}, INVALID),
    ],
)
async def test_scopes_are_a_string_or_a_list(claims: Any, options: Any, scopes: Any) -> None:
    result = await judge(jwt_verifier(**options), mint(**claims))
    assert (result.scopes if isinstance(result, Principal) else result) == scopes


async def test_rotation_accepts_every_key_of_the_list() -> None:
    verifier = jwt_verifier([SECRET, OTHER_SECRET])
    assert await admits(verifier, mint(SECRET))
    assert await admits(verifier, mint(OTHER_SECRET))
    assert await judge(verifier, mint(SECRET * 2)) is INVALID


def pickled(verifier: JWTVerifier) -> JWTVerifier:
    copied: JWTVerifier = pickle.loads(pickle.dumps(verifier))
    return copied


@cases("copied", [copy.copy, copy.deepcopy, pickled])
async def test_a_copy_verifies_as_it_does(copied: Callable[[JWTVerifier], JWTVerifier]) -> None:
    """A process that is spawned, not forked, is given one."""
    verifier = copied(JWTVerifier([SECRET, OTHER_SECRET], algorithms=["HS256"]))
    claims = {"exp": time.time() + 300}
    assert await admits(verifier, mint(SECRET, **claims))
    assert await admits(verifier, mint(OTHER_SECRET, **claims))
    assert await judge(verifier, mint(SECRET * 2, **claims)) is INVALID


async def test_rotation_across_algorithms() -> None:
    verifier = jwt_verifier([public(RSA_KEY), public(P256_KEY)], algorithms=["RS256", "ES256"])
    assert await admits(verifier, mint(RSA_KEY, algorithm="RS256"))
    assert await admits(verifier, mint(P256_KEY, algorithm="ES256"))


async def test_a_kid_names_the_key() -> None:
    keys = [RSA_JWK | {"kid": "a"}, jwt.PyJWK(RSA_JWK | {"kid": "b"}, "RS256")]
    verifier = jwt_verifier(keys, algorithms=["RS256"])
    for kid, verdict in (("a", True), ("b", True), ("c", False)):
        token = mint(RSA_KEY, algorithm="RS256", headers={"kid": kid})
        assert await admits(verifier, token) is verdict
    assert await admits(verifier, mint(RSA_KEY, algorithm="RS256"))  # none given: all are tried
    unnamed = jwt_verifier(public(RSA_KEY), algorithms=["RS256"])
    assert await admits(unnamed, mint(RSA_KEY, algorithm="RS256", headers={"kid": "anything"}))


@cases(
    ("kid", "detail"),
    [
        ("a", "no key verifies its signature"),
        ("b", "no key has its kid"),
        (None, "no key verifies its signature"),
    ],
)
async def test_the_log_is_told_what_the_keys_made_of_it(kid: str | None, detail: str) -> None:
    verifier = jwt_verifier(RSA_JWK | {"kid": "a"}, algorithms=["RS256"])
    headers = {"kid": kid} if kid else None
    with pytest.raises(Denied, match=rf": {detail}$"):
        await verifier(Credential(mint(RSA_OTHER, algorithm="RS256", headers=headers)), CONN)
    unnamed = jwt_verifier(public(RSA_KEY), algorithms=["RS256"])
    with pytest.raises(Denied, match=r": no key verifies its signature$"):
        await unnamed(Credential(mint(RSA_OTHER, algorithm="RS256", headers=headers)), CONN)


@cases(
    ("token", "detail"),
    [
        (mint(SECRET * 2, algorithm="HS384"), "its alg is not among the algorithms"),
        (mint(headers={"kid": "a b", "typ": "at+jwt"}), "no key has its kid"),
        (mint(headers={"typ": "JWT"}), "its typ is not at+jwt"),
        (
            mint(headers={"typ": "at+jwt"}, aud="mail"),
            "its aud is 'mail', and audience= asks for 'chat'",
        ),
    ],
)
async def test_the_log_is_told_what_is_wrong_with_a_token(token: str, detail: str) -> None:
    verifier = jwt_verifier(typ="application/at+JWT", audience="chat")
    with pytest.raises(Denied) as caught:
        await verifier(Credential(token), CONN)
    assert (caught.value.reason, caught.value.detail) == (INVALID, detail)


async def test_it_never_waits() -> None:
    """A static key needs no event loop at all: the first step is the last."""
    work = jwt_verifier()(Credential(mint()), CONN)
    with pytest.raises(StopIteration):
        work.send(None)


# Algorithms and keys


@cases("alg", ["none", "None", "NONE", "nOnE"])
@cases("signature", [b"", b"forged"])
async def test_alg_none(alg: str, signature: bytes) -> None:
    token = assemble({"alg": alg, "typ": "JWT"}, CLAIMS, signature)
    assert await judge(jwt_verifier(), token) is INVALID


@cases(
    "public_form", [public(RSA_KEY).encode(), json.dumps(RSA_JWK).encode(), RSA_JWK["n"].encode()]
)
async def test_a_public_key_is_no_secret(public_form: bytes) -> None:
    signed = assemble({"alg": "HS256", "typ": "JWT"}, CLAIMS).rstrip(".")
    signature = hmac.new(public_form, signed.encode(), hashlib.sha256).digest()
    token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for key in (public(RSA_KEY), RSA_JWK):
        assert await judge(jwt_verifier(key, algorithms=["RS256"]), token) is INVALID
    both = jwt_verifier([public(RSA_KEY), public(P256_KEY)], algorithms=["RS256", "ES256"])
    assert await judge(both, token) is INVALID


def test_families_are_never_mixed() -> None:
    with pytest.raises(ConfigurationError, match=r"algorithms: HMAC and public-key"):
        jwt_verifier([SECRET, public(RSA_KEY)], algorithms=["HS256", "RS256"])


async def test_the_keys_own_algorithm_counts() -> None:
    verifier = jwt_verifier(
        [RSA_JWK | {"alg": "RS256"}, public(P256_KEY), public(P384_KEY)],
        algorithms=["RS256", "ES256", "ES384"],
    )
    # Signed with a listed algorithm by a key that declares another, or has another curve
    assert await judge(verifier, mint(RSA_KEY, algorithm="RS512")) is INVALID
    swapped = mint(P256_KEY, algorithm="ES256").split(".")
    swapped[0] = assemble({"alg": "ES384"}, {}).split(".")[0]
    assert await judge(verifier, ".".join(swapped)) is INVALID


async def test_a_key_serves_no_algorithm_that_it_does_not_declare() -> None:
    keys = [RSA_JWK | {"alg": "RS256"}, public(RSA_OTHER)]
    verifier = jwt_verifier(keys, algorithms=["RS256", "RS512"])
    assert await admits(verifier, mint(RSA_KEY, algorithm="RS256"))
    assert await judge(verifier, mint(RSA_KEY, algorithm="RS512")) is INVALID
    assert await admits(verifier, mint(RSA_OTHER, algorithm="RS512"))


@cases("name", ["jku", "x5u", "jwk", "x5c"])
async def test_keys_in_the_header_are_ignored(name: str) -> None:
    attacker = RSAAlgorithm.to_jwk(RSA_OTHER.public_key(), as_dict=True)
    verifier = jwt_verifier(public(RSA_KEY), algorithms=["RS256"])
    with socket.create_server(("127.0.0.1", 0)) as attackers_server:
        values = {"jwk": attacker, "x5c": ["MIIB"]}
        address = f"http://127.0.0.1:{attackers_server.getsockname()[1]}/keys"
        header = {name: values.get(name, address)}
        assert await judge(verifier, mint(RSA_OTHER, algorithm="RS256", headers=header)) is INVALID
        assert await admits(verifier, mint(RSA_KEY, algorithm="RS256", headers=header))
        attackers_server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody asked it for anything
            attackers_server.accept()


@cases(
    "kid",
    [
        "../../etc/passwd",
        "keys/../../x",
        "' OR 1=1 --",
        "a;DROP TABLE keys",
        "a\0b",
        "a\r\nb",
        "k" * 10_000,
        "",
        "ключ",
        True,
        ["a"],
        {"a": 1},
    ],
)
async def test_a_kid_that_no_key_could_have(kid: Any) -> None:
    parts = assemble({"alg": "HS256", "kid": kid}, CLAIMS).rsplit(".", 1)[0]
    token = f"{parts}.{_sign(parts)}"
    with pytest.raises(Denied) as caught:
        await jwt_verifier()(Credential(token), CONN)
    assert caught.value.reason is INVALID
    assert len(caught.value.detail) < 100
    assert not kid or str(kid)[:8] not in caught.value.detail


async def test_the_longest_kid() -> None:
    longest = "k" * 256
    assert await admits(jwt_verifier(), mint(headers={"kid": longest}))
    assert await judge(jwt_verifier(), mint(headers={"kid": f"{longest}k"})) is INVALID


def _sign(parts: str) -> str:
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(parts.encode(), SECRET.encode())
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


@cases(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["x-unknown"], "x-unknown": True},
        {"crit": []},
        {"crit": "b64"},
        {"crit": [5]},
        {"crit": ["b64"]},
        {"b64": False},
        {"b64": False, "crit": ["b64"]},
    ],
)
async def test_critical_headers(header: Any) -> None:
    parts = assemble({"alg": "HS256", **header}, CLAIMS).rsplit(".", 1)[0]
    assert await judge(jwt_verifier(), f"{parts}.{_sign(parts)}") is INVALID


@cases(
    "token",
    [
        "a.b.c.d.e",
        f"{mint()}.{mint()}",
        ".".join(mint().split(".")[:2]),
        json.dumps({"payload": "e30", "signatures": []}),
        "eyJhbGciOiJIUzI1NiJ9.éé.x",
        "wst_0123456789",
        "",
        "..",
        ".e30.x",
        "bm90IGpzb24.e30.x",
        "W10.e30.x",  # a header that is a list
        "a.e30.x",  # no base64url of anything
        assemble(b"[" * 6000, {}),  # deeper than Python's stack
        assemble(b'{"a":' + b"9" * 5000 + b"}", {}),  # longer than its integers
    ],
)
async def test_other_shapes_are_not_mine(token: str) -> None:
    assert await judge(jwt_verifier(), token) is NOT_MINE


@cases("payload", [b"", b"[]", b"5", b"no json", b"\xff\xfe", b"[" * 6000, b"null"])
async def test_a_payload_that_is_no_object(payload: bytes) -> None:
    parts = assemble({"alg": "HS256"}, payload).rsplit(".", 1)[0]
    token = f"{parts}.{_sign(parts)}"
    assert await judge(jwt_verifier(), token) is INVALID
    assert await judge(jwt_verifier(issuer="https://id.example"), token) is NOT_MINE


async def test_only_canonical_base64url_is_a_token() -> None:
    head, payload, signature = mint().split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(signature[-1])
    same_bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    assert await judge(jwt_verifier(), f"{head}.{payload}.{signature[:-1]}{same_bits}") is INVALID
    assert await judge(jwt_verifier(), f"{head}.{payload}.{signature}=") is NOT_MINE


# Claims


@cases(
    ("claims", "verdict"),
    [
        ({"exp": None}, INVALID),
        ({"sub": None}, INVALID),
        ({"sub": ""}, INVALID),
        ({"sub": True}, INVALID),
        ({"sub": 5.5}, INVALID),
        ({"exp": "1900000000"}, INVALID),
        ({"exp": "1"}, INVALID),
        ({"exp": float("nan")}, INVALID),
        ({"exp": float("inf")}, INVALID),
        ({"exp": float("-inf")}, INVALID),
        ({"exp": 10**400}, INVALID),
        ({"exp": -(10**400)}, INVALID),
        ({"exp": 1_800_000_000_000}, INVALID),  # milliseconds
        ({"exp": True}, INVALID),
        ({"exp": False}, INVALID),
        ({"exp": [1900000000]}, INVALID),
        ({"exp": {}}, INVALID),
        ({"exp": 0}, EXPIRED),
        ({"exp": -1}, EXPIRED),
        ({"exp": 0.5}, EXPIRED),
        ({"iat": "1"}, INVALID),
        ({"iat": True}, INVALID),
        ({"nbf": "1"}, INVALID),
        ({"nbf": float("nan")}, INVALID),
        ({"jti": 5}, INVALID),
        ({"sid": 5}, INVALID),
    ],
)
async def test_claims_of_the_wrong_kind(claims: Any, verdict: Reason) -> None:
    assert await judge(jwt_verifier(), mint(**claims)) is verdict


def signed(claims: Any) -> str:
    """A token with claims that PyJWT would not sign."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), SECRET, "HS256")


async def test_a_null_claim_is_absent() -> None:
    """For tokens."""
    absent = dict.fromkeys(("exp", "nbf", "iat", "jti", "sid", "iss", "aud", "scope"))
    token = signed({"sub": "alice", **absent})
    for cache in (None, VerdictCache()):
        lenient = jwt_verifier(required_claims=["sub"], cache=cache)
        for _ in range(2):
            principal = await judge(lenient, token)
            assert isinstance(principal, Principal)
            assert (principal.issued_at, principal.expires_at) == (None, None)
            assert (principal.token_id, principal.session_id) == (None, None)
            assert (principal.issuer, principal.scopes) == (None, ())
    assert await judge(jwt_verifier(), token) is INVALID  # its exp is missing
    for name in absent.keys() - {"exp"}:
        asks = jwt_verifier(required_claims=[name])
        assert await judge(asks, signed({**CLAIMS, name: None})) is INVALID
    assert await judge(jwt_verifier(), signed({**CLAIMS, "sub": None})) is INVALID
    assert await judge(jwt_verifier(issuer="https://a"), token) is NOT_MINE
    assert await judge(jwt_verifier(audience="chat", required_claims=[]), token) is INVALID


@cases(
    ("told", "known"),
    [("https://id.example", "https://id.example"), ("", ""), (None, None)],
)
async def test_the_issuer_is_the_tokens_iss(told: Any, known: Any) -> None:
    for options in ({}, {"cache": VerdictCache()}, {"issuer": told} if told else {}):
        verifier = jwt_verifier(**options)
        for _ in range(2):
            principal = await judge(verifier, signed({**CLAIMS, "iss": told}))
            assert isinstance(principal, Principal)
            assert principal.issuer == known


async def test_required_claims() -> None:
    verifier = jwt_verifier(required_claims=["exp", "tenant"])
    assert await admits(verifier, mint(tenant="a"))
    assert await judge(verifier, mint()) is INVALID
    assert await judge(verifier, mint(tenant=None)) is INVALID
    lenient = jwt_verifier(required_claims=())
    without_end = await judge(lenient, mint(exp=None))
    assert isinstance(without_end, Principal)
    assert without_end.expires_at is None
    assert await judge(lenient, mint(sub=None)) is INVALID  # it is the identity


@cases(
    ("claims", "verdict"),
    [
        ({"exp": int(NOW) - 29}, None),
        ({"exp": int(NOW) - 30}, EXPIRED),
        ({"exp": 253402300799}, None),  # the last second of the year 9999
        ({"exp": 253402300800}, INVALID),
        ({"exp": int(NOW) - 3000}, EXPIRED),
        ({"nbf": int(NOW) + 30}, None),
        ({"nbf": int(NOW) + 31}, INVALID),
        ({"iat": int(NOW) + 31}, INVALID),
        ({"nbf": int(NOW) + 31, "exp": int(NOW) - 31}, INVALID),
        # Refreshing would not mend these
        ({"exp": int(NOW) - 31, "aud": "other"}, INVALID),
        ({"exp": int(NOW) - 31, "sub": ""}, INVALID),
        ({"exp": int(NOW) - 31, "scope": 5}, INVALID),
    ],
)
async def test_times_and_the_leeway(claims: Any, verdict: Reason | None) -> None:
    result = await judge(jwt_verifier(leeway=30), mint(**claims))
    assert (None if isinstance(result, Principal) else result) is verdict


async def test_the_signature_is_judged_before_the_times() -> None:
    assert await judge(jwt_verifier(), mint(OTHER_SECRET, exp=1)) is INVALID
    assert await judge(jwt_verifier(), mint(exp=1)) is EXPIRED


@cases(
    ("audience", "aud", "verdict"),
    [
        ("chat", "chat", None),
        ("chat", ["mail", "chat"], None),
        (["chat", "voice"], "voice", None),
        ("chat", ["mail", "news"], INVALID),
        ("chat", "Chat", INVALID),
        ("chat", "chat.evil", INVALID),
        ("chat", None, INVALID),
        ("chat", [], INVALID),
        ("chat", 5, INVALID),
        ("chat", ["chat", 5], INVALID),
        (None, "chat", INVALID),  # RFC 7519 section 4.1.3: it was made for somebody else
        (None, None, None),
    ],
)
async def test_audience(audience: Any, aud: Any, verdict: Reason | None) -> None:
    result = await judge(jwt_verifier(audience=audience), mint(aud=aud))
    assert (None if isinstance(result, Principal) else result) is verdict


@cases(
    "issuer", ["https://id.exampl", "https://ID.example", "https://id.example/", "x", "", 5, ["a"]]
)
async def test_another_issuer_is_not_mine(issuer: Any) -> None:
    parts = assemble({"alg": "HS256"}, CLAIMS | {"iss": issuer}).rsplit(".", 1)[0]
    verifier = jwt_verifier(issuer="https://id.example")
    assert await judge(verifier, f"{parts}.{_sign(parts)}") is NOT_MINE
    assert await judge(verifier, mint()) is NOT_MINE  # no issuer at all
    assert await admits(verifier, mint(iss="https://id.example"))
    assert await admits(jwt_verifier(issuer=["a", "b"]), mint(iss="b"))


async def test_the_key_of_another_issuer() -> None:
    """Same `kid`, two issuers: the issuer chooses the verifier, and its keys alone count."""
    other = RSAAlgorithm.to_jwk(RSA_OTHER.public_key(), as_dict=True)
    ours = jwt_verifier(RSA_JWK | {"kid": "1"}, algorithms=["RS256"], issuer="a")
    theirs = jwt_verifier(other | {"kid": "1"}, algorithms=["RS256"], issuer="b")
    forged = mint(RSA_OTHER, algorithm="RS256", iss="a", headers={"kid": "1"})
    assert await judge(ours, forged) is INVALID
    assert await judge(theirs, forged) is NOT_MINE


@cases(
    ("typ", "verdict"),
    [
        ("at+jwt", None),
        ("application/at+jwt", None),
        ("AT+JWT", None),
        ("JWT", INVALID),
        ("id+jwt", INVALID),
        ("", INVALID),
        (5, INVALID),
    ],
)
async def test_type_of_token(typ: Any, verdict: Reason | None) -> None:
    parts = assemble({"alg": "HS256", "typ": typ}, CLAIMS).rsplit(".", 1)[0]
    for asked in ("at+jwt", "application/AT+JWT"):
        result = await judge(jwt_verifier(typ=asked), f"{parts}.{_sign(parts)}")
        assert (None if isinstance(result, Principal) else result) is verdict


NO_LOGINS = ["logout+jwt", "secevent+jwt", "dpop+jwt"]


@cases("asked", [None, "at+jwt", "JWT", *NO_LOGINS])
@cases("form", ["{}", "application/{}", "Application/{}"])
@cases("name", NO_LOGINS)
async def test_what_says_that_it_is_another_thing_than_a_login(
    name: str, form: str, asked: str | None
) -> None:
    """RFC 8725 section 3.11. The same keys sign logout tokens, security events and DPoP proofs."""
    for typ in (form.format(name), form.format(name.upper())):
        verifier = jwt_verifier(typ=asked, cache=VerdictCache())
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                await verifier(Credential(mint(headers={"typ": typ})), CONN)
            assert caught.value.reason is INVALID
            assert caught.value.detail == "its typ is not that of a login"


@cases(
    ("events", "verdict"),
    [
        ({"http://schemas.openid.net/event/backchannel-logout": {}}, INVALID),
        ({}, INVALID),
        ([], INVALID),
        ("", INVALID),
        (False, INVALID),
        (None, None),  # a null claim is absent
    ],
)
async def test_what_tells_of_events_is_no_login(events: Any, verdict: Reason | None) -> None:
    """RFC 8417 section 2.2: it need not have a `typ` (OpenID Connect Back-Channel Logout 1.0
    section 2.4)."""
    token = signed({**CLAIMS, "events": events})
    for typ in (None, "JWT"):
        verifier = jwt_verifier(typ=typ, cache=VerdictCache())
        for _ in range(2):
            result = await judge(verifier, token)
            assert (None if isinstance(result, Principal) else result) is verdict


@cases("typ", [None, "", "JWT", "at+jwt", "logout", "jwt+logout", 5, ["logout+jwt"]])
async def test_every_other_type_may_be_a_login(typ: Any) -> None:
    parts = assemble({"alg": "HS256", "typ": typ}, CLAIMS).rsplit(".", 1)[0]
    assert await admits(jwt_verifier(), f"{parts}.{_sign(parts)}")


@cases(
    ("aud", "asked", "detail"),
    [
        ("mail", "chat", "its aud is 'mail', and audience= asks for 'chat'"),
        (["a", "b"], ["c", "d"], "its aud is 'a', 'b', and audience= asks for 'c', 'd'"),
        (["a"] * 50, "c", "its aud is 'a', 'a', 'a', ..., and audience= asks for 'c'"),
        ("a" * 500, "c", f"its aud is '{'a' * 96}..., and audience= asks for 'c'"),
        ("\x1b\n\u202e", "c", r"its aud is '\x1b\n\u202e', and audience= asks for 'c'"),
        (None, "chat", "it has no aud, and audience= asks for 'chat'"),
        ([], "chat", "it has no aud, and audience= asks for 'chat'"),
        ("chat", None, "its aud is 'chat', but no audience= is set"),
        (["chat"], None, "its aud is 'chat', but no audience= is set"),
        (5, "chat", "its aud is neither a string nor a list of strings"),
        (["chat", 5], "chat", "its aud is neither a string nor a list of strings"),
        ({"chat": 1}, None, "its aud is neither a string nor a list of strings"),
    ],
)
async def test_the_log_is_told_which_audience_came_and_which_is_wanted(
    aud: Any, asked: Any, detail: str
) -> None:
    with pytest.raises(Denied) as caught:
        await jwt_verifier(audience=asked)(Credential(signed({**CLAIMS, "aud": aud})), CONN)
    assert (caught.value.reason, caught.value.detail) == (INVALID, detail)


@cases("aud", ["", []])
async def test_an_audience_that_names_nobody_is_absent(aud: Any) -> None:
    """Ory Hydra writes `[]` for a client that has none."""
    assert await admits(jwt_verifier(), signed({**CLAIMS, "aud": aud}))
    assert await judge(jwt_verifier(audience="chat"), signed({**CLAIMS, "aud": aud})) is INVALID


# Configuration


@cases(
    ("key", "options", "named"),
    [
        # RFC 7518 section 3.2
        ("short", {}, "key for HS256 must have at least 32 bytes, got 5;"),
        (SECRET[:31], {}, "key for HS256 must have at least 32 bytes, got 31;"),
        (
            SECRET,
            {"algorithms": ["HS256", "HS512"]},
            "key for HS512 must have at least 64 bytes, got 40;",
        ),
        ("", {}, "key for HS256 must not be empty"),
        (b"", {}, "key for HS256 must not be empty"),
        ("a-string-secret-at-least-256-bits-long", {}, "placeholder"),
        ("your-256-bit-secret-your-256-bit-secret", {}, "placeholder"),
        ("a" * 64, {}, "placeholder"),
        (None, {}, "key must be a secret"),
        ([], {}, "key must be a secret"),
        ([None], {}, "got None; is the environment variable"),
        # Keys that can't serve
        (public(RSA_KEY), {}, "key: number 1 fits none"),
        (json.dumps(RSA_JWK), {}, "key: number 1 fits none"),
        (SECRET, {"algorithms": ["RS256"]}, "key: number 1 fits none"),
        (b"\x00" * 64, {"algorithms": ["EdDSA"]}, "key: number 1 fits none"),
        (public(P256_KEY), {"algorithms": ["ES384"]}, "key: number 1 fits none"),
        ([public(RSA_KEY), 5], {"algorithms": ["RS256"]}, "key number 2 must be a secret"),
        (OCT_JWK, {"algorithms": ["RS256"]}, "key: number 1 fits none"),
        ({"kty": "oct"}, {}, "key: number 1 fits none"),
        ({}, {}, "key: number 1 fits none"),
        (RSA_JWK | {"alg": "RS256"}, {"algorithms": ["RS512"]}, "the key is for RS256"),
        (RSA_JWK | {"use": "enc"}, {"algorithms": ["RS256"]}, '"use"'),
        (RSA_JWK | {"use": "tls"}, {"algorithms": ["RS256"]}, '"use"'),
        (public(RSA_KEY), {"algorithms": ["RS256", "ES256"]}, "algorithms: no key fits ES256"),
        (private(RSA_KEY), {"algorithms": ["RS256"]}, "private key"),
        (private(P256_KEY), {"algorithms": ["ES256"]}, "private key"),
        (private(ED_KEY), {"algorithms": ["EdDSA"]}, "private key"),
        (RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True), {"algorithms": ["RS256"]}, "private key"),
        (
            public(RSA_SHORT),
            {"algorithms": ["RS256"]},
            "key for RS256: The RSA key is 1024 bits",
        ),
        # Algorithms
        (SECRET, {"algorithms": []}, "algorithms"),
        (SECRET, {"algorithms": "HS256"}, "algorithms must be a list, got one string"),
        (SECRET, {"algorithms": ["none"]}, "RS512, got 'none'"),
        (SECRET, {"algorithms": ["None"]}, "RS512, got 'None'"),
        (SECRET, {"algorithms": ["HS1"]}, "algorithms must be some of ES256, "),
        (SECRET, {"algorithms": [5]}, "RS512, got 5"),
        # The rest
        (
            SECRET,
            {"audience": []},
            "audience must be a string or a list of strings, got []; leave it out",
        ),
        (
            SECRET,
            {"audience": ""},
            "audience must be a string or a list of strings, got ''; leave it out",
        ),
        (
            SECRET,
            {"issuer": [""]},
            "issuer must be a string or a list of strings, got ['']; leave it out",
        ),
        (SECRET, {"leeway": -1}, "of at least 0 and at most 3600, got -1"),
        (SECRET, {"leeway": float("nan")}, "of at least 0 and at most 3600, got nan"),
        (SECRET, {"leeway": 3601}, "of at least 0 and at most 3600, got 3601"),
    ],
)
def test_bad_configuration(key: Any, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        jwt_verifier(key, **options)
    assert named in str(caught.value)
    for secret in key if isinstance(key, list) else [key]:
        assert not isinstance(secret, str) or len(secret) < 10 or secret not in str(caught.value)


class SecretStr:
    """As pydantic's."""

    def get_secret_value(self) -> str:
        return SECRET


@cases("algorithm", ["HS256", "RS256"])
@cases(
    ("key", "told"),
    [
        (None, "got None; is the environment variable behind it set?"),
        (SecretStr(), "got a SecretStr; write .get_secret_value()"),
        (pathlib.Path("key.pem"), f"got a {type(pathlib.Path()).__name__}; write .read_text()"),
        ("/run/secrets/jwt", "got the path of a file; write Path(path).read_text()"),
        ("./keys/public.pem\n", "got the path of a file; write Path(path).read_text()"),
        (b"C:\\keys\\public.pem", "got the path of a file; write Path(path).read_text()"),
        ("key.pem", "got the path of a file; write Path(path).read_text()"),
        ("https://id.example/jwks.json", "got a URL; write JWKS(url)"),
        ({"keys": [OCT_JWK]}, 'got a set of them; write ...["keys"]'),
        (public(RSA_KEY).replace("\n", "\\n"), r'write .replace("\\n", "\n")'),
        (5, "got an int"),
        (bytearray(40), "got a bytearray"),
    ],
)
def test_what_only_leads_to_a_key_is_named(key: Any, told: str, algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^key must be ") as caught:
        jwt_verifier(key, algorithms=[algorithm])
    assert str(caught.value).endswith(told)
    with pytest.raises(ConfigurationError, match=r"^key number 2 must be "):
        jwt_verifier([SECRET, key], algorithms=["HS256"])


@cases("algorithm", ["HS256", "RS256"])
@cases("form", [str, str.encode])
def test_a_jwk_as_text_is_to_be_read_first(form: Any, algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match=r"; it is JSON, so write json\.loads\(\.\.\.\)$"):
        jwt_verifier(form(json.dumps(OCT_JWK)), algorithms=[algorithm])


@pytest.mark.anyio
@cases("end", ["{", "{}", "[1]"])
async def test_a_secret_may_begin_as_json_does(end: str) -> None:
    secret = f"{end}{SECRET}"
    assert await admits(jwt_verifier(secret), mint(key=secret))


@pytest.mark.anyio
@cases(("key", "algorithm"), [(RSA_KEY, "RS256"), (P256_KEY, "ES256")])
async def test_a_key_of_cryptography_is_one(key: Any, algorithm: str) -> None:
    token = mint(key=key, algorithm=algorithm)
    for given in (key.public_key(), [key.public_key()]):
        assert await admits(jwt_verifier(given, algorithms=[algorithm]), token)
    with pytest.raises(ConfigurationError, match="private key"):
        jwt_verifier(key, algorithms=[algorithm])


@cases("name", ["hs256", "Rs256", "none", "HS1", 5, None])
def test_an_unknown_algorithm_is_told_the_known_ones(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^algorithms must be some of .*HS256.*RS256"):
        jwt_verifier(algorithms=[name])


def test_what_is_wrong_with_a_key_is_told_without_it() -> None:
    with pytest.raises(ConfigurationError, match="key: number 1 fits none") as caught:
        jwt_verifier({"k": OCT_JWK["k"]})
    assert OCT_JWK["k"][:8] not in str(caught.value)


def test_its_repr_names_algorithms_and_no_key() -> None:
    assert repr(jwt_verifier()) == "<JWTVerifier HS256>"
    several = jwt_verifier(public(RSA_KEY), algorithms=["RS256", "PS256"])
    assert repr(several) == "<JWTVerifier RS256 PS256>"


@cases("leeway", [0, 0.5, 3600])
async def test_the_leeway_may_be_from_nothing_to_an_hour(leeway: float) -> None:
    verifier = jwt_verifier(leeway=leeway)
    assert await admits(verifier, mint(exp=NOW - leeway + 0.25))
    assert await judge(verifier, mint(exp=NOW - leeway)) is EXPIRED


# Wherever PyJWT can raise, this refuses


def _token(make: Callable[[], str], **options: Any) -> tuple[Callable[[], str], dict[str, Any]]:
    return make, options


RAISED = {
    jwt.DecodeError: _token(lambda: f"{assemble({'alg': 'HS256'}, b'no json')[:-1]}.x"),
    jwt.InvalidSignatureError: _token(lambda: mint(OTHER_SECRET)),
    jwt.InvalidAudienceError: _token(lambda: mint(aud="other"), audience="chat"),
    jwt.InvalidAlgorithmError: _token(lambda: assemble({"alg": "none"}, CLAIMS)),
    jwt.MissingRequiredClaimError: _token(lambda: mint(sub=None)),
    jwt.exceptions.InvalidSubjectError: _token(lambda: mint(sub=["alice"])),
    jwt.exceptions.InvalidJTIError: _token(lambda: mint(jti=5)),
    jwt.InvalidTokenError: _token(lambda: mint(headers={"crit": ["x"], "x": 1})),
    jwt.ExpiredSignatureError: _token(lambda: mint(exp=1)),
    jwt.ImmatureSignatureError: _token(lambda: mint(nbf=int(NOW) + 999)),
    jwt.InvalidIssuedAtError: _token(lambda: mint(iat="x")),
    jwt.InvalidIssuerError: _token(lambda: mint(iss="b"), issuer="a"),
}

# Raised where a key or a key set is built, or by the client for JWKS that this package doesn't use;
# PyJWTError itself is only a base.
NOT_BY_DECODE = {
    "PyJWTError",
    "InvalidKeyError",
    "PyJWKError",
    "MissingCryptographyError",
    "PyJWKSetError",
    "PyJWKClientError",
    "PyJWKClientConnectionError",
}


def test_every_exception_of_pyjwt_is_known_here() -> None:
    """A new one in a new PyJWT fails here: find out what raises it, and add the token that does."""
    module = jwt.exceptions
    raised = {
        name
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }
    assert raised == {kind.__name__ for kind in RAISED} | NOT_BY_DECODE


@cases("kind", RAISED, ids=lambda kind: kind.__name__)
async def test_what_makes_pyjwt_raise_is_refused(kind: type[Exception]) -> None:
    make, options = RAISED[kind]
    verdict = await judge(jwt_verifier(**options), make())
    expected = {jwt.ExpiredSignatureError: EXPIRED, jwt.InvalidIssuerError: NOT_MINE}
    assert verdict is expected.get(kind, INVALID)


@cases("name", sorted(NOT_BY_DECODE | {kind.__name__ for kind in RAISED}))
async def test_an_exception_of_pyjwt_in_a_users_verifier_admits_nobody(name: str) -> None:
    """The verifier that everybody writes first: `jwt.decode` and nothing around it."""

    async def verifier(credential: Credential, conn: HTTPConnection) -> Principal | None:
        raise getattr(jwt.exceptions, name)("sub")

    app = App()
    guarded = WebSocketAuthMiddleware(app, authenticator(verifier, observers=()))
    outcome = await drive(guarded, websocket("token=x"))
    assert outcome.close == (1011, "internal_error")
    assert not app.calls
