// SPDX-License-Identifier: Apache-2.0
/*
 * What is read where cells are not perfect: bits that a cut left unstable, raw errors that grow
 * with stress, and an ECC that is known by what it was computed from. docs/spec/flash.md.
 */
#include <string.h>

#include "nx_flash_sim_state.h"

#define STEP_MAX  4096u
#define STEP_BARE 512u /* for the error model, where no ECC has steps */
#define RATE_MAX  500000000000u
#define LARGE     (1ull << 60) /* several of these still add up */

typedef struct step_read {
    const sim_block *block;
    const sim_leaf *leaf; /* may be NULL */
    uint32_t index;       /* of the block */
    uint32_t unit;
    uint32_t first; /* byte of the unit */
    uint32_t size;
    uint64_t rate; /* of raw errors, 1e-12 of a bit */
} step_read;

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;

    return __builtin_mul_overflow(a, b, &product) || product > LARGE ? LARGE : product;
}

static uint64_t error_rate(const nx_flash_sim *sim, const sim_block *block, uint32_t index)
{
    const nx_flash_sim_model *model = &sim->common->model;
    uint64_t erases = block == NULL ? 0 : block->erases;
    uint64_t rate = model->error_base + times(model->error_wear, erases * erases / 1000) / 1000;

    if (block != NULL) {
        const sim_unit *unit = &sim_units_peek(sim, block)[index];
        if (unit->programs != 0) {
            uint64_t age_s = sim->counters.time_ns / 1000000000u - unit->programmed_s;
            rate += times(times(model->error_hour, age_s) / 3600, 1000 + erases) / 1000;
        }
        rate += times(model->error_read, unit->reads) + times(model->error_program, unit->disturbs);
    }
    return rate > RATE_MAX ? RATE_MAX : rate;
}

/* The errors at one stress are among those at a greater one: each flips once its time has come. */
static void flip_stressed(const nx_flash_sim *sim, const step_read *read, uint8_t *bytes)
{
    uint64_t erases = read->block == NULL ? 0 : read->block->erases;
    uint64_t place = (uint64_t)read->index * sim->common->units + read->unit;
    uint64_t stress = (read->rate * (read->size * 8ull) / 1000 << 16) / 1000000000u;
    uint64_t due = 0;
    sim_stream chance =
        sim_draw(sim->common->model.seed, SIM_FLIP, place, erases << 16 | read->first / read->size);

    while ((due += sim_exponential(&chance)) <= stress) {
        uint32_t bit = sim_below(&chance, read->size * 8);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static uint32_t differing(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < size; i++) {
        bits += (uint32_t)__builtin_popcount((unsigned)(a[i] ^ b[i]));
    }
    return bits;
}

/* What the cells say at this very moment. */
static void sense(const nx_flash_sim *sim, const step_read *read, uint8_t *ret)
{
    const sim_common *common = sim->common;
    const sim_leaf *leaf = read->leaf;

    if (leaf == NULL) {
        memset(ret, common->model.geometry.erased, read->size);
    } else {
        uint32_t of_leaf = read->unit % common->leaf_units;
        uint32_t at = of_leaf * common->unit_size + read->first;
        memcpy(ret, leaf->bytes + at, read->size);
        if (leaf->damage != NULL && (leaf->damage->unstable >> of_leaf & 1) != 0) {
            uint64_t place = (uint64_t)read->index * common->units + read->unit;
            sim_stream chance =
                sim_draw(sim->seed, SIM_UNSTABLE, place,
                         (uint64_t)leaf->damage->reads[of_leaf] << 32 | read->first);
            for (uint32_t i = 0; i < read->size; i++) {
                ret[i] ^=
                    (uint8_t)(leaf->damage->bytes[common->leaf_size + at + i] & sim_next(&chance));
            }
        }
    }
    if (common->noisy) {
        flip_stressed(sim, read, ret);
    }
}

static int read_step(nx_flash_sim *sim, const step_read *read, uint8_t *ret, uint32_t *flips)
{
    const sim_common *common = sim->common;
    const nx_flash_sim_model *model = &common->model;
    uint8_t code[STEP_MAX];

    sense(sim, read, ret);
    if (model->ecc_step == 0) {
        return NX_OK;
    }
    uint32_t of_leaf = read->unit % common->leaf_units;
    uint32_t at = of_leaf * common->unit_size + read->first;
    if (read->leaf == NULL) {
        memset(code, model->geometry.erased, read->size);
    } else if (read->leaf->damage != NULL && (read->leaf->damage->torn >> of_leaf & 1) != 0) {
        memcpy(code, read->leaf->damage->bytes + at, read->size);
    } else {
        memcpy(code, read->leaf->bytes + at, read->size);
    }
    uint32_t wrong = differing(ret, code, read->size);
    if (wrong <= model->ecc_bits) {
        memcpy(ret, code, read->size);
        sim->counters.corrected += wrong;
        *flips = wrong > *flips ? wrong : *flips;
        return NX_OK;
    }
    if (model->miscorrects && (wrong - model->ecc_bits) % 2 == 0) {
        uint64_t place = (uint64_t)read->index * common->units + read->unit;
        sim_stream chance = sim_draw(model->seed, SIM_MISCORRECT, place, read->first);
        for (uint32_t i = 0; i < model->ecc_bits; i++) {
            uint32_t bit = sim_below(&chance, read->size * 8);
            ret[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        sim->counters.miscorrected++;
        sim->counters.corrected += model->ecc_bits;
        *flips = model->ecc_bits > *flips ? model->ecc_bits : *flips;
        return NX_OK;
    }
    sim->counters.uncorrectable++;
    return NX_ECORRUPT;
}

/* One more read of a page that a cut left unstable: at the last, bits stay as they were drawn. */
static int settle(nx_flash_sim *sim, uint32_t index, uint32_t unit)
{
    const sim_common *common = sim->common;
    uint32_t of_leaf = unit % common->leaf_units;
    const sim_block *seen = sim_block_peek(sim, index);
    const sim_leaf *shown = seen == NULL ? NULL : seen->leaves[unit / common->leaf_units];

    if (shown == NULL || shown->damage == NULL || (shown->damage->unstable >> of_leaf & 1) == 0) {
        return NX_OK;
    }
    sim_block *block = sim_block_edit(sim, index);
    sim_leaf *leaf = block == NULL ? NULL : sim_leaf_edit(sim, block, unit / common->leaf_units);
    if (leaf == NULL) {
        return NX_ENOMEM;
    }
    sim_damage *damage = leaf->damage;
    if (damage->reads[of_leaf] > 1) {
        damage->reads[of_leaf]--;
        return NX_OK;
    }
    uint32_t at = of_leaf * common->unit_size;
    uint64_t place = (uint64_t)index * common->units + unit;
    sim_stream chance = sim_draw(sim->seed, SIM_UNSTABLE, place, 0);
    if ((damage->torn >> of_leaf & 1) == 0) {
        memcpy(damage->bytes + at, leaf->bytes + at, common->unit_size);
        damage->torn |= (uint8_t)(1u << of_leaf);
    }
    for (uint32_t i = at; i < at + common->unit_size; i++) {
        uint8_t *flutter = &damage->bytes[common->leaf_size + i];
        leaf->bytes[i] ^= (uint8_t)(*flutter & sim_next(&chance));
        *flutter = 0;
    }
    damage->unstable &= (uint8_t)~(1u << of_leaf);
    return NX_OK;
}

static int disturb(nx_flash_sim *sim, uint32_t index, uint32_t unit)
{
    if (sim->common->model.error_read == 0) {
        return NX_OK;
    }
    sim_block *block = sim_block_edit(sim, index);
    if (block == NULL) {
        return NX_ENOMEM;
    }
    sim_unit *units = sim_units(sim, block);
    if (unit > 0) {
        units[unit - 1].reads++;
    }
    if (unit + 1 < sim->common->units) {
        units[unit + 1].reads++;
    }
    return NX_OK;
}

int sim_read_unit(nx_flash_sim *sim, uint32_t index, uint32_t unit, uint32_t from, uint32_t size,
                  uint8_t *ret, uint32_t *ret_flips)
{
    const sim_common *common = sim->common;
    uint32_t bare = common->unit_size < STEP_BARE ? common->unit_size : STEP_BARE;
    step_read read = {
        .block = sim_block_peek(sim, index),
        .index = index,
        .unit = unit,
        .size = common->model.ecc_step == 0 ? bare : common->model.ecc_step,
    };
    int worst = NX_OK;
    uint8_t bytes[STEP_MAX];

    read.leaf = read.block == NULL ? NULL : read.block->leaves[unit / common->leaf_units];
    read.rate = common->noisy ? error_rate(sim, read.block, unit) : 0;
    for (read.first = from / read.size * read.size; read.first < from + size;
         read.first += read.size) {
        int code = read_step(sim, &read, bytes, ret_flips);
        uint32_t start = from > read.first ? from - read.first : 0;
        uint32_t end = from + size - read.first < read.size ? from + size - read.first : read.size;
        memcpy(ret + (read.first + start - from), bytes + start, end - start);
        worst = code != NX_OK ? code : worst;
    }
    int code = settle(sim, index, unit);
    if (code == NX_OK) {
        code = disturb(sim, index, unit);
    }
    return code != NX_OK ? code : worst;
}

void sim_ecc_bytes(const nx_flash_sim *sim, uint32_t index, uint32_t page, uint8_t *ret)
{
    const sim_common *common = sim->common;
    const nx_flash_geometry *geometry = &common->model.geometry;
    const sim_block *block = sim_block_peek(sim, index);
    const sim_leaf *leaf = block == NULL ? NULL : block->leaves[page / common->leaf_pages];
    uint32_t size = geometry->oob_size - common->oob_free;
    uint32_t at = page % common->leaf_pages * geometry->page_size;

    memset(ret, 0xff, size);
    if (leaf == NULL || size == 0 || sim_units_peek(sim, block)[page].programs == 0) {
        return;
    }
    bool torn = leaf->damage != NULL && (leaf->damage->torn >> page % common->leaf_pages & 1) != 0;
    const uint8_t *code = torn ? leaf->damage->bytes + at : leaf->bytes + at;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < geometry->page_size; i++) {
        sum = (sum ^ code[i]) * 0x100000001b3u;
    }
    sim_stream stream = sim_draw(0, SIM_ECC_BYTES, sum, 0);
    for (uint32_t i = 0; i < size; i++) {
        ret[i] = (uint8_t)sim_next(&stream);
    }
}
