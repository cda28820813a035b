// SPDX-License-Identifier: Apache-2.0
/*
 * Events of the System Truth Ledger: 60 packed bytes and a CRC-32C. docs/spec/stl.md is the
 * authority for layout, numbers and the meaning of the data.
 *
 * No libc, no allocation. The check finds accidents, not forgeries; those are what the hash chain
 * of the ledger is for.
 */
#ifndef NX_STL_H
#define NX_STL_H

#include "nx_base.h"

#define NX_STL_BYTES 64u

/* Numbers are never reused. */
enum {
    NX_STL_NULL = 0,
    NX_STL_SYSTEM_BOOT = 1,
    NX_STL_SYSTEM_SHUTDOWN = 2,
    NX_STL_FIBER_SPAWN = 3,
    NX_STL_FIBER_TERMINATE = 4,
    NX_STL_CAPABILITY_GRANT = 10,
    NX_STL_CAPABILITY_REVOKE = 11,
    NX_STL_CAPABILITY_DELEGATE = 12,
    NX_STL_CHANNEL_OPEN = 20,
    NX_STL_CHANNEL_CLOSE = 21,
    NX_STL_CHANNEL_READ = 22,
    NX_STL_CHANNEL_WRITE = 23,
    NX_STL_MEMORY_ALLOCATE = 30,
    NX_STL_MEMORY_FREE = 31,
    NX_STL_MEMORY_MAP = 32,
    NX_STL_NETWORK_PACKET_RX = 40,
    NX_STL_NETWORK_PACKET_TX = 41,
    NX_STL_ACCESS_DENIED = 50,
    NX_STL_POLICY_VIOLATION = 51,
    NX_STL_BUDGET_STRIKE = 60,
    NX_STL_TIER_DEMOTION = 61,
    NX_STL_ANOMALY_DETECTED = 62,
    NX_STL_VERDICT_ISSUED = 63,
    NX_STL_CHECKPOINT_WRITE = 64,
    NX_STL_CHECKPOINT_REGION_INIT = 65,
    NX_STL_CHECKPOINT_RESTORE = 66,
    NX_STL_CHECKPOINT_CORRUPT = 67,
    NX_STL_FEATURE_CHANGE = 68,
    NX_STL_VOTE_REPAIR = 69,
    NX_STL_HEARTBEAT_LATE = 70,
    NX_STL_HEARTBEAT_LOST = 71,
    NX_STL_RESTART_TRAP = 72,
    NX_STL_BREAKER_OPEN = 73,
    NX_STL_QUARANTINE = 74,
    NX_STL_ENVIRONMENT_FAULT = 75,
    NX_STL_CAPABILITY_CORRUPT = 76,
    NX_STL_IMAGE_CORRUPT = 77,
    NX_STL_PHOENIX = 78,
    NX_STL_EVENTS_LOST = 79,
};

typedef struct nx_stl_event {
    uint64_t kind;
    uint64_t time_ns;
    uint64_t fiber;
    uint64_t entity;
    uint64_t cause;
    uint64_t data[3];
} nx_stl_event;

/* Whether the number is in the table. */
bool nx_stl_is_kind(uint64_t kind);

/* NX_EINVAL for a kind that is not in the table; then nothing was written. */
int nx_stl_encode(const nx_stl_event *event, uint8_t ret[NX_STL_BYTES]);

/* NX_ECORRUPT for a wrong check, NX_EINVAL for an unknown kind or a reserved field in use. */
int nx_stl_decode(const uint8_t bytes[NX_STL_BYTES], nx_stl_event *ret);

#endif
