// SPDX-License-Identifier: Apache-2.0
#include "nx_cdc.h"

#include "nx_cdc_gear.h"
#include "nx_cdc_nx1.h"
#include "nx_cdc_scan.h"

#include <string.h>

/* Masks by the binary logarithm of the chunk size they aim at; bits spread over the upper part
 * of a window of 48 bytes. Those up to 128 KiB are from the paper's reference code (destor), the
 * larger ones from the published crate. */
static const uint64_t MASKS[26] = {
    0,
    0,
    0,
    0,
    0,
    0x0000000001804110,
    0x0000000001803110,
    0x0000000018035100,
    0x0000001800035300,
    0x0000019000353000,
    0x0000590003530000,
    0x0000d90003530000,
    0x0000d90103530000,
    0x0000d90303530000,
    0x0000d90313530000,
    0x0000d90f03530000,
    0x0000d90303537000,
    0x0000d90703537000,
    0x0000d90707537000,
    0x0000d91707537000,
    0x0000d91747537000,
    0x0000d91767537000,
    0x0000d93767537000,
    0x0000d93777537000,
    0x0000d93777577000,
    0x0000db3777577000,
};

/* The logarithm to the base 2, rounded to the nearest: above sqrt(2) * 2^n it is n + 1. */
static unsigned log2_rounded(uint64_t x)
{
    unsigned n = 63u - (unsigned)__builtin_clzll(x);

    return x * x > (uint64_t)1 << (2 * n + 1) ? n + 1 : n;
}

int nx_cdc_init(nx_cdc_profile profile, size_t minimum, size_t average, size_t maximum,
                unsigned normalization, uint64_t seed, nx_cdc *ret)
{
    if (minimum < NX_CDC_MINIMUM_MIN || minimum > NX_CDC_MINIMUM_MAX ||
        average < NX_CDC_AVERAGE_MIN || average > NX_CDC_AVERAGE_MAX ||
        maximum < NX_CDC_MAXIMUM_MIN || maximum > NX_CDC_MAXIMUM_MAX) {
        return NX_EINVAL;
    }
    if (minimum > average || average > maximum || normalization > NX_CDC_NORMALIZATION_MAX ||
        (profile != NX_CDC_FASTCDC2020 && profile != NX_CDC_NX1)) {
        return NX_EINVAL;
    }
    unsigned bits = log2_rounded(average);

    *ret = (nx_cdc){.profile = profile};
    if (profile == NX_CDC_NX1) {
        nx_cdc_nx1_init(bits + normalization, bits - normalization, seed, ret);
    } else {
        for (size_t i = 0; i < 256; i++) {
            ret->gear[i] = nx_cdc_gear[i] ^ seed;
        }
        ret->strict = MASKS[bits + normalization];
        ret->loose = MASKS[bits - normalization];
    }
    ret->minimum = minimum;
    ret->average = average;
    ret->maximum = maximum;
    return NX_OK;
}

bool nx_cdc_search_on(const nx_cdc *cdc, const uint8_t *from, size_t count, nx_cdc_search *search)
{
    size_t middle = nx_cdc_even(cdc->average);
    size_t done = 0;

    if (search->at < middle) {
        size_t strict = middle - search->at < count ? middle - search->at : count;
        done = nx_cdc_scan(cdc->gear, from, strict, cdc->strict, &search->hash);
        search->at += done;
        if (done < strict) {
            return true;
        }
    }
    size_t loose = nx_cdc_scan(cdc->gear, from + done, count - done, cdc->loose, &search->hash);
    search->at += loose;
    return loose < count - done;
}

size_t nx_cdc_next(const nx_cdc *cdc, const uint8_t *data, size_t size, uint64_t *ret_hash)
{
    nx_cdc_search search = {0, nx_cdc_even(cdc->minimum)};
    size_t limit = size < cdc->maximum ? size : cdc->maximum;

    if (cdc->profile == NX_CDC_NX1) {
        *ret_hash = 0;
        return limit <= cdc->minimum
                   ? limit
                   : nx_cdc_nx1_search(cdc, data + cdc->minimum, cdc->minimum, limit);
    }
    if (size > cdc->minimum &&
        nx_cdc_search_on(cdc, data + search.at, nx_cdc_even(limit) - search.at, &search)) {
        /* The published code hashes two bytes a step and reports the doubled value here. */
        *ret_hash = search.hash << (search.at % 2 == 0);
        return search.at;
    }
    *ret_hash = search.hash;
    return limit;
}

size_t nx_cdc_cuts(const nx_cdc *cdc, const uint8_t *data, size_t size, size_t start, size_t room,
                   nx_cdc_cut *ret, size_t *ret_next)
{
    size_t count = 0;

    while (start < size && count < room) {
        start += nx_cdc_next(cdc, data + start, size - start, &ret[count].hash);
        ret[count].end = start;
        count++;
    }
    *ret_next = start;
    return count;
}

void nx_cdc_stream_init(nx_cdc_stream *ret)
{
    memset(ret, 0, sizeof *ret);
}

/* Ends the open chunk after search->at bytes. */
static void cut_here(nx_cdc_stream *stream, uint64_t *ret_cut)
{
    stream->start += stream->search.at;
    stream->search.at = 0;
    stream->search.hash = 0;
    *ret_cut = stream->start;
}

/* The byte kept back and the next one are the pair that comes next; true at a cut. */
static bool held_pair(const nx_cdc *cdc, nx_cdc_stream *stream, uint8_t next, uint64_t *ret_cut)
{
    uint8_t pair[2] = {stream->held, next};
    size_t before = stream->search.at;

    stream->holds = false;
    if (!nx_cdc_search_on(cdc, pair, 2, &stream->search)) {
        return false;
    }
    bool kept = stream->search.at == before;
    cut_here(stream, ret_cut);
    /* A cut before the kept byte makes it the first of the new chunk, below the minimum. */
    stream->search.at = kept;
    return true;
}

/* The lengths that the next `take` bytes allow: those whose windows begin before them, then those
 * that lie in them. */
static size_t search_nx1(const nx_cdc *cdc, const nx_cdc_stream *stream, const uint8_t *data,
                         size_t take)
{
    enum { WINDOW = NX_CDC_NX1_WINDOW };
    size_t at = stream->search.at;
    size_t from = at + 1 > cdc->minimum ? at + 1 : cdc->minimum;
    size_t to = at + take + 1 < cdc->maximum ? at + take + 1 : cdc->maximum;
    size_t within = at + WINDOW < to ? at + WINDOW : to;

    if (from >= to) {
        return to;
    }
    if (from < within) {
        uint8_t joined[2 * WINDOW];
        memcpy(joined, stream->tail, WINDOW);
        memcpy(joined + WINDOW, data, take < WINDOW ? take : WINDOW);
        size_t found = nx_cdc_nx1_search(cdc, joined + WINDOW + (from - at), from, within);
        if (found < within) {
            return found;
        }
        from = within;
    }
    return nx_cdc_nx1_search(cdc, data + (from - at), from, to);
}

static size_t update_nx1(const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data, size_t size,
                         uint64_t *ret_cut)
{
    size_t at = stream->search.at;
    size_t room = cdc->maximum - at;
    size_t take = size < room ? size : room;
    size_t end = search_nx1(cdc, stream, data, take);

    if (end > at + take) { /* no length was found */
        size_t kept = take < sizeof stream->tail ? sizeof stream->tail - take : 0;
        memmove(stream->tail, stream->tail + sizeof stream->tail - kept, kept);
        memcpy(stream->tail + kept, data + take - (sizeof stream->tail - kept),
               sizeof stream->tail - kept);
        stream->search.at += take;
        return take;
    }
    stream->search.at = end;
    cut_here(stream, ret_cut);
    return end - at;
}

size_t nx_cdc_stream_update(const nx_cdc *cdc, nx_cdc_stream *stream, const uint8_t *data,
                            size_t size, uint64_t *ret_cut)
{
    nx_cdc_search *search = &stream->search;
    size_t first = nx_cdc_even(cdc->minimum);
    size_t used = 0;

    *ret_cut = 0;
    if (size == 0) {
        return 0;
    }
    if (cdc->profile == NX_CDC_NX1) {
        return update_nx1(cdc, stream, data, size, ret_cut);
    }
    if (stream->holds) {
        if (held_pair(cdc, stream, data[0], ret_cut)) {
            return 0;
        }
        used = 1;
    }
    if (search->at < first) { /* never tested */
        size_t skip = first - search->at < size - used ? first - search->at : size - used;
        search->at += skip;
        used += skip;
    }
    size_t room = cdc->maximum - search->at;
    size_t take = size - used < room ? size - used : room;
    size_t before = search->at;

    if (before >= first && nx_cdc_search_on(cdc, data + used, nx_cdc_even(take), search)) {
        used += search->at - before;
        cut_here(stream, ret_cut);
        return used;
    }
    used += search->at - before;
    if (take == room) {
        used += cdc->maximum - search->at;
        search->at = cdc->maximum;
        cut_here(stream, ret_cut);
        return used;
    }
    if (used < size) {
        stream->held = data[used++];
        stream->holds = true;
    }
    return used;
}

uint64_t nx_cdc_stream_end(const nx_cdc_stream *stream)
{
    return stream->start + stream->search.at + (stream->holds ? 1 : 0);
}
