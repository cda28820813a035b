"""The last measures on this host: what the supervisor takes, and what it refuses. The watchdog
itself is tested in a guest (tests/guest/test_watchdog.py)."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nexus.errors import AbsentError, NodeError, RefusedError
from nexus.logic.control import Control
from nexus.logic.guard import Guard
from nexus.membrane.boot import RunningNode, arm
from nexus.physics.control import ControlLink, connect_node, control_pair, listen_node
from nexus.physics.supervisor import supervisor_path
from nexus.seams.events import EventKind
from nexus.seams.supervisor import NodeState

NOBODY = 65534
ASKED = Guard(limit=1, period_ms=600_000)


@contextmanager
def served(user: int | None = None) -> Iterator[tuple[Control, Path]]:
    """A bare supervisor, and where it listens."""
    try:
        path = supervisor_path()
    except AbsentError as error:
        pytest.skip(f"the last measures are not checked: {error}")
    ours, theirs = control_pair()
    with tempfile.TemporaryDirectory(prefix="nexus-") as folder:
        place = Path(folder, "control")
        with theirs, listen_node(place) as listener:
            words = [path, "serve", str(theirs.fileno()), str(listener.fileno())]
            process = subprocess.Popen(
                words, pass_fds=[theirs.fileno(), listener.fileno()], env={}, user=user
            )
        control = Control(ControlLink(ours))
        try:
            yield control, place
        finally:
            control.close()
            assert process.wait(20) == 0


def phoenix(control: Control) -> None:
    """Ask for it, and wait until it is heard."""
    table = control.hello()
    newest = table.head().newest
    control.shutdown(phoenix=True)
    assert table.wait(newest, 20)
    control.feature(0)
    table.close()


@pytest.mark.parametrize("user", [None, *([NOBODY] if os.geteuid() == 0 else [])])
def test_the_limit_is_the_one_that_was_asked_for_and_outlives_phoenix(user: int | None) -> None:
    with served(user) as (control, _):
        assert control.guard(ASKED.words, None) == 0
        for _ in range(3):
            phoenix(control)
        table = control.hello()
        events = table.events(0).events
        assert table.head().phoenix == 1
        risen = [event for event in events if event.kind == EventKind.PHOENIX]
        assert [event.data[0] for event in risen] == [0], "the supervisor was executed anew"
        opened = [event for event in events if event.kind == EventKind.BREAKER_OPEN]
        assert [(e.fiber, e.entity, e.data[0]) for e in opened] == [(0, 1, 600 * 10**9)] * 2
        assert table.head().state == NodeState.UP


@pytest.mark.parametrize(
    "words",
    [
        (0, 1, 0, 0),
        (65, 1, 0, 0),
        (1, 0, 0, 0),
        (1, 1 << 32, 0, 0),
        (1, 1, 3, 0),
        (1, 1, 1, 0),
        (1, 1, 0, 1),
        (1, 1, 0, 65_536),
        (1, 1, 0, 10),
    ],
)
def test_what_is_out_of_range_is_refused(words: tuple[int, int, int, int]) -> None:
    with served() as (control, _):
        with pytest.raises(RefusedError) as refused:
            control.guard(words, None)
        assert refused.value.errno == errno.EINVAL
        phoenix(control)
        assert control.hello().head().phoenix == 1, "nothing has changed"


def test_nobody_but_the_starter_has_a_say() -> None:
    with served() as (control, place):
        other = Control(connect_node(place))
        with pytest.raises(RefusedError) as refused:
            other.guard(ASKED.words, None)
        assert refused.value.errno == errno.EPERM
        other.close()
        assert control.guard(ASKED.words, None) == 0


def test_what_is_no_watchdog_is_said_to_be_none() -> None:
    with served() as (control, _):
        running = RunningNode(control, None, 0, {})  # type: ignore[arg-type]
        with pytest.raises(NodeError, match="/dev/null is no watchdog that takes"):
            arm(running, Guard(watchdog=os.devnull))
        with pytest.raises(NodeError, match="/nothing/there cannot be opened"):
            arm(running, Guard(watchdog="/nothing/there"))
        assert not running.guarded


@pytest.mark.skipif(
    os.geteuid() != 0, reason="that a reboot is refused takes root, who starts another user's"
)
def test_a_reboot_takes_the_privilege_already_when_it_is_asked_for() -> None:
    with served(NOBODY) as (control, _):
        running = RunningNode(control, None, 0, {})  # type: ignore[arg-type]
        with pytest.raises(NodeError, match="CAP_SYS_BOOT is missing"):
            arm(running, Guard(then="reboot"))
