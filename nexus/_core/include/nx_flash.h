// SPDX-License-Identifier: Apache-2.0
/*
 * The seam below NexFS: a medium of erase blocks, as Linux's MTD character device shows raw flash.
 * docs/spec/flash.md is the authority on what a medium may do and what NexFS may ask of it.
 *
 * Theory of operation. A medium is `size` bytes in erase blocks; a block is `block_size` bytes in
 * pages of `page_size`. A page is programmed whole, in ascending order within its block, at most
 * `programs` times between two erases of the block, and only to clear bits where the medium is
 * flash. An erase sets a block to the byte `erased`. Beside each page lie `oob_size` bytes, of
 * which NexFS uses none but through `is_bad` and `mark_bad`. A file, a block device, /dev/mtdN and
 * the emulator differ only in these numbers.
 *
 * What is not promised: that an interrupted program or erase left a page as it was, as it should
 * be, or readable twice alike; that programs reach the medium in order before a `sync`.
 *
 * The caller keeps to the rules; the emulator holds it to them.
 */
#ifndef NX_FLASH_H
#define NX_FLASH_H

#include "nx_base.h"

#define NX_FLASH_BLOCK_MAX (64u << 20)
#define NX_FLASH_PAGE_MAX  (64u << 10)

/* What a medium is; the numbers are those of MTD where it has one. */
typedef enum nx_flash_kind {
    NX_FLASH_RAM = 1,
    NX_FLASH_NOR = 3,
    NX_FLASH_NAND = 4,
    NX_FLASH_MLC = 8,
    NX_FLASH_FILE = 64,
    NX_FLASH_DEVICE = 65, /* a block device */
} nx_flash_kind;

typedef struct nx_flash_geometry {
    uint64_t size;       /* bytes, a multiple of block_size */
    uint32_t block_size; /* bytes that one erase sets; a multiple of page_size */
    uint32_t page_size;  /* bytes of the unit of program */
    uint32_t oob_size;   /* bytes beside each page */
    uint16_t programs;   /* of one page between two erases, at least 1 */
    uint8_t kind;        /* nx_flash_kind */
    uint8_t erased;      /* what an erased byte reads as: 0xff, or 0 for a file */
    uint16_t flips_max;  /* corrected bits in one step from which data ought to move; 0: no ECC */
    uint16_t reserved;   /* 0 */
} nx_flash_geometry;

/*
 * The verbs. All return NX_OK or a code; offsets and sizes are bytes. Besides what is named:
 * NX_ERANGE outside the medium, NX_EALIGN off a page or block, NX_ESYS with errno, NX_EFAULT when
 * the medium is gone.
 */
typedef struct nx_flash_verbs {
    /* Any bytes, across pages and blocks. `*ret_flips`, also set on NX_ECORRUPT, is the most bits
     * that were corrected in one ECC step. NX_ECORRUPT: beyond correction, `ret` has what was read.
     */
    int (*read)(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips);
    /* Whole pages inside one block. NX_EMEDIUM: the medium refused; the block ought to be retired.
     */
    int (*program)(void *self, uint64_t at, const void *data, size_t size);
    /* The block that starts at `at`. NX_EMEDIUM as above. */
    int (*erase)(void *self, uint64_t at);
    /* Bytes beside the page at `at`, from its first on, at most oob_size; NX_EABSENT without any.
     */
    int (*oob_read)(void *self, uint64_t at, void *ret, size_t size);
    int (*oob_write)(void *self, uint64_t at, const void *data, size_t size);
    int (*is_bad)(void *self, uint64_t at, bool *ret);
    int (*mark_bad)(void *self, uint64_t at);
    /* All programs and erases before it are on the medium before any after it. */
    int (*sync)(void *self);
} nx_flash_verbs;

/* A medium: whoever made it keeps `self` alive. */
typedef struct nx_flash {
    const nx_flash_verbs *verbs;
    void *self;
    nx_flash_geometry geometry;
} nx_flash;

/* NX_EINVAL where the numbers contradict each other. */
int nx_flash_check(const nx_flash_geometry *geometry);

#endif
