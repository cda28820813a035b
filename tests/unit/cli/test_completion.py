"""The shipped completion scripts are what the parser gives today."""

from __future__ import annotations

from pathlib import Path

import pytest
import shtab

from nexus import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_shipped_script_is_current(
    shell: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = shtab.complete(cli.make_parser(), shell).rstrip("\n")
    place = root / "nexus" / "cli" / "completions" / f"nexus.{shell}"
    remedy = f"run: python -m shtab -s {shell} nexus.cli.make_parser > {place.relative_to(root)}"
    assert place.read_text().rstrip("\n") == fresh, remedy
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out.rstrip("\n") == fresh
