// SPDX-License-Identifier: Apache-2.0
/*
 * The tree of a volume as a filesystem that is read and written: verbs for nx_fuse.
 *
 * Theory of operation. Directories are loaded into memory when somebody looks into them, with a
 * node for each file and a name for each entry. What is written goes into a scratch file, which
 * has no name; a file's map says which of its ranges lie there, all else is read from the store.
 * A change marks the directories above it up to the root.
 *
 * A commit is: nx_live_begin, which from then on parks every request that would change something;
 * nx_live_gather, which cuts and puts the content of changed files and writes the marked
 * directories up to the root, while requests that read are answered; the owner makes it durable
 * and replaces the state; nx_live_settle, which makes what was written the base of the files, or
 * keeps everything as it was if it failed, answers each fsync, and serves what was parked.
 *
 * Names of one hard link's group are found when the volume is mounted: all directories are read
 * once, and those with such names stay in memory.
 *
 * The trees of snapshots lie below `.timewarp`, served by nx_mount; their numbers are from 2^62 on.
 *
 * Not handled: the format has one time. atime and ctime are kept while a node is in memory, then
 * they are its mtime.
 */
#ifndef NX_LIVE_H
#define NX_LIVE_H

#include "nx_cdc.h"
#include "nx_mount.h"

typedef struct nx_live nx_live;

/* The tree whose root this id names. `scratch` is a directory for what is not committed yet.
 * As nx_mount_create, and NX_ESYS. */
int nx_live_create(nx_store *store, const nx_cdc *cdc, const uint8_t root[NX_OBJECT_ID],
                   const char *scratch, nx_live **ret);
/* What was not committed is forgotten; nobody may be in a verb. */
void nx_live_destroy(nx_live *live);

/* The part of it that is .timewarp, for snapshots and sizes. */
nx_mount *nx_live_past(nx_live *live);

/* Whether somebody waits for a commit, or so much changed that one is due; waits for it as long.
 */
bool nx_live_wait(nx_live *live, unsigned milliseconds);
/* Whether anything differs from the last commit. */
bool nx_live_changed(nx_live *live);

/* False, and nothing began: nothing changed. */
bool nx_live_begin(nx_live *live);
/* After nx_live_begin: the new root as a leaf of one entry. Only the store's owner. */
int nx_live_gather(nx_live *live, nx_bytes *ret);
/* Ends what nx_live_begin began: 0, or the errno that an fsync is told. */
void nx_live_settle(nx_live *live, int reason);

/* The next snapshot that somebody asked for by making a directory in .timewarp: its name into
 * `ret`, zero at its end; false if nobody did. nx_live_answer ends it, with 0 if it was taken. */
bool nx_live_asked(nx_live *live, char ret[NX_NAME_MAX + 1]);
void nx_live_answer(nx_live *live, int reason);

/* With the nx_live as `self`. */
const nx_fuse_verbs *nx_live_verbs(void);

#endif
