"""Path patterns for `exclude`. Knows nothing of authentication."""

from __future__ import annotations

import re
from collections.abc import Iterable

from asgi_wsauth.options import ConfigurationError, check_list

__all__ = ["PathPatterns"]

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
        self._patterns = [_compiled(option, p) for p in check_list(option, patterns)]

    def match(self, path: str) -> bool:
        """Whether `path`, decoded as in the scope, matches one of the patterns."""
        return (
            bool(self._patterns)
            and isinstance(path, str)  # a server might not know it
            and _PLAIN.fullmatch(path) is not None
            and any(pattern.fullmatch(path) for pattern in self._patterns)
        )


def _compiled(option: str, pattern: str) -> re.Pattern[str]:
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
    return re.compile(body + (".*" if below else ""))
