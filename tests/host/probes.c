// SPDX-License-Identifier: Apache-2.0
/*
 * Tries to reach from inside a fiber what lies outside; a static program, run confined and not.
 *
 *   probes try FOLDER VICTIM TCP UDP NAME   one line for each probe: its name and an errno,
 *                                           0 when it got through, SIGn when it was ended
 *   probes victim NAME                      makes the queue and memory, until stdin ends: someone
 *                                           to harm
 *   probes exit                             does nothing: someone to execute
 *
 * FOLDER holds the files file, link, program, the directory dir and the socket; NAME is that of an
 * abstract socket and, behind a slash, of a message queue. Each probe has a process of its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <mqueue.h>
#include <netpacket/packet.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *folder;
static const char *name;
static int victim;
static int tcp_port;
static int udp_port;
/* At the same address in the victim, which is this program too. */
static char secret[] = "secret of the victim";

/* A path below the folder; one at a time. */
static const char *at(const char *entry)
{
    static char path[4096];

    snprintf(path, sizeof path, "%s/%s", folder, entry);
    return path;
}

static long probe_stat(void)
{
    struct stat found;
    return stat(at("file"), &found);
}

static long probe_access(void)
{
    return access(at("file"), R_OK);
}

static long probe_chdir(void)
{
    return chdir(at("dir"));
}

static long probe_readlink(void)
{
    char text[64];
    return readlink(at("link"), text, sizeof text);
}

static long probe_chmod(void)
{
    return chmod(at("file"), 0666);
}

static long probe_chown(void)
{
    return chown(at("file"), geteuid(), getegid());
}

static long probe_utimensat(void)
{
    return utimensat(AT_FDCWD, at("file"), NULL, 0);
}

static long probe_setxattr(void)
{
    return setxattr(at("file"), "user.nexus", "1", 1, 0);
}

static long probe_inotify(void)
{
    return inotify_add_watch(inotify_init1(0), at("dir"), IN_ALL_EVENTS);
}

static long probe_statfs(void)
{
    struct statfs found;
    return statfs(at("file"), &found);
}

static long probe_open(void)
{
    return open(at("file"), O_RDONLY);
}

static long probe_truncate(void)
{
    return truncate(at("file"), 3);
}

static long probe_unlink(void)
{
    return unlink(at("gone"));
}

static long probe_exec(void)
{
    return execl(at("program"), "program", "exit", NULL);
}

static long connect_unix(const char *path, int abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    int handle = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(address.sun_path + abstract, path, size);
    return handle < 0 ? -1
                      : connect(handle, (struct sockaddr *)&address,
                                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1));
}

static long probe_unix_path(void)
{
    return connect_unix(at("socket"), 0);
}

static long probe_unix_abstract(void)
{
    return connect_unix(name, 1) < 0 ? -1 : 0;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static long probe_udp(void)
{
    struct sockaddr_in address = loopback(udp_port);
    int handle = socket(AF_INET, SOCK_DGRAM, 0);

    if (handle < 0 || connect(handle, (struct sockaddr *)&address, sizeof address) < 0) {
        return -1;
    }
    /* A port without a listener answers, which the second call is told. */
    if (send(handle, "x", 1, 0) < 0) {
        return -1;
    }
    usleep(1000);
    return send(handle, "x", 1, 0);
}

static long probe_tcp(void)
{
    struct sockaddr_in address = loopback(tcp_port);
    int handle = socket(AF_INET, SOCK_STREAM, 0);

    return handle < 0 ? -1 : connect(handle, (struct sockaddr *)&address, sizeof address);
}

static long probe_packet(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}

/* Of the name, as the queue's. */
static key_t shared_key(void)
{
    key_t key = 1;

    for (const char *letter = name; *letter != '\0'; letter++) {
        key = (key_t)((unsigned)key * 31 + (unsigned char)*letter);
    }
    return key & 0x7fffffff;
}

static long probe_shmget(void)
{
    return shmget(shared_key(), 0, 0600);
}

static long probe_mq_open(void)
{
    char queue[128];

    snprintf(queue, sizeof queue, "/%s", name);
    return mq_open(queue, O_RDONLY);
}

static long probe_bpf(void)
{
    union bpf_attr wanted = {
        .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &wanted, sizeof wanted);
}

static long probe_io_uring(void)
{
    struct io_uring_params wanted = {0};
    return syscall(SYS_io_uring_setup, 4, &wanted);
}

static long probe_userfaultfd(void)
{
    return syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */);
}

static long probe_perf(void)
{
    struct perf_event_attr wanted = {
        .type = PERF_TYPE_SOFTWARE,
        .size = sizeof wanted,
        .config = PERF_COUNT_SW_TASK_CLOCK,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0);
}

static long probe_signal(void)
{
    return kill(victim, 0);
}

static long probe_ptrace(void)
{
    return ptrace(PTRACE_SEIZE, victim, NULL, NULL);
}

static long probe_read_memory(void)
{
    char copy[sizeof secret];
    struct iovec local = {copy, sizeof copy};
    struct iovec remote = {secret, sizeof secret};

    return process_vm_readv(victim, &local, 1, &remote, 1, 0);
}

static long probe_environ(void)
{
    char path[64];
    char text[64];

    snprintf(path, sizeof path, "/proc/%d/environ", victim);
    int handle = open(path, O_RDONLY);
    return handle < 0 ? -1 : read(handle, text, sizeof text);
}

static long probe_mount(void)
{
    long result = mount("none", at("dir"), "tmpfs", 0, NULL);

    if (result == 0) {
        (void)umount2(at("dir"), MNT_DETACH);
    }
    return result;
}

static long probe_entry_32(void)
{
#if defined(__x86_64__)
    long result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(20L) /* getpid */
                     : "memory", "r8", "r9", "r10", "r11");
    if (result >= 0) {
        return result;
    }
    errno = (int)-result;
#else
    errno = ENOSYS;
#endif
    return -1;
}

static long probe_entry_x32(void)
{
#if defined(__x86_64__)
    return syscall(SYS_getpid | 0x40000000);
#else
    errno = ENOSYS;
    return -1;
#endif
}

/* What root may do without a capability: files of the kernel ask for the user id alone. */
static long probe_sysctl(void)
{
    int reads = open("/proc/sys/kernel/core_pattern", O_RDONLY);

    return reads < 0 ? -1 : open("/proc/sys/kernel/core_pattern", O_WRONLY);
}

/* Makes memory and a queue of the host, which go when stdin ends. */
static int be_victim(void)
{
    char queue[128];
    char nothing;

    /* Without capabilities, which would hold a fiber of root off that has none. */
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    long dropped = syscall(SYS_capset, &header, none);

    snprintf(queue, sizeof queue, "/%s", name);
    int memory = shmget(shared_key(), 4096, IPC_CREAT | 0600);
    mqd_t messages = mq_open(queue, O_CREAT | O_RDWR, 0600, NULL);
    printf("%s\n", dropped < 0 || memory < 0 || messages < 0 ? "failed" : "ready");
    fflush(stdout);
    while (read(0, &nothing, 1) > 0) {
    }
    mq_unlink(queue);
    return shmctl(memory, IPC_RMID, NULL) == 0 ? 0 : 1;
}

static const struct {
    const char *name;
    long (*run)(void);
} probes[] = {
    {"stat", probe_stat},
    {"access", probe_access},
    {"chdir", probe_chdir},
    {"readlink", probe_readlink},
    {"chmod", probe_chmod},
    {"chown", probe_chown},
    {"utimensat", probe_utimensat},
    {"setxattr", probe_setxattr},
    {"inotify", probe_inotify},
    {"statfs", probe_statfs},
    {"unix_path", probe_unix_path},
    {"unix_abstract", probe_unix_abstract},
    {"udp", probe_udp},
    {"tcp", probe_tcp},
    {"packet", probe_packet},
    {"shmget", probe_shmget},
    {"mq_open", probe_mq_open},
    {"bpf", probe_bpf},
    {"io_uring", probe_io_uring},
    {"userfaultfd", probe_userfaultfd},
    {"perf", probe_perf},
    {"ptrace", probe_ptrace},
    {"read_memory", probe_read_memory},
    {"signal", probe_signal},
    {"environ", probe_environ},
    {"mount", probe_mount},
    {"open", probe_open},
    {"truncate", probe_truncate},
    {"unlink", probe_unlink},
    {"exec", probe_exec},
    {"entry_32", probe_entry_32},
    {"entry_x32", probe_entry_x32},
    {"sysctl", probe_sysctl},
};

static void try(const char *what, long (*run)(void))
{
    int ends[2];
    int error = 0; /* what an executed program leaves it at */
    int status = 0;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        exit(3);
    }
    pid_t child = fork();
    if (child == 0) {
        long result = run();
        error = result < 0 ? errno : 0;
        _exit(write(ends[1], &error, sizeof error) == (ssize_t)sizeof error ? 0 : 4);
    }
    close(ends[1]);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        exit(5);
    }
    if (WIFSIGNALED(status)) {
        printf("%s SIG%d\n", what, WTERMSIG(status));
    } else {
        if (read(ends[0], &error, sizeof error) < 0 || WEXITSTATUS(status) != 0) {
            exit(6);
        }
        printf("%s %d\n", what, error);
    }
    close(ends[0]);
}

int main(int count, char **words)
{
    if (count == 3 && strcmp(words[1], "victim") == 0) {
        name = words[2];
        return be_victim();
    }
    if (count != 7) {
        return count == 2 ? 0 : 2;
    }
    folder = words[2];
    victim = atoi(words[3]);
    tcp_port = atoi(words[4]);
    udp_port = atoi(words[5]);
    name = words[6];
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        try(probes[i].name, probes[i].run);
        fflush(stdout);
    }
    return 0;
}
