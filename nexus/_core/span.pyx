"""A record in place: zero-copy access that refuses use after release, and release while in use."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo

from nexus import errors

from nexus._core._args cimport as_bounded

cdef enum:
    CLOSED
    READING
    WRITING


@cython.final
@cython.no_gc
@cython.freelist(8)
cdef class Span:
    """A record in place: shown by `Ring.read`, or reserved by `Ring.reserve`.

    It supports the buffer protocol, read-only or writable. As a context manager it releases
    itself at the end, or cancels itself when the block raised. A peer that breaks the protocol can
    change shown bytes while you look: copy what you judge.
    """

    def __init__(self):
        raise TypeError("a Span comes from Ring.read or Ring.reserve")

    def release(self, length=None):
        """Consume the shown record, or commit the reserved one.

        Args:
            length: for a reserved Span, how many of its first bytes are the record; all if None.

        Raises:
            BufferError: a buffer of this Span is still exported.
            ClosedError: it was released or cancelled before.
            OverflowError: `length` is larger than the Span.
            TypeError: `length` for a shown record.
        """
        self.finish(True, length)

    def cancel(self):
        """Leave the shown record in the ring, or give the reserved place up.

        Raises:
            BufferError: a buffer of this Span is still exported.
            ClosedError: it was released or cancelled before.
        """
        self.finish(False, None)

    cdef int finish(self, bint keep, object length) except -1:
        cdef RingHandle ring = self.ring
        cdef int state = self.state
        cdef uint64_t used = self.size
        if state == CLOSED:
            raise errors.ClosedError("the Span was released or cancelled before")
        if self.exports != 0:
            raise BufferError(f"{self.exports} buffers of this Span are exported")
        if length is not None:
            if state == READING:
                raise TypeError("a shown record is released whole: no length is taken")
            used = as_bounded(length, self.size)
        self.state = CLOSED
        if self.generation != nx_owner_generation:
            return 0  # of the parent, before fork: nothing here is ours to end
        if state == READING:
            ring.reading = 0
            ring.get_pass = nx_owner_generation
            if keep:
                nx_ring_release(&ring.map.ring, <uint32_t>self.size)
                nx_ring_map_notify_room(ring.map)
            return 0
        ring.writing = 0
        ring.put_pass = nx_owner_generation
        if ring.map.ring.kind == NX_RING_SPSC:
            if keep:
                nx_ring_commit(&ring.map.ring, used)
        elif keep:
            nx_mpsc_commit(&ring.map.ring, self.position, nx_ring_occupied(self.size), used)
        else:
            nx_mpsc_abort(&ring.map.ring, self.position, nx_ring_occupied(self.size))
        nx_ring_map_notify(ring.map)
        return 0

    def __enter__(self):
        if self.state == CLOSED:
            raise errors.ClosedError("the Span was released or cancelled before")
        return self

    def __exit__(self, kind, value, traceback):
        if self.state != CLOSED:
            self.finish(kind is None, None)

    def __dealloc__(self):
        if self.state != CLOSED:
            self.finish(False, None)

    def __len__(self):
        return <Py_ssize_t>self.size

    @property
    def closed(self):
        """Whether it was released or cancelled."""
        return self.state == CLOSED

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.state == CLOSED:
            raise errors.ClosedError("the Span was released or cancelled before")
        PyBuffer_FillInfo(view, self, self.place, <Py_ssize_t>self.size, self.state == READING,
                          flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1

    def __repr__(self):
        return f"<Span {('closed', 'shown', 'reserved')[self.state]} {self.size} bytes>"

    def __reduce__(self):
        raise TypeError("a Span is a place in shared memory and cannot be pickled")

    @staticmethod
    cdef Span open(RingHandle ring, int state, uint8_t *place, uint64_t size):
        cdef Span span = Span.__new__(Span)
        span.ring = ring
        span.place = place
        span.size = size
        span.generation = nx_owner_generation
        span.state = state
        return span

    @staticmethod
    cdef Span show(RingHandle ring, const uint8_t *place, uint64_t size):
        """Show a record; the ring gives out nothing more until the Span ends."""
        cdef Span span = Span.open(ring, READING, <uint8_t *>place, size)
        ring.reading = nx_owner_generation
        ring.get_pass = 0
        return span

    @staticmethod
    cdef Span reserve(RingHandle ring, uint8_t *place, uint64_t size, uint64_t position):
        """Reserve a place; the handle puts nothing more until the Span ends."""
        cdef Span span = Span.open(ring, WRITING, place, size)
        span.position = position
        ring.writing = nx_owner_generation
        ring.put_pass = 0
        return span
