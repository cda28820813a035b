// SPDX-License-Identifier: Apache-2.0
/*
 * Many records of one size between a ring and a plain array of rows, for either kind of ring.
 *
 * Guarantees. As nx_ring.h; rows that fit together appear together on a ring with one producer,
 * and on a ring with many if all of them fit. Nothing is half put or half got.
 */
#ifndef NX_RING_ROWS_H
#define NX_RING_ROWS_H

#include "nx_ring_mpsc.h"

/*
 * Puts `count` rows of `size` bytes, as many as fit: NX_OK when all did, else NX_EFULL, NX_ETOOBIG
 * or NX_ECORRUPT, and how many did in `ret`, also then.
 */
int nx_ring_put_rows(nx_ring *ring, const uint8_t *rows, uint64_t size, uint64_t count,
                     uint64_t *ret);

/*
 * Gets up to `count` records into rows of `size` bytes and consumes them; ends before a record of
 * another size. Returns how many came. The caller has seen with nx_ring_peek that one waits.
 */
uint64_t nx_ring_get_rows(nx_ring *ring, uint8_t *rows, uint64_t size, uint64_t count);

#endif
