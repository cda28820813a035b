// SPDX-License-Identifier: Apache-2.0
/*
 * Phoenix: the supervisor executes its own sealed image in its own process, so that nothing of what
 * its memory has become is left. docs/spec/node.md has the steps and the handover.
 *
 * Nothing is ended before the image runs: it does that itself, with its own memory, and when it
 * cannot be executed nothing is lost. What is handed over is numbers; each is checked there.
 */
#include "phoenix.h"

#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/futex.h>
#include <linux/memfd.h>
#include <string.h>

#define EBADMSG_        74
#define EINVAL_         22
#define ECANCELED_      125
#define CLOSED_ON_EXEC  1 /* FD_CLOEXEC */
#define KILLED          (128 + 9)
#define DESCRIPTORS_MAX 65536u
#define COPY_MAX        (1 << 30)
#define MOVED           4u
#define UP              1u
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

static nx_l0_kept kept;

static int32_t memfd(const char *name, uint32_t flags)
{
    return (int32_t)nx_sys(__NR_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
}

static long seal(int32_t descriptor)
{
    return nx_sys(__NR_fcntl, descriptor, F_ADD_SEALS,
                  F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

static long copy_image(nx_l0_node *node)
{
    long from = nx_sys(__NR_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
    long result;

    if (from < 0) {
        return from;
    }
    /* Kernels before 6.3 do not know the flag, later ones may be told to demand it. */
    node->image = memfd("nexus-l0", MFD_EXEC);
    if (node->image == -EINVAL_) {
        node->image = memfd("nexus-l0", 0);
    }
    do {
        result = nx_sys(__NR_sendfile, node->image, from, NULL, COPY_MAX);
    } while (result > 0);
    (void)nx_sys(__NR_close, from);
    result = result < 0 ? result : seal(node->image);
    return result < 0 ? result : nx_l0_digest(node->image, node->image_digest);
}

static void explain(nx_l0_node *node, long error)
{
    nx_l0_digits digits;

    NX_L0_SAY("nexus-l0: Phoenix begins the fibers anew, but not the supervisor: errno ",
              nx_l0_decimal(&digits, (uint64_t)-error), "\n");
    node->image_error = (int32_t)error;
}

void nx_l0_keep_image(nx_l0_node *node)
{
    long result = copy_image(node);

    /* Now, so that Phoenix asks for nothing. */
    node->handover = memfd("nexus-handover", 0);
    if (result >= 0 && node->handover < 0) {
        result = node->handover;
    }
    if (result < 0) {
        explain(node, result);
    }
}

/* The handover's descriptors, each once. */
static void each(nx_l0_kept *all, void (*act)(int32_t *))
{
    for (uint32_t i = 0; i < NX_KEPT_OWN; i++) {
        act(&all->own[i]);
    }
    for (uint32_t k = 0; k < NX_NODE_FIBERS; k++) {
        act(&all->fibers[k].checkpoint);
        for (uint32_t i = 0; i < NX_L0_DESCRIPTORS_MAX; i++) {
            act(&all->fibers[k].descriptors[i]);
        }
    }
}

static void leave_open(int32_t *descriptor)
{
    if (*descriptor >= 0) {
        (void)nx_sys(__NR_fcntl, *descriptor, F_SETFD, 0);
    }
}

static void close_all_on_exec(void)
{
    (void)nx_sys(__NR_close_range, 3, UINT32_MAX, CLOSE_RANGE_CLOEXEC);
}

static nx_l0_kept_use use_of(const nx_l0_fiber *fiber)
{
    if (fiber->bytes == NULL || fiber->forgotten) {
        return NX_KEPT_FREE;
    }
    if (fiber->check != nx_l0_belongings(fiber)) {
        return NX_KEPT_LOST;
    }
    if (fiber->state == NX_FIBER_PAUSE || fiber->state == NX_FIBER_QUARANTINED) {
        return NX_KEPT_WANTED;
    }
    if (nx_l0_is_alive(fiber)) {
        return fiber->stopping ? NX_KEPT_OVER : NX_KEPT_WANTED;
    }
    return fiber->state == NX_FIBER_HELD ? NX_KEPT_HELD : NX_KEPT_OVER;
}

static void note_fiber(nx_l0_kept_fiber *one, nx_l0_fiber *fiber)
{
    bool alive = fiber->state == NX_FIBER_ALIVE;

    if (fiber->forgotten) {
        nx_l0_answer_start(fiber, NULL);
    }
    *one = (nx_l0_kept_fiber){
        .generation = fiber->generation,
        .use = use_of(fiber),
        .flags = (fiber->hold ? NX_START_HOLD : 0u) |
                 (fiber->slot == NX_NODE_OBSERVER ? NX_START_OBSERVER : 0u) |
                 (fiber->durable_descriptor >= 0 ? NX_START_DURABLE : 0u) |
                 (fiber->cgroup >= 0 ? NX_START_CGROUP : 0u),
        .descriptor_count = fiber->descriptor_count,
        .lives = fiber->lives,
        .status = alive ? KILLED : fiber->status,
        .epoch = fiber->cspace.epoch,
        .order = fiber->order,
        .began_ns = alive ? fiber->began_ns : 0,
        .ended_ns = fiber->ended_ns,
        .floor = fiber->floor,
        .event = fiber->event,
        .revoked_channels = fiber->revoked_channels,
        .revoked_files = fiber->revoked_files,
        .checkpoint = fiber->checkpoint_descriptor,
    };
    one->waiters[0] = fiber->starter;
    memcpy(&one->waiters[1], fiber->waiters, sizeof fiber->waiters);
    memset(one->descriptors, 0xff, sizeof one->descriptors);
    if (one->use == NX_KEPT_FREE || one->use == NX_KEPT_LOST) {
        one->checkpoint = -1;
        return;
    }
    memcpy(one->descriptors, fiber->descriptors, fiber->descriptor_count * sizeof(int32_t));
    if (fiber->durable_descriptor >= 0) {
        one->descriptors[one->descriptor_count++] = fiber->durable_descriptor;
    }
    if (fiber->cgroup >= 0) {
        one->descriptors[one->descriptor_count++] = fiber->cgroup;
    }
}

static void digest_of(const nx_l0_kept *all, uint8_t *ret)
{
    nx_blake3_mode mode;

    nx_blake3_mode_hash(&mode);
    nx_blake3_digest(&mode, all, offsetof(nx_l0_kept, digest), ret, NX_BLAKE3_OUT);
}

static long write_handover(nx_l0_node *node)
{
    kept = (nx_l0_kept){
        .magic = NX_KEPT_MAGIC,
        .version = NX_KEPT_VERSION,
        .size = sizeof kept,
        .features = nx_feature_read(&node->feature).runtime,
        .then = node->then,
        .starts = node->starts,
        .phoenixes = node->phoenixes,
        .own = {node->image, node->table_descriptor, node->listen, node->beb_descriptor,
                node->watchdog_device},
    };
    memcpy(kept.image, node->image_digest, sizeof kept.image);
    memcpy(&kept.own[NX_KEPT_CLIENTS], node->clients, sizeof node->clients);
    for (uint32_t i = NX_CLIENT_OBSERVER; i < NX_CLIENT_OTHERS; i++) {
        kept.own[NX_KEPT_CLIENTS + i] = -1;
    }
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        note_fiber(&kept.fibers[i], &node->fibers[i]);
    }
    digest_of(&kept, kept.digest);
    if (nx_sys(__NR_pwrite64, node->handover, &kept, sizeof kept, 0) != (long)sizeof kept) {
        return -EBADMSG_;
    }
    return seal(node->handover);
}

/* Comes back when it is refused. */
static long execute(nx_l0_node *node)
{
    nx_l0_digits digits;
    const char *words[] = {"nexus-l0", "rise", nx_l0_decimal(&digits, (uint64_t)node->handover),
                           NULL};
    long result = write_handover(node);

    if (result >= 0) {
        each(&kept, leave_open);
        leave_open(&node->handover);
        /* What our starter gave us to hold, as the lock of the node's directory. */
        for (int32_t i = 3; i < (int32_t)NX_L0_FIRST; i++) {
            leave_open(&i);
        }
        result = nx_sys(__NR_execveat, node->image, "", words, &words[3], AT_EMPTY_PATH);
        close_all_on_exec();
    }
    /* It is sealed, and another Phoenix has more to say. */
    nx_l0_close(&node->handover);
    node->handover = memfd("nexus-handover", 0);
    return result;
}

static long verify(nx_l0_node *node)
{
    uint8_t digest[NX_BLAKE3_OUT];
    long result = node->image_error != 0 ? node->image_error : nx_l0_digest(node->image, digest);

    if (result >= 0 && memcmp(digest, node->image_digest, sizeof digest) != 0) {
        (void)nx_l0_event(node, NULL,
                          &(nx_stl_event){.kind = NX_STL_IMAGE_CORRUPT,
                                          .entity = nx_load_u64(node->image_digest),
                                          .data = {nx_load_u64(digest)}});
        result = -EBADMSG_;
    }
    return result;
}

static void tell(nx_l0_node *node, long result)
{
    (void)nx_l0_event(node, NULL,
                      &(nx_stl_event){.kind = NX_STL_PHOENIX,
                                      .entity = node->table->head.phoenix,
                                      .data = {result < 0 ? (uint64_t)-result : 0}});
}

void nx_l0_phoenix(nx_l0_node *node)
{
    long result = verify(node);

    node->table->head.phoenix++;
    if (result >= 0) {
        /* Before the event: who has seen the last one of this table knows that it is. */
        __atomic_store_n(&node->table->head.state, MOVED, __ATOMIC_RELEASE);
        tell(node, 0);
        result = execute(node);
        node->table->head.state = UP;
    }
    tell(node, result);
    explain(node, result);
}

/* A number that is no descriptor of ours, or is one twice, is none. */
static uint8_t taken[DESCRIPTORS_MAX / 8];

static void check_descriptor(int32_t *descriptor)
{
    uint32_t number = (uint32_t)*descriptor;

    if (number < NX_L0_FIRST || number >= DESCRIPTORS_MAX ||
        (taken[number / 8] >> number % 8 & 1) != 0 || nx_sys(__NR_fcntl, number, F_GETFD, 0) < 0) {
        *descriptor = -1;
        return;
    }
    taken[number / 8] |= (uint8_t)(1u << number % 8);
}

const nx_l0_kept *nx_l0_inherit(int32_t descriptor)
{
    uint8_t digest[NX_BLAKE3_OUT];

    (void)nx_sys(__NR_prctl, 15 /* PR_SET_NAME */, "nexus-l0", 0, 0, 0);
    close_all_on_exec();
    nx_l0_sweep();
    if (nx_sys(__NR_pread64, descriptor, &kept, sizeof kept, 0) != (long)sizeof kept ||
        kept.magic != NX_KEPT_MAGIC || kept.version != NX_KEPT_VERSION ||
        kept.size != sizeof kept) {
        return NULL;
    }
    digest_of(&kept, digest);
    if (memcmp(digest, kept.digest, sizeof digest) != 0) {
        return NULL;
    }
    nx_l0_close(&descriptor);
    each(&kept, check_descriptor);
    return &kept;
}

static void take_waiters(nx_l0_fiber *fiber, const nx_l0_kept_fiber *one)
{
    nx_l0_waiter *waiters[1 + NX_L0_WAITERS] = {&fiber->starter};

    for (uint32_t i = 0; i < NX_L0_WAITERS; i++) {
        waiters[1 + i] = &fiber->waiters[i];
    }
    for (uint32_t i = 0; i < NX_ARRAY_COUNT(waiters); i++) {
        uint32_t client = one->waiters[i].client;
        bool known = client > 0 && client <= NX_L0_CLIENTS && fiber->node->clients[client - 1] >= 0;
        *waiters[i] = known ? one->waiters[i] : (nx_l0_waiter){0};
    }
}

/* Its belongings, as START takes them. */
static long take_fiber(nx_l0_fiber *fiber, const nx_l0_kept_fiber *one)
{
    uint32_t count = one->descriptor_count;

    if (one->use == NX_KEPT_LOST || count < 4 || count > NX_L0_DESCRIPTORS_MAX) {
        return -EBADMSG_;
    }
    memcpy(fiber->descriptors, one->descriptors, sizeof fiber->descriptors);
    fiber->descriptor_count = count;
    long result = fiber->slot == NX_NODE_OBSERVER ? nx_l0_provide_observer(fiber->node) : 0;
    if (result < 0) {
        nx_l0_fiber_free(fiber);
        return result;
    }
    return nx_l0_fiber_init(fiber, one->flags);
}

static void adopt(nx_l0_fiber *fiber, const nx_l0_kept_fiber *one, uint64_t now_ns)
{
    fiber->generation = one->generation;
    if (one->use == NX_KEPT_FREE) {
        return;
    }
    long result = take_fiber(fiber, one);
    take_waiters(fiber, one);
    fiber->lives = one->lives;
    fiber->event = one->event;
    if (one->began_ns != 0) {
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_FIBER_TERMINATE,
                                          .entity = KILLED,
                                          .data = {one->lives, now_ns - one->began_ns}});
    }
    if (result < 0) {
        nx_l0_report report = {.error = (int32_t)-result};
        (void)nx_l0_event(fiber->node, fiber, &(nx_stl_event){.kind = NX_STL_QUARANTINE});
        fiber->status = NX_L0_EXIT_FAILED;
        nx_l0_answer_start(fiber, &report);
        nx_l0_answer_end(fiber);
        nx_l0_publish(fiber);
        return;
    }
    fiber->order = one->order;
    fiber->status = one->status;
    fiber->ended_ns = one->began_ns != 0 ? now_ns : one->ended_ns;
    fiber->cspace.epoch = one->epoch;
    fiber->floor = one->floor;
    nx_l0_keep_revoked(fiber, one->revoked_channels, one->revoked_files);
    if (one->checkpoint >= 0) {
        (void)nx_l0_recall(fiber, one->checkpoint);
        (void)nx_sys(__NR_close, one->checkpoint);
        nx_l0_keep(fiber);
    }
    if (one->use == NX_KEPT_WANTED) {
        nx_l0_life_want(fiber, now_ns);
    } else if (one->use == NX_KEPT_HELD) {
        (void)nx_l0_prepare_fiber(fiber);
        nx_l0_publish(fiber);
    } else {
        nx_l0_life_rest(fiber, NX_FIBER_OVER);
    }
}

void nx_l0_rise(nx_l0_node *node, const nx_l0_kept *from)
{
    node->image = from->own[NX_KEPT_IMAGE];
    memcpy(node->image_digest, from->image, sizeof node->image_digest);
    node->handover = memfd("nexus-handover", 0);
    if (node->image < 0 || node->handover < 0) {
        explain(node, node->handover < 0 ? node->handover : -EBADMSG_);
    }
    for (uint32_t i = NX_CLIENT_OTHERS; i < NX_L0_CLIENTS; i++) {
        node->clients[i] = from->own[NX_KEPT_CLIENTS + i];
    }
    nx_l0_table_follow(node, from->own[NX_KEPT_TABLE]);
    node->starts = from->starts;
    if (from->phoenixes.intensity <= NX_BREAKER_INTENSITY_MAX) {
        node->phoenixes = from->phoenixes;
    }
    node->then = from->then <= NX_THEN_REBOOT ? from->then : NX_THEN_STAY;
    node->watchdog_device = from->own[NX_KEPT_WATCHDOG];
    node->well_ns = nx_l0_clock(1);
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        uint32_t slot = (i + NX_NODE_OBSERVER) % NX_NODE_FIBERS; /* L1 first */
        adopt(&node->fibers[slot], &from->fibers[slot], nx_l0_clock(1));
    }
    nx_l0_set_features(node, (uint8_t)from->features);
}
