// SPDX-License-Identifier: Apache-2.0
/*
 * nx_watchdog.h on a simulated machine that knows the truth: a task that beats whenever it has
 * the CPU at the right time, a scheduler that starves it, an observer that is late itself, and
 * Linux's way of counting a wait only when it is over.
 *
 * Two properties: delays never make a hang; a task that stopped is found in time. Watchdogs that
 * leave out one of the excuses must raise a false alarm here, or the machine proves nothing.
 */
#include "nx_test.h"
#include "nx_watchdog.h"

#include <string.h>

enum { PERIOD = 100, MISSES = 3, POLL = 50, DEADLINE = PERIOD * MISSES, WORK = 8 };

typedef enum { LIVES, STOPS, SPINS, BLOCKS } ending;

typedef struct machine {
    uint64_t seed;
    uint64_t now;
    uint64_t ran;
    uint64_t waited;
    uint64_t waiting_since;
    bool waiting;
    uint64_t beat;
    uint64_t beat_due;
    uint64_t worked; /* ticks of CPU towards the next beat, which takes WORK */
    uint64_t starved_until;
    uint64_t next_poll;
    ending fate;
    uint64_t fate_at;
} machine;

/* One tick of the machine. The task may be starved at any time, also between two ticks of work. */
static void tick(machine *m)
{
    bool ended = m->now >= m->fate_at;

    m->now++;
    if (ended && (m->fate == STOPS || m->fate == BLOCKS)) {
        m->waiting = false;
        return;
    }
    if (m->now >= m->starved_until &&
        nx_test_random(&m->seed) % (m->worked > 0 && !ended ? 10 : 400) == 0) {
        m->starved_until = m->now + nx_test_random(&m->seed) % (5 * DEADLINE);
    }
    bool wants = m->now >= m->beat_due || (ended && m->fate == SPINS);
    if (wants && m->now < m->starved_until) {
        if (!m->waiting) {
            m->waiting = true;
            m->waiting_since = m->now - 1;
        }
        return;
    }
    if (m->waiting) { /* it arrives on the CPU: now the wait is counted */
        m->waiting = false;
        m->waited += m->now - 1 - m->waiting_since;
    }
    if (wants) {
        m->ran++;
        if (!ended && ++m->worked == WORK) {
            m->worked = 0;
            m->beat++;
            m->beat_due = m->now + PERIOD - 2 * WORK;
        }
    }
}

/* What a deprived watchdog does not get to see. */
typedef enum { ALL, NO_WAITED, NO_RUNNABLE, NO_LATE } sight;

static nx_watchdog_sample look(const machine *m, sight view, uint64_t planned)
{
    bool running = m->now >= m->fate_at && m->fate == SPINS;

    return (nx_watchdog_sample){
        .now_ns = m->now,
        .late_ns = view == NO_LATE ? 0 : m->now - planned,
        .ran_ns = m->ran,
        .waited_ns = view == NO_WAITED ? 0 : m->waited,
        .beat = m->beat,
        .runnable = view != NO_RUNNABLE && (m->waiting || running),
    };
}

/* The machine and the observer stand still together, as in a guest that is not scheduled. */
static void pause_all(machine *m)
{
    uint64_t pause = nx_test_random(&m->seed) % (3 * DEADLINE);

    m->now += pause;
    m->beat_due += pause;
    m->starved_until += pause;
    m->waiting_since += pause; /* a host's pause is in none of the guest's queues */
    m->fate_at += m->fate_at > m->now ? 0 : pause;
}

/* Polls until `end` or the first HUNG; when that was and how late the polls since the last beat
 * were, or 0. */
static uint64_t observe(machine *m, sight view, uint64_t end, uint64_t *ret_late)
{
    nx_watchdog_sample sample = look(m, view, m->now);
    nx_watchdog watchdog;

    nx_watchdog_init(&watchdog, PERIOD, MISSES, &sample);
    while (m->now < end) {
        uint64_t planned = m->now + POLL;
        while (m->now < planned) {
            tick(m);
        }
        if (nx_test_random(&m->seed) % 200 == 0 && m->now < m->fate_at) {
            pause_all(m);
        }
        uint64_t own = nx_test_random(&m->seed) % 20 == 0 ? nx_test_random(&m->seed) % 120 : 0;
        for (uint64_t i = 0; i < own; i++) {
            tick(m);
        }
        sample = look(m, view, planned);
        if (nx_watchdog_step(&watchdog, &sample) == NX_WATCHDOG_HUNG) {
            *ret_late = watchdog.late_ns;
            return m->now;
        }
    }
    return 0;
}

static unsigned false_alarms(sight view)
{
    unsigned found = 0;
    uint64_t late;

    for (uint64_t seed = 1; seed <= 40; seed++) {
        machine m = {.seed = seed, .fate_at = UINT64_MAX};
        found += observe(&m, view, 200000, &late) != 0;
    }
    return found;
}

static void test_delays_are_no_hang(void)
{
    CHECK_EQ(false_alarms(ALL), 0);
    CHECK(false_alarms(NO_WAITED) > 0);
    CHECK(false_alarms(NO_RUNNABLE) > 0);
    CHECK(false_alarms(NO_LATE) > 0);
}

static void test_a_stopped_task_is_found_in_time(void)
{
    static const ending fates[] = {STOPS, SPINS, BLOCKS};
    unsigned found = 0;

    for (uint64_t seed = 1; seed <= 600; seed++) {
        machine m = {.seed = seed, .fate = fates[seed % 3], .fate_at = 1000 + seed * 7};
        uint64_t late = 0;
        /* A task that waited when it was stopped is excused until then; one that spins may
         * still be starved, so its bound has the truth about its waits added. */
        uint64_t waited = 0;
        uint64_t at = observe(&m, ALL, 400000, &late);
        CHECK(at > m.fate_at);
        waited = m.fate == SPINS ? m.waited + (m.waiting ? m.now - m.waiting_since : 0) : 0;
        uint64_t bound = m.fate_at + DEADLINE + 2 * POLL + late + waited;
        CHECK(at <= bound);
        found += at != 0 && at <= bound;
    }
    CHECK_EQ(found, 600);
}

/* Exact times on an idle machine. */
static void test_edges(void)
{
    nx_watchdog_sample s = {.now_ns = 1000, .beat = 5};
    nx_watchdog w;

    nx_watchdog_init(&w, PERIOD, MISSES, &s);
    s.now_ns = 1099;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_OK);
    s.now_ns = 1100;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_LATE);
    s.now_ns = 1299;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_LATE);
    s.now_ns = 1300;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_HUNG);
    s.beat = 4; /* any change is a beat, also a restarted counter */
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_OK);
    s.now_ns = 1600;
    s.late_ns = 1;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_LATE);
    s.now_ns = 1601;
    s.late_ns = 0;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_HUNG);
    s.waited_ns = 1;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_LATE);
    s.now_ns = 5000; /* runnable, no clock moved: it has waited since 1601 */
    s.runnable = true;
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_LATE);
    s.ran_ns = 1; /* it runs, and that wait is not in the counter: it was no wait */
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_HUNG);
    s.waited_ns = UINT64_MAX / 2; /* more excuses than time */
    CHECK_EQ(nx_watchdog_step(&w, &s), NX_WATCHDOG_OK);
}

enum { STEPS = 1000 };

NX_NOINLINE static unsigned bench_watchdog_step(nx_watchdog *w)
{
    unsigned bad = 0;

    for (uint64_t i = 1; i <= STEPS; i++) {
        nx_watchdog_sample s = {.now_ns = i * POLL, .ran_ns = i, .beat = i / 2};
        bad += nx_watchdog_step(w, &s) == NX_WATCHDOG_HUNG;
    }
    return bad;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        nx_watchdog w;
        nx_watchdog_init(&w, PERIOD, MISSES, &(nx_watchdog_sample){0});
        CHECK_EQ(bench_watchdog_step(&w), 0);
        TEST_MAIN_END();
    }
    printf("seeds 1 to 600\n");
    test_edges();
    test_delays_are_no_hang();
    test_a_stopped_task_is_found_in_time();
    TEST_MAIN_END();
}
