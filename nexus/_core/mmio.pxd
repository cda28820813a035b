# cython: language_level=3
"""The register window as other wrappers see it."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from nexus._core._window cimport *


cdef class Mmio(Window):
    cdef int _transfer(self, int kind, object offset, uint32_t size, uint64_t count,
                       void *data) except -1
    cdef list _read_list(self, int kind, object offset, object count, object width)
    cdef int _write_list(self, int kind, object offset, list values, object width) except -1
    cdef Py_ssize_t _use_buffer(self, int kind, object offset, object buffer, object width,
                                bint writable) except -1
    cdef bint _poll_is_over(self, nx_mmio_wait *wait, uint64_t end) noexcept
