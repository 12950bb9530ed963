"""JWKS: keys that an issuer publishes, each promise against a real issuer."""

from __future__ import annotations

import gc
import logging
import re
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio import from_thread, to_thread
from cases import cases
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from handshakes import (
    NOW,
    App,
    Clock,
    admits,
    authenticator,
    bearer,
    connected,
    drive,
    judge,
    judged,
    mint,
    websocket,
)
from issuer import FAILURES, Issuer, certificate, issuing, jwk, x5c
from judging import ADMITTED, Judging
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from keys import ED_KEY, P256_KEY, P384_KEY, RSA_KEY, RSA_SHORT, watch_signatures
from servers import DEADLINE
from sockets import until

from asgi_wsauth import (
    JWKS,
    ConfigurationError,
    Denied,
    Event,
    HTTPAuthMiddleware,
    JWTVerifier,
    KeysFetched,
    Reason,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.loops import tasks
from asgi_wsauth.verifiers import jwks
from asgi_wsauth.verifiers.keys import KeySet

pytestmark = pytest.mark.anyio

INVALID, KEYS_UNAVAILABLE = Reason.INVALID, Reason.KEYS_UNAVAILABLE


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1", P256_KEY)
        issuer.keep()
        yield issuer


class Guard(Judging):
    """A verifier with the keys of an issuer, and the clock by which those age."""

    def __init__(self, issuer: Issuer, path: str = "/jwks", **options: Any) -> None:
        self.clock = Clock()
        options = {"timeout": DEADLINE, **options}
        self.jwks = JWKS(f"{issuer.url}{path}", clock=self.clock, **options)
        algorithms = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
        self.verifier = JWTVerifier(self.jwks, algorithms=algorithms, clock=lambda: NOW)

    @asynccontextmanager
    async def judging_elsewhere(self, token: str) -> AsyncIterator[list[Any]]:
        """Judge it on another event loop, in a thread; the list gets the verdict, at the end of the
        block at the latest."""
        verdicts: list[Any] = []

        def judge_there() -> None:
            verdicts.append(anyio.run(self.judge, token))

        async with anyio.create_task_group() as group:
            group.start_soon(to_thread.run_sync, judge_there)
            yield verdicts

    async def fetched(self) -> None:
        """Wait until no fetch is on its way."""
        fetch = self.jwks._on_its_way.get()
        if fetch is not None:
            await fetch.over.wait()


def failure(line: str, issuer: Issuer, path: str = "/jwks") -> str:
    """What the log says of a fetch that failed."""
    told = re.fullmatch(
        rf"http keys_fetched: duration=[\d.]+ url={issuer.url}{path} keys=0 failure=(.+)", line
    )
    assert told, line
    return told[1].strip('"')


def unknown(number: int = 1) -> list[str]:
    """Tokens whose `kid` no issuer has."""
    return [
        mint(P256_KEY, algorithm="ES256", headers={"kid": f"unknown-{n}"}) for n in range(number)
    ]


# The shapes of a set


@cases("path", ["/jwks", "/certificates", "/x5c"])
@cases(("key", "algorithm"), [(RSA_KEY, "RS256"), (RSA_KEY, "PS256"), (P384_KEY, "ES384")])
async def test_a_set_of_any_shape(issuer: Issuer, path: str, key: Any, algorithm: str) -> None:
    issuer.add_key("2", key)
    guard = Guard(issuer, path)
    assert await guard.judge(mint(key, algorithm=algorithm, headers={"kid": "2"})) is ADMITTED
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert await guard.judge(mint(key, algorithm=algorithm, headers={"kid": "1"})) is INVALID
    assert issuer.count(path) == 1


@cases(("key", "algorithm"), [(RSA_KEY, "RS256"), (P384_KEY, "ES384")])
@cases("certificates", [["AAAA"], None, "other"])
async def test_a_certificate_beside_a_key_is_not_read(
    issuer: Issuer, key: Any, algorithm: str, certificates: Any
) -> None:
    beside = x5c(P256_KEY)["x5c"] if certificates == "other" else certificates
    issuer.pages["/jwks"] = {"keys": [jwk(key, "2", x5c=beside)]}
    token = mint(key, algorithm=algorithm, headers={"kid": "2"})
    assert await Guard(issuer).judge(token) is ADMITTED


async def test_what_is_null_is_not_there(issuer: Issuer) -> None:
    nulls = dict.fromkeys(["use", "key_ops", "alg", "d", "x5c", "crv"])
    issuer.pages["/jwks"] = {"keys": [{**jwk(RSA_KEY, "2"), **nulls}]}
    assert await Guard(issuer).judge(issuer.token("2", RSA_KEY)) is ADMITTED


async def test_a_token_without_a_kid_costs_no_more_than_ten_checks(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody can send one, and a set can have hundreds of keys."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(12)]
    guard, named = Guard(issuer), Guard(issuer, "/named")
    issuer.pages["/jwks"] = {"keys": [jwk(key) for key in keys]}
    issuer.pages["/named"] = {"keys": [jwk(key, str(n)) for n, key in enumerate(keys)]}
    checks = watch_signatures(monkeypatch)
    for kid in (None, "any"):
        assert await guard.judge(issuer.token(kid, keys[9])) is ADMITTED
        checks.clear()
        assert await guard.judge(issuer.token(kid, keys[10])) is INVALID
        assert len(checks) == 10
    assert await named.judge(issuer.token("11", keys[11])) is ADMITTED
    checks.clear()
    assert await named.judge(issuer.token(None, keys[10])) is INVALID
    assert len(checks) == 10


async def test_of_a_chain_of_certificates_the_first_has_the_key(issuer: Issuer) -> None:
    entry = x5c(RSA_KEY, "2")
    issuer.pages["/jwks"] = {"keys": [{**entry, "x5c": entry["x5c"] + x5c(SMALL)["x5c"]}]}
    assert await Guard(issuer).judge(issuer.token("2", RSA_KEY)) is ADMITTED


async def test_a_key_of_every_family(issuer: Issuer) -> None:
    okp = OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True)
    issuer.pages["/jwks"] = {"keys": [jwk(RSA_KEY, "r"), jwk(P384_KEY, "e"), {**okp, "kid": "o"}]}
    guard = Guard(issuer)
    for key, algorithm, kid in [
        (RSA_KEY, "RS256", "r"),
        (RSA_KEY, "PS256", "r"),
        (P384_KEY, "ES384", "e"),
        (ED_KEY, "EdDSA", "o"),
    ]:
        token = mint(key, algorithm=algorithm, headers={"kid": kid})
        assert await guard.judge(token) is ADMITTED


@cases(
    ("declared", "algorithm", "verdict"),
    [
        ({"alg": "RS256"}, "RS256", ADMITTED),
        ({"alg": "RS256"}, "PS256", INVALID),
        ({"alg": "PS256"}, "RS256", INVALID),
        ({"alg": None}, "PS256", ADMITTED),
        ({}, "PS256", ADMITTED),
    ],
)
async def test_a_key_is_for_the_algorithm_that_it_declares(
    issuer: Issuer, declared: Any, algorithm: str, verdict: Any
) -> None:
    issuer.pages["/jwks"] = {"keys": [jwk(RSA_KEY, "1", **declared)]}
    guard = Guard(issuer, cooldown=0)
    token = mint(RSA_KEY, algorithm=algorithm, headers={"kid": "1"})
    assert await guard.judge(token) is verdict
    assert issuer.count("/jwks") == 1  # its name is known: asking again would change nothing


PRIVATE = RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True) | {"key_ops": ["verify"]}
SMALL = RSA_SHORT


def rsa_jwk(modulus: int, exponent: int) -> dict[str, Any]:
    """A public key that nobody has the private one of."""
    parts = {"n": modulus, "e": exponent}
    encoded = {
        name: urlsafe_b64encode(number.to_bytes(-(-number.bit_length() // 8), "big"))
        for name, number in parts.items()
    }
    return {"kty": "RSA", **{name: text.decode().rstrip("=") for name, text in encoded.items()}}


LONG = rsa_jwk((1 << 8192) + 1, 65537)
SLOW = rsa_jwk(RSA_KEY.public_key().public_numbers().n, (1 << 64) + 1)


@pytest.mark.slow
@cases(
    "entry",
    [
        None,
        5,
        "text",
        [],
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "n": 5, "e": []},
        {"kty": "EC", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": "AA"},
        {"kty": "XXX"},
        {"k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ"},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ"},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ", "alg": "HS256"},
        PRIVATE,
        {**PRIVATE, "alg": "RSA-OAEP"},
        jwk(SMALL),
        LONG,
        SLOW,
        jwk(RSA_KEY, use="enc"),
        jwk(RSA_KEY, use=["sig"]),
        jwk(RSA_KEY, key_ops=["encrypt"]),
        jwk(RSA_KEY, key_ops=5),
        jwk(RSA_KEY, alg="RSA-OAEP"),
        jwk(RSA_KEY, alg="HS256"),
        jwk(RSA_KEY, alg="none"),
        jwk(RSA_KEY, alg="ES256"),
        jwk(RSA_KEY, alg=["RS256"]),
        jwk(P384_KEY, alg="ES256"),
        jwk(RSA_KEY, kid=True),
        jwk(RSA_KEY, kid=["2"]),
        {"kty": "RSA", "x5c": []},
        {"kty": "RSA", "x5c": "AAAA"},
        {"kty": "RSA", "x5c": ["AAAA"]},
        {"kty": "RSA", "x5c": [5]},
        {"kty": "RSA", "x5c": {"0": "AAAA"}},
        {**x5c(RSA_KEY), "kty": "EC"},
        {**x5c(P384_KEY), "crv": "P-256"},
        {"\x1b[31m": "\u202e\r\n"},
    ],
)
async def test_a_key_that_cant_be_used_is_left_out_and_logged(
    issuer: Issuer, entry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(entry, dict):
        entry = {"kid": "2", **entry}
    issuer.pages["/jwks"] = {"keys": [entry, jwk(P256_KEY, "1")]}
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    for algorithm in ("RS256", "PS256"):
        token = mint(RSA_KEY, algorithm=algorithm, headers={"kid": "2"})
        assert await guard.judge(token) is INVALID
    ((_, level, line),) = caplog.record_tuples
    assert level == logging.WARNING
    assert line.startswith(f"<JWKS {issuer.url}/jwks>: left out ")
    assert line.isprintable()
    assert PRIVATE["d"] not in line
    assert "c2VjcmV0" not in line


@cases("text", ["", "text", 5, None, [], "-----BEGIN CERTIFICATE-----\nAAAA"])
async def test_a_certificate_that_cant_be_read_is_left_out(issuer: Issuer, text: Any) -> None:
    pem = certificate(P256_KEY).public_bytes(Encoding.PEM).decode()
    issuer.pages["/jwks"] = {"2": text, "1": pem}
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert await guard.judge(issuer.token("2", RSA_KEY)) is INVALID


async def test_a_certificate_may_have_any_name(issuer: Issuer) -> None:
    pem = certificate(P256_KEY).public_bytes(Encoding.PEM).decode()
    issuer.pages["/jwks"] = {"keys": pem}
    assert await Guard(issuer).judge(issuer.token("keys", P256_KEY)) is ADMITTED


async def test_what_is_left_out_is_logged_when_it_changes(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(issuer)
    nameless = jwk(P256_KEY) | {"kid": [5]}
    for page in ([None], [None], [], [], [5, None], [nameless]):
        issuer.pages["/jwks"] = {"keys": [jwk(P256_KEY, "1"), *page]}
        guard.clock.now += 600
        assert await guard.judge(issuer.token("1")) is ADMITTED
    told = [line.partition(": left out ")[2] for line in caplog.messages]
    assert told == [
        "'None' ('this is not a key')",
        "nothing any more",
        "'None' ('this is not a key'); 'None' ('this is not a key')",
        "'[5]' ('its kid is neither text nor a number')",
    ]


@cases("count", [10, 11, 20])
@cases("others", [[jwk(P256_KEY, "1")], []])
async def test_however_much_is_left_out_the_line_is_short(
    issuer: Issuer, others: list[Any], count: int, caplog: pytest.LogCaptureFixture
) -> None:
    long = [{"kid": "k" * 5000, "kty": "EC", "crv": "c" * 5000} for _ in range(count)]
    issuer.pages["/jwks"] = {"keys": [*long, *others]}
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is (ADMITTED if others else KEYS_UNAVAILABLE)
    (line,) = caplog.messages
    assert len(line) < 10 * 300 + 100
    assert "Unsupported crv" in line
    if others:  # else it is a field of an event, which is cut
        assert line.endswith(f"; and {count - 10} more") == (count > 10)
        assert ("; and " in line) == (count > 10)


async def test_the_longest_rsa_keys(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    longest = rsa_jwk((1 << 8191) + 1, 65537)
    slowest = rsa_jwk(RSA_KEY.public_key().public_numbers().n, (1 << 63) + 1)
    issuer.pages["/jwks"] = {"keys": [longest, slowest, jwk(P256_KEY, "1")]}
    assert await Guard(issuer).judge(issuer.token("1")) is ADMITTED
    assert caplog.messages == []


@cases(
    ("entry", "why"),
    [
        (jwk(SMALL), "The RSA key is 1024 bits long"),
        (LONG, "it is an RSA key with 8193 bits and an exponent with 17"),
        (SLOW, "it is an RSA key with 2048 bits and an exponent with 65"),
        (jwk(RSA_KEY, use="enc"), "it is not for signatures"),
        (jwk(RSA_KEY, alg="RSA-OAEP"), "no algorithm takes it, or not the one that it declares"),
        (jwk(P384_KEY, alg="ES256"), "no algorithm takes it, or not the one that it declares"),
        (PRIVATE, "it is a secret or a private key"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "it is a secret or a private key"),
    ],
)
async def test_the_log_says_what_is_wrong_with_a_key(
    issuer: Issuer, entry: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.pages["/jwks"] = {"keys": [{**entry, "kid": "2"}, jwk(P256_KEY, "1")]}
    assert await Guard(issuer).judge(issuer.token("1")) is ADMITTED
    (line,) = caplog.messages
    assert f": left out '2' ('{why}" in line


@cases(
    "page",
    [
        {},
        [],
        None,
        5,
        "keys",
        {"keys": []},
        {"keys": {}},
        {"keys": [None]},
        {"keys": [jwk(RSA_KEY, "1", use="enc")]},
        {"error": "unavailable"},
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"keys": ' + b"[" * 200_000,
    ],
)
async def test_a_set_without_a_key_is_none(issuer: Issuer, page: Any) -> None:
    issuer.pages["/jwks"] = page
    assert await Guard(issuer).judge(issuer.token("1")) is KEYS_UNAVAILABLE


async def test_tokens_and_keys_without_a_kid(issuer: Issuer) -> None:
    issuer.pages["/jwks"] = {"keys": [jwk(P384_KEY), jwk(P256_KEY)]}
    guard = Guard(issuer)
    for kid in (None, "any"):
        assert await guard.judge(issuer.token(kid, P256_KEY)) is ADMITTED
        # One that nobody verifies may have a key that came since: that is asked once, as for a kid.
        stranger = ec.generate_private_key(ec.SECP256R1())
        assert await guard.judge(issuer.token(kid, stranger)) is INVALID
    assert issuer.count("/jwks") == 1
    issuer.pages["/jwks"] = {"keys": [jwk(RSA_KEY)]}
    guard.clock.now += 30
    assert await guard.judge(issuer.token("any", P256_KEY)) is ADMITTED
    assert issuer.count("/jwks") == 1  # what has a key needs no other
    assert await guard.judge(issuer.token(None, RSA_KEY)) is ADMITTED
    assert issuer.count("/jwks") == 2


async def test_keys_of_the_same_name_all_count(issuer: Issuer) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    issuer.pages["/jwks"] = {"keys": [jwk(other, "1"), jwk(P256_KEY, "1")]}
    guard = Guard(issuer)
    for key in (P256_KEY, other):
        assert await guard.judge(issuer.token("1", key)) is ADMITTED


# What is fetched, and when


async def test_nothing_is_fetched_for_what_is_refused_anyway(issuer: Issuer) -> None:
    guard = Guard(issuer)
    mine = JWTVerifier(guard.jwks, algorithms=["ES256"], issuer="https://id.example")
    assert await judge(mine, issuer.token("1", iss="https://other.example")) is None
    assert await judge(mine, "opaque") is None
    no_name = urlsafe_b64encode(b'{"alg": "ES256", "kid": true} ')
    for token in (
        mint(),  # HS256
        mint(P256_KEY, algorithm="ES256", headers={"kid": "1", "typ": "logout+jwt"}),
        f"{no_name.decode()}.{issuer.token('1').partition('.')[2]}",
    ):
        assert await guard.judge(token) is INVALID
    assert issuer.requests == []


@pytest.mark.both_loops
async def test_a_warm_set_never_waits(issuer: Issuer) -> None:
    """Neither a fresh one nor one that is due: the first step is the last."""
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "hold"
    for age in (0, 449, 450, 599):
        guard.clock.now = NOW + age
        with pytest.raises(StopIteration) as returned:
            guard.judge(issuer.token("1")).send(None)
        assert returned.value.value is ADMITTED
    await issuer.asked("/jwks", 2)
    issuer.let_go()
    await guard.fetched()
    assert issuer.count("/jwks") == 2


@pytest.mark.both_loops
async def test_it_is_refreshed_in_the_background_before_ttl_ends(issuer: Issuer) -> None:
    guard = Guard(issuer)
    for fetches in range(1, 6):
        assert await guard.judge(issuer.token("1")) is ADMITTED
        await guard.fetched()
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 449
        assert await guard.judge(issuer.token("1")) is ADMITTED
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 1


@pytest.mark.both_loops
async def test_a_refresh_needs_no_cooldown_to_be_over(issuer: Issuer) -> None:
    guard = Guard(issuer, ttl=20, cooldown=30)
    for fetches in range(1, 4):
        assert await guard.judge(issuer.token("1")) is ADMITTED
        await guard.fetched()
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 15


@pytest.mark.both_loops
async def test_a_set_ages_from_when_it_was_asked_for(issuer: Issuer) -> None:
    """Not from when it came: what the issuer withdrew meanwhile is in it."""
    guard = Guard(issuer, ttl=100)
    issuer.behaviour["/jwks"] = "hold"
    token = issuer.token("1")
    async with anyio.create_task_group() as group:
        group.start_soon(guard.judge, token)
        await issuer.asked("/jwks")
        del issuer.keys["1"]
        issuer.add_key("2")
        guard.clock.now += 50
        issuer.let_go()
    assert await guard.judge(token) is ADMITTED
    guard.clock.now += 50
    assert await guard.judge(token) is INVALID
    assert issuer.count("/jwks") == 2


@pytest.mark.both_loops
async def test_many_handshakes_on_a_cold_cache_share_one_fetch(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "hold"
    guard = Guard(issuer)
    async with anyio.create_task_group() as group:

        async def release() -> None:
            await issuer.asked("/jwks")
            await anyio.wait_all_tasks_blocked()
            issuer.let_go()

        group.start_soon(release)
        assert await guard.judge_all([issuer.token("1")] * 100) == {ADMITTED: 100}
    assert issuer.count("/jwks") == 1


async def test_many_unknown_kids_cause_one_fetch_in_a_cooldown(issuer: Issuer) -> None:
    guard = Guard(issuer)
    tokens = unknown(100)
    assert await guard.judge_all(tokens) == {INVALID: 100}  # cold: all of them join one fetch
    assert await guard.judge_all(tokens) == {INVALID: 100}
    guard.clock.now += 29.9
    assert await guard.judge_all(tokens) == {INVALID: 100}
    assert issuer.count("/jwks") == 1
    guard.clock.now += 0.1
    assert await guard.judge_all(tokens) == {INVALID: 100}
    for token in tokens:  # and one after the other
        assert await guard.judge(token) is INVALID
    assert issuer.count("/jwks") == 2
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert issuer.count("/jwks") == 2


async def test_failures_cool_down_too(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    for fetches in range(2, 5):
        guard.clock.now += 30
        # Nobody can say whether these are bad: an outage tells no client to give up
        assert await guard.judge_all(unknown(100)) == {KEYS_UNAVAILABLE: 100}
        for token in unknown(10):
            assert await guard.judge(token) is KEYS_UNAVAILABLE
        assert issuer.count("/jwks") == fetches
        assert await guard.judge(issuer.token("1")) is ADMITTED


@pytest.mark.both_loops
@cases(("how", "verdict"), [("serve", INVALID), ("fail", KEYS_UNAVAILABLE)])
async def test_who_waited_is_told_what_came_of_it_whatever_began_since(
    issuer: Issuer, how: str, verdict: Reason
) -> None:
    guard = Guard(issuer, cooldown=0)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    if how == "fail":
        issuer.pages["/jwks"] = None
    issuer.behaviour["/jwks"] = "hold"
    verdicts: Counter[Any] = Counter()

    async def judge_twice(token: str) -> None:
        for _ in range(2):  # the first to be told begins the next fetch, before the others are
            verdicts[await guard.judge(token)] += 1

    async with anyio.create_task_group() as group:
        for token in unknown(10):
            group.start_soon(judge_twice, token)
        await issuer.asked("/jwks", 2)
        await anyio.wait_all_tasks_blocked()
        issuer.let_go()
    assert verdicts == {verdict: 20}


@pytest.mark.both_loops
async def test_the_cooldown_begins_with_the_fetch(issuer: Issuer) -> None:
    guard = Guard(issuer)
    issuer.pages["/jwks"] = None
    issuer.behaviour["/jwks"] = "hold"
    async with anyio.create_task_group() as group:
        group.start_soon(guard.judge, issuer.token("1"))
        await issuer.asked("/jwks")
        guard.clock.now += 10
        issuer.let_go()
    issuer.behaviour.clear()
    issuer.pages.clear()
    guard.clock.now += 19.9
    assert await guard.judge(issuer.token("1")) is KEYS_UNAVAILABLE
    guard.clock.now += 0.1
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert issuer.count("/jwks") == 2


async def test_a_signature_is_checked_once_with_each_key(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = watch_signatures(monkeypatch)
    guard = Guard(issuer)
    forged = issuer.token(None, ec.generate_private_key(ec.SECP256R1()))
    for _ in range(3):  # without a kid; nothing newer comes
        checks.clear()
        assert await guard.judge(forged) is INVALID
        assert len(checks) == 1


async def test_a_new_key_is_found_at_once(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    guard.clock.now += 30
    issuer.add_key("2")
    assert await guard.judge_all([issuer.token("2")] * 100) == {ADMITTED: 100}
    assert issuer.count("/jwks") == 2


async def test_nothing_is_fetched_in_place_of_a_set_that_was_replaced(issuer: Issuer) -> None:
    guard = Guard(issuer)
    seen = await guard.jwks.keys()
    assert await guard.jwks.renewed(seen) is seen
    guard.clock.now += 600
    newer = await guard.jwks.keys()
    guard.clock.now += 30
    assert await guard.jwks.renewed(seen) is newer is not seen
    assert issuer.count("/jwks") == 2


@pytest.mark.both_loops
async def test_a_token_waits_for_the_fetch_that_may_bring_its_key(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.add_key("2")
    issuer.behaviour["/jwks"] = "hold"
    guard.clock.now += 450
    assert await guard.judge(issuer.token("1")) is ADMITTED  # begins the fetch
    await issuer.asked("/jwks", 2)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.wait_all_tasks_blocked)
        verdicts: list[Any] = []

        async def judge() -> None:
            verdicts.append(await guard.judge(issuer.token("2")))

        group.start_soon(judge)
        await anyio.wait_all_tasks_blocked()
        assert verdicts == []
        issuer.let_go()
    assert verdicts == [ADMITTED]
    assert issuer.count("/jwks") == 2


# Outages


@pytest.mark.slow
@cases("how", FAILURES)
async def test_whatever_fails_is_bounded(
    issuer: Issuer, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Down and cold is KEYS_UNAVAILABLE; down and warm serves the keys that it has."""
    cold, warm = Guard(issuer), Guard(issuer)
    assert await warm.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = how
    warm.clock.now += 600
    for guard, verdict in ((cold, KEYS_UNAVAILABLE), (warm, ADMITTED)):
        if how in ("hang", "drip", "drip_headers"):  # only what fails is waited for so shortly
            guard.jwks._timeout = 0.5
        caplog.clear()
        for _ in range(3):
            assert await guard.judge(issuer.token("1")) is verdict
        (record,) = [r for r in caplog.records if r.name == "asgi_wsauth"]
        assert record.levelno == logging.WARNING
        assert failure(record.getMessage(), issuer)
        assert record.getMessage().isprintable()
    await issuer.asked("/jwks", 3)  # which it may notice later than that nobody waits any more
    assert issuer.count("/jwks") == 3  # the warm one's first, and one failure each
    assert issuer.count("/elsewhere") == 0
    issuer.behaviour.clear()
    cold.jwks._timeout = DEADLINE
    cold.clock.now += 30
    assert await cold.judge(issuer.token("1")) is ADMITTED


@pytest.mark.both_loops
async def test_old_keys_serve_for_stale_for(issuer: Issuer) -> None:
    guard = Guard(issuer, ttl=100, cooldown=10, stale_for=50)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    for age, verdict, fetches in [
        (99, ADMITTED, 2),  # in the background
        (100, ADMITTED, 2),
        (110, ADMITTED, 3),
        (149.9, ADMITTED, 4),
        (150, KEYS_UNAVAILABLE, 4),
        (160, KEYS_UNAVAILABLE, 5),
    ]:
        guard.clock.now = NOW + age
        for _ in range(3):
            assert await guard.judge(issuer.token("1")) is verdict, age
            await guard.fetched()
        assert issuer.count("/jwks") == fetches, age
    issuer.behaviour.clear()
    guard.clock.now += 10
    assert await guard.judge(issuer.token("1")) is ADMITTED


@pytest.mark.both_loops
async def test_old_keys_need_not_serve_at_all(issuer: Issuer) -> None:
    guard = Guard(issuer, ttl=100, stale_for=0)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    for age, verdict in ((99.9, ADMITTED), (100, KEYS_UNAVAILABLE), (130, KEYS_UNAVAILABLE)):
        guard.clock.now = NOW + age
        assert await guard.judge(issuer.token("1")) is verdict
        await guard.fetched()
    assert issuer.count("/jwks") == 3


@pytest.mark.both_loops
async def test_old_keys_need_a_failure_of_just_now(issuer: Issuer) -> None:
    """After hours without a handshake, an outage that is over excuses no old key."""
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    guard.clock.now += 599
    assert await guard.judge(issuer.token("1")) is ADMITTED
    await guard.fetched()
    issuer.behaviour.clear()
    withdrawn = issuer.keys.pop("1")
    issuer.add_key("2")
    guard.clock.now += 31
    assert await guard.judge(issuer.token("1", withdrawn)) is INVALID
    assert issuer.count("/jwks") == 3


@pytest.mark.both_loops
@cases("warm", [False, True])
async def test_a_set_that_is_gone_when_it_comes_is_none(issuer: Issuer, warm: bool) -> None:
    guard = Guard(issuer, ttl=10, stale_for=5, cooldown=1)
    if warm:
        assert await guard.judge(issuer.token("1")) is ADMITTED
        guard.clock.now += 1
    issuer.behaviour["/jwks"] = "hold"

    async def refuse() -> None:
        with pytest.raises(
            Denied, match=r": the fetch took longer than its keys may be used$"
        ) as caught:
            await judged(guard.verifier, unknown()[0])
        assert caught.value.reason is KEYS_UNAVAILABLE

    async with anyio.create_task_group() as group:
        group.start_soon(refuse)
        await issuer.asked("/jwks", 1 + warm)
        guard.clock.now += 15
        issuer.let_go()


@pytest.mark.both_loops
async def test_a_withdrawn_key_is_refused_after_ttl_however_often_it_is_used(
    issuer: Issuer,
) -> None:
    guard = Guard(issuer, ttl=100)
    token = issuer.token("1")
    assert await guard.judge(token) is ADMITTED
    issuer.keys.clear()
    issuer.add_key("2")
    issuer.behaviour["/jwks"] = "hold"  # so that the fetch in the background brings nothing, too
    for age in range(1, 100):
        guard.clock.now = NOW + age
        assert await guard.judge(token) is ADMITTED
    issuer.let_go()
    guard.clock.now = NOW + 100
    assert await guard.judge(token) is INVALID
    assert issuer.count("/jwks") == 2


@pytest.mark.both_loops
async def test_the_handshake_that_started_a_fetch_is_cancelled(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "hold"
    guard = Guard(issuer)
    verdicts: list[Any] = []

    async def judge() -> None:
        verdicts.append(await guard.judge(issuer.token("1")))

    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as first:
            first.start_soon(judge)
            await issuer.asked("/jwks")
            for _ in range(10):
                others.start_soon(judge)
            await anyio.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        assert verdicts == []
        issuer.let_go()
    assert verdicts == [ADMITTED] * 10
    assert issuer.count("/jwks") == 1


@pytest.mark.both_loops
async def test_the_deadline_of_a_handshake_does_not_end_the_fetch(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "hold"
    guard = Guard(issuer)
    auth = authenticator(guard.verifier, observers=(), timeout=0.01)
    scope = websocket(f"token={issuer.token('1')}")
    outcome = await drive(WebSocketAuthMiddleware(App(), auth), scope, receive=connected())
    assert outcome.close == (1013, "verifier_unavailable")
    await issuer.asked("/jwks")
    issuer.let_go()
    await guard.fetched()
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert issuer.count("/jwks") == 1


async def test_what_clients_are_told(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "fail"
    guard = Guard(issuer)
    auth = authenticator(guard.verifier, observers=())
    token = issuer.token("1")
    scope = websocket(f"token={token}")
    outcome = await drive(WebSocketAuthMiddleware(App(), auth), scope, receive=connected())
    assert outcome.close == (4001, "keys_unavailable")
    guard.clock.now += 20
    request = websocket(headers=bearer(token), type="http", method="GET", scheme="http")
    outcome = await drive(HTTPAuthMiddleware(App(), auth), request)
    assert outcome.sent[0]["status"] == 503
    assert (b"retry-after", b"10") in outcome.sent[0]["headers"]


async def test_what_the_log_is_told(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "fail"
    with pytest.raises(Denied) as caught:
        await Guard(issuer).jwks.keys()
    assert caught.value.detail == f"<JWKS {issuer.url}/jwks>: HTTP 500"
    issuer.behaviour.clear()
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    guard.clock.now += 60
    with pytest.raises(Denied) as caught:  # nobody knows whether there is a new key
        await judged(guard.verifier, unknown()[0])
    assert caught.value.detail == f"<JWKS {issuer.url}/jwks>: HTTP 500"
    assert caught.value.retry_after == 30
    issuer.behaviour.clear()
    issuer.pages["/jwks"] = []
    with pytest.raises(Denied) as caught:
        await Guard(issuer).jwks.keys()
    assert caught.value.detail == f"<JWKS {issuer.url}/jwks>: this is not a key set"


# Rotation


@pytest.mark.slow
async def test_rotation_without_a_refusal(issuer: Issuer) -> None:
    """Handshakes run throughout while the key is rotated twice: the new one is published, then
    used, then the old one is withdrawn."""
    guard = Guard(issuer, ttl=100, cooldown=10)
    auth = authenticator(guard.verifier, observers=())
    refused: list[Any] = []

    async def handshakes(kid: str, *, until: float) -> None:
        """Three at once, every five seconds."""
        token = issuer.token(kid)
        while guard.clock.now < until:
            guard.clock.now += 5

            async def one() -> None:
                app, scope = App(), websocket(f"token={token}")
                guarded = WebSocketAuthMiddleware(app, auth)
                outcome = await drive(guarded, scope, receive=connected())
                if not app.calls:
                    refused.append((kid, guard.clock.now - NOW, outcome.close))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(one)

    now = NOW
    for old, new in (("1", "2"), ("2", "3")):
        await handshakes(old, until=(now := now + 150))
        issuer.add_key(new)
        await handshakes(old, until=(now := now + 50))
        await handshakes(new, until=(now := now + 50))
        token, _ = issuer.token(old), issuer.keys.pop(old)
        await handshakes(new, until=(now := now + 100))
        assert await guard.judge(token) is INVALID
        assert refused == []
    # 700 seconds, a fetch every 75, and perhaps one for each new key
    assert issuer.count("/jwks") <= 12


@pytest.mark.usefixtures("little_to_collect")
async def test_nobody_keeps_keys_that_were_replaced(issuer: Issuer) -> None:
    """Not even a verifier that was not asked since."""
    guard = Guard(issuer, ttl=100)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    replaced = ref(await guard.jwks.keys())
    guard.clock.now += 90  # due for a fetch behind the handshake's back
    assert await guard.judge(issuer.token("1")) is ADMITTED
    await guard.fetched()
    gc.collect()
    assert replaced() is None


@pytest.mark.both_loops
async def test_a_late_older_answer_does_not_replace_a_newer_one(issuer: Issuer) -> None:
    """Two event loops ask; the one that asked first hears last."""
    guard = Guard(issuer)
    issuer.behaviour["/jwks"] = "hold"
    async with guard.judging_elsewhere(issuer.token("1")) as verdicts:
        await issuer.asked("/jwks")
        issuer.behaviour.clear()
        issuer.add_key("2")
        assert await guard.judge(issuer.token("2")) is ADMITTED
        assert verdicts == []
        issuer.let_go()
    assert verdicts == [ADMITTED]
    assert await guard.judge(issuer.token("2")) is ADMITTED
    assert issuer.count("/jwks") == 2


async def test_of_two_answers_at_one_moment_the_newer_counts() -> None:
    """Two event loops, in two threads: the newer answer comes just when the older one was found to
    be newer than what there is."""
    kept = JWKS("http://localhost/keys")

    def take(number: int) -> None:
        kept._take(jwks._Fetched(KeySet([]), jwks._Fetch(number, NOW)), "")

    newer = Thread(target=take, args=(3,))

    class First(int):
        def __gt__(self, other: int) -> bool:
            if other == 2:
                newer.start()
                newer.join(0.2)  # it waits for its turn
            return False

    for number in (First(1), 2):
        take(number)
    newer.join()
    assert kept._fetched is not None
    assert kept._fetched.fetch.number == 3


@pytest.mark.both_loops
async def test_a_late_older_failure_does_not_count_against_a_newer_answer(issuer: Issuer) -> None:
    guard = Guard(issuer)
    issuer.pages["/jwks"] = None  # 404
    issuer.behaviour["/jwks"] = "hold"
    async with guard.judging_elsewhere(issuer.token("1")) as verdicts:
        await issuer.asked("/jwks")
        issuer.behaviour.clear()
        issuer.pages.clear()
        assert await guard.judge(issuer.token("1")) is ADMITTED
        issuer.let_go()
    assert verdicts == [ADMITTED]  # it waited for its own fetch, and then found the other's keys
    assert await guard.judge(unknown()[0]) is INVALID


@pytest.mark.both_loops
async def test_what_another_event_loop_is_asking_is_not_known_yet(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    guard.clock.now += 30
    issuer.add_key("2")
    issuer.behaviour["/jwks"] = "hold"
    async with guard.judging_elsewhere(issuer.token("2")) as verdicts:
        await issuer.asked("/jwks", 2)
        with pytest.raises(Denied, match="another event loop is asking") as caught:
            await judged(guard.verifier, issuer.token("2"))
        assert caught.value.reason is KEYS_UNAVAILABLE  # and not INVALID
        issuer.let_go()
    assert verdicts == [ADMITTED]
    assert await guard.judge(issuer.token("2")) is ADMITTED
    assert issuer.count("/jwks") == 2


# Event loops


@pytest.mark.both_loops
def test_one_set_serves_event_loops_one_after_the_other(
    issuer: Issuer, anyio_backend_name: str
) -> None:
    guard = Guard(issuer)

    async def judge() -> None:
        assert await guard.judge(issuer.token("1")) is ADMITTED
        guard.clock.now += 600

    for fetches in range(1, 4):
        anyio.run(judge, backend=anyio_backend_name)
        assert issuer.count("/jwks") == fetches


@pytest.mark.both_loops
def test_a_fetch_that_its_event_loop_cuts_off_holds_up_nobody(
    issuer: Issuer, anyio_backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(issuer)

    async def leave_early() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(guard.judge, issuer.token("1"))
                await issuer.asked("/jwks")
                scope.cancel()

    issuer.behaviour["/jwks"] = "hang"
    anyio.run(leave_early, backend=anyio_backend_name)
    (line,) = caplog.messages
    assert failure(line, issuer) == "it was broken off"
    issuer.behaviour.clear()
    assert anyio.run(guard.judge, issuer.token("1"), backend=anyio_backend_name) is ADMITTED


async def test_nothing_is_kept_of_a_fetch_that_is_over(issuer: Issuer) -> None:
    guard = Guard(issuer)
    before = set(tasks._running)
    for how in ("serve", "fail", "hang_up"):
        issuer.behaviour["/jwks"] = how
        assert await guard.judge(issuer.token("1")) is ADMITTED
        guard.clock.now += 600
    await until(lambda: tasks._running <= before)


@pytest.mark.slow
@pytest.mark.both_loops
def test_the_event_loop_is_never_held_up(issuer: Issuer, anyio_backend_name: str) -> None:
    """The longest time that a ticking task doesn't run, while a fetch hangs and 100 handshakes wait
    for it, beside the same without the package. A fetch that blocks makes it as long as it hangs.
    """
    hang = 0.4

    async def longest_gap(meanwhile: Callable[[], Awaitable[Any]]) -> float:
        gaps = [0.0]

        async def tick() -> None:
            last = anyio.current_time()
            while True:
                await anyio.sleep(0.001)
                last, gap = anyio.current_time(), anyio.current_time() - last
                gaps.append(gap)

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await meanwhile()
            group.cancel_scope.cancel()
        return max(gaps)

    async def compare() -> float:
        guard = Guard(issuer, timeout=hang)
        tokens = [issuer.token("1")] * 100

        async def with_it() -> None:
            assert await guard.judge_all(tokens) == {KEYS_UNAVAILABLE: 100}

        without = await longest_gap(lambda: anyio.sleep(hang))
        return await longest_gap(with_it) - without

    issuer.behaviour["/jwks"] = "hang"
    # The machine itself holds up a loop now and then, but not each time just here.
    assert any(anyio.run(compare, backend=anyio_backend_name) < hang / 2 for _ in range(3))


async def test_keys_are_read_in_a_thread_that_no_app_can_take(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = jwks.parse_key_set

    def in_a_thread(document: Any) -> Any:
        from_thread.run_sync(lambda: None)  # the event loop does it: nothing holds that up
        return read(document)

    monkeypatch.setattr(jwks, "parse_key_set", in_a_thread)
    threads = to_thread.current_default_thread_limiter()
    threads.total_tokens = 1
    async with threads:  # the app has them all
        assert await Guard(issuer).judge(issuer.token("1")) is ADMITTED


@pytest.mark.both_loops
async def test_whatever_breaks_in_a_fetch_holds_up_nobody(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(document: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(jwks, "parse_key_set", broken)
    guard = Guard(issuer)
    assert await guard.judge_all([issuer.token("1")] * 10) == {KEYS_UNAVAILABLE: 10}
    (line,) = caplog.messages
    assert failure(line, issuer) == "ZeroDivisionError"
    assert issuer.count("/jwks") == 1


async def test_a_log_that_breaks_holds_up_nobody(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(logging.getLogger("asgi_wsauth"), "filters", [breaks])
    issuer.behaviour["/jwks"] = "fail"
    guard = Guard(issuer, cooldown=0)
    with anyio.fail_after(30):
        for _ in range(2):
            assert await guard.judge(issuer.token("1")) is KEYS_UNAVAILABLE
    assert issuer.count("/jwks") == 2


# OpenID Connect


def oidc(issuer: Issuer, path: str = "", **options: Any) -> JWTVerifier:
    return JWTVerifier.from_oidc(
        f"{issuer.url}{path}",
        algorithms=["ES256"],
        audience="chat",
        **{"clock": lambda: NOW, "timeout": DEADLINE, **options},
    )


DISCOVERY = "/.well-known/openid-configuration"


async def test_the_discovery_document_leads_to_the_keys(issuer: Issuer) -> None:
    verifier = oidc(issuer)
    token = issuer.token("1", iss=issuer.url, aud="chat")
    for _ in range(3):
        assert await admits(verifier, token)
    assert [request.path for request in issuer.requests] == [DISCOVERY, "/jwks"]
    assert await judge(verifier, issuer.token("1", iss=issuer.url, aud="mail")) is INVALID
    assert await judge(verifier, issuer.token("1", iss=f"{issuer.url}/", aud="chat")) is None


@cases(
    ("options", "claims", "verdict"),
    [
        ({"leeway": 0}, {"exp": int(NOW)}, Reason.EXPIRED),
        ({"required_claims": ["tenant"]}, {}, INVALID),
        ({"scopes_claim": "scp"}, {"scp": 5}, INVALID),
        ({"typ": "at+jwt"}, {}, INVALID),
        ({"clock": lambda: NOW + 400}, {}, Reason.EXPIRED),
    ],
)
async def test_an_issuers_tokens_are_judged_by_the_options_of_a_verifier(
    issuer: Issuer, options: Any, claims: Any, verdict: Reason
) -> None:
    token = issuer.token("1", iss=issuer.url, aud="chat", **claims)
    assert await admits(oidc(issuer), token)
    assert await judge(oidc(issuer, **options), token) is verdict


async def test_the_discovery_document_is_read_again_with_the_keys(issuer: Issuer) -> None:
    clock = Clock()
    jwks = JWKS.from_oidc(issuer.url, clock=clock)
    verifier = JWTVerifier(jwks, algorithms=["ES256"], clock=lambda: NOW)
    assert await admits(verifier, issuer.token("1"))
    issuer.pages["/new"] = {"keys": [jwk(issuer.add_key("2"), "2")]}
    issuer.pages[DISCOVERY] = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/new"}
    clock.now += 600
    assert await admits(verifier, issuer.token("2"))
    paths = [request.path for request in issuer.requests]
    assert paths == [DISCOVERY, "/jwks", DISCOVERY, "/new"]


async def test_the_keys_may_be_on_another_host(issuer: Issuer) -> None:
    there = issuer.url.replace("127.0.0.1", "localhost")
    issuer.pages[DISCOVERY] = {"issuer": issuer.url, "jwks_uri": f"{there}/jwks"}
    token = issuer.token("1", iss=issuer.url, aud="chat")
    assert await admits(oidc(issuer), token)


@cases("path", ["/", "/realms/main", "/realms/main/", "/realms//"])
async def test_an_issuer_with_a_path(issuer: Issuer, path: str) -> None:
    """The slash at its end counts in the name, and not in the address."""
    name = f"{issuer.url}{path}"
    at = f"{path.removesuffix('/')}{DISCOVERY}"
    issuer.pages[at] = {"issuer": name, "jwks_uri": f"{issuer.url}/jwks"}
    token = issuer.token("1", iss=name, aud="chat")
    assert await admits(oidc(issuer, path), token)
    assert issuer.count(at) == 1


KEYS = "{issuer}/jwks"
NO_DOCUMENT = "this is not a discovery document"


@cases(
    ("document", "why"),
    [
        (None, "HTTP 404"),
        ([], NO_DOCUMENT),
        ("text", NO_DOCUMENT),
        ({}, NO_DOCUMENT),
        ({"issuer": "{issuer}"}, NO_DOCUMENT),
        ({"issuer": "{issuer}", "jwks_uri": [KEYS]}, NO_DOCUMENT),
        ({"jwks_uri": KEYS}, "its issuer is 'None', and not exactly '{issuer}'"),
        (
            {"issuer": "{issuer}/", "jwks_uri": KEYS},
            "its issuer is '{issuer}/', and not exactly '{issuer}'",
        ),
        (
            {"issuer": "{ISSUER}", "jwks_uri": KEYS},
            "its issuer is '{ISSUER}', and not exactly '{issuer}'",
        ),
        (
            {"issuer": "\x1b[31m\u202e\r\n", "jwks_uri": KEYS},
            r"its issuer is '\\x1b[31m\\u202e\\r\\n', and not exactly '{issuer}'",
        ),
        ({"issuer": "x" * 100_000, "jwks_uri": KEYS}, f"its issuer is '{'x' * 150}"),
        ({"issuer": "https://evil.example", "jwks_uri": KEYS}, "its issuer is "),
        ({"issuer": ["{issuer}"], "jwks_uri": KEYS}, "its issuer is "),
        ({"issuer": "{issuer}", "jwks_uri": "/jwks"}, ""),
        ({"issuer": "{issuer}", "jwks_uri": ""}, ""),
        ({"issuer": "{issuer}", "jwks_uri": "http://keys.example/jwks"}, ""),
        ({"issuer": "{issuer}", "jwks_uri": "file:///etc/passwd"}, ""),
    ],
)
async def test_a_discovery_document_that_leads_nowhere(
    issuer: Issuer, document: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{issuer}", issuer.url).replace("{ISSUER}", issuer.url.upper())
        return [filled(part) for part in value]

    if isinstance(document, dict):
        document = {name: filled(value) for name, value in document.items()}
    issuer.pages[DISCOVERY] = document
    token = issuer.token("1", iss=issuer.url, aud="chat")
    assert await judge(oidc(issuer), token) is KEYS_UNAVAILABLE
    assert [request.path for request in issuer.requests] == [DISCOVERY]
    (line,) = caplog.messages
    assert line.isprintable()
    assert len(line) < 500
    told = failure(line, issuer, DISCOVERY)
    assert not told.endswith("Error")  # it says what is wrong
    assert told.startswith(filled(why))


async def test_the_two_requests_have_one_deadline(issuer: Issuer) -> None:
    issuer.behaviour["/jwks"] = "hang"
    token = issuer.token("1", iss=issuer.url, aud="chat")
    verifier = oidc(issuer, timeout=0.3)
    assert isinstance(verifier._keys, JWKS)
    verifier._keys._outbound._timeout = 60  # so that it is not that of the second one
    with anyio.fail_after(30):
        assert await judge(verifier, token) is KEYS_UNAVAILABLE


async def test_a_token_names_no_address(issuer: Issuer) -> None:
    evil = ec.generate_private_key(ec.SECP256R1())
    issuer.pages["/evil"] = {"keys": [jwk(evil, "1")]}
    public = ECAlgorithm.to_jwk(evil.public_key(), as_dict=True)
    headers = {
        "kid": "1",
        "jku": f"{issuer.url}/evil",
        "x5u": f"{issuer.url}/evil",
        "jwk": public,
        "x5c": x5c(evil)["x5c"],
    }
    token = mint(evil, algorithm="ES256", headers=headers, iss=issuer.url, aud="chat")
    assert await judge(oidc(issuer), token) is INVALID
    assert [request.path for request in issuer.requests] == [DISCOVERY, "/jwks"]


# Configuration


@cases(
    ("url", "options", "named"),
    [
        ("http://id.example/keys", {}, "only https"),
        ("file:///etc/passwd", {}, "only https"),
        ("id.example/keys", {}, "only https"),
        ("", {}, "only https"),
        (None, {}, "https://id.example/keys, got None"),
        (5, {}, "https://id.example/keys, got 5"),
        ("https://", {}, "only https"),
        ("https://[::1", {}, "got 'https://[::1'"),
        ("https://user:password@id.example", {}, "a password"),
        ("https://id.example", {"ttl": 0}, "JWKS: ttl must be a positive number of seconds, got 0"),
        (
            "https://id.example",
            {"ttl": float("nan")},
            "JWKS: ttl must be a positive number of seconds, got nan",
        ),
        (
            "https://id.example",
            {"ttl": float("inf")},
            "JWKS: ttl must be a positive number of seconds, got inf",
        ),
        (
            "https://id.example",
            {"ttl": True},
            "JWKS: ttl must be a positive number of seconds, got True",
        ),
        (
            "https://id.example",
            {"ttl": "600"},
            "JWKS: ttl must be a positive number of seconds, got '600'",
        ),
        (
            "https://id.example",
            {"cooldown": -1},
            "JWKS: cooldown must be a number of seconds of at least 0, got -1",
        ),
        (
            "https://id.example",
            {"stale_for": -1},
            "JWKS: stale_for must be a number of seconds of at least 0, got -1",
        ),
        (
            "https://id.example",
            {"timeout": 0},
            "JWKS: timeout must be a positive number of seconds, got 0",
        ),
        ("https://id.example", {"max_size": 0}, "JWKS: max_size must be a positive integer, got 0"),
        (
            "https://id.example",
            {"max_size": 1.5},
            "JWKS: max_size must be a positive integer, got 1.5",
        ),
    ],
)
def test_bad_configuration(url: Any, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JWKS(url, **options)
    assert named in str(caught.value)


@cases(
    ("issuer", "named"),
    [
        (None, "issuer must be a string, "),
        (5, "issuer must be a string, "),
        ("http://id.example", "JWKS: "),
        ("id.example", "JWKS: "),
        ("", "issuer must be a string, "),
        ("https://id.example/.well-known/openid-configuration", "issuer must be the issuer its"),
    ],
)
def test_an_issuer_that_is_no_address(issuer: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named}"):
        JWTVerifier.from_oidc(issuer, algorithms=["RS256"], audience=None)


@cases("option", ["ttl", "cooldown", "stale_for", "timeout", "max_size"])
def test_an_issuers_keys_take_the_options_of_a_set(option: str) -> None:
    options: Any = {option: -1}
    with pytest.raises(ConfigurationError, match=rf"JWKS: {option} must be .*, got -1$"):
        JWTVerifier.from_oidc("https://id.example", algorithms=["RS256"], audience=None, **options)


NO_SECRETS = "an HMAC key is a secret, and a JWKS has public keys; use for example "


@cases(
    ("algorithms", "why"),
    [
        (["HS256"], rf'{NO_SECRETS}\["RS256"\]$'),
        (["RS256", "HS256"], ""),
        ([], ""),
        (["none"], "'none'"),
    ],
)
def test_only_public_keys_come_from_the_network(algorithms: list[str], why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^algorithms.* {why}"):
        JWTVerifier(JWKS("http://localhost/keys"), algorithms=algorithms)


def test_a_set_stands_alone() -> None:
    with pytest.raises(ConfigurationError, match=r"key number 2 must be .* got a JWKS"):
        JWTVerifier(
            [jwk(P256_KEY), JWKS("http://localhost/keys")],  # type: ignore[list-item]
            algorithms=["ES256"],
        )


def test_the_defaults() -> None:
    url = "https://id.example"
    verifier = JWTVerifier.from_oidc(url, algorithms=["RS256"], audience=None)
    for made in (JWKS(url), JWKS.from_oidc(url), verifier._keys):
        keys: Any = made
        assert (keys._ttl, keys._cooldown, keys._stale_for, keys._timeout) == (600, 30, 3600, 3)
        assert keys._outbound._max_size == 262_144


def test_its_repr_has_no_query() -> None:
    assert repr(JWKS("https://id.example/keys?secret=x")) == "<JWKS https://id.example/keys>"


# What observers are told


async def test_every_fetch_is_told_once(issuer: Issuer) -> None:
    told: list[Event] = []
    guard = Guard(issuer, "/jwks?secret=x", observers=[told.append])
    issuer.pages["/jwks?secret=x"] = {"keys": [jwk(RSA_KEY, "2"), jwk(P256_KEY, "1"), None]}
    began = time.perf_counter()
    assert await guard.judge_all([issuer.token("1")] * 10) == {ADMITTED: 10}
    longest = time.perf_counter() - began
    issuer.behaviour["*"] = "fail"
    guard.clock.now += 600
    assert await guard.judge_all([issuer.token("1")] * 10) == {ADMITTED: 10}
    seen = [event for event in told if isinstance(event, KeysFetched)]
    assert seen == told
    assert [(e.url, e.keys, e.failure) for e in seen] == [
        (f"{issuer.url}/jwks", 2, None),
        (f"{issuer.url}/jwks", 0, "HTTP 500"),
    ]
    assert all(event.duration > 0 and event.client is None for event in seen)
    assert seen[0].duration <= longest


async def test_a_fetch_that_works_is_logged_for_who_wants_to_know(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asgi_wsauth")
    assert await Guard(issuer).judge(issuer.token("1")) is ADMITTED
    ((_, level, line),) = [told for told in caplog.record_tuples if told[0] == "asgi_wsauth"]
    assert level == logging.DEBUG
    assert line.endswith(f" url={issuer.url}/jwks keys=1")


async def test_an_observer_that_raises_is_logged_and_the_keys_are_there(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no room for it")

    guard = Guard(issuer, observers=[broken, told.append])
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert len(told) == 1
    (line,) = caplog.messages
    assert "broken" in line


async def test_the_observers_of_an_issuers_keys(issuer: Issuer) -> None:
    told: list[Event] = []
    token = issuer.token("1", iss=issuer.url, aud="chat")
    assert await admits(oidc(issuer, observers=[told.append]), token)
    assert [getattr(event, "url", None) for event in told] == [f"{issuer.url}{DISCOVERY}"]
