"""A `SessionsEndpoint` with users and sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
from handshakes import Knows, authenticator, bearer
from http_calls import Answer, call, request

from asgi_wsauth import (
    Cookie,
    Credential,
    Denied,
    Event,
    Header,
    MemoryStore,
    Principal,
    Reason,
    SessionEntry,
    Sessions,
    SessionsEndpoint,
)

PAGE = "https://chat.example"
ISSUER = "https://a.example"


@dataclass
class Socket:
    """An open socket, as `Sessions` know it."""

    id: str
    user: str = "alice"
    issuer: str | None = None
    token: str = "alice"
    since: float = 5.0
    ended: list[Denied] = field(default_factory=list)

    @property
    def principal(self) -> Principal:
        return Principal(self.user, issuer=self.issuer)

    @property
    def stamp(self) -> object:
        return self.since

    def entry(self, *, user_agent: bool) -> SessionEntry:
        return SessionEntry(
            id=self.id,
            since=self.since,
            refreshed_at=None,
            client="192.0.2.7",
            path="/ws",
            method="jwt",
            fingerprint=Credential(self.token).fingerprint,
            user_agent="A browser" if user_agent else None,
            issuer=self.issuer,
        )

    def end(self, denied: Denied, /) -> None:
        self.ended.append(denied)


# By the words that they present.
USERS = Knows(
    alice=Principal("alice"),
    phone=Principal("alice"),
    bob=Principal("bob"),
    elsewhere=Principal("alice", issuer=ISSUER),
    unnamed=Principal("alice", issuer=""),
    admin=Principal("root", scopes=["admin", "chat"]),
    gone=Denied(Reason.REVOKED),
)


class Site:
    """An endpoint, and the sockets that it knows."""

    def __init__(
        self, *sockets: Socket, store: Any = None, auth: Any = None, **options: Any
    ) -> None:
        self.told: list[Event] = []
        self.sockets = list(sockets)
        options = {"admin_scope": "admin", **options}
        auth = {"sources": [Cookie("login"), Header(scheme="Bearer")], **(auth or {})}
        self.auth = authenticator(
            USERS, **{"observers": [self.told.append], "allowed_origins": [PAGE], **auth}
        )
        self.sessions = Sessions(MemoryStore() if store is None else store, user_agent=True)
        self.endpoint = SessionsEndpoint(self.sessions, self.auth, **options)
        self.app: Any = self.endpoint

    async def __aenter__(self) -> Site:
        for socket in self.sockets:
            await self.sessions.register(socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        for socket in self.sockets:
            await self.sessions.unregister(socket)

    async def ask(
        self,
        token: str = "alice",
        method: str = "GET",
        path: str = "/sessions",
        query: str = "",
        *,
        headers: Iterable[tuple[str, str]] = (),
        app: Any = None,
        **more: Any,
    ) -> Answer:
        login = bearer(token) if token else []
        scope = request(method, query, path=path, headers=[*login, *headers], **more)
        return await call(app or self.app, scope)

    async def listed(self, token: str = "alice", query: str = "") -> list[str]:
        answer = await self.ask(token, query=query)
        assert answer.status == 200
        return [entry["id"] for entry in answer.json["sessions"]]

    async def left(self) -> set[str]:
        """The sockets that were not ended."""
        await anyio.wait_all_tasks_blocked()
        return {socket.id for socket in self.sockets if not socket.ended}
