"""Known credentials cut out of a text, however they were written down."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

__all__ = ["HIDDEN", "scrubbed"]

HIDDEN = "[redacted]"

_NEVER_QUOTED = re.compile(r"[\w.~-]*", re.ASCII)  # RFC 3986 section 2.3
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_DEEPEST = 4  # an address in an address in an address, and one more


def scrubbed(text: str, values: Iterable[str]) -> str:
    """`text` without `values`: as they are, as in a `repr`, and percent-escaped, whichever of their
    characters and however often."""
    forms = {form for value in values for form in _forms(value) if form}
    longest_first = sorted(forms, key=len)[::-1]
    # The marks come last, so that no part of one is taken for a credential. It takes no regular
    # expression: to compile one of a long credential takes longer than all the rest.
    parts = [text]
    for form in longest_first:
        parts = [piece for part in parts for piece in part.split(form)]
    if "%" in text:
        for form in longest_first:
            parts = [piece for part in parts for piece in _split_escaped(part, form)]
    return HIDDEN.join(parts)


def _forms(value: str) -> tuple[str, ...]:
    """How it may be written down. In a message, it may have half a surrogate pair."""
    if _NEVER_QUOTED.fullmatch(value):
        return (value,)
    quoted = (quoted(value, errors="replace") for quoted in (quote, quote_plus))
    return value, repr(value)[1:-1], *quoted


def _split_escaped(text: str, value: str) -> list[str]:
    """`text.split(value)`, where any of its characters may be escaped in `text`, up to so many
    times over."""
    decoded, starts = text, list(range(len(text) + 1))
    for _ in range(_DEEPEST):
        decoded, starts = _decoded(decoded, starts)
        if value in decoded:
            pieces, start, place = [], 0, 0
            for piece in decoded.split(value)[:-1]:
                place += len(piece)
                pieces.append(text[start : starts[place]])
                place += len(value)
                start = starts[place]
            return [
                part for piece in (*pieces, text[start:]) for part in _split_escaped(piece, value)
            ]
    return [text]


def _decoded(text: str, starts: list[int]) -> tuple[str, list[int]]:
    """The text, percent-decoded once, and where each of its characters began: `starts` says that of
    the text as it is, and of its end."""
    pieces, begun, end = [], [], 0
    for escape in _ESCAPE.finditer(text):
        pieces += [text[end : escape.start()], chr(int(escape[1], 16))]
        begun += starts[end : escape.start() + 1]
        end = escape.end()
    return "".join([*pieces, text[end:]]), begun + starts[end:]
