// SPDX-License-Identifier: Apache-2.0
#include "nx_live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_live_private.h"
#include "nx_xxhash.h"

#define ROOM_FIRST 1024u
#define BLOCK      4096u

struct timespec nx_live_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

void nx_live_mark_folder(nx_live *live, nx_live_node *folder)
{
    while (folder != NULL && !folder->dirty) {
        folder->dirty = true;
        folder->dirty_before = NULL;
        folder->dirty_next = live->dirty;
        if (live->dirty != NULL) {
            live->dirty->dirty_before = folder;
        }
        live->dirty = folder;
        folder = folder->names == NULL ? NULL : folder->names->parent;
    }
}

/* A number that no names have which were, or will be, imported into the tree. */
static uint64_t new_group(const nx_live_node *node)
{
    struct timespec now = nx_live_now();
    uint64_t what[] = {node->number, (uint64_t)now.tv_sec, (uint64_t)now.tv_nsec};
    uint64_t group = nx_xxh3_64(what, sizeof what, 0);

    return group == 0 ? 1 : group;
}

void nx_live_mark(nx_live *live, nx_live_node *node)
{
    if (S_ISDIR(node->mode)) {
        nx_live_mark_folder(live, node);
        return;
    }
    if (node->name_count > 1 && !node->own_group) {
        node->group = new_group(node);
        node->own_group = true;
    }
    for (nx_name *name = node->names; name != NULL; name = name->also) {
        nx_live_mark_folder(live, name->parent);
    }
}

void nx_live_tell(nx_live *live, nx_live_node *node, struct fuse_attr *ret)
{
    bool folder = S_ISDIR(node->mode);

    if (folder) {
        (void)nx_live_load(live, node); /* without it: as if nothing were in it */
    }
    *ret = (struct fuse_attr){
        .ino = node->number,
        .size = node->size,
        .blocks = node->size / 512 + (node->size % 512 != 0),
        .atime = (uint64_t)node->atime.tv_sec,
        .mtime = (uint64_t)node->mtime.tv_sec,
        .ctime = (uint64_t)node->ctime.tv_sec,
        .atimensec = (uint32_t)node->atime.tv_nsec,
        .mtimensec = (uint32_t)node->mtime.tv_nsec,
        .ctimensec = (uint32_t)node->ctime.tv_nsec,
        .mode = node->mode,
        .nlink = !folder                                     ? node->name_count
                 : node == live->root || node->names != NULL ? node->folder_count + 2
                                                             : 0,
        .uid = node->uid,
        .gid = node->gid,
        .rdev = (uint32_t)node->device,
        .blksize = BLOCK,
    };
}

void nx_live_tell_entry(nx_live *live, nx_live_node *node, struct fuse_entry_out *ret)
{
    node->lookups++;
    *ret = (struct fuse_entry_out){
        .nodeid = node->number, .entry_valid = NX_VALID_SECONDS, .attr_valid = NX_VALID_SECONDS};
    nx_live_tell(live, node, &ret->attr);
}

static int lookup(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    struct fuse_entry_out out = {.entry_valid = NX_VALID_SECONDS};
    int reason = strlen(request->name) > NX_NAME_MAX ? ENAMETOOLONG : nx_live_load(live, node);

    if (reason != 0) {
        return reason;
    }
    const nx_name *name = nx_live_name(live, node, request->name);
    if (name != NULL) {
        nx_live_tell_entry(live, name->node, &out);
    }
    nx_fuse_reply(request, &out, sizeof out); /* without a node: there is none, and that is kept */
    return 0;
}

static int getattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    struct fuse_attr_out out = {.attr_valid = NX_VALID_SECONDS};

    nx_live_tell(live, node, &out.attr);
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

static int readlink_(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    (void)live;
    if (!S_ISLNK(node->mode)) {
        return EINVAL;
    }
    nx_fuse_reply(request, node->stored.text, node->stored.text_size);
    return 0;
}

static int open_(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE};

    (void)live;
    (void)node;
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

static int done(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    (void)live;
    (void)node;
    (void)request;
    return 0;
}

/* Answered by the next commit's end. While one runs nothing changes, so that one is right too. */
static int sync_(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    (void)node;
    if (!live->commits && live->dirty == NULL) {
        return 0;
    }
    nx_fuse_request *parked = nx_fuse_park(request);
    if (parked == NULL) {
        return ENOMEM;
    }
    parked->next = live->syncs;
    live->syncs = parked;
    live->asks = true;
    pthread_cond_signal(&live->wanted);
    return 0;
}

static void forget(nx_live *live, uint64_t number, uint64_t count)
{
    nx_live_node *node = nx_live_find(live, number);

    if (node != NULL) {
        node->lookups -= count < node->lookups ? count : node->lookups;
        nx_live_drop_unused(live, node);
    }
}

/* Of both halves; nobody waits for an answer. */
static void forget_all(nx_live *live, nx_fuse_request *request)
{
    const nx_fuse_verbs *past = nx_mount_verbs();
    bool many = request->head->opcode == FUSE_BATCH_FORGET;
    const struct fuse_batch_forget_in *in = request->argument;
    const struct fuse_forget_in *single = request->argument;
    struct fuse_forget_one one = {.nodeid = request->head->nodeid};

    if (!many) {
        one.nlookup = single->nlookup;
    }
    for (uint32_t i = 0; i < (many ? in->count : 1); i++) {
        if (many) {
            memcpy(&one, request->data + i * sizeof one, sizeof one);
        }
        if (one.nodeid >= NX_LIVE_PAST || one.nodeid == NX_NODE_TIMEWARP) {
            continue; /* nx_mount is told all of them, and does not know ours */
        }
        forget(live, one.nodeid, one.nlookup);
    }
    past->verbs[request->head->opcode](live->past, request);
}

typedef struct live_row {
    nx_live_verb *verb;
    bool changes;
} live_row;

static const live_row ROWS[NX_FUSE_OPCODES] = {
    [FUSE_LOOKUP] = {lookup, false},
    [FUSE_GETATTR] = {getattr, false},
    [FUSE_READLINK] = {readlink_, false},
    [FUSE_OPEN] = {open_, false},
    [FUSE_RELEASE] = {done, false},
    [FUSE_FLUSH] = {done, false},
    [FUSE_FSYNC] = {sync_, false},
    [FUSE_FSYNCDIR] = {sync_, false},
    [FUSE_SYNCFS] = {sync_, false},
    [FUSE_OPENDIR] = {nx_live_opendir, false},
    [FUSE_READDIR] = {nx_live_readdir, false},
    [FUSE_READDIRPLUS] = {nx_live_readdirplus, false},
    [FUSE_RELEASEDIR] = {nx_live_releasedir, false},
    [FUSE_READ] = {nx_live_read, false},
    [FUSE_LSEEK] = {nx_live_lseek, false},
    [FUSE_GETXATTR] = {nx_live_getxattr, false},
    [FUSE_LISTXATTR] = {nx_live_listxattr, false},
    [FUSE_WRITE] = {nx_live_write, true},
    [FUSE_SETATTR] = {nx_live_setattr, true},
    [FUSE_FALLOCATE] = {nx_live_fallocate, true},
    [FUSE_SETXATTR] = {nx_live_setxattr, true},
    [FUSE_REMOVEXATTR] = {nx_live_removexattr, true},
    [FUSE_CREATE] = {nx_live_create_file, true},
    [FUSE_MKNOD] = {nx_live_mknod, true},
    [FUSE_MKDIR] = {nx_live_mkdir, true},
    [FUSE_SYMLINK] = {nx_live_symlink, true},
    [FUSE_LINK] = {nx_live_link, true},
    [FUSE_UNLINK] = {nx_live_unlink, true},
    [FUSE_RMDIR] = {nx_live_rmdir, true},
    [FUSE_RENAME] = {nx_live_rename, true},
    [FUSE_RENAME2] = {nx_live_rename, true},
};

/* What is asked of .timewarp: nx_mount's, whatever would change it is refused, and a new directory
 * in it is a new snapshot. */
static void ask_past(nx_live *live, nx_fuse_request *request)
{
    uint32_t opcode = request->head->opcode;
    nx_fuse_verb *verb = nx_mount_verbs()->verbs[opcode];

    if (opcode == FUSE_FSYNC || opcode == FUSE_FSYNCDIR || opcode == FUSE_FLUSH) {
        nx_fuse_error(request, 0);
    } else if (opcode == FUSE_MKDIR && request->head->nodeid == NX_NODE_TIMEWARP) {
        nx_fuse_request *parked = nx_fuse_park(request);
        if (parked == NULL) {
            nx_fuse_error(request, ENOMEM);
            return;
        }
        pthread_mutex_lock(&live->lock);
        parked->next = live->snapshots;
        live->snapshots = parked;
        live->asks = true;
        pthread_cond_signal(&live->wanted);
        pthread_mutex_unlock(&live->lock);
    } else if (ROWS[opcode].changes) {
        nx_fuse_error(request, EROFS);
    } else if (opcode == FUSE_OPEN &&
               (((const struct fuse_open_in *)request->argument)->flags & 3u) != 0) {
        nx_fuse_error(request, EROFS);
    } else if (verb == NULL) {
        nx_fuse_error(request, ENOSYS);
    } else {
        verb(live->past, request);
    }
}

static bool is_past(const nx_fuse_request *request)
{
    uint64_t number = request->head->nodeid;
    bool from_root = number == NX_NODE_ROOT && request->head->opcode == FUSE_LOOKUP &&
                     strcmp(request->name, NX_MOUNT_TIMEWARP) == 0;

    return from_root || number == NX_NODE_TIMEWARP || number >= NX_LIVE_PAST;
}

/* With the lock held: the request parked, for after the commit. */
static int park(nx_live *live, nx_fuse_request *request)
{
    nx_fuse_request *parked = nx_fuse_park(request);

    if (parked == NULL) {
        return ENOMEM;
    }
    *live->parked_end = parked;
    live->parked_end = &parked->next;
    return 0;
}

static void serve(void *self, nx_fuse_request *request)
{
    nx_live *live = self;
    const live_row *row = &ROWS[request->head->opcode];
    int reason = 0;

    if (is_past(request)) {
        ask_past(live, request);
        return;
    }
    pthread_mutex_lock(&live->lock);
    nx_live_node *node = nx_live_find(live, request->head->nodeid);
    if (row->changes && live->commits) {
        reason = park(live, request);
    } else if (request->head->opcode != FUSE_SYNCFS && node == NULL) {
        reason = ESTALE;
    } else {
        reason = row->verb(live, node, request);
    }
    pthread_mutex_unlock(&live->lock);
    if (!request->answered) {
        nx_fuse_error(request, reason);
    }
}

static void serve_forget(void *self, nx_fuse_request *request)
{
    nx_live *live = self;

    pthread_mutex_lock(&live->lock);
    forget_all(live, request);
    pthread_mutex_unlock(&live->lock);
}

static void statfs_(void *self, nx_fuse_request *request)
{
    const nx_live *live = self;

    nx_mount_verbs()->verbs[FUSE_STATFS](live->past, request);
}

void nx_live_replay(nx_live *live, nx_fuse_request *parked)
{
    while (parked != NULL) {
        nx_fuse_request *next = parked->next;
        serve(live, parked);
        free(parked);
        parked = next;
    }
}

nx_mount *nx_live_past(nx_live *live)
{
    return live->past;
}

static int make_root(nx_live *live, const uint8_t *id)
{
    nx_held held;
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_store_get(live->store, id, &held);

    if (code != NX_OK) {
        return code;
    }
    code = nx_leaf_open(held.data, held.size, true, &leaf);
    if (code == NX_OK) {
        code = nx_leaf_next(&leaf, &entry) == 1 && S_ISDIR(entry.mode) ? NX_OK : NX_ECORRUPT;
    }
    if (code == NX_OK) {
        code = nx_live_make_root(live, &entry);
    }
    nx_store_release(live->store, &held);
    return code;
}

int nx_live_create(nx_store *store, const nx_cdc *cdc, const uint8_t root[NX_OBJECT_ID],
                   const char *scratch, nx_live **ret)
{
    nx_live *live = calloc(1, sizeof *live);

    if (live == NULL) {
        return NX_ENOMEM;
    }
    live->store = store;
    live->cdc = cdc;
    live->parked_end = &live->parked;
    live->node_room = live->name_room = ROOM_FIRST;
    live->nodes = calloc(ROOM_FIRST, sizeof(nx_live_node *));
    live->names = calloc(ROOM_FIRST, sizeof(nx_name *));
    live->scratch_path = strdup(scratch);
    pthread_mutex_init(&live->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&live->wanted, &monotonic);
    pthread_condattr_destroy(&monotonic);
    bool memory = live->nodes != NULL && live->names != NULL && live->scratch_path != NULL;
    int code = memory ? nx_mount_create(store, root, &live->past) : NX_ENOMEM;
    if (code == NX_OK) {
        code = make_root(live, root);
    }
    if (code != NX_OK) {
        nx_live_destroy(live);
        return code;
    }
    nx_live_sweep(live, true);
    *ret = live;
    return NX_OK;
}

static void free_requests(nx_fuse_request *request)
{
    while (request != NULL) {
        nx_fuse_request *next = request->next;
        free(request);
        request = next;
    }
}

void nx_live_destroy(nx_live *live)
{
    free_requests(live->parked);
    free_requests(live->syncs);
    free_requests(live->snapshots);
    nx_live_free(live);
    nx_content_new_scratch(live);
    if (live->past != NULL) {
        nx_mount_destroy(live->past);
    }
    free(live->scratch_path);
    pthread_cond_destroy(&live->wanted);
    pthread_mutex_destroy(&live->lock);
    free(live);
}

const nx_fuse_verbs *nx_live_verbs(void)
{
    static const nx_fuse_verbs VERBS = {
        .verbs =
            {
                [FUSE_LOOKUP] = serve,        [FUSE_GETATTR] = serve,
                [FUSE_READLINK] = serve,      [FUSE_OPEN] = serve,
                [FUSE_RELEASE] = serve,       [FUSE_FLUSH] = serve,
                [FUSE_FSYNC] = serve,         [FUSE_FSYNCDIR] = serve,
                [FUSE_SYNCFS] = serve,        [FUSE_OPENDIR] = serve,
                [FUSE_READDIR] = serve,       [FUSE_READDIRPLUS] = serve,
                [FUSE_RELEASEDIR] = serve,    [FUSE_READ] = serve,
                [FUSE_LSEEK] = serve,         [FUSE_GETXATTR] = serve,
                [FUSE_LISTXATTR] = serve,     [FUSE_WRITE] = serve,
                [FUSE_SETATTR] = serve,       [FUSE_FALLOCATE] = serve,
                [FUSE_SETXATTR] = serve,      [FUSE_REMOVEXATTR] = serve,
                [FUSE_CREATE] = serve,        [FUSE_MKNOD] = serve,
                [FUSE_MKDIR] = serve,         [FUSE_SYMLINK] = serve,
                [FUSE_LINK] = serve,          [FUSE_UNLINK] = serve,
                [FUSE_RMDIR] = serve,         [FUSE_RENAME] = serve,
                [FUSE_RENAME2] = serve,       [FUSE_STATFS] = statfs_,
                [FUSE_FORGET] = serve_forget, [FUSE_BATCH_FORGET] = serve_forget,
            },
        .flags = FUSE_CACHE_SYMLINKS,
    };
    return &VERBS;
}
