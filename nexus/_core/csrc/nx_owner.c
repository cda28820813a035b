// SPDX-License-Identifier: Apache-2.0
/* Owner words from /proc and pidfd; see nx_owner.h. */
#include "nx_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define PID_BITS                 22
#define START_BITS               24
#define START_MASK               0xffffffu
#define NAMESPACE_SHIFT          (PID_BITS + START_BITS)
#define STAT_FIELDS_BEFORE_START 19 /* after the parenthesis: state is field 3, start time 22 */

uint32_t nx_owner_generation = 1;
static uint64_t self_word;
static uint32_t self_generation;
static bool proc_is_ours; /* /proc numbers processes as getpid() does */

static void count_fork(void)
{
    nx_owner_generation++;
}

__attribute__((constructor)) static void watch_forks(void)
{
    /* It fails for want of memory only, while the library loads; then nothing could work. */
    NX_ASSERT(pthread_atfork(NULL, NULL, count_fork) == 0);
}

/* Low bits of the start time of `pid` in clock ticks after boot, 0 when it cannot be known. */
static uint64_t start_time(uint32_t pid)
{
    char path[48];
    char text[1024];

    /* Of the first thread, which has the start time of the process: user-mode emulators forge
     * /proc/self/stat for its owner but for nobody else, and then the two would differ. */
    snprintf(path, sizeof path, "/proc/%u/task/%u/stat", pid, pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0) {
        return 0;
    }
    text[size] = '\0';
    /* The name in parentheses can hold anything, so the fields are counted from the last one. */
    const char *at = strrchr(text, ')');
    if (at == NULL) {
        return 0;
    }
    at++;
    for (int field = 0; field < STAT_FIELDS_BEFORE_START; field++) {
        at = strchr(at + 1, ' ');
        if (at == NULL) {
            return 0;
        }
    }
    return strtoull(at, NULL, 10) & START_MASK;
}

static bool proc_matches_pid(void)
{
    char target[16];
    ssize_t size = readlink("/proc/self", target, sizeof target - 1);

    if (size <= 0) {
        return false;
    }
    target[size] = '\0';
    return strtoul(target, NULL, 10) == (unsigned long)getpid();
}

uint64_t nx_owner_self(void)
{
    if (self_generation != nx_owner_generation) {
        struct stat namespace;
        uint64_t pid = (uint64_t)getpid();
        uint64_t space = stat("/proc/self/ns/pid", &namespace) == 0 ? namespace.st_ino : 0;

        proc_is_ours = proc_matches_pid();
        self_word = pid | (proc_is_ours ? start_time((uint32_t)pid) : 0) << PID_BITS |
                    space << NAMESPACE_SHIFT;
        self_generation = nx_owner_generation;
    }
    return self_word;
}

/* Whether no process has this pid, or only one that has exited. */
static bool is_gone(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd >= 0) {
        struct pollfd exited = {.fd = fd, .events = POLLIN};
        int ready = poll(&exited, 1, 0);
        close(fd);
        return ready == 1;
    }
    return errno == ESRCH || (kill(pid, 0) != 0 && errno == ESRCH);
}

bool nx_owner_is_dead(uint64_t owner)
{
    uint64_t self = nx_owner_self();
    uint32_t pid = nx_owner_pid(owner);

    if (owner == 0) {
        return true;
    }
    if (owner == self || pid == 0 || owner >> NAMESPACE_SHIFT == 0 ||
        owner >> NAMESPACE_SHIFT != self >> NAMESPACE_SHIFT) {
        return false;
    }
    if (is_gone((pid_t)pid)) {
        return true;
    }
    uint64_t started = (owner >> PID_BITS) & START_MASK;
    uint64_t now = proc_is_ours && started != 0 ? start_time(pid) : 0;
    return now != 0 && now != started;
}
