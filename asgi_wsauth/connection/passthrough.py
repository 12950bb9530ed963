"""What passes through a middleware because it is of the other protocol: HTTP through the one for
WebSockets, and WebSockets through the one for HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.events import logger
from asgi_wsauth.sources import Cookie, Header
from asgi_wsauth.sources.findings import Finding, is_ambient, redact

__all__ = ["GUARDS", "Guards", "found_before", "handed_on", "redacted_request"]

Protocol: TypeAlias = Literal["http", "websocket"]


class Guards:
    """The middlewares of a process, by the protocol that they guard. It warns once in its life."""

    def __init__(self) -> None:
        self._guards: dict[Protocol, WeakSet[object]] = {"http": WeakSet(), "websocket": WeakSet()}
        self._warned = False

    def add(self, protocol: Protocol, guard: object) -> None:
        """There is one more, for as long as it lives."""
        self._guards[protocol].add(guard)

    def all_of(self, protocol: Protocol) -> list[object]:
        """The middlewares for this protocol that still exist."""
        return list(self._guards[protocol])

    def warn(self, protocol: Protocol, option: str) -> None:
        """Warn, if nothing in this process guards what has just passed.

        Args:
            protocol: what passes.
            option: the one with which a user says that this is intended.
        """
        if self._warned or self._guards[protocol]:
            return
        self._warned = True
        what, guard = {
            "http": ("HTTP requests pass", "HTTPAuthMiddleware"),
            "websocket": ("WebSockets pass", "WebSocketAuthMiddleware"),
        }[protocol]
        logger.warning(
            "%s unguarded: put %s around the app too, or set %s=True if that is intended",
            what,
            guard,
            option,
        )


def redacted_request(scope: Scope, authenticator: Authenticator) -> Scope:
    """Take what `authenticator`'s sources find out of a request that passes a guard for sockets,
    before its server writes the address into its log.

    A handshake that arrives as a request (a proxy has cut `Upgrade`, or the server knows no
    WebSockets) loses its credential, which is kept for a guard for HTTP inside. Any other request
    is the app's affair: it finds what was sent, in a copy, because its own pages may have a
    `?token=`. Its headers, which no server logs, stay in the server's scope too.

    Args:
        scope: the server's own.
        authenticator: the guard's.

    Returns:
        The scope for the app.
    """
    try:
        return _redacted(scope, authenticator)
    except Exception as exc:  # of a source, or of a scope that no server should build
        logger.warning("a request passed that could not be redacted: %s", type(exc).__qualname__)
        return scope


def _redacted(scope: Scope, authenticator: Authenticator) -> Scope:
    headers = scope.get("headers")
    if headers is not None and not isinstance(headers, (list, tuple)):
        scope["headers"] = headers = list(headers)  # it may be readable only once
    is_handshake = any(header[0].startswith(b"sec-websocket-") for header in headers or ())
    sources = authenticator.sources
    if not is_handshake:
        sources = tuple(s for s in sources if not isinstance(s, (Header, Cookie)))
    found = authenticator.collect(HTTPConnection(dict(scope)), sources).findings
    if is_handshake:
        redact(sources, scope)
        _set_aside(scope, authenticator, found)
    elif found:
        copied = {key: list(scope[key]) for key in ("headers", "subprotocols") if scope.get(key)}
        app_scope = {**scope, **copied}
        redact(sources, scope)
        return app_scope
    return scope


class _Aside:
    """Stands in a scope for what was found in it, which no app gets to from here."""

    __slots__ = ("__weakref__",)


_ASIDE = "asgi_wsauth.aside"
_found: WeakKeyDictionary[_Aside, list[tuple[Authenticator, Sequence[Finding]]]] = (
    WeakKeyDictionary()
)


def _set_aside(scope: Scope, authenticator: Authenticator, found: Sequence[Finding]) -> None:
    if not found:
        return
    if not isinstance(scope.get(_ASIDE), _Aside):
        scope[_ASIDE] = _Aside()
    _found.setdefault(scope[_ASIDE], []).append((authenticator, found))


def found_before(
    scope: Scope, authenticator: Authenticator, findings: Sequence[Finding]
) -> Sequence[Finding]:
    """What was found in a scope, with what a guard for sockets further out has set aside: all of
    it where that has the same authenticator, or else what may be handed on, and only where nothing
    was found.

    Args:
        scope: the request's.
        authenticator: the one that decides now.
        findings: what its sources have found.
    """
    aside = scope.get(_ASIDE)
    if not isinstance(aside, _Aside):
        return findings
    earlier = _found.get(aside, [])
    same = [found for whose, found in earlier if whose is authenticator]
    if same:
        return [*findings, *same[0]]
    return findings or [f for _, found in earlier for f in handed_on(found, authenticator)]


def handed_on(findings: Sequence[Finding], authenticator: Authenticator) -> Sequence[Finding]:
    """Of what another authenticator's sources have found, without judging the origin, what this one
    may verify. A browser sends a cookie whoever's page it shows, so that is for one who has
    `allowed_origins` only.
    """
    if authenticator.allowed_origins is not None:
        return findings
    return [finding for finding in findings if not is_ambient(finding)]


GUARDS = Guards()
"""The middlewares of this process."""
