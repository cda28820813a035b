// SPDX-License-Identifier: Apache-2.0
#include "nx_watchdog.h"

static void take_beat(nx_watchdog *watchdog, const nx_watchdog_sample *sample)
{
    watchdog->beat = sample->beat;
    watchdog->seen_ns = sample->now_ns;
    watchdog->seen_waited = sample->waited_ns;
    watchdog->late_ns = 0;
}

static void take_motion(nx_watchdog *watchdog, const nx_watchdog_sample *sample)
{
    watchdog->moved_ns = sample->now_ns;
    watchdog->moved_ran = sample->ran_ns;
    watchdog->moved_waited = sample->waited_ns;
}

void nx_watchdog_init(nx_watchdog *watchdog, uint64_t period_ns, uint32_t misses,
                      const nx_watchdog_sample *first)
{
    watchdog->period_ns = period_ns;
    watchdog->deadline_ns = period_ns * misses;
    take_beat(watchdog, first);
    take_motion(watchdog, first);
}

nx_watchdog_verdict nx_watchdog_step(nx_watchdog *watchdog, const nx_watchdog_sample *sample)
{
    if (!sample->runnable || sample->ran_ns != watchdog->moved_ran ||
        sample->waited_ns != watchdog->moved_waited) {
        take_motion(watchdog, sample);
    }
    if (sample->beat != watchdog->beat) {
        take_beat(watchdog, sample);
        return NX_WATCHDOG_OK;
    }
    watchdog->late_ns += sample->late_ns;
    /* A wait that began before the last beat was seen excuses from then on. */
    uint64_t since =
        watchdog->moved_ns > watchdog->seen_ns ? watchdog->moved_ns : watchdog->seen_ns;
    uint64_t excused =
        watchdog->late_ns + (sample->waited_ns - watchdog->seen_waited) + (sample->now_ns - since);
    uint64_t elapsed = sample->now_ns - watchdog->seen_ns;
    uint64_t silence = elapsed > excused ? elapsed - excused : 0;

    if (silence >= watchdog->deadline_ns) {
        return NX_WATCHDOG_HUNG;
    }
    return silence >= watchdog->period_ns ? NX_WATCHDOG_LATE : NX_WATCHDOG_OK;
}
