"""Every --json output is what its schema file says."""

from __future__ import annotations

import json
import os
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
# Of the seed that is 32 zeros.
PUBLIC = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
# In this order: each finds what those before it have left.
VOLUME_COMMANDS = [
    (["fs", "create", "v"], "volume"),
    (["fs", "import", "v", "tree"], "imported"),
    (["snap", "create", "v", "one"], "snapshot"),
    (["snap", "create", "v", "two"], "snapshot"),
    (["fs", "import", "v", "tree/a", "--as", "b/c"], "imported"),
    (["fs", "show", "v"], "volume"),
    (["fs", "list", "v", "--recursive"], "entries"),
    (["fs", "cat", "v", "tree/a"], "content"),
    (["fs", "check", "v", "--full"], "check"),
    (["fs", "gc", "v"], "collected"),
    (["fs", "export", "v", "tree", "again"], "exported"),
    (["snap", "sign", "v", "one", "--key", "key"], "signed"),
    (["snap", "verify", "v", "one", "--key", PUBLIC], "signature"),
    (["snap", "prove", "v", "one", "tree/a"], "proved"),
    (["snap", "prove", "v", "one", "tree/a", "-o", "a.proof"], "proved"),
    (["snap", "verify-proof", "a.proof", "--root", "ROOT", "--file", "tree/a"], "statement"),
    (["snap", "list", "v"], "snapshots"),
    (["snap", "diff", "v", "one"], "changes"),
    (["snap", "restore", "v", "one"], "restored"),
    (["snap", "delete", "v", "one", "--yes"], "forgotten"),
    (["fs", "delete", "v", "b"], "deleted"),
    (["fs", "delete", "v", "--all", "--yes"], "deleted"),
]


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


def test_output_about_a_volume_fits_its_schema(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("a")
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_bytes(bytes(32))
    (tree / os.fsdecode(b"\xff")).symlink_to(os.fsdecode(b"\xfe"))
    known = ""
    for words, name in VOLUME_COMMANDS:
        words = [known if word == "ROOT" else word for word in words]
        assert cli.main([*words, "--json"]) == 0, words
        record = json.loads(capsys.readouterr().out)
        known = record.get("root", known)
        jsonschema.validate(record, schema(root, name))
        assert record["type"] == name
        for key in schema(root, name)["required"]:
            less = {one: value for one, value in record.items() if one != key}
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(less, schema(root, name))


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
    own = {name for _, name in (*COMMANDS, *VOLUME_COMMANDS)}
    assert files == own | {"error"} | NODE_DOCUMENTS | RUN_DOCUMENTS
