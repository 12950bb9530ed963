"""`RecheckSchedule`: whose login is decided about again, when, and how many of them at once."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest
from cases import cases
from handshakes import NOW, Clock
from sockets import pass_time, settled, until

from asgi_wsauth import Denied, Reason
from asgi_wsauth.loops.timers import timers
from asgi_wsauth.policies import rechecks
from asgi_wsauth.policies.rechecks import RecheckSchedule

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


class Socket:
    """A live socket that remembers when it was looked at, and why it was ended."""

    def __init__(self, clock: Clock, *outcomes: Exception | None) -> None:
        self.looks: list[float] = []
        self.ends: list[Reason] = []
        self._clock = clock
        self._outcomes = list(outcomes)

    async def recheck(self) -> None:
        self.looks.append(self._clock() - NOW)
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome

    def end(self, denied: Denied, /) -> None:
        self.ends.append(denied.reason)


class Here:
    """Rechecks each 60 seconds."""

    def __init__(self, each: float = 60) -> None:
        self.clock = Clock()
        self.rechecks = RecheckSchedule(each, self.clock)

    def socket(self, *outcomes: Exception | None) -> Socket:
        socket = Socket(self.clock, *outcomes)
        self.rechecks.register(socket)
        return socket

    async def passes(self, seconds: float, step: float = 1.0) -> None:
        """Time passes, a step at a time."""
        for _ in range(round(seconds / step)):
            pass_time(self.clock, step)
            await settled()

    @property
    def timers(self) -> int:
        return len(timers(self.clock))


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """No spread."""
    monkeypatch.setattr(rechecks, "uniform", lambda low, high: high if high == 1 else 1.0)


async def test_a_socket_is_looked_at_again_and_again(even: None) -> None:
    here = Here()
    socket = here.socket()
    await here.passes(59)
    assert socket.looks == []
    await here.passes(181)
    assert socket.looks == [60, 120, 180, 240]
    assert socket.ends == []


async def test_each_time_is_spread_by_a_tenth() -> None:
    here = Here()
    sockets = [here.socket() for _ in range(200)]
    await here.passes(70, step=1)
    first = [socket.looks[0] for socket in sockets]
    assert all(54 <= look <= 67.5 for look in first)  # within a second of it
    assert len(set(first)) >= 8
    await here.passes(70)
    apart = [socket.looks[1] - socket.looks[0] for socket in sockets if len(socket.looks) > 1]
    assert min(apart) >= 53
    assert max(apart) <= 69


async def test_one_that_left_is_looked_at_no_more() -> None:
    here = Here()
    here.rechecks.unregister(Socket(here.clock))  # before there is any
    one, other = here.socket(), here.socket()
    here.rechecks.unregister(one)
    here.rechecks.unregister(one)
    await here.passes(70)
    assert (one.looks, len(other.looks)) == ([], 1)
    here.rechecks.unregister(other)
    assert here.timers == 0
    await here.passes(70)
    assert len(other.looks) == 1


async def test_one_that_comes_when_all_have_left_is_looked_at() -> None:
    here = Here()
    here.rechecks.unregister(here.socket())
    socket = here.socket()
    await here.passes(70)
    assert len(socket.looks) == 1


@cases(("each", "late"), [(60, 0.5), (2, 0.1)])
async def test_those_due_one_soon_after_the_other_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, each: float, late: float
) -> None:
    here, spread, size = Here(each), 0.2 * each, 300
    dues = [0.9 * each + spread * number / size for number in range(size)]
    left = iter(dues)
    monkeypatch.setattr(rechecks, "uniform", lambda low, high: next(left, each) / each)
    sockets = [here.socket() for _ in dues]
    await here.passes(0.9 * each, step=0.9 * each)
    await here.passes(spread + late, step=late / 10)
    looks = [socket.looks[0] for socket in sockets]
    assert all(-0.01 < look - due <= 1.2 * late for look, due in zip(looks, dues, strict=True))
    assert len(set(looks)) <= spread / late + 2, "each look takes them all up"


async def test_one_that_comes_between_two_looks_is_not_late(even: None) -> None:
    here = Here()
    here.socket()
    await here.passes(30)
    rechecks.uniform = lambda low, high: 0.4  # type: ignore[attr-defined]
    socket = here.socket()
    await here.passes(24)
    assert socket.looks == [54]


@cases("reason", [Reason.REVOKED, Reason.FORBIDDEN, Reason.EXPIRED])
async def test_who_is_refused_is_ended(reason: Reason) -> None:
    here = Here()
    socket, other = here.socket(Denied(reason)), here.socket()
    await here.passes(140)
    assert (socket.ends, len(socket.looks)) == ([reason], 1)
    assert (other.ends, len(other.looks)) == ([], 2)
    here.rechecks.unregister(socket)
    here.rechecks.unregister(other)
    assert here.timers == 0


OTHERS = [reason for reason in Reason if reason not in rechecks._ENDING]


@cases("failure", [*map(Denied, OTHERS), LookupError("secret"), TimeoutError()])
async def test_whatever_else_fails_ends_nobody_and_is_tried_again(failure: Exception) -> None:
    here = Here()
    socket = here.socket(failure)
    await here.passes(66)
    await until(lambda: socket.looks)
    await here.passes(2, step=0.5)
    assert socket.ends == []
    assert len(socket.looks) == 2
    assert 0.9 <= socket.looks[1] - socket.looks[0] <= 2


async def test_the_pauses_grow_up_to_the_time_between_two_looks(even: None) -> None:
    here = Here()
    socket = here.socket(*[Denied(Reason.UNAVAILABLE)] * 9)
    await here.passes(310)
    apart = [later - earlier for earlier, later in pairwise(socket.looks)]
    assert apart == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert socket.ends == []


async def test_after_an_outage_a_locked_user_is_ended_within_one_time() -> None:
    here = Here()
    socket = here.socket(*[Denied(Reason.UNAVAILABLE)] * 10, Denied(Reason.REVOKED))
    while len(socket.looks) < 10:
        await here.passes(1)
    over = here.clock() - NOW
    while not socket.ends:
        await here.passes(1)
    assert here.clock() - NOW - over <= 61


@cases("failure", [Denied.because("load_user", LookupError("secret")), LookupError("secret")])
async def test_one_after_the_other_s_outage_is_told_once(
    caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    here = Here()
    for _ in range(3):
        here.socket(failure, failure)
    await here.passes(80)
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == (
        "a login can't be rechecked (internal_error, LookupError); it is tried again"
    )
    assert told[-1] == "all logins can be rechecked again"
    assert "secret" not in caplog.text


async def test_of_an_outage_that_ends_with_its_socket_nobody_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = Here()
    socket = here.socket(*[Denied(Reason.UNAVAILABLE)] * 20)
    await here.passes(66)
    here.rechecks.unregister(socket)
    here.socket()
    await here.passes(70)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    here.socket(Denied(Reason.UNAVAILABLE))
    await here.passes(70)
    told = [record.getMessage()[:28] for record in caplog.records[1:]]
    assert told == ["a login can't be rechecked (", "all logins can be rechecked "], "the next one"


class Slow(Socket):
    """Its decision waits until it is told."""

    going, most = 0, 0

    def __init__(self, clock: Clock, go_on: anyio.Event, *outcomes: Exception | None) -> None:
        super().__init__(clock, *outcomes)
        self.go_on = go_on

    async def recheck(self) -> None:
        Slow.going += 1
        Slow.most = max(Slow.most, Slow.going)
        try:
            await self.go_on.wait()
            await super().recheck()
        finally:
            Slow.going -= 1


async def test_no_more_than_twenty_are_asked_about_at_once() -> None:
    here = Here()
    go_on = anyio.Event()
    sockets = [Slow(here.clock, go_on) for _ in range(100)]
    for socket in sockets:
        here.rechecks.register(socket)
    await here.passes(70)
    assert Slow.going == 20
    await here.passes(140)
    assert Slow.going == 20
    go_on.set()
    await until(lambda: all(socket.looks for socket in sockets))
    assert Slow.most == 20
    assert all(len(socket.looks) == 1 for socket in sockets), "one was in the queue twice"
    for socket in sockets:
        socket.go_on = anyio.Event()
    await here.passes(70)
    assert Slow.going == 20, "the next time"
    for socket in sockets:
        here.rechecks.unregister(socket)
        socket.go_on.set()
    await settled()


@cases("outcome", [None, Denied(Reason.UNAVAILABLE), Denied(Reason.REVOKED)])
async def test_one_that_leaves_meanwhile_stays_away(outcome: Any) -> None:
    here = Here()
    go_on = anyio.Event()
    sockets = [Slow(here.clock, go_on, outcome) for _ in range(30)]  # ten of which only wait
    for socket in sockets:
        here.rechecks.register(socket)
    await here.passes(70)
    for socket in sockets:
        here.rechecks.unregister(socket)
    go_on.set()
    await settled()
    assert sum(bool(socket.looks) for socket in sockets) == 20
    assert here.timers == 0
    await here.passes(140)
    assert sum(len(socket.looks) for socket in sockets) == 20


async def test_others_run_while_a_crowd_is_looked_at() -> None:
    here = Here()
    sockets = [here.socket() for _ in range(1_000)]
    pass_time(here.clock, 70)
    seen = set()
    while not all(socket.looks for socket in sockets):
        await anyio.lowlevel.checkpoint()
        seen.add(sum(bool(socket.looks) for socket in sockets))
    assert len(seen) > 20


def test_each_event_loop_looks_at_its_own_sockets(anyio_backend_name: str) -> None:
    here = Here()

    async def use() -> None:
        socket = here.socket()
        await here.passes(70)
        assert len(socket.looks) == 1
        here.rechecks.unregister(socket)

    for _ in range(2):
        anyio.run(use, backend=anyio_backend_name)
