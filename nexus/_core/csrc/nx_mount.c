// SPDX-License-Identifier: Apache-2.0
#include "nx_mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "nx_mount_private.h"
#include "nx_xxhash.h"

#define BUCKETS_FIRST 1024u
#define BLOCK         4096u

int nx_mount_reason(int code)
{
    return code == NX_ENOMEM ? ENOMEM : code == NX_ESYS ? errno : EIO;
}

/* The number of the hard link's group, or 0. */
static uint64_t link_group(const nx_entry *entry)
{
    nx_cursor records = nx_cursor_of(entry->extras, entry->extras_size);

    while (records.at != records.end && !records.failed) {
        uint64_t tag = nx_cursor_varint(&records);
        nx_cursor value = nx_cursor_part(&records);
        if (tag == NX_EXTRA_LINK && !records.failed) {
            return nx_cursor_varint(&value);
        }
    }
    return 0;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t words[2] = {a, b};

    return nx_xxh3_64(words, sizeof words, 0);
}

/* Names of one group are one file. Imports count their groups each from 1, so what the file is
 * counts as well. */
static uint64_t origin_of(const nx_node *parent, const nx_entry *entry)
{
    uint64_t group = link_group(entry);

    if (group == 0) {
        return mix(parent->number, nx_xxh3_64(entry->name, entry->name_size, 0));
    }
    uint64_t content = entry->id == NULL ? entry->form : nx_load_u64(entry->id);
    uint64_t form = mix((uint64_t)entry->mode << 32 | entry->nanoseconds, (uint64_t)entry->seconds);
    return mix(mix(group, content), mix(entry->size, form));
}

/* From 2^62 on: not one of the two that are always there, none of nx_live's, and nothing that a
 * signed number cannot have. */
static uint64_t number_of(uint64_t origin)
{
    return (origin & INT64_MAX) | NX_NUMBER_FIRST;
}

uint64_t nx_mount_number(const nx_node *parent, const nx_entry *entry)
{
    return number_of(origin_of(parent, entry));
}

static nx_node **bucket_of(const nx_mount *mount, uint64_t number)
{
    return &mount->buckets[mix(number, 0) & (mount->bucket_count - 1)];
}

nx_node *nx_mount_find(const nx_mount *mount, uint64_t number)
{
    nx_node *node = *bucket_of(mount, number);

    while (node != NULL && node->number != number) {
        node = node->next;
    }
    return node;
}

/* Without memory the buckets become longer, and nothing else. */
static void grow(nx_mount *mount)
{
    size_t count = mount->bucket_count;
    nx_node **before = mount->buckets;
    nx_node **after = calloc(count * 2, sizeof(nx_node *));

    if (after == NULL) {
        return;
    }
    mount->buckets = after;
    mount->bucket_count = count * 2;
    for (size_t i = 0; i < count; i++) {
        while (before[i] != NULL) {
            nx_node *node = before[i];
            nx_node **bucket = bucket_of(mount, node->number);
            before[i] = node->next;
            node->next = *bucket;
            *bucket = node;
        }
    }
    free(before);
}

static void add(nx_mount *mount, nx_node *node)
{
    if (mount->node_count >= mount->bucket_count) {
        grow(mount);
    }
    nx_node **bucket = bucket_of(mount, node->number);
    node->next = *bucket;
    *bucket = node;
    mount->node_count++;
}

static const uint8_t *keep(uint8_t **at, const uint8_t *data, size_t size)
{
    uint8_t *place = *at;

    if (data == NULL) {
        return NULL;
    }
    memcpy(place, data, size);
    *at += size;
    return place;
}

static nx_node *make(const nx_entry *entry)
{
    nx_node *node = calloc(1, sizeof *node + entry->name_size + NX_OBJECT_ID + entry->text_size +
                                  entry->extras_size);

    if (node != NULL) {
        uint8_t *at = (uint8_t *)(node + 1);
        node->entry = *entry;
        node->linked = link_group(entry) != 0;
        node->entry.name = keep(&at, entry->name, entry->name_size);
        node->entry.id = keep(&at, entry->id, NX_OBJECT_ID);
        node->entry.text = keep(&at, entry->text, entry->text_size);
        node->entry.extras = keep(&at, entry->extras, entry->extras_size);
    }
    return node;
}

int nx_mount_meet(nx_mount *mount, const nx_node *parent, const nx_entry *entry,
                  const nx_node **ret)
{
    uint64_t origin = origin_of(parent, entry);
    uint64_t number = number_of(origin);
    nx_node *node;

    pthread_mutex_lock(&mount->lock);
    while ((node = nx_mount_find(mount, number)) != NULL && node->origin != origin) {
        number = number_of(number + 1);
    }
    if (node == NULL && (node = make(entry)) != NULL) {
        node->number = number;
        node->origin = origin;
        node->parent = parent->number;
        add(mount, node);
    }
    if (node != NULL) {
        node->lookups++;
        *ret = node;
    }
    pthread_mutex_unlock(&mount->lock);
    return node == NULL ? NX_ENOMEM : NX_OK;
}

static void forget(nx_mount *mount, uint64_t number, uint64_t count)
{
    pthread_mutex_lock(&mount->lock);
    nx_node *node = nx_mount_find(mount, number);
    if (node != NULL && number > NX_NODE_TIMEWARP) {
        node->lookups -= count < node->lookups ? count : node->lookups;
        if (node->lookups == 0) {
            nx_node **link = bucket_of(mount, number);
            while (*link != node) {
                link = &(*link)->next;
            }
            *link = node->next;
            mount->node_count--;
            free(node);
        }
    }
    pthread_mutex_unlock(&mount->lock);
}

const nx_node *nx_mount_node(nx_mount *mount, nx_fuse_request *request)
{
    pthread_mutex_lock(&mount->lock);
    const nx_node *node = nx_mount_find(mount, request->head->nodeid);
    pthread_mutex_unlock(&mount->lock);
    if (node == NULL) {
        nx_fuse_error(request, ESTALE);
    }
    return node;
}

static struct fuse_attr attributes(const nx_node *node)
{
    const nx_entry *entry = &node->entry;
    bool device = S_ISCHR(entry->mode) || S_ISBLK(entry->mode);
    uint64_t seconds = (uint64_t)entry->seconds;

    return (struct fuse_attr){
        .ino = node->number,
        .size = device ? 0 : entry->size,
        .blocks = device ? 0 : entry->size / 512 + (entry->size % 512 != 0),
        .atime = seconds,
        .mtime = seconds,
        .ctime = seconds,
        .atimensec = entry->nanoseconds,
        .mtimensec = entry->nanoseconds,
        .ctimensec = entry->nanoseconds,
        .mode = entry->mode,
        /* 1 of a directory: how many are in it is not known. */
        .nlink = node->linked ? 2 : 1,
        .uid = entry->uid,
        .gid = entry->gid,
        .rdev = device ? (uint32_t)entry->size : 0,
        .blksize = BLOCK,
    };
}

void nx_mount_tell(const nx_node *node, struct fuse_entry_out *ret)
{
    *ret = (struct fuse_entry_out){.nodeid = node->number,
                                   .entry_valid = NX_VALID_SECONDS,
                                   .attr_valid = NX_VALID_SECONDS,
                                   .attr = attributes(node)};
}

/* One name that is looked for in a directory. */
typedef struct search {
    nx_mount *mount;
    const nx_node *parent;
    const char *name;
    size_t size;
    const nx_node *found;
} search;

static int compare(void *self, const nx_entry *entry)
{
    search *wanted = self;
    size_t shorter = wanted->size < entry->name_size ? wanted->size : entry->name_size;
    int order = memcmp(entry->name, wanted->name, shorter);

    if (order == 0 && entry->name_size == wanted->size) {
        int code = nx_mount_meet(wanted->mount, wanted->parent, entry, &wanted->found);
        return code == NX_OK ? 1 : code;
    }
    return order > 0 || (order == 0 && entry->name_size > wanted->size); /* they rise */
}

static void lookup(void *self, nx_fuse_request *request)
{
    nx_mount *mount = self;
    const nx_node *parent = nx_mount_node(mount, request);
    struct fuse_entry_out out = {.entry_valid = NX_VALID_SECONDS};
    int code = 0;

    if (parent == NULL) {
        return;
    }
    search wanted = {mount, parent, request->name, strlen(request->name), NULL};
    if (parent->number == NX_NODE_ROOT && strcmp(request->name, NX_MOUNT_TIMEWARP) == 0) {
        wanted.found = nx_mount_find(mount, NX_NODE_TIMEWARP);
    } else if (parent->number == NX_NODE_TIMEWARP) {
        const nx_node *root = nx_mount_snapshot(mount, wanted.name, wanted.size);
        code = root == NULL ? 0 : nx_mount_meet(mount, parent, &root->entry, &wanted.found);
        out.entry_valid = 0; /* there may be one soon */
    } else {
        code = nx_mount_walk(mount->store, &parent->entry, (const uint8_t *)wanted.name,
                             wanted.size, compare, &wanted);
    }
    if (code < 0) {
        nx_fuse_error(request, nx_mount_reason(code));
        return;
    }
    if (wanted.found != NULL) {
        nx_mount_tell(wanted.found, &out);
    }
    nx_fuse_reply(request, &out, sizeof out); /* without a node: there is none, and that is kept */
}

static void getattr(void *self, nx_fuse_request *request)
{
    const nx_node *node = nx_mount_node(self, request);

    if (node != NULL) {
        struct fuse_attr_out out = {.attr_valid = NX_VALID_SECONDS, .attr = attributes(node)};
        nx_fuse_reply(request, &out, sizeof out);
    }
}

static void readlink_(void *self, nx_fuse_request *request)
{
    const nx_node *node = nx_mount_node(self, request);

    if (node != NULL && !S_ISLNK(node->entry.mode)) {
        nx_fuse_error(request, EINVAL);
    } else if (node != NULL) {
        nx_fuse_reply(request, node->entry.text, node->entry.text_size);
    }
}

static void forget_one(void *self, nx_fuse_request *request)
{
    const struct fuse_forget_in *in = request->argument;

    forget(self, request->head->nodeid, in->nlookup);
}

static void forget_many(void *self, nx_fuse_request *request)
{
    const struct fuse_batch_forget_in *in = request->argument;
    struct fuse_forget_one one;

    for (uint32_t i = 0; i < in->count; i++) {
        memcpy(&one, request->data + i * sizeof one, sizeof one);
        forget(self, one.nodeid, one.nlookup);
    }
}

static void statfs_(void *self, nx_fuse_request *request)
{
    const nx_mount *mount = self;
    uint64_t spare = mount->spare / BLOCK;
    struct fuse_statfs_out out = {.st = {.blocks = mount->stored / BLOCK + spare,
                                         .bfree = spare,
                                         .bavail = spare,
                                         .bsize = BLOCK,
                                         .frsize = BLOCK,
                                         .namelen = NX_NAME_MAX}};

    nx_fuse_reply(request, &out, sizeof out);
}

int nx_mount_make_root(nx_store *store, const uint8_t *id, const char *name, nx_node **ret)
{
    nx_held held;
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_store_get(store, id, &held);

    if (code != NX_OK) {
        return code;
    }
    code = nx_leaf_open(held.data, held.size, true, &leaf);
    if (code == NX_OK) {
        code = nx_leaf_next(&leaf, &entry) == 1 && S_ISDIR(entry.mode) ? NX_OK : NX_ECORRUPT;
    }
    if (code == NX_OK) {
        entry.name = (const uint8_t *)name;
        entry.name_size = (uint32_t)strlen(name);
        *ret = make(&entry);
        code = *ret == NULL ? NX_ENOMEM : NX_OK;
    }
    nx_store_release(store, &held);
    return code;
}

int nx_mount_create(nx_store *store, const uint8_t root[NX_OBJECT_ID], nx_mount **ret)
{
    nx_mount *mount = calloc(1, sizeof *mount);
    nx_node *top;

    if (mount == NULL) {
        return NX_ENOMEM;
    }
    mount->store = store;
    pthread_mutex_init(&mount->lock, NULL);
    mount->buckets = calloc(BUCKETS_FIRST, sizeof(nx_node *));
    mount->bucket_count = BUCKETS_FIRST;
    int code = mount->buckets == NULL ? NX_ENOMEM : nx_mount_make_root(store, root, "", &top);
    if (code == NX_OK) {
        top->number = top->parent = NX_NODE_ROOT;
        add(mount, top);
        nx_entry entry = top->entry;
        entry.name = (const uint8_t *)NX_MOUNT_TIMEWARP;
        entry.name_size = sizeof NX_MOUNT_TIMEWARP - 1;
        entry.mode = S_IFDIR | (entry.mode & 0555);
        entry.size = entry.extras_size = entry.text_size = 0;
        entry.form = NX_FORM_NOTHING;
        entry.id = entry.text = entry.extras = NULL;
        nx_node *warp = make(&entry);
        code = warp == NULL ? NX_ENOMEM : NX_OK;
        if (warp != NULL) {
            warp->number = NX_NODE_TIMEWARP;
            warp->parent = NX_NODE_ROOT;
            add(mount, warp);
        }
    }
    if (code != NX_OK) {
        nx_mount_destroy(mount);
        return code;
    }
    *ret = mount;
    return NX_OK;
}

void nx_mount_destroy(nx_mount *mount)
{
    for (size_t i = 0; mount->buckets != NULL && i < mount->bucket_count; i++) {
        while (mount->buckets[i] != NULL) {
            nx_node *node = mount->buckets[i];
            mount->buckets[i] = node->next;
            free(node);
        }
    }
    for (size_t i = 0; i < mount->snapshot_count; i++) {
        free(mount->snapshots[i]);
    }
    free(mount->snapshots);
    free(mount->buckets);
    pthread_mutex_destroy(&mount->lock);
    free(mount);
}

void nx_mount_set_sizes(nx_mount *mount, uint64_t stored, uint64_t spare)
{
    mount->stored = stored;
    mount->spare = spare;
}

static const nx_fuse_verbs VERBS = {
    .verbs =
        {
            [FUSE_LOOKUP] = lookup,
            [FUSE_FORGET] = forget_one,
            [FUSE_BATCH_FORGET] = forget_many,
            [FUSE_GETATTR] = getattr,
            [FUSE_READLINK] = readlink_,
            [FUSE_STATFS] = statfs_,
            [FUSE_GETXATTR] = nx_mount_getxattr,
            [FUSE_LISTXATTR] = nx_mount_listxattr,
            [FUSE_OPENDIR] = nx_mount_opendir,
            [FUSE_READDIR] = nx_mount_readdir,
            [FUSE_READDIRPLUS] = nx_mount_readdirplus,
            [FUSE_RELEASEDIR] = nx_mount_releasedir,
            [FUSE_OPEN] = nx_mount_open,
            [FUSE_READ] = nx_mount_read,
            [FUSE_RELEASE] = nx_mount_release,
            [FUSE_LSEEK] = nx_mount_lseek,
        },
    .flags = FUSE_CACHE_SYMLINKS,
};

const nx_fuse_verbs *nx_mount_verbs(void)
{
    return &VERBS;
}
