"""SessionsEndpoint: who sees which sockets, what may be ended by whom, and what is answered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from cases import cases
from endpoint_sessions import ISSUER, PAGE, USERS, Site, Socket
from handshakes import authenticator, bearer, websocket
from http_calls import request
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from asgi_wsauth import (
    Admitted,
    ConfigurationError,
    Credential,
    Denied,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Refused,
    SessionEntry,
    Sessions,
    SessionsEnded,
    SessionsEndpoint,
)
from asgi_wsauth.policies.entries import written

pytestmark = [pytest.mark.anyio, pytest.mark.hurried]

OTHER = "https://b.example"
NOT_FOUND = {"error": "session_not_found"}


def laptop_and_phone(**options: Any) -> Site:
    """Alice's laptop, with two sockets, her phone, and bob."""
    return Site(
        Socket("l1", since=1),
        Socket("l2", since=3),
        Socket("p1", token="phone", since=2),
        Socket("b1", user="bob", token="bob"),
        **options,
    )


# A user's own


async def test_a_user_sees_all_there_is_to_know_of_each_socket_the_oldest_first() -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask()
    (first, *_) = answer.json["sessions"]
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    assert first == {
        "id": "l1",
        "since": 1,
        "refreshed_at": None,
        "client": "192.0.2.7",
        "path": "/ws",
        "method": "jwt",
        "fingerprint": Credential("alice").fingerprint,
        "user_agent": "A browser",
        "issuer": None,
        "current": True,
    }
    assert answer.json == {"user": "alice", "issuer": None, "sessions": answer.json["sessions"]}
    current = {entry["id"]: entry["current"] for entry in answer.json["sessions"]}
    assert list(current.items()) == [("l1", True), ("p1", False), ("l2", True)]


async def test_who_has_no_socket_sees_none() -> None:
    async with Site(Socket("b1", user="bob")) as site:
        assert (await site.ask()).json == {"user": "alice", "issuer": None, "sessions": []}


async def test_a_name_at_another_issuer_is_another_user() -> None:
    sockets = Socket("none"), Socket("a", issuer=ISSUER), Socket("b", issuer=OTHER)
    async with Site(*sockets) as site:
        assert await site.listed() == ["none"]
        assert await site.listed("elsewhere") == ["a"]
        for id in ("a", "b"):
            assert (await site.ask(method="DELETE", path=f"/sessions/{id}")).status == 404
        await site.ask(method="DELETE", query="keep=current")
        assert (await site.ask(method="DELETE", query="keep=a")).status == 404
        assert await site.left() == {"none", "a", "b"}
        await site.ask("elsewhere", "DELETE", "/sessions/a")
        assert await site.left() == {"none", "b"}


async def test_an_issuer_that_is_empty_is_none_of_the_others() -> None:
    async with Site(Socket("none"), Socket("empty", issuer=""), Socket("a", issuer=ISSUER)) as site:
        assert await site.listed("unnamed") == ["empty"]
        assert (await site.ask("unnamed", "DELETE", "/sessions/none")).status == 404
        assert (await site.ask("unnamed", "DELETE", "/sessions/empty")).json == {"ended": 1}
        assert await site.listed() == ["none"]
        assert await site.left() == {"none", "a"}


async def test_while_login_is_off_no_socket_is_current() -> None:
    auth = {"required": False, "anonymous": Principal("alice", method="none")}
    async with Site(Socket("l1"), auth=auth) as site:
        (entry,) = (await site.ask("")).json["sessions"]
    assert entry["current"] is False


@cases("slash", ["", "/"])
async def test_a_user_ends_a_socket(slash: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(method="DELETE", path=f"/sessions/p1{slash}")
        assert (answer.status, answer.json) == (200, {"ended": 1})
        assert answer.header("cache-control") == "no-store"
        assert await site.left() == {"l1", "l2", "b1"}
        assert await site.listed() == ["l1", "l2"]
        (denied,) = site.sockets[2].ended
    assert denied.reason is Reason.REVOKED


async def test_an_id_is_taken_as_it_is() -> None:
    ids = ["a-X", "a-", "-a", "_"]
    async with Site(*map(Socket, ids)) as site:
        for number, id in enumerate(ids, 1):
            assert (await site.ask(method="DELETE", path=f"/sessions/{id}")).status == 200
            assert await site.left() == set(ids[number:])


@cases("path", ["/sessions/b1", "/sessions/unknown", "/sessions/", "/sessions", "/", ""])
async def test_nothing_is_ended_where_no_socket_of_the_user_is_named(path: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(method="DELETE", path=path)
        assert (answer.status, answer.json) == (404, NOT_FOUND)
        assert answer.header("cache-control") == "no-store"
        assert await site.left() == {"l1", "l2", "p1", "b1"}


@cases(
    ("query", "left"),
    [
        ("keep=l1", {"l1"}),
        ("keep=p1", {"p1"}),
        ("keep=l1&keep=p1", {"l1", "p1"}),
        ("keep=current", {"l1", "l2"}),
        ("keep=current&keep=p1", {"l1", "l2", "p1"}),
        ("keep=l1&keep=l2&keep=p1", {"l1", "l2", "p1"}),
    ],
)
async def test_a_user_ends_the_others(query: str, left: set[str]) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(method="DELETE", query=query)
        assert (answer.status, answer.json) == (200, {"ended": 3 - len(left)})
        assert await site.left() == {*left, "b1"}


async def test_where_none_is_current_all_are_others() -> None:
    async with Site(Socket("p1", token="phone")) as site:
        answer = await site.ask(method="DELETE", query="keep=current")
        assert answer.json == {"ended": 1}
        assert await site.left() == set()


@cases("keep", ["b1", "gone", "l1&keep=gone", "Current", "current&keep=gone"])
async def test_nothing_is_ended_where_what_is_to_be_kept_has_gone(keep: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(method="DELETE", query=f"keep={keep}")
        assert (answer.status, answer.json) == (404, NOT_FOUND)
        assert await site.left() == {"l1", "l2", "p1", "b1"}


# What can't be read


@cases("method", ["GET", "DELETE"])
@cases(
    "query",
    [
        "kep=l1",
        "id=l1",
        "user=",
        "user",
        "issuer=https://a.example",
        "user=bob&user=alice",
        "user=bob&issuer=a&issuer=b",
        "user=bob&issuer=",
        "keep=",
        "keep=l1&keep=",
        "Keep=l1",
    ],
)
async def test_a_query_that_is_misunderstood_ends_nothing(query: str, method: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask("admin", method, "/sessions/l1", query)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
        assert answer.header("cache-control") == "no-store"
        assert await site.left() == {"l1", "l2", "p1", "b1"}


@cases(
    ("query", "why"),
    [
        ("kep=l1", "DELETE takes only user, issuer, keep in its query"),
        ("keep=", "a parameter of the query is empty"),
        ("user=bob&user=alice", "user and issuer can be given only once"),
        ("issuer=https://a.example", "issuer is given without user"),
        ("user=alice&keep=l1", "the path names a session to end, and the query one to keep"),
    ],
)
async def test_its_client_is_told_why(query: str, why: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask("admin", "DELETE", "/sessions/l1", query)
        told = {"error": "invalid_request", "error_description": why}
        assert (answer.status, answer.json) == (400, told)


@cases("one", ["p1", "Zp3nQ0c_5m-YxT7bEoV1aw"])
async def test_a_request_to_keep_one_and_to_end_another_ends_nothing(one: str) -> None:
    """Even if that other one has gone by now."""
    async with laptop_and_phone() as site:
        answer = await site.ask(method="DELETE", path=f"/sessions/{one}", query="keep=l1")
        assert answer.status == 400
        assert await site.left() == {"l1", "l2", "p1", "b1"}


async def test_reading_keeps_nothing() -> None:
    async with laptop_and_phone() as site:
        assert (await site.ask(query="keep=l1")).status == 400


@cases("method", ["POST", "PUT", "PATCH", "OPTIONS", "delete", "TRACE", "QUERY"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(method=method, path="/sessions/l1", query="keep=p1")
        assert (answer.status, answer.json) == (405, {"error": "token_malformed"})
        assert answer.header("allow") == "GET, HEAD, DELETE"
        assert answer.header("cache-control") == "no-store"
        assert await site.left() == {"l1", "l2", "p1", "b1"}
    (event,) = site.told
    assert isinstance(event, Refused)
    assert event.detail == "the method must be GET or HEAD or DELETE"


async def test_a_head_is_answered_as_a_get_without_its_body() -> None:
    async with laptop_and_phone() as site:
        got, head = await site.ask(), await site.ask(method="HEAD")
        assert (await site.ask("", "HEAD")).status == 401
    assert (head.status, head.headers, head.body) == (200, got.headers, b"")


async def test_a_socket_gets_nothing() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with Site() as site:
        await site.app(websocket(headers=bearer("alice")), None, send)
        await site.app({"type": "lifespan"}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
    (event,) = site.told
    assert isinstance(event, Refused)
    assert (event.reason, event.detail) == (Reason.MALFORMED, "a socket can't ask for sessions")
    assert event.close_code == 1008


# An administrator


@cases("method", ["GET", "DELETE"])
@cases("user", ["bob", "alice", "nobody"])
async def test_only_an_administrator_may_ask_for_a_user(user: str, method: str) -> None:
    query = f"user={user}" if method == "GET" else f"user={user}&keep=current"
    async with laptop_and_phone() as site:
        answer = await site.ask("bob", method, query=query)
        assert (answer.status, answer.json) == (403, {"error": "forbidden"})
        challenge = 'Bearer error="insufficient_scope", scope="admin"'
        assert answer.header("www-authenticate") == challenge
        assert await site.left() == {"l1", "l2", "p1", "b1"}


async def test_without_admin_scope_there_is_no_administrator() -> None:
    async with laptop_and_phone(admin_scope=None) as site:
        answer = await site.ask("admin", query="user=bob")
        assert (answer.status, answer.json) == (403, {"error": "forbidden"})
        assert answer.header("www-authenticate") is None
        assert await site.listed("bob") == ["b1"]


async def test_an_administrator_sees_and_ends_anybodys() -> None:
    async with laptop_and_phone() as site:
        assert await site.listed("admin") == []
        assert await site.listed("admin", "user=alice") == ["l1", "p1", "l2"]
        answer = await site.ask("admin", "DELETE", "/sessions/p1", "user=alice")
        assert (answer.status, answer.json) == (200, {"ended": 1})
        assert await site.left() == {"l1", "l2", "b1"}
        answer = await site.ask("admin", "DELETE", "/sessions/b1", "user=alice")
        assert (answer.status, answer.json) == (404, NOT_FOUND)
        answer = await site.ask("admin", "DELETE", query="user=alice&keep=current")
        assert answer.json == {"ended": 2}
        assert await site.left() == {"b1"}


async def test_an_administrator_asks_at_one_issuer_or_at_all() -> None:
    sockets = Socket("none"), Socket("a", issuer=ISSUER), Socket("b", issuer=OTHER)
    async with Site(*sockets) as site:
        answer = await site.ask("admin", query="user=alice")
        assert [(e["id"], e["issuer"]) for e in answer.json["sessions"]] == [
            ("a", ISSUER),
            ("b", OTHER),
            ("none", None),
        ]
        answer = await site.ask("admin", query=f"user=alice&issuer={ISSUER}")
        assert (answer.json["user"], answer.json["issuer"]) == ("alice", ISSUER)
        assert [entry["id"] for entry in answer.json["sessions"]] == ["a"]
        await site.ask("admin", "DELETE", query=f"user=alice&issuer={ISSUER}&keep=current")
        assert await site.left() == {"none", "b"}


# Who is let in


@cases(
    ("token", "status", "phrase"),
    [("", 401, "token_missing"), ("x", 401, "token_invalid"), ("gone", 401, "token_revoked")],
)
@cases("method", ["GET", "DELETE"])
async def test_who_is_not_logged_in_is_refused(
    token: str, status: int, phrase: str, method: str
) -> None:
    async with laptop_and_phone() as site:
        answer = await site.ask(token, method, "/sessions/l1")
        assert (answer.status, answer.json) == (status, {"error": phrase})
        assert (answer.header("www-authenticate") or "").startswith("Bearer")
        assert await site.left() == {"l1", "l2", "p1", "b1"}


SAME, OWN = ("sec-fetch-site", "same-origin"), ("origin", PAGE)
CROSS, FOREIGN = ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")


@cases(
    ("method", "headers", "status"),
    [
        ("GET", [SAME], 200),
        ("GET", [OWN], 200),
        ("GET", [], 403),
        ("GET", [CROSS], 403),
        ("GET", [FOREIGN], 403),
        ("DELETE", [OWN], 200),
        ("DELETE", [], 403),
        ("DELETE", [SAME], 403),
        ("DELETE", [FOREIGN, CROSS], 403),
        ("DELETE", [("origin", "null")], 403),
    ],
)
async def test_no_other_site_asks_with_its_visitors_cookie(
    method: str, headers: list[Any], status: int
) -> None:
    async with laptop_and_phone() as site:
        cookie = ("cookie", "login=alice")
        answer = await site.ask("", method, "/sessions/l1", headers=[cookie, *headers])
        assert answer.status == status
        assert status == 200 or answer.json == {"error": "origin_not_allowed"}
        assert ("l1" in await site.left()) is (method == "GET" or status != 200)


@pytest.mark.slow
@cases("mounted", ["Mount", "Route", "FastAPI", "FastAPI's routes", "below a root", "behind one"])
async def test_it_may_stand_anywhere(mounted: str) -> None:
    from fastapi import FastAPI  # by its one test: it takes as long as a hundred others

    def mounted_in_fastapi(endpoint: SessionsEndpoint) -> FastAPI:
        app = FastAPI()
        app.mount("/sessions", endpoint)
        return app

    async with laptop_and_phone() as site:
        site.app, more = {
            "Mount": lambda: (Starlette(routes=[Mount("/sessions", site.endpoint)]), {}),
            "Route": lambda: (Starlette(routes=as_routes(site.endpoint)), {}),
            "FastAPI": lambda: (mounted_in_fastapi(site.endpoint), {}),
            "FastAPI's routes": lambda: (FastAPI(routes=as_routes(site.endpoint)), {}),
            "below a root": lambda: (
                Starlette(routes=[Mount("/sessions", site.endpoint)]),
                {"root_path": "/api"},
            ),
            "behind one": lambda: (
                HTTPAuthMiddleware(Starlette(routes=as_routes(site.endpoint)), site.auth),
                {},
            ),
        }[mounted]()
        root = more.get("root_path", "")
        slash = "" if "oute" in mounted or mounted == "behind one" else "/"
        listed = await site.ask(path=f"{root}/sessions{slash}", **more)
        assert [entry["id"] for entry in listed.json["sessions"]] == ["l1", "p1", "l2"]
        answer = await site.ask(method="DELETE", path=f"{root}/sessions/l2", **more)
        assert answer.json == {"ended": 1}
        others = f"{root}/sessions{slash}"
        answer = await site.ask(method="DELETE", path=others, query="keep=l1", **more)
        assert answer.json == {"ended": 1}
        assert await site.left() == {"l1", "b1"}


def as_routes(endpoint: SessionsEndpoint) -> list[Route]:
    return [Route("/sessions", endpoint), Route("/sessions/{id}", endpoint)]


async def test_a_token_in_the_query_is_taken_out_of_it() -> None:
    async with laptop_and_phone(auth={"sources": [QueryParam("token")]}) as site:
        answer = await site.ask("", "DELETE", query="token=alice&keep=l1")
        assert answer.json == {"ended": 2}


async def test_behind_a_middleware_it_reuses_the_decision() -> None:
    async with laptop_and_phone() as site:
        USERS.asked.clear()
        app = HTTPAuthMiddleware(site.endpoint, site.auth)
        assert (await site.ask(app=app)).status == 200
        assert (await site.ask("", app=app)).status == 401
    assert USERS.asked == ["alice"]
    assert [type(event) for event in site.told] == [Admitted, Refused]


# What breaks


class Broken(MemoryStore):
    """A store that fails or hangs, for reading or for ending."""

    hangs = False
    broken: str = ""

    async def _fail(self, what: str) -> None:
        if self.broken == what and self.hangs:
            await anyio.sleep_forever()
        if self.broken == what:
            raise ConnectionError("hunter2")

    async def get_sessions(self, *arguments: Any) -> Any:
        await self._fail("get")
        return await super().get_sessions(*arguments)

    async def end_sessions(self, *arguments: Any, **more: Any) -> None:
        await self._fail("end")
        await super().end_sessions(*arguments, **more)


@cases("hangs", [False, True])
@cases(("method", "broken"), [("GET", "get"), ("DELETE", "get"), ("DELETE", "end")])
async def test_a_store_that_fails_is_503(method: str, broken: str, hangs: bool) -> None:
    store = Broken()
    async with laptop_and_phone(store=store, auth={"timeout": 0.05}) as site:
        store.broken, store.hangs = broken, hangs
        answer = await site.ask(method=method, path="/sessions/l1")
        store.broken = ""
        assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
        assert await site.left() == {"l1", "l2", "p1", "b1"}
    (event,) = site.told
    assert isinstance(event, Refused)
    assert event.reason is Reason.UNAVAILABLE
    assert (event.error_type is None) is hangs


async def test_what_no_json_can_hold_is_500() -> None:
    async with Site() as site:
        site.endpoint.sessions = Odd(site.sessions.store)
        answer = await site.ask()
    assert (answer.status, answer.json) == (500, {"error": "internal_error"})
    (event,) = site.told
    assert isinstance(event, Refused)
    assert event.detail == "sessions: TypeError"


class Odd(Sessions):
    async def list(self, identity: str, issuer: str | None = None) -> Any:
        return [replace(Socket("l1").entry(user_agent=False), since=object())]


async def test_an_answer_that_can_not_be_sent_raises_nothing() -> None:
    async def send(message: Any) -> None:
        raise OSError

    async with Site() as site:
        await site.app(request(headers=bearer("alice")), None, send)
        await site.app(request(), None, send)
        await site.app(websocket(), None, send)


# What is told


async def test_each_request_is_one_event_that_says_who_asked() -> None:
    sockets = Socket("a", issuer=ISSUER), Socket("n", token="phone"), Socket("m", token="phone")
    async with Site(*sockets) as site:
        await site.ask()
        await site.ask(method="DELETE", path="/sessions/none")
        await site.ask(method="DELETE", query="keep=current")
        await site.ask("admin", "DELETE", "/sessions/a", f"user=alice&issuer={ISSUER}")
        await site.ask(method="DELETE", path="/sessions/a", query="user=alice")
    read, missed, own, others, refused = site.told
    assert isinstance(read, Admitted)
    assert isinstance(missed, Admitted)
    assert isinstance(own, SessionsEnded)
    assert (own.identity, own.issuer, own.ended, own.administrator) == ("alice", None, 2, None)
    assert (own.fingerprint, own.protocol) == (Credential("alice").fingerprint, "http")
    assert isinstance(others, SessionsEnded)
    assert (others.identity, others.issuer, others.ended) == ("alice", ISSUER, 1)
    assert (others.administrator, others.fingerprint) == ("root", Credential("admin").fingerprint)
    assert isinstance(refused, Refused)


async def test_no_answer_and_no_event_has_a_credential() -> None:
    async with laptop_and_phone() as site:
        said = [
            await site.ask(token, method, query=query)
            for token in ("alice", "phone", "admin", "gone")
            for method in ("GET", "DELETE")
            for query in ("", "user=alice", "keep=p1")
        ]
    text = json.dumps([[*answer.headers, answer.body.decode()] for answer in said])
    for token in ("phone", "admin", "gone"):
        assert f'"{token}"' not in text
        assert f"'{token}'" not in repr(site.told)


# on_end


async def test_on_end_is_asked_about_each_before_any_is_ended() -> None:
    seen: list[tuple[str, int]] = []

    async def on_end(entry: SessionEntry) -> None:
        seen.append((entry.id, len(await site.left())))

    async with laptop_and_phone(on_end=on_end) as site:
        await site.ask()
        await site.ask(method="DELETE", path="/sessions/none")
        await site.ask(method="DELETE", query="keep=l1")
    assert seen == [("p1", 4), ("l2", 4)]


@cases("error", [ValueError("hunter2"), Denied(Reason.UNAVAILABLE), Denied(Reason.FORBIDDEN)])
async def test_if_on_end_fails_nothing_is_ended(error: Exception) -> None:
    async def on_end(entry: SessionEntry) -> None:
        if entry.id == "l2":
            raise error

    async with laptop_and_phone(on_end=on_end) as site:
        answer = await site.ask(method="DELETE", query="keep=l1")
        assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
        assert await site.left() == {"l1", "l2", "p1", "b1"}
    (event,) = site.told
    assert isinstance(event, Refused)
    assert "on_end" in event.detail


async def test_an_on_end_that_turns_out_not_to_be_async_is_named_in_the_log() -> None:
    async with laptop_and_phone(on_end=lambda entry: None) as site:
        assert (await site.ask(method="DELETE", query="keep=l1")).status == 503
        assert await site.left() == {"l1", "l2", "p1", "b1"}
    (event,) = site.told
    assert isinstance(event, Refused)
    assert "on_end must be an async function, got one that returns None" in str(event.traceback)


# Users with many sockets


class Counted(MemoryStore):
    """A store that counts how often it is asked to end some."""

    ends = 0

    async def end_sessions(self, *arguments: Any, **more: Any) -> None:
        self.ends += 1
        await super().end_sessions(*arguments, **more)


async def test_many_are_ended_in_one_exchange() -> None:
    store = Counted()
    async with Site(*[Socket(f"s{number}") for number in range(40)], store=store) as site:
        assert (await site.ask(method="DELETE", query="keep=s0")).json == {"ended": 39}
        assert await site.left() == {"s0"}
        assert store.ends == 1


async def test_while_thousands_are_listed_or_ended_others_have_their_turns() -> None:
    async with Site() as site:
        records = [Socket(f"s{number}") for number in range(2000)]
        await site.sessions.store.put_sessions(
            [(("alice", one.id), written(one.entry(user_agent=True))) for one in records]
        )
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await checkpoint()
                turns += 1

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            assert len(await site.listed()) == 2000
            assert turns > 5
            turns = 0
            assert (await site.ask(method="DELETE", query="keep=current")).json == {"ended": 0}
            assert (await site.ask(method="DELETE", query="keep=s0")).json == {"ended": 1999}
            assert turns > 8
            group.cancel_scope.cancel()


# How it is built


def plain(entry: SessionEntry) -> None: ...


async def takes_two(entry: SessionEntry, more: object) -> None: ...


@cases(
    ("options", "told"),
    [
        ({"sessions": MemoryStore()}, "sessions must be a Sessions, got .*Sessions.MemoryStore..."),
        ({"sessions": None}, "sessions must be"),
        ({"authenticator": None}, "authenticator must be"),
        ({"admin_scope": "an admin"}, "admin_scope must be a scope, for example"),
        ({"admin_scope": ["admin"]}, "admin_scope must be a scope"),
        ({"on_end": plain}, "on_end must be an async .* called with a SessionEntry"),
        ({"on_end": takes_two}, "on_end must be a function that can be called with one argument"),
    ],
)
def test_an_option_that_can_not_work_is_named(options: dict[str, Any], told: str) -> None:
    usual = {"sessions": Sessions(MemoryStore()), "authenticator": authenticator()}
    with pytest.raises(ConfigurationError, match=f"^{told}"):
        SessionsEndpoint(**{**usual, **options})
