// SPDX-License-Identifier: Apache-2.0
/* The canary: an overflow behind two comparisons, which ./dev fuzz must find or fail. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    volatile uint8_t *table = exact_copy("0123456789abcdef", 16);
    size_t count = eat(&in, 1) ^ 0x5a;

    if (count >= 1 && count <= 16 && eat(&in, 2) == 0x4e58) {
        table[0] = table[count]; /* planted: 16 is one too far */
    }
    free((void *)(uintptr_t)table);
    return 0;
}
