// SPDX-License-Identifier: Apache-2.0
/* The one function of nx_base.h that needs a host: the end of a broken run. */
#include "nx_base.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *text)
{
    /* A failed write has nowhere to be reported: the process is about to abort. */
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

void nx_panic(const char *condition, const char *file, int line)
{
    char digits[12];
    size_t at = sizeof digits;

    digits[--at] = '\0';
    unsigned rest = line > 0 ? (unsigned)line : 0;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0 && at > 0);
    put("nexus: assertion failed: ");
    put(condition);
    put(" at ");
    put(file);
    put(":");
    put(&digits[at]);
    put("\n");
    abort();
}
