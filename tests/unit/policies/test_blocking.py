"""Everybody revoked at once, users who are blocked for a time, and sockets that may renew."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from cases import cases
from doors import EXPIRED, REVOKED, Door, Here, alice
from handshakes import NOW, Clock, drive, websocket
from insides import sockets_of
from sockets import LEFT, Seat, Wire, running, settled, text, until

from asgi_wsauth import (
    ConfigurationError,
    Denied,
    HTTPAuthMiddleware,
    MemoryStore,
    Notice,
    Principal,
    Reason,
    RenewalNotice,
    Revocations,
)
from asgi_wsauth.policies.subjects import all_subjects_of, check_found
from asgi_wsauth.stores.protocols import BlockStore

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

A, B = "https://a.example", "https://b.example"
DAY = 86400.0
TELL = "auth.refresh"


# Everybody


@cases(
    ("principal", "refused"),
    [
        (Principal("alice", issued_at=NOW - 1), True),
        (Principal("bob", issuer=A, issued_at=NOW, token_id="t", session_id="s"), True),
        (Principal("bob", issued_at=NOW + 1), False),
        (Principal("key"), True),
        (Principal("dated", expires_at=NOW + 31 * DAY), False),  # so it is surely newer
        (Principal("dated", expires_at=NOW + 29 * DAY), True),
    ],
)
async def test_everybody_is_refused_with_what_was_issued_until_now(
    principal: Principal, refused: bool
) -> None:
    here = Here()
    await here.revocations.revoke_everybody()
    assert await here.refuses(principal) is refused
    here.clock.now += 30 * DAY
    assert not await here.refuses(principal)


# Blocked


@cases("principal", [Principal("alice", issued_at=NOW + 50), Principal("alice", issuer=A)])
async def test_who_is_blocked_is_refused_whatever_is_issued_until_it_is_over(
    principal: Principal,
) -> None:
    here = Here()
    await here.revocations.block_user("alice", NOW + 0.5)
    assert await here.refuses(principal)
    await here.revocations.block_user("alice", NOW + 100)
    assert await here.refuses(principal)
    assert not await here.refuses(Principal("bob"))
    assert not await here.refuses(Principal("bob", token_id="alice", session_id="alice"))
    here.clock.now += 99
    assert await here.refuses(principal)
    here.clock.now += 1
    assert not await here.refuses(principal)


async def test_a_store_that_remembers_for_longer_blocks_nobody_for_longer() -> None:
    clock = Clock()
    revocations = Revocations(MemoryStore(), clock=clock)  # whose clock goes slower
    await revocations.block_user("alice", NOW + 100)
    clock.now += 100
    await revocations.check(Principal("alice"))


async def test_who_is_unblocked_is_admitted_again() -> None:
    here = Here()
    await here.revocations.unblock_user("alice")  # who never was
    await here.revocations.block_user("alice", inf)
    here.clock.now += 1e9
    assert await here.refuses(Principal("alice"))
    await here.revocations.unblock_user("alice")
    assert not await here.refuses(Principal("alice"))


@cases(("first", "second"), [(1000, 50), (50, 1000), (inf, 50)])
async def test_of_two_blocks_the_last_one_counts(first: float, second: float) -> None:
    here = Here()
    await here.revocations.block_user("alice", NOW + first)
    await here.revocations.block_user("alice", NOW + second)
    here.clock.now += second - 1
    assert await here.refuses(Principal("alice"))
    here.clock.now += 1
    assert not await here.refuses(Principal("alice"))


async def test_a_block_at_an_issuer_is_for_its_user_only() -> None:
    here = Here()
    await here.revocations.block_user("501", NOW + 100, issuer=A)
    people = [Principal("501", issuer=A), Principal("501", issuer=B), Principal("501")]
    assert [await here.refuses(each) for each in people] == [True, False, False]
    await here.revocations.unblock_user("501")  # another block
    assert await here.refuses(people[0])
    await here.revocations.block_user("501", NOW + 100)
    assert [await here.refuses(each) for each in people] == [True, True, True]
    await here.revocations.unblock_user("501", issuer=A)
    assert [await here.refuses(each) for each in people] == [True, True, True]
    await here.revocations.unblock_user("501")
    assert [await here.refuses(each) for each in people] == [False, False, False]


async def test_a_block_takes_nothing_from_a_revocation_and_the_other_way_round() -> None:
    here = Here()
    await here.revocations.revoke_user("alice")
    await here.revocations.block_user("alice", NOW + 100)
    await here.revocations.unblock_user("alice")
    assert await here.refuses(Principal("alice", issued_at=NOW))
    assert not await here.refuses(Principal("alice", issued_at=NOW + 1))


@cases("until_", [NOW, NOW - 1, 3600, 0, None, "tomorrow"])
async def test_a_block_that_is_over_already_is_an_error(until_: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^block_user: until must be .*, got ") as caught:
        await Here().revocations.block_user("alice", until_)
    assert str(caught.value).endswith(f"got {until_!r}")


class Small:
    """A store that can't forget."""

    async def put_revocation(self, *_: Any, **__: Any) -> None: ...

    async def get_revocations(self, subjects: Any, /) -> Any:
        return [None] * len(subjects)

    async def watch(self) -> Any:
        yield None


async def test_a_store_that_replaces_nothing_is_named() -> None:
    revocations = Revocations(Small())
    assert not isinstance(revocations.store, BlockStore)
    await revocations.check(Principal("alice"))
    for attempt in (revocations.block_user("alice", inf), revocations.unblock_user("alice")):
        with pytest.raises(ConfigurationError, match="needs a method replace_revocation"):
            await attempt


class Down(MemoryStore):
    async def put_revocation(self, *_: Any, **__: Any) -> None:
        raise OSError("redis://user:hunter2@cache")

    replace_revocation = put_revocation


async def test_a_store_that_fails_is_unavailable() -> None:
    revocations = Revocations(Down())
    for attempt in (
        revocations.revoke_everybody(),
        revocations.block_user("alice", inf),
        revocations.unblock_user("alice"),
    ):
        with pytest.raises(Denied) as caught:
            await attempt
        assert caught.value.reason is Reason.UNAVAILABLE
        assert caught.value.detail == f"{revocations.store!r}: OSError"


@cases("principal", [Principal("a"), Principal("a", issuer=A), Principal("a", token_id="t")])
def test_an_answer_of_another_length_admits_nobody(principal: Principal) -> None:
    subjects = all_subjects_of(principal)
    check_found(principal, [None] * len(subjects), NOW)
    for length in {*range(8)} - {len(subjects)}:
        with pytest.raises(ValueError, match=r"zip|unpack"):
            check_found(principal, [None] * length, NOW)


# Open sockets


class Visit:
    """An open socket, and all behind it."""

    def __init__(self, door: Door, wire: Wire) -> None:
        self.door, self.wire = door, wire

    async def opened(self) -> None:
        await until(lambda: self.wire.waiting and self.wire.kinds)
        await settled()

    @property
    def told(self) -> list[Any]:
        return [json.loads(message["text"]) for message in self.wire.sent if "text" in message]


KNOWN = {
    "a": alice(1000, issued_at=NOW - 1),
    "a2": alice(2000, issued_at=NOW + 5),
    "key": Principal("alice"),
    "bob": Principal("bob", expires_at=NOW + 1000, issued_at=NOW - 1),
}

Ends = Callable[[Revocations], Any]


@cases(
    ("ends", "bob_too"),
    [
        (lambda r: r.revoke_everybody(), True),
        (lambda r: r.block_user("alice", NOW + 100), False),
        (lambda r: r.block_user("alice", inf), False),
    ],
)
async def test_open_sockets_are_closed(ends: Ends, bob_too: bool) -> None:
    door = Door(Seat(), known=KNOWN)
    async with running(door) as wire, running(door, "token=bob") as other:
        await Visit(door, wire).opened()
        await Visit(door, other).opened()
        await ends(door.revocations)
        await until(lambda: wire.close)
        await settled()
        assert (other.close == REVOKED) is bob_too
        other.put(LEFT)
    assert wire.close == REVOKED
    assert (await drive(door, websocket("token=a"))).close == REVOKED
    assert door.left_over == []


async def test_whom_a_block_is_not_for_stays() -> None:
    door = Door(Seat(), known=KNOWN)
    async with running(door) as wire:
        await Visit(door, wire).opened()
        await door.revocations.block_user("alice", inf, issuer=A)
        await door.revocations.block_user("bob", inf)
        await settled()
        assert wire.close is None
        wire.put(LEFT)


REVOKES: list[Ends] = [
    lambda r: r.revoke_user("alice", renew_within=60),
    lambda r: r.revoke_everybody(renew_within=60),
    lambda r: r.revoke_token("t1", renew_within=60),
    lambda r: r.revoke_session("s1", renew_within=60),
]
NAMED = {**KNOWN, "a": alice(1000, issued_at=NOW - 1, token_id="t1", session_id="s1")}


@cases("revoke", REVOKES)
@cases("renews", [True, False])
async def test_a_client_has_some_time_to_renew(revoke: Ends, renews: bool) -> None:
    app = Seat()
    door = Door(app, known=NAMED, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        await revoke(door.revocations)
        await until(lambda: visit.told)
        assert visit.told == [{"type": f"{TELL}.due", "expires_at": NOW + 60}]
        assert (await drive(door, websocket("token=a"))).close == REVOKED
        door.pass_time(59)
        await settled()
        assert wire.close is None
        if renews:
            wire.put(text(json.dumps({"type": TELL, "token": "a2"})))
            await until(lambda: len(visit.told) == 2)
            assert visit.told[1] == {"type": f"{TELL}.ok", "expires_at": NOW + 2000}
            door.pass_time(1000)
            await settled()
            assert wire.close is None
            wire.put(LEFT)
        else:
            door.pass_time(1)
    assert (wire.close == REVOKED) is not renews
    assert door.left_over == []


async def test_the_time_to_renew_may_be_that_of_all_revocations() -> None:
    here = Here(renew_within=60)
    seen: list[Any] = []

    class Socket:
        principal = Principal("alice")

        def end(self, denied: Denied, /) -> None:
            seen.append(denied.reason)

        def renew(self, by: float, denied: Denied, /) -> None:
            seen.append((by, denied.reason))

    here.revocations.register(Socket())
    await settled()
    await here.revocations.revoke_user("alice")
    await until(lambda: len(seen) == 1)
    await here.revocations.revoke_user("alice", renew_within=5)
    await until(lambda: len(seen) == 2)
    await here.revocations.revoke_user("alice", renew_within=0.5)
    await until(lambda: len(seen) == 3)
    await here.revocations.revoke_user("alice", renew_within=0)
    await until(lambda: len(seen) == 4)
    *times, last = seen
    assert times == [(NOW + seconds, Reason.REVOKED) for seconds in (60, 5, 0.5)]
    assert last is Reason.REVOKED


async def test_a_socket_that_leaves_while_others_are_asked_is_forgotten() -> None:
    here = Here()

    class Socket:
        principal = Principal("alice")

        def end(self, denied: Denied, /) -> None: ...

        def renew(self, by: float, denied: Denied, /) -> None:
            for socket in sockets:
                here.revocations.unregister(socket)

    sockets = [Socket(), Socket()]
    for socket in sockets:
        here.revocations.register(socket)
    await settled()
    await here.revocations.revoke_user("alice", renew_within=60)
    await until(lambda: not sockets_of(here.revocations))
    await settled()
    assert sockets_of(here.revocations) == []


async def test_what_never_expires_can_be_renewed_too() -> None:
    app = Seat()
    door = Door(app, known=KNOWN, refresh_message=TELL)
    async with running(door, "token=key") as wire:
        visit = Visit(door, wire)
        await visit.opened()
        await door.revocations.revoke_user("alice", renew_within=60)
        await until(lambda: visit.told)
        await app.session.refresh("a2")
        assert app.session.principal is KNOWN["a2"]
        door.pass_time(60)
        await settled()
        assert wire.close is None
        wire.put(LEFT)


@cases("token", ["a", "key", "bob"])
async def test_what_was_revoked_itself_renews_nothing(token: str) -> None:
    door = Door(Seat(), known=KNOWN, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        await door.revocations.revoke_user("alice", renew_within=60)
        await until(lambda: visit.told)
        wire.put(text(json.dumps({"type": TELL, "token": token})))
    assert wire.close == ((1008, "forbidden") if token == "bob" else REVOKED)


async def test_of_two_times_the_one_that_ends_sooner_counts() -> None:
    door = Door(Seat(), known=KNOWN, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        for seconds in (60, 90, 30, 30):
            await door.revocations.revoke_user("alice", renew_within=seconds)
            await settled()
        assert [told["expires_at"] for told in visit.told] == [NOW + 60, NOW + 30]
        door.pass_time(29)
        await settled()
        assert wire.close is None
        door.pass_time(1)
    assert wire.close == REVOKED


async def test_a_credential_that_ends_sooner_than_its_time_to_renew_ends_as_ever() -> None:
    door = Door(Seat(), known=KNOWN, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        await door.revocations.revoke_user("alice", renew_within=5000)
        await until(lambda: visit.told)
        door.pass_time(1000)
    assert wire.close == EXPIRED
    assert door.left_over == []


@cases("then", ["revoked", "blocked"])
async def test_a_login_that_is_revoked_for_good_while_it_may_renew_ends_at_once(then: str) -> None:
    door = Door(Seat(), known=KNOWN, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        await door.revocations.revoke_user("alice", renew_within=60)
        await until(lambda: visit.told)
        if then == "revoked":
            await door.revocations.revoke_user("alice")
        else:
            await door.revocations.block_user("alice", inf)
    assert wire.close == REVOKED
    assert door.left_over == []


@cases("kind", ["without a message", "not accepted yet"])
async def test_where_nobody_can_be_asked_it_ends_at_once(kind: str) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    without = kind == "without a message"
    message = None if without else TELL
    door = Door(Seat() if without else slow, known=KNOWN, refresh_message=message)
    async with running(door) as wire:
        await until(lambda: wire.waiting and len(sockets_of(door.revocations)))
        await settled()
        await door.revocations.revoke_user("alice", renew_within=60)
    assert wire.close == REVOKED
    assert door.left_over == []


async def test_a_refresh_to_what_is_revoked_meanwhile_is_refused_at_once() -> None:
    async def hook(session: Any, old: Any, new: Any) -> None: ...

    class Store(MemoryStore):
        armed = False

        async def get_revocations(self, subjects: Any, /) -> Any:
            found = await super().get_revocations(subjects)
            if self.armed:
                self.armed = False
                self.armed = await self.revoke()
            return found

        async def revoke(self) -> bool:
            if len(sockets_of(door.revocations)) == 1:  # the handshake's look
                return True
            await door.revocations.revoke_everybody(renew_within=60)
            await settled()
            return False

    app, store = Seat(), Store()
    door = Door(app, known=KNOWN, refresh_message=TELL)
    door.revocations.store = store
    async with running(door) as wire:
        await Visit(door, wire).opened()
        store.armed = True
        with pytest.raises(Denied) as caught:
            await app.session.refresh("a")
        assert caught.value.reason is Reason.REVOKED
        door.pass_time(60)
    assert wire.close == REVOKED


async def test_who_may_renew_is_not_ended_by_a_look_into_the_store() -> None:
    """As after each time that a process was cut off from it."""
    door = Door(Seat(), known=KNOWN, refresh_message=TELL)
    async with running(door) as wire:
        visit = Visit(door, wire)
        await visit.opened()
        (guard,) = sockets_of(door.revocations)
        assert not door.revocations.may_renew(guard)
        await door.revocations.revoke_user("alice", renew_within=60)
        await until(lambda: visit.told)
        assert door.revocations.may_renew(guard)
        here: Any = door.revocations._here.get()
        await here._catch_up()
        await settled()
        assert wire.close is None
        door.clock.now += 60
        assert not door.revocations.may_renew(guard)
        await here._catch_up()
    assert wire.close == REVOKED
    assert not door.revocations.may_renew(guard)


async def test_a_request_is_refused_at_once_whatever_time_sockets_have() -> None:
    door = Door(Seat(), known=KNOWN)
    await door.revocations.revoke_user("alice", renew_within=60)
    scope = {**websocket("token=a"), "type": "http", "method": "GET"}
    outcome = await drive(HTTPAuthMiddleware(Seat(), door.auth), scope)
    assert outcome.sent[0]["status"] == 401


def test_a_notice_with_a_time_is_a_pair_too() -> None:
    notice = Notice(("user", "alice"), NOW)
    renewal = RenewalNotice.of(notice, NOW + 60)
    assert (notice.renew_by, renewal.renew_by) == (None, NOW + 60)
    assert renewal == notice
    subject, until_ = renewal
    assert (subject, until_) == (("user", "alice"), NOW)
