"""docs/tutorial.md, as a reader does it: its files and diffs, its commands and what they print, a
browser, two workers, Redis and nginx.

Ports and folders are others than the page's. Not run is what needs root or changes the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import forking
import pytest
from browser import chromium
from nginx_server import nginx
from pages import PAGES, ROOT
from programs import needed
from redis_servers import redis_server
from servers import DEADLINE, Server, accepts, free_port

PAGE = PAGES["docs/tutorial.md"]
PRODUCT = ROOT / "docs/chat"
PASSWORD = "wonderland"

_REPLACED = 12 * DEADLINE  # seconds until workers are replaced, one after the other, at the latest

NOT_RUN = (
    *("sudo apt", "sudo install", "sudo chown", "sudo chmod", "sudo systemctl"),
    *("cd ", "mkdir", "python3 -m venv", ". .venv", "pip ", "sudo cp chat.service", "set -a"),
)


class Block(NamedTuple):
    kind: str  # its language
    name: str  # of the file
    text: str


def blocks_of(section: str) -> list[Block]:
    found = re.findall(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", section, re.S | re.M)
    return [Block(kind, name, text) for name, kind, text in found]


STEPS = {
    int(section[0]): blocks_of(section) for section in PAGE.split("\n## ") if section[0].isdigit()
}


def patched(text: str, diff: str) -> str:
    """What `patch` makes of it, where every line is as the diff has it."""
    old, new, at = text.splitlines(), [], 0
    for start, hunk in re.findall(r"^@@ -(\d+).*? @@\n((?:[ +-].*\n|\n)+)", diff, re.M):
        new += old[at : int(start) - 1]
        at = int(start) - 1
        for line in hunk.splitlines():
            if line[:1] != "+":
                assert old[at] == line[1:], (at + 1, line)
                at += 1
            if line[:1] != "-":
                new.append(line[1:])
    return "\n".join([*new, *old[at:], ""])


def files_after(step: int) -> dict[str, str]:
    files: dict[str, str] = {}
    for number in range(1, step + 1):
        for block in STEPS[number]:
            if block.name:
                files[block.name] = block.text
            elif block.kind == "diff":
                name = re.findall(r"^--- a/(.*)$", block.text, re.M)[0]
                files[name] = patched(files[name], block.text)
    return files


def test_the_steps_lead_to_the_files_at_the_end() -> None:
    product = {
        str(path.relative_to(PRODUCT)): path.read_text()
        for path in PRODUCT.rglob("*.*")
        if "__pycache__" not in path.parts
    }
    assert files_after(max(STEPS)) == product


def test_every_block_belongs_to_a_step() -> None:
    kinds = {block.kind for blocks in STEPS.values() for block in blocks}
    assert kinds == {"python", "html", "js", "nginx", "ini", "diff", "console", "text"}
    assert [block.kind for block in blocks_of(PAGE.partition("\n## 1.")[0])] == ["console"]
    assert [kind for kind, name, _ in blocks_of(PAGE.partition("\n## All files")[2])] == []


class Project:
    """The reader's folder after a step, and what runs there."""

    def __init__(self, folder: Path, step: int, stack: ExitStack) -> None:
        self.folder, self.step = folder, step
        self._stack = stack
        self._ports = {"8000": free_port(), "443": free_port(), "6379": 0}
        for name, text in files_after(step).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(self.here(text))
        shutil.copy(ROOT / "examples/browser/wsauth.js", folder / "static")
        for place in ("etc/ssl/certs", "etc/ssl/private", "etc/nginx/conf.d", "var/log/nginx"):
            (folder / place).mkdir(parents=True)

    @property
    def origin(self) -> str:
        (origin,) = re.findall("^ORIGIN=(.*)$", (self.folder / "env").read_text(), re.M)
        return origin

    def here(self, text: str) -> str:
        """For this machine, what the page has for the reader's."""
        ports = self._ports
        for old, new in [
            ("127.0.0.1:8000", f"127.0.0.1:{ports['8000']}"),
            ("--port 8000", f"--port {ports['8000']}"),
            ("127.0.0.1:6379", f"127.0.0.1:{ports['6379']}"),
            ("listen 443 ", f"listen 127.0.0.1:{ports['443']} "),
            ("https://localhost", f"https://localhost:{ports['443']}"),
            ("/etc/", f"{self.folder}/etc/"),
            ("/var/log/", f"{self.folder}/var/log/"),
            ("/srv/chat/.venv/bin/uvicorn", "uvicorn"),
            ("drain_on_signal(over=10)", "drain_on_signal(over=2)"),
            # A new worker that takes longer to start is given up, and the old one stays.
            ("--timeout-worker-healthcheck 30", f"--timeout-worker-healthcheck {_REPLACED:.0f}"),
            ("uvicorn chat:app", f"{sys.executable} -m uvicorn chat:app"),
            ("asgi-wsauth ", f"{sys.executable} -m asgi_wsauth "),
            ("python users.py", f"{sys.executable} users.py"),
            ("sudo ", ""),
        ]:
            text = text.replace(old, new)
        return text

    def _env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}

    def serve(self, command: str) -> Server:
        """Start the app as the page does."""
        settings, _, arguments = self.here(command).rpartition(f"{sys.executable} ")
        given = (self.folder / "env").read_text() if (self.folder / "env").exists() else ""
        env = {**self._env(), **dict(re.findall(r"(\w+)=(\S+)", given + settings))}
        log = self.folder / "log"
        with log.open("ab") as output:
            process = forking.start(arguments.split(), cwd=self.folder, env=env, stdout=output)
        self._stack.callback(self.kill, process)
        server = Server("uvicorn", self._ports["8000"], process, log)
        assert accepts(server), server.log()
        return server

    def kill(self, process: forking.Process) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)

    def start_redis(self) -> None:
        self.redis = self._stack.enter_context(redis_server())
        self._ports["6379"] = self.redis.port

    def start_nginx(self) -> None:
        conf = (self.folder / "etc/nginx/conf.d/chat.conf").read_text()
        self._stack.enter_context(nginx(self.folder, conf, self._ports["443"]))

    def enter(self, step: int, *, only: Literal["before", "after", "all"] = "all") -> None:
        """The step's commands: all, or those before or after the app is started."""
        when = "before"
        for block in STEPS[step]:
            for command, expected in commands(block) if block.kind == "console" else []:
                if "uvicorn " in command:
                    when = "after"
                elif only in (when, "all") and not command.startswith(NOT_RUN):
                    self._check(command, expected)

    def _check(self, command: str, expected: str) -> None:
        for program in {"curl", "openssl"} & set(re.findall(r"\w+", command)):
            needed(program, program)
        process = subprocess.Popen(
            ["bash", "-c", f"set -a; [ ! -e env ] || . ./env; set +a; {self.here(command)}"],
            cwd=self.folder,
            env={**self._env(), "PYTHONWARNINGS": "ignore::getpass.GetPassWarning"},
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "users.py" in command else None,
            text=True,
        )
        printed, _ = process.communicate(PASSWORD + "\n", timeout=3 * DEADLINE)
        printed = printed.replace("Warning: Password input may be echoed.\n", "")
        lines = [line.rstrip() for line in printed.strip().splitlines()]
        assert process.returncode == 0, printed
        assert re.fullmatch(pattern(self.here(expected)), "\n".join(lines), re.S), printed


def commands(block: Block) -> list[tuple[str, str]]:
    """Each with what it prints."""
    parts = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.text, re.M)
    return [(command, printed.strip()) for command, printed in parts]


def pattern(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("…"))


def log_lines(step: int) -> list[str]:
    return [b.text.strip() for b in STEPS[step] if b.kind == "text"]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.live
@pytest.mark.parametrize("step", [2, 3, 6])
def test_the_commands_of_a_step_print_what_the_page_shows(
    step: int, tmp_path: Path, stack: ExitStack
) -> None:
    project = Project(tmp_path, step, stack)
    project.enter(2, only="before")
    server = project.serve("uvicorn chat:app --port 8000")
    project.enter(step, only="after" if step == 2 else "all")
    for line in log_lines(step):
        assert re.search(pattern(line), server.log())


def test_systemd_waits_longer_than_the_chat_takes_to_drain() -> None:
    files = files_after(max(STEPS))
    (waits,) = re.findall(r"^TimeoutStopSec=(\d+)$", files["chat.service"], re.M)
    (over,) = re.findall(r"drain_on_signal\(over=(\d+)\)", files["chat.py"])
    assert int(waits) > int(over) + 10


class Page:
    """The page in a tab, and what it shows."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        tab.set_default_timeout(6000 * DEADLINE)

    def shows(self, text: str) -> None:
        try:
            self.tab.wait_for_function("(t) => document.body.innerText.includes(t)", arg=text)
        except Exception as exc:
            raise AssertionError(f"no {text!r} in:\n{self.tab.inner_text('body')}") from exc

    def watch(self) -> None:
        """From now on, even what it shows for no time counts as shown."""
        self.tab.evaluate("""() => {
            globalThis.shown = [];
            const note = () => shown.push(document.body.innerText);
            new MutationObserver(note).observe(document.body, { childList: true, subtree: true });
        }""")

    def has_shown(self, first: str, then: str) -> None:
        script = """([first, then]) => {
            const at = shown.findIndex((text) => text.includes(first));
            return at >= 0 && shown.slice(at).some((text) => text.includes(then));
        }"""
        try:
            self.tab.wait_for_function(script, arg=[first, then], timeout=1000 * _REPLACED)
        except Exception as exc:
            shown = self.tab.evaluate("shown")
            raise AssertionError(f"not {first!r} and {then!r}, but {shown}") from exc

    def log_in(self, password: str = PASSWORD) -> None:
        self.tab.fill("[name=name]", "alice")
        self.tab.fill("[name=password]", password)
        self.tab.click("#login button")

    def say(self, text: str) -> None:
        self.tab.fill("[name=text]", text)
        self.tab.click("#say button")


@pytest.mark.live
def test_the_first_step_in_a_browser(tmp_path: Path, stack: ExitStack) -> None:
    server = Project(tmp_path, 1, stack).serve("uvicorn chat:app --port 8000")
    with chromium() as browser:
        one, other = Page(browser.new_page()), Page(browser.new_page())
        for page in (one, other):
            page.tab.goto(server.origin)
            page.shows("connected")
        one.say("is anybody there?")
        other.shows("somebody: is anybody there?")


@pytest.mark.live
def test_the_login_and_its_ends_in_a_browser(tmp_path: Path, stack: ExitStack) -> None:
    project = Project(tmp_path, 4, stack)
    project.enter(2, only="before")
    (short,) = re.findall(r"^\$ LIFETIME=\d+ (uvicorn .*)$", PAGE, re.M)
    server = project.serve(short)
    (script,) = [b.text for b in STEPS[3] if b.kind == "js" and not b.name]
    with chromium() as browser:
        context = browser.new_context()
        one, other = Page(context.new_page()), Page(context.new_page())
        one.tab.goto(server.origin)
        one.shows("logged out")
        one.log_in("guess")
        one.shows("logged out: wrong name or password")
        with one.tab.expect_console_message(lambda told: told.type == "log") as told:
            one.tab.evaluate(f"() => {{ {script} }}")
        assert told.value.text == "1008 token_missing"
        one.log_in()
        one.shows("connected as alice")
        other.tab.goto(server.origin)
        other.shows("connected as alice")
        one.tab.click("#logout")
        for page in (one, other):
            page.shows("logged out 4004 token_revoked")
        project.kill(server.process)
        start = len(server.log())
        server = project.serve(f"LIFETIME=6 {short}")
        one.watch()
        one.log_in()
        one.has_shown("waiting: 4001 token_expired", "logged out")
        # It asked for a ticket with its cookie if it was quicker than the browser, which drops that
        # when the login ends.
        refused = r"http refused: reason=token_(expired|missing) client=127\.0\.0\.1 path=/ticket "
        assert re.search(refused, server.log()[start:])


@pytest.mark.live
def test_the_whole_behind_nginx_with_two_workers_and_redis(
    tmp_path: Path, stack: ExitStack
) -> None:
    last = max(STEPS)
    project = Project(tmp_path, last, stack)
    project.start_redis()
    for step in (2, 7, 8):
        project.enter(step, only="before")
    project.start_nginx()
    (command,) = re.findall(r"^ExecStart=(.*)$", files_after(last)["chat.service"], re.M)
    server = project.serve(command)
    project.enter(8, only="after")
    for line in log_lines(8):
        assert re.search(pattern(line), server.log())
    with chromium() as browser:
        context = browser.new_context(ignore_https_errors=True)
        pages = [Page(context.new_page()) for _ in range(4)]
        pages[0].tab.goto(project.origin)
        pages[0].shows("logged out")
        pages[0].log_in()
        pages[0].shows("connected as alice")
        for page in pages[1:]:
            page.tab.goto(project.origin)
            full = page is pages[3]
            page.shows("waiting: 1013 too_many_connections" if full else "connected as alice")
        pages[3].tab.close()
        pages[1].say("hello")
        for page in pages[:3]:
            page.shows("alice: hello")
        pages[2].tab.close()

        elsewhere = Page(browser.new_context(ignore_https_errors=True).new_page())
        elsewhere.tab.goto(project.origin)
        elsewhere.log_in()
        elsewhere.shows("connected as alice")
        pages[0].tab.click("#look")
        pages[0].shows("(this page)")
        pages[0].shows("127.0.0.1, since ")
        elsewhere.tab.click("#look")
        found = elsewhere.tab.get_by_role("listitem").filter(has_not_text="(this page)")
        found.first.get_by_role("button").click()
        for page in pages[:2]:
            page.shows("logged out 4004 token_revoked")

        assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in files_after(last)["chat.service"]
        elsewhere.watch()
        server.process.send_signal(signal.SIGHUP)
        elsewhere.has_shown("waiting: 1012 server_restarting", "connected as alice")

        project.redis.kill()
        elsewhere.say("is anybody there?")
        pages[0].tab.reload()
        pages[0].shows("waiting: verifier_unavailable")
        elsewhere.shows("connected as alice")
    log = (tmp_path / "var/log/nginx/chat.log").read_text()
    assert '"GET /ws" 101' in log
    assert "wst_" not in log
