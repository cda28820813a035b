// SPDX-License-Identifier: Apache-2.0
/*
 * Capability spaces of a node: 64 capabilities a fiber, each word in three copies.
 *
 * Rules. A capability is of the fiber's present epoch or it is dead, so that bumping the epoch
 * takes all of them at once and an old index means nothing in a new life. One that is derived never
 * has a right, an object or a bound that its parent lacks, and takes the right to delegate;
 * revoking takes all that was derived, however deep. An index that is revoked is free, and what it
 * is given next is no child of anything the old one had.
 *
 * Decay. A word counts its derivations from a root, and at NX_CSPACE_DEPTH of them the right to
 * delegate is gone: nothing is derived from it. Time takes rights by the epoch alone, all at once.
 *
 * Every read of a word votes on its three copies bit by bit, every write stores all three.
 * No libc, no allocation; single writer.
 */
#ifndef NX_CSPACE_H
#define NX_CSPACE_H

#include "nx_node.h"

#define NX_CSPACE_DEPTH 3u /* the last derivation; it may not delegate */

typedef struct nx_cspace {
    nx_node_cspace *copies[3];
    uint32_t epoch;
} nx_cspace;

/* Takes all capabilities away. */
void nx_cspace_sterilise(nx_cspace *space);

/* Gives a capability: a root when `wanted->parent` is 0, else one derived from index parent - 1.
 * NX_EINVAL: a type that is none, or bounds that are not in order. NX_ESTALE: no such parent.
 * NX_EDENIED: wider than the parent or than the depth allows, or the parent may not delegate.
 * NX_EFULL. */
int nx_cspace_grant(nx_cspace *space, const nx_node_capability *wanted, uint32_t *ret);

/* The word at an index; whether it is alive. */
bool nx_cspace_read(const nx_cspace *space, uint32_t index, nx_node_capability *ret);

/* Takes a capability and all that was derived from it; `ret` is how many. NX_ESTALE. */
int nx_cspace_revoke(nx_cspace *space, uint32_t index, uint32_t *ret);

/* Whether index has all of `rights` on [start, end) of an object. */
bool nx_cspace_check(const nx_cspace *space, uint32_t index, uint8_t rights, uint64_t start,
                     uint64_t end);

#endif
