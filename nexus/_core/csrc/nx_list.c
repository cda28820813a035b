// SPDX-License-Identifier: Apache-2.0
/* Layout: docs/spec/nexfs-store.md, "List". */
#include "nx_tree.h"

#define MAGIC   'L'
#define VERSION 1u

enum { HOLE = 0, OBJECT = 1 };

void nx_list_add(nx_list_maker *maker, const nx_piece *piece)
{
    uint8_t form = piece->id == NULL ? HOLE : OBJECT;

    nx_bytes_varint(&maker->sizes, piece->size);
    nx_bytes_put(&maker->forms, &form, 1);
    maker->ends = false;
    if (piece->id != NULL) {
        nx_bytes_put(&maker->ids, piece->id, NX_OBJECT_ID);
        uint32_t last =
            (uint32_t)piece->id[NX_OBJECT_ID - 2] | (uint32_t)piece->id[NX_OBJECT_ID - 1] << 8;
        maker->ends = (last & NX_ENTRIES_MASK) == 0;
    }
    maker->total += piece->size;
    maker->count++;
}

bool nx_list_ends(const nx_list_maker *maker)
{
    return (maker->ends && maker->count >= NX_ENTRIES_MIN) || maker->count >= NX_ENTRIES_MAX;
}

void nx_list_maker_free(nx_list_maker *maker)
{
    nx_bytes_free(&maker->sizes);
    nx_bytes_free(&maker->forms);
    nx_bytes_free(&maker->ids);
    *maker = (nx_list_maker){0};
}

int nx_list_make(nx_list_maker *maker, uint32_t level, nx_bytes *ret)
{
    const uint8_t head[2] = {MAGIC, VERSION};

    ret->size = 0;
    nx_bytes_put(ret, head, sizeof head);
    nx_bytes_varint(ret, level);
    nx_bytes_varint(ret, maker->count);
    nx_bytes_part(ret, &maker->sizes);
    nx_bytes_part(ret, &maker->forms);
    nx_bytes_part(ret, &maker->ids);
    maker->count = 0;
    maker->total = 0;
    maker->ends = false;
    return ret->failed ? NX_ENOMEM : NX_OK;
}

int nx_list_open(const void *data, size_t size, nx_list *ret)
{
    const uint8_t *bytes = data;

    if (size < 4 || bytes[0] != MAGIC || bytes[1] != VERSION) {
        return NX_ECORRUPT;
    }
    nx_cursor cursor = nx_cursor_of(bytes + 2, size - 2);
    uint64_t level = nx_cursor_varint(&cursor);
    nx_list list = {.left = nx_cursor_varint(&cursor), .level = (uint32_t)level};
    list.sizes = nx_cursor_part(&cursor);
    list.forms = nx_cursor_part(&cursor);
    list.ids = nx_cursor_part(&cursor);
    bool whole = !list.sizes.failed && !list.forms.failed && !list.ids.failed && !cursor.failed;
    if (!whole || cursor.at != cursor.end || level > NX_LIST_LEVEL_MAX || list.left == 0 ||
        (uint64_t)(list.forms.end - list.forms.at) != list.left) {
        return NX_ECORRUPT;
    }
    *ret = list;
    return NX_OK;
}

int nx_list_next(nx_list *list, nx_piece *ret)
{
    if (list->left == 0) {
        bool spent = list->sizes.at == list->sizes.end && list->ids.at == list->ids.end;
        return spent ? 0 : NX_ECORRUPT;
    }
    uint64_t size = nx_cursor_varint(&list->sizes);
    const uint8_t *form = nx_cursor_take(&list->forms, 1);
    bool object = form != NULL && *form == OBJECT;
    const uint8_t *id = object ? nx_cursor_take(&list->ids, NX_OBJECT_ID) : NULL;

    if (list->sizes.failed || form == NULL || *form > OBJECT || (object && id == NULL) ||
        size == 0 || size > INT64_MAX || (object && list->level == 0 && size > NX_CHUNK_MAX)) {
        return NX_ECORRUPT;
    }
    list->left--;
    *ret = (nx_piece){.id = id, .size = size};
    return 1;
}
