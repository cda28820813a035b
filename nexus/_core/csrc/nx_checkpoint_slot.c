// SPDX-License-Identifier: Apache-2.0
/*
 * A slot as a memfd whose size is sealed, so that no holder can make the others fault. On bare
 * system calls, because a native fiber without a libc maps its slot, too.
 */
#include "nx_checkpoint.h"

#include "nx_sys.h"

#include <linux/fcntl.h>
#include <linux/memfd.h>

#define SEALS       (F_SEAL_SHRINK | F_SEAL_GROW)
#define READ_WRITE  3
#define MAP_SHARED_ 1
#define SEEK_END_   2

int nx_checkpoint_slot_create(int *ret_fd)
{
    long fd = nx_sys(__NR_memfd_create, "nexus-checkpoint", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) {
        return nx_sys_failed(fd);
    }
    long result = nx_sys(__NR_ftruncate, fd, NX_CHECKPOINT_SLOT);
    if (result == 0) {
        result = nx_sys(__NR_fcntl, fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL);
    }
    if (result < 0) {
        (void)nx_sys(__NR_close, fd);
        return nx_sys_failed(result);
    }
    *ret_fd = (int)fd;
    return NX_OK;
}

int nx_checkpoint_slot_map(int fd, nx_checkpoint_slot **ret)
{
    long size = nx_sys(__NR_lseek, fd, 0, SEEK_END_);

    if (size < 0) {
        return nx_sys_failed(size);
    }
    long seals = nx_sys(__NR_fcntl, fd, F_GET_SEALS); /* an error for a file without seals */
    if (size != NX_CHECKPOINT_SLOT || seals < 0 || (seals & SEALS) != SEALS) {
        return NX_EINVAL;
    }
    long map = nx_sys(__NR_mmap, NULL, NX_CHECKPOINT_SLOT, READ_WRITE, MAP_SHARED_, fd, 0);
    if (nx_sys_is_error(map)) {
        return nx_sys_failed(map);
    }
    *ret = (nx_checkpoint_slot *)map;
    return NX_OK;
}

void nx_checkpoint_slot_unmap(nx_checkpoint_slot *slot)
{
    (void)nx_sys(__NR_munmap, slot, NX_CHECKPOINT_SLOT);
}
