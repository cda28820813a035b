// SPDX-License-Identifier: Apache-2.0
/*
 * A store's files in a log on one medium: docs/spec/nexfs-store.md, "Log form".
 *
 * Theory of operation. The log belongs to one thread at a time, so one lock is around each use of
 * it. Appends are cut into windows of the log: whole windows are programmed from where the caller
 * has them, the first and last bytes of an append wait in the *tail*, one window of memory, until
 * the window is full or must be durable. Reads look up where the bytes lie with the lock held;
 * where several threads may read the medium (files, block devices), they read it without the lock,
 * beside each other but not beside a change, which could move what they read.
 *
 * Guarantees: what `sync` or `replace` returned for is there after a power cut. Reading a medium
 * that is opened for reading programs nothing. Not handled: a reader beside a writer, which the
 * medium's own lock keeps apart.
 */
#ifndef NX_ONLOG_H
#define NX_ONLOG_H

#include "nx_nexfs.h"
#include "nx_store.h"

typedef struct nx_onlog nx_onlog;

/* How a medium is, and whose it is. */
typedef struct nx_onlog_health {
    nx_nexfs_usage usage;
    uint64_t corrected; /* reads since it was opened in which ECC corrected bits */
    uint32_t storage_class;
} nx_onlog_health;

/* Makes an empty log with the directories of a store; what was on the medium is gone. */
int nx_onlog_format(const nx_flash *flash, const uint8_t volume_id[16], unsigned storage_class);

/* The medium is borrowed until the close. NX_EABSENT: no log, or one without a store. */
int nx_onlog_open(const nx_flash *flash, bool writes, nx_onlog **ret);

/* What was not synced may be lost. */
void nx_onlog_close(nx_onlog *onlog);
nx_backing nx_onlog_backing(nx_onlog *onlog);

/* The room that is kept for changes that take away may be used, or may not. */
void nx_onlog_lean(nx_onlog *onlog, bool lean);

/* Reads the whole block table. */
int nx_onlog_health_get(nx_onlog *onlog, nx_onlog_health *ret);

#endif
