"""The apps of docs/guides/logins.md on real servers: Starlette's session, and a proxy's header,
which the page's nginx sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from logins_page import ORIGIN, PAGE, SECRET
from nginx_server import nginx
from servers import DEADLINE, Server, free_port, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.live

USER, PROOF = "X-Forwarded-User", "X-Proxy-Secret"


@pytest.fixture(scope="module", params=["uvicorn-sansio", "daphne"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    env = {"ON_DAPHNE": "yes"} if request.param == "daphne" else {}
    with serving(request.param, "logins_page:app", env=env) as running:
        yield running
        assert "Traceback" not in running.log()


def test_a_session_opens_sockets_until_the_logout(server: Server) -> None:
    seen = server.ask("POST", "/login", body=b"")
    cookie = f"session={SimpleCookie(seen.headers['set-cookie'])['session'].value}"
    headers = [("Cookie", cookie), ("Origin", ORIGIN)]
    with connect(
        f"ws://127.0.0.1:{server.port}/chat", additional_headers=headers, proxy=None
    ) as ws:
        ws.send("hello")
        assert ws.recv(timeout=DEADLINE) == "7: hello"
        assert server.ask("POST", "/logout", headers=[("Cookie", cookie)], body=b"").status == 200
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=DEADLINE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4004
    assert (close := server.talk("/chat", headers=headers).close) is not None
    assert close[0] == 4004  # a copy of the cookie is good for nothing
    assert cookie not in server.log()


PRESENTED = [
    ([(USER, "alice"), (PROOF, SECRET)], True),
    ([(USER, "alice")], False),
    ([(USER, "alice"), (PROOF, SECRET + "x")], False),
    ([(USER, "alice"), (USER, "bob"), (PROOF, SECRET)], False),
    ([(USER, "alice"), (PROOF, SECRET), (PROOF, SECRET)], False),
    ([(PROOF, SECRET)], False),
    ([], False),
]


def test_only_the_proxy_can_name_a_user(server: Server) -> None:
    handshakes = [("/proxy", {"headers": [*sent, ("Origin", ORIGIN)]}) for sent, _ in PRESENTED]
    for seen, (sent, is_admitted) in zip(server.talk_all(handshakes), PRESENTED, strict=True):
        if not is_admitted:
            code = 3000 if server.name == "daphne" else 1008
            assert seen.close is not None and seen.close[0] == code, sent
            continue
        told = str(seen.messages[0])
        assert told.startswith("alice ")
        assert USER.lower() not in told and PROOF.lower() not in told
    assert SECRET not in server.log()


# Somewhere that knows who is logged in: whoever has a cookie `who`.
WHO = """
server {
    listen 127.0.0.1:%d;
    if ($cookie_who = "") { return 401; }
    add_header X-Auth-Request-User $cookie_who;
    return 204;
}
"""


def test_nginx_as_the_page_has_it_names_the_user_whatever_the_client_says(
    server: Server, tmp_path: Path
) -> None:
    (location,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for old, new in [
        ("location /ws", "location /proxy"),
        ("the value of PROXY_SECRET", SECRET),
        ("http://app:8000", f"http://127.0.0.1:{server.port}"),
    ]:
        assert old in location
        location = location.replace(old, new)
    port, known = free_port(), free_port()
    asks = f"location = /oauth2/auth {{ internal; proxy_pass http://127.0.0.1:{known}; }}"
    conf = f"server {{ listen 127.0.0.1:{port}; {asks}\n{location} }}{WHO % known}"
    lies = [(USER, "bob"), (PROOF, SECRET), ("Origin", ORIGIN)]
    with nginx(tmp_path, conf, port) as proxy:
        assert proxy.talk("/proxy", headers=lies).status == 401
        seen = proxy.talk("/proxy", headers=[*lies, ("Cookie", "who=alice")])
        assert str(seen.messages[0]).startswith("alice ")
        assert SECRET not in proxy.log()
