// SPDX-License-Identifier: Apache-2.0
/*
 * Growing bytes, and a cursor over bytes that came from outside. Both remember that they failed,
 * so that a row of calls needs one look at its end.
 */
#ifndef NX_BYTES_H
#define NX_BYTES_H

#include "nx_base.h"

#define NX_VARINT_MAX 10u

/* Empty is {0}; nx_bytes_free ends it. */
typedef struct {
    uint8_t *data;
    size_t size;
    size_t room;
    bool failed; /* there was no memory: what is in it is not whole */
} nx_bytes;

/* A place behind the last byte with room for `more`, or NULL; `size` stays. */
uint8_t *nx_bytes_room(nx_bytes *bytes, size_t more);
void nx_bytes_put(nx_bytes *bytes, const void *data, size_t size);
void nx_bytes_varint(nx_bytes *bytes, uint64_t value);
/* Appends a varint of the part's size and its bytes, and empties it. */
void nx_bytes_part(nx_bytes *bytes, nx_bytes *part);
void nx_bytes_free(nx_bytes *bytes);

/* What is left to read; after the first failure every read gives zeros. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; /* it ended too early, or a varint is none */
} nx_cursor;

NX_INLINE nx_cursor nx_cursor_of(const void *data, size_t size)
{
    const uint8_t *at = data;

    return (nx_cursor){.at = at, .end = size == 0 ? at : at + size};
}

uint64_t nx_cursor_varint(nx_cursor *cursor);
/* The next bytes, or NULL. */
const uint8_t *nx_cursor_take(nx_cursor *cursor, uint64_t size);
/* A part of its own: a varint of its size, and its bytes. */
nx_cursor nx_cursor_part(nx_cursor *cursor);

NX_INLINE uint64_t nx_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

NX_INLINE int64_t nx_unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

#endif
