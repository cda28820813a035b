"""Connections to a real supervisor: more clients than it takes, and an L1 that spoils its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.errors import DeadlineError, NodeDownError
from nexus.logic.bkdl import HANDLE_CONTROL, Manifest, Policy, encode_plan
from nexus.logic.control import Control, FiberPlace
from nexus.physics.control import ControlLink, connect_node
from nexus.physics.supervisor import seal_plan
from nexus.seams.supervisor import Operation, Request
from tests.fault.node_rig import Rig, resources, wait_until

CLIENTS = 8
ANSWER_S = 10.0
CONTROL = 5
# What L1 does here: asks, says what the answer was, and shuts its connection down.
SPOILER = f"""
import os, socket, struct
link = socket.socket(fileno={CONTROL})
packet = struct.Struct("<HHIII6Q")
try:
    link.send(packet.pack(12, 0, 1, 0, 0, *[0] * 6))
    result = packet.unpack(link.recv(64))[5]
except OSError as error:
    result = error.errno
os.write(1, b"%d\\n" % result)
link.shutdown(socket.SHUT_RDWR)
"""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    one = Rig(tmp_path, [])
    one.boot({})
    yield one
    one.kill()


def plan_of(*words: str, handles: tuple[tuple[int, int], ...] = (), **policy: int) -> int:
    program = words[0]
    manifest = Manifest(
        name="test",
        program=program,
        arguments=words,
        policy=Policy(pledge=2 << 62, **policy),
        environment=("PATH=/usr/bin:/bin",),
    )
    return seal_plan(encode_plan(manifest, image=-1, digest=None, handles=handles))


@pytest.fixture
def connect(rig: Rig) -> Iterator[Callable[[], ControlLink]]:
    """Makes connections, which are closed at the end."""
    links: list[ControlLink] = []

    def another() -> ControlLink:
        links.append(connect_node(rig.directory.control))
        return links[-1]

    yield another
    for link in links:
        link.close()


@pytest.fixture
def client(connect: Callable[[], ControlLink]) -> Callable[[], ControlLink]:
    """Makes connections that have had an answer."""

    def another() -> ControlLink:
        link = connect()
        Control(link).feature(0)
        return link

    return another


def is_there(link: ControlLink) -> bool:
    try:
        Control(link).feature(0)
    except NodeDownError:
        return False
    return True


def is_dropped(link: ControlLink) -> bool:
    """Whether its connection has ended, without a request that would make it a busy one."""
    try:
        link.collect(1 << 20, 0.2)
    except DeadlineError:
        return False
    except NodeDownError:
        return True
    raise AssertionError("an answer that nobody asked for")


def test_one_client_more_than_fit_takes_the_place_of_the_longest_idle(rig: Rig, client) -> None:
    links = [client() for _ in range(CLIENTS)]
    Control(links[0]).feature(0)  # now the second is the longest without a request
    more = client()
    assert is_dropped(links[1])
    assert [is_dropped(link) for link in links[2:]] == [False] * (CLIENTS - 2)
    assert is_there(links[0])
    assert is_there(more)
    Control(rig.link).feature(0)


def test_a_client_that_waits_for_an_answer_is_not_dropped(rig: Rig, client) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    plan = plan_of("/bin/sleep", "1000")
    place = rig.control.start([plan, null, null, null])
    links = [client() for _ in range(CLIENTS)]
    asked = Request(Operation.WAIT, 0, place.slot, place.generation)
    tickets = [link.post(asked) for link in links[:4]]
    others = [client() for _ in range(CLIENTS)]
    assert [is_dropped(link) for link in links] == [False] * 4 + [True] * 4
    assert [is_dropped(link) for link in others] == [True] * 4 + [False] * 4
    rig.control.stop(place, at_once=True)
    for link, ticket in zip(links, tickets, strict=False):
        assert link.collect(ticket, ANSWER_S).words[0] == 128 + 9
    os.close(plan)
    os.close(null)


def test_when_all_wait_another_client_is_turned_away(rig: Rig, client, connect) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    plan = plan_of("/bin/sleep", "1000")
    places = [rig.control.start([plan, null, null, null]) for _ in range(2)]
    links = [client() for _ in range(CLIENTS)]
    tickets = []
    for number, link in enumerate(links):
        place = places[number % 2]  # four may wait for a fiber
        asked = Request(Operation.WAIT, 0, place.slot, place.generation)
        tickets.append(link.post(asked))
        assert not is_dropped(link)
    more = connect()
    assert is_dropped(more)
    rig.control.stop(places[0], at_once=True)
    assert links[0].collect(tickets[0], ANSWER_S).words[0] == 128 + 9
    assert is_there(client())
    os.close(plan)
    os.close(null)


def test_each_life_of_l1_has_a_connection_of_its_own(rig: Rig) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    end, out = os.pipe()
    python = str(Path(sys.executable).resolve())
    plan = plan_of(
        python, "-I", "-c", SPOILER, handles=((HANDLE_CONTROL, CONTROL),), restart=2,
        intensity=4, period_ms=60_000,
    )  # fmt: skip
    rig.control.start([plan, null, out, out], observer=True)
    place = FiberPlace(16, 0)
    rig.control.wait(place, ANSWER_S)
    os.close(out)
    rig.kill()
    with os.fdopen(end) as lives:
        assert lives.read().split() == ["0"] * 5
    os.close(plan)
    os.close(null)


def test_connections_that_are_gone_leave_no_descriptor(rig: Rig, client) -> None:
    before = resources(rig.pid)["descriptors"]
    for _ in range(3 * CLIENTS):
        client().close()
    assert wait_until(lambda: resources(rig.pid)["descriptors"] == before)
