"""The cell filter: exact membership, batches, replacement under load."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.physics import CellFilter

IDS = st.binary(min_size=16, max_size=16).filter(any)


@given(st.sets(IDS, max_size=80), st.sets(IDS, max_size=20), st.binary(min_size=16, max_size=16))
def test_it_is_a_set(members: set[bytes], strangers: set[bytes], key: bytes) -> None:
    allowed = CellFilter(members, key=key)
    assert len(allowed) == len(members)
    asked = [*members, *strangers]
    assert allowed.check_many(b"".join(asked)) == bytes(one in members for one in asked)
    for one in asked:
        assert (one in allowed) == (one in members)
        assert allowed.check(bytearray(one)) == (one in members)
    listed = allowed.members()
    assert {listed[i : i + 16] for i in range(0, len(listed), 16)} == members


@given(st.sets(IDS, max_size=40), st.sets(IDS, max_size=40))
def test_add_and_discard_follow_set_algebra(first: set[bytes], second: set[bytes]) -> None:
    allowed = CellFilter(first)
    allowed.add(second)
    assert len(allowed) == len(first | second)
    allowed.discard(b"".join(first))
    assert len(allowed) == len(second - first)
    assert all(one in allowed for one in second - first)


def test_ids_are_found_inside_frames() -> None:
    known, stranger = b"k" * 16, b"s" * 16
    allowed = CellFilter(known)
    frames = b"".join(b"head" + one + b"tail" for one in (known, stranger, known))
    assert allowed.check_many(frames, 24, 4) == b"\1\0\1"
    with pytest.raises(ValueError, match="whole number of frames"):
        allowed.check_many(frames[:-1], 24, 4)
    with pytest.raises(ValueError, match="stride"):
        allowed.check_many(frames, 24, 9)
    with pytest.raises(ValueError, match="stride"):
        allowed.check_many(frames, 0)


def test_wrong_ids_are_refused_and_change_nothing() -> None:
    allowed = CellFilter([b"a" * 16])
    for wrong in (b"a" * 15, b"a" * 17, [b"short"], [b"a" * 16, bytes(16)]):
        with pytest.raises(ValueError):
            allowed.replace(wrong)
    with pytest.raises(TypeError):
        allowed.replace(["a" * 16])
    with pytest.raises(TypeError):
        allowed.replace(5)
    with pytest.raises(ValueError, match="16 bytes"):
        allowed.check(b"a")
    with pytest.raises(TypeError):
        allowed.check("a" * 16)
    with pytest.raises(ValueError, match="key"):
        CellFilter(key=b"short")
    assert allowed.members() == b"a" * 16


def test_memory_is_bounded() -> None:
    ids = b"".join(i.to_bytes(16, "little") for i in range(1, 5001))
    assert CellFilter(ids).nbytes <= 24 * 5000 + 320


@pytest.mark.slow
def test_replacing_while_other_threads_check_loses_no_member() -> None:
    stable = [i.to_bytes(16, "little") for i in range(1, 65)]
    frames = b"".join(stable) * 200
    allowed = CellFilter(stable)
    stop = threading.Event()
    verdicts: list[bool] = []

    def check() -> None:
        fine = True
        while not stop.is_set():
            fine &= allowed.check_many(frames) == b"\1" * len(stable) * 200
        verdicts.append(fine)

    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(300):
        extra = [(1 << 100 | j).to_bytes(16, "little") for j in range(i)]
        allowed.replace(stable + extra)
    stop.set()
    for thread in threads:
        thread.join()
    assert verdicts == [True, True]
