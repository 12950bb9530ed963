"""Events, and the lines that the default observer makes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar

import pytest
from cases import cases
from handshakes import App, authenticator, bearer, drive, nobody, websocket

from asgi_wsauth import (
    JWKS,
    Abandoned,
    Admitted,
    Closed,
    ConfigurationError,
    Event,
    KeysFetched,
    LoggedOut,
    Principal,
    Reason,
    Refreshed,
    Refused,
    SessionsEnded,
    TicketIssued,
    WebSocketAuthMiddleware,
    log_event,
)
from asgi_wsauth.events import Observer, event_of, is_heard, log_failure, logger, raised, tell


class Lines(logging.Handler):
    """Keeps every record, and the text that a log file would have of it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.records: list[logging.LogRecord] = []
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.texts.append(self.format(record))

    def clear(self) -> None:
        self.records.clear()
        self.texts.clear()


@pytest.fixture
def log() -> Iterator[Lines]:
    """The package's own logger, with everything let through."""
    lines, level, propagate = Lines(), logger.level, logger.propagate
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)
    logger.propagate = propagate


FULL: dict[str, Any] = {
    "protocol": "websocket",
    "client": "192.0.2.7",
    "path": "/ws",
    "origin": "https://chat.example",
    "identity": "alice",
    "issuer": "https://id.example",
    "method": "ticket",
    "login_method": "jwt",
    "fingerprint": "0123456789abcdef",
    "duration": 0.00123,
}

KINDS: list[type[Event]] = [
    Admitted,
    Refused,
    Abandoned,
    Closed,
    Refreshed,
    TicketIssued,
    LoggedOut,
    SessionsEnded,
    KeysFetched,
]

LEVELS: list[tuple[Event, int]] = [
    (Admitted(), logging.INFO),
    (Abandoned(), logging.INFO),
    (Closed(), logging.INFO),
    (Closed(reason=Reason.REVOKED, close_code=4004), logging.INFO),
    (Refreshed(expires_at=5.0), logging.INFO),
    (TicketIssued(), logging.INFO),
    (LoggedOut(subject="user", told_by="logout_token"), logging.INFO),
    (SessionsEnded(ended=2), logging.INFO),
    (KeysFetched(url="https://id.example/keys", keys=2), logging.DEBUG),
    (KeysFetched(url="https://id.example/keys", failure="HTTP 500"), logging.WARNING),
    *(
        (Refused(reason=reason), level)
        for reason, level in {
            Reason.MISSING: logging.WARNING,
            Reason.MALFORMED: logging.WARNING,
            Reason.INVALID: logging.WARNING,
            Reason.EXPIRED: logging.WARNING,
            Reason.KEYS_UNAVAILABLE: logging.WARNING,
            Reason.REVOKED: logging.WARNING,
            Reason.FORBIDDEN: logging.WARNING,
            Reason.ORIGIN: logging.WARNING,
            Reason.THROTTLED: logging.WARNING,
            Reason.TOO_MANY_CONNECTIONS: logging.WARNING,
            Reason.UNAVAILABLE: logging.ERROR,
            Reason.ERROR: logging.ERROR,
        }.items()
    ),
]


def named(value: Any) -> str | None:
    if isinstance(value, Event):
        return value.reason.name if isinstance(value, Refused) else value.name
    return logging.getLevelName(value) if isinstance(value, int) else None


class TestEvents:
    @cases("event", [event for event, _ in LEVELS], ids=named)
    def test_an_event_is_frozen(self, event: Event) -> None:
        for field in fields(event):
            with pytest.raises(FrozenInstanceError):
                setattr(event, field.name, "changed")

    @cases("event", [event for event, _ in LEVELS], ids=named)
    def test_one_made_of_its_fields_is_the_same_as_one_of_its_constructor(
        self, event: Event
    ) -> None:
        required = {f.name: getattr(event, f.name) for f in fields(event) if f.default is MISSING}
        for known in (vars(event), required):
            made, built = event_of(type(event), known), type(event)(**known)
            assert made == built
            assert list(vars(made).items()) == list(vars(built).items())

    def test_an_event_takes_names_only(self) -> None:
        build: Any = Admitted
        with pytest.raises(TypeError):
            build("192.0.2.7")

    def test_a_refusal_needs_a_reason(self) -> None:
        build: Any = Refused
        with pytest.raises(TypeError):
            build()

    def test_each_kind_has_its_name(self) -> None:
        names = [kind.name for kind in KINDS]
        told = "admitted refused abandoned closed refreshed ticket_issued logged_out sessions_ended"
        assert names == [*told.split(), "keys_fetched"]

    def test_no_event_has_a_field_for_a_credential(self) -> None:
        allowed = {*FULL, "reason", "close_code", "repeated", "detail", "traceback", "expires_at"}
        allowed |= {"url", "keys", "failure", "error_type", "error_at", "subject", "told_by"}
        allowed |= {"ended", "administrator"}
        for kind in KINDS:
            assert {field.name for field in fields(kind)} <= allowed


class TestLogEvent:
    @cases(("event", "level"), LEVELS, ids=named)
    def test_each_event_has_its_level(self, log: Lines, event: Event, level: int) -> None:
        log_event(event)
        (record,) = log.records
        assert record.levelno == level

    def test_an_admission_is_one_line_with_what_is_known(self, log: Lines) -> None:
        log_event(Admitted(**FULL))
        assert log.texts == [
            "INFO websocket admitted: client=192.0.2.7 path=/ws origin=https://chat.example "
            "identity=alice issuer=https://id.example method=ticket login_method=jwt "
            "fingerprint=0123456789abcdef duration=0.0012"
        ]

    def test_an_http_request_is_told_apart(self, log: Lines) -> None:
        log_event(TicketIssued(protocol="http", identity="alice"))
        assert log.texts == ["INFO http ticket_issued: identity=alice duration=0.0000"]
        assert vars(log.records[0])["protocol"] == "http"

    def test_a_refusal_says_why(self, log: Lines) -> None:
        log_event(Refused(reason=Reason.EXPIRED, close_code=4001, detail="since 5 s", path="/ws"))
        assert log.texts == [
            "WARNING websocket refused: reason=token_expired close_code=4001 path=/ws "
            'duration=0.0000 detail="since 5 s"'
        ]

    def test_a_close_says_why_where_it_was_forced(self, log: Lines) -> None:
        log_event(Closed(reason=Reason.REVOKED, close_code=4004, identity="alice"))
        assert log.texts == [
            "INFO websocket closed: reason=token_revoked close_code=4004 identity=alice "
            "duration=0.0000"
        ]
        assert vars(log.records[0])["reason"] == "token_revoked"

    @cases(("expires_at", "told"), [(None, ""), (1.8e9, " expires_at=1800000000.0000")])
    def test_a_refresh_says_until_when(
        self, log: Lines, expires_at: float | None, told: str
    ) -> None:
        log_event(Refreshed(identity="alice", expires_at=expires_at))
        assert log.texts == [f"INFO websocket refreshed: identity=alice duration=0.0000{told}"]

    @cases(
        ("outcome", "told"),
        [
            ({"keys": 2}, "DEBUG {} keys=2"),
            ({"failure": "HTTP 500"}, 'WARNING {} keys=0 failure="HTTP 500"'),
        ],
    )
    def test_a_fetch_of_keys_says_from_where_and_what_became_of_it(
        self, log: Lines, outcome: Any, told: str
    ) -> None:
        log_event(KeysFetched(url="https://id.example/keys", duration=0.25, **outcome))
        line = "http keys_fetched: duration=0.2500 url=https://id.example/keys"
        assert log.texts == [told.format(line)]

    def test_what_is_not_known_is_left_out(self, log: Lines) -> None:
        log_event(Closed(client=None, path=""))
        assert log.texts == ["INFO websocket closed: duration=0.0000"]

    def test_the_message_is_constant_and_the_fields_are_in_extra(self, log: Lines) -> None:
        log_event(Refused(reason=Reason.INVALID, close_code=1008, detail="no key", **FULL))
        (record,) = log.records
        assert record.msg == "websocket %s: %s"
        assert record.name == "asgi_wsauth"
        assert record.funcName == "log_event"
        told = {name: vars(record)[name] for name in (*FULL, "event", "detail", "close_code")}
        assert told == {**FULL, "event": "refused", "detail": "no key", "close_code": 1008}
        assert vars(record)["reason"] == "token_invalid"

    @cases("event", [event for event, _ in LEVELS], ids=named)
    def test_a_format_may_name_any_of_the_common_fields(self, log: Lines, event: Event) -> None:
        names = (*FULL, "event", "reason", "close_code")
        log.setFormatter(logging.Formatter(" ".join(f"%({name})s" for name in names)))
        log_event(event)
        assert len(log.texts) == 1

    @cases(
        ("level", "told"),
        [
            (logging.INFO, ["admitted", "refused", "refused"]),
            (logging.WARNING, ["refused", "refused"]),
            (logging.ERROR, ["refused"]),
            (logging.CRITICAL, []),
        ],
        ids=named,
    )
    def test_what_the_level_shuts_out_is_not_logged(
        self, log: Lines, level: int, told: list[str]
    ) -> None:
        logger.setLevel(level)
        for event in (Admitted(), Refused(reason=Reason.INVALID), Refused(reason=Reason.ERROR)):
            log_event(event)
        assert [vars(record)["event"] for record in log.records] == told

    @cases(
        "level, heard",
        [
            (logging.INFO, {Admitted, Refused, Abandoned, Closed, KeysFetched}),
            (logging.WARNING, {Refused, KeysFetched}),
            (logging.ERROR, {Refused}),
            (logging.CRITICAL, set()),
        ],
        ids=named,
    )
    def test_what_nobody_would_hear_of_need_not_be_made(
        self, log: Lines, level: int, heard: set[type[Event]]
    ) -> None:
        logger.setLevel(level)
        kinds: list[type[Event]] = [Admitted, Refused, Abandoned, Closed, KeysFetched]
        assert {kind for kind in kinds if is_heard((log_event,), kind)} == heard
        observer: Observer = [].append
        assert all(is_heard((log_event, observer), kind) for kind in kinds)
        assert not any(is_heard((), kind) for kind in kinds)

    def test_a_kind_of_your_own_is_logged_with_its_fields(self, log: Lines) -> None:
        @dataclass(frozen=True, kw_only=True)
        class Refreshed(Event):
            name = "refreshed"
            until: float | None = None
            note: str = ""

        log_event(Refreshed(until=2.5, note="a\nb"))
        assert log.texts == ["INFO websocket refreshed: duration=0.0000 until=2.5000 note=a\\nb"]


# What a client might send to end the line, rewrite it, or hide in it, and how it is written.
HOSTILE = {
    "a line feed": ("a\nb", "a\\nb"),
    "CR and LF": ("a\r\nb", "a\\r\\nb"),
    "a forged line": (
        "/ws\nINFO websocket admitted: identity=admin",
        '"/ws\\\\nINFO websocket admitted: identity=admin"',
    ),
    "a colour": ("\x1b[31mred", "\\x1b[31mred"),
    "a cleared screen": ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
    "an ANSI escape in one byte": ("\x9b2J", "\\x9b2J"),
    "a window title": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "a backspace": ("admin\b\b\b\b\bguest", "admin\\x08\\x08\\x08\\x08\\x08guest"),
    "a delete": ("a\x7fb", "a\\x7fb"),
    "a bidirectional override": ("\u202eevil", "\\u202eevil"),
    "a bidirectional isolate": ("\u2066a\u2069", "\\u2066a\\u2069"),
    "a mark of direction": ("a\u200fb", "a\\u200fb"),
    "a NUL": ("a\x00b", "a\\x00b"),
    "a line separator": ("a\u2028b", "a\\u2028b"),
    "a paragraph separator": ("a\u2029b", "a\\u2029b"),
    "a next line": ("a\x85b", "a\\x85b"),
    "a vertical tab and a form feed": ("a\x0b\x0cb", "a\\x0b\\x0cb"),
    "a zero-width space": ("a\u200bb", "a\\u200bb"),
    "a space that does not break": ("a\xa0reason=ok", '"a\\\\xa0reason=ok"'),
    "a byte-order mark": ("\ufeffa", "\\ufeffa"),
    "a tag character": ("a\U000e0041", "a\\U000e0041"),
    "a lone surrogate": ("a\udcffb", "a\\udcffb"),
    "a forged field": ("a reason=ok", '"a reason=ok"'),
    "a forged field without a space": ("reason=ok", '"reason=ok"'),
    "a quote and a forged field": ('a" reason="ok', '"a\\" reason=\\"ok"'),
    "a backslash, a quote and a forged field": (
        'a\\" reason="ok',
        '"a\\\\\\" reason=\\"ok"',
    ),
    "a percent sign": ("%s%d%(x)s{}", "%s%d%(x)s{}"),
    "another script": ("日本語-schlüssel", "日本語-schlüssel"),
}
FIELDS = ["client", "path", "origin", "identity", "method", "fingerprint", "detail"]


class TestEscaping:
    @cases(("value", "written"), HOSTILE.values(), ids=HOSTILE)
    @cases("name", FIELDS)
    def test_what_a_client_sends_stays_in_its_field(
        self, log: Lines, name: str, value: str, written: str
    ) -> None:
        values: dict[str, Any] = {"client": "x", "detail": "x", name: value}
        log_event(Refused(reason=Reason.INVALID, **values))
        (text,) = log.texts
        expected = {
            "reason": "token_invalid",
            "client": "x",
            **{other: written for other in FIELDS[:-1] if other == name},
            "duration": "0.0000",
            "detail": written if name == "detail" else "x",
        }
        line = " ".join(f"{field}={told}" for field, told in expected.items())
        assert text == f"WARNING websocket refused: {line}"
        assert text.isprintable()

    @cases("value", [value for value, _ in HOSTILE.values()], ids=HOSTILE)
    def test_extra_is_escaped_too(self, log: Lines, value: str) -> None:
        log_event(Refused(reason=Reason.INVALID, **dict.fromkeys(FIELDS, value)))
        (record,) = log.records
        assert all(str(vars(record)[name]).isprintable() for name in FIELDS)

    @cases("letter", ["a", "\n", "\u202e", "\U000e0041", '"', "\\", " "])
    @cases("name", FIELDS)
    def test_a_long_value_is_cut(self, log: Lines, name: str, letter: str) -> None:
        values: dict[str, Any] = {name: letter * 1_000_000}
        log_event(Refused(reason=Reason.INVALID, **values))
        (text,) = log.texts
        assert "…" in text
        assert text.isprintable()
        assert len(text) < 4000

    def test_a_value_that_just_fits_is_not_cut(self, log: Lines) -> None:
        for size, shown in ((200, "a" * 200), (201, "a" * 200 + "…")):
            log_event(Admitted(path="a" * size))
            assert f" path={shown} " in log.texts.pop()

    @pytest.mark.anyio
    @cases("value", [value for value, _ in HOSTILE.values()], ids=HOSTILE)
    async def test_a_hostile_handshake_is_one_line(self, log: Lines, value: str) -> None:
        """Through the middleware, where the token, the path and the origin are all like that."""
        raw = value.encode("utf-8", "surrogateescape").decode("latin-1")
        scope = websocket(
            b"token=" + value.encode("utf-8", "surrogateescape"),
            headers=[*bearer(raw), ("origin", raw)],
        )
        scope["path"] = f"/{value}"
        auth = authenticator(nobody, allowed_origins=["https://chat.example"])
        outcome = await drive(WebSocketAuthMiddleware(App(), auth), scope)
        assert outcome.close == (1008, "origin_not_allowed")
        (text,) = log.texts
        assert " client=127.0.0.1 path=" in text
        assert text.isprintable()


class TestTraceback:
    TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nValueError: a\x1b[31m\u202eb'

    def test_stands_below_the_line_indented_and_escaped(self, log: Lines) -> None:
        log_event(Refused(reason=Reason.ERROR, traceback=self.TRACEBACK))
        assert log.texts == [
            "ERROR websocket refused: reason=internal_error duration=0.0000\n"
            "  Traceback (most recent call last):\n"
            '    File "x.py"\n'
            "  ValueError: a\\x1b[31m\\u202eb"
        ]

    @cases(
        "end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"], ids=ascii
    )
    def test_no_line_of_it_can_pass_for_another(self, log: Lines, end: str) -> None:
        log_event(Refused(reason=Reason.ERROR, traceback=f"x{end}INFO websocket admitted: y"))
        first, *rest = log.texts[0].splitlines()
        assert first.startswith("ERROR websocket refused")
        assert rest == ["  x", "  INFO websocket admitted: y"]

    def test_it_is_text_and_brings_no_local_variables(self, log: Lines) -> None:
        """An error tracker takes them from the frames that hang on `exc_info`."""
        log_event(Refused(reason=Reason.ERROR, traceback=self.TRACEBACK))
        (record,) = log.records
        assert record.exc_info is None
        assert not hasattr(record, "traceback")

    def test_without_one_there_is_one_line(self, log: Lines) -> None:
        log_event(Refused(reason=Reason.ERROR))
        (record,) = log.records
        assert record.exc_text is None
        assert "\n" not in log.texts[0]


def broken_at() -> Exception:
    """An exception that was raised here."""
    try:
        raise LookupError("s3cr3t")
    except LookupError as exc:
        return exc


class TestWhatBroke:
    """Error trackers make one issue of what has the same message, before its arguments."""

    FAULT: ClassVar[dict[str, Any]] = {
        "reason": Reason.ERROR,
        "error_type": "LookupError",
        "error_at": "load_user at app/users.py:31",
        "detail": "load_user: LookupError",
        "traceback": "Traceback",
    }

    def test_type_and_place_belong_to_the_message(self, log: Lines) -> None:
        log_event(Refused(**self.FAULT, path="/ws"))
        (record,) = log.records
        begin = "LookupError in load_user at app/users.py:31"
        assert record.msg == f"websocket %s: {begin}: %s"
        assert record.getMessage() == (
            f"websocket refused: {begin}: reason=internal_error path=/ws duration=0.0000 "
            'detail="load_user: LookupError"'
        )
        assert vars(record)["error_type"] == "LookupError"
        assert vars(record)["error_at"] == "load_user at app/users.py:31"

    def test_two_things_that_broke_are_two_messages(self, log: Lines) -> None:
        for more in ({}, {}, {"error_at": "x at y.py:1"}, {"error_type": "KeyError"}):
            log_event(Refused(**{**self.FAULT, **more}, client=f"192.0.2.{len(log.records)}"))
        assert len({record.msg for record in log.records}) == 3

    def test_an_exception_that_was_never_raised_has_no_place(self, log: Lines) -> None:
        assert raised(KeyError("x")) == ("KeyError", None)
        log_event(Refused(reason=Reason.UNAVAILABLE, error_type="KeyError"))
        assert log.records[0].msg == "websocket %s: KeyError: %s"

    def test_where_it_was_raised_is_the_innermost_place(self) -> None:
        line = broken_at.__code__.co_firstlineno + 3
        place = f"broken_at at unit/test_events.py:{line}"
        assert raised(broken_at()) == ("LookupError", place)

    def test_a_class_of_somebodys_own_is_told_with_its_module(self) -> None:
        class Broken(Exception):
            pass

        kind, _ = raised(Broken())
        assert kind.startswith("test_events.TestWhatBroke.")
        assert kind.endswith(".Broken")

    @cases("name", ["100%", "%s %d %", "%(x)s"])
    def test_a_percent_sign_in_it_is_one(self, log: Lines, name: str) -> None:
        log_event(Refused(**{**self.FAULT, "error_at": name}))
        assert f"LookupError in {name}: reason=" in log.texts[0]

    def test_it_stays_on_its_line(self, log: Lines) -> None:
        log_event(Refused(**{**self.FAULT, "error_at": "a\nb", "error_type": "x\x1b[2J"}))
        assert (
            log.texts[0].splitlines()[0].startswith("ERROR websocket refused: x\\x1b[2J in a\\nb")
        )

    def test_an_observer_that_fails_is_told_of_in_the_same_way(self, log: Lines) -> None:
        log_failure("observer %r failed", "o", broken_at())
        (record,) = log.records
        assert record.getMessage() == "observer 'o' failed"
        assert vars(record)["error_type"] == "LookupError"
        assert "test_events.py" in vars(record)["error_at"]


class TestObservers:
    @cases("build", [JWKS, authenticator], ids=["JWKS", "Authenticator"])
    @cases("observers", [print, "log", ["log"], [None], [nobody]])
    def test_what_is_no_observer_is_an_error(self, build: Any, observers: Any) -> None:
        given = ["https://id.example/keys"] if build is JWKS else []
        with pytest.raises(ConfigurationError, match=r"^observers.* "):
            build(*given, observers=observers)

    def test_every_observer_is_told_in_order(self) -> None:
        told: list[tuple[str, Event]] = []
        observers = [lambda e: told.append(("first", e)), lambda e: told.append(("second", e))]
        event = Admitted()
        tell(authenticator(observers=observers).observers, event)
        assert told == [("first", event), ("second", event)]

    def test_one_that_raises_is_logged_and_the_next_is_told(self, log: Lines) -> None:
        told: list[Event] = []

        def broken(event: Event) -> None:
            raise RuntimeError("no room for it")

        tell(authenticator(observers=[broken, told.append]).observers, Admitted())
        assert told == [Admitted()]
        (record,) = log.records
        assert record.levelno == logging.ERROR
        assert "broken" in record.getMessage()
        assert "no room for it" in log.texts[0]

    def test_what_it_raises_can_not_forge_a_line(self, log: Lines) -> None:
        def broken(event: Event) -> None:
            raise RuntimeError(f"no room for {event.path}")

        auth = authenticator(observers=[broken])
        tell(auth.observers, Admitted(path="/ws\nINFO websocket admitted: identity=admin\x1b[2J"))
        (text,) = log.texts
        assert not any(line.startswith("INFO") for line in text.splitlines())
        assert "\x1b" not in text

    def test_one_that_can_not_be_stopped_is_not(self) -> None:
        def stopped(event: Event) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tell(authenticator(observers=[stopped]).observers, Admitted())

    @pytest.mark.anyio
    async def test_the_handshake_is_unharmed(self, log: Lines) -> None:
        async def verify(credential: Any, conn: Any) -> Principal | None:
            return Principal("alice") if credential.value == "good" else None

        def broken(event: Event) -> None:
            raise RuntimeError("no room for it")

        wrapped = WebSocketAuthMiddleware(App(), authenticator(verify, observers=[broken]))
        admitted = await drive(wrapped, websocket("token=good"))
        assert (admitted.accepted, admitted.close) == (True, None)
        refused = await drive(wrapped, websocket("token=bad"))
        assert refused.close == (1008, "token_invalid")
