"""One connection on its way through the decision, be it a WebSocket handshake or an HTTP request.

What the middlewares share: taking the credential out of the server's scope, reusing what an
instance further out decided, building the app's scope, telling the observers. What a client is
sent is each middleware's own.
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.types import Message, Scope, Send

from asgi_wsauth.authenticator import Attempt, Authenticator
from asgi_wsauth.credential import Credential
from asgi_wsauth.denial import ConfigurationError, Denied, HTTPAnswer, InsufficientScope, Reason
from asgi_wsauth.events import Event, Refused, logger
from asgi_wsauth.session import Session

__all__ = ["Admission", "check_authenticator", "http_answer", "try_send"]


class Admission:
    """One connection, and what is known of it so far.

    Args:
        scope: the server's own dict. The credential is taken out of it in place.
        authenticator: who decides.
        required_scopes: what the principal must have, all of it.

    Attributes:
        attempt: what the sources found, once they were asked.
        offer_redacted: whether a credential was taken out of the offered subprotocols.
    """

    def __init__(
        self, scope: Scope, authenticator: Authenticator, required_scopes: Iterable[str] = ()
    ) -> None:
        self.scope = scope
        self.authenticator = authenticator
        self.required_scopes = frozenset(required_scopes)
        self.attempt = Attempt([])
        self.offer_redacted = False
        self._started = time.perf_counter()

    @property
    def client(self) -> str | None:
        """The peer's address."""
        address = self.scope.get("client")
        return address[0] if address else None

    def take_credential(self) -> None:
        """Ask every source, and remove what it found from the server's own dict.

        That must come before anything is sent: uvicorn logs from its dict when it answers. It is
        the one exception to ASGI's rule of changing only copies.

        Raises:
            Denied: with `Reason.ERROR`, where a source broke.
        """
        try:
            self.attempt = self.authenticator.collect(HTTPConnection(self.scope))
        except Exception as exc:  # a scope that no server should build
            raise Denied.because("the scope", exc) from exc
        offered = self.scope.get("subprotocols")
        self.authenticator.redact(self.scope)
        self.offer_redacted = self.scope.get("subprotocols") != offered

    async def admit(self, on_wait: Callable[[Callable[[], None]], None] | None = None) -> Scope:
        """The scope for the app: the one that came in, where an instance further out has made it.

        Args:
            on_wait: see `Authenticator.authenticate`.

        Raises:
            Denied: the client is refused.
        """
        try:
            return await self._admit(on_wait)
        except Denied:
            raise
        except Exception as exc:  # a scope that no server should build, or a clock that fails
            raise Denied.because("the handshake", exc) from exc

    async def _admit(self, on_wait: Callable[[Callable[[], None]], None] | None) -> Scope:
        scope = self.scope
        outer = scope.get("wsauth")
        if not isinstance(outer, Session):
            outer = None
        if outer is not None and outer._authenticator is self.authenticator:
            self.attempt = outer._attempt
            self._check_scopes(outer.principal.scopes)
            return scope
        self.take_credential()
        if outer is not None and not self.attempt.findings:
            self.attempt = Attempt(outer._attempt.findings)
        authentication = await self.authenticator.authenticate(
            HTTPConnection(scope), attempt=self.attempt, on_wait=on_wait
        )
        principal, user, _ = authentication
        self._check_scopes(principal.scopes)
        return {
            **scope,
            "user": user,
            "auth": AuthCredentials(["authenticated", *principal.scopes]),
            "wsauth": Session(self.authenticator, self.attempt, authentication, client=self.client),
        }

    def _check_scopes(self, scopes: Iterable[str]) -> None:
        if not self.required_scopes.issubset(scopes):
            raise InsufficientScope(sorted(self.required_scopes))

    def tell(self, kind: type[Event], **more: Any) -> None:
        """Tell the observers of an event, with what is known by now."""
        credential, principal = self.attempt.credential, self.attempt.principal
        event = kind(
            protocol=self.scope["type"],
            client=self.client,
            path=self.scope.get("path", ""),
            origin=_origin(self.scope),
            identity=None if principal is None else principal.identity,
            method=None if principal is None else principal.method,
            fingerprint=None if credential is None else credential.fingerprint,
            duration=time.perf_counter() - self._started,
            **more,
        )
        self.authenticator.emit(event)

    def tell_refusal(self, denied: Denied, *, close_code: int | None = None) -> None:
        """Tell the observers of a refusal; where something broke, with its traceback."""
        broken = denied.__cause__ if denied.reason in (Reason.ERROR, Reason.UNAVAILABLE) else None
        text = "" if broken is None else "".join(traceback.format_exception(broken))
        self.tell(
            Refused,
            reason=denied.reason,
            close_code=close_code,
            detail=self._scrub(denied.detail),
            traceback=self._scrub(text) or None,
        )

    def _scrub(self, text: str) -> str:
        """`text` without the credential, however it was written down."""
        values = [
            found.value for _, found in self.attempt.findings if isinstance(found, Credential)
        ]
        forms = {f for v in values for f in (v, quote(v), quote_plus(v), repr(v)[1:-1])}
        if not forms:
            return text
        # All in one pass, so that no part of a mark is taken for a credential.
        return re.sub("|".join(map(re.escape, sorted(forms, key=len)[::-1])), "[redacted]", text)


def _origin(scope: Scope) -> str | None:
    try:
        found: bytes = next(v for k, v in scope.get("headers") or () if k == b"origin")
        return str(found, "latin-1")
    except (StopIteration, TypeError, ValueError):  # none, or headers that no server should build
        return None


def check_authenticator(authenticator: object) -> Authenticator:
    """The authenticator, if it is one.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(authenticator, Authenticator):
        raise ConfigurationError(f"authenticator: {authenticator!r} is no Authenticator")
    return authenticator


def http_answer(answer: HTTPAnswer, prefix: str = "http.response") -> tuple[Message, Message]:
    """The messages that send an HTTP answer."""
    status, headers, body = answer
    return (
        {"type": f"{prefix}.start", "status": status, "headers": headers},
        {"type": f"{prefix}.body", "body": body},
    )


async def try_send(send: Send, *messages: Message) -> Exception | None:
    """Send an answer; what the server raises is returned. A client that is gone by now is nobody's
    error."""
    try:
        for message in messages:
            await send(message)
    except Exception as exc:
        logger.debug("the client could not be told: %s", type(exc).__qualname__)
        return exc
    return None
