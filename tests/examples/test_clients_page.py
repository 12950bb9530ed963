"""docs/guides/clients.md: its table, and its clients in JavaScript against a real server. The one
in Python has tests of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from node_clients import run_node
from pages import blocks
from servers import Server, pooled

from asgi_wsauth import Reason
from asgi_wsauth.denial import ADVICE_BY_CODE, advice

PAGE = "docs/guides/clients.md"
REACT_NATIVE, NODE = blocks(PAGE, "js")


def test_its_table_is_the_one_of_the_package() -> None:
    (block,) = blocks(PAGE, "json")
    table = json.loads(block)
    assert table.keys() == {r.phrase for r in Reason} | {str(code) for code in ADVICE_BY_CODE}
    assert table == {r.phrase: r.advice for r in Reason} | {
        str(code): advice(code) for code in ADVICE_BY_CODE
    }


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Server:
    return pooled(request.config, "uvicorn-websockets")


@pytest.mark.live
class TestBlocks:
    def seen(self, server: Server, block: str, path: str, token: str) -> list[Any]:
        """What a block called first, and with what."""
        address = "wss://chat.example/ws"
        assert address in block
        code = block.replace(address, f"ws://127.0.0.1:{server.port}{path}")
        found: list[Any] = run_node("blocks.mjs", {"code": code, "token": token})
        return found

    @pytest.mark.parametrize("block", [REACT_NATIVE, NODE], ids=["react-native", "node"])
    def test_it_gets_messages_and_the_code_and_the_phrase(self, server: Server, block: str) -> None:
        assert self.seen(server, block, "/guarded", "opaque-1")[0] == "show"
        refused = self.seen(server, block, "/guarded", "deny-EXPIRED")
        assert refused == ["closed", 4001, "token_expired"]

    def test_node_gets_the_phrase_and_the_time_of_a_refusal_over_http(self, server: Server) -> None:
        refused = self.seen(server, NODE, "/http", "deny-THROTTLED")
        assert refused == ["closed", 1006, "too_many_failures", 7]

    def test_the_command_shows_the_code_and_the_phrase(self, server: Server) -> None:
        """The last one of the block; the one before installs its library."""
        (block,) = blocks(PAGE, "console")
        command, *lines = block.rpartition("$ ")[2].splitlines()
        address = f"127.0.0.1:{server.port}/guarded"
        assert "127.0.0.1:8000/chat" in command
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with subprocess.Popen(
            ["bash", "-c", command.replace("127.0.0.1:8000/chat", address)],
            env={**os.environ, "TOKEN": "deny-EXPIRED", "PATH": path},
            stdin=subprocess.PIPE,  # which stays open: the client leaves at its end
            stdout=subprocess.PIPE,
            text=True,
        ) as client:
            assert client.stdout
            written = client.stdout.read()
        for line in lines:
            said = line.replace("127.0.0.1:8000/chat", address).replace("…", "deny-EXPIRED")
            assert said in written
