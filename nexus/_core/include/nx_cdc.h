// SPDX-License-Identifier: Apache-2.0
/*
 * Content-defined chunking in two profiles. FastCDC 2020: content-defined chunking with a gear hash
 * and normalised chunk sizes (Xia et al., "The Design of Fast Content-Defined Chunking", IEEE TPDS
 * 2020), cut for cut what the Rust crate fastcdc gives for its v2020 variant. docs/spec/chunker.md
 * is the authority.
 *
 * Theory of operation. A chunk is searched from `minimum` on: h = 2 h + G[byte], a cut is where
 * h and the mask share no bit; the strict mask (more bits) holds below `average`, the loose one
 * from there to `maximum`, where the cut is forced. The byte that triggers is the first of the
 * next chunk. Bytes are tested in pairs from the chunk's start: an odd last byte is not tested.
 * Where a chunk starts decides everything after it, so a search that starts elsewhere agrees
 * with this one from their first common cut on; the threaded form rests on that.
 *
 * The profile nx1 has the same sizes and masks of as many bits over a hash of 32 bytes that lanes
 * of bytes compute (nx_cdc_nx1.h); its cuts are its own.
 *
 * Guarantees: same cuts for any split of a stream, any number of threads, every SIMD level.
 * No allocation except by what fills a list.
 */
#ifndef NX_CDC_H
#define NX_CDC_H

#include "nx_base.h"
#include "nx_simd.h"

#define NX_CDC_MINIMUM_MIN       64u
#define NX_CDC_MINIMUM_MAX       (1u << 20)
#define NX_CDC_AVERAGE_MIN       256u
#define NX_CDC_AVERAGE_MAX       (4u << 20)
#define NX_CDC_MAXIMUM_MIN       1024u
#define NX_CDC_MAXIMUM_MAX       (16u << 20)
#define NX_CDC_NORMALIZATION_MAX 3u
#define NX_CDC_THREADS_MAX       64u

typedef enum {
    NX_CDC_FASTCDC2020 = 1,
    NX_CDC_NX1 = 2,
} nx_cdc_profile;

typedef struct {
    nx_cdc_profile profile;
    uint64_t gear[256]; /* of fastcdc2020 */
    uint8_t low[16];    /* of nx1 */
    uint8_t high[16];
    uint8_t mask_h;
    uint8_t mask_g;
    uint64_t strict;
    uint64_t loose;
    size_t minimum;
    size_t average;
    size_t maximum;
} nx_cdc;

/* Where a search stands: `at` bytes of the chunk are behind, `hash` covers those tested. */
typedef struct {
    uint64_t hash;
    size_t at;
} nx_cdc_search;

/* A stream: the open chunk, and the first byte of a pair whose second did not come yet. */
typedef struct {
    nx_cdc_search search;
    uint64_t start; /* of the open chunk */
    uint8_t held;
    bool holds;
    uint8_t tail[32]; /* nx1: the last bytes */
} nx_cdc_stream;

typedef struct {
    uint64_t end;  /* offset behind the chunk's last byte */
    uint64_t hash; /* the gear hash where the search stopped; nx1: 0 */
} nx_cdc_cut;

typedef struct {
    uint64_t end;
    uint8_t blake3[32];
} nx_cdc_digest;

/* A list on the heap; empty is {0}, nx_cdc_list_free ends it. */
typedef struct {
    nx_cdc_digest *items;
    size_t count;
    size_t room;
} nx_cdc_list;

/* NX_EINVAL when a size lies outside its limits, minimum <= average <= maximum does not hold, or
 * the normalisation is above 3. `seed` is mixed into the tables. */
int nx_cdc_init(nx_cdc_profile profile, size_t minimum, size_t average, size_t maximum,
                unsigned normalization, uint64_t seed, nx_cdc *ret);

/* Length of the first chunk of data[0..size), which ends at the end of the input; size > 0. */
size_t nx_cdc_next(const nx_cdc *cdc, const uint8_t *data, size_t size, uint64_t *ret_hash);

/* All cuts from data[start..size), at most `room`; returns how many, and where to go on. */
size_t nx_cdc_cuts(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t room,
                   nx_cdc_cut *ret, size_t *ret_next);

void nx_cdc_stream_init(nx_cdc_stream *ret);

/* Consumes data up to the next cut; returns the bytes consumed, maybe 0, and in *ret_cut the
 * cut's offset in the stream, or 0 if there was none and all of the data was consumed. */
size_t nx_cdc_stream_update(const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data,
                            size_t size, uint64_t *ret_cut);

/* Bytes consumed so far; the end of the last chunk if the stream ends here. */
uint64_t nx_cdc_stream_end(const nx_cdc_stream *stream);

void nx_cdc_list_free(nx_cdc_list *list);
int nx_cdc_list_extend(nx_cdc_list *list, const nx_cdc_digest *items, size_t count);

/* Appends the chunks of data[start..) without digests (zero), until one ends at or behind `stop`.
 * NX_ENOMEM. */
int nx_cdc_list_cuts(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t stop,
                     nx_cdc_list *list);

/* Feeds a stream and appends the cuts found, without digests. NX_ENOMEM, and then the stream is
 * of no further use. */
int nx_cdc_stream_cuts(const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data, size_t size,
                       nx_cdc_list *list);

/* Chooses the kernels of nx_cdc_digests, and those of BLAKE3 with them. */
void nx_cdc_select(nx_simd level);

/* Appends the chunks of data[start..) with their BLAKE3 to the list, in one pass over the data,
 * until a chunk ends at or behind `stop`; `start` must be where a chunk starts. NX_ENOMEM. */
int nx_cdc_digests(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t stop,
                   nx_cdc_list *list);

/* The same over all of the data by `threads` (1 to 64) threads; without `hashed` the digests are
 * left out (zero). Each thread takes a segment and starts its search there; the lists are joined
 * where their cuts agree, and what lies before is searched again. NX_ENOMEM; a thread that does
 * not start is done without. */
int nx_cdc_threaded(const nx_cdc *cdc, const uint8_t *data, size_t size, unsigned threads,
                    bool hashed, nx_cdc_list *list);

#endif
