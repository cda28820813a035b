// SPDX-License-Identifier: Apache-2.0
/* Capability table: any sequence of operations against a list; and a table whose memory changed. */
#include "plain_capability.h"

enum { MINT, DERIVE, REVOKE, FORGE, AUDIT, FAULT, OPS };

static void step(nx_capability_table *table, uint64_t op, nx_input *in)
{
    size_t i = known == 0 ? KNOWN : eat(in, 1) % known;
    uint16_t rights = (uint16_t)eat(in, 1);
    uint64_t handle = i == KNOWN ? eat(in, 5) : model[i].handle;
    bool alive = i != KNOWN && model[i].live, self = rights & 1;
    uint32_t ended = 0;
    int code;

    NX_ASSERT(nx_capability_check(table, handle, rights) ==
              (alive && (model[i].rights & rights) == rights));
    if (op == MINT) {
        code = nx_capability_mint(table, (nx_capability){.rights = rights, .object = i}, &handle);
        NX_ASSERT(code == (live < CAPACITY ? NX_OK : NX_EFULL));
        if (code == NX_OK) {
            note(handle, rights, KNOWN);
        }
    } else if (op == DERIVE) {
        code = nx_capability_derive(table, handle, rights, &handle);
        NX_ASSERT(code ==
                  (!alive ? NX_ESTALE
                   : !(model[i].rights & NX_RIGHT_DELEGATE) || (rights & ~model[i].rights) != 0
                       ? NX_EDENIED
                   : live == CAPACITY ? NX_EFULL
                                      : NX_OK));
        if (code == NX_OK) {
            note(handle, rights, i);
        }
    } else if (op == REVOKE) {
        code = nx_capability_revoke(table, handle, self, &ended);
        NX_ASSERT(code == (alive ? NX_OK : NX_ESTALE));
        NX_ASSERT(!alive || ended == end(i, self));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    nx_capability *hot = malloc(CAPACITY * sizeof *hot); /* exact: what lies behind is poisoned */
    nx_capability_links *cold = malloc(CAPACITY * sizeof *cold);
    nx_capability_table table;
    nx_capability_audit audit;
    uint32_t ended = 0;
    bool sound = true;

    known = live = 0;
    NX_ASSERT(nx_capability_table_init(&table, hot, cold, CAPACITY) == NX_OK);
    while (in.size > 0 && known < KNOWN) {
        uint64_t op = eat(&in, 1) % OPS;
        if (op == FORGE) {
            uint64_t handle = eat(&in, 5);
            NX_ASSERT(!sound || nx_capability_check(&table, handle, 0) == is_live(handle));
        } else if (op == FAULT) {
            poke(&in, cold, CAPACITY * sizeof *cold);
            sound = false;
        } else if (op == AUDIT) {
            nx_capability_table_audit(&table, &audit);
            NX_ASSERT(audit.digest == audit.expected && audit.live == table.live);
        } else if (sound) {
            step(&table, op, &in);
            NX_ASSERT(table.live == live);
        } else if (op == REVOKE && known > 0) {
            if (nx_capability_revoke(&table, model[eat(&in, 1) % known].handle, true, &ended) !=
                NX_OK) {
                break; /* the caller must stop trusting the table */
            }
        }
    }
    free(hot);
    free(cold);
    return 0;
}
