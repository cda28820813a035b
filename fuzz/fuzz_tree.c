// SPDX-License-Identifier: Apache-2.0
/* Foreign objects of the store: what reads as a directory, an index or a list to its end is right
 * in every part, and what was written again from what was read reads the same. */
#include "fuzz.h"
#include "nx_tree.h"

static void read_leaf(const uint8_t *data, size_t size, bool root)
{
    nx_leaf_maker maker = {0};
    nx_bytes again = {0};
    nx_entry entry;
    nx_leaf leaf;
    int code = nx_leaf_open(data, size, root, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        NX_ASSERT(root ? entry.name_size == 0 : nx_name_is(entry.name, entry.name_size));
        NX_ASSERT(entry.extras_size <= size && entry.text_size <= size);
        nx_leaf_add(&maker, &entry);
        code = NX_OK;
    }
    NX_ASSERT(code == 0 || code == NX_ECORRUPT);
    if (code == 0) {
        NX_ASSERT(nx_leaf_make(&maker, &again) == NX_OK);
        NX_ASSERT(nx_leaf_open(again.data, again.size, root, &leaf) == NX_OK);
    }
    nx_leaf_maker_free(&maker);
    nx_bytes_free(&again);
}

static void read_rest(const uint8_t *data, size_t size)
{
    nx_index_entry row;
    nx_cursor rows;
    nx_list list;
    nx_piece piece;
    uint64_t count;
    int code = nx_index_open(data, size, &rows, &count);

    while (code == NX_OK && (code = nx_index_next(&rows, &row)) == 1) {
        NX_ASSERT(nx_name_is(row.name, row.name_size));
        code = NX_OK;
    }
    code = nx_list_open(data, size, &list);
    while (code == NX_OK && (code = nx_list_next(&list, &piece)) == 1) {
        NX_ASSERT(piece.size > 0);
        code = NX_OK;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t MAGICS[] = {'D', 'I', 'L'};
    nx_input in = {data, size};
    uint8_t choice = (uint8_t)eat(&in, 1);
    uint8_t *bytes = malloc(in.size + 2);

    NX_ASSERT(bytes != NULL);
    bytes[0] = MAGICS[choice % 3]; /* what follows is worth more than to find this by chance */
    bytes[1] = 1;
    if (in.size > 0) {
        memcpy(bytes + 2, in.at, in.size);
    }
    uint8_t *exact = exact_copy(bytes, in.size + 2);
    free(bytes);
    read_leaf(exact, in.size + 2, (choice & 128) != 0);
    read_rest(exact, in.size + 2);
    free(exact);
    return 0;
}
