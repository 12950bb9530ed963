"""Why a client is refused, and what it receives.

    Exception
    ├── Denied                  a client is refused, for one `Reason`
    │   ├── InsufficientScope   ... because its principal lacks a scope
    │   └── SaidNothing         ... because it sent no first message in time
    └── ValueError
        └── ConfigurationError  an option can't work; raised when a part is built

`Reason` is the only table of close codes, HTTP statuses and phrases in this package. Verifiers and
sources raise `Denied` and don't know about codes; only the middlewares read the table.

Sources: RFC 6455 sections 7.1.6 and 7.4, RFC 9110 section 15, RFC 6750 section 3, and IANA's
WebSocket Close Code Number Registry; for GraphQL, the GraphQL over WebSocket Protocol.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from math import ceil, isfinite
from types import TracebackType
from typing import Any, TypeAlias

from asgi_wsauth.options import ConfigurationError, check_count, check_instance, shown

__all__ = [
    "ADVICE_BY_CODE",
    "DAPHNE_CLOSE_CODES",
    "FAULTS",
    "GRAPHQL_CLOSE_CODES",
    "CloseCodes",
    "Denied",
    "FailsClosed",
    "HTTPAnswer",
    "InsufficientScope",
    "Reason",
    "SaidNothing",
    "advice",
    "check_close_codes",
    "close_code",
    "http_refusal",
    "json_answer",
]

HTTPAnswer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


class Reason(Enum):
    """Why a client is refused: one row of the table per cause.

    The value is the *phrase*: stable and machine-readable, sent as the close reason and in HTTP
    bodies, so `Reason("token_expired")` finds the row again; `phrase` is the same. `close_code` is
    the default WebSocket close code, `http_status` the status over HTTP, `advice` what the client
    should do.
    """

    phrase: str
    close_code: int
    http_status: int
    advice: str

    # phrase (at most 123 bytes, RFC 6455 section 5.5.1), close code, HTTP status, advice
    MISSING = "token_missing", 1008, 401, "stop"
    MALFORMED = "token_malformed", 1008, 400, "stop"
    INVALID = "token_invalid", 1008, 401, "stop"
    EXPIRED = "token_expired", 4001, 401, "refresh"
    KEYS_UNAVAILABLE = "keys_unavailable", 4001, 503, "refresh, with backoff"
    REVOKED = "token_revoked", 4004, 401, "log in again"
    FORBIDDEN = "forbidden", 1008, 403, "stop"
    ORIGIN = "origin_not_allowed", 1008, 403, "stop"
    THROTTLED = "too_many_failures", 1013, 429, "retry later"
    TOO_MANY_CONNECTIONS = "too_many_connections", 1013, 429, "retry later"
    UNAVAILABLE = "verifier_unavailable", 1013, 503, "retry later"
    RESTARTING = "server_restarting", 1012, 503, "retry later"
    ERROR = "internal_error", 1011, 500, "retry later"

    def __new__(cls, phrase: str, close_code: int, http_status: int, advice: str) -> Reason:
        self = object.__new__(cls)
        self._value_ = self.phrase = phrase
        self.close_code = close_code
        self.http_status = http_status
        self.advice = advice
        return self

    # Each is only itself. The hash of Python's own is one of its name, and costs a call.
    __hash__ = object.__hash__


FAULTS = Reason.UNAVAILABLE, Reason.ERROR
"""Where something broke, which the log tells as an error."""

DAPHNE_CLOSE_CODES: Mapping[Reason, int] = {
    Reason.MISSING: 3000,
    Reason.MALFORMED: 3000,
    Reason.INVALID: 3000,
    Reason.FORBIDDEN: 3003,
    Reason.ORIGIN: 3003,
    Reason.THROTTLED: 4013,
    Reason.TOO_MANY_CONNECTIONS: 4013,
    Reason.UNAVAILABLE: 4013,
    Reason.RESTARTING: 4012,
    Reason.ERROR: 4011,
}
"""`close_codes` for Daphne, which can only send 1000 and 3000 to 4999, and turns every other code
into 1011. 3000 (Unauthorized) and 3003 (Forbidden) are registered with IANA, the others are
private."""

ADVICE_BY_CODE: Mapping[int, str] = {
    # The first row of a code counts: EXPIRED says more of 4001 than KEYS_UNAVAILABLE does.
    **{reason.close_code: reason.advice for reason in reversed(Reason)},
    **{code: reason.advice for reason, code in DAPHNE_CLOSE_CODES.items()},
    # Not ours: a server that shuts down, and a socket that broke or never opened.
    1001: "retry later",
    1006: "refresh once, then retry later",
}
"""What a client should do after each close code, if there is no known phrase."""


def advice(code: int, reason: str = "") -> str:
    """What a client should do after its socket was closed.

    One of `stop`, `refresh` (come back at once, with a new credential), `refresh, with backoff`,
    `log in again`, `retry later` (with exponential backoff and jitter) and, if there was no close
    code, `refresh once, then retry later`.

    Args:
        code: the close code; 1006 if there was no close, or if the handshake got an HTTP response
            (RFC 6455 section 7.1.5).
        reason: the close reason. A phrase of the table takes precedence over the code, which means
            different things in different systems.

    Raises:
        ConfigurationError: the code is not an integer, or the reason not a string.
    """
    check_count("code", code, least=0)
    check_instance("reason", reason, str, '"token_expired"')
    by_phrase = {row.phrase: row.advice for row in Reason}
    return by_phrase.get(reason) or ADVICE_BY_CODE.get(code, "stop")


_SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Denied(Exception):
    """A client is refused.

    A verifier raises it to claim the credential and reject it: the chain stops.

    Args:
        reason: the row of the table.
        detail: the cause, for the log. It is never sent to the client; keep credentials out of it.
        retry_after: seconds until a retry can succeed, sent as `Retry-After` over HTTP (RFC 9110
            section 10.2.3).

    Raises:
        TypeError: the reason is not a `Reason`, or the time not a number.
    """

    def __init__(self, reason: Reason, detail: str = "", retry_after: float | None = None) -> None:
        if not isinstance(reason, Reason):
            raise TypeError(f"reason must be a Reason, got {shown(reason)}")
        if retry_after is not None and type(retry_after) not in (int, float):
            raise TypeError(f"retry_after must be a number of seconds, got {shown(retry_after)}")
        super().__init__(reason, detail, retry_after)
        self.reason = reason
        self.may_quote = True
        self.detail = str(detail)
        self.retry_after = retry_after

    @classmethod
    def because(
        cls,
        what: object,
        exc: Exception,
        reason: Reason = Reason.ERROR,
        *,
        may_quote: bool = True,
    ) -> Denied:
        """A refusal because `what` raised `exc`: it fails closed. The reason is `Reason.ERROR`, or
        `Reason.UNAVAILABLE` if a store or a remote server failed. With `may_quote=False`, the
        message of `exc` might contain a credential, and is never shown.
        """
        denied = Denied(reason, f"{what}: {type(exc).__qualname__}")
        denied.may_quote = may_quote
        denied.__cause__ = exc
        return denied

    def __str__(self) -> str:
        return f"{self.reason.phrase}: {self.detail}" if self.detail else self.reason.phrase


class FailsClosed:
    """A context manager that fails closed, for verifiers, sources and stores of your own: whatever
    is raised inside, by a store, a database or a remote server, becomes `Denied` with
    `Reason.UNAVAILABLE`.

    Args:
        what: what is called, for the log.
    """

    __slots__ = ("_what",)

    def __init__(self, what: object) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            raise Denied.because(repr(self._what), exc, Reason.UNAVAILABLE) from exc


class InsufficientScope(Denied):
    """`Reason.FORBIDDEN`, because the principal lacks one of `scopes` (RFC 6750 section 3.1). Over
    HTTP, the response names them.

    Args:
        scopes: a list of the scopes that are required.
    """

    def __init__(self, scopes: Sequence[str]) -> None:
        super().__init__(Reason.FORBIDDEN, f"requires the scopes {' '.join(scopes)}")
        self.scopes = tuple(scopes)

    def __reduce__(self) -> tuple[type[InsufficientScope], tuple[Sequence[str]]]:
        return type(self), (self.scopes,)


class SaidNothing(Denied):
    """`Reason.MISSING`, because the client didn't send its first message in time. It counts as a
    failure of its address, and can have a close code of its own: use the class as a key of
    `close_codes`.

    Args:
        detail: the cause, for the log.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.MISSING, detail)

    def __reduce__(self) -> tuple[type[SaidNothing], tuple[str]]:
        return type(self), (self.detail,)


CloseCodes: TypeAlias = Mapping[Reason, int] | Mapping[Reason | type[SaidNothing], int]
"""The option `close_codes`: what to send in place of some of the table's codes."""

GRAPHQL_CLOSE_CODES: Mapping[Reason | type[SaidNothing], int] = {
    Reason.MISSING: 4401,
    Reason.MALFORMED: 4400,
    Reason.INVALID: 4401,
    Reason.FORBIDDEN: 4403,
    Reason.ORIGIN: 4403,
    SaidNothing: 4408,
}
"""`close_codes` for `graphql-transport-ws`: its own ones for a bad request, for who is unauthorized
or forbidden, and for who is too late with `connection_init`. The table's other codes mean to its
clients what they should: come again with new parameters (4001), later (1012, 1013), or not
(4004)."""


def json_answer(status: int, content: Any) -> HTTPAnswer:
    """An HTTP response with a JSON body, not to be cached."""
    return _json_answer(status, json.dumps(content).encode())


def _json_answer(status: int, body: bytes) -> HTTPAnswer:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    return status, headers, body


_BODIES = {reason: json.dumps({"error": reason.phrase}).encode() for reason in Reason}


def http_refusal(denied: Denied, retry_after: float | None = None) -> HTTPAnswer:
    """The HTTP response for a refusal: the table's status, and the phrase as JSON.

    A 401 names the scheme, with `error="invalid_token"` if a token was given. A refusal for a
    missing scope names the required ones (RFC 6750 sections 3 and 3.1).

    Args:
        denied: the refusal.
        retry_after: seconds for `Retry-After`, if the refusal has none of its own.
    """
    reason = denied.reason
    answer = _json_answer(reason.http_status, _BODIES[reason])
    headers = answer[1]
    if isinstance(denied, InsufficientScope):
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(denied.scopes)}"'
        headers.append((b"www-authenticate", challenge.encode()))
    elif reason.http_status == 401:
        given = b"" if reason is Reason.MISSING else b' error="invalid_token"'
        headers.append((b"www-authenticate", b"Bearer" + given))
    seconds = retry_after if denied.retry_after is None else denied.retry_after
    if seconds is not None and isfinite(seconds):
        headers.append((b"retry-after", str(max(0, ceil(seconds))).encode()))
    return answer


def check_close_codes(close_codes: CloseCodes) -> dict[Reason | type[SaidNothing], int]:
    """The close code of every reason: the table's, overridden by `close_codes`.

    Raises:
        ConfigurationError: a key is not a `Reason`, or a code is one that no endpoint may send: RFC
            6455 section 7.4 reserves 1004 to 1006 and 1015, everything below 1000 and over 4999,
            and leaves 1016 to 2999 to future revisions of the protocol.
    """
    if not isinstance(close_codes, Mapping):
        raise ConfigurationError(
            "close_codes must be a dict, for example {Reason.EXPIRED: 4401}, got "
            f"{shown(close_codes)}"
        )
    codes: dict[Reason | type[SaidNothing], int] = {r: r.close_code for r in Reason}
    for reason, code in close_codes.items():
        if not isinstance(reason, Reason) and reason is not SaidNothing:
            raise ConfigurationError(
                "close_codes must have reasons as its keys, for example Reason.EXPIRED, got "
                f"{shown(reason)}"
            )
        if type(code) is not int or code not in _SENDABLE:
            name = reason.name if isinstance(reason, Reason) else reason.__qualname__
            raise ConfigurationError(
                "close_codes must have codes that an endpoint may send, from 4000 to 4999 at best, "
                f"got {shown(code)} for {name}"
            )
        codes[reason] = code
    return codes


def close_code(denied: Denied, close_codes: Mapping[Reason | type[SaidNothing], int]) -> int:
    """The code for a refusal, of those that `check_close_codes` returned."""
    if isinstance(denied, SaidNothing) and SaidNothing in close_codes:
        return close_codes[SaidNothing]
    return close_codes[denied.reason]
