// SPDX-License-Identifier: Apache-2.0
/* Tries to execute something without the promise: plainly, by the known constant, by guesses. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GUESSES 100000

static int outcome(long path)
{
    errno = 0;
    (void)syscall(SYS_execveat, AT_FDCWD, path, NULL, NULL, AT_EMPTY_PATH);
    return errno;
}

int main(int count, char **words)
{
    uint64_t seed = (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    int passed = 0;

    if (count > 2) {
        printf("executed\n");
        return 0;
    }
    (void)execv(words[1], (char *[]){words[0], words[1], "again", NULL});
    printf("execve %d\n", errno);
    printf("constant %d\n", outcome(0x4e58475554454741));
    printf("null %d\n", outcome(0));
    for (int i = 0; i < GUESSES; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        passed += outcome((long)(seed & ((1ull << 38) - 1))) != EPERM;
    }
    printf("guesses %d\n", passed);
    return 0;
}
