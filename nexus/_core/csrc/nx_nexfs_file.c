// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: reading and writing files. A window is written as a whole, in one operation: small
 * ones inline, others as an extent, packed where that saves a page.
 */
#include "nx_nexfs_core.h"

uint32_t nx_nexfs_inline_max(const nx_nexfs *fs)
{
    return (5u << fs->super.node_log2) / 8;
}

static bool is_directory(const nx_nexfs_attributes *a)
{
    return (a->mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY;
}

/*
 * Reading
 */

/* Bytes [from, from + size) of a window, all below its length. */
static int window_read(nx_nexfs *fs, uint64_t inode, const nx_nexfs_window *window, uint32_t from,
                       uint8_t *ret, uint32_t size)
{
    bool raw = window->codec == NX_NEXFS_RAW;
    int code = NX_OK;

    if (!window->extent) {
        memcpy(ret, window->bytes + from, size);
        return NX_OK;
    }
    if (raw && from == 0 && size == window->stored) {
        return nx_nexfs_extent_read(fs, inode, window, ret);
    }
    code = nx_nexfs_extent_read(fs, inode, window, NULL);
    if (code == NX_OK && raw) {
        memcpy(ret, fs->memory.buffer + from, size);
    } else if (code == NX_OK &&
               !nx_nexfs_rle_unpack(fs->memory.buffer, window->stored, from, ret, size)) {
        fs->fault_inode = inode;
        code = NX_ECORRUPT;
    }
    return code;
}

int nx_nexfs_read(nx_nexfs *fs, uint64_t inode, uint64_t offset, void *ret, size_t size,
                  size_t *ret_size)
{
    nx_nexfs_attributes a;
    uint8_t *to = ret;
    int code = fs->broken == NX_ECLOSED ? NX_ECLOSED : nx_nexfs_inode_get(fs, inode, &a);

    if (code != NX_OK || is_directory(&a)) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    size = offset >= a.size ? 0 : a.size - offset < size ? (size_t)(a.size - offset) : size;
    for (size_t done = 0, part; done < size; done += part) {
        uint64_t at = offset + done;
        uint32_t whole = 1u << a.window_log2, from = (uint32_t)(at & (whole - 1)), there = 0;
        nx_nexfs_key key = nx_nexfs_key_at(inode, TYPE_WINDOW, at >> a.window_log2);
        nx_nexfs_window window;
        nx_nexfs_item item;
        part = whole - from < size - done ? whole - from : size - done;
        code = nx_nexfs_tree_get(fs, &key, &item);
        if (code == NX_OK) {
            if (!nx_nexfs_window_parse(fs, &item, &window)) {
                fs->fault_inode = inode;
                return NX_ECORRUPT;
            }
            there = window.size > from ? window.size - from : 0;
            there = there < part ? there : (uint32_t)part;
            code = there > 0 ? window_read(fs, inode, &window, from, to + done, there) : NX_OK;
        }
        if (code != NX_OK && code != NX_EEMPTY) {
            return code;
        }
        memset(to + done + there, 0, part - there);
    }
    *ret_size = size;
    return NX_OK;
}

int nx_nexfs_map(nx_nexfs *fs, uint64_t inode, uint64_t offset, nx_nexfs_extent *ret)
{
    nx_nexfs_attributes a;
    nx_nexfs_window window;
    nx_nexfs_item item;
    nx_nexfs_key key;
    int code = nx_nexfs_inode_get(fs, inode, &a);

    if (code != NX_OK || is_directory(&a)) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    key = nx_nexfs_key_at(inode, TYPE_WINDOW, offset >> a.window_log2);
    code = nx_nexfs_tree_get(fs, &key, &item);
    if (code == NX_OK && !nx_nexfs_window_parse(fs, &item, &window)) {
        fs->fault_inode = inode;
        return NX_ECORRUPT;
    }
    if (code != NX_OK && code != NX_EEMPTY) {
        return code;
    }
    *ret = (nx_nexfs_extent){.offset = offset >> a.window_log2 << a.window_log2};
    if (code == NX_OK) {
        ret->size = window.size;
        ret->stored = window.stored;
        ret->address = window.address;
        ret->codec = window.codec;
        ret->checksum = window.checksum;
        ret->mapped = window.extent;
    }
    return NX_OK;
}

/*
 * Writing
 */

/* One window, and what becomes of it. */
typedef struct {
    nx_nexfs_attributes *file;
    nx_nexfs_key key;
    uint64_t index, address; /* the address of what it replaces */
    const uint8_t *data;
    uint32_t from, size, length; /* what is written; the window's length then */
    uint32_t stored_before;      /* 0: no extent is replaced */
} change;

static int write_inline(nx_nexfs *fs, const change *c, uint32_t length_before)
{
    uint8_t *value;
    int code = nx_nexfs_tree_put(fs, &c->key, 1 + c->length, &value);

    if (code == NX_OK) {
        value[0] = 0;
        if (c->from > length_before) {
            memset(value + 1 + length_before, 0, c->from - length_before);
        }
        memcpy(value + 1 + c->from, c->data, c->size);
    }
    return code;
}

/* The window's new bytes: where the caller has them all, there, else in the buffer. */
static int assemble(nx_nexfs *fs, const change *c, const nx_nexfs_window *old, const uint8_t **ret)
{
    uint8_t *buffer = fs->memory.buffer;
    uint32_t slack = nx_nexfs_rle_slack(1u << fs->super.window_max_log2);
    int code;

    if (c->from == 0 && c->size == c->length) {
        *ret = c->data;
        return NX_OK;
    }
    code = old->extent ? nx_nexfs_extent_read(fs, c->file->inode, old, NULL) : NX_OK;
    if (code == NX_OK && old->extent && old->codec == NX_NEXFS_RLE) {
        uint8_t *packed = buffer + fs->unit + slack - old->stored;
        memmove(packed, buffer, old->stored);
        if (!nx_nexfs_rle_unpack(packed, old->stored, 0, buffer, old->size)) {
            fs->fault_inode = c->file->inode;
            code = NX_ECORRUPT;
        }
    } else if (code == NX_OK && !old->extent && old->size > 0) {
        memcpy(buffer, old->bytes, old->size);
    }
    if (code == NX_OK && c->from > old->size) {
        memset(buffer + old->size, 0, c->from - old->size);
    }
    if (code == NX_OK) {
        memcpy(buffer + c->from, c->data, c->size);
        *ret = buffer;
    }
    return code;
}

/* Programs the window's bytes and puts down where they are. */
static int write_extent(nx_nexfs *fs, const change *c, const uint8_t *data)
{
    uint32_t slack = nx_nexfs_rle_slack(1u << fs->super.window_max_log2), stored = c->length;
    unsigned kind = c->file->checksum, codec = NX_NEXFS_RAW;
    uint32_t fixed = 9u + fs->super.address_bytes;
    uint8_t *buffer = fs->memory.buffer, sum[NX_NEXFS_CHECKSUM_MAX], *value;
    uint64_t address;
    int code;

    if (c->file->codec == NX_NEXFS_RLE) {
        uint32_t packed = nx_nexfs_rle_size(data, c->length);
        if (nx_nexfs_pages_of(fs, packed) < nx_nexfs_pages_of(fs, c->length)) {
            if (data == buffer) {
                memmove(buffer + slack, buffer, c->length);
                data = buffer + slack;
            }
            nx_nexfs_rle_pack(data, c->length, buffer);
            data = buffer;
            stored = packed;
            codec = NX_NEXFS_RLE;
        }
    }
    nx_nexfs_checksum(kind, data, stored, sum);
    code = nx_nexfs_data_program(fs, data, stored, false, &address);
    if (code != NX_OK) {
        return code == NX_EFULL && fs->broken == NX_OK ? NX_EFULL : nx_nexfs_end(fs, code);
    }
    code = nx_nexfs_tree_put(fs, &c->key, fixed + nx_nexfs_checksum_bytes(kind), &value);
    if (code == NX_OK) {
        value[0] = (uint8_t)(1 | codec << 2 | kind << 4);
        nx_store_u32(value + 1, c->length);
        nx_store_u32(value + 5, stored);
        memcpy(value + 9, &address, fs->super.address_bytes);
        memcpy(value + fixed, sum, nx_nexfs_checksum_bytes(kind));
        code = nx_nexfs_owner_put(fs, address, c->file->inode, c->index);
    }
    if (code == NX_OK && c->stored_before > 0) {
        code = nx_nexfs_data_drop(fs, c->address, c->stored_before);
    }
    return nx_nexfs_end(fs, code);
}

static int window_write(nx_nexfs *fs, change *c)
{
    nx_nexfs_window old = {0};
    nx_nexfs_item item;
    const uint8_t *data;
    uint32_t end = c->from + c->size;
    int code;

    c->key = nx_nexfs_key_at(c->file->inode, TYPE_WINDOW, c->index);
    code = nx_nexfs_log_yield(fs); /* the buffer, before the item is looked up */
    code = code != NX_OK ? code : nx_nexfs_tree_get(fs, &c->key, &item);
    if (code == NX_OK && !nx_nexfs_window_parse(fs, &item, &old)) {
        fs->fault_inode = c->file->inode;
        return NX_ECORRUPT;
    }
    if (code != NX_OK && code != NX_EEMPTY) {
        return code;
    }
    c->length = end > old.size ? end : old.size;
    c->address = old.address;
    c->stored_before = old.stored;
    if (!old.extent && c->length <= nx_nexfs_inline_max(fs)) {
        return nx_nexfs_end(fs, write_inline(fs, c, old.size));
    }
    /* Looking up may have put nodes into the buffer; the item stays where it is. */
    code = nx_nexfs_log_yield(fs);
    code = code != NX_OK ? code : assemble(fs, c, &old, &data);
    return code != NX_OK ? code : write_extent(fs, c, data);
}

int nx_nexfs_write(nx_nexfs *fs, uint64_t inode, uint64_t offset, const void *data, size_t size)
{
    nx_nexfs_attributes a;
    const uint8_t *from = data;

    for (size_t done = 0, part; done < size; done += part) {
        uint64_t at = offset + done;
        change c = {.file = &a, .data = from + done};
        uint32_t whole;
        int code = nx_nexfs_begin(
            fs, (1u << fs->super.window_max_log2) / fs->flash->geometry.page_size + 1,
            2u << fs->super.node_log2);
        code = code != NX_OK ? code : nx_nexfs_inode_get(fs, inode, &a);
        if (code != NX_OK || is_directory(&a) || (uint64_t)size > INT64_MAX ||
            at > INT64_MAX - (uint64_t)size) {
            return code != NX_OK ? code : is_directory(&a) ? NX_EINVAL : NX_ETOOBIG;
        }
        whole = 1u << a.window_log2;
        c.index = at >> a.window_log2;
        c.from = (uint32_t)(at & (whole - 1));
        c.size = whole - c.from < size - done ? whole - c.from : (uint32_t)(size - done);
        part = c.size;
        code = window_write(fs, &c);
        if (code != NX_OK) {
            return code;
        }
        a.size = at + part > a.size ? at + part : a.size;
        a.mtime_ns = a.ctime_ns = fs->now_ns;
        code = nx_nexfs_end(fs, nx_nexfs_inode_put(fs, &a));
        if (code != NX_OK) {
            return code;
        }
    }
    return NX_OK;
}
