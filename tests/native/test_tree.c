// SPDX-License-Identifier: Apache-2.0
/* Directories and lists: golden bytes, round trips, cuts of every length, names that must rise. */
#include "nx_test.h"
#include "nx_tree.h"

#include <string.h>

#define ROWS 300

static uint8_t id_of(size_t i)
{
    return (uint8_t)(i * 7 + 1);
}

static void row_of(size_t i, char *name, uint8_t *id, nx_entry *ret)
{
    memset(id, id_of(i), NX_OBJECT_ID);
    (void)snprintf(name, 32, "file-%04zu%s", i, i % 3 == 0 ? ".txt" : "");
    *ret = (nx_entry){
        .name = (const uint8_t *)name,
        .name_size = (uint32_t)strlen(name),
        .id = id,
        .text = (const uint8_t *)"target",
        .text_size = i % 5 == 4 ? 6 : 0,
        .extras = (const uint8_t *)"\x01\x01\x05",
        .extras_size = i % 4 == 0 ? 3 : 0,
        .size = i * i,
        .seconds = i % 2 == 0 ? INT64_MIN + (int64_t)i : INT64_MAX - (int64_t)i,
        .nanoseconds = (uint32_t)i,
        .mode = 0100644,
        .uid = (uint32_t)i,
        .gid = UINT32_MAX,
        .form = i % 5 == 4 ? NX_FORM_TEXT : NX_FORM_DATA,
    };
}

static void test_leaf_round_trip(void)
{
    nx_leaf_maker maker = {0};
    nx_bytes bytes = {0};
    uint8_t id[NX_OBJECT_ID];
    char name[32];
    nx_entry row;
    nx_entry back;
    nx_leaf leaf;

    for (size_t i = 0; i < ROWS; i++) {
        row_of(i, name, id, &row);
        nx_leaf_add(&maker, &row);
    }
    CHECK_EQ(nx_leaf_make(&maker, &bytes), NX_OK);
    CHECK_EQ(maker.count, 0);
    CHECK_EQ(nx_leaf_open(bytes.data, bytes.size, false, &leaf), NX_OK);
    for (size_t i = 0; i < ROWS; i++) {
        row_of(i, name, id, &row);
        CHECK_EQ(nx_leaf_next(&leaf, &back), 1);
        CHECK(back.name_size == row.name_size && memcmp(back.name, name, row.name_size) == 0);
        CHECK(back.size == row.size && back.seconds == row.seconds && back.mode == row.mode);
        CHECK(back.nanoseconds == row.nanoseconds && back.uid == row.uid && back.gid == row.gid);
        CHECK(back.form == row.form && back.extras_size == row.extras_size);
        CHECK(back.form == NX_FORM_TEXT || memcmp(back.id, id, sizeof id) == 0);
        CHECK(back.form != NX_FORM_TEXT || memcmp(back.text, "target", 6) == 0);
    }
    CHECK_EQ(nx_leaf_next(&leaf, &back), 0);
    CHECK_EQ(nx_leaf_open(bytes.data, bytes.size, true, &leaf), NX_ECORRUPT);
    nx_leaf_maker_free(&maker);
    nx_bytes_free(&bytes);
}

/* Whoever reads a leaf to its end; whether nothing was wrong. */
static bool reads(const uint8_t *data, size_t size, bool root)
{
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_leaf_open(data, size, root, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        code = NX_OK;
    }
    return code == 0;
}

static void test_no_part_of_a_leaf_is_one(void)
{
    nx_leaf_maker maker = {0};
    nx_bytes bytes = {0};
    uint8_t id[NX_OBJECT_ID];
    char name[32];
    nx_entry row;

    for (size_t i = 0; i < 6; i++) {
        row_of(i, name, id, &row);
        nx_leaf_add(&maker, &row);
    }
    CHECK_EQ(nx_leaf_make(&maker, &bytes), NX_OK);
    CHECK(reads(bytes.data, bytes.size, false));
    for (size_t size = 0; size < bytes.size; size++) {
        uint8_t *part = malloc(size + 1); /* of its own, so that a sanitizer sees its end */
        memcpy(part, bytes.data, size);
        CHECK(!reads(part, size, false));
        free(part);
    }
    nx_leaf_maker_free(&maker);
    nx_bytes_free(&bytes);
}

static void leaf_of(const char *const *names, size_t count, nx_bytes *ret)
{
    nx_leaf_maker maker = {0};

    for (size_t i = 0; i < count; i++) {
        nx_entry row = {.name = (const uint8_t *)names[i],
                        .name_size = (uint32_t)strlen(names[i]),
                        .mode = 040755};
        nx_leaf_add(&maker, &row);
    }
    CHECK_EQ(nx_leaf_make(&maker, ret), NX_OK);
    nx_leaf_maker_free(&maker);
}

static void test_names_rise_and_are_names(void)
{
    static const char *const right[] = {"", "-", "a", "a.", "ab", "b"};
    static const char *const wrong[][2] = {
        {"a", "a"}, {"b", "a"}, {"ab", "a"}, {".", "a"}, {"..", "a"}, {"a/b", "c"}, {"", "a"},
    };
    nx_bytes bytes = {0};

    leaf_of(right + 1, 5, &bytes);
    CHECK(reads(bytes.data, bytes.size, false));
    leaf_of(right, 1, &bytes);
    CHECK(reads(bytes.data, bytes.size, true));
    CHECK(!reads(bytes.data, bytes.size, false));
    for (size_t i = 0; i < NX_ARRAY_COUNT(wrong); i++) {
        leaf_of(wrong[i], 2, &bytes);
        CHECK(!reads(bytes.data, bytes.size, false));
    }
    nx_bytes_free(&bytes);
}

static void test_varints_are_the_shortest(void)
{
    static const struct {
        uint8_t bytes[11];
        size_t size;
        uint64_t value;
        bool right;
    } cases[] = {
        {{0x00}, 1, 0, true},
        {{0x7f}, 1, 127, true},
        {{0x80, 0x01}, 2, 128, true},
        {{0x80, 0x00}, 2, 0, false},
        {{0x80}, 1, 0, false},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 10, UINT64_MAX, true},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10, 0, false},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x81, 0x01}, 11, 0, false},
    };

    for (size_t i = 0; i < NX_ARRAY_COUNT(cases); i++) {
        nx_cursor cursor = nx_cursor_of(cases[i].bytes, cases[i].size);
        uint64_t value = nx_cursor_varint(&cursor);
        CHECK_EQ(cursor.failed, !cases[i].right);
        CHECK(value == cases[i].value && cursor.at == cursor.end);
    }
}

static void test_list_round_trip(void)
{
    nx_list_maker maker = {0};
    nx_bytes bytes = {0};
    uint8_t id[NX_OBJECT_ID] = {0};
    nx_list list;
    nx_piece piece;

    for (size_t i = 0; i < ROWS; i++) {
        id[0] = id_of(i);
        nx_list_add(&maker, &(nx_piece){.id = i % 10 == 9 ? NULL : id, .size = 1 + i * 800});
    }
    CHECK_EQ(maker.count, ROWS);
    CHECK_EQ(nx_list_make(&maker, 0, &bytes), NX_OK);
    CHECK_EQ(nx_list_open(bytes.data, bytes.size, &list), NX_OK);
    for (size_t i = 0; i < ROWS; i++) {
        CHECK_EQ(nx_list_next(&list, &piece), 1);
        CHECK_EQ(piece.size, 1 + i * 800);
        CHECK_EQ(piece.id == NULL, i % 10 == 9);
        CHECK(piece.id == NULL || piece.id[0] == id_of(i));
    }
    CHECK_EQ(nx_list_next(&list, &piece), 0);
    nx_list_add(&maker, &(nx_piece){.id = id, .size = NX_CHUNK_MAX + 1});
    CHECK_EQ(nx_list_make(&maker, 0, &bytes), NX_OK);
    CHECK_EQ(nx_list_open(bytes.data, bytes.size, &list), NX_OK);
    CHECK_EQ(nx_list_next(&list, &piece), NX_ECORRUPT);
    nx_list_maker_free(&maker);
    nx_bytes_free(&bytes);
}

/* Where a leaf ends depends on the last name alone, once there are enough. */
static void test_cuts_come_back_after_a_new_name(void)
{
    nx_leaf_maker maker = {0};
    size_t ends[2] = {0, 0};
    uint8_t id[NX_OBJECT_ID];
    char name[32];
    nx_entry row;

    for (size_t pass = 0; pass < 2; pass++) {
        nx_bytes bytes = {0};
        for (size_t i = pass; i < 9999; i++) {
            row_of(i, name, id, &row);
            nx_leaf_add(&maker, &row);
            if (nx_leaf_ends(&maker)) {
                ends[pass] = i;
                CHECK(maker.count >= NX_ENTRIES_MIN && maker.count <= NX_ENTRIES_MAX);
                CHECK_EQ(nx_leaf_make(&maker, &bytes), NX_OK);
            }
        }
        nx_leaf_maker_free(&maker);
        nx_bytes_free(&bytes);
    }
    CHECK(ends[0] > 0);
    CHECK_EQ(ends[0], ends[1]);
}

int main(void)
{
    test_leaf_round_trip();
    test_no_part_of_a_leaf_is_one();
    test_names_rise_and_are_names();
    test_varints_are_the_shortest();
    test_list_round_trip();
    test_cuts_come_back_after_a_new_name();
    TEST_MAIN_END();
}
