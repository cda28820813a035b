// SPDX-License-Identifier: Apache-2.0
/*
 * The store of content: objects by id, in blocks, in packs. docs/spec/nexfs-store.md is the
 * authority on what is on the medium.
 *
 * Theory of operation. One thread, the owner, puts objects: an object that is there already costs a
 * look into the index, any other is copied into an open block. There is an open block for each of
 * four lanes (data or directories, with bases or without). A full one goes to the threads that
 * compress; whoever completes the next in order appends it to the pack. When all threads are busy
 * the owner compresses too, so memory is bounded and one thread is enough.
 *
 * The index is in memory: 16 bytes an object in sorted segments, searched by interpolation, for
 * marks are uniform. New objects are kept with their whole ids until they are 65,536, then they
 * become a segment; segments are merged when they are alike in size.
 *
 * Reading is for any thread. A decoded block is kept while there is room; who needs one that
 * another thread decodes waits for it. Every object's id is verified once each time its block is
 * decoded.
 *
 * Nothing is promised before nx_store_flush and the replacement of the state, which is the
 * caller's.
 */
#ifndef NX_STORE_H
#define NX_STORE_H

#include "nx_block.h"
#include "nx_cdc.h"

#define NX_STORE_THREADS_MAX 64u
#define NX_STORE_LANES       4u

typedef enum nx_file { NX_FILE_STATE = 0, NX_FILE_PACK = 1, NX_FILE_SEGMENT = 2 } nx_file;

/* Where a store's files lie. All but `sync` may be called by several threads at once; all return
 * NX_OK, NX_ESYS with errno, or what is named. The last three are not the store's, but whose it is.
 */
typedef struct nx_backing_verbs {
    /* Exactly `size` bytes; NX_ECORRUPT where the file ends before, NX_EEMPTY where there is none.
     */
    int (*read)(void *self, nx_file file, uint64_t number, uint64_t at, void *ret, size_t size);
    int (*size)(void *self, nx_file file, uint64_t number, uint64_t *ret);
    /* Creates the file where there is none. What was behind `at` + `size` may stay. */
    int (*write)(void *self, nx_file file, uint64_t number, uint64_t at, const void *data,
                 size_t size);
    int (*remove)(void *self, nx_file file, uint64_t number);
    /* What was written is on the medium. */
    int (*sync)(void *self);
    /* The state becomes these bytes, on the medium and at once. */
    int (*replace)(void *self, const void *data, size_t size);
    /* The numbers of all packs or segments, ascending, in memory that the caller frees. */
    int (*list)(void *self, nx_file file, uint64_t **ret, size_t *ret_count);
    /* Gives back what lies behind `size`, which no state ever named. */
    int (*trim)(void *self, nx_file file, uint64_t number, uint64_t size);
    /* Keeps readers out, so that files may be removed, or lets them in again; false when there are.
     */
    bool (*alone)(void *self, bool wanted);
} nx_backing_verbs;

typedef struct nx_backing {
    const nx_backing_verbs *verbs;
    void *self;
} nx_backing;

typedef struct nx_store_options {
    uint64_t volume[2];   /* id, as its 16 bytes lie */
    uint64_t pack_bytes;  /* from which on a pack is closed */
    uint64_t cache_bytes; /* of decoded blocks */
    uint64_t next_pack;
    uint64_t next_segment;
    uint32_t block_raw; /* bytes of objects in a block, at most NX_BLOCK_RAW_MAX */
    uint32_t window;    /* bytes of a base before and behind the place of what continues it */
    uint32_t depth;     /* of bases, at most NX_BLOCK_DEPTH_MAX; 0: no bases */
    uint32_t threads;   /* that compress, 1 to 64, the owner counted in */
    int level;
    int delta_level;
} nx_store_options;

typedef struct nx_store nx_store;

/* What the work has come to; read by any thread. */
typedef struct nx_store_counters {
    uint64_t objects;      /* put */
    uint64_t object_bytes; /* of these */
    uint64_t new_objects;
    uint64_t new_bytes;
    uint64_t stored_bytes; /* blocks appended */
    uint64_t blocks;
    uint64_t files;      /* ingested or restored */
    uint64_t file_bytes; /* of these; of a scrub, what it has read */
} nx_store_counters;

/* Where an object is, and how deep its block rests on others. */
typedef struct nx_found {
    uint64_t place;
    uint32_t size;
    nx_kind kind;
    uint8_t depth;
} nx_found;

/* A held object: nx_store_release ends it. */
typedef struct nx_held {
    const uint8_t *data;
    size_t size;
    struct nx_cached *block;
} nx_held;

/* NX_EINVAL, NX_ENOMEM, NX_ESYS. */
int nx_store_open(const nx_backing *backing, const nx_zstd *zstd, const nx_store_options *options,
                  nx_store **ret);
/* Ends the threads; what was not flushed is forgotten. */
void nx_store_close(nx_store *store);

/* What the state names. NX_ECORRUPT where the file is not what it should be. */
int nx_store_add_pack(nx_store *store, uint64_t number, uint64_t length);
int nx_store_add_segment(nx_store *store, uint64_t number);

/* What a new state has to name: the i-th pack, the i-th segment; false behind the last. */
bool nx_store_pack(const nx_store *store, size_t i, uint64_t *ret_number, uint64_t *ret_length);
bool nx_store_segment(const nx_store *store, size_t i, uint64_t *ret_number, uint64_t *ret_count);
uint64_t nx_store_next_pack(const nx_store *store);
uint64_t nx_store_next_segment(const nx_store *store);

/* Whether the object is there; NX_EEMPTY if not, and then `ret` is as it was. */
int nx_store_find(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_found *ret);

/* The object's bytes, verified. NX_EEMPTY, NX_ECORRUPT, NX_ENOMEM, NX_ESYS. */
int nx_store_get(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_held *ret);
void nx_store_release(nx_store *store, nx_held *held);

/* Puts an object with the bases that it may continue (at most 64). Only the owner's thread. */
int nx_store_put(nx_store *store, nx_kind kind, const uint8_t id[NX_OBJECT_ID], const void *data,
                 size_t size, const nx_base_range *bases, size_t base_count);

/* All that was put is in packs and segments, and on the medium. */
int nx_store_flush(nx_store *store);

/* After a write that failed for want of room: what was put since the last flush is forgotten, and
 * the store can be used again. Any other failure stays, and is returned. */
int nx_store_recover(nx_store *store);

nx_store_counters *nx_store_count(nx_store *store);
const nx_store_options *nx_store_settings(const nx_store *store);

/* Work that takes long looks at this now and then and ends with NX_ETIMEOUT. */
void nx_store_cancel(nx_store *store);
bool nx_store_cancelled(const nx_store *store);

#endif
