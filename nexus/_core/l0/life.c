// SPDX-License-Identifier: Apache-2.0
/*
 * The lives of a fiber as a state machine: off -> on -> (pause -> on)* -> over.
 *
 * Nothing here waits. The loop tells what happened (the warden spoke, a child was reaped, time went
 * by, someone asked for the end) and asks when to come back.
 */
#include "nx_l0.h"

#include "nx_blake3.h"

#include <linux/mman.h>
#include <linux/sched.h>
#include <string.h>

#define MS       1000000u
#define SIGKILL_ 9
#define EBADMSG_ 74

static const nx_bkdl_policy *policy_of(const nx_l0_fiber *fiber)
{
    return nx_bkdl_policy_of(&fiber->plan.manifest);
}

static const char *name_of(const nx_l0_fiber *fiber)
{
    return (const char *)fiber->plan.manifest.sections[NX_BKDL_NAME].data;
}

void nx_l0_notice(const nx_l0_fiber *fiber, const char *what, long error)
{
    nx_l0_digits digits;

    NX_L0_SAY("nexus-l0: ", name_of(fiber), ": ", what, ", errno ",
              nx_l0_decimal(&digits, (uint64_t)-error), "\n");
}

/* Compares the image with the digest in the plan; a sealed memfd changes only when memory rots. */
static bool image_is_sound(nx_l0_fiber *fiber)
{
    const nx_plan_image *image = fiber->plan.image;
    uint8_t digest[NX_BLAKE3_OUT];

    if ((image->flags & 1) == 0) {
        return true;
    }
    nx_l0_enter(fiber, NX_STAGE_IMAGE, 0);
    long size = nx_sys(__NR_lseek, image->descriptor, 0, 2 /* SEEK_END */);
    if (!nx_l0_ok(fiber, size)) {
        return false;
    }
    long address = nx_sys(__NR_mmap, NULL, size, 1 /* PROT_READ */, MAP_SHARED | MAP_POPULATE,
                          image->descriptor, 0);
    if (!nx_l0_ok(fiber, address)) {
        return false;
    }
    nx_blake3_mode mode;
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, (const void *)address, (size_t)size, digest, sizeof digest);
    (void)nx_sys(__NR_munmap, address, size);
    bool same = memcmp(digest, image->digest, sizeof digest) == 0;
    return nx_l0_ok(fiber, same ? 0 : -EBADMSG_);
}

/* The start did not reach the program: nothing would be better the next time. */
static void give_up(nx_l0_fiber *fiber)
{
    const nx_l0_shared *shared = fiber->shared;
    nx_l0_digits error;
    nx_l0_digits index;

    NX_L0_SAY("nexus-l0: start failed at ", nx_l0_stage_name(shared->stage), ", item ",
              nx_l0_decimal(&index, shared->index), ", errno ",
              nx_l0_decimal(&error, (uint64_t)(shared->error < 0 ? 0 : shared->error)), "\n");
    fiber->state = NX_LIFE_OVER;
    fiber->result = NX_L0_EXIT_FAILED;
}

void nx_l0_life_begin(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = policy_of(fiber);

    if (fiber->starts == 0) {
        fiber->budget.event = -1;
        nx_breaker_init(&fiber->breaker, policy->intensity, (uint64_t)policy->period_ms * MS,
                        (uint64_t)policy->delay_ms * MS);
    }
    fiber->state = NX_LIFE_ON;
    if (!image_is_sound(fiber) || !nx_l0_start_fiber(fiber)) {
        give_up(fiber);
    }
}

static int exit_status(int32_t status)
{
    int signal = status & 0x7f;

    return signal != 0 ? 128 + signal : (status >> 8) & 0xff;
}

static void close_if_open(int32_t descriptor)
{
    if (descriptor >= 0) {
        (void)nx_sys(__NR_close, descriptor);
    }
}

static void forget_warden(nx_l0_fiber *fiber, unsigned slot)
{
    if (fiber->shared->wardens[slot].pid > 0) {
        close_if_open(fiber->shared->wardens[slot].pidfd);
        fiber->shared->wardens[slot].pid = 0;
    }
}

/* The life is over; whether another follows is for the policy and the breaker to say. */
static void end_life(nx_l0_fiber *fiber, int32_t status, uint64_t now_ns)
{
    const nx_bkdl_policy *policy = policy_of(fiber);
    uint64_t delay = 0;

    nx_l0_budget_close(&fiber->budget);
    close_if_open(fiber->shared->pidfd);
    fiber->shared->pidfd = -1;
    forget_warden(fiber, fiber->shared->request & 1);
    if (fiber->shared->error != 0) {
        give_up(fiber);
        return;
    }
    fiber->state = NX_LIFE_OVER;
    fiber->result = exit_status(status);
    if (fiber->stopping || policy->restart == NX_RESTART_NEVER ||
        (policy->restart == NX_RESTART_ON_FAILURE && status == 0)) {
        return;
    }
    if (!nx_breaker_admit(&fiber->breaker, now_ns, &delay)) {
        nx_l0_digits starts;
        NX_L0_SAY("nexus-l0: the breaker opened after ", nx_l0_decimal(&starts, fiber->starts),
                  " starts\n");
        return;
    }
    fiber->state = NX_LIFE_PAUSE;
    fiber->until_ns = now_ns + delay;
}

/* The fiber has been made: hold it to the budget of its tier, if the manifest declares one. */
static void begin_budget(nx_l0_fiber *fiber, uint64_t now_ns)
{
    const nx_bkdl_policy *policy = policy_of(fiber);

    if (policy->budget_ns == 0 || fiber->budget.event >= 0 || fiber->shared->pidfd < 0) {
        return;
    }
    long result = nx_l0_budget_open(&fiber->budget, fiber->shared->pidfd, policy->pledge, now_ns);
    if (result < 0) {
        nx_l0_notice(fiber, "its budget is not held: perf was refused", result);
        return;
    }
    result = nx_l0_budget_schedule(&fiber->budget);
    if (result < 0) {
        nx_l0_notice(fiber, "its tier's scheduling was refused and stays the ordinary one", result);
    }
}

static void hold_budget(nx_l0_fiber *fiber, uint64_t now_ns)
{
    static const char *const tiers[] = {"void", "gravity", "matter", "photon"};

    if (nx_l0_budget_look(&fiber->budget, now_ns) == NX_RATCHET_DEMOTE) {
        long result = nx_l0_budget_schedule(&fiber->budget);
        NX_L0_SAY("nexus-l0: ", name_of(fiber), ": three overruns, now ",
                  tiers[fiber->budget.ratchet.tier], "\n");
        if (result < 0) {
            nx_l0_notice(fiber, "the lower tier's scheduling was refused", result);
        }
    }
}

void nx_l0_life_heard(nx_l0_fiber *fiber, uint64_t now_ns)
{
    uint64_t count;

    (void)nx_sys(__NR_read, fiber->ready, &count, sizeof count);
    if (fiber->state != NX_LIFE_ON) {
        return;
    }
    /* Pairs with the release in keep_house. */
    if (__atomic_load_n(&fiber->shared->ended, __ATOMIC_ACQUIRE) != 0) {
        end_life(fiber, fiber->shared->status, now_ns);
    } else {
        begin_budget(fiber, now_ns);
    }
}

bool nx_l0_life_reaped(nx_l0_fiber *fiber, int32_t pid, int32_t status, uint64_t now_ns)
{
    nx_l0_shared *shared = fiber->shared;
    unsigned slot = shared->request & 1;
    bool on = fiber->state == NX_LIFE_ON;

    if (pid == fiber->template) {
        /* Without its warden a life cannot begin; one that is on goes on, and the warden that was
         * to be the next is of no use without the template's counters. */
        fiber->template = 0;
        if (shared->wardens[slot ^ 1].pid > 0) {
            (void)nx_sys(__NR_kill, shared->wardens[slot ^ 1].pid, SIGKILL_);
        }
        if (on && shared->wardens[slot].pid <= 0) {
            end_life(fiber, status, now_ns);
        }
        return true;
    }
    if (pid == shared->wardens[slot ^ 1].pid) {
        /* The next life's warden is gone before its time: the template must begin anew. */
        forget_warden(fiber, slot ^ 1);
        if (fiber->template > 0) {
            (void)nx_sys(__NR_kill, fiber->template, SIGKILL_);
        }
        return true;
    }
    if (pid != shared->wardens[slot].pid) {
        return false;
    }
    if (on) {
        /* A warden that spoke has the fiber's own status. */
        bool spoke = __atomic_load_n(&shared->ended, __ATOMIC_ACQUIRE) != 0;
        end_life(fiber, spoke ? shared->status : status, now_ns);
    }
    return true;
}

void nx_l0_life_signal(const nx_l0_fiber *fiber, uint32_t signal)
{
    if (fiber->state == NX_LIFE_ON && fiber->shared->pidfd >= 0) {
        (void)nx_sys(__NR_pidfd_send_signal, fiber->shared->pidfd, signal, NULL, 0);
    }
}

void nx_l0_life_stop(nx_l0_fiber *fiber, uint64_t now_ns, bool firm)
{
    if (!fiber->stopping) {
        fiber->until_ns = NX_L0_FOREVER;
    }
    fiber->stopping = true;
    if (firm && fiber->until_ns == NX_L0_FOREVER) {
        fiber->until_ns = now_ns + (uint64_t)policy_of(fiber)->grace_ms * MS;
    }
    if (fiber->state == NX_LIFE_PAUSE) {
        fiber->state = NX_LIFE_OVER;
    }
}

void nx_l0_life_step(nx_l0_fiber *fiber, uint64_t now_ns)
{
    if (fiber->state == NX_LIFE_PAUSE && now_ns >= fiber->until_ns) {
        nx_l0_life_begin(fiber);
    } else if (fiber->state == NX_LIFE_ON) {
        hold_budget(fiber, now_ns);
        int32_t warden = fiber->shared->wardens[fiber->shared->request & 1].pid;
        if (fiber->stopping && now_ns >= fiber->until_ns && warden > 0) {
            (void)nx_sys(__NR_kill, warden, SIGKILL_);
            fiber->until_ns = NX_L0_FOREVER;
        }
    }
}

uint64_t nx_l0_life_next(const nx_l0_fiber *fiber, uint64_t now_ns)
{
    uint64_t look = NX_L0_FOREVER;

    if (fiber->state == NX_LIFE_PAUSE) {
        return fiber->until_ns;
    }
    if (fiber->state == NX_LIFE_ON) {
        look = nx_l0_budget_next(&fiber->budget, now_ns);
        if (fiber->stopping && fiber->until_ns < look) {
            look = fiber->until_ns;
        }
    }
    return look;
}
