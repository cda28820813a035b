// SPDX-License-Identifier: Apache-2.0
/* A compressor with zstd's functions, for tests without Python: it writes how often each byte comes
 * in a row, and continues a prefix by leaving out what the prefix begins with. */
#ifndef TOY_ZSTD_H
#define TOY_ZSTD_H

#include "nx_zstd.h"

#include <stdlib.h>
#include <string.h>

typedef struct toy {
    const uint8_t *prefix;
    size_t size;
} toy;

#define TOY_ERROR SIZE_MAX

static void *toy_create(void)
{
    return calloc(1, sizeof(toy));
}

static size_t toy_free(void *context)
{
    free(context);
    return 0;
}

static size_t toy_set(void *context, int parameter, int value)
{
    (void)context;
    return parameter == NX_ZSTD_C_LEVEL && value > NX_ZSTD_LEVEL_MAX ? TOY_ERROR : 0;
}

static size_t toy_prefix(void *context, const void *prefix, size_t size)
{
    *(toy *)context = (toy){.prefix = prefix, .size = size};
    return 0;
}

static size_t shared(const toy *self, const uint8_t *data, size_t size)
{
    size_t n = 0;

    while (n < size && n < self->size && self->prefix[n] == data[n]) {
        n++;
    }
    return n;
}

static size_t toy_compress(void *context, void *ret, size_t room, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint8_t *out = ret;
    size_t at = shared(context, bytes, size);
    size_t n = 4;

    nx_store_u32(out, (uint32_t)at);
    while (at < size) {
        uint8_t run = 1;
        while (run < 255 && at + run < size && bytes[at + run] == bytes[at]) {
            run++;
        }
        if (n + 2 > room) {
            return TOY_ERROR;
        }
        out[n++] = run;
        out[n++] = bytes[at];
        at += run;
    }
    *(toy *)context = (toy){0};
    return n;
}

static size_t toy_decompress(void *context, void *ret, size_t room, const void *data, size_t size)
{
    toy self = *(toy *)context;
    const uint8_t *bytes = data;
    uint8_t *out = ret;
    uint32_t n = size < 4 ? UINT32_MAX : nx_load_u32(bytes);

    *(toy *)context = (toy){0};
    if (n > self.size || n > room) {
        return TOY_ERROR;
    }
    if (n > 0) {
        memcpy(out, self.prefix, n);
    }
    for (size_t i = 4; i + 1 < size; i += 2) {
        if (bytes[i] > room - n) {
            return TOY_ERROR;
        }
        memset(out + n, bytes[i + 1], bytes[i]);
        n += bytes[i];
    }
    return n;
}

static size_t toy_bound(size_t size)
{
    return 2 * size + 16;
}

static unsigned toy_is_error(size_t result)
{
    return result == TOY_ERROR;
}

static const nx_zstd TOY = {
    .create_cctx = toy_create,
    .free_cctx = toy_free,
    .create_dctx = toy_create,
    .free_dctx = toy_free,
    .c_set = toy_set,
    .d_set = toy_set,
    .c_prefix = toy_prefix,
    .d_prefix = toy_prefix,
    .compress = toy_compress,
    .decompress = toy_decompress,
    .bound = toy_bound,
    .is_error = toy_is_error,
};

#endif
