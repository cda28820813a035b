// SPDX-License-Identifier: Apache-2.0
/* Chunking a large input on several threads, with the cut points of one. */
#include "nx_cdc.h"

#include <pthread.h>
#include <string.h>

typedef struct {
    const nx_cdc *cdc;
    const uint8_t *data;
    size_t size;
    size_t start;
    size_t stop;
    bool hashed;
    int code;
    nx_cdc_list list;
    pthread_t thread;
    bool started;
} segment;

static int search(const segment *s, size_t start, size_t stop, nx_cdc_list *list)
{
    if (s->hashed) {
        return nx_cdc_digests(s->cdc, s->data, s->size, start, stop, list);
    }
    return nx_cdc_list_cuts(s->cdc, s->data, s->size, start, stop, list);
}

static void *work(void *argument)
{
    segment *s = argument;

    s->code = search(s, s->start, s->stop, &s->list);
    return NULL;
}

/* Where the list has a cut at `end`, the index behind it; else list->count + 1. */
static size_t behind(const nx_cdc_list *list, uint64_t end)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->items[middle].end < end) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < list->count && list->items[low].end == end ? low + 1 : list->count + 1;
}

/* Continues `list`, whose last cut is true, into the segment. */
static int merge(const segment *s, nx_cdc_list *list)
{
    size_t at = list->count == 0 ? 0 : list->items[list->count - 1].end;

    while (at < s->stop && at < s->size) {
        size_t from = at == s->start ? 0 : behind(&s->list, at);
        if (from <= s->list.count && s->list.count > 0) {
            return nx_cdc_list_extend(list, s->list.items + from, s->list.count - from);
        }
        int code = search(s, at, s->started ? at + 1 : s->stop, list);
        if (code != NX_OK) {
            return code;
        }
        at = list->items[list->count - 1].end;
    }
    return NX_OK;
}

int nx_cdc_threaded(const nx_cdc *cdc, const uint8_t *data, size_t size, unsigned threads,
                    bool hashed, nx_cdc_list *list)
{
    segment segments[NX_CDC_THREADS_MAX];
    /* Multiples of the maximum: where chunks have that size, as in zeros, the cuts agree at once.
     */
    size_t each = (size / threads / cdc->maximum + 1) * cdc->maximum;
    unsigned count = 0;
    int code = NX_OK;

    NX_ASSERT(threads >= 1 && threads <= NX_CDC_THREADS_MAX && list->count == 0);
    for (size_t start = 0; start < size && count < threads; start += each, count++) {
        segment *s = &segments[count];
        memset(s, 0, sizeof *s);
        s->cdc = cdc;
        s->data = data;
        s->size = size;
        s->start = start;
        s->stop = size - start < each ? size : start + each;
        s->hashed = hashed;
    }
    for (unsigned i = 1; i < count; i++) {
        segments[i].started = pthread_create(&segments[i].thread, NULL, work, &segments[i]) == 0;
    }
    if (count > 0) {
        code = search(&segments[0], 0, segments[0].stop, list);
    }
    for (unsigned i = 1; i < count; i++) {
        if (segments[i].started) {
            pthread_join(segments[i].thread, NULL);
            code = code == NX_OK ? segments[i].code : code;
        }
        code = code == NX_OK ? merge(&segments[i], list) : code;
        nx_cdc_list_free(&segments[i].list);
    }
    return code;
}
