"""What is told through Redis, and how it is heard. Needs redis-py."""

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
    """Notices as they come; None when a subscription begins, and when redis-py has connected again,
    because some may have been missed.

    A connection on which nothing is heard for 8 s, also of what is published here, raises; and so
    does one to a replica: whoever listens there hears nothing while it is cut off from its primary,
    and never learns of it.

    Args:
        connect: the client of the running event loop.
        channel_of: where it hears notices.
        probe: publishes there what all hear, and is no notice.
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
    """Sees to it that a subscription is at a primary."""

    def __init__(self, unused: str) -> None:
        self._unused = unused

    async def insist(self, pubsub: Any) -> None:
        """Check its connection, and each that redis-py puts in the place of this, before there is a
        subscription on it."""
        connection = pubsub.connection
        await self.check(connection)
        connection.deregister_connect_callback(pubsub.on_connect)
        connection.register_connect_callback(self.check)
        connection.register_connect_callback(pubsub.on_connect)  # which subscribes again

    async def check(self, connection: Any) -> None:
        """Raises what a replica answers to a write, though this one changes nothing."""
        await connection.send_command("DEL", self._unused)
        await connection.read_response()


async def hear(pubsub: PubSub, probe: Callable[[], Awaitable[object]]) -> tuple[list[Notice], bool]:
    """Notices that have come, and whether the subscription began after them. redis-py subscribes
    again when it has lost the connection, and says so only by this.

    Args:
        pubsub: what is subscribed.
        probe: publishes what all hear, and is no notice; called if there was nothing for long.
    """
    with anyio.fail_after(_QUIET + _ANSWER):
        # Each for another time: all hear what the first one publishes, and begin anew.
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
    # What probes publish is empty.
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
