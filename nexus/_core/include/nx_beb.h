// SPDX-License-Identifier: Apache-2.0
/*
 * The error buffer: 64 KiB of self-checking records that are readable after any crash.
 * docs/spec/beb.md is the authority for layout and order.
 *
 * Theory of operation. 1,023 records of 64 bytes form a ring behind a header record. Each record
 * carries its sequence and an XXH64 keyed by its place, so that a scan finds the newest record
 * without any pointer that a crash could tear. The stores of a dead process stay in the page cache;
 * their order does not matter, because a record is whole or damaged.
 *
 * Guarantees. One writer, any number of readers. After the writer's death at any store every record
 * but the one being written is intact; a flipped bit costs the record it is in and no other. A
 * generation of which a complete record exists is never given out again.
 * Not handled: loss of power before write-back, forgery, two writers.
 *
 * No libc, no allocation.
 */
#ifndef NX_BEB_H
#define NX_BEB_H

#include "nx_base.h"

#define NX_BEB_BYTES   65536u
#define NX_BEB_RECORDS 1024u
#define NX_BEB_RING    1023u
#define NX_BEB_MAGIC   0x0a0d00424542584eull /* "NXBEB\0\r\n" */
#define NX_BEB_VERSION 1u

typedef struct nx_beb_record {
    uint64_t check;
    uint64_t sequence;
    uint64_t time_ns;
    uint32_t generation;
    uint16_t kind;
    uint16_t code;
    uint64_t fiber;
    uint64_t data[3];
} nx_beb_record;

typedef struct nx_beb_header {
    uint64_t check;
    uint64_t magic;
    uint32_t version;
    uint32_t records;
    uint32_t generation;
    uint32_t reserved[9];
} nx_beb_header;

NX_STATIC_ASSERT(sizeof(nx_beb_record) == 64, "docs/spec/beb.md");
NX_STATIC_ASSERT(offsetof(nx_beb_record, generation) == 24, "docs/spec/beb.md");
NX_STATIC_ASSERT(offsetof(nx_beb_record, fiber) == 32, "docs/spec/beb.md");
NX_STATIC_ASSERT(sizeof(nx_beb_header) == 64, "docs/spec/beb.md");
NX_STATIC_ASSERT(offsetof(nx_beb_header, generation) == 24, "docs/spec/beb.md");

/* The mapped file, aligned to 8 bytes. */
typedef struct nx_beb_buffer {
    nx_beb_header header;
    nx_beb_record ring[NX_BEB_RING];
} nx_beb_buffer;

NX_STATIC_ASSERT(sizeof(nx_beb_buffer) == NX_BEB_BYTES, "docs/spec/beb.md");

/* What a scan found. */
typedef struct nx_beb_scan {
    uint64_t newest; /* highest sequence; 0: no valid record */
    uint32_t generation;
    uint32_t valid;
    uint32_t damaged; /* neither valid nor empty */
    bool header_valid;
} nx_beb_scan;

/* Private memory of the one writer. */
typedef struct nx_beb {
    nx_beb_buffer *buffer;
    uint64_t sequence; /* of the last record */
    uint32_t generation;
} nx_beb;

/* Goes over the whole buffer. NX_EINVAL: a valid header of another version or size. */
int nx_beb_inspect(const nx_beb_buffer *buffer, nx_beb_scan *ret);

/* Becomes the writer: takes over, or formats what is empty, and logs its own start. NX_EINVAL as
 * for a scan; then nothing was changed. `ret_found` says what was there before. */
int nx_beb_attach(nx_beb_buffer *buffer, uint64_t now_ns, nx_beb_scan *ret_found, nx_beb *ret);

/* Writes one record over the oldest; check, sequence and generation are filled in here. */
void nx_beb_append(nx_beb *beb, const nx_beb_record *record);

/* Copies the record with this sequence out: NX_OK, NX_EEMPTY when there is none or it was
 * overwritten, NX_ECORRUPT when its place is damaged. */
int nx_beb_read(const nx_beb_buffer *buffer, uint64_t sequence, nx_beb_record *ret);

#endif
