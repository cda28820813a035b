// SPDX-License-Identifier: Apache-2.0
#include "nx_siphash.h"

#include <string.h>

typedef struct {
    uint64_t v0, v1, v2, v3;
} state;

NX_INLINE void rounds(state *s, int count)
{
    for (int i = 0; i < count; i++) {
        s->v0 += s->v1;
        s->v1 = nx_rotl64(s->v1, 13) ^ s->v0;
        s->v0 = nx_rotl64(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = nx_rotl64(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = nx_rotl64(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = nx_rotl64(s->v1, 17) ^ s->v2;
        s->v2 = nx_rotl64(s->v2, 32);
    }
}

/* Absorbs the input and its length; `wide` is the mark of the 128-bit variant. */
NX_INLINE state absorb(const uint8_t *key, const uint8_t *data, size_t size, int compress,
                       uint64_t wide)
{
    uint64_t k0 = nx_load_u64(key), k1 = nx_load_u64(key + 8);
    state s = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ wide, k0 ^ 0x6c7967656e657261u,
               k1 ^ 0x7465646279746573u};
    size_t whole = size & ~(size_t)7;
    uint64_t last = 0;

    for (size_t i = 0; i < whole; i += 8) {
        uint64_t m = nx_load_u64(data + i);
        s.v3 ^= m;
        rounds(&s, compress);
        s.v0 ^= m;
    }
    for (size_t i = whole; i < size; i++) {
        last |= (uint64_t)data[i] << (8 * (i - whole));
    }
    last |= (uint64_t)size << 56;
    s.v3 ^= last;
    rounds(&s, compress);
    s.v0 ^= last;
    return s;
}

NX_INLINE uint64_t folded(const state *s)
{
    return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

uint64_t nx_siphash_24(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size)
{
    state s = absorb(key, data, size, 2, 0);

    s.v2 ^= 0xff;
    rounds(&s, 4);
    return folded(&s);
}

uint64_t nx_siphash_13(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size)
{
    state s = absorb(key, data, size, 1, 0);

    s.v2 ^= 0xff;
    rounds(&s, 3);
    return folded(&s);
}

void nx_siphash_24_128(const uint8_t key[NX_SIPHASH_KEY], const void *data, size_t size,
                       uint8_t ret[16])
{
    state s = absorb(key, data, size, 2, 0xee);

    s.v2 ^= 0xee;
    rounds(&s, 4);
    nx_store_u64(ret, folded(&s));
    s.v1 ^= 0xdd;
    rounds(&s, 4);
    nx_store_u64(ret + 8, folded(&s));
}
