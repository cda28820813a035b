"""Rings of byte records between processes, over the kernels of nx_ring.h.

All calls but `wait` hold the GIL, and that is what makes one handle safe to share between the
threads of a process. The wrapper adds to the guarantees of the headers only this: a place that is
shown or reserved, and a sleeping thread, keep their ring from being closed.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_ND,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.list cimport PyList_Append, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.string cimport memcpy

from nexus import errors

from nexus._core._args cimport as_bounded, as_flag, as_size, view_open
from nexus._core._errors cimport raise_code
from nexus._core._ring_handle cimport ready_to_get, ready_to_put
from nexus._core.span cimport Span

cdef extern from *:
    """
    /* A borrowed item, so that the loops below touch no reference counts. */
    #define nx_list_item(list, i) ((PyObject *)PyList_GET_ITEM(list, i))
    """
    PyObject *nx_list_item(list items, Py_ssize_t i)
    char *nx_bytes_data "PyBytes_AS_STRING"(PyObject *item)
    Py_ssize_t nx_bytes_size "PyBytes_GET_SIZE"(PyObject *item)
    bint nx_is_bytes "PyBytes_CheckExact"(PyObject *item)

cdef dict KINDS = {"spsc": NX_RING_SPSC, "mpsc": NX_RING_MPSC}

cdef inline int put_one(nx_ring_map *map, const void *payload, uint64_t size) noexcept nogil:
    cdef int code
    if map.ring.kind == NX_RING_SPSC:
        code = nx_ring_put(&map.ring, payload, size)
    else:
        code = nx_mpsc_put(&map.ring, payload, size)
    if code == NX_OK:
        nx_ring_map_notify(map)
    return code


cdef uint64_t row_size(Py_buffer *view, object record_size) except 0:
    """Bytes of a row: `record_size`, or what one index of the first axis selects."""
    cdef uint64_t size
    cdef int i
    if record_size is not None:
        size = <uint64_t>as_size(record_size)
    elif view.ndim < 2:
        raise ValueError("record_size is needed for a buffer of one dimension")
    else:
        size = <uint64_t>view.itemsize
        for i in range(1, view.ndim):
            size *= <uint64_t>view.shape[i]
    if size == 0:
        raise ValueError("a row of a batch has at least one byte")
    return size


cdef Py_ssize_t row_count(Py_buffer *view, uint64_t size) except -1:
    cdef object count, rest
    count, rest = divmod(view.len, size)
    if rest:
        raise ValueError(f"{view.len} bytes are no whole number of records of {size}")
    return count


cdef bytes copy_of(object data):
    cdef Py_buffer view
    if PyBytes_CheckExact(data):
        return data
    view_open(data, &view)
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef Ring own(nx_ring_map *map):
    cdef Ring ring = Ring.__new__(Ring)
    ring.map = map
    # Free space is told after each get, so that a put is refused only when it does not fit.
    map.ring.publish_bytes = 0
    return ring


@cython.final
@cython.no_gc
cdef class Ring(RingHandle):
    """A ring of byte records in shared memory, for one consumer and one or many producers.

    Make one with `Ring.create`, pass its `fd` to another process (inheritance, SCM_RIGHTS), and
    open it there with `Ring.attach`. The first put makes the handle a producer, the first get
    its consumer; it stays so until it is closed or its process dies.

    A record that was put is seen whole, in order, or, if its producer was killed before the
    end of the put, not at all. A record is consumed when `get` returns: a consumer killed inside
    `get` may leave it for its successor or not. With `read` it is consumed at the release of the
    Span, so a consumer killed while it works leaves the record for its successor.
    """

    def __init__(self):
        raise TypeError("use Ring.create or Ring.attach")

    @staticmethod
    def create(capacity, *, kind="spsc", revocable=False):
        """Make a ring in a new memfd.

        Args:
            capacity: bytes for records, each with its word of 8 and rounded up to 8; rounded up
                to a power of two and to the page size; at most 2**30.
            kind: "spsc" for one producer, "mpsc" for up to 24.
            revocable: whether `revoke` can take the memory away from all peers.

        Raises:
            ValueError: a capacity of 0 or another kind.
            TooLargeError: a capacity above 2**30.
            OSError: the kernel refuses the memory or the file.
        """
        cdef nx_ring_map *map = NULL
        cdef uint64_t size = <uint64_t>as_size(capacity)
        cdef uint8_t flags = NX_RING_REVOCABLE if as_flag(revocable, "revocable") else 0
        if not isinstance(kind, str):
            raise TypeError(f"kind is a str, not {type(kind).__name__}")
        if kind not in KINDS:
            raise ValueError(f"kind is 'spsc' or 'mpsc', not {kind!r}")
        raise_code(
            nx_ring_map_create(size, KINDS[kind], flags, &map),
            f"a ring of {size} bytes",
        )
        return own(map)

    @staticmethod
    def attach(fd, *, wait_fd=None, revocable=False):
        """Open the ring in a file descriptor, which stays the caller's.

        Args:
            fd: as `Ring.fd` gave it, in this process's numbering.
            wait_fd: the consumer's `wait_fd`, so that this producer can wake an event loop.
            revocable: accept a ring whose memory can be taken away: a touch is then SIGBUS.

        Raises:
            CorruptError: not a ring, or one that contradicts itself.
            DeniedError: its memory could be taken away, and `revocable` is false.
            ValueError: `wait_fd` is not an eventfd.
            OSError: the descriptor is not open, or not for reading and writing.
        """
        cdef nx_ring_map *map = NULL
        cdef int number = <int>as_bounded(fd, 0x7FFFFFFF)
        cdef int wake = -1 if wait_fd is None else <int>as_bounded(wait_fd, 0x7FFFFFFF)
        cdef Ring ring
        cdef bint consent = as_flag(revocable, "revocable")
        raise_code(nx_ring_map_attach(number, consent, &map), f"file descriptor {number}")
        ring = own(map)
        if wake >= 0:
            raise_code(nx_ring_map_adopt_wake_fd(map, wake), f"wait_fd {wake}")
        return ring

    cdef int _count_drops(self, uint64_t count) except -1:
        if self.map.ring.kind == NX_RING_SPSC:
            nx_ring_count_drops(&self.map.ring, count)
        else:
            nx_mpsc_count_drops(&self.map.ring, count)
        return 0

    cdef int _refuse(self, int code, uint64_t size) except -1:
        """Full is an outcome and counts as a drop; the rest is raised."""
        if code == NX_EFULL:
            self._count_drops(1)
            return 0
        if code == NX_ETOOBIG:
            raise errors.TooLargeError(
                f"a record of {size} bytes; this ring takes at most {self.map.ring.payload_max}"
            )
        raise_code(code, "the shared positions of this ring")
        return 0

    def put(self, data, /):
        """Append one record; False when the ring is full.

        Raises:
            TooLargeError: the record is longer than `record_max`.
            BufferError: another handle is the producer, or a reserved Span is open.
            CorruptError: the consumer wrote an impossible position.
        """
        cdef Py_buffer view
        cdef uint64_t size
        cdef int code
        if PyBytes_CheckExact(data):
            ready_to_put(self)
            size = <uint64_t>PyBytes_GET_SIZE(data)
            code = put_one(self.map, PyBytes_AS_STRING(data), size)
        else:
            view_open(data, &view)
            try:
                ready_to_put(self)
                size = <uint64_t>view.len
                code = put_one(self.map, view.buf, size)
            finally:
                PyBuffer_Release(&view)
        if code == NX_OK:
            return True
        self._refuse(code, size)
        return False

    def get(self):
        """Take the oldest record as bytes; None when the ring is empty.

        Raises:
            BufferError: another handle is the consumer, or a shown Span is open.
            CorruptError: a producer wrote something that is no record; throw the ring away.
        """
        cdef const uint8_t *place = NULL
        cdef uint32_t size = 0
        cdef bytes record
        ready_to_get(self)
        if nx_ring_peek(&self.map.ring, &place, &size) != NX_OK:
            if not self.peek(&place, &size):
                return None
        record = PyBytes_FromStringAndSize(<const char *>place, size)
        nx_ring_release(&self.map.ring, size)
        nx_ring_map_notify_room(self.map)
        return record

    def send(self, data, /, timeout=None):
        """Append one record, asleep while there is no room for it; False when the time is over.

        `timeout` is in seconds, None for ever. The GIL is let go meanwhile, and Ctrl-C works.

        Raises:
            TooLargeError, BufferError, CorruptError: as `put`.
        """
        cdef bytes record = copy_of(data)
        cdef uint64_t size = <uint64_t>PyBytes_GET_SIZE(record)
        cdef int64_t limit = self.limit_of(timeout)
        cdef int64_t deadline = -1
        cdef int code
        while True:
            ready_to_put(self)
            code = put_one(self.map, PyBytes_AS_STRING(record), size)
            if code == NX_OK:
                return True
            if deadline < 0:
                deadline = nx_ring_map_clock() + limit
            if code != NX_EFULL or not self.wait_room(size, deadline):
                self._refuse(code, size)
                return False

    def recv(self, timeout=None):
        """Take the oldest record as bytes, asleep until there is one; None when the time is over.

        `timeout` is in seconds, None for ever. The GIL is let go meanwhile, and Ctrl-C works.

        Raises:
            BufferError, CorruptError: as `get`.
        """
        cdef int64_t limit = self.limit_of(timeout)
        cdef bytes record = self.get()
        if record is None and self.wait_record(nx_ring_map_clock() + limit):
            record = self.get()
        return record

    def put_many(self, records, /):
        """Append records in order, as many as fit, and return how many that were.

        All that fit appear at once if there is room for all of them. Bad records are found
        before the first one is put.

        Raises:
            TooLargeError, BufferError, CorruptError: as `put`.
        """
        cdef list prepared = records if type(records) is list else list(records)
        cdef PyObject *item
        cdef uint64_t total = 0
        cdef Py_ssize_t i
        for i in range(PyList_GET_SIZE(prepared)):
            if not nx_is_bytes(nx_list_item(prepared, i)):
                # Foreign buffers can run code of their own, so they are copied before we start.
                prepared = [copy_of(record) for record in prepared]
                break
        ready_to_put(self)
        for i in range(PyList_GET_SIZE(prepared)):
            item = nx_list_item(prepared, i)
            if <uint64_t>nx_bytes_size(item) > self.map.ring.payload_max:
                self._refuse(NX_ETOOBIG, <uint64_t>nx_bytes_size(item))
            total += nx_ring_occupied(<uint64_t>nx_bytes_size(item))
        return self._put_list(prepared, total)

    cdef uint64_t _put_list(self, list records, uint64_t total) except? 0:
        cdef nx_ring *ring = &self.map.ring
        cdef Py_ssize_t count = PyList_GET_SIZE(records)
        cdef Py_ssize_t done = 0
        cdef nx_ring_batch batch
        cdef PyObject *item
        cdef uint8_t *place = NULL
        cdef uint64_t at, size
        cdef uint64_t start = 0
        cdef int code = NX_OK
        if count == 0:
            return 0
        if ring.kind == NX_RING_SPSC:
            nx_ring_batch_begin(ring, &batch)
            while done < count:
                item = nx_list_item(records, done)
                size = <uint64_t>nx_bytes_size(item)
                code = nx_ring_batch_add(ring, &batch, size, &place)
                if code != NX_OK:
                    break
                memcpy(place, nx_bytes_data(item), size)
                done += 1
            nx_ring_batch_commit(ring, &batch)
        elif nx_mpsc_claim(ring, total, <uint64_t>count, &start) == NX_OK:
            at = start
            while done < count:
                item = nx_list_item(records, done)
                size = <uint64_t>nx_bytes_size(item)
                memcpy(nx_mpsc_place(ring, at), nx_bytes_data(item), size)
                if done != 0:
                    nx_mpsc_note(ring, at, size)
                at += nx_ring_occupied(size)
                done += 1
            size = <uint64_t>nx_bytes_size(nx_list_item(records, 0))
            nx_mpsc_commit(ring, start, nx_ring_occupied(size), size)
        else:
            while done < count:
                item = nx_list_item(records, done)
                code = nx_mpsc_put(ring, nx_bytes_data(item), <uint64_t>nx_bytes_size(item))
                if code != NX_OK:
                    break
                done += 1
        return self._end_batch(code, <uint64_t>count, <uint64_t>done, 0)

    cdef uint64_t _end_batch(self, int code, uint64_t count, uint64_t done,
                             uint64_t size) except? 0:
        if done != 0:
            nx_ring_map_notify(self.map)
        if code == NX_EFULL:
            self._count_drops(count - done)
        elif code != NX_OK and done == 0:
            self._refuse(code, size)
        return done

    def put_array(self, rows, /, record_size=None):
        """Append records of equal size from one buffer, and return how many fitted.

        Args:
            rows: any C-contiguous buffer, as a NumPy array; each row of it is a record.
            record_size: bytes of a record, where the buffer has one dimension only.

        Raises:
            ValueError: no record size, one of 0, or one that does not divide the buffer.
            TooLargeError, BufferError, CorruptError: as `put`.
        """
        cdef Py_buffer view
        cdef uint64_t size, count
        cdef uint64_t done = 0
        cdef int code
        PyObject_GetBuffer(rows, &view, PyBUF_ND | PyBUF_C_CONTIGUOUS)
        try:
            size = row_size(&view, record_size)
            count = row_count(&view, size)
            ready_to_put(self)
            code = nx_ring_put_rows(&self.map.ring, <const uint8_t *>view.buf, size, count, &done)
            return self._end_batch(code, count, done, size)
        finally:
            PyBuffer_Release(&view)

    def get_many(self, limit, /):
        """Take up to `limit` records, oldest first, as a list of bytes; empty when there is none.

        Raises:
            BufferError, CorruptError: as `get`; nothing is consumed then.
        """
        cdef Py_ssize_t most = as_size(limit)
        cdef list records = []
        cdef const uint8_t *place = NULL
        cdef uint32_t size = 0
        cdef nx_ring *ring
        cdef uint64_t position, records_out
        cdef bytes record
        ready_to_get(self)
        if most == 0 or not self.peek(&place, &size):
            return records
        ring = &self.map.ring
        position = ring.position
        records_out = ring.records_out
        try:
            while True:
                record = PyBytes_FromStringAndSize(<const char *>place, size)
                PyList_Append(records, record)
                nx_ring_skip(ring, size)
                most -= 1
                # What is odd behind a good record is for the next call.
                if most == 0 or nx_ring_peek(ring, &place, &size) != NX_OK:
                    break
        except MemoryError:
            ring.position = position
            ring.records_out = records_out
            raise
        nx_ring_settle(ring)
        nx_ring_map_notify_room(self.map)
        return records

    def get_into(self, rows, /, record_size=None):
        """Take records of equal size into a writable buffer, and return how many came.

        It ends before a record of another size.

        Args:
            rows: a C-contiguous buffer, as a NumPy array; each row takes a record.
            record_size: bytes of a record, where the buffer has one dimension only.

        Raises:
            ValueError: as `put_array`, or the very first record has another size.
            BufferError, CorruptError: as `get`.
        """
        cdef Py_buffer view
        cdef uint64_t size, count, done
        cdef const uint8_t *place = NULL
        cdef uint32_t length = 0
        PyObject_GetBuffer(rows, &view, PyBUF_ND | PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            size = row_size(&view, record_size)
            count = row_count(&view, size)
            ready_to_get(self)
            if count == 0 or not self.peek(&place, &length):
                return 0
            if length != size:
                raise ValueError(f"the next record has {length} bytes, not {size}")
            done = nx_ring_get_rows(&self.map.ring, <uint8_t *>view.buf, size, count)
            nx_ring_map_notify_room(self.map)
            return done
        finally:
            PyBuffer_Release(&view)

    def read(self):
        """Show the oldest record in place, as a read-only `Span`; None when the ring is empty.

        Until the Span is released or cancelled, this handle gets nothing else.

        Raises:
            BufferError, CorruptError: as `get`.
        """
        cdef const uint8_t *place = NULL
        cdef uint32_t size = 0
        ready_to_get(self)
        if not self.peek(&place, &size):
            return None
        return Span.show(self, place, size)

    def reserve(self, size, /):
        """Reserve a record of up to `size` bytes, as a writable `Span`; None when it is full.

        Until the Span is released or cancelled, this handle puts nothing else. The bytes are not
        cleared. On an mpsc ring the consumer waits for the Span while it is open.

        Raises:
            TooLargeError, BufferError, CorruptError: as `put`.
        """
        cdef uint64_t length = <uint64_t>as_size(size)
        cdef uint64_t position = 0
        cdef uint8_t *place = NULL
        cdef nx_ring *ring
        cdef int code
        ready_to_put(self)
        ring = &self.map.ring
        if length > ring.payload_max:
            code = NX_ETOOBIG
        elif ring.kind == NX_RING_SPSC:
            code = nx_ring_reserve(ring, length, &place)
        else:
            code = nx_mpsc_claim(ring, nx_ring_occupied(length), 1, &position)
            place = nx_mpsc_place(ring, position)
        if code != NX_OK:
            self._refuse(code, length)
            return None
        return Span.reserve(self, place, length, position)
