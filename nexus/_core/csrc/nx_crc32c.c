// SPDX-License-Identifier: Apache-2.0
/*
 * Portable: eight tables, eight bytes a step. With CRC instructions: these take 3 cycles but
 * start every cycle, so long inputs run as three streams of one block each, joined by
 * multiplying with a power of x modulo the polynomial (Gopal et al., Intel 2011).
 */
#include "nx_crc32c.h"

#define POLYNOMIAL 0x82F63B78u

#if defined(NX_SMALL)
/* For a program that must be small and knows no long inputs. */
uint32_t nx_crc32c(uint32_t value, const void *data, size_t size)
{
    const uint8_t *at = data;
    uint32_t crc = ~value;

    for (size_t i = 0; i < size; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? POLYNOMIAL : 0);
        }
    }
    return ~crc;
}
#else
#include "nx_crc32c_table.h"

typedef uint32_t crc_kernel(uint32_t crc, const uint8_t *at, size_t size);

static uint32_t crc_scalar(uint32_t crc, const uint8_t *at, size_t size)
{
    const uint32_t (*table)[256] = nx_crc32c_table;

    for (; size >= 8; size -= 8, at += 8) {
        uint64_t x = nx_load_u64(at) ^ crc;
        crc = table[7][x & 255] ^ table[6][x >> 8 & 255] ^ table[5][x >> 16 & 255] ^
              table[4][x >> 24 & 255] ^ table[3][x >> 32 & 255] ^ table[2][x >> 40 & 255] ^
              table[1][x >> 48 & 255] ^ table[0][x >> 56];
    }
    for (; size > 0; size--, at++) {
        crc = crc >> 8 ^ table[0][(crc ^ *at) & 255];
    }
    return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET         __attribute__((target("sse4.2,pclmul")))
#define STEP_8(crc, x) _mm_crc32_u64(crc, x)
#define STEP_1(crc, x) _mm_crc32_u8((uint32_t)(crc), x)

/* crc * x^(8 n) mod P, where `power` is x^(8 n - 33) mod P: the product of two reflected
 * 32-bit polynomials is 63 bits, and reducing it by the instruction multiplies by x^32. */
TARGET static inline uint64_t shifted(uint64_t crc, uint32_t power)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int32_t)power), 0);

    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

#define LONG_BLOCK   1024u
#define LONG_POWERS  0x170076fau, 0xa51b6135u /* x^(8 n - 33) and x^(16 n - 33) for n = 1,024 */
#define SHORT_BLOCK  128u
#define SHORT_POWERS 0x0d3b6092u, 0xb9e02b86u /* the same for n = 128 */

#elif defined(__aarch64__)
#include <arm_acle.h>

#define TARGET         __attribute__((target("+crc")))
#define STEP_8(crc, x) __crc32cd((uint32_t)(crc), x)
#define STEP_1(crc, x) __crc32cb((uint32_t)(crc), x)

/* crc * power mod P, bit by bit: no carry-less multiplication in the baseline. */
static inline uint64_t shifted(uint64_t crc, uint32_t power)
{
    uint32_t product = 0;

    for (int bit = 31; bit >= 0; bit--) {
        product ^= (uint32_t)crc >> bit & 1 ? power : 0;
        power = power >> 1 ^ (power & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

#define LONG_BLOCK  4096u
#define LONG_POWERS 0x35d73a62u, 0x28461564u /* x^(8 n) and x^(16 n) for n = 4,096 */
#endif

#if defined(STEP_8)
/* Three neighbouring blocks at once. */
TARGET static inline uint32_t three(uint32_t crc, const uint8_t *at, size_t block, uint32_t once,
                                    uint32_t twice)
{
    uint64_t a = crc, b = 0, c = 0;

    for (size_t i = 0; i < block; i += 8) {
        a = STEP_8(a, nx_load_u64(at + i));
        b = STEP_8(b, nx_load_u64(at + block + i));
        c = STEP_8(c, nx_load_u64(at + 2 * block + i));
    }
    return (uint32_t)(shifted(a, twice) ^ shifted(b, once) ^ c);
}

TARGET static uint32_t crc_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    uint64_t state;

    for (; size >= 3 * LONG_BLOCK; size -= 3 * LONG_BLOCK, at += 3 * LONG_BLOCK) {
        crc = three(crc, at, LONG_BLOCK, LONG_POWERS);
    }
#if defined(SHORT_BLOCK)
    for (; size >= 3 * SHORT_BLOCK; size -= 3 * SHORT_BLOCK, at += 3 * SHORT_BLOCK) {
        crc = three(crc, at, SHORT_BLOCK, SHORT_POWERS);
    }
#endif
    state = crc;
    for (; size >= 8; size -= 8, at += 8) {
        state = STEP_8(state, nx_load_u64(at));
    }
    for (; size > 0; size--, at++) {
        state = STEP_1(state, *at);
    }
    return (uint32_t)state;
}
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static crc_kernel *kernel = crc_scalar;

/* The CRC instructions are no vectors, but a level is what this CPU is asked to be. */
void nx_crc32c_select(nx_simd level)
{
    kernel = crc_scalar;
#if defined(__x86_64__)
    if (level >= NX_SIMD_SSE41) {
        kernel = crc_instruction;
    }
#elif defined(__aarch64__) && defined(__linux__)
    if (level == NX_SIMD_NEON && (getauxval(AT_HWCAP) & 1u << 7) != 0) { /* HWCAP_CRC32 */
        kernel = crc_instruction;
    }
#else
    (void)level;
#endif
}

uint32_t nx_crc32c(uint32_t value, const void *data, size_t size)
{
    return ~kernel(~value, data, size);
}
#endif
