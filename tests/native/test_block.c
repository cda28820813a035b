// SPDX-License-Identifier: Apache-2.0
/* Blocks of the store: round trips, every flipped bit. */
#include "nx_block.h"
#include "nx_test.h"
#include "toy_zstd.h"

#include <string.h>

static toy toy_compressor;
static toy toy_expander;

static void put_entry(nx_bytes *entries, uint8_t id, uint32_t size, nx_kind kind)
{
    uint8_t row[NX_BLOCK_ENTRY];

    memset(row, id, NX_OBJECT_ID);
    nx_store_u32(row + NX_OBJECT_ID, size | (uint32_t)kind << NX_ENTRY_SHIFT);
    nx_bytes_put(entries, row, sizeof row);
}

static const char RAW[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbb";
#define RAW_SIZE ((uint32_t)sizeof RAW - 1)

/* Two objects, the second of one byte; with a base when there is a prefix. */
static void make(const char *prefix, nx_bytes *ret)
{
    nx_base_range base = {.at = 3, .size = prefix == NULL ? 0 : (uint32_t)strlen(prefix)};
    nx_bytes entries = {0};
    nx_block_plan plan = {
        .raw = (const uint8_t *)RAW,
        .bases = &base,
        .prefix = (const uint8_t *)prefix,
        .count = 2,
        .raw_size = RAW_SIZE,
        .base_count = prefix != NULL,
        .prefix_size = base.size,
        .depth = prefix != NULL,
        .level = -1,
    };

    memset(base.id, 0x33, sizeof base.id);
    put_entry(&entries, 0x11, RAW_SIZE - 1, NX_KIND_DATA);
    put_entry(&entries, 0x22, 1, NX_KIND_LEAF);
    plan.entries = entries.data;
    CHECK_EQ(nx_block_encode(&TOY, &toy_compressor, &plan, ret), NX_OK);
    nx_bytes_free(&entries);
}

static int reopen(const nx_bytes *bytes, nx_block *ret)
{
    uint32_t head = nx_block_head_size(bytes->data);

    return head == 0 || head > bytes->size ? NX_ECORRUPT : nx_block_open(bytes->data, head, ret);
}

static void test_round_trip(void)
{
    const char *const prefixes[] = {NULL, "aaaaaaaaaaaa"};

    for (size_t i = 0; i < NX_ARRAY_COUNT(prefixes); i++) {
        const char *prefix = prefixes[i];
        size_t prefix_size = prefix == NULL ? 0 : strlen(prefix);
        uint8_t raw[RAW_SIZE];
        nx_bytes bytes = {0};
        nx_block block;
        make(prefix, &bytes);
        CHECK_EQ(bytes.size % NX_BLOCK_ALIGN, 0);
        CHECK_EQ(reopen(&bytes, &block), NX_OK);
        CHECK_EQ(nx_block_extent(&block), bytes.size);
        CHECK(block.count == 2 && block.raw == RAW_SIZE && block.level == -1);
        CHECK_EQ(block.base_count, prefix != NULL);
        CHECK_EQ(block.depth, prefix != NULL);
        CHECK_EQ(block.codec, NX_CODEC_ZSTD);
        CHECK(nx_block_id(&block, 1)[0] == 0x22 && nx_block_size(&block, 1) == 1);
        CHECK(nx_block_kind(&block, 0) == NX_KIND_DATA && nx_block_kind(&block, 1) == NX_KIND_LEAF);
        int code = nx_block_decode(&TOY, &toy_expander, &block, bytes.data + block.head,
                                   (const uint8_t *)prefix, prefix_size, raw);
        CHECK_EQ(code, NX_OK);
        CHECK(memcmp(raw, RAW, sizeof raw) == 0);
        nx_bytes_free(&bytes);
    }
}

/* What does not become smaller is kept as it is, and continues nothing. */
static void test_plain_when_no_smaller(void)
{
    const uint8_t raw[] = {1, 2, 3, 4, 5, 6, 7, 8};
    nx_base_range base = {.size = 1};
    nx_bytes entries = {0};
    nx_bytes bytes = {0};
    nx_block block;
    uint8_t back[sizeof raw];

    put_entry(&entries, 1, sizeof raw, NX_KIND_DATA);
    nx_block_plan plan = {
        .entries = entries.data,
        .raw = raw,
        .bases = &base,
        .prefix = raw + 4,
        .count = 1,
        .raw_size = sizeof raw,
        .base_count = 1,
        .prefix_size = 1,
        .depth = 1,
        .level = 3,
    };
    CHECK_EQ(nx_block_encode(&TOY, &toy_compressor, &plan, &bytes), NX_OK);
    CHECK_EQ(reopen(&bytes, &block), NX_OK);
    CHECK(block.codec == NX_CODEC_NONE && block.base_count == 0 && block.depth == 0);
    CHECK_EQ(nx_block_decode(&TOY, &toy_expander, &block, bytes.data + block.head, NULL, 0, back),
             NX_OK);
    CHECK(memcmp(back, raw, sizeof raw) == 0);
    nx_bytes_free(&entries);
    nx_bytes_free(&bytes);
}

/* Head or payload: no flipped bit passes, but in the padding, which says nothing. */
static void test_every_flipped_bit(void)
{
    nx_bytes bytes = {0};
    nx_block block;
    uint8_t raw[RAW_SIZE];
    size_t passed = 0;

    make("aaaaaaaaaaaa", &bytes);
    CHECK_EQ(reopen(&bytes, &block), NX_OK);
    size_t end = (size_t)block.head + block.stored;
    for (size_t bit = 0; bit < end * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (reopen(&bytes, &block) == NX_OK &&
            nx_block_decode(&TOY, &toy_expander, &block, bytes.data + block.head,
                            (const uint8_t *)"aaaaaaaaaaaa", 12, raw) == NX_OK) {
            passed++;
        }
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(passed, 0);
    CHECK_EQ(reopen(&bytes, &block), NX_OK);
    nx_bytes_free(&bytes);
}

int main(void)
{
    test_round_trip();
    test_plain_when_no_smaller();
    test_every_flipped_bit();
    TEST_MAIN_END();
}
