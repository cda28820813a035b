// SPDX-License-Identifier: Apache-2.0
/* What the files of nx_live share; the theory is in nx_live.h. */
#ifndef NX_LIVE_PRIVATE_H
#define NX_LIVE_PRIVATE_H

#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include "nx_ingest_private.h"
#include "nx_live.h"
#include "nx_mount_private.h"

#define NX_LIVE_PAST    NX_NUMBER_FIRST     /* numbers from here on are below .timewarp */
#define NX_LIVE_SCRATCH (UINT64_C(1) << 30) /* so much in scratch asks for a commit */
#define NX_LIVE_SIZE    ((uint64_t)INT64_MAX)
#define NX_LIVE_SWEEP   65536u /* so many nodes are kept whatever they are */
#define NX_LIVE_PARTS   64u    /* stretches of a read that are copied at once */

struct nx_live_node;

/* Bytes that are not in the store yet; closed with the last content that uses it. */
typedef struct nx_scratch_file {
    uint64_t end;
    unsigned refs;
    int descriptor;
} nx_scratch_file;

/* A range of a file that is not the base's: at `place` of the scratch file, or a hole. */
typedef struct nx_span {
    uint64_t start;
    uint64_t end;
    uint64_t place;
    bool hole;
} nx_span;

/* The bytes of a file. */
typedef struct nx_content {
    nx_place *places; /* of the base */
    size_t place_count;
    uint64_t base_end; /* what of the base is still there */
    nx_span *spans;    /* sorted, apart */
    size_t span_count;
    size_t span_room;
    nx_scratch_file *scratch;
    unsigned refs; /* the node, and who reads */
} nx_content;

/* One name of a directory. */
typedef struct nx_name {
    struct nx_name *chain; /* in its bucket */
    struct nx_name *next;  /* in its directory */
    struct nx_name *before;
    struct nx_name *also; /* of the same node */
    struct nx_live_node *parent;
    struct nx_live_node *node;
    uint32_t size;
    char text[]; /* ends with a zero */
} nx_name;

/* What a node's content is in the store. */
typedef struct nx_stored {
    nx_form form;
    uint64_t size;
    uint8_t id[NX_OBJECT_ID];
    uint8_t *text; /* of a link, or a directory within */
    uint32_t text_size;
} nx_stored;

typedef struct nx_live_node {
    struct nx_live_node *chain;
    uint64_t number;
    uint64_t lookups;
    nx_name *names; /* none: it was unlinked */
    uint32_t name_count;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    uint64_t size;
    uint64_t device;
    uint64_t group; /* of its hard links, or 0 */
    struct timespec atime;
    struct timespec mtime;
    struct timespec ctime;
    nx_stored stored;
    nx_stored pending; /* what a running commit has made of it */
    bool has_pending;
    uint8_t *extras; /* without the group */
    uint32_t extras_size;
    nx_content *content; /* of a file, once it was used */
    nx_name *first;      /* of a directory */
    nx_name *last;
    uint64_t child_count;
    uint32_t folder_count;
    bool loaded;
    bool changed; /* of a file: its content is not what is stored */
    bool dirty;
    bool own_group; /* a number that no other tree's names have */
    struct nx_live_node *dirty_next;
    struct nx_live_node *dirty_before;
} nx_live_node;

struct nx_live {
    nx_store *store;
    const nx_cdc *cdc;
    nx_mount *past;
    char *scratch_path;
    pthread_mutex_t lock; /* everything below, and all nodes */
    pthread_cond_t wanted;
    nx_live_node *root;
    nx_live_node **nodes;
    size_t node_room;
    size_t node_count;
    nx_name **names;
    size_t name_room;
    size_t name_count;
    nx_live_node *dirty; /* directories */
    nx_scratch_file *scratch;
    bool commits; /* between begin and settle */
    bool asks;    /* somebody waits for a commit */
    nx_fuse_request *parked;
    nx_fuse_request **parked_end;
    nx_fuse_request *syncs;
    nx_fuse_request *snapshots;
    size_t swept; /* nodes that were left by the last sweep */
};

/* A verb with the lock held, of the node that is asked: an errno to answer with, unless it answered
 * itself. */
typedef int nx_live_verb(nx_live *live, nx_live_node *node, nx_fuse_request *request);

/* nx_live_table.c */
nx_live_node *nx_live_find(const nx_live *live, uint64_t number);
/* The directory's name; NULL. It must be loaded. */
nx_name *nx_live_name(const nx_live *live, const nx_live_node *parent, const char *text);
/* 0, or the errno why it cannot be loaded. */
int nx_live_load(nx_live *live, nx_live_node *directory);
/* A node that has a number and nothing else; NULL: no memory. */
nx_live_node *nx_live_make(nx_live *live, uint64_t wish);
nx_name *nx_live_add(nx_live *live, nx_live_node *parent, const char *text, size_t size,
                     nx_live_node *node);
/* Takes the name away; the node goes with its last name once the kernel forgets it. */
void nx_live_remove(nx_live *live, nx_name *name);
void nx_live_drop_unused(nx_live *live, nx_live_node *node);
uint64_t nx_live_wish(const nx_live_node *parent, const char *text, size_t size);
/* The root from its entry. NX_ENOMEM, NX_ECORRUPT. */
int nx_live_make_root(nx_live *live, const nx_entry *entry);
void nx_live_free(nx_live *live);
/* Unloads directories in which nothing is used; `loads`: reads all of them before. */
void nx_live_sweep(nx_live *live, bool loads);

/* nx_live.c */
struct timespec nx_live_now(void);
/* The directory's entry will be written anew, and all above it. */
void nx_live_mark_folder(nx_live *live, nx_live_node *folder);
/* The same for all directories that have the node. */
void nx_live_mark(nx_live *live, nx_live_node *node);
void nx_live_tell(nx_live *live, nx_live_node *node, struct fuse_attr *ret);
/* An answer with the node, which has one lookup more then. */
void nx_live_tell_entry(nx_live *live, nx_live_node *node, struct fuse_entry_out *ret);
/* Without the lock: serves what was parked, and frees it. */
void nx_live_replay(nx_live *live, nx_fuse_request *parked);

/* nx_live_content.c: each returns 0 or an errno. */
/* The content of a file, loaded. */
int nx_content_open(nx_live *live, nx_live_node *node, nx_content **ret);
void nx_content_release(nx_content *content);
/* What is written from now on goes into another scratch file. */
void nx_content_new_scratch(nx_live *live);
/* How much of it was written is less only where there was no room for more. */
int nx_content_write(nx_live *live, nx_live_node *node, uint64_t at, const uint8_t *data,
                     size_t size, size_t *ret);
int nx_content_resize(nx_live *live, nx_live_node *node, uint64_t size);
int nx_content_punch(nx_live *live, nx_live_node *node, uint64_t from, uint64_t to);
/* What a file of this size is at a place, and how far. */
typedef struct nx_stretch {
    uint64_t end;
    uint64_t place;       /* in scratch */
    const nx_place *base; /* in the store, or NULL */
    bool hole;
} nx_stretch;
nx_stretch nx_content_at(const nx_content *content, uint64_t size, uint64_t at);
/* Bytes of a stretch, from `at` on; without the lock. */
int nx_content_copy(nx_store *store, const nx_content *content, const nx_stretch *stretch,
                    uint64_t at, uint8_t *ret, size_t size);
/* The next hole, or data, at or behind `at`; the size if there is none. */
uint64_t nx_content_seek(const nx_content *content, uint64_t size, uint64_t at, bool hole,
                         uint64_t hole_min);
bool nx_content_sparse(const nx_content *content, uint64_t size);
/* Reads through a cursor, for a commit. */
typedef struct nx_content_cursor {
    nx_store *store;
    const nx_content *content;
    uint64_t size;
    uint64_t at;
} nx_content_cursor;
nx_source nx_content_source(nx_content_cursor *cursor);

/* nx_live_name.c */
nx_live_verb nx_live_create_file, nx_live_mknod, nx_live_mkdir, nx_live_symlink, nx_live_link,
    nx_live_unlink, nx_live_rmdir, nx_live_rename;

/* nx_live_file.c */
nx_live_verb nx_live_read, nx_live_write, nx_live_setattr, nx_live_fallocate, nx_live_lseek,
    nx_live_getxattr, nx_live_listxattr, nx_live_setxattr, nx_live_removexattr;

/* nx_live_folder.c */
nx_live_verb nx_live_opendir, nx_live_readdir, nx_live_readdirplus, nx_live_releasedir;

#endif
