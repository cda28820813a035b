// SPDX-License-Identifier: Apache-2.0
#include "nx_flash_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nx_flash_place.h"

/* A device that was pulled out says one of these. */
static int failed(nx_flash_file *file)
{
    if (errno == ENXIO || errno == ENODEV) {
        file->gone = true;
        return NX_EFAULT;
    }
    return NX_ESYS;
}

/* Before a write, which would make a file that was cut short long again. */
static int still_there(nx_flash_file *file)
{
    struct stat now;

    if (file->gone) {
        return NX_EFAULT;
    }
    if (file->device) {
        return NX_OK;
    }
    if (fstat(file->fd, &now) != 0) {
        return failed(file);
    }
    file->gone =
        (uint64_t)now.st_size < file->flash.geometry.size || (file->named && now.st_nlink == 0);
    return file->gone ? NX_EFAULT : NX_OK;
}

static int file_read(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    nx_flash_file *file = self;
    uint8_t *to = ret;
    int code = nx_flash_at_bytes(&file->flash.geometry, at, size);

    if (code != NX_OK || file->gone) {
        return code != NX_OK ? code : NX_EFAULT;
    }
    while (size > 0) {
        ssize_t got = pread(file->fd, to, size, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return failed(file);
        }
        if (got == 0) {
            file->gone = true;
            return NX_EFAULT;
        }
        to += got;
        at += (size_t)got;
        size -= (size_t)got;
    }
    *ret_flips = 0;
    return NX_OK;
}

static int write_all(nx_flash_file *file, uint64_t at, const void *data, size_t size)
{
    const uint8_t *from = data;

    while (size > 0) {
        ssize_t done = pwrite(file->fd, from, size, (off_t)at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return failed(file);
        }
        from += done;
        at += (size_t)done;
        size -= (size_t)done;
    }
    return NX_OK;
}

static int file_program(void *self, uint64_t at, const void *data, size_t size)
{
    nx_flash_file *file = self;
    int code = nx_flash_at_pages(&file->flash.geometry, at, size);

    if (code == NX_OK) {
        code = still_there(file);
    }
    return code != NX_OK ? code : write_all(file, at, data, size);
}

static int write_zeros(nx_flash_file *file, uint64_t at, uint32_t size)
{
    static const uint8_t zeros[1u << 16];
    int code = NX_OK;

    while (code == NX_OK && size > 0) {
        uint32_t part = size < sizeof zeros ? size : (uint32_t)sizeof zeros;
        code = write_all(file, at, zeros, part);
        at += part;
        size -= part;
    }
    return code;
}

static int file_erase(void *self, uint64_t at)
{
    nx_flash_file *file = self;
    uint32_t size = file->flash.geometry.block_size;
    int code = nx_flash_at_block(&file->flash.geometry, at);

    if (code == NX_OK) {
        code = still_there(file);
    }
    if (code != NX_OK) {
        return code;
    }
    if (file->device) {
        uint64_t range[2] = {at, size};
        return nx_flash_ioctl(file->fd, BLKZEROOUT, range) == 0 ? NX_OK : failed(file);
    }
    if (file->punches) {
        int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        if (fallocate(file->fd, mode, (off_t)at, size) == 0) {
            return NX_OK;
        }
        if (errno != EOPNOTSUPP && errno != ENOSYS) {
            return failed(file);
        }
        file->punches = false;
    }
    return write_zeros(file, at, size);
}

static int file_oob_read(void *self, uint64_t at, void *ret, size_t size)
{
    (void)self, (void)at, (void)ret, (void)size;
    return NX_EABSENT;
}

static int file_oob_write(void *self, uint64_t at, const void *data, size_t size)
{
    (void)self, (void)at, (void)data, (void)size;
    return NX_EABSENT;
}

static int file_is_bad(void *self, uint64_t at, bool *ret)
{
    nx_flash_file *file = self;
    int code = nx_flash_at_block(&file->flash.geometry, at);

    if (code == NX_OK && file->gone) {
        code = NX_EFAULT;
    }
    if (code == NX_OK) {
        *ret = false;
    }
    return code;
}

static int file_mark_bad(void *self, uint64_t at)
{
    (void)self, (void)at;
    return NX_EABSENT;
}

static int file_sync(void *self)
{
    nx_flash_file *file = self;
    int code = still_there(file);

    if (code == NX_OK && fdatasync(file->fd) != 0) {
        code = NX_ESYS;
        file->gone = true;
    }
    return code;
}

static const nx_flash_verbs file_verbs = {
    .read = file_read,
    .program = file_program,
    .erase = file_erase,
    .oob_read = file_oob_read,
    .oob_write = file_oob_write,
    .is_bad = file_is_bad,
    .mark_bad = file_mark_bad,
    .sync = file_sync,
};

static int device_sizes(int fd, nx_flash_geometry *geometry)
{
    uint64_t size;
    unsigned physical;

    if (nx_flash_ioctl(fd, BLKGETSIZE64, &size) != 0 ||
        nx_flash_ioctl(fd, BLKPBSZGET, &physical) != 0) {
        return NX_ESYS;
    }
    if (geometry->page_size == 0) {
        geometry->page_size = physical > NX_FLASH_FILE_PAGE ? physical : NX_FLASH_FILE_PAGE;
    }
    geometry->size = size - size % geometry->block_size;
    return NX_OK;
}

int nx_flash_file_init(int fd, bool writable, uint32_t block_size, uint32_t page_size,
                       nx_flash_file *ret)
{
    nx_flash_file file = {.fd = fd, .punches = true};
    nx_flash_geometry *geometry = &file.flash.geometry;
    struct stat now;
    int code = NX_OK;

    if (fstat(fd, &now) != 0) {
        return NX_ESYS;
    }
    file.device = S_ISBLK(now.st_mode);
    file.named = now.st_nlink > 0;
    geometry->block_size = block_size != 0 ? block_size : NX_FLASH_FILE_BLOCK;
    geometry->page_size = page_size;
    geometry->programs = UINT16_MAX;
    geometry->kind = file.device ? NX_FLASH_DEVICE : NX_FLASH_FILE;
    if (file.device) {
        code = device_sizes(fd, geometry);
    } else {
        geometry->size = (uint64_t)now.st_size;
        geometry->page_size = page_size != 0 ? page_size : NX_FLASH_FILE_PAGE;
    }
    if (code == NX_OK &&
        (!(file.device || S_ISREG(now.st_mode)) || nx_flash_check(geometry) != NX_OK)) {
        code = NX_EINVAL;
    }
    if (code == NX_OK && flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        code = errno == EWOULDBLOCK ? NX_EBUSY : NX_ESYS;
    }
    if (code != NX_OK) {
        return code;
    }
    file.flash.verbs = &file_verbs;
    *ret = file;
    ret->flash.self = ret;
    return NX_OK;
}

void nx_flash_file_deinit(nx_flash_file *file)
{
    (void)flock(file->fd, LOCK_UN);
    file->flash.verbs = NULL;
    file->gone = true;
}
