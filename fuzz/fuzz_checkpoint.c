// SPDX-License-Identifier: Apache-2.0
/* Checkpoint slot: restores what was saved; from hostile bytes nothing but what its digest says. */
#include "checkpoint_saves.h"

enum { PEER_WRITES, PEER_SEALS, SAVE, RESTORE, RESUME, WIPE, OPS };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    bool honest = true;

    nx_blake3_select(nx_simd_detect());
    memset(&slot, 0, sizeof slot);
    memset(&saved, 0, sizeof saved);
    nx_checkpoint_writer_init(&slot, &writer);
    for (unsigned steps = 0; in.size > 0 && steps < 24; steps++) { /* each costs 40 KiB */
        uint64_t op = eat(&in, 1), copy = op / OPS & 1;
        op %= OPS;
        if (op == PEER_WRITES) {
            poke(&in, &slot.copies[copy], op / OPS & 2 ? sizeof slot.copies[0] : 64);
            honest = false;
        } else if (op == PEER_SEALS) { /* so that hostile sizes come with a true digest */
            digest_of(&slot.copies[copy], slot.copies[copy].digest);
        } else if (op == SAVE) {
            save(&in);
        } else if (op == RESTORE) {
            nx_checkpoint_demand demand = {honest ? saved.image : slot.copies[copy].image,
                                           honest ? saved.epoch : slot.copies[copy].epoch,
                                           eat(&in, 1) & 3};
            int code = nx_checkpoint_restore(&slot, &demand, &found);
            bool due = saved.sequence != 0 && saved.sequence >= demand.floor;
            NX_ASSERT(!honest || code == (due ? NX_OK : NX_EEMPTY));
            NX_ASSERT(!honest || !due || memcmp(&found, &saved, sizeof saved) == 0);
            uint8_t digest[NX_BLAKE3_OUT];
            digest_of(&found, digest);
            NX_ASSERT(code != NX_OK ||
                      (memcmp(digest, found.digest, sizeof digest) == 0 && found.sequence != 0 &&
                       found.stack_size <= NX_CHECKPOINT_STACK &&
                       found.blob_size <= NX_CHECKPOINT_BLOB && found.image == demand.image &&
                       found.epoch == demand.epoch));
        } else if (op == RESUME) {
            nx_checkpoint_writer_init(&slot, &writer);
            NX_ASSERT(!honest || writer.sequence == saved.sequence);
        } else if (op == WIPE) {
            nx_checkpoint_wipe(&writer);
            memset(&saved, 0, sizeof saved);
            honest = false; /* sequences go on, but no copy is there */
        }
    }
    return 0;
}
