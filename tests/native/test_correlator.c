// SPDX-License-Identifier: Apache-2.0
/* The correlator's short list against the rule itself, counted over the whole history. */
#include "nx_correlator.h"
#include "nx_test.h"

#include <string.h>

#define MS 1000000u

static void test_edges(void)
{
    nx_correlator c;

    nx_correlator_init(&c, NX_CORRELATOR_FIBERS, NX_CORRELATOR_WINDOW_NS);
    for (uint64_t t = 0; t < 50; t++) { /* one bad fiber, however often */
        CHECK_EQ(nx_correlator_panic(&c, 1, t * MS), NX_CORRELATOR_ISOLATED);
    }
    CHECK_EQ(nx_correlator_panic(&c, 2, 100 * MS), NX_CORRELATOR_ISOLATED);
    CHECK_EQ(nx_correlator_panic(&c, 3, 149 * MS + 1), NX_CORRELATOR_ISOLATED);
    CHECK_EQ(nx_correlator_panic(&c, 1, 200 * MS), NX_CORRELATOR_ONSET); /* 100 ms, both ends */
    CHECK_EQ(nx_correlator_panic(&c, 1, 201 * MS), NX_CORRELATOR_ISOLATED);
    CHECK_EQ(nx_correlator_panic(&c, 4, 202 * MS), NX_CORRELATOR_ONSET);
    CHECK_EQ(nx_correlator_panic(&c, 5, 203 * MS), NX_CORRELATOR_CONTINUES);
    CHECK_EQ(nx_correlator_panic(&c, 4, 204 * MS), NX_CORRELATOR_CONTINUES);
    CHECK_EQ(nx_correlator_panic(&c, 6, 405 * MS), NX_CORRELATOR_ISOLATED);
    nx_correlator_init(&c, 0, 5);
    CHECK_EQ(c.fibers, 2);
    nx_correlator_init(&c, 99, 5);
    CHECK_EQ(c.fibers, NX_CORRELATOR_FIBERS_MAX);
}

enum { PANICS = 4000, NAMES = 12 };

/* Distinct fibers within the window that ends now, or panics when `distinct` is left out. */
static unsigned count(const uint64_t *fibers, const uint64_t *times, unsigned last, uint64_t window,
                      bool distinct)
{
    unsigned found = 0, panics = 0;
    bool seen[NAMES] = {false};

    for (unsigned i = last + 1; i-- > 0 && times[last] - times[i] <= window;) {
        panics++;
        found += !seen[fibers[i]];
        seen[fibers[i]] = true;
    }
    return distinct ? found : panics;
}

static unsigned run_model(uint64_t seed, uint32_t threshold, bool distinct)
{
    static uint64_t fibers[PANICS], times[PANICS];
    const uint64_t window = 100;
    unsigned wrong = 0;
    bool before = false;
    nx_correlator c;

    nx_correlator_init(&c, threshold, window);
    for (unsigned i = 0; i < PANICS; i++) {
        fibers[i] = nx_test_random(&seed) % NAMES;
        times[i] = (i == 0 ? 0 : times[i - 1]) + nx_test_random(&seed) % (240 / threshold);
        bool now = count(fibers, times, i, window, distinct) >= threshold;
        nx_correlator_result want = !now     ? NX_CORRELATOR_ISOLATED
                                    : before ? NX_CORRELATOR_CONTINUES
                                             : NX_CORRELATOR_ONSET;
        wrong += nx_correlator_panic(&c, fibers[i], times[i]) != want;
        before = now;
    }
    return wrong;
}

int main(void)
{
    test_edges();
    for (uint64_t seed = 1; seed <= 20; seed++) {
        printf("seed %llu\n", (unsigned long long)seed);
        for (uint32_t threshold = 2; threshold <= NX_CORRELATOR_FIBERS_MAX; threshold++) {
            CHECK_EQ(run_model(seed, threshold, true), 0);
            CHECK(run_model(seed, threshold, false) > 0); /* the canary: counting panics */
        }
    }
    TEST_MAIN_END();
}
