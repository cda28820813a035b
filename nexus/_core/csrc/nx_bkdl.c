// SPDX-License-Identifier: Apache-2.0
/* The checks of nx_bkdl.h, in the order of the bytes. */
#include "nx_bkdl.h"

#include <string.h>

#define SECTION_HEADER_SIZE 8u
#define STRINGS_MAX         4096u
#define SIGNATURE_OFFSET    8u
#define SIGNATURE_SIZE      96u /* with the hash of the key */
#define PLEDGE_BITS         (0x1fu | (uint64_t)3 << 62)
#define POLICY_FLAGS        0x3f
/* CLONE_NEW* of linux/sched.h: mount, cgroup, UTS, IPC, user, PID and network; they are handed to
 * clone3, where another bit would be something else entirely. */
#define NAMESPACES 0x7e020000u

/* Whether the payload is exactly `count` strings, each ended by its only zero byte. */
static bool strings_are_whole(const nx_bkdl_section *section)
{
    uint32_t ends = 0;

    for (uint32_t i = 0; i < section->size; i++) {
        ends += section->data[i] == 0;
    }
    return ends == section->count && section->count <= STRINGS_MAX &&
           (section->size == 0 || section->data[section->size - 1] == 0);
}

const char *nx_bkdl_string(const nx_bkdl_section *strings, uint32_t index)
{
    const char *at = (const char *)strings->data;

    NX_ASSERT(index < strings->count);
    while (index > 0) {
        at += strlen(at) + 1;
        index--;
    }
    return at;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Splits a section area into a table indexed by type - first. */
static int split(const uint8_t *bytes, size_t size, uint32_t first, uint32_t types,
                 nx_bkdl_section *ret)
{
    size_t at = 0;

    while (at < size) {
        if (size - at < SECTION_HEADER_SIZE) {
            return NX_ECORRUPT;
        }
        uint32_t head = nx_load_u32(bytes + at);
        uint32_t type = (head & 0xffff) - first;
        uint32_t payload = nx_load_u32(bytes + at + 4);
        at += SECTION_HEADER_SIZE;
        if (type >= types || ret[type].data != NULL || payload > size - at) {
            return NX_ECORRUPT;
        }
        ret[type] = (nx_bkdl_section){.data = bytes + at, .size = payload, .count = head >> 16};
        size_t padded = nx_align_up(payload, 8);
        if (padded > size - at) {
            return NX_ECORRUPT;
        }
        if (!is_zero(bytes + at + payload, padded - payload)) {
            return NX_ECORRUPT;
        }
        at += padded;
    }
    return NX_OK;
}

static bool is_one_string(const nx_bkdl_section *section)
{
    return section->count == 1 && strings_are_whole(section);
}

static bool is_absolute(const nx_bkdl_section *section)
{
    return is_one_string(section) && section->data[0] == '/';
}

static bool has_index(const nx_bkdl *manifest, uint32_t index)
{
    return index < manifest->sections[NX_BKDL_STRINGS].count;
}

/* Whether each of the strings has the form NAME=value. */
static bool are_variables(const nx_bkdl_section *section)
{
    bool assigns = false;

    for (uint32_t i = 0; i < section->size; i++) {
        if (section->data[i] == 0 && !assigns) {
            return false;
        }
        assigns = section->data[i] != 0 && (assigns || section->data[i] == '=');
    }
    return true;
}

static bool strings_are_sound(const nx_bkdl *manifest)
{
    const nx_bkdl_section *of = manifest->sections;
    const nx_bkdl_section *name = &of[NX_BKDL_NAME];

    if (name->data == NULL || !is_one_string(name) || name->size < 2 ||
        name->size > NX_BKDL_NAME_MAX + 1) {
        return false;
    }
    if (of[NX_BKDL_PROGRAM].data == NULL || !is_absolute(&of[NX_BKDL_PROGRAM])) {
        return false;
    }
    if (of[NX_BKDL_ARGUMENTS].data == NULL || of[NX_BKDL_ARGUMENTS].count == 0 ||
        !strings_are_whole(&of[NX_BKDL_ARGUMENTS])) {
        return false;
    }
    if (of[NX_BKDL_DIRECTORY].data != NULL && !is_absolute(&of[NX_BKDL_DIRECTORY])) {
        return false;
    }
    return (of[NX_BKDL_ENVIRONMENT].data == NULL || (strings_are_whole(&of[NX_BKDL_ENVIRONMENT]) &&
                                                     are_variables(&of[NX_BKDL_ENVIRONMENT]))) &&
           (of[NX_BKDL_STRINGS].data == NULL || strings_are_whole(&of[NX_BKDL_STRINGS]));
}

static bool policy_is_sound(const nx_bkdl *manifest)
{
    const nx_bkdl_section *section = &manifest->sections[NX_BKDL_POLICY];
    const nx_bkdl_policy *policy = nx_bkdl_policy_of(manifest);

    if (section->data == NULL || section->count != 1 || section->size != sizeof *policy) {
        return false;
    }
    if (policy->restart > NX_RESTART_ALWAYS || policy->disposition > 2 || policy->tier > 3 ||
        policy->survivability > 0xff || (policy->pledge & ~PLEDGE_BITS) != 0 ||
        policy->pledge >> 62 != policy->tier || (policy->namespaces & ~(uint64_t)NAMESPACES) != 0 ||
        (policy->flags & ~(uint64_t)POLICY_FLAGS) != 0 ||
        policy->strategy > NX_STRATEGY_REST_FOR_ONE || policy->zero != 0) {
        return false;
    }
    /* The gate is two comparisons of the filter, one instruction apart. */
    return policy->gate == NX_BKDL_NONE ||
           (uint64_t)policy->gate + 2 < manifest->sections[NX_BKDL_FILTER].count;
}

static bool landlock_is_sound(const nx_bkdl *manifest)
{
    const nx_bkdl_section *section = &manifest->sections[NX_BKDL_LANDLOCK];
    size_t head = sizeof(nx_bkdl_landlock);

    if (section->data == NULL) {
        return true;
    }
    if (section->size != head + section->count * sizeof(nx_bkdl_landlock_rule)) {
        return false;
    }
    for (uint32_t i = 0; i < section->count; i++) {
        nx_bkdl_landlock_rule rule;
        memcpy(&rule, section->data + head + i * sizeof rule, sizeof rule);
        if (rule.kind > NX_LANDLOCK_PORT || rule.zero != 0 ||
            (rule.kind == NX_LANDLOCK_PATH && !has_index(manifest, rule.target)) ||
            (rule.kind == NX_LANDLOCK_PORT && rule.target > UINT16_MAX)) {
            return false;
        }
    }
    return true;
}

static bool mounts_are_sound(const nx_bkdl *manifest)
{
    const nx_bkdl_section *section = &manifest->sections[NX_BKDL_MOUNTS];

    if (section->size != section->count * sizeof(nx_bkdl_mount)) {
        return false;
    }
    for (uint32_t i = 0; i < section->count; i++) {
        nx_bkdl_mount mount;
        memcpy(&mount, section->data + i * sizeof mount, sizeof mount);
        bool sourced = mount.kind == NX_MOUNT_BIND || mount.kind == NX_MOUNT_BIND_ALONE ||
                       mount.kind == NX_MOUNT_SYMLINK || mount.kind == NX_MOUNT_FILE;
        if (mount.kind < NX_MOUNT_BIND || mount.kind > NX_MOUNT_MQUEUE || mount.zero != 0 ||
            mount.flags > (NX_MOUNT_OPTIONAL | NX_MOUNT_LIFE) ||
            ((mount.flags & NX_MOUNT_LIFE) != 0 && mount.kind != NX_MOUNT_TMPFS) ||
            !has_index(manifest, mount.target) ||
            (sourced ? !has_index(manifest, mount.source) : mount.source != NX_BKDL_NONE)) {
            return false;
        }
    }
    return true;
}

static bool arrays_are_sound(const nx_bkdl *manifest)
{
    const nx_bkdl_section *filter = &manifest->sections[NX_BKDL_FILTER];
    const nx_bkdl_section *limits = &manifest->sections[NX_BKDL_LIMITS];

    if (filter->size != filter->count * sizeof(nx_cbpf_insn) || filter->count > NX_CBPF_COUNT_MAX ||
        (filter->data != NULL && filter->count == 0) ||
        limits->size != limits->count * sizeof(nx_bkdl_limit)) {
        return false;
    }
    for (uint32_t i = 0; i < limits->count; i++) {
        nx_bkdl_limit limit;
        memcpy(&limit, limits->data + i * sizeof limit, sizeof limit);
        if (limit.zero != 0) {
            return false;
        }
    }
    return true;
}

static bool descriptors_are_sound(const nx_bkdl *manifest)
{
    for (uint32_t i = 0; i < manifest->descriptor_count; i++) {
        const uint8_t *one = manifest->descriptors + (size_t)i * NX_BKDL_DESCRIPTOR_SIZE;
        if (one[0] > 6 || (one[2] | one[3]) != 0) {
            return false;
        }
    }
    return true;
}

int nx_bkdl_parse(const uint8_t *bytes, size_t size, nx_bkdl *ret)
{
    nx_bkdl found = {0};

    if (((uintptr_t)bytes & 7) != 0) {
        return NX_EALIGN;
    }
    if (size > NX_BKDL_SIZE_MAX) {
        return NX_ETOOBIG;
    }
    if (size < NX_BKDL_HEADER_SIZE || nx_load_u32(bytes) != NX_BKDL_MAGIC || bytes[4] != 1 ||
        bytes[5] != 0) {
        return NX_ECORRUPT;
    }
    found.flags = (uint16_t)(bytes[6] | bytes[7] << 8);
    found.descriptor_count = (uint16_t)(bytes[104] | bytes[105] << 8);
    found.entry = nx_load_u64(bytes + 110);
    found.descriptors = bytes + NX_BKDL_HEADER_SIZE;
    if (found.descriptor_count > NX_BKDL_DESCRIPTORS_MAX) {
        return NX_ETOOBIG;
    }
    size_t end = NX_BKDL_HEADER_SIZE + (size_t)found.descriptor_count * NX_BKDL_DESCRIPTOR_SIZE;
    size_t start = nx_align_up(end, 8);
    uint32_t area = nx_load_u32(bytes + 106);
    if ((found.flags & ~(NX_BKDL_SIGNED | NX_BKDL_SECTIONS)) != 0 || start > size ||
        area != size - start || (area & 7) != 0 ||
        (area != 0) != ((found.flags & NX_BKDL_SECTIONS) != 0) ||
        !is_zero(bytes + end, start - end) ||
        ((found.flags & NX_BKDL_SIGNED) == 0 &&
         !is_zero(bytes + SIGNATURE_OFFSET, SIGNATURE_SIZE))) {
        return NX_ECORRUPT;
    }
    int result = split(bytes + start, area, 0, NX_BKDL_TYPE_COUNT, found.sections);
    if (result != NX_OK || found.sections[0].data != NULL) {
        return NX_ECORRUPT;
    }
    if (!descriptors_are_sound(&found) || !strings_are_sound(&found) || !arrays_are_sound(&found) ||
        !policy_is_sound(&found) || !landlock_is_sound(&found) || !mounts_are_sound(&found)) {
        return NX_ECORRUPT;
    }
    *ret = found;
    return NX_OK;
}

static bool handles_are_sound(const nx_bkdl_section *section)
{
    const nx_plan_handle *handles = (const nx_plan_handle *)(const void *)section->data;
    uint32_t last = 2;

    if (section->size != section->count * sizeof *handles || section->count > NX_HANDLES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < section->count; i++) {
        if ((handles[i].what > NX_HANDLE_INDEX_MAX && handles[i].what < NX_HANDLE_OBSERVER) ||
            handles[i].number <= last || handles[i].number > NX_HANDLE_INDEX_MAX) {
            return false;
        }
        last = handles[i].number;
    }
    return true;
}

int nx_plan_parse(const uint8_t *bytes, size_t size, nx_plan *ret)
{
    nx_bkdl_section sections[NX_PLAN_TYPE_COUNT] = {0};
    nx_plan found = {0};
    const nx_bkdl_section *manifest = &sections[0];
    const nx_bkdl_section *image = &sections[NX_PLAN_IMAGE - NX_PLAN_MANIFEST];
    const nx_bkdl_section *handles = &sections[NX_PLAN_HANDLES - NX_PLAN_MANIFEST];

    if (((uintptr_t)bytes & 7) != 0) {
        return NX_EALIGN;
    }
    int result = split(bytes, size, NX_PLAN_MANIFEST, NX_PLAN_TYPE_COUNT, sections);
    if (result != NX_OK) {
        return result;
    }
    if (manifest->data == NULL || manifest->count != 1 || image->data == NULL ||
        image->count != 1 || image->size != sizeof(nx_plan_image)) {
        return NX_ECORRUPT;
    }
    found.image = (const nx_plan_image *)(const void *)image->data;
    if (found.image->descriptor < -1 || found.image->flags > 1) {
        return NX_ECORRUPT;
    }
    if (!handles_are_sound(handles)) {
        return NX_ECORRUPT;
    }
    found.handles = (const nx_plan_handle *)(const void *)handles->data;
    found.handle_count = handles->count;
    result = nx_bkdl_parse(manifest->data, manifest->size, &found.manifest);
    if (result == NX_OK) {
        *ret = found;
    }
    return result;
}
