// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: files on a medium of erase blocks, from a microcontroller's NAND to a host's file.
 * docs/spec/nexfs.md is the authority on the format; ADR 11 says why it is built so.
 *
 * Theory of operation. One copy-on-write tree holds inodes, names, small files, extents and the
 * block table. Nodes are cached in slots; a changed node keeps its parent cached. A commit programs
 * the changed nodes, children first, and ends in a trailer that names the new root: until it is on
 * the medium, the volume is what it was. When slots run out within an operation, nodes are
 * programmed ahead of their commit, which changes nothing. Data go to blocks of their own, in
 * whole pages, before the commit that names them.
 *
 * Blocks of the log are cleaned by a cursor that goes round the tree and rewrites what lies in the
 * oldest blocks; blocks of data by their owners, which the tree lists. Both do a bounded share
 * of their work in each operation.
 *
 * Guarantees: an operation is whole or not there; what nx_nexfs_sync has returned for is there
 * after any power cut; a node or extent that reads wrong is reported, never used. Not handled:
 * several threads (one owner at a time), devices and sockets beyond their mode, times of access.
 *
 * A change that fails half way (the medium has no usable block left, a node cannot be read) ends
 * the mount's right to write: each further change returns the same code, and the medium keeps the
 * last commit.
 */
#ifndef NX_NEXFS_H
#define NX_NEXFS_H

#include "nx_flash.h"

#define NX_NEXFS_VERSION      1u
#define NX_NEXFS_ROOT         1u /* the inode of the root directory */
#define NX_NEXFS_NAME_MAX     255u
#define NX_NEXFS_KEY_MAX      21u
#define NX_NEXFS_DEPTH_MAX    12u
#define NX_NEXFS_SLOTS_MIN    6u
#define NX_NEXFS_REPLICAS     10u
#define NX_NEXFS_OVERLAYS     16u
#define NX_NEXFS_CANDIDATES   8u
#define NX_NEXFS_VICTIMS      16u
#define NX_NEXFS_SUPERBLOCK   256u
#define NX_NEXFS_CHECKSUM_MAX 32u

enum { NX_NEXFS_CORE, NX_NEXFS_SOVEREIGN, NX_NEXFS_MESH }; /* storage class */
enum { NX_NEXFS_PLAIN, NX_NEXFS_XXH3, NX_NEXFS_BLAKE3_128, NX_NEXFS_BLAKE3_256 }; /* checksum */
enum { NX_NEXFS_RAW, NX_NEXFS_RLE };                                              /* codec */

/* The types of an inode, as POSIX has them in a mode. */
enum {
    NX_NEXFS_TYPE = 0170000,
    NX_NEXFS_DIRECTORY = 0040000,
    NX_NEXFS_FILE = 0100000,
    NX_NEXFS_SYMLINK = 0120000,
};

typedef struct nx_nexfs_slot {
    uint64_t address; /* of the image on the medium, or a provisional one */
    uint32_t age;
    uint16_t stored; /* bytes of the image that the tree reaches now */
    uint16_t parent; /* slot */
    uint16_t children;
    bool used, dirty, held;
} nx_nexfs_slot;

/* What the caller lends for the life of a mount. */
typedef struct nx_nexfs_memory {
    nx_nexfs_slot *slots;
    uint8_t *nodes; /* slot_count nodes, aligned to 8 */
    uint8_t *buffer;
    size_t buffer_size;  /* at least nx_nexfs_buffer_size */
    uint32_t slot_count; /* at least NX_NEXFS_SLOTS_MIN; each level of the tree takes one */
    uint32_t node_size;  /* of each place in `nodes` */
} nx_nexfs_memory;

typedef struct nx_nexfs_format_options {
    uint8_t volume_id[16]; /* random; what makes checks of two volumes differ */
    char label[32];
    int64_t now_ns;
    uint8_t storage_class;
    uint8_t node_log2;       /* 9 to 12 */
    uint8_t window_log2;     /* of new files, 8 to 20 */
    uint8_t window_max_log2; /* at least window_log2 */
    uint8_t replicas;        /* at most 10 */
    uint8_t zero[3];
    uint32_t reserve_blocks; /* at least 4 */
} nx_nexfs_format_options;

typedef struct nx_nexfs_super {
    uint64_t generation, anchor_number, created;
    uint64_t replicas[NX_NEXFS_REPLICAS];
    uint32_t anchor_block, reserve_blocks;
    uint8_t volume_id[16], label[32];
    uint8_t storage_class, node_log2, address_bytes, replica_count;
    uint8_t window_log2, window_max_log2, spare_pages, zero;
} nx_nexfs_super;

/* What a trailer says. */
typedef struct nx_nexfs_state {
    uint64_t commit, inode_next, data_pages, node_bytes, node_count, erases, inodes;
    uint32_t log_tail, log_blocks, data_block, data_page, blocks_free, blocks_bad;
} nx_nexfs_state;

typedef struct nx_nexfs_overlay {
    uint64_t key;
    uint8_t value[16];
} nx_nexfs_overlay;

typedef struct nx_nexfs_key {
    uint8_t size;
    uint8_t bytes[NX_NEXFS_KEY_MAX];
} nx_nexfs_key;

typedef struct nx_nexfs_candidate {
    uint32_t block, erases;
} nx_nexfs_candidate;

/* A mounted volume. The fields are the implementation's, but for those that say otherwise. */
typedef struct nx_nexfs {
    const nx_flash *flash;
    nx_nexfs_memory memory;
    int64_t now_ns;       /* the caller's: the time of the changes that follow */
    uint64_t fault_inode; /* for the caller: what the last NX_ECORRUPT was about, 0: no inode */
    uint64_t fault_address;
    nx_nexfs_super super;
    nx_nexfs_state state;
    uint64_t seed, super_generation[2];
    uint64_t provisional;
    uint64_t root_address; /* as of the last spill of the root */
    uint32_t root_crc, clock;
    uint32_t blocks, pages, unit; /* blocks of the volume, pages of a block, bytes of a flush */
    uint16_t root;                /* slot */
    bool writable, changed, unsynced, fresh, next_fresh, committing;
    bool anchor_wanted;
    uint8_t overlay_count;
    int broken; /* the code that ended writing, or NX_OK */
    uint64_t log_number;
    uint64_t tail_from, tail_to; /* addresses that may be unstable; empty once rewritten */
    uint32_t log_block, log_next, log_previous, log_at, fill, opened;
    nx_nexfs_overlay overlays[NX_NEXFS_OVERLAYS];
    nx_nexfs_candidate candidates[NX_NEXFS_CANDIDATES];
    uint32_t candidate_count, scan_block, super_page[2];
    uint32_t victim, victim_page, best_victim, best_live, cold, cold_erases, urgent;
    uint32_t victims[NX_NEXFS_VICTIMS];
    uint32_t victim_count, victims_freed, victim_after, paid_pages, written_pages;
    bool sweeping, swept, moving, scan_found;
    nx_nexfs_key sweep;
} nx_nexfs;

typedef struct nx_nexfs_attributes {
    uint64_t inode, size, parent; /* parent: of a directory */
    int64_t mtime_ns, ctime_ns, born_ns;
    uint32_t uid, gid, links;
    uint16_t mode;
    uint8_t checksum, codec, window_log2;
} nx_nexfs_attributes;

typedef struct nx_nexfs_entry {
    uint64_t inode, cookie;
    uint8_t kind; /* the type bits of the mode, >> 12 */
    uint8_t size;
    uint8_t name[NX_NEXFS_NAME_MAX];
} nx_nexfs_entry;

typedef struct nx_nexfs_extent {
    uint64_t offset, address; /* of the file; on the medium */
    uint32_t size, stored;
    uint8_t codec, checksum;
    bool mapped; /* false: inline or nothing; read it by nx_nexfs_read */
} nx_nexfs_extent;

typedef struct nx_nexfs_usage {
    uint64_t bytes, bytes_free, inodes, node_bytes, erases;
    uint32_t blocks, blocks_free, blocks_bad, log_blocks;
    uint32_t erases_min, erases_max; /* over the blocks that can be erased; by nx_nexfs_wear */
} nx_nexfs_usage;

/* Bytes that `buffer` needs; `slots` decides how many nodes are cached. */
size_t nx_nexfs_buffer_size(const nx_flash_geometry *geometry, unsigned node_log2,
                            unsigned window_max_log2);

/* Makes an empty volume; what was there is gone. Memory and `fs` are only borrowed for the call. */
int nx_nexfs_format(const nx_flash *flash, const nx_nexfs_memory *memory,
                    const nx_nexfs_format_options *options, nx_nexfs *fs);

/* NX_EABSENT: no volume, or features that this does not know. NX_ETOOBIG: more memory is needed.
 * NX_ECORRUPT: there was one. For reading, nothing is ever programmed. */
int nx_nexfs_mount(const nx_flash *flash, const nx_nexfs_memory *memory, bool writable,
                   nx_nexfs *ret);

/* Makes all changes durable. */
int nx_nexfs_sync(nx_nexfs *fs);

/* As sync; the mount is over also when that fails. */
int nx_nexfs_unmount(nx_nexfs *fs);

/* Names. NX_EEMPTY: no such name; NX_EBUSY: the name is taken, or a directory is not empty;
 * NX_EFULL: no room on the medium; NX_EDENIED: mounted for reading; NX_EINVAL: not a
 * name, not a directory where one is needed, or one where none may be. */
int nx_nexfs_lookup(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, uint64_t *ret);
/* From the root, parts separated by '/'; symlinks are not followed. */
int nx_nexfs_walk(nx_nexfs *fs, const char *path, uint64_t *ret);
/* A file, directory or symlink, by the mode's type; a symlink's target is then written to it. */
int nx_nexfs_create(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, uint16_t mode,
                    uint64_t *ret);
int nx_nexfs_link(nx_nexfs *fs, uint64_t inode, uint64_t directory, const char *name, size_t size);
/* With `keep` an inode without links stays until nx_nexfs_forget, or the next mount. */
int nx_nexfs_unlink(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, bool keep);
int nx_nexfs_forget(nx_nexfs *fs, uint64_t inode);
/* Replaces what has the new name, if that is of the same kind (an empty directory). */
int nx_nexfs_rename(nx_nexfs *fs, uint64_t directory, const char *name, size_t size,
                    uint64_t to_directory, const char *to_name, size_t to_size);
/* The first entry behind the cookie, 0 for the first of all; NX_EEMPTY at the end. A cookie
 * stays good while names come and go. */
int nx_nexfs_next(nx_nexfs *fs, uint64_t directory, uint64_t cookie, nx_nexfs_entry *ret);

/* Inodes. */
int nx_nexfs_get(nx_nexfs *fs, uint64_t inode, nx_nexfs_attributes *ret);
/* Sets mode (permissions), uid, gid, mtime, checksum, codec; window_log2 of an empty file. */
int nx_nexfs_set(nx_nexfs *fs, uint64_t inode, const nx_nexfs_attributes *attributes);
int nx_nexfs_read(nx_nexfs *fs, uint64_t inode, uint64_t offset, void *ret, size_t size,
                  size_t *ret_size);
/* Whole windows are whole operations; NX_EFULL may leave a first part written. */
int nx_nexfs_write(nx_nexfs *fs, uint64_t inode, uint64_t offset, const void *data, size_t size);
int nx_nexfs_truncate(nx_nexfs *fs, uint64_t inode, uint64_t size);
/* Where the window around `offset` lies. */
int nx_nexfs_map(nx_nexfs *fs, uint64_t inode, uint64_t offset, nx_nexfs_extent *ret);

/* Extended attributes; a value of SIZE_MAX bytes removes. `*ret_size` is the whole size. */
int nx_nexfs_attribute_get(nx_nexfs *fs, uint64_t inode, const char *name, size_t size, void *ret,
                           size_t room, size_t *ret_size);
int nx_nexfs_attribute_set(nx_nexfs *fs, uint64_t inode, const char *name, size_t size,
                           const void *value, size_t value_size);
int nx_nexfs_attribute_next(nx_nexfs *fs, uint64_t inode, uint64_t cookie, nx_nexfs_entry *ret);

void nx_nexfs_usage_get(const nx_nexfs *fs, nx_nexfs_usage *ret);
/* As above, with the least and the most worn block: reads the whole block table. */
int nx_nexfs_wear(nx_nexfs *fs, nx_nexfs_usage *ret);

/* Does up to `steps` steps of cleaning ahead; NX_EEMPTY when there is nothing to clean. */
int nx_nexfs_clean(nx_nexfs *fs, uint32_t steps);

/* What nx_nexfs_check found. */
typedef enum nx_nexfs_problem {
    NX_NEXFS_UNREADABLE = 1, /* a node or an extent: inode (or 0), address */
    NX_NEXFS_BAD_RECORD,     /* an item that contradicts the specification */
    NX_NEXFS_NO_INODE,       /* a name whose inode is not there */
    NX_NEXFS_LINKS,          /* an inode with another count of links than names */
    NX_NEXFS_NO_OWNER,       /* an extent that the cleaner would not find */
    NX_NEXFS_BLOCK,          /* a block whose entry contradicts what lies there: block */
    NX_NEXFS_COUNTER,        /* a counter of the trailer is wrong: which, as its offset there */
    NX_NEXFS_OVERLAP,        /* two extents share a page */
} nx_nexfs_problem;

typedef void nx_nexfs_report(void *self, nx_nexfs_problem problem, uint64_t inode, uint64_t where);

/* Walks everything; data are read and checked where `data`. Returns NX_OK however much was
 * reported, or the code that stopped it. Changes are made durable first; nothing else is changed.
 */
int nx_nexfs_check(nx_nexfs *fs, bool data, nx_nexfs_report *report, void *self);

#endif
