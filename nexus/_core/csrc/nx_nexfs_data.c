// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: extents in blocks of data. Between filling the buffer and programming it, nothing
 * may ask the tree for anything: the tree would want the buffer.
 */
#include "nx_nexfs_core.h"

#include "nx_blake3_kernels.h"

#define TRIES 4u

uint32_t nx_nexfs_checksum_bytes(unsigned kind)
{
    return kind == NX_NEXFS_PLAIN ? 0 : 4u << kind;
}

#if defined(NX_SMALL)
#define DEPTH_MAX 11u /* of 2^20 bytes in leaves of 2^10 */

/* The last block of a leaf or a parent, padded; those before it have been compressed already. */
static void compress(uint32_t cv[8], const uint8_t *data, uint32_t size, uint64_t counter,
                     uint32_t flags)
{
    uint8_t block[NX_BLAKE3_BLOCK] = {0};

    memcpy(block, data, size);
    nx_blake3_compress_scalar(cv, block, size, counter, flags);
}

static void leaf(const uint8_t *data, uint32_t size, uint64_t counter, uint32_t flags,
                 uint32_t cv[8])
{
    uint32_t start = NX_BLAKE3_CHUNK_START;

    memcpy(cv, nx_blake3_iv, sizeof nx_blake3_iv);
    for (; size > NX_BLAKE3_BLOCK; data += NX_BLAKE3_BLOCK, size -= NX_BLAKE3_BLOCK) {
        nx_blake3_compress_scalar(cv, data, NX_BLAKE3_BLOCK, counter, start);
        start = 0;
    }
    compress(cv, data, size, counter, flags | start | NX_BLAKE3_CHUNK_END);
}

/* BLAKE3 with the chaining values of one path alone: the hasher's state would be 2 KiB. */
static void blake3(const uint8_t *data, uint32_t size, uint8_t ret[NX_BLAKE3_OUT])
{
    uint32_t path[DEPTH_MAX + 1][8], depth = 0, count = 0, joined;
    bool last;

    do {
        uint32_t part = size < NX_BLAKE3_LEAF ? size : NX_BLAKE3_LEAF;
        last = part == size;
        leaf(data, part, count, last && count == 0 ? NX_BLAKE3_ROOT : 0, path[depth++]);
        data += part;
        size -= part;
        count++;
        /* Whole subtrees are joined; at the end, all that is left, the very last as the root. */
        for (joined = count; depth > 1 && (last || (joined & 1) == 0); joined >>= 1) {
            uint8_t pair[2 * NX_BLAKE3_OUT];
            memcpy(pair, path[depth - 2], sizeof pair);
            memcpy(path[depth - 2], nx_blake3_iv, sizeof nx_blake3_iv);
            depth--;
            compress(path[depth - 1], pair, sizeof pair, 0,
                     NX_BLAKE3_PARENT | (last && depth == 1 ? NX_BLAKE3_ROOT : 0));
        }
    } while (!last);
    memcpy(ret, path[0], NX_BLAKE3_OUT);
}
#else
static void blake3(const uint8_t *data, uint32_t size, uint8_t ret[NX_BLAKE3_OUT])
{
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, data, size, ret, NX_BLAKE3_OUT);
}
#endif

/* The checksum's first bytes, as many as its kind has. */
void nx_nexfs_checksum(unsigned kind, const uint8_t *data, uint32_t size, uint8_t *ret)
{
    if (kind == NX_NEXFS_XXH3) {
        nx_store_u64(ret, nx_xxh3_64(data, size, 0));
    } else if (kind != NX_NEXFS_PLAIN) {
        uint8_t digest[NX_BLAKE3_OUT];
        blake3(data, size, digest);
        memcpy(ret, digest, nx_nexfs_checksum_bytes(kind));
    }
}

uint32_t nx_nexfs_pages_of(const nx_nexfs *fs, uint32_t bytes)
{
    uint32_t page = fs->flash->geometry.page_size;

    return (uint32_t)(((uint64_t)bytes + page - 1) / page);
}

bool nx_nexfs_window_parse(const nx_nexfs *fs, const nx_nexfs_item *item, nx_nexfs_window *ret)
{
    const nx_flash_geometry *g = &fs->flash->geometry;
    uint32_t fixed = 9u + fs->super.address_bytes;
    uint64_t end;

    *ret = (nx_nexfs_window){0};
    if (item->size < 1) {
        return false;
    }
    ret->extent = (item->value[0] & 1) != 0;
    ret->codec = item->value[0] >> 2 & 3;
    ret->checksum = item->value[0] >> 4 & 3;
    ret->bytes = item->value + 1;
    ret->size = item->size - 1;
    if (!ret->extent) {
        return item->value[0] == 0 && ret->size <= 1u << fs->super.window_max_log2;
    }
    if ((item->value[0] & 0xc2) != 0 || ret->codec > NX_NEXFS_RLE ||
        item->size != fixed + nx_nexfs_checksum_bytes(ret->checksum)) {
        return false;
    }
    ret->size = nx_load_u32(item->value + 1);
    ret->stored = nx_load_u32(item->value + 5);
    memcpy(&ret->address, item->value + 9, fs->super.address_bytes);
    ret->bytes = item->value + fixed;
    if (ret->stored == 0 || ret->stored > 1u << fs->super.window_max_log2 ||
        ret->size > 1u << fs->super.window_max_log2 || ret->address >= g->size ||
        ret->address % g->page_size != 0 ||
        (ret->codec == NX_NEXFS_RAW && ret->stored < ret->size)) {
        return false;
    }
    end =
        ret->address % g->block_size + (uint64_t)nx_nexfs_pages_of(fs, ret->stored) * g->page_size;
    return end <= g->block_size && ret->address >= 2ull * g->block_size;
}

/* Whole pages from where the data are, the rest by way of the buffer. */
static int program_run(nx_nexfs *fs, uint64_t address, const uint8_t *data, uint32_t size)
{
    uint32_t page = fs->flash->geometry.page_size, whole = size - size % page;
    int code = NX_OK;

    fs->unsynced = true;
    if (whole > 0) {
        code = fs->flash->verbs->program(fs->flash->self, address, data, whole);
    }
    if (code == NX_OK && whole < size) {
        uint8_t *last = fs->memory.buffer + (data == fs->memory.buffer ? whole : 0);
        memmove(last, data + whole, size - whole);
        memset(last + (size - whole), fs->flash->geometry.erased, page - (size - whole));
        code = fs->flash->verbs->program(fs->flash->self, address + whole, last, page);
    }
    return code;
}

/* A place for so many pages in the open data block; opens another one. */
static int place(nx_nexfs *fs, uint32_t pages, bool cleaning, uint32_t *ret_closed)
{
    nx_nexfs_state *s = &fs->state;
    int code = NX_OK;

    if (s->data_block == NONE || s->data_page >= fs->pages || fs->pages - s->data_page < pages) {
        uint32_t block;
        if (!cleaning && s->blocks_free <= fs->super.reserve_blocks / 2) {
            return NX_EFULL;
        }
        code = nx_nexfs_block_take(fs, DATA, &block);
        if (code == NX_OK) {
            *ret_closed = s->data_block;
            s->data_block = block;
            s->data_page = 0;
        }
    }
    return code;
}

/* A block that was open for data: it may hold nothing, or have failed. */
static int closed(nx_nexfs *fs, uint32_t block, bool failed)
{
    nx_nexfs_block entry;
    int code = nx_nexfs_block_get(fs, block, &entry);

    if (code == NX_OK && failed) {
        entry.flags |= RETIRE;
        code = nx_nexfs_block_put(fs, block, &entry);
        fs->urgent = block;
    }
    return code == NX_OK && entry.live == 0 ? nx_nexfs_block_free(fs, block) : code;
}

int nx_nexfs_data_program(nx_nexfs *fs, const uint8_t *data, uint32_t stored, bool cleaning,
                          uint64_t *ret)
{
    uint32_t pages = nx_nexfs_pages_of(fs, stored), was[TRIES], count = 0, failed = 0;
    const nx_flash_geometry *g = &fs->flash->geometry;
    nx_nexfs_block entry;
    int code = NX_EMEDIUM;

    for (uint32_t i = 0; i < TRIES && code == NX_EMEDIUM; i++) {
        uint32_t before = NONE;
        code = place(fs, pages, cleaning, &before);
        if (before != NONE) {
            was[count++] = before;
            failed |= (i > 0 ? 1u : 0u) << (count - 1);
        }
        if (code == NX_OK) {
            *ret = (uint64_t)fs->state.data_block * g->block_size +
                   (uint64_t)fs->state.data_page * g->page_size;
            code = program_run(fs, *ret, data, stored);
            fs->state.data_page = code == NX_EMEDIUM ? fs->pages : fs->state.data_page + pages;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        int after = closed(fs, was[i], (failed >> i & 1) != 0);
        code = code != NX_OK ? code : after;
    }
    code = code != NX_OK ? code : nx_nexfs_block_get(fs, fs->state.data_block, &entry);
    if (code == NX_OK) {
        entry.live += pages;
        fs->state.data_pages += pages;
        code = nx_nexfs_block_put(fs, fs->state.data_block, &entry);
    }
    return code;
}

int nx_nexfs_data_drop(nx_nexfs *fs, uint64_t address, uint32_t stored)
{
    uint32_t block = (uint32_t)(address / fs->flash->geometry.block_size);
    uint32_t pages = nx_nexfs_pages_of(fs, stored);
    nx_nexfs_block entry;
    int code = nx_nexfs_block_get(fs, block, &entry);

    if (code == NX_OK && (entry.state != DATA || entry.live < pages)) {
        code = NX_ECORRUPT;
    }
    if (code != NX_OK) {
        return code;
    }
    entry.live -= pages;
    fs->state.data_pages -= pages;
    code = nx_nexfs_block_put(fs, block, &entry);
    return code == NX_OK && entry.live == 0 && block != fs->state.data_block
               ? nx_nexfs_block_free(fs, block)
               : code;
}

int nx_nexfs_owner_put(nx_nexfs *fs, uint64_t address, uint64_t inode, uint64_t window)
{
    const nx_flash_geometry *g = &fs->flash->geometry;
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_OWNER, address / g->block_size);
    uint8_t value[18], *to;
    uint32_t size;
    int code;

    nx_nexfs_key_number(&key, address % g->block_size / g->page_size);
    size = nx_nexfs_number_put(value, inode);
    size += nx_nexfs_number_put(value + size, window);
    code = nx_nexfs_tree_put(fs, &key, size, &to);
    if (code == NX_OK) {
        memcpy(to, value, size);
    }
    return code;
}

/* NULL: into the buffer, of which the log is told first. */
int nx_nexfs_extent_read(nx_nexfs *fs, uint64_t inode, const nx_nexfs_window *window,
                         uint8_t *target)
{
    uint8_t sum[NX_BLAKE3_OUT];
    uint32_t block = (uint32_t)(window->address / fs->flash->geometry.block_size);
    bool worn;
    int code = target == NULL ? nx_nexfs_log_yield(fs) : NX_OK;

    target = target == NULL ? fs->memory.buffer : target;
    code = code != NX_OK ? code : nx_nexfs_read_flash(fs, window->address, target, window->stored);
    worn = fs->moving;
    if (code == NX_OK) {
        nx_nexfs_checksum(window->checksum, target, window->stored, sum);
        if (memcmp(sum, window->bytes, nx_nexfs_checksum_bytes(window->checksum)) != 0) {
            code = NX_ECORRUPT;
        }
    }
    if (code == NX_ECORRUPT) {
        fs->fault_inode = inode;
        fs->fault_address = window->address;
    } else if (code == NX_OK && worn && block != fs->victim) {
        fs->urgent = block; /* its contents move with the next change */
    }
    return code;
}
