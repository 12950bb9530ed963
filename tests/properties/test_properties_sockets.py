"""Whatever a server, a client, an app and time do with live sockets, in whatever order: one close,
nothing behind it, no socket that outlives its credential, and nothing is left at the end."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from handshakes import ANSWER, CONNECT, NOW, Clock, authenticator, websocket
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from insides import open_in, places_of, slots_of, sockets_of
from sockets import CLOSE, LEFT, left_over, pass_time, said, text
from strategies import examples
from strict import Server, listening, tasks

from asgi_wsauth import (
    Abandoned,
    Admitted,
    Closed,
    ConnectionLimit,
    Credential,
    Denied,
    Event,
    MemoryStore,
    Principal,
    Reason,
    Refreshed,
    Refused,
    Revocations,
    Session,
    Sessions,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.connection import guard as guards
from asgi_wsauth.connection import phases
from asgi_wsauth.connection.session import login_behind
from asgi_wsauth.policies import rechecks

pytestmark = pytest.mark.slow

TELL = "auth.refresh"
DUE = json.dumps({"type": f"{TELL}.due", "expires_at": 0})  # as no guard says it
HTTP = "websocket.http.response"
LIMIT = 2

# token: identity, seconds that it lives, session id
TOKENS = {
    "a-short-7Rq": ("alice", 100, "s1"),
    "a-long-9Wz": ("alice", 1000, "s2"),
    "a-later-4Jc": ("alice", 103, "s6"),
    "a-spent-3Kd": ("alice", -1, "s3"),
    "a-fresh-6Yp": ("alice", 3000, "s7"),
    "b-short-5Tn": ("bob", 100, "s4"),
    "b-long-2Hx": ("bob", 2000, "s5"),
}
FRESH = {"a-fresh-6Yp"}  # issued later than whatever is revoked by its time
RUBBISH = "rubbish-8Vb"
GOOD = ["a-short-7Rq", "a-long-9Wz", "a-later-4Jc", "a-fresh-6Yp", "b-short-5Tn", "b-long-2Hx"]
PRESENTED = st.sampled_from([*GOOD, *GOOD, "a-spent-3Kd", RUBBISH])
WHICH = st.integers(0, 5)
NAMES = st.sampled_from(["alice", "bob"])
OUTSIDE = st.sampled_from(["everybody", "blocked", "unblocked", "locked", "unlocked", "down", "up"])
RECHECK = 60
TURNS = st.sampled_from([0, 1, 2, 3, 4, 6, 9, 30])


def issued_at(token: str) -> float:
    return NOW + 1e6 if token in FRESH else NOW


class Loop(asyncio.SelectorEventLoop):
    """Its time passes when a test says so, and never while it waits."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Slow(Server):
    """A server that takes some turns of the event loop for each message, and raises when the client
    is known to be gone, as ASGI 2.4 asks."""

    def __init__(
        self, scope: dict[str, Any], slowness: int, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(scope, CONNECT)
        self._slowness = slowness
        self._clock = clock
        self.left = False
        self.dues: list[tuple[float, float]] = []  # when a client was told that which end is due

    async def send(self, message: dict[str, Any]) -> None:
        if self.told:
            raise OSError("nobody is there")
        if f"{TELL}.due" in (message.get("text") or ""):
            self.dues.append((self._clock(), json.loads(message["text"])["expires_at"]))
        await super().send(message)
        for _ in range(self._slowness):
            await asyncio.sleep(0)

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self.put(LEFT)

    @property
    def ended(self) -> bool:
        """Whether the client has its answer, or is gone."""
        kinds = [message["type"] for message in self.sent]
        return self.left or "websocket.close" in kinds or f"{HTTP}.body" in kinds


class Bug(Exception):
    """The app's own."""


class Puppet:
    """An app that does what it is told, several things at once, and is done when it is told so."""

    def __init__(self) -> None:
        self.started = self.accepted = self.accepting = self.answered = self.over = False
        self.got: list[dict[str, Any]] = []
        self.refreshed: list[str] = []
        self.works: set[asyncio.Task[None]] = set()
        self.receives: list[asyncio.Task[None]] = []
        self._done = asyncio.Event()
        self._raises = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.session, self.receive, self.send = scope["wsauth"], receive, send
        self.started = True
        try:
            await self._done.wait()
        finally:
            for work in self.works:
                work.cancel()
            await asyncio.gather(*self.works, return_exceptions=True)
            self.over = True
        if self._raises:
            raise Bug

    def finish(self, *, raises: bool = False) -> None:
        self._raises |= raises
        self._done.set()

    @property
    def ending(self) -> bool:
        return self._done.is_set()

    def does(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._do(work))
        task.add_done_callback(lambda _: work.close())  # nobody awaits it if that never began
        self.works.add(task)
        return task

    async def _do(self, work: Coroutine[Any, Any, None]) -> None:
        with suppress(OSError):  # what a send raises after the end
            await work

    async def take(self) -> None:
        message = await self.receive()
        if not self.over:  # else it is nobody's any more
            self.got.append(message)

    async def read(self) -> None:
        """As most apps do."""
        while not self.got or self.got[-1]["type"] != "websocket.disconnect":
            await self.take()

    async def accept(self, protocol: str | None) -> None:
        self.accepting = True
        headers = [(b"x-app", b"1")] if protocol else []
        await self.send({"type": "websocket.accept", "subprotocol": protocol, "headers": headers})
        self.accepted = True

    async def answer(self) -> None:
        await self.send({"type": f"{HTTP}.start", "status": 404, "headers": []})
        await self.send({"type": f"{HTTP}.body", "body": b""})

    async def refresh(self, token: str) -> None:
        with suppress(Denied):
            await self.session.refresh(token)
            if not self.over:  # else it was nobody's login any more
                self.refreshed.append(token)


class Socket:
    """One connection, and what the model knows of it."""

    def __init__(self, number: int, token: str, slowness: int, clock: Callable[[], float]) -> None:
        self.path = f"/ws/{number}"
        scope = websocket(f"token={token}", path=self.path, subprotocols=["v1"])
        self.scope, self.token = scope, token
        self.server, self.app = Slow(scope, slowness, clock), Puppet()
        self.task: asyncio.Task[None] | None = None
        self.said = 0
        self.cancelled = False
        self.ended_at: float | None = (
            None  # when it was seen that it was ended here, on the loop's clock
        )
        self.excuses: set[Reason] = set()  # for which it may be closed
        self.is_late = False  # it came when nobody was admitted any more

    @property
    def over(self) -> bool:
        return self.task is not None and self.task.done()


class Steps:
    """All steps that guards took, against the table in the docstring of phases.py."""

    def __init__(self) -> None:
        table: dict[tuple[str, str], str] = {}
        rows = re.findall(r"^    (\w+) +([A-Z, ]+|any) +([A-Z]+) ", phases.__doc__ or "", re.M)
        names = [phase.name for phase in phases.Phase]
        for step, before, after in rows:
            for phase in names if before.strip() == "any" else re.findall(r"\w+", before):
                table[phase, step] = after
        assert len(table) == len(names) + 11
        self.table = table
        self.wrong: list[tuple[str, str, str]] = []

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        take = guards.Guard._step

        def watched(guard: Any, step: str) -> bool:
            before = guard._phase.name
            changed = take(guard, step)
            after = guard._phase.name
            if self.table.get((before, step), before) != after or changed != (
                (before, step) in self.table
            ):
                self.wrong.append((before, step, after))
            return changed

        patch.setattr(guards.Guard, "_step", watched)


def some_app(machine: Sockets) -> bool:
    """Whether there is one that could do something."""
    return machine.one(0) is not None


class Sockets(RuleBasedStateMachine):
    """Any number of sockets of two users, of whom each may have two."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.clock = Clock()
        self.events: list[Event] = []
        self.sockets: list[Socket] = []
        self.revoked: dict[tuple[str, str], float] = {}
        self.ends_for_everybody: list[tuple[float, float]] = []  # for what was issued before; when
        self.blocked: dict[str, float] = {}  # until when
        self.locked: dict[str, float] = {}  # in the database, since when
        self.excused: set[str] = set()  # who was blocked or locked at some time
        self.down, self.up_since = False, NOW  # the database
        self.hook = "passes"
        self.drains: list[asyncio.Task[None]] = []
        self.drained_by = inf  # on the loop's clock
        self.errors: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(rechecks, "uniform", lambda low, high: (low + high) / 2)
        self.steps = Steps()
        self.steps.watch(self.patch)
        self.listening = listening()
        self.log = self.listening.__enter__()

    @initialize(
        grace=st.sampled_from([0, 5, 60]),
        refreshes=st.booleans(),
        overflow=st.sampled_from(["reject", "evict_oldest"]),
        limited=st.booleans(),
        waits=st.integers(0, 3),
        slowness=st.integers(0, 3),
        rejection=st.sampled_from(["accept_then_close", "http_response", "close"]),
        first=st.sampled_from(GOOD),
        reads=st.booleans(),
        max_age=st.sampled_from([None, None, 150]),
        rechecked=st.booleans(),
        hooked=st.booleans(),
        listed=st.booleans(),
    )
    def begin(
        self,
        grace: float,
        refreshes: bool,
        overflow: Any,
        limited: bool,
        waits: int,
        slowness: int,
        rejection: Any,
        first: str,
        reads: bool,
        max_age: float | None,
        rechecked: bool,
        hooked: bool,
        listed: bool,
    ) -> None:
        self.max_age, self.rechecked, self.hooked = max_age, rechecked, hooked
        self.grace, self.slowness, self.waits = grace, slowness, waits
        self.refreshes, self.evicts = refreshes, overflow == "evict_oldest"
        self.store = MemoryStore(clock=self.clock)
        self.revocations = Revocations(self.store, clock=self.clock)
        self.sessions = Sessions(self.store, clock=self.clock) if listed else None
        auth = authenticator(
            self.verify,
            clock=self.clock,
            revocations=self.revocations,
            load_user=self.load_user if rechecked else None,
            observers=[self.events.append],
        )
        self.door = WebSocketAuthMiddleware(
            self.app_of,
            auth,
            grace=grace,
            rejection=rejection,
            connection_limit=ConnectionLimit(LIMIT, self.store, total=1000, overflow=overflow)
            if limited
            else None,
            refresh_message=TELL if refreshes else None,
            max_age=max_age,
            recheck=RECHECK if rechecked else None,
            on_refresh=self.on_refresh if hooked else None,
            sessions=self.sessions,
        )
        self.connects(first, 0, True, reads)

    async def verify(self, credential: Credential, conn: Any) -> Principal | None:
        for _ in range(self.waits):
            await asyncio.sleep(0)
        if credential.value not in TOKENS:
            return None
        identity, lives, session_id = TOKENS[credential.value]
        return Principal(
            identity,
            expires_at=NOW + lives,
            issued_at=issued_at(credential.value),
            token_id=credential.value,
            session_id=session_id,
        )

    async def load_user(self, principal: Principal, conn: Any) -> Any:
        if self.down:
            raise ConnectionError("the database")
        return None if principal.identity in self.locked else principal

    async def on_refresh(self, session: Session, old: Principal, new: Principal) -> None:
        assert old.identity == new.identity
        for _ in range(self.waits):
            await asyncio.sleep(0)
        if self.hook == "refuses":
            raise Denied(Reason.FORBIDDEN, "by the hook")
        if self.hook == "breaks":
            raise Bug
        if self.hook == "closes":
            await session.close(Reason.FORBIDDEN)

    async def app_of(self, scope: Any, receive: Any, send: Any) -> None:
        found = next(s for s in self.sockets if s.path == scope["path"])
        await found.app(scope, receive, send)

    # Running the loop

    def turn(self, turns: int, *calls: Callable[[], object]) -> None:
        async def go() -> None:
            for call in calls:
                call()
            for _ in range(turns):
                await asyncio.sleep(0)

        self.loop.run_until_complete(go())

    def one(self, which: int) -> Socket | None:
        """A socket whose app runs, and has not been told to end."""
        running = [s for s in self.sockets if s.app.started and not s.over]
        return running[which % len(running)] if running else None

    # The client

    @rule(token=PRESENTED, turns=TURNS, opened=st.booleans(), reads=st.booleans())
    def connects(self, token: str, turns: int, opened: bool, reads: bool) -> None:
        """A client; in half of the cases, one that the app accepts before anything else happens."""
        socket = Socket(len(self.sockets), token, self.slowness, self.clock)
        self.sockets.append(socket)
        if self.drains:
            socket.is_late = True
            socket.excuses.add(Reason.RESTARTING)

        def start() -> None:
            served = self.door(socket.scope, socket.server.receive, socket.server.send)
            socket.task = self.loop.create_task(served)

        self.turn(40 if opened else turns, start)
        if opened and socket.app.started:
            app = socket.app
            read = app.read() if reads else app.take()
            self.turn(9, lambda: app.receives.append(app.does(read)))
            self.turn(9, lambda: app.does(app.accept(None)))

    @precondition(lambda self: self.sockets)
    @rule(which=WHICH, turns=TURNS)
    def client_speaks(self, which: int, turns: int) -> None:
        socket = self.sockets[which % len(self.sockets)]
        if not socket.server.left:
            socket.said += 1
            words = f"{socket.said} {TELL if socket.said % 3 == 0 else ''}"
            self.turn(turns, lambda: socket.server.put(text(words)))

    @precondition(lambda self: self.sockets)
    @rule(which=WHICH, token=PRESENTED, shape=st.integers(0, 3), turns=TURNS)
    def client_refreshes(self, which: int, token: str, shape: int, turns: int) -> None:
        socket = self.sockets[which % len(self.sockets)]
        message: Any = {"type": TELL, "token": [token, None, 5, "\ud800"][shape]}
        if self.refreshes and not socket.server.left:
            if shape:
                socket.excuses.add(Reason.MALFORMED)
            socket.excuses |= {Reason.FORBIDDEN, Reason.INVALID, Reason.EXPIRED, Reason.REVOKED}
            socket.excuses |= {Reason.MISSING, Reason.MALFORMED, Reason.ERROR}
            self.turn(turns, lambda: socket.server.put(text(json.dumps(message))))

    @precondition(lambda self: self.sockets)
    @rule(which=WHICH, turns=TURNS)
    def client_leaves(self, which: int, turns: int) -> None:
        self.turn(turns, self.sockets[which % len(self.sockets)].server.leave)

    # The app

    @precondition(some_app)
    @rule(which=WHICH, turns=TURNS)
    def app_receives(self, which: int, turns: int) -> None:
        socket = self.one(which)
        if socket:
            app = socket.app
            self.turn(turns, lambda: app.receives.append(app.does(app.take())))

    @precondition(some_app)
    @rule(which=WHICH, turns=TURNS)
    def app_receives_no_more(self, which: int, turns: int) -> None:
        socket = self.one(which)
        if socket and socket.app.receives:
            self.turn(turns, socket.app.receives[-1].cancel)

    @precondition(some_app)
    @rule(which=WHICH, protocol=st.sampled_from([None, "v1"]), turns=TURNS)
    def app_accepts(self, which: int, protocol: str | None, turns: int) -> None:
        socket = self.one(which)
        if socket and not socket.app.accepting and not socket.app.answered:
            app = socket.app
            self.turn(turns, lambda: app.does(app.accept(protocol)))

    @precondition(some_app)
    @rule(which=WHICH, words=st.sampled_from(["x", DUE]), turns=TURNS)
    def app_sends(self, which: int, words: str, turns: int) -> None:
        socket = self.one(which)
        if socket and socket.app.accepted and not socket.app.answered:
            app = socket.app
            if self.refreshes or words != DUE:
                self.turn(turns, lambda: app.does(app.send(said(words))))

    @precondition(some_app)
    @rule(which=WHICH, turns=TURNS)
    def app_closes(self, which: int, turns: int) -> None:
        socket = self.one(which)
        if socket and not socket.app.answered and socket.app.accepting == socket.app.accepted:
            app = socket.app
            app.answered = True
            self.turn(turns, lambda: app.does(app.send(CLOSE)))

    @precondition(some_app)
    @rule(which=WHICH, turns=TURNS)
    def app_answers_with_http(self, which: int, turns: int) -> None:
        socket = self.one(which)
        if socket and not socket.app.answered and not socket.app.accepting:
            app = socket.app
            app.answered = True
            self.turn(turns, lambda: app.does(app.answer()))

    @precondition(some_app)
    @rule(which=WHICH, reason=st.sampled_from([Reason.REVOKED, Reason.FORBIDDEN]), turns=TURNS)
    def app_closes_its_session(self, which: int, reason: Reason, turns: int) -> None:
        socket = self.one(which)
        if socket:
            app = socket.app
            socket.excuses.add(reason)
            self.turn(turns, lambda: app.does(app.session.close(reason)))

    @precondition(some_app)
    @rule(which=WHICH, token=PRESENTED, turns=TURNS)
    def app_refreshes(self, which: int, token: str, turns: int) -> None:
        socket = self.one(which)
        if socket:
            app = socket.app
            if self.hooked:  # which may close it
                socket.excuses.add(Reason.FORBIDDEN)
            self.turn(turns, lambda: app.does(app.refresh(token)))

    @precondition(some_app)
    @rule(which=WHICH, raises=st.booleans(), turns=TURNS)
    def app_ends(self, which: int, raises: bool, turns: int) -> None:
        socket = self.one(which)
        if socket:
            app = socket.app
            self.turn(turns, lambda: app.finish(raises=raises))

    # What else happens

    @rule(seconds=st.sampled_from([1, 5, 60, 160, 190]), turns=TURNS)
    def some_time_passes(self, seconds: float, turns: int) -> None:
        """More often: there are several ends."""
        self.time_passes(seconds, turns, True)

    @rule(seconds=st.sampled_from([1, 5, 60, 99, 100, 950]), turns=TURNS, settles=st.booleans())
    def time_passes(self, seconds: float, turns: int, settles: bool) -> None:
        self.loop.now += seconds
        self.turn(turns, lambda: pass_time(self.clock, seconds))
        if settles:
            self.all_settles()

    @rule(
        what=st.sampled_from(
            [("user", "alice"), ("token", "a-short-7Rq"), ("session", "s2"), ("session", "s4")]
        ),
        turns=TURNS,
    )
    def is_revoked(self, what: tuple[str, str], turns: int) -> None:
        kind, name = what
        self.loop.run_until_complete(getattr(self.revocations, f"revoke_{kind}")(name))
        self.revoked[what] = self.clock()
        self.turn(turns)

    @rule(what=OUTSIDE, name=NAMES, within=st.sampled_from([0, 5, 60, 200]), turns=TURNS)
    def somebody_decides(self, what: str, name: str, within: float, turns: int) -> None:
        now = self.clock()
        if what == "everybody":
            self.do(self.revocations.revoke_everybody(renew_within=within))
            self.ends_for_everybody.append((now, now + within))
        elif what == "blocked":
            self.blocked[name] = now + 10 * within + 1
            self.do(self.revocations.block_user(name, self.blocked[name]))
            self.excused.add(name)
        elif what == "unblocked":
            self.do(self.revocations.unblock_user(name))
            self.blocked.pop(name, None)
        elif what == "locked":  # in the database
            self.locked.setdefault(name, now)
            self.excused.add(name)
        elif what == "unlocked":
            self.locked.pop(name, None)
        else:
            self.down, self.up_since = what == "down", now
        self.turn(turns)

    @precondition(lambda self: self.sessions is not None and some_app(self))
    @rule(which=WHICH, reason=st.sampled_from([Reason.REVOKED, Reason.FORBIDDEN]), turns=TURNS)
    def session_is_ended(self, which: int, reason: Reason, turns: int) -> None:
        socket = self.one(which)
        if socket and self.sessions:
            socket.excuses.add(reason)
            self.do(self.sessions.end(socket.app.session.id, reason))
            self.turn(turns)

    @precondition(lambda self: self.sessions is not None and some_app(self))
    @rule(which=WHICH, turns=TURNS)
    def others_are_ended(self, which: int, turns: int) -> None:
        kept = self.one(which)
        if kept and self.sessions:
            owner = TOKENS[kept.token][0]
            for socket in self.sockets:  # also one whose handshake isn't over
                if socket is not kept and TOKENS.get(socket.token, ("",))[0] == owner:
                    socket.excuses.add(Reason.REVOKED)
            self.do(self.sessions.end_others(owner, kept.app.session.id))
            self.turn(turns)

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    @precondition(lambda self: len(self.sockets) > 1)  # nobody is admitted after that
    @rule(over=st.sampled_from([0, 5, 60]), turns=TURNS, seconds=st.sampled_from([0, 2, 70]))
    def the_process_is_about_to_end(self, over: float, turns: int, seconds: float) -> None:
        for socket in self.sockets:
            socket.excuses.add(Reason.RESTARTING)
        self.drained_by = min(self.drained_by, self.loop.now + over)

        def drain() -> None:
            self.drains.append(self.loop.create_task(self.door.drain(over=over)))

        self.turn(max(turns, 1), drain)
        self.time_passes(seconds, turns, True)

    @precondition(lambda self: self.hooked)
    @rule(hook=st.sampled_from(["passes", "refuses", "breaks", "closes"]))
    def the_hook_changes_its_mind(self, hook: str) -> None:
        self.hook = hook

    @precondition(lambda self: self.sockets)
    @rule(which=WHICH, turns=TURNS)
    def server_cancels(self, which: int, turns: int) -> None:
        socket = self.sockets[which % len(self.sockets)]
        if socket.task is not None and not socket.over:
            socket.cancelled = True
            self.turn(turns, socket.task.cancel)

    @rule()
    def all_settles(self) -> None:
        self.turn(150)
        for socket in self.sockets:
            self.check_end(socket)
        self.check_counts()

    # What must hold

    def is_over_for(self, token: str) -> Reason | None:
        """Why this token is good no more."""
        if token not in TOKENS:
            return Reason.INVALID
        identity, lives, session_id = TOKENS[token]
        if self.clock() >= NOW + lives:
            return Reason.EXPIRED
        names = [("token", token), ("session", session_id)]
        until = self.revoked.get(("user", identity), 0.0)
        is_revoked = until >= issued_at(token) or any(name in self.revoked for name in names)
        return Reason.REVOKED if is_revoked or self.is_blocked_now(identity) else None

    def is_blocked_now(self, identity: str) -> bool:
        return self.blocked.get(identity, 0.0) > self.clock()

    def has_to_renew(self, token: str) -> float | None:
        """The earliest time at which a socket with this token ends, because everybody's were
        revoked."""
        ends = [by for until, by in self.ends_for_everybody if until >= issued_at(token)]
        return min(ends, default=None)

    def is_too_old(self, socket: Socket) -> bool:
        began = socket.app.session.authenticated_at
        return self.max_age is not None and self.clock() >= began + self.max_age

    def must_be_over(self, socket: Socket) -> str | None:
        """Why a socket that is open can't be."""
        token = self.current(socket)
        by = self.has_to_renew(token)
        if self.is_over_for(token) is not None:
            return f"it outlives {token}"
        if self.is_too_old(socket):
            return "it is too old"
        if self.loop.now > self.drained_by + 5:
            return "it was to be drained"
        if by is not None and (not self.refreshes or self.clock() >= by):
            return "it had to renew"
        locked = self.locked.get(TOKENS[token][0])
        if self.rechecked and locked is not None and not self.down and by is None:
            since = max(locked, self.up_since, socket.app.session.authenticated_at)
            if self.clock() >= since + 3 * RECHECK:
                return "its user is locked"
        return None

    def check_end(self, socket: Socket) -> None:
        """All that had to happen has happened by now."""
        if socket.app.started and not socket.over:
            why = self.must_be_over(socket)
            assert why is None or socket.server.ended, why
        forced = self.closed_for(socket) is not None or (
            not socket.over and socket.app.started
            and (login := login_behind(socket.app.session)) is not None
            and login.connection is not None
            and login.connection.denied is not None
        )  # fmt: skip
        if forced and socket.server.ended:
            if socket.ended_at is None:
                socket.ended_at = self.loop.now
            assert socket.over or self.loop.now < socket.ended_at + self.grace + 1
        if not socket.app.started and not socket.over:
            assert not socket.server.left

    def current(self, socket: Socket) -> str:
        """The credential that counts, as far as the socket's own view is right."""
        if not socket.app.started:
            return socket.token
        token = socket.app.session.principal.token_id
        assert isinstance(token, str)
        return token

    def events_of(self, socket: Socket, *kinds: type[Event]) -> list[Any]:
        found = [e for e in self.events if e.path == socket.path and isinstance(e, kinds)]
        return [e for e in found if not (isinstance(e, Refused) and e.is_refresh)]

    def closed_for(self, socket: Socket) -> Reason | None:
        closed = self.events_of(socket, Closed)
        return closed[0].reason if closed else None

    def check_counts(self) -> None:
        """Slots, places and registered guards are those of sockets that live."""
        live = [s for s in self.sockets if s.app.started and not s.over]
        if self.door.connection_limit is not None:
            assert places_of(self.door.connection_limit) == len(live)
            held = sum(map(len, slots_of(self.store).values()))
            owners = [TOKENS[s.token][0] for s in live]
            assert held <= len(live)
            for owner in ("alice", "bob"):
                assert len(slots_of(self.store).get(f":{owner}", [])) <= LIMIT
                if not self.evicts:
                    assert len(slots_of(self.store).get(f":{owner}", [])) == owners.count(owner)

        if self.sessions is not None:
            self.check_listed(self.sessions, live)

        async def count() -> int:
            return len(sockets_of(self.revocations))

        assert self.loop.run_until_complete(count()) == len(live)

    def check_listed(self, sessions: Sessions, live: list[Socket]) -> None:
        """Those are listed that are open, with what is true of them now."""
        for name in ("alice", "bob"):
            sockets = [s for s in live if TOKENS[s.token][0] == name]
            of_name = [s.app.session for s in sockets]
            # One that its app has closed, or its client left, may be ended: it isn't closed again.
            still_open = [s.app.session for s in sockets if not (s.server.ended and s.excuses)]
            open_ones = {s.id for s in still_open if not self.is_closed(s)}
            found = self.loop.run_until_complete(sessions.list(name))
            assert open_ones <= {entry.id for entry in found} <= {s.id for s in of_name}
            told = {entry.id: entry.fingerprint for entry in found}
            assert all(told[s.id] == s.fingerprint for s in of_name if s.id in told)

    def is_closed(self, session: Session) -> bool:
        login = login_behind(session)
        return login is None or login.connection is None or login.connection.denied is not None

    @invariant()
    def each_socket_is_sound(self) -> None:
        for socket in self.sockets:
            self.check_server(socket)
            self.check_app(socket)
            self.check_events(socket)
        assert self.steps.wrong == []
        assert self.errors == []

    def check_server(self, socket: Socket) -> None:
        assert socket.server.faults == []
        close = next((m for m in socket.server.sent if m["type"] == "websocket.close"), None)
        if close is not None and socket.app.started and "reason" in close:
            reason = Reason(close["reason"])
            assert close["code"] == reason.close_code
            known = {Reason.EXPIRED, Reason.REVOKED, *socket.excuses}
            if self.evicts and self.door.connection_limit is not None:
                known.add(Reason.TOO_MANY_CONNECTIONS)
            assert reason in known
            token = self.current(socket)
            has_expired = self.clock() >= NOW + TOKENS[token][1] or self.is_too_old(socket)
            if reason not in socket.excuses and reason is not Reason.TOO_MANY_CONNECTIONS:
                assert (
                    has_expired
                    or self.is_over_for(token) is not None
                    or self.has_to_renew(token) is not None
                    or TOKENS[token][0] in self.excused
                )
            if reason is Reason.EXPIRED and not socket.excuses - {Reason.RESTARTING}:
                assert has_expired

        self.check_dues(socket.server.dues)

    def check_dues(self, dues: list[tuple[float, float]]) -> None:
        """Once for an end, each later than the one before, with a pause, and not too early."""
        if not self.refreshes:
            assert dues == []
        demands = {by for _, by in self.ends_for_everybody}
        reminders = [(when, end) for when, end in dues if end not in demands]
        for (earlier, first), (later, second) in pairwise(reminders):
            assert (first < second, later - earlier >= 5) == (True, True)
        for when, end in reminders:
            assert self.max_age or end in {NOW + lives for _, lives, _ in TOKENS.values()}
            assert when >= end - 60

    def check_app(self, socket: Socket) -> None:
        app = socket.app
        if not app.started:
            return
        texts = [m["text"] for m in app.got if m["type"] == "websocket.receive"]
        numbers = [int(words.split()[0]) for words in texts if words[0].isdigit()]
        assert numbers == list(range(1, len(numbers) + 1)), "lost, or out of order"
        assert app.got[:1] in ([], [CONNECT])
        assert app.got.count(CONNECT) <= 1
        if self.refreshes:
            assert len(numbers) == len(texts), "a credential reached the app"
        identity = TOKENS[socket.token][0]
        assert app.session.principal.identity == identity
        for token in app.refreshed:
            assert TOKENS[token][0] == identity
        for message in app.got:
            if message == ANSWER:
                assert app.answered
            elif message["type"] == "websocket.disconnect" and message is not LEFT:
                assert message["code"] == Reason(message["reason"]).close_code

    def check_events(self, socket: Socket) -> None:
        verdicts = self.events_of(socket, Admitted, Refused, Abandoned)
        assert len(verdicts) <= 1
        admitted = self.events_of(socket, Admitted)
        assert not (admitted and socket.is_late)
        if admitted:
            assert socket.token in TOKENS
            assert TOKENS[socket.token][1] > 0
        assert len(admitted) == socket.app.started
        closed = self.events_of(socket, Closed)
        if not socket.over:
            assert not closed
            return
        assert socket.task is not None
        assert len(closed) == len(admitted)
        assert len(verdicts) == 1 or socket.cancelled
        if not socket.task.cancelled():
            assert isinstance(socket.task.exception(), (Bug, type(None)))
        elif not socket.cancelled:
            raise AssertionError("cancelled by nobody")
        if closed and closed[0].reason is not None:
            assert closed[0].close_code == closed[0].reason.close_code
        for refreshed in self.events_of(socket, Refreshed):
            assert refreshed.identity == TOKENS[socket.token][0]

    def teardown(self) -> None:
        try:
            if hasattr(self, "door"):
                self._end_all()
        finally:
            self.patch.undo()
            self.listening.__exit__(None, None, None)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.turn(5)
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def _end_all(self) -> None:
        def leave() -> None:
            for socket in self.sockets:
                socket.server.leave()
                socket.app.finish()

        self.turn(150, leave)
        self.loop.now += 1000  # and with it all moments at which a socket was to be closed
        self.turn(150)
        assert [drain.exception() for drain in self.drains] == [None] * len(self.drains)
        assert [s.path for s in self.sockets if not s.over] == []
        self.each_socket_is_sound()
        self.check_counts()

        async def rest() -> list[str]:
            return [*left_over(self.door, self.clock), *open_in(self.door), *tasks()]

        assert self.loop.run_until_complete(rest()) == []
        for line in self.log.lines:
            assert not any(token in line for token in [*TOKENS, RUBBISH]), line
        for event in self.events:
            assert not any(token in repr(event) for token in [*TOKENS, RUBBISH])


TestSockets = Sockets.TestCase
TestSockets.settings = examples(60, stateful_step_count=50)


def test_a_cancelled_handshake_leaves_nothing() -> None:
    """Whenever a server cancels it, with nothing but `Task.cancel`, which no shield keeps off."""

    async def cancelled_after(turns: int) -> list[str]:
        async def verify(credential: Credential, conn: Any) -> Principal:
            await asyncio.sleep(0)
            return Principal("alice", expires_at=NOW + 100)

        clock, store = Clock(), MemoryStore()
        auth = authenticator(verify, clock=clock, revocations=Revocations(store), observers=[])
        limit, sessions = ConnectionLimit(1, store), Sessions(store)
        door = WebSocketAuthMiddleware(Puppet(), auth, connection_limit=limit, sessions=sessions)
        scope = websocket("token=a-long-9Wz")
        server = Slow(scope, 0)
        task = asyncio.ensure_future(door(scope, server.receive, server.send))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return left_over(door, clock)

    assert [asyncio.run(cancelled_after(turns)) for turns in range(30)] == [[]] * 30


def begun(**options: Any) -> Sockets:
    """A machine with one socket of alice, whose app reads."""
    usual: dict[str, Any] = {
        **dict.fromkeys(["limited", "rechecked", "hooked", "listed"], False),
        **dict.fromkeys(["waits", "slowness"], 0),
        "grace": 5,
        "refreshes": True,
        "overflow": "reject",
        "rejection": "close",
        "first": "a-long-9Wz",
        "reads": True,
        "max_age": None,
    }
    machine = Sockets()
    machine.begin(**{**usual, **options})
    return machine


def minutes(machine: Sockets, number: int) -> None:
    for _ in range(number):
        machine.time_passes(60, 9, True)
        machine.each_socket_is_sound()


PROGRAMS: dict[str, tuple[dict[str, Any], Callable[[Sockets], Any], Reason | None]] = {
    "it gets too old": ({"max_age": 150}, lambda m: minutes(m, 3), Reason.EXPIRED),
    "it must renew": (
        {},
        lambda m: (m.somebody_decides("everybody", "alice", 60, 9), minutes(m, 1)),
        Reason.REVOKED,
    ),
    "its session is ended": (
        {"listed": True},
        lambda m: (m.session_is_ended(0, Reason.FORBIDDEN, 9), m.all_settles()),
        Reason.FORBIDDEN,
    ),
    "it is one of the others": (
        {"listed": True},
        lambda m: (
            m.connects("a-long-9Wz", 9, True, True),
            m.others_are_ended(1, 9),
            m.all_settles(),
        ),
        Reason.REVOKED,
    ),
    "it is the one that is kept": (
        {"listed": True},
        lambda m: (
            m.connects("a-long-9Wz", 9, True, True),
            m.others_are_ended(0, 9),
            m.all_settles(),
        ),
        None,
    ),
    "its user is blocked": (
        {},
        lambda m: (m.somebody_decides("blocked", "alice", 60, 9), m.all_settles()),
        Reason.REVOKED,
    ),
    "its user is locked": (
        {"rechecked": True},
        lambda m: (m.somebody_decides("locked", "alice", 0, 9), minutes(m, 2)),
        Reason.REVOKED,
    ),
    "its user is locked during an outage": (
        {"rechecked": True},
        lambda m: (
            m.somebody_decides("down", "alice", 0, 9),
            m.somebody_decides("locked", "alice", 0, 9),
            minutes(m, 5),
        ),
        None,
    ),
    "its process is about to end": (
        {},
        lambda m: (m.the_process_is_about_to_end(5, 9, 0), minutes(m, 1)),
        Reason.RESTARTING,
    ),
    "its hook refuses what the client sends": (
        {"hooked": True},
        lambda m: (
            m.the_hook_changes_its_mind("refuses"),
            m.client_refreshes(0, "a-fresh-6Yp", 0, 30),
            m.all_settles(),
        ),
        Reason.FORBIDDEN,
    ),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_new_end_comes_about(program: str) -> None:
    """Which random programs may come to only now and then."""
    options, steps, ends = PROGRAMS[program]
    machine = begun(**options)
    try:
        steps(machine)
        machine.each_socket_is_sound()
        sent = machine.sockets[0].server.sent[-1]
        assert sent.get("reason") == (None if ends is None else ends.phrase)
    finally:
        machine.teardown()
