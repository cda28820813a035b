// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: the tree and its cache of nodes. A node in a slot has its parent in a slot, so that
 * writing a node can always tell its parent where it went. The parent's item finds a
 * cached child by the address that the item holds; a new node has a provisional one, with the
 * highest bit of an address set, until its image has a place.
 */
#include "nx_nexfs_core.h"

uint8_t *nx_nexfs_node(const nx_nexfs *fs, uint32_t slot)
{
    return fs->memory.nodes + (size_t)slot * fs->memory.node_size;
}

uint32_t nx_nexfs_node_size(const nx_nexfs *fs)
{
    return 1u << fs->super.node_log2;
}

uint32_t nx_nexfs_child_bytes(const nx_nexfs *fs)
{
    return fs->super.address_bytes + 6u;
}

uint64_t nx_nexfs_child_address(const nx_nexfs *fs, const nx_nexfs_item *item)
{
    uint64_t address = 0;

    memcpy(&address, item->value, fs->super.address_bytes);
    return address;
}

void nx_nexfs_child_set(const nx_nexfs *fs, const nx_nexfs_item *item, uint64_t address,
                        uint32_t size, uint32_t crc)
{
    uint8_t *value = item->value + fs->super.address_bytes;

    memcpy(item->value, &address, fs->super.address_bytes);
    value[0] = (uint8_t)size;
    value[1] = (uint8_t)(size >> 8);
    nx_store_u32(value + 2, crc);
}

void nx_nexfs_dirty(nx_nexfs *fs, uint32_t slot)
{
    fs->memory.slots[slot].dirty = true;
}

/*
 * Slots
 */

void nx_nexfs_slot_drop(nx_nexfs *fs, uint32_t slot)
{
    nx_nexfs_slot *s = &fs->memory.slots[slot];

    if (s->parent != NO_SLOT) {
        fs->memory.slots[s->parent].children--;
    }
    s->used = false;
}

/* An empty slot: a free one, else the oldest that is clean, else the oldest. */
static int slot_take(nx_nexfs *fs, uint32_t *ret)
{
    uint32_t best = NONE, best_age = 0;
    nx_nexfs_slot *slots = fs->memory.slots;

    for (uint32_t i = 0; i < fs->memory.slot_count; i++) {
        uint32_t age = ((fs->clock - slots[i].age) >> 1) | (slots[i].dirty ? 0 : 1u << 31);
        if (!slots[i].used) {
            *ret = i;
            return NX_OK;
        }
        if (slots[i].children == 0 && !slots[i].held && i != fs->root &&
            (best == NONE || age > best_age)) {
            best = i;
            best_age = age;
        }
    }
    if (best == NONE) {
        return NX_ENOMEM; /* the tree is deeper than there are slots */
    }
    if (slots[best].dirty) {
        int code = nx_nexfs_spill(fs, best);
        if (code != NX_OK) {
            return code;
        }
    }
    nx_nexfs_slot_drop(fs, best);
    *ret = best;
    return NX_OK;
}

static void slot_fill(nx_nexfs *fs, uint32_t slot, uint32_t parent, uint64_t address,
                      uint32_t stored)
{
    fs->memory.slots[slot] = (nx_nexfs_slot){.address = address,
                                             .age = ++fs->clock,
                                             .stored = (uint16_t)stored,
                                             .parent = (uint16_t)parent,
                                             .used = true};
    if (parent != NO_SLOT) {
        fs->memory.slots[parent].children++;
    }
}

int nx_nexfs_node_new(nx_nexfs *fs, unsigned level, uint32_t parent, uint32_t *ret)
{
    int code = slot_take(fs, ret);

    if (code == NX_OK) {
        uint64_t top = 1ull << (8 * fs->super.address_bytes - 1);
        slot_fill(fs, *ret, parent, top | (++fs->provisional & (top - 1)), 0);
        nx_nexfs_dirty(fs, *ret);
        nx_nexfs_node_init(nx_nexfs_node(fs, *ret), level);
        fs->state.node_count++;
    }
    return code;
}

static int load(nx_nexfs *fs, uint64_t address, uint32_t size, uint32_t crc, unsigned level,
                uint32_t slot)
{
    uint8_t *node = nx_nexfs_node(fs, slot);
    int code = NX_ECORRUPT;

    fs->fault_address = address;
    if (size >= NODE_HEADER && size <= nx_nexfs_node_size(fs) &&
        address < fs->flash->geometry.size && fs->flash->geometry.size - address >= size) {
        code = nx_nexfs_read_flash(fs, address, node, size);
    }
    if (code == NX_OK && (nx_crc32c(0, node, size) != crc ||
                          !nx_nexfs_node_sound(node, size, level, nx_nexfs_child_bytes(fs)))) {
        fs->fault_inode = 0;
        code = NX_ECORRUPT;
    }
    return code;
}

int nx_nexfs_child(nx_nexfs *fs, uint32_t parent, const nx_nexfs_item *item, uint32_t *ret)
{
    uint64_t address = nx_nexfs_child_address(fs, item);
    unsigned level = nx_nexfs_node(fs, parent)[0] - 1u;
    uint32_t size, crc, slot;
    bool held = fs->memory.slots[parent].held;
    int code;

    for (uint32_t i = 0; i < fs->memory.slot_count; i++) {
        nx_nexfs_slot *s = &fs->memory.slots[i];
        if (s->address == address && s->used && s->parent == parent) {
            s->age = ++fs->clock;
            *ret = i;
            return NX_OK;
        }
    }
    size = item->value[fs->super.address_bytes] | (uint32_t)item->value[fs->super.address_bytes + 1]
                                                      << 8;
    crc = nx_load_u32(item->value + fs->super.address_bytes + 2);
    fs->memory.slots[parent].held = true;
    code = slot_take(fs, &slot);
    fs->memory.slots[parent].held = held;
    code = code != NX_OK ? code : load(fs, address, size, crc, level, slot);
    if (code == NX_OK) {
        slot_fill(fs, slot, parent, address, size);
        fs->memory.slots[slot].dirty = fs->moving; /* worn by flips: written anew */
        fs->changed = fs->changed || fs->moving;
        *ret = slot;
    }
    return code;
}

int nx_nexfs_root_load(nx_nexfs *fs, uint64_t address, uint32_t size, uint32_t crc, unsigned level)
{
    int code = level < NX_NEXFS_DEPTH_MAX ? load(fs, address, size, crc, level, 0) : NX_ECORRUPT;

    if (code == NX_OK) {
        slot_fill(fs, 0, NO_SLOT, address, size);
        fs->root = 0;
        fs->root_address = address;
        fs->root_crc = crc;
    }
    return code;
}

int nx_nexfs_root_make(nx_nexfs *fs)
{
    uint32_t slot;
    int code = nx_nexfs_node_new(fs, 0, NO_SLOT, &slot);

    fs->root = code == NX_OK ? (uint16_t)slot : fs->root;
    return code;
}

/* The item of a cached node in its parent. */
void nx_nexfs_own_item(const nx_nexfs *fs, uint32_t slot, nx_nexfs_item *ret)
{
    const nx_nexfs_slot *s = &fs->memory.slots[slot];
    const uint8_t *parent = nx_nexfs_node(fs, s->parent);
    bool found = false;

    for (uint32_t at = NODE_HEADER; !found && nx_nexfs_node_item(parent, at, ret); at = ret->next) {
        found = nx_nexfs_child_address(fs, ret) == s->address;
    }
    NX_ASSERT(found);
}

/* Gives a changed node's image a place, and tells its parent. */
int nx_nexfs_spill(nx_nexfs *fs, uint32_t slot)
{
    nx_nexfs_slot *s = &fs->memory.slots[slot];
    const uint8_t *node = nx_nexfs_node(fs, slot);
    uint32_t size = nx_nexfs_node_bytes(node), crc = nx_crc32c(0, node, size);
    uint64_t address;
    nx_nexfs_item item;
    int code = nx_nexfs_log_append(fs, node, size, &address);

    if (code != NX_OK) {
        return code;
    }
    fs->state.node_bytes += size - (uint64_t)s->stored;
    if (slot == fs->root) {
        fs->root_address = address;
        fs->root_crc = crc;
    } else {
        nx_nexfs_own_item(fs, slot, &item);
        nx_nexfs_child_set(fs, &item, address, size, crc);
        nx_nexfs_dirty(fs, s->parent);
    }
    s->address = address;
    s->stored = (uint16_t)size;
    s->dirty = false;
    return NX_OK;
}

/*
 * Looking up
 */

/* Goes down to the leaf of the key; `upper` becomes the least bound of what lies behind it. */
static int descend(nx_nexfs *fs, const nx_nexfs_key *key, nx_nexfs_key *upper, uint32_t *ret)
{
    uint32_t slot = fs->root;
    int code = NX_OK;

    while (code == NX_OK && nx_nexfs_node(fs, slot)[0] > 0) {
        nx_nexfs_item item, next;
        nx_nexfs_node_child(nx_nexfs_node(fs, slot), key, &item);
        if (upper != NULL && nx_nexfs_node_item(nx_nexfs_node(fs, slot), item.next, &next)) {
            upper->size = next.key_size;
            memcpy(upper->bytes, next.key, next.key_size);
        }
        code = nx_nexfs_child(fs, slot, &item, &slot);
    }
    *ret = slot;
    return code;
}

int nx_nexfs_tree_get(nx_nexfs *fs, const nx_nexfs_key *key, nx_nexfs_item *ret)
{
    uint32_t slot;
    int code = descend(fs, key, NULL, &slot);

    if (code == NX_OK) {
        ret->slot = slot;
        code = nx_nexfs_node_find(nx_nexfs_node(fs, slot), key, ret) ? NX_OK : NX_EEMPTY;
    }
    return code;
}

int nx_nexfs_tree_seek(nx_nexfs *fs, const nx_nexfs_key *key, nx_nexfs_item *ret)
{
    nx_nexfs_key from = *key, upper;
    uint32_t slot, at;

    for (;;) {
        int code;
        upper.size = 0;
        code = descend(fs, &from, &upper, &slot);
        if (code != NX_OK) {
            return code;
        }
        nx_nexfs_node_find(nx_nexfs_node(fs, slot), &from, ret);
        at = ret->at;
        if (nx_nexfs_node_item(nx_nexfs_node(fs, slot), at, ret)) {
            ret->slot = slot;
            return NX_OK;
        }
        if (upper.size == 0) {
            return NX_EEMPTY;
        }
        from = upper;
    }
}
