// SPDX-License-Identifier: Apache-2.0
/*
 * A tree of the host into the store.
 *
 * Theory of operation. The owner's thread walks, reads, cuts and hashes; the store's threads
 * compress. Names of a directory are taken in order of their bytes. Files no larger than the
 * smallest chunk are gathered and hashed together, so that short inputs share the lanes; larger
 * ones pass through a window. Beside the walk goes the same directory of the tree before, if there
 * is one: what has the same name there, or nearly the same (digits do not count), is what new
 * pieces and directories are written to continue.
 *
 * What cannot be read is not a reason to stop: it is left out, and told.
 */
#ifndef NX_INGEST_H
#define NX_INGEST_H

#include "nx_store.h"
#include "nx_tree.h"

typedef struct nx_ingest_options {
    const nx_cdc *cdc;
    const nx_entry *before; /* form, id and size of what lies there in the tree before, or NULL */
    bool attributes;        /* extended ones too */
    bool one_device;        /* do not enter other file systems */
} nx_ingest_options;

/*
 * Takes in what `name` is in the directory `parent` (a descriptor; AT_FDCWD is one), without
 * following a last link. `ret` becomes a leaf of one entry with an empty name, as a tree's root has
 * it. `ret_issues` gets what was left out, one after another: varint errno, varint size, path.
 * NX_ETIMEOUT when cancelled; NX_ESYS when the very first name cannot be read, or the store
 * cannot be written.
 */
int nx_ingest(nx_store *store, const nx_ingest_options *options, int parent, const char *name,
              nx_bytes *ret, nx_bytes *ret_issues);

/* The same for all bytes that come out of a descriptor: a file of mode 0600 and the time given. */
int nx_ingest_stream(nx_store *store, const nx_ingest_options *options, int descriptor,
                     int64_t seconds, nx_bytes *ret, nx_bytes *ret_issues);

#endif
