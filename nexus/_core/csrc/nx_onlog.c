// SPDX-License-Identifier: Apache-2.0
#include "nx_onlog_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_ROOM 20u
#define RUNS      16u

/* Bytes that lie on the medium one after another. */
typedef struct run {
    uint64_t address;
    size_t size;
} run;

/*
 * Entering and leaving
 */

static void begin(nx_onlog *log)
{
    struct timespec now;

    pthread_mutex_lock(&log->lock);
    clock_gettime(CLOCK_REALTIME, &now);
    log->fs.now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void begin_change(nx_onlog *log)
{
    begin(log);
    pthread_rwlock_wrlock(&log->medium);
}

/* A full log is what a full disk is; a log that has failed says why each time. */
static int told(nx_onlog *log, int code)
{
    if (code == NX_EFULL) {
        errno = ENOSPC;
        return NX_ESYS;
    }
    if (code == NX_ESYS && log->why == 0) {
        log->why = errno;
    } else if (code == NX_ESYS) {
        errno = log->why;
    }
    return code == NX_EMEDIUM ? NX_EFAULT : code;
}

static int end(nx_onlog *log, int code)
{
    code = told(log, code);
    pthread_mutex_unlock(&log->lock);
    return code;
}

static int end_change(nx_onlog *log, int code)
{
    pthread_rwlock_unlock(&log->medium);
    return end(log, code);
}

/*
 * Files
 */

static uint64_t place_of(const nx_onlog *log, nx_file file, uint64_t number, char name[NAME_ROOM],
                         size_t *ret_size)
{
    int size = file == NX_FILE_STATE
                   ? snprintf(name, NAME_ROOM, "state")
                   : snprintf(name, NAME_ROOM, "%08llx", (unsigned long long)number);

    *ret_size = (size_t)size;
    return log->parts[file];
}

static int look(nx_onlog *log, nx_file file, uint64_t number, uint64_t *ret)
{
    char name[NAME_ROOM];
    size_t size;
    uint64_t directory = place_of(log, file, number, name, &size);

    return nx_nexfs_lookup(&log->fs, directory, name, size, ret);
}

static int make(nx_onlog *log, uint64_t directory, const char *name, size_t size, uint64_t *ret)
{
    nx_nexfs_attributes a;
    int code = nx_nexfs_create(&log->fs, directory, name, size, NX_NEXFS_FILE | 0600, ret);

    code = code != NX_OK ? code : nx_nexfs_get(&log->fs, *ret, &a);
    if (code == NX_OK) {
        a.checksum = NX_NEXFS_PLAIN;
        a.codec = NX_NEXFS_RAW;
        code = nx_nexfs_set(&log->fs, *ret, &a);
    }
    return code;
}

static bool is_tail(const nx_onlog *log, nx_file file, uint64_t number)
{
    return log->tail.inode != 0 && log->tail.file == file && log->tail.number == number;
}

static int tail_flush(nx_onlog *log)
{
    nx_tail *t = &log->tail;
    int code = NX_OK;

    if (t->dirty && t->fill > 0) {
        code = nx_nexfs_write(&log->fs, t->inode, t->base, t->bytes, t->fill);
    }
    t->dirty = t->dirty && code != NX_OK;
    return code;
}

/* The tail becomes that of another file, or of another place in it. */
static int tail_begin(nx_onlog *log, nx_file file, uint64_t number, uint64_t at)
{
    nx_tail *t = &log->tail;
    uint32_t in = (uint32_t)(at % log->window);
    nx_nexfs_attributes a;
    size_t got = 0;
    int code = tail_flush(log);

    if (code != NX_OK) {
        return code;
    }
    t->inode = 0;
    code = look(log, file, number, &t->inode);
    if (code == NX_EEMPTY) {
        char name[NAME_ROOM];
        size_t size;
        uint64_t directory = place_of(log, file, number, name, &size);
        code = make(log, directory, name, size, &t->inode);
    }
    code = code != NX_OK ? code : nx_nexfs_get(&log->fs, t->inode, &a);
    if (code == NX_OK && a.size > at) { /* never promised */
        code = nx_nexfs_truncate(&log->fs, t->inode, at);
    }
    if (code == NX_OK && in > 0) {
        memset(t->bytes, 0, in);
        code = nx_nexfs_read(&log->fs, t->inode, at - in, t->bytes, in, &got);
    }
    t->file = file;
    t->number = number;
    t->base = at - in;
    t->fill = in;
    t->dirty = false;
    t->inode = code == NX_OK ? t->inode : 0;
    return code;
}

static int append(nx_onlog *log, const uint8_t *data, size_t size)
{
    nx_tail *t = &log->tail;
    int code = NX_OK;

    while (code == NX_OK && size > 0) {
        size_t part = size - size % log->window;
        if (t->fill == 0 && part > 0) {
            code = nx_nexfs_write(&log->fs, t->inode, t->base, data, part);
            t->base += code == NX_OK ? part : 0;
        } else {
            part = log->window - t->fill < size ? log->window - t->fill : size;
            memcpy(t->bytes + t->fill, data, part);
            t->fill += (uint32_t)part;
            t->dirty = true;
            if (t->fill == log->window) {
                code = tail_flush(log);
                t->base += code == NX_OK ? log->window : 0;
                t->fill = code == NX_OK ? 0 : t->fill;
            }
        }
        data += part;
        size -= part;
    }
    if (code != NX_OK) {
        t->inode = 0; /* how much of it is there is not known */
        t->dirty = false;
    }
    return code;
}

static bool has_room(const nx_onlog *log, size_t size)
{
    nx_nexfs_usage usage;

    nx_nexfs_usage_get(&log->fs, &usage);
    return log->lean || usage.bytes_free >= log->reserve + size;
}

static int onlog_write(void *self, nx_file file, uint64_t number, uint64_t at, const void *data,
                       size_t size)
{
    nx_onlog *log = self;
    int code = NX_OK;

    if (!log->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    begin_change(log);
    if (!has_room(log, size)) {
        code = NX_EFULL;
    } else if (!is_tail(log, file, number) || log->tail.base + log->tail.fill != at) {
        code = tail_begin(log, file, number, at);
    }
    code = code != NX_OK ? code : append(log, data, size);
    return end_change(log, code);
}

static int size_of(nx_onlog *log, nx_file file, uint64_t number, uint64_t *ret_inode, uint64_t *ret)
{
    nx_nexfs_attributes a;
    int code = look(log, file, number, ret_inode);

    code = code != NX_OK ? code : nx_nexfs_get(&log->fs, *ret_inode, &a);
    if (code == NX_OK) {
        uint64_t end = is_tail(log, file, number) ? log->tail.base + log->tail.fill : 0;
        *ret = end > a.size ? end : a.size;
    }
    return code;
}

static int onlog_size(void *self, nx_file file, uint64_t number, uint64_t *ret)
{
    nx_onlog *log = self;
    uint64_t inode;

    begin(log);
    return end(log, size_of(log, file, number, &inode, ret));
}

/* Where the bytes lie, as far as they lie plainly and the table has room. */
static int runs_find(nx_onlog *log, uint64_t inode, uint64_t at, size_t size, run runs[RUNS],
                     uint32_t *ret_count, size_t *ret_size)
{
    uint32_t count = 0;
    size_t done = 0;

    while (log->shared && done < size) {
        nx_nexfs_extent extent;
        uint64_t from;
        int code = nx_nexfs_map(&log->fs, inode, at + done, &extent);
        if (code != NX_OK) {
            return code;
        }
        from = at + done - extent.offset;
        if (!extent.mapped || extent.codec != NX_NEXFS_RAW || extent.checksum != NX_NEXFS_PLAIN ||
            from >= extent.size) {
            break;
        }
        size_t part = extent.size - from < size - done ? (size_t)(extent.size - from) : size - done;
        uint64_t address = extent.address + from;
        if (count > 0 && runs[count - 1].address + runs[count - 1].size == address) {
            runs[count - 1].size += part;
        } else if (count == RUNS) {
            break;
        } else {
            runs[count++] = (run){.address = address, .size = part};
        }
        done += part;
    }
    *ret_count = count;
    *ret_size = done;
    return NX_OK;
}

/* With the lock held, which is let go meanwhile. */
static int runs_read(nx_onlog *log, const run runs[RUNS], uint32_t count, uint8_t *to)
{
    uint32_t flips;
    int code = NX_OK;

    pthread_rwlock_rdlock(&log->medium);
    pthread_mutex_unlock(&log->lock);
    for (uint32_t i = 0; i < count && code == NX_OK; i++) {
        code = log->counted.verbs->read(log, runs[i].address, to, runs[i].size, &flips);
        to += runs[i].size;
    }
    int kept = errno;
    pthread_rwlock_unlock(&log->medium);
    pthread_mutex_lock(&log->lock);
    errno = kept;
    return code;
}

static int onlog_read(void *self, nx_file file, uint64_t number, uint64_t at, void *ret,
                      size_t size)
{
    nx_onlog *log = self;
    uint8_t *to = ret;
    uint64_t inode, all = 0;

    begin(log);
    int code = size_of(log, file, number, &inode, &all);
    if (code == NX_OK && (at > all || all - at < size)) {
        code = NX_ECORRUPT;
    }
    while (code == NX_OK && size > 0) {
        const nx_tail *t = &log->tail;
        size_t part = size, got = 0;
        uint32_t count;
        run runs[RUNS];
        if (is_tail(log, file, number) && at >= t->base && at < t->base + t->fill) {
            uint64_t rest = t->base + t->fill - at;
            got = part < rest ? part : (size_t)rest;
            memcpy(to, t->bytes + (at - t->base), got);
        } else {
            if (is_tail(log, file, number) && at < t->base && t->base - at < part) {
                part = (size_t)(t->base - at);
            }
            code = runs_find(log, inode, at, part, runs, &count, &got);
            if (code == NX_OK && got > 0) {
                code = runs_read(log, runs, count, to);
            } else if (code == NX_OK) {
                code = nx_nexfs_read(&log->fs, inode, at, to, part, &got);
                code = code == NX_OK && got == 0 ? NX_ECORRUPT : code;
            }
        }
        to += got;
        at += got;
        size -= got;
    }
    return end(log, code);
}

static int onlog_remove(void *self, nx_file file, uint64_t number)
{
    nx_onlog *log = self;
    char name[NAME_ROOM];
    size_t size;

    if (!log->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    begin_change(log);
    if (is_tail(log, file, number)) {
        log->tail.inode = 0;
        log->tail.dirty = false;
    }
    uint64_t directory = place_of(log, file, number, name, &size);
    return end_change(log, nx_nexfs_unlink(&log->fs, directory, name, size, false));
}

static int onlog_sync(void *self)
{
    nx_onlog *log = self;

    begin_change(log);
    int code = tail_flush(log);
    code = code != NX_OK ? code : nx_nexfs_sync(&log->fs);
    return end_change(log, code);
}

static int replace(nx_onlog *log, const void *data, size_t size)
{
    const uint64_t root = NX_NEXFS_ROOT;
    uint64_t inode;
    int code = nx_nexfs_unlink(&log->fs, root, "state.new", 9, false);

    code = code == NX_EEMPTY ? NX_OK : code;
    code = code != NX_OK ? code : make(log, root, "state.new", 9, &inode);
    code = code != NX_OK ? code : nx_nexfs_write(&log->fs, inode, 0, data, size);
    code = code != NX_OK ? code : nx_nexfs_rename(&log->fs, root, "state.new", 9, root, "state", 5);
    return code != NX_OK ? code : nx_nexfs_sync(&log->fs);
}

static int onlog_replace(void *self, const void *data, size_t size)
{
    nx_onlog *log = self;

    if (!log->writes) {
        return NX_EDENIED;
    }
    begin_change(log);
    int code = tail_flush(log);
    return end_change(log, code != NX_OK ? code : replace(log, data, size));
}

static int onlog_trim(void *self, nx_file file, uint64_t number, uint64_t size)
{
    nx_onlog *log = self;
    uint64_t inode, all;

    if (!log->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    begin_change(log);
    int code = size_of(log, file, number, &inode, &all);
    if (code == NX_OK && all > size) {
        code = tail_flush(log);
        log->tail.inode = 0;
        code = code != NX_OK ? code : nx_nexfs_truncate(&log->fs, inode, size);
    }
    return end_change(log, code);
}

static int compare(const void *a, const void *b)
{
    uint64_t one = nx_load_u64(a);
    uint64_t two = nx_load_u64(b);

    return one < two ? -1 : one > two;
}

static int onlog_list(void *self, nx_file file, uint64_t **ret, size_t *ret_count)
{
    nx_onlog *log = self;
    nx_bytes numbers = {0};
    nx_nexfs_entry entry = {.cookie = 0};
    int code = NX_OK;

    begin(log);
    while (code == NX_OK) {
        code = nx_nexfs_next(&log->fs, log->parts[file], entry.cookie, &entry);
        if (code == NX_OK && entry.size == 8) {
            char name[9] = {0}, *end_;
            memcpy(name, entry.name, 8);
            uint64_t number = strtoull(name, &end_, 16);
            if (*end_ == 0) {
                nx_bytes_put(&numbers, &number, sizeof number);
            }
        }
    }
    code = code == NX_EEMPTY ? NX_OK : code;
    code = code == NX_OK && numbers.failed ? NX_ENOMEM : code;
    if (code != NX_OK) {
        nx_bytes_free(&numbers);
        return end(log, code);
    }
    if (numbers.size > 0) {
        qsort(numbers.data, numbers.size / sizeof(uint64_t), sizeof(uint64_t), compare);
    }
    *ret = (uint64_t *)(void *)numbers.data;
    *ret_count = numbers.size / sizeof(uint64_t);
    return end(log, NX_OK);
}

/* Who writes has the medium alone. */
static bool onlog_alone(void *self, bool wanted)
{
    (void)wanted;
    return ((nx_onlog *)self)->writes;
}

static const nx_backing_verbs VERBS = {
    .read = onlog_read,
    .size = onlog_size,
    .write = onlog_write,
    .remove = onlog_remove,
    .sync = onlog_sync,
    .replace = onlog_replace,
    .list = onlog_list,
    .trim = onlog_trim,
    .alone = onlog_alone,
};

nx_backing nx_onlog_backing(nx_onlog *onlog)
{
    return (nx_backing){.verbs = &VERBS, .self = onlog};
}

void nx_onlog_lean(nx_onlog *onlog, bool lean)
{
    begin(onlog);
    onlog->lean = lean;
    (void)end(onlog, NX_OK);
}

int nx_onlog_health_get(nx_onlog *onlog, nx_onlog_health *ret)
{
    begin_change(onlog); /* looking may write nodes that are changed */
    int code = nx_nexfs_wear(&onlog->fs, &ret->usage);
    ret->corrected = atomic_load_explicit(&onlog->corrected, memory_order_relaxed);
    ret->storage_class = onlog->fs.super.storage_class;
    return end_change(onlog, code);
}
