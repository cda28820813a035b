// SPDX-License-Identifier: Apache-2.0
/* NEXUS_FIBER: what is accepted says the same when it is written anew, and keeps all limits. */
#include "nx_fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t write_word(char *to, size_t room, const char *kind, const nx_fiber_handle *handle)
{
    int size = snprintf(to, room, "%s:%.*s=%u ", kind, handle->name_size, handle->name,
                        (unsigned)handle->descriptor);

    return (size_t)size;
}

/* The list in its one form: life, checkpoint, then the others in their order. */
static size_t emit(const nx_fiber_handles *handles, char *to, size_t room)
{
    static const char *const kinds[] = {"", "read", "write", "open"};
    size_t size = 0;

    if (handles->life >= 0) {
        size += (size_t)snprintf(to, room, "life=%d ", handles->life);
    }
    if (handles->checkpoint >= 0) {
        size += (size_t)snprintf(to + size, room - size, "checkpoint=%d ", handles->checkpoint);
    }
    for (unsigned i = 0; i < handles->count; i++) {
        const nx_fiber_handle *handle = &handles->handles[i];
        NX_ASSERT(handle->kind >= NX_FIBER_READ && handle->kind <= NX_FIBER_OPEN);
        NX_ASSERT(handle->name_size >= 1 && handle->name_size <= NX_FIBER_NAME_MAX);
        NX_ASSERT(handle->descriptor >= NX_FIBER_DESCRIPTOR_MIN &&
                  handle->descriptor <= NX_FIBER_DESCRIPTOR_MAX);
        size += write_word(to + size, room - size, kinds[handle->kind], handle);
    }
    return size > 0 ? size - 1 : 0; /* without the last space */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char again[NX_FIBER_TEXT_MAX + 2];
    nx_fiber_handles first, second;
    size_t at = 0;
    /* A copy of its own, so that one byte too far is found. */
    char *text = malloc(size > 0 ? size : 1);

    NX_ASSERT(text != NULL);
    memcpy(text, data, size);
    int code = nx_fiber_parse(text, size, &first, &at);
    NX_ASSERT(code == NX_OK || code == NX_EINVAL || code == NX_ETOOBIG);
    NX_ASSERT(code == NX_OK || at <= size);
    NX_ASSERT((code == NX_ETOOBIG) == (size > NX_FIBER_TEXT_MAX));
    if (code == NX_OK) {
        size_t written = emit(&first, again, sizeof again);
        NX_ASSERT(written == size);
        NX_ASSERT(nx_fiber_parse(again, written, &second, &at) == NX_OK);
        NX_ASSERT(second.life == first.life && second.checkpoint == first.checkpoint &&
                  second.count == first.count);
        for (unsigned i = 0; i < first.count; i++) {
            NX_ASSERT(second.handles[i].kind == first.handles[i].kind &&
                      second.handles[i].descriptor == first.handles[i].descriptor);
        }
    }
    free(text);
    return 0;
}
