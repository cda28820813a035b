// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: extended attributes, which stand at places as names do. */
#include "nx_nexfs_core.h"

int nx_nexfs_attribute_next(nx_nexfs *fs, uint64_t inode, uint64_t cookie, nx_nexfs_entry *ret)
{
    return nx_nexfs_next_of(fs, inode, TYPE_ATTRIBUTE, cookie, ret);
}

int nx_nexfs_attribute_get(nx_nexfs *fs, uint64_t inode, const char *name, size_t size, void *ret,
                           size_t room, size_t *ret_size)
{
    nx_nexfs_key key;
    nx_nexfs_record found;
    int code = size > 0 && size <= NX_NEXFS_NAME_MAX ? NX_OK : NX_EINVAL;

    code =
        code != NX_OK ? code : nx_nexfs_find(fs, inode, TYPE_ATTRIBUTE, name, size, &key, &found);
    if (code == NX_OK) {
        memcpy(ret, found.value, room < found.value_size ? room : found.value_size);
        *ret_size = found.value_size;
    }
    return code;
}

int nx_nexfs_attribute_set(nx_nexfs *fs, uint64_t inode, const char *name, size_t size,
                           const void *value, size_t value_size)
{
    bool removal = value_size == SIZE_MAX;
    nx_nexfs_attributes a;
    nx_nexfs_key key;
    nx_nexfs_record found;
    uint8_t *to;
    int code = NX_OK;

    if (size == 0 || size > NX_NEXFS_NAME_MAX ||
        (!removal && (value_size > nx_nexfs_inline_max(fs) ||
                      1 + size + value_size > nx_nexfs_inline_max(fs)))) {
        return size == 0 || size > NX_NEXFS_NAME_MAX ? NX_EINVAL : NX_ETOOBIG;
    }
    code = nx_nexfs_begin(fs, 0, removal ? 0 : 2u << fs->super.node_log2);
    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, inode, &a);
    code =
        code != NX_OK ? code : nx_nexfs_find(fs, inode, TYPE_ATTRIBUTE, name, size, &key, &found);
    if (code != NX_OK && (code != NX_EEMPTY || removal)) {
        return code;
    }
    if (removal) {
        code = nx_nexfs_tree_remove(fs, &key);
    } else {
        code = nx_nexfs_tree_put(fs, &key, (uint32_t)(1 + size + value_size), &to);
        if (code == NX_OK) {
            to[0] = (uint8_t)size;
            memcpy(to + 1, name, size);
            memcpy(to + 1 + size, value, value_size);
        }
    }
    a.ctime_ns = fs->now_ns;
    return nx_nexfs_end(fs, code != NX_OK ? code : nx_nexfs_inode_put(fs, &a));
}
