import json
import os
import re
import time

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from starlette.requests import HTTPConnection
from starlette.types import Scope

from asgi_wsauth import Authenticator, Cookie, Credential, Denied, Principal, Reason

COOKIE = "__Secure-authjs.session-token"  # without the prefix where the site is on http
INFO = f"Auth.js Generated Encryption Key ({COOKIE})"

derived = HKDF(SHA256(), 64, COOKIE.encode(), INFO.encode())
key = OctKey.import_key(derived.derive(os.environ["AUTH_SECRET"].encode()))


class CookieInPieces(Cookie):
    """A cookie that comes as `name.0`, `name.1` and so on, where it is too long for one."""

    def __init__(self, name: str, most: int = 5) -> None:
        super().__init__(name)
        self.pieces = [Cookie(f"{name}.{number}") for number in range(most)]

    def extract(self, conn: HTTPConnection, /) -> str | None:
        pieces = "".join(piece.extract(conn) or "" for piece in self.pieces)
        return super().extract(conn) or pieces or None

    def redact(self, scope: Scope, /) -> None:
        super().redact(scope)
        for piece in self.pieces:
            piece.redact(scope)

    def log_patterns(self) -> list[str]:
        return [rf"({re.escape(self.name)}\.\d=)[^;\s]+"]


async def auth_js(credential: Credential, conn: HTTPConnection) -> Principal | None:
    if credential.value.count(".") != 4:
        return None
    try:
        plain = jwe.decrypt_compact(credential.value, key, algorithms=["dir", "A256CBC-HS512"])
        claims = json.loads(plain.plaintext or b"")
        identity, expires_at = claims["sub"], claims["exp"]
    except (JoseError, ValueError, KeyError, TypeError):
        raise Denied(Reason.INVALID, "it can't be decrypted, or is no login") from None
    if not isinstance(identity, str) or not identity or type(expires_at) is not int:
        raise Denied(Reason.INVALID, "its sub or its exp is of the wrong kind")
    if expires_at <= time.time():
        raise Denied(Reason.EXPIRED)
    return Principal(identity, claims=claims, expires_at=expires_at, method="auth_js")


auth = Authenticator(
    [auth_js],
    sources=[CookieInPieces(COOKIE)],
    allowed_origins=["https://chat.acme.example"],
    max_token_size=16_384,
)
