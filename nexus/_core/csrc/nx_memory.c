// SPDX-License-Identifier: Apache-2.0
/* nx_memory.h, and what the kernels use of strings, for a program without a C library. */
#include "nx_memory.h"

#include "nx_base.h"

/* The compiler emits calls of these four for copies it does not inline. */
void *memcpy(void *restrict target, const void *restrict source, size_t size)
{
    uint8_t *to = target;
    const uint8_t *from = source;

#if defined(__x86_64__)
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
    for (size_t i = 0; i < size; i++) {
        to[i] = from[i];
        nx_compiler_barrier(); /* or the loop becomes a call of itself */
    }
#endif
    return target;
}

void *memset(void *target, int value, size_t size)
{
    uint8_t *to = target;

#if defined(__x86_64__)
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
#else
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)value;
        nx_compiler_barrier();
    }
#endif
    return target;
}

void *memmove(void *target, const void *source, size_t size)
{
    uint8_t *to = target;
    const uint8_t *from = source;

    if ((uintptr_t)to - (uintptr_t)from >= size) {
        return memcpy(target, source, size);
    }
    for (size_t i = size; i > 0; i--) {
        to[i - 1] = from[i - 1];
        nx_compiler_barrier();
    }
    return target;
}

int memcmp(const void *left, const void *right, size_t size)
{
    const uint8_t *a = left;
    const uint8_t *b = right;

    for (size_t i = 0; i < size; i++) {
        if (a[i] != b[i]) {
            return a[i] < b[i] ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *text)
{
    size_t size = 0;

    while (text[size] != '\0') {
        size++;
        nx_compiler_barrier();
    }
    return size;
}

int strcmp(const char *left, const char *right)
{
    size_t i = 0;

    while (left[i] == right[i] && left[i] != '\0') {
        i++;
    }
    return (uint8_t)left[i] - (uint8_t)right[i];
}
