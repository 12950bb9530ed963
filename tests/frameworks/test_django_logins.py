"""A real Django project, whose users log in over HTTP: the session admits its sockets, and they end
with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any

import django_site
import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from servers import DEADLINE, Server, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.live

REVOKED = 4004, "token_revoked"


@pytest.fixture(scope="module", params=["uvicorn-sansio", "daphne"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    django_site.make_tables()
    env = {"SITE_DATABASE": django_site.DATABASE}
    if request.param == "daphne":
        env["SITE_ON_DAPHNE"] = "yes"
    with serving(request.param, "django_site:app", env=env) as running:
        yield running
        assert "Traceback" not in running.log()


class Browser:
    """A browser with cookies of its own, and one user at it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cookies = ""

    def post(self, path: str, **told: str) -> int:
        headers = [("Cookie", self.cookies)] if self.cookies else []
        body = json.dumps(told).encode()
        seen = self.server.ask("POST", path, headers=headers, body=body)
        if "set-cookie" in seen.headers:
            cookie = SimpleCookie(seen.headers["set-cookie"])["sessionid"]
            self.cookies = f"theme=dark; sessionid={cookie.value}" if cookie.value else ""
        return seen.status

    @property
    def session_key(self) -> str:
        return self.cookies.rpartition("sessionid=")[2]

    @property
    def handshake(self) -> list[tuple[str, str]]:
        return [("Cookie", self.cookies), ("Origin", django_site.ORIGIN)]

    def close_code(self, **handshake: Any) -> tuple[int, str] | None:
        """How a handshake is refused; None where it isn't."""
        return self.server.talk("/ws", headers=self.handshake, **handshake).close

    @contextmanager
    def socket(self) -> Iterator[tuple[ClientConnection, Any]]:
        """An open socket, and what its app told."""
        headers = [("Cookie", self.cookies)]
        with connect(
            f"ws://127.0.0.1:{self.server.port}/ws",
            origin=django_site.ORIGIN,  # type: ignore[arg-type]
            additional_headers=headers,
            proxy=None,
        ) as ws:
            yield ws, json.loads(ws.recv(timeout=DEADLINE))


def browser(server: Server, name: str) -> Browser:
    """Somebody who has logged in."""
    used = Browser(server)
    assert used.post("/login", username=name, password=django_site.PASSWORD) == 200
    return used


def user_of(server: Server, name: str) -> str:
    """A new user's name."""
    own = f"{name}-{server.name}"
    django_site.make_user(own)
    return own


def closed(ws: ClientConnection) -> tuple[int, str]:
    """How the server closes it; Daphne sends no reason."""
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=DEADLINE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason or REVOKED[1]


def is_open(ws: ClientConnection) -> bool:
    ws.send("still there?")
    return ws.recv(timeout=DEADLINE) == "still there?"


@pytest.mark.parametrize("way", ["/logout", "/logout-async"])
def test_a_logout_closes_the_sockets_of_its_session(server: Server, way: str) -> None:
    name = user_of(server, "alice" + way.strip("/"))
    here, elsewhere = browser(server, name), browser(server, name)
    with here.socket() as (ws, told), elsewhere.socket() as (other, _):
        assert told == [name, ["theme=dark"], []]
        session = here.handshake
        assert here.post(way) == 200
        assert closed(ws) == REVOKED
        assert is_open(other)
    assert server.talk("/ws", headers=session).close is not None


def test_a_new_password_closes_all_sockets_and_refuses_the_other_sessions(server: Server) -> None:
    name = user_of(server, "bob")
    here, elsewhere = browser(server, name), browser(server, name)
    with here.socket() as (ws, _), elsewhere.socket() as (other, _):
        assert here.post("/password", password="battery staple") == 200
        assert closed(ws) == closed(other) == REVOKED
    seen = elsewhere.close_code()
    assert seen is not None and seen[0] == 4004
    with here.socket() as (ws, _):  # Django keeps who changed it logged in
        assert is_open(ws)


def test_a_locked_user_has_no_sockets(server: Server) -> None:
    name = user_of(server, "carol")
    page = browser(server, name)
    with page.socket() as (ws, _):
        Browser(server).post(f"/lock/{name}")
        assert closed(ws) == REVOKED
    seen = page.close_code()
    assert seen is not None and seen[0] == 4004


def test_what_no_signal_tells_of_ends_at_the_next_recheck(server: Server) -> None:
    name = user_of(server, "gina")
    page, forgotten = browser(server, name), browser(server, user_of(server, "frank"))
    with page.socket() as (ws, _), forgotten.socket() as (other, _):
        User.objects.filter(username=name).update(is_active=False)
        assert closed(ws) == REVOKED
        assert is_open(other)
        Session.objects.filter(session_key=forgotten.session_key).delete()
        assert closed(other) == REVOKED


def test_a_visitor_and_another_sites_page_have_none(server: Server) -> None:
    visitor, page = Browser(server), browser(server, user_of(server, "dave"))
    assert visitor.post("/visit") == 200
    missing, origin = (3000, 3003) if server.name == "daphne" else (1008, 1008)
    seen = visitor.close_code()
    assert seen is not None and seen[0] == missing
    for headers in ([("Origin", "https://evil.example")], []):
        cookie = ("Cookie", page.cookies)
        close = server.talk("/ws", headers=[cookie, *headers]).close
        assert close is not None and close[0] == origin


def test_the_log_has_no_sessions_key(server: Server) -> None:
    page = browser(server, user_of(server, "erin"))
    key = page.cookies.rpartition("=")[2]
    with page.socket() as (ws, _):
        page.post("/logout")
        assert closed(ws) == REVOKED
    assert len(key) == 32
    assert key not in server.log()
