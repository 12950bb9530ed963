"""What a bad option raises."""

from __future__ import annotations

__all__ = ["ConfigurationError", "shown"]


class ConfigurationError(ValueError):
    """An option can't work. Raised when a part is built; names the option and the mend."""


def shown(given: object) -> str:
    """What was given, as a message shows it: short, and on one line."""
    try:
        text = repr(given)
    except Exception:  # of somebody's own class
        text = f"a {type(given).__qualname__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
