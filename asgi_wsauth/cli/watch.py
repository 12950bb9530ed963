"""Watches how sockets end: when their token expires, and after a revocation. Needs the extra `cli`.

endings.py judges an `End`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Literal

import anyio
import jwt

from asgi_wsauth.cli.probe import Seen, connect_as
from asgi_wsauth.cli.target import Case, Target

__all__ = ["End", "Ran", "Watch", "watch_ends"]

_SPARE = 0.5  # seconds before its expiry at which a token must have been judged
_CLAIMS = {"identity": "sub", "jti": "jti", "sid": "sid", "issuer": "iss"}


@dataclass(frozen=True)
class Watch:
    """Which ends are watched, and for how long.

    Attributes:
        sign: makes a good token, with these claims besides; None without the key.
        token: a good token, for the revocation; a new one is signed if there is a key.
        leeway: of the endpoint, in seconds.
        seconds: for which a socket is watched after it should have closed; 0 to watch none.
        command: a line for the shell that revokes the token, or None.
        longest: seconds that it may run.
        lifetimes: seconds that a token is good for; the next one if a handshake takes longer.
    """

    sign: Callable[..., str] | None = None
    token: str | None = None
    leeway: float = 30.0
    seconds: float = 10.0
    command: str | None = None
    longest: float = 60.0
    lifetimes: tuple[int, ...] = (3, 6, 12)

    @property
    def ends(self) -> int:
        """How many are watched."""
        return (self.sign is not None and self.seconds > 0) + (self.command is not None)


@dataclass(frozen=True)
class Ran:
    """The command that ran.

    Attributes:
        seconds: that it took.
        status: its exit status, negative for a signal; None if it had to be ended.
        ended: Unix time of its end.
    """

    seconds: float
    status: int | None
    ended: float


@dataclass(frozen=True)
class End:
    """How a socket ended, or that it didn't.

    Attributes:
        cause: why it should have.
        seen: what its client saw.
        due: Unix time of the token's `exp`, or of the command's end; None if the command didn't
            run, because the socket was closed before.
        leeway: seconds after `due` until which it is in time.
        command: the one that revoked the token.
    """

    cause: Literal["expiry", "revocation"]
    seen: Seen
    due: float | None
    leeway: float = 0.0
    command: Ran | None = None

    @property
    def after(self) -> float | None:
        """Seconds from `due` until it closed, or until it was no longer watched; negative if it was
        before, None without `due`."""
        return None if self.due is None else self.seen.until - self.due


async def watch_ends(target: Target, watch: Watch) -> AsyncIterator[End]:
    """Open the sockets, one after the other, and wait for their ends.

    Raises:
        Unreachable: no connection could be made.
    """
    if watch.sign is not None and watch.seconds > 0:
        yield await _expiry(target, watch, watch.sign, watch.lifetimes)
    if watch.command is not None:
        yield await _revocation(target, watch, watch.command)


async def _expiry(
    target: Target, watch: Watch, sign: Callable[..., str], lifetimes: Sequence[int]
) -> End:
    lifetime, *longer = lifetimes
    expires = int(time.time()) + lifetime
    last = expires + watch.leeway + watch.seconds

    async def enough() -> None:
        await anyio.sleep(max(0.0, last - time.time()))

    seen = await connect_as(target, _case(target, sign(exp=expires, **_new())), enough)
    if longer and (seen.opened or time.time()) >= expires - _SPARE:
        return await _expiry(target, watch, sign, longer)
    return End("expiry", seen, expires, watch.leeway)


async def _revocation(target: Target, watch: Watch, command: str) -> End:
    if watch.sign is not None:
        token = watch.sign(expires_in=300 + watch.seconds, **_new())
    else:
        token = watch.token or ""
    ran: list[Ran] = []

    async def enough() -> None:
        await anyio.sleep(target.patience)
        ran.append(await _run(command, _environment(token, watch.token or token), watch.longest))
        await anyio.sleep(watch.seconds)

    seen = await connect_as(target, _case(target, token), enough)
    done = ran[0] if ran else None
    return End("revocation", seen, done.ended if done else None, command=done)


def _new() -> dict[str, str]:
    return {"jti": f"probe-{token_hex(8)}", "sid": f"probe-{token_hex(8)}"}


def _case(target: Target, token: str) -> Case:
    return Case("end", "end", (token,), None, target.origin, target.offered)


def _environment(token: str, given: str) -> dict[str, str]:
    """The environment of the command: whose token it is, but never a token."""
    inherited = {
        name: text for name, text in os.environ.items() if token not in text and given not in text
    }
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        claims = {}
    told = {name: claims.get(claim) for name, claim in _CLAIMS.items()}
    return inherited | {
        f"WSAUTH_{name.upper()}": str(value)
        for name, value in told.items()
        if isinstance(value, (str, int)) and str(value).isprintable()
    }


async def _run(command: str, environment: dict[str, str], longest: float) -> Ran:
    """Run it to its end, even if the socket closes before; its output goes to stderr."""
    started = time.time()
    status = None
    with anyio.CancelScope(shield=True):
        process = await anyio.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            env=environment,
            start_new_session=True,
        )
        try:
            with anyio.move_on_after(longest):
                status = await process.wait()
        finally:
            if status is None:
                _kill(process.pid)
        await process.wait()
    ended = time.time()
    return Ran(ended - started, status, ended)


def _kill(group: int) -> None:
    """End a command, and where there are groups of processes, all that it started."""
    with suppress(ProcessLookupError):
        getattr(os, "killpg", os.kill)(group, getattr(signal, "SIGKILL", signal.SIGTERM))
