"""RedisStore: what MemoryStore promises, for any number of processes, on real servers."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import pytest
import redis as sync_redis
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from handshakes import judge
from issuer import certificate
from pages import PAGES
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis_servers import KINDS, SERVERS, Proxy, RedisServer, Target, pooled_redis, redis_server
from servers import DEADLINE, EVERYTHING, free_port

import asgi_wsauth.redis
from asgi_wsauth import ConfigurationError, Denied, MemoryStore, Principal, Reason, Tickets
from asgi_wsauth.options import check_store
from asgi_wsauth.redis import RedisStore
from asgi_wsauth.stores import redis_client, redis_notices
from asgi_wsauth.stores.protocols import Notice, RenewalNotice, Subject, TakenSlot

# Before any test changes them.
USUAL_DEADLINE, USUAL_SOCKET = redis_client.DEADLINE, redis_client._SOCKET

pytestmark = [pytest.mark.anyio, pytest.mark.live]

ALICE: Subject = ("user", "alice")
OWN = [kind for kind in KINDS if kind != "REDIS_URL"]  # whose data and clients are the tests' own
# What an owner has is at one node of a cluster, in the hands of the same scripts: a crowd of one
# owner's finds nothing new there.
FOR_CROWDS = KINDS if EVERYTHING else SERVERS


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> Target:
    """Every kind of server in turn."""
    return pooled_redis(request.config, request.param)


@pytest.fixture(params=OWN)
def own(request: pytest.FixtureRequest) -> Target:
    """Every kind of server that nobody else uses."""
    return pooled_redis(request.config, request.param)


@pytest.fixture(params=SERVERS)
def link(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A link to every kind of single server."""
    server = pooled_redis(request.config, request.param)
    assert isinstance(server, RedisServer)
    with Proxy(server.port) as link:
        yield link


@pytest.fixture
def prefix() -> str:
    return f"test-{token_hex(8)}"


def store_at(target: Target | Proxy, prefix: str, **options: Any) -> RedisStore:
    cluster = isinstance(target, Target) and target.is_cluster
    return RedisStore.from_url(target.url, cluster=cluster, prefix=prefix, **options)


@pytest.fixture
def store(target: Target, prefix: str) -> RedisStore:
    return store_at(target, prefix)


@asynccontextmanager
async def client_of(target: Target, **options: Any) -> AsyncIterator[Any]:
    client = target.client(**options)
    try:
        yield client
    finally:
        await client.aclose()


async def at_each_node(target: Target, *command: str) -> list[Any]:
    """What each server answers to a command."""
    async with client_of(target) as client:
        if not target.is_cluster:
            return [await client.execute_command(*command)]
        await client.initialize()
        return [await node.execute_command(*command) for node in client.get_nodes()]


async def put(store: Any, *digests: str, **options: Any) -> None:
    options = {"owner": "alice", "limit": 1000, "ttl": 60.0, **options}
    record = options.pop("record", "record")
    for digest in digests:
        await store.put_ticket(digest, record, **options)


async def taken(store: Any, digests: str) -> str:
    """Those of the digests (letters) that could be taken."""
    return "".join([digest for digest in digests if await store.take_ticket(digest) is not None])


async def take(store: Any, names: str, limit: int, *, evict: bool = False) -> str:
    """Those of the slots (letters) that alice could take."""
    took = [await store.take_slot(("alice", n), limit=limit, evict=evict) for n in names]
    return "".join(n for n, answer in zip(names, took, strict=True) if answer.taken)


async def list_sessions(store: Any, ids: str, owner: str = "alice") -> None:
    await store.put_sessions([((owner, id), f"record {id}") for id in ids])


async def listed(store: Any, owner: str = "alice") -> str:
    """The ids (letters) of an owner's sessions."""
    found = dict(await store.get_sessions(owner))
    assert all(record == f"record {id}" for id, record in found.items())
    return "".join(sorted(found))


async def renewed(store: Any, ids: str) -> tuple[str, str]:
    """Those of alice's sessions (letters) that are unknown when they are renewed, and those that
    were ended."""
    unknown, ended = await store.renew_sessions([("alice", id) for id in ids])
    return "".join(id for _, id in unknown), "".join(id for id, _ in ended)


async def lost(store: Any, names: str) -> str:
    """Those of alice's slots (letters) that are lost when they are renewed."""
    return "".join(name for _, name in await store.renew_slots([("alice", n) for n in names]))


@asynccontextmanager
async def watching(store: Any) -> AsyncIterator[AsyncGenerator[Any, None]]:
    """A watch that has begun."""
    async with aclosing(store.watch()) as watch:
        assert await heard(watch) is None
        yield watch


async def heard(watch: AsyncGenerator[Any, None], least: int = 1) -> Any:
    """The next item of a watch; or as many notices, whatever items they come in. One that is told
    twice counts once: a command whose answer is late is sent again. What two nodes of a cluster
    tell comes in any order."""
    with anyio.move_on_after(DEADLINE):
        item = await anext(watch)
        if item is not None:
            item = list(dict.fromkeys(item))
            while len(item) < least:
                item = list(dict.fromkeys([*item, *(await anext(watch))]))
        return item
    return pytest.fail("nothing is heard")  # a TimeoutError could be the watch's own


async def until(condition: Callable[[], Any]) -> None:
    """Waits for what happens elsewhere: in a server, or in another thread. What takes long is asked
    for ever less often."""
    pause = 0.005
    with anyio.fail_after(DEADLINE):
        while not await condition():
            await anyio.sleep(pause)
            pause = min(1.5 * pause, 0.1)


# What both stores promise


@pytest.fixture(params=["memory", *KINDS])
def either(request: pytest.FixtureRequest, prefix: str) -> Any:
    if request.param == "memory":
        return MemoryStore()
    return store_at(pooled_redis(request.config, request.param), prefix)


async def test_a_record_is_taken_as_it_was_put_and_once(either: Any) -> None:
    record = '{"für": "\x00", "\ud800": "\U0001f600"}'
    await put(either, "a", record=record)
    await put(either, "b")
    assert await either.take_ticket("a") == record
    assert await taken(either, "abab") == "b"


async def test_what_was_never_put_can_not_be_taken(either: Any) -> None:
    await put(either, "a")
    assert [await either.take_ticket(digest) for digest in ("A", "", "a ", "b")] == [None] * 4


@pytest.mark.parametrize(("limit", "expected"), [(1, "d"), (2, "cd"), (3, "bcd"), (4, "abcd")])
async def test_past_an_owners_limit_the_oldest_of_that_owner_go(
    either: Any, limit: int, expected: str
) -> None:
    await put(either, "y", owner="bob")
    await put(either, "a", "b", "c", "d", limit=limit)
    await put(either, "z", owner="bob")
    assert await taken(either, "yabcdz") == f"y{expected}z"


async def test_a_lower_limit_makes_as_many_go_as_it_takes(either: Any) -> None:
    await put(either, "a", "b", "c")
    await put(either, "d", limit=2)
    assert await taken(either, "abcd") == "cd"


async def test_what_was_taken_or_had_to_go_is_told_from_what_never_was(either: Any) -> None:
    await put(either, "a", "b", "c", "d", limit=3)
    assert await taken(either, "bx") == "b"
    assert await taken(either, "bx") == ""
    told = [digest for digest in "abcdx" if await either.had_ticket(digest)]
    assert told == ["a", "b"]


async def test_it_is_told_for_as_long_as_it_would_have_been_kept(either: Any) -> None:
    for digests, owner, ttl in (("ab", "alice", 60), ("xy", "bob", 0.2)):
        await put(either, *digests, owner=owner, ttl=ttl)
        await put(either, f"of {owner}", owner=owner, limit=1)

    async def forgotten() -> bool:
        return not await either.had_ticket("y")

    await until(forgotten)
    assert await either.had_ticket("b")
    assert await taken(either, "by") == ""


async def test_what_was_put_again_is_the_youngest(either: Any) -> None:
    await put(either, "a", "b", limit=2)
    await put(either, "a", limit=2, record="new")
    await put(either, "c", limit=2)
    assert await either.take_ticket("a") == "new"
    assert await taken(either, "abc") == "c"


async def test_what_was_taken_is_not_counted(either: Any) -> None:
    await put(either, "a", "b", limit=2)
    assert await taken(either, "b") == "b"
    await put(either, "c", limit=2)
    assert await taken(either, "ac") == "ac"


async def test_of_many_tasks_exactly_one_gets_it(either: Any) -> None:
    await put(either, "a")
    got: list[str | None] = []

    async def take() -> None:
        got.append(await either.take_ticket("a"))

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(take)
    assert Counter(got) == {None: 99, "record": 1}


async def test_a_revocation_is_kept_for_what_was_meant(either: Any) -> None:
    await either.put_revocation(Notice(ALICE, 1_800_000_000.123456), ttl=60)
    asked: list[Subject] = [("token", "alice"), ALICE, ("user", "Alice"), ("session", "alice")]
    assert await either.get_revocations(asked) == [None, 1_800_000_000.123456, None, None]
    assert await either.get_revocations([]) == []


async def test_of_two_revocations_the_later_counts(either: Any) -> None:
    for until_, expected in [(9.5, 9.5), (10.25, 10.25), (9.75, 10.25), (1e300, 1e300), (0, 1e300)]:
        await either.put_revocation(Notice(ALICE, until_), ttl=60)
        assert await either.get_revocations([ALICE]) == [expected]
    await either.put_revocation(Notice(ALICE, float("inf")), ttl=60)
    assert await either.get_revocations([ALICE]) == [float("inf")]


async def test_a_revocation_may_be_replaced_and_forgotten(either: Any) -> None:
    blocked: Subject = ("blocked", "alice")

    async def forgotten() -> bool:
        return await either.get_revocations([blocked]) == [None]

    await either.replace_revocation(Notice(blocked, 1.0), ttl=0)  # which never was
    for until_, ttl in [(9.5, 60), (5.0, 60), (float("inf"), float("inf")), (4.0, 0.01)]:
        await either.replace_revocation(Notice(blocked, until_), ttl=ttl)
        if ttl > 1:
            assert await either.get_revocations([blocked, ALICE]) == [until_, None]
    await until(forgotten)
    await either.replace_revocation(Notice(blocked, 3.0), ttl=60)
    await either.replace_revocation(Notice(blocked, 0.0), ttl=0)
    assert await forgotten()


async def test_what_replaces_a_revocation_is_told_of_unless_it_is_forgotten(either: Any) -> None:
    blocked = Notice(("blocked", "alice"), float("inf"))
    everybody = Notice(("everybody", ""), 2.0)
    async with watching(either) as watch:
        await either.replace_revocation(blocked, ttl=60)
        await either.replace_revocation(blocked, ttl=0)
        await either.put_revocation(everybody, ttl=60)
        # From two nodes of a cluster, in any order.
        assert set(await heard(watch, 2)) == {blocked, everybody}


async def test_the_time_to_renew_is_told_with_what_is_revoked(either: Any) -> None:
    async with watching(either) as watch:
        await either.put_revocation(RenewalNotice.of(Notice(ALICE, 2.0), 62.5), ttl=60)
        await either.put_revocation(Notice(ALICE, 3.0), ttl=60)
        told = await heard(watch, 2)
    assert [(notice, notice.renew_by) for notice in told] == [
        (Notice(ALICE, 2.0), 62.5),
        (Notice(ALICE, 3.0), None),
    ]


async def test_a_revocation_is_forgotten_after_the_longer_of_its_times(either: Any) -> None:
    bob: Subject = ("user", "bob")
    await either.put_revocation(Notice(ALICE, 1.0), ttl=60)
    await either.put_revocation(Notice(ALICE, 2.0), ttl=0.01)
    await either.put_revocation(Notice(bob, 1.0), ttl=0.01)

    async def forgotten() -> bool:
        return await either.get_revocations([bob]) == [None]

    await until(forgotten)
    assert await either.get_revocations([ALICE]) == [2.0]


async def test_a_time_to_live_may_be_as_long_as_any_token_says(either: Any) -> None:
    await either.put_revocation(Notice(ALICE, 1.0), ttl=1e300)
    await either.put_revocation(Notice(ALICE, 2.0), ttl=float("inf"))
    await put(either, "a", ttl=1e18)
    assert await either.get_revocations([ALICE]) == [2.0]
    assert await taken(either, "a") == "a"


async def test_who_watches_is_told_of_revocations(either: Any) -> None:
    async with watching(either) as watch, watching(either) as other:
        await either.put_revocation(Notice(ALICE, 2.0), ttl=60)
        await either.put_revocation(Notice(ALICE, 1.0), ttl=60)
        expected = [Notice(ALICE, 2.0), Notice(ALICE, 1.0)]
        assert await heard(watch, 2) == await heard(other, 2) == expected


async def test_an_owner_has_as_many_slots_as_the_limit(either: Any) -> None:
    assert await take(either, "abcd", 3) == "abc"
    assert (await either.take_slot(("bob", "e"), limit=1, evict=False)).taken
    await either.release_slot(("alice", "b"))
    await either.release_slot(("alice", "x"))
    await either.release_slot(("carol", "x"))
    assert await take(either, "fg", 3) == "f"
    assert await take(either, "h", 2) == ""


async def test_the_oldest_slots_go_with_a_notice_each(either: Any) -> None:
    async with watching(either) as watch:
        assert await take(either, "abc", 3, evict=True) == "abc"
        assert await take(either, "d", 2, evict=True) == "d"
        assert await heard(watch, 2) == [Notice(("slot", "a"), 0.0), Notice(("slot", "b"), 0.0)]
    assert await lost(either, "dcba") == "ba"
    assert await take(either, "e", 2) == ""


async def test_revocations_are_looked_up_on_the_same_way(either: Any) -> None:
    await either.put_revocation(Notice(ALICE, 2.0), ttl=60)
    subjects: list[Subject] = [("session", "s"), ALICE]
    answers = [
        await either.take_slot(("alice", name), limit=1, evict=False, subjects=subjects)
        for name in "ab"
    ]
    assert answers == [TakenSlot(True, [None, 2.0]), TakenSlot(False, [None, 2.0])]
    assert await either.take_slot(("bob", "c"), limit=1, evict=False) == TakenSlot(True, [])


@pytest.mark.parametrize("either", ["memory", *FOR_CROWDS], indirect=True)
async def test_of_many_at_once_as_many_as_the_limit_get_a_slot(either: Any) -> None:
    took: list[bool] = []

    async def take(number: int) -> None:
        slot = ("alice", str(number))
        took.append((await either.take_slot(slot, limit=3, evict=False)).taken)

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(take, number)
    assert Counter(took) == {True: 3, False: 197}


@pytest.mark.parametrize("either", ["memory", *FOR_CROWDS], indirect=True)
async def test_of_many_at_once_as_many_as_the_limit_keep_their_slot(either: Any) -> None:
    slots = [("alice", str(number)) for number in range(100)]
    async with watching(either) as watch, anyio.create_task_group() as group:
        for slot in slots:
            group.start_soon(lambda s: either.take_slot(s, limit=3, evict=True), slot)
        told = {name for (_, name), _ in await heard(watch, 97)}
    gone = {name for _, name in await either.renew_slots(slots)}
    assert told == gone and len(gone) == 97


# What only a store that is shared promises


async def test_sessions_are_listed_for_their_owner_until_they_are_dropped(either: Any) -> None:
    assert await listed(either) == ""
    await list_sessions(either, "abc")
    await list_sessions(either, "d", "bob")
    assert (await listed(either), await listed(either, "bob")) == ("abc", "d")
    await either.drop_session(("alice", "b"))
    await either.drop_session(("alice", "b"))
    await either.drop_session(("nobody", "x"))
    assert (await listed(either), await listed(either, "bob")) == ("ac", "d")
    await either.drop_session(("bob", "d"))
    assert await listed(either, "bob") == ""


async def test_thousands_are_listed_in_several_exchanges(
    either: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_wsauth.redis, "_BATCH", 3)
    await list_sessions(either, "abcdefgh")
    await either.end_sessions(["b", "g"], "how", ttl=60)
    assert await listed(either) == "acdefh"


async def test_what_is_kept_of_a_session_is_replaced(either: Any) -> None:
    for record in ("old", "", 'n\u00e4w"\x00\ud800'):
        await either.put_sessions([(("alice", "a"), record)])
        assert list(await either.get_sessions("alice")) == [("a", record)]
    await either.put_sessions([])


async def test_sessions_that_were_ended_are_told_and_not_listed(either: Any) -> None:
    await list_sessions(either, "abc")
    async with watching(either) as watch:
        await either.end_sessions(["a", "c"], "how", ttl=60)
        assert set(await heard(watch, 2)) == {
            Notice(("ended", "a"), 0.0),
            Notice(("ended", "c"), 0.0),
        }
    assert await listed(either) == "b"
    assert await either.renew_sessions([("alice", id) for id in "abcd"]) == (
        [("alice", "d")],
        [("a", "how"), ("c", "how")],
    )
    await list_sessions(either, "a")  # by a process that has not heard of it
    assert await listed(either) == "b"
    assert await renewed(either, "ab") == ("", "a")
    await either.end_sessions([], "how", ttl=60)
    assert await either.renew_sessions([]) == ([], [])


async def test_sessions_that_are_not_there_can_be_ended(either: Any) -> None:
    await either.end_sessions(["x", "y"], "how", ttl=60)
    await list_sessions(either, "a")
    assert await renewed(either, "a") == ("", "")


async def test_what_is_gone_is_not_counted(store: RedisStore) -> None:
    await put(store, "a", limit=2)
    await put(store, "b", limit=2, ttl=0.01)
    await store.put_revocation(Notice(ALICE, 1.0), ttl=0.01)

    async def gone() -> bool:
        return await store.get_revocations([ALICE]) == [None]

    await until(gone)
    await put(store, "c", limit=2)
    assert await store.take_ticket("b") is None
    await put(store, "d", limit=2)
    assert await taken(store, "acd") == "cd"


@pytest.mark.parametrize("target", FOR_CROWDS, indirect=True)
async def test_of_many_clients_exactly_one_gets_it(target: Target, prefix: str) -> None:
    stores = [store_at(target, prefix) for _ in range(2)]
    await put(stores[0], "a")
    got: list[str | None] = []

    async def take(store: RedisStore) -> None:
        got.append(await store.take_ticket("a"))

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(take, stores[number % 2])
    assert Counter(got) == {None: 99, "record": 1}


async def test_the_limit_holds_for_all_clients(target: Target, prefix: str) -> None:
    one, other = store_at(target, prefix), store_at(target, prefix)
    assert [await take(one, "ab", 3), await take(other, "cd", 3)] == ["ab", "c"]
    await one.release_slot(("alice", "c"))
    assert await take(other, "e", 3) == "e"


async def test_another_client_hears_of_it(target: Target, prefix: str) -> None:
    one, other = store_at(target, prefix), store_at(target, prefix)
    async with watching(one) as watch:
        await other.put_revocation(Notice(("token", "t"), 5.5), ttl=60)
        await take(other, "ab", 1, evict=True)
        expected = {Notice(("token", "t"), 5.5), Notice(("slot", "a"), 0.0)}
        assert set(await heard(watch, 2)) == expected


async def test_stores_of_different_prefixes_share_nothing(target: Target) -> None:
    one, other = store_at(target, token_hex(8)), store_at(target, token_hex(8))
    async with watching(other) as watch:
        await put(one, "a")
        await one.put_revocation(Notice(ALICE, 1.0), ttl=60)
        assert await take(one, "a", 1) == "a"
        assert await taken(other, "a") == ""
        assert await other.get_revocations([ALICE]) == [None]
        assert await take(other, "b", 1) == "b"
        await other.put_revocation(Notice(ALICE, 2.0), ttl=60)
        assert await heard(watch) == [Notice(ALICE, 2.0)]


@pytest.mark.parametrize("kind", SERVERS)
async def test_stores_of_different_databases_share_nothing(
    request: pytest.FixtureRequest, kind: str, prefix: str
) -> None:
    url = pooled_redis(request.config, kind).url
    one, other = (RedisStore.from_url(f"{url[:-1]}{n}", prefix=prefix) for n in (0, 1))
    async with watching(other) as watch:
        await one.put_revocation(Notice(ALICE, 1.0), ttl=60)
        assert await other.get_revocations([ALICE]) == [None]
        await other.put_revocation(Notice(ALICE, 2.0), ttl=60)
        assert await heard(watch) == [Notice(ALICE, 2.0)]


@pytest.mark.parametrize("target", FOR_CROWDS, indirect=True)
async def test_thousands_of_slots_are_renewed(store: RedisStore) -> None:
    slots = [(f"user {number // 3}", str(number)) for number in range(2_000)]
    for slot in slots[:3]:
        await store.take_slot(slot, limit=1, evict=True)
    assert await store.renew_slots(slots) == slots[:2]
    assert not (await store.take_slot(("user 666", "x"), limit=2, evict=False)).taken
    assert await store.renew_slots([]) == []


# Leases


async def test_slots_of_a_process_that_is_gone_are_free_after_their_lease(
    target: Target, prefix: str
) -> None:
    killed, lives = (store_at(target, prefix, lease=lease) for lease in (1.0, 60.0))
    assert (killed.lease, lives.lease) == (1.0, 60.0)
    assert await take(lives, "abc", 2) == "ab"
    await lives.release_slot(("alice", "b"))
    assert await take(killed, "b", 2) == "b"

    async def freed() -> bool:
        assert await lost(lives, "a") == ""
        return await take(lives, "c", 2) == "c"

    await until(freed)
    assert await take(lives, "d", 2) == ""
    assert await lost(lives, "b") == ""  # too late, but nothing newer made it go
    assert await take(lives, "d", 3) == ""


@pytest.mark.parametrize("state", ["lapsed", "forgotten"])
async def test_what_is_renewed_is_taken_again(own: Target, prefix: str, state: str) -> None:
    lease = 1.0 if state == "lapsed" else 15.0
    assert await take(store_at(own, prefix, lease=lease), "ab", 2) == "ab"
    if state == "forgotten":
        await at_each_node(own, "FLUSHALL")

    async def is_gone() -> bool:
        return not await keys_of(own, prefix)

    await until(is_gone)
    store = store_at(own, prefix, lease=60.0)
    assert await lost(store, "ab") == ""
    assert await take(store, "c", 2) == ""
    await store.release_slot(("alice", "a"))
    assert await take(store, "c", 2) == "c"


async def test_a_slot_that_is_held_is_taken_again_whatever_the_limit(store: RedisStore) -> None:
    """A client that got no answer asks again."""
    assert await take(store, "aab", 1) == "aa"
    assert await take(store, "bb", 1, evict=True) == "bb"
    assert await lost(store, "ab") == "a"


async def test_a_lost_slot_is_remembered_until_it_is_given_back(store: RedisStore) -> None:
    await take(store, "abc", 1, evict=True)
    assert await lost(store, "abc") == await lost(store, "abc") == "ab"
    await store.release_slot(("alice", "a"))
    assert await lost(store, "bc") == "b"
    assert await take(store, "b", 1, evict=True) == "b"
    assert await lost(store, "bc") == "c"


async def test_that_a_slot_was_lost_is_forgotten_in_time(
    target: Target, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(target, prefix)
    await take(store, "ab", 1, evict=True)
    impatient(monkeypatch, remembered=0.001)
    await take(store, "c", 1, evict=True)
    await store.put_revocation(Notice(ALICE, 1.0), ttl=0.001 * store.lease)

    async def time_has_passed() -> bool:
        return await store.get_revocations([ALICE]) == [None]

    await until(time_has_passed)
    await take(store, "d", 1, evict=True)
    assert await lost(store, "abd") == "a"  # b came too late: it is taken again
    async with client_of(target) as client:
        (key,) = [key for key in await keys_of(target, prefix) if key.endswith(b":lost")]
        assert set(await client.zrange(key, 0, -1)) == {b'"a"', b'"c"'}


async def test_sessions_of_a_process_that_is_gone_vanish_with_their_lease(
    target: Target, prefix: str
) -> None:
    killed, lives = (store_at(target, prefix, lease=lease) for lease in (1.0, 60.0))
    await list_sessions(lives, "abc")
    assert await listed(lives) == "abc"
    for id in "ab":
        await lives.drop_session(("alice", id))
    await list_sessions(killed, "ab")

    async def vanished() -> bool:
        assert await renewed(lives, "c") == ("", "")
        return await listed(lives) == "c"

    await until(vanished)
    unknown, _ = await renewed(lives, "ab")  # it was cut off only
    await list_sessions(lives, unknown)
    assert await listed(lives) == "abc"


async def test_sessions_that_lapsed_leave_nothing(own: Target, prefix: str) -> None:
    short, long = store_at(own, prefix, lease=1.0), store_at(own, prefix, lease=60.0)
    await list_sessions(short, "ab")
    await list_sessions(long, "c")

    async def lapsed() -> bool:
        return await listed(long) == "c"

    await until(lapsed)
    await list_sessions(long, "d")  # the next one clears away
    (kept,) = [key for key in await keys_of(own, prefix) if key.endswith(b":kept")]
    async with client_of(own) as client:
        assert set(await client.hkeys(kept)) == {b'"c"', b'"d"'}
    await list_sessions(short, "e")
    assert await renewed(short, "c") == ("", "")
    assert all(50_000 < left <= 60_000 for left in (await keys_of(own, prefix)).values())


async def test_that_a_session_was_ended_is_forgotten_soon_after_it_is_dropped(
    target: Target, prefix: str
) -> None:
    store = store_at(target, prefix, lease=15.0)
    await list_sessions(store, "a")
    await store.end_sessions(["a"], "how", ttl=86_400)
    (left,) = (await keys_of(target, f"{prefix}:ended")).values()
    assert left > 15_000
    await store.drop_session(("alice", "a"))
    (left,) = (await keys_of(target, f"{prefix}:ended")).values()
    assert 0 < left <= 15_000


async def test_that_a_session_was_ended_is_forgotten_in_time(store: RedisStore) -> None:
    await list_sessions(store, "a")
    await store.end_sessions(["a"], "how", ttl=0.001)

    async def forgotten() -> bool:
        return await renewed(store, "a") == ("", "")

    await until(forgotten)


@pytest.mark.parametrize("target", FOR_CROWDS, indirect=True)
async def test_thousands_of_sessions_are_listed_renewed_and_ended(store: RedisStore) -> None:
    ids = [str(number) for number in range(2_000)]
    await store.put_sessions([(("alice", id), "record") for id in ids])
    assert await store.renew_sessions([("alice", id) for id in ids]) == ([], [])
    await store.end_sessions(ids[1:], "how", ttl=60)
    assert list(await store.get_sessions("alice")) == [("0", "record")]


# What is in Redis


async def keys_of(target: Target, prefix: str) -> dict[bytes, int]:
    """For each key its time to live, in milliseconds."""
    async with client_of(target) as client:
        keys = [key async for key in client.scan_iter(f"{prefix}*", count=10_000)]
        return {key: await client.pttl(key) for key in keys}


async def test_each_key_has_the_prefix_and_a_time_to_live(own: Target, prefix: str) -> None:
    await at_each_node(own, "FLUSHALL")
    store = store_at(own, prefix)
    await put(store, "a", "b", "c", limit=2, owner="who", ttl=30)
    await store.put_revocation(Notice(ALICE, 1.0), ttl=20)
    await take(store, "def", 2, evict=True)
    await list_sessions(store, "ab", "who")
    await store.renew_sessions([("who", "a")])
    await store.end_sessions(["a"], "how", ttl=20)
    keys = await keys_of(own, "")
    parts = Counter(key.decode().removeprefix(f"{prefix}:").partition(":")[0] for key in keys)
    assert parts == {
        "ticket": 3,
        "tickets": 2,
        "revoked": 1,
        "slots": 3,
        "sessions": 2,
        "ended": 1,
    }
    limits = {"ticket": 30, "tickets": 30, "revoked": 20, "slots": 150, "sessions": 15, "ended": 20}
    for key, left in keys.items():
        assert 0 < left <= 1000 * limits[key.decode().split(":")[1]]
        assert b"who" not in key and b"alice" not in key


async def test_what_is_renewed_lives_as_long_as_its_longest_lease(own: Target, prefix: str) -> None:
    short, long = store_at(own, prefix, lease=20.0), store_at(own, prefix, lease=60.0)
    assert await take(short, "a", 1) == "a"
    for store in (long, short):
        assert await lost(store, "a") == ""
        assert all(50_000 < left <= 60_000 for left in (await keys_of(own, prefix)).values())
    assert await take(short, "a", 1) == "a"
    assert all(50_000 < left <= 60_000 for left in (await keys_of(own, prefix)).values())


async def test_nothing_remains_of_what_was_taken_or_given_back(own: Target, prefix: str) -> None:
    store = store_at(own, prefix)
    await put(store, "a", "b", "c", limit=2)
    assert await taken(store, "bc") == "bc"
    await take(store, "def", 2, evict=True)
    for name in "def":
        await store.release_slot(("alice", name))
    await list_sessions(store, "ab")
    for id in "ab":
        await store.drop_session(("alice", id))
    left = await keys_of(own, prefix)
    assert len(left) == 3  # that there were three tickets, for as long as they might have come
    for key, ms in left.items():
        assert key.startswith(f"{prefix}:ticket:".encode()) and 30_000 < ms <= 60_000
    async with client_of(own) as client:
        assert {await client.get(key) for key in left} == {b"-"}


ODD = ["", " ", "{", "}", "{}", "}{", "a}{b", "\x00", "\r\n", "*", "\\", '"', "é", "\ud800", ":"]


async def test_any_identity_will_do(store: RedisStore) -> None:
    long = ODD if EVERYTHING else ["", "{", "\ud800"]
    names = [*ODD, *("x" * 10_000 + odd for odd in long)]
    async with watching(store) as watch:
        for number, name in enumerate(names):
            await put(store, str(number), name, owner=name, limit=2)
            await store.put_revocation(Notice(("user", name), float(number)), ttl=60)
            assert (await store.take_slot((name, name), limit=1, evict=True)).taken
            assert (await store.take_slot((name, "new"), limit=1, evict=True)).taken
        told = await heard(watch, 2 * len(names))
    assert {subject for subject, _ in told} == {(k, n) for k in ("user", "slot") for n in names}
    subjects: list[Subject] = [("user", name) for name in names]
    assert await store.get_revocations(subjects) == list(range(len(names)))
    assert await store.renew_slots([(n, n) for n in names]) == [(n, n) for n in names]
    for number, name in enumerate(names):
        assert await store.take_ticket(str(number)) == await store.take_ticket(name) == "record"
        await store.release_slot((name, "new"))
        assert (await store.take_slot((name, "newer"), limit=1, evict=False)).taken
        await store.put_sessions([((name, name), name)])
        assert list(await store.get_sessions(name)) == [(name, name)]
        await store.end_sessions([name], name, ttl=60)
        assert await store.renew_sessions([(name, name)]) == ([], [(name, name)])


async def test_a_server_that_has_not_seen_the_scripts_is_given_them(
    own: Target, prefix: str
) -> None:
    store = store_at(own, prefix)
    await put(store, "a")
    for use in (
        lambda: put(store, "b", "c", limit=2),
        lambda: store.put_revocation(Notice(ALICE, 1.0), ttl=60),
        lambda: take(store, "abc", 2, evict=True),
        lambda: lost(store, "abc"),
        lambda: list_sessions(store, "ab"),
        lambda: renewed(store, "ab"),
        lambda: listed(store),
        lambda: store.end_sessions(["a"], "how", ttl=60),
        lambda: store.drop_session(("alice", "b")),
    ):
        await at_each_node(own, "SCRIPT", "FLUSH")
        await use()
    assert await taken(store, "abc") == "bc"
    assert await store.get_revocations([ALICE]) == [1.0]
    assert await lost(store, "abc") == "a"


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_restart_loses_scripts_but_nothing_else(kind: str, prefix: str) -> None:
    with redis_server(kind, persistent=True) as server:
        store = store_at(server, prefix)
        await put(store, "a", "b")
        await take(store, "cde", 2, evict=True)
        await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
        server.kill()
        server.start()
        await put(store, "f", limit=2)
        assert await taken(store, "abf") == "bf"
        assert await lost(store, "cde") == "c"
        assert await take(store, "g", 2) == ""
        assert await store.get_revocations([ALICE]) == [1.0]


# Round trips


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda store: put(store, "new"), 1),
        (lambda store: put(store, "new", limit=2), 2),  # and the oldest goes
        (lambda store: store.take_ticket("old"), 2),  # which is then not counted any more
        (lambda store: store.take_ticket("none"), 1),
        (lambda store: store.had_ticket("none"), 1),
        (lambda store: store.put_revocation(Notice(ALICE, 2.0), ttl=60), 1),
        (lambda store: store.get_revocations([ALICE, ("token", "t"), ("session", "s")]), 1),
        (lambda store: store.get_revocations([]), 0),
        (
            lambda store: store.take_slot(
                ("alice", "new"), limit=9, evict=False, subjects=[ALICE, ("token", "t")]
            ),
            1,
        ),
        (lambda store: take(store, "n", 1, evict=True), 1),
        (lambda store: lost(store, "xyzxy"), 1),
        (lambda store: lost(store, "xyzxyz"), 2),  # five at a time, for this test
        (lambda store: store.release_slot(("alice", "x")), 1),
        (lambda store: list_sessions(store, "abc"), 1),
        (lambda store: renewed(store, "abcxyz"), 1),
        (lambda store: listed(store, "dave"), 2),  # which there are, and what is known of them
        (lambda store: listed(store, "carol"), 3),  # of hers five at a time
        (lambda store: listed(store, "nobody"), 1),
        (lambda store: store.drop_session(("alice", "x")), 1),
        (lambda store: store.end_sessions(["x", "y"], "how", ttl=60), 1),
    ],
)
async def test_round_trips(
    link: Proxy, prefix: str, use: Any, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_wsauth.redis, "_BATCH", 5)
    store = store_at(link, prefix)
    await put(store, "old", "older", "z")
    assert await taken(store, "z") == "z"  # so the server has seen each script
    await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
    assert await take(store, "xyz", 3) == "xyz"
    assert await lost(store, "xyz") == ""
    await list_sessions(store, "xyz")
    await list_sessions(store, "xyz", "dave")
    await list_sessions(store, "abcdefg", "carol")
    await renewed(store, "x")
    await listed(store)
    await store.drop_session(("alice", "z"))
    await store.end_sessions(["z"], "how", ttl=60)
    before, made = link.turns, link.made
    await use(store)
    assert (link.turns - before, link.made) == (expected, made)


async def test_many_at_once_need_few_connections(link: Proxy, prefix: str) -> None:
    store = store_at(link, prefix)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(store.get_revocations, [ALICE])
    assert 1 <= link.most <= 32


# Trouble


def impatient(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    for name, value in seconds.items():
        constant = name.upper() if name == "deadline" else f"_{name.upper()}"
        for module in (redis_client, redis_notices, asgi_wsauth.redis):
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, value)


USES: dict[str, Callable[[RedisStore], Any]] = {
    "put_ticket": lambda store: put(store, "b"),
    "take_ticket": lambda store: store.take_ticket("a"),
    "had_ticket": lambda store: store.had_ticket("a"),
    "put_revocation": lambda store: store.put_revocation(Notice(ALICE, 1.0), ttl=60),
    "replace_revocation": lambda store: store.replace_revocation(Notice(ALICE, 1.0), ttl=60),
    "get_revocations": lambda store: store.get_revocations([ALICE]),
    "take_slot": lambda store: take(store, "a", 1),
    "renew_slots": lambda store: lost(store, "a"),
    "release_slot": lambda store: store.release_slot(("alice", "a")),
    "put_sessions": lambda store: list_sessions(store, "a"),
    "renew_sessions": lambda store: renewed(store, "a"),
    "get_sessions": lambda store: listed(store),
    "drop_session": lambda store: store.drop_session(("alice", "a")),
    "end_sessions": lambda store: store.end_sessions(["a"], "how", ttl=60),
    "watch": lambda store: anext(store.watch()),
}


@pytest.mark.parametrize("use", USES)
async def test_a_store_that_is_down_raises(link: Proxy, prefix: str, use: str) -> None:
    link.cut()
    with pytest.raises(sync_redis.ConnectionError):
        await USES[use](store_at(link, prefix))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("limit", ["socket", "deadline"])
async def test_a_store_that_falls_silent_raises(
    link: Proxy, prefix: str, limit: str, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, quiet=0.05, answer=0.05)
    client = Redis(port=link.port)  # which goes on trying for a long time
    store = RedisStore(client, prefix=prefix) if limit == "deadline" else store_at(link, prefix)
    try:
        if limit == "deadline":
            await store.get_revocations([ALICE])  # so there is a connection
        impatient(monkeypatch, **{limit: 0.05})
        link.silent = True
        with anyio.fail_after(DEADLINE), pytest.raises((TimeoutError, sync_redis.TimeoutError)):
            await USES[use](store)
    finally:
        await client.aclose()


def test_it_gives_up_before_a_handshake_does() -> None:
    assert 2 * USUAL_SOCKET < USUAL_DEADLINE < 5.0


async def test_tickets_are_unavailable_while_it_is_down(link: Proxy, prefix: str) -> None:
    tickets = Tickets(store_at(link, prefix))
    ticket = await tickets.mint(Principal("alice"))
    link.cut()
    assert await judge(tickets, ticket) is Reason.UNAVAILABLE
    with pytest.raises(Denied) as denied:
        await tickets.mint(Principal("alice"))
    assert denied.value.reason is Reason.UNAVAILABLE
    link.restore()
    alice = await judge(tickets, ticket)
    assert isinstance(alice, Principal) and alice.identity == "alice"
    assert await judge(tickets, ticket) is Reason.EXPIRED  # it was used


async def test_a_connection_that_was_lost_is_made_anew(link: Proxy, prefix: str) -> None:
    store = store_at(link, prefix)
    for use in USES.values():
        await use(store)
        link.break_off()
        await use(store)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda store: store.take_ticket("a"), "record"),
        (lambda store: store.take_ticket("none"), None),
        (lambda store: put(store, "c", limit=2), None),
        (lambda store: take(store, "c", 2), ""),
        (lambda store: take(store, "c", 3), "c"),
        (lambda store: take(store, "c", 2, evict=True), "c"),
        (lambda store: lost(store, "ab"), ""),
        (lambda store: store.release_slot(("alice", "a")), None),
        (lambda store: store.get_revocations([ALICE]), [1.0]),
    ],
)
async def test_where_an_answer_is_lost_it_is_asked_for_again(
    link: Proxy, prefix: str, use: Any, expected: Any
) -> None:
    store, twin = store_at(link, prefix), store_at(link, f"{prefix}-twin")
    for each in (store, twin):
        await put(each, "a", "b", "z")
        assert await taken(each, "z") == "z"  # so the server has seen each script
        await each.put_revocation(Notice(ALICE, 1.0), ttl=60)
        assert await take(each, "ab", 2) == "ab"
        assert await lost(each, "ab") == ""
        link.loses_answer = each is store
        assert await use(each) == expected
        assert not link.loses_answer
    # And all is as it is where no answer was lost.
    after = [(await lost(each, "ab"), await taken(each, "abc")) for each in (store, twin)]
    assert after[0] == after[1]


async def test_an_error_of_the_server_raises(store: RedisStore, target: Target) -> None:
    async with client_of(target) as client:
        owner = redis_client.digest_of("alice")
        for kind in ("tickets", "slots"):
            await client.set(f"{store._prefix}:{kind}:{{{owner}}}:order", "no sorted set", px=60000)
    for use in ("put_ticket", "take_slot", "renew_slots", "release_slot"):
        with pytest.raises(sync_redis.ResponseError):
            await USES[use](store)


async def test_who_is_cancelled_leaves_nobody_anothers_answer(target: Target, prefix: str) -> None:
    store = store_at(target, prefix)
    subjects: list[Subject] = [("user", str(number)) for number in range(40)]
    for number, subject in enumerate(subjects):
        await store.put_revocation(Notice(subject, float(number)), ttl=60)
    for number, subject in enumerate(subjects):
        async with anyio.create_task_group() as group:
            group.start_soon(store.get_revocations, [("token", "?")] * 9)
            for _ in range(number // 2):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert await store.get_revocations([subject]) == [float(number)]


# Watching


async def test_a_watch_that_redis_ends_may_have_missed_some(own: Target, prefix: str) -> None:
    store = store_at(own, prefix)
    async with watching(store) as watch:
        await at_each_node(own, "CLIENT", "KILL", "TYPE", "pubsub")
        if own.is_cluster:
            with pytest.raises(sync_redis.ConnectionError):
                await heard(watch)
            return
        assert await heard(watch) is None
        await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
        assert await heard(watch) == [Notice(ALICE, 1.0)]


async def test_a_watch_that_is_cut_off_raises(link: Proxy, prefix: str) -> None:
    async with watching(store_at(link, prefix)) as watch:
        link.cut()
        with pytest.raises(sync_redis.ConnectionError):
            await heard(watch)


@pytest.mark.parametrize("kind_of_client", ["from_url", "patient", "checks health"])
async def test_a_watch_notices_that_nobody_is_there_any_more(
    link: Proxy, prefix: str, kind_of_client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, quiet=0.02)
    check = {"health_check_interval": 0.01} if "health" in kind_of_client else {}
    client = Redis(port=link.port, **check)
    given = kind_of_client != "from_url"
    store = RedisStore(client, prefix=prefix) if given else store_at(link, prefix)
    try:
        async with watching(store) as watch:
            turns = link.turns
            next_one = asyncio.ensure_future(heard(watch))

            async def several_pings() -> bool:
                return link.turns >= turns + 5

            await until(several_pings)  # with which it has no trouble
            assert not next_one.done()
            async with client_of(Target(link.url)) as other:
                await other.publish(f"{prefix}:notices:0", '["user", "alice", 1]')
            assert await next_one == [Notice(ALICE, 1.0)]
            impatient(monkeypatch, answer=0.05)
            link.silent = True
            with pytest.raises(TimeoutError):
                await heard(watch)
    finally:
        await client.aclose()


GARBAGE: list[bytes | str] = [
    " ",
    "null",
    "[]",
    "{}",
    "7",
    '["user", "alice"]',
    '["user", "alice", 1, 2]',
    '["user", "alice", 1, {"by": 2}]',
    '["user", "alice", 1, {"renew_by": null}]',
    '["user", "alice", "1"]',
    '["user", "alice", null]',
    '["user", 1, 1]',
    '["users", "alice", 1]',
    '[["user"], "alice", 1]',
    '[{"user": 1}, "alice", 1]',
    f'["user", "alice", 1{"0" * 400}]',
    f'["user", "alice", 1{"0" * 5000}]',
    "[" * 100_000,
    b"\xff\xfe\x00",
    b"\x00" * 1000,
]


async def test_a_watch_ignores_what_is_no_notice(
    target: Target, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "asgi_wsauth")
    store = store_at(target, prefix)
    channel = f"{prefix}:notices:0"
    async with watching(store) as watch, client_of(target) as client:
        for message in ["", *GARBAGE]:  # an empty one is a probe of somebody's
            await client.execute_command("PUBLISH", channel, message)
        await client.execute_command("PUBLISH", channel, '["user", "alice", 1]')
        assert await heard(watch) == [Notice(ALICE, 1.0)]
    assert Counter(caplog.messages) == {
        "RedisStore: ignored a message that is not a notice": len(GARBAGE)
    }


async def test_one_notice_is_heard_alone(request: pytest.FixtureRequest, prefix: str) -> None:
    """Nothing else has come, and nothing is waited for."""
    server = pooled_redis(request.config)
    async with client_of(server) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(prefix)
        assert await redis_notices.hear(pubsub, never) == ([], True)
        await client.publish(prefix, '["user", "alice", 1]')
        assert await redis_notices.hear(pubsub, never) == ([Notice(ALICE, 1.0)], False)


async def never() -> None:
    raise AssertionError


async def test_a_connection_that_was_quiet_is_tested_and_no_two_at_the_same_time() -> None:
    """Or hundreds of processes would each publish what hundreds hear."""
    waits, probes = [], []

    class Quiet:
        def __init__(self) -> None:
            self.answers = iter([None, None, {"type": "subscribe", "data": 1}])

        async def get_message(self, **options: float) -> Any:
            waits.append(options["timeout"])
            return next(self.answers)

    async def probe() -> None:
        probes.append(len(waits))

    for number in range(20):
        pubsub: Any = Quiet()
        assert await redis_notices.hear(pubsub, probe) == ([], True)
        assert probes[number:] == [3 * number + 1]
    assert len(set(waits[::3])) == 20
    assert all(2.5 <= wait <= 5 for wait in waits[::3])


async def test_a_flood_is_heard_in_parts_and_in_its_order(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_notices, "_DRAINED", 3)
    notices = [Notice(ALICE, float(number)) for number in range(20)]
    async with watching(store) as watch:
        for notice in notices:
            await store.put_revocation(notice, ttl=60)
        told: list[Notice] = []
        while len(told) < 20:
            some = await heard(watch)
            assert 1 <= len(some) <= 3
            told += some
    assert told == notices


async def listeners(target: Target, prefix: str) -> int:
    answers = await at_each_node(target, "PUBSUB", "NUMSUB", f"{prefix}:notices:0")
    return sum(number for answer in answers for number in answer[1::2])


@pytest.mark.parametrize("end", ["closed", "cancelled"])
async def test_a_watch_that_ends_leaves_no_connection(
    target: Target, prefix: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(target, prefix)
    aclose = PubSub.aclose

    async def wait_and_close(self: Any) -> None:  # as it does where somebody holds its lock
        await anyio.lowlevel.checkpoint()
        await aclose(self)

    monkeypatch.setattr(PubSub, "aclose", wait_and_close)

    async def nobody_listens() -> bool:
        return await listeners(target, prefix) == 0

    async with watching(store) as watch:
        assert await listeners(target, prefix) == 1
        if end == "cancelled":
            async with anyio.create_task_group() as group:
                group.start_soon(heard, watch)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await until(nobody_listens)
    await until(nobody_listens)


async def test_a_cluster_is_watched_at_any_node(
    request: pytest.FixtureRequest, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(pooled_redis(request.config, "cluster")) as client:
        store = RedisStore(client, prefix=prefix)
        await client.initialize()
        for node in client.get_nodes():
            monkeypatch.setattr(RedisCluster, "get_random_node", lambda self, node=node: node)
            async with watching(store) as watch:
                numsub = ("PUBSUB", "NUMSUB", f"{prefix}:notices:0")
                assert (await node.execute_command(*numsub))[1] == 1
                for number in range(10):  # users, whose keys are anywhere
                    await store.put_revocation(Notice(("user", str(number)), 1.0), ttl=60)
                told = await heard(watch, 10)
            assert {name for (_, name), _ in told} == set("0123456789")


# Clients


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"protocol": 2}, {"protocol": 3}])
async def test_a_client_of_ones_own(target: Target, prefix: str, options: Any) -> None:
    async with client_of(target, **options) as client:
        store = RedisStore(client, prefix=prefix)
        async with watching(store) as watch:
            await put(store, "a", "b", "c", limit=2, record="\ud800")
            assert await taken(store, "abbc") == "bc"
            await store.put_revocation(Notice(ALICE, 1.5), ttl=60)
            assert await store.get_revocations([ALICE, ("user", "bob")]) == [1.5, None]
            assert await take(store, "de", 1, evict=True) == "de"
            assert await lost(store, "de") == "d"
            assert set(await heard(watch, 2)) == {Notice(ALICE, 1.5), Notice(("slot", "d"), 0.0)}


async def same_size(one: Redis, other: Redis) -> bool:
    return bool(await one.dbsize() == await other.dbsize())


class Pair(NamedTuple):
    """A primary with its replica, and what leads to the first."""

    old: RedisServer
    new: RedisServer
    link: Proxy

    async def change_places(self, *, also_behind_the_link: bool = True) -> None:
        """The old primary lives on as a replica, and connections that are open lead to it."""
        async with client_of(self.old) as here, client_of(self.new) as there:
            await until(lambda: same_size(here, there))
            await there.execute_command("REPLICAOF", "NO", "ONE")
            await here.execute_command("REPLICAOF", "127.0.0.1", self.new.port)
        if also_behind_the_link:
            self.link.lead_to(self.new.port)

    async def listeners(self, prefix: str) -> list[int]:
        return [await listeners(server, prefix) for server in (self.old, self.new)]


@asynccontextmanager
async def pair_of(kind: str | None = None) -> AsyncIterator[Pair]:
    with redis_server(kind) as old, redis_server(kind) as new, Proxy(old.port) as link:
        async with client_of(new) as there:
            await there.execute_command("REPLICAOF", "127.0.0.1", old.port)
        yield Pair(old, new, link)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with pair_of() as pair:
        yield pair


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", SERVERS)
async def test_after_a_failover_the_next_exchange_works(
    kind: str, given: bool, prefix: str
) -> None:
    async with pair_of(kind) as pair, client_of(Target(pair.link.url)) as own:
        store = RedisStore(own, prefix=prefix) if given else store_at(pair.link, prefix)
        async with watching(store) as watch:
            await put(store, "a", "b")
            assert await take(store, "x", 2) == "x"
            await pair.change_places()
            async with anyio.create_task_group() as group:  # those at once drop it only once
                for name in "yz":
                    group.start_soon(take, store, name, 3)
            assert await take(store, "u", 3) == ""
            assert await taken(store, "ab") == "ab"
            if given:  # whether that connects again is by its own settings
                return
            assert await heard(watch) is None  # it listens to the new one, and catches up
            await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
            assert await heard(watch) == [Notice(ALICE, 1.0)]
            assert (await pair.listeners(prefix))[1] == 1
        async with client_of(pair.new) as there:
            await there.execute_command("REPLICAOF", "127.0.0.1", free_port())
        with pytest.raises(sync_redis.ResponseError):  # where there is no other, it says so
            await put(store, "c")


async def test_nobody_listens_to_a_replica(pair: Pair, prefix: str) -> None:
    """Which hears nothing while it is cut off from its primary."""
    store = store_at(pair.link, prefix)
    async with watching(store) as watch:
        await put(store, "a")
        await pair.change_places(also_behind_the_link=False)
        with pytest.raises(sync_redis.ReadOnlyError):
            await put(store, "b")
        with pytest.raises(sync_redis.ReadOnlyError):  # and not that it has connected again
            await heard(watch)
    with pytest.raises(sync_redis.ReadOnlyError):
        await anext(store.watch())
    assert await pair.listeners(prefix) == [0, 0]
    pair.link.lead_to(pair.new.port)

    async def writes() -> bool:
        with suppress(sync_redis.ReadOnlyError):  # of another connection to the old one
            await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
            return True
        return False

    await until(writes)
    async with watching(store) as watch:

        async def hears() -> bool:
            return await writes() and await heard(watch) == [Notice(ALICE, 1.0)]

        await until(hears)
        assert await pair.listeners(prefix) == [0, 1]


async def test_who_only_listens_learns_of_a_failover_too(
    pair: Pair, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(pair.link, prefix)
    async with watching(store) as watch:
        assert await store.get_revocations([ALICE]) == [None]
        await pair.change_places()
        impatient(monkeypatch, quiet=0.05)
        assert await heard(watch) is None
        assert await pair.listeners(prefix) == [0, 1]


async def test_a_watch_to_which_nothing_gets_through_raises(
    pair: Pair, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the old primary doesn't know that there is another."""
    store = store_at(pair.link, prefix)
    async with watching(store) as watch:
        pair.link.lead_to(pair.new.port)
        async with client_of(pair.new) as there:
            await there.execute_command("REPLICAOF", "NO", "ONE")
        impatient(monkeypatch, quiet=0.05, answer=0.2)
        with pytest.raises(TimeoutError):
            await heard(watch)


async def test_a_cluster_is_asked_for_its_nodes_again(
    request: pytest.FixtureRequest, prefix: str
) -> None:
    store = store_at(pooled_redis(request.config, "cluster"), prefix)
    await put(store, "a")
    await (await store._connection()).leave()
    assert await taken(store, "a") == "a"


async def test_two_who_meet_a_replica_leave_it_together(
    request: pytest.FixtureRequest, prefix: str
) -> None:
    store = store_at(pooled_redis(request.config), prefix)
    await put(store, "a")
    opened = await store._connection()
    await asyncio.gather(opened.leave(), opened.leave())
    assert await taken(store, "a") == "a"


def test_each_event_loop_has_a_client_that_ends_with_it(
    request: pytest.FixtureRequest, prefix: str
) -> None:
    server = pooled_redis(request.config)
    assert isinstance(server, RedisServer)
    with Proxy(server.port) as link:
        store = store_at(link, prefix)
        watches = []

        async def use() -> None:
            assert await store.get_revocations([ALICE]) == [None]
            watches.append(store.watch())
            assert await anext(watches[-1]) is None  # and it is left as it is
            assert await store.get_revocations([ALICE]) == [None]

        for number in range(1, 4):
            asyncio.run(use())
            assert link.made == 2 * number
            gc.collect()  # what was left open warns, and a warning is an error
        threads = [Thread(target=asyncio.run, args=(use(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert link.made == 12
        asyncio.run(link_is_unused(link))


async def link_is_unused(link: Proxy) -> None:
    async def unused() -> bool:
        return link.open == 0

    await until(unused)


def test_a_client_of_the_cluster_ends_with_its_event_loop_too(
    request: pytest.FixtureRequest, prefix: str
) -> None:
    target = pooled_redis(request.config, "cluster")
    store = store_at(target, prefix)

    async def use() -> None:
        await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
        assert await store.get_revocations([ALICE]) == [1.0]
        assert await anext(store.watch()) is None

    for _ in range(2):
        asyncio.run(use())
        gc.collect()


def test_a_given_client_stays_open(request: pytest.FixtureRequest, prefix: str) -> None:
    server = pooled_redis(request.config)
    assert isinstance(server, RedisServer)
    with Proxy(server.port) as link:
        loop = asyncio.new_event_loop()
        client = Redis(port=link.port)
        loop.run_until_complete(put(RedisStore(client, prefix=prefix), "a"))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(client.ping())
        assert link.made == 1
        loop.run_until_complete(client.aclose())
        loop.close()


@pytest.fixture
def certificate_files(tmp_path: Path) -> tuple[Path, Path]:
    return certificate_files_for("127.0.0.1", tmp_path)


def certificate_files_for(address: str, tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate(key, address=address).public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_file, key_file


# After a wrong password, redis-py may leave its half of the connection open.
@pytest.mark.filterwarnings("ignore:unclosed <?(socket|transport):ResourceWarning")
def test_tls_and_a_password_by_url(certificate_files: tuple[Path, Path], prefix: str) -> None:
    cert_file, key_file = certificate_files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)

    async def use(url: str) -> None:
        store = RedisStore.from_url(url, prefix=prefix)
        await put(store, "a")
        assert await taken(store, "a") == "a"
        async with aclosing(store.watch()) as watch:
            assert await anext(watch) is None

    async def cut_off() -> bool:
        return not link.open

    async def is_refused(url: str) -> None:
        with pytest.raises(sync_redis.AuthenticationError):
            await put(RedisStore.from_url(url, prefix=prefix), "a")
        # redis-py doesn't wait for the end of TLS there, and the loop's end would come before it.
        await until(cut_off)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    with redis_server(password="pa/55:w@rd") as server, Proxy(server.port, tls=context) as link:
        right = server.url.replace("redis:", "rediss:").replace(str(server.port), str(link.port))
        trusting = f"{right}?ssl_ca_certs={cert_file}"
        asyncio.run(use(trusting))
        gc.collect()
        with pytest.raises(sync_redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(use(right))
        asyncio.run(is_refused(trusting.replace("pa%2F55", "pa%2F66")))
        gc.collect()


@pytest.mark.parametrize(
    ("query", "welcome"),
    [
        ("", False),
        ("&ssl_cert_reqs=required", False),
        ("&ssl_check_hostname=false", True),  # as somebody wants it
        ("&ssl_cert_reqs=none", True),
    ],
)
def test_over_tls_the_server_must_have_its_name(
    query: str, welcome: bool, tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_wsauth.redis, "DEADLINE", DEADLINE)
    times = f"&socket_timeout={DEADLINE}&socket_connect_timeout={DEADLINE}"
    cert_file, key_file = certificate_files_for("192.0.2.1", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert_file, key_file)

    async def use(url: str) -> None:
        await put(RedisStore.from_url(url, prefix=prefix), "a")

    with redis_server() as server, Proxy(server.port, tls=context) as link:
        url = f"{link.url}?ssl_ca_certs={cert_file}{query}{times}"
        if welcome:
            asyncio.run(use(url))
        else:
            with pytest.raises(
                sync_redis.ConnectionError, match=r"not valid for|doesn't match|mismatch"
            ):
                asyncio.run(use(url))
        gc.collect()


async def test_it_works_with_no_more_rights_than_the_docs_say(prefix: str) -> None:
    rule = next(
        line
        for line in PAGES["docs/guides/processes.md"].splitlines()
        if line.startswith("ACL SETUSER")
    )
    rule = rule.replace("wsauth:", f"{prefix}:").replace("…", "hunter2")
    with redis_server() as server:
        target = Target(server.url.replace("//", "//wsauth:hunter2@"))
        async with client_of(server) as admin:
            await admin.execute_command(*rule.split())
            store = store_at(target, prefix)
            async with watching(store) as watch:
                await put(store, "a", "b", limit=1)
                assert await taken(store, "ab") == "b"
                assert await store.had_ticket("a")
                assert await take(store, "xy", 1, evict=True) == "xy"
                assert await lost(store, "xy") == "x"
                await store.release_slot(("alice", "y"))
                await store.put_revocation(Notice(ALICE, 1.0), ttl=60)
                assert await store.get_revocations([ALICE]) == [1.0]
                await store.replace_revocation(Notice(ALICE, 1.0), ttl=0)
                await list_sessions(store, "abc")
                await store.drop_session(("alice", "a"))
                await store.end_sessions(["b"], "how", ttl=60)
                assert await renewed(store, "bc") == ("", "b")
                assert await listed(store) == "c"
                await heard(watch, 3)
            async with client_of(target) as client:
                with pytest.raises(sync_redis.ResponseError, match=r"(?i)permission"):
                    await client.get("another's")


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize(("query", "timeout"), [("", 1.5), ("?socket_timeout=7", 7)])
def test_an_option_in_the_url_goes_before_the_stores_own(
    query: str, timeout: float, cluster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch, socket=USUAL_SOCKET)
    connect = redis_client.connector(f"redis://localhost{query}", cluster)
    options = connect().get_connection_kwargs()
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (timeout, 1.5)


# Configuration


class Sentinel:
    """No client at all."""


@pytest.mark.parametrize(
    ("client", "mend"),
    [
        (sync_redis.Redis(), r"got a Redis; .*use redis\.asyncio\.Redis"),
        ("redis://:hunter2@localhost", r"got a str; use RedisStore\.from_url"),
        (Redis, r"got a \w+; .*redis\.asyncio\.Redis"),
        (Sentinel(), r"got a Sentinel; .*redis\.asyncio\.Redis"),
        (None, r"got a NoneType; "),
    ],
)
def test_what_is_no_client_is_refused(client: Any, mend: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^RedisStore: client must be .*{mend}") as caught:
        RedisStore(client)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("prefix", value) for value in ("", None, 7, b"chat", "a b", "a{b}", "}", "é", "a\n")),
        *(("lease", value) for value in (0, -1, 0.5, None, "15", True, float("inf"))),
    ],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda **o: RedisStore(Redis(), **o),
        lambda **o: RedisStore.from_url("redis://localhost", **o),
    ],
)
def test_an_option_that_can_not_work_is_refused_by_name(option: str, value: Any, make: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^RedisStore: {option} must be "):
        make(**{option: value})


@pytest.mark.parametrize("cluster", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        7,
        "localhost:6379",
        "http://:hunter2@localhost",
        "redis://user:hunter2/x@localhost",
        "redis://:hunter2@localhost?socket_timeout=long",
        "redis://:hunter2@localhost?no_such_option=1",
    ],
)
def test_a_url_that_can_not_work_is_refused_without_its_password(url: Any, cluster: bool) -> None:
    with pytest.raises(ConfigurationError, match=r"^RedisStore: url .*redis://localhost") as caught:
        RedisStore.from_url(url, cluster=cluster)
    assert "hunter2" not in str(caught.value) and caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_its_repr_shows_the_prefix_but_no_password() -> None:
    store = RedisStore.from_url("redis://user:hunter2@localhost", prefix="chat")
    assert repr(store) == "<RedisStore 'chat'>"


def test_it_is_a_store_of_each_kind() -> None:
    methods = [name for name in USES if name != "watch"]
    check_store("Test", RedisStore(Redis()), "watch", *methods)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Redis()
    for name in ("redis", "redis.asyncio"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (lambda: RedisStore(client), lambda: RedisStore.from_url("redis://localhost")):
        with pytest.raises(ConfigurationError, match=r"pip install 'asgi-wsauth\[redis\]'"):
            make()


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("use", [*USES, "construction", "from_url"])
async def test_on_trio_it_says_that_redis_py_needs_asyncio(
    made_elsewhere: RedisStore, use: str, anyio_backend: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"^RedisStore needs asyncio, because redis-py"):
        if use == "construction":
            RedisStore(Redis())
        elif use == "from_url":
            RedisStore.from_url("redis://localhost")
        else:
            await USES[use](made_elsewhere)


@pytest.fixture
def made_elsewhere() -> RedisStore:
    return RedisStore.from_url("redis://localhost")
