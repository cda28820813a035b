# cython: language_level=3
"""How every Cython wrapper reads its arguments: one rule, inlined everywhere.

An integer argument is an int or anything with __index__ (NumPy integers), never a bool
and never a float: a register value of True or an offset of 1.5 is a slip, not a wish.
Too small or too large raises OverflowError and changes nothing.
"""

from cpython.bool cimport PyBool_Check
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyObject_GetBuffer
from cpython.long cimport PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t as_u64(object value) except? 0xFFFFFFFFFFFFFFFF:
    """An unsigned 64-bit integer."""
    if PyLong_CheckExact(value):
        return PyLong_AsUnsignedLongLong(value)
    if PyBool_Check(value):
        raise TypeError("an integer is required, not bool")
    return PyLong_AsUnsignedLongLong(PyNumber_Index(value))


cdef inline uint64_t as_bounded(object value, uint64_t maximum) except? 0xFFFFFFFFFFFFFFFF:
    """An unsigned integer of at most `maximum`."""
    cdef uint64_t number = as_u64(value)
    if number > maximum:
        raise OverflowError(f"{number} is larger than {maximum}")
    return number


cdef inline Py_ssize_t as_size(object value) except -1:
    """A size, count or index that fits the address space."""
    return <Py_ssize_t>as_bounded(value, 0x7FFFFFFFFFFFFFFF)


cdef inline int view_open(object data, Py_buffer *view) except -1:
    """Borrow the bytes of any C-contiguous buffer for reading; release with PyBuffer_Release."""
    PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    return 0


cdef inline int view_open_writable(object data, Py_buffer *view) except -1:
    """Borrow the bytes of any writable C-contiguous buffer; release with PyBuffer_Release."""
    PyObject_GetBuffer(data, view, PyBUF_WRITABLE)
    return 0


cdef inline bint as_flag(object value, str name) except -1:
    """A bool and nothing that is merely true or false."""
    if not PyBool_Check(value):
        raise TypeError(f"{name} is a bool, not {type(value).__name__}")
    return value is True
