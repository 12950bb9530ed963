"""Rate limiters of others inside and outside, on a real server: `limiter_apps.py` has the stacks.

Nothing of ours counts twice or refuses twice, what a limiter refuses counts for nothing here, and
one that stands inside sees no token.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from handshakes import bearer, mint
from run_example import EXAMPLES, Running, running
from servers import DEADLINE, HERE, Seen, Server, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.live

INSIDE = ["/slowapi", "/asgi_ratelimit"]
OUTSIDE = ["/outside/slowapi", "/outside/asgi_ratelimit"]
OK, UNAUTHORIZED, TOO_MANY = 200, 401, 429
INVALID = (1008, "token_invalid")
LIMITED = (1013, "too_many_messages")

_numbers = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    path = [str(HERE), str(EXAMPLES), os.environ.get("PYTHONPATH", "")]
    env = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    with serving("uvicorn-websockets", "limiter_apps:app", env=env) as server:
        yield server


class Client:
    """A client at an address that no other test has: uvicorn takes it from a proxy's header."""

    def __init__(self, server: Server, path: str) -> None:
        self.server = server
        self.path = f"{path}/somewhere"
        self.address = f"192.0.2.{next(_numbers)}"
        self._forwarded = ("x-forwarded-for", self.address)

    def token(self, user: str) -> str:
        return mint(sub=f"{user}@{self.address}", exp=4e9)

    def ask(self, user: str, *, times: int = 1) -> list[int]:
        """The statuses of requests."""
        return [self.request(bearer(self.token(user))).status for _ in range(times)]

    def request(self, headers: list[tuple[str, str]], **query: str) -> Seen:
        return self.server.ask("GET", self.path, headers=[*headers, self._forwarded], **query)

    def open(self, token: str, *say: str) -> Seen:
        """What a socket gets to see. Its app has ended by then."""
        seen = self.server.talk(self.path, say=say, headers=[self._forwarded], token=token)
        soon(lambda: not self._told["open"])
        return seen

    @property
    def events(self) -> list[str]:
        """What our observers were told of this client."""
        told: list[str] = self._told["events"]
        return told

    @property
    def seen(self) -> list[str]:
        """Each scope that a limiter saw, when it did."""
        told: list[str] = self._told["seen"]
        return told

    @property
    def seen_since(self) -> list[str]:
        """What is now in those scopes."""
        told: list[str] = self._told["seen_since"]
        return told

    @property
    def _told(self) -> Any:
        return self.server.get("/told", client=self.address)


def soon(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline


# Requests: a limiter inside


@pytest.mark.parametrize("path", INSIDE)
def test_each_user_has_a_limit_of_his_own(server: Server, path: str) -> None:
    client = Client(server, path)
    assert client.ask("alice", times=3) == [OK, OK, TOO_MANY]
    assert client.ask("bob", times=3) == [OK, OK, TOO_MANY]


@pytest.mark.parametrize("path", INSIDE)
def test_what_a_limiter_refuses_was_admitted_once_and_counts_for_nothing_here(
    server: Server, path: str
) -> None:
    client = Client(server, path)
    assert client.ask("alice", times=6) == [OK, OK, *[TOO_MANY] * 4]
    assert client.events == ["admitted"] * 6
    bad = [client.request(bearer("bad")).json for _ in range(4)]  # the throttle stands three
    assert bad == [{"error": "token_invalid"}] * 3 + [{"error": "too_many_failures"}]


@pytest.mark.parametrize("path", INSIDE)
def test_what_is_refused_here_is_refused_once_and_is_not_in_the_limiters_count(
    server: Server, path: str
) -> None:
    client = Client(server, path)
    assert [client.request(bearer("bad")).status for _ in range(3)] == [UNAUTHORIZED] * 3
    assert client.events == ["refused token_invalid"] * 3
    assert client.seen == []
    other = Client(server, path)
    assert other.ask("alice", times=3) == [OK, OK, TOO_MANY]


@pytest.mark.parametrize("path", INSIDE)
def test_a_limiter_inside_sees_no_token(server: Server, path: str) -> None:
    client = Client(server, path)
    token = client.token("alice")
    assert client.request(bearer(token)).status == OK
    assert client.request([], token=token).status == OK
    assert len(client.seen) == 2
    for scope in client.seen:
        assert client.address in scope
        assert token not in scope
        assert token.rpartition(".")[2] not in scope


@pytest.mark.parametrize("path", INSIDE)
def test_sockets_pass_a_limiter_of_requests(server: Server, path: str) -> None:
    client = Client(server, path)
    assert client.ask("alice", times=3) == [OK, OK, TOO_MANY]
    for _ in range(3):
        assert client.open(client.token("alice"), "hello").messages == ["open", "hello"]
    assert client.events == ["admitted"] * 3 + ["admitted", "closed"] * 3
    assert client.open("bad").close == INVALID


# Requests: a limiter outside


@pytest.mark.parametrize("path", OUTSIDE)
def test_where_a_limiter_outside_answers_first_nothing_is_told_or_counted_here(
    server: Server, path: str
) -> None:
    client = Client(server, path)
    assert client.ask("alice") == [OK]
    assert client.request(bearer("bad")).status == UNAUTHORIZED
    for _ in range(4):
        limited = client.request(bearer("bad"))
        assert (limited.status, b"too_many_failures" in limited.body) == (TOO_MANY, False)
    assert client.events == ["admitted", "refused token_invalid"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_limiter_outside_sees_what_the_server_gave_it_until_it_is_redacted_here(
    server: Server, path: str
) -> None:
    client = Client(server, path)
    token = client.token("alice")
    for _ in range(3):
        client.request([], token=token)
    assert [token in scope for scope in client.seen] == [True] * 3
    assert [token in scope for scope in client.seen_since] == [False, False, True]


# Sockets: a limiter outside


def test_where_a_limiter_of_sockets_answers_first_nothing_is_told_or_counted_here(
    server: Server,
) -> None:
    client = Client(server, "/outside/socket")
    assert client.open(client.token("alice"), "hello").messages == ["open", "hello"]
    assert client.open("bad").close == INVALID
    for _ in range(4):
        assert client.open("bad").status == 403
        assert client.open(client.token("alice")).status == 403
    assert client.events == ["admitted", "closed", "refused token_invalid"]


def test_a_token_that_a_limiter_outside_refuses_is_in_the_servers_log(server: Server) -> None:
    """Nobody has taken it out of the scope: the reason to prefer tickets, or the log filter."""
    client = Client(server, "/outside/socket")
    token = client.token("alice")
    start = len(server.log())
    for _ in range(2):
        client.open(token)
    assert token not in server.log()[start:]
    assert client.open(token).status == 403
    soon(lambda: '" 403' in server.log()[start:])
    assert token in server.log()[start:]


# Messages


def test_each_user_has_a_limit_of_messages_over_all_of_his_sockets(server: Server) -> None:
    client = Client(server, "/chat")
    alice, bob = client.token("alice"), client.token("bob")
    assert client.open(alice, "1").close is None
    second = client.open(alice, "2", "3")
    assert (second.messages, second.close) == (["open", "2"], LIMITED)
    assert client.open(bob, "1", "2").close is None


def test_nor_does_another_address_help(server: Server) -> None:
    here, elsewhere = Client(server, "/chat"), Client(server, "/chat")
    token = here.token("alice")
    assert here.open(token, "1", "2", "3").close == LIMITED
    assert elsewhere.open(token, "1").close == LIMITED


def test_a_socket_that_a_limiter_closes_is_admitted_once_closed_once_and_holds_no_slot(
    server: Server,
) -> None:
    client = Client(server, "/chat")
    for messages in (["1", "2", "3"], ["4"], ["5"]):  # a user may have one connection
        assert client.open(client.token("alice"), *messages).close == LIMITED
    assert client.events == ["admitted", "closed"] * 3
    refused = [client.open("bad").close for _ in range(4)]
    assert refused == [INVALID] * 3 + [(1013, "too_many_failures")]


def test_a_limiter_of_messages_sees_no_token(server: Server) -> None:
    client = Client(server, "/chat")
    token = client.token("alice")
    client.open(token, "1")
    (scope,) = client.seen
    assert client.address in scope
    assert token not in scope


# What fastapi-limiter does by itself, and why the example does not leave it at that


def test_by_default_a_message_too_many_is_an_abnormal_close(server: Server) -> None:
    client = Client(server, "/defaults")
    assert client.open(client.token("alice"), "1", "2", "3").close == (1006, "")


def test_by_default_a_header_that_anybody_can_send_is_the_identity(server: Server) -> None:
    here, elsewhere = Client(server, "/defaults"), Client(server, "/defaults")
    token = here.token("alice")
    assert here.open(token, "1", "2", "3").close == (1006, "")
    assert elsewhere.open(token, "1", "2").close is None


def test_one_rate_alone_is_one_limit_for_everybody(server: Server) -> None:
    client = Client(server, "/one_bucket")
    assert client.open(client.token("alice"), "1", "2").close is None
    assert client.open(client.token("bob"), "1").close == LIMITED


# examples/rate_limits.py, run as its first lines say


@pytest.fixture(scope="module")
def example() -> Iterator[Running]:
    with running(str(EXAMPLES / "rate_limits.py")) as example:
        yield example


def test_the_example_limits_what_alice_says(example: Running) -> None:
    token = example.written.partition("token=")[2].partition("\n")[0]
    with connect(f"ws://127.0.0.1:{example.port}/chat?token={token}", proxy=None) as ws:
        for _ in range(20):
            ws.send("hello")
            assert ws.recv(timeout=10) == "alice: hello"
        ws.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == LIMITED


def test_the_example_limits_what_alice_asks(example: Running) -> None:
    token = example.written.partition("Bearer ")[2].partition('"')[0]
    seen = [example.ask("GET", "/me", headers=bearer(token)) for _ in range(6)]
    assert [answer.status for answer in seen] == [OK] * 5 + [TOO_MANY]
    assert seen[0].json == {"identity": "alice"}
    assert example.ask("GET", "/me").json == {"error": "token_missing"}
