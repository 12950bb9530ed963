"""The apps that real servers load: `wire_apps:app` serves every configuration, by path.

A client chooses what happens to it by its credential: see `verify`. Tests learn what went on inside
the process from notes, which they can wait for.

    WIRE_PORT    the port of this server; pages from it may open sockets
    WIRE_FILTER  "1" to put RedactCredentials on uvicorn's log handlers
    WIRE_WAITS   "1" to have Daphne wait for the answer to its close as long as that takes
"""

from __future__ import annotations

import gc
import inspect
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import anyio
import anyio.lowlevel
from handshakes import SECRET
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    GRAPHQL_CLOSE_CODES,
    Authenticator,
    ConnectionLimit,
    Cookie,
    Denied,
    FailureThrottle,
    FirstMessage,
    Header,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    RedactCredentials,
    Revocations,
    Subprotocol,
    TicketEndpoint,
    Tickets,
    TokenIntrospection,
    WebSocketAuthMiddleware,
)

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class Notes:
    """What happened, under the name of the test that it happened for."""

    def __init__(self) -> None:
        self._notes: dict[str, list[str]] = defaultdict(list)
        self._changed: anyio.Event | None = None

    def write(self, test: str, note: str) -> None:
        self._notes[test].append(note)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def until(self, test: str, note: str) -> None:
        while note not in self._notes[test]:
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def read(self, test: str) -> list[str]:
        return self._notes[test]


NOTES = Notes()


def _query(scope: Any, name: str) -> str:
    return parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0]


# The verifiers.


async def verify(credential: Any, conn: Any) -> Principal | None:
    """What the first word of a credential asks for:

    opaque-...  is admitted
    deny-NAME   is refused with that Reason, for THROTTLED with 7 seconds to wait
    wait        waits until the test releases it, and is admitted then
    boom-...    raises, with the credential in its message
    until-N-NAME  is NAME for N seconds, or for ever where N is "ever"
    ends-T-NAME  is NAME until that Unix time, as a token is that somebody has kept
    """
    word, _, rest = credential.value.partition("-")
    test = conn.query_params.get("test", "")
    if word == "opaque":
        return Principal("alice")
    if word == "deny":
        reason = Reason[rest]
        raise Denied(reason, "as told", retry_after=7 if reason is Reason.THROTTLED else None)
    if word == "wait":
        NOTES.write(test, "verifying")
        try:
            await anyio.lowlevel.checkpoint()  # it waits even where it has been released before
            await NOTES.until(test, "released")
        except anyio.get_cancelled_exc_class():
            NOTES.write(test, "verifier cancelled")
            raise
        return Principal("patience")
    if word == "ends":
        end, _, identity = rest.partition("-")
        if time.time() >= float(end):
            raise Denied(Reason.EXPIRED, "as told")
        return Principal(identity, expires_at=float(end))
    if word == "until":
        seconds, _, identity = rest.partition("-")
        issued_at = time.time()
        return Principal(
            identity,
            issued_at=issued_at,
            expires_at=None if seconds == "ever" else issued_at + float(seconds),
            token_id=f"{identity}.token",
            session_id=f"{identity}.session",
        )
    if word == "boom":
        raise RuntimeError(f"verifier broke at {credential.value} ({credential!r})")
    return None


TICKETS = Tickets(MemoryStore())


def authenticator(**options: Any) -> Authenticator:
    return Authenticator(
        [JWTVerifier(SECRET, algorithms=["HS256"]), TICKETS, verify],
        **{
            "sources": [
                QueryParam("token"),
                Header("authorization", scheme="Bearer"),
                Cookie("session"),
                Subprotocol(),
            ],
            "allowed_origins": [f"http://127.0.0.1:{os.environ['WIRE_PORT']}"],
            "timeout": 60.0,
            **options,
        },
    )


AUTH = authenticator()


# The apps behind the middleware.


def _everything_in(value: Any) -> str:
    """`value` as text, and every string and bytes in it also percent-decoded."""
    found = [repr(value)]
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            todo += one
        elif isinstance(one, (str, bytes, bytearray, memoryview)):
            raw = one.encode(errors="replace") if isinstance(one, str) else bytes(one)
            found += [raw.decode("latin-1"), unquote_to_bytes(raw).decode("latin-1")]
    return "\n".join(found)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Accepts (with the subprotocol that `?choose=` names), tells what it was handed, echoes."""
    test = _query(scope, "test")
    NOTES.write(test, "app called")
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": _query(scope, "choose") or None})
    report = {
        "user": getattr(scope.get("user"), "identity", None),
        "offered": list(scope["subprotocols"]),
        "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]],
        "query": scope["query_string"].decode("latin-1"),
        "extensions": sorted(scope.get("extensions") or ()),
        "everything": _everything_in(scope),
    }
    await send({"type": "websocket.send", "text": json.dumps(report)})
    while (message := await receive())["type"] == "websocket.receive":
        if message.get("bytes") is not None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """Accepts, and raises with its whole scope in the message."""
    await receive()
    await send({"type": "websocket.accept"})
    raise RuntimeError(f"app broke with {scope!r}")


# Guarded by what an issuer says: by its keys, or by its verdicts.

_BY_ISSUER: dict[str, ASGIApp] = {}


async def network(scope: Any, receive: Any, send: Any) -> None:
    """Guarded by the issuer that `?issuer=` names; each test starts one of its own."""
    issuer = _query(scope, "issuer")
    if issuer not in _BY_ISSUER:
        verifiers = [
            JWTVerifier.from_oidc(issuer, algorithms=["ES256"], audience="chat"),
            TokenIntrospection(f"{issuer}/introspect", client_id="chat", client_secret="secret"),
        ]
        _BY_ISSUER[issuer] = WebSocketAuthMiddleware(
            echo, Authenticator(verifiers), close_codes=DAPHNE_CLOSE_CODES
        )
    await _BY_ISSUER[issuer](scope, receive, send)


# Bare apps, without the middleware: what servers do is seen through these.


async def bare_close(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4001, "reason": "token_expired"})


async def bare_accept_then_close(scope: Any, receive: Any, send: Any) -> None:
    """Closes with `?code=`; accepts with the first offered subprotocol, unless `?echo=no`."""
    await receive()
    offered = scope["subprotocols"] if _query(scope, "echo") != "no" else []
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    code = int(_query(scope, "code"))
    await send({"type": "websocket.close", "code": code, "reason": "a reason"})


async def bare_http_response(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-length", b"4"), (b"x-why", b"because")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"gone"})


async def bare_return(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def bare_awaitable(scope: Any, receive: Any, send: Any) -> None:
    """Notes whether what `receive()` returns is a coroutine."""
    pending = receive()
    NOTES.write(_query(scope, "test"), f"coroutine: {inspect.iscoroutine(pending)}")
    await pending
    await send({"type": "websocket.close"})


async def bare_second_receive(scope: Any, receive: Any, send: Any) -> None:
    """Waits for a second message before it accepts, until the test releases it."""
    test = _query(scope, "test")
    await receive()

    async def second() -> None:
        message = await receive()
        NOTES.write(test, f"{message['type']} {message.get('code')}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        await anyio.lowlevel.checkpoint()
        NOTES.write(test, "waiting")
        await NOTES.until(test, "released")
        tasks.cancel_scope.cancel()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "accepted"})
    # Like every app here it waits for the client to close: two closes that cross bring down the
    # whole of hypercorn's trio worker.
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def bare_redacting(scope: Any, receive: Any, send: Any) -> None:
    """Changes the server's own scope before it accepts."""
    scope["query_string"] = b"hidden=yes"
    await echo(scope, receive, send)


# Sockets that end before their clients want it.

GRACE = 0.3  # seconds; where an app has to be told of its end before, it has a minute
REVOCATIONS = Revocations(MemoryStore())
REVOCABLE = authenticator(revocations=REVOCATIONS)
_CODES = DAPHNE_CLOSE_CODES if "daphne" in sys.modules else {}


def live(app: ASGIApp, auth: dict[str, Any] | None = None, **options: Any) -> ASGIApp:
    """`app` behind a guard, with `gone` noted when all is over, the guard included."""
    guarded = WebSocketAuthMiddleware(
        app,
        authenticator(**{"revocations": REVOCATIONS, **(auth or {})}),
        **{"grace": GRACE, "close_codes": _CODES, **options},
    )

    async def noted(scope: Any, receive: Any, send: Any) -> None:
        try:
            await guarded(scope, receive, send)
        finally:
            NOTES.write(_query(scope, "test"), "gone")

    return noted


async def _accept(scope: Any, receive: Any, send: Any) -> str:
    """The name under which this app notes."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    NOTES.write(_query(scope, "test"), "accepted")
    return _query(scope, "test")


async def waits(scope: Any, receive: Any, send: Any) -> None:
    """Echoes, and notes what tells it of the end."""
    test = await _accept(scope, receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        told = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **told})
    NOTES.write(test, f"{message['type']} {message['code']}")


async def sends(scope: Any, receive: Any, send: Any) -> None:
    """Sends, in one loop, and never receives."""
    test = await _accept(scope, receive, send)
    try:
        while True:
            await send({"type": "websocket.send", "text": "more"})
            await anyio.sleep(0.01)
    except OSError:
        NOTES.write(test, "OSError")
        raise


async def floods(scope: Any, receive: Any, send: Any) -> None:
    """Sends 32 MB, and notes when nobody takes more; that a server without a bound takes it all is
    the same."""
    test = await _accept(scope, receive, send)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        with suppress(OSError):
            for _ in range(512):
                await send({"type": "websocket.send", "bytes": bytes(1 << 16)})
                await anyio.lowlevel.checkpoint()
                sent += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(flood)
        before = -1
        while sent > before:
            before = sent
            await anyio.sleep(0.1)
        NOTES.write(test, "stuck")
        await anyio.sleep_forever()


async def neither(scope: Any, receive: Any, send: Any) -> None:
    """Neither receives nor sends."""
    await _accept(scope, receive, send)
    await anyio.sleep_forever()


async def stubborn(scope: Any, receive: Any, send: Any) -> None:
    """Does not end when it is cancelled for the first time."""
    test = await _accept(scope, receive, send)
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        NOTES.write(test, "cancelled")
    await anyio.sleep_forever()


async def closes(scope: Any, receive: Any, send: Any) -> None:
    """Closes by itself with 4321, at the moment at which its login ends: `?after=` so many seconds
    after it expires, or so many turns of the event loop after the test began to revoke it."""
    test = await _accept(scope, receive, send)
    after = _query(scope, "after")
    if scope["wsauth"].expires_at is not None:
        await anyio.sleep(max(0.0, scope["wsauth"].expires_at + float(after) - time.time()))
    else:
        await NOTES.until("revoking", scope["user"].identity)
        for _ in range(int(after)):
            await anyio.lowlevel.checkpoint()
    try:
        await send({"type": "websocket.close", "code": 4321, "reason": "by itself"})
        NOTES.write(test, "closed by itself")
    except OSError:
        NOTES.write(test, "OSError")
        raise
    await anyio.sleep_forever()


async def hesitates(scope: Any, receive: Any, send: Any) -> None:
    """Does not answer the handshake."""
    test = _query(scope, "test")
    NOTES.write(test, "app called")
    for _ in range(2):
        message = await receive()
        NOTES.write(test, f"{message['type']} {message.get('code')}")
    await send({"type": "websocket.accept"})


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """Does not even receive the handshake."""
    NOTES.write(_query(scope, "test"), "app called")
    await anyio.sleep_forever()


async def obeys(scope: Any, receive: Any, send: Any) -> None:
    """Refreshes its session with the token, or closes it for the reason, that it is told; or says
    what it is told to say."""
    test = await _accept(scope, receive, send)
    session = scope["wsauth"]
    while (message := await receive())["type"] == "websocket.receive":
        word, _, rest = message["text"].partition(" ")
        if word == "close":
            await session.close(Reason[rest])
            NOTES.write(test, "closed")
            continue
        if word == "say":
            await send({"type": "websocket.send", "text": rest})
            continue
        try:
            await session.refresh(rest)
            answer = f"until {session.expires_at}"
        except Denied as denied:
            answer = denied.reason.phrase
        await send({"type": "websocket.send", "text": answer})
    NOTES.write(test, f"{message['type']} {message['code']}")


async def shows_out(scope: Any, receive: Any, send: Any) -> None:
    """Closes its session at the first message, and is done."""
    test = await _accept(scope, receive, send)
    await receive()
    await scope["wsauth"].close(Reason.FORBIDDEN)
    NOTES.write(test, "closed")


async def _reads(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def _writes(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text("more")
        await anyio.sleep(0.01)


# As most are written: they never ask whether anybody is there still.
plain = Starlette(
    routes=[
        WebSocketRoute("/live/starlette-reads", _reads),
        WebSocketRoute("/live/starlette-writes", _writes),
    ]
)

_THROTTLED: dict[str, ASGIApp] = {}


async def throttled(scope: Any, receive: Any, send: Any) -> None:
    """Locks out after two failures; each test has a throttle of its own, for each `?rejection=`."""
    test, rejection = _query(scope, "test"), _query(scope, "rejection")
    if test not in _THROTTLED:
        auth = {
            "throttle": FailureThrottle("2/minute"),
            "sources": [QueryParam("token"), FirstMessage()],
        }
        _THROTTLED[test] = live(echo, auth, rejection=rejection)
    await _THROTTLED[test](scope, receive, send)


IMPATIENT = 0.3  # seconds that a first message may take where none is to come


def first(timeout: float = 60.0) -> dict[str, Any]:
    message = FirstMessage(timeout=timeout, max_size=200, subprotocol="chat")
    return {"sources": [QueryParam(), message]}


def graphql(timeout: float = 60.0) -> dict[str, Any]:
    message = FirstMessage(timeout=timeout, dialect="graphql-transport-ws", replay=True)
    return {"sources": [message]}


HOME = {"sources": [FirstMessage(dialect="home-assistant")]}


async def locked_later(principal: Principal, conn: Any) -> Any:
    """Knows each user once, in the handshake."""
    if principal.identity in _SEEN:
        return None
    _SEEN.add(principal.identity)
    return principal


_SEEN: set[str] = set()


async def forbids(session: Any, old: Principal, new: Principal) -> None:
    raise Denied(Reason.FORBIDDEN, "as told")


WEBSOCKETS: dict[str, ASGIApp] = {
    "/live/aged": live(waits, max_age=0.3, grace=60),
    "/live/locked": live(waits, {"load_user": locked_later}, recheck=0.3, grace=60),
    "/live/hooked": live(waits, refresh_message="auth.refresh", on_refresh=forbids, grace=60),
    "/live/waits": live(waits, grace=60),
    "/live/sends": live(sends, grace=60),
    "/live/floods": live(floods),
    "/live/neither": live(neither),
    "/live/stubborn": live(stubborn),
    "/live/closes": live(closes),
    "/live/starlette-reads": live(plain, grace=60),
    "/live/starlette-writes": live(plain, grace=60),
    "/live/hesitates": live(hesitates, grace=60),
    "/live/hesitates/http": live(hesitates, rejection="http_response", grace=60),
    "/live/deaf": live(deaf),
    "/live/deaf/http": live(deaf, rejection="http_response"),
    "/live/refresh": live(waits, refresh_message="auth.refresh"),
    "/live/obeys": live(obeys, grace=60),
    "/live/obeys/unguarded": live(obeys, {"revocations": None}, grace=60),
    "/live/nested": WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(echo, REVOCABLE, required_scopes=["chat:write"]), REVOCABLE
    ),
    "/live/shows-out": live(shows_out),
    "/live/shows-out/unguarded": live(shows_out, {"revocations": None}),
    "/live/first": live(echo, first()),
    "/live/first/impatient": live(echo, first(IMPATIENT)),
    "/live/first/http": live(echo, first(), rejection="http_response"),
    "/live/graphql": live(echo, graphql(), close_codes=GRAPHQL_CLOSE_CODES),
    "/live/graphql/impatient": live(echo, graphql(IMPATIENT), close_codes=GRAPHQL_CLOSE_CODES),
    "/live/home": live(echo, HOME),
    "/live/throttled": throttled,
    "/live/reject": live(waits, connection_limit=ConnectionLimit(2, MemoryStore())),
    "/live/evict": live(
        waits, connection_limit=ConnectionLimit(2, MemoryStore(), overflow="evict_oldest")
    ),
    "/guarded": WebSocketAuthMiddleware(echo, AUTH),
    "/daphne": WebSocketAuthMiddleware(echo, AUTH, close_codes=DAPHNE_CLOSE_CODES),
    "/http": WebSocketAuthMiddleware(echo, AUTH, rejection="http_response"),
    "/auto": WebSocketAuthMiddleware(echo, AUTH, rejection="auto"),
    "/close": WebSocketAuthMiddleware(echo, AUTH, rejection="close"),
    "/scopes": WebSocketAuthMiddleware(
        echo, AUTH, rejection="http_response", required_scopes=["chat:write"]
    ),
    "/hurried": WebSocketAuthMiddleware(
        echo, authenticator(timeout=0.2), close_codes=DAPHNE_CLOSE_CODES
    ),
    "/failing": WebSocketAuthMiddleware(failing, AUTH),
    "/nested/same": WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(echo, AUTH, close_codes={Reason.FORBIDDEN: 4403}), AUTH
    ),
    "/nested/scopes": WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(
            echo, AUTH, close_codes={Reason.FORBIDDEN: 4403}, required_scopes=["chat:write"]
        ),
        AUTH,
    ),
    "/nested/other": WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(echo, authenticator(sources=[QueryParam("key")])), AUTH
    ),
    "/network": network,
    "/bare/echo": echo,
    "/bare/close": bare_close,
    "/bare/accept_then_close": bare_accept_then_close,
    "/bare/http_response": bare_http_response,
    "/bare/return": bare_return,
    "/bare/awaitable": bare_awaitable,
    "/bare/second_receive": bare_second_receive,
    "/bare/redacting": bare_redacting,
}


# Over HTTP: what tests and browsers ask for.


async def notes(request: Request) -> JSONResponse:
    test = request.query_params["test"]
    with anyio.move_on_after(float(request.query_params["within"])):
        await NOTES.until(test, request.query_params["until"])
    return JSONResponse(NOTES.read(test))


async def release(request: Request) -> JSONResponse:
    NOTES.write(request.query_params["test"], "released")
    return JSONResponse("ok")


async def revoke(request: Request) -> JSONResponse:
    """Revokes the user, token or session (`?kind=`) of that name."""
    kind, name = request.query_params["kind"], request.query_params["name"]
    NOTES.write("revoking", name)
    await getattr(REVOCATIONS, f"revoke_{kind}")(name)
    return JSONResponse("ok")


async def settle(request: Request) -> JSONResponse:
    """Collects what was dropped, so that a coroutine that nobody awaited is complained of now."""
    await anyio.lowlevel.checkpoint()
    gc.collect()
    return JSONResponse("ok")


async def in_its_place(request: Request) -> Response:
    """What a proxy may answer in another's place: as `?status=&type=&body=&location=&retry-after=`
    say."""
    told = request.query_params
    headers = {name: told[name] for name in ("location", "retry-after") if name in told}
    return Response(told.get("body"), int(told["status"]), headers, told.get("type"))


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse("<!doctype html><link rel=icon href=data:,><title>a page</title>")


async def whoami(scope: Any, receive: Any, send: Any) -> None:
    """Tells over HTTP what it was handed."""
    NOTES.write(_query(scope, "test"), "app called")
    user = getattr(scope.get("user"), "identity", None)
    report = {"user": user, "everything": _everything_in({**scope, "app": None, "router": None})}
    await JSONResponse(report)(scope, receive, send)


GUARD = HTTPAuthMiddleware(whoami, AUTH)
ANY_ORIGIN = authenticator(sources=[Header("authorization", scheme="Bearer")], allowed_origins=None)


def cors(app: Any) -> CORSMiddleware:
    return CORSMiddleware(app, allow_origins=["*"], allow_headers=["authorization"])


_http = Starlette(
    routes=[
        Route("/notes", notes),
        Route("/release", release),
        Route("/revoke", revoke),
        Route("/settle", settle),
        Route("/page", page, methods=["GET", "POST"]),
        Route("/in-its-place", in_its_place, methods=["POST"]),
        Route("/guarded", GUARD),
        Route("/preflight/pass", HTTPAuthMiddleware(whoami, AUTH, preflight="pass")),
        Mount("/mounted", HTTPAuthMiddleware(whoami, AUTH)),
        Route("/cors/none", HTTPAuthMiddleware(whoami, ANY_ORIGIN)),
        Route("/cors/outside", cors(HTTPAuthMiddleware(whoami, ANY_ORIGIN))),
        Route("/cors/inside", HTTPAuthMiddleware(cors(whoami), ANY_ORIGIN, preflight="pass")),
        Route("/ticket", TicketEndpoint(TICKETS, AUTH)),
        Route("/behind/ticket", HTTPAuthMiddleware(TicketEndpoint(TICKETS, AUTH), AUTH)),
    ]
)


async def both(scope: Any, receive: Any, send: Any) -> None:
    """One app, for both protocols."""
    await (echo if scope["type"] == "websocket" else whoami)(scope, receive, send)


# It reads no cookie and judges no origin.
BY_HEADER = authenticator(sources=[Header("x-key")], allowed_origins=None)

# Guarded twice, the one middleware around the other in either order.
BOTH: dict[str, ASGIApp] = {
    "/both/socket-first": WebSocketAuthMiddleware(HTTPAuthMiddleware(both, AUTH), AUTH),
    "/both/sockets-only": WebSocketAuthMiddleware(both, AUTH),
    "/both/by-header": WebSocketAuthMiddleware(HTTPAuthMiddleware(both, BY_HEADER), AUTH),
    "/both/off": WebSocketAuthMiddleware(
        WebSocketAuthMiddleware(both, BY_HEADER, close_codes=DAPHNE_CLOSE_CODES),
        authenticator(required=False),
    ),
    "/both/http-first": HTTPAuthMiddleware(WebSocketAuthMiddleware(both, AUTH), AUTH),
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") in BOTH:
        await BOTH[scope["path"]](scope, receive, send)
    elif scope["type"] == "websocket":
        await WEBSOCKETS[scope["path"]](scope, receive, send)
    else:
        await _http(scope, receive, send)


# The package's own log, all of it. The servers' loggers are left as they are.
_own = logging.getLogger("asgi_wsauth")
_own.setLevel(logging.DEBUG)
_own.addHandler(logging.StreamHandler())
_own.propagate = False

if os.environ.get("WIRE_WAITS") == "1":
    from daphne.ws_protocol import WebSocketProtocol

    WebSocketProtocol.onCloseHandshakeTimeout = lambda self: None

if os.environ.get("WIRE_FILTER") == "1":
    for _name in ("uvicorn", "uvicorn.access"):
        for _handler in logging.getLogger(_name).handlers:
            _handler.addFilter(RedactCredentials(AUTH))

gc.freeze()  # so that collecting, between tests, looks only at what came after the imports
