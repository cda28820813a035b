// SPDX-License-Identifier: Apache-2.0
/* A ring of one page in shared memory between pages that nobody may touch, for hostile peers. */
#ifndef NX_FUZZ_RING_MEMORY_H
#define NX_FUZZ_RING_MEMORY_H

#include "fuzz.h"
#include "nx_ring_rows.h"

#include <sys/mman.h>
#include <unistd.h>

#define RING_BYTES (sizeof(nx_ring_header) + NX_PAGE_SIZE_MIN)

typedef struct ring_memory {
    nx_ring_header *header; /* and the data behind it at RING_BYTES: what a peer can write */
    uint8_t *data;          /* the same bytes, twice, elsewhere: what a handle uses */
} ring_memory;

/* Maps it once; then the ring is formatted anew. */
static inline ring_memory ring_memory_fresh(uint8_t kind)
{
    static ring_memory memory;
    const size_t page = NX_PAGE_SIZE_MIN;

    if (memory.header == NULL) {
        int fd = memfd_create("fuzz", MFD_CLOEXEC);
        NX_ASSERT(fd >= 0 && ftruncate(fd, (off_t)RING_BYTES) == 0);
        uint8_t *base = mmap(NULL, 16 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        NX_ASSERT(base != MAP_FAILED);
        const int both = PROT_READ | PROT_WRITE, fixed = MAP_SHARED | MAP_FIXED;
        uint8_t *file = base + 4 * page, *twice = base + 9 * page;
        NX_ASSERT(mmap(file, 2 * page, both, fixed, fd, 0) == file);
        NX_ASSERT(mmap(twice, page, both, fixed, fd, (off_t)page) == twice);
        NX_ASSERT(mmap(twice + page, page, both, fixed, fd, (off_t)page) == twice + page);
        memory = (ring_memory){(nx_ring_header *)(void *)file, twice};
        close(fd);
    }
    memset(memory.header, 0, RING_BYTES);
    NX_ASSERT(nx_ring_format(memory.header, sizeof(nx_ring_header), page, kind, 0) == NX_OK);
    return memory;
}

/* A handle as another process would make it; false when the header is refused or of another kind.
 */
static inline bool ring_memory_open(const ring_memory *memory, uint8_t kind, nx_ring *ret)
{
    uint8_t identity[64];

    memcpy(identity, memory->header, sizeof identity);
    if (nx_ring_check_header(identity, RING_BYTES, ret) != NX_OK || ret->kind != kind) {
        return false;
    }
    NX_ASSERT(nx_ring_capacity(ret) == NX_PAGE_SIZE_MIN);
    ret->publish_bytes = NX_PAGE_SIZE_MIN / 8;
    nx_ring_bind(ret, memory->header, memory->data);
    return true;
}

/* Reads what peek showed, all of it, inside the mapping; returns the sum of its bytes. */
static inline uint64_t ring_memory_read(const ring_memory *memory, const uint8_t *at, uint32_t size)
{
    uint64_t sum = 0;

    NX_ASSERT(at >= memory->data && at + size <= memory->data + 2 * NX_PAGE_SIZE_MIN);
    for (uint32_t i = 0; i < size; i++) {
        sum += at[i];
    }
    return sum;
}

#endif
