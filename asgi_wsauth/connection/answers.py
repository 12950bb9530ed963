"""The messages that refuse a client."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from asgi_wsauth.connection.budget import close_within_budget
from asgi_wsauth.connection.closing import close_message, try_send
from asgi_wsauth.connection.rejection import ChosenRejection
from asgi_wsauth.denial import Denied, HTTPAnswer, http_refusal
from asgi_wsauth.sources import Source
from asgi_wsauth.sources.subprotocol import choose_subprotocol

__all__ = ["http_answer", "refuse"]


async def refuse(
    scope: Scope,
    receive: Receive,
    send: Send,
    denied: Denied,
    code: int,
    *,
    way: ChosenRejection,
    sources: Sequence[Source],
) -> None:
    """Refuse a handshake that hasn't been answered.

    Args:
        scope: the handshake, redacted.
        receive: the server's.
        send: the server's.
        denied: why.
        code: the close code for that.
        way: how to refuse it.
        sources: where a credential might have stood among the offered subprotocols.
    """
    try:
        subprotocol = choose_subprotocol(scope, sources)
        can_answer = "websocket.http.response" in (scope.get("extensions") or {})
    except Exception:  # a scope that no server should build, which is why it is refused
        subprotocol, can_answer = None, False
    if way.rejection == "accept_then_close":
        accept: Message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}
        if await close_within_budget(scope, receive, send, denied, code, accept):
            return
    if way.rejection != "close" and can_answer:  # also where too many are not gone yet
        await try_send(
            send, *http_answer(http_refusal(denied, way.retry_after), "websocket.http.response")
        )
    else:
        await try_send(send, close_message(denied, code))


def http_answer(answer: HTTPAnswer, prefix: str = "http.response") -> tuple[Message, Message]:
    """The messages that send an HTTP answer."""
    status, headers, body = answer
    return (
        {"type": f"{prefix}.start", "status": status, "headers": headers},
        {"type": f"{prefix}.body", "body": body},
    )
