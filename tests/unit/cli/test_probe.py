"""`python -m asgi_wsauth probe`, with real servers behind every address that it probes."""

from __future__ import annotations

import gc
import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Thread
from typing import Any, NamedTuple

import pytest
from handshakes import SECRET
from run_example import EXAMPLES, running
from servers import DEADLINE, Server, free_port, serving
from websockets.utils import accept_key

from asgi_wsauth.cli import main, report
from asgi_wsauth.cli.target import Case, Target, cases
from asgi_wsauth.testing import make_jwt

pytestmark = pytest.mark.live

PAGES = "https://chat.example"
REFUSED = {"no_token", "rubbish", "alg_none", "forged", "expired", "subprotocol"}
EVERYBODY = REFUSED | {"twice", "foreign_origin"}
ALL = EVERYBODY | {"good"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("uvicorn-websockets", "probed:app") as running:
        yield running


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("TOKEN", make_jwt(SECRET, aud="chat"))


class Probed(NamedTuple):
    """What a probe found out."""

    exit_code: int
    data: Any

    def found(self, level: str) -> list[str]:
        return [one["what"] for one in self.data["findings"] if one["level"] == level]

    def cases(self, what: str) -> set[str]:
        """The names of the cases that show something."""
        (one,) = [one for one in self.data["findings"] if what in one["what"]]
        return {self.names[title] for title in one["cases"]}

    @property
    def names(self) -> dict[str, str]:
        return {case["title"]: case["name"] for case in self.data["cases"]}

    def case(self, name: str) -> Any:
        (case,) = [case for case in self.data["cases"] if case["name"] == name]
        return case


Patience = Callable[..., None]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Names the cases whose sockets stay open, so that they are listened to shortly. All others end
    by themselves, however long a busy server takes for that."""
    connect = report.connect_as

    def be_patient(stays: Collection[str] = ("good",)) -> None:
        def connect_as(target: Target, case: Case) -> Any:
            listens = 0.1 if case.name in stays else DEADLINE
            return connect(replace(target, patience=listens), case)

        monkeypatch.setattr(report, "connect_as", connect_as)

    be_patient()
    return be_patient


@pytest.fixture
def probe(server: Server, capsys: pytest.CaptureFixture[str], patience: Patience) -> Any:
    def run(
        path: str,
        *options: str,
        good: bool = False,
        stays: Collection[str] = ("good",),
    ) -> Probed:
        """With the key, and with a good token where it is asked for."""
        patience(stays)
        url = path if "://" in path else f"ws://127.0.0.1:{server.port}{path}"
        given = ["--token-env", "TOKEN"] if good else []
        args = ["--key-env", "SECRET", "--audience", "chat", "--json"]
        args += ["--watch", "0"]  # see test_endings.py
        exit_code = main(["probe", url, *args, *given, *options])
        out, err = capsys.readouterr()
        assert err == ""
        data = json.loads(out)
        assert data["exit_code"] == exit_code
        assert SECRET not in out and os.environ["TOKEN"] not in out
        return Probed(exit_code, data)

    return run


# Guards of this package


@pytest.mark.parametrize(
    "path, options",
    {
        "query": ("/ours/origin", []),
        "authorization": ("/ours/header", ["--header", "authorization"]),
        "header": ("/ours/x-token", ["--header", "x-token"]),
        "subprotocol": ("/ours/subprotocol", ["--subprotocol", "bearer"]),
        "cookie": ("/ours/cookie", ["--cookie", "session"]),
        "first message": ("/ours/first-message", ["--first-message", "--offer", "chat.v1"]),
    }.values(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_wrong_with_a_guard_of_this_package_wherever_the_token_travels(
    probe: Any, path: str, options: list[str]
) -> None:
    probed = probe(path, "--origin", PAGES, *options, good=True)
    assert (probed.exit_code, probed.data["findings"]) == (0, [])
    codes = {case["name"]: case["browser"] for case in probed.data["cases"]}
    none = "token_malformed" if "--first-message" in options else "token_missing"
    assert codes.pop("twice", None) == (
        None if "--first-message" in options else {"code": 1008, "reason": "token_malformed"}
    )
    invalid = {"code": 1008, "reason": "token_invalid"}
    assert codes == {
        "no_token": {"code": 1008, "reason": none},
        "rubbish": invalid,
        "alg_none": invalid,
        "forged": invalid,
        "expired": {"code": 4001, "reason": "token_expired"},
        "foreign_origin": {"code": 1008, "reason": "origin_not_allowed"},
        "subprotocol": invalid,
        "good": None,
    }


def test_nothing_is_wrong_with_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    with running(str(EXAMPLES / "demo.py"), "--port", "0", until="Ctrl+C ends it") as demo:
        found = re.search(r"http://(127\.0\.0\.1:\d+)", demo.written)
        assert found
        assert main(["probe", f"ws://{found[1]}/ws/accept_then_close/1"]) == 0
    out, err = capsys.readouterr()
    assert "Found nothing wrong." in out and err == ""
    assert "origin_not_allowed" in out


def test_nothing_is_wrong_on_daphne_with_its_own_codes(
    capsys: pytest.CaptureFixture[str], patience: Patience
) -> None:
    patience({"good", "foreign_origin"})
    with serving("daphne", "probed:app") as daphne:
        url = f"ws://127.0.0.1:{daphne.port}/ours/daphne"
        options = ["--key-env", "SECRET", "--token-env", "TOKEN", "--audience", "chat", "--json"]
        options += ["--watch", "0"]
        assert main(["probe", url, *options]) == 0
    cases = json.loads(capsys.readouterr().out)["cases"]
    codes = {case["name"]: case["browser"] and case["browser"]["code"] for case in cases}
    assert codes == dict.fromkeys(REFUSED | {"twice"}, 3000) | {
        "expired": 4001,
        "foreign_origin": None,
        "good": None,
    }


# Guards of others


@pytest.mark.parametrize("path", ["/starlette/", "/fastapi/"])
def test_close_codes_that_other_guards_lose_are_named(probe: Any, path: str) -> None:
    probed = probe(path, good=True, stays=ALL - REFUSED)
    assert probed.exit_code == 3
    lost = "Refused before accept: browsers see 1006 and no reason."
    assert probed.found("problem") == [lost, "A token that is given twice is accepted."]
    assert probed.cases(lost) == REFUSED
    rubbish = probed.case("rubbish")
    assert (rubbish["http_status"], rubbish["program"]) == (403, None)
    assert rubbish["browser"] == {"code": 1006, "reason": ""}
    assert probed.found("note") == [
        "Any origin is admitted. That is safe as long as no cookie is accepted."
    ]


def test_an_app_without_a_guard_admits_everybody(probe: Any) -> None:
    probed = probe("/open", good=True, stays=ALL)
    assert (probed.exit_code, probed.found("admitted")) == (1, ["Admitted, but must be refused."])
    assert probed.cases("must be refused") == EVERYBODY
    assert "--first-message" in probed.data["findings"][0]["fix"]


def test_an_app_without_a_guard_that_ends_by_itself_counts_as_open(probe: Any) -> None:
    probed = probe("/open/ends", good=True, stays=())
    assert probed.exit_code == 1
    assert probed.cases("Probably admitted: closed at once with 1000") == EVERYBODY
    assert probed.found("note") == ["Admitted, and closed by the app at once: 1000 bye."]
    assert probed.case("good")["spoke"]


@pytest.mark.parametrize(
    "path, holes",
    [
        ("/expiry", {"expired"}),
        ("/alg-none", {"alg_none"}),
        ("/unverified", {"alg_none", "forged", "expired"}),
    ],
)
def test_every_hole_in_a_guard_is_named_with_its_mend(
    probe: Any, path: str, holes: set[str]
) -> None:
    probed = probe(path, stays=holes)
    found = [one for one in probed.data["findings"] if one["level"] == "admitted"]
    assert probed.exit_code == 1
    assert len({one["fix"] for one in found}) == len(holes)
    assert {probed.names[title] for one in found for title in one["cases"]} == holes


@pytest.mark.parametrize(
    "options", [["--origin", PAGES], ["--cookie", "token"]], ids=["pages", "cookie"]
)
def test_a_foreign_origin_that_is_admitted_counts_where_pages_or_a_cookie_do(
    probe: Any, options: list[str]
) -> None:
    probed = probe("/any-origin", *options, good=True, stays=ALL - REFUSED)
    assert (probed.exit_code, probed.cases("must be refused")) == (1, {"foreign_origin"})
    assert "allowed_origins" in probed.data["findings"][0]["fix"]


@pytest.mark.parametrize(
    "path, level, what, cases",
    [
        ("/1008", "problem", "1008: a client would stop, but should refresh.", {"expired"}),
        ("/1011", "problem", "1011: a client would retry later, but should stop.", None),
        ("/4001", "note", "4001: a client would refresh, but should stop.", None),
        ("/4000", "problem", "4000: a client would stop, but should refresh.", {"expired"}),
        (
            "/expired-first",
            "problem",
            "4001 token_expired: a client would refresh, but should stop.",
            None,
        ),
        ("/busy", "problem", "The server could not decide: too_many_failures.", REFUSED),
        ("/503", "problem", "The server could not decide: HTTP 503.", REFUSED),
        (
            "/nothing",
            "problem",
            "The app fails or doesn't respond (HTTP 500): browsers see 1006.",
            REFUSED,
        ),
        (
            "/breaks",
            "problem",
            "Accepted, then dropped without a close: clients take it for a network failure.",
            REFUSED,
        ),
        (
            "/no-protocol",
            "problem",
            "Refused, but no offered subprotocol is chosen: browsers see 1006 and no reason.",
            {"subprotocol"},
        ),
        (
            "/other-protocol",
            "problem",
            "It accepts with 'chat.v1', which wasn't offered: every client fails.",
            REFUSED,
        ),
    ],
)
def test_a_refusal_that_tells_the_wrong_thing_is_named(
    probe: Any, path: str, level: str, what: str, cases: set[str] | None
) -> None:
    probed = probe(path)
    assert what in probed.found(level)
    assert probed.cases(what) - {"twice", "foreign_origin"} == (cases or REFUSED - {"expired"})
    assert probed.exit_code == (3 if probed.found("problem") else 0)
    assert probed.found("admitted") == []


def test_a_refusal_by_1000_is_one_if_a_good_token_stays(probe: Any) -> None:
    what = "Closed with 1000, which means a normal closure."
    probed = probe("/1000", good=True, stays=ALL - REFUSED)
    assert (probed.exit_code, probed.cases(what)) == (3, REFUSED)
    assert probe("/1000").exit_code == 1


@pytest.mark.parametrize("path", ["/own", "/told"])
def test_codes_of_an_app_s_own_that_tell_expiry_apart_are_good(probe: Any, path: str) -> None:
    assert probe(path).found("problem") == []


@pytest.fixture
def two_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that waits for the timeout in each: a busy machine needs one that it can connect
    within."""
    monkeypatch.setattr(report, "cases", lambda *args, **given: cases(*args, **given)[:2])


@pytest.mark.usefixtures("two_cases")
def test_a_handshake_that_is_not_answered_is_named(probe: Any) -> None:
    probed = probe("/hangs", "--timeout", "1")
    assert probed.found("problem") == ["No response within 1 s."]
    assert probed.exit_code == 3


def test_a_token_that_is_echoed_as_subprotocol_is_named_and_not_printed(probe: Any) -> None:
    probed = probe("/token-protocol", "--subprotocol", "bearer", good=True, stays=ALL)
    assert probed.cases("The server echoes the token") >= {"rubbish", "good"}
    assert probed.case("good")["subprotocol"] == "the token"


def test_a_good_token_that_is_refused_is_named(probe: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TOKEN", make_jwt(SECRET, aud="another"))
    probed = probe("/ours", good=True, stays=())
    assert probed.found("problem") == ["The good token is refused: 1008 token_invalid."]
    probed = probe("/starlette/", good=True, stays=())
    assert probed.cases("The good token is refused: HTTP 403.") == {"good"}


def test_a_good_socket_that_answers_no_subprotocol_is_named(probe: Any) -> None:
    probed = probe("/open", "--offer", "chat.v1", good=True, stays=ALL)
    what = "Admitted, but no offered subprotocol is chosen: browsers see 1006 and no reason."
    assert probed.cases(what) == {"good"}
    assert probed.case("good")["browser"] == {"code": 1006, "reason": ""}


def test_an_expired_token_that_lacks_a_claim_is_said_to_be_one(probe: Any) -> None:
    probed = probe("/ours", "--audience", "another")
    what = "1008 token_invalid: a client would stop, but should refresh."
    (found,) = [one for one in probed.data["findings"] if one["what"] == what]
    assert "requires claims that this token lacks, pass --audience and --issuer" in found["fix"]


def test_without_the_key_only_a_bad_signature_is_judged_and_said(
    capsys: pytest.CaptureFixture[str], server: Server
) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    assert main(["probe", f"{url}/ours"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "badly signed, expired 1008 token_invalid the same refused" in out
    assert "its expiry isn't tested. Fix: Pass the key: --key-env NAME." in out
    assert (
        "not whether a client is admitted, from which origins, or with a token given twice" in out
        and "--token-env NAME" in out
    )
    assert main(["probe", f"{url}/expired-first"]) == 3
    assert "A badly signed token is reported as expired." in capsys.readouterr().out


# Where there is no endpoint


@contextmanager
def answering(reply: bytes | None) -> Iterator[int]:
    """A server that gives one answer to everybody, or none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while reply is not None:
                    tcp, _ = listener.accept()
                    with tcp:
                        tcp.recv(65536)
                        tcp.sendall(reply)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def unreachable(capsys: pytest.CaptureFixture[str], url: str, *options: str) -> str:
    assert main(["probe", url, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"asgi-wsauth: no WebSocket at {url}: ")
    return err


@pytest.mark.parametrize("path, status", [("/404", 404), ("/redirect", 307)])
def test_an_address_without_a_websocket_is_no_finding_and_no_redirect_is_followed(
    server: Server, capsys: pytest.CaptureFixture[str], path: str, status: int
) -> None:
    err = unreachable(capsys, f"ws://127.0.0.1:{server.port}{path}")
    assert err.endswith(f": every handshake gets HTTP {status}\n")


def test_a_port_where_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that nobody else is given this port
        port = deaf.getsockname()[1]
        assert "Connect call failed" in unreachable(capsys, f"ws://127.0.0.1:{port}/")


@pytest.fixture
def set_proxy(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    for name in ("all_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda port: monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")


# websockets leaves the connection to a proxy open that it no longer waits for.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_silent_proxy(
    capsys: pytest.CaptureFixture[str], set_proxy: Callable[[int], None]
) -> None:
    with answering(None) as port:
        set_proxy(port)
        err = unreachable(capsys, "ws://chat.example/", "--timeout", "0.2")
        assert "no connection within 0.2 s" in err
    gc.collect()


def test_a_proxy_that_says_no(
    capsys: pytest.CaptureFixture[str], set_proxy: Callable[[int], None]
) -> None:
    with answering(b"HTTP/1.1 403 \x1b[31mNo\r\n\r\n") as port:
        set_proxy(port)
        err = unreachable(capsys, "ws://chat.example/")
        assert "proxy error: " in err and "\x1b" not in err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_this_machine(
    server: Server, probe: Any, set_proxy: Callable[[int], None], host: str
) -> None:
    set_proxy(free_port())
    assert probe(f"ws://{host}:{server.port}/1008", "--timeout", "9").exit_code == 3


@pytest.mark.parametrize(
    "reply, what",
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "The connection was lost before a response."),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
            "invalid Sec-WebSocket-Accept header: no: every client fails.",
        ),
    ],
)
def test_an_answer_that_is_no_handshake_is_named(probe: Any, reply: bytes, what: str) -> None:
    with answering(reply) as port:
        probed = probe(f"ws://127.0.0.1:{port}/")
    assert (probed.exit_code, probed.found("problem")) == (3, [what])


# Servers that want to do harm

MOST = 8 * 1024 * 1024  # bytes that one of them sends at most

KNOCK = """
import sys, tracemalloc
import anyio
from asgi_wsauth.cli.probe import connect_as
from asgi_wsauth.cli.target import Target, cases

tracemalloc.start()
for url in sys.argv[1:]:
    target = Target(url, timeout=1, patience=0.5)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    anyio.run(connect_as, target, cases(target)[0])
    print(tracemalloc.get_traced_memory()[1] - before)
"""


class Hostile:
    """A server that sends `reply` to everybody, and then `more`, again and again, until the client
    is gone or it has sent a great deal."""

    def __init__(self, reply: bytes, more: bytes, pause: float) -> None:
        self.reply, self.more, self.pause = reply, more, pause
        self.most = MOST

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                tcp, _ = listener.accept()
                with tcp:
                    tcp.settimeout(DEADLINE)
                    self.answer(tcp)

    def answer(self, tcp: socket.socket) -> None:
        asked = tcp.recv(65536)
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", asked)
        assert key
        sent = 0
        with suppress(OSError):
            tcp.sendall(self.reply.replace(b"KEY", accept_key(key[1].decode()).encode()))
            while sent < self.most:
                sent += tcp.send(self.more)
                time.sleep(self.pause)


@contextmanager
def hostile(reply: bytes, more: bytes, pause: float = 0, most: int = MOST) -> Iterator[str]:
    """Its address."""
    server = Hostile(reply, more, pause)
    server.most = most
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


OPENED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: KEY\r\n"
)
BLOCK = b"x" * 65536


ENDLESS = {
    "a frame without end": (OPENED + b"\r\n\x82\x7f" + (1 << 40).to_bytes(8, "big"), BLOCK),
    "a message without end": (OPENED + b"\r\n\x02\x01x", b"\x00\x7e\xff\xff" + BLOCK[1:]),
    "headers without end": (b"HTTP/1.1 401 No\r\n", b"x-a: " + b"x" * 4000 + b"\r\n"),
    "a header without end": (b"HTTP/1.1 401 No\r\nx-a: ", BLOCK),
    "headers without end, accepted": (OPENED, b"x-a: " + b"x" * 4000 + b"\r\n"),
    "a status line without end": (b"HTTP/1.1 401 ", BLOCK),
    "a body without end": (b"HTTP/1.1 401 No\r\n\r\n", BLOCK),
    "a long body": (b"HTTP/1.1 401 No\r\nContent-Length: 99999999999\r\n\r\n", BLOCK),
    "chunks without end": (
        b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + BLOCK + b"\r\n",
    ),
}


def test_a_server_that_sends_without_end_fills_no_memory() -> None:
    """What comes after the end of patience is read and dropped, for a second or two."""
    with ExitStack() as stack:
        urls = [stack.enter_context(hostile(*sends)) for sends in ENDLESS.values()]
        done = subprocess.run(
            [sys.executable, "-c", KNOCK, *urls], capture_output=True, text=True, timeout=60
        )
    assert done.stderr == ""
    peaks = dict(zip(ENDLESS, map(int, done.stdout.split()), strict=True))
    assert {what for what, peak in peaks.items() if peak >= MOST / 2} == set()


@pytest.mark.parametrize(
    "reply, more, seen",
    {
        "headers": (b"HTTP/1.1 401 No\r\n", b"a: b\r\n", "No response within 1 s."),
        "body": (
            b"HTTP/1.1 401 No\r\nContent-Length: 99999\r\n\r\n",
            b"x",
            "No response within 1 s.",
        ),
        "messages": (OPENED + b"\r\n", b"\x81\x01x", None),
        "pings": (OPENED + b"\r\n", b"\x89\x01x", None),
        "a frame": (OPENED + b"\r\n\x82\x7e\xff\xff", b"x", None),
    }.values(),
    ids=lambda value: "",
)
@pytest.mark.usefixtures("two_cases")
def test_a_server_that_sends_drop_by_drop_is_not_waited_for_without_end(
    probe: Any, reply: bytes, more: bytes, seen: str | None
) -> None:
    with hostile(reply, more, pause=0.02) as url:
        probed = probe(url, "--timeout", "1" if seen else str(DEADLINE), stays=ALL)
    assert probed.found("problem") == ([] if seen is None else [seen])
    assert bool(probed.found("admitted")) == (seen is None)


def test_who_is_told_the_code_is_refused_though_the_connection_stays_open(probe: Any) -> None:
    refusal = b"\x88\x0f\x03\xf0token_missing"
    with hostile(OPENED + b"\r\n" + refusal, b"\x8a\x00", pause=0.02) as url:
        probed = probe(url, stays=ALL)
    assert probed.found("admitted") == []
    assert probed.case("no_token")["browser"] == {"code": 1008, "reason": "token_missing"}


def test_who_is_sent_a_great_deal_has_got_in(probe: Any) -> None:
    great = OPENED + b"\r\n\x82\x7f" + (1 << 20).to_bytes(8, "big")
    with hostile(great, BLOCK, most=1 << 20) as url:
        probed = probe(url)
    assert probed.exit_code == 1
    assert probed.case("no_token")["outcome"] == "admitted"
    assert probed.case("no_token")["spoke"]


@pytest.mark.parametrize("name", ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"])
def test_what_is_told_of_an_odd_answer_is_short(probe: Any, name: str) -> None:
    odd = f"{name}: {'x' * 5000}\r\n".encode()
    with hostile(OPENED + odd + b"\r\n", b"x", pause=0.01) as url:
        probed = probe(url)
    assert all(len(told) < 400 for told in probed.found("problem"))


@pytest.mark.parametrize(
    "path, option",
    [
        ("/ours/origin", "--query"),
        ("/ours/header", "--header"),
        ("/ours/subprotocol", "--subprotocol"),
    ],
)
def test_a_place_without_a_name_has_the_name_that_its_source_has(
    probe: Any, path: str, option: str
) -> None:
    probed = probe(path, "--origin", PAGES, option, good=True)
    assert (probed.exit_code, probed.data["findings"]) == (0, [])


@pytest.mark.parametrize("option", ["--query", "--header", "--subprotocol", "--cookie"])
def test_the_address_is_no_name(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["probe", option, "ws://127.0.0.1:8000/ws"])
    assert ended.value.code == 2
    assert "put the URL before this option" in capsys.readouterr().err


def test_a_token_in_clear_to_another_machine_is_noted(
    server: Server, probe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by way of this machine's own name."""
    real = socket.getaddrinfo

    def resolve(host: Any, *more: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "chat.example" else host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("no_proxy", "*")
    probed = probe(f"ws://chat.example:{server.port}/ours")
    assert probed.exit_code == 0
    assert "Tokens travel unencrypted to another machine." in probed.found("note")


# What is printed


def test_a_table_shows_what_a_browser_sees_and_what_a_program_does(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"ws://127.0.0.1:{server.port}"
    given = ["--key-env", "SECRET", "--token-env", "TOKEN", "--audience", "chat", "--watch", "0"]
    rows = {
        "/ours/origin": [
            r"no token +1008 token_missing +the same +refused",
            r"expired +4001 token_expired +the same +refused",
            r"good token +open +the same +admitted",
        ],
        "/no-protocol": [r"subprotocol offered +1006 +1008 +refused"],
        "/other-protocol": [r"no token +1006 +invalid response +refused"],
        "/starlette/": [r"no token +1006 +HTTP 403 +refused"],
    }
    for path, expected in rows.items():
        more = given if path == "/ours/origin" else ["--offer", "unknown"]
        main(["probe", f"{url}{path}", "--origin", PAGES, *more])
        out = capsys.readouterr().out
        assert f"{url}{path}, token in query parameter token" in out
        assert all(re.search(row, out) for row in expected), out
        assert ("Fix: " in out) == (path != "/ours/origin"), out


def test_nothing_that_a_server_sends_moves_the_cursor_or_is_read_as_markup(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("/ugly", "/ugly/http"):
        main(["probe", f"ws://127.0.0.1:{server.port}{path}"])
        out = capsys.readouterr().out
        assert "[red]a\\x1b[31mb" in out
        assert "\x1b" not in out and "\u202e" not in out
        main(["probe", f"ws://127.0.0.1:{server.port}{path}", "--json"])
        out = capsys.readouterr().out
        assert out.isascii() and "\x1b" not in out


RUNS = """
import json, os, sys
from asgi_wsauth.cli import main

for env, *arguments in json.loads(sys.argv[1]):
    os.environ.update(env)
    main(arguments)
    print(end="\\f", flush=True)
"""


def on_a_terminal(*runs: Sequence[Any]) -> tuple[list[str], str]:
    """What a process writes to its stdout in each of these runs, and all that it writes to its
    stderr; both are terminals. A run is more environment, and arguments."""
    ends = [pty.openpty(), pty.openpty()]
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, json.dumps(runs)],
        stdin=subprocess.DEVNULL,
        stdout=ends[0][1],
        stderr=ends[1][1],
        env={**inherited, "TERM": "xterm", "COLUMNS": "80"},
    )
    said = ["", ""]

    def read(number: int) -> None:
        with suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ends[number][0], 4096):
                said[number] += data.decode()

    threads = [Thread(target=read, args=(number,)) for number in (0, 1)]
    for thread, (_, theirs) in zip(threads, ends, strict=True):
        thread.start()
        os.close(theirs)
    process.wait(3 * DEADLINE)
    for thread, (mine, _) in zip(threads, ends, strict=True):
        thread.join()
        os.close(mine)
    return said[0].split("\f")[:-1], said[1]


def test_a_terminal_gets_a_progress_bar_and_colours(server: Server) -> None:
    url, unguarded = (f"ws://127.0.0.1:{server.port}{path}" for path in ("/starlette/", "/open"))
    hasty = ("--patience", "0.05")
    runs = [({}, "probe", url), ({}, "probe", unguarded), ({"NO_COLOR": "1"}, "probe", url)]
    (out, out_of_order, colourless), err = on_a_terminal(*((*run, *hasty) for run in runs))
    assert "Probing" in err and "\x1b[" in err
    assert "problem" in out and "\x1b[" in out
    assert "Probing" not in out
    red = "\x1b[1;31m"
    assert red not in out
    assert out_of_order.count(f"{red}admitted") == 1 + len(EVERYBODY)
    assert "problem" in colourless and not re.search(r"\x1b\[3\d", colourless)
    assert max(map(len, re.sub(r"\x1b\[[\d;]*m", "", colourless).splitlines())) <= 80


def test_whatever_is_no_terminal_gets_neither(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"ws://127.0.0.1:{server.port}/starlette/"
    assert main(["probe", url, "--patience", "0.05"]) == 3
    out, err = capfd.readouterr()
    assert err == ""
    assert "browsers see 1006" in out
    assert "\x1b" not in out
