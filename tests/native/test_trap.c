// SPDX-License-Identifier: Apache-2.0
/*
 * The restart trap over every feature mask and every sequence of results: its guarantees are
 * checked in each run by a judge that knows only what was performed. Machines that leave out or
 * swap a step must be convicted by the same judge.
 */
#include "nx_feature.h"
#include "nx_test.h"
#include "nx_trap.h"

#include <string.h>

enum { CHOICES = 10 };

/* What happened in one run, by step; 0 is never. */
typedef struct run {
    unsigned performed;
    unsigned sterilised;      /* when STERILISE last succeeded */
    unsigned sterilise_tried; /* when it was last tried */
    unsigned verified;
    unsigned granted;
    unsigned grant_failed;
    bool grant_too_early;
    bool logged;
    bool asked;
    bool admitted;
    bool restored;
    unsigned image_failures; /* in a row, here and before */
} run;

static void record(run *r, nx_trap_step step, bool ok)
{
    unsigned now = ++r->performed;

    switch (step) {
    case NX_TRAP_LOG:
        r->logged = true;
        break;
    case NX_TRAP_BREAKER:
        r->asked = true;
        r->admitted = ok;
        break;
    case NX_TRAP_STERILISE:
        r->sterilise_tried = now;
        r->sterilised = ok ? now : r->sterilised;
        break;
    case NX_TRAP_VERIFY:
        r->verified = ok ? now : 0;
        r->image_failures = ok ? 0 : r->image_failures + 1;
        break;
    case NX_TRAP_REGRANT:
        r->grant_too_early |= r->sterilised == 0 || r->verified < r->sterilised;
        r->granted = ok ? now : 0;
        r->grant_failed = ok ? r->grant_failed : now;
        break;
    case NX_TRAP_RESTORE:
        r->restored = ok;
        break;
    default:
        r->grant_too_early = true; /* an end is not to be performed */
    }
}

/* How many guarantees a finished run broke. */
static unsigned judge(const run *r, nx_trap_step end, unsigned mask)
{
    bool starts = end == NX_TRAP_WARM || end == NX_TRAP_COLD;
    unsigned broken = r->grant_too_early;

    broken += !nx_trap_is_end(end) || r->performed > NX_TRAP_STEPS_MAX;
    broken +=
        starts && (r->sterilised == 0 || r->verified < r->sterilised || r->granted < r->verified);
    broken += starts && (end == NX_TRAP_WARM) != r->restored;
    broken += r->sterilise_tried == 0 || r->grant_failed > r->sterilise_tried;
    broken += r->logged != ((mask & NX_FEATURE_BEB) != 0);
    broken += r->asked != ((mask & NX_FEATURE_BREAKER) != 0 && (mask & NX_FEATURE_TRAP) != 0);
    broken += r->asked && !r->admitted && end != NX_TRAP_QUARANTINED;
    broken += r->image_failures >= NX_TRAP_IMAGE_TRIES && end != NX_TRAP_QUARANTINED;
    broken += (mask & NX_FEATURE_TRAP) == 0 ? starts : end == NX_TRAP_DOWN;
    return broken;
}

/* One way of breaking the machine, by what its caller is told instead. */
typedef nx_trap_step liar(nx_trap *trap, nx_trap_step step);

static nx_trap_step honest(nx_trap *trap, nx_trap_step step)
{
    (void)trap;
    return step;
}

static nx_trap_step skips_sterilise(nx_trap *trap, nx_trap_step step)
{
    return step == NX_TRAP_STERILISE ? nx_trap_next(trap, true) : step;
}

static nx_trap_step skips_verify(nx_trap *trap, nx_trap_step step)
{
    return step == NX_TRAP_VERIFY ? nx_trap_next(trap, true) : step;
}

static nx_trap_step skips_log(nx_trap *trap, nx_trap_step step)
{
    return step == NX_TRAP_LOG ? nx_trap_next(trap, true) : step;
}

static nx_trap_step ignores_breaker(nx_trap *trap, nx_trap_step step)
{
    return step == NX_TRAP_QUARANTINED && trap->steps == 3 ? NX_TRAP_COLD : step;
}

static unsigned try_all(liar *fault)
{
    unsigned broken = 0;
    bool reached[4] = {false};

    for (unsigned mask = 0; mask < 256; mask++) {
        for (unsigned results = 0; results < 1u << CHOICES; results++) {
            nx_trap trap;
            run r = {0};
            nx_trap_init(&trap);
            nx_trap_step step = fault(&trap, nx_trap_catch(&trap, NX_TRAP_PANIC, (uint8_t)mask));
            for (unsigned i = 0; i < CHOICES && !nx_trap_is_end(step); i++) {
                bool ok = (results >> i & 1) != 0;
                record(&r, step, ok);
                step = fault(&trap, nx_trap_next(&trap, ok));
            }
            broken += judge(&r, step, mask);
            reached[step & 3] = true;
        }
    }
    CHECK(reached[0] && reached[1] && reached[2] && reached[3]);
    return broken;
}

static void test_every_run(void)
{
    CHECK_EQ(try_all(honest), 0);
    CHECK(try_all(skips_sterilise) > 0);
    CHECK(try_all(skips_verify) > 0);
    CHECK(try_all(skips_log) > 0);
    CHECK(try_all(ignores_breaker) > 0);
}

static void test_the_usual_order(void)
{
    static const nx_trap_step order[] = {NX_TRAP_LOG,    NX_TRAP_BREAKER, NX_TRAP_STERILISE,
                                         NX_TRAP_VERIFY, NX_TRAP_REGRANT, NX_TRAP_RESTORE,
                                         NX_TRAP_WARM,   NX_TRAP_WARM};
    nx_trap trap;

    nx_trap_init(&trap);
    nx_trap_step step = nx_trap_catch(&trap, NX_TRAP_PAGE_FAULT, NX_FEATURE_SOVEREIGN);
    for (unsigned i = 0; i < NX_ARRAY_COUNT(order); i++) {
        CHECK_EQ(step, order[i]);
        step = nx_trap_next(&trap, true);
    }
    CHECK_EQ(trap.steps, 6);
    CHECK_EQ(trap.cause, NX_TRAP_PAGE_FAULT);
}

static void test_quarantine_is_for_good(void)
{
    nx_trap trap;

    nx_trap_init(&trap);
    (void)nx_trap_catch(&trap, NX_TRAP_PANIC, NX_FEATURE_BREAKER | NX_FEATURE_TRAP);
    CHECK_EQ(nx_trap_next(&trap, false), NX_TRAP_STERILISE);
    CHECK_EQ(nx_trap_next(&trap, true), NX_TRAP_QUARANTINED);
    for (unsigned mask = 0; mask < 256; mask++) {
        CHECK_EQ(nx_trap_catch(&trap, NX_TRAP_PANIC, (uint8_t)mask), NX_TRAP_QUARANTINED);
        CHECK_EQ(nx_trap_next(&trap, true), NX_TRAP_QUARANTINED);
    }
    nx_trap_init(&trap);
    CHECK_EQ(nx_trap_catch(&trap, NX_TRAP_PANIC, NX_FEATURE_SOVEREIGN), NX_TRAP_LOG);
}

/* A trap that interrupts another begins anew, but does not forget how bad the image is. */
static void test_image_failures_count_across_traps(void)
{
    nx_trap trap;

    nx_trap_init(&trap);
    for (unsigned round = 1; round <= NX_TRAP_IMAGE_TRIES; round++) {
        CHECK_EQ(nx_trap_catch(&trap, NX_TRAP_START, NX_FEATURE_TRAP), NX_TRAP_STERILISE);
        CHECK_EQ(nx_trap_next(&trap, true), NX_TRAP_VERIFY);
        CHECK_EQ(nx_trap_next(&trap, false),
                 round < NX_TRAP_IMAGE_TRIES ? NX_TRAP_VERIFY : NX_TRAP_QUARANTINED);
    }
}

static void test_rotten_memory_starts_nothing(void)
{
    for (unsigned state = 0; state < 256; state++) {
        nx_trap trap = {.state = (uint8_t)state, .mask = NX_FEATURE_RADIATION};
        nx_trap_step step = nx_trap_next(&trap, true);
        CHECK(step <= NX_TRAP_RESTORE);
        if (state > 11 || state == 0) {
            CHECK_EQ(step, NX_TRAP_QUARANTINED);
            trap.state = (uint8_t)state;
            CHECK_EQ(nx_trap_catch(&trap, NX_TRAP_PANIC, 0xff), NX_TRAP_QUARANTINED);
        }
    }
}

int main(void)
{
    test_every_run();
    test_the_usual_order();
    test_quarantine_is_for_good();
    test_image_failures_count_across_traps();
    test_rotten_memory_starts_nothing();
    TEST_MAIN_END();
}
