"""The dependency rule, held by three tests: what is imported, cimported, and really loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# From the bottom up; packages of one row know nothing of each other.
LAYERS = [
    {"errors"},
    {"units"},
    {"seams"},
    {"_core", "sim"},
    {"physics"},
    {"logic", "fiber"},
    {"fs", "net", "nip"},
    {"membrane"},
    {"cli", "tui", "web"},
]
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}

# Run apart, so that the tree under test is the first one on the path.
LINT = """
import sys
sys.path.insert(0, {root!r})
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename={config!r}, no_cache=True))
"""

CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+nexus\.(\w+)\S*\s+c?import|c?import\s+nexus\.(\w+))", re.M
)


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd
    )


@pytest.mark.slow
def test_import_contracts_hold(root: Path, tmp_path: Path) -> None:
    code = LINT.format(root=str(root), config=str(root / "pyproject.toml"))
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_import_contracts_can_fail(root: Path, tmp_path: Path) -> None:
    package = tmp_path / "nexus"
    for name in RANK:
        if name in ("errors", "units"):
            package.mkdir(exist_ok=True)
            (package / f"{name}.py").touch()
        else:
            (package / name).mkdir(parents=True)
            (package / name / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "logic" / "__init__.py").write_text("import time\nimport nexus.cli\n")
    code = LINT.format(root=str(tmp_path), config=str(root / "pyproject.toml"))
    result = run_python(code, tmp_path)
    assert result.returncode == 1
    assert "nexus.logic -> nexus.cli" in result.stdout
    assert "nexus.logic -> time" in result.stdout


def cython_offences(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py[xdi]")):
        layer = path.relative_to(package).parts[0].removesuffix(path.suffix)
        for match in CYTHON_IMPORT.finditer(path.read_text()):
            target = match[1] or match[2]
            if target != layer and RANK[target] >= RANK[layer]:
                found.append(f"{path.relative_to(package)} imports {target}")
    return found


def test_cython_files_import_downwards_only(root: Path) -> None:
    assert cython_offences(root / "nexus") == []


def test_cython_scan_can_fail(tmp_path: Path) -> None:
    (tmp_path / "_core").mkdir()
    (tmp_path / "_core" / "bad.pyx").write_text("from nexus.physics.ring cimport Ring\n")
    assert cython_offences(tmp_path) == ["_core/bad.pyx imports physics"]


def test_core_imports_nothing_of_nexus_but_errors(root: Path) -> None:
    for path in (root / "nexus" / "_core").glob("*.py*"):
        for match in CYTHON_IMPORT.finditer(path.read_text()):
            assert (match[1] or match[2]) in ("_core", "errors"), path
        assert not re.search(r"^from nexus import (?!errors\b)", path.read_text(), re.M), path


@pytest.mark.parametrize("name", sorted(RANK))
def test_importing_a_layer_loads_no_higher_one(name: str, tmp_path: Path) -> None:
    code = f"import sys, nexus.{name}; print(*[m for m in sys.modules if m.startswith('nexus.')])"
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    loaded = {module.split(".")[1] for module in result.stdout.split()}
    assert name in loaded
    too_high = {m for m in loaded - {name} if RANK[m] >= RANK[name]}
    assert not too_high


def test_every_package_folder_has_an_init(root: Path) -> None:
    for folder in (root / "nexus").rglob("*"):
        if folder.is_dir() and any(folder.glob("*.py")):
            assert (folder / "__init__.py").exists(), f"{folder} is invisible to import-linter"
