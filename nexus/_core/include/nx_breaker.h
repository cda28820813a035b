// SPDX-License-Identifier: Apache-2.0
/*
 * The circuit breaker of restarts: how often a fiber may come back, and how soon.
 *
 * Restarts are admitted while fewer than `intensity` lie within the last `period` (the rule of
 * Erlang's supervisors: Armstrong, "Making reliable distributed systems in the presence of
 * software errors", 2003, section 5.2). Each restart within the period doubles the delay. When the
 * limit is reached the breaker opens and stays open until one period has gone by; then it admits
 * one trial (half-open): a trial that survives a period closes it, one that fails opens it again.
 *
 * Time is the caller's; any monotonic clock in nanoseconds.
 */
#ifndef NX_BREAKER_H
#define NX_BREAKER_H

#include "nx_base.h"

#define NX_BREAKER_INTENSITY_MAX 64u
#define NX_BREAKER_DOUBLINGS_MAX 10u

typedef enum {
    NX_BREAKER_CLOSED = 0,
    NX_BREAKER_OPEN = 1,
    NX_BREAKER_HALF_OPEN = 2,
} nx_breaker_state;

typedef struct nx_breaker {
    uint64_t period_ns;
    uint64_t delay_ns;
    uint64_t opened_ns;
    uint32_t intensity;
    uint32_t count; /* restarts admitted in all */
    uint32_t state;
    uint32_t reserved;
    uint64_t times[NX_BREAKER_INTENSITY_MAX]; /* of the last `intensity` restarts, in a ring */
} nx_breaker;

/* intensity is at most NX_BREAKER_INTENSITY_MAX; more counts as that. 0 admits nothing. */
void nx_breaker_init(nx_breaker *breaker, uint32_t intensity, uint64_t period_ns,
                     uint64_t delay_ns);

/* Whether a restart is admitted now, and after which delay. */
bool nx_breaker_admit(nx_breaker *breaker, uint64_t now_ns, uint64_t *ret);

#endif
