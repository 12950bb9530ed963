"""What the observers are told of one connection."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from typing import Any, Protocol

from starlette.types import Scope

from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import FAULTS, Denied
from asgi_wsauth.events import Event, Observer, Refused, event_of, is_heard, raised, tell
from asgi_wsauth.redaction import scrubbed
from asgi_wsauth.sources.origins import origin_of

__all__ = ["Observed", "Presented", "Report"]

_TRACEBACK = "Traceback (most recent call last):\n"


class Known(Protocol):
    """What is known of a connection: an `Attempt`, or an `Authentication`."""

    @property
    def principal(self) -> Principal | None: ...
    @property
    def credential(self) -> Credential | None: ...


class Presented(Known, Protocol):
    """What is known, and what was presented, which no text may contain."""

    @property
    def presented(self) -> Sequence[str]: ...


class Observed(Protocol):
    """Who has observers: an `Authenticator`, or a `LogoutEndpoint`."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...


class Report:
    """Tells the observers of one connection, or of one refresh, and measures how long it took.

    Args:
        scope: the connection's scope.
        observed: whose observers are told.

    Attributes:
        client: the peer's address, as the server names it.
    """

    __slots__ = ("_observed", "_scope", "_started", "client")

    def __init__(self, scope: Scope, observed: Observed) -> None:
        self._scope = scope
        self._observed = observed
        self._started = time.perf_counter()
        self.client: str | None = None
        try:
            if address := scope.get("client"):
                self.client = address[0]
        except (TypeError, LookupError):  # one that no server should build
            pass

    def tell(self, kind: type[Event], known: Known, **more: Any) -> None:
        """Tell the observers of an event.

        Args:
            kind: which.
            known: who it is, and what was presented.
            more: what else events of that kind have, or what is known better.
        """
        if is_heard(self._observed.observers, kind):
            self._tell(kind, known, more)

    def _tell(self, kind: type[Event], known: Known, more: dict[str, Any]) -> None:
        principal, credential = known.principal, known.credential
        fields: dict[str, Any] = {
            "protocol": self._scope["type"],
            "client": self.client,
            "path": self._scope.get("path", ""),
            "origin": origin_of(self._scope),
            "identity": None if principal is None else principal.identity,
            "issuer": None if principal is None else principal.issuer,
            "method": None if principal is None else principal.method,
            "login_method": None if principal is None else principal.login_method,
            "fingerprint": None if credential is None else credential.fingerprint,
            "duration": time.perf_counter() - self._started,
            **more,
        }
        tell(self._observed.observers, event_of(kind, fields))

    def tell_refusal(
        self,
        denied: Denied,
        attempt: Presented,
        *,
        close_code: int | None = None,
        repeated: int = 0,
    ) -> None:
        """Tell the observers of a refusal; if something broke, what and where.

        Args:
            denied: why.
            attempt: what was refused. Its credentials are cut out of every text.
            close_code: the code that the client is sent.
            repeated: how often the same was refused before, if that was often.
        """
        if is_heard(self._observed.observers, Refused):
            more = {
                "reason": denied.reason,
                "close_code": close_code,
                "repeated": repeated,
                "detail": scrubbed(denied.detail, attempt.presented),
                **_fault(denied, attempt),
            }
            self._tell(Refused, attempt, more)


def _fault(denied: Denied, attempt: Presented) -> dict[str, Any]:
    """What broke. A function of its own, so that no frame below an observer has the exception,
    whose text may have the credential: an error tracker takes local variables."""
    broken = denied.__cause__ if denied.reason in FAULTS else None
    if broken is None:
        return {}
    error_type, error_at = raised(broken)
    if denied.may_quote:
        text = scrubbed("".join(traceback.format_exception(broken)), attempt.presented)
    else:  # of a source's own, which may quote what the source made no credential of
        text = "".join([_TRACEBACK, *traceback.format_tb(broken.__traceback__), error_type])
    return {"error_type": error_type, "error_at": error_at, "traceback": text}
