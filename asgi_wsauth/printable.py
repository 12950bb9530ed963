"""Text as a log or a terminal can show it: nothing that a stranger sent moves the cursor or hides
anything."""

from __future__ import annotations

__all__ = ["LONGEST", "escaped", "printable"]

LONGEST = 200
"""Characters of one field in a log line."""


def printable(value: object) -> object:
    """A string as it is logged: escaped and truncated. Other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    return escaped(value if len(value) <= LONGEST else value[:LONGEST] + "…")


def escaped(text: str) -> str:
    """The text with every character escaped that could move the cursor or hide text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
