// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel's filesystem protocol (linux/fuse.h), without a filesystem and without libfuse.
 *
 * Theory of operation. Each thread reads one request from a descriptor of /dev/fuse of its own
 * (FUSE_DEV_IOC_CLONE, so that they do not wait for one another), has it checked, calls the verb
 * for it, and the verb answers with one writev. A verb may answer with bytes where they lie:
 * nothing is copied on the way to the kernel.
 *
 * Lengths of a request are untrusted until nx_fuse_parse has seen them: its arguments are there,
 * names end, what follows a write is as long as it says. What is not is answered EIO.
 *
 * The loop ends when the filesystem is unmounted, or by nx_fuse_stop.
 */
#ifndef NX_FUSE_H
#define NX_FUSE_H

#include <linux/fuse.h>
#include <sys/uio.h>

#include "nx_base.h"

#define NX_FUSE_OPCODES     52u
#define NX_FUSE_DATA_MAX    (1u << 20)
#define NX_FUSE_REQUEST_MAX (NX_FUSE_DATA_MAX + 8192u)
#define NX_FUSE_THREADS_MAX 16u
#define NX_FUSE_PARTS_MAX   512u

/* A request, checked. */
typedef struct nx_fuse_request {
    const struct fuse_in_header *head;
    const void *argument; /* of the opcode's own type */
    const char *name;     /* ends with a zero */
    const char *second;
    const uint8_t *data; /* what is written or set */
    size_t data_size;
    int descriptor;
    bool answered;
    struct nx_fuse_request *next; /* for whoever keeps parked ones */
} nx_fuse_request;

typedef void nx_fuse_verb(void *self, nx_fuse_request *request);

/* A filesystem: a verb for each opcode that it knows, NULL for ENOSYS. INIT is the loop's own. */
typedef struct nx_fuse_verbs {
    nx_fuse_verb *verbs[NX_FUSE_OPCODES];
    uint32_t flags; /* of FUSE_INIT, besides those of the loop */
} nx_fuse_verbs;

typedef struct nx_fuse nx_fuse;

/* NX_OK and the request; NX_ECORRUPT if its lengths contradict one another; NX_EABSENT if nobody
 * knows the opcode. The head is set unless there are not bytes enough for one. */
int nx_fuse_parse(const void *data, size_t size, nx_fuse_request *ret);

/* Answers: with an errno (0 is one too), with bytes, with parts that lie apart. Exactly one of
 * them for each request but FORGET. The first part is kept free for the head. */
void nx_fuse_error(nx_fuse_request *request, int reason);
void nx_fuse_reply(nx_fuse_request *request, const void *data, size_t size);
void nx_fuse_reply_parts(nx_fuse_request *request, struct iovec *parts, size_t count);

/* A copy that may be answered later, by any thread; `request` counts as answered. Whoever has it
 * frees it. NULL: no memory. */
nx_fuse_request *nx_fuse_park(nx_fuse_request *request);

/* Serves a descriptor of /dev/fuse whose filesystem was mounted; takes it over. NX_ENOMEM,
 * NX_EINVAL. */
int nx_fuse_create(int descriptor, unsigned threads, const nx_fuse_verbs *verbs, void *self,
                   nx_fuse **ret);
/* Starts the threads. NX_ESYS. */
int nx_fuse_start(nx_fuse *fuse);
/* Whether all threads have ended: it is unmounted. */
bool nx_fuse_ended(nx_fuse *fuse);
/* Ends the threads, each after the request that it is at. */
void nx_fuse_stop(nx_fuse *fuse);
/* Stops, and closes all descriptors: what still uses the filesystem gets ENOTCONN. */
void nx_fuse_destroy(nx_fuse *fuse);

/* Tells the kernel that what it keeps of a name, or of a node's bytes, is old. */
void nx_fuse_forget_name(nx_fuse *fuse, uint64_t parent, const char *name);

#endif
