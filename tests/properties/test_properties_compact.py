"""What stands in a token, and whose signature it has, is what `jwt.decode` finds, whatever a token
is made of and however it is spelt; but for what is more strictly read here."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

import jwt
import pytest
from cases import cases
from handshakes import NOW, SECRET, judge
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms
from keys import ED_KEY, P256_KEY, P256_OTHER, P521_KEY, RSA_KEY
from strategies import ANY_JSON, HOSTILE, NESTED, base64url, examples, json_texts, mutated
from strict import run

from asgi_wsauth import JWTVerifier, Principal
from asgi_wsauth.verifiers.compact import CompactJWT, read_compact
from asgi_wsauth.verifiers.keys import kid_text
from asgi_wsauth.verifiers.static_keys import StaticKeys, check_algorithms

pytestmark = pytest.mark.slow

ALGORITHMS = get_default_algorithms()
SIGNERS: dict[str, Any] = {
    "HS256": SECRET.encode(),
    "HS512": SECRET.encode() * 2,
    "RS256": RSA_KEY,
    "PS256": RSA_KEY,
    "ES256": P256_KEY,
    "ES512": P521_KEY,
    "EdDSA": ED_KEY,
}
GOOD_CLAIMS = {"sub": "alice", "exp": NOW + 300, "aud": "chat", "iss": "https://id"}
ASKED: dict[str, Any] = {"audience": "chat", "issuer": ["https://id", "https://other"]}


def public(name: str) -> Any:
    key = SIGNERS[name]
    return key if isinstance(key, bytes) else key.public_key()


class Door(NamedTuple):
    """All that verifies the tokens of one algorithm."""

    keys: Any
    plain: JWTVerifier
    strict: JWTVerifier

    @classmethod
    def of(cls, name: str) -> Door:
        options: dict[str, Any] = {"algorithms": [name], "clock": lambda: NOW}
        known = StaticKeys(public(name), check_algorithms([name]))
        return cls(
            run(known.keys()),
            JWTVerifier(public(name), required_claims=[], **options),
            JWTVerifier(public(name), **options, **ASKED),
        )


DOORS = {name: Door.of(name) for name in SIGNERS}


# What tokens are made of

# Not Ed25519, which is EdDSA here (RFC 9864), and unknown to PyJWT.
ALGS = st.sampled_from([*SIGNERS, "none", "None", "", "Ed448", "HS384"])
HEADERS: dict[str, st.SearchStrategy[Any]] = {
    "alg": ALGS | ANY_JSON,
    "kid": st.sampled_from(["a", "", 7, 1.5, None, True]) | ANY_JSON,
    "crit": st.sampled_from([["b64"], ["exp"], [], None]) | ANY_JSON,
    "b64": st.booleans() | ANY_JSON,
    "typ": st.just("JWT") | ANY_JSON,
}
CLAIMS: dict[str, st.SearchStrategy[Any]] = {
    "sub": st.sampled_from(["alice", "\ud800"]) | ANY_JSON,
    "aud": st.sampled_from(["chat", ["chat", "mail"], ["mail"], [], "", None]) | ANY_JSON,
    "iss": st.sampled_from(["https://id", "https://id/", ["https://id"], None]) | ANY_JSON,
}
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-7"]
ENDS = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b" ", b"\n", b"\x0b", b",", b"}", b"{}"]


def parts(members: dict[str, Any], base: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """A header or a payload, mostly a good one."""
    few = st.dictionaries(st.sampled_from(sorted(members)), st.none(), max_size=2).flatmap(
        lambda names: st.fixed_dictionaries({name: members[name] for name in names})
    )
    good = few.map(lambda few: json.dumps({**base, **few}))
    deep = st.builds('{}, "x": {}}}'.format, good.map(lambda text: text[:-1]), NESTED)
    other = json_texts(members) | ANY_JSON.map(json.dumps) | NESTED | HOSTILE
    texts = good | good | deep | other | good.flatmap(mutated)
    raw = texts.map(lambda text: text.encode(errors="surrogatepass"))
    encoded = st.builds(str.encode, good, st.sampled_from(ENCODINGS))
    torn = st.builds(_put_into, raw, st.sampled_from(ENDS), st.integers(-200, 200))
    return raw | raw | raw | encoded | torn


def _put_into(raw: bytes, end: bytes, at: int) -> bytes:
    return raw[:at] + end + raw[at:]


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def next_letter(text: str) -> str:
    """The last one stands for the same bytes, where bits of it are left over."""
    return text[:-1] + LETTERS[(LETTERS.find(text[-1:]) + 1) % 64]


SPELLINGS: list[Callable[[str], str]] = [
    next_letter,
    lambda text: f"{text}=",
    lambda text: f"{text}==",
    lambda text: f"{text}===",
    lambda text: text + "=" * (-len(text) % 4),
    lambda text: f"{text}A",
    lambda text: f"{text}\n",
    lambda text: f"{text[:3]} {text[3:]}",
    lambda text: f"{text[:4]}={text[4:]}",
    lambda text: text[:-1],
    lambda text: text.replace("-", "+").replace("_", "/"),
    lambda text: f"{text}.",
    lambda text: f".{text}",
    lambda text: "",
]
SIGNED: list[Callable[[bytes], bytes]] = [
    lambda _: b"",
    lambda signature: signature[:-1],
    lambda signature: signature + b"\0",
    lambda signature: b"\0" + signature,
    lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
    lambda signature: bytes(len(signature)),
    lambda signature: signature[len(signature) // 2 :] + signature[: len(signature) // 2],
]


def sign(name: str, text: str, key: Any = None) -> bytes:
    key = SIGNERS[name] if key is None else key
    return ALGORITHMS[name].sign(text.encode(errors="surrogatepass"), key)


def signed(name: str, said: str) -> str:
    return f"{said}.{base64url(sign(name, said))}"


def otherwise_spelt(header: str, payload: str) -> Iterator[str]:
    """What a token says, with either segment spelt in another way."""
    for spell in SPELLINGS:
        yield f"{spell(header)}.{payload}"
        yield f"{header}.{spell(payload)}"


def otherwise_signed(name: str, said: str, good: bytes) -> Iterator[str]:
    """A token with another signature, or with its own spelt in another way."""
    for spell in SPELLINGS:
        yield f"{said}.{spell(base64url(good))}"
    for change in SIGNED:
        yield f"{said}.{base64url(change(good))}"
    if name == "ES256":
        yield f"{said}.{base64url(sign(name, said, P256_OTHER))}"


NAMES = st.sampled_from([*["HS256"] * 8, *SIGNERS])
PARTS = {
    name: st.tuples(parts(HEADERS, {"alg": name}), parts(CLAIMS, GOOD_CLAIMS)) for name in SIGNERS
}


# What is made of them

FRAMES = 40  # more than stand between a caller of PyJWT and where it reads JSON


def deep_down(call: Callable[[], Any], frames: int = FRAMES) -> Any:
    """What is read here can be read by PyJWT, which has more of the stack for it."""
    return deep_down(call, frames - 1) if frames else call()


def read(name: str, text: str) -> CompactJWT | None:
    """What is read here; None where it is refused."""
    token = read_compact(text)
    if token is None or token.fault is not None:
        return None
    try:
        kid_text(token.header.get("kid"))
    except ValueError:
        return None
    keys = DOORS[name].keys.candidates([name, "EdDSA Ed25519"], None)
    return token if any(key.verifies(token) for key in keys) else None


def decoded(name: str, text: str, **asked: Any) -> dict[str, Any] | None:
    """What PyJWT reads; None where it refuses. It checks no times, and no `aud` unless asked."""
    unchecked = dict.fromkeys([f"verify_{claim}" for claim in "exp nbf iat sub jti".split()], False)
    options: Any = {**unchecked, "verify_aud": bool(asked), "verify_iss": bool(asked)}
    try:
        return jwt.decode_complete(text, public(name), algorithms=[name], options=options, **asked)
    except (jwt.PyJWTError, UnicodeEncodeError):
        return None


def legible(name: str, text: str, token: CompactJWT | None) -> str:
    """A good token as it would be if its `kid` were one for PyJWT: a number or null isn't."""
    if token is None or isinstance(token.header.get("kid", ""), str):
        return text
    header = base64url(json.dumps({**token.header, "kid": "1"}))
    said = f"{header}.{text.split('.')[1]}"
    return f"{said}.{base64url(sign(name, said))}"


def is_stricter_here(text: str, found: dict[str, Any]) -> bool:
    """Whether a token that PyJWT reads has what is not to be read."""
    if "=" in text or {"crit", "b64"} & found["header"].keys():
        return True
    for part in text.split(".")[:2]:
        raw = jwt.utils.base64url_decode(part)
        try:
            is_plain = not raw.decode().startswith("\ufeff") and b"\0" not in raw
        except ValueError:
            is_plain = False
        if not is_plain or raw.count(b"[") + raw.count(b"{") > 200:  # which is deep
            return True
    return False


def alike(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # no NaN is equal to itself


def agree(name: str, text: str) -> bool:
    """Check what is made of one token here and there; whether it is admitted."""
    ours = deep_down(lambda: read(name, text))
    same = legible(name, text, ours)
    theirs = decoded(name, same)
    if ours is not None:
        assert theirs is not None
        assert alike(ours.claims, theirs["payload"])
        assert alike(ours.signature, theirs["signature"]) or same != text
        assert alike(ours.header, theirs["header"]) or same != text
    elif theirs is not None:
        assert is_stricter_here(text, theirs)
    door = DOORS[name]
    for verifier, asked in ((door.plain, {"audience": None}), (door.strict, ASKED)):
        judged = deep_down(lambda v=verifier: at_once(judge(v, text)))
        if isinstance(judged, Principal):
            assert ours is not None
            found = decoded(name, same, **asked)
            assert found is not None
            assert alike(judged.claims, found["payload"])
    return ours is not None


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of what never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@examples(100)
@given(NAMES, st.data())
def test_nothing_is_admitted_that_pyjwt_refuses(name: str, data: Any) -> None:
    header, payload = map(base64url, data.draw(PARTS[name]))
    said = f"{header}.{payload}"
    signature = sign(name, said)  # not twice: ECDSA makes another one each time
    token = f"{said}.{base64url(signature)}"
    agree(name, token)
    for other in otherwise_spelt(header, payload):
        agree(name, signed(name, other))
    for other in otherwise_signed(name, said, signature):
        assert other == token or not agree(name, other)
    agree(name, data.draw(mutated(token)))


@cases(
    ("header", "good"),
    [
        ('{"alg":"HS256"}', True),
        ('{"alg":"HS256","kid":7}', True),
        ('{"alg":"HS256","kid":null}', True),
        ('{"alg":"HS256","kid":[]}', False),
        ('{"alg":"none","alg":"HS256"}', True),
        ('{"alg":"HS256","alg":"none"}', False),
        ('{"alg":"HS256","crit":["b64"],"b64":true}', False),
        ('{"alg":"HS256","b64":true}', True),
        ('{"alg":"HS256","b64":false}', False),
    ],
)
def test_what_both_make_of_a_header(header: str, good: bool) -> None:
    said = f"{base64url(header)}.{base64url(json.dumps(GOOD_CLAIMS))}"
    assert agree("HS256", signed("HS256", said)) is good
