// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: images of nodes go into the buffer, the buffer goes into pages, and a commit ends in
 * a trailer. When a block refuses a program, what is in the buffer goes to the next block, and
 * whoever knew the old addresses is told.
 */
#include "nx_nexfs_core.h"

#define MOVES_MAX 4u

static uint32_t page_size(const nx_nexfs *fs)
{
    return fs->flash->geometry.page_size;
}

static uint64_t block_address(const nx_nexfs *fs, uint32_t block)
{
    return (uint64_t)block * fs->flash->geometry.block_size;
}

static uint64_t origin(const nx_nexfs *fs)
{
    return block_address(fs, fs->log_block) + fs->log_at;
}

/* Bytes of the flush that begins at log_at. */
static uint32_t room(const nx_nexfs *fs)
{
    uint32_t end = (fs->pages - fs->super.spare_pages) * page_size(fs);
    uint32_t rest = end > fs->log_at ? end - fs->log_at : 0;

    return rest < fs->unit ? rest : fs->unit;
}

uint64_t nx_nexfs_hash_at(const nx_nexfs *fs, const void *data, uint32_t size, uint64_t address)
{
    return nx_xxh3_64_short(data, size, fs->seed ^ address);
}

int nx_nexfs_read_flash(nx_nexfs *fs, uint64_t address, void *ret, uint32_t size)
{
    uint16_t limit = fs->flash->geometry.flips_max;
    uint32_t flips = 0;
    int code;

    fs->fault_address = address;
    fs->moving = false;
    if (fs->fill > 0 && address >= origin(fs) && address - origin(fs) < fs->fill) {
        memcpy(ret, fs->memory.buffer + (address - origin(fs)), size);
        return NX_OK;
    }
    code = fs->flash->verbs->read(fs->flash->self, address, ret, size, &flips);
    fs->moving = code == NX_OK && limit > 0 && flips >= limit && fs->writable;
    return code;
}

/* One page that begins with `head`; what else is in the buffer stays there. */
int nx_nexfs_page_program(nx_nexfs *fs, uint64_t address, const void *head, uint32_t size)
{
    uint8_t saved[NX_NEXFS_SUPERBLOCK];
    int code;

    memcpy(saved, fs->memory.buffer, size);
    memcpy(fs->memory.buffer, head, size);
    code = fs->flash->verbs->program(fs->flash->self, address, fs->memory.buffer, page_size(fs));
    memcpy(fs->memory.buffer, saved, size);
    fs->unsynced = true;
    return code;
}

void nx_nexfs_header_make(nx_nexfs *fs, uint32_t magic, uint64_t number, uint32_t next,
                          uint32_t previous, uint64_t address, uint8_t ret[HEADER])
{
    memset(ret, 0, HEADER);
    nx_store_u32(ret, magic);
    nx_store_u64(ret + 8, number);
    nx_store_u64(ret + 16, next);
    nx_store_u64(ret + 24, previous == NONE ? UINT64_MAX : previous);
    memcpy(ret + 32, fs->super.volume_id, 16);
    nx_store_u64(ret + 56, nx_nexfs_hash_at(fs, ret, 56, address));
}

/* Names another successor of a block whose header names one that proved unusable. Where that block
 * takes no link either, the superblock has to say where the log goes on. */
static int link_write(nx_nexfs *fs, uint32_t block, uint64_t number, uint32_t next)
{
    uint32_t page = fs->pages - fs->super.spare_pages;
    int code = NX_EMEDIUM;

    while (code == NX_EMEDIUM) {
        uint8_t link[HEADER];
        uint64_t address;
        int blank = nx_nexfs_blank(fs, block, page, fs->pages, &page);
        if (blank != NX_OK || page >= fs->pages) {
            fs->anchor_wanted = true;
            return blank;
        }
        address = block_address(fs, block) + (uint64_t)page * page_size(fs);
        nx_nexfs_header_make(fs, MAGIC_LINK, number, next, NONE, address, link);
        code = nx_nexfs_page_program(fs, address, link, HEADER);
        page++;
    }
    return code;
}

/* After a mount the next block may have been begun: erased again, or replaced. */
static int next_ready(nx_nexfs *fs)
{
    int code = NX_OK;

    if (!fs->next_fresh) {
        code = nx_nexfs_block_erase(fs, fs->log_next);
        if (code == NX_EMEDIUM) {
            nx_nexfs_block_fail(fs, fs->log_next, true);
            code = nx_nexfs_block_take(fs, LOG, &fs->log_next);
            code =
                code != NX_OK ? code : link_write(fs, fs->log_block, fs->log_number, fs->log_next);
        }
        fs->next_fresh = code == NX_OK;
    }
    return code;
}

static void header_put(nx_nexfs *fs, uint8_t ret[HEADER])
{
    nx_nexfs_header_make(fs, MAGIC_LOG, fs->log_number, fs->log_next, fs->log_previous,
                         block_address(fs, fs->log_block), ret);
}

/* Chooses and erases the block behind the one that is being opened. */
int nx_nexfs_log_next_make(nx_nexfs *fs)
{
    int code = nx_nexfs_block_take(fs, LOG, &fs->log_next);

    fs->next_fresh = code == NX_OK;
    return code;
}

static int open_next(nx_nexfs *fs)
{
    uint32_t block = fs->log_next;
    int code = fs->opened < OPENED_MAX ? next_ready(fs) : NX_ETOOBIG;

    block = fs->log_next;
    code = code != NX_OK ? code : nx_nexfs_log_next_make(fs);
    if (code == NX_OK) {
        fs->log_previous = fs->log_block;
        fs->log_block = block;
        fs->log_number++;
        fs->log_at = 0;
        fs->opened++;
        fs->state.log_blocks++;
        header_put(fs, fs->memory.buffer);
        fs->fill = HEADER;
    }
    return code;
}

/* A child of these bytes moved: tell its parent. */
static void tell(nx_nexfs *fs, uint8_t *node, uint64_t from, uint64_t to, uint32_t crc)
{
    nx_nexfs_item item;

    for (uint32_t at = NODE_HEADER; node[0] > 0 && nx_nexfs_node_item(node, at, &item);
         at = item.next) {
        if (nx_nexfs_child_address(fs, &item) == from) {
            uint32_t size = item.value[fs->super.address_bytes] |
                            (uint32_t)item.value[fs->super.address_bytes + 1] << 8;
            nx_nexfs_child_set(fs, &item, to, size, crc);
        }
    }
}

/* The images in the buffer have other addresses now; children come before their parents. */
static void readdress(nx_nexfs *fs, uint32_t first, uint64_t from, uint64_t to)
{
    uint8_t *buffer = fs->memory.buffer;
    uint32_t size;

    for (uint32_t at = first; at < fs->fill; at += size) {
        uint32_t crc;
        size = nx_nexfs_node_bytes(buffer + at);
        crc = nx_crc32c(0, buffer + at, size);
        for (uint32_t i = 0; i < fs->memory.slot_count; i++) {
            nx_nexfs_slot *s = &fs->memory.slots[i];
            if (s->used && s->address == from + at) {
                s->address = to + at;
                fs->root_address = i == fs->root ? to + at : fs->root_address;
                fs->root_crc = i == fs->root ? crc : fs->root_crc;
            }
            if (s->used) {
                tell(fs, nx_nexfs_node(fs, i), from + at, to + at, crc);
            }
        }
        for (uint32_t j = at + size; j < fs->fill; j += nx_nexfs_node_bytes(buffer + j)) {
            tell(fs, buffer + j, from + at, to + at, crc);
        }
    }
}

/* The block refused the buffer: on to the next one. */
static int move(nx_nexfs *fs)
{
    bool header = fs->log_at == 0;
    uint64_t from = origin(fs);
    int code = next_ready(fs);

    if (code != NX_OK) {
        return code;
    }
    nx_nexfs_block_fail(fs, fs->log_block, header);
    if (!header) {
        fs->log_previous = fs->log_block;
        fs->log_number++;
        fs->state.log_blocks++;
        fs->opened++;
    }
    for (uint32_t i = 0; i < MOVES_MAX; i++) {
        uint8_t bytes[HEADER];
        fs->log_block = fs->log_next;
        fs->log_at = 0;
        code = nx_nexfs_log_next_make(fs);
        if (code == NX_OK && (header || i > 0) && fs->log_previous != NONE) {
            code = link_write(fs, fs->log_previous, fs->log_number - 1, fs->log_block);
        }
        if (code != NX_OK) {
            return code;
        }
        header_put(fs, bytes);
        if (header) {
            memcpy(fs->memory.buffer, bytes, HEADER);
            break;
        }
        code = nx_nexfs_page_program(fs, block_address(fs, fs->log_block), bytes, HEADER);
        if (code == NX_OK) {
            fs->log_at = page_size(fs);
            break;
        }
        if (code != NX_EMEDIUM) {
            return code;
        }
        nx_nexfs_block_fail(fs, fs->log_block, true);
    }
    if (code == NX_OK) {
        readdress(fs, header ? HEADER : 0, from, origin(fs));
    }
    return code;
}

/* Puts overlays and trailer at the end of the last page. */
static void trailer_put(nx_nexfs *fs, uint32_t total)
{
    uint8_t *at = fs->memory.buffer + total - TRAILER;
    const nx_nexfs_state *s = &fs->state;
    const uint8_t *root = nx_nexfs_node(fs, fs->root);

    for (uint32_t i = 0; i < fs->overlay_count; i++) {
        memcpy(at - OVERLAY * (i + 1), &fs->overlays[i], OVERLAY);
    }
    memset(at, 0, TRAILER);
    nx_store_u32(at, MAGIC_TRAILER);
    at[4] = fs->overlay_count;
    at[5] = root[0];
    at[6] = (uint8_t)nx_nexfs_node_bytes(root);
    at[7] = (uint8_t)(nx_nexfs_node_bytes(root) >> 8);
    nx_store_u64(at + 8, s->commit + 1);
    nx_store_u64(at + 16, fs->root_address);
    nx_store_u32(at + 24, fs->root_crc);
    nx_store_u32(at + 28, total);
    nx_store_u64(at + 32, fs->log_number);
    nx_store_u64(at + 40, s->log_tail);
    nx_store_u32(at + 48, s->log_blocks);
    nx_store_u32(at + 52, s->data_page);
    nx_store_u64(at + 56, s->data_block == NONE ? UINT64_MAX : s->data_block);
    nx_store_u64(at + 64, s->inode_next);
    nx_store_u64(at + 72, s->blocks_free);
    nx_store_u64(at + 80, s->data_pages);
    nx_store_u64(at + 88, s->node_bytes);
    nx_store_u64(at + 96, s->node_count);
    nx_store_u64(at + 104, s->erases);
    nx_store_u32(at + 112, s->blocks_bad);
    nx_store_u64(at + 120, s->inodes);
    nx_store_u64(at + 128, nx_xxh3_64(fs->memory.buffer, total - TRAILER, fs->seed));
    nx_store_u64(at + 136, nx_nexfs_hash_at(fs, at, 136, origin(fs) + total - TRAILER));
}

static int medium_sync(nx_nexfs *fs)
{
    int code = fs->unsynced ? fs->flash->verbs->sync(fs->flash->self) : NX_OK;

    fs->unsynced = fs->unsynced && code != NX_OK;
    return code;
}

/* Programs the buffer, `more` bytes of overlays and trailer at its end if it is a commit's last. */
static int flush(nx_nexfs *fs, uint32_t more)
{
    uint32_t total = (uint32_t)nx_align_up(fs->fill + more, page_size(fs));
    int code = more > 0 ? medium_sync(fs) : NX_OK;

    for (uint32_t i = 0; code == NX_OK; i++) {
        memset(fs->memory.buffer + fs->fill, fs->flash->geometry.erased, total - fs->fill);
        if (more > 0) {
            more = TRAILER + OVERLAY * fs->overlay_count;
            total = (uint32_t)nx_align_up(fs->fill + more, page_size(fs));
            trailer_put(fs, total);
        }
        code = fs->flash->verbs->program(fs->flash->self, origin(fs), fs->memory.buffer, total);
        fs->unsynced = true;
        if (code != NX_EMEDIUM || i >= MOVES_MAX) {
            break;
        }
        code = move(fs);
        code = code == NX_OK && total > room(fs) ? NX_EMEDIUM : code;
    }
    if (code == NX_OK) {
        fs->log_at += total;
        fs->fill = 0;
        fs->written_pages += total / page_size(fs);
    }
    return code;
}

/* Room for so many more bytes in the buffer. */
static int ensure(nx_nexfs *fs, uint32_t size)
{
    int code = NX_OK;

    if (fs->fill + size > room(fs)) {
        code = fs->fill > 0 ? flush(fs, 0) : NX_OK;
        if (code == NX_OK && size > room(fs)) {
            code = open_next(fs);
        }
    }
    return code;
}

int nx_nexfs_log_append(nx_nexfs *fs, const void *image, uint32_t size, uint64_t *ret)
{
    int code = ensure(fs, size);

    if (code == NX_OK) {
        memcpy(fs->memory.buffer + fs->fill, image, size);
        *ret = origin(fs) + fs->fill;
        fs->fill += size;
    }
    return code;
}

/* Gives the buffer to somebody else. */
int nx_nexfs_log_yield(nx_nexfs *fs)
{
    return fs->fill > 0 ? flush(fs, 0) : NX_OK;
}

static int spill_all(nx_nexfs *fs)
{
    for (unsigned level = 0; level <= nx_nexfs_node(fs, fs->root)[0]; level++) {
        for (uint32_t i = 0; i < fs->memory.slot_count; i++) {
            const nx_nexfs_slot *s = &fs->memory.slots[i];
            int code = NX_OK;
            if (s->used && s->dirty && nx_nexfs_node(fs, i)[0] == level) {
                code = nx_nexfs_spill(fs, i);
            }
            if (code != NX_OK) {
                return code;
            }
        }
    }
    return NX_OK;
}

int nx_nexfs_commit(nx_nexfs *fs)
{
    int code = fs->broken;

    if (code == NX_OK && fs->changed) {
        code = spill_all(fs);
        /* Opening a block adds an overlay. */
        code = code != NX_OK ? code : ensure(fs, TRAILER + OVERLAY * (fs->overlay_count + 1u));
        code = code != NX_OK ? code : fs->broken;
        code = code != NX_OK ? code : flush(fs, TRAILER + OVERLAY * fs->overlay_count);
        code = code != NX_OK ? code : medium_sync(fs);
        if (code == NX_OK && fs->anchor_wanted) {
            code = nx_nexfs_anchor(fs);
            fs->anchor_wanted = code != NX_OK;
        }
        if (code == NX_OK) {
            fs->state.commit++;
            fs->changed = false;
            fs->opened = 0;
            fs->tail_from = fs->tail_to; /* nothing of the tail at the mount is reached now */
        }
        fs->broken = code;
    }
    return code;
}
