"""What docs/guides/logins.md shows, run as it stands. `logins_page:app` is what a server runs:
its app for Starlette, and behind /proxy one whose users a proxy has logged in.
"""

from __future__ import annotations

import os
from typing import Any

from pages import PAGES, code_in

from asgi_wsauth import DAPHNE_CLOSE_CODES, WebSocketAuthMiddleware

PAGE = PAGES["docs/guides/logins.md"]
ORIGIN = "https://chat.example"
SECRET = "Zk4vQ9wT2mX7bN1sR6yD"


def blocks(heading: str) -> list[dict[str, Any]]:
    """What the Python blocks below a heading define."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = []
    for code in code_in(section):
        names: dict[str, Any] = {"__name__": "page"}
        exec(code, names)
        found.append(names)
    assert found
    return found


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says who is there, and what was left of the headers."""
    await receive()
    await send({"type": "websocket.accept"})
    told = f"{scope['user'].identity} {dict(scope['headers'])}"
    await send({"type": "websocket.send", "text": told})
    await receive()


class Both:
    def __init__(self) -> None:
        os.environ.update(SECRET=SECRET, PROXY_SECRET=SECRET)
        (starlette,) = blocks("Starlette and FastAPI")
        (proxy,) = blocks("A proxy that logs users in")
        codes = DAPHNE_CLOSE_CODES if "ON_DAPHNE" in os.environ else {}
        self.starlette = starlette["app"]
        self.proxy = WebSocketAuthMiddleware(
            echo, proxy["auth"], close_codes=codes, allow_unguarded_http=True
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        behind_proxy = scope.get("path", "").startswith("/proxy")
        await (self.proxy if behind_proxy else self.starlette)(scope, receive, send)


if "WIRE_PORT" in os.environ:
    app = Both()
