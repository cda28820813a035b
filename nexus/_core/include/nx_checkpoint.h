// SPDX-License-Identifier: Apache-2.0
/*
 * The two-copy checkpoint slot of a fiber. docs/spec/checkpoint.md is the authority for layout
 * and order.
 *
 * Theory of operation. A save writes one copy, then the other, and never starts on the newest
 * valid copy; so whenever the writer dies, one copy is complete and not older than the last
 * acknowledged save. The digest is incremental: a writer keeps a private mirror of what it wrote
 * and the chaining values of the BLAKE3 tree over it, and hashes the changed KiB alone.
 *
 * nx_checkpoint.c, the protocol, needs memcpy, memcmp and memset and the hash; it runs in the
 * supervisor, which has no libc. nx_checkpoint_slot.c maps a slot and needs Linux.
 *
 * Guarantees: after the first acknowledged save at least one copy is valid and not older than the
 * last acknowledged one, whatever number of kills. A refused save changes nothing.
 * Not handled: two writers at a time, loss of power, forging by someone who can write the slot.
 */
#ifndef NX_CHECKPOINT_H
#define NX_CHECKPOINT_H

#include "nx_base.h"
#include "nx_blake3.h"

#define NX_CHECKPOINT_FRAME  272u
#define NX_CHECKPOINT_STACK  8192u
#define NX_CHECKPOINT_BLOB   32768u
#define NX_CHECKPOINT_COPY   41288u
#define NX_CHECKPOINT_SLOT   (2u * NX_CHECKPOINT_COPY)
#define NX_CHECKPOINT_BODY   (NX_CHECKPOINT_COPY - 32u) /* what the digest covers */
#define NX_CHECKPOINT_LEAVES 41u
#define NX_CHECKPOINT_NODES  (41u + 21u + 11u + 6u + 3u + 2u)

typedef struct {
    uint8_t digest[32];
    uint64_t sequence;
    uint64_t image;
    uint32_t epoch;
    uint16_t stack_size;
    uint16_t blob_size;
    uint8_t frame[NX_CHECKPOINT_FRAME];
    uint8_t stack[NX_CHECKPOINT_STACK];
    uint8_t blob[NX_CHECKPOINT_BLOB];
} nx_checkpoint_copy;

NX_STATIC_ASSERT(sizeof(nx_checkpoint_copy) == NX_CHECKPOINT_COPY, "size of a copy");
NX_STATIC_ASSERT(offsetof(nx_checkpoint_copy, sequence) == 32, "the digest covers from here");
NX_STATIC_ASSERT(offsetof(nx_checkpoint_copy, frame) == 56, "the header has 56 bytes");
NX_STATIC_ASSERT(offsetof(nx_checkpoint_copy, stack) == 328, "the frame has 272 bytes");
NX_STATIC_ASSERT(offsetof(nx_checkpoint_copy, blob) == 8520, "the stack has 8,192 bytes");

/* The shared memory; other processes write it, so nothing in it is believed unchecked. */
typedef struct {
    nx_checkpoint_copy copies[2];
} nx_checkpoint_slot;

typedef enum {
    NX_CHECKPOINT_EMPTY = 0, /* sequence 0: never written, wiped, or being written */
    NX_CHECKPOINT_VALID = 1,
    NX_CHECKPOINT_CORRUPT = 2, /* a sequence, but sizes or digest are wrong */
} nx_checkpoint_state;

/* What a save stores; NULL frame means zeros, sizes 0 allow NULL. */
typedef struct {
    uint64_t image;
    uint32_t epoch;
    const uint8_t *frame; /* 272 bytes */
    const uint8_t *stack;
    size_t stack_size;
    const uint8_t *blob;
    size_t blob_size;
} nx_checkpoint_content;

/* What a restore accepts. */
typedef struct {
    uint64_t image;
    uint32_t epoch;
    uint64_t floor; /* lowest sequence */
} nx_checkpoint_demand;

/* Private memory of the one writer. */
typedef struct {
    nx_checkpoint_slot *slot;
    uint64_t sequence; /* of the last save, or the highest valid one found */
    unsigned newest;   /* the copy a save must not start on */
    uint64_t dirty;    /* leaves of the mirror that `nodes` does not cover */
    nx_checkpoint_copy mirror;
    uint8_t nodes[NX_CHECKPOINT_NODES * NX_BLAKE3_OUT]; /* level by level, leaves first */
} nx_checkpoint_writer;

/* Checks both copies and takes over where the last writer ended. */
void nx_checkpoint_writer_init(nx_checkpoint_slot *slot, nx_checkpoint_writer *ret);

/* NX_ETOOBIG for a stack or blob above its limit, or when sequences are used up; then nothing was
 * changed. */
int nx_checkpoint_save(nx_checkpoint_writer *writer, const nx_checkpoint_content *content,
                       uint64_t *ret_sequence);

/* Copies the newest acceptable copy out. NX_EEMPTY: none, start cold; *ret is then scratch. */
int nx_checkpoint_restore(const nx_checkpoint_slot *slot, const nx_checkpoint_demand *demand,
                          nx_checkpoint_copy *ret);

/* Checks one copy as it is now; `scratch` receives it. */
nx_checkpoint_state nx_checkpoint_verify(const nx_checkpoint_slot *slot, unsigned index,
                                         nx_checkpoint_copy *scratch);

/* Invalidates both copies, then wipes them and the mirror. Sequences go on from the last one. */
void nx_checkpoint_wipe(nx_checkpoint_writer *writer);

/* Parts of a save, apart for measuring: content into the mirror, and its digest. */
void nx_checkpoint_stage(nx_checkpoint_writer *writer, const nx_checkpoint_content *content,
                         uint64_t sequence);
void nx_checkpoint_digest(nx_checkpoint_writer *writer);

/* nx_checkpoint_slot.c: a new sealed memfd and its mapping; or the mapping of one made so.
 * NX_ESYS with errno; _map also NX_EINVAL if the file's size or seals are not those of a slot. */
int nx_checkpoint_slot_create(int *ret_fd);
int nx_checkpoint_slot_map(int fd, nx_checkpoint_slot **ret);
void nx_checkpoint_slot_unmap(nx_checkpoint_slot *slot);

#endif
