// SPDX-License-Identifier: Apache-2.0
/*
 * The restart trap: the fixed, bounded sequence between the end of one life and the next.
 *
 *     caught -> LOG -> BREAKER -> STERILISE -> VERIFY -> REGRANT -> RESTORE -> WARM or COLD
 *                         |          |           |          |
 *                         |          |      again, twice    |
 *                         v          v           v          v
 *                       (STERILISE once more where rights may be held) -> QUARANTINED
 *
 * Theory of operation. This is a table: the trap names a step, the caller performs it and says
 * whether it succeeded, the table names the next. The last step is one of four ends. Why this
 * order: what happened is on record before anything else can go wrong; the old life's rights are
 * gone (its epoch is bumped) before new ones are given; nothing of the image is believed, and no
 * checkpoint handed over, before it was verified.
 *
 *     step       the caller                                     when it fails
 *     LOG        appends to the error buffer                    the sequence goes on
 *     BREAKER    asks nx_breaker_admit, waits the delay         STERILISE, QUARANTINED
 *     STERILISE  bumps the CSpace epoch, revokes channels       QUARANTINED: rights are at large
 *     VERIFY     checks the image; loads it anew after failure  again, at most 3 in a row
 *     REGRANT    parses the manifest, gives the rights          STERILISE, QUARANTINED
 *     RESTORE    looks for a valid checkpoint                   COLD
 *
 *     end          meaning
 *     WARM         start from the checkpoint
 *     COLD         start from the image
 *     DOWN         the restart trap is off: sterilised, and not started again
 *     QUARANTINED  not started again until nx_trap_init
 *
 * Of the feature mask, bit 0 off leads through STERILISE to DOWN, bit 1 off skips BREAKER and bit 2
 * off skips LOG; the other steps are what makes a restart safe and cannot be left out. Image
 * failures in a row are counted, also over a trap that interrupts another, until an image passes.
 *
 * Guarantees, proved over every mask and every sequence of results by tests/native/test_trap.c: an
 * end after at most NX_TRAP_STEPS_MAX steps; no REGRANT unless STERILISE succeeded in this
 * trap; no WARM or COLD unless VERIFY and REGRANT succeeded after it; no end without STERILISE
 * having been tried after the last REGRANT that failed. A state that no table row has, because
 * memory rotted, is quarantine.
 *
 * Not handled: what a step does. No libc, no allocation; single owner.
 */
#ifndef NX_TRAP_H
#define NX_TRAP_H

#include "nx_base.h"

#define NX_TRAP_IMAGE_TRIES 3u
#define NX_TRAP_STEPS_MAX   8u /* LOG, BREAKER, STERILISE, 3 VERIFY, and two more */

typedef enum {
    NX_TRAP_QUARANTINED = 0, /* ends come first; memory of zeros starts nothing */
    NX_TRAP_DOWN = 1,
    NX_TRAP_WARM = 2,
    NX_TRAP_COLD = 3,
    NX_TRAP_LOG = 4,
    NX_TRAP_BREAKER = 5,
    NX_TRAP_STERILISE = 6,
    NX_TRAP_VERIFY = 7,
    NX_TRAP_REGRANT = 8,
    NX_TRAP_RESTORE = 9,
} nx_trap_step;

/* Why a fiber was caught; goes into the records, and does not change the sequence. */
enum {
    NX_TRAP_PANIC = 1,      /* it ended by a signal or a failure of its own */
    NX_TRAP_PAGE_FAULT = 2, /* it touched what it does not have, or what was revoked */
    NX_TRAP_BUDGET = 3,     /* only where the manifest makes overruns fatal */
    NX_TRAP_FORBIDDEN = 4,  /* a call outside its pledge */
    NX_TRAP_HUNG = 5,       /* the watchdog says so */
    NX_TRAP_VERDICT = 6,    /* arbitration says RESTART */
    NX_TRAP_START = 7,      /* the last start failed */
    NX_TRAP_COMPANY = 8,    /* it falls with another, as their strategy says */
    NX_TRAP_ASKED = 9,      /* somebody asked for a restart */
};

typedef struct nx_trap {
    uint8_t state;
    uint8_t mask;           /* effective features when the trap began */
    uint8_t image_failures; /* in a row */
    uint8_t reserved;
    uint16_t cause;
    uint16_t steps; /* performed in this trap */
} nx_trap;

/* A fiber that may be started; also the end of a quarantine. */
void nx_trap_init(nx_trap *trap);

/* A life ended: the first step. One that is quarantined stays so. */
nx_trap_step nx_trap_catch(nx_trap *trap, uint16_t cause, uint8_t features);

/* The step that was named is done, or failed: the next one. An end stays what it is. */
nx_trap_step nx_trap_next(nx_trap *trap, bool succeeded);

NX_INLINE bool nx_trap_is_end(nx_trap_step step)
{
    return step < NX_TRAP_LOG;
}

#endif
