"""A damaged volume is repaired as far as it can be, and never made worse."""

from __future__ import annotations

import random
import shutil
import struct
from pathlib import Path

import pytest

from nexus import cli
from nexus.errors import AbsentError, CorruptError, VolumeCorruptError
from nexus.fs import Volume
from nexus.fs.check import check_packs, check_trees
from nexus.fs.repair import open_patient
from nexus.physics import blake3, crc32c
from nexus.physics import xxh3_64 as xxh3
from nexus.physics.sweep import remake_index
from nexus.physics.zstd import zstd_functions

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not repaired: {error}", allow_module_level=True)

FILES = 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    generator = random.Random(5)
    with Volume.create(tmp_path / "v") as volume:
        for turn in range(3):
            for i in range(FILES):
                (tree / f"f{i}").write_bytes(generator.randbytes(4000))
            volume.take_in(tree, "tree")
            volume.take_snapshot(f"s{turn}")
            volume.commit()
    return tmp_path / "v"


def contents(path: Path) -> dict[tuple[str | None, bytes], bytes]:
    with Volume.open(path) as volume:
        return {
            (snapshot, name): b"".join(volume.read(name, snapshot=snapshot))
            for snapshot in (None, *(one.name for one in volume.snapshots))
            for name, entry in volume.walk(snapshot=snapshot)
            if entry.mode & 0o170000 == 0o100000
        }


def files(path: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()
    }


def check(path: Path, *words: str) -> int:
    return cli.main(["fs", "check", str(path), *words])


@pytest.mark.parametrize("how", ["flip", "cut", "gone", "empty"])
def test_a_damaged_index_is_made_anew(path: Path, how: str, capsys) -> None:
    wanted = contents(path)
    assert len(wanted) == 4 * FILES
    for segment in (path / "index").iterdir():
        data = bytearray(segment.read_bytes())
        match how:
            case "flip":
                data[len(data) // 2] ^= 1
                segment.write_bytes(data)
            case "cut":
                segment.write_bytes(data[:-1])
            case "gone":
                segment.unlink()
            case _:
                segment.write_bytes(b"")
    with pytest.raises((CorruptError, LookupError)):
        contents(path)
    before = files(path)
    for words in ((), ("--dry-run",)):
        assert check(path, *words) == 1
        said = capsys.readouterr().out
        assert "a repair would: segment" in said
        assert "nothing was done" in said
        assert files(path) == before
    assert check(path, "--repair") == 0
    assert "make the index anew" in capsys.readouterr().out
    assert contents(path) == wanted
    assert check(path, "--full") == 0
    assert "repair" not in capsys.readouterr().out


def test_an_index_that_does_not_lead_to_everything_is_made_anew(path: Path, capsys) -> None:
    wanted = contents(path)
    segment = max((path / "index").iterdir())
    data = segment.read_bytes()
    records = data[32:-16]
    head = data[:16] + struct.pack("<QQ", len(records) // 16, xxh3(records))
    segment.write_bytes(head + records)
    assert check(path) == 1
    assert "does not lead to all" in capsys.readouterr().out
    assert check(path, "--repair") == 0
    assert contents(path) == wanted
    assert check(path, "--full") == 0


def test_every_flipped_byte_of_the_state_is_repaired_from_its_copy(path: Path) -> None:
    good = (path / "state").read_bytes()
    assert (path / "state.copy").read_bytes() == good
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        (path / "state").write_bytes(bad)
        with pytest.raises(VolumeCorruptError):
            Volume.open(path)
        patient = open_patient(path, writes=False)
        patient.volume.close()
        assert [one.part for one in patient.faults] == ["state"]
        (path / "state").write_bytes(good)
        # And of the copy: the state is what counts, and it becomes the copy again.
        (path / "state.copy").write_bytes(bad)
        patient = open_patient(path, writes=False)
        patient.volume.close()
        assert not patient.faults
        (path / "state.copy").write_bytes(good)
    (path / "state.copy").write_bytes(bad)
    Volume.open(path, writes=True).close()
    assert (path / "state.copy").read_bytes() == good


@pytest.mark.parametrize("gone", [False, True])
def test_a_lost_state_comes_back_and_with_both_damaged_it_is_said(path: Path, gone: bool) -> None:
    wanted = contents(path)
    if gone:
        (path / "state").unlink()
    else:
        (path / "state").write_bytes(b"")
    assert check(path) == 1
    assert check(path, "--repair") == 0
    assert contents(path) == wanted
    assert check(path) == 0
    (path / "state").write_bytes(b"")
    (path / "state.copy").write_bytes(b"")
    before = files(path)
    assert check(path, "--repair") == 13
    assert files(path) == before


def test_files_that_nothing_names_are_removed_by_a_repair_alone(path: Path, capsys) -> None:
    (path / "packs" / "00000fff").write_bytes(b"spare")
    assert check(path) == 0
    assert check(path, "--repair") == 0
    assert "remove 1 files" in capsys.readouterr().out
    assert not (path / "packs" / "00000fff").exists()


def test_a_repair_of_a_whole_volume_writes_nothing(path: Path) -> None:
    before = files(path)
    assert check(path, "--repair") == 0
    assert files(path) == before


def survives(path: Path, wanted: dict) -> int:
    """How much can be read; whatever can is right."""
    right = 0
    with Volume.open(path) as volume:
        for (snapshot, name), data in wanted.items():
            try:
                got = b"".join(volume.read(name, snapshot=snapshot))
            except (CorruptError, LookupError, FileNotFoundError):
                continue
            assert got == data
            right += 1
    return right


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_becomes_worse_by_a_repair(path: Path, seed: int) -> None:
    generator = random.Random(seed)
    wanted = contents(path)
    (pack,) = (path / "packs").iterdir()
    data = bytearray(pack.read_bytes())
    for _ in range(generator.randrange(1, 6)):
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    if seed % 3 == 0:
        del data[generator.randrange(len(data)) :]
    pack.write_bytes(data)
    if seed % 3:
        before = survives(path, wanted)
    else:  # it cannot be opened
        with pytest.raises(CorruptError):
            Volume.open(path)
        before = 0
    packs = pack.read_bytes()
    for segment in (path / "index").iterdir():
        segment.unlink()
    assert check(path, "--repair") == 1
    assert pack.read_bytes() == packs
    assert survives(path, wanted) >= before


def fake_block(identity: bytes, content: bytes) -> bytes:
    """A block of one object as it is, whatever its id says; docs/spec/nexfs-store.md."""
    size = len(content)
    head = struct.pack("<IBBBBIIHHIQ", 0x3142584E, 0, 3, 0, 0, size, size, 1, 0, 0, xxh3(content))
    table = identity + struct.pack("<I", size | 1 << 28)
    block = head[:20] + struct.pack("<I", crc32c(head + table)) + head[24:] + table + content
    return block + bytes(-len(block) % 16)


@pytest.mark.parametrize("lies", [True, False])
def test_bytes_of_a_file_that_look_like_a_block_are_not_believed(path: Path, lies: bool) -> None:
    with Volume.open(path) as volume:
        ((number, _, _),) = volume.state.packs
        wanted = volume.find("tree/f0").id
    pack = path / "packs" / f"{number:08x}"
    data = bytearray(pack.read_bytes())
    # Behind a head that is damaged, in the place of a payload: what says to be a block.
    at = data.index(b"NXB1", 32)
    fake = fake_block(wanted if lies else blake3(b"new"), b"new")
    data[at : at + 4] = b"XXXX"
    data[at + 16 : at + 16 + len(fake)] = fake
    pack.write_bytes(data)
    with Volume.open(path, writes=True) as volume:
        remake_index(volume.store)
        if lies:
            assert volume.store.find(wanted)[0] == 4000
        else:  # the canary: one that is what it says is found there
            assert volume.store.get(blake3(b"new")) == b"new"


def test_a_missing_pack_costs_what_it_had_and_no_more(path: Path, capsys) -> None:
    wanted = contents(path)
    (pack,) = (path / "packs").iterdir()
    shutil.move(pack, path.parent / "away")
    assert check(path) == 1
    assert "pack 1: it is not there" in capsys.readouterr().out
    assert check(path, "--repair") == 1
    said = capsys.readouterr().out
    assert "name it no more" in said
    assert "snapshot s0" in said
    with Volume.open(path) as volume:
        assert len(volume.snapshots) == 3
        assert check_packs(volume, full=True).damage == ()
        assert check_trees(volume, decode=True)[1]
    assert len(wanted) == 4 * FILES
