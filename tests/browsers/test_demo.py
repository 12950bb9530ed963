"""`examples/demo.py`, started as a person would start it and driven in a real browser."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest
from browser import chromium
from handshakes import A_JWT
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect
from run_example import EXAMPLES, Running, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.live

DEMO = EXAMPLES / "demo.py"

MODES = ["accept_then_close", "http_response", "close"]

ADMITTED = {  # case: title, identity, method, the subprotocol that the browser sees
    "good": ("Good token", "alice", "jwt", "none"),
    "api_key": ("API key", "nightly-report", "api_key", "none"),
    "subprotocol": ("Token as subprotocol", "alice", "jwt", "bearer"),
}
SHORTEST = 6  # seconds of a token that a visitor's would be ten

REFUSED = {  # case: title, reason, close code, HTTP status, advice, detail
    "expired": ("Expired token", "token_expired", 4001, 401, "refresh", r"since \d+ s"),
    "forged": ("Wrong token", "token_invalid", 1008, 401, "stop", "no key verifies its signature"),
    "missing": (
        "No token",
        "token_missing",
        1008,
        401,
        "stop",
        "looked in query parameter token, header authorization, subprotocol bearer",
    ),
    "twice": (
        *("Token given twice", "token_malformed", 1008, 400, "stop"),
        "query parameter token given 2 times",
    ),
    "foreign": (
        *("Foreign origin", "origin_not_allowed", 1008, 403, "stop"),
        "not among allowed_origins",
    ),
}

# All that Chromium itself may write on the console, where a handshake is not answered with a 101.
FAILED_HANDSHAKE = re.compile(
    r"WebSocket connection to 'ws://127\.0\.0\.1:\d+/ws/(http_response|close)/.*' failed: "
    r"(Error during WebSocket handshake: Unexpected response code: 40[03]"
    r"|HTTP Authentication failed; no valid credentials available)"
)
# What Chromium writes where the page tries over HTTP what was closed on a socket.
REFUSED_OVER_HTTP = re.compile(
    r"Failed to load resource: the server responded with a status of 401 \(Unauthorized\)"
    r" at http://127\.0\.0\.1:\d+/(me|refresh\?lifetime=\d+)"
)


class Tokens(NamedTuple):
    token: str
    refresh_token: str


class Demo(NamedTuple):
    url: str
    example: Running

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def socket_url(self, mode: str, token: str | None = None) -> tuple[str, str]:
        """The URL for one attempt, and the path of what the server decided about it."""
        attempt = uuid4()
        url = f"{self.url.replace('http', 'ws', 1)}/ws/{mode}/{attempt}"
        return url if token is None else f"{url}?token={token}", f"/decisions/{attempt}"

    # Logins

    def ask(
        self, method: str, path: str, token: str | None = None, origin: str | None = None
    ) -> tuple[int, Any]:
        """The status of an answer, and its JSON."""
        named = {"Authorization": token and f"Bearer {token}", "Origin": origin}
        headers = {name: value for name, value in named.items() if value}
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        with closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else None

    def tokens(self, path: str, token: str | None = None) -> Tokens:
        status, answer = self.ask("POST", path, token)
        assert status == 200, answer
        return Tokens(**answer)

    def live(self, token: str) -> ClientConnection:
        url = f"{self.url.replace('http', 'ws', 1)}/live"
        return connect(url, additional_headers={"Authorization": f"Bearer {token}"})


@contextmanager
def running_demo() -> Iterator[Demo]:
    command = (str(DEMO), "--port", "0")
    with running(*command, until="Ctrl+C ends it", SHORTEST=str(SHORTEST)) as example:
        found = re.search(r"http://127\.0\.0\.1:\d+", example.written)
        assert found, example.written
        yield Demo(found[0], example)


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with running_demo() as demo:
        yield demo
    assert not re.search(rf"Traceback|{A_JWT}|wsk_|token=", demo.example.written)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


class Watched(NamedTuple):
    """A page, and what was heard from it and from every tab that it opened."""

    page: Page
    failures: list[str]  # handshakes, on the console
    problems: list[str]
    hosts: set[str]

    def must_be_sound(self) -> None:
        """Nothing may go wrong on it, and nothing may be asked of another machine."""
        assert self.problems == []
        assert self.hosts == {"//127.0.0.1"}


@pytest.fixture(scope="module")
def tab(browser: Browser, demo: Demo) -> Iterator[Watched]:
    """One for all tests: another renderer process costs more than most of them."""
    context = browser.new_context()
    watched = Watched(context.new_page(), [], [], set())

    def hear(message: ConsoleMessage) -> None:
        said = f"{message.text} at {message.location['url']}"
        if FAILED_HANDSHAKE.match(said):
            watched.failures.append(said)
        elif not REFUSED_OVER_HTTP.fullmatch(said):
            watched.problems.append(said)

    context.on("console", hear)
    context.on("weberror", lambda error: watched.problems.append(str(error.error)))
    context.on("request", lambda request: watched.hosts.add(request.url.split(":")[1]))
    yield watched
    context.close()
    watched.must_be_sound()


@pytest.fixture
def watched(tab: Watched, demo: Demo) -> Iterator[Watched]:
    """The demo's page, as whoever opens it finds it."""
    tab.page.set_viewport_size({"width": 1200, "height": 900})
    tab.page.goto(demo.url)
    tab.failures.clear()
    yield tab
    for other in tab.page.context.pages[1:]:
        other.close()
    tab.must_be_sound()


@pytest.fixture
def page(watched: Watched) -> Page:
    return watched.page


def choose(page: Page, mode: str) -> None:
    page.get_by_text(mode, exact=True).click()
    expect(page.get_by_role("radio", name=mode, exact=True)).to_be_checked()


def connect_with(page: Page, title: str) -> None:
    page.get_by_role("button", name=f"Connect: {title}").click()
    expect(page.get_by_role("status")).to_contain_text(f"{title}: ")


def shown(page: Page) -> dict[str, dict[str, str]]:
    """What the page shows of each attempt: case → field → text."""
    fields = page.locator("[data-case] [data-field]").evaluate_all(
        """all => all.map((one) =>
          [one.closest("[data-case]").dataset.case, one.dataset.field, one.textContent])"""
    )
    rows: dict[str, dict[str, str]] = {}
    for case, field, text in fields:
        rows.setdefault(case, {})[field] = text
    return rows


# Of the second part


def news(page: Page) -> Locator:
    """What the page says of its login."""
    return page.locator("#news")


def ended(page: Page, field: str) -> Locator:
    """What it shows of the end of its socket: code, reason, advice, or http."""
    return page.locator(f"[data-field=live-{field}]")


def note_news(page: Page) -> None:
    """From now on, `has_told` knows all that it says of its login, for however short a time."""
    page.evaluate(
        """() => {
          window.told = [];
          const news = document.querySelector("#news");
          const note = () => told.push(news.textContent);
          new MutationObserver(note).observe(news, { childList: true, subtree: true });
        }"""
    )


def has_told(page: Page, text: str) -> None:
    page.wait_for_function("(text) => told.some((news) => news.includes(text))", arg=text)


def time_left(page: Page) -> int:
    """Seconds, as the countdown shows them."""
    minutes, _, seconds = page.get_by_role("timer").inner_text().partition(":")
    return 60 * int(minutes) + int(seconds)


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def tokens_last(page: Page, lifetime: str) -> None:
    page.get_by_text(lifetime, exact=True).click()
    expect(page.get_by_role("radio", name=lifetime)).to_be_checked()


def log_in(page: Page, lifetime: str = "5 minutes") -> None:
    """Afterwards, `has_told` knows all that the page has said of this login."""
    note_news(page)
    tokens_last(page, lifetime)
    click(page, "Log in")
    has_told(page, "Open: the server knows this socket as alice.")


def expect_refreshed(page: Page) -> None:
    """Refresh, and be told over the socket, which is therefore open."""
    lines = page.locator("#wire li").filter(has_text="auth.refresh.ok")
    before = lines.count()
    click(page, "Refresh")
    expect(lines).to_have_count(before + 1)
    expect(news(page)).to_contain_text("Refreshed: the same socket goes on")


def expect_revoked(page: Page) -> None:
    """The socket was closed, and nothing had to be done on this page for it."""
    expect(ended(page, "code")).to_have_text("4004")
    expect(ended(page, "reason")).to_have_text("token_revoked")
    expect(ended(page, "advice")).to_have_text("log in again")
    expect(ended(page, "http")).to_have_text("401 token_revoked")
    expect(news(page)).to_contain_text("Log in again")
    expect(page.get_by_role("timer")).to_have_text("closed")
    for button in ("Refresh", "Revoke me", "Log out everywhere"):
        expect(page.get_by_role("button", name=button, exact=True)).to_be_disabled()


def second_tab(page: Page) -> Page:
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open a second tab").click()
    tab = opened.value
    expect(tab.get_by_text("This is a second tab")).to_be_visible()
    expect(news(tab)).to_contain_text("Open: the server knows this socket as alice.")
    return tab


# In the browser


def test_a_refused_client_sees_the_code_only_where_the_handshake_is_accepted_first(
    watched: Watched,
) -> None:
    for mode in MODES:  # of the others, `test_try_them_all` sees the other cases
        choose(watched.page, mode)
        for case in REFUSED if mode == "accept_then_close" else ["expired"]:
            watched.failures.clear()
            check_refused(watched, mode, case)


def check_refused(watched: Watched, mode: str, case: str) -> None:
    title, reason, code, *_ = REFUSED[case]
    told = mode == "accept_then_close"
    connect_with(watched.page, title)
    got = f"{code} {reason}" if told else "1006 and no reason"
    status = watched.page.get_by_role("status")
    expect(status).to_have_text(f"{title}: refused. The browser got {got}.")
    check_refused_row(watched.page, mode, case, shown(watched.page)[case])
    assert watched.page.get_by_label("Message", exact=True).count() == 0
    assert len(watched.failures) == (0 if told else 1)


def check_refused_row(page: Page, mode: str, case: str, row: dict[str, str]) -> None:
    _, reason, code, status, advice, detail = REFUSED[case]
    told = mode == "accept_then_close"
    assert re.fullmatch(r"\d+\.\d\d ms", row.pop("duration"))
    assert re.fullmatch(detail or "", row.pop("detail", ""))
    # No credential was chosen where there is none, or two, or a wrong origin: nothing to print.
    fingerprint = "[0-9a-f]{16}" if case in ("expired", "forged") else ""
    assert re.fullmatch(fingerprint, row.pop("fingerprint", ""))
    if case == "foreign":
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", origin := row.pop("origin"))
        assert not page.url.startswith(origin)
    sent = {"accept_then_close": "HTTP 101, close", "close": "HTTP 403"}.get(mode, f"HTTP {status}")
    assert row == {
        "got-code": str(code) if told else "1006",
        "got-reason": reason if told else "no reason",
        "got-opened": "yes" if told else "no",
        "got-subprotocol": "none",
        "decision": "refused",
        "reason": reason,
        "close-code": str(code),
        "advice": advice,
        "sent": sent,
    }


def test_an_admitted_client_talks_and_closes(watched: Watched) -> None:
    for mode in MODES:
        choose(watched.page, mode)
        for case in ADMITTED if mode == "accept_then_close" else ["subprotocol"]:
            check_admitted(watched, case)
    assert watched.failures == []


def check_admitted(watched: Watched, case: str) -> None:
    title, identity, _, _ = ADMITTED[case]
    page = watched.page
    connect_with(page, title)
    expect(page.get_by_role("status")).to_contain_text("admitted")
    check_admitted_row(case, {"got-code": "open"}, shown(page)[case])

    messages = page.get_by_role("log").get_by_role("listitem")
    field = page.get_by_label("Message", exact=True)
    expect(messages).to_have_text([f"Hello, {identity}"])
    field.fill("first")
    page.get_by_role("button", name="Send").click()
    expect(messages).to_have_text([f"Hello, {identity}", "first", "first"])
    field.fill("<b>second</b>")
    field.press("Enter")
    expect(messages).to_have_count(5)
    expect(messages.last).to_have_text("<b>second</b>")
    expect(field).to_have_value("")

    page.get_by_role("button", name="Close the socket").click()
    expect(page.locator(f"[data-case={case}] [data-field=got-code]")).to_have_text("1000")
    check_admitted_row(case, CLOSED, shown(page)[case])
    expect(field).to_have_count(0)
    expect(page.get_by_role("button", name=f"Connect: {title}")).to_be_focused()


CLOSED = {"got-code": "1000", "got-reason": "closed by the page"}


def check_admitted_row(case: str, got: dict[str, str], row: dict[str, str]) -> None:
    _, identity, method, subprotocol = ADMITTED[case]
    assert re.fullmatch(r"\d+\.\d\d ms", row.pop("duration"))
    assert re.fullmatch("[0-9a-f]{16}", row.pop("fingerprint"))
    assert row == {
        **got,
        "got-opened": "yes",
        "got-subprotocol": subprotocol,
        "decision": "admitted",
        "identity": identity,
        "method": method,
        "sent": "HTTP 101",
    }


def test_try_them_all(watched: Watched) -> None:
    page = watched.page
    seen = {}
    for mode in MODES:
        watched.failures.clear()
        choose(page, mode)
        expect(page.get_by_text("not tried yet")).to_have_count(2 * 8)
        page.get_by_role("button", name="Try them all").click()
        told = 5 if mode == "accept_then_close" else 0
        expect(page.get_by_role("status")).to_have_text(
            f"3 admitted, 5 refused. The browser learned why in {told} of 5."
        )
        seen[mode] = shown(page)
        assert {*seen[mode]} == {*ADMITTED, *REFUSED}
        for case in ADMITTED:
            check_admitted_row(case, CLOSED, dict(seen[mode][case]))
        for case in REFUSED:
            check_refused_row(page, mode, case, dict(seen[mode][case]))
        assert page.get_by_label("Message", exact=True).count() == 0
        assert len(watched.failures) == 5 - told
    choose(page, "accept_then_close")  # the results of a mode are kept
    assert shown(page) == seen["accept_then_close"]


def test_another_mode_closes_the_open_socket(page: Page) -> None:
    connect_with(page, "Good token")
    with page.expect_event("websocket") as opened:
        connect_with(page, "API key")
    with opened.value.expect_event("close"):
        choose(page, "close")
    expect(page.get_by_label("Message", exact=True)).to_have_count(0)
    expect(page.get_by_text("not tried yet")).to_have_count(2 * 8)
    choose(page, "accept_then_close")
    assert {case: row["got-code"] for case, row in shown(page).items()} == {
        "good": "1000",
        "api_key": "1000",
    }


def test_a_socket_ends_with_its_token_unless_that_is_refreshed(page: Page) -> None:
    expect(news(page)).to_have_text("Nobody is logged in on this tab.")
    page.evaluate(
        """() => {
          window.seen = [];
          const timer = document.querySelector("[role=timer]");
          new MutationObserver(() => window.seen.push(timer.textContent))
            .observe(timer, { childList: true });
        }"""
    )
    log_in(page, "10 seconds")
    has_told(page, "A refresh is due")  # at half of its time
    other = page.context.new_page()
    other.goto(page.url)
    log_in(other, "10 seconds")
    expect(ended(page, "code")).to_have_text("4001")
    expect(ended(page, "reason")).to_have_text("token_expired")
    expect(ended(page, "advice")).to_have_text("refresh")
    expect(ended(page, "http")).to_have_text("401 token_expired")
    expect(news(page)).to_contain_text("Refresh and come back")
    expect(page.get_by_role("button", name="Log out everywhere")).to_be_disabled()

    counted: list[str] = page.evaluate("window.seen")
    assert counted[-1] == "closed"
    down = [text for text in dict.fromkeys(counted) if ":" in text and text != "–:––"]
    assert down == sorted(down, reverse=True)
    assert set(down) <= {f"0:{seconds:02}" for seconds in range(11)}
    assert len(down) > 1

    # The login goes on: a new token, and a new socket, without another login.
    tokens_last(page, "5 minutes")
    click(page, "Refresh")
    expect(news(page)).to_contain_text("Open: the server knows this socket as alice.")
    assert time_left(page) > 90
    expect(page.locator("#wire li").filter(has_text="POST /login")).to_have_count(1)

    # A login that was revoked after its socket had ended: nothing has told the page.
    expect(ended(other, "code")).to_have_text("4001")
    click(page, "Log out everywhere")
    expect_revoked(page)
    click(other, "Refresh")
    expect(ended(other, "code")).to_have_text("HTTP 401")
    expect(ended(other, "reason")).to_have_text("token_revoked")
    expect(other.get_by_role("button", name="Refresh", exact=True)).to_be_disabled()
    log_in(other)


def test_a_refresh_moves_the_end_of_the_open_socket(page: Page) -> None:
    log_in(page, "90 seconds")
    assert 0 < time_left(page) <= 90
    tokens_last(page, "5 minutes")
    expect_refreshed(page)
    assert time_left(page) > 90
    expect(page.locator("#wire li").filter(has_text="WebSocket /live")).to_have_count(1)
    expect(page.locator("#wire")).to_contain_text('"type":"auth.refresh","token":"eyJhbG…"')


def test_revoke_me_ends_this_login_only(page: Page) -> None:
    log_in(page)
    other = second_tab(page)
    click(page, "Revoke me")
    expect_revoked(page)
    expect_refreshed(other)
    log_in(page)
    click(other, "Revoke me")
    expect_revoked(other)
    expect_refreshed(page)


def test_log_out_everywhere_closes_the_sockets_of_every_tab(page: Page) -> None:
    connect_with(page, "Good token")
    connect_with(page, "API key")
    log_in(page)
    other = second_tab(page)
    click(page, "Log out everywhere")
    for tab in (page, other):
        expect_revoked(tab)
    # The first part's socket of alice, too, and not the one that is somebody else's.
    expect(page.locator("[data-case=good] [data-field=got-code]")).to_have_text("4004")
    assert shown(page)["api_key"]["got-code"] == "open"
    for tab in (page, other):
        log_in(tab)
        expect_refreshed(tab)
    connect_with(page, "Good token")
    expect(page.get_by_role("status")).to_have_text(
        "Good token: admitted. The browser got an open socket."
    )


def test_a_keyboard_is_enough(page: Page) -> None:
    for part in ("what a refused client sees", "how an open socket ends"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name=part)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="accept_then_close")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="http_response")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Try them all")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Good token: admitted")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()

    page.get_by_role("link", name="how an open socket ends").press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="90 seconds")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="5 minutes")).to_be_checked()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Log in")).to_be_focused()
    page.keyboard.press("Enter")
    expect(news(page)).to_contain_text("knows this socket as alice")
    expect(page.get_by_role("button", name="Refresh")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(news(page)).to_contain_text("The login was revoked")
    expect(page.get_by_role("button", name="Log in")).to_be_focused()


def test_no_width_scrolls_sideways(page: Page) -> None:
    page.get_by_role("button", name="Try them all").click()
    expect(page.get_by_role("status")).to_contain_text("learned why in 5 of 5")
    connect_with(page, "Good token")
    log_in(page)
    click(page, "Revoke me")
    expect(ended(page, "http")).to_have_text("401 token_revoked")
    for width in (320, 600, 1000):  # one, two and three columns
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_as_localhost_is_no_foreign_origin(browser: Browser, demo: Demo) -> None:
    with browser.new_page() as page:
        page.goto(demo.url.replace("127.0.0.1", "localhost"))
        for title, decision in (("Good token", "admitted"), ("Foreign origin", "refused")):
            connect_with(page, title)
            expect(page.get_by_role("status")).to_contain_text(decision)
        assert shown(page)["foreign"]["reason"] == "origin_not_allowed"
        log_in(page)


def test_a_server_that_is_gone_is_said(browser: Browser) -> None:
    with running_demo() as demo, browser.new_page() as page:
        page.goto(demo.url)
        connect_with(page, "Good token")
        log_in(page)
        demo.example.process.terminate()
        expect(page.locator("[data-case=good] [data-field=got-code]")).to_have_text("1012")
        expect(ended(page, "code")).to_have_text("1012")
        expect(news(page)).to_contain_text("Is the demo still running?")
        demo.example.process.wait(timeout=20)
        page.get_by_role("button", name="Connect: No token").click()
        expect(page.get_by_role("status")).to_contain_text("Is the demo still running?")
        click(page, "Log in")
        expect(ended(page, "code")).to_have_text("no answer")
        expect(news(page)).to_contain_text("Is the demo still running?")


# Without a browser


def test_the_page_loads_nothing_from_elsewhere(demo: Demo) -> None:
    with urllib.request.urlopen(demo.url, timeout=10) as answer:
        html = answer.read().decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert html == DEMO.with_suffix(".html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|\ssrc=", html)


def test_the_credentials_are_fresh_and_for_this_page_only(demo: Demo) -> None:
    with urllib.request.urlopen(f"{demo.url}/credentials", timeout=10) as answer:
        given = json.load(answer)
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    now = time.time()
    for name, lifetime in (("good", 300), ("forged", 300), ("expired", -300)):
        exp = jwt.decode(given[name], options={"verify_signature": False})["exp"]
        assert abs(exp - now - lifetime) < 10
    assert given["api_key"].startswith("wsk_")
    assert given["foreign_origin"] != demo.url
    assert demo.get("/credentials")["forged"] != given["forged"]


def test_a_program_may_use_a_header(demo: Demo) -> None:
    token = demo.get("/credentials")["good"]
    url, decision = demo.socket_url("close")
    with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.recv(timeout=10) == "Hello, alice"
        client.send("to and fro")
        assert client.recv(timeout=10) == "to and fro"
        (admitted,) = demo.get(decision)
    assert admitted["event"] == "admitted"
    assert (admitted["identity"], admitted["method"]) == ("alice", "jwt")
    assert re.fullmatch("[0-9a-f]{16}", admitted["fingerprint"])
    assert token not in json.dumps(admitted)


def test_a_program_sees_what_each_mode_sends(demo: Demo) -> None:
    token = demo.get("/credentials")["expired"]

    url, decision = demo.socket_url("accept_then_close", token)
    with connect(url) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "token_expired")
    (refused,) = demo.get(decision)
    assert refused["event"] == "refused"
    assert (refused["reason"], refused["close_code"]) == ("token_expired", 4001)
    assert (refused["status"], refused["advice"]) == (401, "refresh")

    url, _ = demo.socket_url("http_response", token)
    with pytest.raises(InvalidStatus) as answered, connect(url):
        pass
    assert answered.value.response.status_code == 401
    assert json.loads(answered.value.response.body or b"") == {"error": "token_expired"}
    assert answered.value.response.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    url, _ = demo.socket_url("close", token)
    with pytest.raises(InvalidStatus) as answered, connect(url):
        pass
    assert answered.value.response.status_code == 403
    assert b"token_expired" not in (answered.value.response.body or b"")


def test_a_foreign_origin_is_refused_whatever_its_token(demo: Demo) -> None:
    given = demo.get("/credentials")
    url, _ = demo.socket_url("accept_then_close", given["good"])
    foreign = given["foreign_origin"]
    with connect(url, origin=foreign) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "origin_not_allowed")


def test_nothing_is_known_of_an_attempt_that_never_was(demo: Demo) -> None:
    assert demo.get(f"/decisions/{uuid4()}") == []


def hello(client: ClientConnection) -> float:
    """When the socket ends."""
    told = json.loads(client.recv(timeout=10))
    assert (told.pop("type"), told.pop("name")) == ("hello", "alice")
    return float(told["expires_at"])


def refresh(client: ClientConnection, token: str) -> float:
    """Until when the socket lives now."""
    client.send(json.dumps({"type": "auth.refresh", "token": token}))
    while True:
        told = json.loads(client.recv(timeout=10))
        if told["type"] == "auth.refresh.ok":
            return float(told["expires_at"])


def close_of(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def test_a_refreshed_socket_outlives_its_first_token(demo: Demo) -> None:
    longer = demo.tokens("/login?lifetime=300").token  # at hand, since the ten seconds run
    with demo.live(demo.tokens("/login?lifetime=10").token) as client:
        first = hello(client)
        assert refresh(client, longer) == pytest.approx(claims(longer)["exp"])
        with suppress(TimeoutError):  # until then nothing comes, unless it is the close
            while (left := first + 1 - time.time()) > 0:
                client.recv(timeout=left)
        refresh(client, longer)


def test_a_refresh_stays_in_its_login(demo: Demo) -> None:
    login = demo.tokens("/login?lifetime=90")
    again = demo.tokens("/refresh?lifetime=300", login.refresh_token)
    assert claims(again.token)["sid"] == claims(login.token)["sid"]
    assert claims(again.token)["sid"] != claims(demo.tokens("/login").token)["sid"]
    # Each kind of token is good for one thing.
    for path, wrong in (("/refresh", login.token), ("/me", login.refresh_token)):
        method = "GET" if path == "/me" else "POST"
        assert demo.ask(method, path, wrong) == (401, {"error": "token_invalid"})
    with demo.live(login.refresh_token) as client:
        assert close_of(client) == (1008, "token_invalid")


@pytest.mark.parametrize("path", ["/revoke", "/revoke/everywhere"])
def test_what_was_revoked_is_refused_everywhere(demo: Demo, path: str) -> None:
    mine, other = demo.tokens("/login?lifetime=300"), demo.tokens("/login?lifetime=300")
    assert demo.ask("GET", "/me", mine.token) == (200, {"name": "alice"})
    with demo.live(mine.token) as first, demo.live(other.token) as second:
        hello(first)
        hello(second)
        assert demo.ask("POST", path, mine.token)[0] == 200
        assert close_of(first) == (4004, "token_revoked")
        if path == "/revoke":
            refresh(second, other.token)
        else:
            assert close_of(second) == (4004, "token_revoked")
    revoked = (401, {"error": "token_revoked"})
    assert demo.ask("GET", "/me", mine.token) == revoked
    assert demo.ask("POST", "/refresh", mine.refresh_token) == revoked
    assert demo.ask("POST", path, mine.token) == revoked
    others = (200, {"name": "alice"}) if path == "/revoke" else revoked
    assert demo.ask("GET", "/me", other.token) == others
    with demo.live(mine.token) as client:
        assert close_of(client) == (4004, "token_revoked")
    # Who logs in now is in.
    with demo.live(demo.tokens("/login?lifetime=300").token) as client:
        hello(client)


@pytest.mark.parametrize("path", ["/revoke", "/revoke/everywhere", "/refresh"])
def test_no_other_site_logs_anybody_out(demo: Demo, path: str) -> None:
    login = demo.tokens("/login?lifetime=300")
    token = login.refresh_token if path == "/refresh" else login.token
    foreign = demo.get("/credentials")["foreign_origin"]
    # Not without the token, which a browser adds to no request by itself, nor in the URL.
    assert demo.ask("POST", path, origin=demo.url) == (401, {"error": "token_missing"})
    assert demo.ask("POST", f"{path}?token={token}") == (401, {"error": "token_missing"})
    # Not even with it, from another origin; and a link is no POST.
    assert demo.ask("POST", path, token, origin=foreign) == (403, {"error": "origin_not_allowed"})
    assert demo.ask("GET", path, token) == (405, None)
    assert demo.ask("GET", "/me", login.token, origin=demo.url) == (200, {"name": "alice"})


def test_a_token_lasts_as_long_as_the_page_offers(demo: Demo) -> None:
    offered = re.findall(
        r'name="lifetime" value="(\d+)"', DEMO.with_suffix(".html").read_text(encoding="utf-8")
    )
    assert len(offered) == 3
    for lifetime in offered:
        given = claims(demo.tokens(f"/login?lifetime={lifetime}").token)
        lasts = SHORTEST if lifetime == "10" else int(lifetime)
        assert given["exp"] - given["iat"] == pytest.approx(lasts)
    for lifetime in ("9", "1e9", "-1", "", "x"):
        assert demo.ask("POST", f"/login?lifetime={lifetime}")[0] == 400


def test_the_decision_tells_why_a_socket_was_closed(demo: Demo) -> None:
    token = demo.get("/credentials")["good"]
    url, decisions = demo.socket_url("accept_then_close", token)
    with connect(url) as client:
        client.recv(timeout=10)
        assert demo.ask("POST", "/revoke/everywhere", token)[0] == 200
        assert close_of(client) == (4004, "token_revoked")
    deadline = time.monotonic() + 10
    while len(told := demo.get(decisions)) < 2:  # the client knows first
        assert time.monotonic() < deadline, told
    admitted, closed = told
    assert (admitted["event"], closed["event"]) == ("admitted", "closed")
    assert (closed["reason"], closed["close_code"]) == ("token_revoked", 4004)
    assert closed["advice"] == "log in again"


def test_the_log_tells_every_decision_and_no_token_and_ctrl_c_ends_it_quietly() -> None:
    with running_demo() as demo:
        given = demo.get("/credentials")
        tokens = [given[name] for name in ("good", "expired", "forged", "api_key")]
        for mode in MODES:
            for token in tokens:
                url, _ = demo.socket_url(mode, token)
                with suppress(InvalidStatus, ConnectionClosed), connect(url) as client:
                    client.recv(timeout=10)
            url, _ = demo.socket_url(mode)
            with connect(url, subprotocols=["bearer", given["good"]]) as client:
                assert client.subprotocol == "bearer"
                client.recv(timeout=10)
        # Ctrl+C ends it, though a socket is open.
        with connect(demo.socket_url("close", given["good"])[0]):
            demo.example.process.send_signal(signal.SIGINT)
            assert demo.example.process.wait(timeout=20) == 0
    log = demo.example.written
    assert log.count("websocket admitted") == log.count("websocket closed") == 3 * 3 + 1
    assert log.count("reason=token_expired") == log.count("reason=token_invalid") == 3
    assert (
        log.count('"WebSocket /ws/') == 3 * 5 + 1
    )  # the server's own lines, which carry the query
    assert not any(token in log for token in tokens)
    assert not re.search(rf"{A_JWT}|wsk_|token=", log)


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, str(DEMO), "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Port {port} can't be used")
    assert "--port 0" in ended.stderr
