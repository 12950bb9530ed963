"""What the documents say about the tree is true of it."""

from __future__ import annotations

import re
from pathlib import Path

from cases import cases

ROOT = Path(__file__).parents[2]
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
