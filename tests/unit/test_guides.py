"""What the guides to credentials, verifiers, refusals, tickets and the login in an app show does
what they say. That each of their blocks runs at all is tested with those of all other pages."""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases
from handshakes import CONNECT, SECRET, App, authenticator, bearer, drive, now, websocket
from http_calls import call, request
from pages import blocks
from sockets import Seat, open_socket, until
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Denied,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.anyio

KEY = "wsk_pL4mN8bV2cX6zQ1wE5rT9yU3iO7aS0dF"
ORIGIN = "https://chat.example"
ALICE = make_jwt(SECRET, "alice", exp=4_000_000_000)
EXPIRED = make_jwt(SECRET, "alice", expires_in=-100)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("API_KEY", KEY)


def defined(guide: str, word: str = "") -> dict[str, Any]:
    """What the guide's first block defines, or the first one with a word in it."""
    names: dict[str, Any] = {}
    exec(next(block for block in blocks(f"docs/guides/{guide}.md") if word in block), names)
    return names


def says(message: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": message}


class Guarded:
    """An app behind a guide's authenticator."""

    def __init__(self, auth: Authenticator, **options: Any) -> None:
        self.app = App()
        self.guard = WebSocketAuthMiddleware(self.app, auth, allow_unguarded_http=True, **options)

    async def user(self, *given: Any, **handshake: Any) -> Any:
        """The user in the app's scope, or the close of who is refused."""
        outcome = await drive(self.guard, websocket(*given, **handshake), [CONNECT])
        return outcome.close or self.app.calls.pop()[0]["user"]


async def test_refusals_pages_get_codes_and_programs_get_statuses() -> None:
    app = defined("refusals")["app"]
    page = await drive(app, websocket(f"token={EXPIRED}", headers=[("origin", ORIGIN)]))
    program = await drive(app, websocket(f"token={EXPIRED}"))
    assert page.close == (4401, "token_expired")
    assert program.sent[0]["status"] == 401


async def test_refusals_each_of_two_sockets_has_its_codes() -> None:
    app = defined("refusals", "/terminal")["app"]
    for path, code in [("/terminal", 4001), ("/chat", 1008)]:
        outcome = await drive(app, websocket(f"token={EXPIRED}", path=path))
        assert outcome.close == (code, "token_expired")


async def test_endings_a_locked_user_loses_the_socket_and_stays_out() -> None:
    names = defined("endings", "LOCKED")
    revocations = Revocations(MemoryStore())

    async def load_user(principal: Principal, conn: object) -> object | None:
        return None if principal.identity in names["LOCKED"] else principal

    auth = authenticator(load_user=load_user, revocations=revocations)
    async with open_socket(WebSocketAuthMiddleware(Seat(), auth), f"token={ALICE}") as socket:
        await names["lock"](revocations, "alice")
        await until(lambda: socket.close)
    assert socket.close == (4004, "token_revoked")
    later = make_jwt(SECRET, "alice", iat=now() + 10, exp=4_000_000_000)
    outcome = await drive(WebSocketAuthMiddleware(App(), auth), websocket(f"token={later}"))
    assert outcome.close == (4004, "token_revoked")


async def test_endings_what_a_route_raises_is_not_turned_into_a_refusal() -> None:
    async def route(scope: Any, receive: Any, send: Any) -> None:
        raise Denied(Reason.UNAVAILABLE, "the store is down")

    guard = HTTPAuthMiddleware(route, authenticator(), allow_unguarded_websockets=True)
    with pytest.raises(Denied) as caught:
        await call(guard, request(headers=bearer(ALICE)))
    assert (caught.value.reason.http_status, caught.value.reason.phrase) == (
        503,
        "verifier_unavailable",
    )


async def test_credentials_only_the_sources_of_the_list_count() -> None:
    guarded = Guarded(defined("credentials")["auth"])
    assert (await guarded.user(headers=bearer(ALICE))).identity == "alice"
    assert (await guarded.user(subprotocols=["bearer", ALICE])).identity == "alice"
    assert await guarded.user(f"token={ALICE}") == (1008, "token_missing")


async def test_credentials_a_cookie_counts_on_pages_of_the_list() -> None:
    guarded = Guarded(defined("credentials", "Cookie(")["auth"])
    cookie = ("cookie", f"login={ALICE}")
    assert (await guarded.user(headers=[cookie, ("origin", ORIGIN)])).identity == "alice"
    foreign = await guarded.user(headers=[cookie, ("origin", "https://evil.example")])
    assert foreign == (1008, "origin_not_allowed")


@cases(
    ("word", "login"),
    [
        ("FirstMessage()", f'{{"type": "auth", "token": "{ALICE}"}}'),
        ("dialect=", f'{{"type": "connection_init", "payload": {{"authToken": "{ALICE}"}}}}'),
    ],
)
async def test_credentials_a_client_logs_in_by_its_first_message(word: str, login: str) -> None:
    auth = defined("credentials", word)["auth"]
    for message, users in [(login, ["alice"]), ('{"type": "hello"}', [])]:
        guarded = Guarded(auth)
        outcome = await drive(guarded.guard, websocket(), [CONNECT, says(message)])
        assert [scope["user"].identity for scope, _, _ in guarded.app.calls] == users
        assert outcome.close == (None if users else (1008, "token_malformed"))


async def test_credentials_a_segment_of_the_path_is_read_and_removed() -> None:
    source = defined("credentials", "class PathSegment")["PathSegment"]()
    guarded = Guarded(Authenticator(defined("credentials")["auth"].verifiers, sources=[source]))
    await drive(guarded.guard, websocket(path=f"/ws/{ALICE}"))
    assert guarded.app.scope["user"].identity == "alice"
    assert guarded.app.scope["path"] == "/ws"


async def test_verifiers_one_endpoint_takes_tokens_and_keys() -> None:
    guarded = Guarded(defined("verifiers")["auth"])
    assert (await guarded.user(headers=bearer(ALICE))).method == "jwt"
    machine = await guarded.user(headers=[("x-api-key", KEY)])
    assert (machine.identity, machine.scopes) == ("billing", ("invoices",))
    assert await guarded.user("token=something") == (1008, "token_invalid")


async def test_verifiers_one_of_ones_own() -> None:
    auth = Authenticator([defined("verifiers", "def legacy_session")["legacy_session"]])
    guarded = Guarded(auth)
    assert (await guarded.user("token=legacy-1")).method == "legacy"
    assert await guarded.user("token=legacy-revoked") == (4004, "token_revoked")
    assert await guarded.user("token=other") == (1008, "token_invalid")


async def test_scope_the_app_greets_its_user_and_can_close() -> None:
    chat = defined("scope")["chat"]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await chat(WebSocket(scope, receive, send))

    guard = WebSocketAuthMiddleware(app, defined("credentials")["auth"], allow_unguarded_http=True)
    handshake = websocket(headers=bearer(ALICE))
    outcome = await drive(guard, handshake, [CONNECT, says("hello"), says("bye")])
    assert outcome.sent[1]["text"] == "alice, until 4000000030.0"
    assert outcome.close == (4004, "token_revoked")


async def test_scope_who_load_user_does_not_know_is_revoked() -> None:
    names = defined("scope", "def load_user")
    guarded = Guarded(names["auth"])
    assert (await guarded.user(f"token={ALICE}"))["name"] == "Alice"
    names["USERS"]["alice"]["is_locked"] = True
    assert await guarded.user(f"token={ALICE}") == (4004, "token_revoked")


async def test_tickets_a_login_buys_one_and_it_opens_one_socket() -> None:
    names = defined("tickets")
    headers = [("cookie", f"login={ALICE}"), ("origin", ORIGIN)]
    answer = await call(names["app"], request("POST", path="/ticket", headers=headers))
    assert (answer.status, answer.json["expires_in"], answer.json["path"]) == (201, 30, None)
    guarded = Guarded(names["sockets"])
    query, page = f"token={answer.json['ticket']}", [("origin", ORIGIN)]
    user = await guarded.user(query, headers=page)
    assert (user.identity, user.method, user.login_method) == ("alice", "ticket", "jwt")
    assert await guarded.user(query, headers=page) == (4001, "token_expired")
    assert await guarded.user(headers=headers) == (1008, "token_missing")  # by the cookie alone


async def test_http_requests_and_sockets_have_one_login_and_a_public_path() -> None:
    app = defined("http")["app"]
    assert (await call(app, request(path="/x"))).json == {"error": "token_missing"}
    assert (await call(app, request(path="/x", headers=bearer(ALICE)))).status == 404
    assert (await call(app, request(path="/health"))).status == 404
    assert (await drive(app, websocket())).close == (1008, "token_missing")
