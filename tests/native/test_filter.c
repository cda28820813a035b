// SPDX-License-Identifier: Apache-2.0
/* Membership against a sorted array, batches against single checks, and swaps under readers. */
#include "nx_filter.h"
#include "nx_test.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define STABLE    64u
#define TRANSIENT 64u

static const uint64_t key[2] = {0x0123456789abcdefu, 0xfedcba9876543210u};

static nx_cell_id random_id(uint64_t *seed)
{
    nx_cell_id id = {nx_test_random(seed), nx_test_random(seed) | 1};

    return id;
}

static nx_filter_table *make_table(const nx_cell_id *ids, size_t count)
{
    nx_filter_table *table = NULL;

    CHECK_EQ(nx_filter_table_create((const uint8_t *)ids, sizeof *ids, count, key, &table), NX_OK);
    return table;
}

static void test_membership(size_t count)
{
    uint64_t seed = count;
    nx_cell_id *ids = calloc(count + 1, sizeof *ids);

    for (size_t i = 0; i < count; i++) {
        ids[i] = random_id(&seed);
    }
    nx_filter_table *table = make_table(ids, count);
    CHECK_EQ(table->count, (long long)count);
    CHECK(table->bytes <= 24 * count + 320);
    for (size_t i = 0; i < count; i++) {
        nx_cell_id near = ids[i];
        CHECK(nx_filter_table_has(table, (const uint8_t *)&ids[i]));
        near.low ^= 1;
        CHECK(!nx_filter_table_has(table, (const uint8_t *)&near));
    }
    for (int i = 0; i < 1000; i++) {
        nx_cell_id stranger = random_id(&seed);
        CHECK(!nx_filter_table_has(table, (const uint8_t *)&stranger));
    }
    nx_cell_id zero = {0, 0};
    CHECK(!nx_filter_table_has(table, (const uint8_t *)&zero));
    nx_cell_id *members = calloc(count + 1, sizeof *members);
    nx_filter_table_members(table, members);
    nx_filter_table *again = make_table(members, count);
    for (size_t i = 0; i < count; i++) {
        CHECK(nx_filter_table_has(again, (const uint8_t *)&ids[i]));
    }
    nx_filter_table_destroy(again);
    nx_filter_table_destroy(table);
    free(members);
    free(ids);
}

static void test_batch_equals_single(void)
{
    enum { MEMBERS = 1000, STRIDE = 72 };
    uint64_t seed = 5;
    static nx_cell_id ids[MEMBERS];
    static uint8_t frames[NX_FILTER_BATCH * STRIDE];

    for (size_t i = 0; i < MEMBERS; i++) {
        ids[i] = random_id(&seed);
    }
    nx_filter_table *table = make_table(ids, MEMBERS);
    for (size_t count = 0; count <= NX_FILTER_BATCH; count++) {
        for (size_t i = 0; i < count; i++) {
            bool known = nx_test_random(&seed) & 1;
            nx_cell_id id = known ? ids[nx_test_random(&seed) % MEMBERS] : random_id(&seed);
            memcpy(frames + i * STRIDE, &id, sizeof id);
        }
        uint64_t verdict = nx_filter_table_batch(table, frames, STRIDE, count);
        for (size_t i = 0; i < NX_FILTER_BATCH; i++) {
            bool want = i < count && nx_filter_table_has(table, frames + i * STRIDE);
            CHECK((verdict >> i & 1) == want);
        }
    }
    nx_filter_table_destroy(table);
}

static void test_build_refuses(void)
{
    nx_cell_id ids[3] = {{1, 2}, {0, 0}, {3, 4}};
    nx_filter_table *table = NULL;
    const uint8_t *first = (const uint8_t *)ids;

    CHECK_EQ(nx_filter_table_create(first, 16, 3, key, &table), NX_EINVAL);
    CHECK_EQ(nx_filter_table_create(first, 16, (size_t)NX_FILTER_COUNT_MAX + 1, key, &table),
             NX_ETOOBIG);
    CHECK(table == NULL);
    ids[1] = ids[0];
    CHECK_EQ(nx_filter_table_create(first, 16, 3, key, &table), NX_OK);
    CHECK_EQ(table->count, 2);
    nx_filter_table_destroy(table);
}

/* Every table of the swap test holds the stable ids and some transient ones. */
typedef struct swap_test {
    nx_filter *filter;
    nx_cell_id stable[STABLE];
    atomic_bool stop;
    atomic_ulong batches;
    atomic_ulong lost;
} swap_test;

static void *read_frames(void *argument)
{
    swap_test *test = argument;
    nx_filter_reader *reader = NULL;

    if (nx_filter_reader_join(test->filter, &reader) != NX_OK) {
        abort();
    }
    while (!atomic_load(&test->stop)) {
        const nx_filter_table *table = nx_filter_read_begin(test->filter, reader);
        uint64_t verdict =
            nx_filter_table_batch(table, (const uint8_t *)test->stable, 16, NX_FILTER_BATCH);
        nx_filter_read_end(reader);
        atomic_fetch_add(&test->lost, (unsigned long)__builtin_popcountll(~verdict));
        atomic_fetch_add(&test->batches, 1);
    }
    nx_filter_reader_leave(reader);
    return NULL;
}

static void test_swaps_lose_nothing(unsigned swaps)
{
    enum { READERS = 2 };
    static swap_test test;
    nx_cell_id ids[STABLE + TRANSIENT];
    pthread_t threads[READERS];
    uint64_t seed = 11;

    for (unsigned i = 0; i < STABLE; i++) {
        ids[i] = test.stable[i] = random_id(&seed);
    }
    CHECK_EQ(nx_filter_create(make_table(ids, STABLE), &test.filter), NX_OK);
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, read_frames, &test), 0);
    }
    for (unsigned i = 0; i < swaps; i++) {
        unsigned extra = (unsigned)(nx_test_random(&seed) % TRANSIENT);
        for (unsigned j = 0; j < extra; j++) {
            ids[STABLE + j] = random_id(&seed);
        }
        nx_filter_swap(test.filter, make_table(ids, STABLE + extra));
    }
    while (atomic_load(&test.batches) < 100) {
        usleep(100);
    }
    atomic_store(&test.stop, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(atomic_load(&test.lost), 0);
    CHECK_EQ(nx_filter_reclaim(test.filter), 0);
    CHECK_EQ(test.filter->freed, swaps);
    printf("%u swaps under %lu batches\n", swaps, (unsigned long)atomic_load(&test.batches));
    nx_filter_destroy(test.filter);
}

/* While a reader is inside, no table it can see is freed: the canary for the epochs. */
static void test_reader_keeps_its_table(void)
{
    nx_cell_id id = {1, 1};
    nx_filter *filter;
    nx_filter_reader *reader;

    CHECK_EQ(nx_filter_create(make_table(&id, 1), &filter), NX_OK);
    CHECK_EQ(nx_filter_reader_join(filter, &reader), NX_OK);
    const nx_filter_table *held = nx_filter_read_begin(filter, reader);
    nx_filter_swap(filter, make_table(&id, 1));
    CHECK_EQ(nx_filter_reclaim(filter), 1);
    nx_filter_swap(filter, make_table(&id, 1));
    CHECK_EQ(nx_filter_reclaim(filter), 2);
    CHECK(nx_filter_table_has(held, (const uint8_t *)&id));
    nx_filter_read_end(reader);
    CHECK_EQ(nx_filter_reclaim(filter), 0);
    nx_filter_reader_leave(reader);
    for (unsigned i = 0; i < NX_FILTER_READERS_MAX; i++) {
        CHECK_EQ(nx_filter_reader_join(filter, &reader), NX_OK);
    }
    CHECK_EQ(nx_filter_reader_join(filter, &reader), NX_EFULL);
    nx_filter_destroy(filter);
}

NX_NOINLINE static uint64_t bench_filter_batch(const nx_filter_table *table, const uint8_t *ids)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < 16; i++) {
        sum += nx_filter_table_batch(table, ids + (size_t)i * 64 * 16, 16, NX_FILTER_BATCH);
    }
    return sum;
}

static int bench(void)
{
    enum { COUNT = 1024 };
    static nx_cell_id ids[COUNT];
    static nx_cell_id strangers[COUNT];
    uint64_t seed = 9;

    for (unsigned i = 0; i < COUNT; i++) {
        ids[i] = random_id(&seed);
        strangers[i] = random_id(&seed);
    }
    nx_filter_table *table = make_table(ids, COUNT);
    CHECK(bench_filter_batch(table, (const uint8_t *)strangers) == 0);
    nx_filter_table_destroy(table);
    TEST_MAIN_END();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        return bench();
    }
    unsigned swaps = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 100000;
    test_membership(0);
    test_membership(1);
    test_membership(7);
    test_membership(20000);
    test_batch_equals_single();
    test_build_refuses();
    test_reader_keeps_its_table();
    test_swaps_lose_nothing(swaps);
    TEST_MAIN_END();
}
