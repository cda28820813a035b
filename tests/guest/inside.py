"""The pytest plugin of the inner run: sends each result to the host as a line of JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

# Loaded by `-p`, before pytest takes stdout: what it prints goes to stderr from here on.
_results = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def _send(**fields: object) -> None:
    print(json.dumps(fields), file=_results, flush=True)


def pytest_sessionstart() -> None:
    """Refuse any other machine: the tests bind drivers, and one crashes the kernel on purpose."""
    if "nexus.guest=1" not in Path("/proc/cmdline").read_text().split():
        pytest.exit("this is no guest of tests/guest", returncode=2)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Tell the host which test is to blame if the guest dies now."""
    _send(test=nodeid, phase="start")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Send the end of a phase."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    _send(
        test=report.nodeid,
        phase=report.when,
        outcome=report.outcome,
        text=reason,
        sections=[list(section) for section in report.sections],
    )
