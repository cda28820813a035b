// SPDX-License-Identifier: Apache-2.0
/* The list of handles and the life page, on bare system calls; see nx_fiber.h. */
#include "nx_fiber.h"

#include "nx_memory.h"
#include "nx_sys.h"

#include <linux/futex.h>

#define PROT_READ_  1
#define MAP_SHARED_ 1
#define SEEK_END_   2
#define EAGAIN_     11
#define EINTR_      4
#define ETIMEDOUT_  110

enum { LIFE = NX_FIBER_OPEN + 1, CHECKPOINT };

static const struct {
    const char *text;
    uint8_t size;
    uint8_t kind;
} KINDS[] = {
    {"life=", 5, LIFE},          {"checkpoint=", 11, CHECKPOINT},
    {"read:", 5, NX_FIBER_READ}, {"write:", 6, NX_FIBER_WRITE},
    {"open:", 5, NX_FIBER_OPEN},
};

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

/* The kind of a word, 0 for none; moves `at` behind its prefix. */
static unsigned read_kind(const char *text, size_t end, size_t *at)
{
    for (size_t i = 0; i < NX_ARRAY_COUNT(KINDS); i++) {
        size_t size = KINDS[i].size;
        if (end - *at >= size && memcmp(text + *at, KINDS[i].text, size) == 0) {
            *at += size;
            return KINDS[i].kind;
        }
    }
    return 0;
}

/* The number that is all of the rest of a word, 0 for none. */
static unsigned read_descriptor(const char *text, size_t at, size_t end)
{
    unsigned value = 0;

    if (end - at < 1 || end - at > 2 || text[at] == '0') {
        return 0;
    }
    for (; at < end; at++) {
        if (text[at] < '0' || text[at] > '9') {
            return 0;
        }
        value = 10 * value + (unsigned)(text[at] - '0');
    }
    return value >= NX_FIBER_DESCRIPTOR_MIN && value <= NX_FIBER_DESCRIPTOR_MAX ? value : 0;
}

/* Reading and writing share their names: a channel is asked for by name alone. */
static bool is_named_already(const nx_fiber_handles *handles, const nx_fiber_handle *handle)
{
    for (unsigned i = 0; i < handles->count; i++) {
        const nx_fiber_handle *other = &handles->handles[i];
        if ((other->kind == NX_FIBER_OPEN) == (handle->kind == NX_FIBER_OPEN) &&
            other->name_size == handle->name_size &&
            memcmp(other->name, handle->name, handle->name_size) == 0) {
            return true;
        }
    }
    return false;
}

/* One word, from `at` to before `end`. */
static bool read_word(const char *text, size_t at, size_t end, nx_fiber_handles *handles,
                      uint64_t *used)
{
    unsigned kind = read_kind(text, end, &at);
    nx_fiber_handle handle = {.name = text + at, .kind = (uint8_t)kind};

    if (kind != 0 && kind <= NX_FIBER_OPEN) {
        size_t start = at;
        while (at < end && at - start <= NX_FIBER_NAME_MAX && is_name_byte(text[at])) {
            at++;
        }
        handle.name_size = (uint8_t)(at - start);
        if (at == start || at - start > NX_FIBER_NAME_MAX || at == end || text[at] != '=' ||
            is_named_already(handles, &handle)) {
            return false;
        }
        at++;
    }
    unsigned descriptor = kind == 0 ? 0 : read_descriptor(text, at, end);
    if (descriptor == 0 || (*used >> descriptor & 1) != 0) {
        return false;
    }
    *used |= (uint64_t)1 << descriptor;
    handle.descriptor = (uint8_t)descriptor;
    if (kind <= NX_FIBER_OPEN) {
        /* Each has a descriptor of its own, so there are at most 61. */
        handles->handles[handles->count++] = handle;
        return true;
    }
    int *single = kind == LIFE ? &handles->life : &handles->checkpoint;
    bool first = *single < 0;
    *single = (int)descriptor;
    return first;
}

int nx_fiber_parse(const char *text, size_t size, nx_fiber_handles *ret, size_t *ret_at)
{
    uint64_t used = 0;
    nx_fiber_handles found = {.life = -1, .checkpoint = -1};

    if (size > NX_FIBER_TEXT_MAX) {
        *ret_at = NX_FIBER_TEXT_MAX;
        return NX_ETOOBIG;
    }
    /* Nothing at all is a fiber without handles. */
    for (size_t at = size == 0; at <= size;) {
        size_t end = at;
        while (end < size && text[end] != ' ') {
            end++;
        }
        if (!read_word(text, at, end, &found, &used)) {
            *ret_at = at;
            return NX_EINVAL;
        }
        at = end + 1;
    }
    *ret = found;
    return NX_OK;
}

int nx_fiber_life_map(int fd, const nx_fiber_life **ret)
{
    long size = nx_sys(__NR_lseek, fd, 0, SEEK_END_);

    if (size < 0) {
        return nx_sys_failed(size);
    }
    if (size != NX_FIBER_LIFE) {
        return NX_EINVAL;
    }
    long address = nx_sys(__NR_mmap, NULL, NX_FIBER_LIFE, PROT_READ_, MAP_SHARED_, fd, 0);
    if (nx_sys_is_error(address)) {
        return nx_sys_failed(address);
    }
    *ret = (const nx_fiber_life *)address;
    return NX_OK;
}

void nx_fiber_life_unmap(const nx_fiber_life *life)
{
    (void)nx_sys(__NR_munmap, life, NX_FIBER_LIFE);
}

int nx_fiber_life_wait(const nx_fiber_life *life, int64_t deadline_ns)
{
    const struct {
        int64_t seconds;
        int64_t nanoseconds;
    } limit = {deadline_ns / 1000000000, deadline_ns % 1000000000};

    /* Pairs with the release store of the supervisor, which comes after all others. */
    if (atomic_load_explicit(&life->life, memory_order_acquire) != 0) {
        return NX_OK;
    }
    /* BITSET, because its time is absolute: an interrupted wait is not made longer. Not private:
     * the supervisor wakes through a mapping of its own. */
    long result = nx_sys(__NR_futex, &life->life, FUTEX_WAIT_BITSET, 0,
                         deadline_ns == INT64_MAX ? NULL : &limit, NULL, FUTEX_BITSET_MATCH_ANY);
    if (atomic_load_explicit(&life->life, memory_order_acquire) != 0) {
        return NX_OK;
    }
    if (result < 0 && result != -ETIMEDOUT_ && result != -EAGAIN_ && result != -EINTR_) {
        return nx_sys_failed(result);
    }
    return result == -ETIMEDOUT_ ? NX_ETIMEOUT : NX_EEMPTY;
}
