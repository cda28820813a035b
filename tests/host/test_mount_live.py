"""A volume that is mounted to be written: what is kept, and its snapshots."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.errors import VolumeBusyError
from nexus.fs import Volume
from tests.host.mounts import NEEDS_MOUNT, Mounted, command
from tests.host.test_mount import fill, names

pytestmark = NEEDS_MOUNT


def made(place: Path) -> tuple[Path, Path]:
    """An empty volume, and a directory to mount it on."""
    (place / "mounted").mkdir()
    with Volume.create(place / "box"):
        pass
    return place / "box", place / "mounted"


def test_a_tree_that_is_copied_in_is_there_after_mounting_again(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    source = fill(tmp_path / "source")
    with Mounted(box, place) as mounted:
        subprocess.run(["cp", "-a", f"{source}/.", str(place)], check=True)
        before = names(place)
        mounted.again()
        assert names(place) == before
        wanted = [row for row in names(source) if row[0] != "."]
        assert before == wanted
        assert (place / "large").stat().st_ino == (place / "linked").stat().st_ino
        assert (place / "sparse").read_bytes() == (source / "sparse").read_bytes()
        with (place / "linked").open("ab") as file:
            file.write(b"more")
        mounted.again()
        assert (place / "large").read_bytes() == (source / "large").read_bytes() + b"more"
        assert (place / "large").stat().st_nlink == 2
    command("fs", "check", box)


def test_a_changed_byte_of_a_large_file_costs_little(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place) as mounted:
        (place / "f").write_bytes(os.urandom(8 << 20))
        mounted.again()
        with Volume.open(box) as volume:
            before = volume.stored
        with (place / "f").open("r+b") as file:
            file.seek(4 << 20)
            file.write(b"changed")
        mounted.again()
    with Volume.open(box) as volume:
        assert 0 < volume.stored - before < 300_000


def test_a_directory_made_in_timewarp_is_a_snapshot(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place) as mounted:
        (place / "f").write_text("one")
        (place / ".timewarp" / "first").mkdir()
        (place / "f").write_text("two")
        command("snap", "create", box, "second")
        (place / "f").write_text("three")
        past = place / ".timewarp"
        assert sorted(path.name for path in past.iterdir()) == ["first", "second"]
        assert (past / "first" / "f").read_text() == "one"
        assert (past / "second" / "f").read_text() == "two"
        for reason, change in (
            (errno.EEXIST, (past / "first").mkdir),
            (errno.EROFS, (past / "first").rmdir),
            (errno.EROFS, lambda: (past / "first" / "f").write_text("x")),
            (errno.EROFS, lambda: (past / "first" / "g").mkdir()),
            (errno.EROFS, past.rmdir),
            (errno.EROFS, lambda: (place / "f").rename(past / "g")),
            (errno.EXDEV, lambda: os.link(past / "first" / "f", place / "g")),
        ):
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == reason
        assert not any(path.name == ".timewarp" for path in place.iterdir())
        assert mounted.leave() == 0
    with Volume.open(box) as volume:
        assert [one.name for one in volume.snapshots] == ["first", "second"]


def test_only_one_may_write(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place), pytest.raises(VolumeBusyError):
        Volume.open(box, writes=True)


def test_unmount_commits_before_it_returns(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place, "--commit-interval", "3600"):
        (place / "f").write_text("kept")
        command("fs", "unmount", place)
        words = [sys.executable, "-m", "nexus.cli", "fs", "list", box, "--json"]
        listed = subprocess.run(words, capture_output=True, check=True).stdout
        assert "f" in json.dumps(json.loads(listed))
        with Volume.open(box) as volume:
            assert b"".join(volume.read("f")) == b"kept"


def test_what_was_written_is_committed_after_the_interval(tmp_path: Path) -> None:
    box, place = made(tmp_path)
    with Mounted(box, place, "--commit-interval", "0.1") as mounted:
        (place / "f").write_text("kept")
        with Volume.open(box) as volume:
            first = volume.state.generation
        while True:  # until pytest's own limit
            with Volume.open(box) as volume:
                if volume.state.generation > first:
                    break
        mounted.kill()
        mounted.start()
        assert (place / "f").read_text() == "kept"


def test_a_volume_in_one_file_is_written_too(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    with Volume.create(tmp_path / "box", size=64 << 20):
        pass
    with Mounted(tmp_path / "box", tmp_path / "mounted") as mounted:
        (tmp_path / "mounted" / "f").write_bytes(b"x" * 3_000_000)
        os.mkfifo(tmp_path / "mounted" / "pipe")
        mounted.again()
        assert (tmp_path / "mounted" / "f").read_bytes() == b"x" * 3_000_000
        assert stat.S_ISFIFO((tmp_path / "mounted" / "pipe").stat().st_mode)
