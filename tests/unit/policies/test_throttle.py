"""FailureThrottle where many come at once, from many addresses, and from other sites' pages. What
one address may do after another is in test_limits.py."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import limits
import limits.aio
import pytest
from cases import cases
from handshakes import CONNECT, App, Knows, Outcome, authenticator, connected, drive, websocket
from insides import counts_of
from redis_servers import Target, pooled_redis
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    ConfigurationError,
    Credential,
    Denied,
    FailureThrottle,
    FirstMessage,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.policies import local_counts
from asgi_wsauth.policies import throttle as throttle_module

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

ADDRESS = "192.0.2.7"


class Slow:
    """A verifier that takes some turns of the event loop. `good...` is good.

    Attributes:
        judged: how many bad ones it was asked about.
        most: how many it was ever asked about at once.
    """

    def __init__(self, turns: int = 3) -> None:
        self.turns = turns
        self.judged = self.most = 0
        self._now = 0

    async def __call__(self, credential: Credential, conn: HTTPConnection) -> Principal | None:
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            for _ in range(self.turns):
                await anyio.lowlevel.checkpoint()
        finally:
            self._now -= 1
        if credential.value.startswith("good"):
            return Principal("alice")
        self.judged += 1
        raise Denied(Reason.INVALID)


async def verdicts(
    *auths: Authenticator, tokens: list[str], scope: dict[str, Any] | None = None
) -> Counter[Reason | str]:
    """What becomes of these tokens, all at once from one address, in turns at these."""
    told: Counter[Reason | str] = Counter()

    async def decide(auth: Authenticator, token: str) -> None:
        conn = HTTPConnection(websocket(f"token={token}", client=(ADDRESS, 5), **(scope or {})))
        try:
            told[(await auth.authenticate(conn)).principal.identity] += 1
        except Denied as denied:
            told[denied.reason] += 1

    async with anyio.create_task_group() as tasks:
        for number, token in enumerate(tokens):
            tasks.start_soon(decide, auths[number % len(auths)], token)
    return told


def guesses(number: int) -> list[str]:
    return [f"guess{i}" for i in range(number)]


def goods(number: int) -> list[str]:
    return [f"good{i}" for i in range(number)]


@cases("turns", [0, 3])
@cases("protocol", ["websocket", "http"])
async def test_of_200_guesses_at_once_no_more_are_judged_than_the_rate_says(
    turns: int, protocol: str
) -> None:
    slow = Slow(turns)
    auth = authenticator(slow, throttle=FailureThrottle("10/minute"), timeout=60.0)
    told = await verdicts(auth, tokens=guesses(200), scope={"type": protocol})
    assert told == {Reason.INVALID: 10, Reason.THROTTLED: 190}
    assert slow.judged == 10


async def test_an_office_that_comes_back_at_once_is_let_in() -> None:
    slow = Slow()
    throttle = FailureThrottle("10/minute")
    auth = authenticator(slow, throttle=throttle, timeout=60.0)
    assert await verdicts(auth, tokens=goods(200)) == {"alice": 200}
    assert slow.most == 10
    assert not counts_of(throttle)  # nothing is kept of it


@pytest.mark.slow
async def test_the_good_among_the_bad_get_in_as_long_as_the_address_is_not_locked() -> None:
    auth = authenticator(Slow(), throttle=FailureThrottle("10/minute"), timeout=60.0)
    told = await verdicts(auth, tokens=guesses(9) + goods(200))
    assert told == {"alice": 200, Reason.INVALID: 9}
    told = await verdicts(auth, tokens=[*goods(100), *guesses(1), *goods(100)])
    assert told[Reason.INVALID] == 1  # in whatever order they come
    assert told["alice"] + told[Reason.THROTTLED] == 200
    assert await verdicts(auth, tokens=["good"]) == {Reason.THROTTLED: 1}


async def test_what_counts_for_nothing_gives_its_place_back() -> None:
    known = Knows(
        **{reason.name: Denied(reason) for reason in Reason},
        broken=ZeroDivisionError(),
        good=Principal("alice"),
    )
    auth = authenticator(known, throttle=FailureThrottle("1/hour"))
    counted = {Reason.INVALID, Reason.MALFORMED}
    tokens = [reason.name for reason in Reason if reason not in counted] + ["broken", ""]
    told = await verdicts(auth, tokens=[*tokens * 20, "good"])
    assert told["alice"] == 1
    assert told[Reason.THROTTLED] == 20  # the verifier's own


async def test_who_waits_too_long_is_told_that_there_is_no_verdict() -> None:
    """And all get their places back."""

    async def hangs(credential: Credential, conn: HTTPConnection) -> Principal | None:
        if credential.value == "good":
            return Principal("alice")
        return await anyio.sleep_forever()

    throttle = FailureThrottle("3/minute")
    auth = authenticator(hangs, throttle=throttle, timeout=0.05)
    assert await verdicts(auth, tokens=guesses(20)) == {Reason.UNAVAILABLE: 20}
    assert not counts_of(throttle)
    assert await verdicts(auth, tokens=["good"]) == {"alice": 1}


async def test_who_leaves_while_waiting_takes_nobodys_place() -> None:
    throttle = FailureThrottle("1/minute")
    await throttle.check(ADDRESS)
    stayed = False

    async def leaves(scope: anyio.CancelScope) -> None:
        with scope:
            await throttle.check(ADDRESS)
            throttle.leave(ADDRESS)  # it was called before the cancellation came

    async def stays() -> None:
        nonlocal stayed
        await throttle.check(ADDRESS)
        stayed = True

    early, late = anyio.CancelScope(), anyio.CancelScope()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for scope in (early, late):
                tasks.start_soon(leaves, scope)
                await anyio.wait_all_tasks_blocked()
            tasks.start_soon(stays)
            await anyio.wait_all_tasks_blocked()
            early.cancel()  # before it is called
            await anyio.wait_all_tasks_blocked()
            late.cancel()  # when it is called, and doesn't know it yet
            throttle.leave(ADDRESS)
    assert stayed
    throttle.leave(ADDRESS)
    assert not counts_of(throttle)


@pytest.mark.slow
async def test_guesses_by_first_messages_at_once_are_judged_no_oftener() -> None:
    slow = Slow()
    source = FirstMessage(max_waiting_per_client=100)
    throttle = FailureThrottle("10/minute")
    auth = authenticator(slow, sources=[source], throttle=throttle, observers=[], timeout=60.0)
    door = WebSocketAuthMiddleware(App(), auth)
    outcomes: list[Outcome] = []

    async def guess(number: int) -> None:
        text = f'{{"type": "auth", "token": "guess{number}"}}'
        said = iter([CONNECT, {"type": "websocket.receive", "text": text}])

        async def receive() -> Any:
            for message in said:
                return message
            return await anyio.sleep_forever()

        outcomes.append(await drive(door, websocket(client=(ADDRESS, 5)), receive=receive))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(guess, number)
    assert slow.judged == 10
    assert Counter(outcome.close for outcome in outcomes) == {
        (1008, "token_invalid"): 10,
        (1013, "too_many_failures"): 90,
    }


async def test_guesses_by_refreshes_at_once_are_judged_no_oftener() -> None:
    slow = Slow()
    throttle = FailureThrottle("10/minute")
    auth = authenticator(slow, throttle=throttle, observers=[], timeout=60.0)
    told: Counter[Reason] = Counter()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def guess(number: int) -> None:
            try:
                await scope["wsauth"].refresh(f"guess{number}")
            except Denied as denied:
                told[denied.reason] += 1

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(guess, number)

    scope = websocket("token=good", client=(ADDRESS, 5))
    await drive(WebSocketAuthMiddleware(app, auth), scope, receive=connected())
    assert told == {Reason.INVALID: 10, Reason.THROTTLED: 90}
    assert slow.judged == 10


async def test_who_has_no_address_takes_no_place_and_gives_none_back() -> None:
    throttle = FailureThrottle("1/hour")
    for _ in range(2):
        await throttle.precheck(None)
        await throttle.check(None)
        await throttle.count(None)
        await throttle.release(None)
        throttle.leave(None)
    assert not counts_of(throttle)


async def test_a_place_that_is_given_back_is_free() -> None:
    throttle = FailureThrottle("1/hour")
    for _ in range(3):
        await throttle.check(ADDRESS)
        await throttle.release(ADDRESS)
    await throttle.precheck(ADDRESS)


# In the process's memory


async def test_memory_is_bounded_and_the_oldest_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_counts, "_MOST_ADDRESSES", 100)
    throttle = FailureThrottle("1/hour")
    await throttle.check("198.51.100.1")  # is being judged all the time
    for number in range(1_000):
        await throttle.count(f"10.0.{number // 250}.{number % 250}")
    assert len(counts_of(throttle)) <= 101
    with pytest.raises(Denied, match="failures"):
        await throttle.precheck("10.0.3.249")
    await throttle.precheck("10.0.0.0")  # forgotten
    await throttle.count("198.51.100.1")
    with pytest.raises(Denied):
        await throttle.precheck("198.51.100.1")


async def test_whose_time_is_over_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = FailureThrottle("5/minute")
    for number in range(100):
        await throttle.count(f"10.0.0.{number}")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    for _ in range(5):
        await throttle.count("10.0.0.99")  # its time begins anew, and it is the newest again
    for number in range(100):
        await throttle.count(f"10.0.1.{number}")
    assert len(counts_of(throttle)) == 101
    with pytest.raises(Denied):
        await throttle.precheck("10.0.0.99")


# In a storage


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.live), "memory"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[], Any]]:
    """Makes what one process has to a storage; all of them are to the same one."""
    if request.param == "memory":
        one = limits.aio.storage.MemoryStorage()
        yield lambda: one
        return
    target: Target = pooled_redis(request.config)
    client = target.client()
    await client.flushdb()
    made: list[Any] = []

    def make() -> Any:
        url = f"async+redis://127.0.0.1:{target.port}"
        made.append(limits.aio.storage.RedisStorage(url, implementation="redispy"))
        return made[-1]

    yield make
    for storage in made:
        await storage.bridge.storage.aclose()
        await storage.bridge.storage.connection_pool.disconnect()
    await client.flushdb()
    await client.aclose()


def shared(storage: Callable[[], Any], rate: str, *verifiers: Any, **options: Any) -> Authenticator:
    return authenticator(*verifiers, throttle=FailureThrottle(rate, storage=storage()), **options)


@pytest.mark.both_loops(False)
async def test_processes_that_share_a_storage_judge_no_more_together(
    storage: Callable[[], Any],
) -> None:
    slow = Slow()
    auths = [shared(storage, "10/minute", slow, timeout=60.0) for _ in range(3)]
    told = await verdicts(*auths, tokens=guesses(200))
    assert slow.judged <= 10
    assert told == {Reason.INVALID: 10, Reason.THROTTLED: 190}
    assert await verdicts(*auths, tokens=goods(3)) == {Reason.THROTTLED: 3}


@pytest.mark.both_loops(False)
async def test_an_office_that_comes_to_several_processes_is_let_in(
    storage: Callable[[], Any],
) -> None:
    slow = Slow()
    auths = [shared(storage, "10/minute", slow, timeout=60.0) for _ in range(3)]
    assert await verdicts(*auths, tokens=goods(200)) == {"alice": 200}
    assert slow.most <= 10
    told = await verdicts(*auths, tokens=guesses(12))
    assert told == {Reason.INVALID: 10, Reason.THROTTLED: 2}


@pytest.mark.both_loops(False)
async def test_a_storage_is_not_asked_for_each_guess_of_who_is_locked_out(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = storage()
    throttle = FailureThrottle("1/hour", storage=one)
    await throttle.count(ADDRESS)
    asked = 0
    incr = one.incr

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await incr(*arguments)

    monkeypatch.setattr(one, "incr", counted)
    monkeypatch.setattr(local_counts, "_LOCK_KNOWN_FOR", 100.0)
    for _ in range(50):
        with pytest.raises(Denied) as caught:
            await throttle.check(ADDRESS)
        assert caught.value.retry_after is not None
        assert 3_500 < caught.value.retry_after <= 3_600
    assert asked == 2  # a place, and back


@pytest.mark.both_loops(False)
async def test_who_only_looks_is_told_of_a_lock(storage: Callable[[], Any]) -> None:
    first, second = (FailureThrottle("1/hour", storage=storage()) for _ in range(2))
    await second.precheck(ADDRESS)
    await first.check(ADDRESS)
    await second.precheck(ADDRESS)  # what is being judged doesn't matter
    await first.count(ADDRESS)
    with pytest.raises(Denied):
        await second.precheck(ADDRESS)


@pytest.mark.both_loops(False)
async def test_what_was_given_back_too_late_is_not_taken_twice(
    storage: Callable[[], Any],
) -> None:
    """The time in which places count ended while one was judged."""
    one = storage()
    throttle = FailureThrottle("1/hour", storage=one)
    await throttle.check(ADDRESS)
    assert throttle._shared is not None
    await one.clear(throttle._shared._places(ADDRESS))
    await throttle.release(ADDRESS)
    assert await one.get(throttle._shared._places(ADDRESS)) == 0


@pytest.mark.both_loops(False)
async def test_a_storage_that_fails_while_a_place_is_given_back_is_told_of(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = storage()
    throttle = FailureThrottle("2/hour", storage=one)
    incr = one.incr

    async def fails(*arguments: Any) -> Any:
        if arguments[2:] == (-1,):
            raise OSError
        return await incr(*arguments)

    monkeypatch.setattr(one, "incr", fails)
    auth = authenticator(Slow(), throttle=throttle, observers=[])
    assert await verdicts(auth, tokens=["good"]) == {"alice": 1}
    (message,) = caplog.messages
    assert message.endswith("<FailureThrottle at 2 per 1 hour> could not count")
    assert not counts_of(throttle)


async def test_memcached_is_asked_in_its_own_way(anyio_backend_name: str) -> None:
    """Its counters take nothing negative."""
    asked: list[Any] = []

    class Bridge:
        async def incr(self, *arguments: Any, **options: Any) -> int:
            asked.append(("incr", arguments[2]))
            return 1

        async def decr(self, *arguments: Any) -> int:
            asked.append(("decr", arguments[1]))
            return 0

    storage: Any = object.__new__(limits.aio.storage.MemcachedStorage)
    storage.bridge = Bridge()
    throttle = FailureThrottle(storage=storage)
    await throttle.check(ADDRESS)
    await throttle.release(ADDRESS)
    assert asked == [("incr", 1), ("decr", 1)]


def test_names_count_apart() -> None:
    with pytest.raises(ConfigurationError, match=r"^FailureThrottle: name must be a string, got 5"):
        FailureThrottle(name=5)  # type: ignore[arg-type]


# Who leaves while a storage is asked


class Held:
    """A storage's `incr` whose answers are kept back, where `amount` was asked for, once the
    storage has counted it."""

    def __init__(self, storage: Any, monkeypatch: pytest.MonkeyPatch, amount: int = 1) -> None:
        self.counted, self.go_on = anyio.Event(), anyio.Event()
        self._incr, self._amount = storage.incr, amount
        monkeypatch.setattr(storage, "incr", self.incr)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> Any:
        answer = await self._incr(key, expiry, amount)
        if amount == self._amount:
            self.counted.set()
            await self.go_on.wait()
        return answer


async def places(throttle: FailureThrottle) -> int:
    assert throttle._shared is not None
    return int(await throttle._shared._storage.get(throttle._shared._places(ADDRESS)))


async def until_places_are(number: int, throttle: FailureThrottle) -> None:
    with anyio.fail_after(30):
        while await places(throttle) != number:  # noqa: ASYNC110 - nothing here is told
            await anyio.sleep(0.01)


@pytest.mark.both_loops(False)
async def test_who_leaves_before_a_place_is_confirmed_gives_it_back(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = storage()
    throttle = FailureThrottle("3/hour", storage=one)
    auth = authenticator(Slow(), throttle=throttle, observers=[])
    for _ in range(5):  # more than there are places
        with monkeypatch.context() as patch:
            held = Held(one, patch)
            door = WebSocketAuthMiddleware(App(), auth)

            async def leaves(held: Held = held) -> Any:
                await held.counted.wait()
                return {"type": "websocket.disconnect", "code": 1006}

            said = iter([CONNECT])

            async def receive(said: Any = said, leaves: Any = leaves) -> Any:
                for message in said:
                    return message
                return await leaves()

            with anyio.fail_after(30):
                await drive(door, websocket("token=good", client=(ADDRESS, 5)), receive=receive)
            assert await places(throttle) == 1
            held.go_on.set()
            await until_places_are(0, throttle)
    assert not counts_of(throttle)
    assert await verdicts(auth, tokens=["good"]) == {"alice": 1}


@pytest.mark.both_loops(False)
@pytest.mark.parametrize("how", ["task", "scope"])
async def test_who_leaves_while_a_place_is_given_back_has_given_it_back(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Also one too many, which nobody got."""
    one = storage()
    throttle = FailureThrottle("1/hour", storage=one)
    other = FailureThrottle("1/hour", storage=one)
    await throttle.check(ADDRESS)
    held = Held(one, monkeypatch)
    await leave(lambda: other.check(ADDRESS), held, how)
    await until_places_are(1, throttle)
    assert not counts_of(other)

    held = Held(one, monkeypatch)
    with pytest.raises(Denied, match="no verdict"):  # the deadline is as good as any
        await authenticator(throttle=other, timeout=0.01).authenticate(
            HTTPConnection(websocket("token=x", client=(ADDRESS, 5)))
        )
    held.go_on.set()
    await until_places_are(1, throttle)

    one.incr = held._incr
    incr, asked = one.incr, anyio.Event()

    async def slowly(*arguments: Any) -> Any:
        asked.set()
        await anyio.sleep(0.02)
        return await incr(*arguments)

    monkeypatch.setattr(one, "incr", slowly)
    await leave(lambda: throttle.release(ADDRESS), asked, how)
    await until_places_are(0, throttle)


async def leave(work: Callable[[], Any], held: Held | anyio.Event, how: str) -> None:
    """Begin `work`, and cancel it when the storage has been asked."""
    asked = held.counted if isinstance(held, Held) else held
    with anyio.fail_after(30):
        if how == "task":
            task = asyncio.create_task(work())
            await asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                await asked.wait()
                tasks.cancel_scope.cancel()
    if isinstance(held, Held):
        held.go_on.set()


@pytest.mark.both_loops(False)
async def test_a_storage_that_fails_when_nobody_waits_any_more_is_told_of(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = storage()
    throttle = FailureThrottle("1/hour", storage=one)
    held, failed = Held(one, monkeypatch), anyio.Event()
    incr = one.incr

    async def fails(key: str, expiry: float, amount: int = 1) -> Any:
        if amount < 0:
            failed.set()
            raise OSError
        return await incr(key, expiry, amount)

    monkeypatch.setattr(one, "incr", fails)
    await leave(lambda: throttle.check(ADDRESS), held, "task")
    with anyio.fail_after(30):
        await failed.wait()
        while not caplog.messages:  # noqa: ASYNC110 - nothing here is told
            await anyio.sleep(0.01)
    (message,) = caplog.messages
    assert message.endswith("could not release a place")


@pytest.mark.both_loops(False)
async def test_a_storage_that_never_answers_is_not_waited_for_for_ever(
    storage: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle_module, "_PATIENCE", 0.05)
    one = storage()
    throttle = FailureThrottle("1/hour", storage=one)
    Held(one, monkeypatch)
    with anyio.fail_after(30), pytest.raises(Denied) as caught:
        await throttle.check(ADDRESS)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert not counts_of(throttle)


# What other sites' pages have browsers send

HERE, THERE = "https://chat.example", "https://evil.example"


@pytest.mark.slow
@cases(
    "said",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": THERE},
        {"origin": THERE},
        {"origin": "null"},
        {"origin": f"{HERE}:8443"},
    ],
    ids=str,
)
@cases("protocol", ["websocket", "http"])
async def test_a_foreign_page_locks_nobody_out(said: dict[str, str], protocol: str) -> None:
    auth = authenticator(Slow(), throttle=FailureThrottle("10/minute"))
    scope = {"headers": list(said.items()), "type": protocol}
    told = await verdicts(auth, tokens=guesses(20), scope=scope)
    assert told == {Reason.INVALID: 10, Reason.THROTTLED: 10}  # nor may a program say so and guess
    for own in ({"origin": HERE}, {"sec-fetch-site": "same-origin", "origin": HERE}, {}):
        scope = {"headers": list(own.items()), "type": protocol}
        assert await verdicts(auth, tokens=["good"], scope=scope) == {"alice": 1}


@cases(
    "said",
    [
        {"origin": HERE},
        {"origin": "http://chat.example"},  # nor is TLS, which a proxy took off
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {},
    ],
    ids=str,
)
async def test_what_a_page_of_ones_own_sends_counts(said: dict[str, str]) -> None:
    auth = authenticator(Slow(), throttle=FailureThrottle("1/minute"))
    scope = {"headers": list(said.items())}
    assert await verdicts(auth, tokens=["bad"], scope=scope) == {Reason.INVALID: 1}
    assert await verdicts(auth, tokens=["good"]) == {Reason.THROTTLED: 1}


async def test_an_allowed_origin_is_none_from_elsewhere() -> None:
    auth = authenticator(
        Slow(), throttle=FailureThrottle("1/minute"), allowed_origins=["https://app.example"]
    )
    allowed = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")]
    assert await verdicts(auth, tokens=["bad"], scope={"headers": allowed}) == {Reason.INVALID: 1}
    assert await verdicts(auth, tokens=["good"]) == {Reason.THROTTLED: 1}


async def test_where_origins_are_named_a_foreign_page_is_refused_and_not_counted() -> None:
    slow = Slow()
    auth = authenticator(slow, throttle=FailureThrottle("1/minute"), allowed_origins=[HERE])
    for said in ({"sec-fetch-site": "cross-site"}, {"origin": THERE}):
        scope = {"headers": list(said.items())}
        assert await verdicts(auth, tokens=guesses(12), scope=scope) == {Reason.ORIGIN: 12}
    assert slow.judged == 0
    assert await verdicts(auth, tokens=["good"]) == {"alice": 1}


@pytest.mark.slow
async def test_whoever_a_program_claims_to_be_it_has_twice_the_rate_at_most() -> None:
    slow = Slow()
    auth = authenticator(slow, throttle=FailureThrottle("10/minute"))
    claims = [
        {},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"origin": HERE},
        *({"origin": f"https://{i}.example"} for i in range(20)),
    ]
    for claim in claims:
        await verdicts(auth, tokens=guesses(30), scope={"headers": list(claim.items())})
    assert slow.judged == 20


@cases("protocol", ["websocket", "http"])
async def test_a_proxy_that_changes_host_is_noticed_once(
    protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    auth = authenticator(Slow(), throttle=FailureThrottle("100/minute"), observers=[])
    headers = [("host", "backend:8000"), ("origin", HERE)]
    scope = {"type": protocol, "headers": [(k.encode(), v.encode()) for k, v in headers]}
    for number in range(25):
        assert bool(caplog.messages) == (number >= 10)
        conn = HTTPConnection({**websocket("token=good", client=(ADDRESS, 5)), **scope})
        await auth.authenticate(conn)
    (message,) = caplog.messages
    assert message.endswith("behind a proxy that changes Host, set allowed_origins")


@cases(
    ("first", "then"),
    [
        ({"origin": HERE}, {"origin": THERE}),  # the host is no proxy's
        ({}, {"sec-fetch-site": "cross-site", "origin": THERE}),  # it doesn't matter
        ({}, {}),
    ],
    ids=str,
)
async def test_another_sites_pages_are_no_proxy(
    first: dict[str, str], then: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    auth = authenticator(Slow(), throttle=FailureThrottle("100/minute"), observers=[])
    for said in [first, *[then] * 25]:
        await verdicts(auth, tokens=["good"], scope={"headers": list(said.items())})
    assert not caplog.messages


async def test_behind_a_proxy_that_changes_host_named_origins_keep_ones_own_page_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = authenticator(
        Slow(), throttle=FailureThrottle("1/minute"), allowed_origins=["https://own.example"]
    )
    foreign = {"headers": [("origin", THERE)]}
    assert await verdicts(auth, tokens=guesses(12), scope=foreign) == {Reason.ORIGIN: 12}
    own = {"headers": [("origin", "https://own.example")]}
    assert await verdicts(auth, tokens=goods(12), scope=own) == {"alice": 12}
    assert not caplog.messages
