// SPDX-License-Identifier: Apache-2.0
/*
 * The capability table: unforgeable rights that can be narrowed, checked and revoked.
 *
 * An entry has a hot half of 16 bytes, which a check reads with one 8-byte load, and a cold half
 * of links to parent, first child and siblings, which only derivation and revocation touch. A
 * handle is generation << 32 | index. A live entry has an odd generation; revocation makes it
 * even and reuse makes it odd again, so a handle kept by a former holder never matches. A slot
 * whose generation is used up is retired for ever rather than wrapped.
 *
 * Derivation only narrows: a child's rights are a subset of its parent's, and the parent must hold
 * NX_RIGHT_DELEGATE. Revocation takes the entry and everything derived from it, without recursion
 * and without a stack: the links themselves are the way back.
 *
 * The table keeps a digest of all hot entries, changed in step with every mutation. An audit
 * computes it afresh: a difference means that memory changed without passing through here. It finds
 * a single flipped bit always (but for two object names in 2^64) and random faults with probability
 * 1 - 2^-64; it is no defence against an adversary who can write the table.
 *
 * Single writer. Not handled here: who may call mint and revoke (policy), and the 64 slots of a
 * fiber's CSpace (another object). No libc, no allocation: memory is the caller's.
 */
#ifndef NX_CAPABILITY_H
#define NX_CAPABILITY_H

#include "nx_base.h"

enum {
    NX_RIGHT_READ = 1 << 0,
    NX_RIGHT_WRITE = 1 << 1,
    NX_RIGHT_EXECUTE = 1 << 2,
    NX_RIGHT_MAP = 1 << 3,
    NX_RIGHT_DELEGATE = 1 << 4,
    NX_RIGHT_REVOKE = 1 << 5,
    NX_RIGHT_COPY = 1 << 6,
    NX_RIGHT_SPAWN = 1 << 7,
};

#define NX_CAPABILITY_CAPACITY_MAX (1u << 24)
#define NX_CAPABILITY_NONE         UINT32_MAX

typedef struct nx_capability {
    uint32_t generation; /* odd: live; even: free or retired */
    uint16_t rights;
    uint8_t type;
    uint8_t domain;
    uint64_t object;
} nx_capability;

NX_STATIC_ASSERT(sizeof(nx_capability) == 16, "a hot entry is a quarter of a cache line");
NX_STATIC_ASSERT(offsetof(nx_capability, rights) == 4, "generation and rights share a load");
NX_STATIC_ASSERT(offsetof(nx_capability, object) == 8, "object is the second word");
NX_STATIC_ASSERT(__alignof__(nx_capability) == 8, "a word is one load");

typedef struct nx_capability_links {
    uint32_t parent;
    uint32_t child;
    uint32_t next; /* sibling, or next free entry */
    uint32_t previous;
} nx_capability_links;

typedef struct nx_capability_table {
    nx_capability *hot;
    nx_capability_links *cold;
    uint32_t capacity;
    uint32_t live;
    uint32_t retired;
    uint32_t free_head;
    uint64_t digest;
} nx_capability_table;

typedef struct nx_capability_audit {
    uint64_t digest;   /* computed from the entries */
    uint64_t expected; /* kept in step by the mutations */
    uint32_t live;
    uint32_t retired;
} nx_capability_audit;

/* Takes `capacity` zeroed or dirty elements of both arrays; NX_EINVAL outside 1..CAPACITY_MAX. */
int nx_capability_table_init(nx_capability_table *table, nx_capability *hot,
                             nx_capability_links *cold, uint32_t capacity);

/* Makes a root capability. NX_EFULL when no slot is free. */
int nx_capability_mint(nx_capability_table *table, nx_capability what, uint64_t *ret);

/* Makes a narrower child. NX_ESTALE for a dead parent, NX_EDENIED for a wider right or a parent
 * without NX_RIGHT_DELEGATE, NX_EFULL when no slot is free. */
int nx_capability_derive(nx_capability_table *table, uint64_t parent, uint16_t rights,
                         uint64_t *ret);

/* Copies the entry of a live handle; NX_ESTALE otherwise. */
int nx_capability_lookup(const nx_capability_table *table, uint64_t handle, nx_capability *ret);

/* Revokes all descendants, and the entry itself if `self`; `ret` is how many died. NX_ESTALE for
 * a dead handle. NX_ECORRUPT when the links contradict themselves: what was reached before is
 * revoked, and the caller must stop trusting the table. */
int nx_capability_revoke(nx_capability_table *table, uint64_t handle, bool self, uint32_t *ret);

/* One byte per handle: 1 when it is live and has all of `rights`. Returns how many are. */
size_t nx_capability_check_many(const nx_capability_table *table, const uint64_t *handles,
                                size_t count, uint16_t rights, uint8_t *ret);

/* Recomputes digest and counts from the entries. */
void nx_capability_table_audit(const nx_capability_table *table, nx_capability_audit *ret);

/* The first word of an entry. That it is aligned matters to CPUs that load nothing else. */
NX_INLINE uint64_t nx_capability_word(const nx_capability_table *table, uint32_t index)
{
    return nx_load_u64(__builtin_assume_aligned(&table->hot[index], 8));
}

/* Whether a handle is live and has all of `rights`. Any 64-bit value may be asked about. */
NX_INLINE bool nx_capability_check(const nx_capability_table *table, uint64_t handle,
                                   uint16_t rights)
{
    uint32_t index = (uint32_t)handle;
    uint32_t generation = (uint32_t)(handle >> 32);

    if (NX_UNLIKELY(index >= table->capacity)) {
        return false;
    }
    uint64_t word = nx_capability_word(table, index);
    uint16_t held = (uint16_t)(word >> 32);
    return (uint32_t)word == generation && (generation & 1) != 0 && (held & rights) == rights;
}

#endif
