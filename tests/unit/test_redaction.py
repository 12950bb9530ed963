"""What the filter cuts out of log records, whatever shape they have."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cases import cases
from handshakes import authenticator, bearer, mint, nobody, websocket
from starlette.requests import HTTPConnection
from uvicorn.logging import AccessFormatter

from asgi_wsauth import (
    ConfigurationError,
    Cookie,
    FirstMessage,
    Header,
    InternalCredential,
    QueryParam,
    RedactCredentials,
    Subprotocol,
)

SECRET = "s3cr3t-kR7vQz2LxW9s"
HIDDEN = "[redacted]"
PREFIX = "base64url.bearer.authorization.k8s.io."
SOURCES = [
    QueryParam("token"),
    Header("authorization", scheme="Bearer"),
    Header("X-API-Key"),
    Cookie("session"),
    Subprotocol(),
    Subprotocol(prefix=PREFIX),
]


def build(*sources: Any) -> RedactCredentials:
    return RedactCredentials(
        authenticator(nobody, sources=sources or SOURCES, allowed_origins=["https://chat.example"])
    )


REDACT = build()


def record(msg: Any, *args: Any, **more: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "server", "msg": msg, "args": args, **more})


def logged(msg: Any, *args: Any, **more: Any) -> str:
    """The text that a log file has of a record behind the filter."""
    made = record(msg, *args, **more)
    assert REDACT.filter(made) is True
    return logging.Formatter().format(made)


class TestNames:
    @cases(
        ("text", "clean"),
        [
            ("/ws?token={}", "/ws?token=[]"),
            ("/ws?a=1&token={}&b=2", "/ws?a=1&token=[]&b=2"),
            ("/ws?TOKEN={}", "/ws?TOKEN=[]"),
            ("/ws?tok%65n={}", "/ws?tok%65n=[]"),
            ("/ws?%74%6F%6b%65%6E={}", "/ws?%74%6F%6b%65%6E=[]"),
            ("/ws?token={}&token={}", "/ws?token=[]&token=[]"),
            ("token={} token={}", "token=[] token=[]"),
            ('"GET /ws?token={} HTTP/1.1" 101', '"GET /ws?token=[] HTTP/1.1" 101'),
            ("b'a=1&token={}'", "b'a=1&token=[]'"),
            ("<a href='/ws?token={}'>", "<a href='/ws?token=[]'>"),
            ("authorization: Bearer {}", "authorization: []"),
            ("Authorization: bearer   {}", "Authorization: []"),
            ("Authorization: Token {}", "Authorization: []"),
            ("got Bearer {} from it", "got Bearer [] from it"),
            ("< X-API-Key: {}", "< X-API-Key: []"),
            ("x-api-key: a {} b\nnext: 1", "x-api-key: []\nnext: 1"),
            ("{{'x-api-key': '{}', 'a': '1'}}", "{{'x-api-key': '[]', 'a': '1'}}"),
            ("(b'x-api-key', b'{}'), (b'a', b'1')", "(b'x-api-key', b'[]'), (b'a', b'1')"),
            ("[[b'x-api-key', b'{}'], [b'a', b'1']]", "[[b'x-api-key', b'[]'], [b'a', b'1']]"),
            ("Cookie: a=1; session={}; b=2", "Cookie: a=1; session=[]; b=2"),
            ('Cookie: session="{}"; b=2', 'Cookie: session="[]"; b=2'),
            ("(b'cookie', b'session={}')", "(b'cookie', b'session=[]')"),
            ("Sec-WebSocket-Protocol: bearer, {}", "Sec-WebSocket-Protocol: bearer, []"),
            ("Sec-WebSocket-Protocol: bearer,{}, chat", "Sec-WebSocket-Protocol: bearer,[]"),
            ("Sec-WebSocket-Protocol: {}", "Sec-WebSocket-Protocol: []"),
            ("['bearer', '{}', 'chat']", "['bearer', '[]', 'chat']"),
            ('["bearer","{}","chat"]', '["bearer","[]","chat"]'),
            ("['chat', '" + PREFIX + "{}']", "['chat', '" + PREFIX + "[]']"),
        ],
    )
    def test_what_stands_behind_a_name_is_cut(self, text: str, clean: str) -> None:
        clean = clean.replace("{{", "{").replace("}}", "}").replace("[]", HIDDEN)
        assert logged(text.replace("{{", "{").replace("}}", "}").replace("{}", SECRET)) == clean

    @cases(
        ("source", "text"),
        [
            (QueryParam("access_token"), f"/ws?access_token={SECRET}"),
            (QueryParam("a.b*(c"), f"/ws?a.b*(c={SECRET}"),
            (QueryParam("a b"), f"/ws?a%20b={SECRET}"),
            (Header("x.y*z"), f"x.y*z: {SECRET}"),
            (Header("x-token", scheme="Key"), f"x-token: Key {SECRET}"),
            (Header("x-token", scheme="Key"), f"Key {SECRET}"),
            (Cookie("__Host-s+id"), f"__Host-s+id={SECRET}"),
            (Subprotocol("access.token"), f"access.token, {SECRET}"),
        ],
        ids=str,
    )
    def test_the_names_are_the_ones_of_the_sources(self, source: Any, text: str) -> None:
        made = record(text)
        assert build(source).filter(made)
        assert SECRET not in made.getMessage()
        assert HIDDEN in made.getMessage()
        made = record(text)
        assert build(QueryParam("another")).filter(made)
        assert made.getMessage() == text

    def test_the_value_of_a_spaced_parameter_name(self) -> None:
        made = record(f"/ws?a+b={SECRET}")
        assert build(QueryParam("a b")).filter(made)
        assert SECRET not in made.getMessage()

    @cases(
        "raw",
        [
            b"GET /ws HTTP/1.1\r\nX-API-Key: s3cr3t\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nAuthorization: Bearer s3cr3t\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nCookie: session=s3cr3t\r\n\r\n",
            b"GET /ws?token=s3cr3t HTTP/1.1\r\n\r\n",
            b"GET /ws HTTP/1.1\r\nSec-WebSocket-Protocol: bearer, s3cr3t\r\n\r\n",
        ],
    )
    def test_a_request_in_raw_bytes(self, raw: bytes) -> None:
        """Its repr has the letters \\r\\n before each name."""
        assert "s3cr3t" not in logged("received %r", raw)
        assert "s3cr3t" not in logged(raw.decode())

    @cases("value", ["a's3cr3t", "a,s3cr3t", "a;s3cr3t"])
    def test_a_parameter_ends_where_the_source_says(self, value: str) -> None:
        """Which is at the next `&`: `encodeURIComponent` leaves a quote as it is."""
        scope = websocket(f"token={value}&b=2")
        assert QueryParam("token").extract(HTTPConnection(scope)) == value
        assert "s3cr3t" not in logged("%s - connected", f"/ws?token={value}&b=2")


class TestShapes:
    @cases(
        "make",
        [
            mint,
            lambda: mint(headers={"kid": "1"}),
            lambda: mint().rpartition(".")[0] + ".",
            lambda: InternalCredential().value,
            lambda: "wst_" + "A" * 22,
            lambda: "wsk_" + "-_" * 16,
        ],
        ids=["jwt", "jwt with kid", "unsigned jwt", "internal", "ticket", "key"],
    )
    @cases(
        "text",
        [
            "{}",
            "token is {}, sorry",
            "<{}>",
            "'{}'",
            "x:{}",
            "x={}&y=1",
            "/ws/{}/x",
            "({})",
            "%22{}%22",
            "/login?next=%2Fws%3Ft%3D{}",
            "Bearer%20{}",
            "a\\n{}",
            "\x1b[32m{}\x1b[0m",
        ],
    )
    def test_it_is_cut_wherever_it_stands(self, text: str, make: Callable[[], str]) -> None:
        credential = make()
        clean = logged(text.replace("{}", credential))
        for part in credential.split("."):
            assert not part or part not in clean
        assert HIDDEN in clean

    @cases(
        "text",
        [
            "wst_short",
            "wsx_" + "A" * 22,
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJ.x",
            "www.example.org",
            "a.b.c",
        ],
    )
    def test_what_only_begins_like_one_stays(self, text: str) -> None:
        assert logged(text) == text


class TestHarmless:
    @cases(
        "text",
        [
            "",
            "Application startup complete.",
            "Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
            '127.0.0.1:50000 - "WebSocket /ws?next_token=2&csrf-token=3&mytoken=4" [accepted]',
            "< Host: chat.example",
            "< Cookie: a=1; session_id=2; my-session=3",
            "> Sec-WebSocket-Protocol: bearer",
            "token= session= 100% done {} %s %(x)s",
            "bearer",
            "日本語 \u202e \x1b[0m",
        ],
    )
    def test_a_harmless_line_stays_byte_for_byte(self, text: str) -> None:
        made = record(text)
        before = dict(vars(made))
        assert REDACT.filter(made) is True
        assert vars(made) == before

    def test_harmless_arguments_stay_the_objects_that_they_are(self) -> None:
        arguments = ("a b", 1, 2.5, None, b"x y", ["y"], {"z": 1}, object())
        made = record("%s %d %f %s %s %s %s %s", *arguments)
        assert REDACT.filter(made) is True
        assert all(kept is given for kept, given in zip(made.args or (), arguments, strict=True))
        assert made.msg == "%s %d %f %s %s %s %s %s"

    def test_a_formatter_of_your_own_still_formats_a_harmless_exception(self) -> None:
        """It may want it on one line, say, or as JSON."""

        class OneLine(logging.Formatter):
            def formatException(self, ei: Any) -> str:
                return f"<{ei[0].__name__}: {ei[1]}>"

        try:
            raise LookupError("harmless")
        except LookupError:
            made = record("failed", exc_info=sys.exc_info())
        assert REDACT.filter(made) is True
        assert OneLine().format(made) == "failed\n<LookupError: harmless>"

    def test_filtering_twice_is_filtering_once(self) -> None:
        made = record("< %s: %s", "X-API-Key", SECRET)
        REDACT.filter(made)
        once = dict(vars(made))
        REDACT.filter(made)
        assert vars(made) == once


class TestServers:
    """Records as the servers make them."""

    def test_uvicorns_access_formatter_can_take_the_arguments_apart(self) -> None:
        made = record(
            '%s - "%s %s HTTP/%s" %d',
            "127.0.0.1:50000",
            "GET",
            f"/ws?a=1&token={SECRET}",
            "1.1",
            403,
        )
        assert REDACT.filter(made) is True
        assert isinstance(made.args, tuple)
        assert len(made.args) == 5
        formatter = AccessFormatter("%(client_addr)s %(request_line)s %(status_code)s")
        formatter.use_colors = False
        text = formatter.format(made)
        assert text == "127.0.0.1:50000 GET /ws?a=1&token=[redacted] HTTP/1.1 403 Forbidden"

    def test_uvicorns_line_for_a_websocket(self) -> None:
        text = logged('%s - "WebSocket %s" [accepted]', "127.0.0.1:5", f"/ws?token={SECRET}")
        assert text == '127.0.0.1:5 - "WebSocket /ws?token=[redacted]" [accepted]'

    @cases(
        ("name", "value"),
        [
            ("Authorization", f"Bearer {SECRET}"),
            ("authorization", f"bearer  {SECRET}"),
            ("X-API-Key", SECRET),
            ("x-api-key", f"b{SECRET}"),
            ("Cookie", f"a=1; session={SECRET}; b=2"),
            ("Sec-WebSocket-Protocol", f"bearer, {SECRET}, chat"),
            ("Sec-WebSocket-Protocol", f"chat, {PREFIX}{SECRET}"),
        ],
    )
    def test_the_debug_lines_of_websockets(self, name: str, value: str) -> None:
        """Name and value are arguments of their own there."""
        text = logged("< %s: %s", name, value)
        assert text.startswith(f"< {name}: ")
        assert SECRET not in text
        assert HIDDEN in text

    def test_the_debug_line_of_a_request(self) -> None:
        text = logged("< GET %s HTTP/1.1", f"/ws?token={SECRET}")
        assert text == "< GET /ws?token=[redacted] HTTP/1.1"

    def test_a_whole_scope(self) -> None:
        headers = [*bearer(SECRET), ("x-api-key", SECRET), ("cookie", f"a=1; session={SECRET}")]
        scope = websocket(
            f"a=1&token={SECRET}", headers=headers, subprotocols=["bearer", SECRET, "chat"]
        )
        text = logged(f"scope: {scope}")
        assert SECRET not in text
        assert "chat.example" in text
        assert SECRET not in logged("scope: %r", scope)

    def test_arguments_as_a_dict(self) -> None:
        made = record("%(path)s %(status)d")
        made.args = {"path": f"/ws?token={SECRET}", "status": 403}
        assert REDACT.filter(made) is True
        assert made.getMessage() == "/ws?token=[redacted] 403"

    def test_harmless_arguments_as_a_dict_stay(self) -> None:
        made = record("%(path)s %(status)d")
        made.args = {"path": "/ws", "status": 403}
        assert REDACT.filter(made) is True
        assert made.args == {"path": "/ws", "status": 403}
        assert made.getMessage() == "/ws 403"

    @cases(
        ("msg", "args"),
        [
            (f"token={SECRET} 100%", ()),
            ("token=%s 100%%", (SECRET,)),
            ("%s 100%%", (f"token={SECRET}".encode(),)),
            ("%s", ([f"token={SECRET}"],)),
            ("%r", ({"x-api-key": SECRET},)),
            ("%s", (LookupError(f"token={SECRET}"),)),
            (LookupError(f"token={SECRET}"), ()),
            (["x-api-key", SECRET], ()),
            ("%5d %-40s|", (5, f"token={SECRET}")),
            ("%s=%s", ("token", SECRET)),
        ],
        ids=repr,
    )
    def test_any_message_and_any_argument(self, msg: Any, args: tuple[Any, ...]) -> None:
        text = logged(msg, *args)
        assert SECRET not in text
        assert HIDDEN in text
        assert ("100%" in text) == ("100%" in str(msg))


class TestExceptions:
    def raised(self, text: str) -> Any:
        try:
            try:
                raise LookupError(text)
            except LookupError as exc:
                raise RuntimeError("further out") from exc
        except RuntimeError:
            return sys.exc_info()

    def test_a_traceback_is_redacted_for_every_handler(self) -> None:
        made = record("failed", exc_info=self.raised(f"bad /ws?token={SECRET}"))
        assert REDACT.filter(made) is True
        for _ in range(2):
            text = logging.Formatter().format(made)
            assert SECRET not in text
            assert "bad /ws?token=[redacted]" in text
            assert "RuntimeError: further out" in text
        assert made.exc_info is None  # or another handler could format it anew

    def test_a_text_that_another_handler_has_kept_is_redacted_too(self) -> None:
        made = record("failed", exc_info=self.raised(f"bad /ws?token={SECRET}"))
        assert SECRET in logging.Formatter().format(made)
        assert REDACT.filter(made) is True
        assert SECRET not in logging.Formatter().format(made)

    def test_a_harmless_exception_stays(self) -> None:
        made = record("failed", exc_info=self.raised("harmless"))
        expected = logging.Formatter().format(record("failed", exc_info=self.raised("harmless")))
        assert REDACT.filter(made) is True
        assert logging.Formatter().format(made) == expected
        assert made.exc_info is not None


class TestBrokenRecords:
    """The handler reports those itself, so the filter must neither raise nor drop them."""

    @cases(
        ("msg", "args"),
        [
            ("%d", ("x",)),
            ("%s %s", ("x",)),
            ("%s", ("x", "y")),
            ("%(x)s", ("x",)),
            ("%", ("x",)),
            ("%z", ("x",)),
        ],
    )
    def test_arguments_that_do_not_fit_are_let_through(
        self, msg: str, args: tuple[Any, ...]
    ) -> None:
        made = record(msg, *args)
        assert REDACT.filter(made) is True
        assert (made.msg, made.args) == (msg, args)

    def test_an_argument_that_can_not_be_printed_is_let_through(self) -> None:
        class Unprintable:
            def __str__(self) -> str:
                raise LookupError("not today")

        assert REDACT.filter(record("%s", Unprintable())) is True

    @cases(
        ("msg", "args"),
        [
            (f"token={SECRET} %d", ("x",)),
            ("%d", (f"token={SECRET}",)),
            ("%d", (f"token={SECRET}".encode(),)),
        ],
        ids=repr,
    )
    def test_what_is_reported_of_it_is_redacted(
        self, msg: str, args: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The standard library writes message and arguments to stderr."""
        handler = logging.StreamHandler(io.StringIO())
        handler.addFilter(REDACT)
        handler.handle(record(msg, *args))
        reported = capsys.readouterr().err
        assert "--- Logging error ---" in reported
        assert SECRET not in reported.replace(f'{SECRET} %d", ("x"', "")


def test_as_a_filter_of_a_handler_it_covers_every_logger() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(REDACT)
    some = logging.getLogger("tests.redaction.some.server")
    some.addHandler(handler)
    some.propagate = False
    try:
        some.warning("< %s: %s", "X-API-Key", SECRET)
        some.warning("harmless")
    finally:
        some.removeHandler(handler)
    assert stream.getvalue() == "< X-API-Key: [redacted]\nharmless\n"


@cases("piece", ["eyJ-", "eyJ", "wst_", "wst_a.", "token", "token=", "\\n", "' "])
def test_a_hostile_line_takes_linear_time(piece: str) -> None:
    """Anybody can have an address of 64 KB logged; quadratic work on this one would hang."""
    made = record(piece * 50_000)
    assert REDACT.filter(made) is True


@cases("line", ["session = {}", "{{'token': '{}'}}", "[('session', '{}')]", '{{"token": "{}"}}'])
def test_a_name_and_a_value_in_other_notations(line: str) -> None:
    made = record(line.format(SECRET).replace("%", "%%"))
    assert REDACT.filter(made) is True
    assert SECRET not in made.getMessage()


def test_a_source_of_your_own_is_covered_by_shape_alone() -> None:
    class FromPath:
        def extract(self, conn: Any) -> str | None: ...
        def redact(self, scope: Any) -> None: ...

    token = mint()
    made = record("/ws/%s/%s", SECRET, token)
    assert build(FromPath()).filter(made)
    assert made.getMessage() == f"/ws/{SECRET}/[redacted]"


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


class TestForms:
    """The same name and value as the world writes them in other notations."""

    @cases(
        "line",
        [
            # In JSON, in a string of JSON, and in a string of that
            '{"token": "{}", "a": 1}',
            '{"a":"b","token":"{}"}',
            r'"{\"token\": \"{}\", \"a\": 1}"',
            r'"{\"a\":\"{\\\"token\\\":\\\"{}\\\"}\"}"',
            r"'{\'token\': \'{}\'}'",
            '{"token" :\t"{}"}',
            '{"headers": {"x-api-key": "{}"}}',
            r'"{\"headers\": {\"X-API-Key\": \"{}\"}}"',
            r"\"authorization\":\"Bearer {}\"",
            r'"cookie\": \"a=1; session={}; b=2\"',
            r'"[\"bearer\", \"{}\", \"chat\"]"',
            # As YAML, logfmt, Ruby and people write it
            "token: {}",
            "token:{} a:1",
            "{token: {}, a: 1}",
            "  session: {}",
            "x-api-key: {}",
            "token='{}'",
            'token="{}" a=1',
            "token = '{}'",
            '"token"=>"{}"',
            "token: '{}'",
            "session: \"{}\"",
            "subprotocols: [bearer, {}]",
            # The environment of CGI, WSGI and of a shell
            "HTTP_AUTHORIZATION=Bearer {}",
            "HTTP_AUTHORIZATION=Token {}",
            "REDIRECT_HTTP_AUTHORIZATION=Token {}",
            "{'HTTP_AUTHORIZATION': 'Token {}', 'a': '1'}",
            "{'HTTP_X_API_KEY': '{}'}",
            "HTTP_X_API_KEY={}",
            "x_api_key={}",
            "HTTP_COOKIE=a=1; session={}; b=2",
            "'HTTP_COOKIE': 'session={}'",
            "QUERY_STRING=token={}&a=1",
            "'QUERY_STRING': 'a=1&token={}'",
            "REQUEST_URI=/ws?token={}",
            "HTTP_SEC_WEBSOCKET_PROTOCOL=chat, bearer, {}",
            "'HTTP_SEC_WEBSOCKET_PROTOCOL': 'bearer,{}'",
            "HTTP_SEC_WEBSOCKET_PROTOCOL=" + PREFIX + "{}, chat",
            # In an address that is a parameter of another one, and in a form
            "/login?next=%2Fws%3Ftoken%3D{}",
            "/login?next=%2Fws%3Fa%3D1%26token%3D{}%26b%3D2",
            "/a?next=%2Fb%3Fnext%3D%252Fws%253Ftoken%253D{}",
            "auth=Bearer%20{}",
            "auth=Bearer+{}",
            "auth=Bearer%2520{}",
            "protocols=bearer%2C%20{}",
            "protocols=bearer%2c{}",
            "body=%7B%22token%22%3A%22{}%22%7D",
            "body=%7B%22token%22%3A+%22{}%22%7D",
            "cookie=session%3D{}",
            r"url=/ws?a=1\u0026token={}",
        ],
    )  # fmt: skip
    def test_it_is_cut_in_every_notation(self, line: str) -> None:
        for value in (
            SECRET,
            percent(SECRET),
            percent(percent(SECRET)),
            f"{SECRET[:5]}%2d{SECRET[6:]}",
        ):
            text = logged(line.replace("{}", value))
            assert value not in text
            assert HIDDEN in text

    @cases(
        ("line", "clean"),
        [
            (r'"{\"token\": \"{}\", \"a\": 1}"', r'"{\"token\": \"[]\", \"a\": 1}"'),
            ('{"token": "{}", "a": 1}', '{"token": "[]", "a": 1}'),
            ("token='{}' a='1'", "token='[]' a='1'"),
            ("QUERY_STRING=a=1&token={}&b=2", "QUERY_STRING=a=1&token=[]&b=2"),
        ],
    )
    def test_what_stands_beside_it_stays(self, line: str, clean: str) -> None:
        assert logged(line.replace("{}", SECRET)) == clean.replace("[]", HIDDEN)

    @cases("value", ["a's3cr3t", 'a"s3cr3t', r"a\s3cr3t", r"a\"s3cr3t"])
    @cases("name", ["token", "session", "x-api-key"])
    def test_a_quote_of_the_value_does_not_end_it(self, name: str, value: str) -> None:
        for text in (f"{name}: {value}", repr({name: value}), repr(repr({name: value}))):
            assert "s3cr3t" not in logged(text.replace("%", "%%"))

    @cases("times", [1, 2])
    @cases("make", [mint, lambda: "wst_" + "A" * 22, lambda: "wsk_" + "-_" * 16])
    @cases("text", ["{}", "/a/{}", "x={}&y=1", "'{}' ", "~{}", "%%{}", "%2F{}"])
    def test_a_shape_is_known_by_its_escapes(
        self, text: str, make: Callable[[], str], times: int
    ) -> None:
        credential = make()
        dots = credential.replace(".", "%2E").replace("_", "%5f").replace("-", "%2D")
        for written in (dots, percent(credential), credential[:1] + percent(credential[1:])):
            for _ in range(times - 1):
                written = written.replace("%", "%25")
            clean = logged(text.replace("{}", written))
            assert written not in clean
            assert HIDDEN in clean

    def test_escapes_within_escapes_within_escapes_end_somewhere(self) -> None:
        text = "/a?x=%" + "25" * 50 + "41"
        assert logged(text) == text

    @cases(
        "message",
        [
            {"type": "auth", "token": SECRET},
            {"type": "auth", "access_token": SECRET},
            {"type": "connection_init", "payload": {"Authorization": f"Bearer {SECRET}"}},
            {"type": "connection_init", "payload": {"accessToken": SECRET}},
        ],
    )
    def test_the_first_message_is_known(self, message: dict[str, Any]) -> None:
        for text in (json.dumps(message), json.dumps(json.dumps(message))):
            made = record("< TEXT '%s' [54 bytes]", text)
            assert build(FirstMessage()).filter(made)
            assert SECRET not in made.getMessage()


class WithPatterns:
    """A source of one's own."""

    def __init__(self, *patterns: Any) -> None:
        self.patterns = patterns

    def extract(self, conn: Any) -> str | None: ...
    def redact(self, scope: Any) -> None: ...

    def log_patterns(self) -> Any:
        return list(self.patterns)


class TestLogPatterns:
    @cases(
        ("pattern", "clean"),
        [
            (r"(/ws/)\w+", "GET /ws/[redacted] abcdef"),
            (r"\w+def", "GET /ws/[redacted] [redacted]"),
            (r"(?:/ws/)(\w{3})\w+( )", "GET abc[redacted]abcdef"),
            (r"(X)|abcdef", "GET /ws/[redacted] [redacted]"),
            (r"(?i)(/WS/)\w+", "GET /ws/[redacted] abcdef"),
        ],
    )
    def test_all_is_cut_but_the_first_group(self, pattern: str, clean: str) -> None:
        made = record("GET /ws/abcdef abcdef")
        assert build(WithPatterns(pattern)).filter(made)
        assert made.getMessage() == clean

    def test_there_may_be_several_and_they_add_to_what_is_known(self) -> None:
        class Mine(QueryParam):
            def log_patterns(self) -> list[str]:
                return ["(a=)1", "(b=)2"]

        made = record("/ws?token=x&a=1&b=2")
        assert build(Mine("token")).filter(made)
        assert made.getMessage() == "/ws?token=[redacted]&a=[redacted]&b=[redacted]"

    @cases("pattern", ["(", 5, None, b"x", "*"])
    def test_what_is_no_pattern_is_an_error(self, pattern: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"log_patterns\(\) of .* must be a list of"):
            build(WithPatterns(pattern))

    def test_one_string_is_no_list(self) -> None:
        class One(WithPatterns):
            def log_patterns(self) -> Any:
                return "token"

        with pytest.raises(ConfigurationError, match=r"log_patterns\(\) of .* must be a list"):
            build(One())

    def test_what_is_no_method_is_an_error(self) -> None:
        class Attribute(WithPatterns):
            log_patterns: Any = "(a=)1"

        with pytest.raises(ConfigurationError, match=r"log_patterns of .* must be a method"):
            build(Attribute())

    @cases("given", [None, "auth", QueryParam("token")])
    def test_it_takes_an_authenticator(self, given: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"authenticator must be an? Authenticator"):
            RedactCredentials(given)


@pytest.mark.slow
@cases(
    "piece",
    [
        *("%", "%25", "%2", "%41", "%22", "%255c", "\\", '\\"', "token\\", 'token\\"'),
        *('token\\":\\"', "eyJ%41", "eyJ.a."),
        *("token ", "token = ", "token:", "token: \\", "token: '", "token=>", "x-api-key: \\'"),
        *("bearer%20", "bearer%2c", "bearer, ", "session=\\", "http_", "\\u0026", "a"),
        *("wst_%41", "token%25", "token%3D", "%74oken", "~", PREFIX, "sec-websocket-protocol:"),
    ],
)  # fmt: skip
@cases("end", ["", "'"])
def test_a_hostile_line_of_any_notation_takes_linear_time(piece: str, end: str) -> None:
    """Quadratic work would take minutes for the whole of it."""
    made = record("%s", piece * (LENGTH // len(piece)) + end)
    assert REDACT.filter(made) is True
    made = record("%s", f"eyJ token% {piece * (LENGTH // len(piece))}{end}")
    assert REDACT.filter(made) is True


LENGTH = 4 * 1024
