"""examples/one_policy.py, run as its first lines say: one policy for requests and for sockets."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from run_example import EXAMPLES, Running, running

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "one_policy.py"

ALICE = {"identity": "alice", "display_name": "Alice"}
LOCAL = {"identity": "local", "display_name": "local"}

# The example, with APP_AUTH_REQUIRED changed in its own os.environ for each line of its input.
SWITCHED = """
import os, sys, threading
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import one_policy, uvicorn

def switch():
    for line in sys.stdin:
        os.environ["APP_AUTH_REQUIRED"] = line.strip()
        print("switched", flush=True)

threading.Thread(target=switch, daemon=True).start()
print(one_policy.hints(0))
uvicorn.run(one_policy.app, host="127.0.0.1", port=int(os.environ["PORT"]))
"""


class Example:
    """The running example, as its users talk to it."""

    def __init__(self, process: Running) -> None:
        self.process = process
        tokens = re.findall("TOKEN=(.*)", process.written)
        self.tokens = dict(zip(("alice", "bob", "mallory", "expired"), tokens, strict=True))
        command = re.search(r'sqlite3 (\S+) "(UPDATE .*)"', process.written)
        assert command, process.written
        self.database, self.disable_alice = Path(command[1]), command[2]

    def ask(self, method: str, path: str, whose: str | None = None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        headers = [("Content-Type", "application/json")]
        if whose is not None:
            headers.append(("Authorization", f"Bearer {self.tokens[whose]}"))
        seen = self.process.ask(method, path, headers=headers, body=b'{"text": "hello"}')
        return seen.status, seen.json

    def open(self, path: str, whose: str | None = None) -> tuple[Any, ...]:
        """What a socket gets: the user and the answer to a message, or the close."""
        token = None if whose is None else self.tokens[whose]
        seen = self.process.talk(path, say=["hello"], token=token)
        return seen.close or (seen.report, *seen.messages[1:])

    def change_users(self, statement: str) -> None:
        with closing(sqlite3.connect(self.database)) as db, db:
            assert db.execute(statement).rowcount == 1


@contextmanager
def one_policy(*arguments: str, **env: str) -> Iterator[Example]:
    with running(*arguments, **env) as process:
        example = Example(process)
        yield example
    log = re.sub("(?m)^TOKEN=.*", "", process.written)
    assert not any(token in log for token in example.tokens.values()), log


@pytest.fixture(scope="module")
def example() -> Iterator[Example]:
    with one_policy(str(EXAMPLE)) as example:
        yield example
    assert not example.database.parent.exists()


def test_a_request_and_both_sockets_have_the_same_user(example: Example) -> None:
    assert example.ask("GET", "/me", "alice") == (200, ALICE)
    assert example.open("/chat", "alice") == (ALICE, "Alice: hello")
    assert example.open("/terminal", "alice") == (ALICE, "alice$ hello")


@pytest.mark.parametrize("path", ["/me", "/openapi.json", "/nowhere"])
def test_a_request_without_a_login_gets_nowhere(example: Example, path: str) -> None:
    assert example.ask("GET", path) == (401, {"error": "token_missing"})


@pytest.mark.parametrize("path", ["/chat", "/terminal", "/nowhere"])
def test_a_socket_without_a_login_gets_nowhere(example: Example, path: str) -> None:
    assert example.open(path) == (1008, "token_missing")


def test_only_what_is_excluded_is_public(example: Example) -> None:
    assert example.ask("GET", "/health") == (200, {"status": "ok"})


def test_writing_takes_the_scope(example: Example) -> None:
    assert example.ask("POST", "/messages", "alice") == (201, {"from": "Alice", "text": "hello"})
    assert example.ask("POST", "/messages", "bob") == (403, {"detail": "Forbidden"})
    assert example.ask("GET", "/me", "bob")[0] == 200


def test_each_socket_has_its_own_code_for_an_expired_login(example: Example) -> None:
    assert example.open("/terminal", "expired") == (4001, "token_expired")
    assert example.open("/chat", "expired") == (1008, "token_expired")
    assert example.open("/nowhere", "expired")[1] == "token_expired"
    assert example.ask("GET", "/me", "expired") == (401, {"error": "token_expired"})


@pytest.mark.parametrize("path", ["/chat", "/terminal"])
def test_a_disabled_user_is_out(example: Example, path: str) -> None:
    assert example.open(path, "mallory") == (4004, "token_revoked")
    assert example.ask("GET", "/me", "mallory") == (401, {"error": "token_revoked"})


def test_disabling_a_user_counts_from_the_next_try(example: Example) -> None:
    assert example.ask("GET", "/me", "alice")[0] == 200
    example.change_users(example.disable_alice)
    try:
        assert example.ask("GET", "/me", "alice") == (401, {"error": "token_revoked"})
        assert example.open("/chat", "alice") == (4004, "token_revoked")
        assert example.open("/terminal", "alice") == (4004, "token_revoked")
        assert example.ask("GET", "/me", "bob")[0] == 200
    finally:
        example.change_users("UPDATE users SET active = 1 WHERE id = 'alice'")
    assert example.ask("GET", "/me", "alice") == (200, ALICE)
    assert example.open("/chat", "alice") == (ALICE, "Alice: hello")


def test_the_environment_turns_login_off_and_on_for_both_at_once(tmp_path: Path) -> None:
    def everywhere() -> tuple[Any, ...]:
        sockets = example.open("/chat"), example.open("/terminal")
        return example.ask("GET", "/me"), *(socket[0] for socket in sockets)

    on = ((401, {"error": "token_missing"}), 1008, 1008)
    off = ((200, LOCAL), LOCAL, LOCAL)
    database = tmp_path / "users.db"
    settings = {"APP_AUTH_REQUIRED": "false", "DATABASE": str(database)}
    switched = tmp_path / "switched.py"
    switched.write_text(SWITCHED)
    with one_policy(str(switched), str(EXAMPLE), **settings) as example:
        assert everywhere() == off
        assert example.ask("POST", "/messages")[0] == 201  # "local" may write
        assert example.open("/chat", "expired")[0] == LOCAL  # nobody looks at a credential
        stdin = example.process.process.stdin
        for value, expected in (("true", on), ("false", off), ("true", on)):
            print(value, file=stdin, flush=True)
            example.process.wait_for("switched")
            assert everywhere() == expected
        assert example.ask("GET", "/me", "alice") == (200, ALICE)
        assert example.open("/chat", "alice")[0] == ALICE
    assert database.exists()
