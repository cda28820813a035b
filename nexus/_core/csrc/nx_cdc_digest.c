// SPDX-License-Identifier: Apache-2.0
/*
 * Chunks and their BLAKE3 in one pass.
 *
 * The search proves bytes to belong to a chunk long before the chunk's end is known, so its
 * leaves are hashed as soon as a whole batch is proved, while they are in the cache. Leaves go
 * into batches in the order of the data, across chunk boundaries, and their chaining values into
 * a log; a chunk whose values are all there is joined to its root. While a batch is hashed, the
 * search rides on the kernel where there is one for it (nx_cdc_ride.h).
 *
 * Positions:  chunk <= queued <= proved.  `chunk` is where the chunk starts whose leaves are
 * queued; its end is `end`, or unknown (0), and then the search runs in it. When it is known the
 * search runs in the next chunk, and may find that one's end (`found`), but goes no further.
 */
#include "nx_blake3_kernels.h"
#include "nx_cdc_ride.h"
#include "nx_cdc_scan.h"

#include <stdlib.h>
#include <string.h>

#define LEAF        NX_BLAKE3_LEAF
#define OUT         NX_BLAKE3_OUT
#define LANES       NX_BLAKE3_LANES_MAX
#define SEARCH_STEP 4096u /* bytes searched at a time without a ride */

typedef struct {
    uint64_t end;
    size_t leaves;
} closed;

typedef struct {
    const nx_cdc *cdc;
    const uint8_t *data;
    size_t size;
    nx_blake3_mode mode;
    nx_cdc_ride_kernel *ride;
    size_t ride_bytes;
    unsigned lanes;

    size_t searched; /* start of the chunk that is searched */
    nx_cdc_search search;
    size_t found; /* its end, or 0 */

    size_t chunk;
    size_t queued;
    size_t end;

    nx_blake3_batch batch;
    unsigned waiting;
    bool uniform;

    uint8_t *log;
    size_t logged;
    closed ring[2 * LANES]; /* chunks that are queued to their end and not joined */
    unsigned first, closing;
} engine;

static nx_simd level;

void nx_cdc_select(nx_simd selected)
{
    level = selected;
    nx_blake3_select(selected);
}

void nx_cdc_list_free(nx_cdc_list *list)
{
    free(list->items);
    memset(list, 0, sizeof *list);
}

static int reserve(nx_cdc_list *list, size_t more)
{
    size_t room = list->room == 0 ? 64 : list->room;

    while (room - list->count < more) {
        room *= 2;
    }
    if (room > list->room) {
        nx_cdc_digest *items = realloc(list->items, room * sizeof *items);
        if (items == NULL) {
            return NX_ENOMEM;
        }
        list->items = items;
        list->room = room;
    }
    return NX_OK;
}

int nx_cdc_list_extend(nx_cdc_list *list, const nx_cdc_digest *items, size_t count)
{
    int code = reserve(list, count);

    if (code == NX_OK && count > 0) {
        memcpy(list->items + list->count, items, count * sizeof *items);
        list->count += count;
    }
    return code;
}

int nx_cdc_list_cuts(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t stop,
                     nx_cdc_list *list)
{
    while (start < size && start < stop) {
        uint64_t hash;
        if (reserve(list, 1) != NX_OK) {
            return NX_ENOMEM;
        }
        start += nx_cdc_next(cdc, data + start, size - start, &hash);
        memset(&list->items[list->count], 0, sizeof *list->items);
        list->items[list->count++].end = start;
    }
    return NX_OK;
}

int nx_cdc_stream_cuts(const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data, size_t size,
                       nx_cdc_list *list)
{
    uint64_t cut;

    do {
        if (reserve(list, 1) != NX_OK) {
            return NX_ENOMEM;
        }
        size_t used = nx_cdc_stream_update(cdc, stream, data, size, &cut);
        data += used;
        size -= used;
        if (cut != 0) {
            memset(&list->items[list->count], 0, sizeof *list->items);
            list->items[list->count++].end = cut;
        }
    } while (cut != 0);
    return NX_OK;
}

static void search_from(engine *e, size_t start)
{
    e->searched = start;
    e->search.at = nx_cdc_even(e->cdc->minimum);
    e->search.hash = 0;
    e->found = 0;
}

/* The bytes of the searched chunk that its end can lie in. */
static size_t limit_of(const engine *e)
{
    size_t rest = e->size - e->searched;

    return rest < e->cdc->maximum ? rest : e->cdc->maximum;
}

/* A step of the search without a ride. */
static void search_step(engine *e)
{
    size_t limit = limit_of(e);
    size_t last = nx_cdc_even(limit);

    if (e->size - e->searched > e->cdc->minimum && e->search.at < last) {
        size_t count = last - e->search.at < SEARCH_STEP ? last - e->search.at : SEARCH_STEP;
        const uint8_t *from = e->data + e->searched + e->search.at;
        if (nx_cdc_search_on(e->cdc, from, count, &e->search)) {
            e->found = e->searched + e->search.at;
            return;
        }
        if (e->search.at < last) {
            return;
        }
    }
    e->found = e->searched + limit;
}

static bool may_ride(const engine *e)
{
    size_t middle = nx_cdc_even(e->cdc->average);
    size_t last = nx_cdc_even(limit_of(e));

    if (e->ride == NULL || e->found != 0 || e->searched >= e->size ||
        e->size - e->searched <= e->cdc->minimum) {
        return false;
    }
    last = e->search.at < middle && middle < last ? middle : last;
    return e->search.at + e->ride_bytes <= last;
}

/* Hashes the full batch into the log, with the search riding on it. */
static void hash_riding(engine *e)
{
    nx_cdc_ride ride = {
        .gear = e->cdc->gear,
        .from = e->data + e->searched + e->search.at,
        .hash = e->search.hash,
        .mask = e->search.at < nx_cdc_even(e->cdc->average) ? e->cdc->strict : e->cdc->loose,
    };

    e->ride(&e->batch, &e->mode, e->log + OUT * e->logged, &ride);
    e->search.hash = ride.hash;
    if (ride.hit != NULL) {
        e->search.at += (size_t)(ride.hit - ride.from);
        e->found = e->searched + e->search.at;
    } else {
        e->search.at += e->ride_bytes;
    }
}

static void hash_batch(engine *e)
{
    if (e->uniform && e->waiting == e->lanes && may_ride(e)) {
        hash_riding(e);
    } else {
        nx_blake3_leaves(&e->mode, &e->batch, e->waiting, e->log + OUT * e->logged);
    }
    e->logged += e->waiting;
    e->waiting = 0;
    e->uniform = true;
}

/* Joins the chunks whose leaves are all in the log. */
static int join(engine *e, nx_cdc_list *list)
{
    size_t used = 0;

    while (e->closing > 0 && e->logged - used >= e->ring[e->first].leaves) {
        const closed *c = &e->ring[e->first];
        if (reserve(list, 1) != NX_OK) {
            return NX_ENOMEM;
        }
        nx_cdc_digest *item = &list->items[list->count++];
        item->end = c->end;
        if (c->leaves == 1) {
            memcpy(item->blake3, e->log + OUT * used, OUT);
        } else {
            nx_blake3_root(&e->mode, e->log + OUT * used, c->leaves, item->blake3, OUT);
        }
        used += c->leaves;
        e->first = (e->first + 1) % (2 * LANES);
        e->closing--;
    }
    e->logged -= used;
    memmove(e->log, e->log + OUT * used, OUT * e->logged);
    return NX_OK;
}

/* Queues the next leaf if it is proved to be one; false if not. */
static bool queue_leaf(engine *e)
{
    bool known = e->end != 0;
    size_t proved = known ? e->end : e->searched + e->search.at;
    size_t size = LEAF;
    unsigned lane = e->waiting;

    if (!known && e->search.at > limit_of(e)) {
        return false; /* a rest below the minimum: the next search step closes it */
    }
    if (e->queued + LEAF > proved || (!known && e->queued + LEAF == proved)) {
        if (!known) {
            return false;
        }
        size = proved - e->queued;
    }
    e->batch.data[lane] = e->data + e->queued;
    e->batch.counter[lane] = (e->queued - e->chunk) / LEAF;
    e->batch.size[lane] = (uint32_t)size;
    e->batch.flags_end[lane] = known && e->end - e->chunk <= LEAF ? NX_BLAKE3_ROOT : 0;
    e->uniform &= size == LEAF && e->batch.flags_end[lane] == 0;
    e->waiting++;
    e->queued += size;
    return true;
}

/* After the end of a chunk was found or queued: on to the next one. */
static void advance(engine *e)
{
    if (e->end != 0 && e->queued == e->end) {
        unsigned last = (e->first + e->closing++) % (2 * LANES);
        e->ring[last].end = e->end;
        e->ring[last].leaves = (e->end - e->chunk + LEAF - 1) / LEAF;
        e->chunk = e->end;
        e->end = 0;
    }
    if (e->end == 0 && e->found != 0) {
        e->end = e->found;
        search_from(e, e->found);
    }
}

static int run(engine *e, size_t stop, nx_cdc_list *list)
{
    for (;;) {
        advance(e);
        bool over = e->chunk >= stop; /* what is known of later chunks is left alone */
        if (e->waiting == e->lanes || (over && e->waiting > 0)) {
            hash_batch(e);
            int code = join(e, list);
            if (code != NX_OK) {
                return code;
            }
        } else if (over) {
            return NX_OK;
        } else if (!queue_leaf(e)) {
            search_step(e);
        }
    }
}

int nx_cdc_digests(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t stop,
                   nx_cdc_list *list)
{
    engine e;
    unsigned lanes = nx_blake3_lanes();
    int code;

    if (start >= size) {
        return NX_OK;
    }
    memset(&e, 0, sizeof e);
    e.cdc = cdc;
    e.data = data;
    e.size = size;
    nx_blake3_mode_hash(&e.mode);
    e.lanes = lanes;
    e.ride = nx_cdc_ride_of(level, &e.ride_bytes);
    e.uniform = true;
    e.chunk = e.queued = start;
    search_from(&e, start);
    e.log = malloc(OUT * (cdc->maximum / LEAF + 1 + 3 * LANES));
    if (e.log == NULL) {
        return NX_ENOMEM;
    }
    code = run(&e, stop < size ? stop : size, list);
    free(e.log);
    return code;
}
