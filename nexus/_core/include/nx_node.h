// SPDX-License-Identifier: Apache-2.0
/*
 * What a node's supervisor shares: requests, SysTable, the observer's page; nx_fiber.h has the life
 * page.
 * docs/spec/node.md is the authority for every byte; nothing here but layout.
 */
#ifndef NX_NODE_H
#define NX_NODE_H

#include "nx_base.h"
#include "nx_verdict.h"

#define NX_NODE_VERSION  1u
#define NX_NODE_MAGIC    0x0a0d00535953584eull /* "NXSYS\0\r\n" */
#define NX_NODE_FIBERS   17u                   /* sixteen and L1 */
#define NX_NODE_OBSERVER 16u                   /* the slot of L1 */
#define NX_NODE_EVENTS   1024u
#define NX_NODE_CSPACE   64u
#define NX_NODE_NAME     64u
#define NX_NODE_VERDICTS 64u
#define NX_NODE_ANY      UINT32_MAX
#define NX_NODE_ANSWER   0x8000u

enum {
    NX_OP_HELLO = 1,
    NX_OP_START = 2,
    NX_OP_BEGIN = 3,
    NX_OP_STOP = 4,
    NX_OP_SIGNAL = 5,
    NX_OP_RESTART = 6,
    NX_OP_FORGET = 7,
    NX_OP_WAIT = 8,
    NX_OP_FEATURE = 9,
    NX_OP_GRANT = 10,
    NX_OP_REVOKE = 11,
    NX_OP_LOOK = 12,
    NX_OP_SHUTDOWN = 13,
    NX_OP_GUARD = 14,
};

enum {
    NX_START_HOLD = 1,
    NX_START_OBSERVER = 2,
    NX_START_DURABLE = 4,
    NX_START_CGROUP = 8,
    NX_START_FLAGS = 15,
    NX_STOP_AT_ONCE = 1,
    NX_SHUTDOWN_PHOENIX = 1,
};

/* What follows too many Phoenix. */
enum {
    NX_THEN_STAY = 0,
    NX_THEN_RESET = 1,
    NX_THEN_REBOOT = 2,
};

/* A request and its answer, whose word 0 is the result. */
typedef struct nx_node_packet {
    uint16_t operation;
    uint16_t flags;
    uint32_t ticket;
    uint32_t slot;
    uint32_t generation;
    uint64_t words[6];
} nx_node_packet;
NX_STATIC_ASSERT(sizeof(nx_node_packet) == 64, "docs/spec/node.md");

typedef enum {
    NX_FIBER_FREE = 0,
    NX_FIBER_ALIVE = 1,
    NX_FIBER_PAUSE = 2,
    NX_FIBER_OVER = 3,
    NX_FIBER_HELD = 4,
    NX_FIBER_QUARANTINED = 5,
    NX_FIBER_STARTING = 6,
} nx_node_state;

enum {
    NX_FIBER_IS_OBSERVER = 1,
    NX_FIBER_HAS_BUDGET = 2,
    NX_FIBER_HAS_CHECKPOINTS = 4,
    NX_FIBER_HAS_STANDBY = 8,
    NX_FIBER_IS_WARM = 16,
    NX_FIBER_IS_COUNTED = 32,
};

typedef struct nx_node_fiber {
    uint32_t lock;
    uint32_t generation;
    uint32_t state;
    uint32_t lives;
    int32_t pid;
    uint32_t status;
    uint32_t tier;
    uint32_t tier_declared;
    uint64_t began_ns;
    uint64_t ended_ns;
    uint32_t strikes;
    uint32_t demotions;
    uint32_t restarts;
    uint32_t breaker;
    uint32_t epoch;
    uint32_t cause;
    uint64_t pledge;
    uint64_t promises;
    uint64_t budget_ns;
    uint64_t cpu_ns;
    uint64_t bursts;
    uint64_t overruns;
    uint64_t checkpoint;
    uint64_t image;
    uint64_t event;
    uint32_t flags;
    uint32_t company;
    uint32_t strategy;
    uint32_t zero;
    uint64_t reads;
    uint64_t writes;
    uint64_t counted_ns; /* when these two were looked at */
    uint64_t rest;
    char name[NX_NODE_NAME];
} nx_node_fiber;
NX_STATIC_ASSERT(sizeof(nx_node_fiber) == 256, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_fiber, pledge) == 72, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_fiber, flags) == 144, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_fiber, reads) == 160, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_fiber, name) == 192, "docs/spec/node.md");

typedef struct nx_node_capability {
    uint8_t type; /* 0: free */
    uint8_t rights;
    uint8_t parent; /* 1 + index, 0: none */
    uint8_t depth;  /* derivations from a root */
    uint32_t epoch;
    uint64_t object;
    uint64_t start;
    uint64_t end;
} nx_node_capability;
NX_STATIC_ASSERT(sizeof(nx_node_capability) == 32, "docs/spec/node.md");

/* The capabilities of one fiber. */
typedef struct nx_node_cspace {
    nx_node_capability slots[NX_NODE_CSPACE];
} nx_node_cspace;

typedef struct nx_node_head {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    int32_t pid;
    uint32_t generation;
    uint64_t start_ns;
    uint64_t start_wall_ns;
    uint32_t state; /* 1 up, 2 shutting down, 3 over, 4 moved */
    uint32_t phoenix;
    uint64_t wakeups;
    uint64_t events; /* id of the newest; its low half is a futex */
    uint64_t repairs;
    uint64_t audits;
    uint64_t beat_ns;
} nx_node_head;
NX_STATIC_ASSERT(sizeof(nx_node_head) == 88, "docs/spec/node.md");

#define NX_NODE_CSPACES_BYTES (NX_NODE_FIBERS * sizeof(nx_node_cspace))

/* The parts that are voted on lie in pages of their own. */
typedef struct nx_node_table {
    nx_node_head head;
    NX_ALIGNED(4096) uint64_t feature_0;
    NX_ALIGNED(4096) uint64_t feature_1;
    NX_ALIGNED(4096) uint64_t feature_2;
    NX_ALIGNED(4096) nx_node_fiber fibers[NX_NODE_FIBERS];
    struct {
        NX_ALIGNED(4096) nx_node_cspace of[NX_NODE_FIBERS];
    } cspaces[3];
    NX_ALIGNED(4096) uint8_t events[NX_NODE_EVENTS][64];
} nx_node_table;
NX_STATIC_ASSERT(offsetof(nx_node_table, feature_0) == 4096, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_table, fibers) == 16384, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_table, cspaces) == 24576, "docs/spec/node.md");
NX_STATIC_ASSERT(sizeof(((nx_node_table *)0)->cspaces[0]) == 36864, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_node_table, events) == 135168, "docs/spec/node.md");
NX_STATIC_ASSERT(sizeof(nx_node_table) == 200704, "docs/spec/node.md");

typedef struct nx_node_observer {
    uint64_t beat;
    uint64_t verdict; /* sequence of the newest */
    uint64_t zero[6];
    nx_verdict verdicts[NX_NODE_VERDICTS];
} nx_node_observer;
NX_STATIC_ASSERT(offsetof(nx_node_observer, verdicts) == 64, "docs/spec/node.md");

/* Whom events and verdicts are about: 0 is the supervisor. */
NX_INLINE uint64_t nx_node_name(uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 32 | (slot + 1);
}

#endif
