"""How clients log in by the first message that they send: one dialect for each kind of them.

    ours                    {"type": "auth", "token": "..."}
    graphql-transport-ws    {"type": "connection_init", "payload": {"Authorization": "Bearer ..."}}
    home-assistant          {"type": "auth", "access_token": "..."}, in answer to "auth_required"

Sources: the GraphQL over WebSocket Protocol, "graphql-transport-ws" (the older "graphql-ws" has the
same first message), and Home Assistant's WebSocket API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import ConfigurationError, check_callable, shown

__all__ = ["Dialect", "DialectName", "Read", "dialect_for", "token_in", "without_token"]

DialectName: TypeAlias = Literal["graphql-transport-ws", "home-assistant"]

Read: TypeAlias = Callable[[str | bytes], str | None]
"""Finds the credential in a message; None for a message that is another one."""


@dataclass(frozen=True)
class Dialect:
    """What clients of one kind say, and what they are told.

    Attributes:
        read: finds the credential. It may raise `Denied`.
        subprotocols: what to accept with, the best one first.
        hello: what a client is told first.
        welcome: what it is told when it was admitted.
        farewell: the type of what it is told, before the close, when it was refused.
    """

    read: Read
    subprotocols: tuple[str, ...] = ()
    hello: str | None = None
    welcome: str | None = None
    farewell: str | None = None

    def refusal(self, denied: Denied) -> str | None:
        """What a refused client is told before the close. Nothing where it is to come again: what
        such a message means to clients is that their token is no good."""
        if self.farewell is None or denied.reason.advice not in _ABOUT_THE_TOKEN:
            return None
        return json.dumps({"type": self.farewell, "message": denied.reason.phrase})


_ABOUT_THE_TOKEN = ("stop", "refresh", "log in again")


def dialect_for(option: str, given: object) -> Dialect:
    """The dialect of that name, or a user's own, which is a function; None for ours.

    Raises:
        ConfigurationError: there is no such dialect, or the function can't be called.
    """
    if given is None:
        return _OURS
    if isinstance(given, str) and given in _KNOWN:
        return _KNOWN[given]
    if not callable(given):
        names = ", ".join(f'"{name}"' for name in _KNOWN)
        raise ConfigurationError(
            f"{option} must be one of {names}, or a function from a message to the token in it, "
            f"got {shown(given)}"
        )
    example = "it is called with the message, and returns the token in it or None"
    function: Any = check_callable(option, given, takes=1, is_async=False, example=example)
    return Dialect(function)


def token_in(message: str | bytes, kind: str, key: str = "token") -> str | None:
    """The credential in a message `{"type": kind, key: "..."}`; None for any other message.

    Raises:
        Denied: with `Reason.MALFORMED`, where it is such a message without one.
    """
    found = _object(message, kind)
    if found is None:
        return None
    token = found.get(key)
    if not isinstance(token, str):
        raise Denied(Reason.MALFORMED, f'a message "{kind}" without a token')
    return token


def _object(message: str | bytes, kind: str) -> dict[str, Any] | None:
    try:
        found = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("type") == kind else None


_BEARER = re.compile("^ *bearer(?: +|$)", re.IGNORECASE)


def _graphql_token(message: str | bytes) -> str | None:
    """The credential in a `connection_init`, which every client sends, logged in or not."""
    found = _object(message, "connection_init")
    if found is None:
        return None
    payload = found.get("payload")
    if not isinstance(payload, (dict, type(None))):
        raise Denied(Reason.MALFORMED, "the payload of connection_init is no object")
    given = [value for key, value in (payload or {}).items() if key.lower() == "authorization"]
    if len(given) > 1:
        raise Denied(Reason.MALFORMED, f"connection_init has Authorization {len(given)} times")
    value = given[0] if given else None
    if not isinstance(value, (str, type(None))):
        raise Denied(Reason.MALFORMED, "Authorization in connection_init is no string")
    token = _BEARER.sub("", value or "").strip(" ")
    if not token:
        raise Denied(Reason.MISSING, "connection_init has no Authorization")
    return token


_OURS = Dialect(lambda message: token_in(message, "auth"))
_KNOWN: dict[str, Dialect] = {
    "graphql-transport-ws": Dialect(
        _graphql_token, subprotocols=("graphql-transport-ws", "graphql-ws")
    ),
    "home-assistant": Dialect(
        lambda message: token_in(message, "auth", "access_token"),
        hello='{"type": "auth_required"}',
        welcome='{"type": "auth_ok"}',
        farewell="auth_invalid",
    ),
}


# A message for the app


def without_token(message: str | bytes, token: str) -> str | bytes:
    """A message without the credential that was found in it.

    In JSON, each member of an object that is the credential, with or without a scheme before it, is
    left out; in a list, null takes its place. From longer strings, such as an address, and from any
    other message, the credential is cut out.

    Raises:
        Denied: with `Reason.ERROR`, if it doesn't stand there as it is.
    """
    if isinstance(message, str):
        try:
            value = json.loads(message)
            rest = _without(value, token)
            if rest != value:
                return json.dumps(rest, allow_nan=False)
        except (ValueError, RecursionError):  # no JSON, or none that can be written again
            pass
        if token in message:
            return message.replace(token, "")
    elif (encoded := token.encode(errors="surrogatepass")) in message:
        return message.replace(encoded, b"")
    raise Denied(Reason.ERROR, "replay: the message doesn't have the token as it is")


def _without(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        kept = {key: v for key, v in value.items() if not _is(v, token)}
        return {key.replace(token, ""): _without(v, token) for key, v in kept.items()}
    if isinstance(value, list):
        return [None if _is(v, token) else _without(v, token) for v in value]
    return value.replace(token, "") if isinstance(value, str) else value


def _is(value: object, token: str) -> bool:
    return isinstance(value, str) and value.strip(" ").rpartition(" ")[2] == token
