import signal

import pytest


def pytest_configure() -> None:
    """A shell ignores Ctrl+C for what it starts in the background, and whatever is started from
    there inherits that: examples and servers that tests stop in this way would run on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every asynchronous test runs on both event loops."""
    return str(request.param)
