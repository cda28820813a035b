// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: looking at everything. One round over the nodes, one over the items, one over the
 * blocks; what would need a table of all inodes (who is linked how often) is compared as two sums
 * of hashes, and only looked for by name when the sums differ.
 */
#include "nx_nexfs_core.h"

typedef struct {
    nx_nexfs *fs;
    nx_nexfs_report *report;
    void *self;
    uint64_t inodes, data_pages, links_said, links_found;
    nx_nexfs_attributes inode; /* the last record seen */
    bool data;
} check;

static void say(const check *c, nx_nexfs_problem problem, uint64_t inode, uint64_t where)
{
    c->report(c->self, problem, inode, where);
}

static uint64_t weight(uint64_t inode)
{
    return nx_xxh3_64(&inode, 8, 0x9e3779b9);
}

/*
 * Nodes
 */

static int check_nodes(const check *c)
{
    struct {
        uint32_t slot, at;
    } path[NX_NEXFS_DEPTH_MAX];
    nx_nexfs *fs = c->fs;
    uint64_t count = 1, bytes = fs->memory.slots[fs->root].stored;
    uint32_t depth = 0;

    path[0].slot = fs->root;
    path[0].at = NODE_HEADER;
    for (;;) {
        const uint8_t *node = nx_nexfs_node(fs, path[depth].slot);
        nx_nexfs_block entry;
        nx_nexfs_item item;
        uint64_t address;
        uint32_t child;
        int code;
        if (node[0] == 0 || !nx_nexfs_node_item(node, path[depth].at, &item)) {
            if (depth-- == 0) {
                break;
            }
            continue;
        }
        path[depth].at = item.next;
        address = nx_nexfs_child_address(fs, &item);
        code = nx_nexfs_child(fs, path[depth].slot, &item, &child);
        count++;
        if (code == NX_ECORRUPT) {
            say(c, NX_NEXFS_UNREADABLE, 0, address);
            continue;
        }
        if (code != NX_OK) {
            return code;
        }
        bytes += fs->memory.slots[child].stored;
        fs->memory.slots[child].held = true;
        code = nx_nexfs_block_get(fs, (uint32_t)(address / fs->flash->geometry.block_size), &entry);
        fs->memory.slots[child].held = false;
        if (code == NX_OK && !fs->memory.slots[child].dirty && entry.state != LOG) {
            say(c, NX_NEXFS_BLOCK, 0, address / fs->flash->geometry.block_size);
        }
        path[++depth].slot = child;
        path[depth].at = NODE_HEADER;
    }
    if (count != fs->state.node_count) {
        say(c, NX_NEXFS_COUNTER, 0, 96);
    }
    if (bytes != fs->state.node_bytes) {
        say(c, NX_NEXFS_COUNTER, 0, 88);
    }
    return NX_OK;
}

/*
 * Items
 */

static int check_inode(check *c, const nx_nexfs_item *item, uint64_t inode)
{
    if (!nx_nexfs_inode_parse(inode, item->value, item->size, &c->inode)) {
        c->inode.inode = 0;
        say(c, NX_NEXFS_BAD_RECORD, inode, TYPE_INODE);
        return NX_OK;
    }
    c->inodes++;
    c->links_said += c->inode.links * weight(inode);
    if ((c->inode.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY && c->inode.links > 0) {
        c->links_found += weight(inode) * (inode == NX_NEXFS_ROOT ? 2 : 1);
    }
    return NX_OK;
}

static int check_name(check *c, const nx_nexfs_item *item, uint64_t inode)
{
    nx_nexfs_attributes child;
    uint64_t target = 0, place = 0;
    uint32_t at = 0;
    uint8_t kind;
    int code;

    if (!nx_nexfs_number(item->value, item->size, &at, &target) || item->size < at + 2 ||
        item->key_size < 10) {
        say(c, NX_NEXFS_BAD_RECORD, inode, TYPE_NAME);
        return NX_OK;
    }
    for (uint32_t i = item->key_size - 8u; i < item->key_size; i++) {
        place = place << 8 | item->key[i];
    }
    kind = item->value[at++];
    if (place >> 8 != nx_nexfs_place(c->fs, item->value + at, item->size - at) >> 8 ||
        c->inode.inode != inode || (c->inode.mode & NX_NEXFS_TYPE) != NX_NEXFS_DIRECTORY) {
        say(c, NX_NEXFS_BAD_RECORD, inode, TYPE_NAME);
    }
    code = nx_nexfs_inode_get(c->fs, target, &child);
    if (code == NX_EEMPTY || (code == NX_OK && child.mode >> 12 != kind)) {
        say(c, NX_NEXFS_NO_INODE, target, inode);
        return NX_OK;
    }
    c->links_found += weight(target);
    if (code == NX_OK && kind == NX_NEXFS_DIRECTORY >> 12) {
        c->links_found += weight(inode);
        if (child.parent != inode) {
            say(c, NX_NEXFS_BAD_RECORD, target, TYPE_INODE);
        }
    }
    return code == NX_ECORRUPT ? NX_OK : code;
}

static int check_window(check *c, const nx_nexfs_item *item, uint64_t inode, uint64_t index)
{
    const nx_flash_geometry *g = &c->fs->flash->geometry;
    nx_nexfs_block entry;
    nx_nexfs_window window;
    nx_nexfs_key key;
    nx_nexfs_item owner;
    uint64_t who = 0, which = 0;
    uint32_t at = 0;
    int code;

    if (!nx_nexfs_window_parse(c->fs, item, &window) || c->inode.inode != inode ||
        window.size > 1u << c->inode.window_log2 ||
        index > (uint64_t)INT64_MAX >> c->inode.window_log2) {
        say(c, NX_NEXFS_BAD_RECORD, inode, TYPE_WINDOW);
        return NX_OK;
    }
    if (!window.extent) {
        return NX_OK;
    }
    c->data_pages += nx_nexfs_pages_of(c->fs, window.stored);
    code = c->data ? nx_nexfs_extent_read(c->fs, inode, &window, NULL) : NX_OK;
    if (code == NX_ECORRUPT) {
        say(c, NX_NEXFS_UNREADABLE, inode, window.address);
    } else if (code != NX_OK) {
        return code;
    }
    code = nx_nexfs_block_get(c->fs, (uint32_t)(window.address / g->block_size), &entry);
    if (code == NX_OK && entry.state != DATA) {
        say(c, NX_NEXFS_BLOCK, inode, window.address / g->block_size);
    }
    key = nx_nexfs_key_at(0, TYPE_OWNER, window.address / g->block_size);
    nx_nexfs_key_number(&key, window.address % g->block_size / g->page_size);
    code = nx_nexfs_tree_get(c->fs, &key, &owner);
    if (code == NX_EEMPTY ||
        (code == NX_OK && (!nx_nexfs_number(owner.value, owner.size, &at, &who) ||
                           !nx_nexfs_number(owner.value, owner.size, &at, &which) || who != inode ||
                           which != index))) {
        say(c, NX_NEXFS_NO_OWNER, inode, window.address);
    }
    return code == NX_EEMPTY || code == NX_ECORRUPT ? NX_OK : code;
}

static int check_item(check *c, const nx_nexfs_item *item)
{
    uint64_t inode, number = 0;
    uint32_t at = 0;
    unsigned type;

    if (!nx_nexfs_number(item->key, item->key_size, &at, &inode) || at >= item->key_size) {
        say(c, NX_NEXFS_BAD_RECORD, 0, 0);
        return NX_OK;
    }
    type = item->key[at++];
    if (inode == 0) {
        return NX_OK; /* with the blocks */
    }
    if (type == TYPE_INODE) {
        return check_inode(c, item, inode);
    }
    if (type == TYPE_NAME) {
        return check_name(c, item, inode);
    }
    if (type == TYPE_WINDOW && nx_nexfs_number(item->key, item->key_size, &at, &number)) {
        return check_window(c, item, inode, number);
    }
    if (type != TYPE_ATTRIBUTE || c->inode.inode != inode) {
        say(c, NX_NEXFS_BAD_RECORD, inode, type);
    }
    return NX_OK;
}

static int check_items(check *c)
{
    nx_nexfs_key key = {0};
    int code;

    for (;;) {
        nx_nexfs_item item;
        code = nx_nexfs_tree_seek(c->fs, &key, &item);
        if (code != NX_OK || item.key_size >= NX_NEXFS_KEY_MAX) {
            break;
        }
        key.size = item.key_size;
        memcpy(key.bytes, item.key, item.key_size);
        code = check_item(c, &item);
        if (code != NX_OK) {
            return code;
        }
        key.bytes[key.size++] = 0; /* the least key behind */
    }
    if (code == NX_ECORRUPT) {
        return NX_OK; /* said already, as a node; the rest of the round would be guesswork */
    }
    if (c->inodes != c->fs->state.inodes) {
        say(c, NX_NEXFS_COUNTER, 0, 120);
    }
    if (c->data_pages != c->fs->state.data_pages) {
        say(c, NX_NEXFS_COUNTER, 0, 80);
    }
    if (c->links_said != c->links_found) {
        say(c, NX_NEXFS_LINKS, 0, 0);
    }
    return code == NX_EEMPTY ? NX_OK : code;
}

/*
 * Blocks
 */

/* Pages of a block that are reached, by its owners. */
static int live_of(const check *c, uint32_t block, uint32_t *ret)
{
    const nx_flash_geometry *g = &c->fs->flash->geometry;
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_OWNER, block), prefix = key;
    uint64_t page, inode, index, free_from = 0;

    *ret = 0;
    for (;;) {
        nx_nexfs_window window;
        nx_nexfs_item item;
        uint32_t at = prefix.size, from = 0;
        int code = nx_nexfs_tree_seek(c->fs, &key, &item);
        if (code != NX_OK || item.key_size < prefix.size ||
            memcmp(item.key, prefix.bytes, prefix.size) != 0) {
            return code == NX_EEMPTY ? NX_OK : code;
        }
        if (!nx_nexfs_number(item.key, item.key_size, &at, &page) ||
            !nx_nexfs_number(item.value, item.size, &from, &inode) ||
            !nx_nexfs_number(item.value, item.size, &from, &index)) {
            say(c, NX_NEXFS_BAD_RECORD, 0, block);
            return NX_OK;
        }
        key = nx_nexfs_key_at(inode, TYPE_WINDOW, index);
        code = nx_nexfs_tree_get(c->fs, &key, &item);
        if (code == NX_OK && nx_nexfs_window_parse(c->fs, &item, &window) && window.extent &&
            window.address == (uint64_t)block * g->block_size + page * g->page_size) {
            if (page < free_from) {
                say(c, NX_NEXFS_OVERLAP, inode, window.address);
            }
            free_from = page + nx_nexfs_pages_of(c->fs, window.stored);
            *ret += nx_nexfs_pages_of(c->fs, window.stored);
        }
        key = prefix;
        nx_nexfs_key_number(&key, page + 1);
    }
}

/* The blocks of the log, from the oldest to the next, are what the table says is the log. */
static int check_chain(const check *c, uint32_t logs)
{
    const nx_nexfs_state *s = &c->fs->state;
    uint32_t block = s->log_tail;

    for (uint32_t i = 0; i + 1 < s->log_blocks; i++) {
        uint32_t before = block;
        nx_nexfs_block entry;
        int code = nx_nexfs_block_get(c->fs, block, &entry);
        if (code == NX_OK && entry.state != LOG) {
            say(c, NX_NEXFS_BLOCK, 0, block);
        }
        if (before == c->fs->log_block) {
            block = c->fs->log_next;
            continue;
        }
        code = code != NX_OK ? code : nx_nexfs_log_after(c->fs, before, &block);
        if (code == NX_ECORRUPT) {
            say(c, NX_NEXFS_BLOCK, 0, before);
            return NX_OK;
        }
        if (code != NX_OK) {
            return code;
        }
    }
    if (block != c->fs->log_next) {
        say(c, NX_NEXFS_BLOCK, 0, block);
    }
    if (logs != s->log_blocks) {
        say(c, NX_NEXFS_COUNTER, 0, 48);
    }
    return NX_OK;
}

/* The next block from `block` on that the table in the tree has an entry for. */
static uint32_t next_entry(const check *c, uint32_t block)
{
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_BLOCK, block);
    uint32_t at = nx_nexfs_key_of(0, TYPE_BLOCK).size;
    nx_nexfs_item item;
    uint64_t found;

    return nx_nexfs_tree_seek(c->fs, &key, &item) == NX_OK && item.key_size > at &&
                   memcmp(item.key, key.bytes, at) == 0 &&
                   nx_nexfs_number(item.key, item.key_size, &at, &found) && found < NONE
               ? (uint32_t)found
               : NONE;
}

static int check_blocks(const check *c)
{
    uint32_t counts[SUPERBLOCK + 1] = {0}, next = 0;

    for (uint32_t block = 0; block < c->fs->blocks; block++) {
        nx_nexfs_block entry = {.state = FREE};
        uint32_t live = 0;
        int code = NX_OK;
        next = next < block + 1 ? next_entry(c, block) : next;
        if (next == block || nx_nexfs_overlay_get(c->fs, OVERLAY_BLOCK, block) != NULL) {
            code = nx_nexfs_block_get(c->fs, block, &entry);
        }
        if (code != NX_OK || entry.state > SUPERBLOCK) {
            say(c, NX_NEXFS_BLOCK, 0, block);
            continue;
        }
        counts[entry.state]++;
        code = entry.state == DATA ? live_of(c, block, &live) : NX_OK;
        if (code != NX_OK && code != NX_ECORRUPT) {
            return code;
        }
        if (code == NX_OK && live != entry.live) {
            say(c, NX_NEXFS_BLOCK, 0, block);
        }
    }
    if (counts[FREE] != c->fs->state.blocks_free) {
        say(c, NX_NEXFS_COUNTER, 0, 72);
    }
    if (counts[BAD] != c->fs->state.blocks_bad) {
        say(c, NX_NEXFS_COUNTER, 0, 112);
    }
    return check_chain(c, counts[LOG]);
}

int nx_nexfs_check(nx_nexfs *fs, bool data, nx_nexfs_report *report, void *self)
{
    check c = {.fs = fs, .report = report, .self = self, .data = data};
    int code = fs->writable && fs->broken == NX_OK ? nx_nexfs_sync(fs) : fs->broken;

    code = code != NX_OK ? code : check_nodes(&c);
    code = code != NX_OK ? code : check_items(&c);
    return code != NX_OK ? code : check_blocks(&c);
}
