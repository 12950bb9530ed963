"""Tickets, revocations and slots in Redis, for any number of processes. Needs the extra `redis`,
Redis 6.2 or newer, or Valkey, one server or a cluster, and asyncio.

Whatever has to happen at once is a Lua script in `stores/lua/`. All keys of one script
are in one hash slot of a cluster, because the owner's digest is in braces:

    <prefix>:ticket:<digest>            [the owner's digest, the record], or - if that is gone
    <prefix>:tickets:{<owner>}:...      which tickets an owner has, and when each is gone
    <prefix>:revoked:<digest>           until when a subject is revoked
    <prefix>:slots:{<owner>}:...        which slots an owner has, when each lapses, which were lost
    <prefix>:notices:<database>         the channel, because channels know no databases

Every key has a time to live. Identities are in none of them: a digest has any identity's place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha1, sha256
from math import ceil
from pathlib import Path
from re import fullmatch
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import anyio

from asgi_wsauth.loops.tasks import run_var
from asgi_wsauth.options import (
    ConfigurationError,
    check_bool,
    check_issued_secret,
    check_seconds,
    shown,
)
from asgi_wsauth.stores import Notice, Slot, Subject, TakenSlot

if TYPE_CHECKING:
    from anyio.lowlevel import RunVar
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.client import PubSub

    _Client: TypeAlias = Redis | RedisCluster

__all__ = ["RedisStore"]

_Command: TypeAlias = "tuple[str | int, ...]"

_log = logging.getLogger("asgi_wsauth")

_DEADLINE = 4.0  # seconds for one exchange, its wait for a connection included
_SOCKET = 1.5  # seconds for a connection to be made, or an answer to come
_IN_FLIGHT = 32  # exchanges at once, and so connections: more would make Redis no faster
_FAILOVERS = 3  # times that an exchange begins anew because it met a replica
_BATCH = 500  # slots that are renewed in one exchange
_REMEMBERED = 10  # leases for which it is known that a slot was lost
_QUIET = 5.0  # seconds without a notice, after which the connection is tested
_ANSWER = 3.0  # seconds that it has to answer
_KINDS = ("user", "token", "session", "slot")
_GONE = "-"  # what is left of a ticket
_DRAINED = 1000  # messages that are read before the event loop has its turn


class _Opened:
    """The client of one event loop.

    Args:
        clients: what closes it.
        client: it.

    Attributes:
        limiter: bounds the exchanges at once.
        pubsubs: redis-py's, those that are subscribed.
    """

    def __init__(self, clients: AsyncGenerator[_Client, None], client: _Client) -> None:
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
                    await pubsub.connection.disconnect()
        finally:
            self._leaving = None


class RedisStore:
    """A store in Redis, which any number of processes share.

    A Redis that can't be reached, or gives no answer within 4 s, raises; nothing is kept in this
    process meanwhile. One that a failover has made a replica is left: all connections to it are
    dropped, and the exchange begins anew with whatever is at its address now.

    What Redis loses is lost: a ticket is then unknown, a slot is taken again when it is renewed,
    but a revocation is forgotten. Where that matters, have Redis write its append-only file, and
    evict no keys (`maxmemory-policy noeviction`). Whoever may publish on its channel,
    `<prefix>:notices:<database>`, can close anybody's socket.

    Args:
        client: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`. Its settings are yours:
            those that `from_url` makes try again once, and at once. It stays open.
        prefix: what every key begins with, and the channel. Applications that share a Redis need
            one each.
        lease: seconds after which a slot is free again that nobody has renewed, because its process
            is gone. See `SlotStore`.

    Raises:
        ConfigurationError: an option can't work, redis-py is not installed, or this is trio.
    """

    lease: float

    def __init__(self, client: _Client, *, prefix: str = "wsauth", lease: float = 15.0) -> None:
        _check_loop()
        self._is_cluster = _check_client(client)
        if not isinstance(prefix, str) or not fullmatch(r"[!-z|~]+", prefix):
            raise ConfigurationError(
                "RedisStore: prefix must be a word of printable ASCII without spaces and braces, "
                f'for example "chat", got {shown(prefix)}'
            )
        self._prefix = prefix
        self.lease = check_seconds("RedisStore: lease", lease, least=1.0)
        self._connect: Callable[[], _Client] = lambda: client
        self._is_own = False
        self._opened: RunVar[_Opened] = run_var("redis")

    @classmethod
    def from_url(
        cls, url: str, *, cluster: bool = False, prefix: str = "wsauth", lease: float = 15.0
    ) -> RedisStore:
        """A store with clients of its own: one for each event loop, which is closed when the loop
        ends. They give up on a Redis that is silent for 1.5 s, and try again once.

        Args:
            url: `redis://user:password@host:6379/0`, or `rediss://` for TLS. Its query may have
                options of redis-py: `?ssl_ca_certs=/etc/ssl/our.pem&socket_timeout=3`.
            cluster: whether that is a node of a Redis Cluster.
            prefix: see `RedisStore`.
            lease: see `RedisStore`.

        Raises:
            ConfigurationError: an option can't work, redis-py is not installed, or this is trio.
        """
        _check_loop()
        _check_installed()
        if isinstance(url, str) and url:
            check_issued_secret("RedisStore: url", url)
        connect = _connector(url, check_bool("RedisStore: cluster", cluster))
        store = cls(connect(), prefix=prefix, lease=lease)  # this client only shows that it works
        store._connect, store._is_own = connect, True
        return store

    # Tickets

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """See `TicketStore`. The digest is one that was never put before."""
        ticket, owned, left = self._key("ticket", digest), _digest(owner), _ms(ttl)
        # JSON, because text of any kind survives in it, whatever the client decodes.
        kept = json.dumps([owned, record])
        _, past = await self._send(
            ("SET", ticket, kept, "PX", left),
            _script("put_ticket", self._ticket_keys(owned), ticket, limit, left),
        )
        await self._drop(owned, past)

    async def take_ticket(self, digest: str, /) -> str | None:
        """See `TicketStore`."""
        ticket = self._key("ticket", digest)
        call, memory = token_hex(16), _ms(2 * _DEADLINE)
        (kept,) = await self._send(_script("take_ticket", [ticket], call, memory))
        if kept is None:
            return None
        owned, record = json.loads(kept)
        # A second exchange, because only what was kept tells whose it was.
        await self._drop(owned, [ticket])
        return str(record)

    async def had_ticket(self, digest: str, /) -> bool:
        """See `TicketMemory`."""
        (kept,) = await self._send(("GET", self._key("ticket", digest)))
        return kept is not None and kept[:1] not in (b"[", "[")

    async def _drop(self, owned: str, tickets: Sequence[str]) -> None:
        """Let tickets go. That they were there is remembered for as long as they would have been
        kept."""
        keys = self._ticket_keys(owned)
        await self._send(
            *[("SET", ticket, _GONE, "XX", "KEEPTTL") for ticket in tickets],
            *[("ZREM", key, *tickets) for key in keys if tickets],
        )

    def _ticket_keys(self, owned: str) -> list[str]:
        return [f"{self._prefix}:tickets:{{{owned}}}:{part}" for part in ("order", "gone")]

    # Revocations

    async def put_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """See `RevocationStore`."""
        (kind, name), until = notice
        message = json.dumps([kind, name, until])
        keys = [self._revoked_key(notice.subject)]
        channel = self._channel((await self._connection()).client)
        await self._send(_script("put_revocation", keys, repr(until), _ms(ttl), channel, message))

    async def get_revocations(self, subjects: Sequence[Subject], /) -> Sequence[float | None]:
        """See `RevocationStore`."""
        return _untils(await self._send(*self._lookups(subjects)))

    def _lookups(self, subjects: Sequence[Subject]) -> list[_Command]:
        keys = [self._revoked_key(subject) for subject in subjects]
        if self._is_cluster:  # where they may be at several nodes
            return [("GET", key) for key in keys]
        return [("MGET", *keys)] if keys else []  # as six commands, it takes twice as long

    def _revoked_key(self, subject: Subject) -> str:
        return self._key("revoked", ":".join(subject))

    # Slots

    async def take_slot(
        self, slot: Slot, /, *, limit: int, evict: bool, subjects: Sequence[Subject] = ()
    ) -> TakenSlot:
        """See `SlotStore`. A slot that is held already is taken, whatever the limit."""
        owner, name = slot
        lease, memory = _ms(self.lease), _ms(_REMEMBERED * self.lease)
        channel = self._channel((await self._connection()).client)
        options = (limit, int(evict), lease, memory, channel)
        taken, *revoked = await self._send(
            _script("take_slot", self._slot_keys(owner), json.dumps(name), *options),
            *self._lookups(subjects),
        )
        return TakenSlot(taken == 1, _untils(revoked))

    async def renew_slots(self, slots: Sequence[Slot], /) -> Sequence[Slot]:
        """See `SlotStore`."""
        lost = []
        for start in range(0, len(slots), _BATCH):
            batch = slots[start : start + _BATCH]
            answers = await self._send(
                *[
                    _script("renew_slot", self._slot_keys(owner), json.dumps(name), _ms(self.lease))
                    for owner, name in batch
                ]
            )
            lost += [slot for slot, answer in zip(batch, answers, strict=True) if answer == 1]
        return lost

    async def give_slot(self, slot: Slot, /) -> None:
        """See `SlotStore`."""
        owner, name = slot
        # From the order first: what is left behind, should only that arrive, counts for nothing.
        await self._send(*[("ZREM", key, json.dumps(name)) for key in self._slot_keys(owner)])

    def _slot_keys(self, owner: str) -> list[str]:
        owned = _digest(owner)
        return [f"{self._prefix}:slots:{{{owned}}}:{part}" for part in ("order", "lapse", "lost")]

    # Notices

    async def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`. A further None says that redis-py has connected again, and some
        may have been missed. A connection that gives no sign of life for 8 s raises."""
        opened = await self._connection()
        client = opened.client
        with anyio.fail_after(_DEADLINE):
            pubsub: Any = await _subscriber(client)
        try:
            with anyio.fail_after(_DEADLINE):
                await pubsub.subscribe(self._channel(client))
            opened.pubsubs.add(pubsub)
            while True:
                notices, began = await _hear(pubsub)
                if notices:
                    yield notices
                if began:
                    yield None
        finally:
            opened.pubsubs.discard(pubsub)
            with anyio.CancelScope(shield=True):
                await pubsub.aclose()

    def _channel(self, client: _Client) -> str:
        return f"{self._prefix}:notices:{client.get_connection_kwargs().get('db') or 0}"

    # Redis

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{_digest(name)}"

    async def _send(self, *commands: _Command) -> list[Any]:
        """The answers to commands, all of them in one exchange. All are such that they may be sent
        twice: redis-py does so where the answer got lost."""
        from redis.exceptions import ResponseError

        if not commands:
            return []
        opened = await self._connection()
        with anyio.fail_after(_DEADLINE):
            async with opened.limiter:
                for _ in range(_FAILOVERS):
                    try:
                        return await _execute(opened.client, commands)
                    except ResponseError as exc:
                        if not _is_from_a_replica(exc):
                            raise
                    await opened.leave()
                return await _execute(opened.client, commands)

    async def _connection(self) -> _Opened:
        """That of the running event loop."""
        _check_loop()
        opened = self._opened.get(None)
        if opened is None:
            clients = self._clients()
            opened = _Opened(clients, await clients.__anext__())
            self._opened.set(opened)
        return opened

    async def _clients(self) -> AsyncGenerator[_Client, None]:
        # A generator, because that is what asyncio closes when it ends. See outbound.py.
        client: Any = self._connect()
        try:
            yield client
        finally:
            if self._is_own:
                await client.aclose()

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix!r}>"


# Configuration


def _check_installed() -> None:
    try:
        import redis.asyncio  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "RedisStore: redis is missing; pip install 'asgi-wsauth[redis]'"
        ) from None


def _check_loop() -> None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        raise ConfigurationError(
            "RedisStore needs asyncio, because redis-py does; this is trio. Run the server on "
            "asyncio, or use MemoryStore() in a single process"
        )


def _check_client(client: object) -> bool:
    """Whether it is one of a cluster."""
    _check_installed()
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


def _connector(url: str, cluster: bool) -> Callable[[], _Client]:
    """What makes a client, without a connection yet."""
    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError, TimeoutError

    def connect() -> _Client:
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
            f"RedisStore: url is none that redis-py takes ({type(exc).__qualname__}); write for "
            "example redis://localhost:6379/0, a special character in a password as %2F, and no "
            "option that redis-py doesn't have"
        ) from None
    return connect


def _tls(url: str) -> dict[str, bool]:
    """The server's certificate must have its name, which redis-py 5 doesn't look at by itself. What
    the URL says of that goes before it; without a certificate, there is no name either."""
    parts = urlsplit(url)
    if parts.scheme != "rediss" or parse_qs(parts.query).get("ssl_cert_reqs") == ["none"]:
        return {}
    return {"ssl_check_hostname": True}


# Values


def _digest(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _ms(seconds: float) -> int:
    """Whole milliseconds, at least one, and at most 300 years: Redis knows no infinity."""
    return ceil(max(1, min(1e13, seconds * 1000)))


def _untils(answers: Sequence[Any]) -> list[float | None]:
    """What was looked up, by several commands or by one."""
    found = answers[0] if answers and isinstance(answers[0], list) else answers
    return [None if until is None else float(until) for until in found]


# Commands


def _script(name: str, keys: Sequence[str], *args: str | int) -> _Command:
    """The command that runs a script."""
    return ("EVAL", _source(name), len(keys), *keys, *args)


@cache
def _source(name: str) -> str:
    return (
        Path(__file__).parent.joinpath("stores", "lua").joinpath(f"{name}.lua").read_text("utf-8")
    )


def _shortened(command: _Command) -> _Command:
    """The same, for a server that has seen the script before."""
    return ("EVALSHA", _sha(command[1]), *command[2:]) if command[0] == "EVAL" else command


@cache
def _sha(source: str) -> str:
    return sha1(source.encode(), usedforsecurity=False).hexdigest()


async def _execute(client: _Client, commands: Sequence[_Command]) -> list[Any]:
    from redis.exceptions import NoScriptError

    try:
        return await _exchange(client, map(_shortened, commands))
    except NoScriptError:  # the server was started again, or never saw it
        return await _exchange(client, commands)


async def _exchange(client: _Client, commands: Iterable[_Command]) -> list[Any]:
    pipeline: Any = client.pipeline(transaction=False)  # no transaction spans a cluster
    for command in commands:
        pipeline.execute_command(*command)
    return list(await pipeline.execute())


# Failover


def _is_from_a_replica(exc: Exception) -> bool:
    """Whether a server refuses because it is no primary any more. Redis 6 says so of a script in
    the midst of other words, and only there."""
    from redis.exceptions import MasterDownError, ReadOnlyError

    return isinstance(exc, (MasterDownError, ReadOnlyError)) or "-READONLY " in str(exc)


# Notices


async def _subscriber(client: _Client) -> PubSub:
    from redis.asyncio import ConnectionPool, Redis

    if isinstance(client, Redis):
        return client.pubsub()
    await client.initialize()  # or its nodes are not known
    node = client.get_random_node()  # each of them gets all messages
    pool = ConnectionPool(node.connection_class, **node.connection_kwargs)
    return Redis(connection_pool=pool).pubsub()  # RedisCluster.pubsub() is new in redis-py 8


async def _hear(pubsub: PubSub) -> tuple[list[Notice], bool]:
    """Notices that have come, and whether the subscription began after them. redis-py subscribes
    again when it has lost the connection, and says so only by this."""
    with anyio.fail_after(_QUIET + _ANSWER):
        message = await pubsub.get_message(timeout=_QUIET)
        if message is None:
            await pubsub.ping()
        while message is None:  # also after the answer to a ping of redis-py's own
            message = await pubsub.get_message(timeout=_ANSWER)
    messages = [message]
    while len(messages) < _DRAINED and messages[-1]["type"] != "subscribe":
        message = await pubsub.get_message(timeout=0)
        if message is None:
            break
        messages.append(message)
    told = [message["data"] for message in messages if message["type"] == "message"]
    return [n for data in told for n in _parsed(data)], messages[-1]["type"] == "subscribe"


def _parsed(data: str | bytes) -> list[Notice]:
    try:
        kind, name, until = json.loads(data)
        if kind in _KINDS and isinstance(name, str) and isinstance(until, (int, float)):
            return [Notice((kind, name), float(until))]
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    _log.debug("RedisStore: ignored a message that is no notice")
    return []
