"""Checks of options that name claims of a token, and the values that claims must have.

A claim is named by a string, a top-level name that is never split at dots, or by a tuple, the path
to it: `("realm_access", "roles")`. Checks return either as a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from asgi_wsauth.options.error import ConfigurationError, shown
from asgi_wsauth.options.values import check_list

__all__ = [
    "ClaimName",
    "ClaimPath",
    "ClaimValue",
    "check_claim",
    "check_claim_or_list",
    "check_claim_values",
    "check_claims",
]

ClaimPath: TypeAlias = tuple[str, ...]
ClaimName: TypeAlias = "str | ClaimPath"
ClaimValue: TypeAlias = "str | int | Collection[str | int]"
"""One value, or all that are allowed. Booleans, too."""


def check_claim(option: str, given: object) -> ClaimPath:
    """The path to a claim.

    Raises:
        ConfigurationError: it names none.
    """
    path = (given,) if isinstance(given, str) else given
    if (
        not isinstance(path, tuple)
        or not path
        or not all(isinstance(name, str) and name for name in path)
    ):
        raise ConfigurationError(
            f'{option} must be the name of a claim, for example "sub", or the path to it, for '
            f'example ("realm_access", "roles"), got {shown(given)}'
        )
    return tuple(str.__str__(name) for name in path)


def check_claims(option: str, given: Iterable[ClaimName]) -> tuple[ClaimPath, ...]:
    """The paths to the claims of a list.

    Raises:
        ConfigurationError: it is no list, or one of them is none.
    """
    return tuple(check_claim(f"{option}: each", name) for name in check_list(option, given))


def check_claim_or_list(
    option: str, given: ClaimName | Sequence[ClaimName]
) -> tuple[ClaimPath, ...]:
    """The paths to one claim, or to those of a `list`: a tuple is one path.

    Raises:
        ConfigurationError: it names none.
    """
    if not isinstance(given, list):
        return (check_claim(option, given),)
    if not given:
        raise ConfigurationError(f'{option} must name a claim, for example "scope", got []')
    return check_claims(option, given)


def check_claim_values(
    option: str, given: Mapping[Any, ClaimValue]
) -> dict[ClaimPath, tuple[str | int, ...]]:
    """The paths to claims, with the values that each may have.

    Its keys are names or paths. To type checkers they are anything, or a variable that is a dict of
    strings would not do: the keys of a Mapping are invariant.

    Raises:
        ConfigurationError: they name no claims, or values that no token could have.
    """
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            f'{option} must be a dict of claims and values, for example {{"token_use": "access"}}, '
            f"got {shown(given)}"
        )
    wanted: dict[ClaimPath, tuple[str | int, ...]] = {}
    for name, value in given.items():
        path = check_claim(f"{option}: each key", name)
        if path in wanted:
            raise ConfigurationError(f"{option} must have each claim once, got {path!r} twice")
        wanted[path] = _check_values(f"{option}[{name!r}]", value)
    return wanted


def _check_values(option: str, given: ClaimValue) -> tuple[str | int, ...]:
    values: tuple[object, ...] = (given,)
    if isinstance(given, (list, tuple)):
        values = tuple(given)
    elif isinstance(given, (set, frozenset)):
        values = tuple(sorted(given, key=repr))  # or logs would have them in any order
    known: list[str | int] = []
    for value in values:
        # Neither None nor "": what comes from a variable that is not set. And no float: 1 and 1.0
        # are one number to some issuers, and two to others.
        if not isinstance(value, (str, int)) or value == "":
            unset = value is None or value == ""
            mend = "; is the environment variable behind it set?" if unset else ""
            raise ConfigurationError(
                f"{option} must be a string, a whole number or a boolean, or a set of them, got "
                f"{shown(given)}{mend}"
            )
        known.append(_plain(value))
    if not known:
        raise ConfigurationError(f"{option} must have a value that is allowed, got {shown(given)}")
    return tuple(known)


def _plain(value: str | int) -> str | int:
    """What it is in JSON: a member of an enumeration has another type, and another hash."""
    if isinstance(value, str):
        return str.__str__(value)
    return value if isinstance(value, bool) else int.__int__(value)
