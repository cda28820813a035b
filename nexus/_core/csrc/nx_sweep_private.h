// SPDX-License-Identifier: Apache-2.0
/* What the files of the sweep share; the theory is in nx_sweep.h. */
#ifndef NX_SWEEP_PRIVATE_H
#define NX_SWEEP_PRIVATE_H

#include "nx_store_private.h"
#include "nx_sweep.h"

#define NX_SWEEP_SEEN 256u

enum { NX_SWEEP_LIVE = 1, NX_SWEEP_WALKED = 2 };

struct nx_sweep {
    nx_store *store;
    uint8_t **bits; /* of each segment that was there at the beginning, two a record */
    size_t covered; /* these segments */
    nx_bytes stack; /* of what is still to be walked: bytes, their size (4), form (1) */
    nx_bytes within;
    uint64_t seen[NX_SWEEP_SEEN]; /* keys of blocks whose bases were pushed */
    nx_sweep_marks marks;
    bool relevel;
};

NX_INLINE unsigned nx_sweep_bits(const nx_sweep *sweep, size_t segment, size_t record)
{
    return (unsigned)sweep->bits[segment][record / 4] >> (record % 4 * 2) & 3u;
}

NX_INLINE void nx_sweep_set(nx_sweep *sweep, size_t segment, size_t record, unsigned bits)
{
    uint8_t *byte = &sweep->bits[segment][record / 4];
    unsigned shift = (unsigned)(record % 4 * 2);

    *byte = (uint8_t)((*byte & ~(3u << shift)) | bits << shift);
}

#endif
