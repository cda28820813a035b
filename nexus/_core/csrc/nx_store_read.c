// SPDX-License-Identifier: Apache-2.0
/* From a place to verified bytes: decoded blocks, kept while there is room. */
#include <stdlib.h>
#include <string.h>

#include "nx_blake3.h"
#include "nx_store_private.h"

/* What a thread needs to decode one block; kept, for the next is of about the same size. */
typedef struct nx_scratch {
    void *context;
    nx_bytes payload;
    nx_bytes prefix;
} nx_scratch;

static void free_scratch(const nx_zstd *zstd, nx_scratch *scratch)
{
    if (scratch->context != NULL) {
        zstd->free_dctx(scratch->context);
    }
    nx_bytes_free(&scratch->payload);
    nx_bytes_free(&scratch->prefix);
    free(scratch);
}

static void free_cached(nx_cached *cached)
{
    free(cached->head);
    free(cached->raw);
    free(cached->starts);
    free(cached->right);
    free(cached);
}

void nx_cache_free(nx_cache *cache, const nx_zstd *zstd)
{
    while (cache->scratch_count > 0) {
        free_scratch(zstd, cache->scratches[--cache->scratch_count]);
    }
    while (cache->newest != NULL) {
        nx_cached *cached = cache->newest;
        cache->newest = cached->older;
        free_cached(cached);
    }
    for (size_t i = 0; i < NX_SPARES_MAX; i++) {
        free(cache->spares[i].raw);
    }
}

/* With the lock held: what a block was decoded into, for the next; the oldest spare goes. */
static void spare(nx_cache *cache, nx_cached *cached)
{
    size_t at = cache->spare_next++ % NX_SPARES_MAX;

    free(cache->spares[at].raw);
    cache->spares[at].raw = cached->raw;
    cache->spares[at].room = cached->room;
    cached->raw = NULL;
}

/* Room for a decoded block. New pages cost as much as half of decoding into them, so a spare is
   taken if there is one that is not much too large. */
static uint8_t *take_raw(nx_cache *cache, size_t size, size_t *ret_room)
{
    uint8_t *raw = NULL;

    *ret_room = size;
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < NX_SPARES_MAX && raw == NULL; i++) {
        size_t room = cache->spares[i].room;
        if (cache->spares[i].raw != NULL && room >= size && room / 2 <= size) {
            raw = cache->spares[i].raw;
            *ret_room = room;
            cache->spares[i].raw = NULL;
        }
    }
    pthread_mutex_unlock(&cache->lock);
    return raw != NULL ? raw : malloc(size);
}

static nx_cached **bucket_of(nx_cache *cache, uint64_t key)
{
    return &cache->buckets[(size_t)(key * 0x9e3779b97f4a7c15u >> 54) % NX_CACHE_BUCKETS];
}

static void unlink_age(nx_cache *cache, nx_cached *cached)
{
    *(cached->newer == NULL ? &cache->newest : &cached->newer->older) = cached->older;
    *(cached->older == NULL ? &cache->oldest : &cached->older->newer) = cached->newer;
}

static void link_newest(nx_cache *cache, nx_cached *cached)
{
    cached->newer = NULL;
    cached->older = cache->newest;
    *(cache->newest == NULL ? &cache->oldest : &cache->newest->newer) = cached;
    cache->newest = cached;
}

static uint64_t cost_of(const nx_cached *cached)
{
    return sizeof *cached + cached->block.head + cached->room;
}

static void drop(nx_cache *cache, nx_cached *cached)
{
    nx_cached **link = bucket_of(cache, cached->key);

    while (*link != cached) {
        link = &(*link)->next;
    }
    *link = cached->next;
    unlink_age(cache, cached);
    if (cached->raw != NULL) {
        spare(cache, cached);
    }
    free_cached(cached);
}

/* With the lock held: the oldest that nobody holds go until the rest fits. */
static void shrink(nx_cache *cache, uint64_t most)
{
    nx_cached *cached = cache->oldest;

    while (cached != NULL && cache->bytes > most) {
        nx_cached *newer = cached->newer;
        if (cached->refs == 0) {
            cache->bytes -= cost_of(cached);
            drop(cache, cached);
        }
        cached = newer;
    }
}

static nx_scratch *take_scratch(nx_store *store)
{
    nx_cache *cache = &store->cache;
    nx_scratch *scratch = NULL;

    pthread_mutex_lock(&cache->lock);
    if (cache->scratch_count > 0) {
        scratch = cache->scratches[--cache->scratch_count];
    }
    pthread_mutex_unlock(&cache->lock);
    if (scratch == NULL) {
        scratch = calloc(1, sizeof *scratch);
    }
    if (scratch != NULL && scratch->context == NULL) {
        scratch->context = store->zstd->create_dctx();
    }
    if (scratch != NULL && scratch->context == NULL) {
        free_scratch(store->zstd, scratch);
        scratch = NULL;
    }
    return scratch;
}

static void give_scratch(nx_store *store, nx_scratch *scratch)
{
    nx_cache *cache = &store->cache;
    bool kept = false;

    pthread_mutex_lock(&cache->lock);
    if (cache->scratch_count < NX_SCRATCHES_MAX) {
        cache->scratches[cache->scratch_count++] = scratch;
        kept = true;
    }
    pthread_mutex_unlock(&cache->lock);
    if (!kept) {
        free_scratch(store->zstd, scratch);
    }
}

static int get_at(nx_store *store, const nx_found *found, bool checks, nx_held *ret);

int nx_store_prefix(nx_store *store, const nx_base_range *bases, size_t count, uint8_t depth,
                    bool checks, uint8_t *ret)
{
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        const nx_base_range *base = &bases[i];
        nx_found found;
        nx_held held;
        int code = nx_store_find(store, base->id, &found);
        if (code == NX_OK &&
            (found.depth >= depth || base->at > found.size || base->size > found.size - base->at)) {
            code = NX_ECORRUPT;
        }
        if (code == NX_OK) {
            code = get_at(store, &found, checks, &held);
        }
        if (code != NX_OK) {
            return code == NX_EEMPTY ? NX_ECORRUPT : code;
        }
        memcpy(ret + at, held.data + base->at, base->size);
        at += base->size;
        nx_store_release(store, &held);
    }
    return NX_OK;
}

static int read_prefix(nx_store *store, const nx_block *block, nx_bytes *ret)
{
    nx_base_range bases[NX_BLOCK_BASES_MAX];
    size_t size = 0;

    for (size_t i = 0; i < block->base_count; i++) {
        const uint8_t *base = block->bases + i * NX_BLOCK_BASE;
        memcpy(bases[i].id, base, NX_OBJECT_ID);
        bases[i].at = nx_load_u32(base + NX_OBJECT_ID);
        bases[i].size = nx_load_u32(base + NX_OBJECT_ID + 4);
        size += bases[i].size;
    }
    ret->size = 0;
    uint8_t *place = nx_bytes_room(ret, size + 1);
    if (place == NULL) {
        return NX_ENOMEM;
    }
    ret->size = size;
    /* What is decoded with them is checked; who only rests on them needs no check of their own. */
    return nx_store_prefix(store, bases, block->base_count, block->depth, false, place);
}

/* Payload and prefix are read, and decoded into cached->raw. */
static int decode_payload(nx_store *store, nx_cached *cached, nx_scratch *scratch)
{
    const nx_backing *backing = &store->backing;
    const nx_block *block = &cached->block;

    scratch->payload.size = 0;
    scratch->prefix.size = 0;
    uint8_t *payload = nx_bytes_room(&scratch->payload, (size_t)block->stored + 1);
    if (payload == NULL) {
        return NX_ENOMEM;
    }
    int code =
        backing->verbs->read(backing->self, NX_FILE_PACK, nx_key_pack(cached->key),
                             nx_key_offset(cached->key) + block->head, payload, block->stored);
    if (code == NX_OK && block->base_count > 0) {
        code = read_prefix(store, block, &scratch->prefix);
    }
    if (code == NX_OK) {
        code = nx_block_decode(store->zstd, scratch->context, block, payload, scratch->prefix.data,
                               scratch->prefix.size, cached->raw);
    }
    return code;
}

/* All ids at once: small objects share the lanes. */
static int verify(nx_cached *cached)
{
    size_t count = cached->block.count;
    const void **data = malloc(count * sizeof *data);
    size_t *sizes = malloc(count * sizeof *sizes);
    uint8_t *ids = malloc(count * NX_OBJECT_ID);
    bool memory = data != NULL && sizes != NULL && ids != NULL;
    nx_blake3_mode mode;

    for (size_t i = 0; memory && i < count; i++) {
        data[i] = cached->raw + cached->starts[i];
        sizes[i] = nx_block_size(&cached->block, i);
    }
    if (memory) {
        nx_blake3_mode_hash(&mode);
        nx_blake3_many(&mode, data, sizes, count, ids);
        for (size_t i = 0; i < count; i++) {
            const uint8_t *id = nx_block_id(&cached->block, i);
            cached->right[i] = memcmp(ids + i * NX_OBJECT_ID, id, NX_OBJECT_ID) == 0;
        }
    }
    free(data);
    free(sizes);
    free(ids);
    return memory ? NX_OK : NX_ENOMEM;
}

static int decode(nx_store *store, nx_cached *cached)
{
    int code = nx_store_load_head(store, cached->key, &cached->head, &cached->block);

    if (code != NX_OK) {
        return code;
    }
    size_t count = cached->block.count;
    nx_scratch *scratch = take_scratch(store);
    cached->raw = take_raw(&store->cache, (size_t)cached->block.raw + 1, &cached->room);
    cached->starts = malloc(count * sizeof *cached->starts);
    cached->right = calloc(count, sizeof *cached->right);
    if (scratch == NULL || cached->raw == NULL || cached->starts == NULL || cached->right == NULL) {
        code = NX_ENOMEM;
    }
    uint32_t start = 0;
    for (size_t i = 0; code == NX_OK && i < count; i++) {
        cached->starts[i] = start;
        start += nx_block_size(&cached->block, i);
    }
    if (code == NX_OK) {
        code = decode_payload(store, cached, scratch);
    }
    if (scratch != NULL) {
        give_scratch(store, scratch);
    }
    return code;
}

/* The ids of a held block are compared, once. */
static int check(nx_store *store, nx_cached *cached)
{
    nx_cache *cache = &store->cache;
    int code = NX_OK;

    if (__atomic_load_n(&cached->checks, __ATOMIC_ACQUIRE) == NX_CHECKS_DONE) {
        return NX_OK;
    }
    pthread_mutex_lock(&cache->lock);
    while (cached->checks == NX_CHECKS_RUN) {
        pthread_cond_wait(&cache->decoded, &cache->lock);
    }
    if (cached->checks == NX_CHECKS_NONE) {
        __atomic_store_n(&cached->checks, NX_CHECKS_RUN, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&cache->lock);
        code = verify(cached);
        pthread_mutex_lock(&cache->lock);
        nx_checks state = code == NX_OK ? NX_CHECKS_DONE : NX_CHECKS_NONE;
        __atomic_store_n(&cached->checks, state, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&cache->decoded);
    }
    pthread_mutex_unlock(&cache->lock);
    return code;
}

/* With the lock held: the block, or a new place for it that this thread has to fill. */
static nx_cached *look_cached(nx_cache *cache, uint64_t key, bool *ret_new)
{
    nx_cached **bucket = bucket_of(cache, key);

    for (nx_cached *cached = *bucket; cached != NULL; cached = cached->next) {
        if (cached->key == key) {
            *ret_new = false;
            return cached;
        }
    }
    nx_cached *cached = calloc(1, sizeof *cached);
    if (cached != NULL) {
        *cached = (nx_cached){.key = key, .next = *bucket, .code = NX_EBUSY};
        *bucket = cached;
        link_newest(cache, cached);
    }
    *ret_new = true;
    return cached;
}

/* With the lock held: one holder less. What could not be read is not kept: who asks again reads. */
static void let_go(nx_store *store, nx_cached *cached)
{
    nx_cache *cache = &store->cache;

    cached->refs--;
    if (cached->refs == 0 && cached->code != NX_OK) {
        cache->bytes -= cost_of(cached);
        drop(cache, cached);
    } else {
        shrink(cache, store->options.cache_bytes);
    }
}

/* Whoever decodes waits for blocks of smaller depth alone, so nobody waits in a circle. */
static int hold_block(nx_store *store, uint64_t key, nx_cached **ret)
{
    nx_cache *cache = &store->cache;
    bool fresh;

    pthread_mutex_lock(&cache->lock);
    nx_cached *cached = look_cached(cache, key, &fresh);
    if (cached == NULL) {
        pthread_mutex_unlock(&cache->lock);
        return NX_ENOMEM;
    }
    cached->refs++;
    if (fresh) {
        pthread_mutex_unlock(&cache->lock);
        int code = decode(store, cached);
        pthread_mutex_lock(&cache->lock);
        cached->code = code;
        cache->bytes += cost_of(cached);
        pthread_cond_broadcast(&cache->decoded);
    }
    while (cached->code == NX_EBUSY) {
        pthread_cond_wait(&cache->decoded, &cache->lock);
    }
    int code = cached->code;
    if (code == NX_OK) {
        unlink_age(cache, cached);
        link_newest(cache, cached);
        *ret = cached;
    } else {
        let_go(store, cached);
    }
    pthread_mutex_unlock(&cache->lock);
    return code;
}

static int get_at(nx_store *store, const nx_found *found, bool checks, nx_held *ret)
{
    uint32_t number = (uint32_t)(found->place & ((1u << NX_PLACE_NUMBER_BITS) - 1));
    nx_cached *cached;
    int code = hold_block(store, nx_place_key(found->place), &cached);

    if (code != NX_OK) {
        return code;
    }
    nx_held held = {
        .data = cached->raw + cached->starts[number],
        .size = found->size,
        .block = cached,
    };
    code = checks ? check(store, cached) : NX_OK;
    if (code == NX_OK && checks && !cached->right[number]) {
        code = NX_ECORRUPT;
    }
    if (code != NX_OK) {
        nx_store_release(store, &held);
        return code;
    }
    *ret = held;
    return NX_OK;
}

int nx_store_verify(nx_store *store, uint64_t key)
{
    nx_cached *cached;
    int code = hold_block(store, key, &cached);

    if (code == NX_OK) {
        code = check(store, cached);
        for (size_t i = 0; i < cached->block.count && code != NX_ENOMEM; i++) {
            code = cached->right[i] ? code : NX_ECORRUPT;
        }
        nx_held held = {.block = cached};
        nx_store_release(store, &held);
    }
    return code;
}

int nx_store_get(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_held *ret)
{
    nx_found found;
    int code = nx_store_find(store, id, &found);

    return code == NX_OK ? get_at(store, &found, true, ret) : code;
}

void nx_store_release(nx_store *store, nx_held *held)
{
    pthread_mutex_lock(&store->cache.lock);
    let_go(store, held->block);
    pthread_mutex_unlock(&store->cache.lock);
    *held = (nx_held){0};
}
