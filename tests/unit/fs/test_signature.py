"""Signatures of snapshots: only of what was signed, by whom, and as long as the snapshot is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus import cli
from nexus.errors import AbsentError, NoVolumeError, VolumeCorruptError
from nexus.fs import Volume
from nexus.fs.check import check_packs, check_trees
from nexus.fs.signature import SIGNATURES_MAX, sign_snapshot, signed_by
from nexus.fs.state import encode_state
from nexus.fs.sweep import Sweep
from nexus.physics.ledger import Ed25519Signer
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import SIGNATURE

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

ANN, BEN = Ed25519Signer(b"a" * 32), Ed25519Signer(b"b" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(os.urandom(5000))
    with Volume.create(tmp_path / "v") as volume:
        volume.take_in(tree, "tree")
        volume.take_snapshot("one")
        sign_snapshot(volume, "one", ANN)
        (tree / "file").write_bytes(os.urandom(5000))
        volume.take_in(tree, "tree")
        volume.take_snapshot("two")
    return tmp_path / "v"


def test_only_what_was_signed_is_signed_and_only_by_whom(path: Path) -> None:
    with Volume.open(path) as volume:
        assert signed_by(volume, "one", ANN.public)
        assert not signed_by(volume, "two", ANN.public)
        assert not signed_by(volume, "one", BEN.public)
        with pytest.raises(NoVolumeError):
            signed_by(volume, "three", ANN.public)


def test_a_second_signature_stands_beside_and_the_same_again_is_one(path: Path) -> None:
    with Volume.open(path, writes=True) as volume:
        for signer in (BEN, ANN, BEN):
            sign_snapshot(volume, "one", signer)
    with Volume.open(path) as volume:
        assert len(volume.state.signatures) == 2
        assert signed_by(volume, "one", ANN.public)
        assert signed_by(volume, "one", BEN.public)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "One"},
        {"time_ns": 1},
        {"root": bytes(32)},
        {"parent": bytes([1]) * 32},
        {"logical": 7},
        {"flags": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_snapshot_is_not_what_was_signed(path: Path, change: dict) -> None:
    with Volume.open(path) as volume:
        one, two = volume.snapshots
        other = one._replace(**change)
        state = volume.state._replace(snapshots=(other, two))
    (path / "state").write_bytes(encode_state(state))
    with Volume.open(path) as volume:
        assert not signed_by(volume, other.name, ANN.public)


def test_a_signature_is_of_one_volume(path: Path, tmp_path: Path) -> None:
    with Volume.open(path) as volume:
        state = volume.state._replace(volume=bytes(16))
        ((_, identity),) = state.signatures
        data = volume.store.get(identity)
        one = volume.snapshot("one")
    with Volume.create(tmp_path / "w") as other:
        other._state = other.state._replace(snapshots=(one,), next_snapshot=2)
        other.add_signature(one, data)
        assert not signed_by(other, "one", ANN.public)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
@given(data=st.data())
def test_no_changed_signature_is_one(path: Path, data: st.DataObject) -> None:
    with Volume.open(path) as volume:
        ((number, identity),) = volume.state.signatures
        good = volume.store.get(identity)
        kind = data.draw(st.sampled_from(["flip", "cut", "more"]))
        if kind == "flip":
            at = data.draw(st.integers(0, len(good) - 1))
            bad = bytearray(good)
            bad[at] ^= data.draw(st.integers(1, 255))
        else:
            bad = good[: data.draw(st.integers(0, 103))] if kind == "cut" else good + b"\0"

        class Lying:
            def get(self, _: bytes) -> bytes:
                return bytes(bad)

        volume._store, kept = Lying(), volume._store
        try:
            assert not signed_by(volume, "one", ANN.public)
            assert volume.state.signatures == ((number, identity),)
        finally:
            volume._store = kept


def test_collection_keeps_it_with_its_snapshot_and_drops_it_with_it(path: Path) -> None:
    def collect() -> None:
        with Volume.open(path, writes=True) as volume, Sweep(volume, level=9) as sweep:
            for _ in sweep.steps(sweep.plan(keep_pack=1.0)):
                pass

    with Volume.open(path) as volume:
        ((_, identity),) = volume.state.signatures
    collect()
    with Volume.open(path, writes=True) as volume:
        assert volume.store.find(identity)[1] == SIGNATURE
        assert signed_by(volume, "one", ANN.public)
        volume.forget_snapshot("two")
        assert volume.state.signatures
    with Volume.open(path, writes=True) as volume:
        volume.forget_snapshot("one")
        assert not volume.state.signatures
    collect()
    with Volume.open(path) as volume:
        assert volume.store.find(identity) is None


def test_a_lost_signature_is_named_and_is_no_answer(path: Path) -> None:
    with Volume.open(path) as volume:
        ((_, identity),) = volume.state.signatures
        pack = next(one for one in (path / "packs").iterdir() if identity in one.read_bytes())
    data = bytearray(pack.read_bytes())
    at = data.rindex(b"NXB1", 0, data.index(identity))
    data[at] ^= 1
    pack.write_bytes(data)
    with Volume.open(path) as volume:
        damaged = check_packs(volume, full=True)
        _, lost = check_trees(volume, decode=bool(damaged.damage))
        assert [(one.kind, one.needed_by) for one in lost if one.id == identity] == [
            ("signature", (("one", b""),))
        ]
        with pytest.raises(VolumeCorruptError):
            signed_by(volume, "one", ANN.public)


def test_what_cannot_be_signed_is_refused(path: Path) -> None:
    with Volume.open(path, writes=True) as volume:
        for i in range(SIGNATURES_MAX - 1):
            sign_snapshot(volume, "one", Ed25519Signer(bytes([i]) * 32))
        assert len(volume.state.signatures) == SIGNATURES_MAX
        with pytest.raises(ValueError, match="64 signatures"):
            sign_snapshot(volume, "one", BEN)
        sign_snapshot(volume, "one", ANN)
        old = volume.snapshot("two")._replace(flags=0)
        volume._state = volume.state._replace(snapshots=(volume.snapshots[0], old))
        with pytest.raises(ValueError, match="before there were signatures"):
            sign_snapshot(volume, "two", ANN)


def test_commands_sign_and_verify(path: Path, tmp_path: Path, capsys) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(b"c" * 32)
    words = [str(path), "two"]
    assert cli.main(["snap", "sign", *words, "--key", str(key)]) == 0
    public = Ed25519Signer(b"c" * 32).public.hex()
    assert public in capsys.readouterr().out
    assert cli.main(["snap", "verify", *words, "--key", public]) == 0
    assert cli.main(["snap", "verify", *words, "--key", ANN.public.hex()]) == 1
    assert cli.main(["snap", "verify", *words, "--key", "abc"]) == 2
    key.chmod(0o640)
    assert cli.main(["snap", "sign", *words, "--key", str(key)]) == 2
    assert "may be read by others" in capsys.readouterr().err
    key.chmod(0o600)
    key.write_bytes(b"c" * 31)
    assert cli.main(["snap", "sign", *words, "--key", str(key)]) == 2
    assert cli.main(["snap", "sign", *words, "--key", str(tmp_path)]) == 2
    assert cli.main(["snap", "sign", *words, "--key", str(tmp_path / "none")]) == 1
