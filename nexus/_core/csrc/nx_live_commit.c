// SPDX-License-Identifier: Apache-2.0
/* From what changed to a new root, while nothing changes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nx_live_private.h"

bool nx_live_wait(nx_live *live, unsigned milliseconds)
{
    struct timespec until;
    int code = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(milliseconds % 1000u) * 1000000;
    until.tv_sec += (time_t)(milliseconds / 1000u) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&live->lock);
    while (!live->asks && code == 0) {
        code = pthread_cond_timedwait(&live->wanted, &live->lock, &until);
    }
    bool asks = live->asks;
    pthread_mutex_unlock(&live->lock);
    return asks;
}

bool nx_live_changed(nx_live *live)
{
    pthread_mutex_lock(&live->lock);
    bool changed = live->dirty != NULL;
    pthread_mutex_unlock(&live->lock);
    return changed;
}

bool nx_live_begin(nx_live *live)
{
    pthread_mutex_lock(&live->lock);
    bool changed = live->dirty != NULL;
    live->asks = false;
    live->commits = changed;
    nx_fuse_request *syncs = changed ? NULL : live->syncs;
    live->syncs = changed ? live->syncs : NULL;
    pthread_mutex_unlock(&live->lock);
    while (syncs != NULL) { /* what they asked for was committed before */
        nx_fuse_request *next = syncs->next;
        nx_fuse_error(syncs, 0);
        free(syncs);
        syncs = next;
    }
    return changed;
}

/* A directory that is to be written, and how deep it lies. */
typedef struct folder_row {
    nx_live_node *folder;
    unsigned depth;
} folder_row;

static int deepest_first(const void *a, const void *b)
{
    const folder_row *one = a;
    const folder_row *two = b;

    return (one->depth < two->depth) - (one->depth > two->depth);
}

/* All that are marked and have a way to the root. */
static int list_folders(const nx_live *live, nx_bytes *ret)
{
    for (nx_live_node *folder = live->dirty; folder != NULL; folder = folder->dirty_next) {
        folder_row row = {folder, 1};
        const nx_live_node *top = folder;
        while (top->names != NULL) {
            top = top->names->parent;
            row.depth++;
        }
        if (top == live->root) {
            nx_bytes_put(ret, &row, sizeof row);
        }
    }
    if (ret->failed) {
        return NX_ENOMEM;
    }
    if (ret->size > 0) {
        qsort(ret->data, ret->size / sizeof(folder_row), sizeof(folder_row), deepest_first);
    }
    return NX_OK;
}

static int by_name(const void *a, const void *b)
{
    const nx_name *const *one = a;
    const nx_name *const *two = b;

    return strcmp((*one)->text, (*two)->text);
}

static nx_past_entry past_of(const nx_live_node *node)
{
    nx_past_entry ret = {.name = "",
                         .form = node->stored.form,
                         .size = node->stored.size,
                         .text = node->stored.text,
                         .text_size = node->stored.text_size};

    memcpy(ret.id, node->stored.id, NX_OBJECT_ID);
    return ret;
}

/* What is written of a directory: its names in order, and a row and a base for each. */
typedef struct folder_work {
    const nx_name **names;
    nx_row *rows;
    nx_past_entry *bases;
    nx_content_cursor *cursors;
    size_t count;
} folder_work;

static void free_work(folder_work *work)
{
    for (size_t i = 0; work->rows != NULL && i < work->count; i++) {
        free(work->rows[i].extras);
    }
    free(work->names);
    free(work->rows);
    free(work->bases);
    free(work->cursors);
}

static int begin_work(const nx_live_node *folder, folder_work *ret)
{
    size_t count = (size_t)folder->child_count;
    size_t i = 0;

    *ret = (folder_work){.names = malloc((count + 1) * sizeof *ret->names),
                         .rows = calloc(count + 1, sizeof *ret->rows),
                         .bases = malloc((count + 1) * sizeof *ret->bases),
                         .cursors = malloc((count + 1) * sizeof *ret->cursors),
                         .count = count};
    if (ret->names == NULL || ret->rows == NULL || ret->bases == NULL || ret->cursors == NULL) {
        free_work(ret);
        return NX_ENOMEM;
    }
    for (const nx_name *name = folder->first; name != NULL; name = name->next) {
        ret->names[i++] = name;
    }
    qsort((void *)ret->names, count, sizeof *ret->names, by_name);
    return NX_OK;
}

/* The group first, then everything else. */
static int take_extras(const nx_live_node *node, nx_row *row)
{
    nx_bytes extras = {0};
    nx_bytes number = {0};

    if (!S_ISDIR(node->mode) && node->name_count > 1) {
        nx_bytes_varint(&number, node->group);
        nx_ingest_extra(&extras, NX_EXTRA_LINK, &number);
    }
    nx_bytes_put(&extras, node->extras, node->extras_size);
    bool failed = extras.failed || number.failed;
    nx_bytes_free(&number);
    row->extras = extras.data;
    row->entry.extras_size = (uint32_t)extras.size;
    return failed ? NX_ENOMEM : NX_OK;
}

static void take_stored(const nx_stored *stored, nx_row *row)
{
    row->entry.form = stored->form;
    row->entry.size = stored->size;
    row->text = (char *)stored->text;
    row->entry.text_size = stored->text_size;
    memcpy(row->id, stored->id, NX_OBJECT_ID);
}

static bool has_changed(const nx_live_node *node)
{
    return node->changed && !node->has_pending;
}

static int take_node(nx_live *live, nx_ingest_state *state, const nx_past *past, size_t i,
                     folder_work *work)
{
    nx_live_node *node = work->names[i]->node;
    nx_row *row = &work->rows[i];

    row->name = (char *)(uintptr_t)work->names[i]->text;
    row->entry.mode = node->mode;
    row->entry.uid = node->uid;
    row->entry.gid = node->gid;
    row->entry.seconds = node->mtime.tv_sec;
    row->entry.nanoseconds = (uint32_t)node->mtime.tv_nsec;
    int code = take_extras(node, row);
    if (code != NX_OK) {
        return code;
    }
    if (!has_changed(node)) {
        take_stored(node->has_pending ? &node->pending : &node->stored, row);
        row->entry.size = node->device != 0 ? node->device : row->entry.size;
        return NX_OK;
    }
    nx_content_cursor *cursor = &work->cursors[i];
    *cursor =
        (nx_content_cursor){.store = live->store, .content = node->content, .size = node->size};
    nx_source source = nx_content_source(cursor);
    work->bases[i] = past_of(node);
    row->before = node->stored.size > 0 ? &work->bases[i] : nx_past_find(past, row->name, false);
    nx_store_count(live->store)->files++;
    bool sparse = node->size > NX_SMALL_MAX && nx_content_sparse(node->content, node->size);
    return nx_ingest_content(state, &source, node->size, sparse, row);
}

static void keep_pending(nx_live_node *node, const nx_row *row)
{
    free(node->pending.text);
    node->pending = (nx_stored){.form = row->entry.form, .size = row->entry.size};
    memcpy(node->pending.id, row->id, NX_OBJECT_ID);
    node->has_pending = true;
}

static int write_folder(nx_live *live, nx_ingest_state *state, const folder_row *which)
{
    nx_live_node *folder = which->folder;
    nx_past_entry before = past_of(folder);
    nx_row result = {.before = &before};
    folder_work work;
    nx_past past;
    int code = begin_work(folder, &work);

    if (code != NX_OK) {
        return code;
    }
    code = nx_past_open(live->store, &before, &past);
    if (code != NX_OK) {
        free_work(&work);
        return code;
    }
    state->depth = which->depth;
    for (size_t i = 0; code == NX_OK && i < work.count; i++) {
        code =
            nx_store_cancelled(live->store) ? NX_ETIMEOUT : take_node(live, state, &past, i, &work);
    }
    if (code == NX_OK) {
        code = nx_ingest_small(state);
    }
    for (size_t i = 0; code == NX_OK && i < work.count; i++) {
        if (has_changed(work.names[i]->node)) {
            keep_pending(work.names[i]->node, &work.rows[i]);
        }
    }
    if (code == NX_OK) {
        code = nx_ingest_rows(state, &past, work.rows, work.count, &result);
    }
    if (code == NX_OK) {
        keep_pending(folder, &result);
        folder->pending.text = (uint8_t *)result.text;
        folder->pending.text_size = result.entry.text_size;
    } else {
        free(result.text);
    }
    state->small_count = 0;
    state->window_fill = 0;
    nx_past_close(&past);
    free_work(&work);
    return code;
}

static int make_root(const nx_live_node *root, nx_bytes *ret)
{
    nx_row row = {.name = ""};

    row.entry.mode = root->mode;
    row.entry.uid = root->uid;
    row.entry.gid = root->gid;
    row.entry.seconds = root->mtime.tv_sec;
    row.entry.nanoseconds = (uint32_t)root->mtime.tv_nsec;
    take_stored(&root->pending, &row);
    int code = take_extras(root, &row);
    if (code == NX_OK) {
        code = nx_ingest_root(&row, ret);
    }
    free(row.extras);
    return code;
}

/* Nothing that is marked changes before nx_live_settle, so it is read without the lock. */
int nx_live_gather(nx_live *live, nx_bytes *ret)
{
    nx_ingest_options options = {.cdc = live->cdc};
    nx_bytes issues = {0};
    nx_ingest_state state = {.store = live->store, .options = &options, .issues = &issues};
    nx_bytes folders = {0};

    state.window = malloc(NX_WINDOW);
    pthread_mutex_lock(&live->lock);
    int code = state.window == NULL ? NX_ENOMEM : list_folders(live, &folders);
    pthread_mutex_unlock(&live->lock);
    const folder_row *rows = (const folder_row *)(const void *)folders.data;
    for (size_t i = 0; code == NX_OK && i < folders.size / sizeof *rows; i++) {
        code = write_folder(live, &state, &rows[i]);
    }
    if (code == NX_OK) {
        code = make_root(live->root, ret);
    }
    int kept = errno;
    free(state.window);
    nx_bytes_free(&state.path);
    nx_bytes_free(&issues);
    nx_cdc_list_free(&state.cuts);
    nx_bytes_free(&folders);
    errno = kept;
    return code == NX_EFAULT ? NX_ESYS : code;
}

/* What was written becomes what is stored, or is forgotten. */
static void settle_node(nx_live_node *node, bool whole)
{
    if (!node->has_pending) {
        return;
    }
    if (whole) {
        free(node->stored.text);
        node->stored = node->pending;
        if (!S_ISDIR(node->mode)) {
            nx_content_release(node->content);
            node->content = NULL;
            node->changed = false;
        } else {
            node->size = node->stored.size;
        }
    } else {
        free(node->pending.text);
    }
    node->pending = (nx_stored){0};
    node->has_pending = false;
}

void nx_live_settle(nx_live *live, int reason)
{
    pthread_mutex_lock(&live->lock);
    for (nx_live_node *folder = live->dirty; folder != NULL; folder = folder->dirty_next) {
        for (const nx_name *name = folder->first; name != NULL; name = name->next) {
            settle_node(name->node, reason == 0);
        }
        settle_node(folder, reason == 0);
    }
    if (reason == 0) {
        while (live->dirty != NULL) {
            nx_live_node *folder = live->dirty;
            live->dirty = folder->dirty_next;
            folder->dirty = false;
            folder->dirty_next = folder->dirty_before = NULL;
        }
        nx_content_new_scratch(live);
        if (live->node_count > 2 * live->swept + NX_LIVE_SWEEP) {
            nx_live_sweep(live, false);
        }
    }
    nx_fuse_request *syncs = live->syncs;
    nx_fuse_request *parked = live->parked;
    live->syncs = live->parked = NULL;
    live->parked_end = &live->parked;
    live->commits = false;
    pthread_mutex_unlock(&live->lock);
    while (syncs != NULL) {
        nx_fuse_request *next = syncs->next;
        nx_fuse_error(syncs, reason);
        free(syncs);
        syncs = next;
    }
    nx_live_replay(live, parked);
}

bool nx_live_asked(nx_live *live, char ret[NX_NAME_MAX + 1])
{
    pthread_mutex_lock(&live->lock);
    const nx_fuse_request *first = live->snapshots;
    size_t size = first == NULL ? 0 : strnlen(first->name, NX_NAME_MAX);
    if (first != NULL) {
        memcpy(ret, first->name, size);
        ret[size] = 0;
    }
    pthread_mutex_unlock(&live->lock);
    return first != NULL;
}

void nx_live_answer(nx_live *live, int reason)
{
    pthread_mutex_lock(&live->lock);
    nx_fuse_request *request = live->snapshots;
    live->snapshots = request->next;
    live->asks = live->asks || live->snapshots != NULL;
    pthread_mutex_unlock(&live->lock);
    if (reason == 0) {
        nx_mount_tell_snapshot(live->past, request);
    } else {
        nx_fuse_error(request, reason);
    }
    free(request);
}
