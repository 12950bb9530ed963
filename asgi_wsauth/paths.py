"""Which paths are guarded: patterns for `exclude` and `only`, and how an app reads its path. Knows
nothing of authentication.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import Scope

from asgi_wsauth.options import ConfigurationError, check_list

__all__ = ["GuardedPaths", "PathPatterns", "route_paths"]

# Segments of a path that means the same to everybody who reads it: none is empty, "." or "..", and
# nothing in it is still escaped, is a separator elsewhere, or doesn't print.
_PLAIN = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\\%;\x00-\x1f\x7f]+)*/?")


class PathPatterns:
    """Anchored patterns of paths.

    `*` stands for any characters within one segment, once in each, and at the end, after a slash,
    for everything below: `/public/*` matches `/public/` and `/public/a/b`, never `/public` or
    `/publicity`. A path with `..`, an empty segment, a backslash or a `%` left in it matches no
    pattern, because the app behind may read it otherwise.

    Args:
        option: its name, for the error.
        patterns: each begins with a slash.

    Raises:
        ConfigurationError: a pattern can't match any path.
    """

    def __init__(self, option: str, patterns: Iterable[str]) -> None:
        found = [_expression(option, pattern) for pattern in check_list(option, patterns)]
        self._pattern = re.compile("|".join(found)) if found else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def match(self, path: str) -> bool:
        """Whether `path`, decoded as in the scope, matches one of the patterns."""
        return (
            self._pattern is not None
            and isinstance(path, str)  # a server might not know it
            and self._pattern.fullmatch(path) is not None
            and _PLAIN.fullmatch(path) is not None
        )


class GuardedPaths:
    """The paths that a middleware guards; it passes all others untouched.

    A path is the one by which the app behind routes, without `root_path`. One that could be read
    in another way, too, is guarded, if only one of its readings is.

    Args:
        exclude: patterns of paths that are not guarded.
        only: patterns of the only paths that are; None for all. A slash at the end makes no
            difference to these, because it makes none to some frameworks.

    Raises:
        ConfigurationError: a pattern can't match any path, or `only` has none.
    """

    def __init__(self, exclude: Iterable[str], only: Iterable[str] | None) -> None:
        self._exclude = PathPatterns("exclude", exclude)
        self._only = None if only is None else PathPatterns("only", only)
        if self._only is not None and not self._only:
            raise ConfigurationError(
                "only must name at least one path, got none; leave it out to guard them all"
            )

    def guards(self, scope: Scope) -> bool:
        """Whether a request or handshake for this path needs a credential."""
        if not self._exclude and self._only is None:
            return True
        only, paths = self._only, route_paths(scope)
        excluded = all(map(self._exclude.match, paths))
        if only is None and not excluded:
            return True
        if not paths or not _PLAIN.fullmatch(scope["path"]) or _hides_a_slash(scope):
            return True
        if only is None or excluded:
            return False
        # With the root, too: not every app heeds that, and Daphne takes it from a client's header.
        return any(_is_meant(path, only) for path in {*paths, scope["path"]})


def route_paths(scope: Scope) -> tuple[str, ...]:
    """The path by which an app routes: without `root_path`, as Starlette and Django have it.

    It is several where frameworks may read it differently, and none where they are known to. With
    a root `/api`, Litestar and Quart 0.20 cut `/public/api/secret` to `/secret`: at the first place
    where the root occurs.
    """
    path, root = scope.get("path"), scope.get("root_path") or ""
    if not isinstance(path, str) or not isinstance(root, str):
        return ()
    bare = root.rstrip("/")
    if not bare:
        return (path,)
    leads = path == bare or path.startswith(f"{bare}/")
    rest = path[len(bare) :] if leads else path
    if bare in rest:
        return ()
    # Starlette cuts no root that ends with a slash. Litestar's router has cut it off already.
    twice = root != bare or "path_template" in scope
    return (rest, path) if twice else (rest,)


def _is_meant(path: str, only: PathPatterns) -> bool:
    bare = path.rstrip("/")
    return only.match(bare) or only.match(f"{bare}/")


def _hides_a_slash(scope: Scope) -> bool:
    """Whether a slash in the path was escaped: it is none for apps that route by `raw_path`."""
    raw = scope.get("raw_path")
    return isinstance(raw, bytes) and b"%2f" in raw.lower()


def _expression(option: str, pattern: str) -> str:
    if not isinstance(pattern, str) or not _PLAIN.fullmatch(pattern) or not pattern:
        raise ConfigurationError(
            f'{option}: {pattern!r} matches no path; begin with a slash, as in "/public/*"'
        )
    if any(segment.count("*") > 1 for segment in pattern.split("/")):
        raise ConfigurationError(
            f'{option}: {pattern!r} has two "*" in one segment; one is enough, "/*" at the end is '
            "everything below"
        )
    below = pattern.endswith("/*")
    body = "[^/]*".join(
        re.escape(part) for part in pattern.removesuffix("*" if below else "").split("*")
    )
    return body + (".*" if below else "")
