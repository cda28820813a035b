// SPDX-License-Identifier: Apache-2.0
/*
 * The fiber's file tree: an empty read-only root in which only what the manifest shows exists.
 *
 * The template's part takes three passes, because of what each destroys. All sources are opened
 * while the old root is still there (binds as detached trees, new file systems as detached mounts:
 * a fresh proc is only allowed while an old one is visible). Then a new root replaces the old one,
 * which is let go. Then the sources are attached, in order, by paths that can only resolve inside
 * the new root. Each life puts its own proc, /tmp and the like on top, in its own copy of the
 * namespace.
 */
#include "nx_l0.h"

#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <string.h>

#define PATH_SIZE_MAX 4096u
#define DETACH        2                         /* MNT_DETACH */
#define SLAVE_TREE    ((1u << 14) | (1u << 19)) /* MS_REC | MS_SLAVE */
#define AT_RECURSIVE_ 0x8000u
#define AT_EMPTY_     0x1000u

static const nx_bkdl_mount *mount_at(const nx_l0_fiber *fiber, uint32_t index)
{
    const nx_bkdl_section *section = &fiber->plan.manifest.sections[NX_BKDL_MOUNTS];

    return (const nx_bkdl_mount *)(const void *)(section->data + index * sizeof(nx_bkdl_mount));
}

static const char *text(const nx_l0_fiber *fiber, uint32_t index)
{
    return nx_bkdl_string(&fiber->plan.manifest.sections[NX_BKDL_STRINGS], index);
}

/* Sets attributes on a detached tree, all of it; nothing to do for none. */
static long set_attributes(int descriptor, uint32_t attributes, bool recursive)
{
    struct mount_attr wanted = {.attr_set = attributes};

    if (attributes == 0) {
        return 0;
    }
    return nx_sys(__NR_mount_setattr, descriptor, "", AT_EMPTY_ | (recursive ? AT_RECURSIVE_ : 0),
                  &wanted, sizeof wanted);
}

/* A new file system, not attached anywhere yet. */
static long new_system(const char *type, const char *key, const char *value, uint32_t attributes)
{
    long context = nx_sys(__NR_fsopen, type, FSOPEN_CLOEXEC);

    if (context < 0) {
        return context;
    }
    long result = 0;
    if (key != NULL) {
        result = nx_sys(__NR_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0);
    }
    if (result >= 0) {
        result = nx_sys(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
    }
    if (result >= 0) {
        result = nx_sys(__NR_fsmount, context, FSMOUNT_CLOEXEC, attributes);
    }
    (void)nx_sys(__NR_close, context);
    return result;
}

static const char *octal(char ret[8], uint32_t mode)
{
    for (int i = 6; i >= 0; i--) {
        ret[i] = (char)('0' + (mode & 7));
        mode >>= 3;
    }
    ret[7] = '\0';
    return ret;
}

static long open_source(const nx_l0_fiber *fiber, const nx_bkdl_mount *mount)
{
    char mode[8];
    unsigned flags = OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE;

    switch (mount->kind) {
    case NX_MOUNT_BIND:
    case NX_MOUNT_BIND_ALONE: {
        bool whole = mount->kind == NX_MOUNT_BIND;
        long tree = nx_sys(__NR_open_tree, AT_FDCWD, text(fiber, mount->source),
                           flags | (whole ? AT_RECURSIVE_ : 0));
        if (tree < 0) {
            return tree;
        }
        long set = set_attributes((int)tree, mount->attributes, whole);
        return set < 0 ? set : tree;
    }
    case NX_MOUNT_TMPFS:
        return new_system("tmpfs", "mode", octal(mode, mount->mode), mount->attributes);
    case NX_MOUNT_PROC:
        return new_system("proc", NULL, NULL, mount->attributes);
    case NX_MOUNT_DEVPTS:
        return new_system("devpts", "ptmxmode", "0666", mount->attributes);
    case NX_MOUNT_MQUEUE:
        return new_system("mqueue", NULL, NULL, mount->attributes);
    default:
        return 0; /* directories, links and files have no source */
    }
}

/* Makes the parents of an absolute path of the new root. */
static long make_parents(const char *path)
{
    char part[PATH_SIZE_MAX];
    size_t size = strlen(path);

    if (size >= sizeof part) {
        return -36; /* ENAMETOOLONG */
    }
    for (size_t i = 0; i < size; i++) {
        part[i] = '\0';
        if (path[i] == '/' && i > 0) {
            long result = nx_sys(__NR_mkdirat, AT_FDCWD, part, 0755);
            if (result < 0 && result != -17 && result != -30) { /* EEXIST, EROFS */
                return result;
            }
        }
        part[i] = path[i];
    }
    return 0;
}

static long make_file(const char *path, uint32_t mode, const char *content)
{
    long descriptor =
        nx_sys(__NR_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode);

    if (descriptor < 0) {
        return descriptor;
    }
    long result = 0;
    if (content != NULL) {
        result = nx_sys(__NR_write, descriptor, content, strlen(content));
    }
    (void)nx_sys(__NR_close, descriptor);
    return result;
}

/* Makes a place for the source to be attached to: a directory, or a file for anything else. */
static long make_place(int source, const char *path)
{
    /* A directory is what can be opened as one. */
    long opened = nx_sys(__NR_openat, source, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (opened >= 0) {
        (void)nx_sys(__NR_close, opened);
        long result = nx_sys(__NR_mkdirat, AT_FDCWD, path, 0755);
        return result == -17 || result == -30 ? 0 : result;
    }
    long exists = nx_sys(__NR_faccessat, AT_FDCWD, path, 0);
    return exists >= 0 ? 0 : make_file(path, 0644, NULL);
}

static long attach(const nx_l0_fiber *fiber, const nx_bkdl_mount *mount, int source)
{
    const char *target = text(fiber, mount->target);
    long result = make_parents(target);

    if (result < 0) {
        return result;
    }
    switch (mount->kind) {
    case NX_MOUNT_DIRECTORY:
        result = nx_sys(__NR_mkdirat, AT_FDCWD, target, mount->mode);
        return result == -17 ? 0 : result;
    case NX_MOUNT_SYMLINK:
        return nx_sys(__NR_symlinkat, text(fiber, mount->source), AT_FDCWD, target);
    case NX_MOUNT_FILE:
        return make_file(target, mount->mode, text(fiber, mount->source));
    default:
        if (source == 0) {
            result = nx_sys(__NR_mkdirat, AT_FDCWD, target, 0755);
            return result == -17 ? 0 : result;
        }
        result = make_place(source, target);
        if (result >= 0) {
            result = nx_sys(__NR_move_mount, source, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
        }
        return result;
    }
}

/* Puts a new empty root in the place of the old one, which is let go. */
static long replace_root(void)
{
    long root = new_system("tmpfs", "mode", "0755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);

    if (root < 0) {
        return root;
    }
    long result = nx_sys(__NR_mount, NULL, "/", NULL, SLAVE_TREE, NULL);
    if (result >= 0) {
        result = nx_sys(__NR_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
    }
    if (result >= 0) {
        result = nx_sys(__NR_fchdir, root);
    }
    if (result >= 0) {
        result = nx_sys(__NR_pivot_root, ".", ".");
    }
    if (result >= 0) {
        result = nx_sys(__NR_umount2, ".", DETACH);
    }
    if (result >= 0) {
        result = nx_sys(__NR_chdir, "/");
    }
    (void)nx_sys(__NR_close, root);
    return result;
}

/* By mount: a detached tree; 0: nothing but a place, link or file; negative: not in this part. */
static int32_t sources[NX_L0_MOUNTS_MAX];

static bool attach_all(nx_l0_fiber *fiber, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sources[i] < 0) {
            continue;
        }
        nx_l0_enter(fiber, NX_STAGE_MOUNT_TARGET, i);
        if (!nx_l0_ok(fiber, attach(fiber, mount_at(fiber, i), sources[i]))) {
            return false;
        }
        if (sources[i] > 0) {
            (void)nx_sys(__NR_close, sources[i]);
        }
    }
    return true;
}

/* What could carry something from one life to the next, or shows the pid or ipc namespace. */
static bool is_of_life(const nx_bkdl_mount *mount)
{
    return mount->kind == NX_MOUNT_PROC || mount->kind == NX_MOUNT_DEVPTS ||
           mount->kind == NX_MOUNT_MQUEUE || (mount->flags & NX_MOUNT_LIFE) != 0;
}

/* Whether the target lies below a file system that each life gets anew. */
static bool is_below_life(const nx_l0_fiber *fiber, uint32_t index)
{
    const char *target = text(fiber, mount_at(fiber, index)->target);

    for (uint32_t i = 0; i < index; i++) {
        const nx_bkdl_mount *above = mount_at(fiber, i);
        if (is_of_life(above)) {
            const char *place = text(fiber, above->target);
            size_t size = strlen(place);
            if (strlen(target) > size && memcmp(target, place, size) == 0 && target[size] == '/') {
                return true;
            }
        }
    }
    return false;
}

/* What the life attaches anew: a new file system, or what the template has below one. */
static long open_life_source(const nx_l0_fiber *fiber, const nx_bkdl_mount *mount)
{
    if (is_of_life(mount)) {
        return open_source(fiber, mount);
    }
    if (mount->kind == NX_MOUNT_BIND || mount->kind == NX_MOUNT_BIND_ALONE ||
        mount->kind == NX_MOUNT_TMPFS) {
        return nx_sys(__NR_open_tree, AT_FDCWD, text(fiber, mount->target),
                      OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE | AT_RECURSIVE_);
    }
    return 0;
}

static bool build_life(nx_l0_fiber *fiber, uint32_t count)
{
    bool own_proc = (nx_l0_policy(fiber)->namespaces & CLONE_NEWPID) != 0;

    for (uint32_t i = 0; i < count; i++) {
        const nx_bkdl_mount *mount = mount_at(fiber, i);
        bool wanted =
            is_of_life(mount) ? mount->kind != NX_MOUNT_PROC || own_proc : is_below_life(fiber, i);
        nx_l0_enter(fiber, NX_STAGE_MOUNT_SOURCE, i);
        long source = wanted ? open_life_source(fiber, mount) : -1;
        if (source == -2 && (mount->flags & NX_MOUNT_OPTIONAL) != 0) {
            source = -1;
        } else if (wanted && !nx_l0_ok(fiber, source)) {
            return false;
        }
        sources[i] = (int32_t)source;
    }
    return attach_all(fiber, count);
}

/* The source of a mount in the template. Of a life's mount there is only the place, and of proc the
 * old one: the kernel gives out a new proc only where an old one can be seen. */
static long open_template_source(const nx_l0_fiber *fiber, const nx_bkdl_mount *mount)
{
    if (mount->kind == NX_MOUNT_PROC) {
        return nx_sys(__NR_open_tree, AT_FDCWD, "/proc",
                      OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE | AT_RECURSIVE_);
    }
    return is_of_life(mount) ? 0 : open_source(fiber, mount);
}

static bool build_template(nx_l0_fiber *fiber, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const nx_bkdl_mount *mount = mount_at(fiber, i);
        nx_l0_enter(fiber, NX_STAGE_MOUNT_SOURCE, i);
        long source = open_template_source(fiber, mount);
        if (source == -2 && (mount->flags & NX_MOUNT_OPTIONAL) != 0) {
            source = -1;
        } else if (!nx_l0_ok(fiber, source)) {
            return false;
        }
        sources[i] = (int32_t)source;
    }
    nx_l0_enter(fiber, NX_STAGE_MOUNT_ROOT, 0);
    if (!nx_l0_ok(fiber, replace_root())) {
        return false;
    }
    if (!attach_all(fiber, count)) {
        return false;
    }
    /* The skeleton itself is not for writing. */
    struct mount_attr fixed = {.attr_set = MOUNT_ATTR_RDONLY};
    nx_l0_enter(fiber, NX_STAGE_MOUNT_ROOT, 1);
    return nx_l0_ok(fiber, nx_sys(__NR_mount_setattr, AT_FDCWD, "/", 0, &fixed, sizeof fixed));
}

bool nx_l0_build_mounts(nx_l0_fiber *fiber, nx_l0_tree part)
{
    uint32_t count = fiber->plan.manifest.sections[NX_BKDL_MOUNTS].count;

    nx_l0_enter(fiber, NX_STAGE_MOUNT_SOURCE, 0);
    if (count > NX_L0_MOUNTS_MAX) {
        return nx_l0_ok(fiber, -7); /* E2BIG */
    }
    return part == NX_TREE_LIFE ? build_life(fiber, count) : build_template(fiber, count);
}
