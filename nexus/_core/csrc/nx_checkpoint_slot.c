// SPDX-License-Identifier: Apache-2.0
/* A slot as a memfd whose size is sealed, so that no holder can make the others fault. */
#include "nx_checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

int nx_checkpoint_slot_create(int *ret_fd)
{
    int fd = memfd_create("nexus-checkpoint", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return NX_ESYS;
    }
    if (ftruncate(fd, NX_CHECKPOINT_SLOT) != 0 ||
        fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return NX_ESYS;
    }
    *ret_fd = fd;
    return NX_OK;
}

int nx_checkpoint_slot_map(int fd, nx_checkpoint_slot **ret)
{
    struct stat status;
    int seals;

    if (fstat(fd, &status) != 0) {
        return NX_ESYS;
    }
    seals = fcntl(fd, F_GET_SEALS); /* -1 for a file without seals */
    if (status.st_size != NX_CHECKPOINT_SLOT || seals < 0 || (seals & SEALS) != SEALS) {
        return NX_EINVAL;
    }
    void *map = mmap(NULL, NX_CHECKPOINT_SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (map == MAP_FAILED) {
        return NX_ESYS;
    }
    *ret = map;
    return NX_OK;
}

void nx_checkpoint_slot_unmap(nx_checkpoint_slot *slot)
{
    munmap(slot, NX_CHECKPOINT_SLOT);
}
