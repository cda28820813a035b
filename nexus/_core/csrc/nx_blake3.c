// SPDX-License-Identifier: Apache-2.0
/* The tree of BLAKE3 over whatever kernels the level has. */
#include "nx_blake3_kernels.h"

#include "nx_memory.h"

#define OUT   NX_BLAKE3_OUT
#define LEAF  NX_BLAKE3_LEAF
#define GROUP NX_BLAKE3_GROUP
#define LANES NX_BLAKE3_LANES_MAX

/* The last compression of a tree, not yet done: its flags decide whether it is the root. */
typedef struct {
    uint32_t cv[8];
    uint8_t block[NX_BLAKE3_BLOCK];
    uint32_t size;
    uint32_t flags;
    uint64_t counter;
} node;

static const nx_blake3_kernels *active;

static inline const nx_blake3_kernels *kernels(void)
{
    return NX_LIKELY(active != NULL) ? active : nx_blake3_kernels_of(NX_SIMD_SCALAR);
}

void nx_blake3_select(nx_simd level)
{
    active = nx_blake3_kernels_of(level);
}

unsigned nx_blake3_lanes(void)
{
    unsigned lanes = kernels()->wide[0].lanes;

    return lanes != 0 ? lanes : 1;
}

void nx_blake3_mode_hash(nx_blake3_mode *ret)
{
    memcpy(ret->key, nx_blake3_iv, sizeof ret->key);
    ret->flags = 0;
}

void nx_blake3_mode_keyed(const uint8_t key[NX_BLAKE3_KEY], nx_blake3_mode *ret)
{
    memcpy(ret->key, key, sizeof ret->key);
    ret->flags = NX_BLAKE3_KEYED_HASH;
}

void nx_blake3_mode_derive(const void *context, size_t size, nx_blake3_mode *ret)
{
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    mode.flags = NX_BLAKE3_DERIVE_KEY_CONTEXT;
    nx_blake3_digest(&mode, context, size, (uint8_t *)ret->key, sizeof ret->key);
    ret->flags = NX_BLAKE3_DERIVE_KEY_MATERIAL;
}

/* All blocks of a leaf of 0 to 1,024 bytes but the last, which `ret` holds. */
static void leaf_node(const nx_blake3_mode *mode, const uint8_t *data, size_t size,
                      uint64_t counter, node *ret)
{
    uint32_t start = NX_BLAKE3_CHUNK_START;

    memcpy(ret->cv, mode->key, sizeof ret->cv);
    while (size > NX_BLAKE3_BLOCK) {
        kernels()->compress(ret->cv, data, NX_BLAKE3_BLOCK, counter, mode->flags | start);
        start = 0;
        data += NX_BLAKE3_BLOCK;
        size -= NX_BLAKE3_BLOCK;
    }
    if (size != NX_BLAKE3_BLOCK) {
        memset(ret->block, 0, sizeof ret->block);
    }
    if (size != 0) {
        memcpy(ret->block, data, size);
    }
    ret->size = (uint32_t)size;
    ret->flags = mode->flags | start | NX_BLAKE3_CHUNK_END;
    ret->counter = counter;
}

static void parent_node(const nx_blake3_mode *mode, const uint8_t *left, const uint8_t *right,
                        node *ret)
{
    memcpy(ret->cv, mode->key, sizeof ret->cv);
    memcpy(ret->block, left, OUT);
    memcpy(ret->block + OUT, right, OUT);
    ret->size = NX_BLAKE3_BLOCK;
    ret->flags = mode->flags | NX_BLAKE3_PARENT;
    ret->counter = 0;
}

static void node_cv(const node *last, uint8_t ret[OUT])
{
    uint32_t cv[8];

    memcpy(cv, last->cv, sizeof cv);
    kernels()->compress(cv, last->block, last->size, last->counter, last->flags);
    memcpy(ret, cv, sizeof cv);
}

/* Section 2.6: block i of the output is the root compressed with counter i. */
static void node_root(const node *last, uint8_t *ret, size_t ret_size)
{
    uint32_t flags = last->flags | NX_BLAKE3_ROOT;
    uint32_t words[16];

    if (ret_size <= OUT) {
        memcpy(words, last->cv, sizeof last->cv);
        kernels()->compress(words, last->block, last->size, 0, flags);
        memcpy(ret, words, ret_size);
        return;
    }
    for (uint64_t counter = 0; ret_size > 0; counter++) {
        size_t take = ret_size < sizeof words ? ret_size : sizeof words;
        nx_blake3_compress_full(last->cv, last->block, last->size, counter, flags, words);
        memcpy(ret, words, take);
        ret += take;
        ret_size -= take;
    }
}

/* The narrowest kernel that takes `count` lanes at once, or else the widest; NULL if one leaf
 * at a time is best. A half-full vector is still faster than its leaves one by one. */
static const nx_blake3_wide *wide_for(size_t count)
{
    const nx_blake3_wide *wide = kernels()->wide;

    if (count < 2 || wide->lanes == 0) {
        return NULL;
    }
    while (wide[1].lanes >= count) {
        wide++;
    }
    return wide;
}

static void leaf_cv(const nx_blake3_mode *mode, const nx_blake3_batch *batch, unsigned lane,
                    uint8_t *ret)
{
    node last;

    leaf_node(mode, batch->data[lane], batch->size[lane], batch->counter[lane], &last);
    last.flags |= batch->flags_end[lane];
    node_cv(&last, ret);
}

void nx_blake3_leaves(const nx_blake3_mode *mode, const nx_blake3_batch *batch, unsigned count,
                      uint8_t *ret)
{
    const nx_blake3_wide *wide = wide_for(count);
    uint8_t full[LANES * OUT];
    unsigned done = 0;

    NX_ASSERT(count >= 1 && count <= LANES);
    while (wide != NULL && count - done > 1) {
        nx_blake3_batch part;
        unsigned take = count - done < wide->lanes ? count - done : wide->lanes;
        bool uniform = true;

        for (unsigned i = 0; i < wide->lanes; i++) {
            unsigned lane = done + (i < take ? i : 0); /* an idle lane repeats the first */
            part.data[i] = batch->data[lane];
            part.counter[i] = batch->counter[lane];
            part.size[i] = batch->size[lane];
            part.flags_end[i] = batch->flags_end[lane];
            uniform &= part.size[i] == LEAF && part.flags_end[i] == 0;
        }
        if (take == wide->lanes) {
            wide->leaves(&part, mode, uniform, ret + OUT * done);
        } else {
            wide->leaves(&part, mode, uniform, full);
            memcpy(ret + OUT * done, full, OUT * (size_t)take);
        }
        done += take;
        wide = wide_for(count - done);
    }
    for (; done < count; done++) {
        leaf_cv(mode, batch, done, ret + OUT * done);
    }
}

size_t nx_blake3_parents(const nx_blake3_mode *mode, const uint8_t *cvs, size_t count, uint8_t *ret)
{
    size_t pairs = count / 2;
    size_t done = 0;
    uint8_t from[2 * LANES * OUT], to[LANES * OUT];
    node last;

    for (const nx_blake3_wide *wide;
         (wide = wide_for(pairs - done)) != NULL && wide->parents != NULL;) {
        size_t take = pairs - done < wide->lanes ? pairs - done : wide->lanes;

        if (take == wide->lanes) {
            wide->parents(cvs + 2 * OUT * done, mode, ret + OUT * done);
        } else {
            memcpy(from, cvs + 2 * OUT * done, 2 * OUT * take);
            memset(from + 2 * OUT * take, 0, 2 * OUT * (wide->lanes - take));
            wide->parents(from, mode, to);
            memcpy(ret + OUT * done, to, OUT * take);
        }
        done += take;
    }
    for (; done < pairs; done++) {
        parent_node(mode, cvs + 2 * OUT * done, cvs + 2 * OUT * done + OUT, &last);
        node_cv(&last, ret + OUT * done);
    }
    if (count % 2 != 0) {
        memmove(ret + OUT * pairs, cvs + OUT * (count - 1), OUT);
    }
    return pairs + count % 2;
}

void nx_blake3_root(const nx_blake3_mode *mode, uint8_t *cvs, size_t count, uint8_t *ret,
                    size_t ret_size)
{
    node last;

    NX_ASSERT(count >= 2);
    while (count > 2) {
        count = nx_blake3_parents(mode, cvs, count, cvs);
    }
    parent_node(mode, cvs, cvs + OUT, &last);
    node_root(&last, ret, ret_size);
}

/* Chaining values of the leaves of `data`, which starts at leaf `counter`; returns how many. */
static size_t leaf_cvs(const nx_blake3_mode *mode, const uint8_t *data, size_t size,
                       uint64_t counter, uint8_t *ret)
{
    size_t count = (size + LEAF - 1) / LEAF;
    unsigned step = nx_blake3_lanes();
    nx_blake3_batch batch;

    if (step == 1 || count > LANES) {
        step = step == 1 ? LANES : step;
    } else {
        step = LANES;
    }
    for (size_t i = 0; i < count; i += step) {
        unsigned take = (unsigned)(count - i < step ? count - i : step);
        for (unsigned lane = 0; lane < take; lane++) {
            size_t offset = (i + lane) * LEAF;
            batch.data[lane] = data + offset;
            batch.counter[lane] = counter + i + lane;
            batch.size[lane] = (uint32_t)(size - offset < LEAF ? size - offset : LEAF);
            batch.flags_end[lane] = 0;
        }
        nx_blake3_leaves(mode, &batch, take, ret + OUT * i);
    }
    return count;
}

void nx_blake3_digest(const nx_blake3_mode *mode, const void *data, size_t size, uint8_t *ret,
                      size_t ret_size)
{
    if (size <= LEAF) {
        node last;
        leaf_node(mode, data, size, 0, &last);
        node_root(&last, ret, ret_size);
    } else if (size <= GROUP * LEAF) {
        uint8_t cvs[GROUP * OUT];
        size_t count = leaf_cvs(mode, data, size, 0, cvs);
        nx_blake3_root(mode, cvs, count, ret, ret_size);
    } else {
        nx_blake3_hasher hasher;
        nx_blake3_init(mode, &hasher);
        nx_blake3_update(&hasher, data, size);
        nx_blake3_finish(&hasher, ret, ret_size);
    }
}

void nx_blake3_init(const nx_blake3_mode *mode, nx_blake3_hasher *ret)
{
    ret->mode = *mode;
    ret->leaf_count = 0;
    ret->fill = 0;
    ret->depth = 0;
}

/* Adds the chaining value of a subtree of `leaves` leaves, a power of two that divides
 * leaf_count; equal neighbours join (section 5.1.2: one join for each trailing one bit). */
static void push(nx_blake3_hasher *hasher, const uint8_t cv[OUT], uint64_t leaves)
{
    uint64_t after = hasher->leaf_count + leaves;
    node last;

    memcpy(hasher->stack + OUT * hasher->depth, cv, OUT);
    hasher->depth++;
    for (uint64_t unit = leaves; (after & unit) == 0; unit <<= 1) {
        uint8_t *left = hasher->stack + OUT * (hasher->depth - 2);
        parent_node(&hasher->mode, left, left + OUT, &last);
        node_cv(&last, left);
        hasher->depth--;
    }
    hasher->leaf_count = after;
}

/* Hashes whole aligned subtrees straight from the input, keeping at least one byte back:
 * the last leaf must stay open because it might be the root. Returns the bytes consumed. */
static size_t update_groups(nx_blake3_hasher *hasher, const uint8_t *data, size_t size)
{
    uint8_t cvs[GROUP * OUT];
    size_t done = 0;

    while (size - done > LEAF) {
        uint64_t leaves = GROUP;
        while ((hasher->leaf_count & (leaves - 1)) != 0 || leaves * LEAF >= size - done) {
            leaves >>= 1;
        }
        size_t count = leaf_cvs(&hasher->mode, data + done, leaves * LEAF, hasher->leaf_count, cvs);
        while (count > 1) {
            count = nx_blake3_parents(&hasher->mode, cvs, count, cvs);
        }
        push(hasher, cvs, leaves);
        done += leaves * LEAF;
    }
    return done;
}

void nx_blake3_update(nx_blake3_hasher *hasher, const void *data, size_t size)
{
    const uint8_t *at = data;

    while (size > 0) {
        if (hasher->fill == LEAF) {
            node last;
            uint8_t cv[OUT];
            leaf_node(&hasher->mode, hasher->leaf, LEAF, hasher->leaf_count, &last);
            node_cv(&last, cv);
            hasher->fill = 0;
            push(hasher, cv, 1);
        }
        if (hasher->fill == 0) {
            size_t done = update_groups(hasher, at, size);
            at += done;
            size -= done;
        }
        size_t take = LEAF - hasher->fill < size ? LEAF - hasher->fill : size;
        memcpy(hasher->leaf + hasher->fill, at, take);
        hasher->fill += (uint32_t)take;
        at += take;
        size -= take;
    }
}

void nx_blake3_finish(const nx_blake3_hasher *hasher, uint8_t *ret, size_t ret_size)
{
    uint8_t right[OUT];
    node last;

    leaf_node(&hasher->mode, hasher->leaf, hasher->fill, hasher->leaf_count, &last);
    for (uint32_t depth = hasher->depth; depth > 0; depth--) {
        node_cv(&last, right);
        parent_node(&hasher->mode, hasher->stack + OUT * (depth - 1), right, &last);
    }
    node_root(&last, ret, ret_size);
}

/* Inputs of one leaf: their only compression chain is also the root. */
static void many_single(const nx_blake3_mode *mode, const void *const data[], const size_t size[],
                        unsigned count, uint8_t *ret)
{
    nx_blake3_batch batch;

    for (unsigned i = 0; i < count; i++) {
        batch.data[i] = data[i];
        batch.counter[i] = 0;
        batch.size[i] = (uint32_t)size[i];
        batch.flags_end[i] = NX_BLAKE3_ROOT;
    }
    nx_blake3_leaves(mode, &batch, count, ret);
}

/* Leaves of neighbouring inputs share lanes: collected into one log of chaining values. */
typedef struct {
    nx_blake3_batch batch;
    unsigned waiting; /* leaves in `batch` */
    size_t logged;    /* chaining values in `cvs` */
    uint8_t cvs[2 * GROUP * OUT];
} batcher;

static void flush(const nx_blake3_mode *mode, batcher *b)
{
    if (b->waiting > 0) {
        nx_blake3_leaves(mode, &b->batch, b->waiting, b->cvs + OUT * b->logged);
        b->logged += b->waiting;
        b->waiting = 0;
    }
}

static void add_leaf(const nx_blake3_mode *mode, batcher *b, const uint8_t *data, size_t size,
                     uint64_t counter)
{
    unsigned lane = b->waiting++;

    b->batch.data[lane] = data;
    b->batch.counter[lane] = counter;
    b->batch.size[lane] = (uint32_t)size;
    b->batch.flags_end[lane] = 0;
    if (b->waiting == LANES) {
        flush(mode, b);
    }
}

/* Inputs of 2 to 256 leaves each, 256 together. */
static void many_grouped(const nx_blake3_mode *mode, const void *const data[], const size_t size[],
                         size_t count, uint8_t *ret)
{
    batcher b = {.waiting = 0, .logged = 0};
    uint8_t *cvs = b.cvs;

    for (size_t i = 0; i < count; i++) {
        for (size_t offset = 0; offset < size[i]; offset += LEAF) {
            size_t rest = size[i] - offset;
            add_leaf(mode, &b, (const uint8_t *)data[i] + offset, rest < LEAF ? rest : LEAF,
                     offset / LEAF);
        }
    }
    flush(mode, &b);
    for (size_t i = 0; i < count; i++) {
        size_t leaves = (size[i] + LEAF - 1) / LEAF;
        nx_blake3_root(mode, cvs, leaves, ret + OUT * i, OUT);
        cvs += OUT * leaves;
    }
}

void nx_blake3_many(const nx_blake3_mode *mode, const void *const data[], const size_t size[],
                    size_t count, uint8_t *ret)
{
    size_t i = 0;

    while (i < count) {
        size_t end = i;
        size_t leaves = 0;

        if (size[i] <= LEAF) {
            while (end < count && end - i < LANES && size[end] <= LEAF) {
                end++;
            }
            many_single(mode, data + i, size + i, (unsigned)(end - i), ret + OUT * i);
        } else if (size[i] > GROUP * LEAF / 2) {
            end++;
            nx_blake3_digest(mode, data[i], size[i], ret + OUT * i, OUT);
        } else {
            while (end < count && size[end] > LEAF && size[end] <= (GROUP - leaves) * LEAF) {
                leaves += (size[end] + LEAF - 1) / LEAF;
                end++;
            }
            many_grouped(mode, data + i, size + i, end - i, ret + OUT * i);
        }
        i = end;
    }
}
