// SPDX-License-Identifier: Apache-2.0
#include "nx_xxhash.h"

#include "nx_memory.h"

#define P32_1 0x9E3779B1u
#define P32_2 0x85EBCA77u
#define P32_3 0xC2B2AE3Du
#define P64_1 0x9E3779B185EBCA87u
#define P64_2 0xC2B2AE3D27D4EB4Fu
#define P64_3 0x165667B19E3779F9u
#define P64_4 0x85EBCA77C2B2AE63u
#define P64_5 0x27D4EB2F165667C5u
#define MX_1  0x165667919E3779F9u
#define MX_2  0x9FB21C651E98DF25u

#define SECRET            192u
#define STRIPE            64u
#define STRIPES_PER_BLOCK 16u /* (SECRET - STRIPE) / 8 */
#define BLOCK             (STRIPE * STRIPES_PER_BLOCK)

static const uint8_t SECRET_BYTES[SECRET] NX_ALIGNED(64) = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

#if defined(__SIZEOF_INT128__)
__extension__ typedef unsigned __int128 u128;

static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
    u128 product = (u128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}
#else
/* A machine of 32 bits: four products of halves. */
static uint64_t multiply_fold(uint64_t a, uint64_t b)
{
    uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX), high = (a >> 32) * (b >> 32);
    uint64_t cross = (a >> 32) * (b & UINT32_MAX) + (low >> 32);
    uint64_t other = (a & UINT32_MAX) * (b >> 32) + (cross & UINT32_MAX);

    high += (cross >> 32) + (other >> 32);
    return (other << 32 | (low & UINT32_MAX)) ^ high;
}
#endif

static inline uint64_t avalanche_64(uint64_t h)
{
    h = (h ^ (h >> 33)) * P64_2;
    h = (h ^ (h >> 29)) * P64_3;
    return h ^ (h >> 32);
}

static inline uint64_t avalanche_3(uint64_t h)
{
    h = (h ^ (h >> 37)) * MX_1;
    return h ^ (h >> 32);
}

/*
 * XXH64
 */

static inline uint64_t round_64(uint64_t acc, uint64_t lane)
{
    return nx_rotl64(acc + lane * P64_2, 31) * P64_1;
}

static inline uint64_t merge_64(uint64_t h, uint64_t acc)
{
    return (h ^ round_64(0, acc)) * P64_1 + P64_4;
}

uint64_t nx_xxh64(const void *data, size_t size, uint64_t seed)
{
    const uint8_t *at = data;
    size_t rest = size;
    uint64_t h = seed + P64_5;

    if (size >= 32) {
        uint64_t a = seed + P64_1 + P64_2, b = seed + P64_2, c = seed, d = seed - P64_1;
        for (; rest >= 32; rest -= 32, at += 32) {
            a = round_64(a, nx_load_u64(at));
            b = round_64(b, nx_load_u64(at + 8));
            c = round_64(c, nx_load_u64(at + 16));
            d = round_64(d, nx_load_u64(at + 24));
        }
        h = nx_rotl64(a, 1) + nx_rotl64(b, 7) + nx_rotl64(c, 12) + nx_rotl64(d, 18);
        h = merge_64(merge_64(merge_64(merge_64(h, a), b), c), d);
    }
    h += size;
    for (; rest >= 8; rest -= 8, at += 8) {
        h = nx_rotl64(h ^ round_64(0, nx_load_u64(at)), 27) * P64_1 + P64_4;
    }
    if (rest >= 4) {
        h = nx_rotl64(h ^ (uint64_t)nx_load_u32(at) * P64_1, 23) * P64_2 + P64_3;
        rest -= 4;
        at += 4;
    }
    for (; rest > 0; rest--, at++) {
        h = nx_rotl64(h ^ *at * P64_5, 11) * P64_1;
    }
    return avalanche_64(h);
}

/*
 * XXH3-64, up to 240 bytes
 */

static inline uint64_t secret_u64(size_t offset)
{
    return nx_load_u64(SECRET_BYTES + offset);
}

static inline uint64_t mix_16(const uint8_t *data, size_t secret, uint64_t seed)
{
    return multiply_fold(nx_load_u64(data) ^ (secret_u64(secret) + seed),
                         nx_load_u64(data + 8) ^ (secret_u64(secret + 8) - seed));
}

static uint64_t short_0_16(const uint8_t *data, size_t size, uint64_t seed)
{
    if (size > 8) {
        uint64_t low_flip = (secret_u64(24) ^ secret_u64(32)) + seed;
        uint64_t high_flip = (secret_u64(40) ^ secret_u64(48)) - seed;
        uint64_t low = nx_load_u64(data) ^ low_flip;
        uint64_t high = nx_load_u64(data + size - 8) ^ high_flip;
        return avalanche_3(size + __builtin_bswap64(low) + high + multiply_fold(low, high));
    }
    if (size >= 4) {
        seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
        uint64_t flip = (secret_u64(8) ^ secret_u64(16)) - seed;
        uint64_t x = nx_load_u32(data + size - 4) + ((uint64_t)nx_load_u32(data) << 32);
        x ^= flip;
        x ^= nx_rotl64(x, 49) ^ nx_rotl64(x, 24);
        x *= MX_2;
        x ^= (x >> 35) + size;
        x *= MX_2;
        return x ^ (x >> 28);
    }
    if (size > 0) {
        uint32_t mixed = (uint32_t)data[0] << 16 | (uint32_t)data[size >> 1] << 24 |
                         data[size - 1] | (uint32_t)size << 8;
        uint64_t flip =
            (uint64_t)(nx_load_u32(SECRET_BYTES) ^ nx_load_u32(SECRET_BYTES + 4)) + seed;
        return avalanche_64(mixed ^ flip);
    }
    return avalanche_64(seed ^ secret_u64(56) ^ secret_u64(64));
}

static uint64_t medium_17_128(const uint8_t *data, size_t size, uint64_t seed)
{
    uint64_t h = size * P64_1;

    for (size_t i = (size - 1) / 32 + 1; i-- > 0;) {
        h += mix_16(data + 16 * i, 32 * i, seed);
        h += mix_16(data + size - 16 * (i + 1), 32 * i + 16, seed);
    }
    return avalanche_3(h);
}

static uint64_t medium_129_240(const uint8_t *data, size_t size, uint64_t seed)
{
    uint64_t h = size * P64_1;
    uint64_t end = mix_16(data + size - 16, 136 - 17, seed);

    for (size_t i = 0; i < 8; i++) {
        h += mix_16(data + 16 * i, 16 * i, seed);
    }
    h = avalanche_3(h);
    for (size_t i = 8; i < size / 16; i++) {
        end += mix_16(data + 16 * i, 16 * (i - 8) + 3, seed);
    }
    return avalanche_3(h + end);
}

/*
 * XXH3-64, long inputs: eight 64-bit accumulators over stripes of 64 bytes
 */

/* Whole blocks, each followed by a scramble, then some stripes of the next one. */
typedef void accumulate_kernel(uint64_t acc[8], const uint8_t *data, const uint8_t *secret,
                               size_t blocks, size_t stripes);

static void accumulate_scalar(uint64_t acc[8], const uint8_t *data, const uint8_t *secret,
                              size_t blocks, size_t stripes)
{
    for (size_t b = 0; b <= blocks; b++, data += BLOCK) {
        size_t count = b < blocks ? STRIPES_PER_BLOCK : stripes;
        for (size_t s = 0; s < count; s++) {
            for (size_t i = 0; i < 8; i++) {
                uint64_t value = nx_load_u64(data + STRIPE * s + 8 * i);
                uint64_t key = value ^ nx_load_u64(secret + 8 * s + 8 * i);
                acc[i ^ 1] += value;
                acc[i] += (key & 0xFFFFFFFFu) * (key >> 32);
            }
        }
        for (size_t i = 0; b < blocks && i < 8; i++) {
            uint64_t key = nx_load_u64(secret + SECRET - STRIPE + 8 * i);
            acc[i] = (acc[i] ^ (acc[i] >> 47) ^ key) * P32_1;
        }
    }
}

/* The same on vectors of `n` accumulators. `product` multiplies the low halves of 64-bit lanes;
 * gcc 12 does not find that instruction by itself (4 times slower). */
#define ACCUMULATE(name, target_, n, product, ...)                                                 \
    typedef uint64_t name##_vec __attribute__((vector_size(8 * (n))));                             \
    target_ static void name(uint64_t acc[8], const uint8_t *data, const uint8_t *secret,          \
                             size_t blocks, size_t stripes)                                        \
    {                                                                                              \
        const name##_vec prime = (name##_vec){0} + P32_1;                                          \
        name##_vec sum[8 / (n)], value, key;                                                       \
        UNROLLED for (size_t i = 0; i < 8 / (n); i++)                                              \
        {                                                                                          \
            memcpy(&sum[i], acc + (n) * i, sizeof sum[i]);                                         \
        }                                                                                          \
        for (size_t b = 0; b <= blocks; b++, data += BLOCK) {                                      \
            size_t count = b < blocks ? STRIPES_PER_BLOCK : stripes;                               \
            for (size_t s = 0; s < count; s++) {                                                   \
                __builtin_prefetch(data + STRIPE * s + 512);                                       \
                UNROLLED for (size_t i = 0; i < 8 / (n); i++)                                      \
                {                                                                                  \
                    memcpy(&value, data + STRIPE * s + 8 * (n) * i, sizeof value);                 \
                    memcpy(&key, secret + 8 * s + 8 * (n) * i, sizeof key);                        \
                    key ^= value;                                                                  \
                    sum[i] += (name##_vec)product(key, key >> 32);                                 \
                    sum[i] += SWAP(name##_vec, value, __VA_ARGS__);                                \
                }                                                                                  \
            }                                                                                      \
            UNROLLED for (size_t i = 0; i < 8 / (n); i++)                                          \
            {                                                                                      \
                if (b < blocks) {                                                                  \
                    memcpy(&key, secret + SECRET - STRIPE + 8 * (n) * i, sizeof key);              \
                    key ^= sum[i] ^ (sum[i] >> 47);                                                \
                    sum[i] = (name##_vec)product(key, prime) +                                     \
                             ((name##_vec)product(key >> 32, prime) << 32);                        \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        UNROLLED for (size_t i = 0; i < 8 / (n); i++)                                              \
        {                                                                                          \
            memcpy(acc + (n) * i, &sum[i], sizeof sum[i]);                                         \
        }                                                                                          \
    }
#define UNROLLED _Pragma("GCC unroll 4")

#if defined(__clang__) || __GNUC__ >= 12
#define SWAP(type, x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define SWAP(type, x, ...) __builtin_shuffle(x, (type){__VA_ARGS__})
#endif

#if defined(__x86_64__)
#include <immintrin.h>

#define PRODUCT_2(a, b) _mm_mul_epu32((__m128i)(a), (__m128i)(b))
#define PRODUCT_4(a, b) _mm256_mul_epu32((__m256i)(a), (__m256i)(b))
#define PRODUCT_8(a, b) _mm512_mul_epu32((__m512i)(a), (__m512i)(b))
ACCUMULATE(accumulate_2, , 2, PRODUCT_2, 1, 0)
ACCUMULATE(accumulate_4, __attribute__((target("avx2"))), 4, PRODUCT_4, 1, 0, 3, 2)
ACCUMULATE(accumulate_8, __attribute__((target("avx512f"))), 8, PRODUCT_8, 1, 0, 3, 2, 5, 4, 7, 6)
#elif defined(__aarch64__)
#include <arm_neon.h>

#define PRODUCT_2(a, b) vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b)))
ACCUMULATE(accumulate_2, , 2, PRODUCT_2, 1, 0)
#endif

static accumulate_kernel *accumulate = accumulate_scalar;

void nx_xxh3_select(nx_simd level)
{
    switch (level) {
#if defined(__x86_64__)
    case NX_SIMD_SSE41:
        accumulate = accumulate_2;
        return;
    case NX_SIMD_AVX2:
        accumulate = accumulate_4;
        return;
    case NX_SIMD_AVX512:
        accumulate = accumulate_8;
        return;
#elif defined(__aarch64__)
    case NX_SIMD_NEON:
        accumulate = accumulate_2;
        return;
#endif
    default:
        accumulate = accumulate_scalar;
    }
}

static uint64_t merge(const uint64_t acc[8], const uint8_t *secret, uint64_t start)
{
    for (size_t i = 0; i < 4; i++) {
        start += multiply_fold(acc[2 * i] ^ nx_load_u64(secret + 16 * i),
                               acc[2 * i + 1] ^ nx_load_u64(secret + 16 * i + 8));
    }
    return avalanche_3(start);
}

static uint64_t long_241(const uint8_t *data, size_t size, uint64_t seed)
{
    uint64_t acc[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
    uint8_t seeded[SECRET] NX_ALIGNED(64);
    const uint8_t *secret = SECRET_BYTES;
    size_t blocks = (size - 1) / BLOCK;

    if (seed != 0) {
        for (size_t i = 0; i < SECRET; i += 16) {
            nx_store_u64(seeded + i, secret_u64(i) + seed);
            nx_store_u64(seeded + i + 8, secret_u64(i + 8) - seed);
        }
        secret = seeded;
    }
    accumulate(acc, data, secret, blocks, (size - 1 - BLOCK * blocks) / STRIPE);
    accumulate(acc, data + size - STRIPE, secret + SECRET - STRIPE - 7, 0, 1);
    return merge(acc, secret + 11, size * P64_1);
}

uint64_t nx_xxh3_64_short(const void *data, size_t size, uint64_t seed)
{
    NX_ASSERT(size <= NX_XXH3_SHORT);
    if (size <= 16) {
        return short_0_16(data, size, seed);
    }
    if (size <= 128) {
        return medium_17_128(data, size, seed);
    }
    return medium_129_240(data, size, seed);
}

uint64_t nx_xxh3_64(const void *data, size_t size, uint64_t seed)
{
    return size <= NX_XXH3_SHORT ? nx_xxh3_64_short(data, size, seed) : long_241(data, size, seed);
}
