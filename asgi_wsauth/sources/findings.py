"""What the sources of an authenticator find in one connection, and which credential that makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import VISIBLE, ConfigurationError, check_store, kind_of, shown
from asgi_wsauth.sources import Cookie, FirstMessage, Source
from asgi_wsauth.sources.source import replace_list, stripped

__all__ = ["Finding", "are_ambient", "check_sources", "choose", "collect", "is_ambient", "redact"]

Finding: TypeAlias = "tuple[Source, Credential | Denied]"
"""A source that found something: a credential, or one that can't be read."""


def collect(sources: Iterable[Source], conn: HTTPConnection) -> list[Finding]:
    """Ask every source. What goes wrong in one is kept, to be judged when its turn comes.

    Missing parts of the scope are filled in with what the ASGI specification says they mean, and
    the subprotocols stripped of spaces. Lists of the scope stay the objects that they are.
    """
    scope = conn.scope
    scope.setdefault("query_string", b"")
    if not isinstance(scope.get("headers"), list):  # it may be readable only once
        scope["headers"] = list(scope.get("headers") or ())
    if scope.get("subprotocols"):
        replace_list(scope, "subprotocols", stripped(scope["subprotocols"]))
    headers = scope["headers"]
    findings: list[Finding] = []
    for source in sources:
        try:
            value = source.extract(conn)
            if value:
                if not isinstance(value, str):
                    raise TypeError(f"a source found {kind_of(value)}; it must be a str")
                findings.append((source, Credential(value, repr(source))))
        except Denied as denied:
            findings.append((source, denied))
        except Exception as exc:
            findings.append((source, Denied.because(source, exc, may_quote=False)))
    scope["headers"] = headers  # Starlette's connection puts a copy in their place
    return findings


def redact(sources: Iterable[Source], scope: Any) -> None:
    """Have every source remove its credential from `scope`, in place, and from the lists in it:
    whatever has read the scope before holds on to those.

    Raises:
        Denied: with `Reason.ERROR`, after all the others had their turn, if a source raised.
    """
    failure: Denied | None = None
    headers, subprotocols = scope.get("headers"), scope.get("subprotocols")
    for source in sources:
        try:
            source.redact(scope)
        except Exception as exc:
            failure = Denied.because(source, exc, may_quote=False)
    if scope.get("headers") is not headers:
        _keep_list(scope, "headers", headers)
    if scope.get("subprotocols") is not subprotocols:
        _keep_list(scope, "subprotocols", subprotocols)
    if failure is not None:
        raise failure


def _keep_list(scope: Any, key: str, given: object) -> None:
    """Have the list that was given say what a source has put in its place."""
    if isinstance(given, list):
        given[:] = scope.get(key) or ()
        scope[key] = given


def choose(findings: Sequence[Finding], sources: Iterable[Source], max_size: int) -> Credential:
    """The one credential. A cookie counts only if nothing was sent explicitly.

    Args:
        findings: what the sources found.
        sources: all that were asked, to be named where nothing was found.
        max_size: characters that a credential may have.

    Raises:
        Denied: there is none, there are several, or it can't be one.
    """
    if not findings:
        raise Denied(Reason.MISSING, f"looked in {', '.join(map(repr, sources))}")
    credential = findings[0][1] if len(findings) == 1 else _common(findings)
    if isinstance(credential, Denied):
        raise credential
    if len(credential.value) > max_size:
        raise Denied(Reason.MALFORMED, f"too long: {len(credential.value)} characters")
    if not credential.value:  # of a message, where a source finds nothing
        raise Denied(Reason.MALFORMED, "it is empty, too long or not a string")
    if not VISIBLE.fullmatch(credential.value):
        raise Denied(Reason.MALFORMED, "it has characters that no credential has")
    return credential


def _common(findings: Sequence[Finding]) -> Credential | Denied:
    """What several sources have found, if that is one credential."""
    explicit = [finding for finding in findings if not is_ambient(finding)]
    credentials = []
    for _, found in explicit or findings:
        if isinstance(found, Denied):
            return found
        credentials.append(found)
    if any(one.value != credentials[0].value for one in credentials):
        places = " and ".join(one.source for one in credentials)
        return Denied(Reason.MALFORMED, f"different credentials in {places}")
    return credentials[0]


def is_ambient(finding: Finding) -> bool:
    """Whether a browser sends it by itself, whichever site's page asked."""
    return isinstance(finding[0], Cookie)


def are_ambient(findings: Sequence[Finding]) -> bool:
    """Whether there are some, and a browser sends all of them by itself."""
    return bool(findings) and all(map(is_ambient, findings))


def check_sources(sources: Sequence[Source], allowed_origins: object) -> None:
    """Check the sources of an authenticator, and that cookies come with allowed origins.

    Raises:
        ConfigurationError: there is none, one of them is no source, or they don't go together.
    """
    if not sources:
        raise ConfigurationError(
            "sources must name at least one, or no credential could ever be found, got []"
        )
    for source in sources:
        if isinstance(source, str):
            raise ConfigurationError(
                'sources must be a list of sources, such as QueryParam("token"), got '
                f"{shown(source)} in it"
            )
        check_store("sources", source, "extract", "redact", what="a source", example=_EXAMPLE)
        if isinstance(source, Cookie) and allowed_origins is None:
            raise ConfigurationError(f"{_COOKIE}, got None")
    if sum(isinstance(source, FirstMessage) for source in sources) > 1:
        raise ConfigurationError(
            "sources must name one FirstMessage at most, because a socket has one first message"
        )
    if not allowed_origins and all(isinstance(source, Cookie) for source in sources):
        raise ConfigurationError(f"{_COOKIE}, got []")


_COOKIE = (
    "allowed_origins must name your pages' origins where there is a Cookie source, because a "
    "browser sends the cookie whatever page opens the socket"
)
_EXAMPLE = 'Header("authorization", scheme="Bearer")'
