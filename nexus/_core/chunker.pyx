"""Content-defined chunking: cuts of a buffer or a stream, and chunks with their BLAKE3 in one pass.

The GIL is held below 128 KiB of input (64 KiB with digests) and released above. See
docs/spec/chunker.md for the algorithm and docs/reference/chunker.md for the guarantees.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t

from nexus._core._args cimport as_bounded, as_size, as_u64
from nexus._core._borrow cimport borrow, borrowed, give_back
from nexus._core._errors cimport raise_code
from nexus._core._simd cimport nx_simd, simd_demanded

from nexus import errors

cdef extern from "nx_cdc.h":
    enum:
        NX_CDC_THREADS_MAX
    ctypedef struct nx_cdc:
        pass
    ctypedef struct nx_cdc_stream:
        uint64_t start
    ctypedef struct nx_cdc_cut:
        uint64_t end
        uint64_t hash
    ctypedef struct nx_cdc_digest:
        uint64_t end
        uint8_t blake3[32]
    ctypedef struct nx_cdc_list:
        nx_cdc_digest *items
        size_t count
        size_t room
    void nx_cdc_select(nx_simd level) noexcept nogil
    ctypedef enum nx_cdc_profile:
        NX_CDC_FASTCDC2020
        NX_CDC_NX1
    int nx_cdc_init(
        nx_cdc_profile profile, size_t minimum, size_t average, size_t maximum,
        unsigned normalization, uint64_t seed, nx_cdc *ret
    ) noexcept nogil
    size_t nx_cdc_next(
        const nx_cdc *cdc, const uint8_t *data, size_t size, uint64_t *ret_hash
    ) noexcept nogil
    int nx_cdc_threaded(
        const nx_cdc *cdc, const uint8_t *data, size_t size, unsigned threads, bint hashed,
        nx_cdc_list *list
    ) noexcept nogil
    void nx_cdc_list_free(nx_cdc_list *list) noexcept nogil
    void nx_cdc_stream_init(nx_cdc_stream *ret) noexcept nogil
    int nx_cdc_stream_cuts(
        const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data, size_t size,
        nx_cdc_list *list
    ) noexcept nogil
    uint64_t nx_cdc_stream_end(const nx_cdc_stream *stream) noexcept nogil

# From these sizes on the GIL is released: each is about 40 us of work.
cdef size_t RELEASE_CUTS_FROM = 128 * 1024
cdef size_t RELEASE_DIGESTS_FROM = 64 * 1024

cdef nx_simd LEVEL
simd_demanded(&LEVEL)
nx_cdc_select(LEVEL)


@cython.final
cdef class Chunker:
    """Cuts data where its content says so, so that an insertion moves few cuts.

    Args:
        minimum: bytes below which no chunk ends, except the last; 64 to 1 MiB.
        average: bytes aimed at, where the loose mask takes over; 256 to 4 MiB.
        maximum: bytes at which a chunk ends in any case; 1,024 to 16 MiB.
        profile: name of the algorithm: "fastcdc2020", or "nx1", whose search is made for SIMD.
        normalization: 0 to 3; how much the masks below and above the average differ.
        seed: unsigned 64-bit integer mixed into the tables; 0 gives the published cuts.

    Raises:
        ValueError: an unknown profile, a size outside its limits, or not
            minimum <= average <= maximum.
    """

    cdef nx_cdc cdc
    cdef readonly size_t minimum
    cdef readonly size_t average
    cdef readonly size_t maximum
    cdef readonly str profile

    def __cinit__(
        self,
        minimum=16384,
        average=65536,
        maximum=262144,
        profile="fastcdc2020",
        *,
        normalization=1,
        seed=0,
    ):
        if not isinstance(profile, str):
            raise TypeError("the profile is a string")
        cdef nx_cdc_profile which = NX_CDC_NX1 if profile == "nx1" else NX_CDC_FASTCDC2020
        if profile not in ("fastcdc2020", "nx1"):
            raise ValueError(f"unknown chunking profile {profile!r}; known: 'fastcdc2020', 'nx1'")
        self.minimum = <size_t>as_size(minimum)
        self.average = <size_t>as_size(average)
        self.maximum = <size_t>as_size(maximum)
        self.profile = profile
        cdef uint64_t level = as_u64(normalization)
        cdef uint64_t mixed = as_u64(seed)
        if level > 3:
            raise ValueError(f"normalization is 0 to 3, not {level}")
        raise_code(
            nx_cdc_init(
                which, self.minimum, self.average, self.maximum, <unsigned>level, mixed,
                &self.cdc,
            ),
            f"chunk sizes {self.minimum}, {self.average}, {self.maximum}: not ascending, or "
            "outside 64..1048576, 256..4194304, 1024..16777216",
        )

    cdef int fill(self, object data, object threads, bint hashed, nx_cdc_list *ret) except -1:
        cdef uint64_t count = as_bounded(threads, NX_CDC_THREADS_MAX)
        cdef borrowed lent
        cdef int code
        if count == 0:
            raise ValueError("threads is 1 to 64")
        borrow(data, &lent)
        if lent.size < (RELEASE_DIGESTS_FROM if hashed else RELEASE_CUTS_FROM):
            code = nx_cdc_threaded(&self.cdc, lent.data, lent.size, 1, hashed, ret)
        else:
            with nogil:
                code = nx_cdc_threaded(
                    &self.cdc, lent.data, lent.size, <unsigned>count, hashed, ret
                )
        give_back(&lent)
        return raise_code(code, "list of chunks")

    def cuts(self, data, *, threads=1):
        """Where the chunks of a buffer end.

        Args:
            data: any C-contiguous buffer; it must not change meanwhile.
            threads: 1 to 64; the result is the same, large inputs take less time.

        Returns:
            The offset behind each chunk, ascending; the last is the size. Empty for no data.
        """
        cdef nx_cdc_list found
        found.items = NULL
        found.count = found.room = 0
        try:
            self.fill(data, threads, False, &found)
            return [found.items[i].end for i in range(found.count)]
        finally:
            nx_cdc_list_free(&found)

    def digests(self, data, *, threads=1):
        """The chunks of a buffer with their BLAKE3, in one pass over the data.

        Args:
            data: any C-contiguous buffer; it must not change meanwhile.
            threads: 1 to 64.

        Returns:
            A pair for each chunk: the offset behind it, and its 32-byte digest.
        """
        cdef nx_cdc_list found
        found.items = NULL
        found.count = found.room = 0
        try:
            self.fill(data, threads, True, &found)
            return [
                (
                    found.items[i].end,
                    PyBytes_FromStringAndSize(<const char *>found.items[i].blake3, 32),
                )
                for i in range(found.count)
            ]
        finally:
            nx_cdc_list_free(&found)

    def cuts_and_hashes(self, data):
        """Where the chunks end, and the gear hash there as the published crate reports it.

        Of nx1, which has none, the hash is 0.

        Args:
            data: any C-contiguous buffer.
        """
        cdef borrowed lent
        cdef size_t at = 0
        cdef uint64_t gear = 0
        result = []
        borrow(data, &lent)
        try:
            while at < lent.size:
                at += nx_cdc_next(&self.cdc, lent.data + at, lent.size - at, &gear)
                result.append((at, gear))
        finally:
            give_back(&lent)
        return result

    def stream(self):
        """A new stream that finds the same cuts in data that comes in parts."""
        cdef ChunkStream stream = ChunkStream.__new__(ChunkStream)
        stream.chunker = self
        nx_cdc_stream_init(&stream.state)
        return stream


@cython.final
cdef class ChunkStream:
    """The cuts of one stream; made by Chunker.stream().

    It keeps no data, only the state of the search. A call from another thread while an update of
    128 KiB or more runs raises BufferError.
    """

    cdef Chunker chunker
    cdef nx_cdc_stream state
    cdef bint busy
    cdef bint finished

    def __init__(self):
        raise TypeError("a stream is made by Chunker.stream()")

    cdef int check_open(self) except -1:
        if self.busy:
            raise BufferError("another thread is in update")
        if self.finished:
            raise errors.ClosedError("the stream is finished")
        return 0

    def update(self, data):
        """Append a C-contiguous buffer.

        Returns:
            The cuts that are certain now, as offsets in the stream. A cut may be found only
            with the bytes that come after it.

        Raises:
            ClosedError: finish() was called.
        """
        cdef nx_cdc_list found
        cdef borrowed lent
        cdef int code
        self.check_open()
        found.items = NULL
        found.count = found.room = 0
        borrow(data, &lent)
        if lent.size < RELEASE_CUTS_FROM:
            code = nx_cdc_stream_cuts(
                &self.chunker.cdc, &self.state, lent.data, lent.size, &found
            )
        else:
            self.busy = True
            with nogil:
                code = nx_cdc_stream_cuts(
                    &self.chunker.cdc, &self.state, lent.data, lent.size, &found
                )
            self.busy = False
        give_back(&lent)
        try:
            self.finished = code != 0
            raise_code(code, "list of chunks")
            return [found.items[i].end for i in range(found.count)]
        finally:
            nx_cdc_list_free(&found)

    def finish(self):
        """End the stream.

        Returns:
            The end of the last chunk in a list, or an empty list if the stream ended with a cut.

        Raises:
            ClosedError: finish() was called before.
        """
        cdef uint64_t end
        self.check_open()
        self.finished = True
        end = nx_cdc_stream_end(&self.state)
        return [end] if end > self.state.start else []
