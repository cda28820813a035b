// SPDX-License-Identifier: Apache-2.0
#include "nx_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nx_restore_private.h"

#define DEPTH_MAX   512u
#define PERMISSIONS 07777u

/* A file with several names, and the path of the first. */
typedef struct link_made {
    uint64_t group;
    char *path;
} link_made;

static uint64_t link_group(const nx_entry *entry)
{
    nx_cursor extras = nx_cursor_of(entry->extras, entry->extras_size);
    nx_cursor value;
    uint64_t tag;

    while (nx_restore_extra(&extras, &tag, &value)) {
        if (tag == NX_EXTRA_LINK) {
            return nx_cursor_varint(&value);
        }
    }
    return 0;
}

static char *join(const char *path, const char *name)
{
    char *ret = NULL;

    return asprintf(&ret, "%s%s%s", path, path[0] != 0 ? "/" : "", name) < 0 ? NULL : ret;
}

/* Another name of a file that is there; false when this is its first. */
static bool made_link(nx_restore_state *state, nx_target *parent, const char *name, uint64_t group)
{
    const link_made *made = (const link_made *)(const void *)state->links.data;

    for (size_t i = 0; i < state->links.size / sizeof *made; i++) {
        if (made[i].group == group) {
            if (linkat(state->root, made[i].path, parent->descriptor, name, 0) != 0) {
                nx_restore_tell(state, errno, parent->path, name);
            }
            return true;
        }
    }
    return false;
}

/* A file, made by a thread; one with several names is made at once, so that they can be linked. */
static int take_file(nx_restore_state *state, nx_target *parent, const char *name,
                     const nx_entry *entry)
{
    uint64_t group = link_group(entry);

    if (group != 0 && made_link(state, parent, name, group)) {
        return NX_OK;
    }
    nx_file_job *job = nx_file_job_make(parent, name, entry);
    if (job == NULL) {
        return NX_ENOMEM;
    }
    if (group == 0) {
        nx_file_job_queue(state, job);
        return NX_OK;
    }
    link_made made = {.group = group, .path = join(parent->path, name)};
    nx_file_job_run(state, job);
    free(job->extras);
    free(job);
    nx_bytes_put(&state->links, &made, sizeof made);
    return made.path == NULL || state->links.failed ? NX_ENOMEM : NX_OK;
}

static int take_special(nx_restore_state *state, nx_target *parent, const char *name,
                        const nx_entry *entry)
{
    int done;

    if (S_ISLNK(entry->mode)) {
        char text[4096];
        bool fits = entry->form == NX_FORM_TEXT && entry->text_size < sizeof text;
        if (fits) {
            memcpy(text, entry->text, entry->text_size);
            text[entry->text_size] = 0;
        }
        done = fits ? symlinkat(text, parent->descriptor, name) : (errno = ENAMETOOLONG, -1);
    } else {
        mode_t kind = entry->mode & S_IFMT;
        done = mknodat(parent->descriptor, name, kind | 0600, (dev_t)entry->size);
        if (done == 0 && fchmodat(parent->descriptor, name, entry->mode & PERMISSIONS, 0) != 0) {
            done = -1;
        }
    }
    if (done == 0) {
        const struct timespec times[2] = {
            {.tv_nsec = UTIME_OMIT},
            {.tv_sec = entry->seconds, .tv_nsec = (long)entry->nanoseconds},
        };
        bool owned = !state->options->owner || fchownat(parent->descriptor, name, entry->uid,
                                                        entry->gid, AT_SYMLINK_NOFOLLOW) == 0;
        done = owned ? utimensat(parent->descriptor, name, times, AT_SYMLINK_NOFOLLOW) : -1;
    }
    if (done != 0) {
        nx_restore_tell(state, errno, parent->path, name);
    }
    return NX_OK;
}

static int take_entry(nx_restore_state *state, nx_target *parent, const char *name,
                      const nx_entry *entry);

static int take_rows(nx_restore_state *state, nx_target *into, const uint8_t *data, size_t size)
{
    char name[NX_NAME_MAX + 1];
    nx_entry entry;
    nx_leaf leaf;
    int code = nx_leaf_open(data, size, false, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        memcpy(name, entry.name, entry.name_size);
        name[entry.name_size] = 0;
        code =
            nx_store_cancelled(state->store) ? NX_ETIMEOUT : take_entry(state, into, name, &entry);
    }
    return code;
}

static int take_leaf(nx_restore_state *state, nx_target *into, const uint8_t *id)
{
    nx_held held;
    int code = nx_store_get(state->store, id, &held);

    if (code == NX_OK) {
        code = take_rows(state, into, held.data, held.size);
        nx_store_release(state->store, &held);
    }
    return code;
}

static int take_leaves(nx_restore_state *state, nx_target *into, const nx_entry *entry)
{
    nx_index_entry row;
    nx_cursor rows;
    nx_held held;
    uint64_t count;

    if (entry->form == NX_FORM_WITHIN) {
        return take_rows(state, into, entry->text, entry->text_size);
    }
    if (entry->form != NX_FORM_INDEX) {
        return entry->form == NX_FORM_LEAF ? take_leaf(state, into, entry->id) : NX_ECORRUPT;
    }
    int code = nx_store_get(state->store, entry->id, &held);
    if (code != NX_OK) {
        return code;
    }
    code = nx_index_open(held.data, held.size, &rows, &count);
    while (code == NX_OK && (code = nx_index_next(&rows, &row)) == 1) {
        code = take_leaf(state, into, row.id);
    }
    nx_store_release(state->store, &held);
    return code;
}

/* A directory and all below it. Damage ends this directory, not the others. */
static int take_directory(nx_restore_state *state, nx_target *parent, const char *name,
                          const nx_entry *entry)
{
    nx_target *one = calloc(1, sizeof *one);

    if (one == NULL) {
        return NX_ENOMEM;
    }
    *one = (nx_target){.parent = parent, .entry = *entry, .descriptor = -1, .holds = 1};
    one->extras = nx_restore_copy(entry->extras, entry->extras_size);
    one->path = join(parent->path, name);
    bool made = one->extras != NULL && one->path != NULL && state->depth < DEPTH_MAX &&
                mkdirat(parent->descriptor, name, (mode_t)0700) == 0;
    if (made) {
        one->descriptor =
            openat(parent->descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (one->descriptor < 0) {
        nx_restore_tell(state, state->depth < DEPTH_MAX ? errno : ELOOP, parent->path, name);
        free(one->extras);
        free(one->path);
        free(one);
        return NX_OK;
    }
    pthread_mutex_lock(&state->lock);
    parent->holds++;
    pthread_mutex_unlock(&state->lock);
    state->depth++;
    int code = take_leaves(state, one, entry);
    state->depth--;
    if (code == NX_ECORRUPT || code == NX_EEMPTY) {
        nx_restore_tell(state, EBADMSG, one->path, "");
        code = NX_OK;
    }
    nx_target_release(state, one);
    return code;
}

static int take_entry(nx_restore_state *state, nx_target *parent, const char *name,
                      const nx_entry *entry)
{
    if (S_ISDIR(entry->mode)) {
        return take_directory(state, parent, name, entry);
    }
    if (S_ISREG(entry->mode)) {
        return take_file(state, parent, name, entry);
    }
    return take_special(state, parent, name, entry);
}

static void end(nx_restore_state *state, const pthread_t *threads, size_t count)
{
    pthread_mutex_lock(&state->lock);
    state->ends = true;
    pthread_cond_broadcast(&state->more);
    pthread_mutex_unlock(&state->lock);
    (void)nx_restore_run(state); /* what waits is as well made by this thread */
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    link_made *made = (link_made *)(void *)state->links.data;
    for (size_t i = 0; i < state->links.size / sizeof *made; i++) {
        free(made[i].path);
    }
    nx_bytes_free(&state->links);
    pthread_mutex_destroy(&state->lock);
    pthread_cond_destroy(&state->more);
    pthread_cond_destroy(&state->room);
}

int nx_restore(nx_store *store, const nx_restore_options *options, const nx_entry *entry,
               int parent, const char *name, nx_bytes *ret_issues)
{
    pthread_t threads[NX_STORE_THREADS_MAX];
    size_t count = 0;
    char nowhere[1] = "";
    nx_restore_state state = {.store = store,
                              .options = options,
                              .issues = ret_issues,
                              .root = parent,
                              .uid = geteuid(),
                              .gid = getegid()};
    nx_target root = {.descriptor = parent, .path = nowhere, .holds = UINT32_MAX / 2};

    pthread_mutex_init(&state.lock, NULL);
    pthread_cond_init(&state.more, NULL);
    pthread_cond_init(&state.room, NULL);
    while (count < nx_store_settings(store)->threads &&
           pthread_create(&threads[count], NULL, nx_restore_run, &state) == 0) {
        count++;
    }
    int code = count == 0 ? NX_ENOMEM : take_entry(&state, &root, name, entry);
    end(&state, threads, count);
    if (code == NX_OK && nx_store_cancelled(store)) {
        code = NX_ETIMEOUT;
    }
    return code == NX_OK && ret_issues->failed ? NX_ENOMEM : code;
}
