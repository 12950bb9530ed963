"""What the endpoints for who is logged in have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import anyio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission, check_authenticator
from asgi_wsauth.connection.answers import http_answer
from asgi_wsauth.connection.closing import try_send
from asgi_wsauth.denial import Denied, HTTPAnswer, Reason, http_refusal, json_answer
from asgi_wsauth.endpoints.bodies import Unreadable

__all__ = ["AdmittingEndpoint"]


class AdmittingEndpoint(ABC):
    """An ASGI app that answers who is logged in. It decides by itself, or reuses the decision of an
    `HTTPAuthMiddleware` around it that has the same authenticator. Whatever happens, it raises
    nothing.

    Args:
        authenticator: who decides.

    Attributes:
        methods: those of HTTP that it answers.
        purpose: what one asks it for, for the log.

    Raises:
        ConfigurationError: the authenticator is none.
    """

    methods: ClassVar[tuple[str, ...]]
    purpose: ClassVar[str]

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = check_authenticator(authenticator)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            admission = Admission(scope, self.authenticator)
            try:
                admission.take_credential()
                raise Denied(Reason.MALFORMED, f"a socket can't ask for {self.purpose}")
            except Denied as denied:
                code = denied.reason.close_code
                admission.tell_refusal(denied, close_code=code)
                await try_send(send, {"type": "websocket.close", "code": code})

    @abstractmethod
    async def answer(self, admission: Admission, request: Request) -> HTTPAnswer:
        """What who was admitted is answered.

        Args:
            admission: with the login.
            request: with a method that is one of `methods`, and a body that wasn't read.

        Raises:
            Denied: the request is refused; with `Unreadable`, by its own status.
        """

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        admission = Admission(scope, self.authenticator)
        try:
            answer = await self._decide(admission, receive)
        except Denied as denied:
            answer = self._refusal(admission, denied)
        except Exception as exc:  # claims that no JSON can hold, for example
            answer = self._refusal(admission, Denied.because(self.purpose, exc))
        await try_send(send, *http_answer(answer))

    async def _decide(self, admission: Admission, receive: Receive) -> HTTPAnswer:
        if admission.scope.get("method") not in self.methods:
            admission.take_credential()
            raise Unreadable(405, f"the method must be {' or '.join(self.methods)}")
        await admission.admit()
        timeout = self.authenticator.timeout
        with anyio.move_on_after(timeout):
            return await self.answer(admission, Request(admission.scope, receive))
        raise Denied(Reason.UNAVAILABLE, f"no answer within {timeout:g} s: {self.purpose}")

    def _refusal(self, admission: Admission, denied: Denied) -> HTTPAnswer:
        admission.tell_refusal(denied)
        status, headers, body = http_refusal(denied)
        if isinstance(denied, Unreadable):
            status = denied.status
            if denied.told:  # as RFC 6749 section 5.2 has it
                error = {"error": "invalid_request", "error_description": denied.detail}
                return json_answer(status, error)
        if status == 405:
            headers.append((b"allow", ", ".join(self.methods).encode()))
        return status, headers, body
