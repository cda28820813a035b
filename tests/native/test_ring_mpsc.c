// SPDX-License-Identifier: Apache-2.0
/* nx_ring_mpsc.h: claims, kills at every store, takeover of slots, hostile bytes, many threads. */
#include "nx_ring_map.h"
#include "nx_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCERS 3
#define RECORDS   60000

static uint64_t seed = 1;

static nx_ring_map *make(uint64_t capacity)
{
    nx_ring_map *map = NULL;

    NX_ASSERT(nx_ring_map_create(capacity, NX_RING_MPSC, 0, &map) == NX_OK);
    NX_ASSERT(nx_ring_map_take_consumer(map, false) == NX_OK);
    return map;
}

static nx_ring_map *join(const nx_ring_map *map)
{
    nx_ring_map *other = NULL;

    NX_ASSERT(nx_ring_map_attach(map->fd, false, &other) == NX_OK);
    NX_ASSERT(nx_ring_map_take_producer(other, false) == NX_OK);
    return other;
}

/* The owner word of a process that has certainly exited. */
static uint64_t dead_owner(void)
{
    uint64_t result;
    int ends[2];

    NX_ASSERT(pipe2(ends, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        result = nx_owner_self();
        _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
    }
    NX_ASSERT(read(ends[0], &result, sizeof result) == sizeof result);
    NX_ASSERT(waitpid(child, NULL, 0) == child);
    close(ends[0]);
    close(ends[1]);
    return result;
}

static bool take(nx_ring *ring, const char *want)
{
    const uint8_t *got;
    uint32_t size;

    if (nx_ring_peek(ring, &got, &size) != NX_OK) {
        return false;
    }
    bool same = size == strlen(want) && memcmp(got, want, size) == 0;
    nx_ring_release(ring, size);
    return same;
}

static void test_claims_commit_in_any_order(void)
{
    nx_ring_map *map = make(4096);
    nx_ring_map *one = join(map);
    nx_ring_map *two = join(map);
    uint64_t first;
    uint64_t second;
    nx_mpsc_stall stall;

    CHECK_EQ(nx_mpsc_claim(&one->ring, 16, 1, &first), NX_OK);
    CHECK_EQ(nx_mpsc_claim(&two->ring, 16, 1, &second), NX_OK);
    memcpy(nx_mpsc_place(&two->ring, second), "second", 6);
    nx_mpsc_commit(&two->ring, second, 16, 6);
    CHECK(!take(&map->ring, "second"));
    CHECK_EQ(nx_mpsc_find_stall(&map->ring, &stall), NX_OK);
    CHECK(stall.position == 0 && stall.bytes == 16 && stall.slot == one->ring.slot);
    CHECK_EQ(stall.owner, nx_owner_self());
    CHECK_EQ(nx_ring_map_heal(map, 0), NX_EBUSY);
    memcpy(nx_mpsc_place(&one->ring, first), "first", 5);
    nx_mpsc_commit(&one->ring, first, 16, 5);
    CHECK_EQ(nx_mpsc_find_stall(&map->ring, &stall), NX_EEMPTY);
    CHECK(take(&map->ring, "first"));
    CHECK(take(&map->ring, "second"));
    CHECK_EQ(nx_mpsc_find_stall(&map->ring, &stall), NX_EEMPTY);
    nx_ring_map_destroy(one);
    nx_ring_map_destroy(two);
    nx_ring_map_destroy(map);
}

/* Short commits and aborted claims leave padding that the consumer steps over. */
static void test_padding_is_skipped(void)
{
    nx_ring_map *map = make(4096);
    nx_ring_map *one = join(map);
    uint64_t at;
    nx_ring_stats stats;

    for (int i = 0; i < 1000; i++) {
        uint64_t bytes = 8 + 8 * (nx_test_random(&seed) % 40 + 1);
        CHECK_EQ(nx_mpsc_claim(&one->ring, bytes, 1, &at), NX_OK);
        if (i % 3 == 0) {
            nx_mpsc_abort(&one->ring, at, bytes);
            CHECK_EQ(nx_mpsc_put(&one->ring, "x", 1), NX_OK);
            CHECK(take(&map->ring, "x"));
        } else {
            memcpy(nx_mpsc_place(&one->ring, at), "y", 1);
            nx_mpsc_commit(&one->ring, at, bytes, 1);
            CHECK(take(&map->ring, "y"));
        }
    }
    nx_mpsc_read_stats(&map->ring, &stats);
    CHECK_EQ(stats.records_in, 1000);
    CHECK_EQ(stats.records_out, 1000);
    CHECK_EQ(stats.losses, 0);
    nx_ring_map_destroy(one);
    nx_ring_map_destroy(map);
}

/*
 * A producer that dies after each store of its put. The steps are those of the specification:
 * 0 intent, 1 claim word, 2 a successor's claim confirmed it, 3 commit word.
 */
static void kill_after(int step, uint64_t dead)
{
    nx_ring_map *map = make(4096);
    nx_ring_map *victim = join(map);
    nx_ring_map *other = join(map);
    nx_ring_header *header = map->ring.header;
    nx_ring_slot_line *line = &header->slots[victim->ring.slot];
    uint64_t at = 0;
    nx_ring_stats stats;

    CHECK_EQ(nx_mpsc_put(&other->ring, "before", 6), NX_OK);
    if (step == 0) {
        line->intent_position = 16;
        line->intent_records = 1;
        line->intent_bytes = 16;
    } else {
        CHECK_EQ(nx_mpsc_claim(&victim->ring, 16, 1, &at), NX_OK);
        CHECK_EQ(at, 16);
        memcpy(nx_mpsc_place(&victim->ring, at), "torn", 4);
    }
    line->owner = dead;
    if (step >= 2) {
        CHECK_EQ(nx_mpsc_put(&other->ring, "after", 5), NX_OK);
    }
    if (step == 3) {
        atomic_store(nx_ring_word_at(&map->ring, at), nx_mpsc_word(NX_RING_RECORD, at, 4));
    }
    bool lost = step == 1 || step == 2;
    CHECK_EQ(nx_mpsc_is_settled(&map->ring, victim->ring.slot), !lost);
    CHECK(take(&map->ring, "before"));
    CHECK_EQ(nx_ring_map_heal(map, 0), lost ? NX_EBUSY : NX_EEMPTY);
    usleep(2000);
    CHECK_EQ(nx_ring_map_heal(map, 0), lost ? NX_OK : NX_EEMPTY);
    if (step == 3) {
        CHECK(take(&map->ring, "torn"));
    }
    CHECK_EQ(take(&map->ring, "after"), step >= 2);
    CHECK_EQ(nx_ring_peek(&map->ring, &(const uint8_t *){NULL}, &(uint32_t){0}), NX_EEMPTY);
    /* The slot is free again, and counts go on. */
    nx_ring_map *heir = join(map);
    CHECK_EQ(heir->ring.slot, victim->ring.slot);
    CHECK_EQ(nx_mpsc_put(&heir->ring, "heir", 4), NX_OK);
    CHECK(take(&map->ring, "heir"));
    nx_mpsc_read_stats(&map->ring, &stats);
    CHECK_EQ(stats.losses, lost);
    CHECK_EQ(stats.records_in, stats.records_out);
    victim->producer_generation = 0; /* the dead give nothing back */
    nx_ring_map_destroy(victim);
    nx_ring_map_destroy(other);
    nx_ring_map_destroy(heir);
    nx_ring_map_destroy(map);
}

static void test_a_claim_in_flight_keeps_its_slot(void)
{
    nx_ring_map *map = make(4096);
    nx_ring_map *handles[NX_RING_SLOTS];
    nx_ring_map *extra = NULL;
    uint64_t at;

    for (unsigned i = 0; i < NX_RING_SLOTS; i++) {
        handles[i] = join(map);
        CHECK_EQ(handles[i]->ring.slot, i);
    }
    CHECK_EQ(nx_ring_map_attach(map->fd, false, &extra), NX_OK);
    CHECK_EQ(nx_ring_map_take_producer(extra, false), NX_EFULL);
    CHECK_EQ(nx_mpsc_claim(&handles[5]->ring, 24, 1, &at), NX_OK);
    map->ring.header->slots[5].owner = dead_owner();
    CHECK_EQ(nx_ring_map_take_producer(extra, false), NX_EFULL);
    CHECK_EQ(nx_ring_map_heal(map, NX_HEAL_FORCE), NX_OK);
    CHECK_EQ(nx_ring_map_take_producer(extra, false), NX_OK);
    CHECK_EQ(extra->ring.slot, 5);
    for (unsigned i = 0; i < NX_RING_SLOTS; i++) {
        handles[i]->producer_generation = i == 5 ? 0 : handles[i]->producer_generation;
        nx_ring_map_destroy(handles[i]);
    }
    nx_ring_map_destroy(extra);
    nx_ring_map_destroy(map);
}

/* A consumer killed between position and tail leaves bytes that its successor must clear. */
static void test_new_consumer_clears_what_the_dead_one_left(void)
{
    nx_ring_map *map = make(4096);
    nx_ring_map *one = join(map);
    static const uint8_t zero[4096];
    static uint8_t payload[4096 - 16];

    memset(payload, 0xff, sizeof payload);
    CHECK_EQ(nx_mpsc_put(&one->ring, payload, sizeof payload), NX_OK);
    map->ring.header->records_out = 1;
    map->ring.header->position = 4096 - 8;
    memset(map->ring.data, 0, 100); /* killed while clearing */
    CHECK_EQ(nx_ring_resume_consumer(&map->ring), NX_OK);
    CHECK_EQ(map->ring.header->tail, 4096 - 8);
    CHECK(memcmp(map->ring.data, zero, sizeof zero) == 0);
    CHECK_EQ(nx_mpsc_put(&one->ring, "next", 4), NX_OK);
    CHECK(take(&map->ring, "next"));
    nx_ring_map_destroy(one);
    nx_ring_map_destroy(map);
}

static void spoil(nx_ring_map *map)
{
    nx_ring_header *header = map->ring.header;
    uint64_t garbage = nx_test_random(&seed) >> nx_test_random(&seed) % 64;
    nx_ring_slot_line *line = &header->slots[nx_test_random(&seed) % 3];
    _Atomic uint64_t *fields[] = {&header->head,          &header->position,    &header->tail,
                                  &line->intent_position, &line->intent_bytes,  &line->confirmed,
                                  &header->high_water,    &line->intent_records};

    if (nx_test_random(&seed) % 2 == 0) {
        *fields[nx_test_random(&seed) % NX_ARRAY_COUNT(fields)] = garbage;
    } else {
        uint32_t kind = (uint32_t)(nx_test_random(&seed) % 4);
        atomic_store(nx_ring_word_at(&map->ring, map->ring.position),
                     nx_mpsc_word(kind, map->ring.position, (uint32_t)garbage));
    }
}

static void test_hostile_bytes_never_leave_the_mapping(void)
{
    uint64_t corrupt = 0;

    for (int round = 0; round < 2000; round++) {
        nx_ring_map *map = make(4096);
        nx_ring_map *one = join(map);
        nx_ring_stats stats;
        const uint8_t *got;
        uint32_t size;

        for (int step = 0; step < 30; step++) {
            uint64_t what = nx_test_random(&seed) % 8;
            int code = NX_OK;
            if (what == 0) {
                spoil(map);
            } else if (what < 4) {
                code = nx_mpsc_put(&one->ring, &code, nx_test_random(&seed) % 5);
            } else if (what == 4) {
                code = nx_ring_map_heal(map, NX_HEAL_FORCE);
                nx_mpsc_read_stats(&map->ring, &stats);
            } else if (what == 5) {
                code = nx_ring_resume_consumer(&map->ring);
            } else {
                code = nx_ring_peek(&map->ring, &got, &size);
                if (code == NX_OK) {
                    CHECK(got + size <= map->ring.data + 2 * 4096);
                    nx_ring_release(&map->ring, size);
                }
            }
            corrupt += code == NX_ECORRUPT;
        }
        nx_ring_map_destroy(one);
        nx_ring_map_destroy(map);
    }
    CHECK(corrupt > 1000);
}

typedef struct message {
    uint64_t producer;
    uint64_t number;
    uint64_t check;
    uint8_t rest[64];
} message;

typedef struct worker {
    const nx_ring_map *map;
    uint64_t index;
} worker;

static void *produce(void *argument)
{
    const worker *my = argument;
    nx_ring_map *map = join(my->map);
    uint64_t state = my->index;

    for (uint64_t number = 0; number < RECORDS;) {
        message text = {.producer = my->index, .number = number, .check = number * 3 + my->index};
        uint64_t size = 24 + nx_test_random(&state) % 64;
        if (nx_mpsc_put(&map->ring, &text, size) == NX_OK) {
            nx_ring_map_notify(map);
            number++;
        } else {
            sched_yield();
        }
    }
    nx_ring_map_destroy(map);
    return NULL;
}

static void test_threads_keep_the_order_of_each_producer(void)
{
    nx_ring_map *map = make(1 << 14);
    pthread_t threads[PRODUCERS];
    worker workers[PRODUCERS];
    uint64_t next[PRODUCERS] = {0};
    uint64_t bad = 0;
    const uint8_t *got;
    uint32_t size;

    for (uint64_t i = 0; i < PRODUCERS; i++) {
        workers[i] = (worker){map, i};
        CHECK(pthread_create(&threads[i], NULL, produce, &workers[i]) == 0);
    }
    for (uint64_t seen = 0; seen < PRODUCERS * RECORDS;) {
        message text;
        if (nx_ring_peek(&map->ring, &got, &size) != NX_OK) {
            CHECK_EQ(nx_ring_map_wait(map, 5000000000ll), NX_OK);
            continue;
        }
        memcpy(&text, got, 24);
        nx_ring_release(&map->ring, size);
        seen++;
        if (text.producer >= PRODUCERS || text.number != next[text.producer]++ ||
            text.check != text.number * 3 + text.producer) {
            bad++;
        }
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(bad, 0);
    nx_ring_map_destroy(map);
}

NX_NOINLINE void bench_mpsc_put(nx_ring *ring, const uint8_t *payload);
NX_NOINLINE void bench_mpsc_put(nx_ring *ring, const uint8_t *payload)
{
    for (int i = 0; i < 1024; i++) {
        NX_ASSERT(nx_mpsc_put(ring, payload, 64) == NX_OK);
    }
}

static int bench(void)
{
    nx_ring_map *map = make(1 << 17);
    nx_ring_map *one = join(map);
    uint8_t payload[64] = {1};

    bench_mpsc_put(&one->ring, payload);
    nx_ring_map_destroy(one);
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
    fflush(stdout); /* children must not print it again */
    test_claims_commit_in_any_order();
    test_padding_is_skipped();
    for (int step = 0; step <= 3; step++) {
        kill_after(step, dead_owner());
    }
    test_a_claim_in_flight_keeps_its_slot();
    test_new_consumer_clears_what_the_dead_one_left();
    test_hostile_bytes_never_leave_the_mapping();
    test_threads_keep_the_order_of_each_producer();
    TEST_MAIN_END();
}
