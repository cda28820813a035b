# cython: language_level=3
"""A place in a ring, and how `Ring` opens one."""

from nexus._core._ring_handle cimport *


cdef class Span:
    cdef RingHandle ring
    cdef uint8_t *place
    cdef uint64_t size
    cdef uint64_t position
    cdef uint32_t generation
    cdef int state
    cdef Py_ssize_t exports

    cdef int finish(self, bint keep, object length) except -1

    @staticmethod
    cdef Span open(RingHandle ring, int state, uint8_t *place, uint64_t size)

    @staticmethod
    cdef Span show(RingHandle ring, const uint8_t *place, uint64_t size)

    @staticmethod
    cdef Span reserve(RingHandle ring, uint8_t *place, uint64_t size, uint64_t position)
