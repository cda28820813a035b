# cython: language_level=3
"""The ring as other wrappers see it."""

from nexus._core._ring_handle cimport *


cdef class Ring(RingHandle):
    cdef int _count_drops(self, uint64_t count) except -1
    cdef int _refuse(self, int code, uint64_t size) except -1
    cdef uint64_t _put_list(self, list records, uint64_t total) except? 0
    cdef uint64_t _end_batch(self, int code, uint64_t count, uint64_t done,
                             uint64_t size) except? 0
