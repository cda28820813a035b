// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: finding the newest commit, and going on behind it. */
#include "nx_nexfs_core.h"

#define PIECE 64u /* bytes looked at together for being blank */

int nx_nexfs_adopt(nx_nexfs *fs, const nx_flash *flash, const nx_nexfs_memory *memory)
{
    const nx_flash_geometry *g = &flash->geometry;
    size_t buffer = nx_nexfs_buffer_size(g, fs->super.node_log2, fs->super.window_max_log2);

    fs->flash = flash;
    fs->memory = *memory;
    fs->blocks = (uint32_t)(g->size / g->block_size);
    fs->pages = g->block_size / g->page_size;
    fs->unit = (uint32_t)(buffer - nx_nexfs_rle_slack(1u << fs->super.window_max_log2));
    fs->seed = nx_xxh3_64(fs->super.volume_id, 16, 0);
    fs->victim = fs->best_victim = fs->cold = fs->urgent = NONE;
    fs->best_live = NONE;
    fs->cold_erases = NONE;
    fs->log_next = fs->log_previous = NONE;
    if (memory->slot_count < NX_NEXFS_SLOTS_MIN || memory->slot_count >= NO_SLOT ||
        memory->node_size < 1u << fs->super.node_log2 || memory->buffer_size < buffer) {
        return NX_ETOOBIG;
    }
    for (uint32_t i = 0; i < memory->slot_count; i++) {
        memory->slots[i] = (nx_nexfs_slot){.parent = NO_SLOT};
    }
    return NX_OK;
}

/* The first page from `page` on that is blank, or `end`. */
int nx_nexfs_blank(nx_nexfs *fs, uint32_t block, uint32_t page, uint32_t end, uint32_t *ret)
{
    const nx_flash_geometry *g = &fs->flash->geometry;
    uint8_t piece[PIECE];

    for (; page < end; page++) {
        uint64_t at = (uint64_t)block * g->block_size + (uint64_t)page * g->page_size;
        bool blank = true;
        for (uint32_t i = 0; i < g->page_size && blank; i += PIECE) {
            uint32_t flips;
            int code = fs->flash->verbs->read(fs->flash->self, at + i, piece, PIECE, &flips);
            if (code != NX_OK && code != NX_ECORRUPT) {
                return code;
            }
            blank = code == NX_OK;
            for (uint32_t j = 0; j < PIECE && blank; j++) {
                blank = piece[j] == g->erased;
            }
        }
        if (blank) {
            break;
        }
    }
    *ret = page;
    return NX_OK;
}

typedef struct {
    uint64_t number;
    uint32_t block, next, previous;
} log_header;

/* NX_EEMPTY: none. */
static int header_read(nx_nexfs *fs, uint64_t address, uint32_t magic, log_header *ret)
{
    uint8_t bytes[HEADER];
    uint32_t flips;
    int code = fs->flash->verbs->read(fs->flash->self, address, bytes, HEADER, &flips);
    uint64_t next = nx_load_u64(bytes + 16), previous = nx_load_u64(bytes + 24);

    if (code != NX_OK) {
        return code == NX_ECORRUPT ? NX_EEMPTY : code;
    }
    if (nx_load_u32(bytes) != magic || memcmp(bytes + 32, fs->super.volume_id, 16) != 0 ||
        nx_load_u64(bytes + 56) != nx_nexfs_hash_at(fs, bytes, 56, address) || next < 2 ||
        next >= fs->blocks) {
        return NX_EEMPTY;
    }
    ret->number = nx_load_u64(bytes + 8);
    ret->block = (uint32_t)(address / fs->flash->geometry.block_size);
    ret->next = (uint32_t)next;
    ret->previous = previous < fs->blocks ? (uint32_t)previous : NONE;
    return NX_OK;
}

/* A log block's header, its successor as the last link says. */
static int block_read(nx_nexfs *fs, uint32_t block, log_header *ret)
{
    const nx_flash_geometry *g = &fs->flash->geometry;
    uint64_t base = (uint64_t)block * g->block_size;
    int code = header_read(fs, base, MAGIC_LOG, ret);

    for (uint32_t page = fs->pages - fs->super.spare_pages; page < fs->pages && code == NX_OK;
         page++) {
        log_header link;
        int linked = header_read(fs, base + (uint64_t)page * g->page_size, MAGIC_LINK, &link);
        if (linked == NX_OK && link.number == ret->number) {
            ret->next = link.next;
        } else if (linked != NX_OK && linked != NX_EEMPTY) {
            code = linked;
        }
    }
    return code;
}

/* The successor of a log block; for the cleaner. Where neither header nor link names it, the
 * superblock did at the time, and only its own header still tells. */
int nx_nexfs_log_after(nx_nexfs *fs, uint32_t block, uint32_t *ret)
{
    log_header header = {0}, next;
    int code = block_read(fs, block, &header);
    uint32_t at = header.next;

    for (uint32_t i = 2; code == NX_OK; i++) {
        code = header_read(fs, (uint64_t)at * fs->flash->geometry.block_size, MAGIC_LOG, &next);
        if (code == NX_OK && next.number == header.number + 1) {
            *ret = at;
            return NX_OK;
        }
        at = i;
        code = (code == NX_OK || code == NX_EEMPTY) && at < fs->blocks ? NX_OK : code;
        if (at >= fs->blocks) {
            return NX_ECORRUPT;
        }
    }
    return code == NX_EEMPTY ? NX_ECORRUPT : code;
}

static int newest_header(nx_nexfs *fs, log_header *ret)
{
    int result = NX_ECORRUPT;

    for (uint32_t block = 2; block < fs->blocks; block++) {
        log_header found;
        int code =
            header_read(fs, (uint64_t)block * fs->flash->geometry.block_size, MAGIC_LOG, &found);
        if (code == NX_OK && (result != NX_OK || found.number > ret->number)) {
            *ret = found;
            result = NX_OK;
        } else if (code != NX_OK && code != NX_EEMPTY) {
            return code;
        }
    }
    return result;
}

/* Takes over what the trailer at the end of a page says, if it is one. */
static int trailer_read(nx_nexfs *fs, const log_header *header, uint32_t page)
{
    const nx_flash_geometry *g = &fs->flash->geometry;
    uint64_t base = (uint64_t)header->block * g->block_size;
    uint64_t end = base + (uint64_t)(page + 1) * g->page_size;
    uint8_t *buffer = fs->memory.buffer, bytes[TRAILER];
    uint32_t flips, tail;
    int code = fs->flash->verbs->read(fs->flash->self, end - TRAILER, bytes, TRAILER, &flips);

    if (code != NX_OK) {
        return code == NX_ECORRUPT ? NX_EEMPTY : code;
    }
    tail = nx_load_u32(bytes + 28);
    if (nx_load_u32(bytes) != MAGIC_TRAILER || nx_load_u64(bytes + 32) != header->number ||
        nx_load_u64(bytes + 136) != nx_nexfs_hash_at(fs, bytes, 136, end - TRAILER) ||
        tail % g->page_size != 0 || tail == 0 || tail > fs->unit || tail > end - base ||
        bytes[4] > NX_NEXFS_OVERLAYS || TRAILER + OVERLAY * bytes[4] > tail ||
        nx_load_u64(bytes + 40) >= fs->blocks || nx_load_u32(bytes + 52) > fs->pages ||
        (nx_load_u64(bytes + 56) >= fs->blocks && nx_load_u64(bytes + 56) != UINT64_MAX)) {
        return NX_EEMPTY;
    }
    code = fs->flash->verbs->read(fs->flash->self, end - tail, buffer, tail, &flips);
    if (code != NX_OK || nx_xxh3_64(buffer, tail - TRAILER, fs->seed) != nx_load_u64(bytes + 128)) {
        return code == NX_OK || code == NX_ECORRUPT ? NX_EEMPTY : code;
    }
    fs->state = (nx_nexfs_state){.commit = nx_load_u64(bytes + 8),
                                 .inode_next = nx_load_u64(bytes + 64),
                                 .data_pages = nx_load_u64(bytes + 80),
                                 .node_bytes = nx_load_u64(bytes + 88),
                                 .node_count = nx_load_u64(bytes + 96),
                                 .erases = nx_load_u64(bytes + 104),
                                 .inodes = nx_load_u64(bytes + 120),
                                 .log_tail = (uint32_t)nx_load_u64(bytes + 40),
                                 .log_blocks = nx_load_u32(bytes + 48),
                                 .data_block = (uint32_t)nx_load_u64(bytes + 56),
                                 .data_page = nx_load_u32(bytes + 52),
                                 .blocks_free = (uint32_t)nx_load_u64(bytes + 72),
                                 .blocks_bad = nx_load_u32(bytes + 112)};
    fs->overlay_count = bytes[4];
    for (uint32_t i = 0; i < fs->overlay_count; i++) {
        memcpy(&fs->overlays[i], buffer + tail - TRAILER - OVERLAY * (i + 1), OVERLAY);
    }
    fs->log_at = (page + 1) * g->page_size;
    fs->tail_from = end - tail;
    fs->tail_to = end;
    fs->log_block = header->block;
    fs->log_number = header->number;
    fs->log_next = header->next;
    fs->log_previous = header->previous;
    return nx_nexfs_root_load(fs, nx_load_u64(bytes + 16), bytes[6] | (uint32_t)bytes[7] << 8,
                              nx_load_u32(bytes + 24), bytes[5]);
}

/* Follows the log from the anchor, then looks backwards for a commit. */
int nx_nexfs_recover(nx_nexfs *fs, bool scan)
{
    log_header header = {0}, last[RECOVER_BLOCKS];
    uint32_t count = 0;
    int code = scan ? NX_EEMPTY : block_read(fs, fs->super.anchor_block, &header);

    if (code == NX_OK && header.number != fs->super.anchor_number) {
        code = NX_EEMPTY;
    }
    if (code == NX_EEMPTY) {
        code = newest_header(fs, &header);
        /* As far back as a commit may lie, then forward again. */
        for (uint32_t i = 0; i < RECOVER_BLOCKS && code == NX_OK && header.previous != NONE; i++) {
            log_header before;
            if (block_read(fs, header.previous, &before) != NX_OK ||
                before.number != header.number - 1) {
                break;
            }
            header = before;
        }
        code = code != NX_OK ? code : block_read(fs, header.block, &header);
    }
    for (uint32_t i = 0; code == NX_OK && i <= fs->blocks; i++) {
        uint64_t number = header.number;
        last[count++ % RECOVER_BLOCKS] = header;
        code = block_read(fs, header.next, &header);
        code = code == NX_OK && header.number != number + 1 ? NX_EEMPTY : code;
    }
    if (code != NX_EEMPTY) {
        return code == NX_OK ? NX_ECORRUPT : code;
    }
    for (uint32_t i = 0; i < RECOVER_BLOCKS && i < count; i++) {
        const log_header *h = &last[(count - 1 - i) % RECOVER_BLOCKS];
        for (uint32_t page = fs->pages - fs->super.spare_pages; page-- > 0;) {
            code = trailer_read(fs, h, page);
            if (code != NX_EEMPTY) {
                return code;
            }
        }
    }
    return NX_ECORRUPT;
}

int nx_nexfs_mount(const nx_flash *flash, const nx_nexfs_memory *memory, bool writable,
                   nx_nexfs *ret)
{
    bool scan;
    int code = nx_flash_check(&flash->geometry);

    if (code != NX_OK || flash->geometry.page_size < NX_NEXFS_SUPERBLOCK) {
        return NX_EINVAL;
    }
    memset(ret, 0, sizeof *ret);
    ret->flash = flash;
    code = nx_nexfs_super_find(ret, &scan);
    if (code != NX_OK) {
        return code;
    }
    if (writable && ret->super.zero != 0) {
        return NX_EABSENT;
    }
    code = nx_nexfs_adopt(ret, flash, memory);
    code = code != NX_OK ? code : nx_nexfs_recover(ret, scan);
    if (code == NX_OK && writable) {
        /* A page that looks blank may have been half programmed: on with blocks that are erased. */
        ret->log_at = ret->flash->geometry.block_size;
        ret->state.data_block = NONE;
        ret->written_pages = ret->pages; /* what is left over counts as written */
        ret->writable = true;
        code = nx_nexfs_super_repair(ret);
        ret->scan_block = 2 + (uint32_t)(ret->state.commit % (ret->blocks - 2));
        code = code != NX_OK ? code : nx_nexfs_orphans(ret);
    }
    return code;
}

int nx_nexfs_sync(nx_nexfs *fs)
{
    int code = fs->writable ? fs->broken : NX_EDENIED;

    if (code == NX_OK && fs->changed && fs->tail_from != fs->tail_to && !fs->fresh) {
        code = nx_nexfs_stabilise(fs);
    }
    return code != NX_OK ? code : nx_nexfs_commit(fs);
}

int nx_nexfs_unmount(nx_nexfs *fs)
{
    int code = fs->writable && fs->broken == NX_OK ? nx_nexfs_sync(fs) : fs->broken;

    fs->writable = false;
    fs->broken = NX_ECLOSED;
    return code;
}
