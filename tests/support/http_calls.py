"""HTTP requests by hand, and an app that answers them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from handshakes import App, websocket

from asgi_wsauth import Principal

__all__ = ["Answer", "Api", "call", "request", "sends"]


def request(
    method: str = "GET",
    query: str = "",
    *,
    path: str = "/api",
    headers: Iterable[tuple[str, str]] = (),
    **more: Any,
) -> dict[str, Any]:
    """The scope of an HTTP request, as a server would build it."""
    scope = websocket(query, path=path, headers=headers)
    del scope["subprotocols"]
    return {**scope, "type": "http", "scheme": "http", "method": method, "extensions": {}, **more}


@dataclass
class Answer:
    """What a client was answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    received: int
    """How many messages the app took."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of a header, which is there once at most."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, values
        return values[0] if values else None


def sends(*body: bytes) -> Callable[[], Any]:
    """What a client says that sends a body in these parts; asking for more is an error."""
    parts = body or (b"",)
    messages = iter(
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    )

    async def receive() -> Any:
        return next(messages)

    return receive


async def call(
    app: Callable[..., Any],
    scope: dict[str, Any],
    *body: bytes,
    receive: Callable[[], Any] | None = None,
) -> Answer:
    """Send a request with these parts of a body."""
    sent: list[dict[str, Any]] = []
    incoming = receive or sends(*body)
    received = 0

    async def count() -> Any:
        nonlocal received
        received += 1
        return await incoming()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, count, send)
    start, end = sent
    assert (start["type"], end["type"]) == ("http.response.start", "http.response.body")
    headers = [(key.decode(), value.decode()) for key, value in start["headers"]]
    return Answer(start["status"], headers, end["body"], received)


class Api(App):
    """An app for both protocols that keeps what it was handed; to a request it says who asks."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)
        if scope["type"] == "http":
            user = scope.get("user")
            who = user.identity if isinstance(user, Principal) else user
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(who).encode()})
