// SPDX-License-Identifier: Apache-2.0
/* Register windows: accesses stay inside, a tape replays what it recorded, and hostile tapes. */
#include "mmio_access.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint32_t mode = eat(&in, 1) & (NX_MMIO_READONLY | NX_MMIO_DRY);
    uint64_t pokes = eat(&in, 1) % 4, first, second;
    uint8_t *window = exact_copy((uint8_t[WINDOW]){1, 2, 3, 4, 5, 6, 7, 8, 9}, WINDOW);
    nx_mmio_access *items = calloc(TAPE, sizeof *items);
    nx_mmio_tape tape = {.items = items, .capacity = TAPE};
    nx_mmio live, again;

    NX_ASSERT(nx_mmio_init(&live, window, WINDOW, mode | NX_MMIO_RECORDED, &tape) == NX_OK);
    NX_ASSERT(nx_mmio_init(&again, NULL, WINDOW, mode | NX_MMIO_REPLAYED, &tape) == NX_OK);
    for (; pokes > 0; pokes--) {
        poke(&in, items, TAPE * sizeof *items); /* kept only where nothing is recorded over it */
    }
    nx_input same = in;
    while (in.size > 0 && tape.lost == 0) {
        (void)access_once(&live, &in, &first);
    }
    bool whole = tape.lost == 0;
    nx_mmio fresh = live;
    memcpy(window, (uint8_t[WINDOW]){1, 2, 3, 4, 5, 6, 7, 8, 9}, WINDOW);
    fresh.mode = mode;
    while (same.size > 0) { /* the window once more from its start, against the tape */
        nx_input step = same;
        int want = access_once(&fresh, &same, &first), got = access_once(&again, &step, &second);
        if (!whole && got == NX_EEMPTY) {
            break;
        }
        NX_ASSERT(got == want && (got != NX_OK || first == second));
    }
    tape.count = TAPE; /* and whatever a damaged tape says */
    tape.position = 0;
    for (same = (nx_input){data, size}; same.size > 0 && tape.position < TAPE;) {
        (void)access_once(&again, &same, &first);
    }
    free(items);
    free(window);
    return 0;
}
