// SPDX-License-Identifier: Apache-2.0
/*
 * Which SIMD kernels this process runs: found from the CPU, or demanded.
 *
 * Levels are ordered within one architecture; a level includes the ones below it.
 * NEXUS_SIMD names a level and is a demand: a name that does not exist, that this
 * build has no kernels for, or that this CPU cannot run is refused, each with its
 * own verdict, and never replaced by another level.
 *
 * Not handled: changing the level while kernels run. A module selects once, at import.
 */
#ifndef NX_SIMD_H
#define NX_SIMD_H

#include "nx_base.h"

typedef enum {
    NX_SIMD_SCALAR = 0, /* portable C, every architecture */
    NX_SIMD_SSE41 = 1,  /* x86-64 with SSE4.2 and PCLMULQDQ: 128-bit vectors */
    NX_SIMD_AVX2 = 2,   /* x86-64: 256-bit vectors */
    NX_SIMD_AVX512 = 3, /* x86-64 with F, VL, BW, DQ: 512-bit vectors */
    NX_SIMD_NEON = 4,   /* aarch64: 128-bit vectors */
} nx_simd;

typedef enum {
    NX_SIMD_GRANTED = 0,
    NX_SIMD_UNKNOWN_NAME = 1, /* no level of any architecture has this name */
    NX_SIMD_NOT_BUILT = 2,    /* the level belongs to another architecture */
    NX_SIMD_NOT_IN_CPU = 3,   /* built, but this CPU lacks the instructions */
} nx_simd_verdict;

/* The highest level that this build has and this CPU runs. */
nx_simd nx_simd_detect(void);

/* The name NEXUS_SIMD knows the level by; "?" for a value that is no level. */
const char *nx_simd_name(nx_simd level);

/* Whether this build and this CPU have exactly the named level; *ret only when granted.
 * `name` NULL means no demand: the detected level is granted. */
nx_simd_verdict nx_simd_demand(const char *name, nx_simd *ret);

#endif
