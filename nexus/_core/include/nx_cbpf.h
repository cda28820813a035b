// SPDX-License-Identifier: Apache-2.0
/*
 * Classic BPF: a builder of programs, the kernel's rules as a checker, and an interpreter.
 *
 * Classic BPF jumps forward only, and a conditional jump spans at most 255 instructions. The
 * builder therefore writes a program from its last instruction to its first: what a jump leads to
 * exists already and the distance is known. A label is the place of an instruction counted from
 * the end, so it stays valid while the program grows at its front. A target that is too far is
 * reached through an unconditional jump, or through another copy when it is a return.
 *
 * The accepted instructions are those of seccomp filters (kernel/seccomp.c, seccomp_check_filter),
 * which are a subset of those of socket filters. Memory of the caller; no allocation.
 */
#ifndef NX_CBPF_H
#define NX_CBPF_H

#include "nx_base.h"

#define NX_CBPF_COUNT_MAX 4096u /* BPF_MAXINSNS */
#define NX_CBPF_RETURNS   8u

/* Same layout as struct sock_filter. */
typedef struct nx_cbpf_insn {
    uint16_t code;
    uint8_t jt;
    uint8_t jf;
    uint32_t k;
} nx_cbpf_insn;

NX_STATIC_ASSERT(sizeof(nx_cbpf_insn) == 8, "struct sock_filter has 8 bytes");

/* Operation codes (linux/filter.h has the parts they are made of). */
enum {
    NX_CBPF_LD_ABS = 0x20, /* A = 32-bit word at offset k of the data */
    NX_CBPF_LD_IMM = 0x00, /* A = k */
    NX_CBPF_AND_K = 0x54,  /* A &= k */
    NX_CBPF_LSH_X = 0x6c,  /* A <<= X */
    NX_CBPF_TAX = 0x07,    /* X = A */
    NX_CBPF_JA = 0x05,     /* skip k instructions */
    NX_CBPF_JEQ_K = 0x15,  /* A == k ? */
    NX_CBPF_JGT_K = 0x25,  /* A > k ? */
    NX_CBPF_JGE_K = 0x35,  /* A >= k ? */
    NX_CBPF_JSET_K = 0x45,
    NX_CBPF_JSET_X = 0x4d, /* A & X ? */
    NX_CBPF_RET_K = 0x06,  /* return k */
};

typedef uint32_t nx_cbpf_label;

typedef struct nx_cbpf_builder {
    nx_cbpf_insn *insns;
    uint32_t capacity;
    uint32_t count;
    bool overflow; /* sticky: the program did not fit */
    uint32_t return_count;
    struct {
        uint32_t value;
        nx_cbpf_label label;
    } returns[NX_CBPF_RETURNS];
} nx_cbpf_builder;

void nx_cbpf_init(nx_cbpf_builder *builder, nx_cbpf_insn *insns, uint32_t capacity);

/* A return of `value`; an earlier one that is near enough is used again. */
nx_cbpf_label nx_cbpf_return(nx_cbpf_builder *builder, uint32_t value);

/* A load or arithmetic instruction, after which the program goes on at `next`. */
nx_cbpf_label nx_cbpf_op(nx_cbpf_builder *builder, uint16_t code, uint32_t k, nx_cbpf_label next);

/* A conditional jump. */
nx_cbpf_label nx_cbpf_branch(nx_cbpf_builder *builder, uint16_t code, uint32_t k, nx_cbpf_label yes,
                             nx_cbpf_label no);

/* Where a program goes on when A already holds what a load at `label` would give: past that load,
 * which is taken back when it was made last. No other instruction may lead to `label`. */
nx_cbpf_label nx_cbpf_skip_load(nx_cbpf_builder *builder, uint32_t k, nx_cbpf_label label);

/* A tree of comparisons of A: the last i with starts[i] <= A leads to labels[i].
 * starts[0] counts as 0; starts ascend; count >= 1. Both arrays are used up. */
nx_cbpf_label nx_cbpf_tree(nx_cbpf_builder *builder, uint32_t *starts, nx_cbpf_label *labels,
                           uint32_t count);

/* Moves the program to the start of its memory, so that it begins at `entry`, the label that was
 * made last. NX_ETOOBIG when it did not fit. */
int nx_cbpf_finish(nx_cbpf_builder *builder, nx_cbpf_label entry, uint32_t *ret_count);

/* The kernel's rules for seccomp filters over `size` bytes of data. NX_EINVAL with the index of
 * the offending instruction, which is the length when the program as a whole is wrong. */
int nx_cbpf_check(const nx_cbpf_insn *insns, uint32_t count, uint32_t size, uint32_t *ret_index);

/* Runs a checked program on `size` bytes of data and gives what it returns. */
uint32_t nx_cbpf_run(const nx_cbpf_insn *insns, uint32_t count, const void *data, uint32_t size);

#endif
