// SPDX-License-Identifier: Apache-2.0
/*
 * Handles whose capability is gone (docs/spec/node.md, "Handles and capabilities").
 *
 * A process cannot be made to lose a descriptor or a mapping. So the end of a channel is closed at
 * the fiber that honours it: by a bit of the life page, which L0 alone writes, at both ends. A file
 * is taken with the life that has it open: the next one begins from a new template, with an empty
 * file in its place.
 */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/memfd.h>
#include <linux/stat.h>

#define TYPE_CHANNEL 2u
#define TYPE_MEMORY  3u

static uint64_t bit_of(const nx_node_capability *one)
{
    bool names = (one->type == TYPE_CHANNEL || one->type == TYPE_MEMORY) &&
                 one->object <= NX_HANDLE_INDEX_MAX;

    return names ? (uint64_t)1 << one->object : 0;
}

static bool stat_of(const nx_l0_fiber *fiber, const nx_plan_handle *handle, struct statx *ret)
{
    return handle->what <= NX_HANDLE_INDEX_MAX &&
           nx_sys(__NR_statx, fiber->descriptors[handle->what], "", AT_EMPTY_PATH, STATX_INO,
                  ret) >= 0;
}

/* The numbers under which a fiber has one of the files of `wanted`, which are another's numbers. */
static uint64_t same_files(const nx_l0_fiber *fiber, const nx_l0_fiber *other, uint64_t wanted)
{
    uint64_t found = 0;
    struct statx one;
    struct statx two;

    for (uint32_t i = 0; i < other->plan.handle_count; i++) {
        const nx_plan_handle *handle = &other->plan.handles[i];
        if ((wanted >> handle->number & 1) == 0 || !stat_of(other, handle, &one)) {
            continue;
        }
        for (uint32_t k = 0; k < fiber->plan.handle_count; k++) {
            const nx_plan_handle *mine = &fiber->plan.handles[k];
            if (stat_of(fiber, mine, &two) && one.stx_ino == two.stx_ino &&
                one.stx_dev_major == two.stx_dev_major && one.stx_dev_minor == two.stx_dev_minor) {
                found |= (uint64_t)1 << mine->number;
            }
        }
    }
    return found;
}

void nx_l0_settle_handles(nx_l0_node *node)
{
    for (uint32_t i = 0; i < NX_NODE_OBSERVER; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        uint64_t closed = fiber->revoked_channels | fiber->revoked_files;
        for (uint32_t k = 0; k < NX_NODE_OBSERVER; k++) {
            const nx_l0_fiber *other = &node->fibers[k];
            if (fiber->bytes != NULL && other->bytes != NULL && other->revoked_channels != 0) {
                closed |= same_files(fiber, other, other->revoked_channels);
            }
        }
        if (closed != fiber->closed) {
            fiber->closed = closed;
            nx_l0_write_closed(fiber);
        }
    }
}

void nx_l0_write_closed(const nx_l0_fiber *fiber)
{
    nx_fiber_life *page = fiber->pages[fiber->shared->request & 1];

    if (page != NULL) {
        /* Orders nothing: what the ring had before is not taken either. */
        atomic_store_explicit(&page->revoked, fiber->closed, memory_order_relaxed);
    }
}

bool nx_l0_is_revoked(const nx_l0_fiber *fiber, const nx_node_capability *one)
{
    return (bit_of(one) & (fiber->revoked_channels | fiber->revoked_files)) != 0;
}

/* Whether the plan gives the fiber a descriptor of this number. */
static bool has(const nx_l0_fiber *fiber, uint64_t bit)
{
    for (uint32_t i = 0; i < fiber->plan.handle_count; i++) {
        if (bit >> fiber->plan.handles[i].number == 1) {
            return fiber->plan.handles[i].what <= NX_HANDLE_INDEX_MAX;
        }
    }
    return false;
}

static void make_nothing(nx_l0_node *node)
{
    uint32_t seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

    if (node->nothing <= 0) {
        node->nothing =
            (int32_t)nx_sys(__NR_memfd_create, "nexus-revoked", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        (void)nx_sys(__NR_fcntl, node->nothing, F_ADD_SEALS, seals);
    }
}

void nx_l0_keep_revoked(nx_l0_fiber *fiber, uint64_t channels, uint64_t files)
{
    if (files != 0) {
        make_nothing(fiber->node);
    }
    fiber->revoked_channels = channels;
    fiber->revoked_files = files;
    nx_l0_settle_handles(fiber->node);
}

nx_l0_taken nx_l0_take_handle(nx_l0_fiber *fiber, const nx_node_capability *last)
{
    uint64_t bit = bit_of(last);

    if (bit == 0 || !has(fiber, bit)) {
        return NX_TAKEN_WORD;
    }
    if (last->type == TYPE_CHANNEL) {
        fiber->revoked_channels |= bit;
        nx_l0_settle_handles(fiber->node);
        return NX_TAKEN_CHANNEL;
    }
    /* Without it a life cannot begin: better none than one that has the file. */
    make_nothing(fiber->node);
    fiber->revoked_files |= bit;
    fiber->stale = true;
    nx_l0_settle_handles(fiber->node);
    if (nx_l0_is_alive(fiber) && !fiber->stopping) {
        fiber->forced = true;
        nx_l0_life_kill(fiber, NX_TRAP_ASKED);
    }
    return NX_TAKEN_FILE;
}

void nx_l0_give_handle(nx_l0_fiber *fiber, const nx_node_capability *given)
{
    uint64_t bit = bit_of(given);

    if (given->type == TYPE_CHANNEL) {
        fiber->revoked_channels &= ~bit;
    } else if ((fiber->revoked_files & bit) != 0) {
        fiber->revoked_files &= ~bit;
        fiber->stale = true;
    }
    nx_l0_settle_handles(fiber->node);
}
