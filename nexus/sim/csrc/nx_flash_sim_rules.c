// SPDX-License-Identifier: Apache-2.0
/* The rules of docs/spec/flash.md: what a client must not ask, and the record of who did. */
#include <stdio.h>
#include <string.h>

#include "nx_flash_sim_state.h"

typedef struct call {
    nx_flash_verb verb;
    uint64_t at;
    size_t size;
} call;

static int broken(nx_flash_sim *sim, const call *of, uint32_t rule, uint64_t where, uint64_t count,
                  uint64_t limit)
{
    const nx_flash_geometry *geometry = &sim->common->model.geometry;

    sim->last = (nx_flash_sim_breach){
        .rule = rule,
        .verb = of->verb,
        .at = of->at,
        .size = of->size,
        .block = (uint32_t)(where / geometry->block_size),
        .page = (uint32_t)(where % geometry->block_size / geometry->page_size),
        .count = count,
        .limit = limit,
        .call = sim->calls,
    };
    if (sim->counters.breaches++ == 0) {
        sim->breach = sim->last;
    }
    return rule == NX_FLASH_RULE_RANGE   ? NX_ERANGE
           : rule == NX_FLASH_RULE_ALIGN ? NX_EALIGN
                                         : NX_EINVAL;
}

static bool held(const nx_flash_sim *sim, uint32_t rule)
{
    return (sim->common->model.rules & rule) != 0;
}

static int in_range(nx_flash_sim *sim, const call *of)
{
    uint64_t size = sim->common->model.geometry.size;

    if (of->at > size || of->size > size - of->at) {
        return broken(sim, of, NX_FLASH_RULE_RANGE, of->at, of->at + of->size, size);
    }
    return NX_OK;
}

/* A marker on the first page, or the second, as makers and Linux put them. */
bool sim_is_bad(const nx_flash_sim *sim, uint32_t index)
{
    const sim_common *common = sim->common;
    const sim_block *block = sim_block_peek(sim, index);

    if (common->model.geometry.oob_size == 0 || block == NULL) {
        return false;
    }
    for (uint32_t page = 0; page < 2 && page < common->pages; page++) {
        sim_leaf *leaf = block->leaves[page / common->leaf_pages];
        if (leaf != NULL && *sim_oob(sim, leaf, page) != 0xff) {
            return true;
        }
    }
    return false;
}

/* The first byte of `size` that would set a bit, or `size`; 0xff leaves a byte as it is. */
static size_t first_set(const uint8_t *cells, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (size - i >= 8 && (nx_load_u64(data + i) & ~nx_load_u64(cells + i)) == 0) {
            i += 7;
        } else if ((data[i] & ~cells[i]) != 0 && data[i] != 0xff) {
            return i;
        }
    }
    return size;
}

static bool only(const uint8_t *bytes, size_t size, uint8_t byte)
{
    return size == 0 || (bytes[0] == byte && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* A page that was programmed: which bits and steps may be programmed again. */
static int rule_again(nx_flash_sim *sim, const call *of, const sim_leaf *leaf, uint64_t at,
                      const uint8_t *data)
{
    const sim_common *common = sim->common;
    const nx_flash_geometry *geometry = &common->model.geometry;
    const uint8_t *cells = leaf->bytes + at % geometry->block_size % common->leaf_size;
    uint32_t step = common->model.ecc_step;

    if (held(sim, NX_FLASH_RULE_CLEAR) && common->clears) {
        size_t same = first_set(cells, data, geometry->page_size);
        if (same < geometry->page_size) {
            return broken(sim, of, NX_FLASH_RULE_CLEAR, at, same, data[same]);
        }
    }
    for (uint32_t i = 0; step != 0 && held(sim, NX_FLASH_RULE_ECC) && i < geometry->page_size;
         i += step) {
        if (!only(cells + i, step, geometry->erased) && !only(data + i, step, geometry->erased)) {
            return broken(sim, of, NX_FLASH_RULE_ECC, at, i / step, 1);
        }
    }
    return NX_OK;
}

static int rule_page(nx_flash_sim *sim, const call *of, const sim_block *block, uint64_t at,
                     const uint8_t *data)
{
    const sim_common *common = sim->common;
    const nx_flash_geometry *geometry = &common->model.geometry;
    uint32_t within = (uint32_t)(at % geometry->block_size);
    uint32_t page = within / geometry->page_size;
    const sim_unit *unit = &sim_units_peek(sim, block)[within / common->unit_size];

    if (held(sim, NX_FLASH_RULE_ORDER) && page < block->due) {
        return broken(sim, of, NX_FLASH_RULE_ORDER, at, page, block->due);
    }
    if (held(sim, NX_FLASH_RULE_PROGRAMS) && unit->programs >= geometry->programs &&
        geometry->programs != SIM_MANY) {
        return broken(sim, of, NX_FLASH_RULE_PROGRAMS, at, unit->programs + 1u, geometry->programs);
    }
    const sim_leaf *leaf = block->leaves[within / common->leaf_size];
    return leaf == NULL ? NX_OK : rule_again(sim, of, leaf, at, data);
}

int sim_rule_block(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at)
{
    const call of = {verb, at, sim->common->model.geometry.block_size};
    int code = in_range(sim, &of);

    if (code == NX_OK && at % of.size != 0) {
        code = broken(sim, &of, NX_FLASH_RULE_ALIGN, at, at % of.size, of.size);
    }
    return code;
}

int sim_rule_read(nx_flash_sim *sim, uint64_t at, size_t size)
{
    const call of = {NX_FLASH_READ, at, size};

    return in_range(sim, &of);
}

int sim_rule_program(nx_flash_sim *sim, uint64_t at, const uint8_t *data, size_t size)
{
    const nx_flash_geometry *geometry = &sim->common->model.geometry;
    const call of = {NX_FLASH_PROGRAM, at, size};
    int code = in_range(sim, &of);

    if (code != NX_OK) {
        return code;
    }
    if (at % geometry->page_size != 0 || size % geometry->page_size != 0) {
        uint64_t odd = at % geometry->page_size != 0 ? at : size;
        return broken(sim, &of, NX_FLASH_RULE_ALIGN, at, odd % geometry->page_size,
                      geometry->page_size);
    }
    if (size == 0) {
        return NX_OK; /* at the very end, there is no block to look at */
    }
    uint64_t within = at % geometry->block_size;
    if (size > geometry->block_size - within) {
        return broken(sim, &of, NX_FLASH_RULE_RANGE, at, within + size, geometry->block_size);
    }
    uint32_t index = (uint32_t)(at / geometry->block_size);
    if (held(sim, NX_FLASH_RULE_BAD) && sim_is_bad(sim, index)) {
        return broken(sim, &of, NX_FLASH_RULE_BAD, at, 1, 0);
    }
    const sim_block *block = sim_block_peek(sim, index);
    if (block != NULL && block->half && held(sim, NX_FLASH_RULE_ERASED)) {
        return broken(sim, &of, NX_FLASH_RULE_ERASED, at, block->erases, block->erases);
    }
    for (size_t i = 0; block != NULL && code == NX_OK && i < size; i += geometry->page_size) {
        code = rule_page(sim, &of, block, at + i, data + i);
    }
    return code;
}

int sim_rule_erase(nx_flash_sim *sim, uint64_t at)
{
    const call of = {NX_FLASH_ERASE, at, sim->common->model.geometry.block_size};
    int code = sim_rule_block(sim, NX_FLASH_ERASE, at);

    if (code == NX_OK && held(sim, NX_FLASH_RULE_BAD) &&
        sim_is_bad(sim, (uint32_t)(at / of.size))) {
        code = broken(sim, &of, NX_FLASH_RULE_BAD, at, 1, 0);
    }
    return code;
}

int sim_rule_oob(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at, const uint8_t *data,
                 size_t size)
{
    const sim_common *common = sim->common;
    const nx_flash_geometry *geometry = &common->model.geometry;
    const call of = {verb, at, size};

    if (at >= geometry->size || size > geometry->oob_size) {
        return broken(sim, &of, NX_FLASH_RULE_RANGE, at, size, geometry->oob_size);
    }
    if (at % geometry->page_size != 0) {
        return broken(sim, &of, NX_FLASH_RULE_ALIGN, at, at % geometry->page_size,
                      geometry->page_size);
    }
    if (data == NULL) {
        return NX_OK;
    }
    if (size > common->oob_free && held(sim, NX_FLASH_RULE_ECC) &&
        !only(data + common->oob_free, size - common->oob_free, 0xff)) {
        return broken(sim, &of, NX_FLASH_RULE_ECC, at, size, common->oob_free);
    }
    uint32_t page = (uint32_t)(at % geometry->block_size / geometry->page_size);
    const sim_block *block = sim_block_peek(sim, (uint32_t)(at / geometry->block_size));
    sim_leaf *leaf = block == NULL ? NULL : block->leaves[page / common->leaf_pages];
    if (leaf != NULL && held(sim, NX_FLASH_RULE_CLEAR)) {
        size_t bytes = size < common->oob_free ? size : common->oob_free;
        size_t same = first_set(sim_oob(sim, leaf, page), data, bytes);
        if (same < bytes) {
            return broken(sim, &of, NX_FLASH_RULE_CLEAR, at, same, data[same]);
        }
    }
    return NX_OK;
}

static const char *const verbs[] = {
    "none", "read", "program", "erase", "oob_read", "oob_write", "is_bad", "mark_bad", "sync",
};

static const char *rule_text(uint32_t rule)
{
    switch (rule) {
    case NX_FLASH_RULE_ORDER:
        return "page %llu is programmed when page %llu is the first that may be";
    case NX_FLASH_RULE_PROGRAMS:
        return "program %llu of the page since its erase, where %llu are allowed";
    case NX_FLASH_RULE_CLEAR:
        return "byte %llu sets bits that are cleared: 0x%02llx";
    case NX_FLASH_RULE_ERASED:
        return "erase %llu of the block was interrupted or refused: erase it again";
    case NX_FLASH_RULE_BAD:
        return "the block is marked bad";
    case NX_FLASH_RULE_ECC:
        return "step or byte %llu holds ECC that a second program spoils";
    case NX_FLASH_RULE_RANGE:
        return "it ends at %llu, where %llu is the end";
    case NX_FLASH_RULE_ALIGN:
        return "%llu bytes off a boundary of %llu";
    default:
        return "no rule was broken";
    }
}

size_t nx_flash_sim_explain(const nx_flash_sim_breach *breach, char *ret, size_t size)
{
    char why[128];
    const char *verb = verbs[breach->verb < NX_ARRAY_COUNT(verbs) ? breach->verb : 0];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(why, sizeof why, rule_text(breach->rule), (unsigned long long)breach->count,
                   (unsigned long long)breach->limit);
#pragma GCC diagnostic pop
    int length = snprintf(ret, size, "call %llu, %s of %llu bytes at %llu, block %u page %u: %s",
                          (unsigned long long)breach->call, verb, (unsigned long long)breach->size,
                          (unsigned long long)breach->at, breach->block, breach->page, why);
    return length < 0 || size == 0 ? 0 : (size_t)length < size ? (size_t)length : size - 1;
}
