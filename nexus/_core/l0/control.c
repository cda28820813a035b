// SPDX-License-Identifier: Apache-2.0
/* What somebody asks of the supervisor, and what it does about it (docs/spec/node.md). */
#include "packet.h"

#include <linux/fcntl.h>
#include <string.h>

#define EPERM_     1
#define ENOENT_    2
#define EAGAIN_    11
#define EBUSY_     16
#define EINVAL_    22
#define ENOSPC_    28
#define ESTALE_    116
#define ECANCELED_ 125

/* The fiber that a request names; NULL with the error. */
static nx_l0_fiber *find_fiber(nx_l0_node *node, const nx_node_packet *packet, int64_t *result)
{
    if (packet->slot >= NX_NODE_FIBERS || node->fibers[packet->slot].bytes == NULL) {
        *result = -ENOENT_;
        return NULL;
    }
    nx_l0_fiber *fiber = &node->fibers[packet->slot];
    if (packet->generation != 0 && packet->generation != fiber->generation) {
        *result = -ESTALE_;
        return NULL;
    }
    *result = 0;
    return fiber;
}

static bool is_free(const nx_l0_fiber *fiber)
{
    return fiber->bytes == NULL && !fiber->ending;
}

static nx_l0_fiber *free_slot(nx_l0_node *node, uint32_t wanted, bool observer)
{
    if (observer) {
        return is_free(&node->fibers[NX_NODE_OBSERVER]) ? &node->fibers[NX_NODE_OBSERVER] : NULL;
    }
    for (uint32_t i = 0; i < NX_NODE_OBSERVER; i++) {
        if ((wanted == NX_NODE_ANY || wanted == i) && is_free(&node->fibers[i])) {
            return &node->fibers[i];
        }
    }
    return NULL;
}

/* The page is made once; L1 has a connection of its own in each life. */
long nx_l0_provide_observer(nx_l0_node *node)
{
    if (node->observer == NULL) {
        node->observer =
            nx_l0_share("nexus-observer", NX_PAGE_SIZE_MIN, false, &node->observer_descriptor);
    }
    return node->observer == NULL ? node->observer_descriptor : 0;
}

static int64_t start(nx_l0_node *node, nx_l0_request *from, uint64_t now_ns)
{
    nx_node_packet *packet = &from->packet;
    bool observer = (packet->flags & NX_START_OBSERVER) != 0;
    bool hold = (packet->flags & NX_START_HOLD) != 0;

    if (from->count < 4 || (packet->flags & ~NX_START_FLAGS) != 0) {
        return -EINVAL_;
    }
    if (observer && from->client != NX_CLIENT_STARTER) {
        return -EPERM_;
    }
    nx_l0_fiber *fiber = free_slot(node, packet->slot, observer);
    if (fiber == NULL) {
        return -ENOSPC_;
    }
    if (observer) {
        long made = nx_l0_provide_observer(node);
        if (made < 0) {
            return made;
        }
    }
    fiber->slot = (uint32_t)(fiber - node->fibers);
    fiber->node = node;
    memcpy(fiber->descriptors, from->descriptors, sizeof fiber->descriptors);
    fiber->descriptor_count = from->count;
    from->count = 0; /* they are the fiber's now */
    long result = nx_l0_fiber_init(fiber, packet->flags);
    if (result < 0) {
        return result;
    }
    fiber->generation++;
    fiber->order = ++node->starts;
    packet->slot = fiber->slot;
    packet->generation = fiber->generation;
    if (hold) {
        (void)nx_l0_prepare_fiber(fiber);
        nx_l0_publish(fiber);
        return 0;
    }
    nx_l0_wait_here(&fiber->starter, from);
    nx_l0_life_want(fiber, now_ns);
    return 0;
}

static int64_t begin(nx_l0_fiber *fiber, nx_l0_request *from, uint64_t now_ns)
{
    bool standby = (nx_l0_policy(fiber)->flags & NX_POLICY_STANDBY) != 0;

    if ((from->count != 0 && from->count != 3) || (from->count == 3 && standby)) {
        return -EINVAL_;
    }
    if (!nx_l0_is_over(fiber) || fiber->starter.client != 0) {
        return -EBUSY_;
    }
    if (from->count != 0) {
        /* What was made ahead has the others. */
        nx_l0_life_dismiss(fiber);
    }
    for (unsigned i = 0; i < from->count; i++) {
        nx_l0_close(&fiber->descriptors[i + 1]);
        fiber->descriptors[i + 1] = from->descriptors[i];
    }
    from->count = 0;
    fiber->check = nx_l0_belongings(fiber);
    nx_l0_wait_here(&fiber->starter, from);
    nx_l0_life_want(fiber, now_ns);
    return 0;
}

static int64_t restart(nx_l0_fiber *fiber, nx_l0_request *from, uint64_t now_ns)
{
    if (nx_l0_is_over(fiber)) {
        return begin(fiber, from, now_ns);
    }
    if (fiber->starter.client != 0) {
        return -EBUSY_;
    }
    nx_l0_wait_here(&fiber->starter, from);
    fiber->forced = true;
    fiber->stopping = false;
    if (fiber->state == NX_FIBER_PAUSE) {
        fiber->until_ns = now_ns;
    } else {
        nx_l0_life_kill(fiber, NX_TRAP_ASKED);
    }
    return 0;
}

static int64_t forget(nx_l0_fiber *fiber, nx_l0_request *from)
{
    if (!nx_l0_is_over(fiber) || fiber->starter.client != 0) {
        return -EBUSY_;
    }
    nx_l0_life_dismiss(fiber);
    if (fiber->ending) {
        fiber->forgotten = true;
        nx_l0_wait_here(&fiber->starter, from);
    } else {
        nx_l0_fiber_free(fiber);
    }
    return 0;
}

static int64_t wait_for_end(nx_l0_fiber *fiber, nx_l0_request *from)
{
    if (nx_l0_is_over(fiber) && fiber->state != NX_FIBER_HELD) {
        from->packet.words[1] = (uint64_t)fiber->status;
        from->packet.words[2] = fiber->lives;
        return 0;
    }
    for (unsigned i = 0; i < NX_L0_WAITERS; i++) {
        if (fiber->waiters[i].client == 0) {
            nx_l0_wait_here(&fiber->waiters[i], from);
            return 0;
        }
    }
    return -EBUSY_;
}

static int64_t code_of(int result)
{
    static const uint8_t codes[] = {
        [-NX_EINVAL] = EINVAL_,
        [-NX_ESTALE] = ESTALE_,
        [-NX_EDENIED] = EPERM_,
        [-NX_EFULL] = ENOSPC_,
    };

    return result == NX_OK ? 0 : -(int64_t)codes[-result];
}

static int64_t grant(nx_l0_fiber *fiber, nx_node_packet *packet)
{
    nx_node_capability wanted = {.type = (uint8_t)packet->words[0],
                                 .rights = (uint8_t)(packet->words[0] >> 8),
                                 .parent = (uint8_t)packet->words[4],
                                 .object = packet->words[1],
                                 .start = packet->words[2],
                                 .end = packet->words[3]};
    uint32_t index = 0;

    if (packet->words[0] >> 16 != 0 || packet->words[4] > NX_NODE_CSPACE) {
        return -EINVAL_;
    }
    int64_t result = code_of(nx_cspace_grant(&fiber->cspace, &wanted, &index));
    if (result == 0) {
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = wanted.parent != 0 ? NX_STL_CAPABILITY_DELEGATE
                                                                     : NX_STL_CAPABILITY_GRANT,
                                          .entity = wanted.object,
                                          .data = {index, wanted.type, wanted.rights}});
        packet->words[1] = index;
        nx_l0_give_handle(fiber, &wanted);
        nx_l0_publish(fiber);
    }
    return result;
}

static bool is_named(const nx_l0_fiber *fiber, const nx_node_capability *wanted)
{
    nx_node_capability one;

    for (uint32_t i = 0; i < NX_NODE_CSPACE; i++) {
        if (nx_cspace_read(&fiber->cspace, i, &one) && one.type == wanted->type &&
            one.object == wanted->object) {
            return true;
        }
    }
    return false;
}

static int64_t revoke(nx_l0_fiber *fiber, nx_node_packet *packet)
{
    uint32_t index = (uint32_t)packet->words[0];
    uint32_t count = 0;
    nx_node_capability gone = {0};

    if (packet->words[0] >= NX_NODE_CSPACE) {
        return -EINVAL_;
    }
    (void)nx_cspace_read(&fiber->cspace, index, &gone);
    int64_t result = code_of(nx_cspace_revoke(&fiber->cspace, index, &count));
    if (result == 0) {
        (void)nx_l0_event(fiber->node, fiber,
                          &(nx_stl_event){.kind = NX_STL_CAPABILITY_REVOKE,
                                          .entity = packet->words[0],
                                          .data = {count}});
        packet->words[1] = count;
        packet->words[2] = is_named(fiber, &gone) ? NX_TAKEN_WORD : nx_l0_take_handle(fiber, &gone);
        nx_l0_publish(fiber);
    }
    return result;
}

/* The operations on one fiber. */
static int64_t serve_fiber(nx_l0_node *node, nx_l0_request *from, uint64_t now_ns)
{
    nx_node_packet *packet = &from->packet;
    int64_t result;
    nx_l0_fiber *fiber = find_fiber(node, packet, &result);

    if (fiber == NULL) {
        return result;
    }
    packet->generation = fiber->generation;
    switch (packet->operation) {
    case NX_OP_BEGIN:
        return node->stopping ? -ECANCELED_ : begin(fiber, from, now_ns);
    case NX_OP_RESTART:
        return node->stopping ? -ECANCELED_ : restart(fiber, from, now_ns);
    case NX_OP_STOP:
        nx_l0_life_signal(fiber, 15);
        nx_l0_life_stop(fiber, now_ns, true);
        if ((packet->flags & NX_STOP_AT_ONCE) != 0) {
            nx_l0_life_kill(fiber, 0);
        }
        return 0;
    case NX_OP_SIGNAL:
        if (packet->words[0] == 0 || packet->words[0] > 64) {
            return -EINVAL_;
        }
        nx_l0_life_signal(fiber, (uint32_t)packet->words[0]);
        return 0;
    case NX_OP_FORGET:
        return forget(fiber, from);
    case NX_OP_WAIT:
        return wait_for_end(fiber, from);
    case NX_OP_GRANT:
        return grant(fiber, packet);
    default:
        return revoke(fiber, packet);
    }
}

static int64_t serve(nx_l0_node *node, nx_l0_request *from, uint64_t now_ns)
{
    nx_node_packet *packet = &from->packet;

    switch (packet->operation) {
    case NX_OP_HELLO:
        from->reply = node->table_descriptor;
        packet->words[1] = NX_NODE_VERSION;
        return 0;
    case NX_OP_START:
        return node->stopping ? -ECANCELED_ : start(node, from, now_ns);
    case NX_OP_FEATURE:
        if (packet->words[0] > 0xff) {
            return -EINVAL_;
        }
        nx_l0_set_features(node, (uint8_t)packet->words[0]);
        packet->words[1] = node->features;
        return 0;
    case NX_OP_LOOK:
        if (from->client < NX_CLIENT_OBSERVER || from->client >= NX_CLIENT_OTHERS) {
            return -EPERM_;
        }
        nx_l0_take_verdicts(node, now_ns);
        return 0;
    case NX_OP_SHUTDOWN:
        if (node->stopper.client != 0) {
            return -EBUSY_;
        }
        if ((packet->flags & NX_SHUTDOWN_PHOENIX) != 0) {
            node->phoenix = true;
            return 0;
        }
        nx_l0_wait_here(&node->stopper, from);
        nx_l0_shut_down(node, now_ns);
        return 0;
    case NX_OP_GUARD:
        return nx_l0_guard(node, from);
    case NX_OP_BEGIN:
    case NX_OP_STOP:
    case NX_OP_SIGNAL:
    case NX_OP_RESTART:
    case NX_OP_FORGET:
    case NX_OP_WAIT:
    case NX_OP_GRANT:
    case NX_OP_REVOKE:
        return serve_fiber(node, from, now_ns);
    default:
        return -EINVAL_;
    }
}

int nx_l0_serve_client(nx_l0_node *node, uint32_t client, bool hung_up, uint64_t now_ns)
{
    nx_l0_request one = {.client = client, .reply = -1};
    long size = nx_l0_receive(node, &one);

    if (size == -EAGAIN_) {
        return 0;
    }
    /* An empty packet looks like the end, and may bring descriptors like any other. */
    bool gone = size < 0 || (size == 0 && hung_up && one.count == 0);
    if (size != (long)sizeof one.packet) {
        one.packet.operation = 0;
    }
    int64_t result = gone ? 0 : serve(node, &one, now_ns);
    for (uint32_t i = 0; i < one.count; i++) {
        nx_l0_close(&one.descriptors[i]);
    }
    if (gone) {
        return -1;
    }
    node->heard[client] = ++node->requests;
    if (!one.deferred) {
        one.packet.operation |= NX_NODE_ANSWER;
        one.packet.flags = 0;
        one.packet.words[0] = (uint64_t)result;
        nx_l0_send(node, client, &one.packet, result == 0 ? one.reply : -1);
    }
    return 0;
}
