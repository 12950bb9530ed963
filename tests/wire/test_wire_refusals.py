"""What refused clients cost a real server before they are gone; and that those that answer the
close see their code, however many they are."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest
from refused_flood import measure
from servers import DEADLINE, EVERYTHING, USUAL, UVICORN, Server, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.live

CROWD = 500 if EVERYTHING else 100
usual_uvicorns = [name for name in USUAL if name in UVICORN]


@pytest.mark.parametrize("variant", USUAL)
def test_forty_refused_clients_that_flood_cost_little_memory_and_nobody_time(variant: str) -> None:
    with serving(variant) as server:
        cost = measure(server, seconds=5 if EVERYTHING and variant in UVICORN else 1.5)
        assert server.talk("/guarded", token="opaque-1", say=["hello"]).messages[1:] == ["hello"]
    if variant in UVICORN:
        assert cost.told == {101: 40}
        assert cost.megabytes < 300
        assert sorted(cost.handshakes)[len(cost.handshakes) // 2] < 1


async def refused(server: Server, count: int, say: bytes = b"") -> Counter[int]:
    """The codes that so many pages see which are refused at once, and say that when they are
    open."""

    async def one() -> int:
        async with connect(
            f"ws://127.0.0.1:{server.port}/daphne?token=deny-EXPIRED",
            origin=server.origin,  # type: ignore[arg-type]
            proxy=None,
            open_timeout=4 * DEADLINE,
        ) as ws:
            try:
                if say:
                    await ws.send(say)
                await ws.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError

    return Counter(await asyncio.gather(*(one() for _ in range(count))))


@pytest.mark.parametrize("variant", USUAL)
def test_many_pages_of_one_address_that_are_refused_at_once_all_see_their_code(
    variant: str,
) -> None:
    # Daphne gives a handshake five seconds, and resets what takes longer.
    crowd = min(100, CROWD) if variant == "daphne" else CROWD
    with serving(variant) as server:
        seen = asyncio.run(refused(server, crowd))
    assert seen == {4001: crowd}


@pytest.mark.parametrize("variant", usual_uvicorns)
def test_pages_that_say_much_before_they_answer_leave_their_places_to_the_next(
    variant: str,
) -> None:
    with serving(variant) as server:
        for _ in range(2):
            assert asyncio.run(refused(server, 60, os.urandom(5000))) == {4001: 60}
