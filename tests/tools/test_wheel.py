"""What people install: the sdist, the wheel that is built from it, and the package in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import asgi_wsauth

ROOT = Path(__file__).parents[2]
PACKAGE = Path(asgi_wsauth.__file__).parent

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    subprocess.run([*build, "sdist"], cwd=ROOT, check=True, capture_output=True)
    subprocess.run(["tar", "-xf", next(folder.glob("*.tar.gz")), "-C", folder], check=True)
    source = folder / f"asgi_wsauth-{asgi_wsauth.__version__}"
    subprocess.run([*build, "wheel"], cwd=source, check=True, capture_output=True)
    return folder


def test_the_wheel_has_the_whole_package_and_nothing_else(built: Path) -> None:
    with ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {
        str(path.relative_to(PACKAGE.parent))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"  # where others write meanwhile
    }
    assert names >= {"asgi_wsauth/py.typed", "asgi_wsauth/contrib/grafana.json"}
    assert "asgi_wsauth/stores/lua/take_slot.lua" in names


def test_on_the_package_index_the_readmes_links_lead_to_the_same_files(built: Path) -> None:
    with ZipFile(next(built.glob("*.whl"))) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        described = wheel.read(name).decode()
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", described)]
    hosts = {
        r"https://asgi-wsauth\.readthedocs\.io/en/latest/(.+)\.html": r"docs/\1.md",
        r"https://github\.com/asgi-wsauth/asgi-wsauth/blob/main/(.+)": r"\1",
        r"https://raw\.githubusercontent\.com/asgi-wsauth/asgi-wsauth/main/(.+\.png)": r"\1",
    }
    for host, path in hosts.items():
        links = [re.sub(f"^{host}$", path, link) for link in links]
    readme = (ROOT / "README.md").read_text()
    assert links == [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", readme)]
    assert "![The demo" in described
    assert "](docs/" not in described


def test_the_sdist_has_what_its_tests_and_its_documentation_need(built: Path) -> None:
    source = built / f"asgi_wsauth-{asgi_wsauth.__version__}"
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "tests/conftest.py"):
        assert (source / name).is_file(), name
    for name in ("docs/conf.py", ".readthedocs.yaml", ".ci/run", ".github/workflows/tests.yml"):
        assert (source / name).is_file(), name
    assert pictures(source) == pictures(ROOT) != set()
    assert not list(source.rglob("*.pyc"))
    assert {path.name for path in source.iterdir()} <= {
        *("asgi_wsauth", "tests", "examples", "docs", ".ci", ".github"),
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
        *("PKG-INFO", "pyproject.toml", ".gitignore", ".editorconfig"),
        *(".pre-commit-config.yaml", ".readthedocs.yaml"),
    }


def pictures(tree: Path) -> set[Path]:
    found = (path for path in (tree / "docs").rglob("*") if path.suffix in {".png", ".svg"})
    return {path.relative_to(tree) for path in found}


def test_the_wheel_is_installed_and_imported(built: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    wheel = next(built.glob("*.whl"))
    subprocess.run([*pip, "--target", str(tmp_path), str(wheel)], check=True)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import asgi_wsauth, asgi_wsauth.redis\n"
        "from asgi_wsauth import *\n"
        "print(asgi_wsauth.__file__)"
    )
    imported = subprocess.run(
        [sys.executable, "-I", "-c", script, str(tmp_path)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(imported.stdout.strip()) == tmp_path / "asgi_wsauth" / "__init__.py"
