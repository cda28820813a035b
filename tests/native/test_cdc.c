// SPDX-License-Identifier: Apache-2.0
/* nx_cdc.h against a search written straight from the definition: cuts, hashes, streams, digests,
 * threads, on every SIMD level; and the riding kernels lowered to the baseline. */
#include "nx_blake3.h"
#include "nx_cdc.h"

#include "../../fuzz/plain_nx1.h"
#include "../../nexus/_core/csrc/nx_cdc_gear.h"
#include "../../nexus/_core/csrc/nx_cdc_ride.h"
#include "nx_test.h"

#include <string.h>

#define SIZE (6u << 20)

static uint8_t data[SIZE];

/* The definition, docs/spec/chunker.md: one byte a step, no search state. */
static size_t defined_cut(const nx_cdc *cdc, const uint8_t *chunk, size_t size)
{
    size_t limit = size < cdc->maximum ? size : cdc->maximum;
    uint64_t hash = 0;

    if (size <= cdc->minimum) {
        return size;
    }
    if (cdc->profile == NX_CDC_NX1) {
        return nx1_cut(cdc, chunk, size);
    }
    for (size_t i = cdc->minimum / 2 * 2; i < limit / 2 * 2; i++) {
        hash = 2 * hash + cdc->gear[chunk[i]];
        if ((hash & (i < cdc->average / 2 * 2 ? cdc->strict : cdc->loose)) == 0) {
            return i;
        }
    }
    return limit;
}

static size_t defined_cuts(const nx_cdc *cdc, size_t from, size_t size, uint64_t *ret)
{
    size_t count = 0;

    for (size_t at = 0; at < size; count++) {
        at += defined_cut(cdc, data + from + at, size - at);
        ret[count] = at;
    }
    return count;
}

static void random_chunker(uint64_t *seed, bool small, nx_cdc *ret)
{
    size_t scale =
        small ? 64 + nx_test_random(seed) % 1000 : (size_t)4096 << nx_test_random(seed) % 3;
    size_t average = scale + 200 + nx_test_random(seed) % (4 * scale);
    size_t maximum = average + nx_test_random(seed) % (4 * average);

    maximum = maximum < NX_CDC_MAXIMUM_MIN ? NX_CDC_MAXIMUM_MIN : maximum;
    nx_cdc_profile profile = nx_test_random(seed) % 2 ? NX_CDC_NX1 : NX_CDC_FASTCDC2020;

    CHECK_EQ(nx_cdc_init(profile, scale, average, maximum, (unsigned)(nx_test_random(seed) % 4),
                         nx_test_random(seed) % 2 ? 0 : nx_test_random(seed), ret),
             NX_OK);
}

static uint64_t want[SIZE / 64];
static nx_cdc_cut got[SIZE / 64];

static void test_cuts_and_streams(uint64_t *seed)
{
    for (int round = 0; round < 120; round++) {
        nx_cdc cdc;
        size_t size = nx_test_random(seed) % (round % 2 ? 60000 : 900000);
        size_t from = nx_test_random(seed) % (SIZE - size);
        size_t next, most = (size_t)1 << nx_test_random(seed) % 18;
        random_chunker(seed, round % 2 != 0, &cdc);
        size_t count = defined_cuts(&cdc, from, size, want);
        CHECK_EQ(nx_cdc_cuts(&cdc, data + from, size, 0, SIZE / 64, got, &next), count);
        CHECK_EQ(next, size);
        for (size_t i = 0; i < count; i++) {
            CHECK(got[i].end == want[i]);
        }
        nx_cdc_stream stream;
        nx_cdc_stream_init(&stream);
        size_t found = 0;
        for (size_t at = 0; at < size;) {
            size_t part = 1 + nx_test_random(seed) % most;
            uint64_t cut;
            part = part < size - at ? part : size - at;
            for (size_t used = 0;;) {
                used +=
                    nx_cdc_stream_update(&cdc, &stream, data + from + at + used, part - used, &cut);
                if (cut == 0) {
                    CHECK_EQ(used, part);
                    break;
                }
                CHECK(found < count && want[found] == cut);
                found++;
            }
            at += part;
        }
        CHECK_EQ(nx_cdc_stream_end(&stream), size);
        CHECK_EQ(found + (stream.start < size), count);
    }
}

static void test_digests(uint64_t *seed, nx_simd level)
{
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    nx_cdc_select(level);
    for (int round = 0; round < 60; round++) {
        nx_cdc cdc;
        nx_cdc_list list = {0}, threaded = {0};
        size_t size = nx_test_random(seed) % (round % 2 ? 80000 : SIZE / 2);
        size_t from = nx_test_random(seed) % (SIZE - size);
        unsigned threads = 1 + (unsigned)(nx_test_random(seed) % 5);
        random_chunker(seed, round % 2 != 0, &cdc);
        size_t count = defined_cuts(&cdc, from, size, want);
        CHECK_EQ(nx_cdc_digests(&cdc, data + from, size, 0, size, &list), NX_OK);
        CHECK_EQ(list.count, count);
        for (size_t i = 0; i < count && i < list.count; i++) {
            uint8_t digest[32];
            size_t start = i == 0 ? 0 : want[i - 1];
            nx_blake3_digest(&mode, data + from + start, want[i] - start, digest, 32);
            CHECK(list.items[i].end == want[i]);
            CHECK(memcmp(list.items[i].blake3, digest, 32) == 0);
        }
        CHECK_EQ(nx_cdc_threaded(&cdc, data + from, size, threads, true, &threaded), NX_OK);
        CHECK_EQ(threaded.count, count);
        CHECK(count == 0 || memcmp(threaded.items, list.items, count * sizeof *list.items) == 0);
        nx_cdc_list_free(&threaded);
        CHECK_EQ(nx_cdc_threaded(&cdc, data + from, size, threads, false, &threaded), NX_OK);
        CHECK_EQ(threaded.count, count);
        for (size_t i = 0; i < count && i < threaded.count; i++) {
            CHECK(threaded.items[i].end == want[i]);
        }
        nx_cdc_list_free(&threaded);
        nx_cdc_list_free(&list);
    }
}

/* A riding kernel against the plain kernels and the definition. */
static void check_ride(nx_cdc_ride_kernel *kernel, size_t bytes, unsigned lanes, uint64_t *seed)
{
    nx_blake3_mode mode;
    int hits = 0;

    nx_blake3_mode_hash(&mode);
    for (int round = 0; round < 40; round++) {
        nx_blake3_batch batch;
        uint8_t ride_out[512], plain_out[512];
        uint64_t hash = nx_test_random(seed);
        uint64_t mask = ((uint64_t)1 << (5 + nx_test_random(seed) % 12)) - 1;
        const uint8_t *from = data + nx_test_random(seed) % (SIZE - 8192);
        for (unsigned i = 0; i < lanes; i++) {
            batch.data[i] = data + nx_test_random(seed) % (SIZE - 1024);
            batch.counter[i] = nx_test_random(seed);
            batch.size[i] = 1024;
            batch.flags_end[i] = 0;
        }
        nx_cdc_ride ride = {nx_cdc_gear, from, hash, mask << 20, NULL};
        kernel(&batch, &mode, ride_out, &ride);
        nx_blake3_leaves(&mode, &batch, lanes, plain_out);
        CHECK(memcmp(ride_out, plain_out, 32 * (size_t)lanes) == 0);
        size_t at = 0;
        for (; at < bytes; at++) {
            hash = 2 * hash + nx_cdc_gear[from[at]];
            if ((hash & mask << 20) == 0) {
                break;
            }
        }
        CHECK(ride.hit == (at < bytes ? from + at : NULL));
        CHECK(ride.hash == hash);
        hits += ride.hit != NULL;
    }
    CHECK(hits > 5 && hits < 40);
}

#define NX_B3_LANES   16
#define NX_B3_NAME(x) lowered16_##x
#define NX_B3_TARGET
#define NX_B3_BYTES 0
#include "../../nexus/_core/csrc/nx_cdc_ride_lanes.h"

static void test_parameters(void)
{
    nx_cdc cdc;

    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 63, 256, 1024, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 255, 1024, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 256, 1023, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 256, (16u << 20) + 1, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 300, 256, 1024, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 2000, 1024, 1, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 256, 1024, 4, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init((nx_cdc_profile)3, 64, 256, 1024, 3, 0, &cdc), NX_EINVAL);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 64, 256, 1024, 3, 0, &cdc), NX_OK);
    CHECK_EQ(nx_cdc_init(NX_CDC_NX1, 64, 256, 1024, 3, 0, &cdc), NX_OK);
    CHECK_EQ(nx_cdc_init(NX_CDC_NX1, 1u << 20, 4u << 20, 16u << 20, 3, 0, &cdc), NX_OK);
    CHECK_EQ(nx_cdc_init(NX_CDC_FASTCDC2020, 1u << 20, 4u << 20, 16u << 20, 3, 0, &cdc), NX_OK);
}

NX_NOINLINE void bench_cdc_scan_1m(const nx_cdc *cdc);
NX_NOINLINE void bench_cdc_scan_1m(const nx_cdc *cdc)
{
    size_t next;

    nx_cdc_cuts(cdc, data, 1u << 20, 0, SIZE / 64, got, &next);
}

NX_NOINLINE void bench_cdc_digests_1m(const nx_cdc *cdc, nx_cdc_list *list);
NX_NOINLINE void bench_cdc_digests_1m(const nx_cdc *cdc, nx_cdc_list *list)
{
    nx_cdc_digests(cdc, data, 1u << 20, 0, 1u << 20, list);
}

NX_NOINLINE void bench_cdc_nx1_1m(const nx_cdc *cdc);
NX_NOINLINE void bench_cdc_nx1_1m(const nx_cdc *cdc)
{
    size_t next;

    nx_cdc_cuts(cdc, data, 1u << 20, 0, SIZE / 64, got, &next);
}

static int bench(nx_simd level)
{
    nx_cdc cdc;
    nx_cdc_list list = {0};

    nx_cdc_select(level);
    nx_cdc_init(NX_CDC_FASTCDC2020, 16384, 65536, 262144, 1, 0, &cdc);
    bench_cdc_scan_1m(&cdc);
    bench_cdc_digests_1m(&cdc, &list);
    nx_cdc_list_free(&list);
    nx_cdc_init(NX_CDC_NX1, 16384, 65536, 262144, 1, 0, &cdc);
    bench_cdc_nx1_1m(&cdc);
    return 0;
}

int main(int argc, char **argv)
{
    bool benches = argc > 1 && strcmp(argv[1], "bench") == 0;
    uint64_t seed = argc > 1 && !benches ? strtoull(argv[1], NULL, 0) : 1;
    nx_simd level;

    if (nx_simd_demand(getenv("NEXUS_SIMD"), &level) != NX_SIMD_GRANTED) {
        fprintf(stderr, "NEXUS_SIMD cannot be granted\n");
        return 2;
    }
    for (size_t i = 0; i < SIZE; i++) {
        data[i] = (uint8_t)nx_test_random(&seed);
    }
    memset(data + SIZE / 4, 0, SIZE / 8); /* a run in which no boundary is found */
    if (benches) {
        return bench(level);
    }
    printf("seed %llu\n", argc > 1 ? strtoull(argv[1], NULL, 0) : 1ull);
    test_parameters();
    test_cuts_and_streams(&seed);
    for (int i = 0; i <= NX_SIMD_NEON; i++) {
        if (nx_simd_demand(nx_simd_name((nx_simd)i), &level) != NX_SIMD_GRANTED) {
            printf("not run on this CPU: %s\n", nx_simd_name((nx_simd)i));
            continue;
        }
        test_digests(&seed, level);
        size_t bytes;
        nx_cdc_ride_kernel *ride = nx_cdc_ride_of(level, &bytes);
        if (ride != NULL) {
            check_ride(ride, bytes, nx_blake3_lanes(), &seed);
        }
    }
    check_ride(lowered16_uniform, NX_CDC_RIDE, 16, &seed);
    TEST_MAIN_END();
}
