// SPDX-License-Identifier: Apache-2.0
/*
 * Flash traces: hostile bytes replay to a code of the documented set and touch nothing else; what
 * the emulator logs of hostile calls replays alike, to the same counters.
 */
#include "fuzz.h"
#include "nx_flash_sim.h"

#define SIZE_MAX_HERE (8u << 20)

static void replay_hostile(const uint8_t *trace, size_t size)
{
    nx_flash_sim_model model;
    nx_flash_sim *sim = NULL;
    uint64_t record;

    if (nx_flash_sim_trace_model(trace, size, &model) != NX_OK ||
        model.geometry.size > SIZE_MAX_HERE || nx_flash_sim_create(&model, &sim) != NX_OK) {
        return;
    }
    int code = nx_flash_sim_replay(sim, trace, size, &record);
    NX_ASSERT(code == NX_OK || code == NX_ESTALE || code == NX_ECORRUPT || code == NX_ENOMEM);
    NX_ASSERT(record <= size / 40);
    nx_flash_sim_destroy(sim);
}

/* One call, of any place and size. */
static void call(nx_flash_sim *sim, nx_input *in, uint8_t *bytes)
{
    const nx_flash *flash = nx_flash_sim_medium(sim);
    uint64_t verb = eat(in, 1) % 12;
    uint64_t at = eat(in, 3);
    size_t size = eat(in, 2) % 8192;
    nx_flash_sim_plan plan = {.mutation = at, .mode = (uint8_t)(size % 7), .weak_bits = 9};
    uint32_t flips;
    bool bad;

    memset(bytes, (int)(at & 0xff), 8192);
    switch (verb) {
    case 0:
        (void)flash->verbs->read(sim, at, bytes, size, &flips);
        break;
    case 1:
    case 2:
        (void)flash->verbs->program(sim, at & ~255u, bytes, size & ~255u);
        break;
    case 3:
        (void)flash->verbs->erase(sim, at & ~4095u);
        break;
    case 4:
        (void)flash->verbs->oob_read(sim, at & ~255u, bytes, size % 20);
        break;
    case 5:
        (void)flash->verbs->oob_write(sim, at & ~255u, bytes, size % 20);
        break;
    case 6:
        (void)flash->verbs->is_bad(sim, at & ~4095u, &bad);
        break;
    case 7:
        (void)flash->verbs->mark_bad(sim, at & ~4095u);
        break;
    case 8:
        nx_flash_sim_power_on(sim);
        break;
    case 9:
        plan.mutation = nx_flash_sim_counters_of(sim)->mutations + 1 + at % 3;
        nx_flash_sim_plan_cut(sim, &plan);
        break;
    case 10:
        (void)nx_flash_sim_fail(sim, (uint32_t)(at >> 12), (nx_flash_fail)(size % 8));
        break;
    default:
        (void)nx_flash_sim_flip(sim, at, size % 8);
        nx_flash_sim_advance(sim, at << 20);
    }
}

static void replay_own(nx_input *in)
{
    nx_flash_sim_model model = {
        .geometry = {.size = 1 << 17,
                     .block_size = 4096,
                     .page_size = 256,
                     .oob_size = 16,
                     .programs = (uint16_t)(1 + eat(in, 1) % 3),
                     .kind = NX_FLASH_NAND,
                     .erased = 0xff},
        .seed = eat(in, 2),
        .rules = (uint32_t)eat(in, 1) & NX_FLASH_RULE_ALL,
        .factory_bad = 20,
        .ecc_step = 256,
        .ecc_bits = 4,
        .pairs = eat(in, 1) & 1,
        .error_read = eat(in, 4),
        .endurance = (uint32_t)eat(in, 1),
        .cache = (uint16_t)(eat(in, 1) % 8),
        .cache_keeps = (uint8_t)(eat(in, 1) % 3),
    };
    nx_flash_sim *sim = NULL;
    nx_flash_sim *twin = NULL;
    uint64_t record;
    size_t size = 0;
    uint8_t bytes[8192];

    NX_ASSERT(nx_flash_sim_create(&model, &sim) == NX_OK);
    NX_ASSERT(nx_flash_sim_create(&model, &twin) == NX_OK);
    NX_ASSERT(nx_flash_sim_trace(sim, true) == NX_OK);
    while (in->size > 0) {
        call(sim, in, bytes);
    }
    const uint8_t *trace = nx_flash_sim_trace_of(sim, &size);
    NX_ASSERT(nx_flash_sim_replay(twin, trace, size, &record) == NX_OK);
    NX_ASSERT(memcmp(nx_flash_sim_counters_of(twin), nx_flash_sim_counters_of(sim),
                     sizeof(nx_flash_sim_counters)) == 0);
    nx_flash_sim_destroy(twin);
    nx_flash_sim_destroy(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};

    if ((eat(&in, 1) & 1) != 0) {
        uint8_t *trace = exact_copy(in.at, in.size);
        replay_hostile(trace, in.size);
        free(trace);
    } else {
        replay_own(&in);
    }
    return 0;
}
