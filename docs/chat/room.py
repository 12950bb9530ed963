"""The room in which all users talk, whichever process they are connected to."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.websockets import WebSocketDisconnect

CHANNEL = "chat:room"


class Room:
    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, decode_responses=True)
        self._queues: set[asyncio.Queue[str]] = set()

    async def say(self, text: str) -> None:
        try:
            await self._redis.publish(CHANNEL, text)
        except RedisError:
            logging.exception("nobody hears this")

    @asynccontextmanager
    async def joined(self, send: Callable[[str], Awaitable[None]]) -> AsyncIterator[None]:
        """Sends a client what is said, in the meantime."""
        queue: asyncio.Queue[str] = asyncio.Queue(100)

        async def pass_on() -> None:
            with suppress(WebSocketDisconnect):
                while True:
                    await send(await queue.get())

        task = asyncio.create_task(pass_on())
        self._queues.add(queue)
        try:
            yield
        finally:
            self._queues.remove(queue)
            task.cancel()

    async def listen(self) -> None:
        """Hears what is said in all processes."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(CHANNEL)
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._tell(message["data"])
            except RedisError:
                logging.exception("the room can't be heard")
                await asyncio.sleep(1)

    def _tell(self, text: str) -> None:
        for queue in self._queues:
            with suppress(asyncio.QueueFull):  # who reads too slowly misses something
                queue.put_nowait(text)
