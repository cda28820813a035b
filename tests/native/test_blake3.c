// SPDX-License-Identifier: Apache-2.0
/* nx_blake3.h: golden digests, every level and every lane count against the scalar code. */
#include "nx_blake3.h"

#include "../../nexus/_core/csrc/nx_blake3_kernels.h"
#include "golden_hash.h"
#include "nx_test.h"

#include <string.h>

/* The same kernel source at each width, lowered by the compiler to the baseline: this is how
 * the 16 lanes are proved on CPUs without 512-bit vectors. */
#define NX_B3_LANES   16
#define NX_B3_NAME(x) lowered16_##x
#define NX_B3_TARGET
#define NX_B3_BYTES 0
#include "../../nexus/_core/csrc/nx_blake3_lanes.h"
#define NX_B3_LANES   8
#define NX_B3_NAME(x) lowered8_##x
#define NX_B3_TARGET
#define NX_B3_BYTES 0
#include "../../nexus/_core/csrc/nx_blake3_lanes.h"
#define NX_B3_LANES   4
#define NX_B3_NAME(x) lowered4_##x
#define NX_B3_TARGET
#define NX_B3_BYTES 0
#include "../../nexus/_core/csrc/nx_blake3_lanes.h"

#define SIZE_MAX_TESTED (300u * 1024)

static uint8_t data[SIZE_MAX_TESTED];
static nx_blake3_mode plain;

static bool same(const uint8_t *a, const uint8_t *b, size_t size)
{
    return memcmp(a, b, size) == 0;
}

static void test_golden(void)
{
    nx_blake3_mode keyed, derived;
    uint8_t key[32], got[32];

    for (uint8_t i = 0; i < 32; i++) {
        key[i] = i;
    }
    nx_blake3_mode_keyed(key, &keyed);
    nx_blake3_mode_derive(golden_context, strlen(golden_context), &derived);
    for (size_t i = 0; i < NX_ARRAY_COUNT(golden); i++) {
        const struct golden *g = &golden[i];
        nx_blake3_digest(&plain, data, g->size, got, sizeof got);
        CHECK(same(got, g->blake3, sizeof got));
        nx_blake3_digest(&keyed, data, g->size, got, sizeof got);
        CHECK(same(got, g->keyed, sizeof got));
        nx_blake3_digest(&derived, data, g->size, got, sizeof got);
        CHECK(same(got, g->derived, sizeof got));
    }
}

static void test_lengths_against_scalar(nx_simd level, uint64_t *seed)
{
    size_t step = 1;

    for (size_t size = 0; size <= 70u * 1024; size += step) {
        uint8_t want[200], got[200];
        size_t out = 1 + nx_test_random(seed) % sizeof want;
        nx_blake3_select(NX_SIMD_SCALAR);
        nx_blake3_digest(&plain, data, size, want, out);
        nx_blake3_select(level);
        nx_blake3_digest(&plain, data, size, got, out);
        CHECK(same(got, want, out));
        step = size < 70 ? 1 : 1 + nx_test_random(seed) % 333;
    }
}

static void test_streaming(uint64_t *seed)
{
    static const size_t sizes[] = {0, 1, 64, 1023, 1024, 1025, 2048, 5000, 41288, 262144, 270000};

    for (size_t i = 0; i < NX_ARRAY_COUNT(sizes); i++) {
        uint8_t want[64], got[64];
        nx_blake3_digest(&plain, data, sizes[i], want, sizeof want);
        for (int round = 0; round < 8; round++) {
            nx_blake3_hasher hasher;
            uint64_t most = (uint64_t)1 << (2 * (unsigned)round + 3);
            nx_blake3_init(&plain, &hasher);
            for (size_t done = 0; done < sizes[i];) {
                size_t take = nx_test_random(seed) % most;
                take = take < sizes[i] - done ? take : sizes[i] - done;
                nx_blake3_update(&hasher, data + done, take);
                done += take;
            }
            nx_blake3_finish(&hasher, got, sizeof got);
            CHECK(same(got, want, sizeof got));
            nx_blake3_finish(&hasher, got, 20);
            CHECK(same(got, want, 20));
        }
    }
}

static void test_many(uint64_t *seed)
{
    enum { COUNT = 333 };
    static const void *inputs[COUNT];
    static size_t sizes[COUNT];
    static uint8_t got[COUNT * 32];

    for (size_t i = 0; i < COUNT; i++) {
        uint64_t kind = nx_test_random(seed) % 10;
        uint64_t most = kind < 5 ? 1025 : kind < 9 ? 6000 : 290000;
        sizes[i] = nx_test_random(seed) % most;
        inputs[i] = data + nx_test_random(seed) % (SIZE_MAX_TESTED - sizes[i]);
    }
    nx_blake3_many(&plain, inputs, sizes, COUNT, got);
    for (size_t i = 0; i < COUNT; i++) {
        uint8_t want[32];
        nx_blake3_digest(&plain, inputs[i], sizes[i], want, 32);
        CHECK(same(got + 32 * i, want, 32));
    }
}

static void scalar_leaf(const nx_blake3_mode *mode, const nx_blake3_batch *batch, unsigned lane,
                        uint8_t *ret)
{
    uint32_t cv[8], size = batch->size[lane], start = NX_BLAKE3_CHUNK_START;
    const uint8_t *at = batch->data[lane];
    uint8_t last[64] = {0};

    memcpy(cv, mode->key, sizeof cv);
    for (; size > 64; size -= 64, at += 64, start = 0) {
        nx_blake3_compress_scalar(cv, at, 64, batch->counter[lane], mode->flags | start);
    }
    memcpy(last, at, size);
    nx_blake3_compress_scalar(cv, last, size, batch->counter[lane],
                              mode->flags | start | NX_BLAKE3_CHUNK_END | batch->flags_end[lane]);
    memcpy(ret, cv, 32);
}

/* One width: ragged and uniform leaves with scattered counters, and parents. */
static void test_kernel(unsigned lanes, nx_blake3_leaves_kernel *leaves,
                        nx_blake3_parents_kernel *parents, uint64_t *seed)
{
    nx_blake3_mode mode = {{1, 2, 3, 4, 5, 6, 7, 0xffffffff}, NX_BLAKE3_KEYED_HASH};
    uint8_t got[32 * 16], want[32];

    for (int round = 0; round < 60; round++) {
        nx_blake3_batch batch;
        bool uniform = round % 2 == 0;
        for (unsigned i = 0; i < lanes; i++) {
            batch.size[i] = uniform ? 1024 : (uint32_t)(nx_test_random(seed) % 1025);
            batch.flags_end[i] = uniform || nx_test_random(seed) % 2 ? 0 : NX_BLAKE3_ROOT;
            batch.counter[i] = nx_test_random(seed) >> (nx_test_random(seed) % 64);
            batch.data[i] = data + nx_test_random(seed) % (SIZE_MAX_TESTED - 1024);
        }
        leaves(&batch, &mode, uniform, got);
        for (unsigned i = 0; i < lanes; i++) {
            scalar_leaf(&mode, &batch, i, want);
            CHECK(same(got + 32 * i, want, 32));
        }
        const uint8_t *cvs = batch.data[0];
        parents(cvs, &mode, got);
        for (unsigned i = 0; i < lanes; i++) {
            uint32_t cv[8];
            memcpy(cv, mode.key, sizeof cv);
            nx_blake3_compress_scalar(cv, cvs + 64 * i, 64, 0, mode.flags | NX_BLAKE3_PARENT);
            CHECK(memcmp(got + 32 * i, cv, 32) == 0);
        }
    }
}

static void test_compress(const nx_blake3_kernels *kernels, uint64_t *seed)
{
    for (int round = 0; round < 1000; round++) {
        uint32_t a[8], b[8];
        uint64_t counter = nx_test_random(seed);
        uint32_t size = (uint32_t)(nx_test_random(seed) % 65), flags = (uint32_t)round % 128;
        const uint8_t *block = data + nx_test_random(seed) % 4096;
        for (int i = 0; i < 8; i++) {
            a[i] = b[i] = (uint32_t)nx_test_random(seed);
        }
        nx_blake3_compress_scalar(a, block, size, counter, flags);
        kernels->compress(b, block, size, counter, flags);
        CHECK(memcmp(a, b, sizeof a) == 0);
    }
}

static void test_demands(void)
{
    nx_simd level = (nx_simd)77;

    CHECK_EQ(nx_simd_demand("avx1024", &level), NX_SIMD_UNKNOWN_NAME);
    CHECK_EQ(nx_simd_demand("", &level), NX_SIMD_UNKNOWN_NAME);
#if defined(__aarch64__)
    CHECK_EQ(nx_simd_demand("avx2", &level), NX_SIMD_NOT_BUILT);
#else
    CHECK_EQ(nx_simd_demand("neon", &level), NX_SIMD_NOT_BUILT);
#endif
    CHECK_EQ(level, 77);
    CHECK_EQ(nx_simd_demand("scalar", &level), NX_SIMD_GRANTED);
    CHECK_EQ(level, NX_SIMD_SCALAR);
}

#if defined(__x86_64__)
/* The compiler's own idea of this CPU. */
static void test_levels_are_those_that_the_compiler_finds(void)
{
    __builtin_cpu_init();
    bool sse = __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("sse4.2") &&
               __builtin_cpu_supports("pclmul");
    bool avx2 = sse && __builtin_cpu_supports("avx2");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    nx_simd level;

    CHECK_EQ(nx_simd_demand("sse41", &level) == NX_SIMD_GRANTED, sse);
    CHECK_EQ(nx_simd_demand("avx2", &level) == NX_SIMD_GRANTED, avx2);
    CHECK_EQ(nx_simd_demand("avx512", &level) == NX_SIMD_GRANTED, avx512);
}
#endif

NX_NOINLINE void bench_blake3_41k(void);
NX_NOINLINE void bench_blake3_41k(void)
{
    static uint8_t out[32];

    nx_blake3_digest(&plain, data, 41256, out, sizeof out);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 && strcmp(argv[1], "bench") != 0 ? strtoull(argv[1], NULL, 0) : 1;
    nx_simd demanded;

    nx_blake3_mode_hash(&plain);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i % 251);
    }
    if (nx_simd_demand(getenv("NEXUS_SIMD"), &demanded) != NX_SIMD_GRANTED) {
        fprintf(stderr, "NEXUS_SIMD cannot be granted\n");
        return 2;
    }
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_blake3_select(demanded);
        bench_blake3_41k();
        return 0;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    test_demands();
#if defined(__x86_64__)
    test_levels_are_those_that_the_compiler_finds();
#endif
    for (int level = 0; level <= NX_SIMD_NEON; level++) {
        nx_simd granted;
        if (nx_simd_demand(nx_simd_name((nx_simd)level), &granted) != NX_SIMD_GRANTED) {
            printf("not run on this CPU: %s\n", nx_simd_name((nx_simd)level));
            continue;
        }
        const nx_blake3_kernels *kernels = nx_blake3_kernels_of(granted);
        printf("level %s\n", nx_simd_name(granted));
        test_compress(kernels, &seed);
        for (const nx_blake3_wide *w = kernels->wide; w->lanes != 0; w++) {
            test_kernel(w->lanes, w->leaves, w->parents, &seed);
        }
        nx_blake3_select(granted);
        test_golden();
        test_streaming(&seed);
        test_many(&seed);
        if (granted != NX_SIMD_SCALAR) {
            test_lengths_against_scalar(granted, &seed);
        }
    }
    test_kernel(4, lowered4_leaves, lowered4_parents, &seed);
    test_kernel(8, lowered8_leaves, lowered8_parents, &seed);
    test_kernel(16, lowered16_leaves, lowered16_parents, &seed);
    TEST_MAIN_END();
}
