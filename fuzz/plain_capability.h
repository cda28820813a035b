// SPDX-License-Identifier: Apache-2.0
/* Capabilities as a plain list, parents before children. */
#ifndef NX_FUZZ_PLAIN_CAPABILITY_H
#define NX_FUZZ_PLAIN_CAPABILITY_H

#include "fuzz.h"
#include "nx_capability.h"

#define CAPACITY 24u
#define KNOWN    200u

static struct {
    uint64_t handle;
    uint16_t rights;
    size_t parent; /* KNOWN: none */
    bool live;
} model[KNOWN];
static size_t known, live;

static inline void note(uint64_t handle, uint16_t rights, size_t parent)
{
    for (size_t i = 0; i < known; i++) {
        NX_ASSERT(model[i].handle != handle); /* never the same twice */
    }
    model[known].handle = handle;
    model[known].rights = rights;
    model[known].parent = parent;
    model[known++].live = true;
    live++;
}

static inline bool is_live(uint64_t handle)
{
    bool found = false;

    for (size_t i = 0; i < known; i++) {
        found |= model[i].live && model[i].handle == handle;
    }
    return found;
}

/* Parents come before children, so one pass forward finds all descendants. */
static inline uint32_t end(size_t top, bool self)
{
    bool below[KNOWN] = {false};
    uint32_t ended = 0;

    for (size_t i = top; i < known; i++) {
        below[i] = i == top || (model[i].parent != KNOWN && below[model[i].parent]);
        if (below[i] && model[i].live && (i != top || self)) {
            model[i].live = false;
            ended++;
        }
    }
    live -= ended;
    return ended;
}

#endif
