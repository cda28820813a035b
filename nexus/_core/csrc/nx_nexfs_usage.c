// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: how full it is, and how worn. */
#include "nx_nexfs_core.h"

void nx_nexfs_usage_get(const nx_nexfs *fs, nx_nexfs_usage *ret)
{
    uint64_t page = fs->flash->geometry.page_size;
    uint64_t free_pages = 0;

    *ret = (nx_nexfs_usage){.bytes = (uint64_t)fs->blocks * fs->flash->geometry.block_size,
                            .inodes = fs->state.inodes,
                            .node_bytes = fs->state.node_bytes,
                            .erases = fs->state.erases,
                            .blocks = fs->blocks,
                            .blocks_free = fs->state.blocks_free,
                            .blocks_bad = fs->state.blocks_bad,
                            .log_blocks = fs->state.log_blocks};
    for (uint64_t bit = 1ull << 31; bit > 0; bit >>= 1) { /* the most for which there is room */
        free_pages +=
            free_pages + bit < UINT32_MAX && nx_nexfs_room(fs, (uint32_t)(free_pages + bit), 0)
                ? bit
                : 0;
    }
    ret->bytes_free = free_pages * page;
}

int nx_nexfs_wear(nx_nexfs *fs, nx_nexfs_usage *ret)
{
    nx_nexfs_usage usage;

    nx_nexfs_usage_get(fs, &usage);
    usage.erases_min = UINT32_MAX;
    for (uint32_t block = 2; block < fs->blocks; block++) {
        nx_nexfs_block entry;
        int code = nx_nexfs_block_get(fs, block, &entry);
        if (code != NX_OK) {
            return code;
        }
        if (entry.state != BAD && entry.state != REPLICA) {
            usage.erases_min = entry.erases < usage.erases_min ? entry.erases : usage.erases_min;
            usage.erases_max = entry.erases > usage.erases_max ? entry.erases : usage.erases_max;
        }
    }
    *ret = usage;
    return NX_OK;
}
