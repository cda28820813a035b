// SPDX-License-Identifier: Apache-2.0
#include "nx_flash_mtd.h"

#include <errno.h>
#include <fcntl.h>
#include <mtd/mtd-abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "nx_flash_place.h"

/* Linux 6.1; in its own words, since the headers of the build may be older than the kernel. */
typedef struct read_request {
    uint64_t start;
    uint64_t size;
    uint64_t oob_size;
    uint64_t data;
    uint64_t oob;
    uint8_t mode;
    uint8_t reserved[7];
    uint32_t uncorrectable;
    uint32_t corrected;
    uint32_t flips; /* the most in a step */
} read_request;

NX_STATIC_ASSERT(sizeof(read_request) == 64 && offsetof(read_request, uncorrectable) == 48,
                 "struct mtd_read_req of the kernel");

#define READ_REQUEST _IOWR('M', 26, read_request)

/* EIO is the chip's own refusal; a device that went away says one of the others. */
static int failed(nx_flash_mtd *mtd, int refused)
{
    if (errno == ENXIO || errno == ENODEV) {
        mtd->gone = true;
        return NX_EFAULT;
    }
    if (errno == EOPNOTSUPP) {
        return NX_EABSENT;
    }
    return errno == EIO ? refused : NX_ESYS;
}

static int read_exact(nx_flash_mtd *mtd, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    read_request request = {
        .start = at, .size = size, .data = (uintptr_t)ret, .mode = MTD_OPS_PLACE_OOB};
    int done = nx_flash_ioctl(mtd->fd, READ_REQUEST, &request);

    /* The two errnos of ECC come with bytes and counts. */
    if (done != 0 && errno != EUCLEAN && errno != EBADMSG) {
        return failed(mtd, NX_ESYS);
    }
    bool corrupt = request.uncorrectable != 0 || (done != 0 && errno == EBADMSG);
    *ret_flips = request.flips;
    return corrupt ? NX_ECORRUPT : NX_OK;
}

static int read_counted(nx_flash_mtd *mtd, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    struct mtd_ecc_stats before = {0};
    struct mtd_ecc_stats after = {0};
    uint8_t *to = ret;

    if (nx_flash_ioctl(mtd->fd, ECCGETSTATS, &before) != 0) {
        return failed(mtd, NX_ESYS);
    }
    bool corrupt = false;
    while (size > 0) {
        ssize_t got = pread(mtd->fd, to, size, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return failed(mtd, NX_ESYS);
        }
        to += got;
        at += (size_t)got;
        size -= (size_t)got;
    }
    if (nx_flash_ioctl(mtd->fd, ECCGETSTATS, &after) != 0) {
        return failed(mtd, NX_ESYS);
    }
    corrupt = after.failed != before.failed;
    uint32_t flips = after.corrected - before.corrected;
    *ret_flips = flips < mtd->strength ? flips : mtd->strength;
    return corrupt ? NX_ECORRUPT : NX_OK;
}

static int mtd_read(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    nx_flash_mtd *mtd = self;
    int code = nx_flash_at_bytes(&mtd->flash.geometry, at, size);
    uint32_t flips = 0;

    if (code == NX_OK && mtd->gone) {
        code = NX_EFAULT;
    }
    if (code == NX_OK && size != 0) {
        code = (mtd->exact ? read_exact : read_counted)(mtd, at, ret, size, &flips);
    }
    if (code == NX_OK || code == NX_ECORRUPT) {
        *ret_flips = flips;
    }
    return code;
}

static int mtd_program(void *self, uint64_t at, const void *data, size_t size)
{
    nx_flash_mtd *mtd = self;
    const uint8_t *from = data;
    int code = nx_flash_at_pages(&mtd->flash.geometry, at, size);

    if (code != NX_OK || mtd->gone) {
        return code != NX_OK ? code : NX_EFAULT;
    }
    while (size > 0) {
        ssize_t done = pwrite(mtd->fd, from, size, (off_t)at);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return done == 0 ? NX_EMEDIUM : failed(mtd, NX_EMEDIUM);
        }
        from += done;
        at += (size_t)done;
        size -= (size_t)done;
    }
    return NX_OK;
}

static int mtd_erase(void *self, uint64_t at)
{
    nx_flash_mtd *mtd = self;
    struct erase_info_user64 block = {.start = at, .length = mtd->flash.geometry.block_size};
    int code = nx_flash_at_block(&mtd->flash.geometry, at);

    if (code != NX_OK || mtd->gone) {
        return code != NX_OK ? code : NX_EFAULT;
    }
    return nx_flash_ioctl(mtd->fd, MEMERASE64, &block) == 0 ? NX_OK : failed(mtd, NX_EMEDIUM);
}

static int oob(nx_flash_mtd *mtd, unsigned long verb, uint64_t at, void *data, size_t size)
{
    const nx_flash_geometry *geometry = &mtd->flash.geometry;
    struct mtd_oob_buf64 request = {
        .start = at, .length = (uint32_t)size, .usr_ptr = (uintptr_t)data};

    if (mtd->gone || geometry->oob_size == 0) {
        return mtd->gone ? NX_EFAULT : NX_EABSENT;
    }
    if (at >= geometry->size || size > geometry->oob_size) {
        return NX_ERANGE;
    }
    if (at % geometry->page_size != 0) {
        return NX_EALIGN;
    }
    if (nx_flash_ioctl(mtd->fd, verb, &request) == 0 || errno == EUCLEAN || errno == EBADMSG) {
        return NX_OK;
    }
    return failed(mtd, verb == MEMWRITEOOB64 ? NX_EMEDIUM : NX_ESYS);
}

static int mtd_oob_read(void *self, uint64_t at, void *ret, size_t size)
{
    return oob(self, MEMREADOOB64, at, ret, size);
}

static int mtd_oob_write(void *self, uint64_t at, const void *data, size_t size)
{
    return oob(self, MEMWRITEOOB64, at, (void *)(uintptr_t)data, size);
}

static int mtd_is_bad(void *self, uint64_t at, bool *ret)
{
    nx_flash_mtd *mtd = self;
    int64_t place = (int64_t)at;
    int code = nx_flash_at_block(&mtd->flash.geometry, at);
    int bad = 0;

    if (code == NX_OK && mtd->gone) {
        code = NX_EFAULT;
    }
    if (code == NX_OK && mtd->marks) {
        bad = nx_flash_ioctl(mtd->fd, MEMGETBADBLOCK, &place);
        code = bad < 0 ? failed(mtd, NX_ESYS) : NX_OK;
    }
    if (code == NX_OK) {
        *ret = bad > 0;
    }
    return code;
}

static int mtd_mark_bad(void *self, uint64_t at)
{
    nx_flash_mtd *mtd = self;
    int64_t place = (int64_t)at;
    int code = nx_flash_at_block(&mtd->flash.geometry, at);

    if (code != NX_OK || mtd->gone || !mtd->marks) {
        return code != NX_OK ? code : mtd->gone ? NX_EFAULT : NX_EABSENT;
    }
    return nx_flash_ioctl(mtd->fd, MEMSETBADBLOCK, &place) == 0 ? NX_OK : failed(mtd, NX_EMEDIUM);
}

static int mtd_sync(void *self)
{
    const nx_flash_mtd *mtd = self;

    return mtd->gone ? NX_EFAULT : NX_OK;
}

static const nx_flash_verbs mtd_verbs = {
    .read = mtd_read,
    .program = mtd_program,
    .erase = mtd_erase,
    .oob_read = mtd_oob_read,
    .oob_write = mtd_oob_write,
    .is_bad = mtd_is_bad,
    .mark_bad = mtd_mark_bad,
    .sync = mtd_sync,
};

/* A number that MTD shows in sysfs alone. */
static int attribute(dev_t device, const char *name, uint64_t *ret)
{
    char text[96];
    char *end;

    (void)snprintf(text, sizeof text, "/sys/dev/char/%u:%u/%s", major(device), minor(device), name);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NX_ESYS;
    }
    ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (size <= 0) {
        return NX_ESYS;
    }
    text[size] = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text) {
        return NX_ECORRUPT;
    }
    *ret = value;
    return NX_OK;
}

/* The kernel's 32 bits of size wrap at 4 GiB, and only sysfs has ECC's numbers. */
static int describe(int fd, const struct mtd_info_user *info, nx_flash_mtd *mtd)
{
    nx_flash_geometry *geometry = &mtd->flash.geometry;
    uint64_t strength = 0;
    uint64_t threshold = 0;
    struct stat now;

    if (fstat(fd, &now) != 0) {
        return NX_ESYS;
    }
    int code = attribute(now.st_rdev, "size", &geometry->size);
    if (code == NX_OK) {
        code = attribute(now.st_rdev, "ecc_strength", &strength);
    }
    if (code == NX_OK) {
        code = attribute(now.st_rdev, "bitflip_threshold", &threshold);
    }
    bool nand = info->type == MTD_NANDFLASH || info->type == MTD_MLCNANDFLASH;
    bool small = info->writesize < NX_FLASH_MTD_PAGE;
    geometry->block_size = info->erasesize;
    geometry->page_size = small ? NX_FLASH_MTD_PAGE : info->writesize;
    geometry->oob_size = small ? 0 : info->oobsize;
    geometry->programs = nand ? 1 : UINT16_MAX;
    geometry->kind = info->type;
    geometry->erased = 0xff;
    mtd->strength = (uint32_t)strength;
    geometry->flips_max = strength == 0 ? 0 : (uint16_t)threshold;
    return code;
}

/* MTD_NO_ERASE says of RAM that it needs none, not that it has none. */
static bool served(const struct mtd_info_user *info)
{
    bool kind = info->type == MTD_RAM || info->type == MTD_NORFLASH ||
                info->type == MTD_NANDFLASH || info->type == MTD_MLCNANDFLASH;

    return kind && info->erasesize > 0;
}

int nx_flash_mtd_init(int fd, bool writable, nx_flash_mtd *ret)
{
    struct mtd_info_user info;
    nx_flash_mtd mtd = {.fd = fd, .exact = true};
    int64_t first = 0;
    uint8_t byte;
    uint32_t flips;

    if (nx_flash_ioctl(fd, MEMGETINFO, &info) != 0) {
        return errno == ENOTTY || errno == EINVAL ? NX_EABSENT : NX_ESYS;
    }
    int code = served(&info) ? describe(fd, &info, &mtd) : NX_EABSENT;
    if (code == NX_OK && nx_flash_check(&mtd.flash.geometry) != NX_OK) {
        code = NX_EABSENT;
    }
    if (code == NX_OK && flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
        code = errno == EWOULDBLOCK ? NX_EBUSY : NX_ESYS;
    }
    if (code != NX_OK) {
        return code;
    }
    mtd.marks = nx_flash_ioctl(fd, MEMGETBADBLOCK, &first) >= 0;
    code = read_exact(&mtd, 0, &byte, 1, &flips);
    mtd.exact = code != NX_EABSENT && (code != NX_ESYS || errno != ENOTTY);
    mtd.flash.verbs = &mtd_verbs;
    *ret = mtd;
    ret->flash.self = ret;
    return NX_OK;
}

void nx_flash_mtd_deinit(nx_flash_mtd *mtd)
{
    (void)flock(mtd->fd, LOCK_UN);
    mtd->flash.verbs = NULL;
    mtd->gone = true;
}
