"""Windows of device registers: accesses of exact width, over a file, /dev/mem, UIO or PCI.

`read32` is one 32-bit load and nothing else; the same holds for each accessor, as the fault
stepper of the test suite counts. What is refused (bounds, alignment, type, closed window) is
refused before the device is touched.

Not handled: atomicity of `update` against other processes and the device; unaligned access;
a file that is truncated or a device that is unplugged while mapped, unless `guard=True`:
without it the kernel ends the process with SIGBUS at the next access.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy

from nexus import errors

from nexus._core._args cimport as_bounded, as_u64, view_open, view_open_writable
from nexus._core._seconds cimport as_ns

cdef enum:
    # A read over a bus takes 100 ns to 1 us; above this many the GIL is let go.
    GIL_ACCESSES = 256
    # A poll spins this long with the GIL, then in slices without it.
    POLL_HELD_NS = 20_000
    POLL_SLICE_NS = 50_000_000
    BLOCK_MAX = 1 << 24

cdef enum:
    COPY_IN
    COPY_OUT
    READ_FIFO
    WRITE_FIFO

cdef uint64_t NEVER = 0xFFFFFFFFFFFFFFFF
cdef double SECONDS_MAX = 1e9


cdef int _move(nx_mmio *region, int kind, uint64_t offset, uint32_t size, uint64_t count,
               void *data) noexcept nogil:
    if kind == COPY_IN:
        return nx_mmio_copy_in(region, offset, size, count, data)
    if kind == COPY_OUT:
        return nx_mmio_copy_out(region, offset, size, count, data)
    if kind == READ_FIFO:
        return nx_mmio_read_fifo(region, offset, size, count, data)
    return nx_mmio_write_fifo(region, offset, size, count, data)


@cython.final
cdef class Mmio(Window):
    """A window of `size` bytes of registers at `offset` of `path`.

    The offset need not be page aligned. A regular file or memfd must reach to the window's end.

    Args:
        path: a file, /dev/mem, /dev/uioN (the offset is then N pages for map N), or a sysfs
            `resourceN`; see also `attach`, `uio` and `pci`.
        offset: where the window starts, in bytes.
        size: of the window, in bytes.
        writable: False maps for reading alone, and writes raise DeniedError.
        sync: open with O_SYNC, which makes /dev/mem an uncached mapping.
        guard: turn a SIGBUS inside the window into FaultError; single accesses cost twice. The
            first guarded window installs a process-wide SIGBUS handler that passes on others.
        trace: record up to this many accesses; 0 records none.

    Raises:
        AbsentError: /dev/mem or UIO that this host lacks.
        DeniedError: the kernel refuses to open or to map.
        OutOfRangeError: a regular file ends before the window does.
        OSError: any other failure of open or mmap.
    """

    # One access each. The offset is in bytes and a multiple of the width; reads are ordered
    # before what follows, writes after what precedes them.

    def read8(self, offset, /):
        """One 8-bit load."""
        cdef uint8_t value = 0
        cdef int code = nx_mmio_read8(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 1)
        return value

    def read16(self, offset, /):
        """One 16-bit load, little-endian."""
        cdef uint16_t value = 0
        cdef int code = nx_mmio_read16(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 2)
        return value

    def read32(self, offset, /):
        """One 32-bit load, little-endian."""
        cdef uint32_t value = 0
        cdef int code = nx_mmio_read32(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 4)
        return value

    def read64(self, offset, /):
        """One 64-bit load, little-endian."""
        cdef uint64_t value = 0
        cdef int code = nx_mmio_read64(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 8)
        return value

    def read16be(self, offset, /):
        """One 16-bit load, big-endian."""
        cdef uint16_t value = 0
        cdef int code = nx_mmio_read16(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 2)
        return nx_io_swap16(value)

    def read32be(self, offset, /):
        """One 32-bit load, big-endian."""
        cdef uint32_t value = 0
        cdef int code = nx_mmio_read32(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 4)
        return nx_io_swap32(value)

    def read64be(self, offset, /):
        """One 64-bit load, big-endian."""
        cdef uint64_t value = 0
        cdef int code = nx_mmio_read64(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 8)
        return nx_io_swap64(value)

    def read32_relaxed(self, offset, /):
        """One 32-bit load without a barrier after it."""
        cdef uint32_t value = 0
        cdef int code = nx_mmio_read32_relaxed(&self.region, as_u64(offset), &value)
        if code != NX_OK:
            self.fail(code, offset, 4)
        return value

    def write8(self, offset, value, /):
        """One 8-bit store."""
        cdef int code = nx_mmio_write8(
            &self.region, as_u64(offset), <uint8_t>as_bounded(value, 0xFF)
        )
        if code != NX_OK:
            self.fail(code, offset, 1)

    def write16(self, offset, value, /):
        """One 16-bit store, little-endian."""
        cdef int code = nx_mmio_write16(
            &self.region, as_u64(offset), <uint16_t>as_bounded(value, 0xFFFF)
        )
        if code != NX_OK:
            self.fail(code, offset, 2)

    def write32(self, offset, value, /):
        """One 32-bit store, little-endian."""
        cdef int code = nx_mmio_write32(
            &self.region, as_u64(offset), <uint32_t>as_bounded(value, 0xFFFFFFFF)
        )
        if code != NX_OK:
            self.fail(code, offset, 4)

    def write64(self, offset, value, /):
        """One 64-bit store, little-endian."""
        cdef int code = nx_mmio_write64(&self.region, as_u64(offset), as_u64(value))
        if code != NX_OK:
            self.fail(code, offset, 8)

    def write16be(self, offset, value, /):
        """One 16-bit store, big-endian."""
        cdef uint16_t swapped = nx_io_swap16(<uint16_t>as_bounded(value, 0xFFFF))
        cdef int code = nx_mmio_write16(&self.region, as_u64(offset), swapped)
        if code != NX_OK:
            self.fail(code, offset, 2)

    def write32be(self, offset, value, /):
        """One 32-bit store, big-endian."""
        cdef uint32_t swapped = nx_io_swap32(<uint32_t>as_bounded(value, 0xFFFFFFFF))
        cdef int code = nx_mmio_write32(&self.region, as_u64(offset), swapped)
        if code != NX_OK:
            self.fail(code, offset, 4)

    def write64be(self, offset, value, /):
        """One 64-bit store, big-endian."""
        cdef int code = nx_mmio_write64(&self.region, as_u64(offset), nx_io_swap64(as_u64(value)))
        if code != NX_OK:
            self.fail(code, offset, 8)

    def write32_relaxed(self, offset, value, /):
        """One 32-bit store without a barrier before it."""
        cdef int code = nx_mmio_write32_relaxed(
            &self.region, as_u64(offset), <uint32_t>as_bounded(value, 0xFFFFFFFF)
        )
        if code != NX_OK:
            self.fail(code, offset, 4)

    # One read and one write.

    def update(self, offset, mask, value, *, width=32):
        """register = (register & ~mask) | value; `value` must lie inside `mask`."""
        cdef uint32_t size = width_bytes(width)
        cdef int code = nx_mmio_update(
            &self.region, as_u64(offset), size, as_u64(mask), as_u64(value)
        )
        if code != NX_OK:
            self.fail(code, offset, size)

    def set_bits(self, offset, mask, *, width=32):
        """Set the bits of `mask` by one read and one write."""
        self.update(offset, mask, mask, width=width)

    def clear_bits(self, offset, mask, *, width=32):
        """Clear the bits of `mask` by one read and one write."""
        self.update(offset, mask, 0, width=width)

    # Exactly `count` accesses of `width` bits. The GIL is let go above 256 of them. The items of
    # a buffer are bytes or as wide as the registers, and in the byte order of the CPU.

    cdef int _transfer(self, int kind, object offset, uint32_t size, uint64_t count,
                       void *data) except -1:
        cdef uint64_t start = as_u64(offset)
        cdef int code
        if count > BLOCK_MAX:
            raise errors.TooLargeError(f"a block has at most {BLOCK_MAX} accesses, not {count}")
        # Two threads must not write one tape, so a window with one keeps the GIL.
        if count > GIL_ACCESSES and self.tape.items == NULL:
            self.users += 1
            with nogil:
                code = _move(&self.region, kind, start, size, count, data)
            self.users -= 1
        else:
            code = _move(&self.region, kind, start, size, count, data)
        if code != NX_OK:
            self.fail(code, offset, size)
        return 0

    cdef list _read_list(self, int kind, object offset, object count, object width):
        cdef uint32_t size = width_bytes(width)
        cdef Py_ssize_t number = <Py_ssize_t>as_bounded(count, BLOCK_MAX)
        cdef list values = [None] * number
        cdef uint64_t element = 0
        cdef Py_ssize_t i
        cdef char *data = <char *>PyMem_Calloc(number + 1, size)
        if data == NULL:
            raise MemoryError()
        try:
            self._transfer(kind, offset, size, number, data)
            for i in range(number):
                memcpy(&element, data + i * size, size)
                values[i] = element
        finally:
            PyMem_Free(data)
        return values

    cdef int _write_list(self, int kind, object offset, list values, object width) except -1:
        cdef uint32_t size = width_bytes(width)
        cdef uint64_t element, maximum = NEVER >> (64 - 8 * size)
        cdef Py_ssize_t i
        cdef char *data = <char *>PyMem_Calloc(len(values) + 1, size)
        if data == NULL:
            raise MemoryError()
        try:
            for i in range(len(values)):
                element = as_bounded(values[i], maximum)
                memcpy(data + i * size, &element, size)
            self._transfer(kind, offset, size, len(values), data)
        finally:
            PyMem_Free(data)
        return 0

    cdef Py_ssize_t _use_buffer(self, int kind, object offset, object buffer, object width,
                                bint writable) except -1:
        cdef uint32_t size = width_bytes(width)
        cdef uint64_t count
        cdef Py_buffer view
        if writable:
            view_open_writable(buffer, &view)
        else:
            view_open(buffer, &view)
        try:
            if view.itemsize != 1 and view.itemsize != size:
                raise ValueError(f"{view.itemsize}-byte items for {size * 8}-bit registers")
            count = nx_mmio_count(<uint64_t>view.len, size)
            if count == NEVER:
                raise ValueError(f"{view.len} bytes are no whole number of {size * 8}-bit values")
            self._transfer(kind, offset, size, count, view.buf)
        finally:
            PyBuffer_Release(&view)
        return <Py_ssize_t>count

    def read_block(self, offset, count, *, width=32):
        """`count` loads from `offset` on, as a list of int."""
        return self._read_list(COPY_IN, offset, count, width)

    def read_fifo(self, offset, count, *, width=32):
        """`count` loads, all from `offset`, as a list of int."""
        return self._read_list(READ_FIFO, offset, count, width)

    def read_block_into(self, offset, buffer, *, width=32):
        """Fill a writable buffer by loads from `offset` on; returns how many."""
        return self._use_buffer(COPY_IN, offset, buffer, width, True)

    def read_fifo_into(self, offset, buffer, *, width=32):
        """Fill a writable buffer by loads that are all from `offset`; returns how many."""
        return self._use_buffer(READ_FIFO, offset, buffer, width, True)

    def write_block(self, offset, values, *, width=32):
        """Store from `offset` on: a buffer of packed values, or a list or tuple of ints."""
        if isinstance(values, (list, tuple)):
            self._write_list(COPY_OUT, offset, list(values), width)
        else:
            self._use_buffer(COPY_OUT, offset, values, width, False)

    def write_fifo(self, offset, values, *, width=32):
        """Store all at `offset`: a buffer of packed values, or a list or tuple of ints."""
        if isinstance(values, (list, tuple)):
            self._write_list(WRITE_FIFO, offset, list(values), width)
        else:
            self._use_buffer(WRITE_FIFO, offset, values, width, False)

    def poll(self, offset, mask, value, timeout, *, width=32, interval=0, spin_max=None):
        """Read until (register & mask) == value, and return the whole register.

        Args:
            offset: of the register, in bytes.
            mask: the bits that matter.
            value: what they must be; inside `mask`.
            timeout: seconds, on the monotonic clock; at least one read is made, and one after
                the deadline.
            width: of the register, in bits.
            interval: seconds to sleep between two reads, at most 1; 0 spins.
            spin_max: bound on the number of reads, or None.

        Raises:
            DeadlineError: it did not come true. This is no return value, so that a driver that
                forgets to look does not go on with a device that is not ready.

        The GIL is held for the first 20 us of a spin and let go afterwards. Signals are handled
        every 50 ms.
        """
        cdef nx_mmio_wait wait
        cdef uint64_t limit = as_ns(timeout, SECONDS_MAX)
        cdef uint64_t bound = NEVER if spin_max is None else as_u64(spin_max)
        cdef int code
        wait.offset = as_u64(offset)
        wait.mask = as_u64(mask)
        wait.want = as_u64(value)
        wait.width = width_bytes(width)
        wait.interval_ns = as_ns(interval, 1.0)
        wait.spins = 0
        wait.value = 0
        cdef uint64_t start = nx_mmio_now_ns()
        cdef uint64_t end = start + limit
        # A sleep must not hold the GIL: with an interval the first slice is a single read.
        wait.spins_max = 1 if wait.interval_ns != 0 else bound
        wait.deadline_ns = min(end, start + POLL_HELD_NS)
        code = nx_mmio_poll(&self.region, &wait)
        wait.spins_max = bound
        while code == NX_ETIMEOUT and not self._poll_is_over(&wait, end):
            PyErr_CheckSignals()
            wait.deadline_ns = min(end, nx_mmio_now_ns() + POLL_SLICE_NS)
            self.users += 1
            with nogil:
                code = nx_mmio_poll(&self.region, &wait)
            self.users -= 1
        if code == NX_OK or code == NX_ETIMEOUT:
            nx_mmio_poll_end(&self.region, &wait)
        if code == NX_ETIMEOUT:
            raise errors.DeadlineError(
                f"{self.name}: register at {wait.offset:#x} is {wait.value:#x} after "
                f"{wait.spins} reads, wanted {wait.want:#x} under mask {wait.mask:#x}"
            )
        if code != NX_OK:
            self.fail(code, offset, wait.width)
        return wait.value

    cdef bint _poll_is_over(self, nx_mmio_wait *wait, uint64_t end) noexcept:
        return (wait.deadline_ns >= end or wait.spins >= wait.spins_max
                or self.region.mode & (NX_MMIO_REPLAYED | NX_MMIO_DRY) != 0)

    # Explicit order, against memory and write-combining windows.

    def barrier(self):
        """Everything before is done before anything after, at the device and in memory."""
        nx_io_barrier_full()

    def write_barrier(self):
        """Stores before reach the device before stores after; drains write-combining buffers."""
        nx_io_barrier_write()

    def read_barrier(self):
        """Loads before are complete before loads after."""
        nx_io_barrier_read()
