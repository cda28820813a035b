// SPDX-License-Identifier: Apache-2.0
/*
 * A tree of the store onto the host.
 *
 * Theory of operation. One thread walks the tree and makes directories and links; files are taken
 * by as many threads as the store has. Every object's id is verified before a byte of it is
 * written. Each name is made new, without following a link, below a descriptor of its directory:
 * nothing outside the target can be reached. A directory gets its permissions and time when the
 * last of its files is done. Whatever cannot be made is left out, and told; a file that is not
 * whole is removed.
 */
#ifndef NX_RESTORE_H
#define NX_RESTORE_H

#include "nx_store.h"
#include "nx_tree.h"

typedef struct nx_restore_options {
    bool owner;      /* give files to whom they belonged; else set-id bits are left out */
    bool attributes; /* extended ones too */
} nx_restore_options;

/*
 * Makes `name` in the directory `parent` what the entry says; nothing may have that name. Issues
 * are as those of nx_ingest; EBADMSG is an object that is not what its id says, or is not there.
 * NX_ETIMEOUT when cancelled; NX_ESYS when the very first name cannot be made.
 */
int nx_restore(nx_store *store, const nx_restore_options *options, const nx_entry *entry,
               int parent, const char *name, nx_bytes *ret_issues);

#endif
