// SPDX-License-Identifier: Apache-2.0
/*
 * What follows when nothing less helps: too many Phoenix, or a supervisor that hangs. A watchdog is
 * petted from the tick, so that a supervisor which does not come round is reset by hardware; and
 * only while what it can see of itself is sound (docs/spec/node.md, Watchdog).
 */
#include "packet.h"

#include <linux/watchdog.h>

#define EPERM_  1
#define EBUSY_  16
#define EINVAL_ 22
/* As long as the first beat of a life may take. */
#define BEAT_LIMIT     (30000 * (uint64_t)NX_L0_MS)
#define PERIOD_MS_MAX  UINT32_MAX
#define TIMEOUT_S_MIN  2u /* several ticks */
#define TIMEOUT_S_MAX  65535u
#define MAY_REBOOT     22 /* CAP_SYS_BOOT */
#define REBOOT_MAGIC_1 0xfee1deadu
#define REBOOT_MAGIC_2 672274793u
#define REBOOT_RESTART 0x01234567u

static bool may_reboot(void)
{
    uint32_t head[2] = {0x20080522, 0};
    uint32_t sets[2][3] = {{0}}; /* effective, permitted, inheritable; by 32 bits */

    return nx_sys(__NR_capget, head, sets) >= 0 && (sets[0][0] >> MAY_REBOOT & 1) != 0;
}

int64_t nx_l0_guard(nx_l0_node *node, nx_l0_request *from)
{
    nx_node_packet *packet = &from->packet;
    uint64_t *words = packet->words;
    int32_t timeout = (int32_t)words[3];
    bool device = words[3] != 0;

    if (from->client != NX_CLIENT_STARTER) {
        return -EPERM_;
    }
    if (node->watchdog_device >= 0) {
        return -EBUSY_;
    }
    if (words[0] == 0 || words[0] > NX_BREAKER_INTENSITY_MAX || words[1] == 0 ||
        words[1] > PERIOD_MS_MAX || words[2] > NX_THEN_REBOOT || from->count != device ||
        (device && (words[3] < TIMEOUT_S_MIN || words[3] > TIMEOUT_S_MAX)) ||
        (words[2] == NX_THEN_RESET && !device)) {
        return -EINVAL_;
    }
    if (words[2] == NX_THEN_REBOOT && !may_reboot()) {
        return -EPERM_;
    }
    if (device) {
        long result = nx_sys(__NR_ioctl, from->descriptors[0], WDIOC_SETTIMEOUT, &timeout);
        if (result < 0) {
            return result;
        }
        node->watchdog_device = from->descriptors[0];
        from->count = 0;
    }
    nx_breaker_init(&node->phoenixes, (uint32_t)words[0], words[1] * NX_L0_MS, 0);
    node->then = (uint32_t)words[2];
    words[1] = (uint64_t)timeout;
    node->well_ns = nx_l0_clock(1);
    nx_l0_set_features(node, 0); /* the tick is needed now */
    return 0;
}

void nx_l0_give_up(nx_l0_node *node)
{
    (void)nx_l0_event(node, NULL,
                      &(nx_stl_event){.kind = NX_STL_BREAKER_OPEN,
                                      .entity = node->phoenixes.count,
                                      .data = {node->phoenixes.period_ns}});
    node->given_up = true;
    if (node->then == NX_THEN_REBOOT) {
        nx_l0_digits digits;
        (void)nx_sys0(__NR_sync);
        long result = nx_sys(__NR_reboot, REBOOT_MAGIC_1, REBOOT_MAGIC_2, REBOOT_RESTART, NULL);
        NX_L0_SAY("nexus-l0: reboot was refused, errno ", nx_l0_decimal(&digits, (uint64_t)-result),
                  "\n");
    }
}

/* Whether L1 does its work, or is about to. */
static bool is_watched(nx_l0_node *node, uint64_t now_ns)
{
    const nx_l0_fiber *observer = &node->fibers[NX_NODE_OBSERVER];

    if (!nx_feature_on(node->features, NX_FEATURE_HEARTBEAT) || node->observer == NULL) {
        return observer->bytes != NULL && !nx_l0_is_over(observer);
    }
    uint64_t beat = __atomic_load_n(&node->observer->beat, __ATOMIC_RELAXED);
    if (beat != node->well_beat) {
        node->well_beat = beat;
        node->well_ns = now_ns;
    }
    return now_ns - node->well_ns < BEAT_LIMIT;
}

void nx_l0_pet(nx_l0_node *node, uint64_t now_ns)
{
    const nx_node_head *head = &node->table->head;
    bool sound = head->magic == NX_NODE_MAGIC && head->version == NX_NODE_VERSION &&
                 head->size == sizeof *node->table && head->pid == nx_sys0(__NR_getpid);

    if (node->watchdog_device < 0) {
        return;
    }
    if (node->given_up ? node->then == NX_THEN_STAY : node->stopping || is_watched(node, now_ns)) {
        if (sound) {
            (void)nx_sys(__NR_write, node->watchdog_device, "", 1);
        }
    }
}

void nx_l0_unguard(nx_l0_node *node)
{
    if (node->watchdog_device >= 0) {
        (void)nx_sys(__NR_write, node->watchdog_device, "V", 1);
        nx_l0_close(&node->watchdog_device);
    }
}
