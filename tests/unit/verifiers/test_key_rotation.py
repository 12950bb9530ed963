"""Keys that come and go at a real issuer: what is found, by how many requests, and what a client is
told meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cases import cases
from cryptography.hazmat.primitives.asymmetric import ec
from handshakes import (
    NOW,
    App,
    Clock,
    authenticator,
    bearer,
    connected,
    drive,
    judge,
    judged,
    jwt_verifier,
    mint,
    websocket,
)
from issuer import Issuer, issuing, jwk
from judging import ADMITTED, Judging
from keys import P256_KEY, P256_OTHER, RSA_KEY, watch_signatures
from servers import DEADLINE

from asgi_wsauth import (
    JWKS,
    Denied,
    FailureThrottle,
    HTTPAuthMiddleware,
    JWTVerifier,
    Reason,
    VerdictCache,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

INVALID, KEYS_UNAVAILABLE = Reason.INVALID, Reason.KEYS_UNAVAILABLE
STRANGER, OTHER = P256_KEY, P256_OTHER


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1")
        issuer.keep()
        yield issuer


class Guard(Judging):
    """A verifier with the keys of an issuer. Time stands still until a test moves it."""

    def __init__(self, issuer: Issuer, *, leeway: float = 30.0, **options: Any) -> None:
        self.clock = Clock()
        options = {"timeout": DEADLINE, **options}
        self.jwks = JWKS(f"{issuer.url}/jwks", clock=self.clock, **options)
        self.verifier = JWTVerifier(
            self.jwks,
            algorithms=["RS256", "PS256", "ES256", "ES384"],
            clock=self.clock,
            leeway=leeway,
            cache=VerdictCache(clock=self.clock),
        )


def of(kid: str | None, key: Any = STRANGER, *, iat: float | None = None, **claims: Any) -> str:
    """A token with this `kid`, whoever signed it. It expires long after all tests."""
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    claims = {"exp": int(NOW) + 100_000, "iat": iat, **claims}
    return mint(key, algorithm=algorithm, headers={"kid": kid} if kid else {}, **claims)


def late(iat: float = NOW) -> str:
    """A stranger's token of a `kid` that no set has."""
    return of("unknown", iat=iat)


# New material under an old name


async def test_new_material_under_an_old_kid_is_found_by_one_fetch(issuer: Issuer) -> None:
    guard = Guard(issuer)
    old = of("1", issuer.keys["1"])
    for _ in range(2):
        assert await guard.judge(old) is ADMITTED
    issuer.add_key("1", OTHER)
    guard.clock.now += 30
    assert await guard.judge(old) is ADMITTED  # nobody has seen the new one yet
    assert await guard.judge_all([of("1", OTHER)] * 100) == {ADMITTED: 100}
    assert issuer.count("/jwks") == 2
    assert await guard.judge(old) is INVALID  # whatever the cache of verdicts remembers
    assert issuer.count("/jwks") == 2


@cases(("before", "after"), [(STRANGER, RSA_KEY), (RSA_KEY, STRANGER)])
async def test_the_new_material_may_be_of_another_kind(
    issuer: Issuer, before: Any, after: Any
) -> None:
    issuer.add_key("1", before)
    guard = Guard(issuer)
    assert await guard.judge(of("1", before)) is ADMITTED
    issuer.add_key("1", after)
    guard.clock.now += 30
    assert await guard.judge(of("1", after)) is ADMITTED
    assert await guard.judge(of("1", before)) is INVALID
    assert issuer.count("/jwks") == 2


async def test_a_key_that_says_it_is_for_another_alg_is_not_asked_for_again(
    issuer: Issuer,
) -> None:
    issuer.pages["/jwks"] = {"keys": [jwk(RSA_KEY, "1", alg="PS256")]}
    guard = Guard(issuer, cooldown=0)
    for _ in range(3):
        assert await guard.judge(of("1", RSA_KEY)) is INVALID
    assert issuer.count("/jwks") == 1


async def test_strangers_bad_signatures_cause_one_fetch_in_a_cooldown(issuer: Issuer) -> None:
    guard = Guard(issuer)
    good = issuer.token("1")
    forged = [of("1", iat=NOW), of("1"), of(None), of(None, iat=NOW)] * 10
    assert await guard.judge(good) is ADMITTED
    for fetches in (1, 2, 3):
        for _ in range(2):
            assert await guard.judge_all(forged) == {INVALID: 40}
            assert issuer.count("/jwks") == fetches
        guard.clock.now += 29.9
        assert await guard.judge_all(forged) == {INVALID: 40}
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 0.1
    assert await guard.judge(good) is ADMITTED
    assert issuer.count("/jwks") == 3


async def test_a_bad_signature_is_no_good_one_while_the_issuer_is_down(issuer: Issuer) -> None:
    """Nobody can say whether the key has changed, so nobody is told to stop."""
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.behaviour["/jwks"] = "fail"
    guard.clock.now += 30
    assert await guard.judge_all([of("1")] * 100) == {KEYS_UNAVAILABLE: 100}
    assert await guard.judge(issuer.token("1")) is ADMITTED
    assert issuer.count("/jwks") == 2


async def test_after_a_fetch_only_what_is_new_is_tried(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    guard.clock.now += 30
    tried = watch_signatures(monkeypatch)
    issuer.add_key("2")
    assert await guard.judge(of("1")) is INVALID
    assert len(tried) == 1
    issuer.pages["/jwks"] = {"keys": [jwk(issuer.keys["1"], "1"), jwk(OTHER, "1")]}
    guard.clock.now += 30
    assert await guard.judge(of("1", OTHER)) is ADMITTED
    assert len(tried) == 3


# Tokens that are newer than the set


async def test_a_new_kid_while_a_cache_serves_the_old_set(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.pages["/jwks"] = {"keys": [jwk(issuer.keys["1"], "1")]}  # and not the one to come
    guard.clock.now += 100
    new = of("2", issuer.add_key("2"), iat=guard.clock.now)
    for fetches in (2, 3, 4):
        for _ in range(3):
            assert await guard.judge(new) is KEYS_UNAVAILABLE
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 30
    del issuer.pages["/jwks"]
    assert await guard.judge(new) is ADMITTED
    assert issuer.count("/jwks") == 5


async def test_a_new_kid_just_after_a_stranger_used_the_look_up(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    guard.clock.now += 100
    assert await guard.judge(of("unknown")) is INVALID
    guard.clock.now += 10
    new = of("2", issuer.add_key("2"), iat=guard.clock.now - 5)
    with pytest.raises(Denied) as caught:
        await judged(guard.verifier, new)
    assert (caught.value.reason, caught.value.detail) == (
        KEYS_UNAVAILABLE,
        "no key has its kid yet",
    )
    assert caught.value.retry_after == 20
    guard.clock.now += 20
    assert await guard.judge(new) is ADMITTED
    assert issuer.count("/jwks") == 3


@cases(
    ("leeway", "iat", "verdict"),
    [
        (30, NOW - 3600, INVALID),
        (30, NOW - 31, INVALID),  # before the set was seen, clocks and cut seconds allowed for
        (30, NOW - 30.5, KEYS_UNAVAILABLE),
        (30, NOW, KEYS_UNAVAILABLE),
        (30, NOW + 100, KEYS_UNAVAILABLE),
        (30, NOW + 130, KEYS_UNAVAILABLE),
        (30, NOW + 131, INVALID),  # in the future: it says nothing
        (30, NOW + 10**9, INVALID),
        (0, NOW - 1, INVALID),
        (0, NOW - 0.5, KEYS_UNAVAILABLE),
        (0, NOW + 100, KEYS_UNAVAILABLE),
        (0, NOW + 100.5, INVALID),
        (30, None, INVALID),
        (30, "1800000100", INVALID),
        (30, True, INVALID),
        (30, [NOW + 100], INVALID),
        (30, float("nan"), INVALID),
        (30, float("inf"), INVALID),
    ],
)
async def test_what_counts_as_newer_than_the_set(
    issuer: Issuer, leeway: float, iat: Any, verdict: Reason
) -> None:
    guard = Guard(issuer, leeway=leeway)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    guard.clock.now += 100
    for _ in range(2):  # by a look-up, and without one
        assert await guard.judge(of("unknown", iat=iat)) is verdict
    assert issuer.count("/jwks") == 2


async def test_a_set_that_changed_counts_from_then_on(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    issuer.add_key("2")
    guard.clock.now += 100
    assert await guard.judge(issuer.token("2")) is ADMITTED
    assert await guard.judge(late(NOW + 60)) is INVALID
    assert await guard.judge(late(NOW + 100)) is KEYS_UNAVAILABLE


async def test_no_cache_is_believed_to_serve_what_is_older_than_ttl(issuer: Issuer) -> None:
    guard = Guard(issuer, ttl=100)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    for _ in range(4):  # the same set each time
        guard.clock.now += 100
        assert await guard.judge(issuer.token("1", exp=int(NOW) + 1000)) is ADMITTED
    assert await guard.judge(late(NOW + 300)) is KEYS_UNAVAILABLE
    assert await guard.judge(late(NOW + 250)) is INVALID


async def test_keys_at_hand_are_all_that_there_are() -> None:
    verifier = jwt_verifier({**jwk(OTHER), "kid": "1"}, algorithms=["ES256"])
    assert await judge(verifier, late()) is INVALID


@cases("kid", ["1", None])
async def test_a_known_kid_and_none_are_never_newer(issuer: Issuer, kid: str | None) -> None:
    guard = Guard(issuer)
    assert await guard.judge(of(kid, iat=NOW)) is INVALID


async def test_what_strangers_say_of_their_tokens_costs_nothing_else(issuer: Issuer) -> None:
    guard = Guard(issuer)
    tokens = [of(f"unknown-{n}", iat=NOW + n % 30) for n in range(50)]
    assert await guard.judge(issuer.token("1")) is ADMITTED
    for fetches in (1, 2):
        assert await guard.judge_all(tokens) == {KEYS_UNAVAILABLE: 50}
        assert issuer.count("/jwks") == fetches
        guard.clock.now += 30
    assert await guard.judge(issuer.token("1")) is ADMITTED


@cases("payload", ["W10", "bnVsbA", "e", ""])  # [], null, none at all
async def test_a_payload_that_says_nothing(issuer: Issuer, payload: str) -> None:
    head, _, signature = late().split(".")
    assert await Guard(issuer).judge(f"{head}.{payload}.{signature}") is INVALID


async def test_what_a_client_of_a_newer_token_is_told_and_no_throttle_counts_it(
    issuer: Issuer,
) -> None:
    guard = Guard(issuer)
    throttle = FailureThrottle("2/minute")
    auth = authenticator(guard.verifier, throttle=throttle, observers=(), clock=guard.clock)
    new = of("2", OTHER, iat=NOW)
    for _ in range(5):
        outcome = await drive(
            WebSocketAuthMiddleware(App(), auth),
            websocket(headers=bearer(new)),
            receive=connected(),
        )
        assert outcome.close == (4001, "keys_unavailable")
        request = websocket(headers=bearer(new), type="http", method="GET", scheme="http")
        outcome = await drive(HTTPAuthMiddleware(App(), auth), request)
        assert outcome.sent[0]["status"] == 503
        assert (b"retry-after", b"30") in outcome.sent[0]["headers"]
    issuer.add_key("2", OTHER)
    guard.clock.now += 30
    outcome = await drive(
        WebSocketAuthMiddleware(App(), auth), websocket(headers=bearer(new)), receive=connected()
    )
    assert outcome.accepted
    assert outcome.close is None


# A set that is empty


async def test_an_empty_set_withdraws_the_keys_once_they_are_ttl_old(issuer: Issuer) -> None:
    guard = Guard(issuer)
    token = issuer.token("1", exp=int(NOW) + 100_000)
    assert await guard.judge(token) is ADMITTED
    issuer.pages["/jwks"] = {"keys": []}
    guard.clock.now += 100
    assert await guard.judge(of("unknown")) is KEYS_UNAVAILABLE  # looks, and finds none
    assert await guard.judge(token) is ADMITTED
    guard.clock.now = NOW + 599.9
    assert await guard.judge(token) is ADMITTED  # an issuer that starts has none for a moment
    fetch = guard.jwks._on_its_way.get()
    assert fetch is not None
    await fetch.over.wait()
    guard.clock.now = NOW + 600
    for _ in range(3):
        assert await guard.judge(token) is KEYS_UNAVAILABLE
    assert issuer.count("/jwks") == 4  # and none for a cooldown
    issuer.behaviour["/jwks"] = "fail"
    guard.clock.now += 30
    assert await guard.judge(token) is KEYS_UNAVAILABLE  # they are gone, not old
    issuer.behaviour.clear()
    issuer.pages.clear()
    guard.clock.now += 30
    assert await guard.judge(token) is ADMITTED


async def test_an_empty_set_on_a_cold_start_is_an_outage(issuer: Issuer) -> None:
    issuer.pages["/jwks"] = {"keys": []}
    guard = Guard(issuer)
    with pytest.raises(Denied, match="it has no keys"):
        await guard.jwks.keys()
    assert await guard.judge_all([issuer.token("1")] * 100) == {KEYS_UNAVAILABLE: 100}
    assert issuer.count("/jwks") == 1


@cases(
    "page",
    [{"keys": [None]}, {"keys": [jwk(OTHER, "1", use="enc")]}, {}, {"keys": None}, [], b"<html>"],
)
async def test_what_is_no_set_and_what_has_no_usable_key_is_a_failed_fetch(
    issuer: Issuer, page: Any
) -> None:
    guard = Guard(issuer)
    token = issuer.token("1", exp=int(NOW) + 100_000)
    assert await guard.judge(token) is ADMITTED
    issuer.pages["/jwks"] = page
    guard.clock.now += 4199
    assert await guard.judge(token) is ADMITTED
    guard.clock.now += 1
    assert await guard.judge(token) is KEYS_UNAVAILABLE


async def test_an_older_empty_answer_withdraws_nothing(issuer: Issuer) -> None:
    guard = Guard(issuer)
    assert await guard.judge(issuer.token("1")) is ADMITTED
    known = guard.jwks._fetched
    assert known is not None
    guard.clock.now += 600
    older = type(known.fetch)(0, NOW)
    older.withdrew = True
    guard.jwks._withdraw(older)
    assert guard.jwks._fetched is known
