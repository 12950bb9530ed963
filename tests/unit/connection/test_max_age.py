"""`max_age`: how long a socket lasts at most without a new credential."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cases import cases
from doors import EXPIRED, Door, alice
from handshakes import NOW, authenticator
from sockets import LEFT, Seat, running, settled, text, until

from asgi_wsauth import Refreshed, WebSocketAuthMiddleware

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

ALONE: dict[str, Any] = {"revocations": None}
TELL = "auth.refresh"


@cases(
    ("expires_in", "enforce_expiry", "lasts"),
    [
        (None, True, 60),
        (None, False, 60),
        (float("inf"), True, 60),
        (1000, True, 60),
        (1000, False, 60),
        (50, True, 50),
        (50, False, 60),
    ],
)
async def test_a_socket_ends_when_it_or_its_credential_is_too_old(
    expires_in: float | None, enforce_expiry: bool, lasts: float
) -> None:
    known = {"a": alice(expires_in)}
    door = Door(Seat(), ALONE, known=known, max_age=60, enforce_expiry=enforce_expiry)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(lasts - 1)
        await settled()
        assert wire.close is None
        door.pass_time(1)
    assert wire.close == EXPIRED
    assert (door.closed.reason, door.closed.close_code) == (door.closed.reason, 4001)
    assert door.left_over == []


async def test_a_refresh_begins_the_age_anew_also_where_nothing_expires() -> None:
    app = Seat()
    known = {"a": alice(None), "b": alice(None)}
    door = Door(app, ALONE, known=known, max_age=60)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(50)
        await app.session.refresh("b")
        assert app.session.principal is known["b"]
        door.pass_time(50)
        await app.session.refresh("b")  # the same one again
        door.pass_time(59)
        await settled()
        assert wire.close is None
        assert (app.session.authenticated_at, app.session.expires_at) == (NOW + 100, None)
        door.pass_time(1)
    assert wire.close == EXPIRED
    assert [e.expires_at for e in door.events if isinstance(e, Refreshed)] == [None, None]


async def test_the_client_is_told_in_time_and_of_the_socket_s_end() -> None:
    door = Door(
        Seat(), known={"a": alice(None), "b": alice(1000)}, max_age=300, refresh_message=TELL
    )
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(240)
        await until(lambda: len(wire.sent) == 2)
        wire.put(text(json.dumps({"type": TELL, "token": "b"})))
        await until(lambda: len(wire.sent) == 3)
        told = [json.loads(message["text"]) for message in wire.sent[1:]]
        assert told == [
            {"type": f"{TELL}.due", "expires_at": NOW + 300},
            {"type": f"{TELL}.ok", "expires_at": NOW + 540},
        ]
        wire.put(LEFT)
    assert door.left_over == []


async def test_nobody_ends_while_login_is_off() -> None:
    auth = authenticator(required=False)
    app = Seat()
    door = WebSocketAuthMiddleware(app, auth, max_age=60)
    async with running(door, "") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        assert app.receive.__self__ is wire, "it is not guarded"
        wire.put(LEFT)
    both = Door(Seat(), {"required": False}, max_age=60, refresh_message=TELL)
    async with running(both, "") as wire:
        await until(lambda: wire.waiting and wire.kinds)
        both.pass_time(61)
        await settled()
        assert wire.close is None
        wire.put(LEFT)


async def test_inside_it_is_the_outer_instance_that_counts() -> None:
    app = Seat()
    door = Door(lambda *call: inner(*call), ALONE, known={"a": alice(None)})
    inner = WebSocketAuthMiddleware(app, door.auth, max_age=60)
    async with running(door) as wire:
        await until(lambda: wire.waiting and wire.kinds)
        door.pass_time(61)
        await settled()
        assert wire.close is None
        wire.put(LEFT)


async def test_a_socket_that_is_never_accepted_is_too_old_at_some_time_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    door = Door(app, ALONE, known={"a": alice(None)}, max_age=60, rejection="http_response")
    async with running(door) as wire:
        await until(lambda: wire.waiting)
        await settled()
        door.pass_time(60)
    assert wire.sent[0]["status"] == 401
