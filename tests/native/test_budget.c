// SPDX-License-Identifier: Apache-2.0
/*
 * Time budgets of whole fibers: on records made up here, beside a model that knows each burst; and
 * on the kernel's, for threads that began before anybody looked.
 */
#include "nx_l0.h"
#include "nx_test.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define US       1000u
#define MS       1000000u
#define CPUS     2u
#define MAIN     100
#define RING     (NX_BUDGET_PAGES * NX_PAGE_SIZE_MIN)
#define SLEEPS   PERF_RECORD_MISC_SWITCH_OUT
#define PREEMPTS (PERF_RECORD_MISC_SWITCH_OUT | PERF_RECORD_MISC_SWITCH_OUT_PREEMPT)
#define ARRIVES  0

static NX_ALIGNED(4096) uint8_t buffers[CPUS][NX_BUDGET_BUFFER_SIZE];
static nx_l0_budget budget;

/* What the three files need of the rest of the supervisor. */
uint64_t nx_l0_clock(int clock)
{
    struct timespec now = {0};

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

void nx_l0_close(int32_t *descriptor)
{
    if (*descriptor >= 0) {
        (void)close(*descriptor);
    }
    *descriptor = -1;
}

const char *nx_l0_decimal(nx_l0_digits *ret, uint64_t number)
{
    (void)snprintf(ret->text, sizeof ret->text, "%llu", (unsigned long long)number);
    return ret->text;
}

void nx_l0_join(char *ret, const char *const *parts, size_t count)
{
    *ret = '\0';
    for (size_t i = 0; i < count; i++) {
        (void)strcat(ret, parts[i]);
    }
}

int32_t nx_l0_open_proc(int32_t pid, const char *name)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/%d%s", pid, name);
    return (int32_t)nx_sys(__NR_openat, -100, path, 0, 0);
}

static void begin(uint32_t tier)
{
    nx_l0_close(&budget.event);
    memset(buffers, 0, sizeof buffers);
    budget = (nx_l0_budget){
        .records = buffers[0],
        .buffers = CPUS,
        .event = epoll_create1(EPOLL_CLOEXEC),
        .own = -1,
        .pid = MAIN,
        .known = true,
    };
    nx_ratchet_init(&budget.ratchet, (uint64_t)tier << NX_TIER_SHIFT, 0);
}

static void put(uint32_t cpu, uint32_t type, uint16_t misc, int32_t tid, uint64_t time,
                int32_t child)
{
    struct perf_event_mmap_page *page = (void *)buffers[cpu];
    uint32_t words[12] = {type, misc};
    uint32_t size = type == PERF_RECORD_SWITCH ? 24 : type == PERF_RECORD_LOST ? 40 : 48;

    words[1] |= size << 16;
    words[4] = (uint32_t)child;
    words[size / 4 - 3] = (uint32_t)tid;
    memcpy(&words[size / 4 - 2], &time, sizeof time);
    for (uint32_t i = 0; i < size; i++) {
        buffers[cpu][NX_PAGE_SIZE_MIN + (page->data_head + i) % RING] = ((uint8_t *)words)[i];
    }
    page->data_head += size;
    CHECK(page->data_head - page->data_tail <= RING);
}

static void turn(uint32_t cpu, uint16_t what, int32_t tid, uint64_t time)
{
    put(cpu, PERF_RECORD_SWITCH, what, tid, time, 0);
}

/* A supervisor of a real-time priority on the fiber's own processor would starve whoever is to end
 * there. */
static void test_a_preempted_task_is_not_looked_at_without_a_pause(void)
{
    for (uint64_t left = 0; left < 10; left++) {
        begin(NX_TIER_PHOTON);
        turn(0, ARRIVES, MAIN, MS);
        turn(0, PREEMPTS, MAIN, 3 * MS - left * US);
        uint64_t now = 3 * MS + 1;
        unsigned looks = 0;
        while (now < 4 * MS && looks < 10000) {
            CHECK_EQ(nx_l0_budget_look(&budget, now), NX_RATCHET_NONE);
            now = nx_l0_budget_next(&budget, now);
            looks++;
        }
        CHECK(looks >= 1 && looks <= 50);
    }
}

static void test_a_thread_is_struck_while_the_main_thread_sleeps(void)
{
    begin(NX_TIER_PHOTON);
    turn(0, ARRIVES, MAIN, MS);
    turn(0, SLEEPS, MAIN, 2 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 2 * MS + 1), NX_RATCHET_NONE);
    CHECK(nx_l0_budget_waits(&budget));
    CHECK(nx_l0_budget_next(&budget, 2 * MS + 1) == NX_BUDGET_FOREVER);
    turn(1, ARRIVES, 101, 3 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 3 * MS + 1), NX_RATCHET_NONE);
    CHECK(!nx_l0_budget_waits(&budget));
    CHECK_EQ(nx_l0_budget_next(&budget, 3 * MS + 1), 5 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 5 * MS), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_look(&budget, 5 * MS + 1), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.offender, 101);
    CHECK_EQ(budget.burst_ns, 2 * MS + 1);
    CHECK_EQ(nx_l0_budget_look(&budget, 5 * MS + 2), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_look(&budget, 8 * MS), NX_RATCHET_STRIKE);
    CHECK_EQ(nx_l0_budget_look(&budget, 11 * MS), NX_RATCHET_DEMOTE);
    CHECK_EQ(budget.ratchet.tier, NX_TIER_MATTER);
    CHECK_EQ(budget.cpu_ns, 9 * MS);
}

static void test_records_of_two_processors_are_taken_in_order_of_time(void)
{
    begin(NX_TIER_PHOTON);
    turn(1, ARRIVES, MAIN, 1 * MS);
    turn(1, PREEMPTS, MAIN, 2 * MS);
    turn(0, ARRIVES, MAIN, 3 * MS);
    turn(0, SLEEPS, MAIN, 4 * MS); /* the burst was 2 ms */
    turn(1, ARRIVES, MAIN, 5 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 7 * MS), NX_RATCHET_NONE);
    CHECK_EQ(budget.bursts, 1);
    CHECK_EQ(budget.cpu_ns, 2 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 7 * MS + 1), NX_RATCHET_STRIKE);
}

static void test_what_is_newer_than_the_look_waits_for_the_next(void)
{
    begin(NX_TIER_PHOTON);
    turn(0, ARRIVES, MAIN, MS);
    turn(1, ARRIVES, MAIN, 5 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 3 * MS), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_next(&budget, 3 * MS), 3 * MS); /* now */
    turn(0, SLEEPS, MAIN, 4 * MS); /* before it arrived on the other processor */
    CHECK_EQ(nx_l0_budget_look(&budget, 5 * MS + 1), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_next(&budget, 5 * MS + 1), 7 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 7 * MS + 1), NX_RATCHET_STRIKE);
}

static void test_a_child_begins_with_the_burst_of_its_parent(void)
{
    uint64_t now = MS;

    begin(NX_TIER_PHOTON);
    turn(0, ARRIVES, MAIN, now);
    /* Each runs for half a budget, starts the next one and ends. */
    for (int32_t tid = MAIN; tid < MAIN + 4; tid++) {
        now += MS;
        put(0, PERF_RECORD_FORK, 0, tid, now, tid + 1);
        put(0, PERF_RECORD_FORK, 0, tid, now, tid + 1); /* told twice */
        put(0, PERF_RECORD_EXIT, 0, tid, now + 1, tid);
        turn(0, ARRIVES, tid + 1, now + 1);
    }
    CHECK_EQ(nx_l0_budget_look(&budget, now + 2), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.offender, MAIN + 4);
    CHECK_EQ(budget.bursts, 4);
    /* A child of one who sleeps between them has nothing to begin with. */
    begin(NX_TIER_PHOTON);
    turn(0, ARRIVES, MAIN, MS);
    turn(0, SLEEPS, MAIN, 3 * MS - 1);
    turn(0, ARRIVES, MAIN, 4 * MS);
    put(0, PERF_RECORD_FORK, 0, MAIN, 4 * MS, 101);
    turn(0, SLEEPS, MAIN, 4 * MS);
    turn(0, ARRIVES, 101, 4 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 6 * MS), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_look(&budget, 6 * MS + 1), NX_RATCHET_STRIKE);
}

static void test_records_that_come_twice_are_no_news(void)
{
    begin(NX_TIER_PHOTON);
    for (uint64_t i = 0; i < 2; i++) {
        turn(0, ARRIVES, MAIN, MS + i);
    }
    for (uint64_t i = 0; i < 2; i++) {
        turn(0, PREEMPTS, MAIN, 2 * MS + i);
    }
    for (uint64_t i = 0; i < 2; i++) {
        turn(1, ARRIVES, MAIN, 3 * MS + i);
    }
    CHECK_EQ(nx_l0_budget_look(&budget, 4 * MS), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_look(&budget, 4 * MS + 2), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.burst_ns, 2 * MS + 2);
    turn(1, SLEEPS, MAIN, 5 * MS);
    turn(1, SLEEPS, MAIN, 5 * MS + 1);
    CHECK_EQ(nx_l0_budget_look(&budget, 6 * MS), NX_RATCHET_NONE);
    CHECK_EQ(budget.bursts, 1);
    CHECK(nx_l0_budget_waits(&budget));
}

static void test_lost_records_begin_the_bursts_of_their_processor_anew(void)
{
    begin(NX_TIER_GRAVITY);
    turn(0, ARRIVES, MAIN, MS);
    turn(1, ARRIVES, 101, MS);
    put(1, PERF_RECORD_LOST, 0, 0, 2 * MS, 0);
    CHECK_EQ(nx_l0_budget_look(&budget, 3 * MS), NX_RATCHET_NONE);
    /* From then on it is looked at more often than a burst could need. */
    CHECK_EQ(nx_l0_budget_next(&budget, 3 * MS), 4 * MS);
    turn(1, ARRIVES, 101, 20 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 51 * MS + 1), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.offender, MAIN);
    CHECK_EQ(nx_l0_budget_look(&budget, 70 * MS), NX_RATCHET_NONE);
    CHECK_EQ(nx_l0_budget_look(&budget, 70 * MS + 1), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.offender, 101);
}

static void test_more_tasks_than_can_be_remembered_do_not_hide_one(void)
{
    uint64_t now = MS;

    begin(NX_TIER_PHOTON);
    turn(1, ARRIVES, MAIN, now);
    for (int32_t i = 0; i < 150; i++) {
        turn(0, ARRIVES, 1000 + i, now);
        now += US;
        turn(0, PREEMPTS, 1000 + i, now);
    }
    CHECK_EQ(nx_l0_budget_look(&budget, 3 * MS + 1), NX_RATCHET_STRIKE);
    CHECK_EQ(budget.offender, MAIN);
    for (int32_t i = 0; i < 150; i++) {
        put(0, PERF_RECORD_EXIT, 0, 1000 + i, now, 1000 + i);
    }
    turn(1, SLEEPS, MAIN, 4 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 5 * MS), NX_RATCHET_NONE);
    CHECK(nx_l0_budget_waits(&budget));
}

static void test_a_fiber_that_fell_to_the_bottom_costs_no_wake_up(void)
{
    begin(NX_TIER_VOID);
    turn(0, ARRIVES, MAIN, MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 900 * MS), NX_RATCHET_NONE);
    CHECK(nx_l0_budget_next(&budget, 900 * MS) == NX_BUDGET_FOREVER);
    turn(0, SLEEPS, MAIN, 901 * MS);
    CHECK_EQ(nx_l0_budget_look(&budget, 902 * MS), NX_RATCHET_NONE);
    CHECK(!nx_l0_budget_waits(&budget));
}

enum { TASKS = 6 };

typedef struct model {
    uint64_t burst[TASKS];
    uint64_t since[TASKS];
    int on[TASKS]; /* a processor, or -1 */
    bool wants[TASKS];
    int current[CPUS]; /* a task, or -1 */
} model;

static uint64_t burst_of(const model *m, int task, uint64_t now)
{
    return m->burst[task] + (m->on[task] >= 0 ? now - m->since[task] : 0);
}

/* One processor changes hands, or its task goes. */
static void change(model *m, uint32_t cpu, uint64_t now, uint64_t *seed)
{
    int old = m->current[cpu];
    int next = (int)(nx_test_random(seed) % TASKS);
    bool sleeps = nx_test_random(seed) % 4 == 0;

    if (old >= 0) {
        m->burst[old] = sleeps ? 0 : burst_of(m, old, now);
        m->on[old] = -1;
        m->wants[old] = !sleeps;
        turn(cpu, sleeps ? SLEEPS : PREEMPTS, MAIN + old, now);
    }
    m->current[cpu] = -1;
    if (m->on[next] < 0 && nx_test_random(seed) % 4 != 0) {
        m->current[cpu] = next;
        m->on[next] = (int)cpu;
        m->since[next] = now;
        m->wants[next] = true;
        turn(cpu, ARRIVES, MAIN + next, now);
    }
}

static void compare(model *m, uint64_t now, unsigned *strikes)
{
    uint64_t most = budget.ratchet.budget_ns;
    bool over = false, on = false;
    uint64_t soonest = UINT64_MAX;

    for (int i = 0; i < TASKS; i++) {
        over |= burst_of(m, i, now) > most;
        on |= m->wants[i];
    }
    nx_ratchet_result result = nx_l0_budget_look(&budget, now);
    CHECK_EQ(result != NX_RATCHET_NONE, over);
    if (result != NX_RATCHET_NONE) {
        int struck = budget.offender - MAIN;
        CHECK(struck >= 0 && struck < TASKS && burst_of(m, struck, now) > most);
        m->burst[struck] = 0;
        m->since[struck] = now;
        (*strikes)++;
    }
    for (int i = 0; i < TASKS; i++) {
        uint64_t left = budget.ratchet.budget_ns - burst_of(m, i, now);
        soonest = m->wants[i] && left < soonest ? left : soonest;
    }
    if (budget.ratchet.budget_ns != NX_BUDGET_NONE && result == NX_RATCHET_NONE) {
        uint64_t next = nx_l0_budget_next(&budget, now);
        CHECK_EQ(next == NX_BUDGET_FOREVER, !on);
        CHECK_EQ(nx_l0_budget_waits(&budget), !on);
        CHECK(!on || (next >= now + soonest && next <= now + soonest + 20 * US));
    }
}

static void test_bursts_are_those_of_a_model_that_knows_all(uint64_t seed)
{
    uint64_t now = MS;
    unsigned strikes = 0, lives = 0;

    for (; lives < 200; lives++) {
        model m = {.on = {-1, -1, -1, -1, -1, -1}, .current = {-1, -1}};
        begin(1 + (uint32_t)(nx_test_random(&seed) % 3));
        for (int i = 0; i < 300 && budget.ratchet.tier != NX_TIER_VOID; i++) {
            now += nx_test_random(&seed) % (600 * US);
            change(&m, (uint32_t)(nx_test_random(&seed) % CPUS), now, &seed);
            if (nx_test_random(&seed) % 4 == 0) {
                now += 1 + nx_test_random(&seed) % (MS / 2);
                compare(&m, now, &strikes);
            }
        }
    }
    CHECK(strikes > 100); /* else nothing was compared */
}

/* --- the kernel's own records --- */

static int go[2];
static int told[2];

static void *burn(void *kind)
{
    int32_t tid = (int32_t)syscall(SYS_gettid);
    char start;

    (void)!write(told[1], &tid, sizeof tid);
    if (kind != NULL && read(go[0], &start, 1) == 1) {
        for (;;) {
            __asm__ volatile("");
        }
    }
    pause();
    return NULL;
}

/* A process whose threads are there before anybody looks, and then one burns. */
static void be_a_fiber(void)
{
    pthread_t threads[3];

    for (int i = 0; i < 3; i++) {
        (void)pthread_create(&threads[i], NULL, burn, i == 1 ? "burns" : NULL);
    }
    for (;;) {
        (void)pause();
    }
}

static void test_threads_that_began_before_are_held(void)
{
    int32_t tids[3], result = NX_RATCHET_NONE;

    CHECK(pipe(go) == 0 && pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        be_a_fiber();
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(read(told[0], &tids[i], sizeof tids[i]), sizeof tids[i]);
    }
    CHECK_EQ(nx_l0_fiber_pid(getpid()), pid);
    uint64_t pledge = (uint64_t)NX_TIER_GRAVITY << NX_TIER_SHIFT;
    long opened = nx_l0_budget_open(&budget, getpid(), pid, pledge, nx_l0_clock(1));
    if (opened < 0) {
        printf("not checked on the kernel's records: perf was refused, errno %ld\n", -opened);
    } else {
        CHECK(budget.early >= 3 * budget.buffers); /* a sanitizer has a thread of its own */
        CHECK_EQ(nx_l0_budget_schedule(&budget), 0);
        CHECK_EQ(sched_getscheduler(pid), SCHED_BATCH);
        CHECK_EQ(sched_getscheduler(tids[0]), SCHED_OTHER);
        CHECK_EQ(nx_l0_budget_schedule_rest(&budget), 0);
        CHECK_EQ(write(go[1], "g", 1), 1);
        uint64_t end = nx_l0_clock(1) + 20000 * (uint64_t)MS;
        while (result != NX_RATCHET_DEMOTE && nx_l0_clock(1) < end) {
            struct timespec rest = {.tv_nsec = MS};
            (void)nanosleep(&rest, NULL);
            result = (int32_t)nx_l0_budget_look(&budget, nx_l0_clock(1));
        }
        CHECK_EQ(result, NX_RATCHET_DEMOTE);
        CHECK(budget.offender == tids[0] || budget.offender == tids[1] ||
              budget.offender == tids[2]);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(sched_getscheduler(tids[i]), SCHED_BATCH);
        }
        /* First whoever wants to run, then all. */
        CHECK_EQ(nx_l0_budget_schedule(&budget), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(sched_getscheduler(tids[i]),
                     tids[i] == budget.offender ? SCHED_IDLE : SCHED_BATCH);
        }
        CHECK_EQ(nx_l0_budget_schedule_rest(&budget), 0);
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(sched_getscheduler(tids[i]), SCHED_IDLE);
        }
        CHECK_EQ(sched_getscheduler(pid), SCHED_IDLE);
        /* Nobody is raised who is lower by his own will. */
        budget.ratchet.tier = NX_TIER_GRAVITY;
        CHECK_EQ(nx_l0_budget_schedule_rest(&budget), 0);
        CHECK_EQ(sched_getscheduler(tids[0]), SCHED_IDLE);
    }
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    if (opened >= 0) {
        /* Nobody is left to write records, and a wait for them would never end. */
        for (int i = 0; i < 4; i++) {
            (void)nx_l0_budget_look(&budget, nx_l0_clock(1));
        }
        CHECK(budget.deaf);
        CHECK(!nx_l0_budget_waits(&budget));
    }
    nx_l0_budget_close(&budget);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20261123;

    printf("seed %llu; again: test_budget %llu\n", (unsigned long long)seed,
           (unsigned long long)seed);
    budget.event = budget.own = -1;
    test_a_preempted_task_is_not_looked_at_without_a_pause();
    test_a_thread_is_struck_while_the_main_thread_sleeps();
    test_records_of_two_processors_are_taken_in_order_of_time();
    test_what_is_newer_than_the_look_waits_for_the_next();
    test_a_child_begins_with_the_burst_of_its_parent();
    test_records_that_come_twice_are_no_news();
    test_lost_records_begin_the_bursts_of_their_processor_anew();
    test_more_tasks_than_can_be_remembered_do_not_hide_one();
    test_a_fiber_that_fell_to_the_bottom_costs_no_wake_up();
    test_bursts_are_those_of_a_model_that_knows_all(seed);
    nx_l0_close(&budget.event);
    test_threads_that_began_before_are_held();
    TEST_MAIN_END();
}
