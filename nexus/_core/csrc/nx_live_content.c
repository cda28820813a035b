// SPDX-License-Identifier: Apache-2.0
/* The bytes of a file that changes: the store's, and over them spans of scratch and holes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nx_live_private.h"

#define HOLE_MIN  65536u /* a shorter one is stored as zeros */
#define NAME_ROOM 32u

/* O_TMPFILE where the filesystem has it, else a name that is taken away at once. */
static int open_scratch(const char *path)
{
    int descriptor = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)0600);

    if (descriptor < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        size_t room = strlen(path) + NAME_ROOM;
        char *name = malloc(room);
        if (name == NULL) {
            errno = ENOMEM;
            return -1;
        }
        (void)snprintf(name, room, "%s/scratch-XXXXXX", path);
        descriptor = mkostemp(name, O_CLOEXEC);
        if (descriptor >= 0) {
            (void)unlink(name);
        }
        free(name);
    }
    return descriptor;
}

static void release_scratch(nx_scratch_file *scratch)
{
    if (scratch != NULL && --scratch->refs == 0) {
        (void)close(scratch->descriptor);
        free(scratch);
    }
}

void nx_content_new_scratch(nx_live *live)
{
    release_scratch(live->scratch);
    live->scratch = NULL;
}

static int take_scratch(nx_live *live, nx_content *content)
{
    if (content->scratch != NULL) {
        return 0;
    }
    if (live->scratch == NULL) {
        nx_scratch_file *scratch = calloc(1, sizeof *scratch);
        if (scratch == NULL) {
            return ENOMEM;
        }
        scratch->descriptor = open_scratch(live->scratch_path);
        if (scratch->descriptor < 0) {
            int reason = errno;
            free(scratch);
            return reason;
        }
        scratch->refs = 1;
        live->scratch = scratch;
    }
    live->scratch->refs++;
    content->scratch = live->scratch;
    return 0;
}

void nx_content_release(nx_content *content)
{
    if (--content->refs == 0) {
        release_scratch(content->scratch);
        free(content->places);
        free(content->spans);
        free(content);
    }
}

int nx_content_open(nx_live *live, nx_live_node *node, nx_content **ret)
{
    const nx_stored *stored = &node->stored;
    nx_bytes rows = {0};
    nx_pieces pieces;
    nx_place place;

    if (node->content != NULL) {
        *ret = node->content;
        return 0;
    }
    nx_content *content = calloc(1, sizeof *content);
    int code = content == NULL
                   ? NX_ENOMEM
                   : nx_pieces_open(live->store, stored->form, stored->id, stored->size, &pieces);
    if (code == NX_OK) {
        while ((code = nx_pieces_next(&pieces, &place)) == 1) {
            nx_bytes_put(&rows, &place, sizeof place);
        }
        nx_pieces_close(&pieces);
        code = code == NX_OK && rows.failed ? NX_ENOMEM : code;
    }
    if (code != NX_OK) {
        int reason = nx_mount_reason(code);
        nx_bytes_free(&rows);
        free(content);
        return reason;
    }
    content->places = (nx_place *)(void *)rows.data;
    content->place_count = rows.size / sizeof place;
    content->base_end = stored->size;
    content->refs = 1;
    node->content = *ret = content;
    return 0;
}

/* The first span that ends behind the place. */
static size_t span_behind(const nx_content *content, uint64_t at)
{
    size_t low = 0;
    size_t high = content->span_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (content->spans[middle].end <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The base's piece that has this byte, which there is. */
static const nx_place *place_of(const nx_content *content, uint64_t at)
{
    size_t low = 0;
    size_t high = content->place_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (content->places[middle].offset + content->places[middle].size <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &content->places[low];
}

nx_stretch nx_content_at(const nx_content *content, uint64_t size, uint64_t at)
{
    size_t i = span_behind(content, at);
    nx_stretch ret = {.end = size, .hole = true};

    if (i < content->span_count) {
        const nx_span *span = &content->spans[i];
        if (span->start <= at) {
            ret.end = span->end < size ? span->end : size;
            ret.hole = span->hole;
            ret.place = span->place + (at - span->start);
            return ret;
        }
        ret.end = span->start < size ? span->start : size;
    }
    if (at < content->base_end) {
        const nx_place *place = place_of(content, at);
        uint64_t end = place->offset + place->size;
        end = end < content->base_end ? end : content->base_end;
        ret.end = end < ret.end ? end : ret.end;
        ret.hole = place->hole;
        ret.base = place->hole ? NULL : place;
    }
    return ret;
}

static bool goes_on(const nx_span *span, const nx_span *next)
{
    return span->end == next->start && span->hole == next->hole &&
           (span->hole || span->place + (span->end - span->start) == next->place);
}

/* The span in place of whatever is there. */
static int put_span(nx_content *content, nx_span span)
{
    size_t first = span_behind(content, span.start);
    size_t last = span_behind(content, span.end);
    nx_span left = {0};
    nx_span right = {0};

    if (content->span_count + 2 > content->span_room) {
        size_t room = content->span_room * 2 + 8;
        nx_span *more = realloc(content->spans, room * sizeof *more);
        if (more == NULL) {
            return ENOMEM;
        }
        content->spans = more;
        content->span_room = room;
    }
    nx_span *spans = content->spans;
    if (first < content->span_count && spans[first].start < span.start) {
        left = spans[first];
        left.end = span.start;
    }
    if (last < content->span_count && spans[last].start < span.end) {
        right = spans[last];
        right.place += span.end - right.start;
        right.start = span.end;
        last++;
    }
    if (left.end == 0 && first > 0 && goes_on(&spans[first - 1], &span)) {
        first--;
        span.place = spans[first].place;
        span.start = spans[first].start;
    }
    size_t added = 1u + (left.end > 0) + (right.end > 0);
    memmove(spans + first + added, spans + last, (content->span_count - last) * sizeof *spans);
    content->span_count = content->span_count - (last - first) + added;
    if (left.end > 0) {
        spans[first++] = left;
    }
    spans[first++] = span;
    if (right.end > 0) {
        spans[first] = right;
    }
    return 0;
}

/* All of it, or an errno and how much. */
static int write_all(int descriptor, const uint8_t *data, size_t size, uint64_t at, size_t *ret)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pwrite(descriptor, data + done, size - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            *ret = done;
            return errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    *ret = done;
    return 0;
}

int nx_content_write(nx_live *live, nx_live_node *node, uint64_t at, const uint8_t *data,
                     size_t size, size_t *ret)
{
    nx_content *content;
    size_t done = 0;
    int reason = nx_content_open(live, node, &content);

    if (reason == 0) {
        reason = take_scratch(live, content);
    }
    while (reason == 0 && done < size) {
        nx_scratch_file *scratch = content->scratch;
        uint64_t from = at + done;
        size_t i = span_behind(content, from);
        const nx_span *span = i < content->span_count ? &content->spans[i] : NULL;
        bool there = span != NULL && span->start <= from && !span->hole;
        uint64_t end = at + size;
        /* In place where it lies in scratch already, else at its end. */
        for (; span != NULL && !there && span < content->spans + content->span_count; span++) {
            if (span->start < end && !span->hole) {
                end = span->start;
                break;
            }
        }
        end = there && span->end < end ? span->end : end;
        uint64_t place = there ? span->place + (from - span->start) : scratch->end;
        size_t written;
        reason = write_all(scratch->descriptor, data + done, (size_t)(end - from), place, &written);
        if (!there && written > 0) {
            int failed = put_span(content, (nx_span){from, from + written, place, false});
            if (failed != 0) {
                reason = failed;
                break;
            }
            scratch->end += written;
        }
        done += written;
    }
    *ret = done;
    if (done > 0) {
        node->changed = true;
        node->size = at + done > node->size ? at + done : node->size;
    }
    return done > 0 ? 0 : reason;
}

int nx_content_resize(nx_live *live, nx_live_node *node, uint64_t size)
{
    nx_content *content;
    int reason = nx_content_open(live, node, &content);

    if (reason != 0) {
        return reason;
    }
    if (size < node->size) {
        size_t i = span_behind(content, size);
        if (i < content->span_count && content->spans[i].start < size) {
            content->spans[i++].end = size;
        }
        content->span_count = i;
        content->base_end = size < content->base_end ? size : content->base_end;
    }
    node->changed = node->changed || size != node->size;
    node->size = size;
    return 0;
}

int nx_content_punch(nx_live *live, nx_live_node *node, uint64_t from, uint64_t to)
{
    nx_content *content;
    int reason = nx_content_open(live, node, &content);

    to = to < node->size ? to : node->size;
    if (reason == 0 && from < to) {
        reason = put_span(content, (nx_span){from, to, 0, true});
        node->changed = node->changed || reason == 0;
    }
    return reason;
}

int nx_content_copy(nx_store *store, const nx_content *content, const nx_stretch *stretch,
                    uint64_t at, uint8_t *ret, size_t size)
{
    nx_held held;
    size_t done = 0;

    if (stretch->base != NULL) {
        int code = nx_store_get(store, stretch->base->id, &held);
        if (code != NX_OK) {
            return nx_mount_reason(code);
        }
        bool right = held.size == stretch->base->size;
        if (right) {
            memcpy(ret, held.data + (at - stretch->base->offset), size);
        }
        nx_store_release(store, &held);
        return right ? 0 : EIO;
    }
    if (stretch->hole) {
        memset(ret, 0, size);
        return 0;
    }
    while (done < size) {
        ssize_t n = pread(content->scratch->descriptor, ret + done, size - done,
                          (off_t)(stretch->place + done));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return n == 0 ? EIO : errno;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Where holes that begin here end. */
static uint64_t hole_end(const nx_content *content, uint64_t size, uint64_t at)
{
    while (at < size) {
        nx_stretch stretch = nx_content_at(content, size, at);
        if (!stretch.hole) {
            break;
        }
        at = stretch.end;
    }
    return at;
}

uint64_t nx_content_seek(const nx_content *content, uint64_t size, uint64_t at, bool hole,
                         uint64_t hole_min)
{
    while (at < size) {
        uint64_t end = hole_end(content, size, at);
        bool is_hole = end - at >= hole_min && end > at;
        if (is_hole == hole) {
            return at;
        }
        at = end > at ? end : nx_content_at(content, size, at).end;
    }
    return size;
}

bool nx_content_sparse(const nx_content *content, uint64_t size)
{
    return nx_content_seek(content, size, 0, true, HOLE_MIN) < size;
}

static ssize_t read_cursor(void *self, void *ret, size_t size)
{
    nx_content_cursor *cursor = self;

    if (cursor->at >= cursor->size) {
        return 0;
    }
    nx_stretch stretch = nx_content_at(cursor->content, cursor->size, cursor->at);
    size_t part = size < stretch.end - cursor->at ? size : (size_t)(stretch.end - cursor->at);
    int reason = nx_content_copy(cursor->store, cursor->content, &stretch, cursor->at, ret, part);
    if (reason != 0) {
        errno = reason == EINTR ? EIO : reason;
        return -1;
    }
    cursor->at += part;
    return (ssize_t)part;
}

static off_t seek_cursor(void *self, off_t offset, int whence)
{
    nx_content_cursor *cursor = self;
    uint64_t at = (uint64_t)offset;

    if (whence != SEEK_SET) {
        at = nx_content_seek(cursor->content, cursor->size, at, whence == SEEK_HOLE, HOLE_MIN);
        if (at >= cursor->size && whence == SEEK_DATA) {
            errno = ENXIO;
            return -1;
        }
    }
    cursor->at = at;
    return (off_t)at;
}

nx_source nx_content_source(nx_content_cursor *cursor)
{
    return (nx_source){read_cursor, seek_cursor, cursor};
}
