// SPDX-License-Identifier: Apache-2.0
/* Welford's update and the squared test; see nx_baseline.h. */
#include "nx_baseline.h"

int nx_baseline_init(nx_baseline *baseline, uint32_t metrics, uint64_t lock, double sigma)
{
    NX_ASSERT(baseline != NULL);
    if (metrics == 0 || metrics > NX_BASELINE_METRICS_MAX || lock < 2 || !(sigma > 0)) {
        return NX_EINVAL;
    }
    *baseline = (nx_baseline){.lock = lock, .metrics = metrics, .sigma = sigma};
    return NX_OK;
}

void nx_baseline_learn(nx_baseline *baseline, const double *values)
{
    if (NX_UNLIKELY(baseline->locked)) {
        return;
    }
    double share = 1.0 / (double)++baseline->samples;
    for (uint32_t i = 0; i < baseline->metrics; i++) {
        double before = values[i] - baseline->mean[i];
        baseline->mean[i] += before * share;
        baseline->m2[i] += before * (values[i] - baseline->mean[i]);
    }
    if (NX_UNLIKELY(baseline->samples == baseline->lock)) {
        double scale = baseline->sigma * baseline->sigma / (double)(baseline->samples - 1);
        for (uint32_t i = 0; i < baseline->metrics; i++) {
            baseline->limit[i] = baseline->m2[i] * scale;
        }
        baseline->locked = true;
    }
}

uint64_t nx_baseline_deviations(const nx_baseline *baseline, const double *values)
{
    uint64_t mask = 0;

    if (NX_UNLIKELY(!baseline->locked)) {
        return 0;
    }
    for (uint32_t i = 0; i < baseline->metrics; i++) {
        double distance = values[i] - baseline->mean[i];
        mask |= (uint64_t)(distance * distance > baseline->limit[i]) << i;
    }
    return mask;
}

bool nx_baseline_all_finite(const double *values, size_t count)
{
    double poison = 0;

    /* 0 * x is 0 for every finite x and NaN for the others; one test at the end. */
    for (size_t i = 0; i < count; i++) {
        poison += 0 * values[i];
    }
    return poison == 0;
}

size_t nx_baseline_feed(nx_baseline *baseline, const double *values, size_t count, uint64_t *ret)
{
    size_t deviating = 0;

    for (size_t i = 0; i < count; i++, values += baseline->metrics) {
        uint64_t mask = 0;
        if (baseline->locked) {
            mask = nx_baseline_deviations(baseline, values);
        } else {
            nx_baseline_learn(baseline, values);
        }
        ret[i] = mask;
        deviating += mask != 0;
    }
    return deviating;
}
