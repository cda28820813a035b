// SPDX-License-Identifier: Apache-2.0
/*
 * The panic correlator: several different fibers panicking at once is the environment's doing.
 *
 * A program's own bug takes one fiber; radiation, failing memory or a brown-out take whichever are
 * running. The rule: `fibers` distinct ones (three) within `window_ns` (100 ms, both ends counted).
 *
 * Theory of operation. Only the newest panic of each fiber can matter, and of those only the
 * `fibers` newest: if `fibers` distinct ones lie within a window that ends now, then so do the
 * `fibers` most recently seen. So a list of that many, newest first, is as good as the whole
 * history.
 *
 * Times come from one monotonic clock, in order. No libc, no allocation; single owner.
 */
#ifndef NX_CORRELATOR_H
#define NX_CORRELATOR_H

#include "nx_base.h"

#define NX_CORRELATOR_FIBERS     3u
#define NX_CORRELATOR_FIBERS_MAX 8u
#define NX_CORRELATOR_WINDOW_NS  100000000u

typedef enum {
    NX_CORRELATOR_ISOLATED = 0,
    NX_CORRELATOR_ONSET = 1,     /* this panic makes it an event of the environment */
    NX_CORRELATOR_CONTINUES = 2, /* the panic before this one was part of one already */
} nx_correlator_result;

typedef struct nx_correlator {
    uint64_t window_ns;
    uint32_t fibers;
    uint32_t known;   /* entries in use */
    uint32_t ongoing; /* the last panic was part of an event */
    uint32_t reserved;
    struct {
        uint64_t fiber;
        uint64_t time_ns;
    } newest[NX_CORRELATOR_FIBERS_MAX]; /* one entry a fiber, newest first */
} nx_correlator;

/* `fibers` is from 2 to NX_CORRELATOR_FIBERS_MAX; anything else counts as the nearer of them. */
void nx_correlator_init(nx_correlator *correlator, uint32_t fibers, uint64_t window_ns);

nx_correlator_result nx_correlator_panic(nx_correlator *correlator, uint64_t fiber,
                                         uint64_t now_ns);

#endif
