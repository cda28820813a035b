// SPDX-License-Identifier: Apache-2.0
/*
 * The garbage of a store: what no tree needs, and packs without it. docs/spec/nexfs-store.md,
 * "Collection", is the authority.
 *
 * Theory of operation. Two bits beside each record of the index: the object is needed, and what it
 * names was followed. Marking walks a tree with a stack of its own and visits each object once,
 * however many trees have it; what a needed block continues is needed, too. An id that has several
 * places is needed at one.
 *
 * A pack with garbage is moved: a block that is needed whole is copied as it is, one that is needed
 * in part is made anew, never deeper than it was, for others may rest on it. Then the pack is
 * dropped from the store, the caller replaces the state and removes the file. Records of packs that
 * are not there mean nothing until a purge takes them out of the index.
 *
 * All of it is the owner's thread's, and nothing is put meanwhile. What is damaged is not moved.
 */
#ifndef NX_SWEEP_H
#define NX_SWEEP_H

#include "nx_store.h"

typedef struct nx_sweep nx_sweep;

typedef struct nx_sweep_pack {
    uint64_t number;
    uint64_t length;
    uint64_t records; /* of the index */
    uint64_t live;    /* of these */
} nx_sweep_pack;

/* The blocks of a pack, in bytes; of a block that is needed in part its share. */
typedef struct nx_sweep_weight {
    uint64_t live;
    uint64_t dead;
    uint64_t stale; /* of `live`: not of the level that the sweep gives */
} nx_sweep_weight;

typedef struct nx_sweep_marks {
    uint64_t live;    /* objects */
    uint64_t missing; /* data that a tree needs and the store does not have */
    uint64_t bytes;   /* of memory that the marks take */
} nx_sweep_marks;

/* From here to the end segments of the index are not merged, and no pack grows that is there. */
int nx_sweep_create(nx_store *store, nx_sweep **ret);
void nx_sweep_destroy(nx_sweep *sweep);

/* Blocks that are moved get this level, if they have another. */
int nx_sweep_set_level(nx_sweep *sweep, int level, int delta_level);

/* Everything that a tree needs. NX_ECORRUPT when a directory or a list is damaged or missing: what
 * is below it is not known, so nothing may be swept. NX_ENOMEM, NX_ESYS, NX_ETIMEOUT. */
int nx_sweep_mark(nx_sweep *sweep, const uint8_t root[NX_OBJECT_ID]);
/* One object that no tree names; NX_EEMPTY. */
int nx_sweep_keep(nx_sweep *sweep, const uint8_t id[NX_OBJECT_ID]);
nx_sweep_marks nx_sweep_marked(const nx_sweep *sweep);

/* All packs with what the index says of them, in memory that the caller frees. */
int nx_sweep_count(const nx_sweep *sweep, nx_sweep_pack **ret, size_t *ret_count);
/* Reads the pack; NX_ECORRUPT if it is damaged: then it should stay as it is. */
int nx_sweep_weigh(nx_sweep *sweep, uint64_t number, nx_sweep_weight *ret);
/* What is needed of a pack is in others, and on the medium. */
int nx_sweep_move(nx_sweep *sweep, uint64_t number);
/* The pack is no part of the store any more; NX_EEMPTY if it was none. */
int nx_sweep_drop(nx_sweep *sweep, uint64_t number);
/* The index without records of packs that are not there, on the medium; how many there were. */
int nx_sweep_purge(nx_sweep *sweep, uint64_t *ret);

#endif
