// SPDX-License-Identifier: Apache-2.0
/* The log of a device's calls, and doing it again: docs/spec/flash.md, "Trace". */
#include <stdlib.h>
#include <string.h>

#include "nx_crc32c.h"
#include "nx_flash_sim_state.h"

#define HEAD_SIZE   16u
#define RECORD_SIZE 40u
#define VERSION     1u

static const uint8_t magic[8] = {'N', 'X', 'F', 'L', 'A', 'S', 'H', '\n'};

/* One order of fields for writing and for reading: no padding gets into the file. */
typedef struct cursor {
    uint8_t *bytes;
    size_t at;
    bool reads;
} cursor;

static void field(cursor *of, void *value, size_t size)
{
    if (of->reads) {
        memcpy(value, of->bytes + of->at, size);
    } else {
        memcpy(of->bytes + of->at, value, size);
    }
    of->at += size;
}

#define FIELD(of, name) field(of, &(name), sizeof(name))

static void model_fields(cursor *of, nx_flash_sim_model *model)
{
    nx_flash_geometry *geometry = &model->geometry;

    FIELD(of, geometry->size);
    FIELD(of, geometry->block_size);
    FIELD(of, geometry->page_size);
    FIELD(of, geometry->oob_size);
    FIELD(of, geometry->programs);
    FIELD(of, geometry->kind);
    FIELD(of, geometry->erased);
    FIELD(of, geometry->flips_max);
    FIELD(of, geometry->reserved);
    FIELD(of, model->rules);
    FIELD(of, model->seed);
    FIELD(of, model->factory_bad);
    FIELD(of, model->ecc_step);
    FIELD(of, model->ecc_bits);
    FIELD(of, model->miscorrects);
    FIELD(of, model->pairs);
    FIELD(of, model->error_base);
    FIELD(of, model->error_wear);
    FIELD(of, model->error_hour);
    FIELD(of, model->error_read);
    FIELD(of, model->error_program);
    FIELD(of, model->endurance);
    FIELD(of, model->endurance_sigma);
    FIELD(of, model->worn);
    FIELD(of, model->cache_keeps);
    FIELD(of, model->cache);
    FIELD(of, model->read_ns);
    FIELD(of, model->program_ns);
    FIELD(of, model->erase_ns);
    FIELD(of, model->byte_ps);
    FIELD(of, model->read_nj);
    FIELD(of, model->program_nj);
    FIELD(of, model->erase_nj);
    FIELD(of, model->reserved);
}

#define MODEL_SIZE 132u

static uint8_t *reserve(sim_trace *trace, size_t size)
{
    if (size > trace->room - trace->size) {
        size_t room = 2 * trace->room + size;
        uint8_t *bytes = realloc(trace->bytes, room);
        if (bytes == NULL) {
            return NULL;
        }
        trace->bytes = bytes;
        trace->room = room;
    }
    uint8_t *place = trace->bytes + trace->size;
    trace->size += size;
    return place;
}

static void drop(nx_flash_sim *sim)
{
    if (sim->trace != NULL) {
        free(sim->trace->bytes);
        free(sim->trace);
        sim->trace = NULL;
    }
}

int nx_flash_sim_trace(nx_flash_sim *sim, bool on)
{
    drop(sim);
    if (!on) {
        return NX_OK;
    }
    nx_flash_sim_model model = sim->common->model;
    sim->trace = calloc(1, sizeof *sim->trace);
    uint8_t *head = sim->trace == NULL ? NULL : reserve(sim->trace, HEAD_SIZE + MODEL_SIZE);
    if (head == NULL) {
        drop(sim);
        return NX_ENOMEM;
    }
    memcpy(head, magic, sizeof magic);
    nx_store_u32(head + 8, VERSION);
    nx_store_u32(head + 12, MODEL_SIZE);
    cursor of = {.bytes = head + HEAD_SIZE};
    model_fields(&of, &model);
    NX_ASSERT(of.at == MODEL_SIZE);
    return NX_OK;
}

int sim_trace_fork(const nx_flash_sim *sim, nx_flash_sim *ret)
{
    if (sim->trace == NULL) {
        return NX_OK;
    }
    ret->trace = calloc(1, sizeof *ret->trace);
    uint8_t *place = ret->trace == NULL ? NULL : reserve(ret->trace, sim->trace->size);
    if (place == NULL) {
        return NX_ENOMEM;
    }
    memcpy(place, sim->trace->bytes, sim->trace->size);
    return NX_OK;
}

const uint8_t *nx_flash_sim_trace_of(const nx_flash_sim *sim, size_t *ret_size)
{
    if (sim->trace == NULL) {
        return NULL;
    }
    *ret_size = sim->trace->size;
    return sim->trace->bytes;
}

/* Bytes that go along with a call: what the client wrote, if the call can have looked at it. */
static size_t payload_of(const nx_flash_sim *sim, uint32_t verb, uint64_t size)
{
    const nx_flash_geometry *geometry = &sim->common->model.geometry;

    switch (verb) {
    case NX_FLASH_PROGRAM:
        return size <= geometry->block_size ? (size_t)size : 0;
    case NX_FLASH_OOB_WRITE:
        return size <= geometry->oob_size ? (size_t)size : 0;
    case SIM_CONTROL_PLAN:
        return sizeof(nx_flash_sim_plan);
    default:
        return 0;
    }
}

void sim_trace_call(nx_flash_sim *sim, uint32_t verb, int code, uint64_t at, const void *data,
                    size_t size, uint32_t outcome)
{
    if (sim->trace == NULL) {
        return;
    }
    size_t payload = payload_of(sim, verb, size);
    uint8_t *record = reserve(sim->trace, RECORD_SIZE + payload);
    if (record == NULL) {
        drop(sim);
        return;
    }
    bool whole =
        data != NULL && (payload != 0 || verb == NX_FLASH_READ || verb == NX_FLASH_OOB_READ);
    nx_store_u32(record, verb);
    nx_store_u32(record + 4, (uint32_t)code);
    nx_store_u64(record + 8, at);
    nx_store_u64(record + 16, size);
    nx_store_u32(record + 24, outcome);
    nx_store_u32(record + 28, whole ? nx_crc32c(0, data, size) : 0);
    nx_store_u32(record + 32, (uint32_t)payload);
    nx_store_u32(record + 36, 0);
    if (payload != 0) {
        memcpy(record + RECORD_SIZE, data, payload);
    }
}

int nx_flash_sim_trace_model(const uint8_t *trace, size_t size, nx_flash_sim_model *ret)
{
    if (size < HEAD_SIZE + MODEL_SIZE || memcmp(trace, magic, sizeof magic) != 0 ||
        nx_load_u32(trace + 8) != VERSION || nx_load_u32(trace + 12) != MODEL_SIZE) {
        return NX_ECORRUPT;
    }
    uint8_t bytes[MODEL_SIZE];
    nx_flash_sim_model model = {0};
    cursor of = {.bytes = bytes, .reads = true};

    memcpy(bytes, trace + HEAD_SIZE, MODEL_SIZE);
    model_fields(&of, &model);
    *ret = model;
    return NX_OK;
}

typedef struct replayed {
    uint32_t verb;
    uint64_t at;
    uint64_t size;
    uint32_t outcome;
    const uint8_t *payload;
} replayed;

/* A verb that gives bytes; those of a call that is out of range are never touched. */
static int again_read(nx_flash_sim *sim, replayed *of, uint32_t *ret_crc)
{
    const nx_flash *flash = &sim->flash;
    uint64_t most = of->verb == NX_FLASH_READ ? flash->geometry.size : flash->geometry.oob_size;
    uint8_t *bytes = of->size <= most ? malloc((size_t)of->size + 1) : NULL;
    int code = NX_ENOMEM;

    of->outcome = 0;
    if (bytes != NULL || of->size > most) {
        code = of->verb == NX_FLASH_READ
                   ? flash->verbs->read(sim, of->at, bytes, (size_t)of->size, &of->outcome)
                   : flash->verbs->oob_read(sim, of->at, bytes, (size_t)of->size);
    }
    if (code == NX_OK || (code == NX_ECORRUPT && of->verb == NX_FLASH_READ)) {
        *ret_crc = nx_crc32c(0, bytes, (size_t)of->size);
    }
    free(bytes);
    return code;
}

static int again_control(nx_flash_sim *sim, const replayed *of)
{
    nx_flash_sim_plan plan;

    switch (of->verb) {
    case SIM_CONTROL_SEED:
        nx_flash_sim_seed(sim, of->at);
        return NX_OK;
    case SIM_CONTROL_PLAN:
        memcpy(&plan, of->payload, sizeof plan);
        if (plan.mode > NX_FLASH_CUT_LAST || plan.reserved != 0 || plan.reserved2 != 0) {
            return NX_EINVAL;
        }
        nx_flash_sim_plan_cut(sim, &plan);
        return NX_OK;
    case SIM_CONTROL_OFF:
        return nx_flash_sim_power_off(sim);
    case SIM_CONTROL_ON:
        nx_flash_sim_power_on(sim);
        return NX_OK;
    case SIM_CONTROL_ADVANCE:
        nx_flash_sim_advance(sim, of->at);
        return NX_OK;
    case SIM_CONTROL_MARK:
        nx_flash_sim_mark(sim);
        return NX_OK;
    case SIM_CONTROL_FAIL:
        return of->at > UINT32_MAX
                   ? NX_ERANGE
                   : nx_flash_sim_fail(sim, (uint32_t)of->at, (nx_flash_fail)of->outcome);
    case SIM_CONTROL_AGE:
        return of->at > UINT32_MAX ? NX_ERANGE
                                   : nx_flash_sim_age(sim, (uint32_t)of->at, of->outcome);
    case SIM_CONTROL_FLIP:
        return nx_flash_sim_flip(sim, of->at, of->outcome);
    default:
        return NX_EINVAL;
    }
}

static int again(nx_flash_sim *sim, replayed *of, uint32_t *ret_crc)
{
    const nx_flash_verbs *verbs = sim->flash.verbs;
    bool bad = false;
    int code;

    switch (of->verb) {
    case NX_FLASH_READ:
    case NX_FLASH_OOB_READ:
        return again_read(sim, of, ret_crc);
    case NX_FLASH_PROGRAM:
        return verbs->program(sim, of->at, of->payload, (size_t)of->size);
    case NX_FLASH_ERASE:
        return verbs->erase(sim, of->at);
    case NX_FLASH_OOB_WRITE:
        return verbs->oob_write(sim, of->at, of->payload, (size_t)of->size);
    case NX_FLASH_IS_BAD:
        code = verbs->is_bad(sim, of->at, &bad);
        of->outcome = bad;
        return code;
    case NX_FLASH_MARK_BAD:
        return verbs->mark_bad(sim, of->at);
    case NX_FLASH_SYNC:
        return verbs->sync(sim);
    default:
        return again_control(sim, of);
    }
}

int nx_flash_sim_replay(nx_flash_sim *sim, const uint8_t *trace, size_t size, uint64_t *ret_record)
{
    nx_flash_sim_model model;
    int code = nx_flash_sim_trace_model(trace, size, &model);

    *ret_record = 0;
    for (size_t at = HEAD_SIZE + MODEL_SIZE; code == NX_OK && at < size; ++*ret_record) {
        if (size - at < RECORD_SIZE) {
            return NX_ECORRUPT;
        }
        const uint8_t *record = trace + at;
        uint32_t payload = nx_load_u32(record + 32);
        replayed of = {nx_load_u32(record), nx_load_u64(record + 8), nx_load_u64(record + 16),
                       nx_load_u32(record + 24), record + RECORD_SIZE};
        at += RECORD_SIZE;
        if (payload > size - at || payload != payload_of(sim, of.verb, of.size)) {
            return NX_ECORRUPT;
        }
        at += payload;
        uint32_t crc = payload == 0 ? 0 : nx_crc32c(0, of.payload, payload);
        code = again(sim, &of, &crc);
        if (code == NX_ENOMEM) {
            return code;
        }
        bool same = (uint32_t)code == nx_load_u32(record + 4) &&
                    of.outcome == nx_load_u32(record + 24) && crc == nx_load_u32(record + 28);
        if (!same) {
            return NX_ESTALE;
        }
        code = NX_OK;
    }
    return code;
}
