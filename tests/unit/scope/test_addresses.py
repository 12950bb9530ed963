"""How the peer's address is read, and what proxies say of others."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest
import starlette.testclient
from cases import cases
from handshakes import App, authenticator, drive, websocket
from starlette.datastructures import Headers
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from asgi_wsauth import FailureThrottle, WebSocketAuthMiddleware
from asgi_wsauth.scope.addresses import (
    UNREADABLE,
    client_host,
    comparable_host,
    forwarded_for,
    parse_address,
    share_of,
)


@cases(
    ("client", "host"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (["192.0.2.7", 5], "192.0.2.7"),
        (("192.0.2.7:41234", 0), "192.0.2.7:41234"),
        (None, None),
        ((), None),
        (("", 0), None),
        (("", "0"), None),  # Granian on a Unix socket
        (("testclient", 50000), "testclient"),
        ((7, 5), UNREADABLE),
        (7, UNREADABLE),
        ({1: 2}, UNREADABLE),
    ],
)
def test_the_host_of_a_scope(client: Any, host: str | None) -> None:
    assert client_host({"client": client}) == host
    assert client_host({}) is None


TEST = {"client": ("testclient", 50000), "server": ("testserver", 80), "headers": []}


@cases(
    "but",
    [
        {},
        {"server": ["testserver", 80]},
        {"server": ("chat.example", 443)},  # another base_url
        {"headers": [(b"host", b"testserver")]},
    ],
    ids=str,
)
def test_a_test_client_has_no_address(but: dict[str, Any]) -> None:
    assert client_host({**TEST, **but}) is None


@cases(
    "but",
    [
        {"client": ("testclient", 50001)},
        {"client": ("testclient",)},
        {"server": None},
        {"server": ("/run/app.sock", None)},
        {"server": ("testserver",)},
        {"server": (7, 80)},
        {"server": ("127.0.0.1", 8000)},
        {"server": ("::1", 8000)},
        {"headers": None},
        {"headers": [(b"x-forwarded-for", b"testclient:50000")]},
        {"headers": [(b"x-real-ip", b"testclient")]},
        {"headers": [(b"forwarded", b'for="testclient:50000"')]},
    ],
    ids=str,
)
def test_what_only_says_testclient_is_somebody(but: dict[str, Any]) -> None:
    assert client_host({**TEST, **but}) == "testclient"


@pytest.mark.slow
def test_the_test_clients_of_frameworks_have_no_address_and_httpx_has_one() -> None:
    import litestar.testing  # which takes a while

    seen: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await respond_to_lifespan(receive, send)
            return
        seen.append(client_host(scope))
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    for client in (
        starlette.testclient.TestClient(app),
        starlette.testclient.TestClient(app, base_url="https://chat.example:8443"),
        litestar.testing.TestClient(app),  # type: ignore[type-var]
    ):
        with client:
            client.get("/")
            with client.websocket_connect("/"):
                pass

    async def ask() -> None:
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://testserver"
        ) as client:
            await client.get("/")

    anyio.run(ask)
    assert seen == [None] * 6 + ["127.0.0.1"]


async def respond_to_lifespan(receive: Any, send: Any) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})


@pytest.mark.anyio
async def test_nobody_becomes_a_test_client_by_x_forwarded_for() -> None:
    guesses = [
        websocket(f"token=guess{i}", headers=[("x-forwarded-for", "testclient:50000")])
        for i in range(12)
    ]
    auth = authenticator(throttle=FailureThrottle("3/minute"), observers=[])
    server = ProxyHeadersMiddleware(WebSocketAuthMiddleware(App(), auth), "*")  # type: ignore[arg-type]
    closes = [(await drive(server, scope)).close for scope in guesses]
    assert closes == [(1008, "token_invalid")] * 3 + [(1013, "too_many_failures")] * 9


@cases(
    ("host", "address", "share"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:80", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:_port", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]:443", "2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("unknown", None, UNREADABLE),
        ("_hidden", None, UNREADABLE),
        ("_hidden:80", None, UNREADABLE),
        ("chat.example", None, UNREADABLE),
        ("192.0.2.7, 192.0.2.8", None, UNREADABLE),
        ("192.0.2.07", None, UNREADABLE),
    ],
)
def test_what_an_address_is_and_whose_share(host: str, address: str | None, share: str) -> None:
    parsed = parse_address(host)
    assert (None if parsed is None else str(parsed)) == address
    assert share_of(host) == share
    assert comparable_host(host) == (address or host.strip())


@cases("host", [None, ""])
def test_who_has_no_address_has_no_share(host: str | None) -> None:
    assert share_of(host) is None
    assert comparable_host(host) == ""


@cases(
    ("headers", "addresses"),
    [
        ([], []),
        ([("x-forwarded-proto", "https")], []),
        ([("X-Forwarded-For", "192.0.2.7")], ["192.0.2.7"]),
        ([("x-forwarded-for", "192.0.2.7:5, [::1]:6")], ["192.0.2.7", "::1"]),
        ([("x-forwarded-for", "a"), ("x-forwarded-for", "::1")], [None, "::1"]),
        ([("x-forwarded-for", "")], [None]),
        ([("x-real-ip", "::1")], ["::1"]),
        ([("forwarded", 'for="[2001:db8::1]:4711";proto=http')], ["2001:db8::1"]),
        ([("forwarded", "by=1;FOR=192.0.2.7, for=_x")], ["192.0.2.7", None]),
        ([("forwarded", "proto=http")], [None]),
        ([("forwarded", "therefor=192.0.2.7")], [None]),
    ],
)
def test_for_whom_proxies_say_they_ask(headers: Any, addresses: list[str | None]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    found = forwarded_for(Headers(raw=raw))
    assert [None if address is None else str(address) for address in found] == addresses
