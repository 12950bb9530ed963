"""What a close code means, and what a client should do."""

from __future__ import annotations

from collections.abc import Iterator

from asgi_wsauth.denial import (
    DAPHNE_CLOSE_CODES,
    GRAPHQL_CLOSE_CODES,
    Reason,
    SaidNothing,
    advice,
)

__all__ = ["explained"]

_NAMES = {
    # IANA's WebSocket Close Code Number Registry
    1000: "normal closure",
    1001: "going away",
    1002: "protocol error",
    1003: "unsupported data",
    1005: "no code received",
    1006: "abnormal closure: no close was received, or the handshake got an HTTP response",
    1007: "invalid payload data",
    1008: "policy violation",
    1009: "message too big",
    1010: "extension expected",
    1011: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS handshake failed",
    3000: "unauthorized",
    3003: "forbidden",
    3008: "timeout",
}
_PRIVATE = 4000  # the first code that anybody may use for anything
_RANGES = ((3000, "reserved"), (_PRIVATE, "registered with IANA"), (5000, "private use"))


def explained(code: int, phrase: str = "") -> Iterator[str]:
    """Lines about a close, the last of which is what the client should do.

    Args:
        code: the close code, from 1000 to 4999.
        phrase: the close reason.
    """
    yield f"{code}: {_NAMES.get(code) or next(text for end, text in _RANGES if code < end)}"
    if phrase in {reason.phrase for reason in Reason}:
        yield f"{phrase}: a reason of asgi-wsauth; it takes precedence over the code"
    elif phrase:
        yield "The reason is not one of asgi-wsauth's, so the code decides."
    else:
        found = list(_reasons(code))
        yield from found
        if code >= _PRIVATE and not found:
            yield "No reason of asgi-wsauth has this code; perhaps it is an app's own."
    yield f"The client should: {advice(code, phrase)}"


def _reasons(code: int) -> Iterator[str]:
    for reason in Reason:
        places = {
            "": reason.close_code,
            ", on Daphne": DAPHNE_CLOSE_CODES.get(reason),
            ", for GraphQL": GRAPHQL_CLOSE_CODES.get(reason),
        }
        for where, used in places.items():
            if used == code:
                yield f"  for {reason.phrase}{where}: {reason.advice}"
    if GRAPHQL_CLOSE_CODES[SaidNothing] == code:
        missing = Reason.MISSING
        yield f"  for {missing.phrase}, for GraphQL without connection_init: {missing.advice}"
