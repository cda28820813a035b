"""Every --json output is what its schema file says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from nexus import cli

COMMANDS = [
    (["doctor"], "doctor"),
    (["selftest"], "selftest"),
    (["bench", "core", "--quick", "--only", "capability"], "bench"),
    (["help"], "glossary"),
    (["help", "ring"], "word"),
    (["completion", "bash"], "completion"),
]

# Those about a running node are compared in tests/host/test_node.py, those about a program that
# runs in tests/host/test_run_told.py.

NODE_DOCUMENTS = {
    *("boot", "status", "fibers", "fiber", "capabilities", "granted", "revoked"),
    *("event", "lost", "beb", "proof"),
}
RUN_DOCUMENTS = {"policy", "run", "notice", "over"}


def schema(root: Path, name: str) -> dict[str, object]:
    return json.loads((root / "docs/reference/json" / f"{name}.schema.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("words", "name"), COMMANDS, ids=[name for _, name in COMMANDS])
def test_output_fits_its_schema(
    words: list[str], name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    jsonschema.validate(record, schema(root, name))
    assert record["type"] == name
    record["schema"] = 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record, schema(root, name))


@pytest.mark.parametrize("words", [["doctr"], ["help", "nothing-like-this"]])
def test_errors_fit_their_schema(
    words: list[str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--json"]) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    jsonschema.validate(json.loads(captured.err), schema(root, "error"))


def test_every_schema_is_tested(root: Path) -> None:
    files = {p.name.removesuffix(".schema.json") for p in (root / "docs/reference/json").iterdir()}
    assert files == {name for _, name in COMMANDS} | {"error"} | NODE_DOCUMENTS | RUN_DOCUMENTS
