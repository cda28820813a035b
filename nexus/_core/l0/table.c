// SPDX-License-Identifier: Apache-2.0
/* The SysTable: written here alone, read by whoever was given it (docs/spec/node.md). */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <linux/mman.h>
#include <string.h>

#define PROT_READ_WRITE 3
#define CLOCK_REAL      0
#define CLOCK_MONO      1

void *nx_l0_share(const char *name, size_t size, bool read_only, int32_t *descriptor)
{
    uint32_t seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW;
    long memory = nx_sys(__NR_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    *descriptor = (int32_t)memory;
    if (memory < 0) {
        return NULL;
    }
    long mapped = nx_sys(__NR_ftruncate, memory, size);
    if (mapped >= 0) {
        mapped = nx_sys(__NR_mmap, NULL, size, PROT_READ_WRITE, MAP_SHARED, memory, 0);
    }
    if (mapped >= 0) {
        /* Our own mapping stays writable; there will be no other. */
        long sealed =
            nx_sys(__NR_fcntl, memory, F_ADD_SEALS, seals | (read_only ? F_SEAL_FUTURE_WRITE : 0));
        if (sealed >= 0) {
            return (void *)mapped;
        }
        (void)nx_sys(__NR_munmap, mapped, size);
        mapped = sealed;
    }
    nx_l0_close(descriptor);
    *descriptor = (int32_t)mapped;
    return NULL;
}

long nx_l0_table_init(nx_l0_node *node)
{
    node->table = nx_l0_share("nexus-systable", sizeof *node->table, true, &node->table_descriptor);
    if (node->table == NULL) {
        return node->table_descriptor;
    }
    node->table->head = (nx_node_head){
        .magic = NX_NODE_MAGIC,
        .version = NX_NODE_VERSION,
        .size = sizeof *node->table,
        .pid = (int32_t)nx_sys0(__NR_getpid),
        .start_ns = nx_l0_clock(CLOCK_MONO),
        .start_wall_ns = nx_l0_clock(CLOCK_REAL),
        .state = 1,
    };
    node->feature.copies[0] = &node->table->feature_0;
    node->feature.copies[1] = &node->table->feature_1;
    node->feature.copies[2] = &node->table->feature_2;
    nx_feature_init(&node->feature, NX_FEATURE_SOVEREIGN);
    node->features = NX_FEATURE_SOVEREIGN;
    return 0;
}

void nx_l0_table_follow(nx_l0_node *node, int32_t descriptor)
{
    nx_node_head *head = &node->table->head;
    long size = nx_sys(__NR_lseek, descriptor, 0, 2 /* SEEK_END */);
    long address =
        nx_sys(__NR_mmap, NULL, sizeof *node->table, 1 /* PROT_READ */, MAP_SHARED, descriptor, 0);
    const nx_node_table *table = (const nx_node_table *)address;

    if (size == (long)sizeof *table && address >= 0 && table->head.magic == NX_NODE_MAGIC &&
        table->head.version == NX_NODE_VERSION && table->head.pid == head->pid) {
        uint32_t generation = head->generation;
        *head = table->head;
        head->generation = generation;
        head->size = sizeof *table;
        head->state = 1;
        memcpy(node->table->events, table->events, sizeof table->events);
        (void)nx_sys(__NR_munmap, address, sizeof *table);
    } else {
        NX_L0_SAY("nexus-l0: the table did not outlive Phoenix: events begin anew\n");
    }
    nx_l0_close(&descriptor);
}

/* What must be known after a crash of everything: the range of faults, and how lives ended. */
static void record(nx_l0_node *node, const nx_stl_event *event)
{
    nx_beb_record one = {
        .time_ns = event->time_ns,
        .kind = (uint16_t)event->kind,
        .code = (uint16_t)event->entity,
        .fiber = event->fiber,
        .data = {event->data[0], event->data[1], event->data[2]},
    };

    if (node->beb.buffer == NULL || !nx_feature_on(node->features, NX_FEATURE_BEB) ||
        (event->kind < NX_STL_BUDGET_STRIKE && event->kind != NX_STL_FIBER_TERMINATE)) {
        return;
    }
    nx_beb_append(&node->beb, &one);
    size_t at = (size_t)((node->beb.sequence - 1) % NX_BEB_RING);
    (void)nx_sys(__NR_pwrite64, node->beb_descriptor, &node->beb.buffer->ring[at], sizeof one,
                 sizeof(nx_beb_header) + at * sizeof one);
}

uint64_t nx_l0_event(nx_l0_node *node, nx_l0_fiber *fiber, const nx_stl_event *event)
{
    nx_node_head *head = &node->table->head;
    uint64_t id = head->events + 1;
    nx_stl_event whole = *event;

    whole.time_ns = nx_l0_clock(CLOCK_MONO);
    if (fiber != NULL) {
        whole.fiber = nx_node_name(fiber->slot, fiber->generation);
        whole.cause = event->cause != 0 ? event->cause : fiber->event;
        fiber->event = id;
    }
    (void)nx_stl_encode(&whole, node->table->events[(id - 1) % NX_NODE_EVENTS]);
    /* Pairs with the acquire of readers. */
    __atomic_store_n(&head->events, id, __ATOMIC_RELEASE);
    (void)nx_sys(__NR_futex, &head->events, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    record(node, &whole);
    return id;
}

static uint32_t flags_of(const nx_l0_fiber *fiber, const nx_bkdl_policy *policy)
{
    return (fiber->slot == NX_NODE_OBSERVER ? NX_FIBER_IS_OBSERVER : 0u) |
           (fiber->budget.event >= 0 ? NX_FIBER_HAS_BUDGET : 0u) |
           (fiber->checkpoint_descriptor >= 0 ? NX_FIBER_HAS_CHECKPOINTS : 0u) |
           ((policy->flags & NX_POLICY_STANDBY) != 0 ? NX_FIBER_HAS_STANDBY : 0u) |
           (fiber->warm ? NX_FIBER_IS_WARM : 0u) |
           (fiber->calls.file >= 0 ? NX_FIBER_IS_COUNTED : 0u);
}

/* The fields that say what the fiber is. */
static void describe(nx_node_fiber *entry, const nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);

    entry->tier = fiber->tier;
    entry->tier_declared = policy->tier;
    entry->pledge = policy->pledge;
    entry->promises = policy->promises;
    entry->budget_ns = policy->budget_ns;
    entry->company = policy->company;
    entry->strategy = policy->strategy;
    entry->flags = flags_of(fiber, policy);
    memset(entry->name, 0, sizeof entry->name);
    memcpy(entry->name, nx_l0_name(fiber), strlen(nx_l0_name(fiber)));
}

void nx_l0_publish(nx_l0_fiber *fiber)
{
    nx_node_fiber *entry = &fiber->node->table->fibers[fiber->slot];
    uint32_t lock = entry->lock;

    __atomic_store_n(&entry->lock, lock + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    entry->generation = fiber->generation;
    entry->state = (uint32_t)fiber->state;
    entry->lives = fiber->lives;
    entry->pid = fiber->state == NX_FIBER_ALIVE ? fiber->budget.pid : 0;
    entry->status = fiber->ended_ns == 0 ? UINT32_MAX : (uint32_t)fiber->status;
    entry->began_ns = fiber->began_ns;
    entry->ended_ns = fiber->ended_ns;
    entry->strikes = fiber->budget.ratchet.strikes;
    entry->demotions = fiber->demotions;
    entry->restarts = fiber->breakers[0].count;
    entry->breaker = fiber->breakers[0].state;
    entry->epoch = fiber->cspace.epoch;
    entry->cause = fiber->trap.cause;
    entry->cpu_ns = fiber->budget.cpu_ns;
    entry->bursts = fiber->budget.bursts;
    entry->overruns = fiber->overruns;
    entry->checkpoint = fiber->saved > fiber->floor ? fiber->saved : fiber->floor;
    entry->image = fiber->image;
    entry->event = fiber->event;
    entry->reads = fiber->calls.reads;
    entry->writes = fiber->calls.writes;
    entry->counted_ns = fiber->calls.time_ns;
    if (fiber->bytes != NULL) {
        describe(entry, fiber);
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&entry->lock, lock + 2, __ATOMIC_RELAXED);
}
