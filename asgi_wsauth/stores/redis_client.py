"""The exchanges with Redis: connections, failovers, scripts. Needs redis-py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha1, sha256
from math import ceil
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import anyio

from asgi_wsauth.options import (
    ConfigurationError,
    needs_extra,
    shown,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    Client: TypeAlias = Redis | RedisCluster

__all__ = [
    "DEADLINE",
    "FAILOVERS",
    "Command",
    "OpenClient",
    "check_client",
    "check_installed",
    "check_loop",
    "check_prefix",
    "connector",
    "digest_of",
    "execute",
    "is_from_a_replica",
    "ms",
    "script",
    "untils",
]

Command: TypeAlias = "tuple[str | int, ...]"

DEADLINE = 4.0  # seconds for one exchange, its wait for a connection included
_SOCKET = 1.5  # seconds for a connection to be made, or an answer to come
_IN_FLIGHT = 32  # exchanges at once, and so connections: more would make Redis no faster
FAILOVERS = 3  # times that an exchange begins anew because it met a replica


class OpenClient:
    """The client of one event loop.

    Args:
        clients: what closes it.
        client: it.

    Attributes:
        limiter: bounds the exchanges at once.
        pubsubs: redis-py's, those that are subscribed, or about to be.
    """

    def __init__(self, clients: AsyncGenerator[Client, None], client: Client) -> None:
        self.client = client
        self.limiter = anyio.CapacityLimiter(_IN_FLIGHT)
        self.pubsubs: set[Any] = set()
        self._clients = clients  # or it would be closed now
        self._leaving: asyncio.Task[None] | None = None

    async def leave(self) -> None:
        """Drop connections: they lead to a server that was the primary, and new ones may lead to
        the one that is, behind the same name or address.

        In a task of its own, one at a time: where redis-py closes a connection for two at once and
        one of them is cancelled, it cancels the other one, too.
        """
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())
        await asyncio.wait([self._leaving])

    async def _leave(self) -> None:
        from redis.asyncio import Redis

        try:
            with suppress(Exception):  # of a connection that has broken anyway
                if isinstance(self.client, Redis):
                    # Those on which an exchange is on its way may be new ones.
                    await self.client.connection_pool.disconnect(inuse_connections=False)
                else:
                    await self.client.aclose()  # it asks for the nodes again when it is used
            for pubsub in list(self.pubsubs):
                with suppress(Exception):
                    await pubsub.connection.disconnect()
        finally:
            self._leaving = None


def check_installed() -> None:
    with needs_extra("RedisStore", "redis", "redis"):
        import redis.asyncio  # noqa: F401


def check_loop() -> None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise ConfigurationError(
            "RedisStore needs asyncio, because redis-py does; this is trio. Run the server on "
            "asyncio, or use MemoryStore() in a single process"
        )


def check_client(client: object) -> bool:
    """Whether it is one of a cluster."""
    check_installed()
    import redis
    from redis.asyncio import Redis, RedisCluster

    if isinstance(client, (Redis, RedisCluster)):
        return isinstance(client, RedisCluster)
    if isinstance(client, (redis.Redis, redis.RedisCluster)):
        mend = f"it is synchronous; use redis.asyncio.{type(client).__name__}"
    elif isinstance(client, str):
        mend = "use RedisStore.from_url(...) for a URL"
    else:
        mend = "use a redis.asyncio.Redis"
    raise ConfigurationError(
        f"RedisStore: client must be a redis.asyncio.Redis or RedisCluster, got a "
        f"{type(client).__qualname__}; {mend}"
    )


def check_prefix(prefix: str) -> str:
    if not isinstance(prefix, str) or not fullmatch(r"[!-z|~]+", prefix):
        raise ConfigurationError(
            "RedisStore: prefix must be a word of printable ASCII without spaces and braces, "
            f'for example "chat", got {shown(prefix)}'
        )
    return prefix


def connector(url: str, cluster: bool) -> Callable[[], Client]:
    """What makes a client, without a connection yet."""
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError, TimeoutError

    def connect() -> Client:
        return (RedisCluster if cluster else Redis).from_url(
            url,
            **_tls(url),
            retry=Retry(NoBackoff(), 1),
            retry_on_error=[ConnectionError, TimeoutError],  # redis-py 5 wants to be told
            socket_timeout=_SOCKET,
            socket_connect_timeout=_SOCKET,
        )

    try:
        client: Any = connect()
        if not cluster:
            client.connection_pool.make_connection()  # takes its options only then
    except Exception as exc:  # whose words may be a part of the password
        raise ConfigurationError(
            f"RedisStore: url is not one that redis-py accepts ({type(exc).__qualname__}); write "
            "for example redis://localhost:6379/0, a special character in a password as %2F, and "
            "no option that redis-py doesn't have"
        ) from None
    return connect


def _tls(url: str) -> dict[str, bool]:
    """The server's certificate must have its name, which redis-py 5 doesn't look at by itself. What
    the URL says of that goes before it; without a certificate, there is no name either."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or parse_qs(parts.query).get("ssl_cert_reqs") == ["none"]:
        return {}
    return {"ssl_check_hostname": True}


# Commands


def script(name: str, keys: Sequence[str], *args: str | int) -> Command:
    """The command that runs a script."""
    return ("EVAL", _source(name), len(keys), *keys, *args)


@cache
def _source(name: str) -> str:
    return Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text("utf-8")


def _shortened(command: Command) -> Command:
    """The same, for a server that has seen the script before."""
    return ("EVALSHA", _sha(command[1]), *command[2:]) if command[0] == "EVAL" else command


@cache
def _sha(source: str) -> str:
    return sha1(source.encode(), usedforsecurity=False).hexdigest()


async def execute(client: Client, commands: Sequence[Command]) -> list[Any]:
    from redis.exceptions import NoScriptError

    try:
        return await _exchange(client, map(_shortened, commands))
    except NoScriptError:  # the server was started again, or never saw it
        return await _exchange(client, commands)


async def _exchange(client: Client, commands: Iterable[Command]) -> list[Any]:
    pipeline: Any = client.pipeline(transaction=False)  # no transaction spans a cluster
    for command in commands:
        pipeline.execute_command(*command)
    return list(await pipeline.execute())


def digest_of(name: str) -> str:
    """What stands for a name in a key."""
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def ms(seconds: float) -> int:
    """Whole milliseconds, at least one, and at most 300 years: Redis knows no infinity."""
    return ceil(max(1, min(1e13, seconds * 1000)))


def untils(answers: Sequence[Any]) -> list[float | None]:
    """Revocations that were looked up, by several commands or by one."""
    found = answers[0] if answers and isinstance(answers[0], list) else answers
    return [None if until is None else float(until) for until in found]


# Failover


def is_from_a_replica(exc: Exception) -> bool:
    """Whether a server refuses because it is no primary any more. Redis 6 says so of a script in
    the midst of other words, and only there."""
    from redis.exceptions import MasterDownError, ReadOnlyError

    return isinstance(exc, (MasterDownError, ReadOnlyError)) or "-READONLY " in str(exc)
