"""How the news of a logout comes, and how its sender is answered: a logout token in a form (OpenID
Connect Back-Channel Logout 1.0), or a Security Event Token as the body (RFC 8935).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from asgi_wsauth.denial import Denied, HTTPAnswer, Reason, http_refusal, json_answer
from asgi_wsauth.endpoints.bodies import Unreadable
from asgi_wsauth.verifiers.trust import Untrusted

__all__ = ["LOGOUT", "Kind", "error_answer", "kind_of"]

_RETRY_AFTER = 5.0  # seconds, where nothing says when a store is back
_BROKEN = (Reason.UNAVAILABLE, Reason.KEYS_UNAVAILABLE, Reason.ERROR)


class Kind(NamedTuple):
    """A kind of token, and how it comes.

    Attributes:
        name: for events.
        media_type: of the request's body.
        typ: of the token's header.
        token: finds it in the body.
        done: the status that says that it was taken.
        error: the names of an error's members.
    """

    name: str
    media_type: str
    typ: str
    token: Callable[[str], str]
    done: int
    error: tuple[str, str]


def _form_token(body: str) -> str:
    """The parameter `logout_token`. Others are ignored (Back-Channel Logout 1.0 section 2.5)."""
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Unreadable(400, "the form has too many parameters") from None
    tokens = [value for name, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        raise Unreadable(400, f"the form has {'two' if tokens else 'no'} logout_token")
    return tokens[0]


LOGOUT = Kind(
    "logout_token",
    "application/x-www-form-urlencoded",
    "logout+jwt",
    _form_token,
    200,
    ("error", "error_description"),
)
_EVENTS = Kind(
    "security_event",
    "application/secevent+jwt",
    "secevent+jwt",
    str.strip,
    202,
    ("err", "description"),
)
_KINDS = {kind.media_type: kind for kind in (LOGOUT, _EVENTS)}


def kind_of(http: Request) -> Kind:
    """What a request brings, by its headers alone: its address is none of a token's places."""
    if http.method != "POST":
        raise Unreadable(405, "only POST logs anybody out")
    given = http.headers.getlist("content-type")
    media_type, *parameters = (part.strip().lower() for part in (given or [""])[0].split(";"))
    kind = _KINDS.get(media_type)
    if kind is None or len(given) != 1:
        raise Unreadable(415, f"the body is neither {' nor '.join(_KINDS)}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "us-ascii"):
            raise Unreadable(415, "the body's charset is not UTF-8")
    if http.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unreadable(415, "the body is compressed")
    return kind


def error_answer(kind: Kind, denied: Denied) -> HTTPAnswer:
    """What the sender is told, in the words of its protocol.

    Args:
        kind: what came, as far as that is known.
        denied: why it was not taken.
    """
    if denied.reason in _BROKEN:
        return http_refusal(denied, _RETRY_AFTER)
    error, description = kind.error
    status = denied.status if isinstance(denied, Unreadable) else 400
    code = "invalid_request" if kind is LOGOUT else _code(denied)
    answer = json_answer(status, {error: code, description: _description(denied)})
    if status == 405:
        answer[1].append((b"allow", b"POST"))
    return answer


def _code(denied: Denied) -> str:
    """The code of an error (RFC 8935 section 2.4)."""
    return f"invalid_{denied.fault}" if isinstance(denied, Untrusted) else "invalid_request"


_DESCRIPTIONS = {
    "invalid_key": "no key of the issuer verifies the token",
    "invalid_issuer": "the token's issuer is not the one that is expected here",
    "invalid_audience": "the token is not for this recipient",
    "invalid_request": "the token is not valid, or says nothing that is understood here",
}


def _description(denied: Denied) -> str:
    """What a stranger may be told. The log has the rest."""
    if isinstance(denied, Unreadable):
        return denied.detail
    if denied.reason is Reason.EXPIRED:
        return "the token came too late"
    return _DESCRIPTIONS[_code(denied)]
