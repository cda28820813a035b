// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: inode records, and what goes with an inode when it goes. */
#include "nx_nexfs_core.h"

#define AT_ONCE 4u /* windows that an operation drops itself */

bool nx_nexfs_inode_parse(uint64_t inode, const uint8_t *record, uint32_t size,
                          nx_nexfs_attributes *ret)
{
    uint32_t flags;

    if (size != INODE_RECORD) {
        return false;
    }
    flags = record[2] | (uint32_t)record[3] << 8;
    *ret = (nx_nexfs_attributes){.inode = inode,
                                 .mode = (uint16_t)(record[0] | record[1] << 8),
                                 .uid = nx_load_u32(record + 4),
                                 .gid = nx_load_u32(record + 8),
                                 .links = nx_load_u32(record + 12),
                                 .size = nx_load_u64(record + 16),
                                 .mtime_ns = (int64_t)nx_load_u64(record + 24),
                                 .ctime_ns = (int64_t)nx_load_u64(record + 32),
                                 .born_ns = (int64_t)nx_load_u64(record + 40),
                                 .checksum = flags & 3,
                                 .codec = flags >> 2 & 3,
                                 .window_log2 = flags >> 8 & 31};
    if ((ret->mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY) {
        ret->parent = ret->size;
        ret->size = 0;
    }
    return ret->window_log2 >= 8 && ret->window_log2 <= 20 && ret->codec <= NX_NEXFS_RLE &&
           ret->size <= INT64_MAX;
}

int nx_nexfs_inode_get(nx_nexfs *fs, uint64_t inode, nx_nexfs_attributes *ret)
{
    nx_nexfs_key key = nx_nexfs_key_of(inode, TYPE_INODE);
    const uint8_t *times;
    nx_nexfs_item item;
    int code = inode != 0 ? nx_nexfs_tree_get(fs, &key, &item) : NX_EEMPTY;

    if (code != NX_OK) {
        return code;
    }
    if (!nx_nexfs_inode_parse(inode, item.value, item.size, ret) ||
        ret->window_log2 > fs->super.window_max_log2) {
        fs->fault_inode = inode;
        return NX_ECORRUPT;
    }
    times = nx_nexfs_overlay_get(fs, OVERLAY_TIMES, inode);
    if (times != NULL) {
        ret->mtime_ns = (int64_t)nx_load_u64(times);
        ret->ctime_ns = (int64_t)nx_load_u64(times + 8);
    }
    return NX_OK;
}

int nx_nexfs_inode_put(nx_nexfs *fs, const nx_nexfs_attributes *a)
{
    nx_nexfs_key key = nx_nexfs_key_of(a->inode, TYPE_INODE);
    bool directory = (a->mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY;
    uint8_t *record;
    int code = nx_nexfs_tree_put(fs, &key, INODE_RECORD, &record);

    if (code == NX_OK) {
        record[0] = (uint8_t)a->mode;
        record[1] = (uint8_t)(a->mode >> 8);
        record[2] = (uint8_t)(a->checksum | a->codec << 2);
        record[3] = a->window_log2;
        nx_store_u32(record + 4, a->uid);
        nx_store_u32(record + 8, a->gid);
        nx_store_u32(record + 12, a->links);
        nx_store_u64(record + 16, directory ? a->parent : a->size);
        nx_store_u64(record + 24, (uint64_t)a->mtime_ns);
        nx_store_u64(record + 32, (uint64_t)a->ctime_ns);
        nx_store_u64(record + 40, (uint64_t)a->born_ns);
    }
    return code;
}

int nx_nexfs_get(nx_nexfs *fs, uint64_t inode, nx_nexfs_attributes *ret)
{
    return nx_nexfs_inode_get(fs, inode, ret);
}

int nx_nexfs_set(nx_nexfs *fs, uint64_t inode, const nx_nexfs_attributes *attributes)
{
    nx_nexfs_attributes a;
    int code = nx_nexfs_begin(fs, 0, 0);

    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, inode, &a);
    if (code != NX_OK) {
        return code;
    }
    if (attributes->checksum > NX_NEXFS_BLAKE3_256 || attributes->codec > NX_NEXFS_RLE ||
        attributes->window_log2 < 8 || attributes->window_log2 > fs->super.window_max_log2 ||
        (attributes->window_log2 != a.window_log2 && a.size > 0)) {
        return NX_EINVAL;
    }
    a.mode = (uint16_t)((a.mode & NX_NEXFS_TYPE) | (attributes->mode & 07777));
    a.uid = attributes->uid;
    a.gid = attributes->gid;
    a.mtime_ns = attributes->mtime_ns;
    a.ctime_ns = fs->now_ns;
    a.checksum = attributes->checksum;
    a.codec = attributes->codec;
    a.window_log2 = attributes->window_log2;
    if (nx_nexfs_overlay_get(fs, OVERLAY_TIMES, inode) != NULL) {
        uint8_t times[16];
        nx_store_u64(times, (uint64_t)a.mtime_ns);
        nx_store_u64(times + 8, (uint64_t)a.ctime_ns);
        nx_nexfs_overlay_put(fs, OVERLAY_TIMES, inode, times);
    }
    return nx_nexfs_end(fs, nx_nexfs_inode_put(fs, &a));
}

/*
 * Going
 */

/* The first item of an inode of that type from `from` on; its number, its key. */
static int first_of(nx_nexfs *fs, uint64_t inode, unsigned type, uint64_t from, nx_nexfs_key *key,
                    nx_nexfs_item *ret, uint64_t *ret_number)
{
    uint32_t at = nx_nexfs_key_of(inode, type).size;
    int code;

    *key = nx_nexfs_key_at(inode, type, from);
    code = nx_nexfs_tree_seek(fs, key, ret);
    if (code == NX_OK && (ret->key_size < at || memcmp(ret->key, key->bytes, at) != 0)) {
        code = NX_EEMPTY;
    }
    if (code == NX_OK) {
        key->size = ret->key_size;
        memcpy(key->bytes, ret->key, ret->key_size);
        if (!nx_nexfs_number(key->bytes, key->size, &at, ret_number)) {
            code = NX_ECORRUPT;
        }
    }
    return code;
}

int nx_nexfs_windows_drop(nx_nexfs *fs, uint64_t inode, uint64_t from, uint32_t most)
{
    for (uint32_t i = 0;; i++) {
        nx_nexfs_window window;
        nx_nexfs_item item;
        nx_nexfs_key key;
        uint64_t number;
        int code = first_of(fs, inode, TYPE_WINDOW, from, &key, &item, &number);
        if (code != NX_OK || i == most) {
            return code;
        }
        if (!nx_nexfs_window_parse(fs, &item, &window)) {
            fs->fault_inode = inode;
            return NX_ECORRUPT;
        }
        code = nx_nexfs_tree_remove(fs, &key);
        if (code == NX_OK && window.extent) {
            code = nx_nexfs_data_drop(fs, window.address, window.stored);
        }
        if (code != NX_OK) {
            return code;
        }
    }
}

/* Attributes and the record itself. */
static int record_drop(nx_nexfs *fs, uint64_t inode)
{
    nx_nexfs_key prefix = nx_nexfs_key_of(inode, TYPE_ATTRIBUTE), key;
    nx_nexfs_item item;
    int code;

    for (;;) {
        code = nx_nexfs_tree_seek(fs, &prefix, &item);
        if (code != NX_OK || item.key_size < prefix.size ||
            memcmp(item.key, prefix.bytes, prefix.size) != 0) {
            break;
        }
        key.size = item.key_size;
        memcpy(key.bytes, item.key, item.key_size);
        code = nx_nexfs_tree_remove(fs, &key);
        if (code != NX_OK) {
            return code;
        }
    }
    if (code != NX_OK && code != NX_EEMPTY) {
        return code;
    }
    key = nx_nexfs_key_of(inode, TYPE_INODE);
    code = nx_nexfs_tree_remove(fs, &key);
    fs->state.inodes -= code == NX_OK;
    return code;
}

static int orphan_put(nx_nexfs *fs, uint64_t inode, const uint64_t *size)
{
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_ORPHAN, inode);
    uint8_t *value;
    int code = nx_nexfs_tree_put(fs, &key, size != NULL ? 8 : 0, &value);

    if (code == NX_OK && size != NULL) {
        nx_store_u64(value, *size);
    }
    return code;
}

int nx_nexfs_inode_drop(nx_nexfs *fs, uint64_t inode)
{
    int code = nx_nexfs_windows_drop(fs, inode, 0, AT_ONCE);

    if (code == NX_EEMPTY) {
        return record_drop(fs, inode);
    }
    return code != NX_OK ? code : orphan_put(fs, inode, NULL);
}

/* A step of an orphan; NX_EEMPTY when it is over. */
static int orphan_step(nx_nexfs *fs, const nx_nexfs_key *key, uint64_t inode, bool goes,
                       uint64_t size)
{
    nx_nexfs_attributes a;
    uint64_t from = 0;
    int code = nx_nexfs_begin(fs, 0, 0);

    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, inode, &a);
    if (code == NX_EEMPTY) {
        return nx_nexfs_end(fs, nx_nexfs_tree_remove(fs, key)) == NX_OK ? NX_EEMPTY : fs->broken;
    }
    if (code != NX_OK) {
        return code;
    }
    if (!goes) {
        from = (size >> a.window_log2) + ((size & ((1ull << a.window_log2) - 1)) != 0);
    }
    code = nx_nexfs_windows_drop(fs, inode, from, AT_ONCE);
    if (code != NX_EEMPTY) {
        return nx_nexfs_end(fs, code);
    }
    code = goes ? record_drop(fs, inode) : NX_OK;
    code = code != NX_OK ? code : nx_nexfs_tree_remove(fs, key);
    return nx_nexfs_end(fs, code) == NX_OK ? NX_EEMPTY : code;
}

/* One orphan to its end, the first from `from` on. */
static int orphan_finish(nx_nexfs *fs, uint64_t from, uint64_t *ret)
{
    nx_nexfs_item item;
    nx_nexfs_key key;
    uint64_t size = 0;
    int code = first_of(fs, 0, TYPE_ORPHAN, from, &key, &item, ret);
    bool goes;

    if (code != NX_OK) {
        return code;
    }
    goes = item.size == 0;
    if (!goes && item.size != 8) {
        return NX_ECORRUPT;
    }
    size = goes ? 0 : nx_load_u64(item.value);
    while (code == NX_OK) {
        code = orphan_step(fs, &key, *ret, goes, size);
    }
    return code == NX_EEMPTY ? NX_OK : code;
}

int nx_nexfs_orphans(nx_nexfs *fs)
{
    uint64_t inode = 0;
    int code = NX_OK;

    while (code == NX_OK) {
        code = orphan_finish(fs, inode, &inode);
    }
    return code == NX_EEMPTY ? NX_OK : code;
}

int nx_nexfs_forget(nx_nexfs *fs, uint64_t inode)
{
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_ORPHAN, inode);
    nx_nexfs_item item;
    uint64_t found;
    int code = fs->writable ? nx_nexfs_tree_get(fs, &key, &item) : NX_EDENIED;

    return code != NX_OK ? code : orphan_finish(fs, inode, &found);
}

/* The part of it that is one operation. */
NX_NOINLINE static int cut(nx_nexfs *fs, uint64_t inode, uint64_t size)
{
    nx_nexfs_attributes a;
    nx_nexfs_key key;
    nx_nexfs_item item;
    uint64_t number, rest;
    int code = nx_nexfs_inode_get(fs, inode, &a);

    if (code != NX_OK || (a.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY || size > INT64_MAX) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    rest = size & ((1ull << a.window_log2) - 1);
    key = nx_nexfs_key_at(inode, TYPE_WINDOW, size >> a.window_log2);
    if (size < a.size && rest > 0 && (code = nx_nexfs_tree_get(fs, &key, &item)) == NX_OK) {
        nx_nexfs_window window;
        uint8_t *value;
        if (!nx_nexfs_window_parse(fs, &item, &window)) {
            return NX_ECORRUPT;
        }
        if (window.size > rest) {
            code =
                nx_nexfs_tree_put(fs, &key, window.extent ? item.size : 1 + (uint32_t)rest, &value);
            if (code == NX_OK && window.extent) {
                nx_store_u32(value + 1, (uint32_t)rest);
            }
        }
    }
    if (code == NX_OK || code == NX_EEMPTY) {
        number = (size >> a.window_log2) + (rest > 0);
        code = size < a.size ? nx_nexfs_windows_drop(fs, inode, number, AT_ONCE) : NX_EEMPTY;
    }
    if (code == NX_OK) {
        code = orphan_put(fs, inode, &size);
    } else if (code == NX_EEMPTY) {
        code = NX_OK;
    }
    a.size = size;
    a.mtime_ns = a.ctime_ns = fs->now_ns;
    return nx_nexfs_end(fs, code != NX_OK ? code : nx_nexfs_inode_put(fs, &a));
}

/* Frames of the operation and of what comes before and after it do not add up. */
int nx_nexfs_truncate(nx_nexfs *fs, uint64_t inode, uint64_t size)
{
    int code = nx_nexfs_begin(fs, 0, 0);

    code = code != NX_OK ? code : cut(fs, inode, size);
    if (code == NX_OK) {
        code = nx_nexfs_forget(fs, inode);
        code = code == NX_EEMPTY ? NX_OK : code;
    }
    return code;
}
