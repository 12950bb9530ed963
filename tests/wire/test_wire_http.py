"""One policy for HTTP and WebSocket, on real servers: the same request comes to the same decision,
and a ticket that was asked for over HTTP opens one socket.
"""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases
from handshakes import mint, now
from servers import Seen, Server, each_server, server, usual_but

from asgi_wsauth import DAPHNE_CLOSE_CODES, Reason

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture

FOREIGN = "another key, which is long enough."


def fresh_token(**claims: Any) -> str:
    """Good for an hour: some are made when the tests are collected."""
    return mint(**{"exp": now() + 3600, **claims})


# Headers in which ORIGIN stands for the server's own origin, query, and the Reason; None is "in".
REQUESTS: dict[str, tuple[list[tuple[str, str]], dict[str, str], Reason | None]] = {
    "a token in the query": ([], {"token": fresh_token()}, None),
    "a token in a header": ([("Authorization", f"Bearer {fresh_token()}")], {}, None),
    "a token in a cookie": (
        [("Cookie", f"a=1; session={fresh_token()}"), ("Origin", "ORIGIN")],
        {},
        None,
    ),
    "a token among the subprotocols": (
        [("Sec-WebSocket-Protocol", f"bearer, {fresh_token()}")],
        {},
        None,
    ),
    "the same token in two places": (
        [("Authorization", "Bearer opaque-1")],
        {"token": "opaque-1"},
        None,
    ),
    "a token and a bad cookie": ([("Cookie", "session=bad")], {"token": "opaque-1"}, None),
    "an allowed origin": ([("Origin", "ORIGIN")], {"token": "opaque-1"}, None),
    "nothing": ([], {}, Reason.MISSING),
    "another scheme": ([("Authorization", "Basic YWxpY2U6eA==")], {}, Reason.MISSING),
    "an empty token": ([], {"token": ""}, Reason.MISSING),
    "two tokens": ([("Authorization", "Bearer opaque-2")], {"token": "opaque-1"}, Reason.MALFORMED),
    "a token with a space": ([], {"token": "opaque 1"}, Reason.MALFORMED),
    "no token of ours": ([], {"token": "unknown"}, Reason.INVALID),
    "a foreign signature": ([], {"token": fresh_token(key=FOREIGN)}, Reason.INVALID),
    "an expired token": ([], {"token": fresh_token(exp=now() - 300)}, Reason.EXPIRED),
    "an unknown ticket": ([], {"token": "wst_" + 43 * "x"}, Reason.INVALID),
    "a foreign origin": ([("Origin", "https://chat.example")], {"token": "opaque"}, Reason.ORIGIN),
    "the origin null": ([("Origin", "null")], {"token": "opaque-1"}, Reason.ORIGIN),
    "a cookie without an origin": ([("Cookie", "session=opaque-1")], {}, Reason.ORIGIN),
    "a cookie of a foreign page": (
        [("Cookie", "session=opaque-1"), ("Origin", "https://chat.example")],
        {},
        Reason.ORIGIN,
    ),
    "a bad header": ([("Authorization", "Bearer unknown")], {}, Reason.INVALID),
    "a bad subprotocol": (
        [("Sec-WebSocket-Protocol", "bearer, deny-REVOKED")],
        {},
        Reason.REVOKED,
    ),
    "a verifier that breaks": ([], {"token": "boom-1"}, Reason.ERROR),
    **{f"{reason.name}": ([], {"token": f"deny-{reason.name}"}, reason) for reason in Reason},
}


def over_websocket(server: Server, path: str, headers: list[tuple[str, str]], **query: str) -> Seen:
    """The same as a handshake. The client wants to be told of the subprotocols that it offers."""
    offered = [value for name, value in headers if name == "Sec-WebSocket-Protocol"]
    others = [(name, value) for name, value in headers if name != "Sec-WebSocket-Protocol"]
    return server.talk(
        path,
        headers=others,
        subprotocols=[word for value in offered for word in value.split(", ")],
        **query,
    )


def guarded(server: Server) -> str:
    return "/daphne" if server.name == "daphne" else "/guarded"


def refused(server: Server, reason: Reason) -> tuple[int, str]:
    """The close that this refusal is, at `guarded(server)`."""
    if server.name == "daphne":
        return DAPHNE_CLOSE_CODES.get(reason, reason.close_code), ""
    return reason.close_code, reason.phrase


@cases("request_", REQUESTS)
def test_the_same_request_comes_to_the_same_decision(server: Server, request_: str) -> None:
    headers, query, reason = REQUESTS[request_]
    headers = [(n, server.origin if v == "ORIGIN" else v) for n, v in headers]
    if reason is Reason.ERROR:
        server.excuse_trouble()  # the package logs the traceback of what broke
    http = server.ask("GET", "/guarded", headers=headers, **query)
    websocket = over_websocket(server, guarded(server), headers, **query)
    if reason is None:
        assert http.status == 200
        assert http.json["user"] == websocket.report["user"] == "alice"
    else:
        assert (http.status, http.json) == (reason.http_status, {"error": reason.phrase})
        assert websocket.close == refused(server, reason)


def test_that_table_has_every_reason_and_every_source() -> None:
    assert {reason for _, _, reason in REQUESTS.values()} == {None, *Reason}
    assert len(REQUESTS) >= 20


def test_another_sites_page_uses_no_cookie_past_who_judges_no_origin(server: Server) -> None:
    evil = [("cookie", "session=opaque-1"), ("origin", "https://evil.example")]
    cut = [*evil, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]  # a proxy has cut `Upgrade`
    seen = server.ask("GET", "/both/by-header", headers=cut)
    assert (seen.status, seen.json) == (401, {"error": "token_missing"})
    assert server.ask("GET", "/both/by-header", headers=cut, token="opaque-1").status == 200
    close = server.talk("/both/off", headers=evil).close
    assert close is not None
    assert close[0] == DAPHNE_CLOSE_CODES[Reason.MISSING]
    assert server.talk("/both/off", token="opaque-1").report["user"] == "alice"


@each_server
@cases("path", ["/both/socket-first", "/both/http-first"])
def test_both_middlewares_around_one_app_in_either_order(server: Server, path: str) -> None:
    assert server.ask("GET", path, token="opaque-1").json["user"] == "alice"
    assert server.talk(path, token="opaque-1").report["user"] == "alice"
    assert server.ask("GET", path, token="unknown").status == 401
    code = DAPHNE_CLOSE_CODES[Reason.INVALID] if server.name == "daphne" else 1008
    if server.name == "daphne":
        server.excuse_trouble()  # the log names the exception that daphne raised
    close = server.talk(path, token="unknown").close
    assert close is not None
    assert close[0] == code


@each_server
def test_an_http_refusal_has_its_headers(server: Server) -> None:
    for reason, challenge in {
        Reason.MISSING: "Bearer",
        Reason.INVALID: 'Bearer error="invalid_token"',
        Reason.THROTTLED: None,
    }.items():
        seen = server.ask("GET", "/guarded", token=f"deny-{reason.name}")
        assert (seen.status, seen.json) == (reason.http_status, {"error": reason.phrase})
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["cache-control"] == "no-store"
        assert seen.headers.get("www-authenticate") == challenge
        assert seen.headers.get("retry-after") == ("7" if reason is Reason.THROTTLED else None)


@each_server
def test_the_http_app_finds_no_credential(server: Server) -> None:
    for headers, query in (
        ([], {"token": "opaque-in-the-query"}),
        ([("Authorization", "Bearer opaque-in-a-header")], {}),
        ([("Cookie", "a=1; session=opaque-in-a-cookie"), ("Origin", server.origin)], {}),
        ([("Sec-WebSocket-Protocol", "bearer, opaque-in-the-offer")], {}),
    ):
        seen = server.ask("GET", "/guarded", headers=headers, **query, a="kept")
        assert seen.status == 200
        assert "opaque" not in seen.body.decode()
        assert "kept" in seen.body.decode()


ASKING = [("Origin", "https://chat.example"), ("Access-Control-Request-Method", "GET")]


@cases("path", ["/both/http-first", "/guarded", "/mounted/deep", "/cors/none"])
def test_no_app_runs_for_a_preflight(server: Server, path: str) -> None:
    test = server.new_test()
    seen = server.ask("OPTIONS", path, headers=ASKING, token="opaque-preflight", test=test)
    assert (seen.status, seen.body) == (204, b"")
    assert not [name for name in seen.headers if name.startswith("access-control")]
    assert server.ask("OPTIONS", path, test=test).status == 401
    assert server.notes(test, until="app called", within=0) == []


@cases("path", ["/cors/outside", "/cors/inside"])
def test_a_cors_middleware_answers_a_preflight(server: Server, path: str) -> None:
    test = server.new_test()
    seen = server.ask("OPTIONS", path, headers=ASKING, test=test)
    assert (seen.status, seen.headers["access-control-allow-origin"]) == (200, "*")
    assert server.notes(test, until="app called", within=0) == []


def test_a_preflight_that_is_handed_on_loses_its_credential(server: Server) -> None:
    seen = server.ask("OPTIONS", "/preflight/pass", headers=ASKING, token="opaque-preflight")
    assert seen.status == 200
    assert seen.json["user"] is None
    assert "opaque" not in seen.body.decode()


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@cases(
    ("method", "says", "answered"),
    [
        ("GET", LINK, True),
        ("HEAD", LINK, True),
        ("POST", LINK, False),
        ("GET", LINK | {"Sec-Fetch-Dest": "iframe"}, False),
        ("GET", LINK | {"Sec-Purpose": "prefetch"}, False),
        ("GET", LINK | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ("GET", {"Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_a_login_cookie_counts_for_a_link_and_for_no_other_site(
    server: Server, method: str, says: dict[str, str], answered: bool
) -> None:
    given = [("Cookie", "session=opaque-1"), *says.items()]
    assert server.ask(method, "/guarded", headers=given).status == (200 if answered else 403)
    twice = [*given, *list(says.items())[-1:]]
    assert server.ask(method, "/guarded", headers=twice).status == 403


# Tickets.


def ticket_from(server: Server, path: str = "/ticket", **options: Any) -> str:
    headers = [("Authorization", "Bearer opaque-1"), *options.pop("headers", ())]
    seen = server.ask("POST", path, headers=headers, **options)
    assert seen.status == 201, seen
    assert seen.headers["cache-control"] == "no-store"
    answer = seen.json
    assert set(answer) == {"ticket", "expires_in", "path"}
    assert answer["expires_in"] == 30
    ticket: str = answer["ticket"]
    return ticket


@each_server
@cases("path", ["/ticket", "/behind/ticket"])
def test_a_ticket_opens_one_socket(server: Server, path: str) -> None:
    ticket = ticket_from(server, path)
    assert server.talk(guarded(server), token=ticket).report["user"] == "alice"
    close = server.talk(guarded(server), token=ticket).close
    assert close == refused(server, Reason.EXPIRED)  # its page asks for another


def test_of_many_uses_of_one_ticket_at_once_one_is_admitted(server: Server) -> None:
    page = [("Origin", server.origin)]  # is told by a close code, however often it comes
    ticket = ticket_from(server, headers=page)
    seen = server.talk_at_once(40, guarded(server), headers=page, token=ticket)
    assert sorted(s.close is None for s in seen) == [*[False] * 39, True]
    assert {s.close for s in seen} == {None, refused(server, Reason.EXPIRED)}


def test_a_ticket_for_another_path_is_refused_and_gone(server: Server) -> None:
    ticket = ticket_from(server, body=b'{"path": "/nested/same"}')
    tries = [(guarded(server), Reason.INVALID), ("/nested/same", Reason.EXPIRED)]
    for path, reason in tries:
        assert server.talk(path, token=ticket).close == refused(server, reason)
    ticket = ticket_from(server, body=b'{"path": "/nested/same"}')
    assert server.talk("/nested/same", token=ticket).report["user"] == "alice"


def test_a_ticket_is_for_the_pages_of_the_origin_that_asked(server: Server) -> None:
    page = [("Origin", server.origin)]
    ticket = ticket_from(server, headers=page)
    assert server.talk(guarded(server), headers=page, token=ticket).report["user"] == "alice"
    ticket = ticket_from(server, headers=page)
    close = server.talk(guarded(server), token=ticket).close
    assert close == refused(server, Reason.INVALID)


def test_a_foreign_origin_burns_no_ticket(server: Server) -> None:
    ticket = ticket_from(server)
    foreign = [("Origin", "https://chat.example")]
    close = server.talk(guarded(server), headers=foreign, token=ticket).close
    assert close == refused(server, Reason.ORIGIN)
    assert server.talk(guarded(server), token=ticket).report["user"] == "alice"


def test_a_ticket_buys_no_ticket(server: Server) -> None:
    headers = [("Authorization", f"Bearer {ticket_from(server)}")]
    seen = server.ask("POST", "/ticket", headers=headers)
    assert (seen.status, seen.json) == (403, {"error": "forbidden"})


def test_only_post_is_answered(server: Server) -> None:
    seen = server.ask("GET", "/ticket", token="opaque-1")
    assert (seen.status, seen.headers["allow"]) == (405, "POST")
    assert seen.json == {"error": "token_malformed"}


@usual_but("daphne")
def test_a_large_body_is_refused_unread(server: Server) -> None:
    """The client announces it, and waits for the answer before it sends any of it. (Daphne calls
    no app before it has all of a body.)"""
    announced = [("Authorization", "Bearer opaque-1"), ("Content-Length", "4097")]
    seen = server.ask("POST", "/ticket", headers=announced)
    assert (seen.status, seen.json) == (413, {"error": "token_malformed"})
