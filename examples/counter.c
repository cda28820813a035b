// SPDX-License-Identifier: Apache-2.0
/* A native fiber that counts in a local variable, and goes on counting when it was killed. */
#include "nexus_fiber.h"

#include <stdio.h>

static int count_to(void *argument)
{
    int total = 0;

    (void)argument; /* it would lie in the first life */
    for (int i = 1; i <= 5; i++) {
        total += i;
        int code = nx_fiber_checkpoint(NULL, 0);
        if (code < 0) {
            fprintf(stderr, "no checkpoint: %d\n", code);
            return 1;
        }
        printf("life %u: %d%s\n", nx_fiber_life_number(), total,
               code == NX_FIBER_RESTORED ? ", restored" : "");
        fflush(stdout);
    }
    return 0;
}

int main(int count, char **words, char **environment)
{
    int result = 1;
    int code = nx_fiber_begin(environment);

    (void)count;
    (void)words;
    if (code == NX_OK) {
        code = nx_fiber_run(count_to, NULL, &result);
    }
    if (code != NX_OK) {
        fprintf(stderr, "not run as a fiber: %d\n", code);
        return 1;
    }
    return result;
}
