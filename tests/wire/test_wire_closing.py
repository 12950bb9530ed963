"""What clients that talk, or say nothing, see of a close on every server variant; what it costs."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count

import pytest
from frames import Close, Wire, run, together
from servers import DEADLINE, Server, each_server, server, usual_and
from test_wire_live import close_for, notes

from asgi_wsauth import Reason

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture

PATIENCE = 1.0  # seconds that a client has to answer a close


@pytest.fixture
def test(server: Server) -> str:
    """The name under which the apps note what happens in this test."""
    return server.new_test()


def told(server: Server, reason: Reason, seen: list[Close | None]) -> bool:
    """Whether every client saw its code.

    Granian closes the TCP connection as soon as a close is sent, and what arrives afterwards resets
    it: of clients that talk, some lose their code there, and nobody behind it can do anything.
    """
    found = set(seen) - ({None} if server.name == "granian" else set())
    return found == {close_for(server, reason)}


async def refused(server: Server, test: str) -> Wire:
    """A page that is; a program that came as often would be told by HTTP."""
    page = [("Origin", server.origin)]
    return await Wire.open(server, "/live/waits", test=test, token="deny-EXPIRED", headers=page)


async def talk(client: Wire) -> Close | None:
    """Say a word every 5 ms until the server closes; then answer that."""

    async def words() -> None:
        with suppress(ConnectionError):
            while True:
                client.send("a word")
                await asyncio.sleep(0.005)

    talking = asyncio.create_task(words())
    try:
        return await client.close_frame()
    finally:
        talking.cancel()
        client.close()


@each_server
def test_a_client_that_talks_while_it_is_refused_sees_its_code(server: Server, test: str) -> None:
    async def one(number: int) -> Close | None:
        return await talk(await refused(server, f"{test}.{number}"))

    assert told(server, Reason.EXPIRED, together(*map(one, range(8))))


SHOWS_OUT = ["/live/shows-out", "/live/shows-out/unguarded"]


@each_server
def test_a_client_that_talks_while_its_socket_is_closed_sees_its_code(
    server: Server, test: str
) -> None:
    sees_its_code(server, test, "/live/waits")


@pytest.mark.parametrize("path", ["/live/neither", *SHOWS_OUT])
def test_whatever_its_app_does(server: Server, test: str, path: str) -> None:
    sees_its_code(server, test, path)


def sees_its_code(server: Server, test: str, path: str) -> None:
    clients = 5

    async def one(number: int) -> Close | None:
        query = {"token": f"until-ever-{test}", "test": f"{test}.{number}"}
        return await talk(await Wire.open(server, path, **query))

    async def revoke() -> None:
        if path not in SHOWS_OUT:
            for number in range(clients):
                await notes(server, f"{test}.{number}", "accepted")
            await asyncio.to_thread(server.get, "/revoke", kind="user", name=test)

    *seen, _ = together(*map(one, range(clients)), revoke())
    assert told(server, Reason.FORBIDDEN if path in SHOWS_OUT else Reason.REVOKED, seen)


def test_a_client_that_answers_costs_no_time_and_one_that_does_not_a_second(
    server: Server, test: str
) -> None:
    async def one(name: str, *, answers: bool) -> float:
        client = await refused(server, name)
        begun = time.monotonic()
        seen = await (client.closes() if answers else client.close_frame())
        assert seen in (close_for(server, Reason.EXPIRED), [close_for(server, Reason.EXPIRED)])
        assert await notes(server, name, "gone") == ["gone"]
        return time.monotonic() - begun

    async def all_of_them() -> tuple[float, float]:
        quick, ends = PATIENCE, time.monotonic() + DEADLINE
        # However busy the machine is, one of them is told sooner than if all had to wait.
        for number in count():
            if quick < 0.7 * PATIENCE or time.monotonic() > ends:
                break
            quick = await one(f"{test}.{number}", answers=True)
        return quick, await one(f"{test}.mute", answers=False)

    quick, mute = run(all_of_them())
    assert quick < 0.7 * PATIENCE
    assert mute < DEADLINE / 2


@usual_and("daphne")
def test_who_is_refused_by_an_instance_inside_a_guard_sees_a_code(server: Server) -> None:
    """Also Daphne's clients, which raises for the code that it was to send."""
    if server.name == "daphne":
        server.excuse_trouble()  # it logs what it raises
    seen = server.talk("/live/nested", token="until-ever-somebody")
    assert seen.close == close_for(server, Reason.FORBIDDEN)
