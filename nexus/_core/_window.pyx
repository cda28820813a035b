"""The mapping under a register window: how it is opened, recorded, replayed and closed."""

from cpython.buffer cimport PyBuffer_Release
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport errno
from libc.string cimport memcpy
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap,
)

import mmap as _mmap
import os
from typing import NamedTuple

from nexus import errors
from nexus._core import _backing

from nexus._core._args cimport as_bounded, as_size, as_u64, view_open
from nexus._core._errors cimport raise_code

cdef enum:
    TRACE_MAX = 1 << 24

cdef uint64_t NEVER = 0xFFFFFFFFFFFFFFFF
cdef dict _OP_NAMES = {NX_MMIO_OP_READ: "read", NX_MMIO_OP_WRITE: "write", NX_MMIO_OP_POLL: "poll"}
cdef dict _OP_CODES = {name: code for code, name in _OP_NAMES.items()}


class Access(NamedTuple):
    """One access that a window made, would have made, or is to make.

    Attributes:
        op: "read", "write" or "poll" (one entry for all the reads of a poll).
        offset: bytes from the start of the window.
        width: bits.
        value: as the CPU moved it, before any byte swap; of a poll the one read last.
    """

    op: str
    offset: int
    width: int
    value: int


cdef class Window:
    """What `Mmio` is made of, without the accesses; not made on its own."""

    def __init__(self, path, offset, size, *, bint writable=True, bint sync=True,
                 bint guard=False, trace=0):
        name = os.fsdecode(path)
        first = as_size(offset)
        length = as_size(size)
        fd = _backing.open_path(name, writable=writable, sync=sync)
        try:
            self._map(fd, first, length, name, writable, guard, trace)
        finally:
            os.close(fd)

    def __dealloc__(self):
        self._unmap()
        PyMem_Free(self.tape.items)

    @classmethod
    def attach(cls, fd, offset, size, *, bint writable=True, bint guard=False, trace=0, name=None):
        """A window of an open file descriptor, which stays the caller's to close."""
        cdef Window self = cls.__new__(cls)
        number = as_bounded(fd, 0x7FFFFFFF)
        label = f"fd {number}" if name is None else str(name)
        self._map(number, as_size(offset), as_size(size), label, writable, guard, trace)
        return self

    @classmethod
    def uio(cls, number, map=0, *, bint writable=True, bint guard=False, trace=0,
            sysfs="/sys", dev="/dev"):
        """The whole of map `map` of UIO device `number`, sized by sysfs."""
        path, offset, size = _backing.find_uio(
            as_bounded(number, 0xFFFFFFFF), as_bounded(map, 0xFFFFFFFF), sysfs=sysfs, dev=dev
        )
        return cls(path, offset, size, writable=writable, guard=guard, trace=trace)

    @classmethod
    def pci(cls, address, bar, *, offset=0, size=None, bint writable=True, bint combining=False,
            bint guard=False, trace=0, sysfs="/sys"):
        """A memory BAR (0 to 5) of a PCI device, or `size` bytes at `offset` of it.

        The device must be enabled and its memory space be on (the `enable` file, or a driver).
        `combining` maps `resourceN_wc`: then call `barrier` before a doorbell.
        """
        path, whole = _backing.find_pci(
            address, as_bounded(bar, 5), combining=combining, sysfs=sysfs
        )
        first = as_size(offset)
        length = max(whole - first, 0) if size is None else as_size(size)
        if length == 0 or first + length > whole:
            raise errors.OutOfRangeError(f"{path}: BAR of {whole:#x} bytes ends before the window")
        return cls(path, first, length, writable=writable, guard=guard, trace=trace)

    @classmethod
    def dry_run(cls, size, *, initial=b"", trace=65536):
        """A window of plain zeroed memory that records what a driver does to it.

        Reads give what was written last. A poll reads once, as nothing will change.
        `initial` are the bytes at its start.
        """
        cdef Window self = cls.__new__(cls)
        cdef Py_buffer view
        length = as_size(size)
        self._map(-1, 0, length, "dry run", True, False, as_bounded(trace, TRACE_MAX))
        view_open(initial, &view)
        try:
            if view.len > length:
                raise errors.OutOfRangeError(f"{view.len} initial bytes for a window of {length}")
            memcpy(self.map_start, view.buf, <size_t>view.len)
        finally:
            PyBuffer_Release(&view)
        return self

    @classmethod
    def replay(cls, accesses, size):
        """A window without memory that expects exactly these accesses, in this order.

        Reads and polls give the recorded values. An access that differs from the next one
        expected, or comes after the last, raises ReplayError. At the end `remaining` is 0.
        """
        cdef Window self = cls.__new__(cls)
        cdef nx_mmio_access *item
        length = as_size(size)
        entries = [Access(*entry) for entry in accesses]
        self.name = "replay"
        self._allocate_tape(len(entries))
        for entry in entries:
            item = &self.tape.items[self.tape.count]
            if entry.op not in _OP_CODES:
                raise ValueError(f"an access is a read, write or poll, not {entry.op!r}")
            item.op = _OP_CODES[entry.op]
            item.width = <uint8_t>width_bytes(entry.width)
            item.offset = as_u64(entry.offset)
            item.value = as_bounded(entry.value, NEVER >> (64 - 8 * item.width))
            self.tape.count += 1
        self.replaying = True
        raise_code(nx_mmio_init(&self.region, NULL, length, NX_MMIO_REPLAYED, &self.tape),
                   "a window has at least one byte")
        return self

    cdef int _allocate_tape(self, uint64_t capacity) except -1:
        if capacity > TRACE_MAX:
            raise errors.TooLargeError(f"a trace has at most {TRACE_MAX} entries, not {capacity}")
        self.tape.items = <nx_mmio_access *>PyMem_Calloc(capacity + 1, sizeof(nx_mmio_access))
        if self.tape.items == NULL:
            raise MemoryError()
        self.tape.capacity = capacity
        return 0

    cdef int _map(self, int fd, Py_ssize_t offset, Py_ssize_t size, str name, bint writable,
                  bint guard, object trace) except -1:
        cdef Py_ssize_t below = offset & (<Py_ssize_t>_mmap.PAGESIZE - 1)
        cdef uint32_t mode = 0 if writable else NX_MMIO_READONLY
        cdef uint64_t capacity = as_bounded(trace, TRACE_MAX)
        cdef int flags = MAP_SHARED if fd >= 0 else MAP_PRIVATE | MAP_ANONYMOUS
        cdef void *start
        if self.name is not None:
            raise TypeError("a window is made once")
        if size == 0:
            raise ValueError("a window has at least one byte")
        if size > 0x7FFFFFFFFFFFFFFF - offset:
            raise OverflowError(f"a window of {size} bytes at {offset} ends beyond 2^63")
        if fd >= 0:
            _backing.check_size(fd, offset, size, name)
        else:
            mode |= NX_MMIO_DRY | NX_MMIO_RECORDED
        if capacity != 0 or fd < 0:
            self._allocate_tape(capacity)
            mode |= NX_MMIO_RECORDED
        start = mmap(NULL, <size_t>(below + size), PROT_READ | (PROT_WRITE if writable else 0),
                     flags, fd, offset - below)
        if start == MAP_FAILED:
            code = errno
            raise _backing.map_refused(OSError(code, os.strerror(code), name), name, offset)
        self.map_start = start
        self.map_size = <size_t>(below + size)
        if guard:
            raise_code(nx_guard_acquire(), name)
            self.guarded = True
            mode |= NX_MMIO_GUARDED
        self.name = name
        return raise_code(
            nx_mmio_init(&self.region, <char *>start + below, size, mode, &self.tape), name
        )

    cdef void _unmap(self) noexcept:
        nx_mmio_deinit(&self.region)
        if self.map_start != NULL:
            munmap(self.map_start, self.map_size)
            self.map_start = NULL
        if self.guarded:
            nx_guard_release()
            self.guarded = False

    cdef int fail(self, int code, object offset, uint32_t width) except -1:
        """Raise the exception for a refused or failed access."""
        if self.replaying and code in (NX_EEMPTY, NX_ECORRUPT):
            if code == NX_EEMPTY:
                raise errors.ReplayError(f"access at {offset:#x} after the last expected one")
            raise errors.ReplayError(
                f"access {self.tape.position} is {width * 8} bits at {offset:#x}, expected was "
                f"{self.entry(self.tape.position)}"
            )
        reason = {
            NX_ECLOSED: "the window is closed",
            NX_ERANGE: f"outside the window's {self.region.size:#x} bytes",
            NX_EALIGN: "not a multiple of the width",
            NX_EDENIED: "the window is not writable",
            NX_EFAULT: "the device or file behind the window is gone",
            NX_ETIMEOUT: "the condition did not come true in time",
        }.get(code, "a value or mask wider than the register or its mask")
        return raise_code(code, f"{self.name}: {width * 8}-bit access at {offset:#x}: {reason}")

    def close(self):
        """Unmap. Every later access raises ClosedError; closing again does nothing.

        Raises:
            BufferError: another thread is inside a poll or block transfer.
        """
        if self.users != 0:
            raise_code(NX_EBUSY, f"{self.name}: another thread is using the window")
        self._unmap()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def __repr__(self):
        state = "closed" if self.region.size == 0 else f"{self.region.size:#x} bytes"
        return f"<{type(self).__name__} {self.name}: {state}>"

    @property
    def size(self):
        """Bytes in the window, 0 once closed."""
        return self.region.size

    @property
    def closed(self):
        """Whether accesses raise ClosedError."""
        return self.region.size == 0

    @property
    def writable(self):
        """Whether writes are allowed."""
        return self.region.size != 0 and not self.region.mode & NX_MMIO_READONLY

    # The record of what was done.

    cdef object entry(self, uint64_t index):
        cdef nx_mmio_access *item = &self.tape.items[index]
        return Access(_OP_NAMES[item.op], item.offset, item.width * 8, item.value)

    def trace(self):
        """The accesses recorded so far, or those that a replay expects; also after `close`.

        Raises:
            ValueError: the window was opened without `trace`.
        """
        if self.tape.items == NULL:
            raise ValueError(f"{self.name}: opened without a trace")
        return [self.entry(index) for index in range(self.tape.count)]

    @property
    def trace_lost(self):
        """Accesses that were made after the trace was full."""
        return self.tape.lost

    @property
    def remaining(self):
        """Accesses that a replay still expects; 0 for other windows."""
        return self.tape.count - self.tape.position if self.replaying else 0
