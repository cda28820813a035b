// SPDX-License-Identifier: Apache-2.0
/*
 * The index of a store from its packs alone.
 *
 * Theory of operation. Every pack is read from end to end, and the tables of its blocks become the
 * records of one new segment; those there were are not looked at. Behind a damaged head the next
 * block is looked for at every multiple of 16 bytes. What is found so may be bytes of a file that
 * look like a block: it is believed only if it decodes to what its ids say, which is asked when all
 * the others are in the index, for it may continue them.
 *
 * It needs the memory of the index twice. Nothing is changed on the medium but a new segment's file
 * until a state names it.
 */
#ifndef NX_REINDEX_H
#define NX_REINDEX_H

#include "nx_store.h"

/* With nothing put that was not flushed. NX_ENOMEM, NX_ESYS; NX_ETIMEOUT when it was cancelled. */
int nx_store_reindex(nx_store *store, uint64_t *ret_records);

#endif
