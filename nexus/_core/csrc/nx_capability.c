// SPDX-License-Identifier: Apache-2.0
/* Mint, derive and revoke: what changes a table; the theory is in nx_capability.h. */
#include "nx_capability_digest.h"

static nx_capability *live_entry(const nx_capability_table *table, uint64_t handle)
{
    return nx_capability_check(table, handle, 0) ? &table->hot[(uint32_t)handle] : NULL;
}

int nx_capability_table_init(nx_capability_table *table, nx_capability *hot,
                             nx_capability_links *cold, uint32_t capacity)
{
    NX_ASSERT(table != NULL && hot != NULL && cold != NULL);
    if (capacity == 0 || capacity > NX_CAPABILITY_CAPACITY_MAX) {
        return NX_EINVAL;
    }
    *table = (nx_capability_table){.hot = hot, .cold = cold, .capacity = capacity};
    for (uint32_t i = 0; i < capacity; i++) {
        hot[i] = (nx_capability){0};
        cold[i] = (nx_capability_links){
            .parent = NX_CAPABILITY_NONE,
            .child = NX_CAPABILITY_NONE,
            .next = i + 1 < capacity ? i + 1 : NX_CAPABILITY_NONE,
            .previous = NX_CAPABILITY_NONE,
        };
        table->digest += digest_at(table, i);
    }
    return NX_OK;
}

/* Takes a free slot and fills its hot half; NX_CAPABILITY_NONE when none is left. */
static uint32_t slot_take(nx_capability_table *table, nx_capability what)
{
    uint32_t index = table->free_head;

    if (index == NX_CAPABILITY_NONE) {
        return index;
    }
    NX_ASSERT(index < table->capacity);
    nx_capability *entry = &table->hot[index];
    NX_ASSERT((entry->generation & 1) == 0);
    table->free_head = table->cold[index].next;
    table->digest -= digest_at(table, index);
    what.generation = entry->generation + 1;
    *entry = what;
    table->digest += digest_at(table, index);
    table->cold[index] = (nx_capability_links){NX_CAPABILITY_NONE, NX_CAPABILITY_NONE,
                                               NX_CAPABILITY_NONE, NX_CAPABILITY_NONE};
    table->live++;
    return index;
}

/* Ends the entry: its handles stop matching now and, through the generation, for ever. */
NX_INLINE void slot_release(nx_capability_table *table, uint32_t index)
{
    nx_capability *entry = &table->hot[index];
    /* The last odd generation is followed by 0; such a slot stays out of the free list. */
    nx_capability empty = {.generation = entry->generation + 1};

    table->digest += entry_digest(index, empty.generation, 0) - digest_at(table, index);
    *entry = empty;
    table->live--;
    if (NX_UNLIKELY(empty.generation == 0)) {
        table->retired++;
        return;
    }
    table->cold[index].next = table->free_head;
    table->free_head = index;
}

static uint64_t handle_of(const nx_capability_table *table, uint32_t index)
{
    return (uint64_t)table->hot[index].generation << 32 | index;
}

int nx_capability_mint(nx_capability_table *table, nx_capability what, uint64_t *ret)
{
    uint32_t index = slot_take(table, what);

    if (index == NX_CAPABILITY_NONE) {
        return NX_EFULL;
    }
    *ret = handle_of(table, index);
    return NX_OK;
}

int nx_capability_derive(nx_capability_table *table, uint64_t parent, uint16_t rights,
                         uint64_t *ret)
{
    const nx_capability *source = live_entry(table, parent);

    if (source == NULL) {
        return NX_ESTALE;
    }
    if ((source->rights & NX_RIGHT_DELEGATE) == 0 || (rights & ~source->rights) != 0) {
        return NX_EDENIED;
    }
    nx_capability what = *source;
    what.rights = rights;
    uint32_t index = slot_take(table, what);
    if (index == NX_CAPABILITY_NONE) {
        return NX_EFULL;
    }
    uint32_t above = (uint32_t)parent;
    uint32_t first = table->cold[above].child;
    table->cold[index].parent = above;
    table->cold[index].next = first;
    if (first != NX_CAPABILITY_NONE) {
        NX_ASSERT(first < table->capacity);
        table->cold[first].previous = index;
    }
    table->cold[above].child = index;
    *ret = handle_of(table, index);
    return NX_OK;
}

/* Takes an entry out of its parent's list of children. */
static int unlink_entry(nx_capability_table *table, uint32_t index)
{
    const nx_capability_links links = table->cold[index];

    if (links.next != NX_CAPABILITY_NONE) {
        if (links.next >= table->capacity) {
            return NX_ECORRUPT;
        }
        table->cold[links.next].previous = links.previous;
    }
    if (links.previous != NX_CAPABILITY_NONE) {
        if (links.previous >= table->capacity) {
            return NX_ECORRUPT;
        }
        table->cold[links.previous].next = links.next;
    } else if (links.parent != NX_CAPABILITY_NONE) {
        if (links.parent >= table->capacity) {
            return NX_ECORRUPT;
        }
        table->cold[links.parent].child = links.next;
    }
    return NX_OK;
}

/*
 * Releases every descendant of `top`, parents before children. A sibling that must wait for the
 * children of its elder goes on a stack made of `previous` links, which nothing needs any more.
 * Each step releases one live entry, so even corrupt links end it within `capacity` steps.
 */
static int release_below(nx_capability_table *shared, uint32_t top)
{
    /* A copy whose address nothing takes: counters and pointers stay in registers. */
    nx_capability_table local = *shared;
    nx_capability_table *table = &local;
    uint32_t waiting = NX_CAPABILITY_NONE;
    uint32_t parent = top;
    uint32_t at = table->cold[top].child;
    int result = NX_OK;

    table->cold[top].child = NX_CAPABILITY_NONE;
    while (at != NX_CAPABILITY_NONE) {
        /* `top` below itself would be released here and once more by the caller. */
        if (at >= table->capacity || at == top || table->cold[at].parent != parent ||
            (table->hot[at].generation & 1) == 0) {
            result = NX_ECORRUPT;
            break;
        }
        uint32_t child = table->cold[at].child;
        uint32_t next = table->cold[at].next;
        if (next < table->capacity) {
            /* Siblings lie anywhere; fetch the next while this one is taken apart. */
            __builtin_prefetch(&table->cold[next]);
            __builtin_prefetch(&table->hot[next]);
        }
        slot_release(table, at);
        if (child == NX_CAPABILITY_NONE) {
            at = next;
        } else {
            if (next != NX_CAPABILITY_NONE) {
                if (next >= table->capacity || table->cold[next].parent != parent) {
                    result = NX_ECORRUPT;
                    break;
                }
                table->cold[next].previous = waiting;
                waiting = next;
            }
            parent = at;
            at = child;
        }
        if (at == NX_CAPABILITY_NONE && waiting != NX_CAPABILITY_NONE) {
            at = waiting;
            waiting = table->cold[at].previous;
            parent = table->cold[at].parent;
        }
    }
    *shared = local;
    return result;
}

int nx_capability_revoke(nx_capability_table *table, uint64_t handle, bool self, uint32_t *ret)
{
    uint32_t live_before = table->live;
    uint32_t top = (uint32_t)handle;

    if (live_entry(table, handle) == NULL) {
        return NX_ESTALE;
    }
    int result = release_below(table, top);
    if (self) {
        int unlinked = unlink_entry(table, top);
        slot_release(table, top);
        result = result != NX_OK ? result : unlinked;
    }
    if (result == NX_OK) {
        *ret = live_before - table->live;
    }
    return result;
}
