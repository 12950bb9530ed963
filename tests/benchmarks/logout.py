"""What a logout costs that the identity provider reports: a logout token, posted to a
`LogoutEndpoint`, and to an endpoint by hand, both behind a Starlette route. Ours also remembers the
token and the logout, so that neither comes again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from handshakes import SECRET, now
from http_calls import request, sends
from live_crowd import listens
from logouts import FORM, ISSUER, LOGOUT, logout_token
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asgi_wsauth import (
    Authenticator,
    JWTVerifier,
    LogoutEndpoint,
    MemoryStore,
    Principal,
    Revocations,
    WebSocketAuthMiddleware,
)

from .crowd import ByHand, Crowd
from .handshake import pem
from .measure import Loop, Row, interleaved

_BATCH = 50  # tokens
_CLOSED = 20  # users who are logged out one after the other


class _Site:
    """Sockets, and where their users' logouts are reported."""

    def __init__(self, app: Any, endpoint: Any) -> None:
        self.crowd = Crowd(app)
        self._endpoint = Starlette(routes=[Route("/logout", endpoint, methods=["POST"])])

    async def report(self, bodies: list[bytes]) -> float:
        """CPU time of these requests, in seconds."""
        posts = [_post(self._endpoint, body) for body in bodies]
        begin = time.process_time()
        answers = [await post() for post in posts]
        taken = time.process_time() - begin
        assert answers == [200] * len(bodies), answers
        return taken

    async def close(self, users: list[str], bodies: list[bytes]) -> float:
        """CPU time until these users' apps have ended, one user after the other, in seconds."""
        await self.crowd.enter(users)
        gone = self.crowd.gone.value
        posts = [_post(self._endpoint, body) for body in bodies]
        begin = time.process_time()
        for number, post in enumerate(posts, 1):
            await post()
            await self.crowd.gone.reaches(gone + number)
        return time.process_time() - begin


def _post(app: Any, body: bytes) -> Callable[[], Any]:
    """A call that posts this, and returns the status."""
    scope = request("POST", path="/logout", headers=[FORM])
    receive = sends(body)

    async def post() -> int:
        status = 0

        async def send(message: Any) -> None:
            nonlocal status
            status = status or message["status"]

        await app(scope, receive, send)
        return status

    return post


def _ours(key: Any, algorithm: str) -> _Site:
    revocations = Revocations(MemoryStore())
    auth = Authenticator([_login], revocations=revocations)
    own = key if algorithm == "HS256" else pem(key)
    verifier = JWTVerifier(own, algorithms=[algorithm], issuer=ISSUER, audience="chat")
    return _Site(WebSocketAuthMiddleware(listens, auth), LogoutEndpoint(revocations, verifier))


async def _login(credential: Any, conn: Any) -> Principal:
    return Principal(
        credential.value, issuer=ISSUER, issued_at=now() - 60, expires_at=now() + 36000
    )


def _by_hand(key: Any, algorithm: str) -> _Site:
    app = ByHand()

    async def logout(request: Request) -> Response:
        form = await request.form()
        try:
            claims = jwt.decode(
                str(form["logout_token"]),
                key,
                [algorithm],
                audience="chat",
                issuer=ISSUER,
                options={"require": ["aud", "exp", "iat", "iss", "jti", "sub"]},
            )
        except (KeyError, jwt.InvalidTokenError):
            return JSONResponse({"error": "invalid_request"}, 400)
        if LOGOUT not in claims.get("events", {}) or "nonce" in claims:
            return JSONResponse({"error": "invalid_request"}, 400)
        await app.end_others(claims["sub"], keep="")
        return Response(headers={"cache-control": "no-store"})

    return _Site(app, logout)


_MAKERS = {"by hand": _by_hand, "ours": _ours}

_ids = count()


def _bodies(users: list[str], key: Any, algorithm: str) -> list[bytes]:
    """Requests that log them out."""
    issued = {"iat": now(), "exp": now() + 115}
    tokens = [
        logout_token(None, key, algorithm=algorithm, sub=user, jti=f"{next(_ids)}", **issued)
        for user in users
    ]
    return [urlencode({"logout_token": token}).encode() for token in tokens]


def rows(short: bool) -> Iterator[Row]:
    """In memory, without a network."""
    size, rounds = (500, 1) if short else (10_000, 20)
    logging.getLogger("asgi_wsauth").setLevel(logging.CRITICAL)
    private = rsa.generate_private_key(65537, 2048)
    keys = {"HS256": (SECRET, SECRET), "RS256": (private, private.public_key())}
    numbers = count()
    with Loop(short) as loop:

        def told(site: _Site, signing: Any, algorithm: str) -> float:
            users = [f"nobody{next(numbers)}" for _ in range(_BATCH)]
            bodies = _bodies(users, signing, algorithm)
            return float(loop.run(site.report(bodies))) / _BATCH * 1e6

        def closed(site: _Site) -> float:
            users = [f"guest{next(numbers)}" for _ in range(_CLOSED)]
            bodies = _bodies(users, SECRET, "HS256")
            return float(loop.run(site.close(users, bodies))) / _CLOSED * 1e6

        for algorithm, (signing, key) in keys.items():
            sites = {name: make(key, algorithm) for name, make in _MAKERS.items()}
            measures = {
                name: partial(told, site, signing, algorithm) for name, site in sites.items()
            }
            title = f"logout, a token, {algorithm}"
            yield from interleaved(title, "µs", measures, "by hand", rounds)
        sites = {name: make(SECRET, "HS256") for name, make in _MAKERS.items()}
        for site in sites.values():
            loop.run(site.crowd.enter([f"user{number}" for number in range(size)]))
        measures = {name: partial(closed, site) for name, site in sites.items()}
        title = f"logout, one that closes one of {size:,} sockets, until its app has ended"
        yield from interleaved(title, "µs", measures, "by hand", rounds)
