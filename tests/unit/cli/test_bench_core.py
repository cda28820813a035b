"""The shipped benchmark measures every row and explains it."""

from __future__ import annotations

import json

import pytest

from nexus import cli


@pytest.mark.slow
def test_every_row_is_measured_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "core", "--quick", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert len(items) >= 12
    for item in items:
        assert item["ns"] > 0
        assert item["peer_ns"] > 0
        assert item["ratio"] == pytest.approx(item["ns"] / item["peer_ns"])
        assert item["meaning"]


@pytest.mark.slow
def test_the_table_for_people_has_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "core", "--quick", "--only", "RING"]) == 0
    text = capsys.readouterr().out
    assert "ring put + get" in text
    assert "blake3" not in text
    assert "only ratios compare across machines" in text
