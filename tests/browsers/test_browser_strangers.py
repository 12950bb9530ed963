"""Strangers and a real browser: pages of other sites, and pages beside programs that come back for
ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from browser import Tab, chromium
from looping import loops
from servers import Server, serving

pytestmark = pytest.mark.live

_numbers = count(1)


@pytest.fixture(scope="module")
def uvicorn() -> Iterator[Server]:
    with serving("uvicorn-sansio", "stranger_apps:app") as server:
        yield server


@pytest.fixture
def door() -> Callable[[str], str]:
    """A path of this test's own."""
    number = next(_numbers)
    return lambda kind: f"/{kind}/{number}"


# Other sites' pages

# Twelve images and twelve sockets; resolves when all of them have failed.
_KNOCK = """
(at) => Promise.all([...Array(12).keys()].flatMap((n) => [
  new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = resolve;
    image.src = `http://${at}?token=image${n}`;
  }),
  new Promise((resolve) => {
    const socket = new WebSocket(`ws://${at}?token=socket${n}`);
    socket.onclose = resolve;
  }),
])).then(() => "done")
"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with chromium() as browser:
        yield Tab(browser)


@pytest.mark.parametrize("kind", ["throttled", "named"])
def test_a_foreign_page_does_not_lock_its_visitor_out(
    uvicorn: Server, tab: Tab, door: Callable[..., str], kind: str
) -> None:
    path, at = door(kind), f"127.0.0.1:{uvicorn.port}"
    tab.go(f"http://localhost:{uvicorn.port}/page")
    assert tab.run(_KNOCK, f"{at}{path}") == "done"
    judged = uvicorn.get(f"/judged/{path.rpartition('/')[2]}")
    assert judged == (10 if kind == "throttled" else 0)
    tab.go(f"http://{at}/page")
    seen = tab.open(f"ws://{at}{path}?token=good")
    assert seen.messages[:1] == ["hello"]
    status = tab.run("(url) => fetch(url).then((answer) => answer.status)", f"{path}?token=good")
    assert status == 200
    assert uvicorn.ask("GET", path, token="good").status == 200
    # And guesses from the visitor's own page count.
    assert tab.run(_KNOCK, f"{at}{path}") == "done"
    assert uvicorn.ask("GET", path, token="good").status == 429


@pytest.mark.parametrize("token", ["", "expired", "revoked"])
def test_pages_beside_an_endless_loop_see_their_codes(
    uvicorn: Server, tab: Tab, door: Callable[[str], str], token: str
) -> None:
    path = f"{door('door')}?token={token}"
    with ThreadPoolExecutor() as threads:  # no other event loop can run beside the browser's
        connections, status = threads.submit(lambda: asyncio.run(loops(uvicorn, path))).result()
    assert connections <= 40
    assert status == 401
    tab.go(f"http://127.0.0.1:{uvicorn.port}/page")
    expected = {
        "": (1008, "token_missing"),
        "expired": (4001, "token_expired"),
        "revoked": (4004, "token_revoked"),
    }[token]
    for _ in range(15):
        assert tab.open(f"ws://127.0.0.1:{uvicorn.port}{path}").close == expected
