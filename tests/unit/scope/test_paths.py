"""Which paths need no credential, and that nobody can pretend to be one of them."""

from __future__ import annotations

from typing import Any

import pytest
from cases import cases

from asgi_wsauth import ConfigurationError
from asgi_wsauth.scope.paths import GuardedPaths, PathPatterns, route_paths


def matches(path: str, *patterns: str) -> bool:
    return PathPatterns("exclude", patterns).match(path)


@cases(
    ("route", "pattern"),
    [("/rooms/{id}", "/rooms/*"), ("/a/{b:path}/c", "/a/*/c"), ("/<int:n>/x", "/*/x")],
)
def test_the_log_warns_of_a_routes_path(
    route: str, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    PathPatterns("exclude", [route])
    assert caplog.messages == [
        f"exclude has {route!r}, which is no pattern but a route's path, and is taken literally; "
        f"write {pattern!r}"
    ]


class TestSyntax:
    @cases(
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

    @cases(
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

    @cases("pattern", ["/a.b", "/a+", "/a?", "/(a|b)", "/[ab]", "/a$", "/{id}"])
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


class TestPathsInDisguise:
    """Each would be another path to the app, a proxy or a file system behind."""

    @cases(
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
    @cases("pattern", ["/public/*", "/*"])
    def test_matches_nothing(self, pattern: str, path: str) -> None:
        assert not matches(path, pattern)

    @cases("path", ["/public/a\n", "/public/a/\n", "/public\n", "/public/a\n/public/a"])
    def test_the_end_is_the_end(self, path: str) -> None:
        assert not matches(path, "/public/a", "/public/a/", "/public", "/*")

    def test_a_long_path_is_judged_in_no_time(self) -> None:
        """Quadratic work would hang the run."""
        for path in ("/a" * 100_000 + "%", "/public/" + "a" * 200_000 + "%", "/" * 200_000):
            assert not matches(path, "/public/*", "/*/a", "/a*a")


class TestConfiguration:
    def test_two_stars_in_one_segment_are_refused(self) -> None:
        """They take quadratic time on a long path, and `/**` would look like more than `/*`."""
        for pattern in ("/public/**", "/a*b*c", "/**/x"):
            with pytest.raises(ConfigurationError, match=r"^exclude: .* two \"\*\" in one segment"):
                PathPatterns("exclude", [pattern])

    @cases(
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


def unguarded(
    path: Any, root: Any = "", *, exclude: Any = (), only: Any = None, **more: Any
) -> bool:
    return not GuardedPaths(exclude, only).guards({"path": path, "root_path": root, **more})


class TestWithoutTheRoot:
    """A path is the app's own."""

    @cases(
        ("root", "path"),
        [
            ("", "/public/a"),
            ("/", "/public/a"),
            ("/api", "/api/public/a"),
            ("/api/v1", "/api/v1/public/a"),
            ("/api", "/public/a"),  # a proxy has cut it already
            (None, "/public/a"),
        ],
    )
    def test_is_what_is_excluded(self, root: Any, path: str) -> None:
        assert unguarded(path, root, exclude=["/public/*"])

    def test_a_scope_needs_no_root(self) -> None:
        assert not GuardedPaths(["/health"], None).guards({"path": "/health"})

    @cases("path", ["/api/public", "/api", "/api/", "/apipublic/a", "/public"])
    def test_nothing_else_is_excluded(self, path: str) -> None:
        assert not unguarded(path, "/api", exclude=["/public/*", "/health"])

    def test_the_pattern_does_not_begin_with_the_root_and_the_log_says_so_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths = GuardedPaths(["/api/health"], None)
        for path in ("/api/a", "/api/health", "/api/health"):
            assert paths.guards({"path": path, "root_path": "/api"})
        assert caplog.messages == [
            "'/api/health' is guarded: exclude matches it only with its root_path, '/api', which "
            "patterns leave out"
        ]

    @cases(
        "path",
        [
            "/public/api/secret",  # /secret to Litestar, and to Quart 0.20
            "/public/api",
            "/public/apis",  # s to them
            "/public/x/api/y",
            "/api/public/api/secret",
            "/api/api/public/a",
            "/apihealth",
            "/public/api-a",
        ],
    )
    @cases("root", ["/api", "/api/"])
    def test_where_the_root_occurs_later_on_the_path_is_guarded(self, path: str, root: str) -> None:
        assert not unguarded(path, root, exclude=["/*"])
        assert not unguarded(path, root, only=["/other"])

    def test_a_root_that_ends_with_a_slash_is_cut_by_some(self) -> None:
        assert route_paths({"path": "/api/a", "root_path": "/api/"}) == ("/a", "/api/a")
        assert not unguarded("/api/a", "/api/", exclude=["/a"])
        assert not unguarded("/api/a", "/api/", exclude=["/api/a"])
        assert unguarded("/api/a", "/api/", exclude=["/a", "/api/a"])

    def test_litestars_router_has_cut_it_already(self) -> None:
        routed = {"path_template": "/api/health"}
        assert not unguarded("/api/health", "/api", exclude=["/health"], **routed)
        assert not unguarded("/api/health", "/api", exclude=["/api/health"], **routed)
        assert unguarded("/health", "/api", exclude=["/health"], **routed)

    @cases("root", [5, b"/api", ["/api"], object()])
    def test_a_root_that_is_no_string_excludes_nothing(self, root: Any) -> None:
        assert not unguarded("/health", root, exclude=["/health"])
        assert not unguarded("/health", root, only=["/other"])

    @cases("raw", [b"/public%2Fa", b"/public%2fa", b"/public/a%2f"])
    def test_a_slash_that_was_escaped_is_none_to_some(self, raw: bytes) -> None:
        assert not unguarded("/public/a", exclude=["/public/*"], raw_path=raw)
        assert not unguarded("/public/a", only=["/other"], raw_path=raw)

    @cases("raw", [b"/p%75blic/a", b"/public/%c3%a4", None, "/public/a"])
    def test_another_escape_is_the_same_to_all(self, raw: Any) -> None:
        assert unguarded("/public/a", exclude=["/public/*"], raw_path=raw)


class TestOnly:
    @cases(
        ("path", "guarded"),
        [
            ("/admin", True),
            ("/admin/", True),
            ("/admin/a", True),
            ("/exact", True),
            ("/exact/", True),
            ("/slash/", True),
            ("/slash", True),
            ("/exact/a", False),
            ("/administration", False),
            ("/Admin/a", True),
            ("/ADMIN", True),
            ("/EXACT/", True),
            ("/Administration", False),
            ("/a/admin/b", False),
            ("/", False),
            ("/other", False),
        ],
    )
    @cases("root", ["", "/root"])
    def test_only_these_are_guarded(self, root: str, path: str, guarded: bool) -> None:
        only = ["/admin/*", "/exact", "/slash/"]
        assert unguarded(root + path, root, only=only) is not guarded
        assert unguarded(path, root, only=only) is not guarded

    @cases(
        "path",
        [
            "/other/../admin",
            "//admin",
            "/other//admin",
            "/./admin",
            "/%61dmin",
            "/other\\..\\admin",
            "/admin;a",
            "/other\n",
            "/other\x00",
            "other",
            "*",
            "http://chat.example/other",
            None,
            b"/other",
            5,
        ],
    )
    def test_so_is_what_might_be_read_as_one_of_them(self, path: Any) -> None:
        assert not unguarded(path, only=["/admin/*"])

    def test_the_root_itself_is_the_apps_first_page(self) -> None:
        assert not unguarded("/api", "/api", only=["/"])
        assert not unguarded("/api/", "/api", only=["/"])
        assert unguarded("/api", "/api", only=["/admin/*"])

    def test_whoever_chooses_the_root_opens_nothing(self) -> None:
        """Daphne takes it from a header, and not every app heeds it."""
        for root in ("/admin", "/admin/", "/admin/a", "/", "/adm"):
            assert not unguarded("/admin/a", root, only=["/admin/*"])

    @cases(
        ("path", "pattern"),
        [
            ("/ADMIN/a", "/admin/*"),
            ("/admin/a", "/Admin/*"),
            ("/\u212aey", "/key"),  # the sign for kelvin
            ("/adm\u0130n", "/admin"),  # to `re.IGNORECASE`
            ("/adm\u0131n", "/admin"),
            ("/STRASSE", "/stra\xdfe"),  # to `casefold`
            ("/stra\xdfe", "/strasse"),
            ("/SCHL\xdcSSEL", "/schl\xfcssel"),
        ],
    )
    def test_case_makes_no_difference_to_some(self, path: str, pattern: str) -> None:
        assert not unguarded(path, only=[pattern])
        assert not unguarded(f"{path}/", only=[pattern])
        assert not unguarded(path, exclude=[pattern])

    def test_exclude_is_taken_from_only_in_its_own_case(self) -> None:
        for path in ("/ADMIN/login", "/admin/LOGIN"):
            assert not unguarded(path, exclude=["/admin/login"], only=["/admin/*"])

    def test_exclude_is_taken_from_only(self) -> None:
        paths = GuardedPaths(["/admin/login", "/admin/static/*"], ["/admin/*"])
        for path in ("/admin/login", "/admin/static/a.css", "/other"):
            assert not paths.guards({"path": path})
            assert not paths.guards({"path": f"/root{path}", "root_path": "/root"})
        for path in ("/admin/", "/admin/login/", "/admin/static", "/admin/a"):
            assert paths.guards({"path": path})

    def test_without_either_all_is_guarded(self) -> None:
        for path in ("/", "/other", None):
            assert not unguarded(path)

    @cases("only", [[], (), iter([])])
    def test_an_empty_list_is_refused(self, only: Any) -> None:
        """It would guard nothing."""
        with pytest.raises(ConfigurationError, match=r"^only must name at least one path"):
            GuardedPaths((), only)

    @cases("only", ["/admin", ["admin"], [None], ["/a**"], 5, {"/admin": True}])
    def test_what_can_not_work_is_refused(self, only: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^only"):
            GuardedPaths((), only)


DAPHNE = {"asgi": {"version": "3.0"}, "client": ["127.0.0.1", 5000]}
# Each of the two tells; a later version might lose one.
UNVERSIONED = {"asgi": {"version": "3.0"}, "client": None}
LISTED = {"asgi": {"version": "3.0", "spec_version": "2.3"}, "client": ["127.0.0.1", 5000]}
OTHERS = {"asgi": {"version": "3.0", "spec_version": "2.3"}, "client": ("127.0.0.1", 5000)}


@pytest.mark.parametrize("server", [DAPHNE, UNVERSIONED, LISTED])
class TestARootThatAClientChose:
    @pytest.mark.parametrize("root", ["/admin", "/admin/"])
    def test_excludes_nothing(self, server: Any, root: str) -> None:
        path = "/admin/public/x"
        assert not unguarded(path, root, exclude=["/public/*"], **server)
        assert unguarded(path, "/admin", exclude=["/public/*"], **OTHERS)
        assert set(route_paths({"path": path, "root_path": root, **server})) == {
            path,
            "/public/x",
        }

    def test_is_no_mistake_of_who_wrote_the_patterns(
        self, server: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert not unguarded("/public/secret", "/public", exclude=["/public/*"], **server)
        assert not caplog.messages

    def test_what_is_excluded_in_every_reading_is_so(self, server: Any) -> None:
        both = ["/public/*", "/admin/public/*"]
        assert unguarded("/admin/public/x", "/admin", exclude=both, **server)
        for root in ("", "/", None, "/admin"):
            assert unguarded("/public/x", root, exclude=["/public/*"], **server)

    def test_the_root_of_a_mount_is_the_apps(self, server: Any) -> None:
        more = {**server, "app_root_path": ""}
        assert unguarded("/inner/public/x", "/inner", exclude=["/public/*"], **more)
        assert route_paths({"path": "/inner/a", "root_path": "/inner", **more}) == ("/a",)

    def test_but_not_what_stands_before_it(self, server: Any) -> None:
        more = {**server, "app_root_path": "/admin"}
        path = "/admin/inner/public/x"
        assert not unguarded(path, "/admin/inner", exclude=["/public/*"], **more)
        assert unguarded("/admin/inner/x", "/admin/inner", only=["/secret"], **more)

    def test_a_mount_whose_root_does_not_lead_is_guarded(self, server: Any) -> None:
        more = {**server, "app_root_path": "/admin"}
        for options in ({"exclude": ["/*"]}, {"only": ["/secret"]}):
            assert not unguarded("/inner/secret", "/admin/inner", **options, **more)
        assert route_paths({"path": "/inner/a", "root_path": "/admin/inner", **more}) == ()


class TestRoutePaths:
    @cases(
        ("path", "root", "expected"),
        [
            ("/a", "", ("/a",)),
            ("/a", None, ("/a",)),
            ("/api/a", "/api", ("/a",)),
            ("/api", "/api", ("",)),
            ("/api/", "/api", ("/",)),
            ("/a", "/api", ("/a",)),
            ("/a/api", "/api", ()),
            ("/a", 5, ()),
            (None, "", ()),
            ("/a;b/../%", "", ("/a;b/../%",)),  # which is for others to judge
        ],
    )
    def test_are_the_apps(self, path: Any, root: Any, expected: Any) -> None:
        assert route_paths({"path": path, "root_path": root}) == expected
