"""Python processes that begin with their imports done.

    process = start(["-m", "uvicorn", "wire_apps:app"], env=env, stdout=log)

Of what a server costs the tests, most is that it imports asgi_wsauth, Starlette and uvicorn. Under
pytest, on Linux, one process beside each of pytest's has imported them, and each large framework
that a program named, and has nothing else: no event loop, no thread, no configuration. Servers and
examples are forked off it. All else is as it would be had `python` begun there: arguments,
environment, path, files, signals, a session of its own (tests/tools/test_forking.py). Where a
difference could be seen, and on other systems, and with WSAUTH_SERVERS=all, `start` is
`subprocess.Popen`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

# Daphne's reactor and trio have a part in what the package finds out: they are not among these.
AHEAD = """
anyio._backends._asyncio asgi_wsauth email.parser starlette.applications starlette.middleware.cors
starlette.responses starlette.routing starlette.websockets uvicorn.lifespan.on uvicorn.main
uvicorn.protocols.http.auto uvicorn.protocols.websockets.websockets_sansio_impl
"""

# What takes long to import, and is imported once somebody starts a program that names it.
_FRAMEWORKS = """
blacksheep channels.generic.websocket django.core.asgi fastapi litestar mcp.server quart socketio
sse_starlette strawberry.asgi
"""
_LARGE = {name: name for name in _FRAMEWORKS.split()} | {"asgi_wsauth.redis": "redis.asyncio"}

_MODULES = ("uvicorn", "hypercorn", "daphne")  # granian is in Rust, and has processes of its own

# What a process reads as it begins. Of these, PYTHONPATH alone can be set afterwards.
_AT_ONCE = re.compile(r"PYTHON(?!PATH$)|LC_|LANG$|LD_|MALLOC_|OPENSSL_|SSL_|TZ$")

# Of these, what a developer's own shell may have, and servers under test are kept from.
UNUSUAL = "PYTHON(WARNINGS|ASYNCIODEBUG|DEV)"


class Forked:
    """As much of `subprocess.Popen` as tests use."""

    def __init__(self, origin: Origin, pid: int, stdin: IO[Any] | None, stdout: IO[Any] | None):
        self._origin = origin
        self.pid = pid
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._origin.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        pause = 0.001
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # a number is given to another process only after that
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for file in filter(None, (self.stdin, self.stdout)):
            with suppress(BrokenPipeError):
                file.close()
        self.wait()


Process = subprocess.Popen[Any] | Forked


class Origin:
    """The process that others are forked off. It begins when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        usual = {name: text for name, text in os.environ.items() if not re.match(UNUSUAL, name)}
        self._env = {**usual, "PYTHONUNBUFFERED": "1"}

    def is_like(self, env: Mapping[str, str]) -> bool:
        """Whether a process with this environment would begin in the same way."""
        names = filter(_AT_ONCE.match, {*env, *self._env})
        return all(env.get(name) == self._env.get(name) for name in names)

    def ask(self, question: Mapping[str, Any], *files: int) -> Any:
        with self._lock:
            if self._process is None:
                self._begin()
            socket.send_fds(self._socket, [json.dumps(question).encode()], files)
            answer = self._socket.recv(100)
        assert answer, "the process that others are forked off is gone"
        return json.loads(answer)

    def _begin(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl+C is pytest's
            )

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.wait()
            self._process = None


_origins: list[Origin] = []


def fork_from_now_on() -> Origin:
    """Have `start` fork. Whoever calls this closes what it returns."""
    if not _origins:
        _origins.append(Origin())
    return _origins[0]


def start(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    stdout: IO[bytes] | None = None,
) -> Process:
    """Start Python, in a session of its own.

    Args:
        arguments: what Python is to run.
        env: its environment. Nothing is buffered.
        cwd: where; None for here.
        stdout: the file for what it writes, whether to stdout or to stderr; None for text at
            `process.stdout`, and for a `process.stdin`, too.
    """
    env, cwd = {**env, "PYTHONUNBUFFERED": "1"}, os.fspath(cwd or os.getcwd())
    runs_module = arguments[0] == "-m" and arguments[1] in _MODULES
    # Other workers begin at nothing, so the first one does, too.
    is_alone = all(count == "0" for name, count in pairwise(arguments) if name == "--workers")
    if (
        _origins
        and is_alone
        and (runs_module or arguments[0].endswith(".py"))
        and _origins[0].is_like(env)
    ):
        question = {
            "arguments": arguments,
            "cwd": cwd,
            "env": env,
            "ahead": _named_in(_program(arguments, cwd, env)),
        }
        return _fork(_origins[0], question, stdout)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE if stdout is None else subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.STDOUT,
        text=True if stdout is None else None,
        start_new_session=True,  # workers are in its group, and end with it
    )


def _program(arguments: Sequence[str], cwd: str, env: Mapping[str, str]) -> str:
    """The text of a script, or of the module that a server is to serve."""
    apps = [argument.partition(":")[0] for argument in arguments if ":" in argument]
    names = arguments[:1] if arguments[0] != "-m" else [f"{app}.py" for app in apps]
    folders = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]
    files = [os.path.join(cwd, folder, name) for name in names for folder in folders]
    return next((Path(file).read_text() for file in files if os.path.isfile(file)), "")


def _named_in(program: str) -> list[str]:
    return [
        module
        for name, module in _LARGE.items()
        if re.search(rf"(?m)^ *(from|import) {re.escape(name)}\b", program)
    ]


def _fork(origin: Origin, question: Mapping[str, Any], stdout: IO[bytes] | None) -> Forked:
    if stdout is not None:
        with open(os.devnull, "rb") as nothing:
            pid = origin.ask(question, nothing.fileno(), stdout.fileno())
        return Forked(origin, pid, None, None)
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    pid = origin.ask(question, their_in, their_out)
    os.close(their_in)
    os.close(their_out)
    return Forked(origin, pid, open(our_out, "w"), open(our_in))


# In the process that others are forked off.


def _serve(link: socket.socket) -> tuple[Any, list[int]]:
    """Fork, and say how those ended that have. Returns in the new process, with what it is to do
    and its files."""
    forked: set[int] = set()
    while True:
        message, files, *_ = socket.recv_fds(link, 1 << 20, 2)
        if not message:  # pytest has ended, perhaps too suddenly to stop them
            for pid in forked:
                os.killpg(pid, signal.SIGKILL)
            sys.exit()
        question = json.loads(message)
        if "poll" in question:
            ended, status = os.waitpid(question["poll"], os.WNOHANG)
            forked.discard(ended)
            link.send(json.dumps(os.waitstatus_to_exitcode(status) if ended else None).encode())
            continue
        _import(*question["ahead"])
        gc.freeze()  # what was imported stays: nothing has to look through it, at the end neither
        pid = os.fork()
        if not pid:
            os.setsid()  # before somebody ends its group
            link.send(str(os.getpid()).encode())
            return question, files
        forked.add(pid)
        for file in files:
            os.close(file)


def _import(*names: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as they are none of a server's
        for name in names:
            with suppress(ImportError):  # which is the server's to tell
                importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1  # threads


def _settle(question: Any, files: list[int], usual_path: list[str]) -> None:
    """Make this process what was asked for."""
    for file, place in zip((*files, files[1]), range(3), strict=True):
        os.dup2(file, place)
    for file in files:
        os.close(file)
    os.chdir(question["cwd"])
    env, arguments = question["env"], question["arguments"]
    os.environ.clear()
    os.environ.update(env)
    runs_module = arguments[0] == "-m"
    first = question["cwd"] if runs_module else os.path.dirname(os.path.realpath(arguments[0]))
    sys.path[:] = [first, *_given_path(env), *usual_path]
    sys.argv[:] = arguments[runs_module:]


def _given_path(env: Mapping[str, str]) -> list[str]:
    folders = env.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(folder) for folder in folders if folder]


if __name__ == "__main__":
    sys.path.remove(os.path.dirname(__file__))
    _import(*AHEAD.split())
    with socket.socket(fileno=int(sys.argv[1])) as link:
        question, files = _serve(link)
    given = _given_path(os.environ)
    _settle(question, files, [folder for folder in sys.path if folder not in given])
    if question["arguments"][0] == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
