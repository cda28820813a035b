// SPDX-License-Identifier: Apache-2.0
/* A main for a harness without libFuzzer: runs the inputs of a folder once each. */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>

#define INPUT_MAX (1u << 20)

static void run_file(const char *folder, const char *name)
{
    static uint8_t text[INPUT_MAX];
    char path[4096];

    NX_ASSERT(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    FILE *file = fopen(path, "rb");
    NX_ASSERT(file != NULL);
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    printf("%s: %zu bytes\n", path, size);
    fflush(stdout);
    uint8_t *exact = exact_copy(text, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int count, char **arguments)
{
    int inputs = 0;

    for (int i = 1; i < count; i++) {
        DIR *folder = opendir(arguments[i]);
        NX_ASSERT(folder != NULL);
        for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
            if (entry->d_name[0] != '.') {
                run_file(arguments[i], entry->d_name);
                inputs++;
            }
        }
        closedir(folder);
    }
    printf("%d inputs\n", inputs);
    return inputs > 0 ? 0 : 1;
}
