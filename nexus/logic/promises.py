"""The promise table: OpenBSD's pledge(2) words, as system calls of Linux.

A promise grants calls outright (`CALLS`) and calls whose arguments are tested (`TESTED`, in
`nexus.logic.pledge`). What a pointer leads to cannot be tested: paths belong to unveil. Words that
Linux cannot hold apart are folded, and the table says into what.
"""

from __future__ import annotations

__all__ = ["ABSENT", "CALLS", "PROMISES", "REFUSED_SOFTLY"]

# The order is the bit number in a manifest: append only.
PROMISES = (
    "stdio", "rpath", "wpath", "cpath", "dpath", "fattr", "chown", "flock", "tty", "proc",
    "exec", "prot_exec", "unix", "inet", "mcast", "dns", "getpw", "sendfd", "recvfd", "route",
    "settime", "id", "ps", "vminfo", "audio", "video", "unveil", "error",
)  # fmt: skip

# Words of pledge(2) that have no meaning here, with what to say instead.
ABSENT = {
    "tmppath": "removed from pledge(2) in 2026; show a folder with --unveil DIR=rwc",
    "tape": "Linux has no such device class; show the device with --unveil",
    "bpf": "fibers never load programs into the kernel",
    "pf": "fibers never change packet filters",
    "wroute": "fibers never change routes",
    "drm": "show the device with --unveil and promise video",
    "vmm": "show /dev/kvm with --unveil",
    "disklabel": "fibers never change partitions",
}

_SOCKET_IO = "connect sendto sendmsg sendmmsg recvmsg recvmmsg setsockopt"
_SERVER = "bind listen accept accept4"

CALLS = {
    "stdio": """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 close close_range
        lseek dup dup2 dup3 pipe pipe2 fstat munmap mremap madvise brk mincore msync mlock munlock
        mlock2 mlockall munlockall membarrier mseal map_shadow_stack pkey_alloc pkey_free
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait
        epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
        timerfd_create timerfd_settime timerfd_gettime
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
        getitimer setitimer alarm timer_create timer_settime timer_gettime timer_getoverrun
        timer_delete
        rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend
        sigaltstack restart_syscall pause tgkill rt_tgsigqueueinfo
        getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid
        getpgrp getsid umask getpriority sched_yield sched_getaffinity getcpu sched_getparam
        sched_getscheduler sched_getattr sched_get_priority_max sched_get_priority_min
        get_mempolicy set_mempolicy set_mempolicy_home_node mbind capget sched_rr_get_interval
        futex futex_waitv futex_wait futex_wake futex_requeue get_robust_list
        set_robust_list set_tid_address rseq arch_prctl exit exit_group wait4 waitid
        recvfrom shutdown getsockname getpeername getsockopt
        sendfile copy_file_range splice tee vmsplice getrandom memfd_create uname sysinfo getrlimit
        fsync fdatasync sync_file_range ftruncate fallocate fadvise64 readahead cachestat fchdir
        riscv_flush_icache riscv_hwprobe
    """,
    "rpath": """
        access faccessat faccessat2 stat lstat newfstatat statx readlink readlinkat getdents
        getdents64 getcwd chdir statfs fstatfs getxattr lgetxattr fgetxattr getxattrat listxattr
        llistxattr flistxattr listxattrat inotify_init inotify_init1 inotify_add_watch
        inotify_rm_watch statmount listmount
    """,
    "wpath": "truncate sync syncfs",
    "cpath": """
        mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
    """,
    "fattr": """
        utime utimes utimensat futimesat setxattr lsetxattr fsetxattr setxattrat removexattr
        lremovexattr fremovexattr removexattrat
    """,
    "chown": "chown fchown lchown fchownat",
    "flock": "flock",
    "proc": """
        fork vfork kill tkill rt_sigqueueinfo pidfd_open pidfd_send_signal setpgid setsid
        setpriority setrlimit sched_setaffinity sched_setparam sched_setscheduler sched_setattr
        ioprio_get ioprio_set
    """,
    "exec": "execve execveat",
    "unix": f"{_SOCKET_IO} {_SERVER}",
    "inet": f"{_SOCKET_IO} {_SERVER}",
    "mcast": _SOCKET_IO,
    "dns": _SOCKET_IO,
    "getpw": _SOCKET_IO,
    "sendfd": "sendmsg sendmmsg",
    "recvfd": "recvmsg recvmmsg",
    "route": _SOCKET_IO + " bind",
    "settime": "settimeofday adjtimex clock_settime clock_adjtime",
    "id": """
        setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
    """,
    "unveil": "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp",
}

# Calls whose flags lie in memory, or which libraries try first: ENOSYS sends them on to the form
# that a filter can judge.
REFUSED_SOFTLY = (
    "clone3", "openat2", "io_uring_setup", "io_uring_enter", "io_uring_register",
)  # fmt: skip
