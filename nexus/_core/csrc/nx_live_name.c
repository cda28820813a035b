// SPDX-License-Identifier: Apache-2.0
/* Names that come, go and move. */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include "nx_live_private.h"

#define LINKS_MAX 65000u
#define LINK_TEXT 4095u

static void touch(nx_live *live, nx_live_node *folder)
{
    folder->mtime = folder->ctime = nx_live_now();
    nx_live_mark_folder(live, folder);
}

static void touch_node(nx_live *live, nx_live_node *node)
{
    node->ctime = nx_live_now();
    nx_live_mark(live, node);
}

static bool is_gone(const nx_live *live, const nx_live_node *node)
{
    return node->names == NULL && node != live->root;
}

static bool is_timewarp(const nx_live *live, const nx_live_node *folder, const char *text)
{
    return folder == live->root && strcmp(text, NX_MOUNT_TIMEWARP) == 0;
}

static unsigned depth_of(const nx_live_node *folder)
{
    unsigned depth = 1;

    while (folder->names != NULL) {
        folder = folder->names->parent;
        depth++;
    }
    return depth;
}

/* Whether a name may be made there. */
static int may_add(nx_live *live, nx_live_node *folder, const char *text)
{
    int reason = nx_live_load(live, folder);

    if (reason != 0) {
        return reason;
    }
    if (is_gone(live, folder)) {
        return ENOENT;
    }
    if (strlen(text) > NX_NAME_MAX) {
        return ENAMETOOLONG;
    }
    if (!nx_name_is((const uint8_t *)text, strlen(text))) {
        return EINVAL;
    }
    return is_timewarp(live, folder, text) || nx_live_name(live, folder, text) != NULL ? EEXIST : 0;
}

/* A new node under a new name. */
static int make(nx_live *live, nx_live_node *folder, const nx_fuse_request *request,
                const char *text, uint32_t mode, nx_live_node **ret)
{
    size_t size = strlen(text);
    int reason = may_add(live, folder, text);

    if (reason != 0) {
        return reason;
    }
    nx_live_node *node = nx_live_make(live, nx_live_wish(folder, text, size));
    if (node == NULL) {
        return ENOMEM;
    }
    node->mode = mode;
    node->uid = request->head->uid;
    node->gid = request->head->gid;
    if ((folder->mode & S_ISGID) != 0) {
        node->gid = folder->gid;
        node->mode |= S_ISDIR(mode) ? S_ISGID : 0u;
    }
    node->atime = node->mtime = node->ctime = nx_live_now();
    if (nx_live_add(live, folder, text, size, node) == NULL) {
        nx_live_drop_unused(live, node);
        return ENOMEM;
    }
    touch(live, folder);
    *ret = node;
    return 0;
}

static int tell(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    struct fuse_entry_out out;

    nx_live_tell_entry(live, node, &out);
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

int nx_live_create_file(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_create_in *in = request->argument;
    nx_live_node *node;
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {.open = {.open_flags = FOPEN_KEEP_CACHE}};
    uint32_t mode = S_IFREG | (in->mode & 07777);
    int reason = make(live, folder, request, request->name, mode, &node);

    if (reason == 0) {
        nx_live_tell_entry(live, node, &out.entry);
        nx_fuse_reply(request, &out, sizeof out);
    }
    return reason;
}

int nx_live_mknod(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_mknod_in *in = request->argument;
    nx_live_node *node;

    if (S_ISDIR(in->mode) || S_ISLNK(in->mode)) {
        return EINVAL;
    }
    int reason = make(live, folder, request, request->name, in->mode, &node);
    if (reason != 0) {
        return reason;
    }
    node->device = S_ISCHR(in->mode) || S_ISBLK(in->mode) ? in->rdev : 0;
    return tell(live, node, request);
}

int nx_live_mkdir(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_mkdir_in *in = request->argument;
    nx_live_node *node;

    if (depth_of(folder) >= NX_DEPTH_MAX - 1) {
        return ENAMETOOLONG;
    }
    int reason = make(live, folder, request, request->name, S_IFDIR | (in->mode & 07777), &node);
    if (reason != 0) {
        return reason;
    }
    node->loaded = true;
    nx_live_mark_folder(live, node);
    return tell(live, node, request);
}

int nx_live_symlink(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    size_t size = strlen(request->second);
    nx_live_node *node;

    if (size > LINK_TEXT) {
        return ENAMETOOLONG;
    }
    uint8_t *text = malloc(size + 1);
    if (text == NULL) {
        return ENOMEM;
    }
    memcpy(text, request->second, size);
    int reason = make(live, folder, request, request->name, S_IFLNK | 0777, &node);
    if (reason != 0) {
        free(text);
        return reason;
    }
    node->size = size;
    node->stored =
        (nx_stored){.form = NX_FORM_TEXT, .size = size, .text = text, .text_size = (uint32_t)size};
    return tell(live, node, request);
}

int nx_live_link(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_link_in *in = request->argument;
    nx_live_node *node = nx_live_find(live, in->oldnodeid);
    int reason = may_add(live, folder, request->name);

    if (in->oldnodeid >= NX_LIVE_PAST || in->oldnodeid == NX_NODE_TIMEWARP) {
        return EXDEV;
    }
    if (node == NULL || is_gone(live, node)) {
        return node == NULL ? ESTALE : ENOENT;
    }
    if (S_ISDIR(node->mode) || node->name_count >= LINKS_MAX) {
        return S_ISDIR(node->mode) ? EPERM : EMLINK;
    }
    if (reason != 0) {
        return reason;
    }
    if (nx_live_add(live, folder, request->name, strlen(request->name), node) == NULL) {
        return ENOMEM;
    }
    touch(live, folder);
    touch_node(live, node);
    return tell(live, node, request);
}

/* The name that is there. */
static int find(nx_live *live, nx_live_node *folder, const char *text, nx_name **ret)
{
    int reason = nx_live_load(live, folder);

    if (reason != 0) {
        return reason;
    }
    if (is_timewarp(live, folder, text)) {
        return EROFS;
    }
    *ret = nx_live_name(live, folder, text);
    return *ret == NULL ? ENOENT : 0;
}

/* Takes the name away, and what is not needed then. */
static void take(nx_live *live, nx_name *name)
{
    nx_live_node *node = name->node;
    nx_live_node *folder = name->parent;

    touch_node(live, node);
    nx_live_remove(live, name);
    touch(live, folder);
    nx_live_drop_unused(live, node);
}

int nx_live_unlink(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    nx_name *name;
    int reason = find(live, folder, request->name, &name);

    if (reason == 0 && S_ISDIR(name->node->mode)) {
        return EISDIR;
    }
    if (reason == 0) {
        take(live, name);
    }
    return reason;
}

/* Whether a directory may go. */
static int may_go(nx_live *live, nx_live_node *folder)
{
    int reason = nx_live_load(live, folder);

    return reason != 0 ? reason : folder->child_count > 0 ? ENOTEMPTY : 0;
}

int nx_live_rmdir(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    nx_name *name;
    int reason = find(live, folder, request->name, &name);

    if (reason == 0) {
        reason = may_go(live, name->node);
    }
    if (reason == 0) {
        take(live, name);
    }
    return reason;
}

/* Whether a directory lies in another one, or is it. */
static bool is_below(const nx_live_node *folder, const nx_live_node *top)
{
    while (folder != top && folder->names != NULL) {
        folder = folder->names->parent;
    }
    return folder == top;
}

static int exchange(nx_live *live, nx_name *one, nx_name *two)
{
    nx_live_node *first = one->parent;
    nx_live_node *second = two->parent;
    nx_live_node *node = one->node;
    nx_live_node *other = two->node;

    if (is_below(first, other)) {
        return EINVAL;
    }
    nx_name *added = nx_live_add(live, first, one->text, one->size, other);
    if (added == NULL) {
        return ENOMEM;
    }
    if (nx_live_add(live, second, two->text, two->size, node) == NULL) {
        nx_live_remove(live, added);
        return ENOMEM;
    }
    nx_live_remove(live, one);
    nx_live_remove(live, two);
    touch(live, first);
    touch(live, second);
    touch_node(live, node);
    touch_node(live, other);
    return 0;
}

/* What may be replaced by what. */
static int may_replace(nx_live *live, const nx_live_node *node, nx_live_node *other)
{
    if (S_ISDIR(other->mode)) {
        return S_ISDIR(node->mode) ? may_go(live, other) : EISDIR;
    }
    return S_ISDIR(node->mode) ? ENOTDIR : 0;
}

/* To a name that is free, or that is taken from another node. */
static int move(nx_live *live, nx_name *from, nx_live_node *folder, const char *text, nx_name *over)
{
    nx_live_node *node = from->node;
    nx_live_node *before = from->parent;
    int reason = over == NULL ? 0 : may_replace(live, node, over->node);

    if (reason != 0 || (over != NULL && over->node == node)) {
        return reason; /* two names of one file stay */
    }
    if (nx_live_add(live, folder, text, strlen(text), node) == NULL) {
        return ENOMEM;
    }
    nx_live_remove(live, from);
    if (over != NULL) {
        take(live, over);
    }
    touch(live, before);
    touch(live, folder);
    touch_node(live, node);
    return 0;
}

int nx_live_rename(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_rename_in *in = request->argument; /* rename2 begins like it */
    const struct fuse_rename2_in *in2 = request->argument;
    uint32_t flags = request->head->opcode == FUSE_RENAME2 ? in2->flags : 0;
    nx_live_node *target = nx_live_find(live, in->newdir);
    nx_name *from;
    nx_name *over = NULL;
    int reason = find(live, folder, request->name, &from);

    if (in->newdir >= NX_LIVE_PAST || in->newdir == NX_NODE_TIMEWARP) {
        return EROFS;
    }
    if (target == NULL || flags > RENAME_EXCHANGE ||
        flags == (RENAME_EXCHANGE | RENAME_NOREPLACE)) {
        return target == NULL ? ESTALE : EINVAL;
    }
    if (reason == 0) {
        reason = find(live, target, request->second, &over);
        if (reason == ENOENT && flags != RENAME_EXCHANGE) {
            over = NULL;
            reason = may_add(live, target, request->second);
        }
    }
    if (reason != 0) {
        return reason;
    }
    if (is_below(target, from->node)) {
        return EINVAL;
    }
    if (flags == RENAME_EXCHANGE) {
        return exchange(live, from, over);
    }
    return over != NULL && flags == RENAME_NOREPLACE
               ? EEXIST
               : move(live, from, target, request->second, over);
}
