"""What HTTP costs, in process: a response in one piece, and a stream of a hundred, beside the same
where nothing may end it, and beside Starlette's middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from handshakes import SECRET, mint, now, websocket
from starlette.middleware.authentication import AuthenticationMiddleware

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, JWTVerifier

from .handshake import App, all_decode_with, alternatives
from .measure import Loop, Row, interleaved

_OURS = "ours"
_NEVER_ENDED = "ours, enforce_expiry=False"
_STARLETTE = "Starlette's middleware"

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"server", b"uvicorn")],
}
_LAST = {"type": "http.response.body", "body": b"{}"}
_MORE = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
_REQUEST = {"type": "http.request", "body": b"", "more_body": False}


async def _in_one_piece(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(_START)
    await send(_LAST)


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send(_START)
    for _ in range(100):
        await send(_MORE)
    await send(_LAST)


def rows(short: bool) -> Iterator[Row]:
    all_decode_with(SECRET, "HS256")
    with Loop(short) as loop:
        for what, app, target in (
            ("a response in one piece", _in_one_piece, "≤ 1.05"),
            ("a stream of a hundred pieces", _stream, ""),
        ):
            candidates = {
                _OURS: _answered(loop, _guarded(app)),
                _NEVER_ENDED: _answered(loop, _guarded(app, enforce_expiry=False)),
                _STARLETTE: _answered(loop, AuthenticationMiddleware(app, alternatives.Backend())),
            }
            yield from interleaved(
                what, "µs", candidates, _NEVER_ENDED, 1 if short else 40, targets={_OURS: target}
            )


def _guarded(app: App, **options: Any) -> App:
    auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"])])
    return HTTPAuthMiddleware(app, auth, allow_unguarded_websockets=True, **options)


def _answered(loop: Loop, app: App) -> Callable[[], float]:
    """What measures a request that is answered."""
    template = websocket(f"token={mint(exp=now() + 3600, iat=now())}")
    del template["subprotocols"]
    template |= {"type": "http", "scheme": "http", "method": "GET"}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        if not sent:
            sent.append(message)

    def request() -> Awaitable[None]:
        scope = {**template, "headers": [*template["headers"]], "state": {}}
        return app(scope, _receive, send)

    loop.run(request())  # type: ignore[arg-type]
    assert sent == [_START]
    return loop.per_call(request)


async def _receive() -> Any:
    return _REQUEST
