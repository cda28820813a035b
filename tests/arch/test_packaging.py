"""What ships: every file of the package is in the wheel, the version is one, import is cheap."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import nexus

# Start-up allow-list: what `nexus --version` may load beyond a bare interpreter.
HEAVY = ["numpy", "rich", "asyncio", "textual", "systemrdl", "cmsis_svd", "unittest", "ctypes"]


def test_every_python_file_is_installed(root: Path) -> None:
    listed = set(
        re.findall(r"'([^']+\.(?:py|pyi|typed|json))'", (root / "nexus/meson.build").read_text())
    )
    package = root / "nexus"
    suffixes = (".py", ".pyi", ".typed", ".json")
    present = {
        str(p.relative_to(package))
        for p in package.rglob("*")
        if p.suffix in suffixes or p.name == "py.typed"
    }
    assert present - listed == set(), "not in nexus/meson.build, so not in the wheel"
    assert listed - present == set(), "in nexus/meson.build, but gone"


@pytest.mark.parametrize("package", ["_core", "sim"])
def test_every_compiled_module_has_a_stub(root: Path, package: str) -> None:
    folder = root / "nexus" / package
    modules = {p.stem for p in folder.glob("*.pyx") if p.stem not in ("_errors",)}
    assert modules
    assert modules == {p.stem for p in folder.glob("*.pyi")}


def test_the_version_is_said_once(root: Path) -> None:
    build = re.search(r"version: '([^']+)'", (root / "meson.build").read_text())
    assert build is not None
    assert nexus.__version__ == build[1]


def test_requirements_are_declared_for_three_pythons(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    for minor in (11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]


def test_start_up_loads_nothing_heavy() -> None:
    code = "import sys; from nexus.cli import main; main(['--version']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "nexus.cli" in loaded
    assert loaded.isdisjoint(HEAVY), loaded & set(HEAVY)
