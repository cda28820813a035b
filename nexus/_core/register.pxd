# cython: language_level=3
"""Registers and fields as C sees them."""

from libc.stdint cimport uint32_t, uint64_t

from nexus._core._window cimport nx_mmio
from nexus._core.mmio cimport Mmio


cdef class Register:
    cdef nx_mmio *region         # of `window`, which keeps it alive
    cdef uint64_t position
    cdef uint64_t full           # all bits of the register
    cdef uint64_t carried        # bits that a partial write reads and writes back
    cdef uint64_t shadowed       # bits that a partial write takes from the shadow
    cdef uint64_t ones           # bits that a partial write sets, because 1 does nothing
    cdef uint64_t read_acts      # bits that a read changes
    cdef uint64_t write_acts     # bits that any write changes
    cdef uint64_t described      # bits of fields
    cdef uint64_t shadow_value
    cdef uint32_t size
    cdef uint32_t flags
    cdef bint big
    cdef Mmio window
    cdef dict members            # all fields
    cdef dict visible            # those whose names the class does not use itself
    cdef readonly str name
    cdef readonly str access

    cdef int _classify(self, uint64_t mask, uint32_t bits) except -1
    cdef int _add(self, object spec) except -1
    cdef int fail(self, int code) except -1
    cdef object get(self)
    cdef int write_masked(self, uint64_t mask, uint64_t value) except -1


cdef class Field:
    cdef uint64_t maximum
    cdef uint32_t flags
    cdef Register parent
    cdef dict numbers
    cdef readonly dict labels
    cdef readonly uint64_t mask
    cdef readonly uint32_t lsb
    cdef readonly str name
    cdef readonly object spec

    cdef uint64_t encode(self, object value) except? 0xFFFFFFFFFFFFFFFF
