"""What a real supervisor made ahead of a life is killed or replaced as the life begins."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.logic.bkdl import Manifest, Policy, encode_plan
from nexus.logic.control import STAGES
from nexus.physics.supervisor import seal_plan
from nexus.seams.supervisor import FiberState, Operation, Request
from tests.fault.node_rig import Rig, children, resources, wait_until

ANSWER_S = 10.0
ROUNDS = 150


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path, [])
    one.boot({})
    yield one
    one.kill()


@pytest.fixture
def held(rig: Rig) -> Iterator[list[int]]:
    """The descriptors of a START."""
    manifest = Manifest(
        name="test",
        program="/bin/sh",
        arguments=("sh", "-c", "echo here"),
        policy=Policy(pledge=2 << 62),
        environment=("PATH=/usr/bin:/bin",),
    )
    null = os.open(os.devnull, os.O_RDWR)
    plan = seal_plan(encode_plan(manifest, image=-1, digest=None))
    yield [plan, null, null, null]
    os.close(plan)
    os.close(null)


def begin_and_end(rig: Rig, place, number: int) -> None:
    rig.control.begin(place)
    assert rig.control.wait(place, ANSWER_S).status == 0, f"round {number}"


def test_a_life_begins_while_its_killed_template_goes(rig: Rig, held: list[int]) -> None:
    chance = random.Random(1)
    before = resources(rig.pid)["descriptors"]
    for number in range(ROUNDS):
        place = rig.control.start(held, hold=True)
        # The template comes first, then its warden.
        assert wait_until(lambda: len(children(rig.pid)) == 2)
        time.sleep(chance.uniform(0, 0.002))
        os.kill(children(rig.pid)[0], signal.SIGKILL)
        time.sleep(chance.uniform(0, 0.0003))
        begin_and_end(rig, place, number)
        rig.control.forget(place)
        # The warden of the life that was on may be on its way out.
        assert wait_until(lambda: not children(rig.pid))
    assert resources(rig.pid)["descriptors"] == before


def test_a_life_begins_after_a_stop_at_once(rig: Rig, held: list[int]) -> None:
    chance = random.Random(1)
    for number in range(ROUNDS):
        place = rig.control.start(held, hold=True)
        time.sleep(chance.uniform(0, 0.002))
        rig.control.post(Request(Operation.STOP, 1, place.slot, place.generation))
        time.sleep(chance.uniform(0, 0.0003))
        begin_and_end(rig, place, number)
        rig.control.forget(place)


def test_other_standard_descriptors_are_those_of_the_life_that_they_came_with(
    rig: Rig, held: list[int]
) -> None:
    place = rig.control.start(held, hold=True)
    assert wait_until(lambda: len(children(rig.pid)) == 2)
    for _ in range(3):
        end, out = os.pipe()
        rig.control.begin(place, [held[1], out, out])
        os.close(out)
        rig.control.wait(place, ANSWER_S)
        assert os.read(end, 100) == b"here\n"
        os.close(end)


def test_a_life_that_waits_for_what_was_there_before_can_be_stopped(
    rig: Rig, held: list[int]
) -> None:
    place = rig.control.start(held, hold=True)
    rig.link.post(Request(Operation.BEGIN, 0, place.slot, descriptors=tuple(held[1:])))
    rig.control.stop(place, at_once=True)
    rig.control.wait(place, ANSWER_S)
    (entry,) = rig.table.fibers()
    assert entry.state == FiberState.OVER
    rig.control.forget(place)
    assert wait_until(lambda: not rig.table.fibers())


def test_the_stages_have_the_names_that_the_supervisor_knows(root: Path) -> None:
    text = (root / "nexus" / "_core" / "l0" / "stage.c").read_text()
    assert sorted(STAGES) == sorted(
        line.split('"')[1] for line in text.splitlines() if "[NX" in line
    )
    numbers = (
        (root / "nexus" / "_core" / "l0" / "nx_l0.h").read_text().partition("NX_STAGE_NONE")[2]
    )
    order = [line.strip(" ,").removeprefix("NX_STAGE_") for line in numbers.splitlines()]
    order = ["NONE", *order[1 : len(STAGES)]]
    assert [name.lower().replace("_", " ") for name in order] == list(STAGES)
