// SPDX-License-Identifier: Apache-2.0
/*
 * Producers and consumers killed at random moments: the survivor never waits longer than a second
 * and never sees a torn, lost or doubled record. Two broken rings are the canaries: a commit before
 * the payload, and a consumer that does not repair. Usage: test_ring_kill [kills [seed]]
 */
#include "nx_ring_map.h"
#include "nx_test.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PRODUCERS         3
#define INCARNATIONS_MAX  65536
#define PATIENCE_NS       1000000000ll
#define PAYLOAD_WORDS_MAX 128

/* What parent and children share beside the ring. */
typedef struct board {
    _Atomic uint64_t consumed;
    _Atomic uint64_t bad;
    _Atomic uint64_t last[INCARNATIONS_MAX]; /* number after the newest one seen, by incarnation */
} board;

typedef enum fault { SOUND, COMMIT_FIRST, NO_REPAIR } fault;

/* How long the survivor may go without a record; an emulator needs most of a second for a fork. */
static int64_t patience_ns = PATIENCE_NS;
static uint64_t seed;
static board *shared;
static nx_ring_map *map;

static uint64_t mix(uint64_t x)
{
    return nx_test_random(&x);
}

/* Words of a record: incarnation, number, chained noise, and a last word that seals the rest. */
static uint64_t words_of(uint64_t number)
{
    return 3 + mix(number) % (PAYLOAD_WORDS_MAX - 3);
}

static void fill(uint8_t *place, uint64_t incarnation, uint64_t number)
{
    uint64_t words = words_of(number);
    uint64_t chain = mix(incarnation) ^ number;

    nx_store_u64(place, incarnation);
    nx_store_u64(place + 8, number);
    for (uint64_t i = 2; i < words; i++) {
        chain = mix(chain);
        nx_store_u64(place + 8 * i, chain);
        for (volatile int delay = 0; delay < 20; delay++) {
            /* slower than the consumer, so that kills find records half written */
        }
    }
}

static bool is_whole(const uint8_t *place, uint32_t size)
{
    uint64_t number = nx_load_u64(place + 8);
    uint64_t chain = mix(nx_load_u64(place)) ^ number;

    if (size != 8 * words_of(number)) {
        return false;
    }
    for (uint64_t i = 2; i < size / 8; i++) {
        chain = mix(chain);
        if (nx_load_u64(place + 8 * i) != chain) {
            return false;
        }
    }
    return true;
}

/* One record with the payload written in place, as long as possible between claim and commit. */
static bool produce_one(nx_ring_map *own, uint64_t incarnation, uint64_t number, fault how)
{
    nx_ring *ring = &own->ring;
    uint64_t size = 8 * words_of(number);
    uint64_t at;
    uint8_t *place;

    if (ring->kind == NX_RING_MPSC) {
        uint64_t bytes = nx_ring_occupied(size);
        if (nx_mpsc_claim(ring, bytes, 1, &at) != NX_OK) {
            return false;
        }
        fill(nx_mpsc_place(ring, at), incarnation, number);
        nx_mpsc_commit(ring, at, bytes, size);
    } else {
        if (nx_ring_reserve(ring, size, &place) != NX_OK) {
            return false;
        }
        if (how == COMMIT_FIRST) {
            nx_ring_commit(ring, size);
        }
        fill(place, incarnation, number);
        if (how != COMMIT_FIRST) {
            nx_ring_commit(ring, size);
        }
    }
    nx_ring_map_notify(own);
    return true;
}

/* Verifies and consumes one record, if there is one. */
static bool consume_one(nx_ring_map *own)
{
    const uint8_t *got;
    uint32_t size;
    int code = nx_ring_peek(&own->ring, &got, &size);

    if (code == NX_ECORRUPT) {
        shared->bad++;
    }
    if (code != NX_OK) {
        return false;
    }
    uint64_t incarnation = nx_load_u64(got);
    uint64_t number = nx_load_u64(got + 8);
    if (!is_whole(got, size) || incarnation >= INCARNATIONS_MAX) {
        shared->bad++;
        return false;
    }
    uint64_t next = shared->last[incarnation];
    /* The one before again: its consumer was killed after the note and before the release. */
    if (number != next && number + 1 != next) {
        shared->bad++;
    }
    if (own->ring.kind == NX_RING_SPSC && number != own->ring.records_out) {
        shared->bad++;
    }
    shared->last[incarnation] = number + 1;
    nx_ring_release(&own->ring, size);
    shared->consumed++;
    return true;
}

static pid_t start(void (*body)(nx_ring_map *own, uint64_t incarnation, fault how),
                   uint64_t incarnation, fault how)
{
    pid_t parent = getpid();
    fflush(stdout);
    pid_t child = fork();

    if (child == 0) {
        nx_ring_map *own;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1); /* the parent died before the line above */
        }
        if (nx_ring_map_attach(map->fd, false, &own) == NX_OK) {
            body(own, incarnation, how);
        }
        shared->bad++;
        _exit(1);
    }
    return child;
}

static void producer_body(nx_ring_map *own, uint64_t incarnation, fault how)
{
    if (nx_ring_map_take_producer(own, false) != NX_OK) {
        return;
    }
    bool many = own->ring.kind == NX_RING_MPSC;
    for (uint64_t number = 0;;) {
        /* SPSC: the ring itself knows how many were committed before, killed or not. */
        uint64_t mine = many ? number : own->ring.records_in;
        if (produce_one(own, incarnation, mine, how)) {
            number++;
        } else {
            sched_yield();
        }
    }
}

static void consumer_body(nx_ring_map *own, uint64_t incarnation, fault how)
{
    (void)incarnation;
    (void)how;
    if (nx_ring_map_take_consumer(own, false) != NX_OK) {
        return;
    }
    for (;;) {
        if (!consume_one(own)) {
            sched_yield();
        }
    }
}

static void end(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
}

/* Consumes for `ns`, or until one more record came when `ns` is 0; false after the patience. */
static bool consume_for(int64_t ns, fault how)
{
    int64_t begin = nx_ring_map_clock();
    int64_t newest = begin;

    for (;;) {
        int64_t now = nx_ring_map_clock();
        bool got = consume_one(map);
        if (got) {
            newest = now;
        } else {
            if (how != NO_REPAIR) {
                nx_ring_map_heal(map, 0);
            }
            if (nx_ring_map_wait(map, 200000) == NX_ESYS) {
                return false;
            }
        }
        if ((ns == 0 && got) || (ns != 0 && now - begin >= ns)) {
            return true;
        }
        if (now - newest > (how == SOUND ? patience_ns : patience_ns / 5)) {
            return false;
        }
    }
}

static int64_t random_moment(void)
{
    return (int64_t)(nx_test_random(&seed) % 300000) + 1;
}

/* Producers die, this process consumes. Returns false when it waited too long. */
static bool kill_producers(uint8_t kind, uint64_t kills, fault how)
{
    pid_t children[PRODUCERS];
    uint64_t count = kind == NX_RING_MPSC ? PRODUCERS : 1;
    uint64_t incarnation = 0;
    bool in_time = true;

    NX_ASSERT(nx_ring_map_take_consumer(map, false) == NX_OK);
    for (uint64_t i = 0; i < count; i++) {
        children[i] = start(producer_body, kind == NX_RING_MPSC ? incarnation++ : 0, how);
    }
    for (uint64_t i = 0; i < kills && in_time && shared->bad == 0; i++) {
        uint64_t victim = nx_test_random(&seed) % count;
        in_time = consume_for(0, how) && consume_for(random_moment(), how);
        end(children[victim]);
        children[victim] = start(producer_body, kind == NX_RING_MPSC ? incarnation++ : 0, how);
    }
    for (uint64_t i = 0; i < count; i++) {
        end(children[i]);
    }
    if (kind == NX_RING_SPSC && how == SOUND) {
        /* The last one may have died before it counted; the next one finds out. */
        CHECK_EQ(nx_ring_map_take_producer(map, false), NX_OK);
    }
    while (consume_one(map)) {
    }
    return in_time;
}

/* Consumers die, this process produces; with many producers another child does so too. */
static bool kill_consumers(uint8_t kind, uint64_t kills)
{
    uint64_t number = 0;
    bool in_time = true;
    pid_t other = kind == NX_RING_MPSC ? start(producer_body, 1, SOUND) : 0;

    NX_ASSERT(nx_ring_map_take_producer(map, false) == NX_OK);
    for (uint64_t i = 0; i < kills && in_time && shared->bad == 0; i++) {
        uint64_t before = shared->consumed;
        int64_t begin = nx_ring_map_clock();
        int64_t until = 0;
        pid_t victim = start(consumer_body, 0, SOUND);
        for (;;) {
            int64_t now = nx_ring_map_clock();
            if (produce_one(map, 0, number, SOUND)) {
                number++;
            } else {
                sched_yield();
            }
            if (until == 0 && shared->consumed != before) {
                until = now + random_moment();
            }
            if (until != 0 ? now >= until : now - begin > patience_ns) {
                in_time = until != 0;
                break;
            }
        }
        end(victim);
    }
    if (other != 0) {
        end(other);
    }
    return in_time;
}

static void run(const char *name, uint8_t kind, bool producers, uint64_t kills, fault how)
{
    nx_ring_stats stats;
    int64_t begin = nx_ring_map_clock();

    memset(shared, 0, sizeof *shared);
    NX_ASSERT(nx_ring_map_create(1 << 14, kind, 0, &map) == NX_OK);
    bool in_time = producers ? kill_producers(kind, kills, how) : kill_consumers(kind, kills);
    nx_ring_map_read_stats(map, &stats);
    printf("%s: %llu kills, %llu records, %llu bad, %llu repaired, in time %d, %.1f s\n", name,
           (unsigned long long)kills, (unsigned long long)shared->consumed,
           (unsigned long long)shared->bad, (unsigned long long)stats.losses, in_time,
           (double)(nx_ring_map_clock() - begin) * 1e-9);
    if (how == SOUND) {
        CHECK_EQ(shared->bad, 0);
        CHECK(in_time);
        CHECK(shared->consumed >= kills);
        if (kind == NX_RING_MPSC && producers && kills >= 200) {
            CHECK(stats.losses > 0); /* else no kill hit a claim, and nothing was tested */
        }
        if (kind == NX_RING_SPSC && producers) {
            CHECK_EQ(stats.waiting, 0);
            CHECK_EQ(stats.records_in, shared->consumed);
        }
    } else {
        CHECK(shared->bad > 0 || !in_time);
    }
    nx_ring_map_destroy(map);
}

int main(int argc, char **argv)
{
    uint64_t kills = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)nx_ring_map_clock();
    printf("to repeat: test_ring_kill %llu %llu\n", (unsigned long long)kills,
           (unsigned long long)seed);
    if (getenv("MESON_EXE_WRAPPER") != NULL) {
        patience_ns = 20 * PATIENCE_NS;
        printf("emulated: the bound of one second is not checked here, 20 seconds are\n");
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NX_ASSERT(shared != MAP_FAILED && kills / 4 + PRODUCERS < INCARNATIONS_MAX);
    run("producer of one", NX_RING_SPSC, true, kills / 4, SOUND);
    run("consumer of one", NX_RING_SPSC, false, kills / 4, SOUND);
    run("producers of many", NX_RING_MPSC, true, kills / 4, SOUND);
    run("consumer of many", NX_RING_MPSC, false, kills / 4, SOUND);
    /* A canary ends at the first kill that hit; how many that takes is chance. */
    run("canary: commit before payload", NX_RING_SPSC, true, 50000, COMMIT_FIRST);
    run("canary: no repair", NX_RING_MPSC, true, INCARNATIONS_MAX - PRODUCERS, NO_REPAIR);
    TEST_MAIN_END();
}
