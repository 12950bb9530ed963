"""The apps of docs/migration.md: `/code-of-your-own/before` is the first one, and so on.

`migration_apps:app` is what a server runs; SECRET and SITE_DATABASE are in its environment.
"""

from __future__ import annotations

import os
import re
from typing import Any

import django_site
from pages import PAGES, code_in

PAGE = PAGES["docs/migration.md"]
WAYS = {  # each heading, and where a client sends the token there
    "Code of your own": "message",
    "Starlette's AuthenticationMiddleware": "query",
    "A FastAPI dependency": "query",
    "Channels' AuthMiddlewareStack": "cookie",
    "Channels with a token middleware": "query",
}


def sections(text: str, level: str) -> dict[str, str]:
    parts = re.split(rf"^{level} (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


SECTIONS = sections(PAGE, "##")


def slug(heading: str) -> str:
    return re.sub(r"[^a-z-]", "", heading.lower().replace(" ", "-"))


def defined(section: str) -> dict[str, Any]:
    (code,) = code_in(section)
    names: dict[str, Any] = {"__name__": "page"}
    # Nobody waits ten seconds for a client that says nothing, or 30 for a token that has expired;
    # all clients are there at the same time, and one that says something may be slow.
    code = code.replace("FirstMessage(", "FirstMessage(timeout=5, ")
    code = code.replace('algorithms=["HS256"]', 'algorithms=["HS256"], leeway=0')
    exec(code, names)
    return names


async def chat(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def _apps() -> dict[str, Any]:
    found = {}
    for heading in WAYS:
        parts = sections(SECTIONS[heading], "###")
        for when in ("Before", "After"):
            found[f"/{slug(heading)}/{when.lower()}"] = defined(parts[when])["app"]
    order = defined(SECTIONS["In which order"])
    found["/with-403"] = order["with_403"](chat)
    found["/with-4401"] = order["with_4401"](chat)
    found["/site"] = django_site.site
    return found


class ByPath:
    """The apps have the same path, and each has the server's own scope."""

    def __init__(self) -> None:
        self.apps = _apps()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        (name,) = (name for name in self.apps if scope["path"].startswith(name))
        scope["path"] = scope["path"].removeprefix(name) or "/chat"
        scope["raw_path"] = scope["path"].encode()
        await self.apps[name](scope, receive, send)


if "WIRE_PORT" in os.environ:
    app = ByPath()
