"""Capability tables and triple redundancy; the theory is in nx_capability.h and nx_tmr.h."""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from typing import NamedTuple

from nexus._core._args cimport as_bounded, as_u64, view_open, view_open_writable
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd, simd_demanded

cdef extern from "nx_base.h":
    enum:
        NX_OK
        NX_ESTALE

cdef extern from "nx_capability.h":
    enum:
        NX_CAPABILITY_CAPACITY_MAX
    ctypedef struct nx_capability:
        uint32_t generation
        uint16_t rights
        uint8_t type
        uint8_t domain
        uint64_t object
    ctypedef struct nx_capability_links:
        pass
    ctypedef struct nx_capability_table:
        uint32_t capacity
        uint32_t live
    ctypedef struct nx_capability_audit:
        uint64_t digest
        uint64_t expected
        uint32_t live
        uint32_t retired
    int nx_capability_table_init(
        nx_capability_table *, nx_capability *, nx_capability_links *, uint32_t)
    int nx_capability_mint(nx_capability_table *, nx_capability, uint64_t *)
    int nx_capability_derive(nx_capability_table *, uint64_t, uint16_t, uint64_t *)
    int nx_capability_lookup(const nx_capability_table *, uint64_t, nx_capability *)
    int nx_capability_revoke(nx_capability_table *, uint64_t, bint, uint32_t *)
    size_t nx_capability_check_many(
        const nx_capability_table *, const uint64_t *, size_t, uint16_t, uint8_t *)
    bint nx_capability_check(const nx_capability_table *, uint64_t, uint16_t)
    void nx_capability_table_audit(const nx_capability_table *, nx_capability_audit *)

cdef extern from "nx_tmr.h":
    ctypedef struct nx_tmr_repairs:
        uint64_t bytes[3]
    void nx_tmr_select(nx_simd)
    bint nx_tmr_differs(const uint8_t *, const uint8_t *, const uint8_t *, size_t)
    void nx_tmr_vote(uint8_t *, uint8_t *, uint8_t *, size_t, nx_tmr_repairs *)

cdef nx_simd level
simd_demanded(&level)
nx_tmr_select(level)


class Capability(NamedTuple):
    """What a live handle stands for.

    Attributes:
        type: kind of object, 0 to 255; numbered by the layer above.
        domain: who holds it, 0 to 255; numbered by the layer above.
        rights: bits, see `RIGHT_READ` and its fellows.
        object: 64-bit name of the object.
    """

    type: int
    domain: int
    rights: int
    object: int


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
        sound: whether the entries still are what the table's operations made of them.
        digest: of all entries, now.
        live: how many are live.
        retired: how many slots have used up their generations.
    """

    sound: bool
    digest: int
    live: int
    retired: int


@cython.final
cdef class CapabilityTable:
    """A table of unforgeable rights that can be narrowed, checked and revoked.

    A handle is an integer; any integer may be asked about, only live ones are granted anything.
    Operations hold the GIL, so threads may share a table. Not for secrets: handles can be guessed,
    so what crosses a trust boundary must name slots of a CSpace instead.

    Args:
        capacity: number of entries, 1 to 16,777,216; 32 bytes each.
    """

    cdef nx_capability_table table
    cdef void *memory

    def __cinit__(self, object capacity):
        cdef uint32_t count = <uint32_t>as_bounded(capacity, NX_CAPABILITY_CAPACITY_MAX)
        cdef size_t hot = count * sizeof(nx_capability)
        self.memory = PyMem_Malloc(hot + count * sizeof(nx_capability_links) + 64)
        if self.memory is NULL:
            raise MemoryError
        # A cache line never holds parts of five entries when the first starts one.
        cdef char *start = <char *>((<size_t>self.memory + 63) & ~<size_t>63)
        raise_code(
            nx_capability_table_init(
                &self.table, <nx_capability *>start, <nx_capability_links *>(start + hot), count),
            "capacity must be at least 1")

    def __dealloc__(self):
        PyMem_Free(self.memory)

    def __len__(self):
        return self.table.live

    def __repr__(self):
        return f"<CapabilityTable {self.table.live} of {self.table.capacity} live>"

    @property
    def capacity(self) -> int:
        """Number of entries."""
        return self.table.capacity

    def mint(
        self, object type, object object, object rights, *, object domain=0
    ) -> int:
        """Make a root capability and return its handle.

        Raises:
            FullError: no slot is free.
        """
        cdef nx_capability what
        cdef uint64_t handle = 0
        what.generation = 0
        what.type = <uint8_t>as_bounded(type, 0xFF)
        what.object = as_u64(object)
        what.rights = <uint16_t>as_bounded(rights, 0xFFFF)
        what.domain = <uint8_t>as_bounded(domain, 0xFF)
        raise_code(nx_capability_mint(&self.table, what, &handle), "the table is full")
        return handle

    def derive(self, object parent, object rights) -> int:
        """Make a narrower capability from one that has `RIGHT_DELEGATE`, and return its handle.

        Raises:
            StaleError: the parent is not live.
            DeniedError: it may not delegate, or lacks one of the rights.
            FullError: no slot is free.
        """
        cdef uint64_t source = as_u64(parent)
        cdef uint16_t wanted = <uint16_t>as_bounded(rights, 0xFFFF)
        cdef uint64_t handle = 0
        cdef int code = nx_capability_derive(&self.table, source, wanted, &handle)
        if code != NX_OK:
            raise_code(code, f"cannot derive rights {wanted:#x} from handle {source:#x}")
        return handle

    def check(self, object handle, object rights, /) -> bool:
        """Whether the handle is live and has all of the rights."""
        cdef uint64_t number = as_u64(handle)
        return nx_capability_check(&self.table, number, <uint16_t>as_bounded(rights, 0xFFFF))

    def __contains__(self, object handle):
        return nx_capability_check(&self.table, as_u64(handle), 0)

    def check_many(self, object handles, object rights) -> bytes:
        """Check many handles at once.

        Args:
            handles: a list or tuple of handles, or a buffer of native 64-bit integers.
            rights: what each must have.

        Returns:
            One byte a handle, 1 where it is live and has all of the rights.
        """
        cdef uint16_t wanted = <uint16_t>as_bounded(rights, 0xFFFF)
        cdef Py_buffer view
        cdef Py_ssize_t count, i
        cdef uint64_t *numbers
        cdef bytes result
        if isinstance(handles, (list, tuple)):
            count = len(handles)
            numbers = <uint64_t *>PyMem_Malloc(count * sizeof(uint64_t) + 1)
            if numbers is NULL:
                raise MemoryError
            try:
                for i in range(count):
                    numbers[i] = as_u64(handles[i])
                result = PyBytes_FromStringAndSize(NULL, count)
                nx_capability_check_many(
                    &self.table, numbers, count, wanted, <uint8_t *>PyBytes_AS_STRING(result))
            finally:
                PyMem_Free(numbers)
            return result
        view_open(handles, &view)
        try:
            # An empty buffer may point anywhere.
            if view.len & 7 or (view.len != 0 and <size_t>view.buf & 7):
                raise ValueError("the buffer must hold aligned 64-bit handles")
            count = view.len >> 3
            result = PyBytes_FromStringAndSize(NULL, count)
            nx_capability_check_many(
                &self.table, <const uint64_t *>view.buf, count, wanted,
                <uint8_t *>PyBytes_AS_STRING(result))
        finally:
            PyBuffer_Release(&view)
        return result

    def lookup(self, object handle) -> Capability:
        """What a live handle stands for.

        Raises:
            StaleError: the handle is not live.
        """
        cdef nx_capability found
        cdef uint64_t number = as_u64(handle)
        cdef int code = nx_capability_lookup(&self.table, number, &found)
        if code != NX_OK:
            raise_code(code, f"handle {number:#x} is not live")
        return Capability(found.type, found.domain, found.rights, found.object)

    def revoke(self, object handle, *, bint descendants_only=False) -> int:
        """End a capability and all that was derived from it, and return how many ended.

        Args:
            handle: what to revoke; one that is not live counts as revoked already, so 0.
            descendants_only: keep the capability itself.

        Raises:
            CorruptError: the table contradicts itself and must no longer be trusted.
        """
        cdef uint32_t count = 0
        cdef uint64_t number = as_u64(handle)
        cdef int code = nx_capability_revoke(&self.table, number, not descendants_only, &count)
        if code == NX_ESTALE:
            return 0
        if code != NX_OK:
            raise_code(code, f"the links below handle {number:#x} contradict themselves")
        return count

    def audit(self) -> Audit:
        """Recompute the digest of all entries and compare it with the one kept in step."""
        cdef nx_capability_audit found
        nx_capability_table_audit(&self.table, &found)
        return Audit(
            found.digest == found.expected and found.live == self.table.live,
            found.digest, found.live, found.retired)


cdef int open_three(object a, object b, object c, Py_buffer *views, bint writable) except -1:
    cdef int opened = 0
    try:
        for data in (a, b, c):
            if writable:
                view_open_writable(data, &views[opened])
            else:
                view_open(data, &views[opened])
            opened += 1
        if views[0].len != views[1].len or views[0].len != views[2].len:
            raise ValueError("the three copies must have the same size")
    except BaseException:  # whatever it is, the views already open must be given back
        while opened > 0:
            opened -= 1
            PyBuffer_Release(&views[opened])
        raise
    return 0


def tmr_differs(object a, object b, object c) -> bool:
    """Whether three buffers of one size differ anywhere."""
    cdef Py_buffer views[3]
    cdef bint result
    open_three(a, b, c, views, False)
    result = nx_tmr_differs(
        <const uint8_t *>views[0].buf, <const uint8_t *>views[1].buf,
        <const uint8_t *>views[2].buf, views[0].len)
    for i in range(3):
        PyBuffer_Release(&views[i])
    return result


def tmr_vote(object a, object b, object c) -> tuple[int, int, int]:
    """Set every bit of three writable buffers to its majority.

    Returns:
        How many bytes were wrong, and are repaired, in each.
    """
    cdef Py_buffer views[3]
    cdef nx_tmr_repairs repairs
    open_three(a, b, c, views, True)
    nx_tmr_vote(
        <uint8_t *>views[0].buf, <uint8_t *>views[1].buf, <uint8_t *>views[2].buf,
        views[0].len, &repairs)
    for i in range(3):
        PyBuffer_Release(&views[i])
    return repairs.bytes[0], repairs.bytes[1], repairs.bytes[2]
