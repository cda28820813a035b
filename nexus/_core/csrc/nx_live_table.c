// SPDX-License-Identifier: Apache-2.0
/* Nodes by number, names by directory, and their ways from the store and out of memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_live_private.h"
#include "nx_xxhash.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t words[2] = {a, b};

    return nx_xxh3_64(words, sizeof words, 0);
}

uint64_t nx_live_wish(const nx_live_node *parent, const char *text, size_t size)
{
    return mix(parent->number, nx_xxh3_64(text, size, 0));
}

static nx_live_node **node_bucket(const nx_live *live, uint64_t number)
{
    return &live->nodes[mix(number, 0) & (live->node_room - 1)];
}

static nx_name **name_bucket(const nx_live *live, uint64_t wish)
{
    return &live->names[wish & (live->name_room - 1)];
}

nx_live_node *nx_live_find(const nx_live *live, uint64_t number)
{
    nx_live_node *node = *node_bucket(live, number);

    while (node != NULL && node->number != number) {
        node = node->chain;
    }
    return node;
}

nx_name *nx_live_name(const nx_live *live, const nx_live_node *parent, const char *text)
{
    size_t size = strlen(text);
    nx_name *name = *name_bucket(live, nx_live_wish(parent, text, size));

    while (name != NULL &&
           (name->parent != parent || name->size != size || memcmp(name->text, text, size) != 0)) {
        name = name->chain;
    }
    return name;
}

/* Without memory the buckets become longer, and nothing else. */
static void grow_nodes(nx_live *live)
{
    size_t room = live->node_room;
    nx_live_node **before = live->nodes;
    nx_live_node **after = calloc(room * 2, sizeof(nx_live_node *));

    if (after == NULL) {
        return;
    }
    live->nodes = after;
    live->node_room = room * 2;
    for (size_t i = 0; i < room; i++) {
        while (before[i] != NULL) {
            nx_live_node *node = before[i];
            nx_live_node **bucket = node_bucket(live, node->number);
            before[i] = node->chain;
            node->chain = *bucket;
            *bucket = node;
        }
    }
    free(before);
}

static void grow_names(nx_live *live)
{
    size_t room = live->name_room;
    nx_name **before = live->names;
    nx_name **after = calloc(room * 2, sizeof(nx_name *));

    if (after == NULL) {
        return;
    }
    live->names = after;
    live->name_room = room * 2;
    for (size_t i = 0; i < room; i++) {
        while (before[i] != NULL) {
            nx_name *name = before[i];
            nx_name **bucket =
                name_bucket(live, nx_live_wish(name->parent, name->text, name->size));
            before[i] = name->chain;
            name->chain = *bucket;
            *bucket = name;
        }
    }
    free(before);
}

/* Neither of those that are always there, nor one below .timewarp, nor one that is taken. */
nx_live_node *nx_live_make(nx_live *live, uint64_t wish)
{
    nx_live_node *node = calloc(1, sizeof *node);
    uint64_t number = wish & (NX_LIVE_PAST - 1);

    if (node == NULL) {
        return NULL;
    }
    if (live->node_count >= live->node_room) {
        grow_nodes(live);
    }
    while (number <= NX_NODE_TIMEWARP || nx_live_find(live, number) != NULL) {
        number = (number + NX_NODE_TIMEWARP + 1) & (NX_LIVE_PAST - 1);
    }
    node->number = number;
    nx_live_node **bucket = node_bucket(live, number);
    node->chain = *bucket;
    *bucket = node;
    live->node_count++;
    return node;
}

static void free_node(nx_live *live, nx_live_node *node)
{
    nx_live_node **link = node_bucket(live, node->number);

    while (*link != node) {
        link = &(*link)->chain;
    }
    *link = node->chain;
    live->node_count--;
    if (node->dirty) {
        *(node->dirty_before == NULL ? &live->dirty : &node->dirty_before->dirty_next) =
            node->dirty_next;
        if (node->dirty_next != NULL) {
            node->dirty_next->dirty_before = node->dirty_before;
        }
    }
    if (node->content != NULL) {
        nx_content_release(node->content);
    }
    free(node->stored.text);
    free(node->pending.text);
    free(node->extras);
    free(node);
}

nx_name *nx_live_add(nx_live *live, nx_live_node *parent, const char *text, size_t size,
                     nx_live_node *node)
{
    nx_name *name = calloc(1, sizeof *name + size + 1);

    if (name == NULL) {
        return NULL;
    }
    if (live->name_count >= live->name_room) {
        grow_names(live);
    }
    name->parent = parent;
    name->node = node;
    name->size = (uint32_t)size;
    memcpy(name->text, text, size);
    nx_name **bucket = name_bucket(live, nx_live_wish(parent, text, size));
    name->chain = *bucket;
    *bucket = name;
    live->name_count++;
    name->also = node->names;
    node->names = name;
    node->name_count++;
    name->before = parent->last;
    *(parent->last == NULL ? &parent->first : &parent->last->next) = name;
    parent->last = name;
    parent->child_count++;
    parent->folder_count += S_ISDIR(node->mode);
    return name;
}

void nx_live_remove(nx_live *live, nx_name *name)
{
    nx_live_node *parent = name->parent;
    nx_live_node *node = name->node;
    nx_name **link = name_bucket(live, nx_live_wish(parent, name->text, name->size));

    while (*link != name) {
        link = &(*link)->chain;
    }
    *link = name->chain;
    live->name_count--;
    for (link = &node->names; *link != name;) {
        link = &(*link)->also;
    }
    *link = name->also;
    node->name_count--;
    *(name->before == NULL ? &parent->first : &name->before->next) = name->next;
    *(name->next == NULL ? &parent->last : &name->next->before) = name->before;
    parent->child_count--;
    parent->folder_count -= S_ISDIR(node->mode);
    free(name);
}

/* A directory that is gone has no names in it. */
void nx_live_drop_unused(nx_live *live, nx_live_node *node)
{
    if (node->lookups == 0 && node->names == NULL && node != live->root) {
        free_node(live, node);
    }
}

/* The group's number out of the extras, and all else as it is. */
static int split_extras(const nx_entry *entry, nx_live_node *node)
{
    nx_cursor records = nx_cursor_of(entry->extras, entry->extras_size);
    nx_bytes kept = {0};

    while (records.at != records.end && !records.failed) {
        const uint8_t *start = records.at;
        uint64_t tag = nx_cursor_varint(&records);
        nx_cursor value = nx_cursor_part(&records);
        if (records.failed) {
            nx_bytes_free(&kept);
            return EIO;
        }
        if (tag == NX_EXTRA_LINK) {
            node->group = nx_cursor_varint(&value);
        } else {
            nx_bytes_put(&kept, start, (size_t)(records.at - start));
        }
    }
    if (kept.failed) {
        nx_bytes_free(&kept);
        return ENOMEM;
    }
    node->extras = kept.data;
    node->extras_size = (uint32_t)kept.size;
    return 0;
}

static int fill(nx_live_node *node, const nx_entry *entry)
{
    node->mode = entry->mode;
    node->uid = entry->uid;
    node->gid = entry->gid;
    node->size = entry->size;
    if (S_ISCHR(entry->mode) || S_ISBLK(entry->mode)) {
        node->device = entry->size;
        node->size = 0;
    }
    node->mtime = (struct timespec){entry->seconds, (long)entry->nanoseconds};
    node->atime = node->ctime = node->mtime;
    node->stored =
        (nx_stored){.form = entry->form, .size = entry->size, .text_size = entry->text_size};
    if (entry->id != NULL) {
        memcpy(node->stored.id, entry->id, NX_OBJECT_ID);
    }
    if (entry->text != NULL) {
        node->stored.text = malloc((size_t)entry->text_size + 1);
        if (node->stored.text == NULL) {
            return ENOMEM;
        }
        memcpy(node->stored.text, entry->text, entry->text_size);
    }
    return split_extras(entry, node);
}

int nx_live_make_root(nx_live *live, const nx_entry *entry)
{
    nx_live_node *node = nx_live_make(live, NX_NODE_TIMEWARP + 1);

    if (node == NULL) {
        return NX_ENOMEM;
    }
    nx_live_node **bucket = node_bucket(live, node->number);
    *bucket = node->chain;
    node->number = NX_NODE_ROOT;
    bucket = node_bucket(live, node->number);
    node->chain = *bucket;
    *bucket = node;
    live->root = node;
    int reason = fill(node, entry);
    return reason == 0 ? NX_OK : reason == EIO ? NX_ECORRUPT : NX_ENOMEM;
}

/* Of names of one group: imports count theirs each from 1, so what the file is counts as well. */
static bool is_same(const nx_live_node *node, const nx_live_node *other)
{
    return node->group == other->group && node->mode == other->mode &&
           node->stored.form == other->stored.form && node->stored.size == other->stored.size &&
           memcmp(node->stored.id, other->stored.id, NX_OBJECT_ID) == 0 &&
           node->mtime.tv_sec == other->mtime.tv_sec && node->mtime.tv_nsec == other->mtime.tv_nsec;
}

typedef struct loading {
    nx_live *live;
    nx_live_node *directory;
} loading;

/* A wish that all names of a group have alike. */
static uint64_t group_wish(const nx_live_node *node)
{
    return mix(mix(node->group, nx_load_u64(node->stored.id)),
               mix((uint64_t)node->mtime.tv_sec, node->stored.size));
}

/* The node that is there of the same group already, or NULL. */
static nx_live_node *find_group(const nx_live *live, const nx_live_node *like, uint64_t wish)
{
    for (uint64_t number = wish & (NX_LIVE_PAST - 1);;) {
        nx_live_node *node = nx_live_find(live, number);
        if (node == NULL || (node->names != NULL && is_same(node, like))) {
            return node;
        }
        number = (number + NX_NODE_TIMEWARP + 1) & (NX_LIVE_PAST - 1);
    }
}

static int load_entry(void *self, const nx_entry *entry)
{
    const loading *all = self;
    nx_live *live = all->live;
    const char *text = (const char *)entry->name;
    nx_live_node read = {0};
    int reason = fill(&read, entry);
    nx_live_node *node = NULL;
    uint64_t wish =
        read.group != 0 ? group_wish(&read) : nx_live_wish(all->directory, text, entry->name_size);

    if (reason == 0 && read.group != 0) {
        node = find_group(live, &read, wish);
    }
    bool fresh = reason == 0 && node == NULL;
    if (fresh && (node = nx_live_make(live, wish)) != NULL) {
        read.chain = node->chain;
        read.number = node->number;
        *node = read;
    } else {
        free(read.stored.text);
        free(read.extras);
    }
    if (reason != 0 || node == NULL ||
        nx_live_add(live, all->directory, text, entry->name_size, node) == NULL) {
        if (fresh && node != NULL) {
            free_node(live, node);
        }
        return reason == EIO ? NX_ECORRUPT : NX_ENOMEM;
    }
    return 0;
}

static void unload(nx_live *live, nx_live_node *directory)
{
    while (directory->first != NULL) {
        nx_live_node *node = directory->first->node;
        nx_live_remove(live, directory->first);
        nx_live_drop_unused(live, node);
    }
    directory->loaded = false;
}

int nx_live_load(nx_live *live, nx_live_node *directory)
{
    const nx_stored *stored = &directory->stored;
    nx_entry entry = {.form = stored->form,
                      .id = stored->id,
                      .text = stored->text,
                      .text_size = stored->text_size};
    loading all = {live, directory};

    if (!S_ISDIR(directory->mode)) {
        return ENOTDIR;
    }
    if (directory->loaded) {
        return 0;
    }
    int code = nx_mount_walk(live->store, &entry, NULL, 0, load_entry, &all);
    if (code != NX_OK) {
        int reason = nx_mount_reason(code);
        unload(live, directory);
        return reason;
    }
    directory->loaded = true;
    return 0;
}

static bool is_used(const nx_live_node *node)
{
    return node->lookups > 0 || node->dirty || node->loaded || node->group != 0 ||
           node->name_count > 1 || node->changed;
}

static void try_unload(nx_live *live, nx_live_node *directory)
{
    bool used = directory->dirty;

    for (const nx_name *name = directory->first; !used && name != NULL; name = name->next) {
        used = is_used(name->node);
    }
    if (!used) {
        unload(live, directory);
    }
}

void nx_live_sweep(nx_live *live, bool loads)
{
    nx_live_node *directory = live->root;

    if (nx_live_load(live, directory) != 0) {
        return;
    }
    for (const nx_name *at = directory->first;;) {
        while (at != NULL) {
            nx_live_node *node = at->node;
            bool enters =
                S_ISDIR(node->mode) && (node->loaded || (loads && nx_live_load(live, node) == 0));
            directory = enters ? node : directory;
            at = enters ? node->first : at->next;
        }
        if (directory == live->root) {
            break;
        }
        nx_name *own = directory->names;
        at = own->next;
        try_unload(live, directory);
        directory = own->parent;
    }
    live->swept = live->node_count;
}

void nx_live_free(nx_live *live)
{
    for (size_t i = 0; live->names != NULL && i < live->name_room; i++) {
        while (live->names[i] != NULL) {
            nx_name *name = live->names[i];
            live->names[i] = name->chain;
            free(name);
        }
    }
    for (size_t i = 0; live->nodes != NULL && i < live->node_room; i++) {
        while (live->nodes[i] != NULL) {
            free_node(live, live->nodes[i]);
        }
    }
    free(live->names);
    free(live->nodes);
}
