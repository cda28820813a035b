// SPDX-License-Identifier: Apache-2.0
/* The snapshots below .timewarp; there may be more while it is mounted. */
#include <stdlib.h>
#include <string.h>

#include "nx_mount_private.h"

static const nx_node *find(const nx_mount *mount, const char *name, size_t size)
{
    for (size_t i = 0; i < mount->snapshot_count; i++) {
        const nx_entry *entry = &mount->snapshots[i]->entry;
        if (entry->name_size == size && memcmp(entry->name, name, size) == 0) {
            return mount->snapshots[i];
        }
    }
    return NULL;
}

const nx_node *nx_mount_snapshot(nx_mount *mount, const char *name, size_t size)
{
    pthread_mutex_lock(&mount->lock);
    const nx_node *root = find(mount, name, size);
    pthread_mutex_unlock(&mount->lock);
    return root;
}

int nx_mount_snapshots(nx_mount *mount, nx_visit *visit, void *self)
{
    int code = 0;

    pthread_mutex_lock(&mount->lock);
    for (size_t i = 0; code == 0 && i < mount->snapshot_count; i++) {
        code = visit(self, &mount->snapshots[i]->entry);
    }
    pthread_mutex_unlock(&mount->lock);
    return code;
}

int nx_mount_add_snapshot(nx_mount *mount, const char *name, const uint8_t root[NX_OBJECT_ID])
{
    nx_node *node;

    if (!nx_name_is((const uint8_t *)name, strlen(name))) {
        return NX_EINVAL;
    }
    int code = nx_mount_make_root(mount->store, root, name, &node);
    if (code != NX_OK) {
        return code;
    }
    pthread_mutex_lock(&mount->lock);
    size_t size = (mount->snapshot_count + 1) * sizeof(nx_node *);
    nx_node **more = realloc(mount->snapshots, size);
    if (more != NULL) {
        mount->snapshots = more;
        more[mount->snapshot_count++] = node;
    }
    pthread_mutex_unlock(&mount->lock);
    if (more == NULL) {
        free(node);
    }
    return more == NULL ? NX_ENOMEM : NX_OK;
}

void nx_mount_tell_snapshot(nx_mount *mount, nx_fuse_request *request)
{
    const nx_node *root = nx_mount_snapshot(mount, request->name, strlen(request->name));
    const nx_node *met = NULL;
    struct fuse_entry_out out;

    pthread_mutex_lock(&mount->lock);
    const nx_node *parent = nx_mount_find(mount, NX_NODE_TIMEWARP);
    pthread_mutex_unlock(&mount->lock);
    int code = root == NULL ? NX_ECORRUPT : nx_mount_meet(mount, parent, &root->entry, &met);
    if (code != NX_OK) {
        nx_fuse_error(request, nx_mount_reason(code));
        return;
    }
    nx_mount_tell(met, &out);
    nx_fuse_reply(request, &out, sizeof out);
}
