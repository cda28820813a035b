// SPDX-License-Identifier: Apache-2.0
/*
 * The scrub of a store: whether all that lies in its packs is what was written.
 *
 * Theory of operation. Each thread takes a pack and reads it from end to end in large pieces: the
 * head of a block by its CRC, its payload by its gate; `full` decodes each block, too, with what it
 * continues, and compares the id of every object. A damaged head hides where the next block begins:
 * it is looked for at every multiple of 16 bytes, and the stretch between is one damage.
 *
 * It says what is damaged, not who needs it: that is known to whoever knows the trees.
 */
#ifndef NX_SCRUB_H
#define NX_SCRUB_H

#include "nx_store.h"

typedef enum nx_damage {
    NX_DAMAGE_PACK = 1,       /* the first bytes of the pack */
    NX_DAMAGE_HEAD = 2,       /* no block begins where one should */
    NX_DAMAGE_PAYLOAD = 3,    /* a payload fails its gate */
    NX_DAMAGE_CONTENT = 4,    /* a block does not decode to what its ids say */
    NX_DAMAGE_PADDING = 5,    /* what should be zeros */
    NX_DAMAGE_UNREADABLE = 6, /* the pack cannot be read from here on */
} nx_damage;

typedef struct nx_scrubbed {
    uint64_t blocks;
    uint64_t objects;
    uint64_t bytes;
    nx_bytes damage; /* varints: pack, offset, nx_damage; the caller frees it */
} nx_scrubbed;

/* `ret` is zeros before. NX_ENOMEM; NX_ETIMEOUT when the store was cancelled. */
int nx_store_scrub(nx_store *store, bool full, nx_scrubbed *ret);

#endif
