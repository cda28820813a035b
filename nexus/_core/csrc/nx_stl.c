// SPDX-License-Identifier: Apache-2.0
#include "nx_stl.h"

#include "nx_crc32c.h"

#define CHECK_AT 60u
#define WORDS    7u /* of 8 bytes, from offset 4 on */

#define BIT(kind)  ((uint64_t)1 << (kind))
#define BITS(a, b) (BIT(b) * 2 - BIT(a)) /* a to b, b below 63 */
#define KINDS_FROM0                                                                                \
    (BITS(0, 4) | BITS(10, 12) | BITS(20, 23) | BITS(30, 32) | BITS(40, 41) | BITS(50, 51) |       \
     BITS(60, 62) | BIT(63))
#define KINDS_FROM64 BITS(0, 15)

bool nx_stl_is_kind(uint64_t kind)
{
    uint64_t kinds = kind < 64 ? KINDS_FROM0 : KINDS_FROM64;

    return kind < 128 && (kinds >> (kind & 63) & 1) != 0;
}

int nx_stl_encode(const nx_stl_event *event, uint8_t ret[NX_STL_BYTES])
{
    if (!nx_stl_is_kind(event->kind)) {
        return NX_EINVAL;
    }
    nx_store_u32(ret, (uint32_t)event->kind);
    __builtin_memcpy(ret + 4, &event->time_ns, WORDS * sizeof(uint64_t));
    nx_store_u32(ret + CHECK_AT, nx_crc32c(0, ret, CHECK_AT));
    return NX_OK;
}

int nx_stl_decode(const uint8_t bytes[NX_STL_BYTES], nx_stl_event *ret)
{
    uint32_t head = nx_load_u32(bytes);

    if (nx_crc32c(0, bytes, CHECK_AT) != nx_load_u32(bytes + CHECK_AT)) {
        return NX_ECORRUPT;
    }
    if (!nx_stl_is_kind(head)) { /* the reserved field is its upper half */
        return NX_EINVAL;
    }
    ret->kind = head;
    __builtin_memcpy(&ret->time_ns, bytes + 4, WORDS * sizeof(uint64_t));
    return NX_OK;
}
