// SPDX-License-Identifier: Apache-2.0
/* A ring's file as a hostile peer would make it. */
#ifndef NX_FUZZ_RING_FILE_H
#define NX_FUZZ_RING_FILE_H

#include "fuzz.h"
#include "nx_ring_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t file_bytes = sizeof(nx_ring_header) + NX_PAGE_SIZE_MIN;

/* A memfd like those of nx_ring_map_create, but with what the input puts there. */
static inline int hostile_file(nx_input *in, uint8_t **ret_shared)
{
    uint8_t kind = eat(in, 1) & 1 ? NX_RING_MPSC : NX_RING_SPSC;
    bool short_file = eat(in, 1) > 250;
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    NX_ASSERT(fd >= 0 && ftruncate(fd, (off_t)(file_bytes - short_file)) == 0);
    uint8_t *shared = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    NX_ASSERT(shared != MAP_FAILED);
    NX_ASSERT(nx_ring_format((nx_ring_header *)(void *)shared, sizeof(nx_ring_header),
                             NX_PAGE_SIZE_MIN, kind, 0) == NX_OK);
    for (uint64_t writes = eat(in, 1) % 8; writes > 0; writes--) {
        poke(in, shared, file_bytes);
    }
    NX_ASSERT(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    *ret_shared = shared;
    return fd;
}

#endif
