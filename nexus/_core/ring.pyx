"""Rings of byte records between processes, over the kernels of nx_ring.h.

A put and a get hold the GIL, which is what makes one handle safe to share between threads of
one process; only `wait` lets it go. The wrapper adds nothing to the guarantees of the headers but
the bookkeeping of Spans: a place that is shown or reserved keeps its ring from being closed.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_ND,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.bool cimport PyBool_Check
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.float cimport PyFloat_AsDouble
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from nexus._core._args cimport as_bounded, as_size, as_u64, view_open
from nexus._core._errors cimport raise_code

from typing import NamedTuple

from nexus.errors import ClosedError, TooLargeError

cdef extern from "nx_ring_map.h" nogil:
    enum:
        NX_OK
        NX_EFULL
        NX_EEMPTY
        NX_EBUSY
        NX_ECORRUPT
        NX_ETOOBIG
        NX_ESYS
        NX_ETIMEOUT
        NX_RING_SPSC
        NX_RING_MPSC
        NX_RING_REVOCABLE

    ctypedef struct nx_ring_header:
        uint64_t producer_owner
        uint64_t consumer_owner

    ctypedef struct nx_ring:
        nx_ring_header *header
        uint64_t mask
        uint32_t payload_max
        uint8_t kind
        uint8_t flags
        uint64_t head
        uint64_t records_in
        uint64_t position
        uint64_t records_out
        uint64_t publish_bytes

    ctypedef struct nx_ring_batch:
        uint64_t count

    ctypedef struct nx_ring_stats:
        uint64_t records_in, records_out, waiting, waiting_bytes
        uint64_t drops, losses, high_water, wakes_lost

    ctypedef struct nx_ring_map:
        nx_ring ring
        int fd
        int wake_fd

    uint32_t nx_owner_generation
    uint32_t nx_owner_pid(uint64_t owner)
    uint64_t nx_ring_occupied(uint64_t size)
    int nx_ring_reserve(nx_ring *ring, uint64_t size, uint8_t **ret)
    void nx_ring_commit(nx_ring *ring, uint64_t size)
    int nx_ring_put(nx_ring *ring, const void *payload, uint64_t size)
    void nx_ring_count_drops(nx_ring *ring, uint64_t count)
    void nx_ring_batch_begin(const nx_ring *ring, nx_ring_batch *batch)
    int nx_ring_batch_add(nx_ring *ring, nx_ring_batch *batch, uint64_t size, uint8_t **ret)
    void nx_ring_batch_commit(nx_ring *ring, const nx_ring_batch *batch)
    int nx_ring_peek(nx_ring *ring, const uint8_t **ret, uint32_t *ret_size)
    void nx_ring_skip(nx_ring *ring, uint32_t size)
    void nx_ring_settle(nx_ring *ring)
    void nx_ring_release(nx_ring *ring, uint32_t size)
    int nx_mpsc_claim(nx_ring *ring, uint64_t bytes, uint64_t count, uint64_t *ret_position)
    void nx_mpsc_commit(nx_ring *ring, uint64_t position, uint64_t bytes, uint64_t size)
    void nx_mpsc_abort(nx_ring *ring, uint64_t position, uint64_t bytes)
    void nx_mpsc_note(nx_ring *ring, uint64_t position, uint64_t size)
    int nx_mpsc_put(nx_ring *ring, const void *payload, uint64_t size)
    void nx_mpsc_count_drops(nx_ring *ring, uint64_t count)
    uint8_t *nx_mpsc_place(const nx_ring *ring, uint64_t position)
    int nx_ring_map_create(uint64_t capacity, uint8_t kind, uint8_t flags, nx_ring_map **ret)
    int nx_ring_map_attach(int fd, bint revocable, nx_ring_map **ret)
    int nx_ring_map_adopt_wake_fd(nx_ring_map *map, int fd)
    void nx_ring_map_destroy(nx_ring_map *map)
    int nx_ring_map_take_producer(nx_ring_map *map, bint force)
    int nx_ring_map_take_consumer(nx_ring_map *map, bint force)
    int nx_ring_map_heal(nx_ring_map *map, int flags)
    int nx_ring_map_repair(nx_ring_map *map, bint force, uint64_t *ret_count)
    int nx_ring_map_revoke(nx_ring_map *map)
    int nx_ring_map_wait(nx_ring_map *map, int64_t timeout_ns)
    int nx_ring_map_wake_fd(nx_ring_map *map)
    int nx_ring_map_arm(nx_ring_map *map)
    int64_t nx_ring_map_clock()
    void nx_ring_map_read_stats(const nx_ring_map *map, nx_ring_stats *ret)
    void nx_ring_map_notify(nx_ring_map *map)

cdef extern from *:
    """
    /* PyList_GET_ITEM as a borrowed pointer, so that the loops below touch no reference counts. */
    #define nx_list_item(list, i) ((PyObject *)PyList_GET_ITEM(list, i))
    """
    PyObject *nx_list_item(object list, Py_ssize_t i)

# A century: so long as forever, and no sum with it overflows.
DEF_FOREVER = None
cdef int64_t FOREVER_NS = 3_200_000_000 * <int64_t>1_000_000_000


class RingStats(NamedTuple):
    """Counters of a ring since it was made, over all its producers and consumers."""

    records_in: int
    records_out: int
    waiting: int
    waiting_bytes: int
    drops: int
    losses: int
    high_water: int
    wakes_lost: int
