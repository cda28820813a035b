// SPDX-License-Identifier: Apache-2.0
/* Reads sizes of four bytes and manifests from stdin; prints a line for each: the parser's code. */
#include "bkdl_walk.h"

#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    static volatile uint64_t seen;
    uint32_t size;

    while (fread(&size, sizeof size, 1, stdin) == 1) {
        uint8_t *bytes = malloc(size == 0 ? 1 : size);
        nx_bkdl manifest;
        if (bytes == NULL || fread(bytes, 1, size, stdin) != size) {
            return 1;
        }
        int result = nx_bkdl_parse(bytes, size, &manifest);
        if (result == NX_OK) {
            seen += walk_manifest(&manifest);
        }
        printf("%d\n", result);
        free(bytes);
    }
    return 0;
}
