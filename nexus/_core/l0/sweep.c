// SPDX-License-Identifier: Apache-2.0
/* Who is below a warden: its fiber, and whoever a life left behind, whose end is here. */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/sched.h>

#define ESRCH_           3
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

int32_t nx_l0_fiber_pid(int32_t warden)
{
    char path[64];
    char list[16];
    nx_l0_digits digits;
    const char *number = nx_l0_decimal(&digits, (uint64_t)warden);
    int32_t pid = 0;

    nx_l0_join(path, (const char *[]){"/proc/", number, "/task/", number, "/children"}, 5);
    long size = read_list(path, list, sizeof list);
    for (long i = 0; i < size && list[i] >= '0' && list[i] <= '9'; i++) {
        pid = pid * 10 + (list[i] - '0');
    }
    return size < 0 ? (int32_t)size : pid > 0 ? pid : -ESRCH_;
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
