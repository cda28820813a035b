// SPDX-License-Identifier: Apache-2.0
#include "nx_cspace.h"

#include <string.h>

#define TYPE_MAX 6u
#define DELEGATE 16u

static nx_node_capability read_slot(const nx_cspace *space, uint32_t index)
{
    uint64_t words[3][4];
    nx_node_capability voted;

    for (unsigned i = 0; i < 3; i++) {
        memcpy(words[i], &space->copies[i]->slots[index], sizeof words[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        words[0][i] =
            (words[0][i] & words[1][i]) | (words[0][i] & words[2][i]) | (words[1][i] & words[2][i]);
    }
    memcpy(&voted, words[0], sizeof voted);
    return voted;
}

static void write_slot(nx_cspace *space, uint32_t index, const nx_node_capability *value)
{
    for (unsigned i = 0; i < 3; i++) {
        space->copies[i]->slots[index] = *value;
    }
}

static bool is_live(const nx_cspace *space, const nx_node_capability *one)
{
    return one->type != 0 && one->epoch == space->epoch;
}

bool nx_cspace_read(const nx_cspace *space, uint32_t index, nx_node_capability *ret)
{
    if (index >= NX_NODE_CSPACE) {
        return false;
    }
    *ret = read_slot(space, index);
    return is_live(space, ret);
}

void nx_cspace_sterilise(nx_cspace *space)
{
    space->epoch++;
    for (unsigned i = 0; i < 3; i++) {
        memset(space->copies[i], 0, sizeof *space->copies[i]);
    }
}

static int derive(const nx_cspace *space, nx_node_capability *wanted)
{
    nx_node_capability parent = read_slot(space, wanted->parent - 1u);

    if (!is_live(space, &parent)) {
        return NX_ESTALE;
    }
    wanted->depth = (uint8_t)(parent.depth + 1);
    bool narrower = parent.type == wanted->type && parent.object == wanted->object &&
                    (wanted->rights & ~parent.rights) == 0 && wanted->start >= parent.start &&
                    wanted->end <= parent.end;
    bool decayed = wanted->depth < NX_CSPACE_DEPTH || (wanted->rights & DELEGATE) == 0;
    return narrower && decayed && (parent.rights & DELEGATE) != 0 ? NX_OK : NX_EDENIED;
}

int nx_cspace_grant(nx_cspace *space, const nx_node_capability *wanted, uint32_t *ret)
{
    if (wanted->type == 0 || wanted->type > TYPE_MAX || wanted->start > wanted->end ||
        wanted->parent > NX_NODE_CSPACE) {
        return NX_EINVAL;
    }
    nx_node_capability given = *wanted;
    given.depth = 0;
    given.epoch = space->epoch;
    if (wanted->parent != 0) {
        int result = derive(space, &given);
        if (result != NX_OK) {
            return result;
        }
    }
    for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
        nx_node_capability there = read_slot(space, i);
        if (!is_live(space, &there)) {
            write_slot(space, i, &given);
            *ret = i;
            return NX_OK;
        }
    }
    return NX_EFULL;
}

int nx_cspace_revoke(nx_cspace *space, uint32_t index, uint32_t *ret)
{
    static const nx_node_capability nothing;
    uint64_t dead = 0;
    uint64_t before;

    nx_node_capability one;
    if (!nx_cspace_read(space, index, &one)) {
        return NX_ESTALE;
    }
    dead = (uint64_t)1 << index;
    /* A child may lie before or behind its parent: until nothing changes, at most 64 rounds. */
    do {
        before = dead;
        for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
            one = read_slot(space, i);
            if (is_live(space, &one) && one.parent != 0 && one.parent <= NX_NODE_CSPACE &&
                (dead >> (one.parent - 1) & 1) != 0) {
                dead |= (uint64_t)1 << i;
            }
        }
    } while (dead != before);
    *ret = 0;
    for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
        if ((dead >> i & 1) != 0) {
            write_slot(space, i, &nothing);
            *ret += 1;
        }
    }
    return NX_OK;
}

bool nx_cspace_check(const nx_cspace *space, uint32_t index, uint8_t rights, uint64_t start,
                     uint64_t end)
{
    nx_node_capability one;

    return start <= end && nx_cspace_read(space, index, &one) && (one.rights & rights) == rights &&
           start >= one.start && end <= one.end;
}
