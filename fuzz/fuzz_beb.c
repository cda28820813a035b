// SPDX-License-Identifier: Apache-2.0
/* Error buffer: keeps what was appended; from hostile bytes nothing but records with their check.
 */
#include "fuzz.h"
#include "nx_beb.h"
#include "nx_xxhash.h"

enum { PEER_WRITES, APPEND, ATTACH, READ, OPS };

static nx_beb_buffer buffer;
static nx_beb beb;

static void attach(bool honest)
{
    nx_beb_scan found;
    nx_beb fresh;

    if (nx_beb_attach(&buffer, 1, &found, &fresh) != NX_OK) {
        NX_ASSERT(!honest); /* another version, with a true check: go on with a new buffer */
        memset(&buffer, 0, sizeof buffer);
        NX_ASSERT(nx_beb_attach(&buffer, 1, &found, &fresh) == NX_OK);
    }
    NX_ASSERT(found.valid + found.damaged <= NX_BEB_RING && fresh.sequence == found.newest + 1);
    NX_ASSERT(!honest || (found.damaged == 0 && found.newest == beb.sequence &&
                          found.generation == beb.generation && found.header_valid));
    beb = fresh;
}

/* Half of the hostile fields come with a true check. */
static void lie(nx_input *in, bool sealed)
{
    uint64_t number = eat(in, 2) % NX_BEB_RECORDS;
    uint8_t *record = (uint8_t *)&buffer + 64 * number;

    poke(in, record, 64);
    if (sealed) {
        nx_store_u64(record, nx_xxh64(record + 8, 56, number));
    }
}

static void read_any(nx_input *in, bool honest)
{
    uint64_t sequence = beb.sequence - eat(in, 2);
    bool kept = sequence <= beb.sequence && sequence != 0 && beb.sequence - sequence < NX_BEB_RING;
    nx_beb_record record;
    int code = nx_beb_read(&buffer, sequence, &record);

    NX_ASSERT(!honest || code == (kept ? NX_OK : NX_EEMPTY));
    if (code == NX_OK) {
        uint64_t check = nx_xxh64(&record.sequence, 56, 1 + (sequence - 1) % NX_BEB_RING);
        NX_ASSERT(record.sequence == sequence && record.check == check &&
                  (!honest || record.kind == 1 || record.data[0] == ~sequence));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    bool honest = true;

    memset(&buffer, 0, sizeof buffer);
    beb = (nx_beb){0};
    attach(false);
    for (unsigned steps = 0; in.size > 0 && steps < 16; steps++) { /* attaching hashes 64 KiB */
        uint64_t byte = eat(&in, 1), op = byte % OPS, more = byte / OPS;
        if (op == PEER_WRITES) {
            lie(&in, (more & 1) != 0);
            honest = false;
        } else if (op == APPEND) {
            for (uint64_t i = 0; i < 1 + more * 13; i++) {
                nx_beb_append(&beb, &(nx_beb_record){.kind = 72, .data = {~(beb.sequence + 1)}});
            }
        } else if (op == ATTACH) {
            attach(honest);
        } else {
            read_any(&in, honest);
        }
    }
    return 0;
}
