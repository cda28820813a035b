// SPDX-License-Identifier: Apache-2.0
#include "nx_ingest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nx_blake3.h"
#include "nx_ingest_private.h"

#define FLAGS (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

static int compare_rows(const void *a, const void *b)
{
    const nx_row *one = a;
    const nx_row *two = b;

    return strcmp(one->name, two->name);
}

static void free_rows(nx_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(rows[i].name);
        free(rows[i].text);
        free(rows[i].extras);
    }
    free(rows);
}

/* The names of a directory, sorted by their bytes. Takes the descriptor over. */
static int list_names(int descriptor, nx_row **ret, size_t *ret_count)
{
    DIR *stream = fdopendir(descriptor);
    nx_bytes rows = {0};
    int code = NX_OK;

    if (stream == NULL) {
        (void)close(descriptor);
        return NX_EFAULT;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL) {
            code = errno == 0 ? NX_OK : NX_EFAULT;
            break;
        }
        if (!nx_name_is((const uint8_t *)entry->d_name, strlen(entry->d_name))) {
            continue;
        }
        nx_row row = {.name = strdup(entry->d_name), .kind = entry->d_type};
        nx_bytes_put(&rows, &row, sizeof row);
        if (row.name == NULL || rows.failed) {
            free(row.name);
            code = NX_ENOMEM;
            break;
        }
    }
    int kept = errno;
    (void)closedir(stream);
    errno = kept;
    nx_row *list = (nx_row *)(void *)rows.data;
    size_t count = rows.size / sizeof(nx_row);
    if (code != NX_OK) {
        free_rows(list, count);
        return code;
    }
    if (count > 0) {
        qsort(list, count, sizeof *list, compare_rows);
    }
    *ret = list;
    *ret_count = count;
    return NX_OK;
}

static void take_status(const struct stat *status, nx_row *row)
{
    row->entry.mode = status->st_mode;
    row->entry.uid = status->st_uid;
    row->entry.gid = status->st_gid;
    row->entry.seconds = status->st_mtim.tv_sec;
    row->entry.nanoseconds = (uint32_t)status->st_mtim.tv_nsec;
}

static int take_link(int parent, uint64_t size, nx_row *row)
{
    size_t room = size + 1;

    row->text = malloc(room);
    if (row->text == NULL) {
        return NX_ENOMEM;
    }
    ssize_t got = readlinkat(parent, row->name, row->text, room);
    if (got < 0 || (size_t)got == room) {
        errno = got < 0 ? errno : EAGAIN;
        return NX_EFAULT;
    }
    row->entry.form = NX_FORM_TEXT;
    row->entry.size = (uint64_t)got;
    row->entry.text_size = (uint32_t)got;
    return NX_OK;
}

static int take_directory(nx_ingest_state *state, int descriptor, nx_row *row);

static ssize_t read_descriptor(void *self, void *ret, size_t size)
{
    return read(*(const int *)self, ret, size);
}

static off_t seek_descriptor(void *self, off_t offset, int whence)
{
    return lseek(*(const int *)self, offset, whence);
}

static nx_source source_of(int *descriptor)
{
    return (nx_source){read_descriptor, seek_descriptor, descriptor};
}

/* What is opened: a file or a directory. Takes the descriptor over. */
static int take_opened(nx_ingest_state *state, int descriptor, nx_row *row)
{
    struct stat status;
    int code = fstat(descriptor, &status) == 0 ? NX_OK : NX_EFAULT;

    if (code == NX_OK) {
        take_status(&status, row);
        code = nx_ingest_extras(state, descriptor, &status, row);
    }
    if (code == NX_OK && S_ISDIR(status.st_mode)) {
        bool other = state->options->one_device && status.st_dev != state->device;
        return other ? (close(descriptor), NX_OK) : take_directory(state, descriptor, row);
    }
    if (code == NX_OK && S_ISREG(status.st_mode)) {
        uint64_t size = (uint64_t)status.st_size;
        bool sparse = size > NX_SMALL_MAX && (uint64_t)status.st_blocks * 512 < size;
        nx_source source = source_of(&descriptor);
        code = nx_ingest_content(state, &source, size, sparse, row);
        nx_store_count(state->store)->files++;
    }
    int kept = errno;
    (void)close(descriptor);
    errno = kept;
    return code;
}

/* One name. NX_EFAULT with errno when it cannot be read. */
static int take_name(nx_ingest_state *state, int parent, nx_row *row)
{
    struct stat status;

    if (row->kind != DT_REG && row->kind != DT_DIR) {
        if (fstatat(parent, row->name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
            return NX_EFAULT;
        }
        if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
            bool device = S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode);
            take_status(&status, row);
            row->entry.size = device ? status.st_rdev : 0;
            int code = nx_ingest_extras(state, -1, &status, row);
            return code == NX_OK && S_ISLNK(status.st_mode)
                       ? take_link(parent, (uint64_t)status.st_size, row)
                       : code;
        }
    }
    int descriptor = openat(parent, row->name, FLAGS);
    return descriptor < 0 ? NX_EFAULT : take_opened(state, descriptor, row);
}

static int put_object(nx_ingest_state *state, nx_kind kind, const nx_bytes *object,
                      const nx_past_entry *before, uint8_t *ret_id)
{
    nx_base_range base = {.size = NX_BLOCK_RAW_MAX};
    nx_blake3_mode mode;

    if (object->size > NX_BLOCK_RAW_MAX) {
        return NX_ETOOBIG;
    }
    if (before != NULL) {
        memcpy(base.id, before->id, NX_OBJECT_ID);
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, object->data, object->size, ret_id, NX_OBJECT_ID);
    return nx_store_put(state->store, kind, ret_id, object->data, object->size, &base,
                        before != NULL);
}

static void add_row(nx_leaf_maker *maker, nx_row *row)
{
    row->entry.name = (const uint8_t *)row->name;
    row->entry.name_size = (uint32_t)strlen(row->name);
    row->entry.id = row->id;
    row->entry.text = (const uint8_t *)row->text;
    row->entry.extras = row->extras;
    nx_leaf_add(maker, &row->entry);
}

/* What a directory is written with. */
typedef struct leaves {
    nx_leaf_maker maker;
    nx_index_maker index;
    nx_bytes object;
    nx_index_entry first; /* of the leaf that grows */
    uint8_t id[NX_OBJECT_ID];
    size_t count;
} leaves;

/* A small directory goes into the leaf of the one above: it costs no id, no place and no record. */
static int keep_within(const nx_bytes *leaf, nx_row *ret)
{
    ret->text = malloc(leaf->size);
    if (ret->text == NULL) {
        return NX_ENOMEM;
    }
    memcpy(ret->text, leaf->data, leaf->size);
    ret->entry.form = NX_FORM_WITHIN;
    ret->entry.text_size = (uint32_t)leaf->size;
    return NX_OK;
}

static int end_leaf(nx_ingest_state *state, const nx_past *past, bool last, leaves *all,
                    nx_row *ret)
{
    const nx_past_entry *before = nx_past_leaf(past, all->first.name, all->first.name_size);
    int code = nx_leaf_make(&all->maker, &all->object);

    if (code == NX_OK && last && all->count == 0 && state->depth > 1 &&
        all->object.size <= NX_WITHIN_MAX) {
        return keep_within(&all->object, ret);
    }
    ret->entry.form = NX_FORM_LEAF;
    if (code == NX_OK) {
        code = put_object(state, NX_KIND_LEAF, &all->object, before, all->id);
    }
    all->first.id = all->id;
    nx_index_add(&all->index, &all->first);
    all->count++;
    return code;
}

int nx_ingest_rows(nx_ingest_state *state, const nx_past *past, nx_row *rows, size_t count,
                   nx_row *ret)
{
    leaves all = {0};
    int code = NX_OK;

    for (size_t i = 0; code == NX_OK && i < count; i++) {
        if (rows[i].left_out) {
            continue;
        }
        if (all.maker.count == 0) {
            all.first = (nx_index_entry){.name = (const uint8_t *)rows[i].name,
                                         .name_size = (uint32_t)strlen(rows[i].name)};
        }
        add_row(&all.maker, &rows[i]);
        bool counts = S_ISREG(rows[i].entry.mode) || S_ISDIR(rows[i].entry.mode);
        ret->entry.size += counts ? rows[i].entry.size : 0;
        all.first.count = all.maker.count;
        if (nx_leaf_ends(&all.maker)) {
            code = end_leaf(state, past, false, &all, ret);
        }
    }
    if (code == NX_OK && (all.maker.count > 0 || all.count == 0)) {
        code = end_leaf(state, past, true, &all, ret);
    }
    memcpy(ret->id, all.id, NX_OBJECT_ID);
    if (code == NX_OK && all.count > 1) {
        code = nx_index_make(&all.index, &all.object);
        ret->entry.form = NX_FORM_INDEX;
        const nx_past_entry *before = ret->before;
        bool like = before != NULL && before->form == NX_FORM_INDEX;
        if (code == NX_OK) {
            code = put_object(state, NX_KIND_INDEX, &all.object, like ? before : NULL, ret->id);
        }
    }
    nx_leaf_maker_free(&all.maker);
    nx_bytes_free(&all.index.rows);
    nx_bytes_free(&all.object);
    return code;
}

/* Every name of the directory; what cannot be read is told and left out. */
static int take_rows(nx_ingest_state *state, int parent, const nx_past *past, nx_row *rows,
                     size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nx_row *row = &rows[i];
        if (nx_store_cancelled(state->store)) {
            return NX_ETIMEOUT;
        }
        row->before = nx_past_find(past, row->name, row->kind == DT_DIR);
        int code = take_name(state, parent, row);
        if (code == NX_EFAULT) {
            nx_ingest_tell(state, errno, row->name);
            row->left_out = true;
        } else if (code != NX_OK) {
            return code;
        }
    }
    return nx_ingest_small(state);
}

static int enter(nx_ingest_state *state, const char *name)
{
    nx_bytes_put(&state->path, "/", state->path.size > 0);
    nx_bytes_put(&state->path, name, strlen(name));
    state->depth++;
    return state->path.failed ? NX_ENOMEM : NX_OK;
}

/* Takes the descriptor over. */
static int take_directory(nx_ingest_state *state, int descriptor, nx_row *row)
{
    size_t path_size = state->path.size;
    nx_row *rows = NULL;
    size_t count = 0;
    nx_past past;

    if (state->depth == NX_DEPTH_MAX) {
        (void)close(descriptor);
        errno = ELOOP;
        return NX_EFAULT;
    }
    int names = dup(descriptor);
    int code = names < 0 ? NX_EFAULT : list_names(names, &rows, &count);
    if (code == NX_OK) {
        code = enter(state, row->name);
        if (code == NX_OK) {
            code = nx_past_open(state->store, row->before, &past);
        }
        if (code == NX_OK) {
            code = take_rows(state, descriptor, &past, rows, count);
            if (code == NX_OK) {
                code = nx_ingest_rows(state, &past, rows, count, row);
            }
            nx_past_close(&past);
        }
        free_rows(rows, count);
        state->path.size = path_size;
        state->depth--;
    }
    int kept = errno;
    (void)close(descriptor);
    errno = kept;
    return code;
}

int nx_ingest_root(nx_row *row, nx_bytes *ret)
{
    nx_leaf_maker maker = {0};

    add_row(&maker, row);
    int code = nx_leaf_make(&maker, ret);
    nx_leaf_maker_free(&maker);
    return code;
}

static int begin(nx_ingest_state *state)
{
    state->window = malloc(NX_WINDOW);
    return state->window == NULL ? NX_ENOMEM : NX_OK;
}

/* The row as the root of a tree, and the end of the state. */
static int end(nx_ingest_state *state, int code, nx_row *row, nx_bytes *ret)
{
    if (code == NX_OK) {
        code = nx_ingest_small(state);
    }
    if (code == NX_OK) {
        row->name[0] = 0;
        code = nx_ingest_root(row, ret);
    }
    int kept = errno;
    free(row->name);
    free(row->text);
    free(row->extras);
    free(state->window);
    nx_bytes_free(&state->path);
    nx_cdc_list_free(&state->cuts);
    errno = kept;
    if (code == NX_OK && state->issues->failed) {
        code = NX_ENOMEM;
    }
    return code == NX_EFAULT ? NX_ESYS : code;
}

static void set_before(const nx_entry *before, nx_past_entry *ret)
{
    *ret = (nx_past_entry){.name = "",
                           .form = before->form,
                           .size = before->size,
                           .text = before->text,
                           .text_size = before->text_size};
    if (before->id != NULL) {
        memcpy(ret->id, before->id, NX_OBJECT_ID);
    }
}

int nx_ingest(nx_store *store, const nx_ingest_options *options, int parent, const char *name,
              nx_bytes *ret, nx_bytes *ret_issues)
{
    nx_ingest_state state = {.store = store, .options = options, .issues = ret_issues};
    nx_row row = {.name = strdup(name), .kind = DT_UNKNOWN};
    struct stat status;
    nx_past_entry before;
    int code = row.name == NULL ? NX_ENOMEM : begin(&state);

    if (options->before != NULL) {
        set_before(options->before, &before);
        row.before = &before;
    }
    if (code == NX_OK && fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        code = NX_EFAULT;
    }
    if (code == NX_OK) {
        state.device = status.st_dev;
        code = take_name(&state, parent, &row);
    }
    return end(&state, code, &row, ret);
}

int nx_ingest_stream(nx_store *store, const nx_ingest_options *options, int descriptor,
                     int64_t seconds, nx_bytes *ret, nx_bytes *ret_issues)
{
    nx_ingest_state state = {.store = store, .options = options, .issues = ret_issues};
    nx_row row = {.name = strdup("")};
    nx_past_entry before;
    int code = row.name == NULL ? NX_ENOMEM : begin(&state);

    if (options->before != NULL) {
        set_before(options->before, &before);
        row.before = &before;
    }
    row.entry.mode = S_IFREG | 0600;
    row.entry.uid = getuid();
    row.entry.gid = getgid();
    row.entry.seconds = seconds;
    if (code == NX_OK) {
        nx_source source = source_of(&descriptor);
        code = nx_ingest_content(&state, &source, INT64_MAX, false, &row);
    }
    nx_store_count(store)->files++;
    return end(&state, code, &row, ret);
}
