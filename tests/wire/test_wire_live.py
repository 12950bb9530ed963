"""What real clients see of sockets that end before they want it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from statistics import median
from typing import Any

import pytest
from frames import Close, Wire, run, together, with_longest_wait
from servers import DEADLINE, Server, each_server, server, usual_and

from asgi_wsauth import DAPHNE_CLOSE_CODES, Reason

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture


@pytest.fixture
def test(server: Server) -> str:
    """The name under which the apps note what happens in this test."""
    return server.new_test()


def close_for(server: Server, reason: Reason) -> Close:
    """The code and the phrase that a client of this server gets."""
    if server.name == "daphne":
        return DAPHNE_CLOSE_CODES.get(reason, reason.close_code), ""
    return reason.close_code, reason.phrase


async def notes(server: Server, test: str, until: str) -> list[str]:
    """While clients go on."""
    return await asyncio.to_thread(server.notes, test, until=until)


async def revoke(server: Server, kind: str, name: str) -> None:
    await asyncio.to_thread(server.get, "/revoke", kind=kind, name=name)


# The end.

APPS = ("waits", "sends", "neither", "starlette-reads", "starlette-writes")
ENDS = pytest.mark.parametrize("reason", [Reason.EXPIRED, Reason.REVOKED], ids=lambda r: r.name)
LIFE = 0.3  # seconds of a login that expires
LONG = DEADLINE / 2  # of one that a client has to do something about before


class Ending:
    """Sockets of one test, all of which end for one reason."""

    def __init__(self, server: Server, test: str, reason: Reason) -> None:
        self.server = server
        self.test = test
        self.reason = reason
        self._name = f"{test}.{reason.name}"
        self._opened: dict[Wire, float] = {}

    async def open(self, path: str, name: str, **query: Any) -> Wire:
        """A client whose app notes under `name`."""
        seconds = LIFE if self.reason is Reason.EXPIRED else "ever"
        token = f"until-{seconds}-{self._name}"
        return await Wire.open(self.server, path, token=token, test=name, **query)

    async def begin(self) -> float:
        """Now that all are open, have them end; the time when it is due."""
        if self.reason is Reason.EXPIRED:
            return time.monotonic() + LIFE
        begun = time.monotonic()
        await revoke(self.server, "user", self._name)
        return begun


@each_server
def test_each_client_gets_one_close_within_a_second_and_each_app_is_gone_after_the_grace(
    server: Server, test: str
) -> None:
    names = {reason: f"{test}.{reason.name}" for reason in (Reason.EXPIRED, Reason.REVOKED)}

    async def talk(reason: Reason, test: str) -> tuple[list[list[Close]], float]:
        ending = Ending(server, test, reason)
        clients = [
            await ending.open(f"/live/{app}", f"{test}.{app}.{i}") for app in APPS for i in "ab"
        ]
        due = await ending.begin()
        delays: list[float] = []

        async def one(client: Wire) -> list[Close]:
            first = await client.close_frame()
            delays.append(time.monotonic() - due)
            assert first is not None, "the connection was ended without a close"
            client.close(first[0])
            return [first, *await client.closes()]

        closes = await asyncio.gather(*map(one, clients))
        return closes, median(delays)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(talk(*row) for row in names.items()))

    def ask() -> Awaitable[object]:  # than which nothing on this server is quicker
        return asyncio.to_thread(server.notes, "", until="", within=0.05)

    seen, wait = run(with_longest_wait(all_of_them(), ask))
    for (reason, name), (closes, delay) in zip(names.items(), seen, strict=True):
        assert closes == [[close_for(server, reason)]] * len(closes)
        assert delay < 1 + wait
        for app in APPS:
            for i in "ab":
                told = server.notes(f"{name}.{app}.{i}", until="gone")
                assert told[-1] == "gone"
                if app == "waits":
                    code = close_for(server, reason)[0]
                    assert told == ["accepted", f"websocket.disconnect {code}", "gone"]
                elif app == "sends":
                    assert told == ["accepted", "OSError", "gone"]


@usual_and("hypercorn-trio", "granian")
def test_a_client_that_never_answers_or_reads_gets_one_close_and_keeps_no_app(
    server: Server, test: str
) -> None:
    ending = Ending(server, test, Reason.REVOKED)
    # Daphne holds nobody back who sends: there, a flood starves the whole process.
    floods = [] if server.name == "daphne" else ["floods"]
    names = {app: f"{test}.{app}" for app in (*APPS, *floods)}
    clients: list[Wire] = []

    async def closes(client: Wire) -> list[Close]:
        closes: list[Close] = []
        patience = DEADLINE if client in clients[: len(APPS)] else 0.2
        try:
            while (close := await asyncio.wait_for(client.close_frame(), patience)) is not None:
                closes.append(close)
                patience = 0.2
        except TimeoutError:
            pass  # the server still waits for an answer
        client.leave()
        return closes

    async def talk() -> list[list[Close]]:
        for app, name in names.items():
            clients.append(await ending.open(f"/live/{app}", name))
        for app in floods:
            await notes(server, names[app], "stuck")
        await ending.begin()
        for app, name in names.items():
            # On trio, hypercorn lets nobody cancel a send: there it takes a client that reads.
            if (server.name, app) != ("hypercorn-trio", "floods"):
                assert (await notes(server, name, "gone"))[-1] == "gone"
        return await asyncio.gather(*map(closes, clients))

    all_closes = run(talk())
    expected = [close_for(server, Reason.REVOKED)]
    assert all_closes[: len(APPS)] == [expected] * len(APPS)
    for app, flooded in zip(floods, all_closes[len(APPS) :], strict=True):
        assert flooded in (expected, [])  # a server may give up what nobody reads
        assert server.notes(names[app], until="gone")[-1] == "gone"


@ENDS
def test_an_app_that_closes_by_itself_at_that_moment_makes_no_second_close(
    server: Server, test: str, reason: Reason
) -> None:
    ending = Ending(server, test, reason)
    afters = [-0.02, -0.005, 0, 0.005, 0.02] if reason is Reason.EXPIRED else range(8)
    names = [f"{test}.{after}" for after in afters]

    async def talk() -> list[list[Close]]:
        clients = [
            await ending.open("/live/closes", name, after=after)
            for name, after in zip(names, afters, strict=True)
        ]
        await ending.begin()
        return await asyncio.gather(*(client.closes() for client in clients))

    by_itself = (4321, "" if server.name == "daphne" else "by itself")
    for name, closes in zip(names, run(talk()), strict=True):
        # To the app, its close is none too many; the client gets whichever came first.
        assert server.notes(name, until="gone")[1:] == ["closed by itself", "gone"]
        assert closes in ([by_itself], [close_for(server, reason)])


def test_an_app_that_ignores_its_cancellation_is_cancelled_once_more(
    server: Server, test: str
) -> None:
    ending = Ending(server, test, Reason.REVOKED)

    async def talk() -> list[Close]:
        client = await ending.open("/live/stubborn", test)
        await ending.begin()
        return await client.closes()

    assert run(talk()) == [close_for(server, Reason.REVOKED)]
    assert server.notes(test, until="gone") == ["accepted", "cancelled", "gone"]


@ENDS
def test_clients_that_leave_at_that_moment_are_nobodys_error(
    server: Server, test: str, reason: Reason
) -> None:
    ending = Ending(server, test, reason)

    async def talk() -> None:
        clients = [await ending.open("/live/waits", f"{test}.{i}") for i in range(8)]
        due = await ending.begin()
        await asyncio.sleep(due - time.monotonic() - 0.02)
        for client in clients[::2]:
            client.leave()
            await asyncio.sleep(0.005)
        for client in clients[1::2]:
            client.close()
            assert len(await client.closes()) == 1  # the server's answer, or the end

    run(talk())
    for i in range(8):
        assert server.notes(f"{test}.{i}", until="gone")[-1] == "gone"


@usual_and("daphne", "granian")
@ENDS
def test_a_login_that_ends_before_the_app_has_answered_is_refused(
    server: Server, test: str, reason: Reason
) -> None:
    ending = Ending(server, test, reason)
    paths = ["/hesitates", "/deaf", "/hesitates/http", "/deaf/http"]

    async def one(path: str) -> tuple[int, list[Close]]:
        client = await ending.open(f"/live{path}", f"{test}{path}")
        return client.status, await client.closes() if client.status == 101 else []

    async def end() -> None:
        for path in paths:
            await notes(server, f"{test}{path}", "app called")
        await ending.begin()

    *seen, _ = together(*map(one, paths), end())
    as_close = (101, [close_for(server, reason)])
    as_answer = (403 if server.name == "daphne" else 401, [])
    assert seen == [as_close, as_close, as_answer, as_answer]
    for path in paths:
        told = server.notes(f"{test}{path}", until="gone")
        learned = [
            "websocket.connect None",
            f"websocket.disconnect {close_for(server, reason)[0]}",
        ]
        assert told == ["app called", *(learned if "hesitates" in path else []), "gone"]


@pytest.mark.parametrize("kind", ["user", "token", "session"])
def test_what_is_revoked_ends_its_own_sockets_and_no_others(
    server: Server, test: str, kind: str
) -> None:
    async def talk() -> None:
        mine, other = [
            await Wire.open(server, "/live/waits", token=f"until-ever-{name}", test=name)
            for name in (test, f"{test}.other")
        ]
        await revoke(server, kind, test if kind == "user" else f"{test}.{kind}")
        assert await mine.closes() == [close_for(server, Reason.REVOKED)]
        other.send("still here")
        assert await other.message() == "still here"
        other.close()
        assert await other.closes() == [(1000, "")]

    run(talk())


# A credential in the first message.


def auth(token: str) -> str:
    return json.dumps({"type": "auth", "token": token})


FIRST_MESSAGES: dict[str, tuple[str | bytes | None, Reason]] = {
    "none": (None, Reason.MISSING),
    "unknown": (auth("unknown"), Reason.INVALID),
    "expired": (auth("deny-EXPIRED"), Reason.EXPIRED),
    "forbidden": (auth("deny-FORBIDDEN"), Reason.FORBIDDEN),
    "another": ("hello", Reason.MALFORMED),
    "another type": (json.dumps({"type": "hello", "token": "opaque-1"}), Reason.MALFORMED),
    "no token": (json.dumps({"type": "auth"}), Reason.MALFORMED),
    "binary": (auth("opaque-1").encode(), Reason.MALFORMED),
    "too long": (auth("opaque-" + "x" * 200), Reason.MALFORMED),
}


def test_a_first_message_that_is_no_good_credential_closes_with_its_reason(
    server: Server, test: str
) -> None:
    async def one(name: str, message: str | bytes | None) -> list[Close]:
        path = "/live/first/impatient" if message is None else "/live/first"
        client = await Wire.open(server, path, test=f"{test}.{name}")
        if message is not None:
            client.send(message)
        return await client.closes()

    seen = together(*(one(name, message) for name, (message, _) in FIRST_MESSAGES.items()))
    expected = [[close_for(server, reason)] for _, reason in FIRST_MESSAGES.values()]
    assert seen == expected
    for name in FIRST_MESSAGES:
        assert server.notes(f"{test}.{name}", until="gone") == ["gone"]  # the app was not called


@each_server
def test_after_a_good_first_message_the_app_sees_an_ordinary_connect(
    server: Server, test: str
) -> None:
    async def talk() -> dict[str, Any]:
        offer = [("Sec-WebSocket-Protocol", "other, chat")]
        client = await Wire.open(server, "/live/first", headers=offer, choose="other", test=test)
        assert "sec-websocket-protocol: chat\r\n" in client.head
        assert "app called" not in await asyncio.to_thread(
            server.notes, test, until="app called", within=0
        )
        client.send(auth("opaque-1"), "right behind it", b"\x00\xff")
        report: dict[str, Any] = json.loads(await client.message())
        assert await client.message() == "right behind it"
        assert await client.message() == b"\x00\xff"
        client.close()
        assert await client.closes() == [(1000, "")]
        return report

    report = run(talk())
    assert (report["user"], report["offered"]) == ("alice", ["chat"])
    assert "websocket.http.response" not in report["extensions"]
    assert "opaque-1" not in report["everything"]


PROTOCOL = "graphql-transport-ws"
OFFER = [("Sec-WebSocket-Protocol", PROTOCOL)]


def connection_init(token: str | None) -> str:
    payload = {} if token is None else {"Authorization": f"Bearer {token}"}
    return json.dumps({"type": "connection_init", "payload": payload})


@each_server
def test_graphqls_clients_log_in_by_connection_init_and_see_the_codes_of_its_protocol(
    server: Server,
) -> None:
    async def admitted() -> None:
        client = await Wire.open(server, "/live/graphql", headers=OFFER)
        assert f"sec-websocket-protocol: {PROTOCOL}\r\n" in client.head
        client.send(connection_init("opaque-1"), "subscribe")
        assert json.loads(await client.message())["user"] == "alice"
        assert await client.message() == connection_init(None)  # what the app was handed
        assert await client.message() == "subscribe"
        client.close()
        assert await client.closes() == [(1000, "")]

    async def refused(message: str | None) -> list[Close]:
        path = "/live/graphql/impatient" if message is None else "/live/graphql"
        client = await Wire.open(server, path, headers=OFFER)
        assert f"sec-websocket-protocol: {PROTOCOL}\r\n" in client.head
        if message is not None:
            client.send(message, "subscribe")
        return await client.closes()

    cases = {
        (4408, Reason.MISSING): None,
        (4401, Reason.MISSING): connection_init(None),
        (4401, Reason.INVALID): connection_init("unknown"),
        (4403, Reason.FORBIDDEN): connection_init("deny-FORBIDDEN"),
        (4400, Reason.MALFORMED): "hello",
        (4001, Reason.EXPIRED): connection_init("deny-EXPIRED"),
    }
    _, *seen = together(admitted(), *map(refused, cases.values()))
    has_phrases = server.name != "daphne"
    assert seen == [[(code, reason.phrase if has_phrases else "")] for code, reason in cases]


@each_server
def test_home_assistants_clients_are_told_before_the_close(server: Server) -> None:
    async def talk(token: str) -> tuple[Any, Any, list[Close]]:
        client = await Wire.open(server, "/live/home")
        assert json.loads(await client.message()) == {"type": "auth_required"}
        client.send(json.dumps({"type": "auth", "access_token": token}))
        answer, more = json.loads(await client.message()), None
        if answer["type"] == "auth_ok":
            more = json.loads(await client.message())["user"]
            client.close()
        return answer, more, await client.closes()

    phrase, close = Reason.INVALID.phrase, close_for(server, Reason.INVALID)
    assert together(talk("opaque-1"), talk("unknown")) == [
        ({"type": "auth_ok"}, "alice", [(1000, "")]),
        ({"type": "auth_invalid", "message": phrase}, None, [close]),
    ]


def test_a_socket_that_its_first_message_opened_expires(server: Server, test: str) -> None:
    async def talk() -> list[Close]:
        client = await Wire.open(server, "/live/first", test=test)
        client.send(auth(f"until-{LIFE}-{test}"))
        return await client.closes()

    assert run(talk()) == [close_for(server, Reason.EXPIRED)]


def test_a_credential_elsewhere_is_not_waited_for(server: Server) -> None:
    assert server.talk("/live/first", token="opaque-1", say=["hello"]).messages[1:] == ["hello"]


def test_where_the_origin_is_refused_no_message_is_waited_for(server: Server) -> None:
    seen = server.talk("/live/first/http", headers=[("Origin", "https://evil.example")])
    assert seen.status == 403


# A failing client is locked out.


def test_after_too_many_failures_a_client_is_locked_out(server: Server, test: str) -> None:
    def attempt(token: str | None) -> Close | None:
        seen = server.talk("/live/throttled", token=token, test=test, rejection="accept_then_close")
        return seen.close

    refused, locked_out = close_for(server, Reason.INVALID), close_for(server, Reason.THROTTLED)
    assert [attempt("unknown"), attempt("deny-EXPIRED")] == [
        refused,
        close_for(server, Reason.EXPIRED),
    ]
    assert [attempt("unknown"), attempt("opaque-1"), attempt(None)] == [
        refused,
        locked_out,
        locked_out,  # and is not asked for a first message
    ]


def test_as_an_http_answer_a_lockout_says_when_it_is_over(server: Server, test: str) -> None:
    answers = [
        server.talk("/live/throttled", token=token, test=test, rejection="http_response")
        for token in ("unknown", "unknown", "opaque-1", None)
    ]
    if server.name == "daphne":
        assert [answer.status for answer in answers] == [403] * 4
        return
    assert [answer.status for answer in answers] == [401, 401, 429, 429]
    for answer in answers[2:]:
        assert answer.json == {"error": "too_many_failures"}
        assert 1 <= int(answer.headers["retry-after"]) <= 60


# A new credential on a socket.


def refresh(token: Any) -> str:
    return json.dumps({"type": "auth.refresh", "token": token})


# Messages of the app's, all of them.
NEAR_MISSES: list[str | bytes] = [
    "hello",
    "",
    '{"type": "auth.refresh.later", "token": "unknown"}',
    '{"type": "other", "token": "auth.refresh"}',
    '["auth.refresh"]',
    '"auth.refresh"',
    '{"type": "auth.refresh", "token": ',
    ' { "type" : "auth" , "a" : 1.0 } ',
    refresh("unknown").encode(),
    b"\x00\xff auth.refresh",
    b"",
]


def test_what_a_stranger_has_the_app_relay_is_not_taken_for_the_guards(
    server: Server, test: str
) -> None:
    async def talk() -> None:
        client = await Wire.open(server, "/live/refresh", token=f"until-3600-{test}", test=test)
        due = '{"type": "auth.refresh.due", "expires_at": 1790000000.0}'
        relayed = [due, due.encode(), due.replace("refresh", "r\\u0065fresh"), f" {due}"]
        client.send(*relayed, f"[{due}]", "behind it")
        assert await client.message() == f"[{due}]"
        assert await client.message() == "behind it"

    run(talk())


def test_a_socket_that_was_refreshed_outlives_its_first_login(server: Server, test: str) -> None:
    async def talk() -> None:
        begun, life = time.time(), LONG
        token = f"until-{life}-{test}"
        client = await Wire.open(server, "/live/refresh", token=token, test=test)
        due = json.loads(await client.message())
        assert due["type"] == "auth.refresh.due"
        assert begun + life <= due["expires_at"] <= time.time() + life
        # Daphne sends no empty messages.
        others = [other for other in NEAR_MISSES if other or server.name != "daphne"]
        client.send(*others)
        assert [await client.message() for _ in others] == others
        client.send(refresh(f"until-3600-{test}"), "right behind it")
        told = json.loads(await client.message())
        assert told["type"] == "auth.refresh.ok"
        assert begun + 3600 <= told["expires_at"] <= time.time() + 3600
        assert await client.message() == "right behind it"
        await asyncio.sleep(due["expires_at"] + 0.1 - time.time())
        client.send("still here")
        assert await client.message() == "still here"
        client.send(refresh(f"until-{LIFE}-{test}"))
        assert json.loads(await client.message())["type"] == "auth.refresh.ok"
        # Too soon after the last time for another `due`.
        assert await client.closes() == [close_for(server, Reason.EXPIRED)]

    run(talk())


def test_what_the_policy_ends_later_is_closed_with_its_code(server: Server, test: str) -> None:
    """By its age, by a recheck, and by the hook of a refresh."""

    async def ends(path: str, reason: Reason) -> None:
        name = f"{test}.{path}"
        client = await Wire.open(server, f"/live/{path}", token=f"until-ever-{name}", test=name)
        if path == "hooked":
            client.send(refresh(f"until-3600-{name}"))
        assert await client.closes() == [close_for(server, reason)]
        code = close_for(server, reason)[0]
        assert f"websocket.disconnect {code}" in await notes(server, name, until="gone")

    async def talk() -> None:
        await asyncio.gather(
            ends("aged", Reason.EXPIRED),
            ends("locked", Reason.REVOKED),
            ends("hooked", Reason.FORBIDDEN),
        )

    run(talk())


REFUSED_REFRESHES = {
    "unknown": Reason.INVALID,
    "deny-EXPIRED": Reason.EXPIRED,
    "deny-UNAVAILABLE": Reason.UNAVAILABLE,
    "until-60-somebody else": Reason.MALFORMED,
    "until-60-somebody_else": Reason.FORBIDDEN,
    None: Reason.MALFORMED,
}


def test_a_refresh_that_is_refused_closes_the_socket(server: Server, test: str) -> None:
    async def one(number: int, token: Any) -> list[Close]:
        first = {"token": f"until-3600-{test}", "test": f"{test}.{number}"}
        client = await Wire.open(server, "/live/refresh", **first)
        client.send(refresh(token))
        return await client.closes()

    seen = together(*(one(i, token) for i, token in enumerate(REFUSED_REFRESHES)))
    assert seen == [[close_for(server, reason)] for reason in REFUSED_REFRESHES.values()]
    for i in range(len(REFUSED_REFRESHES)):
        assert server.notes(f"{test}.{i}", until="gone")[-1] == "gone"


# What the app does with its session.


def test_the_app_can_refresh_the_session_itself(server: Server, test: str) -> None:
    async def talk() -> None:
        begun = time.time()
        token = f"until-{LONG}-{test}"
        client = await Wire.open(server, "/live/obeys", token=token, test=test)
        for bad, reason in (("unknown", Reason.INVALID), ("until-60-another", Reason.FORBIDDEN)):
            client.send(f"refresh {bad}")
            assert await client.message() == reason.phrase  # and the socket stays
        client.send(f"refresh until-{LONG + LIFE}-{test}")
        word, until = str(await client.message()).split()
        assert (word, float(until) >= begun + LONG + LIFE) == ("until", True)
        assert await client.closes() == [close_for(server, Reason.EXPIRED)]
        assert time.time() >= float(until)

    run(talk())


@pytest.mark.parametrize("reason", [Reason.REVOKED, Reason.FORBIDDEN], ids=lambda r: r.name)
@pytest.mark.parametrize("guard", ["", "/unguarded"])
def test_the_app_can_close_its_socket_for_a_reason(
    server: Server, test: str, guard: str, reason: Reason
) -> None:
    async def talk() -> list[Close]:
        path = f"/live/obeys{guard}"
        client = await Wire.open(server, path, token=f"until-ever-{test}", test=test)
        client.send(f"close {reason.name}")
        return await client.closes()

    assert run(talk()) == [close_for(server, reason)]
    told = server.notes(test, until="gone")
    assert told[:2] == ["accepted", "closed"]
    assert told[-1] == "gone"
    if not guard:
        assert told[2:] == [f"websocket.disconnect {close_for(server, reason)[0]}", "gone"]


# As many sockets as a user may have.


async def _three(server: Server, test: str, path: str) -> list[Wire]:
    token = f"until-ever-{test}"
    return [await Wire.open(server, path, token=token, test=f"{test}.{i}") for i in range(3)]


def test_one_socket_too_many_is_refused_until_another_has_ended(server: Server, test: str) -> None:
    async def talk() -> None:
        first, second, third = await _three(server, test, "/live/reject")
        assert await third.closes() == [close_for(server, Reason.TOO_MANY_CONNECTIONS)]
        for client in first, second:
            client.send("still here")
            assert await client.message() == "still here"
        first.leave()
        await notes(server, f"{test}.0", "gone")
        token = f"until-ever-{test}"
        fourth = await Wire.open(server, "/live/reject", token=token, test=f"{test}.3")
        fourth.send("in its place")
        assert await fourth.message() == "in its place"
        for client in second, fourth:
            client.close()
            assert await client.closes() == [(1000, "")]

    run(talk())


def test_one_socket_too_many_takes_the_place_of_the_oldest(server: Server, test: str) -> None:
    async def talk() -> None:
        first, *others = await _three(server, test, "/live/evict")
        assert await first.closes() == [close_for(server, Reason.TOO_MANY_CONNECTIONS)]
        for client in others:
            client.send("still here")
            assert await client.message() == "still here"
            client.close()
            assert await client.closes() == [(1000, "")]

    run(talk())
