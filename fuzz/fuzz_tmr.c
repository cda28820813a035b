// SPDX-License-Identifier: Apache-2.0
/* Triple redundancy: every level votes as the bit majority of the three copies says. */
#include "fuzz.h"
#include "nx_tmr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    nx_simd levels[5];
    size_t length = eat(&in, 2) % 2048;
    uint8_t *copies[3], *voted[3], *majority = stretch(&(nx_input){in.at, in.size}, length);
    uint64_t wrong[3] = {0, 0, 0};

    for (unsigned c = 0; c < 3; c++) {
        copies[c] = exact_copy(majority, length);
    }
    while (in.size > 0 && length > 0) {
        poke(&in, copies[eat(&in, 1) % 3], length);
    }
    for (size_t i = 0; i < length; i++) {
        unsigned sum = 0;
        for (unsigned bit = 1; bit < 256; bit *= 2) {
            sum += !!(copies[0][i] & bit) + !!(copies[1][i] & bit) + !!(copies[2][i] & bit) > 1
                       ? bit
                       : 0;
        }
        majority[i] = (uint8_t)sum;
        for (unsigned c = 0; c < 3; c++) {
            wrong[c] += copies[c][i] != sum;
        }
    }
    for (unsigned l = 0, count = levels_here(levels); l < count; l++) {
        nx_tmr_repairs repairs;
        nx_tmr_select(levels[l]);
        for (unsigned c = 0; c < 3; c++) {
            voted[c] = exact_copy(copies[c], length);
        }
        bool differ = nx_tmr_differs(voted[0], voted[1], voted[2], length);
        NX_ASSERT(differ == (wrong[0] + wrong[1] + wrong[2] > 0));
        nx_tmr_vote(voted[0], voted[1], voted[2], length, &repairs);
        for (unsigned c = 0; c < 3; c++) {
            NX_ASSERT(length == 0 || memcmp(voted[c], majority, length) == 0);
            NX_ASSERT(repairs.bytes[c] == wrong[c]);
            free(voted[c]);
        }
    }
    for (unsigned c = 0; c < 3; c++) {
        free(copies[c]);
    }
    free(majority);
    return 0;
}
