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
 * next life waits beside the one that is on, finished but for the fiber. Both die with L0. The
 * fiber itself starts in its warden's memory (CLONE_VM | CLONE_VFORK), narrows itself and executes
 * its image: no page table is copied. Where namespaces are waived the processes are the same, only
 * with less around them.
 *
 * Descriptors. Templates and wardens share L0's table, so that they hold nothing open by
 * themselves, and open nothing: whoever is killed at whatever moment leaves nothing in it. What
 * must open something does so in a copy of the table that goes with it: the template's helper, and
 * the fiber, which has L0's descriptors of the moment in which it is cloned.
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
#include "nx_beb.h"
#include "nx_bkdl.h"
#include "nx_breaker.h"
#include "nx_checkpoint.h"
#include "nx_correlator.h"
#include "nx_cspace.h"
#include "nx_feature.h"
#include "nx_fiber.h"
#include "nx_node.h"
#include "nx_stl.h"
#include "nx_sys.h"
#include "nx_trap.h"
#include "nx_watchdog.h"

#define NX_L0_EXIT_FAILED 125
#define NX_L0_MOUNTS_MAX  256u
#define NX_L0_STRINGS_MAX 4096u
#define NX_L0_STACK_SIZE  (64u * 1024)
#define NX_L0_FOREVER     NX_BUDGET_FOREVER
#define NX_L0_WAITERS     4u
#define NX_L0_MS          1000000u

/* Descriptors of L0's own are above those that a fiber can have. */
#define NX_L0_DESCRIPTORS_MAX (NX_HANDLE_INDEX_MAX + 1)
#define NX_L0_FIRST           (NX_HANDLE_INDEX_MAX + 1)

/* Who may ask for something. */
typedef enum {
    NX_CLIENT_STARTER = 0,
    NX_CLIENT_OBSERVER = 1, /* L1, a connection for each of its two places */
    NX_CLIENT_OTHERS = 3,
    NX_L0_CLIENTS = 11,
} nx_l0_client;

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
    NX_STAGE_HANDLES,
    NX_STAGE_LIMITS,
    NX_STAGE_FILTER,
    NX_STAGE_EXECUTE,
    NX_STAGE_RUNNING,
} nx_l0_stage;

/* How far a start has come; written by children, read by L0. */
typedef struct nx_l0_report {
    uint32_t stage;
    int32_t error;  /* errno of the stage that failed, or 0 */
    uint32_t index; /* of the mount, limit or rule it was at */
} nx_l0_report;

/* One of the two lives that there can be at a time: the one that is on, and the next one. */
typedef struct nx_l0_place {
    nx_l0_report report;
    int32_t warden;  /* pid of the life's process 1, or 0 */
    int32_t control; /* L1 alone: its end of this life's own connection, or -1 */
    int32_t ended;   /* 1: `status` is the fiber's wait status */
    int32_t status;
} nx_l0_place;

/* A page of its own that fork does not copy. */
typedef struct nx_l0_shared {
    uint32_t request; /* futex: how many lives L0 has asked for */
    uint32_t made;    /* futex: how many need their template no more: they came alive, or ended */
    uint32_t mapped;  /* futex: 1 when L0 has written the template's id maps, 2 when it failed */
    nx_l0_report template;
    nx_l0_place lives[2]; /* by the life's number modulo 2 */
} nx_l0_shared;

/* What a life has asked of the kernel. */
typedef struct nx_l0_calls {
    int32_t file; /* /proc/PID/io of the life, or -1: nobody counts */
    uint64_t reads;
    uint64_t writes;
    uint64_t time_ns;
} nx_l0_calls;

/* Somebody who waits for an answer; `client` counts from 1. */
typedef struct nx_l0_waiter {
    uint32_t client;
    uint32_t ticket;
    uint32_t operation;
} nx_l0_waiter;

struct nx_l0_node;

typedef struct nx_l0_fiber {
    nx_plan plan;
    uint8_t *bytes; /* of the plan, private: the filter's gate is written into them */
    size_t size;
    struct nx_l0_node *node;
    uint32_t slot;
    uint32_t generation;
    nx_l0_shared *shared;
    nx_l0_report *report; /* of whoever this process is: L0, template, or warden of a life */
    nx_l0_report own;     /* L0's */
    uint64_t gate;        /* address of the exec gate, or 0 */
    int32_t template;     /* pid of the template, or 0 */
    uint32_t life;        /* in template and wardens: the number of the life that is being made */
    uint32_t lives;       /* begun in all */
    nx_node_state state;
    int32_t descriptors[NX_L0_DESCRIPTORS_MAX]; /* those of START: plan, 3 standard, others */
    uint32_t descriptor_count;
    int32_t cgroup; /* that its template is cloned into, or -1 */
    uint32_t check; /* of these three, for Phoenix */
    bool hold;      /* lives begin when somebody asks for one */
    bool stopping;  /* asked to end: no restart, and SIGKILL at `until_ns` */
    bool forced;    /* another life follows, whatever the policy says */
    bool barred;    /* it is to be quarantined */
    bool ending;    /* its template, or what that made last, is on its way out; no life begins */
    bool forgotten; /* its slot is to be freed then */
    bool stale;     /* its template has handles that it should not have, or lacks some */
    uint64_t order; /* of its START among all */
    bool warm;      /* this life has a checkpoint to begin with: */
    uint32_t warm_epoch;
    uint32_t cause;    /* of the end that is near, where L0 is it: an NX_TRAP_*, or 0 */
    int status;        /* exit status of the last life */
    uint64_t until_ns; /* end of a pause or of the grace */
    uint64_t began_ns;
    uint64_t ended_ns; /* of the last life, 0: none has ended */
    uint64_t event;    /* id of the last one about it */
    uint64_t floor;    /* highest sequence of a checkpoint that was seen */
    uint64_t saved;    /* highest sequence in the slot, not verified */
    uint64_t image;    /* first bytes of its digest */
    uint32_t demotions;
    uint32_t tier;
    uint64_t overruns;
    nx_breaker breakers[3]; /* three copies */
    nx_trap trap;
    nx_l0_budget budget;
    nx_cspace cspace;
    uint64_t revoked_channels; /* numbers of its own handles, taken by REVOKE */
    uint64_t revoked_files;
    uint64_t closed;         /* those, and the ends of channels whose other end was taken */
    nx_fiber_life *pages[2]; /* life pages, by the life's number modulo 2; NULL: none */
    int32_t page_descriptors[2];
    int32_t checkpoint_descriptor; /* its slot, or -1 */
    int32_t durable_descriptor;    /* the file that keeps it over a boot, or -1 */
    nx_l0_calls calls;
    bool unkept;   /* that was said to fail */
    uint64_t kept; /* sequence of the newest copy in that file */
    nx_l0_waiter starter;
    nx_l0_waiter waiters[NX_L0_WAITERS];
} nx_l0_fiber;

typedef struct nx_l0_node {
    nx_l0_fiber fibers[NX_NODE_FIBERS];
    nx_node_table *table;
    int32_t table_descriptor; /* for reading, or -1 */
    int32_t lifeline;         /* pidfd of L0: readable when L0 is gone */
    int32_t ready;            /* eventfd, written when a life has been made and when it is over */
    int32_t listen;           /* socket, or -1 */
    int32_t clients[NX_L0_CLIENTS]; /* sockets, or -1; in the order of nx_l0_client */
    uint64_t heard[NX_L0_CLIENTS];  /* number of their last request among all */
    uint64_t requests;
    int32_t observer_descriptor; /* of its page */
    int32_t nothing;             /* an empty file in place of one that was taken, or 0 */
    const nx_node_observer *observer;
    uint64_t verdict; /* sequence of the last one taken */
    uint64_t ticks;
    uint64_t tick_ns; /* when heartbeat and audit are due; NX_L0_FOREVER: never */
    int32_t sched[2]; /* schedstat and stat of L1, or -1 */
    nx_watchdog watchdog;
    bool watching;
    bool hung;
    bool serving; /* a node; else one fiber, whose end is the program's */
    bool stopping;
    bool phoenix; /* due */
    bool prompt;  /* real time was asked for */
    long prompt_result;
    uint64_t starts;
    uint32_t durables; /* fibers whose checkpoints are kept */
    uint8_t features;  /* effective mask */
    nx_feature feature;
    nx_correlator correlator;
    nx_beb beb; /* buffer NULL: none */
    int32_t beb_descriptor;
    nx_l0_waiter stopper;
    int32_t image;       /* what Phoenix executes: */
    int32_t image_error; /* or the negative errno for which it cannot */
    int32_t handover;
    uint8_t image_digest[32];
    nx_breaker phoenixes;
    uint32_t then;           /* what follows too many, an NX_THEN_* */
    int32_t watchdog_device; /* or -1 */
    uint64_t well_ns;        /* when L1 was last seen to beat */
    uint64_t well_beat;
    bool given_up;
} nx_l0_node;

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
    fiber->report->stage = stage;
    fiber->report->index = index;
}

NX_INLINE bool nx_l0_ok(nx_l0_fiber *fiber, long result)
{
    if (NX_UNLIKELY(result < 0)) {
        fiber->report->error = (int32_t)-result;
        return false;
    }
    return true;
}

NX_INLINE const nx_bkdl_policy *nx_l0_policy(const nx_l0_fiber *fiber)
{
    return nx_bkdl_policy_of(&fiber->plan.manifest);
}

/* Where the life is that is on, or was the last one on. */
NX_INLINE nx_l0_place *nx_l0_now(const nx_l0_fiber *fiber)
{
    return &fiber->shared->lives[fiber->shared->request & 1];
}

NX_INLINE bool nx_l0_is_alive(const nx_l0_fiber *fiber)
{
    return fiber->state == NX_FIBER_ALIVE || fiber->state == NX_FIBER_STARTING;
}

NX_INLINE bool nx_l0_is_over(const nx_l0_fiber *fiber)
{
    return fiber->state == NX_FIBER_OVER || fiber->state == NX_FIBER_QUARANTINED ||
           fiber->state == NX_FIBER_HELD || fiber->state == NX_FIBER_FREE;
}

/* Nanoseconds of the monotonic clock (1) or of the wall clock (0). */
uint64_t nx_l0_clock(int clock);

/*
 * Starts `run(fiber)` in a child with the given CLONE_* flags, on a stack of its own; with
 * CLONE_VM | CLONE_VFORK it returns when the child has executed or ended. The pid goes to `*pid`
 * with CLONE_PARENT_SETTID; the child is in the fiber's cgroup with CLONE_INTO_CGROUP. Returns the
 * child's pid or a negative errno.
 */
long nx_l0_clone(uint64_t flags, void (*run)(nx_l0_fiber *), nx_l0_fiber *fiber, void *stack,
                 int32_t *pid);

/* Remembers L0's ids, which are not known inside a new user namespace. */
void nx_l0_note_ids(void);

/* L0's part of the maps of its child, which waits for it; and the child's part. Failures are in
 * the report. */
void nx_l0_map_child_ids(nx_l0_fiber *fiber, long pid);
bool nx_l0_map_ids(nx_l0_fiber *fiber);

/* Waits until a counter has reached a number; adds one to a counter that children wait for. */
void nx_l0_await(const uint32_t *counter, uint32_t number);
void nx_l0_advance(uint32_t *counter);

/* Starts a life: asks the template for it, making it the first time. False with the stage in
 * the template's report; a template or a warden that fails ends, with the stage there too. */
bool nx_l0_start_fiber(nx_l0_fiber *fiber);

/* Makes the template of a fiber that is held, and with it the warden of its next life. */
bool nx_l0_prepare_fiber(nx_l0_fiber *fiber);

/* Makes a place ready for another life. */
void nx_l0_clear_place(nx_l0_fiber *fiber, unsigned index);

/* Makes this process die with its parent, also when L0 is dead already; false on failure. */
bool nx_l0_tie(nx_l0_fiber *fiber);

/* Takes from the template what no life of it may ever get; false on failure. */
bool nx_l0_bound_privileges(nx_l0_fiber *fiber);

/* The child of a start: narrows itself and executes; never returns. */
__attribute__((noreturn)) void nx_l0_become_fiber(nx_l0_fiber *fiber);

/* Kills and reaps all children of this process, and theirs, which become its own: it must be a
 * subreaper and have no child that is to live. */
void nx_l0_sweep(void);

/* tasks.c: the pid of a warden's fiber, which is its first child, or a negative errno. And a visit
 * of each thread that is below the warden; false when there are too many processes to visit all. */
int32_t nx_l0_fiber_pid(int32_t warden);
bool nx_l0_each_task(int32_t warden, void (*visit)(void *context, int32_t tid), void *context);

/* The template's part of the file tree, or the mounts that each life gets anew. */
typedef enum {
    NX_TREE_TEMPLATE,
    NX_TREE_LIFE,
} nx_l0_tree;

/* Builds one part of the manifest's file tree; false on failure. */
bool nx_l0_build_mounts(nx_l0_fiber *fiber, nx_l0_tree part);

/* Says something about the fiber on stderr, with the errno of `error`. */
void nx_l0_notice(const nx_l0_fiber *fiber, const char *what, long error);
const char *nx_l0_name(const nx_l0_fiber *fiber);
void nx_l0_close(int32_t *descriptor);

/* The state machine of life.c. Begins a life; hears the warden through `ready`; is told of a reaped
 * child (true if it was one of the fiber's); sends a signal; asks for the end, firmly by SIGKILL
 * after the grace; ends the life at once, for a cause; lets time pass; and says when it must be
 * stepped again at the latest. */
void nx_l0_life_begin(nx_l0_fiber *fiber, uint64_t now_ns);
/* A life that somebody asked for: as after an end, but for the record and the breaker. */
void nx_l0_life_want(nx_l0_fiber *fiber, uint64_t now_ns);
void nx_l0_life_heard(nx_l0_fiber *fiber, uint64_t now_ns);
bool nx_l0_life_reaped(nx_l0_fiber *fiber, int32_t pid, int32_t status, uint64_t now_ns);
void nx_l0_life_signal(const nx_l0_fiber *fiber, uint32_t signal);
void nx_l0_life_stop(nx_l0_fiber *fiber, uint64_t now_ns, bool firm);
void nx_l0_life_kill(nx_l0_fiber *fiber, uint32_t cause);
void nx_l0_life_step(nx_l0_fiber *fiber, uint64_t now_ns);
uint64_t nx_l0_life_next(const nx_l0_fiber *fiber, uint64_t now_ns);

/* Ends the template, and with it what waits ready for another life. No life is to follow: who
 * waits is told. */
void nx_l0_life_dismiss(nx_l0_fiber *fiber);
void nx_l0_life_rest(nx_l0_fiber *fiber, nx_node_state state);

/* One tier down, by three overruns or by a verdict. */
void nx_l0_life_demote(nx_l0_fiber *fiber, uint32_t tier_before);

/* trap.c: from the end of a life to the decision about the next; the end of the trap, with the
 * delay before another life. And what comes before the first life: the same but for the record and
 * the breaker. */
nx_trap_step nx_l0_trap(nx_l0_fiber *fiber, uint32_t cause, uint64_t now_ns, uint64_t *ret_delay);
bool nx_l0_birth(nx_l0_fiber *fiber);
/* BLAKE3 of what a descriptor has; 0 or a negative errno. */
long nx_l0_digest(int32_t descriptor, uint8_t *ret);

/* saves.c: the newest copy of a fiber's checkpoint that is whole, of this image, and not older than
 * one that was seen before: false for none. What a file or another slot has, into its slot; and the
 * newest copy into the file, if that is news. How far saves have come, for whoever looks.
 */
bool nx_l0_find_checkpoint(nx_l0_fiber *fiber);
bool nx_l0_recall(nx_l0_fiber *fiber, int32_t from);
void nx_l0_keep(nx_l0_fiber *fiber);
void nx_l0_look_at_saves(nx_l0_node *node);

/* phoenix.c: executes the supervisor's own image; comes back when that is not to be. */
void nx_l0_phoenix(nx_l0_node *node);

/* guard.c: pets the watchdog while all is well; what follows too many Phoenix; an orderly end. */
void nx_l0_pet(nx_l0_node *node, uint64_t now_ns);
void nx_l0_give_up(nx_l0_node *node);
void nx_l0_unguard(nx_l0_node *node);

/* fiber.c: a fiber from a plan and its descriptors, which it owns from then on, also when this
 * fails; 0 or a negative errno. And its end: everything it had is given back. */
long nx_l0_fiber_init(nx_l0_fiber *fiber, uint32_t flags);
void nx_l0_fiber_free(nx_l0_fiber *fiber);

/* A check value of the descriptors that START brought. */
uint32_t nx_l0_belongings(const nx_l0_fiber *fiber);

/* handles.c: the last word that names a handle is gone, and what that took; a word was given. What
 * is closed at whom, after any change; the word of the present life. Whether REVOKE took it. */
typedef enum {
    NX_TAKEN_WORD = 0,
    NX_TAKEN_CHANNEL = 1,
    NX_TAKEN_FILE = 2,
} nx_l0_taken;

nx_l0_taken nx_l0_take_handle(nx_l0_fiber *fiber, const nx_node_capability *last);
void nx_l0_give_handle(nx_l0_fiber *fiber, const nx_node_capability *given);
void nx_l0_keep_revoked(nx_l0_fiber *fiber, uint64_t channels, uint64_t files);
void nx_l0_settle_handles(nx_l0_node *node);
void nx_l0_write_closed(const nx_l0_fiber *fiber);
bool nx_l0_is_revoked(const nx_l0_fiber *fiber, const nx_node_capability *one);

/* calls.c: a file of a process in /proc, or a negative errno. Counting begins with a life; and goes
 * on with each tick, where baselines are learned. */
int32_t nx_l0_open_proc(int32_t pid, const char *name);
void nx_l0_calls_open(nx_l0_fiber *fiber);
void nx_l0_look_at_calls(nx_l0_node *node);

/* table.c: the SysTable; 0 or a negative errno. An event: its id. What changed about a fiber. */
long nx_l0_table_init(nx_l0_node *node);
/* Goes on where another table ended; with none, or one that is not sound, it begins. */
void nx_l0_table_follow(nx_l0_node *node, int32_t descriptor);
uint64_t nx_l0_event(nx_l0_node *node, nx_l0_fiber *fiber, const nx_stl_event *event);
void nx_l0_publish(nx_l0_fiber *fiber);
/* A memfd of this size that nobody can resize, mapped for writing; with `read_only` nobody else can
 * ever write it. NULL with a negative errno for the descriptor. */
void *nx_l0_share(const char *name, size_t size, bool read_only, int32_t *descriptor);

/* observer.c: heartbeat of L1, audits, verdicts. */
void nx_l0_observe(nx_l0_node *node, uint64_t now_ns);
void nx_l0_take_verdicts(nx_l0_node *node, uint64_t now_ns);
void nx_l0_watch(nx_l0_node *node);
/* A new connection for the next life of L1 in this place, instead of the last one's; its end, or a
 * negative errno. */
int32_t nx_l0_connect_observer(nx_l0_node *node, unsigned index);
void nx_l0_set_features(nx_l0_node *node, uint8_t runtime);

/* control.c: a client's packet; -1 when the client is gone. Answers to those who wait. */
int nx_l0_serve_client(nx_l0_node *node, uint32_t client, bool hung_up, uint64_t now_ns);
void nx_l0_accept(nx_l0_node *node);
/* What L1 has beside a fiber: its connection and its page. */
long nx_l0_provide_observer(nx_l0_node *node);
void nx_l0_answer_start(nx_l0_fiber *fiber, const nx_l0_report *report);
void nx_l0_answer_end(nx_l0_fiber *fiber);
void nx_l0_answer_shutdown(nx_l0_node *node);
void nx_l0_drop_client(nx_l0_node *node, uint32_t client);

/* Ends all fibers, L1 last. */
void nx_l0_shut_down(nx_l0_node *node, uint64_t now_ns);

/* Real time for the supervisor, not for its children: an overrun is found when it happens. Asked
 * for once; the negative errno of a refusal, each time. */
long nx_l0_become_prompt(nx_l0_node *node);

/* Until everything is over; the exit status of the whole run. */
int nx_l0_supervise(nx_l0_node *node);

#endif
