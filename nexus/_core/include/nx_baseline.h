// SPDX-License-Identifier: Apache-2.0
/*
 * Learned normal behaviour: running mean and variance of several metrics, then a fixed limit.
 *
 * Welford's online algorithm (Technometrics 4(3), 1962) in structure-of-arrays form. After `lock`
 * samples the baseline stops learning for good, so that a slow drift cannot teach it to accept
 * what it should report, and each metric gets a limit on the squared distance from its mean:
 * sigma^2 * M2 / (n - 1). A test is then one subtraction, one product and one comparison; no root.
 *
 * A metric that never varied has the limit 0: any other value deviates. Values must be finite; the
 * caller refuses others, since one NaN would poison the mean for good.
 */
#ifndef NX_BASELINE_H
#define NX_BASELINE_H

#include "nx_base.h"

#define NX_BASELINE_METRICS_MAX 64u

typedef struct nx_baseline {
    uint64_t samples;
    uint64_t lock; /* learn this many samples, at least 2 */
    uint32_t metrics;
    bool locked;
    double sigma;
    double mean[NX_BASELINE_METRICS_MAX];
    double m2[NX_BASELINE_METRICS_MAX];    /* sum of squared distances from the mean */
    double limit[NX_BASELINE_METRICS_MAX]; /* of the squared distance; set when locked */
} nx_baseline;

/* NX_EINVAL for no metric or more than the maximum, lock < 2, or a sigma not above 0. */
int nx_baseline_init(nx_baseline *baseline, uint32_t metrics, uint64_t lock, double sigma);

/* Learns one sample of `metrics` values; locks with the last one. Does nothing once locked. */
void nx_baseline_learn(nx_baseline *baseline, const double *values);

/* The metrics, as bits, that lie beyond the limit; 0 while not locked. */
uint64_t nx_baseline_deviations(const nx_baseline *baseline, const double *values);

/* Whether all of `count` values are finite. */
bool nx_baseline_all_finite(const double *values, size_t count);

/* Feeds `count` samples in order: learns until locked, then tests. One mask a sample. Returns how
 * many samples deviated. */
size_t nx_baseline_feed(nx_baseline *baseline, const double *values, size_t count, uint64_t *ret);

#endif
