"""What is wrong with how sockets end, as `Finding`s."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from asgi_wsauth.cli.findings import Finding, Level, Result, close_text
from asgi_wsauth.cli.watch import End
from asgi_wsauth.denial import ADVICE_BY_CODE, Reason, advice

__all__ = ["TITLES", "endings", "when"]

TITLES = {"expiry": "token expires", "revocation": "token is revoked"}

_LATE = 3.0  # seconds; a busy machine is no finding
_EARLY = 0.5  # seconds; clocks differ
_WANTED = {"expiry": Reason.EXPIRED, "revocation": Reason.REVOKED}
_END = {
    "expiry": "Close the socket at the token's exp: WebSocketAuthMiddleware does "
    "(enforce_expiry=True). If the leeway is longer, pass --leeway.",
    "revocation": "Close what is open, in every process: Authenticator(..., revocations=...). If "
    "it takes longer, pass --watch.",
}
_CODE = {
    "expiry": "Close with 4001: come back with a new token.",
    "revocation": "Close with 4004: log in again.",
}
_CLAIMS = "Name what it requires: --audience, --issuer, --subject, --scope."


def when(end: End) -> str:
    """When it ended, in words."""
    after = end.after
    if after is None:
        return "before the command"
    open_yet = "still open " if end.seen.close is None and not end.seen.left else ""
    what = "the expiry" if end.cause == "expiry" else "the command"
    if after >= 0:
        return f"{open_yet}{after:.1f} s after {what}"
    return f"{-after:.1f} s before the {'expiry' if end.cause == 'expiry' else 'command ended'}"


def endings(ends: Sequence[End], results: Sequence[Result] = ()) -> list[Finding]:
    """Everything that is wrong with these ends.

    Args:
        ends: what was watched.
        results: of the handshakes, for what invalid tokens are told.
    """
    refused = {seen.close for case, seen in results if case.expected is Reason.INVALID}
    return [finding for end in ends for finding in _about(end, refused)]


def _about(end: End, refused: set[tuple[int, str] | None]) -> Iterator[Finding]:
    title = (TITLES[end.cause],)
    seen, ran = end.seen, end.command
    if ran is not None and ran.status != 0:
        how = f"failed with exit status {ran.status}"
        if ran.status is None:
            how = f"did not end within {ran.seconds:.0f} s"
        told = "Run it by itself: it gets WSAUTH_IDENTITY, WSAUTH_JTI and WSAUTH_SID."
        yield Finding("problem", title, f"The revoke command {how}.", told)
    elif seen.status != 101 or seen.fault:
        how = seen.fault or f"HTTP {seen.status} {seen.phrase}".rstrip() + "."
        yield Finding("problem", title, f"Not tested: its socket is refused: {how}", _CLAIMS)
    elif seen.left:
        what = "Not tested: the server sends larger messages than the probe reads."
        yield Finding("note", title, what, "Probe an endpoint that sends less by itself.")
    elif seen.close is None:
        what = f"The socket stays open: {when(end)}."
        yield Finding("problem", title, what, _END[end.cause])
    elif end.after is None or (end.cause == "expiry" and end.after < -_EARLY):
        yield _too_early(end, seen.close)
    else:
        if end.after > end.leeway + _LATE:
            level: Level = "problem" if end.cause == "expiry" else "note"
            yield Finding(level, title, f"The socket is closed late: {when(end)}.", _END[end.cause])
        yield from _about_close(end, seen.close, refused)


def _too_early(end: End, close: tuple[int, str]) -> Finding:
    title, told = (TITLES[end.cause],), close_text(close)
    if end.seen.outcome == "refused" and close[0] != 1006:
        what = f"Not tested: its socket is refused: {told}."
        return Finding("problem", title, what, _CLAIMS)
    what = f"Not tested: the socket is closed {when(end)}, with {told}."
    return Finding("note", title, what, "Probe an endpoint that keeps an idle socket open.")


def _about_close(
    end: End, close: tuple[int, str], refused: set[tuple[int, str] | None]
) -> Iterator[Finding]:
    title, fix = (TITLES[end.cause],), _CODE[end.cause]
    code = close[0]
    told, wanted = advice(*close), _WANTED[end.cause].advice
    if code == 1006:
        what = "The connection is dropped without a close: clients take it for a network failure."
        yield Finding("problem", title, what, fix)
    elif code in (1000, 1001, 1005) and told != wanted:
        what = f"Closed with {close_text(close)}, which means a normal closure."
        yield Finding("problem", title, f"{what} No client knows why.", fix)
    elif told == wanted:
        return
    elif code >= 3000 and code not in ADVICE_BY_CODE and close not in refused:
        what = f"{close_text(close)} is a code of the endpoint's own: its clients must know it."
        yield Finding("note", title, what, fix)
    else:
        what = f"{close_text(close)}: a client would {told}, but should {wanted}."
        ends_too = end.cause == "revocation" and told in ("stop", "refresh")
        yield Finding("note" if ends_too else "problem", title, what, fix)
