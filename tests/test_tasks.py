"""Work that is watched only once it waits, tasks that nothing joins, and variables of a loop."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asgi_wsauth.tasks import call_on_first_wait, run_var, spawn

pytestmark = pytest.mark.anyio


class Journal(list[str]):
    """What happened, in order; each entry is a function to be called."""

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.append(what)


@coroutine
def wait() -> Any:
    """One wait of a driver's own, for tests that drive a coroutine by hand."""
    return (yield "waiting")


async def returned(journal: Journal) -> str:
    journal.append("work")
    return "result"


class TestWorkThatNeverWaits:
    async def test_its_result_passes_and_nothing_is_called(self) -> None:
        journal = Journal()
        result = await call_on_first_wait(returned(journal), journal.note("first wait"))
        assert result == "result"
        assert journal == ["work"]

    async def test_its_exception_passes_and_nothing_is_called(self) -> None:
        async def work() -> None:
            raise LookupError("from the work")

        journal = Journal()
        with pytest.raises(LookupError, match="from the work"):
            await call_on_first_wait(work(), journal.note("first wait"))
        assert journal == []

    async def test_a_cancel_scope_that_it_leaves_again_is_no_wait(self) -> None:
        async def work() -> str:
            with anyio.CancelScope(deadline=anyio.current_time() + 60):  # noqa: ASYNC100
                return "result"

        journal = Journal()
        assert await call_on_first_wait(work(), journal.note("first wait")) == "result"
        assert journal == []


class TestWorkThatWaits:
    async def test_the_callback_is_called_once_before_anything_else_runs(self) -> None:
        journal = Journal()

        async def other() -> None:
            journal.append("other task")

        async def work() -> str:
            journal.append("work")
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            journal.append("end of work")
            return "result"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            result = await call_on_first_wait(work(), journal.note("first wait"))
        assert result == "result"
        assert journal[:2] == ["work", "first wait"]
        assert sorted(journal[2:]) == ["end of work", "other task"]

    async def test_what_it_waits_for_comes_through(self) -> None:
        event = anyio.Event()

        async def work() -> str:
            await event.wait()
            return "result"

        assert await call_on_first_wait(work(), event.set) == "result"

    async def test_its_exception_passes(self) -> None:
        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise LookupError("from the work")

        journal = Journal()
        with pytest.raises(LookupError, match="from the work"):
            await call_on_first_wait(work(), journal.note("first wait"))
        assert journal == ["first wait"]

    async def test_an_exception_at_its_wait_is_its_own_to_handle(self) -> None:
        async def work() -> str:
            with anyio.move_on_after(0):
                await anyio.Event().wait()
            await anyio.lowlevel.checkpoint()
            return "result"

        assert await call_on_first_wait(work(), Journal().note("")) == "result"

    async def test_row_32_cancelling_the_caller_cancels_it(self) -> None:
        journal = Journal()

        async def work() -> None:
            try:
                await anyio.Event().wait()
            finally:
                journal.append("cleaned up")

        with anyio.CancelScope() as scope:
            await call_on_first_wait(work(), scope.cancel)
            journal.append("never reached")
        assert scope.cancelled_caught
        assert journal == ["cleaned up"]

    async def test_row_30_a_deadline_that_is_set_late_holds(self) -> None:
        with anyio.CancelScope() as scope:

            def on_first_wait() -> None:
                scope.deadline = anyio.current_time()

            await call_on_first_wait(anyio.Event().wait(), on_first_wait)
        assert scope.cancelled_caught

    async def test_cancel_scopes_and_task_groups_that_it_entered_before_still_work(self) -> None:
        """They belong to the task in which they were entered, so the work may not be moved."""
        journal = Journal()

        async def child() -> None:
            journal.append("child")

        async def work() -> str:
            with anyio.CancelScope() as outer, anyio.CancelScope(deadline=anyio.current_time()):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(child)
                    await anyio.Event().wait()
            assert not outer.cancel_called
            return "result"

        with anyio.fail_after(5):
            assert await call_on_first_wait(work(), journal.note("first wait")) == "result"
        assert journal == ["first wait", "child"]

    async def test_a_callback_that_raises_ends_the_work(self) -> None:
        journal = Journal()

        async def work() -> None:
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                journal.append("closed")

        def broken() -> None:
            raise LookupError("from the callback")

        with pytest.raises(LookupError, match="from the callback") as caught:
            await call_on_first_wait(work(), broken)
        # Now, and not when the garbage collector comes by: the traceback holds on to the work.
        assert caught.tb is not None
        assert journal == ["closed"]


class TestDrivenByHand:
    """What an event loop does, one step at a time."""

    async def work(self, journal: Journal) -> list[Any]:
        answers: list[Any] = []
        try:
            answers.append(await wait())
            try:
                answers.append(await wait())
            except LookupError as exc:
                answers.append(str(exc))
            answers.append(await wait())
        finally:
            journal.append("closed")
        return answers

    def start(self, journal: Journal) -> Coroutine[Any, Any, list[Any]]:
        async def outer() -> list[Any]:
            return await call_on_first_wait(self.work(journal), journal.note("first wait"))

        return outer()

    def test_every_answer_and_every_exception_reach_the_work(self) -> None:
        journal = Journal()
        outer = self.start(journal)
        assert outer.send(None) == "waiting"
        assert journal == ["first wait"]
        assert outer.send("one") == "waiting"
        assert outer.throw(LookupError("two")) == "waiting"
        with pytest.raises(StopIteration) as stopped:
            outer.send("three")
        assert stopped.value.value == ["one", "two", "three"]
        assert journal == ["first wait", "closed"]

    def test_closing_the_outer_coroutine_closes_the_work(self) -> None:
        journal = Journal()
        outer = self.start(journal)
        outer.send(None)
        outer.close()
        assert journal == ["first wait", "closed"]

    def test_an_exception_that_the_work_does_not_handle_comes_out(self) -> None:
        journal = Journal()
        outer = self.start(journal)
        outer.send(None)
        with pytest.raises(KeyboardInterrupt):
            outer.throw(KeyboardInterrupt())
        assert journal == ["first wait", "closed"]


class TestSpawn:
    async def test_the_work_runs_in_a_task_of_its_own(self) -> None:
        started, proceed, ended = anyio.Event(), anyio.Event(), anyio.Event()

        async def work() -> None:
            started.set()
            await proceed.wait()
            ended.set()

        spawn(work)
        assert not started.is_set()
        with anyio.fail_after(5):
            await started.wait()
            proceed.set()
            await ended.wait()

    async def test_nothing_waits_for_it_and_its_own_scope_ends_it(self) -> None:
        scope, ended = anyio.CancelScope(), anyio.Event()

        async def work() -> None:
            with scope:
                await anyio.Event().wait()
            ended.set()

        async def parent() -> None:
            spawn(work)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parent)
        assert not ended.is_set()
        scope.cancel()
        with anyio.fail_after(5):
            await ended.wait()

    async def test_cancelling_whoever_spawned_it_leaves_it_alone(self) -> None:
        proceed, ended = anyio.Event(), anyio.Event()

        async def work() -> None:
            await proceed.wait()
            ended.set()

        with anyio.CancelScope() as scope:
            spawn(work)
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        proceed.set()
        with anyio.fail_after(5):
            await ended.wait()

    async def test_nobody_else_has_to_keep_it(self) -> None:
        ended: list[bool] = []

        async def work() -> None:
            try:
                await anyio.Event().wait()  # which nobody else knows
            finally:
                ended.append(True)

        spawn(work)
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        assert ended == []

    async def test_several_run_side_by_side(self) -> None:
        count, all_ended = 0, anyio.Event()

        def job() -> Callable[[], Awaitable[None]]:
            async def work() -> None:
                nonlocal count
                await anyio.lowlevel.checkpoint()
                count += 1
                if count == 10:
                    all_ended.set()

            return work

        for _ in range(10):
            spawn(job())
        with anyio.fail_after(5):
            await all_ended.wait()


def test_a_variable_has_one_value_for_each_event_loop(anyio_backend: str) -> None:
    one, other = run_var("same name"), run_var("same name")

    async def use() -> tuple[object, object]:
        before = one.get(None)
        one.set("set")
        await anyio.lowlevel.checkpoint()
        assert one.get(None) == "set"
        return before, other.get(None)

    for _ in range(2):
        assert anyio.run(use, backend=anyio_backend) == (None, None)
