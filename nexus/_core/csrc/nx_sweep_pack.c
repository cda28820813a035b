// SPDX-License-Identifier: Apache-2.0
/* Moves what is needed out of packs, and takes them out of the store. */
#include <stdlib.h>
#include <string.h>

#include "nx_store_window.h"
#include "nx_sweep_private.h"

int nx_sweep_set_level(nx_sweep *sweep, int level, int delta_level)
{
    bool right = level >= NX_ZSTD_LEVEL_MIN && level <= NX_ZSTD_LEVEL_MAX &&
                 delta_level >= NX_ZSTD_LEVEL_MIN && delta_level <= NX_ZSTD_LEVEL_MAX;

    if (!right) {
        return NX_EINVAL;
    }
    sweep->store->options.level = level;
    sweep->store->options.delta_level = delta_level;
    sweep->relevel = true;
    return NX_OK;
}

static nx_sweep_pack *find_pack(nx_sweep_pack *packs, size_t count, uint64_t number)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (packs[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && packs[low].number == number ? &packs[low] : NULL;
}

int nx_sweep_count(const nx_sweep *sweep, nx_sweep_pack **ret, size_t *ret_count)
{
    const nx_store *store = sweep->store;
    size_t count = store->pack_count;
    nx_sweep_pack *packs = calloc(count + 1, sizeof *packs);

    if (packs == NULL) {
        return NX_ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        packs[i].number = store->packs[i].number;
        packs[i].length = store->packs[i].length;
    }
    for (size_t i = 0; i < sweep->covered; i++) {
        const nx_segment *segment = &store->segments[i];
        for (size_t j = 0; j < segment->count; j++) {
            uint64_t number = nx_key_pack(nx_place_key(segment->marks[j].place));
            nx_sweep_pack *pack = find_pack(packs, count, number);
            if (pack != NULL) {
                pack->records++;
                pack->live += nx_sweep_bits(sweep, i, j) & NX_SWEEP_LIVE;
            }
        }
    }
    *ret = packs;
    *ret_count = count;
    return NX_OK;
}

/* Whether the object is needed at this very place. */
static bool is_live(const nx_sweep *sweep, const uint8_t *id, uint64_t place)
{
    uint64_t mark = nx_mark_of(id);

    for (size_t i = 0; i < sweep->covered; i++) {
        const nx_segment *segment = &sweep->store->segments[i];
        for (size_t j = nx_segment_find(segment, mark);
             j < segment->count && segment->marks[j].mark == mark; j++) {
            if (segment->marks[j].place == place) {
                return (nx_sweep_bits(sweep, i, j) & NX_SWEEP_LIVE) != 0;
            }
        }
    }
    return false;
}

/* A block of the pack that is read, and which of its objects are needed. */
typedef struct part {
    nx_block block;
    const uint8_t *bytes;
    bool live[NX_BLOCK_OBJECTS_MAX];
    uint32_t count; /* of these */
    uint64_t raw;   /* their bytes */
    bool stale;
} part;

static int look_part(nx_sweep *sweep, nx_window *window, uint64_t at, part *ret)
{
    const nx_store_options *options = &sweep->store->options;
    const nx_block *block = &ret->block;
    int code = nx_window_block(window, at, &ret->block);

    if (code == NX_OK && nx_store_cancelled(sweep->store)) {
        code = NX_ETIMEOUT;
    }
    if (code != NX_OK) {
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    ret->bytes = window->bytes + (at - window->at);
    if (!nx_block_passes(block, ret->bytes + block->head)) {
        return NX_ECORRUPT;
    }
    uint64_t place = nx_key_of(window->pack, at) << NX_PLACE_NUMBER_BITS;
    ret->count = 0;
    ret->raw = 0;
    for (size_t i = 0; i < block->count; i++) {
        ret->live[i] = is_live(sweep, nx_block_id(block, i), place | i);
        ret->count += ret->live[i];
        ret->raw += ret->live[i] ? nx_block_size(block, i) : 0;
    }
    int level = block->base_count > 0 ? options->delta_level : options->level;
    /* What was tried with bases and did not shrink has none, but the level of those. */
    bool tried = block->codec == NX_CODEC_NONE && block->level == options->delta_level;
    ret->stale = sweep->relevel && block->level != level && !tried;
    return NX_OK;
}

/* Copied as it is. */
static int copy_block(nx_store *store, const part *one)
{
    nx_job *job;
    int code = nx_store_begin_block(store, one->block.count, &job);

    if (code != NX_OK) {
        return code;
    }
    job->whole = true;
    job->out.size = 0;
    nx_bytes_put(&job->out, one->bytes, nx_block_extent(&one->block));
    if (job->out.failed) {
        job->code = NX_ENOMEM;
    }
    for (size_t i = 0; i < one->block.count; i++) {
        nx_store_remember(store, nx_block_id(&one->block, i), job);
    }
    nx_store_submit(store, job);
    return job->out.failed ? NX_ENOMEM : NX_OK;
}

static size_t load_bases(const nx_block *block, nx_base_range *ret)
{
    for (size_t i = 0; i < block->base_count; i++) {
        const uint8_t *base = block->bases + i * NX_BLOCK_BASE;
        memcpy(ret[i].id, base, NX_OBJECT_ID);
        ret[i].at = nx_load_u32(base + NX_OBJECT_ID);
        ret[i].size = nx_load_u32(base + NX_OBJECT_ID + 4);
    }
    return block->base_count;
}

/* The needed objects of a block that rests on others, as a block of their own: in one with others
 * it might be deeper than it was, and what rests on it could not be read. */
static int remake_block(nx_store *store, const part *one)
{
    const nx_block *block = &one->block;
    nx_job *job;
    int code = nx_store_begin_block(store, block->count, &job);

    if (code != NX_OK) {
        return code;
    }
    job->base_count = (uint32_t)load_bases(block, job->bases);
    job->depth = block->depth;
    for (size_t i = 0; i < job->base_count; i++) {
        job->prefix_size += job->bases[i].size;
    }
    for (size_t i = 0; code == NX_OK && i < block->count; i++) {
        nx_held held;
        if (one->live[i]) {
            code = nx_store_get(store, nx_block_id(block, i), &held);
        }
        if (one->live[i] && code == NX_OK) {
            nx_bytes_put(&job->raw, held.data, held.size);
            nx_bytes_put(&job->entries, nx_block_id(block, i), NX_BLOCK_ENTRY);
            nx_store_release(store, &held);
            nx_store_remember(store, nx_block_id(block, i), job);
        }
    }
    if (code == NX_OK && (job->raw.failed || job->entries.failed)) {
        code = NX_ENOMEM;
    }
    job->whole = code != NX_OK; /* then it is written as what the failure leaves: nothing */
    job->out.size = 0;
    nx_store_submit(store, job);
    return code;
}

static int put_parts(nx_store *store, const part *one)
{
    const nx_block *block = &one->block;
    int code = NX_OK;

    for (size_t i = 0; code == NX_OK && i < block->count; i++) {
        const uint8_t *id = nx_block_id(block, i);
        nx_held held;
        if (one->live[i]) {
            code = nx_store_get(store, id, &held);
        }
        if (one->live[i] && code == NX_OK) {
            code = nx_store_put_anew(store, nx_block_kind(block, i), id, held.data, held.size);
            nx_store_release(store, &held);
        }
    }
    return code;
}

static int move_part(nx_sweep *sweep, const part *one)
{
    if (one->count == 0) {
        return NX_OK;
    }
    if (one->count == one->block.count && !one->stale) {
        return copy_block(sweep->store, one);
    }
    return one->block.base_count > 0 ? remake_block(sweep->store, one)
                                     : put_parts(sweep->store, one);
}

static void weigh_part(const part *one, nx_sweep_weight *ret)
{
    uint64_t extent = nx_block_extent(&one->block);
    uint64_t live = one->count == one->block.count ? extent
                    : one->count == 0              ? 0
                                                   : extent * one->raw / (one->block.raw + 1u);

    ret->live += live;
    ret->dead += extent - live;
    ret->stale += one->stale ? live : 0;
}

/* Weighed before it is moved, so that damage is found while nothing was written yet. */
static int try_part(nx_sweep *sweep, const nx_window *window, uint64_t at, const part *one)
{
    bool copied = one->count == one->block.count && !one->stale;

    if (one->count == 0 || copied) {
        return NX_OK;
    }
    return nx_store_verify(sweep->store, nx_key_of(window->pack, at));
}

/* All blocks of a pack; `ret` NULL: they are moved. */
static int each_part(nx_sweep *sweep, uint64_t number, nx_sweep_weight *ret)
{
    nx_window window = {
        .store = sweep->store,
        .pack = number,
        .length = nx_store_pack_length(sweep->store, number),
    };
    part *one = malloc(sizeof *one);
    window.bytes = malloc(NX_WINDOW);
    int code = one == NULL || window.bytes == NULL ? NX_ENOMEM : nx_window_header(&window);

    for (uint64_t at = NX_PACK_HEADER; code == NX_OK && at < window.length;) {
        code = look_part(sweep, &window, at, one);
        if (code == NX_OK && ret != NULL) {
            weigh_part(one, ret);
            code = try_part(sweep, &window, at, one);
        } else if (code == NX_OK) {
            code = move_part(sweep, one);
        }
        at += code == NX_OK ? nx_block_extent(&one->block) : 0;
    }
    free(window.bytes);
    free(one);
    return code == NX_EEMPTY ? NX_ECORRUPT : code;
}

int nx_sweep_weigh(nx_sweep *sweep, uint64_t number, nx_sweep_weight *ret)
{
    nx_sweep_weight weight = {0};
    int code = each_part(sweep, number, &weight);

    if (code == NX_OK) {
        *ret = weight;
    }
    return code;
}

int nx_sweep_move(nx_sweep *sweep, uint64_t number)
{
    if (number >= sweep->store->pack_floor) {
        return NX_EINVAL;
    }
    int code = each_part(sweep, number, NULL);
    return code == NX_OK ? nx_store_flush(sweep->store) : code;
}

int nx_sweep_drop(nx_sweep *sweep, uint64_t number)
{
    nx_store *store = sweep->store;
    size_t i = 0;

    pthread_mutex_lock(&store->lock);
    while (i < store->pack_count && store->packs[i].number != number) {
        i++;
    }
    bool there = i < store->pack_count;
    if (there) {
        store->pack_count--;
        memmove(&store->packs[i], &store->packs[i + 1],
                (store->pack_count - i) * sizeof *store->packs);
    }
    pthread_mutex_unlock(&store->lock);
    nx_heads_forget(&store->heads, number);
    return there ? NX_OK : NX_EEMPTY;
}

/* The records of packs that are there move down in place, with their bits. */
static size_t purge_segment(nx_sweep *sweep, size_t which, nx_sweep_pack *packs, size_t pack_count)
{
    nx_segment *segment = &sweep->store->segments[which];
    size_t kept = 0;

    for (size_t i = 0; i < segment->count; i++) {
        uint64_t number = nx_key_pack(nx_place_key(segment->marks[i].place));
        if (find_pack(packs, pack_count, number) != NULL) {
            nx_sweep_set(sweep, which, kept, nx_sweep_bits(sweep, which, i));
            segment->marks[kept++] = segment->marks[i];
        }
    }
    size_t gone = segment->count - kept;
    segment->count = kept;
    if (gone > 0) {
        nx_mark *less = realloc(segment->marks, kept * sizeof *less + 1);
        segment->marks = less == NULL ? segment->marks : less;
    }
    return gone;
}

int nx_sweep_purge(nx_sweep *sweep, uint64_t *ret)
{
    nx_store *store = sweep->store;
    nx_sweep_pack *packs = NULL;
    size_t pack_count;
    uint64_t gone = 0;
    int code = nx_sweep_count(sweep, &packs, &pack_count);

    for (size_t i = 0; code == NX_OK && i < sweep->covered; i++) {
        size_t less = purge_segment(sweep, i, packs, pack_count);
        if (less > 0) {
            store->segments[i].number = store->options.next_segment++;
            code = nx_segment_write(store, &store->segments[i]);
        }
        gone += less;
    }
    if (code == NX_OK) {
        code = store->backing.verbs->sync(store->backing.self);
    }
    free(packs);
    if (code == NX_OK) {
        *ret = gone;
    }
    return code;
}
