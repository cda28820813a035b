// SPDX-License-Identifier: Apache-2.0
#include "nx_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_store_private.h"

static bool is_right(const nx_store_options *options)
{
    return options->block_raw >= NX_CHUNK_MAX / 8 && options->block_raw <= NX_BLOCK_RAW_MAX &&
           options->window <= NX_BLOCK_PREFIX_MAX / 4 && options->depth <= NX_BLOCK_DEPTH_MAX &&
           options->threads >= 1 && options->threads <= NX_STORE_THREADS_MAX &&
           options->level >= NX_ZSTD_LEVEL_MIN && options->level <= NX_ZSTD_LEVEL_MAX &&
           options->delta_level >= NX_ZSTD_LEVEL_MIN && options->delta_level <= NX_ZSTD_LEVEL_MAX &&
           options->pack_bytes > 0 && options->pack_bytes <= UINT32_MAX && options->next_pack > 0 &&
           options->next_segment > 0;
}

int nx_store_open(const nx_backing *backing, const nx_zstd *zstd, const nx_store_options *options,
                  nx_store **ret)
{
    if (!is_right(options)) {
        return NX_EINVAL;
    }
    nx_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return NX_ENOMEM;
    }
    store->backing = *backing;
    store->zstd = zstd;
    store->options = *options;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->cache.lock, NULL);
    pthread_mutex_init(&store->heads.lock, NULL);
    pthread_rwlock_init(&store->index_lock, NULL);
    pthread_cond_init(&store->cache.decoded, NULL);
    pthread_cond_init(&store->queued, NULL);
    pthread_cond_init(&store->freed, NULL);
    *ret = store;
    return NX_OK;
}

void nx_store_close(nx_store *store)
{
    nx_store_stop(store);
    for (size_t i = 0; i < store->segment_count; i++) {
        free(store->segments[i].marks);
    }
    free(store->segments);
    free(store->packs);
    nx_cache_free(&store->cache, store->zstd);
    nx_heads_free(&store->heads);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->cache.lock);
    pthread_mutex_destroy(&store->heads.lock);
    pthread_rwlock_destroy(&store->index_lock);
    pthread_cond_destroy(&store->cache.decoded);
    pthread_cond_destroy(&store->queued);
    pthread_cond_destroy(&store->freed);
    free(store);
}

/* With the lock held, or alone. Packs come in ascending order. */
int nx_store_push_pack(nx_store *store, uint64_t number, uint64_t length)
{
    if (store->pack_count > 0 && store->packs[store->pack_count - 1].number >= number) {
        return NX_EINVAL;
    }
    if (store->pack_count == store->pack_room) {
        size_t room = store->pack_room * 2 + 16;
        nx_pack *packs = realloc(store->packs, room * sizeof *packs);
        if (packs == NULL) {
            return NX_ENOMEM;
        }
        store->packs = packs;
        store->pack_room = room;
    }
    store->packs[store->pack_count++] = (nx_pack){.number = number, .length = length};
    return NX_OK;
}

int nx_store_add_pack(nx_store *store, uint64_t number, uint64_t length)
{
    uint64_t size;
    int code = store->backing.verbs->size(store->backing.self, NX_FILE_PACK, number, &size);

    if (code == NX_EEMPTY || (code == NX_OK && size < length)) {
        return NX_ECORRUPT;
    }
    return code == NX_OK ? nx_store_push_pack(store, number, length) : code;
}

bool nx_store_pack(const nx_store *store, size_t i, uint64_t *ret_number, uint64_t *ret_length)
{
    if (i >= store->pack_count) {
        return false;
    }
    *ret_number = store->packs[i].number;
    *ret_length = store->packs[i].length;
    return true;
}

uint64_t nx_store_next_pack(const nx_store *store)
{
    return store->options.next_pack;
}

uint64_t nx_store_next_segment(const nx_store *store)
{
    return store->options.next_segment;
}

nx_store_counters *nx_store_count(nx_store *store)
{
    return &store->counters;
}

const nx_store_options *nx_store_settings(const nx_store *store)
{
    return &store->options;
}

void nx_store_cancel(nx_store *store)
{
    atomic_store_explicit(&store->cancelled, true, memory_order_relaxed);
}

bool nx_store_cancelled(const nx_store *store)
{
    return atomic_load_explicit(&store->cancelled, memory_order_relaxed);
}
