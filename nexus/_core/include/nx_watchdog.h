// SPDX-License-Identifier: Apache-2.0
/*
 * The watchdog: whether a task that should beat regularly is alive, late or hung.
 *
 * Silence counts from the poll that saw the last beat, less the time in which the task could not
 * have beaten or the observer not have looked. The machine has four ways of delaying a beat:
 *   - the task waited for a CPU and got it: Linux adds that wait to `waited_ns` when the task
 *     arrives on the CPU;
 *   - the task waits for a CPU now: `waited_ns` does not show it yet, which was measured: it stood
 *     still for 300 ms of starvation and then jumped. So a task that is runnable, while neither of
 *     its clocks moves, is waiting since the last poll that saw it otherwise;
 *   - the observer came late to this poll: `late_ns`, which the whole machine standing still for a
 *     while looks like too;
 *   - a beat just after a poll is seen one poll later.
 * The waits of task and observer are added up, though they may overlap: that can only delay the
 * verdict, never make it false. A task that spins moves its CPU clock, and one that is stopped or
 * blocked is not runnable; neither is excused.
 *
 * Guarantees. Never hung when the delays explain the silence. A task that stops beating and waits
 * for no CPU is hung at the first poll after its deadline, which is less than `period * misses`
 * plus one poll interval after its last beat was seen, plus what the observer itself was late.
 *
 * Not handled: a CPU clock that the kernel moves once a tick only, which can delay the verdict on a
 * spinning task by a tick or a poll, whichever is longer; clocks that go back; a task that
 * beats and does nothing else.
 * No libc, no allocation; single owner. Times in nanoseconds from one monotonic clock.
 */
#ifndef NX_WATCHDOG_H
#define NX_WATCHDOG_H

#include "nx_base.h"

typedef enum {
    NX_WATCHDOG_OK = 0,
    NX_WATCHDOG_LATE = 1, /* one period missed */
    NX_WATCHDOG_HUNG = 2, /* `misses` periods missed */
} nx_watchdog_verdict;

/* One look. Take the beat last: what delays the task in between then counts for it. */
typedef struct nx_watchdog_sample {
    uint64_t now_ns;
    uint64_t late_ns;   /* how much later than planned this poll began */
    uint64_t ran_ns;    /* CPU time of the task: /proc/PID/schedstat, first number */
    uint64_t waited_ns; /* run-queue delay of the task: its second number */
    uint64_t beat;      /* the task's beat counter */
    bool runnable;      /* /proc/PID/stat says R; false when it cannot be known */
} nx_watchdog_sample;

typedef struct nx_watchdog {
    uint64_t period_ns;
    uint64_t deadline_ns;
    uint64_t beat;
    uint64_t seen_ns;     /* the poll that saw the last beat */
    uint64_t seen_waited; /* run-queue delay at that poll */
    uint64_t late_ns;     /* of the observer, since then */
    uint64_t moved_ns;    /* the last poll that saw the task run, arrive or sleep */
    uint64_t moved_ran;   /* its clocks at the last poll */
    uint64_t moved_waited;
} nx_watchdog;

/* Begins to watch; the first sample counts as a beat. */
void nx_watchdog_init(nx_watchdog *watchdog, uint64_t period_ns, uint32_t misses,
                      const nx_watchdog_sample *first);

nx_watchdog_verdict nx_watchdog_step(nx_watchdog *watchdog, const nx_watchdog_sample *sample);

#endif
