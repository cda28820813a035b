// SPDX-License-Identifier: Apache-2.0
/* The files of a restore: what is in them, what they look like, and the threads that make them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "nx_pieces.h"
#include "nx_restore_private.h"

#define TAKE_MOST   8u /* files that a thread takes at once: neighbours share blocks */
#define PERMISSIONS 07777u
#define SET_ID      06000u

void nx_restore_tell(nx_restore_state *state, int reason, const char *path, const char *name)
{
    bool below = path[0] != 0 && name[0] != 0;

    pthread_mutex_lock(&state->lock);
    nx_bytes_varint(state->issues, (uint64_t)reason);
    nx_bytes_varint(state->issues, strlen(path) + below + strlen(name));
    nx_bytes_put(state->issues, path, strlen(path));
    nx_bytes_put(state->issues, "/", below);
    nx_bytes_put(state->issues, name, strlen(name));
    pthread_mutex_unlock(&state->lock);
}

static int reason_of(int code)
{
    return code == NX_ESYS ? errno : code == NX_ENOMEM ? ENOMEM : EBADMSG;
}

/* One record of the extras; false behind the last. */
bool nx_restore_extra(nx_cursor *extras, uint64_t *ret_tag, nx_cursor *ret)
{
    if (extras->at == extras->end || extras->failed) {
        return false;
    }
    *ret_tag = nx_cursor_varint(extras);
    *ret = nx_cursor_part(extras);
    return !extras->failed;
}

static int set_attribute(int descriptor, nx_cursor value)
{
    char name[NX_NAME_MAX + 1];
    uint64_t size = nx_cursor_varint(&value);
    const uint8_t *bytes = nx_cursor_take(&value, size);

    if (bytes == NULL || size > NX_NAME_MAX) {
        errno = EBADMSG;
        return -1;
    }
    memcpy(name, bytes, size);
    name[size] = 0;
    return fsetxattr(descriptor, name, value.at, (size_t)(value.end - value.at), 0);
}

/* Owner, attributes, permissions and time, in the order in which none undoes another. */
static int dress(const nx_restore_state *state, int descriptor, const nx_entry *entry)
{
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = entry->seconds, .tv_nsec = (long)entry->nanoseconds},
    };
    mode_t mode = entry->mode & (state->options->owner ? PERMISSIONS : PERMISSIONS & ~SET_ID);
    nx_cursor extras = nx_cursor_of(entry->extras, entry->extras_size);
    nx_cursor value;
    uint64_t tag;

    bool ours = entry->uid == state->uid && entry->gid == state->gid;
    if (state->options->owner && !ours && fchown(descriptor, entry->uid, entry->gid) != 0) {
        return errno;
    }
    while (state->options->attributes && nx_restore_extra(&extras, &tag, &value)) {
        if (tag == NX_EXTRA_ATTRIBUTE && set_attribute(descriptor, value) != 0) {
            return errno;
        }
    }
    return fchmod(descriptor, mode) != 0 || futimens(descriptor, times) != 0 ? errno : 0;
}

void nx_target_release(nx_restore_state *state, nx_target *one)
{
    while (one != NULL) {
        nx_target *parent = one->parent;
        pthread_mutex_lock(&state->lock);
        bool last = --one->holds == 0;
        pthread_mutex_unlock(&state->lock);
        if (!last) {
            return;
        }
        one->entry.extras = one->extras;
        int reason = dress(state, one->descriptor, &one->entry);
        if (reason != 0) {
            nx_restore_tell(state, reason, one->path, "");
        }
        (void)close(one->descriptor);
        free(one->extras);
        free(one->path);
        free(one);
        one = parent;
    }
}

static int write_all(int descriptor, const uint8_t *data, size_t size, uint64_t at)
{
    while (size > 0) {
        ssize_t n = pwrite(descriptor, data, size, (off_t)at);
        if (n < 0 && errno != EINTR) {
            return NX_ESYS;
        }
        if (n > 0) {
            data += n;
            size -= (size_t)n;
            at += (uint64_t)n;
        }
    }
    return NX_OK;
}

/* Every piece of a file, verified, to the descriptor; -1: only verified. */
static int pour(nx_store *store, const nx_entry *entry, int descriptor)
{
    nx_pieces pieces;
    nx_place place = {0};
    int code = nx_pieces_open(store, entry->form, entry->id, entry->size, &pieces);
    int step = code;

    while (code == NX_OK && (step = nx_pieces_next(&pieces, &place)) == 1) {
        nx_held held;
        if (place.hole) {
            continue;
        }
        code = nx_store_get(store, place.id, &held);
        if (code == NX_OK) {
            code = held.size != place.size ? NX_ECORRUPT : NX_OK;
            if (code == NX_OK && descriptor >= 0) {
                code = write_all(descriptor, held.data, held.size, place.offset);
            }
            nx_store_release(store, &held);
        }
        if (code == NX_OK && nx_store_cancelled(store)) {
            code = NX_ETIMEOUT;
        }
    }
    if (code == NX_OK) {
        code = step;
    }
    nx_pieces_close(&pieces);
    if (code == NX_OK && descriptor >= 0 && place.hole &&
        ftruncate(descriptor, (off_t)entry->size) != 0) {
        code = NX_ESYS;
    }
    return code;
}

void nx_file_job_run(nx_restore_state *state, const nx_file_job *job)
{
    int parent = job->folder->descriptor;
    int descriptor = openat(parent, job->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                            (mode_t)0600);

    if (descriptor < 0) {
        nx_restore_tell(state, errno, job->folder->path, job->name);
        return;
    }
    int code = pour(state->store, &job->entry, descriptor);
    int reason = code == NX_OK ? dress(state, descriptor, &job->entry) : reason_of(code);
    (void)close(descriptor);
    if (code != NX_OK) {
        (void)unlinkat(parent, job->name, 0);
    }
    if (reason != 0 && code != NX_ETIMEOUT) {
        nx_restore_tell(state, reason, job->folder->path, job->name);
    }
    nx_store_counters *counters = nx_store_count(state->store);
    __atomic_fetch_add(&counters->files, code == NX_OK, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counters->file_bytes, code == NX_OK ? job->entry.size : 0,
                       __ATOMIC_RELAXED);
}

void *nx_restore_run(void *argument)
{
    nx_restore_state *state = argument;

    pthread_mutex_lock(&state->lock);
    while (state->count > 0 || !state->ends) {
        nx_file_job *taken[TAKE_MOST];
        size_t n = 0;
        while (n < TAKE_MOST && state->count > 0) {
            taken[n++] = state->queue[state->first];
            state->first = (state->first + 1) % NX_RESTORE_QUEUE;
            state->count--;
        }
        if (n == 0) {
            pthread_cond_wait(&state->more, &state->lock);
            continue;
        }
        pthread_cond_signal(&state->room);
        pthread_mutex_unlock(&state->lock);
        for (size_t i = 0; i < n; i++) {
            nx_file_job_run(state, taken[i]);
            nx_target_release(state, taken[i]->folder);
            free(taken[i]->extras);
            free(taken[i]);
        }
        pthread_mutex_lock(&state->lock);
    }
    pthread_mutex_unlock(&state->lock);
    return NULL;
}

uint8_t *nx_restore_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *ret = malloc(size + 1);

    if (ret != NULL && size > 0) {
        memcpy(ret, bytes, size);
    }
    return ret;
}

nx_file_job *nx_file_job_make(nx_target *parent, const char *name, const nx_entry *entry)
{
    nx_file_job *job = calloc(1, sizeof *job);

    if (job == NULL) {
        return NULL;
    }
    job->folder = parent;
    job->entry = *entry;
    job->extras = nx_restore_copy(entry->extras, entry->extras_size);
    if (job->extras == NULL) {
        free(job);
        return NULL;
    }
    job->entry.extras = job->extras;
    if (entry->id != NULL) {
        memcpy(job->id, entry->id, NX_OBJECT_ID);
    }
    job->entry.id = job->id;
    (void)snprintf(job->name, sizeof job->name, "%s", name);
    return job;
}

void nx_file_job_queue(nx_restore_state *state, nx_file_job *job)
{
    pthread_mutex_lock(&state->lock);
    job->folder->holds++;
    while (state->count == NX_RESTORE_QUEUE) {
        pthread_cond_wait(&state->room, &state->lock);
    }
    state->queue[(state->first + state->count++) % NX_RESTORE_QUEUE] = job;
    if (state->count >= TAKE_MOST) {
        pthread_cond_signal(&state->more);
    }
    pthread_mutex_unlock(&state->lock);
}
