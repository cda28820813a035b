// SPDX-License-Identifier: Apache-2.0
/*
 * The first process of a test guest: mounts the host's files, then runs commands for the host.
 *
 * The host's root comes over 9p and is read-only; a tmpfs above it takes what is written, and is
 * lost with the guest. Commands come over a virtio serial port. A request is a length (u32) and
 * that many bytes of NUL-terminated strings: the folder, the environment, an empty string, the
 * command. The answer is a run of frames, each of kind (u32), length (u32) and bytes: 'o' and
 * 'e' are output, 'x' is the end with an exit status (128 + N for signal N). 'r' says once that
 * the guest is ready. Numbers are little-endian.
 *
 * The guest powers itself off when its port closes, when its lifetime (the kernel parameter
 * `lifetime`, in seconds) is over, and when it cannot go on; it says why on the console.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    REQUEST_MAX = 1 << 16,
    STRINGS_MAX = 1024,
    CHUNK_MAX = 1 << 16,
    PORT_TRIES_MAX = 1000, /* of 10 ms: the port appears after its driver has talked to QEMU */
};

/* Its first number is the device's rank among all of virtio. */
static const char PORT[] = "/dev/vport*p1";

static void power_off(const char *what, int code)
{
    dprintf(STDERR_FILENO, "init: %s%s%s\n", what, code != 0 ? ": " : "",
            code != 0 ? strerror(code) : "");
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}

static void on_lifetime(int number)
{
    (void)number;
    static const char text[] = "init: the guest's lifetime is over\n";
    (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
    reboot(RB_POWER_OFF);
}

static void mount_at(const char *type, const char *place, const char *source, const char *options)
{
    unsigned long flags = strcmp(type, "9p") == 0 ? MS_RDONLY : 0;
    (void)mkdir(place, 0755);
    if (mount(source, place, type, flags, options) != 0) {
        power_off(place, errno);
    }
}

static void open_console(void)
{
    int fd = open("/dev/console", O_RDWR);
    if (fd < 0) {
        power_off("/dev/console", errno);
    }
    for (int i = 0; i < 3; i++) {
        (void)dup2(fd, i);
    }
    if (fd > 2) {
        (void)close(fd);
    }
}

static void load_modules(void)
{
    char line[256];
    FILE *list = fopen("/modules", "re");
    if (list == NULL) {
        power_off("/modules", errno);
    }
    while (fgets(line, sizeof(line), list) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *parameters = line + strcspn(line, " ");
        if (*parameters != '\0') {
            *parameters++ = '\0';
        }
        int fd = open(line, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || syscall(SYS_finit_module, fd, parameters, 0) != 0) {
            power_off(line, errno);
        }
        (void)close(fd);
    }
    (void)fclose(list);
}

static int open_port(void)
{
    for (int i = 0; i < PORT_TRIES_MAX; i++) {
        glob_t found = {0};
        int fd =
            glob(PORT, 0, NULL, &found) == 0 ? open(found.gl_pathv[0], O_RDWR | O_CLOEXEC) : -1;
        globfree(&found);
        if (fd >= 0) {
            return fd;
        }
        (void)usleep(10000);
    }
    power_off(PORT, ENODEV);
    return -1;
}

static void enter_host_files(void)
{
    mount_at("9p", "/host", "host", "trans=virtio,version=9p2000.L,msize=512000,cache=loose");
    mount_at("tmpfs", "/over", "tmpfs", "");
    (void)mkdir("/over/upper", 0755);
    (void)mkdir("/over/work", 0755);
    mount_at("overlay", "/new", "overlay",
             "lowerdir=/host,upperdir=/over/upper,workdir=/over/work");
    mount_at("proc", "/new/proc", "proc", "");
    mount_at("sysfs", "/new/sys", "sysfs", "");
    mount_at("cgroup2", "/new/sys/fs/cgroup", "cgroup2", "");
    mount_at("devtmpfs", "/new/dev", "devtmpfs", "");
    mount_at("devpts", "/new/dev/pts", "devpts", "");
    mount_at("tmpfs", "/new/dev/shm", "tmpfs", "");
    /* Moved over the root, not only entered: a process in a mere chroot gets no user namespace. */
    if (chdir("/new") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
        chdir("/") != 0) {
        power_off("root", errno);
    }
}

static void read_all(int port, void *data, size_t size)
{
    for (char *at = data; size > 0;) {
        ssize_t got = read(port, at, size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            power_off("the host closed the port", 0);
        }
        at += got;
        size -= (size_t)got;
    }
}

static void send_frame(int port, char kind, const void *data, uint32_t size)
{
    uint32_t head[2] = {(uint32_t)kind, size};
    const char *parts[2] = {(const char *)head, data};
    size_t sizes[2] = {sizeof(head), size};
    for (int i = 0; i < 2; i++) {
        while (sizes[i] > 0) {
            ssize_t put = write(port, parts[i], sizes[i]);
            if (put < 0 && errno != EINTR) {
                power_off("the host closed the port", errno);
            }
            if (put > 0) {
                parts[i] += put;
                sizes[i] -= (size_t)put;
            }
        }
    }
}

/* Splits a request in place: strings[0] is the folder, the environment starts at strings[1] and
 * ends with NULL, the command starts at the index returned and ends with NULL too. */
static size_t split(char *request, size_t size, char **strings)
{
    size_t count = 0;
    size_t command = 0;
    for (char *at = request; at < request + size; at += strlen(at) + 1) {
        if (count + 2 > STRINGS_MAX) {
            power_off("too many strings in a request", 0);
        }
        bool environment_ends = *at == '\0' && command == 0 && count > 0;
        strings[count++] = environment_ends ? NULL : at;
        if (environment_ends) {
            command = count;
        }
    }
    strings[count] = NULL;
    return command;
}

static pid_t start(char **strings, size_t command, int output, int error)
{
    pid_t child = fork();
    if (child != 0) {
        return child;
    }
    (void)dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    (void)dup2(output, STDOUT_FILENO);
    (void)dup2(error, STDERR_FILENO);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)setsid();
    if (chdir(strings[0]) == 0) {
        (void)execvpe(strings[command], &strings[command], &strings[1]);
    }
    dprintf(STDERR_FILENO, "init: %s in %s: %s\n", strings[command], strings[0], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
}

/* Sends on what the command prints until both of its ends are closed. */
static void forward(int port, int output, int error)
{
    static char chunk[CHUNK_MAX];
    struct pollfd polled[3] = {{.fd = output, .events = POLLIN},
                               {.fd = error, .events = POLLIN},
                               {.fd = port, .events = 0}};
    while (polled[0].fd >= 0 || polled[1].fd >= 0) {
        if (poll(polled, 3, -1) < 0 && errno != EINTR) {
            power_off("poll", errno);
        }
        if ((polled[2].revents & POLLHUP) != 0) {
            power_off("the host closed the port", 0);
        }
        for (int i = 0; i < 2; i++) {
            if (polled[i].fd < 0 || polled[i].revents == 0) {
                continue;
            }
            ssize_t got = read(polled[i].fd, chunk, sizeof(chunk));
            if (got > 0) {
                send_frame(port, i == 0 ? 'o' : 'e', chunk, (uint32_t)got);
            } else {
                (void)close(polled[i].fd);
                polled[i].fd = -1;
            }
        }
    }
}

static void run(int port, char **strings, size_t command)
{
    int output[2];
    int error[2];
    int status = 0;
    if (pipe2(output, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0) {
        power_off("pipe", errno);
    }
    pid_t child = start(strings, command, output[1], error[1]);
    if (child < 0) {
        power_off("fork", errno);
    }
    (void)close(output[1]);
    (void)close(error[1]);
    forward(port, output[0], error[0]);
    /* Orphans end here too. */
    for (pid_t ended = 0; ended != child;) {
        ended = wait(&status);
        if (ended < 0 && errno != EINTR) {
            power_off("wait", errno);
        }
    }
    uint32_t code = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    send_frame(port, 'x', &code, sizeof(code));
}

static void serve(int port)
{
    static char request[REQUEST_MAX];
    static char *strings[STRINGS_MAX];
    for (;;) {
        uint32_t size = 0;
        read_all(port, &size, sizeof(size));
        if (size == 0 || size > sizeof(request)) {
            power_off("a request of a wrong size", 0);
        }
        read_all(port, request, size);
        size_t command = request[size - 1] == '\0' ? split(request, size, strings) : 0;
        if (command == 0 || strings[command] == NULL) {
            power_off("a request without a command", 0);
        }
        run(port, strings, command);
    }
}

int main(void)
{
    mount_at("devtmpfs", "/dev", "devtmpfs", "");
    open_console();
    const char *lifetime = getenv("lifetime");
    (void)signal(SIGALRM, on_lifetime);
    (void)alarm(lifetime != NULL ? (unsigned)strtoul(lifetime, NULL, 10) : 300);
    (void)signal(SIGPIPE, SIG_IGN);
    load_modules();
    int port = open_port();
    enter_host_files();
    send_frame(port, 'r', "", 0);
    serve(port);
}
