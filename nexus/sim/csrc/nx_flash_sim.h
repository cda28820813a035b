// SPDX-License-Identifier: Apache-2.0
/*
 * The flash emulator: a medium behind nx_flash.h that keeps the laws of raw flash and breaks
 * where raw flash breaks. docs/spec/flash.md states the laws, the numbers and the draws.
 *
 * Theory of operation. A device is a model, which never changes, and a state: groups of blocks of
 * leaves, each counted and shared between forks until one of them writes. What is NULL was never
 * touched. Chance is a function of seed, purpose, place and count, never of the order of calls
 * elsewhere: two devices of one model and seed that see the same calls give the same bytes.
 *
 * A call that breaks a rule changes nothing, returns NX_EINVAL, NX_ERANGE or NX_EALIGN and is
 * written down as the device's breach: the first one stays, all are counted. A rig asks
 * nx_flash_sim_breach_of at its end.
 *
 * After a power cut every verb returns NX_EFAULT until nx_flash_sim_power_on.
 *
 * Guarantees. A fork costs a copy of one pointer for 32 blocks; blocks and leaves are copied when
 * one side writes. With the error model off a read is memcpy and allocates nothing. Forks may be
 * used by different threads; one device by one thread at a time.
 * Not handled: analogue effects beyond the laws of the specification, planes, suspended erases.
 */
#ifndef NX_FLASH_SIM_H
#define NX_FLASH_SIM_H

#include "nx_flash.h"

/* The rules a client is held to; what is switched off is done as the cells would do it. */
enum {
    NX_FLASH_RULE_ORDER = 1u << 0,    /* pages of a block are programmed in ascending order */
    NX_FLASH_RULE_PROGRAMS = 1u << 1, /* a page at most `programs` times between two erases */
    NX_FLASH_RULE_CLEAR = 1u << 2,    /* a program only clears bits */
    NX_FLASH_RULE_ERASED = 1u << 3,   /* no program of a block whose erase did not end well */
    NX_FLASH_RULE_BAD = 1u << 4,      /* no program or erase of a block that is marked bad */
    NX_FLASH_RULE_ECC = 1u << 5,      /* no second program of an ECC step, no write of ECC bytes */
    NX_FLASH_RULE_ALL = (1u << 6) - 1,
    /* Always held: places and sizes, what geometry allows. */
    NX_FLASH_RULE_RANGE = 1u << 6,
    NX_FLASH_RULE_ALIGN = 1u << 7,
};

/* What a worn or a failed block does. */
typedef enum nx_flash_fail {
    NX_FLASH_FAIL_NONE = 0,
    NX_FLASH_FAIL_PROGRAM = 1,       /* refuses to program, and leaves part of it */
    NX_FLASH_FAIL_ERASE = 2,         /* refuses to erase, and leaves part of it */
    NX_FLASH_FAIL_READ = 3,          /* cannot be read: NX_ECORRUPT */
    NX_FLASH_FAIL_PROGRAM_DEAF = 4,  /* says it programmed, and did not */
    NX_FLASH_FAIL_ERASE_DEAF = 5,    /* says it erased, and did not */
    NX_FLASH_FAIL_PROGRAM_ERASE = 6, /* refuses both */
    NX_FLASH_FAIL_LAST = NX_FLASH_FAIL_PROGRAM_ERASE,
} nx_flash_fail;

/* What an interrupted operation leaves. */
typedef enum nx_flash_cut {
    NX_FLASH_CUT_ANY = 0,    /* one of those below, drawn */
    NX_FLASH_CUT_BEFORE = 1, /* nothing happened */
    NX_FLASH_CUT_AFTER = 2,  /* all happened, and nobody was told */
    NX_FLASH_CUT_PREFIX = 3, /* the first bytes of the page, the first pages of the block */
    NX_FLASH_CUT_SUBSET = 4, /* each bit that was to change, or not */
    NX_FLASH_CUT_WEAK = 5,   /* all of it, but some bits read as they like for a while */
    NX_FLASH_CUT_OOB = 6,    /* what lies beside the page, not the page */
    NX_FLASH_CUT_LAST = NX_FLASH_CUT_OOB,
} nx_flash_cut;

/* What a controller that caches lets survive of what was not synced. */
typedef enum nx_flash_cache {
    NX_FLASH_CACHE_LOSE = 0,   /* nothing */
    NX_FLASH_CACHE_PREFIX = 1, /* the oldest part */
    NX_FLASH_CACHE_SUBSET = 2, /* each change or not: out of order */
} nx_flash_cache;

/* What a device is. All zero but geometry is a medium without faults and without rules. */
typedef struct nx_flash_sim_model {
    nx_flash_geometry geometry;
    uint64_t seed;
    uint32_t rules;       /* of NX_FLASH_RULE_ALL */
    uint16_t factory_bad; /* blocks of a thousand that left the factory bad, at most 20 */
    uint16_t ecc_step;    /* bytes; 0: no ECC */
    uint16_t ecc_bits;    /* that are corrected in a step */
    uint8_t miscorrects;  /* 1: what is beyond correction may pass as corrected */
    uint8_t pairs;        /* 1: pages share cells in pairs, as in MLC */

    /* Raw errors, in 1e-12 of a bit. All zero: cells are perfect. */
    uint64_t error_base;
    uint64_t error_wear;    /* for the square of the block's thousands of erases */
    uint64_t error_hour;    /* for an hour since the program, and again per thousand erases */
    uint64_t error_read;    /* for a read of a neighbour page since the erase */
    uint64_t error_program; /* for a program of a neighbour page since the program of this one */

    /* Endurance: the median of a log-normal, and its sigma in thousandths. 0: none. */
    uint32_t endurance;
    uint32_t endurance_sigma;
    uint8_t worn;        /* nx_flash_fail; NX_FLASH_FAIL_NONE: drawn for each block */
    uint8_t cache_keeps; /* nx_flash_cache */
    uint16_t cache;      /* changes that the controller holds back from the medium, 0: none */

    /* Virtual time and energy. */
    uint32_t read_ns;    /* a page */
    uint32_t program_ns; /* a page */
    uint32_t erase_ns;   /* a block */
    uint32_t byte_ps;    /* transfer of a byte */
    uint32_t read_nj;
    uint32_t program_nj;
    uint32_t erase_nj;
    uint32_t reserved; /* 0 */
} nx_flash_sim_model;

/* What was done, since the device was made; a fork goes on from its origin's. */
typedef struct nx_flash_sim_counters {
    uint64_t reads; /* calls */
    uint64_t read_bytes;
    uint64_t read_pages; /* that the chip had to fetch */
    uint64_t programs;   /* pages */
    uint64_t program_bytes;
    uint64_t erases;
    uint64_t oob_reads;
    uint64_t oob_writes;
    uint64_t syncs;
    uint64_t mutations;     /* interruptible steps: page programs, erases, OOB writes */
    uint64_t corrected;     /* bits */
    uint64_t uncorrectable; /* steps */
    uint64_t miscorrected;  /* steps */
    uint64_t refused;       /* programs and erases that failed */
    uint64_t cuts;
    uint64_t breaches;
    uint64_t time_ns;
    uint64_t energy_nj;
    /* Between two marks. */
    uint64_t marks;
    uint64_t span_read_bytes_max;
    uint64_t span_time_ns_max;
} nx_flash_sim_counters;

typedef struct nx_flash_sim_wear {
    uint32_t min;
    uint32_t max;
    uint64_t sum;
    uint64_t blocks;
} nx_flash_sim_wear;

typedef enum nx_flash_verb {
    NX_FLASH_READ = 1,
    NX_FLASH_PROGRAM = 2,
    NX_FLASH_ERASE = 3,
    NX_FLASH_OOB_READ = 4,
    NX_FLASH_OOB_WRITE = 5,
    NX_FLASH_IS_BAD = 6,
    NX_FLASH_MARK_BAD = 7,
    NX_FLASH_SYNC = 8,
} nx_flash_verb;

/* A rule that the client broke. */
typedef struct nx_flash_sim_breach {
    uint32_t rule; /* one of NX_FLASH_RULE_*; 0: none was broken */
    uint32_t verb; /* nx_flash_verb */
    uint64_t at;   /* as in the call */
    uint64_t size; /* as in the call */
    uint32_t block;
    uint32_t page; /* in the block */
    uint64_t
        count; /* what broke it: the page's programs, the page that is due, the first byte... */
    uint64_t limit; /* ...and what it broke */
    uint64_t call;  /* which call of the device it was, from 1 */
} nx_flash_sim_breach;

/* When the power goes: inside the mutation of that number, counted from 1 as in the counters. */
typedef struct nx_flash_sim_plan {
    uint64_t mutation;       /* 0: never */
    uint8_t mode;            /* nx_flash_cut */
    uint8_t reserved;        /* 0 */
    uint16_t weak_bits;      /* of a page, for NX_FLASH_CUT_WEAK */
    uint16_t unstable_reads; /* of a page, until a weak bit settles */
    uint16_t reserved2;      /* 0 */
} nx_flash_sim_plan;

typedef struct nx_flash_sim nx_flash_sim;

/* NX_EINVAL: the model contradicts itself; docs/spec/flash.md, "Limits of a model". */
int nx_flash_sim_create(const nx_flash_sim_model *model, nx_flash_sim **ret);
void nx_flash_sim_destroy(nx_flash_sim *sim);

/* A second device of the same content, counters and plan; neither sees what the other does next. */
int nx_flash_sim_fork(const nx_flash_sim *sim, nx_flash_sim **ret);

/* The seam. It lives as long as the device; give `self` and `verbs` together. */
const nx_flash *nx_flash_sim_medium(const nx_flash_sim *sim);
const nx_flash_sim_model *nx_flash_sim_model_of(const nx_flash_sim *sim);
const nx_flash_sim_counters *nx_flash_sim_counters_of(const nx_flash_sim *sim);
void nx_flash_sim_wear_of(const nx_flash_sim *sim, nx_flash_sim_wear *ret);
uint32_t nx_flash_sim_erases_of(const nx_flash_sim *sim, uint32_t block);

const nx_flash_sim_breach *nx_flash_sim_breach_of(const nx_flash_sim *sim);
/* The one that the latest NX_EINVAL, NX_ERANGE or NX_EALIGN was about. */
const nx_flash_sim_breach *nx_flash_sim_breach_last(const nx_flash_sim *sim);
/* One line of English, cut to `size`; returns its length without the zero. */
size_t nx_flash_sim_explain(const nx_flash_sim_breach *breach, char *ret, size_t size);

/* Chance of what is still to happen; what the die is like stays. */
void nx_flash_sim_seed(nx_flash_sim *sim, uint64_t seed);
void nx_flash_sim_plan_cut(nx_flash_sim *sim, const nx_flash_sim_plan *plan);
bool nx_flash_sim_powered(const nx_flash_sim *sim);
/* Between two operations: nothing but a cache is lost. NX_ENOMEM only with a cache. */
int nx_flash_sim_power_off(nx_flash_sim *sim);
void nx_flash_sim_power_on(nx_flash_sim *sim);
/* Lets virtual time pass: what retention costs. */
void nx_flash_sim_advance(nx_flash_sim *sim, uint64_t ns);
/* Ends one span and begins the next, for the bars on one operation of a client. */
void nx_flash_sim_mark(nx_flash_sim *sim);

/* Faults by order. NX_ERANGE outside the medium; NX_EINVAL for a behaviour that does not exist. */
int nx_flash_sim_fail(nx_flash_sim *sim, uint32_t block, nx_flash_fail fail);
int nx_flash_sim_age(nx_flash_sim *sim, uint32_t block, uint32_t erases);
/* Turns the stored bit over, as radiation does. */
int nx_flash_sim_flip(nx_flash_sim *sim, uint64_t at, unsigned bit);

/*
 * The log of all calls, docs/spec/flash.md "Trace". Off until asked for; a fork has a copy.
 * The bytes are those of the device, until its next call.
 */
int nx_flash_sim_trace(nx_flash_sim *sim, bool on);
const uint8_t *nx_flash_sim_trace_of(const nx_flash_sim *sim, size_t *ret_size);
/* The model in a trace's head. NX_ECORRUPT: no trace, or of another version. */
int nx_flash_sim_trace_model(const uint8_t *trace, size_t size, nx_flash_sim_model *ret);
/*
 * Does what a trace says and compares each outcome. NX_ESTALE: record `*ret_record` (from 0, also
 * set on the other codes) had another outcome; NX_ECORRUPT: the trace contradicts itself.
 */
int nx_flash_sim_replay(nx_flash_sim *sim, const uint8_t *trace, size_t size, uint64_t *ret_record);

#endif
