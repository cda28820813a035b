// SPDX-License-Identifier: Apache-2.0
/* Each probe tries the very call it asks about; see nx_probe.h. */
#include "nx_probe.h"

#include "nx_base.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers that every architecture shares, for C libraries older than the call. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
#ifndef SYS_membarrier
#error "the C library does not know membarrier"
#endif

#define LANDLOCK_CREATE_RULESET_VERSION_FLAG 1u
#define PIDFD_WAIT                           3 /* P_PIDFD of waitid(2) */
#define CLONE_PIDFD_FLAG                     0x1000u
#define ETHERTYPE_NEXUS                      0x88b5
#define HUGE_PAGE_SIZE                       (2u << 20)

static int result_of(long value)
{
    return value < 0 ? -errno : (int)value;
}

/* Runs `probe` in a child of its own and returns what it returned. */
static int in_child(int (*probe)(int), int argument)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -errno;
    }
    pid_t child = fork();
    if (child < 0) {
        int error = -errno;
        close(ends[0]);
        close(ends[1]);
        return error;
    }
    if (child == 0) {
        int result = probe(argument);
        ssize_t written = write(ends[1], &result, sizeof result);
        _exit(written == (ssize_t)sizeof result ? 0 : 1);
    }
    close(ends[1]);
    int result = -EPROTO;
    ssize_t got;
    do {
        got = read(ends[0], &result, sizeof result);
    } while (got < 0 && errno == EINTR);
    close(ends[0]);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    /* A child that was killed instead of answered (an outer sandbox) was refused. */
    return got == (ssize_t)sizeof result ? result : -EPERM;
}

int nx_probe_landlock(void)
{
    return result_of(
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION_FLAG));
}

int nx_probe_seccomp(void)
{
    static const uint32_t actions[] = {
        SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP,  SECCOMP_RET_ERRNO,
        SECCOMP_RET_USER_NOTIF,   SECCOMP_RET_TRACE, SECCOMP_RET_LOG,
    };
    int found = 0;

    for (unsigned i = 0; i < NX_ARRAY_COUNT(actions); i++) {
        uint32_t action = actions[i];
        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) {
            found |= 1 << i;
        } else if (errno != EOPNOTSUPP) {
            return -errno;
        }
    }
    return found;
}

static int enter_user_namespace(int unused)
{
    char line[32];
    int length = snprintf(line, sizeof line, "0 %u 1\n", (unsigned)geteuid());

    (void)unused;
    if (unshare(CLONE_NEWUSER) != 0) {
        return -errno;
    }
    int map = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (map < 0) {
        return -errno;
    }
    return write(map, line, (size_t)length) == length ? 0 : -errno;
}

int nx_probe_user_namespace(void)
{
    return in_child(enter_user_namespace, 0);
}

static int open_counter(uint32_t type, uint64_t config, bool kernel)
{
    struct perf_event_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = type;
    attr.config = config;
    attr.exclude_kernel = kernel ? 0 : 1;
    attr.exclude_hv = 1;
    long fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    close((int)fd);
    return 0;
}

int nx_probe_perf_clock(int kernel)
{
    return open_counter(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, kernel != 0);
}

int nx_probe_perf_hardware(void)
{
    return open_counter(PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, false);
}

int nx_probe_xdp(void)
{
    /* r0 = XDP_PASS; exit */
    struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    static const char licence[] = "Apache-2.0";
    union bpf_attr attr;

    memset(&attr, 0, sizeof attr);
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insn_cnt = NX_ARRAY_COUNT(program);
    attr.insns = (uint64_t)(uintptr_t)program;
    attr.license = (uint64_t)(uintptr_t)licence;
    long fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    if (fd < 0) {
        return -errno;
    }
    close((int)fd);
    return 0;
}

int nx_probe_af_packet(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, __builtin_bswap16(ETHERTYPE_NEXUS));

    if (fd < 0) {
        return -errno;
    }
    close(fd);
    return 0;
}

/* The layout of sched_setattr(2), first published version. */
struct scheduler_attributes {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns;
    uint64_t deadline_ns;
    uint64_t period_ns;
};
NX_STATIC_ASSERT(sizeof(struct scheduler_attributes) == 48, "sched_attr version 0");

static int enter_scheduler(int policy)
{
    struct scheduler_attributes attr = {.size = sizeof attr, .policy = (uint32_t)policy};

    if (policy == SCHED_FIFO || policy == SCHED_RR) {
        attr.priority = 1;
    } else if (policy == 6 /* SCHED_DEADLINE */) {
        attr.runtime_ns = 1000 * 1000;
        attr.deadline_ns = 100 * 1000 * 1000;
        attr.period_ns = 100 * 1000 * 1000;
    }
    return syscall(SYS_sched_setattr, 0, &attr, 0) == 0 ? 0 : -errno;
}

int nx_probe_scheduler(int policy)
{
    return in_child(enter_scheduler, policy);
}

int nx_probe_membarrier(void)
{
    return result_of(syscall(SYS_membarrier, 0 /* MEMBARRIER_CMD_QUERY */, 0, 0));
}

int nx_probe_memfd_seals(void)
{
    int fd = memfd_create("nexus-probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return -errno;
    }
    int result = 0;
    int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (ftruncate(fd, 1) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        result = -errno;
    } else if (pwrite(fd, "x", 1, 0) >= 0 || errno != EPERM) {
        result = -EPROTO;
    }
    close(fd);
    return result;
}

/* The first fields of struct clone_args, as clone3(2) accepts since 5.3. */
struct clone_arguments {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
};
NX_STATIC_ASSERT(sizeof(struct clone_arguments) == 64, "CLONE_ARGS_SIZE_VER0");

int nx_probe_pidfd(void)
{
    int pidfd = -1;
    struct clone_arguments arguments = {
        .flags = CLONE_PIDFD_FLAG,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);

    if (child == 0) {
        _exit(0);
    }
    if (child < 0) {
        return -errno;
    }
    siginfo_t info;
    int result = 0;
    if (waitid((idtype_t)PIDFD_WAIT, (id_t)pidfd, &info, WEXITED) != 0) {
        result = -errno;
        waitpid((pid_t)child, NULL, 0);
    }
    close(pidfd);
    return result;
}

static int touch_huge_page(int unused)
{
    (void)unused;
    /* Without a reserved page the mapping itself fails; the child keeps SIGBUS away from us. */
    char *page = mmap(NULL, HUGE_PAGE_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

    if (page == MAP_FAILED) {
        return -errno;
    }
    *(volatile char *)page = 1;
    return 0;
}

int nx_probe_huge_page(void)
{
    return in_child(touch_huge_page, 0);
}

int nx_probe_io_uring(void)
{
    uint32_t parameters[30] = {0}; /* struct io_uring_params is 120 bytes */
    long fd = syscall(SYS_io_uring_setup, 1, parameters);

    if (fd < 0) {
        return -errno;
    }
    close((int)fd);
    return 0;
}
