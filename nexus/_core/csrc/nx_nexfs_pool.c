// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: the block table, and which block is used next. Changes of entries wait as overlays,
 * so that choosing a block never touches the tree: the log chooses blocks while it writes the tree.
 * A look at a few entries in each operation keeps the least worn free blocks at hand.
 */
#include "nx_nexfs_core.h"

#define SCAN_STEP    16u
#define GATHER_SHORT 4u /* extents moved in each operation when blocks are short, else one */
#define INDEX_MASK   ((1ull << 56) - 1)

static uint32_t ongoing(const nx_nexfs *fs)
{
    return (uint32_t)(fs->state.commit + 1);
}

/*
 * Overlays
 */

const uint8_t *nx_nexfs_overlay_get(const nx_nexfs *fs, unsigned kind, uint64_t index)
{
    for (uint32_t i = 0; i < fs->overlay_count; i++) {
        if (fs->overlays[i].key == ((uint64_t)kind << 56 | index)) {
            return fs->overlays[i].value;
        }
    }
    return NULL;
}

static void overlay_drop(nx_nexfs *fs, uint32_t at)
{
    fs->overlay_count--;
    memmove(&fs->overlays[at], &fs->overlays[at + 1], (fs->overlay_count - at) * OVERLAY);
}

/* The newest stands last. */
void nx_nexfs_overlay_put(nx_nexfs *fs, unsigned kind, uint64_t index, const void *value)
{
    nx_nexfs_overlay overlay = {.key = (uint64_t)kind << 56 | index};

    memcpy(overlay.value, value, 16);
    for (uint32_t i = 0; i < fs->overlay_count; i++) {
        if (fs->overlays[i].key == overlay.key) {
            overlay_drop(fs, i);
            break;
        }
    }
    fs->changed = true;
    if (fs->overlay_count >= NX_NEXFS_OVERLAYS) {
        fs->broken = NX_EFULL; /* more blocks failed at once than one operation can note */
        return;
    }
    fs->overlays[fs->overlay_count++] = overlay;
}

static int overlay_spill(nx_nexfs *fs)
{
    nx_nexfs_overlay overlay = fs->overlays[0];
    uint64_t index = overlay.key & INDEX_MASK;
    int code;

    if (overlay.key >> 56 == OVERLAY_BLOCK) {
        nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_BLOCK, index);
        uint8_t *value;
        code = nx_nexfs_tree_put(fs, &key, BLOCK_ENTRY, &value);
        if (code == NX_OK) {
            memcpy(value, overlay.value, BLOCK_ENTRY);
        }
    } else {
        nx_nexfs_attributes attributes;
        code = nx_nexfs_inode_get(fs, index, &attributes); /* with the overlay's times */
        code = code != NX_OK ? code : nx_nexfs_inode_put(fs, &attributes);
        code = code == NX_EEMPTY ? NX_OK : code;
    }
    /* Writing the tree may have put the entry anew: then that one stays. */
    if (code == NX_OK && fs->overlays[0].key == overlay.key &&
        memcmp(fs->overlays[0].value, overlay.value, 16) == 0) {
        overlay_drop(fs, 0);
    }
    return code;
}

int nx_nexfs_overlays_spill(nx_nexfs *fs, uint32_t most)
{
    int code = NX_OK;

    while (code == NX_OK && fs->overlay_count > most) {
        code = overlay_spill(fs);
    }
    return code != NX_OK ? code : fs->broken;
}

int nx_nexfs_times_put(nx_nexfs *fs, uint64_t inode)
{
    uint8_t times[16];
    int code = nx_nexfs_overlays_spill(fs, OVERLAYS_SOFT);

    nx_store_u64(times, (uint64_t)fs->now_ns);
    nx_store_u64(times + 8, (uint64_t)fs->now_ns);
    nx_nexfs_overlay_put(fs, OVERLAY_TIMES, inode, times);
    return code;
}

/*
 * Entries
 */

int nx_nexfs_block_get(nx_nexfs *fs, uint32_t block, nx_nexfs_block *ret)
{
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_BLOCK, block);
    const uint8_t *overlay = nx_nexfs_overlay_get(fs, OVERLAY_BLOCK, block);
    nx_nexfs_item item;
    int code;

    if (overlay != NULL) {
        memcpy(ret, overlay, BLOCK_ENTRY);
        return NX_OK;
    }
    code = nx_nexfs_tree_get(fs, &key, &item);
    if (code == NX_EEMPTY) {
        *ret = (nx_nexfs_block){.state = FREE};
        return NX_OK;
    }
    if (code == NX_OK && item.size != BLOCK_ENTRY) {
        code = NX_ECORRUPT;
    }
    if (code == NX_OK) {
        memcpy(ret, item.value, BLOCK_ENTRY);
    }
    return code;
}

int nx_nexfs_block_put(nx_nexfs *fs, uint32_t block, const nx_nexfs_block *entry)
{
    nx_nexfs_overlay_put(fs, OVERLAY_BLOCK, block, entry);
    return nx_nexfs_overlays_spill(fs, OVERLAYS_SOFT);
}

static void mark_bad(nx_nexfs *fs, uint32_t block)
{
    /* A medium without marks of its own has our table alone. */
    (void)fs->flash->verbs->mark_bad(fs->flash->self,
                                     (uint64_t)block * fs->flash->geometry.block_size);
    fs->state.blocks_bad++;
}

/* Nothing of the block is reached any more. */
int nx_nexfs_block_free(nx_nexfs *fs, uint32_t block)
{
    nx_nexfs_block entry;
    int code = nx_nexfs_block_get(fs, block, &entry);

    if (code != NX_OK) {
        return code;
    }
    if ((entry.flags & RETIRE) != 0) {
        mark_bad(fs, block);
        entry.state = BAD;
    } else {
        entry.state = FREE;
        fs->state.blocks_free++;
    }
    entry.flags = 0;
    entry.live = 0;
    entry.freed = ongoing(fs);
    return nx_nexfs_block_put(fs, block, &entry);
}

/* The entry of a block that is in use by the log or as the open data block: no tree. */
static nx_nexfs_block entry_at_hand(const nx_nexfs *fs, uint32_t block)
{
    const uint8_t *overlay = nx_nexfs_overlay_get(fs, OVERLAY_BLOCK, block);
    nx_nexfs_block entry = {.state = LOG, .erases = 1};

    if (overlay != NULL) {
        memcpy(&entry, overlay, BLOCK_ENTRY);
    } else if (fs->blocks > 0) {
        entry.erases = (uint32_t)(fs->state.erases / fs->blocks); /* it went to the tree */
    }
    return entry;
}

void nx_nexfs_block_fail(nx_nexfs *fs, uint32_t block, bool empty)
{
    nx_nexfs_block entry = entry_at_hand(fs, block);

    if (empty) {
        mark_bad(fs, block);
        entry = (nx_nexfs_block){.state = BAD, .erases = entry.erases};
    } else {
        entry.flags |= RETIRE;
    }
    nx_nexfs_overlay_put(fs, OVERLAY_BLOCK, block, &entry);
}

int nx_nexfs_block_erase(nx_nexfs *fs, uint32_t block)
{
    int code =
        fs->flash->verbs->erase(fs->flash->self, (uint64_t)block * fs->flash->geometry.block_size);

    fs->state.erases += code == NX_OK;
    fs->unsynced = true;
    return code;
}

int nx_nexfs_block_take(nx_nexfs *fs, unsigned state, uint32_t *ret)
{
    while (fs->candidate_count > 0) {
        uint32_t best = 0;
        nx_nexfs_candidate chosen;
        nx_nexfs_block entry;
        int code;
        for (uint32_t i = 1; i < fs->candidate_count; i++) {
            best = fs->candidates[i].erases < fs->candidates[best].erases ? i : best;
        }
        chosen = fs->candidates[best];
        fs->candidates[best] = fs->candidates[--fs->candidate_count];
        fs->state.blocks_free--;
        fs->scan_found = true;
        code = nx_nexfs_block_erase(fs, chosen.block);
        entry = (nx_nexfs_block){.state = (uint8_t)state, .erases = chosen.erases + 1};
        if (code == NX_EMEDIUM) {
            mark_bad(fs, chosen.block);
            entry = (nx_nexfs_block){.state = BAD, .erases = chosen.erases};
        } else if (code != NX_OK) {
            return code;
        }
        nx_nexfs_overlay_put(fs, OVERLAY_BLOCK, chosen.block, &entry);
        if (code == NX_OK) {
            *ret = chosen.block;
            return fs->broken;
        }
    }
    return NX_EFULL;
}

/*
 * Looking round
 */

static void offer(nx_nexfs *fs, uint32_t block, uint32_t erases)
{
    uint32_t worst = 0;

    for (uint32_t i = 0; i < fs->candidate_count; i++) {
        if (fs->candidates[i].block == block) {
            return;
        }
        worst = fs->candidates[i].erases > fs->candidates[worst].erases ? i : worst;
    }
    if (fs->candidate_count < NX_NEXFS_CANDIDATES) {
        fs->candidates[fs->candidate_count++] = (nx_nexfs_candidate){block, erases};
    } else if (erases < fs->candidates[worst].erases) {
        fs->candidates[worst] = (nx_nexfs_candidate){block, erases};
    }
}

static void consider(nx_nexfs *fs, uint32_t block, const nx_nexfs_block *entry)
{
    /* What the newest commit freed stays until that commit cannot be lost any more. */
    bool settled = entry->freed != ongoing(fs) &&
                   (fs->tail_from == fs->tail_to || entry->freed + 1 != ongoing(fs));

    if (entry->state == FREE && settled) {
        offer(fs, block, entry->erases);
    } else if (entry->state == DATA && block != fs->state.data_block &&
               (entry->flags & STUCK) == 0) {
        if ((entry->flags & RETIRE) != 0) {
            fs->urgent = block;
        }
        if (entry->live < fs->best_live) {
            fs->best_live = entry->live;
            fs->best_victim = block;
        }
        if (entry->erases < fs->cold_erases) {
            fs->cold_erases = entry->erases;
            fs->cold = block;
        }
    }
}

static int look(nx_nexfs *fs, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        nx_nexfs_block entry;
        int code;
        if (++fs->scan_block >= fs->blocks) {
            fs->scan_block = 2;
        }
        code = nx_nexfs_block_get(fs, fs->scan_block, &entry);
        if (code != NX_OK) {
            return code;
        }
        consider(fs, fs->scan_block, &entry);
    }
    return NX_OK;
}

/* Free blocks at hand for what comes; NX_EFULL with none left. */
static int candidates_find(nx_nexfs *fs)
{
    int code = fs->scan_found ? look(fs, SCAN_STEP) : NX_OK;
    bool committed = false;

    fs->scan_found = false;
    for (uint32_t seen = 0; code == NX_OK && fs->candidate_count < CANDIDATES_LEAST;
         seen += SCAN_STEP) {
        if (seen > fs->blocks) {
            if (committed || fs->state.blocks_free <= fs->candidate_count) {
                break;
            }
            code = nx_nexfs_commit(fs); /* what it frees can be used then */
            committed = true;
            seen = 0;
        }
        code = code != NX_OK ? code : look(fs, SCAN_STEP);
    }
    return code;
}

/*
 * What stands before and behind each change
 */

/* Whether so much more fits, beside what cleaning needs. */
bool nx_nexfs_room(const nx_nexfs *fs, uint32_t data_pages, uint32_t node_bytes)
{
    const nx_nexfs_state *s = &fs->state;
    uint64_t fixed = 2ull + fs->super.replica_count + s->blocks_bad + fs->super.reserve_blocks;
    uint64_t nodes = 2ull * nx_nexfs_log_live(fs, node_bytes) + 4;
    uint64_t all = fs->blocks > fixed + nodes ? fs->blocks - fixed - nodes : 0;

    if (data_pages == 0 && node_bytes == 0) {
        return true;
    }
    return s->data_pages + data_pages <= all * (fs->pages - 1ull) && s->blocks_free >= 3;
}

/* Between two changes: what the next one may need of blocks and overlays. A commit that has opened
 * blocks already ends here, so that what is uncommitted stays within what a mount looks back for.
 */
int nx_nexfs_between(nx_nexfs *fs)
{
    int code = candidates_find(fs);

    while (code == NX_OK && (fs->overlay_count > OVERLAYS_QUIET || fs->opened > 1)) {
        if (fs->opened > 1) {
            code = nx_nexfs_commit(fs);
        } else {
            code = overlay_spill(fs);
        }
        code = code != NX_OK ? code : candidates_find(fs);
    }
    return code != NX_OK ? code : fs->broken;
}

/* A share of cleaning for what was written since the last. */
static int clean_share(nx_nexfs *fs)
{
    uint32_t pages = fs->written_pages - fs->paid_pages;
    uint32_t low = fs->super.reserve_blocks;
    bool idle = false;
    int code = NX_OK;

    if (fs->sweeping || pages > 0) {
        code = nx_nexfs_sweep(fs, pages + 1, &idle);
        fs->paid_pages = fs->written_pages; /* what it wrote itself asks for no more of it */
    }
    if (code == NX_OK) {
        code = nx_nexfs_gather(fs, fs->state.blocks_free < low + 2 ? GATHER_SHORT : 1, &idle);
    }
    /* Short of blocks: clean until there are some, or nothing is left to clean. */
    for (uint32_t i = 0; code == NX_OK && fs->state.blocks_free < low && i < 4 * fs->blocks; i++) {
        bool idle_sweep = false, idle_gather = false;
        code = nx_nexfs_sweep(fs, fs->pages, &idle_sweep);
        code = code != NX_OK ? code : nx_nexfs_gather(fs, fs->pages, &idle_gather);
        if (idle_sweep && idle_gather) {
            break;
        }
        code = code != NX_OK ? code : nx_nexfs_between(fs);
    }
    return code;
}

int nx_nexfs_begin(nx_nexfs *fs, uint32_t data_pages, uint32_t node_bytes)
{
    int code = fs->writable ? fs->broken : NX_EDENIED;

    /* Free blocks first: from then on a full cache may open one. */
    code = code != NX_OK ? code : candidates_find(fs);
    if (code == NX_OK && fs->tail_from != fs->tail_to && !fs->fresh) {
        code = nx_nexfs_stabilise(fs);
        fs->fresh = true;
    }
    code = code != NX_OK ? code : nx_nexfs_between(fs);
    code = code != NX_OK ? code : clean_share(fs);
    code = code != NX_OK ? code : nx_nexfs_between(fs);
    nx_nexfs_end(fs, code == NX_EDENIED ? NX_OK : code);
    if (code == NX_OK && !nx_nexfs_room(fs, data_pages, node_bytes)) {
        return NX_EFULL;
    }
    return code;
}

/* What fails after a change began must not be committed. */
int nx_nexfs_end(nx_nexfs *fs, int code)
{
    if (code != NX_OK && fs->broken == NX_OK) {
        fs->broken = code;
    }
    return code;
}
