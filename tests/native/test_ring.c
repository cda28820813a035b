// SPDX-License-Identifier: Apache-2.0
/* nx_ring.h with one producer: format, order, room, batches, resumption, hostile bytes, threads. */
#include "nx_ring_map.h"
#include "nx_test.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t seed = 1;

static nx_ring_map *make(uint64_t capacity)
{
    nx_ring_map *map = NULL;

    NX_ASSERT(nx_ring_map_create(capacity, NX_RING_SPSC, 0, &map) == NX_OK);
    NX_ASSERT(nx_ring_map_take_producer(map, false) == NX_OK);
    NX_ASSERT(nx_ring_map_take_consumer(map, false) == NX_OK);
    return map;
}

/* docs/spec/ring.md, the first 64 bytes of the header of an SPSC ring with 4096 bytes. */
static void test_header_bytes_are_those_of_the_specification(void)
{
    static const uint8_t golden[64] = {
        0x4e, 0x58, 0x52, 0x49, 0x4e, 0x47, 0x0d, 0x0a, 0x01, 0x00, 0x01, 0x00, 0x00, 0x10,
        0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    static nx_ring_header header;
    static const nx_ring_header zero;

    CHECK_EQ(nx_ring_format(&header, 4096, 4096, NX_RING_SPSC, 0), NX_OK);
    CHECK(memcmp(&header, golden, sizeof golden) == 0);
    CHECK(memcmp((uint8_t *)&header + 64, (const uint8_t *)&zero + 64, sizeof zero - 64) == 0);
    CHECK_EQ(nx_ring_format(&header, 4096, 4097, NX_RING_SPSC, 0), NX_EINVAL);
    CHECK_EQ(nx_ring_format(&header, 4096, 2048, NX_RING_SPSC, 0), NX_EINVAL);
    CHECK_EQ(nx_ring_format(&header, 2048, 4096, NX_RING_SPSC, 0), NX_EINVAL);
    CHECK_EQ(nx_ring_format(&header, 4096, 4096, 3, 0), NX_EINVAL);
    CHECK_EQ(nx_ring_format(&header, 4096, 4096, NX_RING_SPSC, 2), NX_EINVAL);
    CHECK_EQ(nx_ring_format(&header, 4096, 1ull << 31, NX_RING_SPSC, 0), NX_ETOOBIG);
}

/* The bytes of two records, as the specification has them. */
static void test_record_bytes_are_those_of_the_specification(void)
{
    static const uint8_t golden[40] = {
        3, 0, 0, 0, 0, 0, 0, 0x10, 'a', 'b', 'c', 0,   0,   0,   0,   0,   /* stamp 0 */
        8, 0, 0, 0, 1, 0, 0, 0x10, '1', '2', '3', '4', '5', '6', '7', '8', /* stamp 1 */
    };
    nx_ring_map *map = make(4096);

    CHECK_EQ(nx_ring_put(&map->ring, "abc", 3), NX_OK);
    CHECK_EQ(nx_ring_put(&map->ring, "12345678", 8), NX_OK);
    CHECK(memcmp(map->ring.data, golden, sizeof golden) == 0);
    CHECK_EQ(map->ring.header->head, 32);
    CHECK_EQ(map->ring.header->records_in, 2);
    nx_ring_map_destroy(map);
}

static void test_every_corrupt_identity_is_refused(void)
{
    static nx_ring_header header;
    uint8_t identity[64];
    nx_ring ring;

    CHECK_EQ(nx_ring_format(&header, 4096, 8192, NX_RING_MPSC, NX_RING_REVOCABLE), NX_OK);
    memcpy(identity, &header, sizeof identity);
    CHECK_EQ(nx_ring_check_header(identity, 4096 + 8192, &ring), NX_OK);
    CHECK_EQ(ring.payload_max, 8192 - 16);
    CHECK_EQ(nx_ring_check_header(identity, 4096 + 8191, &ring), NX_ECORRUPT);
    for (unsigned bit = 0; bit < 28 * 8; bit++) {
        identity[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int code = nx_ring_check_header(identity, 4096 + 8192, &ring);
        /* The flag is the only bit that may differ: an MPSC ring that is not revocable. */
        CHECK_EQ(code, bit == 11 * 8 ? NX_OK : NX_ECORRUPT);
        identity[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_full_and_too_big_are_told_apart(void)
{
    nx_ring_map *map = make(4096);
    nx_ring *ring = &map->ring;
    static uint8_t big[4096];
    const uint8_t *got;
    uint32_t size;

    CHECK_EQ(nx_ring_put(ring, big, 4096 - 15), NX_ETOOBIG);
    CHECK_EQ(nx_ring_put(ring, big, 4096 - 16), NX_OK);
    CHECK_EQ(nx_ring_put(ring, big, 0), NX_EFULL);
    CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
    CHECK_EQ(size, 4096 - 16);
    nx_ring_release(ring, size);
    CHECK_EQ(nx_ring_put(ring, big, 0), NX_OK);
    CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
    CHECK_EQ(size, 0);
    nx_ring_release(ring, size);
    CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_EEMPTY);
    nx_ring_map_destroy(map);
}

static void fill(uint8_t *place, uint64_t number, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        place[i] = (uint8_t)(number * 31 + i * 7);
    }
}

static bool is_filled(const uint8_t *place, uint64_t number, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        if (place[i] != (uint8_t)(number * 31 + i * 7)) {
            return false;
        }
    }
    return true;
}

/* The length of record `number`, the same for both sides. */
static uint64_t length_of(uint64_t number)
{
    uint64_t state = number;
    return nx_test_random(&state) % 300;
}

static uint64_t put_randomly(nx_ring *ring, uint64_t number)
{
    uint8_t *place;
    nx_ring_batch batch;

    nx_ring_batch_begin(ring, &batch);
    for (uint64_t left = nx_test_random(&seed) % 5 + 1; left > 0; left--) {
        uint64_t size = length_of(number + batch.count);
        if (nx_ring_batch_add(ring, &batch, size, &place) != NX_OK) {
            break;
        }
        fill(place, number + batch.count - 1, size);
    }
    if (nx_test_random(&seed) % 8 == 0) {
        return number; /* dropped: must leave no trace */
    }
    nx_ring_batch_commit(ring, &batch);
    return number + batch.count;
}

/* Random operations, and new handles in between, against two counters as the model. */
static void test_random_operations_keep_order_and_content(void)
{
    nx_ring_map *map = make(4096);
    nx_ring *ring = &map->ring;
    uint64_t in = 0;
    uint64_t out = 0;
    const uint8_t *got;
    uint32_t size;

    for (int step = 0; step < 200000; step++) {
        uint64_t what = nx_test_random(&seed) % 16;
        if (what < 7) {
            in = put_randomly(ring, in);
        } else if (what < 15) {
            int code = nx_ring_peek(ring, &got, &size);
            CHECK_EQ(code, in == out ? NX_EEMPTY : NX_OK);
            if (code == NX_OK) {
                CHECK(size == length_of(out) && is_filled(got, out, size));
                nx_ring_release(ring, size);
                out++;
            }
        } else if (nx_test_random(&seed) % 2 == 0) {
            CHECK_EQ(nx_ring_resume_producer(ring), NX_OK);
        } else {
            CHECK_EQ(nx_ring_resume_consumer(ring), NX_OK);
        }
    }
    nx_ring_stats stats;
    nx_ring_map_read_stats(map, &stats);
    CHECK_EQ(stats.records_in, in);
    CHECK_EQ(stats.waiting, in - out);
    CHECK(in > 10000);
    nx_ring_map_destroy(map);
}

/* A producer that was killed between any two stores of its commit, consumed or not meanwhile. */
static void test_producer_resumes_after_a_kill_at_any_store(bool consumed)
{
    for (int stores = 0; stores <= 4; stores++) {
        nx_ring_map *map = make(4096);
        nx_ring *ring = &map->ring;
        nx_ring_header *header = ring->header;
        const uint8_t *got;
        uint32_t size;

        CHECK_EQ(nx_ring_put(ring, "one", 3), NX_OK);
        memset(ring->data + 16, 0xee, 24); /* garbage where the word and payload will be */
        atomic_store(nx_ring_word_at(ring, 16), 0);
        memcpy(ring->data + 24, "two", 3);
        if (stores > 0) {
            atomic_store(nx_ring_word_at(ring, 32), 0);
        }
        if (stores > 1) {
            atomic_store(nx_ring_word_at(ring, 16), nx_ring_word(NX_RING_RECORD, 1, 3));
        }
        if (stores > 2) {
            header->records_in = 2;
        }
        if (stores > 3) {
            header->head = 32;
        }
        while (consumed && nx_ring_peek(ring, &got, &size) == NX_OK) {
            nx_ring_release(ring, size);
        }
        CHECK_EQ(header->tail, consumed ? (stores > 1 ? 32 : 16) : 0);
        CHECK_EQ(nx_ring_resume_producer(ring), NX_OK);
        CHECK_EQ(ring->records_in, stores > 1 ? 2 : 1);
        CHECK_EQ(nx_ring_put(ring, "next", 4), NX_OK);
        for (uint64_t left = ring->records_in - ring->records_out; left > 1; left--) {
            CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
            nx_ring_release(ring, size);
        }
        CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
        CHECK(size == 4 && memcmp(got, "next", 4) == 0);
        nx_ring_map_destroy(map);
    }
}

/* A consumer that was killed between the two stores of its release sees the record again. */
static void test_consumer_resumes_after_a_kill_at_any_store(void)
{
    for (int stores = 0; stores <= 3; stores++) {
        nx_ring_map *map = make(4096);
        nx_ring *ring = &map->ring;
        const uint8_t *got;
        uint32_t size;

        CHECK_EQ(nx_ring_put(ring, "one", 3), NX_OK);
        CHECK_EQ(nx_ring_put(ring, "two", 3), NX_OK);
        CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
        if (stores > 0) {
            ring->header->records_out = 1;
        }
        if (stores > 1) {
            ring->header->position = 16;
        }
        if (stores > 2) {
            ring->header->tail = 16;
        }
        CHECK_EQ(nx_ring_resume_consumer(ring), NX_OK);
        CHECK_EQ(nx_ring_peek(ring, &got, &size), NX_OK);
        CHECK(memcmp(got, stores > 1 ? "two" : "one", 3) == 0);
        nx_ring_map_destroy(map);
    }
}

/* Garbage in every shared field and every word: an error code or odd payload, never a crash. */
static void test_hostile_bytes_never_leave_the_mapping(void)
{
    uint64_t corrupt = 0;

    for (int round = 0; round < 3000; round++) {
        nx_ring_map *map = make(4096);
        nx_ring *ring = &map->ring;
        nx_ring_header *header = ring->header;
        _Atomic uint64_t *fields[] = {&header->head,     &header->records_in,  &header->high_water,
                                      &header->position, &header->records_out, &header->tail};
        const uint8_t *got;
        uint32_t size;

        for (int step = 0; step < 40; step++) {
            uint64_t garbage = nx_test_random(&seed) >> nx_test_random(&seed) % 64;
            uint64_t what = nx_test_random(&seed) % 8;
            int code = NX_OK;
            if (what == 0) {
                *fields[nx_test_random(&seed) % NX_ARRAY_COUNT(fields)] = garbage & ~7ull;
            } else if (what == 1) {
                uint64_t stamp = nx_ring_expected_stamp(ring);
                uint64_t word = nx_ring_word(NX_RING_RECORD, stamp, (uint32_t)garbage);
                atomic_store(nx_ring_word_at(ring, ring->position),
                             garbage % 3 == 0 ? garbage : word);
            } else if (what == 2) {
                code = nx_ring_resume_producer(ring);
            } else if (what == 3) {
                code = nx_ring_resume_consumer(ring);
            } else if (what < 6) {
                code = nx_ring_put(ring, &garbage, garbage % 9);
            } else {
                code = nx_ring_peek(ring, &got, &size);
                if (code == NX_OK) {
                    /* asan watches the mapping's end; the last byte must be readable. */
                    CHECK(got >= ring->data && got + size <= ring->data + 2 * 4096);
                    CHECK(size == 0 || (*(const volatile uint8_t *)(got + size - 1) | 1) != 0);
                    nx_ring_release(ring, size);
                }
            }
            corrupt += code == NX_ECORRUPT;
        }
        nx_ring_map_destroy(map);
    }
    CHECK(corrupt > 1000);
}

typedef struct side {
    nx_ring_map *map;
    uint64_t count;
    uint64_t bad;
} side;

static void *produce(void *argument)
{
    side *my = argument;

    for (uint64_t number = 0; number < my->count;) {
        uint8_t payload[300];
        uint64_t size = length_of(number);
        fill(payload, number, size);
        if (nx_ring_put(&my->map->ring, payload, size) == NX_OK) {
            nx_ring_map_notify(my->map);
            number++;
        } else {
            sched_yield();
        }
        if (number % 1024 == 0 && number % 3 == 0) {
            usleep(50); /* lets the consumer fall asleep */
        }
    }
    return NULL;
}

/* One handle, one thread in each role: what tsan looks at. The consumer sleeps when it can. */
static void test_threads_in_either_role_share_a_handle(void)
{
    side my = {.map = make(8192), .count = 200000};
    pthread_t thread;
    const uint8_t *got;
    uint32_t size;

    CHECK(pthread_create(&thread, NULL, produce, &my) == 0);
    for (uint64_t number = 0; number < my.count;) {
        if (nx_ring_peek(&my.map->ring, &got, &size) == NX_OK) {
            my.bad += size != length_of(number) || !is_filled(got, number, size);
            nx_ring_release(&my.map->ring, size);
            number++;
        } else {
            CHECK_EQ(nx_ring_map_wait(my.map, 5000000000ll), NX_OK);
        }
    }
    pthread_join(thread, NULL);
    CHECK_EQ(my.bad, 0);
    nx_ring_map_destroy(my.map);
}

static void test_high_water_and_drops_are_counted(void)
{
    nx_ring_map *map = make(4096);
    nx_ring_stats stats;
    const uint8_t *got;
    uint32_t size;
    static uint8_t payload[56];

    for (int i = 0; i < 32; i++) {
        CHECK_EQ(nx_ring_put(&map->ring, payload, sizeof payload), NX_OK);
    }
    nx_ring_count_drops(&map->ring, 3);
    for (int i = 0; i < 32; i++) {
        CHECK_EQ(nx_ring_peek(&map->ring, &got, &size), NX_OK);
        nx_ring_release(&map->ring, size);
    }
    nx_ring_map_read_stats(map, &stats);
    CHECK(stats.high_water <= 32 * 64 && stats.high_water >= 32 * 64 - 64);
    CHECK_EQ(stats.drops, 3);
    CHECK_EQ(stats.waiting, 0);
    nx_ring_map_destroy(map);
}

NX_NOINLINE void bench_ring_put(nx_ring *ring, const uint8_t *payload);
NX_NOINLINE void bench_ring_put(nx_ring *ring, const uint8_t *payload)
{
    for (int i = 0; i < 1024; i++) {
        NX_ASSERT(nx_ring_put(ring, payload, 64) == NX_OK);
    }
}

NX_NOINLINE void bench_ring_get(nx_ring *ring, uint8_t *payload);
NX_NOINLINE void bench_ring_get(nx_ring *ring, uint8_t *payload)
{
    const uint8_t *got;
    uint32_t size;

    for (int i = 0; i < 1024; i++) {
        NX_ASSERT(nx_ring_peek(ring, &got, &size) == NX_OK && size == 64);
        memcpy(payload, got, size);
        nx_ring_release(ring, size);
    }
}

static int bench(void)
{
    nx_ring_map *map = make(1 << 17);
    uint8_t payload[64] = {1};

    bench_ring_put(&map->ring, payload);
    bench_ring_get(&map->ring, payload);
    nx_ring_map_destroy(map);
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
    test_header_bytes_are_those_of_the_specification();
    test_record_bytes_are_those_of_the_specification();
    test_every_corrupt_identity_is_refused();
    test_full_and_too_big_are_told_apart();
    test_random_operations_keep_order_and_content();
    test_producer_resumes_after_a_kill_at_any_store(false);
    test_producer_resumes_after_a_kill_at_any_store(true);
    test_consumer_resumes_after_a_kill_at_any_store();
    test_hostile_bytes_never_leave_the_mapping();
    test_high_water_and_drops_are_counted();
    test_threads_in_either_role_share_a_handle();
    TEST_MAIN_END();
}
