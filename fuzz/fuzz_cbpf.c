// SPDX-License-Identifier: Apache-2.0
/* Classic BPF: what the checker passes runs in bounds and as a second interpreter says. */
#include "fuzz.h"
#include "nx_cbpf.h"

#include <linux/filter.h>

/* Written from the kernel's documentation (networking/filter.rst), apart from nx_cbpf_run. */
static uint32_t second_opinion(const nx_cbpf_insn *insns, const uint8_t *data, uint32_t size)
{
    uint32_t a = 0, x = 0, m[BPF_MEMWORDS] = {0};

    for (const nx_cbpf_insn *i = insns;; i++) {
        uint32_t k = i->k, by = i->code & BPF_X ? x : k, loaded = k;
        switch (i->code & 0x07) {
        case BPF_LD:
        case BPF_LDX:
            loaded = (i->code & 0xe0) == BPF_LEN   ? size
                     : (i->code & 0xe0) == BPF_MEM ? m[k]
                     : (i->code & 0xe0) == BPF_ABS ? nx_load_u32(data + k)
                                                   : k;
            *((i->code & 0x07) == BPF_LD ? &a : &x) = loaded;
            break;
        case BPF_ST:
        case BPF_STX:
            m[k] = i->code == BPF_ST ? a : x;
            break;
        case BPF_ALU:
            if ((i->code & 0xf0) == BPF_DIV && by == 0) {
                return 0;
            }
            a = (const uint32_t[]){a + by, a - by, a * by,         by == 0 ? 0 : a / by,
                                   a | by, a & by, a << (by & 31), a >> (by & 31),
                                   -a,     0,      a ^ by}[i->code >> 4];
            break;
        case BPF_JMP:
            i += i->code == (BPF_JMP | BPF_JA)
                     ? k
                     : ((const bool[]){false, a == by, a > by, a >= by, (a & by) != 0}[i->code >> 4]
                            ? i->jt
                            : i->jf);
            break;
        case BPF_RET:
            return i->code & BPF_A ? a : k;
        default:
            *(i->code & BPF_TXA ? &a : &x) = i->code & BPF_TXA ? x : a;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint32_t data_size = (uint32_t)eat(&in, 1) % 65, index = 0;
    uint8_t *seen = stretch(&(nx_input){data, size < 16 ? size : 16}, data_size);
    bool lenient = eat(&in, 1) & 1; /* keeps jumps and returns in order, so that more pass */
    uint32_t count = (uint32_t)(in.size / 6);
    nx_cbpf_insn *insns = malloc(count * sizeof *insns);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t rest = count - i - 1;
        insns[i] = (nx_cbpf_insn){(uint16_t)eat(&in, 1), (uint8_t)eat(&in, 1), (uint8_t)eat(&in, 1),
                                  (uint32_t)eat(&in, 3)};
        if (lenient) {
            insns[i].jt = (uint8_t)(insns[i].jt % (rest > 1 ? rest : 1));
            insns[i].jf = (uint8_t)(insns[i].jf % (rest > 1 ? rest : 1));
            insns[i].k =
                insns[i].code == (BPF_JMP | BPF_JA) && rest > 0 ? insns[i].k % rest : insns[i].k;
            insns[i].code = rest == 0 ? BPF_RET | BPF_A : insns[i].code;
        }
    }
    if (nx_cbpf_check(insns, count, data_size, &index) == NX_OK) {
        uint32_t got = nx_cbpf_run(insns, count, seen, data_size);
        NX_ASSERT(got == second_opinion(insns, seen, data_size));
    }
    NX_ASSERT(index <= count);
    free(insns);
    free(seen);
    return 0;
}
