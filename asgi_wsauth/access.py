"""What an app asks of the connection that it serves: `current_session`, `current_principal`.

Both are FastAPI dependencies, for HTTP and for WebSockets:

    User = Annotated[Principal, Depends(current_principal)]

    @app.websocket("/chat")
    async def chat(websocket: WebSocket, user: User) -> None: ...
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from asgi_wsauth.connection.session import Session
from asgi_wsauth.credential import Principal
from asgi_wsauth.options import ConfigurationError

__all__ = ["current_principal", "current_session"]


def current_session(conn: HTTPConnection) -> Session:
    """The login of a connection: `scope["wsauth"]`, with its type.

    While login is off (`required`), it is that of the authenticator's `anonymous`.

    Args:
        conn: Starlette's or FastAPI's `Request` or `WebSocket`. FastAPI fills it in by itself.

    Raises:
        ConfigurationError: no middleware has decided about this connection: none is around the app
            for its protocol, or the path is in `exclude` or not in `only`. If a path is for
            visitors with and without a login, use `conn.scope.get("wsauth")`, which is None without
            one.
    """
    found = conn.scope.get("wsauth")
    if isinstance(found, Session):
        return found
    guard = _GUARDS.get(conn.scope["type"], _GUARDS["http"])
    raise ConfigurationError(
        f"no login was checked for this connection: put {guard}(app, authenticator) around the "
        "app; if it is there, take the path out of exclude, or add it to only"
    )


_GUARDS = {"http": "HTTPAuthMiddleware", "websocket": "WebSocketAuthMiddleware"}


def current_principal(conn: HTTPConnection) -> Principal:
    """Who is behind a connection: `current_session(conn).principal`.

    It is always a `Principal`, even if `load_user` makes `scope["user"]` an object of the app's
    own; after a refresh, it is that of the new credential.

    Args:
        conn: as in `current_session`.

    Raises:
        ConfigurationError: as in `current_session`.
    """
    return current_session(conn).principal
