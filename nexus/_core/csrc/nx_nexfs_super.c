// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: superblocks, their replicas, and making a volume. */
#include "nx_nexfs_core.h"

static const uint8_t MAGIC[8] = {'N', 'X', 'N', 'E', 'X', 'F', 'S', '\n'};

size_t nx_nexfs_buffer_size(const nx_flash_geometry *geometry, unsigned node_log2,
                            unsigned window_max_log2)
{
    size_t unit = (size_t)1 << window_max_log2;

    unit = unit > (size_t)2 << node_log2 ? unit : (size_t)2 << node_log2;
    unit = unit > geometry->page_size ? unit : geometry->page_size;
    return nx_align_up(unit, geometry->page_size) +
           nx_nexfs_rle_slack((uint32_t)1 << window_max_log2);
}

static uint8_t address_bytes(uint64_t size)
{
    unsigned bytes = 4;

    while (bytes < 8 && size > 1ull << (8 * bytes - 1)) {
        bytes++;
    }
    return (uint8_t)bytes;
}

void nx_nexfs_super_pack(const nx_nexfs *fs, uint8_t ret[NX_NEXFS_SUPERBLOCK])
{
    const nx_nexfs_super *s = &fs->super;
    const nx_flash_geometry *g = &fs->flash->geometry;

    memset(ret, 0, NX_NEXFS_SUPERBLOCK);
    memcpy(ret, MAGIC, 8);
    ret[8] = NX_NEXFS_VERSION;
    ret[11] = NX_NEXFS_SUPERBLOCK >> 8;
    ret[12] = s->storage_class;
    ret[13] = s->node_log2;
    ret[14] = s->address_bytes;
    ret[15] = s->replica_count;
    nx_store_u64(ret + 16, s->generation);
    memcpy(ret + 24, s->volume_id, 16);
    nx_store_u64(ret + 64, g->size);
    nx_store_u32(ret + 72, g->block_size);
    nx_store_u32(ret + 76, g->page_size);
    ret[80] = s->window_log2;
    ret[81] = s->window_max_log2;
    ret[82] = s->spare_pages;
    ret[83] = g->erased;
    nx_store_u32(ret + 84, s->reserve_blocks);
    nx_store_u64(ret + 88, s->anchor_block);
    nx_store_u64(ret + 96, s->anchor_number);
    nx_store_u64(ret + 104, s->created);
    memcpy(ret + 112, s->label, 32);
    memcpy(ret + 144, s->replicas, sizeof s->replicas);
    nx_store_u64(ret + 248, nx_xxh3_64(ret, 248, 0));
}

static bool fields_sound(const nx_nexfs_super *s, const nx_flash_geometry *g)
{
    uint64_t blocks = g->size / g->block_size;
    uint32_t pages = g->block_size / g->page_size;

    return s->node_log2 >= 9 && s->node_log2 <= 12 && s->window_log2 >= 8 &&
           s->window_log2 <= s->window_max_log2 && s->window_max_log2 <= 20 &&
           1u << s->window_max_log2 <= g->block_size && 4u << s->node_log2 <= g->block_size &&
           s->address_bytes == address_bytes(g->size) && g->page_size >= 256 && pages >= 8 &&
           s->spare_pages >= 1 && s->spare_pages <= 2 && s->replica_count <= NX_NEXFS_REPLICAS &&
           blocks >= 8 && blocks < NONE && s->reserve_blocks >= 4 && s->reserve_blocks < blocks / 2;
}

int nx_nexfs_super_parse(const nx_flash *flash, const uint8_t bytes[NX_NEXFS_SUPERBLOCK],
                         nx_nexfs_super *ret)
{
    const nx_flash_geometry *g = &flash->geometry;
    nx_nexfs_super s = {.generation = nx_load_u64(bytes + 16),
                        .anchor_number = nx_load_u64(bytes + 96),
                        .created = nx_load_u64(bytes + 104),
                        .reserve_blocks = nx_load_u32(bytes + 84),
                        .storage_class = bytes[12],
                        .node_log2 = bytes[13],
                        .address_bytes = bytes[14],
                        .replica_count = bytes[15],
                        .window_log2 = bytes[80],
                        .window_max_log2 = bytes[81],
                        .spare_pages = bytes[82]};

    if (memcmp(bytes, MAGIC, 8) != 0 || nx_load_u64(bytes + 248) != nx_xxh3_64(bytes, 248, 0)) {
        return NX_EEMPTY;
    }
    if ((bytes[8] | bytes[9] << 8) != NX_NEXFS_VERSION || nx_load_u64(bytes + 56) != 0) {
        return NX_EABSENT;
    }
    memcpy(s.volume_id, bytes + 24, 16);
    memcpy(s.label, bytes + 112, 32);
    memcpy(s.replicas, bytes + 144, sizeof s.replicas);
    s.anchor_block = (uint32_t)nx_load_u64(bytes + 88);
    s.zero = nx_load_u64(bytes + 48) != 0; /* features that a writer must know */
    if (nx_load_u64(bytes + 64) != g->size || nx_load_u32(bytes + 72) != g->block_size ||
        nx_load_u32(bytes + 76) != g->page_size || bytes[83] != g->erased || !fields_sound(&s, g) ||
        nx_load_u64(bytes + 88) >= g->size / g->block_size) {
        return NX_ECORRUPT;
    }
    *ret = s;
    return NX_OK;
}

static bool is_bad(const nx_flash *flash, uint64_t block)
{
    bool bad = true;

    return flash->verbs->is_bad(flash->self, block * flash->geometry.block_size, &bad) != NX_OK ||
           bad;
}

static int read_super(nx_nexfs *fs, uint32_t block, uint32_t page, uint8_t *bytes)
{
    uint32_t flips;
    uint64_t at = (uint64_t)block * fs->flash->geometry.block_size +
                  (uint64_t)page * fs->flash->geometry.page_size;

    return fs->flash->verbs->read(fs->flash->self, at, bytes, NX_NEXFS_SUPERBLOCK, &flips);
}

static bool all_erased(const nx_nexfs *fs, const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] != fs->flash->geometry.erased) {
            return false;
        }
    }
    return true;
}

/* The newest superblock of blocks 0 and 1, else of any block; `*ret_scan`: its anchor is old. */
int nx_nexfs_super_find(nx_nexfs *fs, bool *ret_scan)
{
    uint64_t blocks = fs->flash->geometry.size / fs->flash->geometry.block_size, newest = 0;
    uint32_t pages = fs->flash->geometry.block_size / fs->flash->geometry.page_size;
    int code, result = NX_EABSENT;
    uint8_t bytes[NX_NEXFS_SUPERBLOCK];
    nx_nexfs_super found;

    *ret_scan = false;
    for (uint32_t block = 0; block < blocks; block++) {
        uint32_t blank = 0;
        for (uint32_t page = 0; page < (block < 2 ? pages : 1) && blank < 2; page++) {
            code = read_super(fs, block, page, bytes);
            if (code != NX_OK && code != NX_ECORRUPT) {
                return code;
            }
            blank = code == NX_OK && all_erased(fs, bytes, sizeof bytes) ? blank + 1 : 0;
            code = code == NX_OK ? nx_nexfs_super_parse(fs->flash, bytes, &found) : NX_EEMPTY;
            if (code == NX_OK && block < 2 && found.generation > fs->super_generation[block]) {
                fs->super_generation[block] = found.generation;
            }
            if (code == NX_OK && found.generation > newest) {
                newest = found.generation;
                fs->super = found;
                *ret_scan = block >= 2;
                result = NX_OK;
            } else if (code != NX_OK && code != NX_EEMPTY && result != NX_OK) {
                result = code;
            }
        }
        if (block >= 1 && result == NX_OK) {
            break;
        }
    }
    return result;
}

static int super_program(nx_nexfs *fs, uint32_t block, const uint8_t *bytes)
{
    uint64_t base = (uint64_t)block * fs->flash->geometry.block_size;
    int code = NX_EMEDIUM;

    if (fs->super_page[block] >= fs->pages) {
        code = fs->flash->verbs->erase(fs->flash->self, base);
        if (code != NX_OK) {
            return code;
        }
        fs->super_page[block] = 0;
        fs->state.erases++;
        code = NX_EMEDIUM;
    }
    while (code == NX_EMEDIUM && fs->super_page[block] < fs->pages) {
        uint64_t at = base + (uint64_t)fs->super_page[block]++ * fs->flash->geometry.page_size;
        code = nx_nexfs_page_program(fs, at, bytes, NX_NEXFS_SUPERBLOCK);
    }
    return code;
}

/*
 * A new version. Which block goes first changes with each generation: the block that was written
 * last, whose copy may be weak after a cut, is always the first to be written anew. The buffer must
 * be free.
 */
int nx_nexfs_super_write(nx_nexfs *fs)
{
    uint8_t bytes[NX_NEXFS_SUPERBLOCK];
    bool written = false;
    int code = NX_OK;

    fs->super.generation++;
    nx_nexfs_super_pack(fs, bytes);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t block = (uint32_t)(fs->super.generation + i) & 1;
        if (is_bad(fs->flash, block)) {
            continue;
        }
        code = super_program(fs, block, bytes);
        if (code == NX_OK) {
            code = fs->flash->verbs->sync(fs->flash->self);
        }
        if (code != NX_OK && code != NX_EMEDIUM) {
            return code;
        }
        written = written || code == NX_OK;
    }
    return written ? NX_OK : NX_EMEDIUM;
}

/* The anchor moves to the block of the newest commit, which must be this mount's own. */
int nx_nexfs_anchor(nx_nexfs *fs)
{
    fs->super.anchor_block = fs->log_block;
    fs->super.anchor_number = fs->log_number;
    return nx_nexfs_super_write(fs);
}

/* After a mount: where one copy is older than the other, the newer one may be weak. Two generations
 * on, that one goes first again, while the older one stays. */
int nx_nexfs_super_repair(nx_nexfs *fs)
{
    fs->super_page[0] = fs->super_page[1] = fs->pages; /* pages that look blank may not be */
    if (fs->super_generation[0] == fs->super_generation[1] || is_bad(fs->flash, 0) ||
        is_bad(fs->flash, 1)) {
        return NX_OK;
    }
    fs->super.generation++;
    return nx_nexfs_super_write(fs);
}

/*
 * Making a volume
 */

static int entry_put(nx_nexfs *fs, uint32_t block, unsigned state, uint32_t erases)
{
    nx_nexfs_block entry = {.state = (uint8_t)state, .erases = erases};
    int code = nx_nexfs_begin(fs, 0, 0);

    return code != NX_OK ? code : nx_nexfs_block_put(fs, block, &entry);
}

static bool is_replica(const nx_nexfs *fs, uint64_t block)
{
    for (uint32_t i = 0; i < fs->super.replica_count; i++) {
        if (fs->super.replicas[i] == block) {
            return true;
        }
    }
    return false;
}

/* Replicas lie a like distance apart, on the first good block from there. */
static void replicas_place(nx_nexfs *fs, uint32_t count)
{
    uint32_t step = fs->blocks / (count + 1);

    for (uint32_t i = 0; i < count && step >= 8; i++) {
        uint32_t block = (i + 1) * step;
        while (block < (i + 1) * step + step / 2 && (block < 4 || is_bad(fs->flash, block))) {
            block++;
        }
        if (block < (i + 1) * step + step / 2) {
            fs->super.replicas[fs->super.replica_count++] = block;
        }
    }
}

/* The first two blocks of the log, erased. */
static int log_begin(nx_nexfs *fs)
{
    uint32_t found[2], count = 0;

    for (uint32_t block = 2; block < fs->blocks && count < 2; block++) {
        if (!is_bad(fs->flash, block) && !is_replica(fs, block)) {
            int code = fs->flash->verbs->erase(fs->flash->self,
                                               (uint64_t)block * fs->flash->geometry.block_size);
            if (code == NX_OK) {
                found[count++] = block;
            } else if (code != NX_EMEDIUM) {
                return code;
            }
        }
    }
    if (count < 2) {
        return NX_EFULL;
    }
    fs->log_block = found[0];
    fs->log_next = found[1];
    fs->log_previous = NONE;
    fs->log_number = 1;
    fs->next_fresh = true;
    fs->scan_block = found[1] + 1;
    fs->state.log_tail = found[0];
    fs->state.log_blocks = 2;
    nx_nexfs_header_make(fs, MAGIC_LOG, 1, fs->log_next, NONE,
                         (uint64_t)fs->log_block * fs->flash->geometry.block_size,
                         fs->memory.buffer);
    fs->fill = HEADER;
    return NX_OK;
}

static int table_begin(nx_nexfs *fs)
{
    nx_nexfs_attributes root = {.inode = NX_NEXFS_ROOT,
                                .parent = NX_NEXFS_ROOT,
                                .mode = NX_NEXFS_DIRECTORY | 0755,
                                .links = 2,
                                .mtime_ns = fs->now_ns,
                                .ctime_ns = fs->now_ns,
                                .born_ns = fs->now_ns,
                                .checksum = NX_NEXFS_XXH3,
                                .window_log2 = fs->super.window_log2};
    int code = nx_nexfs_root_make(fs);

    /* The log's blocks before anything asks for a free one. */
    for (uint32_t i = 0; i < 2 && code == NX_OK; i++) {
        nx_nexfs_block log = {.state = LOG, .erases = 1};
        code = nx_nexfs_block_put(fs, i == 0 ? fs->log_block : fs->log_next, &log);
    }
    code = code != NX_OK ? code : nx_nexfs_inode_put(fs, &root);
    for (uint32_t block = 0; block < fs->blocks && code == NX_OK; block++) {
        bool bad = is_bad(fs->flash, block);
        if (bad || block < 2 || is_replica(fs, block)) {
            code = entry_put(fs, block, bad ? BAD : block < 2 ? SUPERBLOCK : REPLICA, 0);
            fs->state.blocks_bad += bad;
            fs->state.blocks_free--;
        }
    }
    return code;
}

static int replicas_write(nx_nexfs *fs)
{
    uint8_t bytes[NX_NEXFS_SUPERBLOCK];
    int code = NX_OK;

    nx_nexfs_super_pack(fs, bytes);
    for (uint32_t i = 0; i < fs->super.replica_count && code == NX_OK; i++) {
        uint64_t at = fs->super.replicas[i] * fs->flash->geometry.block_size;
        code = fs->flash->verbs->erase(fs->flash->self, at);
        code = code != NX_OK ? code : nx_nexfs_page_program(fs, at, bytes, sizeof bytes);
        code = code == NX_EMEDIUM ? NX_OK : code; /* one copy less */
    }
    return code;
}

int nx_nexfs_format(const nx_flash *flash, const nx_nexfs_memory *memory,
                    const nx_nexfs_format_options *options, nx_nexfs *fs)
{
    const nx_flash_geometry *g = &flash->geometry;
    int code = nx_flash_check(g);

    if (code != NX_OK) {
        return code;
    }
    memset(fs, 0, sizeof *fs);
    fs->now_ns = options->now_ns;
    fs->writable = true;
    fs->super = (nx_nexfs_super){.created = (uint64_t)options->now_ns,
                                 .reserve_blocks = options->reserve_blocks,
                                 .storage_class = options->storage_class,
                                 .node_log2 = options->node_log2,
                                 .address_bytes = address_bytes(g->size),
                                 .window_log2 = options->window_log2,
                                 .window_max_log2 = options->window_max_log2,
                                 .spare_pages = g->block_size / g->page_size < 32 ? 1 : 2};
    memcpy(fs->super.volume_id, options->volume_id, 16);
    memcpy(fs->super.label, options->label, 32);
    if (!fields_sound(&fs->super, g) || options->replicas > NX_NEXFS_REPLICAS ||
        options->storage_class > NX_NEXFS_MESH) {
        return NX_EINVAL;
    }
    code = nx_nexfs_adopt(fs, flash, memory);
    if (code != NX_OK) {
        return code;
    }
    replicas_place(fs, options->replicas);
    for (uint32_t block = 0; block < 2 && code == NX_OK; block++) {
        code = is_bad(flash, block)
                   ? NX_OK
                   : flash->verbs->erase(flash->self, (uint64_t)block * g->block_size);
    }
    fs->state = (nx_nexfs_state){.inode_next = NX_NEXFS_ROOT + 1,
                                 .data_block = NONE,
                                 .blocks_free = fs->blocks - 2,
                                 .inodes = 1,
                                 .erases = 4};
    code = code != NX_OK ? code : log_begin(fs);
    code = code != NX_OK ? code : table_begin(fs);
    code = code != NX_OK ? code : nx_nexfs_commit(fs);
    code = code != NX_OK ? code : nx_nexfs_anchor(fs);
    return code != NX_OK ? code : replicas_write(fs);
}
