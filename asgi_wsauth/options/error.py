"""What a bad option raises."""

from __future__ import annotations

__all__ = ["ConfigurationError", "kind_of", "shown"]


class ConfigurationError(ValueError):
    """An option can't work. It is raised when a part is built; the message names the option, says
    what it must be, and what it got.
    """


def shown(given: object) -> str:
    """What was given, as a message shows it: short, and on one line."""
    try:
        text = repr(given)
    except Exception:  # of somebody's own class
        text = kind_of(given)
    return text if len(text) <= 80 else f"{text[:77]}..."


def kind_of(given: object) -> str:
    """What kind of thing was given, where a message must not show it: "an int", "a str"."""
    if given is None:
        return "None"
    name = type(given).__qualname__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"
