"""The guides' blocks for web pages, in Chromium against a real server, as they stand there but for
their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium
from node_clients import node_module
from pages import blocks
from playwright.sync_api import Page, Route
from servers import Server, pooled
from wsauth_page import SOURCE

from asgi_wsauth import Authenticator, ConfigurationError

pytestmark = pytest.mark.live

AUTH_SOCKET, RECONNECTING = blocks("docs/guides/browsers.md", "js")
(TICKET,) = blocks("docs/guides/tickets.md", "js")
LIBRARIES = {
    "reconnecting-websocket": "reconnecting-websocket/dist/reconnecting-websocket-mjs.js",
    "partysocket/ws": "partysocket/dist/ws.js",
}

# What the blocks take from their page: a login form, and somewhere to show things.
_PAGE = """
globalThis.shown = [];
globalThis.logins = 0;
globalThis.show = (text) => shown.push(text);
globalThis.showLogin = () => new Promise((done) => { logins += 1; globalThis.logIn = done; });
"""


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets")


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(_PAGE)
        yield page


@pytest.fixture
def page(browser_page: Page, server: Server) -> Iterator[Page]:
    """A page of the server; the modules are beside it."""
    scripts = {name: node_module(path) for name, path in LIBRARIES.items()}
    scripts |= {"wsauth.js": SOURCE}

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(f"{server.origin}/modules/")
        route.fulfill(content_type="text/javascript", body=scripts[name])

    browser_page.route(f"{server.origin}/modules/**", answer)
    browser_page.goto(f"{server.origin}/page")
    yield browser_page
    browser_page.unroute_all()
    browser_page.context.clear_cookies()


def log_in(page: Page, name: str) -> None:
    page.evaluate("(name) => { document.cookie = `session=until-ever-${name}`; }", name)


def run(page: Page, server: Server, block: str, path: str) -> None:
    """Run a block as a module of the page, with sockets to this path."""
    sockets = f"ws://127.0.0.1:{server.port}{path}"
    for name in ("./wsauth.js", *LIBRARIES):
        block = block.replace(f'from "{name}"', f'from "/modules/{name.removeprefix("./")}"')
    block = block.replace('"/ws"', f'"{path}"').replace("wss://chat.example/ws", sockets)
    page.add_script_tag(type="module", content=block)


@pytest.mark.parametrize(
    "block",
    [
        AUTH_SOCKET,
        RECONNECTING,
        RECONNECTING.replace('"reconnecting-websocket"', '"partysocket/ws"'),
    ],
    ids=["wsauth.js", "reconnecting-websocket", "partysocket"],
)
def test_it_shows_messages_and_comes_back_after_a_new_login(
    page: Page, server: Server, block: str
) -> None:
    name = server.new_test()
    log_in(page, name)
    run(page, server, block, "/live/sends")
    page.wait_for_function("shown.length > 0")
    server.get("/revoke", kind="user", name=name)
    page.wait_for_function("logins === 1")
    page.evaluate("shown.length = 0")
    log_in(page, server.new_test())
    page.evaluate("logIn()")
    page.wait_for_function("shown.length > 0")
    assert page.evaluate("logins") == 1


@pytest.mark.parametrize("block", [RECONNECTING], ids=["reconnecting-websocket"])
def test_without_a_login_the_page_is_asked_for_one(page: Page, server: Server, block: str) -> None:
    run(page, server, block, "/live/sends")
    page.wait_for_function("logins === 1")


def test_a_ticket_opens_a_socket(page: Page, server: Server) -> None:
    log_in(page, "ann")
    run(page, server, f"{TICKET}\nsocket.onmessage = ({{ data }}) => show(data);", "/live/sends")
    page.wait_for_function("shown.length > 0")


def test_a_page_from_a_file_has_an_origin_that_can_not_be_listed(
    page: Page, server: Server, tmp_path: Path
) -> None:
    file = tmp_path / "window.html"
    file.write_text("<!doctype html>")
    page.goto(file.as_uri())
    assert page.evaluate("origin") == "null"
    closed = page.evaluate(
        """(url) => new Promise((done) => {
          new WebSocket(url).onclose = ({ reason }) => done(reason);
        })""",
        f"ws://127.0.0.1:{server.port}/guarded?token=opaque-1",
    )
    assert closed == "origin_not_allowed"
    with pytest.raises(ConfigurationError, match="'null'"):
        Authenticator([], required=False, allowed_origins=["null"])
