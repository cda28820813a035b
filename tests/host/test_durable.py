"""Checkpoints that outlive the node: over orderly ends, over SIGKILL, and damage to their file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nexus
from nexus.errors import AbsentError
from nexus.physics.supervisor import host_facts, supervisor_path

pytestmark = pytest.mark.slow

COPY = 41_288
SEQUENCE_AT = 32
LAG = 8  # saves of 0.1 s that may not have reached the file yet: it is written each 0.4 s
KEEPER = """
from nexus.fiber import run

def keeper(context):
    count = int(context.restored or b"0")
    print("restored", count, flush=True)
    for _ in context.periodic(0.1):
        count += 1
        context.checkpoint(str(count).encode())
        print("saved", count, flush=True)

run(keeper)
"""
NODE = """
fiber "keeper" {{
    module "keeper"
    pledge "stdio" "rpath"
    unveil "{folder}" "r"
    environment {{ PYTHONPATH "{folder}"; }}
    restart "always"
    checkpoint {durable}
}}
"""


class Keeper:
    """A node with one fiber that counts, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = folder / "node"
        self.file = self.node / "checkpoints" / "keeper"
        (folder / "keeper.py").write_text(KEEPER)
        self.describe("durable")

    def describe(self, durable: str) -> None:
        (self.folder / "node.kdl").write_text(NODE.format(folder=self.folder, durable=durable))

    def boot(self, saves: int, end: signal.Signals) -> tuple[int, int]:
        """Boot, let it save so often, end L0 so; what it began with, and what it saved last."""
        words = ["boot", str(self.folder / "node.kdl"), "--node", str(self.node)]
        root = Path(nexus.__file__).resolve().parent.parent
        log = self.node / "log" / "keeper.log"
        log.unlink(missing_ok=True)
        child = subprocess.Popen(
            [sys.executable, "-m", "nexus.cli", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        try:
            until = time.monotonic() + 30
            while not log.exists() or log.read_text().count("saved") < saves:
                assert child.poll() is None
                assert time.monotonic() < until
                time.sleep(0.02)
            if end == signal.SIGKILL:
                (below,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
                os.kill(int(below), signal.SIGKILL)
            else:
                child.terminate()
            child.wait(30)
        finally:
            child.kill()
            child.wait()
        lines = [line.split() for line in log.read_text().splitlines()]
        numbers = [(word, int(number)) for word, number in lines]
        return numbers[0][1], numbers[-1][1]

    def sequences(self) -> list[int]:
        data = self.file.read_bytes()
        places = (at + SEQUENCE_AT for at in (0, COPY))
        return [int.from_bytes(data[at : at + 8], "little") for at in places]

    def flip(self, copy: int) -> None:
        data = bytearray(self.file.read_bytes())
        data[copy * COPY + 20_000] ^= 1
        self.file.write_bytes(data)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    try:
        supervisor_path()
    except AbsentError as error:
        pytest.skip(f"durable checkpoints not checked: {error}")
    facts = host_facts()
    if not facts["filter"] or not facts["namespaces"] or facts["landlock"] < 6:
        pytest.skip(f"durable checkpoints not checked, this host lacks layers: {facts}")
    with tempfile.TemporaryDirectory(prefix="nexus-", dir="/var/tmp") as folder:
        yield Keeper(Path(folder))


def test_a_boot_after_an_orderly_end_goes_on_from_the_last_save(keeper: Keeper) -> None:
    began, last = keeper.boot(5, signal.SIGTERM)
    assert began == 0
    assert keeper.boot(3, signal.SIGTERM)[0] == last


def test_a_sealed_image_is_not_taken_for_the_file_of_the_checkpoints(keeper: Keeper) -> None:
    keeper.describe("durable; seal")
    began, last = keeper.boot(5, signal.SIGTERM)
    assert began == 0
    assert keeper.boot(3, signal.SIGTERM)[0] == last


def test_a_boot_after_sigkill_of_the_supervisor_lacks_what_the_file_did_not_have(
    keeper: Keeper,
) -> None:
    _, last = keeper.boot(15, signal.SIGKILL)
    assert keeper.boot(1, signal.SIGTERM)[0] >= last - LAG


def test_one_damaged_copy_costs_what_lies_between_and_two_cost_all(keeper: Keeper) -> None:
    _, last = keeper.boot(15, signal.SIGTERM)
    sequences = keeper.sequences()
    assert len(set(sequences)) == 2
    assert min(sequences) > 0
    keeper.flip(sequences.index(max(sequences)))
    began, _ = keeper.boot(15, signal.SIGTERM)
    assert last - 2 * LAG <= began < last
    keeper.flip(0)
    keeper.flip(1)
    assert keeper.boot(1, signal.SIGTERM)[0] == 0


def test_what_is_not_durable_begins_at_nothing(keeper: Keeper) -> None:
    keeper.describe("")
    keeper.boot(3, signal.SIGTERM)
    assert keeper.boot(1, signal.SIGTERM)[0] == 0
    assert not keeper.file.exists()
