// SPDX-License-Identifier: Apache-2.0
/* membarrier, futex and eventfd; see nx_wake.h. */
#include "nx_wake.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ANNOUNCEMENT 0x100u /* counts in bits 8-31 */

static long membarrier_call(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

bool nx_wake_register(void)
{
    return membarrier_call(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
}

void nx_wake_announce(_Atomic uint32_t *word, uint32_t flag)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(word, &seen, (seen + ANNOUNCEMENT) | flag,
                                                  memory_order_seq_cst, memory_order_relaxed)) {
    }
    if (((seen & NX_WAKE_FENCE) == 0) && membarrier_call(MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0) {
        atomic_fetch_or_explicit(word, NX_WAKE_FENCE, memory_order_seq_cst);
    }
    /* Pairs with the fence in nx_wake_is_wanted of producers that fence themselves. */
    nx_wake_fence();
}

void nx_wake_withdraw(_Atomic uint32_t *word, uint32_t flag)
{
    atomic_fetch_and_explicit(word, ~flag, memory_order_relaxed);
}

int nx_wake_sleep(_Atomic uint32_t *word, int64_t timeout_ns)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    int64_t slice = timeout_ns < NX_WAKE_SLICE_NS ? timeout_ns : NX_WAKE_SLICE_NS;
    struct timespec limit = {.tv_sec = 0, .tv_nsec = (long)(slice > 0 ? slice : 0)};

    if ((seen & NX_WAKE_SLEEPING) == 0) {
        return NX_OK;
    }
    if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0) == 0 || errno == EAGAIN) {
        return NX_OK;
    }
    return errno == ETIMEDOUT ? NX_ETIMEOUT : NX_ESYS;
}

int nx_wake_signal(_Atomic uint32_t *word, int event_fd)
{
    uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
    int result = NX_OK;

    if ((seen & NX_WAKE_ARMED) != 0) {
        uint64_t one = 1;
        if (event_fd < 0) {
            result = NX_EABSENT;
        } else if (write(event_fd, &one, sizeof one) == sizeof one || errno == EAGAIN) {
            /* Written before the flag falls: a producer killed in between wakes once too often.
             * The count in the word keeps a newer announcement from being erased. */
            if (atomic_compare_exchange_strong_explicit(
                    word, &seen, seen & ~(uint32_t)NX_WAKE_ARMED, memory_order_acq_rel,
                    memory_order_acquire)) {
                seen &= ~(uint32_t)NX_WAKE_ARMED;
            }
        } else {
            result = NX_ESYS;
        }
    }
    /* The flag falls before the call: else the sleeper could fall asleep between the two. */
    while ((seen & NX_WAKE_SLEEPING) != 0) {
        if (atomic_compare_exchange_weak_explicit(word, &seen, seen & ~(uint32_t)NX_WAKE_SLEEPING,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
            break;
        }
    }
    return result;
}
