// SPDX-License-Identifier: Apache-2.0
/* The steps of the restart trap (nx_trap.h has their order): what each does in a node on Linux. */
#include "nx_l0.h"

#include "nx_blake3.h"
#include "nx_tmr.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <string.h>

#define EBADMSG_ 74

long nx_l0_digest(int32_t descriptor, uint8_t *ret)
{
    nx_blake3_mode mode;
    long size = nx_sys(__NR_lseek, descriptor, 0, 2 /* SEEK_END */);

    if (size < 0) {
        return size;
    }
    long address =
        nx_sys(__NR_mmap, NULL, size, 1 /* PROT_READ */, MAP_SHARED | MAP_POPULATE, descriptor, 0);
    if (address < 0) {
        return address;
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, (const void *)address, (size_t)size, ret, NX_BLAKE3_OUT);
    (void)nx_sys(__NR_munmap, address, size);
    return 0;
}

/* Compares the image with the digest in the plan; a sealed memfd changes only when memory rots. */
static bool image_is_sound(nx_l0_fiber *fiber)
{
    const nx_plan_image *image = fiber->plan.image;
    uint8_t digest[NX_BLAKE3_OUT];

    fiber->image = nx_load_u64(image->digest);
    if ((image->flags & 1) == 0) {
        return true;
    }
    nx_l0_enter(fiber, NX_STAGE_IMAGE, 0);
    if (!nx_l0_ok(fiber, nx_l0_digest(fiber->descriptors[image->descriptor], digest))) {
        return false;
    }
    if (memcmp(digest, image->digest, sizeof digest) != 0) {
        (void)nx_l0_event(
            fiber->node, fiber,
            &(nx_stl_event){.kind = NX_STL_IMAGE_CORRUPT,
                            .entity = fiber->image,
                            .data = {nx_load_u64(digest), fiber->trap.image_failures + 1u}});
        return nx_l0_ok(fiber, -EBADMSG_);
    }
    return true;
}

/* The manifest's initial capabilities, read from the sealed plan again. */
static bool regrant(nx_l0_fiber *fiber)
{
    nx_plan plan;

    if (fiber->descriptors[0] >= 0 && nx_sys(__NR_pread64, fiber->descriptors[0], fiber->bytes,
                                             fiber->size, 0) != (long)fiber->size) {
        return false;
    }
    if (nx_plan_parse(fiber->bytes, fiber->size, &plan) != NX_OK) {
        return false;
    }
    fiber->plan = plan;
    for (uint32_t i = 0; i < plan.manifest.descriptor_count; i++) {
        const uint8_t *one = plan.manifest.descriptors + (size_t)i * NX_BKDL_DESCRIPTOR_SIZE;
        nx_node_capability wanted = {
            .type = one[0], .rights = one[1], .object = nx_load_u64(one + 4), .end = UINT64_MAX};
        uint32_t index;
        if (wanted.type != 0 && !nx_l0_is_revoked(fiber, &wanted) &&
            nx_cspace_grant(&fiber->cspace, &wanted, &index) != NX_OK) {
            return false;
        }
    }
    return true;
}

/* The breaker's counters, by majority of three. */
static bool ask_breaker(nx_l0_fiber *fiber, uint64_t now_ns, uint64_t *ret)
{
    nx_tmr_repairs repairs = {{0}};
    uint8_t *copies[3] = {(uint8_t *)&fiber->breakers[0], (uint8_t *)&fiber->breakers[1],
                          (uint8_t *)&fiber->breakers[2]};

    if (nx_tmr_differs(copies[0], copies[1], copies[2], sizeof(nx_breaker))) {
        nx_tmr_vote(copies[0], copies[1], copies[2], sizeof(nx_breaker), &repairs);
        fiber->node->table->head.repairs++;
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_VOTE_REPAIR, .entity = 2});
    }
    bool admitted = nx_breaker_admit(&fiber->breakers[0], now_ns, ret);
    fiber->breakers[1] = fiber->breakers[2] = fiber->breakers[0];
    if (!admitted) {
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_BREAKER_OPEN,
                                          .entity = fiber->breakers[0].count,
                                          .data = {fiber->breakers[0].period_ns}});
    }
    return admitted;
}

static bool perform(nx_l0_fiber *fiber, nx_trap_step step, uint64_t now_ns, uint64_t *ret_delay)
{
    switch (step) {
    case NX_TRAP_LOG:
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_RESTART_TRAP,
                                          .entity = fiber->trap.cause,
                                          .data = {fiber->lives, (uint64_t)fiber->status}});
        return true;
    case NX_TRAP_BREAKER:
        /* Who was asked to be restarted has no part in how often it falls. */
        return fiber->forced || ask_breaker(fiber, now_ns, ret_delay);
    case NX_TRAP_STERILISE:
        nx_cspace_sterilise(&fiber->cspace);
        return true;
    case NX_TRAP_VERIFY:
        return image_is_sound(fiber);
    case NX_TRAP_REGRANT:
        return regrant(fiber);
    default:
        return nx_l0_find_checkpoint(fiber);
    }
}

bool nx_l0_birth(nx_l0_fiber *fiber)
{
    nx_trap_init(&fiber->trap);
    nx_cspace_sterilise(&fiber->cspace);
    if (!image_is_sound(fiber) || !regrant(fiber)) {
        return false;
    }
    (void)nx_l0_find_checkpoint(fiber);
    return true;
}

nx_trap_step nx_l0_trap(nx_l0_fiber *fiber, uint32_t cause, uint64_t now_ns, uint64_t *ret_delay)
{
    nx_trap_step step = nx_trap_catch(&fiber->trap, (uint16_t)cause, fiber->node->features);

    *ret_delay = 0;
    while (!nx_trap_is_end(step)) {
        nx_trap_step done = step;
        step = nx_trap_next(&fiber->trap, perform(fiber, step, now_ns, ret_delay));
        if (step == NX_TRAP_QUARANTINED) {
            (void)nx_l0_event(fiber->node, fiber,
                              &(nx_stl_event){.kind = NX_STL_QUARANTINE,
                                              .entity = done,
                                              .data = {fiber->trap.cause}});
        }
    }
    return step;
}
