// SPDX-License-Identifier: Apache-2.0
#include "nx_store_window.h"

#include <string.h>

/* The bytes from `at` on: as many as there are, but not more than fit. */
static int look(nx_window *window, uint64_t at, uint64_t size, const uint8_t **ret)
{
    const nx_backing *backing = &window->store->backing;

    if (at < window->at || at + size > window->at + window->size) {
        uint64_t left = window->length - at;
        window->at = at;
        window->size = left < NX_WINDOW ? left : NX_WINDOW;
        int code = backing->verbs->read(backing->self, NX_FILE_PACK, window->pack, at,
                                        window->bytes, window->size);
        if (code != NX_OK) {
            window->size = 0;
            return code;
        }
    }
    *ret = window->bytes + (at - window->at);
    return NX_OK;
}

/* The block at `at`: NX_ECORRUPT if there is none. */
int nx_window_block(nx_window *window, uint64_t at, nx_block *ret)
{
    const uint8_t *bytes;
    uint64_t left = window->length - at;

    if (left < NX_BLOCK_HEADER) {
        return NX_ECORRUPT;
    }
    int code = look(window, at, NX_BLOCK_HEADER, &bytes);
    uint32_t head = code == NX_OK ? nx_block_head_size(bytes) : 0;
    if (code == NX_OK && (head == 0 || head > left)) {
        code = NX_ECORRUPT;
    }
    if (code == NX_OK) {
        code = look(window, at, head, &bytes);
    }
    if (code == NX_OK) {
        code = nx_block_open(bytes, head, ret);
    }
    if (code == NX_OK && nx_block_extent(ret) > left) {
        code = NX_ECORRUPT;
    }
    if (code == NX_OK) {
        code = look(window, at, nx_block_extent(ret), &bytes);
    }
    /* The tables have to be where the bytes are now. */
    return code == NX_OK ? nx_block_open(bytes, head, ret) : code;
}

int nx_window_header(nx_window *window)
{
    const uint8_t *bytes;
    int code =
        window->length < NX_PACK_HEADER ? NX_ECORRUPT : look(window, 0, NX_PACK_HEADER, &bytes);

    if (code == NX_OK && (nx_load_u32(bytes) != NX_PACK_MAGIC || nx_load_u32(bytes + 4) != 1 ||
                          nx_load_u64(bytes + 8) != window->pack ||
                          memcmp(bytes + 16, window->store->options.volume,
                                 sizeof window->store->options.volume) != 0)) {
        code = NX_ECORRUPT;
    }
    return code;
}
