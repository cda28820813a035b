// SPDX-License-Identifier: Apache-2.0
/* What is opened: directories with all their entries, files with all their pieces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nx_mount_private.h"
#include "nx_pieces.h"

#define DOTS 2u

static int walk_leaf(const void *data, size_t size, nx_visit *visit, void *self)
{
    nx_leaf leaf;
    nx_entry entry;
    int code = nx_leaf_open(data, size, false, &leaf);

    while (code == NX_OK && (code = nx_leaf_next(&leaf, &entry)) == 1) {
        code = visit(self, &entry);
        if (code != 0) {
            return code;
        }
    }
    return code;
}

static int walk_object(nx_store *store, const uint8_t *id, nx_visit *visit, void *self)
{
    nx_held held;
    int code = nx_store_get(store, id, &held);

    if (code == NX_OK) {
        code = walk_leaf(held.data, held.size, visit, self);
        nx_store_release(store, &held);
    }
    return code;
}

static bool behind(const nx_index_entry *row, const uint8_t *name, size_t size)
{
    int order = memcmp(row->name, name, size < row->name_size ? size : row->name_size);

    return order > 0 || (order == 0 && row->name_size > size);
}

static int walk_index(nx_store *store, const nx_held *held, const uint8_t *from, size_t size,
                      nx_visit *visit, void *self)
{
    nx_index_entry row;
    nx_cursor rows;
    uint64_t count;
    const uint8_t *last = NULL; /* with a name: the leaf that may have it */
    int code = nx_index_open(held->data, held->size, &rows, &count);

    while (code == NX_OK && (code = nx_index_next(&rows, &row)) == 1) {
        if (from == NULL) {
            code = walk_object(store, row.id, visit, self);
        } else if (behind(&row, from, size)) {
            code = 0;
            break;
        } else {
            last = row.id;
            code = 0;
        }
    }
    return code == 0 && last != NULL ? walk_object(store, last, visit, self) : code;
}

int nx_mount_walk(nx_store *store, const nx_entry *directory, const uint8_t *from, size_t size,
                  nx_visit *visit, void *self)
{
    nx_held held;

    switch (directory->form) {
    case NX_FORM_WITHIN:
        return walk_leaf(directory->text, directory->text_size, visit, self);
    case NX_FORM_LEAF:
        return walk_object(store, directory->id, visit, self);
    case NX_FORM_INDEX: {
        int code = nx_store_get(store, directory->id, &held);
        if (code == NX_OK) {
            code = walk_index(store, &held, from, size, visit, self);
            nx_store_release(store, &held);
        }
        return code;
    }
    default:
        return NX_ECORRUPT;
    }
}

/* An opened directory: its entries, each with the places of its bytes. */
typedef struct listing {
    nx_bytes rows; /* of nx_entry, whose pointers are offsets + 1 until they are asked for */
    nx_bytes bytes;
} listing;

static const uint8_t *stow(listing *list, const uint8_t *data, size_t size)
{
    uintptr_t at = list->bytes.size + 1;

    if (data == NULL) {
        return NULL;
    }
    nx_bytes_put(&list->bytes, data, size);
    return (const uint8_t *)at;
}

static int list_entry(void *self, const nx_entry *entry)
{
    listing *list = self;
    nx_entry row = *entry;

    row.name = stow(list, entry->name, entry->name_size);
    row.id = stow(list, entry->id, NX_OBJECT_ID);
    row.text = stow(list, entry->text, entry->text_size);
    row.extras = stow(list, entry->extras, entry->extras_size);
    nx_bytes_put(&list->rows, &row, sizeof row);
    return list->rows.failed || list->bytes.failed ? NX_ENOMEM : 0;
}

static const uint8_t *fetch(const listing *list, const uint8_t *place)
{
    return place == NULL ? NULL : list->bytes.data + ((uintptr_t)place - 1);
}

static bool entry_at(const listing *list, uint64_t i, nx_entry *ret)
{
    if (i >= list->rows.size / sizeof *ret) {
        return false;
    }
    memcpy(ret, list->rows.data + i * sizeof *ret, sizeof *ret);
    ret->name = fetch(list, ret->name);
    ret->id = fetch(list, ret->id);
    ret->text = fetch(list, ret->text);
    ret->extras = fetch(list, ret->extras);
    return true;
}

static void free_listing(listing *list)
{
    nx_bytes_free(&list->rows);
    nx_bytes_free(&list->bytes);
    free(list);
}

static int list_all(nx_mount *mount, const nx_node *node, listing *list)
{
    return node->number == NX_NODE_TIMEWARP
               ? nx_mount_snapshots(mount, list_entry, list)
               : nx_mount_walk(mount->store, &node->entry, NULL, 0, list_entry, list);
}

void nx_mount_opendir(void *self, nx_fuse_request *request)
{
    const nx_node *node = nx_mount_node(self, request);

    if (node == NULL) {
        return;
    }
    listing *list = calloc(1, sizeof *list);
    int code = list == NULL ? NX_ENOMEM : list_all(self, node, list);
    if (code != NX_OK) {
        nx_fuse_error(request, nx_mount_reason(code));
        if (list != NULL) {
            free_listing(list);
        }
        return;
    }
    bool grows = node->number == NX_NODE_TIMEWARP;
    struct fuse_open_out out = {.fh = (uintptr_t)list,
                                .open_flags = grows ? 0 : FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR};
    nx_fuse_reply(request, &out, sizeof out);
}

void nx_mount_releasedir(void *self, nx_fuse_request *request)
{
    const struct fuse_release_in *in = request->argument;

    (void)self;
    free_listing((listing *)(uintptr_t)in->fh);
    nx_fuse_error(request, 0);
}

/* A page of entries, with what the kernel would look up next if `plus`. */
typedef struct page_out {
    nx_mount *mount;
    const nx_node *node;
    uint8_t *at;
    size_t left;
    bool plus;
} page_out;

static bool put_entry(page_out *page, uint64_t offset, const nx_entry *entry, uint64_t number)
{
    size_t head = page->plus ? offsetof(struct fuse_direntplus, dirent) : 0;
    size_t size = head + FUSE_NAME_OFFSET + entry->name_size;
    size_t room = (size_t)nx_align_up(size, sizeof(uint64_t));
    struct fuse_dirent row = {.ino = number,
                              .off = offset,
                              .namelen = entry->name_size,
                              .type = (entry->mode & S_IFMT) >> 12};
    struct fuse_entry_out told = {0};

    if (room > page->left) {
        return false;
    }
    if (page->plus && offset > DOTS) {
        const nx_node *met;
        if (nx_mount_meet(page->mount, page->node, entry, &met) != NX_OK) {
            return false;
        }
        nx_mount_tell(met, &told);
        row.ino = met->number;
    }
    memset(page->at, 0, room);
    memcpy(page->at, &told, head);
    memcpy(page->at + head, &row, FUSE_NAME_OFFSET);
    memcpy(page->at + head + FUSE_NAME_OFFSET, entry->name, entry->name_size);
    page->at += room;
    page->left -= room;
    return true;
}

static void read_page(nx_mount *mount, nx_fuse_request *request, bool plus)
{
    const struct fuse_read_in *in = request->argument;
    const listing *list = (const listing *)(uintptr_t)in->fh;
    const nx_node *node = nx_mount_node(mount, request);
    size_t room = in->size < NX_FUSE_DATA_MAX ? in->size : NX_FUSE_DATA_MAX;
    uint8_t *data = node == NULL ? NULL : malloc(room + 1);
    page_out page = {mount, node, data, room, plus};
    nx_entry entry = {.name = (const uint8_t *)"..", .mode = S_IFDIR};
    uint64_t offset = in->offset;

    if (node == NULL) {
        return;
    }
    if (data == NULL) {
        nx_fuse_error(request, ENOMEM);
        return;
    }
    for (; offset < DOTS; offset++) {
        entry.name_size = (uint32_t)offset + 1;
        if (!put_entry(&page, offset + 1, &entry, offset == 0 ? node->number : node->parent)) {
            break;
        }
    }
    while (offset >= DOTS && entry_at(list, offset - DOTS, &entry) &&
           put_entry(&page, offset + 1, &entry, nx_mount_number(node, &entry))) {
        offset++;
    }
    nx_fuse_reply(request, data, room - page.left);
    free(data);
}

void nx_mount_readdir(void *self, nx_fuse_request *request)
{
    read_page(self, request, false);
}

void nx_mount_readdirplus(void *self, nx_fuse_request *request)
{
    read_page(self, request, true);
}

/* An opened file: all of its pieces, in order. */
typedef struct opened {
    nx_place *places;
    size_t count;
    uint64_t size;
} opened;

static int load_places(nx_store *store, const nx_entry *entry, opened *ret)
{
    nx_pieces pieces;
    nx_place place;
    nx_bytes rows = {0};
    int code = nx_pieces_open(store, entry->form, entry->id, entry->size, &pieces);

    if (code != NX_OK) {
        return code;
    }
    while ((code = nx_pieces_next(&pieces, &place)) == 1) {
        nx_bytes_put(&rows, &place, sizeof place);
    }
    nx_pieces_close(&pieces);
    if (code == NX_OK && rows.failed) {
        code = NX_ENOMEM;
    }
    if (code != NX_OK) {
        nx_bytes_free(&rows);
        return code;
    }
    ret->places = (nx_place *)(void *)rows.data;
    ret->count = rows.size / sizeof place;
    ret->size = entry->size;
    return NX_OK;
}

void nx_mount_open(void *self, nx_fuse_request *request)
{
    nx_mount *mount = self;
    const nx_node *node = nx_mount_node(mount, request);

    if (node == NULL) {
        return;
    }
    opened *file = calloc(1, sizeof *file);
    int code = file == NULL ? NX_ENOMEM : load_places(mount->store, &node->entry, file);
    if (code != NX_OK) {
        nx_fuse_error(request, nx_mount_reason(code));
        free(file);
        return;
    }
    struct fuse_open_out out = {.fh = (uintptr_t)file,
                                .open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
    nx_fuse_reply(request, &out, sizeof out);
}

void nx_mount_release(void *self, nx_fuse_request *request)
{
    const struct fuse_release_in *in = request->argument;
    opened *file = (opened *)(uintptr_t)in->fh;

    (void)self;
    free(file->places);
    free(file);
    nx_fuse_error(request, 0);
}

/* The piece that has this byte; `count` behind the last. */
static size_t place_at(const opened *file, uint64_t offset)
{
    size_t low = 0;
    size_t high = file->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (file->places[middle].offset + file->places[middle].size <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const uint8_t ZEROS[65536];

/* The answer as it is gathered: parts, and what is held until it is sent. */
typedef struct gathered {
    struct iovec parts[NX_FUSE_PARTS_MAX];
    nx_held held[NX_FUSE_PARTS_MAX];
    size_t part_count;
    size_t held_count;
} gathered;

/* As much of one piece as is wanted and there are parts for; how much, or a negative code. */
static int64_t gather(nx_store *store, const nx_place *place, uint64_t from, uint64_t most,
                      gathered *ret)
{
    uint64_t rest = place->size - from;
    uint64_t size = rest < most ? rest : most;
    nx_held *held = &ret->held[ret->held_count];

    if (place->hole) {
        size = size < sizeof ZEROS ? size : sizeof ZEROS;
        ret->parts[ret->part_count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)ZEROS, .iov_len = size};
        return (int64_t)size;
    }
    int code = nx_store_get(store, place->id, held);
    if (code != NX_OK) {
        return code;
    }
    ret->held_count++;
    if (held->size != place->size) {
        return NX_ECORRUPT;
    }
    ret->parts[ret->part_count++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)(held->data + from), .iov_len = size};
    return (int64_t)size;
}

void nx_mount_read(void *self, nx_fuse_request *request)
{
    nx_mount *mount = self;
    const struct fuse_read_in *in = request->argument;
    const opened *file = (const opened *)(uintptr_t)in->fh;
    uint64_t left = in->offset < file->size ? file->size - in->offset : 0;
    uint64_t offset = in->offset;
    gathered all;
    int64_t code = 0;

    left = in->size < left ? in->size : left;
    all.part_count = 1; /* the head's */
    all.held_count = 0;
    for (size_t i = place_at(file, offset); left > 0 && all.part_count < NX_FUSE_PARTS_MAX;) {
        const nx_place *place = &file->places[i];
        code = gather(mount->store, place, offset - place->offset, left, &all);
        if (code < 0) {
            break;
        }
        offset += (uint64_t)code;
        left -= (uint64_t)code;
        i += offset == place->offset + place->size;
    }
    if (code < 0) {
        nx_fuse_error(request, nx_mount_reason((int)code));
    } else {
        nx_fuse_reply_parts(request, all.parts, all.part_count);
    }
    while (all.held_count > 0) {
        nx_store_release(mount->store, &all.held[--all.held_count]);
    }
}

void nx_mount_lseek(void *self, nx_fuse_request *request)
{
    const struct fuse_lseek_in *in = request->argument;
    const opened *file = (const opened *)(uintptr_t)in->fh;
    bool hole = in->whence == SEEK_HOLE;
    uint64_t offset = in->offset;

    (void)self;
    if (!hole && in->whence != SEEK_DATA) {
        nx_fuse_error(request, EINVAL);
        return;
    }
    size_t i = place_at(file, offset);
    while (i < file->count && file->places[i].hole != hole) {
        offset = file->places[i].offset + file->places[i].size;
        i++;
    }
    if (in->offset >= file->size || (i == file->count && !hole)) {
        nx_fuse_error(request, ENXIO);
        return;
    }
    struct fuse_lseek_out out = {.offset = offset};
    nx_fuse_reply(request, &out, sizeof out);
}
