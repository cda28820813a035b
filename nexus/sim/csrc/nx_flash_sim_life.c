// SPDX-License-Identifier: Apache-2.0
/* How an emulated device begins, forks and ends, and what a rig orders from outside. */
#include <stdlib.h>
#include <string.h>

#include "nx_flash_sim_state.h"

#define FACTORY_BAD_MAX 20u

static bool is_flash(const nx_flash_sim_model *model)
{
    return model->geometry.kind == NX_FLASH_NOR || model->geometry.kind == NX_FLASH_NAND ||
           model->geometry.kind == NX_FLASH_MLC;
}

/* Bytes beside a page that a BCH code over GF(2^13) needs: 13 bits for each bit it corrects. */
static uint32_t ecc_size(const nx_flash_sim_model *model)
{
    uint32_t steps = model->ecc_step == 0 ? 0 : model->geometry.page_size / model->ecc_step;

    return steps * ((model->ecc_bits * 13u + 7) / 8);
}

static bool model_is_sound(const nx_flash_sim_model *model)
{
    const nx_flash_geometry *geometry = &model->geometry;
    uint32_t page = geometry->page_size;

    if (nx_flash_check(geometry) != NX_OK || geometry->size / geometry->block_size > UINT32_MAX) {
        return false;
    }
    bool small = page >= SIM_UNIT_MIN ||
                 (geometry->programs == SIM_MANY && (model->rules & NX_FLASH_RULE_ORDER) == 0 &&
                  geometry->block_size % SIM_UNIT_MIN == 0);
    bool ecc = model->ecc_step == 0
                   ? model->ecc_bits == 0 && !model->miscorrects
                   : nx_is_power_of_two(model->ecc_step) && model->ecc_step >= 64 &&
                         model->ecc_step <= 4096 && model->ecc_step <= page &&
                         page >= SIM_UNIT_MIN && model->ecc_bits > 0 && model->ecc_bits <= 128;
    bool oob = geometry->oob_size <= page &&
               (model->ecc_step == 0 || ecc_size(model) + 2 <= geometry->oob_size) &&
               (model->factory_bad == 0 || geometry->oob_size > 0);
    bool flags = model->rules <= NX_FLASH_RULE_ALL && model->miscorrects <= 1 &&
                 model->pairs <= 1 && model->worn <= NX_FLASH_FAIL_LAST &&
                 model->cache_keeps <= NX_FLASH_CACHE_SUBSET && model->reserved == 0;
    bool erased = !is_flash(model) || geometry->erased == 0xff;

    return small && ecc && oob && flags && erased && model->factory_bad <= FACTORY_BAD_MAX &&
           model->endurance_sigma <= 2000 &&
           (model->pairs == 0 || (page >= SIM_UNIT_MIN && geometry->block_size / page >= 4 &&
                                  geometry->block_size / page % 2 == 0));
}

static void common_fill(sim_common *common, const nx_flash_sim_model *model)
{
    const nx_flash_geometry *geometry = &model->geometry;
    uint32_t page = geometry->page_size;

    common->model = *model;
    common->blocks = (uint32_t)(geometry->size / geometry->block_size);
    common->groups = (common->blocks + SIM_GROUP_BLOCKS - 1) / SIM_GROUP_BLOCKS;
    common->pages = geometry->block_size / page;
    common->unit_size = page > SIM_UNIT_MIN ? page : SIM_UNIT_MIN;
    common->units = geometry->block_size / common->unit_size;
    common->leaf_size = page > SIM_LEAF_MIN ? page : SIM_LEAF_MIN;
    if (common->leaf_size > geometry->block_size || geometry->block_size % common->leaf_size != 0) {
        common->leaf_size = common->unit_size;
    }
    common->leaf_units = common->leaf_size / common->unit_size;
    common->leaf_pages = common->leaf_size / page;
    common->leaves = geometry->block_size / common->leaf_size;
    common->leaf_bytes = common->leaf_size + common->leaf_pages * geometry->oob_size;
    common->block_bytes = (uint32_t)(sizeof(sim_block) + common->leaves * sizeof(sim_leaf *) +
                                     common->units * sizeof(sim_unit));
    common->oob_free = geometry->oob_size - ecc_size(model);
    common->clears = is_flash(model);
    common->noisy = (model->error_base | model->error_wear | model->error_hour | model->error_read |
                     model->error_program) != 0;
    common->worn_out = model->endurance != 0;
}

static nx_flash_sim *sim_allocate(sim_common *common)
{
    nx_flash_sim *sim = calloc(1, sizeof *sim);

    if (sim == NULL) {
        return NULL;
    }
    sim->groups = calloc(common->groups, sizeof *sim->groups);
    if (sim->groups == NULL) {
        free(sim);
        return NULL;
    }
    atomic_fetch_add_explicit(&common->holders, 1, memory_order_relaxed);
    sim->common = common;
    sim->flash = (nx_flash){&sim_verbs, sim, common->model.geometry};
    sim->powered = true;
    sim->held_end = &sim->held;
    return sim;
}

/* Distinct blocks, never the first, by Floyd's method: each set is as likely as another. */
static int factory_mark(nx_flash_sim *sim)
{
    const sim_common *common = sim->common;
    uint32_t count = (uint32_t)((uint64_t)common->blocks * common->model.factory_bad / 1000);
    sim_stream chance = sim_draw(common->model.seed, SIM_FACTORY, 0, 0);
    static const uint8_t marker[1] = {0};

    for (uint32_t i = common->blocks - count; i < common->blocks; i++) {
        uint32_t index = 1 + sim_below(&chance, i);
        if (sim_is_bad(sim, index)) {
            index = i;
        }
        int code = sim_cells_oob(sim, index, 0, marker, 1, NULL);
        if (code != NX_OK) {
            return code;
        }
    }
    return NX_OK;
}

int nx_flash_sim_create(const nx_flash_sim_model *model, nx_flash_sim **ret)
{
    if (!model_is_sound(model)) {
        return NX_EINVAL;
    }
    sim_common *common = calloc(1, sizeof *common);
    if (common == NULL) {
        return NX_ENOMEM;
    }
    common_fill(common, model);
    nx_flash_sim *sim = sim_allocate(common);
    if (sim == NULL) {
        free(common);
        return NX_ENOMEM;
    }
    sim->seed = model->seed;
    int code = factory_mark(sim);
    if (code == NX_OK && model->cache != 0) {
        code = sim_cache_settle(sim);
    }
    if (code != NX_OK) {
        nx_flash_sim_destroy(sim);
        return code;
    }
    *ret = sim;
    return NX_OK;
}

void nx_flash_sim_destroy(nx_flash_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    sim_common *common = sim->common;

    sim_cache_free(sim);
    (void)nx_flash_sim_trace(sim, false);
    sim_groups_release(sim);
    free(sim->groups);
    free(sim);
    if (atomic_fetch_sub_explicit(&common->holders, 1, memory_order_acq_rel) == 1) {
        free(common);
    }
}

int sim_copy(const nx_flash_sim *sim, nx_flash_sim **ret)
{
    nx_flash_sim *copy = sim_allocate(sim->common);

    if (copy == NULL) {
        return NX_ENOMEM;
    }
    sim_groups_hold(sim);
    memcpy(copy->groups, sim->groups, sim->common->groups * sizeof *sim->groups);
    copy->counters = sim->counters;
    copy->breach = sim->breach;
    copy->last = sim->last;
    copy->plan = sim->plan;
    copy->seed = sim->seed;
    copy->calls = sim->calls;
    copy->mark_read_bytes = sim->mark_read_bytes;
    copy->mark_time_ns = sim->mark_time_ns;
    copy->byte_ps = sim->byte_ps;
    copy->powered = sim->powered;
    *ret = copy;
    return NX_OK;
}

int nx_flash_sim_fork(const nx_flash_sim *sim, nx_flash_sim **ret)
{
    nx_flash_sim *copy;
    int code = sim_copy(sim, &copy);

    if (code != NX_OK) {
        return code;
    }
    code = sim_cache_fork(sim, copy);
    if (code == NX_OK) {
        code = sim_trace_fork(sim, copy);
    }
    if (code != NX_OK) {
        nx_flash_sim_destroy(copy);
        return code;
    }
    *ret = copy;
    return NX_OK;
}

const nx_flash *nx_flash_sim_medium(const nx_flash_sim *sim)
{
    return &sim->flash;
}

const nx_flash_sim_model *nx_flash_sim_model_of(const nx_flash_sim *sim)
{
    return &sim->common->model;
}

const nx_flash_sim_counters *nx_flash_sim_counters_of(const nx_flash_sim *sim)
{
    return &sim->counters;
}

const nx_flash_sim_breach *nx_flash_sim_breach_of(const nx_flash_sim *sim)
{
    return &sim->breach;
}

const nx_flash_sim_breach *nx_flash_sim_breach_last(const nx_flash_sim *sim)
{
    return &sim->last;
}

uint32_t nx_flash_sim_erases_of(const nx_flash_sim *sim, uint32_t block)
{
    const sim_block *of = block < sim->common->blocks ? sim_block_peek(sim, block) : NULL;

    return of == NULL ? 0 : of->erases;
}

void nx_flash_sim_wear_of(const nx_flash_sim *sim, nx_flash_sim_wear *ret)
{
    nx_flash_sim_wear wear = {.min = UINT32_MAX, .blocks = sim->common->blocks};

    for (uint32_t i = 0; i < sim->common->blocks; i++) {
        uint32_t erases = nx_flash_sim_erases_of(sim, i);
        wear.min = erases < wear.min ? erases : wear.min;
        wear.max = erases > wear.max ? erases : wear.max;
        wear.sum += erases;
    }
    *ret = wear;
}
