"""ConnectionLimit and FailureThrottle: how many sockets a user may have, and how often an address
may fail."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import anyio
import anyio.lowlevel
import limits
import limits.aio
import pytest
from cases import cases
from handshakes import NOW, App, Clock, Knows, authenticator, connected, drive, mint, websocket
from insides import counts_of, is_renewing, slots_here, slots_of
from sockets import LEFT, Seat, running, settled, until

from asgi_wsauth import (
    ConfigurationError,
    ConnectionLimit,
    Denied,
    FailureThrottle,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.scope.addresses import share_of
from asgi_wsauth.stores.protocols import Slot, TakenSlot

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

FULL = (1013, "too_many_connections")


class Socket:
    """A live socket that remembers why it was ended."""

    def __init__(self, identity: str = "alice") -> None:
        self.principal = Principal(identity)
        self.ends: list[Reason] = []

    def end(self, denied: Denied, /) -> None:
        self.ends.append(denied.reason)


async def takes(limit: ConnectionLimit, socket: Socket) -> bool | Reason:
    """Whether it got a slot, or why not, where that is another reason than that there is none."""
    try:
        await limit.take_slot(socket)
    except Denied as denied:
        return denied.reason is not Reason.TOO_MANY_CONNECTIONS and denied.reason
    return True


# ConnectionLimit


async def test_a_user_has_as_many_as_the_limit_says() -> None:
    limit = ConnectionLimit(2, MemoryStore())
    sockets = [Socket() for _ in range(3)]
    assert [await takes(limit, socket) for socket in sockets] == [True, True, False]
    assert await takes(limit, Socket("bob"))
    await limit.release_slot(sockets[2])  # it has none
    assert not await takes(limit, Socket())
    await limit.release_slot(sockets[0])
    await limit.release_slot(sockets[0])
    last = [Socket(), Socket()]
    assert [await takes(limit, socket) for socket in last] == [True, False]


async def test_at_once_no_more_of_them_get_in() -> None:
    app = Seat()
    limit = ConnectionLimit(5, MemoryStore())
    auth = authenticator(Knows(a=Principal("alice")))
    door = WebSocketAuthMiddleware(app, auth, connection_limit=limit)
    refused: list[Any] = []

    async def connect() -> None:
        # A page: a program that comes so often is told by HTTP.
        scope = websocket("token=a", headers=[("origin", "https://chat.example")])
        refused.append((await drive(door, scope, receive=connected())).close)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(connect)
        await until(lambda: len(refused) == 45 and len(app.got) == 5)
        group.cancel_scope.cancel()
    assert refused == [FULL] * 45
    assert slots_of(limit.store) == {}


async def test_the_oldest_makes_room_where_that_is_asked_for() -> None:
    limit = ConnectionLimit(2, MemoryStore(), overflow="evict_oldest")
    sockets = [Socket() for _ in range(4)]
    for socket in sockets:
        await limit.take_slot(socket)
    await until(lambda: sockets[1].ends)
    await settled()
    assert [socket.ends for socket in sockets] == [[Reason.TOO_MANY_CONNECTIONS]] * 2 + [[], []]
    for socket in sockets:
        await limit.release_slot(socket)
    assert slots_of(limit.store) == {}


async def test_the_oldest_makes_room_after_it_was_heard_of_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not only where the loss is found when the listener begins."""
    limit = ConnectionLimit(1, MemoryStore(), overflow="evict_oldest")
    first, second = Socket(), Socket()
    await limit.take_slot(first)
    await settled()
    await limit.take_slot(second)
    await until(lambda: first.ends)
    await limit.release_slot(first)
    await limit.take_slot(Socket("bob"))
    assert second.ends == []
    assert caplog.records == []


async def test_one_that_is_evicted_before_it_knows_of_its_slot_is_ended_at_once() -> None:
    """As where a store's answer comes after its notice."""
    taken, told = anyio.Event(), anyio.Event()

    class Late(MemoryStore):
        async def take_slot(self, *args: Any, **options: Any) -> Any:
            answer = await super().take_slot(*args, **options)
            if not taken.is_set():
                taken.set()
                await told.wait()
            return answer

    store = Late()
    limit = ConnectionLimit(1, store, overflow="evict_oldest")
    first, second = Socket(), Socket()
    async with anyio.create_task_group() as group:
        group.start_soon(limit.take_slot, first)
        await taken.wait()
        await settled()  # by when it listens
        await limit.take_slot(second)
        await until(lambda: first.ends)
        told.set()
    assert (first.ends, second.ends) == ([Reason.TOO_MANY_CONNECTIONS], [])
    for socket in (first, second):
        await limit.release_slot(socket)
    assert slots_of(store) == {}


async def test_a_socket_that_has_left_already_is_not_ended() -> None:
    store = MemoryStore()
    limit = ConnectionLimit(1, store, overflow="evict_oldest")
    first, second = Socket(), Socket()
    await limit.take_slot(first)
    await settled()
    await limit.take_slot(second)  # and before anybody hears of it:
    await limit.release_slot(first)
    await settled()
    assert first.ends == []
    assert list(slots_of(store)) == [":alice"]


@cases(("name", "apart"), [("", False), ("calls", True)])
async def test_limits_with_names_of_their_own_count_apart(name: str, apart: bool) -> None:
    store = MemoryStore()
    one, other = ConnectionLimit(1, store), ConnectionLimit(1, store, name=name)
    assert await takes(one, Socket())
    assert await takes(other, Socket()) is apart


async def test_of_a_revocation_nobody_takes_it_for_an_eviction() -> None:
    store = MemoryStore()
    limit = ConnectionLimit(1, store, overflow="evict_oldest")
    socket = Socket()
    await limit.take_slot(socket)
    await settled()
    await Revocations(store).revoke_user("alice")
    await Revocations(store).revoke_token(next(iter(slots_here(limit))))
    await settled()
    assert socket.ends == []


async def test_revocations_in_the_same_store_come_on_the_same_way() -> None:
    store = MemoryStore()
    limit = ConnectionLimit(1, store)
    assert limit.counts_in(store)
    assert not limit.counts_in(MemoryStore())
    await Revocations(store, clock=lambda: NOW).revoke_user("alice")
    assert await limit.take_slot(Socket(), [("user", "bob"), ("user", "alice")]) == [None, NOW]


async def test_a_store_of_both_is_asked_of_both_at_once() -> None:
    class Store(MemoryStore):
        async def take_slot(self, slot: Slot, /, **more: Any) -> TakenSlot:
            calls.append("take_slot")
            return await super().take_slot(slot, **more)

        async def get_revocations(self, subjects: Any, /) -> Any:
            calls.append("get_revocations")
            return await super().get_revocations(subjects)

    calls: list[str] = []
    store = Store()
    auth = authenticator(Knows(a=Principal("alice")), revocations=Revocations(store))
    door = WebSocketAuthMiddleware(App(), auth, connection_limit=ConnectionLimit(1, store))
    await drive(door, websocket("token=a"))
    assert calls == ["get_revocations", "take_slot"]


async def test_a_store_that_fails_is_unavailable_and_may_have_taken_the_slot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Down(MemoryStore):
        async def take_slot(self, slot: Slot, /, **more: Any) -> TakenSlot:
            await super().take_slot(slot, **more)
            raise OSError("redis://user:hunter2@cache")

    limit = ConnectionLimit(1, Down())
    app = App()
    auth = authenticator(Knows(a=Principal("alice")))
    door = WebSocketAuthMiddleware(app, auth, connection_limit=limit)
    for _ in range(2):
        outcome = await drive(door, websocket("token=a"))
        assert outcome.close == (1013, "verifier_unavailable")
    assert "<MemoryStore with 0 tickets>: OSError" in caplog.text
    assert not app.calls
    assert slots_of(limit.store) == {}
    assert "OSError" in caplog.text


async def test_a_slot_that_can_not_be_given_back_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Down(MemoryStore):
        async def release_slot(self, slot: Slot, /) -> None:
            raise OSError("redis://user:hunter2@cache")

    limit = ConnectionLimit(1, Down())
    socket = Socket()
    await limit.take_slot(socket)
    await limit.release_slot(socket)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "a slot in <MemoryStore with 0 tickets> stays: OSError"
    assert "hunter2" not in caplog.text


@cases("hangs_in", ["take_slot", "release_slot"])
async def test_a_store_that_hangs_holds_up_nobody_for_long(
    hangs_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asgi_wsauth.connection import holdings

    monkeypatch.setattr(holdings, "_PATIENCE", 0.01)

    async def hang(*_: Any, **__: Any) -> Any:
        await anyio.sleep_forever()

    store = MemoryStore()
    monkeypatch.setattr(store, hangs_in, hang)
    app = App()
    auth = authenticator(Knows(a=Principal("alice")), timeout=0.01)
    door = WebSocketAuthMiddleware(app, auth, connection_limit=ConnectionLimit(1, store))
    with anyio.fail_after(5):
        outcome = await drive(door, websocket("token=a"), receive=connected())
    assert outcome.close == ((1013, "verifier_unavailable") if "take" in hangs_in else None)
    assert bool(app.calls) is ("release" in hangs_in)


async def test_a_server_that_cancels_the_app_gets_its_slot_back() -> None:
    class Elsewhere(MemoryStore):
        async def release_slot(self, slot: Slot, /) -> None:
            await anyio.lowlevel.checkpoint()
            await super().release_slot(slot)

    app, limit = Seat(), ConnectionLimit(1, Elsewhere())
    auth = authenticator(Knows(a=Principal("alice")))
    door = WebSocketAuthMiddleware(app, auth, connection_limit=limit)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drive(door, websocket("token=a"), receive=connected()))
        await until(lambda: app.got)
        group.cancel_scope.cancel()
    assert slots_of(limit.store) == {}


async def test_a_client_that_leaves_while_its_slot_is_taken_keeps_none() -> None:
    class Slow(MemoryStore):
        async def take_slot(self, slot: Slot, /, **more: Any) -> TakenSlot:
            answer = await super().take_slot(slot, **more)
            taken.set()
            await anyio.sleep_forever()
            return answer

    taken, app = anyio.Event(), App()
    limit = ConnectionLimit(1, Slow())
    auth = authenticator(Knows(a=Principal("alice")))
    door = WebSocketAuthMiddleware(app, auth, connection_limit=limit)
    async with running(door) as wire:
        await taken.wait()
        wire.put(LEFT)
    assert wire.sent == [{"type": "websocket.close"}]
    assert not app.calls
    assert slots_of(limit.store) == {}


class Leased(MemoryStore):
    """Slots that end unless they are renewed, as in Redis."""

    lease: Any = 0.03

    def __init__(self) -> None:
        super().__init__()
        self.renewed: list[list[Slot]] = []
        self.answers: list[Any] = []
        self.before: Callable[[], Any] | None = None

    async def renew_slots(self, slots: Sequence[Slot], /) -> Sequence[Slot]:
        self.renewed.append(list(slots))
        if self.before is not None:
            await self.before()
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return [slots[place] for place in answer]


async def test_slots_are_renewed_for_as_long_as_there_are_any() -> None:
    store = Leased()
    limit = ConnectionLimit(3, store)
    sockets = [Socket(), Socket(), Socket("bob")]
    for socket in sockets:
        await limit.take_slot(socket)
    await until(lambda: len(store.renewed) == 3)
    assert [name for name, _ in store.renewed[0]] == [":alice", ":alice", ":bob"]
    await limit.release_slot(sockets[0])
    before = len(store.renewed)
    await until(lambda: len(store.renewed) == before + 2)
    assert [name for name, _ in store.renewed[-1]] == [":alice", ":bob"]
    for socket in sockets[1:]:
        await limit.release_slot(socket)
    await until(lambda: not is_renewing(limit))
    before = len(store.renewed)
    await limit.take_slot(sockets[0])  # and it begins again
    await until(lambda: len(store.renewed) > before)
    await limit.release_slot(sockets[0])
    await until(lambda: not is_renewing(limit))


async def test_they_are_renewed_thrice_in_a_lease_and_each_second_while_that_fails() -> None:
    store, times = Leased(), list[float]()
    store.lease = 30.0
    store.answers = [[], [], OSError(), OSError(), [], [0]]
    limit, socket = ConnectionLimit(3, store), Socket()

    async def note_time() -> None:
        times.append(anyio.current_time())

    store.before = note_time
    await limit.take_slot(socket)
    with anyio.fail_after(100):
        while not socket.ends:  # noqa: ASYNC110 - nothing in this task knows
            await anyio.sleep(1)
    pauses = [round(later - earlier) for earlier, later in pairwise(times)]
    assert pauses == [10, 10, 1, 1, 10]
    await limit.release_slot(socket)
    await anyio.sleep(11)
    assert not is_renewing(limit)


async def test_whoever_lost_his_slot_while_the_store_was_away_is_ended() -> None:
    store = Leased()
    limit = ConnectionLimit(3, store)
    sockets = [Socket(), Socket()]
    store.answers = [[], [1]]
    for socket in sockets:
        await limit.take_slot(socket)
    await until(lambda: sockets[1].ends)
    assert sockets[0].ends == []
    assert sockets[1].ends == [Reason.TOO_MANY_CONNECTIONS]
    for socket in sockets:
        await limit.release_slot(socket)
    await until(lambda: not is_renewing(limit))


async def test_a_renewal_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Leased()
    limit = ConnectionLimit(3, store)
    socket = Socket()
    store.answers = [OSError("redis://user:hunter2@cache"), [], [0]]
    await limit.take_slot(socket)
    await until(lambda: socket.ends)
    assert [record.getMessage() for record in caplog.records] == [
        "slots in <MemoryStore with 0 tickets> can't be renewed: OSError",
        "slots in <MemoryStore with 0 tickets> are renewed again",
    ]
    assert "hunter2" not in caplog.text
    await limit.release_slot(socket)
    await until(lambda: not is_renewing(limit))


async def test_a_slot_that_is_released_while_it_is_renewed_is_not_kept() -> None:
    """The renewal may reach the store last, and take it again."""
    given: list[Slot] = []

    class Store(Leased):
        async def release_slot(self, slot: Slot, /) -> None:
            given.append(slot)

    store, socket = Store(), Socket()
    limit = ConnectionLimit(3, store)

    async def give_up() -> None:
        await limit.release_slot(socket)

    store.before = give_up
    await limit.take_slot(socket)
    await until(lambda: len(given) == 2)
    assert given[0] == given[1]
    await until(lambda: not is_renewing(limit))


@cases(
    ("number", "store", "options", "named"),
    [
        (0, MemoryStore(), {}, "ConnectionLimit: limit must be a positive integer, got 0"),
        (1.5, MemoryStore(), {}, "ConnectionLimit: limit"),
        (True, MemoryStore(), {}, "ConnectionLimit: limit"),
        (None, MemoryStore(), {}, "ConnectionLimit: limit"),
        (
            3,
            None,
            {},
            "ConnectionLimit: store must be a MemoryStore, .*, got None, which has no",
        ),
        (
            3,
            MemoryStore,
            {},
            "ConnectionLimit: store must be a MemoryStore, .*, got the class MemoryS",
        ),
        (3, "redis://:pw@cache", {}, r"ConnectionLimit: store .* a str; write RedisStore.from_url"),
        (3, MemoryStore(), {"overflow": "evict"}, "ConnectionLimit: overflow must be one of"),
        (3, MemoryStore(), {"overflow": None}, "ConnectionLimit: overflow"),
    ],
)
def test_bad_configuration_of_a_limit_is_named(
    number: Any, store: Any, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named}"):
        ConnectionLimit(number, store, **options)


def test_their_reprs() -> None:
    limit = ConnectionLimit(3, MemoryStore())
    assert repr(limit) == "<ConnectionLimit of 3 in <MemoryStore with 0 tickets>>"
    assert repr(FailureThrottle("5/hour")) == "<FailureThrottle at 5 per 1 hour>"


# FailureThrottle


STORAGES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "memory": limits.storage.MemoryStorage,
    "asynchronous": limits.aio.storage.MemoryStorage,
}
storages = pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)


async def locked_out(throttle: FailureThrottle, client: str | None) -> Denied | None:
    try:
        await throttle.check(client)
    except Denied as denied:
        return denied
    return None


@storages
async def test_an_address_is_locked_out_after_as_many_failures_as_the_rate_says(
    storage: Any, anyio_backend_name: str
) -> None:
    if storage is limits.aio.storage.MemoryStorage and anyio_backend_name == "trio":
        pytest.skip("asyncio's own")
    throttle = FailureThrottle("3/hour", storage=storage())
    for _ in range(3):
        assert await locked_out(throttle, "192.0.2.7") is None
        await throttle.count("192.0.2.7")
    denied = await locked_out(throttle, "192.0.2.7")
    assert denied is not None
    assert denied.reason is Reason.THROTTLED
    assert denied.retry_after is not None
    assert 3500 < denied.retry_after <= 3600
    assert await locked_out(throttle, "192.0.2.8") is None


async def test_it_opens_again_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    throttle = FailureThrottle("1/minute")
    await throttle.count("192.0.2.7")
    for passed, expected in ((30, True), (59.9, True), (61, False)):
        clock.now = NOW + passed
        denied = await locked_out(throttle, "192.0.2.7")
        assert (denied is not None) is expected
        if denied is not None:
            assert denied.retry_after is not None
            assert 1 <= denied.retry_after <= 60 - passed + 1


@cases(
    ("client", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        (None, None),
        ("", None),
        ("192.0.2.7:80", "192.0.2.7"),
        ("[2001:db8:1:2::1]:443", "2001:db8:1:2::/64"),
        ("unknown", "unreadable"),
        ("_hidden", "unreadable"),
        ("/run/app.sock", "unreadable"),
    ],
)
async def test_what_counts_as_one_address(client: str | None, counted_as: str | None) -> None:
    assert share_of(client) == counted_as
    throttle = FailureThrottle("1/hour")
    await throttle.count(client)
    assert (await locked_out(throttle, client) is not None) is (counted_as is not None)


@cases("method", ["get", "incr", "get_expiry"])
async def test_a_storage_that_fails_lets_nobody_in(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("redis://user:hunter2@cache")

    storage = limits.storage.MemoryStorage()
    throttle = FailureThrottle("1/hour", storage=storage)
    if method == "get_expiry":
        await throttle.count("192.0.2.7")
    monkeypatch.setattr(storage, method, fail)
    if method == "incr":
        with pytest.raises(OSError):
            await throttle.count("192.0.2.7")
        return
    denied = await locked_out(throttle, "192.0.2.7")
    assert denied is not None
    assert denied.reason is Reason.UNAVAILABLE
    assert "hunter2" not in denied.detail


@pytest.mark.both_loops(False)  # it never waits, so once is enough
@cases("addresses", [1, 50])
async def test_a_flood_of_bad_handshakes_is_bounded(
    addresses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number for each address, for as long as the rate's time; and no verifier is asked."""
    knows = Knows()
    throttle = FailureThrottle("3/minute")
    auth = authenticator(knows, throttle=throttle, observers=[])
    door = WebSocketAuthMiddleware(App(), auth)
    closes = set()
    for number in range(250):
        client = (f"2001:db8:0:{number % addresses:x}::{number:x}", 5)
        outcome = await drive(door, websocket(f"token=x{number}", client=client))
        closes.add(outcome.close)
    assert closes == {(1008, "token_invalid"), (1013, "too_many_failures")}
    assert len(knows.asked) == 3 * addresses
    assert len(counts_of(throttle)) == addresses
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 61)
    for number in range(addresses):
        await throttle.count(f"192.0.2.{number}")
    assert len(counts_of(throttle)) <= addresses  # those whose time is over make room


@pytest.mark.both_loops(False)
async def test_a_refusal_costs_no_more_than_an_admission() -> None:
    """In calls, which unlike time can be counted: of Python, and an admission has the cryptography
    besides."""
    long = "x" * 8_000
    throttle = FailureThrottle("1/minute")
    await throttle.count("192.0.2.7")
    auth = authenticator(observers=[], throttle=throttle)
    door = WebSocketAuthMiddleware(App(), auth)

    async def calls(query: str, client: str = "127.0.0.1") -> int:
        scope, count = websocket(query, client=(client, 5)), 0

        def profile(frame: Any, event: str, arg: Any) -> None:
            nonlocal count
            count += event == "call"

        for _ in range(2):  # the first one fills caches
            count = 0
            before = sys.getprofile()
            sys.setprofile(profile)
            try:
                await drive(door, dict(scope))
            finally:
                sys.setprofile(before)
        return count

    admission = 1.25 * await calls(f"token={mint()}")
    for query in ("", f"token={long}{long}", "token=a&token=b"):
        assert await calls(query, "") < admission
    for query in ("token=bad", f"token={long}", f"token={mint()}"):
        assert await calls(query, "192.0.2.7") < admission
    assert abs(await calls(f"token={long}", "") - await calls("token=bad", "")) < 10


@cases(
    ("rate", "storage", "named"),
    [
        ("", None, "rate"),
        ("often", None, "rate"),
        ("10", None, "rate"),
        (10, None, "rate"),
        (None, None, "rate"),
        ("0/minute", None, "rate"),  # would lock out everybody
        ("10/minute; 100/hour", None, "rate"),  # one of them would be forgotten
        ("10/minute", "memory://", "storage"),
        ("10/minute", object(), "storage"),
    ],
)
def test_bad_configuration_of_a_throttle_is_named(rate: Any, storage: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^FailureThrottle: {named}"):
        FailureThrottle(rate, storage=storage)


def test_a_storage_that_would_block_the_event_loop_is_refused() -> None:
    kind: Any = type("Blocking", (limits.storage.Storage,), {})
    kind.__abstractmethods__ = frozenset()
    with pytest.raises(ConfigurationError, match=r"^FailureThrottle: storage .*limits\.aio"):
        FailureThrottle(storage=object.__new__(kind))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits", None)
    with pytest.raises(ConfigurationError, match=r"asgi-wsauth\[throttle\]"):
        FailureThrottle()
