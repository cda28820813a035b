// SPDX-License-Identifier: Apache-2.0
/* What the files of the ingest share; the theory is in nx_ingest.h. */
#ifndef NX_INGEST_PRIVATE_H
#define NX_INGEST_PRIVATE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "nx_ingest.h"
#include "nx_pieces.h"

#define NX_WINDOW       ((2u << 20) + NX_CHUNK_MAX)
#define NX_SMALL_MAX    16384u
#define NX_SMALL_COUNT  64u
#define NX_DEPTH_MAX    512u
#define NX_WINDOW_BASES 48u

/* One name of the directory of before. */
typedef struct nx_past_entry {
    const char *name;
    const uint8_t *text; /* of a directory within */
    uint64_t size;
    uint32_t text_size;
    uint32_t name_size;
    nx_form form;
    uint8_t id[NX_OBJECT_ID];
} nx_past_entry;

/* The directory of before; empty where there was none. */
typedef struct nx_past {
    nx_past_entry *entries; /* sorted by name */
    size_t count;
    nx_past_entry *leaves; /* by their first names */
    size_t leaf_count;
    nx_bytes entry_bytes;
    nx_bytes leaf_bytes;
    nx_bytes names;
} nx_past;

/* One name of the directory that is taken in; the entry's pointers are set when it is written. */
typedef struct nx_row {
    nx_entry entry;
    const nx_past_entry *before;
    char *name;
    char *text;
    uint8_t *extras;
    uint8_t id[NX_OBJECT_ID];
    uint8_t kind; /* d_type */
    bool left_out;
} nx_row;

typedef struct nx_ingest_state {
    nx_store *store;
    const nx_ingest_options *options;
    nx_bytes *issues;
    nx_bytes path;
    uint8_t *window; /* NX_WINDOW bytes */
    size_t window_fill;
    nx_row *small[NX_SMALL_COUNT]; /* whose bytes are in the window, one after another */
    size_t small_count;
    nx_cdc_list cuts;
    uint64_t device;
    unsigned depth;
} nx_ingest_state;

/* Where the bytes of a file come from: as read(2) and lseek(2) of a descriptor, errno included. */
typedef struct nx_source {
    ssize_t (*read)(void *self, void *ret, size_t size);
    off_t (*seek)(void *self, off_t offset, int whence);
    void *self;
} nx_source;

/* nx_past.c */
int nx_past_open(nx_store *store, const nx_past_entry *directory, nx_past *ret);
void nx_past_close(nx_past *past);
/* What lies under this name, or under one so like it that it is worth a try; NULL. */
const nx_past_entry *nx_past_find(const nx_past *past, const char *name, bool directory);
/* The leaf in which the name would be. */
const nx_past_entry *nx_past_leaf(const nx_past *past, const uint8_t *name, size_t size);

/* nx_ingest.c */
/* Rows that rise by name, as the directory `ret`: its form, id or text, and size. */
int nx_ingest_rows(nx_ingest_state *state, const nx_past *past, nx_row *rows, size_t count,
                   nx_row *ret);
/* The row as the leaf that is the root of a tree. */
int nx_ingest_root(nx_row *row, nx_bytes *ret);

/* nx_ingest_extras.c */
void nx_ingest_extra(nx_bytes *extras, uint64_t tag, const nx_bytes *value);
/* The extras of an opened file, or of one that cannot be opened (-1), into the row. */
int nx_ingest_extras(nx_ingest_state *state, int descriptor, const struct stat *status,
                     nx_row *row);

/* nx_ingest_file.c */
/* The content of a source into the row's form, id and size; `before` may be set. NX_EFAULT with
 * errno when it cannot be read; any other code is the store's. */
int nx_ingest_content(nx_ingest_state *state, const nx_source *source, uint64_t size, bool sparse,
                      nx_row *row);
/* The gathered small files are hashed and put. */
int nx_ingest_small(nx_ingest_state *state);
void nx_ingest_tell(nx_ingest_state *state, int reason, const char *name);

#endif
