"""Manifests: golden bytes, encode and decode as inverses, and Python against the C parser."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import ManifestError
from nexus.logic import bkdl
from nexus.logic.bkdl import (
    NONE,
    Descriptor,
    Landlock,
    LandlockRule,
    Limit,
    Manifest,
    Mount,
    Policy,
    decode,
    encode,
)

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden" / "bkdl.json").read_text())
SOUND = bytes.fromhex(GOLDEN["manifest"])
MUTANTS = 20_000


def edited(head: int, middle: str, tail: int) -> bytes:
    return SOUND[:head] + bytes.fromhex(middle) + SOUND[len(SOUND) - tail :]


REFUSED = {rule: edited(*edit) for rule, *edit in GOLDEN["refused_manifests"]}


def accepted(data: bytes) -> bool:
    try:
        decode(data)
    except ManifestError:
        return False
    return True


GOLDEN_MANIFEST = Manifest(
    name="probe-é",
    program="/usr/bin/probe",
    arguments=("probe", "", "--all"),
    environment=("A=1", "EMPTY="),
    directory="/srv",
    policy=Policy(
        pledge=0b10011 | 2 << 62,
        promises=0x401,
        budget_ns=5_000_000,
        namespaces=0x6C020000,
        flags=2,
        restart=1,
        intensity=5,
        period_ms=10_000,
        delay_ms=10,
        disposition=1,
        gate=1,
        strategy=2,
        company=3,
    ),
    filter=struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000) * 4,
    landlock=Landlock(
        0xFFFF, 3, 3, (LandlockRule(5, "/usr"), LandlockRule(0xFFFF, "/srv"), LandlockRule(2, 443))
    ),
    mounts=(
        Mount(Mount.BIND, "/usr", "/usr", 15),
        Mount(Mount.TMPFS, "/dev", attributes=2, mode=0o755),
        Mount(Mount.PROC, "/proc", attributes=14),
        Mount(Mount.SYMLINK, "/bin", "usr/bin"),
        Mount(Mount.BIND, "/dev/null", "/dev/null", 10, optional=True),
    ),
    limits=(Limit(7, 64, 128),),
    capabilities=(Descriptor(2, 3, 0x0123456789ABCDEF),),
    entry=0x401000,
)


def test_golden_manifest_is_read_and_written() -> None:
    assert decode(SOUND) == GOLDEN_MANIFEST
    assert encode(GOLDEN_MANIFEST) == SOUND


@pytest.mark.parametrize("rule", REFUSED)
def test_a_broken_rule_is_refused(rule: str) -> None:
    with pytest.raises(ManifestError):
        decode(REFUSED[rule])


def test_plan_holds_what_it_is_given() -> None:
    plan = bkdl.encode_plan(
        GOLDEN_MANIFEST, image=5, digest=bytes(range(32)), handles=[(1, 3), (bkdl.HANDLE_LIFE, 4)]
    )
    assert plan.hex() == GOLDEN["plan"]


BROKEN = {
    "too many strings": {"environment": ("A=1",) * 4097},
    "too many bytes": {"environment": tuple("A=" + "x" * 4000 for _ in range(300))},
    "too many instructions": {"filter": bytes(8 * 4097)},
    "half an instruction": {"filter": bytes(36)},
    "a zero byte": {"program": "/bin/\0sh"},
    "a relative program": {"program": "bin/sh"},
    "no name": {"name": ""},
    "no arguments": {"arguments": ()},
    "a mount out of range": {"mounts": (Mount(1, "/a", "/a", mode=1 << 32),)},
    "a mount of no kind": {"mounts": (Mount(10, "/a"),)},
    "a negative limit": {"limits": (Limit(7, -1, 1),)},
    "a port": {"landlock": Landlock(0, 3, 0, (LandlockRule(1, 65536),))},
    "a capability": {"capabilities": (Descriptor(7, 0, 0),)},
    "too many capabilities": {"capabilities": (Descriptor(1, 0, 0),) * 65},
    "an entry point": {"entry": 1 << 64},
    "a policy": {"policy": Policy(pledge=1 << 63, gate=2)},
    "a negative budget": {"policy": Policy(pledge=1 << 63, budget_ns=-1)},
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_the_format_cannot_hold_is_not_written(what: str) -> None:
    fields = {name: getattr(GOLDEN_MANIFEST, name) for name in Manifest.__slots__}
    with pytest.raises(ManifestError) as caught:
        encode(Manifest(**fields | BROKEN[what]))
    assert caught.value.code == "NX-MAN-001"


texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.integers(0xDC80, 0xDCFF).map(chr),
    max_size=12,
).filter(
    lambda text: text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
)
paths = texts.map(lambda text: "/" + text)
words32 = st.integers(0, 2**32 - 1)
words64 = st.integers(0, 2**64 - 1)
policies = st.builds(
    lambda tier, pledge, **rest: Policy(tier=tier, pledge=pledge | tier << 62, **rest),
    st.integers(0, 3),
    st.integers(0, 31),
    promises=words64,
    budget_ns=words64,
    namespaces=st.sampled_from([0, 0x20000, 0x7E020000]),
    flags=st.integers(0, 15),
    restart=st.integers(0, 2),
    intensity=words32,
    period_ms=words32,
    delay_ms=words32,
    disposition=st.integers(0, 2),
    survivability=st.integers(0, 255),
    user=words32,
    group=words32,
    grace_ms=words32,
)
sourced = st.builds(
    Mount, st.sampled_from([1, 2, 6, 7]), paths, paths, words32, words32, st.booleans()
)
sourceless = st.builds(
    Mount, st.sampled_from([3, 4, 5, 8, 9]), paths, st.none(), words32, words32, st.booleans()
)
rules = st.builds(LandlockRule, words64, paths | st.integers(0, 65535))
manifests = st.builds(
    Manifest,
    name=texts.filter(lambda text: 1 <= len(text.encode("utf-8", "surrogateescape")) <= 63),
    program=paths,
    arguments=st.lists(texts, min_size=1, max_size=5).map(tuple),
    environment=st.lists(texts.map(lambda text: "A=" + text), max_size=4).map(tuple),
    directory=st.none() | paths,
    policy=policies,
    filter=st.integers(0, 5).map(lambda count: bytes(8 * count)),
    landlock=st.none()
    | st.builds(Landlock, words64, words64, words64, st.lists(rules, max_size=4).map(tuple)),
    mounts=st.lists(sourced | sourceless, max_size=5).map(tuple),
    limits=st.lists(st.builds(Limit, words32, words64, words64), max_size=3).map(tuple),
    capabilities=st.lists(
        st.builds(Descriptor, st.integers(0, 6), st.integers(0, 255), words64), max_size=5
    ).map(tuple),
    entry=words64,
)


@given(manifests)
def test_decode_is_the_inverse_of_encode(manifest: Manifest) -> None:
    data = encode(manifest)
    assert len(data) % 8 == 0
    assert decode(data) == manifest


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory):
    """The C parser, with sanitizers, as a function of many manifests."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("Python and C are not compared: no C compiler; apt-get install gcc libc6-dev")
    program = tmp_path_factory.mktemp("bkdl") / "verdict"
    core = ROOT / "nexus" / "_core"
    sources = [
        ROOT / "tests/native/bkdl_verdict.c",
        core / "csrc/nx_bkdl.c",
        core / "csrc/nx_base.c",
    ]
    subprocess.run(
        [compiler, "-std=gnu17", "-g", "-O1", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=all", f"-I{core / 'include'}", *sources, "-o", program],
        check=True,
    )  # fmt: skip

    def run(many: list[bytes]) -> list[bool]:
        framed = b"".join(struct.pack("<I", len(data)) + data for data in many)
        done = subprocess.run([program], input=framed, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return [int(line) == 0 for line in done.stdout.split()]

    return run


def compare(many: list[bytes], verdicts) -> int:
    """How many are accepted, by both."""
    ours = [accepted(data) for data in many]
    differing = [
        data.hex() for data, a, b in zip(many, ours, verdicts(many), strict=True) if a != b
    ]
    assert not differing, f"{len(differing)} are judged differently, first: {differing[0]}"
    return sum(ours)


@pytest.mark.slow
def test_c_and_python_agree_on_the_golden_ones(verdicts) -> None:
    assert compare([SOUND, *REFUSED.values()], verdicts) == 1


@pytest.mark.slow
def test_c_and_python_agree_on_every_flipped_bit(verdicts) -> None:
    flipped = []
    for bit in range(len(SOUND) * 8):
        data = bytearray(SOUND)
        data[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(data))
    assert 500 < compare(flipped, verdicts) < len(flipped)


def mutant(source: random.Random) -> bytes:
    """A sound manifest with a few bytes, words or pieces changed."""
    data = bytearray(SOUND)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(data))
        match source.randrange(5):
            case 0:
                data[at] = source.choice([0, 1, 2, 0x2F, 0xFF, source.randrange(256)])
            case 1:
                word = source.choice([0, 1, 3, 5, 7, 8, 16, 4096, 65535, NONE, 1 << 31])
                at -= at % 4
                data[at : at + 4] = struct.pack("<I", word)
            case 2:
                word = source.choice([0, 1, 2, 3, 9, 12, 256, 65535])
                at -= at % 2
                data[at : at + 2] = struct.pack("<H", word)
            case 3:
                size = 8 * source.randint(1, 4)
                del data[at : at + size]
            case _:
                data[at:at] = data[at : at + 8 * source.randint(1, 3)]
        if source.random() < 0.7 and len(data) > 136:
            # Sizes that add up, so that the damage is looked at.
            data[106:110] = struct.pack("<I", len(data) - 136)
    return bytes(data)


@pytest.mark.slow
def test_c_and_python_agree_on_mutants(verdicts) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    source = random.Random(seed)
    agreed = compare([mutant(source) for _ in range(MUTANTS)], verdicts)
    assert 100 < agreed < MUTANTS
    sizes = [bkdl.SIZE_MAX + 8, 117, 118, 0]
    compare([SOUND[:118] + bytes(max(0, size - 118)) for size in sizes], verdicts)


@pytest.mark.slow
@given(st.lists(manifests, min_size=1, max_size=20))
def test_c_accepts_what_python_writes(verdicts, many: list[Manifest]) -> None:
    data = [encode(one) for one in many]
    assert compare(data, verdicts) == len(data)
