"""Tests marked `guest(PROFILE)` run inside a guest, and their results are replayed on the host.

The first of them boots one guest of its profile and runs pytest in it, once, on all of them. A
result that did not come back is a failure, which says what became of the guest.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

import pytest

from tests.guest.guest import Guest, GuestDied, missing, status
from tests.guest.kernel import ROOT, Unavailable
from tests.guest.profiles import PROFILES

REQUEST, REQUIRE = "NEXUS_GUEST", "NEXUS_GUEST_REQUIRE"
NOT_ASKED = f"boots a guest: run ./dev guest, or set {REQUEST}=1"

Results = dict[str, list[dict[str, Any]]]


def refuse(reason: str) -> NoReturn:
    """Skip for this reason; where guests are required, fail."""
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{REQUIRE}=1, but: {reason}", pytrace=False)
    pytest.skip(reason)


def check(profile: str) -> None:
    """End this test with the reason when no guest is asked for, or none can be had."""
    if os.environ.get(REQUEST) != "1" and os.environ.get(REQUIRE) != "1":
        pytest.skip(NOT_ASKED)
    reason = missing(PROFILES[profile])
    if reason is not None:
        refuse(reason)


def boot(profile: str, **options: int) -> Guest:
    """A guest, or the end of this test with the reason why not."""
    check(profile)
    try:
        return Guest(PROFILES[profile], **options)
    except Unavailable as error:
        refuse(str(error))


class FailedInside(Exception):
    """What a test inside said when it failed."""


class GuestItem(pytest.Item):
    """A test whose body, fixtures and all, runs in a guest."""

    def __init__(self, *, original: pytest.Item, **rest: Any) -> None:
        super().__init__(**rest)
        self.original = original
        self.own_markers.extend(original.own_markers)
        self.keywords.update(original.keywords)
        marker = self.get_closest_marker("guest")
        assert marker is not None
        (self.profile,) = marker.args

    def runtest(self) -> None:
        """Replay."""
        runs = self.session.stash.setdefault(RUNS, {})
        if self.profile not in runs:
            runs[self.profile] = self._run_all()
        found = runs[self.profile]
        if isinstance(found, BaseException):
            raise found
        results, end = found
        phases = results.get(self.nodeid, [])
        for phase in phases:
            for title, text in phase.get("sections", []):
                self.add_report_section(phase["phase"], title, text)
        verdict(phases, end)

    def _run_all(self) -> tuple[Results, str] | BaseException:
        """Run what is selected of this profile; what hinders it hinders all, and once is enough."""
        items = [item for item in self.session.items if isinstance(item, GuestItem)]
        names = [item.nodeid for item in items if item.profile == self.profile]
        try:
            with boot(self.profile) as guest:
                return run_inside(guest, names)
        except GuestDied as error:
            return {}, str(error)
        except (pytest.skip.Exception, pytest.fail.Exception) as outcome:
            return outcome

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The text of the inner failure stands for itself."""
        if isinstance(excinfo.value, FailedInside):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> Any:
        """Where the test stands in its file."""
        return self.original.reportinfo()


RUNS = pytest.StashKey[dict[str, tuple[Results, str] | BaseException]]()


def run_inside(guest: Guest, names: list[str]) -> tuple[Results, str]:
    """Run these tests; returns the phases of each, and how the run as a whole ended."""
    plugins = ["-p", "tests.guest.inside", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    environment = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "pytest", *plugins, "--confcutdir=tests/guest", *names]
    said = {"o": b"", "e": b"", "x": b""}
    try:
        for kind, data in guest.stream(command, environment=environment, folder=str(ROOT)):
            said[kind] += data
        code = status(said["x"])
        end = f"pytest ended with {code} and said:\n{said['e'].decode(errors='replace')[-4000:]}"
    except GuestDied as error:
        end = str(error)
    results: Results = {}
    for line in said["o"].splitlines(keepends=True):
        if line.endswith(b"\n"):
            fields = json.loads(line)
            results.setdefault(fields.pop("test"), []).append(fields)
    return results, end


def verdict(phases: list[dict[str, Any]], end: str) -> None:
    """Pass, skip or fail as the test did inside."""
    for phase in phases:
        if phase.get("outcome") == "failed":
            raise FailedInside(f"in the guest, {phase['phase']}:\n{phase['text']}")
    if not phases:
        raise FailedInside(f"not run in the guest: {end}")
    if phases[-1]["phase"] != "teardown":
        raise FailedInside(f"running when the {end}")
    for phase in phases:
        if phase.get("outcome") == "skipped":
            pytest.skip(f"in the guest: {phase['text']}")
