"""Checks of what is called: functions, clocks, apps."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from inspect import Parameter, Signature, iscoroutinefunction, signature
from typing import Any, TypeVar

from asgi_wsauth.options.error import ConfigurationError, shown

__all__ = [
    "check_app",
    "check_async",
    "check_callable",
    "check_clock",
    "is_plain",
]

F = TypeVar("F", bound=Callable[..., Any])

_Cached = type(cache(lambda: None))


def check_callable(
    option: str,
    given: F,
    *,
    takes: int | None = None,
    is_async: bool | None = None,
    example: str = "",
) -> F:
    """A function, or an object that can be called like one.

    Args:
        option: its name, for the error.
        given: the function.
        takes: how many arguments it is called with, by position; None for any.
        is_async: whether it must be an async function, or must not be one; None for either.
        example: how to write it.

    Raises:
        ConfigurationError: it is none, a class in place of an object of it, or of the wrong kind.
    """
    hint = f"; {example}" if example else ""
    if isinstance(given, type):
        raise ConfigurationError(
            f"{option} must be a function, got the class {given.__qualname__}; "
            f"write {given.__qualname__}(...)"
        )
    if not callable(given):
        raise ConfigurationError(f"{option} must be a function, got {shown(given)}{hint}")
    if takes is not None and not _takes(given, takes):
        raise ConfigurationError(
            f"{option} must be a function that can be called with "
            f"{_ARGUMENTS[takes]}, got {shown(given)}{hint}"
        )
    if is_async is True and is_plain(given):
        raise ConfigurationError(
            f"{option} must be an async function, got {shown(given)}{hint}; write async def, or "
            "annotate what it returns as Awaitable[...]"
        )
    if is_async is True and _is_async(_below_caches(given)) and not _is_async(given):
        raise ConfigurationError(
            f"{option} must be an async function without functools.cache, which returns the same "
            f"coroutine again, and that can be awaited only once, got {shown(given)}{hint}"
        )
    if is_async is False and _is_async(given):
        raise ConfigurationError(
            f"{option} must be a plain function, not an async one, got {shown(given)}{hint}"
        )
    return given


_ARGUMENTS = ("no argument", "one argument", "two arguments", "three arguments")


def _signature(function: Any) -> Signature | None:
    try:
        # Not that of what it wraps: a wrapper may add arguments of its own.
        return signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # of some functions written in C
        return None


def _takes(function: Any, count: int) -> bool:
    """Whether it can be called with so many arguments, as far as it can be told."""
    known = _signature(function)
    if known is not None:
        try:
            known.bind(*range(count))
        except TypeError:
            return False
    return True


def _below_partials(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def _below_caches(function: Any) -> Any:
    """What a cache of functools' wraps: it returns what that returns."""
    function = _below_partials(function)
    while isinstance(function, _Cached):
        function = _below_partials(function.__wrapped__)
    return function


def _is_async(function: Any) -> bool:
    function = _below_partials(function)
    return iscoroutinefunction(function) or iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - how it is called, not whether
    )


def is_plain(function: Any) -> bool:
    """Whether it is surely no async function, nor one that returns what an async one does.

    A lambda, and a wrapper, may return anything: what they do return is seen when they are called.
    """
    function = _below_caches(function)
    if _is_async(function) or hasattr(function, "__wrapped__"):
        return False
    called = function if hasattr(function, "__code__") else type(function).__call__
    known = _signature(called)
    if known is None or not hasattr(called, "__code__") or called.__name__ == "<lambda>":
        return False
    if any(p.kind is Parameter.VAR_POSITIONAL for p in known.parameters.values()):
        return False
    returned = known.return_annotation
    if isinstance(returned, type) and returned is not Signature.empty:
        return not hasattr(returned, "__await__")
    return not re.search("Awaitable|Coroutine|Future|Task", str(returned))


def check_async(option: str, given: F, *, takes: int, example: str) -> F:
    """Raises `ConfigurationError` if it is surely no async function of so many arguments."""
    return check_callable(option, given, takes=takes, is_async=True, example=example)


def check_clock(option: str, given: F) -> F:
    """Raises `ConfigurationError` unless it is a plain function, such as `time.time`, that can be
    hashed: there is one set of timers for each clock."""
    example = "write for example time.time"
    check_callable(option, given, takes=0, is_async=False, example=example)
    try:
        hash(given)
    except TypeError:
        raise ConfigurationError(
            f"{option} must be a function that can be hashed, got {shown(given)}; a dataclass can "
            "with @dataclass(eq=False)"
        ) from None
    return given


def check_app(given: F) -> F:
    """Raises `ConfigurationError` unless it can be an ASGI app.

    A class can be one if its objects can be awaited, as those of Starlette's endpoints can.
    """
    kind: object = given
    if isinstance(kind, type) and not hasattr(kind, "__await__"):
        raise ConfigurationError(f"app must be an ASGI app, got the class {kind.__qualname__}")
    if not callable(given):
        hint = "; the app comes first" if hasattr(given, "authenticate") else ""
        raise ConfigurationError(f"app must be an ASGI app, got {shown(given)}{hint}")
    if not _takes(given, 3):
        raise ConfigurationError(
            f"app must be an ASGI 3 app, which is called with scope, receive and send, got "
            f"{shown(given)}"
        )
    return given
