// SPDX-License-Identifier: Apache-2.0
/* Marks beside the index, and the walk that sets them; the theory is in nx_sweep.h. */
#include <stdlib.h>
#include <string.h>

#include "nx_sweep_private.h"
#include "nx_tree.h"

#define FORM_ROOT 7u

int nx_sweep_create(nx_store *store, nx_sweep **ret)
{
    nx_sweep *sweep = calloc(1, sizeof *sweep);

    if (sweep == NULL) {
        return NX_ENOMEM;
    }
    sweep->store = store;
    sweep->covered = store->segment_count;
    sweep->bits = calloc(sweep->covered + 1, sizeof *sweep->bits);
    bool whole = sweep->bits != NULL;
    for (size_t i = 0; whole && i < sweep->covered; i++) {
        size_t bytes = store->segments[i].count / 4 + 1;
        sweep->bits[i] = calloc(bytes, 1);
        sweep->marks.bytes += bytes;
        whole = sweep->bits[i] != NULL;
    }
    store->settled = sweep->covered;
    store->pack_floor = store->options.next_pack;
    if (!whole) {
        nx_sweep_destroy(sweep);
        return NX_ENOMEM;
    }
    *ret = sweep;
    return NX_OK;
}

void nx_sweep_destroy(nx_sweep *sweep)
{
    for (size_t i = 0; sweep->bits != NULL && i < sweep->covered; i++) {
        free(sweep->bits[i]);
    }
    free(sweep->bits);
    nx_bytes_free(&sweep->stack);
    nx_bytes_free(&sweep->within);
    sweep->store->settled = 0;
    free(sweep);
}

nx_sweep_marks nx_sweep_marked(const nx_sweep *sweep)
{
    nx_sweep_marks ret = sweep->marks;

    ret.bytes += sweep->stack.room + sweep->within.room;
    return ret;
}

static void push(nx_sweep *sweep, const void *data, size_t size, unsigned form)
{
    uint8_t tail[5];

    nx_store_u32(tail, (uint32_t)size);
    tail[4] = (uint8_t)form;
    nx_bytes_put(&sweep->stack, data, size);
    nx_bytes_put(&sweep->stack, tail, sizeof tail);
}

/* Of the block of a needed object everything that it continues; blocks that were looked at last are
 * remembered, for their objects come one after another. */
static int push_bases(nx_sweep *sweep, uint64_t key)
{
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15u >> 56) % NX_SWEEP_SEEN;
    uint8_t *bytes;
    nx_block block;

    if (sweep->seen[slot] == key) {
        return NX_OK;
    }
    int code = nx_store_load_head(sweep->store, key, &bytes, &block);
    if (code != NX_OK) {
        return code;
    }
    for (size_t i = 0; i < block.base_count; i++) {
        push(sweep, block.bases + i * NX_BLOCK_BASE, NX_OBJECT_ID, NX_FORM_DATA);
    }
    free(bytes);
    sweep->seen[slot] = key;
    return NX_OK;
}

/* 1 when this is the first time that the object is walked; 0 else, or an error. */
static int visit(nx_sweep *sweep, const uint8_t *id, bool walks)
{
    nx_found found;
    size_t segment;
    size_t record;
    int code = nx_store_locate(sweep->store, id, &found, &segment, &record);

    if (code != NX_OK) {
        return code;
    }
    NX_ASSERT(segment < sweep->covered);
    unsigned had = nx_sweep_bits(sweep, segment, record);
    unsigned now = had | NX_SWEEP_LIVE | (walks ? NX_SWEEP_WALKED : 0u);
    nx_sweep_set(sweep, segment, record, now);
    if ((had & NX_SWEEP_LIVE) == 0) {
        sweep->marks.live++;
        if (found.depth > 0) {
            code = push_bases(sweep, nx_place_key(found.place));
        }
    }
    if (code != NX_OK) {
        return code;
    }
    return walks && (had & NX_SWEEP_WALKED) == 0;
}

static int walk_leaf(nx_sweep *sweep, const void *data, size_t size, bool root)
{
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_leaf_open(data, size, root, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        code = NX_OK;
        if (entry.form == NX_FORM_WITHIN) {
            push(sweep, entry.text, entry.text_size, entry.form);
        } else if (entry.form >= NX_FORM_DATA && entry.form <= NX_FORM_INDEX) {
            push(sweep, entry.id, NX_OBJECT_ID, entry.form);
        }
    }
    return code;
}

static int walk_index(nx_sweep *sweep, const void *data, size_t size)
{
    nx_cursor rows;
    nx_index_entry entry;
    uint64_t count;
    int code = nx_index_open(data, size, &rows, &count);

    for (uint64_t i = 0; code == NX_OK && i < count; i++) {
        code = nx_index_next(&rows, &entry);
        code = code == 1 ? NX_OK : code == 0 ? NX_ECORRUPT : code;
        if (code == NX_OK) {
            push(sweep, entry.id, NX_OBJECT_ID, NX_FORM_LEAF);
        }
    }
    return code;
}

static int walk_list(nx_sweep *sweep, const void *data, size_t size)
{
    nx_list list;
    nx_piece piece;
    int code = nx_list_open(data, size, &list);

    while (code == NX_OK && (code = nx_list_next(&list, &piece)) == 1) {
        code = NX_OK;
        if (piece.id != NULL) {
            push(sweep, piece.id, NX_OBJECT_ID, list.level > 0 ? NX_FORM_LIST : NX_FORM_DATA);
        }
    }
    return code;
}

static int walk_object(nx_sweep *sweep, const uint8_t *id, unsigned form)
{
    nx_held held;
    int code = visit(sweep, id, form != NX_FORM_DATA);

    if (form == NX_FORM_DATA && (code == NX_EEMPTY || code == NX_ECORRUPT)) {
        sweep->marks.missing++;
        return NX_OK;
    }
    if (code != 1) {
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    code = nx_store_get(sweep->store, id, &held);
    if (code != NX_OK) {
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    if (form == NX_FORM_LIST) {
        code = walk_list(sweep, held.data, held.size);
    } else if (form == NX_FORM_INDEX) {
        code = walk_index(sweep, held.data, held.size);
    } else {
        code = walk_leaf(sweep, held.data, held.size, form == FORM_ROOT);
    }
    nx_store_release(sweep->store, &held);
    return code;
}

/* All that is on the stack. */
static int walk(nx_sweep *sweep)
{
    nx_bytes *stack = &sweep->stack;
    int code = NX_OK;

    while (code == NX_OK && stack->size > 0 && !stack->failed) {
        const uint8_t *tail = stack->data + stack->size - 5;
        uint32_t size = nx_load_u32(tail);
        unsigned form = tail[4];
        sweep->within.size = 0;
        nx_bytes_put(&sweep->within, tail - size, size);
        stack->size -= size + 5;
        if (sweep->within.failed) {
            code = NX_ENOMEM;
        } else if (nx_store_cancelled(sweep->store)) {
            code = NX_ETIMEOUT;
        } else if (form == NX_FORM_WITHIN) {
            code = walk_leaf(sweep, sweep->within.data, size, false);
        } else {
            code = walk_object(sweep, sweep->within.data, form);
        }
    }
    code = code == NX_OK && stack->failed ? NX_ENOMEM : code;
    stack->size = 0;
    return code;
}

int nx_sweep_mark(nx_sweep *sweep, const uint8_t root[NX_OBJECT_ID])
{
    push(sweep, root, NX_OBJECT_ID, FORM_ROOT);
    return walk(sweep);
}

int nx_sweep_keep(nx_sweep *sweep, const uint8_t id[NX_OBJECT_ID])
{
    int code = visit(sweep, id, false);

    return code == NX_OK ? walk(sweep) : code;
}
