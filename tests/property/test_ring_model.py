"""Any run of ring verbs does what a deque does, through any number of handles."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus import errors
from nexus.physics import Ring

CAPACITY = 4096
RECORD = st.one_of(
    st.binary(max_size=40),
    st.integers(0, CAPACITY).map(lambda size: bytes([size % 251]) * size),
)


def occupied(record):
    return 8 + (len(record) + 7) // 8 * 8


class RingMachine(RuleBasedStateMachine):
    kind = "spsc"

    def __init__(self):
        super().__init__()
        self.ring = Ring.create(CAPACITY, kind=self.kind)
        self.producer = self.ring
        self.consumer = self.ring
        self.model = deque()
        self.out = 0
        self.accepted = 0
        self.drops = 0
        self.shown = None
        self.reserved = None

    def fits(self, record):
        return sum(map(occupied, self.model)) + occupied(record) + 8 <= CAPACITY

    def accept(self, record):
        """What a put of this record must do; None for an error."""
        if len(record) > CAPACITY - 16:
            return None
        if not self.fits(record):
            self.drops += 1
            return False
        self.model.append(record)
        self.accepted += 1
        return True

    def took(self, count):
        """The model's side of consuming."""
        taken = [self.model.popleft() for _ in range(count)]
        self.out += count
        return taken

    @precondition(lambda self: self.reserved is None)
    @rule(record=RECORD)
    def put(self, record):
        expected = self.accept(record)
        if expected is None:
            with pytest.raises(errors.TooLargeError):
                self.producer.put(record)
        else:
            assert self.producer.put(record) is expected

    @precondition(lambda self: self.reserved is None)
    @rule(records=st.lists(RECORD.filter(lambda r: len(r) <= CAPACITY - 16), max_size=30))
    def put_many(self, records):
        count = 0
        for record in records:
            if not self.fits(record):
                break
            self.model.append(record)
            count += 1
        self.accepted += count
        self.drops += len(records) - count
        assert self.producer.put_many(records) == count

    @precondition(lambda self: self.shown is None)
    @rule()
    def get(self):
        expected = self.took(1)[0] if self.model else None
        assert self.consumer.get() == expected

    @precondition(lambda self: self.shown is None)
    @rule(limit=st.integers(0, 100))
    def get_many(self, limit):
        assert self.consumer.get_many(limit) == self.took(min(limit, len(self.model)))

    @precondition(lambda self: self.shown is None)
    @rule()
    def read(self):
        self.shown = self.consumer.read()
        assert (self.shown is None) == (not self.model)
        if self.shown is not None:
            assert bytes(self.shown) == self.model[0]

    @precondition(lambda self: self.shown is not None)
    @rule(keep=st.booleans())
    def end_read(self, keep):
        if keep:
            assert bytes(self.shown) == self.took(1)[0]
            self.shown.release()
        else:
            self.shown.cancel()
        self.shown = None

    @precondition(lambda self: self.reserved is None)
    @rule(size=st.integers(0, 600), used=st.integers(0, 600), fill=st.integers(0, 255))
    def reserve(self, size, used, fill):
        used = min(used, size)
        span = self.producer.reserve(size)
        whole = bytes([fill]) * size
        if not self.fits(whole):
            assert span is None
            self.drops += 1
            return
        with memoryview(span) as view:
            view[:] = whole
        if self.kind == "spsc":
            self.reserved = (span, whole[:used], used)
        else:
            # All of the claim on an mpsc ring, so that the model needs no padding.
            span.release()
            self.model.append(whole)
            self.accepted += 1

    @precondition(lambda self: self.reserved is not None)
    @rule(keep=st.booleans())
    def end_reserve(self, keep):
        span, record, used = self.reserved
        if keep:
            span.release(used)
            self.model.append(record)
            self.accepted += 1
        else:
            span.cancel()
        self.reserved = None

    @precondition(lambda self: self.reserved is None and self.shown is None)
    @rule(producer=st.booleans())
    def change_hands(self, producer):
        """A role goes to a new handle; whoever had it is closed."""
        old = self.producer if producer else self.consumer
        new = Ring.attach(self.ring.fd)
        if old is not self.ring:
            old.close()
        elif self.producer is self.consumer:
            # The first handle plays both roles and must stay: its fd is the ring.
            new.close()
            return
        if producer:
            self.producer = new
        else:
            self.consumer = new

    @invariant()
    def counters_agree(self):
        now = self.ring.stats()
        assert (now.records_in, now.records_out) == (self.accepted, self.out)
        assert now.waiting == len(self.model) == len(self.ring)
        assert (now.drops, now.losses, now.wakes_lost) == (self.drops, 0, 0)
        assert now.waiting_bytes <= now.high_water <= CAPACITY

    def teardown(self):
        for span in (self.shown, self.reserved and self.reserved[0]):
            if span is not None:
                span.cancel()
        for handle in {id(h): h for h in (self.producer, self.consumer, self.ring)}.values():
            handle.close()


class SharedRingMachine(RingMachine):
    kind = "mpsc"


class SplitRingMachine(RingMachine):
    """Producer and consumer are handles of their own, so that both can change hands."""

    def __init__(self):
        super().__init__()
        self.producer = Ring.attach(self.ring.fd)
        self.consumer = Ring.attach(self.ring.fd)


pytestmark = pytest.mark.slow
TestSpsc = RingMachine.TestCase
TestMpsc = SharedRingMachine.TestCase
TestSplit = SplitRingMachine.TestCase
for machine in (TestSpsc, TestMpsc, TestSplit):
    machine.settings = settings(max_examples=60, stateful_step_count=40)
