"""What is wrong with what a probe saw, and the mend.

What was seen goes in, `Finding`s come out. There are three kinds:

    admitted  somebody got in who must not
    problem   clients can't see why they are refused, are told to do the wrong thing, and the like
    note      worth knowing
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from asgi_wsauth.cli.probe import Seen, Unreachable
from asgi_wsauth.cli.target import Case, Target
from asgi_wsauth.denial import Reason, advice

__all__ = ["Finding", "Result", "close_text", "exit_code", "findings"]

Result: TypeAlias = tuple[Case, Seen]
Level = Literal["admitted", "problem", "note"]
_Said: TypeAlias = tuple[Level, str, str]

_PHRASES = {reason.phrase for reason in Reason}
_BUSY = {reason.phrase for reason in Reason if "later" in reason.advice or "back" in reason.advice}

# HTTP statuses that are no refusal, if every handshake gets one of them.
_NOWHERE = {200, 301, 302, 303, 307, 308, 404, 405, 410, 421, 426, 502, 504}

_GUARD = "Let a guard decide before the app does: WebSocketAuthMiddleware(app, auth)."
_CLOSE = "Close with a code that says so: 1008, and 4001 for an expired token."
_MENDS = {
    "alg_none": "Verify signatures, with a fixed list of algorithms.",
    "forged": "Verify signatures, with your own key.",
    "expired": "Refuse a token whose exp has passed, and one that has none.",
    "foreign_origin": "Compare Origin with a list: Authenticator(..., allowed_origins=[...]).",
    "twice": "Refuse it (RFC 6750 section 3.1): what else looks at it may read the other one.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: of which kind it is.
        cases: the titles of the cases that show it; none where it is about the endpoint.
        what: what is wrong.
        mend: what to do about it.
    """

    level: Level
    cases: tuple[str, ...]
    what: str
    mend: str


def findings(target: Target, results: Sequence[Result]) -> list[Finding]:
    """All that is wrong, the worst first. What several cases show is said once.

    Raises:
        Unreachable: this is no WebSocket endpoint.
    """
    statuses = {seen.status for _, seen in results}
    if statuses <= _NOWHERE:
        told = ", ".join(sorted(map(str, statuses)))
        raise Unreachable(f"every handshake is answered with HTTP {told}")
    grouped: dict[_Said, list[str]] = {}
    for case, seen in results:
        for said in _about(target, case, seen, results):
            grouped.setdefault(said, []).append(case.title)
    grouped |= {said: [] for said in _notes(target, [case for case, _ in results])}
    found = [Finding(level, tuple(c), what, mend) for (level, what, mend), c in grouped.items()]
    return sorted(found, key=lambda one: get_args(Level).index(one.level))


def exit_code(found: Sequence[Finding]) -> int:
    """1: somebody got in who must not; 3: there are problems; 0: neither."""
    levels = {one.level for one in found}
    return 1 if "admitted" in levels else 3 if "problem" in levels else 0


def close_text(close: tuple[int, str]) -> str:
    """A close code and its reason."""
    return f"{close[0]} {close[1]}".rstrip()


def _about(target: Target, case: Case, seen: Seen, results: Sequence[Result]) -> Iterator[_Said]:
    if seen.subprotocol in case.tokens:
        what = "The token itself is the answer to the subprotocols: logs and proxies see it."
        yield "problem", what, f'Answer "{target.carrier.name}", or another one that was offered.'
    if seen.fault:
        mend = "Answer every handshake, also where a check fails or raises."
        if seen.status == 101:
            mend = "If it wants a subprotocol, name it: --offer. If not, answer none."
        yield "problem", seen.fault, mend
    elif case.expected is None:
        yield from _about_good(seen)
    elif _got_in(seen, results):
        yield _admitted(target, case, seen, results)
    elif seen.status in (429, 503) or seen.phrase in _BUSY:
        why = seen.phrase or f"HTTP {seen.status}"
        yield "problem", f"The server could not judge it: {why}.", "See why, and probe again."
    elif seen.close is None:
        yield _before_accept(seen)
    else:
        if not seen.echoed:
            yield _not_echoed("Refused")
        yield from _about_close(case, case.expected, seen.close, results)


def _about_good(seen: Seen) -> Iterator[_Said]:
    if seen.outcome == "refused":
        how = close_text(seen.close) if seen.close else f"HTTP {seen.status} {seen.phrase}".rstrip()
        mend = "Is the address right, the token still good, and in its place (--query, ...)?"
        yield "problem", f"The good token is refused: {how}.", mend
        return
    if not seen.echoed:
        yield _not_echoed("Admitted")
    if seen.close is not None:
        what = f"Admitted, and closed by the app at once: {close_text(seen.close)}."
        yield "note", what, "If it waits for something to be said, --offer may be missing."


def _got_in(seen: Seen, results: Sequence[Result]) -> bool:
    """A socket that ends at once with a code that tells no refusal is none, unless a good token
    keeps it open."""
    stays = any(case.expected is None and saw.outcome == "admitted" for case, saw in results)
    return seen.outcome == "admitted" or (seen.outcome == "ended" and not stays)


def _admitted(target: Target, case: Case, seen: Seen, results: Sequence[Result]) -> _Said:
    what = "Admitted, and must be refused."
    if seen.close is not None:
        told = close_text(seen.close)
        what = f"Admitted, or so it seems: closed at once with {told}, which tells no refusal."
    if any(one.name == "no_token" and _got_in(saw, results) for one, saw in results):
        first = " If it waits for a first message: --first-message."
        return "admitted", what, _GUARD + (first if target.carrier.kind != "first_message" else "")
    mend = _MENDS.get(case.name, _GUARD)
    if case.name == "twice":
        return "problem", "A token that is given twice is taken.", mend
    # A foreign page has no token to get in with, but the visitor's cookie.
    asked = target.origin is not None or target.carrier.kind == "cookie"
    if case.name == "foreign_origin" and not asked:
        return "note", "Any origin is admitted: no harm, as long as no cookie counts.", mend
    return "admitted", what, mend


def _before_accept(seen: Seen) -> _Said:
    if seen.status is not None and seen.status >= 500:
        what = f"The app fails, or gives no answer (HTTP {seen.status}): browsers see 1006."
        return "problem", what, "Answer every handshake: accept it, then close it with a code."
    what = "Refused before accept: browsers see 1006 and no reason."
    return "problem", what, 'Accept first, then close with the code: rejection="accept_then_close".'


def _not_echoed(what: str) -> _Said:
    what += ", but no offered subprotocol is answered: browsers see 1006 and no reason."
    return "problem", what, "Accept with one that was offered, and never with the token."


def _about_close(
    case: Case, wanted: Reason, close: tuple[int, str], results: Sequence[Result]
) -> Iterator[_Said]:
    code, reason = close
    told = advice(code, reason)
    others = [seen.close for other, seen in results if other.expected is Reason.INVALID]
    if code == 1006:
        what = "Accepted, and dropped without a close: clients take it for a broken network."
        yield "problem", what, _CLOSE
    elif code in (1000, 1001, 1005):
        yield "problem", f"Closed with {close_text(close)}, which reads as a normal end.", _CLOSE
    elif told == wanted.advice:
        return
    elif wanted is Reason.EXPIRED and told == "stop" and close not in others:
        return  # not the table's code for it, but one of its own
    elif case.name == "expired" and wanted is Reason.INVALID and reason == Reason.EXPIRED.phrase:
        what = "A badly signed token is called expired."
        yield "problem", what, "Verify the signature first: what a token says counts only then."
    else:
        own = code >= 3000 and reason not in _PHRASES and wanted is not Reason.EXPIRED
        what = f"{close_text(close)}: a client would {told}, and should {wanted.advice}."
        yield "note" if own else "problem", what, _CLOSE


def _notes(target: Target, cases: Sequence[Case]) -> Iterator[_Said]:
    if all(case.expected is not None for case in cases):
        what = "Without a good token only refusals are seen: not whether anybody gets in, from"
        yield (
            "note",
            f"{what} which origins, or with it given twice.",
            "Give one: --token-env NAME.",
        )
    if any(case.name == "expired" and case.expected is not Reason.EXPIRED for case in cases):
        what = "Without the key, the expired token is signed with another one: only its signature"
        yield "note", f"{what} is judged.", "Give the key: --key-env NAME."
    if target.url.startswith("ws:") and not target.is_here:
        what = "Tokens travel in clear to another machine."
        yield "note", what, "Use wss://, unless the network between is your own."
