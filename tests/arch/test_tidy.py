"""The rules of style that a machine can hold, each with its remedy in the message."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LINES_MAX = 500
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
ROOT_ENTRIES_MAX = 24
README_LINES_MAX = 150

CODE = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".cc", ".build"}
# Tables made by a rule that a test checks, not text that anyone reads.
GENERATED = re.compile(r"^golden_|_table\.h$|_gear\.h$")

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "stuff"}

BANNED = [
    (re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b"), "do it now, or write an issue"),
    (re.compile(r"^\s*except\s*:"), "name the exception"),
    (re.compile(r"^\s*except (?:Base)?Exception\b(?!.*#)"), "name the exception, or say why all"),
    (re.compile(r"^\s*IF |^\s*DEF "), "deprecated in Cython; use C or a function"),
    (re.compile(r"\bcpdef\b"), "use def for Python and cdef for Cython"),
    (re.compile(r"#\s*type:\s*ignore\s*$"), "name the error code"),
    (re.compile(r"#\s*noqa\s*$"), "name the rule"),
]


def tracked(root: Path) -> list[Path]:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(listing, cwd=root, capture_output=True, check=True).stdout
    return [root / name for name in out.decode().split("\0") if name and (root / name).exists()]


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    if not (root / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the tree is not known")
    return tracked(root)


def code_files(files: list[Path]) -> Iterator[Path]:
    for path in files:
        if path.suffix in CODE and not GENERATED.search(path.name):
            yield path


def test_files_are_short(files: list[Path]) -> None:
    long = {
        str(p): n for p in code_files(files) if (n := len(p.read_text().splitlines())) > LINES_MAX
    }
    assert not long, f"one concept a file, at most {LINES_MAX} lines: split these: {long}"


def test_lines_are_short(files: list[Path]) -> None:
    long = [
        f"{path}:{number}"
        for path in code_files(files)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > COLUMNS_MAX
    ]
    assert not long, f"at most {COLUMNS_MAX} columns: {long}"


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def c_functions(text: str) -> Iterator[tuple[str, int]]:
    """Functions of our C form: the opening and the closing brace stand alone in column 0."""
    start = 0
    name = ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line == "{":
            head = " ".join(lines[max(0, number - 6) : number])
            match = re.findall(r"(\w+)\s*\(", head)
            name, start = (match[-1] if match else "?"), number
        elif line == "}" and start:
            yield name, number - start + 1
            start = 0


def test_functions_are_short(files: list[Path]) -> None:
    long = []
    for path in code_files(files):
        found = []
        if path.suffix == ".py":
            found = list(python_functions(path))
        elif path.suffix in (".c", ".h"):
            found = list(c_functions(path.read_text()))
        long += [f"{path}:{name} {n}" for name, n in found if n > FUNCTION_LINES_MAX]
    assert not long, f"at most {FUNCTION_LINES_MAX} lines a function: {long}"


def test_function_measure_can_fail() -> None:
    text = "static int f(int a)\n{\n" + "    a++;\n" * 80 + "}\n"
    assert list(c_functions(text)) == [("f", 82)]


def test_no_banned_words(files: list[Path], root: Path) -> None:
    found = []
    for path in code_files(files):
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for pattern, remedy in BANNED:
                if pattern.search(line):
                    found.append(f"{path.relative_to(root)}:{number}: {remedy}")
    assert not found, "\n".join(found)


def test_names_say_what_is_inside(files: list[Path]) -> None:
    vague = [str(p) for p in code_files(files) if p.stem.lstrip("_") in VAGUE]
    assert not vague, f"name a file by the one concept in it: {vague}"


def test_modules_and_headers_begin_with_what_they_are(files: list[Path]) -> None:
    bare = []
    for path in code_files(files):
        text = path.read_text()
        if path.suffix == ".py" and text.strip() and ast.get_docstring(ast.parse(text)) is None:
            bare.append(str(path))
        # A kernel's theory stands in its header.
        twin = path.parent.parent / "include" / f"{path.stem}.h"
        if path.suffix in (".c", ".h", ".cc") and "/*" not in text[:200] and not twin.exists():
            bare.append(str(path))
        if path.suffix in (".c", ".h", ".cc") and "SPDX-License-Identifier: Apache-2.0" not in text:
            bare.append(f"{path} (no licence line)")
    assert not bare, f"say in one sentence what the file is: {bare}"


def test_c_division_is_left_to_c(root: Path) -> None:
    # cdivision is off, so a C division in Cython pays for a zero test and floors: do it in C.
    declared = re.compile(r"cdivision\s*=\s*True")
    for path in (root / "nexus").rglob("*.pyx"):
        assert not declared.search(path.read_text()), path


def test_root_stays_small(files: list[Path], root: Path) -> None:
    entries = {p.relative_to(root).parts[0] for p in files}
    assert len(entries) <= ROOT_ENTRIES_MAX, sorted(entries)


def test_readme_fits(root: Path) -> None:
    assert len((root / "README.md").read_text().splitlines()) <= README_LINES_MAX


def test_text_files_end_with_one_newline(files: list[Path]) -> None:
    wrong = []
    for path in files:
        if path.suffix in CODE | {".md", ".toml"} and path.stat().st_size:
            data = path.read_bytes()
            if not data.endswith(b"\n") or data.endswith(b"\n\n") or b"\r" in data:
                wrong.append(str(path))
    assert not wrong, wrong


def test_no_large_blobs(files: list[Path]) -> None:
    large = [str(p) for p in files if p.stat().st_size > 512 << 10]
    assert not large, f"generate it, or fetch it from a public place: {large}"
