// SPDX-License-Identifier: Apache-2.0
/*
 * The lives of a fiber as a state machine: held -> starting -> alive -> (pause -> starting -> ...)*
 * -> over or quarantined, from where somebody may begin it anew.
 *
 * Nothing here waits. The loop tells what happened (the warden spoke, a child was reaped, time went
 * by, someone asked for the end) and asks when to come back.
 */
#include "nx_l0.h"

#include <linux/sched.h>

#define SIGKILL_ 9
#define SIGBUS_  7
#define SIGSEGV_ 11
#define SIGSYS_  31

#define ESRCH_     3
#define ECANCELED_ 125

void nx_l0_notice(const nx_l0_fiber *fiber, const char *what, long error)
{
    nx_l0_digits digits;

    NX_L0_SAY("nexus-l0: ", nx_l0_name(fiber), ": ", what, ", errno ",
              nx_l0_decimal(&digits, (uint64_t)-error), "\n");
}

/* The template goes, and when that is certain, what it made last. */
void nx_l0_life_dismiss(nx_l0_fiber *fiber)
{
    if (fiber->template > 0) {
        (void)nx_sys(__NR_kill, fiber->template, SIGKILL_);
        fiber->ending = true;
    }
}

void nx_l0_life_rest(nx_l0_fiber *fiber, nx_node_state state)
{
    /* Whoever waits for a life to begin, and there will be none. */
    static const nx_l0_report canceled = {.stage = NX_STAGE_NONE, .error = ECANCELED_};

    fiber->state = state;
    fiber->stopping = fiber->forced = fiber->barred = false;
    fiber->until_ns = NX_L0_FOREVER;
    /* Without L1 there is nobody who watches on. */
    fiber->node->phoenix |= state == NX_FIBER_QUARANTINED && fiber->slot == NX_NODE_OBSERVER;
    if (!fiber->hold && fiber->node->serving) {
        /* Nobody waits ready for one that is not to come back by itself. */
        nx_l0_life_dismiss(fiber);
    }
    nx_l0_publish(fiber);
    nx_l0_answer_start(fiber, &canceled);
    nx_l0_answer_end(fiber);
}

/* Who of those that make a life has met an error, or L0's own report. */
static const nx_l0_report *find_error(const nx_l0_fiber *fiber)
{
    const nx_l0_report *reports[] = {&nx_l0_now(fiber)->report, &fiber->shared->template};

    for (unsigned i = 0; i < NX_ARRAY_COUNT(reports); i++) {
        if (reports[i]->error != 0) {
            return reports[i];
        }
    }
    return &fiber->own;
}

/* The start did not reach the program: nothing would be better the next time. */
static void give_up(nx_l0_fiber *fiber)
{
    const nx_l0_report *report = find_error(fiber);
    nx_l0_digits error;
    nx_l0_digits index;

    NX_L0_SAY("nexus-l0: ", nx_l0_name(fiber), ": start failed at ",
              nx_l0_stage_name(report->stage), ", item ", nx_l0_decimal(&index, report->index),
              ", errno ", nx_l0_decimal(&error, (uint64_t)(report->error < 0 ? 0 : report->error)),
              "\n");
    fiber->status = NX_L0_EXIT_FAILED;
    fiber->ended_ns = nx_l0_clock(1);
    nx_l0_answer_start(fiber, report);
    nx_l0_life_rest(fiber, NX_FIBER_OVER);
}

void nx_l0_life_begin(nx_l0_fiber *fiber, uint64_t now_ns)
{
    if (fiber->stale) {
        nx_l0_life_dismiss(fiber);
    }
    if (fiber->ending) {
        /* Whoever was made to be the next life is in its place still, and would take this one's
         * turn and spoil its report. */
        fiber->state = NX_FIBER_PAUSE;
        fiber->until_ns = NX_L0_FOREVER;
        nx_l0_publish(fiber);
        return;
    }
    fiber->own = (nx_l0_report){0};
    fiber->state = NX_FIBER_STARTING;
    fiber->began_ns = now_ns;
    fiber->cause = 0;
    fiber->forced = false;
    fiber->lives++;
    if (nx_l0_start_fiber(fiber)) {
        nx_l0_publish(fiber);
        /* A life that was made ahead has executed long since, and nothing will tell so again. */
        if ((nx_l0_policy(fiber)->flags & NX_POLICY_STANDBY) != 0) {
            nx_l0_life_heard(fiber, now_ns);
        }
    } else {
        give_up(fiber);
    }
}

void nx_l0_life_want(nx_l0_fiber *fiber, uint64_t now_ns)
{
    fiber->own = (nx_l0_report){0};
    if (nx_l0_birth(fiber)) {
        nx_l0_life_begin(fiber, now_ns);
    } else {
        give_up(fiber);
    }
}

static int exit_status(int32_t status)
{
    int signal = status & 0x7f;

    return signal != 0 ? 128 + signal : (status >> 8) & 0xff;
}

/* Why a life ended, where nobody but the program itself ended it. */
static uint32_t cause_of(int32_t status)
{
    switch (status & 0x7f) {
    case SIGSYS_:
        return NX_TRAP_FORBIDDEN;
    case SIGSEGV_:
    case SIGBUS_:
        return NX_TRAP_PAGE_FAULT;
    default:
        return NX_TRAP_PANIC;
    }
}

static void report_end(nx_l0_fiber *fiber, uint64_t now_ns)
{
    nx_l0_node *node = fiber->node;

    (void)nx_l0_event(node, fiber,
                      &(nx_stl_event){.kind = NX_STL_FIBER_TERMINATE,
                                      .entity = (uint64_t)fiber->status,
                                      .data = {fiber->lives, now_ns - fiber->began_ns}});
    if (fiber->status == 0 || fiber->cause != 0 || fiber->stopping ||
        !nx_feature_on(node->features, NX_FEATURE_CORRELATOR)) {
        return;
    }
    if (nx_correlator_panic(&node->correlator, nx_node_name(fiber->slot, fiber->generation),
                            now_ns) == NX_CORRELATOR_ONSET) {
        (void)nx_l0_event(node, fiber,
                          &(nx_stl_event){.kind = NX_STL_ENVIRONMENT_FAULT,
                                          .entity = node->correlator.fibers,
                                          .data = {node->correlator.window_ns}});
    }
}

/* Those that fall with this one are ended, and come back by themselves. */
static void pull_company(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);

    if (policy->company == 0 || policy->strategy == NX_STRATEGY_ONE_FOR_ONE ||
        fiber->cause == NX_TRAP_COMPANY) {
        return;
    }
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        nx_l0_fiber *other = &fiber->node->fibers[i];
        if (other != fiber && nx_l0_is_alive(other) && !other->stopping &&
            nx_l0_policy(other)->company == policy->company &&
            (policy->strategy == NX_STRATEGY_ONE_FOR_ALL || other->order > fiber->order)) {
            other->forced = true;
            nx_l0_life_kill(other, NX_TRAP_COMPANY);
        }
    }
}

/* The life is over; whether another follows is for the policy and the trap to say. */
static void end_life(nx_l0_fiber *fiber, int32_t status, uint64_t now_ns)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    uint64_t delay = 0;

    nx_l0_budget_close(&fiber->budget);
    nx_l0_close(&fiber->calls.file);
    if (fiber->state == NX_FIBER_STARTING) {
        /* It never came alive, and its template still waits for that. */
        nx_l0_advance(&fiber->shared->made);
    }
    if (find_error(fiber)->error != 0) {
        give_up(fiber);
        nx_l0_clear_place(fiber, fiber->shared->request & 1);
        return;
    }
    nx_l0_clear_place(fiber, fiber->shared->request & 1);
    nx_l0_keep(fiber);
    fiber->status = exit_status(status);
    fiber->ended_ns = now_ns;
    report_end(fiber, now_ns);
    bool again = fiber->forced || policy->restart == NX_RESTART_ALWAYS ||
                 (policy->restart == NX_RESTART_ON_FAILURE && (status != 0 || fiber->cause != 0));
    if (fiber->barred || fiber->stopping || !again) {
        nx_l0_life_rest(fiber, fiber->barred ? NX_FIBER_QUARANTINED : NX_FIBER_OVER);
        return;
    }
    pull_company(fiber);
    nx_trap_step end =
        nx_l0_trap(fiber, fiber->cause != 0 ? fiber->cause : cause_of(status), now_ns, &delay);
    if (end != NX_TRAP_WARM && end != NX_TRAP_COLD) {
        nx_l0_digits lives;
        bool open = fiber->breakers[0].state == NX_BREAKER_OPEN;
        NX_L0_SAY("nexus-l0: ", nx_l0_name(fiber), open ? ": the breaker opened" : ": quarantined",
                  " after ", nx_l0_decimal(&lives, fiber->lives), " starts\n");
        nx_l0_life_rest(fiber, end == NX_TRAP_DOWN ? NX_FIBER_OVER : NX_FIBER_QUARANTINED);
    } else if (delay == 0) {
        nx_l0_life_begin(fiber, now_ns);
    } else {
        fiber->state = NX_FIBER_PAUSE;
        fiber->until_ns = now_ns + delay;
        nx_l0_publish(fiber);
    }
}

static long schedule(const nx_l0_fiber *fiber)
{
    long result = nx_l0_budget_schedule(&fiber->budget);
    long rest = nx_l0_budget_schedule_rest(&fiber->budget);

    return result < 0 ? result : rest;
}

/* The fiber has been made: hold it to the budget of its tier, if the manifest declares one. */
static void begin_budget(nx_l0_fiber *fiber, uint64_t now_ns)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    bool wanted = fiber->node->serving || policy->budget_ns != 0;
    int32_t warden = nx_l0_now(fiber)->warden;
    int32_t pid = wanted ? nx_l0_fiber_pid(warden) : 0;

    fiber->tier = policy->tier;
    fiber->demotions = 0;
    if (policy->budget_ns == 0) {
        fiber->budget.ratchet.tier = policy->tier;
        fiber->budget.pid = pid > 0 ? pid : 0;
        fiber->budget.warden = warden;
        fiber->budget.offender = 0;
        return;
    }
    long result = nx_l0_become_prompt(fiber->node);
    if (result < 0) {
        nx_l0_notice(fiber, "budgets are best effort: the supervisor was refused SCHED_FIFO",
                     result);
    }
    result = nx_l0_budget_open(&fiber->budget, warden, pid, policy->pledge, now_ns);
    if (result < 0 && fiber->budget.event < 0) {
        nx_l0_notice(fiber, "its budget is not held: perf was refused", result);
        return;
    }
    if (result < 0) {
        nx_l0_notice(fiber, "its budget is held for its main thread, but not for all of it",
                     result);
    }
    result = schedule(fiber);
    if (result < 0) {
        nx_l0_notice(fiber, "its tier's scheduling was refused and stays the ordinary one", result);
    }
}

static void come_alive(nx_l0_fiber *fiber, uint64_t now_ns)
{
    fiber->state = NX_FIBER_ALIVE;
    /* The next one may be made, in the other place; nobody but L0 knows that it is free. */
    nx_l0_advance(&fiber->shared->made);
    begin_budget(fiber, now_ns);
    if (fiber->node->serving) {
        nx_l0_calls_open(fiber);
    }
    if (fiber->slot == NX_NODE_OBSERVER) {
        nx_l0_watch(fiber->node);
    }
    (void)nx_l0_event(fiber->node, fiber,
                      &(nx_stl_event){.kind = NX_STL_FIBER_SPAWN,
                                      .entity = fiber->image,
                                      .data = {fiber->lives, fiber->warm ? fiber->floor : 0,
                                               (uint64_t)fiber->budget.pid}});
    nx_l0_publish(fiber);
    nx_l0_answer_start(fiber, NULL);
}

void nx_l0_life_demote(nx_l0_fiber *fiber, uint32_t before)
{
    static const char *const tiers[] = {"void", "gravity", "matter", "photon"};
    long result = schedule(fiber);

    fiber->tier = fiber->budget.ratchet.tier;
    fiber->demotions++;
    (void)nx_l0_event(
        fiber->node, fiber,
        &(nx_stl_event){.kind = NX_STL_TIER_DEMOTION, .entity = fiber->tier, .data = {before}});
    if (result < 0) {
        nx_l0_notice(fiber, "the lower tier's scheduling was refused", result);
    }
    if (!fiber->node->serving) {
        NX_L0_SAY("nexus-l0: ", nx_l0_name(fiber), ": three overruns, now ", tiers[fiber->tier],
                  "\n");
    }
}

static void hold_budget(nx_l0_fiber *fiber, uint64_t now_ns)
{
    uint32_t before = fiber->budget.ratchet.tier;
    uint32_t strikes = fiber->budget.ratchet.strikes;
    uint64_t budget = fiber->budget.ratchet.budget_ns;
    nx_ratchet_result result = nx_l0_budget_look(&fiber->budget, now_ns);

    if (result == NX_RATCHET_NONE) {
        return;
    }
    fiber->overruns++;
    if (result == NX_RATCHET_DEMOTE) {
        /* First what holds the others' time, then the record of it. */
        nx_l0_life_demote(fiber, before);
    }
    (void)nx_l0_event(fiber->node, fiber,
                      &(nx_stl_event){.kind = NX_STL_BUDGET_STRIKE,
                                      .entity = before,
                                      .data = {fiber->budget.burst_ns, budget, strikes + 1}});
    nx_l0_publish(fiber);
}

void nx_l0_life_heard(nx_l0_fiber *fiber, uint64_t now_ns)
{
    nx_l0_place *place = nx_l0_now(fiber);

    /* Both pair with the releases of the warden. A short life may have done both. */
    if (fiber->state == NX_FIBER_STARTING &&
        __atomic_load_n(&place->report.stage, __ATOMIC_ACQUIRE) == NX_STAGE_RUNNING) {
        come_alive(fiber, now_ns);
    }
    if (nx_l0_is_alive(fiber) && __atomic_load_n(&place->ended, __ATOMIC_ACQUIRE) != 0) {
        end_life(fiber, place->status, now_ns);
    }
}

/* Nothing is left of the template: what had to wait for that. */
static void end_template(nx_l0_fiber *fiber, uint64_t now_ns)
{
    fiber->ending = false;
    if (fiber->forgotten) {
        nx_l0_answer_start(fiber, NULL);
        nx_l0_fiber_free(fiber);
    } else if (fiber->state == NX_FIBER_PAUSE && fiber->until_ns == NX_L0_FOREVER) {
        nx_l0_life_begin(fiber, now_ns);
    }
}

bool nx_l0_life_reaped(nx_l0_fiber *fiber, int32_t pid, int32_t status, uint64_t now_ns)
{
    unsigned index = fiber->shared->request & 1;
    nx_l0_place *place = &fiber->shared->lives[index];
    nx_l0_place *next = &fiber->shared->lives[index ^ 1];
    bool on = nx_l0_is_alive(fiber);

    if (pid == fiber->template) {
        /* Without its warden a life cannot begin; one that is on goes on, and the warden that was
         * to be the next is of no use without the template's counters. */
        fiber->template = 0;
        fiber->ending = next->warden > 0;
        if (fiber->ending) {
            (void)nx_sys(__NR_kill, next->warden, SIGKILL_);
        }
        if (on && place->warden <= 0) {
            /* It died before it could make this life: like a death of the life itself. */
            end_life(fiber, status, now_ns);
        } else if (fiber->state == NX_FIBER_STARTING && (fiber->cause != 0 || fiber->stopping)) {
            /* We ended it, and meant the life, whose warden it had just made. */
            (void)nx_sys(__NR_kill, place->warden, SIGKILL_);
        }
        if (!fiber->ending) {
            end_template(fiber, now_ns);
        }
        return true;
    }
    if (next->warden > 0 && pid == next->warden) {
        /* The next life's warden is gone before its time: the template must begin anew. */
        nx_l0_clear_place(fiber, index ^ 1);
        if (fiber->template > 0) {
            nx_l0_life_dismiss(fiber);
        } else {
            end_template(fiber, now_ns);
        }
        return true;
    }
    if (place->warden <= 0 || pid != place->warden) {
        return false;
    }
    if (on) {
        /* A warden that spoke has the fiber's own status. */
        bool spoke = __atomic_load_n(&place->ended, __ATOMIC_ACQUIRE) != 0;
        nx_l0_life_heard(fiber, now_ns);
        if (!spoke && nx_l0_is_alive(fiber)) {
            end_life(fiber, status, now_ns);
        }
    }
    return true;
}

void nx_l0_life_signal(const nx_l0_fiber *fiber, uint32_t signal)
{
    int32_t warden = nx_l0_now(fiber)->warden;
    int32_t pid = nx_l0_is_alive(fiber) && warden > 0 ? nx_l0_fiber_pid(warden) : -ESRCH_;
    long handle = pid > 0 ? nx_sys(__NR_pidfd_open, pid, 0) : pid;

    /* The number is the fiber's after as before: so was the process that it gave us. */
    if (handle >= 0 && nx_l0_fiber_pid(warden) == pid) {
        (void)nx_sys(__NR_pidfd_send_signal, handle, signal, NULL, 0);
    }
    if (handle >= 0) {
        (void)nx_sys(__NR_close, handle);
    }
}

void nx_l0_life_kill(nx_l0_fiber *fiber, uint32_t cause)
{
    int32_t warden = nx_l0_now(fiber)->warden;

    if (!nx_l0_is_alive(fiber)) {
        return; /* what waits ready is to go on waiting */
    }
    if (fiber->cause == 0) {
        fiber->cause = cause;
    }
    if (warden > 0) {
        (void)nx_sys(__NR_kill, warden, SIGKILL_);
    } else if (fiber->template > 0) {
        (void)nx_sys(__NR_kill, fiber->template, SIGKILL_);
    }
}

void nx_l0_life_stop(nx_l0_fiber *fiber, uint64_t now_ns, bool firm)
{
    if (fiber->state == NX_FIBER_OVER || fiber->state == NX_FIBER_QUARANTINED) {
        return;
    }
    if (!fiber->stopping) {
        fiber->until_ns = NX_L0_FOREVER;
    }
    fiber->stopping = true;
    if (firm && fiber->until_ns == NX_L0_FOREVER) {
        fiber->until_ns = now_ns + (uint64_t)nx_l0_policy(fiber)->grace_ms * NX_L0_MS;
    }
    if (fiber->state == NX_FIBER_PAUSE || fiber->state == NX_FIBER_HELD) {
        nx_l0_life_rest(fiber, NX_FIBER_OVER);
    }
}

void nx_l0_life_step(nx_l0_fiber *fiber, uint64_t now_ns)
{
    if (fiber->state == NX_FIBER_PAUSE && now_ns >= fiber->until_ns) {
        nx_l0_life_begin(fiber, now_ns);
    } else if (nx_l0_is_alive(fiber)) {
        hold_budget(fiber, now_ns);
        if (fiber->stopping && now_ns >= fiber->until_ns) {
            nx_l0_life_kill(fiber, 0);
            fiber->until_ns = NX_L0_FOREVER;
        }
    }
}

uint64_t nx_l0_life_next(const nx_l0_fiber *fiber, uint64_t now_ns)
{
    uint64_t look = NX_L0_FOREVER;

    if (fiber->state == NX_FIBER_PAUSE) {
        return fiber->until_ns;
    }
    if (nx_l0_is_alive(fiber)) {
        look = nx_l0_budget_next(&fiber->budget, now_ns);
        if (fiber->stopping && fiber->until_ns < look) {
            look = fiber->until_ns;
        }
    }
    return look;
}
