// SPDX-License-Identifier: Apache-2.0
/* Probes answer, and leave the process as it was: no descriptor, no child, no policy stays. */
#include "nx_probe.h"

#include "nx_test.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/wait.h>

static int open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    if (folder == NULL) {
        return -1;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

int main(void)
{
    int before = open_descriptors();
    int policy = sched_getscheduler(0);
    int answers[] = {
        nx_probe_landlock(),
        nx_probe_seccomp(),
        nx_probe_user_namespace(),
        nx_probe_perf_clock(0),
        nx_probe_perf_clock(1),
        nx_probe_perf_hardware(),
        nx_probe_xdp(),
        nx_probe_af_packet(),
        nx_probe_scheduler(SCHED_FIFO),
        nx_probe_scheduler(6),
        nx_probe_membarrier(),
        nx_probe_memfd_seals(),
        nx_probe_pidfd(),
        nx_probe_huge_page(),
        nx_probe_io_uring(),
        nx_probe_scheduler(SCHED_OTHER),
    };

    for (unsigned i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        CHECK(answers[i] > -4096);
        CHECK(answers[i] != -EPROTO);
    }
    /* What every process may always do, and what no kernel has. */
    CHECK_EQ(nx_probe_scheduler(SCHED_OTHER), 0);
    CHECK_EQ(nx_probe_scheduler(4), -EINVAL);
    CHECK_EQ(open_descriptors(), before);
    CHECK_EQ(sched_getscheduler(0), policy);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    TEST_MAIN_END();
}
