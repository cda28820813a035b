// SPDX-License-Identifier: Apache-2.0
/* What cells do when they are programmed and erased, wholly or torn: docs/spec/flash.md. */
#include <string.h>

#include "nx_flash_sim_state.h"

/* Each bit set with a chance of eighths/8, from three draws. */
static uint64_t mask_next(sim_stream *chance, uint32_t eighths)
{
    uint64_t mask = 0;

    for (unsigned bit = 0; bit < 3; bit++) {
        uint64_t draw = sim_next(chance);
        mask = (eighths >> bit & 1) != 0 ? mask | draw : mask & draw;
    }
    return mask;
}

/* Moves a part of the bits in which `cells` differs from `want`; `want` NULL: from `byte`. */
static void move_some(uint8_t *cells, const uint8_t *want, uint8_t byte, size_t size,
                      sim_stream *chance, uint32_t eighths)
{
    for (size_t i = 0; i < size; i += 8) {
        size_t part = size - i < 8 ? size - i : 8;
        uint64_t now = 0;
        uint64_t then = byte * 0x0101010101010101u;
        memcpy(&now, cells + i, part);
        if (want != NULL) {
            memcpy(&then, want + i, part);
        }
        now ^= (now ^ then) & mask_next(chance, eighths);
        memcpy(cells + i, &now, part);
    }
}

static void want_of(const sim_common *common, const uint8_t *cells, const uint8_t *data,
                    size_t size, uint8_t *ret)
{
    size_t i = 0;

    if (!common->clears) {
        memcpy(ret, data, size);
        return;
    }
    for (; size - i >= 8; i += 8) {
        nx_store_u64(ret + i, nx_load_u64(cells + i) & nx_load_u64(data + i));
    }
    for (; i < size; i++) {
        ret[i] = cells[i] & data[i];
    }
}

/* Bits of [first, first + size) of the leaf that will read as they like; others may be set. */
static int make_weak(nx_flash_sim *sim, sim_leaf *leaf, uint32_t first, uint32_t size,
                     uint32_t bits, sim_tear *tear)
{
    const sim_common *common = sim->common;
    sim_damage *damage = sim_damage_edit(sim, leaf);

    if (damage == NULL) {
        return NX_ENOMEM;
    }
    uint32_t unit = first / common->unit_size;
    for (uint32_t i = 0; i < bits; i++) {
        uint32_t bit = sim_below(&tear->chance, size * 8);
        damage->bytes[common->leaf_size + first + bit / 8] |= (uint8_t)(1u << bit % 8);
    }
    damage->unstable |= (uint8_t)(1u << unit);
    damage->reads[unit] = tear->unstable_reads;
    return NX_OK;
}

/* Remembers what the ECC bytes of the unit say, before its cells come to differ from it. */
static int make_torn(nx_flash_sim *sim, sim_leaf *leaf, uint32_t first, const uint8_t *code)
{
    const sim_common *common = sim->common;
    uint32_t unit = first / common->unit_size;

    if (common->model.ecc_step == 0) {
        return NX_OK;
    }
    sim_damage *damage = sim_damage_edit(sim, leaf);
    if (damage == NULL) {
        return NX_ENOMEM;
    }
    if ((damage->torn >> unit & 1) == 0) {
        memcpy(damage->bytes + first, code, common->unit_size);
        damage->torn |= (uint8_t)(1u << unit);
    }
    return NX_OK;
}

int sim_cells_torn(nx_flash_sim *sim, sim_leaf *leaf, uint32_t first)
{
    return make_torn(sim, leaf, first, leaf->bytes + first);
}

/* What was programmed before in cells that are shared with the page in hand. */
static int spoil_pair(nx_flash_sim *sim, sim_block *block, uint32_t page, sim_tear *tear)
{
    const sim_common *common = sim->common;
    uint32_t size = common->model.geometry.page_size;
    bool final = page == common->pages - 1;
    uint32_t lower = page == 2 ? 0 : final ? page - 2 : page - 3;

    if (!common->model.pairs || page < 2 || (page % 2 != 0 && !final)) {
        return NX_OK;
    }
    uint32_t at = lower * size;
    if (block->leaves[at / common->leaf_size] == NULL) {
        return NX_OK;
    }
    sim_leaf *leaf = sim_leaf_edit(sim, block, at / common->leaf_size);
    int code = leaf == NULL ? NX_ENOMEM : sim_cells_torn(sim, leaf, at % common->leaf_size);
    if (code == NX_OK) {
        uint8_t *cells = leaf->bytes + at % common->leaf_size;
        move_some(cells, NULL, 0x00, size, &tear->chance, 1);
        move_some(cells, NULL, 0xff, size, &tear->chance, 1);
    }
    return code;
}

static int program_torn(nx_flash_sim *sim, sim_leaf *leaf, uint32_t first, const uint8_t *want,
                        sim_tear *tear)
{
    uint32_t size = sim->common->model.geometry.page_size;
    uint8_t *cells = leaf->bytes + first;

    if (tear->mode == NX_FLASH_CUT_WEAK) {
        memcpy(cells, want, size);
        return make_weak(sim, leaf, first, size, tear->weak_bits, tear);
    }
    int code = make_torn(sim, leaf, first, want);
    if (code != NX_OK) {
        return code;
    }
    if (tear->mode == NX_FLASH_CUT_PREFIX) {
        memcpy(cells, want, sim_below(&tear->chance, size));
    } else if (tear->mode == NX_FLASH_CUT_SUBSET) {
        uint32_t eighths = 1 + sim_below(&tear->chance, 7);
        move_some(cells, want, 0, size, &tear->chance, eighths);
    }
    return NX_OK;
}

static void program_note(nx_flash_sim *sim, sim_block *block, uint32_t page)
{
    const sim_common *common = sim->common;
    uint32_t index = page * common->model.geometry.page_size / common->unit_size;
    sim_unit *units = sim_units(sim, block);

    block->due = page;
    if (units[index].programs < SIM_MANY) {
        units[index].programs++;
    }
    if (common->noisy) {
        units[index].programmed_s = (uint32_t)(sim->counters.time_ns / 1000000000u);
        units[index].disturbs = 0;
        if (index > 0) {
            units[index - 1].disturbs++;
        }
        if (index + 1 < common->units) {
            units[index + 1].disturbs++;
        }
    }
}

int sim_cells_program(nx_flash_sim *sim, uint32_t index, uint32_t page, const uint8_t *data,
                      sim_tear *tear)
{
    const sim_common *common = sim->common;
    uint32_t size = common->model.geometry.page_size;
    uint32_t at = page * size;

    if (tear != NULL && tear->mode == NX_FLASH_CUT_BEFORE) {
        return NX_OK;
    }
    sim_block *block = sim_block_edit(sim, index);
    if (block == NULL) {
        return NX_ENOMEM;
    }
    sim_leaf *leaf = sim_leaf_edit(sim, block, at / common->leaf_size);
    if (leaf == NULL) {
        return NX_ENOMEM;
    }
    program_note(sim, block, page);
    uint8_t *cells = leaf->bytes + at % common->leaf_size;
    if (tear == NULL || tear->mode == NX_FLASH_CUT_AFTER) {
        want_of(common, cells, data, size, cells);
        return NX_OK;
    }
    if (tear->mode == SIM_TEAR_DEAF) {
        return NX_OK;
    }
    uint8_t want[NX_FLASH_PAGE_MAX];
    want_of(common, cells, data, size, want);
    int code = program_torn(sim, leaf, at % common->leaf_size, want, tear);
    return code != NX_OK ? code : spoil_pair(sim, block, page, tear);
}

/* The units from `first` on lose a part of what they hold; those before are erased. */
static int erase_torn(nx_flash_sim *sim, sim_block *block, uint32_t first, uint32_t eighths,
                      sim_tear *tear)
{
    const sim_common *common = sim->common;
    uint8_t erased = common->model.geometry.erased;

    for (uint32_t i = 0; i < common->units; i++) {
        uint32_t at = i * common->unit_size;
        uint32_t within = at % common->leaf_size;
        if (block->leaves[at / common->leaf_size] == NULL) {
            continue;
        }
        sim_leaf *leaf = sim_leaf_edit(sim, block, at / common->leaf_size);
        if (leaf == NULL) {
            return NX_ENOMEM;
        }
        uint8_t *cells = leaf->bytes + within;
        if (i < first) {
            memset(cells, erased, common->unit_size);
            sim_units(sim, block)[i].programs = 0;
            if (leaf->damage != NULL) {
                uint8_t others = (uint8_t)~(1u << within / common->unit_size);
                leaf->damage->torn &= others;
                leaf->damage->unstable &= others;
                memset(leaf->damage->bytes + common->leaf_size + within, 0, common->unit_size);
            }
        } else if (eighths != 0) {
            int code = make_torn(sim, leaf, within, cells);
            if (code != NX_OK) {
                return code;
            }
            move_some(cells, NULL, erased, common->unit_size, &tear->chance, eighths);
        }
    }
    return NX_OK;
}

static int erase_weak(nx_flash_sim *sim, sim_block *block, sim_tear *tear)
{
    const sim_common *common = sim->common;

    sim_block_wipe(sim, block);
    for (uint32_t i = 0; i < tear->weak_bits; i++) {
        uint32_t at = sim_below(&tear->chance, common->units) * common->unit_size;
        sim_leaf *leaf = sim_leaf_edit(sim, block, at / common->leaf_size);
        if (leaf == NULL ||
            make_weak(sim, leaf, at % common->leaf_size, common->unit_size, 1, tear) != NX_OK) {
            return NX_ENOMEM;
        }
    }
    return NX_OK;
}

int sim_cells_erase(nx_flash_sim *sim, uint32_t index, sim_tear *tear)
{
    if (tear != NULL && tear->mode == NX_FLASH_CUT_BEFORE) {
        return NX_OK;
    }
    sim_block *block = sim_block_edit(sim, index);
    if (block == NULL) {
        return NX_ENOMEM;
    }
    block->erases++;
    if (tear == NULL || tear->mode == NX_FLASH_CUT_AFTER) {
        sim_block_wipe(sim, block);
        return NX_OK;
    }
    if (tear->mode == SIM_TEAR_DEAF) {
        block->due = 0;
        memset(sim_units(sim, block), 0, sim->common->units * sizeof(sim_unit));
        return NX_OK;
    }
    int code;
    if (tear->mode == NX_FLASH_CUT_WEAK) {
        code = erase_weak(sim, block, tear);
    } else if (tear->mode == NX_FLASH_CUT_PREFIX) {
        code = erase_torn(sim, block, sim_below(&tear->chance, sim->common->units), 0, tear);
    } else {
        code = erase_torn(sim, block, 0, 1 + sim_below(&tear->chance, 7), tear);
    }
    block->half = 1;
    return code;
}

int sim_cells_oob(nx_flash_sim *sim, uint32_t index, uint32_t page, const uint8_t *data,
                  size_t size, sim_tear *tear)
{
    const sim_common *common = sim->common;

    if (tear != NULL && tear->mode == NX_FLASH_CUT_BEFORE) {
        return NX_OK;
    }
    sim_block *block = sim_block_edit(sim, index);
    sim_leaf *leaf = block == NULL ? NULL : sim_leaf_edit(sim, block, page / common->leaf_pages);
    if (leaf == NULL) {
        return NX_ENOMEM;
    }
    uint8_t *cells = sim_oob(sim, leaf, page);
    uint8_t want[NX_FLASH_PAGE_MAX];
    size = size < common->oob_free ? size : common->oob_free;
    for (size_t i = 0; i < size; i++) {
        want[i] = cells[i] & data[i];
    }
    if (tear == NULL || tear->mode == NX_FLASH_CUT_AFTER) {
        memcpy(cells, want, size);
    } else if (tear->mode == NX_FLASH_CUT_PREFIX) {
        memcpy(cells, want, sim_below(&tear->chance, (uint32_t)size));
    } else {
        move_some(cells, want, 0, size, &tear->chance, 1 + sim_below(&tear->chance, 7));
    }
    return NX_OK;
}
