# cython: language_level=3
"""How wrappers read a time in seconds: an int or a float, never a bool, finite, not negative."""

from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_AsDouble, PyFloat_Check
from cpython.number cimport PyNumber_Index
from libc.stdint cimport uint64_t


cdef inline uint64_t as_ns(object seconds, double maximum) except? 0xFFFFFFFFFFFFFFFF:
    """Nanoseconds of a time of at most `maximum` seconds."""
    cdef double value
    if PyBool_Check(seconds):
        raise TypeError("a time in seconds is required, not bool")
    value = PyFloat_AsDouble(seconds if PyFloat_Check(seconds) else PyNumber_Index(seconds))
    if not 0.0 <= value <= maximum:
        raise ValueError(f"{seconds!r} is not a time of 0 to {maximum:g} seconds")
    return <uint64_t>(value * 1e9)
