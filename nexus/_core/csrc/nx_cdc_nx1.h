// SPDX-License-Identifier: Apache-2.0
/*
 * Profile nx1: the search that lanes of bytes can do. docs/spec/chunker.md is the authority.
 *
 * Theory of operation. Every byte becomes one of 8 bits by two tables of 16, a shuffle each; three
 * steps join neighbours at distances 1, 2 and 4, so that each byte stands for a window of 8; two
 * sums over four of these, 8 apart, are compared with constants. All of it is the same for every
 * place and needs nothing but the 32 bytes before it: a vector answers for as many places as it has
 * bytes. One place in up to 16,384 passes, and a product over its last 16 bytes decides.
 */
#ifndef NX_CDC_NX1_H
#define NX_CDC_NX1_H

#include "nx_cdc.h"

#define NX_CDC_NX1_WINDOW 32u

/* Fills the fields of nx1. */
void nx_cdc_nx1_init(unsigned strict, unsigned loose, uint64_t seed, nx_cdc *ret);
void nx_cdc_nx1_select(nx_simd level);
/* The first length in [from, to) at which the chunk ends, or `to`. `before` is where the window of
 * length `from` ends; from its start on there are 32 + to - from - 1 bytes. */
size_t nx_cdc_nx1_search(const nx_cdc *cdc, const uint8_t *before, size_t from, size_t to);

#endif
