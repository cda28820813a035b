// SPDX-License-Identifier: Apache-2.0
/* What the files of NexFS's log know of each other; docs/spec/nexfs.md has the layouts. */
#ifndef NX_NEXFS_CORE_H
#define NX_NEXFS_CORE_H

#include "nx_crc32c.h"
#include "nx_memory.h"
#include "nx_nexfs.h"
#include "nx_xxhash.h"

#define NONE             UINT32_MAX
#define NO_SLOT          UINT16_MAX
#define NODE_HEADER      8u
#define HEADER           64u
#define TRAILER          144u
#define OVERLAY          24u
#define INODE_RECORD     48u
#define BLOCK_ENTRY      16u
#define OVERLAYS_QUIET   4u  /* more than this many go to the tree before an operation */
#define OVERLAYS_SOFT    10u /* the rest is for the log, which must not touch the tree */
#define CANDIDATES_LEAST 5u  /* free blocks at hand before an operation */
#define RECOVER_BLOCKS   8u  /* how far before the log's end the newest commit may lie */
#define OPENED_MAX       7u  /* log blocks that one commit may open */

#define MAGIC_LOG     0x314c584eu /* NXL1 */
#define MAGIC_LINK    0x314b584eu /* NXK1 */
#define MAGIC_TRAILER 0x3154584eu /* NXT1 */

enum { TYPE_BLOCK = 1, TYPE_OWNER, TYPE_ORPHAN }; /* below inode 0 */
enum { TYPE_INODE = 1, TYPE_NAME, TYPE_WINDOW, TYPE_ATTRIBUTE };
enum { FREE, LOG, DATA, REPLICA, BAD, SUPERBLOCK };
enum { RETIRE = 1, STUCK = 2 };
enum { OVERLAY_BLOCK = 1, OVERLAY_TIMES };

typedef struct nx_nexfs_block {
    uint8_t state, flags;
    uint16_t zero;
    uint32_t erases, live, freed;
} nx_nexfs_block;
NX_STATIC_ASSERT(sizeof(nx_nexfs_block) == BLOCK_ENTRY, "as on the medium");

/* An item of a node; pointers into the node, good until the tree is next asked for something. */
typedef struct nx_nexfs_item {
    const uint8_t *key;
    uint8_t *value;
    uint32_t at, next; /* offsets in the node */
    uint32_t size;     /* of the value */
    uint32_t slot;
    uint8_t key_size;
} nx_nexfs_item;

/* Keys. */
void nx_nexfs_key_number(nx_nexfs_key *key, uint64_t number);
nx_nexfs_key nx_nexfs_key_of(uint64_t inode, unsigned type);
nx_nexfs_key nx_nexfs_key_at(uint64_t inode, unsigned type, uint64_t number);
/* The number at bytes[*at], moving *at; false where there is none. */
bool nx_nexfs_number(const uint8_t *bytes, uint32_t size, uint32_t *at, uint64_t *ret);
uint32_t nx_nexfs_number_put(uint8_t *target, uint64_t number);

/* Nodes (nx_nexfs_node.c): nothing here knows of the medium. */
int nx_nexfs_compare(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size);
uint32_t nx_nexfs_node_bytes(const uint8_t *node);
uint32_t nx_nexfs_node_count(const uint8_t *node);
void nx_nexfs_node_init(uint8_t *node, unsigned level);
bool nx_nexfs_node_sound(const uint8_t *node, uint32_t bytes, unsigned level, uint32_t value);
/* The item at an offset; false at the end. */
bool nx_nexfs_node_item(const uint8_t *node, uint32_t at, nx_nexfs_item *ret);
/* The first item not less than the key (`at` is where it would be); true when it is the key's. */
bool nx_nexfs_node_find(const uint8_t *node, const nx_nexfs_key *key, nx_nexfs_item *ret);
/* The last item of an inner node not above the key. */
void nx_nexfs_node_child(const uint8_t *node, const nx_nexfs_key *key, nx_nexfs_item *ret);
uint32_t nx_nexfs_item_bytes(uint32_t key_size, uint32_t value_size);
uint8_t *nx_nexfs_node_insert(uint8_t *node, uint32_t at, const uint8_t *key, uint32_t key_size,
                              uint32_t value_size);
uint8_t *nx_nexfs_node_resize(uint8_t *node, const nx_nexfs_item *item, uint32_t size);
void nx_nexfs_node_remove(uint8_t *node, uint32_t at);
void nx_nexfs_node_cut(uint8_t *node, uint32_t at, uint8_t *right);
uint32_t nx_nexfs_node_middle(const uint8_t *node);

/* The tree. */
uint8_t *nx_nexfs_node(const nx_nexfs *fs, uint32_t slot);
int nx_nexfs_tree_get(nx_nexfs *fs, const nx_nexfs_key *key, nx_nexfs_item *ret);
int nx_nexfs_tree_seek(nx_nexfs *fs, const nx_nexfs_key *key, nx_nexfs_item *ret);
int nx_nexfs_tree_put(nx_nexfs *fs, const nx_nexfs_key *key, uint32_t size, uint8_t **ret);
int nx_nexfs_tree_remove(nx_nexfs *fs, const nx_nexfs_key *key);
void nx_nexfs_dirty(nx_nexfs *fs, uint32_t slot);
uint32_t nx_nexfs_node_size(const nx_nexfs *fs);
uint32_t nx_nexfs_child_bytes(const nx_nexfs *fs);
int nx_nexfs_node_new(nx_nexfs *fs, unsigned level, uint32_t parent, uint32_t *ret);
void nx_nexfs_slot_drop(nx_nexfs *fs, uint32_t slot);
/* The item of a cached node in its parent. */
void nx_nexfs_own_item(const nx_nexfs *fs, uint32_t slot, nx_nexfs_item *ret);
int nx_nexfs_spill(nx_nexfs *fs, uint32_t slot);
int nx_nexfs_root_load(nx_nexfs *fs, uint64_t address, uint32_t size, uint32_t crc, unsigned level);
int nx_nexfs_root_make(nx_nexfs *fs);
int nx_nexfs_child(nx_nexfs *fs, uint32_t parent, const nx_nexfs_item *item, uint32_t *ret);
uint64_t nx_nexfs_child_address(const nx_nexfs *fs, const nx_nexfs_item *item);
void nx_nexfs_child_set(const nx_nexfs *fs, const nx_nexfs_item *item, uint64_t address,
                        uint32_t size, uint32_t crc);

/* The log. */
int nx_nexfs_read_flash(nx_nexfs *fs, uint64_t address, void *ret, uint32_t size);
int nx_nexfs_log_append(nx_nexfs *fs, const void *image, uint32_t size, uint64_t *ret);
int nx_nexfs_log_yield(nx_nexfs *fs);
int nx_nexfs_log_next_make(nx_nexfs *fs);
int nx_nexfs_commit(nx_nexfs *fs);
int nx_nexfs_page_program(nx_nexfs *fs, uint64_t address, const void *head, uint32_t size);
uint64_t nx_nexfs_hash_at(const nx_nexfs *fs, const void *data, uint32_t size, uint64_t address);
void nx_nexfs_header_make(nx_nexfs *fs, uint32_t magic, uint64_t number, uint32_t next,
                          uint32_t previous, uint64_t address, uint8_t ret[HEADER]);

/* Superblocks. */
int nx_nexfs_super_write(nx_nexfs *fs);
int nx_nexfs_super_repair(nx_nexfs *fs);
int nx_nexfs_anchor(nx_nexfs *fs);
int nx_nexfs_super_find(nx_nexfs *fs, bool *ret_scan);
void nx_nexfs_super_pack(const nx_nexfs *fs, uint8_t ret[NX_NEXFS_SUPERBLOCK]);
int nx_nexfs_super_parse(const nx_flash *flash, const uint8_t bytes[NX_NEXFS_SUPERBLOCK],
                         nx_nexfs_super *ret);
int nx_nexfs_adopt(nx_nexfs *fs, const nx_flash *flash, const nx_nexfs_memory *memory);
int nx_nexfs_recover(nx_nexfs *fs, bool scan);
int nx_nexfs_log_after(nx_nexfs *fs, uint32_t block, uint32_t *ret);
int nx_nexfs_blank(nx_nexfs *fs, uint32_t block, uint32_t page, uint32_t end, uint32_t *ret);

/* Blocks. */
void nx_nexfs_overlay_put(nx_nexfs *fs, unsigned kind, uint64_t index, const void *value);
const uint8_t *nx_nexfs_overlay_get(const nx_nexfs *fs, unsigned kind, uint64_t index);
int nx_nexfs_block_get(nx_nexfs *fs, uint32_t block, nx_nexfs_block *ret);
int nx_nexfs_block_put(nx_nexfs *fs, uint32_t block, const nx_nexfs_block *entry);
int nx_nexfs_block_free(nx_nexfs *fs, uint32_t block);
int nx_nexfs_times_put(nx_nexfs *fs, uint64_t inode);
int nx_nexfs_overlays_spill(nx_nexfs *fs, uint32_t most);
/* An erased block from the candidates; never touches the tree. */
int nx_nexfs_block_take(nx_nexfs *fs, unsigned state, uint32_t *ret);
int nx_nexfs_block_erase(nx_nexfs *fs, uint32_t block);
/* The medium refused: bad at once when it holds nothing, else when it is freed. */
void nx_nexfs_block_fail(nx_nexfs *fs, uint32_t block, bool empty);

/* Cleaning, and what stands before and behind each change. */
int nx_nexfs_begin(nx_nexfs *fs, uint32_t data_pages, uint32_t node_bytes);
int nx_nexfs_end(nx_nexfs *fs, int code);
int nx_nexfs_between(nx_nexfs *fs);
int nx_nexfs_sweep(nx_nexfs *fs, uint32_t pages, bool *ret_idle);
uint32_t nx_nexfs_log_live(const nx_nexfs *fs, uint32_t more);
int nx_nexfs_gather(nx_nexfs *fs, uint32_t steps, bool *ret_idle);
int nx_nexfs_stabilise(nx_nexfs *fs);
bool nx_nexfs_room(const nx_nexfs *fs, uint32_t data_pages, uint32_t node_bytes);

/* Inodes and data. */
int nx_nexfs_inode_get(nx_nexfs *fs, uint64_t inode, nx_nexfs_attributes *ret);
int nx_nexfs_inode_put(nx_nexfs *fs, const nx_nexfs_attributes *attributes);
bool nx_nexfs_inode_parse(uint64_t inode, const uint8_t *record, uint32_t size,
                          nx_nexfs_attributes *ret);
typedef struct nx_nexfs_window {
    uint64_t address;
    const uint8_t *bytes; /* inline: the data; else the checksum */
    uint32_t size, stored;
    uint8_t codec, checksum;
    bool extent;
} nx_nexfs_window;
bool nx_nexfs_window_parse(const nx_nexfs *fs, const nx_nexfs_item *item, nx_nexfs_window *ret);
uint32_t nx_nexfs_pages_of(const nx_nexfs *fs, uint32_t bytes);
uint32_t nx_nexfs_checksum_bytes(unsigned kind);
void nx_nexfs_checksum(unsigned kind, const uint8_t *data, uint32_t size, uint8_t *ret);
int nx_nexfs_data_program(nx_nexfs *fs, const uint8_t *data, uint32_t stored, bool cleaning,
                          uint64_t *ret);
int nx_nexfs_data_drop(nx_nexfs *fs, uint64_t address, uint32_t stored);
int nx_nexfs_owner_put(nx_nexfs *fs, uint64_t address, uint64_t inode, uint64_t window);
/* The stored bytes of an extent into `target`, verified. */
int nx_nexfs_extent_read(nx_nexfs *fs, uint64_t inode, const nx_nexfs_window *window,
                         uint8_t *target);
/* Drops up to `most` windows from `from` on; NX_EEMPTY when none is left. */
int nx_nexfs_windows_drop(nx_nexfs *fs, uint64_t inode, uint64_t from, uint32_t most);
/* Goes on with all that was begun and is not over. */
int nx_nexfs_orphans(nx_nexfs *fs);
/* Nobody names the inode: it goes now, if it is small, or is entered as an orphan. */
int nx_nexfs_inode_drop(nx_nexfs *fs, uint64_t inode);
uint32_t nx_nexfs_inline_max(const nx_nexfs *fs);
uint64_t nx_nexfs_place(const nx_nexfs *fs, const void *name, size_t size);

/* Names and attributes: what stands at a place; pointers into the node. */
typedef struct nx_nexfs_record {
    const uint8_t *name, *value;
    uint64_t inode;
    uint32_t value_size;
    uint8_t size, kind;
} nx_nexfs_record;
/* The record of a name and its key; NX_EEMPTY: the key is the first free place for it. */
int nx_nexfs_find(nx_nexfs *fs, uint64_t inode, unsigned type, const void *name, size_t size,
                  nx_nexfs_key *ret_key, nx_nexfs_record *ret);
int nx_nexfs_next_of(nx_nexfs *fs, uint64_t inode, unsigned type, uint64_t cookie,
                     nx_nexfs_entry *ret);

/* RLE. */
uint32_t nx_nexfs_rle_slack(uint32_t size);
uint32_t nx_nexfs_rle_size(const uint8_t *data, uint32_t size);
void nx_nexfs_rle_pack(const uint8_t *data, uint32_t size, uint8_t *ret);
bool nx_nexfs_rle_unpack(const uint8_t *data, uint32_t stored, uint32_t from, uint8_t *ret,
                         uint32_t ret_size);

#endif
