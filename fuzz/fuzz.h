// SPDX-License-Identifier: Apache-2.0
/*
 * What the harnesses share: an input that is eaten from the front, copies of exact size, SIMD
 * levels.
 *
 * An input is a program: each harness takes a few bytes as geometry and the rest as operations. A
 * harness states what must hold by NX_ASSERT, which aborts and so is a finding.
 */
#ifndef NX_FUZZ_H
#define NX_FUZZ_H

#include "nx_base.h"
#include "nx_simd.h"

#include <stdlib.h>
#include <string.h>

typedef struct nx_input {
    const uint8_t *at;
    size_t size;
} nx_input;

/* What libFuzzer, and replay.c, call. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next `bytes` bytes, at most 8, as a number; what is missing counts as 0. */
static inline uint64_t eat(nx_input *in, size_t bytes)
{
    uint64_t value = 0;
    size_t take = bytes < in->size ? bytes : in->size;

    if (take != 0) {
        memcpy(&value, in->at, take);
    }
    in->at += take;
    in->size -= take;
    return value;
}

/* A copy of `size` bytes on the heap, so that a read one byte further is a finding. */
static inline uint8_t *exact_copy(const void *data, size_t size)
{
    uint8_t *copy = malloc(size);

    NX_ASSERT(copy != NULL || size == 0);
    if (size != 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

/* `size` bytes made of the input over and over, each round different; the input is used up. */
static inline uint8_t *stretch(nx_input *in, size_t size)
{
    uint8_t *made = malloc(size);

    NX_ASSERT(made != NULL || size == 0);
    for (size_t i = 0; i < size; i++) {
        size_t round = in->size == 0 ? i : i / in->size;
        made[i] = (uint8_t)((in->size == 0 ? 0 : in->at[i % in->size]) + round * 29);
    }
    return made;
}

/* Overwrites up to 8 bytes of memory of `size` bytes, as a hostile peer does. */
static inline void poke(nx_input *in, void *memory, size_t size)
{
    size_t offset = eat(in, 2) % size;
    size_t length = 1 + eat(in, 1) % 8;
    uint64_t value = eat(in, length);

    memcpy((uint8_t *)memory + offset, &value, length < size - offset ? length : size - offset);
}

/* The levels that this CPU runs, scalar first; returns how many. */
static inline unsigned levels_here(nx_simd ret[5])
{
    unsigned count = 0;

    for (nx_simd level = NX_SIMD_SCALAR; level <= NX_SIMD_NEON; level++) {
        nx_simd granted;
        if (nx_simd_demand(nx_simd_name(level), &granted) == NX_SIMD_GRANTED) {
            ret[count++] = granted;
        }
    }
    return count;
}

#endif
