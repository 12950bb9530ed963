"""The signature of a token, checked by PyJWT with keys that are prepared for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jwt
from jwt.types import Options

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.verifiers.keys import PreparedKey

__all__ = ["verify_signature"]

_OPTIONS: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_sub": False,
    "verify_jti": False,
}  # see claims.py for what is checked in place of it


def verify_signature(
    token: str,
    header: Mapping[str, Any],
    candidates: Iterable[PreparedKey],
    issuer: Sequence[str] | None,
) -> tuple[dict[str, Any], PreparedKey] | None:
    """The claims of a token, and the first of these keys that verifies its signature; None if none
    of them does.

    Args:
        token: the token.
        header: what its header says.
        candidates: the keys that may have signed it.
        issuer: one of these must be its `iss`; None for any.

    Raises:
        Denied: with `Reason.INVALID`, if it is bad in another way.
    """
    decode = jwt.decode if isinstance(header.get("kid", ""), str) else _ANY_KID.decode
    for candidate in candidates:
        try:
            claims = decode(
                token,
                candidate.key,
                algorithms=[candidate.key.algorithm_name],
                options=_OPTIONS,
                issuer=issuer,
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as exc:
            raise Denied(Reason.INVALID, str(exc)) from None
        except RecursionError:  # what is just not too deep for us may be too deep for PyJWT
            raise Denied(Reason.INVALID, "it is nested too deeply") from None
        return claims, candidate
    return None


class _AnyKidJWS(jwt.PyJWS):
    """PyJWT refuses a `kid` that is a number or null before it looks for a key."""

    def _validate_kid(self, kid: Any) -> None:
        pass


class _AnyKid(jwt.PyJWT):
    def __init__(self) -> None:
        super().__init__()
        self._jws = _AnyKidJWS()


_ANY_KID = _AnyKid()
