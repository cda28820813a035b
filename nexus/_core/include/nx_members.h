// SPDX-License-Identifier: Apache-2.0
/*
 * Where the members of an archive lie: tar, cpio (newc), ar and zip as they stream by.
 *
 * Theory of operation. A header says how long its member is and with that where the next header
 * lies; all between is skipped. A chunk that ends where a large member begins and another one where
 * it ends have the member alone: as the file would be cut by itself, whatever its header says and
 * whatever lies before it. Nothing is believed but positions: what is no header where one should be
 * ends the search, and the rest of the stream is cut as any other.
 */
#ifndef NX_MEMBERS_H
#define NX_MEMBERS_H

#include "nx_base.h"

#define NX_MEMBERS_HEADER 512u /* bytes from which the kind is known */
#define NX_MEMBERS_LARGE  32768u
#define NX_MEMBERS_FEED   (4u << 20) /* most that is fed at once */
#define NX_MEMBERS_ROOM   (2u * NX_MEMBERS_FEED / NX_MEMBERS_LARGE + 4)

typedef struct nx_members {
    uint64_t at;     /* bytes fed */
    uint64_t header; /* offset of the next header */
    uint64_t borders[NX_MEMBERS_ROOM];
    uint32_t first;
    uint32_t last;
    uint32_t fill;
    uint32_t kind;
    uint8_t bytes[NX_MEMBERS_HEADER]; /* of a header, as they come */
} nx_members;

/* At the start of a stream. */
void nx_members_open(nx_members *ret);
/* The next bytes of the stream, at most NX_MEMBERS_FEED since borders were last taken. */
void nx_members_feed(nx_members *members, const uint8_t *data, size_t size);
/* The first border above `after` and at most `until`; 0 when there is none. Borders ascend, and
 * those passed are forgotten. */
uint64_t nx_members_next(nx_members *members, uint64_t after, uint64_t until);

#endif
