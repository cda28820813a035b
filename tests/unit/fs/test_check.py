"""The check of a volume finds every damage, and names who needs what is lost."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest

from nexus import cli
from nexus.errors import AbsentError, CorruptError, DeadlineError, EmptyError
from nexus.fs import Volume
from nexus.fs.check import check_packs, check_trees
from nexus.fs.state import encode_state
from nexus.physics import blake3, crc32c
from nexus.physics import xxh3_64 as xxh3
from nexus.physics.zstd import zstd_functions

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)


def fill(place: Path, path: Path, *, files: int = 6, size: int = 3000) -> None:
    """A volume with a tree, a snapshot of it, and a tree that differs."""
    tree = place / "tree"
    tree.mkdir()
    generator = random.Random(3)
    for i in range(files):
        (tree / f"f{i}").write_bytes(generator.randbytes(size))
    with Volume.create(path) as volume:
        volume.take_in(tree, "tree")
        volume.take_snapshot("one")
        volume.commit()
        (tree / "f0").write_bytes(generator.randbytes(size))
        (tree / "f1").write_bytes((tree / "f1").read_bytes() + b"more")
        volume.take_in(tree, "tree")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    fill(tmp_path, tmp_path / "v")
    return tmp_path / "v"


def break_head(pack: Path, content: bytes) -> int:
    """Damages the head of the block that has this content; where the block begins."""
    data = bytearray(pack.read_bytes())
    at = data.rindex(b"NXB1", 0, data.index(content))
    data[at] ^= 0xFF
    pack.write_bytes(data)
    return at


def checked(path: Path, *, full: bool = False):
    with Volume.open(path) as volume:
        found = check_packs(volume, full=full)
        needed, lost = check_trees(volume, decode=bool(found.damage))
    return found, needed, lost


@pytest.mark.parametrize("full", [False, True])
def test_a_whole_volume_has_no_damage(path: Path, full: bool) -> None:
    found, needed, lost = checked(path, full=full)
    assert found.damage == lost == ()
    assert found.blocks > 1
    assert 8 <= needed <= found.objects
    with Volume.open(path) as volume:
        lengths = sum(length for _, length in volume.store.packs())
        assert found.bytes == lengths - 32 * len(volume.store.packs())


@pytest.mark.slow
def test_every_flipped_byte_of_a_pack_is_found(tmp_path: Path) -> None:
    path = tmp_path / "v"
    fill(tmp_path, path, files=2, size=200)
    (pack,) = (path / "packs").iterdir()
    good = pack.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        pack.write_bytes(bad)
        with Volume.open(path) as volume:
            assert check_packs(volume, full=False).damage, at
    pack.write_bytes(good)
    assert not checked(path)[0].damage


def test_a_damaged_payload_is_named_with_all_that_need_it(path: Path) -> None:
    with Volume.open(path) as volume:
        wanted = volume.find("tree/f5").id
        content = b"".join(volume.read("tree/f5"))
    pack = next(p for p in (path / "packs").iterdir() if content[:64] in p.read_bytes())
    data = bytearray(pack.read_bytes())
    data[data.index(content[:64])] ^= 1
    pack.write_bytes(data)
    found, _, lost = checked(path)
    assert [one.why for one in found.damage] == ["a payload is not what was written"]
    named = {one.id: one for one in lost}
    assert wanted in named
    assert set(named[wanted].needed_by) == {(None, b"tree/f5"), ("one", b"tree/f5")}
    with Volume.open(path) as volume, pytest.raises(CorruptError):
        list(volume.read("tree/f5"))


def test_blocks_behind_a_damaged_head_are_still_checked(path: Path) -> None:
    (pack,) = (path / "packs").iterdir()
    whole = checked(path)[0].blocks
    at = break_head(pack, (path.parent / "tree" / "f5").read_bytes()[:64])
    found, _, lost = checked(path)
    assert [(one.offset, one.why) for one in found.damage] == [(at, "no block begins here")]
    assert found.blocks == whole - 1
    assert lost


def sealed_block(content: bytes, identity: bytes) -> bytes:
    """A block of one object as it is, whatever its id says; docs/spec/nexfs-store.md."""
    size = len(content)
    head = struct.pack("<IBbBBIIHHIQ", 0x3142584E, 0, 3, 0, 0, size, size, 1, 0, 0, xxh3(content))
    table = identity + struct.pack("<I", size | 1 << 28)
    crc = crc32c(head + table)
    block = head[:20] + struct.pack("<I", crc) + head[24:] + table + content
    return block + bytes(-len(block) % 16)


@pytest.mark.parametrize("lies", [False, True])
def test_only_the_full_check_finds_an_id_that_lies(path: Path, lies: bool) -> None:
    content = b"nobody else has these bytes"
    block = sealed_block(content, bytes(32) if lies else blake3(content))
    with Volume.open(path) as volume:
        state = volume.state
    ((number, length, dead),) = state.packs
    with (path / "packs" / f"{number:08x}").open("r+b") as pack:
        pack.seek(length)
        pack.write(block)
    longer = state._replace(packs=((number, length + len(block), dead),))
    (path / "state").write_bytes(encode_state(longer))
    assert not checked(path)[0].damage
    damage = checked(path, full=True)[0].damage
    if lies:
        assert [(one.offset, one.why) for one in damage] == [
            (length, "an object is not what its id says")
        ]
    else:
        assert not damage


def test_an_object_that_is_in_no_index_is_lost(path: Path) -> None:
    class Without:
        def __init__(self, store, hidden: bytes) -> None:
            self._store = store
            self._hidden = hidden

        def find(self, identity: bytes):
            return None if identity == self._hidden else self._store.find(identity)

        def get(self, identity: bytes) -> bytes:
            if identity == self._hidden:
                raise EmptyError("hidden")
            return self._store.get(identity)

    with Volume.open(path) as volume:
        store = volume.store
        for name, by in (("f5", {None, "one"}), ("f0", {None})):
            hidden = volume.find(f"tree/{name}").id
            volume._store = Without(store, hidden)
            for decode in (False, True):
                _, lost = check_trees(volume, decode=decode)
                assert [one.id for one in lost] == [hidden]
                assert lost[0].why == "it is not in the index"
                assert set(lost[0].needed_by) == {(one, f"tree/{name}".encode()) for one in by}
            volume._store = store


def test_many_packs_are_checked_whoever_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Volume.create(path) as volume:
        state = volume.state
    small = state._replace(settings={**state.settings, "pack_bytes": 4096})
    (path / "state").write_bytes(encode_state(small))
    tree = tmp_path / "tree"
    tree.mkdir()
    for i in range(12):
        (tree / f"f{i}").write_bytes(random.Random(i).randbytes(200_000))
    with Volume.open(path, writes=True) as volume:
        volume.take_in(tree, "tree")
    packs = sorted((path / "packs").iterdir())
    assert len(packs) > 5
    assert not checked(path, full=True)[0].damage
    for pack in (packs[1], packs[-2]):
        data = bytearray(pack.read_bytes())
        data[0] ^= 1
        data[32 + 20] ^= 1
        pack.write_bytes(data)
    damage = [(one.pack, one.offset, one.why) for one in checked(path, full=True)[0].damage]
    assert damage == [
        (int(pack.name, 16), at, why)
        for pack in (packs[1], packs[-2])
        for at, why in ((0, "no pack begins here"), (32, "no block begins here"))
    ]


def test_a_cancelled_check_ends(path: Path) -> None:
    with Volume.open(path) as volume:
        volume.store.cancel()
        with pytest.raises(DeadlineError):
            check_packs(volume, full=False)


def test_the_command_exits_1_and_names_the_loss(path: Path, capsys) -> None:
    assert cli.main(["fs", "check", str(path)]) == 0
    assert "0 damaged" in capsys.readouterr().out
    (pack,) = (path / "packs").iterdir()
    at = break_head(pack, (path.parent / "tree" / "f5").read_bytes()[:64])
    assert cli.main(["fs", "check", str(path)]) == 1
    text = capsys.readouterr().out
    assert f"damaged: pack 1 at {at}: no block begins here" in text
    assert "lost: " in text
    assert cli.main(["fs", "check", str(path), "--full", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["full"]
    assert said["damage"][0]["pack"] == 1
    assert said["lost"][0]["needed_by"]
