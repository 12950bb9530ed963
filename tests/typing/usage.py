"""How the package is used, as type checkers see it. Nothing runs this file; mypy and pyright do."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any, assert_type

import limits.aio.storage
from asgiref.typing import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
from fastapi import Depends, FastAPI, Request, WebSocket
from litestar import Litestar
from quart import Quart
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import ASGIApp

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    GRAPHQL_CLOSE_CODES,
    JWKS,
    APIKeyVerifier,
    Authentication,
    Authenticator,
    Closed,
    ConnectionLimit,
    Cookie,
    Credential,
    Denied,
    Event,
    FailureThrottle,
    FirstMessage,
    HandshakeLimit,
    Header,
    HTTPAuthMiddleware,
    InternalCredential,
    JWTVerifier,
    KeysFetched,
    LoggedOut,
    LogoutEndpoint,
    MemoryStore,
    Notice,
    Observer,
    Principal,
    ProxyHeader,
    QueryParam,
    Reason,
    RedactCredentials,
    Refreshed,
    Refused,
    Revocations,
    RevocationStore,
    Session,
    SessionEntry,
    Sessions,
    SessionsEnded,
    SessionsEndpoint,
    Slot,
    SlotStore,
    Source,
    Subject,
    Subprotocol,
    TakenSlot,
    TicketEndpoint,
    Tickets,
    TicketStore,
    TokenIntrospection,
    VerdictCache,
    Verifier,
    WebSocketAuthMiddleware,
    current_principal,
    current_session,
    drain_on_signal,
    log_event,
)
from asgi_wsauth.contrib.database_token import DatabaseToken
from asgi_wsauth.contrib.django import DjangoSession, revoke_at_logout, session_id
from asgi_wsauth.contrib.opentelemetry import OpenTelemetryObserver
from asgi_wsauth.contrib.prometheus import PrometheusMetrics
from asgi_wsauth.contrib.starlette import StarletteSession
from asgi_wsauth.denial import advice
from asgi_wsauth.redis import RedisStore
from asgi_wsauth.testing import as_principal, make_jwt


# A third party's verifier and a third party's source
async def legacy_session(credential: Credential, conn: HTTPConnection) -> Principal | None:
    if not credential.value.startswith("legacy-"):
        return None
    if credential.value == "legacy-revoked":
        raise Denied(Reason.REVOKED, "logged out elsewhere")
    return Principal("alice", scopes=["chat"], method="legacy")


class Registry:
    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        if credential.note is not None:
            credential.note("registry", "nobody of that name")
        return None


class Shared:
    async def put_ticket(
        self, digest: str, record: str, /, *, owner: str, limit: int, ttl: float
    ) -> None: ...

    async def take_ticket(self, digest: str, /) -> str | None: ...

    async def put_revocation(self, notice: Notice, /, *, ttl: float) -> None: ...

    async def get_revocations(self, subjects: Sequence[Subject], /) -> list[float | None]:
        return [None for _ in subjects]

    lease = 10.0

    async def take_slot(
        self, slot: Slot, /, *, limit: int, evict: bool, subjects: Sequence[Subject] = ()
    ) -> TakenSlot:
        return TakenSlot(True, await self.get_revocations(subjects))

    async def renew_slots(self, slots: Sequence[Slot], /) -> list[Slot]:
        return []

    async def release_slot(self, slot: Slot, /) -> None: ...

    async def watch(self) -> AsyncGenerator[Sequence[Notice] | None, None]:
        yield None


class PathSegment:
    def extract(self, conn: HTTPConnection) -> str | None:
        return conn.scope["path"].partition("/ws/")[2] or None

    def redact(self, scope: Any) -> None:
        scope["path"], scope["raw_path"] = "/ws", b"/ws"

    def log_patterns(self) -> list[str]:
        return [r"(/ws/)[^\s?]+"]


verifier: Verifier = legacy_session


def auth_token(message: str | bytes) -> str | None:
    """For clients that send it in `connectionParams` under another name."""
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):  # strangers may send anything
        return None
    match said:
        case {"type": "connection_init", "payload": {"authToken": str(token)}}:
            return token
    return None


first_messages = [
    FirstMessage(dialect="graphql-transport-ws", replay=True),
    FirstMessage(dialect="home-assistant"),
    FirstMessage(dialect=auth_token, replay=True, subprotocol="graphql-transport-ws"),
]
source: Source = PathSegment()
store: TicketStore = Shared()
revoked: RevocationStore = Shared()
slots: SlotStore = Shared()
memory: RevocationStore = MemoryStore()
redis: SlotStore = RedisStore.from_url("redis://localhost", prefix="chat", lease=5)


async def load_user(principal: Principal, conn: HTTPConnection) -> dict[str, str] | None:
    return {"name": principal.display_name}


async def find_row(digest: str) -> dict[str, object] | None:
    return {"identity": 7, "is_active": True} if digest == "0" * 128 else None


async def find_key(digest: str) -> Principal | None:
    return Principal("robot") if digest == "0" * 64 else None


def count(event: Event) -> None:
    if isinstance(event, Refused):
        assert_type(event.reason, Reason)
    elif isinstance(event, Closed):
        assert_type(event.reason, Reason | None)
    elif isinstance(event, Refreshed):
        assert_type(event.expires_at, float | None)
    elif isinstance(event, KeysFetched):
        assert_type(event.failure, str | None)


internal = InternalCredential()
assert_type(internal.value, str)
proxy = ProxyHeader("x-forwarded-user", secret_header="x-proof", secret=["new", "old"])

cache = VerdictCache(size=100, ttl=10)
wanted: dict[str, str] = {"token_type": "access"}
names: list[str] = ["scope", "permissions"]
tickets = Tickets(MemoryStore(max_tickets=100), ttl=10, max_pending_per_user=1)
revocations = Revocations(RedisStore(Redis()), max_token_age=3600, renew_within=60)
sessions = Sessions(MemoryStore())
Sessions(RedisStore(Redis()), user_agent=True)
limit = ConnectionLimit(3, MemoryStore(), overflow="evict_oldest", name="chat")
beside = ConnectionLimit(3, MemoryStore(), total=5000)
total = ConnectionLimit(total=5000)
often = HandshakeLimit("20/minute")

auth = Authenticator(
    [
        JWTVerifier(os.environ["SECRET"], algorithms=["HS256"], audience="chat"),
        JWTVerifier(["pem", b"pem", {"kty": "RSA"}], algorithms=["RS256"], issuer=["a", "b"]),
        JWTVerifier(
            JWKS(
                "https://id.example/keys",
                ttl=60,
                headers={"authorization": lambda: "Bearer ...", "accept": "*/*"},
                observers=[count],
            ),
            algorithms=["ES256"],
            cache=cache,
        ),
        JWTVerifier.from_oidc(
            "https://id.example", algorithms=["RS256"], audience=None, ttl=60, leeway=5, cache=cache
        ),
        JWTVerifier.from_oidc(
            "https://id.example",
            algorithms=["RS256"],
            audience="chat",
            identity_claim=("user", "id"),
            claims={"token_use": "access", "azp": {"a", "b"}, ("cnf", "n"): [1, True]},
            scopes_claim=["scope", ("realm_access", "roles")],
            required_claims=["exp", ("cnf", "jkt")],
        ),
        JWTVerifier("secret", algorithms=["HS256"], claims=wanted, scopes_claim=names),
        TokenIntrospection("https://id.example/ask", client_id="a", client_secret="b", cache_ttl=5),
        APIKeyVerifier({"robot": "sha256:..."}),
        APIKeyVerifier(lookup=find_key),
        APIKeyVerifier.from_env("API_KEY"),
        internal,
        proxy,
        DatabaseToken(find_row, digest="sha512", pattern="[0-9a-f]{64}"),
        DatabaseToken(find_key, digest=None),
        StarletteSession(["new", "old"], identity_key=("user", "sub"), max_age=None),
        DjangoSession(scopes=lambda user: user.get_all_permissions()),
        tickets,
        legacy_session,
        Registry(),
    ],
    sources=[
        QueryParam(),
        Header("x-api-key"),
        Cookie("login"),
        proxy,
        Subprotocol(),
        Subprotocol(prefix="openai-insecure-api-key.", encoding="plain"),
        FirstMessage(timeout=5, max_size=1000, max_waiting=10, subprotocol="chat.v1"),
        PathSegment(),
    ],
    allowed_origins=["https://chat.example"],
    required=lambda: os.environ.get("APP_AUTH_REQUIRED") != "false",
    load_user=load_user,
    revocations=revocations,
    throttle=FailureThrottle("10/minute", storage=limits.aio.storage.MemoryStorage()),
    observers=[log_event, count, PrometheusMetrics(), OpenTelemetryObserver(identities=True)],
)
observers: list[Observer] = [log_event, PrometheusMetrics()]
observed = Authenticator([tickets], observers=observers)
logging.getLogger("uvicorn").addFilter(RedactCredentials(auth))


async def decide(conn: HTTPConnection) -> None:
    result = await auth.authenticate(conn)
    assert_type(result, Authentication)
    principal, _user, credential = result
    assert_type(principal, Principal)
    assert_type(credential, Credential | None)
    assert_type(principal.expires_at, float | None)
    assert_type(principal.issuer, str | None)
    assert_type(principal.login_method, str | None)


# Apps and servers of every typing school
async def starlette_app(scope: Any, receive: Any, send: Any) -> None:
    session: Session = scope["wsauth"]
    credentials: AuthCredentials = scope["auth"]
    print(session.fingerprint, session.expires_at, credentials.scopes)
    await session.refresh("token")
    await session.close(Reason.FORBIDDEN)


async def asgiref_app(
    scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None: ...


async def ends_logins(until: float) -> None:
    await revocations.revoke_everybody(renew_within=60)
    await revocations.block_user("alice", until, issuer="https://id.example")
    await revocations.unblock_user("alice")


async def keeps_rooms(session: Session, old: Principal, new: Principal) -> None:
    assert_type(session.user, Any)


codes: Mapping[Reason, int] = {Reason.EXPIRED: 4401}
as_starlette: ASGIApp = WebSocketAuthMiddleware(starlette_app, auth, close_codes=codes)
as_asgiref: ASGI3Application = WebSocketAuthMiddleware(
    asgiref_app, auth, close_codes=DAPHNE_CLOSE_CODES, rejection="http_response"
)
of_graphql = WebSocketAuthMiddleware(starlette_app, auth, close_codes=GRAPHQL_CLOSE_CODES)
changed = WebSocketAuthMiddleware(
    starlette_app, auth, close_codes={**GRAPHQL_CLOSE_CODES, Reason.EXPIRED: 4401}
)
starlette = Starlette(middleware=[Middleware(WebSocketAuthMiddleware, authenticator=auth)])
starlette.add_middleware(WebSocketAuthMiddleware, authenticator=auth, exclude=["/public/*"])
wrapped = WebSocketAuthMiddleware(
    starlette,
    auth,
    required_scopes=["chat"],
    enforce_expiry=True,
    grace=5,
    connection_limit=limit,
    handshake_limit=often,
    refresh_message="auth.refresh",
    max_age=3600,
    on_refresh=keeps_rooms,
    recheck=1800,
)
guarded = HTTPAuthMiddleware(wrapped, auth, exclude=["/health"], required_scopes=["chat"])
both: ASGIApp = HTTPAuthMiddleware(asgiref_app, auth)
around: ASGIApp = HTTPAuthMiddleware(WebSocketAuthMiddleware(Litestar([]), auth), auth)
also_around: ASGIApp = HTTPAuthMiddleware(WebSocketAuthMiddleware(Quart("chat"), auth), auth)
starlette.add_middleware(HTTPAuthMiddleware, authenticator=auth)
starlette.routes.append(Route("/ticket", TicketEndpoint(tickets, auth, bind_client=True)))


# Logouts at an identity provider
async def identity_of(subject: Mapping[str, Any]) -> str | Principal | None:
    return Principal("alice") if subject["format"] == "email" else str(subject.get("sub"))


async def only_a_name(subject: Mapping[str, Any]) -> str:
    return str(subject["sub"])


def count_logouts(event: Event) -> None:
    if isinstance(event, LoggedOut):
        assert_type(event.subject, str)


logouts = JWTVerifier.from_oidc("https://id.example", algorithms=["RS256"], audience="web")
LogoutEndpoint(revocations, logouts)
LogoutEndpoint(revocations, logouts, identity_of=only_a_name, timeout=3)
logout = LogoutEndpoint(
    revocations, logouts, identity_of=identity_of, ends="user", observers=[count_logouts]
)
starlette.routes.append(Route("/logout", logout, methods=["POST"]))
starlette.mount("/logouts", logout)


# Where users are logged in
async def log_out_device(entry: SessionEntry) -> None:
    assert_type(entry.fingerprint, str | None)


async def log_out_others(session: Session) -> list[SessionEntry]:
    await sessions.end(session.id, Reason.EXPIRED)
    await sessions.end_others(session.principal.identity, keep=session.id)
    return await sessions.list(session.principal.identity, issuer=session.principal.issuer)


def count_ended(event: Event) -> None:
    if isinstance(event, SessionsEnded):
        assert_type(event.ended, int)


SessionsEndpoint(sessions, auth)
steered = SessionsEndpoint(sessions, auth, admin_scope="admin", on_end=log_out_device)
starlette.mount("/sessions", steered)
starlette.routes.append(Route("/sessions/{id}", steered))


# A FastAPI app, with the typed user in its handlers
fastapi = FastAPI(routes=[Route("/ticket", TicketEndpoint(tickets, auth), methods=["POST"])])
fastapi.mount("/tickets", TicketEndpoint(tickets, auth))
fastapi.mount("/sessions", steered)


@fastapi.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    user: Principal = websocket.user
    session: Session = websocket.scope["wsauth"]
    assert_type(user.scopes, tuple[str, ...])
    assert_type(session.principal, Principal)


# The same as dependencies, for requests and sockets alike
User = Annotated[Principal, Depends(current_principal)]
Login = Annotated[Session, Depends(current_session)]


@fastapi.websocket("/typed")
async def typed_chat(websocket: WebSocket, user: User, login: Login) -> None:
    assert_type(user, Principal)
    assert_type(login, Session)
    assert_type(current_principal(websocket), Principal)


@fastapi.get("/typed")
async def typed_page(request: Request, user: User, login: Login) -> str:
    assert_type(current_session(request), Session)
    assert_type(login.expires_at, float | None)
    return user.identity


def of_any(conn: HTTPConnection) -> Principal:
    assert_type(current_session(conn).principal, Principal)
    return current_principal(conn)


async def log_out(principal: Principal) -> None:
    await revocations.revoke_user(principal.identity, issuer=principal.issuer)
    await revocations.revoke_token(
        principal.token_id or "", principal.expires_at, issuer="https://a"
    )
    await revocations.revoke_session(principal.session_id or "", issuer=None)


async def issue(principal: Principal) -> None:
    assert_type(await tickets.mint(principal, path="/ws", origin="https://chat.example"), str)
    assert_type(await Tickets(Shared()).mint(principal), str)


# A client, and a user's own tests
assert_type(advice(4001, "token_expired"), str)


def run_as_alice() -> None:
    with as_principal(auth, Principal("alice", scopes=["chat"])):
        assert_type(make_jwt("secret", "alice", expires_in=-60, audience="chat", sid="1"), str)


async def stop() -> None:
    with drain_on_signal(over=30, signum=signal.SIGTERM):
        pass
    await changed.drain(over=0)
    assert_type(changed.is_draining, bool)


assert_type(session_id("key"), str)
undo = revoke_at_logout(revocations)
undo()
