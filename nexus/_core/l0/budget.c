// SPDX-License-Identifier: Apache-2.0
/* Switch records in, bursts and tiers out; the theory is in budget.h. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <string.h>

#define RECORD_PAGES    2u /* 341 records of 24 bytes: a budget of 2 ms has no more switches */
#define BUFFER_SIZE     ((RECORD_PAGES + 1) * NX_PAGE_SIZE_MIN)
#define CLOCK_MONO      1
#define PROT_READ_WRITE 3
#define MATTER_SLICE_NS 3000000u
#define PHOTON_PRIORITY 1u
#define LOOK_PAUSE_NS   20000u
#define ESRCH_          3

/* PERF_RECORD_SWITCH with PERF_SAMPLE_TID | PERF_SAMPLE_TIME, as this file asks for it. */
typedef struct switch_record {
    struct perf_event_header header;
    uint32_t pid;
    uint32_t tid;
    uint64_t time_ns;
} switch_record;

static long open_event(int32_t pid)
{
    struct perf_event_attr wanted = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof wanted,
        .config = PERF_COUNT_SW_DUMMY,
        .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
        .read_format = PERF_FORMAT_TOTAL_TIME_RUNNING,
        .exclude_kernel = 1,
        .exclude_hv = 1,
        .sample_id_all = 1,
        .context_switch = 1,
        .use_clockid = 1,
        .clockid = CLOCK_MONO,
        .watermark = 1,
        .wakeup_watermark = 1,
    };

    return nx_sys(__NR_perf_event_open, &wanted, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

long nx_l0_budget_open(nx_l0_budget *budget, int32_t pid, uint64_t pledge, uint64_t now_ns)
{
    *budget = (nx_l0_budget){.event = -1, .pid = pid, .since_ns = now_ns, .running = true};
    nx_ratchet_init(&budget->ratchet, pledge, 0);
    if (pid <= 0) {
        return pid < 0 ? pid : -ESRCH_;
    }
    if (nx_tier_budget_ns(budget->ratchet.tier) == NX_BUDGET_NONE) {
        return 0; /* void: there is nothing to hold */
    }
    long event = open_event(budget->pid);
    if (event < 0) {
        return event;
    }
    long records = nx_sys(__NR_mmap, NULL, BUFFER_SIZE, PROT_READ_WRITE, MAP_SHARED, event, 0);
    if (records < 0) {
        (void)nx_sys(__NR_close, event);
        return records;
    }
    budget->records = (void *)records;
    budget->event = (int32_t)event;
    return 0;
}

void nx_l0_budget_close(nx_l0_budget *budget)
{
    if (budget->event >= 0) {
        (void)nx_sys(__NR_munmap, budget->records, BUFFER_SIZE);
        (void)nx_sys(__NR_close, budget->event);
        budget->event = -1;
    }
}

static void take_record(nx_l0_budget *budget, const switch_record *record)
{
    bool first = !budget->known;

    budget->known = true;
    if ((record->header.misc & PERF_RECORD_MISC_SWITCH_OUT) == 0) {
        if (first) {
            nx_ratchet_yield(&budget->ratchet, budget->cpu_ns);
        }
        budget->since_ns = record->time_ns;
        budget->running = true;
        budget->asleep = false;
        return;
    }
    if (budget->running && record->time_ns > budget->since_ns) {
        budget->cpu_ns += record->time_ns - budget->since_ns;
    }
    budget->running = false;
    budget->asleep = (record->header.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) == 0;
    if (budget->asleep) {
        budget->bursts++;
        nx_ratchet_yield(&budget->ratchet, budget->cpu_ns);
    }
}

/* Reads what the kernel wrote since the last time. Records that did not fit are replaced by one of
 * another kind; so many switches are no long burst. */
static void drain(nx_l0_budget *budget)
{
    struct perf_event_mmap_page *page = budget->records;
    const uint8_t *ring = (const uint8_t *)budget->records + NX_PAGE_SIZE_MIN;
    uint64_t mask = RECORD_PAGES * NX_PAGE_SIZE_MIN - 1;
    uint64_t tail = page->data_tail;
    /* Pairs with the kernel's barrier before it stores data_head (perf_event.h). */
    uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);

    while (tail < head) {
        switch_record record;
        uint8_t bytes[sizeof record];
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = ring[(tail + i) & mask];
        }
        memcpy(&record, bytes, sizeof record);
        if (record.header.size == 0) {
            break;
        }
        if (record.header.type == PERF_RECORD_SWITCH) {
            take_record(budget, &record);
        } else if (record.header.type == PERF_RECORD_LOST) {
            nx_ratchet_yield(&budget->ratchet, budget->cpu_ns);
        }
        tail += record.header.size;
    }
    __atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
}

/* No switch since it is watched: it ran all the time, or waits for a CPU. The event tells which. */
static void settle(nx_l0_budget *budget, uint64_t now_ns)
{
    uint64_t values[2] = {0, 0}; /* the count, which is always 0, and how long it was on a CPU */

    if (nx_sys(__NR_read, budget->event, values, sizeof values) != (long)sizeof values ||
        values[1] >= (now_ns - budget->since_ns) / 2) {
        return;
    }
    /* Its first switch wakes us. */
    budget->running = false;
    budget->asleep = true;
}

static uint64_t cpu_now(const nx_l0_budget *budget, uint64_t now_ns)
{
    bool counts = budget->running && now_ns > budget->since_ns;

    return budget->cpu_ns + (counts ? now_ns - budget->since_ns : 0);
}

nx_ratchet_result nx_l0_budget_look(nx_l0_budget *budget, uint64_t now_ns)
{
    if (budget->event < 0) {
        return NX_RATCHET_NONE;
    }
    drain(budget);
    if (!budget->known && budget->running) {
        settle(budget, now_ns);
    }
    return nx_ratchet_step(&budget->ratchet, cpu_now(budget, now_ns));
}

uint64_t nx_l0_budget_next(const nx_l0_budget *budget, uint64_t now_ns)
{
    if (budget->event < 0 || budget->asleep) {
        return NX_BUDGET_FOREVER;
    }
    uint64_t left = nx_ratchet_left_ns(&budget->ratchet, cpu_now(budget, now_ns));
    if (left == NX_BUDGET_NONE) {
        return NX_BUDGET_FOREVER;
    }
    /* Whoever was preempted gets no nearer to its budget while we look, and perhaps ends unseen. */
    return now_ns + (budget->running || left > LOOK_PAUSE_NS ? left : LOOK_PAUSE_NS);
}

long nx_l0_budget_schedule(const nx_l0_budget *budget)
{
    /* struct sched_attr of linux/sched/types.h, first version. */
    struct {
        uint32_t size;
        uint32_t policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime;
        uint64_t deadline;
        uint64_t period;
    } wanted = {.size = sizeof wanted};

    if (budget->pid <= 0) {
        return -ESRCH_; /* 0 would be ourselves */
    }
    switch (budget->ratchet.tier) {
    case NX_TIER_PHOTON:
        wanted.policy = SCHED_FIFO;
        wanted.priority = PHOTON_PRIORITY;
        break;
    case NX_TIER_MATTER:
        wanted.policy = SCHED_NORMAL;
        wanted.runtime = MATTER_SLICE_NS;
        break;
    case NX_TIER_GRAVITY:
        wanted.policy = SCHED_BATCH;
        break;
    default:
        wanted.policy = SCHED_IDLE;
        break;
    }
    return nx_sys(__NR_sched_setattr, budget->pid, &wanted, 0);
}
