// SPDX-License-Identifier: Apache-2.0
/* L0 as an observer: of L1 by its heartbeat, of the shared words by vote, of L1's opinions. */
#include "nx_l0.h"

#include "nx_tmr.h"

#include <linux/fcntl.h>
#include <string.h>

#define AF_UNIX_        1
#define SOCK_SEQPACKET_ 5

#define TICK_NS (400 * (uint64_t)NX_L0_MS)
/* L1 has 1.6 s, four beats. A beat is seen up to one look late, so that after three it has had
 * them. Its first may take 30 s: on a small board an interpreter loads for seconds. */
#define MISSES         3u
#define FIRST_MISSES   75u
#define AUDIT_TICKS    3u /* between looks at the capability words */
#define VERDICT_WINDOW (1000 * (uint64_t)NX_L0_MS)
#define CONFIDENCE     5000u
#define NEEDS_TICK                                                                                 \
    (NX_FEATURE_HEARTBEAT | NX_FEATURE_AUDIT | NX_FEATURE_VERDICTS | NX_FEATURE_BASELINE)

/* Reads two numbers from schedstat: CPU time and run-queue delay. */
static void read_clocks(int32_t descriptor, nx_watchdog_sample *sample)
{
    char text[96];
    uint64_t numbers[2] = {0, 0};
    long size = nx_sys(__NR_pread64, descriptor, text, sizeof text, 0);
    long at = 0;

    for (unsigned i = 0; i < 2; i++, at++) {
        for (; at < size && text[at] >= '0' && text[at] <= '9'; at++) {
            numbers[i] = numbers[i] * 10 + (uint64_t)(text[at] - '0');
        }
    }
    sample->ran_ns = numbers[0];
    sample->waited_ns = numbers[1];
}

/* The state letter of stat comes after the last parenthesis of the name. */
static bool is_runnable(int32_t descriptor)
{
    char text[256];
    long size = nx_sys(__NR_pread64, descriptor, text, sizeof text, 0);

    for (long i = size - 3; i >= 0; i--) {
        if (text[i] == ')') {
            return text[i + 2] == 'R';
        }
    }
    return false;
}

static nx_watchdog_sample look_at_observer(const nx_l0_node *node, uint64_t late_ns)
{
    nx_watchdog_sample sample = {.late_ns = late_ns};

    read_clocks(node->sched[0], &sample);
    sample.runnable = is_runnable(node->sched[1]);
    sample.now_ns = nx_l0_clock(1);
    sample.beat = __atomic_load_n(&node->observer->beat, __ATOMIC_RELAXED);
    return sample;
}

void nx_l0_watch(nx_l0_node *node)
{
    int32_t pid = node->fibers[NX_NODE_OBSERVER].budget.pid;

    nx_l0_close(&node->sched[0]);
    nx_l0_close(&node->sched[1]);
    node->watching = false;
    node->hung = false;
    if (pid <= 0 || node->observer == NULL) {
        return;
    }
    node->sched[0] = nx_l0_open_proc(pid, "/schedstat");
    node->sched[1] = nx_l0_open_proc(pid, "/stat");
    if (node->sched[0] < 0 || node->sched[1] < 0) {
        nx_l0_notice(&node->fibers[NX_NODE_OBSERVER], "its heartbeat is not watched: no schedstat",
                     node->sched[0] < 0 ? node->sched[0] : node->sched[1]);
        return;
    }
    nx_watchdog_sample first = look_at_observer(node, 0);
    nx_watchdog_init(&node->watchdog, TICK_NS, FIRST_MISSES, &first);
    node->watching = true;
    node->tick_ns = first.now_ns + TICK_NS;
}

int32_t nx_l0_connect_observer(nx_l0_node *node, unsigned index)
{
    int32_t pair[2];

    nx_l0_drop_client(node, NX_CLIENT_OBSERVER + index);
    long result = nx_sys(__NR_socketpair, AF_UNIX_, SOCK_SEQPACKET_ | O_CLOEXEC, 0, pair);
    if (result < 0) {
        return (int32_t)result;
    }
    node->clients[NX_CLIENT_OBSERVER + index] = pair[0];
    return pair[1];
}

static void check_heartbeat(nx_l0_node *node, uint64_t late_ns)
{
    nx_l0_fiber *observer = &node->fibers[NX_NODE_OBSERVER];

    if (!node->watching || observer->state != NX_FIBER_ALIVE || observer->stopping ||
        !nx_feature_on(node->features, NX_FEATURE_HEARTBEAT)) {
        return;
    }
    nx_watchdog_sample sample = look_at_observer(node, late_ns);
    uint64_t before = node->watchdog.beat;
    nx_watchdog_verdict verdict = nx_watchdog_step(&node->watchdog, &sample);
    if (sample.beat != before) {
        node->table->head.beat_ns = sample.now_ns;
        node->watchdog.deadline_ns = TICK_NS * MISSES;
    }
    if (verdict == NX_WATCHDOG_HUNG && !node->hung) {
        node->hung = true;
        (void)nx_l0_event(node, observer,
                          &(nx_stl_event){.kind = NX_STL_HEARTBEAT_LOST,
                                          .entity = sample.beat,
                                          .data = {sample.now_ns - node->watchdog.seen_ns,
                                                   node->watchdog.deadline_ns}});
        nx_l0_life_kill(observer, NX_TRAP_HUNG);
    }
}

/* Every word that is kept three times: differing copies are put right. */
static void audit(nx_l0_node *node)
{
    nx_tmr_repairs repairs = {{0}};
    uint8_t *copies[3];
    nx_feature_state state = nx_feature_read(&node->feature);

    node->features = state.effective;
    if (state.repaired != 0) {
        node->table->head.repairs++;
        (void)nx_l0_event(node, NULL,
                          &(nx_stl_event){.kind = NX_STL_VOTE_REPAIR, .data = {state.repaired, 8}});
    }
    if (!nx_feature_on(node->features, NX_FEATURE_AUDIT) || node->ticks++ % AUDIT_TICKS != 0) {
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        copies[i] = (uint8_t *)&node->table->cspaces[i];
    }
    node->table->head.audits++;
    if (nx_tmr_differs(copies[0], copies[1], copies[2], NX_NODE_CSPACES_BYTES)) {
        nx_tmr_vote(copies[0], copies[1], copies[2], NX_NODE_CSPACES_BYTES, &repairs);
        node->table->head.repairs++;
        (void)nx_l0_event(
            node, NULL,
            &(nx_stl_event){.kind = NX_STL_VOTE_REPAIR,
                            .entity = 1,
                            .data = {(repairs.bytes[0] != 0 ? 1u : 0u) |
                                         (repairs.bytes[1] != 0 ? 2u : 0u) |
                                         (repairs.bytes[2] != 0 ? 4u : 0u),
                                     repairs.bytes[0] + repairs.bytes[1] + repairs.bytes[2]}});
    }
}

void nx_l0_set_features(nx_l0_node *node, uint8_t runtime)
{
    nx_feature_state state = nx_feature_read(&node->feature);
    uint8_t before = state.effective;

    state = nx_feature_set(&node->feature, (uint8_t)(state.runtime | runtime));
    node->features = state.effective;
    if (state.effective != before) {
        (void)nx_l0_event(node, NULL,
                          &(nx_stl_event){.kind = NX_STL_FEATURE_CHANGE,
                                          .entity = state.effective,
                                          .data = {before, state.boot}});
    }
    bool needed =
        (node->features & NEEDS_TICK) != 0 || node->durables != 0 || node->watchdog_device >= 0;
    node->tick_ns = needed ? nx_l0_clock(1) + TICK_NS : NX_L0_FOREVER;
}

static void act(nx_l0_fiber *fiber, const nx_verdict *verdict, nx_verdict_action action)
{
    uint32_t before = fiber->budget.ratchet.tier;

    (void)nx_l0_event(
        fiber->node, fiber,
        &(nx_stl_event){.kind = NX_STL_VERDICT_ISSUED,
                        .entity = action.code,
                        .data = {action.producer, verdict->confidence, verdict->sequence}});
    switch (action.code) {
    case NX_VERDICT_THROTTLE:
    case NX_VERDICT_DEMOTE:
        if (before > 0) {
            fiber->budget.ratchet.tier = before - 1;
            fiber->budget.ratchet.strikes = 0;
            fiber->budget.ratchet.budget_ns = nx_tier_budget_ns(before - 1);
            nx_l0_life_demote(fiber, before);
            nx_l0_publish(fiber);
        }
        break;
    case NX_VERDICT_RESTART:
        fiber->forced = true;
        nx_l0_life_kill(fiber, NX_TRAP_VERDICT);
        break;
    case NX_VERDICT_QUARANTINE:
        fiber->barred = true;
        nx_l0_life_kill(fiber, NX_TRAP_VERDICT);
        break;
    default:
        break;
    }
}

/* L1's new opinions, each once. The page is L1's: nothing in it is believed but for its form. */
void nx_l0_take_verdicts(nx_l0_node *node, uint64_t now_ns)
{
    static const nx_verdict_rule rule = {VERDICT_WINDOW, CONFIDENCE};

    if (node->observer == NULL || !nx_feature_on(node->features, NX_FEATURE_VERDICTS)) {
        return;
    }
    /* Pairs with L1's release. */
    uint64_t newest = __atomic_load_n(&node->observer->verdict, __ATOMIC_ACQUIRE);
    if (newest - node->verdict > NX_NODE_VERDICTS) {
        node->verdict = newest - NX_NODE_VERDICTS;
    }
    while (node->verdict != newest) {
        nx_verdict verdict;
        memcpy(&verdict, &node->observer->verdicts[node->verdict++ % NX_NODE_VERDICTS],
               sizeof verdict);
        uint32_t slot = (uint32_t)verdict.fiber - 1;
        if (slot >= NX_NODE_OBSERVER || !nx_verdict_is_valid(&verdict, NX_PRODUCER_L1)) {
            continue;
        }
        nx_l0_fiber *fiber = &node->fibers[slot];
        if (verdict.fiber != nx_node_name(slot, fiber->generation) || !nx_l0_is_alive(fiber)) {
            continue;
        }
        nx_verdict_action action =
            nx_verdict_arbitrate(verdict.fiber, NULL, &verdict, &rule, now_ns);
        if (action.decided && action.code != NX_VERDICT_OBSERVE) {
            act(fiber, &verdict, action);
        }
    }
}

/* Everything begins anew from its sealed image: we first, and if that is refused, the others. */
static void rise(nx_l0_node *node, uint64_t now_ns)
{
    nx_l0_phoenix(node);
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        if (nx_l0_is_alive(fiber) && !fiber->stopping) {
            fiber->forced = true;
            nx_l0_life_kill(fiber, NX_TRAP_ASKED);
        } else if (fiber->state == NX_FIBER_QUARANTINED) {
            nx_l0_life_want(fiber, now_ns);
        }
    }
}

void nx_l0_observe(nx_l0_node *node, uint64_t now_ns)
{
    uint64_t delay;

    if (node->phoenix && !node->stopping) {
        if (nx_breaker_admit(&node->phoenixes, now_ns, &delay)) {
            rise(node, now_ns);
        } else {
            nx_l0_give_up(node);
        }
    }
    node->phoenix = false;
    if (node->tick_ns == NX_L0_FOREVER || now_ns < node->tick_ns) {
        return;
    }
    uint64_t late_ns = now_ns - node->tick_ns;
    node->tick_ns = now_ns + TICK_NS;
    audit(node);
    nx_l0_look_at_saves(node);
    nx_l0_look_at_calls(node);
    check_heartbeat(node, late_ns);
    nx_l0_take_verdicts(node, now_ns);
    nx_l0_pet(node, now_ns);
}
