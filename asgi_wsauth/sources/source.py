"""What a source is, and what the sources share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.options import HTTP_TOKEN, ConfigurationError, shown

__all__ = [
    "Source",
    "check_token",
    "edit_header",
    "replace_list",
    "stripped",
]


class Source(Protocol):
    """Finds a credential in a handshake, and removes it from the scope. Any object with these two
    methods is one. It may have a third, `log_patterns()`: see `RedactCredentials`.
    """

    def extract(self, conn: HTTPConnection, /) -> str | None:
        """The credential, or None where there is none.

        Raises:
            Denied: with `Reason.MALFORMED`, where it is there twice or can't be read.
        """
        ...

    def redact(self, scope: Scope, /) -> None:
        """Take the credential out of `scope`, which is the server's own dict.

        Assign new values to its keys, or change the lists in it: `findings.redact` sees to it
        that `headers` and `subprotocols` stay the lists that they were, with the new content,
        because whatever has read the scope before (`CORSMiddleware`, say) holds on to those.
        """
        ...


def check_token(option: str, given: str, example: str) -> str:
    """The option, if it is a word of HTTP (RFC 9110 section 5.6.2).

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(given, str) or not HTTP_TOKEN.fullmatch(given):
        raise ConfigurationError(
            f'{option} must be one word of visible ASCII, for example "{example}", got '
            f"{shown(given)}"
        )
    return given


def stripped(words: Iterable[str]) -> list[str]:
    """The elements of a list in a header, without the space around them and without empty ones
    (RFC 9110 section 5.6.1). All that servers and frameworks strip counts as space."""
    bare = (word.strip() if isinstance(word, str) else word for word in words)
    return [word for word in bare if word != ""]


def replace_list(scope: Scope, key: str, content: list[Any]) -> None:
    """Put `content` in the place of what `scope[key]` has, into the same list where it is one."""
    given = scope.get(key)
    if isinstance(given, list):
        given[:] = content
    else:
        scope[key] = content


def edit_header(scope: Scope, name: bytes, edit: Callable[[bytes], bytes | None]) -> None:
    """Put `edit(value)` in the place of every value of a header; None drops it."""
    headers = scope.get("headers") or ()
    if name not in [key.lower() for key, _ in headers]:  # as in most handshakes
        return
    edited = [(key, edit(value) if key.lower() == name else value) for key, value in headers]
    replace_list(scope, "headers", [(key, value) for key, value in edited if value is not None])
