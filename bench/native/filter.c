// SPDX-License-Identifier: Apache-2.0
/*
 * Cell filter against one-by-one checks, interleaved; prints one JSON object of nanoseconds per
 * packet: {"name": [round, ...]}. Arguments: number of ids, rounds, stride of the packets.
 */
#include "nx_filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* 4 MiB of 64-byte packets: they touch every line of the bitmap, and stay in the last cache like
 * the buffers of a network card do. */
#define PACKETS (1u << 16)

static uint64_t state = 1;

static uint64_t random64(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double batches(const nx_filter_table *table, const uint8_t *packets, size_t stride)
{
    uint64_t passed = 0;
    double start = now_ns();

    for (size_t at = 0; at < PACKETS; at += NX_FILTER_BATCH) {
        uint64_t verdict =
            nx_filter_table_batch(table, packets + at * stride, stride, NX_FILTER_BATCH);
        passed += (uint64_t)__builtin_popcountll(verdict);
    }
    double elapsed = now_ns() - start;
    if (passed != 0 && passed != PACKETS) {
        abort();
    }
    return elapsed / PACKETS;
}

static double singles(const nx_filter_table *table, const uint8_t *packets, size_t stride)
{
    uint64_t passed = 0;
    double start = now_ns();

    for (size_t at = 0; at < PACKETS; at++) {
        passed += nx_filter_table_has(table, packets + at * stride);
    }
    double elapsed = now_ns() - start;
    if (passed != 0 && passed != PACKETS) {
        abort();
    }
    return elapsed / PACKETS;
}

/* Traffic of one kind lasts: the first pass brings into the caches what the others threw out. */
static double steady(double (*pass)(const nx_filter_table *, const uint8_t *, size_t),
                     const nx_filter_table *table, const uint8_t *packets, size_t stride)
{
    (void)pass(table, packets, stride);
    return pass(table, packets, stride);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 9;
    size_t stride = argc > 3 ? strtoull(argv[3], NULL, 10) : 64;
    nx_cell_id *ids = malloc(count * sizeof *ids);
    uint8_t *hits = calloc(PACKETS, stride);
    uint8_t *drops = calloc(PACKETS, stride);
    const uint64_t key[2] = {random64(), random64()};
    nx_filter_table *table = NULL;
    static const char *const names[] = {"drops", "hits", "naive_drops", "naive_hits"};
    static double results[4][256];

    if (ids == NULL || hits == NULL || drops == NULL || rounds > 256 || stride < 16) {
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        ids[i] = (nx_cell_id){random64(), random64()};
    }
    if (nx_filter_table_create((const uint8_t *)ids, sizeof *ids, count, key, &table) != NX_OK) {
        return 1;
    }
    for (size_t i = 0; i < PACKETS; i++) {
        nx_cell_id stranger = {random64(), random64()};
        memcpy(hits + i * stride, &ids[random64() % count], sizeof *ids);
        memcpy(drops + i * stride, &stranger, sizeof stranger);
    }
    for (unsigned round = 0; round < rounds; round++) {
        results[0][round] = steady(batches, table, drops, stride);
        results[1][round] = steady(batches, table, hits, stride);
        results[2][round] = steady(singles, table, drops, stride);
        results[3][round] = steady(singles, table, hits, stride);
    }
    printf("{\"bytes_per_id\": %.3f", (double)table->bytes / (double)count);
    for (unsigned i = 0; i < 4; i++) {
        printf(", \"%s\": [", names[i]);
        for (unsigned round = 0; round < rounds; round++) {
            printf("%s%.4f", round ? ", " : "", results[i][round]);
        }
        printf("]");
    }
    printf("}\n");
    return 0;
}
