"""Collection: what is needed stays, what is not goes, whatever was deleted before."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from nexus import cli
from nexus.errors import AbsentError, DeadlineError, VolumeCorruptError
from nexus.fs import Volume, tree
from nexus.fs.check import check_packs, check_trees
from nexus.fs.state import encode_state
from nexus.fs.sweep import Plan, Sweep
from nexus.physics.sweep import open_sweep
from nexus.physics.zstd import zstd_functions

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)


def sweep(path: Path, *, keep_pack: float = 1.0, level: int | None = None) -> Plan:
    with Volume.open(path, writes=True) as volume, Sweep(volume, level=level) as one:
        plan = one.plan(keep_pack=keep_pack)
        for _ in one.steps(plan):
            pass
    return plan


def audit(path: Path) -> None:
    """Everything that the trees need decodes, and the index names nothing else."""
    with Volume.open(path) as volume:
        found = check_packs(volume, full=True)
        needed, lost = check_trees(volume, decode=True)
        assert found.damage == ()
        assert lost == ()
        records = sum(count for _, count in volume.store.segments())
        assert needed <= records == found.objects
        assert volume.waiting == 0


def contents(path: Path, snapshot: str | None) -> dict[bytes, bytes]:
    with Volume.open(path) as volume:
        return {
            name: b"".join(volume.read(name, snapshot=snapshot))
            for name, entry in volume.walk(snapshot=snapshot)
            if entry.mode & 0o170000 == 0o100000
        }


def stored(path: Path) -> int:
    return sum(one.stat().st_size for one in (path / "packs").iterdir())


class Trees:
    """A tree that changes a little each turn, from a seed: files grow, go, come and are renamed."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        place.mkdir()

    def change(self) -> None:
        files = sorted(one for one in self.place.rglob("*") if one.is_file())
        for one in files:
            chance = self.random.random()
            if chance < 0.15:
                one.unlink()
            elif chance < 0.4:
                data = bytearray(one.read_bytes())
                data[len(data) // 2 : len(data) // 2] = self.random.randbytes(20)
                one.write_bytes(data)
        for _ in range(self.random.randrange(1, 9)):
            below = self.place / f"d{self.random.randrange(4)}"
            below.mkdir(exist_ok=True)
            size = self.random.choice([10, 3000, 40_000, 300_000])
            (below / f"f{self.random.randrange(10**6)}").write_bytes(self.random.randbytes(size))


def without_deltas(path: Path) -> None:
    with Volume.open(path) as volume:
        state = volume.state
    settings = {**state.settings, "depth": 0}
    (path / "state").write_bytes(encode_state(state._replace(settings=settings)))


def build(tmp_path: Path, seed: int, turns: int = 6, depth: int = 8) -> tuple[Path, Trees]:
    path = tmp_path / "v"
    trees = Trees(tmp_path / "tree", seed)
    Volume.create(path).close()
    if depth == 0:
        without_deltas(path)
    for turn in range(turns):
        trees.change()
        with Volume.open(path, writes=True) as volume:
            volume.take_in(trees.place, "/")
            volume.take_snapshot(f"s{turn}")
    return path, trees


@pytest.mark.slow
@pytest.mark.parametrize(("level", "depth"), [(None, 8), (None, 0), (9, 8)])
def test_what_is_left_is_whole_after_random_deletions(
    tmp_path: Path, level: int | None, depth: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    path, trees = build(tmp_path, seed, depth=depth)
    left = {f"s{turn}" for turn in range(6)}
    while left:
        gone = trees.random.choice(sorted(left))
        left.remove(gone)
        with Volume.open(path, writes=True) as volume:
            volume.forget_snapshot(gone)
        wanted = {name: contents(path, name) for name in [None, *sorted(left)]}
        keep = trees.random.choice([0.0, 0.5, 1.0])
        plan = sweep(path, keep_pack=keep, level=level)
        audit(path)
        assert {name: contents(path, name) for name in wanted} == wanted
        assert keep < 1 or plan.kept_dead == 0
        # What was made anew may need its bases no more, and so on, but no deeper than deltas are.
        rounds = 0
        while sweep(path, keep_pack=keep, level=level).steps:
            rounds += 1
            assert rounds <= 8, "it ends"
    sweep(path, level=level)
    fresh = tmp_path / "fresh"
    with Volume.create(fresh, level=level or 3) as volume:
        volume.take_in(trees.place, "/")
    # What continues a version that is gone keeps that as its base, which a fresh one does not have.
    assert depth or stored(path) <= stored(fresh) * 1.05 + 4096
    # The volume goes on as any other.
    trees.change()
    with Volume.open(path, writes=True) as volume:
        volume.take_in(trees.place, "/")
    audit(path)


@pytest.fixture
def deltas(tmp_path: Path) -> Path:
    """A file in two versions, of which the older is only the base of what is needed."""
    path = tmp_path / "v"
    source = tmp_path / "tree"
    source.mkdir()
    data = random.Random(5).randbytes(200_000)
    (source / "f").write_bytes(data)
    (source / "dead").write_bytes(random.Random(6).randbytes(200_000))
    with Volume.create(path) as volume:
        volume.take_in(source, "/")
        volume.commit()
        (source / "f").write_bytes(data[:90_000] + b"changed" + data[90_000:])
        (source / "dead").unlink()
        volume.take_in(source, "/")
    with Volume.open(path) as volume:
        assert any(
            (volume.store.find(one) or (0, 0, 0))[2] for _, one in volume_pieces(volume, "f")
        ), "nothing rests on a base: the test would prove nothing"
    return path


def volume_pieces(volume: Volume, name: str) -> list[tuple[int, bytes]]:
    pieces = tree.pieces(volume.store, volume.find(name))
    return [(size, one) for size, one in pieces if one is not None]


def test_what_a_needed_object_continues_stays(deltas: Path, tmp_path: Path) -> None:
    before = stored(deltas)
    wanted = contents(deltas, None)
    plan = sweep(deltas)
    assert plan.steps
    assert stored(deltas) < before - 150_000
    audit(deltas)
    assert contents(deltas, None) == wanted


def test_canary_the_audit_misses_a_base_that_was_forgotten(deltas: Path) -> None:
    with Volume.open(deltas, writes=True) as volume:
        one = open_sweep(volume.store)
        # As a sweep would that keeps only what trees name: bases are not among it.
        named = {piece for _, piece in volume_pieces(volume, "f")}
        for identity in named:
            found = volume.store.find(identity)
            assert found is not None
        (pack,) = [number for number, _ in volume.store.packs()]
        data = {identity: volume.store.get(identity) for identity in named}
        assert data
        one.mark(volume.state.head or b"")
        live = one.marked()[0]
        one.close()
    _, needed_lost = walked(deltas)
    assert needed_lost == 0
    assert live > walked(deltas)[0], "bases are needed besides what trees name"
    forget_bases(deltas, pack)
    assert walked(deltas)[1] > 0


def walked(path: Path) -> tuple[int, int]:
    with Volume.open(path) as volume:
        needed, lost = check_trees(volume, decode=True)
    return needed, len(lost)


def forget_bases(path: Path, pack: int) -> None:
    """Takes the blocks of depth 0 with data out of a pack: what a wrong sweep would have done."""
    file = path / "packs" / f"{pack:08x}"
    data = bytearray(file.read_bytes())
    at = 0
    while (at := data.find(b"NXB1", at)) >= 0:
        if data[at + 6] == 0 and data[at + 32 + 35] >> 4 == 1:
            data[at] ^= 0xFF
        at += 4
    file.write_bytes(data)


def test_a_killed_sweep_is_gone_on_with(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 11, turns=3)
    with Volume.open(path, writes=True) as volume:
        for name in ("s0", "s1"):
            volume.forget_snapshot(name)
    wanted = contents(path, None)
    with Volume.open(path, writes=True) as volume, Sweep(volume) as one:
        plan = one.plan(keep_pack=1.0)
        assert plan.steps
        next(one.steps(plan))  # and no more: records of a pack that is gone stay in the index
    assert contents(path, None) == wanted
    with Volume.open(path) as volume:
        assert check_trees(volume, decode=True)[1] == ()
    sweep(path)
    audit(path)
    assert contents(path, None) == wanted


def test_a_reader_keeps_its_files(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 12, turns=3)
    with Volume.open(path, writes=True) as volume:
        volume.forget_snapshot("s0")
    before = stored(path)
    with Volume.open(path) as reader:
        sweep(path)
        assert stored(path) > before
        assert (
            sum(
                len(b"".join(reader.read(name)))
                for name, entry in reader.walk()
                if entry.mode & 0o170000 == 0o100000
            )
            > 0
        )
        assert check_trees(reader, decode=True)[1] == ()
    Volume.open(path, writes=True).close()
    assert stored(path) < before
    audit(path)


def test_nothing_goes_when_a_directory_is_lost(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 13, turns=2)
    pack = next((path / "packs").iterdir())
    data = bytearray(pack.read_bytes())
    at = 0
    while (at := data.find(b"NXB1", at)) >= 0:
        if data[at + 32 + 35] >> 4 == 3:
            data[at] ^= 0xFF
        at += 4
    pack.write_bytes(data)
    state = (path / "state").read_bytes()
    with pytest.raises(VolumeCorruptError):
        sweep(path)
    assert (path / "state").read_bytes() == state
    assert pack.read_bytes() == bytes(data)


def test_a_damaged_pack_stays(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 14, turns=2)
    with Volume.open(path, writes=True) as volume:
        volume.forget_snapshot("s0")
    pack = next((path / "packs").iterdir())
    data = bytearray(pack.read_bytes())
    first = data.find(b"NXB1")
    blocks = [at for at in range(first, len(data), 16) if data[at : at + 4] == b"NXB1"]
    largest = max(zip(blocks, [*blocks[1:], len(data)], strict=True), key=lambda b: b[1] - b[0])
    data[largest[1] - 20] ^= 1
    pack.write_bytes(data)
    plan = sweep(path)
    assert plan.damaged == (int(pack.name, 16),)
    assert pack.read_bytes() == bytes(data)


def test_a_file_that_reads_as_a_directory_hides_nothing(tmp_path: Path) -> None:
    """The same bytes may be a file's data and a directory: both are followed as what they are."""
    source = tmp_path / "tree"
    (source / "d").mkdir(parents=True)
    for number in range(400):
        (source / "d" / f"{number:0100}").write_bytes(b"%d" % number)
    path = tmp_path / "v"
    with Volume.create(path) as volume:
        volume.take_in(source, "/")
        entry = volume.find("d")
        assert entry.id is not None
        assert entry.form == 4 or entry.form == 3
        leaf = volume.store.get(entry.id)
        (source / "a").write_bytes(leaf)
        (source / "z").write_bytes(leaf)
        volume.take_in(source, "/")
    with Volume.open(path, writes=True) as volume:
        volume.take_in(source, "/")
    wanted = contents(path, None)
    assert len(wanted) == 402
    (source / "junk").write_bytes(random.Random(1).randbytes(100_000))
    with Volume.open(path, writes=True) as volume:
        volume.take_in(source, "/")
        volume.take_away("junk")
    sweep(path)
    audit(path)
    assert contents(path, None) == wanted


def test_a_cancelled_sweep_leaves_the_state(tmp_path: Path) -> None:
    path, _ = build(tmp_path, 15, turns=2)
    state = (path / "state").read_bytes()
    with Volume.open(path, writes=True) as volume, Sweep(volume) as one:
        volume.store.cancel()
        with pytest.raises(DeadlineError):
            one.plan()
    assert (path / "state").read_bytes() == state


def test_the_command_tells_and_frees(tmp_path: Path, capsys) -> None:
    path, trees = build(tmp_path, 16, turns=3)
    with Volume.open(path, writes=True) as volume:
        for name in ("s0", "s1", "s2"):
            volume.forget_snapshot(name)
        volume.take_away(next(trees.place.iterdir()).name)
    capsys.readouterr()
    before = stored(path)
    words = ["fs", "gc", str(path), "--keep-pack", "1"]
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert stored(path) == before
    assert not planned["done"]
    assert planned["packs"] > 0
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stored_bytes"] == stored(path)
    assert told["freed_bytes"] == before - stored(path) > 0
    # What a part of a block will take is a guess before it is compressed.
    assert 0 < planned["freed_bytes"] < before
    assert cli.main(words) == 0
    assert "0 packs went" in capsys.readouterr().out
    assert cli.main(["fs", "gc", str(path), "--keep-pack", "2"]) == 2
    shutil.rmtree(path)
    assert cli.main(words) == 10
