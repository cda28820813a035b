// SPDX-License-Identifier: Apache-2.0
/* From objects to open blocks: lanes, bases, and the session's own index. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_store_private.h"

#define BENEATH_SLACK 4096u /* bytes before and behind a stretch that is found by proportion */

static size_t table_slot(const nx_store *store, const uint8_t *id)
{
    size_t slot = (size_t)(nx_load_u64(id + 8) & (NX_TABLE_SIZE - 1));

    while (store->fresh_table[slot] != 0 &&
           memcmp(store->fresh[store->fresh_table[slot] - 1].id, id, NX_OBJECT_ID) != 0) {
        slot = (slot + 1) & (NX_TABLE_SIZE - 1);
    }
    return slot;
}

const nx_fresh *nx_fresh_find(const nx_store *store, const uint8_t id[NX_OBJECT_ID])
{
    if (store->fresh_count == 0) {
        return NULL;
    }
    uint32_t number = store->fresh_table[table_slot(store, id)];
    return number == 0 ? NULL : &store->fresh[number - 1];
}

/* A place in the session's table of blocks. */
static int number_block(nx_store *store, nx_job *job)
{
    int code = NX_OK;

    pthread_mutex_lock(&store->lock);
    if (store->place_count == store->place_room) {
        size_t room = store->place_room * 2 + 256;
        uint64_t *places = realloc(store->places, room * sizeof *places);
        if (places == NULL) {
            code = NX_ENOMEM;
        } else {
            store->places = places;
            store->place_room = room;
        }
    }
    if (code == NX_OK) {
        job->block = (uint32_t)store->place_count++;
    }
    pthread_mutex_unlock(&store->lock);
    return code;
}

void nx_store_submit(nx_store *store, nx_job *job)
{
    pthread_mutex_lock(&store->lock);
    job->sequence = store->next_sequence++;
    job->state = NX_JOB_QUEUED;
    pthread_cond_signal(&store->queued);
    pthread_mutex_unlock(&store->lock);
}

static void submit(nx_store *store, size_t lane)
{
    nx_job *job = store->lanes[lane];

    store->lanes[lane] = NULL;
    nx_store_submit(store, job);
}

static uint32_t ranges_size(const nx_base_range *bases, size_t count)
{
    uint32_t size = 0;

    for (size_t i = 0; i < count; i++) {
        size += bases[i].size;
    }
    return size;
}

/* Cuts from a range what another one has of its beginning, or of its end. */
static void without(nx_base_range *range, const nx_base_range *had)
{
    uint32_t end = range->at + range->size;
    uint32_t had_end = had->at + had->size;

    if (memcmp(had->id, range->id, NX_OBJECT_ID) != 0 || had->at >= end || had_end <= range->at) {
        return;
    }
    if (had->at <= range->at) {
        uint32_t skip = had_end < end ? had_end - range->at : range->size;
        range->at += skip;
        range->size -= skip;
    } else if (had_end >= end) {
        range->size = had->at - range->at;
    }
}

/* What of the ranges the block does not have yet, into `ret`. */
static size_t new_ranges(const nx_job *job, const nx_base_range *bases, size_t count,
                         nx_base_range *ret)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        nx_base_range range = bases[i];
        for (size_t j = 0; j < job->base_count; j++) {
            without(&range, &job->bases[j]);
        }
        if (range.size > 0) {
            ret[n++] = range;
        }
    }
    return n;
}

/* The lane's open block with room for the object, a new one where there is none. */
static int lane_job(nx_store *store, size_t lane, size_t size, nx_base_range *bases,
                    size_t *base_count, nx_job **ret)
{
    nx_base_range fresh[NX_BLOCK_BASES_MAX];
    nx_job *job = store->lanes[lane];
    size_t most = store->options.block_raw;
    size_t count = job == NULL ? 0 : new_ranges(job, bases, *base_count, fresh);

    if (job != NULL && (job->raw.size + size > most || job->count == NX_BLOCK_OBJECTS_MAX ||
                        job->base_count + count > NX_BLOCK_BASES_MAX ||
                        job->prefix_size + ranges_size(fresh, count) > NX_BLOCK_PREFIX_MAX)) {
        submit(store, lane);
        job = NULL;
    }
    if (job == NULL) {
        int code = nx_store_take_job(store, &job);
        if (code == NX_OK) {
            code = number_block(store, job);
        }
        if (code != NX_OK) {
            return code;
        }
        store->lanes[lane] = job;
    } else {
        memcpy(bases, fresh, count * sizeof *fresh);
        *base_count = count;
    }
    *ret = job;
    return NX_OK;
}

/* The bases of an object, as they are found. */
typedef struct base_set {
    nx_base_range *ranges;
    size_t count;
    uint32_t size;
    uint8_t depth; /* of a block that rests on them */
} base_set;

/* One more base, if it is there, rests on few enough, and fits; one that goes on where the last
 * one ends becomes part of it. False where there is no room for any more. */
static bool add_base(const nx_store *store, const nx_found *found, const nx_base_range *range,
                     base_set *set)
{
    nx_base_range *last = set->count == 0 ? NULL : &set->ranges[set->count - 1];
    uint32_t end = range->at + range->size;

    if (found->depth >= store->options.depth || range->size == 0) {
        return true;
    }
    if (last != NULL && memcmp(last->id, range->id, NX_OBJECT_ID) == 0 && range->at >= last->at &&
        range->at <= last->at + last->size) {
        uint32_t more = end > last->at + last->size ? end - last->at - last->size : 0;
        if (set->size + more > NX_BLOCK_PREFIX_MAX) {
            return false;
        }
        last->size += more;
        set->size += more;
        return true;
    }
    if (set->count == NX_BLOCK_BASES_MAX || set->size + range->size > NX_BLOCK_PREFIX_MAX) {
        return false;
    }
    set->ranges[set->count++] = *range;
    set->size += range->size;
    set->depth = found->depth + 1 > set->depth ? (uint8_t)(found->depth + 1) : set->depth;
    return true;
}

/*
 * What an object that rests on too many others rests on itself, in place of it: the stretch of its
 * block's prefix that lies there as the range lies in the block. So a version after many others is
 * a delta as well, only against an older one.
 */
static bool add_beneath(nx_store *store, const nx_found *found, const nx_base_range *range,
                        base_set *set)
{
    uint32_t number = (uint32_t)(found->place & ((1u << NX_PLACE_NUMBER_BITS) - 1));
    uint64_t start = range->at;
    uint64_t prefix = 0;
    uint64_t at = 0;
    bool room = true;
    uint8_t *head = NULL;
    nx_block block;

    if (nx_store_load_head(store, nx_place_key(found->place), &head, &block) != NX_OK) {
        free(head);
        return true;
    }
    for (uint32_t i = 0; i < number; i++) {
        start += nx_block_size(&block, i);
    }
    for (uint32_t i = 0; i < block.base_count; i++) {
        prefix += nx_load_u32(block.bases + i * NX_BLOCK_BASE + NX_OBJECT_ID + 4);
    }
    uint64_t first = block.raw == 0 ? 0 : start * prefix / block.raw;
    uint64_t last = block.raw == 0 ? 0 : (start + range->size) * prefix / block.raw + BENEATH_SLACK;
    first = first > BENEATH_SLACK ? first - BENEATH_SLACK : 0;
    for (uint32_t i = 0; room && i < block.base_count; i++) {
        const uint8_t *base = block.bases + i * NX_BLOCK_BASE;
        uint32_t base_at = nx_load_u32(base + NX_OBJECT_ID);
        uint32_t base_size = nx_load_u32(base + NX_OBJECT_ID + 4);
        uint64_t from = first > at ? first : at;
        uint64_t to = last < at + base_size ? last : at + base_size;
        nx_found below;
        if (from < to && nx_store_find(store, base, &below) == NX_OK &&
            base_at + (to - at) <= below.size) {
            nx_base_range one = {.at = base_at + (uint32_t)(from - at),
                                 .size = (uint32_t)(to - from)};
            memcpy(one.id, base, NX_OBJECT_ID);
            room = add_base(store, &below, &one, set);
        }
        at += base_size;
    }
    free(head);
    return room;
}

/* The bases that can be used: which exist and do not rest on too many others. */
static size_t usable(nx_store *store, const nx_base_range *bases, size_t count, nx_base_range *ret,
                     uint8_t *ret_depth)
{
    base_set set = {.ranges = ret};
    bool room = true;

    for (size_t i = 0; room && i < count; i++) {
        nx_found found;
        if (nx_store_find(store, bases[i].id, &found) != NX_OK || bases[i].at >= found.size) {
            continue;
        }
        nx_base_range range = bases[i];
        uint32_t rest = found.size - range.at;
        range.size = range.size < rest ? range.size : rest;
        room = found.depth < store->options.depth ? add_base(store, &found, &range, &set)
                                                  : add_beneath(store, &found, &range, &set);
    }
    *ret_depth = set.depth;
    return set.count;
}

void nx_store_remember(nx_store *store, const uint8_t *id, nx_job *job)
{
    size_t slot = table_slot(store, id);
    nx_fresh *fresh = &store->fresh[store->fresh_count++];

    memcpy(fresh->id, id, NX_OBJECT_ID);
    fresh->block = job->block;
    fresh->number = job->count++;
    store->fresh_table[slot] = (uint32_t)store->fresh_count;
}

/* The threads run, and the session has room for as many objects more. */
static int make_ready(nx_store *store, size_t count)
{
    int code = store->jobs == NULL ? nx_store_start(store) : NX_OK;

    if (code == NX_OK && store->fresh_count + count > NX_SESSION_MAX) {
        code = nx_store_flush(store);
    }
    return code;
}

int nx_store_begin_block(nx_store *store, size_t count, nx_job **ret)
{
    int code = make_ready(store, count);

    if (code == NX_OK) {
        code = nx_store_take_job(store, ret);
    }
    return code == NX_OK ? number_block(store, *ret) : code;
}

/* Into the lane's block, which is never deeper than `depth` says of its objects. */
static int add(nx_store *store, nx_kind kind, const uint8_t *id, const void *data, size_t size,
               nx_base_range *bases, size_t count, uint8_t depth)
{
    size_t lane = (kind == NX_KIND_DATA ? 0u : 2u) + (count > 0 ? 1u : 0u);
    uint8_t word[4];
    nx_job *job;
    int code = lane_job(store, lane, size, bases, &count, &job);

    if (code != NX_OK) {
        return code;
    }
    nx_store_u32(word, (uint32_t)size | (uint32_t)kind << NX_ENTRY_SHIFT);
    nx_bytes_put(&job->raw, data, size);
    nx_bytes_put(&job->entries, id, NX_OBJECT_ID);
    nx_bytes_put(&job->entries, word, sizeof word);
    memcpy(job->bases + job->base_count, bases, count * sizeof *bases);
    job->base_count += (uint32_t)count;
    job->prefix_size += ranges_size(bases, count);
    job->depth = depth > job->depth ? depth : job->depth;
    if (job->raw.failed || job->entries.failed) {
        return NX_ENOMEM;
    }
    nx_store_remember(store, id, job);
    return NX_OK;
}

int nx_store_put_anew(nx_store *store, nx_kind kind, const uint8_t id[NX_OBJECT_ID],
                      const void *data, size_t size)
{
    nx_base_range none[NX_BLOCK_BASES_MAX];

    if (nx_fresh_find(store, id) != NULL) {
        return NX_OK;
    }
    int code = make_ready(store, 1);
    return code == NX_OK ? add(store, kind, id, data, size, none, 0, 0) : code;
}

int nx_store_put(nx_store *store, nx_kind kind, const uint8_t id[NX_OBJECT_ID], const void *data,
                 size_t size, const nx_base_range *bases, size_t base_count)
{
    nx_base_range used[NX_BLOCK_BASES_MAX];
    nx_found found;
    uint8_t depth;

    NX_ASSERT(size <= (kind == NX_KIND_DATA ? NX_CHUNK_MAX : NX_BLOCK_RAW_MAX));
    store->counters.objects++;
    store->counters.object_bytes += size;
    if (nx_fresh_find(store, id) != NULL || nx_store_find(store, id, &found) == NX_OK) {
        return NX_OK;
    }
    int code = make_ready(store, 1);
    if (code != NX_OK) {
        return code;
    }
    size_t count = usable(store, bases, base_count, used, &depth);
    code = add(store, kind, id, data, size, used, count, depth);
    if (code == NX_OK) {
        store->counters.new_objects++;
        store->counters.new_bytes += size;
    }
    return code;
}

/* All lanes are queued, and all blocks written. */
static int settle(nx_store *store)
{
    for (size_t lane = 0; lane < NX_STORE_LANES; lane++) {
        if (store->lanes[lane] != NULL) {
            submit(store, lane);
        }
    }
    pthread_mutex_lock(&store->lock);
    while (store->next_written < store->next_sequence) {
        if (!nx_store_work(&store->workers[0])) {
            pthread_cond_wait(&store->freed, &store->lock);
        }
    }
    int code = nx_store_failure(store);
    pthread_mutex_unlock(&store->lock);
    return code;
}

static void forget_session(nx_store *store)
{
    if (store->fresh_count > 0) {
        memset(store->fresh_table, 0, NX_TABLE_SIZE * sizeof *store->fresh_table);
    }
    store->fresh_count = 0;
    store->place_count = 0;
}

int nx_store_flush(nx_store *store)
{
    int code = settle(store);

    if (code == NX_OK && store->fresh_count > 0) {
        nx_mark *marks = malloc(store->fresh_count * sizeof *marks);
        if (marks == NULL) {
            return NX_ENOMEM;
        }
        for (size_t i = 0; i < store->fresh_count; i++) {
            const nx_fresh *fresh = &store->fresh[i];
            marks[i].mark = nx_mark_of(fresh->id);
            marks[i].place = store->places[fresh->block] | fresh->number;
        }
        code = nx_segment_append(store, marks, store->fresh_count);
    }
    if (code == NX_OK) {
        code = store->backing.verbs->sync(store->backing.self);
    }
    if (code != NX_OK) {
        pthread_mutex_lock(&store->lock);
        nx_store_fail(store, code);
        pthread_mutex_unlock(&store->lock);
        return code;
    }
    forget_session(store);
    return NX_OK;
}

int nx_store_recover(nx_store *store)
{
    (void)settle(store);
    pthread_mutex_lock(&store->lock);
    int code = nx_store_failure(store);
    bool room = code == NX_ESYS && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
    bool full = room || code == NX_EFULL;
    if (full) {
        store->failed = NX_OK;
        code = NX_OK;
    }
    pthread_mutex_unlock(&store->lock);
    if (code == NX_OK) {
        forget_session(store);
    }
    return code;
}
