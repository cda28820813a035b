"""Archives: what a tree has already is not stored again for a tar, cpio, ar or zip of it."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus.errors import AbsentError
from nexus.fs import Volume
from nexus.physics.zstd import zstd_functions

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

Files = dict[str, bytes]


def tar_of(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo("deep/" * 30 + name)  # longer than a header: one more of it
            member.size, member.mtime = len(data), 1.5
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def cpio_of(files: Files) -> bytes:
    out = b""
    for name, data in {**files, "TRAILER!!!": b""}.items():
        numbers = (7, 0o100644, 0, 0, 1, 9, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % number for number in numbers)
        head += name.encode() + b"\0"
        out += head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    return out


def ar_of(files: Files) -> bytes:
    out = b"!<arch>\n"
    for name, data in files.items():
        head = f"{name + '/':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
        out += head.encode() + data + b"\n" * (len(data) % 2)
    return out


def zip_of(files: Files) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("make", [tar_of, cpio_of, ar_of, zip_of])
def test_members_of_an_archive_are_stored_once(
    make: Callable[[Files], bytes], tmp_path: Path
) -> None:
    source = random.Random(3)
    files = {f"f{i}": source.randbytes(source.randint(33_000, 60_000)) for i in range(40)}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    whole = make(files)
    (tmp_path / "good").write_bytes(whole)
    (tmp_path / "spoilt").write_bytes(b"?" + whole)  # of the same bytes, and no archive
    with Volume.create(tmp_path / "v") as volume:
        volume.take_in(tmp_path / "in", b"in")
        good = volume.take_in(tmp_path / "good", b"good")
        assert good.bytes == len(whole)
        assert good.new_bytes < 0.05 * len(whole)
        spoilt = volume.take_in(tmp_path / "spoilt", b"other")
        assert spoilt.new_bytes > 0.5 * len(whole)
        volume.commit()
        assert b"".join(volume.read(b"good")) == whole
        volume.put_out(b"good", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == whole


def test_an_archive_that_is_cut_off_or_lies_is_kept_as_it_is(tmp_path: Path) -> None:
    source = random.Random(4)
    whole = bytearray(tar_of({f"f{i}": source.randbytes(50_000) for i in range(5)}))
    with Volume.create(tmp_path / "v") as volume:
        for number in range(30):
            data = bytes(whole[: source.randint(20_000, len(whole))])
            broken = bytearray(data)
            for _ in range(3):
                broken[source.randrange(len(broken))] ^= 1 << source.randrange(8)
            for one in (data, bytes(broken)):
                (tmp_path / "a").write_bytes(one)
                volume.take_in(tmp_path / "a", b"a%d" % number)
                assert b"".join(volume.read(b"a%d" % number)) == one
