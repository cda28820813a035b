"""The capability table and TMR, as Python sees them."""

from __future__ import annotations

import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from nexus.errors import DeniedError, FullError, StaleError
from nexus.physics import Capability, CapabilityTable, tmr_differs, tmr_vote

READ, WRITE, DELEGATE, ALL = 1, 2, 16, 0xFF


class TableMachine(RuleBasedStateMachine):
    """The table against a dictionary that remembers parents."""

    handles = Bundle("handles")

    def __init__(self) -> None:
        super().__init__()
        self.table = CapabilityTable(24)
        self.live: dict[int, tuple[int | None, int]] = {}
        self.dead: set[int] = set()

    @rule(target=handles, rights=st.integers(0, ALL))
    def mint(self, rights: int) -> int:
        if len(self.live) == self.table.capacity:
            with pytest.raises(FullError):
                self.table.mint(1, 2, rights)
            return 0
        handle = self.table.mint(1, 2, rights)
        assert handle not in self.live
        assert handle not in self.dead
        self.live[handle] = (None, rights)
        return handle

    @rule(target=handles, parent=handles, rights=st.integers(0, ALL))
    def derive(self, parent: int, rights: int) -> int:
        expected: type[Exception] | None = None
        held = self.live.get(parent)
        if held is None:
            expected = StaleError
        elif not held[1] & DELEGATE or rights & ~held[1]:
            expected = DeniedError
        elif len(self.live) == self.table.capacity:
            expected = FullError
        if expected is not None:
            with pytest.raises(expected):
                self.table.derive(parent, rights)
            return 0
        handle = self.table.derive(parent, rights)
        self.live[handle] = (parent, rights)
        return handle

    @rule(handle=handles, descendants_only=st.booleans())
    def revoke(self, handle: int, descendants_only: bool) -> None:
        doomed = {handle} if handle in self.live else set()
        while more := {h for h, (parent, _) in self.live.items() if parent in doomed} - doomed:
            doomed |= more
        if descendants_only:
            doomed.discard(handle)
        assert self.table.revoke(handle, descendants_only=descendants_only) == len(doomed)
        for gone in doomed:
            del self.live[gone]
        self.dead |= doomed

    @invariant()
    def agrees(self) -> None:
        assert len(self.table) == len(self.live)
        assert self.table.audit().sound
        for handle, (_, rights) in self.live.items():
            assert self.table.check(handle, rights)
            assert self.table.check(handle, ALL) == (rights == ALL)
        every = [*self.live, *self.dead]
        verdict = self.table.check_many(every, 0)
        assert verdict == bytes([1] * len(self.live) + [0] * len(self.dead))
        assert self.table.check_many(array.array("Q", every), 0) == verdict


TestTable = TableMachine.TestCase


def test_lookup_returns_what_was_minted() -> None:
    table = CapabilityTable(4)
    handle = table.mint(3, 2**64 - 1, READ | DELEGATE, domain=7)
    assert table.lookup(handle) == Capability(3, 7, READ | DELEGATE, 2**64 - 1)
    child = table.derive(handle, READ)
    assert table.lookup(child) == Capability(3, 7, READ, 2**64 - 1)
    assert child in table
    table.revoke(handle)
    assert child not in table
    with pytest.raises(StaleError, match="not live"):
        table.lookup(child)


def test_refused_calls_change_nothing() -> None:
    table = CapabilityTable(4)
    handle = table.mint(1, 1, READ | DELEGATE)
    before = table.audit()
    for call in (
        lambda: table.mint(256, 0, 0),
        lambda: table.mint(0, 2**64, 0),
        lambda: table.mint(0, 0, 0x10000),
        lambda: table.mint(0, 0, 0, domain=-1),
        lambda: table.derive(handle, 0x10000),
        lambda: table.derive(2**64, 1),
    ):
        with pytest.raises(OverflowError):
            call()
    with pytest.raises(DeniedError, match="cannot derive rights"):
        table.derive(handle, WRITE)
    assert table.audit() == before


def test_check_many_refuses_broken_buffers() -> None:
    table = CapabilityTable(4)
    with pytest.raises(ValueError, match="64-bit"):
        table.check_many(b"1234567", 0)
    with pytest.raises(ValueError, match="64-bit"):
        table.check_many(memoryview(bytearray(17))[1:], 0)
    assert table.check_many(b"", 0) == b""
    assert table.check_many([], 0) == b""


def test_capacity_has_bounds() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        CapabilityTable(0)
    with pytest.raises(OverflowError):
        CapabilityTable(2**24 + 1)


@given(st.binary(max_size=700), st.data())
def test_vote_restores_any_single_fault_per_byte(truth: bytes, data: st.DataObject) -> None:
    copies = [bytearray(truth) for _ in range(3)]
    wrong = [0, 0, 0]
    places = st.integers(0, len(truth) - 1) if truth else st.nothing()
    for place in data.draw(st.sets(places)) if truth else set():
        which = data.draw(st.integers(0, 2))
        copies[which][place] ^= data.draw(st.integers(1, 255))
        wrong[which] += 1
    assert tmr_differs(*copies) == (sum(wrong) > 0)
    assert tmr_vote(*copies) == tuple(wrong)
    assert [bytes(copy) for copy in copies] == [truth] * 3


def test_vote_wants_three_writable_buffers_of_one_size() -> None:
    with pytest.raises(ValueError, match="same size"):
        tmr_vote(bytearray(3), bytearray(3), bytearray(4))
    good = bytearray(3)
    with pytest.raises(BufferError):
        tmr_vote(good, bytearray(3), bytes(3))
    good.append(1)  # no export was left behind
