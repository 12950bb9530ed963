"""One target under atheris, for as long as is wanted:

    python -m tests.fuzz TARGET [--seconds N]

It needs atheris, of which there are no wheels for every machine: pip install atheris. What makes a
target fail is written to a file that is named in the end; `--input FILE` runs it again, and needs
no atheris.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> None:
    atheris = None if "--input" in sys.argv else _atheris()
    if atheris is None:
        from fuzz import targets
    else:
        with atheris.instrument_imports(include=["asgi_wsauth", "fuzz"]):
            from fuzz import targets
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=list(targets.TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--input", type=Path, help="run this file once, and nothing else")
    options = parser.parse_args()
    target = targets.TARGETS[options.target]
    if options.input is not None:
        target(options.input.read_bytes())
        return
    if atheris is None:
        sys.exit("fuzz: atheris is missing; pip install atheris")
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{options.target}-"))
    for number, seed in enumerate(targets.SEEDS[options.target]):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10"]
    atheris.Setup(["fuzz", str(corpus), f"-artifact_prefix={corpus}/", *limits], target)
    atheris.Fuzz()  # which ends the process


def _atheris() -> Any:
    try:
        return import_module("atheris")
    except ImportError:
        return None


if __name__ == "__main__":
    main()
