"""Notices that are published in Redis, and the subscription that receives them. Needs redis-py."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from random import uniform
from typing import TYPE_CHECKING, Any

import anyio

from asgi_wsauth.events import logger
from asgi_wsauth.stores.protocols import Notice, RenewalNotice
from asgi_wsauth.stores.redis_client import DEADLINE, OpenClient

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from asgi_wsauth.stores.redis_client import Client

__all__ = ["hear", "listen", "written"]

_QUIET = 5.0  # seconds at most without a message, after which an empty one is published
_ANSWER = 3.0  # seconds within which that has to be heard
_KINDS = ("user", "token", "session", "everybody", "blocked", "slot", "ended")
_DRAINED = 1000  # messages that are read before the event loop has its turn


async def listen(
    connect: Callable[[], Awaitable[OpenClient]],
    channel_of: Callable[[Client], str],
    probe: Callable[[], Awaitable[object]],
    *,
    unused: str,
) -> AsyncGenerator[Sequence[Notice] | None, None]:
    """Notices as they arrive; None when a subscription begins, and when redis-py has connected
    again, because some may have been missed.

    A connection raises if nothing arrives for 8 s, not even a message that was published to test
    it, or if it leads to a replica: a listener there misses notices while the replica is cut off
    from its primary, and never learns of it.

    Args:
        connect: returns the client of the running event loop.
        channel_of: returns the channel of a client.
        probe: see `hear`.
        unused: a key that doesn't exist.
    """
    opened = await connect()
    with anyio.fail_after(DEADLINE):
        pubsub, primary = await _subscriber(opened.client, unused)
    try:
        with anyio.fail_after(DEADLINE):
            await pubsub.connect()
            opened.pubsubs.add(pubsub)
            if primary is not None:
                await primary.insist(pubsub)
            await pubsub.subscribe(channel_of(opened.client))
        while True:
            notices, began = await hear(pubsub, probe)
            if notices:
                yield notices
            if began:
                yield None
    finally:
        opened.pubsubs.discard(pubsub)
        with anyio.CancelScope(shield=True):
            await pubsub.aclose()


async def _subscriber(client: Client, unused: str) -> tuple[Any, _Primary | None]:
    from redis.asyncio import ConnectionPool, Redis

    if isinstance(client, Redis):
        return client.pubsub(), _Primary(unused)
    await client.initialize()  # or its nodes are not known
    node = client.get_random_node()  # each of them gets all messages, also a replica
    pool = ConnectionPool(node.connection_class, **node.connection_kwargs)
    return Redis(connection_pool=pool).pubsub(), None  # RedisCluster.pubsub() is new in redis-py 8


class _Primary:
    """Keeps a subscription on the primary."""

    def __init__(self, unused: str) -> None:
        self._unused = unused

    async def insist(self, pubsub: Any) -> None:
        """Check its connection, and each that redis-py replaces it with, before subscribing."""
        connection = pubsub.connection
        await self.check(connection)
        connection.deregister_connect_callback(pubsub.on_connect)
        connection.register_connect_callback(self.check)
        connection.register_connect_callback(pubsub.on_connect)  # which subscribes again

    async def check(self, connection: Any) -> None:
        """Raises the error with which a replica answers a write. This one changes nothing."""
        await connection.send_command("DEL", self._unused)
        await connection.read_response()


async def hear(pubsub: PubSub, probe: Callable[[], Awaitable[object]]) -> tuple[list[Notice], bool]:
    """Notices that have come, and whether the subscription began after them. redis-py subscribes
    again when it has lost the connection, and says so only by this.

    Args:
        pubsub: what is subscribed.
        probe: publishes an empty message, which every listener receives; called when nothing has
            arrived for a while.
    """
    with anyio.fail_after(_QUIET + _ANSWER):
        # A random time, so that one listener's message reaches the others before they send theirs.
        message = await pubsub.get_message(timeout=uniform(_QUIET / 2, _QUIET))
        if message is None:
            with anyio.fail_after(_ANSWER):
                await probe()
        while message is None:  # also after the answer to a ping of redis-py's own
            message = await pubsub.get_message(timeout=_ANSWER)
    messages = [message]
    while (
        len(messages) < _DRAINED
        and messages[-1]["type"] != "subscribe"
        and (message := await pubsub.get_message(timeout=0)) is not None
    ):
        messages.append(message)
    # An empty message is a probe's.
    told = [m["data"] for m in messages if m["type"] == "message" and m["data"]]
    return [n for data in told for n in _parsed(data)], messages[-1]["type"] == "subscribe"


def written(notice: Notice) -> str:
    """A notice as it is published."""
    (kind, name), until = notice
    more = [] if notice.renew_by is None else [{"renew_by": notice.renew_by}]
    return json.dumps([kind, name, until, *more])


def _parsed(data: str | bytes) -> list[Notice]:
    try:
        kind, name, until, *more = json.loads(data)
        if kind in _KINDS and isinstance(name, str) and isinstance(until, (int, float)):
            notice = Notice((kind, name), float(until))
            return [RenewalNotice.of(notice, float(more[0]["renew_by"])) if more else notice]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        pass
    logger.debug("RedisStore: ignored a message that is not a notice")
    return []
