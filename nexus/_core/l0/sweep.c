// SPDX-License-Identifier: Apache-2.0
/* The end of whoever a life left behind. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/sched.h>

#define SIGKILL_         9
#define WNOHANG_         1
#define SWEEP_ROUNDS_MAX 1000

/* A list of children; its size or a negative errno. */
static long read_list(const char *path, char *list, size_t size)
{
    long descriptor = nx_sys(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

    if (descriptor < 0) {
        return descriptor;
    }
    long result = nx_sys(__NR_read, descriptor, list, size);
    (void)nx_sys(__NR_close, descriptor);
    return result;
}

void nx_l0_sweep(void)
{
    static const uint64_t pause[2] = {0, NX_L0_MS};
    char list[4096];

    /* Nothing may be opened in L0's table. */
    (void)nx_sys(__NR_unshare, CLONE_FILES);
    for (int round = 0; round < SWEEP_ROUNDS_MAX; round++) {
        long size = read_list("/proc/thread-self/children", list, sizeof list);
        if (size <= 0) {
            return;
        }
        uint32_t pid = 0;
        for (long i = 0; i < size; i++) {
            if (list[i] >= '0' && list[i] <= '9') {
                pid = pid * 10 + (uint32_t)(list[i] - '0');
            } else if (pid != 0) {
                (void)nx_sys(__NR_kill, pid, SIGKILL_);
                pid = 0;
            }
        }
        /* Their own children come to us when they go: look again. One that the kernel cannot end
         * now is not waited for for ever. */
        if (nx_sys(__NR_wait4, -1, NULL, WNOHANG_, NULL) <= 0) {
            (void)nx_sys(__NR_ppoll, NULL, 0, pause, NULL, 8);
        }
        while (nx_sys(__NR_wait4, -1, NULL, WNOHANG_, NULL) > 0) {
        }
    }
}
