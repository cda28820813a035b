// SPDX-License-Identifier: Apache-2.0
/* The index; layout: docs/spec/nexfs-store.md, "Index". */
#include <stdlib.h>
#include <string.h>

#include "nx_store_private.h"
#include "nx_xxhash.h"

#define MAGIC      0x5849584eu /* "NXIX" */
#define VERSION    1u
#define HEADER     32u
#define MERGE_WHEN 4u /* a segment takes in the one before that is not this many times its size */

NX_STATIC_ASSERT(sizeof(nx_mark) == 16, "a record of the index is 16 bytes");

/* The first record whose mark is not below. Marks are uniform, so the guess is near. */
size_t nx_segment_find(const nx_segment *segment, uint64_t mark)
{
    const nx_mark *marks = segment->marks;
    size_t low = 0;
    size_t high = segment->count;
    size_t guess = (size_t)(((__uint128_t)mark * segment->count) >> 64);

    for (size_t step = 16; low < high; step *= 4) {
        size_t under = guess > step ? guess - step : 0;
        size_t over = segment->count - guess > step ? guess + step : segment->count;
        bool from = under == 0 || marks[under - 1].mark < mark;
        bool to = over == segment->count || marks[over].mark >= mark;
        if (from && to) {
            low = under;
            high = over;
            break;
        }
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks[middle].mark < mark) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool rises(const nx_mark *marks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        if (marks[i].mark < marks[i - 1].mark) {
            return false;
        }
    }
    return true;
}

int nx_segment_load(nx_store *store, uint64_t number, nx_segment *ret)
{
    const nx_backing *backing = &store->backing;
    uint8_t header[HEADER];
    uint64_t size;
    int code = backing->verbs->size(backing->self, NX_FILE_SEGMENT, number, &size);

    if (code == NX_OK) {
        code = backing->verbs->read(backing->self, NX_FILE_SEGMENT, number, 0, header, HEADER);
    }
    if (code != NX_OK) {
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    uint64_t count = nx_load_u64(header + 16);
    if (nx_load_u32(header) != MAGIC || nx_load_u32(header + 4) != VERSION ||
        nx_load_u64(header + 8) != number || count > (size - HEADER) / sizeof(nx_mark)) {
        return NX_ECORRUPT;
    }
    size_t bytes = count * sizeof(nx_mark);
    nx_mark *marks = malloc(bytes + 1);
    if (marks == NULL) {
        return NX_ENOMEM;
    }
    code = backing->verbs->read(backing->self, NX_FILE_SEGMENT, number, HEADER, marks, bytes);
    if (code == NX_OK &&
        (nx_xxh3_64(marks, bytes, 0) != nx_load_u64(header + 24) || !rises(marks, count))) {
        code = NX_ECORRUPT;
    }
    if (code != NX_OK) {
        free(marks);
        return code;
    }
    *ret = (nx_segment){.marks = marks, .count = count, .number = number};
    return NX_OK;
}

int nx_segment_write(nx_store *store, const nx_segment *segment)
{
    const nx_backing *backing = &store->backing;
    size_t bytes = segment->count * sizeof(nx_mark);
    uint8_t header[HEADER] = {0};

    nx_store_u32(header, MAGIC);
    nx_store_u32(header + 4, VERSION);
    nx_store_u64(header + 8, segment->number);
    nx_store_u64(header + 16, segment->count);
    nx_store_u64(header + 24, nx_xxh3_64(segment->marks, bytes, 0));
    int code =
        backing->verbs->write(backing->self, NX_FILE_SEGMENT, segment->number, 0, header, HEADER);
    if (code == NX_OK && bytes > 0) {
        code = backing->verbs->write(backing->self, NX_FILE_SEGMENT, segment->number, HEADER,
                                     segment->marks, bytes);
    }
    return code;
}

static int compare(const void *a, const void *b)
{
    const nx_mark *one = a;
    const nx_mark *two = b;

    if (one->mark != two->mark) {
        return one->mark < two->mark ? -1 : 1;
    }
    return one->place < two->place ? -1 : one->place > two->place;
}

/* Both segments' records in order; NULL without memory. */
static nx_mark *merge(const nx_segment *one, const nx_segment *two)
{
    nx_mark *ret = malloc((one->count + two->count) * sizeof *ret + 1);
    size_t i = 0;
    size_t j = 0;

    for (size_t n = 0; ret != NULL && n < one->count + two->count; n++) {
        bool first =
            j == two->count || (i < one->count && compare(&one->marks[i], &two->marks[j]) <= 0);
        ret[n] = first ? one->marks[i++] : two->marks[j++];
    }
    return ret;
}

/* A segment takes the place of the last `covered` ones, whose files stay until the new state is
 * there; the caller of flush removes what its state does not name. */
static int push(nx_store *store, nx_segment segment)
{
    if (store->segment_count == store->segment_room) {
        size_t room = store->segment_room * 2 + 8;
        nx_segment *segments = realloc(store->segments, room * sizeof *segments);
        if (segments == NULL) {
            return NX_ENOMEM;
        }
        store->segments = segments;
        store->segment_room = room;
    }
    store->segments[store->segment_count++] = segment;
    return NX_OK;
}

int nx_segment_append(nx_store *store, nx_mark *marks, size_t count)
{
    nx_segment segment = {.marks = marks, .count = count};
    size_t kept = store->segment_count;

    qsort(marks, count, sizeof *marks, compare);
    while (kept > store->settled && store->segments[kept - 1].count / MERGE_WHEN < segment.count) {
        const nx_segment *last = &store->segments[--kept];
        nx_mark *merged = merge(last, &segment);
        free(segment.marks);
        if (merged == NULL) {
            return NX_ENOMEM;
        }
        segment.count += last->count;
        segment.marks = merged;
    }
    segment.number = store->options.next_segment++;
    int code = nx_segment_write(store, &segment);
    if (code == NX_OK) { /* only now, so that a failure costs nothing that was there before */
        pthread_rwlock_wrlock(&store->index_lock);
        size_t covered = store->segment_count;
        store->segment_count = kept;
        while (covered > kept) {
            free(store->segments[--covered].marks);
        }
        code = push(store, segment);
        pthread_rwlock_unlock(&store->index_lock);
    }
    if (code != NX_OK) {
        free(segment.marks);
    }
    return code;
}

int nx_store_add_segment(nx_store *store, uint64_t number)
{
    nx_segment segment;
    int code = nx_segment_load(store, number, &segment);

    if (code == NX_OK) {
        code = push(store, segment);
        if (code != NX_OK) {
            free(segment.marks);
        }
    }
    return code;
}

bool nx_store_segment(const nx_store *store, size_t i, uint64_t *ret_number, uint64_t *ret_count)
{
    if (i >= store->segment_count) {
        return false;
    }
    *ret_number = store->segments[i].number;
    *ret_count = store->segments[i].count;
    return true;
}
