"""A hardware watchdog in a guest: what resets the machine, and what must not."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.guest.guest import Guest, GuestDied
from tests.guest.kernel import ROOT
from tests.guest.replay import boot

PROGRAM = str(ROOT / "tests" / "guest" / "node_guard.py")
LONG_S = 150.0  # emulated: the program itself waits for up to 24 s


class Monitor:
    """What QEMU tells of a guest: `WATCHDOG` when the device acts, `SHUTDOWN` with its reason."""

    def __init__(self, guest: Guest) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.connect(str(guest.folder / "monitor"))
        self._link.sendall(b'{"execute": "qmp_capabilities"}\n')
        self._link.settimeout(30)

    def close(self) -> None:
        """Hear no more."""
        self._link.close()

    def events(self) -> list[str]:
        """All that it told until it ended."""
        with self._link.makefile("rb") as lines:
            told = [json.loads(line) for line in lines]
        return [
            " ".join([one["event"], *map(str, one["data"].values())])
            for one in told
            if one.get("event") in ("WATCHDOG", "SHUTDOWN", "RESET")
        ]


@contextmanager
def booted() -> Iterator[tuple[Guest, Monitor]]:
    with boot("watchdog") as guest:
        monitor = Monitor(guest)
        try:
            yield guest, monitor
        finally:
            monitor.close()


def outcome(word: str) -> tuple[str, str]:
    """What the program said, and the first that the machine did: `-` when it is still there."""
    said = b""
    with booted() as (guest, monitor):
        command = [sys.executable, "-u", PROGRAM, word]
        variables = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            for kind, data in guest.stream(command, environment=variables, timeout_s=LONG_S):
                said += data if kind in "oe" else b""
            return said.decode(), "-"
        except GuestDied as error:
            ended = "its QEMU ended" in str(error)
            return said.decode(), monitor.events()[0] if ended else str(error)


def test_a_watchdog_that_nobody_pets_resets_the_guest():
    said, end = outcome("nobody")
    assert said == "opened 4\n"
    assert end == "WATCHDOG reset", "the rig sees no reset: all that follows proves nothing"


@pytest.mark.parametrize("word", ["stopped", "killed", "unwatched"])
def test_a_supervisor_that_does_not_do_its_work_is_reset(word):
    assert outcome(word) == ("guarded 4\npetted\n", "WATCHDOG reset")


def test_phoenix_hands_the_watchdog_on_and_too_many_end_it():
    assert outcome("often") == ("guarded 4\npetted\nonce\n", "WATCHDOG reset")


def test_an_orderly_end_resets_nothing():
    assert outcome("ended") == ("guarded 4\npetted\nalive\n", "-")


def test_too_many_phoenix_reboot_where_that_was_asked_for():
    said, end = outcome("reboot")
    assert said.split() == ["guarded", "0", "once"], "the last newline may go with the guest"
    assert end == "SHUTDOWN True guest-reset", "no watchdog did it"
