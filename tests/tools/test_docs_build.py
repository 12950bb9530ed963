"""The documentation is built, looked at in a browser, and searched without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from browser import chromium
from pages import ROOT

import asgi_wsauth

pytest.importorskip("sphinx", reason="needs the extra docs")

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built once, without a warning."""
    target = tmp_path_factory.mktemp("docs")
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return target


@pytest.fixture(scope="module")
def html(built: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in pages_in(built)}


def pages_in(built: Path) -> list[Path]:
    return [path for path in sorted(built.rglob("*.html")) if "_downloads" not in path.parts]


def test_every_link_and_every_anchor_leads_somewhere(built: Path, html: dict[Path, str]) -> None:
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in html.items()}
    broken = []
    for page, text in html.items():
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", path):
                continue
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists() or (anchor and anchor not in ids[target]):
                broken.append(f"{page.relative_to(built)}: {link}")
    assert broken == []


def test_nothing_on_a_page_comes_from_elsewhere(html: dict[Path, str]) -> None:
    loaded = r'<(?:script|img|iframe)[^>]* src="(https?:)?//|<link[^>]* href="(https?:)?//'
    assert [page.name for page, text in html.items() if re.search(loaded, text)] == []


def test_every_name_has_one_place_in_the_reference(html: dict[Path, str]) -> None:
    found = Counter(re.findall(r'\bid="asgi_wsauth\.(\w+)"', "".join(html.values())))
    assert found == Counter(asgi_wsauth.__all__)


@pytest.fixture(scope="module")
def phone() -> Iterator[Any]:
    """A page of Chromium that is as wide as a phone."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 375, "height": 800})
        yield page
        page.close()


def test_no_page_scrolls_sideways_on_a_phone(phone: Any, built: Path) -> None:
    wide = []
    for path in pages_in(built):
        phone.goto(path.as_uri(), wait_until="load")
        width = phone.evaluate("document.documentElement.scrollWidth")
        if width > 375:
            wide.append((str(path.relative_to(built)), width))
    assert wide == []


def test_the_search_finds_close_codes_in_the_files_alone(phone: Any, built: Path) -> None:
    asked: list[str] = []
    phone.on("request", lambda request: asked.append(request.url))
    phone.goto(f"{(built / 'search.html').as_uri()}?q=close+code")
    phone.wait_for_selector("ul.search li a")
    found = phone.locator("ul.search li > a").evaluate_all("links => links.map((a) => a.href)")
    assert any("/guides/refusals.html" in link for link in found)
    assert {url.partition(":")[0] for url in asked} == {"file"}
