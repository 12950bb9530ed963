"""Side-by-side figures: `python -m tests.benchmarks`, from the project's root.

Each group of rows is a module with a function `rows(short)`, listed in `__main__`; `measure` is how
all of them measure.
"""

import sys
from pathlib import Path

# What the tests share (handshakes, servers, alternatives, ...) is imported as it is there.
_SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
if _SUPPORT not in sys.path:
    sys.path.insert(0, _SUPPORT)
