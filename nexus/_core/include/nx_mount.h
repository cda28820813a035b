// SPDX-License-Identifier: Apache-2.0
/*
 * The trees of a volume as a filesystem that is only read: verbs for nx_fuse.
 *
 * Theory of operation. What is mounted does not change, so the kernel may keep for good whatever it
 * was told. A node is made when the kernel looks it up, from the leaf that has it, and goes when
 * the kernel forgets it. Its number comes from its parent's and its name, so that it is the same
 * each time; names of one hard link's group have one number. Bytes of files go to the kernel from
 * the decoded blocks where they lie.
 *
 * Below `.timewarp`, which the root does not list, each snapshot is a directory.
 *
 * Not handled: how many names a hard link has is not in the format, so 2 is told for each.
 */
#ifndef NX_MOUNT_H
#define NX_MOUNT_H

#include "nx_fuse.h"
#include "nx_store.h"
#include "nx_tree.h"

#define NX_MOUNT_TIMEWARP ".timewarp"

typedef struct nx_mount nx_mount;

/* The tree whose root this id names. NX_ECORRUPT, NX_ENOMEM, or as nx_store_get. */
int nx_mount_create(nx_store *store, const uint8_t root[NX_OBJECT_ID], nx_mount **ret);
void nx_mount_destroy(nx_mount *mount);

/* Before it is served: a snapshot below .timewarp. NX_EINVAL unless it is a name. */
int nx_mount_add_snapshot(nx_mount *mount, const char *name, const uint8_t root[NX_OBJECT_ID]);
/* What statfs tells: bytes that are stored, and that the medium still has. */
void nx_mount_set_sizes(nx_mount *mount, uint64_t stored, uint64_t spare);

/* With the mount as `self`. */
const nx_fuse_verbs *nx_mount_verbs(void);

#endif
