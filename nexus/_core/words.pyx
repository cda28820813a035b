"""Words of memory that processes share: ordered loads and stores, and sleeping on one.

What a table like that of docs/spec/node.md needs of the processor's memory order, which Python's
own reading of a buffer does not promise. Offsets are in bytes; whatever lies outside the buffer
or is not aligned raises, and nothing is touched.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t

from nexus import errors

from nexus._core._args cimport as_bounded, as_size, as_u64

cdef extern from *:
    """
    #include <errno.h>
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    static inline uint64_t nx_word_load(const void *place)
    {
        return __atomic_load_n((const uint64_t *)place, __ATOMIC_ACQUIRE);
    }

    static inline void nx_word_store(void *place, uint64_t value)
    {
        __atomic_store_n((uint64_t *)place, value, __ATOMIC_RELEASE);
    }

    /* A copy between two equal, even values of the lock that the entry begins with. */
    static inline int nx_entry_copy(const void *place, void *copy, size_t size)
    {
        const uint32_t *lock = (const uint32_t *)place;
        uint32_t before = __atomic_load_n(lock, __ATOMIC_ACQUIRE);
        if (before & 1) {
            return 0;
        }
        memcpy(copy, place, size);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return __atomic_load_n(lock, __ATOMIC_RELAXED) == before;
    }

    /* 1 when the word has another value or was woken, 0 when time or a signal came first. */
    static inline int nx_word_sleep(const void *place, uint32_t expected, int64_t timeout_ns)
    {
        struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        const struct timespec *given = timeout_ns < 0 ? NULL : &limit;
        return syscall(SYS_futex, place, FUTEX_WAIT, expected, given, NULL, 0) == 0 ||
               errno == EAGAIN;
    }

    /* Lets a writer go on that was interrupted inside. */
    static inline void nx_entry_nap(const void *place)
    {
        (void)nx_word_sleep(place, __atomic_load_n((const uint32_t *)place, __ATOMIC_RELAXED),
                            1000000);
    }
    """
    uint64_t nx_word_load(const void *) noexcept
    void nx_word_store(void *, uint64_t) noexcept
    bint nx_entry_copy(const void *, void *, size_t) noexcept
    bint nx_word_sleep(const void *, uint32_t, int64_t) noexcept nogil
    void nx_entry_nap(const void *) noexcept nogil

cdef enum:
    COPY_TRIES_MAX = 1000  # a few microseconds: how long a writer that runs is inside
    COPY_NAPS_MAX = 200  # of a millisecond: how long one may be without a CPU
    TIMEOUT_NS_MAX = 0x7FFFFFFFFFFFFFFF


cdef char *place(Py_buffer *view, object offset, uint64_t size, uint64_t unit) except NULL:
    """Where an aligned piece of the buffer is."""
    cdef uint64_t start = <uint64_t>as_size(offset)
    if start + size > <uint64_t>view.len:
        raise errors.OutOfRangeError(f"{size} bytes at {start} lie outside {view.len}")
    if (<uint64_t>view.buf + start) & (unit - 1):
        raise errors.MisalignedError(f"offset {start} is no multiple of {unit}")
    return <char *>view.buf + start


def load(memory, offset) -> int:
    """The 64-bit word at an offset; what was stored before it is seen after it."""
    cdef Py_buffer view
    PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE)
    try:
        return nx_word_load(place(&view, offset, 8, 8))
    finally:
        PyBuffer_Release(&view)


def store(memory, offset, value) -> None:
    """Store a 64-bit word after all earlier stores."""
    cdef Py_buffer view
    cdef uint64_t number = as_u64(value)
    PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE)
    try:
        nx_word_store(place(&view, offset, 8, 8), number)
    finally:
        PyBuffer_Release(&view)


def read_entry(memory, offset, size) -> bytes:
    """A copy of an entry that begins with a lock of 4 bytes, odd while the entry is written.

    Raises:
        CorruptError: the lock never came to rest: its writer died inside.
    """
    cdef Py_buffer view
    cdef uint64_t length = <uint64_t>as_size(size)
    cdef bytes copy = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
    cdef char *start
    cdef int number
    PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE)
    try:
        start = place(&view, offset, length if length >= 4 else 4, 4)
        for number in range(COPY_TRIES_MAX + COPY_NAPS_MAX):
            if nx_entry_copy(start, PyBytes_AS_STRING(copy), length):
                return copy
            if number >= COPY_TRIES_MAX:
                with nogil:
                    nx_entry_nap(start)
    finally:
        PyBuffer_Release(&view)
    raise errors.CorruptError(f"the entry at {offset} stays locked: its writer died inside")


def sleep_on(memory, offset, expected, timeout_ns) -> bool:
    """Sleep while the 32-bit word at an offset has a value, or until somebody wakes it.

    Args:
        memory: a buffer of shared memory; it may be read-only.
        offset: of the word.
        expected: the value.
        timeout_ns: at most so long; None is for ever. A signal ends it, too.

    Returns:
        Whether the word may have changed; False when time or a signal came first.
    """
    cdef Py_buffer view
    cdef char *word
    cdef bint changed
    cdef uint32_t value = <uint32_t>as_bounded(expected, 0xFFFFFFFF)
    cdef int64_t limit = -1
    if timeout_ns is not None:
        limit = <int64_t>as_bounded(timeout_ns, TIMEOUT_NS_MAX)
    PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE)
    try:
        word = place(&view, offset, 4, 4)
        with nogil:
            changed = nx_word_sleep(word, value, limit)
        return changed
    finally:
        PyBuffer_Release(&view)
