"""A real browser, and what a page in it sees of a WebSocket."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from programs import needed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Playwright

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    # Nothing that it does by itself, and no tab that is slower than another.
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    # RenderDocument has each page make a new frame, though the last one was of the same site: a
    # tenth of what pages cost. Playwright's own browsers do without it, too.
    "--disable-features=Translate,OptimizationHints,MediaRouter,HttpsUpgrades,RenderDocument",
    "--password-store=basic",
    "--use-mock-keychain",
]
_PATIENCE = 60.0  # seconds for its start
_LONG = 30_000  # milliseconds that a page may take for anything

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
        self._page.set_default_timeout(_LONG)

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


@cache
def _address() -> str:
    """Where the one Chromium of this process, started now, can be driven."""
    executable = needed("chromium-headless-shell | chromium", "chromium-headless-shell")
    folder = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    profile = Path(folder.name)
    (profile / "Default").mkdir()
    # Outside its private windows it sends cookies across sites, as browsers do by default.
    (profile / "Default/Preferences").write_text('{"profile": {"cookie_controls_mode": 0}}')
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(
            [executable, *_ARGUMENTS, f"--user-data-dir={profile}", "--remote-debugging-port=0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Debian's command is a shell script, with the browser below it
        )
    atexit.register(process.wait)
    atexit.register(os.killpg, process.pid, signal.SIGTERM)
    told, deadline = profile / "DevToolsActivePort", time.monotonic() + _PATIENCE
    while not (told.exists() and "\n" in told.read_text()):
        assert process.poll() is None, (profile / "log").read_text(errors="replace")
        assert time.monotonic() < deadline, "Chromium doesn't start"
        time.sleep(0.02)
    return f"http://127.0.0.1:{told.read_text().split()[0]}"


@cache
def _driver() -> tuple[Playwright, asyncio.AbstractEventLoop]:
    """The one driver of this process, and its loop, in which this thread is now."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=_LONG)  # its own five seconds are short on a busy machine
    started = sync_playwright()
    playwright, loop = started.start(), asyncio.get_running_loop()

    def end() -> None:
        with _inside(loop):
            started.__exit__()

    atexit.register(end)
    return playwright, loop


@contextmanager
def _inside(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Go on in the driver's loop, which stands still while others run in this thread."""
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(None)


@contextmanager
def chromium(*, third_party_cookies: bool = False) -> Iterator[Browser | BrowserContext]:
    """Chromium, or a skipped test where there is none: see `programs.needed`.

    While it is driven no other asyncio loop can run in this thread. The browser itself, and what
    drives it, run until all tests have ended.

    Args:
        third_party_cookies: whether it sends cookies across sites, as browsers do by default
            outside their private windows.
    """
    address = _address()
    playwright, loop = _driver()
    with _inside(loop), playwright.chromium.connect_over_cdp(address) as browser:
        if third_party_cookies:
            context = browser.contexts[0]
            yield context
            context.clear_cookies()
            for page in context.pages:
                page.close()
        else:
            yield browser
