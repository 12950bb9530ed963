"""Frozen events, one for each thing that happened, and the observer that logs them.

An observer is any callable that takes one event. It is called on the event loop, so it must be
quick; exceptions it raises are logged and not propagated. No event ever contains a credential.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import PurePath
from traceback import format_exception, walk_tb
from typing import Any, ClassVar, Protocol

from asgi_wsauth.denial import FAULTS, Reason
from asgi_wsauth.printable import LONGEST, escaped, printable

__all__ = [
    "Abandoned",
    "Admitted",
    "Closed",
    "Event",
    "KeysFetched",
    "LoggedOut",
    "Observer",
    "Refreshed",
    "Refused",
    "SessionsEnded",
    "TicketIssued",
    "event_of",
    "is_heard",
    "log_event",
    "log_failure",
    "logger",
    "raised",
    "tell",
]

logger = logging.getLogger("asgi_wsauth")


@dataclass(frozen=True, kw_only=True)
class Event:
    """The fields of all events.

    Attributes:
        protocol: `websocket`, or `http`.
        client: the peer's address, or None if the server knows none.
        path: the path of the request, decoded, without its query.
        origin: the `Origin` header as received.
        identity: the identity of the principal, once it is known.
        issuer: the issuer of the credential, for example a JWT's `iss`.
        method: how the client was authenticated, for example `jwt`.
        login_method: how the login behind a ticket was authenticated, if `method` is `ticket`.
        fingerprint: the first 16 hex digits of the credential's SHA-256.
        duration: seconds since the request arrived.
    """

    name: ClassVar[str] = "event"
    loudest: ClassVar[int] = logging.INFO
    """The highest level at which `log_event` may log it."""

    protocol: str = "websocket"
    client: str | None = None
    path: str = ""
    origin: str | None = None
    identity: str | None = None
    issuer: str | None = None
    method: str | None = None
    login_method: str | None = None
    fingerprint: str | None = None
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Admitted(Event):
    """The client was admitted; the app is about to run."""

    name: ClassVar[str] = "admitted"


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """The client was refused.

    Attributes:
        reason: the row of the table.
        close_code: the code of this refusal in this middleware; None over HTTP, and for a refresh
            on an open socket, which doesn't close the socket by itself.
        repeated: how often the same credential was refused before, if a program keeps reconnecting
            with it; otherwise 0. Each refusal is an event all the same.
        detail: the cause, for the log only.
        error_type: the class of the exception, if something failed: `app.users.NoSuchUser`.
        error_at: where it was raised: `load_user at app/users.py:31`.
        traceback: the traceback, with the credential cut out. For an exception that a source
            raised, without its message.
    """

    name: ClassVar[str] = "refused"
    loudest: ClassVar[int] = logging.ERROR

    reason: Reason
    close_code: int | None = None
    repeated: int = 0
    detail: str = ""
    error_type: str | None = None
    error_at: str | None = None
    traceback: str | None = None

    @property
    def is_refresh(self) -> bool:
        """Whether it was a refresh on an open socket, rather than a handshake."""
        return self.protocol == "websocket" and self.close_code is None


@dataclass(frozen=True, kw_only=True)
class Abandoned(Event):
    """The client left before it was admitted or refused."""

    name: ClassVar[str] = "abandoned"


@dataclass(frozen=True, kw_only=True)
class Closed(Event):
    """An admitted socket has ended; or, over HTTP, a stream was ended before its app was done.

    Attributes:
        reason: why the middleware ended it; None if the app or the client closed the socket.
        close_code: the code that the middleware sent; None over HTTP.
    """

    name: ClassVar[str] = "closed"

    reason: Reason | None = None
    close_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class Refreshed(Event):
    """An open socket was refreshed with a new credential.

    Attributes:
        expires_at: Unix time in seconds at which the new credential expires, or None.
    """

    name: ClassVar[str] = "refreshed"

    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class TicketIssued(Event):
    """A ticket was issued over HTTP."""

    name: ClassVar[str] = "ticket_issued"


@dataclass(frozen=True, kw_only=True)
class LoggedOut(Event):
    """An identity provider has ended a login, through a `LogoutEndpoint`. `issuer` is the login's,
    and `identity` is whose it was, if the provider said so.

    Attributes:
        subject: what has ended: one `session`, or all logins of a `user`.
        told_by: what reported it: a `logout_token`, or a `security_event`.
    """

    name: ClassVar[str] = "logged_out"

    subject: str
    told_by: str


@dataclass(frozen=True, kw_only=True)
class SessionsEnded(Event):
    """A user's sockets were ended through a `SessionsEndpoint`. `identity` and `issuer` are the
    user's.

    Attributes:
        ended: how many.
        administrator: the identity of the administrator who asked; None if it was the user.
    """

    name: ClassVar[str] = "sessions_ended"
    ended: int
    administrator: str | None = None

    @property
    def by(self) -> str:
        """`user`, or `administrator`."""
        return "user" if self.administrator is None else "administrator"


@dataclass(frozen=True, kw_only=True)
class KeysFetched(Event):
    """A `JWKS` fetched its keys. No client is involved, so the client's fields are empty;
    `duration` is that of the fetch.

    Attributes:
        url: the configured URL, without its query.
        keys: how many usable keys there were.
        failure: why the fetch failed, or None.
    """

    name: ClassVar[str] = "keys_fetched"
    loudest: ClassVar[int] = logging.WARNING

    protocol: str = "http"
    url: str
    keys: int = 0
    failure: str | None = None


def event_of(kind: type[Event], known: Mapping[str, Any]) -> Event:
    """An event with these fields, which are not checked. A constructor sets each by a call, because
    events are frozen, and takes as long as half a line of log."""
    event = object.__new__(kind)
    fields = {**_defaults(kind), **known}  # type: ignore[arg-type]  # mypy: a class has no hash
    object.__setattr__(event, "__dict__", fields)
    return event


@cache
def _defaults(kind: type[Event]) -> dict[str, object]:
    return {f.name: None if f.default is MISSING else f.default for f in fields(kind)}


class Observer(Protocol):
    """Any function of one event. It runs on the event loop, so it must not block."""

    def __call__(self, event: Event, /) -> None: ...


def tell(observers: Iterable[Observer], event: Event) -> None:
    """Call every observer. If one raises, that is logged, and the next one is called."""
    for observer in observers:
        try:
            observer(event)
        except Exception as exc:  # an observer's failure must not affect the connection
            log_failure("observer %r failed", observer, exc)


def is_heard(observers: tuple[Observer, ...], kind: type[Event]) -> bool:
    """Whether any observer would use such an event. Events that only the log gets, and drops, need
    not be made: for an admission and its close they take a sixth of the time of a handshake."""
    if observers == (log_event,):
        return logger.isEnabledFor(kind.loudest)
    return bool(observers)


_MARKS = re.compile('[ "=]')  # a field with one of these is quoted
_PLAIN = re.compile(f"[!#-<>-~]{{1,{LONGEST}}}").fullmatch  # logged as it is, like most fields
_FAULT = ("error_type", "error_at")


def log_event(event: Event, /) -> None:
    """The default observer: one line on the logger `asgi_wsauth`, the fields also in `extra`.

    Admissions and closes are INFO, refusals WARNING, UNAVAILABLE and ERROR are ERROR; a fetch of
    keys is DEBUG, or WARNING if it failed. Control characters, bidirectional overrides and other
    unprintable characters are escaped, so that nothing a client sends can end or rewrite the line.
    Refusals that are `repeated` are logged each time their number doubles.
    """
    level = _level(event)
    repeated = event.repeated if isinstance(event, Refused) else 0
    if repeated & (repeated - 1) or not logger.isEnabledFor(level):
        return
    told: dict[str, object] = {"reason": None, "close_code": None, **vars(event)}
    traceback, protocol = told.pop("traceback", None), told.pop("protocol")
    fault: dict[str, object] = {}
    if isinstance(event, Refused):
        # The failure comes first, because Sentry keeps ten fields.
        fault = {name: printable(told.pop(name)) for name in _FAULT}
        if not repeated:
            del told["repeated"]
    if isinstance(told["reason"], Reason):
        told["reason"] = told["reason"].phrase
    words = []
    for name, value in told.items():
        if type(value) is str and _PLAIN(value):  # as nearly all are
            words.append(f"{name}={value}")
        elif isinstance(value, float):
            words.append(f"{name}={value:.4f}")
        elif value is not None and value != "":
            told[name] = value = printable(value)
            words.append(f"{name}={_quoted(str(value))}")
    extra = {**fault, **told, "event": event.name, "protocol": protocol}
    message = f"{protocol} %s: {_prefix(**fault)}%s"
    _log(level, message, (event.name, " ".join(words)), traceback, extra)


def _level(event: Event) -> int:
    if isinstance(event, Refused):
        return logging.ERROR if event.reason in FAULTS else logging.WARNING
    if isinstance(event, KeysFetched):
        return logging.DEBUG if event.failure is None else logging.WARNING
    return logging.INFO


def log_failure(message: str, what: object, exc: Exception) -> None:
    """Log that `what` raised `exc`, in the same form. `message` has one `%r`, for `what`."""
    error_type, error_at = raised(exc)
    extra: dict[str, object] = {"error_type": error_type, "error_at": error_at}
    _log(logging.ERROR, message, (what,), "".join(format_exception(exc)), extra)


def raised(exc: BaseException) -> tuple[str, str | None]:
    """The class of an exception, and where it was raised: `load_user at app/users.py:31`, or None
    if it never was."""
    kind = type(exc)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    where = None
    for frame, line in walk_tb(exc.__traceback__):
        file = "/".join(PurePath(frame.f_code.co_filename).parts[-2:])
        where = f"{frame.f_code.co_qualname} at {file}:{line}"
    return f"{module}{kind.__qualname__}", where


def _prefix(error_type: object = None, error_at: object = None) -> str:
    """The beginning of a message about an exception. Type and place are part of the message, not
    arguments, because error trackers group issues by message."""
    if error_type is None:
        return ""
    place = "" if error_at is None else f" in {error_at}"
    return f"{escaped(f'{error_type}{place}')}: ".replace("%", "%%")


def _log(
    level: int, message: str, args: tuple[object, ...], traceback: object, extra: dict[str, object]
) -> None:
    record = logger.makeRecord(
        logger.name, level, __file__, 0, message, args, None, func="log_event"
    )
    record.__dict__.update(extra)  # none of these is a name that a record has
    if traceback:
        # As text, not as exc_info, from which an error tracker would take local variables.
        # Indented, so that no line of it can be mistaken for a log line.
        lines = str(traceback).splitlines()
        record.exc_text = "\n".join(f"  {escaped(line)}" for line in lines) or None
    logger.handle(record)


def _quoted(text: str) -> str:
    if not _MARKS.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
