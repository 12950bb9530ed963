"""What happened, told once: frozen events, and the observer that logs them.

An observer is any callable that takes one event. It is called on the event loop, so it should be
quick; what it raises is logged and goes no further. No event ever carries a credential.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from traceback import format_exception, walk_tb
from typing import ClassVar, Protocol

from asgi_wsauth.denial import Reason
from asgi_wsauth.options import check_callable, check_list

__all__ = [
    "Abandoned",
    "Admitted",
    "Closed",
    "Event",
    "KeysFetched",
    "Observer",
    "Refreshed",
    "Refused",
    "TicketIssued",
    "check_observers",
    "escaped",
    "is_heard",
    "log_event",
    "log_failure",
    "logger",
    "printable",
    "raised",
    "tell",
]

logger = logging.getLogger("asgi_wsauth")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events tell.

    Attributes:
        protocol: `websocket`, or `http`.
        client: the peer's address, or None where the server knows none.
        path: the path of the request, decoded, without its query.
        origin: the `Origin` header as it came.
        identity: whom the credential vouched for, once that is known.
        issuer: who says so: a JWT's `iss`, for example.
        method: how, for example `jwt`.
        login_method: how the login behind a ticket was proved, where `method` is `ticket`.
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
    """The app is about to get the handshake, or the request."""

    name: ClassVar[str] = "admitted"


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """The client was refused.

    Attributes:
        reason: the row of the table.
        close_code: the code that this refusal has in this middleware; None over HTTP, and for a
            credential that an open socket brought: that closes no socket by itself.
        repeated: how often the same had been refused before, where a program comes back with it
            again and again; otherwise 0. There is one event for each refusal all the same.
        detail: why, in words, for the log only.
        error_type: where something broke, the class of the exception: `app.users.NoSuchUser`.
        error_at: the place that raised it: `load_user at app/users.py:31`.
        traceback: all of it; the credential is cut out. Of what a source raised, not the message.
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
        """Whether it is about a new credential on an open socket, and not about a handshake."""
        return self.protocol == "websocket" and self.close_code is None


@dataclass(frozen=True, kw_only=True)
class Abandoned(Event):
    """The client left before there was a verdict."""

    name: ClassVar[str] = "abandoned"


@dataclass(frozen=True, kw_only=True)
class Closed(Event):
    """The app is done with an admitted socket.

    Attributes:
        reason: why the socket was closed by the middleware; None where the app or the client did.
        close_code: the code that was sent for that.
    """

    name: ClassVar[str] = "closed"

    reason: Reason | None = None
    close_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class Refreshed(Event):
    """An open socket goes on with a new credential.

    Attributes:
        expires_at: Unix time in seconds from which that one is no longer accepted, or None.
    """

    name: ClassVar[str] = "refreshed"

    expires_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class TicketIssued(Event):
    """A ticket was handed out over HTTP."""

    name: ClassVar[str] = "ticket_issued"


@dataclass(frozen=True, kw_only=True)
class KeysFetched(Event):
    """A `JWKS` asked for its keys. That is no client's doing, so nothing is told of one; `duration`
    is that of the fetch.

    Attributes:
        url: where it was told to ask, without the query.
        keys: how many came that can be used.
        failure: why there are none, or None.
    """

    name: ClassVar[str] = "keys_fetched"
    loudest: ClassVar[int] = logging.WARNING

    protocol: str = "http"
    url: str
    keys: int = 0
    failure: str | None = None


class Observer(Protocol):
    """Is told of every event, on the event loop."""

    def __call__(self, event: Event, /) -> None: ...


def tell(observers: Iterable[Observer], event: Event) -> None:
    """Tell every observer. One that raises is logged, and the next one is told."""
    for observer in observers:
        try:
            observer(event)
        except Exception as exc:  # whatever a user's observer does, the work goes on
            log_failure("observer %r failed", observer, exc)


def is_heard(observers: tuple[Observer, ...], kind: type[Event]) -> bool:
    """Whether anybody would hear of such an event. What only the log is told of, and leaves out,
    need not be made: an admission, and the close after it, take a sixth of a handshake to tell."""
    if observers == (log_event,):
        return logger.isEnabledFor(kind.loudest)
    return bool(observers)


_OBSERVER = "it is called with an event, and must be quick"


def check_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """The observers, if they are some.

    Raises:
        ConfigurationError: one of them can't be called, or is async.
    """
    for observer in (members := check_list("observers", observers)):
        check_callable("observers", observer, takes=1, is_async=False, example=_OBSERVER)
    return members


_MARKS = re.compile('[ "=]')  # with one of them, a field stands in quotes
_LONGEST = 200  # characters of one field in a log line
_LOUD = (Reason.UNAVAILABLE, Reason.ERROR)


def log_event(event: Event, /) -> None:
    """The default observer: one line on the logger `asgi_wsauth`, the fields also in `extra`.

    Admissions and closes are INFO, refusals WARNING, UNAVAILABLE and ERROR are ERROR; a fetch of
    keys is DEBUG, or WARNING where it failed. Control characters, bidirectional overrides and
    whatever else doesn't print are escaped, so that nothing that a client sends can end the line or
    rewrite it. Of refusals that are `repeated` there is one line each time that their number has
    doubled.
    """
    level = _level(event)
    repeated = event.repeated if isinstance(event, Refused) else 0
    if repeated & (repeated - 1) or not logger.isEnabledFor(level):
        return
    told: dict[str, object] = {"reason": None, "close_code": None, **vars(event)}
    traceback = told.pop("traceback", None)
    if isinstance(told["reason"], Reason):
        told["reason"] = told["reason"].phrase
    if not repeated:
        told.pop("repeated", None)
    protocol = told.pop("protocol")
    told = {name: printable(value) for name, value in told.items()}
    # What broke comes first, because Sentry keeps ten fields.
    fault = {name: told.pop(name) for name in ("error_type", "error_at") if name in told}
    extra = {**fault, **told, "event": event.name, "protocol": protocol}
    line = " ".join(f"{name}={_quoted(v)}" for name, v in told.items() if v not in (None, ""))
    message = f"{protocol} %s: {_prefix(**fault)}%s"
    _log(level, message, (event.name, line), str(traceback or ""), extra)


def _level(event: Event) -> int:
    if isinstance(event, Refused):
        return logging.ERROR if event.reason in _LOUD else logging.WARNING
    if isinstance(event, KeysFetched):
        return logging.DEBUG if event.failure is None else logging.WARNING
    return logging.INFO


def log_failure(message: str, what: object, exc: Exception) -> None:
    """Log that `what` raised `exc`, in the same way: `message` has one `%r` for it."""
    error_type, error_at = raised(exc)
    extra: dict[str, object] = {"error_type": error_type, "error_at": error_at}
    _log(logging.ERROR, message, (what,), "".join(format_exception(exc)), extra)


def raised(exc: BaseException) -> tuple[str, str | None]:
    """The class of an exception, and the place that raised it: `load_user at app/users.py:31`. None
    for the place of one that was never raised."""
    kind = type(exc)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    where = None
    for frame, line in walk_tb(exc.__traceback__):
        file = "/".join(PurePath(frame.f_code.co_filename).parts[-2:])
        where = f"{frame.f_code.co_qualname} at {file}:{line}"
    return f"{module}{kind.__qualname__}", where


def _prefix(error_type: object = None, error_at: object = None) -> str:
    """How a message begins that tells of an exception. Type and place belong to the message itself
    and are no arguments of it, because error trackers make one issue of each message."""
    if error_type is None:
        return ""
    place = "" if error_at is None else f" in {error_at}"
    return f"{escaped(f'{error_type}{place}')}: ".replace("%", "%%")


def _log(
    level: int, message: str, args: tuple[object, ...], traceback: str, extra: dict[str, object]
) -> None:
    record = logger.makeRecord(
        logger.name, level, __file__, 0, message, args, None, func="log_event", extra=extra
    )
    # As text, not as exc_info: from that an error tracker would take local variables. Indented, so
    # that no line of it can pass for a line of the log.
    record.exc_text = "\n".join(f"  {escaped(line)}" for line in traceback.splitlines()) or None
    logger.handle(record)


def printable(value: object) -> object:
    """A string as the log has it: escaped, and cut; anything else as it is."""
    if not isinstance(value, str):
        return value
    return escaped(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")


def escaped(text: str) -> str:
    """The text with everything escaped that could move a cursor, or hide what is written."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)
    if not _MARKS.search(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
