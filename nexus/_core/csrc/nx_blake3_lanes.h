// SPDX-License-Identifier: Apache-2.0
/*
 * The one BLAKE3 kernel, on compiler vector extensions. A file includes it once for each
 * width, with these macros set; they are undefined at the end:
 *
 *   NX_B3_LANES    4, 8 or 16
 *   NX_B3_NAME(x)  the name of x in this instance
 *   NX_B3_TARGET   __attribute__((target("..."))) or nothing: without it the compiler lowers
 *                  the vectors to what the baseline has, so every width runs on every CPU
 *   NX_B3_BYTES    1 if rotations by 8 and 16 are cheaper as byte shuffles (x86 before AVX-512)
 *   NX_B3_STEP     statement run 56 times a block, or nothing: a second, scalar computation
 *                  placed where the vector code leaves issue slots free
 *   NX_B3_COMPRESS another COMPRESS for the uniform kernel, or nothing
 *   NX_B3_ARGS     further parameters of the uniform kernel, or nothing
 *   NX_B3_BEGIN, NX_B3_END  what the second computation does before and after, or nothing
 *   NX_B3_UNIFORM_ONLY      defined: only the uniform kernel is wanted
 *
 * Lane i of vector word w is word w of input i, so a block of each input is transposed on
 * load. Transposition: 4 x 4 inside each 128-bit part by two rounds of unpacking, then whole
 * 128-bit parts move between rows; these are the shuffles that every vector unit has.
 */
#include <string.h>

#if defined(__clang__) || __GNUC__ >= 12
#define NX_B3_SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define NX_B3_SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* gcc 12 leaves the loops of the transposition rolled at -O2; clang unrolls them unasked, where
 * there are registers for it. */
#if defined(__GNUC__) && !defined(__clang__)
#define NX_B3_UNROLL _Pragma("GCC unroll 16")
#else
#define NX_B3_UNROLL
#endif

typedef uint32_t NX_B3_NAME(vec) __attribute__((vector_size(4 * NX_B3_LANES)));
typedef uint64_t NX_B3_NAME(pair) __attribute__((vector_size(4 * NX_B3_LANES)));
typedef uint8_t NX_B3_NAME(bytes) __attribute__((vector_size(4 * NX_B3_LANES)));
#define VEC   NX_B3_NAME(vec)
#define PAIR  NX_B3_NAME(pair)
#define BYTES NX_B3_NAME(bytes)

/* Index lists, one 128-bit part at a time; n is the lane count (second operand starts there). */
#if NX_B3_LANES == 4
#define LOW32(n)  0, n, 1, n + 1
#define HIGH32(n) 2, n + 2, 3, n + 3
#define LOW64(n)  0, n
#define HIGH64(n) 1, n + 1
#elif NX_B3_LANES == 8
#define LOW32(n)   0, n, 1, n + 1, 4, n + 4, 5, n + 5
#define HIGH32(n)  2, n + 2, 3, n + 3, 6, n + 6, 7, n + 7
#define LOW64(n)   0, n, 2, n + 2
#define HIGH64(n)  1, n + 1, 3, n + 3
#define LOW128(n)  0, 1, n, n + 1
#define HIGH128(n) 2, 3, n + 2, n + 3
#else
#define LOW32(n) 0, n, 1, n + 1, 4, n + 4, 5, n + 5, 8, n + 8, 9, n + 9, 12, n + 12, 13, n + 13
#define HIGH32(n)                                                                                  \
    2, n + 2, 3, n + 3, 6, n + 6, 7, n + 7, 10, n + 10, 11, n + 11, 14, n + 14, 15, n + 15
#define LOW64(n)   0, n, 2, n + 2, 4, n + 4, 6, n + 6
#define HIGH64(n)  1, n + 1, 3, n + 3, 5, n + 5, 7, n + 7
/* Two rounds: even and odd parts of two rows. */
#define LOW128(n)  0, 1, 4, 5, n, n + 1, n + 4, n + 5
#define HIGH128(n) 2, 3, 6, 7, n + 2, n + 3, n + 6, n + 7
#endif

#define ROT16_BYTES(o)                                                                             \
    o + 2, o + 3, o, o + 1, o + 6, o + 7, o + 4, o + 5, o + 10, o + 11, o + 8, o + 9, o + 14,      \
        o + 15, o + 12, o + 13
#define ROT8_BYTES(o)                                                                              \
    o + 1, o + 2, o + 3, o, o + 5, o + 6, o + 7, o + 4, o + 9, o + 10, o + 11, o + 8, o + 13,      \
        o + 14, o + 15, o + 12
#define SHIFT_ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))

#if NX_B3_BYTES && NX_B3_LANES == 4
#define ROT16(x) ((VEC)NX_B3_SHUFFLE(BYTES, (BYTES)(x), (BYTES)(x), ROT16_BYTES(0)))
#define ROT8(x)  ((VEC)NX_B3_SHUFFLE(BYTES, (BYTES)(x), (BYTES)(x), ROT8_BYTES(0)))
#elif NX_B3_BYTES && NX_B3_LANES == 8
/* The shuffle masks stay in memory: as constants they occupy 2 of 16 registers, and the
 * spills that this causes cost a quarter of the speed (gcc 12, Zen 3). */
static const uint8_t NX_B3_NAME(mask16)[32] NX_ALIGNED(32) = {ROT16_BYTES(0), ROT16_BYTES(0)};
static const uint8_t NX_B3_NAME(mask8)[32] NX_ALIGNED(32) = {ROT8_BYTES(0), ROT8_BYTES(0)};

NX_INLINE NX_B3_TARGET VEC NX_B3_NAME(shuffled)(VEC x, const uint8_t *mask)
{
    VEC ret;

    __asm__("vpshufb %2, %1, %0" : "=x"(ret) : "x"(x), "m"(*(const VEC *)(const void *)mask));
    return ret;
}

#define ROT16(x) NX_B3_NAME(shuffled)(x, NX_B3_NAME(mask16))
#define ROT8(x)  NX_B3_NAME(shuffled)(x, NX_B3_NAME(mask8))
#else
#define ROT16(x) SHIFT_ROTATE(x, 16)
#define ROT8(x)  SHIFT_ROTATE(x, 8)
#endif

#define UNPACK32(list, a, b) NX_B3_SHUFFLE(VEC, a, b, list(NX_B3_LANES))
#define UNPACK64(list, a, b) ((VEC)NX_B3_SHUFFLE(PAIR, (PAIR)(a), (PAIR)(b), list(NX_B3_LANES / 2)))

#ifndef NX_B3_STEP
#define NX_B3_STEP
#endif
#ifndef NX_B3_COMPRESS
#define NX_B3_COMPRESS COMPRESS
#endif
#ifndef NX_B3_ARGS
#define NX_B3_ARGS
#endif
#ifndef NX_B3_BEGIN
#define NX_B3_BEGIN
#define NX_B3_END
#endif

/* Four rows become four columns inside each 128-bit part. */
NX_INLINE NX_B3_TARGET void NX_B3_NAME(transpose4)(VEC *r)
{
    VEC a = UNPACK32(LOW32, r[0], r[1]);
    VEC b = UNPACK32(HIGH32, r[0], r[1]);
    VEC c = UNPACK32(LOW32, r[2], r[3]);
    VEC d = UNPACK32(HIGH32, r[2], r[3]);

    r[0] = UNPACK64(LOW64, a, c);
    r[1] = UNPACK64(HIGH64, a, c);
    r[2] = UNPACK64(LOW64, b, d);
    r[3] = UNPACK64(HIGH64, b, d);
}

/* Word w of every input's block into m[w]. Unrolled, so that the rows stay in registers: from
 * memory and back they cost 8 lanes on Zen 3 a tenth of the speed, and a fifth on a shared core. */
NX_INLINE NX_B3_TARGET void NX_B3_NAME(load)(const uint8_t *const from[NX_B3_LANES], VEC m[16])
{
#if NX_B3_LANES == 4
    NX_B3_UNROLL
    for (int part = 0; part < 4; part++) {
        VEC *row = m + 4 * part;
        NX_B3_UNROLL
        for (int i = 0; i < 4; i++) {
            memcpy(&row[i], from[i] + 16 * part, sizeof row[i]);
        }
        NX_B3_NAME(transpose4)(row);
    }
#elif NX_B3_LANES == 8
    NX_B3_UNROLL
    for (int part = 0; part < 2; part++) {
        VEC row[8];
        NX_B3_UNROLL
        for (int i = 0; i < 8; i++) {
            memcpy(&row[i], from[i] + 32 * part, sizeof row[i]);
        }
        NX_B3_NAME(transpose4)(row);
        NX_B3_NAME(transpose4)(row + 4);
        NX_B3_UNROLL
        for (int c = 0; c < 4; c++) {
            m[8 * part + c] = UNPACK64(LOW128, row[c], row[4 + c]);
            m[8 * part + 4 + c] = UNPACK64(HIGH128, row[c], row[4 + c]);
        }
    }
#else
    VEC row[16];
    NX_B3_UNROLL
    for (int i = 0; i < 16; i++) {
        memcpy(&row[i], from[i], sizeof row[i]);
    }
    NX_B3_UNROLL
    for (int g = 0; g < 4; g++) {
        NX_B3_NAME(transpose4)(row + 4 * g);
    }
    NX_B3_UNROLL
    for (int c = 0; c < 4; c++) {
        VEC even_a = UNPACK64(LOW128, row[c], row[4 + c]);
        VEC odd_a = UNPACK64(HIGH128, row[c], row[4 + c]);
        VEC even_b = UNPACK64(LOW128, row[8 + c], row[12 + c]);
        VEC odd_b = UNPACK64(HIGH128, row[8 + c], row[12 + c]);
        m[c] = UNPACK64(LOW128, even_a, even_b);
        m[4 + c] = UNPACK64(LOW128, odd_a, odd_b);
        m[8 + c] = UNPACK64(HIGH128, even_a, even_b);
        m[12 + c] = UNPACK64(HIGH128, odd_a, odd_b);
    }
#endif
}

/* Four independent quarter rounds, step by step side by side: written one after the other
 * they leave the vector units waiting (measured 1.3 times slower on Zen 3). */
#define EACH(f, p, q, r, s)          f p, f q, f r, f s
#define ADD_FIRST(a, b, c, d, x, y)  a = (a + (x)) + b
#define ADD_SECOND(a, b, c, d, x, y) a = (a + (y)) + b
#define TURN_16(a, b, c, d, x, y)    d = ROT16(d ^ a)
#define TURN_8(a, b, c, d, x, y)     d = ROT8(d ^ a)
#define ADD_THIRD(a, b, c, d, x, y)  c = c + d
#define MIX(a, b, c, d, x, y)        b = b ^ c
#define TURN_12(a, b, c, d, x, y)    b = SHIFT_ROTATE(b, 12)
#define TURN_7(a, b, c, d, x, y)     b = SHIFT_ROTATE(b, 7)
#define HALF_ROUND(p, q, r, s)                                                                     \
    do {                                                                                           \
        EACH(ADD_FIRST, p, q, r, s);                                                               \
        EACH(TURN_16, p, q, r, s);                                                                 \
        NX_B3_STEP;                                                                                \
        EACH(ADD_THIRD, p, q, r, s);                                                               \
        EACH(MIX, p, q, r, s);                                                                     \
        EACH(TURN_12, p, q, r, s);                                                                 \
        NX_B3_STEP;                                                                                \
        EACH(ADD_SECOND, p, q, r, s);                                                              \
        EACH(TURN_8, p, q, r, s);                                                                  \
        NX_B3_STEP;                                                                                \
        EACH(ADD_THIRD, p, q, r, s);                                                               \
        EACH(MIX, p, q, r, s);                                                                     \
        EACH(TURN_7, p, q, r, s);                                                                  \
        NX_B3_STEP;                                                                                \
    } while (0)

#define ROUND(i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, ia, ib, ic, id, ie, if_)                     \
    do {                                                                                           \
        HALF_ROUND((v0, v4, v8, vc, m[i0], m[i1]), (v1, v5, v9, vd, m[i2], m[i3]),                 \
                   (v2, v6, va, ve, m[i4], m[i5]), (v3, v7, vb, vf, m[i6], m[i7]));                \
        HALF_ROUND((v0, v5, va, vf, m[i8], m[i9]), (v1, v6, vb, vc, m[ia], m[ib]),                 \
                   (v2, v7, v8, vd, m[ic], m[id]), (v3, v4, v9, ve, m[ie], m[if_]));               \
    } while (0)

/* The seven rounds, section 2.2; the index lists are the powers of the permutation. */
#define COMPRESS(cv, m, low, high, sizes, flags)                                                   \
    do {                                                                                           \
        VEC v0 = cv[0], v1 = cv[1], v2 = cv[2], v3 = cv[3];                                        \
        VEC v4 = cv[4], v5 = cv[5], v6 = cv[6], v7 = cv[7];                                        \
        VEC v8 = (VEC){0} + nx_blake3_iv[0], v9 = (VEC){0} + nx_blake3_iv[1];                      \
        VEC va = (VEC){0} + nx_blake3_iv[2], vb = (VEC){0} + nx_blake3_iv[3];                      \
        VEC vc = (low), vd = (high), ve = (sizes), vf = (flags);                                   \
        ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                               \
        ROUND(2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);                               \
        ROUND(3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);                               \
        ROUND(10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);                               \
        ROUND(12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);                               \
        ROUND(9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);                               \
        ROUND(11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);                               \
        cv[0] = v0 ^ v8, cv[1] = v1 ^ v9, cv[2] = v2 ^ va, cv[3] = v3 ^ vb;                        \
        cv[4] = v4 ^ vc, cv[5] = v5 ^ vd, cv[6] = v6 ^ ve, cv[7] = v7 ^ vf;                        \
    } while (0)

/* Chaining value i into ret[32 i]: transposed back in the same way. */
NX_INLINE NX_B3_TARGET void NX_B3_NAME(store)(VEC cv[8], uint8_t *ret)
{
    NX_B3_NAME(transpose4)(cv);
    NX_B3_NAME(transpose4)(cv + 4);
    NX_B3_UNROLL
    for (int c = 0; c < 4; c++) {
#if NX_B3_LANES == 8
        VEC low = UNPACK64(LOW128, cv[c], cv[4 + c]);
        VEC high = UNPACK64(HIGH128, cv[c], cv[4 + c]);
        memcpy(ret + 32 * c, &low, 32);
        memcpy(ret + 32 * (4 + c), &high, 32);
#else
        NX_B3_UNROLL
        for (int part = 0; part < NX_B3_LANES / 4; part++) {
            memcpy(ret + 32 * (4 * part + c), (const char *)&cv[c] + 16 * part, 16);
            memcpy(ret + 32 * (4 * part + c) + 16, (const char *)&cv[4 + c] + 16 * part, 16);
        }
#endif
    }
}

#ifndef NX_B3_UNIFORM_ONLY
/* Ragged lanes: last block of each lane zero padded in `tail`, its index in `last`. */
static NX_B3_TARGET unsigned NX_B3_NAME(prepare)(const nx_blake3_batch *batch,
                                                 uint8_t tail[][NX_BLAKE3_BLOCK],
                                                 uint32_t last[NX_B3_LANES])
{
    uint32_t blocks = 0;

    memset(tail, 0, NX_B3_LANES * NX_BLAKE3_BLOCK);
    for (int i = 0; i < NX_B3_LANES; i++) {
        uint32_t size = batch->size[i];
        last[i] = size == 0 ? 0 : (size - 1) / NX_BLAKE3_BLOCK;
        if (size != 0) {
            memcpy(tail[i], batch->data[i] + last[i] * NX_BLAKE3_BLOCK,
                   size - last[i] * NX_BLAKE3_BLOCK);
        }
        blocks = last[i] + 1 > blocks ? last[i] + 1 : blocks;
    }
    return blocks;
}

static NX_NOINLINE NX_B3_TARGET void NX_B3_NAME(ragged)(const nx_blake3_batch *batch,
                                                        const nx_blake3_mode *mode, uint8_t *ret)
{
    uint8_t tail[NX_B3_LANES][NX_BLAKE3_BLOCK];
    uint32_t last[NX_B3_LANES];
    uint32_t low[NX_B3_LANES], high[NX_B3_LANES];
    VEC cv[8], counters[2];
    unsigned blocks = NX_B3_NAME(prepare)(batch, tail, last);

    for (int i = 0; i < NX_B3_LANES; i++) {
        low[i] = (uint32_t)batch->counter[i];
        high[i] = (uint32_t)(batch->counter[i] >> 32);
    }
    memcpy(&counters[0], low, sizeof low);
    memcpy(&counters[1], high, sizeof high);
    for (int w = 0; w < 8; w++) {
        cv[w] = (VEC){0} + mode->key[w];
    }
    for (unsigned b = 0; b < blocks; b++) {
        const uint8_t *from[NX_B3_LANES];
        uint32_t sizes[NX_B3_LANES], flags[NX_B3_LANES], keep[NX_B3_LANES];
        VEC m[16], size, flag, kept, old[8];

        for (int i = 0; i < NX_B3_LANES; i++) {
            bool ends = b >= last[i];
            from[i] = ends ? tail[i] : batch->data[i] + b * NX_BLAKE3_BLOCK;
            sizes[i] = ends ? batch->size[i] - last[i] * NX_BLAKE3_BLOCK : NX_BLAKE3_BLOCK;
            flags[i] = mode->flags | (b == 0 ? NX_BLAKE3_CHUNK_START : 0u) |
                       (ends ? NX_BLAKE3_CHUNK_END | batch->flags_end[i] : 0u);
            keep[i] = b > last[i] ? ~0u : 0u;
        }
        memcpy(&size, sizes, sizeof size);
        memcpy(&flag, flags, sizeof flag);
        memcpy(&kept, keep, sizeof kept);
        memcpy(old, cv, sizeof old);
        NX_B3_NAME(load)(from, m);
        COMPRESS(cv, m, counters[0], counters[1], size, flag);
        for (int w = 0; w < 8; w++) {
            cv[w] = (old[w] & kept) | (cv[w] & ~kept);
        }
    }
    NX_B3_NAME(store)(cv, ret);
}

#endif

#ifndef NX_SMALL
static NX_NOINLINE NX_B3_TARGET void NX_B3_NAME(uniform)(const nx_blake3_batch *batch,
                                                         const nx_blake3_mode *mode,
                                                         uint8_t *ret NX_B3_ARGS)
{
    uint32_t low[NX_B3_LANES], high[NX_B3_LANES];
    const uint8_t *from[NX_B3_LANES];
    VEC cv[8], counters[2], m[16];

    for (int i = 0; i < NX_B3_LANES; i++) {
        low[i] = (uint32_t)batch->counter[i];
        high[i] = (uint32_t)(batch->counter[i] >> 32);
        from[i] = batch->data[i];
    }
    memcpy(&counters[0], low, sizeof low);
    memcpy(&counters[1], high, sizeof high);
    for (int w = 0; w < 8; w++) {
        cv[w] = (VEC){0} + mode->key[w];
    }
    NX_B3_BEGIN
    for (unsigned b = 0; b < NX_BLAKE3_LEAF / NX_BLAKE3_BLOCK; b++) {
        uint32_t flags = mode->flags | (b == 0 ? NX_BLAKE3_CHUNK_START : 0u) |
                         (b == 15 ? NX_BLAKE3_CHUNK_END : 0u);
        /* So many streams defeat the hardware prefetcher. The last blocks of a leaf ask for
         * the first of the leaf that this lane takes next in one long input. */
        size_t ahead = 3 * NX_BLAKE3_BLOCK + (b < 12 ? 0 : (NX_B3_LANES - 1) * NX_BLAKE3_LEAF);

        NX_B3_NAME(load)(from, m);
        NX_B3_UNROLL
        for (int i = 0; i < NX_B3_LANES; i++) {
            from[i] += NX_BLAKE3_BLOCK;
            __builtin_prefetch(from[i] + ahead);
        }
        NX_B3_COMPRESS(cv, m, counters[0], counters[1], (VEC){0} + NX_BLAKE3_BLOCK,
                       (VEC){0} + flags);
    }
    NX_B3_END
    NX_B3_NAME(store)(cv, ret);
}
#endif

#ifndef NX_B3_UNIFORM_ONLY
static NX_B3_TARGET void NX_B3_NAME(leaves)(const nx_blake3_batch *batch,
                                            const nx_blake3_mode *mode, bool uniform, uint8_t *ret)
{
#ifndef NX_SMALL
    if (uniform) {
        NX_B3_NAME(uniform)(batch, mode, ret);
        return;
    }
#endif
    (void)uniform;
    NX_B3_NAME(ragged)(batch, mode, ret);
}

#ifndef NX_SMALL
static NX_NOINLINE NX_B3_TARGET void NX_B3_NAME(parents)(const uint8_t *cvs,
                                                         const nx_blake3_mode *mode, uint8_t *ret)
{
    const uint8_t *from[NX_B3_LANES];
    VEC cv[8], m[16];

    for (int i = 0; i < NX_B3_LANES; i++) {
        from[i] = cvs + NX_BLAKE3_BLOCK * (size_t)i;
    }
    for (int w = 0; w < 8; w++) {
        cv[w] = (VEC){0} + mode->key[w];
    }
    NX_B3_NAME(load)(from, m);
    COMPRESS(cv, m, (VEC){0}, (VEC){0}, (VEC){0} + NX_BLAKE3_BLOCK,
             (VEC){0} + (mode->flags | NX_BLAKE3_PARENT));
    NX_B3_NAME(store)(cv, ret);
}
#endif
#endif

#undef VEC
#undef PAIR
#undef BYTES
#undef LOW32
#undef HIGH32
#undef LOW64
#undef HIGH64
#undef LOW128
#undef HIGH128
#undef ROT16_BYTES
#undef ROT8_BYTES
#undef ROT16
#undef ROT8
#undef SHIFT_ROTATE
#undef UNPACK32
#undef UNPACK64
#undef EACH
#undef ADD_FIRST
#undef ADD_SECOND
#undef ADD_THIRD
#undef TURN_16
#undef TURN_12
#undef TURN_8
#undef TURN_7
#undef MIX
#undef HALF_ROUND
#undef ROUND
#undef COMPRESS
#undef NX_B3_SHUFFLE
#undef NX_B3_UNROLL
#undef NX_B3_LANES
#undef NX_B3_NAME
#undef NX_B3_TARGET
#undef NX_B3_BYTES
#undef NX_B3_STEP
#undef NX_B3_COMPRESS
#undef NX_B3_BEGIN
#undef NX_B3_END
#undef NX_B3_ARGS
#undef NX_B3_UNIFORM_ONLY
