// SPDX-License-Identifier: Apache-2.0
/* One access to a register window, right or wrong, as an input says. */
#ifndef NX_FUZZ_MMIO_ACCESS_H
#define NX_FUZZ_MMIO_ACCESS_H

#include "fuzz.h"
#include "nx_mmio.h"

#define WINDOW 64u
#define TAPE   64u
enum { READ, WRITE, UPDATE, COPY_IN, COPY_OUT, READ_FIFO, WRITE_FIFO, POLL, OPS };

/* One access as the input says; *ret_value is what it read or wrote. */
static inline int access_once(nx_mmio *mmio, nx_input *in, uint64_t *ret_value)
{
    uint64_t op = eat(in, 1), offset = eat(in, 1) % (WINDOW + 16), count = eat(in, 1) % 20;
    uint32_t width = (const uint32_t[]){1, 2, 4, 8, 3, 0, 16, 8}[op / OPS % 8];
    uint64_t far = count == 19 ? UINT64_MAX / 4 : 0; /* overflows when multiplied by a width */
    uint64_t value = eat(in, 2);
    uint8_t *block = exact_copy((uint8_t[20 * 8]){0}, count * (width == 16 ? 0 : width));
    int code = NX_OK;

    if (op % OPS == READ) {
        code = nx_mmio_read(mmio, offset + far, width, &value);
    } else if (op % OPS == WRITE) {
        code = nx_mmio_write(mmio, offset, width, value);
    } else if (op % OPS == UPDATE) {
        code = nx_mmio_update(mmio, offset, width, value | 0xf, value & 0xff);
    } else if (op % OPS == COPY_IN) {
        code = nx_mmio_copy_in(mmio, offset, width, count + far, block);
    } else if (op % OPS == COPY_OUT) {
        code = nx_mmio_copy_out(mmio, offset, width, count + far, block);
    } else if (op % OPS == READ_FIFO) {
        code = nx_mmio_read_fifo(mmio, offset, width, count, block);
    } else if (op % OPS == WRITE_FIFO) {
        code = nx_mmio_write_fifo(mmio, offset, width, count, block);
    } else {
        nx_mmio_wait wait = {offset, value, value & 3, UINT64_MAX, 0, 3, 0, 0, width};
        code = nx_mmio_poll(mmio, &wait);
        if (code == NX_OK || code == NX_ETIMEOUT) {
            nx_mmio_poll_end(mmio, &wait);
            value = wait.value;
        }
    }
    for (size_t i = 0; code == NX_OK && i < count * width && width <= 8; i++) {
        value = value * 31 + block[i];
    }
    free(block);
    *ret_value = value;
    return code;
}

#endif
