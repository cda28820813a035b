// SPDX-License-Identifier: Apache-2.0
/* A filesystem of one file in memory, `file`, on a directory: what the loop costs, and no more. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nx_fuse.h"

#define SIZE (64u << 20)

static uint8_t *content;

static struct fuse_attr attributes(uint64_t node)
{
    struct fuse_attr ret = {.ino = node, .nlink = 1, .blksize = 4096};

    ret.mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644;
    ret.size = node == 1 ? 0 : SIZE;
    return ret;
}

static void lookup(void *self, nx_fuse_request *request)
{
    struct fuse_entry_out out = {.nodeid = 2, .attr = attributes(2)};

    (void)self;
    if (strcmp(request->name, "file") != 0) {
        nx_fuse_error(request, ENOENT);
        return;
    }
    nx_fuse_reply(request, &out, sizeof out);
}

static void getattr(void *self, nx_fuse_request *request)
{
    struct fuse_attr_out out = {.attr = attributes(request->head->nodeid)};

    (void)self;
    nx_fuse_reply(request, &out, sizeof out);
}

static void open_(void *self, nx_fuse_request *request)
{
    struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};

    (void)self;
    nx_fuse_reply(request, &out, sizeof out);
}

static void read_(void *self, nx_fuse_request *request)
{
    const struct fuse_read_in *in = request->argument;
    uint64_t left = in->offset < SIZE ? SIZE - in->offset : 0;

    (void)self;
    nx_fuse_reply(request, content + (left > 0 ? in->offset : 0),
                  in->size < left ? in->size : (size_t)left);
}

static void done(void *self, nx_fuse_request *request)
{
    (void)self;
    nx_fuse_error(request, 0);
}

static const nx_fuse_verbs VERBS = {.verbs = {
                                        [FUSE_LOOKUP] = lookup,
                                        [FUSE_GETATTR] = getattr,
                                        [FUSE_OPEN] = open_,
                                        [FUSE_READ] = read_,
                                        [FUSE_FLUSH] = done,
                                        [FUSE_RELEASE] = done,
                                    }};

int main(int count, char **words)
{
    char options[100];
    struct timespec pause = {.tv_nsec = 50000000};
    nx_fuse *fuse;
    int descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    content = calloc(1, SIZE);
    if (count != 2 || descriptor < 0 || content == NULL) {
        perror("/dev/fuse");
        return 1;
    }
    memset(content, 7, SIZE);
    (void)snprintf(options, sizeof options,
                   "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=1048576",
                   descriptor);
    if (mount("memory", words[1], "fuse.memory", MS_NOSUID | MS_NODEV, options) != 0) {
        perror("mount");
        return 1;
    }
    if (nx_fuse_create(descriptor, 1, &VERBS, NULL, &fuse) != NX_OK ||
        nx_fuse_start(fuse) != NX_OK) {
        return 1;
    }
    while (!nx_fuse_ended(fuse)) {
        (void)nanosleep(&pause, NULL);
    }
    nx_fuse_destroy(fuse);
    free(content);
    return 0;
}
