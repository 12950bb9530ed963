import pytest

import asgi_wsauth.redis
from asgi_wsauth.stores import redis_client


@pytest.fixture(autouse=True)
def patience_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than usual for hundreds of exchanges at once. Tests of that
    limit set their own."""
    for module in (redis_client, asgi_wsauth.redis):
        monkeypatch.setattr(module, "DEADLINE", 30.0)
