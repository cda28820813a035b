"""Logs that hold a store: making one, and what its state says before it is opened."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint8_t

from nexus._core._args cimport as_bounded
from nexus._core._errors cimport raise_code
from nexus._core._store cimport (
    nx_backing, nx_flash, nx_onlog, nx_onlog_backing, nx_onlog_close, nx_onlog_format,
    nx_onlog_open, state_of,
)


def format_log(object medium, str path, bytes volume not None, *, object storage_class) -> None:
    """Makes a medium an empty log for a store; `medium` is a capsule "nexus.flash"."""
    cdef const nx_flash *flash = <const nx_flash *>PyCapsule_GetPointer(medium, "nexus.flash")
    cdef const uint8_t *identity = <const uint8_t *>PyBytes_AS_STRING(volume)
    cdef unsigned which = <unsigned>as_bounded(storage_class, 2)
    cdef int code
    if PyBytes_GET_SIZE(volume) != 16:
        raise ValueError("a volume's id is 16 bytes")
    with nogil:
        code = nx_onlog_format(flash, identity, which)
    raise_code(code, path)


def read_log_state(object medium, str path) -> bytes:
    """The state of the store in a medium's log."""
    cdef const nx_flash *flash = <const nx_flash *>PyCapsule_GetPointer(medium, "nexus.flash")
    cdef nx_onlog *onlog = NULL
    cdef nx_backing backing
    cdef int code
    with nogil:
        code = nx_onlog_open(flash, False, &onlog)
    raise_code(code, path)
    try:
        backing = nx_onlog_backing(onlog)
        return state_of(&backing)
    finally:
        nx_onlog_close(onlog)
