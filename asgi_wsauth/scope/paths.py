"""Which paths are guarded: patterns for `exclude` and `only`, and how an app reads its path. Knows
nothing of authentication.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from starlette.types import Scope

from asgi_wsauth.options import ConfigurationError, check_list

__all__ = ["GuardedPaths", "PathPatterns", "route_paths"]

# Segments of a path that means the same to everybody who reads it: none is empty, "." or "..", and
# nothing in it is still escaped, is a separator elsewhere, or doesn't print.
_PLAIN = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\\%;\x00-\x1f\x7f]+)*/?")

_PARAMETER = re.compile(r"\{\w+(?::\w+)?\}|<(?:\w+:)?\w+>")  # of Starlette's routes, and of Quart's

_log = logging.getLogger("asgi_wsauth")


class PathPatterns:
    """Anchored patterns of paths.

    `*` stands for any characters within one segment, once in each, and at the end, after a slash,
    for everything below: `/public/*` matches `/public/` and `/public/a/b`, never `/public` or
    `/publicity`. A path with `..`, an empty segment, a backslash or a `%` left in it matches no
    pattern, because the app behind may read it otherwise.

    Args:
        option: its name, for the error.
        patterns: each begins with a slash.
        ignore_case: whether case makes no difference.

    Raises:
        ConfigurationError: a pattern can't match any path.
    """

    def __init__(self, option: str, patterns: Iterable[str], *, ignore_case: bool = False) -> None:
        found = [_expression(option, pattern) for pattern in check_list(option, patterns)]
        if ignore_case:  # some fold case as `casefold` does, others as `re.IGNORECASE`
            found += [pattern.casefold() for pattern in found]
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        self._pattern = re.compile("|".join(found), flags) if found else None

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
        exclude: patterns of paths that are not guarded. Case counts.
        only: patterns of the only paths that are; None for all. Case and a slash at the end make no
            difference to these, because they make none to some frameworks.

    Raises:
        ConfigurationError: a pattern can't match any path, or `only` has none.
    """

    def __init__(self, exclude: Iterable[str], only: Iterable[str] | None) -> None:
        self._exclude = PathPatterns("exclude", exclude)
        self._only = None if only is None else PathPatterns("only", only, ignore_case=True)
        if self._only is not None and not self._only:
            raise ConfigurationError(
                "only must name at least one path, got none; leave it out to guard them all"
            )
        self._guards_all = not self._exclude and self._only is None
        self._warned = False

    def guards(self, scope: Scope) -> bool:
        """Whether a request or handshake for this path needs a credential."""
        if self._guards_all:
            return True
        only, paths = self._only, route_paths(scope)
        excluded = all(map(self._exclude.match, paths))
        if only is None and not excluded:
            if len(paths) == 1 and paths[0] != scope["path"]:
                self._warn_of_root(scope)
            return True
        if not paths or not _PLAIN.fullmatch(scope["path"]) or _hides_a_slash(scope):
            return True
        if only is None or excluded:
            return False
        # With the root, too: not every app heeds that.
        return any(_is_meant(path, only) for path in {*paths, scope["path"]})

    def _warn_of_root(self, scope: Scope) -> None:
        """Warn, once, where a pattern was written with the root; it is not one of a client's."""
        if not self._warned and self._exclude.match(scope["path"]):
            self._warned = True
            _log.warning(
                "%r is guarded: exclude matches it only with its root_path, %r, which patterns "
                "leave out",
                scope["path"],
                scope["root_path"],
            )


def route_paths(scope: Scope) -> tuple[str, ...]:
    """The path by which an app routes: without `root_path`, as Starlette and Django have it.

    It is several where frameworks may read it differently, and none where they are known to. With
    a root `/api`, Litestar and Quart 0.20 cut `/public/api/secret` to `/secret`: at the first place
    where the root occurs. Where a client may have chosen the root, the path that it asked for is
    one of the readings.
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
    chosen = _is_a_clients(scope.get("app_root_path", root), scope)
    if chosen and not leads and "app_root_path" in scope:
        return ()  # a Mount's own part of the root is in the path, but not at its beginning
    # Starlette cuts no root that ends with a slash. Litestar's router has cut it off already.
    twice = chosen or root != bare or "path_template" in scope
    return (rest, path) if twice else (rest,)


def _is_a_clients(root: object, scope: Scope) -> bool:
    """Whether a client may have chosen the root that the server told, without that of any `Mount`.

    Daphne takes it from the header `Daphne-Root-Path`, over its own `--root-path`, and leaves no
    trace of that. It is the server that tells no `spec_version`, and has a list for `client`.
    """
    asgi = scope.get("asgi")
    unversioned = isinstance(asgi, dict) and "spec_version" not in asgi
    return bool(root) and (unversioned or isinstance(scope.get("client"), list))


def _is_meant(path: str, only: PathPatterns) -> bool:
    bare = path.rstrip("/")
    readings = {bare, bare.casefold()}
    return any(only.match(end) for reading in readings for end in (reading, f"{reading}/"))


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
    if _PARAMETER.search(pattern):
        _log.warning(
            "%s has %r, which is no pattern but a route's path, and is taken literally; write %r",
            option,
            pattern,
            _PARAMETER.sub("*", pattern),
        )
    below = pattern.endswith("/*")
    body = "[^/]*".join(
        re.escape(part) for part in pattern.removesuffix("*" if below else "").split("*")
    )
    return body + (".*" if below else "")
