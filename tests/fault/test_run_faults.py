"""`nexus run` on a bad day: flipped bits, a stepped clock, no descriptors left, a full disk."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.errors import NexusError
from nexus.logic.bkdl import Manifest, Policy, encode_plan
from nexus.logic.confine import HostLayers, confine
from nexus.logic.manifest import Draft, Program, complete, parse_manifest
from nexus.physics.files import HostFiles
from nexus.physics.seccomp import Action, ArgumentTest, SeccompFilter, SeccompRule
from nexus.physics.supervisor import host_facts, seal_image, seal_plan, supervisor_path
from nexus.physics.syscalls import syscalls

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not host_facts()["namespaces"] or host_facts()["landlock"] < 6,
        reason="a run takes user namespaces and Landlock 6: its faults were not checked here",
    ),
]

RUN = [sys.executable, "-m", "nexus.cli", "run"]
FAILED = 125
MANIFEST = 'fiber "a" {{\n  program "/bin/sh" "-c" "echo ran > {0}/ran"\n  unveil "{0}" "rwc"\n}}\n'


def plan_of(words: list[str], folder: Path, **said: object) -> int:
    """A sealed plan of a program, inheritable; with `image` and `digest` of that."""
    image, digest = said.pop("image", -1), said.pop("digest", None)
    draft = Draft(**said)
    program = Program(words[0], tuple(words), None, dynamic=True)
    environment = {"PATH": "/usr/bin:/bin"}
    spec = complete(draft, program, environment=environment, directory=str(folder))
    confined = confine(spec, HostLayers(**host_facts()), HostFiles())
    plan = seal_plan(encode_plan(confined.manifest, image=image, digest=digest))
    os.set_inheritable(plan, True)
    return plan


def started(plan: int, prepare=None) -> subprocess.CompletedProcess[str]:
    """Run nexus-l0 on a plan; `prepare` runs in it before it begins."""
    return subprocess.run(
        [supervisor_path(), "run", str(plan)], close_fds=False, capture_output=True, text=True,
        timeout=60, check=False, preexec_fn=prepare,
    )  # fmt: skip


def test_a_flipped_bit_of_a_manifest_starts_nothing_or_another_valid_one(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    good = MANIFEST.format(tmp_path).encode()
    target = tmp_path / "m.kdl"
    refused = 0
    for _ in range(200):
        bit = chosen.randrange(len(good) * 8)
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            (draft,) = parse_manifest(bytes(flipped).decode("utf-8"))
            assert draft.program
            continue  # another text that says something: no checksum is promised
        except (NexusError, UnicodeDecodeError, ValueError, AssertionError):
            pass
        refused += 1
        if refused > 12:
            break
        target.write_bytes(flipped)
        done = subprocess.run(
            [*RUN, "--manifest", str(target)], capture_output=True, text=True, timeout=60,
            cwd=tmp_path, check=False,
        )  # fmt: skip
        assert done.returncode == 2, (bit, done.stderr)
        assert done.stderr.startswith("error[NX-"), (bit, done.stderr)
        assert not (tmp_path / "ran").exists(), bit
    assert refused > 12
    target.write_bytes(good)  # the canary: whole, it does start
    subprocess.run([*RUN, "--manifest", str(target)], timeout=60, cwd=tmp_path, check=True)
    assert (tmp_path / "ran").exists()


def test_a_flipped_bit_of_an_image_starts_nothing(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    good = Path("/bin/echo").read_bytes()
    _, digest = seal_image("/bin/echo")
    for place in [None, 0, len(good) - 1, *(chosen.randrange(len(good)) for _ in range(40))]:
        data = bytearray(good)
        if place is not None:
            data[place] ^= 1 << chosen.randrange(8)
        copy = tmp_path / "image"
        copy.write_bytes(data)
        image, _ = seal_image(str(copy))
        os.set_inheritable(image, True)
        plan = plan_of(["/bin/echo", "ran"], tmp_path, image=image, digest=digest)
        done = started(plan)
        os.close(plan)
        os.close(image)
        if place is None:  # the canary: whole, it does start
            assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        else:
            assert (done.returncode, done.stdout) == (FAILED, ""), place
            assert done.stderr.startswith("nexus-l0: "), done.stderr


NO_ANSWER = Action.errno(errno.EINVAL)
WALL_CLOCK = SeccompFilter.compile(
    [
        SeccompRule(("time", "gettimeofday", "settimeofday", "clock_settime"), NO_ANSWER),
        *(
            SeccompRule((call,), NO_ANSWER, (ArgumentTest.equal(0, clock, width=32),))
            for call in ("clock_gettime", "timerfd_create", "timer_create", "clock_nanosleep")
            for clock in (0, 5, 8, 11)  # CLOCK_REALTIME, its coarse form, its alarm, CLOCK_TAI
        ),
    ],
    default=Action.ALLOW,
    clone3_refused=False,
    skip_absent=True,
)  # fmt: skip


def test_no_step_of_the_wall_clock_changes_a_life(tmp_path: Path) -> None:
    # Nobody may step the clock of a shared host. Here it gives no answer at all, and nothing can be
    # timed by it; restarts, their delays and window, and budgets go on as ever.
    (tmp_path / "tries").touch()
    script = "echo x >> tries; exit 1"
    plan = plan_of(
        ["/bin/sh", "-c", script], tmp_path, restart="on-failure", intensity=3,
        period_ms=5000, delay_ms=1, tier="gravity",
    )  # fmt: skip
    done = started(plan, prepare=lambda: WALL_CLOCK.install(no_new_privs=True))
    os.close(plan)
    assert "the breaker opened after 4 starts" in done.stderr, done
    assert (tmp_path / "tries").read_text() == "x\n" * 4
    call = syscalls()["clock_gettime"]
    ask = f"ctypes.CDLL(None).syscall({call}, 0, (ctypes.c_long * 2)())"
    asks = f"import ctypes, os; os._exit(9 if {ask} < 0 else 0)"
    for prepare, status in ((None, 0), (lambda: WALL_CLOCK.install(no_new_privs=True), 9)):
        canary = subprocess.run(
            [sys.executable, "-S", "-c", asks], preexec_fn=prepare, check=False
        )  # fmt: skip
        assert canary.returncode == status


def test_too_few_descriptors_end_the_start_and_enough_do_not(tmp_path: Path) -> None:
    outcomes = {}
    for room in (*range(4, 24, 4), 64, 80, 256):
        plan = plan_of(["/bin/echo", "ran"], tmp_path)

        def squeeze(room: int = room) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))

        done = started(plan, prepare=squeeze)
        os.close(plan)
        outcomes[room] = done.returncode
        if done.returncode == 0:
            assert done.stdout == "ran\n"
        else:
            assert (done.returncode, done.stdout) == (FAILED, ""), (room, done)
            assert "nexus-l0: " in done.stderr
    print(outcomes)
    assert outcomes[4] == FAILED  # the canary: it does need some
    assert outcomes[256] == 0


def test_what_it_costs_that_the_fiber_cannot_be_found_is_said() -> None:
    policy = Policy(pledge=2 << 62)
    words = ("sh", "-c", "exit 3")
    manifest = Manifest(name="a", program="/bin/sh", arguments=words, policy=policy)
    plan = seal_plan(encode_plan(manifest, image=-1, digest=None))
    hide = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    for script, said in (('exec "$@"', False), ('mount -t tmpfs no /proc && exec "$@"', True)):
        done = subprocess.run(
            [*hide, script, "sh", supervisor_path(), "run", str(plan)],
            pass_fds=[plan], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 3, done.stderr
        assert ("CONFIG_PROC_CHILDREN" in done.stderr) == said
    os.close(plan)


def test_a_full_disk_loses_nothing_that_was_learnt(tmp_path: Path) -> None:
    words = ["--learn", "--output", "/dev/full", "--", "echo", "ran"]
    done = subprocess.run(
        [*RUN, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (40, "ran\n")
    text, _, error = done.stderr.partition("error[")
    assert parse_manifest(text)
    assert "No space left" in error


@pytest.mark.parametrize("words", [["run", "--explain", "--", "true"], ["doctor", "--json"]])
def test_a_full_disk_for_the_output_is_no_bug(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*RUN[:3], *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 40
    assert "No space left" in done.stderr
    assert "bug" not in done.stderr
