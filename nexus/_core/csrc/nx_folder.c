// SPDX-License-Identifier: Apache-2.0
#include "nx_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_ 48u
#define NAME_ROOM 20u

typedef struct opened {
    uint64_t number;
    uint64_t used; /* when, for the one that is closed first */
    nx_file file;
    int descriptor; /* -1: free */
    unsigned refs;
    bool dirty;
} opened;

struct nx_folder {
    pthread_mutex_t lock;
    opened opened[OPEN_MAX_];
    uint64_t clock;
    int directory;
    int parts[3]; /* of packs and segments, by nx_file; [0] is -1 */
    int locked;
    bool writes;
    bool created; /* a name that the directory does not have on the medium yet */
};

static int lock_byte(int descriptor, short kind, off_t byte)
{
    struct flock wanted = {.l_type = kind, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(descriptor, F_OFD_SETLK, &wanted) == 0) {
        return NX_OK;
    }
    return errno == EAGAIN || errno == EACCES ? NX_EBUSY : NX_ESYS;
}

static int open_part(nx_folder *folder, const char *name, bool create)
{
    if (create && mkdirat(folder->directory, name, 0700) != 0 && errno != EEXIST) {
        return -1;
    }
    return openat(folder->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static int open_all(nx_folder *folder, const char *path, bool writes, bool create)
{
    if (create && mkdir(path, 0700) != 0) {
        return errno == EEXIST ? NX_EBUSY : NX_ESYS;
    }
    folder->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->directory < 0) {
        return errno == ENOENT ? NX_EEMPTY : NX_ESYS;
    }
    int mode = writes ? O_RDWR | (create ? O_CREAT : 0) : O_RDWR;
    folder->locked = openat(folder->directory, "lock", mode | O_CLOEXEC | O_NOFOLLOW, (mode_t)0600);
    if (folder->locked < 0 && !writes) {
        folder->locked = openat(folder->directory, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (folder->locked < 0) {
        return errno == ENOENT ? NX_EEMPTY : NX_ESYS;
    }
    int code = writes ? lock_byte(folder->locked, F_WRLCK, 0) : NX_OK;
    if (code == NX_OK) {
        code = lock_byte(folder->locked, F_RDLCK, 1);
    }
    if (code != NX_OK) {
        return code;
    }
    folder->parts[NX_FILE_PACK] = open_part(folder, "packs", create);
    folder->parts[NX_FILE_SEGMENT] = open_part(folder, "index", create);
    bool whole = folder->parts[NX_FILE_PACK] >= 0 && folder->parts[NX_FILE_SEGMENT] >= 0;
    return whole ? NX_OK : errno == ENOENT ? NX_EEMPTY : NX_ESYS;
}

int nx_folder_open(const char *path, bool writes, bool create, nx_folder **ret)
{
    nx_folder *folder = calloc(1, sizeof *folder);

    if (folder == NULL) {
        return NX_ENOMEM;
    }
    pthread_mutex_init(&folder->lock, NULL);
    folder->directory = -1;
    folder->locked = -1;
    folder->writes = writes;
    folder->created = create;
    for (size_t i = 0; i < NX_ARRAY_COUNT(folder->parts); i++) {
        folder->parts[i] = -1;
    }
    for (size_t i = 0; i < OPEN_MAX_; i++) {
        folder->opened[i].descriptor = -1;
    }
    int code = open_all(folder, path, writes, create);
    if (code != NX_OK) {
        int kept = errno;
        nx_folder_close(folder);
        errno = kept;
        return code;
    }
    *ret = folder;
    return NX_OK;
}

static void close_if(int descriptor)
{
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
}

void nx_folder_close(nx_folder *folder)
{
    for (size_t i = 0; i < OPEN_MAX_; i++) {
        close_if(folder->opened[i].descriptor);
    }
    for (size_t i = 0; i < NX_ARRAY_COUNT(folder->parts); i++) {
        close_if(folder->parts[i]);
    }
    close_if(folder->locked);
    close_if(folder->directory);
    pthread_mutex_destroy(&folder->lock);
    free(folder);
}

static bool folder_alone(void *self, bool wanted)
{
    const nx_folder *folder = self;

    return folder->writes && lock_byte(folder->locked, wanted ? F_WRLCK : F_RDLCK, 1) == NX_OK;
}

static int open_file(nx_folder *folder, nx_file file, uint64_t number, bool create)
{
    char name[NAME_ROOM];

    if (file == NX_FILE_STATE) {
        return openat(folder->directory, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    (void)snprintf(name, sizeof name, "%08llx", (unsigned long long)number);
    int mode = folder->writes ? O_RDWR : O_RDONLY;
    int descriptor = openat(folder->parts[file], name, mode | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0 && errno == ENOENT && create) {
        descriptor = openat(folder->parts[file], name, mode | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                            (mode_t)0600);
        folder->created = true;
    }
    return descriptor;
}

/* With the lock held: a place for one more descriptor, or NULL when there is none. */
static opened *make_room(nx_folder *folder)
{
    opened *best = NULL;

    for (size_t i = 0; i < OPEN_MAX_; i++) {
        opened *one = &folder->opened[i];
        if (one->descriptor < 0) {
            return one;
        }
        if (one->refs == 0 && (best == NULL || one->used < best->used)) {
            best = one;
        }
    }
    if (best != NULL && best->dirty && fdatasync(best->descriptor) != 0) {
        return NULL;
    }
    if (best != NULL) {
        (void)close(best->descriptor);
        best->descriptor = -1;
    }
    return best;
}

static int hold(nx_folder *folder, nx_file file, uint64_t number, bool create, opened **ret)
{
    opened *found = NULL;

    pthread_mutex_lock(&folder->lock);
    for (size_t i = 0; found == NULL && i < OPEN_MAX_ && file != NX_FILE_STATE; i++) {
        opened *one = &folder->opened[i];
        if (one->descriptor >= 0 && one->file == file && one->number == number) {
            found = one;
        }
    }
    int code = NX_OK;
    if (found == NULL) {
        found = make_room(folder);
        int descriptor = found == NULL ? -1 : open_file(folder, file, number, create);
        if (found == NULL) {
            code = NX_EFULL;
        } else if (descriptor < 0) {
            code = errno == ENOENT ? NX_EEMPTY : NX_ESYS;
        } else {
            *found = (opened){.number = number, .file = file, .descriptor = descriptor};
        }
    }
    if (code == NX_OK) {
        found->refs++;
        found->used = ++folder->clock;
        found->dirty |= create;
        *ret = found;
    }
    pthread_mutex_unlock(&folder->lock);
    return code;
}

/* The state's descriptor is not kept: another file has the name after a replacement. */
static void let_go(nx_folder *folder, opened *one)
{
    pthread_mutex_lock(&folder->lock);
    one->refs--;
    if (one->file == NX_FILE_STATE && one->refs == 0) {
        (void)close(one->descriptor);
        one->descriptor = -1;
    }
    pthread_mutex_unlock(&folder->lock);
}

static int folder_read(void *self, nx_file file, uint64_t number, uint64_t at, void *ret,
                       size_t size)
{
    nx_folder *folder = self;
    opened *one;
    int code = hold(folder, file, number, false, &one);
    size_t done = 0;

    if (code != NX_OK) {
        return code;
    }
    while (code == NX_OK && done < size) {
        ssize_t n = pread(one->descriptor, (uint8_t *)ret + done, size - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            code = NX_ESYS;
        } else if (n == 0) {
            code = NX_ECORRUPT;
        } else if (n > 0) {
            done += (size_t)n;
        }
    }
    let_go(folder, one);
    return code;
}

static int folder_size(void *self, nx_file file, uint64_t number, uint64_t *ret)
{
    nx_folder *folder = self;
    struct stat status;
    opened *one;
    int code = hold(folder, file, number, false, &one);

    if (code == NX_OK) {
        code = fstat(one->descriptor, &status) == 0 ? NX_OK : NX_ESYS;
        let_go(folder, one);
    }
    if (code == NX_OK) {
        *ret = (uint64_t)status.st_size;
    }
    return code;
}

static int write_all(int descriptor, uint64_t at, const void *data, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n =
            pwrite(descriptor, (const uint8_t *)data + done, size - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR) {
            return NX_ESYS;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return NX_OK;
}

static int folder_write(void *self, nx_file file, uint64_t number, uint64_t at, const void *data,
                        size_t size)
{
    nx_folder *folder = self;
    opened *one;

    if (!folder->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    int code = hold(folder, file, number, true, &one);
    if (code == NX_OK) {
        code = write_all(one->descriptor, at, data, size);
        let_go(folder, one);
    }
    return code;
}

static int folder_remove(void *self, nx_file file, uint64_t number)
{
    nx_folder *folder = self;
    char name[NAME_ROOM];

    if (!folder->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    pthread_mutex_lock(&folder->lock);
    for (size_t i = 0; i < OPEN_MAX_; i++) {
        opened *one = &folder->opened[i];
        if (one->descriptor >= 0 && one->file == file && one->number == number && one->refs == 0) {
            (void)close(one->descriptor);
            one->descriptor = -1;
        }
    }
    (void)snprintf(name, sizeof name, "%08llx", (unsigned long long)number);
    int code = unlinkat(folder->parts[file], name, 0) == 0 ? NX_OK
               : errno == ENOENT                           ? NX_EEMPTY
                                                           : NX_ESYS;
    pthread_mutex_unlock(&folder->lock);
    return code;
}

static int folder_sync(void *self)
{
    nx_folder *folder = self;
    int code = NX_OK;

    pthread_mutex_lock(&folder->lock);
    for (size_t i = 0; code == NX_OK && i < OPEN_MAX_; i++) {
        opened *one = &folder->opened[i];
        if (one->descriptor >= 0 && one->dirty) {
            code = fdatasync(one->descriptor) == 0 ? NX_OK : NX_ESYS;
            one->dirty = code != NX_OK;
        }
    }
    if (code == NX_OK && folder->created) {
        bool done = fsync(folder->parts[NX_FILE_PACK]) == 0 &&
                    fsync(folder->parts[NX_FILE_SEGMENT]) == 0 && fsync(folder->directory) == 0;
        code = done ? NX_OK : NX_ESYS;
        folder->created = !done;
    }
    pthread_mutex_unlock(&folder->lock);
    return code;
}

static int write_new(const nx_folder *folder, const char *name, const void *data, size_t size)
{
    const int mode = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;
    int descriptor = openat(folder->directory, name, mode, (mode_t)0600);

    if (descriptor < 0) {
        return NX_ESYS;
    }
    int code = write_all(descriptor, 0, data, size);
    if (code == NX_OK && fdatasync(descriptor) != 0) {
        code = NX_ESYS;
    }
    int kept = errno;
    (void)close(descriptor);
    errno = kept;
    return code;
}

/* Both are on the medium before either gets its name: what a full disk refuses is refused whole. */
static int folder_replace(void *self, const void *data, size_t size)
{
    nx_folder *folder = self;
    int at = folder->directory;

    if (!folder->writes) {
        return NX_EDENIED;
    }
    int code = write_new(folder, "copy.new", data, size);
    if (code == NX_OK) {
        code = write_new(folder, "state.new", data, size);
    }
    if (code == NX_OK && (renameat(at, "state.new", at, "state") != 0 ||
                          renameat(at, "copy.new", at, "state.copy") != 0 || fsync(at) != 0)) {
        code = NX_ESYS;
    }
    return code;
}

static int compare(const void *a, const void *b)
{
    uint64_t one = nx_load_u64(a);
    uint64_t two = nx_load_u64(b);

    return one < two ? -1 : one > two;
}

static int folder_list(void *self, nx_file file, uint64_t **ret, size_t *ret_count)
{
    const nx_folder *folder = self;
    nx_bytes numbers = {0};
    int descriptor = openat(folder->parts[file], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = descriptor < 0 ? NULL : fdopendir(descriptor);

    if (stream == NULL) {
        close_if(descriptor);
        return NX_ESYS;
    }
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        char *end;
        uint64_t number = strtoull(entry->d_name, &end, 16);
        if (*end == 0 && end - entry->d_name == 8) {
            nx_bytes_put(&numbers, &number, sizeof number);
        }
    }
    (void)closedir(stream);
    if (numbers.failed) {
        nx_bytes_free(&numbers);
        return NX_ENOMEM;
    }
    if (numbers.size > 0) {
        qsort(numbers.data, numbers.size / sizeof(uint64_t), sizeof(uint64_t), compare);
    }
    *ret = (uint64_t *)(void *)numbers.data;
    *ret_count = numbers.size / sizeof(uint64_t);
    return NX_OK;
}

static int folder_trim(void *self, nx_file file, uint64_t number, uint64_t size)
{
    nx_folder *folder = self;
    struct stat status;
    opened *one;

    if (!folder->writes || file == NX_FILE_STATE) {
        return NX_EDENIED;
    }
    int code = hold(folder, file, number, false, &one);
    if (code == NX_OK) {
        code = fstat(one->descriptor, &status) == 0 ? NX_OK : NX_ESYS;
        if (code == NX_OK && (uint64_t)status.st_size > size) {
            code = ftruncate(one->descriptor, (off_t)size) == 0 ? NX_OK : NX_ESYS;
        }
        let_go(folder, one);
    }
    return code;
}

static const nx_backing_verbs VERBS = {
    .read = folder_read,
    .size = folder_size,
    .write = folder_write,
    .remove = folder_remove,
    .sync = folder_sync,
    .replace = folder_replace,
    .list = folder_list,
    .trim = folder_trim,
    .alone = folder_alone,
};

nx_backing nx_folder_backing(nx_folder *folder)
{
    return (nx_backing){.verbs = &VERBS, .self = folder};
}
