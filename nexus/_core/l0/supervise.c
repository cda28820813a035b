// SPDX-License-Identifier: Apache-2.0
/* The loop over a fiber's lives: verify, start, watch, decide, wait, again. */
#include "nx_l0.h"

#include "budget.h"
#include "nx_blake3.h"
#include "nx_breaker.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/poll.h>
#include <linux/signalfd.h>
#include <string.h>

#define NS                  1000000000u
#define MS                  1000000u
#define FOREVER             UINT64_MAX
#define SWEEP_ROUNDS_MAX    1000
#define WNOHANG_            1
#define SIGKILL_            9
#define SIGHUP_             1
#define SIGINT_             2
#define SIGQUIT_            3
#define SIGTERM_            15
#define SIGCHLD_            17
#define SIGSTOP_            19
#define SIGTSTP_            20
#define SI_USER_            0
#define SI_QUEUE_           (-1)
#define CLOCK_MONO          1
#define SIG_SETMASK         2
#define FORWARD_LIMIT       31
#define SCHED_FIFO_         1
#define RESET_ON_FORK       0x40000000
#define SUPERVISOR_PRIORITY 50

/* What the loop knows besides the fiber. */
typedef struct nx_l0_run {
    int32_t signals; /* signalfd of everything */
    int32_t status;  /* wait status of the last life */
    bool stopping;   /* asked to end: no restart, and SIGKILL at the deadline */
    uint64_t deadline_ns;
    nx_l0_budget budget;
} nx_l0_run;

static uint64_t now_ns(void)
{
    int64_t time[2] = {0, 0};

    (void)nx_sys(__NR_clock_gettime, CLOCK_MONO, time);
    return (uint64_t)time[0] * NS + (uint64_t)time[1];
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
    return nx_l0_ok(fiber, memcmp(digest, image->digest, sizeof digest) == 0 ? 0 : -74);
}

static void signal_fiber(const nx_l0_fiber *fiber, uint32_t signal)
{
    if (fiber->shared->pidfd >= 0) {
        (void)nx_sys(__NR_pidfd_send_signal, fiber->shared->pidfd, signal, NULL, 0);
    }
}

/*
 * A signal sent to L0 by a process goes on to the fiber; one that the terminal made has reached
 * the fiber already, which is in the same foreground group. Either way, being asked to end ends
 * the restarts.
 */
static void take_signal(nx_l0_fiber *fiber, const struct signalfd_siginfo *info, nx_l0_run *run)
{
    bool sent = info->ssi_code == SI_USER_ || info->ssi_code == SI_QUEUE_;
    uint32_t signal = info->ssi_signo;

    if (signal == SIGTSTP_) {
        (void)nx_sys(__NR_kill, nx_sys0(__NR_getpid), SIGSTOP_);
    } else if (signal != SIGCHLD_ && signal <= FORWARD_LIMIT) {
        if (sent) {
            signal_fiber(fiber, signal);
        }
        if (signal == SIGTERM_ || signal == SIGINT_ || signal == SIGHUP_ || signal == SIGQUIT_) {
            uint32_t grace = nx_bkdl_policy_of(&fiber->plan.manifest)->grace_ms;
            run->stopping = true;
            run->deadline_ns = now_ns() + (uint64_t)grace * MS;
        }
    }
}

/* Whether the warden said that the life is over. */
static bool has_ended(nx_l0_fiber *fiber, nx_l0_run *run)
{
    /* Pairs with the release in keep_house. */
    if (__atomic_load_n(&fiber->shared->ended, __ATOMIC_ACQUIRE) == 0) {
        return false;
    }
    run->status = fiber->shared->status;
    return true;
}

/* Reaps L0's children; true when the life has ended. A template that goes ends it, too. */
static bool reap(nx_l0_fiber *fiber, nx_l0_run *run)
{
    nx_l0_shared *shared = fiber->shared;
    bool ended = false;
    int32_t found = 0;

    for (;;) {
        long pid = nx_sys(__NR_wait4, -1, &found, WNOHANG_, NULL);
        if (pid <= 0) {
            return ended;
        }
        if (pid == fiber->template) {
            fiber->template = 0;
            if (shared->warden > 0) {
                (void)nx_sys(__NR_kill, shared->warden, SIGKILL_);
            } else {
                ended = true;
                run->status = found;
            }
        } else if (pid == (fiber->pid != 0 ? fiber->pid : shared->warden)) {
            ended = true;
            if (!has_ended(fiber, run)) {
                run->status = found;
            }
        }
    }
}

static void notice(const nx_l0_fiber *fiber, const char *what, long error)
{
    nx_l0_digits digits;

    NX_L0_SAY("nexus-l0: ", (const char *)fiber->plan.manifest.sections[NX_BKDL_NAME].data, ": ",
              what, ", errno ", nx_l0_decimal(&digits, (uint64_t)-error), "\n");
}

/* The fiber has been made: hold it to the budget of its tier, if the manifest declares one. */
static void begin_budget(nx_l0_fiber *fiber, nx_l0_run *run)
{
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&fiber->plan.manifest);

    if (policy->budget_ns == 0 || fiber->shared->pidfd < 0) {
        return;
    }
    long result = nx_l0_budget_open(&run->budget, fiber->shared->pidfd, policy->pledge, now_ns());
    if (result < 0) {
        notice(fiber, "its budget is not held: perf was refused", result);
        return;
    }
    result = nx_l0_budget_schedule(&run->budget);
    if (result < 0) {
        notice(fiber, "its tier's scheduling was refused and stays the ordinary one", result);
    }
}

static void hold_budget(nx_l0_fiber *fiber, nx_l0_run *run)
{
    static const char *const tiers[] = {"void", "gravity", "matter", "photon"};

    if (nx_l0_budget_look(&run->budget, now_ns()) == NX_RATCHET_DEMOTE) {
        long result = nx_l0_budget_schedule(&run->budget);
        NX_L0_SAY("nexus-l0: ", (const char *)fiber->plan.manifest.sections[NX_BKDL_NAME].data,
                  ": three overruns, now ", tiers[run->budget.ratchet.tier], "\n");
        if (result < 0) {
            notice(fiber, "the lower tier's scheduling was refused", result);
        }
    }
}

/* Waits until a signal comes, the time is up or something happens to the fiber: true when it has
 * ended. */
static bool wait_once(nx_l0_fiber *fiber, nx_l0_run *run, uint64_t until_ns)
{
    uint64_t now = now_ns();
    uint64_t look = nx_l0_budget_next(&run->budget, now);
    bool asleep = run->budget.event >= 0 && run->budget.asleep;
    struct pollfd poll[3] = {{.fd = run->signals, .events = POLLIN},
                             {.fd = fiber->ready, .events = POLLIN},
                             {.fd = asleep ? run->budget.event : -1, .events = POLLIN}};
    struct signalfd_siginfo info;

    until_ns = look < until_ns ? look : until_ns;
    uint64_t left = until_ns > now ? until_ns - now : 0;
    uint64_t pause[2] = {left / NS, left % NS};
    (void)nx_sys(__NR_ppoll, poll, 3, until_ns == FOREVER ? NULL : pause, NULL, 8);
    if ((poll[1].revents & POLLIN) != 0) {
        uint64_t count;
        (void)nx_sys(__NR_read, fiber->ready, &count, sizeof count);
        if (has_ended(fiber, run)) {
            return true;
        }
        begin_budget(fiber, run);
    }
    hold_budget(fiber, run);
    while (nx_sys(__NR_read, run->signals, &info, sizeof info) == (long)sizeof info) {
        take_signal(fiber, &info, run);
    }
    return reap(fiber, run);
}

/* Until the fiber ends, by itself or, after the grace of a request to stop, by SIGKILL. */
static void watch(nx_l0_fiber *fiber, nx_l0_run *run)
{
    bool killed = false;

    while (!wait_once(fiber, run, run->stopping && !killed ? run->deadline_ns : FOREVER)) {
        if (run->stopping && !killed && now_ns() >= run->deadline_ns) {
            int32_t top = fiber->pid != 0 ? fiber->pid : fiber->shared->warden;
            if (top > 0) {
                (void)nx_sys(__NR_kill, top, SIGKILL_);
                killed = true;
            }
        }
    }
    nx_l0_budget_close(&run->budget);
    if (fiber->shared->warden_pidfd >= 0) {
        (void)nx_sys(__NR_close, fiber->shared->warden_pidfd);
    }
    if (fiber->shared->pidfd >= 0) {
        (void)nx_sys(__NR_close, fiber->shared->pidfd);
    }
}

static int exit_status(int status)
{
    int signal = status & 0x7f;

    return signal != 0 ? 128 + signal : (status >> 8) & 0xff;
}

static void explain(const nx_l0_fiber *fiber)
{
    const nx_l0_shared *shared = fiber->shared;
    nx_l0_digits error;
    nx_l0_digits index;

    NX_L0_SAY("nexus-l0: start failed at ", nx_l0_stage_name(shared->stage), ", item ",
              nx_l0_decimal(&index, shared->index), ", errno ",
              nx_l0_decimal(&error, (uint64_t)(shared->error < 0 ? 0 : shared->error)), "\n");
}

/* One life; false when it never began. */
static bool live(nx_l0_fiber *fiber, nx_l0_run *run)
{
    if (!image_is_sound(fiber) || !nx_l0_start_fiber(fiber)) {
        return false;
    }
    watch(fiber, run);
    if (fiber->pid != 0) {
        nx_l0_sweep();
    }
    return fiber->shared->error == 0;
}

/* Whether the policy wants another life and the breaker admits it; waits for its time. */
static bool again(nx_l0_fiber *fiber, nx_l0_run *run, nx_breaker *breaker)
{
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&fiber->plan.manifest);
    uint64_t delay = 0;

    if (run->stopping || policy->restart == NX_RESTART_NEVER ||
        (policy->restart == NX_RESTART_ON_FAILURE && run->status == 0)) {
        return false;
    }
    if (!nx_breaker_admit(breaker, now_ns(), &delay)) {
        nx_l0_digits starts;
        NX_L0_SAY("nexus-l0: the breaker opened after ", nx_l0_decimal(&starts, fiber->starts),
                  " starts\n");
        return false;
    }
    uint64_t until = now_ns() + delay;
    while (!run->stopping && now_ns() < until) {
        (void)wait_once(fiber, run, until);
    }
    return !run->stopping;
}

/* Real time for the supervisor, not for its children: an overrun is found when it happens. */
static void become_prompt(const nx_l0_fiber *fiber)
{
    int32_t priority = SUPERVISOR_PRIORITY;
    long result = nx_sys(__NR_sched_setscheduler, 0, SCHED_FIFO_ | RESET_ON_FORK, &priority);

    if (result < 0) {
        notice(fiber, "budgets are best effort: SCHED_FIFO was refused to the supervisor", result);
    }
    /* Refused beyond RLIMIT_MEMLOCK; then a page of ours may have to be read again. */
    (void)nx_sys(__NR_mlockall, 3);
}

int nx_l0_supervise(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&fiber->plan.manifest);
    uint64_t all = ~(uint64_t)0;
    nx_l0_run run = {.budget = {.event = -1}};
    nx_breaker breaker;

    (void)nx_sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    run.signals = (int32_t)nx_sys(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK);
    if (run.signals < 0) {
        return NX_L0_EXIT_FAILED;
    }
    if (policy->budget_ns != 0) {
        become_prompt(fiber);
    }
    nx_breaker_init(&breaker, policy->intensity, (uint64_t)policy->period_ms * MS,
                    (uint64_t)policy->delay_ms * MS);
    do {
        if (!live(fiber, &run)) {
            explain(fiber);
            return NX_L0_EXIT_FAILED;
        }
    } while (again(fiber, &run, &breaker));
    return exit_status(run.status);
}
