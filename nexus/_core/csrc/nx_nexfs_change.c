// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: putting items into the tree and taking them out. Inner nodes without room for one
 * more child are split on the way down, so that a split never has to go up again.
 */
#include "nx_nexfs_core.h"

/* The most that one more child takes in a node. */
static uint32_t child_item_max(const nx_nexfs *fs)
{
    return nx_nexfs_item_bytes(NX_NEXFS_KEY_MAX, nx_nexfs_child_bytes(fs));
}

/* A root above the root. */
static int grow(nx_nexfs *fs)
{
    unsigned level = nx_nexfs_node(fs, fs->root)[0] + 1u;
    uint32_t old = fs->root, slot;
    nx_nexfs_item item;
    int code;

    if (level >= NX_NEXFS_DEPTH_MAX) {
        return NX_ETOOBIG;
    }
    code = nx_nexfs_node_new(fs, level, NO_SLOT, &slot);
    if (code == NX_OK) {
        uint8_t *node = nx_nexfs_node(fs, slot);
        fs->root = (uint16_t)slot;
        fs->memory.slots[old].parent = (uint16_t)slot;
        fs->memory.slots[slot].children++;
        nx_nexfs_node_insert(node, NODE_HEADER, node, 0, nx_nexfs_child_bytes(fs));
        nx_nexfs_node_item(node, NODE_HEADER, &item);
        nx_nexfs_child_set(fs, &item, fs->memory.slots[old].address, 0, 0);
        nx_nexfs_dirty(fs, old); /* so that its size and CRC get there, too */
    }
    return code;
}

/* The bytes of `right` that suffice to be above `left`. */
static uint32_t separator(const uint8_t *left, uint32_t left_size, const uint8_t *right)
{
    uint32_t same = 0;

    while (same < left_size && left[same] == right[same]) {
        same++;
    }
    return same + 1;
}

/* The bound between what is before `at` and what is behind, where `key` is yet to be inserted. */
static nx_nexfs_key bound_at(const uint8_t *node, uint32_t at, const nx_nexfs_key *key)
{
    nx_nexfs_item left = {.key = key->bytes, .key_size = key->size}, first;
    nx_nexfs_key bound = *key;

    if (nx_nexfs_node_item(node, at, &first)) {
        bound.size = first.key_size;
        memcpy(bound.bytes, first.key, first.key_size);
    }
    for (uint32_t from = NODE_HEADER; from < at && nx_nexfs_node_item(node, from, &left);) {
        from = left.next;
    }
    if (node[0] == 0) {
        bound.size = (uint8_t)separator(left.key, left.key_size, bound.bytes);
    }
    return bound;
}

/* Sets the key of a node's first item. */
static void first_key_set(nx_nexfs *fs, uint8_t *node, const uint8_t *key, uint32_t key_size)
{
    uint32_t bytes = nx_nexfs_child_bytes(fs);
    nx_nexfs_item first;
    uint8_t value[16];

    nx_nexfs_node_item(node, NODE_HEADER, &first);
    memcpy(value, first.value, bytes);
    nx_nexfs_node_remove(node, NODE_HEADER);
    memcpy(nx_nexfs_node_insert(node, NODE_HEADER, key, key_size, bytes), value, bytes);
}

/* Cached children that moved from one inner node to another follow. */
static void adopt(nx_nexfs *fs, uint32_t from, uint32_t to)
{
    const uint8_t *node = nx_nexfs_node(fs, to);
    nx_nexfs_item item;

    for (uint32_t i = 0; i < fs->memory.slot_count && node[0] > 0; i++) {
        nx_nexfs_slot *s = &fs->memory.slots[i];
        bool moved = false;
        if (!s->used || s->parent != from) {
            continue;
        }
        for (uint32_t at = NODE_HEADER; !moved && nx_nexfs_node_item(node, at, &item);
             at = item.next) {
            moved = nx_nexfs_child_address(fs, &item) == s->address;
        }
        if (moved) {
            s->parent = (uint16_t)to;
            fs->memory.slots[from].children--;
            fs->memory.slots[to].children++;
        }
    }
}

/* Splits a node at an item; `key` is what is to be inserted. */
static int split(nx_nexfs *fs, uint32_t slot, uint32_t at, const nx_nexfs_key *key)
{
    nx_nexfs_key bound = bound_at(nx_nexfs_node(fs, slot), at, key);
    bool parts = at < nx_nexfs_node_bytes(nx_nexfs_node(fs, slot)); /* else it stays as it is */
    unsigned level = nx_nexfs_node(fs, slot)[0];
    uint32_t parent, made;
    nx_nexfs_item item;
    int code;

    fs->memory.slots[slot].held = true;
    code = slot == fs->root ? grow(fs) : NX_OK;
    parent = fs->memory.slots[slot].parent;
    code = code != NX_OK ? code : nx_nexfs_node_new(fs, level, parent, &made);
    fs->memory.slots[slot].held = false;
    if (code != NX_OK) {
        return code;
    }
    nx_nexfs_node_cut(nx_nexfs_node(fs, slot), at, nx_nexfs_node(fs, made));
    if (level > 0) {
        first_key_set(fs, nx_nexfs_node(fs, made), bound.bytes, 0);
        adopt(fs, slot, made);
    }
    nx_nexfs_own_item(fs, slot, &item);
    at = item.next;
    nx_nexfs_node_insert(nx_nexfs_node(fs, parent), at, bound.bytes, bound.size,
                         nx_nexfs_child_bytes(fs));
    nx_nexfs_node_item(nx_nexfs_node(fs, parent), at, &item);
    nx_nexfs_child_set(fs, &item, fs->memory.slots[made].address, 0, 0);
    fs->memory.slots[slot].dirty |= parts;
    nx_nexfs_dirty(fs, parent);
    return NX_OK;
}

/* To the leaf of the key, with room for one more child in every inner node on the way. */
static int descend_to_change(nx_nexfs *fs, const nx_nexfs_key *key, uint32_t *ret)
{
    uint32_t slot = fs->root, room = nx_nexfs_node_size(fs) - child_item_max(fs);
    int code = NX_OK;

    while (code == NX_OK && nx_nexfs_node(fs, slot)[0] > 0) {
        nx_nexfs_item item;
        const uint8_t *node = nx_nexfs_node(fs, slot);
        nx_nexfs_node_child(node, key, &item);
        if (nx_nexfs_node_bytes(node) > room) {
            bool last = item.next >= nx_nexfs_node_bytes(node);
            code = split(fs, slot, last ? item.at : nx_nexfs_node_middle(node), key);
            slot = fs->root;
            continue;
        }
        code = nx_nexfs_child(fs, slot, &item, &slot);
    }
    *ret = slot;
    return code;
}

/* Where a leaf is split for an item that it has no room for, at `at`. */
static uint32_t split_place(const uint8_t *node, uint32_t at)
{
    nx_nexfs_item item;

    if (at >= nx_nexfs_node_bytes(node)) {
        return at; /* at the end: ascending keys leave full nodes behind */
    }
    nx_nexfs_node_item(node, NODE_HEADER, &item);
    return item.next >= nx_nexfs_node_bytes(node) ? NODE_HEADER : nx_nexfs_node_middle(node);
}

/* Whether an item that would fit behind all others begins a leaf of its own: an inode's record
 * does where there would be little room for what follows it, which is then not parted from it. */
static bool begins_leaf(const nx_nexfs *fs, const uint8_t *node, const nx_nexfs_key *key,
                        uint32_t at, uint32_t needs)
{
    uint32_t bytes = nx_nexfs_node_bytes(node);

    return at >= bytes && bytes > NODE_HEADER && key->bytes[0] + 2u == key->size &&
           key->bytes[key->size - 1] == TYPE_INODE && bytes + needs > nx_nexfs_inline_max(fs);
}

int nx_nexfs_tree_put(nx_nexfs *fs, const nx_nexfs_key *key, uint32_t size, uint8_t **ret)
{
    uint32_t slot, needs = nx_nexfs_item_bytes(key->size, size);

    NX_ASSERT(NODE_HEADER + needs <= nx_nexfs_node_size(fs));
    for (;;) {
        nx_nexfs_item item;
        uint8_t *node;
        bool there;
        int code = descend_to_change(fs, key, &slot);
        if (code != NX_OK) {
            return code;
        }
        node = nx_nexfs_node(fs, slot);
        there = nx_nexfs_node_find(node, key, &item);
        fs->changed = true;
        if (there) {
            needs = nx_nexfs_item_bytes(key->size, size) -
                    nx_nexfs_item_bytes(item.key_size, item.size);
        }
        if ((int64_t)nx_nexfs_node_bytes(node) + (int32_t)needs <= nx_nexfs_node_size(fs) &&
            (there || !begins_leaf(fs, node, key, item.at, needs))) {
            nx_nexfs_dirty(fs, slot);
            *ret = there ? nx_nexfs_node_resize(node, &item, size)
                         : nx_nexfs_node_insert(node, item.at, key->bytes, key->size, size);
            return NX_OK;
        }
        code = split(fs, slot, split_place(node, item.at), key);
        if (code != NX_OK) {
            return code;
        }
    }
}

/* Takes a node out of the tree; it has no cached children. */
static void discard(nx_nexfs *fs, uint32_t slot)
{
    uint32_t parent = fs->memory.slots[slot].parent;
    uint8_t *node = nx_nexfs_node(fs, parent);
    nx_nexfs_item item;

    nx_nexfs_own_item(fs, slot, &item);
    nx_nexfs_node_remove(node, item.at);
    if (item.at == NODE_HEADER && nx_nexfs_node_count(node) > 0) {
        first_key_set(fs, node, node, 0);
    }
    nx_nexfs_dirty(fs, parent);
    fs->state.node_count--;
    fs->state.node_bytes -= fs->memory.slots[slot].stored;
    nx_nexfs_slot_drop(fs, slot);
}

/* Moves what is in `right` behind what is in its left neighbour. */
static void join(nx_nexfs *fs, uint32_t left, uint32_t right)
{
    uint8_t *from = nx_nexfs_node(fs, right);
    nx_nexfs_item item;

    if (from[0] > 0) {
        nx_nexfs_own_item(fs, right, &item);
        first_key_set(fs, from, item.key, item.key_size);
    }
    nx_nexfs_node_cut(from, NODE_HEADER, nx_nexfs_node(fs, left));
    adopt(fs, right, left);
    nx_nexfs_dirty(fs, left);
    discard(fs, right);
}

/* Joins a node with a neighbour below the same parent where both together leave a quarter free. */
static int thin(nx_nexfs *fs, uint32_t slot)
{
    uint32_t parent = fs->memory.slots[slot].parent, other;
    uint32_t size = nx_nexfs_node_size(fs);
    nx_nexfs_item own, next = {0};
    bool behind;
    int code;

    nx_nexfs_own_item(fs, slot, &own);
    behind = nx_nexfs_node_item(nx_nexfs_node(fs, parent), own.next, &next);
    for (uint32_t at = NODE_HEADER; !behind && at < own.at; at = next.next) {
        nx_nexfs_node_item(nx_nexfs_node(fs, parent), at, &next);
    }
    if (!behind && own.at == NODE_HEADER) {
        return NX_OK; /* no neighbour */
    }
    fs->memory.slots[slot].held = true;
    code = nx_nexfs_child(fs, parent, &next, &other);
    fs->memory.slots[slot].held = false;
    if (code == NX_OK && nx_nexfs_node_bytes(nx_nexfs_node(fs, slot)) +
                                 nx_nexfs_node_bytes(nx_nexfs_node(fs, other)) + NX_NEXFS_KEY_MAX <=
                             size - size / 4) {
        join(fs, behind ? slot : other, behind ? other : slot);
    }
    return code;
}

/* After a removal: empty nodes go, thin ones are joined, a root with one child goes. */
static int settle(nx_nexfs *fs, uint32_t slot)
{
    while (slot != fs->root) {
        uint32_t parent = fs->memory.slots[slot].parent;
        uint32_t bytes = nx_nexfs_node_bytes(nx_nexfs_node(fs, slot));
        if (nx_nexfs_node_count(nx_nexfs_node(fs, slot)) == 0) {
            discard(fs, slot);
        } else if (bytes < nx_nexfs_node_size(fs) / 4) {
            int code = thin(fs, slot);
            if (code != NX_OK) {
                return code;
            }
        } else {
            return NX_OK;
        }
        slot = parent;
    }
    while (nx_nexfs_node(fs, slot)[0] > 0 && nx_nexfs_node_count(nx_nexfs_node(fs, slot)) <= 1) {
        uint32_t child;
        nx_nexfs_item item;
        int code = NX_OK;
        if (nx_nexfs_node_count(nx_nexfs_node(fs, slot)) == 0) {
            nx_nexfs_node_init(nx_nexfs_node(fs, slot), 0);
            return NX_OK;
        }
        nx_nexfs_node_item(nx_nexfs_node(fs, slot), NODE_HEADER, &item);
        code = nx_nexfs_child(fs, slot, &item, &child);
        if (code != NX_OK) {
            return code;
        }
        fs->memory.slots[child].parent = NO_SLOT;
        nx_nexfs_dirty(fs, child); /* so that the root's address and CRC become known */
        fs->root = (uint16_t)child;
        fs->state.node_count--;
        fs->state.node_bytes -= fs->memory.slots[slot].stored;
        nx_nexfs_slot_drop(fs, slot);
        slot = child;
    }
    return NX_OK;
}

int nx_nexfs_tree_remove(nx_nexfs *fs, const nx_nexfs_key *key)
{
    nx_nexfs_item item;
    int code = nx_nexfs_tree_get(fs, key, &item);

    if (code == NX_OK) {
        fs->changed = true;
        nx_nexfs_node_remove(nx_nexfs_node(fs, item.slot), item.at);
        nx_nexfs_dirty(fs, item.slot);
        code = settle(fs, item.slot);
    }
    return code;
}
