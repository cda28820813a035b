// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of NexFS's log share: media of the emulator, a volume's memory, and a model of the
 * files that a random client makes. A state of model or volume is one number: the sum of a hash for
 * each name, so that states can be compared without keeping them.
 */
#ifndef NEXFS_RIG_H
#define NEXFS_RIG_H

#include <string.h>

#include "nx_flash_sim.h"
#include "nx_nexfs.h"
#include "nx_test.h"
#include "nx_xxhash.h"

#define RIG_SLOTS 64u
#define RIG_NODE  4096u
#define RIG_FILES 10u
#define RIG_BYTES 6000u

typedef struct {
    nx_nexfs_slot slots[RIG_SLOTS];
    uint8_t nodes[RIG_SLOTS * RIG_NODE] NX_ALIGNED(64);
    uint8_t buffer[300 << 10];
} rig_memory;

static inline nx_nexfs_memory rig_lend(rig_memory *memory, uint32_t slots, uint32_t node_size)
{
    return (nx_nexfs_memory){.slots = memory->slots,
                             .nodes = memory->nodes,
                             .buffer = memory->buffer,
                             .buffer_size = sizeof memory->buffer,
                             .slot_count = slots,
                             .node_size = node_size};
}

/* 4 MiB of each: NOR of 4 KiB blocks, NAND of 128 KiB, and a NAND so small that it is always full.
 */
typedef enum { RIG_NOR, RIG_NAND, RIG_TINY, RIG_MEDIA } rig_medium;

static inline nx_flash_sim_model rig_model(rig_medium medium, uint64_t seed)
{
    static const nx_flash_geometry geometries[RIG_MEDIA] = {
        {.size = 4u << 20,
         .block_size = 4096,
         .page_size = 256,
         .programs = 1,
         .kind = NX_FLASH_NOR,
         .erased = 0xff},
        {.size = 4u << 20,
         .block_size = 128u << 10,
         .page_size = 2048,
         .oob_size = 64,
         .programs = 1,
         .kind = NX_FLASH_NAND,
         .erased = 0xff},
        {.size = 24u * 8192,
         .block_size = 8192,
         .page_size = 512,
         .oob_size = 16,
         .programs = 1,
         .kind = NX_FLASH_NAND,
         .erased = 0xff},
    };

    return (nx_flash_sim_model){.geometry = geometries[medium],
                                .seed = seed,
                                .rules = NX_FLASH_RULE_ALL & ~NX_FLASH_RULE_CLEAR};
}

static inline nx_nexfs_format_options rig_options(rig_medium medium)
{
    return (nx_nexfs_format_options){.volume_id = {1, 2, 3, 4, 5, 6, 7, (uint8_t)medium},
                                     .label = "rig",
                                     .now_ns = 1,
                                     .node_log2 = 9,
                                     .window_log2 = medium == RIG_NAND ? 11 : 10,
                                     .window_max_log2 = medium == RIG_NAND ? 12 : 11,
                                     .reserve_blocks = medium == RIG_NOR ? 8 : 5};
}

/*
 * The model
 */

typedef struct {
    uint8_t parent; /* 0: the root, else 1 + number of a directory */
    uint8_t name, data;
    bool used, directory;
} rig_name;

typedef struct {
    rig_name names[RIG_FILES];
    uint8_t links[RIG_FILES];
    uint32_t size[RIG_FILES];
    uint8_t bytes[RIG_FILES][RIG_BYTES];
} rig_state;

static inline uint64_t rig_path(uint64_t parent, const void *name, size_t size)
{
    return nx_xxh3_64(name, size, parent * 31 + 7);
}

static inline size_t rig_name_make(uint8_t name, char ret[16])
{
    return (size_t)snprintf(ret, 16, "n%u", name);
}

static inline uint64_t rig_state_path(const rig_state *s, const rig_name *n)
{
    char name[16];
    size_t size = rig_name_make(n->name, name);
    uint64_t parent = n->parent == 0 ? 0 : rig_state_path(s, &s->names[n->parent - 1]);

    return rig_path(parent, name, size);
}

static inline uint64_t rig_state_sum(const rig_state *s)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < RIG_FILES; i++) {
        const rig_name *n = &s->names[i];
        if (n->used && n->directory) {
            sum += nx_xxh3_64("directory", 9, rig_state_path(s, n));
        } else if (n->used) {
            sum += nx_xxh3_64(s->bytes[n->data], s->size[n->data], rig_state_path(s, n));
        }
    }
    return sum;
}

/* The same sum of a mounted volume; false when something cannot be read. */
static inline bool rig_volume_sum(nx_nexfs *fs, uint64_t directory, uint64_t path, unsigned depth,
                                  uint64_t *sum)
{
    static uint8_t bytes[8][RIG_BYTES + 1];
    nx_nexfs_entry entry;
    uint64_t cookie = 0;
    int code;

    while ((code = nx_nexfs_next(fs, directory, cookie, &entry)) == NX_OK) {
        uint64_t own = rig_path(path, entry.name, entry.size);
        size_t size;
        cookie = entry.cookie;
        if (entry.kind == NX_NEXFS_DIRECTORY >> 12) {
            *sum += nx_xxh3_64("directory", 9, own);
            if (depth > 6 || !rig_volume_sum(fs, entry.inode, own, depth + 1, sum)) {
                return false;
            }
            continue;
        }
        if (nx_nexfs_read(fs, entry.inode, 0, bytes[depth], RIG_BYTES + 1, &size) != NX_OK) {
            return false;
        }
        *sum += nx_xxh3_64(bytes[depth], size, own);
    }
    return code == NX_EEMPTY;
}

/* Prints what a check finds, and counts it. */
static inline void rig_report(void *self, nx_nexfs_problem problem, uint64_t inode, uint64_t where)
{
    ++*(uint32_t *)self;
    fprintf(stderr, "problem %d inode %llu at %llu\n", problem, (unsigned long long)inode,
            (unsigned long long)where);
}

/* True when a check of everything finds nothing. */
static inline bool rig_sound(nx_nexfs *fs)
{
    uint32_t found = 0;

    return nx_nexfs_check(fs, true, rig_report, &found) == NX_OK && found == 0;
}

/*
 * The client: one operation on the volume and on the model
 */

typedef enum {
    RIG_CREATE,
    RIG_MKDIR,
    RIG_WRITE,
    RIG_TRUNCATE,
    RIG_RENAME,
    RIG_UNLINK,
    RIG_LINK,
    RIG_SYNC,
    RIG_OPS,
} rig_op;

typedef struct {
    rig_op op;
    uint8_t item, target, parent, to_parent; /* names: item in parent; parents: 0 or 1 + index */
    uint32_t offset, size;
    uint64_t seed;
} rig_step;

static inline rig_name *rig_find(rig_state *s, uint8_t parent, uint8_t name)
{
    for (uint32_t i = 0; i < RIG_FILES; i++) {
        if (s->names[i].used && s->names[i].parent == parent && s->names[i].name == name) {
            return &s->names[i];
        }
    }
    return NULL;
}

static inline bool rig_has_children(const rig_state *s, const rig_name *n)
{
    for (uint32_t i = 0; i < RIG_FILES; i++) {
        if (s->names[i].used && s->names[i].parent == 1 + (n - s->names)) {
            return true;
        }
    }
    return false;
}

static inline bool rig_below(const rig_state *s, uint8_t parent, const rig_name *n)
{
    while (parent != 0) {
        if (&s->names[parent - 1] == n) {
            return true;
        }
        parent = s->names[parent - 1].parent;
    }
    return false;
}

static inline void rig_fill(uint8_t *bytes, uint32_t size, uint64_t seed)
{
    uint64_t state = seed;

    if (seed % 3 == 0) { /* runs */
        memset(bytes, (int)(seed >> 8 & 255), size);
        return;
    }
    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)nx_test_random(&state);
    }
}

static inline void rig_unname(rig_state *s, rig_name *n)
{
    n->used = false;
    if (!n->directory && --s->links[n->data] == 0) {
        s->size[n->data] = 0;
        memset(s->bytes[n->data], 0, RIG_BYTES);
    }
}

/* A free place for a name, and one for data; false without. */
static inline bool rig_vacant(rig_state *s, rig_name **ret, uint8_t *ret_data)
{
    *ret = NULL;
    *ret_data = RIG_FILES;
    for (uint32_t i = 0; i < RIG_FILES; i++) {
        *ret = *ret == NULL && !s->names[i].used ? &s->names[i] : *ret;
        *ret_data = *ret_data == RIG_FILES && s->links[i] == 0 ? (uint8_t)i : *ret_data;
    }
    return *ret != NULL && *ret_data < RIG_FILES;
}

static inline int rig_rename(rig_state *s, const rig_step *step, rig_name *n)
{
    rig_name *to = rig_find(s, step->to_parent, step->target);
    if (n == NULL) {
        return NX_EEMPTY;
    }
    if (n->directory && rig_below(s, step->to_parent, n)) {
        return NX_EINVAL;
    }
    if (to == n || (to != NULL && !to->directory && !n->directory && to->data == n->data)) {
        return NX_OK;
    }
    if (to != NULL && to->directory != n->directory) {
        return NX_EINVAL;
    }
    if (to != NULL && to->directory && rig_has_children(s, to)) {
        return NX_EBUSY;
    }
    if (to != NULL) {
        rig_unname(s, to);
    }
    n->parent = step->to_parent;
    n->name = step->target;
    return NX_OK;
}

/* Applies a step to the model; returns what the volume ought to say. */
static inline int rig_apply(rig_state *s, const rig_step *step)
{
    rig_name *n = rig_find(s, step->parent, step->item), *to, *made;
    uint8_t data;

    switch (step->op) {
    case RIG_CREATE:
    case RIG_MKDIR:
        if (n != NULL || !rig_vacant(s, &made, &data)) {
            return n != NULL ? NX_EBUSY : NX_ETOOBIG;
        }
        *made = (rig_name){step->parent, step->item, data, true, step->op == RIG_MKDIR};
        s->links[data] = step->op == RIG_CREATE;
        return NX_OK;
    case RIG_WRITE:
        if (n == NULL || n->directory) {
            return n == NULL ? NX_EEMPTY : NX_EINVAL;
        }
        rig_fill(s->bytes[n->data] + step->offset, step->size, step->seed);
        if (step->offset + step->size > s->size[n->data]) {
            s->size[n->data] = step->offset + step->size;
        }
        return NX_OK;
    case RIG_TRUNCATE:
        if (n == NULL || n->directory) {
            return n == NULL ? NX_EEMPTY : NX_EINVAL;
        }
        if (step->size < s->size[n->data]) {
            memset(s->bytes[n->data] + step->size, 0, s->size[n->data] - step->size);
        }
        s->size[n->data] = step->size;
        return NX_OK;
    case RIG_RENAME:
        return rig_rename(s, step, n);
    case RIG_UNLINK:
        if (n == NULL || (n->directory && rig_has_children(s, n))) {
            return n == NULL ? NX_EEMPTY : NX_EBUSY;
        }
        rig_unname(s, n);
        return NX_OK;
    case RIG_LINK:
        to = rig_find(s, step->to_parent, step->target);
        if (n == NULL || to != NULL) {
            return n == NULL ? NX_EEMPTY : NX_EBUSY;
        }
        if (n->directory || !rig_vacant(s, &made, &data)) {
            return n->directory ? NX_EINVAL : NX_ETOOBIG;
        }
        *made = (rig_name){step->to_parent, step->target, n->data, true, false};
        s->links[n->data]++;
        return NX_OK;
    default:
        return NX_OK;
    }
}

static inline int rig_directory(nx_nexfs *fs, const rig_state *s, uint8_t parent, uint64_t *ret)
{
    char name[16];
    uint64_t above = NX_NEXFS_ROOT;
    int code = NX_OK;

    if (parent == 0) {
        *ret = NX_NEXFS_ROOT;
        return NX_OK;
    }
    if (s->names[parent - 1].parent != 0) {
        code = rig_directory(fs, s, s->names[parent - 1].parent, &above);
    }
    return code != NX_OK ? code
                         : nx_nexfs_lookup(fs, above, name,
                                           rig_name_make(s->names[parent - 1].name, name), ret);
}

/* The same step on the volume; `s` is the model before it. */
static inline int rig_perform(nx_nexfs *fs, const rig_state *s, const rig_step *step)
{
    static uint8_t bytes[RIG_BYTES];
    char name[16], to[16];
    size_t size = rig_name_make(step->item, name), to_size = rig_name_make(step->target, to);
    uint64_t directory, to_directory, inode = 0;
    int code = rig_directory(fs, s, step->parent, &directory);

    code = code != NX_OK ? code : rig_directory(fs, s, step->to_parent, &to_directory);
    if (code == NX_OK &&
        (step->op == RIG_WRITE || step->op == RIG_TRUNCATE || step->op == RIG_LINK)) {
        code = nx_nexfs_lookup(fs, directory, name, size, &inode);
    }
    if (code != NX_OK) {
        return code;
    }
    switch (step->op) {
    case RIG_CREATE:
        return nx_nexfs_create(fs, directory, name, size, NX_NEXFS_FILE | 0644, &inode);
    case RIG_MKDIR:
        return nx_nexfs_create(fs, directory, name, size, NX_NEXFS_DIRECTORY | 0755, &inode);
    case RIG_WRITE:
        rig_fill(bytes, step->size, step->seed);
        return nx_nexfs_write(fs, inode, step->offset, bytes, step->size);
    case RIG_TRUNCATE:
        return nx_nexfs_truncate(fs, inode, step->size);
    case RIG_RENAME:
        return nx_nexfs_rename(fs, directory, name, size, to_directory, to, to_size);
    case RIG_UNLINK:
        return nx_nexfs_unlink(fs, directory, name, size, false);
    case RIG_LINK:
        return nx_nexfs_link(fs, inode, to_directory, to, to_size);
    default:
        return nx_nexfs_sync(fs);
    }
}

static inline uint8_t rig_any_directory(const rig_state *s, uint64_t random)
{
    uint8_t i = (uint8_t)(random % (2 * RIG_FILES));

    return i < RIG_FILES && s->names[i].used && s->names[i].directory ? (uint8_t)(1 + i) : 0;
}

/* A random step; a write stays within one window, so that it is one operation. */
static inline rig_step rig_random(const rig_state *s, uint64_t *random, uint32_t window)
{
    static const uint8_t weights[16] = {RIG_CREATE, RIG_CREATE,   RIG_MKDIR,  RIG_WRITE,
                                        RIG_WRITE,  RIG_WRITE,    RIG_WRITE,  RIG_WRITE,
                                        RIG_WRITE,  RIG_TRUNCATE, RIG_RENAME, RIG_RENAME,
                                        RIG_UNLINK, RIG_LINK,     RIG_SYNC,   RIG_SYNC};
    rig_step step = {.op = weights[nx_test_random(random) % 16]};
    uint32_t most = nx_test_random(random) % 4 == 0 ? window : 200;

    step.item = (uint8_t)(nx_test_random(random) % 5);
    step.target = (uint8_t)(nx_test_random(random) % 5);
    step.parent = rig_any_directory(s, nx_test_random(random));
    step.to_parent = rig_any_directory(s, nx_test_random(random));
    step.seed = nx_test_random(random);
    if (step.op == RIG_TRUNCATE) {
        step.size = (uint32_t)(nx_test_random(random) % RIG_BYTES);
    } else {
        uint32_t from = (uint32_t)(nx_test_random(random) % window);
        step.size = 1 + (uint32_t)(nx_test_random(random) % most);
        step.size = step.size < window - from ? step.size : window - from;
        step.offset = from + window * (uint32_t)(nx_test_random(random) % (RIG_BYTES / window));
    }
    return step;
}

#endif
