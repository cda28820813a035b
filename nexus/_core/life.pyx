"""What a fiber is told by its supervisor: its handles, and the page that says when it lives.

The GIL is let go while a life is waited for. See docs/spec/node.md and docs/reference/fiber.md.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from typing import NamedTuple

from nexus import errors

from nexus._core._args cimport as_bounded
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._errors cimport raise_code
from nexus._core._seconds cimport as_ns

cdef extern from "nx_fiber.h" nogil:
    enum:
        NX_OK
        NX_EINVAL
        NX_ETIMEOUT
        NX_ESYS
        NX_ETOOBIG
        NX_FIBER_READ
        NX_FIBER_WRITE
        NX_FIBER_TEXT_MAX
    ctypedef struct nx_fiber_life:
        uint32_t life
        uint32_t epoch
        uint64_t image
        uint64_t floor
        uint64_t time_ns
        uint32_t own_epoch
        uint64_t revoked
    ctypedef struct nx_fiber_handle:
        const char *name
        uint8_t name_size
        uint8_t kind
        uint8_t descriptor
    ctypedef struct nx_fiber_handles:
        int life
        int checkpoint
        unsigned count
        nx_fiber_handle *handles
    int nx_fiber_parse(const char *text, size_t size, nx_fiber_handles *ret, size_t *ret_at)
    int nx_fiber_life_map(int fd, const nx_fiber_life **ret)
    void nx_fiber_life_unmap(const nx_fiber_life *life)
    int nx_fiber_life_wait(const nx_fiber_life *life, int64_t deadline_ns)

cdef double SECONDS_MAX = 1e9


class FiberHandles(NamedTuple):
    """Which descriptor is what.

    Attributes:
        life: of the life page, or None.
        checkpoint: of the checkpoint slot, or None.
        channels: by name, the descriptor and whether this fiber reads ("read") or writes.
        files: by name, the descriptor of what its owner opened for it.
    """

    life: int | None
    checkpoint: int | None
    channels: dict[str, tuple[int, str]]
    files: dict[str, int]


def parse_handles(text, /):
    """Read the words of NEXUS_FIBER.

    Args:
        text: bytes, as `os.environb` has them.

    Raises:
        HandlesError: a word is not of the documented form, or something is named twice.
    """
    cdef nx_fiber_handles found
    cdef nx_fiber_handle *handle
    cdef borrowed lent
    cdef size_t at = 0
    cdef unsigned i
    cdef int code
    borrow(text, &lent)
    try:
        code = nx_fiber_parse(<const char *>lent.data, lent.size, &found, &at)
        if code == NX_ETOOBIG:
            raise errors.HandlesError(
                f"NEXUS_FIBER has {lent.size} bytes; the limit is {NX_FIBER_TEXT_MAX}"
            )
        if code != NX_OK:
            word = bytes(lent.data[at:lent.size]).split(b" ")[0].decode("ascii", "replace")
            raise errors.HandlesError(f"NEXUS_FIBER: the word {word!r} is wrong or comes twice")
        channels, files = {}, {}
        for i in range(found.count):
            handle = &found.handles[i]
            name = handle.name[:handle.name_size].decode("ascii")
            if handle.kind == NX_FIBER_READ or handle.kind == NX_FIBER_WRITE:
                way = "read" if handle.kind == NX_FIBER_READ else "write"
                channels[name] = (handle.descriptor, way)
            else:
                files[name] = handle.descriptor
    finally:
        give_back(&lent)
    return FiberHandles(
        None if found.life < 0 else found.life,
        None if found.checkpoint < 0 else found.checkpoint,
        channels,
        files,
    )


@cython.final
cdef class LifePage:
    """The page of one life; made by attach(). Use it as a context manager, or call close()."""

    cdef const nx_fiber_life *page
    cdef int waiters

    def __init__(self):
        raise TypeError("a life page is mapped by LifePage.attach()")

    def __dealloc__(self):
        if self.page != NULL:
            nx_fiber_life_unmap(self.page)

    cdef int check_open(self) except -1:
        if self.page == NULL:
            raise errors.ClosedError("the life page is closed")
        return 0

    @staticmethod
    def attach(fd):
        """Map the page behind a descriptor, which stays the caller's.

        Raises:
            ValueError: the file does not have 64 bytes.
            OSError: the descriptor is not open, or cannot be mapped for reading.
        """
        cdef LifePage self = LifePage.__new__(LifePage)
        cdef int number = <int>as_bounded(fd, 0x7FFFFFFF)
        raise_code(nx_fiber_life_map(number, &self.page), "a life page has 64 bytes")
        return self

    def wait(self, timeout=None):
        """Sleep until the life begins; the GIL is let go meanwhile, and Ctrl-C works.

        Args:
            timeout: seconds, None for ever.

        Returns:
            Whether it has begun; False when the time is over.

        Raises:
            ClosedError: the page is closed.
        """
        cdef int64_t deadline = INT64_MAX
        cdef timespec now
        cdef int code
        self.check_open()
        if timeout is not None:
            clock_gettime(CLOCK_MONOTONIC, &now)
            deadline = <int64_t>as_ns(timeout, SECONDS_MAX)
            deadline += <int64_t>now.tv_sec * 1000000000 + now.tv_nsec
        self.waiters += 1
        try:
            while True:
                with nogil:
                    code = nx_fiber_life_wait(self.page, deadline)
                if code == NX_OK:
                    return True
                if code == NX_ETIMEOUT:
                    return False
                if code == NX_ESYS:
                    PyErr_SetFromErrno(OSError)
                PyErr_CheckSignals()
        finally:
            self.waiters -= 1

    @property
    def life(self):
        """Number of the life, from 1; 0 while it waits."""
        self.check_open()
        return self.page.life

    @property
    def epoch(self):
        """Epoch of a checkpoint that may be restored."""
        self.check_open()
        return self.page.epoch

    @property
    def own_epoch(self):
        """What this life marks its saves with."""
        self.check_open()
        return self.page.own_epoch

    @property
    def image(self):
        """The first 8 bytes of the image's BLAKE3, as a number."""
        self.check_open()
        return self.page.image

    @property
    def floor(self):
        """Sequence of the checkpoint to restore; 0: start cold."""
        self.check_open()
        return self.page.floor

    @property
    def time(self):
        """When the life began, in seconds of the monotonic clock."""
        self.check_open()
        return self.page.time_ns / 1e9

    @property
    def revoked(self):
        """Bit n: what has the number n was taken, here or at the other end of its channel."""
        self.check_open()
        return self.page.revoked

    @property
    def closed(self):
        """Whether close() was called."""
        return self.page == NULL

    def close(self):
        """Unmap the page; closing again does nothing.

        Raises:
            BufferError: a thread waits for the life.
        """
        if self.waiters != 0:
            raise BufferError("cannot close a life page while a thread waits for it")
        if self.page != NULL:
            nx_fiber_life_unmap(self.page)
            self.page = NULL

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *_):
        self.close()
