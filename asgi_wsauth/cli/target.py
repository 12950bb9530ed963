"""What is probed, and with what: `Target`, and the `Case`s to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, urlsplit

from asgi_wsauth.denial import Reason
from asgi_wsauth.options import HTTP_TOKEN, VISIBLE, ConfigurationError
from asgi_wsauth.sources import Cookie, Header, QueryParam, Subprotocol
from asgi_wsauth.sources.origins import parse_origin
from asgi_wsauth.testing import make_jwt

__all__ = ["Carrier", "Case", "Kind", "Target", "cases"]

Kind = Literal["query", "header", "cookie", "subprotocol", "first_message"]

_UNKNOWN = "wsauth-probe"  # offered if the endpoint's own subprotocols are unknown


@dataclass(frozen=True)
class Carrier:
    """Where the token travels.

    Args:
        kind: the part of the handshake, or the first message.
        name: of the parameter, header or cookie; the subprotocol before the token.

    Raises:
        ConfigurationError: the name is invalid.
    """

    kind: Kind = "query"
    name: str = "token"

    def __post_init__(self) -> None:
        if self.kind != "first_message":
            source = {"query": QueryParam, "header": Header, "cookie": Cookie}
            source.get(self.kind, Subprotocol)(self.name)

    def check(self, token: str) -> None:
        """Raises:
        ConfigurationError: the carrier can't transport the token.
        """
        fits = VISIBLE.fullmatch(token) is not None
        if self.kind == "cookie":
            fits = fits and not set(token) & set('",;\\')  # RFC 6265 section 4.1.1
        elif self.kind == "subprotocol":
            fits = HTTP_TOKEN.fullmatch(token) is not None
        if not fits:
            raise ConfigurationError(f"the token has characters that don't fit in a {self}")

    def __str__(self) -> str:
        return {
            "query": f"query parameter {self.name}",
            "subprotocol": f"subprotocol behind {self.name}",
            "first_message": "first message",
        }.get(self.kind, f"{self.kind} {self.name}")


@dataclass(frozen=True)
class Target:
    """What is probed.

    Args:
        url: its URL, `ws` or `wss`.
        carrier: where the token travels.
        origin: of the pages that use it; sent in every handshake but the foreign one.
        offered: subprotocols that its clients offer in every handshake.
        timeout: seconds that a handshake may take.
        patience: seconds after the accept within which a refused client is closed.

    Raises:
        ConfigurationError: the URL is invalid, or contains a credential.
    """

    url: str
    carrier: Carrier = Carrier()
    origin: str | None = None
    offered: tuple[str, ...] = ()
    timeout: float = 5.0
    patience: float = 1.0

    def __post_init__(self) -> None:
        if self.origin is not None and parse_origin(self.origin) is None:
            raise ConfigurationError(
                f"origin: {self.origin!r} is not an origin; write https://chat.example"
            )
        for word in self.offered:
            Subprotocol(word)
        parts = _split(self.url)
        if parts is None:
            raise ConfigurationError(
                "the URL is invalid: write it as ws://127.0.0.1:8000/ws, or wss://"
            )
        given = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if "@" in parts.netloc or (self.carrier.kind == "query" and self.carrier.name in given):
            raise ConfigurationError(
                "the URL contains a credential, which every user of this machine can read; "
                "put it into an environment variable instead, and pass --token-env"
            )

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def foreign_origin(self) -> str:
        """An origin that isn't the pages', but begins like it."""
        if self.origin is not None:
            page = urlsplit(self.origin)
        else:
            page = urlsplit(self.url.replace("ws", "http", 1))
        host = "" if ":" in (page.hostname or "") else f"{page.hostname}."
        port = f":{page.port}" if page.port else ""
        return f"{page.scheme}://{host}invalid{port}"


def _split(url: str) -> SplitResult | None:
    """The parts of an address that a socket can be opened at."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number, or too large
        return None
    fits = url.isascii() and url.isprintable() and " " not in url and not parts.fragment
    return parts if usable and fits else None


@dataclass(frozen=True)
class Case:
    """One handshake to try.

    Attributes:
        name: for machines.
        title: for people.
        tokens: the tokens to send.
        expected: why it must be refused; None if it must be admitted.
        origin: the `Origin` header, or None.
        offered: subprotocols to offer beside a token.
    """

    name: str
    title: str
    tokens: tuple[str, ...]
    expected: Reason | None
    origin: str | None
    offered: tuple[str, ...]


def cases(
    target: Target,
    *,
    token: str | None = None,
    expired: str | None = None,
    claims: Mapping[str, Any] | None = None,
) -> list[Case]:
    """All handshakes to try, the good one last, because a ticket works once.

    Args:
        target: what is probed.
        token: one that must be admitted, or None.
        expired: one that is valid except for its `exp`; None to sign one with another key.
        claims: what the endpoint requires besides `sub` and `exp`, such as `aud`.

    Raises:
        ConfigurationError: the carrier can't transport a token.
    """

    def case(name: str, title: str, reason: Reason | None, *tokens: str, **more: Any) -> Case:
        for one in tokens:
            target.carrier.check(one)
        given = {"origin": target.origin, "offered": target.offered, **more}
        return Case(name, title, tokens, reason, **given)

    claims = claims or {}
    good = [token] if token else []
    twice = 2 * (good or ["rubbish"])
    unsigned = make_jwt(None, algorithm="none", **claims)
    stranger = partial(make_jwt, token_urlsafe(32), **claims)
    made = [
        case("no_token", "no token", Reason.MISSING),
        case("rubbish", "rubbish", Reason.INVALID, "rubbish"),
        case("alg_none", "alg: none", Reason.INVALID, unsigned),
        case("forged", "badly signed", Reason.INVALID, stranger()),
        case("expired", "expired", Reason.EXPIRED, expired)
        if expired
        else case("expired", "badly signed, expired", Reason.INVALID, stranger(expires_in=-3600)),
        case(
            "foreign_origin", "foreign origin", Reason.ORIGIN, *good, origin=target.foreign_origin
        ),
        case("twice", "token given twice", Reason.MALFORMED, *twice),
        case(
            *("subprotocol", "subprotocol offered", Reason.INVALID, "rubbish"),
            offered=target.offered or (_UNKNOWN,),
        ),
        *(case("good", "good token", None, one) for one in good),
    ]
    first = target.carrier.kind == "first_message"  # a second one is for the app
    return [one for one in made if not (first and one.name == "twice")]
