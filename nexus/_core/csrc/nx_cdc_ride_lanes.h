// SPDX-License-Identifier: Apache-2.0
/*
 * The uniform BLAKE3 kernel with the boundary search in it. A file includes it once for each
 * width, after setting NX_B3_LANES, NX_B3_NAME, NX_B3_TARGET and NX_B3_BYTES as
 * nx_blake3_lanes.h describes.
 */
#include "nx_cdc_ride.h"
#include "nx_cdc_scan.h"

/* After a hit the rest of the ride tests a full mask, which only a hash of zero passes; the first
 * hit counts. */
#ifndef NX_CDC_RIDE_BYTE
#define NX_CDC_RIDE_BYTE(k)                                                                        \
    NX_CDC_ROLL(gear, hash, at[k]);                                                                \
    if (NX_UNLIKELY((hash & mask) == 0)) {                                                         \
        hit_hash = hit == NULL ? hash : hit_hash;                                                  \
        hit = hit == NULL ? at + (k) : hit;                                                        \
        mask = ~(uint64_t)0;                                                                       \
    }
NX_STATIC_ASSERT(NX_CDC_RIDE_STEP == 4, "the step below tests four bytes");
#endif

#define NX_B3_UNIFORM_ONLY
#define NX_B3_ARGS , nx_cdc_ride *ride
#define NX_B3_BEGIN                                                                                \
    const uint64_t *gear = ride->gear;                                                             \
    const uint8_t *at = ride->from;                                                                \
    const uint8_t *hit = NULL;                                                                     \
    uint64_t hash = ride->hash;                                                                    \
    uint64_t mask = ride->mask;                                                                    \
    uint64_t hit_hash = 0;
#define NX_B3_STEP                                                                                 \
    {                                                                                              \
        NX_CDC_RIDE_BYTE(0)                                                                        \
        NX_CDC_RIDE_BYTE(1)                                                                        \
        NX_CDC_RIDE_BYTE(2)                                                                        \
        NX_CDC_RIDE_BYTE(3)                                                                        \
        at += NX_CDC_RIDE_STEP;                                                                    \
    }
#define NX_B3_END                                                                                  \
    ride->hit = hit;                                                                               \
    ride->hash = hit == NULL ? hash : hit_hash;
#include "nx_blake3_lanes.h"
