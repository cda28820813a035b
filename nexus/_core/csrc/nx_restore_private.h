// SPDX-License-Identifier: Apache-2.0
/* What the files of the restore share; the theory is in nx_restore.h. */
#ifndef NX_RESTORE_PRIVATE_H
#define NX_RESTORE_PRIVATE_H

#include <pthread.h>
#include <sys/types.h>

#include "nx_restore.h"

#define NX_RESTORE_QUEUE 128u

/* A directory that is being filled; the last who holds it gives it its permissions and closes it.
 */
typedef struct nx_target {
    struct nx_target *parent;
    nx_entry entry; /* without pointers */
    uint8_t *extras;
    char *path;
    int descriptor;
    unsigned holds;
} nx_target;

/* A file that is to be made. */
typedef struct nx_file_job {
    nx_target *folder;
    nx_entry entry;
    uint8_t *extras;
    uint8_t id[NX_OBJECT_ID];
    char name[NX_NAME_MAX + 1];
} nx_file_job;

typedef struct nx_restore_state {
    nx_store *store;
    const nx_restore_options *options;
    nx_bytes *issues;
    nx_bytes links;
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_cond_t room;
    nx_file_job *queue[NX_RESTORE_QUEUE];
    size_t first;
    size_t count;
    int root; /* descriptor of the directory in which all is made */
    unsigned depth;
    uid_t uid; /* whose new files are */
    gid_t gid;
    bool ends;
} nx_restore_state;

void nx_restore_tell(nx_restore_state *state, int reason, const char *path, const char *name);
/* One record of the extras; false behind the last. */
bool nx_restore_extra(nx_cursor *extras, uint64_t *ret_tag, nx_cursor *ret);
/* The bytes in memory of their own, or NULL. */
uint8_t *nx_restore_copy(const uint8_t *bytes, size_t size);
/* One holder less of a directory, and of those above. */
void nx_target_release(nx_restore_state *state, nx_target *one);
nx_file_job *nx_file_job_make(nx_target *parent, const char *name, const nx_entry *entry);
void nx_file_job_queue(nx_restore_state *state, nx_file_job *job);
void nx_file_job_run(nx_restore_state *state, const nx_file_job *job);
/* Makes files until the walk has ended and none waits. */
void *nx_restore_run(void *state);

#endif
