// SPDX-License-Identifier: Apache-2.0
/* Reads all packs from end to end and names what is damaged; the theory is in nx_scrub.h. */
#include "nx_scrub.h"

#include <stdlib.h>
#include <string.h>

#include "nx_store_window.h"

typedef struct scrub {
    nx_store *store;
    pthread_mutex_t lock;
    nx_scrubbed *ret;
    size_t next; /* of the packs */
    bool full;
    int code;
} scrub;

static void report(scrub *work, uint64_t pack, uint64_t offset, nx_damage what)
{
    pthread_mutex_lock(&work->lock);
    nx_bytes_varint(&work->ret->damage, pack);
    nx_bytes_varint(&work->ret->damage, offset);
    nx_bytes_varint(&work->ret->damage, what);
    pthread_mutex_unlock(&work->lock);
}

static int check_block(scrub *work, const nx_window *seen, uint64_t at, const nx_block *block)
{
    const uint8_t *payload = seen->bytes + (at - seen->at) + block->head;
    uint64_t extent = nx_block_extent(block);
    uint64_t objects = block->count;
    bool zeros = true;

    for (uint64_t i = (uint64_t)block->head + block->stored; i < extent; i++) {
        zeros = zeros && payload[i - block->head] == 0;
    }
    if (!zeros) {
        report(work, seen->pack, at, NX_DAMAGE_PADDING);
    }
    if (!nx_block_passes(block, payload)) {
        report(work, seen->pack, at, NX_DAMAGE_PAYLOAD);
    } else if (work->full) {
        int code = nx_store_verify(work->store, nx_key_of(seen->pack, at));
        if (code == NX_ECORRUPT) {
            report(work, seen->pack, at, NX_DAMAGE_CONTENT);
        } else if (code != NX_OK) {
            return code;
        }
    }
    pthread_mutex_lock(&work->lock);
    work->ret->blocks++;
    work->ret->objects += objects;
    work->ret->bytes += extent;
    work->store->counters.file_bytes += extent;
    pthread_mutex_unlock(&work->lock);
    return NX_OK;
}

/* Behind a damaged head the next block is looked for: damage to one costs no other. */
static int check_pack(scrub *work, nx_window *seen)
{
    int code = nx_window_header(seen);
    bool lost = false;

    if (code == NX_ECORRUPT) {
        report(work, seen->pack, 0, NX_DAMAGE_PACK);
        code = NX_OK;
    }
    for (uint64_t at = NX_PACK_HEADER; code == NX_OK && at < seen->length;) {
        nx_block block;
        code = nx_store_cancelled(work->store) ? NX_ETIMEOUT : nx_window_block(seen, at, &block);
        if (code == NX_OK) {
            code = check_block(work, seen, at, &block);
            at += nx_block_extent(&block);
            lost = false;
        } else if (code == NX_ECORRUPT) {
            if (!lost) {
                report(work, seen->pack, at, NX_DAMAGE_HEAD);
            }
            lost = true;
            at += NX_BLOCK_ALIGN;
            code = NX_OK;
        }
    }
    if (code == NX_ESYS || code == NX_EEMPTY) {
        report(work, seen->pack, seen->at, NX_DAMAGE_UNREADABLE);
        code = NX_OK;
    }
    return code;
}

static void *run(void *argument)
{
    scrub *work = argument;
    nx_window seen = {.store = work->store, .bytes = malloc(NX_WINDOW)};
    bool more = true;

    while (more) {
        pthread_mutex_lock(&work->lock);
        if (seen.bytes == NULL) {
            work->code = NX_ENOMEM;
        }
        more = work->code == NX_OK &&
               nx_store_pack(work->store, work->next++, &seen.pack, &seen.length);
        pthread_mutex_unlock(&work->lock);
        seen.at = seen.size = 0;
        int code = more ? check_pack(work, &seen) : NX_OK;
        pthread_mutex_lock(&work->lock);
        work->code = work->code == NX_OK ? code : work->code;
        pthread_mutex_unlock(&work->lock);
    }
    free(seen.bytes);
    return NULL;
}

int nx_store_scrub(nx_store *store, bool full, nx_scrubbed *ret)
{
    scrub work = {.store = store, .ret = ret, .full = full};
    pthread_t threads[NX_STORE_THREADS_MAX];
    size_t count = 0;

    pthread_mutex_init(&work.lock, NULL);
    while (count + 1 < store->options.threads && count + 1 < store->pack_count &&
           pthread_create(&threads[count], NULL, run, &work) == 0) {
        count++;
    }
    (void)run(&work);
    while (count > 0) {
        pthread_join(threads[--count], NULL);
    }
    pthread_mutex_destroy(&work.lock);
    return work.code == NX_OK && ret->damage.failed ? NX_ENOMEM : work.code;
}
