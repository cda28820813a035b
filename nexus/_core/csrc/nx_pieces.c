// SPDX-License-Identifier: Apache-2.0
#include "nx_pieces.h"

#include <string.h>

static int open_list(nx_pieces *pieces, const uint8_t *id)
{
    uint32_t depth = pieces->depth;

    if (depth > NX_LIST_LEVEL_MAX) {
        return NX_ECORRUPT;
    }
    int code = nx_store_get(pieces->store, id, &pieces->held[depth]);
    if (code != NX_OK) {
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    pieces->depth++;
    nx_list *list = &pieces->lists[depth];
    code = nx_list_open(pieces->held[depth].data, pieces->held[depth].size, list);
    if (code == NX_OK && depth > 0 && list->level + 1 != pieces->lists[depth - 1].level) {
        code = NX_ECORRUPT;
    }
    return code;
}

int nx_pieces_open(nx_store *store, nx_form form, const uint8_t *id, uint64_t size, nx_pieces *ret)
{
    *ret = (nx_pieces){.store = store, .size = size};
    bool nothing = form == NX_FORM_NOTHING && size == 0;
    if (form == NX_FORM_LIST) {
        int code = open_list(ret, id);
        if (code != NX_OK) {
            nx_pieces_close(ret);
        }
        return code;
    }
    if (form == NX_FORM_DATA && size > 0 && size <= NX_CHUNK_MAX) {
        ret->single = true;
        memcpy(ret->id, id, NX_OBJECT_ID);
        return NX_OK;
    }
    return nothing ? NX_OK : NX_ECORRUPT;
}

static int end(const nx_pieces *pieces)
{
    return pieces->offset == pieces->size ? 0 : NX_ECORRUPT;
}

/* The next row of the innermost list that has one. */
static int next_row(nx_pieces *pieces, nx_piece *ret)
{
    while (pieces->depth > 0) {
        int code = nx_list_next(&pieces->lists[pieces->depth - 1], ret);
        if (code != 0) {
            return code;
        }
        nx_store_release(pieces->store, &pieces->held[--pieces->depth]);
    }
    return 0;
}

static int advance(nx_pieces *pieces, nx_place *ret)
{
    nx_piece piece;

    for (;;) {
        int code = next_row(pieces, &piece);
        if (code <= 0) {
            return code == 0 ? end(pieces) : code;
        }
        if (piece.size > pieces->size - pieces->offset) {
            return NX_ECORRUPT;
        }
        if (pieces->lists[pieces->depth - 1].level > 0 && piece.id != NULL) {
            code = open_list(pieces, piece.id);
            if (code != NX_OK) {
                return code;
            }
            continue;
        }
        *ret = (nx_place){.offset = pieces->offset, .size = piece.size, .hole = piece.id == NULL};
        if (piece.id != NULL) {
            memcpy(ret->id, piece.id, NX_OBJECT_ID);
        }
        pieces->offset += piece.size;
        return 1;
    }
}

int nx_pieces_next(nx_pieces *pieces, nx_place *ret)
{
    if (pieces->single) {
        *ret = (nx_place){.size = pieces->size};
        memcpy(ret->id, pieces->id, NX_OBJECT_ID);
        pieces->offset = pieces->size;
        pieces->single = false;
        return 1;
    }
    return pieces->depth == 0 ? end(pieces) : advance(pieces, ret);
}

void nx_pieces_close(nx_pieces *pieces)
{
    while (pieces->depth > 0) {
        nx_store_release(pieces->store, &pieces->held[--pieces->depth]);
    }
}
