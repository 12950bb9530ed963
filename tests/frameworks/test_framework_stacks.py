"""The package in Django Channels, Socket.IO and Strawberry GraphQL: their examples, run as their
first lines say, and what becomes of it where the middleware stands elsewhere (stack_apps.py).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from handshakes import SECRET
from node_clients import run_node
from run_example import EXAMPLES, Running, running
from servers import DEADLINE, Client, Seen, Server, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

LEEWAY = 30  # seconds: JWTVerifier's
ABOUT_TO_EXPIRE = 6 - LEEWAY  # sockets are opened within that

AUDIENCE = ["chat", "graphql"]

minted: list[str] = []


def token(identity: str = "alice", expires_in: float = 300.0, **claims: Any) -> str:
    """A token that must not stand in any log."""
    minted.append(make_jwt(SECRET, identity, expires_in=expires_in, aud=AUDIENCE, **claims))
    return minted[-1]


def bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]


def logged(log: str) -> list[str]:
    """The tokens that stand in a log, whole or in part."""
    return [token for token in minted if any(part in log for part in token.split(".")[1:])]


@contextmanager
def example(name: str, until: str, may_log: str = "") -> Iterator[Running]:
    """The example, started by the command in its first lines."""
    (command,) = re.findall(r"^    python examples/(.*)$", (EXAMPLES / name).read_text(), re.M)
    with running(str(EXAMPLES / command), until=until, may_log=may_log, SECRET=SECRET) as process:
        yield process
    assert "refused" in process.written
    assert logged(process.written) == []
    assert len(re.findall(r"eyJ[\w-]+\.[\w-]+\.", process.written)) == 1  # the one that it printed


def stay(
    server: Client,
    path: str,
    say: Sequence[Any] = (),
    protocols: Sequence[str] = (),
    *,
    until: str = '"complete"',
    **query: str,
) -> Seen:
    """Connect, say all of that at once, and read until the server closes or has said `until`."""
    address = f"ws://127.0.0.1:{server.port}{path}?{urlencode(query)}"
    offered = [Subprotocol(protocol) for protocol in protocols]
    seen = Seen()
    with connect(address, subprotocols=offered or None, proxy=None) as websocket:
        seen.subprotocol = websocket.subprotocol
        try:
            for message in say:
                websocket.send(message if isinstance(message, str) else json.dumps(message))
            while not (seen.messages and until in str(seen.messages[-1])):
                seen.messages.append(websocket.recv(timeout=DEADLINE))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            seen.close = (closed.rcvd.code, closed.rcvd.reason)
    return seen


@pytest.fixture(scope="module")
def uvicorn() -> Iterator[Server]:
    with serving("uvicorn-websockets", "stack_apps:app") as server:
        yield server


@pytest.fixture(scope="module")
def daphne() -> Iterator[Server]:
    with serving("daphne", "stack_apps:app") as server:
        yield server


# Django Channels


@pytest.fixture(scope="module")
def channels() -> Iterator[Running]:
    with example("channels_app.py", until="Listening on") as process:
        yield process


def test_channels_has_a_django_user_of_the_token(channels: Running) -> None:
    printed = re.match(r"ws://127\.0\.0\.1:(\d+)/chat\?token=(.+)", channels.written)
    assert printed and int(printed[1]) == channels.port
    for given in (printed[2], token()):
        seen = channels.talk("/chat", token=given, say=['"hi"'])
        assert seen.report == {"hello": "Alice Liddell"}
        assert json.loads(seen.messages[1]) == {"from": "alice", "said": "hi"}


# Daphne sends no reason.
@pytest.mark.parametrize(
    ("given", "code", "phrase"),
    [
        (lambda: None, 3000, "token_missing"),
        (lambda: "rubbish", 3000, "token_invalid"),
        (lambda: "x" * 8193, 3000, "token_malformed"),
        (lambda: token(expires_in=-60), 4001, "token_expired"),
        (lambda: token("mallory"), 4004, "token_revoked"),  # not active any more
        (lambda: token("nobody"), 4004, "token_revoked"),
    ],
    ids=["nothing", "rubbish", "too long", "expired", "inactive", "unknown"],
)
def test_on_daphne_a_refused_client_gets_a_code_that_daphne_can_send(
    channels: Running, given: Callable[[], str | None], code: int, phrase: str
) -> None:
    assert channels.talk("/chat", token=given()).close == (code, "")
    channels.wait_for(f"reason={phrase} close_code={code}")


def test_a_consumer_is_told_of_the_expiry(channels: Running) -> None:
    seen = stay(channels, "/chat", token=token(expires_in=ABOUT_TO_EXPIRE))
    assert seen.report == {"hello": "Alice Liddell"}
    assert seen.close == (4001, "")
    channels.wait_for("alice left: 4001")


def test_a_django_view_finds_the_user_too(channels: Running) -> None:
    for given in ({"headers": bearer(token())}, {"token": token()}):
        assert channels.ask("GET", "/me", **given).json == {"me": "Alice Liddell"}
    seen = channels.ask("GET", "/me")
    assert (seen.status, seen.json) == (401, {"error": "token_missing"})


PREFLIGHT = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "GET")]


def test_no_django_view_runs_for_a_preflight(channels: Running, either: Server) -> None:
    seen = channels.ask("OPTIONS", "/me", headers=PREFLIGHT)
    assert (seen.status, seen.body) == (204, b"")
    seen = either.ask("OPTIONS", "/django/secret", headers=PREFLIGHT)
    assert (seen.status, seen.body) == (204, b"")
    assert either.ask("OPTIONS", "/django/secret").status == 401
    seen = either.ask("OPTIONS", "/django/secret", headers=[*PREFLIGHT, *bearer(token())][2:])
    assert seen.json == {"secret": "xyzzy"}


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def either(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.mark.parametrize(
    ("path", "me"),
    [
        ("/alone", "alice"),
        ("/around", "alice"),
        ("/around/principal", "alice"),
        ("/within", "alice"),
        ("/within/lazy", "alice"),
        ("/around/lazy", "AnonymousUser"),  # which is the wrong place for that
    ],
)
def test_who_the_consumer_has_by_where_the_channels_stack_stands(
    either: Server, path: str, me: str
) -> None:
    assert either.talk(path, token=token()).report == {"me": me}


def test_an_object_that_takes_no_attribute_breaks_in_the_channels_stack(either: Server) -> None:
    assert either.talk("/around/frozen", token=token()).status == 500


@pytest.mark.parametrize("path", ["/alone", "/around", "/within"])
def test_nobody_gets_in_wherever_the_channels_stack_stands(either: Server, path: str) -> None:
    reason = "token_missing" if either.name.startswith("uvicorn") else ""
    assert either.talk(path).close == (3000, reason)


@pytest.mark.parametrize(
    ("path", "leaks"),
    [("/alone", False), ("/around", False), ("/within", True), ("/filtered/within", False)],
)
def test_uvicorns_log_has_the_token_where_the_channels_stack_stands_around_and_nothing_filters(
    uvicorn: Server, path: str, leaks: bool
) -> None:
    given, start = token(), len(uvicorn.log())
    uvicorn.talk(path, token=given)
    log = uvicorn.log()[start:]
    assert f'"WebSocket {path}' in log
    assert (given in logged(log)) is leaks


@pytest.mark.parametrize("path", ["/validator/around", "/validator/within"])
@pytest.mark.parametrize("origin", ["https://elsewhere.example", None])
def test_channels_own_validator_refuses_without_a_code(
    either: Server, path: str, origin: str | None
) -> None:
    headers = [] if origin is None else [("Origin", origin)]
    assert either.talk(path, token=token(), headers=headers).status == 403
    assert either.talk(path, token=token(), headers=[("Origin", either.origin)]).report["me"]


def test_allowed_origins_refuses_with_a_code_and_lets_programs_in(either: Server) -> None:
    headers = [("Origin", "https://elsewhere.example")]
    seen = either.talk("/alone/origins", token=token(), headers=headers)
    assert seen.close and seen.close[0] == 3003
    assert either.talk("/alone/origins", token=token()).report == {"me": "alice"}


def test_djangos_request_user_is_another_login(either: Server) -> None:
    answer = either.ask("GET", "/django", headers=bearer(token())).json
    assert answer == {"request.user": "AnonymousUser", "request.scope": "alice"}


# Socket.IO

SOCKET = {"EIO": "4", "transport": "websocket"}
POLLING = {"EIO": "4", "transport": "polling"}


@pytest.fixture(scope="module")
def socket_io() -> Iterator[Running]:
    with example("socketio_app.py", until="Uvicorn running") as process:
        yield process


def socket_io_client(
    server: Client, path: str = "/socket.io/", *, query: str = "", **options: Any
) -> tuple[Any, ...]:
    """How Socket.IO's own client travels, and what it is told; or why it did not connect."""
    import aiohttp  # not where tests are only collected
    import socketio

    async def talk() -> tuple[Any, ...]:
        async with (
            aiohttp.ClientSession() as session,
            socketio.AsyncSimpleClient(http_session=session, request_timeout=DEADLINE) as client,
        ):
            where = f"http://127.0.0.1:{server.port}?{query}"
            await client.connect(where, socketio_path=path, wait_timeout=DEADLINE, **options)
            hello = await client.receive(timeout=DEADLINE)
            return client.transport, hello[1], await client.call("say", "hi", timeout=DEADLINE)

    return asyncio.run(talk())


def sid_of(server: Client, path: str, **query: str) -> str:
    """A session of Socket.IO that was begun by polling, and asked to be let in."""
    session = {**POLLING, **query}
    sid: str = json.loads(server.ask("GET", path, **session).body[1:])["sid"]
    server.ask("POST", path, body=b"40", sid=sid, **session)
    return sid


TRANSPORTS = pytest.mark.parametrize(
    "transports", [None, ["websocket"]], ids=["polling, then a socket", "socket"]
)


@TRANSPORTS
@pytest.mark.parametrize("carried", ["query", "header"])
def test_socket_io_lets_its_client_in(
    socket_io: Running, carried: str, transports: list[str] | None
) -> None:
    given: dict[str, Any] = {"query": f"token={token()}"}
    if carried == "header":
        given = {"headers": dict(bearer(token()))}
    answer = socket_io_client(socket_io, transports=transports, **given)
    assert answer == ("websocket", "alice", "alice: hi")


def test_socket_io_lets_in_who_only_polls(socket_io: Running) -> None:
    session = {**POLLING, "token": token()}
    sid = sid_of(socket_io, "/socket.io/", **session)
    assert b'42["hello","alice"]' in socket_io.ask("GET", "/socket.io/", sid=sid, **session).body


@TRANSPORTS
@pytest.mark.parametrize(
    "given",
    [{}, {"query": "token=rubbish"}, {"auth": {"token": token()}}],
    ids=["nothing", "rubbish", "what Socket.IO calls auth"],
)
def test_socket_io_refuses_in_a_way_that_its_client_understands(
    socket_io: Running, given: dict[str, Any], transports: list[str] | None
) -> None:
    from socketio.exceptions import ConnectionError as SocketIOError

    with pytest.raises(SocketIOError):
        socket_io_client(socket_io, transports=transports, **given)


@pytest.mark.parametrize("query", [SOCKET, POLLING], ids=["socket", "polling"])
@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        (None, "token_missing"),
        ("rubbish", "token_invalid"),
        (token(expires_in=-60), "token_expired"),
    ],
)
def test_socket_io_refuses_both_of_its_transports(
    socket_io: Running, query: dict[str, str], given: str | None, phrase: str
) -> None:
    carried = {**query, **({} if given is None else {"token": given})}
    if query is SOCKET:
        seen = socket_io.talk("/socket.io/", **carried)
    else:
        seen = socket_io.ask("GET", "/socket.io/", **carried)
    assert (seen.status, seen.json) == (401, {"error": phrase})


def test_a_socket_of_socket_io_ends_with_its_token(socket_io: Running) -> None:
    given = token(expires_in=ABOUT_TO_EXPIRE)
    seen = stay(socket_io, "/socket.io/", ["40"], **SOCKET, token=given)
    assert '42["hello","alice"]' in seen.messages
    assert seen.close == (4001, "token_expired")
    socket_io.wait_for("alice left: ")


def test_each_request_of_socket_io_needs_the_token(socket_io: Running) -> None:
    given = token()
    sid = sid_of(socket_io, "/socket.io/", token=given)
    assert socket_io.ask("GET", "/socket.io/", sid=sid, **POLLING).status == 401
    assert socket_io.ask("POST", "/socket.io/", sid=sid, body=b"41", **POLLING).status == 401
    assert socket_io.talk("/socket.io/", sid=sid, **SOCKET).status == 401
    carried = {**SOCKET, "sid": sid, "token": given}
    upgraded = stay(socket_io, "/socket.io/", ["2probe"], until="probe", **carried)
    assert upgraded.messages == ["3probe"]


def test_fact_a_session_of_socket_io_is_whose_who_began_it(uvicorn: Server) -> None:
    sid = sid_of(uvicorn, "/sio/both/", token=token("alice"))
    bob = {"token": token("bob"), "sid": sid, **POLLING}
    assert uvicorn.ask("POST", "/sio/both/", body=b'420["say","hi"]', **bob).status == 200
    assert b'"alice: hi"' in uvicorn.ask("GET", "/sio/both/", **bob).body


def test_what_socket_io_keeps_of_a_request_has_no_token(uvicorn: Server) -> None:
    given = token()
    for carried in ({"query": f"token={given}"}, {"headers": {"Authorization": f"Bearer {given}"}}):
        _, hello, _ = socket_io_client(uvicorn, "/sio/both/", **carried)
        assert hello["me"] == "alice"
        assert logged(hello["environ"]) == []


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/sio/both/", SOCKET),
        ("/graphql/both", {"subprotocols": ["graphql-transport-ws"]}),
    ],
    ids=["Socket.IO", "Strawberry"],
)
def test_fact_some_frameworks_refuse_other_origins_without_a_code(
    uvicorn: Server, path: str, more: dict[str, Any]
) -> None:
    if path.startswith("/graphql"):
        from strawberry.asgi import GraphQL

        if "allowed_origins" not in signature(GraphQL).parameters:
            pytest.skip("this Strawberry lets any origin in")
    headers = [("Origin", "https://elsewhere.example")]
    assert uvicorn.talk(path, token=token(), headers=headers, **more).status == 403


@pytest.mark.parametrize("path", ["/sio/sockets-only/", "/sio/beside/"])
def test_socket_io_polls_past_a_guard_for_sockets_and_past_one_beside_it(
    uvicorn: Server, path: str
) -> None:
    sid = sid_of(uvicorn, path)
    assert b'"me":"nobody"' in uvicorn.ask("GET", path, sid=sid, **POLLING).body


def test_fact_a_client_of_socket_io_breaks_on_a_socket_that_is_accepted_and_closed(
    uvicorn: Server,
) -> None:
    assert uvicorn.talk("/sio/default/", **SOCKET).close == (1008, "token_missing")
    with pytest.raises(TypeError):
        socket_io_client(uvicorn, "/sio/default/", transports=["websocket"])


# Strawberry GraphQL

PROTOCOL = "graphql-transport-ws"
INIT: dict[str, Any] = {"type": "connection_init"}


def subscribe(query: str) -> dict[str, Any]:
    return {"type": "subscribe", "id": "1", "payload": {"query": query}}


def subscribed(seen: Seen) -> list[Any]:
    """The data that a subscription got."""
    messages = [json.loads(message) for message in seen.messages]
    assert messages[0] == {"type": "connection_ack"}
    return [message["payload"]["data"] for message in messages if message["type"] == "next"]


@pytest.fixture(scope="module")
def strawberry() -> Iterator[Running]:
    # It logs each send after the end of a login, as it does where a client has left.
    late = r"Exception in worker task\nTraceback.*?\nstrawberry[\w.]*WebSocketDisconnected\n"
    with example("graphql_app.py", until="Uvicorn running", may_log=late) as process:
        yield process


class GraphQLWS(NamedTuple):
    """What became of a client of graphql-ws, with the `params` of its first connection, of its
    second and so on, which asks for `query`."""

    server: Client
    path: str
    params: list[Any]
    query: str
    data: list[Any]
    closes: list[tuple[int, str]]
    ended: str = "complete"


def params(identity: str = "alice", expires_in: float = 300.0, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(identity, expires_in, **claims)}"}


def test_the_client_graphql_ws_logs_in_by_its_connection_params(
    strawberry: Running, uvicorn: Server
) -> None:
    example, codes, count = "/graphql", "/graphql/codes", "subscription { count(to: 2) }"
    alice = [{"count": "alice: 1"}, {"count": "alice: 2"}]
    late, rubbish = params(expires_in=-60), {"Authorization": "Bearer rubbish"}
    scoped = params(scope="chat")
    clients = [
        GraphQLWS(strawberry, example, [params()], count, alice, []),
        GraphQLWS(strawberry, example, [{"authorization": token()}], count, alice, []),
        # On 4001 it comes back with new ones; on 1008 it doesn't.
        GraphQLWS(strawberry, example, [late, params()], count, alice, [(4001, "token_expired")]),
        GraphQLWS(strawberry, example, [None], count, [], [(1008, "token_missing")], "gave up"),
        GraphQLWS(strawberry, example, [rubbish], count, [], [(1008, "token_invalid")], "gave up"),
        # With the codes of the protocol.
        GraphQLWS(uvicorn, codes, [scoped], "{ me }", [{"me": "alice"}], []),
        GraphQLWS(uvicorn, codes, [{}], "{ me }", [], [(4401, "token_missing")], "gave up"),
        GraphQLWS(uvicorn, codes, [rubbish], "{ me }", [], [(4401, "token_invalid")], "gave up"),
        GraphQLWS(
            uvicorn, codes, [params(), scoped], "{ me }", [{"me": "alice"}], [(4403, "forbidden")]
        ),
    ]
    asked = [
        {"url": f"ws://127.0.0.1:{c.server.port}{c.path}", "params": c.params, "query": c.query}
        for c in clients
    ]
    seen = run_node("graphql_clients.mjs", asked)
    assert [(c["data"], [*map(tuple, c["closes"])], c["ended"]) for c in seen] == [
        (c.data, c.closes, c.ended) for c in clients
    ]
    assert {c["protocol"] for c in seen} == {PROTOCOL}


def test_the_client_graphql_ws_subscribes_again_with_a_new_token(strawberry: Running) -> None:
    url = f"ws://127.0.0.1:{strawberry.port}/graphql"
    given = [params(expires_in=2 - LEEWAY), params("bob")]  # before it has counted to 25
    (seen,) = run_node(
        "graphql_clients.mjs",
        [{"url": url, "params": given, "query": "subscription { count(to: 25) }"}],
    )
    assert seen["closes"] == [[4001, "token_expired"]]
    alice = len(seen["data"]) - 25
    said = [*range(1, alice + 1), *range(1, 26)]
    names = ["alice"] * alice + ["bob"] * 25
    assert seen["data"] == [{"count": f"{n}: {k}"} for n, k in zip(names, said, strict=True)]


def test_who_sends_no_connection_init_is_told_with_graphqls_code(uvicorn: Server) -> None:
    seen = stay(uvicorn, "/graphql/codes", [], [PROTOCOL])
    assert (seen.close, seen.subprotocol) == ((4408, "token_missing"), PROTOCOL)


def test_graphql_has_the_user_of_the_token(strawberry: Running) -> None:
    given = token()
    two = [{"count": "alice: 1"}, {"count": "alice: 2"}]
    say = [INIT, subscribe("subscription { count(to: 2) }")]
    by_query = stay(strawberry, "/graphql", say, [PROTOCOL], token=given)
    by_protocol = stay(strawberry, "/graphql", say, [PROTOCOL, "bearer", given])
    for seen in (by_query, by_protocol):
        assert seen.subprotocol == PROTOCOL
        assert subscribed(seen) == two
    asked = strawberry.ask("POST", "/graphql", headers=bearer(given), body=b'{"query": "{ me }"}')
    assert asked.json == {"data": {"me": "alice"}}


@pytest.mark.parametrize(
    ("carried", "close", "answered"),
    [
        ([], (1008, "token_missing"), PROTOCOL),
        (["bearer", "rubbish"], (1008, "token_invalid"), "bearer"),
        (["bearer", token(expires_in=-60)], (4001, "token_expired"), "bearer"),
    ],
    ids=["nothing", "rubbish", "expired"],
)
def test_graphql_refuses_with_the_code_and_a_protocol_that_was_offered(
    strawberry: Running, carried: list[str], close: tuple[int, str], answered: str
) -> None:
    late = {**INIT, "payload": {"token": token()}}  # a token that is not in the handshake
    seen = stay(strawberry, "/graphql", [late], [PROTOCOL, *carried])
    assert (seen.close, seen.subprotocol, seen.messages) == (close, answered, [])


def test_graphql_refuses_a_query_over_http(strawberry: Running) -> None:
    headers = [("Content-Type", "application/json")]
    seen = strawberry.ask("POST", "/graphql", headers=headers, body=b'{"query": "{ me }"}')
    assert (seen.status, seen.json) == (401, {"error": "token_missing"})


@pytest.mark.parametrize("busy", [True, False], ids=["subscribed", "idle"])
def test_a_socket_of_graphql_ends_with_its_token(strawberry: Running, busy: bool) -> None:
    say = [INIT, *([subscribe("subscription { count(to: 1000) }")] if busy else [])]
    given = token(expires_in=ABOUT_TO_EXPIRE)
    seen = stay(strawberry, "/graphql", say, [PROTOCOL, "bearer", given])
    assert bool(subscribed(seen)) is busy
    assert seen.close == (4001, "token_expired")


@pytest.mark.parametrize(
    ("path", "status"), [("/graphql/both", 401), ("/graphql/sockets-only", 200)]
)
def test_graphql_answers_queries_past_a_guard_for_sockets(
    uvicorn: Server, path: str, status: int
) -> None:
    assert uvicorn.ask("GET", path, query="{ me }").status == status


def test_a_message_of_ours_is_none_of_graphqls(uvicorn: Server) -> None:
    say = [INIT, subscribe("{ me }")]
    good = stay(uvicorn, "/graphql/both", say, [PROTOCOL], token=token())
    given = token(expires_in=ABOUT_TO_EXPIRE)
    mixed = stay(uvicorn, "/graphql/refresh", say, [PROTOCOL], until=".due", token=given)
    kinds = [[json.loads(message)["type"] for message in s.messages] for s in (good, mixed)]
    assert kinds[0] == ["connection_ack", "next", "complete"]
    assert "auth.refresh.due" in kinds[1]


def test_the_first_message_of_graphql_is_no_login(uvicorn: Server) -> None:
    init = {**INIT, "payload": {"token": token()}}
    seen = stay(uvicorn, "/graphql/first", [init], [PROTOCOL])
    assert seen.close == (1008, "token_malformed")
