"""Proofs prove what a tree has or has not, and nothing that is changed proves anything else."""

from __future__ import annotations

import io
import json
import os
import random
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus import cli
from nexus.errors import AbsentError, CorruptError, ProofError
from nexus.fs import Volume, tree
from nexus.fs.proof import check_proof, make_proof, matches
from nexus.physics import blake3
from nexus.physics.tree import make_index, make_leaves
from nexus.physics.zstd import zstd_functions
from nexus.seams.store import Entry, Form

try:
    zstd_functions()
except AbsentError as error:
    pytest.skip(f"volumes were not checked: {error}", allow_module_level=True)

MANY = 3000
HEAD = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("proofs")
    top = place / "tree"
    (top / "deep" / "er").mkdir(parents=True)
    (top / "deep" / "er" / "small").write_bytes(b"small")
    (top / "empty").touch()
    (top / "large").write_bytes(random.Random(1).randbytes(900_000))
    with (top / "holes").open("wb") as file:
        file.write(random.Random(2).randbytes(200_000))
        file.seek(3 << 20)
        file.write(b"end")
    (top / "many").mkdir()
    for i in range(MANY):
        (top / "many" / f"{i:05}").symlink_to("x")
    with Volume.create(place / "v") as volume:
        volume.take_in(top, "/")
        volume.take_snapshot("one")
    return place / "v"


@pytest.fixture(scope="module")
def volume(path: Path):
    with Volume.open(path) as volume:
        yield volume


PATHS = ["", "deep", "deep/er/small", "empty", "large", "holes", "many", "many/00000", "many/02999"]
ABSENT = ["a", "zz", "deep/er/smal", "many/!", "many/01234x", "many/zz", "empty/x", "no/such/path"]


def root_of(volume: Volume) -> bytes:
    return volume.snapshot("one").root


@pytest.mark.parametrize("name", PATHS)
def test_what_is_there_is_proved(volume: Volume, name: str) -> None:
    root = root_of(volume)
    statement = check_proof(make_proof(volume, root, name), root)
    assert statement.path == name.encode()
    assert statement.entry == volume.find(name)


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_proved(volume: Volume, name: str) -> None:
    root = root_of(volume)
    assert check_proof(make_proof(volume, root, name), root).entry is None
    with pytest.raises(ValueError, match="only a file"):
        make_proof(volume, root, name, whole=True)


def test_a_proof_is_of_one_tree_and_a_directory_is_no_file(volume: Volume) -> None:
    root = root_of(volume)
    proof = make_proof(volume, root, "empty")
    with pytest.raises(ProofError, match="another tree"):
        check_proof(proof, bytes(32))
    with pytest.raises(ProofError, match="not 0000"):
        check_proof(proof[:8] + bytes(32) + proof[40:], bytes(32))
    with pytest.raises(ValueError, match="only a file"):
        make_proof(volume, root, "deep", whole=True)


@pytest.mark.parametrize("name", ["deep/er/small", "empty", "large", "holes"])
def test_a_local_file_is_compared_byte_by_byte(volume: Volume, name: str) -> None:
    root = root_of(volume)
    content = b"".join(volume.read(name))
    statement = check_proof(make_proof(volume, root, name, whole=True), root)

    def same(data: bytes) -> bool:
        return matches(statement, io.BytesIO(data).read)

    assert same(content)
    assert not same(content + b"\0")
    assert not content or not same(content[:-1])
    generator = random.Random(3)
    for _ in range(20 if content else 0):
        bad = bytearray(content)
        bad[generator.randrange(len(bad))] ^= 1 << generator.randrange(8)
        assert not same(bytes(bad))


def test_a_large_file_without_its_lists_cannot_be_compared(volume: Volume) -> None:
    root = root_of(volume)
    statement = check_proof(make_proof(volume, root, "large"), root)
    assert statement.pieces is None
    assert statement.entry.form == Form.LIST


def refused_or_true(volume: Volume, proof: bytes) -> bool:
    """Whether it is refused; if not, what it proves has to be so in the volume."""
    root = root_of(volume)
    try:
        statement = check_proof(proof, root)
    except ProofError:
        return True
    found = tree.lookup(volume.store, volume.root("one"), tree.split(statement.path))
    assert statement.entry == found
    if statement.pieces is not None:
        assert statement.pieces == tuple(tree.pieces(volume.store, found))
    return False


@pytest.mark.parametrize(
    ("name", "whole"), [("deep/er/small", False), ("large", True), ("zz", False)]
)
def test_every_flipped_byte_is_refused_or_proves_another_truth(
    volume: Volume, name: str, whole: bool
) -> None:
    good = make_proof(volume, root_of(volume), name, whole=whole)
    begin = HEAD + 1 + len(name)
    for at in range(len(good)):
        for change in (1, 0x80):
            bad = bytearray(good)
            bad[at] ^= change
            refused = refused_or_true(volume, bytes(bad))
            # Only the path may be another of which the same objects prove something.
            assert refused or HEAD < at < begin or at == 6, at


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_proof_proves_a_lie(volume: Volume, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*PATHS, *ABSENT]))
    whole = name in ("large", "holes", "empty")
    good = make_proof(volume, root_of(volume), name, whole=whole)
    bad = bytearray(good)
    match data.draw(st.sampled_from(["flips", "cut", "more", "twice", "flags", "path"])):
        case "flips":
            for _ in range(data.draw(st.integers(1, 4))):
                bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        case "cut":
            del bad[data.draw(st.integers(0, len(bad) - 1)) :]
        case "more":
            bad += data.draw(st.binary(min_size=1, max_size=8))
        case "twice":
            bad += bad[HEAD + 1 + len(name) :]
        case "flags":
            bad[6:8] = data.draw(st.integers(0, 65535)).to_bytes(2, "little")
        case _:
            other = data.draw(st.sampled_from([*PATHS, *ABSENT])).encode()
            bad = bad[:HEAD] + bytes([len(other)]) + other + bad[HEAD + 1 + len(name) :]
    if bytes(bad) != good:
        refused_or_true(volume, bytes(bad))


def sealed(path: bytes, objects: list[bytes], *, flags: int = 0) -> tuple[bytes, bytes]:
    """A proof of these objects, whatever they are, and the root that it is of."""
    root = blake3(objects[0])
    head = b"NXPR\x01\x00" + flags.to_bytes(2, "little") + root + bytes([len(path)]) + path

    def sized(data: bytes) -> bytes:
        if len(data) < 0x80:
            return bytes([len(data)]) + data
        assert len(data) < 1 << 14
        return bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data

    return head + b"".join(sized(one) for one in objects), root


def entry(name: bytes, mode: int, form: int, *, identity: bytes | None, size: int = 0) -> Entry:
    return Entry(name, mode, 0, 0, 0, 0, size, form, identity, None, b"")


def leaf(*rows: Entry, root: bool = False) -> bytes:
    ((data, _, _),) = make_leaves(list(rows), root=root)
    return data


def directory(form: int, identity: bytes) -> bytes:
    return leaf(entry(b"", stat.S_IFDIR | 0o755, form, identity=identity), root=True)


FILE = stat.S_IFREG | 0o644


def two_leaves() -> tuple[bytes, bytes]:
    return (
        leaf(entry(b"a", FILE, Form.NOTHING, identity=None)),
        leaf(entry(b"c", FILE, Form.NOTHING, identity=None)),
    )


def test_a_tree_that_hides_a_name_behind_its_index_is_refused() -> None:
    one, two = two_leaves()
    rows = {
        "right": [(b"a", 1, blake3(one)), (b"c", 1, blake3(two))],
        "falls": [(b"c", 1, blake3(two)), (b"a", 1, blake3(one))],
        "twice": [(b"c", 1, blake3(two)), (b"c", 1, blake3(two))],
        "first": [(b"a", 1, blake3(one)), (b"b", 1, blake3(two))],
        "count": [(b"a", 1, blake3(one)), (b"c", 2, blake3(two))],
    }
    for case, listed in rows.items():
        index = make_index(listed)
        top = directory(Form.INDEX, blake3(index))
        proof, root = sealed(b"c", [top, index, two])
        if case == "right":
            assert check_proof(proof, root).entry.name == b"c"
        else:
            with pytest.raises(ProofError):
                check_proof(proof, root)


def test_golden_proofs_prove_what_they_always_did(root: Path) -> None:
    vectors = json.loads((root / "tests/golden/proof.json").read_text())["proofs"]
    assert len(vectors) == 4
    for one in vectors:
        proof = bytes.fromhex(one["proof"])
        statement = check_proof(proof, bytes.fromhex(one["root"]))
        found = statement.entry
        assert statement.path.decode() == one["path"]
        assert (found is None) == one["absent"]
        assert found is None or (found.size, found.id.hex()) == (one["size"], one["id"])
        pieces = statement.pieces
        assert (None if pieces is None else [size for size, _ in pieces]) == one["pieces"]
        same = one["content"]
        assert same is None or matches(statement, io.BytesIO(bytes.fromhex(same)).read)


def test_objects_of_the_wrong_kind_or_number_are_refused() -> None:
    one, two = two_leaves()
    index = make_index([(b"a", 1, blake3(one)), (b"c", 1, blake3(two))])
    top = directory(Form.LEAF, blake3(one))
    good, root = sealed(b"a", [top, one])
    assert check_proof(good, root).entry.name == b"a"
    assert check_proof(sealed(b"b", [top, one], flags=1)[0], root).entry is None
    liars = [
        sealed(b"a", [directory(Form.LEAF, blake3(index)), index]),
        sealed(b"a", [directory(Form.INDEX, blake3(one)), one]),
        sealed(b"a", [top, one, one]),
        sealed(b"a", [top, two]),
        sealed(b"a", [top]),
        sealed(b"a", [one]),
        sealed(b"b", [top, one]),
        sealed(b"a", [top, one], flags=1),
        sealed(b"a/", [top, one]),
        sealed(b"../a", [top, one]),
        sealed(b"", [top, one]),
        (good + b"\0", root),
        (good[:HEAD], root),
    ]
    for proof, whose in liars:
        with pytest.raises(ProofError):
            check_proof(proof, whose)


def test_a_list_that_lies_about_sizes_is_refused(volume: Volume) -> None:
    found = volume.find("large")
    listed = volume.store.get(found.id)
    for size in (found.size, found.size + 1):
        inner = leaf(found._replace(name=b"f", size=size, extras=b""))
        top = directory(Form.LEAF, blake3(inner))
        proof, root = sealed(b"f", [top, inner, listed], flags=2)
        if size == found.size:
            assert len(check_proof(proof, root).pieces) > 1
        else:
            with pytest.raises(ProofError, match="size"):
                check_proof(proof, root)


def test_a_piece_that_is_longer_than_data_is_refused() -> None:
    inner = leaf(entry(b"f", FILE, Form.DATA, identity=bytes(32), size=1 << 40))
    top = directory(Form.LEAF, blake3(inner))
    proof, root = sealed(b"f", [top, inner])
    with pytest.raises(ProofError, match="longer"):
        check_proof(proof, root)


def test_what_is_damaged_cannot_be_proved(volume: Volume) -> None:
    with pytest.raises((CorruptError, LookupError)):
        make_proof(volume, bytes(32), "x")


def test_commands_prove_and_verify(path: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Volume.open(path) as volume:
        root = root_of(volume).hex()
        Path("large").write_bytes(b"".join(volume.read("large")))
    name = os.fspath(path)
    assert cli.main(["snap", "prove", name, "one", "large", "--whole", "-o", "p"]) == 0
    assert cli.main(["snap", "prove", name, "one", "large", "-o", "p"]) == 1  # is there
    verify = ["snap", "verify-proof", "p", "--root", root]
    assert cli.main(verify) == 0
    capsys.readouterr()
    assert cli.main([*verify, "--file", "large"]) == 0
    assert "large is it" in capsys.readouterr().out
    Path("large").write_bytes(b"x")
    assert cli.main([*verify, "--file", "large"]) == 1
    assert "something else" in capsys.readouterr().out
    assert cli.main(["snap", "verify-proof", "p", "--root", "00" * 32]) == 1
    assert "error[NX-FS-006]" in capsys.readouterr().err
    assert cli.main(["snap", "verify-proof", "p", "--root", "00"]) == 2
    assert cli.main(["snap", "verify-proof", "none", "--root", root]) == 1
    assert cli.main(["snap", "prove", name, "one", "nothing", "-o", "q"]) == 0
    assert cli.main(["snap", "verify-proof", "q", "--root", root]) == 0
    assert "nothing is not there" in capsys.readouterr().out
    assert cli.main(["snap", "verify-proof", "q", "--root", root, "--file", "large"]) == 2
