"""The handle of a ring: its life, its roles, its counters, and waiting for it.

What `Ring` adds to it is putting and getting.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

from typing import NamedTuple

from nexus import errors

from nexus._core._args cimport as_bounded, as_flag
from nexus._core._errors cimport raise_code
from nexus._core._seconds cimport as_ns

cdef double SECONDS_MAX = 1e9
cdef int64_t FOREVER_NS = 1 << 60


class RingStats(NamedTuple):
    """Counters of a ring since it was made, over all its producers and consumers.

    Attributes:
        records_in: records committed.
        records_out: records consumed.
        waiting: records committed and not consumed.
        waiting_bytes: the bytes they occupy, with their words and with claims under way.
        drops: records refused because the ring was full.
        losses: claims of killed producers that were replaced by padding (mpsc).
        high_water: most bytes ever in use, at most 1/64 of the capacity too small.
        wakes_lost: wakes that an armed consumer missed because the producer lacks its eventfd.
    """

    records_in: int
    records_out: int
    waiting: int
    waiting_bytes: int
    drops: int
    losses: int
    high_water: int
    wakes_lost: int


@cython.no_gc
cdef class RingHandle:
    """A mapped ring, the roles that this handle holds, and what keeps it from being closed."""

    cdef int check_open(self) except -1:
        if self.map is NULL:
            raise errors.ClosedError("the ring is closed")
        return 0

    cdef int check_idle(self, str verb) except -1:
        """Refuse while a Span or a sleeping thread of this very process uses the memory."""
        if self.writing == nx_owner_generation or self.reading == nx_owner_generation:
            raise BufferError(f"cannot {verb} a ring while a Span of it is open")
        if self.waiters != 0 and self.waiting == nx_owner_generation:
            raise BufferError(f"cannot {verb} a ring while a thread waits for it")
        return 0

    cdef int become_producer(self) except -1:
        cdef int code
        self.check_open()
        if self.writing == nx_owner_generation:
            raise BufferError("a reserved Span of this ring is open: release or cancel it first")
        code = nx_ring_map_take_producer(self.map, False)
        if code == NX_EBUSY:
            pid = nx_owner_pid(self.map.ring.header.producer_owner)
            raise BufferError(f"process {pid} is the producer of this ring, or another handle is")
        raise_code(code, "the producers of this ring")
        self.put_pass = nx_owner_generation
        return 0

    cdef int become_consumer(self) except -1:
        cdef int code
        self.check_open()
        if self.reading == nx_owner_generation:
            raise BufferError("a shown Span of this ring is open: release or cancel it first")
        code = nx_ring_map_take_consumer(self.map, False)
        if code == NX_EBUSY:
            pid = nx_owner_pid(self.map.ring.header.consumer_owner)
            raise BufferError(f"process {pid} is the consumer of this ring, or another handle is")
        raise_code(code, "the consumer's place in this ring")
        self.get_pass = nx_owner_generation
        return 0

    cdef int refuse_revoked(self) except -1:
        raise errors.RevokedError(
            f"{self.what} was revoked, at this end or at the other",
            hint="nexus cap grant gives it back: see docs/guides/node.md",
        )

    cdef int peek(self, const uint8_t **place, uint32_t *size) except -1:
        """1 and a record, or 0 when there is none."""
        cdef int code
        while True:
            code = nx_ring_peek(&self.map.ring, place, size)
            if code == NX_OK:
                return 1
            if code == NX_EEMPTY:
                code = nx_ring_map_heal(self.map, 0)
                if code == NX_OK:
                    continue
                if code == NX_EEMPTY or code == NX_EBUSY:
                    return 0
            raise_code(code, "the record at the consumer's position")

    cdef int64_t limit_of(self, object timeout) except -1:
        """Nanoseconds of a time in seconds, or of None for ever."""
        return FOREVER_NS if timeout is None else <int64_t>as_ns(timeout, SECONDS_MAX)

    cdef int count_waiter(self) except -1:
        """One more thread of this very process sleeps; those of a parent do not count."""
        if self.waiting != nx_owner_generation:
            self.waiting = nx_owner_generation
            self.waiters = 0
        self.waiters += 1
        return 0

    cdef int wait_record(self, int64_t deadline) except -1:
        """1 when a record waits, 0 at the deadline."""
        cdef int64_t left
        cdef nx_ring_map *map
        cdef const uint8_t *place = NULL
        cdef uint32_t size = 0
        cdef int code
        self.count_waiter()
        try:
            while True:
                ready_to_get(self)
                map = self.map
                if self.peek(&place, &size):
                    return 1
                left = deadline - nx_ring_map_clock()
                if left <= 0:
                    return 0
                with nogil:
                    code = nx_ring_map_wait(map, left)
                if code == NX_ESYS:
                    if errno != EINTR:
                        PyErr_SetFromErrno(OSError)
                    PyErr_CheckSignals()
                elif code == NX_ECLOSED:
                    self.refuse_revoked()
                elif code == NX_EBUSY:
                    nx_ring_map_heal(map, NX_HEAL_NOW)
        finally:
            self.waiters -= 1

    cdef int wait_room(self, uint64_t size, int64_t deadline) except -1:
        """1 when a put of `size` bytes is worth a try, 0 at the deadline."""
        cdef nx_ring_map *map = self.map
        cdef int64_t left = deadline - nx_ring_map_clock()
        cdef int code
        if left <= 0:
            return 0
        self.count_waiter()
        try:
            with nogil:
                code = nx_ring_map_wait_room(map, size, left)
        finally:
            self.waiters -= 1
        if code == NX_ESYS:
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            PyErr_CheckSignals()
        if code == NX_ECLOSED:
            self.refuse_revoked()
        return 1 if code != NX_ETIMEOUT else 0

    def wait(self, timeout=None):
        """Sleep until a record waits; the GIL is let go meanwhile, and Ctrl-C works.

        Args:
            timeout: seconds, None for ever. The thread spins 30 us before it sleeps, as long as
                records do come within that time.

        Returns:
            Whether a record waits; False when the time is over.

        Raises:
            BufferError, CorruptError: as `Ring.get`.
        """
        return bool(self.wait_record(nx_ring_map_clock() + self.limit_of(timeout)))

    def arm(self):
        """Ask producers to make `wait_fd` readable with the next record.

        Returns:
            True when they were asked; False when a record waits already: get it first.

        Raises:
            BufferError, CorruptError: as `Ring.get`.
            OSError: no eventfd could be made.
        """
        cdef int code
        ready_to_get(self)
        code = nx_ring_map_arm(self.map)
        if code == NX_EBUSY:
            return False
        raise_code(code, None)
        return True

    @property
    def wait_fd(self):
        """An eventfd for an event loop, made at first use; it belongs to the ring.

        It becomes readable once after `arm`. Producers in other processes need it too:
        `Ring.attach(fd, wait_fd=...)`.
        """
        self.check_open()
        if nx_ring_map_wake_fd(self.map) < 0:
            PyErr_SetFromErrno(OSError)
        return self.map.wake_fd

    def repair(self, *, force=False):
        """Settle what dead peers left, and return how many roles and claims that were.

        Roles of dead processes become free; claims of dead producers become padding, unless a
        living consumer is there, who does that by itself. Taking a role does all this too.

        Args:
            force: count every other owner as dead. The caller vouches for it, as a parent that
                has reaped its children can; needed where a peer lives in another pid namespace.

        Raises:
            BufferError: a Span is open or a thread waits.
            CorruptError: the shared positions contradict themselves.
        """
        cdef uint64_t count = 0
        cdef bint vouched = as_flag(force, "force")
        self.check_open()
        self.check_idle("repair")
        raise_code(nx_ring_map_repair(self.map, vouched, &count), "what dead peers left")
        return count

    def succeed(self, role):
        """Take a role from an earlier life of this program, whose end the caller vouches for.

        What `repair(force=True)` is for both roles, this is for one: the peer's is not touched.

        Args:
            role: "producer" or "consumer".

        Raises:
            BufferError: another handle of this process holds the role.
            CorruptError: the shared positions contradict themselves.
        """
        self.check_open()
        self.check_idle("take over")
        if role == "producer":
            raise_code(nx_ring_map_take_producer(self.map, True), "the producers of this ring")
            self.put_pass = nx_owner_generation
        elif role == "consumer":
            raise_code(nx_ring_map_take_consumer(self.map, True), "the consumer's place")
            self.get_pass = nx_owner_generation
        else:
            raise ValueError(f"a role is 'producer' or 'consumer', not {role!r}")

    def heed(self, life, number, what, /):
        """Obey a life page: what the supervisor revoked, neither puts nor gets from then on.

        Args:
            life: descriptor of the page; stays the caller's.
            number: of the handle; its bit of the page's word `revoked`.
            what: how errors name this ring.

        Raises:
            ValueError: the file does not have 64 bytes.
            OSError: the descriptor is not open, or cannot be mapped for reading.
        """
        cdef const nx_fiber_life *page = NULL
        cdef int descriptor = <int>as_bounded(life, 0x7FFFFFFF)
        cdef uint64_t shift = <uint64_t>as_bounded(number, NX_FIBER_DESCRIPTOR_MAX)
        self.check_open()
        if self.life is not NULL:
            raise ValueError("this ring obeys a life page already")
        if not isinstance(what, str):
            raise TypeError(f"a name is a str, not {type(what).__name__}")
        raise_code(nx_fiber_life_map(descriptor, &page), "a life page has 64 bytes")
        self.life = page
        self.what = what
        nx_ring_map_heed(self.map, &page.revoked, <uint64_t>1 << shift)

    def stats(self):
        """The counters of the ring, as `RingStats`; each is true for itself."""
        cdef nx_ring_stats now
        self.check_open()
        nx_ring_map_read_stats(self.map, &now)
        return RingStats(
            now.records_in, now.records_out, now.waiting, now.waiting_bytes, now.drops,
            now.losses, now.high_water, now.wakes_lost,
        )

    def revoke(self):
        """Take the memory away from all peers, and close.

        Their next touch is SIGBUS; they can map nothing of it again.

        Raises:
            DeniedError: the ring was not made revocable.
            BufferError: a Span is open or a thread waits.
        """
        self.check_open()
        self.check_idle("revoke")
        raise_code(nx_ring_map_revoke(self.map), "this ring is not revocable")
        self.close()

    def close(self):
        """Give the roles back and unmap; closing twice is nothing.

        Raises:
            BufferError: a Span is open or a thread waits.
        """
        if self.map is NULL:
            return
        self.check_idle("close")
        nx_ring_map_destroy(self.map)
        self.map = NULL
        self.put_pass = 0
        self.get_pass = 0

    def __dealloc__(self):
        if self.map is not NULL:
            nx_ring_map_destroy(self.map)
        if self.life is not NULL:
            nx_fiber_life_unmap(self.life)

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __len__(self):
        cdef nx_ring_stats now
        self.check_open()
        nx_ring_map_read_stats(self.map, &now)
        return <Py_ssize_t>now.waiting

    @property
    def closed(self):
        """Whether it was closed."""
        return self.map is NULL

    @property
    def fd(self):
        """The memfd; it belongs to the ring and closes with it."""
        self.check_open()
        return self.map.fd

    @property
    def capacity(self):
        """Bytes for records and their words of 8."""
        self.check_open()
        return self.map.ring.mask + 1

    @property
    def record_max(self):
        """Bytes of the longest record it takes: the capacity less 16."""
        self.check_open()
        return self.map.ring.payload_max

    @property
    def kind(self):
        """"spsc" for one producer, "mpsc" for many."""
        self.check_open()
        return "spsc" if self.map.ring.kind == NX_RING_SPSC else "mpsc"

    @property
    def revocable(self):
        """Whether `revoke` can take the memory away."""
        self.check_open()
        return (self.map.ring.flags & NX_RING_REVOCABLE) != 0

    def __repr__(self):
        if self.map is NULL:
            return "<Ring closed>"
        return f"<Ring {self.kind} fd={self.fd} capacity={self.capacity} waiting={len(self)}>"

    def __reduce__(self):
        raise TypeError("a Ring is passed to another process by its fd, it cannot be pickled")
