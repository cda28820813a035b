"""The page on policy says what the code does: layers, probes and promises are compared."""

from __future__ import annotations

import errno
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from nexus.logic.confine import LAYERS
from nexus.logic.promises import ABSENT, CALLS, PROMISES

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "policy.md").read_text()


def table(title: str) -> dict[str, list[str]]:
    """The first table below a heading, by its first column."""
    text = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    end = next((i for i, row in enumerate(rows) if row[0] == "calls"), len(rows))
    return {row[0]: row[1:] for row in rows[1:end]}


def test_layers_are_those_of_the_code() -> None:
    assert {name: row[0] for name, row in table("Layers").items()} == LAYERS


def test_promises_are_those_of_the_code() -> None:
    want = {word: CALLS.get(word, "-").split() for word in PROMISES}
    assert {word: row[0].split() for word, row in table("Promises").items()} == want
    for word in ABSENT:
        assert f"`{word}`" in PAGE


def test_probes_are_those_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    place = ROOT / "tests" / "host" / "test_confinement.py"
    spec = importlib.util.spec_from_file_location("probes_of_the_page", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    want = {
        name: [", ".join(probe.owners), errno.errorcode.get(probe.error, "SIGSYS")]
        for name, probe in module.PROBES.items()
    }
    assert table("What holds which way out") == want


def test_page_names_files_that_exist() -> None:
    for path in re.findall(r"`(tests/[^`]+)`", PAGE):
        assert (ROOT / path).exists(), path
