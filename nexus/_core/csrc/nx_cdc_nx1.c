// SPDX-License-Identifier: Apache-2.0
/* Profile nx1 of the chunker: tables, the portable search, and the one of 32 lanes. */
#include "nx_cdc_nx1.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define WINDOW      NX_CDC_NX1_WINDOW
#define TILE        64u
#define WANTED_H    0x5bu
#define WANTED_G    0x21u
#define FILTER_BITS 14u
#define TABLES_SEED UINT64_C(12345)
#define MIX_1       UINT64_C(0x9e3779b97f4a7c15)
#define MIX_2       UINT64_C(0xc2b2ae3d27d4eb4f)

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014) */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void nx_cdc_nx1_init(unsigned strict, unsigned loose, uint64_t seed, nx_cdc *ret)
{
    unsigned filter = loose < FILTER_BITS ? loose : FILTER_BITS;
    uint64_t state = TABLES_SEED ^ seed;

    for (size_t i = 0; i < 16; i++) {
        ret->low[i] = (uint8_t)(draw(&state) >> 40);
    }
    for (size_t i = 0; i < 16; i++) {
        ret->high[i] = (uint8_t)(draw(&state) >> 40);
    }
    ret->mask_h = (uint8_t)(filter < 8 ? (1u << filter) - 1 : 0xff);
    ret->mask_g = (uint8_t)(filter < 8 ? 0 : (1u << (filter - 8)) - 1);
    ret->strict = ((uint64_t)1 << (strict - filter)) - 1;
    ret->loose = ((uint64_t)1 << (loose - filter)) - 1;
}

static inline bool decides(const nx_cdc *cdc, const uint8_t *end, size_t length)
{
    uint64_t x = (nx_load_u64(end - 8) ^ nx_load_u64(end - 16) * MIX_2) * MIX_1;

    x = (x ^ x >> 32) * MIX_2;
    return ((x >> 32) & (length < cdc->average ? cdc->strict : cdc->loose)) == 0;
}

/* The places of a tile that pass the filter; the first one's window begins at `window`. */
static uint64_t filter(const nx_cdc *cdc, const uint8_t *window, size_t count)
{
    uint8_t t[TILE + WINDOW];
    uint8_t u[TILE + WINDOW];
    uint64_t ret = 0;
    size_t size = count + WINDOW - 1;

    for (size_t i = 0; i < size; i++) {
        t[i] = cdc->low[window[i] & 15] ^ cdc->high[window[i] >> 4];
    }
    for (size_t i = 1; i < size; i++) {
        u[i] = (uint8_t)(t[i] + 2 * t[i - 1]);
    }
    for (size_t i = 3; i < size; i++) {
        t[i] = (uint8_t)(u[i] - u[i - 2]);
    }
    for (size_t i = 7; i < size; i++) {
        u[i] = t[i] ^ t[i - 4];
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *x = u + i + WINDOW - 1;
        unsigned h = (uint8_t)(*x + 2 * x[-16]) ^ x[-8];
        unsigned g = (uint8_t)(x[-8] + 2 * x[-24]) ^ x[-16];
        bool passes = ((h ^ WANTED_H) & cdc->mask_h) == 0 && ((g ^ WANTED_G) & cdc->mask_g) == 0;
        ret |= (uint64_t)passes << i;
    }
    return ret;
}

static size_t search_scalar(const nx_cdc *cdc, const uint8_t *before, size_t from, size_t to)
{
    for (size_t at = 0; at < to - from; at += TILE) {
        size_t count = to - from - at < TILE ? to - from - at : TILE;
        uint64_t found = filter(cdc, before + at - WINDOW, count);
        for (; found != 0; found &= found - 1) {
            size_t i = at + (size_t)__builtin_ctzll(found);
            if (decides(cdc, before + i, from + i)) {
                return from + i;
            }
        }
    }
    return to;
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2")))

typedef struct vectors {
    __m256i t, u, w, x; /* of the 32 bytes before */
} vectors;

/* The bytes that lie `distance` before those of `now`. */
#define EARLIER(past, now, distance)                                                               \
    _mm256_alignr_epi8(now, _mm256_permute2x128_si256(past, now, 0x21), 16 - (distance))

/* The places whose windows end with each of the 32 bytes at `bytes`. */
AVX2 static inline uint32_t step(const nx_cdc *cdc, const uint8_t *bytes, vectors *past)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)cdc->low));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)cdc->high));
    __m256i v = _mm256_loadu_si256((const void *)bytes);
    __m256i t = _mm256_xor_si256(
        _mm256_shuffle_epi8(low, _mm256_and_si256(v, nibble)),
        _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(v, 4), nibble)));
    __m256i s = EARLIER(past->t, t, 1);
    __m256i u = _mm256_add_epi8(t, _mm256_add_epi8(s, s));
    __m256i w = _mm256_sub_epi8(u, EARLIER(past->u, u, 2));
    __m256i x = _mm256_xor_si256(w, EARLIER(past->w, w, 4));
    __m256i x16 = _mm256_permute2x128_si256(past->x, x, 0x21);
    __m256i x8 = _mm256_alignr_epi8(x, x16, 8);
    __m256i x24 = _mm256_alignr_epi8(x16, past->x, 8);
    __m256i h = _mm256_xor_si256(_mm256_add_epi8(x, _mm256_add_epi8(x16, x16)), x8);
    __m256i g = _mm256_xor_si256(_mm256_add_epi8(x8, _mm256_add_epi8(x24, x24)), x16);

    *past = (vectors){t, u, w, x};
    h = _mm256_and_si256(_mm256_xor_si256(h, _mm256_set1_epi8(WANTED_H)),
                         _mm256_set1_epi8((char)cdc->mask_h));
    g = _mm256_and_si256(_mm256_xor_si256(g, _mm256_set1_epi8(WANTED_G)),
                         _mm256_set1_epi8((char)cdc->mask_g));
    s = _mm256_cmpeq_epi8(_mm256_or_si256(h, g), _mm256_setzero_si256());
    return (uint32_t)_mm256_movemask_epi8(s);
}

/* Whole vectors of places; the rest is left. */
AVX2 static size_t search_avx2(const nx_cdc *cdc, const uint8_t *before, size_t from, size_t to)
{
    vectors past = {0};
    size_t at;

    if (to - from < 3 * WINDOW) {
        return search_scalar(cdc, before, from, to);
    }
    if (filter(cdc, before - WINDOW, 1) != 0 && decides(cdc, before, from)) {
        return from;
    }
    /* For the windows of all other places; what is wrong in its first bytes is not looked at. */
    (void)step(cdc, before - WINDOW, &past);
    for (at = 1; to - from - at >= 32; at += 32) {
        uint32_t found = step(cdc, before + at - 1, &past);
        for (; NX_UNLIKELY(found != 0); found &= found - 1) {
            size_t i = at + (size_t)__builtin_ctz(found);
            if (decides(cdc, before + i, from + i)) {
                return from + i;
            }
        }
    }
    return search_scalar(cdc, before + at, from + at, to);
}
#endif

static size_t (*chosen)(const nx_cdc *, const uint8_t *, size_t, size_t) = search_scalar;

void nx_cdc_nx1_select(nx_simd level)
{
    chosen = search_scalar;
#if defined(__x86_64__)
    if (level == NX_SIMD_AVX2 || level == NX_SIMD_AVX512) {
        chosen = search_avx2;
    }
#endif
    (void)level;
}

size_t nx_cdc_nx1_search(const nx_cdc *cdc, const uint8_t *before, size_t from, size_t to)
{
    return from < to ? chosen(cdc, before, from, to) : to;
}
