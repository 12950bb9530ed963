"""How `python -m asgi_wsauth probe` judges the ends of sockets, and that it sees them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from secrets import token_hex
from typing import Any

import anyio
import pytest
from cases import cases
from handshakes import SECRET
from servers import DEADLINE, Server, serving

from asgi_wsauth.cli import main
from asgi_wsauth.cli.endings import endings, when
from asgi_wsauth.cli.probe import Seen
from asgi_wsauth.cli.target import Case, Target
from asgi_wsauth.cli.watch import End, Ran, Watch, watch_ends
from asgi_wsauth.denial import Reason
from asgi_wsauth.testing import make_jwt

DUE = 1_800_000_000.0
DONE = Ran(0.5, 0, DUE)
NORMAL = "which means a normal closure. No client knows why."


def end(cause: Any, after: float, code: int = 0, reason: str = "", **more: Any) -> End:
    """A socket that closed so many seconds after it was due, or, without a code, stayed open."""
    close = (code, reason) if code else None
    seen = Seen((), 101, close=close, opened=DUE - 3, until=DUE + after)
    return End(cause, seen, DUE, **{"leeway": 0.0, **more})


expiry = partial(end, "expiry")
revocation = partial(end, "revocation", command=DONE)


@cases(
    "seen, level, what",
    [
        (expiry(0.1, 4001, "token_expired"), None, ""),
        (expiry(0.1, 1008, "token_expired"), None, ""),
        (expiry(29, 4001, leeway=30), None, ""),
        (expiry(32, 4001, leeway=30), None, ""),
        (expiry(34, 4001, leeway=30), "problem", "The socket is closed late: 34.0 s after the ex"),
        (expiry(4, 4001), "problem", "The socket is closed late: 4.0 s after the expiry."),
        (expiry(10), "problem", "The socket stays open: still open 10.0 s after the expiry."),
        (expiry(0, 1006), "problem", "The connection is dropped without a close"),
        (expiry(0, 1000), "problem", f"Closed with 1000, {NORMAL}"),
        (expiry(0, 1005), "problem", f"Closed with 1005, {NORMAL}"),
        (expiry(0, 1001, "away"), "problem", f"Closed with 1001 away, {NORMAL}"),
        (expiry(0, 1008), "problem", "1008: a client would stop, but should refresh."),
        (expiry(0, 1011), "problem", "1011: a client would retry later, but should refresh."),
        (expiry(0, 4004), "problem", "4004: a client would log in again, but should refresh."),
        (expiry(0, 4401), "note", "4401 is a code of the endpoint's own: its clients must know it"),
        (expiry(0, 4400), "problem", "4400: a client would stop, but should refresh."),
        (expiry(-0.4, 4001), None, ""),
        (expiry(-2, 1000), "note", "Not tested: the socket is closed 2.0 s before the expiry, wi"),
        (expiry(-2, 1006), "note", "Not tested: the socket is closed 2.0 s before the expiry, wi"),
        (expiry(-2, 1008, "no"), "problem", "Not tested: its socket is refused: 1008 no."),
        (revocation(0.2, 4004), None, ""),
        (revocation(-0.2, 4004), None, ""),
        (revocation(2, 1008, "token_revoked"), None, ""),
        (revocation(5, 4004), "note", "The socket is closed late: 5.0 s after the command."),
        (revocation(10), "problem", "The socket stays open: still open 10.0 s after the command."),
        (revocation(0, 1008), "note", "1008: a client would stop, but should log in again."),
        (revocation(0, 4001), "note", "4001: a client would refresh, but should log in again."),
        (revocation(0, 1013), "problem", "1013: a client would retry later, but should log in ag"),
        (revocation(0, 1006), "problem", "The connection is dropped without a close"),
        (revocation(0, 1000), "problem", f"Closed with 1000, {NORMAL}"),
        (
            revocation(10, command=Ran(0.1, 7, DUE)),
            "problem",
            "The revoke command failed with exit status 7.",
        ),
        (
            revocation(0, 4004, command=Ran(60.01, None, DUE)),
            "problem",
            "The revoke command did not end within 60 s.",
        ),
        (
            End("revocation", Seen((), 101, close=(1000, "bye"), until=DUE), None),
            "note",
            "Not tested: the socket is closed before the command, with 1000 bye.",
        ),
        (
            End("revocation", Seen((), 101, close=(1008, "token_invalid"), until=DUE), None),
            "problem",
            "Not tested: its socket is refused: 1008 token_invalid.",
        ),
        (
            End("expiry", Seen((), 403, '{"error": "forbidden"}'), DUE),
            "problem",
            "Not tested: its socket is refused: HTTP 403 forbidden.",
        ),
        (
            End("expiry", Seen((), fault="No response within 5 s."), DUE),
            "problem",
            "Not tested: its socket is refused: No response within 5 s.",
        ),
        (
            End("expiry", Seen((), 101, left=True, until=DUE - 2), DUE),
            "note",
            "Not tested: the server sends larger messages than the probe reads.",
        ),
    ],
)
def test_an_end_is_judged_by_when_it_comes_and_by_its_code(
    seen: End, level: str | None, what: str
) -> None:
    invalid = Case("rubbish", "rubbish", ("rubbish",), Reason.INVALID, None, ())
    found = endings([seen], [(invalid, Seen((), 101, close=(4400, "")))])
    assert [one.level for one in found] == ([level] if level else [])
    assert all(one.what.startswith(what) and one.fix for one in found)


def test_a_socket_that_closes_late_with_the_wrong_code_has_both_faults() -> None:
    assert len(endings([expiry(9, 1000)])) == 2


@cases(
    "seen, text",
    [
        (expiry(0.04, 4001), "0.0 s after the expiry"),
        (revocation(-0.3, 4004), "0.3 s before the command ended"),
        (revocation(10), "still open 10.0 s after the command"),
        (End("revocation", Seen(), None), "before the command"),
    ],
)
def test_it_is_told_when_a_socket_ended(seen: End, text: str) -> None:
    assert when(seen) == text


# With real servers

REVOKE = """
import http.client, os, sys
assert not {"TOKEN", "COPY"} & set(os.environ), "the token is here"
print("revoking")
what, name, port = sys.argv[1:]
connection = http.client.HTTPConnection("127.0.0.1", int(port))
connection.request("POST", f"/revoke?{what}={os.environ['WSAUTH_' + name]}")
sys.exit(connection.getresponse().status != 200)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("uvicorn-websockets", "probed:app") as running:
        yield running


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_jwt(SECRET, token_hex(8), aud="chat", jti=token_hex(8), sid=token_hex(8))
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("TOKEN", token)
    monkeypatch.setenv("COPY", f"Bearer {token}")


@pytest.fixture
def probe(server: Server, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(path: str, *options: str, key: bool = True) -> tuple[list[str], Any]:
        """What is found about the ends, the worst first, and the end itself. The leeway is what a
        busy machine may take."""
        url = f"ws://127.0.0.1:{server.port}{path}"
        given = ["--key-env", "SECRET", "--audience", "chat"] if key else []
        args = ["--leeway", str(DEADLINE), "--patience", "0.3", "--json", *given, *options]
        exit_code = main(["probe", url, *args])
        out = capsys.readouterr().out
        data = json.loads(out)
        assert SECRET not in out and "eyJ" not in out
        found = [one for one in data["findings"] if one["cases"][:1] == ["token expires"]]
        found += [one for one in data["findings"] if one["cases"][:1] == ["token is revoked"]]
        assert exit_code == data["exit_code"]
        assert exit_code or not [one for one in found if one["level"] == "problem"]
        return [one["what"] for one in found], data["ends"][-1]

    return run


@pytest.mark.live
@pytest.mark.parametrize(
    "path, options", [("/ours/ends", []), ("/ours/ends/first", ["--first-message"])]
)
def test_a_socket_of_ours_is_seen_to_end_at_its_token_s_expiry(
    probe: Any, path: str, options: list[str]
) -> None:
    found, seen = probe(path, *options)
    assert found == []
    assert -0.5 < seen["seconds_after"] < DEADLINE
    assert (seen["cause"], seen["closed"], seen["advice"]) == ("expiry", True, "refresh")
    assert seen["browser"] == seen["program"] == {"code": 4001, "reason": "token_expired"}


@pytest.mark.live
@pytest.mark.parametrize(
    "path, options, what, browser, advice",
    [
        ("/any-origin", ["--watch", "0.3"], "The socket stays open", None, None),
        ("/ends/late", [], "The socket is closed late", 4001, "refresh"),
        ("/ends/early", [], "Not tested: the socket is closed", 1000, "stop"),
        ("/ends/1000", ["--leeway", "9"], "Closed with 1000", 1000, "stop"),
        (
            "/ends/1006",
            ["--leeway", "9"],
            "The connection is dropped without a close",
            1006,
            "refresh once, then retry later",
        ),
        ("/ends/much", [], "Not tested: the server sends larger messages", None, None),
        ("/ours/ends", ["--audience", "another"], "Not tested: its socket is", 1008, "stop"),
    ],
)
def test_sockets_of_others_are_told_apart(
    probe: Any, path: str, options: list[str], what: str, browser: int | None, advice: str | None
) -> None:
    found, seen = probe(path, "--leeway", "0.5", *options)
    assert [one[: len(what)] for one in found] == [what]
    assert (seen["browser"] and seen["browser"]["code"], seen["advice"]) == (browser, advice)
    assert seen["closed"] == (browser is not None)


@pytest.mark.live
@pytest.mark.parametrize("what, name", [("jti", "JTI"), ("sid", "SID"), ("user", "IDENTITY")])
def test_it_is_told_how_long_a_revocation_took(
    server: Server, probe: Any, what: str, name: str
) -> None:
    command = shlex.join([sys.executable, "-c", REVOKE, what, name, str(server.port)])
    options = ["--token-env", "TOKEN", "--revoke-command", command, "--watch", str(DEADLINE)]
    found, seen = probe("/ours/ends", *options, key=what == "sid")
    assert [one for one in found if "late" not in one] == []
    assert seen["cause"] == "revocation"
    assert seen["browser"] == {"code": 4004, "reason": "token_revoked"}
    assert seen["advice"] == "log in again"
    assert seen["command"]["exit_status"] == 0
    assert seen["seconds_after"] < DEADLINE


@pytest.mark.live
def test_a_socket_that_outlives_its_revocation_is_a_problem_and_so_is_a_command_that_fails(
    probe: Any,
) -> None:
    hasty = ("--token-env", "TOKEN", "--watch", "0.3", "--revoke-command")
    found, seen = probe("/any-origin", *hasty, "true", key=False)
    assert [one.partition(":")[0] for one in found] == ["The socket stays open"]
    assert not seen["closed"] and seen["seconds_after"] >= 0.3
    found, seen = probe("/any-origin", *hasty, "exit 7", key=False)
    assert found == ["The revoke command failed with exit status 7."]
    assert seen["command"]["exit_status"] == 7


def watched(target: Target, watch: Watch) -> list[End]:
    ends = []

    async def run() -> None:
        async for end in watch_ends(target, watch):
            ends.append(end)

    anyio.run(run)
    return ends


@pytest.mark.live
def test_a_command_that_hangs_is_ended_with_what_it_started(server: Server) -> None:
    target = Target(f"ws://127.0.0.1:{server.port}/open", patience=0.1)
    watch = Watch(token="opaque", seconds=0.1, command="sleep 600; true", longest=0.2)

    (seen,) = watched(target, watch)
    assert seen.command is not None and seen.command.status is None
    assert 0.2 <= seen.command.seconds < DEADLINE


@pytest.mark.live
def test_a_token_that_expired_during_its_handshake_is_followed_by_one_that_lives_longer(
    server: Server,
) -> None:
    target = Target(f"ws://127.0.0.1:{server.port}/ours/ends")
    sign = partial(make_jwt, SECRET, aud="chat")
    (seen,) = watched(target, Watch(sign, leeway=0, seconds=DEADLINE, lifetimes=(0, 3, 12)))
    assert seen.due is not None and seen.seen.opened < seen.due
    assert seen.seen.close == (4001, "token_expired")


@pytest.mark.live
def test_the_ends_are_in_the_table(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"ws://127.0.0.1:{server.port}/open"
    options = ["--revoke-command", "true", "--watch", "0.2", "--patience", "0.1"]
    assert main(["probe", url, "--token-env", "TOKEN", *options]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "token is revoked open the same still open" in out
    assert "Fix: Close what is open, in every process" in out
