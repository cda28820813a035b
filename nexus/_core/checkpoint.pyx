"""The two-copy checkpoint slot of a fiber, in a memfd that other processes can attach.

The GIL is held during a save and a restore, about 10 us: releasing it would cost up to the
interpreter's switch interval. See docs/spec/checkpoint.md and docs/reference/checkpoint.md.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.unistd cimport close as close_fd

import fcntl

from nexus._core._args cimport as_bounded, as_u64
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd, simd_demanded

from nexus import errors

cdef extern from "nx_blake3.h":
    void nx_blake3_select(nx_simd level) noexcept nogil

cdef extern from "nx_checkpoint.h":
    enum:
        NX_CHECKPOINT_FRAME
        NX_CHECKPOINT_STACK
        NX_CHECKPOINT_BLOB
        NX_CHECKPOINT_COPY
        NX_CHECKPOINT_EMPTY
        NX_CHECKPOINT_VALID
    ctypedef struct nx_checkpoint_copy:
        uint64_t sequence
        uint64_t image
        uint32_t epoch
        uint16_t stack_size
        uint16_t blob_size
        uint8_t *frame
        uint8_t *stack
        uint8_t *blob
    ctypedef struct nx_checkpoint_slot:
        pass
    ctypedef struct nx_checkpoint_content:
        uint64_t image
        uint32_t epoch
        const uint8_t *frame
        const uint8_t *stack
        size_t stack_size
        const uint8_t *blob
        size_t blob_size
    ctypedef struct nx_checkpoint_demand:
        uint64_t image
        uint32_t epoch
        uint64_t floor
    ctypedef struct nx_checkpoint_writer:
        uint64_t sequence
    void nx_checkpoint_writer_init(
        nx_checkpoint_slot *slot, nx_checkpoint_writer *ret
    ) noexcept nogil
    int nx_checkpoint_save(
        nx_checkpoint_writer *writer, const nx_checkpoint_content *content, uint64_t *ret_sequence
    ) noexcept nogil
    int nx_checkpoint_restore(
        const nx_checkpoint_slot *slot, const nx_checkpoint_demand *demand, nx_checkpoint_copy *ret
    ) noexcept nogil
    int nx_checkpoint_verify(
        const nx_checkpoint_slot *slot, unsigned index, nx_checkpoint_copy *scratch
    ) noexcept nogil
    void nx_checkpoint_wipe(nx_checkpoint_writer *writer) noexcept nogil
    int nx_checkpoint_slot_create(int *ret_fd) noexcept nogil
    int nx_checkpoint_slot_map(int fd, nx_checkpoint_slot **ret) noexcept nogil
    void nx_checkpoint_slot_unmap(nx_checkpoint_slot *slot) noexcept nogil

cdef nx_simd LEVEL
simd_demanded(&LEVEL)
nx_blake3_select(LEVEL)


@cython.final
cdef class Checkpoint:
    """What a restore found; frozen.

    Attributes:
        sequence: number of the save, from 1.
        image: tag of the program that saved.
        epoch: epoch of its capability space.
        frame: the 272 bytes of the register frame.
        stack: the saved bytes of the stack.
        blob: the saved blob.
    """

    cdef readonly uint64_t sequence
    cdef readonly uint64_t image
    cdef readonly uint32_t epoch
    cdef readonly bytes frame
    cdef readonly bytes stack
    cdef readonly bytes blob

    def __init__(self):
        raise TypeError("a checkpoint is made by CheckpointSlot.restore()")

    def __repr__(self):
        return (
            f"Checkpoint(sequence={self.sequence}, image={self.image:#x}, epoch={self.epoch}, "
            f"stack={len(self.stack)} bytes, blob={len(self.blob)} bytes)"
        )


@cython.final
cdef class CheckpointSlot:
    """A slot of two copies; made by create() or attach().

    One process writes at a time. Use it as a context manager, or call close().
    """

    cdef nx_checkpoint_slot *slot
    cdef nx_checkpoint_writer *writer
    cdef nx_checkpoint_copy *scratch
    cdef int descriptor

    def __cinit__(self):
        self.descriptor = -1

    def __init__(self):
        raise TypeError("a slot is made by CheckpointSlot.create() or CheckpointSlot.attach()")

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        if self.slot != NULL:
            nx_checkpoint_slot_unmap(self.slot)
            self.slot = NULL
        free(self.writer)
        self.writer = NULL
        free(self.scratch)
        self.scratch = NULL
        if self.descriptor >= 0:
            close_fd(self.descriptor)
            self.descriptor = -1

    cdef int check_open(self) except -1:
        if self.slot == NULL:
            raise errors.ClosedError("the checkpoint slot is closed")
        return 0

    cdef int take(self, int fd) except -1:
        """Own the descriptor and map it."""
        cdef int code
        self.descriptor = fd
        self.writer = <nx_checkpoint_writer *>calloc(1, sizeof(nx_checkpoint_writer))
        self.scratch = <nx_checkpoint_copy *>calloc(1, sizeof(nx_checkpoint_copy))
        if self.writer == NULL or self.scratch == NULL:
            raise MemoryError
        code = nx_checkpoint_slot_map(fd, &self.slot)
        raise_code(code, "not a checkpoint slot: a memfd of 82,576 bytes, size sealed")
        nx_checkpoint_writer_init(self.slot, self.writer)
        return 0

    @staticmethod
    def create():
        """A new, empty slot.

        Raises:
            OSError: the kernel gave no memfd.
        """
        cdef CheckpointSlot self = CheckpointSlot.__new__(CheckpointSlot)
        cdef int fd = -1
        cdef int code = nx_checkpoint_slot_create(&fd)
        raise_code(code, "memfd of a checkpoint slot")
        self.take(fd)
        return self

    @staticmethod
    def attach(fd):
        """The slot behind a descriptor, which is duplicated; both copies are checked.

        Args:
            fd: of another CheckpointSlot, maybe from another process.

        Raises:
            ValueError: the file is no slot.
            OSError: the descriptor is not open, or cannot be mapped.
        """
        cdef CheckpointSlot self = CheckpointSlot.__new__(CheckpointSlot)
        cdef uint64_t number = as_bounded(fd, 0x7FFFFFFF)
        self.take(fcntl.fcntl(<int>number, fcntl.F_DUPFD_CLOEXEC, 0))
        return self

    @property
    def fd(self):
        """The descriptor, for passing to another process."""
        self.check_open()
        return self.descriptor

    @property
    def closed(self):
        """Whether close() was called."""
        return self.slot == NULL

    @property
    def sequence(self):
        """Number of the last save, or the highest valid one found when attached; 0 for none."""
        self.check_open()
        return self.writer.sequence

    def save(self, blob, *, frame=None, stack=None, epoch=0, image=0):
        """Store a checkpoint in both copies; when this returns it is acknowledged.

        Args:
            blob: at most 32,768 bytes.
            frame: exactly 272 bytes, or None for zeros.
            stack: at most 8,192 bytes, or None for none.
            epoch: unsigned 32-bit epoch of the capability space.
            image: unsigned 64-bit tag of the program: the first 8 bytes of its BLAKE3.

        Returns:
            The sequence of this save.

        Raises:
            TooLargeError: blob or stack is larger than its limit; nothing was changed.
            ValueError: the frame does not have 272 bytes.
            ClosedError: the slot is closed.
        """
        cdef nx_checkpoint_content content
        cdef borrowed blob_lent, frame_lent, stack_lent
        cdef uint64_t sequence = 0
        self.check_open()
        content.epoch = <uint32_t>as_bounded(epoch, 0xFFFFFFFF)
        content.image = as_u64(image)
        content.frame = content.stack = NULL
        content.stack_size = 0
        frame_lent.viewed = stack_lent.viewed = False
        borrow(blob, &blob_lent)
        try:
            content.blob = blob_lent.data
            content.blob_size = blob_lent.size
            if blob_lent.size > NX_CHECKPOINT_BLOB:
                raise errors.TooLargeError(
                    f"the blob has {blob_lent.size} bytes; a checkpoint holds {NX_CHECKPOINT_BLOB}"
                )
            if frame is not None:
                borrow(frame, &frame_lent)
                if frame_lent.size != NX_CHECKPOINT_FRAME:
                    raise ValueError(
                        f"the frame has {frame_lent.size} bytes, not {NX_CHECKPOINT_FRAME}"
                    )
                content.frame = frame_lent.data
            if stack is not None:
                borrow(stack, &stack_lent)
                if stack_lent.size > NX_CHECKPOINT_STACK:
                    raise errors.TooLargeError(
                        f"the stack has {stack_lent.size} bytes; a checkpoint holds "
                        f"{NX_CHECKPOINT_STACK}"
                    )
                content.stack = stack_lent.data
                content.stack_size = stack_lent.size
            # Taking a buffer runs the object's code, which may have closed this slot.
            self.check_open()
            raise_code(
                nx_checkpoint_save(self.writer, &content, &sequence), "sequences are used up"
            )
        finally:
            give_back(&blob_lent)
            give_back(&frame_lent)
            give_back(&stack_lent)
        return sequence

    def restore(self, *, image=0, epoch=0, floor=0):
        """The newest checkpoint that is valid and wanted; None means: start cold.

        Args:
            image: the tag the program must have.
            epoch: the epoch the capability space must have.
            floor: the lowest sequence accepted; refuses a slot replayed from earlier.

        Raises:
            ClosedError: the slot is closed.
        """
        cdef nx_checkpoint_demand demand
        cdef Checkpoint result
        demand.image = as_u64(image)
        demand.epoch = <uint32_t>as_bounded(epoch, 0xFFFFFFFF)
        demand.floor = as_u64(floor)
        self.check_open()
        if nx_checkpoint_restore(self.slot, &demand, self.scratch) != 0:
            return None
        result = Checkpoint.__new__(Checkpoint)
        result.sequence = self.scratch.sequence
        result.image = self.scratch.image
        result.epoch = self.scratch.epoch
        result.frame = PyBytes_FromStringAndSize(<char *>self.scratch.frame, NX_CHECKPOINT_FRAME)
        result.stack = PyBytes_FromStringAndSize(
            <char *>self.scratch.stack, self.scratch.stack_size
        )
        result.blob = PyBytes_FromStringAndSize(<char *>self.scratch.blob, self.scratch.blob_size)
        return result

    def verify(self):
        """The state of copy A and of copy B, as they are now.

        Returns:
            A pair of "valid", "empty" (never written, wiped, or cut in a save) or "corrupt".
        """
        cdef int state
        self.check_open()
        states = []
        for index in range(2):
            state = nx_checkpoint_verify(self.slot, <unsigned>index, self.scratch)
            if state == NX_CHECKPOINT_VALID:
                states.append("valid")
            else:
                states.append("empty" if state == NX_CHECKPOINT_EMPTY else "corrupt")
        return tuple(states)

    def zero(self):
        """Invalidate and wipe both copies; the sequence goes on from the last one."""
        self.check_open()
        nx_checkpoint_wipe(self.writer)

    def close(self):
        """Give the mapping and the descriptor back; closing again does nothing."""
        self.release()

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *_):
        self.release()
