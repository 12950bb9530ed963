"""Turns the results of a probe into `Finding`s, each with a fix. There are three levels:

admitted  a client got in that must be refused
problem   clients can't see why they are refused, are told to do the wrong thing, and the like
note      worth knowing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from asgi_wsauth.cli.probe import Seen, Unreachable
from asgi_wsauth.cli.target import Case, Target
from asgi_wsauth.denial import Reason, advice

__all__ = ["Finding", "Level", "Result", "close_text", "exit_code", "findings", "worst_first"]

Result: TypeAlias = tuple[Case, Seen]
Level = Literal["admitted", "problem", "note"]
_Said: TypeAlias = tuple[Level, str, str]

_PHRASES = {reason.phrase for reason in Reason}
_BUSY = {reason.phrase for reason in Reason if "later" in reason.advice or "back" in reason.advice}

# HTTP statuses that are not a refusal if every handshake gets one of them.
_NOWHERE = {200, 301, 302, 303, 307, 308, 404, 405, 410, 421, 426, 502, 504}

_GUARD = "Decide before the app runs: WebSocketAuthMiddleware(app, auth)."
_CLOSE = "Close with a code that means a refusal: 1008, or 4001 for an expired token."
_LACKING = (
    "Close with 4001 for an expired token. If the endpoint is right, because it requires claims "
    "that this token lacks, pass --audience and --issuer."
)
_FIXES = {
    "alg_none": "Verify signatures, with a fixed list of algorithms.",
    "forged": "Verify signatures, with your own key.",
    "expired": "Refuse tokens whose exp has passed, and tokens without exp.",
    "foreign_origin": "Compare Origin with a list: Authenticator(..., allowed_origins=[...]).",
    "twice": "Refuse it (RFC 6750 section 3.1): another component may read the other token.",
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        level: how serious it is.
        cases: the titles of the cases that show it; none if it is about the endpoint as a whole.
        what: what is wrong.
        fix: what to do about it.
    """

    level: Level
    cases: tuple[str, ...]
    what: str
    fix: str


def findings(target: Target, results: Sequence[Result]) -> list[Finding]:
    """Everything that is wrong, the worst first; each finding once, with all cases that show it.

    Raises:
        Unreachable: this is not a WebSocket endpoint.
    """
    statuses = {seen.status for _, seen in results}
    if statuses <= _NOWHERE:
        told = ", ".join(sorted(map(str, statuses)))
        raise Unreachable(f"every handshake gets HTTP {told}")
    grouped: dict[_Said, list[str]] = {}
    for case, seen in results:
        for said in _about(target, case, seen, results):
            grouped.setdefault(said, []).append(case.title)
    grouped |= {said: [] for said in _notes(target, [case for case, _ in results])}
    found = [Finding(level, tuple(c), what, fix) for (level, what, fix), c in grouped.items()]
    return worst_first(found)


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Findings, in the order in which they are told."""
    return sorted(found, key=lambda one: get_args(Level).index(one.level))


def exit_code(found: Sequence[Finding]) -> int:
    """1: a client was admitted that must be refused; 3: there are problems; 0: neither."""
    levels = {one.level for one in found}
    return 1 if "admitted" in levels else 3 if "problem" in levels else 0


def close_text(close: tuple[int, str]) -> str:
    """A close code and its reason."""
    return f"{close[0]} {close[1]}".rstrip()


def _about(target: Target, case: Case, seen: Seen, results: Sequence[Result]) -> Iterator[_Said]:
    if seen.subprotocol in case.tokens:
        what = "The server echoes the token as the subprotocol: logs and proxies see it."
        yield "problem", what, f'Choose "{target.carrier.name}", or another one that was offered.'
    if seen.fault:
        fix = "Answer every handshake, even if a check fails or raises."
        if seen.status == 101:
            fix = "If it needs a subprotocol, name it: --offer. If not, choose none."
        yield "problem", seen.fault, fix
    elif case.expected is None:
        yield from _about_good(seen)
    elif _got_in(seen, results):
        yield _admitted(target, case, seen, results)
    elif seen.status in (429, 503) or seen.phrase in _BUSY:
        why = seen.phrase or f"HTTP {seen.status}"
        yield "problem", f"The server could not decide: {why}.", "Find out why, and probe again."
    elif seen.close is None:
        yield _before_accept(seen)
    else:
        if not seen.echoed:
            yield _not_echoed("Refused")
        yield from _about_close(case, case.expected, seen.close, results)


def _about_good(seen: Seen) -> Iterator[_Said]:
    if seen.outcome == "refused":
        how = close_text(seen.close) if seen.close else f"HTTP {seen.status} {seen.phrase}".rstrip()
        fix = "Check the URL, that the token is still valid, and where it travels (--query, ...)."
        yield "problem", f"The good token is refused: {how}.", fix
        return
    if not seen.echoed:
        yield _not_echoed("Admitted")
    if seen.close is not None:
        what = f"Admitted, and closed by the app at once: {close_text(seen.close)}."
        yield "note", what, "If it needs a subprotocol, name it: --offer."


def _got_in(seen: Seen, results: Sequence[Result]) -> bool:
    """A socket that is closed at once with a code that means no refusal counts as admitted, unless
    a good token keeps it open."""
    stays = any(case.expected is None and saw.outcome == "admitted" for case, saw in results)
    return seen.outcome == "admitted" or (seen.outcome == "ended" and not stays)


def _admitted(target: Target, case: Case, seen: Seen, results: Sequence[Result]) -> _Said:
    what = "Admitted, but must be refused."
    if seen.close is not None:
        told = close_text(seen.close)
        what = f"Probably admitted: closed at once with {told}, which doesn't mean a refusal."
    if any(one.name == "no_token" and _got_in(saw, results) for one, saw in results):
        first = " If it expects a first message: --first-message."
        return "admitted", what, _GUARD + (first if target.carrier.kind != "first_message" else "")
    fix = _FIXES.get(case.name, _GUARD)
    if case.name == "twice":
        return "problem", "A token that is given twice is accepted.", fix
    # A foreign page has no token, but it does have its visitor's cookie.
    asked = target.origin is not None or target.carrier.kind == "cookie"
    if case.name == "foreign_origin" and not asked:
        return "note", "Any origin is admitted. That is safe as long as no cookie is accepted.", fix
    return "admitted", what, fix


def _before_accept(seen: Seen) -> _Said:
    if seen.status is not None and seen.status >= 500:
        what = f"The app fails or doesn't respond (HTTP {seen.status}): browsers see 1006."
        return "problem", what, "Answer every handshake: accept it, then close it with a code."
    what = "Refused before accept: browsers see 1006 and no reason."
    return "problem", what, 'Accept first, then close with the code: rejection="accept_then_close".'


def _not_echoed(what: str) -> _Said:
    what += ", but no offered subprotocol is chosen: browsers see 1006 and no reason."
    return "problem", what, "Accept with an offered subprotocol, but never with the token."


def _about_close(
    case: Case, wanted: Reason, close: tuple[int, str], results: Sequence[Result]
) -> Iterator[_Said]:
    code, reason = close
    told = advice(code, reason)
    others = [seen.close for other, seen in results if other.expected is Reason.INVALID]
    if code == 1006:
        what = "Accepted, then dropped without a close: clients take it for a network failure."
        yield "problem", what, _CLOSE
    elif code in (1000, 1001, 1005):
        yield "problem", f"Closed with {close_text(close)}, which means a normal closure.", _CLOSE
    elif told == wanted.advice:
        return
    elif wanted is Reason.EXPIRED and told == "stop" and close not in others:
        return  # not the table's code, but one of its own
    elif case.name == "expired" and wanted is Reason.INVALID and reason == Reason.EXPIRED.phrase:
        what = "A badly signed token is reported as expired."
        yield "problem", what, "Verify the signature before looking at any claim."
    else:
        own = code >= 3000 and reason not in _PHRASES and wanted is not Reason.EXPIRED
        what = f"{close_text(close)}: a client would {told}, but should {wanted.advice}."
        is_invalid_too = wanted is Reason.EXPIRED and close in others
        yield "note" if own else "problem", what, _LACKING if is_invalid_too else _CLOSE


def _notes(target: Target, cases: Sequence[Case]) -> Iterator[_Said]:
    if all(case.expected is not None for case in cases):
        what = (
            "Without a good token only refusals are tested: not whether a client is admitted, from"
        )
        yield (
            "note",
            f"{what} which origins, or with a token given twice.",
            "Pass one: --token-env NAME.",
        )
    if any(case.name == "expired" and case.expected is not Reason.EXPIRED for case in cases):
        what = "Without the key, the expired token has another signature: its expiry"
        yield "note", f"{what} isn't tested.", "Pass the key: --key-env NAME."
    if target.url.startswith("ws:") and not target.is_here:
        what = "Tokens travel unencrypted to another machine."
        yield "note", what, "Use wss://, unless the network in between is your own."
