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
#define HUNG_UP             (POLLHUP | POLLRDHUP | POLLERR)

/* What the loop waits for, in this order. */
enum {
    POLL_SIGNALS = 0,
    POLL_READY = 1,
    POLL_LISTEN = 2,
    POLL_CLIENTS = 3,
    POLL_BUDGETS = POLL_CLIENTS + NX_L0_CLIENTS,
    POLL_COUNT = POLL_BUDGETS + NX_NODE_FIBERS,
};

uint64_t nx_l0_clock(int clock)
{
    int64_t time[2] = {0, 0};

    (void)nx_sys(__NR_clock_gettime, clock, time);
    return (uint64_t)time[0] * NS + (uint64_t)time[1];
}

/*
 * A signal sent to L0 by a process goes on to the fiber; one that the terminal made has reached
 * the fiber already, which is in the same foreground group. Either way, being asked to end ends
 * the restarts. A program at a terminal may answer Ctrl-C and go on; one that was asked by a
 * process has its grace and no more. Where anybody may connect, the fibers hear of nothing but the
 * node's end; without that their starter has the terminal, and it says what follows an end.
 */
static void take_signal(nx_l0_node *node, const struct signalfd_siginfo *info, uint64_t now_ns)
{
    bool sent = info->ssi_code == SI_USER_ || info->ssi_code == SI_QUEUE_;
    uint32_t signal = info->ssi_signo;
    bool ends = signal == SIGTERM_ || signal == SIGINT_ || signal == SIGHUP_ || signal == SIGQUIT_;

    if (signal == SIGTSTP_) {
        (void)nx_sys(__NR_kill, nx_sys0(__NR_getpid), SIGSTOP_);
        return;
    }
    if (node->listen >= 0) {
        if (ends) {
            nx_l0_shut_down(node, now_ns);
        }
        return;
    }
    for (uint32_t i = 0; i < NX_NODE_OBSERVER && signal <= FORWARD_LIMIT; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        if (fiber->bytes == NULL || signal == SIGCHLD_) {
            continue;
        }
        if (sent) {
            nx_l0_life_signal(fiber, signal);
        }
        if (ends && !nx_l0_is_over(fiber)) {
            nx_l0_life_stop(fiber, now_ns, sent);
        }
    }
}

static void reap(nx_l0_node *node)
{
    int32_t status = 0;

    for (;;) {
        long pid = nx_sys(__NR_wait4, -1, &status, WNOHANG_, NULL);
        if (pid <= 0) {
            return;
        }
        /* Anyone else is a warden whose life was over before, or lost its parent below us. */
        uint64_t now = nx_l0_clock(CLOCK_MONO);
        for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
            if (node->fibers[i].shared != NULL &&
                nx_l0_life_reaped(&node->fibers[i], (int32_t)pid, status, now)) {
                break;
            }
        }
    }
}

/* Fills the poll set; the time of the next thing that comes by itself. */
static uint64_t prepare(nx_l0_node *node, struct pollfd *poll, uint64_t now_ns)
{
    uint64_t until = node->tick_ns;

    poll[POLL_READY] = (struct pollfd){.fd = node->ready, .events = POLLIN};
    poll[POLL_LISTEN] = (struct pollfd){.fd = node->listen, .events = POLLIN};
    for (uint32_t i = 0; i < NX_L0_CLIENTS; i++) {
        poll[POLL_CLIENTS + i] =
            (struct pollfd){.fd = node->clients[i], .events = POLLIN | POLLRDHUP};
    }
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        const nx_l0_fiber *fiber = &node->fibers[i];
        bool waits = nx_l0_is_alive(fiber) && nx_l0_budget_waits(&fiber->budget);
        uint64_t next = fiber->bytes != NULL ? nx_l0_life_next(fiber, now_ns) : NX_L0_FOREVER;
        poll[POLL_BUDGETS + i] =
            (struct pollfd){.fd = waits ? fiber->budget.event : -1, .events = POLLIN};
        until = next < until ? next : until;
    }
    return until;
}

static void hear(nx_l0_node *node)
{
    uint64_t count;

    (void)nx_sys(__NR_read, node->ready, &count, sizeof count);
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        if (nx_l0_is_alive(&node->fibers[i])) {
            nx_l0_life_heard(&node->fibers[i], nx_l0_clock(CLOCK_MONO));
        }
    }
}

static void wait_once(nx_l0_node *node, int32_t signals)
{
    struct pollfd poll[POLL_COUNT];
    uint64_t now = nx_l0_clock(CLOCK_MONO);
    uint64_t until = prepare(node, poll, now);
    uint64_t left = until > now ? until - now : 0;
    uint64_t pause[2] = {left / NS, left % NS};
    struct signalfd_siginfo info;

    poll[POLL_SIGNALS] = (struct pollfd){.fd = signals, .events = POLLIN};
    (void)nx_sys(__NR_ppoll, poll, POLL_COUNT, until == NX_L0_FOREVER ? NULL : pause, NULL, 8);
    now = nx_l0_clock(CLOCK_MONO);
    node->table->head.wakeups++;
    bool ready = (poll[POLL_READY].revents & POLLIN) != 0;
    bool signalled = (poll[POLL_SIGNALS].revents & POLLIN) != 0;
    /* First the signals: a terminal's came with that which ended the fiber, and ends its restarts.
     */
    while ((ready || signalled) &&
           nx_sys(__NR_read, signals, &info, sizeof info) == (long)sizeof info) {
        take_signal(node, &info, now);
        signalled = true;
    }
    if (ready) {
        hear(node);
    }
    if (signalled) {
        reap(node);
    }
    for (uint32_t i = 0; i < NX_L0_CLIENTS; i++) {
        int16_t heard = poll[POLL_CLIENTS + i].revents;
        if (heard != 0 && nx_l0_serve_client(node, i, (heard & HUNG_UP) != 0, now) < 0) {
            nx_l0_drop_client(node, i);
            if (i == 0) {
                nx_l0_shut_down(node, now);
            }
        }
    }
    if ((poll[POLL_LISTEN].revents & POLLIN) != 0) {
        nx_l0_accept(node);
    }
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        if (node->fibers[i].bytes != NULL) {
            nx_l0_life_step(&node->fibers[i], nx_l0_clock(CLOCK_MONO));
        }
    }
    if (node->serving) {
        nx_l0_observe(node, now);
    }
}

static void stop_all(nx_l0_node *node, uint32_t from, uint32_t to, uint64_t now_ns)
{
    for (uint32_t i = from; i < to; i++) {
        if (node->fibers[i].bytes != NULL && !nx_l0_is_over(&node->fibers[i])) {
            nx_l0_life_signal(&node->fibers[i], SIGTERM_);
            nx_l0_life_stop(&node->fibers[i], now_ns, true);
        }
    }
}

void nx_l0_shut_down(nx_l0_node *node, uint64_t now_ns)
{
    if (!node->stopping) {
        node->stopping = true;
        node->table->head.state = 2;
        stop_all(node, 0, NX_NODE_OBSERVER, now_ns);
    }
}

/* A node is over when all fibers are; L1 is asked last, so that it hears of all the others. */
static bool is_over(nx_l0_node *node)
{
    if (!node->serving) {
        return nx_l0_is_over(&node->fibers[0]);
    }
    if (!node->stopping) {
        return false;
    }
    for (uint32_t i = 0; i < NX_NODE_OBSERVER; i++) {
        if (node->fibers[i].bytes != NULL && !nx_l0_is_over(&node->fibers[i])) {
            return false;
        }
    }
    nx_l0_fiber *observer = &node->fibers[NX_NODE_OBSERVER];
    if (node->table->head.state == 2) {
        node->table->head.state = 3;
        (void)nx_l0_event(node, NULL, &(nx_stl_event){.kind = NX_STL_SYSTEM_SHUTDOWN});
        stop_all(node, NX_NODE_OBSERVER, NX_NODE_FIBERS, nx_l0_clock(CLOCK_MONO));
    }
    return observer->bytes == NULL || nx_l0_is_over(observer);
}

int nx_l0_supervise(nx_l0_node *node)
{
    uint64_t all = ~(uint64_t)0;

    (void)nx_sys(__NR_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof all);
    long signals = nx_sys(__NR_signalfd4, -1, &all, sizeof all, O_CLOEXEC | O_NONBLOCK);
    if (signals < 0) {
        return NX_L0_EXIT_FAILED;
    }
    if (!node->serving) {
        nx_l0_life_want(&node->fibers[0], nx_l0_clock(CLOCK_MONO));
    }
    while (!is_over(node)) {
        wait_once(node, (int32_t)signals);
    }
    nx_l0_unguard(node);
    nx_l0_answer_shutdown(node);
    return node->serving ? 0 : node->fibers[0].status;
}

long nx_l0_become_prompt(nx_l0_node *node)
{
    int32_t priority = SUPERVISOR_PRIORITY;

    if (!node->prompt) {
        node->prompt = true;
        node->prompt_result =
            nx_sys(__NR_sched_setscheduler, 0, SCHED_FIFO_ | RESET_ON_FORK, &priority);
        /* Refused beyond RLIMIT_MEMLOCK; then a page of ours may have to be read again. */
        (void)nx_sys(__NR_mlockall, 3);
    }
    return node->prompt_result;
}
