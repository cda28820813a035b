// SPDX-License-Identifier: Apache-2.0
/* Arbitration against the specification's three sentences, over every small case and random ones.
 */
#include "nx_stl.h"
#include "nx_test.h"
#include "nx_verdict.h"

#include <string.h>

enum { FIBER = 7, NOW = 1000, WINDOW = 100, LEAST = 8000 };

static const nx_verdict_rule rule = {.window_ns = WINDOW, .confidence_min = LEAST};

static nx_verdict make(unsigned producer, unsigned code)
{
    return (nx_verdict){
        .fiber = FIBER,
        .sequence = 1,
        .time_ns = NOW - 1,
        .code = (uint8_t)code,
        .producer = (uint8_t)producer,
        .confidence = NX_VERDICT_SURE,
        .reason = NX_STL_RESTART_TRAP,
    };
}

static void test_l0_wins(void)
{
    for (unsigned first = 0; first <= 5; first++) {
        for (unsigned second = 0; second <= 5; second++) {
            nx_verdict l0 = make(NX_PRODUCER_L0, first);
            nx_verdict l1 = make(NX_PRODUCER_L1, second);
            nx_verdict_action got =
                nx_verdict_arbitrate(FIBER, first ? &l0 : NULL, second ? &l1 : NULL, &rule, NOW);
            CHECK_EQ(got.code, first ? first : second ? second : NX_VERDICT_OBSERVE);
            CHECK_EQ(got.decided, first + second > 0);
            CHECK_EQ(got.producer, first == 0 && second != 0);
            CHECK_EQ(got.overruled, first != 0 && second != 0 && first != second);
        }
    }
}

/* Each way in which a verdict does not count: then the other one, or nobody, decides. */
static void test_what_does_not_count(void)
{
    for (unsigned producer = 0; producer < 2; producer++) {
        for (unsigned way = 0; way < 10; way++) {
            nx_verdict good = make(1 - producer, NX_VERDICT_THROTTLE);
            nx_verdict bad = make(producer, NX_VERDICT_QUARANTINE);
            bool counts = way == 9 || (way == 8 && producer == NX_PRODUCER_L0);
            bad.fiber = way == 0 ? FIBER + 1 : FIBER;
            bad.sequence = way != 1;
            bad.time_ns = way == 2 ? NOW - WINDOW - 1 : way == 3 ? NOW + 1 : NOW - WINDOW;
            bad.code = way == 4 ? 6 : bad.code;
            bad.producer = (uint8_t)(way == 5 ? 1 - producer : producer);
            bad.confidence = way == 6 ? NX_VERDICT_SURE + 1 : way == 8 ? LEAST - 1 : LEAST;
            bad.reserved = way == 7;
            const nx_verdict *l0 = producer == NX_PRODUCER_L0 ? &bad : NULL;
            const nx_verdict *l1 = producer == NX_PRODUCER_L1 ? &bad : NULL;
            nx_verdict_action alone = nx_verdict_arbitrate(FIBER, l0, l1, &rule, NOW);
            CHECK_EQ(alone.decided, counts);
            CHECK_EQ(alone.code, counts ? NX_VERDICT_QUARANTINE : NX_VERDICT_OBSERVE);
            nx_verdict_action both = nx_verdict_arbitrate(FIBER, l0 != NULL ? l0 : &good,
                                                          l1 != NULL ? l1 : &good, &rule, NOW);
            bool wins = counts && producer == NX_PRODUCER_L0;
            CHECK_EQ(both.code, wins ? NX_VERDICT_QUARANTINE : NX_VERDICT_THROTTLE);
            CHECK_EQ(both.overruled, counts);
        }
    }
}

/* Random streams out of two rings, some of it forged, against a model that keeps everything. */
static unsigned run_model(uint64_t seed, bool believes_the_record)
{
    static nx_verdict history[2][4000];
    unsigned wrong = 0;
    unsigned counts[2] = {0, 0};
    nx_verdict newest[2] = {{.fiber = FIBER}, {.fiber = FIBER}};

    for (uint64_t now = NOW; now < NOW + 4000; now++) {
        unsigned ring = nx_test_random(&seed) % 2;
        nx_verdict record = make(ring, (unsigned)(nx_test_random(&seed) % 7));
        record.sequence = counts[ring] + nx_test_random(&seed) % 3;
        record.fiber = FIBER + nx_test_random(&seed) % 2;
        record.time_ns = now - nx_test_random(&seed) % (2 * WINDOW);
        bool forged = nx_test_random(&seed) % 8 == 0;
        record.producer ^= forged;
        bool taken = nx_verdict_take(&newest[ring], &record, ring);
        bool right = record.fiber == FIBER && record.code >= 1 && record.code <= 5 &&
                     record.sequence > 0 && (believes_the_record || !forged);
        for (unsigned i = 0; i < counts[ring]; i++) {
            right = right && history[ring][i].sequence < record.sequence;
        }
        wrong += taken != right;
        if (taken) {
            history[ring][counts[ring]++] = record;
        }
        nx_verdict_action got = nx_verdict_arbitrate(FIBER, &newest[0], &newest[1], &rule, now);
        bool current[2];
        for (unsigned p = 0; p < 2; p++) {
            current[p] = counts[p] > 0 && now - history[p][counts[p] - 1].time_ns <= WINDOW;
        }
        unsigned want = current[0]   ? history[0][counts[0] - 1].code
                        : current[1] ? history[1][counts[1] - 1].code
                                     : NX_VERDICT_OBSERVE;
        wrong += got.code != want || got.decided != (current[0] || current[1]);
    }
    return wrong;
}

enum { ROUNDS = 1000 };

NX_NOINLINE static unsigned bench_verdict_arbitrate(const nx_verdict *l0, const nx_verdict *l1)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        sum += nx_verdict_arbitrate(FIBER, l0, l1, &rule, NOW + i / 8).code;
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_verdict l0 = make(NX_PRODUCER_L0, NX_VERDICT_RESTART);
        nx_verdict l1 = make(NX_PRODUCER_L1, NX_VERDICT_OBSERVE);
        CHECK(bench_verdict_arbitrate(&l0, &l1) > ROUNDS);
        TEST_MAIN_END();
    }
    test_l0_wins();
    test_what_does_not_count();
    for (uint64_t seed = 1; seed <= 5; seed++) {
        printf("seed %llu\n", (unsigned long long)seed);
        CHECK_EQ(run_model(seed, false), 0);
        CHECK(run_model(seed, true) > 0); /* the canary: a record that names its own ring */
    }
    TEST_MAIN_END();
}
