"""What POSIX asks of a filesystem, of a mounted volume, and of the host's own as the control.

A test that fails on `host` is wrong itself.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexus.fs import Volume
from tests.host.mounts import NEEDS_MOUNT, Mounted, as_user, let_in

pytestmark = NEEDS_MOUNT

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOREPLACE, _EXCHANGE = 1, 2
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A directory of the host, and a volume that is mounted for all tests."""
    place = tmp_path_factory.mktemp("posix")
    (place / "host").mkdir()
    (place / "nexus").mkdir()
    with Volume.create(place / "box"):
        pass
    with Mounted(place / "box", place / "nexus", "--commit-interval", "0.3", "--allow-other"):
        yield {"host": place / "host", "nexus": place / "nexus"}


@pytest.fixture(params=["host", "nexus"])
def here(request: pytest.FixtureRequest, roots: dict[str, Path]) -> Path:
    """An empty directory of one of the two."""
    name = request.node.originalname[:80]
    made = roots[request.param] / name
    made.mkdir()
    return made


def fails(reason: int, change: Callable[[], object]) -> None:
    """The change is refused, and for this reason."""
    with pytest.raises(OSError) as caught:
        change()
    assert caught.value.errno == reason, errno.errorcode[caught.value.errno or 0]


def rename(source: Path, target: Path, flags: int) -> None:
    """renameat2(2)."""
    code = _LIBC.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags)
    if code != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fallocate(descriptor: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2)."""
    at, length = ctypes.c_long(offset), ctypes.c_long(size)
    if _LIBC.fallocate(descriptor, mode, at, length) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_create_makes_an_empty_file_once(here: Path) -> None:
    descriptor = os.open(here / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    os.close(descriptor)
    status = (here / "f").stat()
    assert (status.st_size, status.st_nlink) == (0, 1)
    assert status.st_mode == stat.S_IFREG | 0o640 & ~os.umask(os.umask(0o22))
    fails(errno.EEXIST, lambda: os.open(here / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    fails(errno.ENOENT, lambda: os.open(here / "none", os.O_RDONLY))
    fails(errno.ENOTDIR, lambda: (here / "f" / "x").write_text("x"))
    fails(errno.EISDIR, lambda: os.open(here, os.O_WRONLY))


def test_the_umask_holds(here: Path) -> None:
    before = os.umask(0o077)
    try:
        (here / "f").write_text("")
        (here / "d").mkdir()
    finally:
        os.umask(before)
    assert stat.S_IMODE((here / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE((here / "d").stat().st_mode) == 0o700


def test_names_are_as_long_as_255_bytes(here: Path) -> None:
    (here / ("n" * 255)).write_text("x")
    assert [path.name for path in here.iterdir()] == ["n" * 255]
    fails(errno.ENAMETOOLONG, lambda: (here / ("n" * 256)).write_text("x"))
    fails(errno.ENAMETOOLONG, lambda: (here / ("n" * 256)).mkdir())
    fails(errno.ENAMETOOLONG, lambda: (here / ("n" * 255)).rename(here / ("m" * 256)))


def test_names_are_bytes(here: Path) -> None:
    name = os.fsencode(here) + b"/\xff\xfe \n"
    descriptor = os.open(name, os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    assert os.listdir(os.fsencode(here)) == [b"\xff\xfe \n"]


def test_mkdir_and_rmdir_count_links(here: Path) -> None:
    before = here.stat().st_nlink
    (here / "d").mkdir()
    assert here.stat().st_nlink == before + 1
    assert (here / "d").stat().st_nlink == 2
    (here / "d" / "f").write_text("")
    fails(errno.ENOTEMPTY, (here / "d").rmdir)
    fails(errno.EEXIST, (here / "d").mkdir)
    fails(errno.ENOTDIR, (here / "d" / "f").rmdir)
    fails(errno.EISDIR, (here / "d").unlink)
    (here / "d" / "f").unlink()
    (here / "d").rmdir()
    assert here.stat().st_nlink == before
    fails(errno.ENOENT, (here / "d").rmdir)


def test_nothing_can_be_made_in_a_directory_that_is_gone(here: Path) -> None:
    (here / "d").mkdir()
    descriptor = os.open(here / "d", os.O_RDONLY)
    (here / "d").rmdir()
    fails(errno.ENOENT, lambda: os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)


def test_symbolic_links_are_read_and_followed(here: Path) -> None:
    (here / "target").write_text("t")
    (here / "link").symlink_to("target")
    (here / "loop").symlink_to("loop")
    (here / "lost").symlink_to("nowhere")
    assert (here / "link").readlink() == Path("target")
    assert (here / "link").read_text() == "t"
    assert (here / "link").lstat().st_size == 6
    assert stat.S_ISLNK((here / "link").lstat().st_mode)
    fails(errno.ELOOP, (here / "loop").read_text)
    fails(errno.ENOENT, (here / "lost").read_text)
    fails(errno.EEXIST, lambda: (here / "link").symlink_to("x"))
    fails(errno.EINVAL, (here / "target").readlink)


def test_hard_links_are_one_file(here: Path) -> None:
    (here / "a").write_text("one")
    os.link(here / "a", here / "b")
    assert (here / "a").stat().st_nlink == 2
    assert (here / "a").stat().st_ino == (here / "b").stat().st_ino
    (here / "b").write_text("other")
    assert (here / "a").read_text() == "other"
    (here / "a").unlink()
    assert (here / "b").stat().st_nlink == 1
    assert (here / "b").read_text() == "other"
    fails(errno.EEXIST, lambda: os.link(here / "b", here / "b"))
    (here / "d").mkdir()
    fails(errno.EPERM, lambda: os.link(here / "d", here / "e"))


def test_an_unlinked_file_lives_as_long_as_it_is_open(here: Path) -> None:
    with (here / "f").open("w+b", buffering=0) as file:
        file.write(b"before")
        (here / "f").unlink()
        assert not (here / "f").exists()
        file.write(b" after")
        os.fsync(file.fileno())
        (here / "f").write_text("another")
        assert os.pread(file.fileno(), 100, 0) == b"before after"
        assert os.fstat(file.fileno()).st_nlink == 0
        file.truncate(3)
        assert os.pread(file.fileno(), 100, 0) == b"bef"
    assert (here / "f").read_text() == "another"


def test_rename_replaces_and_refuses(here: Path) -> None:
    (here / "a").write_text("a")
    (here / "b").write_text("b")
    with (here / "b").open() as old:
        (here / "a").rename(here / "b")
        assert old.read() == "b"
    assert (here / "b").read_text() == "a"
    assert not (here / "a").exists()
    (here / "d" / "below").mkdir(parents=True)
    (here / "e").mkdir()
    fails(errno.EISDIR, lambda: (here / "b").rename(here / "d"))
    fails(errno.ENOTDIR, lambda: (here / "d").rename(here / "b"))
    fails(errno.EINVAL, lambda: (here / "d").rename(here / "d" / "below" / "x"))
    fails(errno.ENOTEMPTY, lambda: (here / "e").rename(here / "d"))
    (here / "d" / "below").rename(here / "e")
    assert sorted(path.name for path in here.iterdir()) == ["b", "d", "e"]
    fails(errno.ENOENT, lambda: (here / "none").rename(here / "x"))


def test_rename_of_two_names_of_one_file_does_nothing(here: Path) -> None:
    (here / "a").write_text("x")
    os.link(here / "a", here / "b")
    (here / "a").rename(here / "b")
    assert (here / "a").stat().st_nlink == 2


def test_rename_between_directories_moves_links(here: Path) -> None:
    (here / "one" / "moved" / "deep").mkdir(parents=True)
    (here / "two").mkdir()
    (here / "one" / "moved" / "deep" / "f").write_text("f")
    (here / "one" / "moved").rename(here / "two" / "moved")
    assert (here / "one").stat().st_nlink == 2
    assert (here / "two").stat().st_nlink == 3
    assert (here / "two" / "moved" / "deep" / "f").read_text() == "f"
    assert os.path.samefile(here / "two" / "moved" / "..", here / "two")


def test_rename_without_replacing_and_exchange(here: Path) -> None:
    (here / "a").write_text("a")
    (here / "d" / "sub").mkdir(parents=True)
    fails(errno.EEXIST, lambda: rename(here / "a", here / "d", _NOREPLACE))
    fails(errno.ENOENT, lambda: rename(here / "a", here / "none", _EXCHANGE))
    fails(errno.EINVAL, lambda: rename(here / "d", here / "d" / "sub", _EXCHANGE))
    rename(here / "a", here / "c", _NOREPLACE)
    rename(here / "c", here / "d", _EXCHANGE)
    assert (here / "d").read_text() == "a"
    assert (here / "c" / "sub").is_dir()


def test_truncate_cuts_and_grows_with_zeros(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"x" * 100_000)
    os.truncate(path, 50_000)
    os.truncate(path, 70_000)
    assert path.read_bytes() == b"x" * 50_000 + bytes(20_000)
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        file.truncate(60_000)
        file.truncate(200_000)
        os.fsync(file.fileno())
    assert path.read_bytes() == b"x" * 50_000 + bytes(150_000)
    fails(errno.EISDIR, lambda: os.truncate(here, 0))
    fails(errno.EINVAL, lambda: os.truncate(path, -1))


def test_open_flags_append_and_truncate(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"A")
    os.close(descriptor)
    assert path.read_bytes() == b"0123456789A"
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert path.stat().st_size == 0
    descriptor = os.open(path, os.O_RDONLY)
    fails(errno.EBADF, lambda: os.write(descriptor, b"x"))
    os.close(descriptor)


def test_writes_at_any_place_read_back(here: Path) -> None:
    path = here / "f"
    model = bytearray()
    with path.open("w+b", buffering=0) as file:
        for i in range(400):
            at = i * 7919 % 300_000
            data = bytes([i % 251 + 1]) * (i * 37 % 9000 + 1)
            model.extend(bytes(max(0, at + len(data) - len(model))))
            model[at : at + len(data)] = data
            assert os.pwrite(file.fileno(), data, at) == len(data)
            if i % 97 == 0:
                os.fsync(file.fileno())
    assert path.read_bytes() == model


def test_a_write_in_a_full_page_changes_no_other_byte(here: Path) -> None:
    path = here / "f"
    path.write_bytes(bytes(range(256)) * 4096)
    with path.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"!", 500_000)
        os.fsync(file.fileno())
    wanted = bytearray(bytes(range(256)) * 4096)
    wanted[500_000] = ord("!")
    assert path.read_bytes() == wanted


def test_holes_are_there_and_can_be_made(here: Path) -> None:
    with (here / "f").open("w+b", buffering=0) as file:
        number = file.fileno()
        file.truncate(8 << 20)
        os.pwrite(number, b"data", 4 << 20)
        os.fsync(number)
        assert os.lseek(number, 0, os.SEEK_HOLE) == 0
        assert os.lseek(number, 0, os.SEEK_DATA) <= 4 << 20
        os.pwrite(number, b"x" * (1 << 20), 0)
        fallocate(number, _KEEP_SIZE | _PUNCH_HOLE, 65536, 131072)
        assert os.fstat(number).st_size == 8 << 20
        assert os.pread(number, 1 << 20, 0) == (
            b"x" * 65536 + bytes(131072) + b"x" * ((1 << 20) - 196608)
        )
        os.fsync(number)
        assert os.pread(number, 131074, 65535) == b"x" + bytes(131072) + b"x"
        fails(errno.ENXIO, lambda: os.lseek(number, 8 << 20, os.SEEK_DATA))


def test_fallocate_grows_unless_it_keeps(here: Path) -> None:
    with (here / "f").open("w+b", buffering=0) as file:
        fallocate(file.fileno(), _KEEP_SIZE, 0, 10_000)
        assert os.fstat(file.fileno()).st_size == 0
        fallocate(file.fileno(), 0, 5000, 5000)
        assert os.fstat(file.fileno()).st_size == 10_000
        assert file.read() == bytes(10_000)


def test_a_shared_mapping_writes_the_file(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"a" * 20_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 20_000) as view:
        view[10_000:10_005] = b"view!"
        os.pwrite(file.fileno(), b"file!", 15_000)
        assert view[15_000:15_005] == b"file!"
        view.flush()
        assert os.pread(file.fileno(), 5, 10_000) == b"view!"
    wanted = b"a" * 10_000 + b"view!" + b"a" * 4995 + b"file!" + b"a" * 4995
    assert path.read_bytes() == wanted


def test_a_private_mapping_does_not(here: Path) -> None:
    path = here / "f"
    path.write_bytes(b"a" * 5000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[:5] = b"other"
    assert path.read_bytes() == b"a" * 5000


def test_modes_and_owners_change(here: Path) -> None:
    path = here / "f"
    path.write_text("x")
    path.chmod(0o4755)
    assert stat.S_IMODE(path.stat().st_mode) == 0o4755
    os.chown(path, 1234, 4321)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert stat.S_IMODE(status.st_mode) == 0o755
    os.chown(path, -1, 7)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 7)
    (here / "link").symlink_to("f")
    os.lchown(here / "link", 5, 6)
    assert ((here / "link").lstat().st_uid, path.stat().st_uid) == (5, 1234)


def test_permissions_hold_for_others(here: Path) -> None:
    let_in(here)
    (here / "secret").write_text("s")
    (here / "secret").chmod(0o600)
    (here / "open").write_text("o")
    here.chmod(0o755)

    def work() -> None:
        assert (here / "open").read_text() == "o"
        fails(errno.EACCES, (here / "secret").read_text)
        fails(errno.EACCES, lambda: (here / "new").write_text("n"))
        fails(errno.EACCES, (here / "open").unlink)
        fails(errno.EPERM, lambda: (here / "open").chmod(0o777))

    as_user(work)


def test_a_write_by_another_takes_the_set_id_bits(here: Path) -> None:
    let_in(here)
    path = here / "f"
    path.write_text("x")
    path.chmod(0o6777)

    def work() -> None:
        with path.open("ab") as file:
            file.write(b"y")

    as_user(work)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_a_directory_with_set_gid_gives_its_group(here: Path) -> None:
    (here / "d").mkdir()
    os.chown(here / "d", -1, 4242)
    (here / "d").chmod(0o2775)
    (here / "d" / "f").write_text("")
    (here / "d" / "e").mkdir()
    assert (here / "d" / "f").stat().st_gid == 4242
    assert (here / "d" / "e").stat().st_gid == 4242
    assert (here / "d" / "e").stat().st_mode & stat.S_ISGID


def test_times_are_kept_to_the_nanosecond(here: Path) -> None:
    path = here / "f"
    path.write_text("x")
    os.utime(path, ns=(1_000_000_007, 1_600_000_000_123_456_789))
    status = path.stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (1_000_000_007, 1_600_000_000_123_456_789)
    os.utime(here, ns=(5, 6))
    assert here.stat().st_mtime_ns == 6
    (here / "link").symlink_to("f")
    os.utime(here / "link", ns=(1, 2), follow_symlinks=False)
    assert (here / "link").lstat().st_mtime_ns == 2
    assert path.stat().st_mtime_ns == 1_600_000_000_123_456_789


def test_changes_move_the_times_that_they_should(here: Path) -> None:
    path = here / "f"
    path.write_text("x")

    def moved(change: Callable[[], object], of: Path) -> tuple[bool, bool]:
        os.utime(of, ns=(10, 10))
        before = of.stat()
        change()
        after = of.stat()
        return after.st_mtime_ns != before.st_mtime_ns, after.st_ctime_ns != before.st_ctime_ns

    assert moved(lambda: path.write_text("y"), path) == (True, True)
    assert moved(lambda: path.chmod(0o600), path) == (False, True)
    assert moved(lambda: os.link(path, here / "g"), path) == (False, True)
    assert moved(lambda: (here / "g").unlink(), path) == (False, True)
    assert moved(lambda: (here / "new").write_text(""), here) == (True, True)
    assert moved(lambda: (here / "new").rename(here / "newer"), here) == (True, True)
    assert moved(lambda: (here / "newer").unlink(), here) == (True, True)
    assert moved(lambda: os.truncate(path, 100), path) == (True, True)
    assert moved(path.read_text, path) == (False, False)


def test_extended_attributes(here: Path) -> None:
    path = here / "f"
    path.write_text("x")
    os.setxattr(path, "user.one", b"1")
    os.setxattr(path, "user.two", bytes(range(256)))
    os.setxattr(path, "user.one", b"uno", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b"uno"
    assert os.getxattr(path, "user.two") == bytes(range(256))
    assert set(os.listxattr(path)) >= {"user.one", "user.two"}
    fails(errno.EEXIST, lambda: os.setxattr(path, "user.one", b"", os.XATTR_CREATE))
    fails(errno.ENODATA, lambda: os.setxattr(path, "user.no", b"", os.XATTR_REPLACE))
    os.removexattr(path, "user.one")
    fails(errno.ENODATA, lambda: os.getxattr(path, "user.one"))
    fails(errno.ENODATA, lambda: os.removexattr(path, "user.one"))
    os.setxattr(here, "user.folder", b"d")
    assert os.getxattr(here, "user.folder") == b"d"


def test_pipes_sockets_and_devices_can_be_made(here: Path) -> None:
    os.mkfifo(here / "pipe", 0o640)
    os.mknod(here / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)
    status = (here / "null").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == os.makedev(1, 3)


def test_a_directory_is_listed_whole_while_it_changes(here: Path) -> None:
    for i in range(1000):
        (here / f"f{i}").write_text("")
    seen = []
    with os.scandir(here) as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n < 300:
                (here / f"new{n}").write_text("")
                if n % 3 == 0 and entry.name.startswith("f"):
                    (here / entry.name).unlink()
    stays = {f"f{i}" for i in range(1000) if (here / f"f{i}").exists()}
    assert stays <= set(seen)
    assert len(seen) == len(set(seen))


def test_a_directory_can_be_emptied_while_it_is_read(here: Path) -> None:
    for i in range(700):
        (here / f"f{i}").write_text("")
    with os.scandir(here) as entries:
        for entry in entries:
            (here / entry.name).unlink()
    assert list(here.iterdir()) == []


def test_locks_of_two_descriptors_exclude_each_other(here: Path) -> None:
    (here / "f").write_text("")
    with (here / "f").open("r+") as one, (here / "f").open("r+") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        fails(errno.EAGAIN, lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))


def test_statfs_says_what_a_name_may_be(here: Path) -> None:
    numbers = os.statvfs(here)
    assert numbers.f_namemax == 255
    assert 0 < numbers.f_bavail <= numbers.f_blocks
