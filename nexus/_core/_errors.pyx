"""The one table from NX_E* result codes to exceptions.

`raise_code` returns 0 for NX_OK, so a wrapper writes `raise_code(nx_thing(...), "thing")`
and nothing else.
"""

from libc.errno cimport errno

import os

from nexus import errors

cdef extern from "nx_base.h":
    enum:
        NX_OK
        NX_EINVAL
        NX_ERANGE
        NX_EALIGN
        NX_ENOMEM
        NX_ECLOSED
        NX_EFULL
        NX_EEMPTY
        NX_EBUSY
        NX_ESTALE
        NX_EDENIED
        NX_ECORRUPT
        NX_ETOOBIG
        NX_EABSENT
        NX_ETIMEOUT
        NX_ESYS
        NX_EFAULT
        NX_EMEDIUM

cdef dict _CLASSES = {
    NX_EINVAL: ValueError,
    NX_ERANGE: errors.OutOfRangeError,
    NX_EALIGN: errors.MisalignedError,
    NX_ENOMEM: MemoryError,
    NX_ECLOSED: errors.ClosedError,
    NX_EFULL: errors.FullError,
    NX_EEMPTY: errors.EmptyError,
    NX_EBUSY: BufferError,
    NX_ESTALE: errors.StaleError,
    NX_EDENIED: errors.DeniedError,
    NX_ECORRUPT: errors.CorruptError,
    NX_ETOOBIG: errors.TooLargeError,
    NX_EABSENT: errors.AbsentError,
    NX_ETIMEOUT: errors.DeadlineError,
    NX_EFAULT: errors.FaultError,
    NX_EMEDIUM: errors.MediumError,
}


cdef int raise_code(int code, object what) except -1:
    cdef int saved = errno
    if code == NX_OK:
        return 0
    if code == NX_ESYS:
        raise OSError(saved, os.strerror(saved), what) if what is not None else OSError(
            saved, os.strerror(saved)
        )
    raise _CLASSES[code](what)
