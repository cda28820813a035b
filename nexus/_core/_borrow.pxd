# cython: language_level=3
"""Bytes lent by an object for the length of one call: exact bytes for free, others by Py_buffer."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t


cdef struct borrowed:
    const uint8_t *data
    size_t size
    bint viewed  # false for exact bytes, which the caller keeps alive itself
    Py_buffer view


cdef inline int borrow(object data, borrowed *ret) except -1:
    """Fill `ret`; every success needs one give_back."""
    if PyBytes_CheckExact(data):
        ret.viewed = False
        ret.data = <const uint8_t *>PyBytes_AS_STRING(data)
        ret.size = <size_t>PyBytes_GET_SIZE(data)
        return 0
    PyObject_GetBuffer(data, &ret.view, PyBUF_SIMPLE)
    ret.viewed = True
    ret.data = <const uint8_t *>ret.view.buf
    ret.size = <size_t>ret.view.len
    return 0


cdef inline void give_back(borrowed *lent) noexcept:
    if lent.viewed:
        PyBuffer_Release(&lent.view)
