// SPDX-License-Identifier: Apache-2.0
/* Packets of 64 bytes with descriptors beside them, and those who wait for one. */
#include "packet.h"

#include <linux/fcntl.h>
#include <linux/socket.h>
#include <string.h>

#define EPROTO_     71
#define SOL_SOCKET_ 1
#define SCM_RIGHTS_ 1
#define PEERCRED_   17
#define DONTWAIT_   0x40
#define TRUNCATED_  0x28       /* MSG_TRUNC | MSG_CTRUNC */
#define CLOEXEC_    0x40000000 /* MSG_CMSG_CLOEXEC */
#define NOSIGNAL_   0x4000

/* struct msghdr and cmsghdr of the kernel, on machines of 64 bits. */
typedef struct message {
    void *name;
    int32_t name_size;
    struct {
        void *base;
        size_t size;
    } *parts;
    size_t part_count;
    void *control;
    size_t control_size;
    uint32_t flags;
} message;

typedef struct rights {
    size_t size;
    int32_t level;
    int32_t type;
    int32_t descriptors[NX_L0_DESCRIPTORS_MAX];
} rights;

void nx_l0_send(nx_l0_node *node, uint32_t client, const nx_node_packet *packet, int32_t descriptor)
{
    rights attached = {.size = offsetof(rights, descriptors) + 4,
                       .level = SOL_SOCKET_,
                       .type = SCM_RIGHTS_,
                       .descriptors = {descriptor}};
    struct {
        void *base;
        size_t size;
    } part = {(void *)(uintptr_t)packet, sizeof *packet};
    message out = {.parts = (void *)&part, .part_count = 1};

    if (node->clients[client] < 0) {
        return;
    }
    if (descriptor >= 0) {
        out.control = &attached;
        out.control_size = offsetof(rights, descriptors) + 8;
    }
    /* Who does not take its answers is not waited for. */
    (void)nx_sys(__NR_sendmsg, node->clients[client], &out, DONTWAIT_ | NOSIGNAL_);
}

static void answer_waiter(nx_l0_node *node, nx_l0_waiter *waiter, const nx_l0_fiber *fiber,
                          int64_t result, uint64_t first, uint64_t second)
{
    nx_node_packet packet = {.operation = (uint16_t)(waiter->operation | NX_NODE_ANSWER),
                             .ticket = waiter->ticket,
                             .words = {(uint64_t)result, first, second}};

    if (waiter->client == 0) {
        return;
    }
    if (fiber != NULL) {
        packet.slot = fiber->slot;
        packet.generation = fiber->generation;
    }
    nx_l0_send(node, waiter->client - 1, &packet, -1);
    *waiter = (nx_l0_waiter){0};
}

void nx_l0_answer_start(nx_l0_fiber *fiber, const nx_l0_report *report)
{
    if (report == NULL) {
        answer_waiter(fiber->node, &fiber->starter, fiber, 0, 0, 0);
    } else {
        answer_waiter(fiber->node, &fiber->starter, fiber,
                      -(report->error != 0 ? report->error : EPROTO_), report->stage,
                      report->index);
    }
}

void nx_l0_answer_end(nx_l0_fiber *fiber)
{
    for (unsigned i = 0; i < NX_L0_WAITERS; i++) {
        answer_waiter(fiber->node, &fiber->waiters[i], fiber, 0, (uint64_t)fiber->status,
                      fiber->lives);
    }
}

void nx_l0_answer_shutdown(nx_l0_node *node)
{
    answer_waiter(node, &node->stopper, NULL, 0, 0, 0);
}

void nx_l0_wait_here(nx_l0_waiter *waiter, nx_l0_request *from)
{
    *waiter = (nx_l0_waiter){.client = from->client + 1,
                             .ticket = from->packet.ticket,
                             .operation = from->packet.operation};
    from->deferred = true;
}

void nx_l0_drop_client(nx_l0_node *node, uint32_t client)
{
    nx_l0_close(&node->clients[client]);
    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        nx_l0_fiber *fiber = &node->fibers[i];
        if (fiber->starter.client == client + 1) {
            fiber->starter.client = 0;
        }
        for (unsigned k = 0; k < NX_L0_WAITERS; k++) {
            if (fiber->waiters[k].client == client + 1) {
                fiber->waiters[k].client = 0;
            }
        }
    }
    if (node->stopper.client == client + 1) {
        node->stopper.client = 0;
    }
}

long nx_l0_receive(nx_l0_node *node, nx_l0_request *ret)
{
    rights attached;
    struct {
        void *base;
        size_t size;
    } part = {&ret->packet, sizeof ret->packet};
    message in = {.parts = (void *)&part,
                  .part_count = 1,
                  .control = &attached,
                  .control_size = sizeof attached};

    memset(&attached, 0, sizeof attached);
    long size = nx_sys(__NR_recvmsg, node->clients[ret->client], &in, DONTWAIT_ | CLOEXEC_);
    if (size >= 0 && in.control_size >= offsetof(rights, descriptors) &&
        attached.level == SOL_SOCKET_ && attached.type == SCM_RIGHTS_) {
        ret->count = (uint32_t)((attached.size - offsetof(rights, descriptors)) / 4);
        memcpy(ret->descriptors, attached.descriptors, ret->count * sizeof(int32_t));
    }
    if (size > 0 && (in.flags & TRUNCATED_) != 0) {
        ret->packet.operation = 0;
    }
    return size;
}

/* Whether somebody waits for an answer that is to come later. */
static bool is_waiting(const nx_l0_node *node, uint32_t client)
{
    uint32_t name = client + 1;
    bool waits = node->stopper.client == name;

    for (uint32_t i = 0; i < NX_NODE_FIBERS; i++) {
        const nx_l0_fiber *fiber = &node->fibers[i];
        waits |= fiber->starter.client == name;
        for (unsigned k = 0; k < NX_L0_WAITERS; k++) {
            waits |= fiber->waiters[k].client == name;
        }
    }
    return waits;
}

/* A place for another client: a free one, or that of whoever is the longest without a request and
 * waits for nothing; NX_L0_CLIENTS: none. */
static uint32_t place_for_client(nx_l0_node *node)
{
    uint32_t found = NX_L0_CLIENTS;

    for (uint32_t i = NX_CLIENT_OTHERS; i < NX_L0_CLIENTS; i++) {
        if (node->clients[i] < 0) {
            return i;
        }
        if (!is_waiting(node, i) &&
            (found == NX_L0_CLIENTS || node->heard[i] < node->heard[found])) {
            found = i;
        }
    }
    if (found != NX_L0_CLIENTS) {
        nx_l0_drop_client(node, found);
    }
    return found;
}

void nx_l0_accept(nx_l0_node *node)
{
    struct {
        int32_t pid;
        uint32_t user;
        uint32_t group;
    } peer = {0};
    uint32_t size = sizeof peer;
    long client = nx_sys(__NR_accept4, node->listen, NULL, NULL, O_CLOEXEC | O_NONBLOCK);

    if (client < 0) {
        return;
    }
    long known = nx_sys(__NR_getsockopt, client, SOL_SOCKET_, PEERCRED_, &peer, &size);
    if (known >= 0 && (peer.user == 0 || peer.user == (uint32_t)nx_sys0(__NR_geteuid))) {
        uint32_t place = place_for_client(node);
        if (place < NX_L0_CLIENTS) {
            node->clients[place] = (int32_t)client;
            node->heard[place] = ++node->requests;
            return;
        }
    }
    (void)nx_sys(__NR_close, client);
}
