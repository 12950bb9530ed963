"""What refused clients that are not gone yet cost a real server; and that those who answer the
close see their code, however many they are."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from refused_flood import measure
from servers import DEADLINE, UVICORN, VARIANTS, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.live

CROWD = 500


@pytest.mark.parametrize("variant", UVICORN)
def test_row_40_forty_refused_clients_that_flood_cost_little_memory_and_nobody_time(
    variant: str,
) -> None:
    with serving(variant) as server:
        cost = measure(server, seconds=5)
    assert cost.told == {101: 40}
    assert cost.megabytes < 300
    assert sorted(cost.handshakes)[len(cost.handshakes) // 2] < 1


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in UVICORN])
def test_row_40_after_forty_refused_clients_that_flood_others_are_served(variant: str) -> None:
    with serving(variant) as server:
        measure(server, seconds=2)
        assert server.talk("/guarded", token="opaque-1", say=["hello"]).messages[1:] == ["hello"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_500_pages_of_one_address_that_are_refused_at_once_all_see_their_code(
    variant: str,
) -> None:
    async def one(url: str, origin: str) -> int:
        async with connect(
            f"{url}/daphne?token=deny-EXPIRED",
            origin=origin,  # type: ignore[arg-type]
            proxy=None,
            open_timeout=4 * DEADLINE,
        ) as ws:
            try:
                await ws.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError

    # Daphne gives a handshake five seconds, and resets what takes longer.
    crowd = 100 if variant == "daphne" else CROWD

    async def all_of_them(url: str, origin: str) -> Counter[int]:
        return Counter(await asyncio.gather(*(one(url, origin) for _ in range(crowd))))

    with serving(variant) as server:
        seen = asyncio.run(all_of_them(f"ws://127.0.0.1:{server.port}", server.origin))
    assert seen == {4001: crowd}
