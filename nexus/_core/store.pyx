"""The store of content: objects by id in packs; the theory is in nx_store.h.

A Store belongs to one thread as far as it writes; `get`, `find` and `counters` are for any.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import os

from nexus._core._args cimport as_bounded, as_u64
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._entry cimport (
    as_bytes, as_id, entry_row, fill_entry, NX_OBJECT_ID, nx_bytes, nx_bytes_free, nx_cursor,
    nx_cursor_of, nx_cursor_take, nx_cursor_varint, nx_entry,
)
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd, simd_demanded
from nexus._core._store cimport (
    nx_base_range, NX_BLOCK_BASES_MAX, NX_BLOCK_RAW_MAX, nx_cdc_init, nx_cdc_profile, nx_cdc_select,
    NX_CHUNK_MAX, NX_FILE_PACK, NX_FILE_SEGMENT, nx_flash, nx_folder_backing, nx_folder_close,
    nx_folder_open, nx_found, nx_held, nx_ingest, nx_ingest_options, nx_ingest_stream, nx_kind,
    NX_KIND_DATA, NX_KIND_SIGNATURE, nx_leaf, nx_leaf_next, nx_leaf_open, nx_onlog_backing,
    nx_onlog_close, nx_onlog_health, nx_onlog_health_get, nx_onlog_lean, nx_onlog_open,
    nx_restore, nx_restore_options, nx_scrubbed, nx_store_add_pack, nx_store_add_segment,
    nx_store_cancel, nx_store_cancelled, nx_store_close, nx_store_count, nx_store_counters,
    nx_store_find, nx_store_flush, nx_store_get, nx_store_next_pack, nx_store_next_segment,
    nx_store_open, nx_store_options, nx_store_pack, nx_store_put, nx_store_recover,
    nx_store_release, nx_store_scrub, nx_store_segment, nx_zstd, NX_ZSTD_FUNCTIONS, state_of,
)

from nexus import errors

cdef extern from "nx_blake3.h":
    ctypedef struct nx_blake3_mode:
        pass
    void nx_blake3_mode_hash(nx_blake3_mode *ret) nogil
    void nx_blake3_digest(
        const nx_blake3_mode *mode, const void *data, size_t size, uint8_t *ret, size_t ret_size
    ) nogil

cdef extern from "nx_xxhash.h":
    void nx_xxh3_select(nx_simd level)

cdef extern from *:
    """
    static inline void nx_set_function(nx_zstd *zstd, size_t i, uintptr_t function)
    {
        memcpy((char *)zstd + i * sizeof function, &function, sizeof function);
    }
    """
    void set_function "nx_set_function"(nx_zstd *zstd, size_t i, uintptr_t function) nogil

cdef nx_simd LEVEL
simd_demanded(&LEVEL)
nx_cdc_select(LEVEL)
nx_xxh3_select(LEVEL)

FUNCTIONS = NX_ZSTD_FUNCTIONS


cdef tuple root_row(const nx_bytes *bytes_):
    """The one entry of a leaf that was just made."""
    cdef nx_leaf leaf
    cdef nx_entry entry
    raise_code(nx_leaf_open(bytes_.data, bytes_.size, True, &leaf), None)
    if nx_leaf_next(&leaf, &entry) != 1:
        raise errors.CorruptError("a leaf that was just made")
    return entry_row(&entry)


cdef list read_issues(const nx_bytes *issues):
    cdef nx_cursor cursor = nx_cursor_of(issues.data, issues.size)
    cdef list ret = []
    while cursor.at != cursor.end:
        reason = nx_cursor_varint(&cursor)
        size = nx_cursor_varint(&cursor)
        ret.append((reason, as_bytes(nx_cursor_take(&cursor, size), size)))
    return ret


@cython.final
cdef class Store:
    """A store in a directory of the host, or in the log of a medium.

    Args:
        path: the directory, or for messages.
        functions: the addresses of zstd's functions, in the order of nx_zstd.h.
        options: numbers for the fields of nx_store_options; `volume` is 16 bytes.
        writes: take the lock of the one who writes.
        create: make the directory, which must not be there.
        medium: a capsule "nexus.flash", instead of the directory.
    """

    def __cinit__(
        self, bytes path not None, *, object functions, dict options not None, bint writes=False,
        bint create=False, object medium=None,
    ):
        cdef nx_store_options given
        cdef const char *where = PyBytes_AS_STRING(path)
        cdef bytes volume = options["volume"]
        cdef int code
        cdef size_t i
        if len(functions) != NX_ZSTD_FUNCTIONS:
            raise ValueError(f"{NX_ZSTD_FUNCTIONS} functions of zstd are needed")
        for i in range(<size_t>NX_ZSTD_FUNCTIONS):
            set_function(&self.zstd, i, <uintptr_t>as_u64(functions[i]))
        if PyBytes_GET_SIZE(volume) != 16:
            raise ValueError("a volume's id is 16 bytes")
        memset(&given, 0, sizeof(given))
        memcpy(given.volume, PyBytes_AS_STRING(volume), 16)
        given.pack_bytes = as_u64(options["pack_bytes"])
        given.cache_bytes = as_u64(options["cache_bytes"])
        given.next_pack = as_u64(options["next_pack"])
        given.next_segment = as_u64(options["next_segment"])
        given.block_raw = <uint32_t>as_bounded(options["block_raw"], 0xFFFFFFFF)
        given.window = <uint32_t>as_bounded(options["window"], 0xFFFFFFFF)
        given.depth = <uint32_t>as_bounded(options["depth"], 0xFFFFFFFF)
        given.threads = <uint32_t>as_bounded(options["threads"], 0xFFFFFFFF)
        given.level = options["level"]
        given.delta_level = options["delta_level"]
        cdef nx_cdc_profile profile = <nx_cdc_profile>as_bounded(options["profile"], 2)
        cdef uint64_t seed = as_u64(options["seed"])
        raise_code(nx_cdc_init(profile, 16384, 65536, 262144, 1, seed, &self.cdc), None)
        cdef const nx_flash *flash = NULL
        if medium is not None:
            flash = <const nx_flash *>PyCapsule_GetPointer(medium, "nexus.flash")
            self.medium = medium
        with nogil:
            if flash != NULL:
                code = nx_onlog_open(flash, writes, &self.onlog)
            else:
                code = nx_folder_open(where, writes, create, &self.folder)
        raise_code(code, os.fsdecode(path))
        if flash != NULL:
            self.backing = nx_onlog_backing(self.onlog)
        else:
            self.backing = nx_folder_backing(self.folder)
        raise_code(nx_store_open(&self.backing, &self.zstd, &given, &self.store),
                   "the settings of a store")

    def __dealloc__(self):
        self.end()

    # Also from __dealloc__, where nobody could take an exception; nothing in it raises one.
    cdef void end(self) noexcept:
        if self.store != NULL:
            nx_store_close(self.store)
        if self.folder != NULL:
            nx_folder_close(self.folder)
        if self.onlog != NULL:
            nx_onlog_close(self.onlog)
        self.store = NULL
        self.folder = NULL
        self.onlog = NULL
        self.medium = None

    cdef int check(self) except -1:
        if self.store == NULL:
            raise errors.ClosedError("the store is closed")
        return 0

    cdef int own(self) except -1:
        """From here to `disown` this call writes."""
        self.check()
        if self.busy:
            raise BufferError("another thread writes to this store")
        self.busy = True
        return 0

    def close(self) -> None:
        """Forgets what was not flushed. Nobody may be in a call."""
        if self.busy:
            raise BufferError("another thread writes to this store")
        self.end()

    def share(self) -> object:
        """The store in C for another module of the core, which keeps this object as long."""
        self.check()
        return PyCapsule_New(self.store, b"nx_store", NULL)

    def share_chunker(self) -> object:
        """The chunker in C, as `share` does the store."""
        self.check()
        return PyCapsule_New(&self.cdc, b"nx_cdc", NULL)

    def recover(self) -> None:
        """After a write that failed for want of room: forgets what was not flushed."""
        self.own()
        try:
            raise_code(nx_store_recover(self.store), "the store")
        finally:
            self.busy = False

    def read_state(self) -> bytes:
        """The state as it lies there."""
        self.check()
        return state_of(&self.backing)

    def replace_state(self, bytes data not None) -> None:
        """The state becomes these bytes, on the medium and at once."""
        cdef const char *bytes_ = PyBytes_AS_STRING(data)
        cdef size_t size = PyBytes_GET_SIZE(data)
        cdef int code
        self.own()
        try:
            with nogil:
                code = self.backing.verbs.replace(self.backing.self, bytes_, size)
            raise_code(code, "the state of the store")
        finally:
            self.busy = False

    def add_pack(self, object number, object length) -> None:
        """Names a pack of the state, in ascending order."""
        self.check()
        raise_code(nx_store_add_pack(self.store, as_u64(number), as_u64(length)),
                   f"pack {number}")

    def add_segment(self, object number) -> None:
        """Loads a segment of the index."""
        cdef uint64_t which = as_u64(number)
        cdef int code
        self.check()
        with nogil:
            code = nx_store_add_segment(self.store, which)
        raise_code(code, f"segment {number} of the index")

    def packs(self) -> list:
        """Number and length of each pack."""
        cdef uint64_t number, length
        cdef list ret = []
        self.check()
        number = length = 0
        while nx_store_pack(self.store, len(ret), &number, &length):
            ret.append((number, length))
        return ret

    def segments(self) -> list:
        """Number and records of each segment."""
        cdef uint64_t number, count
        cdef list ret = []
        self.check()
        number = count = 0
        while nx_store_segment(self.store, len(ret), &number, &count):
            ret.append((number, count))
        return ret

    def next_numbers(self) -> tuple:
        """The next pack's number, and the next segment's."""
        self.check()
        return nx_store_next_pack(self.store), nx_store_next_segment(self.store)

    def find(self, bytes identity not None) -> tuple | None:
        """Bytes, kind and depth of an object, or None."""
        cdef nx_found found
        cdef const uint8_t *wanted = as_id(identity)
        cdef int code
        self.check()
        with nogil:
            code = nx_store_find(self.store, wanted, &found)
        if code == -7:
            return None
        raise_code(code, identity.hex())
        return found.size, <int>found.kind, found.depth

    def get(self, bytes identity not None) -> bytes:
        """The bytes of an object, verified."""
        cdef const uint8_t *wanted = as_id(identity)
        cdef nx_held held
        cdef int code
        self.check()
        with nogil:
            code = nx_store_get(self.store, wanted, &held)
        raise_code(code, f"object {identity.hex()}")
        try:
            return as_bytes(held.data, held.size)
        finally:
            nx_store_release(self.store, &held)

    def put(self, object kind, object data, *, object bases=()) -> bytes:
        """Puts an object, which may continue whole other ones; its id."""
        cdef nx_base_range ranges[64]
        cdef uint8_t identity[32]
        cdef nx_blake3_mode mode
        cdef borrowed view
        cdef nx_kind which = <nx_kind>as_bounded(kind, NX_KIND_SIGNATURE)
        cdef size_t count = 0
        cdef int code
        if which < NX_KIND_DATA:
            raise ValueError("an object is of kind 1 to 5")
        for base in list(bases)[:NX_BLOCK_BASES_MAX]:
            memcpy(ranges[count].id, as_id(base), NX_OBJECT_ID)
            ranges[count].at = 0
            ranges[count].size = NX_BLOCK_RAW_MAX
            count += 1
        borrow(data, &view)
        try:
            if view.size > <size_t>(NX_CHUNK_MAX if which == NX_KIND_DATA else NX_BLOCK_RAW_MAX):
                raise errors.TooLargeError("the object is too large")
            self.own()
            try:
                with nogil:
                    nx_blake3_mode_hash(&mode)
                    nx_blake3_digest(&mode, view.data, view.size, identity, NX_OBJECT_ID)
                    code = nx_store_put(
                        self.store, which, identity, view.data, view.size, ranges, count)
                raise_code(code, "the store")
            finally:
                self.busy = False
        finally:
            give_back(&view)
        return as_bytes(identity, NX_OBJECT_ID)

    def ingest(
        self, object parent, bytes name, *, object before=None, bint attributes=True,
        bint one_device=False, object seconds=0,
    ) -> tuple:
        """Takes in a name of an opened directory, or without a name what the descriptor gives.

        Returns the entry with an empty name, and issues: errno and path of what was left out.
        """
        cdef nx_ingest_options options
        cdef nx_entry past
        cdef nx_bytes leaf
        cdef nx_bytes issues
        cdef const char *wanted = NULL if name is None else PyBytes_AS_STRING(name)
        cdef int descriptor = parent
        cdef int64_t when = seconds
        cdef int code
        memset(&leaf, 0, sizeof(leaf))
        memset(&issues, 0, sizeof(issues))
        memset(&options, 0, sizeof(options))
        options.cdc = &self.cdc
        options.attributes = attributes
        options.one_device = one_device
        if before is not None:
            fill_entry(before, True, &past)
            options.before = &past
        self.own()
        try:
            with nogil:
                if wanted == NULL:
                    code = nx_ingest_stream(
                        self.store, &options, descriptor, when, &leaf, &issues)
                else:
                    code = nx_ingest(
                        self.store, &options, descriptor, wanted, &leaf, &issues)
            raise_code(code, None if name is None else os.fsdecode(name))
            return root_row(&leaf), read_issues(&issues)
        finally:
            self.busy = False
            nx_bytes_free(&leaf)
            nx_bytes_free(&issues)

    def restore(
        self, object entry, object parent, bytes name not None, *, bint owner=False,
        bint attributes=True,
    ) -> list:
        """Makes a new name in an opened directory what the entry says; issues as of `ingest`."""
        cdef nx_restore_options options
        cdef nx_entry wanted
        cdef nx_bytes issues
        cdef const char *where = PyBytes_AS_STRING(name)
        cdef int descriptor = parent
        cdef int code
        memset(&issues, 0, sizeof(issues))
        options.owner = owner
        options.attributes = attributes
        fill_entry(entry, True, &wanted)
        self.own()
        try:
            with nogil:
                code = nx_restore(self.store, &options, &wanted, descriptor, where, &issues)
            raise_code(code, os.fsdecode(name))
            return read_issues(&issues)
        finally:
            self.busy = False
            nx_bytes_free(&issues)

    def scrub(self, *, bint full) -> tuple:
        """Reads all packs: blocks, objects and bytes in them; pack, offset and kind of damage."""
        cdef nx_scrubbed found
        cdef nx_cursor cursor
        cdef int code
        cdef list damage = []
        memset(&found, 0, sizeof(found))
        self.own()
        try:
            with nogil:
                code = nx_store_scrub(self.store, full, &found)
            raise_code(code, "the store")
            cursor = nx_cursor_of(found.damage.data, found.damage.size)
            while cursor.at != cursor.end:
                pack = nx_cursor_varint(&cursor)
                offset = nx_cursor_varint(&cursor)
                damage.append((pack, offset, nx_cursor_varint(&cursor)))
            return found.blocks, found.objects, found.bytes, damage
        finally:
            self.busy = False
            nx_bytes_free(&found.damage)

    def flush(self) -> None:
        """All that was put is in packs and segments, and on the medium."""
        cdef int code
        self.own()
        try:
            with nogil:
                code = nx_store_flush(self.store)
            raise_code(code, "the store")
        finally:
            self.busy = False

    def cancel(self) -> None:
        """Whatever takes long ends with DeadlineError, soon; the store is of no further use."""
        self.check()
        nx_store_cancel(self.store)

    def cancelled(self) -> bool:
        """Whether somebody asked for the end."""
        self.check()
        return nx_store_cancelled(self.store)

    def counters(self) -> dict:
        """What the work has come to so far."""
        cdef const nx_store_counters *now
        self.check()
        now = nx_store_count(self.store)
        return {
            "objects": now.objects, "object_bytes": now.object_bytes,
            "new_objects": now.new_objects, "new_bytes": now.new_bytes,
            "stored_bytes": now.stored_bytes, "blocks": now.blocks, "files": now.files,
            "file_bytes": now.file_bytes,
        }

    def alone(self, bint wanted=True) -> bool:
        """Keeps others from reading, so that files may be removed, or lets them in again.

        False when somebody reads now.
        """
        self.check()
        return self.backing.verbs.alone(self.backing.self, wanted)

    def files(self, bint packs) -> list:
        """The numbers of all packs, or of all segments, that lie there."""
        cdef uint64_t *numbers = NULL
        cdef size_t count = 0
        self.check()
        raise_code(
            self.backing.verbs.list(
                self.backing.self, NX_FILE_PACK if packs else NX_FILE_SEGMENT, &numbers, &count),
            "the store")
        try:
            return [numbers[i] for i in range(count)]
        finally:
            free(numbers)

    def remove(self, bint packs, object number) -> None:
        """Removes a pack or a segment."""
        self.check()
        raise_code(
            self.backing.verbs.remove(
                self.backing.self, NX_FILE_PACK if packs else NX_FILE_SEGMENT, as_u64(number)),
            f"file {number} of the store")

    def trim(self, object number, object length) -> None:
        """Gives back what lies behind a pack's length: never promised, so nobody reads it."""
        self.check()
        raise_code(
            self.backing.verbs.trim(
                self.backing.self, NX_FILE_PACK, as_u64(number), as_u64(length)),
            f"pack {number}")

    def lean(self, bint wanted) -> None:
        """Lets what follows use the room that a medium keeps for changes that take away."""
        self.check()
        if self.onlog != NULL:
            nx_onlog_lean(self.onlog, wanted)

    def health(self) -> dict | None:
        """How the medium is; None for a directory, whose medium is the host's."""
        cdef nx_onlog_health now
        cdef int code
        self.check()
        if self.onlog == NULL:
            return None
        with nogil:
            code = nx_onlog_health_get(self.onlog, &now)
        raise_code(code, "the block table of the medium")
        return {
            "class": now.storage_class, "bytes": now.usage.bytes,
            "bytes_free": now.usage.bytes_free, "blocks": now.usage.blocks,
            "blocks_free": now.usage.blocks_free, "blocks_bad": now.usage.blocks_bad,
            "erases": now.usage.erases, "erases_min": now.usage.erases_min,
            "erases_max": now.usage.erases_max, "corrected": now.corrected,
        }
