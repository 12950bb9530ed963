"""examples/quickstart.py, run as its first lines say."""

from __future__ import annotations

import pytest
from run_example import EXAMPLES, running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.live


def test_the_quickstart_admits_alice_and_nobody_else() -> None:
    with running(str(EXAMPLES / "quickstart.py")) as example:
        address = example.written.partition("\n")[0]
        assert address.startswith(f"ws://127.0.0.1:{example.port}/chat?token=")
        with connect(address, proxy=None) as websocket:
            websocket.send("hello")
            assert websocket.recv(timeout=10) == "alice: hello"
        with connect(address.partition("?")[0], proxy=None) as websocket:
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "token_missing")
    token = address.partition("token=")[2]
    assert example.written.count(token) == 1
