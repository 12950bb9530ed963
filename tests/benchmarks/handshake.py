"""What an admitted handshake costs, in process: no server, no network, the app accepts and returns.

All get the same handshake, with the same token in the query string (Litestar's own: in the header),
decode it with the same PyJWT call, and give the app its user. FastAPI and Litestar route as well,
and so they are there without a login, too. What the floor is, `floor` tells. The log is as Python
has it: from WARNING on, and so an admission writes nothing.

Of algorithms with public keys the ratios are higher, because the baseline is cheaper there but for
the signature: PyJWT's `decode` searches an HMAC secret for marks of PEM and SSH keys each time,
which is a third of the time of Starlette's row for HS256, and takes a public key as it is.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from handshakes import ANSWER, CONNECT, SECRET, bearer, drive, mint, now, websocket

from asgi_wsauth import Authenticator, JWTVerifier, VerdictCache, WebSocketAuthMiddleware

from . import users
from .floor import Floor
from .measure import Loop, Row, interleaved

os.environ.setdefault("SECRET", SECRET)  # as `alternatives` wants it

import alternatives
from fastapi import Depends, FastAPI, WebSocket
from litestar import Litestar
from litestar import WebSocket as LitestarWebSocket
from litestar import websocket as litestar_websocket
from litestar.security.jwt import JWTAuth
from starlette.middleware.authentication import AuthenticationMiddleware

App = Callable[[Any, Any, Any], Awaitable[None]]

AS_IT_COMES = "ours, as it comes"
UNGUARDED = "ours, enforce_expiry=False"
CACHED = "ours, with a VerdictCache"
STARLETTE = "Starlette's middleware"
FLOOR = "the floor"

_TARGETS = {AS_IT_COMES: "≤ 1.0", UNGUARDED: "≤ 0.85", CACHED: "≤ 0.6"}

ORIGIN = "https://chat.example"


async def _receive() -> Any:
    return CONNECT


def _leaving() -> Callable[[], Awaitable[Any]]:
    """What receives from a client that connects, and leaves."""
    messages = iter((CONNECT, ANSWER))

    async def receive() -> Any:
        return next(messages)

    return receive


async def _send(message: Any) -> None:
    pass


def handshake_of(
    app: App, token: str | None, *, send: Any = _send, leaves: bool = False, **more: Any
) -> Callable[[], Awaitable[None]]:
    """A call that is one handshake of `app`, as a browser makes it, with the token in the query
    string; as after a server, each has a scope of its own."""
    template = _scope(token, **more)

    def handshake() -> Awaitable[None]:
        scope = {**template, "headers": [*template["headers"]], "subprotocols": [], "state": {}}
        return app(scope, _leaving() if leaves else _receive, send)

    return handshake


def _scope(
    token: str | None, origin: str = ORIGIN, headers: Iterable[tuple[str, str]] = ()
) -> dict[str, Any]:
    query = "room=general" if token is None else f"room=general&token={token}"
    own = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "origin": origin,
        "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "accept-language": "en-GB,en;q=0.5",
        "cookie": "theme=dark; consent=yes",
    }
    return websocket(query, headers=[*own.items(), *headers])


def admitted(loop: Loop, app: App, token: str | None, **more: Any) -> Callable[[], float]:
    """What measures a handshake that is admitted."""
    sent = loop.run(drive(app, _scope(token, **more))).sent
    assert [message["type"] for message in sent] == ["websocket.accept"], sent
    return loop.per_call(handshake_of(app, token, **more))


def refused(loop: Loop, app: App, token: str | None, **more: Any) -> Callable[[], float]:
    """What measures a handshake that is refused."""
    sent = loop.run(drive(app, _scope(token, **more))).sent
    assert sent[-1]["type"] == "websocket.close", sent
    return loop.per_call(handshake_of(app, token, leaves=True, **more))


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """The app of everybody but FastAPI and Litestar, who bring their own."""
    await receive()
    await send({"type": "websocket.accept"})


def all_decode_with(key: Any, algorithm: str) -> None:
    """Have the alternatives decode with this key."""
    alternatives.KEY, alternatives.ALGORITHM = key, algorithm


# The candidates, of one algorithm


def by_hand(user_of: Callable[[str], str]) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        token = parse_qs(scope["query_string"].decode()).get("token", [""])[0]
        try:
            user = user_of(token)
        except jwt.InvalidTokenError:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await accepting({**scope, "user": user}, receive, send)

    return app


def fastapi(*, login: bool = True) -> App:
    app = FastAPI()
    dependencies = [Depends(alternatives.current_user)] if login else []

    @app.websocket("/ws", dependencies=dependencies)
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()

    return app


def litestar(key: Any, algorithm: str, *, login: bool = True) -> App:
    @litestar_websocket("/ws")
    async def chat(socket: LitestarWebSocket) -> None:
        await socket.accept()

    auth = JWTAuth[str](
        retrieve_user_handler=alternatives.retrieve, token_secret=key, algorithm=algorithm
    )
    on_app_init = [auth.on_app_init] if login else []
    return Litestar([chat], on_app_init=on_app_init, openapi_config=None, logging_config=None)


def _keys() -> dict[str, tuple[Any, Any]]:
    """Algorithm -> the key that signs, and the one that verifies, as PyJWT has it at once."""
    private = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    return {
        "HS256": (SECRET, SECRET),
        **{algorithm: (key, key.public_key()) for algorithm, key in private.items()},
    }


def _candidates(
    loop: Loop, key: Any, signing: Any, algorithm: str
) -> dict[str, Callable[[], float]]:
    all_decode_with(key, algorithm)
    token = mint(signing, algorithm=algorithm, exp=now() + 3600, iat=now())
    measure = partial(admitted, loop, token=token)
    by_header = partial(measure, headers=bearer(token))
    own = key if algorithm == "HS256" else pem(key)

    def ours(cache: VerdictCache | None = None, **options: Any) -> Callable[[], float]:
        auth = Authenticator([JWTVerifier(own, algorithms=[algorithm], cache=cache)])
        return measure(WebSocketAuthMiddleware(accepting, auth, **options))

    their_token = users.token(signing, algorithm)
    with_a_user = {
        name: partial(admitted, loop, token=their_token)(app)
        for name, app in users.candidates(key, own, algorithm).items()
    }

    async def decode() -> None:
        alternatives.user_of(token)

    floors = {
        FLOOR: Floor(accepting),
        f"{FLOOR}, no guard": Floor(accepting, guarded=False),
        f"{FLOOR}, its verdict remembered": Floor(accepting, cached=True),
    }
    return {
        AS_IT_COMES: ours(),
        UNGUARDED: ours(enforce_expiry=False),
        CACHED: ours(VerdictCache()),
        STARLETTE: measure(AuthenticationMiddleware(accepting, alternatives.Backend())),
        "a FastAPI dependency": measure(fastapi()),
        "FastAPI, no login": measure(fastapi(login=False)),
        **with_a_user,
        "Litestar's JWTAuth": by_header(litestar(key, algorithm)),
        "Litestar, no login": by_header(litestar(key, algorithm, login=False)),
        "Channels, a token middleware": measure(alternatives.TokenMiddleware(accepting)),
        "by hand, in fifteen lines": measure(by_hand(alternatives.user_of)),
        "the decode alone": loop.per_call(decode),
        "no login": measure(accepting),
        **{name: measure(app) for name, app in floors.items() if algorithm == "HS256"},
    }


def pem(key: Any) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def rows(short: bool) -> Iterator[Row]:
    with Loop(short) as loop:
        for algorithm, (signing, key) in _keys().items():
            yield from interleaved(
                f"handshake, {algorithm}",
                "µs",
                _candidates(loop, key, signing, algorithm),
                STARLETTE,
                1 if short else 40,
                baselines=users.BASELINES,
                targets=_TARGETS if algorithm == "HS256" else {},
            )
