// SPDX-License-Identifier: Apache-2.0
/*
 * A file or a block device as a medium of NexFS: docs/spec/flash.md.
 *
 * Theory of operation. Reads and programs are pread and pwrite, an erase makes zeros: by a hole
 * where the file system knows holes, by BLKZEROOUT on a device, by writing them elsewhere, which
 * `punches` tells. A sync is fdatasync. One descriptor has the file for itself, by flock, so that a
 * second writer is refused with NX_EBUSY, also one in the same process.
 *
 * Guarantees. A file that became smaller, or whose last name was removed, is NX_EFAULT before
 * anything is written, and from then on; so is every call after a sync that failed, since the
 * kernel may have dropped what it could not write, and says so once.
 * Not handled: a file that another program writes without a lock; O_DIRECT.
 */
#ifndef NX_FLASH_FILE_H
#define NX_FLASH_FILE_H

#include "nx_flash.h"

#define NX_FLASH_FILE_PAGE  4096u
#define NX_FLASH_FILE_BLOCK (1u << 20)

typedef struct nx_flash_file {
    nx_flash flash;
    int fd;
    bool device;
    bool named;   /* it had a name when it was opened */
    bool punches; /* an erase makes a hole; false: it writes zeros */
    bool gone;
} nx_flash_file;

/*
 * Takes a lock on `fd`, which the caller opened for reading, and for writing if `writable`; it
 * stays the caller's, to close after the last call. A file's size must be a multiple of its block;
 * of a device what is left over stays unused. Page and block 0: NX_FLASH_FILE_PAGE, or the device's
 * physical block if larger, and NX_FLASH_FILE_BLOCK.
 * NX_EBUSY: another has it; NX_EINVAL: sizes that contradict each other, or neither file nor
 * device.
 */
int nx_flash_file_init(int fd, bool writable, uint32_t block_size, uint32_t page_size,
                       nx_flash_file *ret);
/* Gives the lock back. */
void nx_flash_file_deinit(nx_flash_file *file);

#endif
