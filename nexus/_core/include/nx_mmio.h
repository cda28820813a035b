// SPDX-License-Identifier: Apache-2.0
/*
 * A window of device registers: checked accesses of exact width.
 *
 * Every access checks bounds and natural alignment first and touches nothing when a check fails.
 * What an access does to the device is exact: read and write are one access, update is one read
 * and one write, a block is `count` accesses of `width` bytes, a poll is `spins` reads.
 * Reads are ordered before what follows and writes after what precedes them (nx_io.h); the
 * _relaxed forms leave the barriers out, and a block has one barrier for all its accesses.
 *
 * Modes. A plain window goes straight to the mapping. The others take the out-of-line path:
 *   NX_MMIO_READONLY  writes are refused with NX_EDENIED;
 *   NX_MMIO_GUARDED   a SIGBUS inside the window gives NX_EFAULT (nx_guard.h); the block or poll
 *                     that it cut off has been done in part;
 *   NX_MMIO_RECORDED  each access is also written to the tape;
 *   NX_MMIO_DRY       the window is plain memory that no device answers: a poll reads once;
 *   NX_MMIO_REPLAYED  there is no mapping: each access must be the tape's next one (NX_ECORRUPT if
 *                     it differs, NX_EEMPTY at the tape's end), and reads give the tape's values.
 *
 * Not handled: two writers. An update is not atomic against other threads, processes or the device.
 */
#ifndef NX_MMIO_H
#define NX_MMIO_H

#include "nx_guard.h"
#include "nx_io.h"

enum {
    NX_MMIO_READONLY = 1,
    NX_MMIO_GUARDED = 2,
    NX_MMIO_RECORDED = 4,
    NX_MMIO_REPLAYED = 8,
    NX_MMIO_DRY = 16,
    NX_MMIO_DETOUR = NX_MMIO_GUARDED | NX_MMIO_RECORDED | NX_MMIO_REPLAYED,
};

enum {
    NX_MMIO_OP_READ = 1,
    NX_MMIO_OP_WRITE = 2,
    NX_MMIO_OP_POLL = 3, /* one entry for a whole poll; the value is the last one read */
};

/* One access on a tape. The value is as the CPU moved it, before any byte swap. */
typedef struct nx_mmio_access {
    uint64_t offset;
    uint64_t value;
    uint8_t op;
    uint8_t width; /* bytes */
    uint8_t reserved[6];
} nx_mmio_access;

/* Memory of the caller. Recording fills items up to capacity, then counts what is lost. */
typedef struct nx_mmio_tape {
    nx_mmio_access *items;
    uint64_t capacity;
    uint64_t count;
    uint64_t position; /* replay: the next item */
    uint64_t lost;
} nx_mmio_tape;

typedef struct nx_mmio {
    volatile uint8_t *base;
    uint64_t size; /* bytes; 0 once closed */
    uint32_t mode;
    nx_mmio_tape *tape;
    nx_guard_runner guard; /* of the module whose handler is installed, see nx_guard.h */
} nx_mmio;

/* `count` accesses of `width` bytes from `offset` on; all at `offset` when fixed (a FIFO). */
typedef struct nx_mmio_span {
    uint64_t offset;
    uint64_t count;
    uint32_t width;
    bool fixed;
} nx_mmio_span;

/* A bounded wait for (register & mask) == want. `value` and `spins` carry on over slices. */
typedef struct nx_mmio_wait {
    uint64_t offset;
    uint64_t mask;
    uint64_t want;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; UINT64_MAX is none */
    uint64_t interval_ns; /* sleep between two reads; 0 spins */
    uint64_t spins_max;   /* reads in all; UINT64_MAX is no bound, at least one is made */
    uint64_t spins;       /* in and out: reads made */
    uint64_t value;       /* out: read last */
    uint32_t width;
} nx_mmio_wait;

/* NX_EINVAL for no bytes, a mode that needs a tape without one, or replay with a mapping. */
int nx_mmio_init(nx_mmio *mmio, volatile void *base, uint64_t size, uint32_t mode,
                 nx_mmio_tape *tape);

/* Every later access gives NX_ECLOSED. The mapping and the tape stay the caller's. */
void nx_mmio_deinit(nx_mmio *mmio);

/* One checked access of width 1, 2, 4 or 8 bytes in any mode; the inline forms below are the
 * fast way. NX_ECLOSED, NX_ERANGE, NX_EALIGN, NX_EDENIED, NX_EFAULT, NX_ECORRUPT, NX_EEMPTY, and
 * NX_EINVAL for another width or a value wider than the register. */
int nx_mmio_read(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t *ret);
int nx_mmio_write(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t value);

/* register = (register & ~mask) | value, with exactly one read and one write. NX_EINVAL when
 * value has bits outside the mask, or the mask outside the register. */
int nx_mmio_update(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t mask, uint64_t value);

/* Incrementing and same-address block transfers. The data are packed little-endian elements, of
 * any alignment. A count of 0 makes no access. Checks cover the whole span before the first. */
int nx_mmio_copy_in(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count, void *ret);
int nx_mmio_copy_out(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                     const void *data);
int nx_mmio_read_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count, void *ret);
int nx_mmio_write_fifo(nx_mmio *mmio, uint64_t offset, uint32_t width, uint64_t count,
                       const void *data);

/* Reads until (value & mask) == want, or NX_ETIMEOUT at the deadline or the bound on reads. The
 * last read is always later than the deadline, so that a preempted caller gets no false timeout.
 * Writes no tape: call nx_mmio_poll_end once when the wait is over. */
int nx_mmio_poll(nx_mmio *mmio, nx_mmio_wait *wait);
void nx_mmio_poll_end(nx_mmio *mmio, const nx_mmio_wait *wait);

/* How many elements of width 1, 2, 4 or 8 are in `size` bytes; UINT64_MAX when a part is left. */
NX_INLINE uint64_t nx_mmio_count(uint64_t size, uint32_t width)
{
    return size % width == 0 ? size / width : UINT64_MAX;
}

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t nx_mmio_now_ns(void);

/* NX_OK when [offset, offset + width) is inside and naturally aligned; width is a power of 2. */
NX_INLINE int nx_mmio_locate(const nx_mmio *mmio, uint64_t offset, uint64_t width)
{
    if (NX_UNLIKELY(offset >= mmio->size || mmio->size - offset < width)) {
        return mmio->size == 0 ? NX_ECLOSED : NX_ERANGE;
    }
    if (NX_UNLIKELY((((uintptr_t)mmio->base + offset) & (width - 1)) != 0)) {
        return NX_EALIGN;
    }
    return NX_OK;
}

/* Defines nx_mmio_read<bits>, nx_mmio_write<bits> and their _relaxed forms. */
#define NX_MMIO_ACCESSORS(bits, type)                                                              \
    NX_INLINE int nx_mmio_read##bits##_relaxed(nx_mmio *mmio, uint64_t offset, type *ret)          \
    {                                                                                              \
        if (NX_LIKELY((mmio->mode & NX_MMIO_DETOUR) == 0)) {                                       \
            int code = nx_mmio_locate(mmio, offset, sizeof(type));                                 \
            if (NX_LIKELY(code == NX_OK)) {                                                        \
                *ret = nx_io_load##bits(mmio->base + offset);                                      \
            }                                                                                      \
            return code;                                                                           \
        }                                                                                          \
        uint64_t value = 0;                                                                        \
        int code = nx_mmio_read(mmio, offset, sizeof(type), &value);                               \
        if (code == NX_OK) {                                                                       \
            *ret = (type)value;                                                                    \
        }                                                                                          \
        return code;                                                                               \
    }                                                                                              \
    NX_INLINE int nx_mmio_read##bits(nx_mmio *mmio, uint64_t offset, type *ret)                    \
    {                                                                                              \
        int code = nx_mmio_read##bits##_relaxed(mmio, offset, ret);                                \
        nx_io_after_read();                                                                        \
        return code;                                                                               \
    }                                                                                              \
    NX_INLINE int nx_mmio_write##bits##_relaxed(nx_mmio *mmio, uint64_t offset, type value)        \
    {                                                                                              \
        if (NX_LIKELY((mmio->mode & (NX_MMIO_DETOUR | NX_MMIO_READONLY)) == 0)) {                  \
            int code = nx_mmio_locate(mmio, offset, sizeof(type));                                 \
            if (NX_LIKELY(code == NX_OK)) {                                                        \
                nx_io_store##bits(mmio->base + offset, value);                                     \
            }                                                                                      \
            return code;                                                                           \
        }                                                                                          \
        return nx_mmio_write(mmio, offset, sizeof(type), value);                                   \
    }                                                                                              \
    NX_INLINE int nx_mmio_write##bits(nx_mmio *mmio, uint64_t offset, type value)                  \
    {                                                                                              \
        nx_io_before_write();                                                                      \
        return nx_mmio_write##bits##_relaxed(mmio, offset, value);                                 \
    }

NX_MMIO_ACCESSORS(8, uint8_t)
NX_MMIO_ACCESSORS(16, uint16_t)
NX_MMIO_ACCESSORS(32, uint32_t)
NX_MMIO_ACCESSORS(64, uint64_t)

#endif
