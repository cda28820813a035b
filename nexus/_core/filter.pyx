"""The exact set of CellIDs that may talk to this node; the theory is in nx_filter.h."""

import os

cimport cython
from cpython.buffer cimport PyBuffer_Release, PyObject_CheckBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from nexus._core._args cimport as_size, view_open
from nexus._core._errors cimport raise_code

cdef extern from "nx_base.h":
    enum:
        NX_OK

cdef extern from "nx_filter.h":
    ctypedef struct nx_cell_id:
        pass
    ctypedef struct nx_filter_table:
        uint64_t count
        uint64_t bytes
    ctypedef struct nx_filter:
        uint64_t freed
    ctypedef struct nx_filter_reader:
        pass
    int nx_filter_table_create(
        const uint8_t *, size_t, size_t, const uint64_t *, nx_filter_table **) nogil
    bint nx_filter_table_has(const nx_filter_table *, const uint8_t *)
    void nx_filter_table_members(const nx_filter_table *, nx_cell_id *)
    int nx_filter_create(nx_filter_table *, nx_filter **)
    const nx_filter_table *nx_filter_current(nx_filter *)
    void nx_filter_destroy(nx_filter *)
    void nx_filter_table_destroy(nx_filter_table *)
    void nx_filter_swap(nx_filter *, nx_filter_table *)
    int nx_filter_reader_join(nx_filter *, nx_filter_reader **)
    void nx_filter_reader_leave(nx_filter_reader *)
    const nx_filter_table *nx_filter_read_begin(nx_filter *, nx_filter_reader *) nogil
    void nx_filter_read_end(nx_filter_reader *) nogil
    size_t nx_filter_check_frames(
        nx_filter *, nx_filter_reader *, const uint8_t *, size_t, size_t, uint8_t *) nogil

# At 4 to 30 ns an id this is about 50 us of work; longer batches let other threads run.
cdef enum:
    GIL_HELD_IDS = 4096
    ID_SIZE = 16

cdef extern from *:
    """
    static inline Py_ssize_t nx_whole_frames(Py_ssize_t size, Py_ssize_t stride)
    {
        return size % stride == 0 ? size / stride : -1;
    }
    """
    Py_ssize_t whole_frames "nx_whole_frames"(Py_ssize_t size, Py_ssize_t stride)


cdef nx_filter_table *build(object ids, const uint64_t *key) except NULL:
    """A table of the ids in a buffer or an iterable of 16-byte ids."""
    cdef Py_buffer view
    cdef nx_filter_table *table = NULL
    cdef int code
    cdef size_t count
    if not PyObject_CheckBuffer(ids):
        ids = joined(ids)
    view_open(ids, &view)
    try:
        if view.len & 15:
            raise ValueError(f"{view.len} bytes are no whole number of 16-byte ids")
        count = view.len >> 4
        with nogil:
            code = nx_filter_table_create(
                <const uint8_t *>view.buf, ID_SIZE, count, key, &table)
        raise_code(code, "the all-zero id cannot be a member")
    finally:
        PyBuffer_Release(&view)
    return table


cdef bytes joined(object ids):
    """Ids one after the other, each checked for its size."""
    parts = [bytes(one) if isinstance(one, (bytearray, memoryview)) else one for one in ids]
    for one in parts:
        if not isinstance(one, bytes):
            raise TypeError(f"a CellID is 16 bytes, not {type(one).__name__}")
        if len(one) != ID_SIZE:
            raise ValueError(f"a CellID is 16 bytes, not {len(one)}")
    return b"".join(parts)


@cython.final
cdef class CellFilter:
    """The exact set of CellIDs that may pass, replaceable while frames are being checked.

    Args:
        ids: the members: a buffer of 16-byte ids one after the other, or an iterable of ids.
        key: 16 secret bytes that place the ids; random when None, which is right outside tests.
    """

    cdef nx_filter *filter
    cdef uint64_t key[2]

    def __cinit__(self, object ids=b"", *, object key=None):
        cdef bytes secret = os.urandom(16) if key is None else bytes(memoryview(key))
        if len(secret) != 16:
            raise ValueError(f"the key has 16 bytes, not {len(secret)}")
        memcpy(self.key, PyBytes_AS_STRING(secret), 16)
        cdef nx_filter_table *table = build(ids, self.key)
        cdef int code = nx_filter_create(table, &self.filter)
        if code != NX_OK:
            nx_filter_table_destroy(table)
            raise_code(code, None)

    def __dealloc__(self):
        # Every call that reads outside the GIL holds a reference, so no reader is left.
        if self.filter is not NULL:
            nx_filter_destroy(self.filter)

    cdef const nx_filter_table *table(self) noexcept:
        """The current table; stays valid while the GIL is held."""
        return nx_filter_current(self.filter)

    def __len__(self):
        return self.table().count

    def __repr__(self):
        return f"<CellFilter of {self.table().count} ids, {self.table().bytes} bytes>"

    @property
    def nbytes(self) -> int:
        """Memory of the current table in bytes, at most 24 an id and 320 besides."""
        return self.table().bytes

    def check(self, object cell_id) -> bool:
        """Whether a 16-byte id is a member; raises ValueError for another size."""
        cdef Py_buffer view
        cdef bint result
        if PyBytes_CheckExact(cell_id):
            if PyBytes_GET_SIZE(cell_id) != ID_SIZE:
                raise ValueError(f"a CellID is 16 bytes, not {len(cell_id)}")
            return nx_filter_table_has(self.table(), <const uint8_t *>PyBytes_AS_STRING(cell_id))
        view_open(cell_id, &view)
        try:
            if view.len != ID_SIZE:
                raise ValueError(f"a CellID is 16 bytes, not {view.len}")
            result = nx_filter_table_has(self.table(), <const uint8_t *>view.buf)
        finally:
            PyBuffer_Release(&view)
        return result

    def __contains__(self, object cell_id):
        return self.check(cell_id)

    def check_many(self, object frames, object stride=16, object offset=0) -> bytes:
        """Check the ids of many frames at once.

        Args:
            frames: a buffer of frames, `stride` bytes apart.
            stride: from one frame to the next, at least 16.
            offset: where in a frame the id starts; offset + 16 must fit in the stride.

        Returns:
            One byte a frame, 1 where its id is a member. A last part shorter than an id is
            refused with ValueError.
        """
        cdef Py_ssize_t step = as_size(stride)
        cdef Py_ssize_t start = as_size(offset)
        cdef Py_buffer view
        cdef Py_ssize_t count
        cdef bytes result
        cdef nx_filter_reader *reader = NULL
        cdef const uint8_t *first
        cdef uint8_t *verdicts
        if step < ID_SIZE or start > step - ID_SIZE:
            raise ValueError("stride must be at least offset + 16")
        view_open(frames, &view)
        try:
            count = whole_frames(view.len, step)
            if count < 0:
                raise ValueError(f"{view.len} bytes are no whole number of frames of {step}")
            result = PyBytes_FromStringAndSize(NULL, count)
            verdicts = <uint8_t *>PyBytes_AS_STRING(result)
            first = <const uint8_t *>view.buf + start
            raise_code(
                nx_filter_reader_join(self.filter, &reader), "64 threads are checking already")
            if count <= GIL_HELD_IDS:
                nx_filter_check_frames(self.filter, reader, first, step, count, verdicts)
            else:
                with nogil:
                    nx_filter_check_frames(self.filter, reader, first, step, count, verdicts)
            nx_filter_reader_leave(reader)
        finally:
            PyBuffer_Release(&view)
        return result

    def replace(self, object ids) -> None:
        """Make `ids` the members; checks under way see the old set or the new one, whole."""
        nx_filter_swap(self.filter, build(ids, self.key))

    def add(self, object ids) -> None:
        """Make `ids` members besides those there are; costs a rebuild."""
        self.replace(b"".join((self.members(), as_ids(ids))))

    def discard(self, object ids) -> None:
        """Remove `ids` where they are members; costs a rebuild."""
        cdef bytes held = self.members()
        cdef bytes gone = as_ids(ids)
        unwanted = {gone[i : i + 16] for i in range(0, len(gone), 16)}
        kept = [held[i : i + 16] for i in range(0, len(held), 16)]
        self.replace(b"".join([one for one in kept if one not in unwanted]))

    def members(self) -> bytes:
        """All ids one after the other, in no particular order."""
        cdef const nx_filter_table *table = self.table()
        cdef bytes result = PyBytes_FromStringAndSize(NULL, table.count * ID_SIZE)
        nx_filter_table_members(table, <nx_cell_id *>PyBytes_AS_STRING(result))
        return result


cdef bytes as_ids(object ids):
    """Ids in any accepted form as one row of bytes."""
    cdef Py_buffer view
    if not PyObject_CheckBuffer(ids):
        return joined(ids)
    view_open(ids, &view)
    try:
        if view.len & 15:
            raise ValueError(f"{view.len} bytes are no whole number of 16-byte ids")
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
