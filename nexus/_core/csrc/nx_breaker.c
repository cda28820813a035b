// SPDX-License-Identifier: Apache-2.0
#include "nx_breaker.h"

void nx_breaker_init(nx_breaker *breaker, uint32_t intensity, uint64_t period_ns, uint64_t delay_ns)
{
    *breaker = (nx_breaker){
        .period_ns = period_ns,
        .delay_ns = delay_ns,
        .intensity = intensity < NX_BREAKER_INTENSITY_MAX ? intensity : NX_BREAKER_INTENSITY_MAX,
    };
}

/* How many of the remembered restarts lie within the last period. */
static uint32_t recent(const nx_breaker *breaker, uint64_t now_ns)
{
    uint32_t known = breaker->count < breaker->intensity ? breaker->count : breaker->intensity;
    uint32_t found = 0;

    for (uint32_t i = 0; i < known; i++) {
        found += now_ns - breaker->times[i] < breaker->period_ns;
    }
    return found;
}

bool nx_breaker_admit(nx_breaker *breaker, uint64_t now_ns, uint64_t *ret)
{
    if (breaker->intensity == 0) {
        breaker->state = NX_BREAKER_OPEN;
        return false;
    }
    uint32_t found = recent(breaker, now_ns);
    if (breaker->state == NX_BREAKER_OPEN) {
        if (now_ns - breaker->opened_ns < breaker->period_ns) {
            return false;
        }
        breaker->state = NX_BREAKER_HALF_OPEN;
    } else if (breaker->state == NX_BREAKER_HALF_OPEN && found == 0) {
        breaker->state = NX_BREAKER_CLOSED;
    } else if (found >= breaker->intensity || breaker->state == NX_BREAKER_HALF_OPEN) {
        breaker->state = NX_BREAKER_OPEN;
        breaker->opened_ns = now_ns;
        return false;
    }
    uint32_t doublings = found < NX_BREAKER_DOUBLINGS_MAX ? found : NX_BREAKER_DOUBLINGS_MAX;
    breaker->times[breaker->count % breaker->intensity] = now_ns;
    breaker->count++;
    *ret = breaker->delay_ns << doublings;
    return true;
}
