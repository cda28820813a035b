// SPDX-License-Identifier: Apache-2.0
/* The cuts of the chunker straight from their definition. */
#ifndef NX_FUZZ_PLAIN_CDC_H
#define NX_FUZZ_PLAIN_CDC_H

#include "fuzz.h"
#include "nx_cdc.h"
#include "plain_nx1.h"

#define MOST (96u << 10) /* bytes of an input */

/* docs/spec/chunker.md, a byte a step. */
static inline size_t defined_cut(const nx_cdc *cdc, const uint8_t *chunk, size_t size)
{
    size_t limit = size < cdc->maximum ? size : cdc->maximum;
    uint64_t hash = 0;

    if (cdc->profile == NX_CDC_NX1) {
        return nx1_cut(cdc, chunk, size);
    }
    for (size_t i = cdc->minimum / 2 * 2; size > cdc->minimum && i < limit / 2 * 2; i++) {
        hash = 2 * hash + cdc->gear[chunk[i]];
        if ((hash & (i < cdc->average / 2 * 2 ? cdc->strict : cdc->loose)) == 0) {
            return i;
        }
    }
    return limit;
}

static inline void same_cuts(const nx_cdc_list *list, const uint64_t *want, size_t count)
{
    NX_ASSERT(list->count == count);
    for (size_t i = 0; i < count; i++) {
        NX_ASSERT(list->items[i].end == want[i]);
    }
}

/* The search in parts of a few cuts, each going on where the last one ended. */
static inline void check_parts(const nx_cdc *cdc, const uint8_t *data, size_t size,
                               const uint64_t *want, size_t count)
{
    nx_cdc_cut part[5];
    size_t at = 0, seen = 0;

    while (at < size) {
        size_t got = nx_cdc_cuts(cdc, data, size, at, NX_ARRAY_COUNT(part), part, &at);
        for (size_t i = 0; i < got; i++) {
            NX_ASSERT(seen < count && part[i].end == want[seen]);
            seen++;
        }
    }
    NX_ASSERT(seen == count);
}

#endif
