"""The chain of verifiers: asked in their order, until one of them claims the credential."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from inspect import isawaitable
from typing import TypeVar

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import kind_of
from asgi_wsauth.verifiers import Verifier

__all__ = ["Misuse", "awaitable", "identify", "no_principal"]

T = TypeVar("T")


class Misuse(TypeError):
    """A function of the app's returned what it must not. The text quotes no credential."""


async def identify(
    verifiers: Iterable[Verifier], credential: Credential, conn: HTTPConnection
) -> tuple[Principal, Verifier]:
    """Whom the credential vouches for, and which verifier says so.

    Raises:
        Denied: a verifier refuses it, or none of them recognises it (`Reason.INVALID`).
        Misuse: a verifier returned something else than a principal or None.
    """
    note = credential.note
    for verifier in verifiers:
        if note is not None:
            note("verifier", repr(verifier))
        principal = await awaitable(verifier, verifier(credential, conn))
        if principal is None:
            if note is not None:
                note("not mine", "")
            continue
        if not isinstance(principal, Principal):
            raise no_principal(f"{verifier!r}", principal)
        return principal, verifier
    detail = "no verifier recognised the credential"
    if credential.hints:
        detail += f": {'; '.join(dict.fromkeys(credential.hints))}"
    raise Denied(Reason.INVALID, detail)


def no_principal(function: str, given: object) -> Misuse:
    """What to raise where a function of the app's returned neither a principal nor None."""
    return Misuse(f"{function} must return a Principal or None, got {kind_of(given)}")


def awaitable(function: object, result: Awaitable[T]) -> Awaitable[T]:
    """The result of an async function of the app's, to be awaited.

    Raises:
        Misuse: the function is not async.
    """
    if hasattr(result, "__await__") or isawaitable(result):
        return result
    raise Misuse(f"{function} must be an async function, got one that returns {kind_of(result)}")
