// SPDX-License-Identifier: Apache-2.0
/* Manifests and plans: whatever is accepted can be read as a whole, and says what it says twice. */
#include "../tests/native/bkdl_walk.h"
#include "../tests/native/golden_bkdl.h"
#include "fuzz.h"

static void parse_both(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = exact_copy(bytes, size);
    nx_bkdl manifest, again;
    nx_plan plan;

    int result = nx_bkdl_parse(copy, size, &manifest);
    NX_ASSERT(result == NX_OK || result == NX_ECORRUPT || result == NX_ETOOBIG);
    if (result == NX_OK) {
        NX_ASSERT(nx_bkdl_parse(copy, size, &again) == NX_OK);
        NX_ASSERT(walk_manifest(&manifest) == walk_manifest(&again));
        NX_ASSERT(memcmp(copy, bytes, size) == 0);
    }
    result = nx_plan_parse(copy, size, &plan);
    NX_ASSERT(result == NX_OK || result == NX_ECORRUPT || result == NX_ETOOBIG);
    if (result == NX_OK) {
        (void)walk_manifest(&plan.manifest);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nx_input in = {data, size};
    uint64_t mode = eat(&in, 1);

    if (mode % 4 == 0) {
        parse_both(in.at, in.size); /* the bytes as they are */
        return 0;
    }
    /* Else a sound form, damaged: nothing else comes past the first checks. */
    bool whole = mode % 4 == 3;
    size_t length = whole ? sizeof golden_plan : sizeof golden_manifest;
    uint8_t *made = exact_copy(whole ? golden_plan : golden_manifest, length);
    while (in.size > 0) {
        poke(&in, made, length);
    }
    parse_both(made, length);
    free(made);
    return 0;
}
