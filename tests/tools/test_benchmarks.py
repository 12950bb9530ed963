"""The benchmarks run, and count right. No figure is judged: this machine may be busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import GROUPS
from benchmarks.measure import Loop, Row, figure, in_turns, interleaved, row
from cases import cases

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]

HANDSHAKE = {
    "ours, as it comes",
    "ours, enforce_expiry=False",
    "ours, with a VerdictCache",
    "Starlette's middleware",
    "FastAPI, no login",
    "Litestar, no login",
    "a FastAPI dependency",
    "Litestar's JWTAuth",
    "Channels, a token middleware",
    "by hand, in fifteen lines",
    "the decode alone",
    "no login",
}
REFUSED = {"no token", "rubbish", "forged", "expired", "foreign origin"}
STORM = {"ours", "PyJWKClient in threads"}
PROMISED = {
    **{f"handshake, {name}": HANDSHAKE for name in ("HS256", "RS256", "ES256", "EdDSA")},
    "refusal": {"ours, admitted", *(f"ours, {what}" for what in REFUSED)},
    "growth": {"a JWT, 1 verifier", "a JWT, the last of 20 verifiers"},
    "storm of 200, until all are admitted": STORM,
    "storm of 200, fetches of the keys": STORM,
    "storm of 200, longest hold-up of the loop": STORM,
}


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.measures
def test_every_promised_row_is_measured() -> None:
    done = run("--short", "--json", "-", "handshake", "refusal", "growth", "storm")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"Python", "pyjwt", "starlette", "cores"} <= said["about"].keys()
    measured: dict[str, dict[str, Any]] = {}
    for made in said["rows"]:
        assert made["median"] > 0, made
        measured.setdefault(made["group"], {})[made["name"]] = made
    for group, names in PROMISED.items():
        assert names <= measured[group].keys()
    assert measured["handshake, HS256"]["ours, as it comes"]["target"] == "≤ 1.0"
    assert measured["storm of 200, fetches of the keys"]["ours"]["median"] == 1


def test_every_group_has_a_module() -> None:
    assert [name for name in GROUPS if not find_spec(f"benchmarks.{name}")] == []


@cases(
    ("arguments", "complaint"),
    [
        (["nonsense"], "no group 'nonsense'"),
        (["--plot", "x.svg"], 'pip install "asgi-wsauth[dev]"'),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    done = run(*arguments, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # As when the machine was twice as slow in the third round.
    made = row("g", "mine", "µs", [2, 4, 6], against=[1, 2, 6], baseline="its", target="≤ 2")
    assert (made.median, made.ratio, made.met) == (4, 2, True)


def test_the_spread_is_that_of_the_quartiles() -> None:
    made = row("g", "mine", "µs", [5, 1, 3, 2, 4])
    assert (made.low, made.median, made.high) == (2, 3, 4)
    once = row("g", "mine", "µs", [7])
    assert (once.low, once.median, once.high) == (7, 7, 7)


@cases(
    ("median", "ratio", "target", "met"),
    [
        (9, 1.35, "≤ 1.35", True),
        (9, 1.36, "≤ 1.35", False),
        (9, 0.95, "≥ 0.95", True),
        (9, 0.94, "≥ 0.95", False),
        (1, None, "≤ 1", True),
        (2, None, "≤ 1", False),
        (9, 1.35, "", None),
    ],
)
def test_whether_a_target_was_met(
    median: float, ratio: float | None, target: str, met: bool | None
) -> None:
    assert Row("g", "mine", median, median, median, "µs", ratio, None, target).met is met


def test_candidates_take_turns_in_changing_order() -> None:
    calls: list[str] = []

    def candidate(name: str) -> Any:
        def measure() -> int:
            calls.append(name)
            return len(calls)

        return measure

    figures = in_turns({name: candidate(name) for name in "abc"}, 20, warm_up=2)
    turns = ["".join(calls[start : start + 3]) for start in range(0, len(calls), 3)]
    assert [sorted(turn) for turn in turns] == [["a", "b", "c"]] * 22
    assert len(set(turns)) > 1
    counted = sorted(number for measured in figures.values() for number in measured)
    assert counted == list(range(7, 67))  # without the warm-up


def test_a_row_may_have_a_baseline_of_its_own() -> None:
    candidates = {"a": lambda: 8.0, "b": lambda: 4.0, "c": lambda: 2.0}
    made = interleaved("g", "s", candidates, "a", 3, baselines={"c": "b"}, targets={"b": "≤ 0.4"})
    assert [(one.name, one.ratio, one.baseline, one.met) for one in made] == [
        ("a", None, None, None),
        ("b", 0.5, "a", False),
        ("c", 0.5, "b", None),
    ]


def test_a_batch_of_calls_is_measured_per_call() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1

    with Loop(short=True) as loop:
        assert loop.per_call(call)() > 0
    short, calls = calls, 0
    with Loop() as loop:
        loop.per_call(call)()
    assert short == 2  # one to see how long it takes, and one that is measured
    assert calls > 1000


@cases(
    ("value", "shown"), [(0.01234, "0.0123"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_how_a_figure_is_shown(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plot import plot

    rows = [
        row("g", "ours", "µs", [1, 2], against=[2, 2], baseline="its"),
        row("g", "its", "µs", [2, 2]),
        row("another", "alone", "s", [3]),
    ]
    plot(rows, str(tmp_path / "rows.svg"))
    assert (tmp_path / "rows.svg").read_text().startswith("<?xml")
