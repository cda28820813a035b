# cython: language_level=3
"""Entries of directories between C and Python, where they are plain tuples."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from nexus._core._args cimport as_bounded

cdef extern from "nx_block.h":
    enum:
        NX_OBJECT_ID

cdef extern from "nx_bytes.h":
    ctypedef struct nx_bytes:
        uint8_t *data
        size_t size
        bint failed
    ctypedef struct nx_cursor:
        const uint8_t *at
        const uint8_t *end
        bint failed
    void nx_bytes_free(nx_bytes *bytes) nogil
    nx_cursor nx_cursor_of(const void *data, size_t size) nogil
    uint64_t nx_cursor_varint(nx_cursor *cursor) nogil
    const uint8_t *nx_cursor_take(nx_cursor *cursor, uint64_t size) nogil

cdef extern from "nx_tree.h":
    ctypedef enum nx_form:
        NX_FORM_NOTHING
        NX_FORM_DATA
        NX_FORM_INDEX
        NX_FORM_TEXT
        NX_FORM_WITHIN
    ctypedef struct nx_entry:
        const uint8_t *name
        const uint8_t *id
        const uint8_t *text
        const uint8_t *extras
        uint64_t size
        int64_t seconds
        uint32_t nanoseconds
        uint32_t name_size
        uint32_t extras_size
        uint32_t text_size
        uint32_t mode
        uint32_t uid
        uint32_t gid
        nx_form form
    bint nx_name_is(const uint8_t *, size_t) nogil


cdef inline bytes as_bytes(const uint8_t *data, size_t size):
    return None if data == NULL else PyBytes_FromStringAndSize(<const char *>data, <Py_ssize_t>size)


cdef inline const uint8_t *as_id(object value) except NULL:
    if type(value) is not bytes or PyBytes_GET_SIZE(value) != NX_OBJECT_ID:
        raise ValueError("an id is 32 bytes")
    return <const uint8_t *>PyBytes_AS_STRING(value)


cdef inline tuple entry_row(const nx_entry *entry):
    """The fields of an entry, as nexus.seams.store.Entry names them."""
    return (
        as_bytes(entry.name, entry.name_size), entry.mode, entry.uid, entry.gid, entry.seconds,
        entry.nanoseconds, entry.size, <int>entry.form, as_bytes(entry.id, NX_OBJECT_ID),
        as_bytes(entry.text, entry.text_size), as_bytes(entry.extras, entry.extras_size) or b"",
    )


cdef inline int fill_entry(object row, bint root, nx_entry *ret) except -1:
    """The entry of a tuple, whose bytes stay where they are."""
    name, mode, uid, gid, seconds, nanoseconds, size, form, identity, text, extras = row
    if type(name) is not bytes or type(extras) is not bytes:
        raise TypeError("a name and extras are bytes")
    memset(ret, 0, sizeof(nx_entry))
    ret.name = <const uint8_t *>PyBytes_AS_STRING(name)
    ret.name_size = <uint32_t>PyBytes_GET_SIZE(name)
    if not root and not nx_name_is(ret.name, PyBytes_GET_SIZE(name)):
        raise ValueError(f"{name!r} is no name of a file")
    ret.mode = <uint32_t>as_bounded(mode, 0xFFFFFFFF)
    ret.uid = <uint32_t>as_bounded(uid, 0xFFFFFFFF)
    ret.gid = <uint32_t>as_bounded(gid, 0xFFFFFFFF)
    ret.seconds = seconds
    ret.nanoseconds = <uint32_t>as_bounded(nanoseconds, 999_999_999)
    ret.size = as_bounded(size, 0x7FFFFFFFFFFFFFFF)
    ret.form = <nx_form>as_bounded(form, NX_FORM_WITHIN)
    if NX_FORM_DATA <= ret.form <= NX_FORM_INDEX:
        ret.id = as_id(identity)
    if ret.form >= NX_FORM_TEXT:
        if type(text) is not bytes:
            raise TypeError("a text is bytes")
        ret.text = <const uint8_t *>PyBytes_AS_STRING(text)
        ret.text_size = <uint32_t>PyBytes_GET_SIZE(text)
    ret.extras = <const uint8_t *>PyBytes_AS_STRING(extras)
    ret.extras_size = <uint32_t>PyBytes_GET_SIZE(extras)
    return 0
