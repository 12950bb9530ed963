"""Tickets, revocations, slots and sessions in Redis, for any number of processes. Needs the extra
`redis`, Redis 6.2 or newer, or Valkey, one server or a cluster, and asyncio.

Whatever has to happen at once is a Lua script in `stores/lua/`. All keys of one script
are in one hash slot of a cluster, because the owner's digest is in braces:

    <prefix>:ticket:<digest>            [the owner's digest, the record], or - if that is gone
    <prefix>:tickets:{<owner>}:...      which tickets an owner has, and when each is gone
    <prefix>:revoked:<digest>           until when a subject is revoked
    <prefix>:slots:{<owner>}:...        which slots an owner has, when each lapses, which were lost
    <prefix>:sessions:{<owner>}:...     which sessions an owner has, and when each lapses
    <prefix>:ended:<digest>             how a session was ended
    <prefix>:notices:<database>         the channel, because channels know no databases

Every key has a time to live. Identities are in none of them: a digest has any identity's place.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import anyio

from asgi_wsauth.loops.per_loop import PerLoop
from asgi_wsauth.options import check_bool, check_issued_secret, check_seconds
from asgi_wsauth.stores.batches import batches
from asgi_wsauth.stores.protocols import (
    Notice,
    RenewedSessions,
    SessionKey,
    Slot,
    Subject,
    TakenSlot,
)
from asgi_wsauth.stores.redis_client import (
    DEADLINE,
    FAILOVERS,
    Command,
    OpenClient,
    check_client,
    check_installed,
    check_loop,
    check_prefix,
    connector,
    digest_of,
    execute,
    is_from_a_replica,
    ms,
    script,
    untils,
)
from asgi_wsauth.stores.redis_notices import listen, written
from asgi_wsauth.stores.redis_sessions import SessionCommands, listed, renewed

if TYPE_CHECKING:
    from asgi_wsauth.stores.redis_client import Client

__all__ = ["RedisStore"]

_BATCH = 500  # slots that are renewed, or sessions that are read, in one exchange
_REMEMBERED = 10  # leases for which it is known that a slot was lost
_GONE = "-"  # what is left of a ticket


class RedisStore:
    """A store in Redis, which any number of processes share.

    If Redis can't be reached, or doesn't answer within 4 s, it raises; nothing is kept in this
    process meanwhile. If a failover has made its server a replica, all connections to it are
    dropped, and the exchange begins anew with whatever is at its address now.

    What Redis loses is lost: a ticket is then unknown, slots and sessions return once they are
    renewed, but a revocation is forgotten. If that matters, have Redis write its append-only file,
    and evict no keys (`maxmemory-policy noeviction`). Anyone who may publish on its channel,
    `<prefix>:notices:<database>`, can close anybody's socket.

    Args:
        client: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` with settings of your own:
            the clients that `from_url` makes try again once, and at once. It is never closed here.
        prefix: what every key, and the channel, begins with. Applications that share a Redis need
            one each.
        lease: seconds after which a slot is free again, and a session no longer listed, if its
            process is gone and nobody has renewed it. See `SlotStore` and `SessionStore`.

    Raises:
        ConfigurationError: an option can't work, redis-py is not installed, or this is trio.
    """

    lease: float

    def __init__(self, client: Client, *, prefix: str = "wsauth", lease: float = 15.0) -> None:
        check_loop()
        self._is_cluster = check_client(client)
        self._prefix = check_prefix(prefix)
        self.lease = check_seconds("RedisStore: lease", lease, least=1.0)
        self._sessions = SessionCommands(prefix, self.lease, is_cluster=self._is_cluster)
        self._connect: Callable[[], Client] = lambda: client
        self._is_own = False
        self._opened: PerLoop[OpenClient] = PerLoop()

    @classmethod
    def from_url(
        cls, url: str, *, cluster: bool = False, prefix: str = "wsauth", lease: float = 15.0
    ) -> RedisStore:
        """A store with clients of its own: one for each event loop, which is closed when the loop
        ends. They give up if Redis is silent for 1.5 s, and try again once.

        Args:
            url: `redis://user:password@host:6379/0`, or `rediss://` for TLS. Its query may have
                options of redis-py: `?ssl_ca_certs=/etc/ssl/our.pem&socket_timeout=3`.
            cluster: whether that is a node of a Redis Cluster.
            prefix: as in `RedisStore`.
            lease: seconds, as in `RedisStore`.

        Raises:
            ConfigurationError: an option can't work, redis-py is not installed, or this is trio.
        """
        check_loop()
        check_installed()
        if isinstance(url, str) and url:
            check_issued_secret("RedisStore: url", url)
        connect = connector(url, check_bool("RedisStore: cluster", cluster))
        store = cls(connect(), prefix=prefix, lease=lease)  # this client only shows that it works
        store._connect, store._is_own = connect, True
        return store

    # Tickets

    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None:
        """See `TicketStore`. The digest is one that was never put before."""
        ticket, owned, left = self._key("ticket", digest), digest_of(owner), ms(ttl)
        # JSON, because text of any kind survives in it, whatever the client decodes.
        kept = json.dumps([owned, record])
        _, past = await self._send(
            ("SET", ticket, kept, "PX", left),
            script("put_ticket", self._ticket_keys(owned), ticket, limit, left),
        )
        await self._drop(owned, past)

    async def take_ticket(self, digest: str, /) -> str | None:
        """See `TicketStore`."""
        ticket = self._key("ticket", digest)
        call, memory = token_hex(16), ms(2 * DEADLINE)
        (kept,) = await self._send(script("take_ticket", [ticket], call, memory))
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
        await self._put_revocation("put_revocation", notice, ms(ttl))

    async def replace_revocation(self, notice: Notice, /, *, ttl: float) -> None:
        """See `BlockStore`."""
        await self._put_revocation("replace_revocation", notice, ms(ttl) if ttl > 0 else 0)

    async def _put_revocation(self, name: str, notice: Notice, left: int) -> None:
        keys = [self._revoked_key(notice.subject)]
        channel = self._channel((await self._connection()).client)
        await self._send(script(name, keys, repr(notice.until), left, channel, written(notice)))

    async def get_revocations(self, subjects: Sequence[Subject], /) -> Sequence[float | None]:
        """See `RevocationStore`."""
        return untils(await self._send(*self._lookups(subjects)))

    def _lookups(self, subjects: Sequence[Subject]) -> list[Command]:
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
        lease, memory = ms(self.lease), ms(_REMEMBERED * self.lease)
        channel = self._channel((await self._connection()).client)
        options = (limit, int(evict), lease, memory, channel)
        taken, *revoked = await self._send(
            script("take_slot", self._slot_keys(owner), json.dumps(name), *options),
            *self._lookups(subjects),
        )
        return TakenSlot(taken == 1, untils(revoked))

    async def renew_slots(self, slots: Sequence[Slot], /) -> Sequence[Slot]:
        """See `SlotStore`."""
        lost = []
        for batch in batches(slots, _BATCH):
            answers = await self._send(
                *[
                    script("renew_slot", self._slot_keys(owner), json.dumps(name), ms(self.lease))
                    for owner, name in batch
                ]
            )
            lost += [slot for slot, answer in zip(batch, answers, strict=True) if answer == 1]
        return lost

    async def release_slot(self, slot: Slot, /) -> None:
        """See `SlotStore`."""
        owner, name = slot
        # From the order first: what is left behind, should only that arrive, counts for nothing.
        await self._send(*[("ZREM", key, json.dumps(name)) for key in self._slot_keys(owner)])

    def _slot_keys(self, owner: str) -> list[str]:
        owned = digest_of(owner)
        return [f"{self._prefix}:slots:{{{owned}}}:{part}" for part in ("order", "lapse", "lost")]

    # Sessions

    async def put_sessions(self, sessions: Sequence[tuple[SessionKey, str]], /) -> None:
        """See `SessionStore`."""
        await self._send(*self._sessions.put(sessions))

    async def renew_sessions(self, keys: Sequence[SessionKey], /) -> RenewedSessions:
        """See `SessionStore`."""
        return renewed(keys, await self._send(*self._sessions.renew(keys)))

    async def get_sessions(self, owner: str, /) -> Sequence[tuple[str, str]]:
        """See `SessionStore`."""
        (ids,) = await self._send(self._sessions.ids(owner))
        found: list[tuple[str, str]] = []
        # More exchanges, because other nodes may know which of them were ended. Not all of them in
        # one: of somebody who has thousands, it would hold up Redis, and this event loop.
        for batch in batches(ids, _BATCH):
            found += listed(batch, await self._send(*self._sessions.get(owner, batch)))
        return found

    async def drop_session(self, key: SessionKey, /) -> None:
        """See `SessionStore`."""
        await self._send(*self._sessions.drop(key))

    async def end_sessions(self, ids: Sequence[str], how: str, /, *, ttl: float) -> None:
        """See `SessionStore`."""
        channel = self._channel((await self._connection()).client)
        await self._send(*self._sessions.end(ids, how, ttl, channel))

    # Notices

    def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        """See `RevocationStore`. A further None says that redis-py has connected again, and some
        may have been missed; a connection that gives no sign of life for 8 s raises."""
        unused = self._key("probe", "")

        async def probe() -> None:
            channel = self._channel((await self._connection()).client)
            await self._send(script("probe", [unused], channel))

        return listen(self._connection, self._channel, probe, unused=unused)

    def _channel(self, client: Client) -> str:
        return f"{self._prefix}:notices:{client.get_connection_kwargs().get('db') or 0}"

    # Redis

    def _key(self, kind: str, name: str) -> str:
        return f"{self._prefix}:{kind}:{digest_of(name)}"

    async def _send(self, *commands: Command) -> list[Any]:
        """The answers to commands, all of them in one exchange. All are such that they may be sent
        twice: redis-py does so where the answer got lost."""
        from redis.exceptions import ResponseError

        if not commands:
            return []
        opened = await self._connection()
        with anyio.fail_after(DEADLINE):
            async with opened.limiter:
                for _ in range(FAILOVERS):
                    try:
                        return await execute(opened.client, commands)
                    except ResponseError as exc:
                        if not is_from_a_replica(exc):
                            raise
                    await opened.leave()
                return await execute(opened.client, commands)

    async def _connection(self) -> OpenClient:
        """The client of the running event loop."""
        check_loop()
        opened = self._opened.get()
        if opened is None:
            clients = self._clients()
            opened = OpenClient(clients, await clients.__anext__())
            self._opened.set(opened)
        return opened

    async def _clients(self) -> AsyncGenerator[Client, None]:
        # A generator, because that is what asyncio closes when it ends. See outbound.py.
        client: Any = self._connect()
        try:
            yield client
        finally:
            if self._is_own:
                await client.aclose()

    def __repr__(self) -> str:
        return f"<RedisStore {self._prefix!r}>"
