// SPDX-License-Identifier: Apache-2.0
/* Layout: docs/spec/nexfs-store.md, "Directory". */
#include "nx_tree.h"

#include <string.h>

#include "nx_xxhash.h"

#define LEAF_MAGIC     'D'
#define INDEX_MAGIC    'I'
#define VERSION        1u
#define FORM_MASK      7u
#define FORM_EXTRAS    8u
#define NANOSECONDS    1000000000u
#define LEAF_ROWS_MAX  (1u << 20)
#define OBJECT_MINIMUM 3u

/* The order is the format's. */
enum { NAMES, MODES, OWNERS, SECONDS, NANOS, SIZES, FORMS, IDS, EXTRAS };

bool nx_name_is(const uint8_t *name, size_t size)
{
    bool dots = (size == 1 && name[0] == '.') || (size == 2 && name[0] == '.' && name[1] == '.');

    return size >= 1 && size <= NX_NAME_MAX && !dots && memchr(name, '/', size) == NULL &&
           memchr(name, 0, size) == NULL;
}

static uint32_t shared_prefix(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size)
{
    uint32_t most = a_size < b_size ? a_size : b_size;
    uint32_t n = 0;

    while (n < most && a[n] == b[n]) {
        n++;
    }
    return n;
}

void nx_leaf_add(nx_leaf_maker *maker, const nx_entry *entry)
{
    nx_bytes *columns = maker->columns;
    uint32_t shared = shared_prefix(maker->last, maker->last_size, entry->name, entry->name_size);
    bool extras = entry->extras_size > 0;

    NX_ASSERT(entry->name_size <= NX_NAME_MAX);
    nx_bytes_varint(&columns[NAMES], shared);
    nx_bytes_varint(&columns[NAMES], entry->name_size - shared);
    nx_bytes_put(&columns[NAMES], entry->name + shared, entry->name_size - shared);
    nx_bytes_varint(&columns[MODES], entry->mode);
    nx_bytes_varint(&columns[OWNERS], entry->uid);
    nx_bytes_varint(&columns[OWNERS], entry->gid);
    uint64_t step = (uint64_t)entry->seconds - (uint64_t)maker->seconds;
    nx_bytes_varint(&columns[SECONDS], nx_zigzag((int64_t)step));
    nx_bytes_varint(&columns[NANOS], entry->nanoseconds);
    nx_bytes_varint(&columns[SIZES], entry->size);
    nx_bytes_varint(&columns[FORMS], (uint64_t)entry->form | (extras ? FORM_EXTRAS : 0));
    if (entry->form >= NX_FORM_DATA && entry->form <= NX_FORM_INDEX) {
        nx_bytes_put(&columns[IDS], entry->id, NX_OBJECT_ID);
    }
    if (entry->form >= NX_FORM_TEXT) {
        nx_bytes_varint(&columns[EXTRAS], entry->text_size);
        nx_bytes_put(&columns[EXTRAS], entry->text, entry->text_size);
    }
    if (extras) {
        nx_bytes_varint(&columns[EXTRAS], entry->extras_size);
        nx_bytes_put(&columns[EXTRAS], entry->extras, entry->extras_size);
    }
    maker->seconds = entry->seconds;
    maker->last_size = entry->name_size;
    memcpy(maker->last, entry->name, entry->name_size);
    maker->count++;
}

bool nx_leaf_ends(const nx_leaf_maker *maker)
{
    size_t bytes = 0;

    for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
        bytes += maker->columns[i].size;
    }
    if (maker->count < NX_ENTRIES_MIN || bytes >= NX_LEAF_BYTES) {
        return bytes >= NX_LEAF_BYTES;
    }
    uint64_t hash = nx_xxh3_64(maker->last, maker->last_size, 0);
    return (hash & NX_ENTRIES_MASK) == 0 || maker->count >= NX_ENTRIES_MAX;
}

void nx_leaf_maker_free(nx_leaf_maker *maker)
{
    for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
        nx_bytes_free(&maker->columns[i]);
    }
    *maker = (nx_leaf_maker){0};
}

int nx_leaf_make(nx_leaf_maker *maker, nx_bytes *ret)
{
    const uint8_t head[2] = {LEAF_MAGIC, VERSION};

    ret->size = 0;
    nx_bytes_put(ret, head, sizeof head);
    nx_bytes_varint(ret, maker->count);
    for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
        nx_bytes_part(ret, &maker->columns[i]);
    }
    maker->count = 0;
    maker->seconds = 0;
    maker->last_size = 0;
    return ret->failed ? NX_ENOMEM : NX_OK;
}

/* A cursor behind the two bytes that say what an object is. */
static int open_object(const void *data, size_t size, uint8_t magic, nx_cursor *ret)
{
    const uint8_t *bytes = data;

    if (size < OBJECT_MINIMUM || bytes[0] != magic || bytes[1] != VERSION) {
        return NX_ECORRUPT;
    }
    *ret = nx_cursor_of(bytes + 2, size - 2);
    return NX_OK;
}

static bool is_spent(const nx_cursor *cursor)
{
    return !cursor->failed && cursor->at == cursor->end;
}

int nx_leaf_open(const void *data, size_t size, bool root, nx_leaf *ret)
{
    nx_cursor cursor;
    int code = open_object(data, size, LEAF_MAGIC, &cursor);

    if (code != NX_OK) {
        return code;
    }
    *ret = (nx_leaf){.root = root};
    ret->left = nx_cursor_varint(&cursor);
    bool whole = true;
    for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
        ret->columns[i] = nx_cursor_part(&cursor);
        whole = whole && !ret->columns[i].failed;
    }
    bool count = root ? ret->left == 1 : ret->left <= LEAF_ROWS_MAX;
    return whole && count && is_spent(&cursor) ? NX_OK : NX_ECORRUPT;
}

/* The next name into leaf->last; false if it is none or does not rise. */
static bool next_name(nx_leaf *leaf)
{
    nx_cursor *names = &leaf->columns[NAMES];
    uint64_t shared = nx_cursor_varint(names);
    uint64_t more = nx_cursor_varint(names);
    const uint8_t *rest = nx_cursor_take(names, more);

    if (rest == NULL || shared > leaf->last_size || shared + more > NX_NAME_MAX) {
        return false;
    }
    bool rises = shared == leaf->last_size ? more > 0 : more > 0 && rest[0] > leaf->last[shared];
    if (more > 0) {
        memcpy(leaf->last + shared, rest, more);
    }
    leaf->last_size = (uint32_t)(shared + more);
    return leaf->root ? leaf->last_size == 0 : rises && nx_name_is(leaf->last, leaf->last_size);
}

static bool next_extras(nx_leaf *leaf, uint64_t forms, nx_entry *ret)
{
    nx_cursor *extras = &leaf->columns[EXTRAS];

    if (ret->form >= NX_FORM_TEXT) {
        nx_cursor part = nx_cursor_part(extras);
        ret->text = part.at;
        ret->text_size = (uint32_t)(part.end - part.at);
    }
    if ((forms & FORM_EXTRAS) != 0) {
        nx_cursor part = nx_cursor_part(extras);
        if (part.failed || part.end == part.at || part.end - part.at > NX_BLOCK_RAW_MAX) {
            return false;
        }
        ret->extras = part.at;
        ret->extras_size = (uint32_t)(part.end - part.at);
    }
    return !extras->failed;
}

int nx_leaf_next(nx_leaf *leaf, nx_entry *ret)
{
    nx_cursor *columns = leaf->columns;

    if (leaf->left == 0) {
        bool spent = true;
        for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
            spent = spent && is_spent(&columns[i]);
        }
        return spent ? 0 : NX_ECORRUPT;
    }
    if (!next_name(leaf)) {
        return NX_ECORRUPT;
    }
    uint64_t mode = nx_cursor_varint(&columns[MODES]);
    uint64_t uid = nx_cursor_varint(&columns[OWNERS]);
    uint64_t gid = nx_cursor_varint(&columns[OWNERS]);
    uint64_t step = (uint64_t)nx_unzigzag(nx_cursor_varint(&columns[SECONDS]));
    uint64_t nanoseconds = nx_cursor_varint(&columns[NANOS]);
    uint64_t forms = nx_cursor_varint(&columns[FORMS]);
    *ret = (nx_entry){
        .name = leaf->last,
        .name_size = leaf->last_size,
        .mode = (uint32_t)mode,
        .uid = (uint32_t)uid,
        .gid = (uint32_t)gid,
        .seconds = (int64_t)((uint64_t)leaf->seconds + step),
        .nanoseconds = (uint32_t)nanoseconds,
        .size = nx_cursor_varint(&columns[SIZES]),
        .form = (nx_form)(forms & FORM_MASK),
    };
    leaf->seconds = ret->seconds;
    leaf->left--;
    bool fits = mode <= UINT32_MAX && uid <= UINT32_MAX && gid <= UINT32_MAX &&
                nanoseconds < NANOSECONDS && forms <= (FORM_MASK | FORM_EXTRAS) &&
                ret->form <= NX_FORM_WITHIN && ret->size <= INT64_MAX;
    if (ret->form >= NX_FORM_DATA && ret->form <= NX_FORM_INDEX) {
        ret->id = nx_cursor_take(&columns[IDS], NX_OBJECT_ID);
    }
    bool extras = fits && next_extras(leaf, forms, ret);
    for (size_t i = 0; i < NX_LEAF_COLUMNS; i++) {
        extras = extras && !columns[i].failed;
    }
    return extras ? 1 : NX_ECORRUPT;
}

void nx_index_add(nx_index_maker *maker, const nx_index_entry *entry)
{
    nx_bytes_varint(&maker->rows, entry->name_size);
    nx_bytes_put(&maker->rows, entry->name, entry->name_size);
    nx_bytes_varint(&maker->rows, entry->count);
    nx_bytes_put(&maker->rows, entry->id, NX_OBJECT_ID);
    maker->count++;
}

int nx_index_make(nx_index_maker *maker, nx_bytes *ret)
{
    const uint8_t head[2] = {INDEX_MAGIC, VERSION};

    ret->size = 0;
    nx_bytes_put(ret, head, sizeof head);
    nx_bytes_varint(ret, maker->count);
    nx_bytes_put(ret, maker->rows.data, maker->rows.size);
    ret->failed |= maker->rows.failed;
    nx_bytes_free(&maker->rows);
    maker->count = 0;
    return ret->failed ? NX_ENOMEM : NX_OK;
}

int nx_index_open(const void *data, size_t size, nx_cursor *ret, uint64_t *ret_count)
{
    nx_cursor cursor;
    int code = open_object(data, size, INDEX_MAGIC, &cursor);

    if (code != NX_OK) {
        return code;
    }
    *ret_count = nx_cursor_varint(&cursor);
    *ret = cursor;
    return cursor.failed ? NX_ECORRUPT : NX_OK;
}

int nx_index_next(nx_cursor *rows, nx_index_entry *ret)
{
    if (is_spent(rows)) {
        return 0;
    }
    uint64_t size = nx_cursor_varint(rows);
    const uint8_t *name = nx_cursor_take(rows, size);
    uint64_t count = nx_cursor_varint(rows);
    const uint8_t *id = nx_cursor_take(rows, NX_OBJECT_ID);

    if (rows->failed || !nx_name_is(name, size)) {
        return NX_ECORRUPT;
    }
    *ret = (nx_index_entry){.name = name, .name_size = (uint32_t)size, .id = id, .count = count};
    return 1;
}
