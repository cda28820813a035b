"""The garbage of a store: marks, and packs that are moved; the theory is in nx_sweep.h."""

cimport cython
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free

from nexus._core._args cimport as_u64
from nexus._core._entry cimport as_id
from nexus._core._errors cimport raise_code
from nexus._core._store cimport nx_store
from nexus._core.store cimport Store

from nexus import errors

cdef extern from "nx_sweep.h":
    ctypedef struct nx_sweep:
        pass
    ctypedef struct nx_sweep_pack:
        uint64_t number
        uint64_t length
        uint64_t records
        uint64_t live
    ctypedef struct nx_sweep_weight:
        uint64_t live
        uint64_t dead
        uint64_t stale
    ctypedef struct nx_sweep_marks:
        uint64_t live
        uint64_t missing
        uint64_t bytes
    int nx_sweep_create(nx_store *, nx_sweep **) nogil
    void nx_sweep_destroy(nx_sweep *) nogil
    int nx_sweep_set_level(nx_sweep *, int, int) nogil
    int nx_sweep_mark(nx_sweep *, const uint8_t *) nogil
    int nx_sweep_keep(nx_sweep *, const uint8_t *) nogil
    nx_sweep_marks nx_sweep_marked(const nx_sweep *) nogil
    int nx_sweep_count(const nx_sweep *, nx_sweep_pack **, size_t *) nogil
    int nx_sweep_weigh(nx_sweep *, uint64_t, nx_sweep_weight *) nogil
    int nx_sweep_move(nx_sweep *, uint64_t) nogil
    int nx_sweep_drop(nx_sweep *, uint64_t) nogil
    int nx_sweep_purge(nx_sweep *, uint64_t *) nogil

cdef extern from "nx_reindex.h":
    int nx_store_reindex(nx_store *, uint64_t *) nogil


def reindex(Store store not None) -> int:
    """Makes the index anew from the packs alone; how many records it has."""
    cdef uint64_t records = 0
    cdef int code
    store.own()
    try:
        with nogil:
            code = nx_store_reindex(store.store, &records)
        raise_code(code, "the index of the store")
    finally:
        store.busy = False
    return records


@cython.final
@cython.no_gc_clear
cdef class Sweep:
    """A sweep of a store; nothing else is put as long as it is there.

    Args:
        store: opened for writing, with nothing that was not flushed.
    """

    cdef Store store
    cdef nx_sweep *sweep

    def __cinit__(self, Store store not None):
        store.check()
        self.store = store
        raise_code(nx_sweep_create(store.store, &self.sweep), "the marks of a sweep")

    def __dealloc__(self):
        # Without its store there is nothing that it could give back.
        if self.sweep != NULL and self.store.store != NULL:
            nx_sweep_destroy(self.sweep)

    cdef int own(self) except -1:
        if self.sweep == NULL:
            raise errors.ClosedError("the sweep is closed")
        return self.store.own()

    def close(self) -> None:
        """Forgets the marks; before the store is closed."""
        self.own()
        self.store.busy = False
        nx_sweep_destroy(self.sweep)
        self.sweep = NULL

    def set_level(self, int level, int delta_level) -> None:
        """Blocks that are moved get this level, if they have another."""
        self.own()
        self.store.busy = False
        raise_code(nx_sweep_set_level(self.sweep, level, delta_level), "the level")

    def mark(self, bytes root not None) -> None:
        """Everything that a tree needs."""
        cdef const uint8_t *wanted = as_id(root)
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_mark(self.sweep, wanted)
            raise_code(code, f"tree {root.hex()}")
        finally:
            self.store.busy = False

    def keep(self, bytes identity not None) -> None:
        """One object that no tree names."""
        cdef const uint8_t *wanted = as_id(identity)
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_keep(self.sweep, wanted)
            raise_code(code, f"object {identity.hex()}")
        finally:
            self.store.busy = False

    def marked(self) -> tuple:
        """Objects that are needed, data that is not there, bytes of memory for the marks."""
        cdef nx_sweep_marks marks
        self.own()
        self.store.busy = False
        marks = nx_sweep_marked(self.sweep)
        return marks.live, marks.missing, marks.bytes

    def packs(self) -> list:
        """Of each pack number, length, records of the index, and how many of these are needed."""
        cdef nx_sweep_pack *packs = NULL
        cdef size_t count = 0
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_count(self.sweep, &packs, &count)
            raise_code(code, "the packs of a sweep")
            return [
                (packs[i].number, packs[i].length, packs[i].records, packs[i].live)
                for i in range(count)
            ]
        finally:
            self.store.busy = False
            free(packs)

    def weigh(self, object number) -> tuple:
        """Bytes of a pack that are needed, that are not, and that are not of the level."""
        cdef uint64_t which = as_u64(number)
        cdef nx_sweep_weight weight
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_weigh(self.sweep, which, &weight)
            raise_code(code, f"pack {number}")
            return weight.live, weight.dead, weight.stale
        finally:
            self.store.busy = False

    def move(self, object number) -> None:
        """What is needed of a pack is in others, and on the medium."""
        cdef uint64_t which = as_u64(number)
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_move(self.sweep, which)
            raise_code(code, f"pack {number}")
        finally:
            self.store.busy = False

    def drop(self, object number) -> None:
        """The pack is no part of the store any more."""
        cdef uint64_t which = as_u64(number)
        self.own()
        self.store.busy = False
        raise_code(nx_sweep_drop(self.sweep, which), f"pack {number}")

    def purge(self) -> int:
        """The index without records of packs that are not there; how many there were."""
        cdef uint64_t gone = 0
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_sweep_purge(self.sweep, &gone)
            raise_code(code, "the index of the store")
            return gone
        finally:
            self.store.busy = False
