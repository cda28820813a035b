// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: mounting, checking and using an image that lies. Bytes of nodes and fields of
 * trailer and superblock are changed before they are sealed, so that every check of the image is
 * right and only what it says is wrong; other bytes are changed behind the checks' back.
 */
#include "../nexus/_core/csrc/nx_nexfs_core.h"
#include "fuzz.h"

#define BLOCK 4096u
#define SIZE  (48u * BLOCK)
#define SLOTS 12u

static uint8_t pristine[SIZE], image[SIZE];
static bool made;
static nx_nexfs_slot slots[SLOTS];
static uint8_t nodes[SLOTS * 512] NX_ALIGNED(8), buffer[4096];
static uint64_t programs;

static int medium_read(void *self, uint64_t at, void *ret, size_t size, uint32_t *ret_flips)
{
    (void)self;
    NX_ASSERT(at <= SIZE && SIZE - at >= size); /* the log's own duty */
    memcpy(ret, image + at, size);
    *ret_flips = 0;
    return NX_OK;
}

static int medium_program(void *self, uint64_t at, const void *data, size_t size)
{
    (void)self;
    NX_ASSERT(at <= SIZE && SIZE - at >= size && at / BLOCK == (at + size - 1) / BLOCK);
    memcpy(image + at, data, size);
    return ++programs < 4000 ? NX_OK : NX_EFAULT; /* a medium that ends bounds every loop */
}

static int medium_erase(void *self, uint64_t at)
{
    (void)self;
    NX_ASSERT(at < SIZE && at % BLOCK == 0);
    memset(image + at, 0xff, BLOCK);
    return ++programs < 4000 ? NX_OK : NX_EFAULT;
}

static int medium_oob_read(void *self, uint64_t at, void *ret, size_t size)
{
    (void)self, (void)at, (void)ret, (void)size;
    return NX_EABSENT;
}

static int medium_oob_write(void *self, uint64_t at, const void *data, size_t size)
{
    (void)self, (void)at, (void)data, (void)size;
    return NX_EABSENT;
}

static int medium_is_bad(void *self, uint64_t at, bool *ret)
{
    (void)self, (void)at;
    *ret = false;
    return NX_OK;
}

static int medium_mark_bad(void *self, uint64_t at)
{
    (void)self, (void)at;
    return NX_OK;
}

static int medium_sync(void *self)
{
    (void)self;
    return NX_OK;
}

static const nx_flash_verbs verbs = {medium_read,     medium_program,   medium_erase,
                                     medium_oob_read, medium_oob_write, medium_is_bad,
                                     medium_mark_bad, medium_sync};
static const nx_flash flash = {&verbs,
                               NULL,
                               {.size = SIZE,
                                .block_size = BLOCK,
                                .page_size = 256,
                                .programs = 1,
                                .kind = NX_FLASH_NOR,
                                .erased = 0xff}};

static nx_nexfs_memory lend(void)
{
    return (nx_nexfs_memory){.slots = slots,
                             .nodes = nodes,
                             .buffer = buffer,
                             .buffer_size = sizeof buffer,
                             .slot_count = SLOTS,
                             .node_size = 512};
}

/* A volume with a directory, small and large files, a link and an attribute. */
static void make(void)
{
    nx_nexfs_format_options options = {.volume_id = {7},
                                       .node_log2 = 9,
                                       .window_log2 = 9,
                                       .window_max_log2 = 10,
                                       .reserve_blocks = 4};
    nx_nexfs_memory memory = lend();
    uint64_t directory, inode;
    uint8_t data[1500];
    nx_nexfs fs;

    memset(data, 0x5a, sizeof data);
    memset(image, 0xff, SIZE);
    NX_ASSERT(nx_nexfs_format(&flash, &memory, &options, &fs) == NX_OK);
    NX_ASSERT(nx_nexfs_mount(&flash, &memory, true, &fs) == NX_OK);
    NX_ASSERT(nx_nexfs_create(&fs, 1, "d", 1, NX_NEXFS_DIRECTORY, &directory) == NX_OK);
    for (uint32_t i = 0; i < 6; i++) {
        char name[2] = {'a', (char)('0' + i)};
        NX_ASSERT(nx_nexfs_create(&fs, i % 2 == 0 ? 1 : directory, name, 2, NX_NEXFS_FILE,
                                  &inode) == NX_OK);
        NX_ASSERT(nx_nexfs_write(&fs, inode, 0, data, 1 + 299 * i) == NX_OK);
    }
    NX_ASSERT(nx_nexfs_link(&fs, inode, 1, "l", 1) == NX_OK);
    NX_ASSERT(nx_nexfs_attribute_set(&fs, inode, "user.x", 6, "y", 1) == NX_OK);
    NX_ASSERT(nx_nexfs_unmount(&fs) == NX_OK);
    memcpy(pristine, image, SIZE);
    made = true;
}

/* Changes what will be sealed. */
static void lie(nx_input *in)
{
    nx_nexfs_memory memory = lend();
    nx_nexfs fs;

    NX_ASSERT(nx_nexfs_mount(&flash, &memory, true, &fs) == NX_OK);
    NX_ASSERT(nx_nexfs_set(&fs, 1, &(nx_nexfs_attributes){.mode = 0700, .window_log2 = 9}) ==
              NX_OK);
    for (unsigned i = 0; i < 6 && in->size > 4; i++) {
        uint32_t slot = (uint32_t)eat(in, 1) % SLOTS;
        uint64_t seek = eat(in, 1);
        nx_nexfs_key key = nx_nexfs_key_of(seek % 9, (unsigned)seek / 9 % 5);
        nx_nexfs_item item;
        (void)nx_nexfs_tree_seek(&fs, &key, &item); /* other nodes come into slots */
        if (slots[slot].used && slots[slot].children == 0) {
            uint32_t bytes = nx_nexfs_node_bytes(nx_nexfs_node(&fs, slot));
            uint32_t at = NODE_HEADER + (uint32_t)eat(in, 2) % (bytes - NODE_HEADER + 1);
            if (at < bytes) {
                nx_nexfs_node(&fs, slot)[at] = (uint8_t)eat(in, 1);
                nx_nexfs_dirty(&fs, slot);
            }
        }
    }
    if ((eat(in, 1) & 1) != 0) { /* the trailer */
        uint32_t at = (uint32_t)eat(in, 1) % sizeof fs.state;
        ((uint8_t *)&fs.state)[at] = (uint8_t)eat(in, 1);
        if (fs.overlay_count > 0) {
            poke(in, (uint8_t *)&fs.overlays[0], sizeof fs.overlays[0]);
        }
    }
    fs.changed = true;
    if (nx_nexfs_commit(&fs) == NX_OK && (eat(in, 1) & 3) == 0) {
        ((uint8_t *)&fs.super)[eat(in, 1) % sizeof fs.super] = (uint8_t)eat(in, 1);
        (void)nx_nexfs_super_write(&fs);
    }
}

static void ignore(void *self, nx_nexfs_problem problem, uint64_t inode, uint64_t where)
{
    (void)self, (void)problem, (void)inode, (void)where;
}

/* All that a reader and a writer do. */
static void use(bool writable)
{
    nx_nexfs_memory memory = lend();
    nx_nexfs_entry entry;
    uint8_t data[2000];
    uint64_t inode;
    size_t size;
    nx_nexfs fs;

    if (nx_nexfs_mount(&flash, &memory, writable, &fs) != NX_OK) {
        return;
    }
    (void)nx_nexfs_check(&fs, true, ignore, NULL);
    for (uint64_t directory = 1; directory < 9; directory++) {
        uint64_t cookie = 0;
        for (unsigned i = 0; i < 20 && nx_nexfs_next(&fs, directory, cookie, &entry) == NX_OK;
             i++) {
            cookie = entry.cookie;
        }
        (void)nx_nexfs_read(&fs, directory, 0, data, sizeof data, &size);
        (void)nx_nexfs_attribute_get(&fs, directory, "user.x", 6, data, sizeof data, &size);
    }
    if (writable) {
        memset(data, 1, sizeof data);
        (void)nx_nexfs_rename(&fs, 1, "a0", 2, 1, "a2", 2);
        (void)nx_nexfs_rename(&fs, 1, "d", 1, 2, "e", 1);
        if (nx_nexfs_create(&fs, 1, "n", 1, NX_NEXFS_FILE, &inode) == NX_OK) {
            (void)nx_nexfs_write(&fs, inode, 100, data, sizeof data);
        }
        (void)nx_nexfs_truncate(&fs, 4, 10);
        (void)nx_nexfs_unlink(&fs, 1, "a4", 2, false);
        (void)nx_nexfs_clean(&fs, 4);
    }
    (void)nx_nexfs_unmount(&fs);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    nx_input in = {bytes, size};

    programs = 0;
    if (!made) {
        make();
    }
    programs = 0;
    memcpy(image, pristine, SIZE);
    lie(&in);
    while (in.size > 3) {
        image[eat(&in, 3) % SIZE] = (uint8_t)eat(&in, 1);
    }
    use(false);
    use(true);
    return 0;
}
