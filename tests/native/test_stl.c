// SPDX-License-Identifier: Apache-2.0
/* Ledger events: golden bytes, round trips, every flipped bit, and the table of numbers. */
#include "golden_records.h"
#include "nx_stl.h"
#include "nx_test.h"

#include <string.h>

static const nx_stl_event golden = {
    .kind = NX_STL_CHECKPOINT_WRITE,
    .time_ns = 0x1122334455667788,
    .fiber = 7,
    .entity = 42,
    .cause = 41,
    .data = {8192, 32768, 0},
};

static void test_golden_bytes(void)
{
    uint8_t bytes[NX_STL_BYTES];
    nx_stl_event event;

    CHECK_EQ(nx_stl_encode(&golden, bytes), NX_OK);
    CHECK(memcmp(bytes, golden_stl_event, sizeof bytes) == 0);
    CHECK_EQ(nx_stl_decode(golden_stl_event, &event), NX_OK);
    CHECK(memcmp(&event, &golden, sizeof event) == 0);
}

/* The numbers once more, as the specification lists them. */
static void test_only_known_kinds_pass(void)
{
    static const uint8_t ranges[][2] = {{0, 4},   {10, 12}, {20, 23}, {30, 32},
                                        {40, 41}, {50, 51}, {60, 79}};
    uint8_t bytes[NX_STL_BYTES];
    unsigned known = 0;

    for (uint64_t kind = 0; kind < 70000; kind++) {
        bool listed = false;
        for (unsigned i = 0; i < NX_ARRAY_COUNT(ranges); i++) {
            listed |= kind >= ranges[i][0] && kind <= ranges[i][1];
        }
        nx_stl_event event = {.kind = kind};
        CHECK_EQ(nx_stl_is_kind(kind), listed);
        CHECK_EQ(nx_stl_encode(&event, bytes), listed ? NX_OK : NX_EINVAL);
        known += listed;
    }
    CHECK_EQ(known, 39);
    CHECK(!nx_stl_is_kind(UINT64_MAX) && !nx_stl_is_kind((uint64_t)1 << 32 | 1));
    CHECK(nx_stl_is_kind(NX_STL_CHECKPOINT_REGION_INIT) && nx_stl_is_kind(NX_STL_EVENTS_LOST));
}

static void test_round_trips(void)
{
    uint64_t seed = 11;

    printf("seed 11\n");
    for (int i = 0; i < 20000; i++) {
        nx_stl_event event = {.kind = nx_test_random(&seed) % 20 + 60};
        nx_stl_event back;
        uint8_t bytes[NX_STL_BYTES];
        event.time_ns = nx_test_random(&seed);
        event.fiber = nx_test_random(&seed);
        event.entity = nx_test_random(&seed);
        event.cause = nx_test_random(&seed);
        event.data[i % 3] = nx_test_random(&seed);
        CHECK_EQ(nx_stl_encode(&event, bytes), NX_OK);
        CHECK_EQ(nx_stl_decode(bytes, &back), NX_OK);
        CHECK(memcmp(&event, &back, sizeof event) == 0);
    }
}

static void test_damage_is_found(void)
{
    const uint8_t zeros[NX_STL_BYTES] = {0};
    nx_stl_event event = golden;
    uint8_t bytes[NX_STL_BYTES];

    for (unsigned a = 0; a < 512; a++) {
        for (unsigned b = a; b < 512; b += 13) {
            memcpy(bytes, golden_stl_event, sizeof bytes);
            bytes[a / 8] ^= (uint8_t)(1 << a % 8);
            bytes[b / 8] ^= (uint8_t)(a == b ? 0 : 1 << b % 8);
            CHECK_EQ(nx_stl_decode(bytes, &event), NX_ECORRUPT);
        }
    }
    CHECK_EQ(nx_stl_decode(zeros, &event), NX_ECORRUPT);
    CHECK(memcmp(&event, &golden, sizeof event) == 0);
}

/* A right check does not help a reserved field in use, nor a kind of the future. */
static void test_wrong_fields_are_refused(void)
{
    static const uint8_t field[] = {2, 3, 1, 0};
    nx_stl_event event;

    for (unsigned i = 0; i < sizeof field; i++) {
        uint8_t bytes[NX_STL_BYTES];
        memcpy(bytes, golden_stl_event, sizeof bytes);
        bytes[field[i]] = 80;
        /* CRC-32C bit by bit, which is also the canary of the encoder's. */
        uint32_t crc = UINT32_MAX;
        for (unsigned bit = 0; bit < 480; bit++) {
            uint32_t next = (uint32_t)bytes[bit / 8] >> bit % 8;
            crc = crc >> 1 ^ (((crc ^ next) & 1) != 0 ? 0x82F63B78u : 0);
        }
        nx_store_u32(bytes + 60, ~crc);
        CHECK_EQ(nx_stl_decode(bytes, &event), NX_EINVAL);
    }
}

enum { EVENTS = 1000 };
static uint8_t stream[EVENTS][NX_STL_BYTES];

NX_NOINLINE static unsigned bench_stl_encode(void)
{
    nx_stl_event event = golden;
    unsigned wrong = 0;

    for (unsigned i = 0; i < EVENTS; i++) {
        event.time_ns += i;
        event.cause = i;
        wrong += nx_stl_encode(&event, stream[i]) != NX_OK;
    }
    return wrong;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        CHECK_EQ(bench_stl_encode(), 0);
        TEST_MAIN_END();
    }
    test_golden_bytes();
    test_only_known_kinds_pass();
    test_round_trips();
    test_damage_is_found();
    test_wrong_fields_are_refused();
    TEST_MAIN_END();
}
