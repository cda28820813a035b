// SPDX-License-Identifier: Apache-2.0
/*
 * Sleeping until a peer has something, at next to no cost for the peer.
 *
 * Theory of operation. One shared word says whether the consumer sleeps. The producer looks at it
 * after each commit with a plain load and no fence (0.3 ns instead of 1.8 ns measured). What
 * makes that safe is on the sleeper's side: it sets the flag, calls
 * membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED), which runs a fence on every core that executes a
 * registered process, and looks once more before it sleeps. Either the producer's load saw the
 * flag, or the last look saw the record. Where membarrier is refused, the party that lacks it
 * says so: a producer fences itself, a consumer demands fences through the word for good.
 *
 * Guarantees. No wake is lost while both live. A producer killed between its commit and its wake
 * delays a futex sleeper by at most NX_WAKE_SLICE_NS. Bits in the word that a hostile peer flips
 * cost needless system calls or one slice, never safety.
 *
 * Not handled. A sleeper in epoll has no slice: who cannot trust its producers sets a timeout
 * there.
 *
 * Source: asymmetric fences as in membarrier(2); the word's bits are in docs/spec/ring.md.
 */
#ifndef NX_WAKE_H
#define NX_WAKE_H

#include "nx_base.h"

#include <stdatomic.h>

#define NX_WAKE_SLICE_NS 200000000ll

enum {
    NX_WAKE_SLEEPING = 1, /* in a futex on the word */
    NX_WAKE_ARMED = 2,    /* wants its eventfd written */
    NX_WAKE_FENCE = 4,    /* producers must fence before they look */
};

/* Registers this process as one that others' membarrier reaches; false when it is refused. */
bool nx_wake_register(void);

/*
 * Announces sleep: sets `flag` (NX_WAKE_SLEEPING or NX_WAKE_ARMED), then makes sure that every
 * producer either sees it or has made visible what it committed. The caller looks again after.
 */
void nx_wake_announce(_Atomic uint32_t *word, uint32_t flag);

/* Takes the announcement back. */
void nx_wake_withdraw(_Atomic uint32_t *word, uint32_t flag);

/*
 * Sleeps while the announcement stands: NX_OK when woken or without cause, NX_ETIMEOUT, or
 * NX_ESYS with errno EINTR. At most NX_WAKE_SLICE_NS whatever `timeout_ns` says.
 */
int nx_wake_sleep(_Atomic uint32_t *word, int64_t timeout_ns);

/*
 * Wakes who announced itself; `event_fd` is -1 when there is none. NX_OK, or NX_EABSENT when an
 * eventfd was wanted and there is none here.
 */
int nx_wake_signal(_Atomic uint32_t *word, int event_fd);

/* A full fence; not atomic_thread_fence, for which gcc warns under the thread sanitizer. */
NX_INLINE void nx_wake_fence(void)
{
    __sync_synchronize();
}

/* Whether someone sleeps; after a commit, with `fence` unless nx_wake_register succeeded. */
NX_INLINE bool nx_wake_is_wanted(_Atomic uint32_t *word, bool fence)
{
    /* The compiler must not move the load before the commit; the core may, see above. */
    atomic_signal_fence(memory_order_seq_cst);
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    if (NX_LIKELY(seen << 24 == 0 && !fence)) {
        return false;
    }
    /* Pairs with the fence in nx_wake_announce. */
    nx_wake_fence();
    seen = atomic_load_explicit(word, memory_order_relaxed);
    return (seen & (NX_WAKE_SLEEPING | NX_WAKE_ARMED)) != 0;
}

#endif
