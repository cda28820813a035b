// SPDX-License-Identifier: Apache-2.0
/* The file of a ring: memfd, seals, double mapping, revocation. Roles are in nx_ring_role.c. */
#include "nx_ring_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x8U
#endif

#define SEALS_FIXED     (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define SEALS_REVOCABLE (F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint32_t header_size(void)
{
    return (uint32_t)(page_size() > sizeof(nx_ring_header) ? page_size() : sizeof(nx_ring_header));
}

/* Maps header and data, then the data once more behind; `ret` is the first address. */
static int map_twice(int fd, uint64_t header_bytes, uint64_t capacity, void **ret)
{
    uint64_t file_bytes = header_bytes + capacity;
    uint8_t *base =
        mmap(NULL, file_bytes + capacity, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (base == MAP_FAILED) {
        return NX_ESYS;
    }
    if (mmap(base, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
            MAP_FAILED ||
        mmap(base + file_bytes, capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
             (off_t)header_bytes) == MAP_FAILED) {
        int saved = errno;
        munmap(base, file_bytes + capacity);
        errno = saved;
        return NX_ESYS;
    }
    *ret = base;
    return NX_OK;
}

/* The word of a ring that nobody takes away. */
static const _Atomic uint64_t never;

/* A handle over a checked geometry; owns `fd` from here on, also on failure. */
static int open_map(int fd, const nx_ring *geometry, uint64_t header_bytes, nx_ring_map **ret)
{
    uint64_t capacity = nx_ring_capacity(geometry);
    void *base = NULL;
    nx_ring_map *map = aligned_alloc(_Alignof(nx_ring_map), sizeof *map);
    int code = map == NULL ? NX_ENOMEM : map_twice(fd, header_bytes, capacity, &base);

    if (code != NX_OK) {
        int saved = errno;
        free(map);
        close(fd);
        errno = saved;
        return code;
    }
    *map = (nx_ring_map){
        .ring = *geometry,
        .base = base,
        .mapped_bytes = header_bytes + 2 * capacity,
        .fd = fd,
        .wake_fd = -1,
        .closed = &never,
    };
    map->ring.publish_bytes = capacity / 8;
    nx_ring_bind(&map->ring, base, (uint8_t *)base + header_bytes);
    *ret = map;
    return NX_OK;
}

static int create_file(uint64_t bytes, int seals, int *ret)
{
    int fd = memfd_create("nexus-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) {
        /* Before Linux 6.3. */
        fd = memfd_create("nexus-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    if (fd < 0) {
        return NX_ESYS;
    }
    if (ftruncate(fd, (off_t)bytes) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return NX_ESYS;
    }
    *ret = fd;
    return NX_OK;
}

int nx_ring_map_create(uint64_t capacity_min, uint8_t kind, uint8_t flags, nx_ring_map **ret)
{
    uint64_t capacity = page_size();
    uint32_t header_bytes = header_size();
    nx_ring_header *header;
    nx_ring geometry;
    int fd;

    if (capacity_min == 0 || (flags & ~NX_RING_REVOCABLE) != 0) {
        return NX_EINVAL;
    }
    if (capacity_min > NX_RING_CAPACITY_MAX) {
        return NX_ETOOBIG;
    }
    while (capacity < capacity_min) {
        capacity *= 2;
    }
    int code = create_file(header_bytes + capacity,
                           flags & NX_RING_REVOCABLE ? SEALS_REVOCABLE : SEALS_FIXED, &fd);
    if (code != NX_OK) {
        return code;
    }
    header = mmap(NULL, header_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (header == MAP_FAILED) {
        int saved = errno;
        close(fd);
        errno = saved;
        return NX_ESYS;
    }
    code = nx_ring_format(header, header_bytes, capacity, kind, flags);
    if (code == NX_OK) {
        code = nx_ring_check_header((const uint8_t *)header, header_bytes + capacity, &geometry);
    }
    munmap(header, header_bytes);
    if (code != NX_OK) {
        close(fd);
        return code;
    }
    return open_map(fd, &geometry, header_bytes, ret);
}

void nx_ring_map_heed(nx_ring_map *map, const _Atomic uint64_t *word, uint64_t bits)
{
    map->closed = word;
    map->closed_bits = bits;
}

/* Whether the file cannot lose pages under us. */
static bool is_fixed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals >= 0 && (seals & SEALS_FIXED) == SEALS_FIXED;
}

int nx_ring_map_attach(int fd, bool revocable, nx_ring_map **ret)
{
    uint8_t identity[64];
    struct stat status;
    nx_ring geometry;

    if (fstat(fd, &status) != 0) {
        return NX_ESYS;
    }
    if (!S_ISREG(status.st_mode) || status.st_size < (off_t)sizeof(nx_ring_header)) {
        return NX_ECORRUPT;
    }
    bool fixed = is_fixed(fd);
    if (!fixed && !revocable) {
        return NX_EDENIED;
    }
    ssize_t size = pread(fd, identity, sizeof identity, 0);
    if (size != sizeof identity) {
        return size < 0 ? NX_ESYS : NX_ECORRUPT;
    }
    uint64_t header_bytes = nx_load_u32(identity + 12);
    int code = nx_ring_check_header(identity, (uint64_t)status.st_size, &geometry);
    if (code != NX_OK) {
        return code;
    }
    if (header_bytes % page_size() != 0 || nx_ring_capacity(&geometry) % page_size() != 0 ||
        (fixed && (geometry.flags & NX_RING_REVOCABLE) != 0)) {
        return NX_ECORRUPT;
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return own < 0 ? NX_ESYS : open_map(own, &geometry, header_bytes, ret);
}

int nx_ring_map_adopt_wake_fd(nx_ring_map *map, int fd)
{
    struct stat status;

    if (fstat(fd, &status) != 0) {
        return NX_ESYS;
    }
    /* An eventfd is an anonymous inode, which has no type. */
    if ((status.st_mode & S_IFMT) != 0) {
        return NX_EINVAL;
    }
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0) {
        return NX_ESYS;
    }
    map->wake_fd = own;
    return NX_OK;
}

static void unmap(nx_ring_map *map)
{
    if (map->base != NULL) {
        munmap(map->base, map->mapped_bytes);
        map->base = NULL;
    }
}

void nx_ring_map_destroy(nx_ring_map *map)
{
    if (map->base != NULL) {
        nx_ring_map_release(map);
    }
    unmap(map);
    close(map->fd);
    if (map->wake_fd >= 0) {
        close(map->wake_fd);
    }
    free(map);
}

int nx_ring_map_revoke(nx_ring_map *map)
{
    if ((map->ring.flags & NX_RING_REVOCABLE) == 0) {
        return NX_EDENIED;
    }
    /* Truncated first: if that fails nothing has changed. Nobody touches the pages in between. */
    if (ftruncate(map->fd, 0) != 0) {
        return NX_ESYS;
    }
    map->producer_generation = 0;
    map->consumer_generation = 0;
    unmap(map);
    return NX_OK;
}

void nx_ring_map_read_stats(const nx_ring_map *map, nx_ring_stats *ret)
{
    if (map->ring.kind == NX_RING_MPSC) {
        nx_mpsc_read_stats(&map->ring, ret);
    } else {
        nx_ring_read_stats(&map->ring, ret);
    }
}
