// SPDX-License-Identifier: Apache-2.0
/* The ratchet against a model that recounts the whole history, and its edges one by one. */
#include "nx_ratchet.h"
#include "nx_test.h"

#include <string.h>

#define MS 1000000u

static uint64_t mask_of(uint32_t tier)
{
    return (uint64_t)tier << NX_TIER_SHIFT | 0x1f;
}

static void test_budgets(void)
{
    CHECK_EQ(nx_tier_budget_ns(NX_TIER_PHOTON), 2 * MS);
    CHECK_EQ(nx_tier_budget_ns(NX_TIER_MATTER), 10 * MS);
    CHECK_EQ(nx_tier_budget_ns(NX_TIER_GRAVITY), 50 * MS);
    CHECK(nx_tier_budget_ns(NX_TIER_VOID) == NX_BUDGET_NONE);
    CHECK(nx_tier_budget_ns(4) == NX_BUDGET_NONE); /* the two low bits are all there is */
    CHECK_EQ(nx_tier_of(UINT64_MAX), NX_TIER_PHOTON);
}

static void test_narrowing_takes_the_lower_tier(void)
{
    unsigned plain_and_wrong = 0;

    for (uint32_t held = 0; held < 4; held++) {
        for (uint32_t asked = 0; asked < 4; asked++) {
            uint64_t narrowed = nx_tier_narrow(mask_of(held) | 0xf00, mask_of(asked) | 0x500);
            CHECK_EQ(nx_tier_of(narrowed), held < asked ? held : asked);
            CHECK_EQ(narrowed & ~NX_TIER_MASK, 0x51f);
            plain_and_wrong += (held & asked) != (held < asked ? held : asked);
        }
    }
    CHECK(plain_and_wrong > 0); /* the canary: AND would have been caught here */
    /* Bits below the tier do not decide which tier is lower. */
    CHECK(nx_tier_narrow(mask_of(2), (uint64_t)2 << NX_TIER_SHIFT) == (uint64_t)2 << NX_TIER_SHIFT);
}

static void test_edges(void)
{
    nx_ratchet r;

    nx_ratchet_init(&r, mask_of(NX_TIER_PHOTON), 7 * MS);
    CHECK_EQ(nx_ratchet_left_ns(&r, 7 * MS), 2 * MS);
    CHECK_EQ(nx_ratchet_step(&r, 9 * MS), NX_RATCHET_NONE); /* exactly the budget */
    CHECK_EQ(nx_ratchet_left_ns(&r, 9 * MS), 0);
    CHECK_EQ(nx_ratchet_step(&r, 9 * MS + 1), NX_RATCHET_STRIKE);
    CHECK_EQ(nx_ratchet_step(&r, 9 * MS + 2), NX_RATCHET_NONE); /* one overrun, one strike */
    CHECK_EQ(nx_ratchet_step(&r, 900 * MS), NX_RATCHET_STRIKE); /* however late the look */
    CHECK_EQ(nx_ratchet_step(&r, 900 * MS + 1), NX_RATCHET_NONE);
    CHECK_EQ(nx_ratchet_step(&r, 800 * MS), NX_RATCHET_NONE); /* a clock that went back */
    nx_ratchet_yield(&r, 910 * MS);
    CHECK_EQ(nx_ratchet_step(&r, 912 * MS), NX_RATCHET_NONE);
    CHECK_EQ(r.strikes, 2); /* yielding forgives nothing */
    CHECK_EQ(nx_ratchet_step(&r, 913 * MS), NX_RATCHET_DEMOTE);
    CHECK_EQ(r.tier, NX_TIER_MATTER);
    CHECK_EQ(r.strikes, 0);
    CHECK_EQ(nx_ratchet_step(&r, 923 * MS), NX_RATCHET_NONE); /* the longer budget holds now */
    nx_ratchet_init(&r, mask_of(NX_TIER_PHOTON), 0);          /* a new life */
    CHECK_EQ(r.tier, NX_TIER_PHOTON);
    nx_ratchet_init(&r, mask_of(NX_TIER_VOID), 0);
    for (uint64_t now = 1; now < UINT64_MAX / 3; now *= 3) {
        CHECK_EQ(nx_ratchet_step(&r, now), NX_RATCHET_NONE);
    }
    CHECK_EQ(nx_ratchet_step(&r, UINT64_MAX), NX_RATCHET_NONE);
    CHECK(nx_ratchet_left_ns(&r, 5) == NX_BUDGET_NONE);
}

/* Where the fiber is after `count` overruns of a life, by counting from the manifest's tier. */
static uint32_t model_tier(uint32_t manifest, unsigned overruns)
{
    unsigned demotions = overruns / 3;

    return demotions < manifest ? manifest - demotions : 0;
}

/* Random bursts; how often the ratchet and the model disagree. `forgives` breaks the model. */
static unsigned run_model(uint64_t seed, bool forgives)
{
    static const uint64_t budgets[4] = {UINT64_MAX, 50 * MS, 10 * MS, 2 * MS};
    uint64_t now = 0, from = 0;
    unsigned overruns = 0, wrong = 0;
    uint32_t manifest = 0;
    nx_ratchet r;

    nx_ratchet_init(&r, mask_of(0), 0);
    for (int i = 0; i < 200000; i++) {
        uint32_t tier = model_tier(manifest, overruns);
        switch (nx_test_random(&seed) % 16) {
        case 0: /* a new life, seldom */
            if (nx_test_random(&seed) % 16 == 0) {
                manifest = (uint32_t)nx_test_random(&seed) % 4;
                overruns = 0;
                from = now;
                nx_ratchet_init(&r, mask_of(manifest), now);
            }
            break;
        case 1:
        case 2:
            from = now;
            overruns -= forgives && overruns % 3 != 0;
            nx_ratchet_yield(&r, now);
            break;
        default:
            now += nx_test_random(&seed) % (3 * (tier == 0 ? MS : budgets[tier]) / 2);
            bool over = now - from > budgets[tier];
            overruns += over;
            from = over ? now : from;
            bool demoted = model_tier(manifest, overruns) != tier;
            nx_ratchet_result want = demoted ? NX_RATCHET_DEMOTE
                                     : over  ? NX_RATCHET_STRIKE
                                             : NX_RATCHET_NONE;
            wrong += nx_ratchet_step(&r, now) != want;
        }
        wrong += r.tier != model_tier(manifest, overruns);
        wrong += r.tier != 0 && r.strikes != overruns % 3;
        CHECK(r.tier <= manifest);
    }
    return wrong;
}

enum { STEPS = 1000 };

/* A fiber of 1.9 ms bursts and one overrun in a hundred. */
NX_NOINLINE static unsigned bench_ratchet_step(nx_ratchet *r)
{
    unsigned strikes = 0;

    for (uint64_t i = 1; i <= STEPS; i++) {
        strikes += nx_ratchet_step(r, i * 2 * MS + i % 100 / 99) != NX_RATCHET_NONE;
        nx_ratchet_yield(r, i * 2 * MS);
    }
    return strikes;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_ratchet r;
        nx_ratchet_init(&r, mask_of(NX_TIER_PHOTON), 0);
        CHECK(bench_ratchet_step(&r) >= 3);
        TEST_MAIN_END();
    }
    test_budgets();
    test_narrowing_takes_the_lower_tier();
    test_edges();
    for (uint64_t seed = 1; seed <= 5; seed++) {
        printf("seed %llu\n", (unsigned long long)seed);
        CHECK_EQ(run_model(seed, false), 0);
        CHECK(run_model(seed, true) > 0); /* the canary: strikes that decay are seen */
    }
    TEST_MAIN_END();
}
