// SPDX-License-Identifier: Apache-2.0
#include "nx_mmio.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* With no interval the clock is read once in this many register reads: 39 ns against about 1 us
 * for a read over PCIe, and 100 ns on a bus of a SoC. */
#define POLL_CLOCK_PERIOD 8u

/* A transfer in a form that a guard can call. `step` is 0 for a FIFO. */
typedef struct transfer {
    volatile uint8_t *address;
    uint64_t step;
    uint64_t count;
    uint8_t *in;
    const uint8_t *out;
    uint32_t width;
} transfer;

#define TRANSFER_LOOPS(bits, type)                                                                 \
    static void load_all##bits(const transfer *t)                                                  \
    {                                                                                              \
        const volatile uint8_t *address = t->address;                                              \
        uint64_t step = t->step, count = t->count;                                                 \
        uint8_t *in = t->in;                                                                       \
        for (uint64_t i = 0; i < count; i++, address += step) {                                    \
            type value = nx_io_load##bits(address);                                                \
            memcpy(in + i * sizeof value, &value, sizeof value);                                   \
        }                                                                                          \
    }                                                                                              \
    static void store_all##bits(const transfer *t)                                                 \
    {                                                                                              \
        volatile uint8_t *address = t->address;                                                    \
        uint64_t step = t->step, count = t->count;                                                 \
        const uint8_t *out = t->out;                                                               \
        for (uint64_t i = 0; i < count; i++, address += step) {                                    \
            type value;                                                                            \
            memcpy(&value, out + i * sizeof value, sizeof value);                                  \
            nx_io_store##bits(address, value);                                                     \
        }                                                                                          \
    }

TRANSFER_LOOPS(8, uint8_t)
TRANSFER_LOOPS(16, uint16_t)
TRANSFER_LOOPS(32, uint32_t)
TRANSFER_LOOPS(64, uint64_t)

static void transfer_run(void *context)
{
    const transfer *t = context;
    bool in = t->in != NULL;

    switch (t->width) {
    case 1:
        (in ? load_all8 : store_all8)(t);
        break;
    case 2:
        (in ? load_all16 : store_all16)(t);
        break;
    case 4:
        (in ? load_all32 : store_all32)(t);
        break;
    default:
        (in ? load_all64 : store_all64)(t);
        break;
    }
}

/* Runs something that touches the window, under the guard when the window has one. */
static int touch(const nx_mmio *mmio, nx_guard_body body, void *context)
{
    if ((mmio->mode & NX_MMIO_GUARDED) != 0) {
        return mmio->guard(body, context, mmio->base, mmio->size);
    }
    body(context);
    return NX_OK;
}

static uint64_t element(const void *data, uint64_t index, uint32_t width)
{
    uint64_t value = 0;

    memcpy(&value, (const uint8_t *)data + index * width, width);
    return value;
}

static void record(nx_mmio_tape *tape, uint8_t op, uint64_t offset, uint32_t width, uint64_t value)
{
    if (tape->count == tape->capacity) {
        tape->lost++;
        return;
    }
    tape->items[tape->count++] =
        (nx_mmio_access){.offset = offset, .value = value, .op = op, .width = (uint8_t)width};
}

static void record_span(const nx_mmio *mmio, uint8_t op, nx_mmio_span span, const void *data)
{
    if ((mmio->mode & NX_MMIO_RECORDED) == 0) {
        return;
    }
    for (uint64_t i = 0; i < span.count; i++) {
        uint64_t offset = span.offset + (span.fixed ? 0 : i * span.width);
        record(mmio->tape, op, offset, span.width, element(data, i, span.width));
    }
}

/* The tape's next entry, if it is this access; the tape moves on only then. */
static int replay(nx_mmio_tape *tape, uint8_t op, uint64_t offset, uint32_t width,
                  const nx_mmio_access **ret)
{
    if (tape->position == tape->count) {
        return NX_EEMPTY;
    }
    const nx_mmio_access *next = &tape->items[tape->position];
    if (next->op != op || next->offset != offset || next->width != width) {
        return NX_ECORRUPT;
    }
    *ret = next;
    return NX_OK;
}

static int replay_span(const nx_mmio *mmio, uint8_t op, nx_mmio_span span, void *in,
                       const void *out)
{
    nx_mmio_tape *tape = mmio->tape;

    for (uint64_t i = 0; i < span.count; i++) {
        uint64_t offset = span.offset + (span.fixed ? 0 : i * span.width);
        const nx_mmio_access *next = NULL;
        int code = replay(tape, op, offset, span.width, &next);
        if (code != NX_OK) {
            return code;
        }
        if (in != NULL) {
            memcpy((uint8_t *)in + i * span.width, &next->value, span.width);
        } else if (next->value != element(out, i, span.width)) {
            return NX_ECORRUPT;
        }
        tape->position++;
    }
    return NX_OK;
}

static bool width_is_known(uint32_t width)
{
    return width == 1 || width == 2 || width == 4 || width == 8;
}

static uint64_t width_mask(uint32_t width)
{
    return UINT64_MAX >> (64 - 8 * width);
}

static int span_check(const nx_mmio *mmio, nx_mmio_span span)
{
    if (!width_is_known(span.width)) {
        return NX_EINVAL;
    }
    int code = nx_mmio_locate(mmio, span.offset, span.width);
    if (code != NX_OK || span.fixed || span.count == 0) {
        return code;
    }
    return (mmio->size - span.offset) / span.width < span.count ? NX_ERANGE : NX_OK;
}

static int span_read(nx_mmio *mmio, nx_mmio_span span, void *ret)
{
    int code = span_check(mmio, span);

    if (code != NX_OK) {
        return code;
    }
    if ((mmio->mode & NX_MMIO_REPLAYED) != 0) {
        return replay_span(mmio, NX_MMIO_OP_READ, span, ret, NULL);
    }
    transfer t = {.address = mmio->base + span.offset,
                  .step = span.fixed ? 0 : span.width,
                  .count = span.count,
                  .in = ret,
                  .width = span.width};
    code = touch(mmio, transfer_run, &t);
    nx_io_after_read();
    if (code == NX_OK) {
        record_span(mmio, NX_MMIO_OP_READ, span, ret);
    }
    return code;
}

static int span_write(nx_mmio *mmio, nx_mmio_span span, const void *data)
{
    int code = span_check(mmio, span);

    if (code != NX_OK) {
        return code;
    }
    if ((mmio->mode & NX_MMIO_READONLY) != 0) {
        return NX_EDENIED;
    }
    if ((mmio->mode & NX_MMIO_REPLAYED) != 0) {
        return replay_span(mmio, NX_MMIO_OP_WRITE, span, NULL, data);
    }
    transfer t = {.address = mmio->base + span.offset,
                  .step = span.fixed ? 0 : span.width,
                  .count = span.count,
                  .out = data,
                  .width = span.width};
    nx_io_before_write();
    code = touch(mmio, transfer_run, &t);
    if (code == NX_OK) {
        record_span(mmio, NX_MMIO_OP_WRITE, span, data);
    }
    return code;
}

int nx_mmio_init(nx_mmio *mmio, volatile void *base, uint64_t size, uint32_t mode,
                 nx_mmio_tape *tape)
{
    bool replayed = (mode & NX_MMIO_REPLAYED) != 0;
    bool taped = (mode & (NX_MMIO_RECORDED | NX_MMIO_REPLAYED)) != 0;

    if (size == 0 || (taped && tape == NULL) || replayed != (base == NULL)) {
        return NX_EINVAL;
    }
    *mmio =
        (nx_mmio){.base = base, .size = size, .mode = mode, .tape = tape, .guard = nx_guard_run};
    return NX_OK;
}

void nx_mmio_deinit(nx_mmio *mmio)
{
    *mmio = (nx_mmio){.size = 0};
}

int nx_mmio_read(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t *ret)
{
    uint64_t value = 0;
    int code =
        span_read(mmio, (nx_mmio_span){.offset = offset, .count = 1, .width = width}, &value);

    if (code == NX_OK) {
        *ret = value;
    }
    return code;
}

int nx_mmio_write(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t value)
{
    if (!width_is_known(width) || (value & ~width_mask(width)) != 0) {
        return NX_EINVAL;
    }
    return span_write(mmio, (nx_mmio_span){.offset = offset, .count = 1, .width = width}, &value);
}

int nx_mmio_update(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t mask, uint64_t value)
{
    if (!width_is_known(width) || (mask & ~width_mask(width)) != 0 || (value & ~mask) != 0) {
        return NX_EINVAL;
    }
    uint64_t old = 0;
    int code = nx_mmio_locate(mmio, offset, width);
    if (code == NX_OK && (mmio->mode & NX_MMIO_READONLY) != 0) {
        code = NX_EDENIED;
    }
    if (code == NX_OK) {
        code = nx_mmio_read(mmio, offset, width, &old);
    }
    if (code == NX_OK) {
        code = nx_mmio_write(mmio, offset, width, (old & ~mask) | value);
    }
    return code;
}

int nx_mmio_copy_in(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count, void *ret)
{
    return span_read(mmio, (nx_mmio_span){offset, count, width, false}, ret);
}

int nx_mmio_copy_out(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                     const void *data)
{
    return span_write(mmio, (nx_mmio_span){offset, count, width, false}, data);
}

int nx_mmio_read_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count, void *ret)
{
    return span_read(mmio, (nx_mmio_span){offset, count, width, true}, ret);
}

int nx_mmio_write_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                       const void *data)
{
    return span_write(mmio, (nx_mmio_span){offset, count, width, true}, data);
}

uint64_t nx_mmio_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

typedef struct poll_context {
    const nx_mmio *mmio;
    nx_mmio_wait *wait;
    bool done;
} poll_context;

static uint64_t load_width(const volatile uint8_t *address, uint32_t width)
{
    switch (width) {
    case 1:
        return nx_io_load8(address);
    case 2:
        return nx_io_load16(address);
    case 4:
        return nx_io_load32(address);
    default:
        return nx_io_load64(address);
    }
}

static void poll_pause(uint64_t interval_ns)
{
    if (interval_ns == 0) {
        nx_cpu_relax();
        return;
    }
    struct timespec pause = {.tv_sec = (time_t)(interval_ns / 1000000000u),
                             .tv_nsec = (long)(interval_ns % 1000000000u)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static void poll_run(void *context)
{
    poll_context *poll = context;
    nx_mmio_wait *wait = poll->wait;
    const volatile uint8_t *address = poll->mmio->base + wait->offset;
    bool bounded = wait->deadline_ns != UINT64_MAX;
    bool late = false;

    for (;;) {
        wait->value = load_width(address, wait->width);
        wait->spins++;
        if ((wait->value & wait->mask) == wait->want) {
            poll->done = true;
            return;
        }
        if (late || wait->spins >= wait->spins_max) {
            return;
        }
        poll_pause(wait->interval_ns);
        if (bounded && (wait->interval_ns != 0 || wait->spins % POLL_CLOCK_PERIOD == 0)) {
            late = nx_mmio_now_ns() >= wait->deadline_ns;
        }
    }
}

int nx_mmio_poll(nx_mmio *mmio, nx_mmio_wait *wait)
{
    nx_mmio_span span = {.offset = wait->offset, .count = 1, .width = wait->width};
    int code = span_check(mmio, span);

    if (code != NX_OK) {
        return code;
    }
    if ((wait->mask & ~width_mask(wait->width)) != 0 || (wait->want & ~wait->mask) != 0) {
        return NX_EINVAL;
    }
    if ((mmio->mode & NX_MMIO_REPLAYED) != 0) {
        const nx_mmio_access *next = NULL;
        code = replay(mmio->tape, NX_MMIO_OP_POLL, wait->offset, wait->width, &next);
        if (code != NX_OK) {
            return code;
        }
        mmio->tape->position++;
        wait->value = next->value;
        wait->spins++;
        return (wait->value & wait->mask) == wait->want ? NX_OK : NX_ETIMEOUT;
    }
    if ((mmio->mode & NX_MMIO_DRY) != 0) {
        wait->spins_max = 1;
    }
    poll_context poll = {.mmio = mmio, .wait = wait};
    code = touch(mmio, poll_run, &poll);
    nx_io_after_read();
    if (code == NX_OK && !poll.done) {
        code = NX_ETIMEOUT;
    }
    return code;
}

void nx_mmio_poll_end(nx_mmio *mmio, const nx_mmio_wait *wait)
{
    if ((mmio->mode & NX_MMIO_RECORDED) != 0) {
        record(mmio->tape, NX_MMIO_OP_POLL, wait->offset, wait->width, wait->value);
    }
}
