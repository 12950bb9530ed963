"""examples/browser/wsauth.js, in Chromium, against real servers; and the page that shows it."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import browser_table
import pytest
from browser import chromium
from handshakes import A_JWT
from playwright.sync_api import Page, Route, expect
from redis_servers import Proxy
from run_example import EXAMPLES, running
from servers import Server, attempts, pooled, serving
from wsauth_page import HARNESS, SOURCE, Seen

from asgi_wsauth import DAPHNE_CLOSE_CODES, Reason
from asgi_wsauth.denial import ADVICE_BY_CODE, advice

pytestmark = pytest.mark.live

__all__ = ["attempts"]  # the fixture

FOLDER = EXAMPLES / "browser"

# All that may stand on the console: what Chromium itself writes there.
CHROMIUM = re.compile(r"WebSocket connection to '[^']*' failed: |Failed to load resource: ")
SECRET = re.compile(r"deny-|opaque-|until-|wst_")


class Client:
    """An AuthSocket on a page."""

    def __init__(self, page: Page, url: str, options: dict[str, Any]) -> None:
        self._page = page
        self._client = page.evaluate_handle("start", [url, options])

    def until(self, kind: str, times: int = 1) -> Seen:
        """What happened, once there were so many events of this kind."""
        told = self._client.evaluate("({until}, [kind, n]) => until(kind, n)", [kind, times])
        return Seen(**told)

    def run(self, script: str) -> Any:
        """What a script makes of the `socket`."""
        return self._client.evaluate(f"({{socket}}) => {script}")

    def until_gone(self, kind: str) -> Seen:
        """What happened up to its last event; neither time nor the network bring it back."""
        self.until(kind)
        self.network_is_back()
        self._page.evaluate("fetch('/settle')")
        seen = self.until(kind)
        assert seen.kinds[-1] == kind
        return seen

    def network_is_back(self) -> None:
        self._page.evaluate("dispatchEvent(new Event('online'))")


@pytest.fixture(scope="module")
def tab() -> Iterator[tuple[Page, list[str]]]:
    """The one page of all tests, and what is on its console."""
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(HARNESS)
        console: list[str] = []
        page.on("console", lambda message: console.append(message.text))
        page.on("pageerror", lambda error: console.append(f"error: {error}"))
        yield page, console


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets")


@pytest.fixture
def page(tab: tuple[Page, list[str]]) -> Iterator[Page]:
    """A page on whose console nobody but Chromium writes, and never a credential."""
    page, console = tab
    console.clear()
    yield page
    page.evaluate("globalThis.endAll?.(); heard.length = spoken.length = fetched.length = 0")
    page.context.set_offline(False)
    page.context.clear_cookies()
    assert [text for text in console if not CHROMIUM.match(text)] == []
    assert [text for text in console if SECRET.search(text)] == []


def show(page: Page, server: Server) -> None:
    """Have the page be one of this server's."""
    if page.url != f"{server.origin}/page":
        page.goto(f"{server.origin}/page")


Start: TypeAlias = Callable[..., Client]


@pytest.fixture
def start(page: Page, server: Server) -> Iterator[Start]:
    """Starts clients on a page of the server, which itself must have no trouble with them."""

    def start(path: str, *credentials: Any, through: Any = server, **options: Any) -> Client:
        """With `carrier="ticket"` and no credentials, tickets come from the TicketEndpoint."""
        show(page, server)
        options = {"carrier": "token", "credentials": credentials or None, **options}
        return Client(page, f"ws://127.0.0.1:{through.port}{path}", options)

    with server.must_stay_quiet():
        yield start


def refusals(advice: str) -> Any:
    """All of them for a token, and one for a ticket."""
    rows = [reason for reason in Reason if reason.advice == advice]
    pairs = [("ticket", rows[0]), *(("token", reason) for reason in rows)]
    ids = [f"{reason.name}-{carrier}" for carrier, reason in pairs]
    return pytest.mark.parametrize(("carrier", "reason"), pairs, ids=ids)


carriers = pytest.mark.parametrize("carrier", ["ticket", "token"])


# The table.


def test_its_table_is_the_one_of_the_package() -> None:
    """Where this fails, `python tests/support/browser_table.py` makes it anew."""
    assert browser_table.module_table() == browser_table.table()


def test_a_changed_table_is_noticed_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "wsauth.js"
    copy.write_text(SOURCE, encoding="utf-8")
    monkeypatch.setattr(browser_table, "MODULE", copy)
    monkeypatch.setattr(browser_table, "ADVICE_BY_CODE", {**ADVICE_BY_CODE, 1014: "retry later"})
    assert browser_table.module_table() != browser_table.table()
    browser_table.write()
    assert browser_table.module_table() == browser_table.table()
    assert '[1014, "retry later"]' in copy.read_text(encoding="utf-8")


def test_its_advice_is_there_for_other_clients(page: Page, server: Server) -> None:
    """For all codes, and for each phrase with whatever code."""
    show(page, server)
    rows = [(code, "") for code in (*range(1000, 1016), *range(2999, 5001))]
    codes = *ADVICE_BY_CODE, 1000, 3999, 5000
    rows += [(code, phrase) for phrase in ("a reason", *map_of_phrases()) for code in codes]
    told = page.evaluate(
        """async (rows) => {
          const { ADVICE, advice } = await import(module);
          return [rows.map((row) => advice(...row)), [...ADVICE]];
        }""",
        rows,
    )
    assert told[0] == [advice(code, phrase) for code, phrase in rows]
    assert dict(map(tuple, told[1])) == {**map_of_phrases(), **ADVICE_BY_CODE}


def map_of_phrases() -> dict[str, str]:
    return {reason.phrase: reason.advice for reason in Reason}


def test_it_is_one_file_under_240_lines_that_imports_nothing() -> None:
    assert SOURCE.count("\n") < 240
    assert max(map(len, SOURCE.splitlines())) <= 100
    assert not re.search(r"^import|import\(|console\.\w", SOURCE, re.MULTILINE)


# What it does about each reason.


@carriers
def test_a_good_credential_opens_one_socket(
    start: Start, attempts: Callable[[], int], carrier: str
) -> None:
    client = start("/guarded", "opaque-1", carrier=carrier, say="hello", tries=0)
    seen = client.until("message", 2)
    assert (seen.asked, seen.delays, seen.kinds) == ([False], [], ["open", "message", "message"])
    assert seen.of("message")[1] == ("hello",)
    client.run("socket.close()")
    assert attempts() == 1


@refusals("stop")
def test_what_can_not_succeed_is_not_tried_again(
    start: Start, attempts: Callable[[], int], reason: Reason, carrier: str
) -> None:
    seen = start("/guarded", f"deny-{reason.name}", carrier=carrier, tries=9).until_gone("stop")
    assert seen.of("stop") == [(1008, reason.phrase)]
    assert (seen.asked, seen.delays, attempts()) == ([False], [], 1)


@carriers
def test_an_expired_token_is_replaced_at_once(
    start: Start, attempts: Callable[[], int], carrier: str
) -> None:
    client = start("/guarded", "deny-EXPIRED", "opaque-1", carrier=carrier, tries=1)
    seen = client.until("message")
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert (seen.asked, seen.delays, attempts()) == ([False, True], [0], 2)


def test_a_token_that_is_always_expired_is_no_loop(
    start: Start, attempts: Callable[[], int]
) -> None:
    seen = start("/guarded", "deny-EXPIRED", tries=4).until("held")
    assert seen.delays == [0, 3000, 3000, 3000, 4000]  # where the clock stands
    assert (seen.asked, attempts()) == ([False, True, True, True, True], 5)


@refusals("refresh, with backoff")
def test_without_keys_a_fresh_token_is_asked_for_after_a_delay(
    start: Start, attempts: Callable[[], int], reason: Reason, carrier: str
) -> None:
    tokens = [f"deny-{reason.name}"] * 2 + ["opaque-1"]
    seen = start("/guarded", *tokens, carrier=carrier, tries=2).until("message")
    assert seen.of("waiting") == [(4001, reason.phrase)] * 2
    assert (seen.asked, seen.delays, attempts()) == ([False, True, True], [500, 3000], 3)


@refusals("log in again")
def test_a_revoked_login_is_handed_to_the_page(
    start: Start, attempts: Callable[[], int], reason: Reason, carrier: str
) -> None:
    client = start("/guarded", f"deny-{reason.name}", "opaque-1", carrier=carrier, tries=9)
    seen = client.until_gone("login")
    assert seen.of("login") == [(4004, reason.phrase)]
    assert (seen.asked, seen.delays, attempts()) == ([False], [], 1)
    client.run("socket.connect()")  # somebody has logged in
    assert client.until("message").asked == [False, False]


@refusals("retry later")
def test_what_may_pass_is_waited_for_ever_longer(
    start: Start, attempts: Callable[[], int], reason: Reason, carrier: str
) -> None:
    refused = f"deny-{reason.name}"
    client = start("/guarded", refused, refused, refused, "opaque-1", carrier=carrier, tries=3)
    seen = client.until("message")
    assert seen.of("waiting") == [(reason.close_code, reason.phrase)] * 3
    is_drained = reason is Reason.RESTARTING
    delays = [500, 1000, 2000] if is_drained else [5000, 10_000, 15_000]
    assert (seen.asked, seen.delays, attempts()) == ([False] * 4, delays, 4)


@pytest.mark.parametrize("path", ["/close", "/http"])
def test_where_nothing_says_why_one_fresh_credential_is_tried(
    start: Start, attempts: Callable[[], int], path: str
) -> None:
    seen = start(path, "deny-EXPIRED", "opaque-1", tries=1).until("message")
    assert (seen.of("waiting"), seen.asked) == ([(1006, "")], [False, True])
    assert attempts() == 2


@pytest.mark.parametrize("path", ["/close", "/http"])
def test_where_nothing_ever_says_why_it_is_no_loop(
    start: Start, attempts: Callable[[], int], path: str
) -> None:
    seen = start(path, "deny-INVALID", tries=4).until("held")
    assert seen.delays == [500, 1000, 2000, 4000, 8000]
    assert (seen.asked, attempts()) == ([False, True, False, False, False], 5)


def test_a_code_counts_where_the_reason_is_none_of_the_tables(start: Start) -> None:
    kinds = {
        "stop": (1000, 1003, 3999, 4000, 1008, 3000, 3003),
        "waiting": (1001, 1011, 1012, 1013, 4011, 4012, 4013, 4001),
        "login": (4004,),
    }
    for kind, codes in kinds.items():
        for code in codes:
            client = start(f"/bare/accept_then_close?code={code}", "opaque-1", tries=0)
            assert client.until(kind).of(kind) == [(code, "a reason")]


def test_from_daphne_the_code_alone_says_it(page: Page, request: pytest.FixtureRequest) -> None:
    """Where the browser answers in time: as it comes, Daphne resets a connection at the next full
    second after the close (txaio's timer rounds down), and Chromium sees 1006 if that is the
    moment between its reading of the close and its answer."""
    server = pooled(request.config, "daphne", WIRE_WAITS="1")
    show(page, server)
    for reason in Reason:
        code = DAPHNE_CLOSE_CODES.get(reason, reason.close_code)
        kind = {"stop": "stop", "log in again": "login"}.get(ADVICE_BY_CODE[code], "waiting")
        options = {"carrier": "token", "credentials": [f"deny-{reason.name}"], "tries": 0}
        client = Client(page, f"ws://127.0.0.1:{server.port}/daphne", options)
        seen = client.until("held" if kind == "waiting" else kind)
        assert seen.of(kind) == [(code, "")], reason
        delay = 500 if reason is Reason.KEYS_UNAVAILABLE else 5000
        assert seen.delays == ([0 if code == 4001 else delay] if kind == "waiting" else [])


# Delays.


def test_a_delay_is_a_random_part_of_a_bound_that_doubles(start: Start) -> None:
    """Which is higher where the server itself says "later"."""
    for path, number, delays in [
        ("/close", 0, [0] * 7),
        ("/close", 0.25, [250, 500, 1000, 2000, 4000, 7500, 7500]),
        ("/close", 1, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]),
        ("/guarded", 0, [0] * 7),
        ("/guarded", 0.25, [2500, 5000, *[7500] * 5]),
        ("/guarded", 1, [10_000, 20_000, *[30_000] * 5]),
    ]:
        client = start(path, "deny-UNAVAILABLE", tries=6, random=[number] * 7)
        assert client.until("held").delays == delays


def test_by_itself_it_takes_random_numbers_and_real_timers(start: Start) -> None:
    client = start("/guarded", "deny-UNAVAILABLE", random=None, spread=16, cap=64)
    seen = client.until("waiting", 8)
    client.run("socket.close()")
    bounds = [16, 32, *[64] * 6]
    parts = {delay / bound for delay, bound in zip(seen.delays, bounds, strict=True)}
    assert len(parts) == 8
    assert all(0 <= part < 1 for part in parts)


@pytest.mark.parametrize(("open_for", "delay"), [(5000, 500), (4999, 4000)])
def test_only_a_socket_that_stayed_open_counts_as_a_good_one(
    page: Page, start: Start, open_for: int, delay: int
) -> None:
    """Neither that it opened nor that the app said something proves it."""
    refused = ["deny-UNAVAILABLE"] * 3
    client = start(
        *("/live/obeys", *refused, "until-ever-eve"), tries=3, say="until-ever-eve", spread=1000
    )
    client.until("message")
    page.evaluate(f"clock = {open_for}")
    client.run("socket.send('close UNAVAILABLE')")
    assert client.until("held").delays == [500, 1000, 2000, delay]


@pytest.mark.parametrize(("open_for", "delay"), [(5000, 0), (4999, 500)])
def test_a_token_that_ends_after_a_good_time_is_replaced_at_once_each_time(
    page: Page, start: Start, open_for: int, delay: int
) -> None:
    credentials = ["deny-EXPIRED", "until-ever-eve"]
    client = start("/live/obeys", *credentials, tries=1, say="until-ever-eve")
    client.until("message")
    page.evaluate(f"clock = {open_for}")
    client.run("socket.send('close EXPIRED')")
    assert client.until("held").delays == [0, delay]


def test_a_token_that_ran_out_while_the_network_was_away_is_replaced_at_once(
    start: Start, server: Server
) -> None:
    """The fresh one that was asked for when the network went is an old one by now."""
    with Proxy(server.port) as link:
        client = start("/guarded", "opaque-1", "deny-EXPIRED", "opaque-1", through=link, tries=2)
        client.until("message")
        link.break_off()
        seen = client.until("message", 2)
        client.run("socket.close()")
    assert seen.of("waiting") == [(1006, ""), (4001, "token_expired")]
    # At once, but three seconds after the other, which in this test are not over.
    assert (seen.asked, seen.delays) == ([False, True, True], [500, 3000])


def test_all_clients_of_a_server_that_restarts_come_back_spread_over_seconds(start: Start) -> None:
    restarting = "/bare/accept_then_close?code=1012"
    clients = [start(restarting, "opaque-1", tries=0, random=None) for _ in range(20)]
    delays = sorted(client.until("held").delays[0] for client in clients)
    assert len(set(delays)) == 20
    assert 0 <= delays[0] < delays[-1] < 10_000
    assert delays[-1] - delays[0] > 2500  # or less once in 10^9 times


# Refreshes, at most one at a time, and none within three seconds of the last.


DUE = '{"type": "auth.refresh.due", "expires_at": 1790000000.0}'


@pytest.mark.parametrize(("asked_for", "delay"), [(0, 3000), (1000, 2000), (3000, 500)])
def test_a_fresh_credential_is_asked_for_three_seconds_after_the_last_at_the_soonest(
    page: Page, start: Start, asked_for: int, delay: int
) -> None:
    client = start(
        *("/live/obeys", "deny-EXPIRED", "until-ever-eve"), tries=1, say="until-ever-eve"
    )
    client.until("message")
    page.evaluate(f"clock = {asked_for}")
    client.run("socket.send('close EXPIRED')")
    assert client.until("held").delays == [0, delay]


def test_what_is_asked_for_when_the_socket_ends_is_for_the_next_one(
    page: Page, start: Start, attempts: Callable[[], int]
) -> None:
    """A page that renews a login by a token that works once has no second one to ask with."""
    options = {"refreshMessage": "auth.refresh", "say": "say hello", "tries": 1}
    client = start("/live/obeys", "until-ever-eve", "later", **options)
    client.until("message")
    client.run(f"socket.send('say {DUE}')")
    wait_for(page, "due")
    client.run("socket.send('close EXPIRED')")
    seen = client.until("waiting")
    assert (seen.asked, seen.of("waiting")) == ([False, True], [(4001, "token_expired")])
    assert page.evaluate("lastSignal.aborted") is False
    page.evaluate("bring('until-ever-eve')")
    seen = client.until("message", 2)
    assert (seen.asked, seen.delays, attempts()) == ([False, True], [0], 2)


def test_what_is_still_asked_for_after_a_delay_is_not_asked_for_again(
    page: Page, start: Start, server: Server
) -> None:
    token = f"until-ever-{server.new_test()}"
    with Proxy(server.port) as link:
        client = start(
            *("/live/waits", token, "later"),
            through=link,
            refreshMessage="auth.refresh",
            say="hello",
            tries=1,
        )
        client.until("message")
        client.run(f"[socket.send({json.dumps(DUE)}), socket.send('behind it')]")
        client.until("message", 2)
        link.break_off()
        client.until("waiting")
        page.evaluate("fetch('/settle')")
        page.evaluate("bring('opaque-1')")
        seen = client.until("message", 3)
        client.run("socket.close()")
    assert seen.of("waiting") == [(1006, "")]
    assert seen.asked == [False, True]


def test_a_page_that_connects_anew_no_longer_waits_for_what_was_asked_for(
    page: Page, start: Start, attempts: Callable[[], int]
) -> None:
    client = start("/guarded", "later", "opaque-1", tries=0)
    client.until("open", 0)
    client.run("socket.connect()")
    seen = client.until("message")
    page.evaluate("bring('opaque-2')")
    page.evaluate("fetch('/settle')")
    assert (seen.asked, attempts()) == ([False, False], 1)
    client.run("socket.send('hello')")
    assert client.until("message", 2).kinds == ["open", "message", "message"]


# Live sockets.


def test_a_socket_whose_login_is_revoked_is_handed_to_the_page(
    start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    name = server.new_test()
    client = start("/live/waits", f"until-ever-{name}", say="hello", tries=9)
    client.until("message")
    server.get("/revoke", kind="user", name=name)
    seen = client.until_gone("login")
    assert seen.of("login") == [(4004, "token_revoked")]
    assert (seen.asked, attempts()) == ([False], 1)


def test_a_socket_whose_token_ends_comes_back_with_a_fresh_one(
    page: Page, start: Start, attempts: Callable[[], int]
) -> None:
    client = start("/live/waits", "until-0.3-ann", "until-ever-ann", tries=1)
    client.until("open", 2)
    client.run("socket.send('hello')")
    wait_for(page, "hello")
    seen = client.until("open", 2)
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert (seen.asked, seen.delays, attempts()) == ([False, True], [0], 2)


def count(page: Page, where: str, words: str) -> int:
    """How many of the page's messages, `heard` or `spoken`, have these words in them."""
    found = f"{where}.filter((data) => String(data).includes({json.dumps(words)})).length"
    return int(page.evaluate(found))


def wait_for(page: Page, words: str, times: int = 1) -> None:
    """Until the page's sockets have heard these words so often."""
    heard = f"heard.filter((data) => String(data).includes({json.dumps(words)}))"
    page.wait_for_function(f"{heard}.length >= {times}")


def test_a_token_is_replaced_on_the_open_socket_where_the_server_asks_for_that(
    page: Page, start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    name = server.new_test()
    client = start(
        *("/live/refresh", f"until-10-{name}", f"until-ever-{name}"),
        refreshMessage="auth.refresh",
        say="hello",
        tries=0,
    )
    wait_for(page, "auth.refresh.ok")
    seen = client.until("message")
    assert seen.asked == [False, True]
    assert seen.of("message") == [("hello",)]
    assert count(page, "heard", ".due") == count(page, "spoken", '"auth.refresh"') == 1
    assert attempts() == 1


def test_a_page_that_brings_the_token_that_it_has_kept_is_asked_once(
    page: Page, start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    kept = f"ends-{time.time() + 8}-{server.new_test()}"
    client = start("/live/refresh", kept, refreshMessage="auth.refresh", say="hello", tries=0)
    seen = client.until("waiting")
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert seen.asked == [False, True]
    assert [count(page, "heard", words) for words in (".due", ".ok")] == [1, 1]
    assert count(page, "spoken", '"auth.refresh"') == 1
    assert attempts() == 1


def test_tokens_that_live_for_a_second_are_asked_for_at_a_bounded_rate(
    page: Page, start: Start, server: Server
) -> None:
    """The first socket, which has a longer one at first, gets one that is due; then they end, and
    come back ever later."""
    begun = time.monotonic()
    options = {"refreshMessage": "auth.refresh", "say": "hello", "ticks": True}
    options |= {"random": [1] * 9, "base": 500}
    name = server.new_test()
    client = start("/live/refresh", f"until-8-{name}", f"until-1-{name}", **options)
    seen = client.until("waiting", 3)
    # For a socket, one; and one that is due, three seconds after the last one at the soonest.
    sockets = seen.kinds.count("open")
    assert len(seen.asked) <= sockets + 1 + (time.monotonic() - begun) / 3
    assert count(page, "heard", ".due") <= sockets
    assert count(page, "heard", ".ok") == count(page, "spoken", '"auth.refresh"') >= 1
    assert set(seen.of("waiting")) == {(4001, "token_expired")}


def test_a_token_is_asked_for_when_it_is_due_and_no_sooner(
    page: Page, start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    """One of ten seconds at half of them; one of an hour not yet."""
    options = {"refreshMessage": "auth.refresh", "say": "hello", "tries": 0, "ticks": True}
    hour = start("/live/refresh", f"until-3600-{server.new_test()}", **options)
    name = server.new_test()
    begun = time.monotonic()
    client = start("/live/refresh", f"until-10-{name}", f"until-3600-{name}", **options)
    wait_for(page, ".ok")
    assert time.monotonic() - begun >= 5
    assert count(page, "heard", ".due") == 1
    assert client.until("message").asked == [False, True]
    assert hour.until("message").asked == [False]
    assert attempts() == 2


def test_a_chat_that_relays_does_not_have_every_page_ask_for_a_token(
    page: Page, start: Start, server: Server
) -> None:
    token = f"until-3600-{server.new_test()}"
    options = {"refreshMessage": "auth.refresh", "say": "hello", "tries": 0}
    client = start("/live/refresh", token, **options)
    client.until("message")
    escaped = DUE.replace("due", "\\u0064ue")
    for words in (DUE, f" {DUE}", escaped, DUE.replace("due", "ok"), "behind it"):
        client.run(f"socket.send({json.dumps(words)})")
    seen = client.until("message", 2)
    assert seen.of("message") == [("hello",), ("behind it",)]
    assert seen.asked == [False]
    assert (count(page, "spoken", "expires_at"), count(page, "heard", "expires_at")) == (4, 0)
    assert count(page, "spoken", '"token"') == 0


def test_where_nobody_holds_back_what_strangers_say_the_page_does(
    page: Page, start: Start, server: Server
) -> None:
    """Behind a middleware without `refresh_message`, and with a page that believes in one."""
    client = start(
        *("/live/waits", f"until-ever-{server.new_test()}"),
        refreshMessage="auth.refresh",
        say="hello",
        tries=0,
    )
    client.until("message")
    others = [
        f" {DUE}",
        DUE.replace(" ", ""),
        f"{DUE}{DUE}",
        DUE[:-1] + ', "more": 1}',
        DUE.replace("1790000000.0", '"x"'),
        DUE.replace("auth.refresh", "auth-refresh"),
        DUE.replace("due", "ok2"),
    ]
    said = json.dumps([DUE] * 50 + others + [DUE] * 50 + ["behind it"])
    client.run(f"{said}.forEach((words) => socket.send(words))")
    wait_for(page, "behind it")
    wait_for(page, '"token"')  # which the page is asked for meanwhile
    seen = client.until("message")
    brought = [message for message in seen.of("message") if '"token"' in message[0]]
    told = [message for message in seen.of("message") if message not in brought]
    assert told == [(words,) for words in ("hello", *others, "behind it")]
    assert (seen.asked, len(brought)) == ([False, True], 1)
    for clock, asked in [(2999, 2), (3000, 3)]:
        page.evaluate(f"clock = {clock}")
        client.run(f"[socket.send({json.dumps(DUE)}), socket.send('at {clock}')]")
        wait_for(page, f"at {clock}")
        assert len(client.until("message").asked) == asked


def test_while_the_page_is_asked_for_a_token_it_is_not_asked_for_another(
    page: Page, start: Start, server: Server
) -> None:
    token = f"until-ever-{server.new_test()}"
    client = start(
        "/live/waits", token, "later", refreshMessage="auth.refresh", say="hello", tries=0
    )
    client.until("message")
    for at in (0, 5000, 50_000):
        page.evaluate(f"clock = {at}")
        client.run(f"[socket.send({json.dumps(DUE)}), socket.send('more')]")
    assert client.until("message", 4).asked == [False, True]
    page.evaluate("bring('opaque-1')")
    client.run("socket.send('the end')")
    wait_for(page, "the end")
    assert count(page, "spoken", '"token"') == 1


# Silence.

BY_HAND = 1000  # seconds between the page's own looks


@pytest.fixture
def freezer() -> Iterator[Server]:
    """A server of one's own, which may be stopped."""
    with serving("uvicorn-sansio") as server:
        yield server
        server.process.send_signal(signal.SIGCONT)


def test_a_peer_that_has_gone_silent_is_noticed(page: Page, freezer: Server) -> None:
    show(page, freezer)
    options = {
        "carrier": "token",
        "credentials": ["opaque-1"],
        "heartbeat": BY_HAND,
        "ping": "ping",
        "random": [1] * 9,
        "base": 100,
        "timeout": 1000,
    }
    client = Client(page, f"ws://127.0.0.1:{freezer.port}/guarded", options)
    client.until("message")  # what the app says
    for answers in (1, 2):
        page.evaluate("look()")
        client.until("message", 1 + answers)
    assert client.until("open").kinds == ["open", *["message"] * 3]
    freezer.process.send_signal(signal.SIGSTOP)
    page.evaluate("look()")
    assert client.until("open").kinds.count("waiting") == 0
    page.evaluate("look()")
    assert client.until("waiting").of("waiting") == [(1006, "")]
    freezer.process.send_signal(signal.SIGCONT)
    seen = client.until("open", 2)
    assert seen.asked[:2] == [False, True]
    client.run("socket.close()")


def test_a_peer_that_need_not_answer_has_to_say_something_in_time(
    page: Page, start: Start, server: Server
) -> None:
    options = {"heartbeat": BY_HAND, "tries": 0}
    quiet = start("/live/waits", f"until-ever-{server.new_test()}", **options)
    talks = start("/live/sends", f"until-ever-{server.new_test()}", **options)
    quiet.until("open")
    talks.until("open")
    for _ in range(3):
        page.evaluate("look()")
        said = talks.until("open").kinds.count("message")
        talks.until("message", said + 1)
    assert quiet.until("held").of("waiting") == [(1006, "")]
    assert talks.until("open").kinds.count("waiting") == 0
    assert count(page, "spoken", "") == 0


def test_without_a_heartbeat_a_peer_may_be_silent(page: Page, start: Start, server: Server) -> None:
    silent = start("/live/waits", f"until-ever-{server.new_test()}", tries=0)
    silent.until("open")
    other = start("/live/waits", f"until-ever-{server.new_test()}", heartbeat=0.3, tries=0)
    other.until("held")
    assert silent.until("open").kinds == ["open"]


def test_a_socket_that_was_closed_is_not_looked_after(
    page: Page, start: Start, server: Server
) -> None:
    token = f"until-ever-{server.new_test()}"
    client = start("/live/waits", token, heartbeat=BY_HAND, ping="ping", tries=0)
    client.until("open")
    page.evaluate("look()")
    client.until("message")
    client.run("socket.close()")
    page.evaluate("look()")
    assert count(page, "spoken", "ping") == 1
    assert client.until("open").kinds == ["open", "message"]


@pytest.mark.parametrize("failing", [None, {"message": "no network"}], ids=["none", "error"])
def test_a_socket_for_which_there_is_no_new_token_ends_in_time(start: Start, failing: Any) -> None:
    client = start(
        *("/live/refresh", "until-4-ann", failing, "until-ever-ann"),
        refreshMessage="auth.refresh",
        say="hello",
        tries=1,
    )
    seen = client.until("message", 2)
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert (seen.asked, seen.delays) == ([False, True, True], [3000])  # where the clock stands


def test_a_user_with_too_many_sockets_waits_for_a_place(
    start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    token = f"until-ever-{server.new_test()}"
    first, second = (start("/live/reject", token, say="hello", tries=0) for _ in range(2))
    first.until("message")
    second.until("message")
    third = start("/live/reject", token, say="hello", base=16, cap=64)
    seen = third.until("waiting", 3)
    assert seen.of("waiting")[:3] == [(1013, "too_many_connections")] * 3
    first.run("socket.close()")
    seen = third.until("message")
    assert len(seen.asked) == len(seen.delays) + 1
    assert not any(seen.asked)
    assert attempts() == 2 + len(seen.asked)


def test_an_address_that_is_locked_out_waits(
    start: Start, server: Server, attempts: Callable[[], int]
) -> None:
    path = f"/live/throttled?rejection=accept_then_close&test={server.new_test()}"
    for _ in range(2):
        seen = start(path, "rubbish", carrier="ticket", tries=9).until_gone("stop")
        assert seen.of("stop") == [(1008, "token_invalid")]
    seen = start(path, "opaque-1", carrier="ticket", tries=3).until("held")
    assert seen.of("waiting") == [(1013, "too_many_failures")] * 4
    assert seen.delays == [5000, 10_000, 15_000, 15_000]
    assert attempts() == 2 + 4


def test_a_tab_that_slept_and_tries_its_used_ticket_again_asks_for_another(
    start: Start, server: Server
) -> None:
    """It is back at once, and without anybody's doing."""
    page = [("Authorization", "Bearer opaque-1"), ("Origin", server.origin)]
    used, fresh = (server.ask("POST", "/ticket", headers=page).json["ticket"] for _ in range(2))
    start("/guarded", used, carrier="ticket", tries=0).until("message")
    seen = start("/guarded", used, fresh, carrier="ticket", tries=1).until("message")
    assert (seen.asked, seen.delays) == ([False, True], [0])
    assert seen.of("waiting") == [(4001, "token_expired")]
    assert not {"stop", "login"} & set(seen.kinds)


# The network.


def test_when_the_network_is_cut_it_comes_back_as_soon_as_that_does(
    start: Start, server: Server
) -> None:
    with Proxy(server.port) as link:
        client = start("/guarded", "opaque-1", through=link, base=16, cap=64)
        client.until("message")
        link.cut()
        client.until("waiting", 4)
        assert link.made == 1
        link.restore()
        seen = client.until("message", 2)
        client.run("socket.close()")
    assert set(seen.of("waiting")) == {(1006, "")}
    assert seen.asked == [False, True, *[False] * (len(seen.delays) - 1)]
    assert link.made == 2


def test_while_the_browser_is_offline_it_waits_for_the_network(
    page: Page, start: Start, server: Server
) -> None:
    with Proxy(server.port) as link:
        client = start("/guarded", "opaque-1", through=link, tries=0)
        client.until("message")
        page.context.set_offline(True)
        link.cut()
        assert client.until("held").delays == [30_000]
        link.restore()
        page.context.set_offline(False)
        assert client.until("message", 2).delays == [30_000]
        client.run("socket.close()")
    assert link.made == 2


def test_a_server_that_does_not_answer_is_given_up(start: Start, server: Server) -> None:
    with Proxy(server.port) as link:
        link.silent = True
        client = start("/guarded", "opaque-1", through=link, timeout=200, base=16, cap=64)
        assert client.until("waiting").of("waiting") == [(1006, "")]
        link.silent = False
        client.until("message")
        client.run("socket.close()")


def test_the_time_for_a_handshake_is_not_that_for_the_socket(page: Page, start: Start) -> None:
    # A handshake that took longer, on a busy machine, is followed by others.
    client = start("/guarded", "opaque-1", timeout=200, base=16, cap=64)
    client.until("message")
    page.evaluate("new Promise((resolve) => AbortSignal.timeout(300).onabort = resolve)")
    client.run("socket.send('hello')")
    assert client.until("message", 2).kinds[-3:] == ["open", "message", "message"]


# The page.


@pytest.mark.parametrize(
    "credentials",
    [["never"], ["deny-UNAVAILABLE"], ["opaque-1"]],
    ids=["asking", "waiting", "open"],
)
def test_a_page_that_closes_it_has_closed_it(
    page: Page, start: Start, attempts: Callable[[], int], credentials: Sequence[str]
) -> None:
    client = start("/guarded", *credentials, tries=0)
    if credentials != ["never"]:
        client.until({"deny-UNAVAILABLE": "held", "opaque-1": "message"}[credentials[0]])
    before = attempts()
    client.run("socket.close()")
    assert page.evaluate("lastSignal.aborted")
    assert client.run("socket.send('hello')") is False
    client.network_is_back()
    page.evaluate("fetch('/settle')")
    seen = client.until("open", 0)
    assert (len(seen.asked), attempts()) == (1, before)


def test_a_page_may_close_it_while_it_is_asked(
    page: Page, start: Start, attempts: Callable[[], int]
) -> None:
    client = start("/guarded", "deny-EXPIRED", "close", tries=1)
    client.until("closed")
    page.evaluate("fetch('/settle')")
    assert attempts() == 1
    assert client.until("closed").kinds[-1] == "closed"


def test_connecting_anew_begins_with_the_first_delay_and_the_token_that_there_is(
    page: Page, start: Start
) -> None:
    client = start("/guarded", "deny-EXPIRED", "deny-UNAVAILABLE", "deny-EXPIRED", tries=2)
    seen = client.until("held")
    assert (seen.asked, seen.delays) == ([False, True, False], [0, 5000, 3000])
    page.evaluate("clock = 3000")
    client.run("socket.connect()")
    seen = client.until("held", 2)
    assert (seen.asked[3:], seen.delays[3:]) == ([False], [0])


def test_connecting_anew_ends_the_socket_that_there_was(
    page: Page, start: Start, attempts: Callable[[], int]
) -> None:
    client = start("/guarded", "opaque-1", tries=0)
    client.until("message")
    client.run("socket.connect()")
    client.until("message", 2)
    page.evaluate("fetch('/settle')")
    client.run("socket.send('hello')")
    seen = client.until("message", 3)
    assert seen.kinds == ["open", "message", "open", "message", "message"]
    assert attempts() == 2


@pytest.mark.parametrize("kind", ["waiting", "stop", "login"])
def test_a_page_may_connect_anew_from_within_an_event(
    start: Start, attempts: Callable[[], int], kind: str
) -> None:
    refused = {"waiting": "deny-UNAVAILABLE", "stop": "deny-INVALID", "login": "deny-REVOKED"}
    client = start("/guarded", refused[kind], "opaque-1", tries=9, reconnectAt=kind)
    seen = client.until("message")
    assert (seen.asked, attempts()) == ([False, False], 2)


def test_what_is_sent_while_there_is_no_socket_is_not_kept(start: Start) -> None:
    client = start("/live/waits", "deny-UNAVAILABLE", "until-ever-ann", say="hello", tries=0)
    client.until("held")
    assert client.run("socket.send('lost')") is False
    client.network_is_back()
    client.until("message")
    assert client.run("socket.send('kept')") is True
    assert client.until("message", 2).of("message") == [("hello",), ("kept",)]


def test_a_page_without_a_credential_is_to_log_in(
    start: Start, attempts: Callable[[], int]
) -> None:
    client = start("/guarded", None, "opaque-1", tries=9)
    assert client.until_gone("login").of("login") == [(None, None)]
    assert attempts() == 0
    client.run("socket.connect()")
    client.until("message")


def test_a_page_that_can_not_get_a_credential_waits(start: Start) -> None:
    failing = [{"message": "no network"}, "never"]
    # A handshake that took longer, too, on a busy machine, is followed by others.
    seen = start("/guarded", *failing, "opaque-1", tries=9, timeout=200).until("message")
    errors = [event[3] for event in seen.events if event[0] == "waiting"]
    assert (errors[:2], set(errors[2:]) - {None}) == (["Error", "TimeoutError"], set())
    assert seen.delays[:2] == [500, 1000]


def test_a_fresh_credential_is_asked_for_until_there_is_one(start: Start) -> None:
    failing = [{"message": "no network"}] * 2
    seen = start("/guarded", "deny-EXPIRED", *failing, "opaque-1", tries=3).until("message")
    assert (seen.asked, seen.delays) == ([False, True, True, True], [0, 3000, 3000])


def test_an_error_with_a_phrase_of_the_table_counts_as_that(start: Start) -> None:
    client = start("/guarded", {"message": "refused", "reason": "forbidden"}, tries=9)
    assert client.until_gone("stop").of("stop") == [(None, "forbidden")]


def test_a_token_that_no_browser_can_send_is_not_told_to_anybody(start: Start) -> None:
    seen = start("/guarded", "opaque-1 and a space", tries=9).until_gone("stop")
    assert seen.events == [["stop", None, "SyntaxError", None]]


def test_it_wants_to_know_one_carrier(page: Page, server: Server) -> None:
    show(page, server)
    for options in ({}, {"carrier": "ticket", "credentials": [], "token": "both"}):
        with pytest.raises(Exception, match="needs one function, as `ticket` or as `token`"):
            Client(page, "/guarded", {"carrier": "neither", "credentials": [], **options})


@pytest.mark.parametrize("path", ["/guarded", "http://127.0.0.1:{}/guarded"])
def test_an_address_may_be_a_path_or_that_of_the_page(
    page: Page, server: Server, path: str
) -> None:
    show(page, server)
    options = {"carrier": "token", "credentials": ["opaque-1"], "protocols": ["chat"]}
    client = Client(page, path.format(server.port) + "?choose=chat", options)
    assert '"offered": ["chat", "bearer"]' in client.until("message").of("message")[0][0]


# Tickets from a TicketEndpoint.


def test_a_ticket_takes_the_place_of_one_in_the_address(start: Start) -> None:
    start("/guarded?token=old&more=yes", "opaque-1", carrier="ticket", tries=0).until("message")


@pytest.mark.parametrize(
    ("login", "kind", "told"),
    [
        ("opaque-1", "message", None),
        ("deny-MISSING", "login", (None, None)),
        ("deny-EXPIRED", "login", (None, None)),
        ("deny-FORBIDDEN", "stop", (None, "forbidden")),
        ("deny-THROTTLED", "held", None),
        ("deny-UNAVAILABLE", "held", None),
    ],
)
def test_a_ticket_is_asked_for_with_the_pages_login(
    page: Page, start: Start, server: Server, login: str, kind: str, told: Any
) -> None:
    show(page, server)
    page.evaluate(f"document.cookie = 'session={login}'")
    seen = start("/guarded", carrier="ticket", tries=0).until(kind)
    assert told is None or seen.of(kind) == [told]


HTML, JSON = "text/html", "application/json"


ANSWERS: dict[str, list[dict[str, Any]]] = {
    "login": [
        *({"status": status, "location": "/page"} for status in (301, 302, 303, 307)),
        {"status": 302, "location": "https://login.example/"},
        *({"status": status, "type": HTML, "body": "<html>"} for status in (200, 203, 401, 403)),
        *({"status": 200, "type": JSON, "body": body} for body in ("null", "{}", "5")),
        {"status": 204},
        {"status": 403, "type": JSON, "body": '{"detail": "not logged in"}'},
    ],
    "stop": [
        {"status": 403, "type": JSON, "body": '{"error": "forbidden"}'},
        {"status": 400, "type": JSON, "body": '{"error": "token_malformed"}'},
    ],
    "held": [  # an outage, or a proxy that has nothing behind it at the moment
        *({"status": status, "type": HTML, "body": "<html>"} for status in (404, 429, 500, 502)),
        *({"status": status, "type": JSON, "body": '{"error": "x"}'} for status in (404, 503)),
        {"status": 503, "type": JSON, "body": "null"},
    ],
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_answers_in_the_place_of_the_endpoint_is_understood(
    page: Page, start: Start, attempts: Callable[[], int], kind: str
) -> None:
    page.evaluate("fetched.length = 0")
    rows = {in_its_place(**told): told for told in ANSWERS[kind]}
    clients = [start("/guarded", carrier="ticket", tries=0, **{"from": row}) for row in rows]
    for client in clients:
        client.until(kind)
    if kind != "held":
        clients[0].network_is_back()
    page.evaluate("fetch('/settle')")
    for client, told in zip(clients, rows.values(), strict=True):
        assert client.until(kind).kinds[-1] == kind, told
    asked = [url for url, _ in page.evaluate("fetched") if "in-its-place" in url]
    assert (sorted(asked), attempts()) == (sorted(rows), 0)


def in_its_place(**told: Any) -> str:
    return f"/in-its-place?{urlencode(told)}"


@pytest.mark.parametrize("status", [429, 503])
def test_the_endpoint_may_say_how_long_to_wait(start: Start, status: int) -> None:
    for after, delay in [
        ("7", 7500),
        ("0", 500),
        ("1.5", 2000),
        ("99999999999", 3_600_500),  # an hour at most
        *((text, 500) for text in ("-7", "", "soon", "Fri, 01 Jan 2021 00:00:00 GMT")),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3_600_500),
        (None, 500),
    ]:
        told = {} if after is None else {"retry-after": after}
        address = in_its_place(status=status, type=JSON, body="{}", **told)
        client = start("/guarded", carrier="ticket", tries=0, **{"from": address})
        assert client.until("held").delays == [delay], after


def test_a_network_that_returns_does_not_cut_that_short(start: Start) -> None:
    address = in_its_place(status=503, **{"retry-after": "7"})
    client = start("/guarded", carrier="ticket", tries=0, **{"from": address})
    client.until("held")
    client.network_is_back()
    assert client.until("held", 2).delays == [7500, 7000]


def test_the_ticket_endpoint_says_how_long_an_address_is_locked_out(
    page: Page, start: Start, server: Server
) -> None:
    show(page, server)
    page.evaluate("document.cookie = 'session=deny-THROTTLED'")
    seen = start("/guarded", carrier="ticket", tries=0).until("held")
    assert seen.events == [["waiting", None, "too_many_failures", "Error"], ["held"]]
    assert seen.delays == [7500]


def test_a_page_may_say_how_long_to_wait(start: Start) -> None:
    busy = {"message": "busy", "retryAfter": 2}
    client = start("/guarded", busy, "opaque-1", tries=1)
    assert client.until("message").delays == [2500]


def test_an_answer_that_breaks_off_is_no_login_page(page: Page, start: Start) -> None:
    """The network's doing."""

    def answer_half(listener: socket.socket) -> None:
        head = "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 99\r\n\r\n{"
        client, _ = listener.accept()
        with client:
            client.recv(10_000)
            client.sendall(head.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=answer_half, args=(listener,))
        answering.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/ticket"
        seen = start("/guarded", carrier="ticket", tries=0, **{"from": url}).until("held")
        answering.join(10)
    assert seen.events[0] == ["waiting", None, None, "TypeError"]


def test_a_page_may_say_how_it_asks_and_proxies_learn_that_it_is_no_navigation(
    page: Page, server: Server
) -> None:
    show(page, server)
    headers = page.evaluate(
        """async () => {
          const { ticketFrom } = await import(module);
          const said = [];
          for (const headers of [undefined, { "X-CSRF": "1" }, new Headers({ "X-CSRF": "1" })]) {
            await ticketFrom("/page", { headers, redirect: "follow" })();
            const { headers: sent, ...how } = fetched.at(-1)[1];
            said.push([Object.fromEntries(new Headers(sent)), how.method, how.redirect]);
          }
          return said;
        }"""
    )
    accept = {"accept": "application/json"}
    assert headers == [
        [accept, "POST", "follow"],
        *[[{**accept, "x-csrf": "1"}, "POST", "follow"]] * 2,
    ]


# The example.


def test_its_page_comes_back_when_the_server_does(page: Page) -> None:
    command, secret = str(FOLDER / "app.py"), "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
    state, lines = page.get_by_role("status"), page.get_by_role("log").get_by_role("listitem")
    with running(command, SECRET=secret) as app:
        page.goto(app.origin)
        expect(state).to_have_text("logged out")
        page.get_by_role("button", name="Log in").click()
        expect(lines.last).to_have_text("Hello, alice")
        app.process.kill()
        expect(state).to_contain_text("waiting")
        expect(lines.filter(has_text="closed: 1006")).to_have_count(1)
    page.context.clear_cookies(name="login")  # which ends after a minute, and is renewed
    with running(command, SECRET=secret, PORT=str(app.port)):
        expect(state).to_have_text("connected", timeout=40_000)
        page.get_by_label("Message").fill("<b>again</b>")
        page.get_by_role("button", name="Send").click()
        expect(lines.last).to_have_text("alice: <b>again</b>")
        page.get_by_role("button", name="Log out everywhere").click()
        expect(lines.last).to_have_text("closed: 4004 token_revoked; log in")
        page.get_by_role("button", name="Log in").click()
        expect(state).to_have_text("connected")


def test_its_page_is_logged_out_where_a_proxy_sends_it_to_a_login_page(page: Page) -> None:
    asked: list[str] = []

    def send_away(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=302, headers={"Location": "https://login.example/"})

    with running(str(FOLDER / "app.py")) as app:
        page.goto(app.origin)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("status")).to_have_text("connected")
        page.route(re.compile("/(ticket|renew)$"), send_away)
        page.reload()
        expect(page.get_by_role("status")).to_have_text("logged out")
        page.evaluate("dispatchEvent(new Event('online'))")
        page.unroute_all()
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("status")).to_have_text("connected")
    assert len(asked) == 2


def test_its_log_has_no_ticket_and_no_other_site_logs_anybody_in(page: Page) -> None:
    with running(str(FOLDER / "app.py")) as app:
        page.goto(app.origin)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("status")).to_have_text("connected")
        for path, status in (("/login", 403), ("/ticket", 403), ("/renew", 403), ("/logout", 403)):
            headers = [("Origin", "http://127.0.0.1:1")]
            assert app.ask("POST", path, headers=headers).status == status
        for width in (320, 1000):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width
    assert not re.search(rf"wst_|{A_JWT}|token=", app.written)
