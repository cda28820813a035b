// SPDX-License-Identifier: Apache-2.0
/* BLAKE3: every level, every split, many inputs at once and the parts give the scalar digest. */
#include "fuzz.h"
#include "nx_blake3.h"

enum { OUT_MAX = 200, MANY = 18 };

static nx_blake3_mode mode_from(nx_input *in)
{
    nx_blake3_mode mode;
    uint64_t kind = eat(in, 1);
    uint8_t *key = stretch(in, NX_BLAKE3_KEY);

    nx_blake3_mode_hash(&mode);
    if (kind % 3 != 0) {
        (kind % 3 == 1 ? nx_blake3_mode_keyed(key, &mode)
                       : nx_blake3_mode_derive(key, kind % 32, &mode));
    }
    free(key);
    return mode;
}

static void check_stream(const nx_blake3_mode *mode, const uint8_t *data, size_t size,
                         nx_input splits, const uint8_t *want, size_t want_size)
{
    nx_blake3_hasher hasher;
    uint8_t got[OUT_MAX];

    nx_blake3_init(mode, &hasher);
    for (size_t at = 0; at < size;) {
        size_t part = splits.size == 0 ? size : eat(&splits, 1) * 67;
        part = part < size - at ? part : size - at;
        nx_blake3_update(&hasher, data + at, part);
        at += part;
    }
    nx_blake3_finish(&hasher, got, want_size);
    NX_ASSERT(memcmp(got, want, want_size) == 0);
}

/* Inputs cut out of the data, against the same one by one. */
static void check_many(const nx_blake3_mode *mode, const uint8_t *data, size_t size, nx_input rest)
{
    const void *inputs[MANY];
    size_t sizes[MANY], count = eat(&rest, 1) % (MANY + 1);
    uint8_t got[MANY * NX_BLAKE3_OUT], want[NX_BLAKE3_OUT];

    for (size_t i = 0; i < count; i++) {
        sizes[i] = eat(&rest, 2) % (size + 1);
        inputs[i] = data + size - sizes[i];
    }
    nx_blake3_many(mode, inputs, sizes, count, got);
    nx_blake3_select(NX_SIMD_SCALAR);
    for (size_t i = 0; i < count; i++) {
        nx_blake3_digest(mode, inputs[i], sizes[i], want, sizeof want);
        NX_ASSERT(memcmp(got + i * sizeof want, want, sizeof want) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t bytes_size)
{
    nx_input in = {bytes, bytes_size};
    nx_simd levels[5];
    uint8_t want[OUT_MAX], got[OUT_MAX];
    nx_blake3_mode mode = mode_from(&in);
    size_t size = eat(&in, 3) % (eat(&in, 1) == 255 ? 300000 : 5000);
    size_t want_size = 1 + eat(&in, 1) % OUT_MAX;
    uint8_t *data = stretch(&in, size);

    nx_blake3_select(NX_SIMD_SCALAR);
    nx_blake3_digest(&mode, data, size, want, want_size);
    for (unsigned i = 0, count = levels_here(levels); i < count; i++) {
        nx_blake3_select(levels[i]);
        nx_blake3_digest(&mode, data, size, got, want_size);
        NX_ASSERT(memcmp(got, want, want_size) == 0);
        check_stream(&mode, data, size, in, want, want_size);
        check_many(&mode, data, size < 2100 ? size : 2100, in);
    }
    free(data);
    return 0;
}
