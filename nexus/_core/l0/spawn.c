// SPDX-License-Identifier: Apache-2.0
/* A start: the clone, the warden, the namespaces. What the fiber does to itself is in narrow.c. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <string.h>

#define PDEATHSIG_ 1 /* PR_SET_PDEATHSIG */
#define SIGKILL_   9
#define SIGCHLD_   17
#define ESRCH_     3
#define ECHILD_    10

static NX_ALIGNED(64) uint8_t warden_stack[NX_L0_STACK_SIZE];
static NX_ALIGNED(64) uint8_t fiber_stack[NX_L0_STACK_SIZE];

/* The child starts on its new stack with the parent's registers, so it goes on right here. */
static long clone_and_run(struct clone_args *args, void (*run)(nx_l0_fiber *), nx_l0_fiber *fiber)
{
#if defined(__x86_64__)
    long ret;
    register void *r12 __asm__("r12") = (void *)fiber;
    register void (*r13)(nx_l0_fiber *) __asm__("r13") = run;

    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r12, %%rdi\n\t"
                     "call *%%r13\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "a"(__NR_clone3), "D"(args), "S"(sizeof *args), "r"(r12), "r"(r13)
                     : "rcx", "r11", "memory");
    return ret;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = __NR_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register void *x19 __asm__("x19") = (void *)fiber;
    register void (*x20)(nx_l0_fiber *) __asm__("x20") = run;

    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x19\n\t"
                     "blr x20\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x19), "r"(x20)
                     : "memory", "cc");
    return x0;
#else
    register long a7 __asm__("a7") = __NR_clone3;
    register long a0 __asm__("a0") = (long)args;
    register long a1 __asm__("a1") = sizeof *args;
    register void *s2 __asm__("s2") = (void *)fiber;
    register void (*s3)(nx_l0_fiber *) __asm__("s3") = run;

    __asm__ volatile("ecall\n\t"
                     "bnez a0, 1f\n\t"
                     "mv a0, s2\n\t"
                     "jalr s3\n\t"
                     "ebreak\n"
                     "1:"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(s2), "r"(s3)
                     : "memory");
    return a0;
#endif
}

long nx_l0_clone(uint64_t flags, void (*run)(nx_l0_fiber *), nx_l0_fiber *fiber, void *stack,
                 int32_t *pidfd)
{
    struct clone_args args = {
        .flags = flags,
        .pidfd = (uintptr_t)pidfd,
        .exit_signal = SIGCHLD_,
        .stack = (uintptr_t)stack,
        .stack_size = NX_L0_STACK_SIZE,
    };

    return clone_and_run(&args, run, fiber);
}

/* Dies when the parent does, also when it is dead already. */
static bool tie_to_parent(nx_l0_fiber *fiber)
{
    struct pollfd gone = {.fd = fiber->lifeline, .events = POLLIN};
    uint64_t no_wait[2] = {0, 0};

    nx_l0_enter(fiber, NX_STAGE_LIFELINE, 0);
    if (!nx_l0_ok(fiber, nx_sys(__NR_prctl, PDEATHSIG_, SIGKILL_, 0, 0, 0))) {
        return false;
    }
    long ready = nx_sys(__NR_ppoll, &gone, 1, no_wait, NULL, 8);
    return nx_l0_ok(fiber, ready > 0 ? -ESRCH_ : ready);
}

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

/* Root keeps all ids as they are, so that files of any owner look the same inside; a map of more
 * than one's own id can only be written from outside. */
static bool keeps_ids(const nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&fiber->plan.manifest);

    return outer.user == 0 && (policy->flags & NX_POLICY_IDENTITY) == 0;
}

static bool write_child_map(nx_l0_fiber *fiber, long pid, const char *name)
{
    nx_l0_digits digits;
    char path[64];

    nx_l0_join(path, (const char *[]){"/proc/", nx_l0_decimal(&digits, (uint64_t)pid), name}, 3);
    return nx_l0_ok(fiber, write_file(path, "0 0 4294967295\n"));
}

/* L0's part of the maps of a warden; the warden waits for it. */
static bool map_child_ids(nx_l0_fiber *fiber, long pid)
{
    bool written =
        write_child_map(fiber, pid, "/uid_map") && write_child_map(fiber, pid, "/gid_map");

    /* Pairs with the acquire in map_ids. */
    __atomic_store_n(&fiber->shared->mapped, 1, __ATOMIC_RELEASE);
    (void)nx_sys(__NR_futex, &fiber->shared->mapped, FUTEX_WAKE, 1, NULL, NULL, 0);
    return written;
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
static bool map_ids(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(&fiber->plan.manifest);
    bool chosen = (policy->flags & NX_POLICY_IDENTITY) != 0;

    nx_l0_enter(fiber, NX_STAGE_IDENTITY, 0);
    if (keeps_ids(fiber)) {
        while (__atomic_load_n(&fiber->shared->mapped, __ATOMIC_ACQUIRE) == 0) {
            (void)nx_sys(__NR_futex, &fiber->shared->mapped, FUTEX_WAIT, 0, NULL, NULL, 0);
        }
        return fiber->shared->error == 0;
    }
    return nx_l0_ok(fiber, write_file("/proc/self/setgroups", "deny")) &&
           map_own_id(fiber, "/proc/self/uid_map", chosen ? policy->user : outer.user,
                      outer.user) &&
           map_own_id(fiber, "/proc/self/gid_map", chosen ? policy->group : outer.group,
                      outer.group);
}

/* A network namespace starts with its loopback down. */
static bool raise_loopback(nx_l0_fiber *fiber)
{
    struct {
        char name[16];
        int16_t flags;
        uint8_t rest[22];
    } request = {.name = "lo", .flags = 1 | 64};            /* IFF_UP | IFF_RUNNING */
    long handle = nx_sys(__NR_socket, 2, 2 | O_CLOEXEC, 0); /* AF_INET, SOCK_DGRAM */

    nx_l0_enter(fiber, NX_STAGE_NETWORK, 0);
    if (!nx_l0_ok(fiber, handle)) {
        return false;
    }
    long result = nx_sys(__NR_ioctl, handle, 0x8914, &request); /* SIOCSIFFLAGS */
    (void)nx_sys(__NR_close, handle);
    return nx_l0_ok(fiber, result);
}

/* Process 1 of a namespace: waits until the fiber is gone, reaping whoever else ends. */
static void keep_house(nx_l0_fiber *fiber, long pid)
{
    int32_t status = 0;

    for (;;) {
        long ended = nx_sys(__NR_wait4, -1, &status, 0, NULL);
        if (ended == pid) {
            fiber->shared->status = status;
            fiber->shared->ended = 1;
            return;
        }
        if (ended == -ECHILD_) {
            return;
        }
    }
}

/* The fiber's own clone; when it returns the image runs or the start has failed. */
static long clone_fiber(nx_l0_fiber *fiber, void (*run)(nx_l0_fiber *))
{
    nx_l0_enter(fiber, NX_STAGE_FIBER_CLONE, 0);
    long pid = nx_l0_clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD, run, fiber, fiber_stack,
                           &fiber->shared->pidfd);
    if (nx_l0_ok(fiber, pid) && fiber->shared->error == 0) {
        uint64_t one = 1;
        nx_l0_enter(fiber, NX_STAGE_RUNNING, 0);
        (void)nx_sys(__NR_write, fiber->ready, &one, sizeof one);
    }
    if (fiber->gate != 0) {
        /* The gate was mapped in our memory, which the fiber had until it executed. */
        (void)nx_sys(__NR_munmap, fiber->gate & ~(uint64_t)(NX_PAGE_SIZE_MIN - 1),
                     NX_PAGE_SIZE_MIN);
        fiber->gate = 0;
    }
    return pid;
}

static void warden(nx_l0_fiber *fiber)
{
    uint64_t spaces = nx_bkdl_policy_of(&fiber->plan.manifest)->namespaces;

    if (!tie_to_parent(fiber) || ((spaces & CLONE_NEWUSER) != 0 && !map_ids(fiber)) ||
        ((spaces & CLONE_NEWNET) != 0 && !raise_loopback(fiber)) ||
        ((spaces & CLONE_NEWNS) != 0 && !nx_l0_build_mounts(fiber))) {
        nx_l0_exit(NX_L0_EXIT_FAILED);
    }
    long pid = clone_fiber(fiber, nx_l0_become_fiber);
    if (pid >= 0) {
        keep_house(fiber, pid);
    }
    nx_l0_exit(0);
}

/* A fiber without namespaces is tied to L0 itself. */
static void orphan_fiber(nx_l0_fiber *fiber)
{
    if (!tie_to_parent(fiber)) {
        nx_l0_exit(NX_L0_EXIT_FAILED);
    }
    nx_l0_become_fiber(fiber);
}

bool nx_l0_start_fiber(nx_l0_fiber *fiber)
{
    uint64_t spaces = nx_bkdl_policy_of(&fiber->plan.manifest)->namespaces;

    *fiber->shared = (nx_l0_shared){.pidfd = -1};
    outer.user = (uint32_t)nx_sys0(__NR_geteuid);
    outer.group = (uint32_t)nx_sys0(__NR_getegid);
    nx_l0_enter(fiber, NX_STAGE_CLONE, 0);
    long pid = spaces != 0 ? nx_l0_clone(spaces | CLONE_PIDFD | CLONE_FILES, warden, fiber,
                                         warden_stack, &fiber->pidfd)
                           : clone_fiber(fiber, orphan_fiber);
    fiber->pid = (int32_t)pid;
    fiber->starts++;
    if (!nx_l0_ok(fiber, pid)) {
        return false;
    }
    /* A warden whose maps could not be written ends itself and is reaped like any other. */
    if ((spaces & CLONE_NEWUSER) != 0 && keeps_ids(fiber)) {
        (void)map_child_ids(fiber, pid);
    }
    return true;
}
