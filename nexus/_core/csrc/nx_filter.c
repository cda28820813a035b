// SPDX-License-Identifier: Apache-2.0
/* Build, ask and replace; the theory is in nx_filter.h. */
#include "nx_filter.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_SIZE ((size_t)2 << 20)

NX_INLINE uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Maps a uniform 64-bit value to [0, range) without a division (Lemire, TOMACS 29(1), 2019). */
NX_INLINE uint64_t scale(uint64_t hash, uint64_t range)
{
    return (uint64_t)(((__uint128_t)hash * range) >> 64);
}

NX_INLINE nx_cell_id load_id(const uint8_t *at)
{
    return (nx_cell_id){nx_load_u64(at), nx_load_u64(at + 8)};
}

NX_INLINE uint64_t hash_id(const nx_filter_table *table, nx_cell_id id)
{
    return mix(id.low ^ table->key[0], id.high ^ table->key[1]);
}

/* The two levels use different bits of the hash: the high ones select the bitmap's word and the
 * lowest ones the bits in it, those between, brought up by the rotation, the bucket. */
NX_INLINE uint64_t word_of(const nx_filter_table *table, uint64_t hash)
{
    return scale(hash, table->word_count);
}

NX_INLINE uint64_t bits_of(uint64_t hash)
{
    return (uint64_t)1 << (hash & 63) | (uint64_t)1 << (hash >> 6 & 63) |
           (uint64_t)1 << (hash >> 12 & 63);
}

NX_INLINE uint64_t bucket_of(const nx_filter_table *table, uint64_t hash)
{
    return scale(nx_rotl64(hash, 32), table->bucket_count);
}

NX_INLINE bool bitmap_has(const nx_filter_table *table, uint64_t word, uint64_t hash)
{
    return (bits_of(hash) & ~table->bitmap[word]) == 0;
}

/* Finds the id's place: its own, or the first free one; a table is never full, so one exists. */
NX_INLINE nx_cell_id *find_place(const nx_filter_table *table, uint64_t bucket, nx_cell_id id)
{
    for (;;) {
        nx_cell_id *ids = table->buckets[bucket].ids;
        for (unsigned i = 0; i < NX_FILTER_BUCKET_IDS; i++) {
            if ((ids[i].low == id.low && ids[i].high == id.high) ||
                (ids[i].low | ids[i].high) == 0) {
                return &ids[i];
            }
        }
        bucket = bucket + 1 == table->bucket_count ? 0 : bucket + 1;
    }
}

NX_INLINE bool bucket_has(const nx_filter_table *table, uint64_t bucket, nx_cell_id id)
{
    const nx_cell_id *place = find_place(table, bucket, id);

    /* A free place equals only the all-zero id, which is never a member. */
    return (place->low | place->high) != 0;
}

static int table_fill(nx_filter_table *table, const uint8_t *ids, size_t stride, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nx_cell_id id = load_id(ids + i * stride);
        if ((id.low | id.high) == 0) {
            return NX_EINVAL;
        }
        uint64_t hash = hash_id(table, id);
        nx_cell_id *place = find_place(table, bucket_of(table, hash), id);
        table->bitmap[word_of(table, hash)] |= bits_of(hash);
        table->count += (place->low | place->high) == 0;
        *place = id;
    }
    return NX_OK;
}

int nx_filter_table_create(const uint8_t *ids, size_t stride, size_t count, const uint64_t key[2],
                           nx_filter_table **ret)
{
    NX_ASSERT(ids != NULL || count == 0);
    if (count > NX_FILTER_COUNT_MAX) {
        return NX_ETOOBIG;
    }
    uint64_t buckets = (uint64_t)count / 3 + 1;
    uint64_t words = ((uint64_t)count * NX_FILTER_BITS_PER_ID + 63) / 64 + 1;
    size_t header = nx_align_up(sizeof(nx_filter_table), NX_CACHE_LINE);
    size_t body = buckets * sizeof(nx_filter_bucket);
    size_t bytes = nx_align_up(header + body + words * sizeof(uint64_t), NX_CACHE_LINE);
    /* A table that spans several huge pages asks for them: random accesses then miss the TLB
     * less (medians at a million ids, on a busy machine: 15 % less for drops, 10 % for hits). A
     * kernel that has none to give changes nothing. */
    size_t alignment = bytes >= 2 * HUGE_PAGE_SIZE ? HUGE_PAGE_SIZE : NX_CACHE_LINE;
    uint8_t *memory = aligned_alloc(alignment, nx_align_up(bytes, alignment));

    if (memory == NULL) {
        return NX_ENOMEM;
    }
    if (alignment == HUGE_PAGE_SIZE) {
        (void)madvise(memory, bytes, MADV_HUGEPAGE);
    }
    memset(memory, 0, bytes);
    nx_filter_table *table = (nx_filter_table *)memory;
    *table = (nx_filter_table){
        .key = {key[0], key[1]},
        .word_count = words,
        .bucket_count = buckets,
        .buckets = (nx_filter_bucket *)(memory + header),
        .bitmap = (uint64_t *)(memory + header + body),
        .bytes = bytes,
    };
    int result = table_fill(table, ids, stride, count);
    if (result != NX_OK) {
        free(memory);
        return result;
    }
    *ret = table;
    return NX_OK;
}

void nx_filter_table_destroy(nx_filter_table *table)
{
    free(table);
}

bool nx_filter_table_has(const nx_filter_table *table, const uint8_t *at)
{
    nx_cell_id id = load_id(at);
    uint64_t hash = hash_id(table, id);

    return bitmap_has(table, word_of(table, hash), hash) &&
           bucket_has(table, bucket_of(table, hash), id);
}

uint64_t nx_filter_table_batch(const nx_filter_table *table, const uint8_t *ids, size_t stride,
                               size_t count)
{
    uint64_t hashes[NX_FILTER_BATCH];
    uint64_t places[NX_FILTER_BATCH]; /* word of the bitmap, then bucket */
    uint8_t survivors[NX_FILTER_BATCH];
    unsigned survivor_count = 0;
    uint64_t verdict = 0;

    NX_ASSERT(count <= NX_FILTER_BATCH);
    for (size_t i = 0; i < count; i++) {
        hashes[i] = hash_id(table, load_id(ids + i * stride));
        places[i] = word_of(table, hashes[i]);
        __builtin_prefetch(&table->bitmap[places[i]]);
    }
    for (size_t i = 0; i < count; i++) {
        survivors[survivor_count] = (uint8_t)i;
        survivor_count += bitmap_has(table, places[i], hashes[i]);
    }
    for (unsigned i = 0; i < survivor_count; i++) {
        uint64_t bucket = bucket_of(table, hashes[survivors[i]]);
        places[i] = bucket;
        __builtin_prefetch(&table->buckets[bucket]);
    }
    for (unsigned i = 0; i < survivor_count; i++) {
        size_t at = survivors[i];
        verdict |= (uint64_t)bucket_has(table, places[i], load_id(ids + at * stride)) << at;
    }
    return verdict;
}

void nx_filter_table_members(const nx_filter_table *table, nx_cell_id *ret)
{
    size_t found = 0;

    for (uint64_t bucket = 0; bucket < table->bucket_count; bucket++) {
        for (unsigned i = 0; i < NX_FILTER_BUCKET_IDS; i++) {
            nx_cell_id id = table->buckets[bucket].ids[i];
            if ((id.low | id.high) != 0) {
                NX_ASSERT(found < table->count);
                ret[found++] = id;
            }
        }
    }
    NX_ASSERT(found == table->count);
}

int nx_filter_create(nx_filter_table *table, nx_filter **ret)
{
    NX_ASSERT(table != NULL);
    nx_filter *filter = aligned_alloc(NX_CACHE_LINE, sizeof *filter);

    if (filter == NULL) {
        return NX_ENOMEM;
    }
    filter->retired = NULL;
    filter->freed = 0;
    atomic_init(&filter->current, table);
    atomic_init(&filter->epoch, 1);
    for (unsigned i = 0; i < NX_FILTER_READERS_MAX; i++) {
        atomic_init(&filter->readers[i].epoch, 0);
        atomic_init(&filter->readers[i].taken, 0);
    }
    *ret = filter;
    return NX_OK;
}

void nx_filter_destroy(nx_filter *filter)
{
    size_t waiting = nx_filter_reclaim(filter);

    NX_ASSERT(waiting == 0);
    nx_filter_table_destroy(atomic_load(&filter->current));
    free(filter);
}

void nx_filter_swap(nx_filter *filter, nx_filter_table *table)
{
    NX_ASSERT(table != NULL);
    nx_filter_table *old = atomic_exchange_explicit(&filter->current, table, memory_order_seq_cst);
    /* Readers announced up to this epoch may hold the old pointer; later ones cannot. */
    old->retired_epoch = atomic_fetch_add_explicit(&filter->epoch, 1, memory_order_acq_rel);
    old->next_retired = filter->retired;
    filter->retired = old;
    nx_filter_reclaim(filter);
}

size_t nx_filter_reclaim(nx_filter *filter)
{
    uint64_t oldest = UINT64_MAX;
    size_t waiting = 0;
    nx_filter_table **link = &filter->retired;

    for (unsigned i = 0; i < NX_FILTER_READERS_MAX; i++) {
        /* Pairs with the store in nx_filter_read_begin, see there. */
        uint64_t epoch = atomic_load_explicit(&filter->readers[i].epoch, memory_order_seq_cst);
        if (epoch != 0 && epoch < oldest) {
            oldest = epoch;
        }
    }
    while (*link != NULL) {
        nx_filter_table *table = *link;
        if (table->retired_epoch < oldest) {
            *link = table->next_retired;
            nx_filter_table_destroy(table);
            filter->freed++;
        } else {
            link = &table->next_retired;
            waiting++;
        }
    }
    return waiting;
}

int nx_filter_reader_join(nx_filter *filter, nx_filter_reader **ret)
{
    for (unsigned i = 0; i < NX_FILTER_READERS_MAX; i++) {
        uint32_t expected = 0;
        if (atomic_compare_exchange_strong(&filter->readers[i].taken, &expected, 1)) {
            *ret = &filter->readers[i];
            return NX_OK;
        }
    }
    return NX_EFULL;
}

void nx_filter_reader_leave(nx_filter_reader *reader)
{
    NX_ASSERT(atomic_load(&reader->epoch) == 0);
    atomic_store(&reader->taken, 0);
}

size_t nx_filter_check_frames(nx_filter *filter, nx_filter_reader *reader, const uint8_t *ids,
                              size_t stride, size_t count, uint8_t *ret)
{
    size_t passed = 0;

    for (size_t at = 0; at < count; at += NX_FILTER_BATCH) {
        size_t batch = count - at < NX_FILTER_BATCH ? count - at : NX_FILTER_BATCH;
        const nx_filter_table *table = nx_filter_read_begin(filter, reader);
        uint64_t verdict = nx_filter_table_batch(table, ids + at * stride, stride, batch);
        nx_filter_read_end(reader);
        passed += (size_t)__builtin_popcountll(verdict);
        for (size_t i = 0; i < batch; i++) {
            ret[at + i] = (uint8_t)(verdict >> i & 1);
        }
    }
    return passed;
}
