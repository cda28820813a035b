// SPDX-License-Identifier: Apache-2.0
/* What the files of the store's log know of each other. */
#ifndef NX_ONLOG_PRIVATE_H
#define NX_ONLOG_PRIVATE_H

#include "nx_onlog.h"

#include <pthread.h>
#include <stdatomic.h>

/* The last window of the file that grows; `fill` bytes of it are here, some not on the medium. */
typedef struct nx_tail {
    uint64_t number, inode, base;
    nx_file file;
    uint32_t fill;
    bool dirty;
    uint8_t *bytes;
} nx_tail;

struct nx_onlog {
    pthread_mutex_t lock;    /* the log and the tail */
    pthread_rwlock_t medium; /* taken with `lock` held; reads hold it without */
    const nx_flash *flash;
    nx_flash counted;
    _Atomic uint64_t corrected;
    nx_nexfs fs;
    nx_nexfs_memory memory;
    nx_tail tail;
    uint64_t parts[3]; /* inodes of directories, by nx_file */
    uint64_t reserve;
    uint32_t window;
    int why; /* errno of the failure that ended writing */
    bool writes, lean, shared;
};

#endif
