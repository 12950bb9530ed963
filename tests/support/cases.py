"""Many small cases in one test.

    @cases("text, verdict", [("alice", True), ("", False)])
    def test_a_name_is_not_empty(text, verdict): ...

is written like `pytest.mark.parametrize`, and takes a hundredth of its time where cases are cheap:
they share one test, and one event loop. Each runs, whatever became of those before it, and the
error of one that fails says which it was.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Client, Server

__all__ = ["cases"]

Case = tuple[Callable[[], str], dict[str, Any]]
"""What it is called, and its arguments."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_FOR_ALL = {"self", "anyio_backend"}


def cases(
    names: str | Iterable[str], rows: Iterable[Any], *, ids: Any = None
) -> Callable[[Any], Any]:
    """Run a test with each of these rows, all of them as one test.

    Above another `cases`, it runs with each row of the one and each row of the other. Nothing
    that a case does reaches the next one: of the fixtures, `monkeypatch`, `tmp_path`, `caplog`,
    `capsys`, servers and whatever has a method `clear` can be used.

    Args:
        names: the arguments of the test that a row has values for.
        rows: a value for each case; where there are several names, a sequence of values.
        ids: names for the cases, in their order, or a function that makes one of a value.
    """
    table = _table(names, list(rows), ids)

    def decorate(function: Any) -> Any:
        test, tables = getattr(function, "cases_of", (function, []))
        tables = [table, *tables]
        signature = inspect.signature(test)
        taken = {name for rows in tables for name in rows[0][1]}
        assert taken <= set(signature.parameters), taken - set(signature.parameters)
        left = [value for name, value in signature.parameters.items() if name not in taken]

        if inspect.iscoroutinefunction(test):

            async def run(*args: Any, **fixtures: Any) -> None:
                for case in _each(tables, fixtures):
                    with case as arguments:
                        await test(*args, **arguments)

        else:

            def run(*args: Any, **fixtures: Any) -> None:
                for case in _each(tables, fixtures):
                    with case as arguments:
                        test(*args, **arguments)

        functools.update_wrapper(run, function)
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        run.cases_of = (test, tables)  # type: ignore[attr-defined]
        return run

    return decorate


def _table(names: str | Iterable[str], rows: list[Any], ids: Any) -> list[Case]:
    several = not isinstance(names, str) or "," in names
    keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
    assert rows
    found: list[Case] = []
    for number, row in enumerate(rows):
        name = None
        if isinstance(row, type(pytest.param())):
            assert not row.marks
            name, row = row.id, row.values if several else row.values[0]
        elif ids is not None and not callable(ids):
            name = list(ids)[number]
        values = tuple(row) if several else (row,)
        assert len(values) == len(keys), (keys, row)
        arguments = dict(zip(keys, values, strict=True))
        found.append((functools.partial(_named, name, arguments, ids), arguments))
    return found


def _named(name: str | None, arguments: Mapping[str, Any], ids: Any) -> str:
    if name is not None:
        return str(name)
    parts = [ids(value) if callable(ids) else None for value in arguments.values()]
    return ", ".join(
        f"{key}={_short.repr(value) if part is None else part}"
        for (key, value), part in zip(arguments.items(), parts, strict=True)
    )


def _each(
    tables: list[list[Case]], fixtures: dict[str, Any]
) -> Iterator[AbstractContextManager[dict[str, Any]]]:
    errors: list[BaseException] = []
    count = 0
    for count, combined in enumerate(itertools.product(*tables), 1):
        yield _one(count, combined, fixtures, errors)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {count} cases failed", errors)


@contextmanager
def _one(
    number: int, combined: tuple[Case, ...], fixtures: dict[str, Any], errors: list[BaseException]
) -> Iterator[dict[str, Any]]:
    arguments = {key: value for _, row in combined for key, value in row.items()}
    try:
        with ExitStack() as stack:
            fresh = {name: _fresh(name, value, number, stack) for name, value in fixtures.items()}
            yield {**fresh, **arguments}
    except (Exception, pytest.fail.Exception) as exc:
        exc.add_note(f"in case {number}: " + ", ".join(name() for name, _ in combined))
        errors.append(exc)


def _fresh(name: str, value: Any, number: int, stack: ExitStack) -> Any:
    """A fixture as a test finds it."""
    if isinstance(value, pytest.MonkeyPatch):
        return stack.enter_context(value.context())
    if isinstance(value, Path):
        (value / str(number)).mkdir()
        return value / str(number)
    if isinstance(value, Server) and value.is_watched:
        stack.enter_context(value.must_stay_quiet())
    if isinstance(value, pytest.CaptureFixture):
        value.readouterr()
    elif hasattr(value, "clear"):
        value.clear()
    elif name not in _FOR_ALL and not isinstance(value, Client):
        raise TypeError(f"{name} is not made anew for each case: use pytest.mark.parametrize")
    return value
