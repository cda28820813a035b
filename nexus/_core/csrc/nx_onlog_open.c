// SPDX-License-Identifier: Apache-2.0
/* The store's log: making, opening and closing; the medium with a count of what it corrected. */
#include "nx_onlog_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NODE_LOG2  12u
#define SLOTS      256u
#define WINDOW_MAX 16u /* log2: what a commit writes anew of an open pack */
#define RESERVE    32u /* of so many parts one is kept for what takes away */

/*
 * The medium, with a count of what it corrected
 */

static int counted_read(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    nx_onlog *log = self;
    int code = log->flash->verbs->read(log->flash->self, at, ret, size, ret_flips);

    if (code == NX_OK && *ret_flips > 0) {
        atomic_fetch_add_explicit(&log->corrected, 1, memory_order_relaxed);
    }
    return code;
}

static int counted_program(void *self, uint64_t at, const void *data, size_t size)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->program(flash->self, at, data, size);
}

static int counted_erase(void *self, uint64_t at)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->erase(flash->self, at);
}

static int counted_oob_read(void *self, uint64_t at, void *ret, size_t size)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->oob_read(flash->self, at, ret, size);
}

static int counted_oob_write(void *self, uint64_t at, const void *data, size_t size)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->oob_write(flash->self, at, data, size);
}

static int counted_is_bad(void *self, uint64_t at, bool *ret)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->is_bad(flash->self, at, ret);
}

static int counted_mark_bad(void *self, uint64_t at)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->mark_bad(flash->self, at);
}

static int counted_sync(void *self)
{
    const nx_flash *flash = ((nx_onlog *)self)->flash;

    return flash->verbs->sync(flash->self);
}

static const nx_flash_verbs COUNTED = {
    .read = counted_read,
    .program = counted_program,
    .erase = counted_erase,
    .oob_read = counted_oob_read,
    .oob_write = counted_oob_write,
    .is_bad = counted_is_bad,
    .mark_bad = counted_mark_bad,
    .sync = counted_sync,
};

/*
 * Making, opening, closing
 */

static unsigned window_log2(const nx_flash_geometry *g)
{
    unsigned log2 = WINDOW_MAX;

    while (log2 > 8 && 1u << log2 > g->block_size / 4 && 1u << log2 > g->page_size) {
        log2--;
    }
    return log2;
}

/* Enough for whatever the superblock says. */
static int memory_take(nx_onlog *log)
{
    nx_flash_geometry *g = &log->counted.geometry;
    unsigned window = 20;

    while (window > 8 && 1u << window > g->block_size) {
        window--;
    }
    log->memory = (nx_nexfs_memory){
        .slots = calloc(SLOTS, sizeof(nx_nexfs_slot)),
        .nodes = aligned_alloc(8, (size_t)SLOTS << NODE_LOG2),
        .buffer_size = nx_nexfs_buffer_size(g, NODE_LOG2, window),
        .slot_count = SLOTS,
        .node_size = 1u << NODE_LOG2,
    };
    log->memory.buffer = malloc(log->memory.buffer_size);
    bool got = log->memory.slots != NULL && log->memory.nodes != NULL && log->memory.buffer != NULL;
    return got ? NX_OK : NX_ENOMEM;
}

static int prepare(const nx_flash *flash, nx_onlog **ret)
{
    if (nx_flash_check(&flash->geometry) != NX_OK) {
        return NX_EINVAL;
    }
    nx_onlog *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return NX_ENOMEM;
    }
    pthread_mutex_init(&log->lock, NULL);
    pthread_rwlock_init(&log->medium, NULL);
    log->flash = flash;
    log->counted = (nx_flash){.verbs = &COUNTED, .self = log, .geometry = flash->geometry};
    log->shared = flash->geometry.kind == NX_FLASH_FILE || flash->geometry.kind == NX_FLASH_DEVICE;
    log->parts[NX_FILE_STATE] = NX_NEXFS_ROOT;
    int code = memory_take(log);
    if (code != NX_OK) {
        nx_onlog_close(log);
        return code;
    }
    *ret = log;
    return NX_OK;
}

void nx_onlog_close(nx_onlog *log)
{
    free(log->memory.slots);
    free(log->memory.nodes);
    free(log->memory.buffer);
    free(log->tail.bytes);
    pthread_rwlock_destroy(&log->medium);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

int nx_onlog_format(const nx_flash *flash, const uint8_t volume_id[16], unsigned storage_class)
{
    const nx_flash_geometry *g = &flash->geometry;
    uint64_t inode;
    struct timespec now;
    nx_onlog *log;
    int code = prepare(flash, &log);

    if (code != NX_OK) {
        return code;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    nx_nexfs_format_options options = {
        .now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
        .storage_class = (uint8_t)storage_class,
        .node_log2 = NODE_LOG2,
        .window_log2 = (uint8_t)window_log2(g),
        .window_max_log2 = (uint8_t)window_log2(g),
        .reserve_blocks = g->size / g->block_size < 128 ? 4 : 8,
    };
    memcpy(options.volume_id, volume_id, 16);
    code = nx_nexfs_format(&log->counted, &log->memory, &options, &log->fs);
    code = code != NX_OK ? code : nx_nexfs_mount(&log->counted, &log->memory, true, &log->fs);
    log->fs.now_ns = options.now_ns;
    for (int i = 0; i < 2 && code == NX_OK; i++) {
        code = nx_nexfs_create(&log->fs, NX_NEXFS_ROOT, i == 0 ? "packs" : "index", 5,
                               NX_NEXFS_DIRECTORY | 0700, &inode);
    }
    code = code != NX_OK ? code : nx_nexfs_unmount(&log->fs);
    int kept = errno;
    nx_onlog_close(log);
    errno = kept;
    return code;
}

static int parts_find(nx_onlog *log)
{
    int code = nx_nexfs_lookup(&log->fs, NX_NEXFS_ROOT, "packs", 5, &log->parts[NX_FILE_PACK]);

    code = code != NX_OK
               ? code
               : nx_nexfs_lookup(&log->fs, NX_NEXFS_ROOT, "index", 5, &log->parts[NX_FILE_SEGMENT]);
    return code == NX_EEMPTY || log->fs.super.storage_class == NX_NEXFS_CORE ? NX_EABSENT : code;
}

int nx_onlog_open(const nx_flash *flash, bool writes, nx_onlog **ret)
{
    nx_onlog *log;
    int code = prepare(flash, &log);

    if (code != NX_OK) {
        return code;
    }
    code = nx_nexfs_mount(&log->counted, &log->memory, writes, &log->fs);
    code = code != NX_OK ? code : parts_find(log);
    if (code == NX_OK) {
        const nx_flash_geometry *g = &flash->geometry;
        uint64_t least = 4ull * g->block_size;
        log->writes = writes;
        log->window = 1u << log->fs.super.window_log2;
        log->reserve = g->size / RESERVE > least ? g->size / RESERVE : least;
        log->tail.bytes = malloc(log->window);
        code = log->tail.bytes == NULL ? NX_ENOMEM : NX_OK;
    }
    if (code != NX_OK) {
        int kept = errno;
        nx_onlog_close(log);
        errno = kept;
        return code;
    }
    *ret = log;
    return NX_OK;
}
