// SPDX-License-Identifier: Apache-2.0
/*
 * A fiber's time budget, held from outside: how long it has run since it last yielded.
 *
 * The kernel records every switch of the fiber (perf's dummy event with `context_switch`), with
 * its time and whether the fiber was preempted or gave the CPU up. From these records the burst is
 * known exactly, whenever one looks. One looks when the burst could first have used its budget: a
 * timer of the supervisor's own, armed to what is left of it. While the fiber sleeps there is no
 * timer: the next record of its buffer wakes the supervisor instead. So an idle fiber costs nothing
 * and a fiber in a loop one wake-up a budget. A fiber that was preempted, perhaps by the look
 * itself, is one that runs on.
 *
 * It counts kernel time as well, and needs no privilege: a record is no sample of the kernel. How
 * late a look is depends on the supervisor's own scheduling: SCHED_FIFO where that is permitted.
 *
 * Not handled: what a hypervisor steals while the fiber is on a CPU counts as its time. Threads and
 * processes that the fiber starts have their own clocks and are not looked at; the promise `proc`
 * and the limit `processes` say whether it may start any.
 */
#ifndef NX_L0_BUDGET_H
#define NX_L0_BUDGET_H

#include "nx_ratchet.h"

#define NX_BUDGET_FOREVER UINT64_MAX

typedef struct nx_l0_budget {
    nx_ratchet ratchet;
    void *records;     /* the mapped buffer, or NULL */
    uint64_t cpu_ns;   /* that the fiber had at the last switch out */
    uint64_t since_ns; /* of the last switch in, where it runs */
    uint64_t bursts;   /* that have ended by the fiber itself */
    int32_t event;     /* perf descriptor; readable when records came; -1: no budget is held */
    int32_t pid;       /* of the fiber, as this process sees it */
    bool known;        /* there was a switch: before, whether it runs is a guess */
    bool running;
    bool asleep; /* gave the CPU up by itself; neither: preempted, and wants to go on */
} nx_l0_budget;

/* Watches the fiber, whose pid may be the negative errno of not finding it. 0, or the negative
 * errno of what was refused; then the budget is not held and `budget->event` is -1. */
long nx_l0_budget_open(nx_l0_budget *budget, int32_t pid, uint64_t pledge, uint64_t now_ns);
void nx_l0_budget_close(nx_l0_budget *budget);

/* Takes the records in and looks. NX_RATCHET_STRIKE and _DEMOTE once each, as nx_ratchet_step. */
nx_ratchet_result nx_l0_budget_look(nx_l0_budget *budget, uint64_t now_ns);

/* When to look next: a time, or NX_BUDGET_FOREVER to wait for the event instead. */
uint64_t nx_l0_budget_next(const nx_l0_budget *budget, uint64_t now_ns);

/* The scheduling of the fiber's tier: 0, or a negative errno with the fiber as it was. */
long nx_l0_budget_schedule(const nx_l0_budget *budget);

#endif
