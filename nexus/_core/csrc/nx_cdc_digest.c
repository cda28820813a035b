// SPDX-License-Identifier: Apache-2.0
/*
 * Chunks and their BLAKE3 in one pass.
 *
 * The search proves bytes to belong to a chunk long before the chunk's end is known, so its
 * leaves are hashed as soon as a whole batch is proved, while they are in the cache. Leaves go
 * into batches in the order of the data, across chunk boundaries, and their chaining values into
 * a log. The last leaf of a chunk, which is shorter, waits for those of other chunks, so that all
 * other batches are uniform; then the chunks whose values are all there are joined to their roots.
 * While a batch is hashed, the search rides on the kernel where there is one (nx_cdc_ride.h).
 *
 * Positions:  chunk <= queued <= proved.  `chunk` is where the chunk starts whose leaves are
 * queued; its end is `end`, or unknown (0), and then the search runs in it. When it is known the
 * search runs in the next chunk, and may find that one's end (`found`), but goes no further.
 */
#include "nx_blake3_kernels.h"
#include "nx_cdc_nx1.h"
#include "nx_cdc_ride.h"
#include "nx_cdc_scan.h"

#include <stdlib.h>
#include <string.h>

#define LEAF        NX_BLAKE3_LEAF
#define OUT         NX_BLAKE3_OUT
#define LANES       NX_BLAKE3_LANES_MAX
#define RING        LANES
#define LOG_JOIN    1024u /* leaves in the log that are not left waiting for others' tails */
#define SEARCH_STEP 4096u /* bytes searched at a time without a ride */

/* A chunk that is queued to its end and not joined. */
typedef struct {
    uint64_t end;
    size_t leaves;
    bool ragged; /* its last leaf is in `tails`, and not in the log */
    uint8_t tail[OUT];
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

    nx_blake3_batch batch; /* whole leaves */
    unsigned waiting;
    nx_blake3_batch tails; /* the last leaves of the last chunks in `ring` that are ragged */
    unsigned tailing;

    uint8_t *log; /* of whole leaves */
    size_t logged;
    closed ring[RING];
    unsigned first, closing;
} engine;

static nx_simd level;

void nx_cdc_select(nx_simd selected)
{
    level = selected;
    nx_blake3_select(selected);
    nx_cdc_nx1_select(selected);
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
    if (e->waiting == e->lanes && may_ride(e)) {
        hash_riding(e);
    } else {
        nx_blake3_leaves(&e->mode, &e->batch, e->waiting, e->log + OUT * e->logged);
    }
    e->logged += e->waiting;
    e->waiting = 0;
}

/* Hashes the last leaves, each to its chunk: the newest chunk's is the last. */
static void hash_tails(engine *e)
{
    uint8_t cvs[LANES * OUT];

    nx_blake3_leaves(&e->mode, &e->tails, e->tailing, cvs);
    for (unsigned back = 1; e->tailing > 0; back++) {
        closed *c = &e->ring[(e->first + e->closing - back) % RING];
        if (c->ragged) {
            memcpy(c->tail, cvs + OUT * --e->tailing, OUT);
        }
    }
}

/* The digest of a chunk from the log and its tail; the log's next value lies where the tail has
 * to be, and is put back. */
static void join_chunk(const engine *e, const closed *c, uint8_t *cvs, uint8_t ret[OUT])
{
    uint8_t next[OUT], *last = cvs + OUT * (c->leaves - 1);

    memcpy(next, last, OUT);
    if (c->ragged) {
        memcpy(last, c->tail, OUT);
    }
    if (c->leaves == 1) {
        memcpy(ret, cvs, OUT);
    } else {
        nx_blake3_root(&e->mode, cvs, c->leaves, ret, OUT);
    }
    memcpy(last, next, OUT);
}

/* Joins the chunks whose leaves are all hashed. */
static int join(engine *e, nx_cdc_list *list)
{
    size_t used = 0;

    while (e->closing > 0) {
        const closed *c = &e->ring[e->first];
        size_t whole = c->leaves - c->ragged;
        if (e->logged - used < whole) {
            break;
        }
        if (reserve(list, 1) != NX_OK) {
            return NX_ENOMEM;
        }
        nx_cdc_digest *item = &list->items[list->count++];
        item->end = c->end;
        join_chunk(e, c, e->log + OUT * used, item->blake3);
        used += whole;
        e->first = (e->first + 1) % RING;
        e->closing--;
    }
    e->logged -= used;
    memmove(e->log, e->log + OUT * used, OUT * e->logged);
    return NX_OK;
}

static void put(nx_blake3_batch *batch, unsigned lane, const engine *e, size_t size, uint32_t flags)
{
    batch->data[lane] = e->data + e->queued;
    batch->counter[lane] = (e->queued - e->chunk) / LEAF;
    batch->size[lane] = (uint32_t)size;
    batch->flags_end[lane] = flags;
}

/* Queues the next leaf if it is proved to be one; false if not. The last leaf of a chunk is a
 * tail unless it is whole and has others before it. */
static bool queue_leaf(engine *e)
{
    bool known = e->end != 0;
    size_t proved = known ? e->end : e->searched + e->search.at;
    size_t size = LEAF;

    if (!known && (e->search.at > limit_of(e) || e->queued + LEAF >= proved)) {
        return false; /* in a rest below the minimum the next search step closes it */
    }
    if (known && (e->queued + LEAF > proved || e->end - e->chunk == LEAF)) {
        size = proved - e->queued;
        put(&e->tails, e->tailing++, e, size, e->end - e->chunk <= LEAF ? NX_BLAKE3_ROOT : 0);
    } else {
        put(&e->batch, e->waiting++, e, size, 0);
    }
    e->queued += size;
    return true;
}

/* After the end of a chunk was found or queued: on to the next one. */
static void advance(engine *e)
{
    if (e->end != 0 && e->queued == e->end) {
        closed *c = &e->ring[(e->first + e->closing++) % RING];
        c->end = e->end;
        c->leaves = (e->end - e->chunk + LEAF - 1) / LEAF;
        c->ragged = (e->end - e->chunk) % LEAF != 0 || c->leaves == 1;
        e->chunk = e->end;
        e->end = 0;
    }
    if (e->end == 0 && e->found != 0) {
        e->end = e->found;
        search_from(e, e->found);
    }
}

/* Joins what is hashed; with `all`, after hashing what waits. */
static int settle(engine *e, bool all, nx_cdc_list *list)
{
    if (all && e->waiting > 0) {
        hash_batch(e);
    }
    if (e->tailing > 0) {
        hash_tails(e);
    }
    return join(e, list);
}

static int run(engine *e, size_t stop, nx_cdc_list *list)
{
    for (;;) {
        advance(e);
        bool over = e->chunk >= stop; /* what is known of later chunks is left alone */
        bool full = e->closing == RING || (e->closing > 0 && e->logged >= LOG_JOIN);
        if (over || full || e->tailing == e->lanes) {
            int code = settle(e, over || full, list);
            if (code != NX_OK || over) {
                return code;
            }
        } else if (e->waiting == e->lanes) {
            hash_batch(e);
        } else if (!queue_leaf(e)) {
            search_step(e);
        }
    }
}

/* The search of nx1 is so much faster than the hash that nothing is won by doing both at once. */
static int digests_nx1(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start,
                       size_t stop, nx_cdc_list *list)
{
    size_t first = list->count;
    int code = nx_cdc_list_cuts(cdc, data, size, start, stop, list);
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    for (size_t i = first; code == NX_OK && i < list->count; i++) {
        nx_cdc_digest *item = &list->items[i];
        nx_blake3_digest(&mode, data + start, (size_t)item->end - start, item->blake3, OUT);
        start = (size_t)item->end;
    }
    return code;
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
    if (cdc->profile == NX_CDC_NX1) {
        return digests_nx1(cdc, data, size, start, stop, list);
    }
    memset(&e, 0, sizeof e);
    e.cdc = cdc;
    e.data = data;
    e.size = size;
    nx_blake3_mode_hash(&e.mode);
    e.lanes = lanes;
    e.ride = nx_cdc_ride_of(level, &e.ride_bytes);
    e.chunk = e.queued = start;
    search_from(&e, start);
    e.log = malloc(OUT * (LOG_JOIN + cdc->maximum / LEAF + 1 + 3 * LANES));
    if (e.log == NULL) {
        return NX_ENOMEM;
    }
    code = run(&e, stop < size ? stop : size, list);
    free(e.log);
    return code;
}
