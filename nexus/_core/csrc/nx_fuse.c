// SPDX-License-Identifier: Apache-2.0
#include "nx_fuse.h"

#include "nx_flash_place.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MINOR_OLDEST 31u
#define FLAGS                                                                                      \
    (FUSE_MAX_PAGES | FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS |                   \
     FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO)
#define WAKE_NS 10000000

typedef struct server {
    nx_fuse *fuse;
    pthread_t thread;
    int descriptor;
    bool runs;
    atomic_bool ended;
    uint8_t *buffer;
} server;

struct nx_fuse {
    const nx_fuse_verbs *verbs;
    void *self;
    atomic_bool stops;
    unsigned count;
    server servers[NX_FUSE_THREADS_MAX];
};

/* What follows the head: bytes of the argument, names, and whether data goes on to the end. */
typedef struct form {
    uint8_t known;
    uint8_t names;
    bool data;
    uint16_t size;
} form;

#define FORM(type, names_, data_)                                                                  \
    {.known = 1, .names = (names_), .data = (data_), .size = sizeof(struct type)}
#define NAMES(count) {.known = 1, .names = (count)}

static const form FORMS[NX_FUSE_OPCODES] = {
    [FUSE_LOOKUP] = NAMES(1),
    [FUSE_FORGET] = FORM(fuse_forget_in, 0, false),
    [FUSE_GETATTR] = FORM(fuse_getattr_in, 0, false),
    [FUSE_SETATTR] = FORM(fuse_setattr_in, 0, false),
    [FUSE_READLINK] = NAMES(0),
    [FUSE_SYMLINK] = NAMES(2),
    [FUSE_MKNOD] = FORM(fuse_mknod_in, 1, false),
    [FUSE_MKDIR] = FORM(fuse_mkdir_in, 1, false),
    [FUSE_UNLINK] = NAMES(1),
    [FUSE_RMDIR] = NAMES(1),
    [FUSE_RENAME] = FORM(fuse_rename_in, 2, false),
    [FUSE_LINK] = FORM(fuse_link_in, 1, false),
    [FUSE_OPEN] = FORM(fuse_open_in, 0, false),
    [FUSE_READ] = FORM(fuse_read_in, 0, false),
    [FUSE_WRITE] = FORM(fuse_write_in, 0, true),
    [FUSE_STATFS] = NAMES(0),
    [FUSE_RELEASE] = FORM(fuse_release_in, 0, false),
    [FUSE_FSYNC] = FORM(fuse_fsync_in, 0, false),
    /* The short form, without FUSE_SETXATTR_EXT. */
    [FUSE_SETXATTR] = {.known = 1, .names = 1, .data = true, .size = 8},
    [FUSE_GETXATTR] = FORM(fuse_getxattr_in, 1, false),
    [FUSE_LISTXATTR] = FORM(fuse_getxattr_in, 0, false),
    [FUSE_REMOVEXATTR] = NAMES(1),
    [FUSE_FLUSH] = FORM(fuse_flush_in, 0, false),
    [FUSE_INIT] = {.known = 1, .size = 16},
    [FUSE_OPENDIR] = FORM(fuse_open_in, 0, false),
    [FUSE_READDIR] = FORM(fuse_read_in, 0, false),
    [FUSE_RELEASEDIR] = FORM(fuse_release_in, 0, false),
    [FUSE_FSYNCDIR] = FORM(fuse_fsync_in, 0, false),
    [FUSE_ACCESS] = FORM(fuse_access_in, 0, false),
    [FUSE_CREATE] = FORM(fuse_create_in, 1, false),
    [FUSE_INTERRUPT] = FORM(fuse_interrupt_in, 0, false),
    [FUSE_DESTROY] = NAMES(0),
    [FUSE_BATCH_FORGET] = FORM(fuse_batch_forget_in, 0, true),
    [FUSE_FALLOCATE] = FORM(fuse_fallocate_in, 0, false),
    [FUSE_READDIRPLUS] = FORM(fuse_read_in, 0, false),
    [FUSE_RENAME2] = FORM(fuse_rename2_in, 2, false),
    [FUSE_LSEEK] = FORM(fuse_lseek_in, 0, false),
    [FUSE_SYNCFS] = FORM(fuse_syncfs_in, 0, false),
};

static const char *take_name(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *name = *at;
    const uint8_t *zero = name == end ? NULL : memchr(name, 0, (size_t)(end - name));

    *at = zero == NULL ? end : zero + 1;
    return zero == NULL ? NULL : (const char *)name;
}

static bool data_is_right(uint32_t opcode, const nx_fuse_request *request)
{
    if (opcode == FUSE_WRITE) {
        const struct fuse_write_in *in = request->argument;
        return in->size == request->data_size;
    }
    if (opcode == FUSE_SETXATTR) {
        return nx_load_u32(request->argument) == request->data_size;
    }
    if (opcode == FUSE_BATCH_FORGET) {
        const struct fuse_batch_forget_in *in = request->argument;
        return in->count <= request->data_size / sizeof(struct fuse_forget_one);
    }
    return true;
}

int nx_fuse_parse(const void *data, size_t size, nx_fuse_request *ret)
{
    const struct fuse_in_header *head = data;
    const uint8_t *at = (const uint8_t *)data + sizeof *head;
    const uint8_t *end = (const uint8_t *)data + size;
    nx_fuse_request request = {.head = head};

    if (size < sizeof *head || head->len != size) {
        return NX_ECORRUPT;
    }
    *ret = request;
    if (head->opcode >= NX_FUSE_OPCODES || !FORMS[head->opcode].known) {
        return NX_EABSENT;
    }
    const form *expected = &FORMS[head->opcode];
    if ((size_t)(end - at) < expected->size) {
        return NX_ECORRUPT;
    }
    request.argument = at;
    at += expected->size;
    request.name = expected->names > 0 ? take_name(&at, end) : NULL;
    request.second = expected->names > 1 ? take_name(&at, end) : NULL;
    if ((expected->names > 0 && request.name == NULL) ||
        (expected->names > 1 && request.second == NULL)) {
        return NX_ECORRUPT;
    }
    request.data = at;
    request.data_size = expected->data ? (size_t)(end - at) : 0;
    if (!data_is_right(head->opcode, &request)) {
        return NX_ECORRUPT;
    }
    *ret = request;
    return NX_OK;
}

/* ENOENT says that the request was interrupted or its filesystem is gone: nobody waits. */
void nx_fuse_reply_parts(nx_fuse_request *request, struct iovec *parts, size_t count)
{
    struct fuse_out_header head = {.len = sizeof head, .unique = request->head->unique};

    NX_ASSERT(!request->answered && count <= NX_FUSE_PARTS_MAX);
    request->answered = true;
    for (size_t i = 1; i < count; i++) {
        head.len += (uint32_t)parts[i].iov_len;
    }
    parts[0] = (struct iovec){.iov_base = &head, .iov_len = sizeof head};
    if (writev(request->descriptor, parts, (int)count) < 0 && errno != ENOENT && errno != ENODEV) {
        struct fuse_out_header failed = {
            .len = sizeof failed, .unique = head.unique, .error = -EIO};
        (void)!write(request->descriptor, &failed, sizeof failed);
    }
}

void nx_fuse_reply(nx_fuse_request *request, const void *data, size_t size)
{
    struct iovec parts[2] = {{0}, {.iov_base = (void *)(uintptr_t)data, .iov_len = size}};

    nx_fuse_reply_parts(request, parts, size == 0 ? 1 : 2);
}

void nx_fuse_error(nx_fuse_request *request, int reason)
{
    struct fuse_out_header head = {
        .len = sizeof head, .error = -reason, .unique = request->head->unique};

    NX_ASSERT(!request->answered);
    request->answered = true;
    (void)!write(request->descriptor, &head, sizeof head);
}

nx_fuse_request *nx_fuse_park(nx_fuse_request *request)
{
    uint32_t size = request->head->len;
    nx_fuse_request *parked = malloc(sizeof *parked + size);

    NX_ASSERT(!request->answered);
    if (parked == NULL) {
        return NULL;
    }
    memcpy(parked + 1, request->head, size);
    (void)nx_fuse_parse(parked + 1, size, parked); /* it was right before */
    parked->descriptor = request->descriptor;
    request->answered = true;
    return parked;
}

static void init(const nx_fuse *fuse, nx_fuse_request *request)
{
    const struct fuse_init_in *in = request->argument;
    uint32_t wanted = FLAGS | fuse->verbs->flags;
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = in->max_readahead,
        .flags = wanted & in->flags,
        .max_background = 32,
        .congestion_threshold = 24,
        .max_write = NX_FUSE_DATA_MAX,
        .time_gran = 1,
        .max_pages = NX_FUSE_DATA_MAX / 4096,
    };

    if (in->major < FUSE_KERNEL_VERSION || in->minor < MINOR_OLDEST) {
        nx_fuse_error(request, EPROTO);
    } else if (in->major > FUSE_KERNEL_VERSION) {
        struct fuse_init_out older = {.major = FUSE_KERNEL_VERSION};
        nx_fuse_reply(request, &older, sizeof older); /* it asks again, with ours */
    } else {
        nx_fuse_reply(request, &out, sizeof out);
    }
}

static void serve(server *one, size_t size)
{
    const nx_fuse *fuse = one->fuse;
    nx_fuse_request request;
    int code = nx_fuse_parse(one->buffer, size, &request);

    if (size < sizeof(struct fuse_in_header)) {
        return;
    }
    request.head = (const struct fuse_in_header *)(const void *)one->buffer;
    request.descriptor = one->descriptor;
    request.answered = false;
    uint32_t opcode = request.head->opcode;
    bool silent = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
    if (code == NX_OK && opcode == FUSE_INIT) {
        init(fuse, &request);
        return;
    }
    nx_fuse_verb *verb = code == NX_OK ? fuse->verbs->verbs[opcode] : NULL;
    if (verb != NULL) {
        verb(fuse->self, &request);
        NX_ASSERT(silent || request.answered);
    } else if (!silent) {
        nx_fuse_error(&request, code == NX_ECORRUPT ? EIO : opcode == FUSE_DESTROY ? 0 : ENOSYS);
    }
}

static void *loop(void *self)
{
    server *one = self;

    while (!atomic_load(&one->fuse->stops)) {
        ssize_t size = read(one->descriptor, one->buffer, NX_FUSE_REQUEST_MAX);
        if (size > 0) {
            serve(one, (size_t)size);
        } else if (size < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN) {
            break; /* ENODEV: it is unmounted */
        }
    }
    atomic_store(&one->ended, true);
    return NULL;
}

/* Wakes a thread out of its read; without effect if it comes too early, so it is sent again. */
static void nothing(int signal)
{
    (void)signal;
}

int nx_fuse_create(int descriptor, unsigned threads, const nx_fuse_verbs *verbs, void *self,
                   nx_fuse **ret)
{
    if (threads == 0 || threads > NX_FUSE_THREADS_MAX) {
        return NX_EINVAL;
    }
    nx_fuse *fuse = calloc(1, sizeof *fuse);
    if (fuse == NULL) {
        return NX_ENOMEM;
    }
    fuse->verbs = verbs;
    fuse->self = self;
    fuse->count = threads;
    bool whole = true;
    for (unsigned i = 0; i < threads; i++) {
        fuse->servers[i] = (server){.fuse = fuse, .descriptor = -1};
        fuse->servers[i].buffer = aligned_alloc(4096, NX_FUSE_REQUEST_MAX);
        whole = whole && fuse->servers[i].buffer != NULL;
    }
    if (!whole) {
        nx_fuse_destroy(fuse);
        return NX_ENOMEM;
    }
    fuse->servers[0].descriptor = descriptor;
    *ret = fuse;
    return NX_OK;
}

/* A descriptor with a queue of its own. Without it the threads share one: slower, and right. */
static int clone_descriptor(int descriptor)
{
    uint32_t source = (uint32_t)descriptor;
    int clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (clone >= 0 && nx_flash_ioctl(clone, FUSE_DEV_IOC_CLONE, &source) != 0) {
        (void)close(clone);
        clone = -1;
    }
    return clone < 0 ? fcntl(descriptor, F_DUPFD_CLOEXEC, 0) : clone;
}

int nx_fuse_start(nx_fuse *fuse)
{
    struct sigaction action = {.sa_handler = nothing};

    (void)sigaction(SIGRTMIN + 4, &action, NULL);
    for (unsigned i = 0; i < fuse->count; i++) {
        server *one = &fuse->servers[i];
        if (i > 0) {
            one->descriptor = clone_descriptor(fuse->servers[0].descriptor);
        }
        int code = one->descriptor < 0 ? errno : 0;
        sigset_t all;
        sigset_t before;
        (void)sigfillset(&all);
        (void)sigdelset(&all, SIGRTMIN + 4);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        if (code == 0) {
            code = pthread_create(&one->thread, NULL, loop, one);
        }
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (code != 0) {
            errno = code;
            return NX_ESYS;
        }
        one->runs = true;
    }
    return NX_OK;
}

bool nx_fuse_ended(nx_fuse *fuse)
{
    for (unsigned i = 0; i < fuse->count; i++) {
        if (fuse->servers[i].runs && !atomic_load(&fuse->servers[i].ended)) {
            return false;
        }
    }
    return true;
}

void nx_fuse_stop(nx_fuse *fuse)
{
    struct timespec pause = {.tv_nsec = WAKE_NS};

    atomic_store(&fuse->stops, true);
    while (!nx_fuse_ended(fuse)) {
        for (unsigned i = 0; i < fuse->count; i++) {
            if (fuse->servers[i].runs && !atomic_load(&fuse->servers[i].ended)) {
                (void)pthread_kill(fuse->servers[i].thread, SIGRTMIN + 4);
            }
        }
        (void)nanosleep(&pause, NULL);
    }
    for (unsigned i = 0; i < fuse->count; i++) {
        if (fuse->servers[i].runs) {
            (void)pthread_join(fuse->servers[i].thread, NULL);
            fuse->servers[i].runs = false;
        }
    }
}

void nx_fuse_destroy(nx_fuse *fuse)
{
    nx_fuse_stop(fuse);
    for (unsigned i = 0; i < fuse->count; i++) {
        if (fuse->servers[i].descriptor >= 0) {
            (void)close(fuse->servers[i].descriptor);
        }
        free(fuse->servers[i].buffer);
    }
    free(fuse);
}

void nx_fuse_forget_name(nx_fuse *fuse, uint64_t parent, const char *name)
{
    size_t size = strlen(name);
    struct fuse_notify_inval_entry_out out = {.parent = parent, .namelen = (uint32_t)size};
    struct fuse_out_header head = {.len = (uint32_t)(sizeof head + sizeof out + size + 1),
                                   .error = FUSE_NOTIFY_INVAL_ENTRY};
    struct iovec parts[3] = {{.iov_base = &head, .iov_len = sizeof head},
                             {.iov_base = &out, .iov_len = sizeof out},
                             {.iov_base = (void *)(uintptr_t)name, .iov_len = size + 1}};

    (void)!writev(fuse->servers[0].descriptor, parts, 3);
}
