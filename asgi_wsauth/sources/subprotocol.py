"""The list of offered subprotocols, and what to answer it with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.credential import decode_base64url
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import check_choice
from asgi_wsauth.sources.source import (
    Source,
    check_token,
    edit_header,
    replace_list,
    stripped,
)

__all__ = ["Subprotocol", "choose_subprotocol", "offered_subprotocols"]


class Subprotocol:
    """The list of offered subprotocols, the one header that a browser's page can fill: `new
    WebSocket(url, ["bearer", token])`.

    The marker stays in the scope, as the last protocol, and is what the server answers with if the
    app chooses none of the others; the credential is never echoed.

    With `prefix`, it is one entry, a prefix followed by the credential: in unpadded base64url, as
    Kubernetes and Phoenix have it, or as it is, as OpenAI has it. That entry is removed, so there
    must be at least one other protocol to answer with (RFC 6455 section 4.2.2: a browser drops a
    connection that echoes none). If the app chooses none, it is the first one.

    Args:
        marker: the protocol name before the credential, case-sensitive.
        prefix: what the entry with the credential begins with, in place of a marker: for example
            `base64url.bearer.authorization.k8s.io.`, `base64url.bearer.phx.` or
            `openai-insecure-api-key.`; None for a marker.
        encoding: how the credential is written after the prefix: `"base64url"` or `"plain"`. After
            a marker it is always plain.

    Raises:
        ConfigurationError: the marker or the prefix isn't an RFC 9110 token, or there is no such
            encoding.
    """

    def __init__(
        self,
        marker: str = "bearer",
        *,
        prefix: str | None = None,
        encoding: Literal["base64url", "plain"] = "base64url",
    ) -> None:
        check_token("Subprotocol: marker", marker, "bearer")
        if prefix is not None:
            check_token("Subprotocol: prefix", prefix, "base64url.bearer.")
        check_choice("Subprotocol: encoding", encoding, ("base64url", "plain"))
        self.marker = marker if prefix is None else None
        self.prefix = prefix
        self._is_encoded = encoding == "base64url"

    def extract(self, conn: HTTPConnection, /) -> str | None:
        offered = offered_subprotocols(conn.scope)
        found = [offered[place] for place in self._places(offered)]
        if not found:
            return None
        if len(found) > 1:
            raise Denied(Reason.MALFORMED, f"{self} given {len(found)} times")
        if self.prefix is None:
            return found[0]
        if len(offered) == 1:
            raise Denied(Reason.MALFORMED, f"{self} alone: nothing else is offered to answer with")
        value = found[0][len(self.prefix) :]
        return self._decoded(value) if self._is_encoded else value or None

    def redact(self, scope: Scope, /) -> None:
        offered = offered_subprotocols(scope)
        places = self._places(offered)
        if not places:
            return
        kept = [word for i, word in enumerate(offered) if i not in places and word != self.marker]
        if self.marker is not None:
            kept.append(self.marker)  # last: what stands behind a marker is a credential
        replace_list(scope, "subprotocols", kept)
        # Some servers leave the header out; where it is there, it says the same as the list.
        first = iter([", ".join(kept).encode(errors="replace") or None])
        edit_header(scope, _PROTOCOL_HEADER, lambda _: next(first, None))

    def _places(self, offered: list[str]) -> set[int]:
        """Where the entries are that carry a credential."""
        if self.prefix is not None:
            return {i for i, word in enumerate(offered) if word.startswith(self.prefix)}
        return {i for i in range(1, len(offered)) if offered[i - 1] == self.marker}

    def _decoded(self, value: str) -> str | None:
        try:
            return decode_base64url(value).decode("ascii") or None
        except ValueError:
            raise Denied(Reason.MALFORMED, f"{self} is not unpadded base64url") from None

    def __repr__(self) -> str:
        return f"subprotocol {self.prefix or self.marker}"


_PROTOCOL_HEADER = b"sec-websocket-protocol"
_ELEMENT = re.compile(r"[^,\s](?:[^,]*[^,\s])?")  # of a list in a header, RFC 9110 section 5.6.1


def offered_subprotocols(scope: Scope) -> list[str]:
    """The offered subprotocols: the scope's list, or the header where a server gives no list."""
    words: Iterable[str] = scope.get("subprotocols") or ()
    if not words:
        headers = scope.get("headers") or ()
        values = [v.decode("latin-1") for k, v in headers if k == _PROTOCOL_HEADER]
        return [word for value in values for word in _ELEMENT.findall(value)]
    return stripped(words)


def choose_subprotocol(scope: Scope, sources: Iterable[Source]) -> str | None:
    """The subprotocol to answer a redacted handshake with where the app chooses none: the marker
    that stood before a credential, or else the first one offered."""
    offered = [word for word in offered_subprotocols(scope) if isinstance(word, str)]
    if not offered:
        return None
    markers = [source.marker for source in sources if isinstance(source, Subprotocol)]
    return next((word for word in offered if word in markers), offered[0])
