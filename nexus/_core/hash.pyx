"""BLAKE3, XXH3-64, XXH64, CRC-32C and SipHash over any C-contiguous buffer.

The GIL is held for less than 128 KiB of input, about 50 us, and released above: taking it
back costs up to the interpreter's switch interval. See docs/reference/hash.md.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from nexus._core._args cimport as_bounded, as_size, as_u64
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._simd cimport nx_simd, nx_simd_name, simd_demanded

cdef extern from "nx_blake3.h":
    ctypedef struct nx_blake3_mode:
        pass
    ctypedef struct nx_blake3_hasher:
        nx_blake3_mode mode
    void nx_blake3_select(nx_simd level) noexcept nogil
    void nx_blake3_mode_hash(nx_blake3_mode *ret) noexcept nogil
    void nx_blake3_mode_keyed(const uint8_t *key, nx_blake3_mode *ret) noexcept nogil
    void nx_blake3_mode_derive(const void *context, size_t size, nx_blake3_mode *ret) noexcept nogil
    void nx_blake3_digest(
        const nx_blake3_mode *mode, const void *data, size_t size, uint8_t *ret, size_t ret_size
    ) noexcept nogil
    void nx_blake3_init(const nx_blake3_mode *mode, nx_blake3_hasher *ret) noexcept nogil
    void nx_blake3_update(nx_blake3_hasher *hasher, const void *data, size_t size) noexcept nogil
    void nx_blake3_finish(
        const nx_blake3_hasher *hasher, uint8_t *ret, size_t ret_size
    ) noexcept nogil
    void nx_blake3_many(
        const nx_blake3_mode *mode,
        const void *const *data,
        const size_t *size,
        size_t count,
        uint8_t *ret,
    ) noexcept nogil

cdef extern from "nx_xxhash.h":
    void nx_xxh3_select(nx_simd level) noexcept nogil
    uint64_t nx_xxh3_64(const void *data, size_t size, uint64_t seed) noexcept nogil
    uint64_t nx_xxh64(const void *data, size_t size, uint64_t seed) noexcept nogil

cdef extern from "nx_crc32c.h":
    void nx_crc32c_select(nx_simd level) noexcept nogil
    uint32_t nx_crc32c(uint32_t value, const void *data, size_t size) noexcept nogil

cdef extern from "nx_siphash.h":
    uint64_t nx_siphash_24(const uint8_t *key, const void *data, size_t size) noexcept nogil
    void nx_siphash_24_128(
        const uint8_t *key, const void *data, size_t size, uint8_t *ret
    ) noexcept nogil

# From here on the GIL is released: BLAKE3 of 128 KiB takes 40 to 60 us with vectors.

cdef size_t RELEASE_FROM = 128 * 1024
# The faster hashes need 5 to 20 us for this much.
cdef size_t RELEASE_FAST_FROM = 1024 * 1024

cdef nx_blake3_mode PLAIN
cdef nx_simd LEVEL

simd_demanded(&LEVEL)
nx_blake3_select(LEVEL)
nx_xxh3_select(LEVEL)
nx_crc32c_select(LEVEL)
nx_blake3_mode_hash(&PLAIN)


cdef int key_into(object key, uint8_t *ret, size_t size) except -1:
    """A key of exactly `size` bytes."""
    cdef borrowed lent
    borrow(key, &lent)
    try:
        if lent.size != size:
            raise ValueError(f"the key has {lent.size} bytes, not {size}")
        for i in range(size):
            ret[i] = lent.data[i]
    finally:
        give_back(&lent)
    return 0


cdef bytes digest_of(const nx_blake3_mode *mode, object data, size_t length):
    cdef borrowed lent
    cdef bytes result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(result)
    borrow(data, &lent)
    if lent.size < RELEASE_FROM and length < RELEASE_FROM:
        nx_blake3_digest(mode, lent.data, lent.size, out, length)
    else:
        with nogil:
            nx_blake3_digest(mode, lent.data, lent.size, out, length)
    give_back(&lent)
    return result


def simd_level():
    """The SIMD level of the hash kernels: scalar, sse41, avx2, avx512 or neon."""
    return nx_simd_name(LEVEL).decode()


def blake3(data, *, length=32):
    """BLAKE3 of a buffer.

    Args:
        data: any C-contiguous buffer.
        length: bytes of output; longer output extends shorter output.
    """
    return digest_of(&PLAIN, data, <size_t>as_size(length))


def blake3_keyed(key, data, *, length=32):
    """BLAKE3 as a message authentication code.

    Args:
        key: exactly 32 bytes.
        data: any C-contiguous buffer.
        length: bytes of output.

    Raises:
        ValueError: the key does not have 32 bytes.
    """
    cdef nx_blake3_mode mode
    cdef uint8_t secret[32]
    key_into(key, secret, sizeof(secret))
    nx_blake3_mode_keyed(secret, &mode)
    return digest_of(&mode, data, <size_t>as_size(length))


def blake3_derive_key(str context not None, data, *, length=32):
    """A key derived from key material for one purpose.

    Args:
        context: names the purpose: constant, globally unique, and not secret.
        data: the key material, any C-contiguous buffer.
        length: bytes of output.
    """
    cdef nx_blake3_mode mode
    cdef bytes name = context.encode()
    nx_blake3_mode_derive(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name), &mode)
    return digest_of(&mode, data, <size_t>as_size(length))


def blake3_many(items):
    """The 32-byte BLAKE3 of each buffer; short ones share vector lanes.

    Args:
        items: an iterable of C-contiguous buffers.

    Returns:
        A list of digests in the order of the buffers.
    """
    cdef tuple owned = tuple(items)
    cdef Py_ssize_t count = len(owned)
    cdef Py_ssize_t taken = 0
    cdef size_t total = 0
    cdef borrowed *lent = NULL
    cdef const void **data = NULL
    cdef size_t *sizes = NULL
    cdef uint8_t *out = NULL
    if count == 0:
        return []
    try:
        lent = <borrowed *>PyMem_Calloc(<size_t>count, sizeof(borrowed))
        data = <const void **>PyMem_Calloc(<size_t>count, sizeof(void *))
        sizes = <size_t *>PyMem_Calloc(<size_t>count, sizeof(size_t))
        out = <uint8_t *>PyMem_Calloc(<size_t>count, 32)
        if lent == NULL or data == NULL or sizes == NULL or out == NULL:
            raise MemoryError
        while taken < count:
            borrow(owned[taken], &lent[taken])
            data[taken] = lent[taken].data
            sizes[taken] = lent[taken].size
            total += sizes[taken]
            taken += 1
        if total < RELEASE_FROM:
            nx_blake3_many(&PLAIN, data, sizes, <size_t>count, out)
        else:
            with nogil:
                nx_blake3_many(&PLAIN, data, sizes, <size_t>count, out)
        return [out[32 * i:32 * i + 32] for i in range(count)]
    finally:
        while taken > 0:
            taken -= 1
            give_back(&lent[taken])
        PyMem_Free(lent)
        PyMem_Free(data)
        PyMem_Free(sizes)
        PyMem_Free(out)


def xxh3_64(data, seed=0):
    """XXH3-64 of a buffer as an integer; no defence against an adversary.

    Args:
        data: any C-contiguous buffer.
        seed: unsigned 64-bit integer.
    """
    cdef uint64_t start = as_u64(seed)
    cdef uint64_t result
    cdef borrowed lent
    borrow(data, &lent)
    if lent.size < RELEASE_FAST_FROM:
        result = nx_xxh3_64(lent.data, lent.size, start)
    else:
        with nogil:
            result = nx_xxh3_64(lent.data, lent.size, start)
    give_back(&lent)
    return result


def xxh64(data, seed=0):
    """XXH64 of a buffer as an integer; no defence against an adversary.

    Args:
        data: any C-contiguous buffer.
        seed: unsigned 64-bit integer.
    """
    cdef uint64_t start = as_u64(seed)
    cdef uint64_t result
    cdef borrowed lent
    borrow(data, &lent)
    if lent.size < RELEASE_FAST_FROM:
        result = nx_xxh64(lent.data, lent.size, start)
    else:
        with nogil:
            result = nx_xxh64(lent.data, lent.size, start)
    give_back(&lent)
    return result


def crc32c(data, value=0):
    """CRC-32C of a buffer as an integer; no defence against an adversary.

    Args:
        data: any C-contiguous buffer.
        value: the CRC of what precedes `data`, so that a value can be carried on.
    """
    cdef uint32_t start = <uint32_t>as_bounded(value, 0xFFFFFFFF)
    cdef uint32_t result
    cdef borrowed lent
    borrow(data, &lent)
    if lent.size < RELEASE_FAST_FROM:
        result = nx_crc32c(start, lent.data, lent.size)
    else:
        with nogil:
            result = nx_crc32c(start, lent.data, lent.size)
    give_back(&lent)
    return result


def siphash24(key, data):
    """SipHash-2-4 of a buffer as a 64-bit integer.

    Args:
        key: exactly 16 bytes.
        data: any C-contiguous buffer.

    Raises:
        ValueError: the key does not have 16 bytes.
    """
    cdef uint8_t secret[16]
    cdef uint64_t result
    cdef borrowed lent
    key_into(key, secret, sizeof(secret))
    borrow(data, &lent)
    if lent.size < RELEASE_FROM:
        result = nx_siphash_24(secret, lent.data, lent.size)
    else:
        with nogil:
            result = nx_siphash_24(secret, lent.data, lent.size)
    give_back(&lent)
    return result


def siphash24_128(key, data):
    """SipHash-2-4-128 of a buffer as 16 bytes.

    Args:
        key: exactly 16 bytes.
        data: any C-contiguous buffer.

    Raises:
        ValueError: the key does not have 16 bytes.
    """
    cdef uint8_t secret[16]
    cdef uint8_t result[16]
    cdef borrowed lent
    key_into(key, secret, sizeof(secret))
    borrow(data, &lent)
    if lent.size < RELEASE_FROM:
        nx_siphash_24_128(secret, lent.data, lent.size, result)
    else:
        with nogil:
            nx_siphash_24_128(secret, lent.data, lent.size, result)
    give_back(&lent)
    return PyBytes_FromStringAndSize(<char *>result, 16)


@cython.final
cdef class Blake3:
    """BLAKE3 of an input that comes in parts.

    Args:
        key: 32 bytes make it a keyed hash.
        context: a string makes it a key derivation for that purpose; not with a key.

    An update of 128 KiB or more runs without the GIL; a call from another thread meanwhile
    raises BufferError.
    """

    cdef nx_blake3_hasher hasher
    cdef bint busy

    def __cinit__(self, *, key=None, str context=None):
        cdef nx_blake3_mode mode
        cdef uint8_t secret[32]
        cdef bytes name
        if key is not None and context is not None:
            raise ValueError("a key and a context exclude each other")
        if key is not None:
            key_into(key, secret, sizeof(secret))
            nx_blake3_mode_keyed(secret, &mode)
        elif context is not None:
            name = context.encode()
            nx_blake3_mode_derive(PyBytes_AS_STRING(name), <size_t>PyBytes_GET_SIZE(name), &mode)
        else:
            mode = PLAIN
        nx_blake3_init(&mode, &self.hasher)

    cdef int check_idle(self) except -1:
        if self.busy:
            raise BufferError("another thread is in update")
        return 0

    def update(self, data):
        """Append a C-contiguous buffer to the input."""
        cdef borrowed lent
        self.check_idle()
        borrow(data, &lent)
        if lent.size < RELEASE_FROM:
            nx_blake3_update(&self.hasher, lent.data, lent.size)
        else:
            self.busy = True
            with nogil:
                nx_blake3_update(&self.hasher, lent.data, lent.size)
            self.busy = False
        give_back(&lent)

    def digest(self, *, length=32):
        """The digest of the input so far; updates may follow.

        Args:
            length: bytes of output.
        """
        cdef size_t size = <size_t>as_size(length)
        self.check_idle()
        cdef bytes result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        nx_blake3_finish(&self.hasher, <uint8_t *>PyBytes_AS_STRING(result), size)
        return result

    def copy(self):
        """An independent hasher in the same state."""
        cdef Blake3 other = Blake3.__new__(Blake3)
        self.check_idle()
        other.hasher = self.hasher
        return other
