// SPDX-License-Identifier: Apache-2.0
/*
 * A store's files in a directory of the host: docs/spec/nexfs-store.md, "Directory form".
 *
 * Theory of operation. Files stay open, as many as there is room for; a reader holds the one it
 * reads from. A writer holds an open-file-description lock on byte 0 of `lock`, whoever reads a
 * shared one on byte 1: files that a new state does not name are removed by who can have byte 1
 * alone, so a reader never loses what its state names.
 */
#ifndef NX_FOLDER_H
#define NX_FOLDER_H

#include "nx_store.h"

typedef struct nx_folder nx_folder;

/* Opens the directory `path`; `create` makes it, mode 0700, where nothing is. NX_EBUSY when another
 * writes; NX_EEMPTY when it is no store. */
int nx_folder_open(const char *path, bool writes, bool create, nx_folder **ret);
void nx_folder_close(nx_folder *folder);
nx_backing nx_folder_backing(nx_folder *folder);

#endif
