// SPDX-License-Identifier: Apache-2.0
#include "nx_reindex.h"

#include <stdlib.h>
#include <string.h>

#include "nx_store_window.h"

typedef struct reindex {
    nx_store *store;
    nx_window seen;
    nx_bytes marks;  /* nx_mark */
    nx_bytes doubts; /* keys of blocks that were found behind a damaged head */
} reindex;

static void take_block(reindex *work, uint64_t key, const nx_block *block)
{
    for (uint32_t i = 0; i < block->count; i++) {
        nx_mark mark = {
            .mark = nx_mark_of(nx_block_id(block, i)),
            .place = key << NX_PLACE_NUMBER_BITS | i,
        };
        nx_bytes_put(&work->marks, &mark, sizeof mark);
    }
}

/* What cannot be read of a pack is as if it were not there: a check says what is lost by that. */
static int take_pack(reindex *work)
{
    nx_window *seen = &work->seen;
    bool lost = false;
    int code = NX_OK;

    for (uint64_t at = NX_PACK_HEADER; code == NX_OK && at < seen->length;) {
        nx_block block;
        code = nx_store_cancelled(work->store) ? NX_ETIMEOUT : nx_window_block(seen, at, &block);
        if (code == NX_OK) {
            uint64_t key = nx_key_of(seen->pack, at);
            take_block(work, key, &block);
            if (lost) {
                nx_bytes_put(&work->doubts, &key, sizeof key);
            }
            /* A block that only looks like one must not hide one behind its beginning. */
            at += lost ? NX_BLOCK_ALIGN : nx_block_extent(&block);
        } else if (code == NX_ECORRUPT) {
            lost = true;
            at += NX_BLOCK_ALIGN;
            code = NX_OK;
        }
    }
    return code == NX_ESYS || code == NX_EEMPTY ? NX_OK : code;
}

/* The marks are the only segment; they are the store's from here on. */
static int set_marks(nx_store *store, nx_mark *marks, size_t count)
{
    for (size_t i = 0; i < store->segment_count; i++) {
        free(store->segments[i].marks);
    }
    store->segment_count = 0;
    store->settled = 0;
    return nx_segment_append(store, marks, count);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t one = nx_load_u64(a);
    uint64_t two = nx_load_u64(b);

    return one < two ? -1 : one > two;
}

/* Takes out of the index the doubtful blocks, which rise, that do not decode to what their ids say.
 */
static int settle_doubts(nx_store *store, uint64_t *doubts, size_t count)
{
    size_t bad = 0;

    for (size_t i = 0; i < count; i++) {
        int code = nx_store_cancelled(store) ? NX_ETIMEOUT : nx_store_verify(store, doubts[i]);
        if (code == NX_ECORRUPT || code == NX_EEMPTY) {
            doubts[bad++] = doubts[i];
        } else if (code != NX_OK) {
            return code;
        }
    }
    if (bad == 0) {
        return NX_OK;
    }
    const nx_segment *only = &store->segments[0];
    nx_mark *left = malloc(only->count * sizeof *left + 1);
    size_t n = 0;
    if (left == NULL) {
        return NX_ENOMEM;
    }
    for (size_t i = 0; i < only->count; i++) {
        uint64_t key = nx_place_key(only->marks[i].place);
        if (bsearch(&key, doubts, bad, sizeof key, compare_keys) == NULL) {
            left[n++] = only->marks[i];
        }
    }
    return set_marks(store, left, n);
}

int nx_store_reindex(nx_store *store, uint64_t *ret_records)
{
    reindex work = {.store = store};
    nx_window *seen = &work.seen;
    int code = NX_OK;

    NX_ASSERT(store->fresh_count == 0);
    seen->store = store;
    seen->bytes = malloc(NX_WINDOW);
    if (seen->bytes == NULL || nx_bytes_room(&work.marks, sizeof(nx_mark)) == NULL) {
        free(seen->bytes);
        return NX_ENOMEM;
    }
    for (size_t i = 0; code == NX_OK && nx_store_pack(store, i, &seen->pack, &seen->length); i++) {
        seen->at = seen->size = 0;
        code = take_pack(&work);
    }
    free(seen->bytes);
    if (code == NX_OK && (work.marks.failed || work.doubts.failed)) {
        code = NX_ENOMEM;
    }
    if (code == NX_OK) {
        nx_mark *marks = (nx_mark *)(void *)work.marks.data;
        work.marks.data = NULL;
        code = set_marks(store, marks, work.marks.size / sizeof *marks);
    }
    if (code == NX_OK) {
        code = settle_doubts(store, (uint64_t *)(void *)work.doubts.data,
                             work.doubts.size / sizeof(uint64_t));
    }
    nx_bytes_free(&work.marks);
    nx_bytes_free(&work.doubts);
    if (code == NX_OK) {
        *ret_records = store->segments[0].count;
    }
    return code;
}
