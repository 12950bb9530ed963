"""Tasks and cancellation: what anyio lacks, or what costs too much there to use for each message.

Knows nothing of authentication.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import current_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    import trio

__all__ = [
    "Breakable",
    "Latch",
    "call_on_first_wait",
    "carry_on",
    "detached",
    "from_any_thread",
    "is_trio",
    "running_loop",
    "spawn",
]

T = TypeVar("T")

_running: set[asyncio.Task[None]] = set()


@coroutine
def call_on_first_wait(
    work: Coroutine[Any, Any, T], on_first_wait: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Await `work` in the caller's own task, calling `on_first_wait` once if it has to wait.

    Work that never waits then costs no timer and no task. It can't be handed to another task when
    it does wait, because the cancel scopes that it has entered belong to the task in which it
    entered them. So it stays where it is, and only what watches over it is set up late.
    """
    try:
        waited_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    try:
        on_first_wait()
        return (yield from _rest(work, waited_for))
    finally:
        work.close()


def carry_on(work: Coroutine[Any, Any, T], waited_for: object) -> Coroutine[Any, Any, T]:
    """The rest of `work`, which was begun by `send(None)` and waits for this."""
    return cast("Coroutine[Any, Any, T]", _awaitable_rest(work, waited_for))


def _rest(work: Coroutine[Any, Any, T], waited_for: object) -> Generator[Any, Any, T]:
    try:
        while True:
            try:
                answer = yield waited_for
            except BaseException as exc:  # cancellation above all: it is the work's to handle
                waited_for = work.throw(exc)
            else:
                waited_for = work.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        work.close()


_awaitable_rest = coroutine(_rest)


def spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start `work` in a task of its own on the running event loop, asyncio's or trio's.

    A task group would have to be entered before the work that it watches over begins, and entering
    one costs every handshake more than the handshake itself. So nothing joins this task: `work`
    must handle its own errors, and end when it is told to.
    """
    loop = running_loop()
    if loop is not None:
        task = loop.create_task(work())
        _running.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(_running.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(work)


async def detached(
    work: Callable[[], Coroutine[Any, Any, T]],
    undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    *,
    seconds: float,
) -> T:
    """The result of `work`, which runs in a task of its own and goes on if the caller is cancelled,
    by whatever means.

    Args:
        work: what is to be done.
        undo: what is done with the result when the caller was cancelled; it handles its own errors.
        seconds: how long either may take.

    Raises:
        TimeoutError: it took longer. What `work` raised is raised too.
    """
    ended, gone = anyio.Event(), False
    results: list[T] = []
    errors: list[BaseException] = []

    async def run() -> None:
        try:
            with anyio.fail_after(seconds):
                results.append(await work())
        except Exception as exc:
            errors.append(exc)
        finally:
            ended.set()
        if gone:
            await run_undo()

    async def run_undo() -> None:
        if results and undo is not None:
            with anyio.move_on_after(seconds):
                await undo(results[0])

    spawn(run)
    try:
        await ended.wait()
    except BaseException:
        if ended.is_set():  # it ended before the cancellation came
            spawn(run_undo)
        gone = True
        raise
    if errors:
        raise errors[0]
    return results[0]


def from_any_thread() -> Callable[[Callable[[], None]], object]:
    """What calls a function on the running event loop, soon, and may itself be called from any
    thread. It raises a RuntimeError once the loop has ended.

    Raises:
        RuntimeError: no event loop is running.
    """
    loop = running_loop()
    if loop is not None:  # the caller's context would say that trio runs, where it does there
        return lambda call: loop.call_soon_threadsafe(call, context=Context())
    if "trio" not in sys.modules:
        raise RuntimeError("no event loop is running")
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon


def running_loop() -> asyncio.AbstractEventLoop | None:
    """asyncio's; None on trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_trio() -> bool:
    """Whether trio runs here, told without a system call where nobody has imported it."""
    return "trio" in sys.modules and running_loop() is None


class Breakable:
    """A stretch of a task's work that can be broken off from outside:

        with Breakable() as stretch:
            await something()
        if stretch.broken: ...

    It is what a cancel scope is. But each message that a guarded socket receives is waited for in
    one, and each such socket has one or two of them all the time: anyio's scope costs 7 µs and
    1.2 kB on asyncio, this one 0.5 µs and 60 bytes.

    Args:
        loop: asyncio's that runs, where it is known: in Python 3.11, to ask takes a system call.
        runs: the task that runs in it, where it has begun.

    Attributes:
        breaks: how often it was broken off. What was awaited may have ended well all the same.
        runs: what runs in it: a task, or trio's scope in one; None where nothing does.
    """

    __slots__ = ("_loop", "breaks", "runs")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        runs: asyncio.Task[Any] | None = None,
    ) -> None:
        self.breaks = 0
        self.runs: asyncio.Task[Any] | trio.CancelScope | None = runs
        self._loop = loop

    @property
    def broken(self) -> bool:
        """Whether it was."""
        return self.breaks > 0

    def break_off(self) -> None:
        """Cancel what is awaited. To be called from another task, or from a callback; once more if
        what is awaited would not end."""
        self.breaks += 1
        if self.runs is not None:
            self.runs.cancel()

    def __enter__(self) -> Breakable:
        self.enter()
        return self

    def enter(self) -> None:
        """Begin it without `with`, which takes as long as all else here; then, `leave` it."""
        if self._loop is None:
            self._loop = running_loop()
        if self._loop is not None:
            self.runs = current_task(self._loop)
        else:
            import trio

            self.runs = trio.CancelScope()
            self.runs.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return self.leave(exc)

    def leave(self, exc: BaseException | None) -> bool:
        """It has ended, or was left with `exc`. Whether that is because it was broken off."""
        if self._loop is not None and not self.breaks:  # as nearly always
            self.runs = None
            return False
        runs, self.runs = self.runs, None
        if self._loop is None:
            kind, traceback = (None, None) if exc is None else (type(exc), exc.__traceback__)
            return bool(cast("trio.CancelScope", runs).__exit__(kind, exc, traceback))
        others, task = 0, cast("asyncio.Task[Any] | None", runs)
        for _ in range(self.breaks):
            others = task.uncancel() if task is not None else 0
        # Whoever else cancelled the task is to see that it was.
        return self.broken and isinstance(exc, asyncio.CancelledError) and not others


_TOGETHER = 20  # tasks that pass a gate between two turns of the event loop


class Latch:
    """What tasks wait for until it is opened, for good. They pass a few at a time: thousands of
    them, as after a deploy, would hold up the event loop for seconds.

    Attributes:
        is_open: whether nobody need wait any more.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._waiting = 0
        self._events: list[anyio.Event] = []

    async def wait(self) -> None:
        """Wait until it is open, and those have passed who waited before."""
        if self.is_open:
            return
        if self._waiting % _TOGETHER == 0:
            self._events.append(anyio.Event())
        self._waiting += 1
        await self._events[-1].wait()

    async def open(self) -> None:
        """Let everybody pass; all at once, if this is cancelled."""
        self.is_open = True
        try:
            for event in self._events:
                event.set()
                await checkpoint()
        finally:
            for event in self._events:
                event.set()
            self._events.clear()
