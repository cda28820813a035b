// SPDX-License-Identifier: Apache-2.0
/* The threads that compress, and the order in which blocks are appended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_store_window.h"

#define JOBS_BESIDES (NX_STORE_LANES + 2) /* blocks that wait while each thread has one */

/* The first failure is what everybody is told from then on. */
void nx_store_fail(nx_store *store, int code)
{
    if (store->failed == NX_OK) {
        store->failed = code;
        store->failed_errno = errno;
    }
}

int nx_store_failure(nx_store *store)
{
    if (store->failed == NX_ESYS) {
        errno = store->failed_errno;
    }
    return store->failed;
}

static int open_pack(nx_store *store)
{
    uint8_t header[NX_PACK_HEADER] = {0};
    uint64_t number = store->options.next_pack;

    if (number >= 1u << 24) {
        return NX_EFULL;
    }
    nx_store_u32(header, NX_PACK_MAGIC);
    header[4] = 1;
    nx_store_u64(header + 8, number);
    memcpy(header + 16, store->options.volume, 16);
    int code = store->backing.verbs->write(store->backing.self, NX_FILE_PACK, number, 0, header,
                                           sizeof header);
    if (code != NX_OK) {
        return code;
    }
    pthread_mutex_lock(&store->lock);
    code = nx_store_push_pack(store, number, NX_PACK_HEADER);
    pthread_mutex_unlock(&store->lock);
    store->options.next_pack += code == NX_OK;
    return code;
}

/* Appends the block to the last pack; only the thread that `writes`. */
static int append(nx_store *store, const nx_job *job)
{
    nx_pack last = {0};

    if (store->pack_count > 0) {
        last = store->packs[store->pack_count - 1];
    }
    if (last.length == 0 || last.length >= store->options.pack_bytes ||
        last.number < store->pack_floor) {
        int code = open_pack(store);
        if (code != NX_OK) {
            return code;
        }
        last = store->packs[store->pack_count - 1];
    }
    int code = store->backing.verbs->write(store->backing.self, NX_FILE_PACK, last.number,
                                           last.length, job->out.data, job->out.size);
    if (code != NX_OK) {
        return code;
    }
    pthread_mutex_lock(&store->lock);
    store->places[job->block] = nx_key_of(last.number, last.length) << NX_PLACE_NUMBER_BITS;
    store->packs[store->pack_count - 1].length += job->out.size;
    store->counters.stored_bytes += job->out.size;
    store->counters.blocks++;
    pthread_mutex_unlock(&store->lock);
    return NX_OK;
}

static nx_job *find_job(nx_store *store, int state, uint64_t sequence)
{
    for (size_t i = 0; i < store->job_count; i++) {
        nx_job *job = &store->jobs[i];
        if ((int)job->state == state && (sequence == UINT64_MAX || job->sequence == sequence)) {
            return job;
        }
    }
    return NULL;
}

/* With the lock held: writes what is done, in order, unless another thread does so already. */
static void drain(nx_store *store)
{
    if (store->writes) {
        return;
    }
    store->writes = true;
    for (;;) {
        nx_job *job = find_job(store, NX_JOB_DONE, store->next_written);
        if (job == NULL) {
            break;
        }
        int code = job->code;
        if (code == NX_OK && store->failed == NX_OK) {
            pthread_mutex_unlock(&store->lock);
            code = append(store, job);
            pthread_mutex_lock(&store->lock);
        }
        if (code != NX_OK) {
            nx_store_fail(store, code);
        }
        job->state = NX_JOB_FREE;
        store->next_written++;
        pthread_cond_broadcast(&store->freed);
    }
    store->writes = false;
}

static int compress_job(nx_worker *worker, nx_job *job)
{
    nx_store *store = worker->store;

    if (job->whole) {
        return NX_OK;
    }
    if (job->prefix_size > 0) {
        int code =
            nx_store_prefix(store, job->bases, job->base_count, job->depth, true, worker->prefix);
        if (code != NX_OK) {
            return code;
        }
    }
    nx_block_plan plan = {
        .entries = job->entries.data,
        .raw = job->raw.data,
        .bases = job->bases,
        .prefix = worker->prefix,
        .count = job->count,
        .raw_size = (uint32_t)job->raw.size,
        .base_count = job->base_count,
        .prefix_size = job->prefix_size,
        .depth = job->depth,
        .level = job->base_count > 0 ? store->options.delta_level : store->options.level,
    };
    job->out.size = 0;
    return nx_block_encode(store->zstd, worker->cctx, &plan, &job->out);
}

/* With the lock held: does one queued block; false if there is none. */
bool nx_store_work(nx_worker *worker)
{
    nx_store *store = worker->store;
    nx_job *job = NULL;

    for (uint64_t i = store->next_written; job == NULL && i < store->next_sequence; i++) {
        job = find_job(store, NX_JOB_QUEUED, i);
    }
    if (job == NULL) {
        return false;
    }
    job->state = NX_JOB_BUSY;
    pthread_mutex_unlock(&store->lock);
    int code = compress_job(worker, job);
    pthread_mutex_lock(&store->lock);
    job->code = code;
    job->state = NX_JOB_DONE;
    drain(store);
    return true;
}

static void *run_worker(void *argument)
{
    nx_worker *worker = argument;
    nx_store *store = worker->store;

    pthread_mutex_lock(&store->lock);
    while (!store->ends) {
        if (!nx_store_work(worker)) {
            pthread_cond_wait(&store->queued, &store->lock);
        }
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* Worker 0 is the owner itself. Threads that do not start are done without. */
int nx_store_start(nx_store *store)
{
    store->job_count = store->options.threads + JOBS_BESIDES;
    store->jobs = calloc(store->job_count, sizeof *store->jobs);
    store->fresh = malloc(NX_SESSION_MAX * sizeof *store->fresh);
    store->fresh_table = calloc(NX_TABLE_SIZE, sizeof *store->fresh_table);
    bool whole = store->jobs != NULL && store->fresh != NULL && store->fresh_table != NULL;

    for (size_t i = 0; whole && i < store->options.threads; i++) {
        nx_worker *worker = &store->workers[i];
        worker->store = store;
        worker->cctx = store->zstd->create_cctx();
        worker->prefix = malloc(NX_BLOCK_PREFIX_MAX);
        whole = worker->cctx != NULL && worker->prefix != NULL;
        worker->runs =
            whole && i > 0 && pthread_create(&worker->thread, NULL, run_worker, worker) == 0;
    }
    if (!whole) {
        nx_store_stop(store);
        return NX_ENOMEM;
    }
    return NX_OK;
}

void nx_store_stop(nx_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->ends = true;
    pthread_cond_broadcast(&store->queued);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; i < store->options.threads; i++) {
        nx_worker *worker = &store->workers[i];
        if (worker->runs) {
            pthread_join(worker->thread, NULL);
        }
        if (worker->cctx != NULL) {
            store->zstd->free_cctx(worker->cctx);
        }
        free(worker->prefix);
        *worker = (nx_worker){0};
    }
    for (size_t i = 0; i < store->job_count; i++) {
        nx_bytes_free(&store->jobs[i].raw);
        nx_bytes_free(&store->jobs[i].entries);
        nx_bytes_free(&store->jobs[i].out);
    }
    free(store->jobs);
    free(store->fresh);
    free(store->fresh_table);
    free(store->places);
    store->jobs = NULL;
    store->job_count = 0;
    store->fresh = NULL;
    store->fresh_table = NULL;
    store->places = NULL;
}

int nx_store_take_job(nx_store *store, nx_job **ret)
{
    nx_job *job;

    pthread_mutex_lock(&store->lock);
    while ((job = find_job(store, NX_JOB_FREE, UINT64_MAX)) == NULL) {
        if (!nx_store_work(&store->workers[0])) {
            pthread_cond_wait(&store->freed, &store->lock);
        }
    }
    int code = nx_store_failure(store);
    if (code == NX_OK) {
        job->state = NX_JOB_OPEN;
    }
    pthread_mutex_unlock(&store->lock);
    job->raw.size = 0;
    job->entries.size = 0;
    job->count = 0;
    job->base_count = 0;
    job->prefix_size = 0;
    job->depth = 0;
    job->whole = false;
    *ret = job;
    return code;
}
