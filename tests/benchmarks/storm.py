"""Everybody comes at once, after a deploy, and the issuer's keys are not there yet.

The issuer is a process of its own. Handshakes are in process, all begun before the first goes on:
how long until the last one is admitted, how often the issuer was asked, and how long the event loop
could do nothing else. The timeouts are long, so that a slow machine admits everybody as well.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import jwt
from anyio import to_thread
from handshakes import now
from issuer import issuing

from asgi_wsauth import JWKS, Authenticator, JWTVerifier, WebSocketAuthMiddleware

from .handshake import App, accepting, handshake_of
from .measure import Loop, Row, compared, in_turns

_OURS = "ours"
_THREADS = "PyJWKClient in threads"

_FIGURES = (
    ("until all are admitted", "s", _THREADS, ""),
    ("fetches of the keys", "", None, "≤ 1"),
    ("longest hold-up of the loop", "ms", _THREADS, ""),
)


class _Storm(NamedTuple):
    """What each of `_FIGURES` was."""

    seconds: float
    fetches: float
    held_up: float


def rows(short: bool) -> Iterator[Row]:
    count = 200 if short else 5000
    with _issuer() as issuer, Loop(short) as loop:
        url, token = issuer.recv()

        def storm(make: Callable[[str], App]) -> Callable[[], _Storm]:
            def once() -> _Storm:
                seconds, held_up = loop.run(_at_once(make(url), token, count))
                issuer.send("count")
                return _Storm(seconds, issuer.recv(), held_up * 1000)

            return once

        candidates = {_OURS: storm(_ours), _THREADS: storm(_in_threads)}
        storms = in_turns(candidates, 1 if short else 5, warm_up=0 if short else 1)
    for number, (what, unit, baseline, target) in enumerate(_FIGURES):
        figures = {name: [storm[number] for storm in of_it] for name, of_it in storms.items()}
        group = f"storm of {count:,}, {what}"
        yield from compared(group, unit, figures, baseline, targets={_OURS: target})


async def _at_once(app: App, token: str, count: int) -> tuple[float, float]:
    """Seconds until so many handshakes are admitted, and the longest hold-up of the loop."""
    accepted = []

    async def send(message: Any) -> None:
        assert message["type"] == "websocket.accept", message
        accepted.append(message)

    handshake = handshake_of(app, token, send=send)
    begin = time.perf_counter()
    watching = asyncio.create_task(_longest_hold_up())
    await asyncio.gather(*(handshake() for _ in range(count)))
    lasted = time.perf_counter() - begin
    assert len(accepted) == count
    watching.cancel()
    return lasted, await watching


async def _longest_hold_up() -> float:
    """How late the loop was at worst with what it had to do every millisecond, until cancelled."""
    worst, last = 0.0, time.perf_counter()
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(0.001)
            worst, last = max(worst, time.perf_counter() - last), time.perf_counter()
    return max(worst, time.perf_counter() - last)


# The candidates. Nobody has the keys yet.


def _ours(url: str) -> App:
    verifier = JWTVerifier(JWKS(url, timeout=60), algorithms=["ES256"])
    return WebSocketAuthMiddleware(accepting, Authenticator([verifier], timeout=60))


def _in_threads(url: str) -> App:
    os.environ["no_proxy"] = "127.0.0.1"  # it would ask a proxy for this machine, too
    client = jwt.PyJWKClient(url)

    def user_of(token: str) -> str:
        key = client.get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, ["ES256"], options={"require": ["exp", "sub"]})
        return str(claims["sub"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        token = parse_qs(scope["query_string"].decode())["token"][0]
        user = await to_thread.run_sync(user_of, token)
        await accepting({**scope, "user": user}, receive, send)

    return app


# The issuer


@contextmanager
def _issuer() -> Iterator[Connection]:
    """A process that says where its keys are, with a token, and then, whenever it is asked, how
    often it gave its keys since it was asked last."""
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_issue, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join(10)
        process.kill()


def _issue(pipe: Connection) -> None:
    with issuing() as issuer, suppress(EOFError, KeyboardInterrupt):
        issuer.add_key("1")
        pipe.send((f"{issuer.url}/jwks", issuer.token("1", exp=now() + 3600)))
        told = 0
        while pipe.recv():
            counted = issuer.count("/jwks")
            pipe.send(counted - told)
            told = counted
