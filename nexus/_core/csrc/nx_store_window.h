// SPDX-License-Identifier: Apache-2.0
/* A pack that is read from end to end, in large pieces. */
#ifndef NX_STORE_WINDOW_H
#define NX_STORE_WINDOW_H

#include "nx_store_private.h"

#define NX_WINDOW      (4u << 20)  /* more than the largest block */
#define NX_PACK_MAGIC  0x4b50584eu /* "NXPK" */
#define NX_PACK_HEADER 32u

_Static_assert(NX_BLOCK_HEAD_MAX + NX_BLOCK_RAW_MAX + NX_BLOCK_SPARE + NX_BLOCK_ALIGN <= NX_WINDOW,
               "a block fits into the window");

/* A part of a pack in memory. */
typedef struct nx_window {
    nx_store *store;
    uint8_t *bytes; /* NX_WINDOW of them, the caller's */
    uint64_t pack;
    uint64_t length;
    uint64_t at;
    uint64_t size;
} nx_window;

/* NX_ECORRUPT unless the pack begins as it should. */
int nx_window_header(nx_window *window);
/* The block at `at`, whole in the window from bytes[at - window->at] on: NX_ECORRUPT if there is
 * none. */
int nx_window_block(nx_window *window, uint64_t at, nx_block *ret);

#endif
