"""Volumes that are killed, full, damaged or fought over: the old state stays, and errors say so."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nexus import cli
from nexus.errors import AbsentError, VolumeBusyError
from nexus.fs import Volume
from nexus.fs.check import check_trees
from nexus.fs.repair import open_patient
from nexus.physics.zstd import zstd_functions

pytestmark = pytest.mark.slow

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

ROUNDS = 12
IMPORT = "import sys; from nexus.cli import main; sys.exit(main(sys.argv[1:]))"
KNOWN = {"NX-FS-001", "NX-FS-003"}


def make_tree(place: Path, seed: int, *, files: int = 40, size: int = 60_000) -> Path:
    place.mkdir()
    generator = random.Random(seed)
    for i in range(files):
        (place / f"f{i:03}").write_bytes(generator.randbytes(generator.randrange(size)))
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in place.iterdir()}


def held(path: Path, name: str) -> dict[str, bytes]:
    with Volume.open(path) as volume:
        names = [row.name.decode() for row in volume.entries(name)]
        return {one: b"".join(volume.read(f"{name}/{one}")) for one in names}


def start_import(path: Path, source: Path) -> subprocess.Popen[bytes]:
    words = ["fs", "import", str(path), str(source), "--as", "tree"]
    return subprocess.Popen(
        [sys.executable, "-c", IMPORT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("size", [None, 32 << 20], ids=["directory", "log"])
def test_a_killed_import_leaves_the_state_of_before_or_after(
    tmp_path: Path, size: int | None
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    path = tmp_path / "v"
    sources = [make_tree(tmp_path / "even", 1), make_tree(tmp_path / "odd", 2)]
    Volume.create(path, size=size).close()
    begin = time.monotonic()
    process = start_import(path, sources[0])
    process.communicate()
    assert process.returncode == 0
    took = time.monotonic() - begin
    current = 0
    killed = 0
    for turn in range(ROUNDS):
        other = 1 - current
        process = start_import(path, sources[other])
        # The imports of modules take most of the time; a kill in them would prove nothing.
        until = time.monotonic() + took * generator.uniform(0.3, 1.2)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        got = held(path, "tree")
        assert got in [contents(source) for source in sources], f"turn {turn}"
        current = [contents(source) for source in sources].index(got)
        assert process.returncode == -signal.SIGKILL or current == other
    assert killed > 0, "no import was killed: nothing was proved"
    process = start_import(path, sources[1 - current])
    process.communicate()
    assert process.returncode == 0
    assert held(path, "tree") == contents(sources[1 - current])
    assert cli.main(["fs", "check", str(path), "--full"]) == 0
    with Volume.open(path) as volume:
        # What the killed ones left behind is gone with the commit.
        assert volume.store.files(True) == [number for number, _ in volume.store.packs()]


def test_a_killed_restore_leaves_one_tree_or_the_other(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    path = tmp_path / "v"
    sources = [make_tree(tmp_path / name, i, files=4) for i, name in enumerate(("one", "two"))]
    with Volume.create(path) as volume:
        for source in sources:
            volume.take_in(source, "tree")
            volume.take_snapshot(source.name)
    wanted = [contents(source) for source in sources]

    def start(name: str) -> subprocess.Popen[bytes]:
        words = ["snap", "restore", str(path), name]
        return subprocess.Popen([sys.executable, "-c", IMPORT, *words], stdout=subprocess.DEVNULL)

    begin = time.monotonic()
    assert start("one").wait() == 0
    took = time.monotonic() - begin
    killed = 0
    for turn in range(2 * ROUNDS):
        other = 1 - wanted.index(held(path, "tree"))
        process = start(sources[other].name)
        until = time.monotonic() + took * generator.uniform(0.6, 1.1)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        got = wanted.index(held(path, "tree"))
        assert process.returncode == -signal.SIGKILL or got == other, f"turn {turn}"
        # The second copy is never of a commit whose files are gone.
        (path / "state").rename(path / "kept")
        patient = open_patient(path, writes=False)
        assert check_trees(patient.volume, decode=True)[1] == ()
        patient.volume.close()
        (path / "kept").rename(path / "state")
    assert killed > 0, "no restore was killed: nothing was proved"
    assert start("two").wait() == 0
    assert held(path, "tree") == wanted[1]


def test_an_interrupted_import_exits_130_and_leaves_the_state(tmp_path: Path) -> None:
    path = tmp_path / "v"
    Volume.create(path).close()
    before = (path / "state").read_bytes()
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORT, "fs", "import", str(path), "-", "--as", "x"],
        stdin=read, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(read)
    # Until it reads, and after: the pipe holds less than this.
    os.write(write, bytes(60_000))
    os.write(write, bytes(60_000))
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    os.close(write)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert (path / "state").read_bytes() == before
    with Volume.open(path) as volume:
        assert list(volume.entries()) == []


def test_one_writes_and_any_number_reads(tmp_path: Path) -> None:
    path = tmp_path / "v"
    source = make_tree(tmp_path / "tree", 1, files=4)
    with Volume.create(path) as first:
        first.take_in(source, "tree")
        first.commit()
        with pytest.raises(VolumeBusyError):
            Volume.open(path, writes=True)
        (source / "f000").write_bytes(b"new")
        first.take_in(source, "tree")
        with Volume.open(path) as reader:
            assert b"".join(reader.read("tree/f000")) != b"new"
            first.commit()
            assert b"".join(reader.read("tree/f000")) != b"new"
        assert held(path, "tree")["f000"] == b"new"
    Volume.open(path, writes=True).close()


def test_a_full_disk_is_told_and_leaves_the_state(tmp_path: Path, capsys) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a full disk was not checked: a tmpfs cannot be mounted; run as root")
    try:
        path = disk / "v"
        small = make_tree(tmp_path / "small", 1, files=3, size=2000)
        large = make_tree(tmp_path / "large", 2, files=40)
        assert cli.main(["fs", "create", str(path)]) == 0
        assert cli.main(["fs", "import", str(path), str(small), "--as", "tree"]) == 0
        capsys.readouterr()
        assert cli.main(["fs", "import", str(path), str(large), "--as", "tree"]) == 1
        said = capsys.readouterr().err
        assert "error[NX-FS-005]" in said
        assert os.strerror(errno.ENOSPC) in said
        assert held(path, "tree") == contents(small)
        # There is room again: what was written for nothing is gone.
        assert cli.main(["fs", "import", str(path), str(small), "--as", "again"]) == 0
        assert held(path, "again") == contents(small)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def damages(data: bytes, generator: random.Random) -> list[bytes]:
    """Truncations and flips."""
    cuts = [data[:size] for size in {0, 1, len(data) // 2, len(data) - 1} if size < len(data)]
    for _ in range(25):
        bad = bytearray(data)
        bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        cuts.append(bytes(bad))
    return cuts


@pytest.mark.parametrize("part", ["state", "packs", "index"])
def test_damage_is_an_error_with_a_code_or_harmless(tmp_path: Path, capsys, part: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    path = tmp_path / "v"
    source = make_tree(tmp_path / "tree", 1, files=4, size=3000)
    with Volume.create(path) as volume:
        volume.take_in(source, "tree")
        volume.take_snapshot("one")
    file = path / "state" if part == "state" else next((path / part).iterdir())
    good = file.read_bytes()
    wanted = contents(source)
    refused = 0
    for number, bad in enumerate(damages(good, generator)):
        file.write_bytes(bad)
        target = tmp_path / f"out{number}"
        words = ["fs", "export", str(path), "tree", str(target)]
        capsys.readouterr()
        code = cli.main(words)
        said = capsys.readouterr().err
        if code == 0:
            assert contents(target) == wanted
            assert part != "state"
        else:
            refused += 1
            assert code in (3, 13, 10), said
            # Whatever did come out is right.
            got = contents(target) if target.exists() else {}
            assert all(wanted[name] == data for name, data in got.items())
            assert code == 3 or any(f"error[{one}]" in said for one in KNOWN), said
        shutil.rmtree(target, ignore_errors=True)
        if part == "packs":
            assert cli.main(["fs", "check", str(path)]) in (1, 13)
    assert refused > 0
    file.write_bytes(good)
    assert held(path, "tree") == wanted
    file.unlink()
    assert cli.main(["fs", "show", str(path)]) in (10, 13)
