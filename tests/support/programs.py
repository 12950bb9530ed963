"""Programs that tests need and that no Python package brings, such as browsers.

Where one is missing, tests skip, and say what installs it; with WSAUTH_REQUIRE_ALL=1 in the
environment, as in CI, they fail.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def needed(program: str, packages: str) -> str:
    """Where a program is.

    Args:
        program: its name; or several, of which the first that is there will do: "a | b".
        packages: Debian's packages that install it.
    """
    names = program.split(" | ")
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if found is not None:
            return found
    return missing(f"{names[0]} is missing; install it: apt-get install {packages}")


def missing(why: str) -> NoReturn:
    """Skip the test, or fail, as said above."""
    (pytest.fail if os.environ.get("WSAUTH_REQUIRE_ALL") == "1" else pytest.skip)(why)
