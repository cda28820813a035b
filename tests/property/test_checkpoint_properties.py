"""Any sequence of saves, tears, rot and restarts: the slot against a model of what it may say."""

from __future__ import annotations

import mmap

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nexus.physics import CheckpointSlot, blake3

COPY = 41288


class SlotMachine(RuleBasedStateMachine):
    """The model keeps the content of each save and what each copy holds."""

    @initialize()
    def start(self):
        self.slot = CheckpointSlot.create()
        self.memory = mmap.mmap(self.slot.fd, 2 * COPY)
        self.saved = {}
        self.copies = [0, 0]  # sequence a valid copy holds, 0 for none
        self.last = 0

    @rule(
        blob=st.binary(max_size=2000),
        offset=st.integers(0, 30000),
        stack=st.binary(max_size=500),
        epoch=st.integers(0, 1),
    )
    def save(self, blob, offset, stack, epoch):
        blob = bytes(offset) + blob
        sequence = self.slot.save(blob, stack=stack, epoch=epoch)
        assert sequence == self.last + 1
        self.last = sequence
        self.saved[sequence] = (blob, stack, epoch)
        self.copies = [sequence, sequence]

    @precondition(lambda self: any(self.copies))
    @rule(which=st.integers(0, 1), offset=st.integers(0, COPY - 1), bit=st.integers(0, 7))
    def rot(self, which, offset, bit):
        if self.copies[which]:
            self.memory[which * COPY + offset] ^= 1 << bit
            self.copies[which] = 0

    @rule()
    def restart(self):
        other = CheckpointSlot.attach(self.slot.fd)
        self.slot.close()
        self.slot = other
        assert other.sequence == max(self.copies)
        self.last = max(self.copies)

    @rule()
    def zero(self):
        self.slot.zero()
        self.copies = [0, 0]

    @rule(epoch=st.integers(0, 1), floor=st.integers(0, 5))
    def restore(self, epoch, floor):
        fitting = [s for s in self.copies if s >= max(floor, 1) and self.saved[s][2] == epoch]
        found = self.slot.restore(epoch=epoch, floor=floor)
        if not fitting:
            assert found is None
            return
        assert found.sequence == max(fitting)
        assert (found.blob, found.stack, found.epoch) == self.saved[found.sequence]

    @invariant()
    def copies_say_what_they_are(self):
        for state, sequence in zip(self.slot.verify(), self.copies, strict=True):
            assert (state == "valid") == (sequence != 0)

    @invariant()
    def valid_copies_have_their_digest(self):
        for index, sequence in enumerate(self.copies):
            copy = self.memory[index * COPY : (index + 1) * COPY]
            assert sequence == 0 or copy[:32] == blake3(copy[32:])

    def teardown(self):
        if hasattr(self, "slot"):
            self.memory.close()
            self.slot.close()


TestSlot = SlotMachine.TestCase
TestSlot.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
