// SPDX-License-Identifier: Apache-2.0
/* Foreign archives: borders ascend, lie in what was fed, and are the same for every split. */
#include "fuzz.h"
#include "nx_members.h"

static size_t borders(const uint8_t *data, size_t size, size_t step, uint64_t *ret, size_t room)
{
    static nx_members members;
    uint64_t after = 0;
    uint64_t next;
    size_t count = 0;

    nx_members_open(&members);
    for (size_t at = 0; at < size; at += step) {
        size_t now = size - at < step ? size - at : step;
        nx_members_feed(&members, data + at, now);
        while ((next = nx_members_next(&members, after, at + now)) != 0) {
            NX_ASSERT(next > after && next <= at + now);
            after = next;
            NX_ASSERT(count < room);
            ret[count++] = next;
        }
    }
    return count;
}

/* A member of 32 KiB takes as many bytes: the input is repeated until it has them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { BYTES = 200000, ROOM = 32 };
    static uint8_t bytes[BYTES];
    uint64_t one[ROOM];
    uint64_t other[ROOM];
    nx_input in = {data, size};
    size_t step = 1 + (size_t)eat(&in, 2);

    if (in.size == 0) {
        return 0;
    }
    for (size_t i = 0; i < BYTES; i++) {
        bytes[i] = in.at[i % in.size];
    }
    size_t count = borders(bytes, BYTES, BYTES, one, ROOM);
    NX_ASSERT(borders(bytes, BYTES, step, other, ROOM) == count);
    NX_ASSERT(memcmp(one, other, count * sizeof *one) == 0);
    return 0;
}
