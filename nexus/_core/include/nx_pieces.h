// SPDX-License-Identifier: Apache-2.0
/* The pieces of a file in the store, one after another, through however many levels of lists. */
#ifndef NX_PIECES_H
#define NX_PIECES_H

#include "nx_store.h"
#include "nx_tree.h"

typedef struct nx_pieces {
    nx_store *store;
    nx_list lists[NX_LIST_LEVEL_MAX + 1];
    nx_held held[NX_LIST_LEVEL_MAX + 1];
    uint64_t offset; /* of the next piece */
    uint64_t size;   /* of the file */
    uint32_t depth;  /* lists that are open */
    bool single;     /* one object is all of it */
    uint8_t id[NX_OBJECT_ID];
} nx_pieces;

typedef struct nx_place {
    uint64_t offset;
    uint64_t size;
    bool hole;
    uint8_t id[NX_OBJECT_ID];
} nx_place;

/* Of what an entry of form nothing, data or list says. NX_ECORRUPT, or as nx_store_get. */
int nx_pieces_open(nx_store *store, nx_form form, const uint8_t *id, uint64_t size, nx_pieces *ret);
/* 1 with the next piece, 0 behind the last, or a negative code; sums that differ are corrupt. */
int nx_pieces_next(nx_pieces *pieces, nx_place *ret);
void nx_pieces_close(nx_pieces *pieces);

#endif
