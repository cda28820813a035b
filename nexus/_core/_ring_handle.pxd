# cython: language_level=3
"""The ring kernels, and the handle of a ring as other wrappers see it."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "nx_ring_map.h" nogil:
    enum:
        NX_OK
        NX_EFULL
        NX_EEMPTY
        NX_EBUSY
        NX_ETOOBIG
        NX_EDENIED
        NX_ESYS
        NX_ETIMEOUT
        NX_ECLOSED
        NX_ECORRUPT
        NX_HEAL_NOW
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
    bint nx_ring_has_record(const nx_ring *ring)
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
    int nx_ring_map_wait_room(nx_ring_map *map, uint64_t size, int64_t timeout_ns)
    int nx_ring_map_wake_fd(nx_ring_map *map)
    int nx_ring_map_arm(nx_ring_map *map)
    bint nx_ring_map_is_closed(const nx_ring_map *map)
    void nx_ring_map_heed(nx_ring_map *map, const uint64_t *word, uint64_t bits)
    int64_t nx_ring_map_clock()
    void nx_ring_map_read_stats(const nx_ring_map *map, nx_ring_stats *ret)
    void nx_ring_map_notify(nx_ring_map *map)
    void nx_ring_map_notify_room(nx_ring_map *map)

cdef extern from "nx_ring_rows.h" nogil:
    int nx_ring_put_rows(nx_ring *ring, const uint8_t *rows, uint64_t size, uint64_t count,
                         uint64_t *ret)
    uint64_t nx_ring_get_rows(nx_ring *ring, uint8_t *rows, uint64_t size, uint64_t count)


cdef extern from "nx_fiber.h" nogil:
    enum:
        NX_FIBER_DESCRIPTOR_MAX
    ctypedef struct nx_fiber_life:
        uint64_t revoked
    int nx_fiber_life_map(int fd, const nx_fiber_life **ret)
    void nx_fiber_life_unmap(const nx_fiber_life *life)


cdef class RingHandle:
    # NULL when closed. The passes equal nx_owner_generation while this handle may put or get
    # at once: one compare covers closed, no role, forked, and Span in the way.
    cdef nx_ring_map *map
    cdef uint32_t put_pass
    cdef uint32_t get_pass
    cdef uint32_t writing
    cdef uint32_t reading
    cdef uint32_t waiting
    cdef int waiters
    cdef const nx_fiber_life *life
    cdef str what

    cdef int64_t limit_of(self, object timeout) except -1
    cdef int count_waiter(self) except -1
    cdef int check_open(self) except -1
    cdef int check_idle(self, str verb) except -1
    cdef int become_producer(self) except -1
    cdef int become_consumer(self) except -1
    cdef int refuse_revoked(self) except -1
    cdef int wait_record(self, int64_t deadline) except -1
    cdef int wait_room(self, uint64_t size, int64_t deadline) except -1
    cdef int peek(self, const uint8_t **place, uint32_t *size) except -1


cdef inline int ready_to_put(RingHandle ring) except -1:
    """The handle is the producer, and may be: one compare and one load, as a rule."""
    if ring.put_pass != nx_owner_generation:
        ring.become_producer()
    if nx_ring_map_is_closed(ring.map):
        ring.refuse_revoked()
    return 0


cdef inline int ready_to_get(RingHandle ring) except -1:
    """The handle is the consumer, and may be."""
    if ring.get_pass != nx_owner_generation:
        ring.become_consumer()
    if nx_ring_map_is_closed(ring.map):
        ring.refuse_revoked()
    return 0
