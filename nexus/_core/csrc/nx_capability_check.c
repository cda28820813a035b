// SPDX-License-Identifier: Apache-2.0
/* Looking at a table without changing it: the supervisor's part; see nx_capability.h. */
#include "nx_capability_digest.h"

int nx_capability_lookup(const nx_capability_table *table, uint64_t handle, nx_capability *ret)
{
    if (!nx_capability_check(table, handle, 0)) {
        return NX_ESTALE;
    }
    *ret = table->hot[(uint32_t)handle];
    return NX_OK;
}

size_t nx_capability_check_many(const nx_capability_table *table, const uint64_t *handles,
                                size_t count, uint16_t rights, uint8_t *ret)
{
    enum { AHEAD = 12 }; /* handles in flight: covers an L2 miss at the pace of the loop */
    size_t passed = 0;

    for (size_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            uint32_t soon = (uint32_t)handles[i + AHEAD];
            __builtin_prefetch(&table->hot[soon < table->capacity ? soon : 0]);
        }
        uint8_t ok = nx_capability_check(table, handles[i], rights);
        ret[i] = ok;
        passed += ok;
    }
    return passed;
}

void nx_capability_table_audit(const nx_capability_table *table, nx_capability_audit *ret)
{
    uint64_t digest = 0;
    uint32_t live = 0;

    for (uint32_t i = 0; i < table->capacity; i++) {
        uint64_t word = nx_capability_word(table, i);
        digest += entry_digest(i, word, table->hot[i].object);
        live += (uint32_t)word & 1;
    }
    *ret = (nx_capability_audit){digest, table->digest, live, table->retired};
}
