"""MemoryStore: records that can be taken once, revocations, and slots, in memory that stays
bounded."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from handshakes import Clock
from insides import sessions_of, slots_of, tickets_of
from sockets import until

from asgi_wsauth import ConfigurationError, MemoryStore, TicketStore
from asgi_wsauth.options import check_store
from asgi_wsauth.stores.memory import _Watch
from asgi_wsauth.stores.protocols import Notice, Subject

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


async def put(
    store: TicketStore,
    *digests: str,
    record: str = "record",
    owner: str = "alice",
    limit: int = 1_000,
    ttl: float = 60.0,
) -> None:
    for digest in digests:
        await store.put_ticket(digest, record, owner=owner, limit=limit, ttl=ttl)


async def taken(store: TicketStore, digests: Iterable[str]) -> str:
    """Those of the digests (letters) that could be taken."""
    return "".join([digest for digest in digests if await store.take_ticket(digest) is not None])


def kept(store: MemoryStore) -> dict[str, int]:
    """How many things are in each of the containers for tickets."""
    return {"_tickets": len(tickets_of(store)), "_owners": len(store._owners)}


# Once


async def test_a_record_is_taken_as_it_was_put() -> None:
    store = MemoryStore()
    await put(store, "a", record='{"für": "\x00"}')
    assert await store.take_ticket("a") == '{"für": "\x00"}'


async def test_a_record_is_taken_once() -> None:
    store = MemoryStore()
    await put(store, "a", "b")
    assert await taken(store, "aabab") == "ab"


async def test_what_was_never_put_can_not_be_taken() -> None:
    store = MemoryStore()
    assert await store.take_ticket("a") is None
    await put(store, "a")
    assert await taken(store, ["A", "", "a "]) == ""


async def test_what_was_put_again_is_the_new_record_and_the_new_owners() -> None:
    store = MemoryStore()
    await put(store, "a", record="old")
    await put(store, "a", record="new", owner="bob")
    await put(store, "b", owner="bob", limit=1)  # bob's second, so his first goes
    assert await taken(store, "ab") == "b"
    await put(store, "a", record="old")
    await put(store, "a", record="new")
    assert await store.take_ticket("a") == "new"
    assert set(kept(store).values()) == {0}


async def test_what_was_put_again_is_the_youngest() -> None:
    store = MemoryStore()
    await put(store, "a", "b", "a", limit=2)
    await put(store, "c", limit=2)
    assert await taken(store, "abc") == "ac"
    store = MemoryStore(max_tickets=2)
    await put(store, "a", "b", "a", "c")
    assert await taken(store, "abc") == "ac"


async def test_of_many_tasks_exactly_one_gets_it() -> None:
    store = MemoryStore()
    await put(store, "a")
    got: list[str | None] = []

    async def take() -> None:
        await anyio.lowlevel.checkpoint()
        got.append(await store.take_ticket("a"))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(take)
    assert Counter(got) == {None: 99, "record": 1}


def in_threads(count: int, work: Callable[[], Any]) -> list[Any]:
    """What `work` returned in each of so many threads, which begin it together."""
    results: list[Any] = []
    begin = threading.Barrier(count)

    def run() -> None:
        begin.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.slow
def test_of_many_threads_exactly_one_gets_it() -> None:
    store = MemoryStore()
    for _ in range(20):
        asyncio.run(put(store, "a"))
        got = in_threads(16, lambda: asyncio.run(store.take_ticket("a")))
        assert Counter(got) == {None: 15, "record": 1}


def test_of_many_threads_only_one_is_at_work_at_any_moment() -> None:
    """So each operation is whole: none finds the half of another."""
    inside, most = 0, 0

    def clock() -> float:  # is read in the middle of every operation
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0)  # no pause: whoever else can run, may
        inside -= 1
        return 0.0

    store = MemoryStore(clock=clock)

    async def use() -> None:
        name = threading.current_thread().name
        for digest in "abc" * 20:
            await put(store, digest, f"{digest} of {name}", owner=name, limit=2)
            await store.take_ticket(digest)

    assert in_threads(8, lambda: asyncio.run(use())) == [None] * 8
    assert most == 1


# What is remembered


async def remembered(store: Any, digests: Iterable[str]) -> str:
    """Those of the digests (letters) that are told from what never was."""
    return "".join([digest for digest in digests if await store.had_ticket(digest)])


async def test_what_was_taken_or_had_to_go_is_remembered() -> None:
    store = MemoryStore(max_tickets=4)
    await put(store, "a", "b", "c", limit=2)
    assert await remembered(store, "abcd") == "a"
    assert await taken(store, "abc") == "bc"
    assert await taken(store, "abc") == ""
    assert await remembered(store, "abcd") == "abc"
    await put(store, "d", "e", "f", "g", "h", owner="bob")
    assert await remembered(store, "abcdefghx") == "abcd"  # one went because the store is full


async def test_it_is_remembered_until_its_time_has_passed() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await put(store, "a", "b", ttl=10)
    await put(store, "c", ttl=20)
    clock.now += 5
    assert await taken(store, "acb") == "acb"
    clock.now += 4.999
    assert await remembered(store, "abc") == "abc"
    clock.now += 0.001
    assert await remembered(store, "abc") == "c"
    await put(store, "d")
    assert list(store._gone) == ["c", "b"]  # for as long as what stands in front
    clock.now += 10
    await put(store, "e")
    assert not store._gone


async def test_what_is_put_again_is_new() -> None:
    store = MemoryStore()
    await put(store, "a")
    assert await taken(store, "a") == "a"
    await put(store, "a")
    assert await remembered(store, "a") == ""
    assert await taken(store, "a") == "a"


async def test_no_more_are_remembered_than_may_be_kept() -> None:
    clock = Clock()
    store = MemoryStore(max_tickets=1000, clock=clock)
    empty = sys.getsizeof(store._gone)
    for number in range(5000):
        await put(store, f"ticket {number}", owner=f"owner {number}")
        await store.take_ticket(f"ticket {number}")
    assert len(store._gone) == 1000
    assert not await store.had_ticket("ticket 3999")
    assert await store.had_ticket("ticket 4000")
    clock.now += 60
    await store.take_ticket("?")
    assert sys.getsizeof(store._gone) < empty + 1_000  # its room is given back


# How many


@cases(("limit", "expected"), [(1, "d"), (2, "cd"), (3, "bcd"), (4, "abcd")])
async def test_past_an_owners_limit_the_oldest_of_that_owner_go(limit: int, expected: str) -> None:
    store = MemoryStore()
    await put(store, "y", owner="bob")
    await put(store, "a", "b", "c", "d", limit=limit)
    await put(store, "z", owner="bob")
    assert await taken(store, "yabcdz") == f"y{expected}z"


async def test_a_lower_limit_makes_as_many_go_as_it_takes() -> None:
    store = MemoryStore()
    await put(store, "a", "b", "c")
    await put(store, "d", limit=2)
    assert await taken(store, "abcd") == "cd"


async def test_what_was_taken_or_has_expired_is_not_counted() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await put(store, "a", "b", limit=2)
    await store.take_ticket("b")
    await put(store, "c", limit=2)
    assert await taken(store, "ac") == "ac"
    await put(store, "a", "b", limit=2, ttl=10)
    clock.now += 10
    await put(store, "c", "d", limit=2)
    assert await taken(store, "abcd") == "cd"


async def test_past_the_cap_the_oldest_of_all_go() -> None:
    store = MemoryStore(max_tickets=3)
    for digest in "abcde":
        await put(store, digest, owner=f"owner of {digest}")
        assert len(tickets_of(store)) <= 3
    assert kept(store) == {"_tickets": 3, "_owners": 3}
    assert await taken(store, "abcde") == "cde"


async def test_a_cap_of_one_keeps_the_youngest() -> None:
    store = MemoryStore(max_tickets=1)
    await put(store, "a", "b")
    assert await taken(store, "ab") == "b"


async def test_what_has_expired_goes_before_the_cap_is_applied() -> None:
    clock = Clock()
    store = MemoryStore(max_tickets=2, clock=clock)
    await put(store, "a", ttl=10)
    await put(store, "b")
    clock.now += 10
    await put(store, "c")
    assert await taken(store, "abc") == "bc"


# How long


@cases(
    ("passed", "there"),
    [(0, True), (9.999, True), (10, False), (10.001, False), (1e9, False), (-5, True)],
)
async def test_a_record_can_be_taken_until_its_time_has_passed(passed: float, there: bool) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await put(store, "a", ttl=10)
    clock.now += passed
    assert (await store.take_ticket("a") is not None) is there


@cases("use", ["put", "take", "take of an expired one"])
async def test_expired_records_go_when_the_store_is_used(use: str) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for digest in "abc":
        await put(store, digest, ttl=10, owner=f"owner of {digest}")
    clock.now += 5
    await put(store, "d", ttl=10)
    clock.now += 5
    if use == "put":
        await put(store, "e")
        assert kept(store) == {"_tickets": 2, "_owners": 1}
    else:
        assert await store.take_ticket("b" if "expired" in use else "e") is None
        assert kept(store) == {"_tickets": 1, "_owners": 1}
    assert await taken(store, "abcd") == "d"


async def test_a_record_behind_one_that_lives_longer_can_not_be_taken_late() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await put(store, "a", ttl=100)
    await put(store, "b", "c", ttl=10)
    clock.now += 10
    await put(store, "d", ttl=100)
    assert await taken(store, "b") == ""  # it was still in the store
    clock.now += 90
    assert await taken(store, "acd") == "d"
    assert set(kept(store).values()) == {0}


async def test_the_default_clock_is_the_running_time() -> None:
    store = MemoryStore()
    await put(store, "a", ttl=1e-6)
    await put(store, "b")
    began = time.monotonic()
    while time.monotonic() < began + 1e-5:
        pass
    assert await taken(store, "ab") == "b"


# What remains


@cases("end", ["taken", "expired", "past the limit", "past the cap"])
async def test_nothing_remains_of_a_record_or_its_owner(end: str) -> None:
    clock = Clock()
    store = MemoryStore(max_tickets=50, clock=clock)
    for number in range(50):
        await put(store, f"ticket {number}", record="R" * 99, owner=f"owner {number % 25}")
    assert kept(store) == {"_tickets": 50, "_owners": 25}
    if end == "taken":
        assert len([n for n in range(50) if await store.take_ticket(f"ticket {n}")]) == 50
    elif end == "expired":
        clock.now += 60
        await store.take_ticket("?")
    elif end == "past the limit":
        for number in range(25):
            await put(store, "x", owner=f"owner {number}", limit=1)
            await store.take_ticket("x")
    else:
        for number in range(50):
            await put(store, f"z{number}", owner="zoe")
        assert kept(store) == {"_tickets": 50, "_owners": 1}
        assert await taken(store, [f"ticket {number}" for number in range(50)]) == ""
        return
    assert kept(store) == {"_tickets": 0, "_owners": 0}


@pytest.mark.slow
@pytest.mark.both_loops(False)  # it never waits, so once is enough
async def test_after_a_flood_its_room_is_given_back() -> None:
    clock = Clock()
    store = MemoryStore(max_tickets=20_000, clock=clock)

    def room() -> int:  # of the containers themselves, in bytes
        return sys.getsizeof(tickets_of(store)) + sys.getsizeof(store._owners)

    empty = room()
    for number in range(20_000):
        await put(store, f"ticket {number}", owner=f"owner {number}")
    assert room() > empty + 500_000
    clock.now += 60
    assert await store.take_ticket("?") is None
    assert kept(store) == {"_tickets": 0, "_owners": 0}
    assert room() < empty + 1_000


async def test_its_repr_says_how_many_but_not_what() -> None:
    store = MemoryStore()
    await put(store, "digest a", "digest b", record="the record", owner="alice")
    assert repr(store) == "<MemoryStore with 2 tickets>"


async def test_two_stores_share_nothing() -> None:
    one, other = MemoryStore(), MemoryStore()
    await put(one, "a")
    assert await taken(other, "a") == ""
    assert await taken(one, "a") == "a"


# Revocations


ALICE: Subject = ("user", "alice")


async def test_a_revocation_is_found_for_its_time() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.put_revocation(Notice(ALICE, 5.0), ttl=10)
    asked: list[Subject] = [("user", "bob"), ALICE, ("token", "alice"), ALICE]
    for passed, moment in ((0, 5.0), (9.9, 5.0), (0.1, None)):
        clock.now += passed
        assert await store.get_revocations(asked) == [None, moment, None, moment]
    assert await store.get_revocations([]) == []


@cases(
    ("first", "second", "until", "kept"),
    [
        ((5.0, 10.0), (7.0, 10.0), 7.0, 10.0),
        ((7.0, 10.0), (5.0, 10.0), 7.0, 10.0),
        ((5.0, 10.0), (7.0, 1.0), 7.0, 10.0),
        ((7.0, 1.0), (5.0, 10.0), 7.0, 10.0),
    ],
)
async def test_of_two_for_one_subject_the_later_one_counts_for_the_longer_time(
    first: tuple[float, float], second: tuple[float, float], until: float, kept: float
) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for moment, ttl in (first, second):
        await store.put_revocation(Notice(ALICE, moment), ttl=ttl)
    clock.now += kept - 0.1
    assert await store.get_revocations([ALICE]) == [until]
    clock.now += 0.1
    assert await store.get_revocations([ALICE]) == [None]


async def test_revocations_that_are_over_take_no_room() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for number in range(5_000):
        await store.put_revocation(Notice(("token", str(number)), 0.0), ttl=100)
        clock.now += 1
        assert len(store._revocations) <= 1_001
    last: list[Subject] = [("token", str(number)) for number in range(4_899, 5_000)]
    found = await store.get_revocations(last)
    assert found == [None, None, *[0.0] * 99]


async def test_revocations_that_are_not_over_stay_however_many() -> None:
    store = MemoryStore(clock=Clock())
    for number in range(3_000):
        await store.put_revocation(Notice(("token", str(number)), 1.0), ttl=1)
    every: list[Subject] = [("token", str(number)) for number in range(3_000)]
    assert await store.get_revocations(every) == [1.0] * 3_000


# Slots


async def slot(store: MemoryStore, name: str, *, limit: int = 2, evict: bool = False) -> bool:
    answer = await store.take_slot(("alice", name), limit=limit, evict=evict)
    assert answer.revoked == []
    return answer.taken


async def test_an_owner_has_as_many_slots_as_the_limit_says() -> None:
    store = MemoryStore()
    assert [await slot(store, name) for name in "abc"] == [True, True, False]
    assert (await store.take_slot(("bob", "x"), limit=2, evict=False)).taken
    for name in "acaz":
        await store.release_slot(("alice", name))  # what is not held is no error
    assert [await slot(store, name) for name in "de"] == [True, False]
    for owner, name in (("alice", "b"), ("alice", "d"), ("bob", "x"), ("zoe", "x")):
        await store.release_slot((owner, name))
    assert slots_of(store) == {}


async def test_a_refused_slot_leaves_nothing() -> None:
    store = MemoryStore()
    assert not await slot(store, "a", limit=0)
    await store.release_slot(("alice", "a"))
    assert slots_of(store) == {}


async def test_the_oldest_slots_make_room_and_are_told_of() -> None:
    store = MemoryStore()
    async with watching(store) as heard:
        assert [await slot(store, name, limit=3, evict=True) for name in "abc"] == [True] * 3
        assert await slot(store, "d", limit=2, evict=True)
        await until(lambda: len(heard) == 2)
    assert heard == [Notice(("slot", "a"), 0.0), Notice(("slot", "b"), 0.0)]
    every = [("alice", name) for name in "abcd"]
    assert await store.renew_slots(every) == every[:2]
    assert await store.renew_slots([("bob", "c")]) == [("bob", "c")]
    assert store.lease is None


@cases("evict", [False, True])
async def test_a_slot_that_is_held_is_taken_again_whatever_the_limit(evict: bool) -> None:
    store = MemoryStore()
    slots = [("alice", "a"), ("alice", "b"), ("alice", "a")]
    for slot in slots:
        assert (await store.take_slot(slot, limit=2, evict=evict)).taken
    assert await store.renew_slots(slots) == []
    await store.release_slot(("alice", "a"))
    assert await store.renew_slots(slots) == [("alice", "a")] * 2


async def test_with_a_slot_come_revocations() -> None:
    store = MemoryStore(clock=Clock())
    await store.put_revocation(Notice(ALICE, 5.0), ttl=10)
    for name, taken in (("a", True), ("b", False)):
        answer = await store.take_slot(
            ("alice", name), limit=1, evict=False, subjects=[("user", "bob"), ALICE]
        )
        assert answer == (taken, [None, 5.0])


async def test_expired_records_do_not_count_against_their_owner() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await put(store, "a", ttl=60)
    await put(store, "b", ttl=10, limit=2)
    clock.now += 11
    await put(store, "c", limit=2)
    assert await taken(store, "abc") == "ac"


# Watching


@asynccontextmanager
async def watching(store: MemoryStore) -> AsyncIterator[list[Notice]]:
    """All notices from the moment on at which the watch has begun."""
    heard: list[Notice] = []
    begun = anyio.Event()

    async def watch() -> None:
        async with aclosing(store.watch()) as notices:
            async for some in notices:
                if some is None:
                    begun.set()
                else:
                    assert some
                    heard.extend(some)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await begun.wait()
        yield heard
        group.cancel_scope.cancel()


async def test_all_who_watch_are_told_in_order() -> None:
    store = MemoryStore()
    await store.put_revocation(Notice(ALICE, 0.0), ttl=1)
    async with watching(store) as one, watching(store) as other:
        for moment in (1.0, 2.0):
            await store.put_revocation(Notice(ALICE, moment), ttl=1)
        await until(lambda: len(one) == len(other) == 2)
        await store.put_revocation(Notice(ALICE, 3.0), ttl=1)
        await until(lambda: len(one) == len(other) == 3)
    assert one == other == [Notice(ALICE, moment) for moment in (1.0, 2.0, 3.0)]
    assert store._watches == []


async def test_a_revocation_in_another_thread_is_heard_of() -> None:
    store = MemoryStore()

    def revoke() -> None:
        asyncio.run(store.put_revocation(Notice(ALICE, 1.0), ttl=1))

    async with watching(store) as heard:
        await anyio.to_thread.run_sync(revoke)
        await until(lambda: heard)
    assert heard == [Notice(ALICE, 1.0)]


def test_whoever_watched_on_an_event_loop_that_has_ended_is_forgotten(
    anyio_backend_name: str,
) -> None:
    store = MemoryStore()

    async def watch() -> None:
        store._watches = [_Watch()]  # which could not end itself

    anyio.run(watch, backend=anyio_backend_name)
    asyncio.run(store.put_revocation(Notice(ALICE, 1.0), ttl=1))
    assert store._watches == []


# Configuration


@cases("store", [None, MemoryStore, {}, "memory"])
def test_what_is_no_store_is_named(store: Any) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^Part must be a MemoryStore, a RedisStore, or a store of your own, got ",
    ):
        check_store("Part", store, "put_ticket")
    check_store("Part", MemoryStore(), "put_ticket", "watch")


@cases("value", [0, -1, 1.5, 20_000.0, "20000", None, True, False, float("inf")])
def test_a_cap_that_is_no_number_of_tickets_is_refused_by_name(value: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^MemoryStore: max_tickets must be a positive integer"
    ):
        MemoryStore(max_tickets=value)


# Sessions


async def test_a_session_that_was_ended_is_not_listed_again() -> None:
    store, key = MemoryStore(), ("alice", "a")
    await store.put_sessions([(key, "record")])
    await store.end_sessions(["a", "unknown"], "how", ttl=60)
    await store.end_sessions(["a"], "later", ttl=60)
    await store.put_sessions([(key, "record")])
    assert await store.get_sessions("alice") == []
    assert await store.renew_sessions([key]) == ([], [("a", "how")])
    await store.drop_session(key)
    assert sessions_of(store) == []
    assert await store.renew_sessions([key]) == ([key], [])


async def test_nothing_remains_of_an_owner_without_sessions() -> None:
    store = MemoryStore()
    keys = [("alice", id) for id in "abc"]
    for number in range(1, 4):
        await store.put_sessions([(key, key[1]) for key in keys[:number]])
        assert await store.get_sessions("alice") == [(id, id) for id in "abc"[:number]]
        for key in keys[:number]:
            await store.drop_session(key)
        assert sessions_of(store) == []
