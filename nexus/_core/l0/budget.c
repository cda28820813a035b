// SPDX-License-Identifier: Apache-2.0
/* Whose switches the kernel records, and how all of them are scheduled; the theory is in budget.h.
 */
#include "nx_l0.h"

#include <linux/eventpoll.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <linux/sched.h>

#define CLOCK_MONO      1
#define PROT_NOTHING    0
#define PROT_READ_WRITE 3
#define MATTER_SLICE_NS 3000000u
#define PHOTON_PRIORITY 1u
#define EARLY_TASKS_MAX 64u
#define SCHEDULE_ROUNDS 8u
#define SCHED_RR_       2
#define SCHED_DEADLINE_ 6
#define RESET_ON_FORK   0x40000000
#define ESRCH_          3
#define E2BIG_          7
#define EAGAIN_         11
#define ENODEV_         19

typedef struct opening {
    nx_l0_budget *budget;
    long result;
    int32_t events[NX_BUDGET_CPUS]; /* of the main thread, one for each buffer */
    uint8_t cpus[NX_BUDGET_CPUS];
    int32_t seen[EARLY_TASKS_MAX];
    uint32_t seen_count;
    bool news;
} opening;

/* On any processor (-1) nobody inherits it, and nobody else is told of. */
static long open_event(int32_t tid, int32_t cpu)
{
    struct perf_event_attr wanted = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof wanted,
        .config = PERF_COUNT_SW_DUMMY,
        .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
        .read_format = PERF_FORMAT_TOTAL_TIME_RUNNING,
        .inherit = cpu >= 0,
        .task = cpu >= 0,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .sample_id_all = 1,
        .context_switch = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONO,
        .watermark = 1,
        .wakeup_watermark = 1,
    };

    return nx_sys(__NR_perf_event_open, &wanted, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

/* The highest number of a processor that is online, or a negative errno. */
static long highest_cpu(void)
{
    char text[256];
    long number = 0;
    long file =
        nx_sys(__NR_openat, AT_FDCWD, "/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC, 0);

    if (file < 0) {
        return file;
    }
    long size = nx_sys(__NR_read, file, text, sizeof text);
    for (long i = 0; i < size && text[i] != '\n'; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        number = digit ? number * 10 + (text[i] - '0') : 0;
    }
    (void)nx_sys(__NR_close, file);
    return size < 0 ? size : number;
}

/* One event of the main thread with its buffer. */
static long open_buffer(opening *open, int32_t cpu)
{
    nx_l0_budget *budget = open->budget;
    struct epoll_event wanted = {.events = EPOLLIN};
    long event = open_event(budget->pid, cpu);

    if (event < 0) {
        return event;
    }
    long result = nx_sys(__NR_mmap, budget->records + budget->buffers * NX_BUDGET_BUFFER_SIZE,
                         NX_BUDGET_BUFFER_SIZE, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, event, 0);
    if (result >= 0) {
        result = nx_sys(__NR_epoll_ctl, budget->event, EPOLL_CTL_ADD, event, &wanted);
    }
    open->cpus[budget->buffers] = (uint8_t)cpu;
    open->events[budget->buffers++] = (int32_t)event;
    return result;
}

/* The mapping keeps the event, and the wait for it: of all of them one descriptor is left. */
static void close_events(opening *open)
{
    for (uint32_t i = 0; i < open->budget->buffers; i++) {
        nx_l0_close(&open->events[i]);
    }
}

static long open_buffers(opening *open, int32_t from, int32_t to)
{
    nx_l0_budget *budget = open->budget;
    uint64_t size = (uint64_t)(to - from + 1) * NX_BUDGET_BUFFER_SIZE;
    long result = nx_sys(__NR_mmap, NULL, size, PROT_NOTHING, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (result < 0) {
        return result;
    }
    budget->records = (uint8_t *)result;
    budget->mapped = size;
    result = nx_sys(__NR_epoll_create1, O_CLOEXEC);
    budget->event = (int32_t)result;
    for (int32_t cpu = from; cpu <= to && (result >= 0 || result == -ENODEV_); cpu++) {
        result = open_buffer(open, cpu);
    }
    if (budget->buffers > 0 && result == -ENODEV_) {
        result = 0;
    }
    if (result < 0) {
        close_events(open);
        nx_l0_budget_close(budget);
    }
    return result < 0 ? result : 0;
}

/* A task that was there before the events could be inherited; its records go where the others go.
 * One that has inherited them is told of twice, which is no news. */
static void include(void *context, int32_t tid)
{
    opening *open = context;
    nx_l0_budget *budget = open->budget;

    for (uint32_t i = 0; i < open->seen_count; i++) {
        if (open->seen[i] == tid) {
            return;
        }
    }
    if (open->seen_count == EARLY_TASKS_MAX || budget->early + budget->buffers > NX_BUDGET_EARLY) {
        open->result = -E2BIG_;
        return;
    }
    open->seen[open->seen_count++] = tid;
    open->news = true;
    for (uint32_t i = 0; i < budget->buffers; i++) {
        long event = open_event(tid, open->cpus[i]);
        long result = event;
        if (event >= 0) {
            budget->others[budget->early++] = (int32_t)event;
            result = nx_sys(__NR_ioctl, event, PERF_EVENT_IOC_SET_OUTPUT, open->events[i]);
        }
        if (result < 0 && result != -ESRCH_) {
            open->result = result;
        }
    }
}

long nx_l0_budget_open(nx_l0_budget *budget, int32_t warden, int32_t pid, uint64_t pledge,
                       uint64_t now_ns)
{
    opening open = {.budget = budget, .seen = {pid}, .seen_count = 1};
    long highest;

    *budget =
        (nx_l0_budget){.event = -1, .own = -1, .pid = pid, .warden = warden, .from_ns = now_ns};
    nx_ratchet_init(&budget->ratchet, pledge, 0);
    if (pid <= 0) {
        return pid < 0 ? pid : -ESRCH_;
    }
    if (nx_tier_budget_ns(budget->ratchet.tier) == NX_BUDGET_NONE) {
        return 0; /* void: there is nothing to hold */
    }
    budget->busy = 1;
    budget->tasks[0] = (nx_l0_task){.tid = pid, .since_ns = now_ns, .running = true};
    budget->own = (int32_t)open_event(pid, -1);
    highest = highest_cpu();
    open.result = highest < 0                      ? highest
                  : highest < (long)NX_BUDGET_CPUS ? open_buffers(&open, 0, (int32_t)highest)
                                                   : -E2BIG_;
    if (open.result < 0) {
        long alone = open_buffers(&open, -1, -1);
        open.result = alone < 0 ? alone : open.result;
    } else {
        do {
            open.news = false;
            if (!nx_l0_each_task(warden, include, &open)) {
                open.result = -E2BIG_;
            }
        } while (open.news);
    }
    close_events(&open);
    return open.result;
}

void nx_l0_budget_close(nx_l0_budget *budget)
{
    if (budget->records != NULL) {
        (void)nx_sys(__NR_munmap, budget->records, budget->mapped);
        budget->records = NULL;
    }
    while (budget->early > 0) {
        nx_l0_close(&budget->others[--budget->early]);
    }
    budget->buffers = 0;
    nx_l0_close(&budget->own);
    nx_l0_close(&budget->event);
}

/* struct sched_attr of linux/sched/types.h, first version; and who is to have it. */
typedef struct scheduling {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime;
    uint64_t deadline;
    uint64_t period;
} scheduling;

typedef struct lowering {
    scheduling wanted;
    long result;
    bool changed;
} lowering;

/* Who asked to be reset at a fork keeps that, which without privilege nobody can take away. */
static long apply(lowering *to, int32_t tid, long flags)
{
    to->wanted.flags = (flags & RESET_ON_FORK) != 0 ? SCHED_FLAG_RESET_ON_FORK : 0;
    return nx_sys(__NR_sched_setattr, tid, &to->wanted, 0);
}

static void lower(void *context, int32_t tid)
{
    lowering *to = context;
    long flags = nx_sys(__NR_sched_getscheduler, tid);
    long policy = flags & ~(long)RESET_ON_FORK;
    long wanted = (long)to->wanted.policy;
    bool real_time = policy == SCHED_FIFO || policy == SCHED_RR_ || policy == SCHED_DEADLINE_;

    /* The others in order of their numbers: SCHED_NORMAL, _BATCH, _IDLE. */
    if (flags < 0 || policy == wanted || (policy > wanted && !real_time)) {
        return;
    }
    long result = apply(to, tid, flags);
    if (result >= 0) {
        to->changed = true;
    } else if (result != -ESRCH_) {
        to->result = result;
    }
}

static lowering lowering_to(uint32_t tier)
{
    lowering to = {.wanted = {.size = sizeof to.wanted}};

    switch (tier) {
    case NX_TIER_PHOTON:
        to.wanted.policy = SCHED_FIFO;
        to.wanted.priority = PHOTON_PRIORITY;
        break;
    case NX_TIER_MATTER:
        to.wanted.policy = SCHED_NORMAL;
        to.wanted.runtime = MATTER_SLICE_NS;
        break;
    case NX_TIER_GRAVITY:
        to.wanted.policy = SCHED_BATCH;
        break;
    default:
        to.wanted.policy = SCHED_IDLE;
        break;
    }
    return to;
}

long nx_l0_budget_schedule(const nx_l0_budget *budget)
{
    lowering to = lowering_to(budget->ratchet.tier);

    if (budget->pid <= 0) {
        return -ESRCH_; /* 0 would be ourselves */
    }
    long result = apply(&to, budget->pid, nx_sys(__NR_sched_getscheduler, budget->pid));
    for (uint32_t i = 0; i < NX_BUDGET_TASKS && budget->busy != 0; i++) {
        if (budget->tasks[i].tid != 0) {
            lower(&to, budget->tasks[i].tid);
        }
    }
    return result < 0 ? result : to.result;
}

long nx_l0_budget_schedule_rest(const nx_l0_budget *budget)
{
    lowering to = lowering_to(budget->ratchet.tier);

    if (budget->pid <= 0) {
        return -ESRCH_;
    }
    /* What a task starts has its class: nobody is left when a round finds nobody. */
    for (uint32_t round = 0; round == 0 || (to.changed && to.result >= 0); round++) {
        to.changed = false;
        if (!nx_l0_each_task(budget->warden, lower, &to)) {
            to.result = -E2BIG_;
        }
        if (round == SCHEDULE_ROUNDS && to.changed) {
            to.result = -EAGAIN_;
        }
    }
    return to.result;
}
