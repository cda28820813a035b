"""Small campaigns of the rigs in node_kill.py and node_hostile.py; docs/reference/faults.md."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nexus._core import probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        probe.user_namespace() < 0 or probe.landlock() < 6 or shutil.which("cc") is None,
        reason="a node without waived layers takes user namespaces and Landlock 6, and its native "
        "fiber a C compiler: the deaths of its processes were not tried here",
    ),
]

FOLDER = Path(__file__).parent


def campaign(script: str, *words: object) -> dict:
    command = [sys.executable, str(FOLDER / script), *map(str, words), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    print(run.stdout, run.stderr)
    assert run.stdout, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == bool(found["wrong"])
    return found


@pytest.mark.parametrize("who", ["fiber", "template", "warden", "l1", "l0", "page"])
def test_a_node_outlives_the_death_of_its_processes(who: str) -> None:
    counts = {"fiber": 40, "template": 30, "warden": 30, "l1": 20, "l0": 10, "page": 500}
    found = campaign("node_kill.py", "--who", who, "--count", counts[who], "--seed", 7)
    assert found["wrong"] == []


@pytest.mark.parametrize("who", ["fiber", "l1", "l0", "page"])
def test_the_rig_notices_what_is_broken_on_purpose(who: str) -> None:
    assert campaign("node_kill.py", "--who", who, "--count", 2, "--canary")["wrong"] != []


@pytest.mark.parametrize(("what", "count"), [("packets", 3000), ("churn", 20)])
def test_a_supervisor_among_hostile_clients_and_in_churn(what: str, count: int) -> None:
    assert campaign("node_hostile.py", "--what", what, "--count", count)["wrong"] == []


@pytest.mark.parametrize(("what", "count"), [("packets", 500), ("churn", 2)])
def test_what_stays_in_the_supervisor_is_noticed(what: str, count: int) -> None:
    found = campaign("node_hostile.py", "--what", what, "--count", count, "--canary")
    assert any("descriptors" in one for one in found["wrong"])
    assert any("start" in one for one in found["wrong"]) == (what == "churn")
