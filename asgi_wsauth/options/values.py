"""Checks of values, lists of them, and parts of this package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite, isnan
from typing import Any, TypeVar, overload

from asgi_wsauth.options.error import ConfigurationError, shown
from asgi_wsauth.options.functions import check_callable, is_plain

__all__ = [
    "check_bool",
    "check_choice",
    "check_count",
    "check_instance",
    "check_issuer",
    "check_list",
    "check_names",
    "check_observers",
    "check_rate",
    "check_scopes",
    "check_seconds",
    "check_seconds_or_none",
    "check_store",
    "check_text",
    "check_time",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def check_bool(option: str, given: bool) -> bool:
    """Raises `ConfigurationError` unless it is True or False."""
    if not isinstance(given, bool):
        raise ConfigurationError(f"{option} must be True or False, got {shown(given)}")
    return given


def check_count(option: str, given: int, *, least: int = 1) -> int:
    """Raises `ConfigurationError` unless it is an integer, of at least `least`."""
    if type(given) is not int or given < least:
        what = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ConfigurationError(f"{option} must be {what}, got {shown(given)}")
    return given


def check_seconds(
    option: str, given: float, *, least: float | None = None, most: float | None = None
) -> float:
    """A number of seconds.

    Args:
        option: its name, for the error.
        given: the number.
        least: the least that it may be; None for anything above 0.
        most: the most that it may be; None for anything finite.

    Raises:
        ConfigurationError: it is no number, not finite, or out of bounds.
    """
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if (
        is_number
        and isfinite(given)
        and (given > 0 if least is None else given >= least)
        and (most is None or given <= most)
    ):
        return given
    if least is None:
        bounds = "a positive number of seconds"
    else:
        bounds = f"a number of seconds of at least {least:g}"
    if most is not None:
        bounds += f" and at most {most:g}"
    raise ConfigurationError(f"{option} must be {bounds}, got {shown(given)}")


def check_seconds_or_none(option: str, given: float | None) -> float | None:
    """Raises `ConfigurationError` unless it is a positive number of seconds, or None."""
    return None if given is None else check_seconds(option, given)


@overload
def check_time(option: str, given: float) -> float: ...
@overload
def check_time(option: str, given: float | None) -> float | None: ...
def check_time(option: str, given: float | None) -> float | None:
    """Raises `ConfigurationError` unless it is Unix time in seconds, or None. Infinity is one."""
    if given is None or (type(given) in (int, float) and not isnan(given)):
        return given
    mend = "; write .timestamp()" if callable(getattr(given, "timestamp", None)) else ""
    raise ConfigurationError(f"{option} must be Unix time in seconds, got {shown(given)}{mend}")


_RATE = re.compile(
    r"([0-9]{1,9}) *(?:/|per) *([0-9]{1,9})? *(second|minute|hour|day)s?", re.ASCII | re.IGNORECASE
)
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def check_rate(option: str, given: str) -> tuple[int, float]:
    """How many there may be of something, and within how many seconds.

    Raises:
        ConfigurationError: it is no rate such as "10/minute" or "100 per 2 hours".
    """
    found = _RATE.fullmatch(given.strip()) if isinstance(given, str) else None
    most, times, unit = found.groups() if found is not None else ("0", "0", "day")
    seconds = int(times or 1) * _UNITS[unit.lower()]
    if int(most) < 1 or seconds < 1:
        raise ConfigurationError(
            f'{option} must say how many in what time, for example "60/minute" or '
            f'"100 per 2 hours", got {shown(given)}'
        )
    return int(most), seconds


def check_text(option: str, given: str, example: str) -> str:
    """Raises `ConfigurationError` unless it is a string that is not empty."""
    if not isinstance(given, str) or not given:
        raise ConfigurationError(
            f'{option} must be a string, for example "{example}", got {shown(given)}'
        )
    return given


def check_choice(option: str, given: T, choices: Iterable[T]) -> T:
    """Raises `ConfigurationError` unless it is one of `choices`."""
    known = tuple(choices)
    if not isinstance(given, str) or given not in known:
        names = ", ".join(f'"{name}"' for name in known)
        raise ConfigurationError(f"{option} must be one of {names}, got {shown(given)}")
    return given


def check_list(option: str, given: Iterable[T]) -> tuple[T, ...]:
    """The members of a list.

    Raises:
        ConfigurationError: it is one string, which would be taken apart into letters, a mapping,
            whose values would be lost, or nothing that has members.
    """
    if isinstance(given, (str, bytes, bytearray)):
        raise ConfigurationError(f"{option} must be a list, got one string; write [{given!r}]")
    if given is None:
        raise ConfigurationError(f"{option} must be a list, got None; leave it out, or write []")
    if isinstance(given, Mapping):
        raise ConfigurationError(f"{option} must be a list, got {shown(given)}")
    if not isinstance(given, Iterable):
        raise ConfigurationError(
            f"{option} must be a list, got {shown(given)}; put it into brackets: [...]"
        )
    return tuple(given)


def check_observers(observers: Iterable[F]) -> tuple[F, ...]:
    """What is told of events: plain functions of one argument.

    Raises:
        ConfigurationError: one of them isn't callable, or is async.
    """
    example = "it is called with an event, and must be quick"
    for observer in (members := check_list("observers", observers)):
        check_callable("observers", observer, takes=1, is_async=False, example=example)
    return members


def check_names(option: str, given: str | Iterable[str] | None) -> list[str] | None:
    """The names that were given for an option that takes one or several; None for any.

    Raises:
        ConfigurationError: they name nothing.
    """
    if given is None:
        return None
    names: tuple[object, ...] = (given,)
    if not isinstance(given, str):
        if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
            raise ConfigurationError(
                f"{option} must be a string or a list of strings, got {shown(given)}"
            )
        names = tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError(
            f"{option} must be a string or a list of strings, got {shown(given)}; leave it out to "
            "accept any"
        )
    return [str(name) for name in names]


def check_issuer(issuer: str) -> str:
    """Raises `ConfigurationError` unless it can be an issuer's name for itself."""
    check_text("issuer", issuer, "https://id.example/")
    name, found, _ = issuer.partition("/.well-known/")
    if found:
        raise ConfigurationError(
            f"issuer must be the issuer itself, as its tokens have it in iss, got the URL of a "
            f"document, {shown(issuer)}; write {shown(name)} or {shown(name + '/')}, and pass the "
            "URL as discovery_url"
        )
    return issuer


_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3: scope-token


def check_scopes(option: str, scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, if they are a list of words that can be scopes (RFC 6749 section 3.3).

    Raises:
        ConfigurationError: they are not.
    """
    names = check_list(option, scopes)
    if not all(isinstance(name, str) and _SCOPE.fullmatch(name) for name in names):
        raise ConfigurationError(
            f'{option} must be a list of scopes, for example ["chat:write"], got {shown(scopes)}'
        )
    return names


def check_scope(option: str, scope: str) -> str:
    """Raises `ConfigurationError` unless it is a word that can be a scope."""
    if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
        raise ConfigurationError(
            f'{option} must be a scope, for example "chat:write", got {shown(scope)}'
        )
    return scope


def check_instance(option: str, given: Any, kind: type[T], example: str) -> T:
    """Raises `ConfigurationError` unless it is an object of this class."""
    if not isinstance(given, kind):
        article = "an" if kind.__qualname__[0] in "AEIOU" else "a"
        raise ConfigurationError(
            f"{option} must be {article} {kind.__qualname__}, got {shown(given)}; write for "
            f"example {example}"
        )
    return given


_STORE = "a MemoryStore, a RedisStore, or a store of your own"


def check_store(
    part: str,
    store: object,
    *methods: str,
    what: str = _STORE,
    example: str = "MemoryStore()",
) -> None:
    """Check that `store`, or what is called that, has these methods; a store's are async.

    Raises:
        ConfigurationError: it has not.
    """
    if isinstance(store, type):
        raise ConfigurationError(
            f"{part} must be {what}, got the class {store.__qualname__}; write "
            f"{store.__qualname__}(...)"
        )
    if isinstance(store, str) and what == _STORE:  # not shown: it may be a URL with a password
        raise ConfigurationError(
            f"{part} must be {what}, got a str; write RedisStore.from_url(...) for a URL"
        )
    if type(store).__module__.startswith(("redis.", "valkey.")):
        example = "RedisStore(client)"
    for method in methods:
        found = getattr(store, method, None)
        if not callable(found):
            raise ConfigurationError(
                f"{part} must be {what}, got {shown(store)}, which has no method {method}(); "
                f"write for example {example}"
            )
        if what == _STORE and method != "watch" and is_plain(found):
            raise ConfigurationError(
                f"{part} must have async methods, got {shown(store)}, whose {method}() is not "
                "async; write async def, or annotate what it returns as Awaitable[...]"
            )
