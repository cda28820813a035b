// SPDX-License-Identifier: Apache-2.0
/*
 * A controller that holds changes back until a sync. The client sees them at once; the medium is a
 * second state that they reach when they are synced, when the cache is full, or, if the power goes
 * first, as nx_flash_cache says.
 */
#include <stdlib.h>
#include <string.h>

#include "nx_flash_sim_state.h"

/* The medium becomes what the client sees. */
int sim_cache_settle(nx_flash_sim *sim)
{
    nx_flash_sim *settled;
    int code = sim_copy(sim, &settled);

    if (code == NX_OK) {
        nx_flash_sim_destroy(sim->settled);
        sim->settled = settled;
    }
    return code;
}

static void forget(nx_flash_sim *sim)
{
    while (sim->held != NULL) {
        sim_held *next = sim->held->next;
        free(sim->held);
        sim->held = next;
    }
    sim->held_end = &sim->held;
    sim->held_count = 0;
}

static int reach(nx_flash_sim *medium, const sim_held *held)
{
    const nx_flash_geometry *geometry = &medium->common->model.geometry;
    uint32_t block = (uint32_t)(held->at / geometry->block_size);
    uint32_t page = (uint32_t)(held->at % geometry->block_size) / geometry->page_size;

    switch (held->verb) {
    case NX_FLASH_PROGRAM:
        return sim_cells_program(medium, block, page, held->data, NULL);
    case NX_FLASH_ERASE:
        return sim_cells_erase(medium, block, NULL);
    default:
        return sim_cells_oob(medium, block, page, held->data, held->size, NULL);
    }
}

int sim_cache_hold(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at, const void *data,
                   size_t size)
{
    if (sim->settled == NULL) {
        return NX_OK;
    }
    sim_held *held = malloc(sizeof *held + size);
    if (held == NULL) {
        return NX_ENOMEM;
    }
    *held = (sim_held){.at = at, .verb = (uint32_t)verb, .size = (uint32_t)size};
    if (size != 0) {
        memcpy(held->data, data, size);
    }
    *sim->held_end = held;
    sim->held_end = &held->next;
    if (++sim->held_count <= sim->common->model.cache) {
        return NX_OK;
    }
    sim_held *oldest = sim->held;
    int code = reach(sim->settled, oldest);
    sim->held = oldest->next;
    sim->held_count--;
    free(oldest);
    return code;
}

int sim_cache_sync(nx_flash_sim *sim)
{
    if (sim->settled == NULL) {
        return NX_OK;
    }
    forget(sim);
    return sim_cache_settle(sim);
}

int sim_cache_lose(nx_flash_sim *sim)
{
    if (sim->settled == NULL) {
        return NX_OK;
    }
    const nx_flash_sim_model *model = &sim->common->model;
    sim_stream chance = sim_draw(sim->seed, SIM_CACHE, sim->counters.mutations, 0);
    uint32_t kept =
        model->cache_keeps == NX_FLASH_CACHE_PREFIX ? sim_below(&chance, sim->held_count + 1) : 0;
    int code = NX_OK;
    for (const sim_held *held = sim->held; code == NX_OK && held != NULL; held = held->next) {
        bool survives = kept > 0;
        if (model->cache_keeps == NX_FLASH_CACHE_SUBSET) {
            survives = sim_below(&chance, 2) != 0;
        }
        code = survives ? reach(sim->settled, held) : NX_OK;
        kept -= kept > 0;
    }
    forget(sim);
    sim_groups_release(sim);
    memcpy(sim->groups, sim->settled->groups, sim->common->groups * sizeof *sim->groups);
    sim_groups_hold(sim);
    return code;
}

void sim_cache_free(nx_flash_sim *sim)
{
    forget(sim);
    nx_flash_sim_destroy(sim->settled);
    sim->settled = NULL;
}

int sim_cache_fork(const nx_flash_sim *sim, nx_flash_sim *ret)
{
    if (sim->settled == NULL) {
        return NX_OK;
    }
    int code = sim_copy(sim->settled, &ret->settled);

    for (const sim_held *held = sim->held; code == NX_OK && held != NULL; held = held->next) {
        sim_held *copy = malloc(sizeof *copy + held->size);
        if (copy == NULL) {
            return NX_ENOMEM;
        }
        memcpy(copy, held, sizeof *copy + held->size);
        copy->next = NULL;
        *ret->held_end = copy;
        ret->held_end = &copy->next;
        ret->held_count++;
    }
    return code;
}
