// SPDX-License-Identifier: Apache-2.0
/*
 * A fiber's time budget, held from outside: how long each of its threads has run since it last
 * yielded. A task is a thread of any process of the fiber.
 *
 * The kernel records every switch of each task (perf's dummy event with `context_switch`), with
 * its time and whether the task was preempted or gave the CPU up. The events are inherited by
 * whatever the fiber starts, with no moment in between. An inherited event can only be mapped for
 * one processor, so there is one event, and one buffer, for each; their records are taken in the
 * order of their times. So each burst is known exactly, whenever one looks. One looks when a burst
 * could first have used the budget: a timer of the supervisor's own, armed to what is left of it.
 * While all sleep there is no timer: the next record wakes the supervisor instead. So an idle fiber
 * costs nothing and a fiber in a loop one wake-up a budget. A task that was preempted, perhaps by
 * the look itself, is one that runs on.
 *
 * Only tasks that want to run are remembered. One that is new begins with the burst of whoever
 * started it: a chain of short processes is one burst. A strike by any of them is the fiber's, and
 * a demotion is for all.
 *
 * It counts kernel time as well, and needs no privilege: a record is no sample of the kernel. How
 * late a look is depends on the supervisor's own scheduling: SCHED_FIFO where that is permitted.
 *
 * Limits, all bounded memory's. Of more than NX_BUDGET_TASKS that want to run at once some share a
 * burst. Where more switches came between two looks than a buffer holds, 340 on a processor, the
 * bursts there begin anew, and one looks each millisecond from then on. With more than
 * NX_BUDGET_CPUS processors, or where the kernel refuses the events, the main thread alone is held,
 * and that is said.
 *
 * Not handled: what a hypervisor steals while a task is on a CPU counts as its time. Processors
 * that come online later. A program that the fiber may execute but not read: the kernel takes the
 * events away from it. A thread that began before its fiber was watched counts from its first
 * switch after that.
 */
#ifndef NX_L0_BUDGET_H
#define NX_L0_BUDGET_H

#include "nx_base.h"
#include "nx_ratchet.h"

#define NX_BUDGET_FOREVER UINT64_MAX
#define NX_BUDGET_CPUS    64u
#define NX_BUDGET_TASKS   72u  /* more than can be on processors at once */
#define NX_BUDGET_EARLY   128u /* events of tasks that began before they could be inherited */
#define NX_BUDGET_PAGES   2u   /* of a buffer: 341 records of 24 bytes */

/* A buffer, with the kernel's page before the records. */
#define NX_BUDGET_BUFFER_SIZE ((NX_BUDGET_PAGES + 1) * NX_PAGE_SIZE_MIN)

/* A task in a burst: on a processor, or preempted. */
typedef struct nx_l0_task {
    uint64_t used_ns;  /* of its burst, until the last switch out */
    uint64_t since_ns; /* of the last switch in, where it runs */
    int32_t tid;       /* 0: nobody */
    uint16_t cpu;      /* whose buffer said so */
    bool running;
} nx_l0_task;

typedef struct nx_l0_budget {
    nx_ratchet ratchet;
    uint8_t *records;  /* a mapped buffer for each processor, or NULL */
    uint64_t mapped;   /* size of all */
    uint32_t buffers;  /* how many */
    uint32_t early;    /* descriptors below */
    uint32_t busy;     /* tasks in a burst */
    uint64_t cpu_ns;   /* that all had until their last switches */
    uint64_t bursts;   /* that have ended by their task itself */
    uint64_t burst_ns; /* the one of the last strike */
    uint64_t from_ns;  /* when it was first watched */
    int32_t event;     /* epoll, readable when records came; -1: no budget is held */
    int32_t own;       /* counts the main thread's time until it has switched; -1: not any more */
    int32_t pid;       /* of the fiber, as this process sees it */
    int32_t warden;
    int32_t offender; /* whose strike was the last one */
    bool known;       /* the main thread has switched: before, whether it runs is a guess */
    bool left;        /* records that are newer than the last look */
    bool crowded;     /* records were lost */
    bool deaf;        /* nobody can wake us any more */
    nx_l0_task tasks[NX_BUDGET_TASKS];
    int32_t others[NX_BUDGET_EARLY];
} nx_l0_budget;

/* Watches the warden's fiber, whose pid may be the negative errno of not finding it. 0, or the
 * negative errno of what was refused; then not all of the fiber is held, and where `budget->event`
 * is -1 nothing. */
long nx_l0_budget_open(nx_l0_budget *budget, int32_t warden, int32_t pid, uint64_t pledge,
                       uint64_t now_ns);
void nx_l0_budget_close(nx_l0_budget *budget);

/* Takes the records in and looks. NX_RATCHET_STRIKE and _DEMOTE once each, as nx_ratchet_step; the
 * next strike of another task is found by the next look. */
nx_ratchet_result nx_l0_budget_look(nx_l0_budget *budget, uint64_t now_ns);

/* When to look next: a time, or NX_BUDGET_FOREVER. And whether `event` is to be waited for. */
uint64_t nx_l0_budget_next(const nx_l0_budget *budget, uint64_t now_ns);
bool nx_l0_budget_waits(const nx_l0_budget *budget);

/* The scheduling of the fiber's tier, for the main thread and all that want to run; and then for
 * the rest, who have to be found. 0, or a negative errno with some as they were. Of the others than
 * the main thread none gets a higher class than it has, but for those that are raised to photon. */
long nx_l0_budget_schedule(const nx_l0_budget *budget);
long nx_l0_budget_schedule_rest(const nx_l0_budget *budget);

#endif
