// SPDX-License-Identifier: Apache-2.0
/* From an id to its place: marks in segments, heads of blocks. */
#include <stdlib.h>
#include <string.h>

#include "nx_store_private.h"

#define HEAD_GUESS 4096u

uint64_t nx_store_pack_length(nx_store *store, uint64_t number)
{
    uint64_t length = 0;
    size_t low = 0;

    pthread_mutex_lock(&store->lock);
    size_t high = store->pack_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (store->packs[middle].number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < store->pack_count && store->packs[low].number == number) {
        length = store->packs[low].length;
    }
    pthread_mutex_unlock(&store->lock);
    return length;
}

/* The head of a block in memory of its own. A place that is none is what corrupt marks give. */
int nx_store_load_head(nx_store *store, uint64_t key, uint8_t **ret_bytes, nx_block *ret)
{
    const nx_backing *backing = &store->backing;
    uint64_t pack = nx_key_pack(key);
    uint64_t offset = nx_key_offset(key);
    uint64_t length = nx_store_pack_length(store, pack);

    if (length == 0) {
        return NX_EEMPTY;
    }
    if (offset + NX_BLOCK_HEADER > length) {
        return NX_ECORRUPT;
    }
    size_t got = length - offset < HEAD_GUESS ? (size_t)(length - offset) : HEAD_GUESS;
    uint8_t *bytes = malloc(HEAD_GUESS);
    if (bytes == NULL) {
        return NX_ENOMEM;
    }
    int code = backing->verbs->read(backing->self, NX_FILE_PACK, pack, offset, bytes, got);
    uint32_t size = code == NX_OK ? nx_block_head_size(bytes) : 0;
    if (code == NX_OK && (size == 0 || size > length - offset)) {
        code = NX_ECORRUPT;
    }
    if (code == NX_OK && size > got) {
        uint8_t *more = realloc(bytes, size);
        if (more == NULL) {
            code = NX_ENOMEM;
        } else {
            bytes = more;
            code = backing->verbs->read(backing->self, NX_FILE_PACK, pack, offset + got,
                                        bytes + got, size - got);
        }
    }
    if (code == NX_OK) {
        code = nx_block_open(bytes, size, ret);
    }
    if (code == NX_OK && nx_block_extent(ret) > length - offset) {
        code = NX_ECORRUPT;
    }
    if (code != NX_OK) {
        free(bytes);
        return code == NX_EEMPTY ? NX_ECORRUPT : code;
    }
    *ret_bytes = bytes;
    return NX_OK;
}

/* With heads->lock held: the block's head, valid as long as that. */
static int look_head(nx_store *store, uint64_t key, const nx_block **ret)
{
    size_t slot = (size_t)(key * 0x9e3779b97f4a7c15u >> 56) % NX_HEAD_SLOTS;
    nx_heads *heads = &store->heads;

    if (heads->slots[slot].bytes == NULL || heads->slots[slot].key != key) {
        uint8_t *bytes;
        nx_block block;
        int code = nx_store_load_head(store, key, &bytes, &block);
        if (code != NX_OK) {
            return code;
        }
        free(heads->slots[slot].bytes);
        heads->slots[slot].key = key;
        heads->slots[slot].bytes = bytes;
        heads->slots[slot].block = block;
    }
    *ret = &heads->slots[slot].block;
    return NX_OK;
}

void nx_heads_free(nx_heads *heads)
{
    for (size_t i = 0; i < NX_HEAD_SLOTS; i++) {
        free(heads->slots[i].bytes);
    }
}

void nx_heads_forget(nx_heads *heads, uint64_t pack)
{
    pthread_mutex_lock(&heads->lock);
    for (size_t i = 0; i < NX_HEAD_SLOTS; i++) {
        if (heads->slots[i].bytes != NULL && nx_key_pack(heads->slots[i].key) == pack) {
            free(heads->slots[i].bytes);
            heads->slots[i].bytes = NULL;
        }
    }
    pthread_mutex_unlock(&heads->lock);
}

/* Whether the object at the place has this id. */
static int is_at(nx_store *store, uint64_t place, const uint8_t *id, nx_found *ret)
{
    uint32_t number = (uint32_t)(place & ((1u << NX_PLACE_NUMBER_BITS) - 1));
    const nx_block *block;

    pthread_mutex_lock(&store->heads.lock);
    int code = look_head(store, nx_place_key(place), &block);
    if (code == NX_OK) {
        if (number >= block->count) {
            code = NX_ECORRUPT;
        } else if (memcmp(nx_block_id(block, number), id, NX_OBJECT_ID) != 0) {
            code = NX_EEMPTY;
        } else {
            *ret = (nx_found){
                .place = place,
                .size = nx_block_size(block, number),
                .kind = nx_block_kind(block, number),
                .depth = block->depth,
            };
        }
    }
    pthread_mutex_unlock(&store->heads.lock);
    return code;
}

/* Damage at one place is no answer while another place may have the object. */
int nx_store_locate(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_found *ret,
                    size_t *ret_segment, size_t *ret_record)
{
    uint64_t mark = nx_mark_of(id);
    int damage = NX_EEMPTY;

    for (size_t i = store->segment_count; i-- > 0;) {
        const nx_segment *segment = &store->segments[i];
        for (size_t j = nx_segment_find(segment, mark);
             j < segment->count && segment->marks[j].mark == mark; j++) {
            int code = is_at(store, segment->marks[j].place, id, ret);
            if (code == NX_OK) {
                *ret_segment = i;
                *ret_record = j;
                return NX_OK;
            }
            damage = code == NX_EEMPTY ? damage : code;
        }
    }
    return damage;
}

int nx_store_find(nx_store *store, const uint8_t id[NX_OBJECT_ID], nx_found *ret)
{
    size_t segment;
    size_t record;

    pthread_rwlock_rdlock(&store->index_lock);
    int code = nx_store_locate(store, id, ret, &segment, &record);
    pthread_rwlock_unlock(&store->index_lock);
    return code;
}
