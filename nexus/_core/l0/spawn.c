// SPDX-License-Identifier: Apache-2.0
/* A start: template, warden, fiber. What the fiber does to itself is in narrow.c. */
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

/* What each life has for itself; the template has the rest. */
#define NX_LIFE_SPACES ((uint64_t)(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNS))

static NX_ALIGNED(64) uint8_t template_stack[NX_L0_STACK_SIZE];
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
                 int32_t *pid)
{
    struct clone_args args = {
        .flags = flags,
        .parent_tid = (uintptr_t)pid,
        /* Whoever is given a sibling hears of its end as it does of the giver's. */
        .exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD_,
        .stack = (uintptr_t)stack,
        .stack_size = NX_L0_STACK_SIZE,
        .cgroup = (flags & CLONE_INTO_CGROUP) != 0 ? (uint32_t)fiber->cgroup : 0,
    };

    return clone_and_run(&args, run, fiber);
}

bool nx_l0_tie(nx_l0_fiber *fiber)
{
    struct pollfd gone = {.fd = fiber->node->lifeline, .events = POLLIN};
    uint64_t no_wait[2] = {0, 0};

    nx_l0_enter(fiber, NX_STAGE_LIFELINE, 0);
    if (!nx_l0_ok(fiber, nx_sys(__NR_prctl, PDEATHSIG_, SIGKILL_, 0, 0, 0))) {
        return false;
    }
    long ready = nx_sys(__NR_ppoll, &gone, 1, no_wait, NULL, 8);
    return nx_l0_ok(fiber, ready > 0 ? -ESRCH_ : ready);
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

static void tell_l0(const nx_l0_fiber *fiber)
{
    uint64_t one = 1;

    (void)nx_sys(__NR_write, fiber->node->ready, &one, sizeof one);
}

/*
 * Process 1 of a life: waits for the fiber, reaping whoever else ends; then ends everything that is
 * left and tells L0, which need not wait until the kernel has taken the namespaces apart.
 */
static void keep_house(nx_l0_fiber *fiber, nx_l0_place *place, long pid)
{
    int32_t status = 0;
    long ended;

    do {
        ended = nx_sys(__NR_wait4, -1, &status, 0, NULL);
    } while (ended != pid && ended != -ECHILD_);
    if (nx_sys0(__NR_getpid) == 1) {
        /* Nowhere but in a namespace of our own does -1 mean those of this life. */
        (void)nx_sys(__NR_kill, -1, SIGKILL_);
        while (nx_sys(__NR_wait4, -1, NULL, 0, NULL) > 0) {
        }
    } else {
        nx_l0_sweep();
    }
    place->status = status;
    /* Pairs with the acquire in nx_l0_life_heard. */
    __atomic_store_n(&place->ended, 1, __ATOMIC_RELEASE);
    tell_l0(fiber);
}

static long warden_pid;

static void fiber_of(nx_l0_fiber *fiber)
{
    /* A warden that died before this tells nobody: without it we would wait for ever, or begin a
     * life that is another's. */
    if (nx_sys(__NR_prctl, PDEATHSIG_, SIGKILL_, 0, 0, 0) < 0 ||
        nx_sys0(__NR_getppid) != warden_pid) {
        nx_l0_exit(NX_L0_EXIT_FAILED);
    }
    nx_l0_become_fiber(fiber);
}

/* The fiber's own clone, with a copy of L0's table of descriptors; when it returns the image runs
 * or the start has failed. */
static long clone_fiber(nx_l0_fiber *fiber, nx_l0_place *place)
{
    nx_l0_enter(fiber, NX_STAGE_FIBER_CLONE, 0);
    warden_pid = nx_sys0(__NR_getpid);
    long pid = nx_l0_clone(CLONE_VM | CLONE_VFORK, fiber_of, fiber, fiber_stack, NULL);
    if (nx_l0_ok(fiber, pid) && place->report.error == 0) {
        /* Pairs with the acquire in nx_l0_life_heard. */
        __atomic_store_n(&place->report.stage, NX_STAGE_RUNNING, __ATOMIC_RELEASE);
        tell_l0(fiber);
    }
    if (fiber->gate != 0) {
        /* The gate was mapped in our memory, which the fiber had until it executed. */
        (void)nx_sys(__NR_munmap, fiber->gate & ~(uint64_t)(NX_PAGE_SIZE_MIN - 1),
                     NX_PAGE_SIZE_MIN);
        fiber->gate = 0;
    }
    return pid;
}

void nx_l0_await(const uint32_t *counter, uint32_t number)
{
    uint32_t now;

    /* Pairs with the release in nx_l0_advance. */
    while ((int32_t)((now = __atomic_load_n(counter, __ATOMIC_ACQUIRE)) - number) < 0) {
        (void)nx_sys(__NR_futex, counter, FUTEX_WAIT, now, NULL, NULL, 0);
    }
}

void nx_l0_advance(uint32_t *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
    (void)nx_sys(__NR_futex, counter, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/*
 * Process 1 of a life's pid namespace, cloned from the template as its sibling. The fiber waits for
 * L0 to ask for this life: narrowed, before execve; a standby behind it, at its life page.
 */
static void warden(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    nx_l0_place *place = &fiber->shared->lives[fiber->life & 1];

    fiber->report = &place->report;
    if (!nx_l0_tie(fiber)) {
        nx_l0_exit(NX_L0_EXIT_FAILED);
    }
    if ((policy->namespaces & CLONE_NEWPID) == 0) {
        (void)nx_sys(__NR_prctl, 36 /* PR_SET_CHILD_SUBREAPER */, 1, 0, 0, 0);
    }
    long pid = clone_fiber(fiber, place);
    if (pid >= 0) {
        keep_house(fiber, place, pid);
    }
    nx_l0_exit(0);
}

static void builder(nx_l0_fiber *fiber)
{
    uint64_t spaces = nx_l0_policy(fiber)->namespaces;
    bool built = nx_l0_tie(fiber) && ((spaces & CLONE_NEWUSER) == 0 || nx_l0_map_ids(fiber)) &&
                 ((spaces & CLONE_NEWNET) == 0 || raise_loopback(fiber)) &&
                 ((spaces & CLONE_NEWNS) == 0 || nx_l0_build_mounts(fiber, NX_TREE_TEMPLATE));

    nx_l0_exit(built ? 0 : NX_L0_EXIT_FAILED);
}

/* What the template's namespaces need is done with a table of descriptors that is not L0's: whoever
 * ends the template in the middle of it leaves none behind. */
static bool furnish(nx_l0_fiber *fiber)
{
    int32_t status = -1;

    long pid = nx_l0_clone(CLONE_VM | CLONE_VFORK | CLONE_FS, builder, fiber, fiber_stack, NULL);
    return nx_l0_ok(fiber, pid) && nx_l0_ok(fiber, nx_sys(__NR_wait4, pid, &status, 0, NULL)) &&
           status == 0;
}

/*
 * The template: lives as long as the fiber is wanted, in the namespaces that lives can share. Its
 * file tree is finished. It clones the warden of a life, with namespaces of its own for all that a
 * life could leave behind, and as soon as that life has begun, the warden of the next one.
 */
static void serve_lives(nx_l0_fiber *fiber)
{
    const nx_bkdl_policy *policy = nx_l0_policy(fiber);
    uint64_t spaces = policy->namespaces;
    uint64_t own = (spaces & NX_LIFE_SPACES) | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_FILES;
    nx_l0_shared *shared = fiber->shared;

    fiber->report = &shared->template;
    if (!nx_l0_tie(fiber) || (spaces != 0 && !furnish(fiber)) || !nx_l0_bound_privileges(fiber)) {
        nx_l0_exit(NX_L0_EXIT_FAILED);
    }
    for (;;) {
        nx_l0_place *place = &shared->lives[++fiber->life & 1];
        if (!nx_l0_ok(fiber, nx_l0_clone(own, warden, fiber, warden_stack, &place->warden))) {
            nx_l0_exit(NX_L0_EXIT_FAILED);
        }
        nx_l0_await(&shared->made, fiber->life);
        if (policy->restart == NX_RESTART_NEVER && !fiber->hold) {
            if (!fiber->node->serving) {
                /* The namespaces of the only life are its own now. */
                nx_l0_exit(0);
            }
            /* Perhaps there is no other; then this one has cost nothing. */
            nx_l0_await(&shared->request, fiber->life + 1);
        }
    }
}

void nx_l0_clear_place(nx_l0_fiber *fiber, unsigned index)
{
    nx_l0_place *place = &fiber->shared->lives[index];

    nx_l0_close(&place->control);
    *place = (nx_l0_place){.control = -1};
    if (fiber->slot == NX_NODE_OBSERVER) {
        place->control = nx_l0_connect_observer(fiber->node, index);
    }
    if (fiber->pages[index] != NULL) {
        *fiber->pages[index] = (nx_fiber_life){0};
    }
}

/* The first life makes the template. */
static bool make_template(nx_l0_fiber *fiber, uint64_t spaces)
{
    uint64_t flags = (spaces & ~NX_LIFE_SPACES) | (spaces & CLONE_NEWNS) | CLONE_FILES |
                     (fiber->cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
    nx_l0_shared *shared = fiber->shared;

    fiber->stale = false;
    shared->request = shared->made = shared->mapped = 0;
    shared->template = (nx_l0_report){0};
    nx_l0_clear_place(fiber, 0);
    nx_l0_clear_place(fiber, 1);
    nx_l0_note_ids();
    long pid = nx_l0_clone(flags, serve_lives, fiber, template_stack, NULL);
    if (!nx_l0_ok(fiber, pid)) {
        return false;
    }
    fiber->template = (int32_t)pid;
    /* A template whose maps could not be written ends itself and is reaped like any other. */
    if ((spaces & CLONE_NEWUSER) != 0) {
        nx_l0_map_child_ids(fiber, pid);
    }
    return true;
}

/* Tells a life that waits at its page, and one that will look at it, what it is. */
static void open_page(nx_l0_fiber *fiber)
{
    nx_fiber_life *page = fiber->pages[fiber->shared->request & 1];

    if (page != NULL) {
        page->image = fiber->image;
        page->time_ns = fiber->began_ns;
        page->own_epoch = fiber->cspace.epoch;
        page->epoch = fiber->warm_epoch;
        page->floor = fiber->warm ? fiber->floor : 0;
        nx_l0_write_closed(fiber);
        /* Pairs with the acquire of the fiber. */
        atomic_store_explicit(&page->life, fiber->lives, memory_order_release);
        (void)nx_sys(__NR_futex, &page->life, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    }
}

bool nx_l0_prepare_fiber(nx_l0_fiber *fiber)
{
    nx_l0_enter(fiber, NX_STAGE_CLONE, 0);
    return fiber->template != 0 || make_template(fiber, nx_l0_policy(fiber)->namespaces);
}

bool nx_l0_start_fiber(nx_l0_fiber *fiber)
{
    if (!nx_l0_prepare_fiber(fiber)) {
        return false;
    }
    nx_l0_advance(&fiber->shared->request);
    open_page(fiber);
    return true;
}
