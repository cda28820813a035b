// SPDX-License-Identifier: Apache-2.0
/* The breaker against a plain list of restarts, its three states, the doubling, and a canary. */
#include "nx_breaker.h"
#include "nx_test.h"

#include <string.h>

#define PERIOD 1000u
#define DELAY  3u

/* The rule of the header, on the list of all restarts ever admitted. */
typedef struct plain {
    uint64_t times[4096];
    unsigned count;
    unsigned intensity;
    uint64_t opened;
    nx_breaker_state state;
} plain;

static bool plain_admit(plain *model, uint64_t now, uint64_t *ret)
{
    unsigned recent = 0;

    for (unsigned i = 0; i < model->count; i++) {
        recent += now - model->times[i] < PERIOD;
    }
    switch (model->state) {
    case NX_BREAKER_OPEN:
        if (now - model->opened < PERIOD) {
            return false;
        }
        model->state = NX_BREAKER_HALF_OPEN;
        break;
    case NX_BREAKER_HALF_OPEN:
        /* The trial failed when it did not last a period. */
        if (recent != 0) {
            model->state = NX_BREAKER_OPEN;
            model->opened = now;
            return false;
        }
        model->state = NX_BREAKER_CLOSED;
        break;
    default:
        if (recent >= model->intensity) {
            model->state = NX_BREAKER_OPEN;
            model->opened = now;
            return false;
        }
    }
    *ret = (uint64_t)DELAY << (recent < 10 ? recent : 10);
    model->times[model->count++] = now;
    return true;
}

/* Plays random waits against the model; returns the admissions that differ. */
static unsigned play(unsigned intensity, unsigned believed, uint64_t seed)
{
    static plain model;
    nx_breaker breaker;
    uint64_t now = 5 * PERIOD;
    unsigned wrong = 0, refused = 0;

    memset(&model, 0, sizeof model);
    model.intensity = believed;
    nx_breaker_init(&breaker, intensity, PERIOD, DELAY);
    for (int i = 0; i < 4000; i++) {
        uint64_t want = 0, got = 0;
        /* Crowds that reach the limit, then quiet in which trials last. */
        now += nx_test_random(&seed) % (i % 200 < 150 ? PERIOD / intensity : 2 * PERIOD);
        bool wanted = plain_admit(&model, now, &want);
        wrong += nx_breaker_admit(&breaker, now, &got) != wanted || want != got ||
                 breaker.state != (uint32_t)model.state;
        refused += !wanted;
    }
    CHECK(refused > 0);
    return wrong;
}

static void test_against_model(void)
{
    for (unsigned intensity = 1; intensity <= NX_BREAKER_INTENSITY_MAX; intensity++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            CHECK_EQ(play(intensity, intensity, seed), 0);
        }
    }
    /* Canary: a breaker that is off by one is seen. */
    CHECK(play(4, 5, 1) > 0);
}

static void test_opens_and_tries_once(void)
{
    nx_breaker breaker;
    uint64_t delay = 0;

    nx_breaker_init(&breaker, 2, PERIOD, 0);
    CHECK(nx_breaker_admit(&breaker, 10, &delay));
    CHECK(nx_breaker_admit(&breaker, 20, &delay));
    CHECK(!nx_breaker_admit(&breaker, 30, &delay));
    CHECK_EQ(breaker.state, NX_BREAKER_OPEN);
    CHECK(!nx_breaker_admit(&breaker, 30 + PERIOD - 1, &delay));
    CHECK(nx_breaker_admit(&breaker, 30 + PERIOD, &delay));
    CHECK_EQ(breaker.state, NX_BREAKER_HALF_OPEN);
    CHECK(!nx_breaker_admit(&breaker, 30 + PERIOD + 5, &delay)); /* the trial failed */
    CHECK_EQ(breaker.state, NX_BREAKER_OPEN);
    CHECK(nx_breaker_admit(&breaker, 40 + 2 * PERIOD, &delay));
    CHECK(nx_breaker_admit(&breaker, 40 + 3 * PERIOD, &delay)); /* this one lasted */
    CHECK_EQ(breaker.state, NX_BREAKER_CLOSED);
}

static void test_delay_doubles_to_its_bound(void)
{
    nx_breaker breaker;
    uint64_t delay = 0;

    nx_breaker_init(&breaker, 64, PERIOD, DELAY);
    for (unsigned i = 0; i < 64; i++) {
        CHECK(nx_breaker_admit(&breaker, 1000 + i, &delay));
        CHECK_EQ(delay, (uint64_t)DELAY << (i < 10 ? i : 10));
    }
    CHECK(nx_breaker_admit(&breaker, 1063 + PERIOD, &delay));
    CHECK_EQ(delay, DELAY);
}

static void test_edges(void)
{
    nx_breaker breaker;
    uint64_t delay = 77;

    nx_breaker_init(&breaker, 0, PERIOD, DELAY);
    CHECK(!nx_breaker_admit(&breaker, 0, &delay));
    CHECK(!nx_breaker_admit(&breaker, UINT64_MAX, &delay));
    CHECK_EQ(delay, 77);
    nx_breaker_init(&breaker, UINT32_MAX, PERIOD, DELAY);
    CHECK_EQ(breaker.intensity, NX_BREAKER_INTENSITY_MAX);
    nx_breaker_init(&breaker, 1, 0, 0); /* no period: every restart is the first */
    for (uint64_t i = 0; i < 100; i++) {
        CHECK(nx_breaker_admit(&breaker, 5, &delay));
        CHECK_EQ(delay, 0);
    }
    nx_breaker_init(&breaker, 1, PERIOD, UINT64_MAX / 2); /* a delay that doubling overflows */
    CHECK(nx_breaker_admit(&breaker, 5, &delay));
    CHECK_EQ(delay, UINT64_MAX / 2);
}

int main(void)
{
    test_against_model();
    test_opens_and_tries_once();
    test_delay_doubles_to_its_bound();
    test_edges();
    TEST_MAIN_END();
}
