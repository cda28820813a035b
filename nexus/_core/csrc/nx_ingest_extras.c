// SPDX-License-Identifier: Apache-2.0
/* What few files have: several names, extended attributes. */
#include <string.h>
#include <sys/xattr.h>

#include "nx_ingest_private.h"
#include "nx_xxhash.h"

#define NAMES_MAX 65536u

void nx_ingest_extra(nx_bytes *extras, uint64_t tag, const nx_bytes *value)
{
    nx_bytes_varint(extras, tag);
    nx_bytes_varint(extras, value->size);
    nx_bytes_put(extras, value->data, value->size);
}

/* Extended attributes, in the order in which the kernel lists them. What is not readable is
 * none of ours. */
static void take_attributes(int descriptor, nx_bytes *extras)
{
    char names[NAMES_MAX];
    ssize_t size = flistxattr(descriptor, names, sizeof names);

    for (ssize_t at = 0; at < size; at += (ssize_t)strlen(names + at) + 1) {
        size_t name_size = strlen(names + at);
        ssize_t value_size = fgetxattr(descriptor, names + at, NULL, 0);
        nx_bytes value = {0};
        nx_bytes_varint(&value, name_size);
        nx_bytes_put(&value, names + at, name_size);
        uint8_t *place = value_size < 0 ? NULL : nx_bytes_room(&value, (size_t)value_size + 1);
        ssize_t got =
            place == NULL ? -1 : fgetxattr(descriptor, names + at, place, (size_t)value_size);
        if (got >= 0) {
            value.size += (size_t)got;
            nx_ingest_extra(extras, NX_EXTRA_ATTRIBUTE, &value);
        }
        nx_bytes_free(&value);
    }
}

/*
 * The number of the group of names that are this file: the same whenever it is met unchanged, and
 * another of any other file, also of one that another import has put into the same tree. A file
 * that changed between two imports of its names is two files in the tree, as it should be.
 */
static uint64_t link_group(const struct stat *status)
{
    const uint64_t what[] = {
        (uint64_t)status->st_dev,          (uint64_t)status->st_ino,
        (uint64_t)status->st_size,         (uint64_t)status->st_mtim.tv_sec,
        (uint64_t)status->st_mtim.tv_nsec,
    };
    uint64_t group = nx_xxh3_64(what, sizeof what, 0);

    return group == 0 ? 1 : group;
}

int nx_ingest_extras(nx_ingest_state *state, int descriptor, const struct stat *status, nx_row *row)
{
    nx_bytes extras = {0};

    if (!S_ISDIR(status->st_mode) && status->st_nlink > 1) {
        nx_bytes number = {0};
        nx_bytes_varint(&number, link_group(status));
        extras.failed |= number.failed;
        nx_ingest_extra(&extras, NX_EXTRA_LINK, &number);
        nx_bytes_free(&number);
    }
    if (descriptor >= 0 && state->options->attributes) {
        take_attributes(descriptor, &extras);
    }
    if (extras.failed) {
        nx_bytes_free(&extras);
        return NX_ENOMEM;
    }
    row->extras = extras.data;
    row->entry.extras_size = (uint32_t)extras.size;
    return NX_OK;
}
