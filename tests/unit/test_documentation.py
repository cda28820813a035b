"""What the documentation shows works: every Python block runs, every example runs."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# Programs that the blocks call are looked for here and nowhere else.
PROGRAMS = {"nexus", "./dev"}


def blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, match in enumerate(BLOCK.finditer(page.read_text())):
            found.append((f"{page.relative_to(ROOT)}:{number}", match[1]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), blocks(), ids=[name for name, _ in blocks()])
def test_a_python_block_of_the_documentation_runs(name: str, code: str, tmp_path: Path) -> None:
    if code.startswith(">>> "):
        test = doctest.DocTestParser().get_doctest(code, {}, name, name, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        failures, tried = runner.run(test)
        assert tried > 0
        assert failures == 0
        return
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_there_are_blocks_to_run() -> None:
    names = [name for name, _ in blocks()]
    assert any(name.startswith("README") for name in names)
    assert len(names) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_an_example_runs(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_exit_codes_of_all_errors_are_documented() -> None:
    from nexus import errors

    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)}
    kinds = [e for e in vars(errors).values() if isinstance(e, type)]
    used = {kind.exit_code for kind in kinds if issubclass(kind, errors.NexusError)}
    assert used <= documented
    codes = [kind.code for kind in kinds if issubclass(kind, errors.NexusError)]
    assert len(codes) == len(set(codes)), "an error code stands for one class"
    for kind in kinds:
        assert kind.__doc__


def test_the_page_of_error_codes_is_that_of_the_classes() -> None:
    from nexus import errors
    from nexus.cli.grammar import UsageError

    page = (ROOT / "docs" / "reference" / "error-codes.md").read_text()
    rows = re.findall(r"^\| (NX-\w+-\d+) \| `(\w+)` \| (\d+) \| (.*) \|$", page, re.M)
    kinds = [*vars(errors).values(), UsageError]
    classes = [k for k in kinds if isinstance(k, type) and issubclass(k, errors.NexusError)]
    wanted = {
        (k.code, k.__name__, str(k.exit_code), (k.__doc__ or "").splitlines()[0])
        for k in classes
        if not k.code.startswith("NX-GEN")  # what the others are derived from
    }
    assert set(rows) == wanted


def test_readme_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"`(\./dev[^`]*|nexus [^`]*)`", text):
        words = line.split()
        assert words[0] in PROGRAMS
        for word in words[1:]:
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), line
