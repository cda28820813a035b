// SPDX-License-Identifier: Apache-2.0
/*
 * BLAKE3's compression of 8 blocks with the boundary search in it, in assembly for AVX2, as the
 * NX_B3_COMPRESS of nx_blake3_lanes.h.
 *
 * Why not from the template. One loop of 7 rounds is 430 instructions instead of 3,000, which
 * is meant to stay in the cache of decoded instructions when the core is shared: there a ridden
 * byte costs 1.35 cycles, and cost 2.3 in the compiled kernel. A compiler also spills the
 * temporaries of the rotations, on the critical path: compiled as a loop 8 leaves take 0.80
 * cycles a byte, this way 0.73.
 *
 * Registers. ymm0 to ymm15 hold the state words 0 to 15, but one: each phase (half a quarter
 * round on four columns) rotates by shifts, for which one register must be free, so it leaves one
 * of the words 8 to 11 in memory, another one each time: always the same would wait for its own
 * store 28 times a block, 11 cycles each. The phase that follows takes it back as an operand.
 *
 * Order. The four columns are staggered by a step, so that the shifts, which only two of four
 * units do, mix with additions; the search's instructions lie between the steps.
 */
#ifndef NX_CDC_RIDE_AVX2_H
#define NX_CDC_RIDE_AVX2_H

#include "nx_cdc_ride.h"
#include "nx_cdc_scan.h"

#define PHASE_BYTES 14 /* searched in a phase */
#define ROUND_BYTES 56
#define TEXT(x)     #x
#define NUMBER(x)   TEXT(x)

/* One byte of the search; `n` counts from the phase's first. A hit, out of line, notes where the
 * round's bytes start if it is the first. */
#define SEARCH(phase, n)                                                                           \
    "movzbl " NUMBER(PHASE_BYTES) "*" #phase "+" #n "(%[at]), %k[index]\n\t"                       \
                                  "movq (%[gear],%q[index],8), %q[index]\n\t"                      \
                                  "leaq (%q[index],%[hash],2), %[hash]\n\t"                        \
                                  "testq %[hash], %[mask]\n\t"                                     \
                                  "jz 9f\n\t"                                                      \
                                  ".subsection 1\n"                                                \
                                  "9: cmpq $0, %[hit]\n\t"                                         \
                                  "jne 8f\n\t"                                                     \
                                  "movq %[at], %[hit]\n\t"                                         \
                                  "jmp 8f\n\t"                                                     \
                                  ".previous\n"                                                    \
                                  "8:\n\t"

#define OP(name, x, y) name " %%ymm" #x ", %%ymm" #y ", %%ymm" #y "\n\t"
/* The steps of a phase on a column; `k` is the message word's place in the round's order. */
#define WORD(a, b, c, d, k)                                                                        \
    "movzbl " #k "(%[order]), %k[word]\n\t"                                                        \
    "vpaddd (%[m],%q[word],8), %%ymm" #a ", %%ymm" #a "\n\t"
#define ADD(a, b, c, d, k)            OP("vpaddd", b, a)
#define BLEND(a, b, c, d, k)          OP("vpxor", a, d)
#define TURN(turn, a, b, c, d, k)     "vpshufb %[" #turn "], %%ymm" #d ", %%ymm" #d "\n\t"
#define SUM(a, b, c, d, k)            OP("vpaddd", d, c)
#define SUM_BACK(from, a, b, c, d, k) "vpaddd %[" #from "], %%ymm" #d ", %%ymm" #c "\n\t"
#define CROSS(a, b, c, d, k)          OP("vpxor", c, b)
#define LEAVE(to, a, b, c, d, k)      "vmovdqa %%ymm" #c ", %[" #to "]\n\t"
#define FREE(a, b, c, d, k)           c
#define SHIFT(r, l, a, b, c, d, k, t)                                                              \
    "vpsrld $" #r ", %%ymm" #b ", %%ymm" #t "\n\t"                                                 \
    "vpslld $" #l ", %%ymm" #b ", %%ymm" #b "\n\t" OP("vpor", t, b)
#define APPLY(f, ...) f(__VA_ARGS__)
#define OPEN(...)     __VA_ARGS__

/* Column p leaves its third word in memory and frees that register; s takes one back. */
#define PHASE(n, turn, right, left, to, from, p, q, r, s)                                          \
    WORD p SEARCH(n, 0) ADD p WORD q SEARCH(n, 1) BLEND p ADD q WORD r SEARCH(n, 2)                \
        APPLY(TURN, turn, OPEN p) BLEND q ADD r WORD s SEARCH(n, 3) SEARCH(n, 4)                   \
            SUM p APPLY(TURN, turn, OPEN q) BLEND r ADD s SEARCH(n, 5) SEARCH(n, 6)                \
                CROSS p APPLY(LEAVE, to, OPEN p) SUM q APPLY(TURN, turn, OPEN r)                   \
                    BLEND s SEARCH(n, 7) SEARCH(n, 8) APPLY(SHIFT, right, left, OPEN p, FREE p)    \
                        CROSS q SUM r APPLY(TURN, turn, OPEN s) SEARCH(n, 9) SEARCH(n, 10)         \
                            APPLY(SHIFT, right, left, OPEN q,                                      \
                                  FREE p) CROSS r APPLY(SUM_BACK, from, OPEN s) SEARCH(n, 11)      \
                                APPLY(SHIFT, right, left, OPEN r, FREE p) CROSS s SEARCH(n, 12)    \
                                    APPLY(SHIFT, right, left, OPEN s, FREE p) SEARCH(n, 13)

#define RIDE_ROUND                                                                                 \
    PHASE(0, turn16, 12, 20, odd, even, (1, 5, 9, 13, 2), (2, 6, 10, 14, 4), (3, 7, 11, 15, 6),    \
          (0, 4, 8, 12, 0))                                                                        \
    PHASE(1, turn8, 7, 25, even, odd, (2, 6, 10, 14, 5), (3, 7, 11, 15, 7), (0, 4, 8, 12, 1),      \
          (1, 5, 9, 13, 3))                                                                        \
    PHASE(2, turn16, 12, 20, odd, even, (1, 6, 11, 12, 10), (2, 7, 8, 13, 12), (3, 4, 9, 14, 14),  \
          (0, 5, 10, 15, 8))                                                                       \
    PHASE(3, turn8, 7, 25, even, odd, (2, 7, 8, 13, 13), (3, 4, 9, 14, 15), (0, 5, 10, 15, 9),     \
          (1, 6, 11, 12, 11))

#define GET(x, from) "vmovdqa " from ", %%ymm" #x "\n\t"
#define PUT(x, y, to)                                                                              \
    OP("vpxor", y, x)                                                                              \
    "vmovdqa %%ymm" #x ", " to "\n\t"

/* Message words in the order that the rounds use them, times 4: the kernel scales by 8. */
static const uint8_t ride_order[112] = {
#define ROW(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)                                        \
    4 * a, 4 * b, 4 * c, 4 * d, 4 * e, 4 * f, 4 * g, 4 * h, 4 * i, 4 * j, 4 * k, 4 * l, 4 * m,     \
        4 * n, 4 * o, 4 * p,
    ROW(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        ROW(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
            ROW(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1)
                ROW(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6)
                    ROW(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4)
                        ROW(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7)
                            ROW(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13)
#undef ROW
};

/* In the scope of the uniform kernel: `at`, `hash` and `hit` are the search's. */
#define RIDE_COMPRESS(cvs, words, t0, t1, size_, flags_)                                           \
    do {                                                                                           \
        VEC tail_[4] = {(t0), (t1), (size_), (flags_)}, even_, odd_;                               \
        const uint8_t *order_ = ride_order;                                                        \
        uint64_t index_, word_;                                                                    \
        __asm__ volatile(                                                                          \
            GET(8, "%[iv8]") "vmovdqa %%ymm8, %[even]\n\t" GET(9, "%[iv9]") GET(10, "%[iv10]")     \
                GET(11, "%[iv11]") GET(0, "(%[cv])") GET(1, "32(%[cv])") GET(2, "64(%[cv])") GET(  \
                    3, "96(%[cv])") GET(4, "128(%[cv])") GET(5, "160(%[cv])") GET(6, "192(%[cv])") \
                    GET(7, "224(%[cv])") GET(12, "%[low]") GET(13, "%[high]") GET(14, "%[sizes]")  \
                        GET(15, "%[flags]") ".p2align 5\n"                                         \
                                            "1:\n\t" RIDE_ROUND "addq $" NUMBER(                   \
                                                ROUND_BYTES) ", %[at]\n\t"                         \
                                                             "addq $16, %[order]\n\t"              \
                                                             "cmpq %[end], %[order]\n\t"           \
                                                             "jne 1b\n\t" GET(8, "%[even]") PUT(   \
                                                                 0, 8, "(%[cv])") PUT(1, 9,        \
                                                                                      "32(%[cv])") \
                                                                 PUT(2, 10, "64(%[cv])") PUT(      \
                                                                     3, 11, "96(%[cv])")           \
                                                                     PUT(4, 12, "128(%[cv])") PUT( \
                                                                         5, 13, "160(%[cv])")      \
                                                                         PUT(6, 14, "192(%[cv])")  \
                                                                             PUT(7, 15,            \
                                                                                 "224(%[cv])")     \
            : [at] "+r"(at), [hash] "+r"(hash), [hit] "+m"(hit), [order] "+r"(order_),             \
              [index] "=&r"(index_), [word] "=&r"(word_), [even] "=m"(even_), [odd] "=m"(odd_)     \
            : [gear] "r"(gear), [mask] "r"(mask), [cv] "r"(cvs), [m] "r"(words),                   \
              [end] "m"(order_end), [turn16] "m"(*(const VEC *)(const void *)NX_B3_NAME(mask16)),  \
              [turn8] "m"(*(const VEC *)(const void *)NX_B3_NAME(mask8)), [iv8] "m"(iv_[0]),       \
              [iv9] "m"(iv_[1]), [iv10] "m"(iv_[2]), [iv11] "m"(iv_[3]), [low] "m"(tail_[0]),      \
              [high] "m"(tail_[1]), [sizes] "m"(tail_[2]), [flags] "m"(tail_[3])                   \
            : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
              "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");               \
    } while (0)

#define NX_B3_LANES   8
#define NX_B3_NAME(x) ride_##x##_8
#define NX_B3_TARGET  __attribute__((target("avx2")))
#define NX_B3_BYTES   1
#define NX_B3_UNIFORM_ONLY
#define NX_B3_ARGS     , nx_cdc_ride *ride
#define NX_B3_COMPRESS RIDE_COMPRESS
#define NX_B3_BEGIN                                                                                \
    static const uint8_t *const order_end = ride_order + sizeof ride_order;                        \
    const VEC iv_[4] = {(VEC){0} + nx_blake3_iv[0], (VEC){0} + nx_blake3_iv[1],                    \
                        (VEC){0} + nx_blake3_iv[2], (VEC){0} + nx_blake3_iv[3]};                   \
    const uint64_t *gear = ride->gear;                                                             \
    const uint8_t *at = ride->from;                                                                \
    const uint8_t *hit = NULL;                                                                     \
    uint64_t hash = ride->hash;                                                                    \
    uint64_t mask = ride->mask;
/* From the round's first byte on the search is done again; 64 bytes before it the hash begins to
 * forget all that was there. */
#define NX_B3_END                                                                                  \
    if (hit != NULL) {                                                                             \
        hash = ride->hash;                                                                         \
        for (at = hit - ride->from < 64 ? ride->from : hit - 64; at < hit; at++) {                 \
            NX_CDC_ROLL(gear, hash, *at);                                                          \
        }                                                                                          \
        hit += nx_cdc_scan(gear, hit, ROUND_BYTES, mask, &hash);                                   \
    }                                                                                              \
    ride->hit = hit;                                                                               \
    ride->hash = hash;
#include "nx_blake3_lanes.h"
#endif
