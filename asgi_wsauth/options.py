"""Every check of an option, and what a bad one raises.

A check takes the option's name, for the message, and what was given for it; it returns that, or
raises `ConfigurationError`. The message says what the option must be and what it got, and where it
helps, how to write it. No check ever puts a secret into a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import Parameter, Signature, iscoroutinefunction, signature
from math import isfinite, isnan
from os import PathLike
from typing import Any, TypeVar, overload

__all__ = [
    "VISIBLE",
    "ConfigurationError",
    "check_app",
    "check_async",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_clock",
    "check_count",
    "check_headers",
    "check_instance",
    "check_issued_secret",
    "check_issuer",
    "check_key",
    "check_list",
    "check_names",
    "check_scopes",
    "check_seconds",
    "check_secret",
    "check_store",
    "check_text",
    "check_texts",
    "check_time",
    "not_given",
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


def check_issuer(issuer: str) -> str:
    """Raises `ConfigurationError` unless it can be an issuer's name for itself."""
    check_text("issuer", issuer, "https://id.example/")
    name, found, _ = issuer.partition("/.well-known/")
    if found:
        raise ConfigurationError(
            f"issuer must be the issuer itself, as its tokens have it in iss, got the address of a "
            f"document, {shown(issuer)}; write {shown(name)} or {shown(name + '/')}, and the "
            "address as discovery_url"
        )
    return issuer


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.1
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")  # section 5.5


def check_headers(option: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request, by their names. No value stands in a message.

    Raises:
        ConfigurationError: they are none.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            f"{option} must be a mapping of names to values, for example "
            f'{{"authorization": "Bearer ..."}}, got a {type(headers).__qualname__}'
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"{option} must have names of headers, got {shown(name)}")
        if not isinstance(value, str):
            raise ConfigurationError(
                f"{option}: {name} must be a string, got a {type(value).__qualname__}"
            )
        if not _HEADER_VALUE.fullmatch(value):
            raise ConfigurationError(
                f"{option}: {name} must be visible ASCII, without a newline or a space at either "
                "end; if it comes from a file, write .strip() after what reads it"
            )
    return dict(headers)


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
    if is_async is True and _is_plain(given):
        raise ConfigurationError(
            f"{option} must be an async function, got {shown(given)}{hint}; write async def, or "
            "annotate what it returns as Awaitable[...]"
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


def _is_async(function: Any) -> bool:
    function = _below_partials(function)
    return iscoroutinefunction(function) or iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - how it is called, not whether
    )


def _is_plain(function: Any) -> bool:
    """Whether it is surely no async function, nor one that returns what an async one does.

    A lambda, and a wrapper, may return anything: what they do return is seen when they are called.
    """
    function = _below_partials(function)
    if _is_async(function) or hasattr(function, "__wrapped__"):
        return False
    called = function if hasattr(function, "__code__") else type(function).__call__
    known = _signature(called)
    if known is None or not hasattr(called, "__code__") or called.__name__ == "<lambda>":
        return False
    if any(p.kind is Parameter.VAR_POSITIONAL for p in known.parameters.values()):
        return False
    return not re.search("Awaitable|Coroutine|Future|Task", str(known.return_annotation))


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
        raise ConfigurationError(f"app must be an ASGI app, got {shown(given)}")
    if not _takes(given, 3):
        raise ConfigurationError(
            f"app must be an ASGI 3 app, which is called with scope, receive and send, got "
            f"{shown(given)}"
        )
    return given


def check_instance(option: str, given: Any, kind: type[T], example: str) -> T:
    """Raises `ConfigurationError` unless it is an object of this class."""
    if not isinstance(given, kind):
        article = "an" if kind.__qualname__[0] in "AEIOU" else "a"
        raise ConfigurationError(
            f"{option} must be {article} {kind.__qualname__}, got {shown(given)}; write for "
            f"example {example}"
        )
    return given


def check_store(
    part: str,
    store: object,
    *methods: str,
    what: str = "store",
    example: str = "MemoryStore()",
) -> None:
    """Check that `store`, or what is called that, has these methods.

    Raises:
        ConfigurationError: it has not.
    """
    if isinstance(store, type):
        raise ConfigurationError(
            f"{part} must be a {what}, got the class {store.__qualname__}; write "
            f"{store.__qualname__}(...)"
        )
    for method in methods:
        if not callable(getattr(store, method, None)):
            raise ConfigurationError(
                f"{part} must be a {what}, got {shown(store)}, which has no method {method}(); "
                f"write for example {example}"
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


# A word of the list, whatever stands between its letters.
_PLACEHOLDER = re.compile(
    "|".join("[^a-zA-Z0-9]*".join(word) for word in sorted(_PLACEHOLDERS, key=len, reverse=True)),
    re.IGNORECASE,
)
_WORD = re.compile("[A-Za-z][a-z]{4,}|[A-Z]{6,}|[0-9]{6,}")  # rare in what is random
_MAKE = "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def not_given(given: object) -> str:
    """Why this is no secret or key, and what to write; the secret itself is not in it."""
    if given is None:
        return "got None; is the environment variable behind it set?"
    kind = type(given).__qualname__
    if callable(getattr(given, "get_secret_value", None)):
        return f"got a {kind}; write .get_secret_value()"
    if isinstance(given, PathLike):
        return f"got a {kind}; write .read_text()"
    return f"got a {kind}"


def check_secret(option: str, secret: object, *, minimum: int) -> bytes:
    """The secret as bytes, if it is one that can't be guessed.

    Args:
        option: its name, for the error.
        secret: the secret, bytes or a string, which is taken as UTF-8.
        minimum: its least length in bytes.

    Raises:
        ConfigurationError: it is no string or bytes, short, a known placeholder, has hardly any
            different bytes, or is a text with space at an end. The secret itself never stands in
            the message.
    """
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(f"{option} must be a string or bytes, {not_given(secret)}")
    try:
        raw = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:  # from os.environ, which keeps stray bytes as lone surrogates
        raise ConfigurationError(f"{option} must be a text; give other bytes as bytes") from None
    if not raw:
        raise ConfigurationError(
            f"{option} must not be empty; is the environment variable behind it set? To {_MAKE}"
        )
    _check_ends(option, secret)
    if len(raw) < minimum:
        raise ConfigurationError(
            f"{option} must have at least {minimum} bytes, got {len(raw)}; {_MAKE}"
        )
    if len(set(raw)) < 5 or _is_placeholder(raw, minimum):
        raise ConfigurationError(f"{option} must be random, got a placeholder; {_MAKE}")
    return raw


def check_issued_secret(option: str, secret: str) -> str:
    """A secret that somebody else made, who answers for it: a string, without space at its ends.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(secret, str):
        raise ConfigurationError(f"{option} must be a string, {not_given(secret)}")
    if not secret:
        raise ConfigurationError(
            f"{option} must not be empty; is the environment variable behind it set?"
        )
    _check_ends(option, secret)
    return secret


def _check_ends(option: str, secret: str | bytes) -> None:
    if _has_space_around(secret):
        raise ConfigurationError(
            f"{option} must not begin or end with a space or a newline, as what was read from a "
            "file often does; write .strip()"
        )


def _has_space_around(secret: str | bytes) -> bool:
    """Bytes that are no text may be any, at their ends too."""
    if isinstance(secret, bytes):
        if not re.fullmatch(rb"[\t\n\r\x20-\x7e]*", secret):
            return False
        secret = secret.decode()
    return secret != secret.strip()


def _is_placeholder(raw: bytes, minimum: int) -> bool:
    """Whether it lives by a word of the list: without it, it is short, or made of words."""
    text = raw.decode("latin-1")
    rest, found = _PLACEHOLDER.subn(lambda word: re.sub("[a-zA-Z0-9]", "", word[0]), text)
    if not found:
        return False
    mixed = _WORD.sub("", re.sub("[^a-zA-Z0-9]", "", rest))
    return len(rest) < minimum or len(mixed) < 11 or len(set(mixed)) < 8


def check_key(option: str, key: object) -> bytes:
    """A secret that a client presents as it is, as bytes: at least 16 of visible ASCII.

    Raises:
        ConfigurationError: as `check_secret`, or nobody could ever present it.
    """
    raw = check_secret(option, key, minimum=16)
    if not VISIBLE.fullmatch(raw.decode("latin-1")):
        raise ConfigurationError(f"{option} must be visible ASCII characters, without spaces")
    return raw
