"""The store in C: objects in and out, deltas, damage, trees of the host, hostile trees."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nexus._core.onlog import format_log
from nexus._core.store import Store
from nexus.errors import CorruptError, DeadlineError, EmptyError, FaultError
from nexus.physics import blake3
from nexus.physics.flash import create_flash, open_flash
from nexus.physics.store import StoreSettings
from nexus.physics.tree import make_leaves, read_leaf
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import DATA, LEAF, Entry, Form

VOLUME = bytes(range(16))
DIRECTORY = stat.S_IFDIR | 0o755


def open_store(path: Path, *, create: bool = False, writes: bool = True, **settings: int) -> Store:
    options = StoreSettings(VOLUME, **settings).options(writes=True)
    medium = None
    if path.suffix == ".log":
        if create:
            with create_flash(path, 32 << 20, block_size=1 << 18) as flash:
                format_log(flash.__flash__(), str(path), VOLUME, storage_class=1)
            create = False
        medium = open_flash(path, writable=writes, block_size=1 << 18).__flash__()
    return Store(
        os.fsencode(path),
        functions=zstd_functions(),
        options=options,
        writes=writes,
        create=create,
        medium=medium,
    )


def reopen(store: Store, path: Path, *, writes: bool = False) -> Store:
    """The same store, opened again from its files."""
    packs, segments = store.packs(), store.segments()
    next_pack, next_segment = store.next_numbers()
    store.close()
    again = open_store(path, writes=writes, next_pack=next_pack, next_segment=next_segment)
    for number, length in packs:
        again.add_pack(number, length)
    for number, _ in segments:
        again.add_segment(number)
    return again


@pytest.fixture(params=["store", "store.log"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the store lies: in a directory, or in the log of one file."""
    return tmp_path / request.param


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    made = open_store(place, create=True)
    yield made
    made.close()


@pytest.fixture
def in_directory(tmp_path: Path) -> Iterator[Store]:
    """A store whose files the test itself touches."""
    made = open_store(tmp_path / "store", create=True)
    yield made
    made.close()


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_was_put_is_got_back(store: Store, place: Path) -> None:
    objects = [noise(size, size) for size in (0, 1, 100, 4096, 65536, 262144)]
    objects += [b"a" * 200000, b"text " * 30000]
    ids = [store.put(DATA, data) for data in objects]
    assert ids == [blake3(data) for data in objects]
    with pytest.raises(EmptyError):
        store.get(ids[0])  # nothing is promised before it is flushed
    store.flush()
    assert [store.get(name) for name in ids] == objects
    again = reopen(store, place)
    assert [again.get(name) for name in ids] == objects
    assert again.find(ids[3]) == (4096, DATA, 0)
    assert again.find(bytes(32)) is None
    again.close()


def test_what_is_there_is_not_stored_again(store: Store, place: Path) -> None:
    data = noise(100000, 1)
    for _ in range(3):
        store.put(DATA, data)
    assert store.counters()["new_objects"] == 1
    store.flush()
    again = reopen(store, place, writes=True)
    again.put(DATA, data)
    assert again.counters()["new_objects"] == 0
    again.close()


def test_what_continues_another_object_is_small(store: Store) -> None:
    base = noise(100000, 2)
    names = [store.put(DATA, base)]
    for number in range(10):
        store.flush()
        before = store.counters()["stored_bytes"]
        base = base[:50000] + bytes([number]) + base[50000:]
        names.append(store.put(DATA, base, bases=[names[-1]]))
        store.flush()
        grown = store.counters()["stored_bytes"] - before
        found = store.find(names[-1])
        assert found is not None
        # Three rest on one another; the fourth takes what the third rests on as its base.
        assert found[2] == min(number + 1, 3)
        assert grown < 300
    assert store.get(names[-1]) == base


def test_a_base_that_is_not_there_costs_nothing_but_bytes(store: Store) -> None:
    name = store.put(DATA, b"alone" * 100, bases=[bytes(32)])
    store.flush()
    assert store.get(name) == b"alone" * 100
    assert store.find(name) == (500, DATA, 0)


def test_many_objects_become_few_segments(store: Store, place: Path) -> None:
    names = [store.put(DATA, b"%d" % number) for number in range(70000)]
    store.flush()
    store.put(DATA, b"one more")
    store.flush()
    assert sum(count for _, count in store.segments()) == 70001
    assert len(store.segments()) <= 3
    again = reopen(store, place)
    for number in range(0, 70000, 997):
        assert again.get(names[number]) == b"%d" % number
    again.close()


def test_no_flipped_byte_gives_other_bytes(in_directory: Store, tmp_path: Path) -> None:
    store = in_directory
    objects = [b"one text of some length" * 20, noise(500, 3)]
    names = [store.put(DATA, data) for data in objects]
    names.append(store.put(DATA, objects[0] + b"!", bases=[names[0]]))
    objects.append(objects[0] + b"!")
    store.flush()
    path = tmp_path / "store"
    (pack,) = (path / "packs").iterdir()
    whole = pack.read_bytes()
    damage = 0
    for at in range(32, len(whole), 3):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        store = reopen(store, path)
        for name, data in zip(names, objects, strict=True):
            try:
                assert store.get(name) == data
            except CorruptError:
                damage += 1
    assert damage > len(whole) / 3 / 2
    pack.write_bytes(whole)
    store = reopen(store, path)
    assert [store.get(name) for name in names] == objects
    store.close()


def test_damaged_segments_are_refused(in_directory: Store, tmp_path: Path) -> None:
    store = in_directory
    store.put(DATA, b"x")
    store.flush()
    ((number, _),) = store.segments()
    store.close()
    (file,) = (tmp_path / "store" / "index").iterdir()
    whole = file.read_bytes()
    for data in (b"", whole[:31], whole[:-1], whole[:40] + b"\xff" + whole[41:], b"X" + whole[1:]):
        file.write_bytes(data)
        again = open_store(tmp_path / "store", writes=False)
        with pytest.raises(CorruptError):
            again.add_segment(number)
        again.close()


def test_one_writes_and_others_read(in_directory: Store, tmp_path: Path) -> None:
    store = in_directory
    with pytest.raises(BufferError):
        open_store(tmp_path / "store")
    reader = open_store(tmp_path / "store", writes=False)
    assert not store.alone()
    reader.close()
    assert store.alone()
    with pytest.raises(BufferError):
        open_store(tmp_path / "store", writes=False)
    assert store.alone(False)
    open_store(tmp_path / "store", writes=False).close()


def make_tree(place: Path) -> None:
    """One of everything that an unprivileged user can make."""
    place.mkdir()
    (place / "empty").touch()
    (place / "small").write_bytes(b"small")
    (place / "large").write_bytes(noise(3_000_000, 4))
    with (place / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
        file.truncate(9_000_000)
    (place / "link").symlink_to("nowhere/at all")
    (place / "twin").hardlink_to(place / "small")
    os.mkfifo(place / "pipe")
    (place / os.fsdecode(b"\xff\xfe name")).write_bytes(b"no text")
    (place / "many").mkdir()
    for number in range(700):
        (place / "many" / f"file {number}").write_bytes(b"%d" % number)
    (place / "deep" / "er" / "est").mkdir(parents=True)
    (place / "deep" / "er" / "est" / "file").write_bytes(b"x" * 20000)
    (place / "deep" / "er").chmod(0o500)
    (place / "small").chmod(0o640)
    os.utime(place / "small", ns=(1, 1_000_000_007))
    os.utime(place / "deep", ns=(1, -5_000_000_001))


def described(place: Path) -> dict[str, tuple[object, ...]]:
    """What there is below, as far as a copy must be like it."""
    ret: dict[str, tuple[object, ...]] = {}
    for path in [place, *sorted(place.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)  # noqa: PTH115 - the text as it is
        links = status.st_nlink if not stat.S_ISDIR(status.st_mode) else 0
        name = os.fsdecode(os.fsencode(path.relative_to(place)))
        ret[name] = (status.st_mode, status.st_mtime_ns, links, content)
    return ret


def take(store: Store, place: Path, before: Entry | None = None) -> Entry:
    descriptor = os.open(place.parent, os.O_RDONLY)
    try:
        row, issues = store.ingest(descriptor, os.fsencode(place.name), before=before)
    finally:
        os.close(descriptor)
    assert issues == []
    store.flush()
    return Entry._make(row)


def give(store: Store, entry: Entry, place: Path) -> list[tuple[int, bytes]]:
    descriptor = os.open(place.parent, os.O_RDONLY)
    try:
        return store.restore(entry, descriptor, os.fsencode(place.name))
    finally:
        os.close(descriptor)


def test_a_tree_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    entry = take(store, tmp_path / "in")
    assert give(store, entry, tmp_path / "out") == []
    assert described(tmp_path / "out") == described(tmp_path / "in")
    sparse = (tmp_path / "out" / "sparse").stat()
    assert sparse.st_blocks * 512 < 1_000_000
    (tmp_path / "out" / "deep" / "er").chmod(0o700)
    (tmp_path / "in" / "deep" / "er").chmod(0o700)


def test_attributes_come_back(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    try:
        os.setxattr(tmp_path / "in", "user.colour", b"blue\0green")
    except OSError as error:
        pytest.skip(f"extended attributes are not checked: {error}")
    entry = take(store, tmp_path / "in")
    assert give(store, entry, tmp_path / "out") == []
    assert os.getxattr(tmp_path / "out", "user.colour") == b"blue\0green"


def test_a_tree_that_did_not_change_costs_nothing(store: Store, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    first = take(store, tmp_path / "in")
    before = store.counters()["stored_bytes"]
    assert take(store, tmp_path / "in", first) == first
    assert store.counters()["stored_bytes"] == before
    (tmp_path / "in" / "deep" / "er").chmod(0o700)


def test_a_small_change_in_a_large_file_costs_little(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    data = bytearray(noise(2_000_000, 5))
    (place / "file-1.0").write_bytes(data)
    first = take(store, place)
    before = store.counters()["stored_bytes"]
    data[1_000_000:1_000_000] = b"inserted"
    (place / "file-1.0").unlink()
    (place / "file-1.1").write_bytes(data)  # the name that was is like enough
    second = take(store, place, first)
    assert store.counters()["stored_bytes"] - before < 3000
    assert give(store, second, tmp_path / "out") == []
    assert (tmp_path / "out" / "file-1.1").read_bytes() == bytes(data)


def test_what_is_in_the_way_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"x")
    entry = take(store, tmp_path / "in")
    assert give(store, entry, tmp_path / "in") == [(errno.EEXIST, b"in")]


def test_a_tree_too_deep_is_told(store: Store, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(520):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    top = os.open(tmp_path, os.O_RDONLY)
    _, issues = store.ingest(top, b"d")
    os.close(top)
    ((reason, path),) = issues
    assert reason == errno.ELOOP
    assert path.count(b"/") == 512


def test_cancelled_work_ends(store: Store, tmp_path: Path) -> None:
    make_tree(tmp_path / "in")
    store.cancel()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(DeadlineError):
        store.ingest(descriptor, b"in")
    os.close(descriptor)
    (tmp_path / "in" / "deep" / "er").chmod(0o700)


def test_an_unwritable_store_says_so(in_directory: Store, tmp_path: Path) -> None:
    store = in_directory
    store.put(DATA, noise(1000, 6))
    packs = tmp_path / "store" / "packs"
    packs.rmdir()
    with pytest.raises((OSError, FaultError, EmptyError)):
        store.flush()


def directory(*entries: Entry) -> bytes:
    ((leaf, _, _),) = make_leaves(entries)
    return leaf


def plain(name: bytes, **fields: object) -> Entry:
    return Entry(name, 0o100600, 0, 0, 0, 0, 0, Form.NOTHING, None, None, b"")._replace(**fields)


@pytest.mark.parametrize("name", [b"../out", b"/etc/ou", b"\0aaaaaa"])
def test_a_hostile_name_is_refused(store: Store, tmp_path: Path, name: bytes) -> None:
    leaf = directory(plain(b"xxxxxx"[: len(name)].ljust(len(name), b"x")))
    hostile = leaf.replace(b"x" * len(name), name)
    assert hostile != leaf
    with pytest.raises(CorruptError):
        read_leaf(hostile)
    identity = store.put(LEAF, hostile)
    store.flush()
    entry = plain(b"", mode=DIRECTORY, form=Form.LEAF, id=identity)
    inside = tmp_path / "inside"
    inside.mkdir()
    assert give(store, entry, inside / "target") == [(errno.EBADMSG, b"target")]
    assert [path.name for path in inside.rglob("*")] == ["target"]


def test_a_tree_in_a_circle_or_with_holes_ends(store: Store, tmp_path: Path) -> None:
    missing = plain(b"missing", size=5, form=Form.DATA, id=bytes(32))
    lying = plain(b"lying", size=7, form=Form.DATA, id=store.put(DATA, b"short"))
    no_list = plain(b"nolist", size=5, form=Form.LIST, id=store.put(DATA, b"short"))
    leaf = store.put(LEAF, directory(lying, missing, no_list))
    store.flush()
    entry = plain(b"", mode=DIRECTORY, form=Form.LEAF, id=leaf)
    issues = give(store, entry, tmp_path / "out")
    assert sorted(issues) == [
        (errno.EBADMSG, b"out/lying"),
        (errno.EBADMSG, b"out/missing"),
        (errno.EBADMSG, b"out/nolist"),
    ]
    assert list((tmp_path / "out").iterdir()) == []


def test_links_below_the_target_are_not_followed(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = plain(b"a", mode=stat.S_IFLNK | 0o777, form=Form.TEXT, text=os.fsencode(outside), size=1)
    leaf = store.put(LEAF, directory(plain(b"b")))
    twice = directory(link, plain(b"b", mode=DIRECTORY, form=Form.LEAF, id=leaf))
    hostile = store.put(LEAF, twice.replace(b"\x00\x01b", b"\x01\x00"))
    store.flush()
    entry = plain(b"", mode=DIRECTORY, form=Form.LEAF, id=hostile)
    assert give(store, entry, tmp_path / "out") == [(errno.EBADMSG, b"out")]
    assert list(outside.iterdir()) == []
