"""Firefox, over WebDriver BiDi, and WebKit, over WebDriver: what a page in them makes of a script.

Sources: https://www.w3.org/TR/webdriver-bidi/ and https://www.w3.org/TR/webdriver2/.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import glob
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from programs import needed
from servers import free_port
from websockets.sync.client import ClientConnection, connect

__all__ = ["OTHER_BROWSERS", "Firefox", "WebKit", "other_browser"]

_PATIENCE = 60.0  # seconds for a start, and for an answer

# Nothing that Firefox does by itself.
_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,
    "services.settings.server": "data:,#",
    "toolkit.telemetry.server": "",
}


class Firefox:
    """One page of Firefox."""

    name = "firefox"
    packages = "firefox-esr"
    program = "firefox-esr"

    def __init__(self, started: ExitStack, folder: Path) -> None:
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in _PREFERENCES.items()]
        (folder / "user.js").write_text("\n".join(lines))
        how = ["--headless", "--no-remote", f"--profile={folder}", "--remote-debugging-port=0"]
        check = started.enter_context(_process(folder, self.program, *how))
        told = folder / "WebDriverBiDiServer.json"
        port = _wait_for(lambda: json.loads(told.read_text())["ws_port"], check)
        url = f"ws://127.0.0.1:{port}/session"
        self._socket: ClientConnection = started.enter_context(
            connect(url, max_size=None, proxy=None)
        )
        self._numbers = count(1)
        self._call("session.new", capabilities={})
        self._context = self._call("browsingContext.getTree")["contexts"][0]["context"]

    def _call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:  # others are events
            answer = json.loads(self._socket.recv(_PATIENCE))
            if answer.get("id") == number:
                assert answer["type"] == "success", answer
                return answer["result"]

    def go(self, url: str) -> None:
        """Show a page."""
        self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script, a function that may be async, makes of an argument: both are JSON."""
        wrapped = f"JSON.parse(given)).then({script}).then((value) => JSON.stringify({{ value }})"
        told = self._call(
            "script.callFunction",
            functionDeclaration=f"(given) => Promise.resolve({wrapped})",
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            target={"context": self._context},
            awaitPromise=True,
        )
        assert told["type"] == "success", told
        return json.loads(told["result"]["value"]).get("value")


class WebKit:
    """One page of WebKit's MiniBrowser, on a screen that nobody sees."""

    name = "webkit"
    packages = "webkit2gtk-driver xvfb"
    program = "WebKitWebDriver"

    def __init__(self, started: ExitStack, folder: Path) -> None:
        number = folder / "display"
        screen = ("Xvfb", "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
        shown = ("sh", "-c", f'exec "$0" "$@" 3>"{number}"', *screen)
        check = started.enter_context(_process(folder, *shown))
        display = _wait_for(lambda: int(number.read_text()), check)
        port = free_port()
        check = started.enter_context(
            _process(folder, self.program, f"--port={port}", DISPLAY=f":{display}")
        )
        self._url = f"http://127.0.0.1:{port}"
        _wait_for(lambda: self._call("GET", "/status")["ready"], check)
        (browser,) = glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
        wanted = {
            "timeouts": {"script": int(1000 * _PATIENCE)},
            "webkitgtk:browserOptions": {"binary": browser, "args": ["--automation"]},
        }
        session = self._call("POST", "/session", capabilities={"alwaysMatch": wanted})
        self._url += f"/session/{session['sessionId']}"
        started.callback(self._call, "DELETE", "")

    def _call(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if method == "POST" else None
        headers = {"Content-Type": "application/json"}
        asked = Request(self._url + path, data, headers, method=method)
        with build_opener(ProxyHandler({})).open(asked, timeout=_PATIENCE) as answer:
            return json.load(answer)["value"]

    def go(self, url: str) -> None:
        """Show a page."""
        self._call("POST", "/url", url=url)

    def run(self, script: str, argument: Any = None) -> Any:
        """What a script, a function that may be async, makes of an argument: both are JSON."""
        wrapped = f"""
            const [given, done] = arguments;
            Promise.resolve(given).then({script}).then(
                (value) => done(JSON.stringify({{ value }})),
                (error) => done(JSON.stringify({{ error: String(error) }})));
        """
        told = json.loads(self._call("POST", "/execute/async", script=wrapped, args=[argument]))
        assert "error" not in told, told
        return told.get("value")


OTHER_BROWSERS: dict[str, type[Firefox | WebKit]] = {"firefox": Firefox, "webkit": WebKit}


@contextmanager
def other_browser(name: str) -> Iterator[Firefox | WebKit]:
    """One of them, or a skipped test where it is missing: see `programs.needed`."""
    kind = OTHER_BROWSERS[name]
    for program in (kind.program, *(["Xvfb"] if kind is WebKit else [])):
        needed(program, kind.packages)
    with TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder, ExitStack() as all_:
        yield kind(all_, Path(folder))


@contextmanager
def _process(home: Path, *command: str, **env: str) -> Iterator[Callable[[], None]]:
    """A program and what it starts, until the block ends; a function that fails if it has ended."""
    log = home / f"{Path(command[0]).name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(home), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):

        def check() -> None:
            assert process.poll() is None, log.read_text(errors="replace")

        try:
            yield check
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for(find: Callable[[], Any], check: Callable[[], None]) -> Any:
    """What is found, once it is there."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError, ValueError, KeyError):
            if (found := find()) is not False:
                return found
        check()
        assert time.monotonic() < deadline, "the browser doesn't start"
        time.sleep(0.02)
