"""examples/tickets.py, run as its first lines say: by a program, and in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
from browser import chromium
from handshakes import A_JWT
from playwright.sync_api import Browser, BrowserContext, Page, expect
from run_example import EXAMPLES, Running, running
from servers import Seen

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "tickets.py"
FOREIGN = "http://127.0.0.1:1"  # an origin is only compared

# What Chromium itself writes on the console where a status is an error.
ERROR_STATUS = re.compile(r"Failed to load resource: the server responded with a status of 40[13]")


class Example:
    """The running example, as its users talk to it."""

    def __init__(self, process: Running) -> None:
        self.process = process
        self.origin = process.origin
        found = re.match(
            rf"Open {self.origin} and log in with the password (\S+)\n", process.written
        )
        assert found, process.written
        self.password = found[1]

    def ask(
        self, method: str, path: str, body: str = "", *, origin: str | None = None, cookie: str = ""
    ) -> Seen:
        headers = _headers(origin, cookie)
        return self.process.ask(method, path, headers=headers, body=body.encode("latin-1"))

    def log_in(self) -> str:
        """A login cookie."""
        form = urlencode({"password": self.password})
        answer = self.ask("POST", "/login", form, origin=self.origin)
        assert (answer.status, answer.json) == (200, {"name": "alice"})
        return answer.headers["set-cookie"].partition(";")[0]

    def ticket(self, path: str = "/ws") -> str:
        asked = json.dumps({"path": path})
        answer = self.ask("POST", "/ticket", asked, origin=self.origin, cookie=self.log_in())
        assert answer.status == 201, answer
        return answer.json["ticket"]

    def open(
        self, path: str, token: str = "", *, origin: str | None = "", cookie: str = ""
    ) -> tuple[Any, ...]:
        """What a socket gets: the greeting and the answer to a message, or the close, or the
        status. It comes from the page's origin, where no other is named."""
        headers = _headers(self.origin if origin == "" else origin, cookie)
        seen = self.process.talk(path, say=["hi"], headers=headers, token=token or None)
        return seen.close or tuple(seen.messages) or (seen.status,)


def _headers(origin: str | None, cookie: str) -> list[tuple[str, str]]:
    named = {"Origin": origin, "Cookie": cookie}
    return [(name, value) for name, value in named.items() if value]


@contextmanager
def tickets() -> Iterator[tuple[Example, Running]]:
    with running(str(EXAMPLE)) as process:
        example = Example(process)
        yield example, process
    log = process.written.partition("\n")[2]
    assert not re.search(rf"wst_|{A_JWT}|token=", log), log
    assert example.password not in log


@pytest.fixture(scope="module")
def example() -> Iterator[Example]:
    with tickets() as (example, _):
        yield example


# A program


def test_a_login_is_a_cookie_that_no_script_can_read(example: Example) -> None:
    form = urlencode({"password": example.password})
    answer = example.ask("POST", "/login", form, origin=example.origin)
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {attribute.lower() for attribute in attributes} == {
        *("httponly", "samesite=lax", "path=/", "max-age=3600")
    }
    me = example.ask("GET", "/me", origin=example.origin, cookie=cookie)
    assert (me.status, me.json) == (200, {"name": "alice"})
    answer = example.ask("POST", "/logout", origin=example.origin, cookie=cookie)
    assert answer.status == 200
    assert answer.headers["set-cookie"].startswith('tickets_login=""; ')
    assert "max-age=0" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("body", ["password=wrong", "password=", "", "password=%ff%00", "\xff"])
def test_a_wrong_password_is_no_login(example: Example, body: str) -> None:
    answer = example.ask("POST", "/login", body, origin=example.origin)
    assert (answer.status, answer.json) == (403, {"error": "wrong_password"})
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("origin", [None, FOREIGN])
def test_no_other_site_logs_anybody_in(example: Example, origin: str | None) -> None:
    form = urlencode({"password": example.password})
    answer = example.ask("POST", "/login", form, origin=origin)
    assert (answer.status, answer.json) == (403, {"error": "origin_not_allowed"})
    assert "set-cookie" not in answer.headers


def test_a_ticket_opens_one_socket(example: Example) -> None:
    cookie = example.log_in()
    answer = example.ask("POST", "/ticket", '{"path": "/ws"}', origin=example.origin, cookie=cookie)
    answered = answer.json
    ticket = answered.pop("ticket")
    assert (answer.status, answered) == (201, {"expires_in": 30, "path": "/ws"})
    assert answer.headers["cache-control"] == "no-store"
    assert example.open("/ws", ticket) == ("Hello, alice", "alice: hi")
    assert example.open("/ws", ticket) == (4001, "token_expired")


def test_a_ticket_for_another_path_is_refused_and_gone(example: Example) -> None:
    # It is good there, but there is nothing.
    assert example.open("/elsewhere", example.ticket("/elsewhere")) == (403,)
    ticket = example.ticket("/elsewhere")
    assert example.open("/ws", ticket) == (1008, "token_invalid")
    assert example.open("/elsewhere", ticket) == (4001, "token_expired")


@pytest.mark.parametrize("path", ["/ticket", "/logout", "/me", "/elsewhere"])
def test_a_request_without_the_cookie_gets_nowhere(example: Example, path: str) -> None:
    answer = example.ask("GET" if path == "/me" else "POST", path, origin=example.origin)
    assert (answer.status, answer.json) == (401, {"error": "token_missing"})


@pytest.mark.parametrize("origin", [None, FOREIGN, "null"])
@pytest.mark.parametrize("path", ["/ticket", "/logout"])
def test_the_cookie_counts_only_on_the_own_page(
    example: Example, path: str, origin: str | None
) -> None:
    answer = example.ask("POST", path, origin=origin, cookie=example.log_in())
    assert (answer.status, answer.json) == (403, {"error": "origin_not_allowed"})
    assert "access-control-allow-origin" not in answer.headers


def test_the_cookie_opens_no_socket(example: Example) -> None:
    cookie = example.log_in()
    assert example.open("/ws", cookie=cookie) == (1008, "token_missing")
    token = cookie.partition("=")[2]
    assert example.open("/ws", token) == (1008, "token_invalid")
    assert example.open("/ws", token, cookie=cookie) == (1008, "token_invalid")


def test_a_stolen_ticket_is_of_no_use_on_another_page(example: Example) -> None:
    ticket = example.ticket()
    assert example.open("/ws", ticket, origin=FOREIGN) == (1008, "origin_not_allowed")
    assert example.open("/ws", ticket) == ("Hello, alice", "alice: hi")
    assert example.open("/ws", example.ticket(), origin=None) == (1008, "token_invalid")


def test_the_log_tells_what_happened_and_no_token() -> None:
    with tickets() as (example, process):
        cookie, ticket = example.log_in(), example.ticket()
        example.open("/ws", ticket)
        example.open("/ws", ticket)
        example.open("/ws", cookie.partition("=")[2])
    assert (
        process.written.count('"WebSocket /ws" [accepted]') == 3
    )  # the server would add the query
    assert process.written.count("websocket refused: reason=token_expired") == 1  # a used ticket
    assert process.written.count("websocket refused: reason=token_invalid") == 1
    assert not any(secret in process.written for secret in (cookie.partition("=")[2], ticket))


# A browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport={"width": 1000, "height": 850}) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext, example: Example) -> Iterator[Page]:
    """The example's page. Nothing may go wrong on it, nor be asked of another machine."""
    page = context.new_page()
    problems: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split(":")[1]))
    page.goto(example.origin)
    expect(page.get_by_role("log")).to_be_visible()
    yield page
    assert [problem for problem in problems if not ERROR_STATUS.match(problem)] == []
    assert hosts == {"//127.0.0.1"}


@contextmanager
def foreign_page(context: BrowserContext) -> Iterator[Page]:
    """A page from another port: to a browser the same site, which gets the cookie, but another
    origin."""

    class Blank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        page = context.new_page()
        try:
            page.goto(f"http://127.0.0.1:{server.server_port}")
            yield page
        finally:
            page.close()
            server.shutdown()
            thread.join()


def log_in(page: Page, example: Example) -> None:
    page.get_by_label("Password").fill(example.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Logged in as alice")).to_be_visible()


def get_ticket(page: Page) -> None:
    page.get_by_role("button", name="Get a ticket").click()


def lines(page: Page) -> Any:
    return page.get_by_role("log").get_by_role("listitem")


def test_a_visitor_logs_in_and_talks(page: Page, example: Example) -> None:
    log_in(page, example)
    expect(page.get_by_label("Password")).to_be_hidden()
    assert page.evaluate("document.cookie") == ""
    get_ticket(page)
    field = page.get_by_label("Message")
    expect(field).to_be_focused()
    field.fill("<b>first</b>")
    field.press("Enter")
    expect(lines(page)).to_have_text(
        [
            "POST /login: 200",
            "POST /ticket: 201",
            re.compile(r"wst_.{8}… opens /ws once, within 30 seconds"),
            "socket 1: Hello, alice",
            "socket 1: alice: <b>first</b>",
        ]
    )
    expect(field).to_have_value("")
    page.get_by_role("button", name="Close").click()
    expect(lines(page).last).to_have_text("socket 1 closed: 1000 closed by the page")
    expect(field).to_be_hidden()
    expect(page.get_by_role("button", name="Get a ticket")).to_be_focused()


def test_a_ticket_works_once(page: Page, example: Example) -> None:
    again = page.get_by_role("button", name="Use the same ticket again")
    expect(again).to_be_disabled()
    log_in(page, example)
    get_ticket(page)
    expect(lines(page).last).to_have_text("socket 1: Hello, alice")
    again.click()
    expect(lines(page).last).to_have_text("socket 2 closed: 4001 token_expired")
    page.get_by_label("Message").fill("still here")  # the first one is open as before
    page.get_by_role("button", name="Send").click()
    expect(lines(page).last).to_have_text("socket 1: alice: still here")
    get_ticket(page)
    expect(lines(page).nth(-2)).to_have_text("socket 3: Hello, alice")
    expect(lines(page).last).to_have_text("socket 1 closed: 1000 another one is open")


def test_who_is_not_logged_in_is_told(page: Page, example: Example) -> None:
    get_ticket(page)
    expect(lines(page)).to_have_text(["POST /ticket: 401 token_missing"])
    page.get_by_label("Password").fill("wrong")
    page.get_by_label("Password").press("Enter")
    expect(lines(page).last).to_have_text("POST /login: 403 wrong_password")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_label("Message")).to_be_hidden()


def test_a_login_lasts_until_it_is_ended(page: Page, example: Example) -> None:
    log_in(page, example)
    page.reload()
    expect(page.get_by_text("Logged in as alice")).to_be_visible()
    get_ticket(page)
    expect(lines(page).last).to_have_text("socket 1: Hello, alice")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_focused()
    expect(lines(page).filter(has_text="closed")).to_have_text("socket 1 closed: 1000 logged out")
    get_ticket(page)
    expect(lines(page).last).to_have_text("POST /ticket: 401 token_missing")


def test_a_foreign_page_gets_no_ticket_with_its_visitors_cookie(
    page: Page, context: BrowserContext, example: Example
) -> None:
    ask = """([url, method, mode, type]) => fetch(url, {
      method, mode, credentials: "include", headers: {"Content-Type": type},
      body: method === "POST" ? JSON.stringify({path: "/ws"}) : undefined,
    }).then(({type, status}) => [type, status], (error) => error.message)"""
    me, ticket = f"{example.origin}/me", f"{example.origin}/ticket"
    with foreign_page(context) as foreign:

        def answered(url: str, method: str) -> int:
            """The status that the page itself doesn't see."""
            with foreign.expect_response(url) as response:
                sees = foreign.evaluate(ask, [url, method, "no-cors", "text/plain"])
            assert sees == ["opaque", 0]
            return response.value.status

        assert answered(me, "GET") == 401
        log_in(page, example)
        assert answered(me, "GET") == 403  # so the cookie goes along, and is refused
        assert answered(ticket, "POST") == 403
        # Nor where the page wants to read the answer; with JSON, the browser doesn't even send it.
        for content in ("text/plain", "application/json"):
            assert foreign.evaluate(ask, [ticket, "POST", "cors", content]) == "Failed to fetch"
        closed = foreign.evaluate(
            """(url) => new Promise((resolve) => {
              const socket = new WebSocket(url);
              socket.onclose = ({code, reason}) => resolve([code, reason]);
            })""",
            f"ws://127.0.0.1:{example.process.port}/ws",
        )
        assert closed == [1008, "origin_not_allowed"]


def test_the_page_as_localhost_is_a_foreign_one(context: BrowserContext, example: Example) -> None:
    page = context.new_page()
    page.goto(example.origin.replace("127.0.0.1", "localhost"))
    get_ticket(page)
    expect(lines(page).last).to_have_text("POST /ticket: 403 origin_not_allowed")
    page.get_by_label("Password").fill(example.password)
    page.get_by_role("button", name="Log in").click()
    expect(lines(page).last).to_have_text("POST /login: 403 origin_not_allowed")


def test_no_width_scrolls_sideways(page: Page, example: Example) -> None:
    log_in(page, example)
    get_ticket(page)
    expect(lines(page).last).to_have_text("socket 1: Hello, alice")
    for width in (320, 600, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = EXAMPLE.with_suffix(".html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|\ssrc=", html)
