// SPDX-License-Identifier: Apache-2.0
/* POSIX.1-2017 pax (ustar header), cpio newc (Linux initramfs buffer format), ar(5), and PKWARE
 * APPNOTE 4.3.7 (local file header). */
#include "nx_members.h"

#include <string.h>

#define SIZE_LIMIT (UINT64_C(1) << 62)

enum { UNKNOWN, TAR, CPIO, AR, ZIP, NONE };

/* A member's data, and where the header behind it lies, as distances from its own header. */
typedef struct member {
    uint64_t data;
    uint64_t size;
    uint64_t next;
} member;

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static unsigned digit_of(uint8_t text)
{
    static const char DIGITS[] = "0123456789abcdef";
    const char *found = text == 0 ? NULL : strchr(DIGITS, text >= 'A' ? text | 32 : text);

    return found == NULL ? 16 : (unsigned)(found - DIGITS);
}

/* Digits of a base up to what is none; at least one, behind blanks. */
static bool take_number(const uint8_t *text, size_t size, unsigned base, uint64_t *ret)
{
    size_t i = 0;

    while (i < size && text[i] == ' ') {
        i++;
    }
    size_t start = i;
    for (*ret = 0; i < size && digit_of(text[i]) < base; i++) {
        if (*ret >= SIZE_LIMIT / base) {
            return false;
        }
        *ret = *ret * base + digit_of(text[i]);
    }
    return i > start;
}

static bool tar_size(const uint8_t *field, uint64_t *ret)
{
    uint64_t value = 0;

    if (field[0] != 0x80) {
        return take_number(field, 12, 8, ret);
    }
    for (size_t i = 1; i < 12; i++) { /* base 256, of GNU */
        if (value >= SIZE_LIMIT / 256) {
            return false;
        }
        value = value * 256 + field[i];
    }
    *ret = value;
    return true;
}

static bool take_tar(const uint8_t *header, member *ret)
{
    uint64_t told;
    uint64_t sum = 8 * ' ';

    for (size_t i = 0; i < 512; i++) {
        sum += i < 148 || i >= 156 ? header[i] : 0;
    }
    if (memcmp(header + 257, "ustar", 5) != 0 || !take_number(header + 148, 8, 8, &told) ||
        told != sum || header[156] == 'S' || !tar_size(header + 124, &ret->size)) {
        return false; /* what is sparse has headers of another form behind it */
    }
    if (header[156] >= '1' && header[156] <= '6') {
        ret->size = 0;
    }
    ret->data = 512;
    ret->next = 512 + round_up(ret->size, 512);
    return true;
}

static bool take_cpio(const uint8_t *header, member *ret)
{
    uint64_t name;

    if (memcmp(header, "07070", 5) != 0 || (header[5] != '1' && header[5] != '2') ||
        !take_number(header + 54, 8, 16, &ret->size) || !take_number(header + 94, 8, 16, &name)) {
        return false;
    }
    ret->data = round_up(110 + name, 4);
    ret->next = ret->data + round_up(ret->size, 4);
    return true;
}

static bool take_ar(const uint8_t *header, member *ret)
{
    if (header[58] != '`' || header[59] != '\n' || !take_number(header + 48, 10, 10, &ret->size)) {
        return false;
    }
    ret->data = 60;
    ret->next = 60 + round_up(ret->size, 2);
    return true;
}

static uint64_t little(const uint8_t *bytes, size_t size)
{
    uint64_t ret = 0;

    while (size-- > 0) {
        ret = ret << 8 | bytes[size];
    }
    return ret;
}

static bool take_zip(const uint8_t *header, member *ret)
{
    ret->size = little(header + 18, 4);
    if (memcmp(header, "PK\3\4", 4) != 0 || (header[6] & 8) != 0 || ret->size == UINT32_MAX) {
        return false; /* how long it is stands behind it, or in an extra field */
    }
    ret->data = 30 + little(header + 26, 2) + little(header + 28, 2);
    ret->next = ret->data + ret->size;
    return true;
}

static const struct {
    uint32_t header;
    bool (*take)(const uint8_t *header, member *ret);
} KINDS[] = {[UNKNOWN] = {NX_MEMBERS_HEADER, NULL},
             [TAR] = {512, take_tar},
             [CPIO] = {110, take_cpio},
             [AR] = {60, take_ar},
             [ZIP] = {30, take_zip}};

void nx_members_open(nx_members *ret)
{
    memset(ret, 0, sizeof *ret);
}

/* What the stream's first bytes are; they are fed again from the first header on. */
static void begin(nx_members *members)
{
    uint8_t bytes[NX_MEMBERS_HEADER];
    member first;

    memcpy(bytes, members->bytes, sizeof bytes);
    members->kind = take_tar(bytes, &first)              ? TAR
                    : take_cpio(bytes, &first)           ? CPIO
                    : memcmp(bytes, "!<arch>\n", 8) == 0 ? AR
                    : take_zip(bytes, &first)            ? ZIP
                                                         : NONE;
    members->header = members->kind == AR ? 8 : 0;
    members->at = 0;
    nx_members_feed(members, bytes, sizeof bytes);
}

static void take_header(nx_members *members)
{
    member one;

    members->fill = 0;
    if (members->kind == UNKNOWN) {
        begin(members);
        return;
    }
    if (!KINDS[members->kind].take(members->bytes, &one) ||
        members->header + one.next >= SIZE_LIMIT) {
        members->kind = NONE;
        return;
    }
    if (one.size >= NX_MEMBERS_LARGE && members->last + 2 <= NX_MEMBERS_ROOM) {
        members->borders[members->last++] = members->header + one.data;
        members->borders[members->last++] = members->header + one.data + one.size;
    }
    members->header += one.next;
}

void nx_members_feed(nx_members *members, const uint8_t *data, size_t size)
{
    uint32_t kept = members->last - members->first;

    memmove(members->borders, members->borders + members->first, kept * sizeof *members->borders);
    members->first = 0;
    members->last = kept;
    while (size > 0 && members->kind != NONE) {
        uint64_t ahead = members->header + members->fill - members->at;
        uint32_t missing = KINDS[members->kind].header - members->fill;
        size_t step =
            ahead > 0 ? (ahead < size ? (size_t)ahead : size) : (missing < size ? missing : size);
        if (ahead == 0) {
            memcpy(members->bytes + members->fill, data, step);
            members->fill += (uint32_t)step;
        }
        members->at += step;
        data += step;
        size -= step;
        if (members->fill == KINDS[members->kind].header) {
            take_header(members);
        }
    }
}

uint64_t nx_members_next(nx_members *members, uint64_t after, uint64_t until)
{
    while (members->first < members->last && members->borders[members->first] <= after) {
        members->first++;
    }
    bool found = members->first < members->last && members->borders[members->first] <= until;
    return found ? members->borders[members->first] : 0;
}
