"""What users' own tests can rely on: `as_principal`, `make_jwt`, and what a test client shows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cases import cases
from handshakes import NOW, SECRET, Clock, authenticator, jwt_verifier
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from asgi_wsauth import (
    Authenticator,
    ConfigurationError,
    ConnectionLimit,
    FirstMessage,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    QueryParam,
    Reason,
    Revocations,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import as_principal, make_jwt

ALICE = Principal("alice", scopes=["chat"])


async def chat(websocket: Any) -> None:
    await websocket.accept()
    websocket.user.mark = "as an app may do"
    await websocket.send_json([websocket.user.identity, websocket.url.query])
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def me(request: Any) -> JSONResponse:
    return JSONResponse([request.user.identity, request.url.query])


def client(auth: Authenticator, **options: Any) -> TestClient:
    """A client of an app that has `auth` in front of HTTP and WebSocket."""
    site = Starlette(routes=[Route("/me", me), WebSocketRoute("/chat", chat)])
    return TestClient(HTTPAuthMiddleware(WebSocketAuthMiddleware(site, auth, **options), auth))


def refusal(test_client: TestClient, path: str = "/chat") -> tuple[int, str]:
    """How a socket was closed, before the app said anything."""
    with (
        test_client.websocket_connect(path) as socket,
        pytest.raises(WebSocketDisconnect) as caught,
    ):
        socket.receive_json()
    return caught.value.code, caught.value.reason


class TestAsPrincipal:
    @cases("query", ["", "?token=rubbish", "?token=a&token=b"])
    def test_everybody_is_the_principal_whatever_they_bring(self, query: str) -> None:
        auth = authenticator()
        with as_principal(auth, ALICE):
            with client(auth).websocket_connect(f"/chat{query}") as socket:
                assert socket.receive_json() == ["alice", ""]
            assert client(auth).get(f"/me{query}").json() == ["alice", ""]

    def test_it_ends_with_the_block(self) -> None:
        auth = authenticator()
        before = dict(vars(auth))
        with pytest.raises(ZeroDivisionError), as_principal(auth, ALICE):
            raise ZeroDivisionError
        assert vars(auth) == before
        assert refusal(client(auth)) == (1008, "token_missing")
        assert client(auth).get("/me").status_code == 401

    def test_blocks_go_inside_each_other(self) -> None:
        auth = authenticator()
        with as_principal(auth, ALICE):
            with as_principal(auth, Principal("bob")):
                assert client(auth).get("/me").json()[0] == "bob"
            assert client(auth).get("/me").json()[0] == "alice"

    def test_each_connection_has_a_principal_of_its_own(self) -> None:
        auth = authenticator()
        with as_principal(auth, ALICE), client(auth).websocket_connect("/chat") as socket:
            socket.receive_json()
        assert not hasattr(ALICE, "mark")

    def test_neither_origin_nor_throttle_nor_the_switch_is_asked(self) -> None:
        auth = authenticator(
            allowed_origins=["https://chat.example"],
            required=lambda: False,
            anonymous=Principal("somebody"),
        )
        with as_principal(auth, ALICE):
            answer = client(auth).get("/me", headers={"origin": "https://evil.example"})
            assert answer.json()[0] == "alice"

    def test_nobody_has_to_send_a_first_message(self) -> None:
        auth = authenticator(sources=[QueryParam(), FirstMessage()])
        with as_principal(auth, ALICE), client(auth).websocket_connect("/chat") as socket:
            assert socket.receive_json()[0] == "alice"

    def test_required_scopes_still_count(self) -> None:
        auth = authenticator()
        app = client(auth, required_scopes=["admin"])
        with as_principal(auth, ALICE):
            assert refusal(app) == (1008, "forbidden")

    def test_load_user_is_asked(self) -> None:
        async def load_user(principal: Principal, conn: Any) -> Principal | None:
            return None if principal.identity == "bob" else Principal(principal.identity.upper())

        auth = authenticator(load_user=load_user)
        with as_principal(auth, ALICE):
            assert client(auth).get("/me").json()[0] == "ALICE"
        with as_principal(auth, Principal("bob")):
            assert refusal(client(auth)) == (4004, "token_revoked")

    def test_a_login_that_ends_still_ends_the_socket(self) -> None:
        clock = Clock()
        auth = authenticator(clock=clock)
        with as_principal(auth, Principal("alice", expires_at=clock() - 1)):
            assert refusal(client(auth)) == (4001, "token_expired")

    def test_a_socket_can_be_refreshed_as_another_principal_of_the_same_name(self) -> None:
        auth = authenticator()
        app = client(auth, refresh_message="auth.refresh")
        login, later = (Principal("alice", expires_at=NOW + left) for left in (60, 600))
        refresh = {"type": "auth.refresh", "token": "x"}
        with app, as_principal(auth, login), app.websocket_connect("/chat") as socket:
            socket.receive_json()
            with as_principal(auth, later):
                socket.send_json(refresh)
                told = {"type": "auth.refresh.ok", "expires_at": NOW + 600}
                assert socket.receive_json() == told
            with as_principal(auth, Principal("bob")):
                socket.send_json(refresh)
                with pytest.raises(WebSocketDisconnect) as caught:
                    socket.receive_json()
        assert (caught.value.code, caught.value.reason) == (1008, "forbidden")

    def test_revocations_and_limits_still_count(self) -> None:
        store = MemoryStore()
        auth = authenticator(revocations=Revocations(store))
        app = client(auth, connection_limit=ConnectionLimit(1, store))
        # `with app`: all in one event loop
        with app, as_principal(auth, ALICE), app.websocket_connect("/chat") as socket:
            socket.receive_json()
            assert refusal(app) == (1013, "too_many_connections")
            app.portal.call(auth.revocations.revoke_user, "alice")
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_json()
        assert (caught.value.code, caught.value.reason) == (4004, "token_revoked")


class TestMakeJwt:
    def test_a_verifier_takes_it(self) -> None:
        token = make_jwt(
            SECRET, "bob", scopes=["chat", "admin"], clock=lambda: NOW, aud="chat", jti="7"
        )
        auth = authenticator(jwt_verifier(audience="chat"))
        assert client(auth).get("/me", params={"token": token}).json()[0] == "bob"
        claims = jwt.decode(
            token, SECRET, ["HS256"], {"verify_exp": False, "verify_iat": False}, audience="chat"
        )
        assert {name: claims[name] for name in ("scope", "aud", "jti")} == {
            "scope": "chat admin",
            "aud": "chat",
            "jti": "7",
        }

    def test_it_may_have_an_issuer(self) -> None:
        token = make_jwt(SECRET, issuer="https://id.example", clock=lambda: NOW)
        assert jwt.decode(token, options={"verify_signature": False})["iss"] == "https://id.example"
        auth = authenticator(jwt_verifier(issuer="https://id.example"))
        assert client(auth).get("/me", params={"token": token}).status_code == 200
        assert client(auth).get("/me", params={"token": make_jwt(SECRET)}).status_code == 401

    def test_it_may_have_an_audience(self) -> None:
        token = make_jwt(SECRET, audience="chat", clock=lambda: NOW)
        assert jwt.decode(token, options={"verify_signature": False})["aud"] == "chat"
        auth = authenticator(jwt_verifier(audience="chat"))
        assert client(auth).get("/me", params={"token": token}).status_code == 200
        assert client(auth).get("/me", params={"token": make_jwt(SECRET)}).status_code == 401

    def test_it_expires(self) -> None:
        auth = authenticator(jwt_verifier())
        token = make_jwt(SECRET, expires_in=-60, clock=lambda: NOW)
        assert refusal(client(auth), f"/chat?token={token}") == (4001, "token_expired")
        token = make_jwt(SECRET, expires_in=5, clock=lambda: 1000.7)
        unverified = jwt.decode(token, options={"verify_signature": False})
        assert unverified == {"sub": "alice", "iat": 1000, "exp": 1005}

    def test_claims_can_be_left_out_or_set(self) -> None:
        token = make_jwt(SECRET, None, exp=None, iat=5)
        assert jwt.decode(token, SECRET, ["HS256"]) == {"iat": 5}

    def test_it_names_its_key_and_its_algorithm(self) -> None:
        key = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVzrF3vN8wq0ZtL6yJ2sXk9Bd4H"
        assert jwt.get_unverified_header(make_jwt(key, algorithm="HS512", key_id="k1")) == {
            "alg": "HS512",
            "kid": "k1",
            "typ": "JWT",
        }
        assert "kid" not in jwt.get_unverified_header(make_jwt(SECRET))

    def test_an_unsigned_one_needs_no_key(self) -> None:
        assert jwt.get_unverified_header(make_jwt(None, algorithm="none"))["alg"] == "none"

    @cases("key", [None, Path("key.pem")])
    def test_what_only_leads_to_a_key_is_named(self, key: object) -> None:
        with pytest.raises(ConfigurationError, match=r"^key must be a secret or a private key, "):
            make_jwt(key)

    def test_one_string_is_no_list_of_scopes(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^scopes must be a list, got one string"):
            make_jwt(SECRET, scopes="chat")

    def test_its_time_is_now(self) -> None:
        issued = jwt.decode(make_jwt(SECRET), SECRET, ["HS256"])["iat"]
        assert abs(issued - time.time()) < 60


def test_what_starlettes_client_shows_of_a_refusal() -> None:
    """It tells the code of a close before the accept, which no server passes on (tests/wire
    shows what servers make of it). If that changes, the note in `asgi_wsauth.testing` must, too."""
    auth = authenticator()
    reason = Reason.MISSING
    assert refusal(client(auth)) == (reason.close_code, reason.phrase)
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        client(auth, rejection="close").websocket_connect("/chat"),
    ):
        raise AssertionError("it was accepted")
    assert caught.value.code == reason.close_code
