"""Which pages may connect: what an `Origin` header names, and what it is compared with."""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases
from handshakes import authenticator, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import ConfigurationError, Cookie, Denied, Principal, QueryParam, Reason
from asgi_wsauth.sources.origins import check_origins, parse_origin

ALLOWED = ["https://chat.example", "http://localhost:3000", "https://[::1]:8443"]

FOREIGN = {
    "null": "null",
    "null in capitals": "NULL",
    "empty": "",
    "another host": "https://evil.example",
    "our name in front of theirs": "https://chat.example.evil",
    "our name behind theirs": "https://evilchat.example",
    "a subdomain of ours": "https://a.chat.example",
    "the domain above ours": "https://example",
    "our name as user": "https://chat.example@evil.example",
    "a user at ours": "https://user@chat.example",
    "a user and a password at ours": "https://u:p@chat.example",
    "another scheme": "http://chat.example",
    "a socket's scheme": "wss://chat.example",
    "no scheme": "chat.example",
    "no scheme, but slashes": "//chat.example",
    "an empty scheme": "://chat.example",
    "another port": "https://chat.example:8443",
    "port 0": "https://chat.example:0",
    "the other scheme's port": "https://chat.example:80",
    "our host without its port": "http://localhost",
    "a port that begins like ours": "http://localhost:30000",
    "an empty port": "https://chat.example:",
    "a port with a sign": "https://chat.example:+443",
    "a port with a space": "https://chat.example: 443",
    "a port with a zero in front": "https://chat.example:0443",
    "a port of digits that are not ASCII": "https://chat.example:４４３",
    "a port that wraps around to ours": "https://chat.example:65979",
    "a trailing dot": "https://chat.example.",
    "a leading dot": "https://.chat.example",
    "two dots": "https://chat..example",
    "a trailing slash": "https://chat.example/",
    "a path": "https://chat.example/login",
    "a query": "https://chat.example?x",
    "a fragment": "https://chat.example#x",
    "a backslash": "https://chat.example\\@evil.example",
    "one slash": "https:/chat.example",
    "three slashes": "https:///chat.example",
    "a space in front": " https://chat.example",
    "a space behind": "https://chat.example ",
    "a tab behind": "https://chat.example\t",
    "a line feed behind": "https://chat.example\n",
    "a NUL behind": "https://chat.example\x00",
    "a NUL within": "https://chat.example\x00.evil.example",
    "an escape": "https://chat%2eexample",
    "a letter that is not ASCII": "https://chät.example",
    "a wildcard": "https://*.example",
    "two, with a space": "https://chat.example https://chat.example",
    "two, with a comma (Daphne)": "https://chat.example,https://chat.example",
    "two, with comma and space": "https://chat.example, https://evil.example",
    "our IPv6 address without brackets": "https://::1:8443",
    "our IPv6 address without its port": "https://[::1]",
    "our IPv6 address with a zone": "https://[::1%25eth0]:8443",
    "an unclosed bracket": "https://[::1:8443",
    "another way to write our IPv6 address": "https://[0:0:0:0:0:0:0:1]:8443",
    "an extension": "chrome-extension://abcdefghijklmnop",
    "a file": "file://",
}

OURS = {
    "as configured": "https://chat.example",
    "upper case": "HTTPS://CHAT.EXAMPLE",
    "mixed case": "https://Chat.Example",
    "with the scheme's own port": "https://chat.example:443",
    "with its port": "http://localhost:3000",
    "with its port, upper case": "HTTP://LocalHost:3000",
    "an IPv6 address": "https://[::1]:8443",
}


async def decide(scope: dict[str, Any], **options: Any) -> Principal | Reason:
    """What becomes of a handshake whose credential is good, if there is one."""

    async def verify(credential: Any, conn: Any) -> Principal:
        return Principal("alice")

    auth = authenticator(verify, **{"allowed_origins": ALLOWED, **options})
    try:
        return (await auth.authenticate(HTTPConnection(scope))).principal
    except Denied as denied:
        return denied.reason


def origin_headers(*origins: str) -> list[tuple[str, str]]:
    return [("origin", origin.encode().decode("latin-1")) for origin in origins]


@pytest.mark.anyio
class TestHandshake:
    @cases("origin", FOREIGN.values(), ids=FOREIGN)
    async def test_a_foreign_origin_is_refused(self, origin: str) -> None:
        scope = websocket("token=abc", headers=origin_headers(origin))
        assert await decide(scope) is Reason.ORIGIN

    @cases("origin", OURS.values(), ids=OURS)
    async def test_our_origin_passes(self, origin: str) -> None:
        scope = websocket("token=abc", headers=origin_headers(origin))
        assert isinstance(await decide(scope), Principal)

    @cases(
        "origins",
        [
            ["https://chat.example", "https://chat.example"],
            ["https://chat.example", "https://evil.example"],
            ["https://evil.example", "https://chat.example"],
            ["https://chat.example", ""],
            ["https://chat.example", "null"],
        ],
    )
    async def test_two_origin_headers_are_refused(self, origins: list[str]) -> None:
        scope = websocket("token=abc", headers=origin_headers(*origins))
        assert await decide(scope) is Reason.ORIGIN

    async def test_without_an_origin_an_explicit_credential_passes(self) -> None:
        assert isinstance(await decide(websocket("token=abc")), Principal)

    @cases(
        ("query", "headers", "verdict"),
        [
            ("", [("cookie", "s=abc")], Reason.ORIGIN),
            ("", [("cookie", "s=abc; s=def")], Reason.ORIGIN),
            ("", [("cookie", "s=abc"), *origin_headers("https://evil.example")], Reason.ORIGIN),
            ("", [("cookie", "s=abc"), *origin_headers("null")], Reason.ORIGIN),
            ("", [("cookie", "s=abc"), *origin_headers("https://chat.example")], None),
            ("token=abc", [("cookie", "s=abc")], None),
            ("token=abc", [("cookie", "s=other")], None),
            ("", [("cookie", "other=abc")], Reason.MISSING),
            ("", [], Reason.MISSING),
        ],
    )
    async def test_a_cookie_counts_only_with_an_origin(
        self, query: str, headers: list[tuple[str, str]], verdict: Reason | None
    ) -> None:
        decided = await decide(
            websocket(query, headers=headers), sources=[QueryParam(), Cookie("s")]
        )
        assert decided is verdict or (verdict is None and isinstance(decided, Principal))

    @cases("origin", ["https://evil.example", "null", "", "https://a\x00"])
    async def test_a_foreign_origin_asks_nobody(self, origin: str) -> None:
        asked: list[str] = []

        async def verify(credential: Any, conn: Any) -> Principal:
            asked.append("verifier")
            return Principal("alice")

        async def load_user(principal: Principal, conn: Any) -> Principal:
            asked.append("load_user")
            return principal

        auth = authenticator(verify, allowed_origins=ALLOWED, load_user=load_user)
        scope = websocket("token=abc", headers=origin_headers(origin))
        with pytest.raises(Denied) as refused:
            await auth.authenticate(HTTPConnection(scope))
        assert refused.value.reason is Reason.ORIGIN
        assert asked == []

    @cases("query", ["", "token=abc&token=def", "token=%2e", f"token={'a' * 9999}"])
    async def test_a_foreign_origin_is_judged_before_the_credential(self, query: str) -> None:
        scope = websocket(query, headers=origin_headers("https://evil.example"))
        assert await decide(scope) is Reason.ORIGIN

    @cases("origins", [[], ["null"], ["https://evil.example"], ["a", "b"]])
    async def test_without_the_option_every_origin_passes(self, origins: list[str]) -> None:
        scope = websocket("token=abc", headers=origin_headers(*origins))
        assert isinstance(await decide(scope, allowed_origins=None), Principal)

    async def test_an_empty_list_allows_no_page(self) -> None:
        scope = websocket("token=abc", headers=origin_headers("https://chat.example"))
        assert await decide(scope, allowed_origins=[]) is Reason.ORIGIN
        assert isinstance(await decide(websocket("token=abc"), allowed_origins=[]), Principal)

    async def test_a_long_origin_is_refused_in_no_time(self) -> None:
        for origin in ("https://" + "a." * 100_000, "a" * 200_000, "https://[" + ":" * 200_000):
            scope = websocket("token=abc", headers=origin_headers(origin))
            assert await decide(scope) is Reason.ORIGIN


class TestParseOrigin:
    @cases(
        ("value", "parsed"),
        [
            ("https://chat.example", ("https", "chat.example", 443)),
            ("http://chat.example", ("http", "chat.example", 80)),
            ("http://chat.example:443", ("http", "chat.example", 443)),
            ("HTTPS://Chat.EXAMPLE:443", ("https", "chat.example", 443)),
            ("http://localhost:3000", ("http", "localhost", 3000)),
            ("http://127.0.0.1:65535", ("http", "127.0.0.1", 65535)),
            ("http://[2001:DB8::1]", ("http", "[2001:db8::1]", 80)),
            ("https://xn--bcher-kva.example", ("https", "xn--bcher-kva.example", 443)),
            ("https://my_host.example", ("https", "my_host.example", 443)),
            ("chrome-extension://abcdef", ("chrome-extension", "abcdef", None)),
            ("capacitor://localhost", ("capacitor", "localhost", None)),
            ("app://localhost:1", ("app", "localhost", 1)),
        ],
    )
    def test_an_origin_is_scheme_host_and_port(self, value: str, parsed: object) -> None:
        assert parse_origin(value) == parsed

    @cases(
        "value",
        [
            "null",
            "*",
            "https://",
            "https://chat.example:65536",
            "https://chat.example:99999",
            "https://chat.example:00443",
            "https://chat.example:100000",
            "1https://chat.example",
            "ht tps://chat.example",
            "https://chat example",
            "https://[chat]",
            "https://[::1]x",
        ],
    )
    def test_what_no_browser_serialises_is_none(self, value: str) -> None:
        assert parse_origin(value) is None


class TestConfiguration:
    def test_a_cookie_source_without_allowed_origins_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="allowed_origins"):
            authenticator(sources=[Cookie("s")])
        with pytest.raises(ConfigurationError, match="allowed_origins"):
            authenticator(sources=[QueryParam(), Cookie("s")], allowed_origins=None)

    def test_a_cookie_source_with_allowed_origins_is_taken(self) -> None:
        authenticator(sources=[Cookie("s")], allowed_origins=ALLOWED)

    @cases(
        "value",
        [
            "*",
            "null",
            "",
            " ",
            "chat.example",
            "https://chat.example/",
            "https://chat.example/app",
            "https://*.chat.example",
            "https://chat.example.",
            "https://chat.example:",
            "https://chat.example:https",
            "https://user@chat.example",
            " https://chat.example",
            "https://chat.example\n",
            "https://chat.example,https://b.example",
            "https://chät.example",
            ".*",
        ],
    )
    def test_what_is_no_exact_origin_is_refused_by_name(self, value: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^allowed_origins must be a list of exa"):
            check_origins(["https://chat.example", value])

    def test_the_error_shows_the_value_and_how_to_write_it(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_origins(["https://chat.example/"])
        assert "'https://chat.example/'" in str(caught.value)
        for example in ('"https://chat.example"', '"http://localhost:3000"'):
            assert example in str(caught.value)

    def test_one_string_is_no_list(self) -> None:
        """It would be taken as a list of letters."""
        with pytest.raises(
            ConfigurationError, match=r"allowed_origins must .*'https://chat.example'"
        ):
            check_origins("https://chat.example")

    @cases("value", [None, 443, b"https://chat.example", ["https://a.example"]])
    def test_what_is_no_string_is_refused_by_name(self, value: Any) -> None:
        """None is what an unset environment variable gives."""
        with pytest.raises(ConfigurationError, match="allowed_origins"):
            check_origins([value])

    def test_none_means_any(self) -> None:
        assert check_origins(None) is None

    def test_any_iterable_is_a_list(self) -> None:
        expected = {("https", "chat.example", 443), ("http", "localhost", 3000)}
        assert check_origins(iter(ALLOWED[:2])) == expected
        assert check_origins([*ALLOWED[:2], "https://CHAT.example:443"]) == expected
