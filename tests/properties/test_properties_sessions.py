"""Whatever is sent to a `SessionsEndpoint`: it answers, tells its observers once, and ends only
what is the user's own, and was clearly named."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest
from endpoint_sessions import ISSUER, Site, Socket
from hurry import hurried
from hypothesis import given
from hypothesis import strategies as st
from strategies import LATIN, examples
from strict import run

pytestmark = pytest.mark.slow

TOKENS = ["alice", "phone", "bob", "elsewhere", "gone", "", "x"]
IDS = ["l1", "p1", "b1", "e1"]
TEXT = LATIN.map(lambda value: value.decode("latin-1"))
NAMES = st.sampled_from(["keep", "user", "issuer", "Keep", "id", "token"]) | TEXT
VALUES = st.sampled_from([*IDS, "current", "alice", "bob", ISSUER, ""]) | TEXT
PATHS = st.sampled_from([f"/sessions/{id}" for id in IDS]) | st.sampled_from(["", "/", "/sessions"])
METHODS = st.sampled_from(["GET", "DELETE", "DELETE", "HEAD", "POST", "OPTIONS"]) | TEXT
OWN = {"alice": {"l1", "p1"}, "phone": {"l1", "p1"}, "bob": {"b1"}, "elsewhere": {"e1"}}


@given(
    st.sampled_from(TOKENS),
    METHODS,
    PATHS | TEXT.map("/{}".format),
    st.lists(st.tuples(NAMES, VALUES), max_size=3),
)
@examples(300)
def test_only_what_is_ones_own_and_was_named_is_ended(
    token: str, method: str, path: str, query: list[tuple[str, str]]
) -> None:
    async def ask() -> None:
        sockets = (
            Socket("l1"),
            Socket("p1", token="phone"),
            Socket("b1", user="bob", token="bob"),
            Socket("e1", issuer=ISSUER, token="elsewhere"),
        )
        async with Site(*sockets) as site:
            answer = await site.ask(token, method, path, urlencode(query))
            ended = {socket.id for socket in sockets} - await site.left()
        assert answer.status in (200, 400, 401, 403, 404, 405)
        assert len(site.told) == 1
        assert ended <= OWN.get(token, set())
        if answer.status != 200 or method != "DELETE":
            assert not ended
        elif ended:
            assert answer.json == {"ended": len(ended)}
            keep = {value for name, value in query if name == "keep"}
            assert not ended & keep
            assert keep or ended == {path.rpartition("/")[2]}

    # On a loop of its own: each store leaves a listener there. Nobody waits until all is quiet.
    with asyncio.Runner(**hurried("asyncio")[1]) as runner:
        run(ask(), runner.get_loop())
