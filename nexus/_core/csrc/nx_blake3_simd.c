// SPDX-License-Identifier: Apache-2.0
/* Instances of the wide kernel, the one-block kernels, and which level runs which. */
#include "nx_blake3_kernels.h"

#include "nx_memory.h"

#if defined(__x86_64__)
#define TARGET_4 __attribute__((target("sse4.1")))
#define BYTES_4  1
#else
#define TARGET_4
#define BYTES_4 0
#endif

/* NX_SMALL is for a program that must be small: of x86-64 only one kernel of AVX2. */
#if (defined(__x86_64__) && !defined(NX_SMALL)) || defined(__aarch64__)
#define NX_B3_LANES   4
#define NX_B3_NAME(x) x##_4
#define NX_B3_TARGET  TARGET_4
#define NX_B3_BYTES   BYTES_4
#include "nx_blake3_lanes.h"
#endif

#if defined(__x86_64__)
#define NX_B3_LANES   8
#define NX_B3_NAME(x) x##_8
#define NX_B3_TARGET  __attribute__((target("avx2")))
#define NX_B3_BYTES   1
#include "nx_blake3_lanes.h"
#endif

#if defined(__x86_64__) && !defined(NX_SMALL)
#define NX_B3_LANES   16
#define NX_B3_NAME(x) x##_16
#define NX_B3_TARGET  __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#define NX_B3_BYTES   0
#include "nx_blake3_lanes.h"
#endif

#define G(a, b, c, d, x, y)                                                                        \
    do {                                                                                           \
        a = (a + (x)) + b;                                                                         \
        d = nx_rotr32(d ^ a, 16);                                                                  \
        c = c + d;                                                                                 \
        b = nx_rotr32(b ^ c, 12);                                                                  \
        a = (a + (y)) + b;                                                                         \
        d = nx_rotr32(d ^ a, 8);                                                                   \
        c = c + d;                                                                                 \
        b = nx_rotr32(b ^ c, 7);                                                                   \
    } while (0)

static void rounds(uint32_t v[16], const uint8_t *block)
{
    static const uint8_t schedule[7][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
        {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
        {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
        {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
        {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
        {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
    };
    uint32_t m[16];

    memcpy(m, block, sizeof m);
    for (int r = 0; r < 7; r++) {
        const uint8_t *s = schedule[r];
        G(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        G(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        G(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        G(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        G(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        G(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        G(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        G(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
}
#undef G

void nx_blake3_compress_full(const uint32_t cv[8], const uint8_t *block, uint32_t size,
                             uint64_t counter, uint32_t flags, uint32_t ret[16])
{
    uint32_t v[16] = {
        cv[0],
        cv[1],
        cv[2],
        cv[3],
        cv[4],
        cv[5],
        cv[6],
        cv[7],
        nx_blake3_iv[0],
        nx_blake3_iv[1],
        nx_blake3_iv[2],
        nx_blake3_iv[3],
        (uint32_t)counter,
        (uint32_t)(counter >> 32),
        size,
        flags,
    };

    rounds(v, block);
    for (int i = 0; i < 8; i++) {
        ret[i] = v[i] ^ v[i + 8];
        ret[i + 8] = v[i + 8] ^ cv[i];
    }
}

void nx_blake3_compress_scalar(uint32_t cv[8], const uint8_t *block, uint32_t size,
                               uint64_t counter, uint32_t flags)
{
    uint32_t words[16];

    nx_blake3_compress_full(cv, block, size, counter, flags, words);
    memcpy(cv, words, 32);
}

#if defined(__x86_64__)
/* One block with a row of the 4 x 4 state in each vector: for what fills no lanes. */
typedef uint32_t row_t __attribute__((vector_size(16)));
typedef uint8_t row_bytes_t __attribute__((vector_size(16)));

#if defined(__clang__) || __GNUC__ >= 12
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define PICK_BYTES(a, ...)                                                                         \
    ((row_t)__builtin_shufflevector((row_bytes_t)(a), (row_bytes_t)(a), __VA_ARGS__))
#else
#define PICK(a, b, ...)    __builtin_shuffle(a, b, (row_t){__VA_ARGS__})
#define PICK_BYTES(a, ...) ((row_t)__builtin_shuffle((row_bytes_t)(a), (row_bytes_t){__VA_ARGS__}))
#endif
#define ROW_ROT16(x)    PICK_BYTES(x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define ROW_ROT8(x)     PICK_BYTES(x, 1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12)
#define ROW_SHIFT(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

/* Four quarter rounds at once: x and y are the first and second message words of each. */
#define ROW_G(x, y)                                                                                \
    do {                                                                                           \
        a = (a + (x)) + b;                                                                         \
        d = ROW_ROT16(d ^ a);                                                                      \
        c = c + d;                                                                                 \
        b = b ^ c;                                                                                 \
        b = ROW_SHIFT(b, 12);                                                                      \
        a = (a + (y)) + b;                                                                         \
        d = ROW_ROT8(d ^ a);                                                                       \
        c = c + d;                                                                                 \
        b = b ^ c;                                                                                 \
        b = ROW_SHIFT(b, 7);                                                                       \
    } while (0)

__attribute__((target("sse4.1"))) static void
compress_row(uint32_t cv[8], const uint8_t *block, uint32_t size, uint64_t counter, uint32_t flags)
{
    row_t raw[4], a, b, c, d;

    memcpy(raw, block, sizeof raw);
    memcpy(&a, cv, sizeof a);
    memcpy(&b, cv + 4, sizeof b);
    memcpy(&c, nx_blake3_iv, sizeof c);
    d = (row_t){(uint32_t)counter, (uint32_t)(counter >> 32), size, flags};
    /* First and second words of the four column rounds, then of the diagonal rounds, these
     * in the order 14 8 10 12 and 15 9 11 13, which leaves b, the last value of a quarter
     * round and so the critical one, where it is. */
    row_t p = PICK(raw[0], raw[1], 0, 2, 4, 6), q = PICK(raw[0], raw[1], 1, 3, 5, 7);
    row_t r = PICK(raw[2], raw[3], 6, 0, 2, 4), s = PICK(raw[2], raw[3], 7, 1, 3, 5);

#pragma GCC unroll 7
    for (int round = 0; round < 7; round++) {
        ROW_G(p, q);
        a = PICK(a, a, 3, 0, 1, 2);
        c = PICK(c, c, 1, 2, 3, 0);
        d = PICK(d, d, 2, 3, 0, 1);
        ROW_G(r, s);
        a = PICK(a, a, 1, 2, 3, 0);
        c = PICK(c, c, 3, 0, 1, 2);
        d = PICK(d, d, 2, 3, 0, 1);
        /* The permutation of section 2.2 in these orders: words 2 3 7 4, 6 10 0 13,
         * 15 1 12 9 and 8 11 5 14 come next. */
        row_t p2 = PICK(p, q, 1, 5, 7, 2);
        row_t q2 = PICK(PICK(p, r, 3, 6, 0, 0), s, 0, 1, 2, 7);
        row_t r2 = PICK(PICK(q, r, 0, 7, 0, 0), s, 4, 0, 1, 5);
        row_t s2 = PICK(PICK(s, q, 2, 6, 0, 0), r, 5, 0, 1, 4);
        p = p2, q = q2, r = r2, s = s2;
    }
    a ^= c;
    b ^= d;
    memcpy(cv, &a, sizeof a);
    memcpy(cv + 4, &b, sizeof b);
}
#endif

#if defined(NX_SMALL)
#define PARENTS(lanes) NULL
#else
#define PARENTS(lanes) parents_##lanes
#endif

static const nx_blake3_kernels SCALAR = {.compress = nx_blake3_compress_scalar};
#if defined(__x86_64__)
static const nx_blake3_kernels AVX2 = {
    compress_row,
    {{8, leaves_8, PARENTS(8)}}, /* 2 of 8 lanes busy still beat two single leaves, and 4 lanes */
};
#endif
#if defined(__x86_64__) && !defined(NX_SMALL)
static const nx_blake3_kernels SSE41 = {compress_row, {{4, leaves_4, parents_4}}};
static const nx_blake3_kernels AVX512 = {
    compress_row,
    {{16, leaves_16, parents_16}, {8, leaves_8, parents_8}},
};
#elif defined(__aarch64__)
static const nx_blake3_kernels NEON = {nx_blake3_compress_scalar, {{4, leaves_4, PARENTS(4)}}};
#endif

const nx_blake3_kernels *nx_blake3_kernels_of(nx_simd level)
{
    switch (level) {
#if defined(__x86_64__) && defined(NX_SMALL)
    case NX_SIMD_AVX2:
    case NX_SIMD_AVX512:
        return &AVX2;
#elif defined(__x86_64__)
    case NX_SIMD_SSE41:
        return &SSE41;
    case NX_SIMD_AVX2:
        return &AVX2;
    case NX_SIMD_AVX512:
        return &AVX512;
#elif defined(__aarch64__)
    case NX_SIMD_NEON:
        return &NEON;
#endif
    default:
        return &SCALAR;
    }
}
