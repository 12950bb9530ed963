"""`check-token`: what an app's authenticator makes of a token, and why.

The verdict is the authenticator's own: it decides about a WebSocket without an origin or an
address, as about any other, with the issuer's live keys, the app's stores and its `load_user`. The
checks on the way there tell of themselves (`Credential.note`), so what is printed is what was done.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TextIO, cast

import anyio
from starlette.requests import HTTPConnection

from asgi_wsauth.authenticator import Attempt, Authentication
from asgi_wsauth.cli.codes import explained
from asgi_wsauth.cli.loading import Found, load
from asgi_wsauth.cli.secrets import Discreet, cleaner, read_secret, secret_arguments, ways
from asgi_wsauth.connection.renewal import check_scopes
from asgi_wsauth.credential import API_KEY, INTERNAL, TICKET, Credential, Principal
from asgi_wsauth.denial import Denied
from asgi_wsauth.events import logger, raised
from asgi_wsauth.options import ConfigurationError
from asgi_wsauth.policies.throttle import FailureThrottle
from asgi_wsauth.printable import escaped
from asgi_wsauth.redaction import hidden
from asgi_wsauth.sources import Header
from asgi_wsauth.verifiers.claims import cut
from asgi_wsauth.verifiers.compact import json_object

__all__ = ["check_token", "check_token_arguments"]

_BEARER = "bearer "


def check_token_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those of the command."""
    parser.epilog = (
        "Exit code: 0 the token is admitted, 1 it is refused, 2 a wrong command, or no "
        "authenticator. The token and its signature are never printed. A ticket is used up."
    )
    parser.add_argument(
        "authenticator",
        metavar="AUTHENTICATOR",
        help="where it is, such as chat.app:auth; or what holds it: a middleware, a Starlette or "
        "FastAPI app, such as chat.app:app",
    )
    secret_arguments(parser, "token", "the token; without either, what is piped into stdin")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        notes: checks and what they found, in order.
        now: Unix time in seconds, by the authenticator's clock.
        authentication: where it is admitted.
        denied: where it is refused.
    """

    notes: list[tuple[str, str]]
    now: float
    authentication: Authentication | None = None
    denied: Denied | None = None


def check_token(args: argparse.Namespace) -> int:
    """Examine a token, and print what was found to stdout. What the app prints goes to stderr.

    Returns:
        The exit code: 0 admitted, 1 refused.

    Raises:
        ConfigurationError: there is no token, or no authenticator.
    """
    token, missing = _given(args)
    clean = cleaner(token) if token else hidden
    out, err = (cast(TextIO, Discreet(stream, clean)) for stream in (sys.stdout, sys.stderr))
    try:
        with redirect_stdout(err), redirect_stderr(err):
            found = load(args.authenticator)
            if missing:
                raise ConfigurationError(missing)
            credential = _Examined(token)
            logger.addFilter(_is_of_this_check)
            result = anyio.run(_examine, found, credential)
    except ConfigurationError as exc:
        raise ConfigurationError(clean(str(exc))) from None
    finally:
        logger.removeFilter(_is_of_this_check)
    if args.json:
        print(json.dumps(_cleaned(_as_data(credential, result), clean), indent=2))
    else:
        print(*map(escaped, _lines(credential, result)), sep="\n", file=out)
    return 0 if result.denied is None else 1


def _given(args: argparse.Namespace) -> tuple[str, str]:
    """The token, or else "" and why there is none: told after what is wrong with AUTHENTICATOR, but
    a token that is there has to be known before, to keep it out of what the import prints."""
    if args.token_env is None and args.token_file is None and not sys.stdin.isatty():
        args.token_file = "-"
    try:
        token = _bare(read_secret(args, "token", quotes=False) or "")
    except ConfigurationError as exc:
        return "", str(exc)
    return token, "" if token else f"there is no token: {ways('token')}"


def _bare(text: str) -> str:
    """A token without what often comes along where it is copied from."""
    text = text.strip("\"'").strip()
    if f"{text} ".lower().startswith(_BEARER):
        print("asgi-wsauth: the Bearer before the token was left out", file=sys.stderr)
        text = text[len(_BEARER) :].strip()
    return text


def _is_of_this_check(record: logging.LogRecord) -> bool:
    """Not that a throttle counts nothing, which is so on purpose here; see `_handshake`."""
    return not any(isinstance(arg, FailureThrottle) for arg in record.args or ())


class _Examined(Credential):
    """A credential that keeps what is noted of it."""

    def __init__(self, value: str) -> None:
        super().__init__(value, "check-token")
        self.notes: list[tuple[str, str]] = []
        self.note = self._take

    def _take(self, check: str, found: str) -> None:
        self.notes.append((check, found))

    def hint(self, why: str) -> None:
        super().hint(why)
        self._take("hint", why)


async def _examine(found: list[Found], credential: _Examined) -> Result:
    attempt = Attempt([(Header("authorization", scheme="Bearer"), credential)])
    conn, authenticator = HTTPConnection(_handshake()), found[0].authenticator
    try:
        authentication = await authenticator.authenticate(conn, attempt=attempt)
        for one in found:
            if one.required_scopes:
                check_scopes(one.required_scopes, authentication.principal)
                told = f"{one.guard} requires {' '.join(sorted(one.required_scopes))}"
                credential.notes.append(("required scopes", told))
    except Denied as denied:
        return Result(credential.notes, authenticator.clock(), denied=denied)
    return Result(credential.notes, authenticator.clock(), authentication)


def _handshake() -> dict[str, Any]:
    """As of a program on a local socket: without an origin, and without an address, so that no
    throttle counts it."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": None,
        "client": None,
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }


# What is printed.


def _kind(value: str) -> str:
    """What a credential looks like."""
    made_here = {TICKET: "a ticket", INTERNAL: "an internal credential", API_KEY: "an API key"}
    for prefix, kind in made_here.items():
        if value.startswith(prefix):
            return kind
    parts = value.split(".")
    header = json_object(parts[0]) if len(parts) == 3 else None
    if header is None:
        return f"{len(value)} characters that are no JWT"
    told = [f"{name} {cut(header[name])}" for name in ("alg", "kid", "typ") if name in header]
    return f"a JWT, whose header says {', '.join(told) or 'nothing'}"


_OUTSIDE = ("revocations", "load_user", "required scopes")  # what no verifier checks


def _lines(credential: Credential, result: Result) -> Iterator[str]:
    yield f"credential {credential.fingerprint}: {_kind(credential.value)}"
    for check, found in result.notes:
        if check == "verifier":
            yield found
        elif check == "hint":
            yield f"      {found}"
        elif check == "not mine":
            yield "      not this verifier's"
        else:
            yield f"{'' if check in _OUTSIDE else '  '}ok  {check:<12}{found}"
    if result.denied is not None:
        yield from _refusal(result.denied)
    if result.authentication is not None:
        yield from _admission(result.authentication, result.now)


def _refusal(denied: Denied) -> Iterator[str]:
    reason = denied.reason
    yield f"REFUSED: {denied}"
    cause = _cause(denied)
    if cause is not None:
        yield f"  {cause}"
    if denied.retry_after is not None and isfinite(denied.retry_after):
        yield f"  it may work in {denied.retry_after:.0f} s"
    yield ""
    yield f"HTTP status {reason.http_status}, or close code"
    yield from explained(reason.close_code, reason.phrase)


def _cause(denied: Denied) -> str | None:
    """What broke, and where."""
    exc = denied.__cause__
    if exc is None:
        return None
    kind, at = raised(exc)
    return f"{kind} in {at}: {exc}"


def _admission(authentication: Authentication, now: float) -> Iterator[str]:
    principal = authentication.principal
    if authentication.credential is None:
        yield "login is off (required): everybody is admitted, and no verifier was asked"
    issuer = f" of {principal.issuer}" if principal.issuer is not None else ""
    yield f"ADMITTED: {principal.identity!r}{issuer}, by {principal.method}"
    yield f"  scopes   {' '.join(principal.scopes) or 'none'}"
    yield f"  ends     {_time(principal.expires_at, now)}"


def _time(moment: float | None, now: float) -> str:
    if moment is None:
        return "never"
    try:
        told = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # later than any calendar
        return "never"
    return f"{told}, in {moment - now:.0f} s"


def _as_data(credential: Credential, result: Result) -> dict[str, Any]:
    denied, authentication = result.denied, result.authentication
    data: dict[str, Any] = {
        "fingerprint": credential.fingerprint,
        "kind": _kind(credential.value),
        "checks": [{"check": check, "found": found} for check, found in result.notes],
        "admitted": denied is None,
    }
    if denied is not None:
        data |= {
            "reason": denied.reason.phrase,
            "detail": denied.detail,
            "cause": _cause(denied),
            "retry_after": denied.retry_after,
            "close_code": denied.reason.close_code,
            "http_status": denied.reason.http_status,
            "advice": denied.reason.advice,
        }
    if authentication is not None:
        data["login_is_on"] = authentication.credential is not None
        data["principal"] = _principal_as_data(authentication.principal)
    return data


def _cleaned(data: Any, clean: Callable[[str], str]) -> Any:
    """The data without the token, whatever that is; and without infinity, which JSON doesn't have,
    and which is one way to say never."""
    if isinstance(data, dict):
        return {name: _cleaned(value, clean) for name, value in data.items()}
    if isinstance(data, list):
        return [_cleaned(value, clean) for value in data]
    if isinstance(data, float) and not isfinite(data):
        return None
    return clean(data) if isinstance(data, str) else data


def _principal_as_data(principal: Principal) -> dict[str, Any]:
    names = "identity issuer method login_method scopes issued_at expires_at token_id session_id"
    told = {name: getattr(principal, name) for name in names.split()}
    return {**told, "scopes": list(principal.scopes)}
