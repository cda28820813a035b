// SPDX-License-Identifier: Apache-2.0
/* Ledger events: whatever decodes encodes to the same bytes, and the check is what it should be. */
#include "fuzz.h"
#include "nx_stl.h"

/* CRC-32C of the first 60 bytes, one bit at a time. */
static uint32_t plain_check(const uint8_t *bytes)
{
    uint32_t crc = UINT32_MAX;

    for (unsigned bit = 0; bit < 480; bit++) {
        uint32_t next = (uint32_t)bytes[bit / 8] >> bit % 8;
        crc = crc >> 1 ^ (((crc ^ next) & 1) != 0 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    bool sealed = (eat(&in, 1) & 1) != 0; /* a true check under hostile fields */
    uint8_t *bytes = stretch(&in, NX_STL_BYTES);
    uint8_t again[NX_STL_BYTES];
    nx_stl_event event;

    if (sealed) {
        nx_store_u32(bytes + 60, plain_check(bytes));
    }
    int code = nx_stl_decode(bytes, &event);
    bool right = plain_check(bytes) == nx_load_u32(bytes + 60);
    NX_ASSERT((code == NX_ECORRUPT) == !right);
    NX_ASSERT(!right || (code == NX_OK) == nx_stl_is_kind(nx_load_u32(bytes)));
    if (code == NX_OK) {
        NX_ASSERT(nx_stl_encode(&event, again) == NX_OK);
        NX_ASSERT(memcmp(again, bytes, sizeof again) == 0);
    }
    free(bytes);
    return 0;
}
