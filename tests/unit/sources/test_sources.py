"""Where a credential travels: each source finds it in one place, and leaves nothing of it there."""

from __future__ import annotations

import copy
import random
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest
from cases import cases
from handshakes import App, Knows, authenticator, bearer, drive, mint, nobody, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Cookie,
    Denied,
    FirstMessage,
    Header,
    Principal,
    QueryParam,
    Reason,
    Source,
    Subprotocol,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.sources.findings import choose, redact
from asgi_wsauth.sources.first_message import token_in
from asgi_wsauth.sources.subprotocol import choose_subprotocol

MALFORMED = Reason.MALFORMED

BEARER = Header("authorization", scheme="Bearer")
API_KEY = Header("X-API-Key")
K8S = "base64url.bearer.authorization.k8s.io."


def extract(source: Source, scope: dict[str, Any]) -> str | Reason | None:
    try:
        return source.extract(HTTPConnection(scope))
    except Denied as denied:
        assert denied.detail.startswith(f"{source} ")  # the log says where something is wrong
        return denied.reason


def redacted(source: Source, scope: dict[str, Any]) -> dict[str, Any]:
    source.redact(scope)
    return scope


def chosen(auth: Any, scope: dict[str, Any]) -> str:
    """The credential that an authenticator judges."""
    return choose(auth.collect(HTTPConnection(scope)).findings, auth.sources, 8192).value


def values(scope: dict[str, Any], name: str) -> list[bytes]:
    """All values of a header, as the app finds them."""
    return [value for key, value in scope["headers"] if key.lower() == name.encode()]


def decided(source: Source, scope: dict[str, Any]) -> str | Reason | None:
    """What an authenticator makes of it that has this one source: what its verifier would be asked
    about, or why nothing is asked."""
    allowed = ["https://chat.example"] if isinstance(source, Cookie) else None
    auth = authenticator(nobody, sources=[source], allowed_origins=allowed)
    try:
        return chosen(auth, scope)
    except Denied as denied:
        return denied.reason


class TestQueryParam:
    @cases(
        ("query", "found", "left"),
        [
            (b"", None, b""),
            (b"token=abc", "abc", b""),
            (b"a=1&token=abc&b=2", "abc", b"a=1&b=2"),
            (b"token=abc&a=1", "abc", b"a=1"),
            (b"token=a=b==", "a=b==", b""),
            (b"token=a%2Bb%2Fc%3D", "a+b/c=", b""),
            # Empty counts as none, and is taken away all the same.
            (b"token=", None, b""),
            (b"token", None, b""),
            (b"a=1&token=&b=2", None, b"a=1&b=2"),
            # Other parameters stay as they are, however odd.
            (b"&&a=%31+%zz&=&a=1&token=abc&b", "abc", b"&&a=%31+%zz&=&a=1&b"),
            (b"a=\xff\x00%ff;token=x", None, b"a=\xff\x00%ff;token=x"),
            # Names that are not this one.
            (b"Token=abc&TOKEN=abc", None, b"Token=abc&TOKEN=abc"),
            (b"token2=abc&xtoken=abc&token[]=abc", None, b"token2=abc&xtoken=abc&token[]=abc"),
            (b"tok%2565n=abc", None, b"tok%2565n=abc"),
            (b"a=token&b=%26token%3Dabc", None, b"a=token&b=%26token%3Dabc"),
            (b"%EF%BD%94oken=abc", None, b"%EF%BD%94oken=abc"),
        ],
    )
    def test_finds_its_parameter_and_leaves_the_others(
        self, query: bytes, found: str | None, left: bytes
    ) -> None:
        scope = websocket(query)
        assert extract(QueryParam("token"), scope) == found
        assert redacted(QueryParam("token"), scope)["query_string"] == left

    @cases(
        "query",
        [
            b"token=abc&token=abc",
            b"token=abc&a=1&token=def",
            b"token=&token=abc",
            b"token&token=abc",
            b"token=abc&tok%65n=abc",
            b"token=abc&%74%6F%6B%65%6E=abc",
        ],
    )
    def test_given_twice_is_malformed_and_gone(self, query: bytes) -> None:
        scope = websocket(query + b"&b=2")
        assert extract(QueryParam("token"), scope) is MALFORMED
        assert redacted(QueryParam("token"), scope)["query_string"].strip(b"a=1&") == b"b=2"

    @cases(
        "character",
        sorted(
            set("-._~")
            | set(map(chr, range(48, 58)))
            | set(map(chr, range(65, 91)))
            | set(map(chr, range(97, 123)))
        ),
    )
    def test_an_escape_that_nobody_needs_is_what_it_stands_for(self, character: str) -> None:
        """RFC 3986 section 2.3: "equivalent", and some clients' libraries escape all of them."""
        for escape in (f"%{ord(character):02x}", f"%{ord(character):02X}"):
            scope = websocket(f"token=a{escape}b")
            assert decided(QueryParam("token"), scope) == f"a{character}b"
        name = f"x{character}"
        assert extract(QueryParam(name), websocket(f"x%{ord(character):02x}=abc")) == "abc"

    def test_a_token_of_which_every_byte_is_escaped(self) -> None:
        token = mint()
        query = "token=" + "".join(f"%{byte:02X}" for byte in token.encode())
        assert decided(QueryParam("token"), websocket(query)) == token

    @cases(
        "character",
        sorted(
            set(map(chr, range(33, 127)))
            - set("-._~")
            - set("0123456789")
            - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
        ),
    )
    def test_an_escape_that_a_client_needs_is_decoded_once(self, character: str) -> None:
        query = f"token=a{quote(character, safe='')}b"
        assert decided(QueryParam("token"), websocket(query)) == f"a{character}b"

    @cases(
        ("query", "verdict"),
        [
            (b"token=abc%00", MALFORMED),
            (b"token=%00abc", MALFORMED),
            (b"token=a%2eb%2Ec", "a.b.c"),
            (b"token=a%252eb", "a%2eb"),  # once, and a JWT has no percent sign
            (b"token=a%25252eb", "a%252eb"),
            (b"token=a%%2eb", "a%.b"),
            (b"token=a%2%65b", "a%2eb"),
            (b"token=a%2Bb", "a+b"),
            (b"token=a%2500b", "a%00b"),
            (b"token=a%C0%AEb", MALFORMED),  # overlong UTF-8 for "."
            (b"token=a%E0%80%AEb", MALFORMED),
            (b"token=a%ff%feb", MALFORMED),
            (b"token=a+b", MALFORMED),
            (b"token=a%20b", MALFORMED),
            (b"token=+abc", MALFORMED),
            (b"token=abc%0A", MALFORMED),
            (b"token=abc%0D%0Ax", MALFORMED),
            (b"token=%EF%BD%81%EF%BD%82", MALFORMED),  # full-width letters
            (b"token=abc%E2%80%8B", MALFORMED),  # a zero-width space
            (b"token=\xef\xbb\xbfabc", MALFORMED),  # a byte-order mark, unescaped
            (b"token=a\xe9b", MALFORMED),
            (b"token=a%u002eb", "a%u002eb"),
            (b"token=a%2", "a%2"),
            (b"token=a%", "a%"),
            (b"token=a%zz", "a%zz"),
        ],
    )
    def test_nothing_is_normalised_into_validity(self, query: bytes, verdict: str | Reason) -> None:
        assert decided(QueryParam("token"), websocket(query)) == verdict

    @cases("query", [b"tok%65n=abc", b"%74oken=abc", b"a=1&tok%65n=abc", b"tok%65n=%61bc"])
    def test_an_escaped_name_is_the_name_and_goes_too(self, query: bytes) -> None:
        scope = websocket(query)
        assert extract(QueryParam("token"), scope) == "abc"
        assert redacted(QueryParam("token"), scope)["query_string"] in (b"", b"a=1")

    @cases(
        ("name", "query"),
        [
            ("a.b", b"a.b=abc"),
            ("access token", b"access+token=abc"),
            ("access token", b"access%20token=abc"),
            ("token[]", b"token[]=abc"),
            ("token[]", b"token%5B%5D=abc"),
            ("(.*)+$", b"(.*)%2B$=abc"),
            ("a=b", b"a%3Db=abc"),
            ("a&b", b"a%26b=abc"),
            ("schlüssel", b"schl%C3%BCssel=abc"),
            ("\\", b"\\=abc"),
            ("100%", b"100%=abc"),
            ("100%", b"100%25=abc"),
            ("a+b", b"a%2Bb=abc"),
        ],
    )
    def test_any_name_is_taken_literally(self, name: str, query: bytes) -> None:
        scope = websocket(b"axb=1&" + query)
        assert extract(QueryParam(name), scope) == "abc"
        assert redacted(QueryParam(name), scope)["query_string"] == b"axb=1"

    @cases("missing", [{}, {"query_string": b""}, {"query_string": None}], ids=repr)
    def test_a_scope_without_a_query_has_none(self, missing: dict[str, Any]) -> None:
        scope = websocket()
        del scope["query_string"]
        scope.update(missing)
        before = copy.deepcopy(scope)
        assert extract(QueryParam("token"), scope) is None
        assert redacted(QueryParam("token"), scope) == before

    def test_an_empty_name_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r'^QueryParam: name must be .* "token"'):
            QueryParam("")


class TestHeaderWithScheme:
    @cases(
        ("value", "verdict"),
        [
            ("Bearer abc", "abc"),
            ("bearer abc", "abc"),
            ("BEARER abc", "abc"),
            ("bEaReR abc", "abc"),
            ("Bearer  abc", "abc"),
            ("Bearer     abc  ", "abc"),
            (" Bearer abc", "abc"),
            ("\tBearer abc", "abc"),
            ("Bearer", Reason.MISSING),
            ("Bearer ", Reason.MISSING),
            ("Bearer    ", Reason.MISSING),
            ("Bearer a b", MALFORMED),
            ("Bearer Bearer abc", MALFORMED),
            ("Bearer\tabc", MALFORMED),
            ("Bearer abc\t", MALFORMED),
            ("Bearer abc\n", MALFORMED),
            ("Bearer abc\x00", MALFORMED),
            ("Bearer a\x00bc", MALFORMED),
            ("Bearer abc\xa0", MALFORMED),
            ("Bearer a\xffc", MALFORMED),
            ("Bearer %61bc", "%61bc"),  # a header has no escapes
            ("Bearer XabcX", "XabcX"),
            ("Bearer a+b", "a+b"),
            ("Bearer=abc", MALFORMED),
            ("Bearer: abc", MALFORMED),
            ("Bearer abc, Bearer abc", MALFORMED),
            ("Bearer abc,Bearer abc", MALFORMED),
            ("Bearer abc, bearer", MALFORMED),
            ("Bearer abc,bearer", MALFORMED),
            ("Basic abc, Bearer abc", MALFORMED),
            ("Basic abc,Bearer abc", MALFORMED),
            ("Bearer abc, Basic abc", MALFORMED),
            (",Bearer abc", "abc"),  # an empty element of a list, RFC 9110 section 5.6.1
        ],
    )
    def test_each_form_has_one_meaning_and_leaves_nothing(
        self, value: str, verdict: str | Reason
    ) -> None:
        scope = websocket(headers=[("authorization", value), ("x-other", "1")])
        assert decided(BEARER, scope) == verdict
        redacted(BEARER, scope)
        assert scope["headers"] == [(b"host", b"chat.example"), (b"x-other", b"1")]

    @cases(
        "value",
        [
            "",
            "Basic YTpi",
            "Bearerabc",
            "Bearer-abc abc",
            "xBearer abc",
            "Token Bearer abc",
            'Digest realm="Bearer abc"',
            "Negotiate abc",
        ],
    )
    def test_another_scheme_is_none_and_stays(self, value: str) -> None:
        scope = websocket(headers=[("authorization", value)])
        before = copy.deepcopy(scope)
        assert decided(BEARER, scope) is Reason.MISSING
        assert redacted(BEARER, scope) == before

    @cases("value", ["eyJhbGciOi", "Token eyJhbGciOi", "wst_abc", "wsk_abc", "JWT  wsi_abc"])
    def test_of_a_token_without_the_scheme_the_log_warns_once(
        self, value: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.clear()
        source = Header(scheme="Bearer")
        for each in ("Basic YTpi", "abc", value, value):
            assert extract(source, websocket(headers=[("authorization", each)])) is None
        assert caplog.messages == [
            'header authorization ignores a token that has no "Bearer" before it'
        ]

    @cases(
        "headers",
        [
            ["Bearer abc", "Bearer abc"],
            ["Bearer abc", "bearer def"],
            ["Bearer abc", "Basic YTpi"],
            ["Basic YTpi", "Bearer abc"],
            ["Bearer abc", ""],
            ["Bearer", "Bearer abc"],
        ],
    )
    def test_given_twice_is_malformed_and_gone(self, headers: list[str]) -> None:
        scope = websocket(headers=[("authorization", value) for value in headers])
        assert extract(BEARER, scope) is MALFORMED
        assert b"abc" not in b"".join(values(redacted(BEARER, scope), "authorization"))

    @cases("scheme", ["Bearer", "bearer", "X.Y", "a+b", "$|^", "Token*"])
    def test_any_scheme_is_taken_literally(self, scheme: str) -> None:
        source = Header("authorization", scheme=scheme)
        assert extract(source, websocket(headers=[("authorization", f"{scheme} abc")])) == "abc"
        assert extract(source, websocket(headers=[("authorization", "Zzz abc")])) is None

    def test_a_header_of_two_schemes_has_a_source_for_each(self) -> None:
        sources = [BEARER, Header("authorization", scheme="Token")]
        scope = websocket(headers=[("authorization", "Token abc")])
        assert [extract(source, scope) for source in sources] == [None, "abc"]


class TestHeaderWithoutScheme:
    @cases(
        ("value", "verdict"),
        [
            ("abc", "abc"),
            (" abc ", "abc"),
            ("", Reason.MISSING),
            ("  ", Reason.MISSING),
            ("Bearer abc", MALFORMED),
            ("abc\t", MALFORMED),
            ("abc\x00", MALFORMED),
            ("ab\xe9", MALFORMED),
            ("abc, abc", MALFORMED),
        ],
    )
    def test_the_whole_value_is_the_credential_and_goes(
        self, value: str, verdict: str | Reason
    ) -> None:
        scope = websocket(headers=[("x-other", "1"), ("x-api-key", value), ("x-another", "2")])
        assert decided(API_KEY, scope) == verdict
        assert redacted(API_KEY, scope)["headers"] == [
            (b"host", b"chat.example"),
            (b"x-other", b"1"),
            (b"x-another", b"2"),
        ]

    @cases("headers", [["abc", "abc"], ["abc", "def"], ["abc", ""], ["", ""]])
    def test_given_twice_is_malformed_and_gone(self, headers: list[str]) -> None:
        scope = websocket(headers=[("x-api-key", value) for value in headers])
        assert extract(API_KEY, scope) is MALFORMED
        assert redacted(API_KEY, scope)["headers"] == [(b"host", b"chat.example")]


class TestHeader:
    def test_by_default_it_is_authorization(self) -> None:
        assert extract(Header(scheme="Bearer"), websocket(headers=bearer("abc"))) == "abc"

    def test_its_name_has_no_case(self) -> None:
        assert extract(Header("X-Api-KEY"), websocket(headers=[("x-api-key", "abc")])) == "abc"

    def test_a_name_that_a_server_left_in_capitals_goes_too(self) -> None:
        scope = websocket()
        scope["headers"].append((b"X-API-Key", b"abc"))
        assert redacted(API_KEY, scope)["headers"] == [(b"host", b"chat.example")]

    @cases("name", ["", " ", "x api", "x:", "x\r\ny", "schlüssel", "x-key ", 'x"'])
    def test_what_is_no_header_name_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^Header: name must be one word"):
            Header(name)

    @cases("scheme", ["", " ", "Bearer ", "Be arer", "Bearer,", "Bearer\n", "Bëarer"])
    def test_what_is_no_scheme_is_refused(self, scheme: str) -> None:
        with pytest.raises(ConfigurationError, match="Header: scheme"):
            Header("authorization", scheme=scheme)


class TestCookie:
    SESSION = Cookie("session")

    @cases(
        ("cookies", "found", "left"),
        [
            (["session=abc"], "abc", []),
            (["a=1; session=abc; b=2"], "abc", [b"a=1; b=2"]),
            (["session=abc; a=1"], "abc", [b"a=1"]),
            (["a=1; session=abc"], "abc", [b"a=1"]),
            (["a=1;session=abc;b=2"], "abc", [b"a=1;b=2"]),
            (["a=1;  session = abc ; b=2"], "abc", [b"a=1; b=2"]),
            (["a=1", "session=abc", "b=2"], "abc", [b"a=1", b"b=2"]),  # as in HTTP/2
            (["session=a=b=="], "a=b==", []),
            (['session="abc"'], "abc", []),
            (['session="a b"'], "a b", []),
            # Quotes that are no pair, and backslashes, are as they are.
            (['session="abc'], '"abc', []),
            (['session=abc"'], 'abc"', []),
            (['session="'], '"', []),
            (['session="a\\"b"'], 'a\\"b', []),
            (['session="\\141bc"'], "\\141bc", []),
            (["session=%61bc"], "%61bc", []),
            (["session=XabcX"], "XabcX", []),
            # Empty counts as none, and is taken away all the same.
            (["session="], None, []),
            (['session=""'], None, []),
            (["a=1; session=; b=2"], None, [b"a=1; b=2"]),
            # Others stay as they are, however odd.
            ([" ;;a;=;b=\xff,c ;; session=abc"], "abc", [b";;a;=;b=\xff,c ;"]),
        ],
    )
    def test_finds_its_cookie_and_leaves_the_others(
        self, cookies: list[str], found: str | None, left: list[bytes]
    ) -> None:
        scope = websocket(headers=[("cookie", cookie) for cookie in cookies])
        assert extract(self.SESSION, scope) == found
        assert values(redacted(self.SESSION, scope), "cookie") == left

    @cases(
        "cookie",
        [
            "",
            " a = 1 ;b=2; ",
            "session",
            "Session=abc",
            "xsession=abc; session2=abc; session-id=abc",
            "a=session=abc",
            "a=session",
            "__Host-session=abc",
        ],
    )
    def test_other_cookies_stay_byte_for_byte(self, cookie: str) -> None:
        scope = websocket(headers=[("cookie", cookie)])
        before = copy.deepcopy(scope)
        assert extract(self.SESSION, scope) is None
        assert redacted(self.SESSION, scope) == before

    @cases(
        "cookies",
        [
            ["session=abc; session=abc"],
            ["session=abc; a=1; session=def"],
            ["session=abc", "session=abc"],
            ["session=; session=abc"],
            ["session=abc; session =def"],
            # Daphne joins repeated headers with a comma.
            ["session=abc,session=def"],
            ["session=abc, a=1"],
            ["a=1, session=abc"],
            ["a=1,session=abc; b=2"],
        ],
    )
    def test_given_twice_is_malformed_and_gone(self, cookies: list[str]) -> None:
        scope = websocket(headers=[("cookie", cookie) for cookie in cookies])
        assert extract(self.SESSION, scope) is MALFORMED
        assert b"session" not in b"".join(values(redacted(self.SESSION, scope), "cookie"))

    @cases(
        ("cookie", "verdict"),
        [
            ("session=a\x00b", MALFORMED),
            ("session=a b", MALFORMED),
            ("session=a\xe9b", MALFORMED),
            ("session=\xa0abc", MALFORMED),
            ("session=abc\x0b", MALFORMED),
            ('session="abc', '"abc'),
            ("session=a+b%20c", "a+b%20c"),
        ],
    )
    def test_nothing_is_normalised_into_validity(self, cookie: str, verdict: str | Reason) -> None:
        assert decided(self.SESSION, websocket(headers=[("cookie", cookie)])) == verdict

    @cases("name", ["a.b", "a+b", "$x^", "__Host-s", "a|b", "*"])
    def test_any_name_is_taken_literally(self, name: str) -> None:
        scope = websocket(headers=[("cookie", f"axb=1; aab=2; s=3; {name}=abc")])
        assert extract(Cookie(name), scope) == "abc"
        assert values(redacted(Cookie(name), scope), "cookie") == [b"axb=1; aab=2; s=3"]

    def test_what_channels_has_parsed_further_out_goes_too(self) -> None:
        parsed = {"a": "1", "session": "abc"}
        scope = websocket(headers=[("cookie", "a=1; session=abc")]) | {"cookies": parsed}
        assert "abc" not in repr(redacted(self.SESSION, scope))
        assert scope["cookies"] is parsed
        assert parsed == {"a": "1"}

    @cases("name", ["", " ", "a b", "a=b", "a;b", "a,b", "a\n", "ä", '"a"'])
    def test_what_is_no_cookie_name_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^Cookie: name must be one word"):
            Cookie(name)


class TestSubprotocolMarker:
    @cases(
        ("offered", "found", "left"),
        [
            ([], None, []),
            (["bearer", "abc"], "abc", ["bearer"]),
            (["bearer", "abc", "chat", "v2"], "abc", ["bearer", "chat", "v2"]),
            (["chat", "bearer", "abc"], "abc", ["chat", "bearer"]),
            (["chat", "bearer", "abc", "v2"], "abc", ["chat", "bearer", "v2"]),
            (["bearer", "bearer"], "bearer", ["bearer"]),
            # No credential behind it, or no marker.
            (["bearer"], None, ["bearer"]),
            (["chat", "bearer"], None, ["chat", "bearer"]),
            (["chat", "v2"], None, ["chat", "v2"]),
            (["Bearer", "abc"], None, ["Bearer", "abc"]),
            (["bearer2", "abc"], None, ["bearer2", "abc"]),
            (["bearer.abc"], None, ["bearer.abc"]),
        ],
    )
    def test_finds_what_stands_behind_its_marker_and_leaves_the_others(
        self, offered: list[str], found: str | None, left: list[str]
    ) -> None:
        scope = websocket(subprotocols=offered)
        assert extract(Subprotocol(), scope) == found
        redacted(Subprotocol(), scope)
        # The marker may have moved, so that nothing else stands behind it now.
        assert sorted(scope["subprotocols"]) == sorted(left)
        assert [p for p in scope["subprotocols"] if p != "bearer"] == [
            p for p in left if p != "bearer"
        ]
        header = ", ".join(scope["subprotocols"]).encode()
        assert values(scope, "sec-websocket-protocol") == ([header] if offered else [])

    @cases(
        "offered",
        [
            ["bearer", "abc", "bearer", "abc"],
            ["bearer", "abc", "chat", "bearer", "def"],
            ["bearer", "bearer", "abc"],
        ],
    )
    def test_given_twice_is_malformed_and_gone(self, offered: list[str]) -> None:
        scope = websocket(subprotocols=offered)
        assert extract(Subprotocol(), scope) is MALFORMED
        assert set(redacted(Subprotocol(), scope)["subprotocols"]) <= {"bearer", "chat"}
        assert b"abc" not in b"".join(values(scope, "sec-websocket-protocol"))

    def test_what_was_next_is_not_found_in_its_place(self) -> None:
        """Or another authenticator further in would take the app's protocol for a credential."""
        scope = websocket(subprotocols=["bearer", "abc", "chat"])
        redacted(Subprotocol(), scope)
        assert extract(Subprotocol(), scope) is None

    @pytest.mark.anyio
    async def test_an_inner_authenticator_judges_the_credential_and_no_protocol(
        self,
    ) -> None:
        asked: list[str] = []

        async def verify(credential: Any, conn: Any) -> Principal:
            asked.append(credential.value)
            return Principal("alice")

        app = App()
        inner = WebSocketAuthMiddleware(app, authenticator(verify, sources=[Subprotocol()]))
        outer = WebSocketAuthMiddleware(inner, authenticator(verify, sources=[Subprotocol()]))
        await drive(outer, websocket(subprotocols=["bearer", "abc", "chat"]))
        assert asked == ["abc", "abc"]
        assert "chat" in app.scope["subprotocols"]

    @cases(
        ("listed", "found", "left"),
        [
            (["bearer", " abc", " chat"], "abc", ["chat", "bearer"]),
            ([" bearer ", "abc ", "chat"], "abc", ["chat", "bearer"]),
            (["\tbearer", "\tabc\t"], "abc", ["bearer"]),
            (["chat", "", "bearer", " ", "abc"], "abc", ["chat", "bearer"]),
            (["bearer", ""], None, ["bearer", ""]),
            ([" chat", "v2"], None, [" chat", "v2"]),
        ],
    )
    def test_a_list_of_the_server_is_read_as_the_header_is(
        self, listed: list[str], found: str | None, left: list[str]
    ) -> None:
        """RFC 9110 section 5.6.1: spaces around an element are none of it, and an empty one is
        none."""
        header = websocket(headers=[("sec-websocket-protocol", ",".join(listed))])
        assert extract(Subprotocol(), header) == found
        assert "abc" not in repr(redacted(Subprotocol(), header))
        scope = websocket() | {"subprotocols": list(listed)}
        assert extract(Subprotocol(), scope) == found
        assert redacted(Subprotocol(), scope)["subprotocols"] == left

    def test_the_app_finds_them_without_spaces_and_answers_with_what_the_client_offered(
        self,
    ) -> None:
        listed = [" chat ", "", "v2"]
        scope = websocket() | {"subprotocols": listed}
        authenticator(nobody).collect(HTTPConnection(scope))
        assert scope["subprotocols"] is listed
        assert listed == ["chat", "v2"]

    @cases("listed", [["chat", " bearer", " abc"], [" chat", "bearer ", "abc\t"]])
    def test_the_answer_has_no_spaces(self, listed: list[str]) -> None:
        """A browser takes exactly what it offered."""
        for sources in ([Subprotocol()], [QueryParam()]):
            scope = websocket() | {"subprotocols": list(listed)}
            auth = authenticator(nobody, sources=sources)
            auth.collect(HTTPConnection(scope))
            redact(auth.sources, scope)
            expected = "bearer" if isinstance(sources[0], Subprotocol) else "chat"
            assert choose_subprotocol(scope, sources) == expected
        message = FirstMessage(subprotocol="chat")
        assert message.protocols(websocket() | {"subprotocols": listed}) == ["chat"]

    @cases("marker", ["", " ", "a b", "a,b", "a\n", "ä"])
    def test_what_is_no_protocol_name_is_refused(self, marker: str) -> None:
        with pytest.raises(ConfigurationError, match="Subprotocol: marker"):
            Subprotocol(marker)

    @cases("marker", ["a.b", "a+b", "$", "access_token"])
    def test_any_marker_is_taken_literally(self, marker: str) -> None:
        scope = websocket(subprotocols=["axb", "x", marker, "abc"])
        assert extract(Subprotocol(marker), scope) == "abc"


def k8s(value: str) -> str:
    return K8S + urlsafe_b64encode(value.encode()).rstrip(b"=").decode()


class TestSubprotocolPrefix:
    SOURCE = Subprotocol(prefix=K8S)

    @cases("value", ["a", "ab", "abc", "abcd", "abW", "eyJ.eyJ.x-_", "~~~???>>>"])
    def test_decodes_one_entry_and_leaves_the_others(self, value: str) -> None:
        scope = websocket(subprotocols=["v4.channel.k8s.io", k8s(value), "chat"])
        assert extract(self.SOURCE, scope) == value
        redacted(self.SOURCE, scope)
        assert scope["subprotocols"] == ["v4.channel.k8s.io", "chat"]
        assert values(scope, "sec-websocket-protocol") == [b"v4.channel.k8s.io, chat"]

    @cases(
        "offered",
        [
            [],
            ["chat"],
            ["chat", k8s("abc").replace("base64url", "base64URL")],
            ["bearer", "abc"],
        ],
    )
    def test_other_protocols_stay(self, offered: list[str]) -> None:
        scope = websocket(subprotocols=offered)
        before = copy.deepcopy(scope)
        assert extract(self.SOURCE, scope) is None
        assert redacted(self.SOURCE, scope) == before

    @cases("listed", [[" v4", f" {k8s('abc')} "], ["v4", "", f"\t{k8s('abc')}"]])
    def test_a_list_of_the_server_is_read_as_the_header_is(self, listed: list[str]) -> None:
        scope = websocket() | {"subprotocols": list(listed)}
        assert extract(self.SOURCE, scope) == "abc"
        assert redacted(self.SOURCE, scope)["subprotocols"] == ["v4"]

    @cases("listed", [[k8s("abc"), ""], [" ", k8s("abc")]])
    def test_an_empty_element_is_nothing_to_echo(self, listed: list[str]) -> None:
        assert extract(self.SOURCE, websocket() | {"subprotocols": listed}) is MALFORMED

    def test_alone_it_is_malformed_because_nothing_can_be_echoed(self) -> None:
        scope = websocket(subprotocols=[k8s("abc")])
        assert extract(self.SOURCE, scope) is MALFORMED
        redacted(self.SOURCE, scope)
        assert scope["subprotocols"] == []
        assert values(scope, "sec-websocket-protocol") == []

    @cases(
        "offered",
        [
            [k8s("abc"), k8s("abc"), "chat"],
            [k8s("abc"), "chat", k8s("def")],
            [k8s("abc"), k8s("def")],
            [K8S, k8s("abc"), "chat"],
        ],
    )
    def test_given_twice_is_malformed_and_gone(self, offered: list[str]) -> None:
        scope = websocket(subprotocols=offered)
        assert extract(self.SOURCE, scope) is MALFORMED
        redacted(self.SOURCE, scope)
        assert set(scope["subprotocols"]) <= {"chat"}
        assert K8S.encode() not in b"".join(values(scope, "sec-websocket-protocol"))

    @cases(
        "encoded",
        [
            "YWI=",  # padded
            "YWI==",
            "YWJ",  # bits that the decoder would drop
            "Y",  # no length that base64 has
            "YW I",
            "YW\nI",
            "YWI!",
            "!!!!",
            "YW+/",  # the other alphabet
            "YWI.YWI",
            "ÿÿÿÿ",
            "_w",  # the byte FF, which is no text
            "w6k",  # é
            "wK4",  # overlong UTF-8
        ],
    )
    def test_only_unpadded_base64url_of_ascii_counts(self, encoded: str) -> None:
        scope = websocket()
        scope["subprotocols"] = ["chat", K8S + encoded]
        assert extract(self.SOURCE, scope) is MALFORMED
        assert redacted(self.SOURCE, scope)["subprotocols"] == ["chat"]

    @cases("value", ["a b", "abc\n", "abc\x00", "\x7f"])
    def test_what_it_decodes_to_is_visible_ascii(self, value: str) -> None:
        assert decided(self.SOURCE, websocket(subprotocols=["chat", k8s(value)])) is MALFORMED

    def test_phoenix_has_a_prefix_of_its_own(self) -> None:
        source = Subprotocol(prefix="base64url.bearer.phx.", encoding="base64url")
        scope = websocket(subprotocols=["phoenix", "base64url.bearer.phx.ZXlKLmV5Si54LV8"])
        assert extract(source, scope) == "eyJ.eyJ.x-_"
        assert redacted(source, scope)["subprotocols"] == ["phoenix"]

    def test_an_empty_one_counts_as_none(self) -> None:
        scope = websocket(subprotocols=["chat", K8S])
        assert extract(self.SOURCE, scope) is None
        assert redacted(self.SOURCE, scope)["subprotocols"] == ["chat"]

    @cases("prefix", ["", " ", "a b", "a,b", "a\n", "ä"])
    def test_what_is_no_protocol_name_is_refused(self, prefix: str) -> None:
        with pytest.raises(ConfigurationError, match="Subprotocol: prefix"):
            Subprotocol(prefix=prefix)


OPENAI = "openai-insecure-api-key."


class TestSubprotocolAsItIs:
    SOURCE = Subprotocol(prefix=OPENAI, encoding="plain")

    @cases(
        ("offered", "found", "left"),
        [
            (
                ["realtime", f"{OPENAI}sk-proj-a_b.C", "openai-beta.realtime-v1"],
                "sk-proj-a_b.C",
                ["realtime", "openai-beta.realtime-v1"],
            ),
            ([f"{OPENAI}sk-a", "realtime"], "sk-a", ["realtime"]),
            (["realtime", f"{OPENAI}YWJj"], "YWJj", ["realtime"]),  # which is not decoded
            (["realtime", OPENAI], None, ["realtime"]),
            (["realtime"], None, ["realtime"]),
            ([f"{OPENAI}sk-a"], MALFORMED, []),
            (["realtime", f"{OPENAI}sk-a", f"{OPENAI}sk-a"], MALFORMED, ["realtime"]),
        ],
    )
    def test_finds_one_entry_as_it_is_and_leaves_the_others(
        self, offered: list[str], found: str | Reason | None, left: list[str]
    ) -> None:
        scope = websocket(subprotocols=offered)
        assert extract(self.SOURCE, scope) == found
        redacted(self.SOURCE, scope)
        assert scope["subprotocols"] == left
        assert choose_subprotocol(scope, [self.SOURCE]) == (left[0] if left else None)
        assert OPENAI.encode() not in b"".join(values(scope, "sec-websocket-protocol"))

    @pytest.mark.anyio
    @cases("chosen", [None, "openai-beta.realtime-v1"])
    @cases("key", ["sk-a", "unknown"])
    async def test_the_answer_is_the_apps_choice_or_the_first_other_one(
        self, chosen: str | None, key: str
    ) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept", "subprotocol": chosen})

        auth = authenticator(Knows(**{"sk-a": Principal("alice")}), sources=[self.SOURCE])
        offered = [f"{OPENAI}{key}", "realtime", "openai-beta.realtime-v1"]
        scope = websocket(subprotocols=offered)
        outcome = await drive(WebSocketAuthMiddleware(app, auth), scope)
        expected = "realtime" if key == "unknown" else chosen or "realtime"
        assert outcome.sent[0]["subprotocol"] == expected

    def test_a_marker_has_one_form(self) -> None:
        scope = websocket(subprotocols=["bearer", "YWJj"])
        for encoding in ("plain", "base64url"):
            assert extract(Subprotocol(encoding=encoding), scope) == "YWJj"  # type: ignore[arg-type]

    def test_there_is_no_third_encoding(self) -> None:
        encoding: Any = "hex"
        with pytest.raises(ConfigurationError, match=r"^Subprotocol: encoding must be one of"):
            Subprotocol(prefix=OPENAI, encoding=encoding)


class TestSubprotocolsOfServers:
    """The list and the header, as the servers give them."""

    def test_a_server_without_a_list_has_the_header(self) -> None:
        scope = websocket(subprotocols=["bearer", "abc", "chat"])
        del scope["subprotocols"]
        assert extract(Subprotocol(), scope) == "abc"
        redacted(Subprotocol(), scope)
        assert b"abc" not in b"".join(values(scope, "sec-websocket-protocol"))
        assert b"chat" in b"".join(values(scope, "sec-websocket-protocol"))

    def test_a_server_without_the_header_has_the_list(self) -> None:
        scope = websocket()
        scope["subprotocols"] = ["bearer", "abc"]
        assert extract(Subprotocol(), scope) == "abc"
        assert redacted(Subprotocol(), scope)["subprotocols"] == ["bearer"]
        assert scope["headers"] == [(b"host", b"chat.example")]

    def test_several_headers_are_one_list_and_become_one_header(self) -> None:
        headers = [("sec-websocket-protocol", "bearer"), ("sec-websocket-protocol", ",abc ,\t")]
        scope = websocket(headers=headers)
        del scope["subprotocols"]
        assert extract(Subprotocol(), scope) == "abc"
        redacted(Subprotocol(), scope)
        assert values(scope, "sec-websocket-protocol") == [b"bearer"]

    def test_a_scope_with_neither_has_none(self) -> None:
        scope = websocket()
        del scope["subprotocols"]
        before = copy.deepcopy(scope)
        assert extract(Subprotocol(), scope) is None
        assert redacted(Subprotocol(), scope) == before

    @cases("protocol", ["€", "\udcff", "ÿ", "日本"])
    def test_any_text_beside_the_credential_leaves_it_redacted(self, protocol: str) -> None:
        """Daphne percent-decodes the list, so that a client can put any character into it."""
        scope = websocket()
        scope["subprotocols"] = ["bearer", "abc", protocol]
        escaped = quote(protocol, errors="surrogateescape").encode()
        scope["headers"].append((b"sec-websocket-protocol", b"bearer,abc," + escaped))
        redacted(Subprotocol(), scope)
        assert "abc" not in scope["subprotocols"]
        assert b"abc" not in b"".join(values(scope, "sec-websocket-protocol"))

    @cases(
        ("offered", "answered"),
        [
            ([], None),
            (["chat"], "chat"),
            (["chat", "v2"], "chat"),
            (["chat", "bearer"], "bearer"),
            (["bearer", "chat"], "bearer"),
        ],
    )
    def test_the_answer_is_the_marker_or_the_first_protocol(
        self, offered: list[str], answered: str | None
    ) -> None:
        sources = [QueryParam(), Subprotocol(prefix=K8S), Subprotocol()]
        assert choose_subprotocol(websocket(subprotocols=offered), sources) == answered

    @cases(
        "offered",
        [
            ["bearer", "abc"],
            ["bearer", "abc", "chat"],
            ["bearer", "abc", "bearer", "abc"],
            ["chat", k8s("abc")],
            [k8s("abc"), k8s("abc")],
            [k8s("abc")],
        ],
    )
    def test_the_answer_is_never_the_credential(self, offered: list[str]) -> None:
        sources: list[Source] = [Subprotocol(), Subprotocol(prefix=K8S)]
        scope = websocket(subprotocols=offered)
        for source in sources:
            source.redact(scope)
        assert choose_subprotocol(scope, sources) in ("bearer", "chat", None)


SOURCES: dict[str, tuple[Source, Callable[[], dict[str, Any]]]] = {
    "query": (QueryParam("token"), lambda: websocket("a=1&token=abc")),
    "bearer": (BEARER, lambda: websocket(headers=bearer("abc"))),
    "header": (API_KEY, lambda: websocket(headers=[("x-api-key", "abc")])),
    "cookie": (Cookie("s"), lambda: websocket(headers=[("cookie", "a=1; s=abc")])),
    "marker": (Subprotocol(), lambda: websocket(subprotocols=["bearer", "abc"])),
    "prefix": (Subprotocol(prefix=K8S), lambda: websocket(subprotocols=["chat", k8s("abc")])),
}
each_source = cases(("source", "build"), SOURCES.values(), ids=SOURCES)


class TestEverySource:
    @each_source
    def test_who_holds_a_list_of_the_scope_holds_no_credential(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        """Starlette's `Headers` keep the list that they were made from, for example."""
        scope = build()
        read_before = HTTPConnection(scope).headers
        lists = {key: scope[key] for key in ("headers", "subprotocols")}
        source.redact(scope)
        assert scope != build()
        for key, given in lists.items():
            assert scope[key] is given
            assert "abc" not in repr(given)
        assert "abc" not in repr(read_before)

    @each_source
    def test_an_authenticator_leaves_each_list_the_object_that_it_is(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        """Though Starlette's connection puts a copy of the headers into the scope."""
        scope = build()
        headers, subprotocols = scope["headers"], scope["subprotocols"]
        auth = authenticator(nobody, sources=[source], allowed_origins=["https://chat.example"])
        auth.collect(HTTPConnection(scope))
        assert scope == build()
        redact(auth.sources, scope)
        assert scope["headers"] is headers
        assert scope["subprotocols"] is subprotocols
        assert "abc" not in repr(scope)

    @each_source
    def test_extracting_changes_nothing(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        scope = build()
        assert extract(source, scope) == extract(source, scope) == "abc"
        assert scope == build()

    @each_source
    def test_redacting_twice_is_redacting_once(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        once, twice = redacted(source, build()), redacted(source, redacted(source, build()))
        assert once == twice

    @each_source
    def test_its_repr_is_its_place_and_no_value(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        source.extract(HTTPConnection(build()))
        assert re.fullmatch(r"(query parameter|header|cookie|subprotocol) [\w.-]+", repr(source))

    @each_source
    @cases("shape", [tuple, iter, lambda pairs: [list(pair) for pair in pairs]])
    def test_headers_may_be_any_iterable(
        self, shape: Any, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        """The ASGI specification says no more than that, of the headers and of the pairs."""
        scope = build()
        scope["headers"] = shape([(b"x-first", b"1"), *scope["headers"], (b"x-last", b"2")])
        auth = authenticator(nobody, sources=[source], allowed_origins=["https://chat.example"])
        ((_, credential),) = auth.collect(HTTPConnection(scope)).findings
        redact(auth.sources, scope)
        assert credential.value == "abc"
        kept = [(bytes(key), bytes(value)) for key, value in scope["headers"]]
        assert (kept[0], kept[-1]) == ((b"x-first", b"1"), (b"x-last", b"2"))
        assert b"abc" not in b"".join(value for _, value in kept)

    @cases("source", [Subprotocol(), Subprotocol(prefix=K8S)])
    @cases("shape", [tuple, iter])
    def test_subprotocols_may_be_any_iterable(self, shape: Any, source: Source) -> None:
        scope = websocket()
        scope["subprotocols"] = shape(["bearer", "abc", "chat", k8s("abc")])
        auth = authenticator(nobody, sources=[source])
        ((_, credential),) = auth.collect(HTTPConnection(scope)).findings
        redact(auth.sources, scope)
        assert credential.value == "abc"
        assert "chat" in list(scope["subprotocols"])

    def test_headers_that_can_be_read_once_are_there_for_every_source(self) -> None:
        """A server that lists no subprotocols has them in a header only."""
        scope = websocket(headers=bearer("abc"), subprotocols=["chat"])
        del scope["subprotocols"]
        scope["headers"] = iter(scope["headers"])
        auth = authenticator(nobody, sources=[Subprotocol(), BEARER])
        assert len(auth.collect(HTTPConnection(scope)).findings) == 1
        redact(auth.sources, scope)
        assert (b"host", b"chat.example") in list(scope["headers"])

    @each_source
    def test_a_scope_with_nothing_in_it_has_no_credential(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        scope: dict[str, Any] = {"type": "websocket", "path": "/"}
        auth = authenticator(nobody, sources=[source], allowed_origins=["https://chat.example"])
        assert auth.collect(HTTPConnection(scope)).findings == []
        redact(auth.sources, scope)
        assert list(scope.get("headers", [])) == []

    @cases(
        ("source", "name"),
        [
            (QueryParam(), "query parameter token"),
            (BEARER, "header authorization"),
            (API_KEY, "header x-api-key"),
            (Cookie("s"), "cookie s"),
            (Subprotocol(), "subprotocol bearer"),
            (Subprotocol(prefix=K8S), f"subprotocol {K8S}"),
            (FirstMessage(), "first message"),
        ],
    )
    def test_what_it_is_called_in_the_log(self, source: Source, name: str) -> None:
        assert str(source) == repr(source) == name

    def test_one_scope_with_all_of_them_is_clean_after_redaction(self) -> None:
        scope = websocket(
            "a=1&token=abc",
            headers=[*bearer("abc"), ("x-api-key", "abc"), ("cookie", "s=abc; a=1")],
            subprotocols=["bearer", "abc", "chat"],
        )
        for source, _ in SOURCES.values():
            source.redact(scope)
        assert "abc" not in repr(scope)
        assert scope["query_string"] == b"a=1"
        assert values(scope, "cookie") == [b"a=1"]

    def test_two_sources_with_the_same_value_are_one_credential(self) -> None:
        auth = authenticator(nobody)
        scope = websocket("token=abc", headers=bearer("abc"))
        findings = auth.collect(HTTPConnection(scope)).findings
        assert choose(findings, auth.sources, 8192).value == "abc"

    def test_two_sources_with_different_values_are_malformed(self) -> None:
        auth = authenticator(nobody)
        findings = auth.collect(HTTPConnection(websocket("token=abc", headers=bearer("xyz"))))
        with pytest.raises(Denied) as refused:
            choose(findings.findings, auth.sources, 8192)
        assert refused.value.reason is MALFORMED
        assert "abc" not in str(refused.value) and "xyz" not in str(refused.value)


class TestUsersOwnSource:
    class FromPath:
        """/ws/<token>"""

        def extract(self, conn: HTTPConnection) -> str | None:
            return conn.scope["path"].removeprefix("/ws/") or None

        def redact(self, scope: Any) -> None:
            scope.update(path="/ws/", raw_path=b"/ws/")

    def test_any_object_with_the_two_methods_is_one(self) -> None:
        scope = websocket(path="/ws/abc")
        auth = authenticator(nobody, sources=[self.FromPath()])
        assert chosen(auth, scope) == "abc"
        redact(auth.sources, scope)
        assert b"abc" not in scope["raw_path"] and "abc" not in scope["path"]

    @cases("value", ["a b", "ａｂｃ", "abc\n", "abc\x00"])
    def test_what_it_finds_is_judged_like_everything_else(self, value: str) -> None:
        scope = websocket(path=f"/ws/{value}")
        assert decided(self.FromPath(), scope) is MALFORMED

    @cases("kind", [list, tuple, iter])
    def test_what_it_puts_in_the_place_of_a_list_goes_into_the_list(self, kind: Any) -> None:
        class FromHeader:
            def extract(self, conn: HTTPConnection) -> str | None:
                return conn.headers.get("x-mine")

            def redact(self, scope: Any) -> None:
                scope["headers"] = kind([pair for pair in scope["headers"] if pair[0] != b"x-mine"])
                scope["subprotocols"] = None

        scope = websocket(headers=[("x-mine", "abc")], subprotocols=["chat"])
        headers, offered = scope["headers"], scope["subprotocols"]
        auth = authenticator(nobody, sources=[FromHeader()])
        assert chosen(auth, scope) == "abc"
        redact(auth.sources, scope)
        assert scope["headers"] is headers
        assert scope["subprotocols"] is offered
        assert (b"x-mine", b"abc") not in headers
        assert (b"host", b"chat.example") in headers
        assert offered == []

    def test_an_object_without_them_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^sources must be a list of sources, "):
            authenticator(nobody, sources=["token"])


# Hostile handshakes.

LENGTH = 64 * 1024  # what a server takes that limits it at all


@pytest.mark.slow
class TestLongInput:
    """Each of these takes well under a second. Work that grew with the square of the length would
    take minutes, so that the run hangs: that, and no stopwatch, is how such a test fails."""

    @cases(
        "query",
        [
            b"&",
            b"=",
            b"%",
            b"+",
            b"a&",
            b"token&",
            b"%74oken=&",
            b"token=%2e&",
            b"a=%C0%AE&",
            b"tok%65n",
            b"%25",
        ],
    )
    def test_query(self, query: bytes) -> None:
        scope = websocket(query * (LENGTH // len(query)))
        assert extract(QueryParam("token"), scope) in (None, MALFORMED)
        redacted(QueryParam("token"), scope)
        assert b"token" not in scope["query_string"]

    @cases("value", [" ", "\t", ",", ", ", "Bearer ", ",Bearer", "Bearer, ", ",\t ,", "a"])
    @cases("end", ["", "x", "\n"])
    def test_authorization(self, value: str, end: str) -> None:
        scope = websocket(headers=[("authorization", value * (LENGTH // len(value)) + end)])
        assert decided(BEARER, scope) in (MALFORMED, Reason.MISSING)
        redacted(BEARER, scope)

    @cases("value", [" ", ";", "s", "s=", "s=;", "s ", ",s", ",s ", ", ", '"', "a=b;"])
    @cases("end", ["", "x", "\n"])
    def test_cookie(self, value: str, end: str) -> None:
        scope = websocket(headers=[("cookie", value * (LENGTH // len(value)) + end)])
        assert decided(Cookie("s"), scope) in (MALFORMED, Reason.MISSING)
        redacted(Cookie("s"), scope)

    @cases("offered", [["bearer"], ["bearer", "x"], ["a"], [""], [K8S], [K8S + "YWI"]], ids=repr)
    def test_subprotocols(self, offered: list[str]) -> None:
        for source in (Subprotocol(), Subprotocol(prefix=K8S)):
            scope = websocket(subprotocols=offered * 10_000)
            assert extract(source, scope) in (None, MALFORMED)
            redacted(source, scope)

    def test_one_long_subprotocol(self) -> None:
        scope = websocket(subprotocols=["chat", K8S + "A" * LENGTH])
        assert decided(Subprotocol(prefix=K8S), scope) is MALFORMED

    def test_many_headers(self) -> None:
        scope = websocket()
        names = ("authorization", "cookie", "x-api-key", "sec-websocket-protocol", "x-other")
        scope["headers"] += [(n.encode(), b"s=abc") for n in names for _ in range(4_000)]
        for source, _ in SOURCES.values():
            extract(source, scope)
            redacted(source, scope)
        assert {key for key, _ in scope["headers"]} == {
            b"host",
            b"authorization",  # not of this scheme
            b"sec-websocket-protocol",  # not in the list
            b"x-other",
        }

    @cases("source", [QueryParam("token"), BEARER], ids=repr)
    def test_a_token_over_the_limit_is_malformed(self, source: Source) -> None:
        for size, verdict in ((8192, "a" * 8192), (8193, MALFORMED), (LENGTH, MALFORMED)):
            query = "" if source is BEARER else f"token={'a' * size}"
            headers = bearer("a" * size) if source is BEARER else []
            assert decided(source, websocket(query, headers=headers)) == verdict


# Scopes by the thousand, from pieces that are each odd in some way.

VALUE = "kR7vQz2LxW9s"


def with_value(generator: random.Random) -> str:
    return generator.choice(["{}", '"{}"', " {} ", "{}=", "%20{}", "{}%00", "x{}\t"]).format(VALUE)


def scopes() -> Iterator[dict[str, Any]]:
    generator = random.Random(25)
    pick = generator.choice
    while True:
        query = "&".join(
            pick(["", "a=1", "b", "=", "a=token", "xtoken=1"])
            if generator.random() < 0.6
            else pick(["token", "tok%65n", "%74oken"]) + "=" + with_value(generator)
            for _ in range(generator.randrange(5))
        )
        headers: list[tuple[str, str]] = []
        for _ in range(generator.randrange(5)):
            cookies = pick(["; ", ";", " ; ", ", "]).join(
                pick(["a=1", "", "session2=1", "b"])
                if generator.random() < 0.5
                else pick(["s", "s ", "\ts"]) + "=" + with_value(generator)
                for _ in range(generator.randrange(1, 4))
            )
            scheme = pick(["Bearer ", "bearer  ", "BEARER\t", "Basic x, Bearer ", ",bearer "])
            headers += [
                pick(
                    [
                        ("x-other", "1"),
                        ("authorization", "Basic YTpi"),
                        ("authorization", scheme + with_value(generator)),
                        ("x-api-key", with_value(generator)),
                        ("cookie", cookies),
                    ]
                )
            ]
        offered: list[str] = []
        for _ in range(generator.randrange(4)):
            offered += pick([["chat"], ["bearer"], ["bearer", VALUE], [k8s(VALUE)], ["v2", ""]])
        yield websocket(query, headers=headers, subprotocols=offered)


@pytest.mark.slow
class TestProperty:
    """What `extract` finds, `redact` removes: for every one of many odd scopes."""

    ENCODED = k8s(VALUE).removeprefix(K8S)

    @each_source
    def test_what_extract_finds_redact_removes(
        self, source: Source, build: Callable[[], dict[str, Any]]
    ) -> None:
        found: list[str | Reason | None] = []
        for scope, _ in zip(scopes(), range(600), strict=False):
            found.append(extract(source, scope))
            redacted(source, scope)
            assert extract(source, scope) is None
        assert found.count(MALFORMED) > 10
        assert sum(isinstance(value, str) for value in found) > 10

    def test_after_every_source_the_value_is_nowhere(self) -> None:
        for scope, _ in zip(scopes(), range(600), strict=False):
            for source, _ in SOURCES.values():
                source.redact(scope)
            assert VALUE not in unquote_plus(repr(scope))
            assert self.ENCODED not in repr(scope)


def test_a_list_that_a_server_left_empty_hides_nothing() -> None:
    scope = websocket(subprotocols=["bearer", "abc"]) | {"subprotocols": []}
    assert extract(Subprotocol(), scope) == "abc"
    assert b"abc" not in b"".join(value for _, value in redacted(Subprotocol(), scope)["headers"])


# FirstMessage: what is done with it is in test_handshake.py


def read(source: FirstMessage, text: str | None) -> str | Reason:
    try:
        return source.read(text)
    except Denied as denied:
        assert denied.detail.startswith(("first message is ", 'a message "auth" without'))
        return denied.reason


class TestFirstMessage:
    def test_in_the_handshake_it_finds_nothing_and_takes_nothing(self) -> None:
        scope = websocket("token=x", headers=bearer("x"), subprotocols=["bearer", "x"])
        before = copy.deepcopy(scope)
        assert extract(FirstMessage(), scope) is None
        assert redacted(FirstMessage(), scope) == before

    @cases(
        ("text", "found"),
        [
            ('{"type": "auth", "token": "abc"}', "abc"),
            ('{"token":"abc","type":"auth","more":[1]}', "abc"),
            (' {"type": "auth", "token": "a b"} ', "a b"),
            ('{"type": "auth", "token": ""}', ""),
            ('{"type": "auth", "token": "\\u0061bc"}', "abc"),
            ('{"type": "\\u0061uth", "token": "abc"}', "abc"),
            ('{"type": "auth"}', MALFORMED),
            ('{"type": "auth", "token": null}', MALFORMED),
            ('{"type": "auth", "token": 5}', MALFORMED),
            ('{"type": "auth", "token": ["abc"]}', MALFORMED),
            ('{"type": "Auth", "token": "abc"}', MALFORMED),
            ('{"type": ["auth"], "token": "abc"}', MALFORMED),
            ('{"token": "abc"}', MALFORMED),
            ('["auth", "abc"]', MALFORMED),
            ('"auth"', MALFORMED),
            ("null", MALFORMED),
            ("abc", MALFORMED),
            ("", MALFORMED),
            ("{", MALFORMED),
            ("[" * 10_000, MALFORMED),
            ('{"a":' * 3_000, MALFORMED),
            (None, MALFORMED),
        ],
    )
    def test_what_it_reads(self, text: str | None, found: str | Reason) -> None:
        assert read(FirstMessage(), text) == found

    def test_how_long_it_may_be(self) -> None:
        text = '{"type": "auth", "token": "abc"}'
        assert read(FirstMessage(max_size=len(text)), text) == "abc"
        assert read(FirstMessage(max_size=len(text) - 1), text) is MALFORMED
        message = '{"type": "auth", "token": "' + "x" * 16_000 + '"}'
        assert read(FirstMessage(), message) == "x" * 16_000
        assert read(FirstMessage(), message + " " * 500) is MALFORMED

    def test_how_many_may_wait(self) -> None:
        source = FirstMessage(max_waiting=2)
        for _ in range(2):
            with source.waiting(), source.waiting():
                with pytest.raises(Denied) as caught, source.waiting():
                    pass
                assert caught.value.reason is Reason.TOO_MANY_CONNECTIONS
                assert caught.value.detail == "2 wait for a first message"
        with pytest.raises(LookupError), source.waiting():
            raise LookupError
        assert source.number_waiting == 0

    @cases(
        ("subprotocol", "offered", "answered"),
        [
            (None, [], []),
            (None, ["chat"], []),
            ("chat", [], []),
            ("chat", ["voice", "chat", "chat"], ["chat"]),
            ("chat", ["Chat", "chat2"], []),
        ],
    )
    def test_what_it_accepts_with(
        self, subprotocol: str | None, offered: list[str], answered: list[str]
    ) -> None:
        source = FirstMessage(subprotocol=subprotocol)
        assert source.protocols(websocket(subprotocols=offered)) == answered

    @cases(
        ("options", "named"),
        [
            ({"timeout": 0}, "timeout"),
            ({"timeout": float("inf")}, "timeout"),
            ({"timeout": None}, "timeout"),
            ({"max_size": 0}, "max_size"),
            ({"max_size": 1e4}, "max_size"),
            ({"max_waiting": 0}, "max_waiting"),
            ({"max_waiting": None}, "max_waiting"),
            ({"subprotocol": ""}, "subprotocol"),
            ({"subprotocol": "a b"}, "subprotocol"),
        ],
    )
    def test_bad_configuration_is_named(self, options: dict[str, Any], named: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^FirstMessage: {named}"):
            FirstMessage(**options)

    def test_its_defaults(self) -> None:
        source = FirstMessage()
        assert source.timeout == 10
        text = '{"type": "auth", "token": "abc"}'
        assert read(source, text.ljust(16_384)) == "abc"
        assert read(source, text.ljust(16_385)) is MALFORMED
        with ExitStack() as waiting:
            for _ in range(1_000):
                waiting.enter_context(source.waiting())
            with pytest.raises(Denied):
                waiting.enter_context(source.waiting())

    def test_another_message_is_none_of_it(self) -> None:
        assert token_in('{"type": "auth.refresh", "token": "a"}', "auth") is None


@cases("options", [{}, {"scheme": "Bearer"}])
@cases("name", ["cookie", "Cookie", "COOKIE"])
def test_a_cookie_by_another_name_needs_the_cookie_source(name: str, options: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^Header: name must be another header, got .*Cookie\("
    ):
        Header(name, **options)
