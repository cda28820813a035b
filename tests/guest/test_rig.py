"""The rig itself: exact exit codes, failures that show as failures, and nothing left behind."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.guest.guest import GuestDied
from tests.guest.kernel import ROOT
from tests.guest.replay import boot, check

WAIT_S = 60

CANARIES = {
    "test_that_holds": "PASSED",
    "test_that_does_not_hold": "FAILED",
    "test_that_is_skipped": "SKIPPED",
    "test_that_ends_the_guest": "FAILED",
    "test_that_comes_too_late": "FAILED",
}


def test_guest_answers_exactly_and_changes_nothing():
    with boot("edu") as guest:
        for command, status in (("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 128 + 9)):
            assert guest.run(["sh", "-c", command]).status == status
        said = guest.run(
            ["sh", "-c", "echo $WORD; pwd; echo other >&2; exit 7"],
            environment={"WORD": "two words"},
            folder="/usr",
        )
        assert (said.status, said.stdout, said.stderr) == (7, b"two words\n/usr\n", b"other\n")
        assert guest.run(["head", "-c", "1000000", "/dev/zero"]).stdout == bytes(1000000)
        assert guest.run(["no-such-command"]).status == 127
        inside = ROOT / "written-inside"
        assert guest.run(["touch", str(inside)]).status == 0
        assert guest.run(["test", "-e", str(inside)]).status == 0
        assert not inside.exists()
        with pytest.raises(GuestDied, match="it does not answer"):
            guest.run(["sleep", "1000"], timeout_s=0.2)
        assert guest.process is not None
        assert guest.process.poll() is not None
        folder = guest.folder
    assert not folder.exists()


def test_guest_ends_with_its_lifetime():
    check("edu")
    words = ["run", "--profile", "edu", "--lifetime", "3", "--", "sleep", "1000"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.guest", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 125
    assert "guest died during" in done.stderr
    assert "init: the guest's lifetime is over" in done.stderr


def test_ends_inside_are_the_ends_that_are_reported():
    check("edu")
    words = ["-v", "-p", "no:randomly", "-p", "no:cacheprovider", "tests/guest/canary.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True
    )
    ends = re.findall(r"^tests/guest/canary.py::(\w+) ([A-Z]+)", done.stdout, re.MULTILINE)
    assert dict(ends) == CANARIES, done.stdout + done.stderr
    assert done.returncode == 1
    for words in (
        "of another machine",
        "said inside",
        "in the guest: Skipped: a reason of the guest",
        "running when the guest died",
        "Kernel panic - not syncing: sysrq triggered crash",
        "not run in the guest: guest died",
    ):
        assert words in done.stdout, words


def processes_below(parent):
    """The names of its children by their number."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/comm").read_text().strip() for child in children}


def wait_until(condition, what):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain: {what}"
        time.sleep(0.02)


def test_guest_dies_with_the_process_that_booted_it(tmp_path):
    check("edu")
    words = ["tests.guest", "run", "--profile", "edu", "--", "sleep", "1000"]
    # Killed, it cannot remove its own files.
    place = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, env=place) as owner:
        try:
            wait_until(
                lambda: any(n.startswith("qemu") for n in processes_below(owner.pid).values()),
                "QEMU to start",
            )
            guests = [n for n, name in processes_below(owner.pid).items() if name[:4] == "qemu"]
        finally:
            owner.kill()
    wait_until(lambda: not any(Path(f"/proc/{n}").exists() for n in guests), "QEMU to end")
