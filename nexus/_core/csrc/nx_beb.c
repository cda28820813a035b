// SPDX-License-Identifier: Apache-2.0
#include "nx_beb.h"

#include "nx_stl.h"
#include "nx_xxhash.h"

/* tests/native/test_beb.c stops the writer before each of its stores. */
#ifndef NX_BEB_STORE
#define NX_BEB_STORE(target, value) (*(volatile uint64_t *)(target) = (value))
#endif

#define WORDS   8u /* of a record */
#define COVERED 56u

/* How the boot record says what attaching found. */
enum { FOUND_EMPTY = 0, FOUND_VALID = 1, FOUND_NO_HEADER = 2 };

static uint64_t check_of(const void *record, uint64_t number)
{
    return nx_xxh64((const uint8_t *)record + 8, COVERED, number);
}

static void store(void *target, const void *source)
{
    for (unsigned i = 0; i < WORDS; i++) {
        NX_BEB_STORE((uint64_t *)target + i, nx_load_u64((const uint8_t *)source + 8 * i));
    }
}

static uint32_t index_of(uint64_t sequence)
{
    return (uint32_t)((sequence - 1) % NX_BEB_RING);
}

/* Copies one record of the ring out and judges the copy, which nobody changes any more. */
static int load(const nx_beb_buffer *buffer, uint32_t index, nx_beb_record *ret)
{
    const volatile uint64_t *source = (const volatile uint64_t *)&buffer->ring[index];
    uint64_t words[WORDS];
    uint64_t any = 0;

    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = source[i];
        any |= words[i];
    }
    __builtin_memcpy(ret, words, sizeof *ret);
    if (any == 0) {
        return NX_EEMPTY;
    }
    bool right = ret->check == check_of(ret, index + 1) && ret->sequence != 0 &&
                 index_of(ret->sequence) == index;
    return right ? NX_OK : NX_ECORRUPT;
}

int nx_beb_inspect(const nx_beb_buffer *buffer, nx_beb_scan *ret)
{
    const nx_beb_header header = buffer->header;
    nx_beb_scan scan = {
        .header_valid = header.magic == NX_BEB_MAGIC && header.check == check_of(&header, 0),
    };
    nx_beb_record record;

    if (scan.header_valid) {
        if (header.version != NX_BEB_VERSION || header.records != NX_BEB_RECORDS) {
            return NX_EINVAL;
        }
        scan.generation = header.generation;
    }
    for (uint32_t i = 0; i < NX_BEB_RING; i++) {
        int code = load(buffer, i, &record);
        scan.damaged += code == NX_ECORRUPT;
        if (code == NX_OK) {
            scan.valid++;
            scan.newest = record.sequence > scan.newest ? record.sequence : scan.newest;
            scan.generation =
                record.generation > scan.generation ? record.generation : scan.generation;
        }
    }
    *ret = scan;
    return NX_OK;
}

int nx_beb_attach(nx_beb_buffer *buffer, uint64_t now_ns, nx_beb_scan *ret_found, nx_beb *ret)
{
    nx_beb_scan found;
    int code = nx_beb_inspect(buffer, &found);

    if (code != NX_OK) {
        return code;
    }
    nx_beb beb = {.buffer = buffer, .sequence = found.newest, .generation = found.generation + 1};
    nx_beb_record boot = {.time_ns = now_ns, .kind = NX_STL_SYSTEM_BOOT};
    boot.code = found.header_valid                       ? FOUND_VALID
                : found.valid == 0 && found.damaged == 0 ? FOUND_EMPTY
                                                         : FOUND_NO_HEADER;
    boot.data[0] = found.valid;
    boot.data[1] = found.damaged;
    nx_beb_append(&beb, &boot);
    nx_beb_header header = {
        .magic = NX_BEB_MAGIC,
        .version = NX_BEB_VERSION,
        .records = NX_BEB_RECORDS,
        .generation = beb.generation,
    };
    header.check = check_of(&header, 0);
    store(&buffer->header, &header);
    *ret_found = found;
    *ret = beb;
    return NX_OK;
}

void nx_beb_append(nx_beb *beb, const nx_beb_record *record)
{
    nx_beb_record complete = *record;
    uint32_t index = index_of(beb->sequence + 1);

    complete.sequence = beb->sequence + 1;
    complete.generation = beb->generation;
    complete.check = check_of(&complete, index + 1);
    store(&beb->buffer->ring[index], &complete);
    beb->sequence = complete.sequence;
}

int nx_beb_read(const nx_beb_buffer *buffer, uint64_t sequence, nx_beb_record *ret)
{
    nx_beb_record record;
    int code = sequence == 0 ? NX_EEMPTY : load(buffer, index_of(sequence), &record);

    if (code != NX_OK) {
        return code;
    }
    if (record.sequence != sequence) {
        return NX_EEMPTY;
    }
    *ret = record;
    return NX_OK;
}
