"""tests/support/screenshots.py, which makes the pictures in docs/images."""

from __future__ import annotations

import pytest
import screenshots
from browser import chromium

pytestmark = pytest.mark.live


def test_it_takes_a_picture_of_a_running_example() -> None:
    shot, path = screenshots.SHOTS["browser"]
    with chromium() as browser, screenshots.example(path) as example:
        ((name, png),) = shot(browser, example)
    old = (screenshots.FOLDER / f"{name}.png").read_bytes()
    assert png[:20] == old[:20]  # the beginning of a PNG, and its width
