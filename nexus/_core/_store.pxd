# cython: language_level=3
"""What nx_store.h and its neighbours declare, for the one module that calls it."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from nexus._core._entry cimport nx_bytes, nx_entry
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd

cdef extern from "stdbool.h":
    ctypedef bint c_bool "bool"

cdef extern from "nx_zstd.h":
    enum:
        NX_ZSTD_FUNCTIONS
    ctypedef struct nx_zstd:
        pass

cdef extern from "nx_block.h":
    enum:
        NX_CHUNK_MAX
        NX_BLOCK_RAW_MAX
        NX_BLOCK_BASES_MAX
    ctypedef enum nx_kind:
        NX_KIND_DATA
        NX_KIND_SIGNATURE
    ctypedef struct nx_base_range:
        uint8_t id[32]
        uint32_t at
        uint32_t size

cdef extern from "nx_store.h":
    ctypedef enum nx_file:
        NX_FILE_STATE
        NX_FILE_PACK
        NX_FILE_SEGMENT
    ctypedef struct nx_backing_verbs:
        int (*read)(void *, nx_file, uint64_t, uint64_t, void *, size_t) nogil
        int (*size)(void *, nx_file, uint64_t, uint64_t *) nogil
        int (*remove)(void *, nx_file, uint64_t) nogil
        int (*replace)(void *, const void *, size_t) nogil
        int (*list)(void *, nx_file, uint64_t **, size_t *) nogil
        int (*trim)(void *, nx_file, uint64_t, uint64_t) nogil
        c_bool (*alone)(void *, c_bool) nogil
    ctypedef struct nx_backing:
        const nx_backing_verbs *verbs
        void *self
    ctypedef struct nx_store_options:
        uint64_t volume[2]
        uint64_t pack_bytes
        uint64_t cache_bytes
        uint64_t next_pack
        uint64_t next_segment
        uint32_t block_raw
        uint32_t window
        uint32_t depth
        uint32_t threads
        int level
        int delta_level
    ctypedef struct nx_store:
        pass
    ctypedef struct nx_store_counters:
        uint64_t objects
        uint64_t object_bytes
        uint64_t new_objects
        uint64_t new_bytes
        uint64_t stored_bytes
        uint64_t blocks
        uint64_t files
        uint64_t file_bytes
    ctypedef struct nx_found:
        uint64_t place
        uint32_t size
        nx_kind kind
        uint8_t depth
    ctypedef struct nx_held:
        const uint8_t *data
        size_t size
    int nx_store_open(
        const nx_backing *, const nx_zstd *, const nx_store_options *, nx_store **
    ) nogil
    void nx_store_close(nx_store *) nogil
    int nx_store_add_pack(nx_store *, uint64_t, uint64_t) nogil
    int nx_store_add_segment(nx_store *, uint64_t) nogil
    bint nx_store_pack(const nx_store *, size_t, uint64_t *, uint64_t *) nogil
    bint nx_store_segment(const nx_store *, size_t, uint64_t *, uint64_t *) nogil
    uint64_t nx_store_next_pack(const nx_store *) nogil
    uint64_t nx_store_next_segment(const nx_store *) nogil
    int nx_store_find(nx_store *, const uint8_t *, nx_found *) nogil
    int nx_store_get(nx_store *, const uint8_t *, nx_held *) nogil
    void nx_store_release(nx_store *, nx_held *) nogil
    int nx_store_put(
        nx_store *, nx_kind, const uint8_t *, const void *, size_t, const nx_base_range *, size_t
    ) nogil
    int nx_store_flush(nx_store *) nogil
    int nx_store_recover(nx_store *) nogil
    nx_store_counters *nx_store_count(nx_store *) nogil
    void nx_store_cancel(nx_store *) nogil
    bint nx_store_cancelled(const nx_store *) nogil

cdef extern from "nx_folder.h":
    ctypedef struct nx_folder:
        pass
    int nx_folder_open(const char *, bint, bint, nx_folder **) nogil
    void nx_folder_close(nx_folder *) nogil
    nx_backing nx_folder_backing(nx_folder *) nogil

cdef extern from "nx_onlog.h":
    ctypedef struct nx_flash:
        pass
    ctypedef struct nx_nexfs_usage:
        uint64_t bytes
        uint64_t bytes_free
        uint64_t inodes
        uint64_t node_bytes
        uint64_t erases
        uint32_t blocks
        uint32_t blocks_free
        uint32_t blocks_bad
        uint32_t log_blocks
        uint32_t erases_min
        uint32_t erases_max
    ctypedef struct nx_onlog_health:
        nx_nexfs_usage usage
        uint64_t corrected
        uint32_t storage_class
    ctypedef struct nx_onlog:
        pass
    int nx_onlog_format(const nx_flash *, const uint8_t *, unsigned) nogil
    int nx_onlog_open(const nx_flash *, bint, nx_onlog **) nogil
    void nx_onlog_close(nx_onlog *) nogil
    nx_backing nx_onlog_backing(nx_onlog *) nogil
    void nx_onlog_lean(nx_onlog *, bint) nogil
    int nx_onlog_health_get(nx_onlog *, nx_onlog_health *) nogil

cdef extern from "nx_cdc.h":
    ctypedef struct nx_cdc:
        pass
    void nx_cdc_select(nx_simd level)
    ctypedef enum nx_cdc_profile:
        pass
    int nx_cdc_init(
        nx_cdc_profile profile,
        size_t minimum, size_t average, size_t maximum, unsigned normalization, uint64_t seed,
        nx_cdc *ret
    ) nogil

cdef extern from "nx_ingest.h":
    ctypedef struct nx_ingest_options:
        const nx_cdc *cdc
        const nx_entry *before
        bint attributes
        bint one_device
    int nx_ingest(
        nx_store *, const nx_ingest_options *, int, const char *, nx_bytes *, nx_bytes *
    ) nogil
    int nx_ingest_stream(
        nx_store *, const nx_ingest_options *, int, int64_t, nx_bytes *, nx_bytes *
    ) nogil

cdef extern from "nx_scrub.h":
    ctypedef struct nx_scrubbed:
        uint64_t blocks
        uint64_t objects
        uint64_t bytes
        nx_bytes damage
    int nx_store_scrub(nx_store *, bint, nx_scrubbed *) nogil

cdef extern from "nx_restore.h":
    ctypedef struct nx_restore_options:
        bint owner
        bint attributes
    int nx_restore(
        nx_store *, const nx_restore_options *, const nx_entry *, int, const char *, nx_bytes *
    ) nogil

cdef extern from "nx_tree.h":
    ctypedef struct nx_leaf:
        pass
    int nx_leaf_open(const void *, size_t, bint, nx_leaf *) nogil
    int nx_leaf_next(nx_leaf *, nx_entry *) nogil


cdef inline bytes state_of(const nx_backing *backing):
    """The state as it lies there."""
    cdef uint64_t size = 0
    cdef int code
    code = backing.verbs.size(backing.self, NX_FILE_STATE, 0, &size)
    raise_code(code, "the state of the store")
    if size > 1 << 30:
        raise_code(-11, "the state of the store")
    data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
    code = backing.verbs.read(backing.self, NX_FILE_STATE, 0, 0, PyBytes_AS_STRING(data), size)
    raise_code(code, "the state of the store")
    return data
