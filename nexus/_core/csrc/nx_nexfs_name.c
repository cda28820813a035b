// SPDX-License-Identifier: Apache-2.0
/*
 * NexFS's log: names. A name stands at a place that its hash gives, so that a directory is read in
 * an order that does not change while names come and go.
 */
#include "nx_nexfs_core.h"

#define ORDINALS 256u

static bool sound_name(const void *name, size_t size)
{
    const uint8_t *bytes = name;
    bool dots = size <= 2 && size > 0 && bytes[0] == '.' && bytes[size - 1] == '.';

    for (size_t i = 0; i < size && i <= NX_NEXFS_NAME_MAX; i++) {
        dots = dots || bytes[i] == 0 || bytes[i] == '/';
    }
    return size > 0 && size <= NX_NEXFS_NAME_MAX && !dots;
}

uint64_t nx_nexfs_place(const nx_nexfs *fs, const void *name, size_t size)
{
    return nx_xxh3_64(name, size, fs->seed) >> 9 << 8;
}

static nx_nexfs_key place_key(uint64_t inode, unsigned type, uint64_t place)
{
    nx_nexfs_key key = nx_nexfs_key_of(inode, type);

    for (unsigned i = 0; i < 8; i++) {
        key.bytes[key.size++] = (uint8_t)(place >> (56 - 8 * i));
    }
    return key;
}

static uint64_t place_of(const nx_nexfs_item *item)
{
    uint64_t place = 0;

    for (uint32_t i = item->key_size - 8u; i < item->key_size; i++) {
        place = place << 8 | item->key[i];
    }
    return place;
}

static bool record_parse(unsigned type, const nx_nexfs_item *item, nx_nexfs_record *ret)
{
    uint32_t at = 0;

    *ret = (nx_nexfs_record){0};
    if (type == TYPE_NAME) {
        if (!nx_nexfs_number(item->value, item->size, &at, &ret->inode) || at >= item->size) {
            return false;
        }
        ret->kind = item->value[at++];
        ret->name = item->value + at;
        ret->size = (uint8_t)(item->size - at);
        return item->size - at <= NX_NEXFS_NAME_MAX && sound_name(ret->name, ret->size);
    }
    if (item->size < 1 || item->value[0] == 0 || item->size < 1u + item->value[0]) {
        return false;
    }
    ret->size = item->value[0];
    ret->name = item->value + 1;
    ret->value = ret->name + ret->size;
    ret->value_size = item->size - 1u - ret->size;
    return true;
}

/* The record of a name and its key; NX_EEMPTY: the key is the first free place for it. */
int nx_nexfs_find(nx_nexfs *fs, uint64_t inode, unsigned type, const void *name, size_t size,
                  nx_nexfs_key *ret_key, nx_nexfs_record *ret)
{
    uint64_t place = nx_nexfs_place(fs, name, size), at = place, vacant = UINT64_MAX;
    nx_nexfs_item item;

    for (;;) {
        nx_nexfs_key key = place_key(inode, type, at);
        int code = nx_nexfs_tree_seek(fs, &key, &item);
        if (code == NX_EEMPTY || (code == NX_OK && (item.key_size != key.size ||
                                                    memcmp(item.key, key.bytes, key.size - 1u)))) {
            vacant = vacant == UINT64_MAX ? at : vacant;
            *ret_key = place_key(inode, type, vacant);
            return vacant - place < ORDINALS ? NX_EEMPTY : NX_EFULL;
        }
        if (code != NX_OK) {
            return code;
        }
        if (!record_parse(type, &item, ret)) {
            fs->fault_inode = inode;
            return NX_ECORRUPT;
        }
        if (ret->size == size && memcmp(ret->name, name, size) == 0) {
            *ret_key = place_key(inode, type, place_of(&item));
            return NX_OK;
        }
        vacant = place_of(&item) != at && vacant == UINT64_MAX ? at : vacant;
        at = place_of(&item) + 1;
        if (at - place >= ORDINALS) {
            *ret_key = place_key(inode, type, vacant);
            return vacant != UINT64_MAX ? NX_EEMPTY : NX_EFULL;
        }
    }
}

/* The attributes of a directory. */
static int directory_get(nx_nexfs *fs, uint64_t inode, nx_nexfs_attributes *ret)
{
    int code = nx_nexfs_inode_get(fs, inode, ret);

    return code == NX_OK && (ret->mode & NX_NEXFS_TYPE) != NX_NEXFS_DIRECTORY ? NX_EINVAL : code;
}

int nx_nexfs_lookup(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, uint64_t *ret)
{
    nx_nexfs_key key;
    nx_nexfs_record found;
    int code = fs->broken == NX_ECLOSED ? NX_ECLOSED : NX_OK;

    if (code != NX_OK || !sound_name(name, size)) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    code = nx_nexfs_find(fs, directory, TYPE_NAME, name, size, &key, &found);
    if (code == NX_OK) {
        *ret = found.inode;
    }
    return code == NX_EFULL ? NX_EEMPTY : code;
}

int nx_nexfs_walk(nx_nexfs *fs, const char *path, uint64_t *ret)
{
    uint64_t inode = NX_NEXFS_ROOT;

    while (*path != 0) {
        size_t size = 0;
        int code = NX_OK;
        while (path[size] != 0 && path[size] != '/') {
            size++;
        }
        if (size > 0) {
            code = nx_nexfs_lookup(fs, inode, path, size, &inode);
        }
        if (code != NX_OK) {
            return code;
        }
        path += size + (path[size] == '/');
    }
    *ret = inode;
    return NX_OK;
}

static int entry_put(nx_nexfs *fs, const nx_nexfs_key *key, uint64_t inode, unsigned kind,
                     const char *name, size_t size)
{
    uint8_t number[9], *value;
    uint32_t digits = nx_nexfs_number_put(number, inode);
    int code = nx_nexfs_tree_put(fs, key, digits + 1 + (uint32_t)size, &value);

    if (code == NX_OK) {
        memcpy(value, number, digits);
        value[digits] = (uint8_t)kind;
        memcpy(value + digits + 1, name, size);
    }
    return code;
}

/* Before a name is entered: the right to, the directory, and a free place. */
static int vacancy(nx_nexfs *fs, uint64_t directory, const char *name, size_t size,
                   nx_nexfs_attributes *ret, nx_nexfs_key *ret_key)
{
    nx_nexfs_record found;
    int code =
        sound_name(name, size) ? nx_nexfs_begin(fs, 0, 2u << fs->super.node_log2) : NX_EINVAL;

    code = code != NX_OK ? code : directory_get(fs, directory, ret);
    if (code != NX_OK) {
        return code;
    }
    code = nx_nexfs_find(fs, directory, TYPE_NAME, name, size, ret_key, &found);
    return code == NX_OK ? NX_EBUSY : code == NX_EEMPTY ? NX_OK : code;
}

/* A directory within a directory counts as a link of that. */
static int links_add(nx_nexfs *fs, uint64_t directory, int more)
{
    nx_nexfs_attributes a;
    int code = nx_nexfs_inode_get(fs, directory, &a);

    a.links = (uint32_t)((int64_t)a.links + more);
    return code != NX_OK ? code : nx_nexfs_inode_put(fs, &a);
}

int nx_nexfs_create(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, uint16_t mode,
                    uint64_t *ret)
{
    unsigned type = mode & NX_NEXFS_TYPE;
    bool child = type == NX_NEXFS_DIRECTORY;
    nx_nexfs_attributes parent, a;
    nx_nexfs_key key;
    int code = vacancy(fs, directory, name, size, &parent, &key);

    if (code != NX_OK || (!child && type != NX_NEXFS_FILE && type != NX_NEXFS_SYMLINK)) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    a = (nx_nexfs_attributes){.inode = fs->state.inode_next,
                              .parent = directory,
                              .mtime_ns = fs->now_ns,
                              .ctime_ns = fs->now_ns,
                              .born_ns = fs->now_ns,
                              .uid = parent.uid,
                              .gid = parent.gid,
                              .links = child ? 2 : 1,
                              .mode = mode,
                              .checksum = parent.checksum,
                              .codec = parent.codec,
                              .window_log2 = parent.window_log2};
    fs->state.inode_next++;
    fs->state.inodes++;
    code = entry_put(fs, &key, a.inode, type >> 12, name, size);
    code = code != NX_OK ? code : nx_nexfs_inode_put(fs, &a);
    code = code != NX_OK || !child ? code : links_add(fs, directory, 1);
    code = code != NX_OK ? code : nx_nexfs_times_put(fs, directory);
    *ret = code == NX_OK ? a.inode : *ret;
    return nx_nexfs_end(fs, code);
}

int nx_nexfs_link(nx_nexfs *fs, uint64_t inode, uint64_t directory, const char *name, size_t size)
{
    nx_nexfs_attributes parent, a;
    nx_nexfs_key key;
    int code = vacancy(fs, directory, name, size, &parent, &key);

    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, inode, &a);
    if (code != NX_OK || (a.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY || a.links == 0) {
        return code != NX_OK ? code : NX_EINVAL;
    }
    a.links++;
    a.ctime_ns = fs->now_ns;
    code = entry_put(fs, &key, inode, a.mode >> 12, name, size);
    code = code != NX_OK ? code : nx_nexfs_inode_put(fs, &a);
    code = code != NX_OK ? code : nx_nexfs_times_put(fs, directory);
    return nx_nexfs_end(fs, code);
}

/* Whether a directory has entries: NX_OK without, NX_EBUSY with. */
static int empty(nx_nexfs *fs, uint64_t directory)
{
    nx_nexfs_key key = nx_nexfs_key_of(directory, TYPE_NAME);
    nx_nexfs_item item;
    int code = nx_nexfs_tree_seek(fs, &key, &item);

    if (code == NX_OK && item.key_size >= key.size && memcmp(item.key, key.bytes, key.size) == 0) {
        return NX_EBUSY;
    }
    return code == NX_EEMPTY ? NX_OK : code;
}

/* A name less: the inode may go with it. */
static int unlink_inode(nx_nexfs *fs, nx_nexfs_attributes *a, uint64_t directory, bool keep)
{
    bool child = (a->mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY;
    nx_nexfs_key key = nx_nexfs_key_at(0, TYPE_ORPHAN, a->inode);
    uint8_t *value;
    int code = NX_OK;

    a->links = child ? 0 : a->links - 1;
    a->ctime_ns = fs->now_ns;
    if (a->links == 0 && !keep) {
        code = nx_nexfs_inode_drop(fs, a->inode);
    } else {
        code = nx_nexfs_inode_put(fs, a);
        code = code != NX_OK || a->links > 0 ? code : nx_nexfs_tree_put(fs, &key, 0, &value);
    }
    return code != NX_OK || !child ? code : links_add(fs, directory, -1);
}

/* An inode that nobody names any more: the rest of a large one. */
static int finish(nx_nexfs *fs, uint64_t gone)
{
    int code = gone != 0 ? nx_nexfs_forget(fs, gone) : NX_OK;

    return code == NX_EEMPTY ? NX_OK : code;
}

NX_NOINLINE static int remove_name(nx_nexfs *fs, uint64_t directory, const char *name, size_t size,
                                   bool keep, uint64_t *ret_gone)
{
    nx_nexfs_attributes a = {0};
    nx_nexfs_key key;
    nx_nexfs_record found;
    int code = nx_nexfs_find(fs, directory, TYPE_NAME, name, size, &key, &found);

    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, found.inode, &a);
    if (code == NX_OK && (a.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY) {
        code = empty(fs, a.inode);
    }
    if (code != NX_OK) {
        return code == NX_EFULL ? NX_EEMPTY : code;
    }
    code = nx_nexfs_tree_remove(fs, &key);
    code = code != NX_OK ? code : unlink_inode(fs, &a, directory, keep);
    *ret_gone = a.links == 0 && !keep ? a.inode : 0;
    return nx_nexfs_end(fs, code != NX_OK ? code : nx_nexfs_times_put(fs, directory));
}

int nx_nexfs_unlink(nx_nexfs *fs, uint64_t directory, const char *name, size_t size, bool keep)
{
    int code = sound_name(name, size) ? nx_nexfs_begin(fs, 0, 0) : NX_EINVAL;
    uint64_t gone = 0;

    code = code != NX_OK ? code : remove_name(fs, directory, name, size, keep, &gone);
    return code != NX_OK ? code : finish(fs, gone);
}

/* Whether `inode` is `directory` or above it: NX_EINVAL then. */
static int above(nx_nexfs *fs, uint64_t inode, uint64_t directory)
{
    for (uint64_t i = 0; directory != NX_NEXFS_ROOT; i++) {
        nx_nexfs_attributes a;
        int code = directory_get(fs, directory, &a);
        if (code != NX_OK || directory == inode) {
            return code != NX_OK ? code : NX_EINVAL;
        }
        if (i > fs->state.inodes) {
            return NX_ECORRUPT;
        }
        directory = a.parent;
    }
    return inode == NX_NEXFS_ROOT ? NX_EINVAL : NX_OK;
}

typedef struct {
    nx_nexfs_key from, to;
    nx_nexfs_attributes source, replaced; /* replaced.inode 0: nothing is */
    bool child;
} renaming;

/* What a rename is about, and whether it may be. */
NX_NOINLINE static int rename_prepare(nx_nexfs *fs, uint64_t directory, const char *name,
                                      size_t size, uint64_t to_directory, const char *to_name,
                                      size_t to_size, renaming *ret)
{
    nx_nexfs_attributes parent;
    nx_nexfs_record found;
    int code = directory_get(fs, to_directory, &parent);

    ret->replaced.inode = 0;
    code = code != NX_OK ? code
                         : nx_nexfs_find(fs, directory, TYPE_NAME, name, size, &ret->from, &found);
    code = code != NX_OK ? code : nx_nexfs_inode_get(fs, found.inode, &ret->source);
    if (code != NX_OK) {
        return code == NX_EFULL && !fs->broken ? NX_EEMPTY : code;
    }
    ret->child = (ret->source.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY;
    code = ret->child ? above(fs, ret->source.inode, to_directory) : NX_OK;
    code = code != NX_OK
               ? code
               : nx_nexfs_find(fs, to_directory, TYPE_NAME, to_name, to_size, &ret->to, &found);
    if (code == NX_OK) {
        code = nx_nexfs_inode_get(fs, found.inode, &ret->replaced);
        if (code == NX_OK &&
            ret->child != ((ret->replaced.mode & NX_NEXFS_TYPE) == NX_NEXFS_DIRECTORY)) {
            code = NX_EINVAL;
        }
        return code == NX_OK && ret->child && ret->replaced.inode != ret->source.inode
                   ? empty(fs, ret->replaced.inode)
                   : code;
    }
    return code == NX_EEMPTY ? NX_OK : code;
}

NX_NOINLINE static int rename_whole(nx_nexfs *fs, uint64_t directory, const char *name, size_t size,
                                    uint64_t to_directory, const char *to_name, size_t to_size,
                                    uint64_t *ret_gone)
{
    nx_nexfs_attributes *source;
    renaming r;
    int code = rename_prepare(fs, directory, name, size, to_directory, to_name, to_size, &r);

    if (code != NX_OK || r.replaced.inode == r.source.inode) {
        return code;
    }
    source = &r.source;
    code = nx_nexfs_tree_remove(fs, &r.from);
    if (code == NX_OK && r.replaced.inode != 0) {
        code = unlink_inode(fs, &r.replaced, to_directory, false);
    }
    code = code != NX_OK
               ? code
               : entry_put(fs, &r.to, source->inode, source->mode >> 12, to_name, to_size);
    if (code == NX_OK && r.child && directory != to_directory) {
        source->parent = to_directory;
        code = links_add(fs, directory, -1);
        code = code != NX_OK ? code : links_add(fs, to_directory, 1);
    }
    source->ctime_ns = fs->now_ns;
    code = code != NX_OK ? code : nx_nexfs_inode_put(fs, source);
    code = code != NX_OK ? code : nx_nexfs_times_put(fs, directory);
    code = code != NX_OK || directory == to_directory ? code : nx_nexfs_times_put(fs, to_directory);
    *ret_gone = r.replaced.inode != 0 && r.replaced.links == 0 ? r.replaced.inode : 0;
    return nx_nexfs_end(fs, code);
}

int nx_nexfs_rename(nx_nexfs *fs, uint64_t directory, const char *name, size_t size,
                    uint64_t to_directory, const char *to_name, size_t to_size)
{
    int code = sound_name(name, size) && sound_name(to_name, to_size)
                   ? nx_nexfs_begin(fs, 0, 2u << fs->super.node_log2)
                   : NX_EINVAL;
    uint64_t gone = 0;

    code = code != NX_OK
               ? code
               : rename_whole(fs, directory, name, size, to_directory, to_name, to_size, &gone);
    return code != NX_OK ? code : finish(fs, gone);
}

int nx_nexfs_next_of(nx_nexfs *fs, uint64_t inode, unsigned type, uint64_t cookie,
                     nx_nexfs_entry *ret)
{
    nx_nexfs_key key = place_key(inode, type, cookie);
    nx_nexfs_item item;
    nx_nexfs_record found;
    int code = nx_nexfs_tree_seek(fs, &key, &item);

    if (code != NX_OK || item.key_size != key.size ||
        memcmp(item.key, key.bytes, key.size - 8u) != 0) {
        return code != NX_OK ? code : NX_EEMPTY;
    }
    if (!record_parse(type, &item, &found)) {
        fs->fault_inode = inode;
        return NX_ECORRUPT;
    }
    ret->inode = found.inode;
    ret->cookie = place_of(&item) + 1;
    ret->kind = found.kind;
    ret->size = found.size;
    memcpy(ret->name, found.name, found.size);
    return NX_OK;
}

int nx_nexfs_next(nx_nexfs *fs, uint64_t directory, uint64_t cookie, nx_nexfs_entry *ret)
{
    return nx_nexfs_next_of(fs, directory, TYPE_NAME, cookie, ret);
}
