# cython: language_level=3
"""The store, for the modules that work on it."""

from nexus._core._store cimport nx_backing, nx_cdc, nx_folder, nx_onlog, nx_store, nx_zstd


cdef class Store:
    cdef nx_zstd zstd
    cdef nx_folder *folder
    cdef nx_onlog *onlog
    cdef object medium
    cdef nx_store *store
    cdef nx_backing backing
    cdef nx_cdc cdc
    cdef bint busy

    cdef int check(self) except -1
    cdef int own(self) except -1
    cdef void end(self) noexcept
