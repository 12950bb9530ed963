"""One live socket: what is known of it, for the app and for a middleware further in."""

from __future__ import annotations

from asgi_wsauth.authenticator import Attempt, Authentication, Authenticator

__all__ = ["Session"]


class Session:
    """What the app finds as `scope["wsauth"]`.

    Attributes:
        principal: whom the credential vouches for.
        authenticated_at: Unix time in seconds of the decision.
        client: the peer's address, or None where the server knows none.
        method: how it was proved, for example `jwt`; `none` while authentication is off.
        fingerprint: the first 16 hex digits of the credential's SHA-256; None without a credential.
        expires_at: Unix time in seconds from which the credential is no longer accepted, or None.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        attempt: Attempt,
        authentication: Authentication,
        *,
        client: str | None,
    ) -> None:
        principal, _, credential = authentication
        self.principal = principal
        self.authenticated_at = authenticator.clock()
        self.client = client
        self.method = principal.method
        self.fingerprint = None if credential is None else credential.fingerprint
        self.expires_at = principal.expires_at
        # For an instance further in. Neither says a credential in its repr.
        self._authenticator = authenticator
        self._attempt = attempt

    def __repr__(self) -> str:
        return f"<Session of {self.principal!r}>"
