"""Fibers that misbehave, and supervisors that are killed: everything ends, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.errors import AbsentError
from nexus.logic.bkdl import encode_plan
from nexus.logic.confine import FiberSpec, HostLayers, confine
from nexus.logic.pledge import DEFAULT_PROMISES
from nexus.physics.files import HostFiles
from nexus.physics.supervisor import host_facts, seal_plan, supervisor_path

pytestmark = pytest.mark.slow

SECONDS_MAX = 30
KILLS = 100
SPACES = frozenset(
    ["user namespace", "pid namespace", "ipc namespace", "mount namespace", "network namespace"]
)
NOBODY = 65534


@pytest.fixture
def mark() -> str:
    """A word in the environment of supervisor, warden and fiber, by which they are found."""
    return f"NEXUS_TEST_MARK={os.getpid()}-{random.randrange(2**48)}"


def left(mark: str) -> list[int]:
    """Processes that carry the mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


def settle(mark: str) -> list[int]:
    """What is left once killed processes had the time to go."""
    deadline = time.monotonic() + SECONDS_MAX
    while (found := left(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def fiber(mark: str, script: str, **changes: object) -> Iterator[subprocess.Popen[bytes]]:
    """The supervisor of a shell script, in a session of its own."""
    try:
        path = supervisor_path()
    except AbsentError as error:
        pytest.skip(f"faults not checked: {error}")
    facts = host_facts()
    if not facts["namespaces"] or not facts["filter"] or int(str(facts["landlock"])) < 6:
        pytest.skip(f"faults not checked, this host lacks layers: {facts}")
    name, _, value = mark.partition("=")
    fields = {
        "name": "fault",
        "program": "/bin/sh",
        "arguments": ("sh", "-c", script),
        "environment": {"PATH": "/usr/bin:/bin", name: value},
        "directory": "/",
        "promises": DEFAULT_PROMISES,
        "disposition": "deny",
    }
    confined = confine(FiberSpec(**fields | changes), HostLayers(**facts), HostFiles())
    plan = seal_plan(encode_plan(confined.manifest, image=-1, digest=None))
    # Root's processes have no limit of their number: that test needs an ordinary user.
    other = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    process = subprocess.Popen(
        [path, "run", str(plan)], pass_fds=[plan], cwd="/", env={name: value},
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **other,
    )  # fmt: skip
    os.close(plan)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        for pid in left(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ended(process: subprocess.Popen[bytes], mark: str) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert settle(mark) == []
    return process.returncode, out, err


@pytest.mark.parametrize("waived", [frozenset(), SPACES], ids=["namespaces", "none"])
def test_a_fork_bomb_ends_with_its_fiber(mark: str, waived: frozenset[str]) -> None:
    script = "f() { sleep 60 & f 2>/dev/null & sleep 0.01; f; }; f & sleep 1; exit 7"
    # The limit counts every process of the user, so it is far above what others have.
    with fiber(mark, script, limits={"processes": 200}, waived=waived) as process:
        assert ended(process, mark)[0] == 7


def test_the_limit_of_processes_is_felt(mark: str) -> None:
    script = "i=0; while [ $i -lt 400 ]; do sleep 60 & i=$((i+1)); done; exit 7"
    with fiber(mark, script, limits={"processes": 200}) as process:
        code, _, err = ended(process, mark)
    assert code == 2
    assert b"fork" in err


@pytest.mark.parametrize("waived", [frozenset(), SPACES], ids=["namespaces", "none"])
def test_a_memory_hog_is_refused(mark: str, waived: frozenset[str]) -> None:
    script = "x=0123456789abcdef; while :; do x=$x$x; done"
    with fiber(mark, script, limits={"memory": 64 << 20}, waived=waived) as process:
        assert ended(process, mark)[0] != 0


def test_descriptors_run_out_for_the_fiber_alone(mark: str) -> None:
    script = (
        "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null; echo open"
    )
    with fiber(mark, script, limits={"files": 8}) as process:
        code, out, err = ended(process, mark)
    assert code == 2
    assert out == b""
    assert err
    with fiber(mark, script, limits={"files": 16}) as process:
        assert ended(process, mark)[:2] == (0, b"open\n")


def test_a_storm_of_signals_is_passed_on_and_survived(mark: str) -> None:
    script = (
        "n=0; trap 'n=1' USR1; trap '' USR2 WINCH; echo up; while [ $n = 0 ]; do :; done; exit 9"
    )
    with fiber(mark, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        for _ in range(20_000):
            process.send_signal(signal.SIGWINCH)
            process.send_signal(signal.SIGUSR2)
        process.send_signal(signal.SIGUSR1)
        assert ended(process, mark)[0] == 9


def test_being_asked_to_end_ends_even_what_ignores_it(mark: str) -> None:
    script = "trap '' TERM INT HUP; echo up; while :; do sleep 60 & wait; done"
    with fiber(mark, script, grace_ms=200, restart="always") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert ended(process, mark)[0] == 128 + signal.SIGKILL


def test_a_fiber_that_always_fails_is_given_up(mark: str) -> None:
    changes = {"restart": "on-failure", "intensity": 3, "period_ms": 60_000}
    with fiber(mark, "echo try; exit 1", **changes) as process:
        code, out, err = ended(process, mark)
    assert (code, out) == (1, b"try\n" * 4)
    assert b"breaker opened after 4 starts" in err


def kill_at_random(mark: str, waived: frozenset[str]) -> int:
    """Kill supervisors at random moments of their start; how many fibers had begun."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    begun = 0
    for _ in range(KILLS):
        with fiber(mark, "echo up; exec sleep 60", waived=waived) as process:
            time.sleep(source.random() * 0.012)
            process.kill()
            out, _ = process.communicate(timeout=SECONDS_MAX)
            begun += out == b"up\n"
            assert settle(mark) == []
    return begun


@pytest.mark.parametrize("waived", [frozenset(), SPACES], ids=["namespaces", "none"])
def test_a_killed_supervisor_leaves_no_fiber(mark: str, waived: frozenset[str]) -> None:
    begun = kill_at_random(mark, waived)
    print(f"{begun} of {KILLS} fibers had begun")
    assert 0 < begun < KILLS


def test_without_a_pid_namespace_what_the_fiber_started_outlives_a_killed_supervisor(
    mark: str,
) -> None:
    # The record of the layers says so; with the namespace the same child goes.
    script = "sleep 300 >/dev/null 2>&1 & echo up; wait"
    for waived, survives in ((SPACES, True), (frozenset(), False)):
        with fiber(mark, script, waived=waived) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
            process.wait()
            if survives:
                time.sleep(0.3)
                assert len(left(mark)) == 1
            else:
                assert settle(mark) == []
