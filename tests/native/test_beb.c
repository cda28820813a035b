// SPDX-License-Identifier: Apache-2.0
/*
 * The error buffer: golden bytes, wrapping, a writer that dies before each of its stores, and bit
 * flips everywhere.
 *
 * The harness compiles the writer with a hook in its stores. After the given number of stores the
 * writer is dead: what it would have stored is lost.
 */
#include "golden_records.h"
#include "nx_test.h"
#include "nx_xxhash.h"

#include <string.h>

static uint64_t stores_left = UINT64_MAX;

static void store_while_alive(uint64_t *target, uint64_t value)
{
    if (stores_left > 0) {
        *(volatile uint64_t *)target = value;
    }
    stores_left -= stores_left > 0;
}

#define NX_BEB_STORE(target, value) store_while_alive(target, value)
#define nx_beb_inspect              mortal_inspect
#define nx_beb_attach               mortal_attach
#define nx_beb_append               mortal_append
#define nx_beb_read                 mortal_read
#include "../../nexus/_core/csrc/nx_beb.c"
#undef nx_beb_inspect
#undef nx_beb_attach
#undef nx_beb_append
#undef nx_beb_read
int nx_beb_inspect(const nx_beb_buffer *buffer, nx_beb_scan *ret);
int nx_beb_attach(nx_beb_buffer *buffer, uint64_t now_ns, nx_beb_scan *ret_found, nx_beb *ret);
void nx_beb_append(nx_beb *beb, const nx_beb_record *record);
int nx_beb_read(const nx_beb_buffer *buffer, uint64_t sequence, nx_beb_record *ret);

static nx_beb_buffer buffer, before;

static nx_beb attach(void)
{
    nx_beb_scan found;
    nx_beb beb = {0};

    CHECK_EQ(nx_beb_attach(&buffer, 1, &found, &beb), NX_OK);
    return beb;
}

/* A record whose content follows from its sequence, so that a reader can check it. */
static void append(nx_beb *beb, bool mortal)
{
    uint64_t s = beb->sequence + 1;
    nx_beb_record record = {
        .time_ns = 3 * s, .kind = 72, .code = 5, .fiber = s, .data = {s, ~s, 7 * s}};

    if (mortal) {
        mortal_append(beb, &record);
    } else {
        nx_beb_append(beb, &record);
    }
}

static bool is_intact(uint64_t sequence)
{
    nx_beb_record r;

    return nx_beb_read(&buffer, sequence, &r) == NX_OK && r.sequence == sequence &&
           (r.kind == NX_STL_SYSTEM_BOOT || (r.kind == 72 && r.fiber == sequence &&
                                             r.data[1] == ~sequence && r.data[2] == 7 * sequence));
}

static void fill(unsigned records)
{
    memset(&buffer, 0, sizeof buffer);
    nx_beb beb = attach();
    for (unsigned i = 1; i < records; i++) {
        append(&beb, false);
    }
}

static void test_golden_bytes(void)
{
    memset(&buffer, 0, sizeof buffer);
    for (unsigned i = 0; i < 3; i++) {
        (void)attach();
    }
    nx_beb beb = attach();
    CHECK_EQ(beb.generation, 4);
    beb.generation = 3;
    beb.sequence = 1024;
    nx_beb_record record = {
        .time_ns = 0x0102030405060708, .kind = 72, .code = 5, .fiber = 9, .data = {1, 2, 3}};
    nx_beb_append(&beb, &record);
    CHECK(memcmp(&buffer.ring[1], golden_beb_record, 64) == 0);
    memset(&buffer, 0, sizeof buffer);
    (void)attach();
    (void)attach();
    (void)attach();
    CHECK(memcmp(&buffer.header, golden_beb_header, 64) == 0);
}

static void test_the_newest_1023_are_kept(void)
{
    nx_beb_record r;
    nx_beb_scan scan;

    for (unsigned records = 1; records < 3000; records += 97) {
        fill(records);
        uint64_t oldest = records > NX_BEB_RING ? records - NX_BEB_RING + 1 : 1;
        CHECK_EQ(nx_beb_inspect(&buffer, &scan), NX_OK);
        CHECK_EQ(scan.newest, records);
        CHECK_EQ(scan.valid, records - oldest + 1);
        CHECK_EQ(scan.damaged, 0);
        CHECK_EQ(scan.generation, 1);
        CHECK_EQ(nx_beb_read(&buffer, oldest - 1, &r), NX_EEMPTY);
        CHECK_EQ(nx_beb_read(&buffer, records + 1, &r), NX_EEMPTY);
        for (uint64_t s = oldest; s <= records; s++) {
            CHECK(is_intact(s));
        }
    }
}

/* Dies before store `stores` of an append to a buffer of `records`. */
static void test_death_in_an_append(void)
{
    static const unsigned sizes[] = {1, 5, 1022, 1023, 1024, 2500};

    for (unsigned i = 0; i < NX_ARRAY_COUNT(sizes); i++) {
        fill(sizes[i]);
        before = buffer;
        for (uint64_t stores = 0; stores <= 8; stores++) {
            nx_beb_scan scan;
            buffer = before;
            nx_beb beb = {&buffer, sizes[i], 1};
            stores_left = stores;
            append(&beb, true);
            stores_left = UINT64_MAX;
            CHECK_EQ(nx_beb_inspect(&buffer, &scan), NX_OK);
            CHECK_EQ(scan.newest, sizes[i] + (stores == 8));
            CHECK_EQ(scan.damaged, stores > 0 && stores < 8);
            uint64_t oldest = sizes[i] >= NX_BEB_RING ? sizes[i] - NX_BEB_RING + 2 : 1;
            for (uint64_t s = oldest; s <= sizes[i]; s++) {
                CHECK(is_intact(s));
            }
            beb = attach();
            CHECK_EQ(beb.generation, 2);
            CHECK_EQ(beb.sequence, scan.newest + 1);
            CHECK(is_intact(beb.sequence));
        }
    }
}

/* Dies at every pair of stores in two attachments: no generation of a complete record comes back.
 */
static void test_death_in_attaching(void)
{
    for (uint64_t cut = 0; cut < 17 * 17; cut++) {
        const uint64_t cuts[2] = {cut / 17, cut % 17};
        uint32_t used = 1;
        nx_beb_scan scan;
        nx_beb beb;
        fill(10);
        for (unsigned i = 0; i < 2; i++) {
            stores_left = cuts[i];
            CHECK_EQ(mortal_attach(&buffer, 1, &scan, &beb), NX_OK);
            CHECK(beb.generation > used);
            used = cuts[i] >= 8 ? beb.generation : used;
        }
        stores_left = UINT64_MAX;
        beb = attach();
        CHECK(beb.generation > used);
        for (uint64_t s = 1; s <= 10; s++) {
            CHECK(is_intact(s));
        }
    }
}

static void test_the_generation_stands_in_two_places(void)
{
    fill(10);
    (void)attach();
    before = buffer;
    memset(&buffer.header, 0xa5, 64);
    CHECK_EQ(attach().generation, 3);
    buffer = before;
    memset(&buffer.ring[10], 0xa5, 64); /* the only record of generation 2 */
    CHECK_EQ(attach().generation, 3);
    /* The canary: without both it does come back, and is seen to. */
    memcpy(&buffer, &before, sizeof buffer);
    memset(&buffer.header, 0xa5, 64);
    memset(&buffer.ring[10], 0xa5, 64);
    CHECK_EQ(attach().generation, 2);
}

static void test_a_flipped_bit_costs_its_record_alone(void)
{
    nx_beb_scan scan;
    nx_beb_record r;

    fill(1500);
    before = buffer;
    for (uint64_t bit = 0; bit < 8 * sizeof buffer; bit += 41) {
        uint64_t record = bit / 512;
        ((uint8_t *)&buffer)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(nx_beb_inspect(&buffer, &scan), NX_OK);
        CHECK_EQ(scan.header_valid, record != 0);
        CHECK_EQ(scan.damaged, record != 0);
        CHECK_EQ(scan.valid, NX_BEB_RING - (record != 0));
        if (record != 0) {
            uint64_t lost = before.ring[record - 1].sequence;
            CHECK_EQ(nx_beb_read(&buffer, lost, &r), NX_ECORRUPT);
            CHECK_EQ(scan.newest, lost == 1500 ? 1499 : 1500);
        }
        buffer = before;
    }
    /* Without its header the buffer is still whole, and its generation known. */
    memset(&buffer.header, 0, 64);
    nx_beb beb = attach();
    CHECK_EQ(beb.generation, 2);
    CHECK_EQ(beb.sequence, 1501);
    CHECK_EQ(nx_beb_read(&buffer, 1501, &r), NX_OK);
    CHECK_EQ(r.code, 2);
    CHECK_EQ(r.data[0], NX_BEB_RING);
}

static void test_a_record_in_the_wrong_place_is_damaged(void)
{
    nx_beb_record moved;
    nx_beb_scan scan;

    fill(100);
    moved = buffer.ring[98];
    buffer.ring[500] = moved;
    CHECK_EQ(nx_beb_inspect(&buffer, &scan), NX_OK);
    CHECK_EQ(scan.damaged, 1);
    /* The canary: its bytes are right where they belong. */
    CHECK(moved.check == nx_xxh64(&moved.sequence, 56, 99));
    /* A right key does not help a sequence that belongs elsewhere. */
    buffer.ring[500].check = nx_xxh64(&buffer.ring[500].sequence, 56, 501);
    CHECK_EQ(nx_beb_inspect(&buffer, &scan), NX_OK);
    CHECK_EQ(scan.damaged, 1);
    CHECK_EQ(scan.newest, 100);
}

static void test_another_version_is_left_alone(void)
{
    nx_beb_scan found;
    nx_beb beb;

    for (unsigned i = 0; i < 2; i++) {
        fill(3);
        *(i == 0 ? &buffer.header.version : &buffer.header.records) += 1;
        buffer.header.check = nx_xxh64(&buffer.header.magic, 56, 0);
        before = buffer;
        CHECK_EQ(nx_beb_attach(&buffer, 1, &found, &beb), NX_EINVAL);
        CHECK(memcmp(&buffer, &before, sizeof buffer) == 0);
    }
}

enum { APPENDS = 1000 };

NX_NOINLINE static uint64_t bench_beb_append(nx_beb *beb)
{
    nx_beb_record record = {.kind = 72, .fiber = 3};

    for (unsigned i = 0; i < APPENDS; i++) {
        record.time_ns = i;
        nx_beb_append(beb, &record);
    }
    return beb->sequence;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_beb beb = attach();
        CHECK_EQ(bench_beb_append(&beb), APPENDS + 1);
        TEST_MAIN_END();
    }
    test_golden_bytes();
    test_the_newest_1023_are_kept();
    test_death_in_an_append();
    test_death_in_attaching();
    test_the_generation_stands_in_two_places();
    test_a_flipped_bit_costs_its_record_alone();
    test_a_record_in_the_wrong_place_is_damaged();
    test_another_version_is_left_alone();
    TEST_MAIN_END();
}
