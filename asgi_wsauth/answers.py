"""The messages that tell a client no."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from starlette.types import Message, Scope, Send

from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, Denied, HTTPAnswer, http_refusal
from asgi_wsauth.events import logger
from asgi_wsauth.sources import Source, answer

__all__ = ["Rejection", "close", "http_answer", "refuse", "try_send"]

Rejection: TypeAlias = Literal["accept_then_close", "http_response", "close"]


async def refuse(
    scope: Scope,
    send: Send,
    denied: Denied,
    code: int,
    *,
    rejection: Rejection,
    sources: Sequence[Source],
) -> None:
    """Refuse a handshake that nobody has answered.

    Args:
        scope: the handshake, redacted.
        send: the server's.
        denied: why.
        code: the close code for that.
        rejection: how it is to be told.
        sources: where a credential might have stood among the offered subprotocols.
    """
    try:
        subprotocol = answer(scope, sources)
        can_answer = "websocket.http.response" in (scope.get("extensions") or {})
    except Exception:  # a scope that no server should build, which is why it is refused
        subprotocol, can_answer = None, False
    if rejection == "accept_then_close":
        accept: Message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}
        await close(send, denied, code, accept)
    elif rejection == "http_response" and can_answer:
        await try_send(send, *http_answer(http_refusal(denied), "websocket.http.response"))
    else:
        await try_send(send, _close(denied, code))


async def close(send: Send, denied: Denied, code: int, *first: Message) -> None:
    """Close a socket that was accepted, or is by `first`."""
    failure = await try_send(send, *first, _close(denied, code))
    spare = DAPHNE_CLOSE_CODES.get(denied.reason, code)
    if failure is not None and not isinstance(failure, OSError) and spare != code:
        # Daphne raises for a code that it can't send, and would keep the socket open.
        logger.warning("the server can't send %d: sent %d; see close_codes", code, spare)
        await try_send(send, _close(denied, spare))


def _close(denied: Denied, code: int) -> Message:
    return {"type": "websocket.close", "code": code, "reason": denied.reason.phrase}


def http_answer(answer: HTTPAnswer, prefix: str = "http.response") -> tuple[Message, Message]:
    """The messages that send an HTTP answer."""
    status, headers, body = answer
    return (
        {"type": f"{prefix}.start", "status": status, "headers": headers},
        {"type": f"{prefix}.body", "body": body},
    )


async def try_send(send: Send, *messages: Message) -> Exception | None:
    """Send an answer; what the server raises is returned. A client that is gone by now is nobody's
    error."""
    try:
        for message in messages:
            await send(message)
    except Exception as exc:
        logger.debug("the client could not be told: %s", type(exc).__qualname__)
        return exc
    return None
