"""Checks of secrets. None of them puts a secret into a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from os import PathLike

from asgi_wsauth.options.error import ConfigurationError, kind_of

__all__ = [
    "VISIBLE",
    "check_issued_secret",
    "check_key",
    "check_secret",
    "not_given",
    "one_or_more",
]

VISIBLE = re.compile(r"[\x21-\x7e]+")
"""What a credential may be made of. RFC 6750 section 2.1 allows less, an API key may want more."""

_PLACEHOLDERS = (
    "changeme changethis changeit replaceme replacethis placeholder "
    "insertyour yoursecret yourapikey yourkey yourtoken your256bit your384bit your512bit "
    "mysecret supersecret topsecret secretkey secretsecret verysecret astringsecret "
    "donttell passw0rd password 1234567 qwerty abcdefgh aaaaaaaa xxxxxxxx"
).split()
_WORD = re.compile("[A-Za-z][a-z]{4,}|[A-Z]{6,}|[0-9]{6,}")  # rare in what is random


def _make(minimum: int) -> str:
    size = max(32, minimum)
    return f"make one: python -c 'import secrets; print(secrets.token_urlsafe({size}))'"


def not_given(given: object) -> str:
    """Why this is no secret or key, and what to write; the secret itself is not in it."""
    if given is None:
        return "got None; is the environment variable behind it set?"
    kind = kind_of(given)
    if callable(getattr(given, "get_secret_value", None)):
        return f"got {kind}; write .get_secret_value()"
    if isinstance(given, PathLike):
        return f"got {kind}; write .read_text()"
    return f"got {kind}"


def check_secret(option: str, secret: object, *, minimum: int) -> bytes:
    """The secret as bytes, if it is one that can't be guessed.

    Args:
        option: its name, for the error.
        secret: the secret, bytes or a string, which is taken as UTF-8.
        minimum: its least length in bytes.

    Raises:
        ConfigurationError: it is not a string or bytes, short, a known placeholder, has hardly any
            different bytes, or is a text with space at an end. The secret itself never stands in
            the message.
    """
    if not isinstance(secret, (str, bytes)):
        raise ConfigurationError(f"{option} must be a string or bytes, {not_given(secret)}")
    try:
        raw = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:  # from os.environ, which keeps stray bytes as lone surrogates
        raise ConfigurationError(f"{option} must be a text; give other bytes as bytes") from None
    if not raw:
        raise ConfigurationError(
            f"{option} must not be empty; is the environment variable behind it set? To "
            f"{_make(minimum)}"
        )
    _check_ends(option, secret)
    if len(raw) < minimum:
        raise ConfigurationError(
            f"{option} must have at least {minimum} bytes, got {len(raw)}; {_make(minimum)}"
        )
    if len(set(raw)) < 5 or _is_placeholder(raw, minimum):
        raise ConfigurationError(f"{option} must be random, got a placeholder; {_make(minimum)}")
    return raw


def one_or_more(option: str, given: object) -> list[tuple[str, object]]:
    """One secret, or each of a list while one replaces the other, by its name for an error.

    Raises:
        ConfigurationError: it is an empty list.
    """
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        return [(option, given)]
    numbered = [(f"{option} number {number}", one) for number, one in enumerate(given, 1)]
    if not numbered:
        raise ConfigurationError(f"{option} must be a string or a list of them, got an empty list")
    return numbered


def check_issued_secret(option: str, secret: str) -> str:
    """A secret that somebody else made, who answers for it: a string, without space at its ends.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(secret, str):
        raise ConfigurationError(f"{option} must be a string, {not_given(secret)}")
    if not secret:
        raise ConfigurationError(
            f"{option} must not be empty; is the environment variable behind it set?"
        )
    _check_ends(option, secret)
    return secret


def _check_ends(option: str, secret: str | bytes) -> None:
    if _has_space_around(secret):
        raise ConfigurationError(
            f"{option} must not begin or end with a space or a newline, as what was read from a "
            "file often does; write .strip()"
        )


def _has_space_around(secret: str | bytes) -> bool:
    """Bytes that are no text may be any, at their ends too."""
    if isinstance(secret, bytes):
        if not re.fullmatch(rb"[\t\n\r\x20-\x7e]*", secret):
            return False
        secret = secret.decode()
    return secret != secret.strip()


def _is_placeholder(raw: bytes, minimum: int) -> bool:
    """Whether it lives by a word of the list: without it, it is short, or made of words."""
    text = raw.decode("latin-1")
    letters = re.sub("[^a-zA-Z0-9]", "", text).lower()
    words = [word for word in _PLACEHOLDERS if word in letters]
    if not words:
        return False
    # Whatever stands between the letters of a word.
    pattern = "|".join("[^a-zA-Z0-9]*".join(word) for word in sorted(words, key=len, reverse=True))
    rest = re.sub(f"(?i){pattern}", lambda word: re.sub("[a-zA-Z0-9]", "", word[0]), text)
    mixed = _WORD.sub("", re.sub("[^a-zA-Z0-9]", "", rest))
    return len(rest) < minimum or len(mixed) < 11 or len(set(mixed)) < 8


def check_key(option: str, key: object) -> bytes:
    """A secret that a client presents as it is, as bytes: at least 16 of visible ASCII.

    Raises:
        ConfigurationError: as `check_secret`, or nobody could ever present it.
    """
    raw = check_secret(option, key, minimum=16)
    if not VISIBLE.fullmatch(raw.decode("latin-1")):
        raise ConfigurationError(f"{option} must be visible ASCII characters, without spaces")
    return raw
