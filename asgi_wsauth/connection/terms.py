"""What a middleware has fixed for all of its connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from asgi_wsauth.connection.refresh_messages import RefreshMessages
from asgi_wsauth.connection.rejection import Rejections
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Reason, SaidNothing
from asgi_wsauth.sources import Source

__all__ = ["EndTerms", "Terms"]


@dataclass(frozen=True, kw_only=True)
class EndTerms:
    """What ends a connection that an app runs on, be it a socket or a stream.

    Attributes:
        clock: gives Unix time in seconds.
        grace: seconds that an app has after the end.
        enforce_expiry: whether the end of a credential is the end of its connection.
        max_age: seconds that it may last without a new credential, or None.
    """

    clock: Callable[[], float]
    grace: float
    enforce_expiry: bool
    max_age: float | None = None

    def has_end_for(self, principal: Principal, *, is_anonymous: bool) -> bool:
        """Whether a connection of this principal has an end, as far as time goes."""
        if self.max_age is not None and not is_anonymous:
            return True
        return self.enforce_expiry and principal.expires_at is not None


@dataclass(frozen=True, kw_only=True)
class Terms(EndTerms):
    """What holds for each socket of a middleware.

    Attributes:
        close_codes: the code for each reason.
        refresh: the messages with which clients renew their credentials, or None.
        rejections: how a handshake is refused that the app has not answered.
        sources: where a credential may have stood in it.
    """

    close_codes: Mapping[Reason | type[SaidNothing], int]
    refresh: RefreshMessages | None
    rejections: Rejections
    sources: Sequence[Source]
