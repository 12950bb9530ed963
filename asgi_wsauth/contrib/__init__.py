"""Observers for other systems, and existing logins.

Most need an extra, and nothing else in the package imports them.
"""

from asgi_wsauth.options import ConfigurationError, check_instance
from asgi_wsauth.policies.limits import ConnectionLimit

# Seconds: from a token that is verified at once to a wait for a first message.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def check_total(part: str, limit: ConnectionLimit | None) -> int | None:
    """How many sockets a process may have, for an observer that tells that too; None without a
    limit.

    Args:
        part: the observer, for the error.
        limit: what it was given as `connection_limit`.

    Raises:
        ConfigurationError: it is no limit, or limits only what each user has.
    """
    if limit is None:
        return None
    option, example = f"{part}: connection_limit", "ConnectionLimit(total=5000)"
    if check_instance(option, limit, ConnectionLimit, example).total is None:
        raise ConfigurationError(
            f"{option} must have a total, got {limit!r}; write for example {example}"
        )
    return limit.total
