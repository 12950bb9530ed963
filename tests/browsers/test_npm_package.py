"""examples/browser as a package of npm. `npm run check` there lints it and checks its types."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import browser_table
import pytest
from node_clients import needs_node
from pages import blocks
from run_example import EXAMPLES

import asgi_wsauth
from asgi_wsauth.denial import ADVICE_BY_CODE, Reason

pytestmark = pytest.mark.live

FOLDER = EXAMPLES / "browser"
PACKAGE = json.loads((FOLDER / "package.json").read_text())
SOURCE = browser_table.MODULE.read_text()
TYPES = (FOLDER / "wsauth.d.ts").read_text()

_IMPORT = """
import * as all from "asgi-wsauth";
const { ADVICE, advice } = all;
console.log(JSON.stringify([Object.keys(all).sort(), [...ADVICE], advice(4001), advice(9)]));
"""


def npm(*arguments: str, cwd: Path) -> Any:
    ended = subprocess.run(["npm", *arguments], cwd=cwd, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_it_has_what_belongs_and_can_be_imported(tmp_path: Path) -> None:
    """Without a browser, too, as where a server renders the page."""
    needs_node()
    (packed,) = npm("pack", "--json", f"--pack-destination={tmp_path}", cwd=FOLDER)
    assert sorted(file["path"] for file in packed["files"]) == [
        *("LICENSE", "README.md", "package.json", "wsauth.d.ts", "wsauth.js"),
    ]
    modules = tmp_path / "node_modules"
    modules.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / packed["filename"], "-C", modules], check=True)
    (modules / "package").rename(modules / "asgi-wsauth")
    command = ["node", "--input-type=module", "--eval", _IMPORT]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    names, table, *told = json.loads(ended.stdout)
    assert names == ["ADVICE", "AuthSocket", "advice", "ticketFrom"]
    assert dict(table) == {row.phrase: row.advice for row in Reason} | dict(ADVICE_BY_CODE)
    assert told == ["refresh", "stop"]


def test_it_is_of_the_version_and_under_the_license_of_the_other_one() -> None:
    assert PACKAGE["version"] == asgi_wsauth.__version__
    assert (FOLDER / "LICENSE").read_text() == (EXAMPLES.parent / "LICENSE").read_text()


def test_its_types_name_every_option_and_no_other() -> None:
    defaults = SOURCE.partition("const DEFAULTS = {\n")[2].partition("\n};")[0]
    without_comments = re.sub(r"//.*", "", defaults)
    options = re.findall(r"(\w+):", without_comments)
    interfaces = re.findall(r"^export interface \w*Options.*?^}", TYPES, re.MULTILINE | re.DOTALL)
    typed = re.findall(r"^  (\w+)\??:", "\n".join(interfaces), re.MULTILINE)
    assert set(typed) == set(options)
    assert {"ticket", "heartbeat", "spread", "setTimeout"} < set(options)


def test_its_types_name_every_advice_export_and_event() -> None:
    union = TYPES.partition("export type Advice =")[2].partition(";")[0]
    assert set(re.findall(r'"([^"]+)"', union)) == {*ADVICE_BY_CODE.values()} | {
        row.advice for row in Reason
    }
    values = re.findall(r"^export (?:const|function|class) (\w+)", TYPES, re.MULTILINE)
    assert sorted(values) == ["ADVICE", "AuthSocket", "advice", "ticketFrom"]
    events = TYPES.partition("interface AuthSocketEventMap {")[2].partition("\n}")[0]
    fired = re.findall(r'#(?:tell|end)\("(\w+)"', SOURCE)
    assert set(re.findall(r"^  (\w+):", events, re.MULTILINE)) == set(fired)


def test_the_guide_has_the_hook_whose_types_are_checked() -> None:
    (block,) = blocks("docs/guides/browsers.md", "ts")
    assert block == (FOLDER / "checks/useAuthSocket.ts").read_text()
