"""What the documents say about the tree is true of it, and all that they show is accounted for."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from cases import cases
from pages import PAGES, ROOT, RUN_AS_A_WHOLE, RUN_BY, languages

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@cases("document", DOCUMENTS)
def test_every_path_exists(document: Path) -> None:
    text = document.read_text()
    named = set(re.findall(r"`((?:asgi_wsauth|tests|examples|docs|\.ci|\.github)/[\w./-]+)`", text))
    named |= set(re.findall(r"`([A-Z]+\.md|pyproject\.toml)`", text))
    if document.name == "threat-model.md":  # its paths are relative to tests/
        named |= {f"tests/{path}" for path in re.findall(r"`([a-z]+/[\w/]+\.py)`", text)}
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@cases("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        linked = document.parent / path if path else document
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cases("page", sorted(PAGES.keys() - RUN_AS_A_WHOLE.keys()))
def test_every_block_of_code_is_run_by_a_test_or_says_why_none_does(page: str) -> None:
    by_default = {("python", page)} - {(language, of) for of, language in RUN_BY}
    told = {language: count for (of, language), (count, _) in RUN_BY.items() if of == page}
    found = {name: n for name, n in languages(page).items() if (name, page) not in by_default}
    assert found == told


@cases(
    ("page", "by"),
    [(page, by) for (page, _), (_, by) in RUN_BY.items()] + list(RUN_AS_A_WHOLE.items()),
)
def test_a_test_that_runs_blocks_names_their_page(page: str, by: str) -> None:
    if by.startswith("tests/"):
        assert page in (ROOT / by).read_text()


HOSTS = {
    "asgi-wsauth.readthedocs.io",
    "centrifugal.dev",
    "github.com",
    "hatch.pypa.io",
    "keepachangelog.com",
    "limits.readthedocs.io",
    "openid.net",
    "pkg.go.dev",
    "semver.org",
    "websockets.readthedocs.io",
    "www.npmjs.com",
    "www.rfc-editor.org",
}
"""The hosts that pages link to, none of which a test asks."""


@cases("document", DOCUMENTS)
def test_links_to_elsewhere_are_well_formed_and_lead_to_known_hosts(document: Path) -> None:
    links = re.findall(r"\]\(([a-z]+:[^)\s]*)\)|<(https?:[^>\s]*)>", document.read_text())
    for link in ("".join(pair) for pair in links):
        url = urlsplit(link)
        if url.hostname in ("127.0.0.1", "localhost"):
            continue
        assert (url.scheme, url.username, url.port) == ("https", None, None), link
        assert url.hostname in HOSTS, link
