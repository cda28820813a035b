// SPDX-License-Identifier: Apache-2.0
/* Words, the plan, the tables for execve; then supervision. */
#include "nx_l0.h"

#include "nx_blake3.h"

#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <string.h>

#define PROT_READ_WRITE 3

static const char *arguments[NX_L0_STRINGS_MAX + 1];
static const char *environment[NX_L0_STRINGS_MAX + 1];

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

static const char **make_table(const nx_bkdl_section *strings, const char **table)
{
    const char *at = (const char *)strings->data;

    for (uint32_t i = 0; i < strings->count; i++) {
        table[i] = at;
        at += strlen(at) + 1;
    }
    table[strings->count] = NULL;
    return table;
}

static int run(int descriptor)
{
    nx_l0_fiber fiber = {0};
    long size = nx_sys(__NR_lseek, descriptor, 0, 2 /* SEEK_END */);

    if (size <= 0) {
        return fail("the plan cannot be read");
    }
    /* Private: the filter's gate is written into our copy. */
    long plan =
        nx_sys(__NR_mmap, NULL, size, PROT_READ_WRITE, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
    long shared = nx_sys(__NR_mmap, NULL, sizeof(nx_l0_shared), PROT_READ_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (plan < 0 || shared < 0) {
        return fail("no memory for the plan");
    }
    if (nx_plan_parse((const uint8_t *)plan, (size_t)size, &fiber.plan) != NX_OK) {
        return fail("the plan is not sound");
    }
    fiber.shared = (nx_l0_shared *)shared;
    fiber.arguments = make_table(&fiber.plan.manifest.sections[NX_BKDL_ARGUMENTS], arguments);
    fiber.environment = make_table(&fiber.plan.manifest.sections[NX_BKDL_ENVIRONMENT], environment);
    fiber.lifeline = (int32_t)nx_sys(__NR_pidfd_open, nx_sys0(__NR_getpid), 0);
    fiber.ready = (int32_t)nx_sys(__NR_eventfd2, 0, O_CLOEXEC | O_NONBLOCK);
    if (fiber.lifeline < 0 || fiber.ready < 0) {
        return fail("this kernel has no pidfd or no eventfd");
    }
    (void)nx_sys(__NR_close_range, 3, UINT32_MAX, 4 /* CLOSE_RANGE_CLOEXEC */);
    /* Whoever loses its parent below us becomes our child, and is found at the end. */
    (void)nx_sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    nx_blake3_select(nx_simd_detect());
    return nx_l0_supervise(&fiber);
}

int nx_l0_main(int count, const char *const *words)
{
    if (count != 3 || strcmp(words[1], "run") != 0) {
        return fail("usage: nexus-l0 run PLAN-DESCRIPTOR");
    }
    int descriptor = parse_descriptor(words[2]);
    return descriptor < 0 ? fail("the plan's descriptor is not a number") : run(descriptor);
}
