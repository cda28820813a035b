"""The state of a volume: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.errors import VolumeCorruptError
from nexus.fs.state import SETTINGS, SIGNABLE, Snapshot, State, decode_state, encode_state
from nexus.physics import blake3

u64 = st.integers(0, 2**64 - 1)
digests = st.binary(min_size=32, max_size=32)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
snapshots = st.builds(
    Snapshot, names, u64, st.integers(-(2**63), 2**63 - 1), digests, digests, u64,
    st.integers(0, 2**16 - 1),
)  # fmt: skip


def signed(state: State, ids: list[bytes]) -> State:
    """With these signatures, if a snapshot can have them."""
    for snapshot in state.snapshots:
        for identity in ids if snapshot.flags & SIGNABLE else ():
            state = state.signed(snapshot, identity)
    return state


unsigned = st.builds(
    State,
    volume=st.binary(min_size=16, max_size=16),
    generation=u64,
    head=st.none() | digests.filter(any),
    logical=u64,
    next_pack=u64,
    next_segment=u64,
    next_snapshot=u64,
    packs=st.lists(st.tuples(u64, u64, u64), max_size=5).map(tuple),
    segments=st.lists(u64, max_size=5).map(tuple),
    snapshots=st.lists(snapshots, max_size=4).map(tuple),
    settings=st.dictionaries(st.sampled_from(sorted(SETTINGS.values())), u64),
    signatures=st.just(()),
)
states = st.builds(signed, unsigned, st.lists(digests, max_size=3))


def example() -> State:
    taken = Snapshot("one", 1, 5, bytes([7]) * 32, bytes(32), 99, SIGNABLE)
    return State(
        bytes(range(16)), 3, bytes([9]) * 32, 99, 2, 2, 2, ((1, 4096, 0),), (1,), (taken,),
        {"level": 6}, ((1, bytes([5]) * 32),),
    )  # fmt: skip


def sealed(body: bytes) -> bytes:
    return body + blake3(body)


@given(states)
def test_a_state_is_what_it_was(state: State) -> None:
    assert decode_state(encode_state(state)) == state


def test_every_changed_byte_is_noticed() -> None:
    good = encode_state(example())
    assert decode_state(good) == example()
    for at in range(len(good)):
        for change in (1, 0x80):
            bad = bytearray(good)
            bad[at] ^= change
            with pytest.raises(VolumeCorruptError):
                decode_state(bytes(bad))


def test_every_shorter_state_is_refused_though_its_digest_is_right() -> None:
    body = encode_state(example())[:-32]
    for size in range(len(body)):
        with pytest.raises(VolumeCorruptError):
            decode_state(sealed(body[:size]))
    with pytest.raises(VolumeCorruptError, match="follows"):
        decode_state(sealed(body + b"\0"))
    assert decode_state(sealed(body)) == example()


@given(st.data())
def test_a_sealed_state_that_lies_is_refused_or_read(data: st.DataObject) -> None:
    body = bytearray(encode_state(data.draw(states))[:-32])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(VolumeCorruptError):
        assert encode_state(decode_state(sealed(bytes(body)))) == sealed(bytes(body))


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(VolumeCorruptError):
        decode_state(data)


def test_a_snapshot_names_the_one_before_by_all_its_record() -> None:
    one = Snapshot("one", 1, 5, bytes([7]) * 32, bytes(32), 99)
    assert len(one.record()) == 128
    others = {
        Snapshot("one", 2, 5, one.root, one.parent, 99).identity,
        Snapshot("one", 1, 6, one.root, one.parent, 99).identity,
        Snapshot("one", 1, 5, bytes([8]) * 32, one.parent, 99).identity,
        Snapshot("one", 1, 5, one.root, one.root, 99).identity,
        Snapshot("one", 1, 5, one.root, one.parent, 98).identity,
    }
    assert len(others | {one.identity}) == 6


def test_a_state_of_version_one_is_read_and_has_no_signatures() -> None:
    state = example()._replace(signatures=())
    body = encode_state(state)[:-32]
    assert body.endswith(b"\0")  # the number of signatures
    old = b"NXST\x01" + body[5:-1]
    assert decode_state(sealed(old)) == state
    with pytest.raises(VolumeCorruptError, match="follows"):
        decode_state(sealed(old + b"\0"))


def test_a_signature_of_no_snapshot_is_refused_and_goes_with_its_own() -> None:
    state = example()
    (snapshot,) = state.snapshots
    for wrong in (((2, bytes(32)),), (*state.signatures, *state.signatures)):
        with pytest.raises(VolumeCorruptError, match="signature"):
            decode_state(encode_state(state._replace(signatures=wrong)))
    deaf = state._replace(snapshots=(snapshot._replace(flags=0),))
    with pytest.raises(VolumeCorruptError, match="signature"):
        decode_state(encode_state(deaf))
    assert state.without(snapshot).signatures == ()
