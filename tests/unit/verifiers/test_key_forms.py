"""Keys and tokens in the forms that issuers give them: names of keys and of algorithms, PEM, and
the way to a set."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import jwt
import pytest
from cases import cases
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from handshakes import NOW, SECRET, judge, jwt_verifier, mint
from issuer import Issuer, certificate, issuing, jwk
from jwt.algorithms import OKPAlgorithm
from keys import P256_KEY, RSA_KEY
from servers import DEADLINE

from asgi_wsauth import JWKS, ConfigurationError, JWTVerifier, Principal, Reason
from asgi_wsauth.verifiers.keys import ALGORITHMS, Key

pytestmark = pytest.mark.anyio

INVALID, KEYS_UNAVAILABLE = Reason.INVALID, Reason.KEYS_UNAVAILABLE
LONG_KEY = rsa.generate_private_key(3, 1024)
ED25519, ED448 = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1", P256_KEY)
        issuer.keep()
        yield issuer


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(key: Any, header: Any, **claims: Any) -> str:
    """A token with whatever header, signed by what the key is good for."""
    names = {ed25519.Ed25519PrivateKey: "EdDSA", ed448.Ed448PrivateKey: "EdDSA", str: "HS256"}
    names |= {type(P256_KEY): "ES256", type(RSA_KEY): "RS256"}
    payload = {"sub": "alice", "exp": int(NOW) + 300, **claims}
    parts = ".".join(b64(json.dumps(part).encode()) for part in (header, payload))
    algorithm = ALGORITHMS[next(name for kind, name in names.items() if isinstance(key, kind))]
    return f"{parts}.{b64(algorithm.sign(parts.encode(), algorithm.prepare_key(key)))}"


def verifier(issuer: Issuer, *algorithms: str, path: str = "/jwks", **options: Any) -> JWTVerifier:
    keys = JWKS(f"{issuer.url}{path}", **{"timeout": DEADLINE, **options})
    return JWTVerifier(keys, algorithms=algorithms or ["ES256", "RS256"], clock=lambda: NOW)


async def verdict(judging: JWTVerifier, token: str) -> Any:
    """True, or the reason of the refusal."""
    result = await judge(judging, token)
    return isinstance(result, Principal) or result


# The names of keys


@cases(
    ("published", "presented"),
    [
        ("a b", "a b"),
        ("ключ 🔑", "ключ 🔑"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("' OR 1=1 --", "' OR 1=1 --"),
        ("a\0b\r\n", "a\0b\r\n"),
        ("k" * 3000, "k" * 3000),
        ("", ""),
        (5, "5"),
        ("5", 5),
        (5, 5),
        (1.5, "1.5"),
        (-7, -7),
        (None, None),
        (None, "any"),
        ("1", None),
    ],
)
async def test_a_kid_is_compared_as_text(issuer: Issuer, published: Any, presented: Any) -> None:
    issuer.pages["/jwks"] = {"keys": [{**jwk(P256_KEY), "kid": published}, jwk(RSA_KEY, "other")]}
    judging = verifier(issuer)
    token = signed(P256_KEY, {"alg": "ES256", "kid": presented})
    assert await verdict(judging, token) is True
    forged = signed(ec.generate_private_key(ec.SECP256R1()), {"alg": "ES256", "kid": presented})
    assert await verdict(judging, forged) is INVALID
    assert issuer.count("/jwks") == 1


@cases("kid", [True, False, [], ["1"], {}, {"1": 1}])
async def test_a_kid_that_is_no_text_is_none_that_a_key_could_have(
    issuer: Issuer, kid: Any
) -> None:
    token = signed(P256_KEY, {"alg": "ES256", "kid": kid})
    assert await verdict(verifier(issuer), token) is INVALID
    assert not issuer.requests
    with pytest.raises(ConfigurationError, match="its kid is neither text nor a number"):
        jwt_verifier({**jwk(P256_KEY), "kid": kid}, algorithms=["ES256"])


@cases("published", [True, False])
async def test_a_key_in_plain_base64_is_read_without_a_warning(
    issuer: Issuer, published: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.15 warns of `+` and `/` in base64url. A name keeps what it has of them."""
    seen: list[bytes] = []
    decode = base64.urlsafe_b64decode
    monkeypatch.setattr(base64, "urlsafe_b64decode", lambda raw: [seen.append(raw), decode(raw)][1])
    key = {**jwk(RSA_KEY), "kid": "a+b/c-d_e"}
    number = str(key["n"])
    key["n"] = number.replace("-", "+").replace("_", "/")
    assert key["n"] != number
    issuer.pages["/jwks"] = {"keys": [key]}
    judging = verifier(issuer) if published else jwt_verifier(key, algorithms=["RS256"])
    token = signed(RSA_KEY, {"alg": "RS256", "kid": "a+b/c-d_e"}, aud=None)
    assert await verdict(judging, token) is True
    assert seen and not any(set(b"+/") & set(raw) for raw in seen)


@cases("kid", ["a b", 5, "../x"])
async def test_keys_at_hand_have_any_name_too(kid: Any) -> None:
    judging = jwt_verifier({**jwk(P256_KEY), "kid": kid}, algorithms=["ES256"])
    for named in (kid, str(kid)):
        token = signed(P256_KEY, {"alg": "ES256", "kid": named})
        assert await verdict(judging, token) is True
    assert await verdict(judging, signed(P256_KEY, {"alg": "ES256", "kid": "other"})) is INVALID


@cases("kid", [None, 5, "5"])
async def test_a_token_of_a_number_or_null_is_judged_like_any_other(kid: Any) -> None:
    header = {"alg": "HS256", "kid": kid}
    judging = jwt_verifier(issuer="https://id.example")
    good = signed(SECRET, header, iss="https://id.example")
    assert await verdict(judging, good) is True
    assert await verdict(judging, signed(SECRET, header, iss="https://id.example", exp=5)) is (
        Reason.EXPIRED
    )
    for bad in (
        signed(SECRET, {**header, "crit": ["x"], "x": 1}, iss="https://id.example"),
        signed(SECRET, {**header, "alg": "none"}, iss="https://id.example"),
        signed(SECRET[::-1], header, iss="https://id.example"),
        signed(SECRET, header, iss="https://id.example", exp=None),
        good[:-2],
    ):
        assert await verdict(judging, bad) is INVALID


# The forms of a set


def pem(key: Any) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(public.decode())


async def test_public_keys_in_pem_by_their_names(issuer: Issuer) -> None:
    """As Google's Identity-Aware Proxy has them."""
    x509 = certificate(RSA_KEY).public_bytes(Encoding.PEM).decode()
    issuer.pages["/jwks"] = {"2nMJtw": pem(P256_KEY), "rsa": x509, "ed": pem(ED25519)}
    judging = verifier(issuer, "ES256", "RS256", "EdDSA")
    for kid, key, alg in (
        ("2nMJtw", P256_KEY, "ES256"),
        ("rsa", RSA_KEY, "RS256"),
        ("ed", ED25519, "EdDSA"),
    ):
        assert await verdict(judging, signed(key, {"alg": alg, "kid": kid})) is True
    assert await verdict(judging, signed(P256_KEY, {"alg": "ES256", "kid": "rsa"})) is INVALID


async def test_pem_that_is_no_public_key_is_left_out(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    secret = RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    weak = {"pem": pem(LONG_KEY), "x509": certificate(LONG_KEY).public_bytes(Encoding.PEM).decode()}
    issuer.pages["/jwks"] = {"1": pem(P256_KEY), "private": secret, **weak, "no": "-----BEGIN"}
    judging = verifier(issuer)
    assert await verdict(judging, signed(P256_KEY, {"alg": "ES256", "kid": "1"})) is True
    for kid in ("private", "pem", "x509"):
        token = signed(RSA_KEY, {"alg": "RS256", "kid": kid})
        assert await verdict(judging, token) is INVALID
    (line,) = caplog.messages
    assert all(f"'{kid}' (" in line for kid in ("private", "pem", "x509", "no"))
    assert secret[40:60] not in line


@cases("kind", ["pem", "certificate", "jwk"])
async def test_a_key_that_takes_long_is_left_out_in_every_form(
    issuer: Issuer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_wsauth.verifiers.key_documents._LONGEST_RSA", (2047, 64))
    issuer.pages["/jwks"] = {
        "pem": {"1": pem(RSA_KEY)},
        "certificate": {"1": certificate(RSA_KEY).public_bytes(Encoding.PEM).decode()},
        "jwk": {"keys": [jwk(RSA_KEY, "1")]},
    }[kind]
    token = signed(RSA_KEY, {"alg": "RS256", "kid": "1"})
    assert await verdict(verifier(issuer), token) is KEYS_UNAVAILABLE


async def test_a_set_with_a_bom_compressed_unasked(issuer: Issuer) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"keys": [jwk(P256_KEY, "1")], "more": 5}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    issuer.behaviour["/jwks"] = "raw"
    issuer.pages["/jwks"] = head + gzip.compress(body)
    token = signed(P256_KEY, {"alg": "ES256", "kid": "1"})
    assert await verdict(verifier(issuer), token) is True
    assert issuer.requests[0].headers["accept-encoding"] == "identity"


# Ed25519 and Ed448, which were EdDSA

NAMES = {"EdDSA": (ED25519, ED448), "Ed25519": (ED25519,), "Ed448": (ED448,)}


def okp(key: Any, **more: Any) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}


def curve(key: Any) -> str:
    return "Ed25519" if key is ED25519 else "Ed448"


@cases(
    ("key", "listed", "alg", "declared", "fetched"),
    [
        (*row, (number + number // 4) % 2 == 0)
        for number, row in enumerate(product([ED25519, ED448], NAMES, NAMES, [None, *NAMES]))
    ],
)
async def test_either_name_of_a_curve(
    issuer: Issuer, key: Any, listed: str, alg: str, declared: str | None, fetched: bool
) -> None:
    """RFC 9864, for the token's name, the key's own, and that in `algorithms`."""
    entry = okp(key, kid="e", **({"alg": declared} if declared else {}))
    fits = all(key in NAMES[name] for name in (listed, alg, declared or "EdDSA"))
    token = signed(key, {"alg": alg, "kid": "e"})
    if fetched:
        issuer.pages["/jwks"] = {"keys": [entry, jwk(P256_KEY, "1")]}
        judging = verifier(issuer, listed)
    else:
        try:
            judging = jwt_verifier(entry, algorithms=[listed])
        except ConfigurationError as exc:
            assert "fits none" in str(exc)
            assert key not in NAMES[listed] or key not in NAMES[declared or "EdDSA"]
            return
    assert await verdict(judging, token) is (True if fits else INVALID)


@cases("listed", [["EdDSA"], ["Ed25519", "Ed448"], ["EdDSA", "Ed25519"]])
async def test_no_curve_verifies_for_the_other(issuer: Issuer, listed: list[str]) -> None:
    issuer.pages["/jwks"] = {"keys": [okp(ED25519, kid="e"), okp(ED448, kid="e")]}
    at_hand: list[Key] = [pem(ED25519), pem(ED448)]
    for judging in (verifier(issuer, *listed), jwt_verifier(at_hand, algorithms=listed)):
        for kid in ({"kid": "e"}, {}):
            for key, alg, good in (
                (ED25519, "Ed25519", True),
                (ED448, "Ed448", True),
                (ED25519, "EdDSA", True),
                (ED448, "EdDSA", True),
                (ED25519, "Ed448", False),
                (ED448, "Ed25519", False),
                (ED25519, "ES256", False),
            ):
                token = signed(key, {"alg": alg, **kid})
                assert await verdict(judging, token) is (True if good else INVALID)


async def test_one_curve_alone_takes_no_other_under_the_old_name(issuer: Issuer) -> None:
    issuer.pages["/jwks"] = {"keys": [okp(ED25519, kid="a"), okp(ED448, kid="b")]}
    judging = verifier(issuer, "Ed25519")
    assert await verdict(judging, signed(ED25519, {"alg": "EdDSA", "kid": "a"})) is True
    assert await verdict(judging, signed(ED448, {"alg": "EdDSA", "kid": "b"})) is INVALID
    assert await verdict(judging, signed(ED448, {"alg": "EdDSA"})) is INVALID


def test_a_key_counts_once_whatever_its_algorithm_is_called() -> None:
    judging = jwt_verifier(pem(ED25519), algorithms=["EdDSA", "Ed25519"])
    assert repr(judging) == "<JWTVerifier EdDSA Ed25519>"
    with pytest.raises(ConfigurationError, match="algorithms: no key fits Ed448"):
        jwt_verifier(pem(ED25519), algorithms=["Ed25519", "Ed448"])
    with pytest.raises(ConfigurationError, match="private key"):
        jwt_verifier(
            ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            algorithms=["Ed25519"],
        )


async def test_a_pyjwk_of_a_curve() -> None:
    for listed in ("EdDSA", "Ed25519"):
        judging = jwt_verifier(jwt.PyJWK(okp(ED25519)), algorithms=[listed])
        assert await verdict(judging, signed(ED25519, {"alg": "Ed25519"})) is True


async def test_a_jwk_whose_alg_is_null_or_no_name() -> None:
    judging = jwt_verifier({**jwk(P256_KEY), "alg": None}, algorithms=["ES256"])
    assert await verdict(judging, signed(P256_KEY, {"alg": "ES256"})) is True
    for alg in (["ES256"], 5, {"a": 1}):
        with pytest.raises(ConfigurationError, match="fits none"):
            jwt_verifier({**jwk(P256_KEY), "alg": alg}, algorithms=["ES256"])


# The way to a set


async def test_discovery_at_an_inner_address(issuer: Issuer) -> None:
    """An issuer with a public name, asked where only its neighbours reach it."""
    public = "https://login.example/realms/main"
    inner = issuer.url.replace("127.0.0.1", "0.0.0.0")
    issuer.pages["/inner"] = {"issuer": public, "jwks_uri": f"{inner}/jwks"}
    judging = JWTVerifier.from_oidc(
        public,
        algorithms=["ES256"],
        audience=None,
        discovery_url=f"{inner}/inner",
        allow_http=True,
        headers={"authorization": "Bearer s3cr3t"},
        clock=lambda: NOW,
    )
    assert await verdict(judging, issuer.token("1", iss=public)) is True
    assert [request.path for request in issuer.requests] == ["/inner", "/jwks"]
    assert {r.headers["authorization"] for r in issuer.requests} == {"Bearer s3cr3t"}
    assert await verdict(judging, issuer.token("1", iss=inner)) is None
    issuer.pages["/inner"]["issuer"] = inner  # another's document leads to nobody's keys
    strict = JWKS.from_oidc(public, discovery_url=f"{inner}/inner", allow_http=True)
    judging = JWTVerifier(strict, algorithms=["ES256"], clock=lambda: NOW)
    assert await verdict(judging, issuer.token("1")) is KEYS_UNAVAILABLE


def oidc(issuer: str, discovery_url: str) -> JWTVerifier:
    return JWTVerifier.from_oidc(
        issuer, algorithms=["ES256"], audience=None, discovery_url=discovery_url
    )


async def test_http_takes_a_word_that_it_is_meant(issuer: Issuer) -> None:
    inner = issuer.url.replace("127.0.0.1", "0.0.0.0")
    example = "https://id.example"
    for build, option, like, url in (
        (JWKS, "JWKS: url", f"{example}/keys", f"{inner}/jwks"),
        (JWKS.from_oidc, "JWKS: issuer", example, f"{inner}/realms/main"),
        (partial(oidc, example), "JWKS: discovery_url", f"{example}/keys", f"{inner}/inner"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            build(url)
        assert str(caught.value) == (
            f"{option} must be a URL, for example {like}, got '{url}': only https is safe, or http "
            "on this machine; in a network that you trust, set allow_http=True"
        )
    keys = JWKS(f"{inner}/jwks", allow_http=True)
    judging = JWTVerifier(keys, algorithms=["ES256"], clock=lambda: NOW)
    issuer.behaviour["/jwks"] = "redirect"
    issuer.pages["/elsewhere"] = {"keys": [jwk(P256_KEY, "1")]}
    assert await verdict(judging, issuer.token("1")) is KEYS_UNAVAILABLE
    assert issuer.count("/elsewhere") == 0


async def test_headers_are_in_no_repr_and_no_log(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """As Kubernetes asks for them."""
    caplog.set_level("DEBUG", "asgi_wsauth")
    headers = {"Authorization": "Bearer s3cr3t"}
    keys = JWKS(f"{issuer.url}/jwks", headers=headers, cooldown=0)
    judging = JWTVerifier(keys, algorithms=["ES256"], clock=lambda: NOW)
    assert await verdict(judging, issuer.token("1")) is True
    issuer.behaviour["/jwks"] = "fail"
    assert await verdict(judging, mint(P256_KEY, algorithm="ES256", headers={"kid": "2"})) is (
        KEYS_UNAVAILABLE
    )
    assert [r.headers["authorization"] for r in issuer.requests] == ["Bearer s3cr3t"] * 2
    assert "s3cr3t" not in repr(keys) + repr(judging) + caplog.text
    with pytest.raises(ConfigurationError, match="JWKS: headers: Authorization must be") as caught:
        JWKS(f"{issuer.url}/jwks", headers={"Authorization": "Bearer s3cr3t\n"})
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="JWKS: headers must have each name once"):
        JWKS(f"{issuer.url}/jwks", headers={**headers, "authorization": "Bearer other"})


async def test_keys_that_are_ready_take_the_place_of_a_document(issuer: Issuer) -> None:
    keys = JWKS(f"{issuer.url}/jwks")
    judging = JWTVerifier.from_oidc(
        "https://login.example",
        algorithms=["ES256"],
        audience="chat",
        jwks=keys,
        leeway=5,
        clock=lambda: NOW,
    )
    token = issuer.token("1", iss="https://login.example", aud="chat")
    assert await verdict(judging, token) is True
    assert [request.path for request in issuer.requests] == ["/jwks"]


@cases(
    ("options", "named"),
    [
        (
            {"ttl": 5},
            r"ttl can't be used with jwks; leave one of them out, or write "
            r"jwks=JWKS.from_oidc\(issuer, ttl=\.\.\.\)$",
        ),
        ({"observers": ()}, "observers can't be used with jwks"),
        ({"allow_http": True}, "allow_http can't be used with jwks"),
        ({"discovery_url": "https://id.example"}, "discovery_url can't be used with jwks"),
        ({"jwks": "https://id.example/keys"}, "jwks must be a JWKS, got 'https://id.example/keys'"),
    ],
)
def test_options_of_keys_that_are_ready(options: Any, named: str) -> None:
    given = {"jwks": JWKS("https://id.example/keys"), **options}
    with pytest.raises(ConfigurationError, match=f"^{named}"):
        JWTVerifier.from_oidc("https://id.example", algorithms=["ES256"], audience=None, **given)


@cases(
    "build",
    [
        lambda name: JWTVerifier.from_oidc(name, algorithms=["ES256"], audience=None),
        lambda name: JWKS.from_oidc(name),
        lambda name: jwt_verifier(issuer=name),
        lambda name: jwt_verifier(issuer=["https://a.example", name]),
    ],
    ids=["from_oidc", "JWKS", "issuer", "issuers"],
)
@cases("document", ["openid-configuration", "oauth-authorization-server"])
def test_the_address_of_a_document_is_no_issuer(build: Any, document: str) -> None:
    name = f"https://id.example/tenant/.well-known/{document}"
    with pytest.raises(ConfigurationError, match=r"^issuer must be the issuer itself") as caught:
        build(name)
    assert "'https://id.example/tenant' or 'https://id.example/tenant/'" in str(caught.value)
