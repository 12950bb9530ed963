import atexit
import gc
import os
import re
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import forking
import pytest
from hurry import hurried, usual

# Hundreds of processes import the same files: each is compiled once, even where a shell says that
# nothing is to be kept.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def pytest_configure(config: pytest.Config) -> None:
    """A shell ignores Ctrl+C for what it starts in the background, and whatever is started from
    there inherits that: examples and servers that tests stop in this way would run on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        shared = TemporaryDirectory(prefix="tests", ignore_cleanup_errors=True)
        config.add_cleanup(shared.cleanup)
        os.environ["TESTS_SHARED"] = shared.name  # by all processes of these tests
    # In English, and without a look for catalogues at each word of argparse's.
    os.environ["LANGUAGE"] = "C"
    if sys.platform == "linux" and os.environ.get("WSAUTH_SERVERS") != "all":
        config.add_cleanup(forking.fork_from_now_on().close)
    gc.disable()  # until all is imported, most of which stays
    if hasattr(config, "workerinput"):
        # In the end, at once: to take apart all that was imported takes longer than most tests.
        atexit.register(os._exit, 0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of which every test is live, or slow, aren't read where none of those is to run: some
    import whole frameworks."""
    left_out = {"not live": "live", "not live and not slow": "live|slow"}
    marks = left_out.get(config.option.markexpr)
    if marks is None or collection_path.suffix != ".py":
        return None
    is_left_out = re.search(
        rf"(?m)^pytestmark = .*\bmark\.({marks})\b", collection_path.read_text()
    )
    return True if is_left_out else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Each of several processes reads the files of a folder from another one on, and finds those
    behind compiled by the others: all have the same to read, at the same time."""
    report = yield
    if isinstance(collector, pytest.Directory) and report.result:
        start = len(report.result) * _WORKER // _WORKERS
        report.result = report.result[start:] + report.result[:start]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start servers and browsers come first, so that none of them is left when all else
    is done."""
    if _WORKERS > 1:
        items.sort(key=lambda item: item.path)
    live = {item.path for item in items if _is_marked(item, "live")}
    items.sort(key=lambda item: (item.path not in live, item.path.parent.name != "wire"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, all files whose tests share servers run in one process, in which each
    server is started once; and so do many of those that share a browser."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if file in chromium:
                return "examples in Chromium" if chromium[file] else "pages in Chromium"
            return "servers" if file in sharing else file

    config.option.loadscopereorder = False  # by the number of tests, which says little
    sharing = {
        path.relative_to(config.rootpath).as_posix()
        for path in config.rootpath.glob("tests/wire/test_*.py")
        if '__all__ = ["server"]' in path.read_text()
    }
    # With the largest file, which has one of its own, Chromium is started three times.
    chromium = {
        path.relative_to(config.rootpath).as_posix(): path.stem.endswith(("_example", "_tutorial"))
        for folder in ("browsers", "examples")
        for path in config.rootpath.glob(f"tests/{folder}/test_*.py")
        if "from browser import" in path.read_text() and path.stem != "test_browser_client"
    }
    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """What was imported stays, so no test's `gc.collect` has to look through it."""
    gc.freeze()
    gc.set_threshold(10_000)  # what tests leave goes with the tests
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # after which nobody looks for referrers
        gc.unfreeze()


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The event loop of an asynchronous test: asyncio's, but where it is marked `both_loops`; and
    one on which no time is waited for, where it is marked `hurried` and asks no other process."""
    backend = getattr(request, "param", "asyncio")
    is_hurried = _is_marked(request.node, "hurried") and not _is_marked(request.node, "live")
    return hurried(backend) if is_hurried else usual(backend)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "anyio_backend" in metafunc.fixturenames and _is_marked(metafunc.definition, "both_loops"):
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


def _is_marked(test: pytest.Item, name: str) -> bool:
    """Whether it is, unless the mark that is closest to the test says False."""
    mark = test.get_closest_marker(name)
    return mark is not None and mark.args != (False,)
