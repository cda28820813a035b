// SPDX-License-Identifier: Apache-2.0
/*
 * nexus-l0, the supervisor: a static program without a C library that starts a fiber confined as
 * its manifest says, watches it, and starts it again.
 *
 * Processes. L0 reads a plan (docs/spec/bkdl.md) from a sealed memfd and becomes the parent of
 * everything. Each fiber has a *template*: a copy of L0 that lives in the user, network and mount
 * namespaces which lives can share, with the file tree finished. Each life is cloned from it: a
 * *warden*, process 1 of a new pid namespace, which starts the fiber, reaps orphans and, when the
 * fiber is gone, ends whatever else is left. Where the policy restarts the fiber, the warden of the
 * next life waits beside the one that is on, finished but for the fiber. Both share L0's table of
 * descriptors, so that L0 can signal the fiber itself through a pidfd; both die with L0. The fiber
 * itself starts in its warden's memory (CLONE_VM | CLONE_VFORK), narrows itself and executes its
 * image: no page table is copied. Where namespaces are waived the processes are the same, only with
 * less around them.
 *
 * What a child does until execve it reports in `nx_l0_shared`: the stage it is in, and the error
 * it met there. No stage is skipped: what cannot be enforced ends the start.
 *
 * Nothing is allocated after the plan is mapped, and no signal handler runs: signals are blocked
 * and read from a descriptor.
 */
#ifndef NX_L0_H
#define NX_L0_H

#include "budget.h"
#include "nx_bkdl.h"
#include "nx_breaker.h"
#include "nx_sys.h"

#define NX_L0_EXIT_FAILED 125
#define NX_L0_MOUNTS_MAX  256u
#define NX_L0_STRINGS_MAX 4096u
#define NX_L0_STACK_SIZE  (64u * 1024)
#define NX_L0_FOREVER     NX_BUDGET_FOREVER

/* Stages of a start, in order; the name of each is in stage.c and part of error messages. */
typedef enum {
    NX_STAGE_NONE = 0,
    NX_STAGE_IMAGE,
    NX_STAGE_CLONE,
    NX_STAGE_LIFELINE,
    NX_STAGE_IDENTITY,
    NX_STAGE_MOUNT_SOURCE,
    NX_STAGE_MOUNT_ROOT,
    NX_STAGE_MOUNT_TARGET,
    NX_STAGE_NETWORK,
    NX_STAGE_FIBER_CLONE,
    NX_STAGE_SESSION,
    NX_STAGE_DIRECTORY,
    NX_STAGE_PRIVILEGES,
    NX_STAGE_LANDLOCK,
    NX_STAGE_LIMITS,
    NX_STAGE_FILTER,
    NX_STAGE_EXECUTE,
    NX_STAGE_RUNNING,
} nx_l0_stage;

/* Written by children, read by L0; a page of its own that fork does not copy. */
typedef struct nx_l0_shared {
    uint32_t request; /* futex: how many lives L0 has asked for */
    uint32_t made;    /* futex: how many have begun */
    uint32_t stage;
    int32_t error;   /* errno of the stage that failed, or 0 */
    uint32_t index;  /* of the mount, limit or rule it was at */
    uint32_t mapped; /* futex: 1 when L0 has written the template's id maps */
    int32_t pidfd;   /* of the fiber, in the table of descriptors that L0 and wardens share */
    struct {
        int32_t pid; /* of a life's process 1 */
        int32_t pidfd;
    } wardens[2];  /* by the life's number modulo 2: the one that is on, and the next one */
    int32_t ended; /* 1: `status` is the fiber's wait status */
    int32_t status;
} nx_l0_shared;

typedef enum {
    NX_LIFE_OFF = 0,
    NX_LIFE_ON,
    NX_LIFE_PAUSE, /* before a restart */
    NX_LIFE_OVER,
} nx_l0_state;

typedef struct nx_l0_fiber {
    nx_plan plan;
    nx_l0_shared *shared;
    const char **arguments; /* NULL-terminated */
    const char **environment;
    uint64_t gate;    /* address of the exec gate, or 0 */
    int32_t lifeline; /* pidfd of L0: readable when L0 is gone */
    int32_t ready;    /* eventfd, written when a life has been made and when it is over */
    int32_t template; /* pid of the template, or 0 */
    uint32_t starts;
    uint32_t life; /* in template and wardens: the number of the life that is being made */
    nx_l0_state state;
    int result;        /* exit status of all, once the state is NX_LIFE_OVER */
    bool stopping;     /* asked to end: no restart, and SIGKILL at `until_ns` */
    uint64_t until_ns; /* end of a pause or of the grace */
    nx_breaker breaker;
    nx_l0_budget budget;
} nx_l0_fiber;

typedef struct nx_l0_digits {
    char text[24];
} nx_l0_digits;

/* The program: parses its words, runs a plan, returns the exit status. */
int nx_l0_main(int count, const char *const *words);

__attribute__((noreturn)) void nx_l0_exit(int status);
const char *nx_l0_decimal(nx_l0_digits *ret, uint64_t number);

/* Joins the parts to one string; the caller knows that it fits. */
void nx_l0_join(char *ret, const char *const *parts, size_t count);

/* Writes the parts to stderr in one call. */
void nx_l0_say(const char *const *parts, size_t count);
#define NX_L0_SAY(...)                                                                             \
    nx_l0_say((const char *const[]){__VA_ARGS__},                                                  \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

const char *nx_l0_stage_name(uint32_t stage);

/* Records the stage about to be tried, and what became of it: false when `result` is an error. */
NX_INLINE void nx_l0_enter(nx_l0_fiber *fiber, nx_l0_stage stage, uint32_t index)
{
    fiber->shared->stage = stage;
    fiber->shared->index = index;
}

NX_INLINE bool nx_l0_ok(nx_l0_fiber *fiber, long result)
{
    if (NX_UNLIKELY(result < 0)) {
        fiber->shared->error = (int32_t)-result;
        return false;
    }
    return true;
}

/*
 * Starts `run(fiber)` in a child with the given CLONE_* flags, on a stack of its own; with
 * CLONE_VM | CLONE_VFORK it returns when the child has executed or ended. The pidfd goes to
 * `*pidfd` with CLONE_PIDFD, the pid to `*pid` with CLONE_PARENT_SETTID. Returns the child's pid
 * or a negative errno.
 */
long nx_l0_clone(uint64_t flags, void (*run)(nx_l0_fiber *), nx_l0_fiber *fiber, void *stack,
                 int32_t *pidfd, int32_t *pid);

/* Remembers L0's ids, which are not known inside a new user namespace. */
void nx_l0_note_ids(void);

/* L0's part of the maps of its child, which waits for it; and the child's part. Failures are in
 * `shared`. */
void nx_l0_map_child_ids(nx_l0_fiber *fiber, long pid);
bool nx_l0_map_ids(nx_l0_fiber *fiber);

/* Starts a life: asks the template for it, making it the first time. False with the stage in
 * `shared`; a template or a warden that fails ends, with the stage there too. */
bool nx_l0_start_fiber(nx_l0_fiber *fiber);

/* Makes this process die with its parent, also when L0 is dead already; false on failure. */
bool nx_l0_tie(nx_l0_fiber *fiber);

/* The child of a start: narrows itself and executes; never returns. */
__attribute__((noreturn)) void nx_l0_become_fiber(nx_l0_fiber *fiber);

/* Kills and reaps all children of this process, and theirs, which become its own: it must be a
 * subreaper and have no child that is to live. */
void nx_l0_sweep(void);

/* The template's part of the file tree, or the mounts that each life gets anew. */
typedef enum {
    NX_TREE_TEMPLATE,
    NX_TREE_LIFE,
} nx_l0_tree;

/* Builds one part of the manifest's file tree; false on failure. */
bool nx_l0_build_mounts(nx_l0_fiber *fiber, nx_l0_tree part);

/* Says something about the fiber on stderr, with the errno of `error`. */
void nx_l0_notice(const nx_l0_fiber *fiber, const char *what, long error);

/* The state machine of life.c. Begins a life; hears the warden through `ready`; is told of a reaped
 * child (true if it was one of the fiber's); sends a signal; asks for the end, firmly by SIGKILL
 * after the grace; lets time pass; and says when it must be stepped again at the latest. */
void nx_l0_life_begin(nx_l0_fiber *fiber);
void nx_l0_life_heard(nx_l0_fiber *fiber, uint64_t now_ns);
bool nx_l0_life_reaped(nx_l0_fiber *fiber, int32_t pid, int32_t status, uint64_t now_ns);
void nx_l0_life_signal(const nx_l0_fiber *fiber, uint32_t signal);
void nx_l0_life_stop(nx_l0_fiber *fiber, uint64_t now_ns, bool firm);
void nx_l0_life_step(nx_l0_fiber *fiber, uint64_t now_ns);
uint64_t nx_l0_life_next(const nx_l0_fiber *fiber, uint64_t now_ns);

/* Runs the fiber as its restart policy says; the exit status of the whole run. */
int nx_l0_supervise(nx_l0_fiber *fiber);

#endif
