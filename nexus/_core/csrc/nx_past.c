// SPDX-License-Identifier: Apache-2.0
/* The directory of before, and what in it is like a new name. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "nx_ingest_private.h"

#define LIKE_MOST 2048u /* names that are compared with one that is new */

static int take_leaf(nx_past *past, const uint8_t *data, size_t size)
{
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_leaf_open(data, size, false, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        nx_past_entry one = {.size = entry.size,
                             .text_size = entry.text_size,
                             .name_size = entry.name_size,
                             .form = entry.form};
        if (entry.id != NULL) {
            memcpy(one.id, entry.id, NX_OBJECT_ID);
        }
        nx_bytes_put(&past->entry_bytes, &one, sizeof one);
        nx_bytes_put(&past->names, entry.name, entry.name_size);
        nx_bytes_put(&past->names, "", 1);
        if (entry.form == NX_FORM_WITHIN) {
            nx_bytes_put(&past->names, entry.text, entry.text_size);
        }
        code = NX_OK;
    }
    return code;
}

static int take_leaf_id(nx_store *store, nx_past *past, const uint8_t *id)
{
    nx_past_entry one = {.size = past->entry_bytes.size / sizeof one, .form = NX_FORM_LEAF};
    nx_held held;
    int code = nx_store_get(store, id, &held);

    if (code != NX_OK) {
        return code;
    }
    memcpy(one.id, id, NX_OBJECT_ID);
    nx_bytes_put(&past->leaf_bytes, &one, sizeof one);
    code = take_leaf(past, held.data, held.size);
    nx_store_release(store, &held);
    return code;
}

static int take_index(nx_store *store, nx_past *past, const uint8_t *id)
{
    nx_index_entry row;
    nx_cursor rows;
    nx_held held;
    uint64_t count;
    int code = nx_store_get(store, id, &held);

    if (code != NX_OK) {
        return code;
    }
    code = nx_index_open(held.data, held.size, &rows, &count);
    while (code == NX_OK && (code = nx_index_next(&rows, &row)) == 1) {
        code = take_leaf_id(store, past, row.id);
    }
    nx_store_release(store, &held);
    return code;
}

/* Pointers, now that nothing moves any more. */
static void settle(nx_past *past)
{
    const char *name = (const char *)past->names.data;

    past->entries = (nx_past_entry *)(void *)past->entry_bytes.data;
    past->count = past->entry_bytes.size / sizeof *past->entries;
    past->leaves = (nx_past_entry *)(void *)past->leaf_bytes.data;
    past->leaf_count = past->leaf_bytes.size / sizeof *past->leaves;
    for (size_t i = 0; i < past->count; i++) {
        nx_past_entry *one = &past->entries[i];
        one->name = name;
        name += one->name_size + 1;
        if (one->form == NX_FORM_WITHIN) {
            one->text = (const uint8_t *)name;
            name += one->text_size;
        }
    }
    for (size_t i = 0; i < past->leaf_count; i++) {
        const nx_past_entry *first = &past->entries[past->leaves[i].size];
        bool any = past->leaves[i].size < past->count;
        past->leaves[i].name = any ? first->name : "";
        past->leaves[i].name_size = any ? first->name_size : 0;
        past->leaves[i].size = NX_BLOCK_RAW_MAX;
    }
}

/* What of before is damaged is no base; that is all that it costs here. */
int nx_past_open(nx_store *store, const nx_past_entry *directory, nx_past *ret)
{
    int code = NX_OK;

    *ret = (nx_past){0};
    if (directory != NULL && directory->form == NX_FORM_LEAF) {
        code = take_leaf_id(store, ret, directory->id);
    } else if (directory != NULL && directory->form == NX_FORM_INDEX) {
        code = take_index(store, ret, directory->id);
    } else if (directory != NULL && directory->form == NX_FORM_WITHIN) {
        code = take_leaf(ret, directory->text, directory->text_size);
    }
    bool whole = !ret->entry_bytes.failed && !ret->leaf_bytes.failed && !ret->names.failed;
    if (code == NX_ENOMEM || !whole) {
        nx_past_close(ret);
        return NX_ENOMEM;
    }
    settle(ret);
    return NX_OK;
}

void nx_past_close(nx_past *past)
{
    nx_bytes_free(&past->entry_bytes);
    nx_bytes_free(&past->leaf_bytes);
    nx_bytes_free(&past->names);
    *past = (nx_past){0};
}

static int compare_names(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);

    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

/* The last of the sorted entries whose name is not behind this one; NULL if all are. */
static const nx_past_entry *not_behind(const nx_past_entry *entries, size_t count,
                                       const uint8_t *name, size_t size)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const nx_past_entry *one = &entries[middle];
        if (compare_names((const uint8_t *)one->name, one->name_size, name, size) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? NULL : &entries[low - 1];
}

const nx_past_entry *nx_past_leaf(const nx_past *past, const uint8_t *name, size_t size)
{
    const nx_past_entry *leaf = not_behind(past->leaves, past->leaf_count, name, size);

    return leaf != NULL || past->leaf_count == 0 ? leaf : past->leaves;
}

static char plain(char letter)
{
    return isdigit((unsigned char)letter) ? '0' : letter;
}

/* Bytes that two names have alike at their beginning and at their end; any digit is like any. */
static size_t likeness(const char *a, size_t a_size, const char *b, size_t b_size)
{
    size_t most = a_size < b_size ? a_size : b_size;
    size_t front = 0;
    size_t back = 0;

    while (front < most && plain(a[front]) == plain(b[front])) {
        front++;
    }
    while (back < most - front && plain(a[a_size - 1 - back]) == plain(b[b_size - 1 - back])) {
        back++;
    }
    return front + back;
}

static bool is_kind(const nx_past_entry *entry, bool directory)
{
    return directory ? entry->form == NX_FORM_LEAF || entry->form == NX_FORM_INDEX ||
                           entry->form == NX_FORM_WITHIN
                     : entry->form == NX_FORM_DATA || entry->form == NX_FORM_LIST;
}

const nx_past_entry *nx_past_find(const nx_past *past, const char *name, bool directory)
{
    size_t size = strlen(name);
    const nx_past_entry *same = not_behind(past->entries, past->count, (const uint8_t *)name, size);
    const nx_past_entry *best = NULL;
    size_t most = size / 2; /* less alike is not alike */

    if (same != NULL && same->name_size == size && memcmp(same->name, name, size) == 0 &&
        is_kind(same, directory)) {
        return same;
    }
    for (size_t i = 0; i < past->count && past->count <= LIKE_MOST; i++) {
        const nx_past_entry *one = &past->entries[i];
        size_t like = likeness(one->name, one->name_size, name, size);
        if (like > most && is_kind(one, directory)) {
            most = like;
            best = one;
        }
    }
    return best;
}
