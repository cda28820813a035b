// SPDX-License-Identifier: Apache-2.0
/* Bytes and attributes of files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "nx_live_private.h"

#define SYSTEM     "system."
#define VALUE_MAX  65536u
#define EXTRAS_MAX 131072u

/* As many stretches as are copied without the lock; how many. */
static size_t plan(const nx_content *content, uint64_t size, uint64_t at, uint64_t end,
                   nx_stretch *ret)
{
    size_t count = 0;

    while (at < end && count < NX_LIVE_PARTS) {
        ret[count] = nx_content_at(content, size, at);
        at = ret[count++].end;
    }
    return count;
}

/* The bytes of [at, end), with the lock held but while they are copied. */
static int copy(nx_live *live, nx_live_node *node, nx_content *content, uint64_t at, uint64_t end,
                uint8_t *ret)
{
    nx_stretch stretches[NX_LIVE_PARTS];
    int reason = 0;
    uint64_t from = at;

    while (reason == 0 && at < end) {
        uint64_t size = node->size < end ? end : node->size; /* it may become shorter meanwhile */
        size_t count = plan(content, size, at, end, stretches);
        pthread_mutex_unlock(&live->lock);
        for (size_t i = 0; reason == 0 && i < count; i++) {
            uint64_t until = stretches[i].end < end ? stretches[i].end : end;
            reason = nx_content_copy(live->store, content, &stretches[i], at, ret + (at - from),
                                     (size_t)(until - at));
            at = until;
        }
        pthread_mutex_lock(&live->lock);
    }
    return reason;
}

int nx_live_read(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_read_in *in = request->argument;
    uint64_t left = in->offset < node->size ? node->size - in->offset : 0;
    uint64_t wanted = in->size < NX_FUSE_DATA_MAX ? in->size : NX_FUSE_DATA_MAX;
    size_t size = (size_t)(wanted < left ? wanted : left);
    nx_content *content;
    uint8_t *data = malloc(size + 1);
    int reason = data == NULL ? ENOMEM : nx_content_open(live, node, &content);

    if (reason == 0) {
        content->refs++;
        node->lookups++; /* it stays while the lock is not held */
        reason = copy(live, node, content, in->offset, in->offset + size, data);
        node->lookups--;
        nx_content_release(content);
        nx_live_drop_unused(live, node);
    }
    if (reason == 0) {
        nx_fuse_reply(request, data, size);
    }
    free(data);
    return reason;
}

static void touch(nx_live *live, nx_live_node *node, bool bytes)
{
    node->ctime = nx_live_now();
    node->mtime = bytes ? node->ctime : node->mtime;
    nx_live_mark(live, node);
}

/* So much waits that it is time. */
static void look_full(nx_live *live)
{
    if (live->scratch != NULL && live->scratch->end > NX_LIVE_SCRATCH && !live->asks) {
        live->asks = true;
        pthread_cond_signal(&live->wanted);
    }
}

int nx_live_write(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_write_in *in = request->argument;
    struct fuse_write_out out = {0};
    size_t done;

    if (!S_ISREG(node->mode)) {
        return EINVAL;
    }
    if (in->offset > NX_LIVE_SIZE - request->data_size) {
        return EFBIG;
    }
    int reason = nx_content_write(live, node, in->offset, request->data, request->data_size, &done);
    if (reason == 0) {
        touch(live, node, true);
        look_full(live);
        out.size = (uint32_t)done;
        nx_fuse_reply(request, &out, sizeof out);
    }
    return reason;
}

static struct timespec time_of(uint64_t seconds, uint32_t nanoseconds, bool now)
{
    return now ? nx_live_now() : (struct timespec){(int64_t)seconds, (long)nanoseconds};
}

int nx_live_setattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_setattr_in *in = request->argument;
    struct fuse_attr_out out = {.attr_valid = NX_VALID_SECONDS};

    if (in->atimensec > 999999999u || in->mtimensec > 999999999u) {
        return EINVAL;
    }
    if ((in->valid & FATTR_SIZE) != 0) {
        bool file = S_ISREG(node->mode);
        int reason = !file                     ? EINVAL
                     : in->size > NX_LIVE_SIZE ? EFBIG
                                               : nx_content_resize(live, node, in->size);
        if (reason != 0) {
            return reason;
        }
        node->mtime = nx_live_now();
    }
    if ((in->valid & FATTR_MODE) != 0) {
        node->mode = (node->mode & S_IFMT) | (in->mode & 07777);
    }
    node->uid = (in->valid & FATTR_UID) != 0 ? in->uid : node->uid;
    node->gid = (in->valid & FATTR_GID) != 0 ? in->gid : node->gid;
    if ((in->valid & FATTR_ATIME) != 0) {
        node->atime = time_of(in->atime, in->atimensec, (in->valid & FATTR_ATIME_NOW) != 0);
    }
    if ((in->valid & FATTR_MTIME) != 0) {
        node->mtime = time_of(in->mtime, in->mtimensec, (in->valid & FATTR_MTIME_NOW) != 0);
    }
    if ((in->valid & (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME |
                      FATTR_CTIME)) != 0) {
        touch(live, node, false);
    }
    nx_live_tell(live, node, &out.attr);
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

int nx_live_fallocate(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_fallocate_in *in = request->argument;
    bool keeps = (in->mode & FALLOC_FL_KEEP_SIZE) != 0;
    uint32_t what = in->mode & ~(uint32_t)FALLOC_FL_KEEP_SIZE;
    int reason = 0;

    if (!S_ISREG(node->mode) || (what != 0 && what != FALLOC_FL_PUNCH_HOLE)) {
        return EOPNOTSUPP;
    }
    if (in->length == 0 || in->offset > NX_LIVE_SIZE || in->length > NX_LIVE_SIZE - in->offset) {
        return in->length == 0 ? EINVAL : EFBIG;
    }
    if (what == FALLOC_FL_PUNCH_HOLE) {
        reason = nx_content_punch(live, node, in->offset, in->offset + in->length);
    } else if (!keeps && in->offset + in->length > node->size) {
        reason = nx_content_resize(live, node, in->offset + in->length);
    }
    if (reason == 0) {
        touch(live, node, true);
    }
    return reason;
}

int nx_live_lseek(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_lseek_in *in = request->argument;
    struct fuse_lseek_out out = {0};
    nx_content *content;

    if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE) {
        return EINVAL;
    }
    int reason = nx_content_open(live, node, &content);
    if (reason != 0) {
        return reason;
    }
    out.offset = nx_content_seek(content, node->size, in->offset, in->whence == SEEK_HOLE, 1);
    if (in->offset >= node->size || (in->whence == SEEK_DATA && out.offset >= node->size)) {
        return ENXIO;
    }
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

/* The record of an attribute among the extras: from where to where; false if it is not there. */
static bool find_record(const nx_live_node *node, const char *name, size_t *ret_start,
                        nx_cursor *ret_value, size_t *ret_end)
{
    nx_cursor records = nx_cursor_of(node->extras, node->extras_size);
    size_t size = strlen(name);

    while (records.at != records.end && !records.failed) {
        const uint8_t *start = records.at;
        uint64_t tag = nx_cursor_varint(&records);
        nx_cursor value = nx_cursor_part(&records);
        nx_cursor key = nx_cursor_part(&value);
        if (tag == NX_EXTRA_ATTRIBUTE && !value.failed && (size_t)(key.end - key.at) == size &&
            memcmp(key.at, name, size) == 0) {
            *ret_start = (size_t)(start - node->extras);
            *ret_end = (size_t)(records.at - node->extras);
            *ret_value = value;
            return true;
        }
    }
    return false;
}

int nx_live_getxattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    const struct fuse_getxattr_in *in = request->argument;
    nx_cursor value;
    size_t start;
    size_t end;

    (void)live;
    if (!find_record(node, request->name, &start, &value, &end)) {
        return ENODATA;
    }
    nx_mount_reply_sized(request, value.at, (size_t)(value.end - value.at), in->size);
    return 0;
}

int nx_live_listxattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    (void)live;
    nx_mount_reply_names(request, node->extras, node->extras_size);
    return 0;
}

/* The extras without the record, and with another at their end. */
static int replace(nx_live *live, nx_live_node *node, size_t start, size_t end,
                   const nx_bytes *record)
{
    nx_bytes extras = {0};

    nx_bytes_put(&extras, node->extras, start);
    if (end < node->extras_size) {
        nx_bytes_put(&extras, node->extras + end, node->extras_size - end);
    }
    if (record != NULL) {
        nx_ingest_extra(&extras, NX_EXTRA_ATTRIBUTE, record);
    }
    if (extras.failed || extras.size > EXTRAS_MAX) {
        int reason = extras.failed ? ENOMEM : ENOSPC;
        nx_bytes_free(&extras);
        return reason;
    }
    free(node->extras);
    node->extras = extras.data;
    node->extras_size = (uint32_t)extras.size;
    touch(live, node, false);
    return 0;
}

int nx_live_setxattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    uint32_t flags = nx_load_u32((const uint8_t *)request->argument + 4);
    size_t size = strlen(request->name);
    size_t start = node->extras_size;
    size_t end = start;
    nx_bytes record = {0};
    nx_cursor value;

    /* An access list would have to be obeyed, and programs would believe that it set the mode. */
    if (strncmp(request->name, SYSTEM, sizeof SYSTEM - 1) == 0) {
        return EOPNOTSUPP;
    }
    if (size > NX_NAME_MAX || request->data_size > VALUE_MAX) {
        return size > NX_NAME_MAX ? ERANGE : E2BIG;
    }
    bool there = find_record(node, request->name, &start, &value, &end);
    if ((there && (flags & XATTR_CREATE) != 0) || (!there && (flags & XATTR_REPLACE) != 0)) {
        return there ? EEXIST : ENODATA;
    }
    nx_bytes_varint(&record, size);
    nx_bytes_put(&record, request->name, size);
    nx_bytes_put(&record, request->data, request->data_size);
    int reason = record.failed ? ENOMEM : replace(live, node, start, end, &record);
    nx_bytes_free(&record);
    return reason;
}

int nx_live_removexattr(nx_live *live, nx_live_node *node, nx_fuse_request *request)
{
    nx_cursor value;
    size_t start;
    size_t end;

    return find_record(node, request->name, &start, &value, &end)
               ? replace(live, node, start, end, NULL)
               : ENODATA;
}
