// SPDX-License-Identifier: Apache-2.0
/* CRC-32C and SipHash straight from their definitions. */
#ifndef NX_FUZZ_PLAIN_HASH_H
#define NX_FUZZ_PLAIN_HASH_H

#include "fuzz.h"

/* RFC 3720, bit by bit. */
static inline uint32_t crc_bits(const uint8_t *data, size_t size)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < 8 * size; i++) {
        uint32_t bit = (crc ^ data[i / 8] >> i % 8) & 1;
        crc = crc >> 1 ^ (bit != 0 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static inline void sip_round(uint64_t v[4], int count)
{
    while (count-- > 0) {
        v[0] += v[1], v[2] += v[3];
        v[1] = nx_rotl64(v[1], 13) ^ v[0], v[3] = nx_rotl64(v[3], 16) ^ v[2];
        v[0] = nx_rotl64(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = nx_rotl64(v[1], 17) ^ v[2], v[3] = nx_rotl64(v[3], 21) ^ v[0];
        v[2] = nx_rotl64(v[2], 32);
    }
}

/* The paper's figure 2.1, with the message padded in memory first. */
static inline uint64_t sip_plain(const uint8_t *key, const uint8_t *data, size_t size, int c, int d)
{
    uint64_t k[2] = {nx_load_u64(key), nx_load_u64(key + 8)};
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575u, k[1] ^ 0x646f72616e646f6du,
                     k[0] ^ 0x6c7967656e657261u, k[1] ^ 0x7465646279746573u};
    size_t padded = size / 8 * 8 + 8;
    uint8_t *message = calloc(1, padded);

    NX_ASSERT(message != NULL);
    if (size != 0) {
        memcpy(message, data, size);
    }
    message[padded - 1] = (uint8_t)size;
    for (size_t i = 0; i < padded; i += 8) {
        v[3] ^= nx_load_u64(message + i);
        sip_round(v, c);
        v[0] ^= nx_load_u64(message + i);
    }
    free(message);
    v[2] ^= 0xff;
    sip_round(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
