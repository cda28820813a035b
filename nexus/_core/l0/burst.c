// SPDX-License-Identifier: Apache-2.0
/* Switch records in, bursts and strikes out; the theory is in budget.h. */
#include "nx_l0.h"

#include <linux/eventpoll.h>
#include <linux/perf_event.h>
#include <string.h>

#define RECORD_SIZE_MAX 48u
#define LOOK_PAUSE_NS   20000u
#define CROWDED_NS      1000000u

_Static_assert(NX_BUDGET_TASKS > NX_BUDGET_CPUS, "one of them is not running");

/* What all records begin with, and end with: PERF_SAMPLE_TID | PERF_SAMPLE_TIME. */
typedef struct record {
    struct perf_event_header header;
    uint32_t words[(RECORD_SIZE_MAX - sizeof(struct perf_event_header)) / 4];
    uint32_t tid; /* of whom it happened to */
    uint64_t time_ns;
} record;

#define FORKED_TID 2 /* of the words of PERF_RECORD_FORK */

static nx_l0_task *find(nx_l0_budget *budget, int32_t tid)
{
    for (uint32_t i = 0; i < NX_BUDGET_TASKS; i++) {
        if (budget->tasks[i].tid == tid) {
            return &budget->tasks[i];
        }
    }
    return NULL;
}

/* The task, from now on in a burst. Without room it goes on with the longest one of those that do
 * not run. */
static nx_l0_task *enter(nx_l0_budget *budget, int32_t tid)
{
    nx_l0_task *task = find(budget, tid);
    nx_l0_task *empty = find(budget, 0);

    if (task != NULL) {
        return task;
    }
    if (empty != NULL) {
        budget->busy++;
        *empty = (nx_l0_task){.tid = tid};
        return empty;
    }
    task = budget->tasks;
    for (uint32_t i = 1; i < NX_BUDGET_TASKS; i++) {
        nx_l0_task *other = &budget->tasks[i];
        if (!other->running && (task->running || other->used_ns > task->used_ns)) {
            task = other;
        }
    }
    task->tid = tid;
    return task;
}

static void drop(nx_l0_budget *budget, nx_l0_task *task)
{
    budget->busy -= task->tid != 0;
    task->tid = 0;
}

static uint64_t running_ns(const nx_l0_task *task, uint64_t now_ns)
{
    return task->running && now_ns > task->since_ns ? now_ns - task->since_ns : 0;
}

static void settle(nx_l0_budget *budget, nx_l0_task *task, uint64_t now_ns)
{
    uint64_t run = running_ns(task, now_ns);

    task->used_ns += run;
    task->since_ns = now_ns;
    budget->cpu_ns += run;
}

static void leave(nx_l0_budget *budget, const record *from, bool preempted)
{
    nx_l0_task *task =
        preempted ? enter(budget, (int32_t)from->tid) : find(budget, (int32_t)from->tid);

    if (task != NULL) {
        settle(budget, task, from->time_ns);
        task->running = false;
        if (!preempted) {
            drop(budget, task);
            budget->bursts++;
        }
    }
}

static void arrive(nx_l0_budget *budget, const record *from, uint32_t cpu)
{
    nx_l0_task *task = enter(budget, (int32_t)from->tid);

    if (!budget->known && task->tid == budget->pid) {
        *task = (nx_l0_task){.tid = budget->pid}; /* it was not running, as it seems */
    }
    if (!task->running) {
        task->since_ns = from->time_ns;
        task->running = true;
    }
    task->cpu = (uint16_t)cpu;
}

static void begin(nx_l0_budget *budget, const record *from)
{
    const nx_l0_task *parent = find(budget, (int32_t)from->tid);
    uint64_t used = parent == NULL ? 0 : parent->used_ns + running_ns(parent, from->time_ns);
    nx_l0_task *task = enter(budget, (int32_t)from->words[FORKED_TID]);

    /* Not what it had by its own: this record may come a second time. */
    if (!task->running && task->used_ns < used) {
        task->used_ns = used;
    }
}

/* Who ran there may be gone, and who waited may have been there. */
static void forget(nx_l0_budget *budget, uint32_t cpu)
{
    budget->crowded = true;
    for (uint32_t i = 0; i < NX_BUDGET_TASKS; i++) {
        if (!budget->tasks[i].running || budget->tasks[i].cpu == cpu) {
            drop(budget, &budget->tasks[i]);
        }
    }
}

static void take_record(nx_l0_budget *budget, const record *from, uint32_t cpu)
{
    bool out = (from->header.misc & PERF_RECORD_MISC_SWITCH_OUT) != 0;

    switch (from->header.type) {
    case PERF_RECORD_SWITCH:
        if (out) {
            leave(budget, from, (from->header.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) != 0);
        } else {
            arrive(budget, from, cpu);
        }
        budget->known |= (int32_t)from->tid == budget->pid;
        break;
    case PERF_RECORD_FORK:
        begin(budget, from);
        break;
    case PERF_RECORD_EXIT:
        leave(budget, from, false);
        break;
    case PERF_RECORD_LOST:
        forget(budget, cpu);
        break;
    default:
        break;
    }
}

/* The oldest record of a buffer that has one. */
static bool peek(const nx_l0_budget *budget, uint32_t buffer, record *ret)
{
    const uint8_t *base = budget->records + buffer * NX_BUDGET_BUFFER_SIZE;
    const struct perf_event_mmap_page *page = (const void *)base;
    uint64_t mask = NX_BUDGET_PAGES * NX_PAGE_SIZE_MIN - 1;
    uint64_t tail = page->data_tail;
    uint8_t bytes[RECORD_SIZE_MAX];

    /* Pairs with the kernel's barrier before it stores data_head (perf_event.h). */
    if (tail >= __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE)) {
        return false;
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = base[NX_PAGE_SIZE_MIN + ((tail + i) & mask)];
    }
    memcpy(ret, bytes, sizeof bytes);
    uint32_t size = ret->header.size;
    if (size < 24 || size > sizeof bytes) {
        return false; /* nothing that we asked for */
    }
    memcpy(&ret->tid, bytes + size - 12, sizeof ret->tid);
    memcpy(&ret->time_ns, bytes + size - 8, sizeof ret->time_ns);
    return true;
}

/*
 * Reads what the kernel wrote, across all buffers in the order of time. What is not older than
 * `now_ns` waits for the next look: whatever is older is in its buffer by now, and so no record of
 * a task is taken before an older one of another processor.
 */
static bool drain(nx_l0_budget *budget, uint64_t now_ns)
{
    record oldest = {.time_ns = 0};
    record one = {.time_ns = 0};
    bool any = false;

    for (;;) {
        uint32_t from = NX_BUDGET_CPUS;
        uint64_t before = now_ns;
        budget->left = false;
        for (uint32_t i = 0; i < budget->buffers; i++) {
            bool there = peek(budget, i, &one);
            budget->left |= there;
            if (there && one.time_ns < before) {
                oldest = one;
                before = one.time_ns;
                from = i;
            }
        }
        if (from == NX_BUDGET_CPUS) {
            return any;
        }
        struct perf_event_mmap_page *page =
            (void *)(budget->records + from * NX_BUDGET_BUFFER_SIZE);
        take_record(budget, &oldest, from);
        __atomic_store_n(&page->data_tail, page->data_tail + oldest.header.size, __ATOMIC_RELEASE);
        any = true;
    }
}

/* Once all that could write records are gone the kernel says so at each wait. */
static void listen(nx_l0_budget *budget)
{
    struct epoll_event heard;

    if (nx_sys(__NR_epoll_pwait, budget->event, &heard, 1, 0, NULL, 8) > 0) {
        budget->deaf |= (heard.events & EPOLLHUP) != 0;
        budget->left = true; /* the wait was ours: what it told is looked at again */
    }
}

/* No switch since it is watched: it ran all the time, or waits, and its first switch wakes us. */
static void guess(nx_l0_budget *budget, uint64_t now_ns)
{
    uint64_t values[2] = {0, 0}; /* the count, which is always 0, and how long it was on a CPU */
    nx_l0_task *task = find(budget, budget->pid);

    if (!budget->known && task != NULL &&
        nx_sys(__NR_read, budget->own, values, sizeof values) == (long)sizeof values &&
        values[1] < (now_ns - budget->from_ns) / 2) {
        drop(budget, task);
    }
    if (budget->known || find(budget, budget->pid) == NULL) {
        nx_l0_close(&budget->own);
    }
}

nx_ratchet_result nx_l0_budget_look(nx_l0_budget *budget, uint64_t now_ns)
{
    if (budget->event < 0) {
        return NX_RATCHET_NONE;
    }
    bool any = drain(budget, now_ns);
    if (budget->own >= 0) {
        guess(budget, now_ns);
    }
    if (!any && !budget->left && !budget->deaf && budget->busy == 0) {
        listen(budget);
    }
    for (uint32_t i = 0; i < NX_BUDGET_TASKS && budget->busy != 0; i++) {
        nx_l0_task *task = &budget->tasks[i];
        uint64_t used = task->used_ns + running_ns(task, now_ns);
        nx_ratchet_yield(&budget->ratchet, 0); /* the clock of each burst begins at 0 */
        nx_ratchet_result result =
            task->tid == 0 ? NX_RATCHET_NONE : nx_ratchet_step(&budget->ratchet, used);
        if (result != NX_RATCHET_NONE) {
            settle(budget, task, now_ns);
            task->used_ns = 0;
            budget->burst_ns = used;
            budget->offender = task->tid;
            return result;
        }
    }
    return NX_RATCHET_NONE;
}

uint64_t nx_l0_budget_next(const nx_l0_budget *budget, uint64_t now_ns)
{
    nx_ratchet fresh = budget->ratchet;
    uint64_t soonest = NX_BUDGET_NONE;

    nx_ratchet_yield(&fresh, 0);
    if (budget->event < 0 || fresh.budget_ns == NX_BUDGET_NONE) {
        return NX_BUDGET_FOREVER;
    }
    if (budget->left) {
        return now_ns;
    }
    for (uint32_t i = 0; i < NX_BUDGET_TASKS && budget->busy != 0; i++) {
        const nx_l0_task *task = &budget->tasks[i];
        uint64_t used = task->used_ns + running_ns(task, now_ns);
        uint64_t left = nx_ratchet_left_ns(&fresh, used);
        /* Whoever was preempted gets no nearer to its budget while we look, and perhaps ends
         * unseen. */
        left = task->running || left > LOOK_PAUSE_NS ? left : LOOK_PAUSE_NS;
        if (task->tid != 0 && left < soonest) {
            soonest = left;
        }
    }
    if (soonest == NX_BUDGET_NONE) {
        return budget->deaf ? now_ns + fresh.budget_ns : NX_BUDGET_FOREVER;
    }
    return now_ns + (budget->crowded && soonest > CROWDED_NS ? CROWDED_NS : soonest);
}

bool nx_l0_budget_waits(const nx_l0_budget *budget)
{
    return budget->event >= 0 && budget->ratchet.budget_ns != NX_BUDGET_NONE && !budget->deaf &&
           budget->busy == 0;
}
