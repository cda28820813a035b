# cython: language_level=3
"""The mapping under a register window as other wrappers see it, and the C interface."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nexus._core._args cimport as_u64

cdef extern from "nx_mmio.h" nogil:
    enum:
        NX_OK
        NX_ERANGE
        NX_EALIGN
        NX_ECLOSED
        NX_EEMPTY
        NX_EBUSY
        NX_EDENIED
        NX_ECORRUPT
        NX_ETIMEOUT
        NX_EFAULT
        NX_MMIO_READONLY
        NX_MMIO_GUARDED
        NX_MMIO_RECORDED
        NX_MMIO_REPLAYED
        NX_MMIO_DRY
        NX_MMIO_OP_READ
        NX_MMIO_OP_WRITE
        NX_MMIO_OP_POLL

    ctypedef struct nx_mmio_access:
        uint64_t offset
        uint64_t value
        uint8_t op
        uint8_t width

    ctypedef struct nx_mmio_tape:
        nx_mmio_access *items
        uint64_t capacity
        uint64_t count
        uint64_t position
        uint64_t lost

    ctypedef struct nx_mmio:
        uint64_t size
        uint32_t mode

    ctypedef struct nx_mmio_wait:
        uint64_t offset
        uint64_t mask
        uint64_t want
        uint64_t deadline_ns
        uint64_t interval_ns
        uint64_t spins_max
        uint64_t spins
        uint64_t value
        uint32_t width

    int nx_mmio_init(nx_mmio *mmio, void *base, uint64_t size, uint32_t mode, nx_mmio_tape *tape)
    void nx_mmio_deinit(nx_mmio *mmio)
    int nx_mmio_read(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t *ret)
    int nx_mmio_write(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t value)
    int nx_mmio_update(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t mask,
                       uint64_t value)
    int nx_mmio_copy_in(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count, void *ret)
    int nx_mmio_copy_out(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                         const void *data)
    int nx_mmio_read_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                          void *ret)
    int nx_mmio_write_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                           const void *data)
    int nx_mmio_poll(nx_mmio *mmio, nx_mmio_wait *wait)
    void nx_mmio_poll_end(nx_mmio *mmio, const nx_mmio_wait *wait)
    uint64_t nx_mmio_now_ns()
    uint64_t nx_mmio_count(uint64_t size, uint32_t width)

    int nx_mmio_locate(const nx_mmio *mmio, uint64_t offset, uint64_t width)
    int nx_mmio_read8(nx_mmio *mmio, uint64_t offset, uint8_t *ret)
    int nx_mmio_read16(nx_mmio *mmio, uint64_t offset, uint16_t *ret)
    int nx_mmio_read32(nx_mmio *mmio, uint64_t offset, uint32_t *ret)
    int nx_mmio_read64(nx_mmio *mmio, uint64_t offset, uint64_t *ret)
    int nx_mmio_read32_relaxed(nx_mmio *mmio, uint64_t offset, uint32_t *ret)
    int nx_mmio_write8(nx_mmio *mmio, uint64_t offset, uint8_t value)
    int nx_mmio_write16(nx_mmio *mmio, uint64_t offset, uint16_t value)
    int nx_mmio_write32(nx_mmio *mmio, uint64_t offset, uint32_t value)
    int nx_mmio_write64(nx_mmio *mmio, uint64_t offset, uint64_t value)
    int nx_mmio_write32_relaxed(nx_mmio *mmio, uint64_t offset, uint32_t value)

    uint16_t nx_io_swap16(uint16_t value)
    uint32_t nx_io_swap32(uint32_t value)
    uint64_t nx_io_swap64(uint64_t value)
    void nx_io_barrier_full()
    void nx_io_barrier_read()
    void nx_io_barrier_write()

cdef extern from "nx_guard.h" nogil:
    int nx_guard_acquire()
    void nx_guard_release()


cdef inline uint32_t width_bytes(object width) except 0:
    """Bytes of a register width given in bits."""
    cdef uint64_t bits = as_u64(width)
    if bits == 8 or bits == 16 or bits == 32 or bits == 64:
        return <uint32_t>(bits >> 3)
    raise ValueError(f"a register is 8, 16, 32 or 64 bits wide, not {bits}")


cdef class Window:
    cdef nx_mmio region
    cdef nx_mmio_tape tape
    cdef void *map_start
    cdef size_t map_size
    cdef Py_ssize_t users      # calls that run without the GIL
    cdef bint guarded
    cdef bint replaying
    cdef readonly str name

    cdef int fail(self, int code, object offset, uint32_t width) except -1
    cdef int _allocate_tape(self, uint64_t capacity) except -1
    cdef int _map(self, int fd, Py_ssize_t offset, Py_ssize_t size, str name, bint writable,
                  bint guard, object trace) except -1
    cdef void _unmap(self) noexcept
    cdef object entry(self, uint64_t index)
