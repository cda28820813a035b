// SPDX-License-Identifier: Apache-2.0
/* Requests as packets, in and out (docs/spec/node.md). */
#ifndef NX_L0_PACKET_H
#define NX_L0_PACKET_H

#include "nx_l0.h"

/* One request while it is served. */
typedef struct nx_l0_request {
    nx_node_packet packet;
    int32_t descriptors[NX_L0_DESCRIPTORS_MAX];
    uint32_t count;
    uint32_t client;
    bool deferred; /* it will be answered later */
    int32_t reply; /* descriptor to send with the answer, or -1 */
} nx_l0_request;

/* Sends an answer, with a descriptor or -1. Who does not take its answers is not waited for. */
void nx_l0_send(nx_l0_node *node, uint32_t client, const nx_node_packet *packet,
                int32_t descriptor);

/* Takes one packet in; its size, 0 at the end of the connection, or a negative errno. */
long nx_l0_receive(nx_l0_node *node, nx_l0_request *ret);

/* guard.c: how far Phoenix may go, and the watchdog. */
int64_t nx_l0_guard(nx_l0_node *node, nx_l0_request *from);

/* The request will be answered when what it waits for has happened. */
void nx_l0_wait_here(nx_l0_waiter *waiter, nx_l0_request *from);

#endif
