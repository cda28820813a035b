// SPDX-License-Identifier: Apache-2.0
/* Scan in wide blocks, vote in the blocks that differ; see nx_tmr.h. */
#include "nx_tmr.h"

/* Vector types lower to whatever the CPU has, with the same bits everywhere. */
typedef uint64_t lanes __attribute__((vector_size(32), aligned(1), may_alias));

#define BLOCK_SIZE 256u

static bool bytes_differ(const uint8_t *a, const uint8_t *b, const uint8_t *c, size_t size)
{
    unsigned difference = 0;

    for (size_t i = 0; i < size; i++) {
        difference |= (unsigned)((a[i] ^ b[i]) | (a[i] ^ c[i]));
    }
    return difference != 0;
}

/* Whether any copy of one block differs from another. */
NX_INLINE bool block_differs(const uint8_t *a, const uint8_t *b, const uint8_t *c)
{
#if defined(__riscv) && !defined(__riscv_misaligned_fast)
    /* Lanes would be put together from single bytes, in ten times the code and no less time. */
    return bytes_differ(a, b, c, BLOCK_SIZE);
#else
    lanes difference = {0};

    for (size_t at = 0; at < BLOCK_SIZE; at += sizeof(lanes)) {
        lanes x = *(const lanes *)(a + at);
        difference |= (x ^ *(const lanes *)(b + at)) | (x ^ *(const lanes *)(c + at));
    }
    return (difference[0] | difference[1] | difference[2] | difference[3]) != 0;
#endif
}

/* The offset of the first block that differs; what is left of the size when none does. */
NX_INLINE size_t scan_blocks(const uint8_t *a, const uint8_t *b, const uint8_t *c, size_t size)
{
    size_t at = 0;

    while (size - at >= BLOCK_SIZE && !block_differs(a + at, b + at, c + at)) {
        at += BLOCK_SIZE;
    }
    return at;
}

static size_t scan_scalar(const uint8_t *a, const uint8_t *b, const uint8_t *c, size_t size)
{
    return scan_blocks(a, b, c, size);
}

static size_t (*scan)(const uint8_t *, const uint8_t *, const uint8_t *, size_t) = scan_scalar;

#if defined(__x86_64__)
__attribute__((target("avx2"))) static size_t scan_avx2(const uint8_t *a, const uint8_t *b,
                                                        const uint8_t *c, size_t size)
{
    return scan_blocks(a, b, c, size);
}
#endif

void nx_tmr_select(nx_simd level)
{
    scan = scan_scalar;
#if defined(__x86_64__)
    if (level == NX_SIMD_AVX2 || level == NX_SIMD_AVX512) {
        scan = scan_avx2;
    }
#else
    (void)level;
#endif
}

bool nx_tmr_differs(const uint8_t *a, const uint8_t *b, const uint8_t *c, size_t size)
{
    size_t at = scan(a, b, c, size);

    return size - at >= BLOCK_SIZE || bytes_differ(a + at, b + at, c + at, size - at);
}

static uint64_t repair_byte(uint8_t *copy, uint8_t majority)
{
    if (*copy == majority) {
        return 0;
    }
    *copy = majority;
    return 1;
}

static void vote_bytes(uint8_t *a, uint8_t *b, uint8_t *c, size_t size, nx_tmr_repairs *repairs)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t majority = (uint8_t)((a[i] & b[i]) | (a[i] & c[i]) | (b[i] & c[i]));
        repairs->bytes[0] += repair_byte(a + i, majority);
        repairs->bytes[1] += repair_byte(b + i, majority);
        repairs->bytes[2] += repair_byte(c + i, majority);
    }
}

void nx_tmr_vote(uint8_t *a, uint8_t *b, uint8_t *c, size_t size, nx_tmr_repairs *ret)
{
    nx_tmr_repairs repairs = {{0, 0, 0}};
    size_t at = scan(a, b, c, size);

    while (size - at >= BLOCK_SIZE) {
        vote_bytes(a + at, b + at, c + at, BLOCK_SIZE, &repairs);
        at += BLOCK_SIZE;
        at += scan(a + at, b + at, c + at, size - at);
    }
    vote_bytes(a + at, b + at, c + at, size - at, &repairs);
    *ret = repairs;
}
