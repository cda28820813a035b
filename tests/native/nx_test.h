// SPDX-License-Identifier: Apache-2.0
/* A test harness of three macros for the plain C tests; no dependency, no Python. */
#ifndef NX_TEST_H
#define NX_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static int nx_test_checks;
static int nx_test_failures;

/* Counts and reports a condition; the test goes on, main() returns the verdict. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        nx_test_checks++;                                                                          \
        if (!(condition)) {                                                                        \
            nx_test_failures++;                                                                    \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        long long got_ = (long long)(got);                                                         \
        long long want_ = (long long)(want);                                                       \
        nx_test_checks++;                                                                          \
        if (got_ != want_) {                                                                       \
            nx_test_failures++;                                                                    \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_,       \
                    want_);                                                                        \
        }                                                                                          \
    } while (0)

#define TEST_MAIN_END()                                                                            \
    do {                                                                                           \
        printf("%d checks, %d failed\n", nx_test_checks, nx_test_failures);                        \
        return nx_test_failures == 0 && nx_test_checks > 0 ? 0 : 1;                                \
    } while (0)

/* splitmix64 (Steele, Lea, Flood 2014): the tests' only source of randomness. */
static inline uint64_t nx_test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
