// SPDX-License-Identifier: Apache-2.0
#include "nx_seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32_NUMBERS   0x40000000u
#define BOUNDS_MAX    (2 * NX_SECCOMP_RULES_MAX + 3)
#define NUMBER_OFFSET offsetof(nx_seccomp_data, number)
#define ARCH_OFFSET   offsetof(nx_seccomp_data, arch)

NX_STATIC_ASSERT(sizeof(nx_seccomp_data) == sizeof(struct seccomp_data), "layout");
NX_STATIC_ASSERT(offsetof(nx_seccomp_data, arguments) == offsetof(struct seccomp_data, args),
                 "layout");
NX_STATIC_ASSERT(sizeof(struct seccomp_data) == NX_SECCOMP_DATA_SIZE, "size");
NX_STATIC_ASSERT(NX_SECCOMP_ARCH_X86_64 == AUDIT_ARCH_X86_64, "arch");
NX_STATIC_ASSERT(NX_SECCOMP_ARCH_AARCH64 == AUDIT_ARCH_AARCH64, "arch");
NX_STATIC_ASSERT(NX_SECCOMP_ARCH_RISCV64 == AUDIT_ARCH_RISCV64, "arch");

static bool action_is_known(uint32_t action)
{
    switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
        return (action & SECCOMP_RET_DATA) == 0;
    case SECCOMP_RET_TRAP:
        return true;
    case SECCOMP_RET_ERRNO:
        return (action & SECCOMP_RET_DATA) <= 4095; /* MAX_ERRNO: the kernel would cut it */
    default:
        return false;
    }
}

static bool test_is_sound(const nx_seccomp_test *test)
{
    uint64_t full = test->width == 64 ? UINT64_MAX : UINT32_MAX;

    if (test->argument > 5 || (test->width != 32 && test->width != 64) || test->a > full ||
        test->b > full) {
        return false;
    }
    switch (test->op) {
    case NX_SECCOMP_MASKED:
        return (test->b & ~test->a) == 0;
    case NX_SECCOMP_RANGE:
        return test->a <= test->b;
    default:
        return false;
    }
}

static int policy_check(const nx_seccomp_policy *policy)
{
    if (policy->rule_count > NX_SECCOMP_RULES_MAX) {
        return NX_ETOOBIG;
    }
    if (!action_is_known(policy->default_action) || !action_is_known(policy->foreign_action) ||
        (policy->arch != NX_SECCOMP_ARCH_X86_64 && policy->arch != NX_SECCOMP_ARCH_AARCH64 &&
         policy->arch != NX_SECCOMP_ARCH_RISCV64) ||
        (policy->clone3 != NX_SECCOMP_NO_NUMBER && policy->clone3 >= NX_SECCOMP_MASK_BITS)) {
        return NX_EINVAL;
    }
    for (uint32_t i = 0; i < policy->test_count; i++) {
        if (!test_is_sound(&policy->tests[i])) {
            return NX_EINVAL;
        }
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const nx_seccomp_rule *rule = &policy->rules[i];
        if (rule->first > rule->last || rule->last >= X32_NUMBERS ||
            !action_is_known(rule->action) || rule->test_first > policy->test_count ||
            rule->test_count > policy->test_count - rule->test_first) {
            return NX_EINVAL;
        }
    }
    return NX_OK;
}

static uint32_t half_offset(const nx_seccomp_test *test, bool high)
{
    uint32_t offset = (uint32_t)offsetof(nx_seccomp_data, arguments) + test->argument * 8u;

    return offset + (high ? 4u : 0u);
}

static nx_cbpf_label load_half(nx_cbpf_builder *builder, const nx_seccomp_test *test, bool high,
                               nx_cbpf_label next)
{
    return nx_cbpf_op(builder, NX_CBPF_LD_ABS, half_offset(test, high), next);
}

/* Whether A holds the argument's low half when a test fails. */
static bool leaves_loaded(const nx_seccomp_test *test)
{
    bool masked = test->op == NX_SECCOMP_MASKED;
    bool blind = test->a == 0 && (masked || test->b == UINT32_MAX);

    return test->width == 32 && !blind && (!masked || test->b == 0 || test->a == UINT32_MAX);
}

/* (half & mask) == value, or straight to `yes` when the mask is empty. */
static nx_cbpf_label masked_half(nx_cbpf_builder *builder, const nx_seccomp_test *test, bool high,
                                 nx_cbpf_label yes, nx_cbpf_label no)
{
    uint32_t mask = (uint32_t)(high ? test->a >> 32 : test->a);
    uint32_t value = (uint32_t)(high ? test->b >> 32 : test->b);

    if (mask == 0) {
        return yes;
    }
    if (mask != UINT32_MAX && value == 0) {
        return load_half(builder, test, high,
                         nx_cbpf_branch(builder, NX_CBPF_JSET_K, mask, no, yes));
    }
    nx_cbpf_label label = nx_cbpf_branch(builder, NX_CBPF_JEQ_K, value, yes, no);
    if (mask != UINT32_MAX) {
        label = nx_cbpf_op(builder, NX_CBPF_AND_K, mask, label);
    }
    return load_half(builder, test, high, label);
}

/* argument >= bound (or > with `strict`), by its halves from the high one down. */
static nx_cbpf_label at_least(nx_cbpf_builder *builder, const nx_seccomp_test *test, uint64_t bound,
                              bool strict, nx_cbpf_label yes, nx_cbpf_label no)
{
    uint16_t compare = strict ? NX_CBPF_JGT_K : NX_CBPF_JGE_K;
    nx_cbpf_label low = nx_cbpf_branch(builder, compare, (uint32_t)bound, yes, no);

    low = load_half(builder, test, false, low);
    if (test->width == 32) {
        return low;
    }
    uint32_t high = (uint32_t)(bound >> 32);
    nx_cbpf_label equal = nx_cbpf_branch(builder, NX_CBPF_JEQ_K, high, low, no);
    nx_cbpf_label above = nx_cbpf_branch(builder, NX_CBPF_JGT_K, high, yes, equal);
    return load_half(builder, test, true, above);
}

static nx_cbpf_label emit_test(nx_cbpf_builder *builder, const nx_seccomp_test *test,
                               nx_cbpf_label yes, nx_cbpf_label no)
{
    uint64_t full = test->width == 64 ? UINT64_MAX : UINT32_MAX;

    if (test->negate) {
        nx_cbpf_label swapped = yes;
        yes = no;
        no = swapped;
    }
    if (test->op == NX_SECCOMP_MASKED) {
        nx_cbpf_label low = masked_half(builder, test, false, yes, no);
        return test->width == 64 ? masked_half(builder, test, true, low, no) : low;
    }
    nx_cbpf_label below = yes;
    if (test->b != full) {
        below = at_least(builder, test, test->b, true, no, yes);
    }
    if (test->a == 0) {
        return below;
    }
    if (test->width == 32 && test->b != full) {
        below = nx_cbpf_skip_load(builder, half_offset(test, false), below);
    }
    return at_least(builder, test, test->a, false, below, no);
}

/* What a number gets: the chain of its rules, as indices in order. */
typedef struct chain {
    uint32_t count;
    uint16_t rules[NX_SECCOMP_RULES_MAX];
} chain;

static void chain_of(const nx_seccomp_policy *policy, uint32_t number, chain *ret)
{
    ret->count = 0;
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const nx_seccomp_rule *rule = &policy->rules[i];
        if (rule->first <= number && number <= rule->last) {
            ret->rules[ret->count++] = (uint16_t)i;
            if (rule->test_count == 0) {
                return; /* decides whatever the arguments are */
            }
        }
    }
}

static bool chains_equal(const chain *a, const chain *b)
{
    return a->count == b->count && memcmp(a->rules, b->rules, a->count * sizeof a->rules[0]) == 0;
}

static nx_cbpf_label emit_chain(nx_cbpf_builder *builder, const nx_seccomp_policy *policy,
                                const chain *c)
{
    uint32_t count = c->count, action = policy->default_action;

    if (count > 0 && policy->rules[c->rules[count - 1]].test_count == 0) {
        action = policy->rules[c->rules[--count]].action; /* only the last may have none */
    }
    nx_cbpf_label next = nx_cbpf_return(builder, action);
    for (uint32_t i = count; i-- > 0;) {
        const nx_seccomp_rule *rule = &policy->rules[c->rules[i]];
        if (rule->test_count == 1 && leaves_loaded(&policy->tests[rule->test_first])) {
            uint32_t offset = half_offset(&policy->tests[rule->test_first], false);
            next = nx_cbpf_skip_load(builder, offset, next);
        }
        nx_cbpf_label label = nx_cbpf_return(builder, rule->action);
        for (uint32_t t = rule->test_count; t-- > 0;) {
            label = emit_test(builder, &policy->tests[rule->test_first + t], label, next);
        }
        next = label;
    }
    return next;
}

static int compare_numbers(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

/* Where the chain may change, ascending and without repeats, from 0 on. */
static uint32_t bounds_of(const nx_seccomp_policy *policy, uint32_t *bounds)
{
    uint32_t count = 0, unique = 1;

    bounds[count++] = 0;
    if (policy->clone3 != NX_SECCOMP_NO_NUMBER) {
        bounds[count++] = policy->clone3;
        bounds[count++] = policy->clone3 + 1;
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        bounds[count++] = policy->rules[i].first;
        bounds[count++] = policy->rules[i].last + 1;
    }
    qsort(bounds, count, sizeof *bounds, compare_numbers);
    for (uint32_t i = 1; i < count; i++) {
        if (bounds[i] != bounds[unique - 1]) {
            bounds[unique++] = bounds[i];
        }
    }
    return unique;
}

/* The checks that come before the number is looked up. `body` expects the number in A. */
static nx_cbpf_label emit_entry(nx_cbpf_builder *builder, const nx_seccomp_policy *policy,
                                nx_cbpf_label body)
{
    nx_cbpf_label label = body;

    if (policy->arch == NX_SECCOMP_ARCH_X86_64) {
        nx_cbpf_label other = nx_cbpf_return(builder, policy->foreign_action);
        label = nx_cbpf_branch(builder, NX_CBPF_JGE_K, X32_NUMBERS, other, body);
    }
    label = nx_cbpf_op(builder, NX_CBPF_LD_ABS, NUMBER_OFFSET, label);
    nx_cbpf_label foreign = nx_cbpf_return(builder, policy->foreign_action);
    label = nx_cbpf_branch(builder, NX_CBPF_JEQ_K, policy->arch, label, foreign);
    return nx_cbpf_op(builder, NX_CBPF_LD_ABS, ARCH_OFFSET, label);
}

int nx_seccomp_compile(const nx_seccomp_policy *policy, nx_cbpf_insn *insns, uint32_t capacity,
                       uint32_t *ret_count)
{
    uint32_t bounds[BOUNDS_MAX], starts[BOUNDS_MAX];
    nx_cbpf_label labels[BOUNDS_MAX];
    chain chains[2];
    nx_cbpf_builder builder;
    uint32_t leaves = 0;
    int code = policy_check(policy);

    if (code != NX_OK) {
        return code;
    }
    nx_cbpf_init(&builder, insns, capacity);
    uint32_t bound_count = bounds_of(policy, bounds);
    bool constant = false; /* the leaf before was clone3, which has no chain */
    for (uint32_t i = 0; i < bound_count; i++) {
        chain *now = &chains[i & 1], *before = &chains[~i & 1];
        nx_cbpf_label label;
        chain_of(policy, bounds[i], now);
        if (bounds[i] == policy->clone3) {
            label = nx_cbpf_return(&builder, SECCOMP_RET_ERRNO | ENOSYS);
            constant = true;
        } else if (i > 0 && !constant && chains_equal(now, before)) {
            continue;
        } else {
            label = emit_chain(&builder, policy, now);
            constant = false;
        }
        starts[leaves] = bounds[i];
        labels[leaves++] = label;
    }
    nx_cbpf_label body = nx_cbpf_tree(&builder, starts, labels, leaves);
    return nx_cbpf_finish(&builder, emit_entry(&builder, policy, body), ret_count);
}

static bool mask_bit(const uint8_t *mask, uint32_t number)
{
    return number < NX_SECCOMP_MASK_BITS && (mask[number / 8] >> (number % 8) & 1) != 0;
}

/* The action of a number under a mask. */
static uint32_t mask_action(const nx_seccomp_policy *policy, const uint8_t *mask, uint32_t allow,
                            uint32_t number)
{
    if (number == policy->clone3) {
        return SECCOMP_RET_ERRNO | ENOSYS;
    }
    return mask_bit(mask, number) ? allow : policy->default_action;
}

static int compile_tree(const nx_seccomp_policy *policy, const uint8_t *mask, uint32_t allow,
                        nx_cbpf_insn *insns, uint32_t capacity, uint32_t *ret_count)
{
    uint32_t starts[NX_SECCOMP_MASK_BITS + 1];
    nx_cbpf_label labels[NX_SECCOMP_MASK_BITS + 1];
    uint32_t leaves = 0, before = 0;
    nx_cbpf_builder builder;

    nx_cbpf_init(&builder, insns, capacity);
    for (uint32_t number = 0; number <= NX_SECCOMP_MASK_BITS; number++) {
        uint32_t action = mask_action(policy, mask, allow, number);
        if (number == 0 || action != before) {
            starts[leaves] = number;
            labels[leaves++] = nx_cbpf_return(&builder, action);
            before = action;
        }
    }
    nx_cbpf_label body = nx_cbpf_tree(&builder, starts, labels, leaves);
    return nx_cbpf_finish(&builder, emit_entry(&builder, policy, body), ret_count);
}

/* X holds 1 << (number & 31); a leaf loads its word and tests the bit. */
static int compile_words(const nx_seccomp_policy *policy, const uint8_t *mask, uint32_t allow,
                         nx_cbpf_insn *insns, uint32_t capacity, uint32_t *ret_count)
{
    uint32_t starts[NX_SECCOMP_MASK_BITS / 32 + 1];
    nx_cbpf_label labels[NX_SECCOMP_MASK_BITS / 32 + 1];
    uint32_t leaves = 0, before = 0;
    nx_cbpf_builder builder;

    nx_cbpf_init(&builder, insns, capacity);
    for (uint32_t number = 0; number <= NX_SECCOMP_MASK_BITS; number += 32) {
        uint32_t word = number < NX_SECCOMP_MASK_BITS ? nx_load_u32(mask + number / 8) : 0;
        if (number != 0 && word == before) {
            continue;
        }
        nx_cbpf_label yes = nx_cbpf_return(&builder, allow);
        nx_cbpf_label no = nx_cbpf_return(&builder, policy->default_action);
        nx_cbpf_label leaf = word == 0 ? no : yes;
        if (word != 0 && word != UINT32_MAX) {
            leaf = nx_cbpf_branch(&builder, NX_CBPF_JSET_X, 0, yes, no);
            leaf = nx_cbpf_op(&builder, NX_CBPF_LD_IMM, word, leaf);
        }
        starts[leaves] = number;
        labels[leaves++] = leaf;
        before = word;
    }
    nx_cbpf_label body = nx_cbpf_tree(&builder, starts, labels, leaves);
    body = nx_cbpf_op(&builder, NX_CBPF_LD_ABS, NUMBER_OFFSET, body);
    body = nx_cbpf_op(&builder, NX_CBPF_TAX, 0, body);
    body = nx_cbpf_op(&builder, NX_CBPF_LSH_X, 0, body);
    body = nx_cbpf_op(&builder, NX_CBPF_LD_IMM, 1, body);
    body = nx_cbpf_op(&builder, NX_CBPF_TAX, 0, body);
    body = nx_cbpf_op(&builder, NX_CBPF_AND_K, 31, body);
    if (policy->clone3 != NX_SECCOMP_NO_NUMBER) {
        nx_cbpf_label refused = nx_cbpf_return(&builder, SECCOMP_RET_ERRNO | ENOSYS);
        body = nx_cbpf_branch(&builder, NX_CBPF_JEQ_K, policy->clone3, refused, body);
    }
    return nx_cbpf_finish(&builder, emit_entry(&builder, policy, body), ret_count);
}

int nx_seccomp_compile_mask(const nx_seccomp_policy *policy, const uint8_t *mask,
                            uint32_t allow_action, uint32_t shape, nx_cbpf_insn *insns,
                            uint32_t capacity, uint32_t *ret_count)
{
    int code = policy_check(policy);

    if (code == NX_OK && (policy->rule_count != 0 || !action_is_known(allow_action) ||
                          shape > NX_SECCOMP_SHAPE_WORDS)) {
        code = NX_EINVAL;
    }
    if (code != NX_OK) {
        return code;
    }
    if (shape == NX_SECCOMP_SHAPE_WORDS) {
        return compile_words(policy, mask, allow_action, insns, capacity, ret_count);
    }
    uint32_t count = UINT32_MAX;
    code = compile_tree(policy, mask, allow_action, insns, capacity, &count);
    if (shape == NX_SECCOMP_SHAPE_TREE || (code == NX_OK && count <= NX_SECCOMP_TREE_GOOD)) {
        if (code == NX_OK) {
            *ret_count = count;
        }
        return code;
    }
    /* More than NX_SECCOMP_TREE_GOOD instructions are more than any mask takes in words. */
    return compile_words(policy, mask, allow_action, insns, capacity, ret_count);
}

static long seccomp_call(unsigned operation, unsigned flags, void *arguments)
{
    return syscall(SYS_seccomp, operation, flags, arguments);
}

int nx_seccomp_install(const nx_cbpf_insn *insns, uint32_t count, uint32_t flags, int *ret_fd)
{
    /* The kernel only reads through this pointer, though its type says otherwise. */
    struct sock_fprog program = {.len = (unsigned short)count,
                                 .filter = (struct sock_filter *)(uintptr_t)insns};

    if (count == 0 || count > NX_CBPF_COUNT_MAX) {
        return NX_EINVAL;
    }
    long result = seccomp_call(SECCOMP_SET_MODE_FILTER, flags, &program);
    if (result < 0) {
        return NX_ESYS;
    }
    if ((flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0) {
        *ret_fd = (int)result;
        return NX_OK;
    }
    if (result > 0) { /* the id of the thread that has another filter */
        errno = ESRCH;
        return NX_ESYS;
    }
    *ret_fd = -1;
    return NX_OK;
}

int nx_seccomp_no_new_privs(void)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? NX_OK : NX_ESYS;
}

int nx_seccomp_action_available(uint32_t action, bool *ret)
{
    if (seccomp_call(SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) {
        *ret = true;
        return NX_OK;
    }
    if (errno == EOPNOTSUPP) {
        *ret = false;
        return NX_OK;
    }
    return errno == ENOSYS || errno == EINVAL ? NX_EABSENT : NX_ESYS;
}

int nx_seccomp_flag_available(uint32_t flag, bool *ret)
{
    /* The flags are checked before the program is copied: EFAULT says that they are known. */
    if (seccomp_call(SECCOMP_SET_MODE_FILTER, flag, NULL) == 0) {
        return NX_EINVAL;
    }
    if (errno == EFAULT || errno == EINVAL) {
        *ret = errno == EFAULT;
        return NX_OK;
    }
    return errno == ENOSYS ? NX_EABSENT : NX_ESYS;
}

int nx_seccomp_notify_sizes(uint16_t ret_sizes[3])
{
    struct seccomp_notif_sizes sizes;

    if (seccomp_call(SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0) {
        return errno == ENOSYS || errno == EINVAL ? NX_EABSENT : NX_ESYS;
    }
    ret_sizes[0] = sizes.seccomp_notif;
    ret_sizes[1] = sizes.seccomp_notif_resp;
    ret_sizes[2] = sizes.seccomp_data;
    return NX_OK;
}

int nx_seccomp_take_listener(int pid, int descriptor, int *ret_fd)
{
    long pidfd = syscall(SYS_pidfd_open, pid, 0);
    long taken = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, descriptor, 0);
    int error = errno;
    (void)close((int)pidfd);
    errno = error;
    *ret_fd = taken < 0 ? *ret_fd : (int)taken;
    return taken >= 0 ? NX_OK : error == ENOSYS ? NX_EABSENT : NX_ESYS;
}
