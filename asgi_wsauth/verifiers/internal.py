"""One credential for the server's own processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hmac import compare_digest
from typing import Any

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import INTERNAL, Credential, Principal, new_secret
from asgi_wsauth.options import ConfigurationError, check_key, check_scopes, check_text, not_given

__all__ = ["InternalCredential"]


_NEW: Any = object()


class InternalCredential:
    """One value for the life of the process, used as often as needed: for a worker that a server
    starts and that connects back to it. Its principal is `server-internal`.

    Args:
        value: the credential, at least 16 bytes. Without it, a new one is made: `wsi_` and 32
            random bytes. None is an error, because a variable that isn't set may be None.
        scopes: a list of scopes that its principal has, if a machine must pass `required_scopes`.

    Attributes:
        value: the credential, to hand to whoever may connect.

    Raises:
        ConfigurationError: the value can be guessed.
    """

    def __init__(self, value: str = _NEW, *, scopes: Iterable[str] = ()) -> None:
        self.value = new_secret(INTERNAL) if value is _NEW else value
        if not isinstance(self.value, str):
            raise ConfigurationError(
                f"InternalCredential: value must be a string, {not_given(self.value)}; leave it "
                "out for a new one"
            )
        self._expected = check_key("InternalCredential: value", self.value)
        self._scopes = check_scopes("InternalCredential: scopes", scopes)

    @classmethod
    def from_env(cls, name: str, *, scopes: Iterable[str] = ()) -> InternalCredential:
        """The value of an environment variable, for several processes that share it.

        Args:
            name: the variable's name.
            scopes: a list of scopes, as in `InternalCredential`.

        Raises:
            ConfigurationError: the variable is not set, or its value can be guessed.
        """
        check_text("InternalCredential.from_env: name", name, "WORKER_SECRET")
        value = os.environ.get(name, "")
        if not value:
            raise ConfigurationError(
                f"InternalCredential.from_env: {name} is not set; put the same secret into it for "
                "every process that shares the credential"
            )
        return cls(value, scopes=scopes)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        if not compare_digest(credential.value.encode(), self._expected):
            return None
        return Principal("server-internal", scopes=self._scopes, method="internal")

    def __repr__(self) -> str:
        return "<InternalCredential>"
