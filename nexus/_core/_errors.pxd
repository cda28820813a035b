"""Turning a kernel's result code into the exception of nexus.errors it stands for."""

cdef int raise_code(int code, object what) except -1
