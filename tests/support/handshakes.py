"""Hand-built handshakes, and the one helper that drives an app with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
import jwt
from starlette.requests import HTTPConnection

from asgi_wsauth import Authenticator, Credential, Denied, JWTVerifier, Principal, Reason

SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
NOW = 1_800_000_000.0  # the clock that is handed to whatever is under test

CONNECT = {"type": "websocket.connect"}
ANSWER = {"type": "websocket.disconnect", "code": 1005}  # a client's, to a close

A_JWT = r"eyJ[\w-]+\."  # in a log: random ids may have its first three characters


def mint(key: Any = SECRET, *, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    """A good token at NOW, with `claims` over its own; a claim that is None is left out."""
    claims = {"sub": "alice", "exp": int(NOW) + 300, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


def jwt_verifier(key: Any = SECRET, **options: Any) -> JWTVerifier:
    return JWTVerifier(key, **{"algorithms": ["HS256"], "clock": lambda: NOW, **options})


def authenticator(*verifiers: Any, **options: Any) -> Authenticator:
    """An authenticator with these verifiers, or one for tokens of `mint()`, at NOW."""
    return Authenticator(verifiers or [jwt_verifier()], **{"clock": lambda: NOW, **options})


def websocket(
    query: str | bytes = b"",
    *,
    path: str = "/ws",
    headers: Iterable[tuple[str, str]] = (),
    subprotocols: Iterable[str] = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    **more: Any,
) -> dict[str, Any]:
    """The scope of a handshake, as a server with all extensions would build it."""
    offered = list(subprotocols)
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    if offered:
        pairs.append((b"sec-websocket-protocol", ", ".join(offered).encode()))
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 8000),
        "client": client,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode() if isinstance(query, str) else query,
        "headers": [(b"host", b"chat.example"), *pairs],
        "subprotocols": offered,
        "state": {},
        "extensions": {"websocket.http.response": {}},
        **more,
    }


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@dataclass
class Outcome:
    """What a driven app did."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    received: int = 0

    @property
    def accepted(self) -> bool:
        return bool(self.sent) and self.sent[0]["type"] == "websocket.accept"

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the one close; None where there was none."""
        closes = [message for message in self.sent if message["type"] == "websocket.close"]
        assert len(closes) < 2, closes
        return (closes[0]["code"], closes[0]["reason"]) if closes else None


async def drive(
    app: Callable[..., Any],
    scope: dict[str, Any],
    incoming: Iterable[dict[str, Any]] = (CONNECT,),
    *,
    receive: Callable[..., Any] | None = None,
) -> Outcome:
    """Run `app` on one scope with these messages; receiving one more is an error, but for the
    client's answer to a close."""
    outcome = Outcome()
    messages = iter(incoming)

    async def receive_next() -> dict[str, Any]:
        outcome.received += 1
        return next(messages)

    async def receive_or_answer() -> Any:
        if outcome.accepted and outcome.close:
            return ANSWER
        return await (receive or receive_next)()

    async def send(message: dict[str, Any]) -> None:
        outcome.sent.append(message)

    await app(scope, receive_or_answer, send)
    return outcome


class App:
    """An app that keeps what it was handed, accepts, and returns."""

    def __init__(self, accept: dict[str, Any] | None = None) -> None:
        self.calls: list[tuple[dict[str, Any], Any, Any]] = []
        self.accept = accept or {"type": "websocket.accept"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append((scope, receive, send))
        if scope["type"] == "websocket":
            assert await receive() == CONNECT
            await send(dict(self.accept))

    @property
    def scope(self) -> dict[str, Any]:
        """The scope of the one call there was."""
        ((scope, _, _),) = self.calls
        return scope


class Knows:
    """A verifier that knows some values, and remembers what it was asked."""

    def __init__(self, **known: Any) -> None:
        self.known = known
        self.asked: list[str] = []

    async def __call__(self, credential: Credential, conn: HTTPConnection) -> Principal | None:
        self.asked.append(credential.value)
        answer = self.known.get(credential.value)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Clock:
    """Stands still until a test moves it."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def connected() -> Callable[[], Any]:
    """What a client says that connects and stays."""
    messages = iter([CONNECT])

    async def receive() -> Any:
        for message in messages:
            return message
        return await anyio.sleep_forever()

    return receive


async def judged(verifier: Any, presented: str) -> Principal | None:
    """What a verifier makes of a credential."""
    result: Principal | None = await verifier(Credential(presented), HTTPConnection(websocket()))
    return result


async def judge(verifier: Any, presented: str, **handshake: Any) -> Principal | Reason | None:
    """The principal, the reason of the refusal, or None for "not mine"."""
    conn = HTTPConnection(websocket(**handshake))
    try:
        principal: Principal | None = await verifier(Credential(presented), conn)
        return principal
    except Denied as denied:
        assert presented not in str(denied)
        return denied.reason


async def admits(verifier: Any, presented: str, **handshake: Any) -> bool:
    return isinstance(await judge(verifier, presented, **handshake), Principal)


async def nobody(credential: Any, conn: Any) -> Principal | None:
    """A verifier that claims nothing."""
    return None


def now() -> int:
    """The real time, for tokens that another process judges."""
    return int(time.time())
