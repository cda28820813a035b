// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: cleaning. `sweep` frees the oldest blocks of the log: a cursor goes once round the
 * tree and marks what lies in them as changed, so that the next commits write it elsewhere.
 * `gather` empties a block of data: its owners stand in the tree. Both stop after so many steps.
 */
#include "nx_nexfs_core.h"

#define COLD_GAP  2u
#define MOVED_MAX 4u /* nodes that are marked before there is a look at free blocks */

static bool is_victim(const nx_nexfs *fs, uint64_t address)
{
    uint64_t block = address / fs->flash->geometry.block_size;

    for (uint32_t i = 0; i < fs->victim_count; i++) {
        if (fs->victims[i] == block) {
            return true;
        }
    }
    return false;
}

/* Blocks that the nodes which are reached would fill, with what packing loses. */
uint32_t nx_nexfs_log_live(const nx_nexfs *fs, uint32_t more)
{
    uint64_t usable = (uint64_t)(fs->pages - fs->super.spare_pages) * fs->flash->geometry.page_size;

    return (uint32_t)((fs->state.node_bytes + more) * 5 / 4 / usable + 1);
}

/* How long the log may become before it is cleaned: the longer, the less is still in use. */
static uint32_t log_blocks_wanted(const nx_nexfs *fs)
{
    uint32_t live = nx_nexfs_log_live(fs, 0), share = fs->blocks / 16;

    if (fs->state.blocks_free > fs->blocks / 4 && 2 * live + 4 < share) {
        return share;
    }
    return fs->state.blocks_free > fs->super.reserve_blocks ? 2 * live + 4 : live + live / 4 + 4;
}

/* The oldest blocks of the log, at most half of it, and never one of the newest three. */
static int victims_choose(nx_nexfs *fs)
{
    uint32_t count = fs->state.log_blocks / 2, keep = 3 + fs->opened;
    uint32_t block = fs->state.log_tail;
    int code = NX_OK;

    fs->victim_count = 0;
    fs->victims_freed = 0;
    if (fs->state.log_blocks < log_blocks_wanted(fs) || fs->state.log_blocks <= keep) {
        return NX_OK;
    }
    count = count < fs->state.log_blocks - keep ? count : fs->state.log_blocks - keep;
    count = count < NX_NEXFS_VICTIMS ? count : NX_NEXFS_VICTIMS;
    for (uint32_t i = 0; i < count && code == NX_OK; i++) {
        fs->victims[i] = block;
        code = nx_nexfs_log_after(fs, block, &block);
    }
    if (code == NX_OK) {
        fs->victim_after = block;
        fs->victim_count = count;
        fs->sweeping = true;
        fs->swept = false;
        fs->sweep.size = 0;
    }
    return code;
}

static void mark(nx_nexfs *fs, uint32_t slot)
{
    nx_nexfs_dirty(fs, slot);
    fs->changed = true;
}

/* One node above the leaves, from the cursor on. */
static int sweep_leaves(nx_nexfs *fs, uint32_t slot, const nx_nexfs_key *upper, uint64_t *steps)
{
    nx_nexfs_item item;
    uint32_t moved = 0;

    nx_nexfs_node_child(nx_nexfs_node(fs, slot), &fs->sweep, &item);
    do {
        if (is_victim(fs, nx_nexfs_child_address(fs, &item))) {
            uint32_t child;
            int code = nx_nexfs_child(fs, slot, &item, &child);
            if (code != NX_OK) {
                return code;
            }
            mark(fs, child);
            moved++;
        }
        *steps -= *steps > 0;
        if (!nx_nexfs_node_item(nx_nexfs_node(fs, slot), item.next, &item)) {
            fs->sweep = *upper;
            fs->swept = upper->size == 0;
            return NX_OK;
        }
        fs->sweep.size = item.key_size;
        memcpy(fs->sweep.bytes, item.key, item.key_size);
    } while (*steps > 0 && moved < MOVED_MAX);
    return NX_OK;
}

static int sweep_from_cursor(nx_nexfs *fs, uint64_t *steps)
{
    nx_nexfs_key upper = {0};
    uint32_t slot = fs->root;

    if (is_victim(fs, fs->memory.slots[slot].address)) {
        mark(fs, slot);
    }
    while (nx_nexfs_node(fs, slot)[0] > 1) {
        nx_nexfs_item item, next;
        bool old;
        int code;
        nx_nexfs_node_child(nx_nexfs_node(fs, slot), &fs->sweep, &item);
        if (nx_nexfs_node_item(nx_nexfs_node(fs, slot), item.next, &next)) {
            upper.size = next.key_size;
            memcpy(upper.bytes, next.key, next.key_size);
        }
        old = is_victim(fs, nx_nexfs_child_address(fs, &item));
        code = nx_nexfs_child(fs, slot, &item, &slot);
        if (code != NX_OK) {
            return code;
        }
        if (old) {
            mark(fs, slot);
        }
    }
    if (nx_nexfs_node(fs, slot)[0] == 0) {
        fs->swept = true;
        return NX_OK;
    }
    return sweep_leaves(fs, slot, &upper, steps);
}

/* Nothing of the victims is reached once the running commit is done. */
static int victims_free(nx_nexfs *fs)
{
    int code = NX_OK;

    if (is_victim(fs, (uint64_t)fs->super.anchor_block * fs->flash->geometry.block_size)) {
        code = nx_nexfs_commit(fs);
        code = code != NX_OK ? code : nx_nexfs_log_yield(fs);
        code = code != NX_OK ? code : nx_nexfs_anchor(fs);
    }
    while (code == NX_OK && fs->victims_freed < fs->victim_count) {
        code = nx_nexfs_block_free(fs, fs->victims[fs->victims_freed++]);
        fs->state.log_blocks--;
        fs->state.log_tail = fs->victims_freed < fs->victim_count ? fs->victims[fs->victims_freed]
                                                                  : fs->victim_after;
        code = code != NX_OK ? code : nx_nexfs_between(fs);
    }
    fs->victim_count = 0;
    fs->sweeping = false;
    return code;
}

/* Sweeps for so many pages that were written: a round is over before half of the room that it
 * makes is, what it moves itself not counted. */
int nx_nexfs_sweep(nx_nexfs *fs, uint32_t pages, bool *ret_idle)
{
    int code = fs->sweeping ? NX_OK : victims_choose(fs);
    uint64_t steps;

    if (code != NX_OK || !fs->sweeping) {
        *ret_idle = true;
        return code;
    }
    steps = (2 + 4 * fs->state.node_count / ((uint64_t)fs->victim_count * fs->pages)) * pages;
    while (code == NX_OK && steps > 0 && !fs->swept) {
        code = sweep_from_cursor(fs, &steps);
        code = code != NX_OK ? code : nx_nexfs_between(fs);
    }
    return code == NX_OK && fs->swept ? victims_free(fs) : code;
}

/*
 * Data
 */

static bool choose(nx_nexfs *fs)
{
    uint64_t mean = fs->state.erases / (fs->blocks - fs->state.blocks_bad);

    fs->victim = fs->urgent;
    fs->urgent = NONE;
    if (fs->victim == NONE && fs->state.blocks_free < fs->super.reserve_blocks + 2 &&
        fs->best_victim != NONE && fs->best_live < fs->pages) {
        fs->victim = fs->best_victim;
        fs->best_victim = NONE;
        fs->best_live = NONE;
    }
    if (fs->victim == NONE && fs->cold != NONE &&
        fs->state.blocks_free > fs->super.reserve_blocks + 2 &&
        fs->cold_erases + COLD_GAP + mean / 8 < mean) {
        fs->victim = fs->cold;
        fs->cold = NONE;
        fs->cold_erases = NONE;
    }
    fs->victim_page = 0;
    return fs->victim != NONE;
}

/* Moves the extent at an address, if the window still points there. */
static int extent_move(nx_nexfs *fs, uint64_t address, uint64_t inode, uint64_t index)
{
    nx_nexfs_key key = nx_nexfs_key_at(inode, TYPE_WINDOW, index);
    nx_nexfs_window window;
    nx_nexfs_item item;
    uint64_t to;
    int code = nx_nexfs_tree_get(fs, &key, &item);

    if (code == NX_EEMPTY) {
        return NX_OK;
    }
    if (code != NX_OK || !nx_nexfs_window_parse(fs, &item, &window)) {
        return code != NX_OK ? code : NX_ECORRUPT;
    }
    if (!window.extent || window.address != address) {
        return NX_OK;
    }
    code = nx_nexfs_extent_read(fs, inode, &window, NULL);
    if (code == NX_ECORRUPT) {
        return NX_EEMPTY; /* it stays where it is */
    }
    code = code != NX_OK ? code
                         : nx_nexfs_data_program(fs, fs->memory.buffer, window.stored, true, &to);
    code = code != NX_OK ? code : nx_nexfs_tree_get(fs, &key, &item);
    if (code == NX_OK) {
        memcpy(item.value + 9, &to, fs->super.address_bytes);
        mark(fs, item.slot);
        code = nx_nexfs_owner_put(fs, to, inode, index);
    }
    return code != NX_OK ? code : nx_nexfs_data_drop(fs, address, window.stored);
}

/* The victim has no owners any more, or is no victim. */
static int victim_done(nx_nexfs *fs, nx_nexfs_block *entry)
{
    uint32_t block = fs->victim;

    fs->victim = NONE;
    if (entry->state != DATA || block == fs->state.data_block) {
        return NX_OK;
    }
    if (entry->live == 0) {
        return nx_nexfs_block_free(fs, block);
    }
    entry->flags |= STUCK;
    return nx_nexfs_block_put(fs, block, entry);
}

static int gather_one(nx_nexfs *fs)
{
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_OWNER, fs->victim), from;
    uint32_t at = 0;
    uint64_t page, inode, window;
    nx_nexfs_block entry;
    nx_nexfs_item item;
    int code = nx_nexfs_block_get(fs, fs->victim, &entry);

    if (code != NX_OK || entry.state != DATA || fs->victim == fs->state.data_block) {
        return code != NX_OK ? code : victim_done(fs, &entry);
    }
    from = key;
    nx_nexfs_key_number(&from, fs->victim_page);
    code = nx_nexfs_tree_seek(fs, &from, &item);
    if (code == NX_EEMPTY || (code == NX_OK && (item.key_size < key.size ||
                                                memcmp(item.key, key.bytes, key.size) != 0))) {
        return victim_done(fs, &entry);
    }
    if (code != NX_OK) {
        return code;
    }
    at = key.size;
    from.size = item.key_size;
    memcpy(from.bytes, item.key, item.key_size);
    if (!nx_nexfs_number(item.key, item.key_size, &at, &page) || page >= fs->pages) {
        return NX_ECORRUPT;
    }
    at = 0;
    if (!nx_nexfs_number(item.value, item.size, &at, &inode) ||
        !nx_nexfs_number(item.value, item.size, &at, &window)) {
        return NX_ECORRUPT;
    }
    fs->victim_page = (uint32_t)page + 1;
    code = extent_move(fs,
                       (uint64_t)fs->victim * fs->flash->geometry.block_size +
                           page * fs->flash->geometry.page_size,
                       inode, window);
    if (code == NX_EEMPTY) {
        return NX_OK;
    }
    return code != NX_OK ? code : nx_nexfs_tree_remove(fs, &from);
}

int nx_nexfs_gather(nx_nexfs *fs, uint32_t steps, bool *ret_idle)
{
    int code = NX_OK;

    for (uint32_t i = 0; i < steps && code == NX_OK; i++) {
        if (fs->victim == NONE && !choose(fs)) {
            *ret_idle = true;
            break;
        }
        code = gather_one(fs);
        code = code != NX_OK ? code : nx_nexfs_between(fs);
    }
    return code;
}

int nx_nexfs_clean(nx_nexfs *fs, uint32_t steps)
{
    bool idle_sweep = false, idle_gather = false;
    int code = nx_nexfs_begin(fs, 0, 0);

    code = code != NX_OK ? code : nx_nexfs_sweep(fs, steps, &idle_sweep);
    code = code != NX_OK ? code : nx_nexfs_gather(fs, steps, &idle_gather);
    nx_nexfs_end(fs, code);
    return code == NX_OK && idle_sweep && idle_gather ? NX_EEMPTY : code;
}

/*
 * After a mount
 */

/* Marks as changed what lies in the tail of the newest commit: it may read well only once. */
int nx_nexfs_stabilise(nx_nexfs *fs)
{
    struct {
        uint32_t slot, at;
    } path[NX_NEXFS_DEPTH_MAX];
    uint32_t depth = 0;

    nx_nexfs_dirty(fs, fs->root);
    path[0].slot = fs->root;
    path[0].at = NODE_HEADER;
    for (;;) {
        nx_nexfs_item item;
        uint64_t address;
        int code;
        if (nx_nexfs_node(fs, path[depth].slot)[0] == 0 ||
            !nx_nexfs_node_item(nx_nexfs_node(fs, path[depth].slot), path[depth].at, &item)) {
            if (depth-- == 0) {
                return NX_OK;
            }
            continue;
        }
        path[depth].at = item.next;
        address = nx_nexfs_child_address(fs, &item);
        if (address >= fs->tail_from && address < fs->tail_to) {
            code = nx_nexfs_child(fs, path[depth].slot, &item, &path[depth + 1].slot);
            if (code != NX_OK) {
                return code;
            }
            nx_nexfs_dirty(fs, path[++depth].slot);
            path[depth].at = NODE_HEADER;
        }
    }
}
