// SPDX-License-Identifier: Apache-2.0
/*
 * The functions of zstd that the store calls, as pointers: the library is not linked. They are
 * found in the module of the PyPI package `zstandard`, which carries one (physics/zstd.py).
 */
#ifndef NX_ZSTD_H
#define NX_ZSTD_H

#include "nx_base.h"

#define NX_ZSTD_LEVEL_MIN (-7)
#define NX_ZSTD_LEVEL_MAX 22

/* Parameters and directives of zstd.h that are stable since 1.4. */
enum {
    NX_ZSTD_C_LEVEL = 100,
    NX_ZSTD_C_WINDOW_LOG = 101,
    NX_ZSTD_D_WINDOW_LOG_MAX = 100,
};

/* In the order in which physics/zstd.py names them. */
typedef struct nx_zstd {
    void *(*create_cctx)(void);
    size_t (*free_cctx)(void *context);
    void *(*create_dctx)(void);
    size_t (*free_dctx)(void *context);
    size_t (*c_set)(void *context, int parameter, int value);
    size_t (*d_set)(void *context, int parameter, int value);
    size_t (*c_prefix)(void *context, const void *prefix, size_t size);
    size_t (*d_prefix)(void *context, const void *prefix, size_t size);
    size_t (*compress)(void *context, void *ret, size_t room, const void *data, size_t size);
    size_t (*decompress)(void *context, void *ret, size_t room, const void *data, size_t size);
    size_t (*bound)(size_t size);
    unsigned (*is_error)(size_t result);
} nx_zstd;

#define NX_ZSTD_FUNCTIONS (sizeof(nx_zstd) / sizeof(void (*)(void)))

#endif
