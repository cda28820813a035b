// SPDX-License-Identifier: Apache-2.0
/* Foreign requests of the kernel's filesystem protocol: what is taken as one has all of its parts
 * within the bytes that there are. */
#include "fuzz.h"
#include "nx_fuse.h"

static void within(const uint8_t *bytes, size_t size, const void *part, size_t part_size)
{
    const uint8_t *at = part;

    NX_ASSERT(at >= bytes && part_size <= size && at + part_size <= bytes + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + 1);
    nx_fuse_request request;

    NX_ASSERT(bytes != NULL);
    memcpy(bytes, data, size);
    if (size >= 4 && size % 2 == 0) {
        nx_store_u32(bytes, (uint32_t)size); /* worth more than to find this by chance */
    }
    int code = nx_fuse_parse(bytes, size, &request);
    if (code == NX_OK) {
        NX_ASSERT(request.head->len == size && request.head->opcode < NX_FUSE_OPCODES);
        within(bytes, size, request.data, request.data_size);
        if (request.name != NULL) {
            within(bytes, size, request.name, strlen(request.name) + 1);
        }
        if (request.second != NULL) {
            within(bytes, size, request.second, strlen(request.second) + 1);
        }
    }
    NX_ASSERT(code == NX_OK || code == NX_ECORRUPT || code == NX_EABSENT);
    free(bytes);
    return 0;
}
