// SPDX-License-Identifier: Apache-2.0
/* Extended attributes of a node. */
#include <errno.h>
#include <string.h>

#include "nx_mount_private.h"

/* An answer of a size that the caller may ask for first. */
void nx_mount_reply_sized(nx_fuse_request *request, const void *data, size_t size, uint32_t room)
{
    struct fuse_getxattr_out out = {.size = (uint32_t)size};

    if (room == 0) {
        nx_fuse_reply(request, &out, sizeof out);
    } else if (room < size) {
        nx_fuse_error(request, ERANGE);
    } else {
        nx_fuse_reply(request, data, size);
    }
}

/* The next attribute of an entry; false behind the last. */
static bool next_attribute(nx_cursor *records, nx_cursor *ret_name, nx_cursor *ret_value)
{
    while (records->at != records->end && !records->failed) {
        uint64_t tag = nx_cursor_varint(records);
        nx_cursor value = nx_cursor_part(records);
        if (tag == NX_EXTRA_ATTRIBUTE && !records->failed) {
            *ret_name = nx_cursor_part(&value);
            *ret_value = value;
            return !value.failed;
        }
    }
    return false;
}

void nx_mount_getxattr(void *self, nx_fuse_request *request)
{
    const struct fuse_getxattr_in *in = request->argument;
    const nx_node *node = nx_mount_node(self, request);
    size_t size = strlen(request->name);
    nx_cursor name;
    nx_cursor value;

    if (node == NULL) {
        return;
    }
    nx_cursor records = nx_cursor_of(node->entry.extras, node->entry.extras_size);
    while (next_attribute(&records, &name, &value)) {
        if ((size_t)(name.end - name.at) == size && memcmp(name.at, request->name, size) == 0) {
            nx_mount_reply_sized(request, value.at, (size_t)(value.end - value.at), in->size);
            return;
        }
    }
    nx_fuse_error(request, ENODATA);
}

void nx_mount_reply_names(nx_fuse_request *request, const uint8_t *extras, size_t size)
{
    const struct fuse_getxattr_in *in = request->argument;
    nx_cursor records = nx_cursor_of(extras, size);
    nx_bytes names = {0};
    nx_cursor name;
    nx_cursor value;

    while (next_attribute(&records, &name, &value)) {
        nx_bytes_put(&names, name.at, (size_t)(name.end - name.at));
        nx_bytes_put(&names, "", 1);
    }
    if (names.failed) {
        nx_fuse_error(request, ENOMEM);
    } else {
        nx_mount_reply_sized(request, names.data, names.size, in->size);
    }
    nx_bytes_free(&names);
}

void nx_mount_listxattr(void *self, nx_fuse_request *request)
{
    const nx_node *node = nx_mount_node(self, request);

    if (node != NULL) {
        nx_mount_reply_names(request, node->entry.extras, node->entry.extras_size);
    }
}
