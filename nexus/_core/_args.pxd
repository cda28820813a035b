# cython: language_level=3
"""How every Cython wrapper reads its arguments: one rule, inlined everywhere.

An integer argument is an int or anything with __index__ (NumPy integers), never a bool
and never a float: a register value of True or an offset of 1.5 is a slip, not a wish.
Too small or too large raises OverflowError and changes nothing.
"""

from cpython.bool cimport PyBool_Check
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyObject_GetBuffer
from cpython.long cimport PyLong_AsUnsignedLongLong
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint32_t, uint64_t


cdef extern from *:
    """
    /* Most numbers are exact ints of one or two digits: read them where they lie. */
    static inline int nx_int_digits(PyObject *value, uint64_t *ret)
    {
        if (!PyLong_CheckExact(value)) {
            return 0;
        }
    #if PY_VERSION_HEX >= 0x030C0000
        uintptr_t tag = ((PyLongObject *)value)->long_value.lv_tag;
        const digit *digits = ((PyLongObject *)value)->long_value.ob_digit;
        Py_ssize_t count = (tag & 3) == 2 ? -1 : (Py_ssize_t)(tag >> 3);
    #else
        Py_ssize_t count = Py_SIZE(value);
        const digit *digits = ((PyLongObject *)value)->ob_digit;
    #endif
        if (count == 1) {
            *ret = digits[0];
            return 1;
        }
        if (count == 2) {
            *ret = digits[0] | (uint64_t)digits[1] << PyLong_SHIFT;
            return 1;
        }
        return 0;
    }
    """
    bint nx_int_digits(object, uint64_t *)


cdef inline uint64_t _as_u64_any(object value) except? 0xFFFFFFFFFFFFFFFF:
    if PyBool_Check(value):
        raise TypeError("an integer is required, not bool")
    return PyLong_AsUnsignedLongLong(PyNumber_Index(value))


cdef inline int _too_large(uint64_t number, uint64_t maximum) except -1:
    raise OverflowError(f"{number} is larger than {maximum}")


cdef inline uint64_t as_u64(object value) except? 0xFFFFFFFFFFFFFFFF:
    """An unsigned 64-bit integer."""
    cdef uint64_t number = 0
    if nx_int_digits(value, &number):
        return number
    return _as_u64_any(value)


cdef inline uint64_t as_bounded(object value, uint64_t maximum) except? 0xFFFFFFFFFFFFFFFF:
    """An unsigned integer of at most `maximum`."""
    cdef uint64_t number = as_u64(value)
    if number > maximum:
        _too_large(number, maximum)
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
