"""The compact form of a JWT: what is one, and what stands in it."""

from __future__ import annotations

import base64
import json
from secrets import token_hex
from typing import Any

import pytest
from cases import cases
from handshakes import SECRET, mint

from asgi_wsauth.verifiers import compact
from asgi_wsauth.verifiers.compact import json_object, read_compact
from asgi_wsauth.verifiers.static_keys import StaticKeys, check_algorithms


def segment(said: Any) -> str:
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


HEADER, CLAIMS, SIGNATURE = segment({"alg": "x"}), segment({"sub": "alice"}), "-_-_"
NO_OBJECT = "its payload is no JSON object"
NO_BASE64URL = "its signature is not base64url"


def test_what_stands_in_a_token() -> None:
    token = read_compact(f"{HEADER}.{CLAIMS}.{SIGNATURE}")
    assert token is not None
    assert token.header == {"alg": "x"}
    assert token.claims == {"sub": "alice"}
    assert token.signed == f"{HEADER}.{CLAIMS}".encode()
    assert token.signature == b"\xfb\xff\xbf"
    assert token.fault is None


def test_a_token_may_have_no_signature_which_no_key_has_made() -> None:
    token = read_compact(f"{HEADER}.{CLAIMS}.")
    assert token is not None
    assert (token.signed, token.signature) == (f"{HEADER}.{CLAIMS}".encode(), b"")
    assert token.fault is None


@cases(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        HEADER,
        f"{HEADER}.{CLAIMS}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}.",
        f".{HEADER}.{CLAIMS}.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}.{SIGNATURE}",
        f".{CLAIMS}.{SIGNATURE}",
        f"{HEADER}=.{CLAIMS}.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}=.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}=",
        f"{HEADER}.{CLAIMS}.{SIGNATURE}\n",
        f"{HEADER}.{CLAIMS}.+/+/",
        f"{HEADER}.{CLAIMS} .{SIGNATURE}",
        f"{HEADER}.é.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.\ud800",
        f"{segment([])}.{CLAIMS}.{SIGNATURE}",
        f"{segment(b'nothing')}.{CLAIMS}.{SIGNATURE}",
        f"{segment(b'{}')[:-1]}1.{CLAIMS}.{SIGNATURE}",  # with bits that stand for nothing
    ],
)
def test_what_is_no_token(text: str) -> None:
    assert read_compact(text) is None


@cases(
    ("payload", "signature", "fault"),
    [
        ("", SIGNATURE, NO_OBJECT),
        (segment([]), SIGNATURE, NO_OBJECT),
        (segment(None), SIGNATURE, NO_OBJECT),
        (segment(b'{"a":1'), SIGNATURE, NO_OBJECT),
        (CLAIMS[:-1] + "R", SIGNATURE, NO_OBJECT),
        ("A", SIGNATURE, NO_OBJECT),
        (CLAIMS, "A", NO_BASE64URL),
        (CLAIMS, "AB", NO_BASE64URL),
        (CLAIMS, "AAB", NO_BASE64URL),
        ("A", "A", NO_OBJECT),
    ],
)
def test_what_is_wrong_with_a_token_whoever_signed_it(
    payload: str, signature: str, fault: str
) -> None:
    token = read_compact(f"{HEADER}.{payload}.{signature}")
    assert token is not None
    assert token.fault == fault
    assert token.claims == ({} if fault == NO_OBJECT else {"sub": "alice"})
    assert token.signature == (b"" if signature != SIGNATURE else b"\xfb\xff\xbf")


@cases(
    ("members", "fault"),
    [
        ({}, None),
        ({"b64": True}, None),
        ({"b64": False}, "its header has b64, and a payload is base64url here"),
        ({"b64": None}, "its header has b64, and a payload is base64url here"),
        ({"b64": 1}, "its header has b64, and a payload is base64url here"),
        ({"crit": []}, "its header has crit, and no extension is known here"),
        ({"crit": None}, "its header has crit, and no extension is known here"),
        (
            {"crit": ["b64"], "b64": False},
            "its header has crit, and no extension is known here",
        ),
    ],
)
def test_what_nobody_here_understands(members: dict[str, Any], fault: str | None) -> None:
    token = read_compact(f"{segment({'alg': 'x', **members})}.{CLAIMS}.{SIGNATURE}")
    assert token is not None
    assert token.fault == fault


@cases(
    ("raw", "said"),
    [
        (b"{}", {}),
        (b' {"a" :\r\n\t1 } ', {"a": 1}),
        ('{"é": "€"}'.encode(), {"é": "€"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1e400}', {"a": float("inf")}),
        (b"", None),
        (b"[]", None),
        (b"null", None),
        (b'"{}"', None),
        (b"{} {}", None),
        (b"{}\0", None),
        (b"\x0b{}", None),  # Python's space, and not JSON's
        ("{}\u2003".encode(), None),
        (b"X{}", None),
        (b"{'a': 1}", None),
        (b'{"a": "\n"}', None),
        (b'{"a": "\xff"}', None),
        (b'{"a": "\xed\xa0\x80"}', None),  # half a surrogate pair
        (b"\xef\xbb\xbf{}", None),  # a byte order mark
        ("{}".encode("utf-16"), None),
        ("{}".encode("utf-16-le"), None),
        ("{}".encode("utf-32-be"), None),
        (b'{"a": %s}' % (b"9" * 5000), None),  # longer than Python's integers may be
        (b'{"a": %s' % (b"[" * 100_000), None),
        (b'{"a": %s%s}' % (b"[" * 100_000, b"]" * 100_000), None),
    ],
)
def test_a_segment_is_one_json_object_in_utf_8(raw: bytes, said: Any) -> None:
    assert json_object(segment(raw)) == said


def test_a_header_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all of an issuer's tokens have the same."""
    read: list[str] = []
    monkeypatch.setattr(compact, "json_object", lambda said: read.append(said) or json_object(said))
    header = segment({"alg": token_hex(8)})
    for _ in range(3):
        assert read_compact(f"{header}.{CLAIMS}.{SIGNATURE}") is not None
    assert read.count(header) == 1


@pytest.mark.anyio
async def test_a_key_verifies_with_its_own_algorithm_only() -> None:
    keys = await StaticKeys(SECRET, check_algorithms(["HS256"])).keys()
    (key,) = keys.candidates(["HS256"], None)
    token = read_compact(mint())
    assert token is not None
    assert key.verifies(token)
    for header in ({"alg": "HS384"}, {"alg": "none"}, {"alg": ["HS256"]}, {}):
        assert not key.verifies(token._replace(header=header))
    assert not key.verifies(token._replace(signature=b""))
    assert not key.verifies(token._replace(signed=token.signed + b"."))
