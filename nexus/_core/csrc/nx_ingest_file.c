// SPDX-License-Identifier: Apache-2.0
/* The content of files: small ones together, larger ones through a window. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "nx_blake3.h"
#include "nx_ingest_private.h"
#include "nx_members.h"

void nx_ingest_tell(nx_ingest_state *state, int reason, const char *name)
{
    bool below = state->path.size > 0 && name[0] != 0;
    size_t size = strlen(name);

    nx_bytes_varint(state->issues, (uint64_t)reason);
    nx_bytes_varint(state->issues, state->path.size + below + size);
    nx_bytes_put(state->issues, state->path.data, state->path.size);
    nx_bytes_put(state->issues, "/", below);
    nx_bytes_put(state->issues, name, size);
}

/* The pieces of the file of before that lie around the place where the reader is. */
typedef struct past_window {
    nx_pieces pieces;
    nx_place near[NX_WINDOW_BASES];
    size_t count;
    bool open;
} past_window;

static void open_past(nx_ingest_state *state, const nx_past_entry *before, past_window *ret)
{
    ret->count = 0;
    ret->open = before != NULL && nx_pieces_open(state->store, before->form, before->id,
                                                 before->size, &ret->pieces) == NX_OK;
}

static void close_past(past_window *window)
{
    if (window->open) {
        nx_pieces_close(&window->pieces);
    }
    window->open = false;
}

/* The ranges of before around [from, to); damage there ends the bases and nothing else. */
static size_t bases_around(past_window *window, uint64_t from, uint64_t to, nx_base_range *ret)
{
    size_t kept = 0;
    size_t n = 0;

    for (size_t i = 0; i < window->count; i++) {
        if (window->near[i].offset + window->near[i].size > from) {
            window->near[kept++] = window->near[i];
        }
    }
    window->count = kept;
    while (window->open && window->count < NX_WINDOW_BASES && window->pieces.offset < to) {
        nx_place *place = &window->near[window->count];
        if (nx_pieces_next(&window->pieces, place) != 1) {
            close_past(window);
        } else if (!place->hole && place->offset + place->size > from) {
            window->count++;
        }
    }
    for (size_t i = 0; i < window->count; i++) {
        const nx_place *place = &window->near[i];
        uint64_t start = place->offset > from ? place->offset : from;
        uint64_t end = place->offset + place->size < to ? place->offset + place->size : to;
        if (start < end) {
            memcpy(ret[n].id, place->id, NX_OBJECT_ID);
            ret[n].at = (uint32_t)(start - place->offset);
            ret[n].size = (uint32_t)(end - start);
            n++;
        }
    }
    return n;
}

static int put_piece(nx_ingest_state *state, past_window *past, const uint8_t *id,
                     const uint8_t *data, size_t size, uint64_t offset)
{
    const nx_store_options *settings = nx_store_settings(state->store);
    nx_base_range bases[NX_WINDOW_BASES];
    uint64_t from = offset > settings->window ? offset - settings->window : 0;
    size_t count = 0;
    nx_found found;

    if (settings->depth > 0 && nx_store_find(state->store, id, &found) != NX_OK) {
        count = bases_around(past, from, offset + size + settings->window, bases);
    }
    return nx_store_put(state->store, NX_KIND_DATA, id, data, size, bases, count);
}

int nx_ingest_small(nx_ingest_state *state)
{
    const void *data[NX_SMALL_COUNT];
    size_t sizes[NX_SMALL_COUNT];
    uint8_t ids[NX_SMALL_COUNT * NX_OBJECT_ID];
    nx_blake3_mode mode;
    const uint8_t *at = state->window;
    int code = NX_OK;

    for (size_t i = 0; i < state->small_count; i++) {
        data[i] = at;
        sizes[i] = state->small[i]->entry.size;
        at += sizes[i];
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_many(&mode, data, sizes, state->small_count, ids);
    for (size_t i = 0; code == NX_OK && i < state->small_count; i++) {
        nx_row *row = state->small[i];
        past_window past;
        memcpy(row->id, ids + i * NX_OBJECT_ID, NX_OBJECT_ID);
        row->entry.form = NX_FORM_DATA;
        open_past(state, row->before, &past);
        code = put_piece(state, &past, row->id, data[i], sizes[i], 0);
        close_past(&past);
    }
    state->small_count = 0;
    state->window_fill = 0;
    return code;
}

/* Reads until `size` bytes are there or the file ends. NX_EFAULT: the file cannot be read. */
static int read_some(const nx_source *source, uint8_t *ret, size_t size, size_t *ret_read)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = source->read(source->self, ret + done, size - done);
        if (n < 0 && errno != EINTR) {
            return NX_EFAULT;
        }
        if (n == 0) {
            break;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    *ret_read = done;
    return NX_OK;
}

/* The lists of a file, level over level; a level that ends becomes a piece of the next. */
typedef struct list_stack {
    nx_list_maker makers[NX_LIST_LEVEL_MAX + 1];
    nx_bytes object;
    uint32_t levels;
} list_stack;

static int add_piece(nx_ingest_state *state, list_stack *lists, uint32_t level,
                     const nx_piece *piece, const nx_past_entry *before);

static int end_list(nx_ingest_state *state, list_stack *lists, uint32_t level, uint8_t *ret_id,
                    const nx_past_entry *before)
{
    nx_base_range base = {.size = NX_BLOCK_RAW_MAX};
    bool based = before != NULL && before->form == NX_FORM_LIST;
    nx_blake3_mode mode;
    int code = nx_list_make(&lists->makers[level], level, &lists->object);

    if (code != NX_OK) {
        return code;
    }
    if (based) {
        memcpy(base.id, before->id, NX_OBJECT_ID);
    }
    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, lists->object.data, lists->object.size, ret_id, NX_OBJECT_ID);
    return nx_store_put(state->store, NX_KIND_LIST, ret_id, lists->object.data, lists->object.size,
                        &base, based);
}

static int close_level(nx_ingest_state *state, list_stack *lists, uint32_t level,
                       const nx_past_entry *before)
{
    uint8_t id[NX_OBJECT_ID];
    nx_piece piece = {.id = id, .size = lists->makers[level].total};
    int code = end_list(state, lists, level, id, before);

    return code == NX_OK ? add_piece(state, lists, level + 1, &piece, before) : code;
}

static int add_piece(nx_ingest_state *state, list_stack *lists, uint32_t level,
                     const nx_piece *piece, const nx_past_entry *before)
{
    if (level > NX_LIST_LEVEL_MAX) {
        return NX_ETOOBIG;
    }
    lists->levels = level >= lists->levels ? level + 1 : lists->levels;
    nx_list_add(&lists->makers[level], piece);
    return nx_list_ends(&lists->makers[level]) ? close_level(state, lists, level, before) : NX_OK;
}

/* What the file is called by: nothing, its one piece, or the list over all of its lists. */
static int finish(nx_ingest_state *state, list_stack *lists, nx_row *row, bool single)
{
    int code = NX_OK;

    if (single || lists->levels == 0) {
        row->entry.form = single ? NX_FORM_DATA : NX_FORM_NOTHING;
        return NX_OK;
    }
    for (uint32_t level = 0; code == NX_OK && level < lists->levels; level++) {
        if (lists->makers[level].count == 0) {
            continue;
        }
        if (level + 1 == lists->levels) {
            row->entry.form = NX_FORM_LIST;
            return end_list(state, lists, level, row->id, row->before);
        }
        code = close_level(state, lists, level, row->before);
    }
    return code;
}

/* One stretch of data, from where the descriptor is: until `end`, or the file's. */
typedef struct file_stretch {
    nx_row *row;
    nx_members members;
    list_stack lists;
    past_window past;
    uint64_t offset;
    uint64_t end;
    uint64_t pieces;
    bool whole; /* there are no holes */
} file_stretch;

static int put_cuts(nx_ingest_state *state, file_stretch *stretch)
{
    size_t start = 0;

    for (size_t i = 0; i < state->cuts.count; i++) {
        const nx_cdc_digest *cut = &state->cuts.items[i];
        size_t size = (size_t)cut->end - start;
        nx_piece piece = {.id = cut->blake3, .size = size};
        int code = put_piece(state, &stretch->past, cut->blake3, state->window + start, size,
                             stretch->offset + start);
        if (code == NX_OK) {
            code = add_piece(state, &stretch->lists, 0, &piece, stretch->row->before);
        }
        if (code != NX_OK) {
            return code;
        }
        memcpy(stretch->row->id, cut->blake3, NX_OBJECT_ID);
        stretch->pieces++;
        start = (size_t)cut->end;
    }
    return NX_OK;
}

/* The chunks of the window's bytes until one ends at or behind `stop`; none goes past where a large
 * member of an archive begins or ends. */
static int cut(nx_ingest_state *state, file_stretch *stretch, size_t fill, size_t stop)
{
    size_t start = 0;
    int code = NX_OK;

    state->cuts.count = 0;
    while (code == NX_OK && start < stop) {
        uint64_t border =
            nx_members_next(&stretch->members, stretch->offset + start, stretch->offset + fill);
        size_t end = border == 0 ? fill : (size_t)(border - stretch->offset);
        code = nx_cdc_digests(state->options->cdc, state->window, end, start,
                              end < stop ? end : stop, &state->cuts);
        if (code == NX_OK) {
            start = (size_t)state->cuts.items[state->cuts.count - 1].end;
        }
    }
    return code;
}

static int take_stretch(nx_ingest_state *state, const nx_source *source, file_stretch *stretch)
{
    size_t fill = 0;
    bool ended = false;

    while (!ended) {
        size_t wanted = NX_WINDOW - fill;
        uint64_t left = stretch->end - stretch->offset - fill;
        size_t got;
        int code =
            read_some(source, state->window + fill, left < wanted ? (size_t)left : wanted, &got);
        if (code == NX_OK && stretch->whole) {
            nx_members_feed(&stretch->members, state->window + fill, got);
        }
        fill += code == NX_OK ? got : 0;
        ended = code == NX_OK && (got < wanted || fill == stretch->end - stretch->offset);
        if (code == NX_OK && nx_store_cancelled(state->store)) {
            code = NX_ETIMEOUT;
        }
        if (code == NX_OK) {
            code = cut(state, stretch, fill, ended ? fill : fill - NX_CHUNK_MAX);
        }
        if (code == NX_OK) {
            code = put_cuts(state, stretch);
        }
        if (code != NX_OK) {
            return code;
        }
        size_t done =
            state->cuts.count == 0 ? 0 : (size_t)state->cuts.items[state->cuts.count - 1].end;
        memmove(state->window, state->window + done, fill - done);
        stretch->offset += done;
        fill -= done;
        nx_store_count(state->store)->file_bytes += done;
    }
    return NX_OK;
}

/* A hole from where the last stretch ended to `end`. */
static int take_hole(nx_ingest_state *state, file_stretch *stretch, uint64_t end)
{
    nx_piece piece = {.size = end - stretch->offset};

    stretch->offset = end;
    return piece.size == 0 ? NX_OK
                           : add_piece(state, &stretch->lists, 0, &piece, stretch->row->before);
}

static int take_sparse(nx_ingest_state *state, const nx_source *source, uint64_t size,
                       file_stretch *stretch)
{
    int code = NX_OK;

    while (code == NX_OK && stretch->offset < size) {
        off_t data = source->seek(source->self, (off_t)stretch->offset, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= size) {
            return errno == ENXIO || data >= 0 ? take_hole(state, stretch, size) : NX_EFAULT;
        }
        code = take_hole(state, stretch, (uint64_t)data);
        off_t hole = source->seek(source->self, data, SEEK_HOLE);
        stretch->end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
        if (code == NX_OK && source->seek(source->self, data, SEEK_SET) < 0) {
            code = NX_EFAULT;
        }
        uint64_t before = stretch->offset;
        if (code == NX_OK) {
            code = take_stretch(state, source, stretch);
        }
        if (stretch->offset == before) {
            return code; /* it became shorter */
        }
    }
    return code;
}

static int take_large(nx_ingest_state *state, const nx_source *source, uint64_t size, bool sparse,
                      nx_row *row)
{
    file_stretch stretch = {.row = row, .end = INT64_MAX, .whole = !sparse};

    nx_members_open(&stretch.members);
    open_past(state, row->before, &stretch.past);
    int code =
        sparse ? take_sparse(state, source, size, &stretch) : take_stretch(state, source, &stretch);
    close_past(&stretch.past);
    if (code == NX_OK) {
        row->entry.size = stretch.offset;
        code = finish(state, &stretch.lists, row, !sparse && stretch.pieces == 1);
    }
    for (size_t i = 0; i <= NX_LIST_LEVEL_MAX; i++) {
        nx_list_maker_free(&stretch.lists.makers[i]);
    }
    nx_bytes_free(&stretch.lists.object);
    return code;
}

int nx_ingest_content(nx_ingest_state *state, const nx_source *source, uint64_t size, bool sparse,
                      nx_row *row)
{
    uint8_t *place = state->window + state->window_fill;
    size_t got;

    if (size > NX_SMALL_MAX) {
        int code = nx_ingest_small(state);
        return code == NX_OK ? take_large(state, source, size, sparse, row) : code;
    }
    int code = read_some(source, place, NX_SMALL_MAX + 1, &got);
    if (code != NX_OK) {
        return code;
    }
    if (got > NX_SMALL_MAX) { /* it grew meanwhile */
        code = source->seek(source->self, 0, SEEK_SET) == 0 ? nx_ingest_small(state) : NX_EFAULT;
        return code == NX_OK ? take_large(state, source, got, false, row) : code;
    }
    row->entry.size = got;
    row->entry.form = NX_FORM_NOTHING;
    nx_store_count(state->store)->file_bytes += got;
    if (got > 0) {
        state->small[state->small_count++] = row;
        state->window_fill += got;
    }
    bool full =
        state->small_count == NX_SMALL_COUNT || NX_WINDOW - state->window_fill <= NX_SMALL_MAX;
    return full ? nx_ingest_small(state) : NX_OK;
}
