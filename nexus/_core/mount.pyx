"""The trees of a volume as a filesystem of the host; the theory is in nx_mount.h and nx_fuse.h."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

import os

from nexus._core._args cimport as_bounded, as_u64
from nexus._core._entry cimport as_id, entry_row, nx_bytes, nx_bytes_free, nx_entry
from nexus._core._errors cimport raise_code
from nexus._core._store cimport nx_cdc, nx_leaf, nx_leaf_next, nx_leaf_open, nx_store

from nexus import errors

cdef extern from "nx_fuse.h":
    enum:
        NX_FUSE_THREADS_MAX
    ctypedef struct nx_fuse_verbs:
        pass
    ctypedef struct nx_fuse:
        pass
    int nx_fuse_create(int, unsigned, const nx_fuse_verbs *, void *, nx_fuse **) nogil
    int nx_fuse_start(nx_fuse *) nogil
    bint nx_fuse_ended(nx_fuse *) nogil
    void nx_fuse_stop(nx_fuse *) nogil
    void nx_fuse_destroy(nx_fuse *) nogil

cdef extern from "nx_mount.h":
    ctypedef struct nx_mount:
        pass
    int nx_mount_create(nx_store *, const uint8_t *, nx_mount **) nogil
    void nx_mount_destroy(nx_mount *) nogil
    int nx_mount_add_snapshot(nx_mount *, const char *, const uint8_t *) nogil
    void nx_mount_set_sizes(nx_mount *, uint64_t, uint64_t) nogil
    const nx_fuse_verbs *nx_mount_verbs() nogil

cdef extern from "nx_live.h":
    ctypedef struct nx_live:
        pass
    int nx_live_create(
        nx_store *, const nx_cdc *, const uint8_t *, const char *, nx_live **
    ) nogil
    void nx_live_destroy(nx_live *) nogil
    nx_mount *nx_live_past(nx_live *) nogil
    bint nx_live_wait(nx_live *, unsigned) nogil
    bint nx_live_changed(nx_live *) nogil
    bint nx_live_begin(nx_live *) nogil
    int nx_live_gather(nx_live *, nx_bytes *) nogil
    void nx_live_settle(nx_live *, int) nogil
    bint nx_live_asked(nx_live *, char *) nogil
    void nx_live_answer(nx_live *, int) nogil
    const nx_fuse_verbs *nx_live_verbs() nogil

cdef extern from "<sys/mount.h>":
    int c_mount "mount"(
        const char *, const char *, const char *, unsigned long, const void *
    ) nogil
    int c_umount "umount2"(const char *, int) nogil


def attach(bytes source not None, bytes target not None, bytes options not None, flags) -> None:
    """mount(2) of type fuse.nexus.

    Raises:
        OSError: the kernel does not want it.
    """
    cdef const char *from_ = PyBytes_AS_STRING(source)
    cdef const char *where = PyBytes_AS_STRING(target)
    cdef const char *how = PyBytes_AS_STRING(options)
    cdef unsigned long given = as_u64(flags)
    cdef int code
    with nogil:
        code = c_mount(from_, where, b"fuse.nexus", given, how)
    if code != 0:
        raise OSError(errno, os.strerror(errno), os.fsdecode(target))


def detach(bytes target not None, flags) -> None:
    """umount2(2).

    Raises:
        OSError: it is in use, or nothing is mounted there.
    """
    cdef const char *where = PyBytes_AS_STRING(target)
    cdef int given = <int>as_bounded(flags, 15)
    cdef int code
    with nogil:
        code = c_umount(where, given)
    if code != 0:
        raise OSError(errno, os.strerror(errno), os.fsdecode(target))


@cython.final
cdef class Mount:
    """A tree of a store, served to the kernel.

    Args:
        store: an opened Store; it stays open until this is closed.
        root: id of the tree.
        snapshots: names and ids of trees, for .timewarp.
    """

    cdef object owner
    cdef nx_mount *mount
    cdef nx_fuse *fuse

    def __cinit__(self, object store, bytes root not None, *, object snapshots=()):
        cdef nx_store *inner = <nx_store *>PyCapsule_GetPointer(store.share(), b"nx_store")
        cdef const uint8_t *wanted = as_id(root)
        cdef const char *name
        cdef int code
        self.owner = store
        with nogil:
            code = nx_mount_create(inner, wanted, &self.mount)
        raise_code(code, f"tree {root.hex()}")
        for text, identity in snapshots:
            name = PyBytes_AS_STRING(text)
            wanted = as_id(identity)
            code = nx_mount_add_snapshot(self.mount, name, wanted)
            raise_code(code, f"snapshot {os.fsdecode(text)}")

    def __dealloc__(self):
        if self.fuse != NULL:
            nx_fuse_destroy(self.fuse)
        if self.mount != NULL:
            nx_mount_destroy(self.mount)

    def set_sizes(self, stored, spare) -> None:
        """What statfs tells."""
        nx_mount_set_sizes(self.mount, as_u64(stored), as_u64(spare))

    def serve(self, object descriptor, object threads) -> None:
        """Answers what comes out of a descriptor of /dev/fuse, and takes it over."""
        cdef int given = <int>as_bounded(descriptor, 0x7FFFFFFF)
        cdef unsigned count = <unsigned>as_bounded(threads, NX_FUSE_THREADS_MAX)
        cdef int code
        if self.fuse != NULL:
            raise BufferError("it is served already")
        if self.mount == NULL:
            raise errors.ClosedError("the mount is closed")
        raise_code(
            nx_fuse_create(given, count, nx_mount_verbs(), self.mount, &self.fuse), "threads")
        with nogil:
            code = nx_fuse_start(self.fuse)
        raise_code(code, "the threads of the mount")

    def ended(self) -> bool:
        """Whether it was unmounted."""
        return self.fuse != NULL and nx_fuse_ended(self.fuse)

    def close(self) -> None:
        """Ends the service; what still uses it gets ENOTCONN. The store may be closed then."""
        cdef nx_fuse *fuse = self.fuse
        self.fuse = NULL
        if fuse != NULL:
            with nogil:
                nx_fuse_destroy(fuse)
        if self.mount != NULL:
            nx_mount_destroy(self.mount)
            self.mount = NULL
        self.owner = None


@cython.final
cdef class LiveMount:
    """A tree of a store that is read and written; the theory is in nx_live.h.

    Args:
        store: an opened Store, of which nobody else writes; it stays open until this is closed.
        root: id of the tree.
        scratch: a directory for what is not committed yet.
        snapshots: names and ids of trees, for .timewarp.
    """

    cdef object owner
    cdef object chunker
    cdef nx_live *live
    cdef nx_fuse *fuse

    def __cinit__(
        self, object store, bytes root not None, bytes scratch not None, *, object snapshots=()
    ):
        cdef nx_store *inner = <nx_store *>PyCapsule_GetPointer(store.share(), b"nx_store")
        cdef const uint8_t *wanted = as_id(root)
        cdef const char *place = PyBytes_AS_STRING(scratch)
        cdef const nx_cdc *cdc
        cdef int code
        self.chunker = store.share_chunker()
        cdc = <const nx_cdc *>PyCapsule_GetPointer(self.chunker, b"nx_cdc")
        self.owner = store
        with nogil:
            code = nx_live_create(inner, cdc, wanted, place, &self.live)
        raise_code(code, f"tree {root.hex()}")
        for text, identity in snapshots:
            self.add_snapshot(text, identity)

    def __dealloc__(self):
        if self.fuse != NULL:
            nx_fuse_destroy(self.fuse)
        if self.live != NULL:
            nx_live_destroy(self.live)

    cdef int check(self) except -1:
        if self.live == NULL:
            raise errors.ClosedError("the mount is closed")
        return 0

    def add_snapshot(self, bytes name not None, bytes root not None) -> None:
        """Shows a snapshot below .timewarp."""
        cdef const char *text = PyBytes_AS_STRING(name)
        cdef const uint8_t *wanted = as_id(root)
        cdef int code
        self.check()
        with nogil:
            code = nx_mount_add_snapshot(nx_live_past(self.live), text, wanted)
        raise_code(code, f"snapshot {os.fsdecode(name)}")

    def set_sizes(self, stored, spare) -> None:
        """What statfs tells."""
        self.check()
        nx_mount_set_sizes(nx_live_past(self.live), as_u64(stored), as_u64(spare))

    def serve(self, object descriptor, object threads) -> None:
        """Answers what comes out of a descriptor of /dev/fuse, and takes it over."""
        cdef int given = <int>as_bounded(descriptor, 0x7FFFFFFF)
        cdef unsigned count = <unsigned>as_bounded(threads, NX_FUSE_THREADS_MAX)
        cdef int code
        if self.fuse != NULL:
            raise BufferError("it is served already")
        self.check()
        raise_code(
            nx_fuse_create(given, count, nx_live_verbs(), self.live, &self.fuse), "threads")
        with nogil:
            code = nx_fuse_start(self.fuse)
        raise_code(code, "the threads of the mount")

    def ended(self) -> bool:
        """Whether it was unmounted."""
        return self.fuse != NULL and nx_fuse_ended(self.fuse)

    def wait(self, object milliseconds) -> bool:
        """Whether somebody asks for a commit or a snapshot, who is waited for as long."""
        cdef unsigned most = <unsigned>as_bounded(milliseconds, 60000)
        cdef bint asks
        self.check()
        with nogil:
            asks = nx_live_wait(self.live, most)
        return asks

    def changed(self) -> bool:
        """Whether anything differs from the last commit."""
        self.check()
        return nx_live_changed(self.live)

    def begin(self) -> bool:
        """Parks what would change something, until `settle`; False: nothing had changed."""
        cdef bint began
        self.check()
        with nogil:
            began = nx_live_begin(self.live)
        return began

    def gather(self) -> tuple:
        """Puts all that changed; the root's entry."""
        cdef nx_bytes leaf
        cdef nx_leaf rows
        cdef nx_entry entry
        cdef int code
        self.check()
        memset(&leaf, 0, sizeof(leaf))
        try:
            with nogil:
                code = nx_live_gather(self.live, &leaf)
            raise_code(code, "what changed")
            raise_code(nx_leaf_open(leaf.data, leaf.size, True, &rows), None)
            if nx_leaf_next(&rows, &entry) != 1:
                raise errors.CorruptError("a leaf that was just made")
            return entry_row(&entry)
        finally:
            nx_bytes_free(&leaf)

    def settle(self, object reason) -> None:
        """Ends a commit: with 0, or with the errno that who waits for it is told."""
        cdef int why = <int>as_bounded(reason, 4095)
        self.check()
        with nogil:
            nx_live_settle(self.live, why)

    def asked(self) -> bytes | None:
        """The name of the snapshot that somebody asked for next; `answer` ends it."""
        cdef char name[256]
        self.check()
        return <bytes>name if nx_live_asked(self.live, name) else None

    def answer(self, object reason) -> None:
        """The snapshot that was asked for was taken (0), or why not: an errno."""
        cdef int why = <int>as_bounded(reason, 4095)
        if self.asked() is None:
            raise ValueError("nobody asked for a snapshot")
        with nogil:
            nx_live_answer(self.live, why)

    def stop(self) -> None:
        """Ends the service after the requests that run; what changed can be committed still."""
        if self.fuse != NULL:
            with nogil:
                nx_fuse_stop(self.fuse)

    def close(self) -> None:
        """Ends it all; what was not committed is forgotten. The store may be closed then."""
        cdef nx_fuse *fuse = self.fuse
        cdef nx_live *live = self.live
        self.fuse = NULL
        self.live = NULL
        with nogil:
            if fuse != NULL:
                nx_fuse_destroy(fuse)
            if live != NULL:
                nx_live_destroy(live)
        self.owner = self.chunker = None
