"""What stands inside a middleware, where it does harm there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cases import cases
from handshakes import App, authenticator
from starlette.authentication import AuthenticationBackend
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from asgi_wsauth import HTTPAuthMiddleware, WebSocketAuthMiddleware

REPLACES = "AuthenticationMiddleware is inside {}, and replaces the user"
SEES_NONE = "CORSMiddleware is inside {}, and sees no preflight"


class Mine(AuthenticationMiddleware):
    """Somebody's own."""


def users(app: Any, kind: Any = AuthenticationMiddleware) -> Any:
    return kind(app, backend=AuthenticationBackend())


def sockets(app: Any, **options: Any) -> WebSocketAuthMiddleware:
    return WebSocketAuthMiddleware(app, authenticator(), **options)


def requests(app: Any, **options: Any) -> HTTPAuthMiddleware:
    return HTTPAuthMiddleware(app, authenticator(), **options)


@cases(
    ("build", "told"),
    [
        (lambda app: sockets(users(app)), [REPLACES.format("WebSocketAuthMiddleware")]),
        (lambda app: requests(users(app)), [REPLACES.format("HTTPAuthMiddleware")]),
        (
            lambda app: sockets(GZipMiddleware(users(app))),
            [REPLACES.format("WebSocketAuthMiddleware")],
        ),
        (lambda app: sockets(users(app, Mine)), ["Mine is inside WebSocketAuthMiddleware"]),
        (lambda app: users(sockets(app)), []),
        (lambda app: requests(CORSMiddleware(app)), [SEES_NONE.format("HTTPAuthMiddleware")]),
        (lambda app: requests(CORSMiddleware(app), preflight="pass"), []),
        (lambda app: CORSMiddleware(requests(app)), []),
        (lambda app: sockets(CORSMiddleware(app)), []),
    ],
)
def test_the_log_warns_of_it(
    build: Callable[[Any], Any], told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    build(App())
    assert len(caplog.messages) == len(told)
    assert all(
        message.startswith(begin) for message, begin in zip(caplog.messages, told, strict=True)
    )


def test_one_that_is_around_itself_is_looked_at_once(caplog: pytest.LogCaptureFixture) -> None:
    around = users(App())
    around.app = around
    sockets(around)
    assert len(caplog.messages) == 1
