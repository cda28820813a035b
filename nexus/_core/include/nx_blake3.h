// SPDX-License-Identifier: Apache-2.0
/*
 * BLAKE3: hash, keyed hash, key derivation and extended output, written from the
 * specification (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function,
 * fast everywhere", 2020).
 *
 * Theory of operation. An input is cut into leaves of 1,024 bytes; the chaining
 * values (32 bytes) of leaves are joined in pairs to a left-full binary tree. Leaves
 * and parents of one level are independent, so `lanes` of them are hashed at once,
 * one in each lane of a vector. Pairing each level from the left and carrying an odd
 * node up unchanged yields exactly the tree of the specification (section 2.1), which
 * lets all the code here work level by level, without recursion.
 *
 * A leaf batch may hold leaves of different inputs and of any length and counter, so
 * many short inputs, scattered dirty leaves and the leaves of neighbouring chunks
 * share the lanes.
 *
 * Guarantees: same bytes on every SIMD level; no allocation; no global state but the
 * kernel table that nx_blake3_select sets. Not handled: seeking in extended output,
 * constant-time behaviour towards the *length* of the input, wiping of keys.
 */
#ifndef NX_BLAKE3_H
#define NX_BLAKE3_H

#include "nx_base.h"
#include "nx_simd.h"

#define NX_BLAKE3_OUT       32u
#define NX_BLAKE3_KEY       32u
#define NX_BLAKE3_BLOCK     64u
#define NX_BLAKE3_LEAF      1024u
#define NX_BLAKE3_LANES_MAX 16u
#define NX_BLAKE3_GROUP     256u /* leaves that are joined level by level at once */
#define NX_BLAKE3_DEPTH_MAX 54u  /* levels of the largest input, 2^64 bytes */
#define NX_BLAKE3_QUEUE     64u  /* leaves a batcher holds back at most */

/* Domain flags, table 3 of the specification. */
enum {
    NX_BLAKE3_CHUNK_START = 1,
    NX_BLAKE3_CHUNK_END = 2,
    NX_BLAKE3_PARENT = 4,
    NX_BLAKE3_ROOT = 8,
    NX_BLAKE3_KEYED_HASH = 16,
    NX_BLAKE3_DERIVE_KEY_CONTEXT = 32,
    NX_BLAKE3_DERIVE_KEY_MATERIAL = 64,
};

/* What distinguishes hash, keyed hash and derive key. */
typedef struct {
    uint32_t key[8];
    uint32_t flags;
} nx_blake3_mode;

/* The leaves (or parents) of one kernel call; lane i hashes size[i] bytes at data[i]. */
typedef struct {
    const uint8_t *data[NX_BLAKE3_LANES_MAX];
    uint64_t counter[NX_BLAKE3_LANES_MAX];
    uint32_t size[NX_BLAKE3_LANES_MAX];      /* 0 to 1,024 */
    uint32_t flags_end[NX_BLAKE3_LANES_MAX]; /* added to the last block: ROOT or 0 */
} nx_blake3_batch;

typedef struct {
    nx_blake3_mode mode;
    uint64_t leaf_count; /* leaves already in the stack */
    uint32_t fill;       /* bytes in `leaf` */
    uint32_t depth;      /* chaining values in `stack` */
    uint8_t leaf[NX_BLAKE3_LEAF];
    uint8_t stack[(NX_BLAKE3_DEPTH_MAX + 1) * NX_BLAKE3_OUT];
} nx_blake3_hasher;

/* Chooses the kernels; scalar until called. The level must have been granted. */
void nx_blake3_select(nx_simd level);
unsigned nx_blake3_lanes(void);

void nx_blake3_mode_hash(nx_blake3_mode *ret);
void nx_blake3_mode_keyed(const uint8_t key[NX_BLAKE3_KEY], nx_blake3_mode *ret);
void nx_blake3_mode_derive(const void *context, size_t size, nx_blake3_mode *ret);

/* One contiguous input; `ret_size` bytes of output, any number. */
void nx_blake3_digest(const nx_blake3_mode *mode, const void *data, size_t size, uint8_t *ret,
                      size_t ret_size);

/* Streaming: any split of the input gives the same digest; finish changes nothing. */
void nx_blake3_init(const nx_blake3_mode *mode, nx_blake3_hasher *ret);
void nx_blake3_update(nx_blake3_hasher *hasher, const void *data, size_t size);
void nx_blake3_finish(const nx_blake3_hasher *hasher, uint8_t *ret, size_t ret_size);

/* 32-byte digests of `count` inputs into ret[32 * count]; short ones share vector lanes. */
void nx_blake3_many(const nx_blake3_mode *mode, const void *const data[], const size_t size[],
                    size_t count, uint8_t *ret);

/*
 * The parts, for callers that keep chaining values themselves.
 */

/* Chaining values of the first `count` (1 to 16) lanes of a batch into ret[32 * count]. */
void nx_blake3_leaves(const nx_blake3_mode *mode, const nx_blake3_batch *batch, unsigned count,
                      uint8_t *ret);

/* One level up: joins `count` >= 2 chaining values; returns how many are in `ret`, which may
 * be `cvs` itself. An odd last one is carried. */
size_t nx_blake3_parents(const nx_blake3_mode *mode, const uint8_t *cvs, size_t count,
                         uint8_t *ret);

/* The digest over `count` >= 2 chaining values; destroys them. */
void nx_blake3_root(const nx_blake3_mode *mode, uint8_t *cvs, size_t count, uint8_t *ret,
                    size_t ret_size);

/* A batch of 16 leaves or fewer is best; this many leaves cost as much as that many more. */
typedef void nx_blake3_kernel(const nx_blake3_batch *batch, const uint32_t key[8], uint32_t flags,
                              uint8_t *ret);

#endif
