// SPDX-License-Identifier: Apache-2.0
/* A fiber's belongings: plan, descriptors, pages; taken at START, given back at FORGET. */
#include "nx_l0.h"

#include "nx_crc32c.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <string.h>

#define EBADMSG_        74
#define EPERM_          1
#define EINVAL_         22
#define PROT_READ_WRITE 3
#define SIGKILL_        9

const char *nx_l0_name(const nx_l0_fiber *fiber)
{
    return (const char *)fiber->plan.manifest.sections[NX_BKDL_NAME].data;
}

void nx_l0_close(int32_t *descriptor)
{
    if (*descriptor >= 0) {
        (void)nx_sys(__NR_close, *descriptor);
    }
    *descriptor = -1;
}

/* What is mapped or executed must not change under us, nor shrink: a fault would end us. */
static bool is_sealed(int32_t descriptor)
{
    long seals = nx_sys(__NR_fcntl, descriptor, F_GET_SEALS, 0);

    return seals >= 0 && (seals & F_SEAL_WRITE) != 0 && (seals & F_SEAL_SHRINK) != 0;
}

static long map_plan(nx_l0_fiber *fiber)
{
    int32_t descriptor = fiber->descriptors[0];
    long size = nx_sys(__NR_lseek, descriptor, 0, 2 /* SEEK_END */);

    if (size <= 0 || size > 2 * (long)NX_BKDL_SIZE_MAX) {
        return size < 0 ? size : -EBADMSG_;
    }
    if (!is_sealed(descriptor)) {
        return -EPERM_;
    }
    /* Private: the filter's gate is written into our copy. */
    long bytes =
        nx_sys(__NR_mmap, NULL, size, PROT_READ_WRITE, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
    if (bytes < 0) {
        return bytes;
    }
    fiber->bytes = (uint8_t *)bytes;
    fiber->size = (size_t)size;
    return nx_plan_parse(fiber->bytes, fiber->size, &fiber->plan) == NX_OK ? 0 : -EBADMSG_;
}

/* Makes what a handle stands for, once. */
static long provide(nx_l0_fiber *fiber, uint32_t what, bool observer)
{
    if (what <= NX_HANDLE_INDEX_MAX) {
        return what != 0 && what < fiber->descriptor_count && fiber->descriptors[what] >= 0
                   ? 0
                   : -EINVAL_;
    }
    if (what == NX_HANDLE_LIFE) {
        for (unsigned i = 0; i < 2; i++) {
            fiber->pages[i] =
                nx_l0_share("nexus-life", sizeof(nx_fiber_life), true, &fiber->page_descriptors[i]);
            if (fiber->pages[i] == NULL) {
                return fiber->page_descriptors[i];
            }
        }
        return 0;
    }
    if (what == NX_HANDLE_CHECKPOINT) {
        void *memory = nx_l0_share("nexus-checkpoint", NX_CHECKPOINT_SLOT, false,
                                   &fiber->checkpoint_descriptor);
        if (memory == NULL) {
            return fiber->checkpoint_descriptor;
        }
        (void)nx_sys(__NR_munmap, memory, NX_CHECKPOINT_SLOT);
        return 0;
    }
    return observer ? 0 : -EPERM_;
}

static long provide_all(nx_l0_fiber *fiber, bool observer)
{
    int32_t image = fiber->plan.image->descriptor;
    long result = 0;

    if (image >= 0 && (image == 0 || (uint32_t)image >= fiber->descriptor_count ||
                       fiber->descriptors[image] < 0)) {
        return -EINVAL_;
    }
    if (image < 0 && (fiber->plan.image->flags & 1) != 0) {
        return -EINVAL_; /* a digest of nothing */
    }
    if (image >= 0 && (fiber->plan.image->flags & 1) != 0 &&
        !is_sealed(fiber->descriptors[image])) {
        return -EPERM_;
    }
    for (uint32_t i = 0; result == 0 && i < fiber->plan.handle_count; i++) {
        result = provide(fiber, fiber->plan.handles[i].what, observer);
    }
    if (result == 0 && (nx_l0_policy(fiber)->flags & NX_POLICY_STANDBY) != 0 &&
        fiber->pages[0] == NULL) {
        return -EINVAL_; /* it would not know when its life begins */
    }
    return result;
}

static int32_t take_last(nx_l0_fiber *fiber)
{
    int32_t last = -1;

    if (fiber->descriptor_count > 4) {
        last = fiber->descriptors[--fiber->descriptor_count];
        fiber->descriptors[fiber->descriptor_count] = -1;
    }
    return last;
}

/* What the plan cannot name: last of all the cgroup, before it the file of the checkpoints. */
static long take_extras(nx_l0_fiber *fiber, uint32_t flags)
{
    if ((flags & NX_START_CGROUP) != 0) {
        fiber->cgroup = take_last(fiber);
        if (fiber->cgroup < 0) {
            return -EINVAL_;
        }
    }
    if ((flags & NX_START_DURABLE) != 0) {
        fiber->durable_descriptor = take_last(fiber);
        if (fiber->durable_descriptor < 0) {
            return -EINVAL_;
        }
        fiber->node->durables++;
    }
    return 0;
}

static long make_durable(nx_l0_fiber *fiber)
{
    if (fiber->checkpoint_descriptor < 0 || !nx_l0_recall(fiber, fiber->durable_descriptor)) {
        return -EINVAL_;
    }
    nx_l0_set_features(fiber->node, 0); /* the tick is needed now */
    return 0;
}

long nx_l0_fiber_init(nx_l0_fiber *fiber, uint32_t flags)
{
    nx_node_table *table = fiber->node->table;

    fiber->report = &fiber->own;
    fiber->budget.event = fiber->budget.own = fiber->calls.file = -1;
    fiber->checkpoint_descriptor = fiber->durable_descriptor = fiber->cgroup = -1;
    fiber->page_descriptors[0] = fiber->page_descriptors[1] = -1;
    fiber->hold = (flags & NX_START_HOLD) != 0;
    fiber->state = NX_FIBER_HELD;
    for (unsigned i = 0; i < 3; i++) {
        fiber->cspace.copies[i] = &table->cspaces[i].of[fiber->slot];
    }
    if (fiber->shared == NULL) {
        long shared = nx_sys(__NR_mmap, NULL, NX_PAGE_SIZE_MIN, PROT_READ_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (shared < 0) {
            return shared;
        }
        fiber->shared = (nx_l0_shared *)shared;
    }
    *fiber->shared = (nx_l0_shared){.lives = {{.control = -1}, {.control = -1}}};
    long result = take_extras(fiber, flags);
    if (result == 0) {
        result = map_plan(fiber);
    }
    if (result == 0) {
        result = provide_all(fiber, (flags & NX_START_OBSERVER) != 0);
    }
    if (result == 0 && fiber->durable_descriptor >= 0) {
        result = make_durable(fiber);
    }
    if (result < 0) {
        nx_l0_fiber_free(fiber);
        return result;
    }
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    nx_breaker_init(&fiber->breakers[0], policy->intensity, (uint64_t)policy->period_ms * NX_L0_MS,
                    (uint64_t)policy->delay_ms * NX_L0_MS);
    fiber->breakers[1] = fiber->breakers[2] = fiber->breakers[0];
    fiber->tier = policy->tier;
    fiber->check = nx_l0_belongings(fiber);
    nx_l0_settle_handles(fiber->node);
    uint8_t level = (uint8_t)policy->survivability; /* L1's is the floor, any other adds to it */
    if ((flags & NX_START_OBSERVER) != 0 && level != 0) {
        nx_feature_init(&fiber->node->feature, level);
        level = 0;
    }
    nx_l0_set_features(fiber->node, (uint8_t)(level & ~fiber->node->features));
    return 0;
}

uint32_t nx_l0_belongings(const nx_l0_fiber *fiber)
{
    NX_STATIC_ASSERT(offsetof(nx_l0_fiber, cgroup) == offsetof(nx_l0_fiber, descriptors) +
                                                          sizeof fiber->descriptors +
                                                          sizeof fiber->descriptor_count,
                     "they are one piece");
    return nx_crc32c(0, fiber->descriptors,
                     offsetof(nx_l0_fiber, check) - offsetof(nx_l0_fiber, descriptors));
}

void nx_l0_fiber_free(nx_l0_fiber *fiber)
{
    nx_node_table *table = fiber->node->table;

    for (uint32_t i = 0; i < fiber->descriptor_count; i++) {
        nx_l0_close(&fiber->descriptors[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        nx_l0_close(&fiber->shared->lives[i].control);
        if (fiber->pages[i] != NULL) {
            (void)nx_sys(__NR_munmap, fiber->pages[i], NX_PAGE_SIZE_MIN);
        }
        nx_l0_close(&fiber->page_descriptors[i]);
    }
    nx_l0_close(&fiber->checkpoint_descriptor);
    nx_l0_close(&fiber->calls.file);
    nx_l0_close(&fiber->cgroup);
    if (fiber->durable_descriptor >= 0) {
        nx_l0_close(&fiber->durable_descriptor);
        fiber->node->durables--;
    }
    if (fiber->bytes != NULL) {
        (void)nx_sys(__NR_munmap, fiber->bytes, fiber->size);
    }
    nx_cspace_sterilise(&fiber->cspace);
    /* What stays is the slot, its generation and its shared page. */
    nx_l0_fiber rest = {.node = fiber->node,
                        .slot = fiber->slot,
                        .generation = fiber->generation,
                        .shared = fiber->shared,
                        .cspace = fiber->cspace,
                        .template = fiber->template,
                        .checkpoint_descriptor = -1,
                        .durable_descriptor = -1,
                        .cgroup = -1,
                        .page_descriptors = {-1, -1},
                        .calls = {.file = -1},
                        .budget = {.event = -1}};
    rest.report = NULL;
    *fiber = rest;
    nx_l0_settle_handles(fiber->node);
    if (table->fibers[fiber->slot].generation != 0) {
        nx_l0_publish(fiber);
    }
}
