"""A real browser, and what a page in it sees of a WebSocket."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]

# Opens a socket, sends "hello" once it is open and something has arrived, and closes when that
# comes back; says what its handlers saw.
_OPEN = """
([url, protocols]) => new Promise((resolve) => {
  const seen = {opened: false, protocol: "", messages: []};
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { seen.opened = true; seen.protocol = socket.protocol; };
  socket.onmessage = (event) => {
    seen.messages.push(event.data);
    if (seen.messages.length == 1) socket.send("hello");
    else socket.close(1000, "done");
  };
  socket.onclose = (event) => {
    resolve({...seen, code: event.code, reason: event.reason});
  };
})
"""


@dataclass
class PageSaw:
    """What the handlers of a page's WebSocket saw."""

    opened: bool
    protocol: str
    messages: list[str]
    code: int
    reason: str

    @property
    def close(self) -> tuple[int, str]:
        return self.code, self.reason


class Tab:
    """One page of a browser."""

    def __init__(self, browser: Browser | BrowserContext) -> None:
        self._page = browser.new_page()
        self._page.set_default_timeout(30_000)

    def go(self, url: str) -> None:
        """Show a page; sockets are opened with its origin from now on."""
        if self._page.url != url:
            self._page.goto(url)

    def forget(self) -> None:
        """Have the browser lose its cookies."""
        self._page.context.clear_cookies()

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script makes of an argument, on the page."""
        return self._page.evaluate(script, argument)

    def leave(self, script: str, argument: Any = None) -> str:
        """Run a script that shows another page; the text of that."""
        with self._page.expect_navigation():
            self._page.evaluate(script, argument)
        return self._page.inner_text("body")

    def open(self, url: str, protocols: Sequence[str] = ()) -> PageSaw:
        """Open a WebSocket from the page, and wait for its `onclose`."""
        return PageSaw(**self._page.evaluate(_OPEN, [url, list(protocols)]))


@contextmanager
def chromium(*, third_party_cookies: bool = False) -> Iterator[Browser | BrowserContext]:
    """Chromium, or a skipped test where there is none and WSAUTH_REQUIRE_CHROMIUM isn't "1".

    While it runs no other asyncio loop can run in this thread.

    Args:
        third_party_cookies: whether it sends cookies whoever's page it shows, as browsers do by
            default outside their private windows.
    """
    executable = shutil.which("chromium")
    if executable is None:
        missing = pytest.fail if os.environ.get("WSAUTH_REQUIRE_CHROMIUM") == "1" else pytest.skip
        missing("Chromium is missing; install it: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    browser: Browser | BrowserContext
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        if third_party_cookies:
            preferences = Path(profile, "Default", "Preferences")
            preferences.parent.mkdir()
            preferences.write_text('{"profile": {"cookie_controls_mode": 0}}')
            browser = playwright.chromium.launch_persistent_context(
                profile, executable_path=executable, args=_ARGUMENTS
            )
        else:
            browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        yield browser
        browser.close()
