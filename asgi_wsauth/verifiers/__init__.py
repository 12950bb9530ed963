"""The kinds of credential. One file each; none of them knows another, a close code or a socket.

Only jwks.py is no kind of its own: it has keys for jwt.py.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal

__all__ = ["Verifier"]


class Verifier(Protocol):
    """Vouches for a credential. Any async function with these two arguments is one."""

    def __call__(
        self, credential: Credential, conn: HTTPConnection, /
    ) -> Awaitable[Principal | None]:
        """The principal; or None if the credential is not for this verifier to judge.

        Raises:
            Denied: the credential is for this verifier, and refused. The chain stops.
        """
        ...
