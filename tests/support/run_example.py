"""The examples, started as a person would start them and ended with Ctrl+C."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread

import forking
from servers import DEADLINE, Client, free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# Settings of the examples that the developer's own shell may have.
_SETTINGS = re.compile(
    r"ACCOUNTS_URL|APP_AUTH_REQUIRED|AUDIENCE|CERTIFICATES_URL|DATABASE|FIREBASE_.*|ISSUER|LIFETIME"
    r"|PACE|PASSWORD|PORT|SECRET|UVICORN_.*"
    r"|(?i:(all|https?)_proxy)"  # which can't reach this machine
)


def without_settings() -> dict[str, str]:
    """The environment, without what an example would read."""
    return {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)}


class Running(Client):
    """A running example, what it wrote, and a program that talks to it."""

    def __init__(self, process: forking.Process, port: int) -> None:
        super().__init__(port)
        self.process = process
        self.written = ""
        self._ended = False
        self._heard = 0
        self._changed = Condition()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.written += line
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        """What it wrote since the last time somebody waited, up to this text."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or text in self.written[self._heard :], 3 * DEADLINE
            )
            found = self.written.find(text, self._heard)
            assert found >= 0, self.written
            start, self._heard = self._heard, found + len(text)
            return self.written[start : self._heard]

    def end(self) -> None:
        """Ctrl+C; all that it wrote is in `written` then."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(2 * DEADLINE)
        finally:
            self.process.kill()
            self._reader.join()


@contextmanager
def running(
    *arguments: str, until: str = "Uvicorn running", may_log: str = "", **env: str
) -> Iterator[Running]:
    """Start an example on a free port, and wait until it has written `until`. No traceback may be
    among what it writes.

    Args:
        arguments: what Python is to run.
        until: the text that says that it listens.
        may_log: a pattern of the tracebacks that it may write all the same.
        env: settings. PORT is made up.
    """
    port = free_port()
    with forking.start(arguments, env={**without_settings(), "PORT": str(port), **env}) as process:
        example = Running(process, port)
        try:
            example.wait_for(until)
            yield example
        finally:
            example.end()
    written = re.sub(may_log, "", example.written, flags=re.DOTALL)
    assert "Traceback" not in written, example.written
