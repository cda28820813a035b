// SPDX-License-Identifier: Apache-2.0
/* What the files of the mount share; the theory is in nx_mount.h. */
#ifndef NX_MOUNT_PRIVATE_H
#define NX_MOUNT_PRIVATE_H

#include <pthread.h>

#include "nx_mount.h"

#define NX_NODE_ROOT     1u
#define NX_NODE_TIMEWARP 2u
#define NX_VALID_SECONDS (1u << 30)
#define NX_NUMBER_FIRST  (UINT64_C(1) << 62)

/* What the kernel knows by number. It does not change while the kernel has it. */
typedef struct nx_node {
    struct nx_node *next; /* in its bucket; `lock` */
    uint64_t number;
    uint64_t parent;
    uint64_t lookups; /* `lock` */
    uint64_t origin;  /* what the number was made from: tells two names with one number apart */
    nx_entry entry;   /* its pointers are into the bytes behind it */
    bool linked;      /* one of a group of names */
} nx_node;

struct nx_mount {
    nx_store *store;
    pthread_mutex_t lock;
    nx_node **buckets;
    size_t bucket_count; /* a power of two */
    size_t node_count;
    nx_node **snapshots; /* their roots, with their names */
    size_t snapshot_count;
    uint64_t stored;
    uint64_t spare;
};

/* Called with each entry; anything but 0 ends the walk and is what it returns. */
typedef int nx_visit(void *self, const nx_entry *entry);

/* nx_mount.c */
/* The errno for a code of the store. */
int nx_mount_reason(int code);
/* The node of a request, or NULL: then it was answered. */
const nx_node *nx_mount_node(nx_mount *mount, nx_fuse_request *request);
/* The node of an entry of a directory, with one lookup more. NX_ENOMEM. */
int nx_mount_meet(nx_mount *mount, const nx_node *parent, const nx_entry *entry,
                  const nx_node **ret);
/* With the lock held, as is nothing else here. */
nx_node *nx_mount_find(const nx_mount *mount, uint64_t number);
/* The root of a tree as a node of this name. */
int nx_mount_make_root(nx_store *store, const uint8_t *id, const char *name, nx_node **ret);
void nx_mount_tell(const nx_node *node, struct fuse_entry_out *ret);
/* The number that the entry has, or will have unless another name took it. */
uint64_t nx_mount_number(const nx_node *parent, const nx_entry *entry);

/* nx_mount_past.c */
/* The root of a snapshot, or NULL. */
const nx_node *nx_mount_snapshot(nx_mount *mount, const char *name, size_t size);
/* Visits the roots of all. */
int nx_mount_snapshots(nx_mount *mount, nx_visit *visit, void *self);
/* Answers a request that made a snapshot, with its directory. */
void nx_mount_tell_snapshot(nx_mount *mount, nx_fuse_request *request);

/* nx_mount_extras.c */
/* An answer of a size that the caller may ask for first. */
void nx_mount_reply_sized(nx_fuse_request *request, const void *data, size_t size, uint32_t room);
/* The names of the attributes among the extras. */
void nx_mount_reply_names(nx_fuse_request *request, const uint8_t *extras, size_t size);
nx_fuse_verb nx_mount_getxattr;
nx_fuse_verb nx_mount_listxattr;

/* nx_mount_read.c */
/* Entries of a directory from the leaf on that has `from` in it (NULL: all). */
int nx_mount_walk(nx_store *store, const nx_entry *directory, const uint8_t *from, size_t size,
                  nx_visit *visit, void *self);
nx_fuse_verb nx_mount_opendir;
nx_fuse_verb nx_mount_readdir;
nx_fuse_verb nx_mount_readdirplus;
nx_fuse_verb nx_mount_releasedir;
nx_fuse_verb nx_mount_open;
nx_fuse_verb nx_mount_read;
nx_fuse_verb nx_mount_release;
nx_fuse_verb nx_mount_lseek;

#endif
