// SPDX-License-Identifier: Apache-2.0
/*
 * What the emulator's files share: the state of a device, in counted parts that forks share.
 *
 * groups[g] -> 32 blocks -> leaves -> bytes. A part is written only by its one holder; `edit`
 * makes a holder the one. NULL stands for what was never touched, or was erased and not programmed.
 */
#ifndef NX_FLASH_SIM_STATE_H
#define NX_FLASH_SIM_STATE_H

#include <stdatomic.h>

#include "nx_flash_sim.h"

#define SIM_GROUP_BLOCKS 32u
#define SIM_UNIT_MIN     256u /* what is tracked for itself: a page, or this if pages are smaller */
#define SIM_LEAF_MIN     2048u      /* copied at once */
#define SIM_LEAF_UNITS   8u         /* SIM_LEAF_MIN / SIM_UNIT_MIN */
#define SIM_MANY         UINT16_MAX /* `programs` without a limit */

/* What a cut left in a leaf, for the units whose bit is set; three areas of the leaf's bytes. */
typedef struct sim_damage {
    uint8_t torn;                   /* `code` holds what the ECC bytes were made of */
    uint8_t unstable;               /* `flutter` holds the bits that vary */
    uint16_t reads[SIM_LEAF_UNITS]; /* until they settle */
    uint8_t bytes[];
} sim_damage;

typedef struct sim_leaf {
    _Atomic uint32_t holders;
    sim_damage *damage;
    uint8_t bytes[]; /* the data of its pages, then what lies beside them */
} sim_leaf;

typedef struct sim_unit {
    uint32_t programmed_s; /* virtual time */
    uint32_t disturbs;     /* by programs of a neighbour */
    uint32_t reads;        /* of neighbours */
    uint16_t programs;
    uint16_t reserved;
} sim_unit;

typedef struct sim_block {
    _Atomic uint32_t holders;
    uint32_t erases;
    uint32_t limit; /* of erases, drawn */
    uint32_t due;   /* the first page that may still be programmed */
    uint8_t fail;   /* nx_flash_fail, by order */
    uint8_t worn;   /* nx_flash_fail, once worn */
    uint8_t half;   /* 1: the last erase did not end well */
    uint8_t reserved;
    uint32_t reserved2;
    sim_leaf *leaves[]; /* then one sim_unit each */
} sim_block;

typedef struct sim_group {
    _Atomic uint32_t holders;
    uint32_t reserved;
    sim_block *blocks[SIM_GROUP_BLOCKS];
} sim_group;

/* What forks have in common and nobody changes. */
typedef struct sim_common {
    _Atomic uint32_t holders;
    nx_flash_sim_model model;
    uint32_t blocks;
    uint32_t groups;
    uint32_t pages;     /* of a block */
    uint32_t unit_size; /* bytes */
    uint32_t units;     /* of a block */
    uint32_t leaf_size; /* bytes */
    uint32_t leaf_units;
    uint32_t leaf_pages;
    uint32_t leaves;      /* of a block */
    uint32_t leaf_bytes;  /* with what lies beside */
    uint32_t block_bytes; /* of a sim_block */
    uint32_t oob_free;    /* bytes beside a page that are not ECC's */
    bool clears;          /* a program can only clear bits */
    bool noisy;           /* the error model is on */
    bool worn_out;        /* blocks wear */
} sim_common;

/* A change that the controller holds back. */
typedef struct sim_held {
    struct sim_held *next;
    uint64_t at;
    uint32_t verb;
    uint32_t size;
    uint8_t data[];
} sim_held;

typedef struct sim_trace {
    uint8_t *bytes;
    size_t size;
    size_t room;
} sim_trace;

struct nx_flash_sim {
    nx_flash flash;
    sim_common *common;
    nx_flash_sim_counters counters;
    nx_flash_sim_breach breach; /* the first */
    nx_flash_sim_breach last;
    nx_flash_sim_plan plan;
    uint64_t seed; /* of events */
    uint64_t calls;
    uint64_t mark_read_bytes;
    uint64_t mark_time_ns;
    uint64_t byte_ps; /* of transfer, less than a nanosecond */
    bool powered;
    sim_trace *trace;
    struct nx_flash_sim *settled; /* with a cache: the medium without what is held back */
    sim_held *held;
    sim_held **held_end;
    uint32_t held_count;
    sim_group **groups;
};

/* nx_flash_sim_store.c: NULL where there is nothing; NX_ENOMEM is NULL from an edit. */
const sim_block *sim_block_peek(const nx_flash_sim *sim, uint32_t block);
sim_block *sim_block_edit(nx_flash_sim *sim, uint32_t block);
sim_leaf *sim_leaf_edit(nx_flash_sim *sim, sim_block *block, uint32_t leaf);
sim_damage *sim_damage_edit(nx_flash_sim *sim, sim_leaf *leaf);
void sim_block_wipe(const nx_flash_sim *sim, sim_block *block);
void sim_groups_hold(const nx_flash_sim *sim);
void sim_groups_release(const nx_flash_sim *sim);

NX_INLINE sim_unit *sim_units(const nx_flash_sim *sim, sim_block *block)
{
    return (sim_unit *)(void *)&block->leaves[sim->common->leaves];
}

NX_INLINE const sim_unit *sim_units_peek(const nx_flash_sim *sim, const sim_block *block)
{
    return (const sim_unit *)(const void *)&block->leaves[sim->common->leaves];
}

NX_INLINE uint8_t *sim_oob(const nx_flash_sim *sim, sim_leaf *leaf, uint32_t page)
{
    const sim_common *common = sim->common;

    return leaf->bytes + common->leaf_size +
           (size_t)(page % common->leaf_pages) * common->model.geometry.oob_size;
}

/* nx_flash_sim_chance.c: every draw there is. */
typedef enum sim_purpose {
    SIM_FACTORY = 1,
    SIM_LIMIT = 2,
    SIM_WORN = 3,
    SIM_FLIP = 4,
    SIM_CUT_MODE = 6,
    SIM_CUT_BITS = 7,
    SIM_UNSTABLE = 8,
    SIM_REFUSED = 9,
    SIM_CACHE = 10,
    SIM_MISCORRECT = 11,
    SIM_ECC_BYTES = 12,
} sim_purpose;

typedef struct sim_stream {
    uint64_t state;
} sim_stream;

sim_stream sim_draw(uint64_t seed, sim_purpose purpose, uint64_t a, uint64_t b);
uint64_t sim_next(sim_stream *stream);
/* Below `bound`, which is not 0. */
uint32_t sim_below(sim_stream *stream, uint32_t bound);
/* -ln of a uniform draw, 16 bits after the point. */
uint64_t sim_exponential(sim_stream *stream);
/* A draw of the log-normal with this median and sigma in thousandths, at least 1. */
uint32_t sim_log_normal(sim_stream *stream, uint32_t median, uint32_t sigma);

/* nx_flash_sim_rules.c: NX_OK, or the code of a breach, which is written down. */
int sim_rule_read(nx_flash_sim *sim, uint64_t at, size_t size);
int sim_rule_program(nx_flash_sim *sim, uint64_t at, const uint8_t *data, size_t size);
int sim_rule_erase(nx_flash_sim *sim, uint64_t at);
int sim_rule_oob(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at, const uint8_t *data,
                 size_t size);
int sim_rule_block(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at);
bool sim_is_bad(const nx_flash_sim *sim, uint32_t block);

/* nx_flash_sim_cells.c: what the cells do; no rules, no counting. */
typedef struct sim_tear {
    uint8_t mode; /* nx_flash_cut, not ANY */
    uint16_t weak_bits;
    uint16_t unstable_reads;
    sim_stream chance;
} sim_tear;

/* A mode of its own: what is tracked changes, the cells do not. */
#define SIM_TEAR_DEAF 16u

/* `tear` NULL: all of it. */
int sim_cells_program(nx_flash_sim *sim, uint32_t block, uint32_t page, const uint8_t *data,
                      sim_tear *tear);
int sim_cells_erase(nx_flash_sim *sim, uint32_t block, sim_tear *tear);
int sim_cells_oob(nx_flash_sim *sim, uint32_t block, uint32_t page, const uint8_t *data,
                  size_t size, sim_tear *tear);
/* ECC will go on to say what the unit at byte `first` of the leaf holds now. */
int sim_cells_torn(nx_flash_sim *sim, sim_leaf *leaf, uint32_t first);

/* nx_flash_sim_errors.c: what is read, in whole steps, where cells are not perfect. */
/* Bytes [from, from + size) of a unit. */
int sim_read_unit(nx_flash_sim *sim, uint32_t block, uint32_t unit, uint32_t from, uint32_t size,
                  uint8_t *ret, uint32_t *ret_flips);
/* The bytes beside a page that are ECC's. */
void sim_ecc_bytes(const nx_flash_sim *sim, uint32_t block, uint32_t page, uint8_t *ret);

/* nx_flash_sim_life.c: content and counts, but neither cache nor trace. */
int sim_copy(const nx_flash_sim *sim, nx_flash_sim **ret);
extern const nx_flash_verbs sim_verbs;

/* nx_flash_sim_orders.c */
int sim_power_off(nx_flash_sim *sim);

/* nx_flash_sim_cache.c */
int sim_cache_settle(nx_flash_sim *sim);
int sim_cache_hold(nx_flash_sim *sim, nx_flash_verb verb, uint64_t at, const void *data,
                   size_t size);
int sim_cache_sync(nx_flash_sim *sim);
int sim_cache_lose(nx_flash_sim *sim);
void sim_cache_free(nx_flash_sim *sim);
int sim_cache_fork(const nx_flash_sim *sim, nx_flash_sim *ret);

/* nx_flash_sim_trace.c */
typedef enum sim_control {
    SIM_CONTROL_SEED = 16,
    SIM_CONTROL_PLAN = 17,
    SIM_CONTROL_OFF = 18,
    SIM_CONTROL_ON = 19,
    SIM_CONTROL_ADVANCE = 20,
    SIM_CONTROL_MARK = 21,
    SIM_CONTROL_FAIL = 22,
    SIM_CONTROL_AGE = 23,
    SIM_CONTROL_FLIP = 24,
} sim_control;

int sim_trace_fork(const nx_flash_sim *sim, nx_flash_sim *ret);
/* Drops the trace where memory is short: it would not be the whole one. */
void sim_trace_call(nx_flash_sim *sim, uint32_t verb, int code, uint64_t at, const void *data,
                    size_t size, uint32_t outcome);

#endif
