// SPDX-License-Identifier: Apache-2.0
/* Checkpoints as the supervisor sees them: it writes none, and believes what it has verified. */
#include "nx_l0.h"

#include <string.h>

#define SEQUENCE_AT offsetof(nx_checkpoint_copy, sequence)

/* Read, not mapped: what is mapped can be cut off below a reader. */
static nx_checkpoint_slot slot;
static nx_checkpoint_copy scratch;

static bool read_slot(int32_t descriptor)
{
    return nx_sys(__NR_pread64, descriptor, &slot, sizeof slot, 0) == (long)sizeof slot;
}

/* The newest of the two copies that is valid: its index, with the copy in `scratch`, or -1. */
static int newest(void)
{
    nx_checkpoint_state states[2];
    uint64_t sequences[2];

    for (unsigned i = 0; i < 2; i++) {
        states[i] = nx_checkpoint_verify(&slot, i, &scratch);
        sequences[i] = scratch.sequence;
    }
    if (states[0] != NX_CHECKPOINT_VALID && states[1] != NX_CHECKPOINT_VALID) {
        return -1;
    }
    bool second = states[1] == NX_CHECKPOINT_VALID &&
                  (states[0] != NX_CHECKPOINT_VALID || sequences[1] > sequences[0]);
    (void)nx_checkpoint_verify(&slot, second, &scratch);
    return second ? 1 : 0;
}

bool nx_l0_find_checkpoint(nx_l0_fiber *fiber)
{
    uint64_t best = 0;
    unsigned from = 0;

    fiber->warm = false;
    bool there = fiber->checkpoint_descriptor >= 0 && read_slot(fiber->checkpoint_descriptor);
    for (unsigned i = 0; there && i < 2; i++) {
        nx_checkpoint_state state = nx_checkpoint_verify(&slot, i, &scratch);
        if (state == NX_CHECKPOINT_CORRUPT) {
            (void)nx_l0_event(fiber->node, fiber,
                              &(nx_stl_event){.kind = NX_STL_CHECKPOINT_CORRUPT,
                                              .entity = i,
                                              .data = {scratch.sequence}});
        } else if (state == NX_CHECKPOINT_VALID && scratch.sequence > best &&
                   scratch.sequence >= fiber->floor && scratch.image == fiber->image) {
            best = scratch.sequence;
            fiber->warm_epoch = scratch.epoch;
            from = i;
        }
    }
    if (best != 0) {
        fiber->floor = best;
        fiber->warm = true;
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_CHECKPOINT_RESTORE,
                                          .entity = best,
                                          .data = {from, fiber->warm_epoch}});
    }
    return fiber->warm;
}

bool nx_l0_recall(nx_l0_fiber *fiber, int32_t from)
{
    if (!read_slot(from)) {
        return false;
    }
    if (from == fiber->durable_descriptor) {
        int index = newest();
        fiber->kept = index >= 0 ? slot.copies[index].sequence : 0;
    }
    return nx_sys(__NR_pwrite64, fiber->checkpoint_descriptor, &slot, sizeof slot, 0) ==
           (long)sizeof slot;
}

void nx_l0_keep(nx_l0_fiber *fiber)
{
    if (fiber->durable_descriptor < 0 || !read_slot(fiber->checkpoint_descriptor)) {
        return;
    }
    int index = newest();
    if (index < 0 || scratch.sequence <= fiber->kept) {
        return;
    }
    /* The other copy of the file is the last one that was kept, whatever happens to this one. */
    size_t at = (scratch.sequence & 1) * sizeof scratch;
    uint64_t older = 0;
    (void)nx_sys(__NR_pread64, fiber->durable_descriptor, &older, sizeof older, at + SEQUENCE_AT);
    if (older == fiber->kept && older != 0) {
        at = sizeof scratch - at;
    }
    if (nx_sys(__NR_pwrite64, fiber->durable_descriptor, &scratch, sizeof scratch, at) ==
        (long)sizeof scratch) {
        fiber->kept = scratch.sequence;
    } else if (!fiber->unkept) {
        fiber->unkept = true;
        NX_L0_SAY("nexus-l0: ", nx_l0_name(fiber), ": its checkpoints cannot be kept\n");
    }
}

void nx_l0_look_at_saves(nx_l0_node *node)
{
    for (uint32_t i = 0; i < NX_NODE_OBSERVER; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        uint64_t sequences[2] = {0, 0};
        if (fiber->checkpoint_descriptor < 0 || !nx_l0_is_alive(fiber)) {
            continue;
        }
        for (unsigned k = 0; k < 2; k++) {
            (void)nx_sys(__NR_pread64, fiber->checkpoint_descriptor, &sequences[k],
                         sizeof sequences[k], k * sizeof scratch + SEQUENCE_AT);
        }
        uint64_t saved = sequences[0] > sequences[1] ? sequences[0] : sequences[1];
        if (saved != fiber->saved) {
            fiber->saved = saved;
            nx_l0_keep(fiber);
            nx_l0_publish(fiber);
        }
    }
}
