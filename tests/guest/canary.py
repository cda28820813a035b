"""Tests whose ends are known, which test_rig.py runs to see that each is reported as it is."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.guest("edu")


def test_that_holds():
    assert "nexus.guest=1" in Path("/proc/cmdline").read_text().split()


def test_that_does_not_hold():
    print("said inside")
    assert Path("/proc/cmdline").read_text() == "of another machine"


def test_that_is_skipped():
    pytest.skip("a reason of the guest")


def test_that_ends_the_guest():
    # The plugin `inside` has refused every machine that is not a guest.
    Path("/proc/sysrq-trigger").write_text("c")


def test_that_comes_too_late():
    pass
