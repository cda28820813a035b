// SPDX-License-Identifier: Apache-2.0
/* Reads all that an accepted manifest promises to be readable; under asan a lie is a finding. */
#ifndef NX_BKDL_WALK_H
#define NX_BKDL_WALK_H

#include "nx_bkdl.h"

#include <string.h>

static inline uint64_t walk_strings(const nx_bkdl_section *section)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < section->count; i++) {
        sum += strlen(nx_bkdl_string(section, i));
    }
    return sum;
}

/* A number that depends on every byte that the supervisor may look at. */
static inline uint64_t walk_manifest(const nx_bkdl *manifest)
{
    static const uint32_t texts[] = {NX_BKDL_NAME, NX_BKDL_PROGRAM, NX_BKDL_ARGUMENTS,
                                     NX_BKDL_ENVIRONMENT, NX_BKDL_STRINGS};
    const nx_bkdl_section *of = manifest->sections;
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(manifest);
    uint64_t sum = policy->gate;

    for (uint32_t i = 0; i < NX_ARRAY_COUNT(texts); i++) {
        sum += walk_strings(&of[texts[i]]);
    }
    if (of[NX_BKDL_DIRECTORY].data != NULL) {
        sum += walk_strings(&of[NX_BKDL_DIRECTORY]);
    }
    for (uint32_t type = 0; type < NX_BKDL_TYPE_COUNT; type++) {
        for (uint32_t i = 0; i < of[type].size; i++) {
            sum += of[type].data[i];
        }
    }
    for (uint32_t i = 0; i < of[NX_BKDL_MOUNTS].count; i++) {
        nx_bkdl_mount mount;
        memcpy(&mount, of[NX_BKDL_MOUNTS].data + i * sizeof mount, sizeof mount);
        sum += strlen(nx_bkdl_string(&of[NX_BKDL_STRINGS], mount.target));
        if (mount.source != NX_BKDL_NONE) {
            sum += strlen(nx_bkdl_string(&of[NX_BKDL_STRINGS], mount.source));
        }
    }
    for (uint32_t i = 0; i < of[NX_BKDL_LANDLOCK].count; i++) {
        nx_bkdl_landlock_rule rule;
        memcpy(&rule, of[NX_BKDL_LANDLOCK].data + sizeof(nx_bkdl_landlock) + i * sizeof rule,
               sizeof rule);
        if (rule.kind == NX_LANDLOCK_PATH) {
            sum += strlen(nx_bkdl_string(&of[NX_BKDL_STRINGS], rule.target));
        }
    }
    if (policy->gate != NX_BKDL_NONE) {
        sum += ((const nx_cbpf_insn *)(const void *)of[NX_BKDL_FILTER].data)[policy->gate + 2].k;
    }
    for (size_t i = 0; i < manifest->descriptor_count * NX_BKDL_DESCRIPTOR_SIZE; i++) {
        sum += manifest->descriptors[i];
    }
    return sum;
}

#endif
