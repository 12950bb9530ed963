"""Whatever tokens, keys, tickets and answers of issuers are like: only what was made with the right
key, and is good now, is admitted, and a verifier raises nothing but `Denied`."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from base64 import urlsafe_b64decode
from contextlib import suppress
from functools import cache
from typing import Any

import jwt
import pytest
from cases import cases
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from handshakes import CONNECT, NOW, SECRET, Clock, authenticator, bearer, judge, websocket
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, precondition, rule
from issuer import jwk
from jwt.algorithms import OKPAlgorithm
from keys import ED_KEY, P256_KEY, P256_OTHER, P384_KEY, RSA_KEY
from starlette.requests import HTTPConnection
from strategies import (
    ANY_JSON,
    HOSTILE,
    NESTED,
    NUMBERS,
    WORDS,
    base64url,
    examples,
    json_texts,
    mutated,
)
from strict import Accepting, run, see

from asgi_wsauth import (
    JWKS,
    APIKeyVerifier,
    Credential,
    Denied,
    InternalCredential,
    JWTVerifier,
    MemoryStore,
    Principal,
    Reason,
    Refused,
    Tickets,
    TokenIntrospection,
    VerdictCache,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.verifiers.key_documents import parse_key_set
from asgi_wsauth.verifiers.outbound import Unreachable

pytestmark = pytest.mark.slow

LEEWAY = 30.0
BAD = (Reason.MISSING, Reason.MALFORMED, Reason.INVALID, Reason.EXPIRED)


def clock() -> float:
    return NOW


# Tokens by hand: PyJWT would not make most of them.


def signed(header: str | bytes, payload: str | bytes, secret: str | bytes = SECRET) -> str:
    key = secret.encode() if isinstance(secret, str) else secret
    said = f"{base64url(header)}.{base64url(payload)}"
    return f"{said}.{base64url(hmac.new(key, said.encode(), hashlib.sha256).digest())}"


TIMES = st.sampled_from([0, 1, 29, 30, 31, 300, -29, -30, -31, 1e9, 1e300]).map(NOW.__add__)
ODD_TIMES = TIMES | TIMES | NUMBERS | ANY_JSON
CLAIMS = {
    "sub": st.sampled_from(["alice", "bob", "", "\ud800"]) | ANY_JSON,
    "exp": ODD_TIMES,
    "nbf": ODD_TIMES,
    "iat": ODD_TIMES,
    "aud": st.sampled_from(["chat", ["chat"], ["a", "chat"], "chatter", []]) | ANY_JSON,
    "iss": st.sampled_from(["https://id", "https://id/", ["https://id"]]) | ANY_JSON,
    "jti": st.text(max_size=3) | ANY_JSON,
    "sid": st.text(max_size=3) | ANY_JSON,
    "scope": st.sampled_from(["a b", ["a", "b"], ""]) | ANY_JSON,
}
HEADERS = {
    "alg": st.sampled_from(["HS256", "HS256", "HS384", "none", "None", "RS256", ""]) | ANY_JSON,
    "typ": st.sampled_from(["JWT", "at+jwt"]) | ANY_JSON,
    "kid": st.text(max_size=4) | HOSTILE | ANY_JSON,
    "crit": st.sampled_from([["b64"], ["exp"], []]) | ANY_JSON,
    "b64": st.booleans() | ANY_JSON,
    "jwk": ANY_JSON,
    "jku": st.just("https://evil.example/keys"),
}
GOOD_CLAIMS = {"sub": "alice", "exp": NOW + 300}


def objects(members: dict[str, Any], base: dict[str, Any]) -> st.SearchStrategy[str]:
    """The base with a few members that are others, or a text of any kind."""
    others = st.dictionaries(st.sampled_from(sorted(members)), st.none(), max_size=3)
    few = others.flatmap(
        lambda names: st.fixed_dictionaries({name: members[name] for name in names})
    )
    return few.map(lambda few: json.dumps({**base, **few})) | json_texts(members)


def is_identity(value: Any) -> bool:
    """A string that is not empty, or a whole number."""
    return type(value) is int or (type(value) is str and value != "")


def is_time(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 253402300800  # no NaN is


def claims_are_good(claims: Any, *, leeway: float, needs_exp: bool = True) -> bool:
    """RFC 7519 section 4.1, with the times told in seconds, at NOW."""
    if not isinstance(claims, dict) or not is_identity(claims.get("sub")):
        return False
    times = {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    times = {name: value for name, value in times.items() if value is not None}
    if not all(map(is_time, times.values())) or (needs_exp and "exp" not in times):
        return False
    if times.get("exp", math.inf) + leeway <= NOW:
        return False
    if any(times.get(name, 0) > NOW + LEEWAY for name in ("nbf", "iat")):
        return False
    if not all(
        isinstance(claims.get(name, ""), (str, type(None))) for name in ("iss", "jti", "sid")
    ):
        return False
    scopes = claims.get("scope")
    return scopes is None or isinstance(scopes, str) or _all_strings(scopes)


def _all_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def parsed(text: str) -> Any:
    """What JSON readers agree on; None where they don't."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def token_is_good(header: str, payload: str, **asked: Any) -> bool:
    """What RFC 7515, 7519, 7797 and 8725 say of a token with a good signature."""
    head, claims = parsed(header), parsed(payload)
    if not isinstance(head, dict) or head.get("alg") != "HS256":
        return False
    as_ever = head.get("crit") == ["b64"] and head.get("b64", False) is not False
    if "crit" in head and not as_ever:
        return False
    if not claims_are_good(claims, leeway=LEEWAY):
        return False
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if "audience" in asked:
        return asked["audience"] in named and claims.get("iss") == asked["issuer"]
    return not audience


PLAIN = JWTVerifier(SECRET, algorithms=["HS256"], clock=clock)
ASKING = {"audience": "chat", "issuer": "https://id"}
STRICT = JWTVerifier(SECRET, algorithms=["HS256"], clock=clock, **ASKING)
CACHED = JWTVerifier(SECRET, algorithms=["HS256"], clock=clock, cache=VerdictCache(size=50))


def verdict(verifier: Any, presented: str, **handshake: Any) -> Principal | Reason | None:
    """The verdict. Anything that is raised but `Denied` is raised here, too."""
    return run(judge(verifier, presented, **handshake))


ODD = [
    None,
    True,
    False,
    "",
    "alice",
    "a b",
    str(NOW + 300),
    [],
    ["a"],
    [5],
    ["a", None],
    {},
    {"a": 1},
]
ODD += [0, -1, 1, 0.5, 10**11, 10**12, 10**30, 10**400, 1e308, math.nan, math.inf, -math.inf]
ODD += [NOW + more for more in (-300, -31, -30, -29.5, 0, 29.5, 30, 30.5, 31, 300)]


@cases("name", CLAIMS)
def test_every_odd_value_of_every_claim(name: str) -> None:
    for value in ODD:
        payload = json.dumps({**GOOD_CLAIMS, name: value})
        judged = verdict(PLAIN, signed('{"alg": "HS256"}', payload))
        assert isinstance(judged, Principal) is token_is_good('{"alg": "HS256"}', payload), payload
        strict = json.dumps({**GOOD_CLAIMS, "aud": "chat", "iss": "https://id", name: value})
        judged = verdict(STRICT, signed('{"alg": "HS256"}', strict))
        good = token_is_good('{"alg": "HS256"}', strict, **ASKING)
        assert isinstance(judged, Principal) is good, strict
        asked = verdict(
            introspection(json.dumps({"active": True, **json.loads(payload)})), "x" * 20
        )
        good = claims_are_good(json.loads(payload), leeway=0.0, needs_exp=False)
        assert isinstance(asked, Principal) is good, payload


@examples(100)
@given(objects(HEADERS, {"alg": "HS256"}), objects(CLAIMS, GOOD_CLAIMS))
@example('{"alg": "none", "alg": "HS256"}', json.dumps(GOOD_CLAIMS))
@example('{"alg": "HS256", "alg": "none"}', json.dumps(GOOD_CLAIMS))
def test_of_signed_tokens_only_those_with_good_claims(header: str, payload: str) -> None:
    token = signed(header, payload)
    judged = verdict(PLAIN, token)
    if isinstance(judged, Principal):
        assert token_is_good(header, payload)
        assert judged.identity == str(json.loads(payload)["sub"])
    elif token_is_good(header, payload):
        # Names of keys are more strictly read than the RFC asks, and so is what is deeply nested.
        assert {"kid", "b64"} & json.loads(header).keys() or "[[[" in payload or '{"a":{' in payload
    assert _kind(verdict(CACHED, token)) == _kind(verdict(CACHED, token)) == _kind(judged)


def _kind(judged: Any) -> Any:
    return judged.identity if isinstance(judged, Principal) else judged


@examples(100)
@given(objects(CLAIMS, GOOD_CLAIMS | {"aud": "chat", "iss": "https://id"}))
def test_audience_and_issuer(payload: str) -> None:
    header = '{"alg": "HS256"}'
    judged = verdict(STRICT, signed(header, payload))
    good = token_is_good(header, payload, **ASKING)
    assert isinstance(judged, Principal) is good or "[[" in payload or '{"a":{' in payload
    claims = parsed(payload)
    is_mine = isinstance(claims, dict) and claims.get("iss") == "https://id"
    assert (judged is not None) is is_mine or "[[" in payload or '{"a":{' in payload


# Whatever claim an identity comes from, and whatever it must say beside.

PATHS = st.sampled_from(["sub", "user_id", "a.b", ("sub",), ("a", "b"), ("sub", "b.c", "d")])
VALUES = st.sampled_from(["alice", "", "1", 7, 1, 0, -1, 7.0, 1.0, True, False, ["alice"], {}])
ALLOWED = (
    st.sampled_from(["alice", "1", 7, 1, 0, True, False]) | st.integers() | st.text("a", min_size=1)
)


def at(path: str | tuple[str, ...], value: Any) -> dict[str, Any]:
    """Claims with this value there."""
    for name in reversed((path,) if isinstance(path, str) else path):
        value = {name: value}
    return {**GOOD_CLAIMS, **value}


def verdict_of_all(said: dict[str, Any], **options: Any) -> Principal | Reason | None:
    """What a verifier of each kind makes of them, the second time as the first."""
    cached = {"cache": VerdictCache(), **options}
    verifiers = [
        JWTVerifier(SECRET, algorithms=["HS256"], clock=clock, **options),
        JWTVerifier(SECRET, algorithms=["HS256"], clock=clock, **cached),
        introspection(json.dumps({"active": True, **said}), **options),
    ]
    token = signed('{"alg": "HS256"}', json.dumps(said))
    presented = [token, token, "0123456789abcdef"]
    judged = [verdict(verifiers[n], presented[n]) for n in (0, 1, 2) * 2]
    assert len({_kind(one) for one in judged}) == 1
    return judged[0]


@examples(100)
@given(PATHS, VALUES | ANY_JSON)
def test_only_a_string_or_a_whole_number_is_an_identity(path: Any, value: Any) -> None:
    judged = verdict_of_all(at(path, value), identity_claim=path)
    if isinstance(judged, Principal):
        assert is_identity(value)
        assert judged.identity == str(value)
    else:
        assert not is_identity(value)
        assert judged is Reason.INVALID


@examples(100)
@given(PATHS, st.sets(ALLOWED, min_size=1, max_size=3), VALUES | ANY_JSON | ALLOWED)
def test_a_claim_is_what_is_asked_for_or_the_token_is_refused(
    path: Any, allowed: Any, value: Any
) -> None:
    claims = {**at(path, value), "name": "alice"}
    judged = verdict_of_all(claims, identity_claim="name", claims={path: allowed})
    good = any(type(value) is type(one) and value == one for one in allowed)
    assert judged is Reason.INVALID or (good and isinstance(judged, Principal))
    assert isinstance(judged, Principal) is good


@st.composite
def changed_tokens(draw: Any) -> tuple[str, str]:
    claims = GOOD_CLAIMS | draw(st.sampled_from([{}, {"jti": "1"}, {"scope": "a b"}]))
    token = signed('{"alg": "HS256", "typ": "JWT"}', json.dumps(claims))
    return token, draw(mutated(token))


@examples(150)
@given(changed_tokens())
def test_a_token_that_was_changed_anywhere_is_refused(tokens: tuple[str, str]) -> None:
    token, other = tokens
    judged = verdict(PLAIN, other)
    if isinstance(judged, Principal):  # the last letter may have bits that mean nothing
        assert _bytes(other) == _bytes(token)
    judged = verdict(CACHED, token)
    assert isinstance(judged, Principal)
    assert not isinstance(verdict(CACHED, other), Principal) or _bytes(other) == _bytes(token)


def _bytes(token: str) -> list[bytes]:
    return [urlsafe_b64decode(part + "==") for part in token.split(".")]


# Keys and algorithms that don't belong together.


@cache
def keys() -> dict[str, Any]:
    """Private keys, by the algorithm that they are for, and those of somebody else."""
    made: dict[str, Any] = {
        "RS256": RSA_KEY,
        "ES256": P256_KEY,
        "ES384": P384_KEY,
        "EdDSA": ED_KEY,
        "HS256": SECRET,
    }
    return made | {
        "other ES256": P256_OTHER,
        "other EdDSA": ed25519.Ed25519PrivateKey.generate(),
        "other HS256": SECRET[::-1],
    }


def public_jwk(name: str, **more: Any) -> dict[str, Any]:
    key = keys()[name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        known = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {**{k: v for k, v in known.items() if k != "key_ops"}, "use": "sig", **more}
    return jwk(key, **more)


def public(name: str) -> Any:
    key = keys()[name]
    return key if isinstance(key, str) else key.public_key()


@cache
def published(name: str) -> tuple[bytes, ...]:
    """Every form in which everybody knows the key."""
    if name.endswith("HS256"):
        return (b"",)
    key = public(name)
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    known = json.dumps(public_jwk(name)).encode()
    return pem, pem.strip(), der, known, b""


@cache
def verifier_of(name: str, form: str) -> JWTVerifier:
    key: Any = public(name)
    if not isinstance(key, str):
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        key = {"pem": pem, "jwk": public_jwk(name), "list": [pem]}[form]
    return JWTVerifier(key, algorithms=[name], clock=clock)


MINE = ["RS256", "ES256", "ES384", "EdDSA", "HS256"]


def forged(name: str, signer: str, alg: str, confused: int | None) -> str:
    """A token that says `alg`, signed with the key of `signer`, or, as HMAC, with what is published
    of the key of `name`."""
    header, payload = json.dumps({"alg": alg, "typ": "JWT"}), json.dumps(GOOD_CLAIMS)
    if confused is not None:
        secrets = published(name)
        return signed(header, payload, secrets[confused % len(secrets)])
    real = signer.removeprefix("other ")
    token = jwt.encode(GOOD_CLAIMS, keys()[signer], algorithm=real)
    if alg == real:
        return token
    algorithm = jwt.get_algorithm_by_name(real)
    said = f"{base64url(header)}.{base64url(payload)}"
    key = algorithm.prepare_key(keys()[signer])
    return f"{said}.{base64url(algorithm.sign(said.encode(), key))}"


@examples(250)
@given(
    st.sampled_from(MINE),
    st.sampled_from(["pem", "jwk", "list"]),
    st.sampled_from([*MINE, "other ES256", "other EdDSA", "other HS256"]),
    st.sampled_from([*MINE, "none", "NONE", "HS512", "PS256", "ES512", "hs256", "HS256 "]),
    st.none() | st.integers(0, 4),
)
def test_only_the_key_and_its_own_algorithm(
    name: str, form: str, signer: str, alg: str, confused: int | None
) -> None:
    token = forged(name, signer, alg, confused)
    right = confused is None and name == signer == alg
    assert isinstance(verdict(verifier_of(name, form), token), Principal) is right
    unsigned = token.rpartition(".")[0] + "."
    assert not isinstance(verdict(verifier_of(name, form), unsigned), Principal)


@examples(60)
@given(objects(HEADERS, {"alg": "HS256"}), objects(CLAIMS, GOOD_CLAIMS), st.booleans(), st.data())
def test_no_part_of_a_token_is_seen_behind_the_middleware(
    header: str, payload: str, good: bool, data: Any
) -> None:
    events: list[Any] = []
    auth = authenticator(PLAIN, observers=[events.append])
    door = WebSocketAuthMiddleware(Accepting(), auth)
    token = signed(header, payload, SECRET if good else SECRET[::-1])
    if data.draw(st.booleans()):
        token = data.draw(mutated(token))
    scope = websocket(headers=bearer(token.encode(errors="replace").decode("latin-1")))
    seen = run(see(door, scope, events, [CONNECT]))
    secrets = [part for part in (token, *token.split(".")) if len(part) > 20]
    seen.check(*secrets)
    if seen.admitted:
        assert good
    for event in seen.kinds(Refused):
        assert isinstance(event, Refused)
        assert event.reason in BAD


# What issuers say.

KEY_MEMBERS: dict[str, Any] = {
    "kty": st.sampled_from(["RSA", "EC", "OKP", "oct", ""]) | ANY_JSON,
    "crv": st.sampled_from(["P-256", "P-384", "Ed25519", "X25519"]) | ANY_JSON,
    "alg": st.sampled_from([*MINE, "none", "RSA-OAEP"]) | ANY_JSON,
    "use": st.sampled_from(["sig", "enc"]) | ANY_JSON,
    "key_ops": st.sampled_from([["verify"], ["sign"], []]) | ANY_JSON,
    "kid": st.sampled_from(["a", "b", ""]) | ANY_JSON,
    "n": st.sampled_from(["AQAB", "AA", ""]) | ANY_JSON,
    "e": st.sampled_from(["AQAB", "AQ", "AA", "A" * 90]) | ANY_JSON,
    "x": WORDS | ANY_JSON,
    "y": WORDS | ANY_JSON,
    "d": WORDS | ANY_JSON,
    "k": st.just(base64url(SECRET)) | ANY_JSON,
    "x5c": st.lists(WORDS, max_size=2) | ANY_JSON,
}


@st.composite
def published_keys(draw: Any) -> Any:
    """A key as it should be published, with a few members that are others; or any JSON."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANY_JSON)
    name = draw(st.sampled_from(MINE[:4]))
    key = public_jwk(name, kid=draw(st.sampled_from(["a", "b"])))
    for member in draw(st.sets(st.sampled_from(sorted(KEY_MEMBERS)), max_size=3)):
        key[member] = draw(KEY_MEMBERS[member])
    for member in draw(st.sets(st.sampled_from(sorted(key)), max_size=1)):
        key.pop(member)
    return key


KEY_SETS = st.one_of(
    st.lists(published_keys(), max_size=4).map(lambda keys: {"keys": keys}),
    st.dictionaries(st.text(max_size=3), published_keys() | WORDS, max_size=3),
    st.fixed_dictionaries({"keys": ANY_JSON}),
    ANY_JSON,
)


class Fetched:
    """Keys as a `JWKS` has them after a fetch."""

    def __init__(self, document: Any) -> None:
        self._keys, self.count, self.problems = parse_key_set(document)

    async def keys(self) -> Any:
        return self._keys

    async def renewed(self, seen: Any) -> Any:
        return seen


@examples(100)
@given(KEY_SETS, st.sampled_from(MINE[:4]), st.sampled_from([None, "a", "b", "c"]))
def test_of_any_set_only_the_good_keys_are_kept(document: Any, name: str, kid: str | None) -> None:
    try:
        source = Fetched(document)
    except Unreachable as unreachable:
        assert str(unreachable).isprintable()
        return
    assert source.problems.isprintable()
    verifier = JWTVerifier(never_asked(), algorithms=[name], clock=clock)
    verifier._keys = source  # type: ignore[assignment]
    header = {} if kid is None else {"kid": kid}
    token = jwt.encode(GOOD_CLAIMS, keys()[name], algorithm=name, headers=header)
    judged = verdict(verifier, token)
    entries = document.get("keys")
    pairs = document.items()
    if isinstance(entries, list):
        pairs = [(key.get("kid"), key) for key in entries if isinstance(key, dict)]
    fits = [key for named, key in pairs if kid in (None, named) or named is None]
    if isinstance(judged, Principal):
        assert any(has_key(key, name) for key in fits)
    else:
        assert judged is Reason.INVALID
        assert kid is None or public_jwk(name, kid=kid) not in fits
    confusing = signed('{"alg": "HS256"}', json.dumps(GOOD_CLAIMS))
    assert not isinstance(verdict(verifier, confusing), Principal)


@cases("name", MINE[:4])
def test_every_odd_member_of_a_key(name: str) -> None:
    algorithm = jwt.get_algorithm_by_name(name)
    private: Any = algorithm.to_jwk(keys()[name], as_dict=True)
    odd = [(member, value) for member in KEY_MEMBERS for value in [*ODD, "enc", "sig", ["sign"]]]
    odd = odd[MINE.index(name) :: 3]  # each is tried with one kind of key or two
    entries = [{**public_jwk(name), member: value} for member, value in odd]
    entries += [{**public_jwk(name), "alg": other} for other in MINE]
    token = jwt.encode(GOOD_CLAIMS, keys()[name], algorithm=name)
    for entry in [*entries, private, {**private, "use": "sig"}]:
        with suppress(Unreachable):
            source = Fetched({"keys": [entry]})
            verifier = JWTVerifier(never_asked(), algorithms=[name], clock=clock)
            verifier._keys = source  # type: ignore[assignment]
            assert isinstance(verdict(verifier, token), Principal) <= has_key(entry, name), entry
    assert Fetched({"keys": [*entries, public_jwk(name), None, 5]}).count > 0


@cache
def never_asked() -> JWKS:
    return JWKS("https://id.example/keys")


def has_key(entry: Any, name: str) -> bool:
    """Whether this publishes the key for signatures, and nothing else of it."""
    if not isinstance(entry, dict) or entry.get("d") is not None:
        return False
    told = {k: v for k, v in entry.items() if v is not None}
    same = all(told.get(k) == v for k, v in public_jwk(name).items() if k != "use")
    operations = told.get("key_ops", ["verify"])
    meant = isinstance(operations, (list, str, dict)) and "verify" in operations
    return same and meant and told.get("use", "sig") == "sig" and told.get("alg", name) == name


ANSWERS = {"active": st.booleans() | st.just(True) | ANY_JSON, **CLAIMS}


class Told:
    """Stands for the way to the issuer."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    async def post(self, *request: Any) -> Any:
        try:
            return json.loads(self._answer)
        except (ValueError, RecursionError):
            raise Unreachable("it is not JSON") from None


def introspection(answer: str, **options: Any) -> TokenIntrospection:
    """A verifier whose issuer always says the same."""
    verifier = TokenIntrospection(
        "http://127.0.0.1:9/introspect", client_id="chat", client_secret="s", clock=clock, **options
    )
    verifier._outbound = Told(answer)  # type: ignore[assignment]
    return verifier


def test_only_what_is_said_to_be_active_is() -> None:
    for value in ODD:
        judged = verdict(introspection(json.dumps({**GOOD_CLAIMS, "active": value})), "x" * 20)
        assert isinstance(judged, Principal) is (value is True)


@examples(60)
@given(
    objects(ANSWERS, {"active": True, **GOOD_CLAIMS}),
    st.sampled_from([None, "chat"]),
    st.sampled_from([0.0, 30.0]),
)
def test_of_any_answer_only_an_active_token_is_admitted(
    answer: str, audience: str | None, cache_ttl: float
) -> None:
    verifier = introspection(answer, audience=audience, cache_ttl=cache_ttl)
    judged = verdict(verifier, "0123456789abcdef")
    claims = parsed(answer)
    good = isinstance(claims, dict) and claims.get("active") is True
    good = good and claims_are_good(claims, leeway=0.0, needs_exp=False)
    if audience is not None and good:
        named = claims.get("aud")
        good = audience in named if isinstance(named, list) else audience == named
    assert isinstance(judged, Principal) is bool(good)
    if not good:
        assert judged in (Reason.UNAVAILABLE, Reason.INVALID, Reason.EXPIRED)
    assert _kind(verdict(verifier, "0123456789abcdef")) == _kind(judged)


# Everything in one chain: keys, an internal credential, tickets and tokens.

API_KEYS = {"ci": "tH8wQ2mN5xB7vK4jL9pZ", "cron": "wsk_vX3bN8mK2jH7gF5dS0aP9oI6uY4tR1eWqZcVbNmLkJh"}
INTERNAL = "wsi_Lm4Nb7Vc2Xz9As6Df3Gh8Jk1Qw5Er0TyUiOpPoIuYtR"


async def too_kind(credential: Credential, conn: Any) -> Principal | None:
    """Takes every ticket, and is never asked about one, because who refuses it ends the chain."""
    return Principal("anybody") if credential.value.startswith("wst_") else None


class Credentials(RuleBasedStateMachine):
    """Credentials are made, changed, presented; and time passes. Which ones are good is known."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.minted = Tickets(self.store, clock=self.clock, ttl=30, max_pending_per_user=3)
        internal = InternalCredential(INTERNAL)
        tokens = JWTVerifier(SECRET, algorithms=["HS256"], clock=self.clock, cache=VerdictCache())
        chain = [tokens, self.minted, APIKeyVerifier(API_KEYS), internal, too_kind]
        self.auth = authenticator(*chain, clock=self.clock, observers=[])
        self.good: dict[str, dict[str, Any]] = {}  # tickets, the oldest first
        self.used: set[str] = set()

    @rule(
        target=tickets,
        owner=st.sampled_from(["alice", "bob"]),
        path=st.sampled_from([None, "/ws", "/other"]),
        origin=st.sampled_from([None, "https://chat.example"]),
        client=st.sampled_from([None, "127.0.0.1", ""]),
        left=st.sampled_from([None, 10, 300]),
    )
    def mint(self, owner: str, path: Any, origin: Any, client: Any, left: Any) -> str:
        expires_at = None if left is None else self.clock() + left
        principal = Principal(owner, expires_at=expires_at)
        ticket = run(self.minted.mint(principal, path, origin, client))
        until = self.clock() + min(30, left or 30)
        self.good[ticket] = {
            "owner": owner, "path": path, "origin": origin, "client": client, "until": until,
            "gone": until + min(30, left or 30),
        }  # fmt: skip
        kept = [t for t, told in self.good.items() if told["owner"] == owner]
        alive = [t for t in kept if self.good[t]["gone"] > self.clock()]
        for other in alive[:-3]:
            del self.good[other]
        return ticket

    @rule(seconds=st.sampled_from([1, 9, 10, 29, 30, 60]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        for token in sorted(self.used):
            self._ask_again(token)

    @rule(
        ticket=tickets,
        path=st.sampled_from(["/ws", "/ws", "/other", "/ws/"]),
        origin=st.sampled_from([None, "https://chat.example", "HTTPS://CHAT.example:443", "null"]),
        client=st.sampled_from([("127.0.0.1", 1), None, ("::1", 1)]),
    )
    def present(self, ticket: str, path: str, origin: Any, client: Any) -> None:
        told = self.good.pop(ticket, None)
        headers = [] if origin is None else [("origin", origin)]
        identity = self._ask(ticket, path=path, headers=headers, client=client)
        if told is None or told["until"] <= self.clock():
            assert identity is None
            return
        fits = told["path"] in (None, path)
        fits &= told["origin"] is None or (origin or "").lower().startswith("https://chat")
        fits &= told["client"] in (None, client[0] if client else "")
        assert identity == (told["owner"] if fits else None)

    @rule(ticket=tickets, data=st.data())
    def present_another(self, ticket: str, data: Any) -> None:
        other = data.draw(mutated(ticket))
        assume(other.strip(" ") not in self.good)
        assert self._ask(other) is None

    @rule(
        name=st.sampled_from([*API_KEYS, "server-internal"]),
        change=st.booleans(),
        data=st.data(),
    )
    def present_a_key(self, name: str, change: bool, data: Any) -> None:
        key = API_KEYS.get(name, INTERNAL)
        if change:
            other = data.draw(mutated(key))
            assume(other.strip(" ") != key)  # spaces around a header's value are nobody's
            assert self._ask(other) is None
        else:
            assert self._ask(key) == name

    @rule(left=st.sampled_from([-31, -29, 0, 5, 300]), data=st.data())
    def present_a_token(self, left: float, data: Any) -> None:
        token = signed('{"alg":"HS256"}', json.dumps({"sub": "eve", "exp": self.clock() + left}))
        assert self._ask(token) == ("eve" if left > -30 else None)
        self.used.add(token)

    @precondition(lambda self: self.used)
    @rule(data=st.data())
    def present_one_again(self, data: Any) -> None:
        self._ask_again(data.draw(st.sampled_from(sorted(self.used))))

    def _ask_again(self, token: str) -> None:
        exp = json.loads(_bytes(token)[1])["exp"]
        assert self._ask(token) == ("eve" if exp + LEEWAY > self.clock() else None)

    @rule(words=WORDS)
    def present_anything(self, words: str) -> None:
        assert self._ask(words) is None

    def _ask(self, value: str, *, headers: Any = (), **handshake: Any) -> str | None:
        sent = value.encode(errors="replace").decode("latin-1")
        scope = websocket(headers=[("authorization", f"Bearer {sent}"), *headers], **handshake)
        try:
            found = run(self.auth.authenticate(HTTPConnection(scope)))
        except Denied as denied:
            assert denied.reason in (
                Reason.INVALID,
                Reason.MALFORMED,
                Reason.EXPIRED,
                Reason.MISSING,
            )
            return None
        assert found.credential is not None
        assert found.credential.value == value
        return found.principal.identity


TestCredentials = Credentials.TestCase
TestCredentials.settings = examples(25, stateful_step_count=20)


@examples(60)
@given(NESTED, st.sampled_from(["header", "payload", "both"]), st.booleans())
def test_depth_is_no_trouble(nested: str, where: str, good: bool) -> None:
    deep = f'{{"sub": "alice", "exp": {NOW + 300}, "alg": "HS256", "x": {nested}}}'
    flat = json.dumps({**GOOD_CLAIMS, "alg": "HS256"})
    header = deep if where in ("header", "both") else flat
    payload = deep if where in ("payload", "both") else flat
    judged = verdict(PLAIN, signed(header, payload, SECRET if good else SECRET[::-1]))
    assert good or not isinstance(judged, Principal)


@cases(
    ("first", "opening", "closing"), [(0, "[", "]"), (1, '{"a":', "}"), (2, '[1,"a",{"a":', "}]")]
)
@cases("name", ["iss", "aud", "crit", "kid"])
def test_a_claim_nested_to_any_depth_is_refused_as_any_bad_one(
    name: str, first: int, opening: str, closing: str
) -> None:
    """Anybody can send it: to any depth that JSON can be read, and beyond."""
    inside = "1" if opening.endswith(":") else ""
    issuing = JWTVerifier(SECRET, algorithms=["HS256"], issuer="https://id", clock=clock)
    asking = JWTVerifier(SECRET, algorithms=["HS256"], audience="chat", clock=clock)
    for depth in (2, *range(300 + 62 * first, 1020, 186), 3000):
        nested = opening * depth + inside + closing * depth
        good = f'"sub": "alice", "exp": {NOW + 300}, "alg": "HS256"'
        token = f'{{{good}, "{name}": {nested}}}'
        for verifier in (issuing, asking):
            for presented in (
                signed(token, token),
                signed(token, token, SECRET[::-1]),
                signed('{"alg":"HS256"}', token),
                signed('{"alg":"HS256"}', token, SECRET[::-1]),
            ):
                judged = verdict(verifier, presented)
                assert judged in (Reason.INVALID, None)
        answered = introspection(f'{{"active": true, {token[1:]}', audience="chat")
        assert verdict(answered, "x" * 20) in (Reason.INVALID, Reason.UNAVAILABLE)


def test_an_answer_too_deep_to_be_remembered_admits_nobody_and_one_kept_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verifier = introspection(json.dumps({"active": True, **GOOD_CLAIMS}))
    assert verifier._cache is not None
    verifier._cache.put(verifier._secret, "x" * 20, "[" * 100_000)
    assert isinstance(verdict(verifier, "x" * 20), Principal)
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]

    async def ask(*_: Any) -> Any:
        return {"active": True, **GOOD_CLAIMS, "x": nested}

    monkeypatch.setattr(verifier, "_ask", ask)
    assert verdict(verifier, "y" * 20) is Reason.UNAVAILABLE


@examples(100)
@given(st.text(max_size=30) | WORDS, st.sampled_from([PLAIN, STRICT, CACHED]))
def test_what_is_no_token_is_not_mine(presented: str, verifier: Any) -> None:
    assert verdict(verifier, presented) is None
    assert Credential(presented).fingerprint
