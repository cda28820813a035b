"""What all tests share: where the tree is, the hypothesis profiles, and an honest skip report."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "nexus", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", parent=settings.get_profile("nexus"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "nexus")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The public conformance data, where a checkout has it."""
    place = Path(os.environ.get("NEXUS_VECTORS", ROOT.parent / "shared" / "vectors"))
    if not place.is_dir():
        pytest.skip(
            "public conformance vectors are not here (set NEXUS_VECTORS to a folder with the "
            "blake3, fastcdc, noise and wycheproof data); the golden vectors of the tree still run"
        )
    return place


def pytest_collection_finish() -> None:
    """Take CI away, once every process has its profile: with it pytest shows differences without
    a limit, and two unequal strings of 100 KiB take it longer than a test may."""
    os.environ.pop("CI", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root for an ordinary user, saying what stays unchecked."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root; run the tests as root to check"))
