// SPDX-License-Identifier: Apache-2.0
/* What no manifest can give: io_uring, the 32-bit entry, a call that no promise opens. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    char parameters[256] = {0};

    if (argc != 2) {
        return 2;
    }
    if (strcmp(argv[1], "ring") == 0) {
        long got = syscall(SYS_io_uring_setup, 1, parameters);
        return got == -1 && errno == ENOSYS ? 0 : 1;
    }
    if (strcmp(argv[1], "mount") == 0) {
        (void)mount("none", "/nowhere", "none", 0, NULL);
        return 0;
    }
#if defined(__x86_64__)
    if (strcmp(argv[1], "entry") == 0) {
        long result = 20; /* getpid of the 32-bit table */
        __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
        return result == getpid() || result == -ENOSYS ? 0 : 1;
    }
#endif
    return 3;
}
