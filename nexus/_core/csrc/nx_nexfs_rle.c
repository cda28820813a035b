// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: run lengths. Packing may run behind itself in one buffer, given the slack. */
#include "nx_nexfs_core.h"

#define LITERALS_MAX 128u
#define RUN_MIN      3u
#define RUN_MAX      130u

/* Bytes that the source must lie ahead of the target, in one buffer. */
uint32_t nx_nexfs_rle_slack(uint32_t size)
{
    return size / LITERALS_MAX + 16;
}

static uint32_t run_at(const uint8_t *data, uint32_t at, uint32_t size)
{
    uint32_t count = 1;

    while (count < RUN_MAX && at + count < size && data[at + count] == data[at]) {
        count++;
    }
    return count;
}

/* Bytes of the literals from `at` on, up to a run that is worth it. */
static uint32_t literals_at(const uint8_t *data, uint32_t at, uint32_t size)
{
    uint32_t count = 1;

    while (count < LITERALS_MAX && at + count < size &&
           run_at(data, at + count, at + count + RUN_MIN < size ? at + count + RUN_MIN : size) <
               RUN_MIN) {
        count++;
    }
    return count;
}

uint32_t nx_nexfs_rle_size(const uint8_t *data, uint32_t size)
{
    uint32_t total = 0;

    for (uint32_t at = 0; at < size;) {
        uint32_t run = run_at(data, at, size);
        uint32_t count = run >= RUN_MIN ? run : literals_at(data, at, size);
        total += run >= RUN_MIN ? 2 : 1 + count;
        at += count;
    }
    return total;
}

void nx_nexfs_rle_pack(const uint8_t *data, uint32_t size, uint8_t *ret)
{
    for (uint32_t at = 0; at < size;) {
        uint32_t run = run_at(data, at, size);
        if (run >= RUN_MIN) {
            uint8_t byte = data[at];
            *ret++ = (uint8_t)(run - RUN_MIN + 128);
            *ret++ = byte;
            at += run;
        } else {
            uint32_t count = literals_at(data, at, size);
            *ret++ = (uint8_t)(count - 1);
            memmove(ret, data + at, count);
            ret += count;
            at += count;
        }
    }
}

/* Bytes [from, from + ret_size) of what was packed, which must yield at least so many. `ret` may be
 * before `data` in one buffer, by the slack, when from is 0. */
bool nx_nexfs_rle_unpack(const uint8_t *data, uint32_t stored, uint32_t from, uint8_t *ret,
                         uint32_t ret_size)
{
    uint64_t out = 0, end = (uint64_t)from + ret_size;

    for (uint32_t at = 0; at < stored && out < end;) {
        bool run = data[at] >= 128;
        uint32_t count = run ? data[at] - 128u + RUN_MIN : data[at] + 1u;
        uint64_t first = out > from ? out : from, last = out + count < end ? out + count : end;
        uint8_t byte;
        if (stored - at < (run ? 2 : 1 + count)) {
            return false;
        }
        byte = data[at + 1];
        if (first < last && run) {
            memset(ret + (first - from), byte, (size_t)(last - first));
        } else if (first < last) {
            memmove(ret + (first - from), data + at + 1 + (first - out), (size_t)(last - first));
        }
        out += count;
        at += run ? 2 : 1 + count;
    }
    return out >= end;
}
