"""examples/model_stream.py, run as its first lines say, in a real browser: what an `EventSource`
makes of a stream that ends with its login.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import pytest
from browser import chromium
from pages import blocks
from playwright.sync_api import Page, Response, Route, expect
from run_example import EXAMPLES, Running, running
from servers import DEADLINE

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "model_stream.py"
PASSWORD = "a password of the test"
LIFE = 2.0  # seconds

# What Chromium itself writes on the console where a status is an error.
ERROR_STATUS = re.compile(r"Failed to load resource: the server responded with a status of \d+")

# What happens to an `EventSource` with this address, until the browser gives up.
WATCH = """(address) => new Promise((resolve) => {
  const seen = [];
  const source = new EventSource(address);
  source.onopen = () => seen.push("open");
  source.onerror = () => {
    seen.push(["CONNECTING", "OPEN", "CLOSED"][source.readyState]);
    if (source.readyState === EventSource.CLOSED) resolve(seen);
  };
})"""


# The answer is complete, or the page asks for the password.
ENDED = """() => !document.getElementById("login").hidden
  || document.getElementById("log").textContent.includes("complete")"""


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest) -> Iterator[Running]:
    settings = {"LIFETIME": str(request.param), "PACE": "0.04"}
    with running(str(EXAMPLE), PASSWORD=PASSWORD, **settings) as process:
        yield process


short = pytest.mark.parametrize("example", [LIFE], indirect=True)
long = pytest.mark.parametrize("example", [3600], indirect=True)


class Tab(NamedTuple):
    """A page, and what went wrong on it."""

    page: Page
    problems: list[str]


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    """One for all tests: another renderer process costs more than most of them."""
    with (
        chromium() as browser,
        browser.new_context(viewport={"width": 1000, "height": 850}) as context,
    ):
        tab = Tab(context.new_page(), [])
        tab.page.on("console", lambda message: tab.problems.append(message.text))
        tab.page.on("pageerror", lambda error: tab.problems.append(str(error)))
        yield tab


@pytest.fixture
def page(tab: Tab, example: Running) -> Iterator[Page]:
    """The example's page, where nobody is logged in. Nothing may go wrong on it."""
    tab.page.context.clear_cookies()
    tab.page.goto(example.origin)
    tab.problems.clear()
    yield tab.page
    assert [problem for problem in tab.problems if not ERROR_STATUS.match(problem)] == []


def log_in(page: Page) -> None:
    lines = page.get_by_role("log").get_by_text("logged in", exact=True)
    count = lines.count()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(lines).to_have_count(count + 1)


def said(page: Page) -> list[str]:
    return page.get_by_role("log").get_by_role("listitem").all_inner_texts()


@short
def test_a_browser_asks_once_more_is_refused_and_gives_up(page: Page, example: Running) -> None:
    address = f"{example.origin}/answer?after=0"
    answered: list[tuple[str, int]] = []

    def hear(response: Response) -> None:
        answered.append((response.url, response.status))

    page.on("response", hear)
    seen = ["CLOSED"]
    while seen == ["CLOSED"]:  # the login was over before the first try, on a busy machine
        page.reload()
        log_in(page)
        seen = page.evaluate(WATCH, address)
    assert seen == ["open", "CONNECTING", "CLOSED"]
    deadline = time.monotonic() + DEADLINE
    while answered[-2:] != [(address, 200), (address, 401)]:  # the page knows first
        assert time.monotonic() < deadline, answered
        page.wait_for_timeout(20)
    page.remove_listener("response", hear)


@pytest.mark.parametrize(("second", "sees"), [(200, 2), (401, 1), (403, 1), (429, 1), (503, 1)])
def test_what_comes_of_the_second_answer(tab: Tab, second: int, sees: int) -> None:
    asked: list[str | None] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_stream = self.path == "/stream"
            if is_stream:
                asked.append(self.headers["last-event-id"])
            self.send_response([200, second, 401][len(asked) - 1] if is_stream else 200)
            self.send_header("content-type", "text/event-stream" if is_stream else "text/html")
            self.end_headers()
            self.wfile.write(b"retry: 100\nid: 7\ndata: 1\n\n" if is_stream else b"")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            tab.page.goto(f"http://127.0.0.1:{server.server_port}")
            seen = tab.page.evaluate(WATCH, "/stream")
        finally:
            server.shutdown()
            thread.join()
    assert seen == [*["open", "CONNECTING"] * sees, "CLOSED"]
    assert asked == [None, *["7"] * sees]


@short
def test_an_answer_goes_on_where_it_stopped_until_it_is_complete(page: Page) -> None:
    log_in(page)
    page.get_by_role("button", name="Ask the model").click()
    done = page.get_by_text("the answer is complete")
    logins = 1
    while True:
        page.wait_for_function(ENDED, polling=100)  # not at each frame
        if done.is_visible():
            break
        assert said(page)[-1] == "refused: 401 token_expired"
        log_in(page)
        logins += 1
    assert logins > 1
    text = EXAMPLE.read_text(encoding="utf-8")
    answer = "".join(re.findall(r'^    "(.*)"$', text, re.MULTILINE)).split()
    assert page.locator("#answer").inner_text().split() == answer


@long
def test_a_logout_ends_the_stream_at_once(page: Page) -> None:
    log_in(page)
    page.get_by_role("button", name="Ask the model").click()
    expect(page.locator("#answer")).to_contain_text("A stream")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Password")).to_be_visible()
    if "the answer is complete" not in said(page):  # before the logout, on a busy machine
        assert said(page)[-1] == "refused: 401 token_missing"  # the cookie is gone


@long
def test_no_width_scrolls_sideways(page: Page) -> None:
    for width in (320, 600, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_guides_block_goes_on_after_a_new_login(tab: Tab) -> None:
    """docs/guides/streams.md: on a page whose server ends the stream, and then wants a login."""
    (block,) = blocks("docs/guides/streams.md", "js")
    answers = [
        (200, "retry: 1\nid: 1\ndata: first\n\n"),  # then it ends: the browser asks again
        (401, ""),  # and gives up
        (200, "id: 2\ndata: second\n\nevent: done\ndata:\n\n"),
    ]
    asked = []

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix("http://page.test")
        asked.append(path)
        status, body = answers.pop(0) if path.startswith("/answer") else (401, "")
        if path == "/":
            status, body = 200, "<title>A page</title>"
        kind = "text/html" if path == "/" else "text/event-stream"
        route.fulfill(status=status, body=body, content_type=kind)

    page = tab.page
    page.route("**/*", answer)
    page.goto("http://page.test/")
    seen = page.evaluate(
        f"""() => new Promise((resolve) => {{
          const shown = [];
          const show = (text) => {{ shown.push(text); if (text === "second") resolve(shown); }};
          const logInAgain = async () => shown.push("a new login");
          {block}
          listen();
        }})"""
    )
    page.unroute_all()
    assert seen == ["first", "a new login", "second"]
    assert asked == ["/", "/answer?after=0", "/answer?after=0", "/me", "/answer?after=1"]
