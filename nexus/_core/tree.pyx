"""Directories and lists of the store as objects; the theory is in nx_tree.h."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from nexus._core._args cimport as_u64
from nexus._core._entry cimport (
    as_bytes, as_id, entry_row, fill_entry, NX_OBJECT_ID, nx_bytes, nx_bytes_free, nx_cursor,
    nx_entry,
)
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd, simd_demanded

from nexus import errors

cdef extern from "nx_xxhash.h":
    void nx_xxh3_select(nx_simd level)

cdef extern from "nx_tree.h":
    ctypedef struct nx_leaf:
        pass
    ctypedef struct nx_leaf_maker:
        uint32_t count
    ctypedef struct nx_index_entry:
        const uint8_t *name
        const uint8_t *id
        uint64_t count
        uint32_t name_size
    ctypedef struct nx_index_maker:
        nx_bytes rows
    ctypedef struct nx_piece:
        const uint8_t *id
        uint64_t size
    ctypedef struct nx_list:
        uint32_t level
    void nx_leaf_add(nx_leaf_maker *, const nx_entry *) nogil
    bint nx_leaf_ends(const nx_leaf_maker *) nogil
    int nx_leaf_make(nx_leaf_maker *, nx_bytes *) nogil
    void nx_leaf_maker_free(nx_leaf_maker *) nogil
    int nx_leaf_open(const void *, size_t, bint, nx_leaf *) nogil
    int nx_leaf_next(nx_leaf *, nx_entry *) nogil
    void nx_index_add(nx_index_maker *, const nx_index_entry *) nogil
    int nx_index_make(nx_index_maker *, nx_bytes *) nogil
    int nx_index_open(const void *, size_t, nx_cursor *, uint64_t *) nogil
    int nx_index_next(nx_cursor *, nx_index_entry *) nogil
    int nx_list_open(const void *, size_t, nx_list *) nogil
    int nx_list_next(nx_list *, nx_piece *) nogil

cdef nx_simd LEVEL
simd_demanded(&LEVEL)
nx_xxh3_select(LEVEL)


def read_leaf(bytes data not None, *, bint root=False) -> list:
    """The entries of a leaf."""
    cdef nx_leaf leaf
    cdef nx_entry entry
    cdef int code
    cdef list ret = []
    raise_code(nx_leaf_open(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), root, &leaf),
               "a leaf of a directory")
    code = nx_leaf_next(&leaf, &entry)
    while code == 1:
        ret.append(entry_row(&entry))
        code = nx_leaf_next(&leaf, &entry)
    raise_code(code, "a leaf of a directory")
    return ret


def make_leaves(object rows, *, bint root=False) -> list:
    """The leaves of a directory: for each its bytes, first name and entries. Names must rise."""
    cdef nx_leaf_maker maker
    cdef nx_bytes leaf
    cdef nx_entry entry
    cdef list ret = []
    cdef bytes first = b""
    cdef bytes last = None
    memset(&maker, 0, sizeof(maker))
    memset(&leaf, 0, sizeof(leaf))
    try:
        for i, row in enumerate(rows):
            if last is not None and row[0] <= last:
                raise ValueError("names of a directory must rise")
            last = row[0]
            if maker.count == 0:
                first = last
            fill_entry(row, root, &entry)
            nx_leaf_add(&maker, &entry)
            if nx_leaf_ends(&maker) or i + 1 == len(rows):
                count = maker.count
                raise_code(nx_leaf_make(&maker, &leaf), None)
                ret.append((as_bytes(leaf.data, leaf.size), first, count))
        if not rows:
            raise_code(nx_leaf_make(&maker, &leaf), None)
            ret.append((as_bytes(leaf.data, leaf.size), b"", 0))
    finally:
        nx_leaf_maker_free(&maker)
        nx_bytes_free(&leaf)
    return ret


def read_index(bytes data not None) -> list:
    """The leaves that an index names: first name, entries, id."""
    cdef nx_cursor rows
    cdef nx_index_entry row
    cdef uint64_t count = 0
    cdef int code
    cdef list ret = []
    raise_code(nx_index_open(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &rows, &count),
               "an index of a directory")
    code = nx_index_next(&rows, &row)
    while code == 1:
        ret.append((as_bytes(row.name, row.name_size), row.count, as_bytes(row.id, NX_OBJECT_ID)))
        code = nx_index_next(&rows, &row)
    raise_code(code, "an index of a directory")
    if <uint64_t>len(ret) != count:
        raise errors.CorruptError("an index of a directory")
    return ret


def make_index(object rows) -> bytes:
    """An index of leaves, each given as its first name, entries and id."""
    cdef nx_index_maker maker
    cdef nx_index_entry row
    cdef nx_bytes index
    memset(&maker, 0, sizeof(maker))
    memset(&index, 0, sizeof(index))
    try:
        for name, count, identity in rows:
            if type(name) is not bytes:
                raise TypeError("a name is bytes")
            row.name = <const uint8_t *>PyBytes_AS_STRING(name)
            row.name_size = <uint32_t>PyBytes_GET_SIZE(name)
            row.count = as_u64(count)
            row.id = as_id(identity)
            nx_index_add(&maker, &row)
        raise_code(nx_index_make(&maker, &index), None)
        return as_bytes(index.data, index.size)
    finally:
        nx_bytes_free(&maker.rows)
        nx_bytes_free(&index)


def read_list(bytes data not None) -> tuple:
    """The level of a list, and its pieces: bytes, and the id or None for a hole."""
    cdef nx_list pieces
    cdef nx_piece piece
    cdef int code
    cdef list ret = []
    raise_code(nx_list_open(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &pieces),
               "a list of pieces")
    level = pieces.level
    code = nx_list_next(&pieces, &piece)
    while code == 1:
        ret.append((piece.size, as_bytes(piece.id, NX_OBJECT_ID)))
        code = nx_list_next(&pieces, &piece)
    raise_code(code, "a list of pieces")
    return level, ret
