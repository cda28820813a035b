// SPDX-License-Identifier: Apache-2.0
/*
 * Chance as a function: docs/spec/flash.md, "Draws". Integers only, so that every machine and
 * every C library draws the same.
 */
#include "nx_flash_sim_state.h"

#define GOLDEN 0x9e3779b97f4a7c15u

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

sim_stream sim_draw(uint64_t seed, sim_purpose purpose, uint64_t a, uint64_t b)
{
    uint64_t state = mix(seed + GOLDEN * (uint64_t)purpose);

    state = mix(state + GOLDEN + a);
    state = mix(state + GOLDEN + b);
    return (sim_stream){.state = state};
}

uint64_t sim_next(sim_stream *stream)
{
    stream->state += GOLDEN;
    return mix(stream->state);
}

uint32_t sim_below(sim_stream *stream, uint32_t bound)
{
    return (uint32_t)(((sim_next(stream) >> 32) * bound) >> 32);
}

/* log2 of x / 2^32 for 0 < x < 2^32, negated, 16 bits after the point: square, and shift. */
static uint64_t log2_negated(uint32_t x)
{
    unsigned zeros = (unsigned)__builtin_clz(x);
    uint64_t mantissa = (uint64_t)x << zeros; /* in [2^31, 2^32): 1 <= m < 2 */
    uint64_t fraction = 0;

    for (unsigned bit = 0; bit < 16; bit++) {
        mantissa = (mantissa * mantissa) >> 31;
        fraction <<= 1;
        if (mantissa >= (1ull << 32)) {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    return ((uint64_t)(zeros + 1) << 16) - fraction;
}

uint64_t sim_exponential(sim_stream *stream)
{
    uint32_t x = (uint32_t)(sim_next(stream) >> 32) | 1u;

    return log2_negated(x) * 45426u >> 16; /* ln 2 */
}

/* 2^x for x with 16 bits after the point, x in [-32, 32); a cubic, off by at most 1.1e-4. */
static uint64_t exp2_fixed(int64_t x)
{
    int64_t whole = x >> 16;
    int64_t f = x & 0xffff;
    uint64_t power =
        65536u + (uint64_t)(f * (45575 + (f * (14831 + (f * 5130 >> 16)) >> 16)) >> 16);

    return whole >= 0 ? power << whole : power >> -whole;
}

uint32_t sim_log_normal(sim_stream *stream, uint32_t median, uint32_t sigma)
{
    /* The sum of twelve uniform draws, less six: as good as normal within three sigmas. */
    int64_t normal = -6 * 65536;
    for (unsigned i = 0; i < 12; i++) {
        normal += (int64_t)(sim_next(stream) >> 48);
    }
    /* exp(sigma * normal) = 2^(sigma * normal / ln 2) */
    int64_t exponent = normal * (int64_t)sigma / 1000 * 94548 / 65536;
    if (exponent > 14 * 65536) {
        exponent = 14 * 65536;
    }
    if (exponent < -14 * 65536) {
        exponent = -14 * 65536;
    }
    uint64_t drawn = (exp2_fixed(exponent) * median) >> 16;
    return drawn == 0 ? 1 : drawn > UINT32_MAX ? UINT32_MAX : (uint32_t)drawn;
}
