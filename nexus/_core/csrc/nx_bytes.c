// SPDX-License-Identifier: Apache-2.0
#include "nx_bytes.h"

#include <stdlib.h>
#include <string.h>

uint8_t *nx_bytes_room(nx_bytes *bytes, size_t more)
{
    if (bytes->failed) {
        return NULL;
    }
    if (more > bytes->room - bytes->size) {
        size_t room = bytes->room + bytes->room / 2 + more + 64;
        uint8_t *data = room > bytes->room ? realloc(bytes->data, room) : NULL;
        if (data == NULL) {
            bytes->failed = true;
            return NULL;
        }
        bytes->data = data;
        bytes->room = room;
    }
    return bytes->data + bytes->size;
}

void nx_bytes_put(nx_bytes *bytes, const void *data, size_t size)
{
    uint8_t *place = nx_bytes_room(bytes, size);

    if (place != NULL && size > 0) {
        memcpy(place, data, size);
        bytes->size += size;
    }
}

void nx_bytes_varint(nx_bytes *bytes, uint64_t value)
{
    uint8_t *place = nx_bytes_room(bytes, NX_VARINT_MAX);
    size_t n = 0;

    if (place == NULL) {
        return;
    }
    while (value >= 0x80) {
        place[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    place[n++] = (uint8_t)value;
    bytes->size += n;
}

void nx_bytes_part(nx_bytes *bytes, nx_bytes *part)
{
    nx_bytes_varint(bytes, part->size);
    nx_bytes_put(bytes, part->data, part->size);
    bytes->failed |= part->failed;
    part->size = 0;
}

void nx_bytes_free(nx_bytes *bytes)
{
    free(bytes->data);
    *bytes = (nx_bytes){0};
}

static uint64_t fail(nx_cursor *cursor)
{
    cursor->failed = true;
    cursor->at = cursor->end;
    return 0;
}

uint64_t nx_cursor_varint(nx_cursor *cursor)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (cursor->at == cursor->end) {
            return fail(cursor);
        }
        uint8_t byte = *cursor->at++;
        bool overflows = shift == 63 && byte > 1;
        bool longer = byte == 0 && shift > 0;
        if (overflows || longer) {
            return fail(cursor);
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return value;
        }
    }
    return fail(cursor);
}

const uint8_t *nx_cursor_take(nx_cursor *cursor, uint64_t size)
{
    const uint8_t *taken = cursor->at;

    if (size > (size_t)(cursor->end - cursor->at)) {
        fail(cursor);
        return NULL;
    }
    cursor->at += size;
    return taken;
}

nx_cursor nx_cursor_part(nx_cursor *cursor)
{
    uint64_t size = nx_cursor_varint(cursor);
    const uint8_t *data = nx_cursor_take(cursor, size);
    nx_cursor part = nx_cursor_of(data, data == NULL ? 0 : size);

    part.failed = data == NULL;
    return part;
}
