"""Places: who asks for many waits behind himself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskGroup
from cases import cases
from handshakes import NOW, App, authenticator, bearer, connected, drive, websocket
from issuer import Issuer, issuing
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Credential,
    Denied,
    HTTPAuthMiddleware,
    Reason,
    TokenIntrospection,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.loops.places import Places

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops]


class Queue:
    """Tasks that want a place, in the order in which they ask; they keep it until a test says."""

    def __init__(self, total: int, group: TaskGroup) -> None:
        self.places = Places(total)
        self.got = ""
        self._group = group

    async def ask(self, shares: str) -> None:
        for share in shares:
            self._group.start_soon(self._take, share)
            await settled()

    async def release(self, shares: str) -> None:
        for share in shares:
            self.places.release(share)
            await settled()

    async def _take(self, share: str) -> None:
        await self.places.take(share)
        self.got += share


async def settled() -> None:
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def queue(total: int) -> AsyncIterator[Queue]:
    async with anyio.create_task_group() as group:
        yield Queue(total, group)
        group.cancel_scope.cancel()


async def test_a_share_may_hold_all_places_while_nobody_else_wants_one() -> None:
    async with queue(3) as wanted:
        await wanted.ask("aaaaa")
        assert wanted.got == "aaa"
        await wanted.release("aa")
        assert wanted.got == "aaaaa"


async def test_a_place_that_gets_free_goes_to_the_share_that_has_the_fewest() -> None:
    async with queue(4) as wanted:
        await wanted.ask("aaaa" + "aaaa" + "bbb")
        await wanted.release("aa")
        assert wanted.got == "aaaabb"
        await wanted.release("a")  # b has two, a one
        assert wanted.got == "aaaabba"
        await wanted.release("bb")
        assert wanted.got == "aaaabbaba"


async def test_those_with_as_many_places_have_their_turns_one_after_the_other() -> None:
    async with queue(1) as wanted:
        await wanted.ask("x" + "aaaabbbcc")
        await wanted.release("xabcabcab")
        assert wanted.got == "xabcabcaba"


async def test_who_leaves_the_queue_holds_nothing() -> None:
    async with queue(1) as wanted:
        await wanted.ask("abb")
    wanted.places.release("a")
    with anyio.fail_after(5):
        await wanted.places.take("c")
    wanted.places.release("c")
    assert vars(wanted.places) == vars(Places(1))


async def test_some_that_leave_take_nothing_from_the_others() -> None:
    async with queue(1) as wanted:
        await wanted.ask("a")
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(wanted.places.take, "b")
            await settled()
            await wanted.ask("b")
            leaving.cancel_scope.cancel()
        await wanted.release("a")
        assert wanted.got == "ab"


async def test_a_place_that_is_given_to_who_just_leaves_goes_on() -> None:
    async with queue(1) as wanted:

        async def come_and_go() -> None:
            await wanted.places.take("b")
            try:
                await anyio.sleep_forever()
            finally:
                wanted.places.release("b")

        await wanted.ask("a")
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(come_and_go)
            await settled()
            await wanted.ask("c")
            wanted.places.release("a")  # it is b's now, who doesn't know yet
            leaving.cancel_scope.cancel()
        await settled()
        assert wanted.got == "ac"


def test_a_place_that_is_given_to_a_task_that_is_cancelled_goes_on() -> None:
    """As asyncio cancels, at any moment."""

    async def cancel() -> None:
        places = Places(1)
        await places.take("a")
        leaving = asyncio.create_task(places.take("b"))
        staying = asyncio.create_task(places.take("c"))
        await asyncio.sleep(0)
        places.release("a")
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await asyncio.wait_for(staying, 30)

    asyncio.run(cancel())


# At an issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.tokens["good"] = {"active": True, "sub": "alice"}
        issuer.keep()
        yield issuer


def introspection(issuer: Issuer, **options: int) -> TokenIntrospection:
    return TokenIntrospection(
        f"{issuer.url}/introspect",
        client_id="chat",
        client_secret="s3cr3t",
        timeout=30,
        clock=lambda: NOW,
        **options,
    )


FLOOD, GOOD = ("203.0.113.7", 50000), ("198.51.100.8", 50000)


@pytest.mark.slow
@cases(
    ("kind", "flood", "good"),
    [
        ("websocket", FLOOD, GOOD),
        ("http", FLOOD, GOOD),
        ("websocket", ("2001:db8::1", 1), ("2001:db8:0:1::1", 1)),
        ("http", ("unknown", 1), GOOD),
        ("websocket", None, GOOD),
        ("http", FLOOD, None),
    ],
)
@pytest.mark.both_loops(False)
async def test_a_flood_from_one_address_keeps_no_other_one_waiting(
    issuer: Issuer, kind: str, flood: tuple[str, int] | None, good: tuple[str, int] | None
) -> None:
    """Twenty tokens that nobody knows want the only place. A good client of another address is
    the next but one whom the issuer is asked about."""
    verifier = introspection(issuer, max_in_flight=1)
    auth = authenticator(verifier, observers=(), timeout=30)
    app = App()
    guarded = {"websocket": WebSocketAuthMiddleware, "http": HTTPAuthMiddleware}[kind](app, auth)
    issuer.behaviour["/introspect"] = "hold"

    async def stranger(number: int) -> None:
        conn = HTTPConnection(websocket(client=flood))
        with pytest.raises(Denied) as caught:
            await verifier(Credential(f"unknown-{number}"), conn)
        assert caught.value.reason is Reason.INVALID

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(stranger, number)
        await issuer.asked("/introspect", 1)
        scope = websocket(headers=bearer("good"), client=good, type=kind, method="GET")
        group.start_soon(lambda: drive(guarded, scope, receive=connected()))
        await anyio.wait_all_tasks_blocked()
        issuer.let_go()
    assert "good" in [request.form["token"] for request in issuer.requests[1:3]]
    assert issuer.most_in_flight == 1


@pytest.mark.both_loops(False)
async def test_who_has_the_address_of_a_flood_waits_with_it(issuer: Issuer) -> None:
    """So it is with an office: the share is the address's. Within one, first come, first served."""
    verifier = introspection(issuer, max_in_flight=1)

    async def ask(token: str) -> None:
        with suppress(Denied):
            await verifier(Credential(token), HTTPConnection(websocket(client=FLOOD)))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(ask, f"unknown-{number}")
            await anyio.wait_all_tasks_blocked()
        group.start_soon(ask, "good")
    assert [request.form["token"] for request in issuer.requests] == [
        *[f"unknown-{number}" for number in range(5)],
        "good",
    ]
