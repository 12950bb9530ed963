"""The bodies of requests: small ones, read whole."""

from __future__ import annotations

from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request

from asgi_wsauth.denial import Denied, Reason

__all__ = ["Unreadable", "read_body"]


class Unreadable(Denied):
    """`Reason.MALFORMED`, because a request asks for nothing in any way that is known here.

    Args:
        status: the HTTP status that says so.
        detail: as in `Denied`; without anything that the client sent.
        told: whether the client is told the detail, because it isn't the credential that is bad.
    """

    def __init__(self, status: int, detail: str, *, told: bool = False) -> None:
        super().__init__(Reason.MALFORMED, detail)
        self.status = status
        self.told = told


async def read_body(request: Request, most: int) -> bytes:
    """The body.

    Args:
        request: the request.
        most: how many bytes it may have.

    Raises:
        Unreadable: it is longer, broke off, or has a length that is none.
    """
    try:
        length = int(request.headers.get("content-length", "0"))
    except ValueError:
        raise Unreadable(400, "the body's length is not a number") from None
    if length > most:
        raise Unreadable(413, "the body is too large")
    body = b""
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > most:
                    raise Unreadable(413, "the body is too large")
    except ClientDisconnect:
        raise Unreadable(400, "the body broke off") from None
    return body
