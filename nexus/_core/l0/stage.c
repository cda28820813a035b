// SPDX-License-Identifier: Apache-2.0
/* Names of the stages of a start, as messages and the Python side know them. */
#include "nx_l0.h"

static const char *const NAMES[] = {
    [NX_STAGE_NONE] = "none",
    [NX_STAGE_IMAGE] = "image",
    [NX_STAGE_CLONE] = "clone",
    [NX_STAGE_LIFELINE] = "lifeline",
    [NX_STAGE_IDENTITY] = "identity",
    [NX_STAGE_MOUNT_SOURCE] = "mount source",
    [NX_STAGE_MOUNT_ROOT] = "mount root",
    [NX_STAGE_MOUNT_TARGET] = "mount target",
    [NX_STAGE_NETWORK] = "network",
    [NX_STAGE_FIBER_CLONE] = "fiber clone",
    [NX_STAGE_SESSION] = "session",
    [NX_STAGE_DIRECTORY] = "directory",
    [NX_STAGE_LIMITS] = "limits",
    [NX_STAGE_PRIVILEGES] = "privileges",
    [NX_STAGE_LANDLOCK] = "landlock",
    [NX_STAGE_HANDLES] = "handles",
    [NX_STAGE_FILTER] = "filter",
    [NX_STAGE_EXECUTE] = "execute",
    [NX_STAGE_RUNNING] = "running",
};

const char *nx_l0_stage_name(uint32_t stage)
{
    return stage < NX_ARRAY_COUNT(NAMES) ? NAMES[stage] : "unknown";
}
