"""Row 41: which paths need no credential, and that nobody can pretend to be one of them."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_wsauth import ConfigurationError
from asgi_wsauth.paths import PathPatterns


def matches(path: str, *patterns: str) -> bool:
    return PathPatterns("exclude", patterns).match(path)


class TestSyntax:
    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("/", "/"),
            ("/health", "/health"),
            ("/health/", "/health/"),
            ("/*", "/"),
            ("/*", "/a"),
            ("/*", "/a/b/"),
            ("/public/*", "/public/"),
            ("/public/*", "/public/a"),
            ("/public/*", "/public/a/b"),
            ("/public/*", "/public/a/b/"),
            ("/public/*", "/public/*"),
            ("/public/*", "/public/ä b"),
            ("/public/*", "/public/..."),
            ("/public/*", "/public/.a/a..b/c."),
            ("/*/info", "/chat/info"),
            ("/*/info", "/c.h-a_t/info"),
            ("/rooms/*/feed/*", "/rooms/1/feed/2/3"),
            ("/v*/ping", "/v1/ping"),
            ("/v*/ping", "/v/ping"),
            ("/*.json", "/a.json"),
            ("/a*z", "/abcz"),
            ("/a*/b*", "/aX/bY"),
            ("/schlüssel", "/schlüssel"),
        ],
    )
    def test_a_pattern_matches(self, pattern: str, path: str) -> None:
        assert matches(path, pattern)

    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("/", "/a"),
            ("/", ""),
            ("/*", ""),
            ("/*", "a"),
            ("/health", "/health/"),
            ("/health", "/health/a"),
            ("/health", "/healthy"),
            ("/health", "/a/health"),
            ("/health", "/Health"),
            ("/health/", "/health"),
            ("/public/*", "/public"),
            ("/public/*", "/publicity"),
            ("/public/*", "/publicity/a"),
            ("/public/*", "/PUBLIC/a"),
            ("/public/*", "/a/public/b"),
            ("/public*", "/public/a"),
            ("/*/info", "/chat/room/info"),
            ("/*/info", "/chat/info/"),
            ("/*/info", "/chat/info/more"),
            ("/v*/ping", "/v1/2/ping"),
            ("/*.json", "/a/b.json"),
            ("/a*z", "/a/z"),
            # Only the star means something.
            ("/a.b", "/axb"),
            ("/a+", "/aa"),
            ("/a?", "/ab"),
            ("/(a|b)", "/a"),
            ("/[ab]", "/a"),
            ("/a$", "/a"),
            ("/{id}", "/1"),
        ],
    )
    def test_a_pattern_does_not_match(self, pattern: str, path: str) -> None:
        assert not matches(path, pattern)

    @pytest.mark.parametrize("pattern", ["/a.b", "/a+", "/a?", "/(a|b)", "/[ab]", "/a$", "/{id}"])
    def test_what_means_something_elsewhere_is_literal(self, pattern: str) -> None:
        assert matches(pattern, pattern)

    def test_one_of_several_is_enough(self) -> None:
        patterns = PathPatterns("exclude", iter(["/health", "/public/*"]))
        assert patterns.match("/health")
        assert patterns.match("/public/a")
        assert not patterns.match("/other")

    def test_no_pattern_matches_nothing(self) -> None:
        for path in ("", "/", "/a"):
            assert not matches(path)


class TestRow41PathsInDisguise:
    """Each would be another path to the app, a proxy or a file system behind."""

    @pytest.mark.parametrize(
        "path",
        [
            "/public/../admin",
            "/public/..",
            "/public/./a",
            "/public/.",
            "/public/a/../../admin",
            "/public/a/..",
            "/../public/a",
            "/./public/a",
            "//public/a",
            "///public/a",
            "/public//a",
            "/public//",
            "//",
            "/public/\\..\\admin",
            "/public\\a",
            "/public/..\\admin",
            "/public/%2e%2e/admin",  # decoded once by the server, and still escaped
            "/public/a%2f..%2fadmin",
            "/public/%00",
            "/public/%",
            "/public/..;/admin",
            "/public/a;b",
            "/public/\x00",
            "/public/a\x00/../admin",
            "/public/a\n",
            "/public/a\r\nb",
            "/public/\t",
            "/public/..\n/admin",
            "/public/\x1b[2J",
            "/public/\x7f",
            "public/a",
            "",
        ],
    )
    @pytest.mark.parametrize("pattern", ["/public/*", "/*"])
    def test_matches_nothing(self, pattern: str, path: str) -> None:
        assert not matches(path, pattern)

    @pytest.mark.parametrize(
        "path", ["/public/a\n", "/public/a/\n", "/public\n", "/public/a\n/public/a"]
    )
    def test_the_end_is_the_end(self, path: str) -> None:
        assert not matches(path, "/public/a", "/public/a/", "/public", "/*")

    def test_row_24_a_long_path_is_judged_in_no_time(self) -> None:
        """Quadratic work would hang the run."""
        for path in ("/a" * 100_000 + "%", "/public/" + "a" * 200_000 + "%", "/" * 200_000):
            assert not matches(path, "/public/*", "/*/a", "/a*a")


class TestConfiguration:
    def test_two_stars_in_one_segment_are_refused(self) -> None:
        """They take quadratic time on a long path, and `/**` would look like more than `/*`."""
        for pattern in ("/public/**", "/a*b*c", "/**/x"):
            with pytest.raises(ConfigurationError, match=r"^exclude: .* two \"\*\" in one segment"):
                PathPatterns("exclude", [pattern])

    @pytest.mark.parametrize(
        "pattern",
        [
            "",
            "public",
            "*",
            "public/*",
            "//public",
            "/public//*",
            "/public/../a",
            "/./public",
            "/public\\a",
            "/public/%41",
            "/public;a",
            "/public\n",
            "^/public",
            "https://chat.example/public",
            None,
            7,
            b"/public",
        ],
    )
    def test_a_pattern_that_can_match_nothing_is_refused_by_name(self, pattern: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^exclude: .* matches no path"):
            PathPatterns("exclude", ["/health", pattern])

    def test_one_string_is_no_list(self) -> None:
        with pytest.raises(ConfigurationError, match=r"exclude must be a list.*\['/public/\*'\]"):
            PathPatterns("exclude", "/public/*")
