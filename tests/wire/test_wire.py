"""What real clients get from real servers.

The second half pins the facts about servers that the package is built on, with apps that have no
middleware: when a new version of a server changes one of them, it shows here.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from frames import Close
from handshakes import mint, now
from servers import Server, all_but, each_server, only, server, usual_but

from asgi_wsauth import DAPHNE_CLOSE_CODES, Reason

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture


@pytest.fixture
def test(server: Server) -> str:
    """The name under which the apps note what happens in this test."""
    return server.new_test()


def fresh_token(**claims: Any) -> str:
    return mint(**{"exp": now() + 300, **claims})


def expired_token() -> str:
    return fresh_token(exp=now() - 300)


# A refusal that the client can see.


def told(server: Server, path: str, tokens: Iterable[str | None]) -> list[Close | None]:
    """How the sockets of all of these tokens are closed."""
    return [seen.close for seen in server.talk_all((path, {"token": token}) for token in tokens)]


EVERY_REFUSAL = [f"deny-{reason.name}" for reason in Reason]


@all_but("daphne")
def test_every_refusal_arrives_as_its_code_and_phrase(server: Server) -> None:
    expected = [(reason.close_code, reason.phrase) for reason in Reason]
    assert told(server, "/guarded", EVERY_REFUSAL) == expected


@only("daphne")
def test_with_its_preset_every_refusal_arrives_from_daphne_without_the_phrase(
    server: Server,
) -> None:
    expected = [(DAPHNE_CLOSE_CODES.get(reason, reason.close_code), "") for reason in Reason]
    assert told(server, "/daphne", EVERY_REFUSAL) == expected


@only("daphne")
def test_without_the_preset_daphne_sends_the_presets_code_where_it_can_not_send_the_tables(
    server: Server,
) -> None:
    server.excuse_trouble()  # the log names the exception that daphne raised, at debug level
    codes = {
        Reason.EXPIRED: 4001,
        Reason.REVOKED: 4004,
        Reason.INVALID: 3000,  # instead of 1008
        Reason.THROTTLED: 4013,  # instead of 1013
        Reason.ERROR: 4011,  # instead of 1011
    }
    seen = told(server, "/guarded", [f"deny-{reason.name}" for reason in codes])
    assert seen == [(code, "") for code in codes.values()]


CAUSES: dict[str, tuple[dict[str, Any], Reason]] = {
    "nothing": ({}, Reason.MISSING),
    "spaces": ({"token": "no verifier knows this"}, Reason.MALFORMED),
    "two different": (
        {"token": "x", "headers": [("Authorization", "Bearer y")]},
        Reason.MALFORMED,
    ),
    "unknown": ({"token": "unknown"}, Reason.INVALID),
    "foreign key": (
        {"token": fresh_token(key="another key, which is long enough.")},
        Reason.INVALID,
    ),
    "expired": ({"token": expired_token()}, Reason.EXPIRED),
    "foreign origin": (
        {"token": "opaque-1", "headers": [("Origin", "https://chat.example")]},
        Reason.ORIGIN,
    ),
    "cookie without origin": ({"headers": [("Cookie", "session=opaque-1")]}, Reason.ORIGIN),
    "verifier raises": ({"token": "boom-1"}, Reason.ERROR),
}


def test_each_cause_arrives_as_its_reason(server: Server) -> None:
    server.excuse_trouble()  # the package logs the traceback of the verifier that raises
    path = "/daphne" if server.name == "daphne" else "/guarded"
    seen = server.talk_all((path, handshake) for handshake, _ in CAUSES.values())
    closes = {cause: one.close for cause, one in zip(CAUSES, seen, strict=True)}
    if server.name == "daphne":
        assert closes == {
            cause: (DAPHNE_CLOSE_CODES.get(reason, reason.close_code), "")
            for cause, (_, reason) in CAUSES.items()
        }
    else:
        assert closes == {
            cause: (reason.close_code, reason.phrase) for cause, (_, reason) in CAUSES.items()
        }


@all_but("daphne")
def test_as_an_http_answer_a_refusal_has_status_body_and_headers(server: Server) -> None:
    answers = server.talk_all(("/http", {"token": token}) for token in EVERY_REFUSAL)
    for reason, seen in zip(Reason, answers, strict=True):
        assert (seen.status, seen.json) == (reason.http_status, {"error": reason.phrase})
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["cache-control"] == "no-store"
        challenge = {Reason.MISSING: "Bearer"}.get(reason, 'Bearer error="invalid_token"')
        expected = challenge if reason.http_status == 401 else None
        assert seen.headers.get("www-authenticate") == expected, reason
        retry_after = "7" if reason is Reason.THROTTLED else None
        assert seen.headers.get("retry-after") == retry_after, reason


@usual_but("daphne")
def test_as_an_http_answer_a_lack_of_scope_says_what_is_needed(server: Server) -> None:
    seen = server.talk("/scopes", token=fresh_token(scope="chat:read"))
    assert (seen.status, seen.json) == (403, {"error": "forbidden"})
    needed = 'Bearer error="insufficient_scope", scope="chat:write"'
    assert seen.headers["www-authenticate"] == needed
    assert server.talk("/scopes", token=fresh_token(scope="chat:write")).report["user"] == "alice"


@only("daphne")
def test_where_the_server_can_give_no_http_answer_the_refusal_is_a_403(server: Server) -> None:
    assert server.talk("/http", token="deny-EXPIRED").status == 403


@each_server
def test_a_close_before_accepting_is_a_bare_403(server: Server) -> None:
    seen = server.talk("/close", token="deny-EXPIRED")
    assert (seen.status, seen.close) == (403, None)
    assert b"expired" not in seen.body


@pytest.mark.parametrize("path", ["/daphne", "/http", "/close"])
def test_a_refused_client_never_reaches_the_app(server: Server, test: str, path: str) -> None:
    server.talk(path, token="deny-EXPIRED", test=test)
    server.talk(path, token="opaque-1", test=f"{test}.admitted")
    assert server.notes(f"{test}.admitted", until="app called")  # later, and yet it is there
    assert "app called" not in server.notes(test, until="released", within=0)


# A good handshake.


WAYS = ["query", "header", "cookie", "subprotocol", "subprotocol-among-others"]


def carrying(token: str, way: str, server: Server) -> dict[str, Any]:
    """The part of a handshake that carries the token this way."""
    match way:
        case "query":
            return {"token": token}
        case "header":
            return {"headers": [("Authorization", f"Bearer {token}")]}
        case "cookie":
            return {"headers": [("Cookie", f"a=1; session={token}"), ("Origin", server.origin)]}
        case "subprotocol":
            return {"subprotocols": ["bearer", token]}
        case _:
            return {"subprotocols": ["chat", "bearer", token, "more"]}


@each_server
def test_a_good_handshake_reaches_the_app_without_its_token_and_messages_flow(
    server: Server,
) -> None:
    tokens = {way: fresh_token(jti=way) for way in WAYS}
    say: list[str | bytes] = ["one", b"\x00two\xff", "üñí"]
    handshakes = [
        ("/guarded", {"keep": "this", "say": say, **carrying(token, way, server)})
        for way, token in tokens.items()
    ]
    for token, seen in zip(tokens.values(), server.talk_all(handshakes), strict=True):
        report = seen.report
        assert (report["user"], report["query"]) == ("alice", "keep=this")
        assert seen.messages[1:] == say
        for text in (report["everything"], json.dumps(report), repr(seen.subprotocol)):
            for piece in (token, quote(token), *token.split(".")[1:]):
                assert piece not in text


@each_server
def test_the_marker_or_the_apps_choice_is_echoed_and_never_the_token(server: Server) -> None:
    token = fresh_token()
    for offered, chosen, echoed, left in (
        (["bearer", token], None, "bearer", ["bearer"]),
        (["chat", "bearer", token], None, "bearer", ["chat", "bearer"]),
        (["bearer", token, "chat"], "chat", "chat", ["chat", "bearer"]),
        (["chat", "bearer", token], "chat", "chat", ["chat", "bearer"]),
    ):
        seen = server.talk("/guarded", subprotocols=offered, choose=chosen)
        assert seen.subprotocol == echoed
        assert seen.report["offered"] == left


@each_server
def test_spaces_in_the_list_of_subprotocols_are_not_part_of_the_token(server: Server) -> None:
    token = fresh_token()
    for offered in (f"chat , bearer\t,\t{token}", f" bearer ,, {token} ,chat"):
        header = ("Sec-WebSocket-Protocol", offered)
        with server.handshake("/guarded", headers=[header]) as tcp:
            answer = b""
            while b"\r\n\r\n" not in answer and (more := tcp.recv(4096)):
                answer += more
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nsec-websocket-protocol: bearer\r\n" in answer.lower()
        assert token.encode() not in answer


@pytest.mark.parametrize("escaped", ["-._~", None])
def test_a_token_in_the_address_may_have_any_escapes(server: Server, escaped: str | None) -> None:
    """Some clients' libraries escape what nobody needs escaped (RFC 3986 section 2.3)."""
    token, begin = fresh_token(jti="escaped"), len(server.log())
    written = "".join(f"%{ord(c):02x}" if c in (escaped or token) else c for c in token)
    seen = server.talk(f"/guarded?token={written}&keep=this")
    assert (seen.report["user"], seen.report["query"]) == ("alice", "keep=this")
    assert written not in server.log_since(begin)


def test_a_refused_client_is_answered_with_the_marker(server: Server) -> None:
    seen = server.talk("/guarded", subprotocols=["bearer", expired_token()])
    assert seen.subprotocol == "bearer"
    assert seen.close is not None and seen.close[0] == 4001


def test_a_client_that_needs_no_subprotocol_for_its_token_is_echoed_only_the_apps_choice(
    server: Server,
) -> None:
    offer = {"token": fresh_token(), "subprotocols": ["chat"]}
    assert server.talk("/guarded", **offer, choose="chat").subprotocol == "chat"
    assert server.talk("/guarded", **offer).subprotocol is None


def test_an_instance_inside_another_with_the_same_authenticator_admits_what_that_admitted(
    server: Server,
) -> None:
    seen = server.talk("/nested/same", subprotocols=["bearer", fresh_token()], say=["hello"])
    assert (seen.report["user"], seen.subprotocol) == ("alice", "bearer")
    assert seen.messages[1:] == ["hello"]


def test_an_instance_inside_another_applies_its_own_scopes_and_codes(server: Server) -> None:
    seen = server.talk("/nested/scopes", token=fresh_token(scope="chat:read"))
    assert seen.close == (4403, "" if server.name == "daphne" else "forbidden")
    admitted = server.talk("/nested/scopes", token=fresh_token(scope="chat:write"))
    assert admitted.report["user"] == "alice"


def test_an_instance_inside_another_with_another_authenticator_verifies_for_itself(
    server: Server, test: str
) -> None:
    token = fresh_token()
    assert server.talk("/nested/other", token=token).report["user"] == "alice"
    seen = server.talk("/nested/other", token=token, key="deny-EXPIRED", test=test)
    assert seen.close is not None and seen.close[0] == 4001
    report = server.talk("/nested/other", token=token, key="opaque-1").report
    assert (report["user"], report["query"]) == ("alice", "")


# While a verifier waits.


@pytest.fixture
def waiting(server: Server, test: str) -> Iterator[socket.socket]:
    """The connection of a handshake whose verifier waits for its test to release it."""
    with server.handshake("/guarded", token="wait", test=test) as tcp:
        server.notes(test, until="verifying")
        yield tcp


def test_after_a_verifier_that_waited_the_app_works_as_ever(
    server: Server, test: str, waiting: socket.socket
) -> None:
    server.release(test)
    assert waiting.recv(12) == b"HTTP/1.1 101"
    notes = server.notes(test, until="app called")
    assert notes == ["verifying", "released", "app called"]


@each_server
@pytest.mark.parametrize("wait", ["for a moment", "until it is released"])
def test_messages_flow_after_a_verifier_that_waited(server: Server, test: str, wait: str) -> None:
    if wait == "for a moment":
        server.release(test)
    with ThreadPoolExecutor(1) as thread:
        talking = thread.submit(
            server.talk, "/guarded", token="wait", test=test, say=["one", b"two", "three"]
        )
        server.notes(test, until="verifying")
        server.release(test)
        seen = talking.result()
    assert seen.report["user"] == "patience"
    assert seen.messages[1:] == ["one", b"two", "three"]


@all_but("granian")
def test_a_client_that_leaves_ends_the_verifiers_work_and_the_app_is_not_called(
    server: Server, test: str, waiting: socket.socket
) -> None:
    start = len(server.log())
    waiting.close()
    notes = server.notes(test, until="verifier cancelled")
    assert notes == ["verifying", "verifier cancelled"]
    server.release(test)
    server.talk("/guarded", token="opaque-1")  # time for an app to be called by mistake
    assert "app called" not in server.notes(test, until="app called", within=0)
    assert "websocket abandoned" in server.log_since(start)


@usual_but("granian")
def test_a_client_that_resets_its_connection_is_one_that_leaves(
    server: Server, test: str, waiting: socket.socket
) -> None:
    _reset(waiting)
    assert server.notes(test, until="verifier cancelled")[-1] == "verifier cancelled"


@only("granian")
def test_granian_tells_of_no_leaving_so_the_deadline_ends_the_verifiers_work(
    server: Server, test: str
) -> None:
    with server.handshake("/hurried", token="wait", test=test):
        server.notes(test, until="verifying")
    assert server.notes(test, until="verifier cancelled") == ["verifying", "verifier cancelled"]
    server.release(test)
    server.talk("/guarded", token="opaque-1")
    assert "app called" not in server.notes(test, until="app called", within=0)


@each_server
def test_a_verifier_that_hangs_is_ended_at_the_deadline(server: Server, test: str) -> None:
    seen = server.talk("/hurried", token="wait", test=test)
    assert seen.close == (4013, "" if server.name == "daphne" else "verifier_unavailable")
    assert server.notes(test, until="verifier cancelled")[-1] == "verifier cancelled"


@each_server
def test_a_client_that_leaves_at_once_after_its_handshake_is_nobodys_error(
    server: Server,
) -> None:
    for token in ("deny-EXPIRED", "opaque-1", "wait"):
        for path in ("/daphne", "/http", "/close", "/hurried"):
            server.handshake(path, token=token, test=server.new_test()).close()
            _reset(server.handshake(path, token=token, test=server.new_test()))
    assert server.talk("/guarded", token="opaque-1", say=["still here"]).messages[1:] == [
        "still here"
    ]


def test_a_client_that_leaves_when_it_was_refused_is_nobodys_error(server: Server) -> None:
    for leave in (socket.socket.close, _reset):
        tcp = server.handshake("/daphne", token="deny-EXPIRED")
        received = b""
        while struct.pack("!H", 4001) not in received:  # the close frame is there
            received += tcp.recv(4096) or pytest.fail(f"no close frame: {received!r}")
        leave(tcp)
    assert server.talk("/guarded", token="opaque-1").report["user"] == "alice"


def _reset(tcp: socket.socket) -> None:
    """Close the connection with a RST, as a client that crashed."""
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp.close()


# Facts: refusing.


@each_server
def test_fact_a_close_before_accept_is_a_403_and_its_code_is_lost(server: Server) -> None:
    seen = server.talk("/bare/close")
    assert (seen.status, seen.close) == (403, None)


def _closed_with(server: Server, codes: Iterable[int]) -> list[Close | None]:
    closes = server.talk_all(("/bare/accept_then_close", {"code": code}) for code in codes)
    return [seen.close for seen in closes]


@all_but("daphne")
def test_fact_after_accept_a_close_has_its_code_and_reason(server: Server) -> None:
    codes = [1000, 1001, 1008, 1011, 1013, 3000, 4001]
    assert _closed_with(server, codes) == [(code, "a reason") for code in codes]


@only("daphne")
def test_fact_daphne_drops_the_reason_and_sends_no_1xxx_code_but_1000(server: Server) -> None:
    server.excuse_trouble()
    arrive = {1000: 1000, 3000: 3000, 4001: 4001, 4999: 4999}
    arrive |= dict.fromkeys((1008, 1011, 1013), 1011)
    assert _closed_with(server, arrive) == [(code, "") for code in arrive.values()]


@all_but("daphne")
def test_fact_an_http_response_arrives_with_status_headers_and_body(server: Server) -> None:
    assert "websocket.http.response" in server.talk("/bare/echo").report["extensions"]
    seen = server.talk("/bare/http_response")
    assert (seen.status, seen.headers["x-why"], seen.body) == (401, "because", b"gone")


@only("daphne")
def test_fact_daphne_offers_no_http_response_and_answers_none(server: Server) -> None:
    assert "websocket.http.response" not in server.talk("/bare/echo").report["extensions"]
    assert _answers_nothing(server, "/bare/http_response")


@all_but("daphne")
def test_fact_an_app_that_returns_without_a_word_is_an_http_error(server: Server) -> None:
    server.excuse_trouble()
    assert server.talk("/bare/return").status == (403 if server.name == "granian" else 500)


@only("daphne")
def test_fact_daphne_answers_nothing_where_the_app_says_nothing(server: Server) -> None:
    assert _answers_nothing(server, "/bare/return")


def _answers_nothing(server: Server, path: str) -> bool:
    with server.handshake(path) as tcp:
        tcp.settimeout(0.5)
        try:
            return not tcp.recv(1)
        except TimeoutError:
            return True


# Facts: before accept.


@all_but("granian")
def test_fact_a_second_receive_waits_and_tells_that_the_client_left(
    server: Server, test: str
) -> None:
    with server.handshake("/bare/second_receive", test=test):
        assert server.notes(test, until="waiting") == ["waiting"]
    left = "websocket.disconnect 1006"
    assert server.notes(test, until=left) == ["waiting", left]
    server.excuse_trouble()  # the app accepts, when there is nobody any more
    server.release(test)


@only("granian")
def test_fact_granian_does_not_tell_that_the_client_left(server: Server, test: str) -> None:
    with server.handshake("/bare/second_receive", test=test):
        assert server.notes(test, until="waiting") == ["waiting"]
    assert server.notes(test, until="websocket.disconnect 1006", within=0.5) == ["waiting"]
    server.excuse_trouble()
    server.release(test)


@each_server
def test_fact_a_cancelled_second_receive_loses_nothing(server: Server, test: str) -> None:
    server.release(test)
    seen = server.talk("/bare/second_receive", test=test, say=["hello"])
    assert seen.messages == ["accepted", "hello"]


@each_server
def test_fact_only_granians_receive_returns_no_coroutine(server: Server, test: str) -> None:
    server.talk("/bare/awaitable", test=test)
    note = f"coroutine: {server.name != 'granian'}"
    assert server.notes(test, until=note) == [note]


# Facts: what is in the scope.


@each_server
def test_fact_only_wsproto_leaves_the_offered_subprotocols_out_of_the_headers(
    server: Server,
) -> None:
    report = server.talk("/bare/echo", subprotocols=["one", "two"], choose="two").report
    assert report["offered"] == ["one", "two"]
    header = [value for name, value in report["headers"] if name == "sec-websocket-protocol"]
    assert header == ([] if server.name == "uvicorn-wsproto" else ["one, two"])


@each_server
def test_fact_only_daphne_joins_repeated_headers(server: Server) -> None:
    names = ["authorization", "cookie", "x-custom"]
    seen = server.talk("/bare/echo", headers=[(name, value) for name in names for value in "ab"])
    for name in names:
        values = [value for header, value in seen.report["headers"] if header == name]
        assert values == (["a,b"] if server.name == "daphne" else ["a", "b"]), name


@each_server
def test_fact_only_the_websockets_library_refuses_two_origins_itself(server: Server) -> None:
    refusing = ("uvicorn-websockets", "uvicorn-sansio")
    two = [("Origin", "https://a.example"), ("Origin", "https://b.example")]
    seen = server.talk("/bare/echo", headers=two)
    assert seen.status == (400 if server.name in refusing else 101)
