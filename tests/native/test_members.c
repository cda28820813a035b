// SPDX-License-Identifier: Apache-2.0
/* Borders of archives: each kind by hand, every split of the stream, and what ends the search. */
#include "nx_members.h"
#include "nx_test.h"

#include <string.h>

#define ROOM   (1u << 20)
#define LARGE  40001u
#define SMALL  300u
#define SECOND (NX_MEMBERS_LARGE)

static uint8_t archive[ROOM];

static size_t put(size_t at, const char *text)
{
    memcpy(archive + at, text, strlen(text));
    return at + strlen(text);
}

/* The next header of a tar, and where it is followed. */
static size_t tar_header(size_t at, unsigned size, char type)
{
    uint8_t *header = archive + at;
    unsigned sum = 0;
    char text[16];

    memset(header, 0, 512);
    (void)snprintf(text, sizeof text, "%011o", size);
    memcpy(header + 124, text, 12);
    header[156] = (uint8_t)type;
    memcpy(header + 257, "ustar", 6);
    memset(header + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++) {
        sum += header[i];
    }
    (void)snprintf(text, sizeof text, "%06o", sum);
    memcpy(header + 148, text, 7);
    return at + 512 + (size + 511) / 512 * 512;
}

/* All borders of archive[0..size), fed in steps; above the last one 0. */
static size_t borders(size_t size, size_t step, uint64_t *ret, size_t room)
{
    static nx_members members;
    uint64_t after = 0;
    size_t count = 0;

    nx_members_open(&members);
    for (size_t at = 0; at < size; at += step) {
        size_t now = size - at < step ? size - at : step;
        uint64_t next;
        nx_members_feed(&members, archive + at, now);
        while ((next = nx_members_next(&members, after, at + now)) != 0) {
            CHECK(next > after && next <= at + now);
            after = next;
            if (count < room) {
                ret[count] = next;
            }
            count++;
        }
    }
    return count;
}

static void check(const char *what, size_t size, const uint64_t *want, size_t count)
{
    static const size_t STEPS[] = {ROOM, 1, 7, 511, 512, 513, 4096, 60000};

    for (size_t i = 0; i < sizeof STEPS / sizeof *STEPS; i++) {
        uint64_t got[8] = {0};
        size_t n = borders(size, STEPS[i], got, 8);
        if (n != count || memcmp(got, want, count * sizeof *want) != 0) {
            fprintf(stderr, "%s in steps of %zu: %zu borders\n", what, STEPS[i], n);
        }
        CHECK_EQ(n, count);
        CHECK(memcmp(got, want, count * sizeof *want) == 0);
    }
}

static void test_tar(void)
{
    memset(archive, 'x', ROOM);
    size_t large = tar_header(0, SMALL, '0');
    size_t link = tar_header(large, LARGE, '0');
    size_t second = tar_header(link, LARGE, '1'); /* a hard link has nothing behind its header */
    second = link + 512;
    size_t end = tar_header(second, SECOND, '0');
    memset(archive + end, 0, 1024);
    const uint64_t want[] = {large + 512, large + 512 + LARGE, second + 512, end};
    check("tar", end + 1024, want, 4);

    archive[second + 3] ^= 1; /* its sum is wrong now, and nothing behind it is believed */
    check("tar with a broken header", end + 1024, want, 2);
    archive[second + 3] ^= 1;
    (void)tar_header(0, SMALL, 'S');
    check("tar with a sparse member", end + 1024, want, 0);
}

static void test_tar_base_256(void)
{
    memset(archive, 'x', ROOM);
    size_t end = tar_header(0, LARGE, '0');
    uint8_t *field = archive + 124;
    unsigned before = 0;
    unsigned after = 0;
    char text[16];

    for (size_t i = 0; i < 12; i++) {
        before += field[i];
    }
    memset(field, 0, 12);
    field[0] = 0x80;
    field[10] = LARGE >> 8;
    field[11] = LARGE & 255;
    for (size_t i = 0; i < 12; i++) {
        after += field[i];
    }
    unsigned sum = (unsigned)strtoul((const char *)archive + 148, NULL, 8) + after - before;
    (void)snprintf(text, sizeof text, "%06o", sum);
    memcpy(archive + 148, text, 7);
    const uint64_t want[] = {512, 512 + LARGE};
    check("tar, base 256", end, want, 2);
}

static void test_cpio(void)
{
    char header[256];

    memset(archive, 'x', ROOM);
    (void)snprintf(header, sizeof header, "070701%048d%08x%032d%08x%08d", 0, LARGE, 0, 6, 0);
    size_t data = 116;
    (void)put(0, header);
    size_t next = data + (LARGE + 3) / 4 * 4;
    (void)put(next, header);
    const uint64_t want[] = {data, data + LARGE, next + data, next + data + LARGE};
    check("cpio", next + data + LARGE + 100, want, 4);
}

static void test_ar(void)
{
    char header[256];

    memset(archive, 'x', ROOM);
    (void)put(0, "!<arch>\n");
    (void)snprintf(header, sizeof header, "%-48s%-10u`\n", "name/", LARGE);
    (void)put(8, header);
    size_t next = 68 + LARGE + 1;
    (void)snprintf(header, sizeof header, "%-48s%-10u`\n", "name/", SECOND);
    (void)put(next, header);
    const uint64_t want[] = {68, 68 + LARGE, next + 60, next + 60 + SECOND};
    check("ar", next + 60 + SECOND + 1, want, 4);
}

static void zip_header(size_t at, unsigned flags, unsigned size)
{
    memset(archive + at, 0, 30);
    memcpy(archive + at, "PK\3\4", 4);
    archive[at + 6] = (uint8_t)flags;
    memcpy(archive + at + 18, &(uint32_t){size}, 4);
    archive[at + 26] = 5;
    archive[at + 28] = 3;
}

static void test_zip(void)
{
    memset(archive, 'x', ROOM);
    zip_header(0, 0, LARGE);
    zip_header(38 + LARGE, 0, SECOND);
    const uint64_t want[] = {38, 38 + LARGE, 38 + LARGE + 38, 38 + LARGE + 38 + SECOND};
    check("zip", 76 + LARGE + SECOND + 50, want, 4);
    archive[38 + LARGE + 6] = 8; /* its length follows it */
    check("zip with a descriptor", 76 + LARGE + SECOND + 50, want, 2);
}

static void test_what_is_no_archive(void)
{
    const uint64_t none[1] = {0};

    memset(archive, 0, ROOM);
    check("zeros", ROOM, none, 0);
    memset(archive, ' ', ROOM);
    check("blanks", ROOM, none, 0);
    (void)tar_header(0, 0, '0');
    memset(archive + 124, '7', 12); /* 8 GiB, of which there are not so many */
    check("a sum that is wrong", ROOM, none, 0);
}

int main(void)
{
    test_tar();
    test_tar_base_256();
    test_cpio();
    test_ar();
    test_zip();
    test_what_is_no_archive();
    TEST_MAIN_END();
}
