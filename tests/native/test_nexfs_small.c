// SPDX-License-Identifier: Apache-2.0
/* NexFS's log: the checksum of the small build gives the bits of the large one. */
#include "nx_test.h"

#define NX_SMALL
#include "../../nexus/_core/csrc/nx_nexfs_data.c"

int main(void)
{
    static uint8_t data[70000];
    static const uint32_t sizes[] = {0,    1,    63,   64,   65,   1023, 1024,  1025,  2048,
                                     2049, 3072, 3073, 4096, 5000, 7168, 16384, 65536, 70000};
    uint64_t random = 1;

    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)nx_test_random(&random);
    }
    for (size_t i = 0; i < NX_ARRAY_COUNT(sizes); i++) {
        uint8_t small[NX_BLAKE3_OUT] = {0}, large[NX_BLAKE3_OUT];
        nx_blake3_mode mode;
        nx_blake3_mode_hash(&mode);
        nx_blake3_digest(&mode, data, sizes[i], large, sizeof large);
        nx_nexfs_checksum(NX_NEXFS_BLAKE3_256, data, sizes[i], small);
        CHECK(memcmp(small, large, sizeof large) == 0);
        memset(small, 0, sizeof small);
        nx_nexfs_checksum(NX_NEXFS_BLAKE3_128, data, sizes[i], small);
        CHECK(memcmp(small, large, 16) == 0 && small[16] == 0);
    }
    TEST_MAIN_END();
}
