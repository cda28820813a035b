"""The selftest passes here, and fails when something is wrong."""

from __future__ import annotations

import json

import pytest

from nexus import cli
from nexus.cli import selftest


@pytest.mark.slow
def test_all_checks_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["selftest"]) == 0
    text = capsys.readouterr().out
    assert f"{len(selftest.CHECKS)} ok, 0 failed" in text


def test_a_wrong_result_fails_and_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(selftest.BLAKE3, 0, "00")
    monkeypatch.setattr(selftest, "CHECKS", [("hashes", selftest.check_hashes)])
    assert cli.main(["selftest", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["failed"] == 1
    assert "BLAKE3 of 0 bytes" in record["items"][0]["detail"]
