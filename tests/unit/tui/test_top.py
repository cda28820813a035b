"""What `nexus top` shows, and that it says so where Textual is missing."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from nexus import cli
from nexus.tui import source

STATUS = {
    "type": "status", "node": "/n", "state": "up", "up_s": 12.3, "events": 5, "wakes": 7,
    "fibers": [
        {
            "name": "nav", "state": "alive", "lives": 2, "restarts": 1, "tier": "matter",
            "strikes": 1, "bursts": 9, "checkpoint": 4, "pid": 77,
            "flags": ["budget", "checkpoints"],
        },
        {
            "name": "log", "state": "over", "lives": 1, "restarts": 0, "tier": "matter",
            "strikes": 0, "bursts": 0, "checkpoint": 0, "pid": 0, "flags": [],
        },
    ],
}  # fmt: skip


def test_a_row_shows_what_is_held_and_no_more() -> None:
    assert source.rows(STATUS) == [
        ("nav", "alive", "2", "1", "matter", "1", "9", "4", "77"),
        ("log", "over", "1", "0", "-", "-", "-", "-", "-"),
    ]
    assert source.title(STATUS) == "/n  up for 12 s  5 events  7 wake-ups"


@pytest.mark.slow
def test_a_node_that_is_down_is_said_and_not_raised(tmp_path) -> None:
    status = source.read_status(str(tmp_path))
    assert status["code"] == "NX-NOD-002"
    assert "no node is up" in source.title(status)
    assert source.rows(status) == []


def test_without_textual_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["top"]) == 40
    error = capsys.readouterr().err
    assert "error[NX-CLI-002]" in error
    assert "pip install 'nexus-node[tui]'" in error


@pytest.mark.slow
def test_the_terminal_fills_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("textual", reason="nexus top not driven: pip install 'nexus-node[tui]'")
    from textual.widgets import DataTable

    from nexus.tui import app

    monkeypatch.setattr(app, "read_status", lambda node: STATUS)

    async def drive() -> int:
        top = app.TopApp(None)
        async with top.run_test() as pilot:
            for _ in range(100):
                await pilot.pause(0.02)
                if top.query_one("#fibers", DataTable).row_count:
                    break
            await pilot.press("q")
            return int(top.query_one("#fibers", DataTable).row_count)

    assert asyncio.run(drive()) == 2
