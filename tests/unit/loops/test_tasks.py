"""Work that is watched only once it waits, tasks that nothing joins, work that is broken off, calls
from other threads, and variables of a loop."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from cases import cases

from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.loops.tasks import (
    Breakable,
    Latch,
    call_on_first_wait,
    detached,
    from_any_thread,
    spawn,
)

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]


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

    async def test_cancelling_the_caller_cancels_it(self) -> None:
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

    async def test_a_deadline_that_is_set_late_holds(self) -> None:
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

    @pytest.mark.usefixtures("little_to_collect")
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


class TestLatch:
    """A crowd waits, and one opens."""

    async def test_a_crowd_passes_in_its_order_a_few_at_a_time(self) -> None:
        async with anyio.create_task_group() as tasks:
            crowd = Crowd(tasks)
            await crowd.come(105)
            assert not crowd.latch.is_open
            seen = set()
            tasks.start_soon(crowd.latch.open)
            while len(crowd.passed) < 105:
                await anyio.lowlevel.checkpoint()
                seen.add(len(crowd.passed))
        assert len(seen) >= 4
        # trio wakes those of one event in any order
        assert all(abs(place - number) < 20 for place, number in enumerate(crowd.passed))

    async def test_nobody_waits_at_an_open_one(self) -> None:
        latch = Latch()
        await latch.open()
        assert latch.is_open
        with pytest.raises(StopIteration):
            latch.wait().send(None)

    async def test_who_leaves_keeps_nobody(self) -> None:
        async with anyio.create_task_group() as tasks:
            crowd = Crowd(tasks)
            await crowd.come(45)
            for scope in crowd.scopes[:44]:  # two groups, and all but one of the third
                scope.cancel()
            await crowd.latch.open()
        assert crowd.passed == [44]

    async def test_if_its_opening_is_cancelled_all_pass_at_once(self) -> None:
        async with anyio.create_task_group() as tasks:
            crowd = Crowd(tasks)
            await crowd.come(45)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await crowd.latch.open()
        assert sorted(crowd.passed) == list(range(45))


class Crowd:
    """Tasks that wait at a latch, each with its number, and a scope of its own."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.latch = Latch()
        self.passed: list[int] = []
        self.scopes: list[anyio.CancelScope] = []
        self._tasks = tasks

    async def come(self, count: int) -> None:
        for number in range(count):
            self.scopes.append(anyio.CancelScope())
            self._tasks.start_soon(self._wait, number)
            await anyio.wait_all_tasks_blocked()

    async def _wait(self, number: int) -> None:
        with self.scopes[number]:
            await self.latch.wait()
            self.passed.append(number)


def test_a_variable_has_one_value_for_each_event_loop(anyio_backend_name: str) -> None:
    one: PerLoop[str] = PerLoop()
    other: PerLoop[str] = PerLoop()

    async def use() -> tuple[object, object]:
        before = one.get()
        one.set("set")
        await anyio.lowlevel.checkpoint()
        assert one.get() == "set"
        return before, other.get()

    for _ in range(2):
        assert anyio.run(use, backend=anyio_backend_name) == (None, None)


class TestDetached:
    async def test_whoever_waits_for_it_has_its_result(self) -> None:
        journal = Journal()
        assert await detached(lambda: returned(journal), seconds=5) == "result"

    async def test_and_its_error(self) -> None:
        async def fails() -> None:
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            await detached(fails, seconds=5)

    async def test_it_has_its_time(self) -> None:
        with anyio.fail_after(30), pytest.raises(TimeoutError):
            await detached(anyio.sleep_forever, seconds=0.01)

    @cases("ends", ["later", "meanwhile"])
    async def test_what_nobody_waits_for_any_more_is_undone(self, ends: str) -> None:
        proceed, undone = anyio.Event(), anyio.Event()
        results: list[str] = []

        async def work() -> str:
            scope.cancel()
            if ends == "later":
                await proceed.wait()
            return "result"

        async def undo(result: str) -> None:
            results.append(result)
            undone.set()

        with anyio.CancelScope() as scope:
            await detached(work, undo, seconds=5)
        assert scope.cancelled_caught
        assert not results
        proceed.set()
        with anyio.fail_after(5):
            await undone.wait()
        assert results == ["result"]

    @cases("fails", [True, False])
    async def test_where_there_is_nothing_to_undo_nothing_is(self, fails: bool) -> None:
        proceed, ended = anyio.Event(), anyio.Event()
        undone: list[None] = []

        async def work() -> None:
            scope.cancel()
            await proceed.wait()
            ended.set()
            if fails:
                raise LookupError

        async def undo(result: None) -> None:
            undone.append(result)

        with anyio.CancelScope() as scope:
            await detached(work, undo if fails else None, seconds=5)
        proceed.set()
        with anyio.fail_after(5):
            await ended.wait()
        await anyio.wait_all_tasks_blocked()
        assert not undone


class TestBreakable:
    """Two tasks: one works, the other one breaks it off."""

    async def test_work_that_is_not_broken_off_goes_its_way(self) -> None:
        with Breakable() as stretch:
            await anyio.lowlevel.checkpoint()
        assert not stretch.broken
        with pytest.raises(LookupError), Breakable():
            raise LookupError

    async def test_what_is_awaited_is_cancelled_and_the_work_goes_on_behind_it(self) -> None:
        journal, stretch = Journal(), Breakable()

        async def work() -> None:
            with stretch:
                try:
                    await anyio.sleep_forever()
                finally:
                    journal.append("cleaned up")
            journal.append("behind it")
            await anyio.lowlevel.checkpoint()
            journal.append("not cancelled any more")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                stretch.break_off()
        assert stretch.broken
        assert journal == ["cleaned up", "behind it", "not cancelled any more"]

    async def test_what_ended_well_all_the_same_has_its_result(self) -> None:
        stretch, event, results = Breakable(), anyio.Event(), []

        async def work() -> None:
            with stretch:
                with anyio.CancelScope(shield=True):
                    await event.wait()
                results.append("result")
            await anyio.lowlevel.checkpoint()
            results.append("not cancelled any more")

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            event.set()
            stretch.break_off()
        assert stretch.broken
        assert results[-1] == "not cancelled any more"

    async def test_an_error_of_the_work_passes(self) -> None:
        stretch, caught = Breakable(), []

        async def work() -> None:
            try:
                with stretch:
                    try:
                        await anyio.sleep_forever()
                    finally:
                        raise LookupError("while it was cleaned up")
            except LookupError as exc:
                caught.append(exc)
            await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
            stretch.break_off()
        assert len(caught) == 1

    async def test_work_that_holds_on_is_broken_off_again(self) -> None:
        stretch, swallowed = Breakable(), 0

        async def work() -> None:
            nonlocal swallowed
            with stretch:
                while swallowed < 2:
                    try:
                        await anyio.sleep_forever()
                    except anyio.get_cancelled_exc_class():
                        swallowed += 1
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                for _ in range(3):
                    await anyio.wait_all_tasks_blocked()
                    stretch.break_off()
        assert swallowed == 2

    async def test_breaking_off_too_late_or_too_early_does_nothing(self) -> None:
        stretch = Breakable()
        with stretch:
            pass
        stretch.break_off()
        await anyio.lowlevel.checkpoint()
        assert stretch.broken

    async def test_inside_one_another_each_is_broken_off_by_itself(self) -> None:
        outer, inner, journal = Breakable(), Breakable(), Journal()

        async def work() -> None:
            with outer:
                with inner:
                    await anyio.sleep_forever()
                journal.append("behind the inner one")
                await anyio.sleep_forever()
            journal.append("behind the outer one")
            await anyio.lowlevel.checkpoint()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                inner.break_off()
                await anyio.wait_all_tasks_blocked()
                outer.break_off()
        assert journal == ["behind the inner one", "behind the outer one"]

    @cases("order", ["inner first", "outer first"])
    async def test_both_at_once_end_both(self, order: str) -> None:
        outer, inner, journal = Breakable(), Breakable(), Journal()

        async def work() -> None:
            with outer:
                with inner:
                    await anyio.sleep_forever()
                await anyio.lowlevel.checkpoint()
                journal.append("between")
            await anyio.lowlevel.checkpoint()
            journal.append("behind both")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                for stretch in (inner, outer) if "inner" in order else (outer, inner):
                    stretch.break_off()
        assert journal[-1] == "behind both"
        assert "between" not in journal

    @cases("order", ["scope first", "scope last"])
    @cases("where", ["around it", "inside it"])
    async def test_a_cancel_scope_at_the_same_time_keeps_its_word(
        self, where: str, order: str
    ) -> None:
        stretch, scope, journal = Breakable(), anyio.CancelScope(), Journal()

        async def work() -> None:
            if where == "around it":
                with scope:
                    with stretch:
                        await anyio.sleep_forever()
                    await anyio.sleep_forever()
            else:
                with stretch, scope:
                    await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
            journal.append("not cancelled any more")

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await anyio.wait_all_tasks_blocked()
                both = [scope.cancel, stretch.break_off]
                for end in both if order == "scope first" else both[::-1]:
                    end()
        assert journal == ["not cancelled any more"]

    @pytest.mark.both_loops(False)
    @cases("order", ["task first", "task last"])
    async def test_a_task_that_is_cancelled_at_the_same_time_is_cancelled(self, order: str) -> None:
        """Where Python counts: before 3.11 it can't tell the two, and takes it for its own."""
        stretch, journal = Breakable(), Journal()

        async def work() -> None:
            with stretch:
                await anyio.sleep_forever()
            journal.append("goes on")

        task = asyncio.create_task(work())
        await anyio.wait_all_tasks_blocked()
        both = [task.cancel, stretch.break_off]
        for end in both if order == "task first" else both[::-1]:
            end()
        await asyncio.wait([task])
        assert task.cancelled()
        assert journal == []

    @pytest.mark.both_loops(False)
    async def test_a_time_limit_around_it_still_holds(self) -> None:
        """asyncio's own counts cancellations, too."""
        stretch = Breakable()

        async def work() -> None:
            with stretch:
                await anyio.sleep_forever()
            await anyio.sleep_forever()

        task = asyncio.create_task(asyncio.wait_for(work(), 0.02))
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        stretch.break_off()
        with pytest.raises(asyncio.TimeoutError):
            await task


@pytest.mark.hurried(False)
class TestFromAnyThread:
    async def test_it_is_called_soon_on_the_event_loop(self) -> None:
        called = anyio.Event()
        call = from_any_thread()
        call(called.set)
        assert not called.is_set()
        with anyio.fail_after(5):
            await called.wait()
            called = anyio.Event()
            await anyio.to_thread.run_sync(lambda: call(lambda: called.set()))
            await called.wait()

    def test_after_the_event_loop_has_ended_it_raises(self, anyio_backend_name: str) -> None:
        async def use() -> Any:
            return from_any_thread()

        call = anyio.run(use, backend=anyio_backend_name)
        with pytest.raises(RuntimeError):
            call(lambda: None)


def test_without_a_running_loop_nothing_can_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether trio was imported by somebody or isn't even installed."""
    for is_imported in (True, False):
        if not is_imported:
            monkeypatch.delitem(sys.modules, "trio")
        with pytest.raises(RuntimeError):
            from_any_thread()
