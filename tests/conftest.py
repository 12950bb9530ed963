import signal

import pytest


def pytest_configure() -> None:
    """A shell ignores Ctrl+C for what it starts in the background, and whatever is started from
    there inherits that: examples and servers that tests stop in this way would run on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of an asynchronous test: asyncio's, but where it is marked `both_loops`."""
    return str(getattr(request, "param", "asyncio"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `both_loops` on either event loop."""
    wanted = metafunc.definition.get_closest_marker("both_loops")
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if wanted and "anyio_backend" in metafunc.fixturenames and "anyio_backend" not in chosen:
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
