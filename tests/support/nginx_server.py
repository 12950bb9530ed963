"""A real nginx on loopback ports.

    with nginx(folder, "server { ... }", port) as proxy:
        seen = proxy.talk("/guarded", token="...")

Where none is installed, tests skip: see programs.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import needed
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


@contextmanager
def nginx(folder: Path, conf: str, port: int) -> Iterator[Server]:
    """Start it; stop it for sure.

    Args:
        folder: for its files; `error.log` is its log.
        conf: what stands in its `http` block, with a server that listens on 127.0.0.1.
        port: where that listens.
    """
    program = needed("nginx", "nginx-light")
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
