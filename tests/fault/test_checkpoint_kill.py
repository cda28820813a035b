"""Killing the writer of a checkpoint slot; 2,000 kills: python tests/fault/checkpoint_kill.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("checkpoint_kill.py")


def campaign(kills: int, order: str) -> dict:
    command = [sys.executable, str(SCRIPT), "--kills", str(kills), "--order", order]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    print(run.stderr.strip(), run.stdout.strip())
    assert run.stdout, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [200])
def test_no_acknowledged_checkpoint_is_lost_to_kills(kills):
    result = campaign(kills, "slot")
    assert result["lost"] == 0
    assert result["torn"] > 0, "no kill came in the middle of a save: nothing was tested"


@pytest.mark.slow
def test_the_order_a_then_b_loses_checkpoints_in_the_same_rig():
    result = campaign(100, "naive")
    assert result["lost"] > 0
