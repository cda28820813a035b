// SPDX-License-Identifier: Apache-2.0
/* Saves to a checkpoint slot, and the copy that each must leave there. */
#ifndef NX_FUZZ_CHECKPOINT_SAVES_H
#define NX_FUZZ_CHECKPOINT_SAVES_H

#include "fuzz.h"
#include "nx_checkpoint.h"

static nx_checkpoint_slot slot;
static nx_checkpoint_writer writer;
static nx_checkpoint_copy saved, found;

static inline void digest_of(const nx_checkpoint_copy *copy, uint8_t ret[NX_BLAKE3_OUT])
{
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, &copy->sequence, NX_CHECKPOINT_BODY, ret, NX_BLAKE3_OUT);
}

static inline void save(nx_input *in)
{
    uint8_t digest[NX_BLAKE3_OUT];
    uint64_t sequence = 0;
    nx_checkpoint_content content = {.image = eat(in, 1), .epoch = (uint32_t)eat(in, 1)};

    content.stack_size = eat(in, 2) % (NX_CHECKPOINT_STACK + 8);
    content.blob_size = eat(in, 2) % (NX_CHECKPOINT_BLOB + 8);
    nx_input fill = {in->at, in->size < 8 ? in->size : 8}, same = fill;
    uint8_t *stack = stretch(&fill, content.stack_size), *blob = stretch(&same, content.blob_size);
    content.stack = stack;
    content.blob = blob;
    int code = nx_checkpoint_save(&writer, &content, &sequence);
    if (code == NX_OK) {
        memset(&saved, 0, sizeof saved);
        saved.sequence = sequence;
        saved.image = content.image;
        saved.epoch = content.epoch;
        saved.stack_size = (uint16_t)content.stack_size;
        saved.blob_size = (uint16_t)content.blob_size;
        memcpy(saved.stack, stack, content.stack_size);
        memcpy(saved.blob, blob, content.blob_size);
        digest_of(&saved, saved.digest);
        digest_of(&writer.mirror, digest); /* the incremental digest is the plain one */
        NX_ASSERT(memcmp(digest, writer.mirror.digest, sizeof digest) == 0);
        NX_ASSERT(memcmp(&slot.copies[0], &saved, sizeof saved) == 0);
    }
    NX_ASSERT(code == NX_OK || content.stack_size > NX_CHECKPOINT_STACK ||
              content.blob_size > NX_CHECKPOINT_BLOB || writer.sequence == UINT64_MAX);
    free(stack);
    free(blob);
}

#endif
