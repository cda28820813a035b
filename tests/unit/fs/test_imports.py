"""What several imports come to in one tree, and what no import takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexus import cli
from nexus.errors import AbsentError
from nexus.fs import Volume
from nexus.physics.zstd import zstd_functions

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)


def twins(place: Path, content: bytes) -> Path:
    """A directory with a file of two names."""
    place.mkdir()
    (place / "a").write_bytes(content)
    os.link(place / "a", place / "b")
    return place


def test_hard_links_of_two_imports_stay_apart(tmp_path: Path) -> None:
    with Volume.create(tmp_path / "v") as volume:
        for name in ("one", "two"):
            volume.take_in(twins(tmp_path / name, name.encode()), name)
    with Volume.open(tmp_path / "v") as volume:
        volume.put_out("/", tmp_path / "out")
    for name in ("one", "two"):
        first, second = tmp_path / "out" / name / "a", tmp_path / "out" / name / "b"
        assert first.read_bytes() == second.read_bytes() == name.encode()
        assert first.samefile(second)


def test_names_of_one_file_that_changed_between_imports_are_two_files(tmp_path: Path) -> None:
    place = twins(tmp_path / "one", b"old")
    with Volume.create(tmp_path / "v") as volume:
        volume.take_in(place / "a", "a")
        (place / "a").write_bytes(b"newer")
        volume.take_in(place / "b", "b")
    with Volume.open(tmp_path / "v") as volume:
        volume.put_out("/", tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"old"
    assert (tmp_path / "out" / "b").read_bytes() == b"newer"


@pytest.mark.parametrize("size", [None, 8 << 20], ids=["directory", "log"])
def test_a_volume_does_not_take_in_itself(tmp_path: Path, size: int | None, capsys) -> None:
    home = tmp_path / "home"
    beside = home / "beside"
    beside.mkdir(parents=True)
    (home / "link").symlink_to(home)
    path = home / "v"
    Volume.create(path, size=size).close()
    inside = [path / "packs"] if size is None else []
    for source in (path, home, tmp_path, home / "link", *inside):
        assert cli.main(["fs", "import", str(path), str(source), "--as", "x"]) == 2, source
        assert "is the volume itself" in capsys.readouterr().err
    assert cli.main(["fs", "import", str(path), str(beside), "--as", "x"]) == 0
