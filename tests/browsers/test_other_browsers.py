"""What a page in Firefox and in WebKit sees, and examples/browser/wsauth.js there: the rows that a
browser could fail. The others are tried in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from other_browsers import OTHER_BROWSERS, Firefox, WebKit, other_browser
from pages import blocks
from servers import Server, pooled
from wsauth_page import HARNESS, Seen

from asgi_wsauth import DAPHNE_CLOSE_CODES, Reason

pytestmark = pytest.mark.live

# Codes that this WebKit (libsoup 3) takes for an error of the protocol, so that a page sees 1006:
# those that RFC 6455 itself doesn't define, below 3000.
UNSEEN = {"firefox": (), "webkit": (1012, 1013)}

# What the sockets of a page saw when they were closed.
_SAW = """
(sockets) => Promise.all(sockets.map(([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  socket.onclose = ({ code, reason }) => resolve([code, reason]);
})))
"""


@pytest.fixture(params=OTHER_BROWSERS, scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Firefox | WebKit]:
    """One start of each, for all tests."""
    with other_browser(request.param) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets")


class Page:
    """A page of the server, whose visitor is logged in."""

    def __init__(self, browser: Firefox | WebKit, server: Server) -> None:
        self.run = browser.run
        self.unseen = UNSEEN[browser.name]
        self._server = server
        browser.go(f"{server.origin}/page")
        browser.run(f"() => {{ {HARNESS} }}")
        browser.run("() => { document.cookie = 'session=opaque-1'; }")

    def url(self, path: str, **query: str) -> str:
        return f"ws://127.0.0.1:{self._server.port}{path}" + (
            (query and f"?{urlencode(query)}") or ""
        )

    def saw(self, *sockets: tuple[str, list[str]]) -> list[tuple[int, str]]:
        """Code and reason of each, given its URL and the subprotocols that it offers."""
        return [(code, reason) for code, reason in self.run(_SAW, sockets)]

    def start(self, path: str, *credentials: Any, **options: Any) -> None:
        """Starts the one client, with tickets of the TicketEndpoint where none are given."""
        options = {"carrier": "ticket", "credentials": credentials or None, "tries": 1, **options}
        script = "async (given) => { globalThis.client = await start(given); }"
        self.run(script, [self.url(path), options])

    def until(self, kind: str, times: int = 1) -> Seen:
        """What happened to it, once there were so many events of this kind."""
        return Seen(**self.run("([kind, n]) => client.until(kind, n)", [kind, times]))


@pytest.fixture
def page(browser: Firefox | WebKit, server: Server) -> Iterator[Page]:
    with server.must_stay_quiet():
        page = Page(browser, server)
        yield page
        page.run("() => endAll()")


@pytest.mark.parametrize("offered", [[], ["chat"]], ids=["no-subprotocol", "chat"])
def test_a_page_sees_the_code_and_the_phrase_of_each_refusal(
    page: Page, offered: list[str]
) -> None:
    saw = page.saw(*((page.url("/guarded", token=f"deny-{r.name}"), offered) for r in Reason))
    told = [(reason.close_code, reason.phrase) for reason in Reason]
    assert saw == [(1006, "") if row[0] in page.unseen else row for row in told]


def test_a_page_sees_each_of_daphnes_codes(page: Page) -> None:
    saw = page.saw(*((page.url("/daphne", token=f"deny-{r.name}"), []) for r in Reason))
    assert saw == [(DAPHNE_CLOSE_CODES.get(r, r.close_code), r.phrase) for r in Reason]


def test_the_guides_codes_are_those_that_every_browser_shows() -> None:
    (block,) = blocks("docs/guides/browsers.md")
    names: dict[str, Any] = {}
    exec(block, names)
    unseen = {reason for reason in Reason if reason.close_code in UNSEEN["webkit"]}
    assert names["LATER"] == {reason: DAPHNE_CLOSE_CODES[reason] for reason in unseen}


def test_a_page_sees_nothing_of_a_refusal_that_does_not_accept(page: Page) -> None:
    urls = [page.url(path, token="deny-EXPIRED") for path in ("/http", "/close")]
    assert page.saw(*((url, []) for url in urls)) == [(1006, "")] * 2


@pytest.mark.parametrize("carrier", ["ticket", "token"])
def test_a_socket_whose_token_ends_comes_back_with_a_fresh_one(page: Page, carrier: str) -> None:
    page.start("/live/waits", "until-0.3-ann", "until-ever-ann", carrier=carrier)
    seen = page.until("open", 2)
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert (seen.asked, seen.delays) == ([False, True], [0])


def test_a_token_is_replaced_on_the_open_socket(page: Page, server: Server) -> None:
    name = server.new_test()
    tokens = f"until-10-{name}", f"until-ever-{name}"
    page.start("/live/refresh", *tokens, refreshMessage="auth.refresh", say="hello")
    page.until("message")
    page.run(_HEARD, "auth.refresh.ok")
    seen = page.until("message")
    assert (seen.asked, seen.kinds) == ([False, True], ["open", "message"])


_HEARD = """
async (words) => {
  const beat = () => new Promise((resolve) => { setTimeout(resolve, 20); });
  while (!heard.some((data) => data.includes(words))) await beat();
}
"""


def test_a_socket_whose_login_is_revoked_is_handed_to_the_page(page: Page, server: Server) -> None:
    name = server.new_test()
    page.start("/live/waits", f"until-ever-{name}", say="hello")
    page.until("message")
    server.get("/revoke", kind="user", name=name)
    seen = page.until("login")
    assert (seen.of("login"), seen.asked) == ([(4004, "token_revoked")], [False])


def test_tickets_come_from_the_endpoint_and_a_used_one_is_replaced(page: Page) -> None:
    page.start("/guarded")
    page.until("message")
    used = page.run("() => new URL(tried[0]).searchParams.get('token')")
    page.start("/guarded", used, "opaque-1")
    seen = page.until("message")
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert (seen.asked, seen.delays) == ([False, True], [0])


LOGIN_PAGES = [
    {"status": 302, "location": "https://login.example/"},
    {"status": 200, "type": "text/html", "body": "<html>"},
]


@pytest.mark.parametrize("answer", LOGIN_PAGES, ids=["redirect", "page"])
def test_it_is_logged_out_where_a_proxy_answers_with_a_login_page(
    page: Page, answer: dict[str, Any]
) -> None:
    page.start("/guarded", **{"from": f"/in-its-place?{urlencode(answer)}"})
    assert page.until("login").of("login") == [(None, None)]


def test_it_waits_as_long_as_the_endpoint_asks(page: Page) -> None:
    query = urlencode({"status": 503, "retry-after": "7"})
    page.start("/guarded", tries=0, **{"from": f"/in-its-place?{query}"})
    assert page.until("held").delays == [7500]


def test_it_comes_back_to_a_server_that_restarts(page: Page) -> None:
    page.start("/guarded", "deny-RESTARTING", "opaque-1")
    seen = page.until("message")
    unseen = 1012 in page.unseen
    assert seen.of("waiting") == [(1006, "") if unseen else (1012, "server_restarting")]
    assert (seen.asked, seen.delays) == ([False, unseen], [500])


def test_a_peer_that_has_gone_silent_is_noticed(page: Page, server: Server) -> None:
    token = f"until-ever-{server.new_test()}"
    page.start("/live/waits", token, heartbeat=0.3, ping=None, tries=0)
    assert page.until("held").of("waiting") == [(1006, "")]


def test_a_token_that_no_browser_can_send_is_not_told_to_anybody(page: Page) -> None:
    page.start("/guarded", "opaque-1 and a space", carrier="token")
    assert page.until("stop").events == [["stop", None, "SyntaxError", None]]
