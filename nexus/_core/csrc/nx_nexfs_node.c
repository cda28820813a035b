// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: keys, and the nodes of its tree as bytes. A node in memory is its image; items lie
 * one behind the other, so that an image is as long as its items and needs no packing.
 */
#include "nx_nexfs_core.h"

#define MARK 0x4eu

uint32_t nx_nexfs_number_put(uint8_t *target, uint64_t number)
{
    uint32_t count = 0;

    while (count < 8 && number >> 8 * count != 0) {
        count++;
    }
    target[0] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++) {
        target[1 + i] = (uint8_t)(number >> 8 * (count - 1 - i));
    }
    return 1 + count;
}

bool nx_nexfs_number(const uint8_t *bytes, uint32_t size, uint32_t *at, uint64_t *ret)
{
    uint64_t number = 0;
    uint32_t count;

    if (*at >= size) {
        return false;
    }
    count = bytes[*at];
    if (count > 8 || size - *at - 1 < count || (count > 0 && bytes[*at + 1] == 0)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        number = number << 8 | bytes[*at + 1 + i];
    }
    *at += 1 + count;
    *ret = number;
    return true;
}

void nx_nexfs_key_number(nx_nexfs_key *key, uint64_t number)
{
    key->size = (uint8_t)(key->size + nx_nexfs_number_put(key->bytes + key->size, number));
}

nx_nexfs_key nx_nexfs_key_of(uint64_t inode, unsigned type)
{
    nx_nexfs_key key = {0};

    nx_nexfs_key_number(&key, inode);
    key.bytes[key.size++] = (uint8_t)type;
    return key;
}

nx_nexfs_key nx_nexfs_key_at(uint64_t inode, unsigned type, uint64_t number)
{
    nx_nexfs_key key = nx_nexfs_key_of(inode, type);

    nx_nexfs_key_number(&key, number);
    return key;
}

int nx_nexfs_compare(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);

    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static void set_u16(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
}

static uint32_t get_u16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

uint32_t nx_nexfs_node_bytes(const uint8_t *node)
{
    return get_u16(node + 4);
}

uint32_t nx_nexfs_node_count(const uint8_t *node)
{
    return get_u16(node + 2);
}

static void resize(uint8_t *node, uint32_t count, uint32_t bytes)
{
    set_u16(node + 2, count);
    set_u16(node + 4, bytes);
}

void nx_nexfs_node_init(uint8_t *node, unsigned level)
{
    memset(node, 0, NODE_HEADER);
    node[0] = (uint8_t)level;
    node[1] = MARK;
    resize(node, 0, NODE_HEADER);
}

uint32_t nx_nexfs_item_bytes(uint32_t key_size, uint32_t value_size)
{
    return 1u + (value_size < 128 ? 1u : 2u) + key_size + value_size;
}

/* The item at an offset below `end`; false when it does not end there, too. */
static bool parse(const uint8_t *node, uint32_t at, uint32_t end, nx_nexfs_item *ret)
{
    uint32_t from = at + 2;

    if (end - at < 2) {
        return false;
    }
    ret->key_size = node[at];
    ret->size = node[at + 1];
    if (ret->size >= 128) {
        if (end - at < 3) {
            return false;
        }
        ret->size = (ret->size & 127) << 8 | node[at + 2];
        from++;
    }
    if (end - from < ret->key_size || end - from - ret->key_size < ret->size) {
        return false;
    }
    ret->at = at;
    ret->key = node + from;
    ret->value = (uint8_t *)node + from + ret->key_size;
    ret->next = from + ret->key_size + ret->size;
    return true;
}

bool nx_nexfs_node_item(const uint8_t *node, uint32_t at, nx_nexfs_item *ret)
{
    uint32_t end = nx_nexfs_node_bytes(node);

    return at < end && parse(node, at, end, ret);
}

bool nx_nexfs_node_sound(const uint8_t *node, uint32_t bytes, unsigned level, uint32_t value)
{
    nx_nexfs_item item = {0}, last = {0};
    uint32_t count = 0, at = NODE_HEADER;

    if (bytes < NODE_HEADER || node[0] != level || node[1] != MARK || get_u16(node + 6) != 0 ||
        nx_nexfs_node_bytes(node) != bytes) {
        return false;
    }
    while (at < bytes) {
        if (!parse(node, at, bytes, &item) || item.key_size > NX_NEXFS_KEY_MAX ||
            (level > 0 && (item.size != value || (count == 0) != (item.key_size == 0))) ||
            (count > 0 &&
             nx_nexfs_compare(last.key, last.key_size, item.key, item.key_size) >= 0)) {
            return false;
        }
        last = item;
        at = item.next;
        count++;
    }
    return count == nx_nexfs_node_count(node) && (level == 0 || count > 0);
}

bool nx_nexfs_node_find(const uint8_t *node, const nx_nexfs_key *key, nx_nexfs_item *ret)
{
    uint32_t end = nx_nexfs_node_bytes(node);

    ret->at = NODE_HEADER;
    ret->next = NODE_HEADER;
    while (ret->next < end && parse(node, ret->next, end, ret)) {
        int order = nx_nexfs_compare(ret->key, ret->key_size, key->bytes, key->size);
        if (order >= 0) {
            return order == 0;
        }
    }
    ret->at = end;
    return false;
}

void nx_nexfs_node_child(const uint8_t *node, const nx_nexfs_key *key, nx_nexfs_item *ret)
{
    uint32_t end = nx_nexfs_node_bytes(node);
    nx_nexfs_item next;

    parse(node, NODE_HEADER, end, ret);
    while (ret->next < end && parse(node, ret->next, end, &next) &&
           nx_nexfs_compare(next.key, next.key_size, key->bytes, key->size) <= 0) {
        *ret = next;
    }
}

uint8_t *nx_nexfs_node_insert(uint8_t *node, uint32_t at, const uint8_t *key, uint32_t key_size,
                              uint32_t value_size)
{
    uint32_t end = nx_nexfs_node_bytes(node), grows = nx_nexfs_item_bytes(key_size, value_size);
    uint8_t *to = node + at;

    memmove(to + grows, to, end - at);
    *to++ = (uint8_t)key_size;
    if (value_size < 128) {
        *to++ = (uint8_t)value_size;
    } else {
        *to++ = (uint8_t)(0x80 | value_size >> 8);
        *to++ = (uint8_t)value_size;
    }
    memcpy(to, key, key_size);
    resize(node, nx_nexfs_node_count(node) + 1, end + grows);
    return to + key_size;
}

/* Gives an item's value another size; what fits of the value stays. */
uint8_t *nx_nexfs_node_resize(uint8_t *node, const nx_nexfs_item *item, uint32_t size)
{
    uint32_t end = nx_nexfs_node_bytes(node);
    uint32_t next = item->at + nx_nexfs_item_bytes(item->key_size, size);
    uint32_t value = next - size, kept = item->size < size ? item->size : size;
    uint8_t key[NX_NEXFS_KEY_MAX];

    if (size == item->size) {
        return item->value;
    }
    memcpy(key, item->key, item->key_size);
    if (next > item->next) { /* what is behind goes first, so that nothing is overwritten */
        memmove(node + next, node + item->next, end - item->next);
    }
    memmove(node + value, item->value, kept);
    if (next < item->next) {
        memmove(node + next, node + item->next, end - item->next);
    }
    node[item->at + 1] = (uint8_t)size;
    if (size >= 128) {
        node[item->at + 1] = (uint8_t)(0x80 | size >> 8);
        node[item->at + 2] = (uint8_t)size;
    }
    memcpy(node + value - item->key_size, key, item->key_size);
    resize(node, nx_nexfs_node_count(node), end - item->next + next);
    return node + value;
}

void nx_nexfs_node_remove(uint8_t *node, uint32_t at)
{
    uint32_t end = nx_nexfs_node_bytes(node);
    nx_nexfs_item item;

    if (parse(node, at, end, &item)) {
        memmove(node + at, node + item.next, end - item.next);
        resize(node, nx_nexfs_node_count(node) - 1, end - (item.next - at));
    }
}

/* Moves the items from `at` on behind those of `right`. */
void nx_nexfs_node_cut(uint8_t *node, uint32_t at, uint8_t *right)
{
    uint32_t end = nx_nexfs_node_bytes(node), to = nx_nexfs_node_bytes(right), moved = 0;
    nx_nexfs_item item;

    for (uint32_t i = at; parse(node, i, end, &item); i = item.next) {
        moved++;
    }
    memcpy(right + to, node + at, end - at);
    resize(right, nx_nexfs_node_count(right) + moved, to + end - at);
    resize(node, nx_nexfs_node_count(node) - moved, at);
}

uint32_t nx_nexfs_node_middle(const uint8_t *node)
{
    uint32_t end = nx_nexfs_node_bytes(node), at = NODE_HEADER;
    nx_nexfs_item item;

    while (parse(node, at, end, &item) && item.next < end &&
           (at == NODE_HEADER || item.next <= end / 2)) {
        at = item.next;
    }
    return at;
}
