"""examples/sessions.py, run as its first lines say, in a real browser: two devices of one user, and
an administrator.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browser import chromium
from handshakes import A_JWT
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from run_example import EXAMPLES, Running, running

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "sessions.py"
PASSWORD = "a password of the test"

# What Chromium itself writes on the console where a status is an error.
ERROR_STATUS = re.compile(r"Failed to load resource: the server responded with a status of \d+")
AGENTS = {
    "phone": "Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Mobile Safari/537.36",
    "laptop": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
    "office": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0",
}
AGENTS["another laptop"] = AGENTS["laptop"]

# A page looks at its lists every two seconds, unless it is `still`.
LOOKS = """
globalThis.still = false;
globalThis.looking = null;
const every = setInterval;
globalThis.setInterval = (look, pause) => every(() => still || (looking = look()), pause);
"""


@pytest.fixture(scope="module")
def example() -> Iterator[Running]:
    with running(str(EXAMPLE), PASSWORD=PASSWORD) as process:
        yield process
    log = process.written.partition("\n")[2]
    assert not re.search(rf"{A_JWT}|sessions_login=", log), log
    assert PASSWORD not in log


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


Device = Callable[[str], Page]


class Devices:
    """Pages that have cookies of their own, one of each device for all tests."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._pages: dict[str, Page] = {}
        self.problems: list[str] = []

    def page(self, name: str) -> Page:
        if name not in self._pages:
            context = self._browser.new_context(
                viewport={"width": 1000, "height": 850}, user_agent=AGENTS[name]
            )
            context.add_init_script(LOOKS)
            page = self._pages[name] = context.new_page()
            page.on("console", self._hear)
            page.on("pageerror", lambda error: self.problems.append(str(error)))
        return self._pages[name]

    def _hear(self, message: ConsoleMessage) -> None:
        if not ERROR_STATUS.match(message.text):
            self.problems.append(message.text)

    def close(self) -> None:
        for page in self._pages.values():
            page.context.close()


@pytest.fixture(scope="module")
def devices(browser: Browser, example: Running) -> Iterator[Devices]:
    devices = Devices(browser)
    yield devices
    devices.close()
    assert devices.problems == []


@pytest.fixture
def device(devices: Devices, example: Running) -> Iterator[Device]:
    """Opens the example's page on a device. Nothing may go wrong there."""
    pages: list[Page] = []

    def open_page(name: str) -> Page:
        page = devices.page(name)
        page.goto(example.origin)
        pages.append(page)
        return page

    yield open_page
    for page in pages:  # nobody is left for the next test
        for other in page.context.pages[1:]:
            other.close()
        if page.locator("#logout").is_visible():
            page.locator("#logout").click()
            expect(page.get_by_label("Password")).to_be_visible()
        page.context.clear_cookies()
    assert devices.problems == []


def log_in(page: Page, name: str = "alice") -> None:
    page.get_by_label("Name").select_option(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text(f"Logged in as {name}", exact=True)).to_be_visible()


def rows(page: Page, where: str = "Your devices") -> Any:
    return page.get_by_role("list", name=where).get_by_role("listitem")


def expect_devices(page: Page, *texts: str, where: str = "Your devices") -> None:
    patterns = [re.compile(re.escape(text)) for text in texts]
    expect(rows(page, where)).to_have_text(patterns)


def will_be_logged_out(*pages: Page) -> None:
    """Each of them is to learn that from its socket: the answer to a look at its lists could come
    first, and tell it, too."""
    for page in pages:
        expect(rows(page).first).to_be_visible()
        page.evaluate("async () => { still = true; await looking; }")


def expect_logged_out(page: Page) -> None:
    expect(page.get_by_label("Password")).to_be_visible()
    lines = page.get_by_role("log").get_by_role("listitem")
    expect(lines.filter(has_text="this device was logged out")).to_have_count(1)
    expect(lines.filter(has_text="socket closed: 4004 token_revoked")).to_have_count(1)
    page.reload()  # the cookie is there still
    expect(page.get_by_label("Password")).to_be_visible()
    assert page.evaluate("fetch('/me').then(({status}) => status)") == 401


def test_other_devices_are_logged_out(device: Device) -> None:
    laptop, phone, office, bob = map(device, ("laptop", "phone", "office", "another laptop"))
    log_in(bob, "bob")
    log_in(laptop)
    expect_devices(laptop, "Firefox on Linux")
    others = laptop.get_by_role("button", name="Log out my other devices")
    expect(others).to_be_disabled()
    log_in(phone)
    log_in(office)
    expect_devices(laptop, "Firefox on Linux", "Chrome on Android", "Edge on Windows")
    facts = re.compile(r"127\.0\.0\.1, /ws, opened (just now|\d minutes? ago)")
    expect(rows(laptop).first).to_contain_text(facts)
    expect(rows(laptop).first).to_contain_text("this page")
    expect(rows(laptop).first.get_by_role("button")).to_have_count(0)

    will_be_logged_out(phone)
    rows(laptop).nth(1).get_by_role("button", name="Log out").click()
    expect_logged_out(phone)
    expect_devices(laptop, "Firefox on Linux", "Edge on Windows")
    log_in(phone)
    expect_devices(laptop, "Firefox on Linux", "Edge on Windows", "Chrome on Android")

    will_be_logged_out(phone, office)
    others.click()
    expect_logged_out(phone)
    expect_logged_out(office)
    expect_devices(laptop, "Firefox on Linux")
    expect(others).to_be_disabled()
    expect_devices(bob, "Firefox on Linux")
    expect(bob.get_by_text("Logged in as bob", exact=True)).to_be_visible()


def test_pages_of_one_device_go_together(device: Device, example: Running) -> None:
    laptop, phone = device("laptop"), device("phone")
    log_in(laptop)
    log_in(phone)
    second = laptop.context.new_page()
    second.goto(example.origin)
    expect_devices(second, "this device", "Chrome on Android", "this page")
    will_be_logged_out(phone)
    second.get_by_role("button", name="Log out my other devices").click()
    expect_logged_out(phone)
    expect_devices(laptop, "this page", "this device")
    will_be_logged_out(second)
    laptop.locator("#logout").click()
    expect(laptop.get_by_label("Password")).to_be_visible()
    expect(second.get_by_text("this device was logged out")).to_be_visible()


def test_an_administrator_logs_a_user_out_everywhere(device: Device) -> None:
    laptop, phone, office = device("laptop"), device("phone"), device("office")
    log_in(laptop)
    log_in(phone)
    expect(laptop.get_by_role("heading", name="Administrator")).to_be_hidden()
    log_in(office, "root")
    expect_devices(office, "Edge on Windows")
    user = office.get_by_label("User")
    user.fill("bob")
    user.press("Enter")
    expect(office.get_by_text("Devices of bob")).to_be_visible()
    everywhere = office.get_by_role("button", name="Log this user out everywhere")
    expect(everywhere).to_be_disabled()
    user.fill("alice")
    user.press("Enter")
    theirs = "Devices of alice"
    expect_devices(office, "Firefox on Linux", "Chrome on Android", where=theirs)
    will_be_logged_out(laptop)
    rows(office, theirs).first.get_by_role("button", name="Log out").click()
    expect_logged_out(laptop)
    expect_devices(office, "Chrome on Android", where=theirs)
    will_be_logged_out(phone)
    everywhere.click()
    expect_logged_out(phone)
    expect(rows(office, theirs)).to_have_count(0)
    expect(everywhere).to_be_disabled()
    expect_devices(office, "Edge on Windows")


def test_no_other_user_and_no_other_page_ends_anything(device: Device, example: Running) -> None:
    laptop, phone = device("laptop"), device("phone")
    log_in(laptop)
    log_in(phone, "bob")
    expect_devices(laptop, "this page")
    id = laptop.evaluate("fetch('/sessions/').then((r) => r.json()).then((a) => a.sessions[0].id)")
    ask = "([path, method]) => fetch(path, {method}).then(({status}) => status)"
    assert phone.evaluate(ask, [f"/sessions/{id}", "DELETE"]) == 404
    assert phone.evaluate(ask, ["/sessions/?user=alice", "GET"]) == 403
    assert phone.evaluate(ask, [f"/sessions/{id}?user=alice", "DELETE"]) == 403
    cookie = laptop.context.cookies()[0]
    headers = [("Cookie", f"{cookie['name']}={cookie['value']}")]
    for origin in ([], [("Origin", "http://127.0.0.1:1")]):
        answer = example.ask("DELETE", f"/sessions/{id}", headers=[*headers, *origin])
        assert (answer.status, answer.json) == (403, {"error": "origin_not_allowed"})
    expect_devices(laptop, "this page")


def test_the_page_knows_no_credential(device: Device) -> None:
    laptop = device("laptop")
    log_in(laptop)
    expect_devices(laptop, "this page")
    token = laptop.context.cookies()[0]["value"]
    listed = laptop.evaluate("fetch('/sessions/').then((response) => response.text())")
    for text in (laptop.content(), listed, laptop.evaluate("document.cookie")):
        assert token not in text
        assert token.rpartition(".")[2] not in text


def test_no_width_scrolls_sideways(device: Device) -> None:
    page = device("office")
    log_in(page, "root")
    page.get_by_label("User").fill("root")
    page.get_by_role("button", name="Show").click()
    expect_devices(page, "Edge on Windows", where="Devices of root")
    for width in (320, 600, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = EXAMPLE.with_suffix(".html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|\ssrc=", html)
