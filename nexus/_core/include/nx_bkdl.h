// SPDX-License-Identifier: Apache-2.0
/*
 * BKDL, the binary manifest (docs/spec/bkdl.md): what a fiber is and what it may do.
 *
 * Parsing checks everything that can be checked without the kernel, once: afterwards every string
 * ends, every index points at a string, every element is whole and every enumeration is known. The
 * parsed form points into the bytes, which must not change (a sealed memfd) and must be aligned to
 * 8. Nothing is allocated and nothing is decided here.
 *
 * Not handled: the signature (a key is policy, and belongs to the reader's owner).
 */
#ifndef NX_BKDL_H
#define NX_BKDL_H

#include "nx_base.h"
#include "nx_cbpf.h"

#define NX_BKDL_MAGIC           0x4e585553u
#define NX_BKDL_HEADER_SIZE     118u
#define NX_BKDL_DESCRIPTOR_SIZE 12u
#define NX_BKDL_DESCRIPTORS_MAX 64u
#define NX_BKDL_SIZE_MAX        (1u << 20)
#define NX_BKDL_NAME_MAX        63u
#define NX_BKDL_NONE            UINT32_MAX

enum {
    NX_BKDL_SIGNED = 1,
    NX_BKDL_SECTIONS = 2,
};

/* Section types of a manifest; each at most once. */
enum {
    NX_BKDL_NAME = 1,
    NX_BKDL_PROGRAM = 2,
    NX_BKDL_ARGUMENTS = 3,
    NX_BKDL_ENVIRONMENT = 4,
    NX_BKDL_DIRECTORY = 5,
    NX_BKDL_POLICY = 6,
    NX_BKDL_FILTER = 7,
    NX_BKDL_LANDLOCK = 8,
    NX_BKDL_MOUNTS = 9,
    NX_BKDL_STRINGS = 10,
    NX_BKDL_LIMITS = 11,
    NX_BKDL_TYPE_COUNT = 12,
};

/* Section types of a plan. */
enum {
    NX_PLAN_MANIFEST = 256,
    NX_PLAN_IMAGE = 257,
    NX_PLAN_HANDLES = 258,
    NX_PLAN_TYPE_COUNT = 3,
};

/* Flags of the policy. */
enum {
    NX_POLICY_SEALED = 1,
    NX_POLICY_SESSION = 2,
    NX_POLICY_IDENTITY = 4,
    NX_POLICY_STANDBY = 16,
    NX_POLICY_AHEAD = 32,
};

enum {
    NX_RESTART_NEVER = 0,
    NX_RESTART_ON_FAILURE = 1,
    NX_RESTART_ALWAYS = 2,
};

enum {
    NX_STRATEGY_ONE_FOR_ONE = 0,
    NX_STRATEGY_ONE_FOR_ALL = 1,
    NX_STRATEGY_REST_FOR_ONE = 2,
};

#define NX_HANDLES_MAX       60u
#define NX_HANDLE_INDEX_MAX  63u
#define NX_HANDLE_LIFE       UINT32_MAX
#define NX_HANDLE_CHECKPOINT (UINT32_MAX - 1)
#define NX_HANDLE_SYSTABLE   (UINT32_MAX - 2)
#define NX_HANDLE_CONTROL    (UINT32_MAX - 3)
#define NX_HANDLE_OBSERVER   (UINT32_MAX - 4)

enum {
    NX_MOUNT_BIND = 1,
    NX_MOUNT_BIND_ALONE = 2,
    NX_MOUNT_TMPFS = 3,
    NX_MOUNT_PROC = 4,
    NX_MOUNT_DIRECTORY = 5,
    NX_MOUNT_SYMLINK = 6,
    NX_MOUNT_FILE = 7,
    NX_MOUNT_DEVPTS = 8,
    NX_MOUNT_MQUEUE = 9,
};
#define NX_MOUNT_OPTIONAL 1u /* skip when the source is absent */
#define NX_MOUNT_LIFE     2u /* empty at the start of each life */

enum {
    NX_LANDLOCK_PATH = 0,
    NX_LANDLOCK_PORT = 1,
};

typedef struct nx_bkdl_policy {
    uint64_t pledge;
    uint64_t promises;
    uint64_t budget_ns;
    uint64_t namespaces;
    uint64_t flags;
    uint32_t restart;
    uint32_t intensity;
    uint32_t period_ms;
    uint32_t delay_ms;
    uint32_t disposition;
    uint32_t tier;
    uint32_t survivability;
    uint32_t user;
    uint32_t group;
    uint32_t gate;
    uint32_t grace_ms;
    uint32_t strategy;
    uint32_t company; /* number of the fibers that fall together; 0: alone */
    uint32_t zero;
} nx_bkdl_policy;
NX_STATIC_ASSERT(sizeof(nx_bkdl_policy) == 96, "as the specification says");
NX_STATIC_ASSERT(offsetof(nx_bkdl_policy, restart) == 40, "as the specification says");
NX_STATIC_ASSERT(offsetof(nx_bkdl_policy, gate) == 76, "as the specification says");
NX_STATIC_ASSERT(offsetof(nx_bkdl_policy, strategy) == 84, "as the specification says");

typedef struct nx_bkdl_landlock {
    uint64_t files;
    uint64_t network;
    uint64_t scopes;
} nx_bkdl_landlock;

typedef struct nx_bkdl_landlock_rule {
    uint64_t access;
    uint32_t kind;
    uint32_t target; /* string index or port */
    uint64_t zero;
} nx_bkdl_landlock_rule;

typedef struct nx_bkdl_mount {
    uint16_t kind;
    uint16_t zero;
    uint32_t attributes;
    uint32_t source;
    uint32_t target;
    uint32_t mode;
    uint32_t flags;
} nx_bkdl_mount;

typedef struct nx_bkdl_limit {
    uint32_t resource;
    uint32_t zero;
    uint64_t soft;
    uint64_t hard;
} nx_bkdl_limit;
NX_STATIC_ASSERT(sizeof(nx_bkdl_landlock) == 24 && sizeof(nx_bkdl_landlock_rule) == 24 &&
                     sizeof(nx_bkdl_mount) == 24 && sizeof(nx_bkdl_limit) == 24,
                 "elements of sections have 24 bytes");

typedef struct nx_plan_image {
    int32_t descriptor;
    uint32_t flags; /* 1: check the digest */
    uint8_t digest[32];
} nx_plan_image;
NX_STATIC_ASSERT(sizeof(nx_plan_image) == 40, "as the specification says");

/* What a fiber gets beside its standard descriptors (docs/spec/node.md). */
typedef struct nx_plan_handle {
    uint32_t what; /* an index, or one of NX_HANDLE_* */
    uint32_t number;
} nx_plan_handle;

/* One section; `data` is NULL where the manifest has none of this type. */
typedef struct nx_bkdl_section {
    const uint8_t *data;
    uint32_t size;
    uint32_t count;
} nx_bkdl_section;

typedef struct nx_bkdl {
    uint16_t flags;
    uint16_t descriptor_count;
    const uint8_t *descriptors;
    uint64_t entry;
    nx_bkdl_section sections[NX_BKDL_TYPE_COUNT];
} nx_bkdl;

typedef struct nx_plan {
    nx_bkdl manifest;
    const nx_plan_image *image;
    const nx_plan_handle *handles;
    uint32_t handle_count;
} nx_plan;

/* Parses a manifest. NX_EALIGN for an unaligned buffer, NX_ETOOBIG above a limit, NX_ECORRUPT for
 * anything that the specification does not allow. */
int nx_bkdl_parse(const uint8_t *bytes, size_t size, nx_bkdl *ret);

/* Parses a plan and the manifest in it. */
int nx_plan_parse(const uint8_t *bytes, size_t size, nx_plan *ret);

/* String `index` of a section of strings; the index must be in range. */
const char *nx_bkdl_string(const nx_bkdl_section *strings, uint32_t index);

NX_INLINE const nx_bkdl_policy *nx_bkdl_policy_of(const nx_bkdl *manifest)
{
    return (const nx_bkdl_policy *)(const void *)manifest->sections[NX_BKDL_POLICY].data;
}

#endif
