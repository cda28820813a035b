// SPDX-License-Identifier: Apache-2.0
/* Who belongs to a life: the fiber, which is its warden's first child, and all below the warden. */
#include "nx_l0.h"

#include <linux/fcntl.h>

#define ESRCH_        3
#define PROCESSES_MAX 1024u

typedef struct processes {
    uint32_t count;
    bool whole;
    int32_t pids[PROCESSES_MAX];
} processes;

/* getdents64(2) */
typedef struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t size;
    uint8_t type;
    char name[];
} entry;

static long open_children(int32_t pid, int32_t tid)
{
    char path[64];
    nx_l0_digits process;
    nx_l0_digits thread;

    nx_l0_join(path,
               (const char *[]){"/proc/", nx_l0_decimal(&process, (uint64_t)pid), "/task/",
                                nx_l0_decimal(&thread, (uint64_t)tid), "/children"},
               5);
    return nx_sys(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

/* Numbers with a space after each, until there are no more or the list is full; 0 or an errno. */
static long add_children(processes *list, uint32_t limit, int32_t pid, int32_t tid)
{
    long file = open_children(pid, tid);
    char text[256];
    int32_t number = 0;
    long size;

    if (file < 0) {
        return file;
    }
    while ((size = nx_sys(__NR_read, file, text, sizeof text)) > 0) {
        for (long i = 0; i < size; i++) {
            if (text[i] != ' ') {
                number = number * 10 + (text[i] - '0');
                continue;
            }
            if (list->count < limit) {
                list->pids[list->count++] = number;
            } else {
                list->whole = false;
            }
            number = 0;
        }
    }
    (void)nx_sys(__NR_close, file);
    return size;
}

int32_t nx_l0_fiber_pid(int32_t warden)
{
    processes list;

    list.count = 0;
    long result = add_children(&list, 1, warden, warden);
    return result < 0 ? (int32_t)result : list.count > 0 ? list.pids[0] : -ESRCH_;
}

bool nx_l0_each_task(int32_t warden, void (*visit)(void *context, int32_t tid), void *context)
{
    static processes list;
    NX_ALIGNED(8) uint8_t names[1024];
    long size;

    list.count = 0;
    list.whole = true;
    (void)add_children(&list, PROCESSES_MAX, warden, warden);
    for (uint32_t i = 0; i < list.count; i++) {
        int32_t folder = nx_l0_open_proc(list.pids[i], "/task");
        while ((size = nx_sys(__NR_getdents64, folder, names, sizeof names)) > 0) {
            for (long at = 0; at < size;) {
                const entry *one = (const entry *)(const void *)(names + at);
                int32_t tid = 0;
                for (const char *c = one->name; *c >= '0'; c++) {
                    tid = tid * 10 + (*c - '0');
                }
                at += one->size;
                if (tid != 0) {
                    visit(context, tid);
                    (void)add_children(&list, PROCESSES_MAX, list.pids[i], tid);
                }
            }
        }
        nx_l0_close(&folder);
    }
    return list.whole;
}
