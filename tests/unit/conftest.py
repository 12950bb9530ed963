import functools
import gc
import os
import ssl
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def patience_with_redis() -> Iterator[None]:
    """A busy machine may take longer than usual for hundreds of exchanges at once, and for one
    answer. Tests of those limits set their own."""
    import asgi_wsauth.redis
    from asgi_wsauth.stores import redis_client, redis_notices

    with pytest.MonkeyPatch.context() as patch:
        for module in (redis_client, redis_notices, asgi_wsauth.redis):
            patch.setattr(module, "DEADLINE", 30.0)
        patch.setattr(redis_client, "_SOCKET", 10.0)
        patch.setattr(redis_notices, "_ANSWER", 10.0)
        yield


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No middleware of another test is drained when this process is."""
    from asgi_wsauth.connection.passthrough import Guards

    guards = Guards()
    for module in ("middleware", "http", "shutdown"):
        monkeypatch.setattr(f"asgi_wsauth.{module}.GUARDS", guards)


@pytest.fixture(scope="session", autouse=True)
def authorities_are_read_once() -> Iterator[None]:
    """All that a machine trusts: to read that takes longer than most tests."""
    import httpx2

    read = httpx2.create_ssl_context
    made: dict[tuple[Any, ...], ssl.SSLContext] = {}

    def create_once() -> ssl.SSLContext:
        where = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
        if where not in made:
            made[where] = read()
        return made[where]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx2, "create_ssl_context", create_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def a_cluster_is_asked_once_what_it_can() -> Iterator[None]:
    """Each of redis-py's clients reads the list of all commands, which takes longer than most tests
    of a cluster."""
    from redis._parsers.commands import AsyncCommandsParser

    read = AsyncCommandsParser.initialize
    known: dict[str, Any] = {}

    async def initialize(self: Any, node: Any = None) -> None:
        if not known:
            await read(self, node)
            known.update(self.commands)
        self.node, self.commands = node, known

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AsyncCommandsParser, "initialize", initialize)
        yield


@pytest.fixture(scope="session", autouse=True)
def the_version_of_redis_py_is_read_once() -> Iterator[None]:
    """Each of its connections reads what pip knows of it, to tell the server."""
    import redis.utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis.utils, "get_lib_version", functools.cache(redis.utils.get_lib_version))
        yield


@pytest.fixture
def little_to_collect() -> None:
    """For a test that calls `gc.collect`: that looks only at what comes from here on, and not each
    time at what thousands of tests have left."""
    gc.collect()
    gc.freeze()
