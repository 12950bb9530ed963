"""A user who was logged in by a proxy in front: oauth2-proxy, Authelia, nginx's `auth_request`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from hmac import compare_digest, digest
from urllib.parse import quote_from_bytes, unquote

from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth.credential import INTERNAL, Credential, Principal
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.events import logger
from asgi_wsauth.options import ConfigurationError, check_clock, check_key, one_or_more
from asgi_wsauth.sources.source import check_token, edit_header

__all__ = ["ProxyHeader", "check_proxies"]


class ProxyHeader:
    """Takes the user's name from a header that a proxy sets, if the proxy proves itself.

    It is a source and a verifier in one, and stands in both lists:

        proxy = ProxyHeader("x-forwarded-user", secret=os.environ["PROXY_SECRET"])
        auth = Authenticator([proxy], sources=[proxy], allowed_origins=["https://chat.example"])

    Anybody who can reach the app directly can send a user's name, and the peer's address is often
    the end user's own by then, so only the secret proves that it was the proxy. The proxy must set
    both headers itself, in place of what a client sent. Set `allowed_origins` too: most proxies
    know their users by a cookie, which a browser sends whatever page opens the socket.

    A name without the secret, or with a wrong one, is INVALID. A header that is there twice, or has
    a comma in it, as servers and proxies join two of them, is MALFORMED. The secret without a name
    is no credential. Both headers are removed from the scope, and `RedactCredentials` removes them
    from the log.

    Its principal's `method` is `proxy`. The proxy vouches anew for each connection, so `issued_at`
    is that moment: `Revocations.revoke_user` closes the user's open sockets, and the proxy decides
    who may open new ones.

    Args:
        header: the header with the user's name, in UTF-8; for example `x-forwarded-user`,
            `remote-user` or `tailscale-user-login`.
        secret_header: the header with the secret.
        secret: what the proxy sends in it, at least 16 bytes of visible ASCII without a comma; or a
            list of such secrets, for rotation.
        clock: a function that returns Unix time in seconds, for tests.

    Raises:
        ConfigurationError: a name isn't a header's, both are the same, or a secret can be guessed.
    """

    def __init__(
        self,
        header: str,
        *,
        secret_header: str = "x-proxy-secret",
        secret: str | Iterable[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.header = _header("header", header, "x-forwarded-user")
        self.secret_header = _header("secret_header", secret_header, "x-proxy-secret")
        if self.header == self.secret_header:
            raise ConfigurationError(
                f"ProxyHeader: secret_header must be another header than the user's, got "
                f"{secret_header!r} for both"
            )
        self._secrets = _secrets(secret)
        self._key = sha256(b"asgi-wsauth proxy header:" + self._secrets[0]).digest()
        self._clock = check_clock("ProxyHeader: clock", clock)

    # The source

    def extract(self, conn: HTTPConnection, /) -> str | None:
        user, secret = self._value(conn, self.header), self._value(conn, self.secret_header)
        if user is None and secret is None:
            return None
        if secret is None:
            raise Denied(Reason.INVALID, f"{self} without {self.secret_header}")
        known = False
        for expected in self._secrets:  # all of them, so that time tells nothing
            known |= compare_digest(secret, expected)
        if not known:
            raise Denied(Reason.INVALID, f"{self} with a wrong {self.secret_header}")
        return None if user is None else self._seal(quote_from_bytes(user, safe=""))

    def redact(self, scope: Scope, /) -> None:
        for name in (self.header, self.secret_header):
            edit_header(scope, name.encode(), lambda value: None)

    def _value(self, conn: HTTPConnection, name: str) -> bytes | None:
        """The value of a header; None if there is none, or an empty one."""
        values = conn.headers.getlist(name)
        if len(values) > 1 or (values and "," in values[0]):
            raise Denied(
                Reason.MALFORMED, f"{self}: {name} given more than once, or with a comma in it"
            )
        return values[0].strip(" \t").encode("latin-1") or None if values else None

    def _seal(self, user: str) -> str:
        """The credential: the name, and what nobody can make without the secret. The secret itself
        is not in it, because other verifiers may be asked about it first."""
        return f"{INTERNAL}{digest(self._key, user.encode(), 'sha256').hex()}.{user}"

    # The verifier

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        if credential.source != repr(self):  # what a client sends was leaked
            return None
        user = credential.value.partition(".")[2]
        if not compare_digest(credential.value.encode(), self._seal(user).encode()):
            return None
        try:
            identity = unquote(user, errors="strict")
        except UnicodeDecodeError:
            raise Denied(Reason.MALFORMED, f"{self}: it is not UTF-8") from None
        if not identity.isprintable():
            raise Denied(Reason.MALFORMED, f"{self}: it has characters that no name has")
        return Principal(identity, issued_at=self._clock(), method="proxy")

    def __repr__(self) -> str:
        return f"proxy header {self.header}"


def check_proxies(
    verifiers: Sequence[object], sources: Sequence[object], allowed_origins: object
) -> None:
    """Check that each `ProxyHeader` is among the verifiers and among the sources.

    Raises:
        ConfigurationError: it is missing from one of them, and could never admit anybody.
    """
    for here, parts, there, others in (
        ("verifiers", verifiers, "sources", sources),
        ("sources", sources, "verifiers", verifiers),
    ):
        for part in parts:
            if isinstance(part, ProxyHeader) and not any(part is other for other in others):
                raise ConfigurationError(
                    f"{there} must have the ProxyHeader that is among the {here}, too: it is both; "
                    "write proxy = ProxyHeader(...), and proxy in both lists"
                )
    if allowed_origins is None and any(isinstance(source, ProxyHeader) for source in sources):
        logger.warning(
            "a ProxyHeader without allowed_origins: a proxy that knows its users by a cookie lets "
            "any site's page open a socket in its visitor's name; list the origins of your pages, "
            "or write allowed_origins=[] where only programs connect"
        )


def _header(option: str, given: str, example: str) -> str:
    name = check_token(f"ProxyHeader: {option}", given, example).lower()
    if name == "cookie":
        raise ConfigurationError(
            f"ProxyHeader: {option} must be a header that the proxy sets, for example "
            f'"{example}", got {given!r}, which browsers send'
        )
    return name


def _secrets(secret: str | Iterable[str]) -> list[bytes]:
    option = "ProxyHeader: secret"
    secrets = []
    for name, one in one_or_more(option, secret):
        key = check_key(name, one)
        if b"," in key:
            raise ConfigurationError(
                f"{name} must have no comma in it, because servers join repeated headers with one"
            )
        secrets.append(key)
    return secrets
