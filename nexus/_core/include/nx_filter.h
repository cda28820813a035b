// SPDX-License-Identifier: Apache-2.0
/*
 * The cell filter: which CellIDs may talk to this node, asked for every frame.
 *
 * A 16-byte id is mixed to 64 bits by one 64x64->128 multiplication with a secret key (the form of
 * wyhash's `mum`). A CellID is itself the output of SipHash, so the key's only task is to keep
 * strangers from choosing ids that collide here. Level 1 is a bitmap with 16 bits per id, in
 * which an id sets three bits of one word (a Bloom filter blocked by words: Putze, Sanders and
 * Singler, ACM JEA 14, 2009): it sends away about 99 of 100 strangers after one memory access.
 * Level 2 is exact: buckets of one cache line with four ids, overflowing into the next bucket,
 * about three quarters full. A batch of 64 prefetches all its bitmap words, then all buckets that
 * survived, so that the accesses to memory overlap.
 *
 * A table never changes once built. A filter publishes one table by a pointer; a reader announces
 * the epoch in which it read the pointer, and a replaced table is freed when every reader has left
 * the epochs that could have seen it (epoch-based reclamation: Fraser, UCAM-CL-TR-579, 2004). No
 * frame is dropped by a swap: a batch sees the old or the new table, whole.
 *
 * The all-zero id marks a free place and is never a member. Not handled here: rate limits,
 * and what is done with a stranger's frame.
 */
#ifndef NX_FILTER_H
#define NX_FILTER_H

#include "nx_base.h"

#include <stdatomic.h>

#define NX_CELL_ID_SIZE       16u
#define NX_FILTER_BATCH       64u
#define NX_FILTER_READERS_MAX 64u
#define NX_FILTER_BITS_PER_ID 16u
#define NX_FILTER_BUCKET_IDS  4u
#define NX_FILTER_COUNT_MAX   (1u << 28)

typedef struct nx_cell_id {
    uint64_t low;
    uint64_t high;
} nx_cell_id;
NX_STATIC_ASSERT(sizeof(nx_cell_id) == NX_CELL_ID_SIZE, "a CellID is 16 bytes");

typedef struct nx_filter_bucket {
    nx_cell_id ids[NX_FILTER_BUCKET_IDS];
} nx_filter_bucket;
NX_STATIC_ASSERT(sizeof(nx_filter_bucket) == NX_CACHE_LINE, "a bucket is one cache line");

typedef struct nx_filter_table {
    uint64_t key[2];
    uint64_t word_count; /* of the bitmap */
    uint64_t bucket_count;
    uint64_t *bitmap;
    nx_filter_bucket *buckets;
    uint64_t count; /* distinct ids */
    uint64_t bytes; /* of this whole allocation */
    uint64_t retired_epoch;
    struct nx_filter_table *next_retired;
} nx_filter_table;

/* One reader's announcement, on a cache line of its own. */
typedef struct nx_filter_reader {
    NX_ALIGNED(64) _Atomic uint64_t epoch; /* 0: reading nothing */
    _Atomic uint32_t taken;
} nx_filter_reader;
NX_STATIC_ASSERT(sizeof(nx_filter_reader) == NX_CACHE_LINE, "readers do not share lines");

typedef struct nx_filter {
    NX_ALIGNED(64) _Atomic(nx_filter_table *) current;
    NX_ALIGNED(64) _Atomic uint64_t epoch;
    nx_filter_table *retired; /* the writer's own list */
    uint64_t freed;
    nx_filter_reader readers[NX_FILTER_READERS_MAX];
} nx_filter;

/* Builds a table of `count` ids of 16 bytes each, `stride` bytes apart; duplicates count once.
 * NX_EINVAL for an all-zero id, NX_ETOOBIG above NX_FILTER_COUNT_MAX, NX_ENOMEM. */
int nx_filter_table_create(const uint8_t *ids, size_t stride, size_t count, const uint64_t key[2],
                           nx_filter_table **ret);
void nx_filter_table_destroy(nx_filter_table *table);

/* Whether one id is a member. */
bool nx_filter_table_has(const nx_filter_table *table, const uint8_t *id);

/* Bit i of the result: whether the id at ids + i * stride is a member; count <= NX_FILTER_BATCH. */
uint64_t nx_filter_table_batch(const nx_filter_table *table, const uint8_t *ids, size_t stride,
                               size_t count);

/* Copies all members out, in no particular order; `ret` has room for table->count ids. */
void nx_filter_table_members(const nx_filter_table *table, nx_cell_id *ret);

/* Takes over `table`; NX_ENOMEM. */
int nx_filter_create(nx_filter_table *table, nx_filter **ret);
/* Frees the filter and every table; no reader may be inside. */
void nx_filter_destroy(nx_filter *filter);

/* The current table, for the thread that alone swaps. */
NX_INLINE const nx_filter_table *nx_filter_current(nx_filter *filter)
{
    return atomic_load_explicit(&filter->current, memory_order_relaxed);
}

/* Publishes `table` and retires the old one; frees what no reader can see any more. Single writer.
 * Never waits. */
void nx_filter_swap(nx_filter *filter, nx_filter_table *table);

/* Frees the retired tables that no reader can see any more; returns how many still wait. */
size_t nx_filter_reclaim(nx_filter *filter);

/* A place among the readers, one per thread; NX_EFULL when all are taken. */
int nx_filter_reader_join(nx_filter *filter, nx_filter_reader **ret);
void nx_filter_reader_leave(nx_filter_reader *reader);

/* Between these two calls the returned table stays valid. */
NX_INLINE const nx_filter_table *nx_filter_read_begin(nx_filter *filter, nx_filter_reader *reader)
{
    /* Acquire pairs with the release in nx_filter_swap: who announces the new epoch has certainly
     * missed the old pointer. */
    uint64_t epoch = atomic_load_explicit(&filter->epoch, memory_order_acquire);

    /* Store before load, both sequentially consistent, against the writer's exchange before its
     * look at the readers: either we see its new pointer or it sees our announcement. One locked
     * instruction a batch is 2 ns in 64 frames. */
    atomic_store_explicit(&reader->epoch, epoch, memory_order_seq_cst);
    return atomic_load_explicit(&filter->current, memory_order_seq_cst);
}

NX_INLINE void nx_filter_read_end(nx_filter_reader *reader)
{
    /* Pairs with the load in nx_filter_reclaim: our reads happen before the free. */
    atomic_store_explicit(&reader->epoch, 0, memory_order_release);
}

/* One byte an id: 1 for a member, for any number of ids `stride` bytes apart; the table is read
 * anew for each batch of 64. Returns how many are members. */
size_t nx_filter_check_frames(nx_filter *filter, nx_filter_reader *reader, const uint8_t *ids,
                              size_t stride, size_t count, uint8_t *ret);

#endif
