// SPDX-License-Identifier: Apache-2.0
/* Foreign heads of blocks: what opens adds up, whatever its tables say. */
#include "fuzz.h"
#include "nx_block.h"
#include "nx_crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    bool sealed = (eat(&in, 1) & 1) != 0; /* a true checksum over hostile fields */
    uint8_t *bytes = stretch(&in, NX_BLOCK_HEADER + 4 * NX_BLOCK_ENTRY + 2 * NX_BLOCK_BASE);
    nx_block block;

    nx_store_u32(bytes, NX_BLOCK_MAGIC);
    bytes[16] &= 3;
    bytes[17] = 0;
    bytes[18] &= 1;
    bytes[19] = 0;
    uint32_t head = nx_block_head_size(bytes);
    if (head > 0 && sealed) {
        nx_store_u32(bytes + 20, 0);
        nx_store_u32(bytes + 20, nx_crc32c(0, bytes, head));
    }
    if (head > 0 && nx_block_open(bytes, head, &block) == NX_OK) {
        uint64_t raw = 0;
        for (size_t i = 0; i < block.count; i++) {
            raw += nx_block_size(&block, i);
        }
        NX_ASSERT(raw == block.raw && raw <= NX_BLOCK_RAW_MAX);
        NX_ASSERT(block.depth <= NX_BLOCK_DEPTH_MAX);
        NX_ASSERT(nx_block_extent(&block) % NX_BLOCK_ALIGN == 0);
    }
    free(bytes);
    return 0;
}
