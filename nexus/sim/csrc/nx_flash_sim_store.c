// SPDX-License-Identifier: Apache-2.0
/*
 * The counted parts of the emulator's state. Taking and giving up a part: relaxed to add a holder,
 * since one that adds holds already; release to drop one, which pairs with the acquire in `alone`
 * and before free, so that a writer or the one that frees sees what the others last read.
 */
#include <stdlib.h>
#include <string.h>

#include "nx_flash_sim_state.h"

static void hold(_Atomic uint32_t *holders)
{
    atomic_fetch_add_explicit(holders, 1, memory_order_relaxed);
}

static bool alone(_Atomic uint32_t *holders)
{
    return atomic_load_explicit(holders, memory_order_acquire) == 1;
}

static bool last(_Atomic uint32_t *holders)
{
    return alone(holders) || atomic_fetch_sub_explicit(holders, 1, memory_order_acq_rel) == 1;
}

static void leaf_release(sim_leaf *leaf)
{
    if (leaf != NULL && last(&leaf->holders)) {
        free(leaf->damage);
        free(leaf);
    }
}

static void block_release(const sim_common *common, sim_block *block)
{
    if (block != NULL && last(&block->holders)) {
        for (uint32_t i = 0; i < common->leaves; i++) {
            leaf_release(block->leaves[i]);
        }
        free(block);
    }
}

static void group_release(const sim_common *common, sim_group *group)
{
    if (group != NULL && last(&group->holders)) {
        for (uint32_t i = 0; i < SIM_GROUP_BLOCKS; i++) {
            block_release(common, group->blocks[i]);
        }
        free(group);
    }
}

void sim_groups_release(const nx_flash_sim *sim)
{
    for (uint32_t i = 0; i < sim->common->groups; i++) {
        group_release(sim->common, sim->groups[i]);
    }
}

void sim_groups_hold(const nx_flash_sim *sim)
{
    for (uint32_t i = 0; i < sim->common->groups; i++) {
        if (sim->groups[i] != NULL) {
            hold(&sim->groups[i]->holders);
        }
    }
}

const sim_block *sim_block_peek(const nx_flash_sim *sim, uint32_t block)
{
    const sim_group *group = sim->groups[block / SIM_GROUP_BLOCKS];

    return group == NULL ? NULL : group->blocks[block % SIM_GROUP_BLOCKS];
}

static sim_group *group_edit(nx_flash_sim *sim, uint32_t index)
{
    sim_group *old = sim->groups[index];

    if (old != NULL && alone(&old->holders)) {
        return old;
    }
    sim_group *group = calloc(1, sizeof *group);
    if (group == NULL) {
        return NULL;
    }
    if (old != NULL) {
        memcpy(group->blocks, old->blocks, sizeof group->blocks);
        for (uint32_t i = 0; i < SIM_GROUP_BLOCKS; i++) {
            if (group->blocks[i] != NULL) {
                hold(&group->blocks[i]->holders);
            }
        }
        group_release(sim->common, old);
    }
    atomic_init(&group->holders, 1);
    sim->groups[index] = group;
    return group;
}

/* What wears out, and how, is the die's: drawn from the model's seed. */
static void block_wear_draw(const nx_flash_sim *sim, uint32_t index, sim_block *block)
{
    const nx_flash_sim_model *model = &sim->common->model;
    sim_stream stream = sim_draw(model->seed, SIM_LIMIT, index, 0);

    block->limit = sim_log_normal(&stream, model->endurance, model->endurance_sigma);
    block->worn = model->worn;
    if (block->worn == NX_FLASH_FAIL_NONE) {
        stream = sim_draw(model->seed, SIM_WORN, index, 0);
        block->worn = (uint8_t)(1 + sim_below(&stream, NX_FLASH_FAIL_LAST));
    }
}

static sim_block *block_copy(const sim_common *common, sim_block *old)
{
    sim_block *block = malloc(common->block_bytes);

    if (block != NULL) {
        /* Not the count, which others may be changing. */
        size_t head = offsetof(sim_block, erases);
        memcpy((uint8_t *)block + head, (uint8_t *)old + head, common->block_bytes - head);
        atomic_init(&block->holders, 1);
        for (uint32_t i = 0; i < common->leaves; i++) {
            if (block->leaves[i] != NULL) {
                hold(&block->leaves[i]->holders);
            }
        }
        block_release(common, old);
    }
    return block;
}

sim_block *sim_block_edit(nx_flash_sim *sim, uint32_t index)
{
    sim_group *group = group_edit(sim, index / SIM_GROUP_BLOCKS);

    if (group == NULL) {
        return NULL;
    }
    sim_block **place = &group->blocks[index % SIM_GROUP_BLOCKS];
    if (*place != NULL && alone(&(*place)->holders)) {
        return *place;
    }
    sim_block *block;
    if (*place != NULL) {
        block = block_copy(sim->common, *place);
    } else {
        block = calloc(1, sim->common->block_bytes);
        if (block != NULL) {
            atomic_init(&block->holders, 1);
            if (sim->common->worn_out) {
                block_wear_draw(sim, index, block);
            }
        }
    }
    if (block != NULL) {
        *place = block;
    }
    return block;
}

sim_leaf *sim_leaf_edit(nx_flash_sim *sim, sim_block *block, uint32_t index)
{
    const sim_common *common = sim->common;
    sim_leaf *old = block->leaves[index];

    if (old != NULL && alone(&old->holders)) {
        return old;
    }
    size_t damage_size = sizeof(sim_damage) + 2 * (size_t)common->leaf_size;
    sim_leaf *leaf = malloc(sizeof *leaf + common->leaf_bytes);
    if (leaf == NULL) {
        return NULL;
    }
    leaf->damage = NULL;
    atomic_init(&leaf->holders, 1);
    if (old == NULL) {
        memset(leaf->bytes, common->model.geometry.erased, common->leaf_size);
        memset(leaf->bytes + common->leaf_size, 0xff, common->leaf_bytes - common->leaf_size);
    } else {
        memcpy(leaf->bytes, old->bytes, common->leaf_bytes);
        if (old->damage != NULL) {
            leaf->damage = malloc(damage_size);
            if (leaf->damage == NULL) {
                free(leaf);
                return NULL;
            }
            memcpy(leaf->damage, old->damage, damage_size);
        }
        leaf_release(old);
    }
    block->leaves[index] = leaf;
    return leaf;
}

sim_damage *sim_damage_edit(nx_flash_sim *sim, sim_leaf *leaf)
{
    if (leaf->damage == NULL) {
        leaf->damage = calloc(1, sizeof(sim_damage) + 2 * (size_t)sim->common->leaf_size);
    }
    return leaf->damage;
}

void sim_block_wipe(const nx_flash_sim *sim, sim_block *block)
{
    const sim_common *common = sim->common;

    for (uint32_t i = 0; i < common->leaves; i++) {
        leaf_release(block->leaves[i]);
        block->leaves[i] = NULL;
    }
    memset(&block->leaves[common->leaves], 0, common->units * sizeof(sim_unit));
    block->due = 0;
    block->half = 0;
}
