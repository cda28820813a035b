// SPDX-License-Identifier: Apache-2.0
/* The runtime of native fibers; see nexus_fiber.h. */
#include "nexus_fiber.h"

#include "nexus_switch.h"
#include "nx_memory.h"
#include "nx_sys.h"

#include <linux/mman.h>

#if defined(__PIC__) || defined(__PIE__)
#error "a fiber that is restored has fixed addresses: -fno-pie -no-pie -static"
#endif

#define STACK_TOP   (NX_FIBER_STACK_BASE + NX_FIBER_STACK_SIZE)
#define READ_WRITE  3
#define PRIVATE_    2
#define F_SETFD_    2
#define FD_CLOEXEC_ 1

#define NX_FIBER_EXIT_BUG 70 /* docs/reference/exit-codes.md */

NX_STATIC_ASSERT(NX_FRAME_WORDS * 8 == NX_CHECKPOINT_FRAME, "docs/spec/checkpoint.md");

uint64_t nexus_frame[NX_FRAME_WORDS];
uint64_t nexus_home[NX_FRAME_WORDS];

static struct {
    bool begun;
    bool running;
    bool has_slot;
    bool is_restored;
    uint32_t life;
    uint32_t own_epoch;
    uint64_t image;
    nx_fiber_handles handles;
    nx_checkpoint_writer writer;
    nx_checkpoint_copy copy; /* what this life goes on from */
} fiber;

/* The value of NEXUS_FIBER, or NULL. */
static const char *find_handles(char *const *environment, size_t *ret_size)
{
    static const char name[] = "NEXUS_FIBER=";

    for (; *environment != NULL; environment++) {
        const char *text = *environment;
        size_t same = 0;
        while (same < sizeof name - 1 && text[same] == name[same]) {
            same++;
        }
        if (same < sizeof name - 1) {
            continue;
        }
        size_t size = 0;
        while (size <= NX_FIBER_TEXT_MAX && text[same + size] != '\0') {
            size++;
        }
        *ret_size = size;
        return text + same;
    }
    return NULL;
}

/* What the fiber was given is not for the programs that it starts. */
static int keep_handles(const nx_fiber_handles *handles)
{
    long result = 0;

    if (handles->life >= 0) {
        result = nx_sys(__NR_fcntl, handles->life, F_SETFD_, FD_CLOEXEC_);
    }
    if (result == 0 && handles->checkpoint >= 0) {
        result = nx_sys(__NR_fcntl, handles->checkpoint, F_SETFD_, FD_CLOEXEC_);
    }
    for (unsigned i = 0; result == 0 && i < handles->count; i++) {
        result = nx_sys(__NR_fcntl, handles->handles[i].descriptor, F_SETFD_, FD_CLOEXEC_);
    }
    return result == 0 ? NX_OK : NX_EINVAL; /* it is not open */
}

static int wait_for_life(const nx_fiber_life **ret)
{
    const nx_fiber_life *page = NULL;
    int code = nx_fiber_life_map(fiber.handles.life, &page);

    while (code == NX_OK && (code = nx_fiber_life_wait(page, INT64_MAX)) == NX_EEMPTY) {
        code = NX_OK;
    }
    if (code == NX_OK) {
        fiber.life = page->life;
        fiber.own_epoch = page->own_epoch;
        fiber.image = page->image;
        *ret = page;
    }
    return code;
}

int nx_fiber_begin(char *const *environment)
{
    const nx_fiber_life *page = NULL;
    nx_checkpoint_slot *slot = NULL;
    size_t size = 0, at;
    const char *text = find_handles(environment, &size);

    if (text == NULL) {
        return NX_EABSENT;
    }
    if (fiber.begun) {
        return NX_EBUSY;
    }
    int code = nx_fiber_parse(text, size, &fiber.handles, &at);
    if (code == NX_OK) {
        code = keep_handles(&fiber.handles);
    }
    fiber.life = 1;
    if (code == NX_OK && fiber.handles.life >= 0) {
        code = wait_for_life(&page);
    }
    /* The slot comes after: until the life begins, the last one may be at work on it. */
    if (code == NX_OK && fiber.handles.checkpoint >= 0) {
        code = nx_checkpoint_slot_map(fiber.handles.checkpoint, &slot);
    }
    if (code != NX_OK) {
        return code;
    }
    fiber.begun = true;
    nx_blake3_select(nx_simd_detect());
    if (slot != NULL) {
        nx_checkpoint_writer_init(slot, &fiber.writer);
        fiber.has_slot = true;
    }
    if (slot != NULL && page != NULL && page->floor != 0) {
        nx_checkpoint_demand demand = {page->image, page->epoch, page->floor};
        fiber.is_restored = nx_checkpoint_restore(slot, &demand, &fiber.copy) == NX_OK;
    }
    if (page != NULL) {
        nx_fiber_life_unmap(page);
    }
    return NX_OK;
}

uint32_t nx_fiber_life_number(void)
{
    return fiber.life;
}

int nx_fiber_descriptor(nx_fiber_kind kind, const char *name)
{
    for (unsigned i = 0; i < fiber.handles.count; i++) {
        const nx_fiber_handle *handle = &fiber.handles.handles[i];
        size_t same = 0;
        while (name != NULL && same < handle->name_size && name[same] == handle->name[same]) {
            same++;
        }
        if (handle->kind == kind &&
            (name == NULL || (same == handle->name_size && name[same] == '\0'))) {
            return handle->descriptor;
        }
    }
    return NX_EABSENT;
}

const void *nx_fiber_restored(size_t *ret_size)
{
    *ret_size = fiber.is_restored ? fiber.copy.blob_size : 0;
    return fiber.is_restored ? fiber.copy.blob : NULL;
}

uint64_t nx_fiber_sequence(void)
{
    return fiber.writer.sequence;
}

/* Whether a frame can be gone on from: it passed the digest, but whoever can write the slot can
 * make a digest. */
static int check_frame(const uint64_t *frame, int (*function)(void *))
{
    uint64_t sp = frame[NX_FRAME_SP];

    if (frame[NX_FRAME_MACHINE] != NX_FRAME_MACHINE_HERE || sp % 16 != 0 ||
        sp < NX_FIBER_STACK_BASE || sp > STACK_TOP || STACK_TOP - sp != fiber.copy.stack_size) {
        return NX_ECORRUPT;
    }
    return frame[NX_FRAME_FUNCTION] == (uint64_t)(uintptr_t)function ? NX_OK : NX_ESTALE;
}

int nx_fiber_run(int (*function)(void *), void *argument, int *ret)
{
    static uint64_t frame[NX_FRAME_WORDS];
    int code = NX_OK;

    if (fiber.running) {
        return NX_EBUSY;
    }
    memcpy(frame, fiber.copy.frame, sizeof frame);
    /* A checkpoint without a machine is a blob alone: the function begins anew, and reads it. */
    bool resumes = fiber.is_restored && frame[NX_FRAME_MACHINE] != 0;
    if (resumes) {
        code = check_frame(frame, function);
    }
    if (code != NX_OK) {
        return code;
    }
    /* A page below stays without any rights, so that too deep a call ends the life. */
    long address = nx_sys(__NR_mmap, NX_FIBER_STACK_BASE - NX_PAGE_SIZE_MIN,
                          NX_FIBER_STACK_SIZE + NX_PAGE_SIZE_MIN, 0,
                          PRIVATE_ | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
    if (address != (long)(NX_FIBER_STACK_BASE - NX_PAGE_SIZE_MIN)) {
        return nx_sys_failed(address);
    }
    long result = nx_sys(__NR_mprotect, NX_FIBER_STACK_BASE, NX_FIBER_STACK_SIZE, READ_WRITE);
    if (result != 0) {
        return nx_sys_failed(result);
    }
    fiber.running = true;
    nexus_frame[NX_FRAME_MACHINE] = NX_FRAME_MACHINE_HERE;
    nexus_frame[NX_FRAME_FUNCTION] = (uint64_t)(uintptr_t)function;
    if (resumes) {
        uint64_t sp = frame[NX_FRAME_SP];
        memcpy((void *)sp, fiber.copy.stack, STACK_TOP - sp);
        *ret = nexus_resume(frame);
    } else {
        *ret = nexus_enter(function, argument, STACK_TOP);
    }
    return NX_OK;
}

int nexus_save(const void *blob, size_t size)
{
    uint64_t sp = nexus_frame[NX_FRAME_SP];
    uint64_t sequence;

    if (sp < NX_FIBER_STACK_BASE || sp > STACK_TOP) {
        return NX_EINVAL;
    }
    if (!fiber.has_slot) {
        return NX_EABSENT;
    }
    const nx_checkpoint_content content = {
        .image = fiber.image,
        .epoch = fiber.own_epoch,
        .frame = (const uint8_t *)nexus_frame,
        .stack = (const uint8_t *)sp,
        .stack_size = STACK_TOP - sp,
        .blob = blob,
        .blob_size = size,
    };
    return nx_checkpoint_save(&fiber.writer, &content, &sequence);
}

/* A bug in the kernels. Weak, because a program may have a better way to tell. */
__attribute__((weak)) void nx_panic(const char *condition, const char *file, int line)
{
    const char *text = condition;

    (void)file;
    (void)line;
    while (*text != '\0') {
        text++;
    }
    (void)nx_sys(__NR_write, 2, condition, text - condition);
    for (;;) {
        (void)nx_sys(__NR_exit_group, NX_FIBER_EXIT_BUG);
    }
}
