// SPDX-License-Identifier: Apache-2.0
/* What every medium asks of a call before it looks at the medium: is it inside, is it aligned. And
 * ioctl() with one type of request: the C libraries differ in it. */
#ifndef NX_FLASH_PLACE_H
#define NX_FLASH_PLACE_H

#include <sys/syscall.h>
#include <unistd.h>

#include "nx_flash.h"

NX_INLINE int nx_flash_ioctl(int fd, unsigned long request, void *argument)
{
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

NX_INLINE int nx_flash_at_bytes(const nx_flash_geometry *geometry, uint64_t at, uint64_t size)
{
    return at > geometry->size || size > geometry->size - at ? NX_ERANGE : NX_OK;
}

NX_INLINE int nx_flash_at_pages(const nx_flash_geometry *geometry, uint64_t at, uint64_t size)
{
    if (nx_flash_at_bytes(geometry, at, size) != NX_OK) {
        return NX_ERANGE;
    }
    if (at % geometry->page_size != 0 || size % geometry->page_size != 0) {
        return NX_EALIGN;
    }
    return size > geometry->block_size - at % geometry->block_size ? NX_ERANGE : NX_OK;
}

NX_INLINE int nx_flash_at_block(const nx_flash_geometry *geometry, uint64_t at)
{
    if (at >= geometry->size) {
        return NX_ERANGE;
    }
    return at % geometry->block_size != 0 ? NX_EALIGN : NX_OK;
}

#endif
