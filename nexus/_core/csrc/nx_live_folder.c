// SPDX-License-Identifier: Apache-2.0
/* Directories that are listed: as they were when reading began at their beginning. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nx_live_private.h"

#define DOTS 2u

/* One name of a listing; its text lies among the bytes. */
typedef struct listed {
    uint64_t number;
    size_t at;
    uint32_t size;
    uint32_t type;
} listed;

typedef struct listing {
    nx_bytes rows;
    nx_bytes bytes;
} listing;

static void empty(listing *list)
{
    nx_bytes_free(&list->rows);
    nx_bytes_free(&list->bytes);
    *list = (listing){0};
}

static int fill(nx_live *live, nx_live_node *folder, listing *list)
{
    int reason = nx_live_load(live, folder);

    empty(list);
    for (const nx_name *name = folder->first; reason == 0 && name != NULL; name = name->next) {
        listed row = {.number = name->node->number,
                      .at = list->bytes.size,
                      .size = name->size,
                      .type = (name->node->mode & S_IFMT) >> 12};
        nx_bytes_put(&list->rows, &row, sizeof row);
        nx_bytes_put(&list->bytes, name->text, (size_t)name->size + 1);
    }
    return reason != 0 ? reason : list->rows.failed || list->bytes.failed ? ENOMEM : 0;
}

int nx_live_opendir(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    listing *list = calloc(1, sizeof *list);
    int reason = list == NULL ? ENOMEM : fill(live, folder, list);

    if (reason != 0) {
        if (list != NULL) {
            empty(list);
            free(list);
        }
        return reason;
    }
    struct fuse_open_out out = {.fh = (uintptr_t)list};
    nx_fuse_reply(request, &out, sizeof out);
    return 0;
}

int nx_live_releasedir(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    const struct fuse_release_in *in = request->argument;
    listing *list = (listing *)(uintptr_t)in->fh;

    (void)live;
    (void)folder;
    empty(list);
    free(list);
    return 0;
}

typedef struct page_out {
    uint8_t *at;
    size_t left;
    bool plus;
} page_out;

/* There is room. */
static void put(page_out *page, uint64_t offset, const listed *row, const char *text,
                const struct fuse_entry_out *told)
{
    size_t head = page->plus ? offsetof(struct fuse_direntplus, dirent) : 0;
    size_t room = (size_t)nx_align_up(head + FUSE_NAME_OFFSET + row->size, sizeof(uint64_t));
    struct fuse_dirent out = {
        .ino = row->number, .off = offset, .namelen = row->size, .type = row->type};

    memset(page->at, 0, room);
    memcpy(page->at, told, head);
    memcpy(page->at + head, &out, FUSE_NAME_OFFSET);
    memcpy(page->at + head + FUSE_NAME_OFFSET, text, row->size);
    page->at += room;
    page->left -= room;
}

static bool fits(const page_out *page, uint32_t size)
{
    size_t head = page->plus ? offsetof(struct fuse_direntplus, dirent) : 0;

    return nx_align_up(head + FUSE_NAME_OFFSET + size, sizeof(uint64_t)) <= page->left;
}

static void put_all(nx_live *live, nx_live_node *folder, const listing *list, uint64_t offset,
                    page_out *page)
{
    static const struct fuse_entry_out NONE;
    uint64_t count = list->rows.size / sizeof(listed) + DOTS;
    const nx_live_node *above = folder->names == NULL ? folder : folder->names->parent;

    for (; offset < count; offset++) {
        listed row = {.number = offset == 0 ? folder->number : above->number,
                      .size = (uint32_t)offset + 1,
                      .type = S_IFDIR >> 12};
        const char *text = "..";
        struct fuse_entry_out told = NONE;
        if (offset >= DOTS) {
            memcpy(&row, list->rows.data + (offset - DOTS) * sizeof row, sizeof row);
            text = (const char *)list->bytes.data + row.at;
        }
        if (!fits(page, row.size)) {
            break;
        }
        const nx_name *name =
            page->plus && offset >= DOTS ? nx_live_name(live, folder, text) : NULL;
        if (name != NULL) { /* else it is gone by now, and nothing is told of it */
            nx_live_tell_entry(live, name->node, &told);
            row.number = name->node->number;
        }
        put(page, offset + 1, &row, text, &told);
    }
}

static int read_page(nx_live *live, nx_live_node *folder, nx_fuse_request *request, bool plus)
{
    const struct fuse_read_in *in = request->argument;
    listing *list = (listing *)(uintptr_t)in->fh;
    size_t room = in->size < NX_FUSE_DATA_MAX ? in->size : NX_FUSE_DATA_MAX;
    uint8_t *data = malloc(room + 1);
    page_out page = {data, room, plus};
    int reason = data == NULL ? ENOMEM : in->offset == 0 ? fill(live, folder, list) : 0;

    if (reason == 0) {
        put_all(live, folder, list, in->offset, &page);
        nx_fuse_reply(request, data, room - page.left);
    }
    free(data);
    return reason;
}

int nx_live_readdir(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    return read_page(live, folder, request, false);
}

int nx_live_readdirplus(nx_live *live, nx_live_node *folder, nx_fuse_request *request)
{
    return read_page(live, folder, request, true);
}
