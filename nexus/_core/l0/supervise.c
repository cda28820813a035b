// SPDX-License-Identifier: Apache-2.0
/* The loop: waits for whatever comes first, and hands it to the fibers' state machines. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/poll.h>
#include <linux/signalfd.h>

#define NS                  1000000000u
#define WNOHANG_            1
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

static uint64_t read_clock(void)
{
    int64_t time[2] = {0, 0};

    (void)nx_sys(__NR_clock_gettime, CLOCK_MONO, time);
    return (uint64_t)time[0] * NS + (uint64_t)time[1];
}

/*
 * A signal sent to L0 by a process goes on to the fiber; one that the terminal made has reached
 * the fiber already, which is in the same foreground group. Either way, being asked to end ends
 * the restarts. A program at a terminal may answer Ctrl-C and go on; one that was asked by a
 * process has its grace and no more.
 */
static void take_signal(nx_l0_fiber *fiber, const struct signalfd_siginfo *info, uint64_t now_ns)
{
    bool sent = info->ssi_code == SI_USER_ || info->ssi_code == SI_QUEUE_;
    uint32_t signal = info->ssi_signo;

    if (signal == SIGTSTP_) {
        (void)nx_sys(__NR_kill, nx_sys0(__NR_getpid), SIGSTOP_);
    } else if (signal != SIGCHLD_ && signal <= FORWARD_LIMIT) {
        if (sent) {
            nx_l0_life_signal(fiber, signal);
        }
        if (signal == SIGTERM_ || signal == SIGINT_ || signal == SIGHUP_ || signal == SIGQUIT_) {
            nx_l0_life_stop(fiber, now_ns, sent);
        }
    }
}

static void reap(nx_l0_fiber *fiber)
{
    int32_t status = 0;

    for (;;) {
        long pid = nx_sys(__NR_wait4, -1, &status, WNOHANG_, NULL);
        if (pid <= 0) {
            return;
        }
        /* Anyone else is a warden whose life was over before, or lost its parent below us. */
        (void)nx_l0_life_reaped(fiber, (int32_t)pid, status, read_clock());
    }
}

static void wait_once(nx_l0_fiber *fiber, int32_t signals)
{
    uint64_t now = read_clock();
    uint64_t until = nx_l0_life_next(fiber, now);
    bool asleep = fiber->budget.event >= 0 && fiber->budget.asleep;
    struct pollfd poll[3] = {{.fd = signals, .events = POLLIN},
                             {.fd = fiber->ready, .events = POLLIN},
                             {.fd = asleep ? fiber->budget.event : -1, .events = POLLIN}};
    uint64_t left = until > now ? until - now : 0;
    uint64_t pause[2] = {left / NS, left % NS};
    struct signalfd_siginfo info;

    (void)nx_sys(__NR_ppoll, poll, 3, until == NX_L0_FOREVER ? NULL : pause, NULL, 8);
    now = read_clock();
    if ((poll[1].revents & POLLIN) != 0) {
        nx_l0_life_heard(fiber, now);
    }
    while (nx_sys(__NR_read, signals, &info, sizeof info) == (long)sizeof info) {
        take_signal(fiber, &info, now);
    }
    reap(fiber);
    nx_l0_life_step(fiber, read_clock());
}

/* Real time for the supervisor, not for its children: an overrun is found when it happens. */
static void become_prompt(const nx_l0_fiber *fiber)
{
    int32_t priority = SUPERVISOR_PRIORITY;
    long result = nx_sys(__NR_sched_setscheduler, 0, SCHED_FIFO_ | RESET_ON_FORK, &priority);

    if (result < 0) {
        nx_l0_notice(fiber, "budgets are best effort: the supervisor was refused SCHED_FIFO",
                     result);
    }
    /* Refused beyond RLIMIT_MEMLOCK; then a page of ours may have to be read again. */
    (void)nx_sys(__NR_mlockall, 3);
}

int nx_l0_supervise(nx_l0_fiber *fiber)
{
    uint64_t all = ~(uint64_t)0;

    (void)nx_sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    long signals = nx_sys(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK);
    if (signals < 0) {
        return NX_L0_EXIT_FAILED;
    }
    if (nx_bkdl_policy_of(&fiber->plan.manifest)->budget_ns != 0) {
        become_prompt(fiber);
    }
    nx_l0_life_begin(fiber);
    while (fiber->state != NX_LIFE_OVER) {
        wait_once(fiber, (int32_t)signals);
    }
    return fiber->result;
}
