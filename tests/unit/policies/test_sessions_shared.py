"""`Sessions` of several processes that share a Redis: each test has some of them in its own, with a
store each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from secrets import token_hex
from typing import Any

import anyio
import pytest
from doors import EXPIRED, REVOKED
from houses import House, open_in
from redis_servers import KINDS, SERVERS, Proxy, Target, pooled_redis
from servers import DEADLINE

from asgi_wsauth import Reason
from asgi_wsauth.redis import RedisStore

pytestmark = [pytest.mark.anyio, pytest.mark.live]


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest) -> Target:
    return pooled_redis(request.config, request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return pooled_redis(request.config, SERVERS[0]).url


@pytest.fixture
def link(url: str) -> Iterator[Proxy]:
    """The way to the same Redis, for one process."""
    with Proxy(int(url.rpartition(":")[2].partition("/")[0])) as link:
        yield link


@pytest.fixture
def prefix() -> str:
    return f"test-{token_hex(8)}"


def house_at(url: str, prefix: str, **options: Any) -> House:
    return House(store=RedisStore.from_url(url, prefix=prefix, **options))


async def eventually(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(DEADLINE):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await anyio.sleep(0.02)


async def test_sockets_of_all_processes_are_listed_and_ended(target: Target, prefix: str) -> None:
    houses = [house_at(target.url, prefix, cluster=target.is_cluster) for _ in range(3)]
    async with AsyncExitStack() as stack:
        wires, ids = [], []
        for number, house in enumerate([*houses, houses[0]]):
            house.clock.now += number
            wire, _ = await stack.enter_async_context(open_in(house))
            wires.append(wire)
            ids.append(house.seat.session.id)
        for house in houses:
            assert await house.listed() == ids
        await houses[2].sessions.end(ids[0], Reason.EXPIRED)
        assert await houses[1].listed() == ids[1:]
        await eventually(lambda: wires[0].close)
        assert wires[0].close == EXPIRED
        await houses[2].sessions.end_others("alice", keep=ids[3])
        assert await houses[0].listed() == [ids[3]]
        await eventually(lambda: wires[1].close and wires[2].close)
        assert [wire.close for wire in wires] == [EXPIRED, REVOKED, REVOKED, None]
    assert await houses[0].listed() == []


async def test_a_process_that_is_cut_off_is_listed_again_later(
    link: Proxy, url: str, prefix: str
) -> None:
    cut, other = (house_at(way, prefix, lease=1.0) for way in (link.url, url))
    async with open_in(cut) as (stays, _):
        kept = cut.seat.session.id
        async with open_in(cut) as (ended, _):
            over = cut.seat.session.id

            async def both_are_listed() -> bool:
                return len(await other.listed()) == 2

            await eventually(both_are_listed)
            link.cut()

            async def nobody_is_listed() -> bool:
                return await other.listed() == []

            await eventually(nobody_is_listed)
            assert stays.close is None
            assert ended.close is None
            await other.sessions.end(over)
            link.restore()

            async def one_is_listed() -> bool:
                return await other.listed() == [kept]

            await eventually(one_is_listed)
            await eventually(lambda: ended.close)
            assert ended.close == REVOKED
        assert stays.close is None
    assert await other.listed() == []
