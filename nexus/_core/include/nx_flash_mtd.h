// SPDX-License-Identifier: Apache-2.0
/*
 * A raw flash device of Linux, /dev/mtdN, as a medium of NexFS: docs/spec/flash.md.
 *
 * Theory of operation. The verbs are MTD's ioctls. A read() of the character device gives its bytes
 * without an error even where ECC failed (measured on Linux 6.1), so reads go through MEMREAD,
 * which tells the outcome of this very
 * read. Where there is none (before 6.1, or a device without OOB), they go through pread with the
 * device's ECC counters read before and after, and `exact` is false: then corrected bits are those
 * of the whole read, at most what one step can correct, and another reader may add to them.
 *
 * An MTD device writes through: fsync() of it is EINVAL, and sync has nothing to do.
 *
 * Not handled: locked regions (MEMUNLOCK), one-time-programmable areas, RAW access.
 */
#ifndef NX_FLASH_MTD_H
#define NX_FLASH_MTD_H

#include "nx_flash.h"

#define NX_FLASH_MTD_PAGE 256u /* where MTD programs single bytes */

typedef struct nx_flash_mtd {
    nx_flash flash;
    int fd;
    uint32_t strength; /* bits that ECC corrects in a step; 0: it has none */
    bool marks;        /* the device has bad-block marks */
    bool exact;
    bool gone;
} nx_flash_mtd;

/*
 * Takes a lock on `fd`, which the caller opened for reading, and for writing if `writable`; it
 * stays the caller's, to close after the last call. NX_EBUSY: another has it; NX_EABSENT: not an
 * MTD device, or of a kind that is not served, such as ROM or DataFlash.
 */
int nx_flash_mtd_init(int fd, bool writable, nx_flash_mtd *ret);
/* Gives the lock back. */
void nx_flash_mtd_deinit(nx_flash_mtd *mtd);

#endif
