"""A written mount under random operations, SIGKILL, and a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.fs import Volume
from tests.fault.mount_random import Campaign, DifferentError
from tests.host.mounts import NEEDS_MOUNT, Mounted, command

pytestmark = NEEDS_MOUNT


def made(place: Path) -> tuple[Path, Path]:
    """An empty volume, and a directory to mount it on."""
    (place / "mounted").mkdir()
    with Volume.create(place / "box"):
        pass
    return place / "box", place / "mounted"


@pytest.mark.slow
def test_random_operations_agree_with_the_model(tmp_path: Path) -> None:
    with Mounted(*made(tmp_path), "--commit-interval", "0.2") as mounted:
        campaign = Campaign(mounted, 3)
        campaign.run(6000, compare_every=2000, remount_every=2000)
    assert all(count > 0 for count in campaign.ended.values())


def test_an_error_in_the_model_is_found(tmp_path: Path) -> None:
    with (
        Mounted(*made(tmp_path)) as mounted,
        pytest.raises(DifferentError),
    ):
        Campaign(mounted, 3, planted=True).run(6000, compare_every=500, remount_every=6000)


def test_what_fsync_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place, "--commit-interval", "3600") as mounted:
        for turn in range(6):
            kept = {}
            for i in range(20):
                path = place / f"t{turn}-{i}"
                kept[path] = os.urandom(i * 4099)
                with path.open("wb") as file:
                    file.write(kept[path])
                    file.flush()
                    if i % 5 == turn % 5:
                        os.fsync(file.fileno())
                        synced = dict(kept)
            (place / f"lost{turn}").write_text("not acknowledged")
            mounted.kill()
            mounted.start()
            for path, data in synced.items():
                assert path.read_bytes() == data
            assert not (place / f"lost{turn}").exists()  # the canary: what nobody promised is gone
        assert mounted.leave() == 0
    command("fs", "check", box)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with little room."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, small: Path) -> None:
    box, place = small / "box", tmp_path / "mounted"
    place.mkdir()
    with Volume.create(box):
        pass
    kept: dict[Path, bytes] = {}
    reasons = set()
    with Mounted(box, place, "--commit-interval", "3600") as mounted:
        for i in range(40):
            path, data = place / f"f{i}", os.urandom(700_000)
            try:
                with path.open("wb", buffering=0) as file:
                    file.write(data)
                    os.fsync(file.fileno())
                kept[path] = data
            except OSError as error:
                reasons.add(error.errno)
                path.unlink(missing_ok=True)
        assert reasons == {errno.ENOSPC}
        assert 3 < len(kept) < 40
        for path, data in kept.items():
            assert path.read_bytes() == data
        mounted.kill()
        mounted.start()
        for path, data in kept.items():
            assert path.read_bytes() == data
