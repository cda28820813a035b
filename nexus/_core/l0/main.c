// SPDX-License-Identifier: Apache-2.0
/* Words and descriptors in; then supervision, of one fiber or of a node. */
#include "phoenix.h"

#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <string.h>

#define PROT_READ_WRITE 3

#define EBADF_ 9
#define ESRCH_ 3

/* Unless somebody asks for others. */
#define PHOENIX_LIMIT  3u
#define PHOENIX_PERIOD (60000 * (uint64_t)NX_L0_MS)

static nx_l0_node node;
static const char too_few[] = "more open files must be allowed: 64 to 127 are ours (ulimit -n 256)";

static int fail(const char *what)
{
    NX_L0_SAY("nexus-l0: ", what, "\n");
    return NX_L0_EXIT_FAILED;
}

/* A file descriptor number of at most 9 digits, or -1. */
static int parse_descriptor(const char *word)
{
    int number = 0;
    size_t size = strlen(word);

    if (size == 0 || size > 9) {
        return -1;
    }
    for (size_t i = 0; i < size; i++) {
        if (word[i] < '0' || word[i] > '9') {
            return -1;
        }
        number = number * 10 + (word[i] - '0');
    }
    return number;
}

/* An inherited descriptor as one of our own, which are above all that a fiber can have: what was
 * handed over is already. */
static int32_t take(int descriptor)
{
    if (descriptor >= (int)NX_L0_FIRST) {
        long result = nx_sys(__NR_fcntl, descriptor, F_SETFD, 1 /* FD_CLOEXEC */);
        return result < 0 ? (int32_t)result : descriptor;
    }
    return (int32_t)nx_sys(__NR_fcntl, descriptor, F_DUPFD_CLOEXEC, NX_L0_FIRST);
}

/* Fills the numbers below our own, so that the kernel gives us none of them. */
static void reserve(int descriptor)
{
    while (nx_sys(__NR_fcntl, descriptor, F_DUPFD_CLOEXEC, 3) < (long)NX_L0_FIRST) {
    }
}

/* Everything that one fiber and a node have in common; NULL or what failed. */
static const char *prepare(void)
{
    for (unsigned i = 0; i < NX_L0_CLIENTS; i++) {
        node.clients[i] = -1;
    }
    node.listen = node.observer_descriptor = node.beb_descriptor = -1;
    node.sched[0] = node.sched[1] = node.watchdog_device = node.image = node.handover = -1;
    nx_breaker_init(&node.phoenixes, PHOENIX_LIMIT, PHOENIX_PERIOD, 0);
    node.tick_ns = NX_L0_FOREVER;
    node.lifeline = (int32_t)nx_sys(__NR_pidfd_open, nx_sys0(__NR_getpid), 0);
    node.ready = (int32_t)nx_sys(__NR_eventfd2, 0, O_CLOEXEC | O_NONBLOCK);
    if (node.lifeline < 0 || node.ready < 0) {
        return "this kernel has no pidfd or no eventfd";
    }
    /* A fiber executes with what it was given, and without what we were. */
    if (nx_sys(__NR_close_range, 3, NX_L0_FIRST - 1, CLOSE_RANGE_CLOEXEC) < 0) {
        return "this kernel's close_range does not take CLOSE_RANGE_CLOEXEC: 5.11 does";
    }
    if (nx_l0_fiber_pid((int32_t)nx_sys0(__NR_getpid)) != -ESRCH_) {
        NX_L0_SAY("nexus-l0: no signal reaches a fiber, its end is SIGKILL after its grace, and no "
                  "budget is held: there is no /proc/PID/task/TID/children, which takes a proc of "
                  "this pid namespace and CONFIG_PROC_CHILDREN\n");
    }
    nx_blake3_select(nx_simd_detect());
    nx_correlator_init(&node.correlator, NX_CORRELATOR_FIBERS, NX_CORRELATOR_WINDOW_NS);
    if (nx_l0_table_init(&node) < 0) {
        return "no memory for the SysTable";
    }
    /* Whoever loses its parent below us becomes our child, and is found at the end. */
    (void)nx_sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    return NULL;
}

/* The descriptors that a plan names by the numbers that we inherited them with. */
static bool take_named(nx_l0_fiber *fiber, const nx_plan *plan)
{
    uint32_t wanted[NX_HANDLES_MAX + 1];
    uint32_t count = 0;

    if (plan->image->descriptor >= 0) {
        wanted[count++] = (uint32_t)plan->image->descriptor;
    }
    for (uint32_t i = 0; i < plan->handle_count; i++) {
        if (plan->handles[i].what <= NX_HANDLE_INDEX_MAX) {
            wanted[count++] = plan->handles[i].what;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        if (wanted[i] == 0 || wanted[i] > NX_HANDLE_INDEX_MAX) {
            return false;
        }
        if (fiber->descriptors[wanted[i]] < 0) {
            fiber->descriptors[wanted[i]] = take((int)wanted[i]);
        }
        if (fiber->descriptors[wanted[i]] < 0) {
            return false;
        }
    }
    return true;
}

/* One fiber: what it needs beside its plan has been inherited, under the very numbers. */
static int run(int descriptor)
{
    nx_l0_fiber *fiber = &node.fibers[0];
    nx_plan plan;

    fiber->node = &node;
    for (unsigned i = 0; i < NX_L0_DESCRIPTORS_MAX; i++) {
        fiber->descriptors[i] = -1;
    }
    fiber->descriptor_count = NX_L0_DESCRIPTORS_MAX;
    fiber->descriptors[0] = take(descriptor);
    long size = nx_sys(__NR_lseek, descriptor, 0, 2 /* SEEK_END */);
    if (fiber->descriptors[0] < 0 || size <= 0) {
        return fail(size > 0 ? too_few : "the plan cannot be read");
    }
    long bytes = nx_sys(__NR_mmap, NULL, size, 1 /* PROT_READ */, MAP_PRIVATE, descriptor, 0);
    if (bytes < 0) {
        return fail("no memory for the plan");
    }
    int result = nx_plan_parse((const uint8_t *)bytes, (size_t)size, &plan);
    if (result != NX_OK || !take_named(fiber, &plan)) {
        return fail("the plan is not sound");
    }
    (void)nx_sys(__NR_munmap, bytes, size);
    reserve(fiber->descriptors[0]);
    const char *problem = prepare();
    if (problem != NULL) {
        return fail(problem);
    }
    if (nx_l0_fiber_init(fiber, 0) < 0) {
        return fail("the plan is not sound, or not sealed");
    }
    fiber->generation = 1;
    return nx_l0_supervise(&node);
}

/* The error buffer in our memory; what is appended is written through. */
static const char *open_beb(int descriptor)
{
    nx_beb_scan found;
    long bytes =
        nx_sys(__NR_mmap, NULL, NX_BEB_BYTES, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    node.beb_descriptor = take(descriptor);
    if (bytes < 0 || node.beb_descriptor < 0) {
        return "the error buffer cannot be opened";
    }
    nx_beb_buffer *buffer = (nx_beb_buffer *)bytes;
    if (nx_sys(__NR_pread64, node.beb_descriptor, buffer, NX_BEB_BYTES, 0) < 0 ||
        nx_beb_attach(buffer, nx_l0_clock(1), &found, &node.beb) != NX_OK) {
        return "the error buffer is of another version";
    }
    if (nx_sys(__NR_pwrite64, node.beb_descriptor, buffer, NX_BEB_BYTES, 0) != NX_BEB_BYTES) {
        return "the error buffer cannot be written";
    }
    return NULL;
}

/* `kept` is what Phoenix handed over, or NULL. */
static int serve(const int *words, const nx_l0_kept *kept)
{
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        nx_l0_fiber *fiber = &node.fibers[i];
        fiber->node = &node;
        fiber->slot = i;
        fiber->budget.event = fiber->budget.own = fiber->checkpoint_descriptor =
            fiber->durable_descriptor = -1;
        fiber->calls.file = fiber->cgroup = -1;
        fiber->page_descriptors[0] = fiber->page_descriptors[1] = -1;
        for (unsigned k = 0; k < 3; k++) {
            fiber->cspace.copies[k] = NULL;
        }
    }
    int32_t control = take(words[0]);
    if (control < 0) {
        return fail(control == -EBADF_ ? "the control connection is not open" : too_few);
    }
    reserve(control);
    const char *problem = prepare();
    if (problem == NULL && words[2] >= 0) {
        problem = open_beb(words[2]);
    }
    if (problem != NULL) {
        return fail(problem);
    }
    node.serving = true;
    (void)nx_l0_become_prompt(&node);
    node.clients[NX_CLIENT_STARTER] = control;
    if (words[1] >= 0) {
        node.listen = take(words[1]);
    }
    node.table->head.generation = node.beb.generation;
    if (kept != NULL) {
        nx_l0_rise(&node, kept);
        return nx_l0_supervise(&node);
    }
    nx_l0_keep_image(&node);
    (void)nx_l0_event(&node, NULL,
                      &(nx_stl_event){.kind = NX_STL_SYSTEM_BOOT,
                                      .entity = node.beb.generation,
                                      .data = {(uint64_t)nx_sys0(__NR_getpid)}});
    (void)nx_l0_event(&node, NULL,
                      &(nx_stl_event){.kind = NX_STL_CHECKPOINT_REGION_INIT,
                                      .entity = NX_NODE_OBSERVER,
                                      .data = {(uint64_t)NX_NODE_OBSERVER * NX_CHECKPOINT_SLOT}});
    return nx_l0_supervise(&node);
}

int nx_l0_main(int count, const char *const *words)
{
    int descriptors[3] = {-1, -1, -1};

    if (count == 3 && strcmp(words[1], "run") == 0) {
        int descriptor = parse_descriptor(words[2]);
        return descriptor < 0 ? fail("the plan's descriptor is not a number") : run(descriptor);
    }
    if (count == 3 && strcmp(words[1], "rise") == 0) {
        const nx_l0_kept *kept = nx_l0_inherit(parse_descriptor(words[2]));
        if (kept == NULL || kept->own[NX_KEPT_CLIENTS] < 0) {
            return fail("what Phoenix handed over is not sound");
        }
        descriptors[0] = kept->own[NX_KEPT_CLIENTS];
        descriptors[1] = kept->own[NX_KEPT_LISTEN];
        descriptors[2] = kept->own[NX_KEPT_BEB];
        return serve(descriptors, kept);
    }
    if (count < 3 || count > 5 || strcmp(words[1], "serve") != 0) {
        return fail("usage: nexus-l0 run PLAN | serve CONTROL [LISTEN [BEB]], all descriptors");
    }
    for (int i = 0; i + 2 < count; i++) {
        descriptors[i] = parse_descriptor(words[i + 2]);
        if (descriptors[i] < 0 && (i == 0 || strcmp(words[i + 2], "-") != 0)) {
            return fail("a descriptor is not a number");
        }
    }
    return serve(descriptors, NULL);
}
