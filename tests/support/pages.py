"""The README and the pages of docs/, for the tests of what they say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}


def blocks(page: str, language: str = "python") -> list[str]:
    """The blocks of code of one page, such as `docs/guides/streams.md`."""
    return code_in(PAGES[page], language)


def code_in(text: str, language: str = "python") -> list[str]:
    """The blocks of code of a part of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def languages(page: str) -> Counter[str]:
    """How many blocks of code a page has in each language; Sphinx's directives are none."""
    found = re.findall(r"^ *```([^\n`]*)\n.*?^ *```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return Counter(language for language in found if not language.startswith("{"))


# Of each page and language: how many blocks there are, and the test that runs them, or why none
# does. Python that is not here is run in an empty file by tests/examples/test_docs_blocks.py.
_NO_COMPILER = "there is no compiler for it here"
_COMMANDS = "commands whose outcome needs a server or a product of yours"
RUN_BY: dict[tuple[str, str], tuple[int, str]] = {
    ("README.md", "sh"): (2, "tests/examples/test_docs_blocks.py"),
    ("README.md", "console"): (1, "tests/examples/test_docs_blocks.py"),
    ("docs/examples.md", "sh"): (18, "tests/unit/test_gallery.py"),
    ("docs/guides/browsers.md", "js"): (2, "tests/browsers/test_pages_in_browser.py"),
    ("docs/guides/browsers.md", "ts"): (1, "tests/browsers/test_npm_package.py"),
    ("docs/guides/clients.md", "console"): (1, "tests/examples/test_clients_page.py"),
    ("docs/guides/clients.md", "dart"): (1, _NO_COMPILER),
    ("docs/guides/clients.md", "go"): (1, _NO_COMPILER),
    ("docs/guides/clients.md", "js"): (2, "tests/examples/test_clients_page.py"),
    ("docs/guides/clients.md", "json"): (1, "tests/examples/test_clients_page.py"),
    ("docs/guides/clients.md", "kotlin"): (1, _NO_COMPILER),
    ("docs/guides/clients.md", "swift"): (1, _NO_COMPILER),
    ("docs/guides/command-line.md", "console"): (3, "tests/unit/cli/test_command_line_page.py"),
    ("docs/guides/deploys.md", "ini"): (2, "tests/examples/test_production_guides.py"),
    ("docs/guides/deploys.md", "python"): (3, "tests/unit/test_deploys_page.py"),
    ("docs/guides/deploys.md", "yaml"): (1, "a part of a manifest for Kubernetes"),
    ("docs/guides/fastapi.md", "python"): (3, "tests/examples/test_fastapi_recipe.py"),
    ("docs/guides/logins.md", "nginx"): (1, "tests/frameworks/test_logins.py"),
    ("docs/guides/logins.md", "python"): (8, "tests/unit/contrib/test_logins_page.py"),
    ("docs/guides/logouts.md", "python"): (2, "tests/unit/endpoints/test_logouts_page.py"),
    ("docs/guides/logs.md", "text"): (2, "tests/examples/test_production_guides.py"),
    ("docs/guides/metrics.md", "yaml"): (1, "tests/examples/test_production_guides.py"),
    ("docs/guides/processes.md", ""): (1, "tests/unit/stores/test_redis.py"),
    ("docs/guides/providers.md", "console"): (1, _COMMANDS),
    ("docs/guides/providers.md", "python"): (21, "tests/unit/test_providers.py"),
    ("docs/guides/proxies.md", "nginx"): (1, "tests/wire/test_wire_proxies.py"),
    ("docs/guides/proxies.md", "sh"): (2, _COMMANDS),
    ("docs/guides/proxies.md", "text"): (2, "tests/examples/test_production_guides.py"),
    ("docs/guides/sessions.md", "python"): (2, "tests/unit/endpoints/test_sessions_page.py"),
    ("docs/guides/streams.md", "js"): (1, "tests/browsers/test_model_stream_example.py"),
    ("docs/guides/tickets.md", "js"): (1, "tests/browsers/test_pages_in_browser.py"),
    ("docs/reference/errors.md", "text"): (1, "a tree"),
}
RUN_AS_A_WHOLE = {
    "docs/tutorial.md": "tests/examples/test_tutorial.py",
    "docs/migration.md": "tests/frameworks/test_migration.py",
}
