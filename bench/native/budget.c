// SPDX-License-Identifier: Apache-2.0
/*
 * What a budget of processor time is worth, told by the one who is held to it: a spinner looks at
 * its own scheduling policy and its own CPU clock, and says how much it had when somebody acted.
 * Beside it a peer as programs make it: a POSIX timer on the child's CPU clock.
 */
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUDGET_NS  2000000
#define OVERRUNS   3 /* of the ratchet, until it acts */
#define REST_US    20000
#define PATIENCE_S 1
#define COMPUTED   4096 /* windows of the machine's own pauses */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Rests, which begins a new burst, then spins until its policy changes; prints what it had. */
static int spin(int64_t budget_ns)
{
    usleep(REST_US);
    int64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), now = start;
    int policy = sched_getscheduler(0);

    if (policy != SCHED_FIFO) {
        puts("early"); /* it fell before it had a budget's time, or was never raised */
        return 1;
    }
    while (sched_getscheduler(0) == policy) {
        now = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        if (now - start > PATIENCE_S * INT64_C(1000000000)) {
            printf("nobody acted\n");
            return 1;
        }
    }
    printf("%lld\n", (long long)(now - start - budget_ns));
    return 0;
}

/* Starts a spinner at the lowest real-time priority, and takes that away when its clock says so. */
static int peer(void)
{
    struct sched_param above = {.sched_priority = 2}, low = {.sched_priority = 1}, none = {0};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec when = {0};
    clockid_t clock;
    timer_t timer;
    sigset_t wanted;
    int number;

    sigemptyset(&wanted);
    sigaddset(&wanted, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    if (sched_setscheduler(0, SCHED_FIFO, &above) != 0) {
        perror("sched_setscheduler");
        return 2;
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(sched_setscheduler(0, SCHED_FIFO, &low) != 0 ? 2 : (spin(BUDGET_NS), fflush(stdout)));
    }
    usleep(REST_US / 2); /* the child rests: its clock stands */
    if (clock_getcpuclockid(child, &clock) != 0 || timer_create(clock, &event, &timer) != 0) {
        perror("timer");
        return 2;
    }
    int64_t end = clock_ns(clock) + BUDGET_NS;
    when.it_value.tv_sec = end / 1000000000;
    when.it_value.tv_nsec = end % 1000000000;
    if (timer_settime(timer, TIMER_ABSTIME, &when, NULL) != 0) {
        perror("timer_settime");
        return 2;
    }
    if (sigwait(&wanted, &number) != 0 || sched_setscheduler(child, SCHED_OTHER, &none) != 0) {
        perror("sigwait");
        return 2;
    }
    waitpid(child, &number, 0);
    return number == 0 ? 0 : 2;
}

/*
 * Prints how long each of many computations takes that would take this long, at a real-time
 * priority above everybody's: whatever is longer was held up by the machine below.
 */
static int compute(int64_t window_ns)
{
    struct sched_param above = {.sched_priority = 50};
    static int64_t took[COMPUTED];
    volatile uint64_t work = 0;
    int64_t fastest = INT64_MAX;
    uint64_t turns = 1000;

    if (sched_setscheduler(0, SCHED_FIFO, &above) != 0) {
        perror("sched_setscheduler");
        return 2;
    }
    for (int round = 0; round < 100; round++) {
        int64_t start = clock_ns(CLOCK_MONOTONIC);
        for (uint64_t i = 0; i < turns; i++) {
            work += i;
        }
        int64_t time = clock_ns(CLOCK_MONOTONIC) - start;
        fastest = time < fastest ? time : fastest;
    }
    turns = turns * (uint64_t)window_ns / (uint64_t)fastest;
    for (int window = 0; window < COMPUTED; window++) {
        int64_t start = clock_ns(CLOCK_MONOTONIC);
        for (uint64_t i = 0; i < turns; i++) {
            work += i;
        }
        took[window] = clock_ns(CLOCK_MONOTONIC) - start;
    }
    for (int window = 0; window < COMPUTED; window++) {
        printf("%lld\n", (long long)took[window]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "compute") == 0) {
        return compute(atoll(argv[2]));
    }
    if (argc == 2 && strcmp(argv[1], "spin") == 0) {
        return spin(OVERRUNS * INT64_C(1) * BUDGET_NS);
    }
    if (argc == 2 && strcmp(argv[1], "peer") == 0) {
        return peer();
    }
    if (argc == 2 && strcmp(argv[1], "hog") == 0) {
        for (;;) {
            __asm__ volatile("");
        }
    }
    return 2;
}
