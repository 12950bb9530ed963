"""Three things about event loops that anyio has no words for. Knows nothing of authentication."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from itertools import count
from types import coroutine
from typing import Any, TypeVar

from anyio.lowlevel import RunVar

__all__ = ["call_on_first_wait", "run_var", "spawn"]

T = TypeVar("T")

_running: set[asyncio.Task[None]] = set()
_numbers = count(1)


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
        on_first_wait()
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


def spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start `work` in a task of its own on the running event loop, asyncio's or trio's.

    A task group would have to be entered before the work that it watches over begins, and entering
    one costs every handshake more than the handshake itself. So nothing joins this task: `work`
    must handle its own errors, and end when it is told to.
    """
    try:
        on_asyncio = asyncio.current_task() is not None
    except RuntimeError:
        on_asyncio = False
    if on_asyncio:
        task = asyncio.get_running_loop().create_task(work())
        _running.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(_running.discard)
    else:
        import trio

        trio.lowlevel.spawn_system_task(work)


def run_var(name: str) -> RunVar[Any]:
    """A variable that has one value for each event loop, and shares it with no other of its name:
    older versions of anyio tell them apart by nothing else."""
    return RunVar(f"asgi_wsauth.{name}.{next(_numbers)}")
