// SPDX-License-Identifier: Apache-2.0
/* What one supervisor hands over to the next in the same process (docs/spec/node.md, Phoenix). */
#ifndef NX_L0_PHOENIX_H
#define NX_L0_PHOENIX_H

#include "nx_l0.h"

#include "nx_blake3.h"

#define NX_KEPT_MAGIC   0x0a0d00534952584eull /* "NXRIS\0\r\n" */
#define NX_KEPT_VERSION 1u

enum {
    NX_KEPT_IMAGE = 0,
    NX_KEPT_TABLE = 1,
    NX_KEPT_LISTEN = 2,
    NX_KEPT_BEB = 3,
    NX_KEPT_WATCHDOG = 4,
    NX_KEPT_CLIENTS = 5,
    NX_KEPT_OWN = 16,
};
NX_STATIC_ASSERT(NX_KEPT_CLIENTS + NX_L0_CLIENTS == NX_KEPT_OWN, "docs/spec/node.md");

typedef enum {
    NX_KEPT_FREE = 0,
    NX_KEPT_WANTED = 1,
    NX_KEPT_OVER = 2,
    NX_KEPT_HELD = 3,
    NX_KEPT_LOST = 4,
} nx_l0_kept_use;

typedef struct nx_l0_kept_fiber {
    uint32_t generation;
    uint32_t use;
    uint32_t flags; /* of START */
    uint32_t descriptor_count;
    uint32_t lives;
    int32_t status;
    uint32_t epoch;
    uint32_t zero;
    uint64_t order;
    uint64_t began_ns; /* of the life that is on; 0: none is */
    uint64_t ended_ns;
    uint64_t floor;
    uint64_t event;
    uint64_t revoked_channels;
    uint64_t revoked_files;
    nx_l0_waiter waiters[1 + NX_L0_WAITERS]; /* the first is the starter */
    int32_t checkpoint;
    int32_t descriptors[NX_L0_DESCRIPTORS_MAX];
} nx_l0_kept_fiber;
NX_STATIC_ASSERT(offsetof(nx_l0_kept_fiber, waiters) == 88, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_l0_kept_fiber, descriptors) == 152, "docs/spec/node.md");
NX_STATIC_ASSERT(sizeof(nx_l0_kept_fiber) == 408, "docs/spec/node.md");

typedef struct nx_l0_kept {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    uint32_t features; /* what was added to the mask */
    uint32_t then;
    uint64_t starts;
    uint8_t image[NX_BLAKE3_OUT];
    nx_breaker phoenixes;
    int32_t own[NX_KEPT_OWN];
    nx_l0_kept_fiber fibers[NX_NODE_FIBERS];
    uint8_t digest[NX_BLAKE3_OUT];
} nx_l0_kept;
NX_STATIC_ASSERT(offsetof(nx_l0_kept, phoenixes) == 64, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_l0_kept, own) == 616, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_l0_kept, digest) == 7616, "docs/spec/node.md");

/* phoenix.c: keeps what Phoenix will execute. Without it the node does, with less: said so. */
void nx_l0_keep_image(nx_l0_node *node);

/* The handover, and every child ended that was not; NULL when it is not sound. Then what it says,
 * by a node that is ready to serve. */
const nx_l0_kept *nx_l0_inherit(int32_t descriptor);
void nx_l0_rise(nx_l0_node *node, const nx_l0_kept *kept);

#endif
