// SPDX-License-Identifier: Apache-2.0
/* nx_ring_slot.h and nx_ring_bulk.h: format, order, resumption, hostile bytes, two threads. */
#include "nx_ring_bulk.h"
#include "nx_ring_slot.h"
#include "nx_test.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#define COUNT   64u
#define RECORDS 300000u

typedef struct large {
    uint64_t words[7];
} large;

static uint64_t seed = 1;
static NX_ALIGNED(128) uint8_t memory[NX_SLOT_CONTROL_BYTES + COUNT * 64];

static nx_slot_control *control(void)
{
    return (nx_slot_control *)(void *)memory;
}

static uint64_t format_slots(uint32_t slot_bytes)
{
    memset(memory, 0, sizeof memory);
    CHECK_EQ(nx_slot_format(control(), COUNT, slot_bytes), NX_OK);
    return nx_slot_bytes(COUNT, slot_bytes);
}

static uint64_t format_bulk(void)
{
    memset(memory, 0, sizeof memory);
    CHECK_EQ(nx_bulk_format(control(), COUNT, 8), NX_OK);
    return nx_slot_bytes(COUNT, 8);
}

static void test_control_bytes_are_those_of_the_specification(void)
{
    static const uint8_t slot[16] = "NXSLOT\r\n\x40\0\0\0\x10\0\0"; /* the last 0 is the string's */
    static const uint8_t bulk[16] = "NXBULK\r\n\x40\0\0\0\x08\0\0";
    static const uint8_t zero[NX_SLOT_CONTROL_BYTES];

    format_slots(16);
    CHECK(memcmp(memory, slot, 16) == 0);
    CHECK(memcmp(memory + 16, zero, sizeof zero - 16) == 0);
    format_bulk();
    CHECK(memcmp(memory, bulk, 16) == 0);
    CHECK_EQ(nx_slot_format(control(), 63, 16), NX_EINVAL);
    CHECK_EQ(nx_slot_format(control(), 64, 32), NX_EINVAL);
    CHECK_EQ(nx_slot_format(control(), 1u << 25, 16), NX_EINVAL);
    CHECK_EQ(nx_bulk_format(control(), 64, 4), NX_EINVAL);
}

static void test_slots_keep_order_and_refuse_when_full(void)
{
    uint64_t bytes = format_slots(16);
    nx_slot_ring ring = {0};
    uint64_t got = 0;
    uint64_t in = 0;
    uint64_t out = 0;

    CHECK_EQ(nx_slot_open(control(), bytes, &ring), NX_OK);
    for (uint64_t i = 0; i < COUNT; i++) {
        CHECK_EQ(nx_slot_push(&ring, &in, 8), NX_OK);
        in++;
    }
    CHECK_EQ(nx_slot_push(&ring, &in, 8), NX_EFULL);
    for (int step = 0; step < 100000; step++) {
        uint64_t what = nx_test_random(&seed) % 9;
        if (what < 4) {
            in += nx_slot_push(&ring, &in, 8) == NX_OK;
        } else if (what < 8) {
            int code = nx_slot_pop(&ring, &got, 8);
            CHECK_EQ(code, in == out ? NX_EEMPTY : NX_OK);
            CHECK(code != NX_OK || got == out);
            out += code == NX_OK;
        } else {
            control()->head -= in > out && nx_test_random(&seed) % 2; /* killed before the note */
            CHECK_EQ(nx_slot_open(control(), bytes, &ring), NX_OK);
            CHECK(ring.head == in && ring.position == out);
        }
    }
    CHECK(out > 1000);
}

static void test_bulk_keeps_order_over_the_seam(void)
{
    uint64_t bytes = format_bulk();
    nx_bulk_ring ring = {0};
    uint64_t in = 0;
    uint64_t out = 0;
    uint64_t batch[COUNT + 8];

    CHECK_EQ(nx_bulk_open(control(), bytes, &ring), NX_OK);
    for (int step = 0; step < 100000; step++) {
        uint64_t count = nx_test_random(&seed) % NX_ARRAY_COUNT(batch);
        if (nx_test_random(&seed) % 2 == 0) {
            uint64_t room = COUNT - (in - out);
            for (uint64_t i = 0; i < count; i++) {
                batch[i] = in + i;
            }
            int64_t taken = nx_bulk_push(&ring, batch, count, 8);
            CHECK_EQ(taken, count < room ? count : room);
            in += (uint64_t)taken;
        } else {
            int64_t taken = nx_bulk_pop(&ring, batch, count, 8);
            CHECK_EQ(taken, count < in - out ? count : in - out);
            for (int64_t i = 0; i < taken; i++) {
                CHECK(batch[i] == out);
                out++;
            }
        }
        if (step % 100 == 0) {
            CHECK_EQ(nx_bulk_open(control(), bytes, &ring), NX_OK);
        }
    }
    CHECK(out > 10000);
}

static void test_hostile_control_is_refused(void)
{
    nx_slot_ring slots = {0};
    nx_bulk_ring bulk = {0};
    uint64_t value = 1;
    static uint8_t large_value[56];
    uint64_t bytes = format_slots(64);

    CHECK_EQ(nx_slot_open(control(), bytes - 1, &slots), NX_ECORRUPT);
    CHECK_EQ(nx_bulk_open(control(), bytes, &bulk), NX_ECORRUPT);
    for (unsigned bit = 0; bit < 16 * 8; bit++) {
        memory[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(nx_slot_open(control(), bytes, &slots), NX_ECORRUPT);
        memory[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_EQ(nx_slot_open(control(), bytes, &slots), NX_OK);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK_EQ(nx_slot_push(&slots, large_value, 56), NX_OK);
    }
    control()->tail = COUNT + 5;
    CHECK_EQ(nx_slot_push(&slots, large_value, 56), NX_ECORRUPT);
    CHECK_EQ(nx_slot_open(control(), bytes, &slots), NX_ECORRUPT);
    bytes = format_bulk();
    CHECK_EQ(nx_bulk_open(control(), bytes, &bulk), NX_OK);
    control()->head = COUNT + 1;
    CHECK_EQ(nx_bulk_pop(&bulk, &value, 1, 8), NX_ECORRUPT);
    CHECK_EQ(nx_bulk_open(control(), bytes, &bulk), NX_ECORRUPT);
    control()->tail = 5;
    static uint64_t many[COUNT + 1];
    CHECK_EQ(nx_bulk_push(&bulk, many, COUNT + 1, 8), NX_ECORRUPT);
}

static void *push_large(void *argument)
{
    nx_slot_ring *ring = argument;

    for (uint64_t number = 0; number < RECORDS;) {
        large item = {.words = {number, number * 2, number * 3, 0, 0, 0, number * 7}};
        if (nx_slot_push(ring, &item, sizeof item) == NX_OK) {
            number++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void test_slots_between_threads(void)
{
    uint64_t bytes = format_slots(64);
    nx_slot_ring ring = {0};
    pthread_t thread;
    uint64_t bad = 0;

    CHECK_EQ(nx_slot_open(control(), bytes, &ring), NX_OK);
    CHECK(pthread_create(&thread, NULL, push_large, &ring) == 0);
    for (uint64_t number = 0; number < RECORDS;) {
        large item;
        if (nx_slot_pop(&ring, &item, sizeof item) == NX_OK) {
            bad += item.words[0] != number || item.words[6] != number * 7;
            number++;
        } else {
            sched_yield();
        }
    }
    pthread_join(thread, NULL);
    CHECK_EQ(bad, 0);
}

static void *push_bulk(void *argument)
{
    nx_bulk_ring *ring = argument;
    uint64_t state = 9;

    for (uint64_t number = 0; number < RECORDS;) {
        uint64_t batch[48];
        uint64_t count = nx_test_random(&state) % NX_ARRAY_COUNT(batch);
        for (uint64_t i = 0; i < count; i++) {
            batch[i] = number + i;
        }
        int64_t taken = nx_bulk_push(ring, batch, count, 8);
        if (taken == 0) {
            sched_yield();
        }
        number += (uint64_t)taken;
    }
    return NULL;
}

static void test_bulk_between_threads(void)
{
    uint64_t bytes = format_bulk();
    nx_bulk_ring ring = {0};
    pthread_t thread;
    uint64_t bad = 0;

    CHECK_EQ(nx_bulk_open(control(), bytes, &ring), NX_OK);
    CHECK(pthread_create(&thread, NULL, push_bulk, &ring) == 0);
    for (uint64_t number = 0; number < RECORDS;) {
        uint64_t batch[32];
        int64_t taken = nx_bulk_pop(&ring, batch, nx_test_random(&seed) % 32, 8);
        for (int64_t i = 0; i < taken; i++) {
            bad += batch[i] != number++;
        }
        if (taken == 0) {
            sched_yield();
        }
    }
    pthread_join(thread, NULL);
    CHECK_EQ(bad, 0);
}

NX_NOINLINE void bench_slot_pair(nx_slot_ring *ring);
NX_NOINLINE void bench_slot_pair(nx_slot_ring *ring)
{
    for (uint64_t i = 0; i < 1024; i++) {
        uint64_t got = 0;
        NX_ASSERT(nx_slot_push(ring, &i, 8) == NX_OK);
        NX_ASSERT(nx_slot_pop(ring, &got, 8) == NX_OK && got == i);
    }
}

NX_NOINLINE void bench_bulk_pair(nx_bulk_ring *ring);
NX_NOINLINE void bench_bulk_pair(nx_bulk_ring *ring)
{
    uint64_t batch[64] = {0};

    for (int i = 0; i < 16; i++) {
        NX_ASSERT(nx_bulk_push(ring, batch, 64, 8) == 64);
        NX_ASSERT(nx_bulk_pop(ring, batch, 64, 8) == 64);
    }
}

static int bench(void)
{
    nx_slot_ring slots = {0};
    nx_bulk_ring bulk = {0};

    NX_ASSERT(nx_slot_open(control(), format_slots(16), &slots) == NX_OK);
    bench_slot_pair(&slots);
    NX_ASSERT(nx_bulk_open(control(), format_bulk(), &bulk) == NX_OK);
    bench_bulk_pair(&bulk);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        return bench();
    }
    if (argc > 1) {
        seed = strtoull(argv[1], NULL, 10);
    }
    printf("seed %llu\n", (unsigned long long)seed);
    test_control_bytes_are_those_of_the_specification();
    test_slots_keep_order_and_refuse_when_full();
    test_bulk_keeps_order_over_the_seam();
    test_hostile_control_is_refused();
    test_slots_between_threads();
    test_bulk_between_threads();
    TEST_MAIN_END();
}
