"""The table of advice in examples/browser/wsauth.js, made of asgi_wsauth/denial.py.

    python tests/support/browser_table.py

writes it anew, where the table has changed; a test compares the two.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from asgi_wsauth.denial import ADVICE_BY_CODE, Reason

MODULE = Path(__file__).resolve().parents[2] / "examples/browser/wsauth.js"
WIDTH = 100

_TABLE = re.compile(r"(?<=^const ADVICE = new Map\(\[\n).*?(?=^\]\);$)", re.DOTALL | re.MULTILINE)


def table() -> str:
    """The lines of the table: phrases first, then codes."""
    advice = {row.phrase: row.advice for row in Reason} | dict(sorted(ADVICE_BY_CODE.items()))
    lines = [""]
    for row in advice.items():
        entry = json.dumps(row) + ","
        if lines[-1] and len(lines[-1]) + 1 + len(entry) <= WIDTH:
            lines[-1] += f" {entry}"
        else:
            lines.append(f"  {entry}")
    return "\n".join([*lines[1:], ""])


def module_table() -> str:
    """The lines that the module has."""
    (found,) = _TABLE.findall(MODULE.read_text(encoding="utf-8"))
    return str(found)


def write() -> None:
    """Put the table into the module."""
    module = MODULE.read_text(encoding="utf-8")
    MODULE.write_text(_TABLE.sub(lambda _: table(), module), encoding="utf-8")


if __name__ == "__main__":
    write()
