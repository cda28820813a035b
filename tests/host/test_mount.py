"""A mounted volume: what was imported is what is read, and nothing else."""

from __future__ import annotations

import errno
import filecmp
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus.fs import Volume
from nexus.fs.mount import MountedVolume
from nexus.physics.fuse import unmount_fuse

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0,
    reason="no mount was checked: needs root and /dev/fuse (modprobe fuse)",
)


def fill(place: Path) -> Path:
    """A tree with one of each kind."""
    (place / "many").mkdir(parents=True)
    for i in range(3000):
        (place / "many" / f"f{i}").write_text(str(i))
    (place / "large").write_bytes(bytes(range(256)) * 12000 + os.urandom(700_000))
    (place / "empty").write_bytes(b"")
    with (place / "sparse").open("wb") as file:
        file.truncate(5 << 20)
        file.seek(3 << 20)
        file.write(b"data")
    os.link(place / "empty", place / "again")
    os.link(place / "large", place / "linked")
    (place / "link").symlink_to("large")
    os.mkfifo(place / "pipe", 0o640)
    Path(os.fsdecode(os.fsencode(place) + b"/\xff name")).write_text("no UTF-8")
    os.utime(place / "large", ns=(5, -1_500_000_001))
    return place


def names(place: Path) -> list[tuple[str, int, int, int, int]]:
    """All names below a place, with what is kept of each."""
    found = []
    for folder, folders, files in os.walk(place):
        for name in folders + files:
            path = Path(folder, name)
            status = path.lstat()
            size = 0 if path.is_dir() else status.st_size
            what = (os.fspath(path.relative_to(place)), status.st_mode, size)
            found.append((*what, status.st_mtime_ns, status.st_uid))
    return sorted(found)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What is imported."""
    return fill(tmp_path / "source")


@pytest.fixture
def mounted(tmp_path: Path, source: Path) -> Iterator[Path]:
    """Its volume, mounted, with a snapshot of before."""
    place = tmp_path / "mounted"
    place.mkdir()
    with Volume.create(tmp_path / "box") as volume:
        volume.take_in(source, "/")
        volume.take_snapshot("before")
        (source / "later").write_text("later")
        volume.take_in(source, "/")
    with Volume.open(tmp_path / "box") as volume, MountedVolume(volume, place):
        yield place


def test_every_name_and_byte_is_what_was_imported(source: Path, mounted: Path) -> None:
    assert names(mounted) == names(source)
    for name in ("large", "empty", "sparse", "link", "later"):
        assert filecmp.cmp(source / name, mounted / name, shallow=False), name
    assert (mounted / "link").readlink() == Path("large")
    # the canary: the same comparison sees one byte that is different
    with (source / "large").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"!!")
    assert not filecmp.cmp(source / "large", mounted / "large", shallow=False)


def test_scattered_reads_are_the_bytes_of_their_place(source: Path, mounted: Path) -> None:
    whole = (source / "large").read_bytes()
    with (mounted / "large").open("rb", buffering=0) as file:
        for i in range(300):
            at = i * 7919 * 37 % (len(whole) + 5000)
            assert os.pread(file.fileno(), 9000, at) == whole[at : at + 9000]


def test_nothing_can_be_changed(mounted: Path) -> None:
    for change in (
        lambda: (mounted / "new").write_text("x"),
        lambda: (mounted / "empty").unlink(),
        lambda: (mounted / ".timewarp" / "new").mkdir(),
        lambda: (mounted / ".timewarp" / "before").rmdir(),
    ):
        with pytest.raises(OSError) as caught:
            change()
        assert caught.value.errno == errno.EROFS


def test_snapshots_are_below_timewarp_which_is_not_listed(mounted: Path) -> None:
    assert ".timewarp" not in {path.name for path in mounted.iterdir()}
    assert [path.name for path in (mounted / ".timewarp").iterdir()] == ["before"]
    assert not (mounted / ".timewarp" / "before" / "later").exists()
    assert (mounted / ".timewarp" / "before" / "many" / "f7").read_text() == "7"
    with pytest.raises(FileNotFoundError):
        (mounted / ".timewarp" / "never").stat()


def test_names_of_one_file_have_one_number(mounted: Path) -> None:
    one, two = (mounted / "large").stat(), (mounted / "linked").stat()
    assert one.st_ino == two.st_ino
    assert one.st_nlink == 2
    assert (mounted / "empty").stat().st_ino != one.st_ino


def test_holes_are_found(mounted: Path) -> None:
    with (mounted / "sparse").open("rb") as file:
        data = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        assert 2 << 20 < data <= 3 << 20
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(file.fileno(), 5 << 20, os.SEEK_DATA)


def test_a_directory_can_be_read_on_from_any_place(mounted: Path) -> None:
    with os.scandir(mounted / "many") as entries:
        first = [next(entries).name for _ in range(100)]
        rest = [entry.name for entry in entries]
    assert sorted(first + rest) == sorted(f"f{i}" for i in range(3000))


def test_a_killed_mount_does_not_stay(tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    with Volume.create(tmp_path / "box"):
        pass
    words = ["-m", "nexus.cli", "fs", "mount", "--read-only", tmp_path / "box", place]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"mounted")
        assert os.path.ismount(place)
        process.kill()
    until = time.monotonic() + 10
    while os.fspath(place) in Path("/proc/mounts").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_in_use_is_not_unmounted_until_it_must_be(mounted: Path) -> None:
    with (mounted / "large").open("rb"), pytest.raises(OSError) as caught:
        unmount_fuse(mounted, lazy=False)
    assert caught.value.errno == errno.EBUSY
