"""What every supervisor does, simulated or real: docs/spec/node.md through the seam."""

from __future__ import annotations

import errno
import os

import pytest

from nexus.errors import (
    DeadlineError,
    NodeDownError,
    RefusedError,
    StaleError,
    UnknownFiberError,
)
from nexus.logic.control import FiberPlace
from nexus.physics.supervisor import seal_plan
from nexus.seams.events import EventKind
from nexus.seams.supervisor import FiberState, NodeState, Operation, Request, Taken

WAIT_S = 20.0
NEVER_RESTART, ON_FAILURE = 0, 1


def entry(table, place: FiberPlace):
    (found,) = [one for one in table.fibers() if one.slot == place.slot]
    return found


def kinds(table, after: int = 0) -> list[EventKind]:
    return [event.kind for event in table.events(after).events]


def test_hello_gives_the_table_of_a_node_that_is_up(node) -> None:
    table = node.control.hello()
    head = table.head()
    assert head.state == NodeState.UP
    assert head.pid > 0
    assert head.start_wall_ns > head.start_ns > 0
    assert table.fibers() == []
    first = table.events(0).events[0]
    assert (first.id, first.kind) == (1, EventKind.SYSTEM_BOOT)


def test_a_fiber_starts_and_stands_in_the_table(node) -> None:
    table = node.control.hello()
    place = node.start("stays")
    found = entry(table, place)
    assert (found.name, found.state, found.lives) == ("stays", FiberState.ALIVE, 1)
    assert found.pid > 0
    assert found.generation == place.generation
    spawned = [e for e in table.events(0).events if e.kind == EventKind.FIBER_SPAWN]
    assert [event.fiber for event in spawned] == [found.id]


def test_wait_tells_the_status_and_the_lives(node) -> None:
    place = node.start("fails")
    end = node.control.wait(place, WAIT_S)
    assert (end.status, end.lives) == (7, 1)


def test_wait_for_a_fiber_that_lives_ends_by_time_alone(node) -> None:
    place = node.start("stays")
    with pytest.raises(DeadlineError):
        node.control.wait(place, 0.05)
    node.control.stop(place)
    assert node.control.wait(place, WAIT_S).lives == 1, "several may wait"


def test_stop_ends_a_fiber_and_its_restarts(node) -> None:
    table = node.control.hello()
    place = node.start("stays", restart=2, intensity=5, period_ms=10_000)
    node.control.stop(place)
    end = node.control.wait(place, WAIT_S)
    assert end.status in (128 + 15, 128 + 9)
    assert entry(table, place).state == FiberState.OVER
    assert EventKind.FIBER_TERMINATE in kinds(table)


def test_a_failing_fiber_is_restarted_until_the_breaker_opens(node) -> None:
    table = node.control.hello()
    place = node.start("fails", restart=ON_FAILURE, intensity=3, period_ms=60_000)
    end = node.control.wait(place, WAIT_S)
    assert (end.status, end.lives) == (7, 4)
    assert EventKind.BREAKER_OPEN in kinds(table)


def test_a_fiber_that_ends_well_is_not_restarted_on_failure(node) -> None:
    place = node.start("ends", restart=ON_FAILURE, intensity=3, period_ms=60_000)
    assert node.control.wait(place, WAIT_S).lives == 1


def test_restart_begins_another_life_whatever_the_policy_says(node) -> None:
    table = node.control.hello()
    place = node.start("stays")
    before = entry(table, place)
    newest = table.events(0).newest
    node.control.restart(place)
    for _ in range(100):
        if EventKind.FIBER_SPAWN in kinds(table, newest):
            break
        table.wait(table.events(newest).newest, 0.1)
    after = entry(table, place)
    assert after.lives == before.lives + 1
    assert after.pid != before.pid
    assert after.generation == before.generation


def test_to_stop_a_fiber_that_is_over_means_none_of_its_later_lives(node) -> None:
    place = node.start("stays", grace_ms=1)
    for _ in range(2):
        node.control.stop(place)
        node.control.wait(place, WAIT_S)
    node.control.begin(place)
    with pytest.raises(DeadlineError):
        node.control.wait(place, 0.2)


def test_who_waits_for_a_start_is_told_that_somebody_stopped_it(node) -> None:
    descriptors = node.plan("stays")
    posted = node.control.post_start(descriptors)
    stop = node.control.post(Request(Operation.STOP, 1, 0))
    for descriptor in descriptors:
        os.close(descriptor)
    node.control.finish(stop)
    answer = node.link.collect(posted[1], 5)
    assert answer.result in (0, -errno.ECANCELED), "0: it ran already"


def test_a_held_fiber_begins_when_told(node) -> None:
    table = node.control.hello()
    place = node.start("stays", hold=True)
    assert entry(table, place).state == FiberState.HELD
    node.control.begin(place)
    assert entry(table, place).state == FiberState.ALIVE
    with pytest.raises(RefusedError) as refused:
        node.control.begin(place)
    assert refused.value.errno == errno.EBUSY


def test_a_generation_that_has_passed_never_meets_its_successor(node) -> None:
    place = node.start("ends")
    node.control.wait(place, WAIT_S)
    node.control.forget(place)
    successor = node.start("stays")
    assert successor.slot == place.slot
    assert successor.generation != place.generation
    with pytest.raises(StaleError):
        node.control.stop(place)


def test_a_living_fiber_is_not_forgotten(node) -> None:
    place = node.start("stays")
    with pytest.raises(RefusedError) as refused:
        node.control.forget(place)
    assert refused.value.errno == errno.EBUSY


def test_an_empty_slot_is_no_fiber(node) -> None:
    with pytest.raises(UnknownFiberError):
        node.control.stop(FiberPlace(3, 0))


def test_a_plan_that_is_not_sound_is_refused(node) -> None:
    plan = seal_plan(bytes(200))
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with pytest.raises(RefusedError) as refused:
            node.control.start([plan, null, null, null])
        assert refused.value.errno == errno.EBADMSG
        with pytest.raises(RefusedError) as refused:
            node.control.start([plan, null, null])
        assert refused.value.errno == errno.EINVAL, "a descriptor too few"
    finally:
        os.close(plan)
        os.close(null)


def test_features_are_added_and_never_taken_away(node) -> None:
    table = node.control.hello()
    boot, runtime = table.features()
    assert runtime == 0
    assert node.control.feature(0b11000) == boot | 0b11000
    assert table.features() == (boot, 0b11000)
    assert node.control.feature(0) == boot | 0b11000
    assert kinds(table).count(EventKind.FEATURE_CHANGE) == 1


def test_the_highest_level_of_a_fiber_adds_to_the_features(node) -> None:
    table = node.control.hello()
    boot, _ = table.features()
    node.start("stays", survivability=boot)
    assert table.features() == (boot, 0), "nothing is added by what is on"
    node.start("stays", survivability=0xFF)
    assert table.features() == (boot, 0xFF & ~boot)
    node.start("stays", survivability=boot)
    assert table.features() == (boot, 0xFF & ~boot), "a lower one takes nothing away"
    assert kinds(table).count(EventKind.FEATURE_CHANGE) == 1


def test_a_capability_is_given_derived_and_taken_with_what_came_of_it(node) -> None:
    table = node.control.hello()
    place = node.start("stays")
    root = node.control.grant(place, type=3, rights=1 | 2 | 16, object=77, start=0, end=4096)
    child = node.control.grant(place, type=3, rights=1, object=77, start=0, end=4096, parent=root)
    words = {word.index: word for word in table.capabilities(place.slot)}
    assert words[root].object == 77
    assert (words[child].rights, words[child].parent) == (1, root + 1)
    with pytest.raises(RefusedError) as refused:
        node.control.grant(place, type=3, rights=4, object=77, end=4096, parent=root)
    assert refused.value.errno == errno.EPERM
    assert node.control.revoke(place, root) == (2, Taken.WORD)
    assert table.capabilities(place.slot) == []


@pytest.mark.parametrize(("kind", "taken"), [(2, Taken.CHANNEL), (3, Taken.FILE)])
def test_no_new_life_has_a_handle_that_was_revoked_until_it_is_granted(node, kind, taken) -> None:
    table = node.control.hello()
    null = os.open(os.devnull, os.O_RDWR)
    place = node.start("stays", extra=[(kind, null), (kind, null)])
    os.close(null)

    def objects() -> list[int]:
        return [word.object for word in table.capabilities(place.slot)]

    def lives(count: int) -> bool:
        for _ in range(100):
            found = entry(table, place)
            if found.lives >= count and found.state == FiberState.ALIVE:
                return found.lives == count
            table.wait(table.events(0).newest, 0.1)
        return False

    assert objects() == [3, 4]
    assert node.control.revoke(place, 0) == (1, taken)
    assert lives(2 if taken == Taken.FILE else 1), "a file is taken with the life"
    assert objects() == [4]
    before = entry(table, place).lives
    node.control.restart(place)
    assert lives(before + 1)
    assert objects() == [4], "the other handle is given again, and it is not"
    node.control.shutdown(phoenix=True)
    assert lives(before + 2)
    assert objects() == [4], "nor does Phoenix give it"
    node.control.grant(place, type=kind, rights=1, object=3)
    node.control.restart(place)
    assert lives(before + 3)
    assert objects() == [3, 4]


def test_a_handle_is_held_as_long_as_one_word_names_it(node) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    place = node.start("stays", extra=[(2, null)])
    os.close(null)
    second = node.control.grant(place, type=2, rights=1, object=3)
    assert node.control.revoke(place, 0) == (1, Taken.WORD)
    assert node.control.revoke(place, second) == (1, Taken.CHANNEL)


def test_the_right_to_delegate_decays_with_depth(node) -> None:
    table = node.control.hello()
    place = node.start("stays")
    every = {"type": 3, "object": 77, "end": 8}
    index = node.control.grant(place, rights=1 | 16, **every)
    for _ in range(2):
        index = node.control.grant(place, rights=1 | 16, parent=index, **every)
    with pytest.raises(RefusedError) as refused:
        node.control.grant(place, rights=1 | 16, parent=index, **every)
    assert refused.value.errno == errno.EPERM
    last = node.control.grant(place, rights=1, parent=index, **every)
    assert [word.depth for word in table.capabilities(place.slot)] == [0, 1, 2, 3]
    with pytest.raises(RefusedError) as refused:
        node.control.grant(place, rights=1, parent=last, **every)
    assert refused.value.errno == errno.EPERM


def test_answers_are_collected_in_any_order(node) -> None:
    place = node.start("stays")
    grant = Request(Operation.GRANT, 0, place.slot, place.generation, words=(3, 77, 0, 8))
    first, second = node.link.post(grant), node.link.post(grant)
    assert node.link.collect(second, WAIT_S).words[0] == 1
    assert node.link.collect(first, WAIT_S).words[0] == 0


def test_waiting_for_an_event_ends_by_time_or_by_the_event(node) -> None:
    table = node.control.hello()
    newest = table.events(0).newest
    assert not table.wait(newest, 0.02)
    node.start("stays")
    assert table.wait(newest, 0.02)
    events = table.events(newest)
    assert [event.id for event in events.events] == list(range(newest + 1, events.newest + 1))
    assert events.lost == 0


def test_who_reads_too_late_is_told_how_many_events_are_lost(node) -> None:
    table = node.control.hello()
    place = node.start("stays")
    for _ in range(600):
        node.control.revoke(place, node.control.grant(place, type=3, rights=1, object=7, end=8))
    events = table.events(0)
    assert events.newest > 1024
    assert events.lost == events.newest - len(events.events)
    assert events.lost > 0
    assert events.events[-1].id == events.newest


def test_phoenix_begins_anew_what_lived_and_nothing_else(node) -> None:
    table = node.control.hello()
    stays, over = node.start("stays"), node.start("fails")
    node.control.wait(over, WAIT_S)
    held = node.start("stays", hold=True)
    before, newest = entry(table, stays), table.events(0).newest
    waiting = node.link.post(Request(Operation.WAIT, 0, stays.slot, stays.generation))
    node.control.shutdown(phoenix=True)
    while EventKind.FIBER_SPAWN not in kinds(table, newest):
        assert table.wait(table.events(0).newest, WAIT_S)
    after = entry(table, stays)
    assert (after.lives, after.generation) == (2, before.generation)
    assert after.pid != before.pid
    assert (entry(table, over).state, entry(table, over).lives) == (FiberState.OVER, 1)
    assert entry(table, held).state == FiberState.HELD
    events = [event for event in table.events(0).events if event.id > newest]
    assert [event.kind for event in events] == [
        EventKind.PHOENIX,
        EventKind.FIBER_TERMINATE,
        EventKind.FIBER_SPAWN,
    ]
    assert [event.id for event in events] == [newest + 1, newest + 2, newest + 3]
    assert (table.head().phoenix, table.head().state) == (1, NodeState.UP)
    node.control.begin(held)
    node.control.stop(stays)
    assert node.link.collect(waiting, WAIT_S).words[1] == 2, "who waited before is told"


def test_shutdown_ends_all_fibers_and_then_the_node(node) -> None:
    table = node.control.hello()
    place = node.start("stays", restart=2, intensity=5, period_ms=10_000)
    node.control.shutdown()
    assert node.gone() == 0
    assert entry(table, place).state == FiberState.OVER
    assert kinds(table)[-1] == EventKind.SYSTEM_SHUTDOWN
    with pytest.raises(NodeDownError):
        node.control.feature(0)
