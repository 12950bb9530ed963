"""`on_refresh` and `session.user`: what an app makes of a new credential."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from cases import cases
from doors import EXPIRED, Door, alice
from handshakes import NOW, drive, websocket
from sockets import LEFT, Seat, Wire, running, text, until

from asgi_wsauth import (
    ConfigurationError,
    Denied,
    HTTPAuthMiddleware,
    Principal,
    Reason,
    Refreshed,
    Refused,
    Session,
    WebSocketAuthMiddleware,
)

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

TELL = "auth.refresh"
KNOWN = {
    "a": alice(100, scopes=["chat", "admin"]),
    "newer-9Wz": alice(500, scopes=["chat"]),
    "key": alice(None),
}
FORBIDDEN = (1008, "forbidden")

Hook = Callable[[Session, Principal, Principal], Awaitable[None]]


def door_with(hook: Any, **options: Any) -> tuple[Seat, Door]:
    app = Seat()
    return app, Door(app, {"timeout": 2}, known=KNOWN, on_refresh=hook, **options)


async def opened(wire: Wire) -> None:
    await until(lambda: wire.waiting and wire.kinds)


def asks(token: str) -> dict[str, Any]:
    return text(json.dumps({"type": TELL, "token": token}))


# What it is shown


async def test_it_is_shown_the_session_and_both_principals_before_the_new_one_takes_over() -> None:
    shown: list[Any] = []

    async def hook(session: Session, old: Principal, new: Principal) -> None:
        shown.append((session, old, new, session.principal, session.expires_at))

    app, door = door_with(hook)
    async with running(door) as wire:
        await opened(wire)
        await app.session.refresh("newer-9Wz")
        assert shown == [(app.session, KNOWN["a"], KNOWN["newer-9Wz"], KNOWN["a"], NOW + 100)]
        assert app.session.principal is KNOWN["newer-9Wz"]
        await app.session.refresh("newer-9Wz")
        assert [old for _, old, *_ in shown] == [KNOWN["a"], KNOWN["newer-9Wz"]]
        wire.put(LEFT)
    assert door.told == ["admitted", "refreshed", "refreshed", "closed"]


async def test_it_is_shown_what_the_client_sends_and_what_lets_a_socket_without_an_end_go_on() -> (
    None
):
    shown: list[Principal] = []

    async def hook(session: Session, old: Principal, new: Principal) -> None:
        shown.append(new)

    app, door = door_with(hook, refresh_message=TELL)
    async with running(door, "token=key") as wire:
        await opened(wire)
        wire.put(asks("newer-9Wz"))
        await until(lambda: len(wire.sent) == 2)
        assert json.loads(wire.sent[-1]["text"])["expires_at"] == NOW + 500
        assert app.session.principal is KNOWN["newer-9Wz"]
        wire.put(LEFT)
    assert shown == [KNOWN["newer-9Wz"]]


async def test_it_is_not_shown_what_was_refused() -> None:
    async def hook(session: Session, old: Principal, new: Principal) -> None:
        raise AssertionError("it was called")

    app, door = door_with(hook)
    async with running(door) as wire:
        await opened(wire)
        with pytest.raises(Denied) as caught:
            await app.session.refresh("?")
        assert caught.value.reason is Reason.INVALID
        wire.put(LEFT)


# What it may do


async def forbids(session: Session, old: Principal, new: Principal) -> None:
    lost = set(old.scopes) - set(new.scopes)
    if lost:
        raise Denied(Reason.FORBIDDEN, f"lost {lost}")


async def breaks(session: Session, old: Principal, new: Principal) -> None:
    raise LookupError("no such room")


async def never_ends(session: Session, old: Principal, new: Principal) -> None:
    await anyio.sleep_forever()


def returns_nothing(*shown: Any) -> Any:
    """No async function, though nothing tells before it is called."""


REFUSING = [
    (forbids, Reason.FORBIDDEN, "lost {'admin'}"),
    (breaks, Reason.ERROR, "on_refresh: LookupError"),
    (never_ends, Reason.UNAVAILABLE, "no verdict within 2 s"),
    (
        returns_nothing,
        Reason.ERROR,
        "on_refresh must be an async function, got one that returns None",
    ),
]


@cases("hook, reason, detail", REFUSING)
async def test_what_it_raises_refuses_the_refresh(hook: Any, reason: Reason, detail: str) -> None:
    app, door = door_with(hook)
    async with running(door) as wire:
        await opened(wire)
        with pytest.raises(Denied) as caught:
            await app.session.refresh("newer-9Wz")
        assert (caught.value.reason, caught.value.detail) == (reason, detail)
        assert app.session.principal is KNOWN["a"]
        door.pass_time(99)
        assert wire.close is None
        door.pass_time(1)
    assert wire.close == EXPIRED
    assert door.told == ["admitted", "refused", "closed"]
    (refused,) = [event for event in door.events if isinstance(event, Refused)]
    assert (refused.reason, refused.detail, refused.is_refresh) == (reason, detail, True)


@cases("hook, reason, detail", REFUSING)
async def test_what_it_raises_closes_the_socket_of_a_client_that_sent_the_credential(
    hook: Any, reason: Reason, detail: str
) -> None:
    _, door = door_with(hook, refresh_message=TELL)
    async with running(door) as wire:
        await opened(wire)
        wire.put(asks("newer-9Wz"))
    assert wire.close == (reason.close_code, reason.phrase)
    assert door.left_over == []


@cases("by_client", [True, False])
async def test_it_may_close_the_socket(by_client: bool) -> None:
    async def hook(session: Session, old: Principal, new: Principal) -> None:
        await session.close(Reason.FORBIDDEN)

    app, door = door_with(hook, refresh_message=TELL)
    async with running(door) as wire:
        await opened(wire)
        if by_client:
            wire.put(asks("newer-9Wz"))
        else:
            with pytest.raises(Denied) as caught:
                await app.session.refresh("newer-9Wz")
            assert caught.value.reason is Reason.FORBIDDEN
    assert wire.close == FORBIDDEN
    assert app.session.principal is KNOWN["a"]
    assert not [event for event in door.events if isinstance(event, Refreshed)]
    assert door.left_over == []


@cases("meanwhile", ["expired", "revoked"])
async def test_a_login_that_ends_while_it_is_asked_is_over(meanwhile: str) -> None:
    go_on = anyio.Event()
    asked = anyio.Event()

    async def hook(session: Session, old: Principal, new: Principal) -> None:
        asked.set()
        await go_on.wait()

    app, door = door_with(hook)
    caught: list[Denied] = []

    async def refresh() -> None:
        with pytest.raises(Denied) as info:
            await app.session.refresh("newer-9Wz")
        caught.append(info.value)

    async with running(door) as wire:
        await opened(wire)
        async with anyio.create_task_group() as group:
            group.start_soon(refresh)
            await asked.wait()
            if meanwhile == "expired":
                door.pass_time(100)
            else:
                await door.revocations.revoke_user("alice")
            await until(lambda: wire.close)
            go_on.set()
    assert caught[0].reason in (Reason.EXPIRED, Reason.REVOKED)
    assert app.session.principal is KNOWN["a"]
    assert door.left_over == []


async def test_what_it_raises_is_no_secret_s_way_into_the_log() -> None:
    """The text of an exception may quote anything that the hook knows; the credential is cut out
    of it."""

    async def hook(session: Session, old: Principal, new: Principal) -> None:
        raise LookupError("long-secret-4Jc")

    app = Seat()
    known = {"a": alice(), "long-secret-4Jc": alice(500)}
    door = Door(app, known=known, on_refresh=hook)
    async with running(door) as wire:
        await opened(wire)
        with pytest.raises(Denied):
            await app.session.refresh("long-secret-4Jc")
        wire.put(LEFT)
    assert "long-secret" not in repr(door.events)


def plain(session: Session, old: Principal, new: Principal) -> None: ...


@cases("hook", [lambda session: None, "hook", 5, plain])
def test_what_can_be_no_hook_is_an_error(hook: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^on_refresh must be an? (async )?function"):
        door_with(hook)


# session.user


class User:
    def __init__(self, principal: Principal) -> None:
        self.principal = principal


async def load_user(principal: Principal, conn: Any) -> User:
    return User(principal)


async def test_the_session_has_the_new_user_and_the_scope_keeps_the_old_one() -> None:
    app = Seat()
    door = Door(app, {"load_user": load_user}, known=KNOWN)
    async with running(door) as wire:
        await opened(wire)
        user = app.scope["user"]
        assert app.session.user is user
        await app.session.refresh("newer-9Wz")
        assert app.scope["user"] is user
        assert app.session.user is not user
        assert app.session.user.principal is KNOWN["newer-9Wz"]
        with pytest.raises(AttributeError):
            app.session.user = user  # type: ignore[misc]
        wire.put(LEFT)


@cases("with_users", [True, False])
@cases("protocol", ["websocket", "http"])
async def test_without_a_refresh_it_is_what_the_scope_has(protocol: str, with_users: bool) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["user"] is scope["wsauth"].user)

    kind = {"websocket": WebSocketAuthMiddleware, "http": HTTPAuthMiddleware}[protocol]
    auth = Door(app, {"load_user": load_user if with_users else None}).auth
    scope = {**websocket("token=a"), "type": protocol}
    await drive(kind(app, auth), scope)
    assert seen == [True]
