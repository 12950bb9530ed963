"""A real nginx on loopback ports.

    with nginx(folder, "server { ... }", port) as proxy:
        seen = proxy.talk("/guarded", token="...")

Where none is installed, tests skip; with WSAUTH_REQUIRE_NGINX=1 in the environment they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import DEADLINE, Server, accepts

_MAIN = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {conf}
}}
"""


def needed_nginx() -> str:
    """Its program; where there is none, the test skips, or fails, as said above."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        missing = pytest.fail if os.environ.get("WSAUTH_REQUIRE_NGINX") == "1" else pytest.skip
        missing("nginx is missing; install it: apt-get install nginx-light")
    assert program is not None
    return program


@contextmanager
def nginx(folder: Path, conf: str, port: int) -> Iterator[Server]:
    """Start it; stop it for sure.

    Args:
        folder: for its files; `error.log` is its log.
        conf: what stands in its `http` block, with a server that listens on 127.0.0.1.
        port: where that listens.
    """
    program = needed_nginx()
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, conf=conf))
    command = [program, "-p", str(folder), "-e", "error.log", "-c", "nginx.conf"]
    process = subprocess.Popen(command)
    try:
        found = Server("nginx", port, process, folder / "error.log")
        assert accepts(found), found.log()
        yield found
    finally:
        process.terminate()
        process.wait(DEADLINE)
