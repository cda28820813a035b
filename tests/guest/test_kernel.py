"""What the rig does before a guest runs: finding, unpacking and packing, and saying why not."""

import lzma
import os
import shutil

import pytest

from tests.guest import guest, kernel, replay
from tests.guest.profiles import PROFILES, Profile

EDU = PROFILES["edu"]


def module(*needed):
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needed).encode() + b"\0name=x\0"


@pytest.fixture
def unpacked(tmp_path):
    """A kernel whose driver needs a bus by a chain, of which one link is built in."""
    modules = tmp_path / "tree" / "lib" / "modules" / "6.1.0"
    for path, data in {
        "kernel/drivers/far/a-driver.ko": module("the-bus", "built_in"),
        "kernel/drivers/bus/the_bus.ko.xz": lzma.compress(module("ring")),
        "kernel/drivers/bus/ring.ko": module(),
    }.items():
        (modules / path).parent.mkdir(parents=True, exist_ok=True)
        (modules / path).write_bytes(data)
    (modules / "modules.builtin").write_text("kernel/lib/built-in.ko\n")
    return kernel.Kernel(tmp_path)


def test_closure_loads_what_is_needed_first_and_once(unpacked):
    names = [path.name for path in unpacked.closure(["a_driver", "ring", "built-in"])]
    assert names == ["ring.ko", "the_bus.ko.xz", "a-driver.ko"]


def test_module_that_is_not_unpacked_is_named(unpacked):
    with pytest.raises(LookupError, match="no module nandsim"):
        unpacked.closure(["nandsim"])


def test_compressed_module_is_packed_as_the_kernel_loads_it(unpacked):
    (path,) = (p for p in unpacked.closure(["the_bus"]) if p.suffix == ".xz")
    assert kernel.image(path) == module("ring")


def test_elf_image_is_found_behind_a_false_start():
    elf = b"\x7fELF" + bytes(100)
    vmlinuz = b"MZ\xfd7zXZ\0 no stream" + lzma.compress(b"other") + lzma.compress(elf) + b"tail"
    assert kernel.uncompressed(vmlinuz) == elf
    with pytest.raises(kernel.Unavailable, match="not compressed by xz"):
        kernel.uncompressed(lzma.compress(b"other"))


def parsed(archive):
    """(name, mode, data) of each entry, read by the format's rules and not by the writer's."""
    at, entries = 0, []
    while True:
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[i : i + 8], 16) for i in range(at + 6, at + 110, 8)]
        name = archive[at + 110 : at + 110 + fields[11]]
        assert name.endswith(b"\0")
        start = at + 110 + fields[11]
        start += -start % 4
        data = archive[start : start + fields[6]]
        at = start + fields[6]
        at += -at % 4
        if name == b"TRAILER!!!\0":
            return entries
        entries.append((name[:-1].decode(), fields[1], data))


def test_archive_holds_what_was_put_in():
    files = [("init", 0o100755, b"12345"), ("empty", 0o100644, b""), ("m0.ko", 0o100644, b"4444")]
    assert parsed(kernel.archive(files)) == files


@pytest.fixture
def complete(monkeypatch, tmp_path):
    """A machine that lacks nothing, as far as `missing` asks."""
    monkeypatch.setenv("NEXUS_GUEST_CACHE", str(tmp_path))
    monkeypatch.setattr(guest.platform, "machine", lambda: "x86_64")
    present = {"qemu-system-x86_64", "apt-get", "gcc"}
    monkeypatch.setattr(shutil, "which", lambda name: name if name in present else None)
    return present


def test_first_thing_missing_is_the_one_named(complete, monkeypatch):
    huge = Profile("huge", memory_mib=1 << 40)
    assert guest.missing(EDU) is None
    assert "MiB of memory" in guest.missing(huge)
    complete.remove("gcc")
    assert guest.missing(huge).startswith("gcc is missing")
    complete.remove("apt-get")
    assert "there is no apt-get" in guest.missing(huge)
    complete.remove("qemu-system-x86_64")
    assert guest.missing(huge) == ("qemu-system-x86_64 is missing: apt-get install qemu-system-x86")
    monkeypatch.setattr(guest.platform, "machine", lambda: "riscv64")
    assert "this is riscv64" in guest.missing(huge)


def test_cached_kernel_serves_where_no_index_names_one(complete, tmp_path):
    complete.remove("apt-get")
    with pytest.raises(kernel.Unavailable, match="no apt-get"):
        kernel.prepare()
    names = [kernel._place(f"linux-image-6.1.0-{n}-amd64", "1").name for n in (9, 10)]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    assert kernel.prepare().folder == tmp_path / names[1]
    assert guest.missing(EDU) is None


def test_missing_guest_is_a_skip_and_where_required_a_failure(complete, monkeypatch):
    complete.remove("qemu-system-x86_64")
    monkeypatch.delenv(replay.REQUEST, raising=False)
    monkeypatch.delenv(replay.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"run \./dev guest"):
        replay.boot("edu")
    monkeypatch.setenv(replay.REQUEST, "1")
    with pytest.raises(pytest.skip.Exception, match=r"^qemu-system-x86_64 is missing"):
        replay.boot("edu")
    monkeypatch.setenv(replay.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="qemu-system-x86_64 is missing"):
        replay.boot("edu")


def test_kvm_is_used_only_when_asked_for_and_real(monkeypatch):
    monkeypatch.delenv("NEXUS_GUEST_ACCEL", raising=False)
    assert guest.accelerator().startswith("tcg")
    monkeypatch.setenv("NEXUS_GUEST_ACCEL", "kvm")
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(guest.Path, "exists", lambda self: self.name == "kvm_amd")
    assert guest.accelerator() == "kvm"
    monkeypatch.setattr(guest.Path, "exists", lambda self: False)
    with pytest.raises(kernel.Unavailable, match="NEXUS_GUEST_ACCEL=kvm"):
        guest.accelerator()


def test_guest_that_cannot_start_leaves_nothing(complete, monkeypatch, tmp_path):
    monkeypatch.setattr(guest.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(guest, "cached", lambda: kernel.Kernel(tmp_path))
    monkeypatch.setattr(guest, "initial_root", lambda *_: b"")
    monkeypatch.setenv("NEXUS_GUEST_ACCEL", "none")
    with pytest.raises(kernel.Unavailable, match="NEXUS_GUEST_ACCEL=none"):
        guest.Guest(EDU)
    monkeypatch.delenv("NEXUS_GUEST_ACCEL")
    # A program that ends at once, as a QEMU that refuses its arguments does.
    monkeypatch.setattr(guest, "qemu", lambda *_, **__: ["sh", "-c", "echo refused >&2"])
    with pytest.raises(guest.GuestDied, match="refused"):
        guest.Guest(EDU)
    assert list(tmp_path.iterdir()) == []


PASSED = [{"phase": p, "outcome": "passed", "text": ""} for p in ("setup", "call", "teardown")]


def test_only_a_complete_run_passes():
    start = {"phase": "start"}
    replay.verdict([start, *PASSED], "the end")
    for phases in ([], [start], [start, *PASSED[:2]]):
        with pytest.raises(replay.FailedInside, match="the end"):
            replay.verdict(phases, "the end")
    for index, phase in enumerate(PASSED):
        failed = [*PASSED[:index], phase | {"outcome": "failed", "text": "why"}, *PASSED[2:]]
        with pytest.raises(replay.FailedInside, match="why"):
            replay.verdict([start, *failed], "the end")
