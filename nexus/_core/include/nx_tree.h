// SPDX-License-Identifier: Apache-2.0
/*
 * Directories and lists of the store as objects. docs/spec/nexfs-store.md is the authority.
 *
 * Theory of operation. A directory is written in columns, names with names and ids with ids: what
 * did not change since the last version is then one long run, and continues it in a few bytes.
 * Where a leaf or a list ends depends on what is in it alone, so that two versions of a directory
 * share all leaves but the changed ones.
 *
 * Reading believes nothing: names must rise and be names, columns must end together.
 */
#ifndef NX_TREE_H
#define NX_TREE_H

#include "nx_block.h"

#define NX_NAME_MAX       255u
#define NX_ENTRIES_MIN    64u
#define NX_ENTRIES_MAX    2048u
#define NX_ENTRIES_MASK   511u
#define NX_LEAF_COLUMNS   9u
#define NX_LEAF_BYTES     262144u
#define NX_WITHIN_MAX     8192u
#define NX_LIST_LEVEL_MAX 6u

typedef enum nx_form {
    NX_FORM_NOTHING = 0,
    NX_FORM_DATA = 1,
    NX_FORM_LIST = 2,
    NX_FORM_LEAF = 3,
    NX_FORM_INDEX = 4,
    NX_FORM_TEXT = 5,
    NX_FORM_WITHIN = 6,
} nx_form;

enum { NX_EXTRA_LINK = 1, NX_EXTRA_ATTRIBUTE = 2, NX_EXTRA_CHECKSUM = 3 };

/* One name; the pointers belong to whoever made it, as far as its next step. */
typedef struct nx_entry {
    const uint8_t *name;
    const uint8_t *id;     /* with forms 1 to 4 */
    const uint8_t *text;   /* with forms 5 and 6 */
    const uint8_t *extras; /* records of tag, length, bytes */
    uint64_t size;
    int64_t seconds;
    uint32_t nanoseconds;
    uint32_t name_size;
    uint32_t extras_size;
    uint32_t text_size;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    nx_form form;
} nx_entry;

/* A leaf that grows; empty is {0}. */
typedef struct nx_leaf_maker {
    nx_bytes columns[NX_LEAF_COLUMNS];
    int64_t seconds;
    uint32_t count;
    uint32_t last_size;
    uint8_t last[NX_NAME_MAX];
} nx_leaf_maker;

/* A leaf that is read. */
typedef struct nx_leaf {
    nx_cursor columns[NX_LEAF_COLUMNS];
    int64_t seconds;
    uint64_t left;
    uint32_t last_size;
    bool root;
    uint8_t last[NX_NAME_MAX];
} nx_leaf;

/* Whether the bytes are a name: 1 to 255 of them, no slash, no zero, neither . nor .. */
bool nx_name_is(const uint8_t *name, size_t size);

/* Appends an entry; names must rise. */
void nx_leaf_add(nx_leaf_maker *maker, const nx_entry *entry);
/* Whether a leaf ends behind the entry that was added last. */
bool nx_leaf_ends(const nx_leaf_maker *maker);
/* The leaf into `ret`, which is emptied before; `maker` is empty after. NX_ENOMEM. */
int nx_leaf_make(nx_leaf_maker *maker, nx_bytes *ret);
void nx_leaf_maker_free(nx_leaf_maker *maker);

/* NX_ECORRUPT. `root`: the leaf of a tree's root, whose one name is empty. */
int nx_leaf_open(const void *data, size_t size, bool root, nx_leaf *ret);
/* 1 with the next entry, valid until the next call; 0 behind the last; NX_ECORRUPT. */
int nx_leaf_next(nx_leaf *leaf, nx_entry *ret);

/* One leaf of an index. */
typedef struct nx_index_entry {
    const uint8_t *name;
    const uint8_t *id;
    uint64_t count;
    uint32_t name_size;
} nx_index_entry;

typedef struct nx_index_maker {
    nx_bytes rows;
    uint64_t count;
} nx_index_maker;

void nx_index_add(nx_index_maker *maker, const nx_index_entry *entry);
int nx_index_make(nx_index_maker *maker, nx_bytes *ret);
/* The rows of an index: how many, and a cursor for nx_index_next. NX_ECORRUPT. */
int nx_index_open(const void *data, size_t size, nx_cursor *ret, uint64_t *ret_count);
int nx_index_next(nx_cursor *rows, nx_index_entry *ret);

/* One piece of a file: `id` is NULL for a hole. */
typedef struct nx_piece {
    const uint8_t *id;
    uint64_t size;
} nx_piece;

typedef struct nx_list_maker {
    nx_bytes sizes;
    nx_bytes forms;
    nx_bytes ids;
    uint64_t total;
    uint32_t count;
    bool ends; /* the piece that was added last is one behind which a list ends */
} nx_list_maker;

typedef struct nx_list {
    nx_cursor sizes;
    nx_cursor forms;
    nx_cursor ids;
    uint64_t left;
    uint32_t level;
} nx_list;

void nx_list_add(nx_list_maker *maker, const nx_piece *piece);
bool nx_list_ends(const nx_list_maker *maker);
int nx_list_make(nx_list_maker *maker, uint32_t level, nx_bytes *ret);
void nx_list_maker_free(nx_list_maker *maker);
int nx_list_open(const void *data, size_t size, nx_list *ret);
int nx_list_next(nx_list *list, nx_piece *ret);

#endif
