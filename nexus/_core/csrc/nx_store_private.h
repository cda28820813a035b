// SPDX-License-Identifier: Apache-2.0
/* What the files of the store share; the theory is in nx_store.h. */
#ifndef NX_STORE_PRIVATE_H
#define NX_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "nx_store.h"

#define NX_PLACE_NUMBER_BITS 12u
#define NX_PLACE_OFFSET_BITS 28u
#define NX_SESSION_MAX       65536u
#define NX_TABLE_SIZE        (NX_SESSION_MAX * 2)
#define NX_HEAD_SLOTS        256u
#define NX_CACHE_BUCKETS     1024u
#define NX_SCRATCHES_MAX     8u
#define NX_SPARES_MAX        4u

typedef struct nx_mark {
    uint64_t mark;
    uint64_t place;
} nx_mark;

typedef struct nx_segment {
    nx_mark *marks; /* sorted */
    size_t count;
    uint64_t number;
} nx_segment;

typedef struct nx_pack {
    uint64_t number;
    uint64_t length;
} nx_pack;

/* A decoded block; `refs` keeps it, `lock` of the cache guards all but the bytes. */
typedef enum nx_checks { NX_CHECKS_NONE = 0, NX_CHECKS_RUN = 1, NX_CHECKS_DONE = 2 } nx_checks;

typedef struct nx_cached {
    struct nx_cached *next; /* in its bucket */
    struct nx_cached *newer;
    struct nx_cached *older;
    uint64_t key;
    uint8_t *head;
    uint8_t *raw;
    size_t room; /* bytes at `raw` */
    nx_block block;
    uint32_t *starts; /* of each object in `raw` */
    bool *right;      /* of each object, whether its bytes are what its id says */
    unsigned refs;
    int code;         /* NX_EBUSY while a thread decodes it */
    nx_checks checks; /* of the ids */
} nx_cached;

typedef struct nx_cache {
    pthread_mutex_t lock;
    pthread_cond_t decoded;
    nx_cached *buckets[NX_CACHE_BUCKETS];
    nx_cached *newest;
    nx_cached *oldest;
    uint64_t bytes;
    struct nx_scratch *scratches[NX_SCRATCHES_MAX]; /* not in use */
    size_t scratch_count;
    struct {
        uint8_t *raw;
        size_t room;
    } spares[NX_SPARES_MAX]; /* of blocks that went: memory whose pages are there */
    size_t spare_next;
} nx_cache;

/* The heads of blocks that were looked at last. */
typedef struct nx_heads {
    pthread_mutex_t lock;
    struct {
        uint64_t key;
        uint8_t *bytes;
        nx_block block;
    } slots[NX_HEAD_SLOTS];
} nx_heads;

/* A block on its way: open, queued, being compressed, done, written. */
typedef struct nx_job {
    nx_bytes raw;
    nx_bytes entries;
    nx_bytes out;
    nx_base_range bases[NX_BLOCK_BASES_MAX];
    uint32_t base_count;
    uint32_t prefix_size;
    uint32_t count;
    uint8_t depth;
    bool whole;        /* `out` is the block already, or nothing */
    uint32_t block;    /* number in the session */
    uint64_t sequence; /* in which it is written */
    enum { NX_JOB_FREE, NX_JOB_OPEN, NX_JOB_QUEUED, NX_JOB_BUSY, NX_JOB_DONE } state;
    int code;
} nx_job;

/* What one compressing thread has of its own. */
typedef struct nx_worker {
    nx_store *store;
    void *cctx;
    uint8_t *prefix;
    pthread_t thread;
    bool runs;
} nx_worker;

/* An object of this session: its whole id, and which block will have it. */
typedef struct nx_fresh {
    uint8_t id[NX_OBJECT_ID];
    uint32_t block; /* counted from the session's first */
    uint32_t number;
} nx_fresh;

struct nx_store {
    nx_backing backing;
    const nx_zstd *zstd;
    nx_store_options options;
    nx_store_counters counters;
    atomic_bool cancelled;

    pthread_rwlock_t index_lock; /* segments: readers, and the owner when it changes them */
    nx_segment *segments;
    size_t segment_count;
    size_t segment_room;
    nx_pack *packs; /* sorted by number; `lock` */
    size_t pack_count;
    size_t pack_room;
    size_t settled;      /* segments, from the first, that are not merged: a sweep counts them */
    uint64_t pack_floor; /* packs below do not grow any more */

    nx_cache cache;
    nx_heads heads;

    /* The session. */
    nx_fresh *fresh;
    uint32_t *fresh_table; /* 1 + number in `fresh`; open addressing */
    size_t fresh_count;
    uint64_t *places; /* of the session's blocks, without the number; `lock` */
    size_t place_count;
    size_t place_room;
    nx_job *lanes[NX_STORE_LANES];

    /* The compressing threads. */
    pthread_mutex_t lock;
    pthread_cond_t queued;
    pthread_cond_t freed;
    nx_job *jobs;
    size_t job_count;
    uint64_t next_sequence; /* of the next block to be queued */
    uint64_t next_written;
    bool writes; /* a thread appends */
    bool ends;
    int failed; /* the first code that a thread ended with */
    int failed_errno;
    nx_worker workers[NX_STORE_THREADS_MAX];
};

NX_INLINE uint64_t nx_mark_of(const uint8_t id[NX_OBJECT_ID])
{
    return __builtin_bswap64(nx_load_u64(id));
}

NX_INLINE uint64_t nx_place_key(uint64_t place)
{
    return place >> NX_PLACE_NUMBER_BITS;
}

NX_INLINE uint64_t nx_key_of(uint64_t pack, uint64_t offset)
{
    return pack << NX_PLACE_OFFSET_BITS | offset / NX_BLOCK_ALIGN;
}

NX_INLINE uint64_t nx_key_pack(uint64_t key)
{
    return key >> NX_PLACE_OFFSET_BITS;
}

NX_INLINE uint64_t nx_key_offset(uint64_t key)
{
    return (key & ((1u << NX_PLACE_OFFSET_BITS) - 1)) * NX_BLOCK_ALIGN;
}

/* nx_segment.c */
size_t nx_segment_find(const nx_segment *segment, uint64_t mark);
int nx_segment_load(nx_store *store, uint64_t number, nx_segment *ret);
int nx_segment_write(nx_store *store, const nx_segment *segment);
/* Takes the marks over, sorts them, writes them, merges. */
int nx_segment_append(nx_store *store, nx_mark *marks, size_t count);

/* nx_store_find.c */
void nx_heads_free(nx_heads *heads);
/* Nothing of this pack is remembered. */
void nx_heads_forget(nx_heads *heads, uint64_t pack);
/* As nx_store_find, and which record of the index says so. */
int nx_store_locate(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_found *ret,
                    size_t *ret_segment, size_t *ret_record);
/* The bytes of a pack that were promised. */
uint64_t nx_store_pack_length(nx_store *store, uint64_t number);
/* The head of a block in memory of its own, which the caller frees; NX_EEMPTY: of no pack. */
int nx_store_load_head(nx_store *store, uint64_t key, uint8_t **ret_bytes, nx_block *ret);

/* nx_store_read.c */
void nx_cache_free(nx_cache *cache, const nx_zstd *zstd);
/* The ranges one after another; NX_ECORRUPT unless all of them lie in blocks of smaller depth. */
int nx_store_prefix(nx_store *store, const nx_base_range *bases, size_t count, uint8_t depth,
                    bool checks, uint8_t *ret);

/* Whether the block decodes, and each of its objects is what its id says; else NX_ECORRUPT. */
int nx_store_verify(nx_store *store, uint64_t key);

/* nx_store.c */
int nx_store_push_pack(nx_store *store, uint64_t number, uint64_t length);

/* nx_store_threads.c */
int nx_store_start(nx_store *store);
void nx_store_stop(nx_store *store);
/* With the lock held: keeps the first failure, for everybody after; and what it was. */
void nx_store_fail(nx_store *store, int code);
int nx_store_failure(nx_store *store);
/* With the lock held: compresses one queued block and writes what is done; false: none waits. */
bool nx_store_work(nx_worker *worker);
/* An empty block, once there is one. */
int nx_store_take_job(nx_store *store, nx_job **ret);

/* nx_store_put.c */
/* The object in this session, or NULL. */
const nx_fresh *nx_fresh_find(const nx_store *store, const uint8_t id[NX_OBJECT_ID]);
/* Puts an object, without bases, whether or not it is at another place. */
int nx_store_put_anew(nx_store *store, nx_kind kind, const uint8_t id[NX_OBJECT_ID],
                      const void *data, size_t size);
/* A block outside the lanes, for as many objects; nx_store_submit ends it, whatever happens. */
int nx_store_begin_block(nx_store *store, size_t count, nx_job **ret);
/* The block's next object has this id. */
void nx_store_remember(nx_store *store, const uint8_t *id, nx_job *job);
void nx_store_submit(nx_store *store, nx_job *job);

#endif
