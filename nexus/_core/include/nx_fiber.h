// SPDX-License-Identifier: Apache-2.0
/*
 * What a fiber is told by its supervisor: which descriptor is what, and when its life begins.
 *
 * Theory of operation. The environment names the descriptors (NEXUS_FIBER, parsed here), and a
 * page of 64 bytes tells the number of the life and which checkpoint may be restored. A program
 * may be started before its life begins: then `life` is 0, and the program sleeps on it as on a
 * futex. The supervisor stores everything else first, so whoever sees a life sees it all.
 *
 * Guarantees. A list that is not exactly of the documented form is refused as a whole, and the
 * parser reads no byte behind its size. A page that was mapped is 64 bytes of a file. Neither
 * libc nor errno is needed: a native fiber and the Python one run the same lines.
 *
 * Not handled: a page that is made shorter while it is mapped (the supervisor alone could).
 *
 * Source: docs/spec/node.md, "Handles of a fiber" and "Life page".
 */
#ifndef NX_FIBER_H
#define NX_FIBER_H

#include "nx_base.h"

#include <stdatomic.h>

#define NX_FIBER_LIFE           64u
#define NX_FIBER_DESCRIPTOR_MIN 3u
#define NX_FIBER_DESCRIPTOR_MAX 63u
#define NX_FIBER_HANDLES        61u   /* one for each descriptor */
#define NX_FIBER_NAME_MAX       63u   /* bytes of a handle's name */
#define NX_FIBER_TEXT_MAX       8192u /* of the list: more than 61 of the longest words */

/* Other processes write it, and the reader maps it for reading. */
typedef struct {
    _Atomic uint32_t life; /* 0 while the life waits; a futex */
    uint32_t epoch;        /* of a checkpoint that may be restored */
    uint64_t image;
    uint64_t floor; /* sequence of the checkpoint to restore; 0: start cold */
    uint64_t time_ns;
    uint32_t own_epoch; /* what this life marks its saves with */
    uint32_t zero;
    _Atomic uint64_t revoked; /* bit n: what has the number n was taken, here or at the other end */
    uint64_t rest[2];
} nx_fiber_life;

NX_STATIC_ASSERT(sizeof(nx_fiber_life) == NX_FIBER_LIFE, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, epoch) == 4, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, image) == 8, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, floor) == 16, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, time_ns) == 24, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, own_epoch) == 32, "docs/spec/node.md");
NX_STATIC_ASSERT(offsetof(nx_fiber_life, revoked) == 40, "docs/spec/node.md");

typedef enum {
    NX_FIBER_READ = 1,
    NX_FIBER_WRITE = 2,
    NX_FIBER_OPEN = 3,
} nx_fiber_kind;

typedef struct {
    const char *name; /* in the text that was parsed; not terminated */
    uint8_t name_size;
    uint8_t kind;
    uint8_t descriptor;
} nx_fiber_handle;

typedef struct {
    int life;       /* descriptor, or -1 */
    int checkpoint; /* descriptor, or -1 */
    unsigned count;
    nx_fiber_handle handles[NX_FIBER_HANDLES];
} nx_fiber_handles;

/*
 * Parses NEXUS_FIBER; empty is no handle. The words are separated by one space each: `life=N`,
 * `checkpoint=N`, `read:NAME=N`, `write:NAME=N`, `open:NAME=N`; N is decimal, 3 to 63, without
 * leading zeros; NAME is 1 to 63 letters, digits, '_', '-' or '.'. No descriptor twice; the first
 * two kinds at most once; no name twice for a channel (read or write) or for opened files.
 * NX_ETOOBIG for a longer text, NX_EINVAL for anything else; *ret_at is then where the word begins
 * that is wrong.
 */
int nx_fiber_parse(const char *text, size_t size, nx_fiber_handles *ret, size_t *ret_at);

/* NX_EINVAL when the file does not have 64 bytes, NX_ESYS (with errno, where there is one). */
int nx_fiber_life_map(int fd, const nx_fiber_life **ret);
void nx_fiber_life_unmap(const nx_fiber_life *life);

/*
 * Sleeps until the life has begun: NX_OK. NX_ETIMEOUT after `deadline_ns` of the monotonic clock,
 * INT64_MAX for never; NX_EEMPTY when it woke for anything else, as a signal: call again.
 */
int nx_fiber_life_wait(const nx_fiber_life *life, int64_t deadline_ns);

#endif
