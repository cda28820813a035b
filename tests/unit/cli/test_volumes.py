"""`nexus fs` and `nexus snap`: what they do, what they say, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nexus import cli
from nexus.cli.long_work import watched
from nexus.cli.output import Output
from nexus.errors import AbsentError, DeadlineError
from nexus.fs import Report, Volume
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import Issue

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "photos"
    (place / "sub").mkdir(parents=True)
    (place / "note").write_text("hello\n")
    (place / "sub" / "big").write_bytes(random.Random(1).randbytes(300_000))
    (place / "sub" / "twin").write_bytes(random.Random(1).randbytes(300_000))
    (place / "link").symlink_to("note")
    return place


@pytest.fixture
def nexus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)

    def run(*words: str, code: int = 0) -> str:
        assert cli.main(words) == code, capsys.readouterr()
        said = capsys.readouterr()
        return said.out if code in (0, 3) else said.err

    return run


def document(text: str) -> dict:
    return json.loads(text)


@pytest.fixture
def volume(nexus, source: Path) -> str:
    nexus("fs", "create", "v")
    nexus("fs", "import", "v", "photos")
    return "v"


def test_what_goes_in_comes_out(nexus, volume: str, source: Path, tmp_path: Path) -> None:
    out = document(nexus("fs", "export", volume, "photos", "again", "--json"))
    assert (out["files"], out["bytes"], out["issues"]) == (3, 600_006, [])
    again = tmp_path / "again"
    assert {p.relative_to(again) for p in again.rglob("*")} == {
        p.relative_to(source) for p in source.rglob("*")
    }
    for path in source.rglob("*"):
        twin = again / path.relative_to(source)
        assert path.lstat().st_mode == twin.lstat().st_mode
        assert path.lstat().st_mtime_ns == twin.lstat().st_mtime_ns
        if path.is_symlink():
            assert path.readlink() == twin.readlink()
        elif path.is_file():
            assert path.read_bytes() == twin.read_bytes()


def test_a_second_import_stores_nothing_and_a_twin_is_stored_once(nexus, volume: str) -> None:
    shown = document(nexus("fs", "show", volume, "--json"))
    assert shown["logical_bytes"] == 600_006
    assert 300_000 < shown["stored_bytes"] < 320_000
    assert shown["chunks"] >= 3
    assert shown["snapshots"] == 0
    again = document(nexus("fs", "import", volume, "photos", "--json"))
    assert (again["path"], again["files"], again["bytes"]) == ("photos", 3, 600_006)
    assert again["new_bytes"] == again["stored_bytes"] == 0
    assert "600" not in nexus("fs", "show", volume).partition("chunks")[2]


def test_standard_input_becomes_a_file(nexus, volume: str, monkeypatch) -> None:
    read, write = os.pipe()
    os.write(write, b"from a pipe")
    os.close(write)
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        nexus("fs", "import", volume, "-", "--as", "deep/er/piped")
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(read)
    assert nexus("fs", "cat", volume, "deep/er/piped") == "from a pipe"
    assert "NX-CLI-001" in nexus("fs", "import", volume, "-", code=2)


def test_an_import_into_the_root_is_the_whole_tree(nexus, volume: str) -> None:
    nexus("fs", "import", volume, "photos/sub", "--as", "/")
    items = document(nexus("fs", "list", volume, "--json"))["items"]
    assert [item["path"] for item in items] == ["big", "twin"]
    assert "NX-CLI-001" in nexus("fs", "import", volume, "photos/note", "--as", "/", code=2)


def test_listings(nexus, volume: str) -> None:
    assert [line.split()[-1] for line in nexus("fs", "list", volume).splitlines()] == ["photos"]
    lines = nexus("fs", "list", volume, "--recursive").splitlines()
    names = ["photos", "photos/link -> note", "photos/note", "photos/sub", "photos/sub/big"]
    assert [line.split(" ", 1)[1].split("Z ")[1] for line in lines] == [*names, "photos/sub/twin"]
    assert lines[2].startswith("-rw")
    assert lines[2].split()[1] == "6"
    items = document(nexus("fs", "list", volume, "photos", "--json"))["items"]
    assert [(one["path"], one["kind"], one["size"]) for one in items] == [
        ("link", "link", 4),
        ("note", "file", 6),
        ("sub", "directory", 600_000),
    ]
    assert items[0]["target"] == "note"
    (one,) = document(nexus("fs", "list", volume, "photos/note", "--json"))["items"]
    assert (one["path"], one["size"]) == ("photos/note", 6)


def test_a_name_that_is_no_text_is_whole_in_base64(nexus, source: Path) -> None:
    raw = b"a\xff\x1b[2Jb"
    Path(os.fsdecode(os.fsencode(source) + b"/" + raw)).write_text("x")
    nexus("fs", "create", "v")
    nexus("fs", "import", "v", "photos", "--as", "/")
    items = document(nexus("fs", "list", "v", "--json"))["items"]
    coded = [one["path_base64"] for one in items if "path_base64" in one]
    assert [base64.b64decode(one) for one in coded] == [raw]
    shown = nexus("fs", "list", "v")
    assert "a\\xff\\x1b[2Jb" in shown
    assert "\x1b" not in shown
    assert nexus("fs", "cat", "v", os.fsdecode(raw)) == "x"


def test_snapshots_keep_compare_and_restore(nexus, volume: str, source: Path) -> None:
    assert nexus("snap", "list", volume) == "no snapshots\n"
    assert nexus("snap", "create", volume, "one") == "snapshot one: 585.9 KiB in files\n"
    (source / "note").write_text("changed\n")
    (source / "new").write_text("new\n")
    (source / "link").unlink()
    nexus("fs", "import", volume, "photos")
    changes = nexus("snap", "diff", volume, "one").splitlines()
    assert sorted(line for line in changes if not line.endswith("photos")) == [
        "+ photos/new",
        "- photos/link",
        "M photos/note",
    ]
    assert nexus("fs", "cat", volume, "photos/note", "--snapshot", "one") == "hello\n"
    plan = nexus("snap", "restore", volume, "one")
    assert "nothing was done; --yes does it" in plan
    assert nexus("fs", "cat", volume, "photos/note") == "changed\n"
    nexus("snap", "create", volume, "two")
    assert len(document(nexus("snap", "diff", volume, "one", "two", "--json"))["items"]) == len(
        changes
    )
    done = document(nexus("snap", "restore", volume, "one", "--json"))
    assert done["done"]
    assert done["kept"]
    assert nexus("fs", "cat", volume, "photos/note") == "hello\n"
    assert nexus("snap", "diff", volume, "one") == ""
    (source / "note").write_text("third\n")
    nexus("fs", "import", volume, "photos")
    assert not document(nexus("snap", "restore", volume, "two", "--json"))["done"]
    assert not document(nexus("snap", "restore", volume, "two", "--json", "--dry-run"))["done"]
    assert document(nexus("snap", "restore", volume, "two", "--json", "--yes"))["done"]
    assert nexus("fs", "cat", volume, "photos/note") == "changed\n"
    listed = document(nexus("snap", "list", volume, "--json"))["items"]
    assert [(one["name"], one["number"]) for one in listed] == [("one", 1), ("two", 2)]
    assert listed[0]["parent"] == "0" * 64
    assert listed[0]["root"] != listed[1]["root"]


def test_deleting_is_a_plan_until_yes(nexus, volume: str, tmp_path: Path) -> None:
    nexus("snap", "create", volume, "one")
    assert nexus("fs", "delete", volume, "photos/sub") == (
        "would delete photos/sub: 2 files, 585.9 KiB\nnothing was done; --yes does it\n"
    )
    assert "photos/sub/big" in nexus("fs", "list", volume, "-" * 2 + "recursive")
    assert "deleted photos/sub" in nexus("fs", "delete", volume, "photos/sub", "--yes")
    assert "photos/sub" not in nexus("fs", "list", volume, "--recursive")
    assert "big" in nexus("fs", "list", volume, "photos/sub", "--snapshot", "one")
    assert not document(nexus("snap", "delete", volume, "one", "--json"))["done"]
    assert document(nexus("snap", "delete", volume, "one", "--json", "--yes"))["done"]
    assert nexus("snap", "list", volume) == "no snapshots\n"
    assert not document(nexus("fs", "delete", volume, "--all", "--json"))["done"]
    assert (tmp_path / volume).is_dir()
    assert document(nexus("fs", "delete", volume, "--all", "--json", "--yes"))["done"]
    assert not (tmp_path / volume).exists()


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("fs", "show", "nothing"), 10, "NX-FS-001"),
        (("fs", "show", "photos"), 10, "NX-FS-001"),
        (("fs", "create", "v"), 1, "NX-FS-004"),
        (("fs", "create", "w", "--level", "23"), 2, "NX-CLI-001"),
        (("fs", "create", "no/such/w"), 1, "NX-FS-005"),
        (("fs", "import", "v", "nowhere"), 1, "NX-FS-005"),
        (("fs", "import", "v", "photos", "--as", "../x"), 2, "NX-CLI-001"),
        (("fs", "import", "v", "photos", "--as", "photos/note/x"), 1, "NX-FS-005"),
        (("fs", "import", "v", "/"), 2, "NX-CLI-001"),
        (("fs", "export", "v", "photos", "photos"), 1, "NX-FS-004"),
        (("fs", "export", "v", "photos", "no/such/x"), 1, "NX-FS-005"),
        (("fs", "export", "v", "nowhere", "x"), 10, "NX-FS-001"),
        (("fs", "export", "v", "photos", "x", "--snapshot", "none"), 10, "NX-FS-001"),
        (("fs", "list", "v", "nowhere"), 10, "NX-FS-001"),
        (("fs", "cat", "v", "photos"), 1, "NX-FS-005"),
        (("fs", "delete", "v"), 2, "NX-CLI-001"),
        (("fs", "delete", "v", "photos", "--all"), 2, "NX-CLI-001"),
        (("fs", "delete", "v", "/", "--yes"), 2, "NX-CLI-001"),
        (("fs", "delete", "v", "photos", "--yes", "--dry-run"), 2, "NX-CLI-001"),
        (("fs", "delete", "v", "nowhere", "--yes"), 10, "NX-FS-001"),
        (("snap", "create", "v", "a/b"), 2, "NX-CLI-001"),
        (("snap", "create", "v", ""), 2, "NX-CLI-001"),
        (("snap", "create", "v", "\udcff"), 2, "NX-CLI-001"),
        (("snap", "diff", "v", "none"), 10, "NX-FS-001"),
        (("snap", "restore", "v", "none", "--yes"), 10, "NX-FS-001"),
        (("snap", "delete", "v", "none"), 10, "NX-FS-001"),
        (("fs", "frobnicate", "v"), 2, "NX-CLI-001"),
    ],
    ids=str,
)
def test_a_wrong_command_is_refused(nexus, volume: str, words, code: int, error: str) -> None:
    before = Path(volume, "state").read_bytes()
    assert f"error[{error}]" in nexus(*words, code=code)
    assert Path(volume, "state").read_bytes() == before


def test_a_name_is_taken_once(nexus, volume: str) -> None:
    nexus("snap", "create", volume, "one")
    assert "NX-FS-004" in nexus("snap", "create", volume, "one", code=1)


def test_another_writer_is_refused_and_readers_are_not(nexus, volume: str) -> None:
    with Volume.open(volume, writes=True):
        assert "NX-FS-002" in nexus("snap", "create", volume, "one", code=11)
        assert nexus("fs", "cat", volume, "photos/note") == "hello\n"
    with Volume.open(volume):
        assert "NX-FS-002" in nexus("fs", "delete", volume, "--all", "--yes", code=11)


def test_what_is_left_out_is_named_with_code_3(nexus, volume: str, source: Path, capsys) -> None:
    take_in = Volume.take_in
    left = (Issue(13, b"secret"), Issue(5, b"bad\xff"))

    def partly(self: Volume, *words: Any, **options: Any) -> Report:
        return take_in(self, *words, **options)._replace(issues=left)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Volume, "take_in", partly)
        said = document(nexus("fs", "import", volume, "photos", "--json", code=3))
        assert said["issues"] == [
            {"path": "secret", "errno": 13, "why": "Permission denied"},
            {"path": "bad\\xff", "path_base64": "YmFk/w==", "errno": 5, "why": os.strerror(5)},
        ]
        assert cli.main(["fs", "import", volume, "photos"]) == 3
    shown = capsys.readouterr()
    assert shown.err == (
        f"left out: secret: Permission denied\nleft out: bad\\xff: {os.strerror(5)}\n"
    )
    assert "3 files" in shown.out


def test_a_file_that_cannot_be_read_is_left_out(nexus, volume: str, source: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("files that cannot be read were not checked: root reads all; run as a user")
    (source / "note").chmod(0)
    said = document(nexus("fs", "import", volume, "photos", "--json", code=3))
    assert [(one["path"], one["why"]) for one in said["issues"]] == [("note", "Permission denied")]


class Held:
    """A store whose work goes on until it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def counters(self) -> dict[str, int]:
        return {"files": 7, "file_bytes": 2048, "new_bytes": 0}

    def work(self, *, ends: bool = True) -> str:
        while not self.cancelled.wait(5):
            os.kill(os.getpid(), signal.SIGINT)
        if ends:
            raise DeadlineError("ended")
        return "done by then"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def interrupted(store: Held, **options: bool) -> object:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        return watched(
            lambda: store.work(**options), store, Output(json=False), "importing", quiet=False
        )
    finally:
        timer.join()


@pytest.mark.slow
def test_ctrl_c_ends_the_work_and_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    before = signal.getsignal(signal.SIGINT)
    store = Held()
    with pytest.raises(KeyboardInterrupt):
        interrupted(store)
    assert store.cancelled.is_set()
    assert signal.getsignal(signal.SIGINT) is before
    shown = sys.stderr.getvalue()
    assert "\r\x1b[Kimporting: 7 files, 2.0 KiB" in shown
    assert shown.endswith("\r\x1b[K")


@pytest.mark.slow
def test_work_that_was_done_before_ctrl_c_counts() -> None:
    assert interrupted(Held(), ends=False) == "done by then"


def test_a_deadline_that_nobody_asked_for_stays_one() -> None:
    store = Held()
    store.cancel()
    with pytest.raises(DeadlineError):
        watched(store.work, store, Output(json=False), "importing", quiet=True)


def test_an_interrupted_import_leaves_the_volume_as_it_was(nexus, volume: str, monkeypatch) -> None:
    before = Path(volume, "state").read_bytes()
    take_in = Volume.take_in

    def endless(self: Volume, *words: object, **options: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            take_in(self, *words, **options)

    monkeypatch.setattr(Volume, "take_in", endless)
    nexus("fs", "import", volume, "photos", "--as", "other", code=130)
    assert Path(volume, "state").read_bytes() == before
    assert "other" not in nexus("fs", "list", volume)


def test_a_keyed_volume_is_cut_by_a_number_of_its_own(nexus, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(random.Random(5).randbytes(3 << 20))
    for name, words in (("a", ["--keyed"]), ("b", ["--keyed"]), ("c", ["--chunker", "nx1"])):
        nexus("fs", "create", str(tmp_path / name), *words)
        nexus("fs", "import", str(tmp_path / name), str(tmp_path / "in"))
    with Volume.open(tmp_path / "a") as a, Volume.open(tmp_path / "b") as b:
        sizes = [[len(piece) for piece in volume.read("in")] for volume in (a, b)]
        assert sizes[0] != sizes[1]
        assert b"".join(a.read("in")) == b"".join(b.read("in"))
    with Volume.open(tmp_path / "c") as c:
        assert c.chunker == "nx1"
