// SPDX-License-Identifier: Apache-2.0
/* Who the fiber is inside its user namespace: the id maps, from within or from outside. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/futex.h>
#include <string.h>

static long write_file(const char *path, const char *content)
{
    long descriptor = nx_sys(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);

    if (descriptor < 0) {
        return descriptor;
    }
    long written = nx_sys(__NR_write, descriptor, content, strlen(content));
    (void)nx_sys(__NR_close, descriptor);
    return written;
}

/* The ids of L0 before the clone; inside the new namespace they are not known any more. */
typedef struct {
    uint32_t user;
    uint32_t group;
} outer_ids;
static outer_ids outer;

void nx_l0_note_ids(void)
{
    outer.user = (uint32_t)nx_sys0(__NR_geteuid);
    outer.group = (uint32_t)nx_sys0(__NR_getegid);
}

/* Root keeps all ids as they are, so that files of any owner look the same inside; a map of more
 * than one's own id can only be written from outside. */
static bool keeps_ids(const nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);

    return outer.user == 0 && (policy->flags & NX_POLICY_IDENTITY) == 0;
}

static bool write_child_map(nx_l0_fiber *fiber, long pid, const char *name)
{
    nx_l0_digits digits;
    char path[64];

    nx_l0_join(path, (const char *[]){"/proc/", nx_l0_decimal(&digits, (uint64_t)pid), name}, 3);
    return nx_l0_ok(fiber, write_file(path, "0 0 4294967295\n"));
}

void nx_l0_map_child_ids(nx_l0_fiber *fiber, long pid)
{
    bool done = !keeps_ids(fiber) || (write_child_map(fiber, pid, "/uid_map") &&
                                      write_child_map(fiber, pid, "/gid_map"));

    /* Pairs with the acquire in nx_l0_map_ids. */
    __atomic_store_n(&fiber->shared->mapped, done ? 1 : 2, __ATOMIC_RELEASE);
    (void)nx_sys(__NR_futex, &fiber->shared->mapped, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool map_own_id(nx_l0_fiber *fiber, const char *path, uint32_t inside, uint32_t outside)
{
    nx_l0_digits in;
    nx_l0_digits out;
    char line[64];

    nx_l0_join(
        line,
        (const char *[]){nx_l0_decimal(&in, inside), " ", nx_l0_decimal(&out, outside), " 1\n"}, 4);
    return nx_l0_ok(fiber, write_file(path, line));
}

/* Anyone but root gets one id and gives up setgroups, as the kernel demands (user_namespaces(7)).
 */
bool nx_l0_map_ids(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    bool chosen = (policy->flags & NX_POLICY_IDENTITY) != 0;

    nx_l0_enter(fiber, NX_STAGE_IDENTITY, 0);
    if (keeps_ids(fiber)) {
        while (__atomic_load_n(&fiber->shared->mapped, __ATOMIC_ACQUIRE) == 0) {
            (void)nx_sys(__NR_futex, &fiber->shared->mapped, FUTEX_WAIT, 0, NULL, NULL, 0);
        }
        return fiber->shared->mapped == 1;
    }
    return nx_l0_ok(fiber, write_file("/proc/self/setgroups", "deny")) &&
           map_own_id(fiber, "/proc/self/uid_map", chosen ? policy->user : outer.user,
                      outer.user) &&
           map_own_id(fiber, "/proc/self/gid_map", chosen ? policy->group : outer.group,
                      outer.group);
}
