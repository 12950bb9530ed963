"""Finds an app's authenticator: `chat.app:auth`, or what holds one: `chat.app:app`.

No error here repeats what was given: it may be a token that was typed in the wrong place.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.events import raised
from asgi_wsauth.options import ConfigurationError, kind_of
from asgi_wsauth.printable import escaped

__all__ = ["Found", "load"]

_WRONG = (
    "AUTHENTICATOR must be where it is in your code, as module:name, for example chat.app:auth; "
    "a token comes from --token-env NAME or --token-file FILE"
)


@dataclass(frozen=True)
class Found:
    """An authenticator, and where it is.

    Attributes:
        authenticator: the authenticator.
        guard: what holds it, for example `WebSocketAuthMiddleware`; "" if it was named itself.
        required_scopes: what that asks for.
    """

    authenticator: Authenticator
    guard: str = ""
    required_scopes: frozenset[str] = frozenset()


def load(place: str) -> list[Found]:
    """What is at a place, once for each guard that holds it. The current directory can be imported
    from, as with uvicorn.

    Raises:
        ConfigurationError: there is no authenticator, or there are several.
    """
    module, _, path = place.partition(":")
    if not all(name.isidentifier() for name in [*module.split("."), *path.split(".")]):
        raise ConfigurationError(_WRONG)
    thing = _imported(module)
    for name in path.split("."):
        if not hasattr(thing, name):
            raise ConfigurationError(f"AUTHENTICATOR: nothing there has that name{_other(thing)}")
        thing = getattr(thing, name)
    found = list(_holders(thing))
    if not found:
        raise ConfigurationError(
            f"AUTHENTICATOR must be an Authenticator, or an app that has one, got {kind_of(thing)}"
        )
    if len({id(one.authenticator) for one in found}) > 1:
        guards = ", ".join(dict.fromkeys(one.guard for one in found))
        raise ConfigurationError(
            f"AUTHENTICATOR: there are several in it ({guards}); name one of them itself"
        )
    return found


def _imported(module: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as exc:
        missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise ConfigurationError(
                "AUTHENTICATOR: there is no such module; run this where you start your server, or "
                "set PYTHONPATH"
            ) from None
        kind, at = raised(exc)
        raise ConfigurationError(
            f"AUTHENTICATOR: importing it raised {kind} in {at}: {escaped(str(exc))}"
        ) from None


def _other(thing: object) -> str:
    names = getattr(thing, "__dict__", {}).items()
    found = [name for name, value in names if isinstance(value, Authenticator)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _holders(thing: Any) -> Iterator[Found]:
    """The authenticators of a thing: it itself, or those of the middlewares that are around one
    another (as `app`), and of those in a Starlette app's list."""
    for _ in range(_DEEPEST):
        if isinstance(thing, Authenticator):
            yield Found(thing)
        held = getattr(thing, "authenticator", None)
        if isinstance(held, Authenticator):
            scopes = getattr(thing, "required_scopes", ())
            yield Found(held, type(thing).__qualname__, frozenset(scopes))
        for one in getattr(thing, "user_middleware", ()):
            for held in (*one.args, *one.kwargs.values()):
                if isinstance(held, Authenticator):
                    scopes = one.kwargs.get("required_scopes", ())
                    yield Found(held, one.cls.__qualname__, frozenset(scopes))
        thing = getattr(thing, "app", None)


_DEEPEST = 50
