"""VerdictCache: what it keeps, for how long, and what it does not save."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cases import cases
from handshakes import (
    NOW,
    SECRET,
    Clock,
    admits,
    authenticator,
    bearer,
    judge,
    jwt_verifier,
    mint,
    websocket,
)
from issuer import Issuer, issuing, jwk
from keys import RSA_KEY, watch_signatures
from servers import DEADLINE
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    JWKS,
    ConfigurationError,
    Credential,
    Denied,
    JWTVerifier,
    Principal,
    Reason,
    VerdictCache,
)

pytestmark = pytest.mark.anyio

CONN = HTTPConnection(websocket())
MINE, OTHERS = b"a" * 32, b"b" * 32
INVALID, EXPIRED, KEYS_UNAVAILABLE = Reason.INVALID, Reason.EXPIRED, Reason.KEYS_UNAVAILABLE
OTHER_SECRET = "mQ7zK1xV5cB9nL3pR8tW2yD6fG4hJ0sA"


def cached(cache: VerdictCache, tokens: str, secret: bytes = MINE) -> str:
    """Those of the tokens (letters) whose verdict it has, which is the token in upper case."""
    found = [token for token in tokens if cache.get(secret, token) is not None]
    assert all(cache.get(secret, token) == token.upper() for token in found)
    return "".join(found)


def put(cache: VerdictCache, tokens: str, secret: bytes = MINE) -> None:
    for token in tokens:
        cache.put(secret, token, token.upper())


def kept(cache: VerdictCache) -> int:
    """How many verdicts take up room."""
    (count,) = (len(value) for value in vars(cache).values() if hasattr(value, "__len__"))
    return count


# By itself


def test_a_verdict_is_found_as_it_was_put() -> None:
    cache, verdict = VerdictCache(), {"any": object()}
    cache.put(MINE, "token", verdict)
    assert cache.get(MINE, "token") is verdict
    assert cache.get(MINE, "token") is verdict


def test_what_was_never_put_is_not_found() -> None:
    cache = VerdictCache()
    put(cache, "a")
    for token in ("", "A", "a ", "a\x00", "á"):
        assert cache.get(MINE, token) is None


def test_the_later_verdict_counts() -> None:
    cache = VerdictCache()
    cache.put(MINE, "token", 1)
    cache.put(MINE, "token", 2)
    assert cache.get(MINE, "token") == 2
    assert kept(cache) == 1


def test_no_user_of_it_sees_the_verdicts_of_another() -> None:
    cache = VerdictCache()
    put(cache, "ab", MINE)
    put(cache, "bc", OTHERS)
    assert cached(cache, "abc", MINE) == "ab"
    assert cached(cache, "abc", OTHERS) == "bc"
    assert cached(cache, "abc", b"") == ""


def test_when_there_are_too_many_the_oldest_go() -> None:
    cache = VerdictCache(size=3)
    put(cache, "abc")
    assert cached(cache, "cbacba") == "cbacba"  # being used makes none of them younger
    put(cache, "d")
    assert cached(cache, "abcd") == "bcd"
    put(cache, "b")  # which is now the youngest
    put(cache, "ef")
    assert cached(cache, "abcdef") == "bef"


def test_its_size_is_a_bound() -> None:
    cache = VerdictCache(size=10)
    for number in range(1000):
        cache.put(MINE, str(number), number)
        assert kept(cache) == min(number + 1, 10)
    assert repr(cache) == "<VerdictCache with 10 of 10>"


def test_a_verdict_ends_at_ttl_however_often_it_is_used() -> None:
    clock = Clock()
    cache = VerdictCache(ttl=60, clock=clock)
    put(cache, "a")
    for seconds, found in ((0, "a"), (30, "a"), (59, "a"), (59.9, "a"), (60, ""), (61, "")):
        clock.now = NOW + seconds
        assert cached(cache, "a") == found, seconds


def test_a_verdict_that_is_put_again_begins_anew() -> None:
    clock = Clock()
    cache = VerdictCache(ttl=60, clock=clock)
    put(cache, "a")
    clock.now += 59
    put(cache, "a")
    clock.now += 59
    assert cached(cache, "a") == "a"
    clock.now += 1
    assert cached(cache, "a") == ""


def test_what_is_over_makes_room() -> None:
    clock = Clock()
    cache = VerdictCache(ttl=60, clock=clock)
    put(cache, "abc")
    clock.now += 30
    put(cache, "d")
    clock.now += 30
    assert kept(cache) == 4
    put(cache, "e")
    assert kept(cache) == 2
    assert cached(cache, "abcde") == "de"


def test_the_defaults() -> None:
    clock = Clock()
    cache = VerdictCache(clock=clock)
    assert repr(cache) == "<VerdictCache with 0 of 10000>"
    put(cache, "a")
    clock.now += 59.9
    assert cached(cache, "a") == "a"
    clock.now += 0.1
    assert cached(cache, "a") == ""


def within(thing: Any) -> Iterator[Any]:
    """Every object that can be reached from `thing`, as the garbage collector knows them."""
    seen, todo = {id(thing)}, [thing]
    while todo:
        this = todo.pop()
        yield this
        for child in gc.get_referents(this):
            if id(child) not in seen and not isinstance(child, type) and not callable(child):
                seen.add(id(child))
                todo.append(child)


async def test_of_a_token_it_has_a_keyed_hash() -> None:
    cache = VerdictCache()
    verifier = jwt_verifier(cache=cache)
    tokens = [mint(jti=str(number)) for number in range(5)]
    for token in tokens:
        assert await admits(verifier, token)
    assert kept(cache) == 5
    parts = {part for token in tokens for part in token.split(".")} | {SECRET, "alice"}
    for this in within(cache):
        assert not any(part in repr(this) for part in parts)
    same = VerdictCache()  # without the verifier's own secret, nobody can make the hash of a token
    await admits(jwt_verifier(cache=same), tokens[0])
    assert not set(digests(cache)) & set(digests(same))
    assert len(digests(cache)) == 5


def digests(cache: VerdictCache) -> list[bytes]:
    return [this for this in within(cache) if isinstance(this, bytes)]


@pytest.mark.slow
def test_many_threads() -> None:
    cache = VerdictCache(size=3, ttl=60)
    failures: list[BaseException] = []
    begin = threading.Barrier(8)

    def hammer(mine: bytes) -> None:
        try:
            begin.wait()
            for number in range(1500):
                token = "abcdefgh"[number % 8]
                cache.put(mine, token, mine + token.encode())
                for other in "abcdefgh":
                    assert cache.get(mine, other) in (None, mine + other.encode())
                repr(cache)
        except BaseException as exc:
            failures.append(exc)

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=hammer, args=(bytes([65 + number // 2]) * 32,))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switched)
    assert not failures
    assert kept(cache) == 3


def test_threads_whose_verdicts_are_over_at_once() -> None:
    """Each of them wants to throw the same ones away."""
    times = iter(range(10_000_000))
    cache = VerdictCache(size=1000, ttl=20, clock=lambda: float(next(times)))
    failures: list[BaseException] = []

    def hammer() -> None:
        try:
            for number in range(1500):
                cache.put(MINE, str(number), number)
        except BaseException as exc:
            failures.append(exc)

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switched)
    assert not failures
    assert 0 < kept(cache) <= 30


@cases(
    ("option", "values"),
    [
        ("size", [0, -1, 1.5, None, "5", True]),
        ("ttl", [0, -1, float("nan"), float("inf"), None, "5", True]),
    ],
)
def test_options_that_can_not_work(option: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=f"VerdictCache: {option}"):
            VerdictCache(**{option: value})


@cases("cache", [True, 60, {}, VerdictCache], ids=repr)
def test_what_is_no_cache(cache: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^cache must be a VerdictCache, got "):
        jwt_verifier(cache=cache)


# Of a JWTVerifier


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signature was checked, in order."""
    return watch_signatures(monkeypatch)


async def test_without_a_cache_each_signature_is_checked_each_time(checked: list[str]) -> None:
    verifier, token = jwt_verifier(), mint()
    for _ in range(3):
        assert await admits(verifier, token)
    assert checked == [token] * 3


async def test_a_signature_is_checked_once(checked: list[str]) -> None:
    verifier, tokens = jwt_verifier(cache=VerdictCache()), [mint(), mint(sub="bob")]
    for _ in range(3):
        principals = [await judge(verifier, token) for token in tokens]
        identities = [getattr(principal, "identity", principal) for principal in principals]
        assert identities == ["alice", "bob"]
    assert checked == tokens


async def test_it_is_checked_again_after_ttl(checked: list[str]) -> None:
    clock, token = Clock(), mint()
    verifier = jwt_verifier(cache=VerdictCache(ttl=60, clock=clock))
    for seconds, count in ((0, 1), (59, 1), (60, 2), (119, 2), (120, 3)):
        clock.now = NOW + seconds
        assert await admits(verifier, token)
        assert len(checked) == count, seconds


async def test_a_hit_says_the_same_as_the_first_time() -> None:
    token = mint(iat=int(NOW) - 5, jti="t1", sid="s1", scp=["a", "b c"], x={"ü": [1.5, None]})
    verifier = jwt_verifier(cache=VerdictCache(), leeway=10, scopes_claim="scp")
    first, second = await judge(verifier, token), await judge(verifier, token)
    assert isinstance(first, Principal)
    assert isinstance(second, Principal)
    assert vars(first) == vars(second)
    assert first is not second
    assert second.expires_at == NOW + 310
    assert second.scopes == ("a", "b c")


async def test_a_hit_never_waits() -> None:
    verifier, token = jwt_verifier(cache=VerdictCache()), mint()
    for _ in range(2):
        work = verifier(Credential(token), CONN)
        with pytest.raises(StopIteration):
            work.send(None)


async def test_what_an_app_does_to_its_principal_reaches_no_other() -> None:
    token = mint(roles={"x": ["y"]}, scope=["a"])
    verifier = jwt_verifier(cache=VerdictCache())
    for _ in range(3):
        principal = await judge(verifier, token)
        assert isinstance(principal, Principal)
        assert (principal.identity, principal.scopes) == ("alice", ("a",))
        assert principal.claims["roles"] == {"x": ["y"]}
        assert principal.claims["scope"] == ["a"]
        assert "admin" not in vars(principal)
        principal.claims["roles"]["x"].append("admin")
        principal.claims["scope"].append("admin")
        principal.claims["exp"] = 0
        principal.claims.clear()
        principal.scopes = ("admin",)
        principal.admin = True  # type: ignore[attr-defined]


def tampered(token: str) -> str:
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


@cases(
    ("token", "verdict", "checks"),
    [
        (tampered(mint()), INVALID, 1),
        (mint(OTHER_SECRET), INVALID, 1),
        (mint(aud="mail"), INVALID, 1),
        (mint(sub=None), INVALID, 1),
        (mint(exp=int(NOW) - 30), EXPIRED, 1),
        (mint(nbf=int(NOW) + 31), INVALID, 1),
        (mint(scope=5), INVALID, 1),
        (mint(algorithm="HS512", key=OTHER_SECRET * 2), INVALID, 0),
        ("no token at all", None, 0),
    ],
)
async def test_only_what_is_good_is_kept(
    token: str, verdict: Any, checks: int, checked: list[str]
) -> None:
    cache = VerdictCache()
    verifier = jwt_verifier(cache=cache)
    for times in range(1, 4):
        assert await judge(verifier, token) is verdict
        assert len(checked) == checks * times
    assert kept(cache) == 0


async def test_a_good_verdict_says_nothing_of_a_similar_token() -> None:
    verifier, token = jwt_verifier(cache=VerdictCache()), mint()
    assert await admits(verifier, token)
    head, payload, signature = token.split(".")
    alike = [tampered(token), f"{head}.{payload}.", token[:-1], token + "A", token + "=", token * 2]
    alike += [f"{head}.{mint(sub='mallory').split('.')[1]}.{signature}", token.swapcase()]
    for other in alike:
        assert not await admits(verifier, other), other
    assert await admits(verifier, token)


@cases("leeway", [0, 30, 45.5])
@cases(
    "claims",
    [
        {"exp": int(NOW) + 300},
        {"exp": NOW + 0.5},
        {"exp": int(NOW) + 300, "nbf": int(NOW), "iat": int(NOW)},
        {"exp": int(NOW) + 300, "nbf": int(NOW) - 10, "iat": int(NOW) - 100},
    ],
)
async def test_times_are_judged_at_each_use(leeway: float, claims: Any, checked: list[str]) -> None:
    """As they would be without the cache, whichever way the clock went since."""
    clock, token = Clock(), mint(**claims)
    options = {"leeway": leeway, "clock": clock}
    cache = VerdictCache(ttl=1e9)
    caching, plain = jwt_verifier(cache=cache, **options), jwt_verifier(**options)
    assert await admits(caching, token)
    checked.clear()
    seen = set()
    for moment in (claims["exp"], claims.get("nbf", NOW), claims.get("iat", NOW)):
        for offset in (-leeway, 0, leeway):
            for nearly in (-1, -0.001, 0, 0.001, 1):
                clock.now = moment + offset + nearly
                verdicts = [await judge(verifier, token) for verifier in (caching, plain)]
                reasons = [getattr(verdict, "method", verdict) for verdict in verdicts]
                assert reasons[0] == reasons[1], (moment, offset, nearly)
                seen.add(reasons[0])
    assert len(checked) == 45  # by the one without cache
    assert seen >= {"jwt", EXPIRED}
    assert (INVALID in seen) is ("nbf" in claims)


async def test_a_token_that_is_kept_still_expires() -> None:
    clock, token = Clock(), mint(exp=int(NOW) + 20)
    verifier = jwt_verifier(cache=VerdictCache(ttl=1e9), clock=clock, leeway=10)
    for seconds, verdict in ((0, True), (29.5, True), (30, EXPIRED), (31, EXPIRED), (29.5, True)):
        clock.now = NOW + seconds
        result = await judge(verifier, token)
        assert (isinstance(result, Principal) or result) is verdict, seconds


DIFFERENT = [
    {"audience": "mail"},
    {"audience": None},
    {"issuer": "https://b.example"},
    {"key": OTHER_SECRET},
    {"key": [OTHER_SECRET, OTHER_SECRET[::-1]]},
    {"typ": "at+jwt"},
    {"required_claims": ["exp", "jti"]},
    {"algorithms": ["HS512"], "key": OTHER_SECRET * 2},
]


@cases("options", DIFFERENT, ids=repr)
async def test_verifiers_that_share_a_cache_share_no_verdict(options: Any) -> None:
    cache, token = VerdictCache(), mint(aud="chat", iss="https://a.example")
    good = {"audience": "chat", "issuer": "https://a.example", "cache": cache}
    one, other = jwt_verifier(**good), jwt_verifier(**{**good, **options})
    for _ in range(2):
        assert await admits(one, token)
        assert not await admits(other, token)
    assert kept(cache) == 1


async def test_two_alike_share_none_either(checked: list[str]) -> None:
    cache, token = VerdictCache(), mint()
    for _ in range(2):
        verifier = jwt_verifier(cache=cache)
        for _ in range(2):
            assert await admits(verifier, token)
    assert checked == [token] * 2


async def test_the_user_is_loaded_each_time(checked: list[str]) -> None:
    users: list[Any] = ["first", "second", None, "third"]
    loaded = iter(users)

    async def load_user(principal: Principal, conn: HTTPConnection) -> Any:
        assert principal.identity == "alice"
        return next(loaded)

    auth = authenticator(jwt_verifier(cache=VerdictCache()), load_user=load_user)
    conn = HTTPConnection(websocket(headers=bearer(mint())))
    for user in users:
        if user is None:
            with pytest.raises(Denied) as caught:
                await auth.authenticate(conn)
            assert caught.value.reason is Reason.REVOKED
        else:
            assert (await auth.authenticate(conn)).user == user
    assert len(checked) == 1


# With keys from the network


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1")
        issuer.add_key("2")
        yield issuer


def networked(issuer: Issuer, clock: Clock, **options: Any) -> JWTVerifier:
    """With keys of this issuer, and a cache that does not forget by itself."""
    options = {"ttl": 600, "stale_for": 3600, "timeout": DEADLINE, **options}
    keys = JWKS(f"{issuer.url}/jwks", clock=clock, **options)
    cache = VerdictCache(ttl=1e9, clock=clock)
    return JWTVerifier(keys, algorithms=["ES256"], cache=cache, clock=lambda: NOW)


async def test_a_verdict_goes_with_the_key_that_signed_it(
    issuer: Issuer, checked: list[str]
) -> None:
    clock = Clock()
    verifier = networked(issuer, clock)
    token, other = issuer.token("1"), issuer.token("2")
    for _ in range(2):
        assert await admits(verifier, token)
        assert await admits(verifier, other)
    assert checked == [token, other]
    del issuer.keys["1"]
    clock.now += 600
    assert await judge(verifier, token) is INVALID
    assert await admits(verifier, other)
    assert checked == [token, other]  # which is still kept
    assert issuer.count("/jwks") == 2


async def test_however_often_it_was_used(issuer: Issuer) -> None:
    clock = Clock()
    verifier, token = networked(issuer, clock), issuer.token("1")
    assert await admits(verifier, token)
    del issuer.keys["1"]
    for _ in range(449):  # until a fetch would begin in the background
        clock.now += 1
        assert await admits(verifier, token)
    clock.now = NOW + 600
    assert await judge(verifier, token) is INVALID


async def test_it_goes_with_a_key_that_was_replaced_under_its_name(issuer: Issuer) -> None:
    clock = Clock()
    verifier, token = networked(issuer, clock), issuer.token("1")
    assert await admits(verifier, token)
    issuer.add_key("1")
    clock.now += 600
    assert await judge(verifier, token) is INVALID
    assert await admits(verifier, issuer.token("1"))


async def test_it_goes_with_a_key_that_is_for_another_algorithm_now(issuer: Issuer) -> None:
    clock, key = Clock(), RSA_KEY
    keys = JWKS(f"{issuer.url}/jwks", ttl=600, clock=clock)
    cache = VerdictCache(ttl=1e9, clock=clock)
    verifier = JWTVerifier(keys, algorithms=["RS256", "PS256"], cache=cache, clock=lambda: NOW)
    issuer.pages["/jwks"] = {"keys": [jwk(key, "1")]}
    token = issuer.token("1", key)
    assert await admits(verifier, token)
    issuer.pages["/jwks"] = {"keys": [jwk(key, "1", alg="PS256")]}
    clock.now += 600
    assert await judge(verifier, token) is INVALID


async def test_a_verdict_stays_with_its_key(issuer: Issuer, checked: list[str]) -> None:
    clock = Clock()
    verifier, token = networked(issuer, clock), issuer.token("1")
    for refresh in range(1, 5):
        assert await admits(verifier, token)
        assert issuer.count("/jwks") == refresh
        issuer.add_key(f"new-{refresh}")
        issuer.keys = dict(reversed(issuer.keys.items()))
        clock.now += 600
    assert checked == [token]


async def test_a_key_that_comes_back_brings_no_surprise(issuer: Issuer) -> None:
    clock = Clock()
    verifier, token = networked(issuer, clock), issuer.token("1")
    key = issuer.keys["1"]
    for verdict in (True, INVALID, True):
        if verdict is INVALID:
            del issuer.keys["1"]
        else:
            issuer.add_key("1", key)
        result = await judge(verifier, token)
        assert (isinstance(result, Principal) or result) is verdict
        clock.now += 600


async def test_a_verdict_is_worth_nothing_without_keys(issuer: Issuer, checked: list[str]) -> None:
    clock = Clock()
    verifier, token = networked(issuer, clock), issuer.token("1")
    assert await admits(verifier, token)
    issuer.behaviour["*"] = "fail"
    for seconds, verdict in (
        (600, True),
        (4199, True),
        (4200, KEYS_UNAVAILABLE),
        (9000, KEYS_UNAVAILABLE),
    ):
        clock.now = NOW + seconds
        result = await judge(verifier, token)
        assert (isinstance(result, Principal) or result) is verdict, seconds
    issuer.behaviour.clear()
    clock.now = NOW + 9030
    assert await admits(verifier, token)
    assert checked == [token]


async def test_verifiers_of_two_issuers_share_a_cache(issuer: Issuer) -> None:
    cache, clock = VerdictCache(), Clock()
    with issuing() as other:
        other.add_key("1")
        verifiers = [
            JWTVerifier(
                JWKS(f"{each.url}/jwks", clock=clock),
                algorithms=["ES256"],
                cache=cache,
                clock=lambda: NOW,
            )
            for each in (issuer, other)
        ]
        tokens = [issuer.token("1"), other.token("1")]
        for _ in range(2):
            for token in tokens:
                verdicts = [await admits(verifier, token) for verifier in verifiers]
                assert verdicts == [token == tokens[0], token == tokens[1]]
