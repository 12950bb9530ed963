"""Stores and caches against plain models of them: what they keep, for how long, and for whom."""

from __future__ import annotations

import asyncio
import itertools
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest
from handshakes import Clock
from hypothesis import Phase, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from insides import sessions_of, slots_of, tickets_of
from redis_servers import pooled_redis
from strategies import HOSTILE, SEGMENT, WORDS, examples
from strict import run

from asgi_wsauth import Denied, FailureThrottle, MemoryStore, Notice, Reason, VerdictCache
from asgi_wsauth.redis import RedisStore

pytestmark = pytest.mark.slow

NAMES = st.sampled_from(["alice", "bob", "", "\ud800", "a:b", "{x}", "ä" * 40])
DIGESTS = st.sampled_from([f"{n:064x}" for n in range(8)])
SLOTS = st.tuples(NAMES, st.sampled_from(["1", "2", "3", "4", "5"]))
SUBJECTS = st.tuples(st.sampled_from(["user", "token", "session"]), NAMES)
SESSIONS = st.tuples(NAMES, st.sampled_from("123")).map(lambda key: (key[0], f"{key[0]} {key[1]}"))
FOREVER = 100_000.0


class Model(RuleBasedStateMachine):
    """One store, and dicts that say what it must say."""

    timed = True  # whether the store's clock can be moved

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = self.new_store()
        self.tickets: dict[str, tuple[str, str, float]] = {}  # the oldest first
        self.gone: dict[str, float] = {}  # tickets that were there, and until when that is known
        self.revoked: dict[Any, tuple[float, float]] = {}
        self.slots: dict[str, list[str]] = {}
        self.ever: set[Any] = set()
        self.lost: set[Any] = set()
        self.put: set[str] = set()
        self.sessions: dict[tuple[str, str], str] = {}
        self.ended: dict[str, str] = {}  # those that are there, and how
        self.never_again: set[str] = set()  # ids of sessions that are over

    def new_store(self) -> Any:
        return MemoryStore(clock=self.clock)

    def ttl(self, seconds: float) -> float:
        return seconds if self.timed else FOREVER + seconds

    # Tickets

    @rule(digest=DIGESTS, record=WORDS, owner=NAMES, limit=st.integers(1, 3), ttl=st.integers(1, 9))
    def put_ticket(self, digest: str, record: str, owner: str, limit: int, ttl: int) -> None:
        if digest in self.put:
            return  # a digest is one that was never put before
        self.put.add(digest)
        seconds = self.ttl(ttl)
        run(self.store.put_ticket(digest, record, owner=owner, limit=limit, ttl=seconds))
        self.tickets[digest] = record, owner, self.clock() + seconds
        alive = [d for d, (_, of, _) in self.tickets.items() if of == owner and self.lives(d)]
        for other in alive[:-limit]:
            self.lose(other)

    def lose(self, digest: str) -> None:
        if digest in self.tickets:
            self.gone[digest] = self.tickets.pop(digest)[2]

    def lives(self, digest: str) -> bool:
        return digest in self.tickets and self.tickets[digest][2] > self.clock()

    @rule(digest=DIGESTS)
    def take_ticket(self, digest: str) -> None:
        expected = self.tickets[digest][0] if self.lives(digest) else None
        assert run(self.store.take_ticket(digest)) == expected
        self.lose(digest)

    @rule(digest=DIGESTS)
    def had_ticket(self, digest: str) -> None:
        expected = self.gone.get(digest, 0.0) > self.clock()
        assert run(self.store.had_ticket(digest)) is expected

    @rule(digest=DIGESTS, times=st.integers(2, 5))
    def take_at_once(self, digest: str, times: int) -> None:
        async def take_all() -> list[Any]:
            return await asyncio.gather(*(self.store.take_ticket(digest) for _ in range(times)))

        lives = self.lives(digest)
        assert sum(found is not None for found in run(take_all())) == lives
        self.lose(digest)

    # Revocations

    @rule(subject=SUBJECTS, until=st.floats(1, 1e10), ttl=st.integers(1, 9))
    def put_revocation(self, subject: Any, until: float, ttl: int) -> None:
        seconds = self.ttl(ttl)
        run(self.store.put_revocation(Notice(subject, until), ttl=seconds))
        known = self.revoked.get(subject, (until, 0.0))
        gone_at = self.clock() + seconds
        self.revoked[subject] = max(until, known[0]), max(gone_at, known[1])

    def until(self, subject: Any) -> float | None:
        until, gone_at = self.revoked.get(subject, (None, 0.0))
        return until if gone_at > self.clock() else None

    @rule(subjects=st.lists(SUBJECTS, max_size=4))
    def get_revocations(self, subjects: Any) -> None:
        found = run(self.store.get_revocations(subjects))
        assert list(found) == [pytest.approx(self.until(s)) for s in subjects]

    # Slots

    @rule(slot=SLOTS, evict=st.booleans(), subjects=st.lists(SUBJECTS, max_size=3))
    def take_slot(self, slot: Any, evict: bool, subjects: Any) -> None:
        limit = 1 + len(slot[0]) % 3
        held = self.slots.setdefault(slot[0], [])
        if slot[1] not in held:
            if slot in self.ever:
                return  # no slot ever has the name of another
            self.ever.add(slot)
            while evict and len(held) >= limit:
                self.lost.add((slot[0], held.pop(0)))
            if len(held) < limit:
                held.append(slot[1])
        taken, revoked = run(
            self.store.take_slot(slot, limit=limit, evict=evict, subjects=subjects)
        )
        assert taken is (slot[1] in held)
        assert list(revoked) == [pytest.approx(self.until(s)) for s in subjects]

    @rule(slot=SLOTS)
    def release_slot(self, slot: Any) -> None:
        run(self.store.release_slot(slot))
        held = self.slots.get(slot[0], [])
        if slot[1] in held:
            held.remove(slot[1])

    @rule(owner=NAMES)
    def renew_slots(self, owner: str) -> None:
        """Who holds one keeps it; who lost one to a newer one is told."""
        held = [(owner, name) for name in self.slots.get(owner, [])]
        gone = [slot for slot in self.lost if slot[0] == owner]
        assert set(run(self.store.renew_slots([*held, *gone]))) == set(gone)

    # Sessions

    @rule(keys=st.lists(SESSIONS, max_size=3), record=WORDS)
    def put_sessions(self, keys: Any, record: str) -> None:
        keys = [key for key in keys if key[1] not in self.never_again]
        run(self.store.put_sessions([(key, record) for key in keys]))
        self.sessions.update({key: record for key in keys if key[1] not in self.ended})

    @rule(keys=st.lists(SESSIONS, max_size=4, unique=True))
    def renew_sessions(self, keys: Any) -> None:
        keys = [key for key in keys if key[1] not in self.never_again]
        unknown, ended = run(self.store.renew_sessions(keys))
        gone = [key for key in keys if key[1] in self.ended]
        assert list(unknown) == [k for k in keys if k not in self.sessions and k not in gone]
        assert list(ended) == [(id, self.ended[id]) for _, id in gone]

    @rule(owner=NAMES)
    def get_sessions(self, owner: str) -> None:
        expected = {id: record for (of, id), record in self.sessions.items() if of == owner}
        assert dict(run(self.store.get_sessions(owner))) == expected

    @rule(key=SESSIONS)
    def drop_session(self, key: Any) -> None:
        run(self.store.drop_session(key))
        self.sessions.pop(key, None)
        self.ended.pop(key[1], None)
        self.never_again.add(key[1])

    @rule(keys=st.lists(SESSIONS, max_size=3), how=st.sampled_from(["how", "", "ä"]))
    def end_sessions(self, keys: Any, how: str) -> None:
        run(self.store.end_sessions([id for _, id in keys], how, ttl=FOREVER))
        for key in keys:
            if self.sessions.pop(key, None) is not None:
                self.ended[key[1]] = how
            elif key[1] not in self.ended:
                self.never_again.add(key[1])

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds: int) -> None:
        if self.timed:
            self.clock.now += seconds


class Memory(Model):
    @invariant()
    def nothing_is_kept_for_nothing(self) -> None:
        assert set(tickets_of(self.store)) >= {d for d in self.tickets if self.lives(d)}
        assert {d for owned in self.store._owners.values() for d in owned} == set(
            tickets_of(self.store)
        )
        assert all(self.store._owners.values())
        held = {owner: names for owner, names in self.slots.items() if names}
        assert {owner: names for owner, names in slots_of(self.store).items() if names} == held
        ids = {id for _, id in self.sessions}
        owners = {of for of, _ in self.sessions} | {id[:-2] for id in self.ended}
        assert set(sessions_of(self.store)) == ids | owners | set(self.ended)


TestMemory = Memory.TestCase
TestMemory.settings = examples(40, stateful_step_count=30)


@pytest.mark.live
def test_redis_does_what_the_model_does(request: pytest.FixtureRequest) -> None:
    """The same steps; but nobody can move the clock of a Redis, so nothing runs out."""
    url = pooled_redis(request.config).url
    numbers = itertools.count()

    class InRedis(Model):
        timed = False

        def new_store(self) -> Any:
            return RedisStore.from_url(url, prefix=f"model{next(numbers)}", lease=1000)

    # What fails is told as it is: to make it smaller would take minutes.
    phases = [Phase.explicit, Phase.generate]
    InRedis.TestCase.settings = examples(10, stateful_step_count=25, phases=phases)
    run_state_machine_as_test(InRedis, settings=InRedis.TestCase.settings)


# Verdicts


class Verdicts(RuleBasedStateMachine):
    """A cache never answers for longer than it may, nor for another verifier or credential, nor
    with another's verdict; and it never has more than it may have."""

    SIZE, TTL = 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = VerdictCache(self.SIZE, self.TTL, clock=self.clock)
        self.put: dict[tuple[bytes, str], tuple[int, float]] = {}  # the oldest first
        self.numbers = itertools.count(1)

    @rule(secret=st.sampled_from([b"0" * 16, b"1" * 64]), credential=WORDS | HOSTILE | SEGMENT)
    def puts(self, secret: bytes, credential: str) -> None:
        number = next(self.numbers)
        self.cache.put(secret, credential, number)
        self.put.pop((secret, credential), None)
        self.put[secret, credential] = number, self.clock() + self.TTL

    @rule(seconds=st.sampled_from([1, 5, 9.999, 10]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(secret=st.sampled_from([b"0" * 16, b"1" * 64]), credential=WORDS | HOSTILE)
    def asks(self, secret: bytes, credential: str) -> None:
        self.check(secret, credential)

    def check(self, secret: bytes, credential: str) -> None:
        number, gone_at = self.put.get((secret, credential), (None, 0.0))
        newest = list(self.put)[-self.SIZE :]
        lives = gone_at > self.clock() and (secret, credential) in newest
        assert self.cache.get(secret, credential) == (number if lives else None)

    @invariant()
    def all_are_as_they_should_be(self) -> None:
        for secret, credential in self.put:
            self.check(secret, credential)
            other = b"1" * 64 if secret == b"0" * 16 else b"0" * 16
            if (other, credential) not in self.put:
                assert self.cache.get(other, credential) is None
        assert len(self.cache._entries) <= self.SIZE


TestVerdicts = Verdicts.TestCase
TestVerdicts.settings = examples(40, stateful_step_count=20)


# Addresses

ADDRESSES = st.one_of(
    st.none(),
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.ip_addresses(v=6).map(lambda address: f"{address}%eth0"),
    st.integers(0, 3).map(lambda number: f"2001:db8:0:{number % 2}::{number}"),
    WORDS,
    st.sampled_from(["", "testclient", "127.0.0.1 ", "0x7f.1", "127.1", "01.2.3.4", "1.2.3.4\n"]),
)


@examples(100)
@given(st.lists(ADDRESSES, max_size=12), st.integers(1, 3))
def test_an_address_is_locked_out_after_its_own_failures(clients: list[Any], most: int) -> None:
    throttle = FailureThrottle(f"{most}/hour")
    failures: dict[Any, int] = {}
    for client in clients:
        address = same_for_all_of(client)
        locked = address is not None and failures.get(address, 0) >= most
        assert run(_is_locked(throttle, client)) is locked
        run(throttle.count(client))
        failures[address] = failures.get(address, 0) + 1


def same_for_all_of(client: str | None) -> Any:
    """What counts of an address: all of an IPv4 one, the first half of an IPv6 one. What can't be
    read is one."""
    if not client:
        return None
    try:
        address = ip_address(client.strip().partition("%")[0])
    except ValueError:
        return "unreadable"
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address.packed[:8]
    return address


async def _is_locked(throttle: FailureThrottle, client: str | None) -> bool:
    try:
        await throttle.check(client)
    except Denied as denied:
        assert denied.reason is Reason.THROTTLED
        assert denied.retry_after is not None
        return True
    return False
