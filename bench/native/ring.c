// SPDX-License-Identifier: Apache-2.0
/*
 * Rings between two pinned processes, interleaved; prints one JSON object of nanoseconds per
 * record: {"name": [round, ...]}. Argument: rounds. Latency is half a round trip of one record
 * there and one back, throughput one stream until its last record has arrived. A round keeps the
 * best of its repeats for each case: a slice of the scheduler is 100 times longer than a case.
 */
#include "nx_ring_bulk.h"
#include "nx_ring_map.h"
#include "nx_ring_slot.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TRIPS      500u
#define STREAM     (64u * 500u)
#define REPEATS    8u
#define COUNT      4096u
#define BATCH      64u
#define ROUNDS_MAX 1000u

size_t boost_bytes(void);
void boost_make(void *place);
void boost_push(void *place, uint64_t count);
uint64_t boost_pop(void *place, uint64_t count);

typedef struct large {
    uint64_t words[7];
} large;

/* What both processes see. Lines that bounce are 128 bytes apart. */
typedef struct arena {
    NX_ALIGNED(128) _Atomic uint64_t raw;
    NX_ALIGNED(128) _Atomic uint64_t order; /* number of the task that the partner shall do */
    NX_ALIGNED(128) _Atomic uint64_t done;
    NX_ALIGNED(128) uint8_t slots[4][NX_SLOT_CONTROL_BYTES + COUNT * 64];
    NX_ALIGNED(128) uint8_t boost[1 << 18];
} arena;

static arena *shared;
static nx_slot_ring near8, far8, near56, far56, stream8;
static nx_bulk_ring bulk;
static nx_ring_map *near_map, *far_map;

static void raw_trip(bool first)
{
    for (uint64_t i = 0; i < TRIPS; i++) {
        uint64_t mine = 2 * i + (first ? 0 : 1);
        while (atomic_load_explicit(&shared->raw, memory_order_acquire) != mine) {
            nx_compiler_barrier();
        }
        atomic_store_explicit(&shared->raw, mine + 1, memory_order_release);
    }
}

static void slot8_trip(nx_slot_ring *out, nx_slot_ring *in, bool first)
{
    uint64_t item = 0;

    if (first) {
        NX_ASSERT(nx_slot_push(out, &item, sizeof item) == NX_OK);
    }
    for (uint64_t i = 0; i < TRIPS; i++) {
        while (nx_slot_pop(in, &item, sizeof item) != NX_OK) {
            nx_compiler_barrier();
        }
        if (!first || i + 1 < TRIPS) {
            NX_ASSERT(nx_slot_push(out, &item, sizeof item) == NX_OK);
        }
    }
}

static void slot56_trip(nx_slot_ring *out, nx_slot_ring *in, bool first)
{
    large item = {{0}};

    if (first) {
        NX_ASSERT(nx_slot_push(out, &item, sizeof item) == NX_OK);
    }
    for (uint64_t i = 0; i < TRIPS; i++) {
        while (nx_slot_pop(in, &item, sizeof item) != NX_OK) {
            nx_compiler_barrier();
        }
        if (!first || i + 1 < TRIPS) {
            NX_ASSERT(nx_slot_push(out, &item, sizeof item) == NX_OK);
        }
    }
}

static void ring_send(nx_ring *ring, const void *payload, uint64_t size)
{
    while (nx_ring_put(ring, payload, size) != NX_OK) {
        nx_compiler_barrier();
    }
}

static void ring_take(nx_ring *ring, void *payload)
{
    const uint8_t *got;
    uint32_t size;

    while (nx_ring_peek(ring, &got, &size) != NX_OK) {
        nx_compiler_barrier();
    }
    memcpy(payload, got, size);
    nx_ring_release(ring, size);
}

static void ring_trip(nx_ring *out, nx_ring *in, bool first)
{
    large item = {{0}};

    for (uint64_t i = 0; i < TRIPS; i++) {
        if (first) {
            ring_send(out, &item, sizeof item);
        }
        ring_take(in, &item);
        if (!first) {
            ring_send(out, &item, sizeof item);
        }
    }
}

static void slot_stream(bool first)
{
    for (uint64_t i = 0; i < STREAM; i++) {
        uint64_t value = i;
        while ((first ? nx_slot_push(&stream8, &value, 8) : nx_slot_pop(&stream8, &value, 8)) !=
               NX_OK) {
            nx_compiler_barrier();
        }
    }
}

NX_INLINE void bulk_stream(bool first, uint64_t batch)
{
    uint64_t values[BATCH] = {0};

    for (uint64_t moved = 0; moved < STREAM;) {
        uint64_t left = STREAM - moved;
        uint64_t count = left < batch ? left : batch;
        int64_t taken =
            first ? nx_bulk_push(&bulk, values, count, 8) : nx_bulk_pop(&bulk, values, count, 8);
        if (taken == 0) {
            nx_compiler_barrier();
        }
        moved += (uint64_t)taken;
    }
}

static void do_task(unsigned task, bool first)
{
    switch (task) {
    case 0:
        raw_trip(first);
        break;
    case 1:
        slot8_trip(first ? &near8 : &far8, first ? &far8 : &near8, first);
        break;
    case 2:
        slot56_trip(first ? &near56 : &far56, first ? &far56 : &near56, first);
        break;
    case 3:
        ring_trip(first ? &near_map->ring : &far_map->ring,
                  first ? &far_map->ring : &near_map->ring, first);
        break;
    case 4:
        slot_stream(first);
        break;
    case 5:
        bulk_stream(first, BATCH);
        break;
    case 6:
        bulk_stream(first, 1);
        break;
    default:
        if (first) {
            boost_push(shared->boost, STREAM);
        } else {
            boost_pop(shared->boost, STREAM);
        }
    }
}

static const struct {
    const char *name;
    double records; /* one-way hops or records of one task */
} tasks[] = {
    {"raw cache line, one way", 2.0 * TRIPS}, {"slot ring 8 B, one way", 2.0 * TRIPS},
    {"slot ring 56 B, one way", 2.0 * TRIPS}, {"record ring 56 B, one way", 2.0 * TRIPS},
    {"slot ring 8 B, single", STREAM},        {"bulk ring 8 B, batch of 64", STREAM},
    {"bulk ring 8 B, single", STREAM},        {"boost spsc_queue 8 B, single", STREAM},
};

static void pin(int index)
{
    cpu_set_t allowed;
    cpu_set_t one;

    NX_ASSERT(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    CPU_ZERO(&one);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && seen++ == index) {
            CPU_SET(cpu, &one);
        }
    }
    if (CPU_COUNT(&one) == 0 || sched_setaffinity(0, sizeof one, &one) != 0) {
        fprintf(stderr, "two CPUs are needed\n");
        exit(2);
    }
}

static void open_slots(uint8_t *place, uint32_t bytes, nx_slot_ring *ret)
{
    nx_slot_control *control = (nx_slot_control *)(void *)place;

    NX_ASSERT(nx_slot_format(control, COUNT, bytes) == NX_OK);
    NX_ASSERT(nx_slot_open(control, nx_slot_bytes(COUNT, bytes), ret) == NX_OK);
}

static nx_ring_map *open_ring(void)
{
    nx_ring_map *map = NULL;

    NX_ASSERT(nx_ring_map_create(1 << 16, NX_RING_SPSC, 0, &map) == NX_OK);
    /* Roles are not taken: each process uses one side of the handle that both inherit. */
    NX_ASSERT(nx_ring_resume_producer(&map->ring) == NX_OK);
    NX_ASSERT(nx_ring_resume_consumer(&map->ring) == NX_OK);
    return map;
}

static void open_all(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    NX_ASSERT(shared != MAP_FAILED && boost_bytes() <= sizeof shared->boost);
    boost_make(shared->boost);
    open_slots(shared->slots[0], 16, &near8);
    open_slots(shared->slots[1], 16, &far8);
    open_slots(shared->slots[2], 64, &near56);
    open_slots(shared->slots[3], 64, &far56);
    near_map = open_ring();
    far_map = open_ring();
    /* The streams have memory of their own, after the slots of 16 bytes. */
    uint8_t *rest = shared->slots[0] + nx_slot_bytes(COUNT, 16);
    open_slots(rest, 16, &stream8);
    nx_slot_control *control =
        (nx_slot_control *)(void *)(shared->slots[1] + nx_slot_bytes(COUNT, 16));
    NX_ASSERT(nx_bulk_format(control, COUNT, 8) == NX_OK);
    NX_ASSERT(nx_bulk_open(control, nx_slot_bytes(COUNT, 8), &bulk) == NX_OK);
}

static void partner(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(1);
    for (uint64_t number = 1;; number++) {
        uint64_t order;
        while ((order = atomic_load_explicit(&shared->order, memory_order_acquire)) >> 8 !=
               number) {
            nx_compiler_barrier();
        }
        if ((order & 0xff) == 0xff) {
            _exit(0);
        }
        do_task((unsigned)(order & 0xff), false);
        atomic_store_explicit(&shared->done, number, memory_order_release);
    }
}

static double run(uint64_t number, unsigned task)
{
    atomic_store_explicit(&shared->raw, 0, memory_order_relaxed);
    int64_t start = nx_ring_map_clock();
    atomic_store_explicit(&shared->order, number << 8 | task, memory_order_release);
    do_task(task, true);
    while (atomic_load_explicit(&shared->done, memory_order_acquire) != number) {
        nx_compiler_barrier();
    }
    return (double)(nx_ring_map_clock() - start) / tasks[task].records;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 25;
    unsigned count = NX_ARRAY_COUNT(tasks) - (boost_bytes() == 0);
    static double results[NX_ARRAY_COUNT(tasks)][ROUNDS_MAX];
    uint64_t number = 0;

    NX_ASSERT(rounds >= 1 && rounds <= ROUNDS_MAX);
    open_all();
    pid_t child = fork();
    if (child == 0) {
        partner();
    }
    pin(0);
    for (unsigned round = 0; round <= rounds; round++) {
        for (unsigned repeat = 0; repeat < REPEATS; repeat++) {
            for (unsigned task = 0; task < count; task++) {
                double ns = run(++number, task);
                if (round > 0 && (repeat == 0 || ns < results[task][round - 1])) {
                    results[task][round - 1] = ns; /* round 0 warms up */
                }
            }
        }
    }
    atomic_store_explicit(&shared->order, (number + 1) << 8 | 0xff, memory_order_release);
    for (unsigned task = 0; task < count; task++) {
        printf("%s\"%s\": [", task == 0 ? "{" : ", ", tasks[task].name);
        for (unsigned round = 0; round < rounds; round++) {
            printf("%s%.4f", round ? ", " : "", results[task][round]);
        }
        printf("]");
    }
    printf("}\n");
    return 0;
}
