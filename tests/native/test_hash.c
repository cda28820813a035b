// SPDX-License-Identifier: Apache-2.0
/* nx_xxhash.h, nx_crc32c.h, nx_siphash.h: golden values, and every level against scalar. */
#include "nx_crc32c.h"
#include "nx_siphash.h"
#include "nx_xxhash.h"

#include "../../nexus/_core/csrc/nx_crc32c_table.h"
#include "golden_hash.h"
#include "nx_test.h"

#include <string.h>

#define SIZE (300u * 1024)

static uint8_t data[SIZE];

static void test_golden(void)
{
    uint8_t key[16], got[8];

    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
    }
    for (size_t i = 0; i < NX_ARRAY_COUNT(golden); i++) {
        const struct golden *g = &golden[i];
        CHECK(nx_xxh3_64(data, g->size, 0) == g->xxh3);
        CHECK(nx_xxh3_64(data, g->size, golden_seed) == g->xxh3_seeded);
        CHECK(nx_xxh64(data, g->size, 0) == g->xxh64);
        CHECK(nx_xxh64(data, g->size, golden_seed) == g->xxh64_seeded);
        CHECK(nx_crc32c(0, data, g->size) == g->crc32c);
        nx_store_u64(got, nx_siphash_24(key, data, g->size));
        CHECK(memcmp(got, g->siphash24, 8) == 0);
        nx_store_u64(got, nx_siphash_13(key, data, g->size));
        CHECK(memcmp(got, g->siphash13, 8) == 0);
    }
}

/* The first values of the table in the appendix of the SipHash paper's reference code: key and
 * input are 0, 1, 2, ... */
static void test_siphash_128(void)
{
    static const uint8_t want_empty[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                           0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    static const uint8_t want_one[16] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44,
                                         0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    uint8_t key[16], got[16];

    for (uint8_t i = 0; i < 16; i++) {
        key[i] = i;
    }
    nx_siphash_24_128(key, data, 0, got);
    CHECK(memcmp(got, want_empty, 16) == 0);
    nx_siphash_24_128(key, data, 1, got);
    CHECK(memcmp(got, want_one, 16) == 0);
}

static void test_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int k = 0; k < 8; k++) {
            for (int bit = 0; bit < 8; bit++) {
                crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
            }
            CHECK(nx_crc32c_table[k][i] == crc);
        }
    }
}

static void test_level(nx_simd level, uint64_t *seed)
{
    for (int round = 0; round < 1500; round++) {
        size_t size = nx_test_random(seed) % (round % 10 == 0 ? 60000 : 2000);
        const uint8_t *at = data + nx_test_random(seed) % 1000;
        uint64_t key = round % 3 == 0 ? 0 : nx_test_random(seed);
        size_t split = size == 0 ? 0 : nx_test_random(seed) % size;
        nx_xxh3_select(NX_SIMD_SCALAR);
        nx_crc32c_select(NX_SIMD_SCALAR);
        uint64_t want = nx_xxh3_64(at, size, key);
        uint32_t crc = nx_crc32c((uint32_t)key, at, size);
        nx_xxh3_select(level);
        nx_crc32c_select(level);
        CHECK(nx_xxh3_64(at, size, key) == want);
        CHECK(nx_crc32c((uint32_t)key, at, size) == crc);
        CHECK(nx_crc32c(nx_crc32c((uint32_t)key, at, split), at + split, size - split) == crc);
    }
}

static uint64_t sink;
static uint8_t sip_key[16];

NX_NOINLINE void bench_xxh3_64k(void);
NX_NOINLINE void bench_xxh3_64k(void)
{
    sink += nx_xxh3_64(data, 65536, 0);
}

NX_NOINLINE void bench_xxh64_64(void);
NX_NOINLINE void bench_xxh64_64(void)
{
    for (size_t i = 0; i < 1024; i++) {
        sink += nx_xxh64(data + 64 * i, 56, 0);
    }
}

NX_NOINLINE void bench_crc32c_64k(void);
NX_NOINLINE void bench_crc32c_64k(void)
{
    sink += nx_crc32c(0, data, 65536);
}

NX_NOINLINE void bench_siphash_32(void);
NX_NOINLINE void bench_siphash_32(void)
{
    for (size_t i = 0; i < 1024; i++) {
        sink += nx_siphash_24(sip_key, data + 32 * i, 32);
    }
}

int main(int argc, char **argv)
{
    bool bench = argc > 1 && strcmp(argv[1], "bench") == 0;
    uint64_t seed = argc > 1 && !bench ? strtoull(argv[1], NULL, 0) : 1;
    nx_simd level;

    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i % 251);
    }
    if (nx_simd_demand(getenv("NEXUS_SIMD"), &level) != NX_SIMD_GRANTED) {
        fprintf(stderr, "NEXUS_SIMD cannot be granted\n");
        return 2;
    }
    if (bench) {
        nx_xxh3_select(level);
        nx_crc32c_select(level);
        bench_xxh3_64k();
        bench_xxh64_64();
        bench_crc32c_64k();
        bench_siphash_32();
        return sink == 0;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    test_crc_table();
    test_siphash_128();
    for (int i = 0; i <= NX_SIMD_NEON; i++) {
        if (nx_simd_demand(nx_simd_name((nx_simd)i), &level) != NX_SIMD_GRANTED) {
            printf("not run on this CPU: %s\n", nx_simd_name((nx_simd)i));
            continue;
        }
        nx_xxh3_select(level);
        nx_crc32c_select(level);
        test_golden();
        test_level(level, &seed);
    }
    TEST_MAIN_END();
}
