// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp filters: from rules or from a mask of syscall numbers to classic BPF, and its install.
 *
 * A program checks the architecture first and the number next. On x86-64 numbers from 2^30 on
 * belong to the x32 interface: they and every other architecture (the 32-bit entry) get the
 * `foreign` action. Numbers are looked up in a balanced tree of ranges, so a syscall costs
 * log2(ranges) comparisons. Rules with tests on arguments follow in the order in which they are
 * given; the first whose tests all hold decides, and none leads to the default action.
 *
 * A mask has a second shape: 16 words of 32 bits behind a tree over words, and a bit test. It has
 * a bound on its size that no mask exceeds, but the kernel's cache of constantly allowed numbers
 * (kernel/seccomp.c, seccomp_is_const_allow) does not understand its shift, so each call runs it.
 *
 * clone3 takes its flags in memory, where no filter can look. With `clone3` given it always gets
 * ENOSYS, and libraries fall back to clone.
 *
 * Not handled: pointers, paths and anything behind them; SECCOMP_RET_TRACE.
 */
#ifndef NX_SECCOMP_H
#define NX_SECCOMP_H

#include "nx_cbpf.h"

#define NX_SECCOMP_RULES_MAX 1024u
#define NX_SECCOMP_MASK_BITS 512u
#define NX_SECCOMP_DATA_SIZE 64u
#define NX_SECCOMP_NO_NUMBER UINT32_MAX
#define NX_SECCOMP_TREE_GOOD 160u /* a mask's tree up to this length is preferred to words */

/* AUDIT_ARCH_* of linux/audit.h. */
#define NX_SECCOMP_ARCH_X86_64  0xc000003eu
#define NX_SECCOMP_ARCH_AARCH64 0xc00000b7u
#define NX_SECCOMP_ARCH_RISCV64 0xc00000f3u

enum {
    NX_SECCOMP_MASKED = 0, /* (argument & a) == b */
    NX_SECCOMP_RANGE = 1,  /* a <= argument <= b, unsigned */
};

enum {
    NX_SECCOMP_SHAPE_AUTO = 0,
    NX_SECCOMP_SHAPE_TREE = 1,
    NX_SECCOMP_SHAPE_WORDS = 2,
};

/* What the program sees; same layout as struct seccomp_data. */
typedef struct nx_seccomp_data {
    uint32_t number;
    uint32_t arch;
    uint64_t instruction_pointer;
    uint64_t arguments[6];
} nx_seccomp_data;

/* A test of one argument. Width 32 looks at the low half alone, which is what the kernel does for
 * an argument of type int; the high half is then whatever the caller left there. */
typedef struct nx_seccomp_test {
    uint64_t a;
    uint64_t b;
    uint8_t argument; /* 0 to 5 */
    uint8_t op;
    uint8_t width; /* 32 or 64 */
    bool negate;
} nx_seccomp_test;

typedef struct nx_seccomp_rule {
    uint32_t first; /* numbers, inclusive */
    uint32_t last;
    uint32_t action;
    uint32_t test_first; /* into the policy's tests */
    uint32_t test_count;
} nx_seccomp_rule;

typedef struct nx_seccomp_policy {
    const nx_seccomp_rule *rules;
    const nx_seccomp_test *tests;
    uint32_t rule_count;
    uint32_t test_count;
    uint32_t default_action;
    uint32_t foreign_action;
    uint32_t arch;
    uint32_t clone3; /* its number, or NX_SECCOMP_NO_NUMBER */
} nx_seccomp_policy;

/* NX_EINVAL for a rule or test that contradicts itself, an unknown architecture or action;
 * NX_ETOOBIG for more than NX_SECCOMP_RULES_MAX rules or a program above `capacity`. */
int nx_seccomp_compile(const nx_seccomp_policy *policy, nx_cbpf_insn *insns, uint32_t capacity,
                       uint32_t *ret_count);

/* Bit n of the mask (byte n / 8, bit n % 8) allows number n; numbers from 512 on are denied.
 * `policy` gives the default action as what is denied, and no rules. AUTO takes the tree up to
 * NX_SECCOMP_TREE_GOOD instructions, above that the shorter. */
int nx_seccomp_compile_mask(const nx_seccomp_policy *policy, const uint8_t *mask,
                            uint32_t allow_action, uint32_t shape, nx_cbpf_insn *insns,
                            uint32_t capacity, uint32_t *ret_count);

/* Installs on the calling thread (all threads with SECCOMP_FILTER_FLAG_TSYNC). With the listener
 * flag *ret_fd is the notification descriptor, else -1. NX_ESYS; errno is ESRCH when a thread
 * could not be synchronised. The thread needs no_new_privs or CAP_SYS_ADMIN. */
int nx_seccomp_install(const nx_cbpf_insn *insns, uint32_t count, uint32_t flags, int *ret_fd);

/* PR_SET_NO_NEW_PRIVS, which cannot be taken back. */
int nx_seccomp_no_new_privs(void);

/* What the running kernel says about itself. NX_EABSENT when it has no seccomp filters. */
int nx_seccomp_action_available(uint32_t action, bool *ret);
int nx_seccomp_flag_available(uint32_t flag, bool *ret);
int nx_seccomp_notify_sizes(uint16_t ret_sizes[3]);

/* Takes the listener that another process has as `descriptor`; needs the right to trace it. */
int nx_seccomp_take_listener(int pid, int descriptor, int *ret_fd);

#endif
