"""The compact form of a signed JWT (RFC 7515 section 7.1), read once, and strictly.

`jwt.decode` would read all of it anew for each key that may have signed it. Here it is read before
any key is looked for; what is cryptography is PyJWT's, see keys.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from asgi_wsauth.credential import decode_base64url

__all__ = ["CompactJWT", "json_object", "looks_like_jwt", "media_type", "read_compact"]

_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")

_LIKE_ONE = re.compile(r"e[w-z][A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")  # e[w-z]: a "{"

_NO_OBJECT = "its payload is no JSON object"


class CompactJWT(NamedTuple):
    """What stands in a token. Nothing of it is proved yet.

    Attributes:
        header: what it says of itself.
        claims: what its payload says; nothing where that can't be read.
        signed: what the signature is of.
        signature: the signature.
        kind: the `typ` of its header, see `media_type`.
        fault: why it is bad, whoever may have signed it; None where it is not.
    """

    header: Mapping[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes
    kind: str
    fault: str | None


def read_compact(text: str) -> CompactJWT | None:
    """What stands in a token. None where it is none: it isn't three segments in the alphabet of
    base64url, or its header is no JSON object.

    Args:
        text: the token.
    """
    signed, _, last = text.rpartition(".")
    first, _, second = signed.partition(".")
    known = _header(first)
    if known is None:
        return None
    header, kind, fault = known
    claims, signature = json_object(second), _bytes(last)
    if claims is None or signature is None:
        if not _SHAPE.fullmatch(text):
            return None
        fault = "its signature is not base64url" if claims is not None else _NO_OBJECT
    return CompactJWT(header, claims or {}, signed.encode(), signature or b"", kind, fault)


@lru_cache(maxsize=64)  # an issuer's tokens nearly all have the same
def _header(segment: str) -> tuple[Mapping[str, Any], str, str | None] | None:
    header = json_object(segment)
    return None if header is None else (header, media_type(header.get("typ")), _fault(header))


def _fault(header: Mapping[str, Any]) -> str | None:
    """What a header asks for that nobody here understands (RFC 7515 section 4.1.11, RFC 7797)."""
    if "crit" in header:
        return "its header has crit, and no extension is known here"
    if header.get("b64", True) is not True:
        return "its header has b64, and a payload is base64url here"
    return None


def media_type(typ: object) -> str:
    """A header's `typ` without the prefix that may be left out (RFC 7515 section 4.1.9); "" if it
    is none."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def looks_like_jwt(text: str) -> bool:
    """Whether a credential has the shape of a JWT, good or bad."""
    return _LIKE_ONE.fullmatch(text) is not None


def json_object(segment: str) -> dict[str, Any] | None:
    """What a segment of a token says (RFC 7519 section 7.2); None where that is no JSON object in
    UTF-8, or is nested deeper than can be read."""
    try:
        text = decode_base64url(segment).decode().strip(" \t\r\n")
        value, end = _decode_json(text)
    except (ValueError, RecursionError):
        return None
    return value if end == len(text) and isinstance(value, dict) else None


_decode_json = json.JSONDecoder().raw_decode


def _bytes(segment: str) -> bytes | None:
    try:
        return decode_base64url(segment)
    except ValueError:
        return None
