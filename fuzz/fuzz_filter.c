// SPDX-License-Identifier: Apache-2.0
/* Cell filter: decides as a list of ids does, also while tables are swapped under a reader. */
#include "plain_filter.h"

/* A table of the ids as read, with those that the table says it has put into `members`. */
static nx_filter_table *make_table(nx_input *in, uint8_t *members, size_t *ret_count)
{
    static const uint8_t zero[NX_CELL_ID_SIZE];
    uint64_t key[2] = {eat(in, 8), eat(in, 1)};
    size_t count = read_ids(in, members), distinct = 0;
    nx_filter_table *table = NULL;
    nx_cell_id out[IDS];

    int code = nx_filter_table_create(members, STRIDE, count, key, &table);
    NX_ASSERT((code == NX_EINVAL) == in_list(members, count, zero));
    if (code != NX_OK) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        distinct += !in_list(members, i, members + i * STRIDE);
    }
    NX_ASSERT(table->count == distinct);
    nx_filter_table_members(table, out);
    for (size_t i = 0; i < distinct; i++) {
        NX_ASSERT(in_list(members, count, (const uint8_t *)&out[i]));
    }
    *ret_count = count;
    return table;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    static uint8_t members[2][IDS * STRIDE], asked[IDS * STRIDE], verdict[IDS];
    size_t count[2] = {0, 0};
    unsigned now = 0;
    nx_filter_table *table = make_table(&in, members[0], &count[0]);
    nx_filter *filter = NULL;
    nx_filter_reader *reader = NULL;

    if (table == NULL) {
        return 0;
    }
    NX_ASSERT(nx_filter_create(table, &filter) == NX_OK);
    NX_ASSERT(nx_filter_reader_join(filter, &reader) == NX_OK);
    for (unsigned steps = 0; in.size > 0 && steps < 6; steps++) {
        const nx_filter_table *held = nx_filter_read_begin(filter, reader);
        size_t asked_count = read_ids(&in, asked), passed = 0;
        nx_filter_table *next = make_table(&in, members[1 - now], &count[1 - now]);
        if (next != NULL) {
            nx_filter_swap(filter, next); /* `held` must live on until read_end */
        }
        for (size_t i = 0; i < asked_count; i++) {
            bool want = in_list(members[now], count[now], asked + i * STRIDE);
            NX_ASSERT(nx_filter_table_has(held, asked + i * STRIDE) == want);
        }
        nx_filter_read_end(reader);
        now = next != NULL ? 1 - now : now;
        uint8_t *frames = exact_copy(asked, asked_count == 0 ? 0 : (asked_count - 1) * STRIDE + 16);
        size_t got = nx_filter_check_frames(filter, reader, frames, STRIDE, asked_count, verdict);
        for (size_t i = 0; i < asked_count; i++) {
            NX_ASSERT(verdict[i] == in_list(members[now], count[now], asked + i * STRIDE));
            passed += verdict[i];
        }
        NX_ASSERT(got == passed);
        free(frames);
    }
    nx_filter_reader_leave(reader);
    nx_filter_destroy(filter);
    return 0;
}
