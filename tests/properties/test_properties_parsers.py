"""The targets of `python -m tests.fuzz`, each for a moment and without its tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cases import cases
from fuzz.targets import SEEDS, TARGETS
from hypothesis import given
from hypothesis import strategies as st
from strategies import NESTED, WORDS, examples

pytestmark = pytest.mark.slow

BYTES = st.one_of(
    st.binary(max_size=40),
    WORDS.map(lambda text: text.encode(errors="surrogatepass")),
    NESTED.map(str.encode),
)


def changed(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A seed, a piece of which is others."""
    return st.builds(
        lambda seed, at, length, other: seed[:at] + other + seed[at + length :],
        st.sampled_from(seeds),
        st.integers(0, 60),
        st.integers(0, 4),
        BYTES,
    )


@cases("name", TARGETS)
def test_a_parser_survives_any_bytes(name: str) -> None:
    target, seeds = TARGETS[name], SEEDS[name]
    for seed in seeds:
        target(seed)

    @examples(100)
    @given(changed(seeds) | changed(seeds) | BYTES)
    def survives(data: bytes) -> None:
        target(data)

    survives()


@pytest.mark.live
def test_a_target_runs_again_on_one_input(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"https://chat.example")
    command = [sys.executable, "-m", "tests.fuzz", "origins", "--input", str(path)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=60)
