// SPDX-License-Identifier: Apache-2.0
/* The emulator's verbs: rules first, then the plan of cuts, then the cells, then the counts. */
#include "nx_flash_sim.h"

#include <string.h>

#include "nx_flash_sim_state.h"

static uint32_t block_of(const nx_flash_sim *sim, uint64_t at)
{
    return (uint32_t)(at / sim->common->model.geometry.block_size);
}

static uint32_t page_of(const nx_flash_sim *sim, uint64_t at)
{
    const nx_flash_geometry *geometry = &sim->common->model.geometry;

    return (uint32_t)(at % geometry->block_size) / geometry->page_size;
}

static void spend(nx_flash_sim *sim, uint64_t ns, uint64_t bytes, uint64_t nj)
{
    sim->byte_ps += bytes * sim->common->model.byte_ps;
    sim->counters.time_ns += ns + sim->byte_ps / 1000;
    sim->byte_ps %= 1000;
    sim->counters.energy_nj += nj;
}

static nx_flash_fail fail_of(const nx_flash_sim *sim, const sim_block *block)
{
    if (block == NULL || block->fail != NX_FLASH_FAIL_NONE) {
        return block == NULL ? NX_FLASH_FAIL_NONE : (nx_flash_fail)block->fail;
    }
    bool worn = sim->common->worn_out && block->erases >= block->limit;
    return worn ? (nx_flash_fail)block->worn : NX_FLASH_FAIL_NONE;
}

/* Counts a step that the power may go in; true when it goes. */
static bool cut_begins(nx_flash_sim *sim, uint64_t at, sim_tear *ret)
{
    uint64_t mutation = ++sim->counters.mutations;

    if (sim->plan.mutation != mutation) {
        return false;
    }
    sim_stream chance = sim_draw(sim->seed, SIM_CUT_MODE, at, mutation);
    *ret = (sim_tear){
        .mode = sim->plan.mode,
        .weak_bits = sim->plan.weak_bits,
        .unstable_reads = sim->plan.unstable_reads,
        .chance = sim_draw(sim->seed, SIM_CUT_BITS, at, mutation),
    };
    if (ret->mode == NX_FLASH_CUT_ANY) {
        ret->mode = (uint8_t)(1 + sim_below(&chance, NX_FLASH_CUT_LAST));
    }
    if (sim->common->model.cache != 0) {
        ret->mode = NX_FLASH_CUT_BEFORE; /* it had only reached the controller */
    }
    return true;
}

static int cut_ends(nx_flash_sim *sim, int code)
{
    sim->counters.cuts++;
    int off = sim_power_off(sim);
    if (code == NX_OK) {
        code = off;
    }
    return code == NX_OK ? NX_EFAULT : code;
}

static int refuse(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at, const uint8_t *data)
{
    sim_tear tear = {
        .mode = NX_FLASH_CUT_SUBSET,
        .chance = sim_draw(sim->seed, SIM_REFUSED, at, sim->counters.mutations),
    };
    int code;

    sim->counters.refused++;
    if (verb == NX_FLASH_ERASE) {
        code = sim_cells_erase(sim, block_of(sim, at), &tear);
    } else {
        code = sim_cells_program(sim, block_of(sim, at), page_of(sim, at), data, &tear);
    }
    return code == NX_OK ? NX_EMEDIUM : code;
}

/* Of one leaf: what is asked of it, and nothing else. */
static int read_leaf(nx_flash_sim *sim, uint64_t at, uint8_t *ret, uint32_t size, uint32_t *flips)
{
    const sim_common *common = sim->common;
    uint32_t index = block_of(sim, at);
    uint32_t within = (uint32_t)(at % common->model.geometry.block_size);
    const sim_block *block = sim_block_peek(sim, index);
    const sim_leaf *leaf = block == NULL ? NULL : block->leaves[within / common->leaf_size];
    bool dead = fail_of(sim, block) == NX_FLASH_FAIL_READ;
    int worst = dead ? NX_ECORRUPT : NX_OK;

    if (!common->noisy && (leaf == NULL || leaf->damage == NULL)) {
        if (leaf == NULL) {
            memset(ret, common->model.geometry.erased, size);
        } else {
            memcpy(ret, leaf->bytes + within % common->leaf_size, size);
        }
        return worst;
    }
    while (size > 0) {
        uint32_t from = within % common->unit_size;
        uint32_t part = common->unit_size - from < size ? common->unit_size - from : size;
        int code = sim_read_unit(sim, index, within / common->unit_size, from, part, ret, flips);
        if (code != NX_OK && code != NX_ECORRUPT) {
            return code;
        }
        worst = code != NX_OK ? code : worst;
        within += part;
        ret += part;
        size -= part;
    }
    return worst;
}

static int read_bytes(nx_flash_sim *sim, uint64_t at, uint8_t *ret, size_t size, uint32_t *flips)
{
    const sim_common *common = sim->common;
    const nx_flash_geometry *geometry = &common->model.geometry;
    int worst = NX_OK;

    if (size == 0) {
        return NX_OK;
    }
    uint64_t pages = (at + size - 1) / geometry->page_size - at / geometry->page_size + 1;
    sim->counters.reads++;
    sim->counters.read_bytes += size;
    sim->counters.read_pages += pages;
    spend(sim, pages * common->model.read_ns, size, pages * common->model.read_nj);
    while (size > 0) {
        uint64_t left = common->leaf_size - at % geometry->block_size % common->leaf_size;
        uint32_t part = (uint32_t)(left < size ? left : size);
        int code = read_leaf(sim, at, ret, part, flips);
        if (code != NX_OK && code != NX_ECORRUPT) {
            return code;
        }
        worst = code != NX_OK ? code : worst;
        at += part;
        ret += part;
        size -= part;
    }
    return worst;
}

static int verb_read(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    nx_flash_sim *sim = self;
    uint32_t flips = 0;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : sim_rule_read(sim, at, size);
    if (code == NX_OK) {
        code = read_bytes(sim, at, ret, size, &flips);
    }
    bool filled = code == NX_OK || code == NX_ECORRUPT;
    if (filled) {
        *ret_flips = flips;
    }
    sim_trace_call(sim, NX_FLASH_READ, code, at, filled ? ret : NULL, size, flips);
    return code;
}

static int program_page(nx_flash_sim *sim, uint64_t at, const uint8_t *data)
{
    const nx_flash_sim_model *model = &sim->common->model;
    uint32_t index = block_of(sim, at);
    uint32_t page = page_of(sim, at);
    sim_tear tear;

    sim->counters.programs++;
    sim->counters.program_bytes += model->geometry.page_size;
    spend(sim, model->program_ns, model->geometry.page_size, model->program_nj);
    if (cut_begins(sim, at, &tear)) {
        return cut_ends(sim, sim_cells_program(sim, index, page, data, &tear));
    }
    nx_flash_fail fail = fail_of(sim, sim_block_peek(sim, index));
    if (fail == NX_FLASH_FAIL_PROGRAM || fail == NX_FLASH_FAIL_PROGRAM_ERASE) {
        return refuse(sim, NX_FLASH_PROGRAM, at, data);
    }
    tear.mode = SIM_TEAR_DEAF;
    bool deaf = fail == NX_FLASH_FAIL_PROGRAM_DEAF;
    int code = sim_cells_program(sim, index, page, data, deaf ? &tear : NULL);
    if (code == NX_OK && !deaf) {
        code = sim_cache_hold(sim, NX_FLASH_PROGRAM, at, data, model->geometry.page_size);
    }
    return code;
}

static int verb_program(void *self, uint64_t at, const void *data, size_t size)
{
    nx_flash_sim *sim = self;
    uint32_t page = sim->common->model.geometry.page_size;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : sim_rule_program(sim, at, data, size);
    for (size_t i = 0; code == NX_OK && i < size; i += page) {
        code = program_page(sim, at + i, (const uint8_t *)data + i);
    }
    sim_trace_call(sim, NX_FLASH_PROGRAM, code, at, data, size, 0);
    return code;
}

static int erase_block(nx_flash_sim *sim, uint64_t at)
{
    const nx_flash_sim_model *model = &sim->common->model;
    uint32_t index = block_of(sim, at);
    sim_tear tear;

    sim->counters.erases++;
    spend(sim, model->erase_ns, 0, model->erase_nj);
    if (cut_begins(sim, at, &tear)) {
        return cut_ends(sim, sim_cells_erase(sim, index, &tear));
    }
    nx_flash_fail fail = fail_of(sim, sim_block_peek(sim, index));
    if (fail == NX_FLASH_FAIL_ERASE || fail == NX_FLASH_FAIL_PROGRAM_ERASE ||
        sim_is_bad(sim, index)) {
        return refuse(sim, NX_FLASH_ERASE, at, NULL);
    }
    tear.mode = SIM_TEAR_DEAF;
    bool deaf = fail == NX_FLASH_FAIL_ERASE_DEAF;
    int code = sim_cells_erase(sim, index, deaf ? &tear : NULL);
    if (code == NX_OK && !deaf) {
        code = sim_cache_hold(sim, NX_FLASH_ERASE, at, NULL, 0);
    }
    return code;
}

static int verb_erase(void *self, uint64_t at)
{
    nx_flash_sim *sim = self;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : sim_rule_erase(sim, at);
    if (code == NX_OK) {
        code = erase_block(sim, at);
    }
    sim_trace_call(sim, NX_FLASH_ERASE, code, at, NULL, 0, 0);
    return code;
}

static int verb_oob_read(void *self, uint64_t at, void *ret, size_t size)
{
    nx_flash_sim *sim = self;
    const sim_common *common = sim->common;
    uint32_t oob_size = common->model.geometry.oob_size;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : oob_size == 0 ? NX_EABSENT : NX_OK;
    if (code == NX_OK) {
        code = sim_rule_oob(sim, NX_FLASH_OOB_READ, at, NULL, size);
    }
    if (code == NX_OK) {
        uint8_t bytes[NX_FLASH_PAGE_MAX];
        uint32_t page = page_of(sim, at);
        const sim_block *block = sim_block_peek(sim, block_of(sim, at));
        sim_leaf *leaf = block == NULL ? NULL : block->leaves[page / common->leaf_pages];
        memset(bytes, 0xff, oob_size);
        if (leaf != NULL) {
            memcpy(bytes, sim_oob(sim, leaf, page), common->oob_free);
        }
        sim_ecc_bytes(sim, block_of(sim, at), page, bytes + common->oob_free);
        memcpy(ret, bytes, size);
        sim->counters.oob_reads++;
        spend(sim, common->model.read_ns, size, common->model.read_nj);
    }
    sim_trace_call(sim, NX_FLASH_OOB_READ, code, at, code == NX_OK ? ret : NULL, size, 0);
    return code;
}

static int oob_write(nx_flash_sim *sim, uint64_t at, const uint8_t *data, size_t size)
{
    const nx_flash_sim_model *model = &sim->common->model;
    sim_tear tear;

    sim->counters.oob_writes++;
    spend(sim, model->program_ns, size, model->program_nj);
    bool cut = cut_begins(sim, at, &tear);
    int code =
        sim_cells_oob(sim, block_of(sim, at), page_of(sim, at), data, size, cut ? &tear : NULL);
    if (cut) {
        return cut_ends(sim, code);
    }
    return code != NX_OK ? code : sim_cache_hold(sim, NX_FLASH_OOB_WRITE, at, data, size);
}

static int verb_oob_write(void *self, uint64_t at, const void *data, size_t size)
{
    nx_flash_sim *sim = self;

    sim->calls++;
    int code = !sim->powered                               ? NX_EFAULT
               : sim->common->model.geometry.oob_size == 0 ? NX_EABSENT
                                                           : NX_OK;
    if (code == NX_OK) {
        code = sim_rule_oob(sim, NX_FLASH_OOB_WRITE, at, data, size);
    }
    if (code == NX_OK) {
        code = oob_write(sim, at, data, size);
    }
    sim_trace_call(sim, NX_FLASH_OOB_WRITE, code, at, data, size, 0);
    return code;
}

static int verb_is_bad(void *self, uint64_t at, bool *ret)
{
    nx_flash_sim *sim = self;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : sim_rule_block(sim, NX_FLASH_IS_BAD, at);
    bool bad = code == NX_OK && sim_is_bad(sim, block_of(sim, at));
    if (code == NX_OK) {
        *ret = bad;
    }
    sim_trace_call(sim, NX_FLASH_IS_BAD, code, at, NULL, 0, bad);
    return code;
}

static int verb_mark_bad(void *self, uint64_t at)
{
    nx_flash_sim *sim = self;
    static const uint8_t marker[2] = {0, 0};
    uint32_t free = sim->common->oob_free;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : free == 0 ? NX_EABSENT : NX_OK;
    if (code == NX_OK) {
        code = sim_rule_block(sim, NX_FLASH_MARK_BAD, at);
    }
    if (code == NX_OK) {
        code = oob_write(sim, at, marker, free < 2 ? free : 2);
    }
    sim_trace_call(sim, NX_FLASH_MARK_BAD, code, at, NULL, 0, 0);
    return code;
}

static int verb_sync(void *self)
{
    nx_flash_sim *sim = self;

    sim->calls++;
    int code = !sim->powered ? NX_EFAULT : NX_OK;
    if (code == NX_OK) {
        sim->counters.syncs++;
        code = sim_cache_sync(sim);
    }
    sim_trace_call(sim, NX_FLASH_SYNC, code, 0, NULL, 0, 0);
    return code;
}

const nx_flash_verbs sim_verbs = {
    .read = verb_read,
    .program = verb_program,
    .erase = verb_erase,
    .oob_read = verb_oob_read,
    .oob_write = verb_oob_write,
    .is_bad = verb_is_bad,
    .mark_bad = verb_mark_bad,
    .sync = verb_sync,
};
