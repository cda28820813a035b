// SPDX-License-Identifier: Apache-2.0
#include "nx_flash.h"

int nx_flash_check(const nx_flash_geometry *geometry)
{
    bool sizes =
        nx_is_power_of_two(geometry->page_size) && geometry->page_size <= NX_FLASH_PAGE_MAX &&
        geometry->block_size <= NX_FLASH_BLOCK_MAX && geometry->block_size >= geometry->page_size &&
        geometry->block_size % geometry->page_size == 0;
    bool whole = sizes && geometry->size >= geometry->block_size &&
                 geometry->size % geometry->block_size == 0 && geometry->size <= INT64_MAX;

    return whole && geometry->programs > 0 && geometry->reserved == 0 ? NX_OK : NX_EINVAL;
}
