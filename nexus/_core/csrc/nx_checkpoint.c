// SPDX-License-Identifier: Apache-2.0
/* The protocol; no libc but memcpy, memcmp and memset. */
#include "nx_checkpoint.h"

#include "nx_memory.h"

/* tests/native/test_checkpoint.c sets these to stop a save after each of its steps, and to break
 * the choice of the first copy. */
#ifndef NX_CHECKPOINT_STEP
#define NX_CHECKPOINT_STEP()
#define NX_CHECKPOINT_MOVE(target, source, size) memcpy(target, source, size)
#define NX_CHECKPOINT_FIRST(writer)              (1 - (writer)->newest)
#endif

#define LEAF NX_BLAKE3_LEAF
#define OUT  NX_BLAKE3_OUT

static inline uint8_t *body_of(nx_checkpoint_copy *copy)
{
    return (uint8_t *)&copy->sequence;
}

static nx_checkpoint_state state_of(const nx_checkpoint_copy *copy)
{
    uint8_t digest[OUT];
    nx_blake3_mode mode;

    if (copy->sequence == 0) {
        return NX_CHECKPOINT_EMPTY;
    }
    if (copy->stack_size > NX_CHECKPOINT_STACK || copy->blob_size > NX_CHECKPOINT_BLOB) {
        return NX_CHECKPOINT_CORRUPT;
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, &copy->sequence, NX_CHECKPOINT_BODY, digest, OUT);
    return memcmp(digest, copy->digest, OUT) == 0 ? NX_CHECKPOINT_VALID : NX_CHECKPOINT_CORRUPT;
}

nx_checkpoint_state nx_checkpoint_verify(const nx_checkpoint_slot *slot, unsigned index,
                                         nx_checkpoint_copy *scratch)
{
    const nx_checkpoint_copy *copy = &slot->copies[index];

    /* Pairs with the release store in write_copy. What is checked is what was copied out, so that
     * a writer at work can make a check fail but never pass wrong bytes. */
    if (__atomic_load_n(&copy->sequence, __ATOMIC_ACQUIRE) == 0) {
        return NX_CHECKPOINT_EMPTY;
    }
    memcpy(scratch, copy, sizeof *scratch);
    return state_of(scratch);
}

void nx_checkpoint_writer_init(nx_checkpoint_slot *slot, nx_checkpoint_writer *ret)
{
    ret->slot = slot;
    ret->sequence = 0;
    ret->newest = 1;
    for (unsigned i = 0; i < 2; i++) {
        if (nx_checkpoint_verify(slot, i, &ret->mirror) == NX_CHECKPOINT_VALID &&
            ret->mirror.sequence > ret->sequence) {
            ret->sequence = ret->mirror.sequence;
            ret->newest = i;
        }
    }
    memset(&ret->mirror, 0, sizeof ret->mirror);
    ret->dirty = ((uint64_t)1 << NX_CHECKPOINT_LEAVES) - 1;
}

/* Puts bytes into the mirror and marks the leaves that change. NULL source: zeros. */
static void stage(nx_checkpoint_writer *writer, size_t offset, const uint8_t *source, size_t size)
{
    static const uint8_t zeros[LEAF];
    uint8_t *body = body_of(&writer->mirror);

    while (size > 0) {
        size_t leaf = offset / LEAF;
        size_t take = LEAF - offset % LEAF < size ? LEAF - offset % LEAF : size;
        const uint8_t *from = source == NULL ? zeros : source;
        if (memcmp(body + offset, from, take) != 0) {
            memcpy(body + offset, from, take);
            writer->dirty |= (uint64_t)1 << leaf;
        }
        source = source == NULL ? NULL : source + take;
        offset += take;
        size -= take;
    }
}

#define BODY_OFFSET(field) (offsetof(nx_checkpoint_copy, field) - 32)

void nx_checkpoint_stage(nx_checkpoint_writer *writer, const nx_checkpoint_content *content,
                         uint64_t sequence)
{
    nx_checkpoint_copy *mirror = &writer->mirror;
    size_t stack_before = mirror->stack_size;
    size_t blob_before = mirror->blob_size;

    mirror->sequence = sequence;
    mirror->image = content->image;
    mirror->epoch = content->epoch;
    mirror->stack_size = (uint16_t)content->stack_size;
    mirror->blob_size = (uint16_t)content->blob_size;
    writer->dirty |= 1;
    stage(writer, BODY_OFFSET(frame), content->frame, NX_CHECKPOINT_FRAME);
    stage(writer, BODY_OFFSET(stack), content->stack, content->stack_size);
    if (stack_before > content->stack_size) {
        stage(writer, BODY_OFFSET(stack) + content->stack_size, NULL,
              stack_before - content->stack_size);
    }
    stage(writer, BODY_OFFSET(blob), content->blob, content->blob_size);
    if (blob_before > content->blob_size) {
        stage(writer, BODY_OFFSET(blob) + content->blob_size, NULL,
              blob_before - content->blob_size);
    }
}

/* Chaining values of the dirty leaves, scattered ones in shared batches. */
static void hash_leaves(nx_checkpoint_writer *writer, const nx_blake3_mode *mode)
{
    const uint8_t *body = body_of(&writer->mirror);
    uint8_t cvs[NX_BLAKE3_LANES_MAX * OUT];
    uint8_t leaves[NX_BLAKE3_LANES_MAX];
    nx_blake3_batch batch;
    unsigned count = 0;

    for (uint64_t rest = writer->dirty; rest != 0;) {
        unsigned leaf = (unsigned)__builtin_ctzll(rest);
        size_t offset = (size_t)leaf * LEAF;
        rest &= rest - 1;
        leaves[count] = (uint8_t)leaf;
        batch.data[count] = body + offset;
        batch.counter[count] = leaf;
        batch.size[count] =
            (uint32_t)(NX_CHECKPOINT_BODY - offset < LEAF ? NX_CHECKPOINT_BODY - offset : LEAF);
        batch.flags_end[count] = 0;
        count++;
        if (count == NX_BLAKE3_LANES_MAX || rest == 0) {
            nx_blake3_leaves(mode, &batch, count, cvs);
            for (unsigned i = 0; i < count; i++) {
                memcpy(writer->nodes + OUT * (size_t)leaves[i], cvs + OUT * i, OUT);
            }
            count = 0;
        }
    }
}

/* The parents of the changed nodes of one level; returns which parents changed. */
static uint64_t hash_level(const nx_blake3_mode *mode, const uint8_t *level, unsigned count,
                           uint64_t dirty, uint8_t *above)
{
    uint8_t pairs[2 * 21 * OUT], joined[21 * OUT];
    uint8_t parents[21];
    uint64_t changed = 0;
    unsigned gathered = 0;

    for (unsigned parent = 0; 2 * parent + 1 < count; parent++) {
        if ((dirty >> 2 * parent & 3) != 0) {
            memcpy(pairs + 2 * OUT * gathered, level + 2 * OUT * parent, 2 * OUT);
            parents[gathered++] = (uint8_t)parent;
            changed |= (uint64_t)1 << parent;
        }
    }
    if (gathered > 0) {
        nx_blake3_parents(mode, pairs, 2 * (size_t)gathered, joined);
    }
    for (unsigned i = 0; i < gathered; i++) {
        memcpy(above + OUT * (size_t)parents[i], joined + OUT * i, OUT);
    }
    if (count % 2 != 0 && (dirty >> (count - 1) & 1) != 0) {
        memcpy(above + OUT * (size_t)(count / 2), level + OUT * (size_t)(count - 1), OUT);
        changed |= (uint64_t)1 << count / 2;
    }
    return changed;
}

void nx_checkpoint_digest(nx_checkpoint_writer *writer)
{
    nx_blake3_mode mode;
    uint8_t *level = writer->nodes;
    unsigned count = NX_CHECKPOINT_LEAVES;
    uint64_t dirty = writer->dirty;
    uint8_t last[2 * OUT];

    nx_blake3_mode_hash(&mode);
    hash_leaves(writer, &mode);
    while (count > 2) {
        uint8_t *above = level + OUT * count;
        dirty = hash_level(&mode, level, count, dirty, above);
        level = above;
        count = (count + 1) / 2;
    }
    memcpy(last, level, sizeof last);
    nx_blake3_root(&mode, last, 2, writer->mirror.digest, OUT);
    writer->dirty = 0;
}

/* One copy, in the order of the specification. */
static void write_copy(nx_checkpoint_copy *target, const nx_checkpoint_copy *source)
{
    __atomic_store_n(&target->sequence, 0, __ATOMIC_RELAXED);
    /* No store below may become visible before the one above: to a reader by the fence, to
     * whoever finds the slot after a kill already by program order. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    NX_CHECKPOINT_STEP();
    NX_CHECKPOINT_MOVE((uint8_t *)&target->image, (const uint8_t *)&source->image,
                       NX_CHECKPOINT_BODY - sizeof source->sequence);
    NX_CHECKPOINT_MOVE(target->digest, source->digest, OUT);
    /* Pairs with the acquire load in nx_checkpoint_verify. */
    __atomic_store_n(&target->sequence, source->sequence, __ATOMIC_RELEASE);
    NX_CHECKPOINT_STEP();
}

int nx_checkpoint_save(nx_checkpoint_writer *writer, const nx_checkpoint_content *content,
                       uint64_t *ret_sequence)
{
    if (content->stack_size > NX_CHECKPOINT_STACK || content->blob_size > NX_CHECKPOINT_BLOB ||
        writer->sequence == UINT64_MAX) {
        return NX_ETOOBIG;
    }
    uint64_t sequence = writer->sequence + 1;
    unsigned first = NX_CHECKPOINT_FIRST(writer);

    nx_checkpoint_stage(writer, content, sequence);
    nx_checkpoint_digest(writer);
    write_copy(&writer->slot->copies[first], &writer->mirror);
    write_copy(&writer->slot->copies[1 - first], &writer->mirror);
    writer->sequence = sequence;
    *ret_sequence = sequence;
    return NX_OK;
}

int nx_checkpoint_restore(const nx_checkpoint_slot *slot, const nx_checkpoint_demand *demand,
                          nx_checkpoint_copy *ret)
{
    /* Only the order of trying depends on these. */
    uint64_t a = __atomic_load_n(&slot->copies[0].sequence, __ATOMIC_ACQUIRE);
    uint64_t b = __atomic_load_n(&slot->copies[1].sequence, __ATOMIC_ACQUIRE);
    unsigned newer = b > a ? 1 : 0;

    for (unsigned i = 0; i < 2; i++) {
        if (nx_checkpoint_verify(slot, newer ^ i, ret) == NX_CHECKPOINT_VALID &&
            ret->sequence >= demand->floor && ret->image == demand->image &&
            ret->epoch == demand->epoch) {
            return NX_OK;
        }
    }
    return NX_EEMPTY;
}

void nx_checkpoint_wipe(nx_checkpoint_writer *writer)
{
    for (unsigned i = 0; i < 2; i++) {
        __atomic_store_n(&writer->slot->copies[i].sequence, 0, __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    for (unsigned i = 0; i < 2; i++) {
        memset(&writer->slot->copies[i], 0, sizeof writer->slot->copies[i]);
    }
    memset(&writer->mirror, 0, sizeof writer->mirror);
    nx_compiler_barrier(); /* the wipe of private memory is not dead code */
    writer->dirty = ((uint64_t)1 << NX_CHECKPOINT_LEAVES) - 1;
    writer->newest = 1;
}
