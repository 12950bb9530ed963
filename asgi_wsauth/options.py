"""Every check of an option, and what a bad one raises.

A check takes the option's name, for the message, and what was given for it; it returns that, or
raises `ConfigurationError`. The message says what the option must be and what it got, and where it
helps, how to write it. No check ever puts a secret into a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import iscoroutinefunction
from math import isfinite
from typing import Any, TypeVar

__all__ = [
    "VISIBLE",
    "ConfigurationError",
    "check_app",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_clock",
    "check_count",
    "check_instance",
    "check_key",
    "check_list",
    "check_names",
    "check_scopes",
    "check_seconds",
    "check_secret",
    "check_store",
    "check_text",
    "check_texts",
    "shown",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class ConfigurationError(ValueError):
    """An option can't work. Raised when a part is built; names the option and the mend."""


def shown(given: object) -> str:
    """What was given, as a message shows it: short, and on one line."""
    try:
        text = repr(given)
    except Exception:  # of somebody's own class
        text = f"a {type(given).__qualname__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


# Values


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


# Lists


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
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{option} must be a list, got {shown(given)}")
    return tuple(given)


def check_texts(option: str, given: Iterable[str], example: str) -> tuple[str, ...]:
    """Raises `ConfigurationError` unless it is a list of strings, none of them empty."""
    members = check_list(option, given)
    for member in members:
        if not isinstance(member, str) or not member:
            raise ConfigurationError(
                f'{option} must be a list of strings, for example ["{example}"], '
                f"got {shown(member)} in it"
            )
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


# Things that are called, and parts of this package


def check_callable(option: str, given: F, *, is_async: bool | None = None, example: str = "") -> F:
    """A function, or an object that can be called like one.

    Args:
        option: its name, for the error.
        given: the function.
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
    if is_async is not None and _is_async(given) is not is_async:
        kind = "an async function" if is_async else "a plain function, not an async one"
        raise ConfigurationError(f"{option} must be {kind}, got {shown(given)}{hint}")
    return given


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    return iscoroutinefunction(function) or iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - how it is called, not whether
    )


def check_clock(option: str, given: F) -> F:
    """Raises `ConfigurationError` unless it is a plain function, such as `time.time`."""
    return check_callable(option, given, is_async=False, example="write for example time.time")


def check_app(given: F) -> F:
    """Raises `ConfigurationError` unless it can be an ASGI app."""
    if given is None or not callable(given):
        raise ConfigurationError(f"app must be an ASGI app, got {shown(given)}")
    return given


def check_instance(option: str, given: Any, kind: type[T], example: str) -> T:
    """Raises `ConfigurationError` unless it is an object of this class."""
    if not isinstance(given, kind):
        raise ConfigurationError(
            f"{option} must be a {kind.__qualname__}, got {shown(given)}; write for example "
            f"{example}"
        )
    return given


def check_store(part: str, store: object, *methods: str) -> None:
    """Check that `store` has these methods.

    Raises:
        ConfigurationError: it has not.
    """
    for method in methods:
        if isinstance(store, type) or not callable(getattr(store, method, None)):
            raise ConfigurationError(
                f"{part}: store {shown(store)} has no method {method}(); try MemoryStore()"
            )


# Secrets

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What a credential may be made of. RFC 6750 section 2.1 allows less, an API key may want more."""

_PLACEHOLDERS = (
    "changeme changethis changeit replaceme replacethis placeholder "
    "insertyour yoursecret yourapikey yourkey yourtoken your256bit your384bit your512bit "
    "mysecret supersecret topsecret secretkey secretsecret verysecret astringsecret "
    "donttell passw0rd password 1234567 qwerty abcdefgh aaaaaaaa xxxxxxxx"
).split()


def check_secret(option: str, secret: object, *, minimum: int) -> bytes:
    """The secret as bytes, if it is one that can't be guessed.

    Args:
        option: its name, for the error.
        secret: the secret, bytes or a string, which is taken as UTF-8.
        minimum: its least length in bytes.

    Raises:
        ConfigurationError: it is no string or bytes, short, a known placeholder, or has hardly any
            different bytes. The secret itself never stands in the message.
    """
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(
            f"{option}: a {type(secret).__name__} is no secret; is the setting behind it set?"
        )
    try:
        raw = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:  # from os.environ, which keeps stray bytes as lone surrogates
        raise ConfigurationError(f"{option}: this is no text; give it as bytes") from None
    mend = """make one: python -c "import secrets; print(secrets.token_urlsafe(32))" """.rstrip()
    if not raw:
        raise ConfigurationError(f"{option}: the secret is empty; {mend}")
    if len(raw) < minimum:
        raise ConfigurationError(
            f"{option}: {len(raw)} bytes are too few, it takes at least {minimum}; {mend}"
        )
    letters = bytes(byte for byte in raw.lower() if chr(byte).isalnum()).decode("latin-1")
    if len(set(raw)) < 5 or any(word in letters for word in _PLACEHOLDERS):
        raise ConfigurationError(f"{option}: this is a placeholder, not a secret; {mend}")
    return raw


def check_key(option: str, key: object) -> bytes:
    """A secret that a client presents as it is, as bytes: at least 16 of visible ASCII.

    Raises:
        ConfigurationError: as `check_secret`, or nobody could ever present it.
    """
    raw = check_secret(option, key, minimum=16)
    if not VISIBLE.fullmatch(raw.decode("latin-1")):
        raise ConfigurationError(f"{option}: use only visible ASCII characters, without spaces")
    return raw
