// SPDX-License-Identifier: Apache-2.0
/*
 * Blocks of the store: some objects, compressed together. docs/spec/nexfs-store.md is the
 * authority.
 *
 * Theory of operation. A block is a header with the ids and sizes of its objects, and a payload
 * that decodes to them. Objects that lie together in a tree are alike, so one frame of zstd over
 * all of them is smaller than one for each; and what is almost an earlier object is written as what
 * continues it: the bases are the prefix of the frame. How deep bases rest on bases is bounded by
 * the depth in the header.
 *
 * Nothing here is believed: tables by their CRC, a payload by its gate, an object by its id.
 */
#ifndef NX_BLOCK_H
#define NX_BLOCK_H

#include "nx_bytes.h"
#include "nx_zstd.h"

#define NX_BLOCK_MAGIC       0x3142584eu /* "NXB1" */
#define NX_BLOCK_HEADER      32u
#define NX_BLOCK_ENTRY       36u
#define NX_BLOCK_BASE        40u
#define NX_BLOCK_ALIGN       16u
#define NX_BLOCK_RAW_MAX     (1u << 20)
#define NX_BLOCK_OBJECTS_MAX 4096u
#define NX_BLOCK_BASES_MAX   64u
#define NX_BLOCK_PREFIX_MAX  (1u << 20)
#define NX_BLOCK_DEPTH_MAX   8u
#define NX_BLOCK_SPARE       1024u
#define NX_BLOCK_HEAD_MAX                                                                          \
    (NX_BLOCK_HEADER + NX_BLOCK_ENTRY * NX_BLOCK_OBJECTS_MAX + NX_BLOCK_BASE * NX_BLOCK_BASES_MAX)

#define NX_OBJECT_ID   32u
#define NX_CHUNK_MAX   262144u
#define NX_ENTRY_SIZE  0x0fffffffu
#define NX_ENTRY_SHIFT 28u

typedef enum nx_kind {
    NX_KIND_DATA = 1,
    NX_KIND_LIST = 2,
    NX_KIND_LEAF = 3,
    NX_KIND_INDEX = 4,
    NX_KIND_SIGNATURE = 5,
} nx_kind;

typedef enum nx_codec { NX_CODEC_NONE = 0, NX_CODEC_ZSTD = 1 } nx_codec;

typedef struct nx_base_range {
    uint8_t id[NX_OBJECT_ID];
    uint32_t at;
    uint32_t size;
} nx_base_range;

/* A block's head, checked; the pointers are into the bytes that it was read from. */
typedef struct nx_block {
    const uint8_t *entries; /* NX_BLOCK_ENTRY bytes each */
    const uint8_t *bases;   /* NX_BLOCK_BASE bytes each */
    uint64_t gate;
    uint32_t raw;
    uint32_t stored;
    uint32_t head; /* bytes before the payload */
    uint16_t count;
    uint16_t base_count;
    uint8_t codec;
    uint8_t depth;
    int8_t level;
} nx_block;

/* What goes into a block. */
typedef struct nx_block_plan {
    const uint8_t *entries; /* count x NX_BLOCK_ENTRY, as on the medium */
    const uint8_t *raw;
    const nx_base_range *bases;
    const uint8_t *prefix; /* the ranges, one after another */
    uint32_t count;
    uint32_t raw_size;
    uint32_t base_count;
    uint32_t prefix_size;
    uint8_t depth;
    int level;
} nx_block_plan;

/* How many bytes the head of this block has, from its first 32; 0 if it is none. */
uint32_t nx_block_head_size(const uint8_t header[NX_BLOCK_HEADER]);

/* NX_ECORRUPT unless `head` is the whole head of a block. */
int nx_block_open(const uint8_t *head, size_t size, nx_block *ret);

/* The bytes of a block in its pack, padding included. */
uint64_t nx_block_extent(const nx_block *block);

/* Appends the block to `ret`; NX_ENOMEM. `context` is a compressor of `zstd`. */
int nx_block_encode(const nx_zstd *zstd, void *context, const nx_block_plan *plan, nx_bytes *ret);

/* The gate alone: whether the payload is what was written. */
bool nx_block_passes(const nx_block *block, const uint8_t *payload);

/* The payload's objects into ret[0..raw). NX_ECORRUPT when the gate or the frame says no. */
int nx_block_decode(const nx_zstd *zstd, void *context, const nx_block *block,
                    const uint8_t *payload, const uint8_t *prefix, size_t prefix_size,
                    uint8_t *ret);

NX_INLINE const uint8_t *nx_block_id(const nx_block *block, size_t i)
{
    return block->entries + i * NX_BLOCK_ENTRY;
}

NX_INLINE uint32_t nx_block_size(const nx_block *block, size_t i)
{
    return nx_load_u32(block->entries + i * NX_BLOCK_ENTRY + NX_OBJECT_ID) & NX_ENTRY_SIZE;
}

NX_INLINE nx_kind nx_block_kind(const nx_block *block, size_t i)
{
    uint32_t word = nx_load_u32(block->entries + i * NX_BLOCK_ENTRY + NX_OBJECT_ID);

    return (nx_kind)(word >> NX_ENTRY_SHIFT);
}

#endif
