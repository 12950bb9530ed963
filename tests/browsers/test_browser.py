"""What a page in a real browser sees: the reason why a refusal accepts first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from browser import PageSaw, Tab, chromium
from handshakes import mint, now
from servers import EVERYTHING, Server, only, pooled

from asgi_wsauth import Reason

pytestmark = pytest.mark.live

OFFERED = [[], ["chat"], ["bearer"], ["bearer", "a-token"], ["chat", "bearer", "a-token"]]


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium(third_party_cookies=True) as browser:
        yield Tab(browser)


SERVERS = ["uvicorn-websockets", "hypercorn", "granian"]
each_server = only(*SERVERS)  # where one could lose what the others tell


@pytest.fixture(params=SERVERS if EVERYTHING else SERVERS[:1], scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, request.param)


class OnThePage:
    """Opens sockets from a page of the server."""

    def __init__(self, tab: Tab, server: Server) -> None:
        self._tab = tab
        self._server = server

    def __call__(
        self, path: str, protocols: Any = (), *, host: str = "127.0.0.1", **query: str
    ) -> PageSaw:
        self._tab.go(f"http://{host}:{self._server.port}/page")
        target = f"{path}?{urlencode(query)}"
        return self._tab.open(f"ws://127.0.0.1:{self._server.port}{target}", protocols)


@pytest.fixture
def open_socket(tab: Tab, server: Server) -> Iterator[OnThePage]:
    with server.must_stay_quiet():
        yield OnThePage(tab, server)


class Fetch:
    """Asks over HTTP from a page, with the login cookie that the page's visitor has."""

    def __init__(self, tab: Tab, server: Server) -> None:
        self._tab = tab
        self._server = server
        self._host = ""  # that the page is from

    def __call__(
        self, method: str, path: str, *, host: str = "127.0.0.1", mode: str = "cors"
    ) -> tuple[int, Any] | str:
        """Status and JSON; or what a page sees of an answer that it may not read."""
        if self._host != host:
            self._tab.go(f"http://127.0.0.1:{self._server.port}/page")
            self._tab.run("document.cookie = 'session=opaque-1'")
            self._tab.go(f"http://{host}:{self._server.port}/page")
            self._host = host
        url = f"http://127.0.0.1:{self._server.port}{path}"
        told = self._tab.run(_FETCH, [url, {"method": method, "mode": mode}])
        return told if isinstance(told, str) else (told[0], told[1])


_FETCH = """
async ([url, options]) => {
  try {
    const answer = await fetch(url, {credentials: "include", ...options});
    return answer.type === "opaque" ? "opaque" : [answer.status, await answer.json()];
  } catch (error) { return error.name; }
}
"""


@pytest.fixture
def fetch(tab: Tab, server: Server) -> Iterator[Fetch]:
    with server.must_stay_quiet():
        yield Fetch(tab, server)
    tab.forget()


def fresh_token() -> str:
    return mint(exp=now() + 300)


@each_server
@pytest.mark.parametrize("offered", [[], ["chat"]], ids=["no-subprotocol", "chat"])
def test_a_refused_page_sees_the_code_and_the_phrase(
    open_socket: OnThePage, offered: list[str]
) -> None:
    reasons = Reason.INVALID, Reason.EXPIRED, Reason.REVOKED, Reason.UNAVAILABLE, Reason.ERROR
    for reason in reasons:
        saw = open_socket("/guarded", offered, token=f"deny-{reason.name}")
        assert saw.close == (reason.close_code, reason.phrase)
        assert saw.messages == []


@each_server
def test_a_refused_page_sees_the_code_whatever_subprotocols_it_offered(
    open_socket: OnThePage,
) -> None:
    expired = mint(exp=now() - 300)
    for words in OFFERED:
        offered = [expired if word == "a-token" else word for word in words]
        query = {} if expired in offered else {"token": expired}
        saw = open_socket("/guarded", offered, **query)
        assert saw.close == (4001, "token_expired"), words
        assert saw.protocol == ("bearer" if "bearer" in words else "".join(words))


def test_a_page_without_a_credential_sees_1008_token_missing(open_socket: OnThePage) -> None:
    assert open_socket("/guarded").close == (1008, "token_missing")


def test_a_page_of_a_foreign_origin_sees_1008_origin_not_allowed(open_socket: OnThePage) -> None:
    saw = open_socket("/guarded", host="localhost", token=fresh_token())
    assert saw.close == (1008, "origin_not_allowed")


def test_a_page_gets_in_with_a_token_in_the_query(open_socket: OnThePage) -> None:
    saw = open_socket("/guarded", token=fresh_token())
    assert saw.messages[1:] == ["hello"]
    assert saw.close == (1000, "done")


@each_server
def test_a_page_gets_in_with_a_subprotocol_and_the_token_is_not_echoed(
    open_socket: OnThePage,
) -> None:
    for others in ([], ["chat"]):
        saw = open_socket("/guarded", [*others, "bearer", fresh_token()])
        assert saw.messages[1:] == ["hello"]
        assert saw.protocol == "bearer"


def test_a_page_gets_the_subprotocol_that_the_app_chose(open_socket: OnThePage) -> None:
    saw = open_socket("/guarded", ["bearer", fresh_token(), "chat"], choose="chat")
    assert (saw.protocol, saw.messages[1:]) == ("chat", ["hello"])


def test_a_page_gets_in_with_a_subprotocol_after_a_verifier_that_waited(
    open_socket: OnThePage, server: Server
) -> None:
    test = server.new_test()
    server.release(test)
    saw = open_socket("/guarded", ["bearer", "wait"], test=test)
    assert (saw.protocol, saw.messages[1:]) == ("bearer", ["hello"])


@each_server
def test_a_page_sees_nothing_of_a_refusal_that_does_not_accept(open_socket: OnThePage) -> None:
    for path in ("/close", "/http"):
        for offered in ([], ["chat"]):
            saw = open_socket(path, offered, token="deny-EXPIRED")
            assert saw.close == (1006, ""), (path, offered)
            assert not saw.opened


def test_fact_a_page_that_is_echoed_none_of_its_subprotocols_loses_the_code(
    open_socket: OnThePage, server: Server
) -> None:
    server.excuse_trouble()  # the page may be gone before this bare app closes
    bare = "/bare/accept_then_close"
    assert open_socket(bare, ["chat"], code="4001", echo="no").close == (1006, "")
    assert open_socket(bare, ["chat"], code="4001").close == (4001, "a reason")


# Over HTTP, with a login cookie.


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_with_a_login_cookie_gets_in_over_http(fetch: Fetch, method: str) -> None:
    """With a GET to its own origin, a browser sends no Origin."""
    told = fetch(method, "/both/http-first")
    assert (told[0], told[1]["user"]) == (200, "alice")


def test_a_page_with_a_login_cookie_gets_a_ticket_and_opens_a_socket_with_it(
    fetch: Fetch, open_socket: OnThePage
) -> None:
    status, answer = fetch("POST", "/ticket")
    assert status == 201
    assert open_socket("/guarded", token=answer["ticket"]).messages[1:] == ["hello"]
    assert open_socket("/guarded", token=answer["ticket"]).close == (4001, "token_expired")


def test_whoever_types_the_address_gets_in_with_the_login_cookie(
    fetch: Fetch, tab: Tab, server: Server
) -> None:
    fetch("GET", "/page")
    tab.go(f"{server.origin}/guarded")
    assert '"user":"alice"' in tab.run("document.body.innerText").replace(" ", "")


@pytest.mark.parametrize("path", ["/guarded", "/ticket"])
def test_a_foreign_page_gets_nothing_with_its_visitors_cookie(
    fetch: Fetch, server: Server, path: str
) -> None:
    for method in ("GET", "POST"):
        for mode in ("cors", "no-cors"):
            start = len(server.log())
            told = fetch(method, path, host="localhost", mode=mode)
            assert told == ("opaque" if mode == "no-cors" else "TypeError")
            log = server.log_since(start)
            assert " refused: " in log
            assert "admitted" not in log
            assert "issued" not in log


# A visitor's login cookie that browsers send wherever they come from (SameSite=None), and a page of
# another site.

NAVIGATIONS = {
    "a link": "url => Object.assign(document.createElement('a'), {href: url}).click()",
    "a script": "url => { location = url; }",
    "a search form": """url => {
        const form = Object.assign(document.createElement("form"), {action: url});
        document.body.append(form);
        form.submit();
    }""",
}
FORM = """url => {
    const form = Object.assign(document.createElement("form"), {action: url, method: "POST"});
    document.body.append(form);
    form.submit();
}"""
# What else a page can have fetched; each resolves when that is over.
ELEMENTS = {
    "a picture": ("img", "src"),
    "a frame": ("iframe", "src"),
    "a script": ("script", "src"),
    "a video": ("video", "src"),
    "an object": ("object", "data"),
    "an embed": ("embed", "src"),
    "a style": ("link rel=stylesheet", "href"),
    "a prefetch": ("link rel=prefetch", "href"),
}
_ADD = """([url, kind, attribute]) => new Promise((resolve) => {
    const [name, option] = kind.split(" ");
    const element = document.createElement(name);
    if (option) element.setAttribute(...option.split("="));
    element.onload = element.onerror = resolve;
    element[attribute] = url;
    document.body.append(element);
}).then(() => null)"""
_SET_COOKIE = "document.cookie = 'session=opaque-1; SameSite=None; Secure'"
COOKIE_CAME = "a cookie without an Origin"


@pytest.fixture
def foreign(tab: Tab, server: Server) -> Iterator[Tab]:
    """A page of another site, whose visitor is logged in here."""
    with server.must_stay_quiet():
        tab.go(f"{server.origin}/page")
        tab.run(_SET_COOKIE)
        tab.go(f"http://localhost:{server.port}/page")
        yield tab
    tab.forget()


@pytest.mark.parametrize("way", NAVIGATIONS)
def test_a_link_of_another_site_is_answered(foreign: Tab, server: Server, way: str) -> None:
    shown = foreign.leave(NAVIGATIONS[way], f"{server.origin}/guarded?kept=1")
    assert '"user":"alice"' in shown.replace(" ", "")


def test_a_form_of_another_site_is_refused(foreign: Tab, server: Server) -> None:
    shown = foreign.leave(FORM, f"{server.origin}/guarded")
    assert "origin_not_allowed" in shown


def test_what_a_page_of_another_site_embeds_is_refused(foreign: Tab, server: Server) -> None:
    for kind, how in ELEMENTS.items():
        test, start = server.new_test(), len(server.log())
        foreign.run(_ADD, [f"{server.origin}/guarded?test={test}", *how])
        assert COOKIE_CAME in server.log_since(start), kind
        assert server.notes(test, until="app called", within=0) == []


# Another page's fetch with a header, before which the browser asks whether it may.


@pytest.mark.parametrize("path", ["/cors/outside", "/cors/inside"])
def test_a_page_of_another_origin_is_answered_where_a_cors_middleware_lets_it(
    tab: Tab, server: Server, path: str
) -> None:
    status, answer = across_origins(tab, server, path, "opaque-1")
    assert (status, answer["user"]) == (200, "alice")
    # Inside, it adds no header to a refusal, and the page may not read that.
    refusal = "TypeError" if path == "/cors/inside" else [401, {"error": "token_invalid"}]
    assert across_origins(tab, server, path, "unknown") == refusal


def test_without_one_it_is_refused_and_the_app_never_runs(tab: Tab, server: Server) -> None:
    test = server.new_test()
    with server.must_stay_quiet():
        assert across_origins(tab, server, f"/cors/none?test={test}", "opaque-1") == "TypeError"
        assert server.notes(test, until="app called", within=0) == []


def across_origins(tab: Tab, server: Server, path: str, token: str) -> Any:
    tab.go(f"http://localhost:{server.port}/page")
    options = {"credentials": "omit", "headers": {"Authorization": f"Bearer {token}"}}
    return tab.run(_FETCH, [f"http://127.0.0.1:{server.port}{path}", options])
