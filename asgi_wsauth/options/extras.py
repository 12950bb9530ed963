"""What a part needs that is not installed with the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asgi_wsauth.options.error import ConfigurationError

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(part: str, library: str | None, extra: str) -> Iterator[None]:
    """`with` this, a part imports what an extra installs.

    Args:
        part: what needs it, for the error.
        library: the name of the distribution, for the error; None for what can't be imported.
        extra: the extra that has it.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        yield
    except ImportError as exc:
        raise ConfigurationError(
            f"{part}: {library or exc.name} is missing; pip install 'asgi-wsauth[{extra}]'"
        ) from None
