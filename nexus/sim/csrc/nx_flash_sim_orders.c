// SPDX-License-Identifier: Apache-2.0
/* What a rig does to an emulated device from outside: power, time, faults. */
#include <string.h>

#include "nx_flash_sim_state.h"

static void control(nx_flash_sim *sim, sim_control kind, int code, uint64_t at, const void *data,
                    size_t size, uint32_t outcome)
{
    sim_trace_call(sim, (uint32_t)kind, code, at, data, size, outcome);
}

void nx_flash_sim_seed(nx_flash_sim *sim, uint64_t seed)
{
    sim->seed = seed;
    control(sim, SIM_CONTROL_SEED, NX_OK, seed, NULL, 0, 0);
}

void nx_flash_sim_plan_cut(nx_flash_sim *sim, const nx_flash_sim_plan *plan)
{
    NX_ASSERT(plan->mode <= NX_FLASH_CUT_LAST && plan->reserved == 0 && plan->reserved2 == 0);
    sim->plan = *plan;
    control(sim, SIM_CONTROL_PLAN, NX_OK, 0, plan, sizeof *plan, 0);
}

bool nx_flash_sim_powered(const nx_flash_sim *sim)
{
    return sim->powered;
}

/* The cut of a plan comes here too, inside a call that the trace has not noted yet. */
int sim_power_off(nx_flash_sim *sim)
{
    bool was = sim->powered;

    sim->powered = false;
    return was ? sim_cache_lose(sim) : NX_OK;
}

int nx_flash_sim_power_off(nx_flash_sim *sim)
{
    int code = sim_power_off(sim);

    control(sim, SIM_CONTROL_OFF, code, 0, NULL, 0, 0);
    return code;
}

void nx_flash_sim_power_on(nx_flash_sim *sim)
{
    sim->powered = true;
    control(sim, SIM_CONTROL_ON, NX_OK, 0, NULL, 0, 0);
}

void nx_flash_sim_advance(nx_flash_sim *sim, uint64_t ns)
{
    sim->counters.time_ns += ns;
    sim->mark_time_ns += ns; /* the client did not spend it */
    control(sim, SIM_CONTROL_ADVANCE, NX_OK, ns, NULL, 0, 0);
}

void nx_flash_sim_mark(nx_flash_sim *sim)
{
    nx_flash_sim_counters *counters = &sim->counters;
    uint64_t bytes = counters->read_bytes - sim->mark_read_bytes;
    uint64_t time_ns = counters->time_ns - sim->mark_time_ns;

    if (counters->marks++ != 0) {
        if (bytes > counters->span_read_bytes_max) {
            counters->span_read_bytes_max = bytes;
        }
        if (time_ns > counters->span_time_ns_max) {
            counters->span_time_ns_max = time_ns;
        }
    }
    sim->mark_read_bytes = counters->read_bytes;
    sim->mark_time_ns = counters->time_ns;
    control(sim, SIM_CONTROL_MARK, NX_OK, 0, NULL, 0, 0);
}

/* With a cache the order reaches the medium too: it is not the client's, so nothing is lost. */
static int both(nx_flash_sim *sim, uint32_t index, sim_block *ret[2])
{
    if (index >= sim->common->blocks) {
        return NX_ERANGE;
    }
    ret[0] = sim_block_edit(sim, index);
    ret[1] = sim->settled == NULL ? NULL : sim_block_edit(sim->settled, index);
    return ret[0] == NULL || (sim->settled != NULL && ret[1] == NULL) ? NX_ENOMEM : NX_OK;
}

int nx_flash_sim_fail(nx_flash_sim *sim, uint32_t block, nx_flash_fail fail)
{
    sim_block *blocks[2];
    int code = (unsigned)fail > NX_FLASH_FAIL_LAST ? NX_EINVAL : both(sim, block, blocks);

    for (unsigned i = 0; code == NX_OK && i < 2 && blocks[i] != NULL; i++) {
        blocks[i]->fail = (uint8_t)fail;
    }
    control(sim, SIM_CONTROL_FAIL, code, block, NULL, 0, (uint32_t)fail);
    return code;
}

int nx_flash_sim_age(nx_flash_sim *sim, uint32_t block, uint32_t erases)
{
    sim_block *blocks[2];
    int code = both(sim, block, blocks);

    for (unsigned i = 0; code == NX_OK && i < 2 && blocks[i] != NULL; i++) {
        blocks[i]->erases = erases;
    }
    control(sim, SIM_CONTROL_AGE, code, block, NULL, 0, erases);
    return code;
}

static int flip(nx_flash_sim *sim, uint64_t at, unsigned bit)
{
    const sim_common *common = sim->common;
    uint32_t within = (uint32_t)(at % common->model.geometry.block_size);
    sim_block *block = sim_block_edit(sim, (uint32_t)(at / common->model.geometry.block_size));
    sim_leaf *leaf = block == NULL ? NULL : sim_leaf_edit(sim, block, within / common->leaf_size);

    if (leaf == NULL) {
        return NX_ENOMEM;
    }
    uint32_t of_leaf = within % common->leaf_size;
    int code = sim_cells_torn(sim, leaf, of_leaf / common->unit_size * common->unit_size);
    if (code == NX_OK) {
        leaf->bytes[of_leaf] ^= (uint8_t)(1u << bit);
    }
    return code;
}

int nx_flash_sim_flip(nx_flash_sim *sim, uint64_t at, unsigned bit)
{
    int code = at >= sim->common->model.geometry.size || bit > 7 ? NX_ERANGE : flip(sim, at, bit);

    if (code == NX_OK && sim->settled != NULL) {
        code = flip(sim->settled, at, bit);
    }
    control(sim, SIM_CONTROL_FLIP, code, at, NULL, 0, bit);
    return code;
}
