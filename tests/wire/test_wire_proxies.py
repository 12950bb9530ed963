"""docs/guides/proxies.md: its nginx, in front of a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from nginx_server import nginx as nginx_server
from pages import blocks
from servers import DEADLINE, Client, Server, free_port, once_in, server

__all__ = ["server"]  # the fixture

pytestmark = pytest.mark.live

(CONF,) = blocks("docs/guides/proxies.md", "nginx")
ADDRESS = "127.0.0.9"


class Nginx(Server):
    """Whoever comes to it has an address that no other client here has."""

    folder: Path
    before_nothing: Client

    def tcp(self) -> socket.socket:
        address = ("127.0.0.1", self.port)
        return socket.create_connection(address, DEADLINE, source_address=(ADDRESS, 0))

    def written(self, name: str) -> str:
        return (self.folder / name).read_text()


def block(conf: str, folder: Path, *, port: int, to: int) -> str:
    """What the page says, for this machine."""
    for old, new in [
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("127.0.0.1:8000", f"127.0.0.1:{to}"),
        ("/var/log/nginx/chat.log", f"{folder}/chat.log"),
    ]:
        assert old in conf
        conf = conf.replace(old, new)
    return conf


@pytest.fixture
def nginx(server: Server, tmp_path: Path) -> Iterator[Nginx]:
    """In front of the server; and on another port, of nothing."""
    port, other = free_port(), free_port()
    conf = block(CONF, tmp_path, port=port, to=server.port)
    conf += block(CONF[CONF.index("server {") :], tmp_path, port=other, to=1)
    with nginx_server(tmp_path, conf, port) as running:
        found = Nginx("nginx", port, running.process, tmp_path / "error.log")
        found.folder, found.before_nothing = tmp_path, Client(other)
        yield found


def test_the_app_sees_the_clients_address_and_nginx_logs_no_token(
    server: Server, nginx: Nginx
) -> None:
    begin = len(server.log())
    assert nginx.talk("/guarded", token="opaque-proxied").report["user"] == "alice"
    assert nginx.talk("/guarded", token="no-such.proxied").close == (1008, "token_invalid")
    log = server.log_since(begin)
    assert log.count(f"client={ADDRESS} path=/guarded") >= 2
    written = once_in('"GET /guarded" 101', lambda: nginx.written("chat.log"), times=2)
    assert "proxied" not in written + nginx.log()


def test_fact_its_error_log_has_the_query_when_the_app_is_away(nginx: Nginx) -> None:
    assert nginx.before_nothing.talk("/guarded", token="opaque-proxied").status == 502
    assert "proxied" not in once_in(" 502 ", lambda: nginx.written("chat.log"))
    assert "token=opaque-proxied" in nginx.log()
