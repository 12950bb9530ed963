"""What a refusal costs beside an admission, in process, with its line of log: it is written as
`logging.basicConfig` would have it, to a file that swallows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from handshakes import SECRET, mint, now
from starlette.middleware.authentication import AuthenticationMiddleware

from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware

from .floor import Floor, with_lines
from .handshake import (
    FLOOR,
    ORIGIN,
    accepting,
    admitted,
    all_decode_with,
    alternatives,
    by_hand,
    refused,
)
from .measure import Loop, Row, interleaved

_ADMITTED = "ours, admitted"
_STARLETTE = "Starlette's, admitted"

# What a log costs that has nothing to look up and nothing to escape.
_BARE_LINES = "ours, admitted, and two bare lines"
_BARE_LINE = "ours, forged, not logged, and a bare line"


def rows(short: bool) -> Iterator[Row]:
    good = mint(exp=now() + 3600, iat=now())
    bad = {
        "no token": None,
        "rubbish": "rubbish",
        "forged": mint("another secret, and long enough for this", exp=now() + 3600, iat=now()),
        "expired": mint(exp=now() - 3600, iat=now() - 7200),
    }
    all_decode_with(SECRET, "HS256")
    with _logged(), Loop(short) as loop:
        admit, refuse = partial(admitted, loop), partial(refused, loop)
        ours, silent = _ours(), _ours(observers=())
        logged = _at_info(admit(ours, good))
        starlette = AuthenticationMiddleware(accepting, alternatives.Backend())
        hand = by_hand(alternatives.user_of)
        elsewhere = _ours(allowed_origins=["https://elsewhere.example"])
        candidates = {
            _ADMITTED: admit(ours, good),
            "ours, admitted, logged": logged,
            _BARE_LINES: admit(with_lines(ours, 2), good),
            **{f"ours, {name}": refuse(ours, token) for name, token in bad.items()},
            "ours, foreign origin": refuse(elsewhere, good, origin=ORIGIN),
            "ours, rubbish, not logged": refuse(silent, "rubbish"),
            "ours, forged, not logged": refuse(silent, bad["forged"]),
            _BARE_LINE: refuse(with_lines(silent, 1), bad["forged"]),
            f"{FLOOR}, rubbish": refuse(Floor(accepting), "rubbish"),
            _STARLETTE: admit(starlette, good),
            **{f"Starlette's, {name}": refuse(starlette, token) for name, token in bad.items()},
            "by hand, admitted": admit(hand, good),
            **{f"by hand, {name}": refuse(hand, token) for name, token in bad.items()},
        }
        targets = {
            "ours, admitted, logged": "≤ 1.3",
            "ours, forged": "≤ 1.3",
            "ours, rubbish": "≤ 0.5",
            "ours, rubbish, not logged": "≤ 0.25",
        }
        baselines = {
            "ours, forged": "ours, forged, not logged",
            "ours, rubbish": _STARLETTE,
            "ours, rubbish, not logged": _STARLETTE,
            f"{FLOOR}, rubbish": _STARLETTE,
            _BARE_LINE: "ours, forged, not logged",
        }
        yield from interleaved(
            "refusal",
            "µs",
            candidates,
            _ADMITTED,
            1 if short else 20,
            baselines=baselines,
            targets=targets,
        )


def _ours(**options: object) -> WebSocketAuthMiddleware:
    verifier = JWTVerifier(SECRET, algorithms=["HS256"])
    return WebSocketAuthMiddleware(accepting, Authenticator([verifier], **options))


def _at_info(measure: Callable[[], float]) -> Callable[[], float]:
    """What measures the same, with two lines of log for each handshake: admitted, and closed."""
    logger = logging.getLogger("asgi_wsauth")

    def measured() -> float:
        logger.setLevel(logging.INFO)
        try:
            return measure()
        finally:
            logger.setLevel(logging.NOTSET)

    return measured


@contextmanager
def _logged() -> Iterator[None]:
    logger = logging.getLogger("asgi_wsauth")
    with open(os.devnull, "w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        logger.addHandler(handler)
        propagate, logger.propagate = logger.propagate, False
        try:
            yield
        finally:
            logger.propagate = propagate
            logger.removeHandler(handler)
