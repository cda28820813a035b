"""Volumes in one file or on one medium: full, cut, bad blocks, damaged images, two users."""

from __future__ import annotations

import errno
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from nexus import cli
from nexus._core.onlog import format_log, read_log_state
from nexus._core.store import Store
from nexus.errors import (
    AbsentError,
    CorruptError,
    FaultError,
    NexusError,
    NoVolumeError,
    VolumeBusyError,
)
from nexus.fs import Volume
from nexus.physics.store import StoreSettings
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import DATA
from nexus.sim.flash import Cut, Fail, Flash, slc_nand

pytestmark = pytest.mark.slow

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

MIB = 1 << 20
VOLUME = bytes(range(16))
SETTINGS = StoreSettings(VOLUME, pack_bytes=MIB)


def make_tree(place: Path, seed: int, *, files: int, size: int) -> Path:
    place.mkdir()
    generator = random.Random(seed)
    for i in range(files):
        (place / f"f{i:03}").write_bytes(generator.randbytes(size))
    return place


def content(path: Path, name: str) -> bytes:
    with Volume.open(path) as volume:
        return b"".join(volume.read(name))


def on(flash: Flash, *, writes: bool = True) -> Store:
    return Store(
        b"emulated",
        functions=zstd_functions(),
        options=SETTINGS.options(writes=True),
        writes=writes,
        medium=flash.__flash__(),
    )


def test_a_full_volume_is_told_read_and_emptied(tmp_path: Path, capsys) -> None:
    path = tmp_path / "v"
    small = make_tree(tmp_path / "small", 1, files=3, size=50_000)
    large = make_tree(tmp_path / "large", 2, files=40, size=400_000)
    assert cli.main(["fs", "create", str(path), "--size", "8MiB"]) == 0
    assert cli.main(["fs", "import", str(path), str(small), "--as", "tree"]) == 0
    for _ in range(3):  # nothing of a refused import stays
        capsys.readouterr()
        assert cli.main(["fs", "import", str(path), str(large), "--as", "tree"]) == 1
        said = capsys.readouterr().err
        assert "error[NX-FS-005]" in said
        assert os.strerror(errno.ENOSPC) in said
        assert content(path, "tree/f001") == (small / "f001").read_bytes()
    # Filled with what is committed, until nothing more goes in: taking away still does.
    for turn in range(100):
        (tmp_path / "one").write_bytes(random.Random(turn).randbytes(300_000))
        words = ["fs", "import", str(path), str(tmp_path / "one"), "--as", f"n{turn}"]
        if cli.main(words) != 0:
            break
    else:
        pytest.fail("8 MiB took 30 MB in")
    assert turn > 5
    for name in ("tree/f001", *(f"n{i}" for i in range(5))):
        assert cli.main(["fs", "delete", str(path), name, "--yes"]) == 0
    assert content(path, "tree/f002") == (small / "f002").read_bytes()
    assert cli.main(["fs", "check", str(path), "--full"]) == 0


def test_who_writes_has_the_medium_alone_and_readers_share_it(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with Volume.create(path, size=16 * MIB):
        for writes in (False, True):
            with pytest.raises(VolumeBusyError):
                Volume.open(path, writes=writes)
    with Volume.open(path) as one, Volume.open(path) as other:
        assert list(one.entries()) == list(other.entries())
        with pytest.raises(VolumeBusyError):
            Volume.open(path, writes=True)


def test_a_store_on_nand_with_bad_blocks_and_flips_keeps_what_it_has() -> None:
    flash = Flash(replace(slc_nand(size=32 * MIB, seed=5), factory_bad=20))
    format_log(flash.__flash__(), "emulated", VOLUME, storage_class=1)
    generator = random.Random(3)
    store = on(flash)
    kept: dict[bytes, bytes] = {}
    for turn in range(20):
        if turn % 5 == 4:
            flash.fail(generator.randrange(2, 256), Fail.PROGRAM)
        for _ in range(5):
            data = generator.randbytes(generator.randrange(40_000))
            kept[store.put(DATA, data)] = data
        store.flush()
        assert all(store.get(name) == data for name, data in kept.items())
    health = store.health()
    assert health is not None
    assert health["blocks_bad"] > 0
    assert store.scrub(full=True)[3] == []
    store.close()


def commit(store: Store, turn: int) -> None:
    store.put(DATA, random.Random(turn).randbytes(30_000))
    store.flush()
    store.replace_state(b"state %d" % turn)


def named(flash: Flash) -> list[bytes]:
    """The states that a mount for reading and then one for writing give."""
    states = [read_log_state(flash.__flash__(), "emulated")]
    store = on(flash)
    states.append(store.read_state())
    store.close()
    return states


@pytest.mark.parametrize("early", [False, True], ids=["honest", "canary"])
def test_power_cuts_leave_the_last_committed_state(early: bool) -> None:
    flash = Flash(replace(slc_nand(size=8 * MIB, seed=7), factory_bad=0))
    format_log(flash.__flash__(), "emulated", VOLUME, storage_class=1)
    store = on(flash)
    commit(store, 0)
    store.close()
    lost = cuts = 0
    for at in range(1, 200):
        fork = flash.fork()
        fork.seed(at)
        fork.plan_cut(fork.counters.mutations + at, Cut.ANY)
        store = on(fork)
        done = 0
        try:
            for turn in (1, 2, 3):
                commit(store, turn)
                done = turn
        except (FaultError, OSError):
            cuts += 1
        store.close()
        fork.power_on()
        states = named(fork)
        # The canary claims one commit more than was acknowledged.
        wanted = min(done + 1, 3) if early else done
        if not all(state in (b"state %d" % i for i in (wanted, wanted + 1)) for state in states):
            lost += 1
        assert states[0] == states[1]
        if done == 3:
            break
    assert cuts > 10
    assert (lost > 0) if early else (lost == 0)


def test_a_medium_that_is_gone_is_told() -> None:
    flash = Flash(replace(slc_nand(size=8 * MIB, seed=7), factory_bad=0))
    format_log(flash.__flash__(), "emulated", VOLUME, storage_class=1)
    store = on(flash)
    name = store.put(DATA, random.Random(1).randbytes(100_000))
    store.flush()
    packs, segments = store.packs(), store.segments()
    store.close()
    store = on(flash)  # what was written last would still be in memory
    for number, length in packs:
        store.add_pack(number, length)
    for number, _ in segments:
        store.add_segment(number)
    flash.power_off()
    with pytest.raises((FaultError, CorruptError)):
        store.get(name)
    with pytest.raises(FaultError):
        store.replace_state(b"x")
    store.close()


def test_damaged_images_are_an_error_or_the_right_content(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    path, bad = tmp_path / "v", tmp_path / "bad"
    data = generator.randbytes(100_000)
    (tmp_path / "file").write_bytes(data)
    with Volume.create(path, size=8 * MIB) as volume:
        volume.take_in(tmp_path / "file", "file")
    whole = path.read_bytes()
    used = [at for at in range(0, len(whole), 256) if any(whole[at : at + 256])]
    right = refused = 0
    images = []
    for _ in range(300):
        image = bytearray(whole)
        image[generator.choice(used) + generator.randrange(256)] ^= 1 << generator.randrange(8)
        images.append(bytes(image))
    images += [whole[: generator.randrange(len(whole))] for _ in range(50)]
    for image in images:
        bad.write_bytes(image)
        try:
            assert content(bad, "file") == data
            right += 1
        except (NexusError, OSError, ValueError):
            refused += 1
    assert right > 0
    assert refused > 0


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    for size in (0, 1, 300, 9 * MIB):
        (tmp_path / "v").write_bytes(bytes(size))
        with pytest.raises(NoVolumeError):
            Volume.open(tmp_path / "v")
