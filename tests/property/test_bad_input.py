"""Bad input at every entry point of the physics: the right exception, and nothing changes.

One table lists every parameter of every public call by kind. One hypothesis test draws a parameter
and a bad value for its kind; another shows that good values of odd types pass, so that a call that
refuses everything is found too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from entry import Entry
from entry_points import ENTRIES, WITHOUT_ARGUMENTS
from hypothesis import given, settings
from hypothesis import strategies as st

import nexus.physics
from nexus.errors import ClosedError


class Index:
    """An integer by protocol, as NumPy scalars are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


# Compared by identity: some of the values have no hash.
@dataclass(frozen=True, eq=False)
class Bad:
    """A value, and what a call must raise for it."""

    value: Any
    error: type[Exception] | tuple[type[Exception], ...]


RANGE = (OverflowError, ValueError, IndexError)

NOT_INTEGERS = [
    *(1.0, 1.5, math.nan, math.inf, True, False, None, "1", b"1", [1], 1j, object()),
    *(np.float64(1), np.float32(1.5), np.bool_(True), np.array([1, 2])),
]
NOT_BUFFERS = [None, 1, 1.5, True, "text", object(), {1: 2}]

BAD: dict[str, st.SearchStrategy[Bad]] = {
    "integer": st.one_of(
        st.sampled_from([Bad(value, TypeError) for value in NOT_INTEGERS]),
        st.sampled_from([-1, -(2**63), 2**64, 2**200, np.int64(-1), np.int8(-128)]).map(
            lambda value: Bad(value, RANGE)
        ),
    ),
    "buffer": st.one_of(
        st.sampled_from([Bad(value, TypeError) for value in NOT_BUFFERS]),
        st.just(Bad(memoryview(bytes(64))[::2], (BufferError, ValueError))),
        st.just(Bad(np.zeros((8, 8), np.uint8)[:, ::2], (BufferError, ValueError))),
    ),
    "writable": st.one_of(
        st.sampled_from([Bad(value, TypeError) for value in NOT_BUFFERS]),
        st.just(Bad(bytes(8), (BufferError, TypeError))),
        st.just(Bad(memoryview(bytearray(16))[::2], (BufferError, ValueError))),
    ),
    "doubles": st.one_of(
        st.sampled_from([Bad(value, TypeError) for value in (*NOT_BUFFERS, bytes(16))]),
        st.just(Bad(np.zeros(8)[::2], (BufferError, ValueError))),
        st.just(Bad(np.zeros(8, np.float32), TypeError)),
        st.just(Bad(np.full(8, math.nan), ValueError)),
    ),
    "number": st.sampled_from(
        [Bad(value, TypeError) for value in (True, None, "1", b"1", [1.0], 1j, object())]
        + [Bad(value, ValueError) for value in (math.nan, math.inf, -math.inf)]
    ),
}

# An integer or the text of a label.
BAD["field"] = BAD["integer"].map(
    lambda bad: Bad(bad.value, ValueError) if isinstance(bad.value, str) else bad
)

# Right values of unusual types: what takes an int takes these, and means the same.
ODD: dict[str, list[Callable[[Any], Any]]] = {
    "integer": [np.uint64, Index, int],
    "field": [np.uint64, Index, int],
    "buffer": [bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)],
    "writable": [bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)],
    "doubles": [memoryview, np.array],
    "number": [np.float64, float],
}


def label(entry: Entry) -> str:
    return f"{entry.name}({entry.parameter})"


@settings(max_examples=1500)
@given(st.data())
def test_bad_values_are_refused_and_change_nothing(data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(ENTRIES), label="entry")
    bad = data.draw(BAD[entry.kind], label="value")
    with entry.make() as target:
        before = entry.state(target)
        with pytest.raises(bad.error):
            entry.call(target, bad.value)
        assert entry.state(target) == before
        # The object still works: nothing is left locked, exported or half done.
        entry.call(target, entry.good)


@pytest.mark.parametrize("entry", ENTRIES, ids=label)
def test_good_values_of_odd_types_pass(entry: Entry) -> None:
    for convert in ODD[entry.kind]:
        with entry.make() as target:
            entry.call(target, convert(entry.good))


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.special], ids=label)
def test_values_that_only_this_call_refuses(entry: Entry) -> None:
    for value, error in entry.special:
        with entry.make() as target:
            before = entry.state(target)
            with pytest.raises(error):
                entry.call(target, value)
            assert entry.state(target) == before
            entry.call(target, entry.good)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.close], ids=label)
def test_a_closed_object_refuses(entry: Entry) -> None:
    with entry.make() as target:
        assert entry.close is not None
        entry.close(target)
        with pytest.raises(ClosedError):
            entry.call(target, entry.good)


def test_the_table_covers_every_public_callable() -> None:
    """A new public name must come with rows, or be listed as taking no argument to spoil."""
    covered = {entry.name.split(".")[0] for entry in ENTRIES} | WITHOUT_ARGUMENTS
    constants = {name for name in nexus.physics.__all__ if name.isupper()}
    assert set(nexus.physics.__all__) - constants - covered == set()
