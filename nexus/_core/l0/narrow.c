// SPDX-License-Identifier: Apache-2.0
/*
 * What a fiber does to itself between clone and execve, each step irrevocable: its life's mounts,
 * descriptors, image, session, directory, privileges, Landlock, limits, filter. Runs in its
 * parent's memory, so it touches nothing but its own stack, the list of mounts, the shared page and
 * the filter's two gate constants.
 */
#include "nx_l0.h"

#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <string.h>

#define EEXIST_     17
#define EINVAL_     22
#define GATE_BITS   38 /* the smallest user address space: riscv64 Sv39 */
#define GATE_TRIES  16
#define PAGE_SIZE_  4096u
#define SIG_SETMASK 2
#define AT_EMPTY_   0x1000

/* For execve, in the memory of the life's warden. */
static const char *arguments[NX_L0_STRINGS_MAX + 1];
static const char *environment[NX_L0_STRINGS_MAX + 1];

static const nx_bkdl_section *section(const nx_l0_fiber *fiber, uint32_t type)
{
    return &fiber->plan.manifest.sections[type];
}

static bool set_limits(nx_l0_fiber *fiber)
{
    const nx_bkdl_section *limits = section(fiber, NX_BKDL_LIMITS);

    for (uint32_t i = 0; i < limits->count; i++) {
        nx_bkdl_limit limit;
        memcpy(&limit, limits->data + i * sizeof limit, sizeof limit);
        uint64_t values[2] = {limit.soft, limit.hard};
        nx_l0_enter(fiber, NX_STAGE_LIMITS, i);
        if (!nx_l0_ok(fiber, nx_sys(__NR_prlimit64, 0, limit.resource, values, NULL))) {
            return false;
        }
    }
    return true;
}

/* No executed file can bring a capability back; lives inherit that from their template. */
bool nx_l0_bound_privileges(nx_l0_fiber *fiber)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[2];

    nx_l0_enter(fiber, NX_STAGE_PRIVILEGES, 0);
    if (!nx_l0_ok(fiber, nx_sys(__NR_capget, &header, held))) {
        return false;
    }
    for (uint32_t one = 0; (held[0].effective >> CAP_SETPCAP & 1) != 0 && one < 64; one++) {
        long result = nx_sys(__NR_prctl, PR_CAPBSET_DROP, one, 0, 0, 0);
        if (result == -EINVAL_) {
            break; /* the first number that this kernel does not know */
        }
        nx_l0_enter(fiber, NX_STAGE_PRIVILEGES, one);
        if (!nx_l0_ok(fiber, result)) {
            return false;
        }
    }
    return true;
}

/* No capability is left. */
static bool drop_privileges(nx_l0_fiber *fiber)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};

    nx_l0_enter(fiber, NX_STAGE_PRIVILEGES, 0);
    return nx_l0_ok(fiber, nx_sys(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) &&
           nx_l0_ok(fiber, nx_sys(__NR_capset, &header, none));
}

static long landlock_rule(const nx_l0_fiber *fiber, int ruleset, const nx_bkdl_landlock_rule *rule)
{
    struct __attribute__((packed)) {
        uint64_t access;
        int32_t parent;
    } beneath = {.access = rule->access};
    uint64_t port[2] = {rule->access, rule->target};

    if (rule->kind == NX_LANDLOCK_PORT) {
        return nx_sys(__NR_landlock_add_rule, ruleset, 2, port, 0);
    }
    const char *path = nx_bkdl_string(section(fiber, NX_BKDL_STRINGS), rule->target);
    long opened = nx_sys(__NR_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC);
    if (opened < 0) {
        return opened;
    }
    beneath.parent = (int32_t)opened;
    long result = nx_sys(__NR_landlock_add_rule, ruleset, 1, &beneath, 0);
    (void)nx_sys(__NR_close, opened);
    return result;
}

static bool add_rules(nx_l0_fiber *fiber, const nx_bkdl_section *rules, int ruleset)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        nx_bkdl_landlock_rule rule;
        memcpy(&rule, rules->data + sizeof(nx_bkdl_landlock) + i * sizeof rule, sizeof rule);
        nx_l0_enter(fiber, NX_STAGE_LANDLOCK, i);
        if (!nx_l0_ok(fiber, landlock_rule(fiber, ruleset, &rule))) {
            return false;
        }
    }
    nx_l0_enter(fiber, NX_STAGE_LANDLOCK, NX_BKDL_NONE);
    return nx_l0_ok(fiber, nx_sys(__NR_landlock_restrict_self, ruleset, 0));
}

static bool apply_landlock(nx_l0_fiber *fiber)
{
    const nx_bkdl_section *rules = section(fiber, NX_BKDL_LANDLOCK);
    nx_bkdl_landlock handled;

    if (rules->data == NULL) {
        return true;
    }
    nx_l0_enter(fiber, NX_STAGE_LANDLOCK, NX_BKDL_NONE);
    memcpy(&handled, rules->data, sizeof handled);
    /* Older kernels take the shorter forms only. */
    size_t size = handled.scopes != 0 ? 24 : handled.network != 0 ? 16 : 8;
    long ruleset = nx_sys(__NR_landlock_create_ruleset, &handled, size, 0);
    if (!nx_l0_ok(fiber, ruleset)) {
        return false;
    }
    bool applied = add_rules(fiber, rules, (int)ruleset);
    (void)nx_sys(__NR_close, ruleset);
    return applied;
}

/* Maps an empty string at a random address; the filter lets execveat pass with this alone. */
static long open_gate(nx_cbpf_insn *compare)
{
    long mapped = -EEXIST_;

    for (int i = 0; i < GATE_TRIES && mapped < 0; i++) {
        uint64_t random = 0;
        long got = nx_sys(__NR_getrandom, &random, sizeof random, 0);
        if (got != (long)sizeof random) {
            return got < 0 ? got : -EINVAL_;
        }
        uint64_t address = random & (((uint64_t)1 << GATE_BITS) - 1);
        uint64_t page = address & ~(uint64_t)(PAGE_SIZE_ - 1);
        mapped = nx_sys(__NR_mmap, page, PAGE_SIZE_, 1 /* PROT_READ */,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (mapped >= 0) {
            compare[0].k = (uint32_t)(address >> 32);
            compare[2].k = (uint32_t)address;
            return (long)address;
        }
    }
    return mapped;
}

/* Installs the filter; `*path` is what execveat must be called with. */
static bool apply_filter(nx_l0_fiber *fiber, const char **path)
{
    const nx_bkdl_section *filter = section(fiber, NX_BKDL_FILTER);
    uint32_t gate = nx_l0_policy(fiber)->gate;
    struct {
        uint16_t count;
        nx_cbpf_insn *insns;
    } program = {(uint16_t)filter->count, (nx_cbpf_insn *)(uintptr_t)filter->data};

    *path = "";
    if (filter->data == NULL) {
        return true;
    }
    nx_l0_enter(fiber, NX_STAGE_FILTER, 0);
    if (gate != NX_BKDL_NONE) {
        long address = open_gate(&program.insns[gate]);
        if (!nx_l0_ok(fiber, address)) {
            return false;
        }
        fiber->gate = (uint64_t)address;
        *path = (const char *)address;
    }
    return nx_l0_ok(fiber, nx_sys(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static bool narrow(nx_l0_fiber *fiber)
{
    const nx_bkdl_section *directory = section(fiber, NX_BKDL_DIRECTORY);

    if ((nx_l0_policy(fiber)->flags & NX_POLICY_SESSION) != 0) {
        nx_l0_enter(fiber, NX_STAGE_SESSION, 0);
        if (!nx_l0_ok(fiber, nx_sys0(__NR_setsid))) {
            return false;
        }
    }
    if (directory->data != NULL) {
        nx_l0_enter(fiber, NX_STAGE_DIRECTORY, 0);
        if (!nx_l0_ok(fiber, nx_sys(__NR_chdir, directory->data))) {
            return false;
        }
    }
    return drop_privileges(fiber) && apply_landlock(fiber);
}

static void make_table(const nx_bkdl_section *strings, const char **table)
{
    const char *at = (const char *)strings->data;

    for (uint32_t i = 0; i < strings->count; i++) {
        table[i] = at;
        at += strlen(at) + 1;
    }
    table[strings->count] = NULL;
}

static int32_t handle_of(const nx_l0_fiber *fiber, uint32_t what, uint32_t number)
{
    switch (what) {
    case NX_HANDLE_LIFE:
        return fiber->page_descriptors[fiber->life & 1];
    case NX_HANDLE_CHECKPOINT:
        return fiber->checkpoint_descriptor;
    case NX_HANDLE_SYSTABLE:
        return fiber->node->table_descriptor;
    case NX_HANDLE_CONTROL:
        return fiber->shared->lives[fiber->life & 1].control;
    case NX_HANDLE_OBSERVER:
        return fiber->node->observer_descriptor;
    default:
        return (fiber->revoked_files >> number & 1) != 0 ? fiber->node->nothing
                                                         : fiber->descriptors[what];
    }
}

/* What the fiber has open: 0 to 2 and its handles; and the image, if the plan names one, as the
 * first number above. All others are L0's. */
static bool give_handles(nx_l0_fiber *fiber)
{
    int32_t image = fiber->plan.image->descriptor;
    uint32_t rest = NX_L0_FIRST;

    nx_l0_enter(fiber, NX_STAGE_HANDLES, 0);
    for (int32_t i = 0; i < 3; i++) {
        int32_t from = fiber->node->serving ? fiber->descriptors[i + 1] : i;
        if (from != i && !nx_l0_ok(fiber, nx_sys(__NR_dup3, from, i, 0))) {
            return false;
        }
    }
    for (uint32_t i = 0; i < fiber->plan.handle_count; i++) {
        const nx_plan_handle *handle = &fiber->plan.handles[i];
        nx_l0_enter(fiber, NX_STAGE_HANDLES, i);
        if (!nx_l0_ok(fiber, nx_sys(__NR_dup3, handle_of(fiber, handle->what, handle->number),
                                    handle->number, 0))) {
            return false;
        }
    }
    if (image >= 0) {
        int32_t from = fiber->descriptors[image];
        if (from != (int32_t)rest && !nx_l0_ok(fiber, nx_sys(__NR_dup3, from, rest, O_CLOEXEC))) {
            return false;
        }
        rest++;
    }
    return nx_l0_ok(fiber, nx_sys(__NR_close_range, rest, UINT32_MAX, 0));
}

/* The image: a sealed memfd, or the program as the fiber's own tree has it. */
static bool open_image(nx_l0_fiber *fiber, int32_t *ret)
{
    const nx_bkdl_section *program = section(fiber, NX_BKDL_PROGRAM);

    if (fiber->plan.image->descriptor >= 0) {
        *ret = NX_L0_FIRST;
        return true;
    }
    nx_l0_enter(fiber, NX_STAGE_EXECUTE, 0);
    *ret = (int32_t)nx_sys(__NR_openat, AT_FDCWD, program->data, O_PATH | O_CLOEXEC);
    return nx_l0_ok(fiber, *ret);
}

/* A life that is made ahead waits here: what it takes until L0 asks for it is what a restart does
 * not. A terminal's signals in the meantime were for the life before. */
static void await_turn(nx_l0_fiber *fiber)
{
    static const uint8_t signals[] = {1, 2, 3, 15, 20};
    struct {
        uint64_t handler;
        uint64_t rest[3];
    } action = {.handler = 1 /* SIG_IGN: drops what is pending */};

    if ((nx_l0_policy(fiber)->flags & NX_POLICY_STANDBY) != 0) {
        return;
    }
    nx_l0_await(&fiber->shared->request, fiber->life);
    for (size_t i = 0; i < NX_ARRAY_COUNT(signals); i++) {
        (void)nx_sys(__NR_rt_sigaction, signals[i], &action, NULL, 8);
    }
    action.handler = 0;
    for (size_t i = 0; i < NX_ARRAY_COUNT(signals); i++) {
        (void)nx_sys(__NR_rt_sigaction, signals[i], &action, NULL, 8);
    }
}

/*
 * What a life that is made ahead has behind it when L0 asks for it is what a restart does not cost.
 * The filter can be part of that where it lets pass what follows: futex, rt_sigaction and
 * rt_sigprocmask, which is for the plan to say.
 */
void nx_l0_become_fiber(nx_l0_fiber *fiber)
{
    bool ahead = (nx_l0_policy(fiber)->flags & NX_POLICY_AHEAD) != 0;
    bool mounts = (nx_l0_policy(fiber)->namespaces & CLONE_NEWNS) != 0;
    int32_t image = -1;
    uint64_t nothing = 0;
    const char *path;

    make_table(section(fiber, NX_BKDL_ARGUMENTS), arguments);
    make_table(section(fiber, NX_BKDL_ENVIRONMENT), environment);
    bool fit = nx_l0_tie(fiber) && (!mounts || nx_l0_build_mounts(fiber, NX_TREE_LIFE)) &&
               give_handles(fiber) && open_image(fiber, &image) && narrow(fiber) &&
               set_limits(fiber) && (!ahead || apply_filter(fiber, &path));
    if (fit) {
        await_turn(fiber);
        (void)nx_sys(__NR_rt_sigprocmask, SIG_SETMASK, &nothing, NULL, sizeof nothing);
        if (ahead || apply_filter(fiber, &path)) {
            nx_l0_enter(fiber, NX_STAGE_EXECUTE, 1);
            (void)nx_l0_ok(fiber,
                           nx_sys(__NR_execveat, image, path, arguments, environment, AT_EMPTY_));
        }
    }
    nx_l0_exit(NX_L0_EXIT_FAILED);
}
