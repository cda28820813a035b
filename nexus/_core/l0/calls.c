// SPDX-License-Identifier: Apache-2.0
/*
 * How often a life has read and written: the kernel's own count for the process, syscr and syscw of
 * /proc/PID/io (CONFIG_TASK_IO_ACCOUNTING). L1 cannot see the fibers' /proc; whoever is above them
 * can, without a privilege and without tracing anything.
 */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <string.h>

int32_t nx_l0_open_proc(int32_t pid, const char *name)
{
    char path[64];
    nx_l0_digits digits;

    nx_l0_join(path, (const char *[]){"/proc/", nx_l0_decimal(&digits, (uint64_t)pid), name}, 3);
    return (int32_t)nx_sys(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

/* The number behind a label at the begin of a line; false when there is none. */
static bool read_number(const char *text, long size, const char *label, uint64_t *ret)
{
    long length = (long)strlen(label);
    uint64_t number = 0;

    for (long i = 0; i + length < size; i++) {
        if (memcmp(text + i, label, (size_t)length) == 0) {
            for (i += length; i < size && text[i] >= '0' && text[i] <= '9'; i++) {
                number = number * 10 + (uint64_t)(text[i] - '0');
            }
            *ret = number;
            return true;
        }
    }
    return false;
}

static bool count(nx_l0_fiber *fiber)
{
    char text[256];
    uint64_t reads;
    uint64_t writes;
    long size = nx_sys(__NR_pread64, fiber->calls.file, text, sizeof text, 0);

    if (!read_number(text, size, "\nsyscr: ", &reads) ||
        !read_number(text, size, "\nsyscw: ", &writes)) {
        return false;
    }
    fiber->calls.reads = reads;
    fiber->calls.writes = writes;
    fiber->calls.time_ns = nx_l0_clock(1);
    return true;
}

void nx_l0_calls_open(nx_l0_fiber *fiber)
{
    nx_l0_close(&fiber->calls.file);
    fiber->calls = (nx_l0_calls){.file = -1};
    if (fiber->budget.pid <= 0 || fiber->slot == NX_NODE_OBSERVER) {
        return;
    }
    fiber->calls.file = nx_l0_open_proc(fiber->budget.pid, "/io");
    /* The number is the fiber's after as before: the file is, too. */
    if (nx_l0_fiber_pid(nx_l0_now(fiber)->warden) != fiber->budget.pid || !count(fiber)) {
        nx_l0_close(&fiber->calls.file);
    }
}

void nx_l0_look_at_calls(nx_l0_node *node)
{
    if (!nx_feature_on(node->features, NX_FEATURE_BASELINE)) {
        return;
    }
    for (uint32_t i = 0; i < NX_NODE_OBSERVER; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        if (fiber->calls.file >= 0 && nx_l0_is_alive(fiber) && count(fiber)) {
            nx_l0_publish(fiber);
        }
    }
}
