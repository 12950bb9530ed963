"""WebSockets over HTTP/2 (RFC 8441), which browsers speak with Hypercorn: what a client is told is
the same there."""

from __future__ import annotations

import asyncio
import json

import pytest
from http2 import Connection2, Socket2, connected
from servers import Server, only, server

pytestmark = [pytest.mark.live, pytest.mark.anyio, only("hypercorn")]

__all__ = ["server"]  # the fixture


async def opened(connection: Connection2, target: str) -> Socket2:
    socket = await connection.open(target)
    assert await socket.until("status") == 200
    return socket


async def test_who_is_admitted_talks(server: Server) -> None:
    async with connected(server) as connection:
        socket = await opened(connection, "/guarded?token=opaque-1")
        report = json.loads((await socket.until("messages"))[0])
        socket.messages.clear()
        await socket.say("hello")
        assert await socket.until("messages") == ["hello"]
    assert report["user"] == "alice"
    assert "opaque-1" not in server.log()


async def test_who_is_refused_gets_the_code_and_the_reason(server: Server) -> None:
    async with connected(server) as connection:
        sockets = [
            await opened(connection, f"/guarded?token=deny-{reason}")
            for reason in ("EXPIRED", "INVALID", "REVOKED", "UNAVAILABLE")
        ]
        assert [await socket.until("close") for socket in sockets] == [
            (4001, "token_expired"),
            (1008, "token_invalid"),
            (4004, "token_revoked"),
            (1013, "verifier_unavailable"),
        ]
        assert all([await socket.until("is_over") for socket in sockets])


async def test_a_refusal_over_http_is_an_answer_on_the_stream(server: Server) -> None:
    async with connected(server) as connection:
        socket = await connection.open("/http?token=deny-EXPIRED")
        assert await socket.until("is_over")
        other = await connection.open("/http?token=deny-THROTTLED")
        assert await other.until("is_over")
        bare = await connection.open("/close?token=deny-EXPIRED")
        assert await bare.until("status") == 403
    assert (socket.status, json.loads(socket.body)) == (401, {"error": "token_expired"})
    assert socket.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert (other.status, other.headers["retry-after"]) == (429, "7")


async def test_a_socket_ends_with_its_login_and_those_beside_it_go_on(server: Server) -> None:
    name = server.new_test()
    async with connected(server) as connection:
        lasting = await opened(connection, "/guarded?token=opaque-1")
        expiring = await opened(connection, f"/live/waits?token=until-0.3-{name}.e")
        assert await expiring.until("close") == (4001, "token_expired")
        revoked = await opened(connection, f"/live/waits?token=until-ever-{name}.r")
        assert revoked.close is None
        await asyncio.to_thread(server.get, "/revoke", kind="user", name=f"{name}.r")
        assert await revoked.until("close") == (4004, "token_revoked")
        await lasting.until("messages")
        lasting.messages.clear()
        await lasting.say("still here")
        assert await lasting.until("messages") == ["still here"]
