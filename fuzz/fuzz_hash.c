// SPDX-License-Identifier: Apache-2.0
/* CRC-32C, XXH3, XXH64, SipHash: all levels and splits agree; plain twins; no byte read beyond. */
#include "nx_crc32c.h"
#include "nx_siphash.h"
#include "nx_xxhash.h"
#include "plain_hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t bytes_size)
{
    nx_input in = {bytes, bytes_size};
    nx_simd levels[5];
    uint8_t key[NX_SIPHASH_KEY] = {(uint8_t)eat(&in, 1), 1, 2, (uint8_t)eat(&in, 1)}, wide[16];
    size_t size = eat(&in, 2) % (eat(&in, 1) > 250 ? 16384 : 700), split = eat(&in, 2) % (size + 1);
    uint64_t seed = eat(&in, 1) & 1 ? 0 : eat(&in, 8);
    uint8_t *data = stretch(&in, size);
    uint32_t crc = crc_bits(data, size);

    nx_xxh3_select(NX_SIMD_SCALAR);
    uint64_t xxh3 = nx_xxh3_64(data, size, seed), xxh64 = nx_xxh64(data, size, seed);
    for (unsigned i = 0, count = levels_here(levels); i < count; i++) {
        nx_crc32c_select(levels[i]);
        nx_xxh3_select(levels[i]);
        NX_ASSERT(nx_crc32c(0, data, size) == crc);
        NX_ASSERT(nx_crc32c(nx_crc32c(0, data, split), data + split, size - split) == crc);
        NX_ASSERT(nx_xxh3_64(data, size, seed) == xxh3);
    }
    uint8_t *moved = malloc(size + 1); /* another alignment changes nothing */
    memcpy(moved + 1, data, size);
    NX_ASSERT(nx_xxh64(moved + 1, size, seed) == xxh64 &&
              nx_xxh3_64(moved + 1, size, seed) == xxh3);
    NX_ASSERT(nx_siphash_24(key, data, size) == sip_plain(key, data, size, 2, 4));
    NX_ASSERT(nx_siphash_13(key, data, size) == sip_plain(key, data, size, 1, 3));
    nx_siphash_24_128(key, data, size, wide);
    free(moved);
    free(data);
    return 0;
}
