// SPDX-License-Identifier: Apache-2.0
/*
 * The four functions that a compiler itself may call, also on bare metal, where C17 gives no
 * header for them: whoever links a freestanding program brings them along.
 */
#ifndef NX_MEMORY_H
#define NX_MEMORY_H

#if __has_include(<string.h>)
#include <string.h>
#else
#include <stddef.h>

int memcmp(const void *a, const void *b, size_t size);
void *memcpy(void *restrict target, const void *restrict source, size_t size);
void *memmove(void *target, const void *source, size_t size);
void *memset(void *target, int byte, size_t size);
#endif

#endif
