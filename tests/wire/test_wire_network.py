"""Keys and verdicts from a real issuer, on a real server: fetched on the server's own event loop,
beside the handshakes of other clients.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from handshakes import mint, now
from issuer import Issuer, issuing
from servers import Seen, Server, server, usual_and

pytestmark = pytest.mark.live

__all__ = ["server"]  # the fixture


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1")
        yield issuer


def token(issuer: Issuer, kid: str = "1") -> str:
    return issuer.token(kid, iss=issuer.url, aud="chat", exp=now() + 3600)


def identity(seen: Seen) -> str | None:
    """Whom the app was told of; None where the client was refused."""
    return seen.report["user"] if seen.close is None else None


def test_many_handshakes_at_once_on_a_cold_cache(server: Server, issuer: Issuer) -> None:
    seen = server.talk_at_once(60, "/network", issuer=issuer.url, token=token(issuer))
    assert {identity(one) for one in seen} == {"alice"}
    assert [request.path for request in issuer.requests] == [
        "/.well-known/openid-configuration",
        "/jwks",
    ]


def test_an_issuer_that_is_down(server: Server, issuer: Issuer) -> None:
    issuer.behaviour["*"] = "fail"
    for _ in range(3):
        seen = server.talk("/network", issuer=issuer.url, token=token(issuer))
        assert seen.close is not None
        assert seen.close[0] == 4001
    assert len(issuer.requests) == 1
    seen = server.talk("/network", issuer=issuer.url, token="opaque")
    assert seen.close is not None
    assert seen.close[0] == 4013


def test_while_an_issuer_is_slow_other_clients_are_served(server: Server, issuer: Issuer) -> None:
    issuer.behaviour["*"] = "hold"
    waiting = [
        server.handshake("/network", issuer=issuer.url, token=token(issuer)) for _ in range(10)
    ]
    try:
        issuer.wait_for("/.well-known/openid-configuration")
        seen = server.talk("/guarded", token=mint(exp=now() + 3600), say=["hello"])
        assert seen.messages[1:] == ["hello"]
        assert len(issuer.requests) == 1
    finally:
        issuer.let_go()
        for tcp in waiting:
            with tcp:
                assert tcp.recv(12) == b"HTTP/1.1 101"


@usual_and("hypercorn-trio")
def test_opaque_tokens(server: Server, issuer: Issuer) -> None:
    issuer.tokens["opaque-1"] = {"active": True, "sub": "bob", "exp": now() + 3600}
    for _ in range(3):
        assert identity(server.talk("/network", issuer=issuer.url, token="opaque-1")) == "bob"
    assert issuer.count("/introspect") == 1
    seen = server.talk("/network", issuer=issuer.url, token="opaque-2")
    assert seen.close is not None
    assert seen.close[0] == 3000
