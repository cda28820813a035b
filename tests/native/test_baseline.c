// SPDX-License-Identifier: Apache-2.0
/* Welford's recurrence against the two-pass definition, the lock, and the squared test. */
#include "nx_baseline.h"
#include "nx_test.h"

#include <math.h>
#include <string.h>

#define SAMPLES 1000u
#define METRICS 4u

static double samples[SAMPLES][METRICS];

static void make_samples(uint64_t seed)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        for (unsigned m = 0; m < METRICS; m++) {
            double unit = (double)(nx_test_random(&seed) >> 11) / 9007199254740992.0;
            samples[i][m] = m == 3 ? 0.1 : 1e6 * m + unit;
        }
    }
}

static void test_against_two_passes(void)
{
    nx_baseline b;

    make_samples(1);
    CHECK_EQ(nx_baseline_init(&b, METRICS, SAMPLES, 3.0), NX_OK);
    for (unsigned i = 0; i < SAMPLES; i++) {
        CHECK(!b.locked);
        CHECK_EQ(nx_baseline_deviations(&b, samples[i]), 0);
        nx_baseline_learn(&b, samples[i]);
    }
    CHECK(b.locked);
    for (unsigned m = 0; m < METRICS; m++) {
        double mean = 0;
        double m2 = 0;
        for (unsigned i = 0; i < SAMPLES; i++) {
            mean += samples[i][m] / SAMPLES;
        }
        for (unsigned i = 0; i < SAMPLES; i++) {
            m2 += (samples[i][m] - mean) * (samples[i][m] - mean);
        }
        CHECK(fabs(b.mean[m] - mean) <= 1e-9 * (1 + fabs(mean)));
        CHECK(fabs(b.m2[m] - m2) <= 1e-6 * (1 + m2));
        CHECK(fabs(b.limit[m] - 9 * b.m2[m] / (SAMPLES - 1)) < 1e-9);
    }
}

static void test_lock_and_deviations(void)
{
    nx_baseline b;
    double values[METRICS];

    make_samples(2);
    CHECK_EQ(nx_baseline_init(&b, METRICS, SAMPLES, 3.0), NX_OK);
    for (unsigned i = 0; i < SAMPLES; i++) {
        nx_baseline_learn(&b, samples[i]);
    }
    nx_baseline locked = b;
    memcpy(values, b.mean, sizeof values);
    CHECK_EQ(nx_baseline_deviations(&b, values), 0);
    for (unsigned m = 0; m < METRICS; m++) {
        double edge = sqrt(b.limit[m]);
        values[m] = b.mean[m] + edge * 0.999;
        CHECK_EQ(nx_baseline_deviations(&b, values), 0);
        values[m] = b.mean[m] - edge * 1.001 - 1e-300;
        CHECK_EQ(nx_baseline_deviations(&b, values), m == 3 ? 0 : 1ll << m);
        values[m] = b.mean[m];
    }
    /* A metric that never varied tolerates no other value, however close. */
    values[3] = nextafter(0.1, 1);
    CHECK_EQ(nx_baseline_deviations(&b, values), 8);
    nx_baseline_learn(&b, values);
    CHECK(memcmp(&b, &locked, sizeof b) == 0);
}

static void test_feed_equals_single_steps(void)
{
    nx_baseline one;
    nx_baseline many;
    uint64_t masks[SAMPLES];

    make_samples(3);
    CHECK_EQ(nx_baseline_init(&one, METRICS, SAMPLES / 2, 2.0), NX_OK);
    CHECK_EQ(nx_baseline_init(&many, METRICS, SAMPLES / 2, 2.0), NX_OK);
    size_t deviating = nx_baseline_feed(&many, &samples[0][0], SAMPLES, masks);
    size_t counted = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t mask = nx_baseline_deviations(&one, samples[i]);
        nx_baseline_learn(&one, samples[i]);
        CHECK(masks[i] == mask);
        counted += mask != 0;
    }
    CHECK_EQ(deviating, counted);
    CHECK(memcmp(&one, &many, sizeof one) == 0);
}

static void test_bounds(void)
{
    nx_baseline b;
    const double odd[] = {1, NAN, 2, INFINITY};

    CHECK_EQ(nx_baseline_init(&b, 0, 10, 3), NX_EINVAL);
    CHECK_EQ(nx_baseline_init(&b, 65, 10, 3), NX_EINVAL);
    CHECK_EQ(nx_baseline_init(&b, 1, 1, 3), NX_EINVAL);
    CHECK_EQ(nx_baseline_init(&b, 1, 2, 0), NX_EINVAL);
    CHECK_EQ(nx_baseline_init(&b, 1, 2, NAN), NX_EINVAL);
    CHECK(nx_baseline_all_finite(odd, 1) && nx_baseline_all_finite(odd, 0));
    CHECK(!nx_baseline_all_finite(odd, 2) && !nx_baseline_all_finite(odd + 2, 2));
}

NX_NOINLINE static size_t bench_baseline_feed(nx_baseline *b, uint64_t *masks)
{
    return nx_baseline_feed(b, &samples[0][0], SAMPLES, masks);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_baseline b;
        uint64_t masks[SAMPLES];
        make_samples(4);
        CHECK_EQ(nx_baseline_init(&b, METRICS, SAMPLES / 2, 3.0), NX_OK);
        CHECK(bench_baseline_feed(&b, masks) < SAMPLES);
        TEST_MAIN_END();
    }
    test_against_two_passes();
    test_lock_and_deviations();
    test_feed_equals_single_steps();
    test_bounds();
    TEST_MAIN_END();
}
