// SPDX-License-Identifier: Apache-2.0
/* Layout: docs/spec/nexfs-store.md, "Block". */
#include "nx_block.h"

#include <string.h>

#include "nx_crc32c.h"
#include "nx_xxhash.h"

enum {
    AT_CODEC = 4,
    AT_LEVEL = 5,
    AT_DEPTH = 6,
    AT_ZERO = 7,
    AT_RAW = 8,
    AT_STORED = 12,
    AT_COUNT = 16,
    AT_BASES = 18,
    AT_CRC = 20,
    AT_GATE = 24,
};

static uint32_t load_u16(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static void store_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

uint32_t nx_block_head_size(const uint8_t header[NX_BLOCK_HEADER])
{
    uint32_t count = load_u16(header + AT_COUNT);
    uint32_t bases = load_u16(header + AT_BASES);

    if (nx_load_u32(header) != NX_BLOCK_MAGIC || count == 0 || count > NX_BLOCK_OBJECTS_MAX ||
        bases > NX_BLOCK_BASES_MAX) {
        return 0;
    }
    return NX_BLOCK_HEADER + NX_BLOCK_ENTRY * count + NX_BLOCK_BASE * bases;
}

static uint32_t head_crc(const uint8_t *head, size_t size)
{
    static const uint8_t ZERO[4];
    uint32_t crc = nx_crc32c(0, head, AT_CRC);

    crc = nx_crc32c(crc, ZERO, sizeof ZERO);
    return nx_crc32c(crc, head + AT_GATE, size - AT_GATE);
}

static bool sizes_agree(const nx_block *block)
{
    uint64_t raw = 0;
    uint64_t prefix = 0;

    for (size_t i = 0; i < block->count; i++) {
        nx_kind kind = nx_block_kind(block, i);
        uint32_t size = nx_block_size(block, i);
        if (kind < NX_KIND_DATA || kind > NX_KIND_SIGNATURE ||
            size > (kind == NX_KIND_DATA ? NX_CHUNK_MAX : NX_BLOCK_RAW_MAX)) {
            return false;
        }
        raw += size;
    }
    for (size_t i = 0; i < block->base_count; i++) {
        prefix += nx_load_u32(block->bases + i * NX_BLOCK_BASE + NX_OBJECT_ID + 4);
    }
    return raw == block->raw && prefix <= NX_BLOCK_PREFIX_MAX;
}

int nx_block_open(const uint8_t *head, size_t size, nx_block *ret)
{
    if (size < NX_BLOCK_HEADER || nx_block_head_size(head) != size ||
        nx_load_u32(head + AT_CRC) != head_crc(head, size)) {
        return NX_ECORRUPT;
    }
    nx_block block = {
        .entries = head + NX_BLOCK_HEADER,
        .gate = nx_load_u64(head + AT_GATE),
        .raw = nx_load_u32(head + AT_RAW),
        .stored = nx_load_u32(head + AT_STORED),
        .head = (uint32_t)size,
        .count = (uint16_t)load_u16(head + AT_COUNT),
        .base_count = (uint16_t)load_u16(head + AT_BASES),
        .codec = head[AT_CODEC],
        .depth = head[AT_DEPTH],
        .level = (int8_t)head[AT_LEVEL],
    };
    block.bases = block.entries + (size_t)NX_BLOCK_ENTRY * block.count;
    bool plain = block.codec == NX_CODEC_NONE;
    if (block.codec > NX_CODEC_ZSTD || head[AT_ZERO] != 0 || block.depth > NX_BLOCK_DEPTH_MAX ||
        block.raw > NX_BLOCK_RAW_MAX || block.stored > block.raw + NX_BLOCK_SPARE ||
        (plain && block.stored != block.raw) || (block.depth > 0) != (block.base_count > 0) ||
        (plain && block.depth > 0) || !sizes_agree(&block)) {
        return NX_ECORRUPT;
    }
    *ret = block;
    return NX_OK;
}

uint64_t nx_block_extent(const nx_block *block)
{
    return nx_align_up((uint64_t)block->head + block->stored, NX_BLOCK_ALIGN);
}

/* The frame's bytes at `ret`, or 0 where it would be no smaller than what it stands for. */
static size_t compress(const nx_zstd *zstd, void *context, const nx_block_plan *plan, uint8_t *ret,
                       size_t room)
{
    unsigned window = 10;

    while ((1u << window) < plan->raw_size + plan->prefix_size) {
        window++;
    }
    if (zstd->is_error(zstd->c_set(context, NX_ZSTD_C_LEVEL, plan->level)) ||
        zstd->is_error(zstd->c_set(context, NX_ZSTD_C_WINDOW_LOG, (int)window)) ||
        (plan->prefix_size > 0 &&
         zstd->is_error(zstd->c_prefix(context, plan->prefix, plan->prefix_size)))) {
        return 0;
    }
    size_t size = zstd->compress(context, ret, room, plan->raw, plan->raw_size);
    return zstd->is_error(size) || size >= plan->raw_size ? 0 : size;
}

int nx_block_encode(const nx_zstd *zstd, void *context, const nx_block_plan *plan, nx_bytes *ret)
{
    size_t head = NX_BLOCK_HEADER + (size_t)NX_BLOCK_ENTRY * plan->count;
    size_t frame_room = zstd->bound(plan->raw_size); /* never less than raw_size */
    size_t whole = head + (size_t)NX_BLOCK_BASE * plan->base_count;
    uint8_t *place = nx_bytes_room(ret, whole + frame_room + NX_BLOCK_ALIGN);

    if (place == NULL) {
        return NX_ENOMEM;
    }
    size_t stored = compress(zstd, context, plan, place + whole, frame_room);
    bool plain = stored == 0;
    if (plain) {
        whole = head; /* without a frame there is nothing that continues a base */
        stored = plan->raw_size;
        memcpy(place + whole, plan->raw, stored);
    }
    uint32_t bases = plain ? 0 : plan->base_count;
    memset(place, 0, NX_BLOCK_HEADER);
    nx_store_u32(place, NX_BLOCK_MAGIC);
    place[AT_CODEC] = plain ? NX_CODEC_NONE : NX_CODEC_ZSTD;
    place[AT_LEVEL] = (uint8_t)(int8_t)plan->level;
    place[AT_DEPTH] = bases > 0 ? plan->depth : 0;
    nx_store_u32(place + AT_RAW, plan->raw_size);
    nx_store_u32(place + AT_STORED, (uint32_t)stored);
    store_u16(place + AT_COUNT, plan->count);
    store_u16(place + AT_BASES, bases);
    nx_store_u64(place + AT_GATE, nx_xxh3_64(place + whole, stored, 0));
    memcpy(place + NX_BLOCK_HEADER, plan->entries, (size_t)NX_BLOCK_ENTRY * plan->count);
    for (size_t i = 0; i < bases; i++) {
        uint8_t *base = place + head + i * NX_BLOCK_BASE;
        memcpy(base, plan->bases[i].id, NX_OBJECT_ID);
        nx_store_u32(base + NX_OBJECT_ID, plan->bases[i].at);
        nx_store_u32(base + NX_OBJECT_ID + 4, plan->bases[i].size);
    }
    nx_store_u32(place + AT_CRC, head_crc(place, whole));
    size_t end = whole + stored;
    size_t padded = nx_align_up(end, NX_BLOCK_ALIGN);
    memset(place + end, 0, padded - end);
    ret->size += padded;
    return NX_OK;
}

bool nx_block_passes(const nx_block *block, const uint8_t *payload)
{
    return nx_xxh3_64(payload, block->stored, 0) == block->gate;
}

int nx_block_decode(const nx_zstd *zstd, void *context, const nx_block *block,
                    const uint8_t *payload, const uint8_t *prefix, size_t prefix_size, uint8_t *ret)
{
    if (!nx_block_passes(block, payload)) {
        return NX_ECORRUPT;
    }
    if (block->codec == NX_CODEC_NONE) {
        memcpy(ret, payload, block->raw);
        return NX_OK;
    }
    if (prefix_size > 0 && zstd->is_error(zstd->d_prefix(context, prefix, prefix_size))) {
        return NX_ENOMEM;
    }
    size_t size = zstd->decompress(context, ret, block->raw, payload, block->stored);
    return zstd->is_error(size) || size != block->raw ? NX_ECORRUPT : NX_OK;
}
