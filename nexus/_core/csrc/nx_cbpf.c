// SPDX-License-Identifier: Apache-2.0
#include "nx_cbpf.h"

#include <linux/filter.h>
#include <stddef.h>
#include <string.h>

#define REACH              255u
#define NX_CBPF_FOLDED_MAX 4u

NX_STATIC_ASSERT(sizeof(struct sock_filter) == sizeof(nx_cbpf_insn), "layout");
NX_STATIC_ASSERT(offsetof(struct sock_filter, k) == offsetof(nx_cbpf_insn, k), "layout");
NX_STATIC_ASSERT(NX_CBPF_COUNT_MAX == BPF_MAXINSNS, "limit");
NX_STATIC_ASSERT(NX_CBPF_LD_ABS == (BPF_LD | BPF_W | BPF_ABS), "code");
NX_STATIC_ASSERT(NX_CBPF_LD_IMM == (BPF_LD | BPF_IMM), "code");
NX_STATIC_ASSERT(NX_CBPF_AND_K == (BPF_ALU | BPF_AND | BPF_K), "code");
NX_STATIC_ASSERT(NX_CBPF_LSH_X == (BPF_ALU | BPF_LSH | BPF_X), "code");
NX_STATIC_ASSERT(NX_CBPF_TAX == (BPF_MISC | BPF_TAX), "code");
NX_STATIC_ASSERT(NX_CBPF_JA == (BPF_JMP | BPF_JA), "code");
NX_STATIC_ASSERT(NX_CBPF_JEQ_K == (BPF_JMP | BPF_JEQ | BPF_K), "code");
NX_STATIC_ASSERT(NX_CBPF_JGT_K == (BPF_JMP | BPF_JGT | BPF_K), "code");
NX_STATIC_ASSERT(NX_CBPF_JGE_K == (BPF_JMP | BPF_JGE | BPF_K), "code");
NX_STATIC_ASSERT(NX_CBPF_JSET_K == (BPF_JMP | BPF_JSET | BPF_K), "code");
NX_STATIC_ASSERT(NX_CBPF_JSET_X == (BPF_JMP | BPF_JSET | BPF_X), "code");
NX_STATIC_ASSERT(NX_CBPF_RET_K == (BPF_RET | BPF_K), "code");

void nx_cbpf_init(nx_cbpf_builder *builder, nx_cbpf_insn *insns, uint32_t capacity)
{
    *builder = (nx_cbpf_builder){.insns = insns, .capacity = capacity};
}

static nx_cbpf_insn *at(const nx_cbpf_builder *builder, nx_cbpf_label label)
{
    return &builder->insns[builder->capacity - label];
}

/* Puts an instruction before all others. After an overflow the labels mean nothing. */
static nx_cbpf_label push(nx_cbpf_builder *builder, nx_cbpf_insn insn)
{
    if (builder->count == builder->capacity) {
        builder->overflow = true;
        return builder->count;
    }
    builder->count++;
    *at(builder, builder->count) = insn;
    return builder->count;
}

/* Instructions between the next one to be pushed and the label. */
static uint32_t distance(const nx_cbpf_builder *builder, nx_cbpf_label label)
{
    return builder->count - label;
}

/* One instruction at the front that leads to the label. */
static nx_cbpf_label bring_near(nx_cbpf_builder *builder, nx_cbpf_label label)
{
    if (builder->overflow) {
        return label;
    }
    if (at(builder, label)->code == NX_CBPF_RET_K) {
        return push(builder, *at(builder, label));
    }
    return push(builder, (nx_cbpf_insn){.code = NX_CBPF_JA, .k = distance(builder, label)});
}

nx_cbpf_label nx_cbpf_return(nx_cbpf_builder *builder, uint32_t value)
{
    uint32_t i = 0;

    while (i < builder->return_count && builder->returns[i].value != value) {
        i++;
    }
    if (i < builder->return_count && distance(builder, builder->returns[i].label) < REACH) {
        return builder->returns[i].label;
    }
    nx_cbpf_label label = push(builder, (nx_cbpf_insn){.code = NX_CBPF_RET_K, .k = value});
    if (i < NX_CBPF_RETURNS) {
        builder->returns[i].value = value;
        builder->returns[i].label = label;
        builder->return_count += i == builder->return_count;
    }
    return label;
}

nx_cbpf_label nx_cbpf_op(nx_cbpf_builder *builder, uint16_t code, uint32_t k, nx_cbpf_label next)
{
    if (next != builder->count) {
        (void)bring_near(builder, next);
    }
    return push(builder, (nx_cbpf_insn){.code = code, .k = k});
}

nx_cbpf_label nx_cbpf_branch(nx_cbpf_builder *builder, uint16_t code, uint32_t k, nx_cbpf_label yes,
                             nx_cbpf_label no)
{
    /* Each round brings one target next to the branch, so two rounds are enough. */
    while (!builder->overflow &&
           (distance(builder, yes) > REACH || distance(builder, no) > REACH)) {
        nx_cbpf_label *farther = yes < no ? &yes : &no;
        *farther = bring_near(builder, *farther);
    }
    return push(builder, (nx_cbpf_insn){.code = code,
                                        .jt = (uint8_t)distance(builder, yes),
                                        .jf = (uint8_t)distance(builder, no),
                                        .k = k});
}

nx_cbpf_label nx_cbpf_skip_load(nx_cbpf_builder *builder, uint32_t k, nx_cbpf_label label)
{
    if (builder->overflow || at(builder, label)->code != NX_CBPF_LD_ABS ||
        at(builder, label)->k != k) {
        return label;
    }
    builder->count -= label == builder->count;
    return label - 1;
}

/* A single number between two ranges that lead to the same becomes one comparison before them,
 * where the tree would take two. The kernel asks the program about each number when it is
 * installed, so the comparisons that a number meets are kept few. */
static uint32_t fold_singles(nx_cbpf_builder *builder, uint32_t *starts, nx_cbpf_label *labels,
                             uint32_t count)
{
    nx_cbpf_label base = labels[0];
    uint32_t last = 0, folded = 0;

    for (uint32_t i = 1; i < count; i++) {
        if (i + 1 < count && starts[i + 1] == starts[i] + 1 && labels[i + 1] == base &&
            folded < NX_CBPF_FOLDED_MAX) {
            labels[last] =
                nx_cbpf_branch(builder, NX_CBPF_JEQ_K, starts[i], labels[i], labels[last]);
            folded++;
            i++;
            continue;
        }
        last++;
        starts[last] = starts[i];
        labels[last] = base = labels[i];
        folded = 0;
    }
    return last + 1;
}

nx_cbpf_label nx_cbpf_tree(nx_cbpf_builder *builder, uint32_t *starts, nx_cbpf_label *labels,
                           uint32_t count)
{
    NX_ASSERT(count >= 1);
    count = fold_singles(builder, starts, labels, count);
    /* Level by level from the leaves: neighbours become one node, which starts where the left one
     * does. All levels go in the same order, so that no distance exceeds half the leaves. */
    while (count > 1) {
        uint32_t nodes = 0;
        for (uint32_t i = 0; i < count; i += 2, nodes++) {
            nx_cbpf_label label = labels[i];
            if (i + 1 < count && labels[i + 1] != label) {
                label =
                    nx_cbpf_branch(builder, NX_CBPF_JGE_K, starts[i + 1], labels[i + 1], labels[i]);
            }
            starts[nodes] = starts[i];
            labels[nodes] = label;
        }
        count = nodes;
    }
    return labels[0];
}

int nx_cbpf_finish(nx_cbpf_builder *builder, nx_cbpf_label entry, uint32_t *ret_count)
{
    if (builder->overflow || builder->count > NX_CBPF_COUNT_MAX) {
        return NX_ETOOBIG;
    }
    NX_ASSERT(entry == builder->count && entry > 0);
    memmove(builder->insns, at(builder, entry), entry * sizeof *builder->insns);
    *ret_count = entry;
    return NX_OK;
}

/* Whether the kernel takes this instruction in a seccomp filter, jumps and scratch memory apart. */
static bool insn_is_known(const nx_cbpf_insn *insn, uint32_t size)
{
    switch (insn->code) {
    case BPF_LD | BPF_W | BPF_ABS:
        return insn->k % 4 == 0 && insn->k < size && size - insn->k >= 4;
    case BPF_ALU | BPF_DIV | BPF_K:
        return insn->k != 0;
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K:
        return insn->k < 32;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
        return insn->k < BPF_MEMWORDS;
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LDX | BPF_IMM:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_ALU | BPF_ADD | BPF_K:
    case BPF_ALU | BPF_ADD | BPF_X:
    case BPF_ALU | BPF_SUB | BPF_K:
    case BPF_ALU | BPF_SUB | BPF_X:
    case BPF_ALU | BPF_MUL | BPF_K:
    case BPF_ALU | BPF_MUL | BPF_X:
    case BPF_ALU | BPF_DIV | BPF_X:
    case BPF_ALU | BPF_AND | BPF_K:
    case BPF_ALU | BPF_AND | BPF_X:
    case BPF_ALU | BPF_OR | BPF_K:
    case BPF_ALU | BPF_OR | BPF_X:
    case BPF_ALU | BPF_XOR | BPF_K:
    case BPF_ALU | BPF_XOR | BPF_X:
    case BPF_ALU | BPF_LSH | BPF_X:
    case BPF_ALU | BPF_RSH | BPF_X:
    case BPF_ALU | BPF_NEG:
    case BPF_JMP | BPF_JA:
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JEQ | BPF_X:
    case BPF_JMP | BPF_JGE | BPF_K:
    case BPF_JMP | BPF_JGE | BPF_X:
    case BPF_JMP | BPF_JGT | BPF_K:
    case BPF_JMP | BPF_JGT | BPF_X:
    case BPF_JMP | BPF_JSET | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_X:
        return true;
    default:
        return false;
    }
}

/* Scratch words that are surely written before each instruction, as bits: a load of another is
 * refused. Jumps lead forward, so one pass sees all ways into an instruction before it. */
static bool scratch_is_written(const nx_cbpf_insn *insns, uint32_t count, uint32_t *ret_index)
{
    uint16_t written[NX_CBPF_COUNT_MAX + 1];
    uint16_t now = 0;

    memset(written, 0xff, sizeof written);
    for (uint32_t i = 0; i < count; i++) {
        const nx_cbpf_insn *insn = &insns[i];
        now &= written[i];
        switch (BPF_CLASS(insn->code)) {
        case BPF_ST:
        case BPF_STX:
            now = (uint16_t)(now | 1u << insn->k);
            break;
        case BPF_LD:
        case BPF_LDX:
            if (BPF_MODE(insn->code) == BPF_MEM && (now & 1u << insn->k) == 0) {
                *ret_index = i;
                return false;
            }
            break;
        case BPF_JMP:
            if (insn->code == NX_CBPF_JA) {
                written[i + 1 + insn->k] &= now;
            } else {
                written[i + 1 + insn->jt] &= now;
                written[i + 1 + insn->jf] &= now;
            }
            now = UINT16_MAX;
            break;
        default:
            break;
        }
    }
    return true;
}

int nx_cbpf_check(const nx_cbpf_insn *insns, uint32_t count, uint32_t size, uint32_t *ret_index)
{
    uint32_t index = count;

    if (count == 0 || count > NX_CBPF_COUNT_MAX || BPF_CLASS(insns[count - 1].code) != BPF_RET) {
        *ret_index = index;
        return NX_EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        const nx_cbpf_insn *insn = &insns[i];
        uint32_t rest = count - i - 1;
        bool good = insn_is_known(insn, size);
        if (good && insn->code == NX_CBPF_JA) {
            good = insn->k < rest;
        } else if (good && BPF_CLASS(insn->code) == BPF_JMP) {
            good = insn->jt < rest && insn->jf < rest;
        }
        if (!good) {
            *ret_index = i;
            return NX_EINVAL;
        }
    }
    if (!scratch_is_written(insns, count, &index)) {
        *ret_index = index;
        return NX_EINVAL;
    }
    return NX_OK;
}

static uint32_t alu(uint16_t code, uint32_t a, uint32_t operand)
{
    switch (BPF_OP(code)) {
    case BPF_ADD:
        return a + operand;
    case BPF_SUB:
        return a - operand;
    case BPF_MUL:
        return a * operand;
    case BPF_DIV:
        return a / operand;
    case BPF_AND:
        return a & operand;
    case BPF_OR:
        return a | operand;
    case BPF_XOR:
        return a ^ operand;
    case BPF_LSH:
        return a << (operand & 31);
    case BPF_RSH:
        return a >> (operand & 31);
    default:
        return 0u - a;
    }
}

static bool holds(uint16_t code, uint32_t a, uint32_t operand)
{
    switch (BPF_OP(code)) {
    case BPF_JEQ:
        return a == operand;
    case BPF_JGT:
        return a > operand;
    case BPF_JGE:
        return a >= operand;
    default:
        return (a & operand) != 0;
    }
}

static uint32_t loaded(const nx_cbpf_insn *insn, const void *data, uint32_t size,
                       const uint32_t *scratch)
{
    switch (BPF_MODE(insn->code)) {
    case BPF_ABS:
        return nx_load_u32((const uint8_t *)data + insn->k);
    case BPF_MEM:
        return scratch[insn->k];
    case BPF_LEN:
        return size;
    default:
        return insn->k;
    }
}

uint32_t nx_cbpf_run(const nx_cbpf_insn *insns, uint32_t count, const void *data, uint32_t size)
{
    uint32_t a = 0, x = 0, scratch[BPF_MEMWORDS] = {0};

    for (uint32_t i = 0; i < count; i++) {
        const nx_cbpf_insn *insn = &insns[i];
        uint32_t operand = BPF_SRC(insn->code) == BPF_X ? x : insn->k;
        switch (BPF_CLASS(insn->code)) {
        case BPF_LD:
            a = loaded(insn, data, size, scratch);
            break;
        case BPF_LDX:
            x = loaded(insn, data, size, scratch);
            break;
        case BPF_ST:
            scratch[insn->k] = a;
            break;
        case BPF_STX:
            scratch[insn->k] = x;
            break;
        case BPF_ALU:
            if (BPF_OP(insn->code) == BPF_DIV && operand == 0) {
                return 0; /* the kernel ends the program with 0 */
            }
            a = alu(insn->code, a, operand);
            break;
        case BPF_JMP:
            i += insn->code == NX_CBPF_JA        ? insn->k
                 : holds(insn->code, a, operand) ? insn->jt
                                                 : insn->jf;
            break;
        case BPF_RET:
            return BPF_RVAL(insn->code) == BPF_A ? a : insn->k;
        default:
            if (BPF_MISCOP(insn->code) == BPF_TAX) {
                x = a;
            } else {
                a = x;
            }
            break;
        }
    }
    return 0;
}
